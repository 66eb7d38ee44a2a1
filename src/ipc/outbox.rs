//! What waits to be sent, in Node's order: one handle in flight, everything behind it waits for its answer, and only
//! answers to the peer's handles overtake. No I/O: it says which bytes are next and is told how many went.
//!
//! Neighbours: `channel` owns one and does the writing; `node` built the lines.

use super::MESSAGE_COST;
use super::node::HandleKind;
use serde_json::Value;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// How often a connection is sent again when its descriptor did not arrive; Node's number.
const RESENDS_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The line of which a part is written, or which is next.
    current: Option<Line>,
    /// Bytes of `current` that the socket took.
    written: usize,
    /// ACKs and NACKs: they wait for nothing but the end of the current line.
    replies: VecDeque<Line>,
    queue: VecDeque<Line>,
    /// Written whole, not answered; the queue stands still behind it.
    unacknowledged: Option<Line>,
    /// Bytes that wait to be written, and [`MESSAGE_COST`] for each of their lines.
    waiting: usize,
}

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    handle: Option<Box<Handle>>,
}

#[derive(Debug)]
struct Handle {
    kind: HandleKind,
    message: Value,
    /// `None` once it need not be sent (again).
    fd: Option<Arc<OwnedFd>>,
    resends_left: u32,
}

impl Outbox {
    pub fn push(&mut self, bytes: Vec<u8>) {
        let line = self.counted(bytes, None);
        self.queue.push_back(line);
    }

    pub fn push_reply(&mut self, bytes: Vec<u8>) {
        let line = self.counted(bytes, None);
        self.replies.push_back(line);
    }

    pub fn push_handle(&mut self, bytes: Vec<u8>, kind: HandleKind, message: Value, fd: Arc<OwnedFd>) {
        // Listeners are shared and cost nothing to lose twice; a connection lost is a client lost.
        let resends_left = if kind == HandleKind::Socket { RESENDS_MAX } else { 0 };
        let handle = Box::new(Handle { kind, message, fd: Some(fd), resends_left });
        let line = self.counted(bytes, Some(handle));
        self.queue.push_back(line);
    }

    /// A line that waits, for which no more memory is held than it needs.
    fn counted(&mut self, mut bytes: Vec<u8>, handle: Option<Box<Handle>>) -> Line {
        bytes.shrink_to_fit();
        self.waiting += bytes.len() + MESSAGE_COST;
        Line { bytes, handle }
    }

    /// The bytes to write next, and the descriptor that must go with the first of them.
    pub fn next_chunk(&mut self) -> Option<(&[u8], Option<BorrowedFd<'_>>)> {
        if self.current.is_none() {
            self.current = self.next_line();
        }
        let Line { bytes, handle } = self.current.as_ref()?;
        let fd = handle.as_ref().filter(|_| self.written == 0).and_then(|handle| handle.fd.as_ref());
        Some((&bytes[self.written..], fd.map(|fd| fd.as_fd())))
    }

    fn next_line(&mut self) -> Option<Line> {
        self.replies.pop_front().or_else(|| match self.unacknowledged {
            Some(_) => None,
            None => self.queue.pop_front(),
        })
    }

    /// The socket took this many bytes of the last [`next_chunk`](Self::next_chunk), and its descriptor.
    pub fn wrote(&mut self, bytes: usize) {
        let Some(line) = &mut self.current else { return };
        self.written += bytes;
        self.waiting -= bytes;
        if let Some(handle) = &mut line.handle
            && handle.resends_left == 0
        {
            handle.fd = None; // it goes with the first byte; from there on the kernel holds a copy
        }
        if self.written == line.bytes.len() {
            self.written = 0;
            self.waiting -= MESSAGE_COST;
            let line = self.current.take();
            if line.as_ref().is_some_and(|line| line.handle.is_some()) {
                self.unacknowledged = line;
            }
        }
    }

    /// The peer has the handle. A surplus ACK changes nothing.
    pub fn acknowledged(&mut self) {
        self.unacknowledged = None;
    }

    /// The handle's descriptor did not arrive: it goes again, before all else, or is given back as lost.
    pub fn refused(&mut self) -> Option<(HandleKind, Value)> {
        let mut line = self.unacknowledged.take()?;
        let handle = line.handle.as_mut()?;
        if handle.resends_left > 0 {
            handle.resends_left -= 1;
            self.waiting += line.bytes.len() + MESSAGE_COST;
            self.queue.push_front(line);
            return None;
        }
        line.handle.map(|handle| (handle.kind, handle.message))
    }

    /// Bytes could be written now; false while only an answer is awaited.
    pub fn wants_write(&self) -> bool {
        let queue_moves = self.unacknowledged.is_none() && !self.queue.is_empty();
        self.current.is_some() || !self.replies.is_empty() || queue_moves
    }

    /// Sockets of programs, and connections, that the peer does not have yet.
    pub fn sockets(&self) -> usize {
        let lines = self.unacknowledged.iter().chain(&self.current).chain(&self.queue);
        lines
            .filter(|line| line.handle.as_ref().is_some_and(|handle| handle.kind == HandleKind::Socket))
            .count()
    }

    /// Bytes that the socket has not taken yet, and [`MESSAGE_COST`] for each line of which it has not taken all.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many answers the socket has not taken yet.
    pub fn replies(&self) -> usize {
        self.replies.len()
    }

    pub fn is_idle(&self) -> bool {
        self.unacknowledged.is_none() && !self.wants_write()
    }
}
