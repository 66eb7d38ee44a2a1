//! `Server`, a worker without a master in somebody's process: it serves like one, ends when it is told to and then
//! returns, and leaves the process as it was.

mod common;

use common::{Client, PATIENCE, own_address, status_field};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use uringd::config::options::{Pin, Workers};
use uringd::config::{AccessLog, Control, Listen, OnPanic, Options};
use uringd::{
    Error, Files, Handler, Promise, Reply, Request, Response, RingRefusal, Server, Status, StopHandle,
};

/// A server on a thread of its own.
struct Running {
    address: Listen,
    stop: StopHandle,
    thread: JoinHandle<uringd::Result<()>>,
}

impl Running {
    fn start(handler: impl Handler + Send) -> Running {
        Running::of(Server::bind("127.0.0.1:0").unwrap(), handler)
    }

    fn of(server: Server, handler: impl Handler + Send) -> Running {
        let (address, stop) = (server.local_addr(), server.stop_handle());
        Running { address, stop, thread: thread::spawn(move || server.serve(handler)) }
    }

    fn connect(&self) -> Client {
        Client::connect(self.address.socket_addr().unwrap())
    }

    /// Waits for `serve` to return.
    fn result(self) -> uringd::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.thread.is_finished() {
            assert!(Instant::now() < deadline, "`serve` does not return");
            thread::sleep(Duration::from_millis(5));
        }
        self.thread.join().expect("no panic")
    }

    fn stop(self) {
        self.stop.stop();
        self.result().unwrap();
    }
}

/// The handler has had enough of the body, and works for longer than the client would have had for the rest.
#[test]
fn a_client_is_not_timed_out_over_content_that_nobody_takes() {
    let settings =
        Options { body_timeout: Duration::from_millis(300), body_rate: 1000, ..options(&["127.0.0.1:0"]) };
    let running = Running::of(
        Server::with_options(&settings).unwrap(),
        uringd::InPieces(|request: &Request<'_>| {
            let mut pieces = request.pieces();
            Reply::later(async move {
                let first = pieces.next().await;
                drop(pieces);
                uringd::sleep(Duration::from_millis(900)).await;
                first
                    .map(|piece| piece.map(Response::bytes))
                    .transpose()
                    .map(|piece| piece.ok_or(Status::BAD_REQUEST))
            })
        }),
    );
    let mut client = running.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nabc");
    let answer = client.read_answer().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "abc".to_owned()));
    running.stop();
}

fn options(listen: &[&str]) -> Options {
    let listen = listen.iter().map(|address| address.parse().unwrap()).collect();
    Options { listen, ..Options::default() }
}

fn drains_for(time: Duration) -> Server {
    Server::with_options(&Options { kill_timeout: time, ..options(&[&own_port()]) }).unwrap()
}

/// Some port that nobody else takes when it is free again.
fn own_port() -> String {
    format!("{}:0", own_address())
}

fn is_refused(address: &Listen) -> bool {
    let refused = [ErrorKind::ConnectionRefused, ErrorKind::NotFound];
    match address {
        Listen::Unix(path) => UnixStream::connect(path).is_err_and(|error| refused.contains(&error.kind())),
        address => TcpStream::connect(address).is_err_and(|error| refused.contains(&error.kind())),
    }
}

/// Promises every answer and gives the promises to somebody else.
fn promising() -> (impl Handler + Send, mpsc::Receiver<Promise>) {
    let (give, take) = mpsc::channel();
    let handler = move |_: &Request<'_>| {
        let (promise, reply) = Reply::promise();
        give.send(promise).expect("the test takes it");
        reply
    };
    (handler, take)
}

#[test]
fn it_serves_in_the_calling_thread_until_it_is_stopped() {
    let server = Server::bind(own_port()).unwrap();
    let (address, stop) = (server.local_addr(), server.stop_handle());
    let here = thread::current().id();
    let client = thread::spawn(move || {
        let mut client = Client::connect(address.socket_addr().unwrap());
        let answers = [client.get("/a"), client.get("/b")].map(|answer| answer.text());
        drop(client);
        stop.stop();
        (answers, address)
    });
    let mut count = 0;
    server
        .serve(move |request: &Request<'_>| {
            assert_eq!(thread::current().id(), here);
            count += 1;
            Response::text(format!("{count} {}", request.path()))
        })
        .unwrap();
    let (answers, address) = client.join().unwrap();
    assert_eq!(answers, ["1 /a", "2 /b"]);
    assert!(is_refused(&address));
}

#[test]
fn it_listens_on_every_kind_of_address_and_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = format!("unix:{}", path.display());
    let server = Server::with_options(&options(&["127.0.0.1:0", &unix])).unwrap();
    let addresses = server.local_addrs();
    assert_eq!((&addresses[0], &addresses[1]), (&server.local_addr(), &Listen::Unix(path.clone())));
    let port = addresses[0].socket_addr().unwrap().port();
    assert_eq!(addresses[0].to_string(), format!("127.0.0.1:{port}"));
    assert!(port != 0 && addresses[1].socket_addr().is_none());
    let error = TcpStream::connect(&addresses[1]).unwrap_err();
    assert!(error.to_string().contains("UnixStream"), "{error}");
    let running = Running::of(server, |request: &Request<'_>| {
        Response::text(if request.peer().is_some() { "tcp" } else { "unix" })
    });
    assert_eq!(Client::over(TcpStream::connect(&running.address).unwrap()).get_and_close("/").text(), "tcp");
    assert_eq!(Client::connect_unix(&path).get_and_close("/").text(), "unix");
    running.stop();
    assert!(!path.exists(), "the socket's file is removed");
}

#[test]
fn it_listens_on_ipv6() {
    match Server::bind("[::1]:0") {
        Ok(server) => {
            let running = Running::of(server, |_: &Request<'_>| Response::text("six"));
            assert_eq!(running.connect().get_and_close("/").text(), "six");
            running.stop();
        }
        Err(error) => common::skip(&format!("this machine has no IPv6: {error}")),
    }
}

/// Each has its own loop, mailbox, promises and clock.
#[test]
fn servers_on_several_threads_serve_at_the_same_time() {
    let servers: Vec<_> = (0..4)
        .map(|number: u32| {
            let (give, take) = mpsc::channel::<(Promise, String)>();
            let keeper = thread::spawn(move || {
                // the last first: each server has several promises at a time
                let mut all: Vec<_> = take.iter().take(3).collect();
                while let Some((promise, text)) = all.pop() {
                    promise.keep(Response::text(text));
                }
            });
            let running = Running::start(move |request: &Request<'_>| {
                let text = format!("{number}{}", request.path());
                match request.path() {
                    "/later" => Reply::later(async move {
                        uringd::sleep(Duration::from_millis(20)).await;
                        Response::text(text)
                    }),
                    "/file" => Reply::later(async move {
                        let read = uringd::read_file("Cargo.toml").await;
                        read.map(|octets| format!("{text} {}", octets.len()))
                    }),
                    "/now" => Response::text(text).into(),
                    _ => {
                        let (promise, reply) = Reply::promise();
                        give.send((promise, text)).unwrap();
                        reply
                    }
                }
            });
            (number, running, keeper)
        })
        .collect();
    let mut clients: Vec<_> = servers
        .iter()
        .flat_map(|(number, running, _)| {
            ["/now", "/later", "/file", "/p1", "/p2", "/p3"]
                .map(|path| (format!("{number}{path}"), running.connect(), path))
        })
        .collect();
    for (_, client, path) in &mut clients {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }
    for (expected, client, _) in &mut clients {
        let text = client.read_answer().unwrap().text();
        let expected =
            expected.replace("/file", &format!("/file {}", fs::metadata("Cargo.toml").unwrap().len()));
        assert_eq!(text, expected);
    }
    drop(clients);
    for (_, running, keeper) in servers {
        running.stop();
        keeper.join().unwrap();
    }
}

#[test]
fn files_are_served_by_their_handler() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("small.txt"), "small").unwrap();
    fs::write(directory.path().join("large.bin"), vec![7; 3 << 20]).unwrap();
    let server = Server::bind("127.0.0.1:0").unwrap();
    let (address, stop) = (server.local_addr(), server.stop_handle());
    let root = directory.path().to_owned();
    let running = Running { address, stop, thread: thread::spawn(move || server.serve(Files::new(root))) };
    let mut client = running.connect();
    assert_eq!(client.get("/small.txt").text(), "small");
    assert!(client.get("/large.bin").body == vec![7; 3 << 20]);
    drop(client);
    running.stop();
}

#[test]
fn what_is_in_flight_when_it_stops_is_finished() {
    let (handler, promises) = promising();
    let running = Running::of(drains_for(2 * PATIENCE), handler);
    let mut client = running.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let promise = promises.recv_timeout(PATIENCE).unwrap();
    // two that are idle, of which one has still something to ask
    let (idle, mut late) = (running.connect(), running.connect());
    running.stop.stop();
    let deadline = Instant::now() + PATIENCE;
    while !is_refused(&running.address) {
        assert!(Instant::now() < deadline, "it still accepts");
    }
    late.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    promises.recv_timeout(PATIENCE).unwrap().keep(Response::text("late"));
    promise.keep(Response::text("promised"));
    for (mut client, expected) in [(client, "promised"), (late, "late")] {
        let answer = client.read_answer().unwrap();
        assert_eq!((answer.text(), answer.closes()), (expected.to_owned(), true));
    }
    drop(idle);
    running.result().unwrap();
}

/// Three that would never end: a promise that is not kept, a reply in an hour, a client that takes nothing.
#[test]
fn what_does_not_end_is_cut_at_the_kill_timeout() {
    let server = drains_for(Duration::from_millis(300));
    let (give, promises) = mpsc::channel();
    let running = Running::of(server, move |request: &Request<'_>| match request.path() {
        "/promise" => {
            let (promise, reply) = Reply::promise();
            give.send(Some(promise)).unwrap();
            reply
        }
        path => {
            give.send(None).unwrap();
            match path {
                "/hour" => Reply::later(async {
                    uringd::sleep(Duration::from_secs(3600)).await;
                    "too late"
                }),
                _ => Response::stream(std::iter::repeat_with(|| Ok(vec![1; 1 << 20].into()))).into(),
            }
        }
    });
    let mut clients = ["/promise", "/hour", "/endless"].map(|path| {
        let mut client = running.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        client
    });
    let promises = [0; 3].map(|_| promises.recv_timeout(PATIENCE).unwrap());
    running.stop();
    for client in &mut clients[..2] {
        // its end, or a reset: anything but an answer
        let got = client.read_to_end().unwrap_or_else(|_| client.take_unread());
        assert_eq!(got, b"");
    }
    let mut taken = vec![];
    let _ = clients[2].stream.read_to_end(&mut taken);
    assert!(!taken.ends_with(b"0\r\n\r\n"), "cut, not ended");
    // nobody is there any more: that harms nobody
    promises.into_iter().flatten().for_each(|promise| promise.keep(Response::text("too late")));
}

/// Says when it drains, and answers nothing but `/`.
struct Telling(mpsc::Sender<&'static str>);

impl Handler for Telling {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        self.0.send("request").unwrap();
        match request.path() {
            "/" => "hello".into(),
            _ => Reply::later(std::future::pending::<Response>()),
        }
    }

    fn before_drain(&mut self) {
        self.0.send("before").unwrap();
    }

    fn after_drain(&mut self) {
        self.0.send("after").unwrap();
    }
}

#[test]
fn its_handler_hears_of_the_drain_and_of_its_end_unless_it_is_cut() {
    for (path, time, expected) in [
        ("/", 2 * PATIENCE, &["request", "before", "after"][..]),
        ("/never", Duration::from_millis(300), &["request", "before"]),
    ] {
        let (say, heard) = mpsc::channel();
        let running = Running::of(drains_for(time), Telling(say));
        let mut client = running.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
        let first = heard.recv_timeout(PATIENCE).unwrap();
        running.stop();
        let all: Vec<_> = std::iter::once(first).chain(heard).collect();
        assert_eq!(all, expected, "{path}");
    }
}

#[test]
fn it_can_be_stopped_before_it_serves() {
    let server = Server::bind("127.0.0.1:0").unwrap();
    server.stop_handle().stop();
    // a client that has connected is answered all the same
    let mut client = Client::connect(server.local_addr().socket_addr().unwrap());
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    Running::of(server, |_: &Request<'_>| Response::text("last")).result().unwrap();
    assert_eq!(client.read_answer().unwrap().text(), "last");
}

#[test]
fn it_can_be_stopped_twice_and_by_its_own_handler() {
    // the answer was given before the drain began, and keeps its connection
    let server = drains_for(Duration::from_millis(300));
    let stop = server.stop_handle();
    let own = stop.clone();
    let running = Running::of(server, move |_: &Request<'_>| {
        own.stop();
        own.stop();
        Response::text("bye")
    });
    let mut client = running.connect();
    assert_eq!(client.get("/").text(), "bye");
    assert_eq!(client.read_to_end().unwrap(), b"", "it closes");
    running.result().unwrap();
    stop.stop();
}

#[test]
fn one_that_never_serves_closes_its_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("socket").display());
    let server = Server::with_options(&options(&[&own_port(), &unix])).unwrap();
    let (addresses, stop) = (server.local_addrs(), server.stop_handle());
    assert!(!addresses.iter().any(is_refused), "clients can connect before it serves");
    drop(server);
    assert!(addresses.iter().all(is_refused));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    stop.stop();
}

#[test]
fn servers_can_follow_each_other_on_one_thread_and_one_address() {
    let mut address = own_port();
    for round in 0..5 {
        let server = Server::bind(&address).unwrap();
        address = server.local_addr().to_string();
        let (address, stop) = (server.local_addr(), server.stop_handle());
        let client = thread::spawn(move || {
            let mut client = Client::connect(address.socket_addr().unwrap());
            let answer = client.get_and_close("/").text();
            stop.stop();
            answer
        });
        server
            .serve(move |_: &Request<'_>| {
                let (promise, reply) = Reply::promise();
                thread::spawn(move || promise.keep(Response::text(format!("round {round}"))));
                reply
            })
            .unwrap();
        assert_eq!(client.join().unwrap(), format!("round {round}"));
    }
}

#[test]
fn a_server_within_a_handler_of_another_does_not_disturb_it() {
    let running = Running::start(|request: &Request<'_>| {
        let inner = Server::bind("127.0.0.1:0").unwrap();
        inner.stop_handle().stop();
        inner.serve(|_: &Request<'_>| Response::text("inner")).unwrap();
        // what is waited for after it must still be the outer one's to bring
        match request.path() {
            "/promise" => {
                let (promise, reply) = Reply::promise();
                thread::spawn(move || promise.keep("promised"));
                reply
            }
            _ => Reply::later(async {
                uringd::sleep(Duration::from_millis(1)).await;
                "slept"
            }),
        }
    });
    assert_eq!(running.connect().get_and_close("/promise").text(), "promised");
    assert_eq!(running.connect().get_and_close("/sleep").text(), "slept");
    running.stop();
}

#[test]
fn an_address_that_cannot_be_had_is_an_error_that_says_so() {
    let first = Server::bind("127.0.0.1:0").unwrap();
    let taken = first.local_addr().to_string();
    let error = Server::bind(&taken).unwrap_err();
    assert!(matches!(&error, Error::AddressInUse { address, .. } if *address == taken), "{error}");
    let error = Server::bind("localhost").unwrap_err();
    assert!(matches!(&error, Error::Config { option, .. } if option == "bind(\"localhost\")"), "{error}");
}

#[test]
fn options_that_concern_a_whole_process_are_refused_by_name() {
    let user = || "www-data".parse().ok();
    let table = [
        ("--user www-data", Options { user: user(), ..options(&[]) }),
        ("--latency-log x.hlog", Options { latency_log: Some(PathBuf::from("x.hlog")), ..options(&[]) }),
        (
            "--latency-report x.hgrm",
            Options { latency_report: Some(PathBuf::from("x.hgrm")), ..options(&[]) },
        ),
        ("--pid-file /run/x", Options { pid_file: Some(PathBuf::from("/run/x")), ..options(&[]) }),
        ("--control ./c", Options { control: Control::Path("./c".into()), ..options(&[]) }),
        ("--metrics 127.0.0.1:9", Options { metrics: "127.0.0.1:9".parse().ok(), ..options(&[]) }),
        ("--on-giveup", Options { on_giveup: Some("true".to_owned()), ..options(&[]) }),
        ("--stall-timeout 1s", Options { stall_timeout: Duration::from_secs(1), ..options(&[]) }),
        ("--max-requests 7", Options { max_requests: Some(7), ..options(&[]) }),
        ("--max-lifetime 1h", Options { max_lifetime: Some(Duration::from_secs(3600)), ..options(&[]) }),
        ("--max-memory 1GiB", Options { max_memory: Some(1 << 30), ..options(&[]) }),
        ("--root site", Options { root: Some(PathBuf::from("site")), ..options(&[]) }),
        ("--on-panic abort", Options { on_panic: OnPanic::Abort, ..options(&[]) }),
        ("--workers 2", Options { workers: Workers::Count(2), ..options(&[]) }),
        ("--max-connections 0", Options { max_connections: Some(0), ..options(&[]) }),
    ];
    for (name, options) in table {
        let error = Server::with_options(&options).unwrap_err();
        assert!(matches!(&error, Error::Config { option, .. } if option == name), "{error}");
    }
    let server = Server::with_options(&Options { workers: Workers::Count(1), ..options(&["127.0.0.1:0"]) });
    assert!(server.is_ok(), "{server:?}");
}

#[test]
fn a_handler_that_could_not_be_made_is_an_error_with_its_causes() {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let error = server.serve(Files::new("/no/such/place")).unwrap_err();
    assert!(matches!(&error, Error::Factory { problem, .. } if problem.contains("No such file")), "{error}");
}

#[test]
fn a_ring_that_is_refused_is_an_error_that_names_the_remedy() {
    let arch = std::env::consts::ARCH.try_into().expect("an architecture that seccompiler knows");
    let rules = [(libc::SYS_io_uring_setup, vec![])].into_iter().collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    let program = BpfProgram::try_from(filter).unwrap();
    let server = Server::bind(own_port()).unwrap();
    let address = server.local_addr();
    // a filter is for its thread
    let refused = thread::spawn(move || {
        seccompiler::apply_filter(&program).unwrap();
        server.serve(|_: &Request<'_>| Response::text("never"))
    });
    let error = refused.join().unwrap().unwrap_err();
    assert!(matches!(error, Error::Ring(RingRefusal::Seccomp)), "{error}");
    assert!(is_refused(&address), "and its sockets are closed");
}

/// What the kernel knows of this process and thread that a worker process would change.
fn state_of_the_process() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let mut state: Vec<String> =
        ["comm", "cmdline", "limits"].map(|file| read(&format!("/proc/self/{file}"))).into();
    let status = read("/proc/thread-self/status");
    let fields =
        ["Name", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "Cpus_allowed_list", "NoNewPrivs"];
    for field in fields {
        let line = status.lines().find(|line| line.starts_with(&format!("{field}:")));
        state.push(line.unwrap_or_default().to_owned());
    }
    state.push(format!("{:?}", nix::sys::prctl::get_pdeathsig()));
    state.push(format!("a log: {}", tracing::dispatcher::has_been_set()));
    state
}

#[test]
fn it_writes_its_access_log_to_the_end_whatever_was_cut() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let with_log = |kill_timeout| {
        let access_log = Some(AccessLog::File(log.clone()));
        Server::with_options(&Options { access_log, kill_timeout, ..options(&["127.0.0.1:0"]) })
    };
    let (handler, promised) = promising();
    let server = Running::of(with_log(Duration::from_millis(300)).unwrap(), handler);
    let mut clients = [(); 3].map(|()| server.connect());
    clients[0].send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    promised.recv_timeout(PATIENCE).unwrap().keep(Response::text("kept"));
    clients[0].read_answer().unwrap();
    // one that is not answered, and one whose client has not taken all of it
    clients[1].send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    let never = promised.recv_timeout(PATIENCE).unwrap();
    clients[2].send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    promised.recv_timeout(PATIENCE).unwrap().keep(Response::bytes(vec![0; 100_000_000]));
    clients[2].read_head().unwrap();
    server.stop();
    drop(never);
    let text = fs::read_to_string(&log).unwrap();
    let mut told: Vec<_> = text.lines().map(|line| line.split_once("] ").unwrap().1).collect();
    told.sort_unstable();
    assert_eq!(told[0], "\"GET / HTTP/1.1\" 200 4 \"-\" \"-\"");
    assert_eq!(told[1], "\"GET /1 HTTP/1.1\" 000 0 \"-\" \"-\"");
    let octets: u32 =
        told[2].strip_prefix("\"GET /2 HTTP/1.1\" 200 ").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((1..100_000_000).contains(&octets), "{told:?}");
    assert_eq!(told.len(), 3);
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    let error = with_log(Duration::from_secs(1)).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot open the access log {}", log.display())), "{error}");
}

#[test]
fn it_leaves_the_process_and_its_thread_as_they_are() {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let (address, stop) = (server.local_addr(), server.stop_handle());
    let before = state_of_the_process();
    let client = thread::spawn(move || {
        let mut client = Client::connect(address.socket_addr().unwrap());
        let during = client.get_and_close("/").text();
        stop.stop();
        during
    });
    server.serve(|_: &Request<'_>| Response::text(state_of_the_process().join("\n"))).unwrap();
    assert_eq!(client.join().unwrap(), before.join("\n").trim_end());
    assert_eq!(state_of_the_process(), before);
}

#[test]
fn it_is_pinned_when_a_core_is_named() {
    let allowed = status_field(std::process::id() as i32, "Cpus_allowed_list").unwrap();
    let last: usize = allowed.rsplit([',', '-']).next().unwrap().parse().unwrap();
    let server =
        Server::with_options(&Options { pin: Pin::Cores(vec![last]), ..options(&["127.0.0.1:0"]) }).unwrap();
    let running = Running::of(server, |_: &Request<'_>| {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        Response::text(line.trim().to_owned())
    });
    assert_eq!(running.connect().get_and_close("/").text(), last.to_string());
    running.stop();
}

#[test]
fn a_panic_answers_500_and_the_server_goes_on() {
    let mut count = 0;
    let running = Running::start(move |request: &Request<'_>| {
        count += 1;
        assert_ne!(request.path(), "/panic", "on purpose");
        Response::text(format!("request {count}"))
    });
    let mut client = running.connect();
    for round in [1, 3, 5] {
        assert_eq!(client.get("/").text(), format!("request {round}"));
        assert_eq!(client.get("/panic").status, 500);
    }
    let mut pipelined = running.connect();
    let requests = ["/", "/panic", "/"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    pipelined.stream.write_all(requests.concat().as_bytes()).unwrap();
    assert_eq!([0; 3].map(|_| pipelined.read_answer().unwrap().status), [200, 500, 200]);
    drop((client, pipelined));
    running.stop();
}
