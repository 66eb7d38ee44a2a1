//! The status as a table, from two readings of it.
//!
//! Pure. Neighbours: `ctl` prints it; `master::control::view` has made what is read here.

use crate::stats::report::{self, Unit};
use serde_json::{Value, json};
use std::time::Duration;

const LEGEND: &str = "\
rate: requests a second, just now; p50, p99: since the worker's start
restarts: workers of the slot that are gone; all: those that are gone included";

const HEAD: [&str; 12] = [
    "slot",
    "pid",
    "core",
    "phase",
    "uptime",
    "connections",
    "requests",
    "rate",
    "p50",
    "p99",
    "restarts",
    "RssAnon",
];

/// What is to be shown of a server that was asked for its status twice.
pub fn render(before: &Value, now: &Value) -> String {
    let mut text = headline(now);
    for notice in notices(now) {
        text += &format!("{notice}\n");
    }
    text += &format!("{LEGEND}\n\n");
    let mut lines = vec![HEAD.map(str::to_owned).to_vec()];
    let mut workers: Vec<&Value> = now["workers"].as_array().into_iter().flatten().collect();
    workers.sort_by_key(|worker| (worker["slot"].as_u64(), worker["id"].as_u64()));
    lines.extend(workers.iter().map(|worker| line_of(worker, before, now)));
    lines.push(line_of_all(before, now));
    let mut table = Vec::new();
    report::columns(&lines, &mut table).expect("memory takes everything");
    text + &String::from_utf8_lossy(&table)
}

fn headline(status: &Value) -> String {
    let listeners: Vec<&str> =
        status["listeners"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "uringd {}, pid {}, up {}, {} on {}, {} of {} workers, generation {}\n",
        text(&status["version"]),
        status["pid"],
        uptime(status),
        text(&status["course"]),
        if listeners.is_empty() { "nothing".to_owned() } else { listeners.join(" ") },
        status["workers"].as_array().map_or(0, Vec::len),
        status["wanted"],
        status["generation"],
    )
}

/// What is not as usual.
fn notices(status: &Value) -> Vec<String> {
    let mut notices = Vec::new();
    match text(&status["restarts"]) {
        "given-up" => notices.push(
            "GIVEN UP: too many workers have crashed, no more are started (reload to try again)".to_owned(),
        ),
        "trial" => notices.push("given up before: one worker is tried".to_owned()),
        _ => {}
    }
    if status["reloading"] == true {
        notices.push("a reload is under way".to_owned());
    }
    if let Some(problem) = status["last_reload"]["problem"].as_str() {
        notices.push(format!("the last reload failed: {problem}"));
    }
    notices
}

fn line_of(worker: &Value, before: &Value, now: &Value) -> Vec<String> {
    let workers_before = before["workers"].as_array().into_iter().flatten();
    let earlier = workers_before.into_iter().find(|other| other["id"] == worker["id"]);
    let restarts = &now["slots"][worker["slot"].to_string()]["restarts"];
    let mut cells = vec![
        worker["slot"].to_string(),
        worker["pid"].to_string(),
        worker["core"].as_u64().map_or("any".to_owned(), |core| core.to_string()),
        text(&worker["phase"]).to_owned(),
    ];
    cells.extend(numbers(worker, earlier));
    cells.extend([count(restarts), memory(&worker["rss_anon"])]);
    cells
}

fn line_of_all(before: &Value, now: &Value) -> Vec<String> {
    let of = |status: &Value| {
        let total = &status["total"];
        json!({ "uptime": status["uptime"], "counters": total["counters"], "latency": total["latency"] })
    };
    let slots = now["slots"].as_object();
    let restarts: u64 =
        slots.into_iter().flat_map(|slots| slots.values()).filter_map(|slot| slot["restarts"].as_u64()).sum();
    let workers = || now["workers"].as_array().into_iter().flatten();
    let memory_of_all: u64 = workers().filter_map(|worker| worker["rss_anon"].as_u64()).sum();
    let mut cells = ["all", "", "", ""].map(str::to_owned).to_vec();
    cells.extend(numbers(&of(now), Some(&of(before))));
    cells.extend([report::grouped(restarts), memory(&memory_of_all.into())]);
    cells
}

/// From the uptime to p99.
fn numbers(of: &Value, earlier: Option<&Value>) -> [String; 6] {
    let counters = &of["counters"];
    [
        uptime(of),
        count(&counters["active"]),
        count(&counters["requests"]),
        rate(of, earlier).map_or("-".to_owned(), |rate| report::grouped(rate.round() as u64)),
        percentile(&of["latency"], "p50", 5_000),
        percentile(&of["latency"], "p99", 9_900),
    ]
}

/// Between two readings, or since its start for who was not there at the first.
fn rate(of: &Value, earlier: Option<&Value>) -> Option<f64> {
    let requests = |of: &Value| of["counters"]["requests"].as_u64();
    let (uptime, more) =
        match earlier.and_then(|earlier| Some((earlier["uptime"].as_f64()?, requests(earlier)?))) {
            Some((uptime, before)) => (of["uptime"].as_f64()? - uptime, requests(of)?.saturating_sub(before)),
            None => (of["uptime"].as_f64()?, requests(of)?),
        };
    (uptime > 0.0).then(|| more as f64 / uptime)
}

fn percentile(latency: &Value, name: &str, of_10_000: u64) -> String {
    let count = latency["count"].as_u64().unwrap_or(0);
    match latency[format!("{name}_us")].as_f64().filter(|_| report::is_told(count, of_10_000)) {
        Some(micros) => report::time((micros * 1e3).round(), Unit::Nanoseconds),
        None => "-".to_owned(),
    }
}

fn uptime(of: &Value) -> String {
    let seconds = of["uptime"].as_f64().unwrap_or(0.0).max(0.0);
    let text = humantime::format_duration(Duration::from_secs(seconds as u64)).to_string();
    // the two largest units say enough
    text.split(' ').take(2).collect()
}

fn count(value: &Value) -> String {
    value.as_u64().map_or("-".to_owned(), report::grouped)
}

fn memory(octets: &Value) -> String {
    octets.as_u64().map_or("-".to_owned(), |octets| format!("{:.1}MiB", octets as f64 / f64::from(1 << 20)))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: u32, slot: u32, uptime: f64, requests: u64) -> Value {
        json!({
            "id": id, "slot": slot, "pid": 100 + id, "core": slot, "phase": "listening", "uptime": uptime,
            "counters": {"active": 3, "requests": requests},
            "latency": {"count": requests, "p50_us": 51.2, "p99_us": 1203.0},
            "rss_anon": 4_404_019,
        })
    }

    #[test]
    fn rows_tell_workers_and_the_last_line_all() {
        let status = |uptime: f64, workers: Value, requests: u64| {
            json!({
                "version": "1.2.3", "pid": 7, "uptime": uptime, "course": "serving", "restarts": "allowed",
                "reloading": false, "last_reload": null, "generation": 2, "wanted": 2,
                "listeners": ["127.0.0.1:80"], "workers": workers,
                "slots": {"0": {"restarts": 0}, "1": {"restarts": 1200}},
                "total": {
                    "counters": {"active": 6, "requests": requests},
                    "latency": {"count": requests, "p50_us": 52.0, "p99_us": 100.0},
                },
            })
        };
        let before = status(7200.0, json!([worker(1, 0, 7200.0, 1000)]), 5000);
        let now = status(7202.0, json!([worker(9, 1, 0.5, 10), worker(1, 0, 7202.0, 3000)]), 7010);
        let text = render(&before, &now);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            text.lines().next(),
            Some("uringd 1.2.3, pid 7, up 2h2s, serving on 127.0.0.1:80, 2 of 2 workers, generation 2")
        );
        assert_eq!(lines[4], HEAD);
        assert_eq!(
            lines[5],
            ["0", "101", "0", "listening", "2h2s", "3", "3,000", "1,000", "51.2us", "1.20ms", "0", "4.2MiB"]
        );
        // too few to tell of a percentile, and not there at the first reading
        assert_eq!(
            lines[6],
            ["1", "109", "1", "listening", "0s", "3", "10", "20", "51.2us", "-", "1,200", "4.2MiB"]
        );
        assert_eq!(lines[7], ["all", "2h2s", "6", "7,010", "1,005", "52.0us", "100us", "1,200", "8.4MiB"]);
    }

    #[test]
    fn what_is_not_as_usual_is_said_first() {
        let status = json!({
            "restarts": "given-up", "reloading": true, "last_reload": {"problem": "no"}, "workers": [],
        });
        let text = render(&status, &status);
        for notice in ["GIVEN UP", "a reload is under way", "the last reload failed: no"] {
            assert!(text.lines().skip(1).take(3).any(|line| line.starts_with(notice)), "{text}");
        }
        // whatever answers, it is shown
        render(&json!(null), &json!([1]));
        render(&json!({}), &json!({"workers": [{}, null], "slots": [], "total": 3}));
    }
}
