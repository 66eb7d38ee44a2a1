//! Shows what the server understood: every request is answered with what arrived at the handler.
//!
//! ```text
//! cargo run --example mirror -- --port 1337
//! curl http://127.0.0.1:1337/any/path --data abc
//! ```
//!
//! | path | what it does |
//! |---|---|
//! | `/stream?n=N&size=S` | streams N pieces of S octets: `a`s, then `b`s, and so on |
//! | `/stream-broken` | streams two pieces and then fails: the connection is cut without an end |
//! | `/status?code=N` | answers with this status; 500 if it is none |
//! | `/header?value=V` | answers with the field `X-Value: V`, percent-decoded; 500 if V has control characters |
//! | `/part?start=A&end=B` | sends these octets of the program's own file |
//! | `/promise` | is answered by another thread |
//! | `/promise-broken` | is forgotten by another thread: 500 |
//! | `/json` | answers with the JSON that is the content; 400 if it is none |
//! | `/failure` | fails with an error: 500, and a line in the log |
//! | `/pieces?n=N` | takes its content in pieces, and no more than N octets of it: how many, their sum |
//! | `/pieces?while=FILE` | the same, the first when this file is gone |
//! | `/echo` | another thread takes the content in pieces, and sends them back |
//! | `/heard` | how the last content of `/echo` has ended |
//! | `/made?n=N&size=S&pause=MS` | a future makes N pieces of S octets, with pauses |
//! | `/made?n=N&size=S&while=FILE` | the same, the last piece when this file is gone |
//! | `/made-broken` | the same, which fails after two pieces |
//! | `/busy` | how many contents are being taken or made now, and how many octets have been made |
//! | `/unwanted` | answers 405, from the head alone if there is content |
//! | anything else | `METHOD TARGET VERSION`, then the length of the content and how it begins |

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uringd::{
    Admission, Cluster, Handler, Json, MappedFile, Method, Reply, Request, Response, Status, Version,
};

/// How much of the content is shown.
const SHOWN_OCTETS_MAX: usize = 64;

fn main() -> ExitCode {
    match Cluster::from_args().run(|_| Mirror) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

struct Mirror;

impl Handler for Mirror {
    fn admit(&mut self, head: &Request<'_>) -> Admission {
        match head.path() {
            "/unwanted" => Admission::Answer(unwanted()),
            "/pieces" | "/echo" => Admission::Pieces,
            _ => Admission::Collect,
        }
    }

    fn handle(&mut self, request: &Request<'_>) -> Reply {
        match request.path() {
            "/stream" => Response::stream(pieces(request)).into(),
            "/stream-broken" => Response::stream(broken_pieces()).into(),
            "/status" => Response::status(number(request, "code") as u16).into(),
            "/header" => header(parameter(request, "value").unwrap_or("")).into(),
            "/part" => file(number(request, "start"), number(request, "end")).into(),
            "/promise" => elsewhere(true),
            "/promise-broken" => elsewhere(false),
            "/json" => request.json::<serde_json::Value>().map(Json).into(),
            "/failure" => failure().into(),
            "/pieces" => take(request),
            "/echo" => echo(request),
            "/heard" => HEARD.lock().expect("nobody panics with it").clone().into(),
            "/made" => make(request),
            "/made-broken" => make_and_fail(),
            "/busy" => format!("{} {}\n", BUSY.load(Relaxed), MADE.load(Relaxed)).into(),
            // without content there is nothing to look at before
            "/unwanted" => unwanted().into(),
            _ => show(request).into(),
        }
    }
}

fn unwanted() -> Response {
    Response::not_allowed("GET, HEAD")
}

fn show(request: &Request<'_>) -> Response {
    // RFC 9110 section 9.3.2: a HEAD is told the fields of a GET, of which Content-Length is one
    let method = if request.method() == Method::Head { Method::Get } else { request.method() };
    let version = if request.version() == Version::Http10 { "1.0" } else { "1.1" };
    let content = request.body();
    let start = String::from_utf8_lossy(&content[..content.len().min(SHOWN_OCTETS_MAX)]);
    let (method, target, octets) = (method.as_str(), request.target(), content.len());
    Response::text(format!("{method} {target} {version}\ncontent {octets} octets: {start}\n"))
}

/// Each piece is made when it is asked for: a client that does not read keeps the others from being made.
fn pieces(request: &Request<'_>) -> impl Iterator<Item = io::Result<Bytes>> + use<> {
    let size = number(request, "size") as usize;
    (b'a'..=b'z').cycle().take(number(request, "n") as usize).map(move |letter| Ok(vec![letter; size].into()))
}

fn broken_pieces() -> impl Iterator<Item = io::Result<Bytes>> {
    let failure = || Err(io::Error::other("asked to"));
    [Ok(Bytes::from_static(b"one ")), Ok(Bytes::from_static(b"two ")), failure()].into_iter()
}

fn file(start: u64, end: u64) -> Response {
    match MappedFile::open("/proc/self/exe") {
        Ok(file) if start <= end && end <= file.len() => Response::file(Arc::new(file), start..end),
        Ok(_) => Status::RANGE_NOT_SATISFIABLE.into(),
        Err(_) => Status::INTERNAL_SERVER_ERROR.into(),
    }
}

/// Answers from another thread, or has that lose its promise.
fn elsewhere(keeps: bool) -> Reply {
    let (promise, reply) = Reply::promise();
    std::thread::spawn(move || {
        if keeps {
            promise.keep(Response::text("from another thread\n"));
        }
    });
    reply
}

fn failure() -> io::Result<Response> {
    Err(io::Error::other("asked to"))
}

/// Contents that are being taken or made.
static BUSY: AtomicU64 = AtomicU64::new(0);

/// Octets that `/made` has made and somebody has had room for.
static MADE: AtomicU64 = AtomicU64::new(0);

/// How the last content of `/echo` has ended.
static HEARD: Mutex<String> = Mutex::new(String::new());

struct Busy;

impl Busy {
    fn new() -> Busy {
        BUSY.fetch_add(1, Relaxed);
        Busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Relaxed);
    }
}

/// What a request waits for: that the file of its `while` is gone.
struct Holds(Option<PathBuf>);

impl Holds {
    fn of(request: &Request<'_>) -> Holds {
        Holds(request.query_value("while").map(|file| PathBuf::from(file.as_ref())))
    }

    async fn wait(&self) {
        while self.0.as_ref().is_some_and(|file| file.exists()) {
            uringd::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn take(request: &Request<'_>) -> Reply {
    let (mut pieces, busy) = (request.pieces(), Busy::new());
    let holds = Holds::of(request);
    let enough = parameter(request, "n").map_or(u64::MAX, |n| n.parse().unwrap_or(0));
    Reply::later(async move {
        let _busy = busy;
        holds.wait().await;
        let (mut octets, mut sum) = (0, 0);
        while octets < enough
            && let Some(piece) = pieces.next().await
        {
            let piece = piece?;
            octets += piece.len() as u64;
            sum += piece.iter().map(|&octet| u64::from(octet)).sum::<u64>();
        }
        io::Result::Ok(format!("{octets} octets, sum {sum}\n"))
    })
}

fn echo(request: &Request<'_>) -> Reply {
    let (mut pieces, busy) = (request.pieces(), Busy::new());
    let (promise, reply) = Reply::promise();
    std::thread::spawn(move || {
        let content: io::Result<Vec<Bytes>> = std::iter::from_fn(|| pieces.blocking_next()).collect();
        drop(busy);
        *HEARD.lock().expect("nobody panics with it") =
            content.as_ref().map_or_else(|error| format!("{:?}", error.kind()), |_| "whole".to_owned());
        let Ok(content) = content else { return };
        let (mut sender, response) = Response::channel();
        promise.keep(response);
        if content.into_iter().all(|piece| sender.blocking_send(piece).is_ok()) {
            sender.finish();
        }
    });
    reply
}

fn make(request: &Request<'_>) -> Reply {
    let (n, size) = (number(request, "n"), number(request, "size"));
    let pause = parameter(request, "pause").map(|_| Duration::from_millis(number(request, "pause")));
    let (busy, holds) = (Busy::new(), Holds::of(request));
    let (mut sender, response) = Response::channel();
    Reply::stream(response, async move {
        let _busy = busy;
        for (number, letter) in (1..=n).zip((b'a'..=b'z').cycle()) {
            if number == n {
                holds.wait().await;
            }
            sender.send(vec![letter; size as usize]).await?;
            MADE.fetch_add(size, Relaxed);
            if let Some(pause) = pause {
                uringd::sleep(pause).await;
            }
        }
        sender.finish();
        Ok(())
    })
}

fn make_and_fail() -> Reply {
    let (mut sender, response) = Response::channel();
    Reply::stream(response, async move {
        sender.send("one ").await?;
        sender.send("two ").await?;
        Err("asked to".into())
    })
}

fn header(value: &str) -> Response {
    let value: Cow<'_, [u8]> = percent_decode_str(value).into();
    Response::text("x").with_header("X-Value", value.into_owned())
}

fn number(request: &Request<'_>, name: &str) -> u64 {
    parameter(request, name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn parameter<'a>(request: &Request<'a>, name: &str) -> Option<&'a str> {
    let pairs = request.query().unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
}
