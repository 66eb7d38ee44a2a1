//! Contents in pieces, both ways: who is faster waits for the other, what is broken is seen as broken, and the connection goes
//! on where it can.

mod common;

use common::sockets::Sockets;
use common::*;
use nix::sys::socket::{setsockopt, sockopt};
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a server may hold of a content that nobody takes: a pipe, and what its receive pool had in it.
const HELD_OCTETS_MAX: u64 = 64 * 1024 + 256 * 2048;
/// What memory may grow by where nothing is kept: pages that the allocator keeps, and the pool that is touched.
const SLACK_KIB: u64 = 4 * 1024;

fn mirror(arguments: &[&str]) -> (Server, i32) {
    let server = Server::start(Program::Mirror, &[&["--workers", "1"], arguments].concat());
    let worker = server.listening()[0].1;
    (server, worker)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

fn post(path: &str, fields: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n")
}

fn chunks(content: &[u8], octets: usize) -> Vec<u8> {
    let mut wire = vec![];
    for piece in content.chunks(octets) {
        wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

fn pattern(octets: usize) -> Vec<u8> {
    (0..octets).map(|n| (n % 251) as u8).collect()
}

/// What `/pieces` answers to this content.
fn counted(content: &[u8]) -> String {
    format!("{} octets, sum {}", content.len(), content.iter().map(|&octet| u64::from(octet)).sum::<u64>())
}

/// One chunk, all of it: also the CRLF behind it. `None` for the last one.
fn read_chunk(client: &mut Client) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = vec![];
    while !line.ends_with(b"\r\n") {
        line.extend(client.read_octets(1)?);
    }
    let octets = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim_end(), 16).expect("a length");
    let chunk = client.read_octets(octets)?;
    assert_eq!(client.read_octets(2)?, b"\r\n");
    Ok((octets > 0).then_some(chunk))
}

fn read_chunks(client: &mut Client) -> std::io::Result<Vec<u8>> {
    let mut content = vec![];
    while let Some(chunk) = read_chunk(client)? {
        content.extend(chunk);
    }
    Ok(content)
}

/// How many contents are being taken or made.
fn busy(server: &Server) -> u64 {
    server.get("/busy").text().split(' ').next().unwrap().parse().unwrap()
}

/// How many octets `/made` has made.
fn made(server: &Server) -> u64 {
    server.get("/busy").text().split(' ').nth(1).unwrap().parse().unwrap()
}

/// A file for `while`, and the directory that it is in.
fn held_file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("holds");
    fs::write(&file, "").unwrap();
    (folder, file)
}

fn wait_until_nothing_is_left(server: &Server, worker: i32) {
    server.wait("every future has gone", || busy(server) == 0);
    assert_eq!(server.listening(), [(0, worker)]);
}

// ---- requests' contents ----

#[test]
fn content_is_taken_in_pieces_whatever_its_framing_and_the_connection_goes_on() {
    let (server, worker) = mirror(&["--max-body", "1000"]);
    let mut client = server.connect();
    for octets in [0, 1, 2048, 65_536, 65_537, 1_500_000] {
        let content = pattern(octets);
        // far beyond --max-body, which is for contents that are collected
        let length = post("/pieces", &format!("Content-Length: {octets}")).into_bytes();
        let chunked = post("/pieces", "Transfer-Encoding: chunked").into_bytes();
        for (head, wire) in [(length, content.clone()), (chunked, chunks(&content, 7000))] {
            client.send([head, wire, get("/behind").into_bytes()].concat());
            assert_eq!(client.read_answer().unwrap().text(), counted(&content));
            assert!(client.read_answer().unwrap().text().starts_with("GET /behind"));
        }
    }
    wait_until_nothing_is_left(&server, worker);
}

#[test]
fn who_asks_first_is_told_to_go_on_before_the_handler_has_looked() {
    let (server, _) = mirror(&[]);
    let (_folder, holds) = held_file();
    let mut client = server.connect();
    let path = format!("/pieces?while={}", holds.display());
    client.send(post(&path, "Content-Length: 3\r\nExpect: 100-continue"));
    assert_eq!(client.read_head().unwrap().status, 100);
    fs::remove_file(&holds).unwrap();
    client.send("abc");
    assert_eq!(client.read_answer().unwrap().text(), counted(b"abc"));
}

#[test]
fn another_thread_takes_and_gives_in_pieces() {
    let (server, worker) = mirror(&[]);
    let content = pattern(1_000_000);
    let mut client = server.connect();
    for _ in 0..3 {
        client.send(
            [post("/echo", "Transfer-Encoding: chunked").as_bytes(), &chunks(&content, 30_000)].concat(),
        );
        client.send(get("/heard"));
        assert_eq!(client.read_head().unwrap().status, 200);
        assert!(read_chunks(&mut client).unwrap() == content);
        assert_eq!(client.read_answer().unwrap().text(), "whole");
    }
    wait_until_nothing_is_left(&server, worker);
}

/// Where a content ends that will not be whole, and what the client and the thread that takes it hear.
#[test]
fn a_content_that_breaks_off_is_known_to_its_client_and_to_who_takes_it() {
    let (server, worker) = mirror(&["--body-timeout", "1m"]);
    // malformed
    let mut client = server.connect();
    client.send(half("/echo") + "cde, no CRLF");
    let answer = client.read_answer().unwrap();
    assert_eq!((answer.status, answer.closes()), (400, true));
    wait_until_heard(&server, "InvalidData");
    // left, one way and the other
    for resets in [true, false] {
        assert_eq!(server.connect().try_get("/echo").unwrap().status, 200);
        wait_until_heard(&server, "whole");
        let mut client = server.connect();
        client.send(half("/echo"));
        server.wait("it is being taken", || busy(&server) == 1);
        if resets {
            client.reset();
        } else {
            client.stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.read_to_end().unwrap(), b"");
        }
        wait_until_heard(&server, "UnexpectedEof");
    }
    // and a future in their place is dropped
    let mut client = server.connect();
    client.send(half("/pieces") + "cde, no CRLF");
    assert_eq!(client.read_answer().unwrap().status, 400);
    wait_until_nothing_is_left(&server, worker);
    let mut client = server.connect();
    client.send(half("/pieces"));
    server.wait("it is being taken", || busy(&server) == 1);
    client.reset();
    wait_until_nothing_is_left(&server, worker);
}

#[test]
fn a_content_that_is_too_slow_is_known_to_its_client_and_to_who_takes_it() {
    let (server, worker) = mirror(&["--body-timeout", "400ms"]);
    let mut client = server.connect();
    client.send(half("/echo"));
    let answer = client.read_answer().unwrap();
    assert_eq!((answer.status, answer.closes()), (408, true));
    assert_eq!(client.read_to_end().unwrap(), b"");
    wait_until_heard(&server, "TimedOut");
    // and a future in its place is dropped
    let mut client = server.connect();
    client.send(half("/pieces"));
    assert_eq!(client.read_answer().unwrap().status, 408);
    wait_until_nothing_is_left(&server, worker);
}

/// Less than the first chunk.
fn half(path: &str) -> String {
    post(path, "Transfer-Encoding: chunked") + "5\r\nab"
}

fn wait_until_heard(server: &Server, what: &str) {
    server.wait("it is heard", || server.get("/heard").text() == what);
}

/// Both come in the same turn, because the worker is stopped meanwhile.
#[test]
fn a_client_that_ends_in_the_middle_of_a_content_still_gets_what_it_asked_for_before() {
    let (server, worker) = mirror(&[]);
    for _ in 0..5 {
        let mut client = server.connect();
        client.get("/accepted");
        server.stop(worker);
        client.send(get("/first") + &get("/second") + &post("/pieces", "Content-Length: 9") + "abc");
        client.stream.shutdown(Shutdown::Write).unwrap();
        kill(worker, "CONT");
        for path in ["/first", "/second"] {
            assert!(client.read_answer().unwrap().text().starts_with(&format!("GET {path}")));
        }
        assert_eq!(client.read_to_end().unwrap(), b"");
    }
    wait_until_nothing_is_left(&server, worker);
}

/// The output before a content is cut short while the content still comes in.
#[test]
fn content_behind_answers_that_are_stuck_is_not_forgotten() {
    let (server, worker) = mirror(&["--body-timeout", "1m"]);
    let content = pattern(60_000);
    for before in [1, 12, 30] {
        let mut client = server.connect();
        setsockopt(&client.stream, sockopt::RcvBuf, &4096).unwrap();
        client.get("/accepted");
        let long = get(&format!("/{}", "x".repeat(3900)));
        let head = post("/pieces", &format!("Content-Length: {}", content.len()));
        client.send([long.repeat(before).as_bytes(), head.as_bytes(), &content].concat());
        for _ in 0..before {
            assert_eq!(client.read_answer().unwrap().status, 200);
        }
        assert_eq!(client.read_answer().unwrap().text(), counted(&content), "behind {before}");
    }
    wait_until_nothing_is_left(&server, worker);
}

#[test]
fn an_answer_before_the_end_of_a_content_keeps_the_connection_if_little_is_left() {
    let (server, worker) = mirror(&[]);
    let mut client = server.connect();
    for octets in [10, 20_000] {
        let head = post("/pieces?n=10", &format!("Content-Length: {octets}"));
        client.send([head.as_bytes(), &pattern(octets), get("/behind").as_bytes()].concat());
        assert_eq!(client.read_answer().unwrap().status, 200);
        assert!(client.read_answer().unwrap().text().starts_with("GET /behind"));
    }
    // too much is left: it is said, and the answer arrives though the client is still sending
    let octets = 3_000_000;
    let mut sender = client.stream.try_clone().unwrap();
    let head = post("/pieces?n=10", &format!("Content-Length: {octets}"));
    let sending = thread::spawn(move || sender.write_all(&[head.as_bytes(), &pattern(octets)].concat()));
    let answer = client.read_answer().unwrap();
    assert_eq!((answer.status, answer.closes()), (200, true));
    drop(client);
    let _ = sending.join().unwrap(); // sent or not
    wait_until_nothing_is_left(&server, worker);
}

#[test]
fn a_client_is_read_from_as_fast_as_its_content_is_taken() {
    const LIMIT: Duration = Duration::from_secs(5);
    let Some(sockets) = Sockets::open() else { return skip("there is no sock_diag here") };
    // the handler is late, not the client: that is nobody's time limit
    let (server, worker) =
        mirror(&["--body-timeout", "5s", "--header-timeout", "5s", "--send-timeout", "5s"]);
    let (_folder, holds) = held_file();
    let content = pattern(30_000_000);
    let head =
        post(&format!("/pieces?while={}", holds.display()), &format!("Content-Length: {}", content.len()));
    let all = [head.as_bytes(), &content].concat();
    let before = rss_anon(worker);
    let mut client = server.connect();
    let (near, far) = (client.stream.local_addr().unwrap(), server.address);
    let mut sender = client.stream.try_clone().unwrap();
    let sending = thread::spawn(move || sender.write_all(&all).unwrap());
    let read = || {
        let end = sockets.end(far, near).expect("the server's end");
        end.received.unwrap_or(0) - u64::from(end.unread)
    };
    server.wait("it reads", || read() >= 64 * 1024);
    let held = wait_until_still("it stops reading", LIMIT + Duration::from_millis(500), read);
    assert!(held <= HELD_OCTETS_MAX, "{held} octets were read that nobody takes");
    assert!(!sending.is_finished(), "the client waits");
    fs::remove_file(&holds).unwrap();
    assert_eq!(client.read_answer().unwrap().text(), counted(&content));
    sending.join().unwrap();
    let after = rss_anon(worker);
    assert!(after < before + SLACK_KIB, "{before} KiB before, {after} KiB after {} octets", content.len());
    assert!(client.get("/next").text().starts_with("GET /next"));
}

#[test]
fn a_content_that_is_slower_than_the_rate_is_refused_also_when_it_has_been_fast_before() {
    let (server, worker) = mirror(&["--body-timeout", "400ms", "--body-rate", "1000"]);
    let mut client = server.connect();
    client.send(post("/pieces", "Content-Length: 1000000"));
    client.send(pattern(100_000));
    let start = Instant::now();
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let answer = loop {
        match client.read_answer() {
            Ok(answer) => break answer,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = client.stream.write_all(b"x");
            }
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < PATIENCE, "it goes on");
    };
    assert_eq!(answer.status, 408);
    wait_until_nothing_is_left(&server, worker);
}

// ---- answers ----

#[test]
fn an_answer_that_is_made_bit_by_bit_arrives_whole_in_its_order() {
    let (server, worker) = mirror(&[]);
    let mut client = server.connect();
    for (n, size) in [(0, 5), (1, 1), (3, 5), (1000, 1), (50, 5000), (5, 300_000)] {
        client.send(get(&format!("/made?n={n}&size={size}")) + &get("/behind"));
        let head = client.read_head().unwrap();
        assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
        let content = read_chunks(&mut client).unwrap();
        let expected: Vec<u8> = (b'a'..=b'z').cycle().take(n).flat_map(|letter| vec![letter; size]).collect();
        assert!(content == expected, "{n} pieces of {size}");
        assert!(client.read_answer().unwrap().text().starts_with("GET /behind"), "nothing overtakes it");
    }
    wait_until_nothing_is_left(&server, worker);
}

/// Nothing follows for a minute: whoever takes a chunk only when it is here whole has it too.
#[test]
fn a_piece_arrives_when_it_is_made_with_the_end_of_its_chunk() {
    let (server, _) = mirror(&[]);
    for size in [1, 4096, 4097, 200_000] {
        let mut client = server.connect();
        client.send(get(&format!("/made?n=2&size={size}&pause=60000")));
        client.read_head().unwrap();
        assert_eq!(read_chunk(&mut client).unwrap(), Some(vec![b'a'; size]));
        client.reset();
    }
    server.wait("every future has gone", || busy(&server) == 0);
}

#[test]
fn a_head_request_makes_nothing_and_an_old_client_reads_to_the_close() {
    let (server, worker) = mirror(&[]);
    let mut client = server.connect();
    client.send(get("/made?n=100000&size=1000").replace("GET", "HEAD") + &get("/behind"));
    assert_eq!(client.read_head().unwrap().header("transfer-encoding"), Some("chunked"));
    assert!(client.read_answer().unwrap().text().starts_with("GET /behind"));
    wait_until_nothing_is_left(&server, worker);
    for fields in ["", "Connection: keep-alive\r\n"] {
        let mut client = server.connect();
        client.send(format!("GET /made?n=3&size=20000&pause=5 HTTP/1.0\r\n{fields}\r\n"));
        let head = client.read_head().unwrap();
        assert!(head.closes() && head.header("transfer-encoding").is_none());
        assert_eq!(
            client.read_to_end().unwrap(),
            ["a", "b", "c"].map(|letter| letter.repeat(20_000)).concat().as_bytes()
        );
    }
}

#[test]
fn an_answer_that_is_cut_is_seen_as_cut() {
    let (server, worker) = mirror(&[]);
    let mut client = server.connect();
    client.send(get("/made-broken") + &get("/behind"));
    assert_eq!(client.read_head().unwrap().status, 200);
    // how it ends in the kernel (a reset may eat what came before) does not matter
    assert!(read_chunks(&mut client).is_err(), "there is no last chunk");
    server.wait_for("the reason", |line| {
        line["error"] == "asked to" && line["message"].as_str().unwrap().contains("a stream failed")
    });
    assert_eq!(server.listening(), [(0, worker)], "an error is no panic");
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("there is no `curl` here");
    }
    let url = |path: &str| format!("http://{}{path}", server.address);
    let exit = |path: &str| {
        let mut curl = Command::new("curl");
        let status = curl.args(["-s", "-m", "20", &url(path)]).stdout(Stdio::null()).status().unwrap();
        status.code()
    };
    // CURLE_PARTIAL_FILE; where the reset came first, CURLE_RECV_ERROR
    assert!(matches!(exit("/made-broken"), Some(18 | 56)));
    assert_eq!(exit("/made?n=3&size=5"), Some(0));
}

#[test]
fn who_does_not_read_makes_the_maker_wait_and_is_closed_after_the_send_timeout() {
    let (server, worker) = mirror(&["--send-timeout", "1s"]);
    let before = rss_anon(worker);
    let mut deaf = server.connect();
    let start = Instant::now();
    deaf.send(get("/made?n=100000&size=10000"));
    server.wait("it makes", || made(&server) > 0);
    let few =
        |octets: u64| assert!(octets < 32 << 20, "{octets} of 1,000,000,000 octets were made for nobody");
    few(wait_until_still("it waits", Duration::from_millis(300), || made(&server)));
    let during = rss_anon(worker);
    assert!(during < before + SLACK_KIB, "{before} KiB before, {during} KiB with it");
    server.wait("it is given up", || busy(&server) == 0);
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    few(made(&server));
    server.wait("its socket is closed", || server.held_connections() <= 1);
}

/// The send timeout is for clients that take nothing; and a maker that is late is not its client's fault.
#[test]
fn who_reads_slowly_or_waits_for_a_slow_maker_gets_all_of_it() {
    let (server, worker) =
        mirror(&["--send-timeout", "5s", "--keep-alive-timeout", "5s", "--header-timeout", "5s"]);
    let mut waits = server.connect();
    waits.send(get("/made?n=1&size=5&pause=6000"));
    let mut slow = server.connect();
    setsockopt(&slow.stream, sockopt::RcvBuf, &65_536).unwrap();
    slow.send(get("/made?n=300&size=10000").replace("1.1", "1.0"));
    slow.read_head().unwrap();
    let mut octets = slow.take_unread().len();
    let mut buffer = vec![0; 20_000];
    loop {
        // each time less than a buffer, with pauses that are far shorter than the timeout; all of it takes longer
        match read_some(&mut slow.stream, &mut buffer).unwrap() {
            0 => break,
            some => octets += some,
        }
        thread::sleep(Duration::from_millis(40));
    }
    assert_eq!(octets, 3_000_000);
    waits.read_head().unwrap();
    assert_eq!(read_chunks(&mut waits).unwrap(), b"aaaaa");
    wait_until_nothing_is_left(&server, worker);
}

#[test]
fn who_is_gone_ends_who_makes_for_it() {
    let (server, worker) = mirror(&[]);
    let clients: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = server.connect();
            client.send(get("/made?n=1000000&size=10&pause=20"));
            client.read_head().unwrap();
            client
        })
        .collect();
    assert_eq!(busy(&server), 20);
    for (n, client) in clients.into_iter().enumerate() {
        // closed while there is something to read, which is a reset; or at leisure
        if n % 2 == 0 { client.reset() } else { drop(client) }
    }
    wait_until_nothing_is_left(&server, worker);
}

#[test]
fn who_has_only_finished_sending_reads_on_as_long_as_something_comes() {
    let (server, worker) = mirror(&["--send-timeout", "2s"]);
    let mut client = server.connect();
    client.send(get("/made?n=20&size=1&pause=150"));
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.read_head().unwrap();
    assert_eq!(read_chunks(&mut client).unwrap(), b"abcdefghijklmnopqrst");
    assert_eq!(client.read_to_end().unwrap(), b"");
    let mut client = server.connect();
    client.send(get("/made?n=20&size=1&pause=60000"));
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.read_head().unwrap();
    assert!(read_chunks(&mut client).is_err(), "it may as well have left");
    wait_until_nothing_is_left(&server, worker);
}

#[test]
fn a_client_that_sends_on_during_an_answer_is_answered_after_it() {
    let (server, worker) = mirror(&[]);
    let mut client: Client<TcpStream> = server.connect();
    client.send(get("/made?n=4&size=3&pause=100"));
    client.read_head().unwrap();
    // more than is kept of a client that is ahead
    let requests = 2000;
    let mut sender = client.stream.try_clone().unwrap();
    let sending =
        thread::spawn(move || sender.write_all(get("/behind").repeat(requests).as_bytes()).unwrap());
    assert_eq!(read_chunks(&mut client).unwrap(), b"aaabbbcccddd");
    for _ in 0..requests {
        assert!(client.read_answer().unwrap().text().starts_with("GET /behind"));
    }
    sending.join().unwrap();
    wait_until_nothing_is_left(&server, worker);
}

#[test]
fn an_answer_on_its_way_is_finished_in_a_drain() {
    let (mut server, _) = mirror(&["--kill-timeout", "1m", "--body-timeout", "1m"]);
    let mut taken = server.connect();
    taken.send(post("/pieces", "Content-Length: 6") + "abc");
    server.wait("one is under way", || busy(&server) == 1);
    let mut client = server.connect();
    let (_folder, holds) = held_file();
    client.send(get(&format!("/made?n=10&size=2&while={}", holds.display())));
    client.read_head().unwrap();
    server.signal("TERM");
    server.wait("it drains", || Client::try_connect(server.address).is_err());
    taken.send("def");
    let answer = taken.read_answer().unwrap();
    assert_eq!((answer.text(), answer.closes()), (counted(b"abcdef"), true));
    fs::remove_file(&holds).unwrap();
    assert_eq!(read_chunks(&mut client).unwrap(), b"aabbccddeeffgghhiijj");
    drop(client);
    assert_eq!(server.wait_exit().code(), Some(0));
}
