//! Files for futures of a handler: every operation goes through the worker's ring, so that the loop never waits for a
//! disk. (Files that are sent as they are need none of this: `Files`, `Response::file`.)
//!
//! Neighbours: `local` takes the operations to the ring.

use super::local::Operation;
use crate::ring::{FileDone, FileOp, FileOutcome};
use bytes::Bytes;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Octets that are read at a time.
const READ_OCTETS: usize = 128 * 1024;

/// Who may do what with a file that is created, before the umask (open(2)).
const MODE: u32 = 0o666;

/// An open file, for futures given to [`Reply::later`](crate::Reply::later) or [`Reply::stream`](crate::Reply::stream).
///
/// What can be done at once is done at once; what must wait does so on a thread of the kernel's, of which a worker has eight
/// for this. A network share that is gone can take all of them, and further operations that must wait then queue behind
/// those; the loop goes on, and a future that is dropped takes its operation with it where the kernel can end that.
///
/// ```
/// # use uringd::{File, Reply, Request, Status};
/// fn save(request: &Request<'_>) -> Reply {
///     let mut pieces = request.pieces();
///     Reply::later(async move {
///         let file = File::create("upload").await?;
///         let mut octets = 0;
///         while let Some(piece) = pieces.next().await {
///             octets += file.write_all_at(piece?, octets).await?;
///         }
///         file.sync_all().await?;
///         std::io::Result::Ok(Status::CREATED)
///     })
/// }
/// ```
#[derive(Debug, Clone)]
pub struct File(Arc<OwnedFd>);

impl File {
    /// Opens a file to read from it.
    ///
    /// # Errors
    /// Those of open(2).
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        File::opened(path.as_ref(), libc::O_RDONLY).await
    }

    /// Opens a file to write to it; creates it, or empties it. A future that is dropped while it waits for this leaves it
    /// open whether that has happened; where it matters, create the file with [`std::fs::File`] and convert it.
    ///
    /// # Errors
    /// Those of open(2).
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        File::opened(path.as_ref(), libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC).await
    }

    /// Creates a file that was not there, to write to it.
    ///
    /// # Errors
    /// Those of open(2), such as `AlreadyExists`.
    pub async fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        File::opened(path.as_ref(), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL).await
    }

    async fn opened(path: &Path, flags: i32) -> io::Result<File> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let flags = flags | libc::O_CLOEXEC;
        match Operation::new(FileOp::Open { path, flags, mode: MODE }).await.result? {
            FileOutcome::Opened(file) => Ok(File(Arc::new(file))),
            FileOutcome::Octets(_) => Err(io::ErrorKind::Other.into()),
        }
    }

    /// Reads up to so many octets from this place on; fewer at the end of the file, none behind it.
    ///
    /// # Errors
    /// Those of pread(2).
    pub async fn read_at(&self, octets: usize, offset: u64) -> io::Result<Vec<u8>> {
        self.read_into(Vec::with_capacity(octets), offset).await
    }

    /// Appends what is read to a buffer, as far as that has room.
    async fn read_into(&self, buffer: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        let done = Operation::new(FileOp::Read { file: Arc::clone(&self.0), buffer, offset }).await;
        done.result?;
        match done.op {
            FileOp::Read { buffer, .. } => Ok(buffer),
            _ => Err(io::ErrorKind::Other.into()),
        }
    }

    /// Writes all of these octets from this place on, and says how many that were.
    ///
    /// # Errors
    /// Those of pwrite(2); some of the octets may be written.
    pub async fn write_all_at(&self, octets: impl Into<Bytes>, offset: u64) -> io::Result<u64> {
        let octets = octets.into();
        let mut written = 0;
        while written < octets.len() {
            let rest = octets.slice(written..);
            let operation =
                FileOp::Write { file: Arc::clone(&self.0), octets: rest, offset: offset + written as u64 };
            written += match Operation::new(operation).await.octets()? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                octets => octets,
            };
        }
        Ok(written as u64)
    }

    /// Waits until everything written is on the disk (fsync(2)).
    ///
    /// # Errors
    /// Those of fsync(2).
    pub async fn sync_all(&self) -> io::Result<()> {
        Operation::new(FileOp::Sync { file: Arc::clone(&self.0) }).await.octets().map(drop)
    }
}

/// An open file of the standard library's. Closing it, which is done when the last clone is dropped, may wait for some file
/// systems, such as NFS.
impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File(Arc::new(file.into()))
    }
}

/// Reads a whole file through the worker's ring.
///
/// ```
/// # use uringd::{Reply, Response};
/// let reply = Reply::later(async { uringd::read_file("motd").await.map(Response::bytes) });
/// ```
///
/// # Errors
/// Those of open(2) and read(2).
///
/// # Panics
/// If it is awaited elsewhere than in a future given to [`Reply::later`](crate::Reply::later) or
/// [`Reply::stream`](crate::Reply::stream).
pub async fn read_file(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let file = File::open(path).await?;
    let mut content = Vec::new();
    loop {
        content.reserve(READ_OCTETS);
        let before = content.len();
        content = file.read_into(content, before as u64).await?;
        if content.len() == before {
            content.shrink_to_fit();
            return Ok(content);
        }
    }
}

impl FileDone {
    fn octets(self) -> io::Result<usize> {
        match self.result? {
            FileOutcome::Octets(octets) => Ok(octets),
            FileOutcome::Opened(_) => Ok(0),
        }
    }
}
