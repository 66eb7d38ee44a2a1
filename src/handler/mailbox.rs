//! How other threads, and code that a handler has called, reach the worker's loop: they put mail into its box, and the
//! loop reads it at the end of its turn. A bell (an eventfd that the ring watches) wakes the loop from elsewhere.
//!
//! Neighbours: `reply` keeps promises through it; `worker::event_loop` reads it.

use crate::event::Message;
use crate::http::Response;
use crate::ring::Token;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::thread::ThreadId;
use std::{io, mem, thread};

/// One worker's box.
pub(crate) struct Mailbox {
    mail: Mutex<Vec<Mail>>,
    /// There is some: spares the loop the lock.
    full: AtomicBool,
    bell: EventFd,
    /// The loop's own thread, which needs no bell.
    home: ThreadId,
}

/// What is said to the loop.
pub(crate) enum Mail {
    /// The promise of this number has been kept.
    Kept(u64, Response),
    /// The task of this number can go on.
    Task(u64),
    /// What this connection waits for has come: a piece of its answer, or room for more of its request.
    Connection(Token),
    /// The program has something to say to the master.
    ToMaster(Message),
}

thread_local! {
    /// The box of the worker whose loop runs on this thread.
    static HERE: RefCell<Option<Arc<Mailbox>>> = const { RefCell::new(None) };
}

/// Wakes a connection.
struct ConnectionWaker {
    mailbox: Arc<Mailbox>,
    token: Token,
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.mailbox.put(Mail::Connection(self.token));
    }
}

impl Mailbox {
    /// What wakes this connection.
    pub fn connection_waker(self: &Arc<Self>, token: Token) -> Waker {
        Arc::new(ConnectionWaker { mailbox: Arc::clone(self), token }).into()
    }

    /// Makes the box of the worker whose loop runs on this thread.
    pub fn open() -> io::Result<Arc<Mailbox>> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let (mail, full) = (Mutex::default(), AtomicBool::new(false));
        let mailbox = Arc::new(Mailbox { mail, full, bell, home: thread::current().id() });
        mailbox.settle_here();
        Ok(mailbox)
    }

    /// From now on this is the box of this thread.
    pub fn settle_here(self: &Arc<Self>) {
        Mailbox::set_here(Some(Arc::clone(self)));
    }

    /// The same, or there is none.
    pub(super) fn set_here(mailbox: Option<Arc<Mailbox>>) {
        HERE.set(mailbox);
    }

    /// The box of the worker whose loop runs on this thread, if there is one.
    pub fn here() -> Option<Arc<Mailbox>> {
        HERE.with_borrow(Clone::clone)
    }

    /// Readable when another thread has put something in.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Takes the bell's word for it, so that it can ring again.
    pub fn answer_bell(&self) {
        let _ = self.bell.read();
    }

    /// There is mail.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// What has come since this was last called.
    pub fn take(&self) -> Vec<Mail> {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        self.full.store(false, Ordering::Release);
        mem::take(&mut *mail)
    }

    /// Says something to the loop.
    pub fn put(&self, one: Mail) {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        mail.push(one);
        let first = !self.full.swap(true, Ordering::AcqRel);
        drop(mail);
        // the loop looks before it sleeps; whoever fills an empty box from elsewhere wakes it
        if first && thread::current().id() != self.home {
            let _ = self.bell.write(1); // full only if it has been rung 2^64 times
        }
    }
}
