//! The public builder: `Cluster` in the program's `main` is the master in one process and a worker in the others.
//!
//! Neighbours: makes a `Config` from the program's words or from `cli::Source`, then runs `master` or `worker`.

use crate::config::options::Workers;
use crate::config::{Config, Listen, Options, Origins};
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
    settings: Settings,
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
        let settings = Settings { base: Base::Code(Box::default()), changes: vec![] };
        Cluster { settings, problem: None, on_event: Box::new(|_| {}), pool: Pool::new() }
    }

    /// Gives the program all of uringd's flags and `URINGD_*` variables, a configuration file (`--config`), and what
    /// uringd can do besides serving (`check`, `completions`, `man`, `--print-config`): whoever operates the program has
    /// then all of it at hand, in the version that runs.
    ///
    /// Ends the process after all but serving, after `--help` (exit code 0) and after wrong usage (2): call it first. What
    /// is changed behind it, as in `Cluster::from_args().workers(2)`, is stronger than what was typed, and `check` does not
    /// know of it.
    ///
    /// A worker of a uringd master parses nothing: it gets the master's configuration. A worker of a Node master finds
    /// its flags, `--config` too, behind the word `worker`.
    pub fn from_args() -> Cluster {
        let source = match this_process() {
            Ok(Process::Worker { master: worker::Master::Foreign { .. }, .. }) => {
                let mut arguments: Vec<_> = std::env::args_os().collect();
                arguments.remove(1);
                cli::start_worker(arguments)
            }
            Ok(Process::Master) => cli::start(),
            Ok(Process::Worker { master: worker::Master::Uringd { .. }, .. }) => return Cluster::new(),
            // `run` says what is wrong; it would be odd to find fault with the flags first
            Err(_) => return Cluster::new(),
        };
        // `run` reads again, but what is wrong is wrong now
        if let Err(error) = source.read() {
            error.report();
            std::process::exit(error.exit_code().into());
        }
        Cluster { settings: Settings { base: Base::Arguments(source), changes: vec![] }, ..Cluster::new() }
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
            Ok(address) => self.settings.changes.push(Change::Listen(address)),
            Err(problem) => {
                self.problem.get_or_insert(Error::config(format!("listen({:?})", address.as_ref()), problem));
            }
        }
        self
    }

    /// Starts so many workers instead of one per core.
    pub fn workers(mut self, count: usize) -> Cluster {
        self.settings.changes.push(Change::Workers(count));
        self
    }

    /// Takes all options at once; those of [`Cluster::listen`] and [`Cluster::workers`] included.
    pub fn options(mut self, options: Options) -> Cluster {
        self.settings = Settings { base: Base::Code(Box::new(options)), changes: vec![] };
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
                    let settings = self.settings;
                    master::run(Box::new(move || settings.resolve()), self.on_event, &self.pool)
                }
            },
            Process::Worker { inherited, master } => {
                let inherited = inherited.lock().ok().and_then(|mut inherited| inherited.take());
                let Inherited { channel, stats } =
                    inherited.ok_or_else(|| Error::config("run", "it was called twice"))?;
                let own_settings = || {
                    let (config, _) = self.settings.resolve()?;
                    Ok((config.worker_settings(), config.open_access_log()?))
                };
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

/// What the configuration is made of, so that it can be made again.
#[derive(Debug)]
struct Settings {
    base: Base,
    /// By the program's code, in this order.
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Base {
    /// The command line, the environment and the file.
    Arguments(cli::Source),
    Code(Box<Options>),
}

#[derive(Debug)]
enum Change {
    Listen(Listen),
    Workers(usize),
}

impl Settings {
    /// Reads the file again, if there is one.
    fn read(&self) -> Result<(Options, Origins)> {
        let (mut options, mut origins) = match &self.base {
            Base::Arguments(source) => source.read()?,
            Base::Code(options) => (Options::clone(options), Origins::of_code(options)),
        };
        for change in &self.changes {
            let name = change.apply(&mut options);
            origins.overrule(name, &options);
        }
        Ok((options, origins))
    }

    /// The same, checked: what the master acts on.
    fn resolve(&self) -> Result<(Config, Origins)> {
        let (options, origins) = self.read()?;
        let config = Config::resolve(&options).map_err(|error| origins.blame(error))?;
        Ok((config, origins))
    }
}

impl Change {
    /// Gives the name of what has changed.
    fn apply(&self, options: &mut Options) -> &'static str {
        match self {
            Change::Listen(address) => {
                options.listen.push(address.clone());
                "listen"
            }
            Change::Workers(count) => {
                options.workers = Workers::Count(*count);
                "workers"
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    #[test]
    fn what_code_has_set_is_the_same_when_it_is_read_again() {
        let options = Options { restart_limit: 3, ..Options::default() };
        let cluster = Cluster::new().workers(7).options(options).listen("127.0.0.1:0").workers(2);
        for _ in 0..2 {
            let (options, origins) = cluster.settings.read().unwrap();
            assert_eq!((options.restart_limit, options.workers), (3, Workers::Count(2)));
            assert_eq!(options.listen.len(), 1);
            assert!(origins.0.iter().all(|setting| setting.origin == Origin::Code));
            let value =
                |name: &str| origins.0.iter().find(|setting| setting.name == name).unwrap().value.clone();
            assert_eq!(value("listen").as_deref(), Some("127.0.0.1:0"));
            assert_eq!((value("workers").as_deref(), value("port")), (Some("2"), None));
        }
    }
}
