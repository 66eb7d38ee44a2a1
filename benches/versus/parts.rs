//! What other benches have measured, kept beside the results: the parts of a request in user space (`micro.json`, taken from
//! criterion's files) and the load generators (`generators.json`, which `cargo bench --bench generators` writes).

use crate::tables::{self, Table};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use uringd::stats::report::{self, Unit};

const MICRO: &str = "micro.json";
const GENERATORS: &str = "generators.json";

/// One bench of criterion's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// `exchange/small`.
    pub name: String,
    /// Of one request, or whatever else is one there: the median.
    pub ns: f64,
}

/// What `generators.json` says of one scenario.
#[derive(Debug, Deserialize)]
struct Scenario {
    uringload: Generator,
    wrk: Option<Generator>,
}

#[derive(Debug, Deserialize)]
struct Generator {
    cpu_us_per_request: f64,
    rps: f64,
    p50_us: f64,
}

/// Keeps what criterion has measured last below `target` in `micro.json` of this directory.
pub fn keep_micro(target: &Path, directory: &Path) -> Result<(), String> {
    let criterion = target.join("criterion");
    let mut parts = vec![];
    for group in children(&criterion)? {
        for bench in children(&group)? {
            parts.extend(part(&bench.join("new"))?);
        }
    }
    if parts.is_empty() {
        return Err(format!("{} has nothing: run `cargo bench --bench micro` first", criterion.display()));
    }
    parts.sort_by(|one, other| one.name.cmp(&other.name));
    let path = directory.join(MICRO);
    let mut text = serde_json::to_string_pretty(&parts).map_err(|error| error.to_string())?;
    text.push('\n');
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{} has {} benches", path.display(), parts.len());
    Ok(())
}

fn children(directory: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let failed = |error| format!("{}: {error}", directory.display());
    let entries = fs::read_dir(directory).map_err(failed)?.flatten();
    Ok(entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

fn part(directory: &Path) -> Result<Option<Part>, String> {
    let read = |name: &str| -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(directory.join(name)).ok()?).ok()
    };
    let (Some(bench), Some(estimates)) = (read("benchmark.json"), read("estimates.json")) else {
        return Ok(None);
    };
    let name = bench["full_id"].as_str().map(str::to_owned);
    let elements = bench["throughput"]["Elements"].as_f64().unwrap_or(1.0);
    let median = estimates["median"]["point_estimate"].as_f64();
    match (name, median) {
        (Some(name), Some(median)) => Ok(Some(Part { name, ns: median / elements })),
        _ => Err(format!("{}: not what criterion writes", directory.display())),
    }
}

/// What README says of them; nothing where they were not measured.
pub fn section(directory: &Path) -> Result<String, String> {
    let mut text = String::new();
    if let Some(parts) = read::<Vec<Part>>(&directory.join(MICRO))? {
        text += "\nIn user space, per request (`cargo bench --bench micro`, medians):\n\n";
        text += &micro(&parts).markdown();
    }
    if let Some(scenarios) = read::<BTreeMap<String, Value>>(&directory.join(GENERATORS))? {
        text += "\nThe load generators themselves (`cargo bench --bench generators`, medians):\n\n";
        text += &generators(&scenarios)?.markdown();
    }
    Ok(text)
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, String> {
    match fs::read_to_string(path) {
        Err(_) => Ok(None),
        Ok(text) => {
            serde_json::from_str(&text).map(Some).map_err(|error| format!("{}: {error}", path.display()))
        }
    }
}

fn title(scenario: &str) -> &str {
    match scenario {
        "small" => "small answer, 64 connections",
        "delayed" => "each answer delayed by 5 ms, 64 connections",
        other => other,
    }
}

fn micro(parts: &[Part]) -> Table {
    let line = |part: &Part| vec![part.name.clone(), tables::microseconds(part.ns)];
    Table { head: vec![String::new(), "ns".to_owned()], lines: parts.iter().map(line).collect() }
}

fn generators(scenarios: &BTreeMap<String, Value>) -> Result<Table, String> {
    let head = ["", "CPU us per request", "requests/s", "p50"];
    let mut lines = vec![];
    for (name, told) in scenarios.iter().filter(|(_, told)| told.is_object()) {
        let told: Scenario =
            serde_json::from_value(told.clone()).map_err(|error| format!("{GENERATORS}: {name}: {error}"))?;
        let generators = [("uringload", Some(told.uringload)), ("wrk", told.wrk)];
        for (generator, told) in
            generators.into_iter().filter_map(|(generator, told)| Some((generator, told?)))
        {
            lines.push(vec![
                format!("{generator}, {}", title(name)),
                tables::microseconds(told.cpu_us_per_request),
                tables::grouped(told.rps),
                report::time(told.p50_us, Unit::Microseconds),
            ]);
        }
    }
    Ok(Table { head: head.map(str::to_owned).to_vec(), lines })
}
