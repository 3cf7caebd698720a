//! Starting a mesh from a program without an async runtime.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::{PeerMesh, PeerMeshBuilder, StartError};

/// A mesh that starts in a thread of its own, from [`PeerMeshBuilder::start_in_background`].
///
/// The thread runs the mesh, too, and ends with it. Dropping this before it is ready leaves the mesh again.
#[derive(Debug)]
pub struct StartingMesh {
    /// Empty once it was taken.
    outcome: Mutex<Option<Receiver<Result<PeerMesh, StartError>>>>,
}

impl StartingMesh {
    pub(super) fn new(builder: PeerMeshBuilder) -> Self {
        let (told, outcome) = sync_channel(1);
        let failed = told.clone();
        let run = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    _ = told.send(Err(StartError::Runtime(error)));
                    return;
                }
            };
            runtime.block_on(async {
                let outcome = builder.start().await;
                let shared = outcome.as_ref().ok().map(|mesh| mesh.handle.shared.clone());
                // Nobody may be waiting any more; the handle then ends here, and the mesh with it.
                _ = told.send(outcome);
                if let Some(shared) = shared {
                    shared.over().await;
                }
            });
        };
        if let Err(error) = std::thread::Builder::new().name("peerflock".into()).spawn(run) {
            // There is room for one outcome, and the thread that would have sent it does not exist.
            _ = failed.send(Err(StartError::Runtime(error)));
        }
        Self { outcome: Mutex::new(Some(outcome)) }
    }

    /// The outcome, once there is one; `None` before, and after it was taken. Returns at once.
    pub fn try_ready(&self) -> Option<Result<PeerMesh, StartError>> {
        let mut waiting = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match waiting.as_ref()?.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(StartError::Stopped),
        };
        *waiting = None;
        Some(outcome)
    }

    /// Blocks until there is an outcome: some seconds when nobody is found.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn wait(self) -> Result<PeerMesh, StartError> {
        let outcome = self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.and_then(|outcome| outcome.recv().ok()).unwrap_or(Err(StartError::Stopped))
    }
}
