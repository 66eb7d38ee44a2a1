//! The access log's file, as the master has it: opened before the first worker is started, by whoever started uringd, and
//! given to each worker; opened again when it has been rotated. The master writes nothing to it.
//!
//! Neighbours: `event_loop` hands it out and hears SIGUSR1; `worker::journal` writes.

use crate::config::{AccessLog, Config};
use crate::error::Result;
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

/// See the module's comment.
#[derive(Debug)]
pub struct AccessLogFile {
    place: AccessLog,
    file: RefCell<Arc<OwnedFd>>,
}

impl AccessLogFile {
    /// Opens what `--access-log` names, if it names anything.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(config: &Config) -> Result<Option<Rc<AccessLogFile>>> {
        let Some(place) = &config.access_log else { return Ok(None) };
        let file = RefCell::new(Arc::new(place.open()?));
        Ok(Some(Rc::new(AccessLogFile { place: place.clone(), file })))
    }

    /// What workers write to.
    pub fn file(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.file.borrow())
    }

    /// Opens it again, and says whether workers are to be given the new one. If that cannot be done, the old one stays:
    /// lines in a file that has been moved are better than none.
    pub fn reopen(&self) -> bool {
        let path = self.place.to_string();
        if self.place == AccessLog::Stdout {
            tracing::info!("the access log is standard output: nothing to reopen");
            return false;
        }
        match self.place.open() {
            Ok(file) => {
                self.file.replace(Arc::new(file));
                tracing::info!(path, "log reopened");
                true
            }
            Err(error) => {
                tracing::error!("{error}; the old file stays");
                false
            }
        }
    }
}
