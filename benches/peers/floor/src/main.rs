//! The floor: what the kernel's part of a small answer costs. A bare ring server that reads nothing of a request but
//! its blank line and always gives the same octets: those that uringd answers `GET /` with.
//!
//! It does what is known to be cheapest: direct descriptors, multishot receives into a small provided-buffer ring, and
//! sends that leave no completion when they succeed. It is no server: errors close connections without a word, and what
//! a client does not take at once is lost with its connection.

use args::{ANSWER, Args};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{BufRingEntry, DestinationSlot, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode};
use memchr::memmem::Finder;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

const ENTRIES: u32 = 512;
const COMPLETIONS: u32 = 2048;
const CONNECTIONS_MAX: u32 = 16_384;

/// A larger pool is slower: the kernel uses every buffer in turn.
const BUFFERS: u16 = 256;
const BUFFER_OCTETS: usize = 2048;
const GROUP: u16 = 0;

/// Answers in one send; more take another.
const ANSWERS_MAX: usize = 64;

/// The request's end.
const BLANK_LINE: &[u8] = b"\r\n\r\n";
/// Of a request that is the connection's last: uringload has `Connection: close` there.
const LAST: &[u8] = b"close\r\n\r\n";

const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const LEAVE: u64 = 4 << 32;
const SLOT: u64 = (1 << 32) - 1;

fn main() -> io::Result<()> {
    let args = Args::read();
    let answer: &'static [u8] = answer().repeat(ANSWERS_MAX).leak();
    // one socket for all: single-shot accepts share it evenly
    let listener: &'static TcpListener = Box::leak(Box::new(args.listener()?));
    listener.set_nonblocking(false)?;
    let serve = move || Floor::new(listener, answer)?.run();
    let threads: Vec<_> = (0..args.threads).map(|_| thread::spawn(serve)).collect();
    for thread in threads {
        thread.join().expect("a thread serves for ever")?;
    }
    Ok(())
}

/// One octet more; true if it ends a blank line.
fn step(begun: &mut u8, octet: u8) -> bool {
    *begun = match octet {
        octet if octet == BLANK_LINE[usize::from(*begun)] => *begun + 1,
        b'\r' => 1,
        _ => 0,
    };
    let whole = usize::from(*begun) == BLANK_LINE.len();
    if whole {
        *begun = 0;
    }
    whole
}

/// Octet for octet as long as uringd's.
fn answer() -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: uringd\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    )
    .into_bytes()
}

struct Floor {
    ring: IoUring,
    buffers: Buffers,
    listener: &'static TcpListener,
    /// `ANSWERS_MAX` times the answer.
    answers: &'static [u8],
    /// By slot: how many octets of a blank line the received ones end with.
    begun: Vec<u8>,
    blank_line: Finder<'static>,
    queued: Vec<Entry>,
}

impl Floor {
    fn new(listener: &'static TcpListener, answers: &'static [u8]) -> io::Result<Floor> {
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES)?;
        ring.submitter().register_files_sparse(CONNECTIONS_MAX)?;
        let buffers = Buffers::register(&ring)?;
        let begun = vec![0; CONNECTIONS_MAX as usize];
        let blank_line = Finder::new(BLANK_LINE);
        Ok(Floor { ring, buffers, listener, answers, begun, blank_line, queued: vec![] })
    }

    fn run(mut self) -> io::Result<()> {
        self.accept();
        let mut completions: Vec<cqueue::Entry> = Vec::with_capacity(COMPLETIONS as usize);
        loop {
            self.submit_and_wait()?;
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                self.complete(&completion);
            }
            self.buffers.publish();
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry) {
        let slot = (completion.user_data() & SLOT) as u32;
        let result = completion.result();
        match completion.user_data() & !SLOT {
            ACCEPT => {
                if let Ok(slot) = u32::try_from(result) {
                    self.begun[slot as usize] = 0;
                    self.receive(slot);
                }
                self.accept();
            }
            RECEIVE => self.received(slot, completion),
            // not whole (a success is silent): the receive's end is what closes it
            SEND => self.queue(opcode::Shutdown::new(Fixed(slot), libc::SHUT_RDWR).build(), LEAVE),
            _ => {}
        }
    }

    fn received(&mut self, slot: u32, completion: &cqueue::Entry) {
        if let Some(id) = cqueue::buffer_select(completion.flags()) {
            let len = completion.result() as usize;
            let requests = self.count(slot, id, len);
            let last = self.buffers.bytes(id, len).ends_with(LAST);
            self.buffers.give_back(id);
            self.answer(slot, requests);
            if last {
                // behind the answer; the receive's end is what closes it
                self.queue(opcode::AsyncCancel::new(RECEIVE | u64::from(slot)).build(), LEAVE);
            }
        }
        if !cqueue::more(completion.flags()) {
            match completion.result() {
                result if result > 0 || result == -libc::ENOBUFS => self.receive(slot),
                // the last of this connection's operations has completed, so its slot may be given to another
                _ => self.queue(opcode::Close::new(Fixed(slot)).build(), LEAVE),
            }
        }
    }

    /// How many requests end in this buffer.
    fn count(&mut self, slot: u32, id: u16, len: usize) -> usize {
        let received = self.buffers.bytes(id, len);
        let begun = &mut self.begun[slot as usize];
        let (mut requests, mut end) = (0, 0);
        // a blank line that was cut between two buffers
        while *begun > 0 && end < len {
            requests += usize::from(step(begun, received[end]));
            end += 1;
        }
        let rest = end;
        for place in self.blank_line.find_iter(&received[rest..]) {
            requests += 1;
            end = rest + place + BLANK_LINE.len();
        }
        // another may begin in the last octets
        for octet in &received[end.max((len + 1).saturating_sub(BLANK_LINE.len()))..] {
            step(begun, *octet);
        }
        requests
    }

    fn answer(&mut self, slot: u32, requests: usize) {
        let one = self.answers.len() / ANSWERS_MAX;
        let mut left = requests;
        while left > 0 {
            let now = left.min(ANSWERS_MAX);
            // WAITALL and DONTWAIT: over when the submit returns, whole and silent or short with a completion
            let send = opcode::Send::new(Fixed(slot), self.answers.as_ptr(), (now * one) as u32)
                .flags(libc::MSG_WAITALL | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .flags(Flags::SKIP_SUCCESS);
            self.queue(send, SEND | u64::from(slot));
            left -= now;
        }
    }

    /// Single-shot: a multishot accept stays first in the queue of those who wait, and starves the other threads.
    fn accept(&mut self) {
        let accept = opcode::Accept::new(Fd(self.listener.as_raw_fd()), ptr::null_mut(), ptr::null_mut())
            .file_index(Some(DestinationSlot::auto_target()))
            .build();
        self.queue(accept, ACCEPT);
    }

    fn receive(&mut self, slot: u32) {
        self.queue(opcode::RecvMulti::new(Fixed(slot), GROUP).build(), RECEIVE | u64::from(slot));
    }

    fn queue(&mut self, entry: Entry, token: u64) {
        let entry = entry.user_data(token);
        // SAFETY: what an entry points to lives as long as the program: the answers are leaked, the buffers are never
        // unregistered, and nothing else is pointed to.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.queued.push(entry);
        }
    }

    /// In several submits where the queue was too short.
    fn submit_and_wait(&mut self) -> io::Result<()> {
        while !self.queued.is_empty() {
            uninterrupted(self.ring.submit())?;
            let now = self.queued.len().min(ENTRIES as usize);
            let entries: Vec<Entry> = self.queued.drain(..now).collect();
            // SAFETY: as in `queue`; the queue is empty after a submit and has room for `ENTRIES`.
            unsafe { self.ring.submission().push_multiple(&entries) }.map_err(io::Error::other)?;
        }
        uninterrupted(self.ring.submit_and_wait(1))
    }
}

fn uninterrupted(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// The provided-buffer ring. Never freed: the ring lives as long as the program.
struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

impl Buffers {
    fn register(ring: &IoUring) -> io::Result<Buffers> {
        let (entries, memory) =
            (pages(usize::from(BUFFERS) * 16)?, pages(usize::from(BUFFERS) * BUFFER_OCTETS)?);
        // SAFETY: the entries are whole pages of zeros, as many as are named, and are never unmapped.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, BUFFERS, GROUP, 0)? };
        let mut buffers = Buffers { entries: entries.cast(), memory, tail: 0 };
        (0..BUFFERS).for_each(|id| buffers.give_back(id));
        buffers.publish();
        Ok(buffers)
    }

    fn bytes(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < BUFFERS && len <= BUFFER_OCTETS);
        // SAFETY: within the buffer's memory, which the kernel has filled and leaves alone until it is given back.
        unsafe { slice::from_raw_parts(self.memory.add(usize::from(id) * BUFFER_OCTETS), len) }
    }

    /// The kernel sees it after `publish`.
    fn give_back(&mut self, id: u16) {
        // SAFETY: the place is below `BUFFERS`, a power of two, and beyond the published tail: the kernel does not read
        // it yet.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail % BUFFERS));
            entry.set_addr(self.memory.add(usize::from(id) * BUFFER_OCTETS) as u64);
            entry.set_len(BUFFER_OCTETS as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the tail overlays the first entry's unused field; the kernel only reads it.
        let tail = unsafe { &*BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// So many octets of zeros in pages of their own.
fn pages(octets: usize) -> io::Result<*mut u8> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that is there.
    let memory = unsafe { libc::mmap(ptr::null_mut(), octets, access, kind, -1, 0) };
    if memory == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(memory.cast()) }
}
