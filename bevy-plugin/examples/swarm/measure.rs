//! What one process measures while the scene is played, by the same code on every stack: it looks at components only.
//!
//! *Age of state*: in every frame, for every other owner, how long ago the newest tick that has arrived was played. It counts
//! everything between the two: waiting for the owner's end of frame, the way, and waiting for our frame.
//!
//! *Updates*: how many different transforms were seen of some bodies. Whoever sends less shows less.

use std::collections::BTreeSet;
use std::time::Duration;

use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use super::ages::Ages;
use super::cpu::CpuClock;
use super::part::{LINGER, Part, SETTLE, clock_micros};
use super::scene::{Body, Health, Stamp, Ticks, resting};

/// So many of the bodies that others move are watched for updates, or a few more.
const WATCHED: u32 = 16;

/// What begins the line that says where others join.
pub(crate) const JOIN: &str = "join: ";

/// On a body that is watched for updates: its `Transform` is to be what arrived, not what a stack makes of it for the eye.
#[derive(Clone, Copy, Component, Debug)]
pub(crate) struct Watched(Transform);

/// What a process found. Of several, [`Found::add`] makes one.
#[derive(Clone, Debug, Default, Deserialize, Resource, Serialize)]
pub(crate) struct Found {
    /// Bodies that it moved.
    pub(crate) own: u32,
    /// Bodies of others that it saw.
    pub(crate) seen: u32,
    /// Bodies that came to rest where they should, its own among them.
    pub(crate) at_rest: u32,
    /// How long it measured, by its own frames.
    pub(crate) seconds: f64,
    /// Its fixed ticks.
    pub(crate) ticks: u64,
    /// Its frames.
    pub(crate) frames: u64,
    /// How many bodies it watched, how many different transforms it saw of those.
    pub(crate) watched: u32,
    pub(crate) updates: u64,
    /// What it used, where the system tells.
    pub(crate) cpu_ms: Option<f64>,
    /// How old what it saw was.
    pub(crate) ages: Ages,
}

/// Adds the measuring to an app, which then ends by itself and prints one line of JSON.
pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Found>()
        .init_resource::<Stage>()
        .add_systems(PreUpdate, watch_some.run_if(not(measuring)))
        .add_systems(Update, (look.run_if(measuring), pass).chain());
}

/// Says where others can join.
pub(crate) fn announce(place: &str) {
    say(&format!("{JOIN}{place}"));
}

/// Prints to standard output.
#[allow(clippy::print_stdout, reason = "what a program was run for")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Prints to standard error.
#[allow(clippy::print_stderr, reason = "a program that says why it failed")]
pub(crate) fn complain(text: &str) {
    eprintln!("{text}");
}

/// How far the run is.
#[derive(Default, Resource)]
enum Stage {
    #[default]
    WarmUp,
    Measuring(Begun),
    Settling,
    Told,
}

/// What the counters were at the beginning.
struct Begun {
    cpu: CpuClock,
    at: u64,
    ticks: u64,
}

fn measuring(stage: Res<Stage>) -> bool {
    matches!(*stage, Stage::Measuring(_))
}

/// Some of all that came, from whomever it came.
fn watch_some(
    mut commands: Commands,
    part: Res<Part>,
    mut came: Local<u32>,
    new: Query<(Entity, &Transform), (Added<Health>, Without<Body>)>,
) {
    let every = part.others().unwrap_or(WATCHED).div_ceil(WATCHED).max(1);
    for (body, transform) in &new {
        if came.is_multiple_of(every) {
            commands.entity(body).insert(Watched(*transform));
        }
        *came += 1;
    }
}

fn look(mut found: ResMut<Found>, stamps: Query<&Stamp, Without<Body>>, mut watched: Query<(&Transform, &mut Watched)>) {
    found.frames += 1;
    stamps.iter().for_each(|stamp| found.ages.add(stamp.age()));
    for (transform, mut before) in &mut watched {
        if before.0 != *transform {
            before.0 = *transform;
            found.updates += 1;
        }
    }
}

fn pass(
    part: Res<Part>,
    ticks: Res<Ticks>,
    mut stage: ResMut<Stage>,
    mut found: ResMut<Found>,
    mut exit: MessageWriter<AppExit>,
    bodies: Query<(&Transform, &Health, Has<Body>)>,
    mut watched: Query<(&Transform, &mut Watched)>,
) {
    let now = clock_micros();
    let end = part.end_micros();
    let after = |wait: Duration| now >= end + wait.as_micros() as u64;
    match &*stage {
        Stage::WarmUp if now >= part.begin_micros() => {
            watched.iter_mut().for_each(|(transform, mut before)| before.0 = *transform);
            *stage = Stage::Measuring(Begun { cpu: CpuClock::start(), at: now, ticks: ticks.0 });
        }
        Stage::Measuring(begun) if now >= end => {
            found.cpu_ms = begun.cpu.spent_ms();
            found.seconds = (now - begun.at) as f64 / 1e6;
            found.ticks = ticks.0 - begun.ticks;
            found.own = part.entities;
            found.seen = bodies.iter().filter(|(.., own)| !own).count() as u32;
            found.watched = watched.iter().count() as u32;
            *stage = Stage::Settling;
        }
        Stage::Settling if after(SETTLE) => {
            let at_rest: BTreeSet<u32> = bodies.iter().filter_map(|(transform, health, _)| resting(transform, *health)).collect();
            found.at_rest = at_rest.len() as u32;
            // What is made of numbers and lists alone has no way to fail.
            say(&serde_json::to_string(&*found).unwrap_or_default());
            *stage = Stage::Told;
        }
        Stage::Told if after(SETTLE + LINGER) => _ = exit.write(AppExit::Success),
        _ => {}
    }
}
