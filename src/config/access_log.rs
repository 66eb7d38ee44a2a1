//! The file that `--access-log` names, opened.
//!
//! Neighbours: `master::access_log` opens it for all workers and again after a rotation; `cluster` and `server` for a worker
//! that has no such master.

use super::{AccessLog, Config};
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Of a file that is made anew, before the umask: addresses are personal data, so the world does not read them; a group of
/// log readers may.
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR).union(Mode::S_IRGRP);

impl Config {
    /// Opens the access log, if there is to be one.
    ///
    /// # Errors
    /// As [`AccessLog::open`].
    pub fn open_access_log(&self) -> Result<Option<OwnedFd>> {
        self.access_log.as_ref().map(AccessLog::open).transpose()
    }
}

impl AccessLog {
    /// Opens it to be appended to; makes it if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`] with the path: it may not be written, its directory is not there, or it is a named pipe that nobody
    /// reads.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let opened = match self {
            AccessLog::Stdout => standard_output(),
            AccessLog::File(path) => open_to_append(path).map_err(io::Error::from),
        };
        opened.map_err(|error| Error::io(format!("open the access log {self}"), error))
    }
}

/// A file behind `>` has no O_APPEND, and all workers share the place in it at which the next one writes: two of them would
/// write over each other.
fn standard_output() -> io::Result<OwnedFd> {
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let kind = SFlag::from_bits_truncate(fstat(&stdout)?.st_mode & SFlag::S_IFMT.bits());
    if kind == SFlag::S_IFREG {
        let flags = OFlag::from_bits_retain(fcntl(&stdout, FcntlArg::F_GETFL)?);
        fcntl(&stdout, FcntlArg::F_SETFL(flags | OFlag::O_APPEND))?;
    }
    Ok(stdout)
}

/// A named pipe without a reader must not hold up the start; whoever writes to it later may wait as with any other file.
fn open_to_append(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = open(path, flags | OFlag::O_NONBLOCK, MODE)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file)
}

/// As typed after `--access-log`.
impl fmt::Display for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessLog::Stdout => f.write_str("-"),
            AccessLog::File(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_log_is_appended_to_and_not_for_everybody_to_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let open = || fs::File::from(AccessLog::File(path.clone()).open().unwrap());
        let (mut first, mut second) = (open(), open());
        first.write_all(b"a\n").unwrap();
        second.write_all(b"b\n").unwrap();
        first.write_all(b"c\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    }

    #[test]
    fn a_log_that_cannot_be_had_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for (path, why) in [
            (directory.path().join("none/access.log"), "No such file"),
            (directory.path().to_owned(), "Is a directory"),
            (pipe, "No such device or address"),
        ] {
            let error = AccessLog::File(path.clone()).open().unwrap_err().to_string();
            let start = format!("cannot open the access log {}: {why}", path.display());
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
