//! Workers that are seen to stand still, and time that nobody could see: the watchdog's findings. Booting and draining
//! workers are none of its affair, those have time limits of their own.
//!
//! Neighbours: `master::watchdog` finds; `lifecycle` keeps the pool whole around it.

use super::worker::Account;
use super::{Lifecycle, Turn, Worker};
use crate::event::{Cause, Event, WorkerId};
use std::time::Duration;

/// Why a worker that stands still is still there.
pub(super) const LEFT: &str =
    "stands still, and restarts are throttled, so nobody can take its place: it is left as it is";

impl Lifecycle {
    /// Whose loops are to go round: they listen, and are waited for with nothing else.
    pub fn watched(&self) -> Vec<WorkerId> {
        self.ids(Worker::is_watched)
    }

    /// It is charged, then its replacement is started, then it is killed. If nobody may take its place it is left: it may
    /// come back, and is no worse than an empty slot.
    pub(super) fn take_stalled(&mut self, id: WorkerId, anew: bool, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id).filter(|worker| worker.is_watched()) else { return };
        let (slot, keeps_slot) = (worker.slot, worker.keeps_slot());
        if keeps_slot && self.throttle.allows_restarts() {
            self.charge(id, turn);
        }
        if !self.throttle.allows_restarts() {
            return if anew {
                self.leave_as_it_is(id, turn)
            };
        }
        if keeps_slot {
            self.spawn(slot, Account::Open, turn);
        }
        let Some(worker) = self.started(id) else { return };
        worker.cause = Some(Cause::Stall);
        worker.kill(turn);
    }

    fn leave_as_it_is(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id) else { return };
        turn.emit(Event::Error { worker: worker.worker_ref(), problem: LEFT.to_owned() });
    }

    /// Nobody could be seen for so long, or do anything: it counts for nobody whose time runs. The throttle's window is no
    /// such time: what is in it has happened, and one that passes unseen only forgives it sooner.
    pub(super) fn put_off(&mut self, by: Duration) {
        for worker in self.workers.values_mut() {
            worker.fuse = worker.fuse.put_off(by);
        }
    }
}
