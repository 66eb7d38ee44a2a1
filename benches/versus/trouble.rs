//! Once a second something happens to a server's workers.

use crate::process::Running;
use crate::profiles::Kind;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

/// Does this, and begins to trouble the server after `delay` meanwhile, `times` times at most. Gives how many signals
/// were sent as well.
pub fn while_doing<T>(
    running: &Running,
    kind: Kind,
    delay: Duration,
    times: u32,
    action: impl FnOnce() -> T,
) -> (T, u32) {
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let signals = scope.spawn(move || {
            let (mut sent, mut wait) = (0, delay);
            while sent < times && ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                trouble(running, kind, sent as usize);
                sent += 1;
                wait = EVERY;
            }
            sent
        });
        let outcome = action();
        drop(done);
        (outcome, signals.join().expect("it only sends signals"))
    })
}

fn trouble(running: &Running, kind: Kind, turn: usize) {
    let (target, signal) = match kind {
        Kind::Crash => {
            let workers = running.workers();
            (workers.get(turn % workers.len().max(1)).copied(), Signal::SIGKILL)
        }
        _ => (Some(running.master()), Signal::SIGHUP),
    };
    // there may be no worker just now, and a master that is gone is told by what its clients see
    if let Some(target) = target {
        let _ = kill(Pid::from_raw(target), signal);
    }
}
