//! Starts worker processes: this same executable again, from a descriptor opened when the master started, so that a
//! package upgrade underneath changes nothing.
//!
//! Neighbours: `event_loop` asks for workers; `sys::process` forks and executes; `cluster` reads the marks.

use crate::error::{Error, Result};
use crate::ipc::{Channel, node};
use crate::sys::process::{self, Child};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What the service manager has said is the master's alone, and a Node master's counter is not ours to hand on.
const KEPT: [&str; 7] = [
    node::UNIQUE_ID,
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// See the module's comment.
pub struct Spawner {
    executable: OwnedFd,
}

impl Spawner {
    /// Takes hold of the executable that is running now.
    ///
    /// # Errors
    /// Without /proc.
    pub fn new() -> Result<Spawner> {
        let executable = open("/proc/self/exe", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| Error::io("open /proc/self/exe (is /proc mounted?)", e))?;
        Ok(Spawner { executable })
    }

    /// Starts a worker that counts in the memory behind `stats`; from the loop's thread, which the parent-death signal
    /// follows.
    ///
    /// # Errors
    /// Those of socketpair, fork and execve.
    pub fn start(&self, slot: usize, stats: BorrowedFd<'_>) -> io::Result<(Child, Channel)> {
        let (channel, theirs) = Channel::pair()?;
        let set = [
            (node::WORKER_MARK, OsString::from(std::process::id().to_string())),
            (node::CHANNEL_FD, OsString::from(theirs.as_raw_fd().to_string())),
            (node::STATS_FD, OsString::from(stats.as_raw_fd().to_string())),
            (node::SERIALIZATION_MODE, OsString::from("json")),
        ];
        let name = format!("uringd: worker {slot}");
        let inherited = [theirs.as_fd(), stats];
        let child = process::start_again(self.executable.as_fd(), &name, inherited, &set, &KEPT)?;
        Ok((child, channel))
    }
}
