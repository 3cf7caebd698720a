//! The swarm example, as `cargo lab game --entities` runs it: processes that meet, play, and tell what they found.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

#[test]
fn all_processes_end_with_one_world_and_tell_what_it_cost() {
    let output = Command::new(example())
        .args(["--peers", "3", "--entities", "31", "--warm-up", "2", "--seconds", "2"])
        .env("PEERFLOCK_INTERFACE", "lo")
        .output()
        .expect("the example is there: `cargo test` builds it, `cargo build --example swarm` too");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    for (figure, wanted) in [("processes", 3.0), ("processes_failed", 0.0), ("entities_seen", 1.0), ("entities_converged", 1.0)] {
        assert_eq!(found[figure].as_f64(), Some(wanted), "{figure} in {found} {complaint}");
    }
    assert!(found["state_age_p99_ms"].as_f64() >= found["state_age_p50_ms"].as_f64(), "{found}");
    // Nothing moves for nothing.
    if cfg!(target_os = "linux") {
        assert!(found["cpu_ms_per_second_total"].as_f64() > Some(0.0), "{found}");
        assert!(found["bytes_per_entity_update"].as_f64() > Some(0.1), "{found}");
    }
}

/// Beside this test: `target/<profile>/examples`.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("cargo puts tests into <profile>/deps");
    profile.join("examples").join(format!("swarm{}", std::env::consts::EXE_SUFFIX))
}
