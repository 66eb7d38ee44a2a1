//! Neither panics nor rolls cost a client anything: half a minute of each (more on a slow machine), under clients that
//! would notice. Both tests are in one file so that their half minutes are the same.

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
/// How many answers show that they were at work.
const ANSWERS: usize = 2_000;
/// A worker that leaves has more time than any client waits: whoever was stranded with it has no answer in time. One that
/// starts has as much.
const TIMEOUTS: &[&str] = &["--kill-timeout", "60s", "--boot-timeout", "60s"];

/// Clients at work, and what they have seen.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

#[test]
fn two_hundred_panics_cost_nobody_else_a_request() {
    const SUICIDES: usize = 50;
    let arguments = [&["--workers", "2", "--restart-limit", "10000"], TIMEOUTS].concat();
    let server = Server::start(Program::Faulty, &arguments);
    let load = Load::default();
    let panics = thread::scope(|scope| {
        let _ends = SetOnDrop(&load.over);
        load.start(scope, &server);
        let panic = || {
            let panicked = once(&server, "/panic");
            if !panicked.as_ref().is_ok_and(|answer| answer.status == 500) {
                load.failed(format!("/panic: {panicked:?}"));
            }
        };
        let enough = || server.events("suicide").len() >= SUICIDES && load.is_enough();
        at_a_steady_pace(200, Duration::from_millis(150), enough, panic)
    });
    load.assert_nothing_lost();
    server.wait_until_whole();
    let suicides = server.events("suicide").len();
    // a worker that panics again is already leaving
    assert!((SUICIDES..=panics).contains(&suicides), "{suicides} suicides, {panics} panics");
    assert_none_left_early(&server, "suicide", suicides);
}

#[test]
fn thirty_rolls_cost_nobody_a_request() {
    const ROLLS: usize = 15;
    let server = Server::start(Program::Faulty, &[&["--workers", "2"], TIMEOUTS].concat());
    let load = Load::default();
    let stages = |stage: &str| server.events("reload").iter().filter(|line| line["stage"] == stage).count();
    let signals = thread::scope(|scope| {
        let _ends = SetOnDrop(&load.over);
        load.start(scope, &server);
        let enough = || stages("done") >= ROLLS && load.is_enough();
        at_a_steady_pace(30, Duration::from_secs(1), enough, || server.signal("HUP"))
    });
    load.assert_nothing_lost();
    server.wait("the last roll is done", || stages("started") == stages("done"));
    let rolls = stages("done");
    // those too close are one
    assert!((ROLLS..=signals).contains(&rolls) && stages("failed") == 0, "{rolls} rolls, {signals} signals");
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
            self.judge("a connection for one request", once(server, "/pid"));
            random.pause(10_000);
        }
    }

    /// Reconnects only when told that the connection closes: everything else is a failure.
    fn keep_alive(&self, server: &Server, number: u64) {
        let mut random = Random(2 * number + 2);
        let mut kept = None;
        while !self.over.load(Ordering::Relaxed) {
            let mut connection = kept.take().unwrap_or_else(|| server.connect());
            let answer = connection.try_get("/pid");
            if answer.as_ref().is_ok_and(|answer| !answer.closes()) {
                kept = Some(connection);
            }
            self.judge("a kept connection", answer);
            random.pause(4_000);
        }
    }

    fn judge(&self, what: &str, answer: io::Result<Answer>) {
        match answer {
            Ok(Answer { status: 200, .. }) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            other => self.failed(format!("{what}: {other:?}")),
        }
    }

    fn is_enough(&self) -> bool {
        self.answered.load(Ordering::Relaxed) > ANSWERS
    }

    fn failed(&self, failure: String) {
        self.failures.lock().unwrap().push(failure);
    }

    fn assert_nothing_lost(&self) {
        let (answered, failures) = (self.answered.load(Ordering::Relaxed), self.failures.lock().unwrap());
        assert!(failures.is_empty(), "{} beside {answered} answers: {failures:#?}", failures.len());
        assert!(self.is_enough(), "the clients were at work: {answered}");
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

/// Does it so often, beginning each time at its time; one that takes too long delays the next. Where that is not enough,
/// more often, but not for ever. Gives how often.
fn at_a_steady_pace(times: u32, pace: Duration, enough: impl Fn() -> bool, mut act: impl FnMut()) -> usize {
    let start = Instant::now();
    let mut turns = 0;
    while turns < times || (turns < 10 * times && !enough()) {
        turns += 1;
        act();
        thread::sleep((start + turns * pace).saturating_duration_since(Instant::now()));
    }
    turns as usize
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
