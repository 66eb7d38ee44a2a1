//! A stop of the whole server: whoever is in gets an answer, whoever comes later is refused at once, nobody waits, and
//! a second signal is in a hurry. Through the real program.

mod common;

use common::*;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A client that hears nothing for so long was left waiting.
const WAITING: Duration = Duration::from_secs(10);
/// "At once", on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn a_graceful_stop_finishes_what_is_in_flight_and_refuses_later_clients() {
    for signal in ["TERM", "QUIT", "INT"] {
        let mut server = Server::start(Program::Faulty, &["--workers", "2"]);
        let mut busy = server.connect();
        let pid = busy.get("/pid").pid();
        busy.send("GET /hang?ms=2000 HTTP/1.1\r\nHost: test\r\n\r\n");
        let start = Instant::now();
        server.signal(signal);
        refused_from_now_on(&server);
        assert!(start.elapsed() < Duration::from_millis(1_900), "while the request is still under way");
        let answer = busy.read_answer().expect("the answer that was under way");
        assert_eq!((answer.status, answer.pid(), answer.closes()), (200, pid, true));
        drop(busy);
        assert_eq!(server.wait_exit().code(), Some(0), "SIG{signal}");
        assert!(server.processes().is_empty());
    }
}

/// As a terminal does with Ctrl-C and a service manager with all processes of a service.
#[test]
fn a_signal_to_the_whole_group_is_as_good_as_one_to_the_master() {
    for signal in ["INT", "TERM"] {
        let mut server = Server::start(Program::Faulty, &["--workers", "2"]);
        let mut busy = server.connect();
        let pid = busy.get("/pid").pid();
        busy.send("GET /hang?ms=500 HTTP/1.1\r\nHost: test\r\n\r\n");
        server.processes().into_iter().rev().for_each(|process| kill(process, signal));
        assert_eq!(busy.read_answer().expect("the answer that was under way").pid(), pid);
        drop(busy);
        assert_eq!(server.wait_exit().code(), Some(0), "SIG{signal}");
        assert!(server.processes().is_empty());
    }
}

#[test]
fn a_blocked_worker_keeps_no_later_client_waiting() {
    let mut server = Server::start(Program::Faulty, &["--workers", "2"]);
    let (mut blocked, pid) = server.block(2_000);
    let start = Instant::now();
    server.signal("TERM");
    refused_from_now_on(&server);
    assert!(start.elapsed() < Duration::from_millis(1_900), "while the worker is still blocked");
    assert_eq!(blocked.read_answer().expect("the answer that was under way").pid(), pid);
    drop(blocked);
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
    let statuses: Vec<_> = server.events("exit").into_iter().map(|exit| exit["status"].clone()).collect();
    assert_eq!(statuses, ["code 0", "code 0"], "no worker stumbles over a socket that its sibling shut down");
}

#[test]
fn clients_that_were_queued_before_the_stop_are_answered() {
    let mut server = Server::start(Program::Faulty, &["--workers", "1"]);
    // nobody accepts while the only worker is blocked
    let (mut blocked, _) = server.block(1_000);
    let mut queued: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for client in &mut queued {
        client.send("GET /pid HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    server.signal("TERM");
    for client in &mut queued {
        let answer = client.read_answer().expect("an answer: it came before the stop");
        assert_eq!((answer.status, answer.closes()), (200, true));
    }
    assert_eq!(blocked.read_answer().expect("the answer that was under way").status, 200);
    drop((blocked, queued));
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn clients_that_nobody_can_answer_any_more_are_refused() {
    let mut server = Server::start(Program::Faulty, &["--workers", "1", "--kill-timeout", "1s"]);
    let (mut blocked, pid) = server.block(60_000);
    let mut queued: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    server.signal("TERM");
    let exit = server.wait_for("exit", |line| line["event"] == "exit" && line["pid"] == pid);
    assert_eq!((&exit["cause"], &exit["forced"]), (&"kill-timeout".into(), &true.into()));
    for client in [&mut blocked].into_iter().chain(&mut queued) {
        let _ = client.stream.set_read_timeout(Some(WAITING));
        if let Err(error) = client.read_answer() {
            assert!(!is_timeout(&error), "left waiting");
        }
    }
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn a_stop_under_load_leaves_nobody_waiting() {
    let mut server = Server::start(Program::Faulty, &["--workers", "2"]);
    let address = server.address;
    let at_work = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| until_refused(address, &at_work));
        }
        server.wait("the clients are at work", || at_work.load(Ordering::Relaxed) > 200);
        server.signal("TERM");
    });
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(server.events("exit").iter().all(|line| line["forced"] == false), "nobody had to be killed");
}

/// A connection for each request until one is refused, counting answers. A connection that was taken and then refused
/// (reset before anything was said) ends it as well; one on which nothing happens is a failure.
fn until_refused(address: SocketAddr, answered: &AtomicUsize) {
    while let Ok(mut client) = Client::try_connect(address) {
        client.stream.set_read_timeout(Some(WAITING)).unwrap();
        match client.try_get("/pid") {
            Ok(answer) => assert_eq!(answer.status, 200),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return;
            }
            Err(error) => panic!("neither answered nor refused: {error}"),
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    for second in ["TERM", "INT"] {
        let mut server = Server::start(Program::Faulty, &["--workers", "2", "--kill-timeout", "60s"]);
        let (mut blocked, pid) = server.block(60_000);
        server.signal("TERM");
        server.wait_for("drain", |line| line["message"] == "drain sent" && line["pid"] == pid);
        let start = Instant::now();
        server.signal(second);
        assert_eq!(server.wait_exit().code(), Some(0), "stopped as asked");
        assert!(start.elapsed() < 2 * AT_ONCE, "{:?}", start.elapsed());
        assert!(server.processes().is_empty());
        assert!(blocked.read_answer().is_err(), "there is nobody to answer");
    }
}

#[test]
fn a_stop_during_a_roll_ends_both_generations() {
    let mut command = Program::Faulty.command(&["--listen", "127.0.0.1:0", "--workers", "2"]);
    let mut server = Server::spawn(command.env("FAULTY_BOOT_MS", "300"));
    server.wait_until_whole();
    server.signal("HUP");
    server.wait("a replacement has started", || server.events("fork").len() > 2);
    server.signal("TERM");
    refused_from_now_on(&server);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(server.processes().is_empty());
}

/// Tries until a connection is refused, which must be soon; those that were accepted until then are answered or
/// refused as well.
fn refused_from_now_on(server: &Server) {
    let start = Instant::now();
    let mut taken = vec![];
    while let Ok(mut client) = Client::try_connect(server.address) {
        assert!(start.elapsed() < AT_ONCE, "clients are still queued");
        let _ = std::io::Write::write_all(&mut client.stream, b"GET /pid HTTP/1.1\r\nHost: test\r\n\r\n");
        taken.push(client);
        thread::sleep(Duration::from_millis(2));
    }
    for mut client in taken {
        client.stream.set_read_timeout(Some(WAITING)).unwrap();
        if let Err(error) = client.read_answer() {
            assert!(!is_timeout(&error), "left waiting");
        }
    }
    assert!(Client::try_connect(server.address).is_err(), "refused once is refused for good");
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
