//! The examples that hand their requests on, through real sockets: thousands of promises at once, each kept with its own
//! answer, and what becomes of them when the upstream, the client or the worker goes.

mod common;

use common::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

const CLIENTS: usize = 10_000;
/// What this process needs beside its clients' sockets, the other tests included.
const SPARE: u64 = 2_000;
/// `UPSTREAM_CONNECTIONS_MAX` of the example.
const UPSTREAM_REQUESTS_MAX: usize = 64;
/// That, and its `WAITING_MAX`, and the one that the runtime has taken out of the line.
const PROMISES_MAX: usize = UPSTREAM_REQUESTS_MAX + 16 * 1024 + 1;
/// What a promise that waits may take in its worker, connection included.
const OCTETS_EACH_MAX: u64 = 4096;

/// A server that answers `/n` with n, when it is told to.
struct Upstream {
    address: SocketAddr,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_open: bool,
    waiting: usize,
    waiting_max: usize,
    asked: usize,
}

impl Upstream {
    fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate::default());
        let shared = Arc::clone(&gate);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let gate = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &gate));
            }
        });
        Upstream { address, gate }
    }

    fn open(&self) {
        self.gate.state.lock().unwrap().is_open = true;
        self.gate.changed.notify_all();
    }

    fn waiting(&self) -> usize {
        self.gate.state.lock().unwrap().waiting
    }

    fn waiting_max(&self) -> usize {
        self.gate.state.lock().unwrap().waiting_max
    }

    fn asked(&self) -> usize {
        self.gate.state.lock().unwrap().asked
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.open();
    }
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        state.asked += 1;
        state.waiting_max = state.waiting_max.max(state.waiting);
        let mut state = self.changed.wait_while(state, |state| !state.is_open).unwrap();
        state.waiting -= 1;
    }
}

fn serve(mut stream: &TcpStream, gate: &Gate) {
    stream.set_nodelay(true).unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while let Some(first) = lines.next() {
        let target = first.split(' ').nth(1).unwrap().to_owned();
        lines.by_ref().take_while(|line| !line.is_empty()).count();
        gate.pass();
        if stream.write_all(&answer(&target)).is_err() {
            return;
        }
    }
}

fn answer(target: &str) -> Vec<u8> {
    match target {
        "/broken" => b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_vec(),
        "/missing" => b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone".to_vec(),
        "/long" => {
            let mut octets = b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n".to_vec();
            octets.resize(octets.len() + 1_048_577, b'x');
            octets
        }
        _ => {
            let number = &target[1..];
            let length = number.len();
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/x-number\r\nContent-Length: {length}\r\n\r\n{number}"
            )
            .into_bytes()
        }
    }
}

/// One worker.
fn offload(upstream: SocketAddr, timeout_ms: &str, arguments: &[&str]) -> (Server, i32) {
    let mut all = vec!["--listen", "127.0.0.1:0", "--workers", "1"];
    all.extend(arguments);
    let mut command = Program::Offload.command(&all);
    command.env("OFFLOAD_UPSTREAM", format!("http://{upstream}/")).env("OFFLOAD_TIMEOUT_MS", timeout_ms);
    let server = Server::spawn(&mut command);
    server.wait_until_whole();
    let worker = server.listening()[0].1;
    (server, worker)
}

fn ask(server: &Server, number: usize) -> Client {
    let mut client = server.connect();
    client.send(format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n"));
    client
}

fn wait_in_flight(server: &Server, number: usize) {
    let wanted = number.to_string();
    server.wait(&format!("{number} promises are open"), || server.get("/in-flight").text() == wanted);
}

#[test]
fn each_of_10_000_clients_at_once_gets_its_own_answer() {
    let wanted = CLIENTS as u64 + SPARE;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < wanted {
        return skip("the hard RLIMIT_NOFILE does not allow 12,000 descriptors");
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).unwrap();
    let upstream = Upstream::start();
    let (server, worker) = offload(upstream.address, "120000", &["--keep-alive-timeout", "10m"]);
    server.get("/in-flight");
    let before = rss_anon(worker);

    let start = Instant::now();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|number| ask(&server, number)).collect();
    wait_in_flight(&server, CLIENTS);
    server.wait("the upstream has its share", || upstream.waiting() == UPSTREAM_REQUESTS_MAX);
    let each = rss_anon(worker).saturating_sub(before) * 1024 / CLIENTS as u64;
    println!("{CLIENTS} promises open after {:?}, {each} octets each", start.elapsed());
    assert!(each <= OCTETS_EACH_MAX, "{each} octets for each promise");

    upstream.open();
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.read_answer().expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, number.to_string()));
        assert_eq!(answer.header("content-type"), Some("text/x-number"));
    }
    println!("all answered after {:?}", start.elapsed());
    assert_eq!(server.get("/in-flight").text(), "0");
    assert_eq!(upstream.waiting_max(), UPSTREAM_REQUESTS_MAX);
    // and nobody got two
    for client in &mut clients {
        client.send("GET /in-flight HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_answer().expect("an answer").text(), "0");
    }
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn an_upstream_that_answers_badly_or_not_at_all_is_said_so() {
    let upstream = Upstream::start();
    upstream.open();
    let (server, worker) = offload(upstream.address, "20000", &[]);
    let mut client = server.connect();
    for (target, status, said) in [
        ("/1", 200, "1"),
        ("/2?a=b&c", 200, "2?a=b&c"),
        ("//example.org/", 200, "/example.org/"),
        ("/missing", 404, "none"),
        ("/broken", 502, "the upstream cannot be reached, or broke off"),
        ("/long", 502, "the upstream says too much"),
        ("/3", 200, "3"),
    ] {
        let answer = client.get(target);
        assert_eq!((answer.status, answer.text().as_str()), (status, said), "{target}");
    }
    client.send("POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    let answer = client.read_answer().unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    client.send("HEAD /12345 HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = client.read_head().unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    assert_eq!(client.get("/in-flight").text(), "0");
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn an_upstream_that_refuses_is_502() {
    // bound, and nobody listens
    let nobody = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(nobody.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let address: SockaddrIn = getsockname(nobody.as_raw_fd()).unwrap();
    let (server, worker) = offload(SocketAddr::V4(address.into()), "20000", &[]);
    let mut client = server.connect();
    for _ in 0..3 {
        let answer = client.get("/1");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (502, "the upstream cannot be reached, or broke off")
        );
    }
    assert_eq!(client.get("/in-flight").text(), "0");
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn an_upstream_that_takes_too_long_is_504_for_those_who_wait_in_line_as_well() {
    let upstream = Upstream::start();
    let (server, worker) = offload(upstream.address, "300", &[]);
    let mut clients: Vec<Client> =
        (0..3 * UPSTREAM_REQUESTS_MAX).map(|number| ask(&server, number)).collect();
    for client in &mut clients {
        let answer = client.read_answer().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (504, "the upstream takes too long"));
    }
    upstream.open();
    server.wait("it recovers", || server.get("/7").text() == "7");
    assert_eq!(server.get("/in-flight").text(), "0");
    assert_eq!(server.listening(), [(0, worker)]);
}

/// Their promises stay until the upstream has had its time.
#[test]
fn clients_that_come_and_go_fill_the_line_and_no_more() {
    const BATCH: usize = 514;
    let upstream = Upstream::start();
    let (server, worker) = offload(upstream.address, "120000", &[]);
    for batch in 1..=PROMISES_MAX / BATCH {
        let clients: Vec<Client> = (0..BATCH).map(|number| ask(&server, number)).collect();
        wait_in_flight(&server, batch * BATCH);
        clients.into_iter().for_each(Client::reset);
    }
    let mut last: Vec<Client> = (0..BATCH).map(|number| ask(&server, number)).collect();
    wait_in_flight(&server, PROMISES_MAX);
    assert_eq!(ask(&server, 1).read_answer().unwrap().status, 503);
    upstream.open();
    let answers = last.iter_mut().map(|client| client.read_answer().unwrap());
    let kept: Vec<_> = answers.enumerate().filter(|(_, answer)| answer.status != 503).collect();
    assert_eq!(kept.len(), PROMISES_MAX % BATCH);
    for (number, answer) in kept {
        assert_eq!((answer.status, answer.text()), (200, number.to_string()));
    }
    assert_eq!(ask(&server, 7).read_answer().unwrap().text(), "7");
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn the_runtime_may_use_every_core() {
    let upstream = Upstream::start();
    let (server, worker) = offload(upstream.address, "20000", &["--pin", "auto"]);
    let runtime = thread_of(&server, worker, "upstream");
    assert_eq!(cores(&format!("{worker}/task/{runtime}")), cores("self"));
}

/// A thread gives itself its name when it runs.
fn thread_of(server: &Server, process: i32, name: &str) -> String {
    let comm = |thread: &str| fs::read_to_string(format!("/proc/{process}/task/{thread}/comm"));
    let find = || {
        let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let mut threads = threads.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        threads.find(|thread| comm(thread).is_ok_and(|comm| comm.trim() == name))
    };
    server.wait("there is a thread of this name", || find().is_some());
    find().unwrap()
}

/// Those that a process or thread may run on.
fn cores(whose: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{whose}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
}

#[test]
fn answers_for_clients_that_are_gone_are_dropped() {
    let upstream = Upstream::start();
    let (server, worker) = offload(upstream.address, "20000", &[]);
    let mut patient = ask(&server, 1);
    let (resets, ends) = (ask(&server, 2), ask(&server, 3));
    // who leaves before that has asked nothing
    wait_in_flight(&server, 3);
    resets.reset();
    drop(ends);
    upstream.open();
    assert_eq!(patient.read_answer().unwrap().text(), "1");
    wait_in_flight(&server, 0);
    // the connection's place is taken by others, who get what they asked for
    for number in 10..20 {
        assert_eq!(ask(&server, number).read_answer().unwrap().text(), number.to_string());
    }
    drop(patient);
    server.wait("no connection is held", || server.held_connections() == 0);
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn those_who_leave_the_line_cost_the_upstream_nothing() {
    let upstream = Upstream::start();
    let (server, _) = offload(upstream.address, "60000", &[]);
    let mut patient: Vec<Client> = (0..UPSTREAM_REQUESTS_MAX).map(|number| ask(&server, number)).collect();
    server.wait("the upstream has all it may have", || upstream.waiting() == UPSTREAM_REQUESTS_MAX);
    let leaving: Vec<Client> = (0..10).map(|number| ask(&server, number)).collect();
    wait_in_flight(&server, UPSTREAM_REQUESTS_MAX + 10);
    leaving.into_iter().for_each(Client::reset);
    server.wait("they are known to have left", || server.held_connections() == UPSTREAM_REQUESTS_MAX);
    upstream.open();
    for (number, client) in patient.iter_mut().enumerate() {
        assert_eq!(client.read_answer().unwrap().text(), number.to_string());
    }
    wait_in_flight(&server, 0);
    assert_eq!(upstream.asked(), UPSTREAM_REQUESTS_MAX);
}

#[test]
fn promises_are_kept_by_a_worker_that_is_replaced() {
    let upstream = Upstream::start();
    let (server, worker) = offload(upstream.address, "20000", &["--kill-timeout", "60s"]);
    let mut clients: Vec<Client> =
        (0..2 * UPSTREAM_REQUESTS_MAX).map(|number| ask(&server, number)).collect();
    wait_in_flight(&server, clients.len());
    server.signal("HUP");
    server.wait_for("its drain", |line| line["message"] == "drain sent" && line["pid"] == worker);
    server.wait_for("it has heard of it", |line| line["message"] == "draining");
    // the new worker has promised nothing
    wait_in_flight(&server, 0);
    upstream.open();
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.read_answer().expect("an answer");
        assert_eq!((answer.status, answer.text(), answer.closes()), (200, number.to_string(), true));
    }
    let exit = server.wait_for("its end", |line| line["event"] == "exit" && line["pid"] == worker);
    assert_eq!((exit["status"].as_str(), exit["forced"].as_bool()), (Some("code 0"), Some(false)), "{exit}");
    assert_ne!(server.listening(), [(0, worker)]);
}

#[test]
fn a_setting_that_cannot_be_used_is_one_line() {
    for (name, value, said) in [
        ("OFFLOAD_UPSTREAM", "somewhere", "OFFLOAD_UPSTREAM=somewhere"),
        ("OFFLOAD_UPSTREAM", "https://127.0.0.1/", "it must begin with http://"),
        ("OFFLOAD_TIMEOUT_MS", "1s", "expected milliseconds"),
    ] {
        let mut command = bare_command(&Program::Offload.path());
        let output = command.args(["--listen", "127.0.0.1:0"]).env(name, value).output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.contains(said) && line.lines().count() == 1, "{line}");
    }
}
