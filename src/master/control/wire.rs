//! One connected socket, TCP or Unix, for a thread that may wait, but not for ever: each wait ends at a deadline.
//!
//! Neighbours: `connection` speaks HTTP over it, `mod` accepts it and cuts it at the end.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the module's comment.
pub struct Wire {
    /// Shared with who may cut it.
    socket: Arc<OwnedFd>,
    deadline: Instant,
}

impl Wire {
    /// The socket must not block by itself.
    pub fn new(socket: Arc<OwnedFd>) -> Wire {
        Wire { socket, deadline: Instant::now() }
    }

    /// From now on waits end when so much time has passed.
    pub fn allow(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
    }

    /// Waits until anything has come, without taking it, or until the end.
    pub fn has_more(&self) -> io::Result<bool> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        self.patiently(PollFlags::POLLIN, |fd| recv(fd, &mut [0], flags)).map(|octets| octets > 0)
    }

    /// Takes what has come, as soon as anything has; 0 octets are the end.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(PollFlags::POLLIN, |fd| recv(fd, buffer, MsgFlags::MSG_DONTWAIT))
    }

    /// Returns when the kernel has taken all of it.
    pub fn write_all(&self, mut octets: &[u8]) -> io::Result<()> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        while !octets.is_empty() {
            let sent = self.patiently(PollFlags::POLLOUT, |fd| send(fd, octets, flags))?;
            octets = &octets[sent..];
        }
        Ok(())
    }

    /// Whether the other end is closed, in both directions: who has only finished sending may be reading still.
    pub fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO) == Ok(1)
    }

    /// Says that nothing more is written, and reads to the other end's end, so that no reset eats what was.
    pub fn linger(&mut self, time: Duration) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        self.allow(time);
        let mut ignored = [0; 4096];
        while matches!(self.read(&mut ignored), Ok(1..)) {}
    }

    fn patiently(
        &self,
        event: PollFlags,
        mut attempt: impl FnMut(i32) -> nix::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match attempt(self.socket.as_raw_fd()) {
                Err(Errno::EAGAIN) => {}
                Err(Errno::EINTR) => continue,
                other => return Ok(other?),
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let ms = left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
            let mut fds = [PollFd::new(self.socket.as_fd(), event)];
            match poll(&mut fds, PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::wait_until_gone;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (Wire, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Wire::new(Arc::new(ours.into())), theirs)
    }

    #[test]
    fn waits_end_at_the_deadline() {
        let (mut wire, mut theirs) = pair();
        wire.allow(Duration::from_millis(20));
        assert_eq!(wire.read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        wire.allow(Duration::from_millis(20));
        let too_much = vec![0; 16 << 20];
        assert_eq!(wire.write_all(&too_much).unwrap_err().kind(), io::ErrorKind::TimedOut);
        theirs.write_all(b"ab").unwrap();
        assert!(wire.has_more().unwrap());
        // what is here is taken, whatever the time
        assert_eq!(wire.read(&mut [0; 9]).unwrap(), 2);
    }

    #[test]
    fn long_output_goes_as_the_other_end_takes_it_and_its_end_is_seen() {
        let (mut wire, mut theirs) = pair();
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; 4 << 20];
            theirs.read_exact(&mut all).unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            theirs
        });
        wire.allow(Duration::from_secs(20));
        wire.write_all(&vec![7; 4 << 20]).unwrap();
        let theirs = reader.join().unwrap();
        assert!(!wire.has_more().unwrap());
        assert_eq!(wire.read(&mut [0; 9]).unwrap(), 0);
        assert!(!wire.is_hung_up(), "it may read still");
        drop(theirs);
        wait_until_gone(&wire.socket);
        assert!(wire.is_hung_up());
        wire.write_all(b"x").unwrap_err();
    }
}
