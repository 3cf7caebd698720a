//! The game itself where players are: on a LAN without internet, in two homes behind different routers, and at home with one that can be
//! reached. Real processes in network namespaces; they need root on Linux, elsewhere the test says so and passes.
#![expect(clippy::print_stderr, reason = "that something is skipped is to be seen")]

use std::path::PathBuf;

use peerflock_tests::programs::program;
use serde_json::Value;

/// Players type a name and a password; they meet, see the same world with all birds in it, and hear every line once and in order.
#[test]
fn the_game_plays_on_a_lan_without_internet_between_two_homes_and_mixed() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("homes.json");
    let game = program("murmuration").get_program().to_owned();
    let mut lab = program("peerflock-lab");
    lab.args(["nat", "--game"]).arg(game).arg("--json").arg(&file);
    let output = lab.output().expect("the lab is built with all tests: cargo test --workspace");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&file).expect("it wrote its figures")).expect("as JSON");
    if !report["skipped"].is_null() {
        eprintln!("SKIPPED: {}", report["skipped"]);
        return;
    }
    assert_eq!(report["set_ups_in_which_the_game_plays"], 3, "{}", report["cells"]);
}
