//! Two ends, each behind a router of every sort, in virtual time: who comes through, how soon and at what cost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Nat {
    None,
    FullCone,
    Address,
    Port,
    Symmetric,
}

const ALL: [Nat; 4] = [Nat::FullCone, Nat::Address, Nat::Port, Nat::Symmetric];

/// A router: which outer port each inner socket has for which way, and whom it lets in.
#[derive(Debug)]
struct Router {
    nat: Nat,
    outer: IpAddr,
    maps: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    asked: BTreeMap<u16, BTreeSet<SocketAddr>>,
    dice: u64,
}

impl Router {
    fn out(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        if self.nat == Nat::None {
            return from;
        }
        let way = (self.nat == Nat::Symmetric).then_some(to);
        let mut dice = self.dice;
        let port = *self.maps.entry((from, way)).or_insert_with(|| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if way.is_none() { from.port() } else { 1_024 + ((dice >> 33) % 64_512) as u16 }
        });
        self.dice = dice;
        self.asked.entry(port).or_default().insert(to);
        SocketAddr::new(self.outer, port)
    }

    fn inside(&self, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        if self.nat == Nat::None {
            return Some(to);
        }
        let asked = self.asked.get(&to.port())?;
        let lets_in = match self.nat {
            Nat::None | Nat::FullCone => true,
            Nat::Address => asked.iter().any(|known| known.ip() == from.ip()),
            Nat::Port | Nat::Symmetric => asked.contains(&from),
        };
        let (inner, _) = self.maps.iter().find(|((_, way), port)| **port == to.port() && way.is_none_or(|way| way == from))?.0;
        lets_in.then_some(*inner)
    }
}

struct Outcome {
    direct: Option<Duration>,
    packets: usize,
}

fn host(end: usize) -> SocketAddr {
    SocketAddr::from(([10, end as u8, 0, 2], 4_000 + end as u16))
}

/// Runs an attempt between two routers, `one_way` apart. Hardness is known to the ends or not.
fn attempt(nats: [Nat; 2], known: bool, one_way: Duration, seed: u64) -> Outcome {
    let mut routers = [0, 1].map(|end: usize| Router {
        nat: nats[end],
        outer: IpAddr::from([203, 0, 113, 1 + end as u8]),
        maps: BTreeMap::new(),
        asked: BTreeMap::new(),
        dice: seed * 2 + end as u64 + 1,
    });
    // Where the member in between sees each.
    let member = SocketAddr::from(([198, 51, 100, 1], 7));
    let offers = [0, 1].map(|end| Offer {
        attempt: seed,
        answer: end == 1,
        token: [end as u8; 16],
        hard: known.then_some(nats[end] == Nat::Symmetric),
        inner: vec![host(end)],
        outer: vec![routers[end].out(host(end), member)],
    });
    let mut ends = [0, 1].map(|end| Attempt::new(end == 0, offers[end].clone(), offers[1 - end].clone(), seed + 77 + end as u64));
    let mut wire: VecDeque<(Duration, usize, SocketAddr, SocketAddr, Vec<u8>)> = VecDeque::new();
    let mut adopted = [Via::Main; 2];
    let address_of = |end: usize, via: Via| match via {
        Via::Main => host(end),
        Via::Extra(id) => SocketAddr::new(host(end).ip(), 20_000 + id as u16),
    };
    for ms in 0..4_000 {
        let now = Duration::from_millis(ms);
        let mut acts: Vec<(usize, Act)> = Vec::new();
        while wire.front().is_some_and(|(due, ..)| *due <= now) {
            let Some((_, to_end, from, to, bytes)) = wire.pop_front() else { break };
            let Some(inner) = routers[to_end].inside(from, to) else { continue };
            let via = if inner == host(to_end) { Via::Main } else { Via::Extra(u64::from(inner.port() - 20_000)) };
            acts.extend(ends[to_end].hear(from, via, &bytes).expect("of this attempt").into_iter().map(|act| (to_end, act)));
        }
        // The one who answers is half a round trip ahead of the one who asked.
        for end in [1, 0] {
            let since = if end == 0 { now.checked_sub(one_way) } else { Some(now) };
            if let Some(since) = since {
                acts.extend(ends[end].poll(since).into_iter().map(|act| (end, act)));
            }
        }
        for (end, act) in acts {
            match act {
                Act::Probe { via, to, bytes } => {
                    let from = routers[end].out(address_of(end, via), to);
                    let there = to.ip() == routers[1 - end].outer || nats[1 - end] == Nat::None && to == host(1 - end);
                    if there {
                        wire.push_back((now + one_way, 1 - end, from, to, bytes));
                    }
                }
                Act::OpenSockets(count) => {
                    ends[end].opened((0..count as u64).map(Via::Extra).collect());
                }
                Act::Dial(to) => {
                    // QUIC goes the same way, and comes in where the other end listens.
                    let from = routers[end].out(address_of(end, adopted[end]), to);
                    assert!(routers[1 - end].inside(from, to).is_some(), "the way dialed is open");
                    return Outcome { direct: Some(now), packets: ends[0].packets().max(ends[1].packets()) };
                }
                Act::Adopt { via, .. } => adopted[end] = via,
                Act::GiveUp => {}
            }
        }
    }
    Outcome { direct: None, packets: ends[0].packets().max(ends[1].packets()) }
}

#[test]
fn fifteen_of_sixteen_pairs_get_through_within_a_second_and_a_budget() {
    for known in [true, false] {
        for a in ALL {
            for b in ALL {
                let runs = 40;
                let outcomes: Vec<Outcome> =
                    (0..runs).map(|seed| attempt([a, b], known, Duration::from_millis(30), seed)).collect();
                let direct: Vec<Duration> = outcomes.iter().filter_map(|outcome| outcome.direct).collect();
                assert!(outcomes.iter().all(|outcome| outcome.packets <= PACKETS_MAX), "{a:?} {b:?}");
                if a == Nat::Symmetric && b == Nat::Symmetric {
                    // By luck alone.
                    assert!(direct.len() <= 2, "{} of {runs} through two hard ones", direct.len());
                    let spent = outcomes.iter().map(|outcome| outcome.packets).max().unwrap_or(0);
                    assert!(!known || spent < 64, "{spent} packets for what cannot be");
                    continue;
                }
                let most = direct.iter().max().copied().unwrap_or_default();
                assert!(direct.len() as u64 >= runs * 97 / 100, "{a:?} {b:?} known {known}: {} of {runs}", direct.len());
                assert!(most < Duration::from_millis(1_500), "{a:?} {b:?} known {known}: {most:?}");
                if a != Nat::Symmetric && b != Nat::Symmetric {
                    assert!(most < Duration::from_millis(300), "{a:?} {b:?}: {most:?}");
                    assert!(outcomes.iter().all(|outcome| outcome.packets < 32), "{a:?} {b:?}: few packets where few are needed");
                }
            }
        }
    }
}

#[test]
fn the_one_who_can_be_reached_is_reached_at_once() {
    for other in ALL {
        for ends in [[Nat::None, other], [other, Nat::None]] {
            let outcome = attempt(ends, false, Duration::from_millis(50), 3);
            assert!(outcome.direct.is_some_and(|after| after < Duration::from_millis(300)), "{ends:?}: {:?}", outcome.direct);
        }
    }
}

#[test]
fn what_is_not_of_the_attempt_is_not_heard() {
    let offer =
        |answer| Offer { attempt: 7, answer, token: [u8::from(answer); 16], hard: None, inner: vec![host(0)], outer: vec![] };
    let mut ours = Attempt::new(true, offer(false), offer(true), 1);
    let mut theirs = Attempt::new(false, offer(true), offer(false), 1);
    let sent = |attempt: &mut Attempt| match attempt.poll(Duration::ZERO).into_iter().next() {
        Some(Act::Probe { bytes, .. }) => bytes,
        other => panic!("{other:?}"),
    };
    let (mine, good) = (sent(&mut ours), sent(&mut theirs));
    assert_eq!(ours.hear(host(1), Via::Main, &mine), None, "our own, sent back");
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 1;
        assert_eq!(ours.hear(host(1), Via::Main, &altered), None, "byte {at}");
        assert_eq!(ours.hear(host(1), Via::Main, &good[..at]), None);
    }
    let mut strangers = Attempt::new(true, Offer { token: [9; 16], ..offer(false) }, offer(true), 1);
    assert_eq!(strangers.hear(host(1), Via::Main, &good), None);
    assert!(ours.hear(host(1), Via::Main, &good).is_some());
}

#[test]
fn a_way_is_dialed_once_by_one_end() {
    let offer =
        |answer| Offer { attempt: 7, answer, token: [u8::from(answer); 16], hard: None, inner: vec![host(0)], outer: vec![] };
    let mut ends = [Attempt::new(true, offer(false), offer(true), 1), Attempt::new(false, offer(true), offer(false), 1)];
    let mut dials = [0, 0];
    let mut wire: VecDeque<(usize, Vec<u8>)> = VecDeque::new();
    for ms in 0..3_000 {
        for end in [0, 1] {
            let mut acts = ends[end].poll(Duration::from_millis(ms));
            while let Some(at) = wire.iter().position(|(to, _)| *to == end) {
                let Some((_, bytes)) = wire.remove(at) else { break };
                acts.extend(ends[end].hear(host(1 - end), Via::Main, &bytes).unwrap());
            }
            for act in acts {
                match act {
                    Act::Probe { bytes, .. } => wire.push_back((1 - end, bytes)),
                    Act::Dial(_) => dials[end] += 1,
                    _ => {}
                }
            }
        }
    }
    assert_eq!(dials, [1, 0]);
    assert!(ends.iter().all(|end| end.packets() < 64), "it ends by itself: {:?}", ends.each_ref().map(Attempt::packets));
}
