//! An invitation as a text that fits into a chat.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use peerflock_proto::PeerId;

use super::interface::ADDRESSES_MAX;

/// What every ticket begins with: the name, and the version of what follows.
const PREFIX: &str = "peerflock1";
/// What a ticket as a link begins with: a click on it may open the game.
const LINK_PREFIX: &str = "peerflock://join/";
/// The longest ticket, in characters. Longer texts are none.
const TEXT_LENGTH_MAX: usize = 1_024;
/// The longest name of a mesh, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// How much of the hash goes into the ticket, in bytes: enough for typing errors.
const CHECKSUM_BYTES: usize = 4;
/// What separates this hash from all others.
const CHECKSUM_CONTEXT: &str = "peerflock 1 ticket";

/// An invitation to a mesh, as text or as a [link](Self::link): its name, where a member is and who that is, and the secret if the mesh was made from one.
///
/// A password is never part of a ticket, only whether one is asked for. As text, `peerflock1` and letters and digits in
/// which upper and lower case mean the same; a checksum catches typing errors. Whoever holds a ticket with a secret can
/// join: [`Debug`] does not show it, [`Display`](fmt::Display) does.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) name: String,
    pub(crate) peer: Option<PeerId>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) lock: Lock,
}

/// What opens the mesh.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    Open,
    Password,
    Secret([u8; 32]),
}

/// The text is no ticket. Nothing was changed; ask for the ticket again, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTicketError {
    /// It does not begin as tickets do.
    #[error("this is no ticket: tickets begin with {PREFIX:?}. Copy it again, whole")]
    Prefix,
    /// It is cut short, mistyped or too long.
    #[error("this ticket is damaged: part of it is missing or mistyped. Copy it again, whole")]
    Damaged,
}

impl Ticket {
    /// The mesh's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the member that made the ticket could be reached.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Who made the ticket.
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// Whether a password is needed beside the ticket.
    pub fn needs_password(&self) -> bool {
        self.lock == Lock::Password
    }

    /// The ticket as a link, `peerflock://join/...`, which is read like the text. A program that the system knows to open such links
    /// gets it as an argument.
    pub fn link(&self) -> String {
        format!("{LINK_PREFIX}{self}")
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Names and addresses were checked when they came in: their counts fit into a byte.
        bytes.push(self.name.len() as u8);
        bytes.extend(self.name.as_bytes());
        bytes.push(u8::from(self.peer.is_some()));
        bytes.extend(self.peer.iter().flat_map(|peer| peer.0));
        bytes.push(self.addresses.len() as u8);
        for address in &self.addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend(ip.octets());
                }
            }
            bytes.extend(address.port().to_be_bytes());
        }
        match &self.lock {
            Lock::Open => bytes.push(0),
            Lock::Password => bytes.push(1),
            Lock::Secret(secret) => {
                bytes.push(2);
                bytes.extend(secret);
            }
        }
        bytes
    }

    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let name_length = take::<1>(rest)?[0].into();
        let (name, after) = rest.split_at_checked(name_length)?;
        *rest = after;
        let name = std::str::from_utf8(name).ok().filter(|name| is_name(name))?.to_owned();
        let peer = match take(rest)? {
            [0] => None,
            [1] => Some(PeerId(take(rest)?)),
            _ => return None,
        };
        let [count] = take(rest)?;
        if usize::from(count) > ADDRESSES_MAX {
            return None;
        }
        let mut addresses = Vec::new();
        for _ in 0..count {
            let ip = match take(rest)? {
                [4] => IpAddr::from(take::<4>(rest)?),
                [6] => IpAddr::from(take::<16>(rest)?),
                _ => return None,
            };
            addresses.push(SocketAddr::new(ip, u16::from_be_bytes(take(rest)?)));
        }
        let lock = match take(rest)? {
            [0] => Lock::Open,
            [1] => Lock::Password,
            [2] => Lock::Secret(take(rest)?),
            _ => return None,
        };
        rest.is_empty().then_some(Self { name, peer, addresses, lock })
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.to_bytes();
        bytes.extend(checksum(&bytes));
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lock = match self.lock {
            Lock::Open => "open",
            Lock::Password => "password",
            Lock::Secret(_) => "secret (not shown)",
        };
        f.debug_struct("Ticket")
            .field("name", &self.name)
            .field("peer", &self.peer)
            .field("addresses", &self.addresses)
            .field("lock", &lock)
            .finish()
    }
}

impl FromStr for Ticket {
    type Err = ParseTicketError;

    fn from_str(text: &str) -> Result<Self, ParseTicketError> {
        // Chats break lines and add spaces.
        let text: String = text.chars().filter(|letter| !letter.is_whitespace()).take(TEXT_LENGTH_MAX + 1).collect();
        let text = text.to_ascii_lowercase();
        // Browsers may add a slash at the end of a link.
        let text = text.strip_prefix(LINK_PREFIX).map_or(text.as_str(), |text| text.trim_end_matches('/'));
        let letters = text.strip_prefix(PREFIX).ok_or(ParseTicketError::Prefix)?;
        if text.len() > TEXT_LENGTH_MAX {
            return Err(ParseTicketError::Damaged);
        }
        let bytes = BASE32_NOPAD.decode(letters.to_ascii_uppercase().as_bytes()).map_err(|_| ParseTicketError::Damaged)?;
        bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .filter(|(bytes, sum)| checksum(bytes) == **sum)
            .and_then(|(bytes, _)| Self::from_bytes(bytes))
            .ok_or(ParseTicketError::Damaged)
    }
}

/// Whether a mesh may be called so: something to read, on one line, and not too long.
pub(crate) fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::derive_key(CHECKSUM_CONTEXT, bytes);
    std::array::from_fn(|index| hash[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(lock: Lock) -> Ticket {
        let addresses = vec!["192.0.2.7:4433".parse().unwrap(), "[2001:db8::1]:65535".parse().unwrap()];
        Ticket { name: "Starlings über Rom".into(), peer: Some(PeerId([7; 32])), addresses, lock }
    }

    #[test]
    fn tickets_survive_text_and_chats() {
        for lock in [Lock::Open, Lock::Password, Lock::Secret([0xab; 32])] {
            let ticket = ticket(lock);
            let text = ticket.to_string();
            assert_eq!(text.parse(), Ok(ticket.clone()));
            assert!(text.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit()));
            let (left, right) = text.split_at(40);
            assert_eq!(format!(" {left}\n{} ", right.to_uppercase()).parse(), Ok(ticket));
        }
    }

    #[test]
    fn links_are_tickets() {
        for lock in [Lock::Open, Lock::Password, Lock::Secret([0xab; 32])] {
            let ticket = ticket(lock);
            let link = ticket.link();
            assert!(link.starts_with("peerflock://join/peerflock1"), "{link}");
            for link in [link.clone(), link.to_uppercase(), format!("  {link}/\n")] {
                assert_eq!(link.parse(), Ok(ticket.clone()), "{link}");
            }
        }
        for foreign in ["peerflock://join/", "peerflock://elsewhere/x", "https://peerflock1abc", "peerflock://join/hello"] {
            assert_eq!(foreign.parse::<Ticket>(), Err(ParseTicketError::Prefix), "{foreign}");
        }
    }

    #[test]
    fn any_mistyped_letter_is_noticed() {
        let text = ticket(Lock::Secret([3; 32])).to_string();
        for at in PREFIX.len()..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(wrong.parse::<Ticket>(), Err(ParseTicketError::Damaged), "letter {at}");
        }
        for length in PREFIX.len()..text.len() {
            assert_eq!(text[..length].parse::<Ticket>(), Err(ParseTicketError::Damaged));
        }
        assert_eq!("hello".parse::<Ticket>(), Err(ParseTicketError::Prefix));
        assert_eq!(format!("{PREFIX}{}", "a".repeat(1_000_000)).parse::<Ticket>(), Err(ParseTicketError::Damaged));
    }

    #[test]
    fn nonsense_with_a_right_checksum_is_still_nonsense() {
        let good = ticket(Lock::Password).to_bytes();
        assert!(Ticket::from_bytes(&good).is_some());
        for length in 0..good.len() {
            assert!(Ticket::from_bytes(&good[..length]).is_none(), "cut to {length}");
        }
        assert!(Ticket::from_bytes(&[good.as_slice(), &[0]].concat()).is_none(), "bytes left over");
        for at in 0..good.len() {
            for byte in 0..=255 {
                let mut bytes = good.clone();
                bytes[at] = byte;
                // Whatever it says, it is within the limits.
                if let Some(ticket) = Ticket::from_bytes(&bytes) {
                    assert!(is_name(&ticket.name) && ticket.addresses.len() <= ADDRESSES_MAX);
                }
            }
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let shown = format!("{:?}", ticket(Lock::Secret([0xab; 32])));
        assert!(shown.contains("Starlings") && !shown.contains("171") && !shown.contains("ab, ab"), "{shown}");
    }
}
