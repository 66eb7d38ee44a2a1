//! README's figures, written from a results directory: no number there is typed by hand.

use crate::parts;
use crate::results::{Profile, Results, Row};
use crate::tables::{self, Table};
use std::fs;
use std::path::Path;

/// The line before the figures.
pub const BEGIN: &str = "<!-- measured:begin -->";
/// The line behind them.
pub const END: &str = "<!-- measured:end -->";

/// Has README.md below `root` say what is in this directory.
pub fn rewrite(root: &Path, directory: &Path) -> Result<(), String> {
    let readme = root.join("README.md");
    let old = fs::read_to_string(&readme).map_err(|error| format!("{}: {error}", readme.display()))?;
    let new = splice(&old, &of(root, directory)?)?;
    fs::write(&readme, new).map_err(|error| format!("{}: {error}", readme.display()))?;
    let before = section_of(&old).and_then(directory_of).unwrap_or("nowhere");
    println!("README.md has the figures of {}; it had those of {before}", directory.display());
    Ok(())
}

/// What stands between the two lines.
pub fn of(root: &Path, directory: &Path) -> Result<String, String> {
    let directory = directory.strip_prefix(root).unwrap_or(directory);
    let file = root.join(directory).join("results.json");
    let problem = |error: String| format!("{}: {error}", file.display());
    let text = fs::read_to_string(&file).map_err(|error| problem(error.to_string()))?;
    let results = serde_json::from_str(&text).map_err(|error| problem(error.to_string()))?;
    let others = parts::section(&root.join(directory))?;
    Ok(section(&results, directory.to_string_lossy().trim_end_matches('/')) + &others)
}

/// The text with this between the two lines.
pub fn splice(text: &str, section: &str) -> Result<String, String> {
    let between = section_of(text).ok_or_else(|| format!("README.md has no lines {BEGIN} and {END}"))?;
    let start = between.as_ptr() as usize - text.as_ptr() as usize;
    Ok([&text[..start], section, &text[start + between.len()..]].concat())
}

/// What stands between the two lines.
pub fn section_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(&format!("{BEGIN}\n"))?;
    Some(&rest[..rest.find(END)?])
}

/// Which directory a section was made from.
pub fn directory_of(section: &str) -> Option<&str> {
    section.lines().find_map(|line| line.strip_prefix("<!-- from ")?.strip_suffix(" -->"))
}

/// What is written of these results.
pub fn section(results: &Results, directory: &str) -> String {
    let reference = results.servers.first().map_or("", |server| server.name.as_str());
    let (loads, others): (Vec<_>, Vec<_>) =
        results.profiles.iter().partition(|profile| !profile.trouble && profile.name != "rate");
    let mut text = format!("<!-- from {directory} -->\n");
    let servers = results.servers.iter().filter(|server| server.missing.is_none());
    let versions = servers.map(|server| format!("{} {}", server.name, server.version)).collect::<Vec<_>>();
    text += &format!(
        "`{}` on {}, {}: {}. All figures, the raw runs and the curves are in [{directory}]({directory}).\n\n{}.\n",
        results.command,
        tables::machine(results),
        results.date,
        tables::how(results),
        versions.join(", ")
    );
    if !loads.is_empty() {
        text += "\nCPU time of the server per request in microseconds, and as a share of uringd's:\n\n";
        text += &by_profile(results, &loads, reference, |row| {
            let ratio = row.to_uringd.map(|ratio| format!(" ({})", tables::two_digits(ratio.cpu)));
            tables::microseconds(row.run.cpu_us()) + &ratio.unwrap_or_default()
        })
        .markdown();
        text += "\nRequests a second, in a closed loop, and as a share of uringd's:\n\n";
        text += &by_profile(results, &loads, reference, |row| {
            let ratio = row.to_uringd.map(|ratio| format!(" ({})", tables::two_digits(ratio.rate)));
            tables::grouped(row.run.rate) + &ratio.unwrap_or_default()
        })
        .markdown();
    }
    for profile in others {
        text += &format!("\n{}:\n\n", uppercase(&profile.title));
        let table =
            if profile.trouble { tables::of(profile, reference) } else { latencies(profile, reference) };
        text += &table.markdown();
    }
    text
}

/// A line for each profile, a column for each server.
fn by_profile(
    results: &Results,
    profiles: &[&Profile],
    reference: &str,
    cell: impl Fn(&Row) -> String,
) -> Table {
    let measured = |name: &str| profiles.iter().flat_map(|one| &one.runs).any(|run| run.server == name);
    let servers: Vec<&str> =
        results.servers.iter().map(|server| server.name.as_str()).filter(|name| measured(name)).collect();
    let lines = profiles.iter().map(|profile| {
        let rows = profile.rows(reference);
        let cells = servers.iter().map(|server| {
            let row = rows.iter().find(|row| row.server == *server && row.run.problem.is_none());
            row.map_or_else(|| "-".to_owned(), &cell)
        });
        std::iter::once(profile.title.clone()).chain(cells).collect()
    });
    let head = std::iter::once("").chain(servers.iter().copied()).map(str::to_owned);
    Table { head: head.collect(), lines: lines.collect() }
}

fn latencies(profile: &Profile, reference: &str) -> Table {
    let head = ["", "p50", "p99", "p99.9", "longest", "failed"];
    let lines = profile.rows(reference).into_iter().map(|row| {
        let run = &row.run;
        let times = [run.p50_us, run.p99_us, run.p99_9_us, run.max_us].map(tables::latency);
        let failed = tables::grouped(tables::failed(run) as f64);
        std::iter::once(row.server.clone()).chain(times).chain([failed]).collect()
    });
    Table { head: head.map(str::to_owned).to_vec(), lines: lines.collect() }
}

fn uppercase(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
