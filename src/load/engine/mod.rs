//! One thread's loop: a turn starts what is due on connections that have room, submits it, waits, and handles every
//! completion in one `match`. The clock is read twice a turn: before the submit (what goes out in a turn was sent then)
//! and after the wait (what came in a turn came then).
//!
//! Here are the turn and the time; what the turn does is in `sending`, `receiving`, `opening`, `ending`.
//!
//! Neighbours: `schedule` says what is due, `connection` what came of it, `recorder` counts; `ring` performs. `run`
//! starts the threads.

mod ending;
mod opening;
mod receiving;
mod sending;

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
/// The longest pause of a connection that fails again and again; longer where many would make too many attempts.
const PAUSE_NS_MAX: u64 = 100_000_000;
/// A thread makes at most 10,000 such attempts a second.
const ATTEMPT_NS: u64 = 100_000;
/// How long no connection is opened when there is no local port. Finding that out takes a millisecond.
const STARVED_NS: u64 = 100_000_000;
/// Attempts in one turn. Each costs tens of microseconds, and a millisecond where few local ports are left; and of what
/// has come by then the kernel hands over some 20 completions a turn (since 6.13), answers behind connections.
const ATTEMPTS_MAX: usize = 16;
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
    /// Requests that must be sent again, by when they started: they are counted already.
    again: VecDeque<u64>,
    /// Connections with requests that go out with this turn.
    dirty: Vec<u32>,
    sends: Vec<(Token, Span)>,
    /// Absent connections, and those that must stay so up to a time.
    absent: VecDeque<u32>,
    pausing: BinaryHeap<Reverse<(u64, u32)>>,
    /// There was no local port: one attempt at a time, the next then.
    starved_until: Option<u64>,
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
    /// The last request was sent, but not before the end of what was planned; since the load began.
    pub sending_until: Duration,
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
            absent: (0..count as u32).collect(),
            pausing: BinaryHeap::new(),
            starved_until: None,
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

    /// Opens connections until each has been tried, or there is no local port for any, or little is left to wait for;
    /// says whether there is one.
    ///
    /// # Errors
    /// When the ring fails as a whole.
    pub fn gather(&mut self) -> io::Result<bool> {
        let (mut untried, mut begun_at) = (self.connections.len(), None);
        while !self.shared.stop.load(Ordering::Relaxed) {
            let attempts = self.connect_absent(untried.min(ATTEMPTS_MAX));
            untried -= attempts;
            let is_tried = |one: &Connection| !matches!(one.state, State::Connecting(_) | State::GivingUp);
            // without a local port none of the others gets any further
            let bereft = self.starved_until.is_some() && self.open == 0;
            let over = (untried == 0 || bereft) && self.connections.iter().all(is_tried);
            if self.open > 0 {
                begun_at.get_or_insert(self.now);
            }
            if over || begun_at.is_some_and(|at| self.now >= at + GATHERING_NS) {
                break;
            }
            self.wait(if attempts > 0 && untried > 0 { Duration::ZERO } else { Duration::from_millis(20) })?;
            if self.now >= self.next_round {
                self.look_round();
            }
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
        let sending_until = self.recorder.totals.last_send.max(self.now.min(self.schedule.planned_end()));
        // the process ends soon, and the kernel ends thousands of receives far sooner then than one by one here
        std::mem::forget(self.ring);
        Ok(Outcome {
            totals: self.recorder.totals,
            until: Duration::from_nanos(until),
            sending_until: Duration::from_nanos(sending_until),
        })
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
        self.starved_until = self.starved_until.map(|_| 0);
        self.next_round = 0;
        self.open_until = self.now;
    }

    fn turn(&mut self) -> io::Result<()> {
        self.tick();
        if self.has_work() {
            self.connect_absent(ATTEMPTS_MAX);
        }
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
        let pause = match self.pausing.peek() {
            // more than are opened in a turn
            _ if !self.absent.is_empty() && due != Next::Never => 0,
            Some(Reverse((until, _))) => *until,
            None => u64::MAX,
        };
        let pause = pause.max(self.starved_until.unwrap_or(0));
        let next = next.min(pause).min(self.next_round).min(self.next_interval).min(self.last_end);
        Duration::from_nanos(next.saturating_sub(self.now))
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
