//! A roll (SIGHUP): every worker is replaced, slot after slot, without the pool ever being smaller for it.
//!
//! Neighbours: `lifecycle` keeps the pool whole between the moves; the rules of a single worker are there.

use super::{Lifecycle, Phase, Turn, worker::Plan};
use crate::event::{Event, Roll, WorkerId};

/// A roll under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rolling {
    /// The slot whose turn it is.
    slot: usize,
    /// Workers up to this one are to be replaced; later ones were started after the roll was asked for.
    last_old: WorkerId,
}

/// What a roll can do at the slot whose turn it is.
enum RollMove {
    Wait,
    Replace(WorkerId),
    NextSlot,
    Fail,
    Done,
}

impl Lifecycle {
    pub(super) fn roll(&mut self, turn: &mut Turn<'_>) {
        self.throttle.reset();
        if self.rolling.is_some() {
            self.roll_again = true;
        } else {
            self.begin_roll(turn);
        }
    }

    fn begin_roll(&mut self, turn: &mut Turn<'_>) {
        self.throttle.reset();
        self.rolling = Some(Rolling { slot: 0, last_old: self.id_last });
        turn.emit(Event::Reload(Roll::Started));
    }

    /// One move at a time, the pool being restored after each; says whether there was one.
    pub(super) fn move_roll(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(rolling) = self.rolling else {
            let again = std::mem::take(&mut self.roll_again);
            if again {
                self.begin_roll(turn);
            }
            return again;
        };
        match self.next_roll_move(rolling) {
            RollMove::Wait => return false,
            RollMove::Replace(id) => self.replace_by_plan(id, Plan::Roll, turn),
            RollMove::NextSlot => self.rolling = Some(Rolling { slot: rolling.slot + 1, ..rolling }),
            RollMove::Fail => self.fail_roll(rolling.slot, turn),
            RollMove::Done => self.end_roll(Roll::Done, turn),
        }
        true
    }

    /// A slot is done when a worker listens there that is younger than the roll, whoever started it. A giveup
    /// during a roll ends it at the next worker that it would have to replace.
    fn next_roll_move(&self, rolling: Rolling) -> RollMove {
        if rolling.slot >= self.wanted {
            return RollMove::Done;
        }
        match self.keeper(rolling.slot) {
            Some(worker) if worker.phase != Phase::Listening => RollMove::Wait,
            Some(worker) if worker.id > rolling.last_old => RollMove::NextSlot,
            Some(worker) if self.throttle.allows_restarts() => RollMove::Replace(worker.id),
            Some(_) | None => RollMove::Fail,
        }
    }

    /// The replacement in this slot is lost, or there can be none.
    pub(super) fn fail_roll(&mut self, slot: usize, turn: &mut Turn<'_>) {
        let problem = format!("the replacement in slot {slot} did not come up");
        self.end_roll(Roll::Failed { slot: Some(slot), problem }, turn);
        if let Some(id) = self.predecessor(slot) {
            self.restore_predecessor(id, turn);
        }
    }

    fn end_roll(&mut self, stage: Roll, turn: &mut Turn<'_>) {
        self.rolling = None;
        turn.emit(Event::Reload(stage));
    }
}
