//! Writes what was measured: `results.json` (all figures), `tables.md`, `runs.jsonl` (what uringload said, one line a
//! run), `PROFILE/SERVER.hgrm` (all rounds together, in microseconds) and `PROFILE.html` (the curves of all servers, one over the other).

use crate::results::Results;
use crate::tables;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use uringd::load::html;
use uringd::load::json::Saved;
use uringd::stats::report::{self, Unit};

/// What uringload said of one run, with its place among the others.
#[derive(Serialize)]
pub struct Raw {
    /// Of which profile.
    pub profile: String,
    /// Of which server.
    pub server: String,
    /// Which clients, where there are two kinds.
    pub clients: Option<String>,
    /// From 1.
    pub round: u32,
    /// Whether the run counts for nothing.
    pub disturbed: bool,
    /// What uringload said.
    pub load: Saved,
}

/// All of it. It is called after each profile, so that what was measured is kept whatever happens next.
pub fn write(directory: &Path, results: &Results, raw: &[Raw]) -> Result<(), String> {
    let written = fs::create_dir_all(directory).and_then(|()| {
        let mut json = serde_json::to_string_pretty(results)?;
        json.push('\n');
        fs::write(directory.join("results.json"), json)?;
        fs::write(directory.join("tables.md"), tables::markdown(results))?;
        runs(directory, raw)?;
        results.profiles.iter().try_for_each(|profile| curves(directory, results, &profile.name, raw))
    });
    written.map_err(|error| format!("cannot write to {}: {error}", directory.display()))
}

fn runs(directory: &Path, raw: &[Raw]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(directory.join("runs.jsonl"))?);
    for run in raw {
        serde_json::to_writer(&mut file, run)?;
        writeln!(file)?;
    }
    file.flush()
}

fn curves(directory: &Path, results: &Results, profile: &str, raw: &[Raw]) -> io::Result<()> {
    let Some(about) = results.profiles.iter().find(|other| other.name == profile) else { return Ok(()) };
    let of_profile: Vec<&Raw> = raw.iter().filter(|run| run.profile == profile && !run.disturbed).collect();
    let mut names: Vec<String> = vec![];
    for run in &of_profile {
        if !names.contains(&run.curve()) {
            names.push(run.curve());
        }
    }
    let merged: Vec<(String, Saved)> = names
        .into_iter()
        .filter_map(|name| {
            let mut runs = of_profile.iter().filter(|run| run.curve() == name).map(|run| &run.load);
            let first = runs.next()?.clone();
            let merged = runs.try_fold(first, |merged, run| merged.then(run)).ok()?;
            Some((name, merged))
        })
        .collect();
    if merged.is_empty() {
        return Ok(());
    }
    let tables = directory.join(profile);
    fs::create_dir_all(&tables)?;
    for (name, saved) in &merged {
        let mut file =
            BufWriter::new(File::create(tables.join(format!("{}.hgrm", name.replace([' ', ','], "-"))))?);
        report::hgrm(&saved.histogram, Unit::Microseconds.per_microsecond(), &mut file)?;
        file.flush()?;
    }
    let named: Vec<(&str, &Saved)> = merged.iter().map(|(name, saved)| (name.as_str(), saved)).collect();
    let notes = [
        format!("{}, {}", tables::machine(results), results.date),
        tables::how(results),
        format!("uringload {}", about.load),
    ];
    let mut page = BufWriter::new(File::create(directory.join(format!("{profile}.html")))?);
    html::page(&about.title, &notes.each_ref().map(String::as_str), &named, &mut page)?;
    page.flush()
}

impl Raw {
    fn curve(&self) -> String {
        match &self.clients {
            Some(clients) => format!("{}, {clients}", self.server),
            None => self.server.clone(),
        }
    }
}
