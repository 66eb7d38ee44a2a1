//! What lies below the root: looked at, opened and read relative to the root's descriptor, and never outside it. Here an
//! errno becomes one of a few answers, once.
//!
//! Neighbours: `path` has made the path clean, `found` puts together what is read; `sys::file` has the mapping.

use crate::config::{FileSettings, Symlinks};
use crate::sys::file::{MappedFile, read_cached};
use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode as Permissions, SFlag, fstat};
use nix::sys::uio::pread;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Longer files are not copied into memory: they are sent out of the page cache. Sending from a copy costs less (1 MiB: by
/// 5 to 15 %), and no truncation can reach it.
pub(super) const MEMORY_OCTETS_MAX: u64 = 1 << 20;

/// openat2 gives up with EAGAIN when something is renamed while it resolves `..` or a link.
const OPEN_ATTEMPTS: usize = 16;

/// How long a change may go unnoticed because the file system's clock stands still for a tick.
const TICK: Duration = Duration::from_millis(50);

/// The root, and the rules below it.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    resolve: ResolveFlag,
    /// See [`FileSettings::cache_control`].
    pub cache_control: Option<String>,
    /// What is sent with a 404.
    pub not_found: Option<Box<[u8]>>,
    /// Octets of content that may be kept in memory.
    pub memory_octets: u64,
    /// Octets of content that are in memory: kept, or forgotten and still on their way to clients.
    live_octets: Arc<AtomicU64>,
}

/// A content, counted while anybody has it.
struct Counted {
    content: Vec<u8>,
    live_octets: Arc<AtomicU64>,
}

/// Whether there is time to wait for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// No: on the loop's thread. What is not in the kernel's caches gives [`Miss::WouldBlock`].
    Cached,
    /// Yes: on a thread of the loader.
    Blocking,
}

/// Why there is nothing to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    /// There is no such file, or nothing that is served: a FIFO, a socket, a link that leads out.
    Missing,
    /// It is a directory.
    Directory,
    /// It is there, and not for us to read.
    Forbidden,
    /// No descriptors or no memory left.
    Busy,
    /// It is not in the kernel's caches.
    WouldBlock,
    /// The disk failed, or the like; the log says it.
    Broken,
}

/// One state of one file. Two that are equal have the same content, unless the file was changed twice in one tick of its
/// clock; see [`Identity::is_settled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    octets: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The content of a file, ready to be sent.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// A copy.
    Memory(Bytes),
    /// Sent from where it is.
    Mapped(Arc<MappedFile>),
}

impl Tree {
    /// Opens the root, and tries whether the kernel lets files be opened below it.
    pub fn open(settings: &FileSettings) -> io::Result<Tree> {
        let cache_control = settings.cache_control.clone();
        if let Some(value) = cache_control.as_deref().filter(|value| !is_one_line(value)) {
            let problem = format!("Cache-Control {value:?} has characters that no field may have");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(&settings.root, flags, Permissions::empty())?;
        let tree = Tree {
            root,
            resolve: match settings.symlinks {
                Symlinks::Beneath => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS,
                Symlinks::Never => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
            },
            cache_control,
            not_found: settings.not_found.as_ref().map(|path| path.as_os_str().as_bytes().into()),
            memory_octets: settings.cache,
            live_octets: Arc::default(),
        };
        tree.open_below(b".", flags, Mode::Blocking)?;
        Ok(tree)
    }

    /// A content of this length may be read into memory: with what slow clients still have of forgotten ones it must not
    /// come to more than twice what may be kept.
    pub fn has_memory(&self, octets: u64) -> bool {
        octets <= MEMORY_OCTETS_MAX
            && self.live_octets.load(Ordering::Relaxed) + octets <= self.memory_octets.saturating_mul(2)
    }

    /// What the path leads to now, without touching it: a regular file.
    pub fn identify(&self, path: &[u8], mode: Mode) -> Result<Identity, Miss> {
        let file = self.open_below(path, OFlag::O_PATH | OFlag::O_CLOEXEC, mode);
        let status = file.and_then(fstat).map_err(|errno| classify(errno, path, mode))?;
        match kind(&status) {
            SFlag::S_IFREG => Ok(Identity::of(&status)),
            SFlag::S_IFDIR => Err(Miss::Directory),
            _ => Err(Miss::Missing),
        }
    }

    /// Opens a regular file for reading. It has been identified before: a FIFO with a writer waiting, or a device, is
    /// changed by being opened.
    pub fn open_file(&self, path: &[u8], mode: Mode) -> Result<(OwnedFd, Identity), Miss> {
        // O_NONBLOCK: it may have become a FIFO since, and opening that would wait for its other end
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let opened = self.open_below(path, flags, mode).and_then(|file| Ok((fstat(&file)?, file)));
        let (status, file) = opened.map_err(|errno| classify(errno, path, mode))?;
        match kind(&status) {
            SFlag::S_IFREG => Ok((file, Identity::of(&status))),
            _ => Err(Miss::Missing),
        }
    }

    fn open_below(&self, path: &[u8], flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
        // nix has no name for this one yet
        let cached = ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED);
        let resolve = match mode {
            Mode::Cached => self.resolve | cached,
            Mode::Blocking => self.resolve,
        };
        let how = OpenHow::new().flags(flags).resolve(resolve);
        let mut attempts = OPEN_ATTEMPTS;
        loop {
            match openat2(&self.root, path, how) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if mode == Mode::Blocking && attempts > 0 => attempts -= 1,
                outcome => return outcome,
            }
        }
    }
}

/// Reads all of an open file; `None` if it has become shorter since it was identified.
pub(super) fn read(
    tree: &Tree,
    file: &OwnedFd,
    identity: &Identity,
    path: &[u8],
    mode: Mode,
) -> Result<Option<Bytes>, Miss> {
    let content = read_octets(file, identity.octets as usize, mode);
    let content = content.map_err(|error| classify_io(&error, path, mode))?;
    Ok(content.map(|content| Counted::share(content, &tree.live_octets)))
}

impl Counted {
    fn share(content: Vec<u8>, live_octets: &Arc<AtomicU64>) -> Bytes {
        live_octets.fetch_add(content.len() as u64, Ordering::Relaxed);
        Bytes::from_owner(Counted { content, live_octets: Arc::clone(live_octets) })
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live_octets.fetch_sub(self.content.len() as u64, Ordering::Relaxed);
    }
}

fn read_octets(file: &OwnedFd, octets: usize, mode: Mode) -> io::Result<Option<Vec<u8>>> {
    let mut content = vec![0; octets];
    let mut at = 0;
    while at < octets {
        let read = match mode {
            Mode::Cached => read_cached(file.as_fd(), &mut content[at..], at as u64),
            Mode::Blocking => pread(file, &mut content[at..], at as i64).map_err(io::Error::from),
        };
        match read {
            Ok(0) => return Ok(None),
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(content))
}

/// Maps all of an open file; `None` if its length changed since it was identified.
pub(super) fn map(
    file: OwnedFd,
    identity: &Identity,
    path: &[u8],
    mode: Mode,
) -> Result<Option<Arc<MappedFile>>, Miss> {
    let mapped = MappedFile::new(file).map_err(|error| classify_io(&error, path, mode))?;
    Ok((mapped.len() == identity.octets).then(|| Arc::new(mapped)))
}

fn classify_io(error: &io::Error, path: &[u8], mode: Mode) -> Miss {
    classify(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)), path, mode)
}

/// The one place where an errno gets its meaning.
fn classify(errno: Errno, path: &[u8], mode: Mode) -> Miss {
    match errno {
        Errno::EAGAIN if mode == Mode::Cached => Miss::WouldBlock,
        // this file system cannot say what is in memory
        Errno::EOPNOTSUPP if mode == Mode::Cached => Miss::WouldBlock,
        Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG => Miss::Missing,
        // links in a circle, or any at all where none are followed; links that lead out
        Errno::ELOOP | Errno::EXDEV => Miss::Missing,
        // sockets; devices without a driver; names that this file system cannot have
        Errno::ENXIO | Errno::ENODEV | Errno::EINVAL | Errno::EILSEQ => Miss::Missing,
        Errno::EACCES | Errno::EPERM => Miss::Forbidden,
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN => Miss::Busy,
        errno => {
            let path = String::from_utf8_lossy(path);
            tracing::error!(%path, error = %io::Error::from(errno), "cannot read a file; answered 500");
            Miss::Broken
        }
    }
}

fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT
}

fn is_one_line(value: &str) -> bool {
    value.bytes().all(|octet| octet == b'\t' || !octet.is_ascii_control())
}

impl Identity {
    fn of(status: &FileStat) -> Identity {
        Identity {
            device: status.st_dev,
            inode: status.st_ino,
            octets: status.st_size as u64,
            modified: (status.st_mtime, status.st_mtime_nsec),
            changed: (status.st_ctime, status.st_ctime_nsec),
        }
    }

    /// Of an open file, as it is now.
    pub fn of_open(file: &OwnedFd) -> Option<Identity> {
        fstat(file).ok().map(|status| Identity::of(&status))
    }

    /// The file's length.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// A strong entity tag (RFC 9110 section 8.8.3) in its quotes.
    pub fn entity_tag(&self) -> String {
        let (secs, nanos) = self.modified;
        let modified = i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        format!("\"{:x}-{:x}-{:x}\"", self.inode, self.octets, modified as u64)
    }

    /// When it was modified, in seconds since the epoch, but not after `latest` (RFC 9110 section 8.8.2.1: never after
    /// an answer's Date).
    pub fn modified_secs(&self, latest: u64) -> u64 {
        u64::try_from(self.modified.0).unwrap_or(0).min(latest)
    }

    /// The next change will be seen in it. Not so for one that has just been changed: until the file system's clock
    /// ticks, the next change gets the same time.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let (secs, nanos) = self.changed;
        let changed = Duration::new(u64::try_from(secs).unwrap_or(0), nanos as u32);
        let changed = SystemTime::UNIX_EPOCH + changed;
        let apart = now.duration_since(changed).unwrap_or_else(|error| error.duration());
        apart > TICK
    }
}

impl Content {
    /// Octets in it.
    pub fn len(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::Mapped(file) => file.len(),
        }
    }
}
