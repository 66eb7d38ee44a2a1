//! What is counted is what happened: every counter against a client that knows, and totals that never go backwards however
//! often workers are killed. `examples/faulty.rs` writes down what `Pool::stats` says.

mod common;

use common::*;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server whose statistics are written down.
struct Counted {
    server: Server,
    file: PathBuf,
    _directory: TempDir,
}

type Stats = BTreeMap<String, u64>;

impl Counted {
    fn start(arguments: &[&str]) -> Counted {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("stats");
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend(arguments);
        let server = Server::spawn(Program::Faulty.command(&all).env("FAULTY_STATS", &file));
        server.wait_until_whole();
        Counted { server, file, _directory: directory }
    }

    /// All that was written so far.
    fn history(&self) -> Vec<Stats> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of numbers")).collect()
    }

    fn now(&self) -> Stats {
        self.history().pop().unwrap_or_default()
    }

    /// Waits until these are the numbers; those that are not named are not looked at.
    fn expect(&self, expected: &[(&str, u64)]) {
        self.expect_that(&format!("{expected:?}"), |stats| {
            expected.iter().all(|(name, number)| stats.get(*name) == Some(number))
        });
    }

    fn expect_that(&self, what: &str, so: impl Fn(&Stats) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.now();
            if so(&stats) {
                return;
            }
            assert!(Instant::now() < deadline, "not in time: {what}; there is {stats:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends this, ends, and reads to the end: how many octets came.
fn exchange(server: &Server, octets: &[u8]) -> u64 {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(octets).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer.len() as u64
}

#[test]
fn the_counts_are_those_of_a_client_that_knows() {
    let counted = Counted::start(&["--workers", "2"]);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes();
    let talks: [Vec<u8>; 6] = [
        get("/pid").repeat(3),
        get("/nowhere"),
        b"POST /pid HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
        [get("/pid"), b"this is no request\r\n\r\n".to_vec()].concat(),
        // more than a turn's output, and in pieces
        get("/bytes?n=3000000"),
        get("/bytes?n=100000").repeat(4),
    ];
    let mut received = 0;
    let sent: usize = talks.iter().map(Vec::len).sum();
    for talk in &talks {
        received += exchange(&counted.server, talk);
    }
    counted.expect(&[
        ("accepted", 6),
        ("active", 0),
        ("requests", 11),
        ("responses_2xx", 10),
        ("responses_3xx", 0),
        ("responses_4xx", 2),
        ("responses_5xx", 0),
        ("refused", 1),
        ("latencies", 11),
        ("bytes_in", sent as u64),
        ("bytes_out", received),
    ]);
    let idle: Vec<Client> = (0..5).map(|_| counted.server.connect()).collect();
    counted.expect(&[("accepted", 11), ("active", 5)]);
    drop(idle);
    counted.expect(&[("active", 0), ("broken", 0), ("cut", 0), ("timed_out", 0), ("panics", 0)]);
}

#[test]
#[cfg(feature = "load")]
fn the_counts_are_those_of_the_load_generator() {
    let counted = Counted::start(&["--workers", "2"]);
    let (pid, bytes) = (format!("http://{}/pid", counted.server.address), "/bytes?n=20000");
    let (bytes, missing) = (pid.replace("/pid", bytes), pid.replace("/pid", "/missing"));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_uringload"))
        .args([&pid, &bytes, &missing])
        .args([
            "-n",
            "9000",
            "-c",
            "30",
            "-t",
            "2",
            "-p",
            "4",
            "--requests-per-connection",
            "50",
            "--json",
            "-",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let said = |name: &str| said[name].as_u64().unwrap();
    assert_eq!([said("requests"), said("status_2xx"), said("status_4xx")], [9000, 6000, 3000]);
    counted.expect(&[
        ("requests", 9000),
        ("latencies", 9000),
        ("responses_2xx", 6000),
        ("responses_4xx", 3000),
        ("accepted", said("connections_opened")),
        ("active", 0),
        ("bytes_in", said("bytes_sent")),
        ("bytes_out", said("bytes_received")),
    ]);
}

#[test]
fn what_goes_wrong_is_counted_by_its_kind() {
    let counted = Counted::start(&["--workers", "1", "--on-panic", "continue"]);
    // two in one turn
    let mut client = counted.server.connect();
    client.send("GET /panic HTTP/1.1\r\nHost: test\r\n\r\n".repeat(2));
    assert_eq!([(); 2].map(|()| client.read_answer().unwrap().status), [500, 500]);
    drop(client);
    counted.expect(&[("panics", 2), ("responses_5xx", 2)]);
    // resets
    let mut broken = counted.server.connect();
    broken.get("/pid");
    broken.reset();
    counted.expect(&[("broken", 1), ("cut", 0)]);
    // a stream that fails
    let mut cut = counted.server.connect();
    cut.send("GET /stream-panic?ms=1 HTTP/1.1\r\nHost: test\r\n\r\n");
    let _ = cut.read_to_end();
    counted.expect(&[("cut", 1), ("panics", 3), ("broken", 1), ("timed_out", 0)]);
}

#[test]
fn who_is_too_slow_with_a_request_is_counted() {
    let counted = Counted::start(&["--workers", "1", "--header-timeout", "2s"]);
    let worker = counted.server.listening()[0].1;
    // too slow with its head, of which the beginning is here before the client's time begins
    counted.server.stop(worker);
    let mut slow = counted.server.connect();
    slow.send("GET / HT");
    kill(worker, "CONT");
    assert_eq!(slow.read_answer().unwrap().status, 408);
    counted.expect(&[("timed_out", 1), ("refused", 1), ("requests", 0), ("responses_4xx", 1)]);
    // never said anything
    let mut mute = counted.server.connect();
    assert_eq!(mute.read_to_end().unwrap(), b"");
    counted.expect(&[("timed_out", 2), ("refused", 1), ("broken", 0)]);
}

#[test]
fn a_pool_of_buffers_that_ran_empty_is_counted_and_costs_nobody_an_answer() {
    let counted = Counted::start(&["--workers", "1"]);
    let worker = counted.server.listening()[0].1;
    let mut clients: Vec<Client> = (0..40).map(|_| counted.server.connect()).collect();
    counted.expect(&[("active", 40)]);
    counted.server.stop(worker);
    // 4 MB that wait for the loop, which has buffers for 512 KiB
    let post =
        format!("POST /pid HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    clients.iter_mut().for_each(|client| client.send(&post));
    kill(worker, "CONT");
    assert!(clients.iter_mut().all(|client| client.read_answer().unwrap().status == 200));
    counted.expect_that("buffers ran out", |stats| stats["buffers_exhausted"] > 0);
}

#[test]
fn a_drain_that_ends_in_the_middle_of_a_request_is_a_forced_close() {
    let counted = Counted::start(&["--workers", "1", "--kill-timeout", "4s", "--header-timeout", "1m"]);
    let worker = counted.server.listening()[0].1;
    let mut half = counted.server.connect();
    half.send("GET /pid HTTP/1.1\r\n");
    let mut idle = counted.server.connect();
    counted.expect(&[("active", 2), ("bytes_in", 19)]);
    counted.server.signal("TERM");
    counted.server.wait_for("drain", |line| line["message"] == "drain sent" && line["pid"] == worker);
    // the worker closes them by itself, however near the kill timeout is
    counted.server.stop(counted.server.pid());
    for client in [&mut half, &mut idle] {
        assert_eq!(client.read_to_end().unwrap(), b"");
    }
    drop((half, idle));
    kill(counted.server.pid(), "CONT");
    counted.server.wait_gone();
    counted.expect(&[("forced_closes", 1), ("idle_closes", 1), ("active", 0)]);
}

/// What the server says is held against the client's clock: it can have taken no longer than the client has waited.
#[test]
fn a_latency_is_the_time_from_the_last_byte_to_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let hangs = folder.path().join("hangs");
    let counted = Counted::start(&["--workers", "1", "--body-timeout", "1m"]);
    let mut client = counted.server.connect();
    std::fs::write(&hangs, "").unwrap();
    let start = Instant::now();
    client.send(format!("GET /hang?ms=300&while={} HTTP/1.1\r\nHost: test\r\n\r\n", hangs.display()));
    counted.expect(&[("requests", 1), ("latencies", 0)]);
    assert_eq!(counted.server.get("/nowhere").status, 404, "the loop goes on");
    counted.expect(&[("requests", 2), ("latencies", 1)]);
    std::fs::remove_file(&hangs).unwrap();
    client.read_answer().unwrap();
    let waited = upper_us(start);
    counted.expect_that("300 ms by a timer", |stats| {
        stats["latencies"] == 2 && (300_000..=waited).contains(&stats["max_us"])
    });
    // its head has been here for a while when its last byte comes
    let counted = Counted::start(&["--workers", "1", "--body-timeout", "1m"]);
    let mut client = counted.server.connect();
    client.send("POST /pid HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n1");
    counted.expect(&[("requests", 1), ("latencies", 0)]);
    thread::sleep(Duration::from_millis(400));
    let start = Instant::now();
    client.send("2");
    client.read_answer().unwrap();
    let waited = upper_us(start);
    counted.expect_that("a short one", |stats| stats["latencies"] == 1 && stats["max_us"] <= waited);
    // what blocks the loop is the request's own time, and the turn's
    client.get("/block?ms=350");
    counted.expect_that("a turn of 350 ms", |stats| {
        stats["longest_turn_ns"] >= 350_000_000 && stats["max_us"] >= 350_000
    });
    // answered in order: the second one came with the first, and has waited for it
    let counted = Counted::start(&["--workers", "1"]);
    let mut client = counted.server.connect();
    client.send("GET /hang?ms=250 HTTP/1.1\r\nHost: test\r\n\r\nGET /pid HTTP/1.1\r\nHost: test\r\n\r\n");
    client.read_answer().unwrap();
    client.read_answer().unwrap();
    counted.expect_that("both", |stats| stats["latencies"] == 2 && stats["p50_us"] >= 250_000);
}

/// The time since then, and what a histogram may add to it: a thousandth.
fn upper_us(start: Instant) -> u64 {
    let waited = start.elapsed().as_micros() as u64;
    waited + waited / 1000 + 1
}

#[test]
fn the_latency_files_have_every_request_also_those_of_workers_that_were_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (log, report) = (path("latency.hlog"), path("latency.hgrm"));
    let arguments = ["--workers", "2", "--latency-log", &log, "--latency-report", &report];
    let server = Server::start(Program::Faulty, &arguments);
    let first: Vec<i32> = server.listening().into_iter().map(|(_, pid)| pid).collect();
    for victim in first {
        for _ in 0..40 {
            assert_eq!(server.get("/pid").status, 200);
        }
        kill(victim, "KILL");
        server.wait_for("exit", |line| line["event"] == "exit" && line["pid"] == victim);
        server.wait_until_whole();
    }
    // what is answered now is in a line that the log gets while the server runs
    let lines = || std::fs::read_to_string(&log).unwrap().lines().count();
    let before = lines();
    server.get("/hang?ms=50");
    server.wait("the log grows", || lines() > before);
    server.signal("TERM");
    server.wait_gone();

    let log = std::fs::read_to_string(log).unwrap();
    let (mut merged, mut tags) =
        (Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 3).unwrap(), BTreeMap::new());
    for line in log.lines().filter(|line| line.starts_with("Tag=")) {
        let fields: Vec<&str> = line.split(',').collect();
        let interval = uringd::stats::hlog::decode(fields[4]).unwrap();
        *tags.entry(fields[0].to_owned()).or_insert(0) += interval.len();
        merged.add(&interval).unwrap();
    }
    assert_eq!(merged.len(), 81);
    assert!(tags.keys().all(|tag| tag.starts_with("Tag=worker-")) && tags.len() >= 2, "{tags:?}");
    assert!(merged.max() >= 50_000_000, "nanoseconds: {}", merged.max());
    let mut expected = Vec::new();
    uringd::stats::report::hgrm(&merged, 1000.0, &mut expected).unwrap();
    assert_eq!(std::fs::read_to_string(report).unwrap(), String::from_utf8(expected).unwrap());

    let stopped = server.wait_for("the last line", |line| line["message"] == "stopped");
    assert_eq!((stopped["requests"].as_u64(), stopped["connections"].as_u64()), (Some(81), Some(81)));
    assert!(stopped["max_us"].as_f64().unwrap() >= 50_000.0, "{stopped}");
    let table = server.events("latency");
    let slots: Vec<_> = table.iter().map(|line| line["slot"].as_str().unwrap()).collect();
    assert_eq!(slots, ["0", "1", "all"]);
    assert_eq!(table[2]["count"], 81);
    assert_eq!(table[2]["max_us"], stopped["max_us"]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn people_get_a_table_of_the_latencies_at_exit() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("latency.hgrm").display().to_string();
    let arguments =
        ["--listen", "127.0.0.1:0", "--workers", "1", "--log-format", "text", "--latency-report", &report];
    let server = Server::launch(bare_command(&Program::Uringd.path()).args(arguments));
    server.wait_for("listening", |line| line.to_string().contains("worker listening"));
    let setup = server.wait_for("setup", |line| line.to_string().contains("addresses=")).to_string();
    let address = setup.split("127.0.0.1:").nth(1).unwrap().split(['"', '\\']).next().unwrap();
    Client::connect(format!("127.0.0.1:{address}").parse().unwrap()).get("/");
    server.signal("TERM");
    server.wait_gone();
    let log: Vec<String> = server.log().iter().filter_map(|line| Some(line.as_str()?.to_owned())).collect();
    let head = log.iter().position(|line| line.contains("p99.9")).expect("a table");
    for (line, name) in log[head + 1..].iter().zip(["0", "all"]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], [name, "1"], "{log:?}");
    }
    assert_eq!(log.len(), head + 3);
}

#[test]
fn latency_files_that_cannot_be_made_are_said_before_anything_is_served() {
    for (flag, path, why) in [
        ("--latency-log", "/nowhere/at/all.hlog", "No such file"),
        ("--latency-report", "/nowhere/at/all.hgrm", "No such file"),
        ("--latency-log", "/tmp", "directory"),
        ("--latency-report", "/tmp", "directory"),
    ] {
        let mut command = Program::Uringd.command(&["--listen", "127.0.0.1:0", flag, path]);
        let mut server = Server::launch(&mut command);
        assert_eq!(server.wait_exit().code(), Some(1));
        let line = server.wait_for("a line", |line| line.to_string().contains(flag)).to_string();
        assert!(line.contains(path) && line.contains(why), "{line}");
        assert_eq!(server.events("fork").len(), 0);
    }
}

// ---- whatever dies ----

const KILLS: usize = 100;
const CLIENTS: usize = 8;

#[derive(Default)]
struct Served {
    answered: AtomicU64,
    /// Requests that were on their way when their connection broke.
    in_flight: AtomicU64,
    over: AtomicBool,
}

#[test]
fn a_hundred_killed_workers_take_no_count_with_them() {
    let counted = Counted::start(&["--workers", "2", "--restart-limit", "1000000"]);
    let served = Served::default();
    thread::scope(|scope| {
        let _ends = SetOnDrop(&served.over);
        for _ in 0..CLIENTS {
            scope.spawn(|| work(&counted.server, &served));
        }
        for nth in 0..KILLS {
            counted.server.wait_until_whole();
            let answered = served.answered.load(Relaxed);
            counted.server.wait("clients are served", || served.answered.load(Relaxed) > answered + 20);
            let workers = counted.server.listening();
            let (_, victim) = workers[nth % workers.len()];
            kill(victim, "KILL");
            counted.server.wait_for("exit", |line| line["event"] == "exit" && line["pid"] == victim);
        }
    });
    let (answered, in_flight) = (served.answered.into_inner(), served.in_flight.into_inner());
    counted.expect(&[("active", 0)]);
    let end = counted.now();
    println!("{KILLS} kills: {answered} answered, {in_flight} in flight, the server says {end:?}");
    assert!(counted.server.events("exit").len() >= KILLS);
    for count in ["requests", "responses_2xx", "latencies"] {
        assert!((answered..=answered + in_flight).contains(&end[count]), "{count}: {end:?}");
    }
    assert!(in_flight <= (KILLS * CLIENTS) as u64);

    let history = counted.history();
    assert!(history.len() > KILLS, "{} looks", history.len());
    for (before, after) in history.iter().zip(&history[1..]) {
        let fell = before.iter().find(|(name, number)| {
            !["active", "p50_us", "max_us"].contains(&name.as_str()) && after[*name] < **number
        });
        assert_eq!(fell, None, "{before:?} and then {after:?}");
    }
    counted.server.signal("TERM");
    counted.server.wait_gone();
}

/// One request after the other; a connection that breaks is made anew.
fn work(server: &Server, served: &Served) {
    while !served.over.load(Relaxed) {
        let Ok(mut client) = Client::try_connect(server.address) else { continue };
        while !served.over.load(Relaxed) {
            match client.try_get("/pid") {
                Ok(_) => served.answered.fetch_add(1, Relaxed),
                Err(_) => {
                    served.in_flight.fetch_add(1, Relaxed);
                    break;
                }
            };
        }
    }
}
