//! What clients do to a server: slow ones, silent ones, deaf ones, rude ones, and every way to end a connection.

mod common;

use common::*;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

const GET: &str = "GET /pid HTTP/1.1\r\nHost: test\r\n\r\n";
/// What a worker's anonymous memory may differ by for reasons that are not the client's.
const SLACK_KIB: u64 = 8 * 1024;
/// Beyond a time limit, the machine's noise; less than what the limits are by default.
const NOISE: Duration = Duration::from_secs(9);

fn one_worker(arguments: &[&str]) -> (Server, i32) {
    let mut all = vec!["--workers", "1"];
    all.extend(arguments);
    let server = Server::start(Program::Faulty, &all);
    let worker = server.listening()[0].1;
    (server, worker)
}

fn assert_unharmed(server: &Server, worker: i32) {
    assert_eq!(server.get("/pid").pid(), worker);
    assert_eq!(server.listening(), [(0, worker)]);
}

fn bytes(octets: usize) -> String {
    format!("GET /bytes?n={octets} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// Reads this many octets of a body at least and gives how many came.
fn read_some(stream: &mut TcpStream, at_least: usize) -> usize {
    let (mut total, mut buffer) = (0, vec![0; 65536]);
    while total < at_least {
        match common::read_some(stream, &mut buffer).expect("more of the answer") {
            0 => break,
            octets => total += octets,
        }
    }
    total
}

// ---- slow and silent ----

#[test]
fn a_head_that_does_not_end_is_answered_408_within_the_header_timeout() {
    let (server, worker) = one_worker(&["--header-timeout", "3s"]);
    for first in ["", GET] {
        // the first head's time begins with the connection, another one's with its first octet
        let mut start = Instant::now();
        let mut client = server.connect();
        if !first.is_empty() {
            client.send(first);
            client.read_answer().unwrap();
            start = Instant::now();
        }
        client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        client.send("GET / HTTP/1.1\r\nX: ");
        let answer = loop {
            // each octet comes in time for any limit on a pause; the head as a whole does not
            client.send("x");
            match client.read_answer() {
                Ok(answer) => break answer,
                Err(error) => assert!(is_pause(&error), "{error}"),
            }
            assert!(start.elapsed() < PATIENCE, "still open");
        };
        let took = start.elapsed();
        assert_eq!((answer.status, answer.closes()), (408, true));
        assert!(took >= Duration::from_millis(2_950) && took < Duration::from_secs(3) + NOISE, "{took:?}");
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(client.read_to_end().unwrap(), b"");
    }
    assert_unharmed(&server, worker);
}

#[test]
fn a_client_that_sends_nothing_is_closed_within_the_header_timeout() {
    let (server, worker) = one_worker(&["--header-timeout", "3s"]);
    let start = Instant::now();
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.read_to_end().unwrap(), b"", "nothing was asked, nothing is answered");
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(3) + NOISE, "{took:?}");
    assert_unharmed(&server, worker);
}

#[test]
fn an_idle_connection_is_closed_after_the_keep_alive_timeout_and_an_active_one_is_not() {
    let (server, worker) = one_worker(&["--keep-alive-timeout", "6s", "--header-timeout", "4s"]);
    let mut active = server.connect();
    active.get("/pid");
    let start = Instant::now();
    let mut idle = server.connect();
    idle.get("/pid");
    idle.stream.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    loop {
        // each pause is shorter than the limit, and all of them together are longer; a pause between requests is no part
        // of a head
        assert_eq!(active.get("/pid").pid(), worker);
        match idle.read_to_end() {
            Ok(rest) => break assert_eq!(rest, b""),
            Err(error) => assert!(is_pause(&error), "{error}"),
        }
        assert!(start.elapsed() < PATIENCE, "still open");
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(5_990) && took < Duration::from_secs(6) + NOISE, "{took:?}");
    assert_eq!(active.get("/pid").pid(), worker);
}

#[test]
fn requests_octet_by_octet_are_answered() {
    let (server, worker) = one_worker(&[]);
    let mut client = server.connect();
    for _ in 0..3 {
        for octet in GET.as_bytes().chunks(1) {
            client.send(octet);
        }
        assert_eq!(client.read_answer().unwrap().pid(), worker);
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

// ---- many at once ----

#[test]
fn of_1000_requests_in_one_write_all_are_answered_in_order() {
    let (server, _) = one_worker(&[]);
    let mut client = server.connect();
    client.send((0..1000).map(bytes).collect::<String>());
    for wanted in 0..1000 {
        let answer = client.read_answer().unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, wanted));
    }
    assert_eq!(client.get("/pid").status, 200, "and the connection goes on");
}

#[test]
fn requests_behind_one_that_says_close_do_not_cost_its_answer() {
    let (server, worker) = one_worker(&[]);
    let close = "GET /pid HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    for _ in 0..5 {
        let mut client = server.connect();
        // so that it is still sending when the last answer has left
        setsockopt(&client.stream, sockopt::SndBuf, &16_384).unwrap();
        client.send_in_vain(GET.repeat(10) + close + &GET.repeat(30_000), Instant::now());
        for _ in 0..10 {
            assert!(!client.read_answer().unwrap().closes());
        }
        assert!(client.read_answer().unwrap().closes());
        assert_eq!(client.read_to_end().unwrap(), b"", "nothing is answered after the last answer");
    }
    assert_unharmed(&server, worker);
}

// ---- deaf ----

#[test]
fn a_client_that_does_not_read_is_closed_after_the_send_timeout_and_its_place_is_free() {
    let (server, worker) =
        one_worker(&["--send-timeout", "1s", "--max-connections", "2", "--keep-alive-timeout", "1m"]);
    let mut active = server.connect();
    active.get("/pid");
    let before = rss_anon(worker);
    let mut deaf = server.connect();
    let start = Instant::now();
    deaf.send(bytes(50_000_000));
    // there are two places; this one gets the deaf one's
    let mut waiting = server.connect();
    waiting.send(GET);
    waiting.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut most = 0;
    loop {
        assert_eq!(active.get("/pid").pid(), worker, "others are served meanwhile");
        most = most.max(rss_anon(worker));
        match waiting.read_answer() {
            Ok(answer) => break assert_eq!(answer.pid(), worker),
            Err(error) => assert!(is_pause(&error), "{error}"),
        }
        assert!(start.elapsed() < PATIENCE, "the deaf one is still there");
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(990) && took < Duration::from_secs(1) + NOISE, "{took:?}");
    // the answer, once, and once more while the handler makes it
    assert!(most <= before + 2 * 50_000 + SLACK_KIB, "{before} KiB before, {most} KiB with the deaf one");
    server.wait("its memory is given back", || rss_anon(worker) < before + SLACK_KIB);
    server.wait("its socket is closed", || server.held_connections() == 2);
    drop(deaf);
}

/// The send timeout is for clients that take nothing. This one takes little, all the time.
#[test]
fn a_client_that_reads_slowly_gets_its_whole_answer_however_long_it_takes() {
    const OCTETS: usize = 12_000_000;
    const SLOW: Duration = Duration::from_secs(9);
    let (server, worker) = one_worker(&["--send-timeout", "3s"]);
    let mut slow = server.connect();
    // what this end has room for, the server cannot see being read
    setsockopt(&slow.stream, sockopt::RcvBuf, &65_536).unwrap();
    slow.send(bytes(OCTETS));
    slow.read_head().unwrap();
    let start = Instant::now();
    let mut body = 0;
    while start.elapsed() < SLOW {
        body += slow.read_octets(40_000).unwrap().len();
        std::thread::sleep(Duration::from_millis(100));
    }
    body += slow.read_octets(OCTETS - body).expect("not cut off").len();
    assert_eq!(body, OCTETS);
    assert_unharmed(&server, worker);
}

/// Stops taking it in, and takes it up again with nothing lost.
#[test]
fn a_flood_of_requests_from_a_client_that_does_not_read_is_not_read_either_and_all_are_answered_in_the_end() {
    const LIMIT: usize = 64 << 20;
    let (server, worker) = one_worker(&[]);
    let mut beside = server.connect();
    beside.get("/pid");
    let before = rss_anon(worker);
    let deaf = TcpStream::connect(server.address).unwrap();
    let request = format!("GET /bytes?n=5000 HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(4000));
    let (mut written, mut pauses) = (0, 0);
    deaf.set_nonblocking(true).unwrap();
    while pauses < 30 && written < LIMIT {
        match (&deaf).write(&request.as_bytes()[written % request.len()..]) {
            Ok(octets) => (written, pauses) = (written + octets, 0),
            Err(error) => {
                assert!(is_pause(&error), "{error}");
                pauses += 1;
                assert_eq!(beside.get("/pid").pid(), worker, "others are served meanwhile");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    assert!(written < LIMIT, "it takes in without end");
    let with_flood = rss_anon(worker);
    println!("a flood of {written} octets; {before} KiB before, {with_flood} KiB with it");
    assert!(with_flood <= before + SLACK_KIB, "{before} KiB before, {with_flood} KiB with the flood");

    deaf.set_nonblocking(false).unwrap();
    let mut rest = deaf.try_clone().unwrap();
    let missing = (request.len() - written % request.len()) % request.len();
    let last = std::thread::spawn(move || {
        rest.write_all(&request.as_bytes()[request.len() - missing..]).unwrap();
        rest.shutdown(Shutdown::Write).unwrap();
        (written + missing) / request.len()
    });
    let (mut answered, mut client) = (0, Client::over(deaf));
    let end = loop {
        match client.read_answer() {
            Ok(answer) => assert_eq!((answer.status, answer.body.len()), (200, 5000)),
            Err(error) => break error,
        }
        answered += 1;
    };
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "{end}");
    assert_eq!(answered, last.join().unwrap());
    assert_unharmed(&server, worker);
}

// ---- larger than a socket ----

#[test]
fn an_answer_larger_than_the_sockets_buffer_arrives_whole_and_leaves_nothing_behind() {
    const OCTETS: usize = 50_000_000;
    let (server, worker) = one_worker(&["--max-connections", "1"]);
    let mut client = server.connect();
    client.get("/pid");
    let before = (rss_anon(worker), descriptors(worker).len());
    for _ in 0..3 {
        client.send(bytes(OCTETS) + &bytes(3));
        let head = client.read_head().unwrap();
        assert_eq!(head.header("content-length"), Some("50000000"));
        let body = client.read_octets(OCTETS).unwrap();
        assert!(body.iter().all(|octet| *octet == b'x'));
        assert_eq!(client.read_answer().unwrap().body, b"xxx", "and the next one follows at once");
    }
    client.send(format!("GET /bytes?n={OCTETS} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
    client.read_head().unwrap();
    assert_eq!(client.read_to_end().unwrap().len(), OCTETS, "the close does not cut it");
    assert_unharmed(&server, worker);
    server.wait("its memory is given back", || rss_anon(worker) < before.0 + SLACK_KIB);
    assert_eq!(descriptors(worker).len(), before.1);
}

#[test]
fn clients_that_reset_in_mid_answer_leave_nothing_behind() {
    let (server, worker) = one_worker(&["--max-connections", "2"]);
    server.get("/pid");
    let before = (rss_anon(worker), descriptors(worker).len());
    for round in 0..30 {
        // every other one without having read anything
        let mut client = server.connect();
        // above glibc's largest mmap threshold (32 MiB), so that what is freed is given back and not kept for reuse
        client.send(bytes(40_000_000));
        read_some(&mut client.stream, round % 2 * 100_000);
        client.reset();
    }
    let mut both = [server.connect(), server.connect()];
    assert!(both.iter_mut().all(|client| client.get("/pid").pid() == worker), "both places are free");
    server.wait("all memory is given back", || rss_anon(worker) < before.0 + SLACK_KIB);
    server.wait("all sockets are closed", || server.held_connections() == 2);
    assert_eq!(descriptors(worker).len(), before.1);
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn clients_that_reset_when_their_late_reply_is_due_leave_nothing_behind() {
    let (server, worker) = one_worker(&[]);
    for round in 0..20 {
        let clients: Vec<Client> = (0..40)
            .map(|nth| {
                let mut client = server.connect();
                client.send(format!("GET /hang?ms={} HTTP/1.1\r\nHost: test\r\n\r\n", 10 + nth % 10));
                client
            })
            .collect();
        std::thread::sleep(Duration::from_millis(5 + round % 5));
        clients.into_iter().for_each(Client::reset);
    }
    server.wait("all sockets are closed", || server.held_connections() == 0);
    assert_unharmed(&server, worker);
}

// ---- half-closed ----

#[test]
fn a_half_closed_client_gets_answers_to_its_complete_requests_and_then_the_close() {
    let (server, worker) = one_worker(&[]);
    let late = "GET /hang?ms=50 HTTP/1.1\r\nHost: test\r\n\r\n";
    let table = [
        (GET.repeat(3), 3),
        (GET.repeat(3) + "GET /pid HT", 3),
        ("GET /pid HT".into(), 0),
        (String::new(), 0),
        (late.to_owned(), 1),
        ([late, GET, late, GET].concat(), 4),
        (bytes(10_000_000) + GET, 2),
        (bytes(15_000).repeat(500), 500),
    ];
    for (sent, answers) in table {
        let mut client = server.connect();
        client.send(&sent);
        client.stream.shutdown(Shutdown::Write).unwrap();
        for nth in 0..answers {
            let answer = client.read_answer();
            assert_eq!(answer.map(|a| a.status).ok(), Some(200), "answer {nth} of {sent:.60?}");
        }
        assert_eq!(client.read_to_end().unwrap(), b"", "after {sent:.60?}");
    }
    server.wait("all sockets are closed", || server.held_connections() == 0);
    assert_unharmed(&server, worker);
}

// ---- the end of a connection ----

#[test]
fn the_connection_stays_or_closes_as_version_and_field_say() {
    let (server, _) = one_worker(&[]);
    let table = [
        ("HTTP/1.1", "", None),
        ("HTTP/1.1", "Connection: close\r\n", Some("close")),
        ("HTTP/1.0", "", Some("close")),
        ("HTTP/1.0", "Connection: close\r\n", Some("close")),
        ("HTTP/1.0", "Connection: keep-alive\r\n", Some("keep-alive")),
    ];
    for (version, field, said) in table {
        let mut client = server.connect();
        client.send(format!("GET /pid {version}\r\nHost: test\r\n{field}\r\n"));
        let answer = client.read_answer().unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, said), "{version} {field}");
        if said == Some("close") {
            assert_eq!(client.read_to_end().unwrap(), b"", "{version} {field}");
        } else {
            assert_eq!(client.get("/pid").status, 200, "{version} {field}");
        }
    }
}

#[test]
fn a_head_request_gets_the_length_without_the_body() {
    let (server, _) = one_worker(&[]);
    let mut client = server.connect();
    for octets in ["5", "50000000"] {
        client.send(format!("HEAD /bytes?n={octets} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let answer = client.read_head().unwrap();
        assert_eq!((answer.status, answer.header("content-length")), (200, Some(octets)));
    }
    assert_eq!(client.get("/pid").status, 200, "what follows the head is the next answer");
}

#[test]
fn a_client_that_goes_on_sending_for_ever_behind_its_refusal_is_closed_all_the_same() {
    let (server, worker) = one_worker(&["--max-connections", "1"]);
    let mut client = server.connect();
    client.send("BREW / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.read_answer().unwrap().status, 501);
    let start = Instant::now();
    while client.stream.write_all(&[b'b'; 1000]).is_ok() {
        assert!(start.elapsed() < PATIENCE, "still read");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_unharmed(&server, worker);
}

#[test]
fn a_refusal_reaches_a_client_that_goes_on_sending_and_then_the_connection_closes() {
    let (server, worker) = one_worker(&[]);
    let host = "Host: test\r\n";
    let table = [
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, "GET  / HTTP/1.1\r\n\r\n".to_owned()),
        (413, format!("POST / HTTP/1.1\r\n{host}Content-Length: 2000000\r\n\r\n")),
        (413, format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n1000000\r\n")),
        (417, format!("POST / HTTP/1.1\r\n{host}Expect: a-miracle\r\nContent-Length: 9\r\n\r\n")),
        (414, format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(9000))),
        (431, format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(17_000))),
        (431, format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: 1\r\n".repeat(200))),
        (501, format!("BREW / HTTP/1.1\r\n{host}\r\n")),
        (505, format!("GET / HTTP/3.0\r\n{host}\r\n")),
    ];
    let body = vec![b'b'; 1_000_000];
    for (status, head) in table {
        let mut client = server.connect();
        let start = Instant::now();
        client.send(GET.to_owned() + &head);
        client.send_in_vain(&body, start);
        assert_eq!(client.read_answer().expect("the answer before").status, 200);
        let answer = client.read_answer().unwrap_or_else(|error| panic!("no {status}: {error}"));
        assert_eq!((answer.status, answer.closes()), (status, true), "{head:.60?}");
        assert_eq!(client.read_to_end().unwrap(), b"", "{status}");
    }
    let mut client = server.connect();
    assert_eq!((client.get("/nothing").status, client.get("/pid").status), (404, 200), "404 is no refusal");
    drop(client);
    server.wait("all sockets are closed", || server.held_connections() == 0);
    assert_unharmed(&server, worker);
}
