//! What is asked of the master's loop from outside (the control socket, metrics), and what it answers: state at one
//! instant, and the end of what was ordered. Who asks waits on a thread of its own; the loop never waits for it.
//!
//! Neighbours: `control` asks, through `pool`; `event_loop` answers.

use super::lifecycle::Phase;
use crate::config::Origins;
use crate::event::{Cause, WorkerId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Events that wait for a follower who reads slowly; he is told how many he has missed.
const EVENTS_MAX: usize = 1024;

/// Where the answer goes. Nobody may be waiting for it any more.
pub(super) type Reply<T> = Sender<T>;

/// How something ended that was ordered, in one line.
pub(super) type Ended = std::result::Result<String, Unmet>;

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unmet {
    /// It was not begun.
    Refused(String),
    /// It was, and came to nothing.
    Failed(String),
}

/// What is wanted. A reply that is dropped unanswered means that the master stops.
#[derive(Debug)]
pub(super) enum Ask {
    /// How things are.
    Status(Reply<Status>),
    /// The options in force, and where each value came from.
    Config(Reply<Origins>),
    /// Read the configuration again and roll; answered when that is over. Refused while one is under way.
    Reload(Awaited),
    /// Replace the worker in this slot; answered when its replacement listens, or did not come up.
    Restart {
        /// Whose.
        slot: usize,
        /// How it ended.
        awaited: Awaited,
    },
    /// Have so many workers; answered at once.
    Scale {
        /// How many.
        workers: usize,
        /// Whether that is possible.
        reply: Reply<Ended>,
    },
    /// Finish what is in flight, then end; answered at once.
    Stop(Reply<Ended>),
    /// All events from now on.
    Follow(Reply<std::result::Result<Lines, Unmet>>),
}

/// Where the end goes of what may take long. That the order has come to the loop is said before.
#[derive(Debug)]
pub(super) struct Awaited {
    /// Told at once.
    pub heard: Reply<()>,
    /// Told when it is over.
    pub end: Reply<Ended>,
}

/// Somebody who wants each event as a line of JSON. Who does not keep up is told how many lines it has missed.
#[derive(Debug)]
pub(super) struct Follower {
    lines: SyncSender<Arc<str>>,
    reader: Weak<()>,
    missed: u64,
}

/// What a follower reads.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Receiver<Arc<str>>,
    /// Gone with this: the channel says only to who sends that nobody reads.
    _reader: Arc<()>,
}

/// The master at one instant, but for the numbers, which are in the `Book`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Status {
    /// The master's process ID.
    pub pid: u32,
    /// `CARGO_PKG_VERSION`.
    pub version: &'static str,
    /// Since when it runs, in seconds of Unix time.
    pub started: f64,
    /// How many seconds it has run, suspensions not counted.
    pub uptime: f64,
    /// Whether it serves or stops.
    pub course: Course,
    /// Whether the dead are replaced.
    pub restarts: Restarts,
    /// A reload is under way.
    pub reloading: bool,
    /// Which reading of the configuration is in force: the start's is 1. A reload that fails may use up a number.
    pub generation: u64,
    /// The last reload that is over, if there was one.
    pub last_reload: Option<LastReload>,
    /// The addresses, as bound.
    pub listeners: Vec<String>,
    /// How many workers are wanted.
    pub wanted: usize,
    /// Everybody who is not gone, by age.
    pub workers: Vec<WorkerStatus>,
    /// Workers that are gone, by slot and why.
    pub exits: BTreeMap<usize, BTreeMap<Cause, u64>>,
    /// Workers that had to be killed because they outlasted the kill timeout.
    pub forced_kills: u64,
    /// How often it was given up.
    pub giveups: u64,
    /// Reloads that were done, and that failed.
    pub reloads: [u64; 2],
}

/// Where the master is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Course {
    /// It keeps the pool whole.
    Serving,
    /// It ends with its last worker.
    Stopping,
}

/// Whether the dead are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Restarts {
    /// They are.
    Allowed,
    /// There were too many within the restart window.
    GivenUp,
    /// One worker is tried.
    Trial,
}

/// How the last reload ended.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LastReload {
    /// When, in seconds of Unix time.
    pub at: f64,
    /// What was wrong, if anything was.
    pub problem: Option<String>,
}

/// One worker process.
#[derive(Debug, Clone, Serialize)]
pub(super) struct WorkerStatus {
    /// What it is called.
    pub id: WorkerId,
    /// Its place in the pool.
    pub slot: usize,
    /// Its process ID.
    pub pid: i32,
    /// The core that it is pinned to.
    pub core: Option<usize>,
    /// Where in its life it is.
    pub phase: Phase,
    /// Since when it runs, in seconds of Unix time.
    pub started: f64,
    /// For how many seconds.
    pub uptime: f64,
    /// Which reading of the configuration it was started with.
    pub generation: u64,
}

impl Awaited {
    /// Says that the order has come, and gives where its end is to go.
    pub fn heard(self) -> Reply<Ended> {
        let _ = self.heard.send(());
        self.end
    }
}

impl Lines {
    /// The next one, if it comes in time; no other comes once the loop is over.
    pub fn next(&self, within: Duration) -> std::result::Result<Arc<str>, RecvTimeoutError> {
        self.lines.recv_timeout(within)
    }
}

impl Follower {
    /// One of whom so many lines may wait to be read, and what it reads.
    fn with_room(lines: usize) -> (Follower, Lines) {
        let (sender, receiver) = sync_channel(lines);
        let reader = Arc::new(());
        let follower = Follower { lines: sender, reader: Arc::downgrade(&reader), missed: 0 };
        (follower, Lines { lines: receiver, _reader: reader })
    }

    /// One, and what it reads.
    pub fn new() -> (Follower, Lines) {
        Follower::with_room(EVENTS_MAX)
    }

    /// Whether anybody is there still.
    pub fn is_there(&self) -> bool {
        self.reader.strong_count() > 0
    }

    /// Says whether anybody is there still.
    pub fn tell(&mut self, line: &Arc<str>) -> bool {
        if self.missed > 0 {
            let gap: Arc<str> = format!("{{\"event\":\"missed\",\"count\":{}}}\n", self.missed).into();
            match self.lines.try_send(gap) {
                Ok(()) => self.missed = 0,
                Err(TrySendError::Full(_)) => {
                    self.missed += 1;
                    return true;
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        match self.lines.try_send(Arc::clone(line)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_keep_up_is_told_how_much_it_has_missed() {
        let (mut follower, lines) = Follower::with_room(2);
        for line in ["1\n", "2\n", "3\n", "4\n"] {
            assert!(follower.tell(&line.into()));
        }
        let mut taken: Vec<Arc<str>> = lines.lines.try_iter().collect();
        assert!(follower.tell(&"5\n".into()));
        taken.extend(lines.lines.try_iter());
        assert_eq!(taken.concat(), "1\n2\n{\"event\":\"missed\",\"count\":2}\n5\n");
        assert!(follower.is_there());
        drop(lines);
        assert!(!follower.is_there());
        assert!(!follower.tell(&"6\n".into()));
    }
}
