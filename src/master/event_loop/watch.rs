//! The master's looks at its workers: whether their loops move, whether they have come to a limit, and whether it was there
//! itself to see.
//!
//! Neighbours: `master::watchdog` and `master::recycling` judge what is seen here, `lifecycle` decides what follows.

use super::*;
use crate::config::Config;
use crate::event::{Cause, Evidence};
use crate::master::evidence;
use crate::master::recycling::{self, Due};
use crate::master::watchdog::{self, Finding, Vigil, Watchdog};
use crate::stats::Area;
use crate::sys::{clock, procfs};
use std::collections::BTreeSet;
use std::time::Duration;

/// What the master remembers between two looks.
pub(super) struct Watch {
    watchdog: Watchdog,
    vigil: Vigil,
    /// When it looks next; `None` while there is nobody to look at.
    next: Option<Instant>,
    /// Since when workers listen, and how much memory they had then.
    listening: BTreeMap<WorkerId, (Instant, Option<u64>)>,
    /// What was said of limits that are too low; each is said once.
    said: BTreeSet<&'static str>,
}

impl Watch {
    pub(super) fn begin() -> Watch {
        Watch {
            watchdog: Watchdog::default(),
            vigil: Vigil::new(ahead()),
            next: None,
            listening: BTreeMap::new(),
            said: BTreeSet::new(),
        }
    }
}

/// How far CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC. Read in this order it is never too little by the time in between.
fn ahead() -> Duration {
    let monotonic = clock::monotonic();
    clock::boottime().saturating_sub(monotonic)
}

impl EventLoop {
    /// The time. If it is much later than it should be, nobody is judged by what was lost.
    pub(super) fn look_at_clock(&mut self) -> Instant {
        let (now, pace) = (Instant::now(), self.pace());
        if let Some(held_up) = self.watch.vigil.look(now, ahead(), pace) {
            report::held_up(held_up);
            self.watch.watchdog.put_off(held_up.lost);
            self.inputs.push_front(Input::HeldUp(held_up.lost));
        }
        now
    }

    fn pace(&self) -> Duration {
        let Config { stall_timeout, kill_timeout, boot_timeout, .. } = self.in_force.config;
        watchdog::pace([stall_timeout, kill_timeout, boot_timeout])
    }

    /// How long the master may wait. While somebody is timed it looks at the clock at its pace, to know if it was held up.
    pub(super) fn next_look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let deadline = self.lifecycle.next_deadline();
        let in_time = deadline.map(|_| now + self.pace());
        let next = [deadline, in_time, self.watch.next].into_iter().flatten().min();
        self.watch.vigil.wait_until(next.map(|next| next.max(now)));
        next
    }

    /// Looks at everybody who listens, if it is time to; what is seen are inputs.
    pub(super) fn watch(&mut self) {
        let now = self.look_at_clock();
        // it was held up, or finds that somebody has just begun
        if !self.inputs.is_empty() || self.watch.next.is_some_and(|next| now < next) {
            return;
        }
        let watched = self.lifecycle.watched();
        self.watch.watchdog.watch_only(&watched);
        self.watch.listening.retain(|id, _| watched.contains(id));
        self.watch.next = (!watched.is_empty()).then(|| now + self.pace());
        for id in &watched {
            self.look_at_loop(*id, now);
        }
        if self.inputs.is_empty() {
            self.look_at_limits(&watched, now);
        }
    }

    /// Somebody listens, and does not stand still.
    pub(super) fn is_healthy(&self) -> bool {
        self.lifecycle.listening() > 0 && !self.watch.watchdog.all_stand_still()
    }

    // ---- stalls ----

    fn look_at_loop(&mut self, id: WorkerId, now: Instant) {
        let Some(area) = self.book.area(id) else { return };
        let pulse = area.pulse();
        let (patience, pid) = (self.in_force.config.stall_timeout, self.reference(id).pid);
        match self.watch.watchdog.look(id, pulse, now, patience, || evidence::excuse(pid)) {
            Finding::Moves => {}
            Finding::MovesAgain(after) => report::moves_again(&self.reference(id), after),
            Finding::Excused { excuse, anew: true } => report::left_alone(&self.reference(id), excuse),
            Finding::Excused { anew: false, .. } => {}
            Finding::Stalled { stalled_for, anew } => {
                if anew {
                    let evidence = self.gather(id, &area, stalled_for + self.pace());
                    // one that came back while it was looked at is left alone
                    if area.pulse() != pulse {
                        return;
                    }
                    self.emit(&Event::Stalled { worker: self.reference(id), stalled_for, evidence });
                }
                if area.pulse() == pulse {
                    self.inputs.push_back(Input::Stalled { id, anew });
                }
            }
        }
    }

    /// The other two limits: what a worker is at that does not come up, or does not leave.
    pub(super) fn tell_of_overdue(&self, id: WorkerId) {
        let cause = self.lifecycle.cause(id);
        let overdue = cause.filter(|cause| matches!(cause, Cause::BootTimeout | Cause::KillTimeout));
        if let (Some(cause), Some(area)) = (overdue, self.book.area(id)) {
            report::overdue(&self.reference(id), cause, &self.gather(id, &area, Duration::MAX));
        }
    }

    /// `at_most`: for how long it can have been at what it is at. The change that was seen last had come since the look
    /// before it.
    fn gather(&self, id: WorkerId, area: &Area, at_most: Duration) -> Evidence {
        evidence::gather(self.reference(id).pid, &area.doing(), at_most)
    }

    // ---- recycling ----

    fn limits(&self) -> recycling::Limits {
        let Config { max_requests: requests, max_lifetime: lifetime, max_memory: memory, .. } =
            self.in_force.config;
        recycling::Limits { requests, lifetime, memory }
    }

    fn memory(&self, id: WorkerId) -> Option<u64> {
        self.in_force.config.max_memory.and_then(|_| procfs::rss_anon(self.reference(id).pid))
    }

    /// A worker listens: what it has now, its successor would have as well.
    pub(super) fn began_to_listen(&mut self, id: WorkerId) {
        let memory = self.memory(id);
        self.watch.listening.insert(id, (Instant::now(), memory));
        if self.limits().of(id).is_too_little(memory) {
            self.say_once("workers have more than --max-memory when they begin: none is replaced for it");
        }
    }

    fn say_once(&mut self, text: &'static str) {
        if self.watch.said.insert(text) {
            tracing::warn!("{text}");
        }
    }

    fn look_at_limits(&mut self, watched: &[WorkerId], now: Instant) {
        if !self.limits().any() || !self.lifecycle.may_recycle(now) {
            return;
        }
        for id in watched {
            let limits = self.limits().of(*id);
            let Some(worker) = self.measure(*id, now) else { continue };
            match limits.reached(&worker) {
                Due::No => {}
                Due::TooYoung(_) => self.say_once(
                    "workers come to a limit of theirs within a second: each listens for one before it is replaced",
                ),
                Due::Yes(limit) => {
                    report::recycle(&self.reference(*id), limit, &limits, &worker);
                    return self.inputs.push_back(Input::Command(Command::Recycle(*id)));
                }
            }
        }
    }

    fn measure(&self, id: WorkerId, now: Instant) -> Option<recycling::Worker> {
        let (since, memory_at_first) = *self.watch.listening.get(&id)?;
        Some(recycling::Worker {
            age: now.saturating_duration_since(since),
            requests: self.book.area(id)?.counters().requests,
            memory: self.memory(id),
            memory_at_first,
        })
    }
}
