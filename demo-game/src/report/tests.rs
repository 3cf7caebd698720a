use super::*;

const PEERS: usize = 3;
const BIRDS: usize = 60;

/// A run in which everything went well.
fn good() -> Run {
    let name = |index: usize| format!("peer-{index}");
    let report = |index: usize| {
        let others: Vec<usize> = (0..PEERS).filter(|other| *other != index).collect();
        let mut ages = Ages::default();
        ages.add(1.0);
        PeerReport {
            peer: name(index),
            name: format!("Bird {index}"),
            members: PEERS,
            state_hash: "abc".into(),
            entities: PEERS * (BIRDS + 1),
            birds: PEERS * BIRDS,
            birds_own: BIRDS,
            seconds: 10.0,
            ages: others.iter().map(|other| (name(*other), ages.clone())).collect(),
            longest_silence_ms: others.iter().map(|other| (name(*other), 70)).collect(),
            longest_standstill_ms: 120,
            chat_sent: 2,
            chat_received: others.iter().map(|other| (name(*other), vec![0, 1])).collect(),
            wire_bytes_sent: 20_000,
            payload_bytes_sent: 10_000,
            state_packets_first: 100,
            state_packets_duplicate: 5,
            links_max: 2,
            ..PeerReport::default()
        }
    };
    Run {
        peers: PEERS,
        birds_at_start: (0..PEERS).map(|index| (name(index), Some(PEERS * BIRDS))).collect(),
        birds_brought: BIRDS,
        tick_rate: 30.0,
        max_neighbors: 7,
        reports: (0..PEERS).map(report).collect(),
        ..Run::default()
    }
}

/// What is wrong with a run after `spoil` did something to it.
fn failures(spoil: impl FnOnce(&mut Run)) -> Vec<String> {
    let mut run = good();
    spoil(&mut run);
    let report = Report::new(run);
    assert_eq!(report.ok, report.failures.is_empty());
    report.failures
}

#[test]
fn a_good_run_adds_up() {
    let report = Report::new(good());
    assert!(report.ok && report.converged, "{:?}", report.failures);
    assert_eq!((report.birds_total, report.birds_total_start, report.birds_total_end), (180, 180, 180));
    assert_eq!((report.chat_sent, report.chat_expected, report.chat_delivered), (6, 12, 12));
    assert_eq!((report.bytes_per_peer_per_second, report.payload_bytes_per_peer_per_second), (2_000.0, 1_000.0));
    assert_eq!((report.redundancy, report.max_neighbors_seen), (0.05, 2));
    assert_eq!((report.longest_stall_ms, report.longest_silence_ms), (120, 70));
    assert_eq!(report.state_age_p99_ticks, Some(1.1));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["peers"], 3);
    assert_eq!(json["converged"], true);
}

#[test]
fn a_lost_bird_is_a_failure_whoever_misses_it() {
    for index in 0..PEERS {
        let failures = failures(|run| run.reports[index].birds -= 1);
        assert!(failures.len() == 1 && failures[0].contains(&format!("Bird {index} counts 179 of 180")), "{failures:?}");
    }
    assert!(failures(|run| run.reports[1].birds_own -= 1)[0].contains("179 birds have an owner"));
    assert!(failures(|run| run.birds_at_start[2].1 = Some(179))[0].contains("birds at the start"));
    assert!(failures(|run| run.birds_at_start[2].1 = None)[0].contains("birds at the start"));
}

#[test]
fn worlds_that_differ_are_a_failure() {
    assert!(failures(|run| run.reports[2].state_hash = "abd".into())[0].contains("2 different worlds"));
    assert!(failures(|run| run.reports[0].members = 2)[0].contains("not converged"));
    let failures = failures(|run| {
        run.reports.pop();
    });
    assert!(failures[0].contains("2 of 3 reports"), "a report that is missing is no agreement: {failures:?}");
}

#[test]
fn every_line_arrives_once_and_in_order() {
    let spoil = |numbers: &'static [u32]| {
        failures(move |run| {
            run.reports[0].chat_received.insert("peer-1".into(), numbers.to_vec());
        })
    };
    assert!(spoil(&[0, 1]).is_empty());
    assert!(spoil(&[0])[0].contains("11 of 12 deliveries"));
    assert!(spoil(&[0, 1, 1])[0].contains("1 doubled"));
    assert!(spoil(&[1, 0])[0].contains("1 out of order"));
    assert!(spoil(&[0, 1, 2])[0].contains("1 doubled"), "a line that nobody said");
    assert!(failures(|run| run.reports[2].chat_received.clear())[0].contains("8 of 12"));
}

#[test]
fn a_killed_process_counts_for_nothing_but_its_birds_do() {
    let kill = |run: &mut Run| {
        run.killed = Some("peer-0".into());
        run.reports.remove(0);
        for report in &mut run.reports {
            report.members = 2;
            report.birds_own = 90;
            // What it said and how it fell silent is left out.
            report.longest_silence_ms.insert("peer-0".into(), 9_999);
            report.longest_standstill_ms = 1_600;
        }
    };
    let mut run = good();
    kill(&mut run);
    let report = Report::new(run);
    assert!(report.ok, "{:?}", report.failures);
    assert_eq!((report.peers, report.peers_at_end, report.birds_total), (3, 2, 180));
    assert_eq!((report.chat_sent, report.chat_expected), (4, 4));
    assert_eq!((report.longest_silence_ms, report.longest_stall_ms), (70, 1_600));
    let failures = failures(|run| {
        kill(run);
        run.reports[1].birds = 120;
    });
    assert!(failures[0].contains("counts 120 of 180"));
}

#[test]
fn too_many_links_and_mishaps_are_failures() {
    assert!(failures(|run| run.max_neighbors = 1)[0].contains("held 2 links, 1 were allowed"));
    assert_eq!(failures(|run| run.mishaps.push("Wren ended".into())), ["Wren ended"]);
}
