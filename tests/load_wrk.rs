//! `uringload` measures what `wrk` measures: rate and median of a closed loop against a server that delays each answer by
//! 5 ms, so that neither of them is the limit, in interleaved rounds.
#![cfg(feature = "load")]

mod common;

use common::{Program, Server, bare_command, skip, through};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// Of each; a second long.
const ROUNDS: usize = 5;
const CONNECTIONS: &str = "8";
/// They may differ by this share.
const TOLERANCE: f64 = 0.1;
/// A busy machine may take time from one of them; an error of ours shows every time.
const TRIES: usize = 4;
/// As long as the server takes, in milliseconds, and how much longer wrk may find it: beyond that a client is the limit, or
/// somebody else.
const DELAY: f64 = 5.0;
const MEASURABLE: f64 = 1.3;

/// What a generator says of a round: answers a second, and the median latency in milliseconds.
type Round = (f64, f64);

fn stdout(command: &mut Command) -> String {
    let output = command.stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn uringload(url: &str) -> Round {
    let mut command = bare_command(Path::new(env!("CARGO_BIN_EXE_uringload")));
    let text = stdout(command.args([url, "-c", CONNECTIONS, "-d", "1s", "--json", "-"]));
    let run: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(run["errors"], 0, "{run}");
    (run["rps"].as_f64().unwrap(), run["latency"]["p50"].as_f64().unwrap() / 1e3)
}

/// On the core where `uringload` is, so that both share one with the same others.
fn wrk(url: &str) -> Round {
    let cores = core_affinity::get_core_ids().unwrap();
    let last = cores.last().unwrap().id.to_string();
    let mut command = bare_command(Path::new("wrk"));
    command.args(["--latency", "-t1", "-c", CONNECTIONS, "-d1s", url]);
    let text = stdout(&mut through(&["taskset", "--cpu-list", &last], &command));
    let word_behind = |name: &str| {
        let rest = text.lines().find_map(|line| line.trim().strip_prefix(name));
        rest.unwrap_or_else(|| panic!("{name} in {text}")).trim()
    };
    let p50 = word_behind("50%");
    let (number, milliseconds) = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)]
        .into_iter()
        .find_map(|(unit, size)| Some((p50.strip_suffix(unit)?, size)))
        .unwrap_or_else(|| panic!("{p50}"));
    (word_behind("Requests/sec:").parse().unwrap(), number.parse::<f64>().unwrap() * milliseconds)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn rate_and_median_are_those_that_wrk_measures() {
    for program in ["wrk", "taskset"] {
        if bare_command(Path::new(program)).arg("--version").output().is_err() {
            return skip(&format!("there is no `{program}` here"));
        }
    }
    let server = Server::start(Program::Faulty, &["--workers", "1"]);
    let url = format!("http://{}/hang?ms={DELAY}", server.address);
    let mut differed = 0;
    for _ in 0..TRIES {
        match compare(&url) {
            Compared::Equal => return,
            Compared::Different => differed += 1,
            Compared::Nothing => {}
        }
    }
    match differed {
        0 | 1 => skip("what wrk measures here is not what the server does: others keep this machine busy"),
        _ => panic!(
            "they differ by more than {TOLERANCE}, {differed} times, where wrk measures what the server does"
        ),
    }
}

/// What a comparison shows.
enum Compared {
    Equal,
    Different,
    /// wrk differs from itself by as much, or from what the server does.
    Nothing,
}

fn compare(url: &str) -> Compared {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| [wrk(url), uringload(url), wrk(url)]).collect();
    let ratios = |own: usize| {
        [("rate", (|round| round.0) as fn(Round) -> f64), ("p50", |round| round.1)].map(|(what, of)| {
            let median = |of: &dyn Fn(&[Round; 3]) -> f64| median(rounds.iter().map(of).collect());
            let (own, other) = (median(&|round| of(round[own])), median(&|round| of(round[0])));
            eprintln!("{what}: {own:.2}, wrk {other:.2}");
            own / other
        })
    };
    let are_near = |ratios: [f64; 2]| ratios.iter().all(|ratio| (ratio - 1.0).abs() <= TOLERANCE);
    let as_the_server = |round: Round| round.1 <= DELAY * MEASURABLE;
    let is_measurable = rounds.iter().all(|round| as_the_server(round[0]) && as_the_server(round[2]));
    match are_near(ratios(1)) {
        true => Compared::Equal,
        false if is_measurable && are_near(ratios(2)) => Compared::Different,
        false => Compared::Nothing,
    }
}
