//! What other people's programs make of a run's reports: HdrHistogram's JavaScript port of the interval log and its
//! percentile table, a browser of the page. The pages stay in target/tmp/load_report to be looked at.
#![cfg(feature = "load")]

mod common;

use common::skip;
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uringd::load::collect::{Collector, Run};
use uringd::load::json::Saved;
use uringd::load::record::{self, Counts, Cpu, ErrorKind, Gap, Interval, Plan};
use uringd::load::{html, json, summary};
use uringd::stats::hlog::IntervalLog;
use uringd::stats::report::{Unit, hgrm};

/// Ends a program that hangs; longer than any of them takes.
const PROGRAM_SECS_MAX: &str = "600";
/// Of HdrHistogram's port, so that what is compared with is what was looked at.
const PORT: &str = "hdr-histogram-js@3.0.1";
const STARTED: Duration = Duration::from_millis(1_700_000_000_250);

/// The same numbers every time.
struct Dice(u64);

impl Dice {
    /// Up to and without 1.
    fn throw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Most near `usual`, some far beyond.
    fn latency(&mut self, usual: f64) -> u64 {
        let tail = (1.0 - self.throw()).powf(-0.35);
        (usual * (0.7 + 0.3 * self.throw()) * tail) as u64
    }
}

/// What a test makes a run of.
struct Load {
    url: &'static str,
    rate: Option<f64>,
    seconds: u32,
    answers: usize,
    usual: f64,
    /// The second in which the server stands still.
    stall: Option<u32>,
}

const QUICK: Load = Load {
    url: "http://127.0.0.1:1337/",
    rate: None,
    seconds: 10,
    answers: 8_000,
    usual: 180.0,
    stall: None,
};

impl Load {
    fn plan(&self) -> Plan {
        Plan {
            urls: vec![self.url.into()],
            connections: 64,
            threads: 2,
            pipeline: 1,
            rate: self.rate,
            requests_per_connection: None,
            duration: Some(Duration::from_secs(self.seconds.into())),
            requests: None,
            warmup: Duration::from_millis(500),
            timeout: Duration::from_secs(5),
            method: "GET".into(),
        }
    }

    fn interval(&self, thread: usize, second: u32, dice: &mut Dice) -> Interval {
        let stalled = self.stall == Some(second);
        let (mut latency, mut service) = (record::histogram(), record::histogram());
        for _ in 0..self.answers {
            let time = dice.latency(self.usual);
            let queued = if stalled { (1e6 * dice.throw()) as u64 } else { 0 };
            latency.record(time + queued).unwrap();
            if self.rate.is_some() {
                service.record(time).unwrap();
            }
        }
        let answers = self.answers as u64;
        let mut counts = Counts {
            requests: answers,
            by_class: [0, answers, 0, 0, 0],
            sent: 40 * answers,
            received: 160 * answers,
            opened: if second == 0 { 32 } else { 0 },
            unanswered: 0,
            errors: [0; ErrorKind::ALL.len()],
        };
        let mut first_errors = [None; ErrorKind::ALL.len()];
        let begin = Duration::from_secs(second.into());
        if stalled {
            counts.errors[ErrorKind::Reset as usize] = 3;
            first_errors[ErrorKind::Reset as usize] = Some(begin + Duration::from_millis(310));
        }
        let gap = if stalled { 990 } else { 2 };
        let busy = Duration::from_micros(3 * answers);
        Interval {
            thread,
            begin,
            length: Duration::from_secs(1),
            latency,
            service,
            counts,
            first_errors,
            longest_gap: Some(Gap { begin, length: Duration::from_millis(gap) }),
            cpu: Cpu { user: busy / 3, system: busy * 2 / 3 },
        }
    }

    /// Runs it on paper.
    fn run(&self, hlog: Option<Box<dyn Write>>) -> Run {
        let mut collector = Collector::new(self.plan(), UNIX_EPOCH + STARTED, false, hlog).unwrap();
        let mut dice = Dice(self.usual as u64);
        for second in 0..self.seconds {
            for thread in 0..2 {
                collector.add(self.interval(thread, second, &mut dice)).unwrap();
            }
        }
        let length = Duration::from_secs(self.seconds.into());
        collector.finish(length, length)
    }

    fn saved(&self) -> Saved {
        Saved::from(&self.run(None))
    }
}

/// What is written to it can be looked at.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg(PROGRAM_SECS_MAX).arg(program).args(arguments).current_dir(folder).stdin(Stdio::null());
    command.output().expect("timeout(1)")
}

/// A folder with the port and a script that uses it; `None`, said why, where it cannot be had.
fn port() -> Option<tempfile::TempDir> {
    for program in ["node", "npm"] {
        if !is_there(program) {
            skip(&format!("there is no `{program}` here"));
            return None;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let install = ["install", "--no-audit", "--no-fund", "--silent", "--prefix", ".", PORT];
    let output = run(folder.path(), "npm", &install);
    if !output.status.success() {
        skip(&format!("{PORT} cannot be had here: {}", String::from_utf8_lossy(&output.stderr).trim()));
        return None;
    }
    fs::write(folder.path().join("table.mjs"), include_str!("load_report/table.mjs")).unwrap();
    Some(folder)
}

/// What the port says of a log, and the table that it prints.
fn table_of_the_port(folder: &Path, log: &[u8], values_per_unit: &str) -> (serde_json::Value, String) {
    fs::write(folder.join("a.hlog"), log).unwrap();
    let output = run(folder, "node", &["table.mjs", "a.hlog", values_per_unit]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (serde_json::from_str(&said).expect(&said), String::from_utf8(output.stdout).unwrap())
}

fn own_table(histogram: &Histogram<u64>, values_per_unit: f64) -> String {
    let mut out = vec![];
    hgrm(histogram, values_per_unit, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_percentile_table_equals_the_one_that_hdrhistogram_js_prints_of_the_interval_log() {
    let Some(folder) = port() else { return };
    let stalling = Load { rate: Some(16_000.0), stall: Some(1), usual: 1_700.0, seconds: 3, ..QUICK };
    let few = Load { seconds: 1, answers: 1, ..QUICK };
    let none = Load { seconds: 1, answers: 0, ..QUICK };
    for load in [QUICK, stalling, few, none] {
        let log = Shared::default();
        let run = load.run(Some(Box::new(log.clone())));
        let (said, table) = table_of_the_port(folder.path(), &log.0.borrow(), "1000");
        assert_eq!(said["tags"], serde_json::json!(["thread-0", "thread-1"]));
        assert_eq!(said["intervals"], 2 * load.seconds);
        let begin = STARTED.as_millis() as f64;
        assert_eq!((said["begin"].as_f64(), said["end"].as_f64()), (Some(begin), Some(begin + 1_000.0)));
        assert_eq!(own_table(&run.latency, 1_000.0), table);
    }
}

#[test]
fn the_table_of_a_servers_nanoseconds_equals_it_too() {
    let Some(folder) = port() else { return };
    let mut dice = Dice(7);
    for values in [1, 2, 999, 20_000] {
        let (mut sum, mut log) = (record::histogram(), vec![]);
        let mut writer = IntervalLog::new(&mut log, SystemTime::now(), Unit::Nanoseconds).unwrap();
        for worker in 0..3 {
            let mut histogram = record::histogram();
            // up to minutes
            (0..values).for_each(|_| histogram.record(10_f64.powf(2.0 + 9.0 * dice.throw()) as u64).unwrap());
            let tag = format!("worker-{worker}");
            writer.write(&tag, Duration::ZERO, Duration::from_secs(1), &histogram).unwrap();
            sum.add(&histogram).unwrap();
        }
        for (text, ratio) in [("1000", 1_000.0), ("1", 1.0), ("1000000", 1e6)] {
            assert_eq!(own_table(&sum, ratio), table_of_the_port(folder.path(), &log, text).1);
        }
    }
}

/// Where pages are left to be looked at.
fn desk() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("load_report");
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn write_page(name: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> PathBuf {
    let path = desk().join(name);
    let mut out = vec![];
    write(&mut out).unwrap();
    fs::write(&path, out).unwrap();
    path
}

/// The document as a browser has it after loading; `None`, said why, where there is no browser.
fn document(path: &Path) -> Option<String> {
    let Some(browser) =
        ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| is_there(name))
    else {
        skip("there is no Chromium here");
        return None;
    };
    let profile = tempfile::tempdir().unwrap();
    let profile_flag = format!("--user-data-dir={}", profile.path().display());
    let url = format!("file://{}", path.display());
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        &profile_flag,
        "--dump-dom",
        &url,
    ];
    let output = run(profile.path(), browser, &flags);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// What a page could fetch from elsewhere.
fn assert_refers_to_nothing_outside(document: &str) {
    let fetching = [
        "<script", "<link", "<img", "<iframe", "<object", "<image", "<use", "src=", "href=", "url(",
        "@import",
    ];
    for way in fetching {
        assert!(!document.contains(way), "{way}");
    }
}

fn assert_has(document: &str, parts: &[&str]) {
    for part in parts {
        assert!(document.contains(part), "{part:?} is missing");
    }
}

#[test]
fn a_browser_shows_the_page_of_one_run_with_curves_axes_and_figures() {
    let load = Load { rate: Some(16_000.0), stall: Some(4), ..QUICK };
    let run = load.run(None);
    let page = write_page("one.html", |out| html::write(&run, out));
    let Some(document) = document(&page) else { return };
    assert_refers_to_nothing_outside(&document);
    assert_has(
        &document,
        &[
            "<title>GET http://127.0.0.1:1337/</title>",
            "16,000 requests/s asked for, 64 connections, 2 threads, measured for 10.0\u{202f}s on 2023-11-14 22:13:20 UTC",
            "<h2>Latency by percentile</h2>",
            "percentile (%)",
            "latency, logarithmic",
            "99.999",
            "service time, from the send",
            "answers/s (2xx)",
            "Seconds with errors have a red dot.",
            "p99 of each second, logarithmic",
            "time since measuring began (s)",
            "<dd>16,000</dd>",
            "6 × connection reset, first at 4.31",
        ],
    );
    for curve in [
        "<polyline fill=\"none\" opacity=\"1\" class=\"stroke run-0\"",
        "class=\"stroke run-0 thin\"",
        "class=\"fill mark\"",
    ] {
        assert_has(&document, &[curve]);
    }
    let p99 = Saved::from(&run).latency.unwrap().p99;
    let cell =
        format!("<tr><th scope=\"row\">p99</th><td>{}\u{202f}ms</td>", three_digits(p99 as f64 / 1_000.0));
    assert_has(&document, &[&cell]);
}

fn three_digits(value: f64) -> String {
    let digits = [10.0, 100.0].iter().filter(|bound| value < **bound).count();
    format!("{value:.digits$}")
}

#[test]
fn a_browser_shows_several_runs_over_each_other() {
    let url = "http://127.0.0.1:1337/<b>?a=1&b=\"2\"";
    let a = Load { url, ..QUICK }.saved();
    let b = Load { usual: 260.0, answers: 5_500, ..QUICK }.saved();
    let c = Load { usual: 900.0, answers: 1_500, stall: Some(6), ..QUICK }.saved();
    let notes = ["Small answer, 64 connections. Medians of interleaved rounds."];
    let runs = [("uringd", &a), ("nginx", &b), ("node <cluster>", &c)];
    let page = write_page("several.html", |out| html::page("Three servers", &notes, &runs, out));
    let Some(document) = document(&page) else { return };
    assert_refers_to_nothing_outside(&document);
    assert_has(
        &document,
        &[
            "<h1>Three servers</h1>",
            notes[0],
            "</svg>node &lt;cluster&gt;</li>",
            "GET http://127.0.0.1:1337/&lt;b&gt;?a=1&amp;b=\"2\"",
            "<th scope=\"row\">answers/s (2xx)</th><td>16,000</td><td>11,000<span class=\"ratio\">0.69×</span></td>",
            "class=\"stroke run-2\"",
        ],
    );
}

#[test]
fn what_is_saved_makes_the_same_page() {
    let run = Load { rate: Some(16_000.0), ..QUICK }.run(None);
    let mut text = vec![];
    json::write(&run, &mut text).unwrap();
    let saved = json::read(std::str::from_utf8(&text).unwrap()).unwrap();
    let (mut direct, mut read) = (vec![], vec![]);
    html::write(&run, &mut direct).unwrap();
    let runs = [("latency", &saved)];
    html::page(&html::title(&runs), &[], &runs, &mut read).unwrap();
    assert!(direct == read);
}

#[test]
fn a_summary_fits_a_terminal() {
    let run = Load { rate: Some(20_000.0), stall: Some(4), ..QUICK }.run(None);
    let mut text = vec![];
    summary::write(&run, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    fs::write(desk().join("summary.txt"), &text).unwrap();
    assert!(text.starts_with("RATE NOT REACHED: 16,000 of 20,000 requests/s (80.0 %): GET http"), "{text}");
    let drawn = text.lines().filter(|line| line.contains('│'));
    assert!(drawn.clone().count() > 5 && drawn.clone().all(|line| line.chars().count() <= 80), "{text}");
}
