//! What comes back: answers, or the end of a connection and of what was on it.
//!
//! Neighbours: `connection` reads it; `opening` closes and opens again.

use super::*;

impl Engine {
    #[inline]
    pub(super) fn received(&mut self, token: Token, what: Received, armed: bool) {
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
    pub(super) fn data(&mut self, slot: u32, lease: Lease) {
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
    pub(super) fn finish(&mut self, slot: u32) {
        self.not_open_any_more();
        let connection = &mut self.connections[slot as usize];
        connection.state = State::Ending(self.now + ENDING_NS);
        self.in_flight -= connection.flights.len();
        while let Some(flight) = connection.flights.pop_back() {
            self.again.push_front(flight.start);
        }
    }

    /// Nothing comes any more.
    pub(super) fn ended(&mut self, slot: u32, failure: Option<Errno>) {
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
    pub(super) fn lose(&mut self, slot: u32, kind: ErrorKind, detail: impl Fn() -> String) {
        let connection = &mut self.connections[slot as usize];
        self.in_flight -= connection.flights.len();
        for flight in connection.flights.drain(..) {
            self.recorder.error(kind, flight.start, self.now, &detail);
            if kind == ErrorKind::Timeout {
                self.recorder.unanswered(flight.start, self.now);
            }
        }
        self.leave(slot);
    }
}
