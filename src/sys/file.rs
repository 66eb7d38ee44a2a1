//! A file as the ring sends it: mapped, shared, in bounded pieces. Nobody reads the mapping in user space: a file that
//! is truncated underneath would raise SIGBUS there, while a send out of it only fails (EFAULT).
//!
//! Neighbours: `files` maps what it opens, `http::response` carries it, `ring` sends from the addresses.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::sys::uio::pread;
use std::cmp::Ordering;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How much of a file is sent at a time: between two pieces others are served, and the file is looked at again.
pub const PIECE_OCTETS: u64 = 256 * 1024;

/// How long a piece that was brought into memory is taken to be there still. Its pages are mapped, so the kernel
/// drops them last; where it does, one send waits for the disk.
const WARM_MS: u64 = 10_000;

/// An open regular file, mapped whole for reading. Shared by everybody who downloads it.
#[derive(Debug)]
pub struct MappedFile {
    file: OwnedFd,
    /// When it was modified last before it was mapped, in seconds and nanoseconds.
    modified: (i64, i64),
    mapping: Mapping,
    /// When each piece was brought into memory, in units of 1.024 s of the loops' clock, plus one; 0: never.
    warm: Box<[AtomicU32]>,
}

/// The address range; `None` for an empty file, which cannot be mapped.
#[derive(Debug)]
struct Mapping(Option<(NonNull<c_void>, NonZeroUsize)>);

/// A stretch of a mapped file that goes out with one send.
#[derive(Debug, Clone)]
pub struct MappedPiece {
    file: Arc<MappedFile>,
    start: u64,
    len: u32,
}

// SAFETY: a mapping is an address range and nothing else; this file never reads or writes through it, and it stays
// mapped until the last owner drops it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl MappedFile {
    /// Maps a file as long as it is now.
    ///
    /// # Errors
    /// Those of fstat(2) and mmap(2): some file systems (and most of /proc) cannot be mapped.
    pub fn new(file: OwnedFd) -> io::Result<MappedFile> {
        let status = fstat(&file)?;
        let modified = (status.st_mtime, status.st_mtime_nsec);
        let octets =
            usize::try_from(status.st_size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mapping = match NonZeroUsize::new(octets) {
            None => Mapping(None),
            Some(len) => {
                // SAFETY: a new mapping, shared and read-only, at an address of the kernel's choice: it overlaps nothing
                // of ours.
                let start = unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &file, 0) }?;
                Mapping(Some((start, len)))
            }
        };
        let pieces = (octets as u64).div_ceil(PIECE_OCTETS) as usize;
        Ok(MappedFile { file, modified, mapping, warm: (0..pieces).map(|_| AtomicU32::new(0)).collect() })
    }

    /// Opens and maps a file that the program names itself.
    ///
    /// # Errors
    /// Those of open(2), and of [`MappedFile::new`]; what is not a regular file is refused.
    pub fn open(path: impl AsRef<Path>) -> io::Result<MappedFile> {
        // O_NONBLOCK: opening a FIFO would wait for its other end
        let flags = OFlag::O_NONBLOCK.bits();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        match file.metadata()?.is_file() {
            true => MappedFile::new(file.into()),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }

    /// Its length when it was mapped.
    pub fn len(&self) -> u64 {
        self.mapping.0.map_or(0, |(_, len)| len.get() as u64)
    }

    /// It was empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was sent of it is what it was when it was mapped: it has not shrunk since (then zeros may have gone out), and
    /// if it is as long as then it has not been written to. One that has grown is taken to have been appended to.
    pub fn is_intact(&self) -> bool {
        fstat(&self.file).is_ok_and(|status| match (status.st_size as u64).cmp(&self.len()) {
            Ordering::Less => false,
            Ordering::Equal => (status.st_mtime, status.st_mtime_nsec) == self.modified,
            Ordering::Greater => true,
        })
    }

    /// Reads a range of it, as far as it is there: unlike a mapping this never shows zeros where the file has been
    /// truncated.
    ///
    /// # Errors
    /// Those of pread(2).
    pub(crate) fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; (range.end - range.start) as usize];
        let mut filled = 0;
        while filled < octets.len() {
            match pread(&self.file, &mut octets[filled..], (range.start as usize + filled) as libc::off_t) {
                Ok(0) => break,
                Ok(some) => filled += some,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        octets.truncate(filled);
        Ok(octets)
    }

    /// The first piece of a range that is not empty and lies within the file. Pieces end where the file's pieces do,
    /// whatever range is asked for.
    pub(crate) fn piece(self: &Arc<Self>, range: &Range<u64>) -> MappedPiece {
        assert!(range.start < range.end && range.end <= self.len(), "{range:?} of {} octets", self.len());
        let end = range.end.min((range.start / PIECE_OCTETS + 1) * PIECE_OCTETS);
        MappedPiece { file: Arc::clone(self), start: range.start, len: (end - range.start) as u32 }
    }
}

/// Reads what is in the page cache and waits for no disk (preadv2(2) with RWF_NOWAIT): perhaps less than asked for, and
/// `WouldBlock` if nothing is there. 0 at the file's end.
///
/// # Errors
/// Those of preadv2(2); EOPNOTSUPP from file systems that cannot tell.
pub(crate) fn read_cached(file: BorrowedFd<'_>, into: &mut [u8], at: u64) -> io::Result<usize> {
    let at = i64::try_from(at).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: the kernel writes into `into` alone, which is ours for the length of the call.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const vector, 1, at, libc::RWF_NOWAIT) };
    Ok(Errno::result(read)? as usize)
}

impl MappedPiece {
    /// Where it lies. For the kernel's eyes only.
    pub fn address(&self) -> *const u8 {
        let (start, _) = self.file.mapping.0.expect("an empty file has no pieces");
        start.as_ptr().cast::<u8>().wrapping_add(self.start as usize)
    }

    /// Where it begins in its file.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Octets in it.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Leaves out its first octets.
    pub fn advance(&mut self, octets: u32) {
        self.start += u64::from(octets);
        self.len -= octets;
    }

    /// All of the file's piece that it is a part of: that is what gets warm or not.
    pub fn neighbourhood(&self) -> (*const u8, u32) {
        let before = self.start % PIECE_OCTETS;
        let len = PIECE_OCTETS.min(self.file.len() - (self.start - before));
        (self.address().wrapping_sub(before as usize), len as u32)
    }

    /// Of which file.
    pub fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    /// It was brought into memory lately, so that a send out of it does not wait for a disk.
    pub fn is_warm(&self, now_ms: u64) -> bool {
        let since = self.warmth().load(Relaxed);
        since != 0 && ((now_ms >> 10) + 1).saturating_sub(u64::from(since)) <= WARM_MS >> 10
    }

    /// It has just been brought into memory.
    pub fn mark_warm(&self, now_ms: u64) {
        self.warmth().store((now_ms >> 10) as u32 + 1, Relaxed);
    }

    fn warmth(&self) -> &AtomicU32 {
        &self.file.warm[(self.start / PIECE_OCTETS) as usize]
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some((start, len)) = self.0 {
            // SAFETY: this range was mapped by `MappedFile::new` and belongs to this value alone; sends out of it hold
            // the file by its Arc until their completion.
            let _ = unsafe { munmap(start, len.get()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    fn mapped(octets: u64) -> (Arc<MappedFile>, File) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(octets).unwrap();
        (Arc::new(MappedFile::new(file.try_clone().unwrap().into()).unwrap()), file)
    }

    #[test]
    fn a_range_goes_out_in_pieces_that_end_at_the_same_places() {
        let (file, _) = mapped(3 * PIECE_OCTETS + 5);
        for range in
            [0..file.len(), 7..file.len(), PIECE_OCTETS..PIECE_OCTETS + 1, 3 * PIECE_OCTETS..file.len()]
        {
            let (mut at, mut lens) = (range.start, vec![]);
            while at < range.end {
                let piece = file.piece(&(at..range.end));
                assert!(piece.len() > 0 && u64::from(piece.len()) <= PIECE_OCTETS);
                at += u64::from(piece.len());
                lens.push(piece.len());
                assert!(at == range.end || at % PIECE_OCTETS == 0, "{range:?}: {lens:?}");
            }
            assert_eq!(at, range.end);
        }
    }

    #[test]
    fn warmth_is_by_piece_and_wears_off() {
        let (file, _) = mapped(2 * PIECE_OCTETS);
        let (first, second) = (file.piece(&(0..file.len())), file.piece(&(PIECE_OCTETS..file.len())));
        assert!(!first.is_warm(0));
        first.mark_warm(0);
        assert!(first.is_warm(0) && first.is_warm(WARM_MS - 1024) && !first.is_warm(2 * WARM_MS));
        assert!(!second.is_warm(0));
    }

    #[test]
    fn a_file_that_shrinks_is_no_longer_intact_and_one_that_grows_is() {
        let (file, handle) = mapped(100);
        handle.set_len(101).unwrap();
        assert!(file.is_intact());
        handle.set_len(99).unwrap();
        assert!(!file.is_intact() && file.len() == 100);
    }

    #[test]
    fn a_file_that_is_written_anew_in_place_is_no_longer_intact() {
        let (file, handle) = mapped(100);
        assert!(file.is_intact());
        handle.set_len(0).unwrap();
        handle.set_len(100).unwrap();
        handle.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(1)).unwrap();
        assert!(!file.is_intact());
    }

    #[test]
    fn what_is_brought_into_memory_is_the_whole_piece() {
        let (file, _) = mapped(2 * PIECE_OCTETS + 5);
        for (start, base, len) in [
            (0, 0, PIECE_OCTETS),
            (PIECE_OCTETS + 9, PIECE_OCTETS, PIECE_OCTETS),
            (2 * PIECE_OCTETS + 4, 2 * PIECE_OCTETS, 5),
        ] {
            let first = file.piece(&(0..1)).address() as u64;
            let (address, octets) = file.piece(&(start..start + 1)).neighbourhood();
            assert_eq!((address as u64 - first, u64::from(octets)), (base, len));
        }
    }

    #[test]
    fn an_empty_file_is_mapped_to_nothing() {
        let (file, _) = mapped(0);
        assert!(file.is_empty() && file.is_intact());
    }

    #[test]
    fn what_is_in_memory_is_read_without_waiting() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        let mut into = [0; 4];
        let read = |into: &mut [u8], at| read_cached(file.as_fd(), into, at);
        match read(&mut into, 3) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                println!("skipped: this file system cannot tell what is in memory");
            }
            outcome => assert_eq!((outcome.unwrap(), &into), (4, b"3456")),
        }
        assert!(read(&mut into, u64::MAX).is_err());
        assert!(matches!(read(&mut into, 10), Ok(0) | Err(_)));
    }
}
