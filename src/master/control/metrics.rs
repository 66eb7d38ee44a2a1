//! The numbers in Prometheus' text format, version 0.0.4.
//!
//! What is counted by slot has the label `slot` and is named `uringd_...`; its sum over the pool is `uringd_pool_...`,
//! under a name of its own, so that who adds up a metric over its labels counts nothing twice.
//!
//! Pure. Neighbours: `routes` answers with it; the numbers are `stats::Counters` and `master::ask::Status`.

use super::health::serves;
use crate::event::Cause;
use crate::master::ask::{Course, Restarts, Status};
use crate::master::lifecycle::Phase;
use crate::master::report;
use crate::stats::{Counters, Latency, Stats};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};

/// The media type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is told.
pub struct Facts<'a> {
    /// The loop's account.
    pub status: &'a Status,
    /// What was counted, by slot.
    pub slots: &'a BTreeMap<usize, Stats>,
    /// Memory of the master's own, in octets.
    pub master_memory: Option<u64>,
    /// The same of each worker, with its slot.
    pub worker_memory: &'a [(usize, u64)],
}

/// The upper bounds of the histogram's buckets, in nanoseconds: 5 us to 10 s.
const BOUNDS: [u64; 20] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

const PHASES: [(Phase, &str); 5] = [
    (Phase::Starting, "starting"),
    (Phase::Online, "online"),
    (Phase::Listening, "listening"),
    (Phase::Retiring, "retiring"),
    (Phase::Draining, "draining"),
];

const RESPONSES: &str = "Final answers, by the class of their status.";

const DURATIONS: &str = "How long requests took, from the wake-up that delivered the last byte to the submit that answered. \
    The sum is an approximation: it is added up from the histogram, which keeps three digits.";

/// All of it.
pub fn render(facts: &Facts<'_>) -> String {
    let mut text = Text(String::new());
    text.master(facts.status, facts.master_memory);
    text.workers(facts.status, facts.worker_memory);
    let names: Vec<String> = facts.slots.keys().map(ToString::to_string).collect();
    let slots: Vec<Set<'_>> =
        names.iter().zip(facts.slots.values()).map(|(slot, stats)| Set { slot: Some(slot), stats }).collect();
    text.numbers("uringd", &slots);
    let total = facts.slots.values().sum();
    text.numbers("uringd_pool", &[Set { slot: None, stats: &total }]);
    text.0
}

/// The numbers of a slot, or of all.
struct Set<'a> {
    slot: Option<&'a str>,
    stats: &'a Stats,
}

impl<'a> Set<'a> {
    fn labels(&self, more: Option<Label<'a>>) -> Vec<Label<'a>> {
        self.slot.map(|slot| ("slot", slot)).into_iter().chain(more).collect()
    }
}

type Label<'a> = (&'a str, &'a str);

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        self.0 += name;
        for (number, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if number == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn master(&mut self, status: &Status, memory: Option<u64>) {
        self.family("uringd_build_info", "gauge", "Which version runs.");
        self.sample("uringd_build_info", &[("version", status.version)], 1);
        self.gauge("uringd_start_time_seconds", "When the master was started, in Unix time.", status.started);
        let stopping = u8::from(status.course == Course::Stopping);
        self.gauge("uringd_stopping", "Whether the server finishes what is in flight and ends.", stopping);
        let given_up = u8::from(status.restarts != Restarts::Allowed);
        let help = "Whether too many workers have crashed, so that no more are started.";
        self.gauge("uringd_giveup", help, given_up);
        self.counter("uringd_giveups_total", "How often that was so.", status.giveups);
        self.gauge("uringd_reloading", "Whether a reload is under way.", u8::from(status.reloading));
        self.family("uringd_reloads_total", "counter", "Reloads that are over.");
        for (result, count) in ["done", "failed"].into_iter().zip(status.reloads) {
            self.sample("uringd_reloads_total", &[("result", result)], count);
        }
        let help = "Which reading of the configuration is in force, the start being 1; reloads that fail may use up numbers.";
        self.gauge("uringd_config_generation", help, status.generation);
        let help = "Workers that were killed because they outlasted the kill timeout.";
        self.counter("uringd_forced_kills_total", help, status.forced_kills);
        if let Some(octets) = memory {
            let help = "Memory of the master's own (RssAnon).";
            self.gauge("uringd_master_memory_anonymous_bytes", help, octets);
        }
    }

    fn workers(&mut self, status: &Status, memory: &[(usize, u64)]) {
        self.gauge("uringd_workers_wanted", "How many workers there are to be.", status.wanted);
        let serving = status.workers.iter().filter(|worker| serves(worker.phase)).count();
        self.gauge("uringd_workers_serving", "How many accept connections.", serving);
        self.family("uringd_workers", "gauge", "How many there are, by the phase of their life.");
        for (phase, name) in PHASES {
            let count = status.workers.iter().filter(|worker| worker.phase == phase).count();
            self.sample("uringd_workers", &[("phase", name)], count);
        }
        let name = "uringd_worker_exits_total";
        self.family(name, "counter", "Workers that are gone, by why they went.");
        // all from the beginning: a counter that begins with its first event hides that one from rate()
        let present = status.workers.iter().map(|worker| worker.slot);
        let gone = status.exits.keys().copied();
        let slots: BTreeSet<usize> = (0..status.wanted).chain(present).chain(gone).collect();
        for slot in slots {
            let exits = status.exits.get(&slot);
            for cause in Cause::ALL {
                let count = exits.and_then(|causes| causes.get(cause)).copied().unwrap_or(0);
                self.sample(name, &[("slot", &slot.to_string()), ("cause", report::name(*cause))], count);
            }
        }
        let name = "uringd_worker_memory_anonymous_bytes";
        self.family(name, "gauge", "Memory of a slot's workers' own (RssAnon).");
        let mut sums = BTreeMap::<usize, u64>::new();
        memory.iter().for_each(|(slot, octets)| *sums.entry(*slot).or_default() += octets);
        for (slot, octets) in sums {
            self.sample(name, &[("slot", &slot.to_string())], octets);
        }
    }

    /// All counters and the latencies, under names that begin so.
    fn numbers(&mut self, prefix: &str, sets: &[Set<'_>]) {
        let mut last = String::new();
        for (place, row) in rows().enumerate() {
            let name = format!("{prefix}_{}", row.name);
            if name != last {
                self.family(&name, if row.is_counter { "counter" } else { "gauge" }, row.help);
            }
            for set in sets {
                let value = set.stats.counters.values()[place];
                match row.divisor {
                    Some(divisor) => self.sample(&name, &set.labels(row.label), value as f64 / divisor),
                    None => self.sample(&name, &set.labels(row.label), value),
                }
            }
            last = name;
        }
        let name = format!("{prefix}_request_duration_seconds");
        self.family(&name, "histogram", DURATIONS);
        for set in sets {
            self.histogram(&name, set);
        }
    }

    fn histogram(&mut self, name: &str, set: &Set<'_>) {
        let (counts, sum) = buckets(&set.stats.latency);
        let mut count = 0;
        for (bound, more) in BOUNDS.into_iter().zip(counts) {
            count += more;
            let bound = (bound as f64 / 1e9).to_string();
            self.sample(&format!("{name}_bucket"), &set.labels(Some(("le", &bound))), count);
        }
        let all = set.stats.latency.count();
        self.sample(&format!("{name}_bucket"), &set.labels(Some(("le", "+Inf"))), all);
        self.sample(&format!("{name}_sum"), &set.labels(None), sum as f64 / 1e9);
        self.sample(&format!("{name}_count"), &set.labels(None), all);
    }
}

/// How a counter is told.
struct Row {
    name: String,
    label: Option<Label<'static>>,
    is_counter: bool,
    /// What the number is to be divided by for the metric's unit.
    divisor: Option<f64>,
    help: &'static str,
}

/// Of each of [`Counters::NAMES`], in its order. One that is not named here is a counter of its own name.
fn rows() -> impl Iterator<Item = Row> {
    Counters::NAMES.iter().zip(Counters::MEANINGS).map(|(name, meaning)| {
        let meaning = meaning.trim();
        let help = meaning.split_inclusive(". ").next().unwrap_or(meaning).trim();
        let counter = |name: &str| Row { name: format!("{name}_total"), label: None, is_counter: true, divisor: None, help };
        match *name {
            "accepted" => counter("connections_accepted"),
            "active" => Row { name: "connections".to_owned(), is_counter: false, ..counter("") },
            "responses_2xx" => Row { label: Some(("class", "2xx")), help: RESPONSES, ..counter("responses") },
            "responses_3xx" => Row { label: Some(("class", "3xx")), help: RESPONSES, ..counter("responses") },
            "responses_4xx" => Row { label: Some(("class", "4xx")), help: RESPONSES, ..counter("responses") },
            "responses_5xx" => Row { label: Some(("class", "5xx")), help: RESPONSES, ..counter("responses") },
            "bytes_in" => counter("received_bytes"),
            "bytes_out" => counter("sent_bytes"),
            "longest_turn_ns" => Row {
                name: "longest_turn_seconds".to_owned(),
                is_counter: false,
                divisor: Some(1e9),
                help: "The longest turn of a loop so far, without its wait: for that long one handler kept all others waiting.",
                ..counter("")
            },
            name => counter(name),
        }
    })
}

/// How many fall into each bucket (the last one, without a bound, aside), and the sum in nanoseconds. Both come from the
/// values' own fixed buckets, so neither ever goes backwards.
fn buckets(latency: &Latency) -> ([u64; BOUNDS.len()], u128) {
    let histogram = latency.histogram();
    let (mut counts, mut sum) = ([0; BOUNDS.len()], 0);
    for step in histogram.iter_recorded() {
        let (value, count) = (step.value_iterated_to(), step.count_at_value());
        sum += u128::from(histogram.median_equivalent(value)) * u128::from(count);
        let lowest = histogram.lowest_equivalent(value);
        if let Some(place) = BOUNDS.iter().position(|bound| lowest <= *bound) {
            counts[place] += count;
        }
    }
    (counts, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::control::tests::{status, worker};

    fn sample() -> String {
        let mut latency = Latency::new();
        latency.record(4_000, 3);
        latency.record(5_000, 1);
        latency.record(1_700_000, 2);
        latency.record(60_000_000_000, 1);
        let counters = Counters {
            requests: 7,
            active: 2,
            responses_2xx: 6,
            responses_5xx: 1,
            longest_turn_ns: 1_500_000,
            ..Counters::default()
        };
        let slots = BTreeMap::from([
            (0, Stats { counters, latency }),
            (3, Stats { counters: Counters { requests: 5, ..Counters::default() }, latency: Latency::new() }),
        ]);
        let workers = vec![worker(1, 0, Phase::Draining), worker(2, 0, Phase::Listening)];
        let exits = BTreeMap::from([(3, BTreeMap::from([(Cause::Crash, 4)]))]);
        let status =
            Status { workers, exits, giveups: 1, reloads: [2, 3], version: "1\"2\\3\n4", ..status() };
        render(&Facts {
            status: &status,
            slots: &slots,
            master_memory: Some(1024),
            worker_memory: &[(0, 4096), (0, 8192)],
        })
    }

    #[test]
    fn each_slot_has_its_numbers_and_the_pool_its_own() {
        let text = sample();
        for line in [
            "# TYPE uringd_requests_total counter",
            "uringd_requests_total{slot=\"0\"} 7",
            "uringd_requests_total{slot=\"3\"} 5",
            "uringd_pool_requests_total 12",
            "uringd_connections{slot=\"0\"} 2",
            "# TYPE uringd_connections gauge",
            "uringd_responses_total{slot=\"0\",class=\"2xx\"} 6",
            "uringd_pool_responses_total{class=\"5xx\"} 1",
            "uringd_pool_longest_turn_seconds 0.0015",
            "uringd_request_duration_seconds_bucket{slot=\"0\",le=\"0.000005\"} 4",
            "uringd_request_duration_seconds_bucket{slot=\"0\",le=\"0.001\"} 4",
            "uringd_request_duration_seconds_bucket{slot=\"0\",le=\"0.0025\"} 6",
            "uringd_request_duration_seconds_bucket{slot=\"0\",le=\"10\"} 6",
            "uringd_request_duration_seconds_bucket{slot=\"0\",le=\"+Inf\"} 7",
            "uringd_request_duration_seconds_count{slot=\"0\"} 7",
            "uringd_pool_request_duration_seconds_count 7",
            "uringd_workers{phase=\"listening\"} 1",
            "uringd_worker_exits_total{slot=\"3\",cause=\"crash\"} 4",
            "uringd_worker_exits_total{slot=\"1\",cause=\"boot-timeout\"} 0",
            "uringd_worker_memory_anonymous_bytes{slot=\"0\"} 12288",
            "uringd_reloads_total{result=\"failed\"} 3",
            "uringd_build_info{version=\"1\\\"2\\\\3\\n4\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
        }
        let sum =
            text.lines().find_map(|line| line.strip_prefix("uringd_pool_request_duration_seconds_sum "));
        let sum: f64 = sum.unwrap().parse().unwrap();
        assert!((sum - 60.003_4).abs() < 0.06, "{sum}");
    }

    #[test]
    fn every_counter_is_told_and_what_is_no_counter_is_a_gauge() {
        let text = sample();
        let told: Vec<Row> = rows().collect();
        assert_eq!(told.len(), Counters::NAMES.len());
        for row in told {
            let kind = if row.is_counter { "counter" } else { "gauge" };
            let line = format!("# TYPE uringd_{} {kind}", row.name);
            assert_eq!(text.lines().filter(|other| *other == line).count(), 1, "{line}");
            assert!(row.help.ends_with('.') || row.help.len() > 20, "{}: {}", row.name, row.help);
        }
    }
}
