//! Brings files from the disk, on threads of its own, so that the loop never waits for one. However many requests wait
//! for the same file, it is read once.
//!
//! Neighbours: `Files` hands over what it cannot have at once, and later takes what has arrived into its `cache`.

use super::found::Found;
use super::open::{Miss, Mode, Tree};
use super::plan::{self, Question};
use crate::handler::Turn;
use crate::http::Response;
use crate::sys::process;
use std::collections::{HashMap, VecDeque};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{io, mem, thread};

/// Each of them waits for a disk, most of the time.
const THREADS_MAX: usize = 2;

/// Requests that may wait. Beyond that the disk is too slow for what is asked of it.
const WAITERS_MAX: usize = 4096;

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Loader {
    shared: Arc<Shared>,
    threads: usize,
}

/// A request that waits for a file.
pub(super) struct Waiter {
    pub question: Question<'static>,
    /// Where to send the client if it is a directory.
    pub redirect: Option<Vec<u8>>,
    /// What is sent with a 404, where that was at hand.
    pub page: Option<Arc<Found>>,
    /// Called with the answer, on another thread; dropped uncalled if that thread fails.
    pub answer: Answer,
}

pub(super) type Answer = Box<dyn FnOnce(Response) + Send>;

/// A file that was brought.
#[derive(Debug)]
pub(super) struct Arrival {
    pub path: Box<[u8]>,
    pub found: Arc<Found>,
    /// When it was asked for: it was looked at after that.
    pub asked_ms: u64,
}

#[derive(Debug)]
struct Shared {
    tree: Arc<Tree>,
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What nobody has begun with.
    queue: VecDeque<Job>,
    /// By path: who waits for it, from being queued until it is there.
    flights: HashMap<Box<[u8]>, Flight>,
    /// Waiters of all flights.
    waiting: usize,
    arrived: Vec<Arrival>,
    /// Threads that wait for work.
    idle: usize,
    closing: bool,
}

#[derive(Debug)]
struct Job {
    path: Box<[u8]>,
    /// What it was when it was looked at last.
    known: Option<Arc<Found>>,
    asked: Turn,
}

#[derive(Debug)]
struct Flight {
    waiters: Vec<Waiter>,
    asked: Turn,
}

impl Loader {
    pub fn new(tree: Arc<Tree>) -> Loader {
        Loader {
            shared: Arc::new(Shared { tree, state: Mutex::default(), more: Condvar::new() }),
            threads: 0,
        }
    }

    /// Has a file brought, unless that is under way, or looked at if it is `known`.
    ///
    /// # Errors
    /// Gives the waiter back if too many wait, or no thread can be had.
    pub fn submit(
        &mut self,
        path: &[u8],
        known: Option<Arc<Found>>,
        waiter: Waiter,
        asked: Turn,
    ) -> Result<(), Box<Waiter>> {
        let mut state = self.shared.lock();
        if state.waiting == WAITERS_MAX {
            return Err(Box::new(waiter));
        }
        if let Some(flight) = state.flights.get_mut(path) {
            flight.waiters.push(waiter);
            state.waiting += 1;
            return Ok(());
        }
        if state.idle <= state.queue.len() && self.threads < THREADS_MAX {
            match self.shared.start_thread() {
                Ok(()) => self.threads += 1,
                Err(error) if self.threads == 0 => {
                    tracing::error!(%error, "cannot start a thread that reads files; answered 503");
                    return Err(Box::new(waiter));
                }
                Err(_) => {}
            }
        }
        state.waiting += 1;
        state.queue.push_back(Job { path: path.into(), known, asked });
        state.flights.insert(path.into(), Flight { waiters: vec![waiter], asked });
        drop(state);
        self.shared.more.notify_one();
        Ok(())
    }

    /// What has been brought since this was last called.
    pub fn take_arrived(&self) -> Vec<Arrival> {
        mem::take(&mut self.shared.lock().arrived)
    }
}

/// Its threads end when they are done with what they are reading; nobody waits for them.
impl Drop for Loader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        state.queue.clear();
        state.flights.clear();
        self.shared.more.notify_all();
    }
}

impl Shared {
    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        let shared = Arc::clone(self);
        let builder = thread::Builder::new().name("uringd-files".into());
        builder
            .spawn(move || {
                process::unpin_thread();
                while let Some(Job { path, known, asked }) = shared.next() {
                    let found = shared.load(&path, known, asked);
                    shared.land(&path, &found);
                }
            })
            .map(drop)
    }

    /// Waits for something to do; `None`: nothing more will come.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closing {
                return None;
            }
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// A panic is the standard hook's to report; the thread goes on, and nobody waits for ever.
    fn load(&self, path: &[u8], known: Option<Arc<Found>>, asked: Turn) -> Result<Arc<Found>, Miss> {
        let load = || match known {
            Some(known) if known.is_current(&self.tree, path, Mode::Blocking)? => Ok(known),
            _ => Found::load(&self.tree, path, Mode::Blocking, asked.second).map(Arc::new),
        };
        panic::catch_unwind(AssertUnwindSafe(load)).unwrap_or(Err(Miss::Broken))
    }

    /// The file is there, or it is known that it will not be: everybody who waits hears it.
    fn land(&self, path: &[u8], found: &Result<Arc<Found>, Miss>) {
        let Some(Flight { mut waiters, asked }) = self.take_flight(path) else { return };
        match found {
            Ok(found) => self.arrive(path, found, asked),
            Err(Miss::Missing | Miss::Directory) => self.load_page(&mut waiters, asked),
            Err(_) => {}
        }
        for Waiter { question, redirect, page, answer } in waiters {
            answer(match found {
                Ok(found) => plan::answer(&question, found),
                Err(miss) => plan::answer_miss(*miss, redirect, page.as_deref()),
            });
        }
    }

    fn take_flight(&self, path: &[u8]) -> Option<Flight> {
        let mut state = self.lock();
        let flight = state.flights.remove(path)?;
        state.waiting -= flight.waiters.len();
        Some(flight)
    }

    fn arrive(&self, path: &[u8], found: &Arc<Found>, asked: Turn) {
        self.lock().arrived.push(Arrival { path: path.into(), found: Arc::clone(found), asked_ms: asked.ms });
    }

    /// For those that came without it.
    fn load_page(&self, waiters: &mut [Waiter], asked: Turn) {
        let Some(path) = self.tree.not_found.as_deref() else { return };
        let mut without = waiters.iter_mut().filter(|waiter| waiter.page.is_none()).peekable();
        if without.peek().is_some()
            && let Ok(page) = self.load(path, None, asked)
        {
            self.arrive(path, &page, asked);
            without.for_each(|waiter| waiter.page = Some(Arc::clone(&page)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter").field("question", &self.question).finish_non_exhaustive()
    }
}
