//! The master's loop: waits on signals, children, channels and time; turns each into an input of `lifecycle`; and
//! performs what that decides. Nothing is decided here. `asked` is what it answers others, `watch` how it looks at the workers'
//! loops and memory.
//!
//! Neighbours: `lifecycle` decides, `spawn` starts processes, `orphans` reaps those that are not ours, `listeners` made the
//! sockets, `report` logs.

mod asked;
mod watch;

use super::access_log::AccessLogFile;
use super::config_reader::{ConfigReader, Reading};
use super::generation::Generation;
use super::history::History;
use super::lifecycle::{Action, Command, Input, Lifecycle, Outcome, Settings};
use super::on_giveup::GiveupCommands;
use super::orphans::{self, Orphans};
use super::pool::{Order, Orders};
use super::report;
use super::service_manager::{ServiceManager, View};
use super::spawn::Spawner;
use super::throttle;
use crate::error::{Error, Result};
use crate::event::{Cause, Event, ExitStatus, Message, WorkerId, WorkerRef};
use crate::ipc::message::{PROTOCOL_VERSION, RingReport, Start, ToMaster, ToWorker};
use crate::ipc::{Channel, HandleKind, MESSAGE_COST, Received, WAITING_MAX};
use crate::log;
use crate::stats::Book;
use crate::sys::process::{Child, Ended};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use watch::Watch;

/// What the master listens to. SIGCHLD is among them only where other people's children come to us (`orphans`): for our
/// own a pidfd each misses nobody, however many die at once.
const SIGNALS: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Why an order cannot be carried out, most often.
const GONE: &str = "it is gone";

/// How many workers that are gone are remembered: an order may have been on its way to them.
const GONE_MAX: usize = 64;

/// See the module's comment.
pub struct EventLoop {
    in_force: Generation,
    /// What a reload under way leads to.
    tried: Option<Generation>,
    /// What a reload that failed has led to, for those who are starting with it still.
    given_up: Option<Generation>,
    /// The last number that was given.
    generations: u64,
    config_reader: ConfigReader,
    spawner: Spawner,
    signals: SignalFd,
    on_event: Box<dyn FnMut(&Event)>,
    orders: Orders,
    book: Book,
    history: History,
    service_manager: ServiceManager,
    giveup_commands: GiveupCommands,
    started: (Instant, SystemTime),
    lifecycle: Lifecycle,
    watch: Watch,
    workers: BTreeMap<WorkerId, Process>,
    orphans: Orphans,
    /// Who is gone, the latest last.
    gone: VecDeque<WorkerRef>,
    inputs: VecDeque<Input>,
    /// SIGTERMs and SIGINTs so far: the second one is in a hurry.
    stops: u32,
    ring_reported: bool,
    outcome: Option<Outcome>,
}

/// A worker process, as far as it can be touched.
struct Process {
    slot: usize,
    core: Option<usize>,
    generation: u64,
    child: Child,
    started: (Instant, SystemTime),
    /// `None` once it is read to its end.
    channel: Option<Channel>,
    /// What it was given to write requests to.
    access_log: Option<Rc<AccessLogFile>>,
    /// It has spoken, and was told how to serve.
    online: bool,
    reaped: bool,
    /// What was sent to it and lost since it stopped to read.
    lost: u64,
}

/// Whether what the program sends to a worker went into its channel.
type Delivered<T> = std::result::Result<T, Undelivered>;

/// Why it did not.
enum Undelivered {
    /// As much as may wait for the worker waits already.
    Full,
    Other(String),
}

/// Something in the poll set.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Orders,
    ConfigReader,
    Child(WorkerId),
    Channel(WorkerId),
}

/// From now on these signals wait to be read. Before there is a second thread.
pub fn block_signals() -> Result<SignalFd> {
    let child = orphans::adopted_here().then_some(Signal::SIGCHLD);
    let set = SIGNALS.into_iter().chain(child).collect::<SigSet>();
    set.thread_block().map_err(|e| Error::io("block signals", e))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| Error::io("make a signalfd", e))
}

impl EventLoop {
    pub fn new(
        first: Generation,
        config_reader: ConfigReader,
        spawner: Spawner,
        signals: SignalFd,
        on_event: Box<dyn FnMut(&Event)>,
        orders: Orders,
        book: Book,
    ) -> EventLoop {
        EventLoop {
            lifecycle: Lifecycle::new(first.config.workers, first.limits()),
            generations: first.number,
            in_force: first,
            tried: None,
            given_up: None,
            config_reader,
            spawner,
            signals,
            on_event,
            orders,
            book,
            history: History::default(),
            service_manager: ServiceManager::of_this_process(),
            giveup_commands: GiveupCommands::default(),
            started: (Instant::now(), SystemTime::now()),
            watch: Watch::begin(),
            workers: BTreeMap::new(),
            orphans: Orphans::new(),
            gone: VecDeque::new(),
            inputs: VecDeque::new(),
            stops: 0,
            ring_reported: false,
            outcome: None,
        }
    }

    /// Runs until the lifecycle has finished.
    pub fn run(mut self) -> Result<()> {
        let outcome = self.serve();
        let commands = std::mem::take(&mut self.giveup_commands);
        let patience = self.in_force.config.kill_timeout;
        // whoever asks or follows need not wait for a command
        drop(self);
        if matches!(outcome, Err(Error::GaveUp)) {
            commands.finish(patience);
        }
        outcome
    }

    fn serve(&mut self) -> Result<()> {
        let workers = self.in_force.config.workers;
        self.emit(&Event::Setup { addresses: self.addresses(), workers });
        loop {
            self.inputs.push_back(Input::Tick);
            self.decide();
            self.watch();
            self.decide();
            self.tell_service_manager();
            log::tell_left_out();
            self.tell_of_late_reading();
            match self.outcome.take() {
                None => self.wait()?,
                Some(Outcome::Stopped) => {
                    report::stopped(&self.book.total(), self.lifecycle.forced_kills);
                    return Ok(());
                }
                Some(Outcome::GaveUp) => return Err(Error::GaveUp),
                Some(Outcome::Refused(cause)) => return Err(Error::Ring(cause)),
            }
        }
    }

    /// Every input is one step; what a step's actions bring about at once (a worker started or not) is the next.
    fn decide(&mut self) {
        let mut actions = Vec::new();
        loop {
            let now = self.look_at_clock();
            let Some(input) = self.inputs.pop_front() else { break };
            self.lifecycle.step(input, now, &mut actions);
            for action in actions.drain(..) {
                self.perform(action);
            }
        }
        for (id, Process { slot, child, .. }) in self.workers.extract_if(.., |_, worker| worker.reaped) {
            self.gone.push_back(WorkerRef { id, slot, pid: child.pid });
        }
        self.gone.drain(..self.gone.len().saturating_sub(GONE_MAX));
    }

    fn tell_service_manager(&mut self) {
        let listening = self.lifecycle.listening();
        let kill_timeout = self.in_force.config.kill_timeout;
        let view = View {
            listening,
            wanted: self.lifecycle.wanted(),
            given_up: self.lifecycle.throttle() != throttle::State::Normal,
            reloading: self.lifecycle.is_rolling(),
            reloads: self.history.reloads.iter().sum(),
            stops_within: (!self.lifecycle.serving()).then_some(kill_timeout),
            healthy: self.is_healthy(),
        };
        self.service_manager.tell(view, Instant::now());
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { id, slot } => self.spawn(id, slot),
            Action::Drain { id, stop, cause } => self.drain(id, stop, cause),
            Action::Stay { id } => self.tell(id, &ToWorker::Stay),
            Action::Kill { id } => {
                self.tell_of_overdue(id);
                self.kill(id);
            }
            Action::CloseListeners => {
                (self.tried, self.given_up) = (None, None);
                self.in_force.bound.clear();
            }
            Action::ReadConfig => self.config_reader.begin(Instant::now()),
            Action::Adopt => self.adopt(),
            Action::Revert => self.given_up = self.tried.take(),
            Action::Forget => self.given_up = None,
            Action::Emit(event) => self.emit(&event),
            Action::Finish(outcome) => self.outcome = Some(outcome),
        }
    }

    // ---- the configuration ----

    /// It has been read. What was wrong is for the reload's event to say; nothing has changed then.
    fn prepare(&mut self, reading: Reading) -> std::result::Result<Settings, String> {
        let (config, origins) = reading?;
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let number = self.generations + 1;
        let (next, left) = self.in_force.next(number, config, origins).map_err(|error| error.to_string())?;
        left.iter().for_each(|line| tracing::warn!("{line}"));
        let settings = next.settings_after(&self.in_force);
        self.generations = number;
        self.tried = Some(next);
        Ok(settings)
    }

    /// A server that stops wants no other configuration. Before whatever has come with it: who is started from here on gets
    /// the new settings, and the lifecycle has to know.
    fn configured(&mut self) {
        if let Some(reading) = self.config_reader.take().filter(|_| self.lifecycle.serving()) {
            let settings = self.prepare(reading);
            self.inputs.push_front(Input::Configured(settings));
        }
    }

    fn tell_of_late_reading(&mut self) {
        if self.config_reader.is_late(Instant::now()) && self.lifecycle.serving() {
            tracing::warn!(
                "the configuration takes long to be read, and the reload waits for it: is its file, or are the names of \
                 users, on another machine that does not answer? Everything else goes on"
            );
        }
    }

    /// Listeners that are not in it are closed here; who drains takes what waits in them and closes its own.
    fn adopt(&mut self) {
        let Some(next) = self.tried.take() else { return };
        next.settle().iter().for_each(|problem| tracing::error!("{problem}"));
        log::set_level(next.config.log_level);
        self.in_force = next;
        // everybody listens: nobody starts with that any more, and it may have had listeners that this one has not
        self.given_up = None;
    }

    /// Of whoever is started now.
    fn newest(&self) -> &Generation {
        self.tried.as_ref().unwrap_or(&self.in_force)
    }

    fn addresses(&self) -> Vec<String> {
        self.in_force.bound.iter().map(|bound| bound.address.to_string()).collect()
    }

    // ---- what the lifecycle has decided ----

    fn spawn(&mut self, id: WorkerId, slot: usize) {
        let (core, generation) = (self.newest().config.core_of(slot), self.newest().number);
        let account = self.book.open(id, slot).map_err(std::io::Error::from);
        self.inputs.push_back(match account.and_then(|stats| self.spawner.start(slot, stats.as_fd())) {
            Ok((child, channel)) => {
                let pid = child.pid;
                let process = Process {
                    slot,
                    core,
                    generation,
                    child,
                    started: (Instant::now(), SystemTime::now()),
                    channel: Some(channel),
                    access_log: None,
                    online: false,
                    reaped: false,
                    lost: 0,
                };
                self.workers.insert(id, process);
                Input::Spawned { id, pid }
            }
            Err(error) => {
                self.book.close(id);
                Input::SpawnFailed { id, problem: format!("cannot be started: {error}") }
            }
        });
    }

    fn drain(&mut self, id: WorkerId, stop: bool, cause: Option<Cause>) {
        let WorkerRef { slot, pid, .. } = self.reference(id);
        self.tell(id, &ToWorker::Drain { stop });
        tracing::debug!(slot, pid, id, stop, "drain sent");
        self.history.drained(id, cause);
    }

    fn tell(&mut self, id: WorkerId, message: &ToWorker) {
        if let Some(channel) = self.workers.get_mut(&id).and_then(|worker| worker.channel.as_mut()) {
            let said = channel.send_to_worker(message);
            self.check_said(id, said);
        }
    }

    /// A worker whose end is closed is gone or going, which its channel's end says. Any other that cannot be reached
    /// is given up.
    fn check_said(&mut self, id: WorkerId, said: std::io::Result<()>) {
        match said {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                self.broke_off(id, format!("cannot be reached: {error}"));
            }
            _ => {}
        }
    }

    fn kill(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        match worker.child.signal(libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                self.inputs.push_back(Input::KillFailed { id, problem: format!("cannot be killed: {errno}") })
            }
        }
    }

    fn emit(&mut self, event: &Event) {
        report::event(event, |id| self.workers.get(&id).and_then(|worker| worker.core));
        if let Event::Listening(worker) = event {
            self.began_to_listen(worker.id);
        }
        self.history.note(event);
        if let Event::Giveup { limit, alive } = event {
            self.giveup_commands.start(&self.in_force, *limit, *alive);
        }
        // what the program keeps there may be half changed, which is the program's to live with; the service goes on
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| (self.on_event)(event))) {
            report::panic(event, &*payload);
        }
    }

    // ---- waiting ----

    fn wait(&mut self) -> Result<()> {
        let patience = self.patience();
        let (sources, mut fds) = self.poll_set();
        match poll(&mut fds, patience) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(Error::io("wait for events", errno)),
        }
        let ready: Vec<Source> = sources
            .into_iter()
            .zip(&fds)
            .filter(|(_, fd)| fd.revents().is_some_and(|events| !events.is_empty()))
            .map(|(source, _)| source)
            .collect();
        for source in ready {
            match source {
                Source::Signals => self.read_signals(),
                Source::Orders => self.obey(),
                Source::ConfigReader => self.configured(),
                Source::Channel(id) => {
                    self.hear(id);
                }
                Source::Child(id) => self.reap(id),
            }
        }
        let is_worker = |pid| self.workers.values().any(|worker| worker.child.pid == pid);
        self.orphans.reap(|pid| is_worker(pid) || self.giveup_commands.is_ours(pid));
        Ok(())
    }

    fn poll_set(&self) -> (Vec<Source>, Vec<PollFd<'_>>) {
        let mut sources = vec![Source::Signals, Source::Orders, Source::ConfigReader];
        let own = [self.signals.as_fd(), self.orders.as_fd(), self.config_reader.as_fd()];
        let mut fds = own.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).to_vec();
        for (id, worker) in &self.workers {
            if let Some(channel) = &worker.channel {
                let writable = if channel.wants_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
                sources.push(Source::Channel(*id));
                fds.push(PollFd::new(channel.as_fd(), PollFlags::POLLIN | writable));
            }
            sources.push(Source::Child(*id));
            fds.push(PollFd::new(worker.child.as_fd(), PollFlags::POLLIN));
        }
        (sources, fds)
    }

    /// Rounded up: a turn that comes too early would find nothing due and come again.
    fn patience(&mut self) -> PollTimeout {
        let deadlines = [
            self.next_look(),
            self.service_manager.next_deadline(),
            log::next_deadline(),
            self.config_reader.next_deadline(),
        ];
        let Some(deadline) = deadlines.into_iter().flatten().min() else { return PollTimeout::NONE };
        let left = deadline.saturating_duration_since(Instant::now());
        let ms = left.as_micros().div_ceil(1000).min(i32::MAX as u128);
        PollTimeout::try_from(ms as i32).unwrap_or(PollTimeout::MAX)
    }

    fn read_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => self.orphans.child_ended(),
                Ok(signal) => self.signalled(signal),
                Err(errno) => tracing::warn!(%errno, signal = info.ssi_signo, "a signal without a name"),
            }
        }
    }

    fn signalled(&mut self, signal: Signal) {
        let hurry = self.stops > 0;
        let command = match signal {
            Signal::SIGTERM | Signal::SIGINT if hurry => Command::StopNow,
            Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT => Command::Stop,
            Signal::SIGHUP => Command::Roll,
            Signal::SIGTTIN => Command::Grow,
            Signal::SIGTTOU => Command::Shrink,
            Signal::SIGUSR1 => {
                tracing::info!(%signal, "signal");
                return self.reopen_access_log();
            }
            _ => return tracing::info!(%signal, "reserved: nothing to do yet"),
        };
        self.stops += u32::from(matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT));
        tracing::info!(%signal, "signal");
        self.inputs.push_back(Input::Command(command));
    }

    // ---- the program's orders ----

    fn obey(&mut self) {
        for order in self.orders.take() {
            match order {
                Order::Send { worker, line } => self.deliver(worker, line),
                Order::Broadcast { line } => self.deliver_to_all(&line),
                Order::SendSocket { worker, message, socket } => self.hand_over(worker, &message, socket),
                Order::Kill { worker, signal } => self.signal(worker, signal),
                Order::Disconnect { worker } if self.workers.contains_key(&worker) => {
                    self.inputs.push_back(Input::Command(Command::Disconnect(worker)));
                }
                Order::Disconnect { worker } => {
                    self.trouble(worker, format!("cannot be replaced: {GONE}"));
                }
                Order::Ask(ask) => self.answer(ask),
            }
        }
    }

    fn deliver(&mut self, id: WorkerId, line: Vec<u8>) {
        let delivered = self.addressee(id, line.len()).and_then(|channel| match channel.send_line(line) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(Undelivered::Other(GONE.into()))
            }
            said => Ok(said),
        });
        self.check_delivered(id, "a message", delivered);
    }

    fn check_delivered(&mut self, id: WorkerId, what: &str, delivered: Delivered<std::io::Result<()>>) {
        match delivered {
            Ok(said) => self.check_said(id, said),
            Err(Undelivered::Full) => self.lose(id, what),
            Err(Undelivered::Other(why)) => self.trouble(id, format!("{what} to it is lost: {why}")),
        }
    }

    /// Said for the first one only: who supervises has more to do than to write the same line for each.
    fn lose(&mut self, id: WorkerId, what: &str) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.lost += 1;
        if worker.lost == 1 {
            let waits = WAITING_MAX >> 20;
            self.trouble(id, format!("{what} to it is lost: {waits} MiB wait already for it to read them"));
        }
    }

    /// A worker that did not read has read all that waited for it: now it is known how much was lost.
    fn check_caught_up(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.lost > 0 && worker.channel.as_ref().is_some_and(|channel| channel.waiting() == 0) {
            let lost = std::mem::take(&mut worker.lost);
            self.trouble(
                id,
                format!("messages and sockets to it are lost ({lost}): it did not read for a time"),
            );
        }
    }

    fn deliver_to_all(&mut self, line: &[u8]) {
        let speaks = |worker: &Process| worker.online && worker.channel.is_some();
        let online = self.workers.iter().filter(|(_, worker)| speaks(worker));
        for id in online.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.deliver(id, line.to_vec());
        }
    }

    /// One that its worker does not take before it is gone is counted when its channel closes.
    fn hand_over(&mut self, id: WorkerId, message: &Message, socket: OwnedFd) {
        let delivered = self.addressee(id, message.octets()).and_then(|channel| {
            match channel.send_handle(HandleKind::Socket, message.value().clone(), socket) {
                // with a socket around it a message can be too long that alone is not
                Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                    Err(Undelivered::Other(error.to_string()))
                }
                said => Ok(said),
            }
        });
        self.check_delivered(id, "a socket", delivered);
    }

    /// The channel to a worker, or why nothing can be sent: one that does not read is not sent to without end.
    fn addressee(&mut self, id: WorkerId, octets: usize) -> Delivered<&mut Channel> {
        let channel = self.workers.get_mut(&id).and_then(|worker| worker.channel.as_mut());
        match channel {
            None => Err(Undelivered::Other(GONE.into())),
            Some(channel) if channel.waiting() + octets + MESSAGE_COST > WAITING_MAX => {
                Err(Undelivered::Full)
            }
            Some(channel) => Ok(channel),
        }
    }

    fn signal(&mut self, id: WorkerId, signal: i32) {
        let problem = match self.workers.get(&id).map(|worker| worker.child.signal(signal)) {
            Some(Ok(())) => return tracing::debug!(id, signal, "signal sent"),
            None | Some(Err(Errno::ESRCH)) => GONE.to_owned(),
            Some(Err(errno)) => errno.to_string(),
        };
        self.trouble(id, format!("cannot be sent signal {signal}: {problem}"));
    }

    // ---- workers ----

    /// Its last words are heard before its end is.
    fn reap(&mut self, id: WorkerId) {
        let Some(ended) = self.workers.get(&id).and_then(|worker| worker.child.reap()) else { return };
        while self.workers.get(&id).is_some_and(|worker| worker.channel.is_some()) {
            if !self.hear(id) {
                // its ring may hold the channel open for a moment longer than it lives
                self.disconnected(id);
            }
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.reaped = true;
        }
        self.book.close(id);
        let status = match ended {
            Ended::Code(code) => Some(ExitStatus::Code(code)),
            Ended::Signal(signal) => Some(ExitStatus::Signal(signal)),
            Ended::Unknown => None,
        };
        self.inputs.push_back(Input::Exited { id, status });
    }

    /// Says whether there was anything to hear.
    fn hear(&mut self, id: WorkerId) -> bool {
        let Some(channel) = self.workers.get_mut(&id).and_then(|worker| worker.channel.as_mut()) else {
            return false;
        };
        match channel.receive() {
            Ok(all) => {
                let heard = !all.is_empty();
                all.into_iter().for_each(|one| self.received(id, one));
                self.check_caught_up(id);
                heard
            }
            Err(error) => {
                self.broke_off(id, format!("its channel cannot be read: {error}"));
                true
            }
        }
    }

    fn received(&mut self, id: WorkerId, one: Received) {
        match ToMaster::read(&one) {
            Ok(Some(message)) => return self.told(id, message),
            Ok(None) => {}
            Err(problem) => return self.trouble(id, problem),
        }
        match one {
            Received::Closed => self.disconnected(id),
            Received::Broken(error) => self.broke_off(id, format!("broke the protocol: {error}")),
            Received::Plain(message) => {
                self.emit(&Event::Message { worker: self.reference(id), message: Message::of(message) });
            }
            Received::HandleLost { kind: HandleKind::Server, .. } => {
                self.trouble(id, "a listening socket did not reach it".into());
            }
            Received::HandleLost { kind: HandleKind::AccessLog, .. } => {
                self.trouble(id, "the file of the access log did not reach it".into());
            }
            Received::HandleLost { .. } => {
                self.trouble(id, "a socket sent to it is lost: it has no descriptor left".into());
            }
            // nothing here asks a worker for its connections yet
            Received::Handle { .. }
            | Received::Connection { .. }
            | Received::HandleMissing { .. }
            | Received::Control(_) => {}
        }
    }

    fn told(&mut self, id: WorkerId, message: ToMaster) {
        let input = match message {
            ToMaster::Online { protocol, .. } if protocol != PROTOCOL_VERSION => {
                let problem = format!("speaks protocol {protocol}, this master {PROTOCOL_VERSION}");
                self.kill(id);
                Input::Failed { id, problem }
            }
            ToMaster::Online { ring, .. } => {
                self.greet(id, &ring);
                Input::Online { id }
            }
            ToMaster::Refused { cause } => Input::Refused { id, cause },
            ToMaster::Listening { listener } => Input::Listening { id, listener },
            ToMaster::Failed { problem } => Input::Failed { id, problem },
            ToMaster::Suicide => Input::Suicide { id },
        };
        self.inputs.push_back(input);
    }

    /// Sends the configuration and then each listener; the channel waits for one acknowledgement after the other.
    fn greet(&mut self, id: WorkerId, ring: &RingReport) {
        if !std::mem::replace(&mut self.ring_reported, true) {
            report::ring(ring);
        }
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.online = true;
        let Some(channel) = &mut worker.channel else { return };
        let generations = [self.tried.as_ref(), self.given_up.as_ref(), Some(&self.in_force)];
        let own = generations.into_iter().flatten().find(|generation| generation.number == worker.generation);
        let Some(generation) = own else {
            // it begins when all is over for it: the settings are forgotten, or the server stops
            return self.kill(id);
        };
        let start = Start {
            id,
            slot: worker.slot,
            core: worker.core,
            listeners: generation.bound.iter().map(|bound| bound.address.to_string()).collect(),
            settings: generation.config.worker_settings(),
        };
        let mut said = channel.send_to_worker(&ToWorker::Start(start));
        if let Some(log) = &generation.access_log {
            said = said
                .and_then(|()| channel.send_handle(HandleKind::AccessLog, "access log".into(), log.file()));
            worker.access_log = Some(Rc::clone(log));
        }
        for bound in &generation.bound {
            said = said.and_then(|()| {
                channel.send_handle(HandleKind::Server, "server".into(), Arc::clone(&bound.socket))
            });
        }
        self.check_said(id, said);
    }

    /// SIGUSR1: the file has been moved away. Each worker writes what it has to the old one, and then goes on with the new
    /// one.
    fn reopen_access_log(&mut self) {
        let logs = self.access_logs();
        if logs.is_empty() {
            return tracing::info!("there is no access log to reopen");
        }
        for log in logs.iter().filter(|log| log.reopen()) {
            self.hand_out(log);
        }
    }

    /// All that are in use: while a reload is under way there may be several.
    fn access_logs(&self) -> Vec<Rc<AccessLogFile>> {
        let generations = [Some(&self.in_force), self.tried.as_ref(), self.given_up.as_ref()];
        let of_generations = generations.into_iter().flatten().filter_map(|one| one.access_log.as_ref());
        let of_workers = self.workers.values().filter_map(|worker| worker.access_log.as_ref());
        let mut all: Vec<Rc<AccessLogFile>> = Vec::new();
        for log in of_generations.chain(of_workers) {
            if !all.iter().any(|other| Rc::ptr_eq(other, log)) {
                all.push(Rc::clone(log));
            }
        }
        all
    }

    fn hand_out(&mut self, log: &Rc<AccessLogFile>) {
        let mut said = Vec::new();
        for (id, worker) in &mut self.workers {
            let writes = worker.access_log.as_ref().is_some_and(|own| Rc::ptr_eq(own, log));
            if let Some(channel) = worker.channel.as_mut().filter(|_| writes) {
                let sent = channel.send_handle(HandleKind::AccessLog, "access log".into(), log.file());
                said.push((*id, sent));
            }
        }
        said.into_iter().for_each(|(id, said)| self.check_said(id, said));
    }

    fn disconnected(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let sockets = worker.channel.take().map_or(0, |channel| channel.sockets_waiting());
        let lost = std::mem::take(&mut worker.lost);
        self.inputs.push_back(Input::Disconnected { id });
        if lost > 0 {
            self.trouble(
                id,
                format!("messages and sockets to it are lost ({lost}): it did not read, and {GONE}"),
            );
        }
        if sockets > 0 {
            self.trouble(id, format!("sockets to it are lost ({sockets}): {GONE}"));
        }
    }

    fn broke_off(&mut self, id: WorkerId, problem: String) {
        self.trouble(id, problem);
        self.disconnected(id);
    }

    fn trouble(&mut self, id: WorkerId, problem: String) {
        self.emit(&Event::Error { worker: self.reference(id), problem });
    }

    fn reference(&self, id: WorkerId) -> WorkerRef {
        match self.workers.get(&id) {
            Some(worker) => WorkerRef { id, slot: worker.slot, pid: worker.child.pid },
            None => {
                let gone = self.gone.iter().find(|gone| gone.id == id);
                gone.copied().unwrap_or(WorkerRef { id, slot: 0, pid: 0 })
            }
        }
    }
}
