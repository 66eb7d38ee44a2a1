//! A server that runs: in a process group of its own on the servers' cores, its log in a file; it is there when it gives
//! the small answer, and when this value is dropped nothing of it is left.

use crate::affinity::Cores;
use crate::guard::Guard;
use crate::machine::{self, Cpu, Stat};
use crate::peers::{Peer, Setup};
use crate::server;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to come up.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to go when it is asked to; some wait for their connections.
const STOP_PATIENCE: Duration = Duration::from_millis(500);
/// How long its processes may take to end when they are killed.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// Somebody may take the port between our look and the server's bind.
const START_ATTEMPTS: usize = 3;
const LOG_LINES: usize = 5;
/// Where servers listen.
const PORTS: Range<u16> = 10_240..30_000;
const PAUSE: Duration = Duration::from_millis(10);

/// A server.
pub struct Running<'a> {
    /// Which.
    pub peer: &'static Peer,
    /// Where it listens.
    pub port: u16,
    child: Child,
    guard: &'a Guard,
}

/// Starts any program in a process group that ends with the bench.
pub fn spawn(command: &mut Command, guard: &Guard) -> io::Result<Child> {
    let child = command.process_group(0).stdin(Stdio::null()).spawn()?;
    guard.watch(child.id() as i32);
    Ok(child)
}

impl<'a> Running<'a> {
    /// Starts it and waits until it answers. An error has the last lines of its log.
    pub fn start(
        peer: &'static Peer,
        setup: &Setup,
        cores: &Cores,
        guard: &'a Guard,
    ) -> Result<Running<'a>, String> {
        let mut problem = String::new();
        for _ in 0..START_ATTEMPTS {
            match Running::attempt(peer, &Setup { port: free_port()?, ..*setup }, cores, guard) {
                Err(again) if again.contains("ddress already in use") => problem = again,
                other => return other,
            }
        }
        Err(problem)
    }

    fn attempt(
        peer: &'static Peer,
        setup: &Setup,
        cores: &Cores,
        guard: &'a Guard,
    ) -> Result<Running<'a>, String> {
        let log = setup.scratch.join(format!("{}.log", peer.name));
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = peer.command(setup)?;
        command.stdout(file.try_clone().map_err(|error| error.to_string())?).stderr(file);
        let child = cores.as_server(|| spawn(&mut command, guard))?;
        let child = child.map_err(|error| format!("cannot be started: {error}"))?;
        let mut running = Running { peer, port: setup.port, child, guard };
        match running.wait_until_it_answers() {
            Ok(()) => Ok(running),
            Err(reason) => Err(with_log(reason, &log)),
        }
    }

    fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended at once, {status}"));
            }
            match answer(self.port) {
                Ok(answer) if answer.ends_with(&format!("\r\n\r\n{}", server::ANSWER)) => return Ok(()),
                Ok(answer) => return Err(format!("gives another answer than was asked for: {answer:?}")),
                Err(error) if Instant::now() > deadline => {
                    return Err(format!("does not answer within {} s: {error}", START_PATIENCE.as_secs()));
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// The process that was started: a master, where there is one.
    pub fn master(&self) -> i32 {
        self.child.id() as i32
    }

    /// All its processes.
    pub fn processes(&self) -> Vec<i32> {
        members(self.master()).collect()
    }

    /// The master's children, by number.
    pub fn workers(&self) -> Vec<i32> {
        let master = self.master();
        let mut workers: Vec<i32> = all_processes()
            .filter(|(_, stat)| stat.parent == master && stat.alive)
            .map(|(pid, _)| pid)
            .collect();
        workers.sort_unstable();
        workers
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.master());
        let deadline = Instant::now() + STOP_PATIENCE;
        let _ = kill(group, Signal::SIGTERM);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(PAUSE);
        }
        end_group(&mut self.child, self.guard);
    }
}

/// Kills what is left of a program's process group, and waits for it.
pub fn end_group(child: &mut Child, guard: &Guard) {
    let group = child.id() as i32;
    let deadline = Instant::now() + END_PATIENCE;
    // ESRCH: there is nobody left
    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    let _ = child.wait();
    // workers are waited for by somebody else; when they are zombies they hold nothing any more
    while members(group).next().is_some() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    guard.forget(group);
}

fn members(group: i32) -> impl Iterator<Item = i32> {
    all_processes().filter(move |(_, stat)| stat.group == group && stat.alive).map(|(pid, _)| pid)
}

/// What these processes have used of their CPU, children that were waited for included.
pub fn cpu_of(processes: &[i32]) -> Cpu {
    processes.iter().filter_map(|pid| stat_of(*pid)).fold(Cpu::default(), |sum, stat| sum + stat.cpu)
}

/// Their anonymous memory in KiB.
pub fn rss_anon_of(processes: &[i32]) -> u64 {
    let status = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/status")).ok();
    processes.iter().filter_map(status).filter_map(|text| machine::parse_rss_anon(&text)).sum()
}

fn stat_of(pid: i32) -> Option<Stat> {
    thread_local!(static TICKS: f64 = machine::ticks_per_second());
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    TICKS.with(|ticks| machine::parse_stat(&text, *ticks))
}

fn all_processes() -> impl Iterator<Item = (i32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat_of(pid)?)))
}

/// A port that nobody listens on, below those that the kernel gives to clients: of these none may be free for a minute
/// after many short connections.
fn free_port() -> Result<u16, String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16;
    for _ in 0..PORTS.len() {
        let port =
            PORTS.start + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(format!("no port from {} to {} is free on 127.0.0.1", PORTS.start, PORTS.end - 1))
}

/// The whole answer to `GET /` on a connection of its own.
pub fn answer(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(START_PATIENCE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = vec![];
    let mut buffer = [0; 4096];
    // not all of them close, and all of them end with the same line
    while !answer.ends_with(server::ANSWER.as_bytes()) {
        match stream.read(&mut buffer)? {
            0 if answer.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => break,
            read => answer.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn with_log(reason: String, log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    if last.is_empty() { reason } else { format!("{reason}; its log: {}", last.join(" / ")) }
}
