//! A file that is there whole or not at all: written beside its place and moved there, so that what failed leaves the
//! last one as it was.
//!
//! Neighbours: the master's `--pid-file` and `--latency-report` and the load generator's reports are such files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that takes its place with [`WholeFile::finish`]; dropped before, it leaves nothing.
///
/// What is no regular file (a pipe, `/dev/stdout`) cannot be replaced, and is written to at once.
#[derive(Debug)]
pub struct WholeFile {
    file: File,
    /// Where it is, and where it is to be; none once it is there, or where it is written in place.
    places: Option<(PathBuf, PathBuf)>,
}

impl WholeFile {
    /// Makes `PATH.new`, or opens what is no regular file. A symbolic link stays one: what it points at is replaced.
    ///
    /// # Errors
    /// What the file system says; `path` is a directory.
    pub fn create(path: &Path) -> io::Result<WholeFile> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => {
                return Ok(WholeFile { file: File::create(path)?, places: None });
            }
            _ => {}
        }
        let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut beside = place.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        Ok(WholeFile { file: File::create(&beside)?, places: Some((beside, place)) })
    }

    /// It is whole: moves it to its place.
    ///
    /// # Errors
    /// What the file system says. The file that was there is still there.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some((beside, place)) = &self.places {
            fs::rename(beside, place)?;
        }
        self.places = None;
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.file.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some((beside, _)) = &self.places {
            let _ = fs::remove_file(beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, symlink};

    fn written(path: &Path, text: &str) -> WholeFile {
        let mut file = WholeFile::create(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_file_takes_its_place_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        written(&path, "first").finish().unwrap();
        drop(written(&path, "half"));
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path())), ("first", 1));
        symlink("a", &link).unwrap();
        let second = written(&link, "second");
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        second.finish().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path())), ("second", 2));
        assert!(link.is_symlink());
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(WholeFile::create(folder.path()).is_err());
        assert!(WholeFile::create(&folder.path().join("no/such")).is_err());
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // both ends are open, so nobody waits
        let _reader = File::options().read(true).write(true).open(&pipe).unwrap();
        written(&pipe, "x").finish().unwrap();
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo() && names(folder.path()) == 1);
    }
}
