//! Reads the configuration again on a thread of its own: its file, and the names of users and groups in it, may come from
//! another machine that does not answer, and the master's loop waits for nobody.
//!
//! Neighbours: `event_loop` has one, asks it at a reload and polls it; `cluster` knows how to read.

use crate::config::{Config, Origins};
use crate::error::{Error, Result};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Reads the configuration, as it is now, and where each value comes from.
pub type Read = Box<dyn Fn() -> Result<(Config, Origins)> + Send + Sync>;

/// What came of it; the error is one line.
pub type Reading = std::result::Result<(Config, Origins), String>;

/// How long it may take before somebody is told where a reload hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module's comment. One reading at a time.
pub struct ConfigReader {
    shared: Arc<Shared>,
    done: Receiver<Reading>,
    /// When who waits is to be told, while one is under way.
    late: Option<Instant>,
}

/// With the threads that read.
struct Shared {
    read: Read,
    done: Sender<Reading>,
    /// Rung for each reading that is over.
    bell: EventFd,
}

impl ConfigReader {
    /// One that has nothing to do yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(read: Read) -> Result<ConfigReader> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| Error::io("make an eventfd", errno))?;
        let (sender, done) = channel();
        let shared = Shared { read, done: sender, bell };
        Ok(ConfigReader { shared: Arc::new(shared), done, late: None })
    }

    /// Begins to read. The thread's signals are those that are blocked here.
    pub fn begin(&mut self, now: Instant) {
        self.late = Some(now + PATIENCE);
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new().name("config".into()).spawn(move || shared.read());
        if let Err(error) = started {
            self.shared.tell(Err(format!("no thread can be started to read it: {error}")));
        }
    }

    /// What came of it, if it is over.
    pub fn take(&mut self) -> Option<Reading> {
        let _ = self.shared.bell.read();
        let reading = self.done.try_recv().ok()?;
        self.late = None;
        Some(reading)
    }

    /// When to look whether it is late.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.late
    }

    /// Whether it is late; said once.
    pub fn is_late(&mut self, now: Instant) -> bool {
        self.late.take_if(|late| *late <= now).is_some()
    }
}

impl Shared {
    fn read(&self) {
        // it shares nothing with anybody that could be left half changed
        let reading = panic::catch_unwind(AssertUnwindSafe(&self.read));
        self.tell(match reading {
            Ok(reading) => reading.map_err(|error| error.to_string()),
            Err(_) => Err("reading it panicked".to_owned()),
        });
    }

    fn tell(&self, reading: Reading) {
        let _ = self.done.send(reading);
        let _ = self.bell.write(1);
    }
}

/// Readable when a reading is over.
impl AsFd for ConfigReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::sync::Mutex;

    fn wait(reader: &mut ConfigReader) -> Reading {
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(20_000_u16)), Ok(1));
        reader.take().unwrap()
    }

    fn read() -> Result<(Config, Origins)> {
        Ok((Config::resolve(&Options::default())?, Origins(vec![])))
    }

    #[test]
    fn nobody_waits_for_a_reading_and_who_waits_too_long_is_told_once() {
        let (go, may_go) = channel();
        let may_go = Mutex::new(may_go);
        let mut reader = ConfigReader::new(Box::new(move || {
            may_go.lock().unwrap().recv().unwrap();
            read()
        }))
        .unwrap();
        for _ in 0..2 {
            let now = Instant::now();
            reader.begin(now);
            assert!(reader.take().is_none());
            assert!(!reader.is_late(now));
            let late = reader.next_deadline().unwrap();
            assert!(late > now && reader.is_late(late));
            assert!(!reader.is_late(late) && reader.next_deadline().is_none());
            go.send(()).unwrap();
            wait(&mut reader).unwrap();
        }
        reader.begin(Instant::now());
        go.send(()).unwrap();
        wait(&mut reader).unwrap();
        assert_eq!(reader.next_deadline(), None);
    }

    #[test]
    fn whatever_goes_wrong_is_said_in_a_line() {
        let mut reader = ConfigReader::new(Box::new(|| Err(Error::config("x", "is wrong")))).unwrap();
        reader.begin(Instant::now());
        assert!(wait(&mut reader).unwrap_err().contains("is wrong"));
        let mut reader = ConfigReader::new(Box::new(|| panic!("on purpose"))).unwrap();
        for _ in 0..2 {
            reader.begin(Instant::now());
            assert_eq!(wait(&mut reader).unwrap_err(), "reading it panicked");
        }
    }
}
