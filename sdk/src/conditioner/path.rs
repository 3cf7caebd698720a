//! The way of packets from one place to another: when each arrives, if at all. No socket, no clock.

use std::time::Duration;

use tokio::time::Instant;

use super::Conditioner;

/// What a packet that others overtake waits longer, at most.
const OVERTAKEN: Duration = Duration::from_millis(50);

/// The luck of packets between two places, and where in it they are.
#[derive(Debug)]
pub(crate) struct Path {
    chance: Chance,
    /// Packets that the burst going on will still take.
    burst_left: u16,
    /// When the first packet went, which outages are counted from.
    origin: Option<Instant>,
}

impl Path {
    /// A path with luck of its own, from the seed and what the path is called.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        Self { chance: Chance(hash(seed, name.as_bytes())), burst_left: 0, origin: None }
    }

    /// When a packet that leaves now arrives: never, once or twice. `line` is what it waits in line for.
    pub(crate) fn pass(
        &mut self,
        conditioner: &Conditioner,
        line: &mut Line,
        length: usize,
        now: Instant,
    ) -> impl Iterator<Item = Instant> + use<> {
        let origin = *self.origin.get_or_insert(now);
        // Always drawn in the same number and order, so that one chance does not shift the next.
        let chance = &mut self.chance;
        let lost = chance.happens(conditioner.loss);
        let (bursts, burst_length) = (chance.happens(conditioner.bursts), chance.part());
        let copies = 1 + usize::from(chance.happens(conditioner.duplicates));
        let delays: [Duration; 2] = std::array::from_fn(|_| {
            let jitter = conditioner.jitter.mul_f64(chance.part());
            let (late, how_late) = (chance.happens(conditioner.reordering), OVERTAKEN.mul_f64(chance.part()));
            conditioner.delay + jitter + if late { how_late } else { Duration::ZERO }
        });
        if bursts && self.burst_left == 0 {
            let (least, most) = conditioner.burst_packets;
            self.burst_left = least + (f64::from(most.saturating_sub(least) + 1) * burst_length) as u16;
        }
        let in_burst = self.burst_left > 0;
        self.burst_left = self.burst_left.saturating_sub(1);
        let out = is_out(conditioner, now.duration_since(origin));
        // What the air loses has waited in line before.
        let left = line.carry(conditioner, length, now).filter(|_| !(lost || in_burst || out));
        let copies = if left.is_some() { copies } else { 0 };
        delays.into_iter().take(copies).map(move |delay| left.unwrap_or(now) + delay)
    }
}

/// A line of limited rate, and the router's queue before it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// When it will have carried all that waits.
    free_at: Option<Instant>,
}

impl Line {
    /// When the packet has left the line; `None` if it found the queue full.
    fn carry(&mut self, conditioner: &Conditioner, length: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = conditioner.rate_bytes_per_second.filter(|rate| *rate > 0).map(f64::from) else { return Some(now) };
        let free_at = self.free_at.map_or(now, |free_at| free_at.max(now));
        let waiting = free_at.duration_since(now).as_secs_f64() * rate;
        // What finds the line free passes, however short the queue.
        if waiting > 0.0 && waiting + length as f64 > f64::from(conditioner.queue_bytes) {
            return None;
        }
        let left = free_at + Duration::from_secs_f64(length as f64 / rate);
        self.free_at = Some(left);
        Some(left)
    }
}

fn is_out(conditioner: &Conditioner, since: Duration) -> bool {
    let every = conditioner.outage_every.as_micros();
    every > 0 && since.as_micros() % every >= every.saturating_sub(conditioner.outage.as_micros())
}

/// `SplitMix64` (Steele et al., 2014): small, fast, and the same everywhere.
#[derive(Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// Evenly drawn from 0 to 1.
    pub(crate) fn part(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn happens(&mut self, probability: f64) -> bool {
        self.part() < probability
    }
}

/// FNV-1a over `bytes`, going on from `before`.
pub(crate) fn hash(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends so many packets of 1,000 bytes, one every 10 ms; when each arrives, in milliseconds after it left.
    fn sent(conditioner: Conditioner, packets: u32) -> Vec<Vec<u64>> {
        let (mut path, mut line, start) = (Path::new(conditioner.seed, "a b"), Line::default(), Instant::now());
        (0..packets)
            .map(|n| start + Duration::from_millis(10) * n)
            .map(|now| {
                let arrivals = path.pass(&conditioner, &mut line, 1_000, now);
                arrivals.map(|arrival| arrival.duration_since(now).as_millis() as u64).collect()
            })
            .collect()
    }

    #[test]
    fn bursts_take_as_many_packets_as_they_are_to() {
        let fates = sent(Conditioner { bursts: 0.01, seed: 3, ..Conditioner::default() }, 20_000);
        let lost: Vec<usize> =
            fates.chunk_by(|a, b| a.is_empty() == b.is_empty()).filter(|run| run[0].is_empty()).map(<[_]>::len).collect();
        // One may begin where another ended, but not on top of it.
        let single = lost.iter().filter(|length| **length <= 40).count();
        assert!(lost.len() > 100 && lost.iter().all(|length| *length >= 6), "{lost:?}");
        assert!(single * 10 >= lost.len() * 9, "{lost:?}");
    }

    #[test]
    fn a_slow_line_fills_its_queue_and_loses_the_rest() {
        // 100,000 bytes per second for a line of 50,000.
        let slow = Conditioner { rate_bytes_per_second: Some(50_000), queue_bytes: 10_000, ..Conditioner::default() };
        let fates = sent(slow, 200);
        let arrived: Vec<u64> = fates.iter().flatten().copied().collect();
        assert!((100..=112).contains(&arrived.len()), "{}", arrived.len());
        assert_eq!(arrived[0], 20, "1,000 bytes take 20 ms");
        assert!(arrived.iter().all(|wait| *wait <= 220) && arrived.last().is_some_and(|wait| *wait >= 180), "{arrived:?}");
    }

    #[test]
    fn nothing_passes_an_outage() {
        let (outage, every) = (Duration::from_secs(1), Duration::from_secs(3));
        let fates = sent(Conditioner { outage, outage_every: every, ..Conditioner::default() }, 600);
        for (n, fate) in fates.iter().enumerate() {
            assert_eq!(fate.is_empty(), n % 300 >= 200, "{n}");
        }
    }

    #[test]
    fn luck_follows_from_the_seed_alone() {
        let bad = Conditioner {
            jitter: Duration::from_millis(30),
            loss: 0.1,
            duplicates: 0.1,
            reordering: 0.1,
            ..Conditioner::default()
        };
        assert_eq!(sent(bad, 500), sent(bad, 500));
        assert_ne!(sent(bad, 500), sent(Conditioner { seed: 1, ..bad }, 500));
        // More loss loses more, and leaves the rest as it was.
        let worse = sent(Conditioner { loss: 0.5, ..bad }, 500);
        assert!(sent(bad, 500).iter().zip(&worse).all(|(before, after)| after.is_empty() || before == after));
    }
}
