//! The state machine of documents: what is edited is said to all, and who meets compares.
//!
//! An edit goes to all at once. Whoever opens a document, meets somebody new, or has heard nothing for a while says what it has: a
//! number for each writer, and a hash. Of those who have something else a few answer with what is lacking, and ask for what they lack
//! themselves, whoever wrote it: so what one wrote alone reaches another whom it never met.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{Node, PeerId, Target, Topic};
use serde::{Deserialize, Serialize};
use yrs::{Transaction, TransactionMut};

use super::replica::{DOCUMENT_BYTES_MAX, Refusal, Replica, Version, WRITERS_MAX};
use super::{DocumentCounters, EditError, OpenError};
use crate::codec;
use crate::service::topics::TopicName as DocumentName;
use crate::service::{Input, Members, Output, Service, Time};

/// Most documents that one member has open.
pub const DOCUMENTS_MAX: usize = 64;
/// Longest piece of an update that is sent in one message.
const PART_BYTES: usize = 40 * 1024;
/// Pieces of one update.
const PARTS_MAX: usize = DOCUMENT_BYTES_MAX / PART_BYTES + 2;
/// How often a piece is sent to each who waits for one: one at a time, so that one that cannot be sent goes again before the next.
const PARTS_EVERY: Duration = Duration::from_millis(10);
/// How long to wait when a member has not yet received what was sent before.
const BACKLOG_WAIT: Duration = Duration::from_millis(250);
/// Updates that are put together at the same time, from different members; the oldest goes.
const ASSEMBLIES_MAX: usize = 16;
/// So many of those who have a document answer to what is said to all.
const HELPERS: usize = 2;
/// How long to wait before comparing with a newcomer, who may speak first.
const HELP_AFTER: Duration = Duration::from_millis(300);
/// Nobody is answered more often than this about one document.
const ANSWER_EVERY: Duration = Duration::from_millis(100);
/// How often to compare, at first; ever less often while nothing is new.
const LOOK_FIRST: Duration = Duration::from_secs(1);
const LOOK_LAST: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Message {
    /// This is what I have of a document. Who has something else sends me what I lack.
    Have { document: DocumentName, version: Version, asked: Asked },
    /// What I just did.
    Edit { document: DocumentName, update: Bytes },
    /// A piece of what you lack: of one update there is one `number`.
    Part { document: DocumentName, number: u32, index: u16, count: u16, piece: Bytes },
}

/// Who is to answer, and to say in turn what they lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Asked {
    /// Some of those who hear it: it is said to all.
    Some,
    You,
    /// You, with what I lack, and no more.
    Answer,
}

/// What the engine tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which document.
    pub document: DocumentName,
    /// From whom the change came; it may have been made by others. None for a change made here.
    pub from: Option<PeerId>,
}

/// One member's part in the documents of a mesh, without I/O. [`Documents`](super::Documents) runs one on a real mesh.
#[derive(Debug)]
pub struct Engine {
    me: PeerId,
    writer: u64,
    members: BTreeSet<PeerId>,
    documents: BTreeMap<DocumentName, Open>,
    outputs: VecDeque<Output<Changed>>,
    counters: DocumentCounters,
    /// Pieces that wait for their turn, by whom they are for.
    outgoing: BTreeMap<PeerId, VecDeque<Bytes>>,
    send_at: Option<Time>,
    number: u32,
    assemblies: VecDeque<Assembly>,
    /// Whom to compare with, and when.
    to_help: BTreeMap<PeerId, Time>,
    look_at: Option<Time>,
    look_wait: Duration,
    round: usize,
}

#[derive(Debug)]
struct Open {
    replica: Replica,
    /// Who has it, too.
    holders: BTreeMap<PeerId, Holder>,
}

#[derive(Debug, Default)]
struct Holder {
    /// When we told it last what it lacks.
    answered: Option<Time>,
    /// Whether it is to send what it has beyond us: the others may lack that, too.
    fetching: bool,
}

/// An update of which some pieces have come.
#[derive(Debug)]
struct Assembly {
    from: PeerId,
    document: DocumentName,
    number: u32,
    count: u16,
    pieces: Vec<Bytes>,
}

impl Engine {
    /// The part of the member that `node` is, in this one of its lives.
    pub fn new(node: &Node) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(b"peerflock documents 1 writer\0").update(&node.peer_id().0).update(&node.boot().0.to_le_bytes());
        let writer = hash.finalize().as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self {
            me: node.peer_id(),
            writer,
            members: BTreeSet::new(),
            documents: BTreeMap::new(),
            outputs: VecDeque::new(),
            counters: DocumentCounters::default(),
            outgoing: BTreeMap::new(),
            send_at: None,
            number: 0,
            assemblies: VecDeque::new(),
            to_help: BTreeMap::new(),
            look_at: None,
            look_wait: LOOK_FIRST,
            round: 0,
        }
    }

    /// Opens a document, from what was kept of it; empty without. From then on it is passed on to whoever opens it, too.
    ///
    /// # Errors
    /// When it is open, or too many are, or what was kept is no document.
    pub fn open(&mut self, document: DocumentName, kept: Option<&[u8]>, now: Time) -> Result<(), OpenError> {
        if self.documents.contains_key(&document) {
            return Err(OpenError::AlreadyOpen);
        }
        if self.documents.len() >= DOCUMENTS_MAX {
            return Err(OpenError::TooMany);
        }
        let replica = match kept {
            Some(bytes) => Replica::load(self.writer, bytes).map_err(OpenError::Damaged)?,
            None => Replica::new(self.writer),
        };
        self.documents.insert(document.clone(), Open { replica, holders: BTreeMap::new() });
        self.greet(document, now);
        Ok(())
    }

    /// Closes a document; what it had in it, to be kept.
    pub fn close(&mut self, document: &DocumentName) -> Option<Bytes> {
        self.documents.remove(document).map(|open| open.replica.encode())
    }

    /// Edits a document, and tells the others.
    ///
    /// # Errors
    /// See [`EditError`]. Nothing changed then.
    pub fn edit<R>(
        &mut self,
        document: &DocumentName,
        edit: impl FnOnce(&mut TransactionMut<'_>) -> R,
        now: Time,
    ) -> Result<R, EditError> {
        let open = self.documents.get_mut(document).ok_or(EditError::Closed)?;
        let (result, update) = open.replica.edit(edit)?;
        if let Some(update) = update {
            self.pass_on(document, update, now);
            self.outputs.push_back(Output::Tell(Changed { document: document.clone(), from: None }));
        }
        Ok(result)
    }

    /// Looks at a document; none if it is not open.
    pub fn read<R>(&self, document: &DocumentName, read: impl FnOnce(&Transaction<'_>) -> R) -> Option<R> {
        self.documents.get(document).map(|open| open.replica.read(read))
    }

    /// What to keep of a document; none if it is not open.
    pub fn encode(&self, document: &DocumentName) -> Option<Bytes> {
        self.documents.get(document).map(|open| open.replica.encode())
    }

    /// What is in a document: equal where that is the same.
    pub fn hash(&self, document: &DocumentName) -> Option<[u8; 16]> {
        self.documents.get(document).map(|open| open.replica.version().hash)
    }

    /// What was counted.
    pub fn counters(&self) -> DocumentCounters {
        self.counters
    }

    // --- telling -------------------------------------------------------------------------------------------------------

    /// Says to all what we have.
    fn greet(&mut self, document: DocumentName, now: Time) {
        self.say_have(Target::All, document, Asked::Some);
        self.look_soon(now);
    }

    fn say_have(&mut self, to: Target, document: DocumentName, asked: Asked) {
        let Some(version) = self.documents.get(&document).map(|open| open.replica.version().clone()) else { return };
        if self.members.len() > 1 {
            self.say(to, &Message::Have { document, version, asked });
        }
    }

    /// Tells those who are here of something new.
    fn pass_on(&mut self, document: &DocumentName, update: Bytes, now: Time) {
        if update.len() <= PART_BYTES {
            if self.members.len() > 1 {
                self.say(Target::All, &Message::Edit { document: document.clone(), update });
            }
        } else {
            let holders = self.documents.get(document).map(|open| open.holders.keys().copied().collect::<Vec<_>>());
            for peer in holders.into_iter().flatten() {
                self.send_parts(peer, document, &update, now);
            }
        }
        self.look_soon(now);
    }

    fn send_parts(&mut self, to: PeerId, document: &DocumentName, update: &Bytes, now: Time) {
        // Who has not got the last one will say what it still lacks.
        if self.outgoing.get(&to).is_some_and(|waiting| !waiting.is_empty()) {
            return;
        }
        self.number = self.number.wrapping_add(1);
        let count = update.len().div_ceil(PART_BYTES);
        if count > PARTS_MAX {
            return;
        }
        let part = |(index, piece): (usize, &[u8])| {
            let (index, count, piece) = (index as u16, count as u16, update.slice_ref(piece));
            codec::encode(&Message::Part { document: document.clone(), number: self.number, index, count, piece }).ok()
        };
        let parts: VecDeque<Bytes> = update.chunks(PART_BYTES).enumerate().filter_map(part).collect();
        self.outgoing.insert(to, parts);
        self.send_some(now);
    }

    fn send_some(&mut self, now: Time) {
        for (peer, waiting) in &mut self.outgoing {
            if let Some(payload) = waiting.pop_front() {
                self.counters.parts_sent += 1;
                self.outputs.push_back(Output::Send { to: Target::One(*peer), payload });
            }
        }
        self.outgoing.retain(|_, waiting| !waiting.is_empty());
        self.send_at = (!self.outgoing.is_empty()).then(|| now + PARTS_EVERY);
    }

    fn say(&mut self, to: Target, message: &Message) {
        // Limits above keep it short enough.
        if let Ok(payload) = codec::encode(message) {
            self.outputs.push_back(Output::Send { to, payload });
        }
    }

    fn look_soon(&mut self, now: Time) {
        self.look_wait = LOOK_FIRST;
        self.look_at = Some(self.look_at.map_or(now + LOOK_FIRST, |at| at.min(now + LOOK_FIRST)));
    }

    // --- hearing -------------------------------------------------------------------------------------------------------

    fn hear_have(&mut self, from: PeerId, document: DocumentName, theirs: &Version, asked: Asked, now: Time) {
        let me = self.me;
        let Some(open) = self.documents.get_mut(&document).filter(|_| theirs.clocks.len() <= WRITERS_MAX) else { return };
        let is_helper = is_helper(&me, &from, open.holders.keys());
        let holder = open.holders.entry(from).or_default();
        let ours = open.replica.version();
        if ours == theirs
            || (asked == Asked::Some && !is_helper)
            || holder.answered.is_some_and(|last| now.since(last) < ANSWER_EVERY)
        {
            return;
        }
        holder.answered = Some(now);
        // Where only deletions differ, both may lack some.
        let fetch = asked != Asked::Answer && (theirs.is_ahead_of(ours) || !ours.is_ahead_of(theirs));
        holder.fetching |= fetch;
        let lacking = open.replica.since(theirs);
        self.send_parts(from, &document, &lacking, now);
        if fetch {
            self.say_have(Target::One(from), document, Asked::Answer);
        }
    }

    fn hear_update(&mut self, from: PeerId, document: &DocumentName, update: &Bytes, was_said_to_all: bool, now: Time) {
        let Some(open) = self.documents.get_mut(document) else { return };
        let holder = open.holders.entry(from).or_default();
        let fetched = !was_said_to_all && std::mem::take(&mut holder.fetching);
        match open.replica.take(update) {
            Ok(true) => {
                self.counters.updates_taken += 1;
                self.outputs.push_back(Output::Tell(Changed { document: document.clone(), from: Some(from) }));
                self.look_soon(now);
                if fetched {
                    // What one did alone, or in the other half of a split: the others lack it, too.
                    self.pass_on(document, update.clone(), now);
                }
            }
            Ok(false) => {}
            Err(Refusal::Missing) => self.say_have(Target::One(from), document.clone(), Asked::You),
            Err(_) => self.counters.refused += 1,
        }
    }

    fn hear_part(&mut self, from: PeerId, part: (DocumentName, u32, u16, u16), piece: Bytes, now: Time) {
        let (document, number, index, count) = part;
        if !self.documents.contains_key(&document) || usize::from(count) > PARTS_MAX || piece.len() > PART_BYTES {
            self.counters.refused += 1;
            return;
        }
        let is_it = |assembly: &Assembly| assembly.from == from && assembly.number == number && assembly.document == document;
        if index == 0 {
            // One at a time from each.
            self.assemblies.retain(|assembly| assembly.from != from);
            if self.assemblies.len() >= ASSEMBLIES_MAX {
                self.assemblies.pop_front();
            }
            self.assemblies.push_back(Assembly { from, document: document.clone(), number, count, pieces: Vec::new() });
        }
        let Some(place) = self.assemblies.iter().position(is_it) else { return };
        let assembly = &mut self.assemblies[place];
        // They come in order, or something is missing.
        if assembly.count != count || assembly.pieces.len() != usize::from(index) || index >= count {
            self.assemblies.remove(place);
            return;
        }
        assembly.pieces.push(piece);
        if index + 1 == count
            && let Some(assembly) = self.assemblies.remove(place)
        {
            let update = Bytes::from(assembly.pieces.concat());
            self.hear_update(from, &document, &update, false, now);
        }
    }

    fn hear_members(&mut self, members: &Members, now: Time) {
        let first = self.members.len() <= 1;
        self.members = members.all.iter().map(|member| member.peer).collect();
        let is_gone = |peer: &PeerId| !self.members.contains(peer) || members.left.contains(peer);
        for open in self.documents.values_mut() {
            open.holders.retain(|peer, _| !is_gone(peer));
        }
        self.outgoing.retain(|peer, _| !is_gone(peer));
        self.assemblies.retain(|assembly| !is_gone(&assembly.from));
        self.to_help.retain(|peer, _| !is_gone(peer));
        if first && self.members.len() > 1 {
            for document in self.documents.keys().cloned().collect::<Vec<_>>() {
                self.greet(document, now);
            }
            return;
        }
        for peer in &members.joined {
            let helps = |open: &Open| is_helper(&self.me, peer, open.holders.keys());
            if self.documents.values().any(helps) {
                self.to_help.insert(*peer, now + HELP_AFTER);
            }
        }
    }

    fn tick(&mut self, now: Time) {
        let due: Vec<PeerId> = self.to_help.iter().filter(|(_, at)| **at <= now).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.to_help.remove(&peer);
            for document in self.documents.keys().cloned().collect::<Vec<_>>() {
                self.say_have(Target::One(peer), document, Asked::You);
            }
        }
        if self.send_at.is_some_and(|at| at <= now) {
            self.send_some(now);
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = Some(now + self.look_wait);
            self.look_wait = (self.look_wait * 2).min(LOOK_LAST);
            self.round = self.round.wrapping_add(1);
            for (document, peer) in self.partners() {
                self.say_have(Target::One(peer), document, Asked::You);
            }
        }
    }

    /// With whom to compare which document, another one each time.
    fn partners(&self) -> Vec<(DocumentName, PeerId)> {
        let partner = |(document, open): (&DocumentName, &Open)| {
            let holders: Vec<PeerId> = open.holders.keys().copied().collect();
            let start = holders.partition_point(|peer| *peer <= self.me) + self.round;
            (!holders.is_empty()).then(|| (document.clone(), holders[start % holders.len()]))
        };
        self.documents.iter().filter_map(partner).collect()
    }
}

/// Whether it is for us to answer somebody: for few of those who can, always the same.
fn is_helper<'a>(me: &PeerId, newcomer: &PeerId, holders: impl Iterator<Item = &'a PeerId>) -> bool {
    let rank = |peer: &PeerId| *blake3::hash(&[newcomer.0, peer.0].concat()).as_bytes();
    let ours = rank(me);
    holders.filter(|peer| *peer != newcomer && rank(peer) < ours).count() < HELPERS
}

impl Service for Engine {
    type Event = Changed;
    const TOPIC: Topic = Topic(129);

    fn handle(&mut self, input: Input<'_>, now: Time) {
        match input {
            Input::Members(members) => self.hear_members(members, now),
            Input::Message { from, .. } if from == self.me => {}
            Input::Message { from, payload } => match codec::decode(payload) {
                Ok(Message::Have { document, version, asked }) => self.hear_have(from, document, &version, asked, now),
                Ok(Message::Edit { document, update }) => self.hear_update(from, &document, &update, true, now),
                Ok(Message::Part { document, number, index, count, piece }) => {
                    self.hear_part(from, (document, number, index, count), piece, now);
                }
                Err(_) => self.counters.refused += 1,
            },
            Input::Unsent { to: Target::One(peer), payload, error: peerflock_proto::SendError::Backlog(_) } => {
                if matches!(codec::decode(payload), Ok(Message::Part { .. })) {
                    self.outgoing.entry(peer).or_default().push_front(payload.clone());
                    self.send_at = Some(now + BACKLOG_WAIT);
                }
            }
            Input::Unsent { .. } => {}
            Input::Timeout => self.tick(now),
        }
    }

    fn poll_output(&mut self) -> Option<Output<Changed>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        [self.send_at, self.look_at].into_iter().flatten().chain(self.to_help.values().copied()).min()
    }
}
