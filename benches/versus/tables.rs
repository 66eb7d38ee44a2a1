//! Results as tables, for the terminal and as Markdown.

use crate::results::{Profile, Results, Row, Run};
use uringd::stats::report::{self, Unit};

/// Cells, the first of each line a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Over the columns.
    pub head: Vec<String>,
    /// Each as long as the head.
    pub lines: Vec<Vec<String>>,
}

impl Table {
    /// In columns two blanks apart: the first to the left, the others to the right, but for the last one if it is notes.
    pub fn text(&self) -> String {
        let all = || std::iter::once(&self.head).chain(&self.lines);
        let width = |column: usize| all().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for line in all() {
            let mut written = String::new();
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let notes = column > 0 && self.head[column].is_empty();
                let gap = if column > 0 { "  " } else { "" };
                match column == 0 || notes {
                    true => written += &format!("{gap}{cell:<width$}"),
                    false => written += &format!("{gap}{cell:>width$}"),
                }
            }
            text += written.trim_end();
            text += "\n";
        }
        text
    }

    /// As GitHub reads it.
    pub fn markdown(&self) -> String {
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |");
        let notes = |head: &String| head.is_empty();
        let first = std::iter::once("---|");
        let rules = first.chain(self.head[1..].iter().map(|head| if notes(head) { "---|" } else { "---:|" }));
        let mut text = row(&self.head) + "|" + &rules.collect::<String>() + "\n";
        self.lines.iter().for_each(|line| text += &row(line));
        text
    }
}

/// The table of one profile.
pub fn of(profile: &Profile, reference: &str) -> Table {
    let rows = profile.rows(reference);
    if profile.trouble { trouble(&rows) } else { load(&rows) }
}

fn load(rows: &[Row]) -> Table {
    let head = [
        "",
        "requests/s",
        "to uringd",
        "CPU us",
        "user",
        "system",
        "to uringd",
        "p50",
        "p99",
        "p99.9",
        "RssAnon",
        "",
    ];
    let lines = rows.iter().map(|row| {
        let run = &row.run;
        let ratio = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), two_digits);
        vec![
            row.server.clone(),
            grouped(run.rate),
            ratio(row.to_uringd.map(|ratio| ratio.rate)),
            microseconds(run.cpu_us()),
            microseconds(run.user_us),
            microseconds(run.system_us),
            ratio(row.to_uringd.map(|ratio| ratio.cpu)),
            latency(run.p50_us),
            latency(run.p99_us),
            latency(run.p99_9_us),
            memory(run.rss_anon_kib),
            notes(row),
        ]
    });
    Table { head: head.map(str::to_owned).to_vec(), lines: lines.collect() }
}

fn trouble(rows: &[Row]) -> Table {
    let head = ["", "signals", "requests", "failed", "connections", "longest gap", "p99.9", "longest", ""];
    let lines = rows.iter().map(|row| {
        let run = &row.run;
        let clients = row.clients.as_ref().map(|clients| format!(", {clients}"));
        vec![
            row.server.clone() + &clients.unwrap_or_default(),
            run.signals.to_string(),
            grouped(run.requests as f64),
            grouped(failed(run) as f64),
            grouped(run.connections_opened as f64),
            latency((run.longest_gap * 1e6) as u64),
            latency(run.p99_9_us),
            latency(run.max_us),
            notes(row),
        ]
    });
    Table { head: head.map(str::to_owned).to_vec(), lines: lines.collect() }
}

/// All tables of all profiles.
pub fn markdown(results: &Results) -> String {
    let reference = results.servers.first().map_or("", |server| server.name.as_str());
    let mut text =
        format!("# {}, {}\n\n`{}`: {}.\n", machine(results), results.date, results.command, how(results));
    text += "\n| server | |\n|---|---|\n";
    for server in &results.servers {
        let missing = server.missing.as_ref().map(|reason| format!("skipped: {reason}"));
        text += &format!("| {} | {} |\n", server.name, missing.as_ref().unwrap_or(&server.version));
    }
    for profile in &results.profiles {
        text += &format!("\n## {}\n\n`{}`: `uringload {}`\n\n", profile.title, profile.name, profile.load);
        text += &of(profile, reference).markdown();
        text += &skipped(profile).map(|line| format!("\n{line}\n")).unwrap_or_default();
    }
    text
}

/// `AMD EPYC (virtual machine, 2 cores), Linux 6.18.44`.
pub fn machine(results: &Results) -> String {
    let machine = &results.machine;
    let kind = if machine.virtual_machine { "virtual machine, " } else { "" };
    let cores = if machine.cores == 1 { "core" } else { "cores" };
    format!("{} ({kind}{} {cores}), Linux {}", machine.cpu, machine.cores, machine.kernel)
}

/// How it was measured.
pub fn how(results: &Results) -> String {
    let workers = match results.workers {
        1 => "one worker on one core".to_owned(),
        many => format!("{many} workers on {many} cores"),
    };
    let rounds = match results.rounds {
        1 => "one round".to_owned(),
        many => format!("medians of {many} interleaved rounds"),
    };
    format!("each server with {workers}, uringload on the rest, loopback; {rounds} of {} s", results.seconds)
}

/// `skipped: floor (reads no bodies), nginx (...)`.
pub fn skipped(profile: &Profile) -> Option<String> {
    let each = profile.skipped.iter().map(|skipped| format!("{} ({})", skipped.server, skipped.reason));
    let all = each.collect::<Vec<_>>().join(", ");
    (!all.is_empty()).then(|| format!("skipped: {all}"))
}

fn notes(row: &Row) -> String {
    let run = &row.run;
    let mut notes: Vec<String> = vec![];
    notes.extend(run.problem.clone());
    notes.extend(run.errors.iter().map(|(kind, count)| format!("{} {kind}", grouped(*count as f64))));
    if run.idle_lost > 0 {
        notes.push(format!("{} idle connections closed", grouped(run.idle_lost as f64)));
    }
    match (row.disturbed, row.rounds) {
        (0, _) => {}
        (_, 0) => notes.push(format!("disturbed: {:.0} % stolen", run.stolen * 100.0)),
        (disturbed, _) => notes.push(format!("{disturbed} disturbed left out")),
    }
    notes.join(", ")
}

/// Of all kinds.
pub fn failed(run: &Run) -> u64 {
    run.errors.values().sum()
}

/// Three significant digits.
pub fn microseconds(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => grouped(value),
    }
}

/// In the unit that fits.
pub fn latency(us: u64) -> String {
    report::time(us as f64, Unit::Microseconds)
}

/// In MiB.
pub fn memory(kib: u64) -> String {
    format!("{} MiB", microseconds(kib as f64 / 1024.0))
}

/// Such as a ratio.
pub fn two_digits(value: f64) -> String {
    format!("{value:.2}")
}

/// A whole number with commas.
pub fn grouped(value: f64) -> String {
    report::grouped(value.round() as u64)
}
