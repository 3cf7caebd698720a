//! Starting the game, agreed by everyone who is here: the state machine alone, without network, clock or processes.
//!
//! ```text
//! starter                         everyone else
//!    | -- Propose(round) ---------> |   ready?
//!    | <-- Answer(round, yes) ----- |   one "no", one silence, one farewell: nothing happens, and all learn why
//!    | -- Count(round) -----------> |   five, four, three...
//!    | <-- Cancel(round) ---------- |   anybody may, until it is over; then all learn who did
//!    | opens the game, gets its ticket
//!    | -- Go(round, hand-over) ---> |   each joins the game with the ticket
//! ```
//!
//! Two who press Start at once are told apart by their identifiers: the smaller one starts, the other agrees to it. If the
//! starter leaves on the way, the others are free again at once. If it dies just as it hands over, and only some have heard it, these
//! pass on what they heard: whoever agreed still follows, into a game that needs no starter any more. Who comes while the game is under
//! way asks somebody who plays, and is told how to join.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use peerflock::{PeerId, Target, Topic};

mod message;

pub use message::{Answer, BadHandover, Handover, StartMessage};

/// The channel on which starting is agreed: one of those that the SDK keeps for services.
pub const TOPIC: Topic = Topic(2);
/// How long the starter waits for everybody's answer. A lobby answers by itself, so this only waits for the network.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(4);
/// How long all count down once they have agreed. Anybody can stop it.
pub const COUNTDOWN: Duration = Duration::from_secs(5);
/// How long everybody waits for the starter's game to open, once all agreed. Long enough to build it first.
pub const OPEN_DEADLINE: Duration = Duration::from_secs(180);
/// How long after the hand-over its starter's death makes us pass it on.
pub const PASS_ON_FOR: Duration = Duration::from_secs(30);
/// How long after the starter's death a hand-over that others pass on still counts.
pub const FOLLOW_FOR: Duration = Duration::from_secs(6);

/// Where we stand with starting the game.
#[derive(Debug)]
pub struct Starting {
    me: PeerId,
    stage: Stage,
    /// What we joined last, whose it was, and until when we pass it on.
    joined: Option<(u64, PeerId, Handover, Instant)>,
    /// The round that we agreed to when its starter died, and until when we follow; `None` until the next tick.
    orphaned: Option<(u64, Option<Instant>)>,
    /// How to join the game that we are in: for who comes later.
    running: Option<Handover>,
    /// Whom we asked to let us into the game that is under way.
    knocked: Option<PeerId>,
}

/// What is to be done. The caller does it, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum StartAction {
    /// Send this on [`TOPIC`].
    Send(Target, StartMessage),
    /// All agreed, and we are the starter: open the game's mesh, then call [`Starting::opened`] or [`Starting::failed`].
    Open,
    /// All agreed and the game is open: join it.
    Join(Handover),
    /// Somebody else proposed and we agreed: it may start any moment.
    Waiting(PeerId),
    /// All agreed: it starts when this moment has come, unless somebody stops it.
    Counting(Instant),
    /// The game does not start, and why. Nothing was launched.
    Off(WhyNot),
}

/// Why the game does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// These are not ready.
    NotReady(Vec<PeerId>),
    /// These did not answer in time.
    Silent(Vec<PeerId>),
    /// Somebody left, or came, while all were being asked.
    Changed,
    /// Somebody else is just starting it.
    Busy,
    /// This one stopped the countdown.
    Canceled(PeerId),
    /// The starter left, or its game did not open.
    StarterFailed(String),
}

enum Stage {
    Idle,
    /// We asked, and these have not answered yet.
    Asking {
        round: u64,
        waiting: BTreeSet<PeerId>,
        deadline: Instant,
    },
    /// All agreed; we count down.
    Counting {
        round: u64,
        until: Instant,
    },
    /// The countdown is over; our game opens.
    Opening {
        round: u64,
        deadline: Instant,
    },
    /// We agreed to this one's round.
    Agreed {
        round: u64,
        starter: PeerId,
        deadline: Instant,
        /// Until when it counts down, once all have agreed.
        counting: Option<Instant>,
    },
}

impl Starting {
    /// For the member that we are.
    pub fn new(me: PeerId) -> Self {
        Self { me, stage: Stage::Idle, joined: None, orphaned: None, running: None, knocked: None }
    }

    /// Whether a start is under way: ours or one that we agreed to.
    pub fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// When the countdown ends, while there is one.
    pub fn counts_until(&self) -> Option<Instant> {
        match self.stage {
            Stage::Counting { until, .. } => Some(until),
            Stage::Agreed { counting, .. } => counting,
            _ => None,
        }
    }

    /// We press Start. `round` is a fresh random number, `others` is who else is here, with whether they are ready.
    pub fn propose(&mut self, round: u64, others: &[(PeerId, bool)], now: Instant) -> Vec<StartAction> {
        if self.is_under_way() {
            return vec![StartAction::Off(WhyNot::Busy)];
        }
        let late: Vec<PeerId> = others.iter().filter(|(_, ready)| !ready).map(|(peer, _)| *peer).collect();
        if !late.is_empty() {
            return vec![StartAction::Off(WhyNot::NotReady(late))];
        }
        if others.is_empty() {
            self.stage = Stage::Opening { round, deadline: now + OPEN_DEADLINE };
            return vec![StartAction::Open];
        }
        let waiting = others.iter().map(|(peer, _)| *peer).collect();
        self.stage = Stage::Asking { round, waiting, deadline: now + ANSWER_DEADLINE };
        vec![StartAction::Send(Target::All, StartMessage::Propose { round })]
    }

    /// Somebody else said something on [`TOPIC`]. `ready` is whether we are.
    pub fn hear(&mut self, from: PeerId, message: StartMessage, ready: bool, now: Instant) -> Vec<StartAction> {
        match message {
            StartMessage::Propose { round } => self.asked(from, round, ready, now),
            StartMessage::Answer { round, answer } => self.answered(from, round, answer, now),
            StartMessage::Off { round, why, by } => match self.stage {
                Stage::Agreed { round: agreed, starter, .. } if agreed == round && starter == from => {
                    self.stage = Stage::Idle;
                    vec![StartAction::Off(by.map_or(WhyNot::StarterFailed(why), WhyNot::Canceled))]
                }
                _ => Vec::new(),
            },
            StartMessage::Go { round, handover } => match self.stage {
                Stage::Agreed { round: agreed, starter, .. } if agreed == round && starter == from => {
                    self.joined = Some((round, from, handover.clone(), now + PASS_ON_FOR));
                    self.follow(handover)
                }
                // We agreed to nothing of the kind.
                _ => Vec::new(),
            },
            StartMessage::PassedOn { round, handover } => self.passed_on(round, handover),
            StartMessage::Count { round, milliseconds } => match &mut self.stage {
                Stage::Agreed { round: agreed, starter, counting, .. } if *agreed == round && *starter == from => {
                    let until = now + Duration::from_millis(milliseconds.into()).min(COUNTDOWN);
                    *counting = Some(until);
                    vec![StartAction::Counting(until)]
                }
                _ => Vec::new(),
            },
            StartMessage::Cancel { round } => match self.stage {
                Stage::Asking { round: ours, .. } | Stage::Counting { round: ours, .. } if ours == round => {
                    self.off(Some(round), WhyNot::Canceled(from))
                }
                // Too late: the game opens.
                _ => Vec::new(),
            },
            StartMessage::MayI => match &self.running {
                Some(handover) => {
                    vec![StartAction::Send(Target::One(from), StartMessage::Running { handover: handover.clone() })]
                }
                None => Vec::new(),
            },
            StartMessage::Running { handover } if self.knocked == Some(from) && !self.is_under_way() => self.follow(handover),
            StartMessage::Running { .. } => Vec::new(),
        }
    }

    /// We want no start now. Where it counts down, or everybody is still being asked, whoever counts is told.
    pub fn cancel(&mut self) -> Vec<StartAction> {
        match self.stage {
            Stage::Asking { round, .. } | Stage::Counting { round, .. } => {
                let me = self.me;
                self.off(Some(round), WhyNot::Canceled(me))
            }
            Stage::Agreed { round, starter, .. } => {
                vec![StartAction::Send(Target::One(starter), StartMessage::Cancel { round })]
            }
            Stage::Idle | Stage::Opening { .. } => Vec::new(),
        }
    }

    /// Asks `peer`, who plays, how to join the game that is under way.
    pub fn knock(&mut self, peer: PeerId) -> Vec<StartAction> {
        if self.is_under_way() {
            return Vec::new();
        }
        self.knocked = Some(peer);
        vec![StartAction::Send(Target::One(peer), StartMessage::MayI)]
    }

    /// The game that we are in can be joined by this ticket of ours: whoever comes later is told, though the starter may be gone.
    pub fn ticket(&mut self, ticket: &str) {
        if let Some(running) = &mut self.running {
            ticket.clone_into(&mut running.ticket);
        }
    }

    /// We are in no game any more.
    pub fn game_over(&mut self) {
        self.running = None;
    }

    /// Our game is open, and this is how to join it.
    pub fn opened(&mut self, mut handover: Handover) -> Vec<StartAction> {
        let Stage::Opening { round, .. } = self.stage else { return Vec::new() };
        self.stage = Stage::Idle;
        handover.seed = round;
        self.running = Some(handover.clone());
        vec![StartAction::Send(Target::All, StartMessage::Go { round, handover })]
    }

    /// Our game did not open.
    pub fn failed(&mut self, why: &str) -> Vec<StartAction> {
        let Stage::Opening { round, .. } = self.stage else { return Vec::new() };
        self.off(Some(round), WhyNot::StarterFailed(why.to_owned()))
    }

    /// A member is gone, or a new one came who was not asked.
    pub fn roster_changed(&mut self, peer: PeerId, left: bool) -> Vec<StartAction> {
        match &self.stage {
            // It was among those asked: the news of its coming is older than the question.
            Stage::Asking { waiting, .. } if !left && waiting.contains(&peer) => Vec::new(),
            // A newcomer has agreed to nothing; one press more asks everybody again.
            Stage::Asking { round, .. } => self.off(Some(*round), WhyNot::Changed),
            Stage::Agreed { starter, round, .. } if left && *starter == peer => {
                self.orphaned = Some((*round, None));
                self.off(None, WhyNot::StarterFailed("whoever pressed Start is gone".into()))
            }
            _ if left => match self.joined.take_if(|(_, starter, ..)| *starter == peer) {
                Some((round, _, handover, _)) => vec![StartAction::Send(Target::All, StartMessage::PassedOn { round, handover })],
                None => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Instant) -> Vec<StartAction> {
        self.joined.take_if(|(.., until)| now >= *until);
        if let Some((_, until)) = &mut self.orphaned
            && now >= *until.get_or_insert(now + FOLLOW_FOR)
        {
            self.orphaned = None;
        }
        match &self.stage {
            Stage::Asking { round, waiting, deadline } if now >= *deadline => {
                let silent = waiting.iter().copied().collect();
                self.off(Some(*round), WhyNot::Silent(silent))
            }
            Stage::Counting { round, until } if now >= *until => {
                self.stage = Stage::Opening { round: *round, deadline: now + OPEN_DEADLINE };
                vec![StartAction::Open]
            }
            Stage::Opening { round, deadline } if now >= *deadline => {
                self.off(Some(*round), WhyNot::StarterFailed("the game took too long to open".into()))
            }
            Stage::Agreed { deadline, .. } if now >= *deadline => {
                self.off(None, WhyNot::StarterFailed("whoever pressed Start said nothing more".into()))
            }
            _ => Vec::new(),
        }
    }

    /// Somebody heard what our starter said last, and we did not.
    fn passed_on(&mut self, round: u64, handover: Handover) -> Vec<StartAction> {
        let follows = matches!(self.stage, Stage::Idle) && self.orphaned.is_some_and(|(orphaned, _)| orphaned == round);
        // Before we know of its death: what was passed on came faster than the news.
        let agreed = matches!(self.stage, Stage::Agreed { round: agreed, .. } if agreed == round);
        if !follows && !agreed {
            return Vec::new();
        }
        self.follow(handover)
    }

    /// Into the game, if it can be joined.
    fn follow(&mut self, handover: Handover) -> Vec<StartAction> {
        (self.stage, self.orphaned, self.knocked) = (Stage::Idle, None, None);
        match handover.checked() {
            Ok(handover) => {
                self.running = Some(handover.clone());
                vec![StartAction::Join(handover)]
            }
            Err(error) => {
                self.joined = None;
                vec![StartAction::Off(WhyNot::StarterFailed(error.to_string()))]
            }
        }
    }

    fn asked(&mut self, from: PeerId, round: u64, ready: bool, now: Instant) -> Vec<StartAction> {
        let answer = |answer| StartAction::Send(Target::One(from), StartMessage::Answer { round, answer });
        match &self.stage {
            // Both pressed Start: the smaller identifier starts. It gets our yes and we get its no, or the other way round.
            Stage::Asking { round: ours, .. } if from < self.me => {
                let ours = *ours;
                self.stage = Stage::Agreed { round, starter: from, deadline: now + OPEN_DEADLINE, counting: None };
                vec![
                    StartAction::Send(Target::All, StartMessage::Off { round: ours, why: String::new(), by: None }),
                    answer(Answer::Yes),
                    StartAction::Waiting(from),
                ]
            }
            // Once all have agreed and it counts down, that is settled.
            Stage::Agreed { starter, counting: None, .. } if from < *starter => {
                self.stage = Stage::Agreed { round, starter: from, deadline: now + OPEN_DEADLINE, counting: None };
                vec![answer(Answer::Yes), StartAction::Waiting(from)]
            }
            Stage::Agreed { starter, .. } if from == *starter => {
                self.stage = Stage::Agreed { round, starter: from, deadline: now + OPEN_DEADLINE, counting: None };
                vec![answer(Answer::Yes)]
            }
            _ if self.is_under_way() => vec![answer(Answer::Busy)],
            _ if !ready => vec![answer(Answer::NotReady)],
            _ => {
                self.stage = Stage::Agreed { round, starter: from, deadline: now + OPEN_DEADLINE, counting: None };
                vec![answer(Answer::Yes), StartAction::Waiting(from)]
            }
        }
    }

    fn answered(&mut self, from: PeerId, answered: u64, answer: Answer, now: Instant) -> Vec<StartAction> {
        let Stage::Asking { round, waiting, .. } = &mut self.stage else { return Vec::new() };
        let round = *round;
        if answered != round || !waiting.contains(&from) {
            return Vec::new();
        }
        match answer {
            Answer::Yes => {
                waiting.remove(&from);
                if !waiting.is_empty() {
                    return Vec::new();
                }
                let (until, milliseconds) = (now + COUNTDOWN, COUNTDOWN.as_millis() as u32);
                self.stage = Stage::Counting { round, until };
                vec![StartAction::Send(Target::All, StartMessage::Count { round, milliseconds }), StartAction::Counting(until)]
            }
            Answer::NotReady => self.off(Some(round), WhyNot::NotReady(vec![from])),
            Answer::Busy => self.off(Some(round), WhyNot::Busy),
        }
    }

    /// Back to idle; whoever agreed to our `round` learns it.
    fn off(&mut self, round: Option<u64>, why: WhyNot) -> Vec<StartAction> {
        self.stage = Stage::Idle;
        let by = if let WhyNot::Canceled(peer) = why { Some(peer) } else { None };
        let tell = round.map(|round| StartAction::Send(Target::All, StartMessage::Off { round, why: why.to_string(), by }));
        tell.into_iter().chain([StartAction::Off(why)]).collect()
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady(_) => f.write_str("not everybody is ready yet"),
            Self::Silent(_) => f.write_str("somebody did not answer; try again"),
            Self::Changed => f.write_str("somebody came or left just now; press Start again"),
            Self::Canceled(_) => f.write_str("somebody stopped the countdown"),
            Self::Busy => f.write_str("somebody else is starting the game just now"),
            Self::StarterFailed(why) if why.is_empty() => f.write_str("the start was called off"),
            Self::StarterFailed(why) => f.write_str(why),
        }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Asking { .. } => "Asking",
            Self::Counting { .. } => "Counting",
            Self::Opening { .. } => "Opening",
            Self::Agreed { .. } => "Agreed",
        })
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
