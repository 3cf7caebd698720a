//! The networks that players sit at, made of namespaces, with real processes in them: Peer Channel's check C5.3. They need root on Linux;
//! elsewhere the test says so and passes.
#![expect(clippy::print_stderr, reason = "that something is skipped is to be seen")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// What `cargo lab nat` says of the set-ups with this name; None where it cannot make any.
fn tried(name: &str) -> Option<Vec<Value>> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("networks.json");
    let lab = Command::new(env!("CARGO_BIN_EXE_peerflock-lab")).args(["nat", "--only", name, "--json"]).arg(&file).output();
    let output = lab.expect("the lab starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&file).expect("it wrote its figures")).expect("as JSON");
    if !report["skipped"].is_null() {
        eprintln!("SKIPPED: {}", report["skipped"]);
        return None;
    }
    Some(report["cells"].as_array().expect("a list").clone())
}

/// A LAN without internet, where nobody knows any address; two homes, each behind a router; and one at home with one that can be
/// reached: everybody sees everybody's things, hears every line, and has a link of its own.
#[test]
fn c5_3_a_lan_without_internet_two_homes_and_mixed_all_play() {
    for name in ["LAN without internet", "port-restricted - port-restricted", "symmetric - reachable"] {
        let Some(cells) = tried(name) else { return };
        assert!(!cells.is_empty(), "{name}");
        for cell in cells {
            assert_eq!((&cell["plays"], &cell["direct"]), (&1.into(), &1.into()), "{cell}");
        }
    }
}
