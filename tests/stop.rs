//! A stop of the whole server: whoever is in gets an answer, whoever comes later is refused at once, nobody waits, and
//! a second signal is in a hurry. Through the real program.

mod common;

use common::*;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// More time to drain than anything here takes.
const PATIENT: [&str; 2] = ["--kill-timeout", "2m"];

/// On an address of its own: nobody else takes the port when it is free again.
fn start(arguments: &[&str]) -> Server {
    let listen = format!("{}:0", own_address());
    let server = Server::spawn(&mut Program::Faulty.command(&[&["--listen", &listen], arguments].concat()));
    server.wait_until_whole();
    server
}

#[test]
fn a_graceful_stop_finishes_what_is_in_flight_and_refuses_later_clients() {
    let folder = tempfile::tempdir().unwrap();
    let hangs = folder.path().join("hangs");
    for signal in ["TERM", "QUIT", "INT"] {
        let mut server = start(&[&["--workers", "2"], &PATIENT[..]].concat());
        let mut busy = server.connect();
        let pid = busy.get("/pid").pid();
        fs::write(&hangs, "").unwrap();
        busy.send(format!("GET /hang?while={} HTTP/1.1\r\nHost: test\r\n\r\n", hangs.display()));
        server.signal(signal);
        // while the request is still under way
        let taken = wait_until_refused(&server);
        // the first that finds the queue empty shuts the socket down for both, of which the other may not have heard
        let heard = || server.log().iter().filter(|line| line["message"] == "draining").count();
        server.wait("both have heard of it", || heard() == 2);
        fs::remove_file(&hangs).unwrap();
        assert_nobody_waits(&server, taken);
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
        let mut server = start(&[&["--workers", "2"], &PATIENT[..]].concat());
        let mut busy = server.connect();
        let pid = busy.get("/pid").pid();
        busy.send("GET /hang?ms=500 HTTP/1.1\r\nHost: test\r\n\r\n");
        children(server.pid()).into_iter().for_each(|worker| kill(worker, signal));
        server.signal(signal);
        assert_eq!(busy.read_answer().expect("the answer that was under way").pid(), pid);
        drop(busy);
        assert_eq!(server.wait_exit().code(), Some(0), "SIG{signal}");
        assert!(server.processes().is_empty());
    }
}

#[test]
fn a_blocked_worker_keeps_no_later_client_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = folder.path().join("blocks");
    let mut server = start(&[&["--workers", "2"], &PATIENT[..]].concat());
    let (mut blocked, pid) = server.block_while(&blocks);
    server.signal("TERM");
    // while the worker is still blocked
    let taken = wait_until_refused(&server);
    fs::remove_file(&blocks).unwrap();
    assert_nobody_waits(&server, taken);
    assert_eq!(blocked.read_answer().expect("the answer that was under way").pid(), pid);
    drop(blocked);
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
    let statuses: Vec<_> = server.events("exit").into_iter().map(|exit| exit["status"].clone()).collect();
    assert_eq!(statuses, ["code 0", "code 0"], "no worker stumbles over a socket that its sibling shut down");
}

#[test]
fn clients_that_were_queued_before_the_stop_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = folder.path().join("blocks");
    let mut server = start(&[&["--workers", "1"], &PATIENT[..]].concat());
    // nobody accepts while the only worker is blocked
    let (mut blocked, pid) = server.block_while(&blocks);
    let mut queued: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for client in &mut queued {
        client.send("GET /pid HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    server.signal("TERM");
    server.wait_for("drain", |line| line["message"] == "drain sent" && line["pid"] == pid);
    fs::remove_file(&blocks).unwrap();
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
    let mut server = start(&["--workers", "1", "--kill-timeout", "1s"]);
    let (blocked, pid) = server.block(60_000);
    let queued = (0..10).map(|_| server.connect());
    let clients: Vec<Client> = std::iter::once(blocked).chain(queued).collect();
    server.signal("TERM");
    let exit = server.wait_for("exit", |line| line["event"] == "exit" && line["pid"] == pid);
    assert_eq!((&exit["cause"], &exit["forced"]), (&"kill-timeout".into(), &true.into()));
    assert_nobody_waits(&server, clients);
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn a_stop_under_load_leaves_nobody_waiting() {
    let mut server = start(&[&["--workers", "2"], &PATIENT[..]].concat());
    let address = server.address;
    let (over, at_work) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _ends = SetOnDrop(&over);
        for _ in 0..16 {
            scope.spawn(|| until_refused(address, &over, &at_work));
        }
        server.wait("the clients are at work", || at_work.load(Ordering::Relaxed) > 200);
        server.signal("TERM");
        assert_eq!(server.wait_exit().code(), Some(0));
    });
    assert!(server.events("exit").iter().all(|line| line["forced"] == false), "nobody had to be killed");
}

/// A connection for each request until one is refused, or all is over, counting answers. A connection that was taken and then refused
/// (reset before anything was said) ends it as well; one on which nothing happens is a failure.
fn until_refused(address: SocketAddr, over: &AtomicBool, answered: &AtomicUsize) {
    while !over.load(Ordering::Relaxed)
        && let Ok(mut client) = Client::try_connect(address)
    {
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
        // anything but that takes longer than PATIENCE
        let mut server = start(&[&["--workers", "2"], &PATIENT[..]].concat());
        let (mut blocked, pid) = server.block(60_000);
        server.signal("TERM");
        server.wait_for("drain", |line| line["message"] == "drain sent" && line["pid"] == pid);
        server.signal(second);
        assert_eq!(server.wait_exit().code(), Some(0), "stopped as asked");
        assert!(server.processes().is_empty());
        assert!(blocked.read_answer().is_err(), "there is nobody to answer");
    }
}

#[test]
fn a_stop_during_a_roll_ends_both_generations() {
    let listen = format!("{}:0", own_address());
    let mut command = Program::Faulty.command(&["--listen", &listen, "--workers", "2"]);
    let mut server = Server::spawn(command.env("FAULTY_BOOT_MS", "300"));
    server.wait_until_whole();
    server.signal("HUP");
    server.wait("a replacement has started", || server.events("fork").len() > 2);
    server.signal("TERM");
    let taken = wait_until_refused(&server);
    assert_nobody_waits(&server, taken);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(server.processes().is_empty());
}

/// Tries until a connection is refused; gives those that were accepted until then.
fn wait_until_refused(server: &Server) -> Vec<Client> {
    let deadline = Instant::now() + PATIENCE;
    let mut taken = vec![];
    while let Ok(mut client) = Client::try_connect(server.address) {
        assert!(Instant::now() < deadline, "clients are still queued");
        let _ = std::io::Write::write_all(&mut client.stream, b"GET /pid HTTP/1.1\r\nHost: test\r\n\r\n");
        taken.push(client);
        thread::sleep(Duration::from_millis(2));
    }
    taken
}

/// Those that were accepted before others were refused are answered or refused as well.
fn assert_nobody_waits(server: &Server, taken: Vec<Client>) {
    for mut client in taken {
        if let Err(error) = client.read_answer() {
            assert!(!is_timeout(&error), "left waiting");
        }
    }
    assert!(Client::try_connect(server.address).is_err(), "refused once is refused for good");
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
