//! A congestion controller that never holds a game's datagrams back, and listens for who should decide instead.
//!
//! The usual controllers take every lost datagram for congestion and shrink their window; a game that sends a little all
//! the time never grows it again. At 5 % loss fresh state would then wait for seconds behind stale state. Worse, quinn sends no
//! acknowledgements while a datagram waits for the window, so two peers that both wait would starve each other. So the
//! window is a constant that never binds. What the link can take is judged by our own [`Meter`], from what is acknowledged and
//! how late, and acted upon before anything is handed to QUIC: datagrams are skipped, streams are slowed.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use super::meter::Meter;

/// Bytes in flight that are never reached. Above `u32::MAX`, quinn's pacer lets every packet go at once, too.
const WINDOW_BYTES: u64 = 1 << 33;

/// Builds the [`ConstantWindow`] of one connection: a new one when it moves to a new path.
#[derive(Debug)]
pub(super) struct ConstantWindowFactory(pub(super) Arc<Meter>);

impl ControllerFactory for ConstantWindowFactory {
    fn build(self: Arc<Self>, _now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        self.0.reset();
        Box::new(ConstantWindow { meter: self.0.clone(), acked: 0, newest_sent: None })
    }
}

#[derive(Clone, Debug)]
struct ConstantWindow {
    meter: Arc<Meter>,
    /// Bytes in the batch of acknowledgements that is coming in.
    acked: u64,
    /// When the newest packet in it was sent.
    newest_sent: Option<Instant>,
}

impl Controller for ConstantWindow {
    fn on_ack(&mut self, _now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.acked += bytes;
        self.newest_sent = self.newest_sent.max(Some(sent));
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        let acked = std::mem::take(&mut self.acked);
        // Only the newest packet tells the round trip: older ones may have been acknowledged before, in vain.
        if let Some(sent) = self.newest_sent.take() {
            self.meter.acked(acked, in_flight, now.saturating_duration_since(sent), now);
        }
    }

    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, _persistent: bool, _lost_bytes: u64) {}

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        WINDOW_BYTES
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        WINDOW_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_never_shrinks_the_window() {
        let now = tokio::time::Instant::now().into_std();
        let factory = Arc::new(ConstantWindowFactory(Arc::new(Meter::new(1, now))));
        let mut controller = factory.build(now, 1_200);
        for _ in 0..1_000 {
            controller.on_congestion_event(now, now, true, 1_200);
        }
        assert_eq!(controller.window(), WINDOW_BYTES);
        assert!(controller.window() > u64::from(u32::MAX), "or quinn would pace");
    }
}
