//! What futures of a handler wait for: time, and files. A future leaves its wish here and the waker with it; the
//! worker's loop takes the wishes to its ring at the end of the turn, and brings back what came of them.
//!
//! Neighbours: `file` is the programmer's side; `worker::event_loop` performs, and so does `test` without a ring.

use crate::ring::{FileDone, FileOp};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The wishes of the futures of one thread.
#[derive(Default)]
pub(crate) struct Local {
    timers: RefCell<BTreeMap<Due, Waker>>,
    jobs: RefCell<HashMap<u32, Job>>,
    /// What the loop has not taken yet.
    wishes: RefCell<Vec<Wish>>,
    serial: Cell<u32>,
}

/// When, and which of those that are due then.
type Due = (Instant, u32);

/// What a future wants done, of the loop.
pub(crate) enum Wish {
    /// Perform this and call [`Local::done`].
    Begin(u32, FileOp),
    /// Nobody waits for this any more; it will still be done or not.
    Cancel(u32),
}

enum Job {
    /// It is under way, for this one.
    Waiting(Waker),
    /// It is under way, for nobody.
    Abandoned,
    Done(FileDone),
}

thread_local! {
    static HERE: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

impl Local {
    /// Makes the one of this thread's loop.
    pub fn open() -> Rc<Local> {
        let local = Rc::new(Local::default());
        local.settle_here();
        local
    }

    /// From now on this is the one of this thread.
    pub fn settle_here(self: &Rc<Self>) {
        Local::set_here(Some(Rc::clone(self)));
    }

    /// The same, or there is none.
    pub(super) fn set_here(local: Option<Rc<Local>>) {
        HERE.set(local);
    }

    /// The one of this thread, if there is a loop.
    pub(super) fn find_here() -> Option<Rc<Local>> {
        HERE.with_borrow(Clone::clone)
    }

    fn here() -> Rc<Local> {
        Local::find_here().expect("awaited on a worker's own thread, by a future of `Reply`")
    }

    fn next_serial(&self) -> u32 {
        self.serial.set(self.serial.get().wrapping_add(1));
        self.serial.get()
    }

    /// When the next timer is due.
    #[inline]
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.borrow().first_key_value().map(|((due, _), _)| *due)
    }

    /// Wakes those whose time has come.
    #[inline]
    pub fn expire(&self, now: Instant) {
        while let Some(waker) = self.take_expired(now) {
            waker.wake();
        }
    }

    #[inline]
    fn take_expired(&self, now: Instant) -> Option<Waker> {
        let mut timers = self.timers.borrow_mut();
        let first = timers.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }

    /// What has been wished for since this was last called.
    #[inline]
    pub fn take_wishes(&self) -> Vec<Wish> {
        self.wishes.take()
    }

    /// There is something to take.
    #[inline]
    pub fn has_wishes(&self) -> bool {
        !self.wishes.borrow().is_empty()
    }

    /// A job has been done, or not.
    pub fn done(&self, number: u32, done: FileDone) {
        let before = self.jobs.borrow_mut().insert(number, Job::Done(done));
        match before {
            Some(Job::Waiting(waker)) => waker.wake(),
            _ => drop(self.jobs.borrow_mut().remove(&number)),
        }
    }
}

/// Waits for this long, at least; the loop's clock counts milliseconds.
///
/// ```
/// # use std::time::Duration;
/// # use uringd::{Reply, Response};
/// let reply = Reply::later(async {
///     uringd::sleep(Duration::from_secs(1)).await;
///     Response::text("a second later")
/// });
/// ```
///
/// # Panics
/// If it is awaited elsewhere than in a future given to [`Reply::later`](crate::Reply::later) or
/// [`Reply::stream`](crate::Reply::stream).
pub fn sleep(time: Duration) -> Sleep {
    // what never comes is a century away
    let due = Instant::now() + time.min(Duration::from_secs(100 * 365 * 24 * 3600));
    Sleep { due, timer: None, local: PhantomData }
}

/// The future of [`sleep`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    due: Instant,
    timer: Option<u32>,
    /// It belongs to the loop of one thread.
    local: PhantomData<Rc<()>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.due <= Instant::now() {
            return Poll::Ready(());
        }
        let local = Local::here();
        let timer = *self.timer.get_or_insert_with(|| local.next_serial());
        // what was there before is dropped when nothing is borrowed any more
        let _before = local.timers.borrow_mut().insert((self.due, timer), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer
            && let Some(local) = Local::find_here()
        {
            let _before = local.timers.borrow_mut().remove(&(self.due, timer));
        }
    }
}

/// A file operation on the loop's ring.
pub(super) struct Operation {
    wanted: Option<FileOp>,
    number: Option<u32>,
}

impl Operation {
    pub fn new(wanted: FileOp) -> Operation {
        Operation { wanted: Some(wanted), number: None }
    }
}

impl Future for Operation {
    type Output = FileDone;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<FileDone> {
        let local = Local::here();
        let mut jobs = local.jobs.borrow_mut();
        if let Some(wanted) = self.wanted.take() {
            // numbers come round; an operation may wait for its disk all the while
            let mut number = local.next_serial();
            while jobs.contains_key(&number) {
                number = local.next_serial();
            }
            self.number = Some(number);
            local.wishes.borrow_mut().push(Wish::Begin(number, wanted));
            jobs.insert(number, Job::Waiting(context.waker().clone()));
            return Poll::Pending;
        }
        let number = self.number.expect("polled after it was ready");
        match jobs.remove(&number) {
            Some(Job::Done(done)) => {
                self.number = None;
                Poll::Ready(done)
            }
            before => {
                jobs.insert(number, Job::Waiting(context.waker().clone()));
                // what a waker owns may want the table when it is dropped
                drop(jobs);
                drop(before);
                Poll::Pending
            }
        }
    }
}

/// What the kernel still works on belongs to the ring, not to us: it is joined there, and its result is dropped.
impl Drop for Operation {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let Some(local) = Local::find_here() else { return };
        let before = local.jobs.borrow_mut().insert(number, Job::Abandoned);
        match &before {
            Some(Job::Done(_)) => drop(local.jobs.borrow_mut().remove(&number)),
            _ => local.wishes.borrow_mut().push(Wish::Cancel(number)),
        }
    }
}
