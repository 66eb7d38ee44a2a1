//! A disconnect: one worker is replaced because the program wants it, like in one step of a roll: its replacement first,
//! then its drain, and nobody is charged.
//!
//! Neighbours: `lifecycle` keeps the pool whole between the moves; `roll` does the same to all of them.

use super::{Lifecycle, Phase, Turn, worker::Account, worker::Plan};
use crate::event::{Event, WorkerId};

/// Why a worker that was to be disconnected is still there; what is known of the replacement's end follows.
pub const NOT_REPLACED: &str = "cannot be replaced: its replacement did not come up";
/// The same while restarts are throttled.
pub const NOT_REPLACEABLE: &str = "cannot be replaced: restarts are throttled, so nobody can take its place";

impl Lifecycle {
    /// It is only noted here, and moved when the worker listens. One that leaves already does what was wanted.
    pub(super) fn disconnect(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.serves()) {
            worker.unwanted = true;
        }
    }

    /// One move at a time, the pool being restored after each; says whether there was one. Whoever retires already, for
    /// another reason, is left to that; should it stay after all, its time comes again.
    pub(super) fn move_disconnects(&mut self, turn: &mut Turn<'_>) -> bool {
        let ready = |worker: &&super::Worker| worker.unwanted && worker.phase == Phase::Listening;
        let Some(id) = self.workers.values().find(ready).map(|worker| worker.id) else { return false };
        if self.throttle.allows_restarts() {
            self.replace_by_plan(id, Plan::Disconnect, turn);
        } else {
            self.keep(id, NOT_REPLACEABLE, turn);
        }
        true
    }

    /// The replacement in this slot is lost.
    pub(super) fn fail_disconnect(&mut self, slot: usize, why: Option<&str>, turn: &mut Turn<'_>) {
        if let Some(id) = self.predecessor(slot) {
            self.keep(id, &with_cause(NOT_REPLACED, why), turn);
            self.restore_predecessor(id, turn);
        }
    }

    fn keep(&mut self, id: WorkerId, why: &str, turn: &mut Turn<'_>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.unwanted = false;
        turn.emit(Event::Error { worker: worker.worker_ref(), problem: why.to_owned() });
    }

    /// Retires a worker that listens, with a replacement whose loss is not charged.
    pub(super) fn replace_by_plan(&mut self, id: WorkerId, plan: Plan, turn: &mut Turn<'_>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.phase = Phase::Retiring;
        let slot = worker.slot;
        self.spawn(slot, Account::Planned(plan), turn);
    }

    /// Whoever a lost replacement was to replace; not the replacement itself, which may be retiring as well (a suicide
    /// before it listened).
    pub(super) fn predecessor(&self, slot: usize) -> Option<WorkerId> {
        let mut in_slot = self.workers.values().filter(|worker| worker.slot == slot);
        let predecessor =
            in_slot.find(|worker| worker.phase == Phase::Retiring && worker.reached == Phase::Listening);
        predecessor.map(|worker| worker.id)
    }

    /// The predecessor goes on as if nothing had been, unless it has asked to go meanwhile: then its replacement
    /// becomes due only now, and is unplanned.
    pub(super) fn restore_predecessor(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        match self.workers.get_mut(&id) {
            Some(worker) if worker.asking => self.charge(id, turn),
            Some(worker) => worker.phase = Phase::Listening,
            None => {}
        }
    }
}

/// What did not work, and why, where that is known.
pub(super) fn with_cause(what: &str, why: Option<&str>) -> String {
    why.map_or_else(|| what.to_owned(), |why| format!("{what}: {why}"))
}
