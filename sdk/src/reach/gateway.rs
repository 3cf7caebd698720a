//! Which router stands before us: the one that packets to the internet go through, on the networks in use.

use std::net::{IpAddr, Ipv4Addr};

use if_addrs::{IfAddr, Ifv4Addr};

use crate::resolve::Interface;

/// Routers asked at most: a machine is on few networks.
const GATEWAYS_MAX: usize = 4;
/// Where Linux says where packets go: a line for each way, with numbers as they lie in memory.
const ROUTES: &str = "/proc/net/route";
/// The flag of a way that goes through a router (`RTF_GATEWAY`).
const THROUGH_ROUTER: u32 = 2;

/// A router, and what we are called on its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    pub(super) address: Ipv4Addr,
    pub(super) own: Ipv4Addr,
}

/// The routers of the networks in use. Where the system does not say, the usual places of one: the first address of a network, and the last.
/// Nobody else there is troubled by the question.
pub(super) fn gateways(interface: &Interface) -> Vec<Gateway> {
    if *interface == Interface::Loopback {
        return Vec::new();
    }
    let networks: Vec<Ifv4Addr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .filter(|of| !of.is_loopback() && !of.is_link_local() && !matches!(interface, Interface::Named(name) if of.name != *name))
        .filter_map(|of| if let IfAddr::V4(four) = of.addr { Some(four) } else { None })
        .collect();
    let said = std::fs::read_to_string(ROUTES).ok().map(|table| routers(&table));
    let mut gateways: Vec<Gateway> = match said {
        Some(said) => said.into_iter().filter_map(|address| on(&networks, address)).collect(),
        None => networks.iter().flat_map(guesses).collect(),
    };
    gateways.truncate(GATEWAYS_MAX);
    gateways
}

/// The routers to everywhere that a table of ways names.
fn routers(table: &str) -> Vec<Ipv4Addr> {
    let number = |word: &str| u32::from_str_radix(word, 16).ok();
    let router = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (to, by, flags) = (number(words.next()?)?, number(words.next()?)?, number(words.next()?)?);
        (to == 0 && flags & THROUGH_ROUTER != 0).then(|| Ipv4Addr::from(by.to_ne_bytes()))
    };
    table.lines().skip(1).filter_map(router).collect()
}

fn on(networks: &[Ifv4Addr], address: Ipv4Addr) -> Option<Gateway> {
    let of = |ip: Ipv4Addr, mask: Ipv4Addr| u32::from(ip) & u32::from(mask);
    let network = networks.iter().find(|network| of(network.ip, network.netmask) == of(address, network.netmask))?;
    Some(Gateway { address, own: network.ip })
}

fn guesses(network: &Ifv4Addr) -> impl Iterator<Item = Gateway> + use<> {
    let (own, mask) = (network.ip, u32::from(network.netmask));
    let first = u32::from(own) & mask;
    let usual = [first.saturating_add(1), (first | !mask).saturating_sub(1)].map(Ipv4Addr::from);
    usual
        .into_iter()
        .filter(move |address| *address != own && IpAddr::V4(*address) != IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        .map(move |address| Gateway { address, own })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(ip: [u8; 4], mask: [u8; 4]) -> Ifv4Addr {
        Ifv4Addr { ip: ip.into(), netmask: mask.into(), prefixlen: 24, broadcast: None }
    }

    #[test]
    fn a_table_of_ways_names_the_router() {
        let by = u32::from_ne_bytes([10, 1, 0, 1]);
        let table = format!(
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t{by:08X}\t0003\t0\t0\t0\t00000000\n\
             eth0\t0001000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\nnonsense\neth1\t00000000\tZZ\t0003\n"
        );
        assert_eq!(routers(&table), [Ipv4Addr::new(10, 1, 0, 1)]);
        let networks = [network([192, 168, 7, 2], [255, 255, 255, 0]), network([10, 1, 0, 9], [255, 255, 255, 0])];
        let expected = Gateway { address: [10, 1, 0, 1].into(), own: [10, 1, 0, 9].into() };
        assert_eq!(on(&networks, [10, 1, 0, 1].into()), Some(expected));
        assert_eq!(on(&networks, [10, 2, 0, 1].into()), None, "of a network that is not in use");
    }

    #[test]
    fn where_nobody_says_the_usual_places_are_tried() {
        let tried = |ip, mask| guesses(&network(ip, mask)).map(|guess| guess.address.to_string()).collect::<Vec<_>>();
        assert_eq!(tried([192, 168, 7, 20], [255, 255, 255, 0]), ["192.168.7.1", "192.168.7.254"]);
        assert_eq!(tried([192, 168, 7, 1], [255, 255, 255, 0]), ["192.168.7.254"], "not ourselves");
        assert!(gateways(&Interface::Loopback).is_empty(), "nothing leaves the machine");
    }
}
