//! How a directory is named: `host:port`, with its key or without.

use std::fmt;
use std::str::FromStr;

use peerflock_proto::PeerId;

use super::PORT;

/// What the text may begin with.
const SCHEME: &str = "peerflock-directory://";
/// The longest name of a host (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Where a directory is, and whose key it shows: `host`, `host:port` or `host:port#key`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectoryAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) key: Option<PeerId>,
}

/// The text names no directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this names no directory: write host:port, and #key after it where you have it, like directory.example.org:4434")]
pub struct ParseDirectoryError;

impl DirectoryAddress {
    /// At `host`, a name or an address, and `port`.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, key: None }
    }

    /// The same, only if it shows this key.
    pub fn key(mut self, key: PeerId) -> Self {
        self.key = Some(key);
        self
    }
}

impl FromStr for DirectoryAddress {
    type Err = ParseDirectoryError;

    fn from_str(text: &str) -> Result<Self, ParseDirectoryError> {
        let text = text.trim();
        let text = text.strip_prefix(SCHEME).unwrap_or(text).trim_end_matches('/');
        let (place, key) = match text.split_once('#') {
            Some((place, key)) => (place, Some(key.parse().map_err(|_| ParseDirectoryError)?)),
            None => (text, None),
        };
        // An IPv6 address has colons of its own, and wears brackets before a port.
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(ParseDirectoryError)?)),
            None if place.matches(':').count() > 1 => (place, None),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(PORT), str::parse).map_err(|_| ParseDirectoryError)?;
        let readable = |letter: char| letter.is_alphanumeric() || ".-_:%".contains(letter);
        if host.is_empty() || host.len() > HOST_BYTES_MAX || port == 0 || !host.chars().all(readable) {
            return Err(ParseDirectoryError);
        }
        Ok(Self { host: host.to_owned(), port, key })
    }
}

impl fmt::Display for DirectoryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        self.key.map_or(Ok(()), |key| write!(f, "#{key}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_text() {
        let key = PeerId([7; 32]);
        for (text, host, port, has_key) in [
            ("directory.example.org", "directory.example.org", PORT, false),
            (" 192.0.2.7:99 ", "192.0.2.7", 99, false),
            ("[2001:db8::1]:99", "2001:db8::1", 99, false),
            ("[2001:db8::1]", "2001:db8::1", PORT, false),
            ("2001:db8::1", "2001:db8::1", PORT, false),
            (&format!("peerflock-directory://host:99#{key}"), "host", 99, true),
        ] {
            let address: DirectoryAddress = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port, address.key.is_some()), (host, port, has_key), "{text}");
            assert_eq!(address.to_string().parse(), Ok(address), "{text}");
        }
        for text in
            ["", ":99", "host:", "host:0", "host:99999", "host#beef", "[::1", "[::1]99", "a b", &"x".repeat(300), "host/../x"]
        {
            assert_eq!(text.parse::<DirectoryAddress>(), Err(ParseDirectoryError), "{text}");
        }
    }
}
