//! Recycling: a worker that has come to one of its limits is replaced by plan, like one that the program disconnects, but
//! only when nothing else is going on: one at a time, and the next when the one before is gone.
//!
//! Neighbours: `master::recycling` says who is due, and says it again as long as that is so; `disconnect` has the moves.

use super::disconnect::with_cause;
use super::{Lifecycle, Phase, Turn, worker::Plan};
use crate::event::{Event, WorkerId};
use std::time::Instant;

/// Why a worker that was to be recycled is still there.
pub(super) const NOT_RECYCLED: &str =
    "cannot be recycled (tried again when a restart window has passed): its replacement did not come up";

impl Lifecycle {
    /// Whether one of those that listen can be recycled now: the pool is whole, nobody comes, goes or is to go, and it is
    /// not just now that a replacement has failed to come up.
    pub fn may_recycle(&self, now: Instant) -> bool {
        let goes_on = |worker: &super::Worker| {
            worker.phase == Phase::Listening && worker.is_watched() && !worker.unwanted
        };
        self.serving()
            && self.rolling.is_none()
            && self.throttle.allows_restarts()
            && self.recycle_after.is_none_or(|after| after <= now)
            && self.workers.len() == self.wanted
            && self.workers.values().all(goes_on)
    }

    pub(super) fn recycle(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        if !self.may_recycle(turn.now) {
            return;
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.recycled = true;
            self.replace_by_plan(id, Plan::Recycle, turn);
        }
    }

    /// The replacement in this slot is lost. That was not charged, so it must not be repeated at once.
    pub(super) fn fail_recycle(&mut self, slot: usize, why: Option<&str>, turn: &mut Turn<'_>) {
        self.recycle_after = turn.now.checked_add(self.limits.restart_window);
        let Some(id) = self.predecessor(slot) else { return };
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.recycled = false;
            turn.emit(Event::Error { worker: worker.worker_ref(), problem: with_cause(NOT_RECYCLED, why) });
        }
        self.restore_predecessor(id, turn);
    }
}
