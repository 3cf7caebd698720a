//! One link: a QUIC connection with one stream for frames, and datagrams beside it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{CloseReason, LinkId, PeerId, wire};
use quinn::{Connection, ConnectionError, ReadExactError, RecvStream, SendStream, TransportErrorCode, VarInt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::bulk::{BulkBudget, BulkPort};
use super::meter::{Meter, Reading};
use super::outbox::{Backlog, BacklogFull, FRAME_OVERHEAD_BYTES, Next, Outbox};
use super::{LinkEvent, canonical, tls};

/// Datagrams that may wait for the socket, in bytes; past it the oldest fall out. As the congestion window never binds, only
/// one burst ever waits: a tick's worth of full datagrams. A smaller buffer would eat a burst's own beginning.
pub(super) const DATAGRAM_SEND_BYTES: usize = 32 * 1_200;
/// What QUIC counts for each of them beside its bytes.
const DATAGRAM_OVERHEAD_BYTES: usize = 32;
/// What a stranger may send ahead of us, in bytes, over the whole connection.
pub(super) const STRANGER_WINDOW_BYTES: u32 = 16 * 1024;
/// What a member may send ahead of us, in bytes, over the whole connection.
pub(super) const MEMBER_WINDOW_BYTES: u32 = 1024 * 1024;
/// How long a closing link waits for the other end to confirm what was sent before.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);
/// What a frame's length takes on the stream, in bytes.
const PREFIX_BYTES: usize = 4;
/// The label under which both ends derive 32 bytes that only they can know (RFC 9266, section 4).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// TLS alert 120, "no application protocol", as a QUIC error (RFC 9001, section 4.8).
const NO_APPLICATION_PROTOCOL: u8 = 0x78;

/// The driver's end of a link: commands that never wait.
#[derive(Debug)]
pub(crate) struct LinkHandle {
    connection: Connection,
    outbox: Arc<Outbox>,
    meter: Arc<Meter>,
    admitted: Arc<AtomicBool>,
    budget: Arc<BulkBudget>,
    peer: PeerId,
    dialer: bool,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It leaves with the next packet.
    Sent,
    /// The link is slower than what we have for it: this one is skipped, a newer one will go.
    Skipped,
    /// It was too long, or the connection is dying.
    Refused,
}

impl LinkHandle {
    /// Queues a frame for the stream.
    pub(crate) fn send_frame(&self, frame: Bytes) -> Result<(), BacklogFull> {
        self.outbox.push(frame)
    }

    /// Sends a datagram now or never.
    pub(crate) fn send_datagram(&self, datagram: Bytes) -> Taken {
        if !self.meter.admits(datagram.len(), Instant::now().into_std()) {
            return Taken::Skipped;
        }
        if self.connection.send_datagram(datagram).is_ok() { Taken::Sent } else { Taken::Refused }
    }

    /// What the link can take, as far as we can tell.
    pub(crate) fn reading(&self) -> Reading {
        self.meter.reading()
    }

    /// What waits to be written on the stream.
    pub(crate) fn backlog(&self) -> Backlog {
        self.outbox.backlog()
    }

    /// Bytes of datagrams that wait for the socket.
    pub(crate) fn datagram_backlog_bytes(&self) -> usize {
        DATAGRAM_SEND_BYTES.saturating_sub(self.connection.datagram_send_buffer_space() + DATAGRAM_OVERHEAD_BYTES)
    }

    /// Whether we dialed it. Then it survives that we move to another address; else it does not (RFC 9000, section 9).
    pub(crate) fn is_dialer(&self) -> bool {
        self.dialer
    }

    /// The other end is a member now: it may send longer frames, and more of them ahead.
    ///
    /// The number of streams stays as it is until somebody here wants more ([`bulk`](Self::bulk)): each is memory for a peer to fill.
    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
        self.connection.set_receive_window(VarInt::from_u32(MEMBER_WINDOW_BYTES));
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    /// The way for bulk streams. For members only.
    pub(crate) fn bulk(&self) -> BulkPort {
        let (connection, meter, budget) = (self.connection.clone(), self.meter.clone(), self.budget.clone());
        BulkPort { connection, meter, budget, dialer: self.dialer }
    }

    /// Closes after what was sent before.
    pub(crate) fn close(&self, reason: CloseReason) {
        if !self.outbox.close(reason) {
            close(&self.connection, reason);
        }
    }

    /// Closes now, whatever still waits: the other end does not take it anyway.
    pub(crate) fn abort(&self, reason: CloseReason) {
        close(&self.connection, reason);
    }

    /// What QUIC counted on this connection.
    pub(crate) fn stats(&self) -> quinn::ConnectionStats {
        self.connection.stats()
    }

    /// QUIC's smoothed round-trip time.
    pub(crate) fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    /// Where the other end is now; it may move (RFC 9000, section 9).
    pub(crate) fn address(&self) -> SocketAddr {
        canonical(self.connection.remote_address())
    }
}

/// Runs an established connection to its end, telling the driver all about it.
pub(super) async fn run(
    link: LinkId,
    connection: Connection,
    dialer: bool,
    expect: Option<PeerId>,
    meter: Arc<Meter>,
    budget: Arc<BulkBudget>,
    events: mpsc::Sender<LinkEvent>,
) {
    let Some((peer, exporter)) = prove(&connection) else {
        close(&connection, CloseReason::Violation);
        tell(&events, LinkEvent::Down { link, reason: CloseReason::Violation }).await;
        return;
    };
    if expect.is_some_and(|expected| expected != peer) {
        // Somebody else took over the address: nobody's fault, and no business of ours.
        close(&connection, CloseReason::Goodbye);
        tell(&events, LinkEvent::DialFailed { link }).await;
        return;
    }
    let outbox = Arc::new(Outbox::default());
    let admitted = Arc::new(AtomicBool::new(false));
    let handle = LinkHandle {
        connection: connection.clone(),
        outbox: outbox.clone(),
        meter: meter.clone(),
        admitted: admitted.clone(),
        budget,
        peer,
        dialer,
    };
    let address = canonical(connection.remote_address());
    tell(&events, LinkEvent::Up { link, peer, address, exporter, handle }).await;
    let reason = talk(link, &connection, dialer, &outbox, &meter, &admitted, &events).await;
    tell(&events, LinkEvent::Down { link, reason }).await;
}

/// What QUIC's error means for the mesh.
pub(super) fn close_reason(error: &ConnectionError) -> CloseReason {
    match error {
        ConnectionError::ApplicationClosed(close) => CloseReason::from_code(close.error_code.into_inner()),
        ConnectionError::VersionMismatch => CloseReason::Version,
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL) => {
            CloseReason::Version
        }
        ConnectionError::TransportError(error) if error.code == TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL) => {
            CloseReason::Version
        }
        ConnectionError::TimedOut => CloseReason::Silence,
        ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => CloseReason::Transport,
    }
}

/// The other end's key, which TLS has proved, and the bytes that bind admission to this very connection.
fn prove(connection: &Connection) -> Option<(PeerId, [u8; 32])> {
    let peer = tls::proved_peer(connection.peer_identity())?;
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").ok()?;
    Some((peer, exporter))
}

async fn talk(
    link: LinkId,
    connection: &Connection,
    dialer: bool,
    outbox: &Outbox,
    meter: &Meter,
    admitted: &AtomicBool,
    events: &mpsc::Sender<LinkEvent>,
) -> CloseReason {
    let stream = tokio::select! {
        biased;
        stream = open(connection, dialer) => stream,
        error = ignore_datagrams(connection) => Err(error),
    };
    let (mut send, mut receive) = match stream {
        Ok(stream) => stream,
        Err(error) => return close_reason(&error),
    };
    if let Err(reason) = outbox.attach() {
        close(connection, reason);
        return reason;
    }
    // Each of them runs until the link ends, so none is ever cancelled halfway through a frame.
    tokio::select! {
        biased;
        reason = write(connection, &mut send, outbox, meter) => reason,
        reason = read_frames(link, connection, &mut receive, admitted, events) => reason,
        reason = read_datagrams(link, connection, events) => reason,
        reason = accept_bulk(link, connection, events) => reason,
        reason = overdue(connection, outbox) => reason,
    }
}

async fn open(connection: &Connection, dialer: bool) -> Result<(SendStream, RecvStream), ConnectionError> {
    if dialer { connection.open_bi().await } else { connection.accept_bi().await }
}

/// Before there is a stream nobody is a member: QUIC would keep what a stranger sends beside it.
async fn ignore_datagrams(connection: &Connection) -> ConnectionError {
    loop {
        if let Err(error) = connection.read_datagram().await {
            return error;
        }
    }
}

/// Cuts off whoever does not take the last words in time.
async fn overdue(connection: &Connection, outbox: &Outbox) -> CloseReason {
    let reason = outbox.closing().await;
    sleep(FLUSH_DEADLINE).await;
    close(connection, reason);
    reason
}

async fn write(connection: &Connection, send: &mut SendStream, outbox: &Outbox, meter: &Meter) -> CloseReason {
    loop {
        match outbox.next().await {
            Next::Write(frames) => {
                let cost = frames.len() * (FRAME_OVERHEAD_BYTES - PREFIX_BYTES);
                let mut chunks: VecDeque<Bytes> = frames.into_iter().flat_map(|frame| [length_prefix(&frame), frame]).collect();
                while !chunks.is_empty() {
                    let (mut batch, bytes) = take(&mut chunks, meter.stream_piece());
                    let wait = meter.stream_wait(bytes, Instant::now().into_std());
                    // Last words are few, and their deadline is near.
                    if wait > Duration::ZERO && !outbox.is_closing() {
                        sleep(wait).await;
                    }
                    if send.write_all_chunks(&mut batch).await.is_err() {
                        return ended(connection).await;
                    }
                    outbox.written(bytes);
                }
                outbox.written(cost);
            }
            Next::Close(reason) => {
                // Closing discards what the other end has not confirmed, so wait for that.
                if send.finish().is_ok() {
                    _ = send.stopped().await;
                }
                close(connection, reason);
                return reason;
            }
        }
    }
}

/// The first `most` bytes of `chunks`, and how many they are.
fn take(chunks: &mut VecDeque<Bytes>, most: usize) -> (Vec<Bytes>, usize) {
    let (mut taken, mut room) = (Vec::new(), most);
    while let Some(mut chunk) = chunks.pop_front() {
        if chunk.len() > room {
            chunks.push_front(chunk.split_off(room));
        }
        room -= chunk.len();
        taken.push(chunk);
        if room == 0 {
            break;
        }
    }
    (taken, most - room)
}

async fn read_frames(
    link: LinkId,
    connection: &Connection,
    receive: &mut RecvStream,
    admitted: &AtomicBool,
    events: &mpsc::Sender<LinkEvent>,
) -> CloseReason {
    loop {
        let mut prefix = [0; 4];
        match receive.read_exact(&mut prefix).await {
            Ok(()) => {}
            // The end of the stream in good order: its reason comes with the end of the connection.
            Err(ReadExactError::FinishedEarly(0) | ReadExactError::ReadError(_)) => return ended(connection).await,
            Err(ReadExactError::FinishedEarly(_)) => return violation(connection),
        }
        let is_admitted = admitted.load(Ordering::Relaxed);
        let length_max = if is_admitted { wire::FRAME_BYTES_MAX } else { wire::ADMISSION_FRAME_BYTES_MAX };
        let length = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
        if length > length_max {
            return violation(connection);
        }
        let mut frame = vec![0; length];
        match receive.read_exact(&mut frame).await {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(_)) => return violation(connection),
            Err(ReadExactError::ReadError(_)) => return ended(connection).await,
        }
        if is_admitted {
            tell(events, LinkEvent::Frame { link, bytes: frame.into(), handled: None }).await;
        } else {
            // This frame may be the one that admits the other end; which limits hold for the next is known only then.
            let (handled, wait) = oneshot::channel();
            tell(events, LinkEvent::Frame { link, bytes: frame.into(), handled: Some(handled) }).await;
            _ = wait.await;
        }
    }
}

async fn read_datagrams(link: LinkId, connection: &Connection, events: &mpsc::Sender<LinkEvent>) -> CloseReason {
    loop {
        match connection.read_datagram().await {
            Ok(bytes) => tell(events, LinkEvent::Datagram { link, bytes }).await,
            Err(error) => return close_reason(&error),
        }
    }
}

/// Takes in further streams, which the other end can open only once the door for them is open.
async fn accept_bulk(link: LinkId, connection: &Connection, events: &mpsc::Sender<LinkEvent>) -> CloseReason {
    loop {
        match connection.accept_bi().await {
            Ok(stream) => tell(events, LinkEvent::Bulk { link, stream: Box::new(stream) }).await,
            Err(error) => return close_reason(&error),
        }
    }
}

/// Waits for the connection's end and says why. The idle timeout bounds the wait.
async fn ended(connection: &Connection) -> CloseReason {
    close_reason(&connection.closed().await)
}

fn violation(connection: &Connection) -> CloseReason {
    close(connection, CloseReason::Violation);
    CloseReason::Violation
}

fn close(connection: &Connection, reason: CloseReason) {
    // No words beside the code: they would tell a stranger more than the code does.
    connection.close(VarInt::from_u32(reason.code()), b"");
}

fn length_prefix(frame: &Bytes) -> Bytes {
    // The driver sends nothing longer than `wire::FRAME_BYTES_MAX`, which fits.
    Bytes::copy_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes())
}

async fn tell(events: &mpsc::Sender<LinkEvent>, event: LinkEvent) {
    // When nobody listens any more, the mesh is closing and nothing is left to say.
    _ = events.send(event).await;
}

#[cfg(test)]
mod tests {
    use quinn::ApplicationClose;

    use super::*;

    #[test]
    fn close_reasons_cross_quic() {
        for code in 0..15 {
            let reason = CloseReason::from_code(code);
            let closed = ApplicationClose { error_code: VarInt::from_u32(reason.code()), reason: Bytes::new() };
            assert_eq!(close_reason(&ConnectionError::ApplicationClosed(closed)), reason);
        }
        assert_eq!(close_reason(&ConnectionError::TimedOut), CloseReason::Silence);
        assert_eq!(close_reason(&ConnectionError::Reset), CloseReason::Transport);
    }
}
