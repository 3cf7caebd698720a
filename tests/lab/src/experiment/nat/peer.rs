//! One player in a namespace: plays, and says as its last line what it saw, as one JSON object.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use clap::Args;
use peerflock::directory::{DirectoryAddress, DirectoryOptions, DirectoryService};
use peerflock::doctor::{DoctorOptions, examine};
use peerflock::{Change, Event, Group, Kind, Orphan, PeerMesh, Shape, Target, Topic, Value, WorldEvent};
use serde_json::json;

use super::{READY, naive};
use crate::experiment::Failure;
use crate::report;

const CHAT: Topic = Topic(Topic::RESERVED);
const TICK: Duration = Duration::from_millis(50);
/// Every so many ticks something is said.
const SAY_EVERY: i32 = 10;
/// At the end all stand still for so long, so that all can see the same.
const REST: Duration = Duration::from_millis(1_500);
/// What is seen so long before the end counts: then nobody has left yet, though they end one after the other.
const JUDGED: Duration = Duration::from_millis(600);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// What to call the player.
    #[arg(long)]
    player: String,
    /// Play nothing: ask the doctor, who asks these.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESSES")]
    doctor: Vec<SocketAddr>,
    /// Whom to join.
    #[arg(long)]
    join: Option<SocketAddr>,
    /// Find others by the directory there.
    #[arg(long)]
    directory: Option<SocketAddr>,
    /// Play nothing: be a directory, at this port and the next.
    #[arg(long, value_name = "PORT")]
    serve: Option<u16>,
    /// Play nothing: introduce naive punchers, at this port.
    #[arg(long, value_name = "PORT")]
    introduce: Option<u16>,
    /// Play nothing: be a naive puncher, introduced by whoever is there.
    #[arg(long, value_name = "ADDRESS")]
    punch: Option<SocketAddr>,
    /// Find others on the local network, by the mesh's name.
    #[arg(long)]
    lan: bool,
    /// Where to listen.
    #[arg(long)]
    bind: Option<SocketAddr>,
    /// How long to play.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// Dial what is known, and nothing more.
    #[arg(long)]
    plain: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let broke = |error: std::io::Error| Failure::Unmet(format!("the naive puncher: {error}"));
    if let Some(port) = options.introduce {
        return naive::introduce(port).map_err(broke);
    }
    if let Some(introducer) = options.punch {
        report::say(&naive::puncher(&options.player, introducer).map_err(broke)?.to_string());
        return Ok(());
    }
    if let Some(port) = options.serve {
        let listen = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let serve = DirectoryOptions { listen, ..DirectoryOptions::default() };
        let stay = Some(Duration::from_secs(options.seconds));
        return DirectoryService::run(serve, stay, |_| report::say(READY))
            .map_err(|error| Failure::Unmet(format!("the directory: {error}")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unmet(format!("no runtime: {error}")))?;
    let said = if options.doctor.is_empty() {
        runtime.block_on(play(options)).unwrap_or_else(|error| json!({"error": error.to_string()}))
    } else {
        let asked = options.doctor.iter().copied().fold(DoctorOptions::default(), DoctorOptions::member);
        json!(runtime.block_on(examine(&asked)))
    };
    report::say(&said.to_string());
    Ok(())
}

async fn play(options: &Options) -> Result<serde_json::Value, peerflock::StartError> {
    let mut builder =
        PeerMesh::named("nat lab").password("nat lab").lan(options.lan).player(&options.player).punch(!options.plain);
    if let Some(bind) = options.bind {
        builder = builder.bind(bind);
    }
    if let Some(join) = options.join {
        builder = builder.join_address(join);
    }
    if let Some(directory) = options.directory {
        builder = builder.directory(DirectoryAddress::new(directory.ip().to_string(), directory.port()));
    }
    let place = builder.registry_mut().register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(2)]) });
    let before = Instant::now();
    let mesh = builder.start().await?;
    if options.bind.is_some() {
        report::say(READY);
    }
    // Two who start alone, one of them sooner, are to end together.
    let started = if options.directory.is_some() { before } else { Instant::now() };
    let length = Duration::from_secs(options.seconds);
    let bird = mesh.spawn();
    mesh.commit(vec![
        Change::Spawn { entity: bird, orphan: Orphan::Vanish },
        Change::Set { entity: bird, kind: place, value: Value::fields([0, 0]) },
    ]);
    let mut names = BTreeMap::new();
    let (mut met, mut linked, mut heard, mut seen) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut relayed = BTreeMap::new();
    let (mut owners, mut lines) = (BTreeMap::new(), BTreeMap::<_, i32>::new());
    let (mut left, mut gaps) = (0, 0);
    let mut tick = tokio::time::interval(TICK);
    let (mut step, mut judged) = (0, None);
    while started.elapsed() < length {
        tick.tick().await;
        step += 1;
        // Who is there for the others stands still, as it ends after them.
        if options.bind.is_none() && started.elapsed() + REST < length {
            mesh.commit(vec![Change::Set { entity: bird, kind: place, value: Value::fields([step, 2 * step]) }]);
            if step % SAY_EVERY == 0 {
                // Nobody there yet is no trouble.
                _ = mesh.send(Target::All, CHAT, format!("hello {step}"));
            }
        } else {
            mesh.commit(vec![]);
        }
        for event in mesh.try_events() {
            match event {
                Event::Message { from, payload, .. } => {
                    let line =
                        std::str::from_utf8(&payload).ok().and_then(|line| line.strip_prefix("hello ")?.parse::<i32>().ok());
                    let line = line.unwrap_or_default();
                    gaps += u32::from(lines.insert(from, line).is_some_and(|before| before + SAY_EVERY != line));
                    if let Some(name) = names.get(&from) {
                        heard.insert(String::clone(name), true);
                    }
                }
                // At the end they leave one after the other.
                Event::PeerLeft { .. } if judged.is_none() => left += 1,
                Event::World(WorldEvent::Appeared { entity, owner, .. }) => _ = owners.insert(entity, owner),
                Event::World(WorldEvent::Set { entity, .. }) => {
                    if let Some(name) = owners.get(&entity).and_then(|owner| names.get(owner)) {
                        seen.insert(name.clone(), true);
                    }
                }
                _ => {}
            }
        }
        if judged.is_none() && started.elapsed() + JUDGED >= length {
            judged = Some(mesh.metrics());
        }
        let now = started.elapsed().as_secs_f64();
        let links = mesh.metrics().links;
        for member in mesh.members().into_iter().filter(|member| !member.me) {
            let name = names.entry(member.peer).or_insert(member.profile.name);
            met.entry(name.clone()).or_insert(now);
            if let Some(link) = links.iter().find(|link| link.peer == member.peer) {
                let kind = if link.relayed { &mut relayed } else { &mut linked };
                kind.entry(name.clone()).or_insert(now);
            }
        }
    }
    let metrics = judged.unwrap_or_else(|| mesh.metrics());
    let state: String = metrics.state_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let said = json!({
        "player": options.player, "met": met, "linked": linked, "relayed": relayed, "heard": heard, "seen": seen, "left": left, "gaps": gaps, "packets": metrics.way_packets,
        "entities": metrics.entity_count, "state": state,
    });
    mesh.leave_now(Duration::ZERO);
    Ok(said)
}
