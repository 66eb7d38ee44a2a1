//! What a server takes of the heap: nothing for a request, once everything has grown to its size, and nothing that
//! outlives it.

mod common;

use alloc_tracker::{Allocator, Session, ThreadSpan};
use bytes::Bytes;
use common::{Answer, Client, status_field};
use std::alloc::System;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use uringd::config::{AccessLog, AccessLogFormat, Options};
use uringd::{Handler, Reply, Request, Response, Server, Status};

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

/// Each test measures the process or times its rounds: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the allocations of its thread, the server's, between `/begin` and `/end`, which answers with their number.
struct Counted {
    counting: Option<(Session, ThreadSpan)>,
    short: Bytes,
    long: Bytes,
}

impl Counted {
    fn new() -> Counted {
        Counted { counting: None, short: vec![b's'; 100].into(), long: vec![b'l'; 16 << 10].into() }
    }
}

impl Handler for Counted {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        match request.path() {
            "/static" => Response::text("hello").into(),
            "/kept" => Response::text(self.short.clone()).into(),
            "/kept-long" => Response::bytes(self.long.clone()).into(),
            "/missing" => Status::NOT_FOUND.into(),
            "/formatted" => Response::text(format!("from {:?}", request.peer())).into(),
            "/begin" => {
                let session = Session::new();
                let span = session.operation("requests").measure_thread();
                self.counting = Some((session, span));
                Response::text("go").into()
            }
            "/end" => {
                let (session, span) = self.counting.take().expect("begun");
                drop(span);
                let report = session.to_report();
                let (_, counted) = report.operations().next().expect("one operation");
                Response::text(counted.total_allocations_count().to_string()).into()
            }
            other => panic!("{other}"),
        }
    }
}

fn request(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

const EIGHT_FIELDS: &str = "User-Agent: somebody/1.0\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Language: en\r\n\
    Accept-Encoding: gzip, br\r\nReferer: http://test/\r\nCookie: a=b; c=d\r\nCache-Control: no-cache\r\n";

/// Sends these octets `rounds` times and takes `answers` answers each time; gives the last.
fn repeat(client: &mut Client, octets: &str, answers: usize, rounds: usize) -> Answer {
    let mut last = None;
    for _ in 0..rounds {
        client.send(octets);
        for _ in 0..answers {
            last = Some(client.read_answer().unwrap());
        }
    }
    last.unwrap()
}

/// How often the server's thread allocates for 500 rounds of this, and for as many more as it takes until the date
/// changes.
fn allocations(octets: &str, answers: usize, status: u16) -> u64 {
    allocations_of(&Options::default(), octets, answers, status)
}

/// The same of a server with these options.
fn allocations_of(options: &Options, octets: &str, answers: usize, status: u16) -> u64 {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let server = Server::with_options(&Options { listen, ..options.clone() }).unwrap();
    let (address, stop) = (server.local_addr().socket_addr().unwrap(), server.stop_handle());
    let serving = thread::spawn(move || server.serve(Counted::new()));
    let mut client = Client::connect(address);
    // the two buffers of output take turns: both have to grow to what is to come, `/begin` and `/end` included
    repeat(&mut client, &request("/static", "").repeat(16), 16, 20);
    repeat(&mut client, octets, answers, 200);
    repeat(&mut client, &request("/begin", ""), 1, 1);
    let first = repeat(&mut client, octets, answers, 500);
    assert_eq!(first.status, status);
    while repeat(&mut client, octets, answers, 1).header("date") == first.header("date") {}
    let count = repeat(&mut client, &request("/end", ""), 1, 1).text().parse().unwrap();
    drop(client);
    stop.stop();
    serving.join().unwrap().unwrap();
    count
}

#[test]
fn a_request_allocates_nothing() {
    let _alone = alone();
    for (what, octets, answers, status) in requests() {
        assert_eq!(allocations(&octets, answers, status), 0, "{what}");
    }
}

#[test]
fn a_line_of_the_access_log_allocates_nothing() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    for format in [AccessLogFormat::Combined, AccessLogFormat::Json] {
        let log = directory.path().join(format!("{format:?}"));
        let options = Options {
            access_log: Some(AccessLog::File(log.clone())),
            access_log_format: format,
            ..Options::default()
        };
        for (what, octets, answers, status) in requests() {
            assert_eq!(allocations_of(&options, &octets, answers, status), 0, "{what}, {format:?}");
        }
        let lines = std::fs::read_to_string(log).unwrap().lines().count();
        assert!(lines > 6 * 1_000, "{lines}");
    }
}

/// How many answers each gets at once, and with which status.
fn requests() -> [(&'static str, String, usize, u16); 6] {
    [
        ("a static text", request("/static", ""), 1, 200),
        ("octets that are kept", request("/kept", ""), 1, 200),
        ("more of them than are copied", request("/kept-long", ""), 1, 200),
        ("a status", request("/missing", ""), 1, 404),
        ("eight fields", request("/static", EIGHT_FIELDS), 1, 200),
        ("sixteen at once", request("/static", "").repeat(16), 16, 200),
    ]
}

#[test]
fn what_a_handler_allocates_is_counted() {
    let _alone = alone();
    assert!(allocations(&request("/formatted", ""), 1, 200) >= 500);
}

/// Of this process: KiB that it may write to, and open files.
fn held() -> (u64, usize) {
    let kib = status_field(std::process::id() as i32, "VmData").unwrap().parse().unwrap();
    (kib, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

/// A ring's pool alone has half a MiB.
#[test]
fn servers_that_come_and_go_leave_nothing_behind() {
    let _alone = alone();
    let come_and_go = |times| {
        for _ in 0..times {
            let server = Server::bind("127.0.0.1:0").unwrap();
            let stop = server.stop_handle();
            // in the server's queue before it is told to stop
            let mut client = Client::connect(server.local_addr().socket_addr().unwrap());
            client.send(request("/static", "Connection: close\r\n"));
            stop.stop();
            server.serve(Counted::new()).unwrap();
            assert_eq!(client.read_answer().unwrap().status, 200);
        }
    };
    come_and_go(5);
    let (kib_before, files_before) = held();
    come_and_go(100);
    let (kib, files) = held();
    assert_eq!(files, files_before);
    assert!(kib < kib_before + 10_000, "{kib_before} KiB before, {kib} after");
}
