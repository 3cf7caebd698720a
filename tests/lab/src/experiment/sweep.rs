//! What a peer pays in small and in large meshes: the flood, measured for several numbers of peers and drawn.
//!
//! Each size runs in a process of its own, so that none lives in the memory that another left behind.

use std::process::Command;

use serde_json::{Map, Value, json};

use super::Failure;
use super::flood::Options;
use crate::report::{Report, complain};
use crate::scene::ROUND;
use crate::svg::{Chart, Line, Scale, sheet};

pub(super) fn run(options: &Options) -> Result<Report, Failure> {
    let mut sizes = options.sweep.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let mut found: Vec<(u16, Map<String, Value>)> = Vec::new();
    for peers in sizes {
        complain(&format!("{peers} peers"));
        found.push((peers, measured(options, peers)?));
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, draw(&found, options.payload)).map_err(|source| Failure::Write { path: path.clone(), source })?;
    }
    let settings =
        options.network.with(json!({ "payload": options.payload, "rounds": options.rounds, "warmup": options.warmup }));
    let mut report = Report::new("flood sweep", settings, Some(options.network.seed));
    for (peers, figures) in found {
        report.field(peers.to_string(), figures);
    }
    Ok(report)
}

fn measured(options: &Options, peers: u16) -> Result<Map<String, Value>, Failure> {
    let program = std::env::current_exe().map_err(|source| Failure::Start { program: "the lab".into(), source })?;
    let path = std::env::temp_dir().join(format!("peerflock-lab-flood-{}-{peers}.json", std::process::id()));
    let network = &options.network;
    let mut flood = Command::new(program);
    flood.args(["flood", "--peers", &peers.to_string(), "--payload", &options.payload.to_string()]);
    flood.args(["--max-neighbors", &network.max_neighbors.to_string(), "--settle", &network.settle.to_string()]);
    flood.args(["--loss", &network.loss.to_string(), "--burst", &network.burst.to_string()]);
    flood.args(["--seed", &network.seed.to_string(), "--seeds", &network.seeds.to_string(), "--json"]).arg(&path);
    for (name, rounds) in [("--rounds", options.rounds), ("--warmup", options.warmup)] {
        if let Some(rounds) = rounds {
            flood.args([name, &rounds.to_string()]);
        }
    }
    flood.stdout(std::process::Stdio::null());
    super::finish(&mut flood, &format!("cargo lab flood --peers {peers}"))?;
    let text = std::fs::read_to_string(&path).map_err(|source| Failure::Read { path: path.clone(), source })?;
    // It was ours and temporary; a leftover in the temporary folder does no harm.
    let _ = std::fs::remove_file(&path);
    serde_json::from_str(&text).map_err(|source| Failure::Parse { path, source })
}

/// What each peer pays, against the number of peers; beside it what it must receive at least.
fn draw(found: &[(u16, Map<String, Value>)], payload: u16) -> String {
    let each = |value: &dyn Fn(f64, &Map<String, Value>) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = found.iter().map(|(peers, figures)| (f64::from(*peers), figures));
        points.filter_map(|(peers, figures)| Some((peers, value(peers, figures)?))).collect()
    };
    let figure = |name: &'static str| each(&move |_, figures| figures.get(name)?.as_f64());
    // Everybody else's payloads, each once.
    let due = |peers: f64| (peers - 1.0) * f64::from(payload) / ROUND.as_secs_f64() / 1_000.0;
    let line = |name, points| Line { name, points, is_yardstick: false };
    let yardstick = |name, points| Line { name, points, is_yardstick: true };
    let mut charts = vec![
        Chart {
            title: "Traffic of a peer".into(),
            unit: "kB/s above UDP",
            scale: Scale::Log,
            lines: vec![
                line("sent", each(&|peers, figures| Some(figures.get("bytes_per_payload_byte")?.as_f64()? * due(peers)))),
                yardstick("must be received", each(&|peers, _| Some(due(peers)))),
            ],
        },
        Chart {
            title: "The same, for each byte of payload".into(),
            unit: "bytes per byte delivered",
            scale: Scale::Linear,
            lines: vec![line("sent", figure("bytes_per_payload_byte")), yardstick("must be received", each(&|_, _| Some(1.0)))],
        },
        Chart {
            title: "CPU time, for each message delivered".into(),
            unit: "\u{b5}s on one core, simulator included",
            scale: Scale::Linear,
            lines: vec![line("spent", figure("cpu_us_per_delivery"))],
        },
        Chart {
            title: "Memory of a peer".into(),
            unit: "KiB, simulator included",
            scale: Scale::Linear,
            lines: vec![line("held", figure("memory_kib_per_peer"))],
        },
    ];
    // Where the system did not tell, there is nothing to draw.
    charts.retain(|chart| chart.lines.iter().all(|line| !line.points.is_empty()));
    let marks: Vec<f64> = found.iter().map(|(peers, _)| f64::from(*peers)).collect();
    sheet(&charts, "peers in the mesh", &marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_told_is_not_drawn() {
        let figures = |bytes: f64| {
            Map::from_iter([("bytes_per_payload_byte".into(), bytes.into()), ("cpu_us_per_delivery".into(), Value::Null)])
        };
        let svg = draw(&[(8, figures(1.1)), (64, figures(1.2))], 200);
        assert!(svg.contains("must be received") && !svg.contains("CPU") && !svg.contains("Memory"));
        assert_eq!(svg.matches("<circle").count(), 4);
        // 63 others, 200 B, 20 times a second, 1.2 bytes for each.
        assert!(svg.contains("<title>302</title>"), "{svg}");
    }
}
