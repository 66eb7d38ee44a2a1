//! A worker that leaves finishes first: requests in flight, idle connections, pipelines, and the signals that make
//! workers leave or must not. Through the real program.

mod common;

use common::*;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const DEPTH: usize = 16;

/// What makes a worker leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    Panic,
    Roll,
    Stop,
}

impl Farewell {
    fn begin(self, server: &Server) {
        match self {
            Farewell::Panic => assert_eq!(server.get("/panic").status, 500),
            Farewell::Roll => server.signal("HUP"),
            Farewell::Stop => server.signal("TERM"),
        }
    }

    fn cause(self) -> &'static str {
        match self {
            Farewell::Panic => "suicide",
            Farewell::Roll => "reload",
            Farewell::Stop => "stop",
        }
    }
}

#[test]
fn a_request_in_flight_outlives_a_panic_beside_it() {
    finishes_what_is_in_flight(Farewell::Panic, "code 1");
}

#[test]
fn a_request_in_flight_outlives_a_roll() {
    finishes_what_is_in_flight(Farewell::Roll, "code 0");
}

#[test]
fn a_request_in_flight_outlives_a_stop() {
    finishes_what_is_in_flight(Farewell::Stop, "code 0");
}

/// One worker, so that the same one is asked to leave.
fn finishes_what_is_in_flight(farewell: Farewell, status: &str) {
    let mut server = Server::start(Program::Faulty, &["--workers", "1", "--kill-timeout", "60s"]);
    let directory = tempfile::tempdir().unwrap();
    let under_way = directory.path().join("under-way");
    fs::write(&under_way, "").unwrap();
    let (mut busy, pid) = hanging(&server, &format!("while={}", under_way.display()));
    farewell.begin(&server);
    drain_of(&server, pid);
    assert!(!has_exited(&server, pid), "it waits for its request");
    fs::remove_file(under_way).unwrap();
    let answer = busy.read_answer().expect("the answer that was under way");
    assert_eq!((answer.status, answer.pid(), answer.closes()), (200, pid, true));
    assert_eq!(busy.read_to_end().expect("an orderly end"), b"");
    assert_left(&server, pid, status, farewell.cause(), false);
    if farewell == Farewell::Stop {
        assert_eq!(server.wait_exit().code(), Some(0));
    } else {
        assert_ne!(server.get("/pid").pid(), pid);
    }
}

#[test]
fn a_request_that_outlasts_the_kill_timeout_is_cut_and_counted() {
    for farewell in [Farewell::Panic, Farewell::Roll, Farewell::Stop] {
        let mut server = Server::start(Program::Faulty, &["--workers", "1", "--kill-timeout", "1s"]);
        let (mut busy, pid) = hanging(&server, "ms=60000");
        farewell.begin(&server);
        let cut = busy.read_answer();
        assert!(cut.is_err(), "{farewell:?}: {cut:?}");
        assert_left(&server, pid, "signal 9", "kill-timeout", true);
        if farewell == Farewell::Stop {
            assert_eq!(server.wait_exit().code(), Some(0), "stopped as asked all the same");
        }
    }
}

#[test]
fn a_request_on_an_idle_connection_of_a_drainer_is_served_once() {
    let server = Server::start(Program::Faulty, &["--workers", "1", "--kill-timeout", "30s"]);
    let mut idle = server.connect();
    let pid = idle.get("/pid").pid();
    server.signal("HUP");
    drain_of(&server, pid);
    // well within kill timeout - 1 s, and not at its beginning
    thread::sleep(Duration::from_millis(1_000));
    let answer = idle.get("/pid");
    assert_eq!((answer.status, answer.pid(), answer.closes()), (200, pid, true));
    assert_eq!(idle.read_to_end().expect("an orderly end"), b"");
    drop(idle);
    assert_left(&server, pid, "code 0", "reload", false);
}

#[test]
fn idle_connections_are_half_closed_before_the_kill_timeout_and_force_no_kill() {
    let server = Server::start(Program::Faulty, &["--workers", "1", "--kill-timeout", "3s"]);
    let mut spoke = server.connect();
    let pid = spoke.get("/pid").pid();
    let mut mute = server.connect();
    // the mute one was accepted before this one was
    server.get("/pid");
    server.signal("HUP");
    let start = drain_of(&server, pid);
    // the worker leaves by itself, however near the kill timeout is
    server.stop(server.pid());
    for idle in [&mut spoke, &mut mute] {
        assert_eq!(idle.read_to_end().expect("a half-close"), b"");
        let waited = start.elapsed().unwrap();
        assert!(waited > Duration::from_millis(1_500), "it was given its time: {waited:?}");
    }
    // closed for good, as it is half a second before it would be killed, it would have answered the first of these with a reset
    for _ in 0..2 {
        let sent = spoke.stream.write_all(b"GET /too-late HTTP/1.1\r\n");
        assert!(sent.is_ok() || start.elapsed().unwrap() >= Duration::from_millis(2_500), "{sent:?}");
    }
    // neither client closes, and yet it goes
    server.wait("it leaves", || status_field(pid, "State").is_none_or(|state| state.starts_with('Z')));
    kill(server.pid(), "CONT");
    assert_left(&server, pid, "code 0", "reload", false);
}

/// Its head left before the drain and promised to keep the connection; its end leaves when idle connections have been
/// closed already.
#[test]
fn a_long_answer_that_ends_late_in_a_drain_forces_no_kill() {
    // a worker that waited for its client would take its time in each
    let left_at_once = || long_answer_late_in_a_drain() < Duration::from_millis(1_500);
    assert!((0..5).any(|_| left_at_once()), "five times in a row");
}

/// How long the worker stays behind the answer.
fn long_answer_late_in_a_drain() -> Duration {
    let arguments = ["--workers", "1", "--kill-timeout", "3s", "--keep-alive-timeout", "10m"];
    let server = Server::start(Program::Faulty, &arguments);
    let pid = server.listening()[0].1;
    let mut slow = server.connect();
    slow.send("GET /bytes?n=12000000 HTTP/1.1\r\nHost: test\r\n\r\n");
    slow.stream.peek(&mut [0]).expect("the head");
    server.signal("HUP");
    drain_of(&server, pid);
    // the worker leaves by itself, however near the kill timeout is
    server.stop(server.pid());
    // idle connections are closed half a second before it
    thread::sleep(Duration::from_millis(2_600));
    let answer = slow.read_answer().expect("the answer under way");
    let end = Instant::now();
    assert_eq!((answer.body.len(), answer.closes()), (12_000_000, false));
    // the client does not close, and yet it goes
    server.wait("it leaves", || status_field(pid, "State").is_none_or(|state| state.starts_with('Z')));
    let stayed = end.elapsed();
    kill(server.pid(), "CONT");
    assert_left(&server, pid, "code 0", "reload", false);
    stayed
}

#[test]
fn clients_beyond_the_connection_limit_outlive_a_roll_in_the_queue() {
    let server = Server::start(Program::Faulty, &["--workers", "1", "--max-connections", "2"]);
    let pid = server.listening()[0].1;
    let kept: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    let mut queued: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    server.signal("HUP");
    drain_of(&server, pid);
    drop(kept);
    for client in &mut queued {
        assert_eq!(client.get_and_close("/pid").status, 200);
        let _ = client.stream.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_pipeline_of_sixteen_loses_nothing_in_rolls() {
    // so that no client that stands still meanwhile is closed as an idle one
    let server = Server::start(Program::Faulty, &["--workers", "2", "--kill-timeout", "60s"]);
    let (over, all) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (answered, closed) = thread::scope(|scope| {
        let ends = SetOnDrop(&over);
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| pipeline(&server, &over, &all))).collect();
        for rolls in 1..=4 {
            let before = all.load(Ordering::Relaxed);
            // each of them is told to close twice at the most: a roll goes from slot to slot
            server.wait("the clients are at work", || all.load(Ordering::Relaxed) > before + 2_000);
            server.signal("HUP");
            server.wait("the roll is done", || done(&server) == rolls);
            // who had clients has told each of them to close
            server.wait("both old ones are gone", || server.events("exit").len() == 2 * rolls);
        }
        drop(ends);
        clients.into_iter().map(|client| client.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    });
    assert!(answered > 100 * closed && closed >= 4, "{answered} answers, {closed} connections told to close");
}

/// Keeps sixteen requests under way until it is told to stop: answers come in order and whole, and an end comes only
/// behind one that said so. Requests behind that one were not begun (RFC 9112 section 9.6) and are sent again. Gives
/// how many were answered and how many connections were closed.
fn pipeline(server: &Server, over: &AtomicBool, all: &AtomicUsize) -> (usize, usize) {
    let (mut answered, mut closed) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        let mut connection = server.connect();
        let mut sent = answered;
        loop {
            let upto = answered + DEPTH;
            let requests: String = (sent..upto).map(numbered).collect();
            // a server that has said close may have closed before this came; what it said is still to be read
            let _ = connection.stream.write_all(requests.as_bytes());
            sent = upto;
            let answer = connection.read_answer().expect("no end before an answer that announces it");
            assert_eq!((answer.status, answer.body.len()), (200, answered % 1_000), "in order");
            answered += 1;
            all.fetch_add(1, Ordering::Relaxed);
            if answer.closes() {
                closed += 1;
                assert_eq!(connection.read_to_end().expect("an orderly end"), b"");
                break;
            }
            if over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    (answered, closed)
}

/// Its answer is as long as its number says.
fn numbered(number: usize) -> String {
    format!("GET /bytes?n={} HTTP/1.1\r\nHost: test\r\n\r\n", number % 1_000)
}

#[test]
fn sigterm_to_a_worker_is_its_suicide() {
    let server = Server::start(Program::Faulty, &["--workers", "2"]);
    let (slot, pid) = server.listening()[0];
    kill(pid, "TERM");
    server.wait_for("suicide", |line| line["event"] == "suicide" && line["pid"] == pid);
    assert_left(&server, pid, "code 0", "suicide", false);
    server.wait_until_whole();
    assert!(server.listening().iter().any(|(other, new)| *other == slot && *new != pid), "it was replaced");
}

#[test]
fn what_a_terminal_sends_to_the_whole_group_moves_no_worker() {
    let server = Server::start(Program::Faulty, &["--workers", "1"]);
    let (_, pid) = server.listening()[0];
    for signal in ["INT", "HUP", "QUIT"] {
        kill(pid, signal);
        // its signals are delivered before it answers
        assert_eq!(server.get("/pid").pid(), pid, "after SIG{signal}");
    }
    assert!(server.events("suicide").is_empty() && server.events("exit").is_empty());
}

#[test]
fn however_many_rolls_are_asked_for_during_one_one_more_follows() {
    // the first roll lasts as long as this file
    let directory = tempfile::tempdir().unwrap();
    let hangs_at_boot = directory.path().join("hangs");
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "2", "--boot-timeout", "600s"];
    let mut command = Program::Faulty.command(&arguments);
    let server = Server::spawn(command.env("FAULTY_BOOT_HANG", &hangs_at_boot));
    server.wait_until_whole();
    fs::write(&hangs_at_boot, "").unwrap();
    let heard = || server.log().iter().filter(|line| line["signal"] == "SIGHUP").count();
    for storm in 1..=10 {
        server.signal("HUP");
        server.wait("the master has heard it", || heard() == storm);
    }
    assert_eq!(done(&server), 0, "the first roll lasted through the storm");
    fs::remove_file(&hangs_at_boot).unwrap();
    server.wait("two rolls", || done(&server) == 2);
    // a third one would begin in the same step as the second one ends, before the worker that this signal adds
    server.signal("TTIN");
    server.wait_for("a third worker", |line| line["event"] == "fork" && line["slot"] == 2);
    let stages: Vec<Value> = server.events("reload").iter().map(|line| line["stage"].clone()).collect();
    assert_eq!(stages, ["started", "done", "started", "done"]);
}

/// A request that will be answered then, and the worker that has it.
fn hanging(server: &Server, when: &str) -> (Client, i32) {
    let mut busy = server.connect();
    let pid = busy.get("/pid").pid();
    // else a drain of which the worker hears first may close an idle connection
    busy.send_and_wait_until_read(format!("GET /hang?{when} HTTP/1.1\r\nHost: test\r\n\r\n"));
    (busy, pid)
}

/// Waits until this worker, the only one that does, drains, and gives when it began to, which it writes down before it looks at
/// its clock. The master may write down that it was told to long after.
fn drain_of(server: &Server, pid: i32) -> SystemTime {
    server.wait_for("drain", |line| line["message"] == "drain sent" && line["pid"] == pid);
    time_of(&server.wait_for("it has heard of it", |line| line["message"] == "draining"))
}

fn has_exited(server: &Server, pid: i32) -> bool {
    server.events("exit").iter().any(|line| line["pid"] == pid)
}

fn done(server: &Server) -> usize {
    server.events("reload").iter().filter(|line| line["stage"] == "done").count()
}

fn assert_left(server: &Server, pid: i32, status: &str, cause: &str, forced: bool) {
    let exit = server.wait_for("exit", |line| line["event"] == "exit" && line["pid"] == pid);
    assert_eq!(
        (&exit["status"], &exit["cause"], &exit["forced"]),
        (&status.into(), &cause.into(), &forced.into())
    );
}
