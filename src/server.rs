//! The single-process mode: one worker without a master, in the calling thread, for tests and small programs.
//!
//! Neighbours: `cluster` is the other way to serve; the sockets come from `master::listeners`, the loop is `worker`'s.

use crate::config::options::{Pin, Workers, format_size};
use crate::config::{Config, Control, DESCRIPTOR_RESERVE, Listen, OnPanic, Options, WorkerSettings};
use crate::error::{Error, Result};
use crate::handler::IntoHandler;
use crate::http::chain;
use crate::master::listeners::{self, Bound};
use crate::worker;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{Resource, getrlimit};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// One worker, in this process and on this thread: the same ring, loop and limits as each worker of a
/// [`Cluster`](crate::Cluster), without the master that would replace it.
///
/// ```
/// use std::net::TcpStream;
/// use std::io::{Read, Write};
/// use std::thread;
/// use uringd::{Request, Response, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let (address, stop) = (server.local_addr(), server.stop_handle());
/// let serving = thread::spawn(|| {
///     let mut requests = 0;
///     server.serve(move |_: &Request<'_>| {
///         requests += 1;
///         Response::text(format!("request {requests}"))
///     })
/// });
///
/// let mut client = TcpStream::connect(address)?;
/// client.write_all(b"GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("request 1"));
///
/// stop.stop();
/// serving.join().expect("no panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It leaves the process alone: it handles and ignores no signals, starts no log, changes no name, user or limit, pins
/// nothing unless [`Options::pin`] names cores, and never exits. (Its panic hook is the process's; it is installed once
/// and passes on every panic that is not a handler's.) Several can serve at the same time, each on a thread of its own.
///
/// A panic in a handler answers 500, is logged through `tracing` (or printed, where nobody has started a log), and the
/// server goes on: nobody could replace it.
#[derive(Debug)]
#[must_use = "a server does nothing before `serve`"]
pub struct Server {
    bound: Vec<Bound>,
    settings: WorkerSettings,
    core: Option<usize>,
    access_log: Option<OwnedFd>,
    stop: Arc<EventFd>,
}

/// Stops a [`Server`], from any thread, its own handler's included. Clones stop the same server. Dropping one does
/// nothing.
#[derive(Clone)]
pub struct StopHandle(Arc<EventFd>);

impl Server {
    /// Listens on this address: `127.0.0.1:0` (a port of the kernel's choice), `[::1]:80`, `unix:/path`. Clients can
    /// connect from now on, and wait for [`Server::serve`].
    ///
    /// # Errors
    /// [`Error::Config`] if it is no address; [`Error::AddressInUse`] and the others that say why it cannot be had.
    pub fn bind(address: impl AsRef<str>) -> Result<Server> {
        let address = address.as_ref();
        let listen: Listen = address
            .parse()
            .map_err(|problem: String| Error::config(format!("bind({address:?})"), problem))?;
        Server::with_options(&Options { listen: vec![listen], ..Options::default() })
    }

    /// Listens on all addresses of [`Options::listen`] (and [`Options::port`]), with these limits. What concerns a
    /// cluster (restarts) or its log does not matter here. The file of [`Options::access_log`] is opened now, and not again:
    /// rotate it by copying and truncating.
    ///
    /// ```
    /// use std::time::Duration;
    /// use uringd::{Server, config::Options};
    ///
    /// let server = Server::with_options(&Options {
    ///     listen: vec!["127.0.0.1:0".parse()?, "[::1]:0".parse()?],
    ///     kill_timeout: Duration::from_millis(500),
    ///     ..Options::default()
    /// })?;
    /// assert_eq!(server.local_addrs().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Server::bind`]; [`Error::Config`] for a value that cannot be used, and for what a part of a process cannot
    /// do: [`Options::user`], [`Options::pid_file`], [`Options::control`] (a path), [`Options::metrics`],
    /// [`Options::on_giveup`], [`Options::stall_timeout`], [`Options::max_requests`], [`Options::max_lifetime`],
    /// [`Options::max_memory`], [`Options::latency_log`], [`Options::latency_report`], several [`Options::workers`],
    /// [`OnPanic::Abort`], and [`Options::root`] (give `serve` a [`Files`](crate::Files) instead).
    pub fn with_options(options: &Options) -> Result<Server> {
        check_options(options)?;
        let config = Config::resolve(options)?;
        let files_max = getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| Error::io("read RLIMIT_NOFILE", e))?.0;
        let max_connections = limit_connections(options.max_connections, config.max_connections, files_max)?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|e| Error::io("make an eventfd", e))?;
        Ok(Server {
            settings: WorkerSettings { max_connections, ..config.worker_settings() },
            access_log: config.open_access_log()?,
            core: matches!(options.pin, Pin::Cores(_)).then(|| config.core_of(0)).flatten(),
            stop: Arc::new(stop),
            bound: listeners::bind_all(&config.listen, config.backlog, config.unix_mode)?,
        })
    }

    /// Where it listens, with the port that the kernel chose; the first address if there are several. A client connects
    /// to it with `TcpStream::connect(address)`, or to the path of [`Listen::Unix`].
    pub fn local_addr(&self) -> Listen {
        self.bound[0].address.clone()
    }

    /// All addresses, in the order of [`Options::listen`], after that of [`Options::port`].
    pub fn local_addrs(&self) -> Vec<Listen> {
        self.bound.iter().map(|bound| bound.address.clone()).collect()
    }

    /// What stops it, now or later.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.stop))
    }

    /// Serves on this thread until it is stopped and has finished: see [`StopHandle::stop`].
    ///
    /// ```
    /// use uringd::{Request, Response, Server, Status};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// # server.stop_handle().stop();
    /// server.serve(|request: &Request<'_>| match request.path() {
    ///     "/" => Response::text("hello"),
    ///     _ => Status::NOT_FOUND.into(),
    /// })?;
    /// # Ok::<(), uringd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Factory`] if it was given the error of a `Result` instead of a handler; [`Error::Ring`] if the kernel
    /// gives this thread no ring; [`Error::Io`] if the ring breaks later.
    pub fn serve(self, handler: impl IntoHandler) -> Result<()> {
        let handler = handler.into_handler().map_err(|error| Error::Factory { problem: chain(&*error) })?;
        // the files of Unix sockets are removed when serving is over
        let (sockets, _files): (Vec<_>, Vec<_>) = self.bound.into_iter().map(Bound::into_parts).unzip();
        worker::run_alone((self.settings, self.access_log), self.core, sockets, self.stop, handler)
    }
}

impl StopHandle {
    /// Has the server accept no more, answer what it has received, and return from [`Server::serve`]. Clients that keep
    /// idle connections are given until a second before [`Options::kill_timeout`] to send a request or leave. At the kill
    /// timeout whatever is still in flight is cut; only a handler that blocks can hold up the server for longer.
    ///
    /// Before `serve`, it makes `serve` return as soon as the clients that have connected are answered. A second time,
    /// or when the server is gone, it does nothing.
    pub fn stop(&self) {
        let _ = self.0.write(1); // full only after 2^64 calls
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopHandle")
    }
}

fn check_options(options: &Options) -> Result<()> {
    const ALONE: &str = "a Server leaves the process as it is, use a Cluster or leave it out";
    if let Some(user) = &options.user {
        return Err(Error::config(format!("--user {user}"), ALONE));
    }
    if let Some(file) = &options.pid_file {
        return Err(Error::config(format!("--pid-file {}", file.display()), ALONE));
    }
    let latencies = [("--latency-log", &options.latency_log), ("--latency-report", &options.latency_report)];
    for (flag, file) in latencies {
        if let Some(file) = file {
            return Err(Error::config(format!("{flag} {}", file.display()), ALONE));
        }
    }
    if let Control::Path(path) = &options.control {
        return Err(Error::config(format!("--control {}", path.display()), ALONE));
    }
    if let Some(address) = &options.metrics {
        return Err(Error::config(format!("--metrics {address}"), ALONE));
    }
    if options.on_giveup.is_some() {
        return Err(Error::config("--on-giveup", ALONE));
    }
    if let Some(option) = supervision(options) {
        return Err(Error::config(
            option,
            "a Server has nobody to replace it, use a Cluster or leave it out",
        ));
    }
    if options.on_panic == OnPanic::Abort {
        return Err(Error::config("--on-panic abort", ALONE));
    }
    if let Some(root) = &options.root {
        let problem = "a Server serves what its handler gives, make that `Files::new(root)`";
        return Err(Error::config(format!("--root {}", root.display()), problem));
    }
    match options.workers {
        Workers::Auto | Workers::Count(1) => Ok(()),
        Workers::Count(count) => {
            Err(Error::config(format!("--workers {count}"), "a Server is one worker, use a Cluster for more"))
        }
    }
}

/// The first option, as typed, that only a master can act on.
fn supervision(options: &Options) -> Option<String> {
    let time = humantime::format_duration;
    let stall = (options.stall_timeout != Options::default().stall_timeout).then_some(options.stall_timeout);
    let all = [
        stall.map(|limit| format!("--stall-timeout {}", time(limit))),
        options.max_requests.map(|limit| format!("--max-requests {limit}")),
        options.max_lifetime.map(|limit| format!("--max-lifetime {}", time(limit))),
        options.max_memory.map(|limit| format!("--max-memory {}", format_size(limit))),
    ];
    all.into_iter().flatten().next()
}

/// A ring has no room for more connections than its process may open files, and that limit is not ours to raise.
fn limit_connections(asked: Option<u32>, resolved: u32, files_max: u64) -> Result<u32> {
    let room = u32::try_from(files_max.saturating_sub(DESCRIPTOR_RESERVE)).unwrap_or(u32::MAX);
    match asked {
        Some(count) if count > room => {
            let problem = format!(
                "this process may open {files_max} files, room for {room}: raise that (ulimit -n) or lower it"
            );
            Err(Error::config(format!("--max-connections {count}"), problem))
        }
        _ => Ok(resolved.min(room).max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_was_asked_for_is_never_lowered() {
        let table = [
            (None, 16_384, 20_000, Ok(16_384)),
            (None, 16_384, 1_024, Ok(960)),
            (None, 16_384, 10, Ok(1)),
            (Some(100), 100, 1_024, Ok(100)),
            (Some(960), 960, 1_024, Ok(960)),
            (Some(961), 961, 1_024, Err("may open 1024 files, room for 960")),
        ];
        for (asked, resolved, files_max, expected) in table {
            match (limit_connections(asked, resolved, files_max), expected) {
                (Ok(limit), Ok(expected)) => assert_eq!(limit, expected),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (got, _) => panic!("{asked:?} of {files_max}: {got:?}"),
            }
        }
    }
}
