//! Requests on their way out: what is due goes to connections with room, and leaves with the turn's submit.
//!
//! Neighbours: `schedule` says what is due; `receiving` makes room again.

use super::*;

impl Engine {
    /// Gives what is due to connections with room, one each in turn.
    pub(super) fn dispatch(&mut self) {
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
            let Some((start, again)) = self.next_start() else { return };
            octets += request_octets;
            self.ready.pop_front();
            self.in_flight += 1;
            let connection = &mut self.connections[slot as usize];
            connection.flights.push_back(Flight { start, sent: self.now, again });
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

    /// What starts now, and whether it has been sent before.
    pub(super) fn next_start(&mut self) -> Option<(u64, bool)> {
        if let Some(start) = self.again.pop_front() {
            return Some((start, true));
        }
        let Next::Start(start) = self.schedule.peek(self.now) else { return None };
        self.schedule.take(start);
        Some((start, false))
    }

    pub(super) fn write(&mut self) {
        self.sent_at = self.now;
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            if self.limits.large { self.write_large(slot) } else { self.write_small(slot) }
        }
        self.dirty = dirty;
    }

    pub(super) fn write_small(&mut self, slot: u32) {
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
            self.recorder.sent_request(*flight);
        }
        connection.span = self.ring.outbox.span_since(start as u32);
        self.recorder.sent(self.ring.outbox.buffer().len() - start, self.now);
        self.sends.push((connection.token(), connection.span));
    }

    pub(super) fn write_large(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let requests = &self.shared.target.requests;
        let request = &requests[self.next_request % requests.len()];
        self.next_request = self.next_request.wrapping_add(1);
        connection.unsent = 0;
        connection.asked += 1;
        let last = connection.asked == self.limits.requests_per_connection;
        if let Some(flight) = connection.flights.back() {
            self.recorder.sent_request(*flight);
        }
        let body = Payload::Bytes(request.content.clone());
        let message = Message { head: request.octets(last).clone(), body };
        self.ring.push(connection.token(), Op::Send(message));
    }

    /// The socket did not take the turn's requests whole: the rest goes as an ordinary send.
    pub(super) fn cut_short(&mut self, token: Token, sent: Result<usize, Errno>) {
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

    pub(super) fn sent(&mut self, token: Token, mut message: Message, sent: Result<usize, Errno>) {
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
    pub(super) fn list(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if !connection.listed
            && connection.has_room(self.limits.pipeline, self.limits.requests_per_connection)
        {
            connection.listed = true;
            self.ready.push_back(slot);
        }
    }
}
