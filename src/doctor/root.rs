//! What the kernel tells in /proc and /sys, below a directory: `/` for this machine, a made-up tree in tests. A file that
//! is not there, as in many containers, is `None` and never an error.
//!
//! Neighbours: `machine` and the checks read with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// See the module's comment. Paths are relative: `proc/self/limits`.
#[derive(Debug, Clone)]
pub(super) struct Root(PathBuf);

impl Root {
    pub fn at(directory: impl Into<PathBuf>) -> Root {
        Root(directory.into())
    }

    /// A file's text without the white space around it.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.0.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file that holds one word, such as a number.
    pub fn value<T: FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The names in a directory, in order; none if it is not there.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.0.join(path).exists()
    }
}
