//! How much of what the program says to the master has not left this process: what bounds it.
//!
//! Neighbours: `identity` asks before it takes a message, `control` says what became of it.

use crate::ipc::{MESSAGE_COST, WAITING_MAX};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Octets on their way to the master, each message counted with [`MESSAGE_COST`]. Shared by every thread that sends.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Taken from the program, and not passed to the channel yet.
    in_box: AtomicUsize,
    /// Passed to the channel, and not written yet.
    in_channel: AtomicUsize,
}

impl Backlog {
    /// Takes a message of so many octets, if there is room for it.
    pub fn admit(&self, octets: usize) -> bool {
        let room = WAITING_MAX.saturating_sub(self.in_channel.load(Ordering::Relaxed));
        let more = |waiting| Some(waiting + octets + MESSAGE_COST).filter(|sum| *sum <= room);
        self.in_box.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// A message of so many octets was passed to the channel, or to whoever stands for it.
    pub fn passed_on(&self, octets: usize) {
        self.in_box.fetch_sub(octets + MESSAGE_COST, Ordering::Relaxed);
    }

    /// So many wait in the channel, as [`Channel::waiting`](crate::ipc::Channel::waiting) counts.
    pub fn waits_in_channel(&self, octets: usize) {
        self.in_channel.store(octets, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_anywhere_counts_until_it_has_left() {
        let (backlog, most) = (Backlog::default(), WAITING_MAX - MESSAGE_COST);
        assert!(!backlog.admit(most + 1) && backlog.admit(most) && !backlog.admit(0));
        backlog.passed_on(most);
        backlog.waits_in_channel(most);
        assert!(!backlog.admit(1) && backlog.admit(0) && !backlog.admit(0));
        backlog.waits_in_channel(0);
        assert!(backlog.admit(most - MESSAGE_COST) && !backlog.admit(0));
        backlog.waits_in_channel(usize::MAX);
        assert!(!backlog.admit(0));
    }

    #[test]
    fn many_short_messages_count_for_the_memory_that_they_take() {
        let backlog = Backlog::default();
        let taken = (0..WAITING_MAX).take_while(|_| backlog.admit(1)).count();
        assert_eq!(taken, WAITING_MAX / (MESSAGE_COST + 1));
        (0..taken).for_each(|_| backlog.passed_on(1));
        assert_eq!(backlog.in_box.into_inner(), 0);
    }
}
