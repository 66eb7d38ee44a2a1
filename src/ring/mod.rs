//! The ring: unsafe island 2, and the only folder that names io_uring. It owns every buffer that is in flight, so
//! that its users can be safe code: receive buffers (`buffers`), answers (`outbox`), single sends, the addresses that
//! accepts write and those that connects read.
//!
//! `setup` makes it, `op` is its vocabulary, `token` tells completions apart. Neighbours above: `worker` and `load`, which
//! see `Op` and `Completion` only; another driver could stand here.

mod buffers;
mod op;
mod outbox;
mod setup;
mod token;

pub use buffers::{Buffers, Lease, PoolSize};
pub use op::{Append, Completion, FileDone, FileOp, FileOutcome, Message, Op, Payload, Received};
pub use outbox::{Outbox, Span};
pub use setup::{Features, Probed, kernel_at_least, kernel_release, probe};
pub(crate) use setup::{LOCKED_OCTETS, sysctl_forbids};
pub use token::Token;

use crate::error::RingRefusal;
use crate::sys::file::MappedPiece;
use crate::sys::socket::{Address, internet_address};
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use nix::errno::Errno;
use setup::Step;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use token::Kind;

/// Completions copied out of the queue at a time.
const BATCH: usize = 64;

/// What one read or write moves at most, as read(2) does (a page short of 2 GiB).
const TRANSFER_OCTETS_MAX: usize = 0x7fff_f000;

/// How long a ring that is dropped waits for what is in flight. All of it can be cancelled and is over within
/// microseconds, but for a file's piece that is being read from a disk.
const JOIN_PATIENCE: Duration = Duration::from_secs(1);

/// One worker's ring. Make it in the process and thread that use it.
///
/// Receive pool and outbox are public fields so that a worker can read from the one while it writes to the other.
///
/// A ring that is dropped cancels what is in flight, waits until the kernel has said of each operation that it is over,
/// and only then frees what it had lent: closing its descriptor alone would have the kernel cancel at its own pace, and
/// write into freed memory. Where a disk keeps an operation for longer than a second, all of it stays allocated (some
/// 600 KiB and what is on its way to clients).
pub struct Ring {
    /// Received bytes.
    pub buffers: ManuallyDrop<Buffers>,
    /// Answers on their way out.
    pub outbox: ManuallyDrop<Outbox>,
    /// What `Op::Send` has in flight, by slot: one a connection; boxed, since the kernel reads their headers while the
    /// table may grow.
    sends: ManuallyDrop<HashMap<u32, Box<Gathered>>>,
    /// What `Op::Populate` has in flight, by slot: one a connection.
    populating: ManuallyDrop<HashMap<u32, MappedPiece>>,
    /// What `Op::File` has in flight, by number.
    files: ManuallyDrop<HashMap<u32, FileOp>>,
    /// What `Op::Append` has in flight.
    appending: ManuallyDrop<Option<Append>>,
    /// The headers of this turn's sends that have content behind their span.
    gathered: ManuallyDrop<Vec<GatherHeader>>,
    /// Where accepts write the client's address, by listener: one in flight each.
    #[expect(clippy::vec_box, reason = "the kernel writes into them while the vector may grow")]
    addresses: ManuallyDrop<Vec<Box<AcceptAddress>>>,
    /// Where `Op::Connect`s in flight go, by slot: one a connection.
    connecting: ManuallyDrop<HashMap<u32, Arc<Address>>>,
    /// Copied out of the completion queue and not handed over yet.
    completed: VecDeque<cqueue::Entry>,
    /// Operations that were pushed and whose last completion has not been handed over. Cancels, and the sends of a turn,
    /// which are over when it is, do not count.
    in_flight: usize,
    features: Features,
    ring: IoUring,
}

/// Written by the kernel while an accept is in flight; boxed, so that it does not move.
struct AcceptAddress {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

/// A message in flight with what sendmsg(2) wants to know of it.
struct Gathered {
    message: Message,
    header: GatherHeader,
}

/// Two stretches of memory, and the header that names them: it points into itself once it lies where it stays.
struct GatherHeader {
    parts: [libc::iovec; 2],
    header: libc::msghdr,
}

impl Ring {
    /// Sets up a ring; [`Ring::register_slots`] gives it room for connections.
    ///
    /// # Errors
    /// The cause that the user can act on.
    pub fn new() -> Result<Ring, RingRefusal> {
        Ring::with_pool(PoolSize::REQUESTS)
    }

    /// The same with another receive pool.
    ///
    /// # Errors
    /// The cause that the user can act on.
    pub fn with_pool(size: PoolSize) -> Result<Ring, RingRefusal> {
        let (ring, features) = setup::build()?;
        let buffers = Buffers::register(&ring, size).map_err(|e| setup::refusal(Step::Buffers, &e))?;
        Ok(Ring {
            buffers: ManuallyDrop::new(buffers),
            outbox: ManuallyDrop::default(),
            sends: ManuallyDrop::default(),
            populating: ManuallyDrop::default(),
            files: ManuallyDrop::default(),
            appending: ManuallyDrop::default(),
            gathered: ManuallyDrop::default(),
            addresses: ManuallyDrop::default(),
            connecting: ManuallyDrop::default(),
            completed: VecDeque::with_capacity(BATCH),
            in_flight: 0,
            features,
            ring,
        })
    }

    /// Registers the table of direct descriptors; once, before any connection.
    ///
    /// # Errors
    /// When the kernel refuses a table of that size.
    pub fn register_slots(&mut self, slots: u32) -> Result<(), RingRefusal> {
        self.ring.submitter().register_files_sparse(slots).map_err(|e| setup::refusal(Step::Slots, &e))
    }

    /// What this kernel's ring can do.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Queues one operation; it starts at the next [`Ring::turn`] (or before, when the queue is full).
    pub fn push(&mut self, token: Token, op: Op<'_>) {
        self.in_flight += usize::from(!op.is_cancel());
        let entry = self.entry(token, op);
        self.push_entry(&entry);
    }

    /// One turn: shows the kernel the returned buffers, sends each span of the outbox, submits all that was queued
    /// and waits for a completion or until `timeout` has passed. Afterwards [`Ring::next`] gives the completions.
    ///
    /// A send out of the outbox is over when this returns: MSG_DONTWAIT forbids the kernel to keep it, MSG_WAITALL
    /// makes it say so if it was cut short, and a whole one is silent.
    ///
    /// # Errors
    /// Those of io_uring_enter(2) that mean the ring is unusable.
    pub fn turn(&mut self, sends: &mut Vec<(Token, Span)>, timeout: Duration) -> io::Result<()> {
        debug_assert!(self.completed.is_empty(), "completions are handled before the next turn");
        self.buffers.publish();
        self.gathered.clear();
        // room for all of them: they must not move once the kernel knows where they are
        self.gathered.reserve(sends.len());
        for (token, span) in sends.drain(..) {
            let entry = self.send_batch(token, span);
            self.push_entry(&entry);
        }
        let timespec = Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
        let arguments = SubmitArgs::new().timespec(&timespec);
        tolerate(self.ring.submitter().submit_with_args(1, &arguments))?;
        // an interrupted or partial submit leaves entries that point into the outbox: they must go before it is
        // swapped
        while !self.ring.submission().is_empty() {
            tolerate(self.ring.submit())?;
        }
        self.outbox.swap();
        Ok(())
    }

    /// The next completion of this turn; `None` when all have been handed over, those that the kernel had to keep
    /// aside (a full completion queue) included.
    pub fn next(&mut self) -> Option<Completion> {
        loop {
            let Some(entry) = self.completed.pop_front() else {
                self.fetch();
                if self.completed.is_empty() {
                    return None;
                }
                continue;
            };
            if let Some(completion) = self.completion(&entry) {
                return Some(completion);
            }
        }
    }

    /// Puts an ordinary socket into a free slot; the descriptor can be closed afterwards.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn install(&mut self, slot: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.ring.submitter().register_files_update(slot, &[socket.as_raw_fd()]).map(|_| ())
    }

    fn fetch(&mut self) {
        if self.ring.submission().cq_overflow() && self.ring.completion().is_empty() {
            // GETEVENTS without waiting moves what was kept aside into the queue
            let _ = self.ring.submitter().submit_with_args(0, &SubmitArgs::new());
        }
        self.completed.extend(self.ring.completion().take(BATCH));
    }

    fn push_entry(&mut self, entry: &squeue::Entry) {
        // SAFETY: everything an entry points to is owned by `self` (outbox and `gathered` until the swap that follows
        // their submit, `sends`, `populating`, `files`, `appending`, `addresses` and `connecting` until their completion) or is a
        // descriptor that the caller keeps open until the submit (see `Op`).
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.ring
                .submit()
                .or_else(|e| if retry(&e) { Ok(0) } else { Err(e) })
                .expect("io_uring_enter on a full queue");
        }
    }

    fn send_batch(&mut self, token: Token, span: Span) -> squeue::Entry {
        const FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let bytes = self.outbox.current(span);
        let entry = match self.outbox.current_behind(span) {
            None => opcode::Send::new(Fixed(token.slot), bytes.as_ptr(), span.len).flags(FLAGS).build(),
            Some(whole) if bytes.is_empty() => {
                opcode::Send::new(Fixed(token.slot), whole.as_ptr(), whole.len() as u32).flags(FLAGS).build()
            }
            Some(behind) => {
                let parts = [(bytes.as_ptr(), bytes.len()), (behind.as_ptr(), behind.len())];
                self.gathered.push(GatherHeader::new(parts));
                let header = self.gathered.last_mut().expect("just pushed").settled();
                opcode::SendMsg::new(Fixed(token.slot), header).flags(FLAGS as u32).build()
            }
        };
        entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(token.pack(Kind::SendBatch))
    }

    fn entry(&mut self, token: Token, op: Op<'_>) -> squeue::Entry {
        let socket = Fixed(token.slot);
        let (kind, entry) = match op {
            Op::Accept { from, listener, into } => {
                let accept_token = Token::new(listener, 0);
                return self
                    .accept(from.as_raw_fd(), listener as usize, into)
                    .user_data(accept_token.pack(Kind::Accept));
            }
            Op::Connect(to) => {
                let (start, octets) = to.parts();
                // the slot's own reference keeps what `start` points to where it is
                let before = self.connecting.insert(token.slot, to);
                assert!(before.is_none(), "one connect in flight per connection");
                (Kind::Connect, opcode::Connect::new(socket, start, octets).build())
            }
            Op::Receive => {
                (Kind::Receive, opcode::RecvMulti::new(socket, self.buffers.narrow_group()).build())
            }
            Op::ReceiveContent => (Kind::Receive, self.receive_content(socket)),
            Op::Send(message) => {
                let mut gathered = Box::new(Gathered { header: GatherHeader::new(message.parts()), message });
                let header = gathered.header.settled();
                let before = self.sends.insert(token.slot, gathered);
                assert!(before.is_none(), "one send in flight per connection");
                let flags = libc::MSG_NOSIGNAL as u32;
                (Kind::Send, opcode::SendMsg::new(socket, header).flags(flags).build())
            }
            Op::Populate(piece) => {
                let (start, octets) = piece.neighbourhood();
                let before = self.populating.insert(token.slot, piece);
                assert!(before.is_none(), "one piece at a time per connection");
                let advice = libc::MADV_POPULATE_READ;
                (Kind::Populate, opcode::Madvise::new(start.cast(), octets.into(), advice).build())
            }
            Op::Shutdown => (Kind::Shutdown, opcode::Shutdown::new(socket, libc::SHUT_WR).build()),
            Op::Close => (Kind::Close, opcode::Close::new(socket).build()),
            Op::Install => (Kind::Install, opcode::FixedFdInstall::new(socket, 0).build()),
            Op::Watch(source) => (Kind::Watch, poll(source, libc::POLLIN)),
            Op::WatchRoom(source) => (Kind::Watch, poll(source, libc::POLLOUT)),
            Op::CancelAccept => return cancel(token, Kind::Accept),
            Op::CancelConnect => return cancel(token, Kind::Connect),
            Op::CancelReceive => return cancel(token, Kind::Receive),
            Op::CancelSend => return cancel(token, Kind::Send),
            Op::CancelFile => return cancel(token, Kind::File),
            Op::CancelAppend => return cancel(token, Kind::Append),
            Op::Append(append) => (Kind::Append, self.append(append)),
            Op::File(op) => (Kind::File, self.file(token.slot, op)),
        };
        entry.user_data(token.pack(kind))
    }

    /// The kernel takes a length of zero for the whole buffer.
    fn receive_content(&mut self, socket: Fixed) -> squeue::Entry {
        match self.buffers.wide_group(&self.ring) {
            None => opcode::RecvMulti::new(socket, self.buffers.narrow_group()).build(),
            Some(group) => opcode::Recv::new(socket, std::ptr::null_mut(), 0)
                .buf_group(group)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
        }
    }

    /// SOCK_NONBLOCK so that a socket that travels to another process does not block it there; close-on-exec does
    /// not exist for direct descriptors.
    fn accept(&mut self, listener: RawFd, number: usize, into: u32) -> squeue::Entry {
        while self.addresses.len() <= number {
            self.addresses.push(Box::new(AcceptAddress::empty()));
        }
        let address = &mut *self.addresses[number];
        address.len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let slot =
            DestinationSlot::try_from_slot_target(into).expect("slots are far below the kernel's bound");
        opcode::Accept::new(Fd(listener), (&raw mut address.storage).cast(), &raw mut address.len)
            .file_index(Some(slot))
            .flags(libc::SOCK_NONBLOCK)
            .build()
    }

    /// Everything that the entry points to is on the heap and stays where it is while the table moves.
    fn file(&mut self, number: u32, op: FileOp) -> squeue::Entry {
        assert!(!self.files.contains_key(&number), "one operation in flight per number");
        let op = self.files.entry(number).insert_entry(op).into_mut();
        match op {
            FileOp::Open { path, flags, mode } => {
                opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).flags(*flags).mode(*mode).build()
            }
            FileOp::Read { file, buffer, offset } => {
                let room = buffer.spare_capacity_mut();
                let octets = room.len().min(TRANSFER_OCTETS_MAX) as u32;
                opcode::Read::new(Fd(file.as_raw_fd()), room.as_mut_ptr().cast(), octets)
                    .offset(*offset)
                    .build()
            }
            FileOp::Write { file, octets, offset } => {
                let count = octets.len().min(TRANSFER_OCTETS_MAX) as u32;
                opcode::Write::new(Fd(file.as_raw_fd()), octets.as_ptr(), count).offset(*offset).build()
            }
            FileOp::Sync { file } => opcode::Fsync::new(Fd(file.as_raw_fd())).build(),
        }
    }

    /// At the file's own position, which O_APPEND moves to its end, and which a pipe does not have.
    fn append(&mut self, append: Append) -> squeue::Entry {
        assert!(self.appending.is_none(), "one append in flight");
        let Append { file, octets, range } = self.appending.insert(append);
        let octets = &octets[range.clone()];
        let count = octets.len().min(TRANSFER_OCTETS_MAX) as u32;
        opcode::Write::new(Fd(file.as_raw_fd()), octets.as_ptr(), count).offset(u64::MAX).build()
    }

    fn file_done(&mut self, number: u32, result: Result<usize, Errno>) -> FileDone {
        let mut op = self.files.remove(&number).expect("a file operation completes once");
        let result = result.map(|count| match &mut op {
            // SAFETY: the kernel has just made this descriptor for us and told nobody else.
            FileOp::Open { .. } => FileOutcome::Opened(unsafe { OwnedFd::from_raw_fd(count as RawFd) }),
            FileOp::Read { buffer, .. } => {
                // SAFETY: the kernel has written `count` octets where the buffer's room begins, and no more than that
                // has; the buffer was ours alone meanwhile.
                unsafe { buffer.set_len(buffer.len() + count) };
                FileOutcome::Octets(count)
            }
            FileOp::Write { .. } | FileOp::Sync { .. } => FileOutcome::Octets(count),
        });
        FileDone { op, result }
    }

    fn completion(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let (kind, token) = Token::unpack(entry.user_data())?;
        if !matches!(kind, Kind::SendBatch | Kind::Cancel) && !cqueue::more(entry.flags()) {
            self.in_flight -= 1;
        }
        let result = errno_or_count(entry.result());
        Some(match kind {
            Kind::Receive => Completion::Received {
                token,
                what: self.received(entry, result),
                armed: cqueue::more(entry.flags()),
            },
            Kind::SendBatch => Completion::CutShort { token, sent: result },
            Kind::Accept => {
                let listener = token.slot;
                let result = result.map(|_| self.addresses[listener as usize].get());
                Completion::Accepted { listener, result }
            }
            Kind::Connect => {
                self.connecting.remove(&token.slot).expect("a connect completes once");
                Completion::Connected { token, result: result.map(|_| ()) }
            }
            Kind::Send => {
                let gathered = self.sends.remove(&token.slot).expect("a send completes once");
                Completion::Sent { token, message: gathered.message, sent: result }
            }
            Kind::Populate => {
                let piece = self.populating.remove(&token.slot).expect("a piece is populated once");
                Completion::Populated { token, piece }
            }
            Kind::File => Completion::File { token, done: self.file_done(token.slot, result) },
            Kind::Append => {
                let append = self.appending.take().expect("an append completes once");
                Completion::Appended { append, written: result }
            }
            Kind::Shutdown => Completion::ShutDown { token },
            Kind::Close => Completion::Closed { token },
            Kind::Install => Completion::Installed {
                token,
                // SAFETY: the kernel has just made this descriptor for us and told nobody else.
                result: result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
            },
            Kind::Watch => Completion::Watched { token },
            // a cancel that found nothing: its target's own completion is what counts
            Kind::Cancel => return None,
        })
    }

    fn received(&self, entry: &cqueue::Entry, result: Result<usize, Errno>) -> Received {
        match (result, cqueue::buffer_select(entry.flags())) {
            (Ok(len), Some(id)) if len > 0 => Received::Data(self.buffers.lease(id, len as u32)),
            (Ok(_), _) => Received::End,
            (Err(Errno::ENOBUFS), _) => Received::PoolEmpty,
            (Err(Errno::ECANCELED), _) => Received::Cancelled,
            (Err(errno), _) => Received::Failed(errno),
        }
    }
}

/// Leaving.
impl Ring {
    /// Cancels everything and waits for the end of each operation; false if one was still going on after `patience`.
    fn join(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            while self.next().is_some() {}
            let left = deadline.saturating_duration_since(Instant::now());
            if self.in_flight == 0 || left.is_zero() {
                return self.in_flight == 0;
            }
            let timespec = Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos());
            // what was pushed and not submitted has its end too
            if tolerate(self.ring.submit()).is_err() {
                return false;
            }
            // nothing found, or not done in time: what counts are the completions
            let _ = self.ring.submitter().register_sync_cancel(Some(timespec), CancelBuilder::any().all());
            let arguments = SubmitArgs::new().timespec(&timespec);
            if tolerate(self.ring.submitter().submit_with_args(1, &arguments)).is_err() {
                return false;
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let joined = self.join(JOIN_PATIENCE) && self.buffers.unregister(&self.ring).is_ok();
        // connections that nobody has closed end now, and not when the kernel gets round to it
        let _ = self.ring.submitter().unregister_files();
        if !joined {
            let lent = self.in_flight;
            return tracing::debug!(lent, "a ring's memory stays allocated: the kernel may still use it");
        }
        // SAFETY: nothing else drops these, and the kernel knows none of it any more: every operation that names memory
        // of ours has had its last completion (`in_flight` counts them from push on), sends out of the outbox ended
        // with their turn, and the pool is unregistered.
        unsafe {
            ManuallyDrop::drop(&mut self.buffers);
            ManuallyDrop::drop(&mut self.outbox);
            ManuallyDrop::drop(&mut self.sends);
            ManuallyDrop::drop(&mut self.populating);
            ManuallyDrop::drop(&mut self.files);
            ManuallyDrop::drop(&mut self.appending);
            ManuallyDrop::drop(&mut self.gathered);
            ManuallyDrop::drop(&mut self.addresses);
            ManuallyDrop::drop(&mut self.connecting);
        }
    }
}

impl GatherHeader {
    fn new(parts: [(*const u8, usize); 2]) -> GatherHeader {
        let parts = parts.map(|(start, len)| libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len });
        // SAFETY: all-zero is a valid msghdr: no address, no control data, no parts.
        GatherHeader { parts, header: unsafe { std::mem::zeroed() } }
    }

    /// Points the header at the parts beside it. From here on neither may move until the kernel is done with them:
    /// until the submit that follows for those of a turn (MSG_DONTWAIT), until the completion for boxed ones.
    fn settled(&mut self) -> *const libc::msghdr {
        self.header.msg_iov = self.parts.as_mut_ptr();
        self.header.msg_iovlen = self.parts.len();
        &raw const self.header
    }
}

impl Message {
    fn parts(&self) -> [(*const u8, usize); 2] {
        let body = match &self.body {
            Payload::Empty => (std::ptr::null(), 0),
            Payload::Bytes(bytes) => (bytes.as_ptr(), bytes.len()),
            Payload::Mapped(piece) => (piece.address(), piece.len() as usize),
        };
        [(self.head.as_ptr(), self.head.len()), body]
    }
}

impl AcceptAddress {
    fn empty() -> AcceptAddress {
        // SAFETY: all-zero is a valid sockaddr_storage.
        AcceptAddress { storage: unsafe { std::mem::zeroed() }, len: 0 }
    }

    fn get(&self) -> Option<SocketAddr> {
        use nix::sys::socket::{SockaddrLike, SockaddrStorage};
        // SAFETY: the accept has completed: the kernel wrote `len` octets of `storage` and is done with both.
        let address = unsafe { SockaddrStorage::from_raw((&raw const self.storage).cast(), Some(self.len)) }?;
        internet_address(&address)
    }
}

fn poll(source: BorrowedFd<'_>, events: libc::c_short) -> squeue::Entry {
    opcode::PollAdd::new(Fd(source.as_raw_fd()), events as u32).build()
}

/// Success is silent: the target's completion tells what is to be known.
fn cancel(target: Token, kind: Kind) -> squeue::Entry {
    opcode::AsyncCancel::new(target.pack(kind))
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
        .user_data(target.pack(Kind::Cancel))
}

fn errno_or_count(result: i32) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::from_raw(-result))
}

/// Errors of io_uring_enter that mean "nothing yet" or "again".
fn retry(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

fn tolerate(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error) if !retry(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    /// A ring that receives from the other end of the stream, sends to it more than it takes, and watches it.
    fn busy() -> (Ring, UnixStream) {
        let mut ring = Ring::new().expect("a ring");
        ring.register_slots(8).expect("slots");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ring.install(0, ours.as_fd()).expect("a free slot");
        let token = Token::new(0, 0);
        ring.push(token, Op::Receive);
        let head = Bytes::from(vec![1; 8 << 20]);
        ring.push(token, Op::Send(Message { head, body: Payload::Empty }));
        ring.push(Token::new(1, 0), Op::Watch(ours.as_fd()));
        ring.turn(&mut vec![], Duration::ZERO).expect("a turn");
        (ring, theirs)
    }

    #[test]
    fn whatever_is_in_flight_is_joined() {
        let (mut ring, mut theirs) = busy();
        // one completion that nobody has taken, one operation that nobody has submitted
        theirs.write_all(b"hello").expect("room for that");
        ring.push(Token::new(2, 0), Op::Watch(theirs.as_fd()));
        assert!(ring.in_flight >= 4);
        assert!(ring.join(20 * JOIN_PATIENCE), "{} left", ring.in_flight);
        assert!(ring.sends.is_empty());
    }

    #[test]
    fn long_content_is_received_in_wide_buffers_and_they_come_back() {
        let mut ring = Ring::new().expect("a ring");
        ring.register_slots(8).expect("slots");
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        ring.install(0, ours.as_fd()).expect("a free slot");
        let token = Token::new(0, 0);
        let wait = |ring: &mut Ring| -> (Lease, bool) {
            ring.turn(&mut vec![], Duration::from_secs(20)).expect("a turn");
            match ring.next() {
                Some(Completion::Received { what: Received::Data(lease), armed, .. }) => (lease, armed),
                other => panic!("{other:?}"),
            }
        };
        // more often than there are buffers
        for round in 0..20u8 {
            theirs.write_all(&vec![round; 60_000]).expect("room for that");
            ring.push(token, Op::ReceiveContent);
            let (lease, armed) = wait(&mut ring);
            assert_eq!((ring.buffers.bytes(&lease), armed), (&vec![round; 60_000][..], false));
            ring.buffers.give_back(lease);
        }
        theirs.write_all(&[7; 5_000]).expect("room for that");
        ring.push(token, Op::Receive);
        let (lease, armed) = wait(&mut ring);
        assert_eq!((ring.buffers.bytes(&lease), armed), (&[7; 2_048][..], true));
        ring.buffers.give_back(lease);
        assert!(ring.join(20 * JOIN_PATIENCE), "{} left", ring.in_flight);
    }

    #[test]
    fn a_ring_that_is_dropped_ends_its_connections() {
        let (ring, mut theirs) = busy();
        drop(ring);
        theirs.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        assert!(std::io::copy(&mut theirs, &mut std::io::sink()).expect("an end") > 0);
    }
}
