//! What is counted and timed: by one loop (`tally`), in the memory that its process shares (`area`), what a loop is at
//! (`doing`), as numbers for people
//! and programs (`counters`, `latency`), the sum over a pool that never goes backwards (`book`), and the forms in which
//! distributions are told (`report`, `hlog`).
//!
//! Neighbours: `sys::shared` maps the memory; `http` and `worker` count, `master` keeps the book; `load` tells its own
//! distributions in the same forms.

mod area;
mod book;
mod counters;
mod doing;
pub mod hlog;
mod latency;
pub mod report;
mod tally;

#[doc(hidden)]
pub use area::Area;
pub(crate) use book::Book;
pub use counters::Counters;
pub use doing::Before;
pub(crate) use doing::{Doing, Line, Pulse};
pub use latency::Latency;
pub(crate) use tally::Turn;
pub use tally::{Nanos, Tally};

use std::iter::Sum;

/// What a worker, or a pool of them, has done so far.
///
/// The numbers are read while workers write them, without stopping anybody: each is right at some moment during the call,
/// two of them not necessarily at the same.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// How often what happened.
    pub counters: Counters,
    /// How long requests took.
    pub latency: Latency,
}

impl<'a> Sum<&'a Stats> for Stats {
    fn sum<I: Iterator<Item = &'a Stats>>(all: I) -> Stats {
        let mut total = Stats::default();
        all.for_each(|stats| total.add(stats));
        total
    }
}

impl Stats {
    /// Adds another process's.
    pub(crate) fn add(&mut self, other: &Stats) {
        self.counters.add(&other.counters);
        self.latency.add(&other.latency);
    }
}
