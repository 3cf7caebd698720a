//! What crosses crates, tested in three layers. The tests are in `tests/`; here is what they share with the lab.
//!
//! | layer | file | what runs |
//! | --- | --- | --- |
//! | the protocol alone, in virtual time | `mesh.rs`, `overlay.rs`, `chaos.rs` | up to a hundred nodes in one thread; the same seed gives the same trace |
//! | the same, in thousands of short stories about who owns what | `ownership.rs` | three to eight nodes that fall apart, heal, and want the same things |
//! | the same, one request, refusal or seizure at a time | `requests.rs` | two to five nodes |
//! | the same, with all that was said and heard compared | `nothing_lost.rs` | twenty and forty nodes, losses up to 30 %, relays that die |
//! | the same, with members that cheat | `weaknesses/` | what Peer Channel could not do, a test for each |
//! | attacks, each by its name | `attacks/` | nodes in a test's own hands, on wires that it reads and alters, and strangers on real QUIC |
//! | the fuzz targets, with a seeded mutator | `mutators.rs` | 100,000 inputs each; `fuzz/` runs the same under cargo-fuzz |
//! | all of them | `peer_channel/` | what Peer Channel was made for: a test for each check of each scenario |
//! | real QUIC on a network in memory, under a paused clock | `virtual_network.rs` | eight peers with loss, jitter and duplicates |
//! | real processes on loopback | `processes.rs` | the game and the lobby as players start them |
//! | the same with windows, mouse and keyboard | `windows.rs` | two people from the list of rooms into one game and back |
//!
//! What concerns one crate only is tested in that crate. `regressions.txt` holds every seed that failed once.

pub mod fuzzing;
pub mod game;
pub mod mutator;
pub mod ownership;
pub mod programs;
pub mod seeds;
pub mod wiretap;
