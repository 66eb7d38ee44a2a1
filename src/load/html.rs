//! One self-contained page of one run or several: percentile curves, tables, and how the run went by the second. Nothing of
//! it comes over a network.
//!
//! Neighbours: `figures` has the figures, `chart` draws, `page.css` has the looks; `compare` and the command line write it.

use super::chart::{Axis, Chart, Curve, STYLES, Size, escape, place_of, spaced, svg};
use super::collect::Run;
use super::compare::warnings;
use super::figures::{self, Named, Row, percentiles, rate, results, seconds, setup};
use super::json::{LatencyFrom, Saved, SavedSecond};
use crate::stats::report::{Unit, grouped, is_told, levels, time, value_at};
use hdrhistogram::Histogram;
use std::io::{self, Write};

/// How many points a curve over time has at most: what is more than a screen is wide is drawn as the mean (of rates) or
/// the maximum (of times) of neighbours.
const POINTS_MAX: usize = 600;

/// Levels of a percentile curve between two halvings of the distance to 100 %.
const CURVE_TICKS: u32 = 20;

/// Writes the page of one run.
pub fn write(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let saved = Saved::from(run);
    let runs = [("latency", &saved)];
    page(&title(&runs), &[], &runs, out)
}

/// What a page is called that nobody has named.
pub fn title(runs: &[Named<'_>]) -> String {
    match runs {
        [(_, run)] => match run.urls.as_slice() {
            [] => run.method.clone(),
            [only] => format!("{} {only}", run.method),
            [first, others @ ..] => format!("{} {first} and {} more", run.method, others.len()),
        },
        runs => {
            let names: Vec<&str> = runs.iter().map(|(name, _)| *name).collect();
            names.join(", ")
        }
    }
}

/// Writes a page of runs under their names; `notes` are paragraphs below the title. Ratios are to the first run.
pub fn page(title: &str, notes: &[&str], runs: &[Named<'_>], out: &mut dyn Write) -> io::Result<()> {
    let title = escape(title);
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{}{}</style>\n</head>\n<body>\n<h1>{title}</h1>",
        include_str!("page.css"),
        curve_styles()
    )?;
    head(notes, runs, out)?;
    if runs.iter().any(|(_, run)| !run.histogram.is_empty()) {
        percentile_curve(runs, out)?;
    }
    writeln!(out, "<div class=\"beside\">")?;
    percentile_table(runs, out)?;
    results_table(runs, out)?;
    writeln!(out, "</div>")?;
    // of a single second the figures say it all
    if runs.iter().any(|(_, run)| run.timeline.len() > 1) {
        over_time(runs, out)?;
    }
    errors(runs, out)?;
    setup_table(runs, out)?;
    writeln!(out, "</body>\n</html>")
}

/// The style of each run's curves: eight colours, then the same with broken lines.
fn curve_styles() -> String {
    let style = |run: usize| {
        let colour = format!("var(--run-{})", run % 8);
        let broken = if run >= 8 {
            format!("\n.stroke.run-{run} {{ stroke-dasharray: 14 8; }}")
        } else {
            String::new()
        };
        format!(".stroke.run-{run} {{ stroke: {colour}; }} .fill.run-{run} {{ fill: {colour}; }}{broken}\n")
    };
    let thin = ".stroke.thin { stroke-width: 3; stroke-dasharray: 6 6; }\n";
    (0..STYLES).map(style).chain([thin.to_owned()]).collect()
}

fn head(notes: &[&str], runs: &[Named<'_>], out: &mut dyn Write) -> io::Result<()> {
    for note in notes {
        writeln!(out, "<p>{}</p>", escape(note))?;
    }
    if let [(_, run)] = runs {
        writeln!(out, "<p class=\"soft\">{}</p>", escape(&one_line(run)))?;
        remarks(&warnings(runs), out)?;
        return tiles(run, out);
    }
    remarks(&warnings(runs), out)
}

fn one_line(run: &Saved) -> String {
    let load = match run.rate {
        Some(asked) => format!("{} requests/s asked for", rate(asked)),
        None => "closed loop".to_owned(),
    };
    format!(
        "{load}, {}, {}, measured for {} on {}",
        figures::several(run.connections as u64, "connection"),
        figures::several(run.threads as u64, "thread"),
        spaced(&seconds(run.duration)),
        figures::moment(&run.started)
    )
}

fn remarks(remarks: &[String], out: &mut dyn Write) -> io::Result<()> {
    for remark in remarks {
        writeln!(out, "<p class=\"remark\">{}</p>", escape(remark))?;
    }
    Ok(())
}

/// The figures that are looked at first.
fn tiles(run: &Saved, out: &mut dyn Write) -> io::Result<()> {
    let histogram = &run.histogram;
    let told = |part| match is_told(histogram.len(), part) {
        true => time(value_at(histogram, part) as f64, Unit::Microseconds),
        false => "-".to_owned(),
    };
    let max =
        if histogram.is_empty() { "-".to_owned() } else { time(histogram.max() as f64, Unit::Microseconds) };
    let tiles = [
        ("answers/s (2xx)", rate(run.rps)),
        ("p50", told(5_000)),
        ("p99", told(9_900)),
        ("p99.9", told(9_990)),
        ("max", max),
        ("errors", grouped(run.errors)),
    ];
    writeln!(out, "<dl>")?;
    for (name, figure) in tiles {
        writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", spaced(&figure))?;
    }
    writeln!(out, "</dl>")
}

fn percentile_curve(runs: &[Named<'_>], out: &mut dyn Write) -> io::Result<()> {
    let mut curves: Vec<Curve> =
        runs.iter().enumerate().map(|(place, (_, run))| curve_of(place, &run.histogram)).collect();
    let mut names: Vec<(usize, bool, &str)> =
        runs.iter().enumerate().map(|(place, (name, _))| (place, false, *name)).collect();
    // with several runs the curves would be too many
    if let [(_, Saved { service_histogram: Some(service), .. })] = runs {
        curves.push(Curve { thin: true, ..curve_of(0, service) });
        names =
            vec![(0, false, "latency, from the intended start"), (0, true, "service time, from the send")];
    }
    let points = || curves.iter().flat_map(|curve| curve.pieces.iter().flatten());
    let (low, high) = points().fold((f64::MAX, 0.0_f64), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    let end = points().map(|(x, _)| *x).fold(0.0, f64::max);
    let chart =
        Chart { x: Axis::percentiles(10_f64.powf(end)), y: Axis::latency("latency", low, high), curves };
    writeln!(
        out,
        "<h2>Latency by percentile</h2>\n<p class=\"soft\">{} Each step to the right is a tenth of the distance to 100 %.</p>",
        counts_from(runs)
    )?;
    figure(&chart, "Latency by percentile", &names, out)
}

/// From where the latencies count, for the reader.
fn counts_from(runs: &[Named<'_>]) -> &'static str {
    let open = |(_, run): &Named<'_>| run.latency_from == LatencyFrom::IntendedStart;
    if runs.iter().all(open) {
        "From the time at which each request was to be sent, whether the server was ready or not."
    } else if runs.iter().any(open) {
        "From the time at which each request was to be sent in runs at a rate, from the send in the others."
    } else {
        "From the send: while a server stalls, nothing is sent to it, so its queue is not seen (coordinated omission). \
         A run at a rate shows it."
    }
}

/// From 0 % to the percentile that one value is beyond.
fn curve_of(run: usize, histogram: &Histogram<u64>) -> Curve {
    let levels = levels(histogram, CURVE_TICKS);
    let last = (histogram.len() as f64).log10();
    let mut points: Vec<(f64, f64)> = levels
        .iter()
        .map(|level| match level.percentile {
            percentile if percentile < 100.0 => (place_of(percentile).min(last), level.value as f64),
            _ => (last, level.value as f64),
        })
        .collect();
    points.dedup();
    Curve { run, pieces: if points.is_empty() { vec![] } else { vec![points] }, ..Curve::default() }
}

fn over_time(runs: &[Named<'_>], out: &mut dyn Write) -> io::Result<()> {
    let timelines: Vec<Vec<SavedSecond>> = runs.iter().map(|(_, run)| thinned(&run.timeline)).collect();
    let end = runs.iter().map(|(_, run)| run.duration).fold(0.0, f64::max);
    let names: Vec<_> = runs.iter().enumerate().map(|(place, (name, _))| (place, false, *name)).collect();
    let marked = timelines.iter().flatten().any(|second| second.errors > 0);

    let curves = |value: fn(&SavedSecond) -> Option<f64>, marks: bool| -> Vec<Curve> {
        timelines
            .iter()
            .enumerate()
            .map(|(run, timeline)| timeline_curve(run, timeline, value, marks))
            .collect()
    };
    let rates = curves(|second| Some(second.rps), true);
    let seconds = timelines.iter().flatten();
    let highest = seconds.clone().map(|second| second.rps).fold(0.0, f64::max);
    let chart = Chart { x: Axis::seconds(end), y: Axis::rate("answers/s (2xx)", highest), curves: rates };
    let note = if marked { "<p class=\"soft\">Seconds with errors have a red dot.</p>" } else { "" };
    writeln!(out, "<h2>Rate over time</h2>{note}")?;
    figure(&chart, "Rate over time", &names, out)?;

    let p99s: Vec<f64> = seconds.filter_map(|second| second.p99).map(|p99| p99 as f64).collect();
    if p99s.is_empty() {
        return Ok(());
    }
    let (low, high) = p99s.iter().fold((f64::MAX, 0.0_f64), |(low, high), y| (low.min(*y), high.max(*y)));
    let curves = curves(|second| second.p99.map(|p99| p99 as f64), false);
    let chart = Chart { x: Axis::seconds(end), y: Axis::latency("p99 of each second", low, high), curves };
    writeln!(out, "<h2>p99 over time</h2>")?;
    figure(&chart, "p99 over time", &names, out)
}

/// A point in the middle of each second; where there is no value the line is broken.
fn timeline_curve(
    run: usize,
    timeline: &[SavedSecond],
    value: fn(&SavedSecond) -> Option<f64>,
    marks: bool,
) -> Curve {
    let point = |second: &SavedSecond| Some((second.at + second.seconds / 2.0, value(second)?));
    let pieces = timeline.split(|second| value(second).is_none());
    let pieces = pieces.map(|piece| piece.iter().filter_map(point).collect::<Vec<_>>());
    let marked = timeline.iter().filter(|second| marks && second.errors > 0);
    Curve {
        run,
        thin: false,
        pieces: pieces.filter(|piece| !piece.is_empty()).collect(),
        marks: marked.filter_map(point).collect(),
    }
}

/// Neighbours put together, so that there are no more than can be seen.
fn thinned(timeline: &[SavedSecond]) -> Vec<SavedSecond> {
    let together = timeline.len().div_ceil(POINTS_MAX).max(1);
    timeline.chunks(together).map(put_together).collect()
}

fn put_together(seconds: &[SavedSecond]) -> SavedSecond {
    let length: f64 = seconds.iter().map(|second| second.seconds).sum();
    let answers: f64 = seconds.iter().map(|second| second.rps * second.seconds).sum();
    let highest = |value: fn(&SavedSecond) -> Option<u64>| seconds.iter().filter_map(value).max();
    SavedSecond {
        at: seconds[0].at,
        seconds: length,
        rps: if length > 0.0 { answers / length } else { 0.0 },
        p50: highest(|second| second.p50),
        p99: highest(|second| second.p99),
        max: highest(|second| second.max),
        errors: seconds.iter().map(|second| second.errors).sum(),
    }
}

/// A drawing in both sizes, with its legend where it has more than one curve.
fn figure(chart: &Chart, title: &str, names: &[(usize, bool, &str)], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<figure>")?;
    if names.len() > 1 {
        legend(names, out)?;
    }
    for size in [Size::Wide, Size::Narrow] {
        writeln!(out, "{}", svg(chart, size, title).trim_end())?;
    }
    writeln!(out, "</figure>")
}

fn legend(names: &[(usize, bool, &str)], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<ul class=\"legend\">")?;
    for (run, thin, name) in names {
        let class = format!("stroke run-{}{}", run % STYLES, if *thin { " thin" } else { "" });
        writeln!(
            out,
            "<li><svg viewBox=\"0 0 32 12\" aria-hidden=\"true\"><polyline class=\"{class}\" points=\"1,6 31,6\"/></svg>{}</li>",
            escape(name)
        )?;
    }
    writeln!(out, "</ul>")
}

fn percentile_table(runs: &[Named<'_>], out: &mut dyn Write) -> io::Result<()> {
    let mut names: Vec<&str> = runs.iter().map(|(name, _)| *name).collect();
    let mut distributions: Vec<&Histogram<u64>> = runs.iter().map(|(_, run)| &run.histogram).collect();
    if let [(_, Saved { service_histogram: Some(service), .. })] = runs {
        names = vec!["latency", "service time"];
        distributions.push(service);
    }
    writeln!(out, "<section>\n<h2>Percentiles</h2>")?;
    let several_runs = runs.len() > 1;
    let rows = percentiles(&distributions);
    table(&names, &rows, Looks::Numbers { ratios: several_runs }, out)?;
    if rows.iter().any(|row| row.cells.iter().any(|cell| cell.text == "-")) {
        writeln!(out, "<p class=\"soft\">-: too few answers to tell; at least one must lie beyond.</p>")?;
    }
    writeln!(out, "</section>")
}

fn results_table(runs: &[Named<'_>], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<section>\n<h2>Results</h2>")?;
    table(&column_names(runs), &results(runs), Looks::Numbers { ratios: true }, out)?;
    writeln!(out, "</section>")
}

fn setup_table(runs: &[Named<'_>], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<h2>What was run</h2>")?;
    table(&column_names(runs), &setup(runs), Looks::Words, out)
}

/// One run needs no name.
fn column_names<'a>(runs: &[Named<'a>]) -> Vec<&'a str> {
    match runs {
        [_] => vec![""],
        runs => runs.iter().map(|(name, _)| *name).collect(),
    }
}

fn errors(runs: &[Named<'_>], out: &mut dyn Write) -> io::Result<()> {
    let mut errors = vec![];
    for (name, run) in runs {
        let kinds = run.errors_by_kind.in_words().into_iter().filter(|(_, sum)| sum.count > 0);
        errors.extend(kinds.map(|(kind, sum)| (*name, kind, sum)));
    }
    if errors.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Errors</h2>\n<ul>")?;
    for (name, kind, sum) in errors {
        let whose = if runs.len() > 1 { format!("{}: ", escape(name)) } else { String::new() };
        let first = sum.first_at.map_or(String::new(), |at| format!(", first at {}", spaced(&seconds(at))));
        writeln!(out, "<li>{whose}{} × {kind}{first}</li>", grouped(sum.count))?;
    }
    writeln!(out, "</ul>")
}

/// How a table is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    Numbers { ratios: bool },
    Words,
}

fn table(names: &[&str], rows: &[Row], looks: Looks, out: &mut dyn Write) -> io::Result<()> {
    let class = if looks == Looks::Words { "words" } else { "numbers" };
    writeln!(out, "<div class=\"scroll\"><table class=\"{class}\">")?;
    if names != [""] {
        let heads: String =
            names.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name))).collect();
        writeln!(out, "<thead><tr><th></th>{heads}</tr></thead>")?;
    }
    writeln!(out, "<tbody>")?;
    for row in rows {
        write!(out, "<tr><th scope=\"row\">{}</th>", row.name)?;
        for (place, cell) in row.cells.iter().enumerate() {
            let ratio = match looks {
                // empty ones too, so that figures stand below each other
                Looks::Numbers { ratios: true } if place > 0 => {
                    let text = cell.ratio_text().unwrap_or_default().replace('x', "×");
                    format!("<span class=\"ratio\">{text}</span>")
                }
                _ => String::new(),
            };
            write!(out, "<td>{}{ratio}</td>", escape(&spaced(&cell.text)))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>")
}

#[cfg(test)]
mod tests {
    use super::super::collect::tests::{interval, plan, run_of};
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(rate: Option<f64>, answers: usize) -> Run {
        let mut plan = plan();
        plan.rate = rate;
        let seconds = (0..3).map(|second| {
            let mut interval = interval(0, SECOND * second, SECOND, &vec![500 + u64::from(second); answers]);
            if rate.is_some() {
                interval.service = interval.latency.clone();
            }
            interval
        });
        run_of(plan, seconds.collect::<Vec<_>>(), 3 * SECOND)
    }

    fn text(runs: &[Named<'_>]) -> String {
        let mut out = vec![];
        page("a <b> page", &["one & two"], runs, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_page_of_one_run_has_its_curves_figures_and_plan() {
        let mut out = vec![];
        write(&run(Some(100.0), 100), &mut out).unwrap();
        let page = String::from_utf8(out).unwrap();
        for part in [
            "<title>GET http://127.0.0.1:1337/</title>",
            "100 requests/s asked for, 64 connections, 2 threads, measured for 3.00\u{202f}s on 1970-01-01 00:00:00 UTC",
            "<dt>p50</dt><dd>501\u{202f}µs</dd>",
            "<h2>Latency by percentile</h2>",
            "service time, from the send",
            "class=\"stroke run-0 thin\"",
            "<h2>Rate over time</h2>",
            "<h2>p99 over time</h2>",
            "<td>from the intended start</td>",
        ] {
            assert!(page.contains(part), "{part}");
        }
        // three drawings in two sizes, and two samples in the legend
        assert_eq!(page.matches("<svg ").count(), 3 * 2 + 2);
    }

    #[test]
    fn a_page_of_several_runs_has_a_legend_and_ratios() {
        let (a, b) = (Saved::from(&run(None, 100)), Saved::from(&run(None, 250)));
        let page = text(&[("uringd", &a), ("<nginx>", &b)]);
        assert!(page.contains("<td>250<span class=\"ratio\">2.50×</span></td>"), "{page}");
        assert!(page.contains("</svg>&lt;nginx&gt;</li>"));
        assert!(page.contains("class=\"stroke run-1\""));
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let mut run = run(None, 10);
        run.plan.urls = vec!["http://x/\"><script>alert(1)</script>&'".into()];
        let saved = Saved::from(&run);
        let page = text(&[("<i>", &saved)]);
        assert!(!page.contains("<script") && !page.contains("<i>") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&#39;"));
        assert!(page.contains("<p>one &amp; two</p>"));
    }

    #[test]
    fn a_run_without_answers_has_a_page_too() {
        let empty = Saved::from(&run_of(plan(), [], Duration::ZERO));
        let page = text(&[("a", &empty)]);
        assert!(page.contains("there is no latency to tell") && !page.contains("Latency by percentile"));
        let full = Saved::from(&run(None, 100));
        assert!(text(&[("a", &empty), ("b", &full)]).contains("class=\"stroke run-1\""));
    }

    #[test]
    fn a_line_is_broken_where_nothing_was_answered() {
        let second = |at, p99| SavedSecond { at, seconds: 1.0, rps: 0.0, p50: p99, p99, max: p99, errors: 0 };
        let timeline = [second(0.0, Some(5)), second(1.0, Some(6)), second(2.0, None), second(3.0, Some(7))];
        let curve = timeline_curve(0, &timeline, |second| second.p99.map(|p99| p99 as f64), false);
        assert_eq!(curve.pieces, [vec![(0.5, 5.0), (1.5, 6.0)], vec![(3.5, 7.0)]]);
    }

    #[test]
    fn a_long_run_is_thinned_without_losing_its_peaks() {
        let second = |at: u32| SavedSecond {
            at: at.into(),
            seconds: 1.0,
            rps: 10.0,
            p50: Some(1),
            p99: Some(if at == 5_000 { 9_000 } else { 10 }),
            max: None,
            errors: u64::from(at == 7),
        };
        let long: Vec<SavedSecond> = (0..10_000).map(second).collect();
        let short = thinned(&long);
        assert!(short.len() <= POINTS_MAX);
        assert_eq!(short.iter().filter_map(|second| second.p99).max(), Some(9_000));
        assert_eq!(short.iter().map(|second| second.errors).sum::<u64>(), 1);
        assert!(short.iter().all(|second| (second.rps - 10.0).abs() < 1e-9));
        assert_eq!(thinned(&long[..POINTS_MAX]), long[..POINTS_MAX]);
    }

    #[test]
    fn the_percentile_curve_ends_at_the_last_value() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1_000).for_each(|value| histogram.record(value).unwrap());
        let curve = curve_of(0, &histogram);
        let points = &curve.pieces[0];
        assert_eq!((points[0], *points.last().unwrap()), ((0.0, 1.0), (3.0, 1_000.0)));
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
    }
}
