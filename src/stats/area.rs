//! The stats area: counters, heartbeat and latency histogram of one worker process, in memory that the process writes and
//! anybody who has it mapped reads. It belongs to a process, never to a slot: when the process is gone, what is in it
//! stays as it was at the last turn that began a submit.
//!
//! Everything is a 64-bit atomic with one writer, so that writing is a plain store and reading tears nothing:
//! word 0 the layout's version, word 1 the heartbeat, words 2 to 4 and from 40 what the loop is at (`doing`), from word 8
//! the counters, from word 64 the histogram's buckets.
//!
//! Neighbours: `tally` and `counters` are what is published; `book` reads; `sys::shared` maps.

use super::Stats;
use super::counters::Counters;
use super::doing;
use super::latency::{LONGEST_NS, Latency};
use super::tally::Nanos;
use crate::sys::shared::SharedWords;
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// What stands in word 0; another layout gets another one.
const LAYOUT: u64 = 0x7572_696e_6764_0002;
const HEARTBEAT: usize = 1;
const COUNTERS: usize = 8;
const BUCKETS: usize = 64;

/// HdrHistogram's buckets for three digits: values below 2^11 have one each, and every doubling has 2^10 more.
const EXACT_BITS: u32 = 11;
const HALF: usize = 1 << (EXACT_BITS - 1);
/// As many as `LONGEST_NS` needs.
const BUCKET_COUNT: usize = bucket(LONGEST_NS) + 1;
const WORDS: usize = BUCKETS + BUCKET_COUNT;

/// More than anybody counts in one bucket. A process that writes where it should not must not have the sums of others
/// overflow.
const COUNT_MAX: u64 = 1 << 48;

const _: () = assert!(COUNTERS + Counters::NAMES.len() <= doing::FIRST && doing::END <= BUCKETS);

/// See the module's comment. Clones show the same memory.
#[derive(Clone, Debug)]
pub struct Area(Arc<SharedWords>);

impl Area {
    /// New memory (270 KiB, of which the pages that are written to take room), and the descriptor that a worker inherits.
    pub fn create() -> Result<(Area, OwnedFd), Errno> {
        let (memory, descriptor) = SharedWords::create(c"uringd-stats", WORDS)?;
        memory.words()[0].store(LAYOUT, Relaxed);
        Ok((Area(Arc::new(memory)), descriptor))
    }

    /// The memory that was inherited; EINVAL if that is something else.
    pub(crate) fn attach(descriptor: &OwnedFd) -> Result<Area, Errno> {
        let memory = SharedWords::attach(descriptor, WORDS)?;
        match memory.words()[0].load(Relaxed) {
            LAYOUT => Ok(Area(Arc::new(memory))),
            _ => Err(Errno::EINVAL),
        }
    }

    /// So many requests took that long.
    #[inline]
    pub fn record(&self, took: Nanos, count: u64) {
        let word = &self.0.words()[BUCKETS + bucket(took.min(LONGEST_NS))];
        word.store(word.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// What the process has counted so far, and that its loop goes round.
    #[inline]
    pub fn publish(&self, counters: &Counters, heartbeat: Nanos) {
        let words = self.0.words();
        words[HEARTBEAT].store(heartbeat, Relaxed);
        let places = &words[COUNTERS..COUNTERS + Counters::NAMES.len()];
        places.iter().zip(counters.values()).for_each(|(word, value)| word.store(value, Relaxed));
    }

    /// All of it, as it is now.
    pub fn read(&self) -> Stats {
        let mut latency = Latency::new();
        for (number, word) in self.words()[BUCKETS..].iter().enumerate() {
            match word.load(Relaxed) {
                0 => {}
                count => latency.record(lowest_of(number), count.min(COUNT_MAX)),
            }
        }
        Stats { counters: self.counters(), latency }
    }

    /// How often what happened, as it is now.
    pub(crate) fn counters(&self) -> Counters {
        let mut values = [0; Counters::NAMES.len()];
        let places = &self.words()[COUNTERS..];
        values.iter_mut().zip(places).for_each(|(value, word)| *value = word.load(Relaxed));
        Counters::of_values(values)
    }

    /// When the loop last ended a turn, on the clock of its process; 0 before the first.
    pub(super) fn heartbeat(&self) -> Nanos {
        self.words()[HEARTBEAT].load(Relaxed)
    }

    #[inline]
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }
}

/// Which bucket a value falls into.
#[inline]
const fn bucket(value: u64) -> usize {
    // values below 2^11 are their own; a larger one is shifted until eleven bits of it are left
    let shift = (u64::BITS - (value | (2 * HALF as u64 - 1)).leading_zeros()) - EXACT_BITS;
    (shift as usize) * HALF + (value >> shift) as usize
}

/// The lowest value of a bucket.
fn lowest_of(bucket: usize) -> u64 {
    let shift = (bucket / HALF).saturating_sub(1);
    ((bucket - shift * HALF) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_buckets_are_those_of_the_library() {
        for value in
            [0, 1, 2, 1023, 1024, 2047, 2048, 2049, 4095, 4096, 1_000_000, LONGEST_NS - 1, LONGEST_NS]
        {
            let mut library = Latency::new();
            library.record(value, 1);
            let lowest = lowest_of(bucket(value));
            assert_eq!(lowest, library.histogram().lowest_equivalent(value), "{value}");
            assert!(lowest <= value);
        }
        assert_eq!(Latency::new().histogram().distinct_values(), BUCKET_COUNT.next_multiple_of(HALF));
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_what_a_histogram_of_the_library_has(
            records in prop::collection::vec((0..=LONGEST_NS, 1u64..1000), 0..50),
            small in prop::collection::vec((0..100_000u64, 1u64..1000), 0..50),
        ) {
            let (area, descriptor) = Area::create().unwrap();
            let writer = Area::attach(&descriptor).unwrap();
            let mut expected = Latency::new();
            for (took, count) in records.into_iter().chain(small) {
                writer.record(took, count);
                expected.record(took, count);
            }
            prop_assert_eq!(area.read().latency, expected);
        }
    }

    #[test]
    fn what_is_published_is_read_elsewhere_and_outlives_its_writer() {
        let (area, descriptor) = Area::create().unwrap();
        assert_eq!(area.read(), Stats::default());
        let writer = Area::attach(&descriptor).unwrap();
        let counters = Counters { accepted: 1, requests: 5, longest_turn_ns: 9, ..Counters::default() };
        writer.publish(&counters, 77);
        writer.record(u64::MAX, 2);
        drop(writer);
        let stats = area.read();
        assert_eq!((stats.counters, area.heartbeat(), stats.latency.count()), (counters, 77, 2));
        assert!(stats.latency.max() >= std::time::Duration::from_secs(3600));
    }

    #[test]
    fn memory_that_somebody_scribbled_on_is_read_to_an_end() {
        for pattern in [u64::MAX, 0x4141_4141_4141_4141] {
            let (area, _) = Area::create().unwrap();
            area.0.words()[1..].iter().for_each(|word| word.store(pattern, Relaxed));
            let mut total = area.read();
            total.add(&area.read());
            assert!(total.latency.quantile(0.5) <= total.latency.max());
            assert!(area.doing().request.is_some_and(|line| line.len() <= 8 + 1 + 120 + 3));
            let _ = total.counters.responses();
            assert_eq!(total.latency.since(&Latency::new()).count(), total.latency.count());
            let table = crate::stats::report::levels(total.latency.histogram(), 5);
            assert!(table.len() < 1_000, "{}", table.len());
        }
    }

    #[test]
    fn memory_of_another_layout_is_refused() {
        let (memory, descriptor) = SharedWords::create(c"test", WORDS).unwrap();
        assert_eq!(Area::attach(&descriptor).unwrap_err(), Errno::EINVAL);
        memory.words()[0].store(LAYOUT + 1, Relaxed);
        assert_eq!(Area::attach(&descriptor).unwrap_err(), Errno::EINVAL);
    }
}
