//! Rooms full of people who press Start, leave, die and come back from games, in virtual time, from seeds: none of them gets stuck.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Seeds of stories; each is another one.
const SEEDS: u64 = 600;
/// How long a story goes on before all is left to come to rest.
const STORY: Duration = Duration::from_secs(120);

/// Members at one time, and in one story.
const ALIVE_MAX: usize = 8;
const LOBBIES_MAX: usize = 40;

/// Repeatable numbers; not for anything but tests.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Where somebody was when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Room,
    Asking,
    Countdown,
    Opening,
    HandOver,
    Game,
    Return,
}

struct Lobby {
    starting: Starting,
    alive: bool,
    ready: bool,
    /// Since when in which game, and until when.
    game: Option<([u8; 32], Duration, Duration)>,
    back_at: Option<Duration>,
}

enum News {
    Message(usize, StartMessage),
    Left(PeerId),
    Came(PeerId),
    Opened(u64),
}

struct Story {
    seed: u64,
    dice: Dice,
    begin: Instant,
    now: Duration,
    lobbies: Vec<Lobby>,
    /// When, a number to keep equal moments in order, to whom.
    news: BTreeMap<(Duration, u64, usize), News>,
    count: u64,
    /// From whom to whom: what is said arrives in order.
    last: BTreeMap<(usize, usize), Duration>,
    handover: Handover,
    rounds: u64,
    joins: BTreeMap<[u8; 32], BTreeSet<usize>>,
    died: BTreeSet<Moment>,
    canceled: u64,
}

fn peer(index: usize) -> PeerId {
    PeerId([index as u8 + 1; 32])
}

impl Lobby {
    fn new(index: usize) -> Self {
        Self { starting: Starting::new(peer(index)), alive: true, ready: true, game: None, back_at: None }
    }
}

impl Story {
    fn new(seed: u64, handover: &Handover) -> Self {
        let mut dice = Dice(seed);
        let count = 2 + dice.below(5) as usize;
        Self {
            seed,
            dice,
            begin: Instant::now(),
            now: Duration::ZERO,
            lobbies: (0..count).map(Lobby::new).collect(),
            news: BTreeMap::new(),
            count: 0,
            last: BTreeMap::new(),
            handover: handover.clone(),
            rounds: 0,
            joins: BTreeMap::new(),
            died: BTreeSet::new(),
            canceled: 0,
        }
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.lobbies.len()).filter(|index| self.lobbies[*index].alive).collect()
    }

    fn later(&mut self, at: Duration, to: usize, news: News) {
        self.count += 1;
        self.news.insert((at, self.count, to), news);
    }

    fn propose(&mut self, index: usize) -> Vec<StartAction> {
        self.rounds += 1;
        let others = self.alive().into_iter().filter(|other| *other != index);
        let others: Vec<(PeerId, bool)> = others.map(|other| (peer(other), self.lobbies[other].ready)).collect();
        let now = self.begin + self.now;
        self.lobbies[index].starting.propose(self.rounds, &others, now)
    }

    /// Does what a lobby wants done.
    fn act(&mut self, index: usize, actions: Vec<StartAction>) {
        for action in actions {
            match action {
                StartAction::Send(to, message) => {
                    for other in self.alive() {
                        if other != index && (to == Target::All || to == Target::One(peer(other))) {
                            let last = self.last.get(&(index, other)).copied().unwrap_or_default();
                            let at = last.max(self.now + Duration::from_millis(5 + self.dice.below(300)));
                            self.last.insert((index, other), at);
                            self.later(at, other, News::Message(index, message.clone()));
                        }
                    }
                }
                StartAction::Open => {
                    let at = self.now + Duration::from_millis(200 + self.dice.below(6_000));
                    self.later(at, index, News::Opened(self.rounds));
                }
                StartAction::Join(handover) => self.play(index, handover.secret),
                StartAction::Off(WhyNot::Canceled(_)) => self.canceled += 1,
                StartAction::Waiting(_) | StartAction::Counting(_) | StartAction::Off(_) => {}
            }
        }
    }

    fn play(&mut self, index: usize, secret: [u8; 32]) {
        let until = self.now + Duration::from_millis(500 + self.dice.below(20_000));
        let lobby = &mut self.lobbies[index];
        (lobby.ready, lobby.game) = (false, Some((secret, self.now, until)));
        self.joins.entry(secret).or_default().insert(index);
    }

    fn kill(&mut self, index: usize) {
        let lobby = &self.lobbies[index];
        let moment = match (&lobby.starting.stage, &lobby.game) {
            (Stage::Asking { .. }, _) => Moment::Asking,
            (Stage::Counting { .. }, _) => Moment::Countdown,
            (Stage::Opening { .. }, _) => Moment::Opening,
            (_, Some((_, since, _))) if self.now - *since < Duration::from_millis(300) => Moment::HandOver,
            (_, Some(_)) => Moment::Game,
            (_, None) if lobby.back_at.is_some_and(|back| self.now - back < Duration::from_secs(2)) => Moment::Return,
            _ => Moment::Room,
        };
        self.died.insert(moment);
        self.lobbies[index].alive = false;
        // What it said last reaches some and not others.
        let on_the_way = self.news.iter().filter(|(_, news)| matches!(news, News::Message(from, _) if *from == index));
        for key in on_the_way.map(|(key, _)| *key).collect::<Vec<_>>() {
            if self.dice.chance(50) {
                self.news.remove(&key);
            }
        }
        for other in self.alive() {
            let at = self.now + Duration::from_millis(100 + self.dice.below(2_000));
            self.later(at, other, News::Left(peer(index)));
        }
    }

    /// One more comes in.
    fn come(&mut self) {
        let newcomer = self.lobbies.len();
        for other in self.alive() {
            let at = self.now + Duration::from_millis(10 + self.dice.below(1_000));
            self.later(at, other, News::Came(peer(newcomer)));
        }
        self.lobbies.push(Lobby::new(newcomer));
    }

    fn deliver(&mut self, to: usize, news: News) {
        let now = self.begin + self.now;
        let lobby = &mut self.lobbies[to];
        if !lobby.alive {
            return;
        }
        let actions = match news {
            News::Message(from, message) => lobby.starting.hear(peer(from), message, lobby.ready, now),
            News::Left(gone) => lobby.starting.roster_changed(gone, true),
            News::Came(newcomer) => lobby.starting.roster_changed(newcomer, false),
            News::Opened(_) if self.dice.chance(10) => lobby.starting.failed("the game is not installed"),
            News::Opened(round) => {
                let mut handover = self.handover.clone();
                handover.secret[..8].copy_from_slice(&round.to_le_bytes());
                let secret = handover.secret;
                let actions = lobby.starting.opened(handover);
                if !actions.is_empty() {
                    self.play(to, secret);
                }
                actions
            }
        };
        self.act(to, actions);
    }

    /// A fiftieth of a second: what arrives, what is due, and what people do.
    fn step(&mut self, people: bool) {
        self.now += Duration::from_millis(20);
        while let Some(entry) = self.news.first_entry() {
            let (at, _, to) = *entry.key();
            if at > self.now {
                break;
            }
            let news = entry.remove();
            self.deliver(to, news);
        }
        for index in self.alive() {
            let lobby = &mut self.lobbies[index];
            if lobby.game.is_some_and(|(.., until)| self.now >= until) {
                (lobby.game, lobby.ready, lobby.back_at) = (None, true, Some(self.now));
                lobby.starting.game_over();
            }
            let actions = self.lobbies[index].starting.tick(self.begin + self.now);
            self.act(index, actions);
        }
        if !people {
            return;
        }
        let alive = self.alive();
        let who = alive[self.dice.below(alive.len() as u64) as usize];
        if self.dice.chance(2) && self.lobbies[who].game.is_none() {
            let actions = self.propose(who);
            self.act(who, actions);
        }
        if self.dice.below(1_000) < 2 {
            let actions = self.lobbies[who].starting.cancel();
            self.act(who, actions);
        }
        if self.dice.below(1_000) < 2 && self.lobbies[who].game.is_none() {
            let friend = alive[self.dice.below(alive.len() as u64) as usize];
            let actions = if friend == who { Vec::new() } else { self.lobbies[who].starting.knock(peer(friend)) };
            self.act(who, actions);
        }
        // Those in the middle of something die more often: that is what this is about.
        let busy = self.lobbies[who].starting.is_under_way() || self.lobbies[who].game.is_some();
        if alive.len() > 1 && self.dice.below(10_000) < if busy { 12 } else { 3 } {
            self.kill(who);
        }
        if alive.len() < ALIVE_MAX && self.lobbies.len() < LOBBIES_MAX && self.dice.below(10_000) < 10 {
            self.come();
        }
    }

    fn run(&mut self) {
        while self.now < STORY {
            self.step(true);
        }
        // Longer than the longest wait; most of it in great strides.
        let end = self.now + OPEN_DEADLINE + Duration::from_secs(30);
        while self.now < end {
            self.now += if self.news.is_empty() { Duration::from_secs(1) } else { Duration::ZERO };
            self.step(false);
        }
    }
}

/// Whoever dies, wherever the room is: those who stay come to rest, and can start the next game together.
#[test]
fn no_room_is_ever_stuck() {
    let mesh = peerflock::PeerMesh::named("fuzz").loopback_only().lan(false).start_in_background().wait().unwrap();
    let handover = Handover::new("fuzz", [0; 32], mesh.ticket().to_string());
    let (mut died, mut games, mut in_company, mut canceled) = (BTreeSet::new(), 0, 0, 0);
    for seed in 0..SEEDS {
        let mut story = Story::new(seed, &handover);
        story.run();
        let (alive, seed) = (story.alive(), story.seed);
        for index in &alive {
            let lobby = &story.lobbies[*index];
            assert!(!lobby.starting.is_under_way(), "seed {seed}: {index} of {alive:?} still waits: {:?}", lobby.starting);
            assert!(lobby.ready && lobby.game.is_none(), "seed {seed}: {index} is not back");
        }
        games += story.joins.len();
        canceled += story.canceled;
        in_company += u64::from(alive.len() > 1);
        died.append(&mut story.died);
        // The next round, by whoever is left: all of them, in one game.
        let before: BTreeSet<[u8; 32]> = story.joins.keys().copied().collect();
        let starter = alive[story.dice.below(alive.len() as u64) as usize];
        for _ in 0..40 {
            if story.joins.len() > before.len() {
                break;
            }
            let actions = story.propose(starter);
            story.act(starter, actions);
            // The countdown, the longest opening, and the way of the news.
            (0..700).for_each(|_| story.step(false));
        }
        let new: Vec<&BTreeSet<usize>> =
            story.joins.iter().filter(|(secret, _)| !before.contains(*secret)).map(|(_, who)| who).collect();
        assert_eq!(new, [&alive.iter().copied().collect::<BTreeSet<usize>>()], "seed {seed}: all who are left play together");
    }
    assert!(canceled > 200, "{canceled} countdowns were stopped");
    let all = [Moment::Room, Moment::Asking, Moment::Countdown, Moment::Opening, Moment::HandOver, Moment::Game, Moment::Return];
    assert_eq!(died, BTreeSet::from(all), "somebody died at each stage");
    assert!(games > 2_000 && in_company > SEEDS / 2, "{games} games, and {in_company} stories that somebody else survived");
}

/// The starter dies over its hand-over, and one of two has heard it: the other follows, whichever news comes first.
#[test]
fn what_a_dying_starter_told_one_is_told_to_all() {
    let mesh = peerflock::PeerMesh::named("relay").loopback_only().lan(false).start_in_background().wait().unwrap();
    let handover = Handover::new("relay", [3; 32], mesh.ticket().to_string());
    for news_first in [true, false] {
        let now = Instant::now();
        let (mut one, mut two) = (Starting::new(peer(1)), Starting::new(peer(2)));
        for lobby in [&mut one, &mut two] {
            lobby.hear(peer(0), StartMessage::Propose { round: 7 }, true, now);
        }
        one.hear(peer(0), StartMessage::Go { round: 7, handover: handover.clone() }, true, now);
        let passed = one.roster_changed(peer(0), true);
        let [StartAction::Send(Target::All, message)] = &passed[..] else { panic!("{passed:?}") };
        if news_first {
            two.roster_changed(peer(0), true);
            assert!(!two.is_under_way(), "free at once, whatever comes");
        }
        assert_eq!(two.hear(peer(1), message.clone(), true, now), [StartAction::Join(handover.clone())], "{news_first}");
        assert_eq!(two.hear(peer(1), message.clone(), true, now), [], "once");
        // Too late, or of something we did not agree to, it counts for nothing.
        let mut three = Starting::new(peer(3));
        assert_eq!(three.hear(peer(1), message.clone(), true, now), []);
        three.hear(peer(0), StartMessage::Propose { round: 7 }, true, now);
        three.roster_changed(peer(0), true);
        three.tick(now);
        three.tick(now + FOLLOW_FOR);
        assert_eq!(three.hear(peer(1), message.clone(), true, now + FOLLOW_FOR), []);
    }
}
