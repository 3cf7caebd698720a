//! Our programs as players start them, for tests of real processes.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A program of ours, built like this test, that stays on loopback. `cargo test --workspace` has built it; alone, this does.
///
/// # Panics
/// Where the programs do not build.
pub fn program(name: &str) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows where it is");
        let folder = test.parent().and_then(|deps| deps.parent()).expect("target/debug/deps").to_owned();
        let missing = ["murmuration", "peerflock-lobby"].iter().any(|program| !folder.join(program).exists());
        if missing {
            let built = Command::new(env!("CARGO")).args(["build", "-p", "murmuration", "-p", "peerflock-lobby"]).status();
            assert!(built.is_ok_and(|status| status.success()), "the programs do not build");
        }
        folder
    });
    let mut command = Command::new(folder.join(name));
    command.env("PEERFLOCK_INTERFACE", "lo").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that ends with the test.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
