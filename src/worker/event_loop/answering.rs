//! From input to output: feeds exchanges, enters the state that fits what they say, and completes promised replies.
//!
//! Neighbours: `arriving` brings input, `sending` takes output; `service` calls the handler.

use super::*;

impl<H: Handler> EventLoop<H> {
    /// The exchange has written from `start` on and says what follows.
    #[inline]
    pub(super) fn progressed(&mut self, slot: u32, start: u32, progress: Progress, owed: Option<Owed>) {
        let (next, rest) = match progress {
            Progress::Receive { part } => (Next::Receive { part }, None),
            Progress::Wait => (Next::Wait, None),
            Progress::Resume { rest } => (Next::Resume, rest),
            Progress::Close { rest, linger } => (Next::Close { linger }, rest),
        };
        if let Some(owed) = owed {
            self.owe(slot, owed);
        }
        if matches!(next, Next::Close { .. }) && !self.owed.is_empty() {
            // an error in the content that a handler waits for has been answered for it
            self.forget_owed(slot);
        }
        let wrote = self.emit(slot, start, rest);
        self.mourn();
        self.settle(slot, next, wrote);
    }

    /// After a panic the master is asked for a replacement, unless `--on-panic` has it otherwise.
    #[inline]
    pub(super) fn mourn(&mut self) {
        if std::mem::take(&mut self.panicked) && self.settings.on_panic == OnPanic::Suicide {
            self.exit_code = 1;
            self.control.suicide();
        }
    }

    /// Puts what was written on its way: with this turn's submit, or behind what still waits. Says if there was any.
    #[inline]
    pub(super) fn emit(&mut self, slot: u32, start: u32, rest: Option<Rest>) -> bool {
        let span = self.ring.outbox.span_since(start);
        let token = self.connections.token(slot);
        let connection = self.connections.at(slot);
        let span = match rest {
            None if connection.queue.is_none() => span,
            Some(Rest::Bytes(content)) if connection.queue.is_none() && content.len() <= TURN_CONTENT => {
                let span = self.ring.outbox.put_behind(span, content);
                if let Some(journal) = &mut self.journal {
                    connection.telling = journal.going(token, span.len, self.ring.outbox.octets(span));
                }
                span
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
            let begun = self.journal.as_ref().and_then(|journal| journal.log.take_begun());
            begun.into_iter().for_each(|record| queue.push_end(record));
        }
        if self.drain.is_some() || connection.releasing {
            queue.ask_to_end();
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
            Next::Wait => self.handle_on(slot),
            Next::Resume | Next::Close { .. } => return self.flush_then(slot, next),
        }
        if self.connections.at(slot).receiving {
            self.widen_receive(slot);
        } else {
            let token = self.connections.token(slot);
            self.receive_again(token);
        }
        if self.connections.at(slot).releasing {
            self.following.push(self.connections.token(slot));
        }
    }

    /// A reply is owed. Content that is on its way to the handler is given time like any other, unless it is the handler
    /// who is late; who sends on beyond that may be ahead of us only so far.
    fn handle_on(&mut self, slot: u32) {
        let (token, now) = (self.connections.token(slot), self.clock.now());
        let connection = self.connections.at(slot);
        connection.state = State::Handling;
        match connection.exchange.flow(Some(&|| self.mailbox.connection_waker(token))) {
            Flow::Wanted if connection.peer_ended => return self.give_up(slot),
            Flow::Wanted => self.timers.ensure(slot, Class::Content, now),
            Flow::Full | Flow::None if connection.peer_ended => self.timers.ensure(slot, Class::Send, now),
            Flow::Full | Flow::None => self.timers.stop(slot),
        }
        self.pause_receive(slot);
    }

    /// The content that a handler waits for will never be whole. What was answered before leaves first.
    pub(super) fn give_up(&mut self, slot: u32) {
        self.forget_owed(slot);
        self.tell_unanswered(slot);
        self.connections.at(slot).exchange.release();
        self.flush_then(slot, Next::Close { linger: false });
    }

    /// What a connection waited for has come: a piece of its answer, or room for more of its request.
    pub(super) fn go_on(&mut self, token: Token) {
        let Some(connection) = self.connections.get(token) else { return };
        match connection.state {
            State::Streaming => {
                connection.state = State::Sending;
                self.timers.start(token.slot, Class::Send, self.clock.now());
                self.send_next(token.slot);
            }
            State::Handling => self.settle(token.slot, Next::Wait, false),
            _ => {}
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
            // what arrived while the output was stuck: requests, or content that a handler waits for
            Next::Receive { .. } | Next::Wait if connection.exchange.unread() > 0 => self.resume(slot),
            next @ (Next::Receive { .. } | Next::Wait) => self.settle(slot, next, false),
        }
    }

    /// Answers what is here already.
    pub(super) fn resume(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let start = self.ring.outbox.reopen(connection.span);
        let mut owed = None;
        let progress = connection.exchange.resume(
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
        self.progressed(slot, start, progress, owed);
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

    pub(super) fn owe(&mut self, slot: u32, owed: Owed) {
        let token = self.connections.token(slot);
        match &owed {
            Owed::Task(id) => drop(self.awaited.insert(*id, token)),
            Owed::Promise(claim) => drop(self.promises.insert(claim.number, token)),
        }
        self.owed.insert(slot, owed);
    }

    /// Nobody is left to whom a reply could go: a future that works at it is dropped.
    pub(super) fn forget_owed(&mut self, slot: u32) {
        match self.owed.remove(&slot) {
            Some(Owed::Task(id)) => {
                self.awaited.remove(&id);
                self.panicked |= self.tasks.cancel(id);
                self.mourn();
            }
            Some(Owed::Promise(claim)) => drop(self.promises.remove(&claim.number)),
            None => {}
        }
    }

    /// Takes to the ring what futures want done.
    #[inline]
    pub(super) fn take_wishes(&mut self) {
        if !self.local.has_wishes() {
            return;
        }
        for wish in self.local.take_wishes() {
            match wish {
                Wish::Begin(number, op) => self.ring.push(Token::new(number, 0), Op::File(op)),
                Wish::Cancel(number) => self.ring.push(Token::new(number, 0), Op::CancelFile),
            }
        }
    }

    /// What other threads, and this one's program, have said. A second look finds what the first has brought about (a
    /// future that was woken has made a piece of an answer); what comes then is left for the next turn, so that a future
    /// that wakes itself all the time keeps nobody from anything.
    #[inline]
    pub(super) fn read_mail(&mut self) {
        for _ in 0..2 {
            if !self.mailbox.is_full() {
                return;
            }
            for mail in self.mailbox.take() {
                self.read_one(mail);
            }
        }
    }

    fn read_one(&mut self, mail: Mail) {
        match mail {
            Mail::Task(id) => self.task_woken(id),
            Mail::Connection(token) => self.go_on(token),
            Mail::Kept(number, response) => {
                if let Some(token) = self.promises.remove(&number) {
                    self.complete_one(token, response);
                }
            }
            Mail::ToMaster(message) => self.control.pass_on(&message),
        }
    }

    fn task_woken(&mut self, id: TaskId) {
        let reply = match self.tasks.go_on(id) {
            tasks::Progress::Waiting => return,
            tasks::Progress::Answered(reply) => reply,
            tasks::Progress::Over { panicked } => {
                self.panicked |= panicked;
                Status::INTERNAL_SERVER_ERROR.into()
            }
        };
        // first: what is begun next may get the same name
        let token = self.awaited.remove(&id);
        let outcome = service::resolve(reply, &mut self.tasks, &mut self.panicked, &|| None);
        match (token, outcome) {
            (Some(token), Outcome::Now(response)) => self.complete_one(token, response),
            (Some(token), Outcome::Owed(owed)) => {
                self.owe(token.slot, owed);
                self.mourn();
            }
            // content, which goes its own way
            (None, _) => self.mourn(),
        }
    }

    pub(super) fn complete_one(&mut self, token: Token, response: Response) {
        let Some(connection) = self.connections.get(token) else { return };
        self.owed.remove(&token.slot);
        if !connection.exchange.is_waiting() {
            return;
        }
        let start = self.ring.outbox.reopen(connection.span);
        let on =
            conditions(&self.clock, &self.meter, &self.journal, &self.drain, &self.settings, connection.peer);
        let progress = connection.exchange.complete(response, &on, self.ring.outbox.buffer());
        self.progressed(token.slot, start, progress, None);
    }
}
