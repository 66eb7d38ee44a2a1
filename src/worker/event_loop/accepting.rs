//! Takes connections from the listeners: single-shot accepts, and a fresh attempt now and then.
//!
//! Neighbours: `worker::listeners` keeps the sockets; `arriving` adopts what they give.

use super::*;

impl<H: Handler> EventLoop<H> {
    pub(super) fn accepted(&mut self, listener: u32, result: std::result::Result<Option<SocketAddr>, Errno>) {
        let slot = self.listeners.accepted(listener, &result);
        match result {
            Ok(peer) => {
                self.meter.counters.accepted += 1;
                self.adopt(slot, peer, Vec::new())
            }
            Err(_) => self.connections.unreserve(slot),
        }
        self.arm_accepts();
        self.drain_listeners();
    }

    pub(super) fn arm_accepts(&mut self) {
        if self.drain.is_none() {
            let places = self.places();
            self.listeners.arm(&mut self.ring, &mut self.connections, places);
        }
    }

    /// That are free, of `--max-connections`.
    pub(super) fn places(&self) -> u32 {
        self.settings.max_connections.saturating_sub(self.connections.live())
    }

    /// See `FRESH_ACCEPT_INTERVAL_MS`. Also the moment to try again after the system ran out of descriptors.
    pub(super) fn accept_afresh(&mut self) {
        if self.clock.now() < self.fresh_accept_at || self.drain.is_some() {
            return;
        }
        self.fresh_accept_at = self.clock.now() + FRESH_ACCEPT_INTERVAL_MS;
        self.listeners.retry();
        for _ in 0..FRESH_ACCEPTS_MAX {
            if self.listeners.in_flight() >= self.places() {
                // an accept in flight may have each of them: that one is taken back, and what follows it looks at the backlog
                self.listeners.pause(&mut self.ring);
                break;
            }
            let Some((socket, peer)) = self.listeners.accept_now() else { break };
            self.meter.counters.accepted += 1;
            self.adopt_socket(socket, peer, Vec::new());
        }
        self.arm_accepts();
    }
}
