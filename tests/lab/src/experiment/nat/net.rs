//! Small internets of network namespaces, with routers of every sort. Whatever happens, nothing of them stays.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use peerflock::doctor::Router;

/// What our namespaces are called: by this, the process that made them, and a number.
const PREFIX: &str = "pflab";

/// The program of many home routers that opens ports for those who ask, and the chains that it wants to find.
const MAPPER: &str = "miniupnpd";
const MAPPER_RULES: &str = "table inet filter {
   chain miniupnpd { }
   chain prerouting_miniupnpd { }
   chain postrouting_miniupnpd { }
   chain forward { type filter hook forward priority 0; jump miniupnpd; }
   chain prerouting { type nat hook prerouting priority -110; jump prerouting_miniupnpd; }
   chain postrouting { type nat hook postrouting priority 90; jump postrouting_miniupnpd; }
 }";

/// How a router treats what comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nat {
    /// One port for all ways, and everybody may answer.
    FullCone,
    /// One port for all ways, and addresses written to may answer.
    Address,
    /// One port for all ways, and only what was written to may answer.
    Port,
    /// Each way has a port of its own.
    Symmetric,
}

impl Nat {
    pub(super) const ALL: [Self; 4] = [Self::FullCone, Self::Address, Self::Port, Self::Symmetric];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FullCone => "full cone",
            Self::Address => "address-restricted",
            Self::Port => "port-restricted",
            Self::Symmetric => "symmetric",
        }
    }

    /// Rules of a router towards `wan` for the one machine at `host` behind it.
    fn rules(self, host: &str) -> String {
        let (seen, remember, let_in, how) = match self {
            Self::FullCone => ("", "", format!("iifname \"wan\" udp dport 1024-65535 dnat to {host};"), ""),
            Self::Address => (
                "set seen { type ipv4_addr; flags dynamic,timeout; timeout 2m; }",
                "iifname \"lan\" oifname \"wan\" add @seen { ip daddr };",
                format!("iifname \"wan\" ip saddr @seen udp dport 1024-65535 dnat to {host};"),
                "",
            ),
            Self::Port => ("", "", String::new(), ""),
            Self::Symmetric => ("", "", String::new(), " fully-random"),
        };
        // What comes too early must not leave a trace: else the router would give the answer to it another port.
        format!(
            "table ip lab {{ {seen}
               chain remember {{ type filter hook forward priority 0; {remember} }}
               chain early {{ type filter hook input priority 0; iifname \"wan\" ct state new drop; }}
               chain arrive {{ type nat hook prerouting priority -100; {let_in} }}
               chain leave {{ type nat hook postrouting priority 100; oifname \"wan\" masquerade{how}; }}
             }}"
        )
    }
}

/// Where two players are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Each behind a router of its own.
    Homes(Nat, Nat),
    /// The first behind two routers, one behind the other.
    Double(Nat, Nat),
    /// Both behind one router.
    Lan(Nat),
    /// Both at one switch, and nothing else in the world: they find each other by name.
    Isolated,
    /// The first with IPv6 alone, the second with IPv4 alone: there is no direct way.
    SixAndFour,
    /// The second can be reached by everybody.
    Reachable(Nat),
    /// As homes, and the first gets another address in mid-game: from Wi-Fi to a cable.
    Moves(Nat, Nat),
    /// As homes, and the first one's router opens ports when it is asked to (by `miniupnpd`).
    Mapped(Nat, Nat),
    /// As homes, but there is no third player: all that both reach is a directory.
    Alone(Nat, Nat),
    /// The same, the first with IPv6 alone, the second with IPv4 alone.
    AloneSixAndFour,
    /// The same, and the first gets IPv4, too, in mid-game.
    AloneThenBoth,
}

/// Who is at the internet beside the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Third {
    Nobody,
    Player,
    Directory,
}

impl Set {
    pub(super) fn all() -> Vec<Self> {
        let pairs = Nat::ALL.into_iter().flat_map(|a| Nat::ALL.map(|b| Self::Homes(a, b)));
        let more = [
            Self::Double(Nat::Port, Nat::Port),
            Self::Double(Nat::Symmetric, Nat::FullCone),
            Self::Lan(Nat::Port),
            Self::Lan(Nat::Symmetric),
            Self::Isolated,
            Self::SixAndFour,
            Self::Reachable(Nat::Symmetric),
            Self::Moves(Nat::Port, Nat::Port),
            Self::Mapped(Nat::Symmetric, Nat::Symmetric),
            Self::Alone(Nat::Port, Nat::Port),
            Self::Alone(Nat::Symmetric, Nat::Symmetric),
            Self::AloneSixAndFour,
            Self::AloneThenBoth,
        ];
        pairs.chain(more).collect()
    }

    pub(super) fn is_of_matrix(self) -> bool {
        matches!(self, Self::Homes(..))
    }

    pub(super) fn ends(self) -> (&'static str, &'static str) {
        match self {
            Self::Homes(a, b) | Self::Double(a, b) | Self::Moves(a, b) | Self::Mapped(a, b) | Self::Alone(a, b) => {
                (a.name(), b.name())
            }
            Self::Lan(nat) => (nat.name(), nat.name()),
            Self::Isolated => ("at a switch", "at a switch"),
            Self::SixAndFour | Self::AloneSixAndFour => ("IPv6 only", "IPv4 only"),
            Self::AloneThenBoth => ("IPv6 only, then both", "IPv4 only"),
            Self::Reachable(nat) => (nat.name(), "reachable"),
        }
    }

    /// What a doctor should say of the routers before the two.
    pub(super) fn routers(self) -> [Router; 2] {
        let of = |nat: Nat| if nat == Nat::Symmetric { Router::PortForEach } else { Router::OnePort };
        match self {
            Self::Homes(a, b) | Self::Double(a, b) | Self::Moves(a, b) | Self::Mapped(a, b) | Self::Alone(a, b) => [of(a), of(b)],
            Self::Lan(nat) => [of(nat); 2],
            Self::SixAndFour | Self::AloneSixAndFour | Self::AloneThenBoth | Self::Isolated => [Router::None; 2],
            Self::Reachable(nat) => [of(nat), Router::None],
        }
    }

    /// Who else is there.
    pub(super) fn third(self) -> Third {
        match self {
            Self::Isolated => Third::Nobody,
            Self::Alone(..) | Self::AloneSixAndFour | Self::AloneThenBoth => Third::Directory,
            _ => Third::Player,
        }
    }

    /// Whether the first one has IPv6 and nothing else.
    fn is_six_first(self) -> bool {
        matches!(self, Self::SixAndFour | Self::AloneSixAndFour | Self::AloneThenBoth)
    }

    pub(super) fn name(self) -> String {
        let (a, b) = self.ends();
        match self {
            Self::Homes(..) | Self::SixAndFour | Self::Reachable(_) => format!("{a} - {b}"),
            Self::Double(..) => format!("double {a} - {b}"),
            Self::Lan(_) => format!("one LAN behind {a}"),
            Self::Isolated => "LAN without internet".into(),
            Self::Moves(..) => format!("{a}, moving - {b}"),
            Self::Mapped(..) => format!("{a}, mapping ports - {b}"),
            Self::Alone(..) | Self::AloneSixAndFour | Self::AloneThenBoth => format!("{a} - {b}, alone with a directory"),
        }
    }
}

/// Where the member that can be reached is, for each end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) for_a: SocketAddr,
    pub(super) for_b: SocketAddr,
}

/// One small internet. Gone when dropped.
pub(super) struct Net {
    prefix: String,
    set: Set,
    mapper: Option<Child>,
}

impl Net {
    pub(super) fn build(set: Set, run: usize) -> Result<Self, String> {
        let mut net = Self { prefix: format!("{PREFIX}{}n{run}", std::process::id()), set, mapper: None };
        for host in ["i", "c", "a", "b", "ra", "rb", "rr"] {
            ip(&format!("netns add {}", net.host(host)))?;
            net.ip(host, "link set lo up")?;
        }
        net.ip("i", "link add name bridge0 type bridge")?;
        net.ip("i", "link set dev bridge0 up")?;
        net.attach("c", "wan", Some(10))?;
        net.ip("c", "addr add 2001:db8::10/64 dev wan nodad")?;
        match set {
            Set::Homes(a, b) | Set::Moves(a, b) | Set::Mapped(a, b) | Set::Alone(a, b) => {
                net.home("ra", "a", 21, "10.1.0", a)?;
                net.home("rb", "b", 22, "10.2.0", b)?;
            }
            Set::Double(a, b) => {
                net.home("rr", "ra", 21, "10.9.0", a)?;
                net.inner_home(a)?;
                net.home("rb", "b", 22, "10.2.0", b)?;
            }
            Set::Lan(nat) => net.lan(nat)?,
            Set::Isolated => {
                net.cable("a", "eth0", "b", "eth0")?;
                net.ip("a", "addr add 10.7.0.1/24 dev eth0")?;
                net.ip("b", "addr add 10.7.0.2/24 dev eth0")?;
            }
            Set::SixAndFour | Set::AloneSixAndFour | Set::AloneThenBoth => {
                net.attach("a", "wan", None)?;
                net.ip("a", "addr add 2001:db8::a/64 dev wan nodad")?;
                net.attach("b", "wan", Some(32))?;
            }
            Set::Reachable(nat) => {
                net.home("ra", "a", 21, "10.1.0", nat)?;
                net.attach("b", "wan", Some(32))?;
            }
        }
        if let Set::Mapped(..) = set {
            net.map_ports("ra")?;
        }
        Ok(net)
    }

    /// Where whoever can be reached at this port is.
    pub(super) fn member(&self, port: u16) -> Member {
        let four = SocketAddr::new(self.outside(10).into(), port);
        let six = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10], port));
        Member { for_a: if self.set.is_six_first() { six } else { four }, for_b: four }
    }

    /// The first player gets another address, and loses the one it had.
    pub(super) fn move_a(&self) -> Result<(), String> {
        self.ip("a", "addr del 10.1.0.2/24 dev eth0")?;
        self.ip("a", "addr add 10.1.0.77/24 dev eth0")?;
        self.ip("a", "route replace default via 10.1.0.1")
    }

    /// The first player gets IPv4, too.
    pub(super) fn give_four(&self) -> Result<(), String> {
        self.ip("a", &format!("addr add {}/24 dev wan", self.outside(31)))
    }

    /// An address at the internet. `miniupnpd` opens no ports at addresses that are not of the real one; nothing leaves the namespaces.
    fn outside(&self, number: u8) -> Ipv4Addr {
        match self.set {
            Set::Mapped(..) => [11, 51, 100, number].into(),
            _ => [198, 51, 100, number].into(),
        }
    }

    /// From now on the router opens ports when it is asked to.
    fn map_ports(&mut self, router: &str) -> Result<(), String> {
        run(self.inside(router).args(["nft", MAPPER_RULES]))?;
        let mut daemon = self.inside(router);
        daemon.args([MAPPER, "-d", "-f", "/dev/null", "-i", "wan", "-a", "lan", "-N", "-4"]);
        daemon
            .args(["-P", &format!("/run/{}.pid", self.host(router))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.mapper = Some(daemon.spawn().map_err(|error| format!("{MAPPER}: {error}"))?);
        Ok(())
    }

    /// A command that will run at `host`; the program is its first argument.
    pub(super) fn inside(&self, host: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host)]);
        command
    }

    fn host(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    fn ip(&self, host: &str, what: &str) -> Result<(), String> {
        ip(&format!("-n {} {what}", self.host(host)))
    }

    /// A cable from `host` to the internet.
    fn attach(&self, host: &str, name: &str, number: Option<u8>) -> Result<(), String> {
        let port = format!("p{host}");
        self.cable("i", &port, host, name)?;
        self.ip("i", &format!("link set dev {port} master bridge0"))?;
        number.map_or(Ok(()), |number| self.ip(host, &format!("addr add {}/24 dev {name}", self.outside(number))))
    }

    fn cable(&self, one: &str, one_name: &str, other: &str, other_name: &str) -> Result<(), String> {
        let (from, to) = (self.host(one), self.host(other));
        ip(&format!("-n {from} link add {one_name} type veth peer name {other_name} netns {to}"))?;
        self.ip(one, &format!("link set dev {one_name} up"))?;
        self.ip(other, &format!("link set dev {other_name} up"))
    }

    /// A router at the internet with one machine behind it.
    fn home(&self, router: &str, host: &str, outer: u8, inner: &str, nat: Nat) -> Result<(), String> {
        self.attach(router, "wan", Some(outer))?;
        let behind = if host == "ra" { "wan" } else { "eth0" };
        self.cable(router, "lan", host, behind)?;
        self.ip(router, &format!("addr add {inner}.1/24 dev lan"))?;
        self.ip(host, &format!("addr add {inner}.2/24 dev {behind}"))?;
        self.ip(host, &format!("route add default via {inner}.1"))?;
        self.route(router, &nat.rules(&format!("{inner}.2")))
    }

    /// The router `ra`, itself behind one, with `a` behind it.
    fn inner_home(&self, nat: Nat) -> Result<(), String> {
        self.cable("ra", "lan", "a", "eth0")?;
        self.ip("ra", "addr add 10.1.0.1/24 dev lan")?;
        self.ip("a", "addr add 10.1.0.2/24 dev eth0")?;
        self.ip("a", "route add default via 10.1.0.1")?;
        self.route("ra", &nat.rules("10.1.0.2"))
    }

    /// Both players at one switch behind one router.
    fn lan(&self, nat: Nat) -> Result<(), String> {
        self.attach("ra", "wan", Some(21))?;
        self.ip("ra", "link add name lan type bridge")?;
        self.ip("ra", "link set dev lan up")?;
        self.ip("ra", "addr add 10.1.0.1/24 dev lan")?;
        for (host, port, address) in [("a", "la", "10.1.0.2"), ("b", "lb", "10.1.0.3")] {
            self.cable("ra", port, host, "eth0")?;
            self.ip("ra", &format!("link set dev {port} master lan"))?;
            self.ip(host, &format!("addr add {address}/24 dev eth0"))?;
            self.ip(host, "route add default via 10.1.0.1")?;
        }
        self.route("ra", &nat.rules("10.1.0.2"))
    }

    fn route(&self, router: &str, rules: &str) -> Result<(), String> {
        let mut forward = self.inside(router);
        run(forward.args(["sysctl", "-qw", "net.ipv4.ip_forward=1"]))?;
        run(self.inside(router).args(["nft", rules]))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Some(mapper) = &mut self.mapper {
            _ = mapper.kill();
            _ = mapper.wait();
            _ = std::fs::remove_file(format!("/run/{}.pid", self.host("ra")));
        }
        for host in ["a", "b", "c", "ra", "rb", "rr", "i"] {
            _ = ip(&format!("netns del {}", self.host(host)));
        }
    }
}

/// Whether namespaces can be made here, or why not.
pub(in crate::experiment) fn possible() -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("network namespaces are Linux's".into());
    }
    let probe = format!("{PREFIX}{}probe", std::process::id());
    let made = ip(&format!("netns add {probe}")).and_then(|()| {
        let mut rules = Command::new("ip");
        let outcome = run(rules.args(["netns", "exec", &probe, "nft", "list", "ruleset"]));
        _ = ip(&format!("netns del {probe}"));
        outcome
    });
    made.map_err(|why| format!("network namespaces with nft cannot be made here (are you root?): {why}"))
}

/// Whether routers here can open ports, or why not.
pub(super) fn maps_ports() -> Result<(), String> {
    let asked = Command::new(MAPPER).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.map(|_| ()).map_err(|error| format!("{MAPPER}: {error} (Debian: miniupnpd-nftables)"))
}

/// Takes away what a lab that was killed left behind.
pub(super) fn sweep() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let process: String = name.strip_prefix(PREFIX).unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
        if !process.is_empty() && !std::path::Path::new("/proc").join(&process).exists() {
            _ = ip(&format!("netns del {name}"));
        }
    }
}

pub(in crate::experiment) fn ip(what: &str) -> Result<(), String> {
    run(Command::new("ip").args(what.split(' ')))
}

/// Many commands for `ip`, one a line, at once.
pub(in crate::experiment) fn ip_batch(options: &[&str], lines: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("ip: {error}");
    let mut command = Command::new("ip");
    command.args(options).args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(lines.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
