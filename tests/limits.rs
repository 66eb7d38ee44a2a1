//! At its limits a server makes clients wait instead of losing them, and nobody takes the place of all others.

mod common;

use common::*;
use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const GET: &str = "GET /pid HTTP/1.1\r\nHost: test\r\n\r\n";

fn has_no_answer_yet(client: &mut Client) -> bool {
    client.stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let outcome = client.read_answer();
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    outcome.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

// ---- connections ----

#[test]
fn beyond_max_connections_clients_wait_in_the_backlog_and_take_the_places_that_become_free() {
    let server = Server::start(Program::Faulty, &["--workers", "1", "--max-connections", "2"]);
    let mut inside = [server.connect(), server.connect()];
    inside.iter_mut().for_each(|client| assert_eq!(client.get("/pid").status, 200));
    let mut waiting: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| client.send(GET));
    assert!(has_no_answer_yet(&mut waiting[0]));
    inside
        .iter_mut()
        .for_each(|client| assert_eq!(client.get("/pid").status, 200, "those inside are served"));
    // one leaves and the other resets; then each that was served makes room for the next
    let [first, second] = inside;
    drop(first);
    assert_eq!(waiting[0].read_answer().unwrap().status, 200);
    assert!(has_no_answer_yet(&mut waiting[1]), "one place was free, not two");
    second.reset();
    for mut client in waiting.into_iter().skip(1) {
        assert_eq!(client.read_answer().unwrap().status, 200);
    }
    assert_eq!(server.get("/pid").status, 200);
}

/// Where a handler keeps the loop between a close and the next turn, an accept is armed for the place just when a look at the
/// backlog is due; and there is an accept for each address.
#[test]
fn one_free_place_is_not_taken_twice() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let other = format!("unix:{}", socket.display());
    let listen = ["--listen", "127.0.0.1:0", "--listen", &other];
    let arguments = [&listen[..], &["--workers", "1", "--max-connections", "2"]].concat();
    let server = Server::spawn(&mut Program::Faulty.command(&arguments));
    server.wait_until_whole();
    let worker = server.listening()[0].1;
    let mut inside = [server.connect(), server.connect()];
    inside.iter_mut().for_each(|client| assert_eq!(client.get("/pid").status, 200));
    let (tell, served) = mpsc::channel();
    for _ in 0..2 {
        wait_for_a_place(server.connect(), &tell);
        wait_for_a_place(Client::connect_unix(&socket), &tell);
    }
    let [leaves, mut blocks] = inside;
    server.stop(worker);
    drop(leaves);
    blocks.send("GET /block?ms=100 HTTP/1.1\r\nHost: test\r\n\r\n");
    kill(worker, "CONT");
    assert_eq!(blocks.read_answer().unwrap().status, 200);
    for _ in 0..4 {
        let _inside = served.recv_timeout(PATIENCE).expect("one more is served");
        for _ in 0..5 {
            assert_eq!(blocks.get("/pid").status, 200);
            assert_eq!(server.held_connections(), 2);
        }
        assert!(served.try_recv().is_err(), "one place was free, not two");
    }
}

/// Asks, and tells when it has its answer; whoever is told has the client, who stays as long.
fn wait_for_a_place<S: Read + Write + Send + 'static>(
    mut client: Client<S>,
    tell: &mpsc::Sender<Box<dyn Send>>,
) {
    client.send(GET);
    let tell = tell.clone();
    thread::spawn(move || {
        assert_eq!(client.read_answer().unwrap().status, 200);
        let _ = tell.send(Box::new(client));
    });
}

#[test]
fn a_worker_at_its_limit_leaves_the_backlog_to_the_others() {
    let server = Server::start(Program::Faulty, &["--workers", "2", "--max-connections", "3"]);
    let mut inside: Vec<Client> = vec![];
    for _ in 0..6 {
        let mut client = server.connect();
        client.get("/pid");
        inside.push(client);
    }
    for (_, worker) in server.listening() {
        let own = inside.iter_mut().filter_map(|client| (client.get("/pid").pid() == worker).then_some(()));
        assert_eq!(own.count(), 3, "every place is taken");
    }
    let mut seventh = server.connect();
    seventh.send(GET);
    assert!(has_no_answer_yet(&mut seventh));
    let freed = inside[4].get("/pid").pid();
    inside.remove(4);
    assert_eq!(seventh.read_answer().unwrap().pid(), freed);
}

// ---- fairness ----

/// Sends pipelined requests and reads answers, both as fast as it can, until told to stop.
struct Flood {
    stream: TcpStream,
    stop: Arc<AtomicBool>,
    received: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Flood {
    fn start(server: &Server, requests: &str) -> Flood {
        let stream = TcpStream::connect(server.address).unwrap();
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (mut writer, requests, stopped) =
            (stream.try_clone().unwrap(), requests.to_owned(), stop.clone());
        let write = move || {
            while !stopped.load(Ordering::Relaxed) && writer.write_all(requests.as_bytes()).is_ok() {}
            let _ = writer.shutdown(Shutdown::Write);
        };
        let (mut reader, octets) = (stream.try_clone().unwrap(), received.clone());
        let read = move || {
            let mut buffer = vec![0; 1 << 20];
            while let Ok(some @ 1..) = reader.read(&mut buffer) {
                octets.fetch_add(some, Ordering::Relaxed);
            }
        };
        Flood { stream, stop, received, threads: vec![thread::spawn(write), thread::spawn(read)] }
    }

    fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.stream.shutdown(Shutdown::Both);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn clients_with_endless_pipelines_starve_nobody_beside_them() {
    let server = Server::start(Program::Faulty, &["--workers", "1"]);
    let worker = server.listening()[0].1;
    let before = rss_anon(worker);
    for requests in [GET.repeat(500), "GET /bytes?n=1000 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(500)] {
        let floods = [Flood::start(&server, &requests), Flood::start(&server, &requests)];
        server.wait("the floods are flowing", || floods.iter().all(|flood| flood.received() > 1 << 20));
        let mut beside = server.connect();
        for _ in 0..30 {
            assert_eq!(beside.get("/pid").pid(), worker, "a request more");
            assert_eq!(server.get("/pid").pid(), worker, "a connection more");
        }
        let then = floods.each_ref().map(Flood::received);
        server.wait("the floods go on", || floods.iter().zip(then).all(|(flood, n)| flood.received() > n));
        // what one turn owes to one client is bounded, however much of its input came at once
        let during = rss_anon(worker);
        println!("{before} KiB before, {during} KiB with two floods");
        assert!(during < before + 4 * 1024, "{before} KiB before, {during} KiB with two floods");
        floods.into_iter().for_each(Flood::stop);
    }
    server.wait("all sockets are closed", || server.held_connections() == 0);
    assert_eq!(server.get("/pid").pid(), worker);
}

/// An endless pipeline has no pause in which a timer could be set anew; it must not be taken for a slow head.
#[test]
fn an_endless_pipeline_outlives_every_time_limit() {
    // the client may stand still for less than this
    let limits = ["--header-timeout", "4s", "--keep-alive-timeout", "4s", "--send-timeout", "4s"];
    let server = Server::start(Program::Faulty, &[&["--workers", "1"], &limits[..]].concat());
    for requests in [GET.repeat(500), "GET /bytes?n=16000 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(500)] {
        let flood = Flood::start(&server, &requests);
        let (start, mut last) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(8_500) {
            server.wait("the flood goes on", || flood.received() > last);
            last = flood.received();
        }
        flood.stop();
    }
}

#[test]
fn a_long_pipeline_of_slow_requests_outlives_the_header_timeout() {
    let server = Server::start(Program::Faulty, &["--workers", "1", "--header-timeout", "200ms"]);
    // who stands still before his first request is rightly closed
    let mut client = server.connect();
    server.wait("a first answer", || {
        client = server.connect();
        client.try_get("/pid").is_ok()
    });
    // five requests are a turn's output, so that there is no turn in which all input has been answered
    let four = "GET /bytes?n=15000 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(4);
    client.send((four + "GET /block?ms=5 HTTP/1.1\r\nHost: test\r\n\r\n").repeat(130));
    for nth in 0..650 {
        assert_eq!(client.read_answer().unwrap().status, 200, "answer {nth}");
    }
}

// ---- receive buffers ----

/// What one of them takes.
const BUFFER_OCTETS: usize = 2048;

/// A request for `/pid` of this length.
fn request_of(octets: usize) -> String {
    let (start, end) = ("GET /pid HTTP/1.1\r\nHost: test\r\nX: ", "\r\n\r\n");
    format!("{start}{}{end}", "x".repeat(octets - start.len() - end.len()))
}

#[test]
fn more_input_at_the_same_moment_than_there_are_receive_buffers_is_all_answered() {
    // (clients, requests of 4 KiB from each): the pool has 256 buffers of 2 KiB
    for (clients, requests) in [(600, 1), (60, 12)] {
        let server = Server::start(Program::Faulty, &["--workers", "1"]);
        let mut clients: Vec<Client> = (0..clients).map(|_| server.connect()).collect();
        let input = request_of(4096).repeat(requests);
        for round in 0..3 {
            // the worker is kept busy until all have sent, so that it finds all of it at once
            clients[round].send("GET /block?ms=300 HTTP/1.1\r\nHost: test\r\n\r\n");
            for client in &mut clients {
                client.send(&input);
            }
            assert_eq!(clients[round].read_answer().unwrap().status, 200, "the block");
            for client in &mut clients {
                (0..requests).for_each(|_| assert_eq!(client.read_answer().unwrap().status, 200));
            }
        }
    }
}

/// The end of a client comes when the last buffer has just gone to its own request, and so is heard of out of turn:
/// before it is known that the answer found the socket almost full.
#[test]
fn a_half_closed_client_gets_all_of_its_answers_when_receive_buffers_run_out() {
    // a worker takes some twenty clients' input at a time: with so few, their 15 * 17 buffers and one are the pool
    const OTHERS: usize = 15;
    const REQUESTS: usize = 17;
    let directory = tempfile::tempdir().unwrap();
    // a Unix socket, because its buffer has a fixed size
    let path = directory.path().join("s");
    let unix = format!("unix:{}", path.display());
    let server = Server::start(Program::Faulty, &["--workers", "1", "--listen", &unix]);
    let mut blocker = server.connect();
    let mut others: Vec<Client> = (0..OTHERS).map(|_| server.connect()).collect();
    others.iter_mut().for_each(|client| assert_eq!(client.get("/pid").status, 200));
    let bytes = "GET /bytes?n=15000 HTTP/1.1\r\nHost: test\r\n\r\n";
    let padded = request_of(BUFFER_OCTETS).repeat(REQUESTS);
    for unread in 4..=14 {
        let mut client = Client::connect_unix(&path);
        client.send(bytes.repeat(unread));
        (0..3).for_each(|_| assert_eq!(blocker.get("/pid").status, 200));
        blocker.send("GET /block?ms=100 HTTP/1.1\r\nHost: test\r\n\r\n");
        others.iter_mut().for_each(|client| client.send(&padded));
        client.send(bytes.repeat(4));
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(blocker.read_answer().unwrap().status, 200);
        for client in &mut others {
            (0..REQUESTS).for_each(|_| assert_eq!(client.read_answer().unwrap().status, 200));
        }
        for nth in 0..unread + 4 {
            let octets = client.read_answer().map(|answer| answer.body.len());
            assert_eq!(octets.ok(), Some(15_000), "answer {nth} behind {unread} unread ones");
        }
        assert_eq!(client.read_to_end().unwrap(), b"");
    }
}

#[test]
fn a_hundred_clients_at_the_same_moment_are_all_answered_by_several_workers() {
    const CLIENTS: usize = 100;
    let server = Server::start(Program::Faulty, &["--workers", "4"]);
    let (gate, address) = (Arc::new(Barrier::new(CLIENTS)), server.address);
    let one = |gate: Arc<Barrier>| {
        move || {
            gate.wait();
            (0..5).map(|_| Client::connect(address).get_and_close("/pid").pid()).collect::<Vec<_>>()
        }
    };
    let mut answered = HashSet::new();
    // the first time, unless one of them had to wait for its core all the while
    server.wait("all four have taken part", || {
        let threads: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(one(gate.clone()))).collect();
        let pids: Vec<i32> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(pids.len(), CLIENTS * 5);
        answered.extend(pids);
        answered.len() == 4
    });
}

// ---- descriptors ----

#[test]
fn out_of_descriptors_a_worker_goes_on_says_so_once_and_resumes_by_itself() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        return skip("there is no prlimit(1) here");
    }
    let directory = tempfile::tempdir().unwrap();
    let stats = directory.path().join("stats");
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "1"];
    let server = Server::spawn(Program::Faulty.command(&arguments).env("FAULTY_STATS", &stats));
    server.wait_until_whole();
    let counted = || -> Option<u64> {
        let text = std::fs::read_to_string(&stats).ok()?;
        let line = text[..text.rfind('\n')?].lines().next_back()?;
        serde_json::from_str::<serde_json::Value>(line).ok()?["accept_failures"].as_u64()
    };
    server.wait("nothing has failed", || counted() == Some(0));
    let worker = server.listening()[0].1;
    let mut old = server.connect();
    old.get("/pid");
    let before = soft_limit(worker);
    let ran_out = |server: &Server| count(server, "out of descriptors");
    let resumed = |server: &Server| count(server, "accepting again");

    for round in 1..=2 {
        set_soft_limit(worker, &lowest_free_descriptor(worker).to_string());
        let before_that = counted().unwrap();
        server.wait("it says so", || ran_out(&server) == round);
        server.wait("and counts it", || counted() > Some(before_that));
        for _ in 0..50 {
            assert_eq!(old.get("/pid").pid(), worker, "who is inside is served");
        }
        let mut waiting: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        waiting.iter_mut().for_each(|client| client.send(GET));
        // several moments at which it could say so again
        thread::sleep(Duration::from_millis(300));
        assert_eq!((ran_out(&server), resumed(&server)), (round, round - 1), "{:#?}", server.log());

        set_soft_limit(worker, &before);
        for client in &mut waiting {
            assert_eq!(client.read_answer().unwrap().pid(), worker);
        }
        server.wait("it says that it is over", || resumed(&server) == round);
    }
    assert_eq!(server.listening(), [(0, worker)]);
}

fn count(server: &Server, fragment: &str) -> usize {
    server.log().iter().filter(|line| line["message"].as_str().is_some_and(|m| m.contains(fragment))).count()
}

fn lowest_free_descriptor(pid: i32) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let taken: HashSet<usize> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    (0..).find(|number| !taken.contains(number)).unwrap()
}

fn soft_limit(pid: i32) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().to_owned()
}

/// The hard limit stays, so that it can be raised again.
fn set_soft_limit(pid: i32, limit: &str) {
    let status =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")]).status();
    assert!(status.unwrap().success());
}

/// While an answer is owed nothing more is answered, and a client that sends on is stopped being read from.
#[test]
fn a_client_that_floods_while_its_answer_is_owed_is_stopped() {
    let server = Server::start(Program::Faulty, &["--workers", "1"]);
    let worker = server.listening()[0].1;
    let before = rss_anon(worker);
    let mut client = server.connect();
    client.send("GET /hang?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
    client.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let (requests, mut taken) = (GET.repeat(500), 0);
    while let Ok(octets) =
        std::io::Write::write(&mut client.stream, &requests.as_bytes()[taken % requests.len()..])
    {
        taken += octets;
        assert!(taken < 64 << 20, "the worker takes it all");
    }
    let during = rss_anon(worker);
    println!("{taken} octets left the client, {before} KiB before, {during} KiB with them");
    assert!(during < before + 2 * 1024, "{before} KiB before, {during} KiB with {taken} octets unanswered");
    assert_eq!(client.read_answer().unwrap().status, 200, "the answer that was owed");
    for _ in 0..taken / GET.len() {
        assert_eq!(client.read_answer().unwrap().status, 200, "and all the others");
    }
}
