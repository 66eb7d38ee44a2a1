//! The provided-buffer ring: the kernel picks a buffer for each receive, we read it in place and give it back.
//!
//! A few hundred small buffers: the kernel uses every buffer of the pool in turn, so a pool larger than the L2 cache
//! makes each receive hit cold memory (+15 to 20 % CPU at 512 connections, 8 MiB against 512 KiB). When they run out,
//! a receive ends with ENOBUFS and is armed again, which costs less than a larger pool.
//!
//! Long content has a few wide buffers beside them, made when the first wants them: what a completion costs is more than
//! what it costs to copy 2 KiB.
//!
//! Neighbours: registered by `setup`; leases travel in `Completion::Received`.

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

const PAGE: usize = 4096;

/// How large a pool is.
#[derive(Debug, Clone, Copy)]
pub struct PoolSize {
    /// How many buffers the kernel may fill before it must wait for one to come back. A power of two.
    pub count: u16,
    /// Octets in one buffer.
    pub octets: usize,
}

impl PoolSize {
    /// A worker's: any request that people send by hand or browser fits, most fit several times.
    pub const REQUESTS: PoolSize = PoolSize { count: 256, octets: 2048 };
    /// For long content: as much as a pipe to the program holds.
    pub const CONTENT: PoolSize = PoolSize { count: 8, octets: 64 * 1024 };
}

/// Which of a ring's pools: its group number, and what its buffers' numbers begin with.
#[derive(Debug, Clone, Copy)]
struct Group {
    number: u16,
    first: u16,
}

const NARROW: Group = Group { number: 0, first: 0 };
const WIDE: Group = Group { number: 1, first: 0x8000 };

/// Received bytes on loan from the kernel. Give it back with [`Buffers::give_back`]; one that is lost shrinks the pool.
#[derive(Debug)]
#[must_use = "a lease that is not given back shrinks the receive pool for good"]
pub struct Lease {
    id: u16,
    len: u32,
}

impl Lease {
    /// How many octets were received.
    #[inline]
    pub fn octets(&self) -> u32 {
        self.len
    }
}

/// A ring's pools, shared with the kernel.
pub struct Buffers {
    narrow: Pool,
    wide: Option<Pool>,
}

struct Pool {
    group: Group,
    size: PoolSize,
    /// `count` entries, page-aligned, read by the kernel; the tail counter overlays the first one.
    entries: NonNull<BufRingEntry>,
    /// `count * octets` octets, written by the kernel.
    memory: NonNull<u8>,
    tail: u16,
    published: u16,
}

impl Buffers {
    pub(super) fn register(ring: &IoUring, size: PoolSize) -> io::Result<Buffers> {
        Ok(Buffers { narrow: Pool::register(ring, NARROW, size)?, wide: None })
    }

    /// The kernel forgets the pools. Only when no receive is in flight.
    pub(super) fn unregister(&self, ring: &IoUring) -> io::Result<()> {
        let pools = [Some(&self.narrow), self.wide.as_ref()];
        pools
            .into_iter()
            .flatten()
            .try_for_each(|pool| ring.submitter().unregister_buf_ring(pool.group.number))
    }

    /// Where requests are received into.
    pub(super) fn narrow_group(&self) -> u16 {
        self.narrow.group.number
    }

    /// Where long content is; made now if it is the first. `None` where there is no memory for it.
    pub(super) fn wide_group(&mut self, ring: &IoUring) -> Option<u16> {
        if self.wide.is_none() {
            self.wide = Pool::register(ring, WIDE, PoolSize::CONTENT).ok();
        }
        self.wide.as_ref().map(|pool| pool.group.number)
    }

    pub(super) fn lease(&self, id: u16, len: u32) -> Lease {
        let pool = self.pool(id);
        let PoolSize { count, octets } = pool.size;
        let known = id.wrapping_sub(pool.group.first) < count && len as usize <= octets;
        assert!(known, "the kernel named buffer {id} with {len} octets");
        Lease { id, len }
    }

    /// What was received.
    #[inline]
    pub fn bytes(&self, lease: &Lease) -> &[u8] {
        self.pool(lease.id).bytes(lease)
    }

    /// Returns a buffer; the kernel sees it at the next submit.
    #[inline]
    pub fn give_back(&mut self, lease: Lease) {
        match &mut self.wide {
            Some(wide) if lease.id >= WIDE.first => wide.offer(lease.id),
            _ => self.narrow.offer(lease.id),
        }
    }

    /// Shows the kernel what was given back since the last call.
    #[inline]
    pub(super) fn publish(&mut self) {
        self.narrow.publish();
        if let Some(wide) = &mut self.wide {
            wide.publish();
        }
    }

    #[inline]
    fn pool(&self, id: u16) -> &Pool {
        match &self.wide {
            Some(wide) if id >= WIDE.first => wide,
            _ => &self.narrow,
        }
    }
}

impl Pool {
    fn register(ring: &IoUring, group: Group, size: PoolSize) -> io::Result<Pool> {
        assert!(size.count.is_power_of_two() && size.octets > 0, "a pool of {size:?}");
        let mut buffers = Pool {
            group,
            size,
            entries: allocate(entries_layout(size)).cast(),
            memory: allocate(memory_layout(size)),
            tail: 0,
            published: 0,
        };
        // SAFETY: `entries` is page-aligned, zeroed, `count` long and is neither moved nor freed while the ring
        // lives: `Ring` keeps `Buffers` beside it and drops it unregistered, or not at all (see there).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.entries.as_ptr() as u64,
                size.count,
                group.number,
                0,
            )?;
        }
        for place in 0..size.count {
            buffers.offer(group.first + place);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Where a buffer's octets lie, from the start of the memory.
    #[inline]
    fn offset(&self, id: u16) -> usize {
        usize::from(id - self.group.first) * self.size.octets
    }

    #[inline]
    fn bytes(&self, lease: &Lease) -> &[u8] {
        // SAFETY: the kernel filled `len` octets of buffer `id` and does not touch it again until it is offered
        // anew, which takes the lease by value; bounds were checked when the lease was made.
        unsafe {
            let start = self.memory.as_ptr().add(self.offset(lease.id));
            std::slice::from_raw_parts(start, lease.len as usize)
        }
    }

    #[inline]
    fn publish(&mut self) {
        if self.published != self.tail {
            self.published = self.tail;
            // SAFETY: the tail lies inside the registered entries; the kernel only reads it, so one release store
            // (after the entries are written) is the whole protocol.
            unsafe {
                let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
                (*tail).store(self.tail, Ordering::Release);
            }
        }
    }

    #[inline]
    fn offer(&mut self, id: u16) {
        let PoolSize { count, octets } = self.size;
        // SAFETY: the index is masked to the ring's length; the kernel does not read entries beyond the published
        // tail, and at most `count` buffers exist, so the entry written is not one it still has to read.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add((self.tail & (count - 1)) as usize);
            entry.set_addr(self.memory.as_ptr().add(self.offset(id)) as u64);
            entry.set_len(octets as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }
}

impl Drop for Pool {
    /// Reached only when registering failed or when the pool has been unregistered (see `Ring`).
    fn drop(&mut self) {
        // SAFETY: both were allocated with these layouts and the kernel does not know them.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.size));
            dealloc(self.memory.as_ptr(), memory_layout(self.size));
        }
    }
}

fn entries_layout(size: PoolSize) -> Layout {
    Layout::from_size_align(usize::from(size.count) * size_of::<BufRingEntry>(), PAGE)
        .expect("a small layout")
}

fn memory_layout(size: PoolSize) -> Layout {
    Layout::from_size_align(usize::from(size.count) * size.octets, PAGE).expect("a small layout")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: neither layout has size zero.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
