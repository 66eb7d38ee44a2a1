//! The listening sockets and the accept in flight on each. Single-shot accepts: a multishot one stays first in the
//! socket's exclusive wait queue for ever and starves all workers but one; a single-shot one rejoins at its end.
//!
//! Neighbours: driven by `event_loop`; slots come from `connections`.

use super::connections::Connections;
use crate::ring::{Op, Ring, Token};
use crate::sys::socket;
use nix::errno::Errno;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// A listener's life in a worker: `Paused <-> Armed -> Cancelling -> (Paused | Joined) -> Closed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No accept is in flight: at the connection limit, or out of descriptors.
    Paused,
    /// An accept is in flight that will fill this slot.
    Armed(u32),
    /// So is its cancel.
    Cancelling(u32),
    /// The worker drains and no accept is in flight: what waits in the queue can be taken for the last time.
    Joined,
    /// Given back.
    Closed,
}

struct Listener {
    /// `None` once given back.
    socket: Option<OwnedFd>,
    state: State,
}

/// See the module's comment.
#[derive(Default)]
pub struct Listeners {
    all: Vec<Listener>,
    draining: bool,
    /// The kernel had no descriptor for an accept of the ring's: none is armed before `retry`.
    exhausted: bool,
    /// How often they had run out.
    failures: u64,
    /// The last accept of the ring's failed for want of a descriptor or memory.
    ring_starves: bool,
    /// So did the last fresh one. That is another matter: the ring's need none of this process's descriptors.
    fresh_starves: bool,
    /// Where the last fresh accept began.
    fresh_first: usize,
    /// Whose turn it is to be armed, where not all can be.
    arm_first: usize,
}

impl Listeners {
    /// Takes a listening socket; gives its number.
    pub fn add(&mut self, socket: OwnedFd) -> usize {
        let state = if self.draining { State::Joined } else { State::Paused };
        self.all.push(Listener { socket: Some(socket), state });
        self.all.len() - 1
    }

    /// Arms listeners that have no accept in flight, until so many accepts are, unless descriptors have run out. Each may take
    /// a client at any time, its cancel or not: they are no more than there are places.
    pub fn arm(&mut self, ring: &mut Ring, connections: &mut Connections, places: u32) {
        if self.draining || self.exhausted {
            return;
        }
        let mut free = places.saturating_sub(self.in_flight());
        for number in from(self.arm_first, self.all.len()) {
            let listener = &mut self.all[number];
            if let (State::Paused, Some(socket), 1..) = (listener.state, &listener.socket, free)
                && let Some(slot) = connections.reserve()
            {
                listener.state = State::Armed(slot);
                free -= 1;
                self.arm_first = number + 1;
                let number = number as u32;
                ring.push(
                    Token::new(number, 0),
                    Op::Accept { from: socket.as_fd(), listener: number, into: slot },
                );
            }
        }
    }

    /// Accepts in flight, those that are being cancelled included.
    pub fn in_flight(&self) -> u32 {
        let is_in_flight =
            |listener: &&Listener| matches!(listener.state, State::Armed(_) | State::Cancelling(_));
        self.all.iter().filter(is_in_flight).count() as u32
    }

    /// Withdraws the accepts: the backlog waits.
    pub fn pause(&mut self, ring: &mut Ring) {
        for (number, listener) in (0..).zip(&mut self.all) {
            if let State::Armed(slot) = listener.state {
                listener.state = State::Cancelling(slot);
                ring.push(Token::new(number, 0), Op::CancelAccept);
            }
        }
    }

    /// Withdraws them for good.
    pub fn cancel_all(&mut self, ring: &mut Ring) {
        self.draining = true;
        self.pause(ring);
        for listener in &mut self.all {
            if listener.state == State::Paused {
                listener.state = State::Joined;
            }
        }
    }

    /// An accept is over; gives the slot that was reserved for it.
    pub fn accepted(&mut self, number: u32, result: &Result<Option<SocketAddr>, Errno>) -> u32 {
        let listener = &mut self.all[number as usize];
        let (State::Armed(slot) | State::Cancelling(slot)) = listener.state else {
            panic!("listener {number} had no accept in flight");
        };
        listener.state = if self.draining { State::Joined } else { State::Paused };
        match result {
            Err(errno) if is_exhaustion(*errno) => {
                self.exhausted = true;
                self.starves(*errno, |listeners| &mut listeners.ring_starves);
            }
            Ok(_) => self.recovers(|listeners| &mut listeners.ring_starves),
            Err(errno) => self.failed(number as usize, *errno),
        }
        slot
    }

    /// Takes one waiting connection from any listener, if there is one; from another one first each time, so that
    /// none is forgotten behind a busy one.
    pub fn accept_now(&mut self) -> Option<(OwnedFd, Option<SocketAddr>)> {
        self.fresh_first = self.fresh_first.wrapping_add(1);
        from(self.fresh_first, self.all.len()).find_map(|number| match self.all[number].state {
            State::Armed(_) | State::Paused => self.accept_from(number).ok(),
            _ => None,
        })
    }

    /// Takes one waiting connection from this listener; EAGAIN if there is none.
    pub fn accept_from(&mut self, number: usize) -> Result<(OwnedFd, Option<SocketAddr>), Errno> {
        let socket = self.all[number].socket.as_ref().ok_or(Errno::EBADF)?;
        let result = socket::accept(socket.as_fd());
        match result {
            Err(errno) if is_exhaustion(errno) => {
                self.starves(errno, |listeners| &mut listeners.fresh_starves)
            }
            // a descriptor is taken before the queue is looked at
            Ok(_) | Err(Errno::EAGAIN) => self.recovers(|listeners| &mut listeners.fresh_starves),
            Err(errno) => self.failed(number, errno),
        }
        result
    }

    /// How many accepts have failed for want of descriptors or memory.
    #[inline]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Time has passed since descriptors ran out: accepts may be armed again.
    pub fn retry(&mut self) {
        self.exhausted = false;
    }

    /// The next one that can be emptied and closed.
    pub fn next_joined(&self) -> Option<usize> {
        self.all.iter().position(|listener| listener.state == State::Joined)
    }

    /// Gives it back. On a stop the socket itself is shut down, for every process that shares it: a worker that is
    /// blocked, and so keeps its copy open, would otherwise keep the kernel queueing clients that nobody will serve.
    pub fn close(&mut self, number: usize, stop: bool) {
        let listener = &mut self.all[number];
        listener.state = State::Closed;
        if let Some(socket) = listener.socket.take()
            && stop
        {
            socket::stop_listening(socket.as_fd());
        }
    }

    /// All are given back.
    pub fn are_closed(&self) -> bool {
        self.all.iter().all(|listener| listener.state == State::Closed)
    }

    fn failed(&mut self, number: usize, errno: Errno) {
        match errno {
            // shut down by a sibling on a stop, or by whoever gave it to us; where the ring's accept is still in
            // flight, that one's end will tell
            Errno::EINVAL | Errno::EBADF if self.all[number].state == State::Paused => {
                tracing::debug!(listener = number, "a listening socket was shut down");
                self.all[number].state = State::Closed;
            }
            // EAGAIN, ECANCELED, and clients that left before they were accepted (ECONNABORTED and the like)
            _ => {}
        }
    }

    /// Said once, until neither kind of accept starves any more.
    fn starves(&mut self, errno: Errno, which: impl Fn(&mut Listeners) -> &mut bool) {
        let said = self.ring_starves || self.fresh_starves;
        *which(self) = true;
        self.failures += 1;
        if !said {
            tracing::warn!(%errno, "accepting slows down or pauses: out of descriptors or memory (raise LimitNOFILE=, fs.file-max); it resumes by itself");
        }
    }

    fn recovers(&mut self, which: impl Fn(&mut Listeners) -> &mut bool) {
        if std::mem::take(which(self)) && !(self.ring_starves || self.fresh_starves) {
            tracing::info!("accepting again as before");
        }
    }
}

/// The numbers of so many listeners, from one on.
fn from(first: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |nth| first.wrapping_add(nth) % count)
}

fn is_exhaustion(errno: Errno) -> bool {
    matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
}
