//! A player without hands: flies about, hunts smaller flocks, flees from larger ones, and says a few words.

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::chat::{Feed, Say};
use crate::dice::Dice;
use crate::flock::FlockSystems;
use crate::game::{Playing, Steer};
use crate::players::{Player, Players};
use crate::round::Round;
use crate::settings::Settings;
use crate::world::SKY;

/// How often a bot thinks, in seconds.
const THINK_EVERY: f32 = 0.4;
/// A flock nearer than this is worth a thought, in world units.
const NOTICE: f32 = 620.0;

/// What bots are called, one after the other.
const NAMES: [&str; 12] =
    ["Wren", "Merle", "Robin", "Jay", "Lark", "Martin", "Swift", "Linnet", "Siskin", "Pipit", "Corvin", "Phoebe"];
const GREETINGS: [&str; 6] = [
    "What a sunset!",
    "Evening, everyone.",
    "Here comes my flock.",
    "Seven neighbors, that is all it takes.",
    "Catch me if you can.",
    "Nice sky you have here.",
];
const GAINS: [&str; 4] =
    ["Welcome to the flock!", "They like it better here.", "Come along!", "Thank you, I'll take good care of them."];
const LOSSES: [&str; 4] = ["Hey, those were mine!", "Come back!", "You'll see me again.", "Traitors, all of them."];
const FAREWELLS: [&str; 3] = ["We'll look after your birds.", "Nobody is left behind.", "The flock flies on."];
const VICTORIES: [&str; 2] = ["What a round!", "The largest flock in the sky!"];

/// The name of the `index`th bot.
pub(crate) fn name(index: usize) -> String {
    let name = NAMES[index % NAMES.len()];
    if index < NAMES.len() { name.into() } else { format!("{name} {}", index / NAMES.len() + 1) }
}

/// Lets a bot steer; `talks`: and say something now and then.
pub(crate) struct BotPlugin {
    pub(crate) talks: bool,
}

impl Plugin for BotPlugin {
    fn build(&self, app: &mut App) {
        let seed = app.world().resource::<Settings>().seed;
        app.insert_resource(Mind { dice: Dice::new(seed), plan: Plan::Roam(0.0), thought: f32::MAX })
            .add_systems(FixedUpdate, (think, act).chain().before(FlockSystems).in_set(Playing));
        if self.talks {
            app.add_systems(Update, talk.run_if(resource_exists::<MeshHandle>));
        }
    }
}

/// What a bot has in mind.
#[derive(Debug, Resource)]
struct Mind {
    dice: Dice,
    plan: Plan,
    /// Seconds since it last thought.
    thought: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Plan {
    /// Wide loops over the sky, from this phase on.
    Roam(f32),
    /// Through the middle of this flock.
    Hunt(PeerId),
    /// Away from this flock.
    Flee(PeerId),
}

fn think(time: Res<Time>, players: Res<Players>, round: Res<Round>, mut mind: ResMut<Mind>) {
    mind.thought += time.delta_secs();
    let Some(me) = players.me() else { return };
    if mind.thought < THINK_EVERY {
        return;
    }
    mind.thought = 0.0;
    let luck = mind.dice.unit();
    mind.plan = match (mind.plan, tempting(me, &players), menacing(me, &players)) {
        _ if round.rests() => Plan::Roam(0.0),
        // A bot that hunts or flees tires of it after a few seconds, so that flocks spread again.
        (Plan::Hunt(_) | Plan::Flee(_), ..) if luck < 0.16 => Plan::Roam(mind.dice.between(0.0, 60.0)),
        (_, _, Some(danger)) if luck < 0.5 => Plan::Flee(danger),
        (Plan::Roam(_), Some(prey), _) if luck > 0.88 => Plan::Hunt(prey),
        (plan, ..) => plan,
    };
}

/// The nearest flock that we could win birds from.
fn tempting(me: &Player, players: &Players) -> Option<PeerId> {
    nearest(me, players, |other| other.birds > 0 && other.birds < me.birds + crate::brush::LEADER_WORTH, f32::MAX)
}

/// The nearest flock that could win birds from us, if it is near.
fn menacing(me: &Player, players: &Players) -> Option<PeerId> {
    nearest(me, players, |other| other.birds > me.birds + 10, NOTICE * 0.5)
}

fn nearest(me: &Player, players: &Players, fits: impl Fn(&Player) -> bool, within: f32) -> Option<PeerId> {
    let here = me.leader?;
    let others = players.iter().filter(|other| !other.me && fits(other));
    let distances = others.filter_map(|other| Some((other.middle?.distance(here), other.peer)));
    distances.filter(|(distance, _)| *distance < within).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, peer)| peer)
}

fn act(mut mind: ResMut<Mind>, time: Res<Time>, players: Res<Players>, settings: Res<Settings>, mut steer: ResMut<Steer>) {
    let middle = |peer| players.get(peer).and_then(|player| player.middle);
    let here = players.me().and_then(|me| me.leader).unwrap_or_default();
    *steer = match mind.plan {
        Plan::Roam(ref mut phase) => {
            *phase += time.delta_secs();
            Steer::To(loops(settings.seed, *phase))
        }
        Plan::Hunt(prey) => middle(prey).map_or(Steer::Straight, Steer::To),
        // Away, but not into a corner.
        Plan::Flee(danger) => middle(danger).map_or(Steer::Straight, |there| {
            Steer::To(here + (here - there).normalize_or(Vec2::Y) * 300.0 + (SKY.center() - here) * 0.35)
        }),
    };
}

/// Loops that never quite repeat, other ones for every seed.
fn loops(seed: u64, phase: f32) -> Vec2 {
    let mut dice = Dice::new(seed);
    let size = SKY.half_size() * Vec2::new(dice.between(0.62, 0.86), dice.between(0.55, 0.8));
    let (x, y) = (dice.between(0.16, 0.24), dice.between(0.25, 0.36));
    let (shift_x, shift_y) = (dice.between(0.0, std::f32::consts::TAU), dice.between(0.0, std::f32::consts::TAU));
    SKY.center() + size * Vec2::new((phase * x + shift_x).sin(), (phase * y + shift_y).sin())
}

/// What a bot remembers of its flock to have something to say.
#[derive(Default)]
struct Memory {
    greeted: bool,
    birds: usize,
    compared: f32,
    silent_for: f32,
    wins: u16,
}

fn talk(
    time: Res<Time>,
    players: Res<Players>,
    mut mind: ResMut<Mind>,
    mut memory: Local<Memory>,
    mut peers: MessageReader<PeerEvent>,
    feed: Res<Feed>,
    mut say: MessageWriter<Say>,
) {
    /// Between two lines of one bot, in seconds, at least.
    const PAUSE: f32 = 14.0;
    /// So many birds more or less within a few seconds are worth a word.
    const MANY: usize = 9;
    let Some(me) = players.me() else { return };
    memory.silent_for += time.delta_secs();
    memory.compared += time.delta_secs();
    let somebody_left = peers.read().any(|event| matches!(event, PeerEvent::Left { .. }));
    let dice = &mut mind.dice;
    let mut words: Option<&str> = None;
    if !memory.greeted {
        // Not all at once, and not before somebody listens.
        if players.len() > 2 && dice.unit() < time.delta_secs() * 0.3 {
            words = dice.pick(&GREETINGS).copied();
        }
    } else if memory.silent_for > PAUSE {
        if somebody_left && dice.unit() < 0.5 {
            words = dice.pick(&FAREWELLS).copied();
        } else if me.wins > memory.wins {
            words = dice.pick(&VICTORIES).copied();
        } else if memory.compared > 5.0 {
            if me.birds >= memory.birds + MANY {
                words = dice.pick(&GAINS).copied();
            } else if me.birds + MANY <= memory.birds {
                words = dice.pick(&LOSSES).copied();
            }
        }
    }
    if memory.compared > 5.0 {
        (memory.compared, memory.birds) = (0.0, me.birds);
    }
    memory.wins = me.wins;
    // What somebody just said need not be said again.
    if let Some(words) = words.filter(|words| feed.iter().rev().take(6).all(|line| line.text != *words)) {
        memory.silent_for = 0.0;
        memory.greeted = true;
        say.write(Say(words.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bot_has_a_name_of_its_own() {
        let names: std::collections::HashSet<String> = (0..100).map(name).collect();
        assert_eq!(names.len(), 100);
    }

    #[test]
    fn loops_stay_in_the_sky() {
        for seed in 0..50 {
            for phase in 0..500 {
                assert!(SKY.contains(loops(seed, phase as f32 * 0.7)));
            }
        }
    }
}
