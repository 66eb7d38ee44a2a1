//! One end of a channel: a Unix stream socket that carries JSON lines and descriptors, spoken as Node speaks it.
//! Nothing here waits: the owner polls the socket, calls [`Channel::receive`] when it is readable and
//! [`Channel::flush`] when it is writable and [`Channel::wants_write`].
//!
//! Neighbours: `frame` splits, `node` names, `outbox` orders, `sys::scm` reads and writes; `master` and
//! `worker::control` own channels.

use super::frame::{FrameError, Frames};
use super::message::{ToMaster, ToWorker, Travelling};
use super::node::{self, HandleKind, Incoming};
use super::outbox::Outbox;
use super::received::Received;
use crate::sys::scm;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Bytes asked of the socket at once; Node's number.
const READ_SIZE: usize = 64 << 10;

/// Reads in one [`Channel::receive`], so that one talkative peer cannot hold up the others.
const READS_MAX: usize = 16;

/// Answers to the peer's handles that may wait for it to read them. Who keeps to the protocol waits for the answer to one
/// handle before it sends the next.
const REPLIES_MAX: usize = 1_000;

/// One end of a channel.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    outbox: Outbox,
    frames: Frames,
    arrived: VecDeque<Arrived>,
    scratch: Box<[u8]>,
    /// [`Received::Closed`] or [`Received::Broken`] was given out.
    over: bool,
    /// Sockets that waited to be sent when the peer was found to be gone.
    sockets_lost: usize,
}

/// A descriptor whose line is not complete yet. It came with the first byte of that line, and a read stops at
/// the bytes a descriptor came with: so the line it belongs to begins among the bytes of that read.
#[derive(Debug)]
struct Arrived {
    fd: OwnedFd,
    read: Range<u64>,
}

impl Channel {
    /// A new channel: the master's end, and the child's: blocking, and close-on-exec until the spawner clears that in
    /// the child. The ends are separate file descriptions, so what one side sets never disturbs the other.
    ///
    /// # Errors
    /// What the kernel said: no more descriptors, most likely.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        Ok((Channel::from_fd(ours)?, theirs))
    }

    /// The channel on this socket, made non-blocking and close-on-exec: a grandchild that inherited it would keep the
    /// peer from ever seeing its end.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn from_fd(socket: OwnedFd) -> io::Result<Channel> {
        set_nonblocking(&socket)?;
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        Ok(Channel {
            socket,
            outbox: Outbox::default(),
            frames: Frames::default(),
            arrived: VecDeque::new(),
            scratch: vec![0; READ_SIZE].into(),
            over: false,
            sockets_lost: 0,
        })
    }

    /// Says something to the master.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), for all that is queued.
    pub fn send_to_master(&mut self, message: &ToMaster) -> io::Result<()> {
        self.outbox.push(node::to_master(message)?);
        self.flush()
    }

    /// Says something to a worker.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), for all that is queued.
    pub fn send_to_worker(&mut self, message: &ToWorker) -> io::Result<()> {
        self.outbox.push(node::to_worker(message)?);
        self.flush()
    }

    /// Sends a user's message.
    ///
    /// # Errors
    /// `InvalidInput` for a message that may not travel (see [`node::plain`]); else as [`flush`](Self::flush).
    pub fn send_plain(&mut self, message: &Value) -> io::Result<()> {
        self.outbox.push(node::plain(message)?);
        self.flush()
    }

    /// Sends a line of [`node::line`].
    ///
    /// # Errors
    /// As [`flush`](Self::flush), for all that is queued.
    pub(crate) fn send_line(&mut self, line: Vec<u8>) -> io::Result<()> {
        self.outbox.push(line);
        self.flush()
    }

    /// Sends a socket, owned or shared, with a message. It is made non-blocking: a Node peer does not do that, and one
    /// blocking accept would stop it for good. (A log is not: it may be a terminal that others write to.) Our copy is dropped once the kernel has it, that of a `net.Socket` once
    /// the peer has it.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), for all that is queued.
    pub fn send_handle(
        &mut self,
        kind: HandleKind,
        message: Value,
        fd: impl Into<Arc<OwnedFd>>,
    ) -> io::Result<()> {
        let fd = fd.into();
        if kind != HandleKind::AccessLog {
            set_nonblocking(&*fd)?;
        }
        self.outbox.push_handle(node::handle(&kind, &message)?, kind, message, fd);
        self.flush()
    }

    /// Sends a live client connection, as [`send_handle`](Self::send_handle) does. The other end has it as
    /// [`Received::Connection`]; a Node peer does not know what to do with it.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), for all that is queued.
    pub fn send_connection(
        &mut self,
        travelling: &Travelling,
        socket: impl Into<Arc<OwnedFd>>,
    ) -> io::Result<()> {
        self.send_handle(HandleKind::Socket, node::connection(travelling), socket)
    }

    /// Writes what may be written and what the socket takes.
    ///
    /// # Errors
    /// `BrokenPipe` when the peer is gone: all that was queued is dropped; what the peer said before can still be
    /// received. Any other error leaves the queue as it was.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some((bytes, fd)) = self.outbox.next_chunk() {
            match scm::send_with_fd(self.socket.as_fd(), bytes, fd) {
                Ok(taken) => self.outbox.wrote(taken),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Ok(()),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                        self.sockets_lost += self.outbox.sockets();
                        self.outbox = Outbox::default();
                        return Err(ErrorKind::BrokenPipe.into());
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Whether bytes wait for the socket to become writable. Waiting for the peer's ACK is not that.
    pub fn wants_write(&self) -> bool {
        self.outbox.wants_write()
    }

    /// Bytes that wait to be written, for the socket or for the peer's ACK of the handle before them, and
    /// [`MESSAGE_COST`](super::MESSAGE_COST) for each of their lines.
    pub fn waiting(&self) -> usize {
        self.outbox.waiting()
    }

    /// How many of the `net.Socket` handles that were sent the peer does not have; once it is gone: will never have.
    pub fn sockets_waiting(&self) -> usize {
        self.sockets_lost + self.outbox.sockets()
    }

    /// Whether nothing is queued and the peer has acknowledged every handle: nothing is lost by closing now.
    pub fn is_idle(&self) -> bool {
        self.outbox.is_idle()
    }

    /// Everything the peer has said, in order, up to a megabyte (poll again for the rest, level-triggered or
    /// re-armed). Handles are acknowledged on the way, exactly once. After [`Received::Closed`] or
    /// [`Received::Broken`] nothing comes any more.
    ///
    /// # Errors
    /// Only what the kernel cannot do at all; a peer that is gone or talks nonsense is a [`Received`].
    pub fn receive(&mut self) -> io::Result<Vec<Received>> {
        let mut received = Vec::new();
        for _ in 0..READS_MAX {
            match self.read_once(&mut received) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if received.is_empty() => return Err(error),
                Err(_) => break, // it will be there again; the messages would not
            }
        }
        // Answers to handles and what an ACK has set free. A peer that is gone is learnt from reading, after all it
        // said; anything else leaves `wants_write` true and shows at the owner's next flush.
        let _ = self.flush();
        Ok(received)
    }

    /// One read and its messages; false when there was nothing to read.
    fn read_once(&mut self, received: &mut Vec<Received>) -> io::Result<bool> {
        if self.over {
            return Ok(false);
        }
        let mut fds = VecDeque::new();
        let read = match scm::receive(self.socket.as_fd(), &mut self.scratch, &mut fds) {
            Ok(read) => read,
            // The peer died before it had read all we wrote; to a reader that is an end like any other.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                scm::Received { bytes: 0, truncated: false }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        };
        if read.bytes == 0 {
            self.end(received, Received::Closed);
            return Ok(true);
        }
        let start = self.frames.received();
        self.frames.push(&self.scratch[..read.bytes]);
        // After a truncation nobody can say which of the descriptors is missing: all of them are.
        if !read.truncated {
            let read = start..self.frames.received();
            self.arrived.extend(fds.into_iter().map(|fd| Arrived { fd, read: read.clone() }));
        }
        self.take_frames(received);
        Ok(true)
    }

    fn take_frames(&mut self, received: &mut Vec<Received>) {
        loop {
            match self.frames.next_frame() {
                Ok(Some(_)) if self.outbox.replies() > REPLIES_MAX => {
                    return self.end(received, Received::Broken(FrameError::NotListening));
                }
                Ok(Some(frame)) => received.extend(self.accept(frame.start, frame.value)),
                Ok(None) => break,
                Err(broken) => return self.end(received, Received::Broken(broken)),
            }
        }
        // A descriptor that no line claimed, and none can any more, came uninvited.
        let partial = self.frames.partial_start();
        self.arrived.retain(|arrived| arrived.read.contains(&partial));
    }

    /// What one message means to the caller, if anything.
    fn accept(&mut self, start: u64, message: Value) -> Option<Received> {
        match node::classify(message) {
            Incoming::Uringd(content) => Some(Received::Control(content)),
            Incoming::Handle { kind, message, key } => Some(self.accept_handle(start, kind, message, key)),
            Incoming::Ack => {
                self.outbox.acknowledged();
                None
            }
            Incoming::Nack => {
                let (kind, message) = self.outbox.refused()?;
                Some(Received::HandleLost { kind, message })
            }
            Incoming::OtherInternal => None,
            Incoming::Plain(message) => Some(Received::Plain(message)),
        }
    }

    fn accept_handle(
        &mut self,
        start: u64,
        kind: HandleKind,
        message: Value,
        key: Option<String>,
    ) -> Received {
        let claimed = self.arrived.iter().position(|arrived| arrived.read.contains(&start));
        match claimed.and_then(|index| self.arrived.remove(index)) {
            Some(Arrived { fd, .. }) => {
                self.outbox.push_reply(node::ack());
                match node::story(&message) {
                    Some(travelling) => Received::Connection { travelling, socket: fd },
                    None => Received::Handle { kind, message, fd, key },
                }
            }
            None => {
                self.outbox.push_reply(node::nack());
                Received::HandleMissing { kind, message }
            }
        }
    }

    fn end(&mut self, received: &mut Vec<Received>, last: Received) {
        self.over = true;
        self.arrived.clear();
        received.push(last);
    }
}

/// For poll and for nothing else: bytes read or written past the channel would break it.
impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn set_nonblocking(fd: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests;
