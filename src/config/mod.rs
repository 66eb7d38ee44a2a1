//! Configuration: `options` is what was typed (flags, environment, file), `Config` is what it means: checked, resolved,
//! complete. Parsed in the master, at the start and on a reload; workers get what they need of it in the `start` message
//! and never parse. `given` puts the layers together and `origin` says which one each value came from, `toml` reads
//! the file.
//!
//! Neighbours: `cli`, `cluster` and `server` make one, `master` acts on it; `ipc::message` carries `WorkerSettings`.

mod access_log;
mod files;
mod given;
pub mod options;
mod origin;
mod resolve;
mod toml;
mod written;

use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::option;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::access_log::Format as AccessLogFormat;
pub use files::{FileSettings, Symlinks};
pub(crate) use given::{Given, assemble, message};
pub use options::Options;
pub use origin::{Origin, Origins, Setting};
pub(crate) use toml::read as read_file;
pub(crate) use written::default_of;

/// Descriptors a process needs besides its clients' connections: listeners, ring, channel, log, files in passing.
/// `max_connections` plus this is what the soft RLIMIT_NOFILE must allow.
pub(crate) const DESCRIPTOR_RESERVE: u64 = 64;

/// Everything the master needs to know, with nothing left to check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Where to listen, in the order given; never empty.
    pub listen: Vec<Listen>,
    /// Nobody has asked for an address.
    pub listens_by_default: bool,
    /// Permission bits of Unix socket files.
    pub unix_mode: u32,
    /// How many workers are wanted at start; at least one.
    pub workers: usize,
    /// The length asked for each listener's accept queue.
    pub backlog: u32,
    /// The cores to pin to: slot `n` gets `cores[n % cores.len()]`; empty means unpinned.
    pub cores: Vec<usize>,
    /// Whom the workers become once the sockets are bound; `None` keeps the user uringd was started as.
    pub user: Option<User>,
    /// How long a draining worker may take before it is killed.
    pub kill_timeout: Duration,
    /// Unplanned restarts allowed within `restart_window`; one more is a giveup.
    pub restart_limit: u32,
    /// See `restart_limit`.
    pub restart_window: Duration,
    /// How long a worker may take from its start to its last `listening`.
    pub boot_timeout: Duration,
    /// How long a worker's loop may stand still.
    pub stall_timeout: Duration,
    /// Requests after which a worker is replaced.
    pub max_requests: Option<u64>,
    /// Age at which a worker is replaced.
    pub max_lifetime: Option<Duration>,
    /// Octets of RssAnon at which a worker is replaced.
    pub max_memory: Option<u64>,
    /// What is run on a giveup.
    pub on_giveup: Option<String>,
    /// What a worker does when the program's code panics in it.
    pub on_panic: OnPanic,
    /// Client connections per worker; at the limit accepting pauses.
    pub max_connections: u32,
    /// How long a request's head may take from its first byte (a new connection's: from accept).
    pub header_timeout: Duration,
    /// How long a connection may stay idle between requests.
    pub keep_alive_timeout: Duration,
    /// How long a client may take none of the bytes sent to it.
    pub send_timeout: Duration,
    /// The longest request body that is taken, in octets; longer ones get 413.
    pub max_body: u64,
    /// How often a body is looked at for `body_rate`.
    pub body_timeout: Duration,
    /// Octets a second that a body must bring on average over each `body_timeout`; 0: anything at all.
    pub body_rate: u64,
    /// Whether answers carry `Server: uringd`.
    pub server_header: bool,
    /// What is served from the file system, if anything.
    pub files: Option<FileSettings>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The least severe level that is logged.
    pub log_level: LogLevel,
    /// Where the master writes its process ID.
    pub pid_file: Option<PathBuf>,
    /// Where the master is asked and told.
    pub control: Control,
    /// Where metrics are read.
    pub metrics: Option<Listen>,
    /// Where requests are written.
    pub access_log: Option<AccessLog>,
    /// How they are.
    pub access_log_format: AccessLogFormat,
    /// Where the master writes latencies every second.
    pub latency_log: Option<PathBuf>,
    /// Where it writes those of all requests at exit.
    pub latency_report: Option<PathBuf>,
    /// What is allowed but worth a warning, one line each; logged at start.
    pub warnings: Vec<String>,
}

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listen {
    /// `[::]:port` for both families, `0.0.0.0:port` where there is no IPv6: Node's `listen(port)`.
    DualStack(u16),
    /// One TCP address.
    Tcp(SocketAddr),
    /// A Unix stream socket at this path.
    Unix(PathBuf),
}

/// `--control`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Below /run/uringd or XDG_RUNTIME_DIR, named by the port.
    #[default]
    Auto,
    /// There is none.
    Off,
    /// A Unix socket at this path.
    Path(PathBuf),
}

/// `--access-log`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// A user and groups to switch to, resolved.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name as given.
    pub name: String,
    /// User ID.
    pub uid: u32,
    /// Primary group ID.
    pub gid: u32,
    /// All supplementary group IDs (the user's own, or only the group given).
    pub groups: Vec<u32>,
}

/// `--on-panic`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnPanic {
    /// It answers 500, asks to be replaced, and goes on until its replacement listens: no other request notices, and
    /// state that the panic left halfway through a change does not last. Costs one restart of those --restart-limit allows
    #[default]
    Suicide,
    /// It answers 500 and stays: costs nothing but that answer, and is right where no state outlives a request
    Continue,
    /// It crashes at once (SIGABRT, a core dump where those are kept): its other clients are cut off as well. Costs one
    /// restart
    Abort,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what is worth a look.
    Warn,
    /// And what happened.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And everything.
    Trace,
}

/// What a worker needs of the configuration; travels in the `start` message.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// See [`Config::user`].
    pub user: Option<User>,
    /// See [`Config::kill_timeout`].
    pub kill_timeout: Duration,
    /// See [`Config::on_panic`].
    pub on_panic: OnPanic,
    /// See [`Config::max_connections`].
    pub max_connections: u32,
    /// See [`Config::header_timeout`].
    pub header_timeout: Duration,
    /// See [`Config::keep_alive_timeout`].
    pub keep_alive_timeout: Duration,
    /// See [`Config::send_timeout`].
    pub send_timeout: Duration,
    /// See [`Config::max_body`].
    pub max_body: u64,
    /// See [`Config::body_timeout`].
    pub body_timeout: Duration,
    /// See [`Config::body_rate`].
    pub body_rate: u64,
    /// See [`Config::server_header`].
    pub server_header: bool,
    /// See [`Config::files`].
    pub files: Option<FileSettings>,
    /// How requests are written, if they are; where to, is sent as a descriptor.
    pub access_log: Option<AccessLogFormat>,
    /// See [`Config::log_format`].
    pub log_format: LogFormat,
    /// See [`Config::log_level`].
    pub log_level: LogLevel,
}

impl Config {
    /// Checks and resolves what was typed: users, cores, addresses, limits, the directory of files.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a value that cannot be used,
    /// [`Error::TooFewDescriptors`](crate::Error::TooFewDescriptors) when the hard limit is too low.
    pub fn resolve(options: &Options) -> Result<Config> {
        resolve::resolve(options)
    }

    /// The core of a slot: its own while there are as many cores as workers, round robin beyond.
    pub fn core_of(&self, slot: usize) -> Option<usize> {
        (!self.cores.is_empty()).then(|| self.cores[slot % self.cores.len()])
    }

    /// The part that workers get.
    pub fn worker_settings(&self) -> WorkerSettings {
        WorkerSettings {
            user: self.user.clone(),
            kill_timeout: self.kill_timeout,
            on_panic: self.on_panic,
            max_connections: self.max_connections,
            header_timeout: self.header_timeout,
            keep_alive_timeout: self.keep_alive_timeout,
            send_timeout: self.send_timeout,
            max_body: self.max_body,
            body_timeout: self.body_timeout,
            body_rate: self.body_rate,
            server_header: self.server_header,
            files: self.files.clone(),
            access_log: self.access_log.as_ref().map(|_| self.access_log_format),
            log_format: self.log_format,
            log_level: self.log_level,
        }
    }
}

impl Listen {
    /// The address and port; `None` for a Unix socket.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Listen::DualStack(port) => Some((Ipv6Addr::UNSPECIFIED, *port).into()),
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        }
    }
}

/// A client's way to it: `TcpStream::connect(address)`. Fails for a Unix socket, which has a path instead.
impl ToSocketAddrs for Listen {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        match self.socket_addr() {
            Some(address) => Ok(Some(address).into_iter()),
            None => {
                let problem = format!("{self} has a path: connect to that with UnixStream");
                Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
            }
        }
    }
}

/// As a user would type it after `--listen`.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::DualStack(port) => write!(f, "[::]:{port}"),
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
