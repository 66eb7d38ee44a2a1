//! The endpoints of the HTTP arena benchmark, as its validation asks for them.
//!
//! ```text
//! cargo run --release --example arena -- --port 1337
//! curl 'http://127.0.0.1:1337/baseline11?a=13&b=42'
//! curl 'http://127.0.0.1:1337/baseline11?a=13&b=42' --data 20
//! curl http://127.0.0.1:1337/upload --data-binary @Cargo.lock
//! curl 'http://127.0.0.1:1337/json/2?m=3'
//! ```
//!
//! | path | method | what it does |
//! |---|---|---|
//! | `/baseline11?a=N&b=M` | GET | the sum of all values in the query that are whole numbers |
//! | `/baseline11?a=N&b=M` | POST | the same and the number that is the content |
//! | `/pipeline` | GET | `ok` |
//! | `/upload` | POST | how many octets the content has, which is counted as it comes and kept nowhere |
//! | `/json/N?m=M`, `/json?count=N&m=M` | GET | the first N of 50 items (0 to 50), each with its total: price * quantity * M |
//! | `/static/...` | GET | the files of a directory, looked at anew within a second |
//!
//! `ARENA_STATIC` names the directory; without it that is `examples/site`.
//!
//! A value in the query that is no whole number adds nothing, and neither does a content of white space, or none. Answered
//! with 400 and one line: a content that is something else than a number, a number or a sum or a total that does not fit
//! into 64 bits, an N or an M that is no whole number. Without an N all items come, and M is 1 unless it is given. Other
//! paths are 404, other methods 405, and a HEAD is a GET without its content.

use bytes::Bytes;
use serde::Serialize;
use std::num::IntErrorKind;
use std::process::ExitCode;
use uringd::{Admission, Cluster, Files, Handler, Method, Pieces, Reply, Request, Response, Status};

/// How many items there are.
const ITEMS: i64 = 50;
/// No item is longer as JSON, whatever its total.
const ITEM_OCTETS_MAX: usize = 256;

fn main() -> ExitCode {
    match Cluster::from_args().run(|_| Arena::new()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

struct Arena {
    files: Files,
    items: Vec<Item>,
}

impl Arena {
    fn new() -> Result<Arena, String> {
        let folder = std::env::var("ARENA_STATIC").unwrap_or_else(|_| "examples/site".to_owned());
        let files = Files::new(&folder).map_err(|error| format!("ARENA_STATIC={folder}: {error}"))?;
        Ok(Arena { files: files.under("/static"), items: (1..=ITEMS).map(Item::new).collect() })
    }

    fn json(&mut self, count: Option<&str>, request: &Request<'_>) -> Result<Response, Response> {
        let count = parameter(count, ITEMS, "the count is no whole number\n")?.clamp(0, ITEMS) as usize;
        let m = parameter(request.query_value("m").as_deref(), 1, "m is no whole number\n")?;
        let items = &mut self.items[..count];
        for item in items.iter_mut() {
            // in its place: there is one thread, and one answer at a time
            item.total = item.total(m).ok_or_else(|| refusal("a total does not fit into 64 bits\n"))?;
        }
        let mut json = Vec::with_capacity(ITEM_OCTETS_MAX * (count + 1));
        serde_json::to_writer(&mut json, &Page { items, count }).expect("plain data");
        Ok(Response::bytes(json).with_content_type("application/json"))
    }
}

impl Handler for Arena {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        match (request.method(), request.path()) {
            (Method::Get | Method::Head, "/pipeline") => Response::text("ok").into(),
            (Method::Get | Method::Head | Method::Post, "/baseline11") => sum(request).into(),
            (Method::Post, "/upload") => Reply::later(count(request.pieces())),
            (Method::Get | Method::Head, "/json") => {
                self.json(request.query_value("count").as_deref(), request).into()
            }
            (_, "/pipeline" | "/json") => Response::not_allowed("GET, HEAD").into(),
            (_, "/baseline11") => Response::not_allowed("GET, HEAD, POST").into(),
            (_, "/upload") => Response::not_allowed("POST").into(),
            (_, path) if path.starts_with("/static/") => self.files.reply(request),
            (Method::Get | Method::Head, path) if path.starts_with("/json/") => {
                self.json(path.strip_prefix("/json/"), request).into()
            }
            (_, path) if path.starts_with("/json/") => Response::not_allowed("GET, HEAD").into(),
            _ => Status::NOT_FOUND.into(),
        }
    }

    fn admit(&mut self, head: &Request<'_>) -> Admission {
        match head.path() {
            "/upload" => Admission::Pieces,
            _ => Admission::Collect,
        }
    }
}

fn sum(request: &Request<'_>) -> Result<Response, Response> {
    // so many numbers of 64 bits as a request has room for never overflow 128
    let mut sum = 0i128;
    for (_, value) in request.query_pairs() {
        sum += i128::from(whole_number(&value)?.unwrap_or(0));
    }
    let content = request.body().trim_ascii();
    if request.method() == Method::Post && !content.is_empty() {
        let number = whole_number(&String::from_utf8_lossy(content))?;
        sum += i128::from(number.ok_or_else(|| refusal("the content is no whole number\n"))?);
    }
    Ok(number(i64::try_from(sum).map_err(|_| refusal("the sum does not fit into 64 bits\n"))?))
}

/// Takes the content as it comes. What its Content-Length says is not what arrives.
async fn count(mut pieces: Pieces) -> Result<Response, Response> {
    let mut octets = 0;
    while let Some(piece) = pieces.next().await {
        octets += piece.map_err(|_| refusal("the content ends too early\n"))?.len() as i64;
    }
    Ok(number(octets))
}

fn parameter(text: Option<&str>, default: i64, otherwise: &'static str) -> Result<i64, Response> {
    text.map_or(Ok(Some(default)), whole_number)?.ok_or_else(|| refusal(otherwise))
}

/// `None` if it is something else.
fn whole_number(text: &str) -> Result<Option<i64>, Response> {
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
                Err(refusal("a number does not fit into 64 bits\n"))
            }
            _ => Ok(None),
        },
    }
}

fn number(number: i64) -> Response {
    Response::text(Bytes::copy_from_slice(itoa::Buffer::new().format(number).as_bytes()))
}

fn refusal(line: &'static str) -> Response {
    Response::text(line).with_status(Status::BAD_REQUEST)
}

#[derive(Serialize)]
struct Page<'a> {
    items: &'a [Item],
    count: usize,
}

#[derive(Serialize)]
struct Item {
    id: i64,
    name: String,
    category: &'static str,
    price: i64,
    quantity: i64,
    active: bool,
    tags: [&'static str; 2],
    rating: Rating,
    /// Of the answer that is being made.
    total: i64,
}

#[derive(Serialize)]
struct Rating {
    score: i64,
    count: i64,
}

impl Item {
    fn new(id: i64) -> Item {
        const KINDS: [(&str, &str); 5] = [
            ("Kettle", "kitchen"),
            ("Lamp", "lighting"),
            ("Chair", "furniture"),
            ("Hammer", "tools"),
            ("Radio", "electronics"),
        ];
        const TAGS: [&str; 4] = ["new", "sale", "popular", "last chance"];
        let (kind, category) = KINDS[id as usize % KINDS.len()];
        let tag = id as usize % TAGS.len();
        Item {
            id,
            name: format!("{kind} {id}"),
            category,
            price: 5 + id * 37 % 200,
            quantity: 1 + id * 11 % 20,
            active: id % 3 != 0,
            tags: [TAGS[tag], TAGS[(tag + 1) % TAGS.len()]],
            rating: Rating { score: 30 + id * 7 % 21, count: id * 13 % 500 },
            total: 0,
        }
    }

    fn total(&self, m: i64) -> Option<i64> {
        self.price.checked_mul(self.quantity)?.checked_mul(m)
    }
}
