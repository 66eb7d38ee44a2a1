//! What can go wrong, one variant a cause. The doc comment of a variant is its message: one line that says what,
//! where, and what to do. Errno becomes one of these once, at the edge (`ring`, `sys`, `master::listeners`).
//!
//! Neighbours: everything above may return these; this file imports nothing of ours.

use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::process::ExitCode;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why uringd could not start, or stopped other than as asked.
#[derive(displaydoc::Display, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// {option}: {problem}
    #[non_exhaustive]
    Config {
        /// The flag or environment variable, as typed.
        option: String,
        /// What is wrong with its value and what would be right.
        problem: String,
    },
    /// cannot listen on {address}: another process holds it; stop that one or choose another --port or --listen
    #[non_exhaustive]
    AddressInUse {
        /// The address as given.
        address: String,
    },
    /// cannot listen on {address}: ports below {first_free} need root or CAP_NET_BIND_SERVICE; grant it (setcap cap_net_bind_service=+ep on the program) or choose a higher --port
    #[non_exhaustive]
    PortForbidden {
        /// The address as given.
        address: String,
        /// The first port that needs no right (net.ipv4.ip_unprivileged_port_start).
        first_free: u16,
    },
    /// cannot listen on {address}: this machine has no such address; see `ip address` and correct --listen
    #[non_exhaustive]
    AddressUnavailable {
        /// The address as given.
        address: String,
    },
    /// cannot listen on {address}: {source}
    #[non_exhaustive]
    Listen {
        /// The address as given.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// --max-connections {asked} needs {needed} descriptors per worker, the hard limit is {hard}: lower it or raise the limit (ulimit -Hn, LimitNOFILE=)
    #[non_exhaustive]
    TooFewDescriptors {
        /// The value of `--max-connections`.
        asked: u32,
        /// Descriptors that one worker then needs.
        needed: u64,
        /// The hard RLIMIT_NOFILE.
        hard: u64,
    },
    /// {0}
    Ring(RingRefusal),
    /// gave up: no worker is left and restarts are throttled; see the errors above for why they died
    GaveUp,
    /// the program makes no handler: {problem}
    #[non_exhaustive]
    Factory {
        /// What its factory said, and the errors beneath; or that it panicked.
        problem: String,
    },
    /// cannot {doing}: {source}
    #[non_exhaustive]
    Io {
        /// What was being done, to what.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// a message cannot be {done}: {problem}
    #[non_exhaustive]
    Message {
        /// `written` or `read`.
        done: &'static str,
        /// What serde said.
        problem: String,
    },
    /// the channel to the {peer} broke: {problem}
    #[non_exhaustive]
    Channel {
        /// Who is at the other end.
        peer: &'static str,
        /// What happened.
        problem: String,
    },
}

impl Error {
    /// Wraps an I/O error with what was being done, so that the line says what and where.
    pub fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Io { doing: doing.into(), source: source.into() }
    }

    /// A value that cannot be used: the option as the user knows it, and what would be right.
    pub fn config(option: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Config { option: option.into(), problem: problem.into() }
    }

    pub(crate) fn message(done: &'static str, problem: &serde_json::Error) -> Self {
        Error::Message { done, problem: problem.to_string() }
    }

    /// The exit code that `uringd --help` documents for this cause.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Config { .. } => 2,
            Error::GaveUp => 3,
            _ => 1,
        }
    }

    /// Prints the one line and gives the exit code; for `main` functions.
    pub fn report(&self) -> ExitCode {
        print_line(self);
        ExitCode::from(self.exit_code())
    }
}

/// The one line, in one write: other processes write to the same stderr, and `eprintln` writes piece by piece. A
/// stderr that is closed is nobody's trouble.
pub(crate) fn print_line(problem: impl std::fmt::Display) {
    let _ = io::stderr().write_all(format!("uringd: {problem}\n").as_bytes());
}

/// `fn main() -> uringd::Result<()>` prints the `Debug` form of an error, so that form is the message too.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Why the kernel gives a worker no ring. Travels from the worker to the master in `online`.
#[derive(Debug, Clone, PartialEq, Eq, displaydoc::Display, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RingRefusal {
    /// this kernel ({release}) has no io_uring: run Linux 6.1 or newer, built with CONFIG_IO_URING
    #[non_exhaustive]
    Missing {
        /// `uname -r`.
        release: String,
    },
    /// this kernel ({release}) is too old, its io_uring lacks {lacks}: run Linux 6.1 or newer
    #[non_exhaustive]
    TooOld {
        /// `uname -r`.
        release: String,
        /// The first thing that is missing.
        lacks: String,
    },
    /// io_uring is forbidden here by kernel.io_uring_disabled={value}: run `sysctl -w kernel.io_uring_disabled=0` (or put the user into kernel.io_uring_group)
    #[non_exhaustive]
    Sysctl {
        /// The value of the sysctl.
        value: u8,
    },
    /// io_uring is forbidden here by a seccomp filter, as containers' default profiles do: allow io_uring_setup, io_uring_enter and io_uring_register in the profile
    Seccomp,
    /// io_uring found too little lockable memory (RLIMIT_MEMLOCK is {limit} bytes, for the rings of all this user's processes together): raise it with `ulimit -l` or LimitMEMLOCK=
    #[non_exhaustive]
    MemoryLock {
        /// The soft limit in bytes.
        limit: u64,
    },
    /// io_uring found no memory in the kernel: this machine's is used up, or its cgroup's (memory.max); give it more or lower --workers
    Memory,
    /// io_uring is forbidden here by a security module (SELinux, for instance): give this program's domain the permission `allowed` of the class `io_uring`
    SecurityModule,
    /// io_uring cannot be set up here: {problem}
    #[non_exhaustive]
    Other {
        /// What the kernel said, and where.
        problem: String,
    },
}
