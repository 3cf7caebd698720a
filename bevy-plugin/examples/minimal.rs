//! The smallest game: everybody has an entity with some health, sees everybody else's, and greets whoever comes.
//!
//! Start it twice: `cargo run -p bevy_peerflock --example minimal`. There is no window; it prints what it sees, until it is stopped.
//! With `PEERFLOCK_INTERFACE=lo` the two look for each other on this machine only.
#![allow(elided_lifetimes_in_paths, clippy::print_stdout, reason = "written as games are, and printing is all it shows")]

use bevy::{app::ScheduleRunnerPlugin, prelude::*};
use bevy_peerflock::prelude::*;

#[derive(Component, serde::Serialize, serde::Deserialize)]
struct Health(u32);
#[derive(serde::Serialize, serde::Deserialize)]
struct Shout(String);

fn main() {
    let headless = MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(std::time::Duration::from_millis(10)));
    App::new()
        .add_plugins((headless, PeerflockPlugin::new(PeerMesh::named("my-game").password("hunter2"))))
        .replicate::<Transform>()
        .replicate::<Health>()
        .add_mesh_message::<Shout>()
        .add_systems(Startup, |mut commands: Commands| _ = commands.spawn((Replicated, Transform::default(), Health(100))))
        .add_systems(Update, (greet, look))
        .run();
}

fn greet(mut peers: MessageReader<PeerEvent>, mut shouts: MessageWriter<ToMesh<Shout>>) {
    peers.read().filter_map(PeerEvent::joined).for_each(|peer| _ = shouts.write(ToMesh::to(peer, Shout("hello".into()))));
}

fn look(mut shouts: MessageReader<FromMesh<Shout>>, others: Query<(&Owner, &Health), (Without<Mine>, Added<Health>)>) {
    shouts.read().for_each(|shout| println!("{} says {}", shout.from, shout.message.0));
    others.iter().for_each(|(owner, health)| println!("{} has {} health", owner.0, health.0));
}
