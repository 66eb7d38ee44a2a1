//! What `uringload` promises, against servers whose every delay and error is known: figures are those computed on paper,
//! counts those of the server.
#![cfg(feature = "load")]

mod common;

use common::{PATIENCE, bare_command, own_address};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use std::cell::Cell;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::panic::Location;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

// ---- the machine ----

/// Times are those computed on paper only where nothing else of this program is under way.
static MACHINE: RwLock<()> = RwLock::new(());

/// One try of a test that looks at times: it has the machine for itself, as far as this program goes; and since others may
/// have it too, what the machine is late meanwhile is known.
struct Alone {
    witnesses: Vec<Arc<Witness>>,
    is_spoilt: Cell<bool>,
    _machine: RwLockWriteGuard<'static, ()>,
}

/// Sleeps again and again on one core, and adds up what that takes longer than it should.
#[derive(Default)]
struct Witness {
    late_us: AtomicU64,
    may_go: AtomicBool,
}

/// For a test that looks at times: a thread that gets no core may spoil those of one try; an error of ours shows in each.
/// Only what is expected of the [`Alone`] may fail in a try; what is asserted must hold in all of them.
fn timed(test: impl Fn(&Alone)) {
    const TRIES: usize = 4;
    let is_as_expected = || {
        let alone = Alone::begin();
        test(&alone);
        !alone.is_spoilt.get()
    };
    assert!((0..TRIES).any(|_| is_as_expected()), "times were not as expected in any of {TRIES} tries");
}

impl Witness {
    fn watch(&self, core: core_affinity::CoreId) {
        const SLEEP: Duration = Duration::from_millis(1);
        /// Less is the same for everybody, and what tolerances are for.
        const LATE: Duration = Duration::from_millis(5);
        core_affinity::set_for_current(core);
        while !self.may_go.load(Ordering::Relaxed) {
            let begin = Instant::now();
            thread::sleep(SLEEP);
            let late = begin.elapsed() - SLEEP;
            if late >= LATE {
                self.late_us.fetch_add(late.as_micros() as u64, Ordering::Relaxed);
            }
        }
    }
}

impl Alone {
    fn begin() -> Alone {
        let machine = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let begin = |core| {
            let witness = Arc::new(Witness::default());
            let its_own = Arc::clone(&witness);
            thread::spawn(move || its_own.watch(core));
            witness
        };
        let witnesses = cores.into_iter().map(begin).collect();
        Alone { witnesses, is_spoilt: Cell::new(false), _machine: machine }
    }

    /// Seconds that have been lost so far, on the core that has lost most.
    fn late(&self) -> f64 {
        let late = self.witnesses.iter().map(|witness| witness.late_us.load(Ordering::Relaxed));
        late.max().unwrap_or(0) as f64 / 1e6
    }

    /// This holds if nobody was late; where it does not, the try is spoilt.
    #[track_caller]
    fn expect(&self, holds: bool, otherwise: impl Display) {
        if !holds {
            eprintln!("{}: {otherwise}; lost: {} s", Location::caller(), self.late());
            self.is_spoilt.set(true);
        }
    }

    /// Not less, and not more but by what server and generator may have been late: who is late takes longer.
    #[track_caller]
    fn expect_between(&self, value: f64, least: f64, most: f64) {
        let holds = value >= least && value <= most + 2.0 * self.late();
        self.expect(holds, format_args!("{value} is not in {least}..={most}"));
    }

    #[track_caller]
    fn expect_near(&self, value: f64, expected: f64, tolerance: f64) {
        self.expect_between(value, expected - tolerance, expected + tolerance);
    }

    /// The longest gap is the stall of `stalling`.
    #[track_caller]
    fn expect_gap_is_the_stall(&self, run: &Value) {
        let [length, begin] = ["seconds", "at"].map(|name| run["longest_gap"][name].as_f64().unwrap());
        self.expect_near(begin + length, 2.0, 0.2);
        self.expect_near(length, 1.0, 0.1);
    }

    /// The first line says that the rate was reached; unless the generator itself was late with the last request.
    #[track_caller]
    fn expect_is_reached(&self, said: &Said, run: &Value, line: &str) {
        let sending = run["sending"].as_f64().unwrap();
        self.expect_near(sending, 1.0, 0.1);
        assert!(said.stderr.starts_with(line) || sending > 1.01, "{}", said.stderr);
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.witnesses.iter().for_each(|witness| witness.may_go.store(true, Ordering::Relaxed));
    }
}

/// For a test that only counts.
fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

// ---- servers ----

/// One request as the server read it.
struct Request {
    target: String,
    head: String,
    content: Vec<u8>,
    /// Its number on its connection, from 0.
    number: usize,
    /// Of its connection, from 0.
    connection: usize,
}

/// What a server does with a request.
enum Act {
    Answer(String),
    /// And then closes.
    Last(String),
    /// Closes without a word.
    Close,
    /// Closes with a reset.
    Reset,
    /// Says nothing more, until the client leaves.
    Silence,
}

#[derive(Default)]
struct Counted {
    connections: AtomicUsize,
    requests: AtomicUsize,
    received: AtomicU64,
    sent: AtomicU64,
}

struct Server {
    address: SocketAddr,
    counted: Arc<Counted>,
}

impl Server {
    fn start(act: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, counted, act) =
            (listener.local_addr().unwrap(), Arc::new(Counted::default()), Arc::new(act));
        let counts = Arc::clone(&counted);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let connection = counts.connections.fetch_add(1, Ordering::SeqCst);
                let (act, counts) = (Arc::clone(&act), Arc::clone(&counts));
                thread::spawn(move || {
                    if serve(&stream, connection, &*act, &counts) {
                        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                        setsockopt(&stream, sockopt::Linger, &linger).unwrap();
                    }
                });
            }
        });
        Server { address, counted }
    }

    fn always(answer: &'static str) -> Server {
        Server::start(move |_| Act::Answer(answer.into()))
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn connections(&self) -> u64 {
        self.counted.connections.load(Ordering::SeqCst) as u64
    }

    fn requests(&self) -> u64 {
        self.counted.requests.load(Ordering::SeqCst) as u64
    }
}

/// Serves one connection; whether it is to be reset.
fn serve<S>(stream: &S, connection: usize, act: &dyn Fn(&Request) -> Act, counted: &Counted) -> bool
where
    for<'a> &'a S: Read + Write,
{
    let (mut input, mut output) = (BufReader::with_capacity(1 << 20, stream), stream);
    for number in 0.. {
        let Some(request) = read_request(&mut input, number, connection, counted) else { return false };
        counted.requests.fetch_add(1, Ordering::SeqCst);
        let (answer, last) = match act(&request) {
            Act::Answer(answer) => (answer, false),
            Act::Last(answer) => (answer, true),
            Act::Close => return false,
            Act::Reset => return true,
            Act::Silence => {
                let _ = std::io::copy(&mut input, &mut std::io::sink());
                return false;
            }
        };
        let last = last || request.head.contains("Connection: close\r\n");
        // before it is out, and whoever waits for it looks
        counted.sent.fetch_add(answer.len() as u64, Ordering::SeqCst);
        if output.write_all(answer.as_bytes()).is_err() || last {
            return false;
        }
    }
    false
}

fn read_request(
    input: &mut impl BufRead,
    number: usize,
    connection: usize,
    counted: &Counted,
) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let (content, octets) = if field("Transfer-Encoding: ").is_some() {
        read_chunked(input)?
    } else {
        let mut content = vec![0; field("Content-Length: ").map_or(0, |length| length.parse().unwrap())];
        input.read_exact(&mut content).ok()?;
        let octets = content.len();
        (content, octets)
    };
    counted.received.fetch_add((head.len() + octets) as u64, Ordering::SeqCst);
    let target = head.split(' ').nth(1)?.to_owned();
    Some(Request { target, head, content, number, connection })
}

fn read_chunked(input: &mut impl BufRead) -> Option<(Vec<u8>, usize)> {
    let (mut content, mut octets) = (vec![], 0);
    loop {
        let mut line = String::new();
        octets += input.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let start = content.len();
        content.resize(start + size + 2, 0);
        input.read_exact(&mut content[start..]).ok()?;
        assert!(content.ends_with(b"\r\n"));
        content.truncate(start + size);
        octets += size + 2;
        if size == 0 {
            return Some((content, octets));
        }
    }
}

// ---- the program ----

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|_| panic!("no JSON: {:?} {:?}", self.stdout, self.stderr))
    }

    /// The only line on stderr; stdout has nothing.
    fn line(&self) -> &str {
        assert_eq!((self.stdout.as_str(), self.stderr.lines().count()), ("", 1), "{}", self.stderr);
        assert!(self.stderr.starts_with("uringload: "), "{}", self.stderr);
        self.stderr.trim_end()
    }
}

fn spawn(arguments: &[&str]) -> Child {
    let mut command = bare_command(Path::new(env!("CARGO_BIN_EXE_uringload")));
    command.args(arguments).stdout(Stdio::piped()).spawn().unwrap()
}

/// Longer than any run here takes: a resolver may need half a minute to find nobody.
const RUN_MAX: Duration = Duration::from_secs(120);

/// A listener whose port nobody else gets when it is let go.
fn own_listener() -> TcpListener {
    TcpListener::bind((own_address(), 0)).unwrap()
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    own_listener().local_addr().unwrap()
}

/// Waits for its end, but not for ever.
fn finish(child: Child) -> Said {
    let (pid, (sender, receiver)) = (child.id(), mpsc::channel());
    thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    let Ok(Output { status, stdout, stderr }) = receiver.recv_timeout(RUN_MAX) else {
        common::kill(pid as i32, "KILL");
        panic!("it hangs");
    };
    let text = |octets| String::from_utf8(octets).unwrap();
    Said { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn run(arguments: &[&str]) -> Said {
    finish(spawn(arguments))
}

/// For a run that is to lose nothing: longer than a machine is late.
const PATIENT: [&str; 2] = ["--timeout", "60s"];

/// What it says as JSON of a run in which something was answered.
fn load(url: &str, arguments: &[&str]) -> Value {
    let patient = if arguments.contains(&PATIENT[0]) { &[][..] } else { &PATIENT };
    let said = run(&[&[url, "--json", "-"], patient, arguments].concat());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    said.json()
}

fn count(run: &Value, name: &str) -> u64 {
    run[name].as_u64().unwrap_or_else(|| panic!("{name} in {run}"))
}

/// In seconds.
fn latency(run: &Value, kind: &str, name: &str) -> f64 {
    run[kind][name].as_f64().unwrap_or_else(|| panic!("{kind} {name} in {run}")) / 1e6
}

fn error(run: &Value, kind: &str) -> u64 {
    run["errors_by_kind"][kind]["count"].as_u64().unwrap_or_else(|| panic!("{kind} in {run}"))
}

#[track_caller]
fn assert_near(value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{value} is not {expected} within {tolerance}");
}

// ---- counts ----

#[test]
fn counts_are_the_servers_own() {
    let _beside = beside_others();
    let server = Server::always(OK);
    let run = load(&server.url(), &["-c", "8", "-n", "2000"]);
    for name in ["requests", "responses", "status_2xx"] {
        assert_eq!(count(&run, name), 2000, "{name}");
    }
    assert_eq!((server.requests(), count(&run, "connections_opened")), (2000, server.connections()));
    assert_eq!((server.connections(), count(&run, "errors")), (8, 0));
    assert_eq!(count(&run, "bytes_sent"), server.counted.received.load(Ordering::SeqCst));
    assert_eq!(count(&run, "bytes_received"), server.counted.sent.load(Ordering::SeqCst));
}

#[test]
fn pipelined_requests_of_several_threads_are_counted_too() {
    let _beside = beside_others();
    let server = Server::always(OK);
    let run = load(&server.url(), &["-c", "5", "-t", "2", "-p", "16", "-n", "3001"]);
    assert_eq!((count(&run, "status_2xx"), server.requests(), count(&run, "threads")), (3001, 3001, 2));
    assert_eq!((count(&run, "connections_opened"), server.connections()), (5, 5));
}

#[test]
fn urls_are_requested_in_rotation_with_what_was_asked_for() {
    let _beside = beside_others();
    let seen = Arc::new(Mutex::new(vec![]));
    let server = Server::start({
        let seen = Arc::clone(&seen);
        move |request| {
            seen.lock().unwrap().push((request.target.clone(), request.head.clone()));
            Act::Answer("HTTP/1.1 204 No Content\r\n\r\n".into())
        }
    });
    let (a, b, c) = (server.url() + "a", server.url() + "b?c=d", server.url() + "e");
    let arguments = ["-c", "1", "-n", "6", "-X", "DELETE", "-H", "X-One: 1", "-H", "Host: elsewhere"];
    load(&a, &[&[b.as_str(), &c], &arguments[..]].concat());
    let seen = seen.lock().unwrap();
    let targets: Vec<&str> = seen.iter().map(|(target, _)| target.as_str()).collect();
    assert_eq!(targets, ["/a", "/b?c=d", "/e", "/a", "/b?c=d", "/e"]);
    assert_eq!(seen[0].1, "DELETE /a HTTP/1.1\r\nHost: elsewhere\r\nX-One: 1\r\n\r\n");
}

#[test]
fn every_form_of_answer_is_read_to_its_end() {
    let _beside = beside_others();
    let server = Server::start(|request| match request.number % 5 {
        0 => Act::Answer(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nTrailer: x\r\n\r\n".into(),
        ),
        1 => Act::Answer(format!(
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}"
        )),
        2 => Act::Answer("HTTP/1.1 204 No Content\r\n\r\n".into()),
        3 => Act::Answer(format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000))),
        _ => Act::Last(format!("HTTP/1.1 200 OK\r\n\r\n{}", "y".repeat(100_000))),
    });
    let run = load(&server.url(), &["-c", "1", "-n", "50"]);
    assert_eq!((count(&run, "status_2xx"), count(&run, "errors"), server.requests()), (50, 0, 50));
    assert_eq!((count(&run, "connections_opened"), server.connections()), (10, 10));
}

#[test]
fn answers_to_head_have_no_content() {
    let _beside = beside_others();
    let server = Server::always("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
    let run = load(&server.url(), &["-c", "2", "-n", "20", "-X", "HEAD"]);
    assert_eq!((count(&run, "status_2xx"), count(&run, "errors"), server.connections()), (20, 0, 2));
}

#[test]
fn content_arrives_as_it_was_given() {
    let _beside = beside_others();
    let file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..3_000_000u32).map(|octet| (octet % 251) as u8).collect();
    std::fs::write(file.path(), &content).unwrap();
    let path = file.path().to_str().unwrap();
    let table: [(&[&str], Vec<u8>); 4] = [
        (&["--body", path], content.clone()),
        (&["--body", path, "--chunked", "-p", "2"], content),
        (&["--body", "a text", "-X", "PUT"], b"a text".to_vec()),
        (&["--body", "a text", "--chunked"], b"a text".to_vec()),
    ];
    for (arguments, content) in table {
        let server = Server::start(move |request| {
            assert!(request.content == content, "{} octets of {}", request.content.len(), content.len());
            Act::Answer(OK.into())
        });
        let run = load(&server.url(), &[&["-c", "2", "-n", "10"], arguments].concat());
        assert_eq!((count(&run, "status_2xx"), count(&run, "errors"), server.requests()), (10, 0, 10));
        assert_eq!(count(&run, "bytes_sent"), server.counted.received.load(Ordering::SeqCst));
    }
}

#[test]
fn connections_are_replaced_after_so_many_requests() {
    let _beside = beside_others();
    let server = Server::always(OK);
    let run = load(&server.url(), &["-c", "4", "-n", "200", "--requests-per-connection", "10", "-p", "3"]);
    assert_eq!((count(&run, "status_2xx"), count(&run, "errors")), (200, 0));
    // one that nothing is sent on may be accepted when all is over
    let deadline = Instant::now() + PATIENCE;
    while server.connections() != count(&run, "connections_opened") {
        assert!(Instant::now() < deadline, "{} of {run}", server.connections());
        thread::sleep(Duration::from_millis(5));
    }
    // four may be left with fewer
    assert!((20..=23).contains(&server.connections()), "{}", server.connections());
}

#[test]
fn requests_behind_an_answer_that_closes_are_sent_again() {
    let _beside = beside_others();
    let server =
        Server::start(
            |request| if request.number == 2 { Act::Last(LAST.into()) } else { Act::Answer(OK.into()) },
        );
    let run = load(&server.url(), &["-c", "1", "-n", "60", "-p", "8"]);
    assert_eq!((count(&run, "status_2xx"), count(&run, "errors"), server.requests()), (60, 0, 60));
    assert_eq!(count(&run, "requests"), 60, "each once, however often it was sent");
    assert_eq!((count(&run, "connections_opened"), server.connections()), (20, 20));
}

#[test]
fn a_unix_socket_is_loaded_like_any_other() {
    let _beside = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let counted = Arc::new(Counted::default());
    let counts = Arc::clone(&counted);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, counts) = (stream.unwrap(), Arc::clone(&counts));
            thread::spawn(move || {
                let act = |request: &Request| {
                    assert_eq!(
                        (request.target.as_str(), request.head.contains("Host: localhost\r\n")),
                        ("/a?b", true)
                    );
                    Act::Answer(OK.into())
                };
                serve(&stream, 0, &act, &counts)
            });
        }
    });
    let run = load(&format!("http://unix:{}:/a?b", path.display()), &["-c", "4", "-n", "100"]);
    assert_eq!((count(&run, "status_2xx"), counted.requests.load(Ordering::SeqCst)), (100, 100));
}

#[test]
fn the_warm_up_is_not_recorded() {
    timed(|alone| {
        let server = Server::always(OK);
        let run = load(&server.url(), &["-c", "2", "-r", "200", "--warmup", "500ms", "-d", "500ms"]);
        assert_eq!((count(&run, "requests"), count(&run, "status_2xx"), server.requests()), (100, 100, 200));
        assert_eq!(count(&run, "connections_opened"), 2, "those that are open when it ends");
        alone.expect_near(run["duration"].as_f64().unwrap(), 0.5, 0.2);
        let run = load(&server.url(), &["-c", "2", "-n", "50", "--warmup", "200ms"]);
        assert_eq!((count(&run, "requests"), count(&run, "status_2xx")), (50, 50));
        assert!(server.requests() >= 250);
    });
}

// ---- latencies ----

fn delayed(delay: Duration) -> Server {
    Server::start(move |_| {
        thread::sleep(delay);
        Act::Answer(OK.into())
    })
}

#[test]
fn in_a_closed_loop_latency_is_the_servers_delay() {
    timed(|alone| {
        let server = delayed(Duration::from_millis(20));
        let run = load(&server.url(), &["-c", "4", "-d", "1s"]);
        for name in ["min", "p50"] {
            alone.expect_between(latency(&run, "latency", name), 0.02, 0.04);
        }
        // four connections, each always with one request
        let at_once = run["rps"].as_f64().unwrap() * latency(&run, "latency", "mean");
        alone.expect_near(at_once, 4.0, 0.4);
        assert_eq!((&run["latency_from"], run["service"].is_null()), (&"send".into(), true));
    });
}

#[test]
fn at_a_rate_below_capacity_latency_is_the_servers_delay() {
    timed(|alone| {
        let server = delayed(Duration::from_millis(20));
        let arguments = ["-c", "16", "-t", "2", "-d", "1s", "-r", "300", "--json", "-"];
        let said = run(&[&[server.url().as_str()], &arguments[..], &PATIENT].concat());
        let run = said.json();
        let expected = format!("GET {}: 300 requests/s as asked for ", server.url());
        alone.expect_is_reached(&said, &run, &expected);
        assert_eq!(
            (count(&run, "requests"), server.requests(), count(&run, "unanswered_in_latency")),
            (300, 300, 0)
        );
        for kind in ["latency", "service"] {
            alone.expect_between(latency(&run, kind, "p50"), 0.02, 0.04);
        }
        assert_eq!(run["latency_from"], "intended start");
    });
}

#[test]
fn a_rate_is_reached_though_one_answer_takes_longer_than_the_run() {
    timed(|alone| {
        let server = Server::start(|request| {
            if (request.connection, request.number) == (0, 3) {
                thread::sleep(Duration::from_millis(1500));
            }
            Act::Answer(OK.into())
        });
        let arguments = ["-c", "4", "-d", "1s", "-r", "100", "--json", "-"];
        let said = run(&[&[server.url().as_str()], &arguments[..], &PATIENT].concat());
        let run = said.json();
        assert_eq!((count(&run, "requests"), count(&run, "status_2xx")), (100, 100));
        alone.expect_between(run["duration"].as_f64().unwrap(), 1.4, 1.8);
        alone.expect_is_reached(&said, &run, &format!("GET {}: 100 requests/s as asked for ", server.url()));
    });
}

#[test]
fn at_a_rate_above_capacity_waiting_counts_and_the_rate_is_the_true_one() {
    timed(|alone| {
        // one connection answers 50 a second of 100: the nth request is due at 10 n ms and answered at 20 (n + 1) ms
        let begin = OnceLock::new();
        let server = Server::start(move |request| {
            let time = Duration::from_millis(20) * (request.number as u32 + 1);
            // by the clock, so that a machine which is late once catches up
            thread::sleep(time.saturating_sub(begin.get_or_init(Instant::now).elapsed()));
            Act::Answer(OK.into())
        });
        let arguments = ["-c", "1", "-d", "1s", "-r", "100", "--json", "-"];
        let said = run(&[&[server.url().as_str()], &arguments[..], &PATIENT].concat());
        let run = said.json();
        assert!(said.stderr.starts_with("RATE NOT REACHED: "), "{}", said.stderr);
        assert_eq!((count(&run, "requests"), count(&run, "status_2xx"), server.requests()), (100, 100, 100));
        let waited = |nth: f64| (nth + 1.0) * 0.02 - nth * 0.01;
        alone.expect_near(latency(&run, "service", "mean"), 0.02, 0.002);
        for (name, nth) in [("p50", 50.0), ("p75", 75.0), ("p90", 90.0), ("max", 99.0)] {
            alone.expect_near(latency(&run, "latency", name), waited(nth), 0.1);
        }
        alone.expect_between(latency(&run, "service", "max"), 0.02, 0.2);
        let duration = run["duration"].as_f64().unwrap();
        alone.expect_near(duration, 2.0, 0.1);
        assert_near(run["rps"].as_f64().unwrap(), 100.0 / duration, 0.1);
    });
}

#[test]
fn what_can_never_be_sent_counts_with_what_it_has_waited() {
    timed(|alone| {
        // 5 answers a second of 50, and two seconds to catch up: 50 are due, 14 or 15 are answered
        let server = delayed(Duration::from_millis(200));
        let run = load(&server.url(), &["-c", "1", "-d", "1s", "-r", "50", "--timeout", "2s"]);
        let (answered, lost) = (count(&run, "status_2xx"), error(&run, "timeout"));
        assert_eq!(answered + lost, 50);
        alone.expect_near(answered as f64, 14.0, 2.0);
        // they were due at every moment of the second, the last one two seconds before the end
        alone.expect_near(latency(&run, "latency", "p50"), 2.25, 0.25);
        alone.expect_near(latency(&run, "latency", "max"), 2.7, 0.2);
        // they are in the latencies and no answers
        assert_eq!(count(&run, "unanswered_in_latency"), lost);
        let seconds = run["timeline"].as_array().unwrap();
        let told = seconds
            .iter()
            .map(|second| second["rps"].as_f64().unwrap() * second["seconds"].as_f64().unwrap());
        assert_near(told.sum(), answered as f64, 1e-6);
    });
}

#[test]
fn what_is_sent_and_not_answered_in_time_counts_with_what_it_has_waited() {
    timed(|alone| {
        // every fourth request of a connection is swallowed with the connection
        let server =
            Server::start(|request| if request.number == 3 { Act::Silence } else { Act::Answer(OK.into()) });
        // ten connections answer three each of the forty, and swallow the fourth
        let arguments = ["-c", "10", "-d", "1s", "-r", "40", "--timeout", "2s"];
        let run = load(&server.url(), &arguments);
        let (answered, lost) = (count(&run, "status_2xx"), error(&run, "timeout"));
        assert!(lost > 0, "{run}");
        assert_eq!((answered + lost, count(&run, "unanswered_in_latency")), (40, lost));
        let is_as_expected = (count(&run, "requests"), lost) == (40, 10);
        alone.expect(is_as_expected, format_args!("40 were not sent, or 10 not lost: {run}"));
        alone.expect_near(latency(&run, "latency", "max"), 2.05, 0.15);
        alone.expect_between(latency(&run, "service", "max"), 0.0, 0.3);
        let closed = load(&server.url(), &["-c", "1", "-n", "8", "--timeout", "2s"]);
        alone.expect(error(&closed, "timeout") == 2, format_args!("not two timed out: {closed}"));
        // a closed loop tells of answers
        assert_eq!(count(&closed, "unanswered_in_latency"), 0);
        alone.expect_between(latency(&closed, "latency", "max"), 0.0, 0.3);
    });
}

#[test]
fn a_rate_beyond_all_reach_ends_as_soon_as_any() {
    timed(|alone| {
        let server = delayed(Duration::from_millis(20));
        let said = run(&[&server.url(), "-c", "1", "-d", "1s", "-r", "1e9", "--json", "-"]);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        let run = load(&server.url(), &["-c", "1", "-d", "1s", "-r", "1000000000", "--timeout", "1s"]);
        assert_eq!(error(&run, "timeout") + count(&run, "status_2xx"), 1_000_000_000);
        alone.expect_near(latency(&run, "latency", "p50"), 1.5, 0.1);
    });
}

/// Answers at once, but for one second that begins one second after the first request.
fn stalling() -> Server {
    let begin = OnceLock::new();
    Server::start(move |_| {
        let since = begin.get_or_init(Instant::now).elapsed();
        let (from, to) = (Duration::from_secs(1), Duration::from_secs(2));
        if since >= from && since < to {
            thread::sleep(to - since);
        }
        Act::Answer(OK.into())
    })
}

#[test]
fn a_stall_cannot_hide_in_an_open_loop() {
    timed(|alone| {
        let run = load(&stalling().url(), &["-c", "8", "-d", "3s", "-r", "500"]);
        assert_eq!(count(&run, "status_2xx"), 1500);
        // 500 of 1500 are due within the stall and wait for its end: from 1 s down to nothing, evenly
        alone.expect_between(latency(&run, "latency", "p50"), 0.0, 0.05);
        alone.expect_near(latency(&run, "latency", "p75"), 0.25, 0.1);
        alone.expect_near(latency(&run, "latency", "p90"), 0.7, 0.1);
        alone.expect_near(latency(&run, "latency", "p99"), 0.97, 0.1);
        alone.expect_near(latency(&run, "latency", "max"), 1.0, 0.1);
        // only those that were on their way had been sent
        alone.expect_between(latency(&run, "service", "p99"), 0.0, 0.1);
        alone.expect_gap_is_the_stall(&run);
    });
}

#[test]
fn a_closed_loop_sees_of_a_stall_what_is_on_its_way() {
    timed(|alone| {
        let run = load(&stalling().url(), &["-c", "8", "-d", "3s"]);
        // 8 of thousands, unless the machine is slow
        if count(&run, "responses") > 2000 {
            alone.expect_between(latency(&run, "latency", "p99"), 0.0, 0.1);
        }
        alone.expect_near(latency(&run, "latency", "max"), 1.0, 0.1);
        alone.expect_gap_is_the_stall(&run);
    });
}

// ---- errors ----

#[test]
fn lost_requests_are_counted_by_what_took_them() {
    let _beside = beside_others();
    type Loss = (&'static str, &'static str, fn() -> Act);
    let table: [Loss; 5] = [
        ("closed_early", "10s", || Act::Close),
        ("reset", "10s", || Act::Reset),
        ("timeout", "2s", || Act::Silence),
        ("malformed", "10s", || Act::Last("SSH-2.0-Not_HTTP\r\n".into())),
        ("status", "10s", || Act::Answer("HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n".into())),
    ];
    for (kind, timeout, act) in table {
        let server = Server::start(
            move |request| if request.number % 5 == 4 { act() } else { Act::Answer(OK.into()) },
        );
        let run = load(&server.url(), &["-c", "1", "-n", "20", "--timeout", timeout]);
        assert_eq!((count(&run, "errors"), error(&run, kind), server.requests()), (4, 4, 20), "{kind}");
        assert_eq!(
            (count(&run, "status_2xx"), count(&run, "status_5xx") > 0),
            (16, kind == "status"),
            "{kind}"
        );
        assert_eq!(count(&run, "connections_opened"), if kind == "status" { 1 } else { 4 }, "{kind}");
        assert!(run["errors_by_kind"][kind]["first_at"].as_f64().unwrap() < 10.0, "{kind}");
    }
}

#[test]
fn a_server_that_is_gone_for_a_while_is_waited_for_without_haste() {
    timed(|alone| {
        let server = Server::start(|request| {
            // its connections end with the listener
            if request.connection < 2 && request.number == 3 { Act::Close } else { Act::Answer(OK.into()) }
        });
        // a proxy in front of it can go away and come back
        let proxy = own_listener();
        let (address, behind) = (proxy.local_addr().unwrap(), server.address);
        thread::spawn(move || {
            let streams: Vec<TcpStream> = (0..2).map(|_| proxy.accept().unwrap().0).collect();
            drop(proxy);
            let pipes: Vec<_> = streams.into_iter().flat_map(|stream| pipe(stream, behind)).collect();
            pipes.into_iter().for_each(|pipe| pipe.join().unwrap());
            thread::sleep(Duration::from_millis(700));
            let listener = TcpListener::bind(address).unwrap();
            listener.incoming().for_each(|stream| drop(pipe(stream.unwrap(), behind)));
        });
        let run = load(&format!("http://{address}/"), &["-c", "2", "-r", "100", "-d", "2s"]);
        assert_eq!((error(&run, "closed_early"), count(&run, "status_2xx")), (2, 198));
        // pauses of 0, 1, 2, 4 ... 100 ms: 14 attempts in 700 ms
        alone.expect_near(error(&run, "refused") as f64, 25.0, 15.0);
        // unless one of the two is so late that the other does it all
        alone.expect(
            count(&run, "connections_opened") == 4,
            format_args!("not two and two were opened: {run}"),
        );
        // what was due meanwhile has waited
        alone.expect_near(latency(&run, "latency", "max"), 0.75, 0.2);
        alone.expect_between(latency(&run, "service", "max"), 0.0, 0.2);
    });
}

/// Passes octets on in both directions.
fn pipe(client: TcpStream, behind: SocketAddr) -> [thread::JoinHandle<()>; 2] {
    let server = TcpStream::connect(behind).unwrap();
    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)].map(
        |(mut from, mut to)| {
            from.set_nodelay(true).unwrap();
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            })
        },
    )
}

#[test]
fn a_server_that_never_succeeds_is_told_in_one_line() {
    let _beside = beside_others();
    let table = [
        (format!("http://{}/", nobody()), "connection refused (is the server up?)"),
        (Server::start(|_| Act::Close).url(), "closes connections without an answer"),
        (Server::start(|_| Act::Reset).url(), "resets connections without an answer"),
        (
            Server::start(|_| Act::Last("SSH-2.0-x\r\n".into())).url(),
            "no HTTP/1.1 answer: not HTTP/1.0 or HTTP/1.1: \"SSH-2.0-x\\r\\n\"",
        ),
        (
            Server::start(|_| Act::Last("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".into())).url(),
            "without an answer",
        ),
        (Server::start(|_| Act::Silence).url(), "no answer within 1s"),
        ("http://unix:/no/such/socket:/".into(), "no such socket"),
        ("http://no-such-host.invalid/".into(), "cannot resolve no-such-host.invalid"),
        ("https://127.0.0.1/".into(), "https is not supported"),
        ("127.0.0.1:80".into(), "a URL begins with http://"),
    ];
    for (url, expected) in table {
        // where an answer comes, it may come late
        let timeout = if expected == "no answer within 1s" { "1s" } else { PATIENT[1] };
        for arguments in [&["-d", "600ms"][..], &["-r", "50", "-n", "12"]] {
            let said = run(&[&[url.as_str(), "-c", "3", "--timeout", timeout], arguments].concat());
            assert_eq!(said.code, Some(1), "{url}: {}", said.stderr);
            assert!(said.line().contains(expected), "{}", said.stderr);
            assert!(said.line().contains(&url), "{}", said.stderr);
        }
    }
}

#[test]
fn a_run_without_a_2xx_is_reported_and_fails() {
    let _beside = beside_others();
    let server = Server::always("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let said = run(&[&server.url(), "-n", "10", "-c", "1", "--json", "-"]);
    let run = said.json();
    assert_eq!((said.code, error(&run, "status"), count(&run, "status_4xx")), (Some(1), 10, 10));
    assert_eq!(run["rps"].as_f64(), Some(0.0));
}

#[test]
fn wrong_usage_is_told_before_anything_is_sent() {
    let _beside = beside_others();
    let server = Server::always(OK);
    let url = &server.url();
    // nobody may have more open files than this, root neither
    let most: u64 = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse().unwrap();
    let (too_many, files) = (most.to_string(), format!("{most} connections need {} open files", most + 64));
    let table: [(&[&str], &str); 9] = [
        (&["-H", "no colon"], "'Name: value'"),
        (&["-H", "Content-Length: 1"], "follows from --body"),
        (&["-X", "G T"], "not a method"),
        (&["--chunked"], "--body"),
        (&["--body", "@/no/such/file"], "No such file"),
        (&["http://127.0.0.2/"], "one run loads one server"),
        (&["--json", "/no/such/folder/x"], "/no/such/folder/x"),
        (&["--hlog", "/no/such/folder/x"], "/no/such/folder/x"),
        (&["-c", &too_many], &files),
    ];
    for (arguments, expected) in table {
        let said = run(&[&[url.as_str()], arguments].concat());
        assert_eq!(said.code, Some(1), "{arguments:?}: {}", said.stderr);
        assert!(said.line().contains(expected), "{}", said.stderr);
    }
    for arguments in [&["-d", "0"][..], &["-r", "0"], &["--no-such-option"]] {
        let said = run(&[&[url.as_str()], arguments].concat());
        assert_eq!(said.code, Some(2), "{arguments:?}");
        assert!(said.line().contains(arguments[0]), "{}", said.stderr);
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn the_descriptor_limit_is_raised_for_the_connections() {
    let _beside = beside_others();
    let server = Server::always(OK);
    // so many that they are not all answered before the last connection is open, should uringload begin without it
    let script = format!("ulimit -Sn 40; exec \"$0\" {} -c 100 -n 2000 --json -", server.url());
    let mut shell = bare_command(Path::new("/bin/sh"));
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_uringload")]).stdout(Stdio::piped());
    let said = finish(shell.spawn().unwrap());
    assert_eq!((said.code, count(&said.json(), "connections_opened")), (Some(0), 100), "{}", said.stderr);
}

#[test]
fn on_a_terminal_a_line_tells_how_it_goes() {
    let _beside = beside_others();
    let server = Server::always(OK);
    let command = format!("'{}' {} -c 2 -d 2s", env!("CARGO_BIN_EXE_uringload"), server.url());
    // a pseudo-terminal is what it writes to; what is written there comes out of script(1)
    let mut script = bare_command(Path::new("script"));
    script.args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"]);
    let Ok(child) = script.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped()).spawn() else {
        return common::skip("there is no `script` here (Debian's bsdutils has it)");
    };
    let said = finish(child);
    assert_eq!(said.code, Some(0), "{}", said.stdout);
    // each is drawn over the one before
    let (progress, summary) = said.stdout.split_once("GET http://").expect("the summary");
    let tells =
        |line: &str| ["/2s ", "/s  p50 ", "  p99 ", "  errors 0"].iter().all(|what| line.contains(what));
    assert!(progress.split('\r').any(tells), "{progress}");
    assert!(summary.contains("answers/s (2xx)"), "{summary}");
    // and elsewhere there is nothing of it
    let run = run(&[&server.url(), "-c", "2", "-d", "1s"]);
    assert!(!format!("{}{}", run.stdout, run.stderr).contains('\r'), "{}", run.stderr);
}

#[test]
fn a_run_is_told_in_every_form_that_is_asked_for() {
    let _beside = beside_others();
    let (server, folder) = (Server::always(OK), tempfile::tempdir().unwrap());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, hgrm, hlog, html) = (file("a.json"), file("a.hgrm"), file("a.hlog"), file("a.html"));
    let url = server.url();
    let outputs = ["--json", &json, "--hgrm", &hgrm, "--hlog", &hlog, "--html", &html];
    let said = run(&[&[url.as_str(), "-n", "100", "-t", "2", "-c", "4"], &outputs[..]].concat());
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert!(said.stdout.contains("100"), "{}", said.stdout);
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&read(&json)).unwrap()["status_2xx"], 100);
    assert!(read(&hgrm).contains("Percentile") && read(&html).contains("<svg"));
    // the same unit in both: microseconds
    let told: Value = serde_json::from_str(&read(&json)).unwrap();
    let max = format!(
        "#[Max     = {:>12}, Total count    =          100]",
        format!("{}.000", told["latency"]["max"])
    );
    assert!(read(&hgrm).contains(&max), "{max}: {}", read(&hgrm));
    assert!(read(&hlog).contains("Tag=thread-0,") && read(&hlog).contains("Tag=thread-1,"));
    let both = file("both.html");
    let report = run(&["report", &json, &json, "--html", &both]);
    assert_eq!(report.code, Some(0), "{}", report.stderr);
    assert!(read(&both).contains("<svg") && !report.stdout.is_empty());
    assert_eq!(run(&["report", &html]).code, Some(1));
}

#[test]
fn a_failed_run_leaves_the_reports_of_the_last_one() {
    let _beside = beside_others();
    let (server, folder) = (Server::always(OK), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, hgrm, html) = (path("a.json"), path("a.hgrm"), path("a.html"));
    let outputs = ["-n", "10", "-c", "1", "--json", &json, "--hgrm", &hgrm, "--html", &html];
    let files = || [&json, &hgrm, &html].map(|path| std::fs::read_to_string(path).unwrap());
    let url = server.url();
    assert_eq!(run(&[&[url.as_str()], &outputs[..]].concat()).code, Some(0));
    let before = files();
    let failed = run(&[&[format!("http://{}/", nobody()).as_str()], &outputs[..]].concat());
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(files() == before && std::fs::read_dir(folder.path()).unwrap().count() == 3);
}

#[test]
fn without_a_free_local_port_it_says_so_at_once() {
    let _beside = beside_others();
    // a network of its own, in which there is no port to be had
    let settings = "cd /proc/sys/net/ipv4 && echo 40000 40000 > ip_local_port_range && \
                    echo 40000 > ip_local_reserved_ports && ip link set lo up";
    let inside = |script: &str| {
        let mut unshare = bare_command(Path::new("unshare"));
        unshare.args(["--user", "--map-root-user", "--net", "sh", "-c", script]);
        unshare.arg(env!("CARGO_BIN_EXE_uringload")).stdout(Stdio::piped());
        unshare
    };
    if !inside(settings).output().is_ok_and(|output| output.status.success()) {
        return common::skip("no network namespace can be set up here");
    }
    for load in ["-c 64", "-c 1000 -t 2 -r 50"] {
        // it waits for neither of the two
        let script = format!("{settings} && exec \"$0\" http://127.0.0.1:9/ {load} -d 1h --timeout 1h");
        let said = finish(inside(&script).spawn().unwrap());
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(said.line().contains("no free local port"), "{}", said.stderr);
    }
}

#[test]
fn an_interrupted_run_says_what_there_is() {
    let _beside = beside_others();
    for signal in ["INT", "TERM"] {
        let server = delayed(Duration::from_millis(1));
        let child = spawn(&[&server.url(), "-c", "2", "-d", "60s", "--json", "-"]);
        let deadline = Instant::now() + PATIENCE;
        while server.requests() < 100 {
            assert!(Instant::now() < deadline, "no load");
            thread::sleep(Duration::from_millis(5));
        }
        common::kill(child.id() as i32, signal);
        let said = finish(child);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let (run, seen) = (said.json(), server.requests());
        assert!((90..=seen).contains(&count(&run, "status_2xx")), "{run}");
        assert!(run["duration"].as_f64().unwrap() < 60.0 && count(&run, "errors") == 0);
    }
}

#[test]
fn a_run_that_only_a_number_ends_gives_up_a_server_that_is_gone() {
    let _beside = beside_others();
    // one connection, and then nobody listens any more
    let listener = own_listener();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        drop(listener);
        let act = |request: &Request| if request.number < 5 { Act::Answer(OK.into()) } else { Act::Close };
        serve(&stream, 0, &act, &Counted::default())
    });
    let run = load(&url, &["-c", "1", "-n", "100", "--timeout", "2s"]);
    assert_eq!((count(&run, "status_2xx"), error(&run, "closed_early")), (5, 1));
    assert!(error(&run, "refused") > 1, "{run}");
}
