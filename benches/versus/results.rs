//! What was measured, as `results.json` keeps it, and what is made of it: medians of the rounds that nobody disturbed,
//! and ratios to uringd round by round, because what the machine did in a round it did to both.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that one call of the bench has measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// YYYY-MM-DD.
    pub date: String,
    /// What to type to have it again.
    pub command: String,
    /// Where.
    pub machine: Machine,
    /// Rounds in each profile.
    pub rounds: u32,
    /// Seconds of one measurement.
    pub seconds: f64,
    /// Worker processes or threads of each server.
    pub workers: usize,
    /// All servers, those that were not there too. The first is uringd.
    pub servers: Vec<Server>,
    /// In the order measured.
    pub profiles: Vec<Profile>,
}

/// A machine, without its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// As /proc/cpuinfo has it.
    pub cpu: String,
    /// How many.
    pub cores: usize,
    /// Whether a hypervisor is underneath.
    pub virtual_machine: bool,
    /// `uname -r` up to the first hyphen.
    pub kernel: String,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// As `--peer` takes it.
    pub name: String,
    /// Its version and how it was set up.
    pub version: String,
    /// Why it was not measured at all.
    pub missing: Option<String>,
}

/// One profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// As `--profile` takes it.
    pub name: String,
    /// For people.
    pub title: String,
    /// The flags that uringload was given.
    pub load: String,
    /// Whether workers were replaced or killed meanwhile.
    pub trouble: bool,
    /// Who was left out, and why.
    pub skipped: Vec<Skipped>,
    /// In the order measured, the disturbed ones too.
    pub runs: Vec<Run>,
}

/// A server that was left out of a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub server: String,
    /// Why.
    pub reason: String,
}

/// One measurement of one server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub server: String,
    /// Which clients, where a profile has two kinds.
    pub clients: Option<String>,
    /// From 1.
    pub round: u32,
    /// Requests that were sent.
    pub requests: u64,
    /// Answers with a 2xx status a second.
    pub rate: f64,
    /// The server's CPU time in user space for each request, in microseconds.
    pub user_us: f64,
    /// The same in the kernel.
    pub system_us: f64,
    /// Microseconds, like those that follow.
    pub p50_us: u64,
    /// 99 %.
    pub p99_us: u64,
    /// 99.9 %.
    pub p99_9_us: u64,
    /// The longest.
    pub max_us: u64,
    /// Anonymous memory of all its processes at the end, in KiB.
    pub rss_anon_kib: u64,
    /// Failed requests by kind.
    pub errors: BTreeMap<String, u64>,
    /// Connections that were made.
    pub connections_opened: u64,
    /// The longest time without a success, in seconds.
    pub longest_gap: f64,
    /// Idle connections that the server closed.
    pub idle_lost: u64,
    /// Signals that were sent to the server.
    pub signals: u32,
    /// The share of time that the hypervisor took.
    pub stolen: f64,
    /// Whether that was too much, so that the run counts for nothing.
    pub disturbed: bool,
    /// Why there is no result at all.
    pub problem: Option<String>,
}

impl Run {
    /// User space and kernel.
    pub fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }

    fn counts(&self) -> bool {
        !self.disturbed && self.problem.is_none()
    }
}

/// A server in a profile: medians over its rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name.
    pub server: String,
    /// Which clients.
    pub clients: Option<String>,
    /// Medians, but for errors, lost connections, signals, requests and connections, which are sums, and the longest gap
    /// and latency.
    pub run: Run,
    /// Rate and CPU time as shares of uringd's, medians of the rounds. None where there is no round of both.
    pub to_uringd: Option<Ratio>,
    /// How many rounds count.
    pub rounds: usize,
    /// How many do not.
    pub disturbed: usize,
}

/// Shares of uringd's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Requests a second.
    pub rate: f64,
    /// CPU time per request.
    pub cpu: f64,
}

impl Profile {
    /// One row a server (and kind of client), in the order measured. `reference` is what the others are compared with.
    pub fn rows(&self, reference: &str) -> Vec<Row> {
        let mut keys: Vec<(&str, Option<&str>)> = vec![];
        for run in &self.runs {
            let key = (run.server.as_str(), run.clients.as_deref());
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys.into_iter().map(|(server, clients)| self.row(server, clients, reference)).collect()
    }

    fn runs_of<'a>(&'a self, server: &'a str, clients: Option<&'a str>) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.server == server && run.clients.as_deref() == clients)
    }

    fn row(&self, server: &str, clients: Option<&str>, reference: &str) -> Row {
        let all: Vec<&Run> = self.runs_of(server, clients).collect();
        let counted: Vec<&Run> = all.iter().copied().filter(|run| run.counts()).collect();
        let disturbed = all.iter().filter(|run| run.disturbed).count();
        // one that never had a quiet moment is shown all the same; the note says so
        let told = if counted.is_empty() { &all } else { &counted };
        let ratios: Vec<Ratio> = counted
            .iter()
            .filter_map(|run| {
                let own = |other: &&Run| other.round == run.round && other.counts();
                Ratio::of(run, self.runs_of(reference, clients).find(own)?)
            })
            .collect();
        Row {
            server: server.to_owned(),
            clients: clients.map(str::to_owned),
            run: summary(told),
            to_uringd: (!ratios.is_empty()).then(|| Ratio {
                rate: median(ratios.iter().map(|ratio| ratio.rate)),
                cpu: median(ratios.iter().map(|ratio| ratio.cpu)),
            }),
            rounds: counted.len(),
            disturbed,
        }
    }
}

impl Ratio {
    fn of(run: &Run, reference: &Run) -> Option<Ratio> {
        let comparable = reference.rate > 0.0 && reference.cpu_us() > 0.0;
        comparable.then(|| Ratio { rate: run.rate / reference.rate, cpu: run.cpu_us() / reference.cpu_us() })
    }
}

fn summary(runs: &[&Run]) -> Run {
    let middle = |of: fn(&Run) -> f64| median(runs.iter().map(|run| of(run)));
    let sum = |of: fn(&Run) -> u64| runs.iter().map(|run| of(run)).sum();
    let mut errors = BTreeMap::new();
    for (kind, count) in runs.iter().flat_map(|run| &run.errors) {
        *errors.entry(kind.clone()).or_default() += count;
    }
    Run {
        requests: sum(|run| run.requests),
        rate: middle(|run| run.rate),
        user_us: middle(|run| run.user_us),
        system_us: middle(|run| run.system_us),
        p50_us: middle(|run| run.p50_us as f64) as u64,
        p99_us: middle(|run| run.p99_us as f64) as u64,
        p99_9_us: middle(|run| run.p99_9_us as f64) as u64,
        max_us: runs.iter().map(|run| run.max_us).max().unwrap_or(0),
        rss_anon_kib: middle(|run| run.rss_anon_kib as f64) as u64,
        errors,
        connections_opened: sum(|run| run.connections_opened),
        longest_gap: runs.iter().map(|run| run.longest_gap).fold(0.0, f64::max),
        idle_lost: sum(|run| run.idle_lost),
        signals: runs.iter().map(|run| run.signals).sum(),
        stolen: runs.iter().map(|run| run.stolen).fold(0.0, f64::max),
        problem: runs.iter().find_map(|run| run.problem.clone()),
        ..Run::default()
    }
}

/// The middle one, or the mean of the two in the middle; 0 of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
