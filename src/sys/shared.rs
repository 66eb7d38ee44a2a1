//! Memory that two processes share: numbers that one writes and anybody reads.
//!
//! Neighbours: `stats::area` gives the numbers a meaning; `master::spawn` has a worker inherit the descriptor.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use std::ffi::{CStr, c_void};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// So many atomic numbers in memory that stays mapped as long as this lives. Nobody can make it shorter (it is sealed), so
/// reading it never faults, whatever the other process does; what the other process writes into it is another matter.
#[derive(Debug)]
pub(crate) struct SharedWords {
    start: NonNull<c_void>,
    words: usize,
}

// SAFETY: an address range of atomics, which any thread may use; it stays mapped until the owner is dropped.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// New memory, all zero, and the descriptor that gives it to another process. Pages cost memory only once written.
    pub(crate) fn create(name: &CStr, words: usize) -> Result<(SharedWords, OwnedFd), Errno> {
        let memory = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&memory, (words * size_of::<AtomicU64>()) as libc::off_t)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
        Ok((SharedWords::map(memory.as_fd(), words)?, memory))
    }

    /// The memory behind a descriptor that was inherited; EINVAL if that is no such memory, or not so long.
    pub(crate) fn attach(memory: &OwnedFd, words: usize) -> Result<SharedWords, Errno> {
        let seals = SealFlag::from_bits_retain(fcntl(memory, FcntlArg::F_GET_SEALS)?);
        let expected = (words * size_of::<AtomicU64>()) as libc::off_t;
        if !seals.contains(SealFlag::F_SEAL_SHRINK) || fstat(memory)?.st_size != expected {
            return Err(Errno::EINVAL);
        }
        SharedWords::map(memory.as_fd(), words)
    }

    fn map(memory: BorrowedFd<'_>, words: usize) -> Result<SharedWords, Errno> {
        let octets = NonZeroUsize::new(words * size_of::<AtomicU64>()).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice: it overlaps nothing of ours.
        let start = unsafe { mmap(None, octets, access, MapFlags::MAP_SHARED, memory, 0) }?;
        Ok(SharedWords { start, words })
    }

    /// The numbers.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is as long as `words` says and page-aligned, the seal keeps the file under it that long, any
        // bits are a number, and everybody, in whichever process, uses it as atomics.
        unsafe { std::slice::from_raw_parts(self.start.cast::<AtomicU64>().as_ptr(), self.words) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: nobody borrows the words any more, and the range is ours.
        let _ = unsafe { munmap(self.start, self.words * size_of::<AtomicU64>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn what_one_writes_the_other_reads() {
        let (ours, memory) = SharedWords::create(c"test", 600).unwrap();
        let theirs = SharedWords::attach(&memory, 600).unwrap();
        drop(memory);
        assert!(ours.words().iter().all(|word| word.load(Relaxed) == 0));
        theirs.words()[599].store(7, Relaxed);
        assert_eq!(ours.words()[599].load(Relaxed), 7);
        drop(ours);
        assert_eq!(theirs.words()[599].load(Relaxed), 7);
    }

    #[test]
    fn it_cannot_be_cut_and_nothing_else_is_taken_for_it() {
        let (_ours, memory) = SharedWords::create(c"test", 600).unwrap();
        assert_eq!(ftruncate(&memory, 8), Err(Errno::EPERM));
        assert_eq!(SharedWords::attach(&memory, 601).unwrap_err(), Errno::EINVAL);
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        ftruncate(&file, 4800).unwrap();
        SharedWords::attach(&file, 600).unwrap_err();
        SharedWords::attach(&std::fs::File::open("/dev/null").unwrap().into(), 600).unwrap_err();
    }
}
