//! `uringload report`: several saved runs side by side, as a table and as one page.
//!
//! Neighbours: reads what `json` wrote; the figures are `figures`', the page is `html`'s.

use super::figures::{Cell, Named, Row, percentiles, rate_missed, remarks, results, unanswered};
use super::html;
use super::json::{self, Saved};
use crate::stats::report::columns;
use crate::whole_file::WholeFile;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What `uringload report` is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Runs that were saved with --json; ratios are to the first
    #[arg(required = true, value_name = "RUN.json")]
    pub runs: Vec<PathBuf>,
    /// Writes one page with the curves of all runs
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The page's title
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
}

impl Options {
    /// Reads the runs, writes the page, and prints the table on stdout.
    ///
    /// # Errors
    ///
    /// One line: which file cannot be read or written, or is no run, and why. Nothing is written then.
    pub fn run(&self) -> Result<(), String> {
        let saved: Vec<Saved> = self.runs.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        let names = names(&self.runs);
        let runs: Vec<Named<'_>> = names.iter().map(String::as_str).zip(&saved).collect();
        if let Some(path) = &self.html {
            let title = self.title.clone().unwrap_or_else(|| html::title(&runs));
            write_page(path, &title, &runs)
                .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        }
        // a reader that has seen enough is no error
        let _ = table(&runs, &mut io::stdout().lock());
        Ok(())
    }
}

fn read(path: &Path) -> Result<Saved, String> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    json::read(&text).map_err(|problem| format!("{name} {problem}"))
}

fn write_page(path: &Path, title: &str, runs: &[Named<'_>]) -> io::Result<()> {
    let mut out = BufWriter::new(WholeFile::create(path)?);
    html::page(title, &[], runs, &mut out)?;
    out.into_inner()?.finish()
}

/// A file's name without its folder and its ending; the whole path where others have the same.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let unique = |name: &String| paths.iter().filter(|path| stem(path) == *name).count() == 1;
    let name = |path: &PathBuf| Some(stem(path)).filter(unique).unwrap_or_else(|| path.display().to_string());
    paths.iter().map(name).collect()
}

/// Writes the figures of all runs, with their ratios to the first.
pub fn table(runs: &[Named<'_>], out: &mut dyn Write) -> io::Result<()> {
    let histograms: Vec<_> = runs.iter().map(|(_, run)| &run.histogram).collect();
    let rows: Vec<Row> = results(runs).into_iter().chain(percentiles(&histograms)).collect();
    let names = runs.iter().enumerate().flat_map(|(place, (name, _))| {
        let ratio = (place > 0).then(String::new);
        [Some((*name).to_owned()), ratio].into_iter().flatten()
    });
    let mut lines = vec![[String::new()].into_iter().chain(names).collect()];
    lines.extend(rows.iter().map(line));
    columns(&lines, out)?;
    for warning in warnings(runs) {
        writeln!(out, "\n{warning}")?;
    }
    Ok(())
}

/// The first run has no column of ratios.
fn line(row: &Row) -> Vec<String> {
    let cell = |(place, cell): (usize, &Cell)| {
        let ratio = (place > 0).then(|| cell.ratio_text().unwrap_or_default());
        [Some(cell.text.clone()), ratio].into_iter().flatten()
    };
    [row.name.to_owned()].into_iter().chain(row.cells.iter().enumerate().flat_map(cell)).collect()
}

/// What makes runs hard to compare, and what is remarkable in each.
pub fn warnings(runs: &[Named<'_>]) -> Vec<String> {
    let mut warnings = vec![];
    if runs.iter().any(|(_, run)| run.latency_from != runs[0].1.latency_from) {
        warnings.push(
            "Latencies count from the intended start in some of these runs and from the send in others: they do not \
             compare."
                .to_owned(),
        );
    }
    for (name, run) in runs {
        let missed = rate_missed(run).map(|missed| format!("The rate was not reached: {missed}."));
        let unanswered = unanswered(run).map(|count| format!("Of the latencies {count}."));
        let said = missed.into_iter().chain(unanswered).chain(remarks(run));
        warnings.extend(said.map(|remark| if runs.len() > 1 { format!("{name}: {remark}") } else { remark }));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::collect::tests::{interval, plan, run_of};
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn saved(rate: Option<f64>, latency: u64, answers: usize) -> Saved {
        let mut plan = plan();
        plan.rate = rate;
        Saved::from(&run_of(plan, [interval(0, Duration::ZERO, SECOND, &vec![latency; answers])], SECOND))
    }

    fn text(runs: &[Named<'_>]) -> String {
        let mut out = vec![];
        table(runs, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn runs_stand_side_by_side_with_their_ratios_to_the_first() {
        let (a, b) = (saved(None, 1_000, 100), saved(None, 1_500, 50));
        let text = text(&[("uringd", &a), ("nginx", &b)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "                         uringd   nginx");
        assert_eq!(lines[1], "answers/s (2xx)             100      50  0.50x");
        assert_eq!(lines[8], "p50                      1.00ms  1.50ms  1.50x");
        assert_eq!(lines[11], "p99                      1.00ms       -");
    }

    #[test]
    fn runs_that_count_differently_are_said_not_to_compare() {
        let (a, b) = (saved(None, 1_000, 100), saved(Some(100.0), 1_000, 50));
        let text = text(&[("a", &a), ("b", &b)]);
        assert!(text.contains("they do not compare."), "{text}");
        assert!(text.contains("b: The rate was not reached: 50 of 100 requests/s (50.0 %)."), "{text}");
    }

    #[test]
    fn a_run_is_named_after_its_file() {
        let paths = ["x/uringd.json", "nginx.json", "a/h2o.json", "b/h2o.json"].map(PathBuf::from);
        assert_eq!(names(&paths), ["uringd", "nginx", "a/h2o.json", "b/h2o.json"]);
    }

    #[test]
    fn a_file_that_is_no_run_is_named_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (foreign, page) = (folder.path().join("other.json"), folder.path().join("page.html"));
        fs::write(&foreign, "{}").unwrap();
        let options =
            |path: &Path| Options { runs: vec![path.into()], html: Some(page.clone()), title: None };
        let problem = options(&foreign).run().unwrap_err();
        assert!(
            problem.ends_with("other.json is not a run of uringload: save one with --json FILE"),
            "{problem}"
        );
        let problem = options(Path::new("/nowhere.json")).run().unwrap_err();
        assert!(problem.starts_with("/nowhere.json cannot be read: No such file"), "{problem}");
        assert!(!page.exists());
    }
}
