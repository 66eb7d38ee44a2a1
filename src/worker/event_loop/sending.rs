//! Output on its way: with the turn's submit, or piece by piece through a `Queue`.
//!
//! Neighbours: `answering` fills the outbox and says what follows; `worker::queue` gives one message at a time.

use super::*;

impl<H: Handler> EventLoop<H> {
    pub(super) fn collect_sends(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.submitted();
        }
        for slot in self.dirty.drain(..) {
            let token = self.connections.token(slot);
            let connection = self.connections.at(slot);
            if !connection.span.is_empty() {
                self.meter.counters.bytes_out += self.ring.outbox.octets(connection.span);
                self.sends.push((token, connection.span));
                connection.sent = std::mem::take(&mut connection.span);
            }
        }
    }

    /// The socket did not take the last turn's output whole: the rest, and what has been written since, goes as
    /// ordinary sends, and nothing else is sent or received meanwhile.
    pub(super) fn cut_short(&mut self, token: Token, sent: std::result::Result<usize, Errno>) {
        let Some(connection) = self.connections.get(token) else { return };
        let is_gone =
            |record: &mut Box<Record>| self.journal.as_ref().is_some_and(|journal| journal.is_gone(record));
        let mut record = connection.telling.take_if(is_gone);
        // all of it was counted when it was handed over, in this turn
        let octets = self.ring.outbox.previous_octets(connection.sent);
        self.meter.counters.bytes_out -= octets - sent.unwrap_or(0) as u64;
        let sent = match sent {
            Ok(octets) => octets,
            Err(Errno::EAGAIN) => 0,
            Err(_) => {
                self.finish_line(record, 0);
                return self.broken(token.slot);
            }
        };
        if matches!(connection.state, State::Leaving(_) | State::Closing) {
            return self.finish_line(record, sent as u64);
        }
        let span = connection.sent;
        let in_buffer = sent.min(span.len as usize);
        let rest = Bytes::copy_from_slice(&self.ring.outbox.previous(span)[in_buffer..]);
        let behind = self.ring.outbox.previous_behind(span).map(|content| content.slice(sent - in_buffer..));
        let written_since = std::mem::take(&mut connection.span);
        let queue = connection.queue.get_or_insert_default();
        if !written_since.is_empty() {
            queue.push(Bytes::copy_from_slice(self.ring.outbox.current(written_since)));
            let behind = self.ring.outbox.current_behind(written_since).cloned();
            queue.push_behind(behind, connection.telling.take());
        }
        if self.journal.is_some() {
            record.iter_mut().for_each(|record| record.sent_before(sent as u64));
            queue.push_end_front(record);
        }
        // what is in the queue has been answered since
        queue.push_front(behind.unwrap_or_default());
        queue.push_front(rest);
        let next = self.connections.at(token.slot).next;
        self.settle(token.slot, next, true);
    }

    pub(super) fn begin_queues(&mut self) {
        while let Some(token) = self.queued.pop() {
            if self.connections.get(token).is_some_and(|connection| connection.state == State::Sending) {
                self.send_next(token.slot);
            }
        }
    }

    /// Does what the queue wants done next; when it is empty, what follows.
    pub(super) fn send_next(&mut self, slot: u32) {
        let token = self.connections.token(slot);
        let connection = self.connections.at(slot);
        let Some(queue) = &mut connection.queue else { return };
        if connection.sending {
            return;
        }
        let waker = || self.mailbox.connection_waker(token);
        let before = self.meter.area.enter(LoopPhase::Streaming);
        let next = loop {
            match (queue.next(self.clock.now(), &mut self.panicked, &waker), &self.journal) {
                (queue::Next::Answered(record, octets), Some(journal)) => journal.log.finish(record, octets),
                (queue::Next::Answered(..), None) => {}
                (next, _) => break next,
            }
        };
        self.meter.area.leave(before);
        match next {
            queue::Next::Answered(..) => unreachable!("the log has been told"),
            queue::Next::Send(message) => {
                connection.sending = true;
                self.ring.push(token, Op::Send(message));
            }
            queue::Next::Populate(piece) => {
                connection.sending = true;
                // the client is not to blame for our disk
                self.timers.stop(slot);
                self.ring.push(token, Op::Populate(piece));
            }
            queue::Next::Pending => self.stream_on(slot),
            queue::Next::Break(why) => {
                tracing::warn!(why, "an answer is cut off, and its connection closed");
                self.mourn();
                self.meter.counters.cut += 1;
                self.release(slot, Leave::Close);
            }
            queue::Next::Done => {
                let ended_early = queue.has_ended_early();
                connection.queue = None;
                if ended_early && self.drain.is_some() && connection.is_caught_up() {
                    // kept, it would be used for the client's return, which is to lead to another worker
                    connection.next = Next::Close { linger: true };
                }
                self.proceed(slot);
            }
        }
    }

    /// The program makes the next piece later. Until then we listen, to hear when the client goes.
    fn stream_on(&mut self, slot: u32) {
        let token = self.connections.token(slot);
        let connection = self.connections.at(slot);
        connection.state = State::Streaming;
        match connection.peer_ended {
            true => self.timers.ensure(slot, Class::Send, self.clock.now()),
            false => self.timers.stop(slot),
        }
        self.receive_again(token);
    }

    pub(super) fn sent(&mut self, token: Token, message: Message, sent: std::result::Result<usize, Errno>) {
        let connection = self.connections.at(token.slot);
        connection.sending = false;
        self.meter.counters.bytes_out += sent.unwrap_or(0) as u64;
        if connection.state != State::Sending {
            connection.queue.iter_mut().for_each(|queue| queue.count(sent.unwrap_or(0)));
            return self.join(token);
        }
        let queue = connection.queue.as_mut().expect("a sending connection has a queue");
        let intact = match sent {
            Ok(octets) => queue.sent(message, octets),
            Err(Errno::EINTR | Errno::EAGAIN) => queue.sent(message, 0),
            // a file is shorter than its mapping
            Err(Errno::EFAULT) => false,
            Err(_) => return self.broken(token.slot),
        };
        if !intact {
            self.meter.counters.cut += 1;
            return self.release(token.slot, Leave::Close);
        }
        self.timers.start(token.slot, Class::Send, self.clock.now());
        self.send_next(token.slot);
    }

    /// A piece of a file is in memory.
    pub(super) fn populated(&mut self, token: Token, piece: MappedPiece) {
        piece.mark_warm(self.clock.now());
        let connection = self.connections.at(token.slot);
        connection.sending = false;
        if connection.state != State::Sending {
            return self.join(token);
        }
        self.timers.start(token.slot, Class::Send, self.clock.now());
        self.send_next(token.slot);
    }
}
