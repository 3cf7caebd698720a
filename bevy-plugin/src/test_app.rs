//! Several apps of one mesh in one process, over real sockets on loopback: to test what players see of each other.
//!
//! ```
//! use bevy_ecs::prelude::*;
//! use bevy_peerflock::prelude::*;
//! use bevy_peerflock::test_app::TestMesh;
//!
//! #[derive(Component, serde::Serialize, serde::Deserialize)]
//! struct Health(u32);
//!
//! let mut mesh = TestMesh::new(2, |app| {
//!     app.replicate::<Health>();
//! });
//! let here = mesh.app(0).world_mut().spawn((Replicated, Health(100))).id();
//! let there = mesh.until_seen(0, here, 1);
//! assert_eq!(mesh.app(1).world().get::<Health>(there).unwrap().0, 100);
//! ```

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use peerflock::{PeerId, PeerMesh};

use crate::engine::{App, Entity, TaskPoolPlugin, TimePlugin};
use crate::{MeshEntities, MeshEntity, MeshHandle, PeerflockPlugin};

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// From one frame to the next.
const FRAME: Duration = Duration::from_millis(4);

/// The apps of a mesh, numbered in the order in which they joined.
pub struct TestMesh {
    name: String,
    game: Box<dyn Fn(&mut App)>,
    apps: Vec<App>,
}

impl TestMesh {
    /// A mesh of so many peers, each with what `game` adds to its app. Returns when all have met.
    ///
    /// # Panics
    /// If they do not meet in 20 seconds, like all calls here that wait.
    pub fn new(peers: usize, game: impl Fn(&mut App) + 'static) -> Self {
        static MESHES: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), MESHES.fetch_add(1, Ordering::Relaxed));
        let mut mesh = Self { name, game: Box::new(game), apps: Vec::new() };
        for _ in 0..peers {
            mesh.join();
        }
        mesh
    }

    /// One more peer. Returns its number when it has met all others.
    pub fn join(&mut self) -> usize {
        let mut builder = PeerMesh::named(&self.name).loopback_only().lan(false);
        if let Some(first) = self.apps.first() {
            builder = builder.join(first.world().resource::<MeshHandle>().ticket());
        }
        let mut app = App::new();
        app.add_plugins((TaskPoolPlugin::default(), TimePlugin, PeerflockPlugin::new(builder)));
        (self.game)(&mut app);
        app.finish();
        app.cleanup();
        self.apps.push(app);
        let all = self.apps.len();
        self.until("everybody has met", |mesh| {
            mesh.apps.iter().all(|app| app.world().get_resource::<MeshHandle>().is_some_and(|mesh| mesh.members().len() == all))
        });
        all - 1
    }

    /// Ends a peer's app; it says goodbye. The numbers of those after it go down by one.
    pub fn leave(&mut self, peer: usize) {
        drop(self.apps.remove(peer));
    }

    /// One peer's app.
    pub fn app(&mut self, peer: usize) -> &mut App {
        &mut self.apps[peer]
    }

    /// Who a peer is.
    pub fn id(&self, peer: usize) -> PeerId {
        self.apps[peer].world().resource::<MeshHandle>().id()
    }

    /// What `entity` of one peer is to another, if it is there.
    pub fn seen(&self, peer: usize, entity: Entity, by: usize) -> Option<Entity> {
        let id = self.apps[peer].world().get::<MeshEntity>(entity)?.0;
        self.apps[by].world().resource::<MeshEntities>().entity(id)
    }

    /// One frame for everybody.
    pub fn step(&mut self) {
        self.apps.iter_mut().for_each(App::update);
        std::thread::sleep(FRAME);
    }

    /// Frames for so long.
    pub fn run_for(&mut self, duration: Duration) {
        let start = Instant::now();
        while start.elapsed() < duration {
            self.step();
        }
    }

    /// Frames until `done`, and a panic that says `what` did not happen if it takes too long.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            self.step();
        }
    }

    /// Frames until another peer sees `entity`; what it is there.
    pub fn until_seen(&mut self, peer: usize, entity: Entity, by: usize) -> Entity {
        let mut seen = None;
        self.until("the entity is seen", |mesh| {
            seen = mesh.seen(peer, entity, by);
            seen.is_some()
        });
        // It was seen, or the line above has panicked.
        seen.unwrap_or(Entity::PLACEHOLDER)
    }
}

impl fmt::Debug for TestMesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestMesh").field("name", &self.name).field("peers", &self.apps.len()).finish_non_exhaustive()
    }
}
