//! From input to output: feeds exchanges, enters the state that fits what they say, and completes promised replies.
//!
//! Neighbours: `arriving` brings input, `sending` takes output; `service` calls the handler.

use super::*;

impl<H: Handler> EventLoop<H> {
    /// The exchange has written from `start` on and says what follows.
    #[inline]
    pub(super) fn progressed(&mut self, slot: u32, start: u32, progress: Progress, later: Option<Later>) {
        let (next, rest) = match progress {
            Progress::Receive { part } => (Next::Receive { part }, None),
            Progress::Wait => (Next::Wait, None),
            Progress::Resume { rest } => (Next::Resume, rest),
            Progress::Close { rest, linger } => (Next::Close { linger }, rest),
        };
        if let Some(later) = later {
            self.owe(slot, later);
        }
        let wrote = self.emit(slot, start, rest);
        self.mourn();
        self.settle(slot, next, wrote);
    }

    /// After a panic the master is asked for a replacement.
    #[inline]
    pub(super) fn mourn(&mut self) {
        if std::mem::take(&mut self.panicked) {
            self.exit_code = 1;
            self.control.suicide();
        }
    }

    /// Puts what was written on its way: with this turn's submit, or behind what still waits. Says if there was any.
    #[inline]
    pub(super) fn emit(&mut self, slot: u32, start: u32, rest: Option<Rest>) -> bool {
        let span = self.ring.outbox.span_since(start);
        let connection = self.connections.at(slot);
        let span = match rest {
            None if connection.queue.is_none() => span,
            Some(Rest::Bytes(content)) if connection.queue.is_none() && content.len() <= TURN_CONTENT => {
                self.ring.outbox.put_behind(span, content)
            }
            rest => return self.enqueue(slot, span, rest),
        };
        let wrote = span.len > connection.span.len || span.is_complete();
        if wrote && connection.span.is_empty() {
            self.dirty.push(slot);
        }
        connection.span = span;
        wrote
    }

    pub(super) fn enqueue(&mut self, slot: u32, span: Span, rest: Option<Rest>) -> bool {
        let connection = self.connections.at(slot);
        let queue = connection.queue.get_or_insert_default();
        connection.span = Span::default();
        if span.len > 0 {
            queue.push(Bytes::copy_from_slice(self.ring.outbox.current(span)));
            self.ring.outbox.take_back(span.start);
        }
        if let Some(rest) = rest {
            queue.push_rest(rest);
        }
        true
    }

    /// Enters the state that fits what follows, with its timer and its receive.
    #[inline]
    pub(super) fn settle(&mut self, slot: u32, next: Next, wrote: bool) {
        let now = self.clock.now();
        let connection = self.connections.at(slot);
        connection.next = next;
        if connection.queue.is_some() {
            connection.state = State::Sending;
            self.timers.ensure(slot, Class::Send, now);
            self.pause_receive(slot);
            return self.queued.push(self.connections.token(slot));
        }
        let next = match next {
            // content was put behind the span and nothing waits behind that
            Next::Resume if wrote && connection.is_caught_up() => Next::Receive { part: Part::Nothing },
            next => next,
        };
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
            Next::Receive { part: Part::Nothing } => {
                connection.state = State::Reading;
                self.timers.start(slot, Class::KeepAlive, now);
            }
            Next::Receive { part } => {
                connection.state = State::Reading;
                let class = if part == Part::Head { Class::Header } else { Class::Content };
                if wrote { self.timers.start(slot, class, now) } else { self.timers.ensure(slot, class, now) }
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
    pub(super) fn flush_then(&mut self, slot: u32, next: Next) {
        // whatever the client was given time for, it has done; what follows sets its own limit
        self.timers.stop(slot);
        let connection = self.connections.at(slot);
        connection.state = State::Flushing;
        connection.next = next;
        self.following.push(self.connections.token(slot));
    }

    pub(super) fn follow(&mut self, token: Token) {
        let Some(connection) = self.connections.get(token) else { return };
        match connection.state {
            // unless what it waits for has only been written in this turn
            State::Flushing if connection.span.is_empty() => self.proceed(token.slot),
            State::Reading if connection.releasing && connection.is_idle() => {
                self.release(token.slot, Leave::Release)
            }
            _ => {}
        }
    }

    /// All output has gone: does what follows. Near the kill timeout nobody is waited for any more.
    pub(super) fn proceed(&mut self, slot: u32) {
        let too_late = self.drain.as_ref().is_some_and(Drain::is_over);
        let connection = self.connections.at(slot);
        match connection.next {
            Next::Resume if connection.releasing && !connection.exchange.is_amid_content() => {
                self.release(slot, Leave::Release)
            }
            Next::Resume => self.resume(slot),
            Next::Close { linger: true } if !connection.peer_ended && !too_late => self.linger(slot),
            Next::Close { .. } => self.release(slot, Leave::Close),
            // requests that arrived while the output was stuck
            Next::Receive { .. } if connection.exchange.unread() > 0 => self.resume(slot),
            next @ (Next::Receive { .. } | Next::Wait) => self.settle(slot, next, false),
        }
    }

    /// Answers what is here already.
    pub(super) fn resume(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let start = self.ring.outbox.reopen(connection.span);
        let mut later = None;
        let progress = connection.exchange.resume(
            &mut Guarded { handler: &mut self.handler, later: &mut later, panicked: &mut self.panicked },
            &conditions(&self.clock, &self.drain, &self.settings, connection.peer),
            self.ring.outbox.buffer(),
        );
        self.progressed(slot, start, progress, later);
    }

    pub(super) fn linger(&mut self, slot: u32) {
        let token = self.connections.token(slot);
        let connection = self.connections.at(slot);
        connection.state = State::Lingering;
        connection.shutting = true;
        connection.exchange.release();
        self.ring.push(token, Op::Shutdown);
        self.timers.start(slot, Class::Linger, self.clock.now());
        self.receive_again(token);
    }

    pub(super) fn shut_down(&mut self, token: Token) {
        self.connections.at(token.slot).shutting = false;
        self.join(token);
    }

    pub(super) fn owe(&mut self, slot: u32, later: Later) {
        let token = self.connections.token(slot);
        let owed = match later {
            Later::After { time, make } => {
                self.later_count += 1;
                // the handler may have taken its time since the turn began
                self.clock.advance();
                let key = (self.clock.after(time), self.later_count);
                self.later.insert(key, (token, make));
                Owed::Later(key)
            }
            Later::Promised(number) => {
                self.promises.insert(number, token);
                Owed::Promise(number)
            }
        };
        self.owed.insert(slot, owed);
    }

    /// Nobody is left to whom a reply could go.
    pub(super) fn forget_owed(&mut self, slot: u32) {
        match self.owed.remove(&slot) {
            Some(Owed::Later(key)) => drop(self.later.remove(&key)),
            Some(Owed::Promise(number)) => drop(self.promises.remove(&number)),
            None => {}
        }
    }

    pub(super) fn complete_later(&mut self) {
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= self.clock.now()
        {
            let (token, make) = entry.remove();
            let made = service::guard(|| "a reply that came later".to_owned(), make);
            self.panicked |= made.is_none();
            self.complete_one(token, made.unwrap_or_else(|| Status::INTERNAL_SERVER_ERROR.into()));
        }
    }

    /// What other threads, and this one's program, have said.
    #[inline]
    pub(super) fn read_mail(&mut self) {
        if self.mailbox.is_full() {
            for mail in self.mailbox.take() {
                self.read_one(mail);
            }
        }
    }

    fn read_one(&mut self, mail: Mail) {
        match mail {
            Mail::Kept(number, response) => {
                if let Some(token) = self.promises.remove(&number) {
                    self.complete_one(token, response);
                }
            }
            Mail::ToMaster(message) => self.control.pass_on(&message),
        }
    }

    pub(super) fn complete_one(&mut self, token: Token, response: Response) {
        self.owed.remove(&token.slot);
        let Some(connection) = self.connections.get(token) else { return };
        if !connection.exchange.is_waiting() {
            return;
        }
        let start = self.ring.outbox.reopen(connection.span);
        let on = conditions(&self.clock, &self.drain, &self.settings, connection.peer);
        let progress = connection.exchange.complete(response, &on, self.ring.outbox.buffer());
        self.progressed(token.slot, start, progress, None);
    }
}
