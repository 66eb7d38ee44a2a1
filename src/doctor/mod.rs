//! Looks at the machine underneath: whether uringd can run, and what would serve it better. It reads /proc and /sys, tries a
//! ring, and changes nothing. Reading order: `page` (what each knob is), `machine` and `root` (what is set), `checks` (what
//! is decided), `print`.
//!
//! Neighbours: `cli::doctor` runs it; `ring` says why there is none.

mod checks;
mod machine;
mod page;
mod print;
mod root;

#[cfg(test)]
mod tests;

use crate::ring::Probed;
use checks::{Finding, Layout, Verdict};
use machine::{Machine, Rings};
use page::{Measured, Page};
use root::Root;
use serde::Serialize;

/// Everything that was found; `Serialize` is what `--json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Nothing keeps uringd from running.
    pub can_run: bool,
    /// `uname -r`; empty if unknown.
    kernel: String,
    /// Why there is no ring, in one line.
    io_uring_refused: Option<String>,
    /// All that is asked of io_uring; empty where there is none.
    io_uring: Vec<Probed>,
    cores: Layout,
    /// A knob each, the worst first.
    knobs: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    /// As the kernel calls it.
    knob: &'static str,
    /// What `uringd doctor KNOB` takes; the page's name in `tuning/`.
    page: &'static str,
    verdict: Verdict,
    now: String,
    reason: String,
    /// What to type, line by line; nothing where nothing is to be done.
    set: Vec<String>,
    undo: Vec<String>,
    sources: Vec<String>,
    measured: Option<Measured>,
    not_measured: Option<String>,
}

/// Looks at this machine, as whoever runs this may see it.
pub(crate) fn examine() -> Report {
    report(&Machine::read(Root::at("/"), Rings::try_here()))
}

/// The page about a knob, by its file's name or the kernel's.
///
/// # Errors
/// There is none; the nearest name.
pub(crate) fn page(name: &str) -> Result<&'static str, &'static str> {
    let pages = page::all();
    if let Some(page) = pages.iter().find(|page| page.name == name || page.title == name) {
        return Ok(page.text);
    }
    let near = |page: &&Page| (strsim::jaro_winkler(page.name, name) * 1000.0) as u32;
    Err(pages.iter().max_by_key(near).map_or("", |page| page.name))
}

fn report(machine: &Machine) -> Report {
    let mut knobs: Vec<Row> =
        page::all().into_iter().map(|page| row(checks::look(&page.facts.check, machine), page)).collect();
    knobs.sort_by_key(|row| row.verdict);
    let refusal = machine.rings.refusal.as_ref();
    Report {
        can_run: refusal.is_none() && knobs.iter().all(|row| row.verdict != Verdict::Wrong),
        kernel: machine.release.clone(),
        io_uring_refused: refusal.map(ToString::to_string),
        io_uring: machine.rings.probed.clone(),
        cores: checks::layout(machine),
        knobs,
    }
}

fn row(found: Finding, page: Page) -> Row {
    let Finding { verdict, now, reason, set } = found;
    let facts = page.facts;
    let set = match verdict {
        Verdict::Wrong | Verdict::Better if set.is_empty() => facts.set,
        // what is unknown may have something to be tried, but nothing that the page advises everybody
        Verdict::Wrong | Verdict::Better | Verdict::Unknown => set,
        Verdict::Ok => Vec::new(),
    };
    Row {
        knob: page.title,
        page: page.name,
        verdict,
        now,
        reason,
        set,
        undo: facts.undo,
        sources: facts.sources,
        measured: facts.measured,
        not_measured: facts.not_measured,
    }
}
