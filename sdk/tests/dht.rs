//! A Mainline DHT of our own on 127.0.0.1, and players that share only a name and a password.

#![cfg(feature = "dht")]

use std::time::Duration;

use mainline::Testnet;
use peerflock::resolve::DhtOptions;
use peerflock::{PeerMesh, PeerMeshBuilder};
use tokio::time::{Instant, sleep};

fn builder(password: &str, bootstrap: &[String]) -> PeerMeshBuilder {
    let options = DhtOptions { bootstrap: bootstrap.to_vec(), ..DhtOptions::default() };
    PeerMesh::named("a game on the dht").password(password).loopback_only().lan(false).dht(options)
}

#[tokio::test]
async fn two_that_share_name_and_password_meet_on_fifty_machines_and_a_stranger_does_not() {
    let network = tokio::task::spawn_blocking(|| Testnet::builder(50).build()).await.unwrap().unwrap();
    let bootstrap: Vec<String> = network.bootstrap.clone();
    let started = Instant::now();
    let starting = [builder("hunter2", &bootstrap), builder("hunter2", &bootstrap), builder("hunter3", &bootstrap)]
        .map(|builder| tokio::spawn(builder.start()));
    let mut meshes = Vec::new();
    for mesh in starting {
        meshes.push(mesh.await.unwrap().unwrap());
    }
    while meshes[0].members().len() < 2 || meshes[1].members().len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(10), "not within ten seconds: {:?}", meshes[0].resolvers());
        sleep(Duration::from_millis(20)).await;
    }
    // The stranger had as long.
    assert_eq!((meshes[2].members().len(), meshes[0].members().len()), (1, 2));
    assert_eq!(meshes[2].resolvers()[0].found.unwrap_or(0), 0);
}

#[tokio::test]
async fn on_loopback_the_world_is_not_asked() {
    for bootstrap in [vec![], vec!["router.bittorrent.com:6881".to_owned()], vec!["192.0.2.1:6881".to_owned()]] {
        let mesh = builder("x", &bootstrap).start().await.unwrap();
        let report = mesh.resolvers().remove(0);
        assert!(report.failure.is_some_and(|failure| failure.contains("stay on this machine")), "{bootstrap:?}");
    }
}
