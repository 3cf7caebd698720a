//! What WCF Peer Channel was made for, each scenario as checks that a user could run, by their numbers: C1 publish and subscribe, C2
//! collaboration, C4 and C7 shared work, C5 games, C6 content, X what cuts across them. In virtual time where the protocol or a service alone can show it, with
//! real QUIC on a network in memory or on loopback where it cannot.
//! Two checks are elsewhere: C5.3, the networks of players, in the lab's `tests/networks.rs`; C5.4, the lobby with its windows, in `windows.rs`.

mod c1_publish;
mod c2_documents;
mod c2_together;
mod c5_play;
mod content;
mod hostile;
mod work;
mod x_across;

use peerflock::service::Service;
use peerflock::service::sim::ServiceSim;
use peerflock_proto::Node;
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_tests::game::{self, config, millis, seconds};

/// A mesh of `count` nodes with up to seven neighbors each, and a service on each of them.
fn services<S: Service>(options: Options, count: usize, service: impl Fn(&Node) -> S) -> ServiceSim<S> {
    remember_signatures();
    let mut sim = Sim::mesh(options, count, &config(7), seconds(30));
    sim.run(seconds(3));
    let mut services = ServiceSim::new(sim);
    for index in 0..count {
        let service = service(services.sim.node(index));
        services.start(index, service);
    }
    services
}

/// So many ticks of play, of 16 ms each.
fn play(sim: &mut Sim, players: usize, first: i32, ticks: i32) {
    for tick in 0..ticks {
        step(sim, players, first + tick);
        sim.run(millis(16));
    }
}

/// Each of the first `players` moves its first entity to `x`.
fn step(sim: &mut Sim, players: usize, x: i32) {
    (0..players).for_each(|index| game::step(sim, index, x));
}
