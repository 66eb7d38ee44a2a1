//! The kernel's clocks that std does not show: what processes can compare, and what a machine slept through.
//!
//! Neighbours: `worker::clock` says where its own clock begins; the master compares.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// CLOCK_MONOTONIC, which is what [`Instant`](std::time::Instant) is on Linux: the same for all processes. It stands still
/// while the machine is suspended.
pub(crate) fn monotonic() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

/// CLOCK_BOOTTIME: the same, and goes on while the machine is suspended.
pub(crate) fn boottime() -> Duration {
    read(ClockId::CLOCK_BOOTTIME)
}

fn read(clock: ClockId) -> Duration {
    // every kernel that has io_uring has both clocks
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_go_on_and_boottime_is_never_behind() {
        let (monotonic, boottime) = (monotonic(), boottime());
        assert!(!monotonic.is_zero() && boottime >= monotonic);
        assert!(super::monotonic() >= monotonic);
    }
}
