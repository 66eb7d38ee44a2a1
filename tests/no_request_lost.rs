//! Neither panics nor rolls cost a client anything: half a minute of each, under clients that would notice. Both
//! tests are in one file so that their half minutes are the same.

mod common;

use common::*;
use serde_json::Value;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Of each kind: those that open a connection for every request, and those that keep theirs.
const CLIENTS: u64 = 8;
/// An answer that takes longer was stranded somewhere, even if it comes in the end.
const STRANDED: Duration = Duration::from_secs(5);

/// Clients at work, and what they have seen.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

#[test]
fn two_hundred_panics_cost_nobody_else_a_request() {
    let server = Server::start(Program::Faulty, &["--workers", "2", "--restart-limit", "1000"]);
    let load = Load::default();
    thread::scope(|scope| {
        load.start(scope, &server);
        at_a_steady_pace(200, Duration::from_millis(150), || {
            let panicked = once(&server, "/panic");
            if !panicked.as_ref().is_ok_and(|answer| answer.status == 500) {
                load.failed(format!("/panic: {panicked:?}"));
            }
        });
        load.over.store(true, Ordering::Relaxed);
    });
    load.assert_nothing_lost();
    server.wait_until_whole();
    let suicides = server.events("suicide").len();
    assert!((50..=200).contains(&suicides), "a worker that panics again is already leaving: {suicides}");
    assert_none_left_early(&server, "suicide", suicides);
}

#[test]
fn thirty_rolls_cost_nobody_a_request() {
    let server = Server::start(Program::Faulty, &["--workers", "2"]);
    let load = Load::default();
    thread::scope(|scope| {
        load.start(scope, &server);
        at_a_steady_pace(30, Duration::from_secs(1), || server.signal("HUP"));
        load.over.store(true, Ordering::Relaxed);
    });
    load.assert_nothing_lost();
    let stages = |stage: &str| server.events("reload").iter().filter(|line| line["stage"] == stage).count();
    server.wait("the last roll is done", || stages("started") == stages("done"));
    let rolls = stages("done");
    assert!((15..=30).contains(&rolls) && stages("failed") == 0, "{rolls} rolls; those too close are one");
    assert_none_left_early(&server, "reload", 2 * rolls);
}

impl Load {
    fn start<'s>(&'s self, scope: &'s thread::Scope<'s, '_>, server: &'s Server) {
        for number in 0..CLIENTS {
            scope.spawn(move || self.connect_for_each(server, number));
            scope.spawn(move || self.keep_alive(server, number));
        }
    }

    fn connect_for_each(&self, server: &Server, number: u64) {
        let mut random = Random(2 * number + 1);
        while !self.over.load(Ordering::Relaxed) {
            let start = Instant::now();
            self.judge("a connection for one request", start, once(server, "/pid"));
            random.pause(10_000);
        }
    }

    /// Reconnects only when told that the connection closes: everything else is a failure.
    fn keep_alive(&self, server: &Server, number: u64) {
        let mut random = Random(2 * number + 2);
        let mut kept = None;
        while !self.over.load(Ordering::Relaxed) {
            let start = Instant::now();
            let mut connection = kept.take().unwrap_or_else(|| server.connect());
            let answer = connection.try_get("/pid");
            if answer.as_ref().is_ok_and(|answer| !answer.closes()) {
                kept = Some(connection);
            }
            self.judge("a kept connection", start, answer);
            random.pause(4_000);
        }
    }

    fn judge(&self, what: &str, start: Instant, answer: io::Result<Answer>) {
        let took = start.elapsed();
        match answer {
            Ok(Answer { status: 200, .. }) if took < STRANDED => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            other => self.failed(format!("{what}, after {took:?}: {other:?}")),
        }
    }

    fn failed(&self, failure: String) {
        self.failures.lock().unwrap().push(failure);
    }

    fn assert_nothing_lost(&self) {
        let (answered, failures) = (self.answered.load(Ordering::Relaxed), self.failures.lock().unwrap());
        assert!(failures.is_empty(), "{} beside {answered} answers: {failures:#?}", failures.len());
        assert!(answered > 2_000, "the clients were at work: {answered}");
    }
}

/// A connection for one request. It does not say `Connection: close`, so that a drainer has to.
fn once(server: &Server, path: &str) -> io::Result<Answer> {
    let mut connection = Client::try_connect(server.address)?;
    connection.try_get(path)
}

/// Whoever was told to drain had a successor that listened, and left for that reason only.
fn assert_none_left_early(server: &Server, cause: &str, at_least: usize) {
    let drained = |log: &[Value]| log.iter().filter(|line| line["message"] == "drain sent").count();
    server.wait("as many have drained", || drained(&server.log()) >= at_least);
    server.wait("as many have left", || server.events("exit").len() >= drained(&server.log()));
    let log = server.log();
    for (place, line) in log.iter().enumerate() {
        let succeeded = || {
            log[..place].iter().any(|other| {
                other["event"] == "listening"
                    && other["slot"] == line["slot"]
                    && other["id"].as_u64() > line["id"].as_u64()
            })
        };
        if line["message"] == "drain sent" {
            assert!(succeeded(), "drained without a successor: {line}");
        } else if line["event"] == "exit" {
            assert!(succeeded(), "gone without a successor: {line}");
            assert_eq!((&line["cause"], &line["forced"]), (&cause.into(), &false.into()), "{line}");
        }
    }
}

/// Does it so often, beginning each time at its time; one that takes too long delays the next.
fn at_a_steady_pace(times: u32, pace: Duration, mut act: impl FnMut()) {
    let start = Instant::now();
    for turn in 1..=times {
        act();
        thread::sleep((start + turn * pace).saturating_duration_since(Instant::now()));
    }
}

/// Pauses of no regularity, the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn pause(&mut self, microseconds_max: u64) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        thread::sleep(Duration::from_micros(self.0 % microseconds_max));
    }
}
