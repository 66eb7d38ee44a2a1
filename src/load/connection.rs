//! One connection of the load: which requests are on their way, what has come back, and how soon it may be opened
//! again. Nothing here waits or performs.
//!
//! Neighbours: `reader` reads what it receives, `recorder` is told of the answers, `engine` performs.

use super::reader::{End, Known, Malformed, Reader};
use super::recorder::Recorder;
use crate::ring::{Span, Token};
use std::collections::VecDeque;

/// The first pause before a connection is opened that has failed twice.
const PAUSE_NS_MIN: u64 = 1_000_000;

/// A request on its way. Nanoseconds since the load began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    /// Latency counts from here: the intended start in an open loop, else the first send.
    pub start: u64,
    /// When it was handed to the kernel, the last time.
    pub sent: u64,
    /// It has been sent before, behind an answer that closed the connection.
    pub again: bool,
}

/// The life of a slot's connection, over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is none: it waits to be wanted, or out its pause.
    Absent,
    /// Since that time.
    Connecting(u64),
    /// The connecting took too long, and is being cancelled.
    GivingUp,
    /// Requests and answers.
    Open,
    /// The last answer has come: the server closes; we do at that time if it does not.
    Ending(u64),
    /// What is in flight is being cancelled.
    Leaving,
    /// The descriptor is being closed.
    Closing,
}

/// See the module's comment.
pub struct Connection {
    pub slot: u32,
    pub generation: u32,
    pub state: State,
    /// Requests that were sent and not answered, the oldest first; the last `unsent` of them are about to go.
    pub flights: VecDeque<Flight>,
    pub unsent: u32,
    /// Requests that went out on this connection.
    pub asked: u64,
    /// Answers that came on it.
    pub answered: u64,
    /// It stands in the queue of those with room.
    pub listed: bool,
    /// A receive is armed.
    pub receiving: bool,
    /// A send is in flight.
    pub sending: bool,
    /// A send has failed: what the receive says is the end.
    pub broken: bool,
    /// What went out with the turn's submit.
    pub span: Span,
    /// In a row, each without a single answer.
    pub failures: u32,
    reader: Reader,
}

/// What came of received octets.
#[derive(Debug, PartialEq, Eq)]
pub enum Absorbed {
    /// More can come.
    Open,
    /// An answer said that the connection ends with it.
    Closes,
}

impl Connection {
    pub fn new(slot: u32, pipeline: usize, head_only: bool) -> Connection {
        Connection {
            slot,
            generation: 0,
            state: State::Absent,
            flights: VecDeque::with_capacity(pipeline),
            unsent: 0,
            asked: 0,
            answered: 0,
            listed: false,
            receiving: false,
            sending: false,
            broken: false,
            span: Span::default(),
            failures: 0,
            reader: Reader::new(head_only),
        }
    }

    pub fn token(&self) -> Token {
        Token::new(self.slot, self.generation)
    }

    /// Another connection in the same slot.
    pub fn begin(&mut self, now: u64) {
        debug_assert!(
            self.state == State::Absent && self.flights.is_empty() && !self.receiving && !self.sending
        );
        self.generation = self.generation.wrapping_add(1);
        self.state = State::Connecting(now);
        (self.asked, self.answered, self.unsent) = (0, 0, 0);
        self.broken = false;
        self.reader.reset();
    }

    /// Whether another request can go out on it.
    #[inline]
    pub fn has_room(&self, pipeline: usize, limit: u64) -> bool {
        self.state == State::Open
            && !self.sending
            && !self.broken
            && self.flights.len() < pipeline
            && self.asked + u64::from(self.unsent) < limit
    }

    /// Takes what was received.
    ///
    /// # Errors
    /// It is no answer, or none to any request.
    #[inline]
    pub fn absorb(
        &mut self,
        mut input: &[u8],
        now: u64,
        known: &mut Known,
        recorder: &mut Recorder,
    ) -> Result<Absorbed, Malformed> {
        while !input.is_empty() {
            let Some(flight) = self.flights.front().copied() else {
                return Err("an answer that nobody asked for");
            };
            let Some(answer) = self.reader.read(&mut input, known)? else { break };
            self.flights.pop_front();
            self.answered += 1;
            recorder.answer(answer, flight, now);
            if answer.close {
                return Ok(Absorbed::Closes);
            }
        }
        Ok(Absorbed::Open)
    }

    /// The server has ended the connection: that may be the end of an answer.
    pub fn end(&mut self, now: u64, recorder: &mut Recorder) {
        if let End::Answer(answer) = self.reader.end()
            && let Some(flight) = self.flights.pop_front()
        {
            self.answered += 1;
            recorder.answer(answer, flight, now);
        }
    }

    /// How long it stays closed, after this one: at once, then 1 ms, 2 ms and so on to the longest.
    pub fn pause(&mut self, longest: u64) -> u64 {
        self.failures = if self.answered > 0 { 0 } else { self.failures.saturating_add(1) };
        match self.failures {
            0 | 1 => 0,
            more => (PAUSE_NS_MIN << (more - 2).min(20)).min(longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::ErrorKind;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    fn flight(start: u64) -> Flight {
        Flight { start, sent: start, again: false }
    }

    fn asked(requests: u64) -> Connection {
        let mut connection = Connection::new(0, 4, false);
        connection.begin(0);
        connection.state = State::Open;
        connection.flights.extend((0..requests).map(flight));
        connection.asked = requests;
        connection
    }

    #[test]
    fn answers_go_to_requests_in_their_order() {
        let (mut connection, mut recorder) = (asked(3), Recorder::new(0, false, 0));
        let mut absorb = |connection: &mut Connection, octets: &[u8]| {
            connection.absorb(octets, 9_000, &mut Known::default(), &mut recorder)
        };
        assert_eq!(absorb(&mut connection, &[ANSWER, ANSWER, &ANSWER[..9]].concat()), Ok(Absorbed::Open));
        assert_eq!(connection.flights, [flight(2)]);
        assert!(absorb(&mut connection, &[&ANSWER[9..], b"more"].concat()).is_err());
        assert_eq!(recorder.totals.answers, 3);
    }

    #[test]
    fn what_follows_the_last_answer_is_not_read() {
        let (mut connection, mut recorder) = (asked(2), Recorder::new(0, false, 0));
        let octets = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\nmore";
        let absorbed = connection.absorb(octets, 9, &mut Known::default(), &mut recorder);
        assert_eq!((absorbed, connection.flights.len()), (Ok(Absorbed::Closes), 1));
    }

    #[test]
    fn an_end_can_be_the_end_of_an_answer() {
        let (mut connection, mut recorder) = (asked(1), Recorder::new(0, false, 0));
        let octets = b"HTTP/1.1 200 OK\r\n\r\nup to the end";
        assert_eq!(connection.absorb(octets, 9, &mut Known::default(), &mut recorder), Ok(Absorbed::Open));
        connection.end(10, &mut recorder);
        assert_eq!((recorder.totals.successes, connection.flights.len()), (1, 0));
        assert_eq!(recorder.interval(10).counts.errors[ErrorKind::ClosedEarly as usize], 0);
    }

    #[test]
    fn pauses_grow_until_something_is_answered() {
        let mut connection = asked(0);
        let pauses: Vec<u64> = (0..10).map(|_| connection.pause(100_000_000) / 1_000_000).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 64, 100, 100]);
        connection.answered = 1;
        assert_eq!((connection.pause(100_000_000), connection.failures), (0, 0));
    }

    #[test]
    fn room_is_bounded_by_pipeline_and_limit() {
        let connection = asked(2);
        assert!(
            connection.has_room(3, u64::MAX)
                && !connection.has_room(2, u64::MAX)
                && !connection.has_room(3, 2)
        );
    }
}
