//! The sum over a pool. What a process has counted is its area while it lives and moves to its slot's base when it is gone:
//! the total is base plus live areas at every moment, so that nothing goes backwards, whatever dies.
//!
//! Neighbours: `master::event_loop` opens an account for each worker and closes it when its pidfd fires; `Pool::stats` and
//! the latency log read.

use super::{Area, Counters, Latency, Stats};
use crate::event::WorkerId;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module's comment. Clones are the same book.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book(Arc<Mutex<Accounts>>);

#[derive(Debug, Default)]
struct Accounts {
    /// What the slots' former processes have counted.
    base: BTreeMap<usize, Stats>,
    live: BTreeMap<WorkerId, Live>,
    /// Who is gone since the log was last written, and what was not in it yet; `None`: nobody writes one.
    unlogged: Option<Vec<(WorkerId, Latency)>>,
}

#[derive(Debug)]
struct Live {
    slot: usize,
    area: Area,
    /// What the log has of it.
    logged: Latency,
}

impl Book {
    /// A worker is to be started: the descriptor is for it to inherit.
    pub(crate) fn open(&self, id: WorkerId, slot: usize) -> Result<OwnedFd, Errno> {
        let (area, descriptor) = Area::create()?;
        self.accounts().live.insert(id, Live { slot, area, logged: Latency::new() });
        Ok(descriptor)
    }

    /// A worker is gone, or was never started.
    pub(crate) fn close(&self, id: WorkerId) {
        let mut accounts = self.accounts();
        let Some(live) = accounts.live.remove(&id) else { return };
        let last = live.area.read();
        if let Some(unlogged) = &mut accounts.unlogged {
            unlogged.push((id, last.latency.since(&live.logged)));
        }
        let base = accounts.base.entry(live.slot).or_default();
        // it has no connections any more
        base.add(&Stats { counters: Counters { active: 0, ..last.counters }, latency: last.latency });
    }

    /// The sum over all processes there ever were.
    pub(crate) fn total(&self) -> Stats {
        self.by_slot().values().sum()
    }

    /// The sums by slot.
    pub(crate) fn by_slot(&self) -> BTreeMap<usize, Stats> {
        let accounts = self.accounts();
        let mut sums = accounts.base.clone();
        for live in accounts.live.values() {
            sums.entry(live.slot).or_default().add(&live.area.read());
        }
        sums
    }

    /// What a worker that lives writes.
    pub(crate) fn area(&self, id: WorkerId) -> Option<Area> {
        self.accounts().live.get(&id).map(|live| live.area.clone())
    }

    /// Those that live.
    pub(crate) fn by_worker(&self) -> BTreeMap<WorkerId, Stats> {
        self.accounts().live.iter().map(|(id, live)| (*id, live.area.read())).collect()
    }

    /// From now on what has been recorded since the last time can be had.
    pub(crate) fn keep_log(&self) {
        self.accounts().unlogged.get_or_insert_default();
    }

    /// Nobody takes it any more.
    pub(crate) fn stop_log(&self) {
        self.accounts().unlogged = None;
    }

    /// The latencies recorded since this was last called, by worker, those without any left out.
    pub(crate) fn take_unlogged(&self) -> Vec<(WorkerId, Latency)> {
        let mut accounts = self.accounts();
        let mut all = accounts.unlogged.as_mut().map(std::mem::take).unwrap_or_default();
        for (id, live) in &mut accounts.live {
            let now = live.area.read().latency;
            all.push((*id, now.since(&live.logged)));
            live.logged = now;
        }
        all.retain(|(_, latency)| latency.count() > 0);
        all
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What can happen to a pool.
    #[derive(Clone, Debug)]
    enum Happens {
        Start {
            slot: usize,
        },
        /// The nth that lives counts something.
        Work {
            nth: usize,
            requests: u64,
            took: u64,
        },
        Die {
            nth: usize,
        },
        Log,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            1 => (0..3usize).prop_map(|slot| Happens::Start { slot }),
            4 => (0..9usize, 0..50u64, 0..u64::MAX)
                .prop_map(|(nth, requests, took)| Happens::Work { nth, requests, took }),
            1 => (0..9usize).prop_map(|nth| Happens::Die { nth }),
            1 => Just(Happens::Log),
        ]
    }

    proptest! {
        // reading takes a moment where nothing is optimized
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_total_is_what_was_counted_whoever_dies(story in prop::collection::vec(happens(), 0..60)) {
            let book = Book::default();
            book.keep_log();
            let (mut workers, mut ids) = (Vec::new(), 0..);
            let (mut requests_in_all, mut logged) = (0, Latency::new());
            for one in story {
                match one {
                    Happens::Start { slot } => {
                        let id = ids.next().unwrap();
                        let area = Area::attach(&book.open(id, slot).unwrap()).unwrap();
                        workers.push((id, area, Counters::default()));
                    }
                    Happens::Work { nth, requests, took } if !workers.is_empty() => {
                        let nth = nth % workers.len();
                        let (_, area, counters) = &mut workers[nth];
                        counters.requests += requests;
                        counters.active = 5;
                        area.record(took, requests);
                        area.publish(counters, 0);
                        requests_in_all += requests;
                    }
                    Happens::Die { nth } if !workers.is_empty() => {
                        let (id, ..) = workers.remove(nth % workers.len());
                        book.close(id);
                        book.close(id);
                    }
                    Happens::Log => book.take_unlogged().iter().for_each(|(_, latency)| logged.add(latency)),
                    _ => {}
                }
                let total = book.total();
                prop_assert_eq!(total.counters.requests, requests_in_all);
                prop_assert_eq!(total.latency.count(), requests_in_all);
                let working = workers.iter().filter(|(.., counters)| counters.active > 0).count() as u64;
                prop_assert_eq!(total.counters.active, working * 5);
                prop_assert_eq!(book.by_worker().len(), workers.len());
            }
            book.take_unlogged().iter().for_each(|(_, latency)| logged.add(latency));
            prop_assert_eq!(logged, book.total().latency);
        }
    }

    #[test]
    fn without_a_log_nobody_who_is_gone_is_remembered() {
        let book = Book::default();
        let area = Area::attach(&book.open(1, 0).unwrap()).unwrap();
        area.record(5, 1);
        book.close(1);
        assert!(book.take_unlogged().is_empty());
        assert_eq!(book.total().latency.count(), 1);
        book.keep_log();
        book.stop_log();
        let area = Area::attach(&book.open(2, 0).unwrap()).unwrap();
        area.record(5, 1);
        book.close(2);
        assert!(book.take_unlogged().is_empty());
    }
}
