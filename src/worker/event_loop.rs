//! A worker's loop: one turn submits what the last completions asked for, waits, and handles every completion in one
//! `match`. A request's bytes flow kernel -> completion -> connection -> exchange -> handler -> outbox -> kernel.
//!
//! Neighbours: `connections` holds the states, `timers` the deadlines, `listeners` the sockets it accepts from,
//! `control` what the master says, `drain` when to leave; `ring` performs, `http::exchange` decides.

use super::clock::{Clock, Millis, millis};
use super::connections::{Connection, Connections, Leave, Next, State};
use super::control::{Control, Order};
use super::drain::Drain;
use super::listeners::Listeners;
use super::service::{self, Guarded};
use super::timers::{Class, Timers};
use crate::config::WorkerSettings;
use crate::error::{Error, Result};
use crate::handler::{Handler, Later};
use crate::http::{Conditions, Exchange, Progress, Response, Status};
use crate::ipc::message::Travelling;
use crate::ring::{Completion, Lease, Op, Received, Ring, Span, Token};
use bytes::Bytes;
use nix::errno::Errno;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// A stranded connection (its wake-up went to a worker that was busy, stopped or about to cancel) waits at most this
/// long for somebody's fresh accept. Also the longest that a turn waits.
const FRESH_ACCEPT_INTERVAL_MS: Millis = 50;
/// Fresh accepts in a row, so that a burst is shared with the others.
const FRESH_ACCEPTS_MAX: usize = 16;
/// How long we read on after our last answer, for a client that does not close.
const LINGER_MS: Millis = 2_000;
/// Octets of answers to one connection in one turn beyond which what it goes on sending is kept for the next: the
/// receive pool can be full of one client's requests, each with an answer many times as long.
const TURN_OUTPUT: u32 = 64 * 1024;
/// Unread octets beyond which a connection that cannot be answered yet is not received from.
const UNREAD_PAUSE: usize = 32 * 1024;
/// Unread octets beyond which it is closed: the receive was cancelled long before, so no client gets here that
/// sends less than the whole receive pool ahead.
const UNREAD_MAX: usize = 1 << 20;

/// What is watched beside sockets.
const WATCH_CHANNEL: Token = Token { slot: 0, generation: 0 };
const WATCH_WAKE: Token = Token { slot: 1, generation: 0 };

/// See the module's comment.
pub struct EventLoop<H> {
    ring: Ring,
    connections: Connections,
    timers: Timers,
    listeners: Listeners,
    control: Control,
    clock: Clock,
    settings: WorkerSettings,
    handler: H,
    /// Replies that come later, by when.
    later: BTreeMap<(Millis, u64), (Token, Later)>,
    later_count: u64,
    /// Who waits for which of them, by slot.
    promised: HashMap<u32, (Millis, u64)>,
    /// Connections with output for this turn's submit.
    dirty: Vec<u32>,
    sends: Vec<(Token, Span)>,
    /// Connections whose output has just left and that have something to do after it.
    following: Vec<Token>,
    /// Connections that the peer has ended, until the turn's last completion: one behind it may say that the last
    /// answer was cut short.
    ended: Vec<Token>,
    drain: Option<Drain>,
    fresh_accept_at: Millis,
    /// Set by a panic, cleared when the master has been asked for a replacement.
    panicked: bool,
    exit_code: i32,
}

impl<H: Handler> EventLoop<H> {
    pub fn new(
        ring: Ring,
        control: Control,
        settings: WorkerSettings,
        slots: u32,
        handler: H,
    ) -> EventLoop<H> {
        let limits = [
            millis(settings.header_timeout),
            millis(settings.keep_alive_timeout),
            millis(settings.send_timeout),
            LINGER_MS,
        ];
        EventLoop {
            ring,
            connections: Connections::new(slots),
            timers: Timers::new(limits),
            listeners: Listeners::default(),
            control,
            clock: Clock::new(),
            settings,
            handler,
            later: BTreeMap::new(),
            later_count: 0,
            promised: HashMap::new(),
            dirty: Vec::new(),
            sends: Vec::new(),
            following: Vec::new(),
            ended: Vec::new(),
            drain: None,
            fresh_accept_at: 0,
            panicked: false,
            exit_code: 0,
        }
    }

    /// Serves until it has drained; gives the exit code.
    ///
    /// # Errors
    /// When the ring fails as a whole.
    pub fn run(mut self) -> Result<i32> {
        self.ring.push(WATCH_CHANNEL, Op::Watch(self.control.channel_fd()));
        self.ring.push(WATCH_WAKE, Op::Watch(self.control.wake_fd()));
        self.hear();
        while !self.is_finished() {
            self.turn()?;
        }
        self.control.finish();
        Ok(self.exit_code)
    }

    fn turn(&mut self) -> Result<()> {
        self.collect_sends();
        let timeout = self.timeout();
        self.ring.turn(&mut self.sends, timeout).map_err(|e| Error::io("wait on the ring", e))?;
        self.clock.advance();
        let mut following = std::mem::take(&mut self.following);
        while let Some(completion) = self.ring.next() {
            self.complete(completion);
        }
        following.append(&mut self.ended);
        for token in following {
            self.follow(token);
        }
        self.expire_timers();
        self.complete_later();
        self.accept_afresh();
        // a suicide under a master that never answers is an order to drain
        self.obey();
        self.drain_on();
        self.control.flush();
        Ok(())
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, what, armed } => self.received(token, what, armed),
            Completion::CutShort { token, sent } => self.cut_short(token, sent),
            Completion::Sent { token, bytes, sent } => self.sent(token, bytes, sent),
            Completion::Accepted { listener, result } => self.accepted(listener, result),
            Completion::Closed { token } => self.closed(token),
            Completion::ShutDown { token } => self.shut_down(token),
            Completion::Installed { token, result } => self.installed(token, result),
            Completion::Watched { token } => self.watched(token),
        }
    }

    // ---- in and out ----

    /// The one way in for a connection: its socket is in this slot.
    fn adopt(&mut self, slot: u32, peer: Option<SocketAddr>, unread: Vec<u8>) {
        let token = self.connections.begin(slot, peer, Exchange::adopt(unread));
        self.timers.start(slot, Class::Header, self.clock.now());
        if self.connections.at(slot).exchange.unread() > 0 {
            self.resume(slot);
        }
        self.receive_again(token);
        if self.connections.live() >= self.settings.max_connections {
            self.listeners.pause(&mut self.ring);
        }
    }

    /// The same for a socket that is an ordinary descriptor.
    fn adopt_socket(&mut self, socket: OwnedFd, peer: Option<SocketAddr>, unread: Vec<u8>) {
        let Some(slot) = self.connections.reserve() else {
            tracing::warn!("a connection had to be closed: all slots are taken (--max-connections)");
            return;
        };
        match self.ring.install(slot, socket.as_fd()) {
            Ok(()) => self.adopt(slot, peer, unread),
            Err(error) => {
                tracing::warn!(%error, "a connection had to be closed: the ring cannot take it");
                self.connections.unreserve(slot);
            }
        }
    }

    /// The one way out for a connection: joins what is in flight, then closes it or gives it away.
    fn release(&mut self, slot: u32, leave: Leave) {
        self.timers.stop(slot);
        let token = self.connections.token(slot);
        let connection = self.connections.at(slot);
        connection.state = State::Leaving(leave);
        connection.span.len = 0;
        if leave == Leave::Close {
            connection.exchange.release();
            // a reply that is still owed has nobody left to go to
            if let Some(key) = self.promised.remove(&slot) {
                self.later.remove(&key);
            }
        }
        if connection.receiving && !connection.cancelling {
            connection.cancelling = true;
            self.ring.push(token, Op::CancelReceive);
        }
        if connection.sending {
            self.ring.push(token, Op::CancelSend);
        }
        self.join(token);
    }

    fn join(&mut self, token: Token) {
        let connection = self.connections.at(token.slot);
        match connection.state {
            State::Leaving(leave) if connection.is_joined() => match leave {
                Leave::Close => self.close(token),
                Leave::Release => {
                    connection.state = State::Closing;
                    self.ring.push(token, Op::Install);
                }
            },
            _ => {}
        }
    }

    fn close(&mut self, token: Token) {
        self.connections.at(token.slot).state = State::Closing;
        self.ring.push(token, Op::Close);
    }

    fn installed(&mut self, token: Token, result: std::result::Result<OwnedFd, Errno>) {
        let connection = self.connections.at(token.slot);
        match result {
            Ok(socket) => {
                let travelling = Travelling { peer: connection.peer, unread: connection.exchange.release() };
                self.control.give_away(socket, &travelling);
            }
            Err(errno) => tracing::warn!(%errno, "a connection could not be released and is closed"),
        }
        self.close(token);
    }

    fn closed(&mut self, token: Token) {
        self.connections.end(token.slot);
        self.arm_accepts();
    }

    // ---- receiving ----

    fn arm_receive(&mut self, token: Token) {
        self.connections.at(token.slot).receiving = true;
        self.ring.push(token, Op::Receive);
    }

    #[inline]
    fn received(&mut self, token: Token, what: Received, armed: bool) {
        let Some(connection) = self.connections.get(token) else {
            if let Received::Data(lease) = what {
                self.ring.buffers.give_back(lease);
            }
            return;
        };
        if !armed {
            connection.receiving = false;
            connection.cancelling = false;
        }
        match what {
            Received::Data(lease) => self.data(token.slot, lease),
            Received::End => {
                connection.peer_ended = true;
                self.peer_ended(token.slot);
            }
            Received::PoolEmpty | Received::Cancelled => {}
            Received::Failed(errno) => {
                tracing::trace!(%errno, "connection broke");
                self.broken(token.slot);
            }
        }
        if !armed {
            self.receive_again(token);
        }
    }

    /// Arms the receive if it is wanted and is not armed, or goes on with what waited for its end.
    fn receive_again(&mut self, token: Token) {
        let connection = self.connections.at(token.slot);
        if matches!(connection.state, State::Leaving(_)) {
            self.join(token);
        } else if wants_receive(connection) && !connection.receiving {
            self.arm_receive(token);
        }
    }

    #[inline]
    fn data(&mut self, slot: u32, lease: Lease) {
        let connection = self.connections.at(slot);
        match connection.state {
            State::Reading | State::Handling if !connection.releasing => {
                let start = self.ring.outbox.reopen(connection.span);
                let mut later = None;
                let progress = connection.exchange.feed(
                    self.ring.buffers.bytes(&lease),
                    &mut Guarded {
                        handler: &mut self.handler,
                        later: &mut later,
                        panicked: &mut self.panicked,
                    },
                    &Conditions {
                        date: self.clock.date(),
                        draining: self.drain.is_some(),
                        peer: connection.peer,
                    },
                    self.ring.outbox.buffer(),
                );
                self.ring.buffers.give_back(lease);
                self.progressed(slot, start, progress, later);
            }
            State::Lingering | State::Leaving(Leave::Close) | State::Closing | State::Free => {
                self.ring.buffers.give_back(lease);
            }
            _ => {
                if let Next::Close { linger } = &mut connection.next {
                    // its last request was not its last word: closing on more of it would reset the answer away
                    *linger = true;
                }
                connection.exchange.keep(self.ring.buffers.bytes(&lease));
                self.ring.buffers.give_back(lease);
                self.pause_receive(slot);
            }
        }
    }

    /// Stops receiving from a connection that has sent more than can be answered for now.
    fn pause_receive(&mut self, slot: u32) {
        let token = self.connections.token(slot);
        let connection = self.connections.at(slot);
        if connection.exchange.unread() > UNREAD_MAX {
            self.broken(slot);
        } else if connection.receiving && !connection.cancelling && !wants_receive(connection) {
            connection.cancelling = true;
            self.ring.push(token, Op::CancelReceive);
        }
    }

    /// A client that half-closes gets answers to its complete requests, then the close.
    fn peer_ended(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        match connection.state {
            State::Reading if connection.span.len == 0 => {
                connection.state = State::Flushing;
                connection.next = Next::Close { linger: false };
                self.ended.push(self.connections.token(slot));
            }
            State::Reading => self.flush_then(slot, Next::Close { linger: false }),
            State::Lingering => self.release(slot, Leave::Close),
            _ => {}
        }
    }

    /// Reset by the peer, or not worth keeping: nothing can be sent to it any more.
    fn broken(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        match connection.state {
            State::Leaving(_) => connection.state = State::Leaving(Leave::Close),
            State::Closing | State::Free => {}
            _ => self.release(slot, Leave::Close),
        }
    }

    // ---- answering ----

    /// The exchange has written from `start` on and says what follows.
    #[inline]
    fn progressed(&mut self, slot: u32, start: u32, progress: Progress, later: Option<Later>) {
        let (next, rest) = match progress {
            Progress::Receive { partial } => (Next::Receive { partial }, None),
            Progress::Wait => (Next::Wait, None),
            Progress::Resume { rest } => (Next::Resume, rest),
            Progress::Close { rest, linger } => (Next::Close { linger }, rest),
        };
        if let Some(later) = later {
            self.promise(slot, later);
        }
        let wrote = self.emit(slot, start, rest);
        if std::mem::take(&mut self.panicked) {
            self.exit_code = 1;
            self.control.suicide();
        }
        self.settle(slot, next, wrote);
    }

    /// Puts what was written on its way: with this turn's submit, or behind what still waits. Says if there was any.
    #[inline]
    fn emit(&mut self, slot: u32, start: u32, rest: Option<Bytes>) -> bool {
        let span = self.ring.outbox.span_since(start);
        let connection = self.connections.at(slot);
        if connection.queue.is_none() && rest.is_none() {
            let wrote = span.len > connection.span.len;
            if wrote && connection.span.len == 0 {
                self.dirty.push(slot);
            }
            connection.span = span;
            return wrote;
        }
        let queue = connection.queue.get_or_insert_default();
        connection.span.len = 0;
        if span.len > 0 {
            queue.push_back(Bytes::copy_from_slice(self.ring.outbox.current(span)));
            self.ring.outbox.take_back(start);
        }
        queue.extend(rest);
        self.send_next(slot);
        true
    }

    /// Enters the state that fits what follows, with its timer and its receive.
    #[inline]
    fn settle(&mut self, slot: u32, next: Next, wrote: bool) {
        let now = self.clock.now();
        let connection = self.connections.at(slot);
        connection.next = next;
        if connection.queue.is_some() {
            connection.state = State::Sending;
            self.timers.ensure(slot, Class::Send, now);
            self.pause_receive(slot);
            return;
        }
        let next = match next {
            Next::Receive { .. } if connection.peer_ended => Next::Close { linger: false },
            // the answer's head promised to keep the connection, but by now all that are idle have been closed
            Next::Receive { .. } if self.drain.as_ref().is_some_and(Drain::is_over) => {
                Next::Close { linger: false }
            }
            Next::Receive { .. } if connection.span.len > TURN_OUTPUT => Next::Resume,
            next => next,
        };
        connection.next = next;
        match next {
            Next::Receive { partial: false } => {
                connection.state = State::Reading;
                self.timers.start(slot, Class::KeepAlive, now);
            }
            Next::Receive { partial: true } => {
                connection.state = State::Reading;
                if wrote {
                    self.timers.start(slot, Class::Header, now)
                } else {
                    self.timers.ensure(slot, Class::Header, now)
                }
            }
            Next::Wait => {
                connection.state = State::Handling;
                self.timers.stop(slot);
                // who sends on while a reply is owed may be ahead of us only so far
                self.pause_receive(slot);
            }
            Next::Resume | Next::Close { .. } => return self.flush_then(slot, next),
        }
        if !self.connections.at(slot).receiving {
            let token = self.connections.token(slot);
            self.receive_again(token);
        }
        if self.connections.at(slot).releasing {
            self.following.push(self.connections.token(slot));
        }
    }

    /// Output leaves with this turn's submit; what follows it is done in the next turn, when it is known to be out.
    fn flush_then(&mut self, slot: u32, next: Next) {
        // whatever the client was given time for, it has done; what follows sets its own limit
        self.timers.stop(slot);
        let connection = self.connections.at(slot);
        connection.state = State::Flushing;
        connection.next = next;
        self.following.push(self.connections.token(slot));
    }

    fn follow(&mut self, token: Token) {
        let Some(connection) = self.connections.get(token) else { return };
        match connection.state {
            State::Flushing => self.proceed(token.slot),
            State::Reading if connection.releasing && connection.is_idle() => {
                self.release(token.slot, Leave::Release)
            }
            _ => {}
        }
    }

    /// All output has gone: does what follows. Near the kill timeout nobody is waited for any more.
    fn proceed(&mut self, slot: u32) {
        let too_late = self.drain.as_ref().is_some_and(Drain::is_over);
        let connection = self.connections.at(slot);
        match connection.next {
            Next::Resume if connection.releasing => self.release(slot, Leave::Release),
            Next::Resume => self.resume(slot),
            Next::Close { linger: true } if !connection.peer_ended && !too_late => self.linger(slot),
            Next::Close { .. } => self.release(slot, Leave::Close),
            // requests that arrived while the output was stuck
            Next::Receive { .. } if connection.exchange.unread() > 0 => self.resume(slot),
            next @ (Next::Receive { .. } | Next::Wait) => self.settle(slot, next, false),
        }
    }

    /// Answers what is here already.
    fn resume(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let start = self.ring.outbox.reopen(connection.span);
        let mut later = None;
        let progress = connection.exchange.resume(
            &mut Guarded { handler: &mut self.handler, later: &mut later, panicked: &mut self.panicked },
            &Conditions { date: self.clock.date(), draining: self.drain.is_some(), peer: connection.peer },
            self.ring.outbox.buffer(),
        );
        self.progressed(slot, start, progress, later);
    }

    fn linger(&mut self, slot: u32) {
        let token = self.connections.token(slot);
        let connection = self.connections.at(slot);
        connection.state = State::Lingering;
        connection.shutting = true;
        connection.exchange.release();
        self.ring.push(token, Op::Shutdown);
        self.timers.start(slot, Class::Linger, self.clock.now());
        self.receive_again(token);
    }

    fn shut_down(&mut self, token: Token) {
        self.connections.at(token.slot).shutting = false;
        self.join(token);
    }

    // ---- replies that come later ----

    fn promise(&mut self, slot: u32, later: Later) {
        self.later_count += 1;
        // the handler may have taken its time since the turn began
        self.clock.advance();
        let key = (self.clock.after(later.after), self.later_count);
        self.later.insert(key, (self.connections.token(slot), later));
        self.promised.insert(slot, key);
    }

    fn complete_later(&mut self) {
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= self.clock.now()
        {
            let (token, later) = entry.remove();
            self.promised.remove(&token.slot);
            if self.connections.get(token).is_some_and(|connection| connection.exchange.is_waiting()) {
                self.complete_one(token.slot, later);
            }
        }
    }

    fn complete_one(&mut self, slot: u32, later: Later) {
        let made = service::guard(|| "a reply that came later".to_owned(), later.make);
        self.panicked |= made.is_none();
        let response = made.unwrap_or_else(|| Response::status(Status::INTERNAL_SERVER_ERROR));
        let connection = self.connections.at(slot);
        let start = self.ring.outbox.reopen(connection.span);
        let on =
            Conditions { date: self.clock.date(), draining: self.drain.is_some(), peer: connection.peer };
        let progress = connection.exchange.complete(&response, &on, self.ring.outbox.buffer());
        self.progressed(slot, start, progress, None);
    }

    // ---- sending ----

    fn collect_sends(&mut self) {
        for slot in self.dirty.drain(..) {
            let token = self.connections.token(slot);
            let connection = self.connections.at(slot);
            if connection.span.len > 0 {
                self.sends.push((token, connection.span));
                connection.sent = std::mem::take(&mut connection.span);
            }
        }
    }

    /// The socket did not take the last turn's output whole: the rest, and what has been written since, goes as
    /// ordinary sends, and nothing else is sent or received meanwhile.
    fn cut_short(&mut self, token: Token, sent: std::result::Result<usize, Errno>) {
        let Some(connection) = self.connections.get(token) else { return };
        let sent = match sent {
            Ok(octets) => octets,
            Err(Errno::EAGAIN) => 0,
            Err(_) => return self.broken(token.slot),
        };
        if matches!(connection.state, State::Leaving(_) | State::Closing) {
            return;
        }
        let rest = Bytes::copy_from_slice(&self.ring.outbox.previous(connection.sent)[sent..]);
        let written_since = connection.span;
        connection.span.len = 0;
        let queue = connection.queue.get_or_insert_default();
        queue.push_front(rest);
        if written_since.len > 0 {
            queue.push_back(Bytes::copy_from_slice(self.ring.outbox.current(written_since)));
        }
        self.send_next(token.slot);
        let next = self.connections.at(token.slot).next;
        self.settle(token.slot, next, true);
    }

    fn send_next(&mut self, slot: u32) {
        let token = self.connections.token(slot);
        let connection = self.connections.at(slot);
        let Some(queue) = &mut connection.queue else { return };
        if !connection.sending
            && let Some(bytes) = queue.pop_front()
        {
            connection.sending = true;
            self.ring.push(token, Op::Send(bytes));
        }
    }

    fn sent(&mut self, token: Token, mut bytes: Bytes, sent: std::result::Result<usize, Errno>) {
        let connection = self.connections.at(token.slot);
        connection.sending = false;
        if connection.state != State::Sending {
            return self.join(token);
        }
        let queue = connection.queue.as_mut().expect("a sending connection has a queue");
        match sent {
            Ok(octets) => {
                let rest = bytes.split_off(octets);
                if !rest.is_empty() {
                    queue.push_front(rest);
                }
            }
            Err(Errno::EINTR | Errno::EAGAIN) => queue.push_front(bytes),
            Err(_) => return self.broken(token.slot),
        }
        if queue.is_empty() {
            connection.queue = None;
            self.proceed(token.slot);
        } else {
            self.timers.start(token.slot, Class::Send, self.clock.now());
            self.send_next(token.slot);
        }
    }

    // ---- accepting ----

    fn accepted(&mut self, listener: u32, result: std::result::Result<Option<SocketAddr>, Errno>) {
        let slot = self.listeners.accepted(listener, &result);
        match result {
            Ok(peer) => self.adopt(slot, peer, Vec::new()),
            Err(_) => self.connections.unreserve(slot),
        }
        self.arm_accepts();
        self.drain_listeners();
    }

    fn arm_accepts(&mut self) {
        if self.drain.is_none() && self.connections.live() < self.settings.max_connections {
            self.listeners.arm(&mut self.ring, &mut self.connections);
        }
    }

    /// See `FRESH_ACCEPT_INTERVAL_MS`. Also the moment to try again after the system ran out of descriptors.
    fn accept_afresh(&mut self) {
        if self.clock.now() < self.fresh_accept_at || self.drain.is_some() {
            return;
        }
        self.fresh_accept_at = self.clock.now() + FRESH_ACCEPT_INTERVAL_MS;
        self.listeners.retry();
        for _ in 0..FRESH_ACCEPTS_MAX {
            if self.connections.live() >= self.settings.max_connections {
                break;
            }
            let Some((socket, peer)) = self.listeners.accept_now() else { break };
            self.adopt_socket(socket, peer, Vec::new());
        }
        self.arm_accepts();
    }

    // ---- time ----

    fn expire_timers(&mut self) {
        while let Some((slot, class)) = self.timers.expired(self.clock.now()) {
            match class {
                Class::Header if self.connections.at(slot).exchange.unread() > 0 => self.head_timed_out(slot),
                Class::Header | Class::KeepAlive | Class::Send | Class::Linger => {
                    self.release(slot, Leave::Close)
                }
            }
        }
    }

    fn head_timed_out(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let start = self.ring.outbox.reopen(connection.span);
        let on = Conditions { date: self.clock.date(), draining: true, peer: connection.peer };
        let progress = connection.exchange.time_out(&on, self.ring.outbox.buffer());
        self.progressed(slot, start, progress, None);
    }

    fn timeout(&self) -> Duration {
        if !self.following.is_empty() {
            return Duration::ZERO;
        }
        let deadlines = [
            self.timers.next_deadline(),
            self.later.first_key_value().map(|((due, _), _)| *due),
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

    // ---- the master's word, and leaving ----

    fn watched(&mut self, token: Token) {
        match token {
            WATCH_CHANNEL => {
                self.hear();
                if self.control.is_open() {
                    self.ring.push(WATCH_CHANNEL, Op::Watch(self.control.channel_fd()));
                }
            }
            _ => {
                self.control.woken();
                self.ring.push(WATCH_WAKE, Op::Watch(self.control.wake_fd()));
            }
        }
        self.obey();
    }

    fn hear(&mut self) {
        self.control.hear();
        self.obey();
    }

    fn obey(&mut self) {
        while let Some(order) = self.control.next_order() {
            match order {
                Order::Listen(socket) => self.listen(socket),
                Order::Adopt { socket, travelling } => {
                    self.adopt_socket(socket, travelling.peer, travelling.unread)
                }
                Order::Drain { stop } => self.begin_drain(stop),
                Order::Release => self.release_all(),
            }
        }
    }

    fn listen(&mut self, socket: OwnedFd) {
        let number = self.listeners.add(socket);
        if self.drain.is_some() {
            // it came too late to be served from, and must not keep the worker here
            return self.drain_listeners();
        }
        self.arm_accepts();
        self.control.listening(number);
    }

    /// Gives every connection to the master, each at its next pause between two requests.
    fn release_all(&mut self) {
        if !self.ring.features().install {
            tracing::warn!("connections cannot be released: this kernel lacks FIXED_FD_INSTALL (Linux 6.8)");
            return;
        }
        let serving =
            |state| matches!(state, State::Reading | State::Handling | State::Flushing | State::Sending);
        for slot in self.connections.slots_in(serving) {
            self.connections.at(slot).releasing = true;
            self.following.push(self.connections.token(slot));
        }
    }

    fn begin_drain(&mut self, stop: bool) {
        match &mut self.drain {
            Some(drain) => drain.stop |= stop,
            None => {
                tracing::debug!(connections = self.connections.live(), "draining");
                self.clock.advance();
                self.drain = Some(Drain::new(self.clock.now(), millis(self.settings.kill_timeout), stop));
                self.listeners.cancel_all(&mut self.ring);
            }
        }
        self.drain_listeners();
    }

    /// A wake-up may have gone to an accept that was being cancelled: whoever waits in the queue is taken before
    /// the listener is closed. Those for whom there is no slot are left to the other workers.
    fn drain_listeners(&mut self) {
        let Some(stop) = self.drain.as_ref().map(|drain| drain.stop) else { return };
        while let Some(number) = self.listeners.next_joined() {
            let emptied = self.empty_queue(number);
            // what this worker could not take, a sibling may
            self.listeners.close(number, stop && emptied);
        }
    }

    /// Takes all that waits, as far as there is room; says whether nobody is left waiting.
    fn empty_queue(&mut self, number: usize) -> bool {
        while self.connections.has_room() {
            match self.listeners.accept_from(number) {
                Ok((socket, peer)) => self.adopt_socket(socket, peer, Vec::new()),
                Err(Errno::ECONNABORTED | Errno::EINTR) => {}
                Err(errno) => return errno == Errno::EAGAIN,
            }
        }
        false
    }

    fn drain_on(&mut self) {
        let now = self.clock.now();
        let Some(drain) = &mut self.drain else { return };
        if drain.takes_half_close(now) {
            for slot in self.connections.slots_in(|state| state == State::Reading) {
                if self.connections.at(slot).is_idle() {
                    self.linger(slot);
                }
            }
        }
        if self.drain.as_mut().is_some_and(|drain| drain.takes_close(now)) {
            for slot in self.connections.slots_in(|state| matches!(state, State::Lingering | State::Reading))
            {
                self.release(slot, Leave::Close);
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.drain.is_some()
            && self.listeners.are_closed()
            && self.connections.live() == 0
            && self.control.is_idle()
    }
}

/// A peer that does not read is not read from; one that is ahead of us only so far.
fn wants_receive(connection: &Connection) -> bool {
    !connection.peer_ended
        && match connection.state {
            State::Reading | State::Lingering => true,
            State::Handling | State::Flushing => connection.exchange.unread() <= UNREAD_PAUSE,
            _ => false,
        }
}
