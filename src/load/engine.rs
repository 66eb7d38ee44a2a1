//! One thread's loop: a turn starts what is due on connections that have room, submits it, waits, and handles every
//! completion in one `match`. The clock is read twice a turn: before the submit (what goes out in a turn was sent then)
//! and after the wait (what came in a turn came then).
//!
//! Neighbours: `schedule` says what is due, `connection` what came of it, `recorder` counts; `ring` performs. `run`
//! starts the threads.

use super::connection::{Absorbed, Connection, Flight, State};
use super::reader::Known;
use super::record::{ErrorKind, Interval, Plan};
use super::recorder::{LastSuccess, Recorder, Totals};
use super::schedule::{Next, Schedule, nanoseconds};
use super::target::Target;
use crate::error::RingRefusal;
use crate::ring::{Completion, Lease, Message, Op, Payload, PoolSize, Received, Ring, Span, Token};
use bytes::Bytes;
use nix::errno::Errno;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Answers are larger than requests, and a load generator has no other use for the cache. The odd size keeps the
/// beginnings of buffers, which is all of them that small answers touch, out of one another's cache sets.
const POOL: PoolSize = PoolSize { count: 128, octets: 16 * 1024 + 192 };
/// Octets of requests in one turn, about: what is started beyond goes out with the next.
const TURN_OCTETS: usize = 1 << 20;
/// How often timeouts are looked for, at least; also the longest that a turn waits.
const ROUND_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// How long a server may take to close a connection after its last answer.
const ENDING_NS: u64 = 1_000_000_000;
/// How long connections that have not been made are waited for before the run begins, once there is one.
const GATHERING_NS: u64 = 1_000_000_000;
/// When each connection has failed so often in a row, and nothing was ever answered, nothing will be.
const FAILURES_MAX: u32 = 8;
/// Octets of a malformed answer that are shown.
const SHOWN_OCTETS: usize = 40;

/// What all threads of a run know.
pub struct Shared {
    pub target: Target,
    pub plan: Plan,
    /// End now.
    pub stop: AtomicBool,
    /// An answer has come on some thread.
    pub answered: AtomicBool,
    pub last_success: LastSuccess,
}

/// See the module's comment. Times are nanoseconds since `origin`.
pub struct Engine {
    shared: Arc<Shared>,
    ring: Ring,
    schedule: Schedule,
    recorder: Recorder,
    intervals: Sender<Interval>,
    connections: Vec<Connection>,
    /// Those with room, the one that has had it longest first.
    ready: VecDeque<u32>,
    /// Requests that must be sent again, by when they started.
    again: VecDeque<u64>,
    /// Connections with requests that go out with this turn.
    dirty: Vec<u32>,
    sends: Vec<(Token, Span)>,
    /// Absent connections, and those that must stay so up to a time.
    absent: Vec<u32>,
    pausing: BinaryHeap<Reverse<(u64, u32)>>,
    known: Known,
    /// Which request comes next in the rotation.
    next_request: usize,
    origin: Instant,
    now: u64,
    /// When this turn's requests were sent.
    sent_at: u64,
    /// Requests on their way.
    in_flight: usize,
    open: usize,
    /// When one of them was open last, if none is.
    open_until: u64,
    /// The measured part has begun.
    measuring: bool,
    next_round: u64,
    next_interval: u64,
    /// No request starts from here on, and nothing is waited for from there on.
    end: u64,
    last_end: u64,
    limits: Limits,
}

/// The plan in the loop's units.
#[derive(Debug, Clone, Copy)]
struct Limits {
    pipeline: usize,
    requests_per_connection: u64,
    timeout: u64,
    /// The warm-up.
    from: u64,
    /// Requests have content that goes out on its own.
    large: bool,
    /// Octets of the longest request.
    request_octets: usize,
}

/// What a thread says at its end.
#[derive(Debug)]
pub struct Outcome {
    pub totals: Totals,
    /// The measured part ended, since the load began.
    pub until: Duration,
}

impl Engine {
    /// Makes thread `thread`'s part of a run, and in it the ring.
    ///
    /// # Errors
    /// Why there is no ring.
    pub fn new(
        shared: Arc<Shared>,
        thread: usize,
        intervals: Sender<Interval>,
    ) -> Result<Engine, RingRefusal> {
        let plan = &shared.plan;
        let count = plan.connections / plan.threads + usize::from(thread < plan.connections % plan.threads);
        let mut ring = Ring::with_pool(POOL)?;
        ring.register_slots(count as u32)?;
        let load_end = plan.duration.map(|duration| plan.warmup + duration);
        let schedule = Schedule::new(plan, thread);
        let limits = Limits::new(&shared);
        let end = load_end.map_or(u64::MAX, nanoseconds);
        Ok(Engine {
            ring,
            recorder: Recorder::new(thread, schedule.is_open(), limits.from),
            schedule,
            intervals,
            connections: (0..count as u32)
                .map(|slot| Connection::new(slot, limits.pipeline, shared.target.head_only))
                .collect(),
            ready: VecDeque::with_capacity(count),
            again: VecDeque::new(),
            dirty: Vec::with_capacity(count),
            sends: Vec::with_capacity(count),
            absent: (0..count as u32).rev().collect(),
            pausing: BinaryHeap::new(),
            known: Known::default(),
            next_request: thread,
            origin: Instant::now(),
            now: 0,
            sent_at: 0,
            in_flight: 0,
            open: 0,
            open_until: 0,
            measuring: false,
            next_round: 0,
            next_interval: limits.from + SECOND_NS,
            end,
            last_end: end.saturating_add(limits.timeout),
            limits,
            shared,
        })
    }

    /// Opens connections until each has been tried, or little is left to wait for; says whether there is one.
    ///
    /// # Errors
    /// When the ring fails as a whole.
    pub fn gather(&mut self) -> io::Result<bool> {
        self.connect_absent();
        let mut begun_at = None;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let waiting = self
                .connections
                .iter()
                .any(|one| matches!(one.state, State::Connecting(_) | State::GivingUp));
            if self.open > 0 {
                begun_at.get_or_insert(self.now);
            }
            if !waiting || begun_at.is_some_and(|at| self.now >= at + GATHERING_NS) {
                break;
            }
            self.wait(Duration::from_millis(20))?;
            self.look_round();
        }
        Ok(self.open > 0)
    }

    /// Loads until the end.
    ///
    /// # Errors
    /// When the ring fails as a whole.
    pub fn run(mut self, begin: Instant) -> io::Result<Outcome> {
        self.rebase(begin);
        while !self.is_over() {
            self.turn()?;
        }
        let stopped = self.shared.stop.load(Ordering::Relaxed);
        self.abandon(stopped);
        let load_end = self.now.min(self.end).max(self.limits.from);
        self.recorder.end(load_end, &self.shared.last_success);
        self.begin_measuring();
        let interval = self.recorder.interval(self.now);
        // the receiver outlives the threads, or the run's results are of no interest any more
        let _ = self.intervals.send(interval);
        let last = self.recorder.totals.last_answer;
        let until = match () {
            () if stopped || last == 0 => self.now,
            () if self.now >= self.end => last.max(self.end),
            () => last,
        };
        // the process ends soon, and the kernel ends thousands of receives far sooner then than one by one here
        std::mem::forget(self.ring);
        Ok(Outcome { totals: self.recorder.totals, until: Duration::from_nanos(until) })
    }

    /// From here on times count from `begin`; what happened before happened then.
    fn rebase(&mut self, begin: Instant) {
        self.origin = begin;
        self.tick();
        for connection in &mut self.connections {
            if matches!(connection.state, State::Connecting(_)) {
                connection.state = State::Connecting(0);
            }
        }
        let pausing = std::mem::take(&mut self.pausing);
        self.absent.extend(pausing.into_iter().map(|Reverse((_, slot))| slot));
        self.next_round = 0;
        self.open_until = self.now;
    }

    fn turn(&mut self) -> io::Result<()> {
        self.tick();
        self.connect_absent();
        self.dispatch();
        self.write();
        let timeout = self.timeout();
        self.wait(timeout)?;
        self.recorder.end_turn(self.now, &self.shared.last_success);
        if !self.measuring && self.now >= self.limits.from {
            self.begin_measuring();
        }
        if self.now >= self.next_interval {
            self.send_interval();
        }
        if self.now >= self.next_round {
            self.look_round();
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.ring.turn(&mut self.sends, timeout)?;
        self.tick();
        while let Some(completion) = self.ring.next() {
            self.complete(completion);
        }
        Ok(())
    }

    #[inline]
    fn tick(&mut self) {
        self.now = self.origin.elapsed().as_nanos() as u64;
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, what, armed } => self.received(token, what, armed),
            Completion::CutShort { token, sent } => self.cut_short(token, sent),
            Completion::Sent { token, message, sent } => self.sent(token, message, sent),
            Completion::Connected { token, result } => self.connected(token, result),
            Completion::Closed { token } => self.closed(token),
            other => unreachable!("nothing asked for {other:?}"),
        }
    }

    fn timeout(&self) -> Duration {
        let due = match self.again.is_empty() {
            true => self.schedule.peek(self.now),
            false => Next::Start(self.now),
        };
        let next = match due {
            // more was due than goes out in a turn
            Next::Start(_) if !self.ready.is_empty() => return Duration::ZERO,
            // what goes out with this turn takes its time: wait for the next request in a turn without
            Next::At(_) if !self.sends.is_empty() => return Duration::ZERO,
            Next::At(due) if !self.ready.is_empty() => due,
            _ => u64::MAX,
        };
        let pause = self.pausing.peek().map_or(u64::MAX, |Reverse((until, _))| *until);
        let next = next.min(pause).min(self.next_round).min(self.next_interval).min(self.last_end);
        Duration::from_nanos(next.saturating_sub(self.now))
    }
}

/// Sending.
impl Engine {
    /// Gives what is due to connections with room, one each in turn.
    fn dispatch(&mut self) {
        let Limits { pipeline, requests_per_connection, large, request_octets, .. } = self.limits;
        let mut octets = 0;
        while let Some(slot) = self.ready.front().copied() {
            let connection = &mut self.connections[slot as usize];
            if !connection.has_room(pipeline, requests_per_connection) {
                // it has ended since it was listed
                connection.listed = false;
                self.ready.pop_front();
                continue;
            }
            if octets >= TURN_OCTETS {
                return;
            }
            let Some(start) = self.next_start() else { return };
            octets += request_octets;
            self.ready.pop_front();
            self.in_flight += 1;
            let connection = &mut self.connections[slot as usize];
            connection.flights.push_back(Flight { start, sent: self.now });
            connection.unsent += 1;
            connection.sending = large;
            if connection.unsent == 1 {
                self.dirty.push(slot);
            }
            connection.listed = connection.has_room(pipeline, requests_per_connection);
            if connection.listed {
                self.ready.push_back(slot);
            }
        }
    }

    fn next_start(&mut self) -> Option<u64> {
        if let Some(start) = self.again.pop_front() {
            return Some(start);
        }
        let Next::Start(start) = self.schedule.peek(self.now) else { return None };
        self.schedule.take(start);
        Some(start)
    }

    fn write(&mut self) {
        self.sent_at = self.now;
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            if self.limits.large { self.write_large(slot) } else { self.write_small(slot) }
        }
        self.dirty = dirty;
    }

    fn write_small(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let requests = &self.shared.target.requests;
        let start = self.ring.outbox.buffer().len();
        let first = connection.flights.len() - std::mem::take(&mut connection.unsent) as usize;
        for flight in connection.flights.range(first..) {
            connection.asked += 1;
            let last = connection.asked == self.limits.requests_per_connection;
            self.ring
                .outbox
                .buffer()
                .extend_from_slice(requests[self.next_request % requests.len()].octets(last));
            self.next_request = self.next_request.wrapping_add(1);
            self.recorder.sent_request(flight.start);
        }
        connection.span = self.ring.outbox.span_since(start as u32);
        self.recorder.sent(self.ring.outbox.buffer().len() - start, self.now);
        self.sends.push((connection.token(), connection.span));
    }

    fn write_large(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let requests = &self.shared.target.requests;
        let request = &requests[self.next_request % requests.len()];
        self.next_request = self.next_request.wrapping_add(1);
        connection.unsent = 0;
        connection.asked += 1;
        let last = connection.asked == self.limits.requests_per_connection;
        if let Some(flight) = connection.flights.back() {
            self.recorder.sent_request(flight.start);
        }
        let body = Payload::Bytes(request.content.clone());
        let message = Message { head: request.octets(last).clone(), body };
        self.ring.push(connection.token(), Op::Send(message));
    }

    /// The socket did not take the turn's requests whole: the rest goes as an ordinary send.
    fn cut_short(&mut self, token: Token, sent: Result<usize, Errno>) {
        let Some(connection) = present(&mut self.connections, token) else { return };
        let octets = self.ring.outbox.previous(connection.span);
        let sent = match sent {
            Ok(sent) => sent,
            Err(Errno::EAGAIN) => 0,
            Err(_) => {
                self.recorder.not_sent(octets.len(), self.sent_at);
                connection.broken = true;
                return;
            }
        };
        self.recorder.not_sent(octets.len() - sent, self.sent_at);
        if matches!(connection.state, State::Leaving | State::Closing) {
            return;
        }
        connection.sending = true;
        let rest = Bytes::copy_from_slice(&octets[sent..]);
        self.ring.push(token, Op::Send(Message::of(rest)));
    }

    fn sent(&mut self, token: Token, mut message: Message, sent: Result<usize, Errno>) {
        let Some(connection) = present(&mut self.connections, token) else { return };
        connection.sending = false;
        if let Ok(octets) = sent {
            self.recorder.sent(octets, self.now);
            message.advance(octets);
        }
        match (connection.state, sent) {
            (State::Leaving, _) => self.join(token.slot),
            (_, Err(_)) => connection.broken = true,
            _ if message.is_empty() => self.list(token.slot),
            _ => {
                connection.sending = true;
                self.ring.push(token, Op::Send(message));
            }
        }
    }

    /// Puts a connection that has room among those that have.
    #[inline]
    fn list(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if !connection.listed
            && connection.has_room(self.limits.pipeline, self.limits.requests_per_connection)
        {
            connection.listed = true;
            self.ready.push_back(slot);
        }
    }
}

/// Receiving.
impl Engine {
    #[inline]
    fn received(&mut self, token: Token, what: Received, armed: bool) {
        let slot = token.slot;
        let Some(connection) = present(&mut self.connections, token) else {
            if let Received::Data(lease) = what {
                self.ring.buffers.give_back(lease);
            }
            return;
        };
        connection.receiving = armed;
        match what {
            Received::Data(lease) => self.data(slot, lease),
            Received::End => self.ended(slot, None),
            Received::Failed(errno) => self.ended(slot, Some(errno)),
            Received::PoolEmpty | Received::Cancelled => {}
        }
        if armed {
            return;
        }
        let connection = &mut self.connections[slot as usize];
        match connection.state {
            State::Leaving => self.join(slot),
            State::Open | State::Ending(_) => {
                connection.receiving = true;
                self.ring.push(token, Op::Receive);
            }
            _ => {}
        }
    }

    #[inline]
    fn data(&mut self, slot: u32, lease: Lease) {
        let octets = self.ring.buffers.bytes(&lease);
        let connection = &mut self.connections[slot as usize];
        if connection.state != State::Open {
            return self.ring.buffers.give_back(lease);
        }
        self.recorder.received(octets.len(), self.now);
        let before = connection.flights.len();
        let absorbed = connection.absorb(octets, self.now, &mut self.known, &mut self.recorder);
        self.in_flight -= before - connection.flights.len();
        match absorbed {
            Ok(Absorbed::Open) if connection.asked < self.limits.requests_per_connection => self.list(slot),
            Ok(Absorbed::Open) if !connection.flights.is_empty() => {}
            Ok(_) => self.finish(slot),
            Err(why) => {
                let shown = octets[..octets.len().min(SHOWN_OCTETS)].escape_ascii().to_string();
                self.lose(slot, ErrorKind::Malformed, || format!("{why}: \"{shown}\""));
            }
        }
        self.ring.buffers.give_back(lease);
    }

    /// The last answer has come. The server closes first, so that the port is kept waiting on its side; what it will not
    /// answer any more goes out again on another connection.
    fn finish(&mut self, slot: u32) {
        self.not_open_any_more();
        let connection = &mut self.connections[slot as usize];
        connection.state = State::Ending(self.now + ENDING_NS);
        self.in_flight -= connection.flights.len();
        while let Some(flight) = connection.flights.pop_back() {
            self.again.push_front(flight.start);
        }
    }

    /// Nothing comes any more.
    fn ended(&mut self, slot: u32, failure: Option<Errno>) {
        let connection = &mut self.connections[slot as usize];
        connection.receiving = false;
        if !matches!(connection.state, State::Open | State::Ending(_)) {
            return;
        }
        let before = connection.flights.len();
        if failure.is_none() {
            connection.end(self.now, &mut self.recorder);
        }
        self.in_flight -= before - connection.flights.len();
        let reset = failure.is_some() || connection.broken;
        let kind = if reset { ErrorKind::Reset } else { ErrorKind::ClosedEarly };
        self.lose(slot, kind, || match failure {
            Some(errno) => errno.desc().to_owned(),
            None => "closed without an answer".to_owned(),
        });
    }

    /// Every request on this connection is lost, and the connection too.
    fn lose(&mut self, slot: u32, kind: ErrorKind, detail: impl Fn() -> String) {
        let connection = &mut self.connections[slot as usize];
        self.in_flight -= connection.flights.len();
        for flight in connection.flights.drain(..) {
            self.recorder.error(kind, flight.start, self.now, &detail);
        }
        self.leave(slot);
    }
}

/// Coming and going.
impl Engine {
    /// Opens what is absent, if there is any use for it.
    fn connect_absent(&mut self) {
        while let Some(Reverse((until, slot))) = self.pausing.peek().copied()
            && until <= self.now
        {
            self.pausing.pop();
            self.absent.push(slot);
        }
        if self.absent.is_empty() || !self.has_work() {
            return;
        }
        while let Some(slot) = self.absent.pop() {
            self.connect(slot);
        }
    }

    /// Something waits for a connection, or will.
    fn has_work(&self) -> bool {
        !self.again.is_empty() || self.schedule.peek(self.now) != Next::Never
    }

    fn connect(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.begin(self.now);
        let address = &self.shared.target.address;
        let socket = address.socket();
        let installed = socket.and_then(|socket| {
            let refused = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            self.ring.install(slot, socket.as_fd()).map_err(refused)
        });
        match installed {
            Ok(()) => self.ring.push(connection.token(), Op::Connect(Arc::clone(address))),
            Err(errno) => {
                self.not_connected(errno);
                self.rest(slot);
            }
        }
    }

    fn connected(&mut self, token: Token, result: Result<(), Errno>) {
        let connection = &mut self.connections[token.slot as usize];
        debug_assert_eq!(connection.token(), token, "a slot connects once at a time");
        match result {
            Ok(()) => {
                connection.state = State::Open;
                connection.receiving = true;
                self.open += 1;
                if self.measuring {
                    self.recorder.opened(self.now);
                }
                self.ring.push(token, Op::Receive);
                self.list(token.slot);
            }
            Err(errno) => {
                let errno = if connection.state == State::GivingUp { Errno::ETIMEDOUT } else { errno };
                self.not_connected(errno);
                self.close(token.slot);
            }
        }
    }

    fn not_connected(&mut self, errno: Errno) {
        let kind = if errno == Errno::ECONNREFUSED { ErrorKind::Refused } else { ErrorKind::Unreachable };
        let timeout = self.shared.plan.timeout;
        // before the run begins: at its beginning, if that is measured
        let at = if self.measuring { self.now } else { 0 };
        self.recorder.error(kind, at, at.max(self.limits.from), || why_not_connected(errno, timeout));
    }

    /// Cancels what is in flight; when that is over the descriptor is closed.
    fn leave(&mut self, slot: u32) {
        if self.connections[slot as usize].state == State::Open {
            self.not_open_any_more();
        }
        let connection = &mut self.connections[slot as usize];
        connection.state = State::Leaving;
        let token = connection.token();
        if connection.receiving {
            self.ring.push(token, Op::CancelReceive);
        }
        if connection.sending {
            self.ring.push(token, Op::CancelSend);
        }
        self.join(slot);
    }

    fn not_open_any_more(&mut self) {
        self.open -= 1;
        self.open_until = self.now;
    }

    fn join(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        if !connection.receiving && !connection.sending {
            self.close(slot);
        }
    }

    fn close(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.state = State::Closing;
        self.ring.push(connection.token(), Op::Close);
    }

    fn closed(&mut self, token: Token) {
        self.rest(token.slot);
    }

    /// The slot is free: it may be opened again, now or after a pause.
    fn rest(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.state = State::Absent;
        match connection.pause() {
            0 => self.absent.push(slot),
            pause => self.pausing.push(Reverse((self.now + pause, slot))),
        }
    }

    /// Looks for what takes too long.
    fn look_round(&mut self) {
        self.next_round = self.now + (self.limits.timeout / 8).clamp(SECOND_NS / 1000, ROUND_NS);
        if self.recorder.totals.answers > 0 {
            self.shared.answered.store(true, Ordering::Relaxed);
        }
        for slot in 0..self.connections.len() as u32 {
            self.judge(slot);
        }
    }

    fn judge(&mut self, slot: u32) {
        let Limits { timeout, .. } = self.limits;
        let connection = &mut self.connections[slot as usize];
        let is_late = |since: u64| since + timeout <= self.now;
        match connection.state {
            State::Connecting(since) if is_late(since) => {
                connection.state = State::GivingUp;
                self.ring.push(connection.token(), Op::CancelConnect);
            }
            State::Open if connection.flights.front().is_some_and(|flight| is_late(flight.sent)) => {
                let limit = self.shared.plan.timeout;
                self.lose(slot, ErrorKind::Timeout, || format!("no answer within {limit:?}"));
            }
            State::Ending(until) if until <= self.now => self.leave(slot),
            _ => {}
        }
    }
}

/// Beginning and ending.
impl Engine {
    fn begin_measuring(&mut self) {
        if !std::mem::replace(&mut self.measuring, true) {
            self.recorder.begin(self.open);
        }
    }

    fn send_interval(&mut self) {
        self.next_interval += SECOND_NS * ((self.now - self.next_interval) / SECOND_NS + 1);
        let interval = self.recorder.interval(self.now);
        let _ = self.intervals.send(interval);
    }

    fn is_over(&self) -> bool {
        let done = self.in_flight == 0 && !self.has_work();
        done || self.now >= self.last_end || self.shared.stop.load(Ordering::Relaxed) || self.is_hopeless()
    }

    /// Nothing was ever answered and nothing will be, or a run that only a number of requests ends has no server any
    /// more.
    fn is_hopeless(&self) -> bool {
        let bereft = || self.end == u64::MAX && self.now >= self.open_until + self.limits.timeout;
        let never = || {
            !self.shared.answered.load(Ordering::Relaxed)
                && self.recorder.totals.answers == 0
                && self.connections.iter().all(|connection| connection.failures >= FAILURES_MAX)
        };
        self.open == 0 && (bereft() || never())
    }

    /// Nobody waits any longer. What was due and has not been sent has waited so long at least; unless the user has
    /// stopped the run, it and what is in flight count as timeouts.
    fn abandon(&mut self, stopped: bool) {
        if !self.schedule.is_open() {
            // nothing is due in a closed loop
            self.schedule.stop();
        }
        while let Some(start) = self.next_start() {
            if self.schedule.is_open() {
                self.recorder.never_sent(start, self.now);
            }
            self.time_out(start, stopped);
        }
        for slot in 0..self.connections.len() {
            while let Some(flight) = self.connections[slot].flights.pop_front() {
                self.time_out(flight.start, stopped);
            }
        }
    }

    fn time_out(&mut self, start: u64, stopped: bool) {
        if !stopped {
            self.recorder.error(ErrorKind::Timeout, start, self.now, || "no answer by the end".to_owned());
        }
    }
}

impl Limits {
    fn new(shared: &Shared) -> Limits {
        let Shared { plan, target, .. } = shared;
        Limits {
            pipeline: plan.pipeline,
            requests_per_connection: plan.requests_per_connection.unwrap_or(u64::MAX),
            timeout: nanoseconds(plan.timeout),
            from: nanoseconds(plan.warmup),
            large: target.requests.iter().any(|request| !request.content.is_empty()),
            request_octets: target
                .requests
                .iter()
                .map(|request| request.octets(true).len())
                .max()
                .unwrap_or(0),
        }
    }
}

/// The connection that is meant, if it is still the same.
#[inline]
fn present(connections: &mut [Connection], token: Token) -> Option<&mut Connection> {
    let connection = &mut connections[token.slot as usize];
    (connection.token() == token).then_some(connection)
}

fn why_not_connected(errno: Errno, timeout: Duration) -> String {
    match errno {
        Errno::ECONNREFUSED => "connection refused (is the server up?)".into(),
        Errno::EADDRNOTAVAIL => {
            "no free local port (closed connections keep theirs for a minute: open fewer, or \
                                 widen net.ipv4.ip_local_port_range)"
                .into()
        }
        Errno::ENOENT => "no such socket".into(),
        Errno::ETIMEDOUT => format!("no connection within {timeout:?}"),
        Errno::EMFILE | Errno::ENFILE => "too many open files".into(),
        errno => errno.desc().to_lowercase(),
    }
}
