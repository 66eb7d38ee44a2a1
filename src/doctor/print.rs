//! A report for people: a line a knob, the worst first, with what to type below it.
//!
//! Neighbours: `cli::doctor` prints it; `--json` has the same and more.

use super::checks::{Layout, Verdict};
use super::{Report, Row};
use std::fmt;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Wrong => "wrong",
            Verdict::Better => "better",
            Verdict::Unknown => "unknown",
            Verdict::Ok => "ok",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.knobs.iter().map(|row| row.knob.len()).max().unwrap_or(0);
        for row in &self.knobs {
            writeln!(f, "{:7}  {:width$}  {}", row.verdict, row.knob, told(row))?;
            for line in &row.set {
                writeln!(f, "{:7}  {:width$}    {line}", "", "")?;
            }
        }
        writeln!(f)?;
        for (needed, what) in [(true, "needed"), (false, "optional")] {
            let all = self.io_uring.iter().filter(|one| one.needed == needed);
            let names = all.map(|one| format!("{}{}", if one.present { "" } else { "no " }, one.name));
            let names = names.collect::<Vec<_>>().join(", ");
            writeln!(f, "io_uring, {what}: {}", if names.is_empty() { "cannot be asked" } else { &names })?;
        }
        writeln!(f, "{}", self.cores)?;
        let count = |verdict| self.knobs.iter().filter(|row| row.verdict == verdict).count();
        let more = "`uringd doctor KNOB` has the page about one, with what it costs";
        match (&self.io_uring_refused, count(Verdict::Better)) {
            _ if !self.can_run => {
                let cause = self.io_uring_refused.as_deref().unwrap_or("see above");
                writeln!(f, "\nuringd cannot run here: {cause}")
            }
            (_, 0) => writeln!(f, "\nuringd can run here."),
            (_, better) => writeln!(f, "\nuringd can run here; {better} could be better ({more})."),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets = |sets: &[String]| if sets.is_empty() { "unknown".to_owned() } else { sets.join(" ") };
        let threads = if self.threads.is_empty() { "none".to_owned() } else { self.threads.join(" ") };
        write!(f, "cores: {} of {}; ", or_unknown(&self.allowed), or_unknown(&self.online))?;
        write!(f, "sharing a last-level cache: {}; ", sets(&self.last_caches))?;
        write!(f, "threads of one core: {threads}; memory nodes: {}", sets(&self.nodes))
    }
}

fn or_unknown(cores: &str) -> &str {
    if cores.is_empty() { "unknown" } else { cores }
}

/// What is set, and why that is judged so.
fn told(row: &Row) -> String {
    match (row.now.as_str(), row.reason.as_str()) {
        (now, "") => now.to_owned(),
        ("", reason) => reason.to_owned(),
        (now, reason) => format!("{now}: {reason}"),
    }
}
