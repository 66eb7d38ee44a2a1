//! The master's word, and leaving: orders, the drain, the release of connections.
//!
//! Neighbours: `worker::control` hears the master; `worker::drain` says when.

use super::*;
use crate::sys::socket;

/// Sockets that we did not make get what ours have.
fn prepare(socket: &OwnedFd) {
    if let Err(errno) = socket::prepare(socket.as_fd()) {
        tracing::debug!(%errno, "a socket from elsewhere refuses its options");
    }
}

impl<H: Handler> EventLoop<H> {
    pub(super) fn watched(&mut self, token: Token) {
        match token {
            WATCH_CHANNEL => {
                self.hear();
                self.watch_channel();
            }
            // the mail itself is read at the end of every turn
            WATCH_BELL => {
                self.mailbox.answer_bell();
                self.ring.push(WATCH_BELL, Op::Watch(self.mailbox.bell()));
            }
            // the turn ends with a flush
            WATCH_ROOM => self.awaits_room = false,
            _ => {
                self.control.woken();
                self.ring.push(WATCH_WAKE, Op::Watch(self.control.wake_fd()));
            }
        }
        self.obey();
    }

    pub(super) fn watch_channel(&mut self) {
        if let Some(channel) = self.control.channel_fd() {
            self.ring.push(WATCH_CHANNEL, Op::Watch(channel));
        }
    }

    pub(super) fn hear(&mut self) {
        self.control.hear();
        self.obey();
    }

    pub(super) fn obey(&mut self) {
        while let Some(order) = self.control.next_order() {
            match order {
                Order::Listen(socket) => self.listen(socket),
                Order::Adopt { socket, travelling } => {
                    prepare(&socket);
                    self.adopt_socket(socket, travelling.peer, travelling.unread)
                }
                Order::Message(message) => {
                    self.call_handler(LoopPhase::HandlingMessage, "a message from the master", |handler| {
                        handler.message(message)
                    });
                }
                Order::Socket { socket, message } => self.offer_socket(socket, message),
                Order::AccessLog(file) => self.turn_journal_to(file),
                Order::Drain { stop } => self.begin_drain(stop),
                Order::Release => self.release_all(),
            }
        }
    }

    /// Calls the program outside of any request; a panic is what it is in one.
    pub(super) fn call_handler<T>(
        &mut self,
        phase: LoopPhase,
        doing: &str,
        call: impl FnOnce(&mut H) -> T,
    ) -> Option<T> {
        let before = self.meter.area.enter(phase);
        let outcome = service::guard(|| doing.to_owned(), || call(&mut self.handler));
        self.meter.area.leave(before);
        self.panicked |= outcome.is_none();
        self.mourn();
        outcome
    }

    fn offer_socket(&mut self, socket: OwnedFd, message: crate::event::Message) {
        let accepted = self.call_handler(LoopPhase::HandlingSocket, "a socket from the master", |handler| {
            handler.socket(socket, message)
        });
        if let Some(client) = accepted.flatten() {
            let peer = socket::peer(client.as_fd());
            prepare(&client);
            self.adopt_socket(client, peer, Vec::new());
        }
    }

    /// Waits for the channel to take more, where the master does not read as fast as is said.
    pub(super) fn await_room(&mut self) {
        let Some(channel) = self.control.channel_fd() else { return };
        if self.control.wants_write() && !std::mem::replace(&mut self.awaits_room, true) {
            self.ring.push(WATCH_ROOM, Op::WatchRoom(channel));
        }
    }

    pub(super) fn listen(&mut self, socket: OwnedFd) {
        // a listener of a Node master's has nothing that its connections could inherit
        prepare(&socket);
        let number = self.listeners.add(socket);
        if self.drain.is_some() {
            // it came too late to be served from, and must not keep the worker here
            return self.drain_listeners();
        }
        self.arm_accepts();
        self.control.listening(number);
    }

    /// Gives every connection to the master, each at its next pause between two requests.
    pub(super) fn release_all(&mut self) {
        if !self.ring.features().install {
            tracing::warn!("connections cannot be released: this kernel lacks FIXED_FD_INSTALL (Linux 6.8)");
            return;
        }
        let serving = |state| {
            use State::{Flushing, Handling, Reading, Sending, Streaming};
            matches!(state, Reading | Handling | Flushing | Sending | Streaming)
        };
        for slot in self.connections.slots_in(serving) {
            let connection = self.connections.at(slot);
            connection.releasing = true;
            if let Some(queue) = &mut connection.queue {
                queue.ask_to_end();
            }
            self.following.push(self.connections.token(slot));
        }
    }

    pub(super) fn begin_drain(&mut self, stop: bool) {
        match &mut self.drain {
            Some(drain) => drain.stop |= stop,
            None => {
                tracing::debug!(connections = self.connections.live(), "draining");
                self.clock.advance();
                let kill_timeout = millis(self.settings.kill_timeout);
                let cuts = self.control.is_alone();
                self.drain = Some(Drain::new(self.clock.now(), kill_timeout, stop, cuts));
                self.call_handler(LoopPhase::BeforeDrain, "before_drain", Handler::before_drain);
                self.listeners.cancel_all(&mut self.ring);
                for slot in
                    self.connections.slots_in(|state| matches!(state, State::Sending | State::Streaming))
                {
                    if let Some(queue) = &mut self.connections.at(slot).queue {
                        queue.ask_to_end();
                    }
                }
            }
        }
        self.drain_listeners();
    }

    /// A wake-up may have gone to an accept that was being cancelled: whoever waits in the queue is taken before
    /// the listener is closed. Those for whom there is no slot are left to the other workers.
    pub(super) fn drain_listeners(&mut self) {
        let Some(stop) = self.drain.as_ref().map(|drain| drain.stop) else { return };
        while let Some(number) = self.listeners.next_joined() {
            let emptied = self.empty_queue(number);
            // what this worker could not take, a sibling may
            self.listeners.close(number, stop && emptied);
        }
    }

    /// Takes all that waits, as far as there is room; says whether nobody is left waiting.
    pub(super) fn empty_queue(&mut self, number: usize) -> bool {
        while self.connections.has_room() {
            match self.listeners.accept_from(number) {
                Ok((socket, peer)) => {
                    self.meter.counters.accepted += 1;
                    self.adopt_socket(socket, peer, Vec::new())
                }
                Err(Errno::ECONNABORTED | Errno::EINTR) => {}
                Err(errno) => return errno == Errno::EAGAIN,
            }
        }
        false
    }

    pub(super) fn drain_on(&mut self) {
        let now = self.clock.now();
        let Some(drain) = &mut self.drain else { return };
        if drain.takes_half_close(now) {
            for slot in self.connections.slots_in(|state| state == State::Reading) {
                let connection = self.connections.at(slot);
                if connection.is_idle() {
                    match connection.exchange.unread() {
                        0 => self.meter.counters.idle_closes += 1,
                        _ => self.meter.counters.forced_closes += 1,
                    }
                    self.linger(slot);
                }
            }
        }
        if self.drain.as_mut().is_some_and(|drain| drain.takes_close(now)) {
            for slot in self.connections.slots_in(|state| matches!(state, State::Lingering | State::Reading))
            {
                let connection = self.connections.at(slot);
                self.meter.counters.forced_closes += u64::from(connection.exchange.is_amid_content());
                // answered in this very turn: that leaves first
                match connection.span.is_empty() {
                    true => self.release(slot, Leave::Close),
                    false => self.flush_then(slot, Next::Close { linger: false }),
                }
            }
        }
    }

    /// Nobody is left, and nobody comes any more.
    pub(super) fn has_drained(&self) -> bool {
        self.drain.is_some() && self.listeners.are_closed() && self.connections.live() == 0
    }

    /// It has taken too long, and there is nobody who would kill this worker: what is in flight is cut with the ring.
    pub(super) fn is_cut(&mut self) -> bool {
        let cut = self.drain.as_ref().is_some_and(|drain| drain.is_time_to_cut(self.clock.now()));
        if cut {
            let connections = self.connections.live();
            self.meter.counters.forced_closes += u64::from(connections);
            self.meter.end(self.clock.read());
            tracing::warn!(connections, "the time to drain is over: what is still in flight is cut");
        }
        cut
    }

    /// The program's last words, and then what it said leaves. A master that does not read any more has the kill timeout.
    pub(super) fn take_leave(&mut self) -> Result<()> {
        self.call_handler(LoopPhase::AfterDrain, "after_drain", Handler::after_drain);
        self.read_mail();
        while !(self.has_drained() && self.control.is_idle()) {
            self.turn()?;
        }
        self.finish_journal()
    }
}
