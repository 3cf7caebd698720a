//! Bulk streams: what is large and can wait goes beside the game's traffic on a link, and never in its way.
//!
//! Either end of a link opens a stream of its own for each transfer and asks on it; the other end answers on it. QUIC sends datagrams
//! before streams, and these streams after the one for frames; how fast they go together is judged by [`BulkRate`](super::bulk_rate), and
//! all links together leave a part of what the socket lets out to the game ([`BulkBudget`]). A link takes no such stream before somebody
//! here [opens the door](BulkPort::set_open) for them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::time::{Instant, sleep};

use super::connection::MEMBER_WINDOW_BYTES;
use super::endpoint::{STREAM_RECEIVE_BYTES, STREAM_SEND_BYTES};
use super::meter::Meter;

/// Streams that the other end of a link may hold open at a time.
pub(crate) const BULK_STREAMS_MAX: u32 = 8;
/// Below all others, which are at 0.
const PRIORITY: i32 = -1;
/// Bulk bytes on their way that nobody has confirmed, on one link. What is more than that waits where it is.
const SEND_BYTES: u64 = 2 * 1024 * 1024;
/// Bytes written in one go: a packet's worth, so that none of the game's ever waits for more than one.
const PIECE_BYTES: usize = 1_100;
/// Where a line is so fast that tokio's clock is too coarse for single packets, as much as goes in so long.
const PIECE: Duration = Duration::from_millis(1);
/// Bulk bytes per second on all links together: three quarters of what the socket lets out.
const ALL_PER_SECOND: f64 = 12_000.0 * 1_200.0;
const ALL_BURST: f64 = 32.0 * 1_200.0;

/// The stream ended, or its link did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// What all links of an endpoint may send in bulk.
#[derive(Debug)]
pub(super) struct BulkBudget(Mutex<(f64, Instant)>);

impl Default for BulkBudget {
    fn default() -> Self {
        Self(Mutex::new((ALL_BURST, Instant::now())))
    }
}

impl BulkBudget {
    fn wait(&self, bytes: usize) -> Duration {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (credit, filled) = *bucket;
        let now = Instant::now();
        let passed = now.saturating_duration_since(filled).as_secs_f64();
        let credit = (credit + passed * ALL_PER_SECOND).min(ALL_BURST) - bytes as f64;
        *bucket = (credit, now);
        if credit >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-credit / ALL_PER_SECOND) }
    }
}

/// A link's side door. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BulkPort {
    pub(super) connection: Connection,
    pub(super) meter: Arc<Meter>,
    pub(super) budget: Arc<BulkBudget>,
    pub(super) dialer: bool,
}

impl BulkPort {
    /// Whether the other end may open streams here from now on. Those that are open stay.
    pub(crate) fn set_open(&self, open: bool) {
        let bulk = if open { BULK_STREAMS_MAX } else { 0 };
        // The one for frames is the dialer's.
        self.connection.set_max_concurrent_bi_streams(VarInt::from_u32(bulk + u32::from(!self.dialer)));
        // What nobody reads must not take the room of frames.
        self.connection.set_receive_window(VarInt::from_u32(MEMBER_WINDOW_BYTES + bulk * STREAM_RECEIVE_BYTES));
        self.connection.set_send_window(STREAM_SEND_BYTES + if open { SEND_BYTES } else { 0 });
    }

    /// Opens a stream. Waits until the other end allows one more, which may be never.
    pub(crate) async fn open(&self) -> Result<(BulkWriter, BulkReader), Ended> {
        let (send, receive) = self.connection.open_bi().await.map_err(|_| Ended)?;
        Ok(self.stream(send, receive))
    }

    /// What an accepted stream is.
    pub(crate) fn stream(&self, send: SendStream, receive: RecvStream) -> (BulkWriter, BulkReader) {
        // It fails for streams that have ended, which writing tells.
        _ = send.set_priority(PRIORITY);
        (BulkWriter { send, port: self.clone() }, BulkReader { receive })
    }

    /// The other end says how much later than at best comes what we send in bulk.
    pub(crate) fn report(&self, queue: Duration) {
        self.meter.bulk_reported(queue, Instant::now().into_std());
    }

    /// Bytes per second that bulk streams may take now.
    pub(crate) fn rate(&self) -> f64 {
        self.meter.bulk_rate()
    }

    /// How long a question and its answer are under way of late.
    pub(crate) fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }

    /// Whether nothing more goes over the link.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }
}

/// The sending half of a bulk stream.
#[derive(Debug)]
pub(crate) struct BulkWriter {
    send: SendStream,
    port: BulkPort,
}

impl BulkWriter {
    /// Writes all of it, as fast as bulk may go, after what `first` says when its turn comes.
    pub(crate) async fn write(&mut self, first: impl FnOnce() -> [u8; 4], mut bytes: Bytes) -> Result<(), Ended> {
        let mut first = Some(first);
        while !bytes.is_empty() {
            let most = ((self.port.rate() * PIECE.as_secs_f64()) as usize).max(PIECE_BYTES);
            let piece = bytes.split_to(most.min(bytes.len()));
            let wait = self.port.meter.bulk_wait(piece.len(), Instant::now().into_std()).max(self.port.budget.wait(piece.len()));
            if wait > Duration::ZERO {
                sleep(wait).await;
            }
            // In one packet with what follows.
            if let Some(first) = first.take() {
                self.write_now(&first()).await?;
            }
            self.send.write_chunk(piece).await.map_err(|_| Ended)?;
        }
        Ok(())
    }

    /// The way it goes.
    pub(crate) fn port(&self) -> &BulkPort {
        &self.port
    }

    /// Writes a few bytes at once.
    pub(crate) async fn write_now(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.send.write_all(bytes).await.map_err(|_| Ended)
    }
}

/// The receiving half of a bulk stream. Nothing is read ahead but what QUIC's windows allow.
#[derive(Debug)]
pub(crate) struct BulkReader {
    receive: RecvStream,
}

impl BulkReader {
    /// Fills `buffer`.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> Result<(), Ended> {
        self.receive.read_exact(buffer).await.map_err(|_| Ended)
    }
}
