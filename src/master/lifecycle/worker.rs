//! One worker process in the lifecycle: the phases of its life and what the master knows of it.
//!
//! Neighbours: only `lifecycle` decides about workers; reports read them.

use super::{Action, Limits, Turn};
use crate::event::{Cause, Event, WorkerId, WorkerRef};
use serde::Serialize;
use std::time::{Duration, Instant};

/// A worker's life. It only goes forward, but for two ways back: `stay` and a planned replacement that fails make a
/// `Retiring` worker again what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Asked for; its process may run but has not spoken yet.
    Starting,
    /// It has spoken, but does not listen on every listener yet.
    Online,
    /// It accepts on every listener.
    Listening,
    /// It is to be replaced (it asked, a roll does it, the program wants it, or it has come to a limit) and goes on as before until its replacement listens.
    Retiring,
    /// It is on its way out and keeps no slot: told to drain, killed, or gone from its channel. Its patience timer
    /// runs from here and not before.
    Draining,
    /// Its process has ended. It is forgotten before the step is over, so that thousands of restarts leave nothing.
    Gone,
}

/// One worker process, as the master sees it.
#[derive(Debug)]
pub struct Worker {
    /// What it is called; never used twice.
    pub id: WorkerId,
    /// Its place in the pool.
    pub slot: usize,
    /// Its process ID, once it runs.
    pub pid: Option<i32>,
    /// Where in its life it is.
    pub phase: Phase,
    /// How far it has come by its own word (`Starting`, `Online`, `Listening`): where `stay` leads back to.
    pub(super) reached: Phase,
    /// The listeners it has said `listening` of.
    pub(super) heard: Vec<bool>,
    pub(super) account: Account,
    /// It sent a suicide that is not answered yet.
    pub(super) asking: bool,
    /// The program wants it replaced (`Command::Disconnect`), which has not been done or refused yet.
    pub(super) unwanted: bool,
    /// It is being recycled.
    pub(super) recycled: bool,
    /// Its channel is open.
    pub(super) connected: bool,
    /// Why it leaves, if somebody decided that or it announced it; an exit without one is a crash.
    pub(super) cause: Option<Cause>,
    /// What went wrong with it, if anything did.
    pub(super) problem: Option<String>,
    pub(super) fuse: Fuse,
    /// The limits it was started with: it drains by its own, whatever is in force meanwhile.
    pub(super) boot_timeout: Duration,
    pub(super) kill_timeout: Duration,
}

/// Who pays for the restart that a worker's end makes necessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// Its end will be charged.
    Open,
    /// It was charged, and is so only once, however often it asks and however it then ends.
    Charged,
    /// It replaces somebody by plan and does not listen yet: its end ends the plan and is not charged.
    Planned(Plan),
}

/// Why a worker that goes on well is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// All are.
    Roll,
    /// The program wants this one replaced.
    Disconnect,
    /// It has come to a limit.
    Recycle,
}

/// What a worker is being waited for. The instants say since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fuse {
    /// Nothing.
    Unlit,
    /// To listen on everything, or to exit as it announced.
    Boot(Instant),
    /// To exit, because it was told to or its channel is closed.
    Kill(Instant),
    /// To be gone: it was killed.
    Killed,
    /// To be killed again, because that failed.
    KillAgain(Instant),
}

impl Fuse {
    /// The same, lit so much later.
    pub(super) fn put_off(self, by: Duration) -> Fuse {
        let later = |since: Instant| since.checked_add(by).unwrap_or(since);
        match self {
            Fuse::Boot(since) => Fuse::Boot(later(since)),
            Fuse::Kill(since) => Fuse::Kill(later(since)),
            Fuse::KillAgain(since) => Fuse::KillAgain(later(since)),
            Fuse::Unlit | Fuse::Killed => self,
        }
    }
}

impl Worker {
    pub(super) fn new(id: WorkerId, slot: usize, account: Account, limits: &Limits) -> Self {
        Worker {
            id,
            slot,
            pid: None,
            phase: Phase::Starting,
            reached: Phase::Starting,
            heard: vec![false; limits.listeners],
            account,
            asking: false,
            unwanted: false,
            recycled: false,
            connected: true,
            cause: None,
            problem: None,
            fuse: Fuse::Unlit,
            boot_timeout: limits.boot_timeout,
            kill_timeout: limits.kill_timeout,
        }
    }

    /// When it has been waited for long enough. `None` as well for a time so far away that it cannot be named.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.fuse {
            Fuse::Unlit | Fuse::Killed => None,
            Fuse::Boot(since) => since.checked_add(self.boot_timeout),
            Fuse::Kill(since) | Fuse::KillAgain(since) => since.checked_add(self.kill_timeout),
        }
    }

    /// As events name it.
    pub fn worker_ref(&self) -> WorkerRef {
        WorkerRef { id: self.id, slot: self.slot, pid: self.pid.unwrap_or(0) }
    }

    /// Its slot needs nobody else.
    pub(super) fn keeps_slot(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Online | Phase::Listening)
    }

    /// It accepts connections, or will.
    pub(super) fn serves(&self) -> bool {
        self.keeps_slot() || self.phase == Phase::Retiring
    }

    /// Its loop is to go round: it listens on everything, and does not leave.
    pub(super) fn is_watched(&self) -> bool {
        self.reached == Phase::Listening && self.serves() && self.fuse == Fuse::Unlit
    }

    pub(super) fn all_heard(&self) -> bool {
        self.heard.iter().all(|&heard| heard)
    }

    pub(super) fn reach(&mut self, phase: Phase) {
        self.reached = phase;
        if self.keeps_slot() {
            self.phase = phase;
        }
    }

    pub(super) fn disconnect(&mut self, turn: &mut Turn<'_>) {
        self.connected = false;
        turn.emit(Event::Disconnect(self.worker_ref()));
    }

    pub(super) fn kill(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Draining;
        self.fuse = Fuse::Killed;
        turn.act(Action::Kill { id: self.id });
    }

    pub(super) fn exit_cause(&self) -> Cause {
        self.cause.unwrap_or(if self.asking { Cause::Suicide } else { Cause::Crash })
    }
}
