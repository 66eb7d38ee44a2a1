//! `--pid-file`: written whole or not at all, removed on exit if it is still ours.
//!
//! Neighbours: `master` keeps one while it runs.

use crate::error::{Error, Result};
use crate::whole_file::WholeFile;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file, as long as this value lives.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    content: String,
}

impl PidFile {
    /// Writes it; no reader sees half of it.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write(path: &Path) -> Result<PidFile> {
        let content = format!("{}\n", std::process::id());
        WholeFile::create(path)
            .and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.finish()))
            .map_err(|e| Error::io(format!("write --pid-file {}", path.display()), e))?;
        Ok(PidFile { path: path.to_owned(), content })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|content| content == self.content) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
