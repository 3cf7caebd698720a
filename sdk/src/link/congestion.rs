//! A congestion controller that never holds a game's datagrams back.
//!
//! The usual controllers take every lost datagram for congestion and shrink their window; a game that sends a little all
//! the time never grows it again. At 5 % loss fresh state would then wait for seconds behind stale state. A game's state is
//! small and paced by its tick, so the window is a constant that never binds; streams are held by the send window instead.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};

/// Bytes in flight that are never reached. Above `u32::MAX`, quinn's pacer lets every packet go at once, too.
const WINDOW_BYTES: u64 = 1 << 33;

/// Builds one [`ConstantWindow`] per connection.
#[derive(Debug)]
pub(super) struct ConstantWindowFactory;

impl ControllerFactory for ConstantWindowFactory {
    fn build(self: Arc<Self>, _now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        Box::new(ConstantWindow)
    }
}

#[derive(Clone, Copy, Debug)]
struct ConstantWindow;

impl Controller for ConstantWindow {
    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, _persistent: bool, _lost_bytes: u64) {}

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        WINDOW_BYTES
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(*self)
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
        let mut controller = Arc::new(ConstantWindowFactory).build(now, 1_200);
        for _ in 0..1_000 {
            controller.on_congestion_event(now, now, true, 1_200);
        }
        assert_eq!(controller.window(), WINDOW_BYTES);
        assert!(controller.window() > u64::from(u32::MAX), "or quinn would pace");
    }
}
