//! What WCF Peer Channel was made for, each scenario as checks that a user could run, by their numbers: C1 publish and subscribe, C2
//! collaboration, C5 games, C7 load, X what cuts across them. In virtual time where the protocol or a service alone can show it, with
//! real QUIC on a network in memory or on loopback where it cannot.

mod c1_publish;
mod c2_documents;

use std::time::Duration;

use peerflock::service::Service;
use peerflock::service::sim::ServiceSim;
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{Config, NeighborLimits, Node};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn config(neighbors_max: usize) -> Config {
    Config { neighbors: NeighborLimits::with_max(neighbors_max), ..Config::default() }
}

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
