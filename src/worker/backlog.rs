//! How much of what the program says to the master has not left this process: what bounds it.
//!
//! Neighbours: `identity` asks before it takes a message, `control` says what became of it.

use crate::ipc::WAITING_MAX;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Octets on their way to the master. Shared by every thread that sends.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Taken from the program, and not passed to the channel yet.
    in_box: AtomicUsize,
    /// Passed to the channel, and not written yet.
    in_channel: AtomicUsize,
}

impl Backlog {
    /// Takes so many octets more, if there is room for them.
    pub fn admit(&self, octets: usize) -> bool {
        let room = WAITING_MAX.saturating_sub(self.in_channel.load(Ordering::Relaxed));
        let more = |waiting| Some(waiting + octets).filter(|sum| *sum <= room);
        self.in_box.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// So many of those were passed to the channel, or to whoever stands for it.
    pub fn passed_on(&self, octets: usize) {
        self.in_box.fetch_sub(octets, Ordering::Relaxed);
    }

    /// So many wait in the channel.
    pub fn waits_in_channel(&self, octets: usize) {
        self.in_channel.store(octets, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_anywhere_counts_until_it_has_left() {
        let backlog = Backlog::default();
        assert!(backlog.admit(WAITING_MAX) && !backlog.admit(1));
        backlog.passed_on(WAITING_MAX);
        backlog.waits_in_channel(WAITING_MAX - 1);
        assert!(backlog.admit(1) && !backlog.admit(1));
        backlog.waits_in_channel(0);
        assert!(backlog.admit(WAITING_MAX - 1) && !backlog.admit(1));
        backlog.waits_in_channel(usize::MAX);
        assert!(!backlog.admit(1));
    }
}
