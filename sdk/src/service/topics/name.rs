//! What topics are called, and which of them a subscription is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name or pattern, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 64;
/// Most parts of a name, between slashes.
const PARTS_MAX: usize = 8;

/// A topic's name: parts between slashes, `scores/football/live`. At most [`NAME_BYTES_MAX`] bytes and 8 parts, none of them empty,
/// without `*` and control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(String);

/// A name, or many: `*` stands for one part, and `**` at the end for all that follow, one at the least. `scores/*` is for
/// `scores/tennis` and not for `scores/football/live`, which `scores/**` is for, too; `**` is for everything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// Why a text is no name or pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no topic: give 1 to {NAME_BYTES_MAX} bytes, up to 8 parts between slashes, none empty; `*` only as a whole part of a \
     pattern, `**` only as its last"
)]
pub struct NameError(String);

impl TopicName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Pattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is for this topic.
    pub fn matches(&self, name: &TopicName) -> bool {
        meet(&parts(&self.0), &parts(&name.0))
    }

    /// Whether there can be a topic that both are for.
    pub fn overlaps(&self, other: &Self) -> bool {
        meet(&parts(&self.0), &parts(&other.0))
    }
}

fn parts(text: &str) -> Vec<&str> {
    text.split('/').collect()
}

fn meet(one: &[&str], other: &[&str]) -> bool {
    match (one, other) {
        ([], []) | (["**"], [_, ..]) | ([_, ..], ["**"]) => true,
        ([a, one @ ..], [b, other @ ..]) => (a == b || *a == "*" || *b == "*") && meet(one, other),
        _ => false,
    }
}

fn is_valid(text: &str, wild: bool) -> bool {
    let parts = parts(text);
    let last = parts.len() - 1;
    let part_is_valid = |(index, part): (usize, &&str)| match *part {
        "" => false,
        "*" => wild,
        "**" => wild && index == last,
        part => !part.contains('*'),
    };
    text.len() <= NAME_BYTES_MAX
        && parts.len() <= PARTS_MAX
        && !text.contains(char::is_control)
        && parts.iter().enumerate().all(part_is_valid)
}

impl TryFrom<String> for TopicName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        if is_valid(&text, false) { Ok(Self(text)) } else { Err(NameError(text)) }
    }
}

impl TryFrom<String> for Pattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        if is_valid(&text, true) { Ok(Self(text)) } else { Err(NameError(text)) }
    }
}

impl FromStr for TopicName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.to_owned().try_into()
    }
}

impl FromStr for Pattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.to_owned().try_into()
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl From<TopicName> for Pattern {
    fn from(name: TopicName) -> Self {
        Self(name.0)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn wildcards_stand_for_parts() {
        let is_for = |pattern: &str, name: &str| self::pattern(pattern).matches(&name.parse().unwrap());
        assert!(is_for("scores/tennis", "scores/tennis") && !is_for("scores/tennis", "scores"));
        assert!(
            is_for("scores/*", "scores/tennis") && !is_for("scores/*", "scores/football/live") && !is_for("scores/*", "scores")
        );
        assert!(is_for("*/football/*", "scores/football/live") && is_for("**", "a") && is_for("**", "a/b/c"));
        assert!(is_for("scores/**", "scores/football/live") && !is_for("scores/**", "scores"));
        assert!(!is_for("score/*", "scores/a"));
    }

    #[test]
    fn overlaps_are_seen_from_both_sides() {
        let overlap = |one: &str, other: &str| {
            let there = pattern(one).overlaps(&pattern(other));
            assert_eq!(there, pattern(other).overlaps(&pattern(one)));
            there
        };
        assert!(overlap("a/*", "*/b") && overlap("a/**", "a/b/c") && overlap("**", "x") && overlap("a/*/c", "a/**"));
        assert!(!overlap("a/*", "b/*") && !overlap("a/**", "a") && !overlap("a/*/c", "a/b"));
    }

    #[test]
    fn what_is_no_name_is_said() {
        for text in ["", "/", "a//b", "a/", "*", "a/*", "a*", "a\nb", &"x".repeat(65), "1/2/3/4/5/6/7/8/9"] {
            assert!(text.parse::<TopicName>().is_err(), "{text:?}");
        }
        for text in ["", "a/**/b", "a*", "**a", "*/"] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
        let error = "a//b".parse::<Pattern>().unwrap_err().to_string();
        assert!(error.contains("a//b") && error.contains("slashes"), "{error}");
        // Nor does one come in over the wire.
        let bytes = crate::codec::encode("a//b").unwrap();
        assert!(crate::codec::decode::<TopicName>(&bytes).is_err());
    }
}
