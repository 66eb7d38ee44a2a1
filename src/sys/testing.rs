//! For unit tests, which share one process: what one of them starts has copies of all descriptors of the process from its
//! fork until it is executed, close-on-exec or not. Until then the kernel still has open what another one has let go.
//!
//! Neighbours: tests that let one end go and look at the other.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Waits until nobody holds the other end of this socket or pipe any more.
pub(crate) fn wait_until_gone(end: impl AsFd) {
    wait("somebody holds the other end", || {
        poll(&mut [PollFd::new(end.as_fd(), PollFlags::empty())], PollTimeout::ZERO) == Ok(1)
    });
}

/// Leaves a socket's file at which nobody listens, as a server does that was killed.
pub(crate) fn leave_dead_socket(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    wait_until_refused(|| UnixStream::connect(path));
}

/// Waits until nobody holds the listener any more that this connects to.
pub(crate) fn wait_until_refused<T>(connect: impl Fn() -> io::Result<T>) {
    wait("somebody listens", || connect().is_err());
}

fn wait(problem: &str, is_over: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_over() {
        assert!(Instant::now() < deadline, "{problem}");
        // each attempt to connect fills a backlog
        thread::sleep(Duration::from_millis(10));
    }
}
