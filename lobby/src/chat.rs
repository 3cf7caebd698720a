//! What is shown of a room's talk: what the mesh's chat brings, with the names that people had then, and the room's own notices.
//!
//! The lines themselves are kept, passed on and held to a pace by [`peerflock::service::chat`].

use std::collections::VecDeque;

use peerflock::PeerId;
pub use peerflock::service::chat::{Audience, HISTORY_LINES_MAX, LineId, SayError, pace};

/// What was said, and what happened, in the order in which we learned of it.
#[derive(Debug, Default)]
pub struct Chat {
    lines: VecDeque<Line>,
    next: u64,
    changes: u64,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counts up from 0 over the life of this log, so that a view can tell which lines are new.
    pub number: u64,
    /// Who said it; `None` for a notice of the room's.
    pub speaker: Option<Speaker>,
    /// What: clean, never empty.
    pub text: String,
    /// Which line of the mesh's chat it is; `None` for notices and for what was said to few.
    pub id: Option<LineId>,
    /// To whom it was said.
    pub to: LineTo,
    /// Whether it was said before we came.
    pub earlier: bool,
    /// Whether its author changed it.
    pub edited: bool,
    /// Whether it is meant for us in particular.
    pub mentions_me: bool,
}

/// To whom a line was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LineTo {
    /// To all who are here.
    #[default]
    All,
    /// To a team.
    Team(u8),
    /// To one, and nobody else.
    One,
}

/// Who said a line, as they were called then: a line keeps its name when its speaker leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Whose key it was: proved.
    pub peer: PeerId,
    /// The name they went by.
    pub name: String,
    /// The color they had.
    pub color: u8,
    /// Whether that is ourselves.
    pub me: bool,
}

impl Chat {
    /// The lines kept, oldest first; at most [`HISTORY_LINES_MAX`].
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &Line> + ExactSizeIterator {
        self.lines.iter()
    }

    /// Counts the lines that were changed or deleted after they were shown: a view that sees it grow draws all anew.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Adds a line of the room's own: somebody came, the game began.
    pub fn note(&mut self, notice: impl Into<String>) {
        self.push(Line::notice(notice.into()));
    }

    /// Adds a line; its number is set here.
    pub(crate) fn push(&mut self, line: Line) {
        if self.lines.len() >= HISTORY_LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { number: self.next, ..line });
        self.next += 1;
    }

    /// The author changed a line, or deleted it if there is no text. Returns the line as it was shown.
    pub(crate) fn amend(&mut self, id: &LineId, text: Option<String>) -> Option<Line> {
        let index = self.lines.iter().position(|line| line.id.as_ref() == Some(id))?;
        self.changes += 1;
        let line = self.lines[index].clone();
        match text {
            Some(text) => {
                self.lines[index].text = text;
                self.lines[index].edited = true;
            }
            // What stays says that something was here, and keeps the numbers in a row.
            None => self.lines[index] = Line { number: line.number, ..Line::notice("a line was deleted".into()) },
        }
        Some(line)
    }
}

impl Line {
    fn notice(text: String) -> Self {
        let (to, earlier, edited, mentions_me) = (LineTo::All, false, false, false);
        Self { number: 0, speaker: None, text, id: None, to, earlier, edited, mentions_me }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_bounded_and_numbered() {
        let mut chat = Chat::default();
        (0..HISTORY_LINES_MAX + 50).for_each(|line| chat.note(format!("line {line}")));
        assert_eq!(chat.lines().len(), HISTORY_LINES_MAX);
        let numbers: Vec<u64> = chat.lines().map(|line| line.number).collect();
        assert_eq!(numbers, (50..HISTORY_LINES_MAX as u64 + 50).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_changed_stays_in_its_place_and_what_is_deleted_leaves_one() {
        let mut chat = Chat::default();
        let id = LineId { channel: "all".parse().unwrap(), author: PeerId([1; 32]), boot: peerflock::Boot(1), number: 1 };
        chat.note("before");
        chat.push(Line { id: Some(id.clone()), ..Line::notice("helo".into()) });
        chat.note("after");
        assert!(chat.amend(&id, Some("hello".into())).is_some());
        let texts = |chat: &Chat| chat.lines().map(|line| line.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&chat), ["before", "hello", "after"]);
        assert!(chat.amend(&id, None).is_some() && chat.amend(&id, None).is_none());
        assert_eq!(texts(&chat), ["before", "a line was deleted", "after"]);
        assert_eq!(chat.changes(), 2);
    }
}
