//! What is decided of each knob: pure functions of a `Machine`, named as the pages name them.
//!
//! Neighbours: `page` says which one looks at which knob. By subject: `rings` (whether there is any io_uring), `limits`,
//! `network`, `processor`.

mod limits;
mod network;
mod processor;
mod rings;

use super::machine::Machine;
use super::page::{Check, NumberIn};
use serde::Serialize;

/// What is to be said of a knob. The worst comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// uringd cannot run like this.
    Wrong,
    /// It runs, and another setting would serve it better.
    Better,
    /// It cannot be seen from here.
    Unknown,
    /// Nothing to do.
    Ok,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub verdict: Verdict,
    /// What is set.
    pub now: String,
    /// Why it is judged so; empty where there is nothing to say.
    pub reason: String,
    /// What to type on this very machine; where empty, what the page says.
    pub set: Vec<String>,
}

impl Finding {
    fn new(verdict: Verdict, now: impl Into<String>, reason: impl Into<String>) -> Finding {
        Finding { verdict, now: now.into(), reason: reason.into(), set: Vec::new() }
    }

    fn wrong(now: impl Into<String>, reason: impl Into<String>) -> Finding {
        Finding::new(Verdict::Wrong, now, reason)
    }

    fn better(now: impl Into<String>, reason: impl Into<String>) -> Finding {
        Finding::new(Verdict::Better, now, reason)
    }

    fn unknown(reason: impl Into<String>) -> Finding {
        Finding::new(Verdict::Unknown, "", reason)
    }

    fn ok(now: impl Into<String>, reason: impl Into<String>) -> Finding {
        Finding::new(Verdict::Ok, now, reason)
    }

    fn with(self, set: Vec<String>) -> Finding {
        Finding { set, ..self }
    }
}

type Decide = fn(&Machine) -> Finding;

/// By the names that the pages use.
const TABLE: [(&str, Decide); 17] = [
    ("kernel", rings::kernel),
    ("io-uring-disabled", rings::io_uring_disabled),
    ("seccomp", rings::seccomp),
    ("memlock", limits::memlock),
    ("open-files", limits::open_files),
    ("memory-limit", limits::memory_limit),
    ("syn-backlog", network::syn_backlog),
    ("port-range", network::port_range),
    ("connection-tracking", network::connection_tracking),
    ("irq-affinity", network::irq_affinity),
    ("packet-steering", network::packet_steering),
    ("busy-poll", network::busy_poll),
    ("cpu-quota", processor::cpu_quota),
    ("cores", processor::cores),
    ("cpu-governor", processor::cpu_governor),
    ("hugepages", processor::hugepages),
    ("mitigations", processor::mitigations),
];

pub(super) use processor::{Layout, layout};

/// Looks at a knob.
pub(super) fn look(check: &Check, machine: &Machine) -> Finding {
    match check {
        Check::File(number) => number_in(number, machine),
        Check::By(name) => match TABLE.iter().find(|(known, _)| known == name) {
            Some((_, decide)) => decide(machine),
            None => Finding::unknown(format!("nobody knows how to look at {name}")),
        },
    }
}

fn number_in(NumberIn { path, at_least, otherwise }: &NumberIn, machine: &Machine) -> Finding {
    match machine.root.value::<u64>(path) {
        None => Finding::unknown(format!("/{path} cannot be read here")),
        Some(number) if number < *at_least => Finding::better(number.to_string(), otherwise),
        Some(number) => Finding::ok(number.to_string(), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::page;

    #[test]
    fn every_check_is_some_pages_and_every_page_has_one() {
        let pages = page::all();
        let mut named: Vec<&str> = pages
            .iter()
            .filter_map(|page| match &page.facts.check {
                Check::By(name) => Some(name.as_str()),
                Check::File(_) => None,
            })
            .collect();
        let mut known: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known);
    }
}
