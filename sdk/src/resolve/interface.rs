//! Which of the machine's networks to use.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use mdns_sd::IfKind;

use crate::link::canonical;

/// The environment variable that names the interface where the program does not.
pub const INTERFACE_VARIABLE: &str = "PEERFLOCK_INTERFACE";
/// Names that mean this machine alone, on any system.
const LOOPBACK_NAMES: [&str; 3] = ["lo", "lo0", "loopback"];
/// Addresses of our own that we tell others.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// Where to look for others, and where to be found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Interface {
    /// Every network that this machine is on.
    #[default]
    All,
    /// This machine alone: nothing leaves it.
    Loopback,
    /// One network, by the operating system's name for it, such as `eth0`.
    Named(String),
}

impl Interface {
    /// The interface that [`INTERFACE_VARIABLE`] names, or all.
    pub fn from_environment() -> Self {
        std::env::var(INTERFACE_VARIABLE).map_or(Self::All, |name| Self::from(name.as_str()))
    }

    /// For mDNS: the interfaces to switch on, after all were switched off. `None` leaves all on.
    pub(super) fn kind(&self) -> Option<IfKind> {
        match self {
            Self::All => None,
            Self::Loopback => Some(IfKind::LoopbackV4),
            Self::Named(name) => Some(IfKind::Name(name.clone())),
        }
    }

    /// Whether an address heard of on this interface is worth a packet.
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        !address.is_unspecified() && !address.is_multicast() && (*self != Self::Loopback || address.is_loopback())
    }

    /// The addresses under which `bound` can be reached over this interface, the likeliest first.
    pub(crate) fn addresses(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        let bound = canonical(bound);
        if !bound.ip().is_unspecified() {
            return vec![bound];
        }
        let mut ips: Vec<IpAddr> = match self {
            Self::Loopback => vec![Ipv4Addr::LOCALHOST.into()],
            Self::All | Self::Named(_) => if_addrs::get_if_addrs()
                .unwrap_or_default()
                .into_iter()
                .filter(|interface| match self {
                    Self::Named(name) => interface.name == *name,
                    _ => !interface.is_loopback(),
                })
                // Link-local addresses mean nothing without the receiver's own name for the interface.
                .filter(|interface| !interface.is_link_local())
                .map(|interface| interface.ip())
                .filter(|ip| bound.is_ipv6() || ip.is_ipv4())
                .collect(),
        };
        if ips.is_empty() {
            ips.push(Ipv4Addr::LOCALHOST.into());
        }
        ips.sort_by_key(|ip| (ip.is_ipv6(), *ip));
        ips.dedup();
        ips.truncate(ADDRESSES_MAX);
        ips.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
    }
}

impl From<&str> for Interface {
    /// `""` and `"all"` are all, `"lo"` and `"loopback"` this machine alone, anything else a name.
    fn from(name: &str) -> Self {
        match name.trim() {
            "" | "all" => Self::All,
            name if LOOPBACK_NAMES.contains(&name) => Self::Loopback,
            name => Self::Named(name.to_owned()),
        }
    }
}

impl From<String> for Interface {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl FromStr for Interface {
    type Err = std::convert::Infallible;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(name))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Loopback => "loopback",
            Self::Named(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood() {
        for name in LOOPBACK_NAMES {
            assert_eq!(Interface::from(name), Interface::Loopback);
        }
        assert_eq!(Interface::from(" "), Interface::All);
        let named = Interface::from("eth0");
        assert_eq!(named, Interface::Named("eth0".into()));
        assert_eq!(named.to_string().parse(), Ok(named));
    }

    #[test]
    fn loopback_stays_on_the_machine() {
        let bound = SocketAddr::from(([0, 0, 0, 0], 4433));
        assert_eq!(Interface::Loopback.addresses(bound), [SocketAddr::from(([127, 0, 0, 1], 4433))]);
        assert!(!Interface::Loopback.reaches(Ipv4Addr::new(192, 0, 2, 1).into()));
        assert!(Interface::Loopback.reaches(Ipv4Addr::new(127, 0, 0, 2).into()));
        assert!(!Interface::All.reaches(Ipv4Addr::UNSPECIFIED.into()));
    }

    #[test]
    fn a_bound_address_is_the_only_one() {
        let bound = SocketAddr::from(([192, 0, 2, 1], 7));
        assert_eq!(Interface::All.addresses(bound), [bound]);
        let inside_v6 = "[::ffff:192.0.2.1]:7".parse().unwrap();
        assert_eq!(Interface::All.addresses(inside_v6), [bound]);
    }
}
