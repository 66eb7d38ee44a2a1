//! The events: what the master says happened, with Node's names (`cluster` and `child_process`) and four of ours.
//! Each is one structured log line and one value for code.
//!
//! Neighbours: made by `master::lifecycle` and `master::event_loop`, given to `Cluster::on_event`.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::time::Duration;
use std::{fmt, io};

/// Identifies one worker process for as long as the master lives; never used twice (Node's `worker.id`).
pub type WorkerId = u32;

/// Which worker an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkerRef {
    /// The worker process.
    pub id: WorkerId,
    /// Its place in the pool, `0..workers`; a replacement has the slot of its predecessor. It means nothing (and is 0) in the
    /// [`Event::Error`] about an order to a worker that there never was, or that is gone for so long that nobody knows.
    pub slot: usize,
    /// Its process ID; 0 when it could not be started, and where `slot` means nothing.
    pub pid: i32,
}

/// What programs say to each other through the channel: any value that serde can write as JSON.
///
/// ```
/// # fn main() -> uringd::Result<()> {
/// let message = uringd::Message::new(("jobs", 3))?;
/// assert_eq!(message.read::<(String, u32)>()?, ("jobs".to_owned(), 3));
/// assert_eq!(message.to_string(), r#"["jobs",3]"#);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Message(Value);

impl Message {
    /// Writes a value as a message.
    ///
    /// # Errors
    /// It has no form in JSON, such as a map whose keys are no strings.
    pub fn new(value: impl Serialize) -> Result<Message> {
        serde_json::to_value(value).map(Message).map_err(|error| Error::message("written", &error))
    }

    /// Reads it as a value of this type.
    ///
    /// # Errors
    /// It is something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.0).map_err(|error| Error::message("read", &error))
    }

    pub(crate) fn of(value: Value) -> Message {
        Message(value)
    }

    pub(crate) fn value(&self) -> &Value {
        &self.0
    }

    /// How long its JSON is.
    pub(crate) fn octets(&self) -> usize {
        struct Count(usize);
        impl io::Write for Count {
            fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
                self.0 += octets.len();
                Ok(octets.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut count = Count(0);
        serde_json::to_writer(&mut count, &self.0).expect("a value has JSON, and counting does not fail");
        count.0
    }
}

/// Its JSON.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a process ended; wait(2) knows no third way. Absent (`None` in events) for a process that is not our child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// It called `exit` with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Names every cause once.
macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why a worker leaves or has left.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Cause {
            $($(#[$doc])* $name,)*
        }

        impl Cause {
            /// All there are.
            pub(crate) const ALL: &'static [Cause] = &[$(Cause::$name),*];
        }
    };
}

causes! {
    /// Nobody asked for it: it crashed, was killed from outside or called exit.
    Crash,
    /// It asked for its own replacement (a panic, or SIGTERM to the worker).
    Suicide,
    /// A roll replaced it (SIGHUP).
    Reload,
    /// The program had it replaced ([`Pool::disconnect`](crate::Pool::disconnect)).
    Disconnect,
    /// The pool was made smaller (SIGTTOU).
    Scale,
    /// The whole server stops.
    Stop,
    /// It did not listen within the boot timeout.
    BootTimeout,
    /// It did not finish within the kill timeout.
    KillTimeout,
    /// Its loop stood still for the stall timeout.
    Stall,
    /// It had served, lived or taken as much as a worker may (`--max-requests`, `--max-lifetime`, `--max-memory`).
    Recycle,
    /// The kernel refused it a ring.
    Ring,
    /// It could not be started at all.
    Spawn,
}

/// Where a worker's loop is: what it was at when it stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LoopPhase {
    /// The worker starts: its loop does not go round yet, its factory may be at work.
    Starting,
    /// It waits for its ring, as it does when there is nothing to do.
    Waiting,
    /// It is in a turn, in code of uringd's own.
    Turning,
    /// In [`Handler::admit`](crate::Handler::admit).
    Admitting,
    /// In [`Handler::handle`](crate::Handler::handle).
    Handling,
    /// In a future of a reply that comes later.
    Polling,
    /// It takes the next piece of an answer: from an iterator of the program's, or from the end of a file.
    Streaming,
    /// In [`Handler::message`](crate::Handler::message).
    HandlingMessage,
    /// In [`Handler::socket`](crate::Handler::socket).
    HandlingSocket,
    /// In [`Handler::before_drain`](crate::Handler::before_drain).
    BeforeDrain,
    /// In [`Handler::after_drain`](crate::Handler::after_drain).
    AfterDrain,
}

impl LoopPhase {
    pub(crate) const ALL: [LoopPhase; 11] = [
        LoopPhase::Starting,
        LoopPhase::Waiting,
        LoopPhase::Turning,
        LoopPhase::Admitting,
        LoopPhase::Handling,
        LoopPhase::Polling,
        LoopPhase::Streaming,
        LoopPhase::HandlingMessage,
        LoopPhase::HandlingSocket,
        LoopPhase::BeforeDrain,
        LoopPhase::AfterDrain,
    ];
}

/// What the master could find out about a worker that stands still, before it is killed. What the kernel does not let it
/// read is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Evidence {
    /// Where its loop is.
    pub phase: LoopPhase,
    /// Method and target of the request that the program was called for, as the client sent it: what is no visible ASCII
    /// is written as `\xHH`, and a target beyond 120 octets is cut and ends in `...`.
    pub request: Option<String>,
    /// For how long the program has been at that request in this turn of the loop, to a second: since the turn began, but no
    /// longer than the loop was seen to stand still. It is not how long ago the request came: that may have waited before
    /// the turn, and a future or a stream that is gone on with begins at zero in every turn. In JSON in milliseconds.
    #[serde(rename = "request_age_ms", serialize_with = "as_millis")]
    pub request_age: Option<Duration>,
    /// What its thread does as the kernel sees it: `State` in /proc/PID/status, `S (sleeping)` for instance.
    pub state: Option<String>,
    /// In which function of the kernel's it sleeps: /proc/PID/wchan.
    pub wchan: Option<String>,
    /// In which system call, by number, with its arguments: /proc/PID/syscall.
    pub syscall: Option<String>,
    /// The kernel's functions it is in, the innermost first: /proc/PID/stack.
    pub stack: Option<String>,
}

/// What happened. The variants are Node's event names; `Suicide`, `Stalled`, `Giveup` and `Reload` are ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Event {
    /// The listening sockets are bound and the first worker is about to be started.
    #[non_exhaustive]
    Setup {
        /// The addresses, as bound.
        addresses: Vec<String>,
        /// How many workers are wanted.
        workers: usize,
    },
    /// A worker process was started.
    Fork(WorkerRef),
    /// A worker runs and speaks.
    Online(WorkerRef),
    /// A worker listens on every address.
    Listening(WorkerRef),
    /// A worker sent a message of the program's own.
    #[non_exhaustive]
    Message {
        /// The sender.
        worker: WorkerRef,
        /// What it said.
        message: Message,
    },
    /// The channel to a worker is closed.
    Disconnect(WorkerRef),
    /// A worker process is gone.
    #[non_exhaustive]
    Exit {
        /// The worker.
        worker: WorkerRef,
        /// How it ended; `None` if it is not our child.
        status: Option<ExitStatus>,
        /// Why.
        cause: Cause,
        /// The master had to kill it because it outlasted the kill timeout.
        forced: bool,
    },
    /// A worker process is gone and its channel is read to the end: nothing more will be heard of it.
    Close(WorkerRef),
    /// A worker could not be started, killed or reached.
    #[non_exhaustive]
    Error {
        /// The worker.
        worker: WorkerRef,
        /// What failed and why.
        problem: String,
    },
    /// A worker asked to be replaced.
    Suicide(WorkerRef),
    /// A worker's loop has stood still for `--stall-timeout`. It is replaced and killed, unless restarts are throttled: then
    /// it is left, and an [`Event::Error`] says so.
    #[non_exhaustive]
    Stalled {
        /// The worker.
        worker: WorkerRef,
        /// For how long by now; in JSON in milliseconds.
        #[serde(rename = "stalled_ms", serialize_with = "as_millis")]
        stalled_for: Duration,
        /// What it was at.
        evidence: Evidence,
    },
    /// Too many unplanned restarts: nobody is respawned until a window has passed.
    #[non_exhaustive]
    Giveup {
        /// Unplanned restarts that were allowed within the window.
        limit: u32,
        /// Workers still alive.
        alive: usize,
    },
    /// A roll began, ended or failed.
    Reload(Roll),
}

/// The stages of a roll (SIGHUP).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Roll {
    /// The first replacement is about to be started.
    Started,
    /// Every worker was replaced, and the configuration is in force.
    Done,
    /// A replacement did not come up: those that did are replaced once more, by workers with the settings of before.
    /// [`Failed`](Roll::Failed) follows.
    #[non_exhaustive]
    Reverting {
        /// The slot whose replacement did not come up.
        slot: usize,
        /// One line that says why.
        problem: String,
    },
    /// It was given up: the configuration is as it was before, and so are the workers, or will be.
    #[non_exhaustive]
    Failed {
        /// The slot whose replacement did not come up; `None` if it did not come to that.
        slot: Option<usize>,
        /// One line that says why.
        problem: String,
    },
}

/// Whole milliseconds, as the names of such fields say.
fn as_millis<S: Serializer>(time: &impl Millis, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    time.millis().serialize(serializer)
}

trait Millis {
    fn millis(&self) -> Option<u64>;
}

impl Millis for Duration {
    fn millis(&self) -> Option<u64> {
        Some(u64::try_from(self.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Millis for Option<Duration> {
    fn millis(&self) -> Option<u64> {
        self.as_ref().and_then(Millis::millis)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "code {code}"),
            ExitStatus::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}
