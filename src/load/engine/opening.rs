//! How connections come and go: opened a few at a time, closed once nothing of them is in flight, opened again at once or
//! after a pause; and what takes too long.
//!
//! Neighbours: `receiving` says what is over; `ring` connects.

use super::*;

impl Engine {
    /// Opens so many of those that are absent, at most, and says how many it has tried to.
    pub(super) fn connect_absent(&mut self, most: usize) -> usize {
        while let Some(Reverse((until, slot))) = self.pausing.peek().copied()
            && until <= self.now
        {
            self.pausing.pop();
            self.absent.push_back(slot);
        }
        let most = match self.starved_until {
            Some(until) if until > self.now => 0,
            Some(_) => 1,
            None => most,
        };
        let attempts = self.absent.len().min(most);
        for _ in 0..attempts {
            let slot = self.absent.pop_front().expect("as many as were counted");
            self.connect(slot);
        }
        attempts
    }

    /// Something waits for a connection, or will.
    pub(super) fn has_work(&self) -> bool {
        !self.again.is_empty() || self.schedule.peek(self.now) != Next::Never
    }

    pub(super) fn connect(&mut self, slot: u32) {
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

    pub(super) fn connected(&mut self, token: Token, result: Result<(), Errno>) {
        let connection = &mut self.connections[token.slot as usize];
        debug_assert_eq!(connection.token(), token, "a slot connects once at a time");
        match result {
            Ok(()) => {
                connection.state = State::Open;
                connection.receiving = true;
                self.open += 1;
                self.starved_until = None;
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

    pub(super) fn not_connected(&mut self, errno: Errno) {
        if errno == Errno::EADDRNOTAVAIL {
            self.starved_until = Some(self.now + STARVED_NS);
        }
        let kind = if errno == Errno::ECONNREFUSED { ErrorKind::Refused } else { ErrorKind::Unreachable };
        let timeout = self.shared.plan.timeout;
        // before the run begins: at its beginning, if that is measured
        let at = if self.measuring { self.now } else { 0 };
        self.recorder.error(kind, at, at.max(self.limits.from), || why_not_connected(errno, timeout));
    }

    /// Cancels what is in flight; when that is over the descriptor is closed.
    pub(super) fn leave(&mut self, slot: u32) {
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

    pub(super) fn not_open_any_more(&mut self) {
        self.open -= 1;
        self.open_until = self.now;
    }

    pub(super) fn join(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        if !connection.receiving && !connection.sending {
            self.close(slot);
        }
    }

    pub(super) fn close(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.state = State::Closing;
        self.ring.push(connection.token(), Op::Close);
    }

    pub(super) fn closed(&mut self, token: Token) {
        self.rest(token.slot);
    }

    /// The slot is free: it may be opened again, now or after a pause.
    pub(super) fn rest(&mut self, slot: u32) {
        let longest = PAUSE_NS_MAX.max(self.connections.len() as u64 * ATTEMPT_NS);
        let connection = &mut self.connections[slot as usize];
        connection.state = State::Absent;
        match connection.pause(longest) {
            0 => self.absent.push_back(slot),
            pause => self.pausing.push(Reverse((self.now + pause, slot))),
        }
    }

    /// Looks for what takes too long.
    pub(super) fn look_round(&mut self) {
        self.next_round = self.now + (self.limits.timeout / 8).clamp(SECOND_NS / 1000, ROUND_NS);
        if self.recorder.totals.answers > 0 {
            self.shared.answered.store(true, Ordering::Relaxed);
        }
        for slot in 0..self.connections.len() as u32 {
            self.judge(slot);
        }
    }

    pub(super) fn judge(&mut self, slot: u32) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_done_about_it_is_said() {
        let table = [
            (Errno::ECONNREFUSED, "is the server up?"),
            (Errno::EADDRNOTAVAIL, "no free local port"),
            (Errno::ENOENT, "no such socket"),
            (Errno::ETIMEDOUT, "no connection within 10s"),
            (Errno::EMFILE, "too many open files"),
            (Errno::ENETUNREACH, "network is unreachable"),
        ];
        for (errno, expected) in table {
            let line = why_not_connected(errno, Duration::from_secs(10));
            assert!(line.contains(expected) && !line.contains('\n') && !line.contains("  "), "{line:?}");
        }
    }
}
