//! The operations that a worker asks for and the completions that it gets: the whole vocabulary between the worker
//! and the kernel, with nothing of io_uring in it. Errno becomes an `Errno` here and nowhere else.
//!
//! Neighbours: `ring` turns these into submissions and back; `worker` matches on them.

use super::buffers::Lease;
use super::token::Token;
use bytes::Bytes;
use nix::errno::Errno;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// What to do. Sockets are named by their slot, which is their direct descriptor.
#[derive(Debug)]
pub enum Op<'a> {
    /// Takes one connection from a listener into a free slot. One per listener in flight.
    Accept {
        /// The listening socket; must stay open until the next [`Ring::turn`](super::Ring::turn).
        from: BorrowedFd<'a>,
        /// Its number; names the completion.
        listener: u32,
        /// Where the connection goes.
        into: u32,
    },
    /// Receives until told otherwise, into buffers of the pool.
    Receive,
    /// Sends these bytes (or the first part of them) and says how many went.
    Send(Bytes),
    /// Says that we have nothing more to send.
    Shutdown,
    /// Frees the direct descriptor.
    Close,
    /// Makes an ordinary descriptor of it.
    Install,
    /// Tells once when a descriptor of ours is readable; it must stay open until the next
    /// [`Ring::turn`](super::Ring::turn).
    Watch(BorrowedFd<'a>),
    /// Ends the accept on this listener early.
    CancelAccept,
    /// Ends the receive early.
    CancelReceive,
    /// Ends the send early.
    CancelSend,
}

/// What happened.
#[derive(Debug)]
pub enum Completion {
    /// An accept is over.
    Accepted {
        /// Whose.
        listener: u32,
        /// The client's address; `None` inside for a Unix socket. ECANCELED after `CancelAccept`.
        result: Result<Option<SocketAddr>, Errno>,
    },
    /// A receive has something to say.
    Received {
        /// Whose.
        token: Token,
        /// What.
        what: Received,
        /// The receive is still armed.
        armed: bool,
    },
    /// A send out of the outbox came up short (success is silent): so many octets went, or none with an error.
    CutShort {
        /// Whose.
        token: Token,
        /// How far it came.
        sent: Result<usize, Errno>,
    },
    /// An `Op::Send` is over.
    Sent {
        /// Whose.
        token: Token,
        /// The bytes that were lent.
        bytes: Bytes,
        /// How many of them went.
        sent: Result<usize, Errno>,
    },
    /// An `Op::Shutdown` is over.
    ShutDown {
        /// Whose.
        token: Token,
    },
    /// An `Op::Close` is over: the slot is free.
    Closed {
        /// Whose.
        token: Token,
    },
    /// An `Op::Install` is over.
    Installed {
        /// Whose.
        token: Token,
        /// The new descriptor.
        result: Result<OwnedFd, Errno>,
    },
    /// A watched descriptor is ready, or the watch was cancelled.
    Watched {
        /// Which.
        token: Token,
    },
}

/// What a receive brought.
#[derive(Debug)]
pub enum Received {
    /// Bytes, on loan.
    Data(Lease),
    /// The peer has finished sending.
    End,
    /// The pool was empty (ENOBUFS): not the peer's fault; arm again.
    PoolEmpty,
    /// `CancelReceive` did its work.
    Cancelled,
    /// The connection broke.
    Failed(Errno),
}
