//! How the bytes go: on a bulk stream for each content and neighbor, asked for group by group, answered in order.
//!
//! Whoever wants something opens the stream and says which content; then it writes the numbers of groups, as far ahead as the library
//! says, and reads them in that order. Every few KiB there is a time among them, from which the reader learns whether a queue stands on
//! the way, and says so among its requests. Each is checked against the leaves before it is stored. What is read at a time is one group for
//! each stream; what waits is in QUIC's windows, which are bounded (see `link::bulk`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use peerflock_proto::{PeerId, Time};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::delay::{Delays, clock, queue};
use super::library::{Fetched, Library, Part, Told};
use super::seal::ContentKey;
use super::store::{Store, blocking};
use super::tree::{CONTENT_BYTES_MAX, ContentId, LEAF_BYTES, Leaves};
use super::{ContentEvent, FetchError, Inner, Plain, Progress};
use crate::driver::{BulkStream, Shared};
use crate::link::{BulkPort, BulkReader, BulkWriter, Ended};
use crate::sync::lock;

/// What a stream begins with: this, the root, and the length.
const MAGIC: [u8; 4] = *b"pfc1";
const HEADER_BYTES: usize = MAGIC.len() + 32 + 8;
/// The number that asks for the leaves.
const LEAVES: u32 = u32::MAX;
/// The number that asks for nothing: only a report comes with it.
const NOTHING: u32 = u32::MAX - 1;
/// A request: a number, and a report.
const REQUEST_BYTES: usize = 6;
const NO_REPORT: u16 = u16::MAX;
/// What an answer begins with: whether it is given, and which it is.
const HEAD_BYTES: usize = 5;
const GIVEN: u8 = 0;
const REFUSED: u8 = 1;
/// Requests of ours that may wait for a stream. The library asks for fewer ahead.
const PARTS_MAX: usize = 64;
/// Streams that we answer at a time; more are refused. Each takes the memory of one group.
pub(super) const SERVING_MAX: usize = 64;
/// How long opening a stream may take, and saying on it what it is about.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// How long nothing of an answer may come.
const STALL: Duration = Duration::from_secs(8);
/// How long a stream on which nothing is asked stays open.
const IDLE: Duration = Duration::from_secs(60);
/// Before each so many bytes of an answer is the time at which they were sent. They must come within [`STALL`].
const STAMPED_BYTES: usize = 4 * 1024;
const STAMP_BYTES: usize = 4;
/// Reports that may wait to be written.
const REPORTS_MAX: usize = 4;

/// One content and where its bytes are.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) id: ContentId,
    pub(super) store: Store,
    pub(super) leaves: OnceLock<Leaves>,
    /// What is to be made of it when it is whole.
    pub(super) plain: Option<Plain>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) end: watch::Sender<Option<Result<(), FetchError>>>,
}

impl Shelf {
    pub(super) fn new(id: ContentId, store: Store, leaves: Option<Leaves>, plain: Option<Plain>) -> Arc<Self> {
        let known = OnceLock::new();
        leaves.into_iter().for_each(|leaves| _ = known.set(leaves));
        Arc::new(Self { id, store, leaves: known, plain, progress: watch::Sender::default(), end: watch::Sender::default() })
    }
}

/// What the library's voice and all streams share.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) runtime: Handle,
    shelves: Mutex<BTreeMap<ContentId, Arc<Shelf>>>,
    sessions: Mutex<BTreeMap<(PeerId, ContentId), mpsc::Sender<Part>>>,
    serving: AtomicUsize,
    events: mpsc::Sender<ContentEvent>,
    /// Known once the library has started.
    pub(super) inner: OnceLock<Weak<Inner>>,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, runtime: Handle, events: mpsc::Sender<ContentEvent>) -> Arc<Self> {
        let (shelves, sessions, serving) = Default::default();
        Arc::new(Self { shared, runtime, shelves, sessions, serving, events, inner: OnceLock::new() })
    }

    /// Calls something on the library, if it is still there.
    fn act<R>(&self, act: impl FnOnce(&mut Library, Time) -> R) -> Option<R> {
        self.inner.wait().upgrade().map(|inner| inner.library.act(act))
    }

    pub(super) fn put(&self, shelf: Arc<Shelf>) {
        lock(&self.shelves).insert(shelf.id, shelf);
    }

    pub(super) fn take(&self, id: &ContentId) -> Option<Arc<Shelf>> {
        lock(&self.shelves).remove(id)
    }

    pub(super) fn shelf(&self, id: &ContentId) -> Option<Arc<Shelf>> {
        lock(&self.shelves).get(id).cloned()
    }

    /// Takes in what neighbors open, until the door is closed.
    pub(super) async fn take_in(self: Arc<Self>, mut streams: mpsc::Receiver<BulkStream>) {
        while let Some(stream) = streams.recv().await {
            if self.serving.load(Ordering::Relaxed) >= SERVING_MAX {
                continue;
            }
            self.serving.fetch_add(1, Ordering::Relaxed);
            let desk = self.clone();
            tokio::spawn(async move {
                // However it ends: the other one asks again, or somebody else.
                _ = desk.serve(stream).await;
                desk.serving.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    /// Answers what a neighbor asks for.
    async fn serve(&self, stream: BulkStream) -> Result<(), Ended> {
        let BulkStream { peer, mut writer, mut reader } = stream;
        let mut header = [0; HEADER_BYTES];
        timeout(OPEN_WITHIN, reader.read(&mut header)).await.map_err(|_| Ended)??;
        let id = parse(&header).ok_or(Ended)?;
        let origin = Instant::now();
        let stamp = || clock(origin, Instant::now()).to_le_bytes();
        // What is asked and what is reported while we write must be read, too: reports are what the writing depends on.
        let (ask, mut asked) = mpsc::channel(PARTS_MAX);
        let port = writer.port().clone();
        let reading = async {
            loop {
                let mut request = [0; REQUEST_BYTES];
                timeout(IDLE * 2, reader.read(&mut request)).await.map_err(|_| Ended)??;
                let [a, b, c, d, e, f] = request;
                let (number, report) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f]));
                if report != NO_REPORT {
                    port.report(queue(report));
                }
                if number != NOTHING {
                    // Whoever asks for more than we remember breaks the protocol.
                    ask.try_send(number).map_err(|_| Ended)?;
                }
            }
        };
        let writing = self.answer(peer, id, &mut writer, &mut asked, stamp);
        tokio::select! {
            biased;
            ended = reading => ended,
            ended = writing => ended,
        }
    }

    /// Answers requests in their order.
    async fn answer(
        &self,
        peer: PeerId,
        id: ContentId,
        writer: &mut BulkWriter,
        asked: &mut mpsc::Receiver<u32>,
        stamp: impl Fn() -> [u8; STAMP_BYTES],
    ) -> Result<(), Ended> {
        loop {
            let number = asked.recv().await.ok_or(Ended)?;
            let part = if number == LEAVES { Part::Leaves } else { Part::Group(number) };
            let gives = self.act(|library, _| library.gives(&id, &peer, part)).ok_or(Ended)?;
            let bytes = match self.shelf(&id).filter(|_| gives) {
                Some(shelf) => match part {
                    Part::Leaves => shelf.leaves.get().map(|leaves| leaves.bytes().into()),
                    Part::Group(group) => shelf.store.read(id, group).await.ok(),
                },
                None => None,
            };
            let mut head = BytesMut::with_capacity(HEAD_BYTES);
            head.put_u8(if bytes.is_some() { GIVEN } else { REFUSED });
            head.put_u32_le(number);
            writer.write_now(&head).await?;
            let mut bytes = bytes.unwrap_or_default();
            while !bytes.is_empty() {
                let part = bytes.split_to(STAMPED_BYTES.min(bytes.len()));
                writer.write(&stamp, part).await?;
            }
            self.show_progress(&id);
        }
    }

    /// Asks a neighbor for parts of a content, until either side has had enough.
    async fn session(self: Arc<Self>, peer: PeerId, id: ContentId, us: mpsc::Sender<Part>, parts: mpsc::Receiver<Part>) {
        // However it ends: what did not come is asked for elsewhere.
        _ = self.talk(peer, id, parts).await;
        let mut sessions = lock(&self.sessions);
        if sessions.get(&(peer, id)).is_some_and(|open| open.same_channel(&us)) {
            sessions.remove(&(peer, id));
        }
        drop(sessions);
        self.act(|library, now| library.lost(id, peer, now));
    }

    async fn talk(&self, peer: PeerId, id: ContentId, mut parts: mpsc::Receiver<Part>) -> Result<(), Ended> {
        let port = self.shared.bulk.port(&peer).ok_or(Ended)?;
        let (mut writer, mut reader) = timeout(OPEN_WITHIN, port.open()).await.map_err(|_| Ended)??;
        writer.write_now(&header(&id)).await?;
        let (report, mut reports) = mpsc::channel(REPORTS_MAX);
        let asking = async {
            loop {
                let (number, report) = tokio::select! {
                    biased;
                    Some(report) = reports.recv() => (NOTHING, report),
                    part = parts.recv() => match part.ok_or(Ended)? {
                        Part::Group(group) => (group, NO_REPORT),
                        Part::Leaves => (LEAVES, NO_REPORT),
                    },
                };
                let mut request = [0; REQUEST_BYTES];
                request[..4].copy_from_slice(&number.to_le_bytes());
                request[4..].copy_from_slice(&report.to_le_bytes());
                writer.write_now(&request).await?;
            }
        };
        // Neither is ever cut off but at the end of both.
        tokio::select! {
            biased;
            ended = asking => ended,
            ended = self.hear(peer, &port, id, &mut reader, &report) => ended,
        }
    }

    async fn hear(
        &self,
        peer: PeerId,
        port: &BulkPort,
        id: ContentId,
        reader: &mut BulkReader,
        report: &mpsc::Sender<u16>,
    ) -> Result<(), Ended> {
        let mut delays = Delays::new(Instant::now());
        loop {
            let head = self.head(peer, id, reader).await?;
            let part = match (head[0], u32::from_le_bytes([head[1], head[2], head[3], head[4]])) {
                (GIVEN, LEAVES) => Part::Leaves,
                (GIVEN, group) if group < id.groups() => Part::Group(group),
                _ => return Err(Ended),
            };
            let length = match part {
                Part::Leaves => id.groups() as usize * LEAF_BYTES,
                Part::Group(group) => id.group_len(group),
            };
            let mut bytes = BytesMut::zeroed(length);
            for piece in bytes.chunks_mut(STAMPED_BYTES) {
                let mut stamp = [0; STAMP_BYTES];
                timeout(STALL, reader.read(&mut stamp)).await.map_err(|_| Ended)??;
                if let Some(late) = delays.note(u32::from_le_bytes(stamp), Instant::now()) {
                    // Where one waits already, that will do.
                    _ = report.try_send(late.min(NO_REPORT - 1));
                }
                timeout(STALL, reader.read(piece)).await.map_err(|_| Ended)??;
            }
            let shelf = self.shelf(&id).ok_or(Ended)?;
            let fetched = match self.check_in(&shelf, part, bytes.freeze()).await {
                Ok(true) => Fetched::Right(port.round_trip()),
                Ok(false) => Fetched::Wrong,
                Err(error) => {
                    self.act(|library, _| library.drop_content(id));
                    shelf.end.send_replace(Some(Err(FetchError::Io(error.to_string()))));
                    return Err(Ended);
                }
            };
            self.act(|library, now| library.fetched(id, peer, part, fetched, now)).ok_or(Ended)?;
            self.show_progress(&id);
            if fetched == Fetched::Wrong {
                return Err(Ended);
            }
        }
    }

    /// The beginning of the next answer, however long nothing is asked; not longer than may be when something is.
    async fn head(&self, peer: PeerId, id: ContentId, reader: &mut BulkReader) -> Result<[u8; HEAD_BYTES], Ended> {
        let reading = async {
            let mut head = [0; HEAD_BYTES];
            reader.read(&mut head).await.map(|()| head)
        };
        tokio::pin!(reading);
        let mut waited = Duration::ZERO;
        loop {
            match timeout(STALL, &mut reading).await {
                Ok(head) => return head,
                Err(_) => {
                    waited += STALL;
                    let waits = self.act(|library, _| library.waits_for(&id, &peer)).unwrap_or(true);
                    if waits || waited >= IDLE {
                        return Err(Ended);
                    }
                }
            }
        }
    }

    /// Checks what came, and stores it if it is right. Whether it is.
    async fn check_in(&self, shelf: &Shelf, part: Part, bytes: Bytes) -> std::io::Result<bool> {
        Ok(match part {
            Part::Leaves => match Leaves::prove(shelf.id, &bytes) {
                Some(leaves) => {
                    shelf.store.note(&leaves).await?;
                    // The same ones may have come from somebody else.
                    _ = shelf.leaves.set(leaves);
                    true
                }
                None => false,
            },
            Part::Group(group) => {
                let proved = shelf.leaves.get().is_some_and(|leaves| leaves.proves(group, &bytes));
                if proved {
                    shelf.store.write(shelf.id, group, bytes).await?;
                }
                proved
            }
        })
    }

    pub(super) fn show_progress(&self, id: &ContentId) {
        let progress = self.act(|library, _| library.progress(id)).flatten();
        if let Some((progress, shelf)) = progress.zip(self.shelf(id)) {
            shelf.progress.send_replace(progress);
        }
    }

    /// A content is whole: it gets its name, and is made readable.
    async fn finish(self: Arc<Self>, id: ContentId) {
        let Some(shelf) = self.shelf(&id) else { return };
        let finished = match shelf.store.finish().await {
            Ok(()) => open(&shelf).await,
            Err(error) => Err(error),
        };
        let end = finished.map_err(|error| FetchError::Io(error.to_string()));
        self.show_progress(&id);
        shelf.end.send_replace(Some(end));
        self.note(ContentEvent::Complete { id });
    }

    /// Tells the user. Whoever does not read misses it.
    fn note(&self, event: ContentEvent) {
        _ = self.events.try_send(event);
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// The library's voice.
pub(super) struct Voice(pub(super) Arc<Desk>);

impl Voice {
    /// The library is locked meanwhile.
    pub(super) fn tell(&self, told: Told) {
        let desk = &self.0;
        match told {
            Told::Ask { id, peer, part } => {
                let mut sessions = lock(&desk.sessions);
                let open = sessions.get(&(peer, id)).is_some_and(|session| session.try_send(part).is_ok());
                if !open {
                    let (us, parts) = mpsc::channel(PARTS_MAX);
                    // It is empty.
                    _ = us.try_send(part);
                    sessions.insert((peer, id), us.clone());
                    desk.runtime.spawn(desk.clone().session(peer, id, us, parts));
                }
            }
            Told::Carry(id) => desk.put(Shelf::new(id, Store::memory(), None, None)),
            Told::Dropped(id) => _ = desk.take(&id),
            Told::Offered(offer) => desk.note(ContentEvent::Offered(offer)),
            Told::Corrupt { id, peer } => desk.note(ContentEvent::Corrupt { id, peer }),
            Told::Complete { id } => _ = desk.runtime.spawn(desk.clone().finish(id)),
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        // Streams end with this, and whoever waits for a content learns that it will not come.
        lock(&self.0.sessions).clear();
        for shelf in std::mem::take(&mut *lock(&self.0.shelves)).into_values() {
            shelf.end.send_if_modified(|end| {
                let open = end.is_none();
                end.get_or_insert(Err(FetchError::Closed));
                open
            });
        }
        self.0.shared.bulk.close();
    }
}

/// Makes a sealed content readable, where that was asked for.
async fn open(shelf: &Shelf) -> std::io::Result<()> {
    match &shelf.plain {
        None => Ok(()),
        Some(Plain::File { path, key }) => {
            let (sealed, path, key): (_, _, ContentKey) = (super::sealed_path(path), path.clone(), key.clone());
            blocking(move || super::decrypt_file(&key, &sealed, &path)).await
        }
        Some(Plain::Bytes { key, plain }) => {
            let mut opened = Vec::new();
            let sealed = shelf.store.bytes().unwrap_or_default();
            super::seal::decrypt(key, &mut &sealed[..], &mut opened)?;
            // It is opened once.
            _ = plain.set(opened.into());
            Ok(())
        }
    }
}

fn header(id: &ContentId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..36].copy_from_slice(&id.root);
    header[36..].copy_from_slice(&id.len.to_le_bytes());
    header
}

fn parse(header: &[u8; HEADER_BYTES]) -> Option<ContentId> {
    let rest = header.strip_prefix(&MAGIC)?;
    let (root, len) = rest.split_first_chunk::<32>()?;
    let id = ContentId { root: *root, len: u64::from_le_bytes(len.try_into().ok()?) };
    (id.len <= CONTENT_BYTES_MAX).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let id = ContentId { root: [7; 32], len: 300 };
        let mut expected = b"pfc1".to_vec();
        expected.extend([7; 32]);
        expected.extend([44, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(header(&id)[..], expected);
        assert_eq!(parse(&header(&id)), Some(id));
        assert_eq!(parse(&header(&ContentId { len: u64::MAX, ..id })), None, "longer than any");
        assert_eq!(parse(&[0; HEADER_BYTES]), None);
    }
}
