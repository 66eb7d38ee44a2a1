//! How connections come and go, and what they send: the ways in and out, and receiving.
//!
//! Neighbours: `answering` continues with what was received; `accepting` brings connections; `ring` receives.

use super::*;

impl<H: Handler> EventLoop<H> {
    /// The one way in for a connection: its socket is in this slot.
    pub(super) fn adopt(&mut self, slot: u32, peer: Option<SocketAddr>, unread: Vec<u8>) {
        let token = self.connections.begin(slot, peer, Exchange::adopt(unread));
        self.timers.start(slot, Class::Header, self.clock.now());
        if self.connections.at(slot).exchange.unread() > 0 {
            self.resume(slot);
        }
        self.receive_again(token);
        // it may have been handed over
        if self.listeners.in_flight() > self.places() {
            self.listeners.pause(&mut self.ring);
        }
    }

    /// The same for a socket that is an ordinary descriptor.
    pub(super) fn adopt_socket(&mut self, socket: OwnedFd, peer: Option<SocketAddr>, unread: Vec<u8>) {
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
    pub(super) fn release(&mut self, slot: u32, leave: Leave) {
        self.timers.stop(slot);
        let token = self.connections.token(slot);
        let connection = self.connections.at(slot);
        connection.state = State::Leaving(leave);
        connection.span = Span::default();
        if leave == Leave::Close {
            self.tell_unanswered(slot);
            let connection = self.connections.at(slot);
            connection.exchange.release();
            match (&self.journal, &mut connection.queue) {
                // how much of it has gone is known when nothing is in flight any more
                (Some(_), Some(queue)) => queue.abandon(),
                _ => connection.queue = None,
            }
            // a reply that is still owed has nobody left to go to
            self.forget_owed(slot);
        }
        let connection = self.connections.at(slot);
        if connection.receiving && !connection.cancelling {
            connection.cancelling = true;
            self.ring.push(token, Op::CancelReceive);
        }
        if connection.sending {
            self.ring.push(token, Op::CancelSend);
        }
        self.join(token);
    }

    pub(super) fn join(&mut self, token: Token) {
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

    pub(super) fn close(&mut self, token: Token) {
        self.tell_cut(token.slot);
        self.connections.at(token.slot).state = State::Closing;
        self.ring.push(token, Op::Close);
    }

    pub(super) fn installed(&mut self, token: Token, result: std::result::Result<OwnedFd, Errno>) {
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

    pub(super) fn closed(&mut self, token: Token) {
        self.connections.end(token.slot);
        self.arm_accepts();
    }

    pub(super) fn arm_receive(&mut self, token: Token) {
        let connection = self.connections.at(token.slot);
        connection.receiving = true;
        connection.wide = connection.exchange.is_amid_long_content();
        self.ring.push(token, if connection.wide { Op::ReceiveContent } else { Op::Receive });
    }

    /// Ends the receive of requests early, where long content has begun: the next one is for that.
    #[inline]
    pub(super) fn widen_receive(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if !connection.wide && !connection.cancelling && connection.exchange.is_amid_long_content() {
            connection.cancelling = true;
            self.ring.push(self.connections.token(slot), Op::CancelReceive);
        }
    }

    #[inline]
    pub(super) fn received(&mut self, token: Token, what: Received, armed: bool) {
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
            Received::PoolEmpty => self.meter.counters.buffers_exhausted += 1,
            Received::Cancelled => {}
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
    pub(super) fn receive_again(&mut self, token: Token) {
        let connection = self.connections.at(token.slot);
        if matches!(connection.state, State::Leaving(_)) {
            self.join(token);
        } else if wants_receive(connection) && !connection.receiving {
            self.arm_receive(token);
        }
    }

    #[inline]
    pub(super) fn data(&mut self, slot: u32, lease: Lease) {
        self.meter.counters.bytes_in += u64::from(lease.octets());
        if self.journal.is_some() {
            // what is answered now stands behind it in the log
            self.tell_gone_of(slot);
        }
        let connection = self.connections.at(slot);
        match connection.state {
            State::Reading | State::Handling if connection.takes_input() => {
                let start = self.ring.outbox.reopen(connection.span);
                let mut owed = None;
                let progress = connection.exchange.feed(
                    self.ring.buffers.bytes(&lease),
                    &mut Guarded {
                        handler: &mut self.handler,
                        tasks: &mut self.tasks,
                        owed: &mut owed,
                        panicked: &mut self.panicked,
                        area: &self.meter.area,
                    },
                    &conditions(
                        &self.clock,
                        &self.meter,
                        &self.journal,
                        &self.drain,
                        &self.settings,
                        connection.peer,
                    ),
                    self.ring.outbox.buffer(),
                );
                self.ring.buffers.give_back(lease);
                self.progressed(slot, start, progress, owed);
            }
            State::Reading if !connection.releasing => {
                // behind an answer to which nothing can be appended in this turn
                connection.exchange.keep(self.ring.buffers.bytes(&lease), self.clock.nanos());
                self.ring.buffers.give_back(lease);
                self.flush_then(slot, Next::Resume);
            }
            State::Lingering | State::Leaving(Leave::Close) | State::Closing | State::Free => {
                self.ring.buffers.give_back(lease);
            }
            _ => {
                if let Next::Close { linger } = &mut connection.next {
                    // its last request was not its last word: closing on more of it would reset the answer away
                    *linger = true;
                }
                connection.exchange.keep(self.ring.buffers.bytes(&lease), self.clock.nanos());
                self.ring.buffers.give_back(lease);
                self.pause_receive(slot);
            }
        }
    }

    /// Stops receiving from a connection that has sent more than can be answered for now.
    pub(super) fn pause_receive(&mut self, slot: u32) {
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
    pub(super) fn peer_ended(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        match connection.state {
            State::Reading if connection.span.is_empty() => {
                connection.state = State::Flushing;
                connection.next = Next::Close { linger: false };
                self.ended.push(self.connections.token(slot));
            }
            State::Reading => self.flush_then(slot, Next::Close { linger: false }),
            State::Lingering => self.release(slot, Leave::Close),
            State::Handling if connection.exchange.is_amid_content() => self.give_up(slot),
            // it may still be reading; but it may as well have left, and then nobody would ever say so
            State::Handling | State::Streaming => {
                self.timers.ensure(slot, Class::Send, self.clock.now());
            }
            _ => {}
        }
    }

    /// Reset by the peer, or not worth keeping: nothing can be sent to it any more.
    pub(super) fn broken(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        match connection.state {
            State::Leaving(_) => connection.state = State::Leaving(Leave::Close),
            State::Closing | State::Free => {}
            _ => {
                self.meter.counters.broken += 1;
                self.release(slot, Leave::Close)
            }
        }
    }
}

/// A peer that does not read is not read from; one that is ahead of us only so far.
fn wants_receive(connection: &Connection) -> bool {
    !connection.peer_ended
        && match connection.state {
            State::Reading | State::Lingering => true,
            State::Handling if connection.exchange.flow(None) == Flow::Full => false,
            State::Handling | State::Flushing | State::Streaming => {
                connection.exchange.unread() <= UNREAD_PAUSE
            }
            _ => false,
        }
}
