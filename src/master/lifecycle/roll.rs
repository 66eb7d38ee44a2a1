//! A roll (SIGHUP): the configuration is read again and every worker is replaced, slot after slot, without the pool ever
//! being smaller for it. If a replacement does not come up, the settings of before stay in force, and workers that have the
//! new ones already are replaced once more.
//!
//! Neighbours: `lifecycle` keeps the pool whole between the moves; the rules of a single worker are there.

use super::disconnect::with_cause;
use super::{Action, Lifecycle, Limits, Phase, Settings, Turn, worker::Plan};
use crate::event::{Event, Roll, WorkerId};
use std::mem;
use std::ops::RangeInclusive;

/// A roll under way.
#[derive(Debug)]
pub(super) struct Rolling {
    /// The slot whose turn it is.
    slot: usize,
    /// Who is to be replaced; later ones were started after the roll was asked for.
    old: RangeInclusive<WorkerId>,
    aim: Aim,
}

/// Where a roll leads.
#[derive(Debug)]
enum Aim {
    /// To the settings that were read last.
    Forward {
        /// What was in force before.
        before: Limits,
        /// How many workers there are to be in the end, if that changes.
        wanted: Option<usize>,
        /// Whether those that came up cannot stay if others do not.
        changed: bool,
    },
    /// Back to the settings of before, because a replacement did not come up.
    Back {
        /// Where.
        slot: usize,
        /// And why.
        problem: String,
    },
}

/// The configuration is being read for a roll to come.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The number of workers has been decided since it was asked for.
    overruled: bool,
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
    /// One that is asked for during another follows it, however often it was asked for.
    pub(super) fn roll(&mut self, turn: &mut Turn<'_>) {
        if self.reading.is_some() {
            self.roll_again = true;
        } else if self.rolling.is_some() {
            self.throttle.reset();
            self.roll_again = true;
        } else {
            self.read_config(turn);
        }
    }

    fn read_config(&mut self, turn: &mut Turn<'_>) {
        self.reading = Some(Reading::default());
        turn.act(Action::ReadConfig);
    }

    pub(super) fn take_configured(&mut self, settings: Result<Settings, String>, turn: &mut Turn<'_>) {
        // else it leaves meanwhile
        let Some(Reading { overruled }) = self.reading.take() else { return };
        match settings {
            Ok(Settings { limits, wanted, changed }) => {
                let wanted = wanted.filter(|_| !overruled);
                self.begin_roll(Settings { limits, wanted, changed }, turn);
            }
            Err(problem) => turn.emit(Event::Reload(Roll::Failed { slot: None, problem })),
        }
    }

    fn begin_roll(&mut self, Settings { limits, wanted, changed }: Settings, turn: &mut Turn<'_>) {
        let before = mem::replace(&mut self.limits, limits);
        self.limit_restarts();
        self.throttle.reset();
        let aim = Aim::Forward { before, wanted, changed };
        self.rolling = Some(Rolling { slot: 0, old: 0..=self.id_last, aim });
        turn.emit(Event::Reload(Roll::Started));
    }

    fn limit_restarts(&mut self) {
        self.throttle.set_limits(self.limits.restart_limit, self.limits.restart_window);
    }

    /// One move at a time, the pool being restored after each; says whether there was one.
    pub(super) fn move_roll(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(rolling) = &mut self.rolling else {
            let again = self.reading.is_none() && mem::take(&mut self.roll_again);
            if again {
                self.read_config(turn);
            }
            return again;
        };
        let slot = rolling.slot;
        match self.next_roll_move() {
            RollMove::Wait => return false,
            RollMove::Replace(id) => self.replace_by_plan(id, Plan::Roll, turn),
            RollMove::NextSlot => {
                self.rolling.iter_mut().for_each(|rolling| rolling.slot += 1);
            }
            RollMove::Fail => self.fail_roll(slot, Some("restarts are throttled"), turn),
            RollMove::Done => self.finish_roll(turn),
        }
        true
    }

    /// The number of workers has been decided meanwhile.
    pub(super) fn overrule_reload(&mut self) {
        self.reading.iter_mut().for_each(|reading| reading.overruled = true);
        if let Some(Rolling { aim: Aim::Forward { wanted, .. }, .. }) = &mut self.rolling {
            *wanted = None;
        }
    }

    /// A slot is done when a worker listens there that is not to be replaced, whoever started it. A giveup during a roll
    /// ends it at the next worker that it would have to replace.
    fn next_roll_move(&self) -> RollMove {
        let Some(Rolling { slot, old, aim }) = &self.rolling else { return RollMove::Wait };
        let slots = match aim {
            Aim::Forward { wanted: Some(wanted), .. } => self.wanted.min(*wanted),
            Aim::Forward { .. } | Aim::Back { .. } => self.wanted,
        };
        if *slot >= slots {
            return RollMove::Done;
        }
        match self.keeper(*slot) {
            Some(worker) if worker.phase != Phase::Listening => RollMove::Wait,
            Some(worker) if !old.contains(&worker.id) => RollMove::NextSlot,
            Some(worker) if self.throttle.allows_restarts() => RollMove::Replace(worker.id),
            Some(_) | None => RollMove::Fail,
        }
    }

    fn finish_roll(&mut self, turn: &mut Turn<'_>) {
        match self.rolling.take().map(|rolling| rolling.aim) {
            Some(Aim::Forward { wanted, .. }) => {
                self.wanted = wanted.map_or(self.wanted, |wanted| wanted.clamp(1, super::WORKERS_MAX));
                turn.act(Action::Adopt);
                turn.emit(Event::Reload(Roll::Done));
            }
            Some(Aim::Back { slot, problem }) => {
                turn.act(Action::Forget);
                turn.emit(Event::Reload(Roll::Failed { slot: Some(slot), problem }));
            }
            None => {}
        }
    }

    /// The replacement in this slot is lost, or there can be none.
    pub(super) fn fail_roll(&mut self, slot: usize, why: Option<&str>, turn: &mut Turn<'_>) {
        let problem = with_cause(&format!("the replacement in slot {slot} did not come up"), why);
        match self.rolling.take() {
            Some(Rolling { old, aim: Aim::Forward { before, changed, .. }, .. }) => {
                self.limits = before;
                self.limit_restarts();
                turn.act(Action::Revert);
                self.turn_back(slot, problem, old, changed, turn);
            }
            Some(Rolling { aim: Aim::Back { slot: first, problem: first_problem }, .. }) => {
                turn.act(Action::Forget);
                let problem = format!("{first_problem}; and on the way back {problem}");
                turn.emit(Event::Reload(Roll::Failed { slot: Some(first), problem }));
            }
            None => {}
        }
        if let Some(id) = self.predecessor(slot) {
            self.restore_predecessor(id, turn);
        }
    }

    /// Those that were started with settings that are not to be do not stay.
    fn turn_back(
        &mut self,
        slot: usize,
        problem: String,
        old: RangeInclusive<WorkerId>,
        changed: bool,
        turn: &mut Turn<'_>,
    ) {
        let tried = old.end() + 1..=self.id_last;
        let stays = self.workers.values().any(|worker| tried.contains(&worker.id) && worker.serves());
        if changed && stays {
            turn.emit(Event::Reload(Roll::Reverting { slot, problem: problem.clone() }));
            self.rolling = Some(Rolling { slot: 0, old: tried, aim: Aim::Back { slot, problem } });
            return;
        }
        if changed {
            turn.act(Action::Forget);
        }
        turn.emit(Event::Reload(Roll::Failed { slot: Some(slot), problem }));
    }
}
