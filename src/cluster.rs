//! The public builder: `Cluster` in the program's `main` is the master in one process and a worker in the others.
//!
//! Neighbours: makes a `Config` from the program's words or its flags, then runs `master` or `worker`.

use crate::config::{Config, Listen, Options, options};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::handler::IntoHandler;
use crate::ipc::node;
use crate::master::Pool;
use crate::sys::process;
use crate::worker::{self, Worker};
use crate::{cli, master};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, OnceLock};

/// A pool of worker processes behind one set of listening sockets.
///
/// `run` is called in every process of the cluster: the first one becomes the master and starts this same executable
/// once per worker; those are recognised by a mark in their environment. So whatever stands before `run` runs in
/// every process, and a test harness cannot be started again as a worker: tests have [`Server`](crate::Server).
///
/// Call `run` before there is a second thread: it takes the signals, and it writes the master's title over the program's
/// arguments. ([`Pool`] says when a thread of the master's may start.) Read `std::env::args` before it; from then on they
/// are not what they were.
///
/// ```no_run
/// use uringd::{Cluster, Request, Response};
///
/// fn main() -> uringd::Result<()> {
///     Cluster::new()
///         .listen("127.0.0.1:1337")
///         .run(|worker| move |_: &Request<'_>| Response::text(format!("hello from {}", worker.id())))
/// }
/// ```
#[must_use = "a cluster does nothing before `run`"]
pub struct Cluster {
    options: Options,
    problem: Option<Error>,
    on_event: Box<dyn FnMut(&Event)>,
    pool: Pool,
}

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It was started by a user: `run` makes it the master.
    Master,
    /// It was started by a master: `run` serves.
    Worker,
}

impl Cluster {
    /// One worker per core on port 1337; see [`Options`] for everything else.
    pub fn new() -> Cluster {
        Cluster { options: Options::default(), problem: None, on_event: Box::new(|_| {}), pool: Pool::new() }
    }

    /// Gives the program all of uringd's flags and `URINGD_*` variables. Ends the process after `--help` (exit code
    /// 0) and after wrong usage (2). A worker of a uringd master parses nothing: it gets the master's configuration.
    /// A worker of a Node master finds its flags behind the word `worker`.
    pub fn from_args() -> Cluster {
        let options = match this_process() {
            Ok(Process::Worker { master: worker::Master::Uringd { .. }, .. }) => Options::default(),
            Ok(Process::Worker { master: worker::Master::Foreign { .. }, .. }) => {
                let mut arguments: Vec<_> = std::env::args_os().collect();
                arguments.remove(1);
                cli::parse_or_exit(arguments)
            }
            Ok(Process::Master) => cli::parse(),
            // `run` says what is wrong; it would be odd to find fault with the flags first
            Err(_) => Options::default(),
        };
        Cluster { options, ..Cluster::new() }
    }

    /// Whether this process is the master or a worker; for code before `run`.
    pub fn role() -> Role {
        match this_process() {
            Ok(Process::Worker { .. }) => Role::Worker,
            Ok(Process::Master) | Err(_) => Role::Master,
        }
    }

    /// Listens on one more address: `127.0.0.1:1337`, `[::1]:1337`, `unix:/path`. Replaces the default port. What is
    /// wrong with it is said by `run`.
    pub fn listen(mut self, address: impl AsRef<str>) -> Cluster {
        match address.as_ref().parse::<Listen>() {
            Ok(address) => self.options.listen.push(address),
            Err(problem) => {
                self.problem.get_or_insert(Error::config(format!("listen({:?})", address.as_ref()), problem));
            }
        }
        self
    }

    /// Starts so many workers instead of one per core.
    pub fn workers(mut self, count: usize) -> Cluster {
        self.options.workers = options::Workers::Count(count);
        self
    }

    /// Takes all options at once; those of [`Cluster::listen`] and [`Cluster::workers`] included.
    pub fn options(mut self, options: Options) -> Cluster {
        self.options = options;
        self
    }

    /// Calls this in the master for every event, after it was logged, on the thread that supervises: it must not wait. A
    /// panic in it is logged and costs nothing else: the workers serve on, and it is called for the next event as before,
    /// with whatever state the panic has left.
    pub fn on_event(mut self, call: impl FnMut(&Event) + 'static) -> Cluster {
        self.on_event = Box::new(call);
        self
    }

    /// The workers, for the program in the master: messages and sockets to them, signals, replacement. For `on_event`, and
    /// for threads of the master's.
    pub fn pool(&self) -> Pool {
        match Cluster::role() {
            Role::Master => self.pool.clone(),
            Role::Worker => Pool::closed(),
        }
    }

    /// Serves until told to stop. In the master it returns when the last worker is gone; in a worker it does not
    /// return at all.
    ///
    /// `make` is called once in each worker process and gives its handler: state made there needs no `Send`, `Sync`
    /// or `Arc`. It may fail: a `Result` of a handler will do. Then this worker does not come up, the master has its error
    /// (and the errors beneath that one) in an [`Event::Error`], and tries again as after any crash, as often as
    /// `--restart-limit` allows; while workers are replaced one by one (SIGHUP) the old ones stay.
    ///
    /// ```no_run
    /// use uringd::{Cluster, Files};
    ///
    /// fn main() -> uringd::Result<()> {
    ///     Cluster::new().run(|_worker| Files::new("site"))
    /// }
    /// ```
    ///
    /// # Errors
    /// Why the master could not run, or [`Error::GaveUp`].
    pub fn run<H: IntoHandler>(self, make: impl FnOnce(Worker) -> H) -> Result<()> {
        match this_process().as_ref().map_err(|problem| Error::config("worker", problem.clone()))? {
            Process::Master => match self.problem {
                Some(problem) => Err(problem),
                None => {
                    let options = self.options;
                    let config = Config::resolve(&options)?;
                    let reread = Box::new(move || Config::resolve(&options));
                    master::run(config, reread, self.on_event, &self.pool)
                }
            },
            Process::Worker { inherited, master } => {
                let inherited = inherited.lock().ok().and_then(|mut inherited| inherited.take());
                let Inherited { channel, stats } =
                    inherited.ok_or_else(|| Error::config("run", "it was called twice"))?;
                let own_settings = || Ok(Config::resolve(&self.options)?.worker_settings());
                let code = worker::run(channel, stats, *master, own_settings, make).unwrap_or_else(|error| {
                    match master {
                        worker::Master::Uringd { .. } => {
                            tracing::error!("{error}");
                            1
                        }
                        // nobody else says it, and there may be no log yet
                        worker::Master::Foreign { .. } => {
                            error.report();
                            error.exit_code().into()
                        }
                    }
                });
                std::process::exit(code)
            }
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster::new()
    }
}

enum Process {
    Master,
    Worker { inherited: Mutex<Option<Inherited>>, master: worker::Master },
}

/// What a worker has from its master.
struct Inherited {
    channel: OwnedFd,
    /// The memory that it counts in.
    stats: Option<OwnedFd>,
}

/// Decided once, since the marks are taken out of the environment at once: no grandchild may inherit them.
fn this_process() -> &'static std::result::Result<Process, String> {
    static PROCESS: OnceLock<std::result::Result<Process, String>> = OnceLock::new();
    PROCESS.get_or_init(|| {
        let names =
            [node::WORKER_MARK, node::CHANNEL_FD, node::SERIALIZATION_MODE, node::STATS_FD, node::UNIQUE_ID];
        let mut values = process::take_variables(&names).into_iter();
        let mut next = || values.next().flatten();
        let (mark, channel, serialization, stats) = (next(), next(), next(), next());
        let number = |text: Option<OsString>| text.and_then(|text| text.to_str()?.parse().ok());
        let (number, stats) = (number(channel), number(stats));
        let master = match mark.and_then(|text| text.to_str()?.parse().ok()) {
            Some(pid) => worker::Master::Uringd { pid },
            None if std::env::args_os().nth(1).is_some_and(|first| first == "worker") => {
                worker::Master::Foreign { pid: process::parent() }
            }
            None => {
                // somebody else's channel, if there is one: uringd itself may have been started by Node
                number.into_iter().for_each(process::do_not_inherit);
                return Ok(Process::Master);
            }
        };
        node::check_serialization(serialization.as_deref()).map_err(|error| error.to_string())?;
        let channel = number.and_then(process::take_descriptor).ok_or_else(|| {
            format!(
                "`worker` is what a master starts, with a channel in {}; leave it out to start a server",
                node::CHANNEL_FD
            )
        })?;
        // a foreign master gives none, so whose the number is nobody knows
        let ours = matches!(master, worker::Master::Uringd { .. });
        let stats = stats.filter(|stats| ours && Some(*stats) != number).and_then(process::take_descriptor);
        Ok(Process::Worker { inherited: Mutex::new(Some(Inherited { channel, stats })), master })
    })
}
