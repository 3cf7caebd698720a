use super::*;

fn peer(number: u8) -> PeerId {
    PeerId([number; 32])
}

fn now() -> Instant {
    Instant::now()
}

/// A ticket that parses, for a mesh called `name`: tickets have no public constructor, so one is opened for a moment.
fn handover(name: &str) -> Handover {
    let mesh = peerflock::PeerMesh::named(name).loopback_only().lan(false).start_in_background().wait().unwrap();
    Handover::new(name, [1; 32], mesh.ticket().to_string())
}

fn sent(actions: &[StartAction]) -> Vec<(Target, StartMessage)> {
    actions
        .iter()
        .filter_map(|action| match action {
            StartAction::Send(to, message) => Some((*to, message.clone())),
            _ => None,
        })
        .collect()
}

/// Lobbies in one thread: delivers what they send, in order, and collects what is left to do.
struct Table {
    lobbies: Vec<Starting>,
    done: Vec<(PeerId, StartAction)>,
}

impl Table {
    fn of(count: u8) -> Self {
        Self { lobbies: (1..=count).map(|number| Starting::new(peer(number))).collect(), done: Vec::new() }
    }

    fn others(&self, me: PeerId) -> Vec<(PeerId, bool)> {
        self.lobbies.iter().map(|lobby| (lobby.me, true)).filter(|(peer, _)| *peer != me).collect()
    }

    fn propose(&mut self, who: u8, round: u64) -> Vec<(PeerId, StartAction)> {
        let others = self.others(peer(who));
        let actions = self.lobbies[usize::from(who - 1)].propose(round, &others, now());
        actions.into_iter().map(|action| (peer(who), action)).collect()
    }

    /// The countdown ends, wherever there is one.
    fn count_down(&mut self) {
        let later = now() + COUNTDOWN;
        let opened = self.lobbies.iter_mut().flat_map(|lobby| {
            let me = lobby.me;
            lobby.tick(later).into_iter().map(move |action| (me, action))
        });
        let opened: Vec<_> = opened.collect();
        self.deliver(opened.into());
    }

    fn deliver(&mut self, mut queue: std::collections::VecDeque<(PeerId, StartAction)>) {
        while let Some((from, action)) = queue.pop_front() {
            let StartAction::Send(to, message) = action else {
                self.done.push((from, action));
                continue;
            };
            for lobby in self.lobbies.iter_mut().filter(|lobby| lobby.me != from) {
                if to == Target::All || to == Target::One(lobby.me) {
                    let next = lobby.hear(from, message.clone(), true, now());
                    queue.extend(next.into_iter().map(|action| (lobby.me, action)));
                }
            }
        }
    }
}

#[test]
fn all_agree_then_all_join() {
    let mut table = Table::of(4);
    let first = table.propose(2, 7);
    table.deliver(first.into());
    assert_eq!(table.done.iter().filter(|(_, action)| matches!(action, StartAction::Counting(_))).count(), 4);
    assert!(!table.done.iter().any(|(_, action)| *action == StartAction::Open), "not before the countdown is over");
    table.count_down();
    assert_eq!(table.done.iter().filter(|(_, action)| *action == StartAction::Open).count(), 1);
    assert!(table.done.contains(&(peer(2), StartAction::Open)));

    let handover = handover("dusk");
    table.done.clear();
    let go = table.lobbies[1].opened(handover.clone()).into_iter().map(|action| (peer(2), action)).collect();
    table.deliver(go);
    let mut joined: Vec<PeerId> = table.done.iter().map(|(peer, _)| *peer).collect();
    joined.sort();
    assert_eq!(joined, [peer(1), peer(3), peer(4)]);
    let handover = Handover { seed: 7, ..handover };
    assert!(table.done.iter().all(|(_, action)| *action == StartAction::Join(handover.clone())));
    assert!(table.lobbies.iter().all(|lobby| !lobby.is_under_way()));
}

#[test]
fn of_two_starters_one_starts_in_every_order_of_delivery() {
    for flip in [false, true] {
        let mut table = Table::of(3);
        let (mut one, mut two) = (table.propose(1, 10), table.propose(3, 30));
        if flip {
            std::mem::swap(&mut one, &mut two);
        }
        table.deliver(one.into_iter().chain(two).collect());
        table.count_down();
        let openers: Vec<PeerId> =
            table.done.iter().filter(|(_, action)| *action == StartAction::Open).map(|(peer, _)| *peer).collect();
        assert!(openers.len() <= 1, "flip {flip}: {openers:?}");
        // Whatever happened, nobody is stuck: those under way wait for a starter who is under way too.
        let under_way = table.lobbies.iter().filter(|lobby| lobby.is_under_way()).count();
        assert!(openers.len() == 1 || under_way == 0, "flip {flip}: {under_way} wait for nobody");
    }
}

#[test]
fn who_is_alone_asks_nobody() {
    let mut starting = Starting::new(peer(1));
    assert_eq!(starting.propose(1, &[], now()), [StartAction::Open]);
    assert_eq!(starting.propose(2, &[], now()), [StartAction::Off(WhyNot::Busy)]);
}

#[test]
fn one_who_is_not_ready_stops_it() {
    let mut starting = Starting::new(peer(1));
    let late = starting.propose(1, &[(peer(2), true), (peer(3), false)], now());
    assert_eq!(late, [StartAction::Off(WhyNot::NotReady(vec![peer(3)]))]);

    // Shown as ready, but not any more when asked.
    starting.propose(2, &[(peer(2), true)], now());
    let mut other = Starting::new(peer(2));
    let answer = other.hear(peer(1), StartMessage::Propose { round: 2 }, false, now());
    assert_eq!(sent(&answer)[0].1, StartMessage::Answer { round: 2, answer: Answer::NotReady });
    let end = starting.hear(peer(2), sent(&answer)[0].1.clone(), true, now());
    assert_eq!(end.last(), Some(&StartAction::Off(WhyNot::NotReady(vec![peer(2)]))));
    assert!(!starting.is_under_way() && !other.is_under_way());
}

#[test]
fn silence_and_farewells_end_it() {
    let start = now();
    let mut starting = Starting::new(peer(1));
    starting.propose(1, &[(peer(2), true), (peer(3), true)], start);
    starting.hear(peer(2), StartMessage::Answer { round: 1, answer: Answer::Yes }, true, start);
    assert_eq!(starting.tick(start), []);
    let end = starting.tick(start + ANSWER_DEADLINE);
    assert_eq!(end.last(), Some(&StartAction::Off(WhyNot::Silent(vec![peer(3)]))));

    starting.propose(2, &[(peer(2), true)], start);
    assert_eq!(starting.roster_changed(peer(2), false), [], "it was asked: that it came is old news");
    assert_eq!(starting.roster_changed(peer(9), false).last(), Some(&StartAction::Off(WhyNot::Changed)));

    let mut other = Starting::new(peer(2));
    other.hear(peer(1), StartMessage::Propose { round: 3 }, true, start);
    assert!(other.is_under_way());
    assert_eq!(other.roster_changed(peer(3), true), [], "somebody else's leaving changes nothing for us");
    assert!(matches!(other.roster_changed(peer(1), true)[..], [StartAction::Off(WhyNot::StarterFailed(_))]));
    other.hear(peer(1), StartMessage::Propose { round: 4 }, true, start);
    assert!(matches!(other.tick(start + OPEN_DEADLINE)[..], [StartAction::Off(_)]));
}

#[test]
fn only_the_starter_we_agreed_to_can_launch_us() {
    let mut other = Starting::new(peer(2));
    let go = StartMessage::Go { round: 5, handover: handover("dusk") };
    assert_eq!(other.hear(peer(1), go.clone(), true, now()), [], "nothing was agreed");
    other.hear(peer(1), StartMessage::Propose { round: 5 }, true, now());
    assert_eq!(other.hear(peer(3), go.clone(), true, now()), [], "not the starter");
    assert_eq!(other.hear(peer(1), StartMessage::Go { round: 6, handover: handover("dusk") }, true, now()), []);
    assert!(matches!(other.hear(peer(1), go.clone(), true, now())[..], [StartAction::Join(_)]));
    assert_eq!(other.hear(peer(1), go, true, now()), [], "once");
}

#[test]
fn a_failed_opening_frees_everybody() {
    let mut table = Table::of(3);
    let first = table.propose(1, 7);
    table.deliver(first.into());
    table.count_down();
    table.done.clear();
    let off = table.lobbies[0].failed("the game is not installed").into_iter().map(|action| (peer(1), action)).collect();
    table.deliver(off);
    assert!(table.lobbies.iter().all(|lobby| !lobby.is_under_way()));
    assert_eq!(table.done.len(), 3, "everybody is told: {:?}", table.done);
}

/// Whoever wants to, the starter or not, stops the countdown; who did it is told to all. Once it is over, nobody can.
#[test]
fn one_stops_the_countdown_for_all() {
    for who in [1, 3] {
        let mut table = Table::of(3);
        let first = table.propose(1, 7);
        table.deliver(first.into());
        assert!(table.lobbies.iter().all(|lobby| lobby.counts_until().is_some()));
        table.done.clear();
        let stop = table.lobbies[who - 1].cancel().into_iter().map(|action| (peer(who as u8), action)).collect();
        table.deliver(stop);
        assert!(table.lobbies.iter().all(|lobby| !lobby.is_under_way() && lobby.counts_until().is_none()));
        let off = StartAction::Off(WhyNot::Canceled(peer(who as u8)));
        assert_eq!(table.done.iter().filter(|(_, action)| *action == off).count(), 3, "{:?}", table.done);
    }
    let mut table = Table::of(2);
    let first = table.propose(1, 7);
    table.deliver(first.into());
    table.count_down();
    let late = table.lobbies[1].cancel().into_iter().map(|action| (peer(2), action)).collect();
    table.deliver(late);
    assert!(table.lobbies.iter().all(Starting::is_under_way), "the game opens: it is too late, and all still wait for it");
}

#[test]
fn who_comes_late_asks_somebody_who_plays() {
    let mut table = Table::of(2);
    let first = table.propose(1, 7);
    table.deliver(first.into());
    table.count_down();
    let go = table.lobbies[0].opened(handover("dusk")).into_iter().map(|action| (peer(1), action)).collect();
    table.deliver(go);
    let fresh = handover("dusk").ticket;
    table.lobbies[1].ticket(&fresh);

    let mut late = Starting::new(peer(9));
    let asked = late.knock(peer(2));
    let [StartAction::Send(Target::One(to), message)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(*to, peer(2));
    let answer = sent(&table.lobbies[1].hear(peer(9), message.clone(), true, now()));
    assert_eq!(late.hear(peer(1), answer[0].1.clone(), true, now()), [], "who was not asked is not believed");
    let joined = late.hear(peer(2), answer[0].1.clone(), true, now());
    assert!(matches!(&joined[..], [StartAction::Join(handover)] if handover.ticket == fresh && handover.seed == 7));
    assert_eq!(late.hear(peer(2), answer[0].1.clone(), true, now()), [], "once");
    // Back in the room there is nothing to tell any more.
    table.lobbies[1].game_over();
    assert_eq!(table.lobbies[1].hear(peer(9), message.clone(), true, now()), []);
}
