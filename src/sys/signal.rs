//! Signals: a worker's SIGTERM handler with the orphan's alarm, and the sets that are ignored.
//!
//! Neighbours: `worker` and its `control`; the master reads its signals from a signalfd.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::time::Duration;

static TERMINATED: AtomicBool = AtomicBool::new(false);
static MASTER: AtomicI32 = AtomicI32::new(0);
static WAKE: AtomicI32 = AtomicI32::new(-1);
static KILL_TIMEOUT_US: AtomicI64 = AtomicI64::new(0);

/// Ignores what a terminal sends to the whole group, and what only the master understands: workers leave when the
/// master says so.
pub(crate) fn ignore_the_masters() {
    for signal in [
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ] {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: SIG_IGN runs no code of ours.
        let _ = unsafe { sigaction(signal, &ignore) };
    }
}

/// From now on SIGTERM sets a flag and writes to `wake`. Where the master is no longer the parent it is the
/// parent-death signal, and arms the alarm that ends this process even if a handler never returns to the loop.
///
/// A copy of `wake` stays open for the rest of the process: a number that is closed may be somebody else's file when the
/// signal comes.
pub(crate) fn on_terminate(master: i32, kill_timeout: Duration, wake: BorrowedFd<'_>) -> io::Result<()> {
    MASTER.store(master, Ordering::Relaxed);
    WAKE.store(wake.try_clone_to_owned()?.into_raw_fd(), Ordering::Relaxed);
    KILL_TIMEOUT_US.store(microseconds(kill_timeout), Ordering::Relaxed);
    let action = SigAction::new(SigHandler::Handler(terminated), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: `terminated` does only what is async-signal-safe: atomics, getppid, setitimer and write.
    unsafe { sigaction(Signal::SIGTERM, &action) }?;
    Ok(())
}

/// Whether SIGTERM has arrived since the last call.
pub(crate) fn take_terminated() -> bool {
    TERMINATED.swap(false, Ordering::Relaxed)
}

/// Ends this process by SIGALRM when the time is up, unless it has ended by itself.
pub(crate) fn die_after(time: Duration) {
    arm(microseconds(time));
}

extern "C" fn terminated(_: libc::c_int) {
    // SAFETY: these are plain system calls that POSIX or Linux allows in a handler; errno is put back, so that the
    // interrupted code does not see ours; a closed or full wake descriptor makes write fail, which is harmless.
    unsafe {
        let errno = *libc::__errno_location();
        if libc::getppid() != MASTER.load(Ordering::Relaxed) {
            arm(KILL_TIMEOUT_US.load(Ordering::Relaxed));
        }
        TERMINATED.store(true, Ordering::Relaxed);
        let one = 1u64;
        libc::write(WAKE.load(Ordering::Relaxed), (&raw const one).cast(), size_of::<u64>());
        *libc::__errno_location() = errno;
    }
}

/// The default action of SIGALRM ends the process. Of two timers the one that was armed first stays.
fn arm(microseconds: i64) {
    let value = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: microseconds / 1_000_000, tv_usec: microseconds % 1_000_000 },
    };
    let mut present = value;
    // SAFETY: both structures are ours; setitimer and getitimer touch nothing else.
    unsafe {
        if libc::getitimer(libc::ITIMER_REAL, &raw mut present) == 0
            && (present.it_value.tv_sec, present.it_value.tv_usec) != (0, 0)
        {
            return;
        }
        libc::setitimer(libc::ITIMER_REAL, &raw const value, std::ptr::null_mut());
    }
}

/// At least one: zero would disarm the timer.
fn microseconds(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EventFd;
    use nix::sys::signal::raise;
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn a_signal_writes_into_nobody_elses_file() {
        let wake = EventFd::new().unwrap();
        let number = wake.as_fd().as_raw_fd();
        on_terminate(crate::sys::process::parent(), Duration::from_secs(60), wake.as_fd()).unwrap();
        drop(wake);
        // one of these gets the number that was closed, unless another test has it
        let files: Vec<_> = (0..64).map(|_| tempfile::tempfile().unwrap()).collect();
        raise(Signal::SIGTERM).unwrap();
        assert!(take_terminated());
        for file in files {
            assert_eq!(file.metadata().unwrap().len(), 0, "{} was {number}", file.as_raw_fd());
        }
    }
}
