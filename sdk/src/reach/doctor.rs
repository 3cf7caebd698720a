//! Why can nobody reach me? A look at this machine, its networks and its router, in words that help a player.
//!
//! ```no_run
//! use peerflock::doctor::{DoctorOptions, examine};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let diagnosis = examine(&DoctorOptions::default().directory("directory.example.org".parse().unwrap())).await;
//! println!("{diagnosis}");
//! # }
//! ```
//!
//! What the router does is learned as RFC 5780 does: several others are asked where they see one and the same socket. A directory
//! answers at two ports, and any member at its own; without either, nothing can be said of a router.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::gateway::gateways;
use super::mapping::{map, withdraw};
use crate::directory::DirectoryAddress;
use crate::identity;
use crate::link::canonical;
use crate::link::probe::{question, read_answer};
use crate::resolve::{Interface, lan};
use crate::unix_time::unix_seconds;

/// How long others may take to answer; each is asked three times.
const PATIENCE: Duration = Duration::from_millis(2_100);
const ASK_EVERY: Duration = Duration::from_millis(700);
/// How long routers may take to open a port.
const MAPPING_PATIENCE: Duration = Duration::from_secs(4);
/// Who wakes up so late was too busy to hear an answer: that none came says nothing then.
const LATE: Duration = Duration::from_millis(700);
/// Others that are asked.
const OTHERS_MAX: usize = 16;
/// A clock before this is wrong: 2025 had begun when this was written.
const CLOCK_MIN: u64 = 1_735_689_600;
/// So is one of the next century.
const CLOCK_MAX: u64 = 4_102_444_800;

/// Whom the doctor may ask.
#[derive(Clone, Debug, Default)]
pub struct DoctorOptions {
    interface: Interface,
    directories: Vec<DirectoryAddress>,
    others: Vec<SocketAddr>,
}

impl DoctorOptions {
    /// Looks at one network only.
    pub fn interface(mut self, interface: Interface) -> Self {
        self.interface = interface;
        self
    }

    /// Asks a directory, too. Several may be given.
    pub fn directory(mut self, address: DirectoryAddress) -> Self {
        self.directories.push(address);
        self
    }

    /// Asks a member that can be reached, too. Several may be given.
    pub fn member(mut self, address: SocketAddr) -> Self {
        self.others.push(address);
        self
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// What the router does with one socket that speaks to several others.
    pub router: Router,
    /// Where others see this machine.
    pub seen_at: Vec<SocketAddr>,
    /// Where the router lets others in, if it opened a port when it was asked to (by PCP or NAT-PMP). It was given back.
    pub mapped_at: Option<SocketAddr>,
    /// Each part that was looked at.
    pub findings: Vec<Finding>,
}

/// What a router does with one socket that speaks to several others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Router {
    /// Nobody was asked, or only one: it cannot be told.
    Unknown,
    /// Nobody answered: UDP does not get out, or nobody is there.
    Silent,
    /// It translates no addresses: others see this machine's own.
    None,
    /// It gives the socket one port for all: ways through it can be opened.
    OnePort,
    /// It gives each way a port of its own (a symmetric one): ways open only to those whose router does not.
    PortForEach,
}

/// How one part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Something will not work, but play will.
    Limited,
    /// This keeps people from playing together.
    Bad,
    /// It could not be looked at.
    Unknown,
}

/// One part that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which part.
    pub part: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// Looks at everything. Takes some three seconds, four where no router opens a port.
pub async fn examine(options: &DoctorOptions) -> Diagnosis {
    let (router, mdns, mapped) = tokio::join!(ask_around(options), mdns(&options.interface), port_mapping(&options.interface));
    let (router, seen_at, asked) = router;
    let mapped_at = mapped.as_ref().and_then(|mapped| mapped.as_ref().ok().map(|(at, _)| *at));
    let mut findings = vec![
        interfaces(&options.interface),
        of_router(router, asked),
        six(&options.interface, &seen_at),
        mdns,
        clock(unix_seconds()),
    ];
    // Of loopback there is no router to be asked.
    findings.extend(mapped.map(|mapped| of_port_mapping(mapped, router, &seen_at)));
    Diagnosis { router, seen_at, mapped_at, findings }
}

/// The same for programs without an async runtime.
///
/// # Errors
/// When the operating system refuses a runtime.
pub fn examine_now(options: &DoctorOptions) -> std::io::Result<Diagnosis> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(examine(options)))
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { part, verdict, found, advice } in &self.findings {
            let sign = match verdict {
                Verdict::Good => "ok",
                Verdict::Limited => "limited",
                Verdict::Bad => "BAD",
                Verdict::Unknown => "?",
            };
            writeln!(f, "{part:14} {sign:8} {found}")?;
            if let Some(advice) = advice {
                writeln!(f, "{:14} {:8} -> {advice}", "", "")?;
            }
        }
        Ok(())
    }
}

fn finding(part: &'static str, verdict: Verdict, found: impl Into<String>, advice: Option<&str>) -> Finding {
    Finding { part, verdict, found: found.into(), advice: advice.map(str::to_owned) }
}

fn interfaces(interface: &Interface) -> Finding {
    let own = own(interface);
    if own.is_empty() {
        let advice = "Connect to a network, or name another one: PEERFLOCK_INTERFACE, or --interface.";
        return finding("networks", Verdict::Bad, format!("this machine has no address on {interface}"), Some(advice));
    }
    let list: Vec<String> = own.iter().map(ToString::to_string).collect();
    finding("networks", Verdict::Good, format!("this machine is {}", list.join(", ")), None)
}

fn own(interface: &Interface) -> Vec<IpAddr> {
    let bound = SocketAddr::from(([0_u16; 8], 1));
    let own: Vec<IpAddr> = interface.addresses(bound).into_iter().map(|address| address.ip()).collect();
    // Where there is no other network only the machine itself is left.
    if *interface == Interface::Loopback { own } else { own.into_iter().filter(|ip| !ip.is_loopback()).collect() }
}

/// Asks others where they see a socket of ours. Says how many were asked, too.
async fn ask_around(options: &DoctorOptions) -> (Router, Vec<SocketAddr>, usize) {
    let mut others: Vec<SocketAddr> = options.others.clone();
    for DirectoryAddress { host, port, .. } in &options.directories {
        for port in [*port, port.saturating_add(1)] {
            if let Ok(found) = tokio::net::lookup_host((host.as_str(), port)).await {
                others.extend(found);
            }
        }
    }
    // Routers for IPv6 do not translate, so those are asked only where there is nothing else.
    let four = own(&options.interface).iter().any(IpAddr::is_ipv4);
    others.retain(|other| canonical(*other).is_ipv4() == four && options.interface.reaches(other.ip()));
    others.truncate(OTHERS_MAX);
    if others.is_empty() {
        return (Router::Unknown, Vec::new(), 0);
    }
    let bind = match (options.interface == Interface::Loopback, four) {
        (true, true) => IpAddr::from(Ipv4Addr::LOCALHOST),
        (true, false) => Ipv6Addr::LOCALHOST.into(),
        (false, true) => Ipv4Addr::UNSPECIFIED.into(),
        (false, false) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let Ok(socket) = UdpSocket::bind((bind, 0)).await else { return (Router::Silent, Vec::new(), others.len()) };
    let (answers, busy) = ask(&socket, &others).await;
    let port = socket.local_addr().map_or(0, |address| address.port());
    let own: Vec<SocketAddr> = own(&options.interface).into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    let seen: BTreeSet<SocketAddr> = answers.iter().map(|(_, at)| *at).collect();
    let router = match judge(&answers, &own) {
        Router::Silent if busy => Router::Unknown,
        router => router,
    };
    (router, seen.into_iter().collect(), others.len())
}

/// Who answers, and where it sees the socket; and whether this machine was too busy to hear all.
async fn ask(socket: &UdpSocket, others: &[SocketAddr]) -> (Vec<(SocketAddr, SocketAddr)>, bool) {
    let nonce: [u8; 8] = *identity::random().first_chunk().unwrap_or(&[0; 8]);
    let (started, mut answers) = (Instant::now(), Vec::new());
    let mut next = started;
    let (mut packet, mut busy) = ([0; 256], false);
    while started.elapsed() < PATIENCE && answers.len() < others.len() {
        if Instant::now() >= next {
            busy |= next.elapsed() >= LATE;
            next += ASK_EVERY;
            for other in others {
                // Nowhere to send to is an answer that does not come.
                _ = socket.send_to(&question(nonce), *other).await;
            }
        }
        let Ok(Ok((length, from))) = timeout_at(next, socket.recv_from(&mut packet)).await else { continue };
        let known = answers.iter().any(|(by, _)| *by == from);
        if let Some(at) = read_answer(packet.get(..length).unwrap_or_default(), nonce)
            && !known
            && others.contains(&from)
        {
            answers.push((from, at));
        }
    }
    (answers, busy)
}

fn judge(answers: &[(SocketAddr, SocketAddr)], own: &[SocketAddr]) -> Router {
    let seen: BTreeSet<SocketAddr> = answers.iter().map(|(_, at)| *at).collect();
    match (answers.len(), seen.first()) {
        (_, None) => Router::Silent,
        (_, Some(at)) if seen.len() == 1 && own.contains(at) => Router::None,
        (1, _) => Router::Unknown,
        _ if seen.len() == 1 => Router::OnePort,
        _ => Router::PortForEach,
    }
}

fn of_router(router: Router, asked: usize) -> Finding {
    let (verdict, found, advice) = match router {
        Router::Unknown if asked == 0 => (
            Verdict::Unknown,
            "nobody was asked what this router does".to_owned(),
            Some("Name a directory, or somebody who is playing and can be reached."),
        ),
        Router::Unknown => (
            Verdict::Unknown,
            "only one answered, or none while this machine was too busy to hear: that says nothing of ways to others".to_owned(),
            Some("Name one more, or try again when less is going on."),
        ),
        Router::Silent => (
            Verdict::Bad,
            format!("none of {asked} answered: UDP does not get out of this network, or they are not there"),
            Some("Let UDP out in the firewall of this machine and its network, or play through a VPN. On a phone's hot spot it mostly works."),
        ),
        Router::None => (Verdict::Good, "no router translates addresses: others can reach this machine, unless a firewall keeps them out".to_owned(), None),
        Router::OnePort => (Verdict::Good, "the router keeps one port for each socket: ways through it can be opened to anybody".to_owned(), None),
        Router::PortForEach => (
            Verdict::Limited,
            "the router gives each way another port (symmetric): ways open to most players, but not to those with another of its kind; \
             those are heard by others"
                .to_owned(),
            Some("Nothing has to be done where somebody else in the mesh is not so. Else open a port on the router (UDP) and bind to it, or use IPv6."),
        ),
    };
    finding("router", verdict, found, advice)
}

/// Asks each router for a port, and gives it back. None where there is no network with one.
async fn port_mapping(interface: &Interface) -> Option<Result<(SocketAddr, &'static str), usize>> {
    if *interface == Interface::Loopback {
        return None;
    }
    let routers = gateways(interface);
    // A port of nobody's will do.
    let port = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok().and_then(|socket| socket.local_addr().ok());
    let port = NonZeroU16::new(port?.port())?;
    let ask = async {
        for router in &routers {
            if let Some(mapped) = map(*router, port).await {
                let told = (mapped.at(), mapped.by());
                withdraw(Some(mapped)).await;
                return Some(told);
            }
        }
        None
    };
    Some(timeout(MAPPING_PATIENCE, ask).await.ok().flatten().ok_or(routers.len()))
}

fn of_port_mapping(mapped: Result<(SocketAddr, &'static str), usize>, router: Router, seen_at: &[SocketAddr]) -> Finding {
    const PART: &str = "port mapping";
    const OPEN: &str = "Switch it on in the router where it can be (PCP, NAT-PMP), or open a port for UDP there and bind to it.";
    match mapped {
        Ok((at, by)) if seen_at.is_empty() || seen_at.iter().any(|seen| seen.ip() == at.ip()) => finding(
            PART,
            Verdict::Good,
            format!("the router opens a port when it is asked to ({by}): others reach this machine at {}", at.ip()),
            None,
        ),
        Ok((at, by)) => {
            let found = format!(
                "the router opens a port ({by}) at {}, which others do not see: another router stands before it",
                at.ip()
            );
            finding(
                PART,
                Verdict::Limited,
                found,
                Some("Set one of the two routers to pass everything on (bridge mode), or ask the provider."),
            )
        }
        Err(0) => {
            finding(PART, Verdict::Unknown, "there is no router to be asked", Some("Nothing, on a network without internet."))
        }
        Err(_) if router == Router::PortForEach => {
            finding(PART, Verdict::Limited, "the router opens no ports when it is asked to", Some(OPEN))
        }
        Err(_) => finding(PART, Verdict::Good, "the router opens no ports when it is asked to; it can do without", None),
    }
}

fn six(interface: &Interface, seen: &[SocketAddr]) -> Finding {
    let global = own(interface).into_iter().any(|ip| matches!(ip, IpAddr::V6(ip) if !ip.is_loopback() && !ip.is_unique_local()));
    if global {
        finding("IPv6", Verdict::Good, "there is IPv6: those who have it, too, need no way through a router", None)
    } else if seen.iter().any(|at| matches!(at.ip(), IpAddr::V4(ip) if is_shared(ip))) {
        let advice = "Ask the provider for IPv6, or for an IPv4 address of your own.";
        finding(
            "IPv6",
            Verdict::Limited,
            "there is none, and the provider's own router (CGNAT) stands before yours",
            Some(advice),
        )
    } else {
        finding("IPv6", Verdict::Good, "there is none; IPv4 does it", None)
    }
}

/// Addresses that providers share among customers (RFC 6598).
fn is_shared(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64
}

async fn mdns(interface: &Interface) -> Finding {
    match lan::hears_itself(interface, PATIENCE).await {
        Ok(true) => finding("local network", Verdict::Good, "announcements (mDNS) go out and are heard", None),
        Ok(false) => finding(
            "local network",
            Verdict::Limited,
            "announcements (mDNS) are not heard, not even by this machine",
            Some("Let UDP port 5353 through the firewall, or invite by ticket. Guest networks often keep their guests apart."),
        ),
        Err(error) => finding("local network", Verdict::Limited, error.to_string(), Some("Invite by ticket.")),
    }
}

fn clock(now: u64) -> Finding {
    if (CLOCK_MIN..CLOCK_MAX).contains(&now) {
        return finding("clock", Verdict::Good, "the clock shows a time that can be", None);
    }
    let advice = "Set it. Play goes on without, but in the DHT nobody finds those who are on another day.";
    finding("clock", Verdict::Limited, "the clock is off by years", Some(advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::probe::answer_to;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_others_see_says_what_the_router_does() {
        let (one, two, own) = (at("198.51.100.1:1"), at("198.51.100.1:2"), [at("10.0.0.2:7")]);
        assert_eq!(judge(&[], &own), Router::Silent);
        assert_eq!(judge(&[(one, at("192.0.2.1:9"))], &own), Router::Unknown);
        assert_eq!(judge(&[(one, own[0])], &own), Router::None);
        assert_eq!(judge(&[(one, at("192.0.2.1:9")), (two, at("192.0.2.1:9"))], &own), Router::OnePort);
        assert_eq!(judge(&[(one, at("192.0.2.1:9")), (two, at("192.0.2.1:10"))], &own), Router::PortForEach);
        for router in [Router::Unknown, Router::Silent, Router::None, Router::OnePort, Router::PortForEach] {
            let said = of_router(router, 2);
            assert_eq!(said.advice.is_none(), said.verdict == Verdict::Good, "whatever is not good has advice: {said:?}");
        }
        let open = |at: &str, seen: &[SocketAddr]| of_port_mapping(Ok((self::at(at), "PCP")), Router::OnePort, seen).verdict;
        let seen = [self::at("198.51.100.1:9")];
        assert_eq!((open("198.51.100.1:7", &seen), open("10.0.0.1:7", &seen)), (Verdict::Good, Verdict::Limited), "two routers");
        for (router, verdict) in [(Router::OnePort, Verdict::Good), (Router::PortForEach, Verdict::Limited)] {
            assert_eq!(of_port_mapping(Err(1), router, &seen).verdict, verdict);
        }
        assert_eq!((clock(0).verdict, clock(CLOCK_MIN).verdict), (Verdict::Limited, Verdict::Good));
        assert!(is_shared(Ipv4Addr::new(100, 64, 0, 1)) && !is_shared(Ipv4Addr::new(100, 1, 0, 1)));
    }

    /// Answers like a member, and shows everybody the same or another address.
    async fn member(lies: Option<SocketAddr>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let here = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut packet = [0; 256];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                if let Some(answer) = answer_to(&packet[..length], lies.unwrap_or(from)) {
                    _ = socket.send_to(&answer, from).await;
                }
            }
        });
        here
    }

    #[tokio::test]
    async fn a_diagnosis_is_true_on_loopback_and_can_be_kept_as_json() {
        let options = DoctorOptions::default().interface(Interface::Loopback);
        let (honest, other) = (member(None).await, member(None).await);
        let plain = examine(&options.clone().member(honest).member(other)).await;
        assert_eq!((plain.router, plain.seen_at.len()), (Router::None, 1), "{plain}");
        let (one, two) = (member(Some(at("192.0.2.1:9"))).await, member(Some(at("192.0.2.1:10"))).await);
        assert_eq!(examine(&options.clone().member(one).member(two)).await.router, Router::PortForEach);
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let lonely = examine(&options.member(silent.local_addr().unwrap())).await;
        assert_eq!(lonely.router, Router::Silent);
        let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&lonely).unwrap()).unwrap();
        assert_eq!(json["router"], "silent");
        assert!(json["findings"].as_array().is_some_and(|findings| findings.len() == 5));
        assert!(lonely.to_string().contains("router         BAD"), "{lonely}");
    }
}
