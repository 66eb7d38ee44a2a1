//! What is told of the pool in JSON and in tables: the loop's account of itself, and beside each worker the numbers that it
//! keeps in shared memory.
//!
//! Neighbours: `routes` answers with it, `cli::ctl` reads it; `stats::book` has the numbers.

use crate::event::WorkerId;
use crate::master::Pool;
use crate::master::ask::{Status, WorkerStatus};
use crate::stats::report;
use crate::stats::{Latency, Stats};
use crate::sys::procfs::rss_anon;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `GET /status`. A worker's numbers are its own; those of a slot include the ones that were there before, and those of the
/// pool all there ever were.
pub fn status(status: &Status, pool: &Pool) -> Value {
    let (slots, workers) = (pool.stats_by_slot(), pool.stats_by_worker());
    let mut view = serde_json::to_value(status).expect("a status has JSON");
    view["workers"] = status.workers.iter().map(|one| worker(one, &workers)).collect();
    let by_slot = slots.iter().map(|(slot, stats)| {
        let mut numbers = numbers(stats);
        numbers["restarts"] = gone(status, *slot).into();
        (slot.to_string(), numbers)
    });
    view["slots"] = Value::Object(by_slot.collect());
    view["total"] = numbers(&slots.values().sum());
    view["rss_anon"] = rss_anon(status.pid as i32).into();
    view
}

fn worker(worker: &WorkerStatus, numbers_of: &BTreeMap<WorkerId, Stats>) -> Value {
    let mut view = serde_json::to_value(worker).expect("a worker has JSON");
    // one that has gone since is not in the book any more
    let stats = numbers_of.get(&worker.id).map(numbers).unwrap_or(json!({}));
    let stats = stats.as_object().cloned().unwrap_or_default();
    view.as_object_mut().expect("an object").extend(stats);
    view["rss_anon"] = rss_anon(worker.pid).into();
    view
}

fn numbers(stats: &Stats) -> Value {
    json!({ "counters": stats.counters, "latency": latency(&stats.latency) })
}

/// How many workers of a slot are gone.
fn gone(status: &Status, slot: usize) -> u64 {
    status.exits.get(&slot).map_or(0, |causes| causes.values().sum())
}

/// `GET /latency`, in microseconds.
pub fn latencies(slots: &BTreeMap<usize, Stats>) -> Value {
    let by_slot = slots.iter().map(|(slot, stats)| (slot.to_string(), latency(&stats.latency)));
    json!({ "slots": Value::Object(by_slot.collect()), "all": latency(&slots.values().sum::<Stats>().latency) })
}

fn latency(latency: &Latency) -> Value {
    let histogram = latency.histogram();
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let mut view = json!({
        "count": latency.count(),
        "mean_us": report::mean_and_deviation(histogram).0 / 1e3,
        "max_us": micros(histogram.max()),
    });
    for (name, part) in report::PERCENTILES {
        view[format!("{}_us", name.replace('.', "_"))] = micros(report::value_at(histogram, part)).into();
    }
    view
}
