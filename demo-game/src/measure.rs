//! What a headless run measures in each of its processes, while it is played.
//!
//! *Age of state*: in every tick, for every other player, how long ago the newest state that has arrived left its owner's
//! tick. The leaders of a measured run carry their owner's wall clock for that, and all processes of a run share one machine, so
//! the age counts everything between the two ticks, and no error of a clock.
//!
//! *Stalls*: the longest time in which nothing new came from another player, and the longest in which any bird stood still.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::chat::{Said, Say};
use crate::game::Quiet;
use crate::players::Players;
use crate::report::{Ages, PeerReport};
use crate::settings::Settings;
use crate::trade::Trades;
use crate::world::{Bird, ChatLine, Pulse};

/// Most chat lines remembered per speaker.
const LINES_MAX: usize = 10_000;
/// Less than this is no movement, in world units.
const STILL: f32 = 0.05;
/// How often the links are asked how much they carry, in seconds.
const TRAFFIC_LOOK_EVERY: f32 = 0.25;

/// Now, on the machine's clock, in milliseconds, cut to 32 bits.
pub(crate) fn wall_clock() -> u32 {
    // A clock before 1970 is no worse than any other: only differences count.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u32)
}

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Measured>()
        .add_systems(FixedPreUpdate, (hear_pulses, watch_birds).run_if(playing))
        .add_systems(Update, (listen, watch_traffic.run_if(playing), talk.run_if(playing)));
}

/// What was measured so far.
#[derive(Default, Resource)]
pub(crate) struct Measured {
    /// Seconds on the program's clock when the play began; none before.
    since: Option<f64>,
    until: Option<f64>,
    /// When to say the lines still to be said, in seconds after the begin, the last first.
    lines: Vec<f64>,
    pulses: HashMap<PeerId, Heard>,
    birds: HashMap<Entity, (Vec2, f64)>,
    standstill: f64,
    chat: BTreeMap<String, Vec<u32>>,
    wire_bytes: f64,
    payload_bytes_before: u64,
    looked: f64,
}

/// What was heard of one other player.
#[derive(Default)]
struct Heard {
    newest: u32,
    at: f64,
    silence: f64,
    ages: Ages,
}

impl Measured {
    /// Begins to measure, at `now` seconds on the program's clock; `chat` lines are to be said within `seconds`.
    pub(crate) fn begin(&mut self, now: f64, chat: u32, seconds: f64, mesh: &PeerMesh) {
        let chat_lines = (0..chat).rev().map(|line| seconds * 0.85 * (f64::from(line) + 0.5) / f64::from(chat));
        *self = Self {
            since: Some(now),
            lines: chat_lines.collect(),
            chat: std::mem::take(&mut self.chat),
            payload_bytes_before: payload_bytes(mesh),
            looked: now,
            ..Self::default()
        };
    }

    /// Ends it.
    pub(crate) fn end(&mut self, now: f64) {
        self.until = Some(now);
    }

    /// What it came to.
    pub(crate) fn report(
        &self,
        mesh: &PeerMesh,
        players: &Players,
        settings: &Settings,
        said: &Said,
        trades: &Trades,
    ) -> PeerReport {
        let metrics = mesh.metrics();
        let counters = &metrics.counters;
        let name = |peer: &PeerId| peer.to_string();
        PeerReport {
            peer: mesh.id().to_string(),
            name: settings.name.clone(),
            members: players.len(),
            state_hash: metrics.state_hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            entities: metrics.entity_count,
            birds: players.birds(),
            birds_own: players.me().map_or(0, |me| me.birds),
            birds_given: trades.given,
            birds_received: trades.received,
            seconds: self.since.zip(self.until).map_or(0.0, |(since, until)| until - since),
            ages: self.pulses.iter().map(|(peer, heard)| (name(peer), heard.ages.clone())).collect(),
            longest_silence_ms: self.pulses.iter().map(|(peer, heard)| (name(peer), millis(heard.silence))).collect(),
            longest_standstill_ms: millis(self.standstill),
            chat_sent: said.0,
            chat_received: self.chat.clone(),
            wire_bytes_sent: self.wire_bytes as u64,
            payload_bytes_sent: payload_bytes(mesh).saturating_sub(self.payload_bytes_before),
            state_packets_first: counters.state_packets_first,
            state_packets_duplicate: counters.state_packets_duplicate,
            links_max: counters.links_max,
            violations: counters.violations,
            events_dropped: metrics.events_dropped,
        }
    }
}

fn playing(measured: Res<Measured>, quiet: Res<Quiet>) -> bool {
    measured.since.is_some() && !quiet.0
}

fn hear_pulses(
    time: Res<Time<Real>>,
    settings: Res<Settings>,
    players: Res<Players>,
    pulses: Query<(&Owner, Ref<Pulse>), Without<Mine>>,
    mut measured: ResMut<Measured>,
) {
    let (now, wall_clock) = (time.elapsed_secs_f64(), wall_clock());
    // Whoever left is judged by what came before.
    measured.pulses.retain(|peer, _| players.get(*peer).is_some());
    for (owner, pulse) in &pulses {
        let heard = measured.pulses.entry(owner.0).or_insert_with(|| Heard { at: now, ..Heard::default() });
        if heard.newest != pulse.0 {
            (heard.newest, heard.at) = (pulse.0, now);
        }
        heard.silence = heard.silence.max(now - heard.at);
        // A stamp made in the same millisecond by a clock that was set back a little is no age of 49 days.
        let age = wall_clock.wrapping_sub(pulse.0).cast_signed().max(0);
        heard.ages.add(f64::from(age) * settings.tick_rate / 1_000.0);
    }
}

fn watch_birds(time: Res<Time<Real>>, birds: Query<(Entity, &Transform), With<Bird>>, mut measured: ResMut<Measured>) {
    let now = time.elapsed_secs_f64();
    let Measured { birds: seen, standstill, .. } = &mut *measured;
    seen.retain(|bird, _| birds.contains(*bird));
    for (bird, transform) in &birds {
        let place = transform.translation.truncate();
        let (before, since) = seen.entry(bird).or_insert((place, now));
        if place.distance_squared(*before) > STILL * STILL {
            (*before, *since) = (place, now);
        }
        *standstill = standstill.max(now - *since);
    }
}

fn listen(mut heard: MessageReader<FromMesh<ChatLine>>, mut measured: ResMut<Measured>) {
    for line in heard.read() {
        let numbers = measured.chat.entry(line.from.to_string()).or_default();
        if numbers.len() < LINES_MAX {
            numbers.push(line.message.number);
        }
    }
}

fn watch_traffic(time: Res<Time<Real>>, mesh: Res<MeshHandle>, mut measured: ResMut<Measured>) {
    let now = time.elapsed_secs_f64();
    let passed = now - measured.looked;
    if passed >= f64::from(TRAFFIC_LOOK_EVERY) {
        let rate: f64 = mesh.metrics().links.iter().map(|link| link.bytes_sent_per_second).sum();
        measured.wire_bytes += rate * passed;
        measured.looked = now;
    }
}

fn talk(
    time: Res<Time<Real>>,
    settings: Res<Settings>,
    said: Res<Said>,
    mut measured: ResMut<Measured>,
    mut say: MessageWriter<Say>,
) {
    let elapsed = time.elapsed_secs_f64() - measured.since.unwrap_or_default();
    if measured.lines.last().is_some_and(|next| *next <= elapsed) {
        measured.lines.pop();
        say.write(Say(format!("line {} of {}", said.0 + 1, settings.name)));
    }
}

fn payload_bytes(mesh: &PeerMesh) -> u64 {
    let counters = mesh.metrics().counters;
    counters.datagram_bytes_sent + counters.frame_bytes_sent
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1_000.0) as u64
}
