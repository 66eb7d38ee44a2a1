//! Idle clients cost next to nothing.

mod common;

use common::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

const CLIENTS: usize = 10_000;
/// What this process needs beside its clients' sockets.
const SPARE: u64 = 500;

#[test]
fn each_of_10_000_idle_connections_takes_at_most_512_bytes_and_an_active_one_is_served_beside_them() {
    let Some(_) = raise_limit() else {
        return skip("the hard RLIMIT_NOFILE does not allow 10,500 descriptors");
    };
    let server = Server::start(Program::Faulty, &["--workers", "1", "--keep-alive-timeout", "10m"]);
    let worker = server.listening()[0].1;
    let mut active = server.connect();
    assert_eq!(active.get("/pid").pid(), worker);
    let fixed = rss_anon(worker);
    assert!(fixed < 12 * 1024, "the fixed part takes {fixed} KiB");

    let mut idle = Vec::with_capacity(CLIENTS);
    while idle.len() < CLIENTS {
        // a few at a time: a batch fits the accept queue
        let batch: Vec<TcpStream> = (0..100).map(|_| server.connect().stream).collect();
        for mut stream in batch.iter() {
            stream.write_all(b"GET /pid HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        }
        for mut stream in batch.iter() {
            let mut answer = [0; 512];
            let octets = stream.read(&mut answer).unwrap();
            assert!(answer[..octets].starts_with(b"HTTP/1.1 200 "));
        }
        idle.extend(batch);
    }
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(active.get("/pid").pid(), worker);
    }
    let with_clients = rss_anon(worker);
    let each = (with_clients.saturating_sub(fixed)) * 1024 / CLIENTS as u64;
    println!(
        "fixed {fixed} KiB, with {CLIENTS} idle clients {with_clients} KiB: {each} octets each; 100 answers beside them in {:?}",
        start.elapsed()
    );
    assert!(each <= 512, "{each} octets for each idle connection");

    for mut stream in idle.iter() {
        stream.set_nonblocking(true).unwrap();
        let nothing = stream.read(&mut [0]).expect_err("nobody was closed, nobody was sent more");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    }

    // more completions at once than the queue holds: none may be lost
    drop(idle);
    server.wait("all their sockets are closed", || server.held_connections() == 1);
    assert_eq!(active.get("/pid").pid(), worker);
    assert_eq!(server.listening(), [(0, worker)]);
}

fn raise_limit() -> Option<()> {
    let wanted = CLIENTS as u64 + SPARE;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft >= wanted {
        return Some(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard).ok().filter(|()| hard >= wanted)
}
