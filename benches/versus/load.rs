//! One run of uringload.

use crate::guard::Guard;
use crate::process;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use uringd::load::json::{self, Saved};

/// An answer takes no longer; one that does is an error.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Beyond warm-up, duration and timeout.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to load.
pub struct Load<'a> {
    /// The server's port.
    pub port: u16,
    /// Asked for in turn.
    pub paths: &'a [String],
    /// All other flags.
    pub flags: &'a [String],
    /// Before it is measured.
    pub warmup: Duration,
    /// While it is measured.
    pub length: Duration,
}

impl Load<'_> {
    /// Runs it. The results go through a file in `scratch`.
    pub fn run(&self, scratch: &Path, guard: &Guard) -> Result<Saved, String> {
        let out = scratch.join("load.json");
        // what is read must not be of the run before
        let _ = fs::remove_file(&out);
        let mut command = Command::new(env!("CARGO_BIN_EXE_uringload"));
        command.args(self.paths.iter().map(|path| format!("http://127.0.0.1:{}{path}", self.port)));
        command.args(self.flags).args(["--duration", &time(self.length), "--warmup", &time(self.warmup)]);
        command.args(["--timeout", &time(TIMEOUT), "--json"]).arg(&out);
        let log = scratch.join("load.log");
        let file = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdout(Stdio::null()).stderr(file);
        let mut child = process::spawn(&mut command, guard).map_err(|error| format!("uringload: {error}"))?;
        let status = wait(&mut child, self.warmup + self.length + TIMEOUT + PATIENCE);
        process::end_group(&mut child, guard);
        let said = || fs::read_to_string(&log).unwrap_or_default().lines().last().unwrap_or("").to_owned();
        let status = status.ok_or_else(|| format!("uringload did not end: {}", said()))?;
        match fs::read_to_string(&out) {
            Ok(text) => json::read(&text).map_err(|error| format!("uringload's results: {error}")),
            Err(_) => Err(format!("uringload: {status}: {}", said())),
        }
    }
}

/// As uringload reads it.
fn time(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => return None,
            Ok(Some(status)) => return Some(status),
        }
    }
}
