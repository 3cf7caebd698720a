//! Whole meshes in virtual time: real QUIC, real admission, a network in memory that loses, doubles and reorders packets.

use std::collections::BTreeMap;
use std::time::Duration;

use peerflock::test_utils::{NetworkStats, VirtualNetwork};
use peerflock::{
    Change, CloseReason, Conditioner, EntityId, Event, Farewell, Group, Identity, Kind, KindId, Orphan, PeerId, PeerMesh,
    PeerMeshBuilder, Profile, Registry, Shape, StartError, Target, Topic, Value, WorldEvent,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// 60 ticks a second, on tokio's grain of a millisecond.
const TICK: Duration = Duration::from_millis(16);
const CHAT: Topic = Topic(Topic::RESERVED);
const POSITION: KindId = KindId(0);
const NAME: KindId = KindId(1);
/// What players on ordinary Wi-Fi have on a bad evening.
const BAD_EVENING: Conditioner = Conditioner {
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(10),
    loss: 0.05,
    duplicates: 0.02,
    reordering: 0.02,
    ..LAN
};
const LAN: Conditioner = Conditioner::with_delay(Duration::from_millis(10));

fn builder(network: &VirtualNetwork, n: u8) -> PeerMeshBuilder {
    let mut registry = Registry::default();
    registry.register(Kind { name: "position".into(), shape: Shape::Fields(&[Group::Motion(2)]) });
    registry.register(Kind { name: "name".into(), shape: Shape::Bytes });
    PeerMesh::named("virtual")
        .secret([42; 32])
        .identity(Identity::from_seed([n; 32]))
        .seed([n; 32])
        .profile(Profile::named(format!("player {n}")))
        .registry(registry)
        .lan(false)
        .socket(network.socket())
}

/// One player and all that it has seen.
struct Player {
    mesh: PeerMesh,
    own: Vec<EntityId>,
    ticks: i32,
    said: u32,
    heard: BTreeMap<PeerId, Vec<u32>>,
    left: Vec<(PeerId, Farewell)>,
    owners: BTreeMap<EntityId, PeerId>,
}

impl Player {
    fn new(mesh: PeerMesh) -> Self {
        let (own, heard, left, owners) = Default::default();
        Self { mesh, own, ticks: 0, said: 0, heard, left, owners }
    }

    /// Half of the entities go with their owner, half are adopted.
    fn spawn(&mut self, count: usize) {
        let mut changes = Vec::new();
        for index in 0..count {
            let entity = self.mesh.spawn();
            let orphan = if index % 2 == 0 { Orphan::Vanish } else { Orphan::Adopt };
            changes.push(Change::Spawn { entity, orphan });
            let name = Value::bytes(format!("bird {index} of {}", self.mesh.id()));
            changes.push(Change::Set { entity, kind: NAME, value: name });
            self.own.push(entity);
            self.owners.insert(entity, self.mesh.id());
        }
        self.mesh.commit(changes);
    }

    fn fly(&mut self) {
        self.ticks += 1;
        let position = |index: usize| Value::fields([self.ticks * 3, index as i32 - self.ticks]);
        let changes = self.own.iter().enumerate();
        self.mesh
            .commit(changes.map(|(index, &entity)| Change::Set { entity, kind: POSITION, value: position(index) }).collect());
        self.look();
    }

    fn rest(&mut self) {
        self.mesh.commit(Vec::new());
        self.look();
    }

    fn say(&mut self) {
        self.mesh.send(Target::All, CHAT, self.said.to_le_bytes().to_vec()).unwrap();
        self.said += 1;
    }

    fn look(&mut self) {
        for event in self.mesh.try_events() {
            match event {
                Event::Message { from, topic, private, payload } => {
                    assert_eq!((topic, private), (CHAT, false));
                    self.heard.entry(from).or_default().push(u32::from_le_bytes(payload[..].try_into().unwrap()));
                }
                Event::PeerLeft { peer, farewell } => self.left.push((peer, farewell)),
                Event::World(WorldEvent::Appeared { entity, owner, .. } | WorldEvent::Owner { entity, owner }) => {
                    _ = self.owners.insert(entity, owner);
                }
                Event::World(WorldEvent::Vanished { entity }) => _ = self.owners.remove(&entity),
                _ => {}
            }
        }
    }
}

/// Starts `count` players at once; all but the first join it.
async fn gather(network: &VirtualNetwork, count: u8) -> Vec<Player> {
    let first = builder(network, 1).start().await.unwrap();
    let door = first.local_addresses()[0];
    let mut starting = JoinSet::new();
    for n in 2..=count {
        let builder = builder(network, n).join_address(door);
        starting.spawn(async move { (n, builder.start().await.unwrap()) });
    }
    let mut meshes = BTreeMap::from([(1, first)]);
    meshes.extend(starting.join_all().await);
    meshes.into_values().map(Player::new).collect()
}

/// Plays on until `done`, at the longest for `limit`.
async fn play(
    players: &mut [Player],
    limit: Duration,
    mut tick: impl FnMut(&mut Player),
    done: impl Fn(&[Player]) -> bool,
) -> Duration {
    let started = Instant::now();
    while !done(players) {
        assert!(started.elapsed() < limit, "not within {limit:?}: {:#?}", players.iter().map(describe).collect::<Vec<_>>());
        players.iter_mut().for_each(&mut tick);
        sleep(TICK).await;
    }
    started.elapsed()
}

async fn play_for(players: &mut [Player], time: Duration, tick: impl FnMut(&mut Player)) {
    let end = Instant::now() + time;
    play(players, time * 2, tick, |_| Instant::now() >= end).await;
}

fn describe(player: &Player) -> String {
    let metrics = player.mesh.metrics();
    let heard: Vec<_> = player.heard.values().map(Vec::len).collect();
    format!(
        "{:?}: {} members, {} links, {} entities, hash {:02x?}, left {:?}, heard {heard:?}",
        player.mesh.id(),
        player.mesh.members().len(),
        metrics.links.len(),
        metrics.entity_count,
        &metrics.state_hash[..4],
        player.left,
    )
}

fn all_see(players: &[Player], members: usize) -> bool {
    players.iter().all(|player| player.mesh.members().len() == members)
}

fn converged(players: &[Player], entities: usize) -> bool {
    let worlds = players.iter().map(|player| player.mesh.metrics());
    let hashes: Vec<_> = worlds.map(|metrics| (metrics.entity_count, metrics.state_hash)).collect();
    hashes.iter().all(|(count, hash)| *count == entities && *hash == hashes[0].1)
}

#[tokio::test(start_paused = true)]
async fn eight_players_share_one_world_on_a_bad_evening_and_after_a_crash() {
    let network = VirtualNetwork::new(1, BAD_EVENING);
    let mut players = gather(&network, 8).await;
    let meeting = play(&mut players, Duration::from_secs(15), Player::rest, |players| all_see(players, 8)).await;

    players.iter_mut().for_each(|player| player.spawn(20));
    for _ in 0..50 {
        play_for(&mut players, Duration::from_millis(96), Player::fly).await;
        players.iter_mut().for_each(Player::say);
    }
    let settling = play(&mut players, Duration::from_secs(5), Player::rest, |players| {
        let all_heard = |player: &Player| player.heard.len() == 7 && player.heard.values().all(|heard| heard.len() >= 50);
        converged(players, 160) && players.iter().all(all_heard)
    })
    .await;
    play_for(&mut players, Duration::from_secs(1), Player::rest).await;
    assert!(converged(&players, 160));
    let exactly_once_in_order: Vec<u32> = (0..50).collect();
    for player in &players {
        assert!(player.heard.values().all(|heard| *heard == exactly_once_in_order), "{}", describe(player));
        assert_eq!(player.left, [], "nobody left");
        assert_eq!(player.mesh.metrics().events_dropped, 0);
    }

    // One process dies without a word.
    let crashed = players.remove(3);
    network.unplug(crashed.mesh.local_addresses()[0]);
    let gone = crashed.mesh.id();
    let noticing = play(&mut players, Duration::from_secs(8), Player::rest, |players| all_see(players, 7)).await;
    let healing = play(&mut players, Duration::from_secs(8), Player::rest, |players| converged(players, 150)).await;
    play_for(&mut players, Duration::from_secs(1), Player::rest).await;
    assert!(converged(&players, 150), "seven times twenty, and the ten that are adopted");
    let alive: Vec<PeerId> = players.iter().map(|player| player.mesh.id()).collect();
    for player in &players {
        assert_eq!(player.left, [(gone, Farewell::Lost)]);
        assert_eq!(player.owners, players[0].owners, "all agree on who owns what");
        assert!(player.owners.values().all(|owner| alive.contains(owner)));
        assert_eq!(player.owners.keys().filter(|entity| entity.spawner == gone).count(), 10);
    }
    // Generous bounds, so that a slower mesh shows: silence is noticed after 1.5 s, everything else is round trips.
    assert!(meeting < Duration::from_secs(5), "{meeting:?}");
    assert!(settling < Duration::from_secs(2), "{settling:?}");
    assert!(noticing < Duration::from_secs(4), "{noticing:?}");
    assert!(healing < Duration::from_secs(3), "{healing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_stays_outside_and_the_mesh_plays_on() {
    let network = VirtualNetwork::new(2, BAD_EVENING);
    let first = builder(&network, 1).password("hunter2").start().await.unwrap();
    let door = first.local_addresses()[0];
    let wrong = builder(&network, 2).password("hunter3").join_address(door).start().await;
    match wrong {
        Err(StartError::Refused { address, reason: CloseReason::Refused }) => assert_eq!(address, door),
        other => panic!("not refused: {other:?}"),
    }
    let open = builder(&network, 3).secret([1; 32]).join_address(door).start().await;
    assert!(matches!(open, Err(StartError::Refused { reason: CloseReason::Refused, .. })), "{open:?}");
    assert_eq!(first.members().len(), 1);

    let right = builder(&network, 4).password("hunter2").join_address(door).start().await.unwrap();
    let mut players = [Player::new(first), Player::new(right)];
    play(&mut players, Duration::from_secs(2), Player::rest, |players| all_see(players, 2)).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_there_and_another_game_are_said_in_words() {
    let network = VirtualNetwork::new(3, LAN);
    let nobody = "198.18.200.1:4433".parse().unwrap();
    let alone = builder(&network, 1).join_address(nobody).start().await;
    assert!(matches!(alone, Err(StartError::NobodyThere { tried: 1, .. })), "{alone:?}");
    let first = builder(&network, 1).join_address(nobody).require_members(false).start().await.unwrap();
    let door = first.local_addresses()[0];
    let other_game = builder(&network, 2).registry(Registry::default()).join_address(door).start().await;
    assert!(matches!(other_game, Err(StartError::Refused { reason: CloseReason::Registry, .. })), "{other_game:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_is_heard_to_leave() {
    let network = VirtualNetwork::new(4, BAD_EVENING);
    let mut players = gather(&network, 4).await;
    play(&mut players, Duration::from_secs(15), Player::rest, |players| all_see(players, 4)).await;
    // The first one, too: nobody is special.
    let first = players.remove(0);
    let gone = first.mesh.id();
    let watcher = first.mesh.clone();
    let (events, mesh) = (tokio::spawn(async move { while watcher.next_event().await.is_some() {} }), first.mesh);
    mesh.leave().await;
    events.await.unwrap();
    // It waited for the others to hear it.
    players.iter_mut().for_each(Player::rest);
    assert!(all_see(&players, 3));
    for player in &players {
        assert_eq!(player.left, [(gone, Farewell::Left)]);
    }
    // Dropping the handle says goodbye in the background.
    let second = players.remove(0).mesh.id();
    play(&mut players, Duration::from_secs(1), Player::rest, |players| all_see(players, 2)).await;
    players.iter_mut().for_each(Player::rest);
    for player in &players {
        assert_eq!(player.left, [(gone, Farewell::Left), (second, Farewell::Left)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_enough() {
    let network = VirtualNetwork::new(5, LAN);
    let first = builder(&network, 1).start().await.unwrap();
    let ticket = first.ticket().to_string().parse().unwrap();
    let guest = PeerMesh::from_ticket(&ticket)
        .registry(registry_of(&network))
        .lan(false)
        .socket(network.socket())
        .seed([2; 32])
        .start()
        .await
        .unwrap();
    assert_eq!(guest.name(), "virtual");
    let mut players = [Player::new(first), Player::new(guest)];
    play(&mut players, Duration::from_secs(2), Player::rest, |players| all_see(players, 2)).await;
}

/// The registry that all players here have.
fn registry_of(network: &VirtualNetwork) -> Registry {
    builder(network, 99).registry_mut().clone()
}

#[tokio::test(start_paused = true)]
async fn garbage_at_the_port_does_nothing_but_count() {
    let network = VirtualNetwork::new(6, LAN);
    let mut players = gather(&network, 2).await;
    play(&mut players, Duration::from_secs(5), Player::rest, |players| all_see(players, 2)).await;
    let (stranger, door) = ("198.19.0.1:9".parse().unwrap(), players[0].mesh.local_addresses()[0]);
    for n in 0..1_000_u32 {
        let garbage: Vec<u8> = (0..n % 300).map(|at| (n.wrapping_mul(2_654_435_761) >> (at % 24)) as u8).collect();
        network.inject(stranger, door, &garbage);
    }
    play_for(&mut players, Duration::from_secs(1), Player::fly).await;
    let metrics = players[0].mesh.metrics();
    assert!(metrics.packets_ignored >= 990, "{metrics:?}");
    assert_eq!(metrics.links.len(), 1);
    assert!(all_see(&players, 2) && players.iter().all(|player| player.left.is_empty()));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let network = VirtualNetwork::new(seed, BAD_EVENING);
            let mut players = gather(&network, 4).await;
            players.iter_mut().for_each(|player| player.spawn(4));
            play_for(&mut players, Duration::from_secs(3), Player::fly).await;
            (network.stats(), players[0].mesh.metrics().state_hash)
        })
    };
    let (first, again): ((NetworkStats, _), _) = (run(1), run(1));
    assert_eq!(first, again);
    assert_ne!(run(2).0.trace, first.0.trace);
}
