//! The last lines of one channel, each in its place: the same for everybody who has the same lines, in whatever order they came.

use std::collections::{BTreeMap, BTreeSet};

use peerflock_proto::{Boot, PeerId};

use super::line::Signed;
use super::{Audience, ChatLine, HISTORY_LINES_MAX, LineId, text};

/// Lines by their place.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: BTreeMap<Place, Entry>,
}

/// Where a line stands: by its order, then by its author.
type Place = (u64, PeerId, Boot, u64);

#[derive(Debug)]
struct Entry {
    line: Signed,
    fingerprint: u64,
    shown: ChatLine,
}

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is new here.
    New(ChatLine),
    /// It is a newer version of one that is here.
    Newer(ChatLine),
    /// It is here, or older than all that is kept, or says nothing that can be shown.
    Nothing,
}

impl Log {
    /// Takes in a line that is genuine.
    pub(super) fn take(&mut self, line: Signed) -> Taken {
        let place = place(&line);
        if let Some(entry) = self.entries.get_mut(&place) {
            if line.version <= entry.line.version {
                return Taken::Nothing;
            }
            *entry = Entry::new(line);
            return Taken::Newer(entry.shown.clone());
        }
        if self.find(&line.id).is_some() {
            return Taken::Nothing; // Its author gave one line two places: the first one counts.
        }
        let is_older_than_all = self.entries.first_key_value().is_some_and(|(first, _)| place < *first);
        if is_older_than_all && self.entries.len() >= HISTORY_LINES_MAX {
            return Taken::Nothing;
        }
        let entry = Entry::new(line);
        if entry.line.text.is_some() && entry.shown.text.is_empty() {
            return Taken::Nothing;
        }
        let shown = entry.shown.clone();
        self.entries.insert(place, entry);
        if self.entries.len() > HISTORY_LINES_MAX {
            self.entries.pop_first();
        }
        Taken::New(shown)
    }

    /// Whether this very version, or a newer one, is here.
    pub(super) fn has(&self, line: &Signed) -> bool {
        self.entries.get(&place(line)).is_some_and(|entry| entry.line.version >= line.version)
    }

    /// The line of this identifier.
    pub(super) fn find(&self, id: &LineId) -> Option<&Signed> {
        self.entries.values().map(|entry| &entry.line).find(|line| line.id == *id)
    }

    /// What is kept, oldest first; what was deleted is left out.
    pub(super) fn lines(&self) -> impl DoubleEndedIterator<Item = &ChatLine> {
        self.entries.values().filter(|entry| entry.line.text.is_some()).map(|entry| &entry.shown)
    }

    /// What is kept and not among these, oldest first.
    pub(super) fn lacking<'a>(&'a self, have: &'a BTreeSet<u64>) -> impl Iterator<Item = &'a Signed> {
        self.entries.values().filter(|entry| !have.contains(&entry.fingerprint)).map(|entry| &entry.line)
    }

    /// What tells the versions kept here from all others.
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = u64> {
        self.entries.values().map(|entry| entry.fingerprint)
    }

    /// The place of the last line.
    pub(super) fn order(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |((order, ..), _)| *order)
    }
}

impl Entry {
    fn new(line: Signed) -> Self {
        let shown = ChatLine {
            id: Some(line.id.clone()),
            author: line.id.author,
            audience: Audience::Channel(line.id.channel.clone()),
            text: line.text.as_deref().map(text::clean_line).unwrap_or_default(),
            edited: line.version > 0,
            mentions: line.mentions.clone(),
        };
        Self { fingerprint: line.fingerprint(), line, shown }
    }
}

fn place(line: &Signed) -> Place {
    (line.order, line.id.author, line.id.boot, line.id.number)
}
