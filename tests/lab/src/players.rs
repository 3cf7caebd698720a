//! Real meshes over real QUIC in virtual time, of players who move some entities all the time and watch those of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use peerflock::test_utils::VirtualNetwork;
use peerflock::{Change, EntityId, Event, Identity, KindId, MeshTime, Orphan, PeerMesh, PeerMeshBuilder, Value, WorldEvent};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bodies;
use crate::experiment::Failure;
use crate::stats::Latencies;

/// Everybody's.
pub(crate) const TICK: Duration = Duration::from_millis(16);
/// Players' ticks are not in step: each has its own of so many places in a tick.
const PHASES: u32 = 16;
const TRANSFORM: KindId = KindId(0);
/// Until all must have met, and found their neighbors.
const MEETING: Duration = Duration::from_secs(30);

/// One player, and when what it sees of the others was as it sees it.
pub(crate) struct Player {
    pub(crate) mesh: PeerMesh,
    number: u32,
    own: Vec<EntityId>,
    seen: BTreeMap<EntityId, MeshTime>,
}

/// So many players with up to so many neighbors and so many entities each, all of whom have met.
pub(crate) async fn gather(
    network: &VirtualNetwork,
    members: u8,
    max_neighbors: usize,
    entities: u32,
) -> Result<Vec<Player>, Failure> {
    let first = builder(network, max_neighbors, 1).start().await.map_err(unmet)?;
    let door = first.local_addresses()[0];
    let mut starting = JoinSet::new();
    for n in 2..=members {
        let builder = builder(network, max_neighbors, n).join_address(door);
        starting.spawn(async move { (n, builder.start().await) });
    }
    let mut meshes = BTreeMap::from([(1, first)]);
    for (n, mesh) in starting.join_all().await {
        meshes.insert(n, mesh.map_err(unmet)?);
    }
    let begun = Instant::now();
    while meshes.values().any(|mesh| mesh.members().len() < usize::from(members)) {
        if begun.elapsed() > MEETING {
            return Err(Failure::Unmet("the members do not all meet".into()));
        }
        sleep(TICK).await;
    }
    let player = |(n, mesh): (u8, PeerMesh)| {
        let own: Vec<EntityId> = (0..entities).map(|_| mesh.spawn()).collect();
        mesh.commit(own.iter().map(|&entity| Change::Spawn { entity, orphan: Orphan::Vanish }).collect());
        Player { mesh, number: n.into(), own, seen: BTreeMap::new() }
    };
    Ok(meshes.into_iter().map(player).collect())
}

/// A tick: everybody moves, and looks, each at its own moment. What is no state goes to `hear`.
pub(crate) async fn play(players: &mut [Player], begun: Instant, mut ages: Option<&mut Latencies>, mut hear: impl FnMut(Event)) {
    for phase in 0..PHASES {
        sleep_until(Instant::now() + TICK / PHASES).await;
        let seconds = begun.elapsed().as_secs_f32();
        for player in players.iter_mut().filter(|player| player.number * 7 % PHASES == phase) {
            let bodies = (player.number * 100..).zip(&player.own);
            let moved = bodies.map(|(body, &entity)| {
                let value = Value::fields(bodies::transform(body, seconds));
                Change::Set { entity, kind: TRANSFORM, value }
            });
            player.mesh.commit(moved.collect());
            for event in player.mesh.try_events() {
                if let Event::World(WorldEvent::Set { entity, at, .. }) = event {
                    let newest = player.seen.entry(entity).or_insert(at);
                    *newest = at.max(*newest);
                } else {
                    hear(event);
                }
            }
            if let Some(ages) = &mut ages {
                let now = player.mesh.now();
                player.seen.values().for_each(|at| ages.add(now.since(*at)));
            }
        }
    }
}

fn builder(network: &VirtualNetwork, max_neighbors: usize, n: u8) -> PeerMeshBuilder {
    PeerMesh::named("content")
        .secret([42; 32])
        .identity(Identity::from_seed([n; 32]))
        .seed([n; 32])
        .max_neighbors(max_neighbors)
        .registry(bodies::registry())
        .lan(false)
        .socket(network.socket())
}

/// What went wrong, for whoever asked for figures.
pub(crate) fn unmet(error: impl std::fmt::Display) -> Failure {
    Failure::Unmet(error.to_string())
}
