//! Ways and parts of the network of links.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use peerflock_proto::PeerId;
use peerflock_proto::sim::Sim;

use crate::stats::millis;

/// Whom each node holds links to, by index. A link counts from either end.
pub(crate) fn links(sim: &Sim) -> Vec<Vec<usize>> {
    let indices: BTreeMap<PeerId, usize> = (0..sim.len()).map(|index| (sim.peer(index), index)).collect();
    let of = |index| sim.node(index).links().into_iter().filter_map(|link| indices.get(&link.peer).copied()).collect();
    (0..sim.len()).map(of).collect()
}

/// The mean over all pairs of the shortest way between them, were everybody linked to everybody (Floyd and Warshall).
pub(crate) fn shortest_path_mean_ms(sim: &Sim) -> f64 {
    let peers = sim.len();
    let length = |one, other| if one == other { 0.0 } else { millis(sim.latency(one, other)) };
    let mut ways: Vec<Vec<f64>> = (0..peers).map(|one| (0..peers).map(|other| length(one, other)).collect()).collect();
    for via in 0..peers {
        let from_via = ways[via].clone();
        for way in &mut ways {
            let to_via = way[via];
            way.iter_mut().zip(&from_via).for_each(|(length, rest)| *length = length.min(to_via + rest));
        }
    }
    ways.iter().flatten().sum::<f64>() / (peers * (peers - 1)).max(1) as f64
}

/// The mean over all pairs of the shortest way along the links that there are (Dijkstra). None where some pair has no way.
pub(crate) fn overlay_path_mean_ms(sim: &Sim, links: &[Vec<usize>]) -> Option<f64> {
    let peers = links.len();
    let mut sum = Duration::ZERO;
    for from in 0..peers {
        let mut ways = vec![Duration::MAX; peers];
        let mut next = BinaryHeap::from([Reverse((Duration::ZERO, from))]);
        while let Some(Reverse((way, at))) = next.pop() {
            if way >= ways[at] {
                continue;
            }
            ways[at] = way;
            next.extend(
                links[at]
                    .iter()
                    .map(|to| Reverse((way + sim.latency(at, *to), *to)))
                    .filter(|Reverse((way, to))| *way < ways[*to]),
            );
        }
        if ways.contains(&Duration::MAX) {
            return None;
        }
        sum += ways.iter().sum::<Duration>();
    }
    Some(millis(sum) / (peers * (peers - 1)).max(1) as f64)
}

/// Into how many parts the nodes in `who` fall, if only the links among them count.
pub(crate) fn components(links: &[Vec<usize>], who: &[usize]) -> usize {
    let mut part: Vec<Option<usize>> = vec![None; links.len()];
    who.iter().for_each(|index| part[*index] = Some(*index));
    // Links may be held by one end only for a moment: both directions join.
    for (one, others) in links.iter().enumerate() {
        for other in others {
            if let (Some(one), Some(other)) = (root(&part, one), root(&part, *other)) {
                part[one] = Some(other);
            }
        }
    }
    who.iter().filter(|index| part[**index] == Some(**index)).count()
}

fn root(part: &[Option<usize>], mut index: usize) -> Option<usize> {
    loop {
        let above = part[index]?;
        if above == index {
            return Some(index);
        }
        index = above;
    }
}

#[cfg(test)]
mod tests {
    use peerflock_proto::Config;
    use peerflock_proto::sim::Options;

    use super::*;

    #[test]
    fn parts_are_counted_without_those_who_are_gone() {
        // 0 - 1 - 2 - 3, and 4 alone; the link between 2 and 3 is known at one end only.
        let links = [vec![1], vec![0, 2], vec![1], vec![2], vec![]];
        assert_eq!(components(&links, &[0, 1, 2, 3, 4]), 2);
        assert_eq!(components(&links, &[0, 2, 3]), 2);
        assert_eq!(components(&links, &[0, 3, 4]), 3);
        assert_eq!(components(&links, &[1]), 1);
        assert_eq!(components(&links, &[]), 0);
    }

    #[test]
    fn the_way_along_all_links_is_the_shortest_way() {
        let mut sim = Sim::new(Options::default());
        for index in 0..12 {
            assert_eq!(sim.add(Config::default(), [7; 32]), index);
        }
        let complete: Vec<Vec<usize>> = (0..12).map(|one| (0..12).filter(|other| *other != one).collect()).collect();
        let ring: Vec<Vec<usize>> = (0..12).map(|one| vec![(one + 1) % 12, (one + 11) % 12]).collect();
        let shortest = shortest_path_mean_ms(&sim);
        assert!((overlay_path_mean_ms(&sim, &complete).unwrap() - shortest).abs() < 1e-6);
        assert!(overlay_path_mean_ms(&sim, &ring).unwrap() > 2.0 * shortest);
        assert_eq!(overlay_path_mean_ms(&sim, &vec![vec![]; 12]), None);
    }
}
