//! `--on-giveup`: the command that is run when too many workers have crashed, to wake somebody up. The loop starts it and
//! forgets it: a thread waits for its end, and says what went wrong with it.
//!
//! Neighbours: `event_loop` starts it at a giveup, and leaves it a little time when the master ends.

use super::generation::Generation;
use crate::config::Control;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Those that run. See the module's comment.
#[derive(Debug, Default)]
pub struct GiveupCommands(Arc<Running>);

#[derive(Debug, Default)]
struct Running {
    pids: Mutex<BTreeSet<i32>>,
    /// Rung for each that has ended.
    ended: Condvar,
}

impl GiveupCommands {
    /// Runs the command, if there is one, with the facts in its environment.
    pub fn start(&self, generation: &Generation, limit: u32, alive: usize) {
        let Some(text) = &generation.config.on_giveup else { return };
        let mut command = shell(text);
        command.envs(facts(generation, limit, alive));
        if let Err(error) = self.run(command) {
            tracing::error!("--on-giveup cannot be run: {error}");
        }
    }

    /// Whether this process is one of them.
    pub fn is_ours(&self, pid: i32) -> bool {
        self.0.pids().contains(&pid)
    }

    /// The master ends: in a container, or under a service manager, whatever it has started ends with it.
    pub fn finish(self, patience: Duration) {
        let pids = self.0.pids();
        let waited = self.0.ended.wait_timeout_while(pids, patience, |pids| !pids.is_empty());
        if waited.is_ok_and(|(_, timeout)| timeout.timed_out()) {
            tracing::warn!("--on-giveup: the command runs still, and is left to itself");
        }
    }

    /// Held while it is started, so that whoever reaps children knows it in time.
    fn run(&self, mut command: Command) -> io::Result<()> {
        let mut pids = self.0.pids();
        let child = command.spawn()?;
        pids.insert(child.id() as i32);
        drop(pids);
        let running = Arc::clone(&self.0);
        thread::Builder::new().name("on-giveup".into()).spawn(move || running.wait_for(child)).map(drop)
    }
}

impl Running {
    fn wait_for(&self, mut child: Child) {
        let pid = child.id() as i32;
        match child.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => tracing::error!(pid, "--on-giveup failed: its command ended with {}", end(status)),
            Err(error) => tracing::warn!(pid, "--on-giveup: how its command ended is not known: {error}"),
        }
        self.pids().remove(&pid);
        self.ended.notify_all();
    }

    fn pids(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In a process group of its own, so that what ends ours does not end it; what it prints stands in our log. All our
/// descriptors close as it starts, and std sets no signal blocked (the master's are).
fn shell(text: &str) -> Command {
    let log = || io::stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from);
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(text).process_group(0);
    command.stdin(Stdio::null()).stdout(log()).stderr(log());
    // where it listens is said in another variable
    command.env_remove("URINGD_PORT");
    command
}

/// What `--help` promises, and where `uringd ctl` finds us.
fn facts(generation: &Generation, limit: u32, alive: usize) -> [(&'static str, OsString); 6] {
    let config = &generation.config;
    let addresses: Vec<String> = generation.bound.iter().map(|bound| bound.address.to_string()).collect();
    let control = match &config.control {
        Control::Auto => "auto".into(),
        Control::Off => "off".into(),
        Control::Path(path) => path.clone().into_os_string(),
    };
    [
        ("URINGD_MASTER_PID", std::process::id().to_string().into()),
        ("URINGD_RESTART_LIMIT", limit.to_string().into()),
        ("URINGD_RESTART_WINDOW", humantime::format_duration(config.restart_window).to_string().into()),
        ("URINGD_ALIVE", alive.to_string().into()),
        ("URINGD_LISTEN", addresses.join(",").into()),
        ("URINGD_CONTROL", control),
    ]
}

fn end(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(127), _) => "code 127 (not found?)".to_owned(),
        (Some(code), _) => format!("code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}
