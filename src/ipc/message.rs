//! What master and workers say to each other, apart from how it is framed. Our control messages travel as
//! `{"cmd":"NODE_URINGD","act":...}`, which Node peers ignore; only `{"act":"suicide"}` is plain, as in Node programs.
//!
//! Neighbours: `frame` and `channel` move these, `node` knows the NODE_* words, `worker::control` and
//! `master::event_loop` act on them.

use crate::config::WorkerSettings;
use crate::error::RingRefusal;
use serde::{Deserialize, Serialize};

/// The version of the control messages; a worker and a master must agree.
pub const PROTOCOL_VERSION: u32 = 1;

/// From a worker to its master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "camelCase")]
pub enum ToMaster {
    /// The first thing a worker says: it runs and has a ring.
    Online {
        /// [`PROTOCOL_VERSION`] of the worker.
        protocol: u32,
        /// What its ring can do.
        ring: RingReport,
    },
    /// Said instead of `Online`: the kernel gives it no ring.
    Refused {
        /// Why not.
        cause: RingRefusal,
    },
    /// It accepts connections on the listener with this number (its place in `Start::listeners`).
    Listening {
        /// Which listener.
        listener: usize,
    },
    /// It cannot start for a reason of its own and will exit.
    Failed {
        /// One line.
        problem: String,
    },
    /// It wants to be replaced.
    Suicide,
}

/// From the master to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "camelCase")]
#[expect(clippy::large_enum_variant, reason = "these are made and read one at a time, never kept")]
pub enum ToWorker {
    /// The configuration; the listeners follow, one acknowledged handle each.
    Start(Start),
    /// Accept no more, finish, exit.
    Drain {
        /// The whole server stops: whoever finds the accept queue empty shuts the listening socket down for all.
        stop: bool,
    },
    /// The answer to a suicide while restarts are throttled: stay and serve.
    Stay,
    /// Give up every client connection: each comes back as a `net.Socket` handle with what was read but not answered.
    Release,
}

/// The content of [`ToWorker::Start`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// Identifies the worker process.
    pub id: u32,
    /// Its place in the pool.
    pub slot: usize,
    /// The core to pin to.
    pub core: Option<usize>,
    /// The listeners that will follow, as the user typed them.
    pub listeners: Vec<String>,
    /// The worker's part of the configuration.
    pub settings: WorkerSettings,
}

/// What a worker's ring can do; said once, printed at start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingReport {
    /// `uname -r`.
    pub kernel: String,
    /// Features in use.
    pub using: Vec<String>,
    /// Features that this kernel lacks and that are done without.
    pub missing: Vec<String>,
}

/// A client connection on its way from one worker to another, beside its socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Travelling {
    /// The client's address, `None` on Unix sockets.
    pub peer: Option<std::net::SocketAddr>,
    /// Bytes that were read from it and not answered yet.
    pub unread: Vec<u8>,
}
