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
//! | `/unwanted` | answers 405, from the head alone if there is content |
//! | anything else | `METHOD TARGET VERSION`, then the length of the content and how it begins |

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use uringd::http::{Method, Version};
use uringd::{Admission, Cluster, Handler, Json, MappedFile, Reply, Request, Response, Status};

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
