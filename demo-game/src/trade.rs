//! Birds change hands: the small flock's when it is brushed, everybody's when a round begins. Only the owner gives.

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::brush::{self, LOSSES_PER_SECOND, Stranger};
use crate::flock::{Flight, FlockSystems};
use crate::game::Playing;
use crate::players::Players;
use crate::round::Round;
use crate::world::{Bird, Leader, SKY};

/// How long after the end of a round the winner counts itself, in seconds: by then everybody sees the same birds.
const COUNT_AFTER: f32 = 2.0;

/// What changed hands here so far.
#[derive(Debug, Default, Resource)]
pub(crate) struct Trades {
    /// Birds that we gave away.
    pub(crate) given: u64,
    /// Birds that became ours, those that hatched here included.
    pub(crate) received: u64,
}

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Trades>().add_systems(
        FixedUpdate,
        (receive, let_go.run_if(|round: Res<Round>| !round.rests()), deal, count_win).chain().after(FlockSystems).in_set(Playing),
    );
}

fn receive(new: Query<(), (With<Bird>, Added<Mine>)>, mut trades: ResMut<Trades>) {
    trades.received += new.iter().count() as u64;
}

/// Lets those of our birds go that a larger flock has brushed.
fn let_go(
    mut commands: Commands,
    time: Res<Time>,
    mut allowance: Local<f32>,
    players: Res<Players>,
    ours: Query<(Entity, &Transform, &Flight), (With<Bird>, With<Mine>)>,
    theirs: Query<(&Owner, &Transform, Has<Leader>), (Or<(With<Bird>, With<Leader>)>, Without<Mine>)>,
    mut trades: ResMut<Trades>,
) {
    *allowance = (*allowance + LOSSES_PER_SECOND * time.delta_secs()).min(2.0);
    let settled: Vec<(Entity, Vec2)> = ours
        .iter()
        .filter(|(.., flight)| flight.settling <= 0.0)
        .map(|(entity, transform, _)| (entity, transform.translation.truncate()))
        .collect();
    if *allowance < 1.0 || settled.is_empty() {
        return;
    }
    let strangers: Vec<Stranger> = theirs
        .iter()
        .filter_map(|(owner, transform, leads)| {
            Some(Stranger { position: transform.translation.truncate(), flock: players.index(owner.0)?, leads })
        })
        .collect();
    let sizes: Vec<usize> = players.iter().map(|player| player.birds).collect();
    let places: Vec<Vec2> = settled.iter().map(|(_, place)| *place).collect();
    for (bird, flock) in brush::defectors(ours.iter().len(), &places, &strangers, &sizes, SKY, *allowance as usize) {
        let Some(to) = players.iter().nth(flock) else { continue };
        commands.entity(settled[bird].0).give_to(to.peer);
        *allowance -= 1.0;
        trades.given += 1;
    }
}

/// Deals the birds out anew when a round begins: everybody computes the same, and gives what it has too many.
fn deal(
    mut commands: Commands,
    round: Res<Round>,
    mut known: Local<Option<u64>>,
    players: Res<Players>,
    ours: Query<Entity, (With<Bird>, With<Mine>)>,
    mut trades: ResMut<Trades>,
) {
    // Whoever comes into a round that runs deals nothing.
    if known.replace(round.number).is_none_or(|before| before == round.number) {
        return;
    }
    let flocks: Vec<_> = players.iter().filter(|player| player.leader.is_some()).collect();
    let sizes: Vec<usize> = flocks.iter().map(|player| player.birds).collect();
    let mut birds = ours.iter();
    for (from, to, count) in brush::deal(&sizes) {
        if flocks[from].me {
            for bird in birds.by_ref().take(count) {
                commands.entity(bird).give_to(flocks[to].peer);
                trades.given += 1;
            }
        }
    }
}

/// Counts a round as won, if we did: birds rest while a round ends, so that everybody sees the same winner.
fn count_win(round: Res<Round>, mut counted: Local<u64>, players: Res<Players>, mut leader: Query<&mut Leader, With<Mine>>) {
    let since = round.elapsed - (round.length - crate::round::REST_SECONDS as f32);
    if since < COUNT_AFTER || *counted == round.number {
        return;
    }
    *counted = round.number;
    if players.len() > 1 && players.winner().is_some_and(|winner| winner.me) {
        for mut leader in &mut leader {
            leader.wins = leader.wins.saturating_add(1);
        }
    }
}
