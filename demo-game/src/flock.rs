//! Our own flock: it hatches when the mesh stands, and flies behind its leader. Nobody else's birds are moved here.

use std::collections::HashMap;

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::boids::{self, Boid};
use crate::brush::SETTLING_SECONDS;
use crate::dice::Dice;
use crate::game::{Playing, Steer};
use crate::palette;
use crate::players::Players;
use crate::settings::Settings;
use crate::world::{BIRDS_MAX, Bird, Leader, Pulse, SKY};

/// How long to look around before the own birds hatch, in seconds: by then a newcomer has seen how many there are.
const HATCH_AFTER: f32 = 0.6;
/// How often a leader looks whether somebody else has its color, in seconds.
const COLOR_LOOK_EVERY: f32 = 1.0;

/// How one of our own birds, or our leader, flies. Stays behind, and means nothing, where a bird was given away.
#[derive(Clone, Component, Copy, Debug)]
pub(crate) struct Flight {
    /// In world units per second.
    pub(crate) velocity: Vec2,
    /// Where it was a tick ago.
    pub(crate) previous: Vec2,
    /// For how long it will not change sides, in seconds.
    pub(crate) settling: f32,
}

pub(crate) fn plugin(app: &mut App) {
    app.add_systems(
        FixedUpdate,
        (begin, hatch, take_up, fly_leader, fly_birds, stamp, keep_apart_in_color).chain().in_set(FlockSystems).in_set(Playing),
    );
}

/// Our own flock hatches and flies.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, SystemSet)]
pub(crate) struct FlockSystems;

/// The birds that are still to hatch.
#[derive(Resource)]
struct Eggs(Timer);

fn begin(mut commands: Commands, mesh: Res<MeshHandle>, settings: Res<Settings>, leaders: Query<(), (With<Leader>, With<Mine>)>) {
    if !leaders.is_empty() || settings.watch {
        return;
    }
    let home = home(&mesh, settings.seed);
    let facing = Quat::from_rotation_z((-home).to_angle());
    let leader = commands
        .spawn((
            Replicated,
            Leader { color: palette::wish(mesh.id()), wins: 0 },
            Transform::from_translation(home.extend(0.0)).with_rotation(facing),
        ))
        .id();
    if settings.measured {
        commands.entity(leader).insert(Pulse::default());
    }
    commands.insert_resource(Eggs(Timer::from_seconds(HATCH_AFTER, TimerMode::Once)));
}

fn hatch(
    mut commands: Commands,
    time: Res<Time>,
    eggs: Option<ResMut<Eggs>>,
    mesh: Res<MeshHandle>,
    settings: Res<Settings>,
    birds: Query<(), With<Bird>>,
) {
    let Some(mut eggs) = eggs else { return };
    if !eggs.0.tick(time.delta()).just_finished() {
        return;
    }
    commands.remove_resource::<Eggs>();
    let home = home(&mesh, settings.seed);
    let mut dice = dice(&mesh, settings.seed);
    for _ in 0..settings.birds.min(BIRDS_MAX.saturating_sub(birds.iter().count())) {
        let place = home + Vec2::from_angle(dice.between(0.0, std::f32::consts::TAU)) * dice.unit().sqrt() * 110.0;
        let facing = Quat::from_rotation_z((-home).to_angle() + dice.between(-0.5, 0.5));
        commands.spawn((
            Replicated,
            Adoptable,
            Bird { plumage: dice.throw() as u8 },
            Transform::from_translation(place.clamp(SKY.min, SKY.max).extend(0.0)).with_rotation(facing),
        ));
    }
}

/// Gets ready to fly what has become ours: hatched, given or adopted.
fn take_up(mut commands: Commands, new: Query<(Entity, &Transform), (Added<Mine>, Or<(With<Bird>, With<Leader>)>)>) {
    for (entity, transform) in &new {
        let position = transform.translation.truncate();
        let facing = (transform.rotation * Vec3::X).truncate().normalize_or(Vec2::X);
        let velocity = facing * boids::SPEED_CRUISE;
        commands.entity(entity).insert(Flight { velocity, previous: position, settling: SETTLING_SECONDS });
    }
}

fn fly_leader(time: Res<Time>, steer: Res<Steer>, mut leader: Query<(&mut Transform, &mut Flight), (With<Leader>, With<Mine>)>) {
    for (mut transform, mut flight) in &mut leader {
        let mut boid = boid(&transform, &flight, 0.0);
        let target = match *steer {
            Steer::Straight => None,
            Steer::Along(direction) => Some(boid.position + direction.normalize_or_zero() * 400.0),
            Steer::To(place) => Some(place),
        };
        boids::lead(&mut boid, target, SKY, time.delta_secs());
        land(boid, &mut transform, &mut flight);
    }
}

fn fly_birds(
    time: Res<Time>,
    leader: Query<(&Transform, &Flight), (With<Leader>, With<Mine>, Without<Bird>)>,
    mut birds: Query<(&mut Transform, &mut Flight, &Bird), With<Mine>>,
) {
    let leader = leader.iter().next().map(|(transform, flight)| boid(transform, flight, 0.0));
    let mut flock: Vec<Boid> =
        birds.iter().map(|(transform, flight, bird)| boid(transform, flight, f32::from(bird.plumage) / 255.0)).collect();
    boids::step(&mut flock, leader, SKY, time.elapsed_secs(), time.delta_secs());
    for ((mut transform, mut flight, _), boid) in birds.iter_mut().zip(flock) {
        flight.settling = (flight.settling - time.delta_secs()).max(0.0);
        land(boid, &mut transform, &mut flight);
    }
}

fn boid(transform: &Transform, flight: &Flight, trail: f32) -> Boid {
    Boid { position: transform.translation.truncate(), velocity: flight.velocity, trail }
}

fn land(boid: Boid, transform: &mut Transform, flight: &mut Flight) {
    flight.previous = transform.translation.truncate();
    flight.velocity = boid.velocity;
    transform.translation = boid.position.extend(0.0);
    transform.rotation = Quat::from_rotation_z(boid.velocity.to_angle());
}

/// Says in a measured run when we last ticked.
fn stamp(mut pulse: Query<&mut Pulse, With<Mine>>) {
    for mut pulse in &mut pulse {
        pulse.0 = crate::measure::wall_clock();
    }
}

/// Takes another color where somebody with a smaller identifier has ours: so all settle, and nobody decides for others.
fn keep_apart_in_color(
    time: Res<Time>,
    mut since: Local<f32>,
    players: Res<Players>,
    mut leaders: Query<(&Owner, &mut Leader, Has<Mine>)>,
) {
    *since += time.delta_secs();
    if *since < COLOR_LOOK_EVERY {
        return;
    }
    *since = 0.0;
    let taken: HashMap<PeerId, u8> =
        leaders.iter().filter(|(.., mine)| !mine).map(|(owner, leader, _)| (owner.0, leader.color)).collect();
    let Some(me) = players.me().map(|me| me.peer) else { return };
    for (_, mut leader, _) in leaders.iter_mut().filter(|(.., mine)| *mine) {
        if taken.iter().any(|(peer, color)| *peer < me && *color == leader.color) {
            let color = palette::choose(palette::wish(me), leader.color, taken.values().copied());
            let wins = leader.wins;
            leader.set_if_neq(Leader { color, wins });
        }
    }
}

/// Where our flock starts: everybody somewhere else.
fn home(mesh: &PeerMesh, seed: u64) -> Vec2 {
    let mut dice = dice(mesh, seed);
    let inside = SKY.inflate(-160.0);
    Vec2::new(dice.between(inside.min.x, inside.max.x), dice.between(inside.min.y, inside.max.y))
}

/// Chance of our own: our identifier is in it, so that players with one seed do not do all the same.
fn dice(mesh: &PeerMesh, seed: u64) -> Dice {
    let [a, b, c, d, e, f, g, h, ..] = mesh.id().0;
    Dice::new(seed ^ u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}
