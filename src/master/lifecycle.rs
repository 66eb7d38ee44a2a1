//! What the master does next, decided without doing it: inputs (signals, pidfds, frames, time) go in, actions come
//! out. Pure: no I/O and no clock. Every step ends by comparing the workers that are wanted with those that are
//! there, so whatever was lost on the way heals itself.
//!
//! The caller performs the actions in order and reports what came of them as further inputs. It answers every
//! `Spawn` with `Spawned` or `SpawnFailed` before it reports anything else of that worker, and reads a channel to
//! its end before it reports `Exited`. The first step (a `Tick` will do) starts the pool.
//!
//! Neighbours: `event_loop` drives it, `throttle` says whether the dead may be replaced, `event` is what it reports.

mod disconnect;
mod recycle;
mod roll;
mod stall;
mod worker;

pub use disconnect::{NOT_REPLACEABLE, NOT_REPLACED};
pub use worker::{Phase, Worker};

use super::throttle::{self, Throttle, Verdict};
use crate::error::RingRefusal;
use crate::event::{Cause, Event, ExitStatus, WorkerId};
use roll::{Reading, Rolling};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use worker::{Account, Fuse, Plan};

/// More workers than this help nobody: it bounds what a stuck SIGTTIN can do.
pub const WORKERS_MAX: usize = 1024;

/// How patient the master is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a draining worker may take before it is killed.
    pub kill_timeout: Duration,
    /// How long a worker may take from its start to its last `listening`.
    pub boot_timeout: Duration,
    /// Unplanned restarts allowed within `restart_window`; one more is a giveup.
    pub restart_limit: u32,
    /// See `restart_limit`; also how long a giveup and its trial last.
    pub restart_window: Duration,
    /// How many listeners a worker is given; it is listening when it has said so of each. At least one.
    pub listeners: usize,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Only time has passed.
    Tick,
    /// The worker's process runs.
    Spawned {
        /// The worker, as named by [`Action::Spawn`].
        id: WorkerId,
        /// Its process ID.
        pid: i32,
    },
    /// The worker's process could not be started.
    SpawnFailed {
        /// The worker, as named by [`Action::Spawn`].
        id: WorkerId,
        /// What the kernel said.
        problem: String,
    },
    /// The worker says that it runs.
    Online {
        /// The worker.
        id: WorkerId,
    },
    /// The worker says that the kernel gives it no ring; it will exit.
    Refused {
        /// The worker.
        id: WorkerId,
        /// Why not.
        cause: RingRefusal,
    },
    /// The worker says that it cannot start for a reason of its own; it will exit.
    Failed {
        /// The worker.
        id: WorkerId,
        /// What it said.
        problem: String,
    },
    /// The worker accepts on one listener.
    Listening {
        /// The worker.
        id: WorkerId,
        /// Which listener.
        listener: usize,
    },
    /// The worker asks to be replaced.
    Suicide {
        /// The worker.
        id: WorkerId,
    },
    /// The channel to the worker is closed.
    Disconnected {
        /// The worker.
        id: WorkerId,
    },
    /// The worker's process is gone.
    Exited {
        /// The worker.
        id: WorkerId,
        /// How it ended; `None` if it is not our child.
        status: Option<ExitStatus>,
    },
    /// The worker could not be killed.
    KillFailed {
        /// The worker.
        id: WorkerId,
        /// What the kernel said.
        problem: String,
    },
    /// What came of [`Action::ReadConfig`]: the error is one line.
    Configured(Result<Settings, String>),
    /// The worker's loop stands still; said again as long as it does.
    Stalled {
        /// The worker.
        id: WorkerId,
        /// It was not said before.
        anew: bool,
    },
    /// The master could see nobody for so long, and perhaps nobody could do anything: all time limits are put off by that.
    HeldUp(Duration),
    /// Somebody wants something of the master.
    Command(Command),
}

/// What a reading of the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// For the workers that are started from now on.
    pub limits: Limits,
    /// How many workers are wanted, where that has changed since it was read before.
    pub wanted: Option<usize>,
    /// Workers with these settings are not those of before: if they do not all come up, those that did are replaced
    /// again.
    pub changed: bool,
}

/// What an operator can ask for by signal, or the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Finish what is in flight, then end.
    Stop,
    /// End now: what is in flight is lost.
    StopNow,
    /// Read the configuration again and replace every worker, one after the other; clears a giveup.
    Roll,
    /// One worker more.
    Grow,
    /// One worker fewer, but never none.
    Shrink,
    /// So many workers, from one to [`WORKERS_MAX`].
    Scale(usize),
    /// Replace this worker, which goes on well: its replacement first, then its drain. It may fail (an error event says
    /// so, and the worker stays), and costs nothing of the throttle.
    Disconnect(WorkerId),
    /// Replace this worker, which has come to a limit, in the same way; ignored unless [`Lifecycle::may_recycle`].
    Recycle(WorkerId),
}

/// What the caller is to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a worker process.
    Spawn {
        /// What it is called from now on.
        id: WorkerId,
        /// Its place in the pool.
        slot: usize,
    },
    /// Tell it to accept no more, finish and exit.
    Drain {
        /// The worker.
        id: WorkerId,
        /// The whole server stops.
        stop: bool,
        /// Why.
        cause: Option<Cause>,
    },
    /// Tell it that nobody can replace it now.
    Stay {
        /// The worker.
        id: WorkerId,
    },
    /// SIGKILL, by pidfd.
    Kill {
        /// The worker.
        id: WorkerId,
    },
    /// Close the master's own copies of the listeners, so that later clients are refused and not left in a queue.
    CloseListeners,
    /// Read the configuration again and say what is in it ([`Input::Configured`]).
    ReadConfig,
    /// Every worker runs with the settings read last: those before are forgotten.
    Adopt,
    /// The settings read last are not to be: whoever is started from now on gets those of before. Who is starting with
    /// them goes on.
    Revert,
    /// Nobody starts with settings any more that were not to be.
    Forget,
    /// Tell everybody who wants to know.
    Emit(Event),
    /// Nobody is left and nothing follows: leave the loop.
    Finish(Outcome),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Stopped,
    /// Restarts are throttled and no worker is left.
    GaveUp,
    /// The kernel gives this machine's workers no ring; starting them again would not change that.
    Refused(RingRefusal),
}

/// Where the whole server is going.
#[derive(Debug)]
enum Course {
    /// It serves: every slot is to be kept.
    Serving,
    /// It ends as soon as the last worker is gone; nobody is started any more.
    Leaving {
        /// What to finish with.
        outcome: Outcome,
        /// Workers that come up only now are killed, not drained.
        at_once: bool,
    },
    /// It has finished.
    Over,
}

/// The instant of a step and the actions it has decided on so far.
struct Turn<'a> {
    now: Instant,
    actions: &'a mut Vec<Action>,
}

/// The whole decision of the master: what is wanted, who is there, and what follows.
#[derive(Debug)]
pub struct Lifecycle {
    wanted: usize,
    limits: Limits,
    /// By age: an older worker has a smaller id.
    workers: BTreeMap<WorkerId, Worker>,
    id_last: WorkerId,
    throttle: Throttle,
    course: Course,
    rolling: Option<Rolling>,
    reading: Option<Reading>,
    /// A roll was asked for during a roll; however often, one more follows.
    roll_again: bool,
    /// Nobody is recycled before: a replacement did not come up.
    recycle_after: Option<Instant>,
    /// Somebody listened once, so the kernel can give a ring and a refusal is that worker's own trouble.
    ever_listened: bool,
    /// Workers that outlasted the kill timeout and had to be killed; requests may have been lost with each.
    pub forced_kills: u64,
}

impl Lifecycle {
    /// A pool of `wanted` workers (at least one), none of them started yet.
    pub fn new(wanted: usize, limits: Limits) -> Self {
        assert!(limits.listeners > 0, "a worker without listeners would never listen");
        Lifecycle {
            wanted: wanted.clamp(1, WORKERS_MAX),
            throttle: Throttle::new(limits.restart_limit, limits.restart_window),
            limits,
            workers: BTreeMap::new(),
            id_last: 0,
            course: Course::Serving,
            rolling: None,
            reading: None,
            roll_again: false,
            recycle_after: None,
            ever_listened: false,
            forced_kills: 0,
        }
    }

    /// Takes one input and adds to `actions` what follows from it and from the time. What speaks of an unknown
    /// worker, or of one that was not `Spawned` yet, changes nothing.
    pub fn step(&mut self, input: Input, now: Instant, actions: &mut Vec<Action>) {
        if matches!(self.course, Course::Over) {
            return;
        }
        let turn = &mut Turn { now, actions };
        // Before the input: a window that has passed has passed, even if no tick said so. The workers' own timers
        // come after it: a worker whose word arrives together with its deadline has made it.
        self.recover_from_giveup(turn.now);
        self.take(input, turn);
        self.end_patience(turn);
        self.reconcile(turn);
        debug_assert!(self.one_keeper_a_slot());
    }

    /// When to send [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let throttle = if self.serving() { self.throttle.next_deadline() } else { None };
        self.workers.values().filter_map(Worker::deadline).chain(throttle).min()
    }

    fn take(&mut self, input: Input, turn: &mut Turn<'_>) {
        match input {
            Input::Tick => {}
            Input::Spawned { id, pid } => self.take_spawned(id, pid, turn),
            Input::SpawnFailed { id, problem } => self.take_spawn_failed(id, problem, turn),
            Input::Online { id } => self.take_online(id, turn),
            Input::Refused { id, cause } => self.take_refused(id, cause, turn),
            Input::Failed { id, problem } => self.take_failed(id, Cause::Crash, problem, turn),
            Input::Listening { id, listener } => self.take_listening(id, listener, turn),
            Input::Suicide { id } => self.take_suicide(id, turn),
            Input::Disconnected { id } => self.take_disconnected(id, turn),
            Input::Exited { id, status } => self.take_exited(id, status, turn),
            Input::KillFailed { id, problem } => self.take_kill_failed(id, problem, turn),
            Input::Configured(settings) => self.take_configured(settings, turn),
            Input::Stalled { id, anew } => self.take_stalled(id, anew, turn),
            Input::HeldUp(by) => self.put_off(by),
            // A server that leaves neither rolls nor scales, and all of its workers are leaving.
            Input::Command(Command::Stop) => self.stop(turn),
            Input::Command(Command::StopNow) => self.stop_now(turn),
            Input::Command(Command::Roll) if self.serving() => self.roll(turn),
            Input::Command(Command::Grow) if self.serving() => {
                self.decide_wanted(self.wanted + 1);
            }
            Input::Command(Command::Shrink) if self.serving() => self.decide_wanted(self.wanted - 1),
            Input::Command(Command::Scale(wanted)) if self.serving() => self.decide_wanted(wanted),
            Input::Command(Command::Disconnect(id)) if self.serving() => self.disconnect(id),
            Input::Command(Command::Recycle(id)) => self.recycle(id, turn),
            Input::Command(
                Command::Roll | Command::Grow | Command::Shrink | Command::Scale(_) | Command::Disconnect(_),
            ) => {}
        }
    }

    /// Later than what a reload under way has found, so it is what holds.
    fn decide_wanted(&mut self, wanted: usize) {
        self.wanted = wanted.clamp(1, WORKERS_MAX);
        self.overrule_reload();
    }

    // What is heard of a worker.

    fn take_spawned(&mut self, id: WorkerId, pid: i32, turn: &mut Turn<'_>) {
        let at_once = matches!(self.course, Course::Leaving { at_once: true, .. });
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.pid.is_none()) else { return };
        worker.pid = Some(pid);
        turn.emit(Event::Fork(worker.worker_ref()));
        match worker.phase {
            Phase::Draining if at_once => worker.kill(turn),
            Phase::Draining => self.tell_drain(id, turn),
            _ => worker.fuse = Fuse::Boot(turn.now),
        }
    }

    /// There was no process and no channel, so nothing disconnects; `Close` ends every life all the same.
    fn take_spawn_failed(&mut self, id: WorkerId, problem: String, turn: &mut Turn<'_>) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.pid.is_none()) else { return };
        worker.problem = Some(problem.clone());
        let worker = worker.worker_ref();
        turn.emit(Event::Error { worker, problem });
        turn.emit(Event::Exit { worker, status: None, cause: Cause::Spawn, forced: false });
        turn.emit(Event::Close(worker));
        self.lose(id, Phase::Gone, turn);
    }

    fn take_online(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id) else { return };
        if worker.reached != Phase::Starting || worker.phase == Phase::Draining {
            return;
        }
        worker.reach(Phase::Online);
        turn.emit(Event::Online(worker.worker_ref()));
    }

    fn take_listening(&mut self, id: WorkerId, listener: usize, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id) else { return };
        let Some(heard) = worker.heard.get_mut(listener) else { return };
        *heard = true;
        // One that drains or has announced its end (`cause`) is not believed to have begun after all.
        let begins = worker.phase != Phase::Draining && worker.cause.is_none();
        if begins && worker.reached != Phase::Listening && worker.all_heard() {
            self.all_listeners_heard(id, turn);
        }
    }

    fn all_listeners_heard(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id) else { return };
        worker.reach(Phase::Listening);
        worker.fuse = Fuse::Unlit;
        if matches!(worker.account, Account::Planned(_)) {
            worker.account = Account::Open;
        }
        turn.emit(Event::Listening(worker.worker_ref()));
        self.ever_listened = true;
        self.throttle.listens(id, turn.now);
    }

    /// Before anybody has listened this is the machine's answer to all of them: one line instead of a crash loop.
    fn take_refused(&mut self, id: WorkerId, cause: RingRefusal, turn: &mut Turn<'_>) {
        if matches!(self.course, Course::Leaving { outcome: Outcome::Refused(_), .. }) {
            return; // its siblings find what the first one found
        }
        let hopeless = self.serving() && !self.ever_listened;
        let Some(worker) = self.started(id) else { return };
        if !hopeless {
            return self.take_failed(id, Cause::Ring, cause.to_string(), turn);
        }
        if worker.fuse != Fuse::Killed {
            worker.cause = Some(Cause::Ring);
            worker.kill(turn);
        }
        self.leave(Outcome::Refused(cause), true);
        self.kill_everybody(turn);
    }

    /// It will exit, and is charged when it does; the boot timeout is its patience.
    fn take_failed(&mut self, id: WorkerId, cause: Cause, problem: String, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id) else { return };
        worker.problem = Some(problem.clone());
        turn.emit(Event::Error { worker: worker.worker_ref(), problem });
        if worker.phase == Phase::Draining {
            return;
        }
        worker.cause = Some(cause);
        if worker.fuse == Fuse::Unlit {
            worker.fuse = Fuse::Boot(turn.now);
        }
    }

    /// The answer is not given here: `reconcile` drains a retiring worker once its replacement listens and lets it
    /// stay if there can be none. One that drains already has its answer.
    fn take_suicide(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id).filter(|worker| !worker.asking) else { return };
        worker.asking = true;
        turn.emit(Event::Suicide(worker.worker_ref()));
        if worker.keeps_slot() {
            self.lose(id, Phase::Retiring, turn);
        }
    }

    /// Nobody can tell it anything any more, and without a master a worker leaves: it is replaced at once.
    fn take_disconnected(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id).filter(|worker| worker.connected) else { return };
        worker.disconnect(turn);
        if worker.phase != Phase::Draining {
            worker.fuse = Fuse::Kill(turn.now);
            self.lose(id, Phase::Draining, turn);
        }
    }

    /// The exit of a process closes its end of the channel: `Disconnect` always comes before `Exit`, as in Node when
    /// a worker dies.
    fn take_exited(&mut self, id: WorkerId, status: Option<ExitStatus>, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id) else { return };
        if worker.connected {
            worker.disconnect(turn);
        }
        let (cause, forced) = (worker.exit_cause(), worker.cause == Some(Cause::KillTimeout));
        let end =
            || status.map_or_else(|| "it is gone".to_owned(), |status| format!("it ended with {status}"));
        worker.problem.get_or_insert_with(end);
        turn.emit(Event::Exit { worker: worker.worker_ref(), status, cause, forced });
        turn.emit(Event::Close(worker.worker_ref()));
        self.lose(id, Phase::Gone, turn);
    }

    fn take_kill_failed(&mut self, id: WorkerId, problem: String, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id).filter(|worker| worker.fuse == Fuse::Killed) else { return };
        worker.fuse = Fuse::KillAgain(turn.now);
        turn.emit(Event::Error { worker: worker.worker_ref(), problem });
    }

    /// A worker stops keeping its slot, and only if nobody had decided that does somebody pay for it: the account,
    /// or the plan. One that was retiring has its replacement already; one that drained was told to.
    fn lose(&mut self, id: WorkerId, next: Phase, turn: &mut Turn<'_>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let kept_slot = worker.keeps_slot();
        let slot = worker.slot;
        worker.phase = next;
        if !kept_slot {
            return;
        }
        let Account::Planned(plan) = worker.account else { return self.charge(id, turn) };
        worker.account = Account::Open;
        let why = worker.problem.clone();
        match plan {
            Plan::Roll => self.fail_roll(slot, why.as_deref(), turn),
            Plan::Disconnect => self.fail_disconnect(slot, why.as_deref(), turn),
            Plan::Recycle => self.fail_recycle(slot, why.as_deref(), turn),
        }
    }

    fn charge(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.account == Account::Open) else {
            return;
        };
        let verdict = self.throttle.charge(id, turn.now);
        if verdict != Verdict::Throttled {
            worker.account = Account::Charged;
        }
        if verdict == Verdict::Giveup {
            let alive = self.workers.values().filter(|worker| worker.serves()).count();
            turn.emit(Event::Giveup { limit: self.throttle.limit(), alive });
        }
    }

    // What time brings.

    fn end_patience(&mut self, turn: &mut Turn<'_>) {
        for id in self.ids(|_| true) {
            let worker = &self.workers[&id];
            let fuse = worker.fuse;
            if worker.deadline().is_some_and(|deadline| deadline <= turn.now) {
                self.fuse_burnt(id, fuse, turn);
            }
        }
    }

    fn fuse_burnt(&mut self, id: WorkerId, fuse: Fuse, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id) else { return };
        match fuse {
            Fuse::Boot(_) => {
                worker.cause.get_or_insert(Cause::BootTimeout);
                let patience = worker.boot_timeout;
                worker.problem.get_or_insert_with(|| format!("it did not listen within {patience:?}"));
                turn.act(Action::Kill { id });
                worker.fuse = Fuse::Killed;
                self.lose(id, Phase::Draining, turn);
            }
            Fuse::Kill(_) => self.kill_overdue(id, turn),
            Fuse::KillAgain(_) => worker.kill(turn),
            Fuse::Unlit | Fuse::Killed => {}
        }
    }

    fn kill_overdue(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.started(id) else { return };
        let patience = worker.kill_timeout;
        // One that was told to drain and closed its channel early is simply late, and its exit says so.
        if worker.cause.is_none() {
            let problem = format!("its channel closed, but it did not exit within {patience:?}");
            turn.emit(Event::Error { worker: worker.worker_ref(), problem });
        }
        worker.cause = Some(Cause::KillTimeout);
        worker.kill(turn);
        self.forced_kills += 1;
    }

    /// Also without a trial: if no slot is empty there is nobody to try, and a pool that stayed whole for a window
    /// has shown as much as a trial would.
    fn recover_from_giveup(&mut self, now: Instant) {
        self.throttle.advance(now);
        if self.throttle.may_try(now) && self.empty_slots().is_empty() {
            self.throttle.reset();
        }
    }

    // What is wanted, compared with what is there.

    fn reconcile(&mut self, turn: &mut Turn<'_>) {
        self.workers.retain(|_, worker| worker.phase != Phase::Gone);
        if self.serving() {
            self.restore_pool(turn);
        }
        self.finish_without_workers(turn);
    }

    fn restore_pool(&mut self, turn: &mut Turn<'_>) {
        loop {
            self.drain_surplus(turn);
            self.recover_from_giveup(turn.now);
            self.fill_empty_slots(turn);
            self.drain_replaced(turn);
            if !self.move_roll(turn) && !self.move_disconnects(turn) {
                break;
            }
        }
        self.try_one_worker(turn);
    }

    fn drain_surplus(&mut self, turn: &mut Turn<'_>) {
        let wanted = self.wanted;
        for id in self.ids(|worker| worker.slot >= wanted && worker.serves()) {
            self.drain(id, Cause::Scale, turn);
        }
    }

    /// A slot whose only worker is retiring counts as empty: its replacement is what is missing.
    fn fill_empty_slots(&mut self, turn: &mut Turn<'_>) {
        for slot in self.empty_slots() {
            if self.throttle.allows_restarts() {
                self.spawn(slot, Account::Open, turn);
            } else {
                self.let_retiring_stay(slot, turn);
            }
        }
    }

    /// The youngest: older ones in the same slot were waiting for it, and it goes on to replace them.
    fn let_retiring_stay(&mut self, slot: usize, turn: &mut Turn<'_>) {
        let youngest =
            self.workers.values_mut().rfind(|worker| worker.slot == slot && worker.phase == Phase::Retiring);
        let Some(worker) = youngest else { return };
        worker.phase = worker.reached;
        worker.asking = false;
        turn.act(Action::Stay { id: worker.id });
    }

    fn drain_replaced(&mut self, turn: &mut Turn<'_>) {
        let keepers = self.keepers();
        let replaced = |worker: &Worker| {
            worker.phase == Phase::Retiring
                && keepers[worker.slot].is_some_and(|keeper| self.workers[&keeper].phase == Phase::Listening)
        };
        for id in self.ids(replaced) {
            let cause = match &self.workers[&id] {
                worker if worker.asking => Cause::Suicide,
                worker if worker.unwanted => Cause::Disconnect,
                worker if worker.recycled => Cause::Recycle,
                _ => Cause::Reload,
            };
            self.drain(id, cause, turn);
        }
    }

    fn try_one_worker(&mut self, turn: &mut Turn<'_>) {
        self.recover_from_giveup(turn.now);
        if !self.throttle.may_try(turn.now) {
            return;
        }
        if let Some(&slot) = self.empty_slots().first() {
            let id = self.spawn(slot, Account::Open, turn);
            self.throttle.begin_trial(id);
        }
    }

    /// With a throttle that allows restarts the pool is never empty here.
    fn finish_without_workers(&mut self, turn: &mut Turn<'_>) {
        if !self.workers.is_empty() {
            return;
        }
        let outcome = match std::mem::replace(&mut self.course, Course::Over) {
            Course::Leaving { outcome, .. } => outcome,
            Course::Serving | Course::Over => Outcome::GaveUp,
        };
        turn.act(Action::Finish(outcome));
    }

    // Stops.

    fn stop(&mut self, turn: &mut Turn<'_>) {
        if !self.serving() {
            return;
        }
        turn.act(Action::CloseListeners);
        self.leave(Outcome::Stopped, false);
        for id in self.ids(Worker::serves) {
            self.drain(id, Cause::Stop, turn);
        }
    }

    fn stop_now(&mut self, turn: &mut Turn<'_>) {
        match &mut self.course {
            Course::Leaving { at_once, .. } => *at_once = true,
            Course::Serving | Course::Over => {
                turn.act(Action::CloseListeners);
                self.leave(Outcome::Stopped, true);
            }
        }
        self.kill_everybody(turn);
    }

    fn leave(&mut self, outcome: Outcome, at_once: bool) {
        self.course = Course::Leaving { outcome, at_once };
        self.rolling = None;
        self.reading = None;
        self.roll_again = false;
    }

    fn kill_everybody(&mut self, turn: &mut Turn<'_>) {
        for worker in self.workers.values_mut().filter(|worker| worker.fuse != Fuse::Killed) {
            worker.phase = Phase::Draining;
            if worker.cause != Some(Cause::KillTimeout) {
                worker.cause = Some(Cause::Stop);
            }
            // One that does not run yet is killed when it does.
            if worker.pid.is_some() {
                worker.kill(turn);
            }
        }
    }

    // What is done to workers.

    fn spawn(&mut self, slot: usize, account: Account, turn: &mut Turn<'_>) -> WorkerId {
        self.id_last += 1;
        let id = self.id_last;
        self.workers.insert(id, Worker::new(id, slot, account, &self.limits));
        turn.act(Action::Spawn { id, slot });
        id
    }

    fn drain(&mut self, id: WorkerId, cause: Cause, turn: &mut Turn<'_>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.phase = Phase::Draining;
        worker.cause = Some(cause);
        self.throttle.withdraw(id);
        self.tell_drain(id, turn);
    }

    /// One that does not run yet is told as soon as it does.
    fn tell_drain(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let stop = !self.serving();
        let Some(worker) = self.started(id) else { return };
        worker.fuse = Fuse::Kill(turn.now);
        let cause = worker.cause;
        turn.act(Action::Drain { id, stop, cause });
    }

    // For reports.

    /// Everybody who is not gone, oldest first.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// How many workers there should be.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Why a worker leaves, if that is decided.
    pub fn cause(&self, id: WorkerId) -> Option<Cause> {
        self.workers.get(&id)?.cause
    }

    /// Whether the dead are replaced.
    pub fn throttle(&self) -> throttle::State {
        self.throttle.state()
    }

    /// How many workers accept connections on all listeners.
    pub fn listening(&self) -> usize {
        let listens = |worker: &&Worker| worker.serves() && worker.reached == Phase::Listening;
        let slots: BTreeSet<usize> =
            self.workers.values().filter(listens).map(|worker| worker.slot).collect();
        slots.len()
    }

    /// Whether a roll is under way, or will be.
    pub fn is_rolling(&self) -> bool {
        self.rolling.is_some() || self.reading.is_some() || self.roll_again
    }

    /// Who is in a slot to stay, or waits there for its replacement.
    pub fn occupant(&self, slot: usize) -> Option<WorkerId> {
        let serves = |worker: &&Worker| worker.slot == slot && worker.serves();
        self.workers.values().find(serves).map(|worker| worker.id)
    }

    // Who is where.

    /// Whether it serves, and does not leave.
    pub fn serving(&self) -> bool {
        matches!(self.course, Course::Serving)
    }

    /// Whoever runs: only of these anything is believed, and only to these anything is done.
    fn started(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(&id).filter(|worker| worker.pid.is_some() && worker.phase != Phase::Gone)
    }

    fn ids(&self, which: impl Fn(&Worker) -> bool) -> Vec<WorkerId> {
        self.workers.values().filter(|worker| which(worker)).map(|worker| worker.id).collect()
    }

    fn keeper(&self, slot: usize) -> Option<&Worker> {
        self.workers.values().find(|worker| worker.slot == slot && worker.keeps_slot())
    }

    /// By slot.
    fn keepers(&self) -> Vec<Option<WorkerId>> {
        let mut keepers = vec![None; self.wanted];
        for worker in self.workers.values().filter(|worker| worker.keeps_slot() && worker.slot < self.wanted)
        {
            keepers[worker.slot] = Some(worker.id);
        }
        keepers
    }

    fn empty_slots(&self) -> Vec<usize> {
        let keepers = self.keepers();
        (0..self.wanted).filter(|&slot| keepers[slot].is_none()).collect()
    }

    fn one_keeper_a_slot(&self) -> bool {
        let keepers = self.ids(Worker::keeps_slot).len();
        !self.serving() || keepers == self.wanted - self.empty_slots().len()
    }
}

impl Turn<'_> {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn emit(&mut self, event: Event) {
        self.act(Action::Emit(event));
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
