//! Server-sent events through `examples/events.rs`: each arrives when it is sent, a reload loses none, idle clients cost little,
//! and one that has gone costs nothing.

mod common;

use common::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

/// What one idle client may cost its worker: connection, pipe, future, and its place in the timers.
const CLIENT_OCTETS_MAX: u64 = 4096;

/// The next tick is years away, and a comment an hour.
const RARE: &str = "ms=1099511627776&keep=3600000";

/// A client of a stream of events.
struct Stream(Client);

/// One event, as far as it is said.
#[derive(Debug, Default)]
struct Said {
    name: String,
    id: u64,
    data: Value,
    retry: Option<u64>,
}

impl Stream {
    /// Asks for events after this one.
    fn open(server: &Server, query: &str, had: Option<u64>) -> Stream {
        let had = had.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let mut client = server.connect();
        client.send(format!(
            "GET /events?{query} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n{had}\r\n"
        ));
        let head = client.read_head().unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        Stream(client)
    }

    /// One chunk with the CRLF that ends it; `None` for the last one. An error if it is cut.
    fn read_chunk(&mut self) -> std::io::Result<Option<String>> {
        let mut line = vec![];
        while !line.ends_with(b"\r\n") {
            line.extend(self.0.read_octets(1)?);
        }
        let octets =
            usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim_end(), 16).expect("a length");
        let chunk = String::from_utf8(self.0.read_octets(octets)?).expect("text");
        assert_eq!(self.0.read_octets(2)?, b"\r\n");
        Ok((octets > 0).then_some(chunk))
    }

    /// The first of what comes that has what is wanted; a stream may go on without it for ever.
    fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(Option<Said>) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = wanted(self.next()) {
                return found;
            }
            assert!(Instant::now() < deadline, "not in time: {what}");
        }
    }

    /// The next event; `None` when the stream has ended whole. Each has a chunk of its own here.
    fn next(&mut self) -> Option<Said> {
        let chunk = self.read_chunk().expect("whole or going on")?;
        let mut said = Said::default();
        for line in chunk.strip_suffix("\n\n").expect("the end of an event").lines() {
            match line.split_once(": ").expect("a field") {
                ("event", name) => said.name = name.to_owned(),
                ("id", id) => said.id = id.parse().unwrap(),
                ("data", data) => said.data = serde_json::from_str(data).unwrap(),
                ("retry", ms) => said.retry = Some(ms.parse().unwrap()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((said.name.as_str(), &said.data["tick"]), ("tick", &said.id.into()));
        Some(said)
    }
}

fn start(arguments: &[&str]) -> Server {
    Server::start(Program::Events, arguments)
}

fn clients(server: &Server) -> u32 {
    server.get("/clients").text().parse().unwrap()
}

#[test]
fn the_page_listens_to_the_events() {
    let server = start(&["--workers", "1"]);
    let page = server.get("/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("new EventSource('/events')"));
    assert_eq!(server.get("/nothing").status, 404);
}

#[test]
fn every_event_arrives_when_it_is_sent_to_every_client() {
    let server = start(&["--workers", "1"]);
    let mut streams: Vec<Stream> = (0..5).map(|_| Stream::open(&server, "ms=40", None)).collect();
    // those that were sent before the last one had come say so
    let with_all = |stream: &mut Stream| {
        stream.wait_for("an event for all of them", |said| {
            said.filter(|said| said.data["clients"] == 5).map(|said| said.id)
        })
    };
    let mut last: Vec<u64> = streams.iter_mut().map(with_all).collect();
    for _ in 0..10 {
        for (stream, last) in streams.iter_mut().zip(&mut last) {
            let said = stream.next().unwrap();
            assert_eq!(said.id, *last + 1);
            assert_eq!((said.retry, &said.data["clients"]), (Some(200), &5.into()));
            *last += 1;
        }
    }
    // the next one is years away: this one does not wait for it, nor does the end of its chunk
    let mut rare = Stream::open(&server, RARE, None);
    assert!(rare.next().is_some());
}

#[test]
fn a_client_that_comes_back_gets_what_it_has_missed_and_not_more_than_there_is() {
    let server = start(&["--workers", "1"]);
    let mut stream = Stream::open(&server, "ms=50", None);
    let first = stream.next().unwrap().id;
    drop(stream);
    server.wait("it has gone", || clients(&server) == 0);
    let mut stream = Stream::open(&server, "ms=50", Some(first));
    for n in 1..=5 {
        assert_eq!(stream.next().unwrap().id, first + n);
    }
    // what a client says is anybody's word
    let now = stream.next().unwrap().id;
    assert!(Stream::open(&server, "ms=50", Some(0)).next().unwrap().id > now - 2000, "not since 1970");
    let ahead = Stream::open(&server, "ms=50", Some(u64::MAX)).next().unwrap().id;
    assert!(ahead > now && ahead < now + 2000);
}

#[test]
fn a_silent_stream_is_kept_alive_by_comments() {
    let server = start(&["--workers", "1"]);
    let mut stream = Stream::open(&server, "ms=1099511627776&keep=30", None);
    assert!(stream.next().is_some());
    for _ in 0..3 {
        assert_eq!(stream.read_chunk().unwrap().as_deref(), Some(":\n\n"));
    }
}

#[test]
fn a_reload_ends_every_stream_whole_and_no_client_misses_an_event() {
    let server = start(&["--workers", "2", "--kill-timeout", "60s"]);
    let before: Vec<i32> = server.listening().iter().map(|(_, pid)| *pid).collect();
    let streams: Vec<Stream> = (0..20).map(|_| Stream::open(&server, "ms=25", None)).collect();
    let listeners: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let (address, old) = (server.address, before.clone());
            // what a browser does, without its pause
            thread::spawn(move || {
                let mut last = stream.next().unwrap().id;
                loop {
                    while let Some(said) = stream.next() {
                        assert_eq!(said.id, last + 1, "none is missing, none comes twice");
                        last = said.id;
                        if !old.contains(&(said.data["pid"].as_i64().unwrap() as i32)) {
                            return;
                        }
                    }
                    let mut client = Client::connect(address);
                    client.send(format!(
                        "GET /events?ms=25 HTTP/1.1\r\nHost: test\r\nLast-Event-ID: {last}\r\n\r\n"
                    ));
                    assert_eq!(client.read_head().unwrap().status, 200);
                    stream = Stream(client);
                }
            })
        })
        .collect();
    server.signal("HUP");
    server.wait_for("the roll", |line| line["stage"] == "done");
    for listener in listeners {
        listener.join().expect("no event was missed");
    }
    // nobody was waited for: neither for the kill timeout nor for a client that went on listening
    server.wait("the old ones are gone", || {
        server.events("exit").iter().filter(|exit| exit["status"] == "code 0").count() == 2
    });
    assert!(server.events("exit").iter().all(|exit| exit["forced"] == false));
}

/// A browser would use a kept connection for its return, and find the worker that it is to leave.
#[test]
fn a_stream_that_a_reload_ends_takes_its_connection_with_it() {
    let server = start(&["--workers", "1"]);
    let mut stream = Stream::open(&server, "ms=25", None);
    stream.next().unwrap();
    server.signal("HUP");
    stream.wait_for("its end", |said| said.is_none().then_some(()));
    assert!(stream.0.read_to_end().unwrap().is_empty(), "closed, with nothing behind the last chunk");
}

#[test]
fn a_stop_ends_every_stream_whole() {
    let mut server = start(&["--workers", "1", "--kill-timeout", "2m"]);
    let mut streams: Vec<Stream> = (0..10).map(|_| Stream::open(&server, RARE, None)).collect();
    for stream in &mut streams {
        assert!(stream.next().is_some());
    }
    server.signal("TERM");
    for mut stream in streams {
        assert!(stream.next().is_none(), "it ends, and is not cut");
    }
    // far sooner than at the kill timeout, before which a worker closes what is left
    assert_eq!(server.wait_exit().code(), Some(0));
    let exit = server.wait_for("the worker's exit", |line| line["event"] == "exit");
    assert_eq!((&exit["status"], &exit["forced"]), (&"code 0".into(), &false.into()));
}

#[test]
fn a_client_that_is_gone_ends_its_events() {
    let server = start(&["--workers", "1", "--send-timeout", "1500ms"]);
    let open = |query: &str| {
        let mut stream = Stream::open(&server, query, None);
        stream.next().unwrap();
        stream
    };
    let (silent, busy): (Vec<_>, Vec<_>) = (0..5).map(|_| (open(RARE), open("ms=20"))).unzip();
    assert_eq!(clients(&server), 10);
    // no event has to be sent for that
    silent.into_iter().for_each(|stream| stream.0.reset());
    server.wait("they have gone", || clients(&server) == 5);
    drop(busy);
    server.wait("they have gone as well", || clients(&server) == 0);
    // one that has only finished sending hears more as long as there is some
    let mut half = open("ms=20");
    half.0.stream.shutdown(Shutdown::Write).unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        assert!(half.next().is_some());
    }
    drop(half);
    let half = open(RARE);
    half.0.stream.shutdown(Shutdown::Write).unwrap();
    server.wait("it is given up", || clients(&server) == 0);
}

#[test]
fn a_thousand_idle_clients_take_little_and_hold_nobody_up() {
    const CLIENTS: usize = 1000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < 1500 {
        return skip("the hard RLIMIT_NOFILE does not allow 1,500 descriptors");
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(1500), hard).unwrap();
    // idle ones that close may still be reading, for all that the server knows: they are given up after this
    let server = start(&["--workers", "1", "--send-timeout", "1s"]);
    let worker = server.listening()[0].1;
    assert_eq!(clients(&server), 0);
    let before = rss_anon(worker);
    let mut streams: Vec<Stream> = (0..CLIENTS).map(|_| Stream::open(&server, RARE, None)).collect();
    for stream in &mut streams {
        stream.next().unwrap();
    }
    assert_eq!(clients(&server), 1000);
    let each = rss_anon(worker).saturating_sub(before) * 1024 / CLIENTS as u64;
    println!("{each} octets for each of {CLIENTS} idle clients");
    assert!(each <= CLIENT_OCTETS_MAX, "{each} octets for each");
    let mut beside = Stream::open(&server, "ms=20", None);
    for _ in 0..20 {
        beside.next().unwrap();
    }
    drop(streams);
    server.wait("they have gone", || clients(&server) == 1);
    assert!(beside.next().is_some());
    assert_eq!(server.listening(), [(0, worker)]);
}
