//! A worker's loop: one turn submits what the last completions asked for, waits, and handles every completion in one
//! `match`. A request's bytes flow kernel -> completion -> connection -> exchange -> handler -> outbox -> kernel.
//!
//! Here are the turn and the time; what the turn does is in `arriving`, `answering`, `sending`, `accepting`, `leaving`,
//! `logging`.
//!
//! Neighbours: `connections` holds the states, `timers` the deadlines, `listeners` the sockets it accepts from,
//! `control` what the master says, `drain` when to leave; `ring` performs, `http::exchange` decides.

mod accepting;
mod answering;
mod arriving;
mod leaving;
mod logging;
mod sending;

use super::clock::{Clock, HeldUp, HoldUps, Millis, millis};
use super::connections::{Connection, Connections, Leave, Next, State};
use super::control::{Control, Order};
use super::drain::Drain;
use super::journal::Journal;
use super::listeners::Listeners;
use super::meter::Meter;
use super::queue;
use super::service::{self, Guarded, Outcome};
use super::tasks::{self, TaskId, Tasks};
use super::timers::{Class, Timers};
use crate::access_log::Record;
use crate::config::{OnPanic, WorkerSettings};
use crate::error::{Error, Result};
use crate::event::LoopPhase;
use crate::handler::{Claim, Handler, Local, Mail, Mailbox, Wish};
use crate::http::{Conditions, Exchange, Flow, Part, Progress, Response, Rest, Status};
use crate::ipc::message::Travelling;
use crate::ring::{Append, Completion, Lease, Message, Op, Received, Ring, Span, Token};
use crate::stats::{Area, Nanos, Tally};
use crate::sys::file::MappedPiece;
use bytes::Bytes;
use nix::errno::Errno;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A stranded connection (its wake-up went to a worker that was busy, stopped or about to cancel) waits at most this
/// long for somebody's fresh accept. Also the longest that a turn waits, whatever it waits for: the master takes a loop
/// that does not go round for one that stands still.
const FRESH_ACCEPT_INTERVAL_MS: Millis = 50;
/// Fresh accepts in a row, so that a burst is shared with the others.
const FRESH_ACCEPTS_MAX: usize = 16;
/// How long we read on after our last answer, for a client that does not close.
const LINGER_MS: Millis = 2_000;
/// Octets of answers to one connection in one turn beyond which what it goes on sending is kept for the next: the
/// receive pool can be full of one client's requests, each with an answer many times as long.
const TURN_OUTPUT: u32 = 64 * 1024;
/// Content up to this length goes out with the turn's submit and costs no completion; the sooner a longer one is cut
/// into pieces, the sooner others are served.
const TURN_CONTENT: usize = 264 * 1024;
/// Unread octets beyond which a connection that cannot be answered yet is not received from.
const UNREAD_PAUSE: usize = 32 * 1024;
/// Unread octets beyond which it is closed: the receive was cancelled long before, so no client gets here that
/// sends less than the whole receive pool ahead.
const UNREAD_MAX: usize = 1 << 20;

/// What is watched beside sockets.
const WATCH_CHANNEL: Token = Token { slot: 0, generation: 0 };
const WATCH_WAKE: Token = Token { slot: 1, generation: 0 };
const WATCH_BELL: Token = Token { slot: 2, generation: 0 };
const WATCH_ROOM: Token = Token { slot: 3, generation: 0 };

/// What is written to the access log.
const JOURNAL: Token = Token { slot: 0, generation: 0 };

/// See the module's comment.
pub struct EventLoop<H> {
    ring: Ring,
    connections: Connections,
    timers: Timers,
    listeners: Listeners,
    control: Control,
    clock: Clock,
    meter: Meter,
    /// The access log, if there is one.
    journal: Option<Journal>,
    settings: WorkerSettings,
    handler: H,
    /// The handler's futures.
    tasks: Tasks,
    /// What they wait for.
    local: Rc<Local>,
    /// Who waits for which promise of another thread.
    promises: HashMap<u64, Token>,
    /// Who waits for which future.
    awaited: HashMap<TaskId, Token>,
    mailbox: Arc<Mailbox>,
    /// What is owed to whom, by slot.
    owed: HashMap<u32, Owed>,
    /// Connections with output for this turn's submit.
    dirty: Vec<u32>,
    sends: Vec<(Token, Span)>,
    /// Connections whose output has just left and that have something to do after it.
    following: Vec<Token>,
    /// Connections whose queue has something to send. It begins after the turn's last completion: one of them may say
    /// that the output before was cut short.
    queued: Vec<Token>,
    /// Connections that the peer has ended, until the turn's last completion: one behind it may say that the last
    /// answer was cut short.
    ended: Vec<Token>,
    drain: Option<Drain>,
    fresh_accept_at: Millis,
    hold_ups: HoldUps,
    /// Set by a panic, cleared when what follows from it has been done.
    panicked: bool,
    /// `WATCH_ROOM` is in flight.
    awaits_room: bool,
    exit_code: i32,
}

/// Where a reply that is owed will come from.
#[derive(Debug)]
pub enum Owed {
    /// A future of the handler's.
    Task(TaskId),
    /// Another thread, which has this promise to keep.
    Promise(Claim),
}

impl<H: Handler> EventLoop<H> {
    pub fn new(
        ring: Ring,
        control: Control,
        mailbox: Arc<Mailbox>,
        settings: WorkerSettings,
        slots: u32,
        area: Area,
        handler: H,
    ) -> EventLoop<H> {
        let limits = [
            millis(settings.header_timeout),
            millis(settings.body_timeout),
            millis(settings.keep_alive_timeout),
            millis(settings.send_timeout),
            LINGER_MS,
        ];
        area.set_origin(Clock::origin());
        let clock = Clock::new(settings.server_header);
        EventLoop {
            ring,
            connections: Connections::new(slots),
            timers: Timers::new(limits),
            listeners: Listeners::default(),
            control,
            clock,
            tasks: Tasks::new(Arc::clone(&mailbox), area.clone()),
            meter: Meter::new(area),
            journal: None,
            settings,
            handler,
            local: Local::open(),
            promises: HashMap::new(),
            awaited: HashMap::new(),
            mailbox,
            owed: HashMap::new(),
            dirty: Vec::new(),
            sends: Vec::new(),
            following: Vec::new(),
            queued: Vec::new(),
            ended: Vec::new(),
            drain: None,
            fresh_accept_at: 0,
            hold_ups: HoldUps::default(),
            panicked: false,
            awaits_room: false,
            exit_code: 0,
        }
    }

    /// The same with an access log, if there is to be one.
    pub fn with_journal(self, journal: Option<Journal>) -> EventLoop<H> {
        EventLoop { journal, ..self }
    }

    /// Serves until it has drained; gives the exit code.
    ///
    /// # Errors
    /// When the ring fails as a whole.
    pub fn run(mut self) -> Result<i32> {
        self.watch_channel();
        self.ring.push(WATCH_WAKE, Op::Watch(self.control.wake_fd()));
        self.ring.push(WATCH_BELL, Op::Watch(self.mailbox.bell()));
        self.hear();
        while !self.has_drained() {
            if self.is_cut() {
                self.cut_journal()?;
                return Ok(self.exit_code);
            }
            self.turn()?;
        }
        self.take_leave()?;
        self.control.finish();
        Ok(self.exit_code)
    }

    fn turn(&mut self) -> Result<()> {
        self.collect_sends();
        let (before, timeout) = (self.clock.nanos(), self.timeout());
        self.meter.wait();
        self.ring.turn(&mut self.sends, timeout).map_err(|e| Error::io("wait on the ring", e))?;
        self.clock.advance();
        self.make_up_for_lost_time(before, timeout);
        self.meter.begin(self.clock.nanos());
        if let Some(journal) = &mut self.journal {
            journal.begin_turn(&self.clock);
        }
        let mut following = std::mem::take(&mut self.following);
        while let Some(completion) = self.ring.next() {
            self.complete(completion);
        }
        if self.journal.is_some() {
            self.tell_gone();
        }
        following.append(&mut self.ended);
        for token in following {
            self.follow(token);
        }
        self.expire_timers();
        self.local.expire(self.clock.instant());
        self.read_mail();
        self.take_wishes();
        self.accept_afresh();
        // a suicide under a master that never answers is an order to drain
        self.obey();
        self.drain_on();
        self.begin_queues();
        self.control.flush();
        if self.journal.is_some() {
            self.write_journal();
        }
        self.meter.set_aside(self.connections.live(), self.listeners.failures(), service::panics());
        let took = self.meter.end(self.clock.read());
        if self.clock.is_slow(took) {
            let ms = took / 1_000_000;
            tracing::warn!(
                ms,
                "the handler kept the loop from this worker's other connections for that long"
            );
        }
        self.await_room();
        Ok(())
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, what, armed } => self.received(token, what, armed),
            Completion::CutShort { token, sent } => self.cut_short(token, sent),
            Completion::Sent { token, message, sent } => self.sent(token, message, sent),
            Completion::Populated { token, piece } => self.populated(token, piece),
            Completion::Accepted { listener, result } => self.accepted(listener, result),
            Completion::Connected { token, .. } => unreachable!("nobody connects from {token:?}"),
            Completion::Closed { token } => self.closed(token),
            Completion::ShutDown { token } => self.shut_down(token),
            Completion::Installed { token, result } => self.installed(token, result),
            Completion::File { token, done } => self.local.done(token.slot, done),
            Completion::Appended { append, written } => self.appended(append, written),
            Completion::Watched { token } => self.watched(token),
        }
    }

    // ---- time ----

    /// Nobody's time has run while this loop did not: what came meanwhile has not been received yet, and of that no more than
    /// the kernel hands over at a time is looked at before the timers are. `before` is when the last turn began, `timeout` how
    /// long it meant to wait after it.
    #[inline]
    fn make_up_for_lost_time(&mut self, before: Nanos, timeout: Duration) {
        if let Some(HeldUp { put_off, again }) = self.hold_ups.between(before, self.clock.nanos(), timeout) {
            tracing::warn!(
                put_off_ms = put_off,
                "this worker was held up: its clients' time is put off by that"
            );
            self.timers.put_off(put_off);
            // a drain has to end, whatever the program does
            if !again {
                self.drain.iter_mut().for_each(|drain| drain.catch_up(self.clock.now()));
            }
        }
    }

    fn expire_timers(&mut self) {
        while let Some((slot, class)) = self.timers.expired(self.clock.now()) {
            match class {
                Class::Header if self.connections.at(slot).exchange.unread() > 0 => {
                    self.request_timed_out(slot)
                }
                Class::Content => self.judge_content(slot),
                Class::Header | Class::Send => {
                    self.meter.counters.timed_out += 1;
                    self.release(slot, Leave::Close)
                }
                Class::KeepAlive | Class::Linger => self.release(slot, Leave::Close),
            }
        }
    }

    /// Content must come at a rate: so many octets in every stretch of time.
    fn judge_content(&mut self, slot: u32) {
        let stretch = self.settings.body_timeout.as_secs_f64();
        let wanted = ((self.settings.body_rate as f64 * stretch) as u64).max(1);
        if self.connections.at(slot).exchange.flow(None) == Flow::Full {
            // the handler has had enough of it meanwhile: nobody waits for the client
            return self.settle(slot, Next::Wait, false);
        }
        match self.connections.at(slot).exchange.take_content_count() {
            Some(count) if count < wanted => self.request_timed_out(slot),
            _ => self.timers.start(slot, Class::Content, self.clock.now()),
        }
    }

    fn request_timed_out(&mut self, slot: u32) {
        self.meter.counters.timed_out += 1;
        let connection = self.connections.at(slot);
        let start = self.ring.outbox.reopen(connection.span);
        let on =
            conditions(&self.clock, &self.meter, &self.journal, &self.drain, &self.settings, connection.peer);
        let progress = connection.exchange.time_out(&on, self.ring.outbox.buffer());
        self.progressed(slot, start, progress, None);
    }

    fn timeout(&self) -> Duration {
        if !self.following.is_empty() || self.mailbox.is_full() || self.local.has_wishes() {
            return Duration::ZERO;
        }
        let deadlines = [
            self.timers.next_deadline(),
            self.local.next_due().map(|due| self.clock.at(due)),
            self.drain.as_ref().map_or(Some(self.fresh_accept_at), Drain::next_deadline),
        ];
        let now = self.clock.now();
        let wait = deadlines
            .into_iter()
            .flatten()
            .min()
            .map_or(FRESH_ACCEPT_INTERVAL_MS, |at| at.saturating_sub(now));
        Duration::from_millis(wait.min(FRESH_ACCEPT_INTERVAL_MS))
    }
}

/// What answers depend on now.
fn conditions<'a>(
    clock: &'a Clock,
    meter: &'a Meter,
    journal: &'a Option<Journal>,
    drain: &Option<Drain>,
    settings: &WorkerSettings,
    peer: Option<SocketAddr>,
) -> Conditions<'a> {
    let tally: &Tally = &meter.tally;
    let log = journal.as_ref().map(|journal| &journal.log);
    Conditions {
        date: clock.date(),
        draining: drain.is_some(),
        peer,
        max_body: settings.max_body,
        tally,
        log,
    }
}
