//! The table of connections: what each is doing, which slot is free. A slot is a direct descriptor and a place in
//! this table; it is reused only when its Close has completed, and every reuse has another generation.
//!
//! Neighbours: `event_loop` moves connections through their lives; `ring` names them by `Token`.

use super::queue::Queue;
use crate::access_log::Record;
use crate::http::{Exchange, Part};
use crate::ring::{Span, Token};
use std::net::SocketAddr;

/// A connection's life. `Reading -> Handling -> Sending -> (Reading | Lingering | Leaving) -> Closing -> Free`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody's: on the free list, or waiting for the accept that will fill it.
    Free,
    /// Requests are received and answered in the same turn.
    Reading,
    /// A reply comes later; what arrives meanwhile is kept, but for content that the handler takes.
    Handling,
    /// Output left with this turn's submit; whether whole is known in the next turn, and then follows `next`.
    Flushing,
    /// Output was too much for the socket and goes piece by piece; not received from meanwhile. Then follows `next`.
    Sending,
    /// The next piece of an answer is still to come from the program; what arrives meanwhile is kept. Then `Sending`
    /// again.
    Streaming,
    /// We have said our last and read to the peer's end, so that no reset eats the answer.
    Lingering,
    /// Nothing more is wanted: what is in flight is being joined, then the connection is closed or given away.
    Leaving(Leave),
    /// Its last operation is in flight.
    Closing,
}

/// How a connection leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// For good.
    Close,
    /// To another worker, with its unread bytes.
    Release,
}

/// What follows once all output has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// More requests, or more of one that has begun.
    Receive { part: Part },
    /// A reply that comes later.
    Wait,
    /// Requests that are here already.
    Resume,
    /// The end; `linger` if the client may still be sending.
    Close { linger: bool },
}

/// One client.
pub struct Connection {
    pub state: State,
    pub next: Next,
    pub exchange: Exchange,
    pub peer: Option<SocketAddr>,
    generation: u32,
    /// This turn's output, in the outbox.
    pub span: Span,
    /// The last turn's output, should it turn out to have been cut short.
    pub sent: Span,
    /// Output that the socket does not take at once; what comes next of it is lent to the ring while `sending`.
    pub queue: Option<Box<Queue>>,
    /// For the log: the answer whose content was handed over with this turn's output or the last one's.
    pub telling: Option<Box<Record>>,
    /// The multishot receive is armed, or its last completion is still to come.
    pub receiving: bool,
    /// Its cancel is on its way.
    pub cancelling: bool,
    /// It is one for long content, and ends by itself.
    pub wide: bool,
    /// An `Op::Send` is in flight, or the `Op::Populate` before one.
    pub sending: bool,
    /// An `Op::Shutdown` is in flight.
    pub shutting: bool,
    /// The peer has finished sending.
    pub peer_ended: bool,
    /// To be released at the next pause between two requests.
    pub releasing: bool,
}

/// See the module's comment.
pub struct Connections {
    slots: Vec<Connection>,
    free: Vec<u32>,
    capacity: u32,
    live: u32,
}

impl Connections {
    /// A table that can grow to this many slots.
    pub fn new(capacity: u32) -> Connections {
        Connections { slots: Vec::new(), free: Vec::new(), capacity, live: 0 }
    }

    /// Takes a slot off the free list.
    pub fn reserve(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = self.slots.len() as u32;
        (slot < self.capacity).then(|| {
            self.slots.push(Connection::free());
            slot
        })
    }

    /// A slot can be reserved.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < self.capacity as usize
    }

    /// Puts a slot back that was reserved and not used.
    pub fn unreserve(&mut self, slot: u32) {
        debug_assert_eq!(self.slots[slot as usize].state, State::Free);
        self.free.push(slot);
    }

    /// A connection begins in a reserved slot.
    pub fn begin(&mut self, slot: u32, peer: Option<SocketAddr>, exchange: Exchange) -> Token {
        let connection = &mut self.slots[slot as usize];
        assert_eq!(connection.state, State::Free, "slot {slot} is taken");
        let generation = connection.generation;
        *connection = Connection { state: State::Reading, peer, exchange, generation, ..Connection::free() };
        self.live += 1;
        Token::new(slot, generation)
    }

    /// The Close has completed: the slot is free for another.
    pub fn end(&mut self, slot: u32) {
        let connection = &mut self.slots[slot as usize];
        assert_eq!(connection.state, State::Closing, "slot {slot} was closed behind our back");
        let generation = connection.generation.wrapping_add(1);
        *connection = Connection { generation, ..Connection::free() };
        self.live -= 1;
        self.free.push(slot);
    }

    /// Whom a completion is about; `None` for one that came after its connection was gone.
    #[inline]
    pub fn get(&mut self, token: Token) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(token.slot as usize)?;
        (Token::new(token.slot, connection.generation) == token && connection.state != State::Free)
            .then_some(connection)
    }

    /// The connection in a slot that is known to be in use.
    #[inline]
    pub fn at(&mut self, slot: u32) -> &mut Connection {
        &mut self.slots[slot as usize]
    }

    /// Names the present user of a slot.
    #[inline]
    pub fn token(&self, slot: u32) -> Token {
        Token::new(slot, self.slots[slot as usize].generation)
    }

    /// Connections between begin and end.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// The slots in a state.
    pub fn slots_in(&self, wanted: impl Fn(State) -> bool) -> Vec<u32> {
        (0..)
            .zip(&self.slots)
            .filter(|(_, connection)| wanted(connection.state))
            .map(|(slot, _)| slot)
            .collect()
    }
}

impl Connection {
    fn free() -> Connection {
        Connection {
            state: State::Free,
            next: Next::Receive { part: Part::Nothing },
            exchange: Exchange::default(),
            peer: None,
            generation: 0,
            span: Span::default(),
            sent: Span::default(),
            queue: None,
            telling: None,
            receiving: false,
            cancelling: false,
            wide: false,
            sending: false,
            shutting: false,
            peer_ended: false,
            releasing: false,
        }
    }

    /// Nothing of it is in the kernel's hands, but for the descriptor itself.
    pub fn is_joined(&self) -> bool {
        !(self.receiving || self.sending || self.shutting)
    }

    /// No answer is owed or on its way.
    pub fn is_idle(&self) -> bool {
        self.state == State::Reading && self.span.is_empty() && !self.exchange.is_amid_content()
    }

    /// What is received can be answered into this turn's output. One that is to be released answers nothing new, but
    /// gets the content of the request that it is in the middle of.
    #[inline]
    pub fn takes_input(&self) -> bool {
        (!self.releasing || self.exchange.is_amid_content()) && !self.span.is_complete()
    }

    /// Nothing that it has sent waits for an answer.
    #[inline]
    pub fn is_caught_up(&self) -> bool {
        self.exchange.unread() == 0 && !self.exchange.is_amid_content() && !self.exchange.is_waiting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_for_a_dead_connection_is_recognised() {
        let mut connections = Connections::new(1);
        let slot = connections.reserve().unwrap();
        assert!(!connections.has_room() && connections.reserve().is_none(), "the table is full");
        let first = connections.begin(slot, None, Exchange::default());
        assert!(connections.get(first).is_some());
        connections.at(slot).state = State::Closing;
        connections.end(slot);
        assert!(connections.has_room() && connections.get(first).is_none(), "the slot is free");
        assert_eq!(connections.reserve(), Some(slot));
        let second = connections.begin(slot, None, Exchange::default());
        assert!(connections.get(first).is_none() && connections.get(second).is_some());
        assert_eq!(connections.live(), 1);
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection>() <= 160, "{}", size_of::<Connection>());
    }
}
