//! Many rooms on one local network: how soon has a newcomer the whole list, and what does it cost each host to be there?
//!
//! Each host is a network namespace of its own at one switch, with a process that opens its rooms; some keep a list open, too. What
//! comes and goes is counted by the switch, at each host's port, with all headers of the network. It needs root on Linux; elsewhere it
//! says so and does nothing.

pub(crate) mod host;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::nat::net::{ip, ip_batch, possible};
use crate::report::{self, Report};

/// What our namespaces are called: by this, the process that made them, and a number.
const PREFIX: &str = "pfroom";
/// Lines of one host that wait; it says one.
const LINES_MAX: usize = 4;
/// In which all rooms must be open.
const OPENING: Duration = Duration::from_secs(180);
/// In which a newcomer must have the whole list, or never will.
const LOOKING: Duration = Duration::from_secs(20);
/// How long a newcomer may take to come to be at all, on a machine that is busy.
const STARTING: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Rooms, each with one member.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=400))]
    rooms: u32,
    /// Hosts that they are on. As many as rooms by default; fewer need less memory, and say no less of a host's traffic, all of which
    /// goes to everybody.
    #[arg(long)]
    hosts: Option<u32>,
    /// Hosts that keep a list of all rooms open all the time, besides the newcomers.
    #[arg(long, default_value_t = 10)]
    lists: u32,
    /// Newcomers, one after the other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    looks: u32,
    /// Seconds without anything new before it is quiet.
    #[arg(long, default_value_t = 20)]
    settle: u64,
    /// Seconds for which the quiet is measured. Announcements are renewed every 88.
    #[arg(long, default_value_t = 100)]
    seconds: u64,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let hosts = options.hosts.unwrap_or(options.rooms).clamp(1, options.rooms);
    let settings = json!({
        "rooms": options.rooms, "hosts": hosts, "lists": options.lists.min(hosts), "looks": options.looks, "settle": options.settle,
        "seconds": options.seconds,
    });
    let mut report = Report::new("rooms", settings, None);
    if let Err(why) = possible() {
        // Said, not silent: an empty table would look like a good one.
        report::complain(&format!("rooms: skipped, {why}"));
        report.field("skipped", why);
        return Ok(report);
    }
    let net = Net::build(hosts).map_err(Failure::Unmet)?;
    let mut running = Vec::new();
    let mut first = 0;
    for host in 1..=hosts {
        // As even as can be: none has two more than another.
        let until = u64::from(options.rooms) * u64::from(host) / u64::from(hosts);
        let rooms = until as u32 - first;
        let list = if host <= options.lists { options.rooms } else { 0 };
        running.push(Running::start(&net, host, first, rooms, list)?);
        first += rooms;
    }
    let deadline = Instant::now() + OPENING;
    for host in &running {
        host.hears(deadline.saturating_duration_since(Instant::now()))?;
    }
    std::thread::sleep(Duration::from_secs(options.settle));
    let (mut complete, mut found) = (Vec::new(), Vec::new());
    for _ in 0..options.looks {
        // Its own host, beside all others: it opens no room.
        let newcomer = Running::start(&net, hosts + 1, 0, 0, options.rooms)?;
        let looked = newcomer.hears(STARTING + LOOKING)?;
        complete.push(looked["complete_after_ms"].as_f64());
        found.push(looked["found"].as_u64().unwrap_or(0));
    }
    std::thread::sleep(Duration::from_secs(options.settle));
    let (before, begun) = (net.bytes()?, Instant::now());
    std::thread::sleep(Duration::from_secs(options.seconds));
    let (after, seconds) = (net.bytes()?, begun.elapsed().as_secs_f64());
    let rates: Vec<f64> = (1..=hosts)
        .map(|host| (after.get(&host).copied().unwrap_or(0) - before.get(&host).copied().unwrap_or(0)) as f64 / seconds)
        .collect();
    report.field("found_least", found.iter().min().copied());
    let worst = complete.iter().copied().collect::<Option<Vec<f64>>>().map(|all| all.into_iter().fold(0.0, f64::max));
    report.field("complete_after_ms_worst", worst);
    report.field("complete_after_ms", Value::from(complete));
    report.field("quiet_bytes_per_second_of_a_host_worst", rates.iter().copied().fold(0.0, f64::max));
    report.field("quiet_bytes_per_second_of_a_host_mean", rates.iter().sum::<f64>() / rates.len() as f64);
    Ok(report)
}

/// A process at a host, which ends when its input does.
struct Running {
    child: Child,
    _input: Option<ChildStdin>,
    said: Receiver<Value>,
}

impl Running {
    fn start(net: &Net, host: u32, first: u32, rooms: u32, list: u32) -> Result<Self, Failure> {
        let failed = |source| Failure::Start { program: "a host in a namespace".into(), source };
        let lab = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &net.host(host)]).arg(lab).arg("rooms-host");
        command.args(["--first", &first.to_string(), "--rooms", &rooms.to_string(), "--list", &list.to_string()]);
        command.args(["--patience", &LOOKING.as_secs().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(failed)?;
        let (tell, said) = sync_channel(LINES_MAX);
        let output = child.stdout.take();
        std::thread::spawn(move || {
            for line in output.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str(&line) {
                    // Nobody listens any more at the end.
                    _ = tell.send(value);
                }
            }
        });
        let input = child.stdin.take();
        Ok(Self { child, _input: input, said })
    }

    fn hears(&self, patience: Duration) -> Result<Value, Failure> {
        self.said.recv_timeout(patience).map_err(|_| Failure::Unmet("a host did not say in time that it is ready".into()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, perhaps.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A switch with hosts. Gone when dropped.
struct Net {
    prefix: String,
    hosts: u32,
}

impl Net {
    /// So many hosts, and one for newcomers.
    fn build(hosts: u32) -> Result<Self, String> {
        let net = Self { prefix: format!("{PREFIX}{}", std::process::id()), hosts };
        let all = 1..=hosts + 1;
        let switch = net.host(0);
        ip_batch(&[], &(0..=hosts + 1).map(|host| format!("netns add {}\n", net.host(host))).collect::<String>())?;
        let cables: String = all
            .clone()
            .map(|host| {
                let name = net.host(host);
                format!("link add p{host} type veth peer name eth0 netns {name}\nlink set dev p{host} master bridge0 up\n")
            })
            .collect();
        ip_batch(&["-n", &switch], &format!("link add name bridge0 type bridge\nlink set dev bridge0 up\n{cables}"))?;
        for host in all {
            let address = format!("10.66.{}.{}", host / 250, host % 250 + 1);
            let up = format!("link set dev lo up\nlink set dev eth0 up\naddr add {address}/16 dev eth0\n");
            ip_batch(&["-n", &net.host(host)], &up)?;
        }
        Ok(net)
    }

    /// 0 is the switch.
    fn host(&self, number: u32) -> String {
        format!("{}h{number}", self.prefix)
    }

    /// What has come to and gone from each host.
    fn bytes(&self) -> Result<BTreeMap<u32, u64>, Failure> {
        let output = Command::new("ip").args(["-n", &self.host(0), "-s", "-j", "link", "show"]).output();
        let output = output.map_err(|source| Failure::Start { program: "ip".into(), source })?;
        counted(&output.stdout).ok_or_else(|| Failure::Unmet("the switch does not tell what it counted".into()))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in 0..=self.hosts + 1 {
            // What does not exist need not go.
            _ = ip(&format!("netns del {}", self.host(host)));
        }
    }
}

/// Bytes in both directions by host, from what `ip` tells of the switch's ports as JSON.
fn counted(said: &[u8]) -> Option<BTreeMap<u32, u64>> {
    let links: Vec<Value> = serde_json::from_slice(said).ok()?;
    let ports = links.iter().filter_map(|link| {
        let host = link["ifname"].as_str()?.strip_prefix('p')?.parse().ok()?;
        let bytes = |way: &str| link["stats64"][way]["bytes"].as_u64();
        Some((host, bytes("rx")? + bytes("tx")?))
    });
    Some(ports.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_switch_counted_is_read() {
        let said = br#"[{"ifname":"lo"},{"ifname":"bridge0","stats64":{"rx":{"bytes":1},"tx":{"bytes":2}}},
            {"ifname":"p7","stats64":{"rx":{"bytes":30,"packets":1},"tx":{"bytes":12}}}]"#;
        assert_eq!(counted(said), Some([(7, 42)].into()));
        assert_eq!(counted(b"no"), None);
    }
}
