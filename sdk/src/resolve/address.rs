//! The static resolver: addresses that somebody was told, by ticket or by word of mouth.

use std::sync::Arc;
use std::time::Duration;

use peerflock_proto::Candidate;
use tokio::time::sleep;

use crate::driver::Shared;

/// How often the addresses are tried again while nobody is there.
const AGAIN: Duration = Duration::from_secs(2);

/// Offers `candidates` at once, and again for as long as we are alone, until the mesh is left.
pub(crate) async fn run(candidates: Vec<Candidate>, shared: Arc<Shared>) {
    loop {
        if shared.node(|node, now| node.members(now).len()) <= 1 {
            shared.candidates(candidates.clone());
        }
        tokio::select! {
            biased;
            () = shared.left() => return,
            () = sleep(AGAIN) => {}
        }
    }
}
