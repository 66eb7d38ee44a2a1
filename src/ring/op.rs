//! The operations that a worker asks for and the completions that it gets: the whole vocabulary between the worker
//! and the kernel, with nothing of io_uring in it. Errno becomes an `Errno` here and nowhere else.
//!
//! Neighbours: `ring` turns these into submissions and back; `worker` matches on them.

use super::buffers::Lease;
use super::token::Token;
use crate::sys::file::MappedPiece;
use crate::sys::socket::Address;
use bytes::{Buf, Bytes};
use nix::errno::Errno;
use std::ffi::CString;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

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
    /// Connects the socket in this slot.
    #[cfg_attr(not(feature = "load"), expect(dead_code, reason = "only the load generator connects"))]
    Connect(Arc<Address>),
    /// Receives until told otherwise, into buffers of the pool.
    Receive,
    /// Receives once, into one of a few wide buffers: 64 KiB of long content cost what 2 KiB do. Where there is no memory
    /// for those it is a `Receive`.
    ReceiveContent,
    /// Sends this (or the first part of it) and says how much went.
    Send(Message),
    /// Brings a piece of a file into memory, on a thread of the kernel's, so that a send does not wait for the disk.
    Populate(MappedPiece),
    /// Says that we have nothing more to send.
    Shutdown,
    /// Frees the direct descriptor.
    Close,
    /// Makes an ordinary descriptor of it.
    Install,
    /// Tells once when a descriptor of ours is readable; it must stay open until the next
    /// [`Ring::turn`](super::Ring::turn).
    Watch(BorrowedFd<'a>),
    /// The same for when it can be written to.
    WatchRoom(BorrowedFd<'a>),
    /// Ends the accept on this listener early.
    CancelAccept,
    /// Ends the connecting early.
    #[cfg_attr(not(feature = "load"), expect(dead_code, reason = "only the load generator connects"))]
    CancelConnect,
    /// Ends the receive early.
    CancelReceive,
    /// Ends the send early.
    CancelSend,
    /// Does something with a file, on a thread of the kernel's where it must wait. The token's slot is the caller's
    /// number for it; one in flight each.
    File(FileOp),
    /// Ends that early, if it has not begun.
    CancelFile,
    /// Writes behind what a file has, or into a pipe; one in flight in a ring.
    Append(Append),
    /// Ends that early.
    CancelAppend,
}

/// A stretch of memory that is written behind what a file has. The ring owns it until that is over.
#[derive(Debug)]
pub struct Append {
    /// To which file, opened with O_APPEND.
    pub file: Arc<OwnedFd>,
    /// The memory.
    pub octets: Vec<u8>,
    /// Which of it.
    pub range: Range<usize>,
}

/// What can be done with a file. The ring owns what an operation reads or writes until it is over.
#[derive(Debug)]
pub enum FileOp {
    /// openat(2), relative to the working directory.
    Open {
        /// Which file.
        path: CString,
        /// O_RDONLY and the like.
        flags: i32,
        /// For a file that is created.
        mode: u32,
    },
    /// pread(2) into what room the buffer has.
    Read {
        /// From which file.
        file: Arc<OwnedFd>,
        /// What is read is appended.
        buffer: Vec<u8>,
        /// From where on.
        offset: u64,
    },
    /// pwrite(2).
    Write {
        /// To which file.
        file: Arc<OwnedFd>,
        /// What.
        octets: Bytes,
        /// From where on.
        offset: u64,
    },
    /// fsync(2).
    Sync {
        /// Which file.
        file: Arc<OwnedFd>,
    },
}

/// A file operation that is over.
#[derive(Debug)]
pub struct FileDone {
    /// What was lent.
    pub op: FileOp,
    /// How it went.
    pub result: Result<FileOutcome, Errno>,
}

/// What came of a file operation.
#[derive(Debug)]
pub enum FileOutcome {
    /// Of `Open`.
    Opened(OwnedFd),
    /// So many were read or written; 0 for `Sync`.
    Octets(usize),
}

/// What one send takes: a piece of memory and what follows it, in one system call.
#[derive(Debug, Default)]
pub struct Message {
    /// First this.
    pub head: Bytes,
    /// Then that.
    pub body: Payload,
}

/// The second part of a message.
#[derive(Debug, Default)]
pub enum Payload {
    /// Nothing.
    #[default]
    Empty,
    /// More memory.
    Bytes(Bytes),
    /// A piece of a file.
    Mapped(MappedPiece),
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
    /// An `Op::Connect` is over.
    Connected {
        /// Whose.
        token: Token,
        /// ECANCELED after `CancelConnect`.
        #[cfg_attr(not(feature = "load"), expect(dead_code, reason = "only the load generator connects"))]
        result: Result<(), Errno>,
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
        /// What was lent.
        message: Message,
        /// How many octets of it went.
        sent: Result<usize, Errno>,
    },
    /// An `Op::Populate` is over; where it failed, the send will say why.
    Populated {
        /// Whose.
        token: Token,
        /// Which piece.
        piece: MappedPiece,
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
    /// An `Op::File` is over.
    File {
        /// Which.
        token: Token,
        /// What came of it.
        done: FileDone,
    },
    /// An `Op::Append` is over.
    Appended {
        /// What was lent.
        append: Append,
        /// How many octets of it were written.
        written: Result<usize, Errno>,
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

impl Op<'_> {
    /// It ends another one, whose completion is what counts.
    pub(super) fn is_cancel(&self) -> bool {
        matches!(
            self,
            Op::CancelAccept
                | Op::CancelConnect
                | Op::CancelReceive
                | Op::CancelSend
                | Op::CancelFile
                | Op::CancelAppend
        )
    }
}

impl Message {
    /// One stretch of memory.
    pub fn of(head: Bytes) -> Message {
        Message { head, body: Payload::Empty }
    }

    /// Octets in it.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes off what has gone.
    pub fn advance(&mut self, octets: usize) {
        let of_head = octets.min(self.head.len());
        self.head.advance(of_head);
        match &mut self.body {
            Payload::Empty => assert_eq!(of_head, octets, "more went than was there"),
            Payload::Bytes(bytes) => bytes.advance(octets - of_head),
            Payload::Mapped(piece) => piece.advance((octets - of_head) as u32),
        }
    }
}

impl Payload {
    /// Octets in it.
    pub fn len(&self) -> usize {
        match self {
            Payload::Empty => 0,
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Mapped(piece) => piece.len() as usize,
        }
    }
}
