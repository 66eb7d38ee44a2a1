//! Property tests: workers that do anything in any order, with lost, stale and repeated words and jumps in time.
//! The `World` knows only what went in and came out (and the phases that reports see), and holds both against the
//! promises.
//!
//! Neighbours: `tests` has the rules one by one.

use super::disconnect::{NOT_REPLACEABLE, NOT_REPLACED};
use super::recycle::NOT_RECYCLED;
use super::stall::LEFT;
use super::tests::limits;
use super::*;
use crate::event::Roll;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;

type Phases = BTreeMap<WorkerId, Phase>;

/// What the world does next. An `Index` picks among the workers that are alive.
#[derive(Debug, Clone)]
enum Deed {
    /// Time jumps, perhaps without a tick.
    Pass {
        seconds: u64,
        tick: bool,
    },
    /// Nobody runs for so long, and the master knows it.
    HoldUp {
        seconds: u64,
    },
    /// The oldest unanswered spawn succeeds or fails.
    Spawn {
        succeeds: bool,
    },
    /// A worker comes up at once.
    ComeUp(Index),
    /// A worker says or does something.
    Of(Index, Word),
    /// The same of an id that may be gone, unspawned or never have been.
    OfAnybody(u32, Word),
    Ask(Command),
    /// A reload that finds this.
    Reload(Found),
    /// The configuration has been read, if it is.
    Read,
}

/// What is found when the configuration is read again.
#[derive(Debug, Clone, Copy)]
enum Found {
    Bad,
    Same,
    /// Other settings, with so many listeners, and perhaps so many workers.
    New {
        listeners: usize,
        wanted: Option<usize>,
    },
}

#[derive(Debug, Clone)]
enum Word {
    Online,
    Listening(usize),
    Refused,
    Failed,
    Suicide,
    Disconnected,
    Exited,
    KillFailed,
    Spawned,
    SpawnFailed,
    /// Not its own: the program wants it replaced.
    Part,
    /// Not its own: it is seen to stand still.
    Stalled {
        anew: bool,
    },
    /// Not its own: it has come to a limit.
    Recycle,
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        4 => Just(Word::Online),
        8 => (0usize..3).prop_map(Word::Listening),
        1 => Just(Word::Refused),
        1 => Just(Word::Failed),
        6 => Just(Word::Suicide),
        2 => Just(Word::Disconnected),
        6 => Just(Word::Exited),
        1 => Just(Word::KillFailed),
        1 => Just(Word::Spawned),
        1 => Just(Word::SpawnFailed),
        4 => Just(Word::Part),
        4 => any::<bool>().prop_map(|anew| Word::Stalled { anew }),
        4 => Just(Word::Recycle),
    ]
}

fn command(stops: bool) -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => Just(Command::Grow),
        3 => Just(Command::Shrink),
        3 => (0usize..6).prop_map(Command::Scale),
        u32::from(stops) => Just(Command::Stop),
        u32::from(stops) => Just(Command::StopNow),
    ]
}

fn found() -> impl Strategy<Value = Found> {
    prop_oneof![
        1 => Just(Found::Bad),
        2 => Just(Found::Same),
        3 => (1usize..3, prop::option::of(1usize..6))
            .prop_map(|(listeners, wanted)| Found::New { listeners, wanted }),
    ]
}

fn deed(stops: bool) -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (prop_oneof![0u64..4, 4u64..12, 30u64..70], any::<bool>())
            .prop_map(|(seconds, tick)| Deed::Pass { seconds, tick }),
        1 => (1u64..100).prop_map(|seconds| Deed::HoldUp { seconds }),
        8 => prop::bool::weighted(0.85).prop_map(|succeeds| Deed::Spawn { succeeds }),
        6 => any::<Index>().prop_map(Deed::ComeUp),
        12 => (any::<Index>(), word()).prop_map(|(index, word)| Deed::Of(index, word)),
        2 => (0u32..40, word()).prop_map(|(id, word)| Deed::OfAnybody(id, word)),
        2 => command(stops).prop_map(Deed::Ask),
        1 => found().prop_map(Deed::Reload),
        2 => Just(Deed::Read),
    ]
}

/// What an onlooker knows of one worker.
#[derive(Debug, Clone, Default)]
struct Seen {
    slot: usize,
    pid: bool,
    /// Started to replace one that retired by plan.
    planned: bool,
    /// What it has to say `listening` of.
    listeners: usize,
    /// Which settings it was started with.
    generation: usize,
    /// The program wants it replaced, and was not told that this cannot be.
    unwanted: bool,
    heard: BTreeSet<usize>,
    listened: bool,
    asked: bool,
    charged: bool,
    booted: Option<Instant>,
    /// It is seen to stand still, in this step.
    stalled: bool,
    /// It was asked to be recycled, and was, when nothing else went on.
    recycled: bool,
    failed: Option<Instant>,
    drained: Option<Instant>,
    disconnected: Option<Instant>,
    kill_failed: Option<Instant>,
    killed: bool,
}

/// Whether somebody has.
#[derive(Debug, Clone, Copy)]
struct Decided(bool);

struct World {
    lifecycle: Lifecycle,
    limits: Limits,
    /// What the next reading finds.
    found: Found,
    /// One is under way; the number of workers may have been decided since.
    reading: Option<Decided>,
    /// The settings in force.
    generation: usize,
    /// Those that are tried.
    tried: Option<(usize, Settings)>,
    /// Those that were tried last and given up, if they differed from what was in force.
    given_up: Option<usize>,
    /// A way back began in an earlier step.
    reverting: bool,
    generations: usize,
    now: Instant,
    alive: BTreeMap<WorkerId, Seen>,
    /// The naive account: charged restarts since it was last cleared.
    restarts: Vec<Instant>,
    id_last: WorkerId,
    wanted: usize,
    /// Given up, as the naive account sees it.
    throttled: bool,
    /// The real one, before this step.
    throttled_before: bool,
    ever_listened: bool,
    stopping: bool,
    stopping_now: bool,
    refused: bool,
    rolls_begun: usize,
    rolls_ended: usize,
    finished: Option<Outcome>,
}

impl World {
    fn new(wanted: usize, restart_limit: u32) -> Self {
        let limits = Limits { restart_limit, ..limits() };
        let mut world = World {
            lifecycle: Lifecycle::new(wanted, limits.clone()),
            limits,
            found: Found::Same,
            reading: None,
            generation: 0,
            tried: None,
            given_up: None,
            reverting: false,
            generations: 0,
            now: Instant::now(),
            alive: BTreeMap::new(),
            restarts: Vec::new(),
            id_last: 0,
            wanted,
            throttled: false,
            throttled_before: false,
            ever_listened: false,
            stopping: false,
            stopping_now: false,
            refused: false,
            rolls_begun: 0,
            rolls_ended: 0,
            finished: None,
        };
        world.feed(Input::Tick);
        world
    }

    fn perform(&mut self, deed: Deed) {
        match deed {
            Deed::Pass { seconds, tick } => {
                self.now += Duration::from_secs(seconds);
                if tick {
                    self.feed(Input::Tick);
                }
            }
            Deed::HoldUp { seconds } => self.hold_up(Duration::from_secs(seconds)),
            Deed::Spawn { succeeds } => self.answer_spawn(succeeds),
            Deed::ComeUp(index) => {
                if let Some(id) = self.pick(index) {
                    self.come_up(id);
                }
            }
            Deed::Of(index, word) => {
                if let Some(id) = self.pick(index) {
                    self.say(id, word);
                }
            }
            Deed::OfAnybody(id, word) => self.say(id, word),
            Deed::Ask(command) => self.feed(Input::Command(command)),
            Deed::Reload(found) => {
                self.found = found;
                self.feed(Input::Command(Command::Roll));
            }
            Deed::Read => self.configure(),
        }
    }

    /// Nobody's time has run meanwhile.
    fn hold_up(&mut self, by: Duration) {
        self.now += by;
        for seen in self.alive.values_mut() {
            let times = [
                &mut seen.booted,
                &mut seen.failed,
                &mut seen.drained,
                &mut seen.disconnected,
                &mut seen.kill_failed,
            ];
            times.into_iter().flatten().for_each(|time| *time += by);
        }
        self.feed(Input::HeldUp(by));
    }

    fn pick(&self, index: Index) -> Option<WorkerId> {
        let ids: Vec<WorkerId> = self.alive.keys().copied().collect();
        (!ids.is_empty()).then(|| *index.get(&ids))
    }

    fn answer_spawn(&mut self, succeeds: bool) {
        let waiting = self.alive.iter().find(|(_, seen)| !seen.pid).map(|(&id, _)| id);
        if let Some(id) = waiting {
            self.say(id, if succeeds { Word::Spawned } else { Word::SpawnFailed });
        }
    }

    fn come_up(&mut self, id: WorkerId) {
        for word in [Word::Spawned, Word::Online, Word::Listening(0), Word::Listening(1)] {
            self.say(id, word);
        }
    }

    fn say(&mut self, id: WorkerId, word: Word) {
        let problem = String::new();
        self.feed(match word {
            Word::Online => Input::Online { id },
            Word::Listening(listener) => Input::Listening { id, listener },
            Word::Refused => Input::Refused { id, cause: RingRefusal::Seccomp },
            Word::Failed => Input::Failed { id, problem },
            Word::Suicide => Input::Suicide { id },
            Word::Disconnected => Input::Disconnected { id },
            Word::Exited => Input::Exited { id, status: None },
            Word::KillFailed => Input::KillFailed { id, problem },
            Word::Spawned => Input::Spawned { id, pid: 1 },
            Word::SpawnFailed => Input::SpawnFailed { id, problem },
            Word::Part => Input::Command(Command::Disconnect(id)),
            Word::Stalled { anew } => Input::Stalled { id, anew },
            Word::Recycle => Input::Command(Command::Recycle(id)),
        });
    }

    fn feed(&mut self, input: Input) {
        let before = self.phases();
        let state = self.lifecycle.throttle();
        self.throttled_before = state != throttle::State::Normal;
        self.account_recovers(state, &before);
        self.note_input(&input);
        let (stalled, quiet) = (self.stalled_by(&input, &before), self.is_quiet(&before));
        let mut actions = Vec::new();
        self.lifecycle.step(input.clone(), self.now, &mut actions);
        for action in &actions {
            assert!(self.finished.is_none(), "{action:?} after the finish in {actions:?}");
            self.note_action(action, &before);
        }
        self.check_giveup(stalled, &actions, &before);
        self.check_stall(stalled, &input, state, &actions);
        self.note_recycling(&input, quiet, &before);
        self.check_throttle(state, &input, &actions);
        for action in &actions {
            match action {
                Action::Emit(Event::Reload(Roll::Reverting { .. })) => self.reverting = true,
                Action::Emit(Event::Reload(_)) => self.reverting = false,
                _ => {}
            }
        }
        self.forget_the_gone(&actions);
        self.check_pool();
        if actions.contains(&Action::ReadConfig) {
            assert!(self.reading.is_none(), "one at a time");
            self.reading = Some(Decided(false));
        }
    }

    /// What is read has come, if anything is.
    fn configure(&mut self) {
        let Some(Decided(decided)) = self.reading.take() else { return };
        let limits = self.limits.clone();
        let settings = match self.found {
            Found::Bad => Err("bad".to_owned()),
            Found::Same => Ok(Settings { limits, wanted: None, changed: false }),
            Found::New { listeners, wanted } => {
                Ok(Settings { limits: Limits { listeners, ..limits }, wanted, changed: true })
            }
        };
        if let Ok(settings) = &settings {
            self.generations += 1;
            let wanted = settings.wanted.filter(|_| !decided);
            self.tried = Some((self.generations, Settings { wanted, ..settings.clone() }));
        }
        self.feed(Input::Configured(settings));
    }

    fn leaving(&self) -> bool {
        self.stopping || self.refused
    }

    fn phases(&self) -> Phases {
        self.lifecycle.workers().map(|worker| (worker.id, worker.phase)).collect()
    }

    fn running(&mut self, id: WorkerId) -> &mut Seen {
        let seen = self.alive.get_mut(&id).expect("an action for somebody unknown");
        assert!(seen.pid, "an action for somebody who does not run");
        seen
    }

    /// What passed before this step has passed, tick or no tick.
    fn account_recovers(&mut self, state: throttle::State, phases: &Phases) {
        let whole = (0..self.wanted)
            .all(|slot| self.alive.iter().any(|(id, seen)| seen.slot == slot && keeps(phases.get(id))));
        let recovers = match state {
            throttle::State::Normal => false,
            throttle::State::GivenUp { since } => whole && self.window_passed(since),
            throttle::State::Trial { listening, .. } => listening.is_some_and(|at| self.window_passed(at)),
        };
        if recovers {
            self.clear_account();
        }
    }

    fn window_passed(&self, since: Instant) -> bool {
        self.now - since >= self.limits.restart_window
    }

    fn clear_account(&mut self) {
        self.throttled = false;
        self.restarts.clear();
    }

    fn note_input(&mut self, input: &Input) {
        let now = self.now;
        match input {
            Input::Spawned { id, .. } => {
                if let Some(seen) = self.alive.get_mut(id).filter(|seen| !seen.pid) {
                    (seen.pid, seen.booted) = (true, Some(now));
                }
            }
            Input::Command(command) => self.note_command(*command),
            Input::Configured(Ok(_)) if !self.leaving() => self.clear_account(),
            Input::Listening { id, listener } => self.note_word(*id, |seen| {
                if *listener < seen.listeners {
                    seen.heard.insert(*listener);
                }
            }),
            Input::Suicide { id } => self.note_word(*id, |seen| seen.asked = true),
            Input::Failed { id, .. } => self.note_word(*id, |seen| seen.failed = seen.failed.or(Some(now))),
            Input::Refused { id, .. } => {
                let hopeless = !self.leaving() && !self.ever_listened && self.finished.is_none();
                self.refused |= hopeless && self.alive.get(id).is_some_and(|seen| seen.pid);
                self.note_word(*id, |seen| seen.failed = seen.failed.or(Some(now)));
            }
            Input::KillFailed { id, .. } => self.note_word(*id, |seen| {
                if std::mem::take(&mut seen.killed) {
                    seen.kill_failed = Some(now);
                }
            }),
            _ => {}
        }
    }

    /// Who is seen to stand still, and is to be judged by that: whoever listens and is waited for with nothing else.
    fn stalled_by(&mut self, input: &Input, before: &Phases) -> Option<WorkerId> {
        self.alive.values_mut().for_each(|seen| seen.stalled = false);
        let Input::Stalled { id, .. } = input else { return None };
        let serves = matches!(before.get(id), Some(Phase::Listening | Phase::Retiring));
        let seen = self.alive.get_mut(id).filter(|seen| serves && seen.listened && seen.failed.is_none())?;
        seen.stalled = true;
        Some(*id)
    }

    fn note_word(&mut self, id: WorkerId, note: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.alive.get_mut(&id).filter(|seen| seen.pid) {
            note(seen);
        }
    }

    fn note_command(&mut self, command: Command) {
        let serving = !self.leaving();
        match command {
            Command::Stop => self.stopping |= serving,
            Command::StopNow => (self.stopping, self.stopping_now) = (true, true),
            // during another one; else when what was read is good
            Command::Roll if serving && self.rolls_begun > self.rolls_ended => self.clear_account(),
            Command::Grow if serving => self.decide_wanted(self.wanted + 1),
            Command::Shrink if serving => self.decide_wanted(self.wanted - 1),
            Command::Disconnect(id) if serving => {
                let serves = |phase: &Phase| keeps(Some(phase)) || *phase == Phase::Retiring;
                if self.phases().get(&id).is_some_and(serves) {
                    self.alive.get_mut(&id).unwrap().unwanted = true;
                }
            }
            Command::Scale(wanted) if serving => self.decide_wanted(wanted),
            Command::Roll
            | Command::Grow
            | Command::Shrink
            | Command::Scale(_)
            | Command::Disconnect(_)
            | Command::Recycle(_) => {}
        }
    }

    fn decide_wanted(&mut self, wanted: usize) {
        self.wanted = wanted.max(1);
        if let Some((_, settings)) = &mut self.tried {
            settings.wanted = None;
        }
        self.reading.iter_mut().for_each(|reading| *reading = Decided(true));
    }

    fn note_action(&mut self, action: &Action, before: &Phases) {
        match action {
            Action::Spawn { id, slot } => self.note_spawn(*id, *slot),
            Action::Drain { id, stop, .. } => self.note_drain(*id, *stop, before),
            Action::Stay { id } => {
                let seen = self.running(*id);
                assert!(
                    seen.asked && seen.drained.is_none() && seen.disconnected.is_none(),
                    "{id}: {seen:?}"
                );
                seen.asked = false;
            }
            Action::Kill { id } => self.note_kill(*id),
            Action::CloseListeners => assert!(self.stopping),
            Action::Emit(event) => self.note_event(event),
            Action::Finish(outcome) => self.note_finish(outcome),
            Action::ReadConfig => assert!(!self.leaving()),
            Action::Adopt => {
                let (generation, settings) = self.tried.take().expect("something was tried");
                (self.generation, self.limits) = (generation, settings.limits);
                self.wanted = settings.wanted.unwrap_or(self.wanted);
                let phases = self.phases();
                for (id, seen) in self.alive.iter().filter(|(id, _)| keeps(phases.get(id))) {
                    assert_eq!(seen.generation, generation, "{id} has the settings of before");
                }
            }
            Action::Revert => {
                let (generation, settings) = self.tried.take().expect("something was tried");
                self.given_up = settings.changed.then_some(generation);
            }
            Action::Forget => assert!(self.given_up.is_some() && self.tried.is_none()),
        }
    }

    fn note_spawn(&mut self, id: WorkerId, slot: usize) {
        assert!(!self.leaving(), "nobody is started while leaving");
        assert!(id == self.id_last + 1 && slot < self.wanted);
        self.id_last = id;
        // Who retires without having asked is replaced by plan.
        let phases = self.phases();
        let planned = self
            .alive
            .iter()
            .any(|(old, seen)| seen.slot == slot && !seen.asked && phases.get(old) == Some(&Phase::Retiring));
        let (generation, listeners) = match &self.tried {
            Some((generation, settings)) => (*generation, settings.limits.listeners),
            None => (self.generation, self.limits.listeners),
        };
        self.alive.insert(id, Seen { slot, planned, listeners, generation, ..Seen::default() });
    }

    /// Without a stop or a smaller pool, somebody else must listen in the slot: a younger one, or an older one if
    /// this one never came to listen itself.
    fn note_drain(&mut self, id: WorkerId, stop: bool, before: &Phases) {
        assert_eq!(stop, self.leaving());
        let now = self.now;
        let drained = self.running(id).clone();
        assert!(
            drained.drained.is_none() && drained.disconnected.is_none() && !drained.killed,
            "{id}: {drained:?}"
        );
        let replaced = self.alive.iter().any(|(&other, seen)| {
            let takes_over = other > id || (other < id && !drained.listened);
            takes_over && seen.slot == drained.slot && seen.listened && seen.drained.is_none()
        });
        let told_late = before.get(&id) == Some(&Phase::Draining);
        assert!(stop || drained.slot >= self.wanted || told_late || replaced, "{id} has no replacement");
        self.running(id).drained = Some(now);
    }

    fn note_kill(&mut self, id: WorkerId) {
        let (now, limits) = (self.now, self.limits.clone());
        let at_once = self.stopping_now || self.refused;
        let over = |since: Option<Instant>, limit| since.is_some_and(|since| now - since >= limit);
        let seen = self.running(id);
        let overdue = seen.stalled
            || (!seen.listened && over(seen.booted, limits.boot_timeout))
            || over(seen.failed, limits.boot_timeout)
            || over(seen.drained, limits.kill_timeout)
            || over(seen.disconnected, limits.kill_timeout)
            || over(seen.kill_failed, limits.kill_timeout);
        assert!(at_once || overdue, "{id} killed early: {seen:?}");
        assert!(!seen.killed, "{id} killed twice");
        seen.killed = true;
    }

    fn note_event(&mut self, event: &Event) {
        let now = self.now;
        match event {
            Event::Listening(worker) => {
                let seen = self.running(worker.id);
                assert!(!seen.listened && seen.heard.len() == seen.listeners);
                seen.listened = true;
                self.ever_listened = true;
            }
            Event::Suicide(worker) => assert!(self.running(worker.id).asked),
            Event::Disconnect(worker) => {
                assert!(self.running(worker.id).disconnected.replace(now).is_none(), "disconnected twice");
            }
            Event::Error { worker, problem }
                if problem.starts_with(NOT_REPLACED) || problem == NOT_REPLACEABLE =>
            {
                // what is said in a step may be over at its end: a giveup may be forgiven in it
                let throttled = self.lifecycle.throttle() != throttle::State::Normal || self.throttled_before;
                assert!(problem != NOT_REPLACEABLE || throttled, "could be replaced");
                assert!(std::mem::take(&mut self.running(worker.id).unwanted), "nobody asked, or twice");
            }
            Event::Exit { worker, forced, cause, .. } => {
                let seen = &self.alive[&worker.id];
                assert!(*cause != Cause::Disconnect || seen.unwanted);
                assert!(*cause != Cause::Recycle || seen.recycled);
                assert!(seen.disconnected.is_some() || !seen.pid);
                assert!(!forced || seen.drained.is_some() || seen.disconnected.is_some());
            }
            Event::Reload(Roll::Started) => self.rolls_begun += 1,
            Event::Reload(Roll::Failed { slot: None, .. } | Roll::Reverting { .. }) => {}
            Event::Reload(Roll::Failed { problem, .. }) if !problem.contains("on the way back") => {
                self.rolls_ended += 1;
                self.check_nobody_has_what_was_given_up();
            }
            Event::Reload(_) => self.rolls_ended += 1,
            _ => {}
        }
    }

    fn check_nobody_has_what_was_given_up(&self) {
        let phases = self.phases();
        for (id, seen) in &self.alive {
            let stays = keeps(phases.get(id)) && Some(seen.generation) == self.given_up;
            assert!(!stays, "{id} has settings that were given up");
        }
    }

    fn note_finish(&mut self, outcome: &Outcome) {
        assert!(self.phases().is_empty(), "finished with workers");
        match outcome {
            Outcome::Stopped => assert!(self.stopping),
            Outcome::Refused(_) => assert!(self.refused),
            Outcome::GaveUp => {
                assert!(!self.leaving() && self.lifecycle.throttle() != throttle::State::Normal);
            }
        }
        self.finished = Some(outcome.clone());
    }

    /// The naive account: charges, one by one, whoever kept a slot before this step and lost it in it.
    /// Who is seen to stand still is charged first of all, lost or not.
    fn check_giveup(&mut self, stalled: Option<WorkerId>, actions: &[Action], before: &Phases) {
        let mut giveups = 0;
        let mut counted: BTreeSet<WorkerId> =
            stalled.into_iter().filter(|id| keeps(before.get(id))).collect();
        for id in counted.clone() {
            giveups += u32::from(self.charge(id));
        }
        for action in actions {
            for id in self.lost_by(action, actions, before) {
                if counted.insert(id) {
                    giveups += u32::from(self.charge(id));
                }
            }
            if *action == Action::Emit(Event::Reload(Roll::Started)) {
                self.clear_account();
            }
        }
        let said =
            actions.iter().filter(|action| matches!(action, Action::Emit(Event::Giveup { .. }))).count();
        assert_eq!(said, giveups as usize, "{actions:?}");
        if self.throttled && self.lifecycle.throttle() == throttle::State::Normal {
            self.clear_account();
        }
    }

    /// It is killed, unless nobody could take its place, which is said once.
    fn check_stall(
        &self,
        stalled: Option<WorkerId>,
        input: &Input,
        state: throttle::State,
        actions: &[Action],
    ) {
        let left =
            |action: &Action| matches!(action, Action::Emit(Event::Error { problem, .. }) if problem == LEFT);
        let killed = stalled.is_some_and(|id| actions.contains(&Action::Kill { id }));
        let gives_up = |action: &Action| matches!(action, Action::Emit(Event::Giveup { .. }));
        let throttled = state != throttle::State::Normal || actions.iter().any(gives_up);
        assert!(stalled.is_none() || killed || throttled, "{input:?}: {actions:?}");
        let is_told = stalled.is_some() && !killed && matches!(input, Input::Stalled { anew: true, .. });
        assert_eq!(actions.iter().any(left), is_told, "{input:?}: {actions:?}");
    }

    /// Whoever was recycled leaves for that reason; it was so only if nothing else went on.
    fn note_recycling(&mut self, input: &Input, quiet: bool, before: &Phases) {
        let Input::Command(Command::Recycle(id)) = input else { return };
        let retires = self.phases().get(id) == Some(&Phase::Retiring);
        if retires && before.get(id) == Some(&Phase::Listening) {
            self.running(*id).recycled = quiet;
        }
    }

    fn is_quiet(&self, phases: &Phases) -> bool {
        let whole = phases.len() == self.wanted && phases.values().all(|phase| *phase == Phase::Listening);
        whole && !self.leaving() && self.rolls_begun == self.rolls_ended
    }

    fn lost_by(&self, action: &Action, actions: &[Action], before: &Phases) -> Vec<WorkerId> {
        let kept = |id: &WorkerId| keeps(before.get(id));
        match action {
            Action::Emit(Event::Exit { worker, .. } | Event::Disconnect(worker) | Event::Suicide(worker))
                if kept(&worker.id) =>
            {
                vec![worker.id]
            }
            Action::Kill { .. } if self.leaving() => vec![],
            Action::Kill { id } if kept(id) || self.restored_before_kill(*id, actions, before) => vec![*id],
            Action::Emit(event) => match self.failed_plan(event) {
                Some(slot) => self.askers_left_by_plan(slot, action, actions, before),
                None => vec![],
            },
            _ => vec![],
        }
    }

    /// The slot whose planned replacement was lost.
    fn failed_plan(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Reload(Roll::Reverting { slot, .. }) => Some(*slot),
            Event::Reload(Roll::Failed { problem, slot }) => match problem.split_once("on the way back") {
                Some((_, back)) => back.split_whitespace().find_map(|word| word.parse().ok()),
                // the way back is over
                None if self.reverting => None,
                None => *slot,
            },
            Event::Error { worker, problem }
                if problem.starts_with(NOT_REPLACED) || problem.starts_with(NOT_RECYCLED) =>
            {
                Some(worker.slot)
            }
            _ => None,
        }
    }

    /// A plan failed and gave the slot back to a predecessor whose own time then ran out in the same step.
    fn restored_before_kill(&self, id: WorkerId, actions: &[Action], before: &Phases) -> bool {
        let slot = self.alive[&id].slot;
        let fails =
            |action: &Action| matches!(action, Action::Emit(event) if self.failed_plan(event) == Some(slot));
        let failed = actions.iter().position(fails);
        let killed = actions.iter().position(|action| *action == Action::Kill { id });
        let restored = before.get(&id) == Some(&Phase::Retiring) && !self.alive[&id].asked;
        restored && failed.is_some() && failed < killed
    }

    /// Whoever asked to go while it was being replaced by plan, and goes on retiring (or must stay) now that this failed.
    fn askers_left_by_plan(
        &self,
        slot: usize,
        failed: &Action,
        actions: &[Action],
        before: &Phases,
    ) -> Vec<WorkerId> {
        let earlier = actions.iter().take_while(|action| *action != failed);
        let lost: Vec<WorkerId> = earlier
            .filter_map(|action| match action {
                Action::Kill { id } => Some(*id),
                Action::Emit(Event::Disconnect(worker)) => Some(worker.id),
                _ => None,
            })
            .collect();
        let asks = |id: &WorkerId, seen: &Seen| seen.asked || actions.contains(&Action::Stay { id: *id });
        self.alive
            .iter()
            .filter(|(id, seen)| seen.slot == slot && seen.listened && asks(id, seen))
            .filter(|(id, _)| before.get(id) == Some(&Phase::Retiring) && !lost.contains(id))
            .map(|(&id, _)| id)
            .collect()
    }

    /// Says whether this is the one too many.
    fn charge(&mut self, id: WorkerId) -> bool {
        let (now, window, limit) = (self.now, self.limits.restart_window, self.limits.restart_limit);
        let seen = self.alive.get_mut(&id).unwrap();
        let excused = std::mem::take(&mut seen.planned) && !seen.listened;
        if excused || seen.charged || self.throttled {
            return false;
        }
        seen.charged = true;
        self.restarts.push(now);
        self.throttled = self.restarts.iter().filter(|&&at| now - at < window).count() > limit as usize;
        self.throttled
    }

    fn check_throttle(&self, before: throttle::State, input: &Input, actions: &[Action]) {
        use throttle::State::{GivenUp, Normal, Trial};
        let rolled = matches!(input, Input::Command(Command::Roll) | Input::Configured(Ok(_)))
            || actions.contains(&Action::Emit(Event::Reload(Roll::Started)));
        let keeps_slot = |worker: &WorkerId| keeps(self.phases().get(worker));
        let legal = match (before, self.lifecycle.throttle()) {
            (Normal, Trial { .. }) => false,
            (Normal, _) => true,
            (GivenUp { since }, GivenUp { since: then }) => {
                since == then || rolled || self.window_passed(since)
            }
            (GivenUp { since }, _) => rolled || self.window_passed(since),
            (Trial { worker, .. }, Trial { worker: then, .. }) => worker == then || !keeps_slot(&worker),
            (Trial { worker, listening, .. }, _) => {
                let lasted = listening.is_some_and(|at| self.window_passed(at));
                let asked = *input == Input::Suicide { id: worker };
                rolled || lasted || asked || !keeps_slot(&worker)
            }
        };
        assert!(legal, "{before:?} became {:?} by {input:?}", self.lifecycle.throttle());
    }

    fn forget_the_gone(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Emit(Event::Close(worker)) = action {
                assert!(self.alive.remove(&worker.id).is_some(), "closed twice");
            }
        }
    }

    fn check_pool(&self) {
        if self.finished.is_some() {
            return;
        }
        let phases = self.phases();
        assert!(phases.keys().eq(self.alive.keys()), "{phases:?} but seen: {:?}", self.alive);
        assert!(
            self.lifecycle.next_deadline().is_none_or(|deadline| deadline > self.now),
            "a tick is overdue"
        );
        for (id, seen) in self.alive.iter().filter(|(_, seen)| seen.asked) {
            assert!(matches!(phases[id], Phase::Retiring | Phase::Draining), "{id} unanswered: {seen:?}");
        }
        let unwanted = self.alive.iter().filter(|(_, seen)| seen.unwanted);
        for (id, seen) in unwanted {
            assert!(phases[id] != Phase::Listening, "{id} is neither replaced nor said to stay: {seen:?}");
        }
        if self.leaving() {
            assert!(phases.values().all(|&phase| phase == Phase::Draining));
        } else {
            self.check_slots(&phases);
        }
    }

    fn check_slots(&self, phases: &Phases) {
        let normal = self.lifecycle.throttle() == throttle::State::Normal;
        let in_slot =
            |slot| self.alive.iter().filter(move |(_, seen)| seen.slot == slot).map(|(id, _)| phases[id]);
        for slot in 0..=self.alive.values().map(|seen| seen.slot).max().unwrap_or(0).max(self.wanted) {
            let keepers: Vec<Phase> = in_slot(slot).filter(|phase| keeps(Some(phase))).collect();
            let retiring = in_slot(slot).any(|phase| phase == Phase::Retiring);
            let wanted = slot < self.wanted;
            assert!(keepers.len() <= usize::from(wanted), "slot {slot} is kept twice: {phases:?}");
            assert!(!normal || !wanted || keepers.len() == 1, "slot {slot} is empty: {phases:?}");
            let replacement_comes = keepers.iter().any(|&phase| phase != Phase::Listening);
            assert!(!retiring || replacement_comes, "slot {slot}: nobody replaces the retiring: {phases:?}");
        }
    }

    // Everybody behaves from now on.

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.finished.is_some() || self.whole() {
                return;
            }
            self.behave();
        }
        panic!("the pool does not become whole: {:?}", self.lifecycle);
    }

    fn whole(&self) -> bool {
        self.alive.len() == self.wanted
            && self.phases().values().all(|&phase| phase == Phase::Listening)
            && self.alive.values().all(|seen| seen.failed.is_none())
            && self.lifecycle.throttle() == throttle::State::Normal
            && self.rolls_begun == self.rolls_ended
            && self.reading.is_none()
    }

    fn behave(&mut self) {
        if self.reading.is_some() {
            return self.configure();
        }
        let phases = self.phases();
        let leaves = |id: &WorkerId, seen: &Seen| phases[id] == Phase::Draining || seen.failed.is_some();
        let leaver = self.alive.iter().find(|(id, seen)| seen.pid && leaves(id, seen)).map(|(&id, _)| id);
        let comer =
            self.alive.iter().find(|(id, seen)| !leaves(id, seen) && !seen.listened).map(|(&id, _)| id);
        let waiting = self.alive.iter().find(|(_, seen)| !seen.pid).map(|(&id, _)| id);
        match (leaver, waiting, comer, self.lifecycle.next_deadline()) {
            (Some(id), ..) => self.say(id, Word::Exited),
            (_, Some(id), ..) => self.say(id, Word::Spawned),
            (_, _, Some(id), _) => self.come_up(id),
            (_, _, _, Some(deadline)) => {
                self.now = deadline;
                self.feed(Input::Tick);
            }
            _ => panic!("nothing will ever happen again: {:?}", self.lifecycle),
        }
    }
}

fn keeps(phase: Option<&Phase>) -> bool {
    matches!(phase, Some(Phase::Starting | Phase::Online | Phase::Listening))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn promises_hold_whatever_happens(
        wanted in 1usize..5,
        restart_limit in 0u32..5,
        deeds in prop::collection::vec(deed(true), 0..120),
    ) {
        let mut world = World::new(wanted, restart_limit);
        deeds.into_iter().for_each(|deed| world.perform(deed));
        world.settle();
    }

    #[test]
    fn pool_becomes_whole_again_and_ends_when_asked(
        wanted in 1usize..5,
        restart_limit in 0u32..9,
        deeds in prop::collection::vec(deed(false), 0..200),
    ) {
        let mut world = World::new(wanted, restart_limit);
        deeds.into_iter().for_each(|deed| world.perform(deed));
        world.settle();
        world.feed(Input::Command(Command::Stop));
        world.settle();
        prop_assert!(world.finished.is_some());
    }
}
