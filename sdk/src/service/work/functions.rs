//! Work on a real mesh: the functions of this program, the threads in which they run, and who waits for results.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::{Board, Done, FunctionId, Outcome, SubmitError, Task, TaskId, WorkError, WorkEvent};
use crate::peer_mesh::PeerMesh;
use crate::service::{ServiceError, ServiceHandle, start};
use crate::sync::lock;

/// Reports that may wait; what comes on top is dropped.
const REPORTS_MAX: usize = 1_024;

/// What a function returns: its output, or why it cannot.
pub type JobResult = Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;

/// The functions that this program runs for the members.
#[derive(Clone)]
pub struct Functions {
    capacity: u16,
    by_id: BTreeMap<FunctionId, Arc<dyn Fn(&Job) -> JobResult + Send + Sync>>,
}

impl Functions {
    /// None yet, at most `capacity` at a time: the share of all work that comes here is in proportion to it. With 0 nothing is run, and
    /// tasks can be submitted all the same.
    pub fn new(capacity: u16) -> Self {
        Self { capacity, by_id: BTreeMap::new() }
    }

    /// One function more. At most 256 are offered.
    ///
    /// It runs in a thread of its own. One that takes longer than its task's [lease](Task::lease) calls [`Job::still_at_it`] now and then.
    pub fn register(mut self, name: &str, function: impl Fn(&Job) -> JobResult + Send + Sync + 'static) -> Self {
        self.by_id.insert(FunctionId::named(name), Arc::new(function));
        self
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions: Vec<_> = self.by_id.keys().collect();
        f.debug_struct("Functions").field("capacity", &self.capacity).field("functions", &functions).finish()
    }
}

/// One run of a function.
#[derive(Debug)]
pub struct Job {
    task: TaskId,
    input: Bytes,
    canceled: Arc<AtomicBool>,
    desk: Arc<Desk>,
}

impl Job {
    /// For which task.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The task's input.
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    /// Says that this goes on, so that nobody takes over. Returns whether the result is still wanted: if not, return anything.
    pub fn still_at_it(&self) -> bool {
        let canceled = self.canceled.load(Ordering::Relaxed);
        if !canceled {
            self.desk.with(|board| board.act(|board, now| board.still_at_it(self.task, now)));
        }
        !canceled
    }
}

/// A member's part in all work: its own tasks, and those that it runs. Cheap to clone; ends with the last clone, or with the mesh.
#[derive(Clone, Debug)]
pub struct Work {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    board: ServiceHandle<Board>,
    desk: Arc<Desk>,
    reports: tokio::sync::Mutex<mpsc::Receiver<WorkEvent>>,
}

/// What the board's voice needs: who waits, and what runs.
#[derive(Debug)]
struct Desk {
    functions: Functions,
    runtime: Handle,
    waiting: Mutex<BTreeMap<TaskId, oneshot::Sender<Result<Done, WorkError>>>>,
    jobs: Mutex<BTreeMap<TaskId, Arc<AtomicBool>>>,
    /// Known once the board has started.
    inner: OnceLock<Weak<Inner>>,
}

/// The board's voice: when the board is over, nobody waits any longer.
struct Voice {
    desk: Arc<Desk>,
    reports: mpsc::Sender<WorkEvent>,
}

impl Work {
    /// Takes part in the work of a mesh, and offers these functions to it.
    ///
    /// # Errors
    /// When this program takes part already, or the mesh was left.
    pub fn join(mesh: &PeerMesh, functions: Functions) -> Result<Self, ServiceError> {
        let board = Board::new(mesh.id(), mesh.boot(), functions.capacity, functions.by_id.keys().copied());
        let desk = Arc::new(Desk {
            functions,
            runtime: mesh.runtime().clone(),
            waiting: Mutex::default(),
            jobs: Mutex::default(),
            inner: OnceLock::new(),
        });
        let (reports, told) = mpsc::channel(REPORTS_MAX);
        let voice = Voice { desk: desk.clone(), reports };
        let board = start(mesh, board, move |event| voice.tell(event))?;
        let inner = Arc::new(Inner { board, desk, reports: tokio::sync::Mutex::new(told) });
        // Whoever set it before us does not exist.
        _ = inner.desk.inner.set(Arc::downgrade(&inner));
        Ok(Self { inner })
    }

    /// Submits a task. Its result, or why there is none, comes to whoever awaits what is returned; drop it if nobody wants to know.
    ///
    /// # Errors
    /// See [`SubmitError`]. Nothing was submitted then.
    pub fn submit(&self, task: Task) -> Result<Pending, SubmitError> {
        if self.inner.board.is_closed() {
            return Err(SubmitError::Closed);
        }
        let (tell, told) = oneshot::channel();
        let task = self.inner.board.act(|board, now| {
            let task = board.submit(task, now)?;
            // Before the board is free again, and could have a result.
            lock(&self.inner.desk.waiting).insert(task, tell);
            Ok(task)
        })?;
        Ok(Pending { task, told })
    }

    /// Waits for the next report on tasks of ours beside their results: [`WorkEvent::Odd`] and [`WorkEvent::Twice`]. `None` when the
    /// mesh is left.
    pub async fn next_report(&self) -> Option<WorkEvent> {
        self.inner.reports.lock().await.recv().await
    }

    /// How many others offer functions, and how many places there are in all.
    pub fn capacity(&self) -> (usize, usize) {
        self.inner.board.act(|board, _| board.capacity())
    }

    /// How many tasks are open, of all members, as far as we know.
    pub fn open_tasks(&self) -> usize {
        self.inner.board.act(|board, _| board.open_tasks())
    }
}

/// The result of a task, once there is one. It is safe to give up waiting, and to wait again.
#[derive(Debug)]
pub struct Pending {
    task: TaskId,
    told: oneshot::Receiver<Result<Done, WorkError>>,
}

impl Pending {
    /// Which task.
    pub fn task(&self) -> TaskId {
        self.task
    }
}

impl Future for Pending {
    type Output = Result<Done, WorkError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let told = ready!(Pin::new(&mut self.told).poll(cx));
        Poll::Ready(told.unwrap_or(Err(WorkError::Closed)))
    }
}

impl Desk {
    fn with<R>(&self, act: impl FnOnce(&ServiceHandle<Board>) -> R) -> Option<R> {
        self.inner.wait().upgrade().map(|inner| act(&inner.board))
    }

    /// In a thread of its own.
    fn run(&self, job: &Job, function: FunctionId) {
        let outcome = match self.functions.by_id.get(&function) {
            // A function that panics is a failure of the task, not of this program.
            Some(function) => match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| function(job))) {
                Ok(Ok(output)) => Outcome::Output(output.into()),
                Ok(Err(error)) => Outcome::Failed(error.to_string()),
                Err(_) => Outcome::Failed("the function panicked".into()),
            },
            None => Outcome::Failed("no such function".into()),
        };
        lock(&self.jobs).remove(&job.task);
        self.with(|board| board.act(|board, now| board.finish(job.task, outcome, now)));
    }
}

impl Voice {
    /// The board is locked meanwhile.
    fn tell(&self, event: WorkEvent) {
        match event {
            WorkEvent::Run { task, function, input } => {
                let canceled = Arc::new(AtomicBool::new(false));
                lock(&self.desk.jobs).insert(task, canceled.clone());
                let job = Job { task, input, canceled, desk: self.desk.clone() };
                self.desk.runtime.spawn_blocking(move || job.desk.run(&job, function));
            }
            WorkEvent::Cancel(task) => {
                if let Some(canceled) = lock(&self.desk.jobs).remove(&task) {
                    canceled.store(true, Ordering::Relaxed);
                }
            }
            WorkEvent::Done(done) => self.end(done.task, Ok(done)),
            WorkEvent::Ended { task, error } => self.end(task, Err(error)),
            // Whoever does not read reports misses them.
            event @ (WorkEvent::Odd { .. } | WorkEvent::Twice { .. }) => _ = self.reports.try_send(event),
        }
    }

    fn end(&self, task: TaskId, end: Result<Done, WorkError>) {
        if let Some(tell) = lock(&self.desk.waiting).remove(&task) {
            // Nobody may want to know.
            _ = tell.send(end);
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        lock(&self.desk.waiting).clear();
        lock(&self.desk.jobs).values().for_each(|canceled| canceled.store(true, Ordering::Relaxed));
    }
}
