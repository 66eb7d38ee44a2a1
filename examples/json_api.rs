//! A JSON API with state: notes that clients put, get and delete.
//!
//! ```text
//! cargo run --example json_api -- --port 1337 --workers 1
//! curl -T - http://127.0.0.1:1337/notes/1 <<<'{"text": "buy milk"}'
//! curl http://127.0.0.1:1337/notes
//! curl -X DELETE http://127.0.0.1:1337/notes/1
//! ```
//!
//! | path | method | what it does |
//! |---|---|---|
//! | `/notes` | GET | lists the notes: `[{"id":1,"text":"buy milk"}]` |
//! | `/notes/{id}` | GET | gives one; 404 if there is none |
//! | `/notes/{id}` | PUT | keeps `{"text":"..."}`: 201 if it is new; 400 for other content, 413 for too much of it, 507 when full |
//! | `/notes/{id}` | DELETE | forgets it: 204 |
//!
//! Whatever is wrong is said in one line of text. Other paths are 404, other methods 405 with `Allow`.
//!
//! The notes are a plain `HashMap` in the handler: no `Arc`, no `Mutex`. That works because every worker is a process with
//! one thread and a handler of its own, and it means that **every worker has its own notes**: what was put on one
//! connection may be missing on another, and a worker that is replaced begins with none. `--workers 1` has one set of
//! them; what must be shared or must last belongs into a database.

use matchit::Router;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::process::ExitCode;
use uringd::{Cluster, Handler, Json, Method, Reply, Request, Response, Status};

/// More than this is 507: what clients can make grow has a limit.
const NOTES_MAX: usize = 10_000;
/// Octets of a note's text; more is 413.
const TEXT_OCTETS_MAX: usize = 4096;

fn main() -> ExitCode {
    match Cluster::from_args().run(|_| Api::new()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

struct Api {
    routes: Router<Route>,
    notes: HashMap<u64, Note>,
}

#[derive(Clone, Copy)]
enum Route {
    Notes,
    Note,
}

#[derive(Serialize, Deserialize)]
struct Note {
    text: String,
}

/// A note as clients see it.
#[derive(Serialize)]
struct Numbered<'a> {
    id: u64,
    #[serde(flatten)]
    note: &'a Note,
}

/// Why a request is not done as asked. The message is what the client reads.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("there is nothing at this path")]
    NoPath,
    #[error("there is no note {0}")]
    NoNote(u64),
    #[error("only {0} here")]
    Method(&'static str),
    #[error("a note has at most {TEXT_OCTETS_MAX} octets of text")]
    TooLong,
    #[error("there are {NOTES_MAX} notes already: delete one")]
    Full,
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Response {
        let line = Response::text(format!("{problem}\n"));
        match problem {
            Problem::NoPath | Problem::NoNote(_) => line.with_status(Status::NOT_FOUND),
            Problem::Method(allow) => {
                line.with_status(Status::METHOD_NOT_ALLOWED).with_header("Allow", allow)
            }
            Problem::TooLong => line.with_status(Status::CONTENT_TOO_LARGE),
            Problem::Full => line.with_status(Status::INSUFFICIENT_STORAGE),
        }
    }
}

impl Api {
    fn new() -> Result<Api, matchit::InsertError> {
        let mut routes = Router::new();
        routes.insert("/notes", Route::Notes)?;
        routes.insert("/notes/{id}", Route::Note)?;
        Ok(Api { routes, notes: HashMap::new() })
    }

    /// `?` ends with a problem, or with what `request.json()` found wrong: both become responses.
    fn answer(&mut self, request: &Request<'_>) -> Result<Response, Response> {
        let found = self.routes.at(request.path()).map_err(|_| Problem::NoPath)?;
        match found.value {
            Route::Notes => match request.method() {
                Method::Get | Method::Head => Ok(self.list()),
                _ => Err(Problem::Method("GET, HEAD").into()),
            },
            Route::Note => {
                let id = found.params.get("id").and_then(|id| id.parse().ok()).ok_or(Problem::NoPath)?;
                match request.method() {
                    Method::Get | Method::Head => Ok(self.get(id)?),
                    Method::Put => Ok(self.put(id, request.json()?)?),
                    Method::Delete => Ok(self.delete(id)?),
                    _ => Err(Problem::Method("GET, HEAD, PUT, DELETE").into()),
                }
            }
        }
    }

    fn list(&self) -> Response {
        let mut all: Vec<_> = self.notes.iter().map(|(&id, note)| Numbered { id, note }).collect();
        all.sort_unstable_by_key(|numbered| numbered.id);
        Json(all).into()
    }

    fn get(&self, id: u64) -> Result<Response, Problem> {
        let note = self.notes.get(&id).ok_or(Problem::NoNote(id))?;
        Ok(Json(Numbered { id, note }).into())
    }

    fn put(&mut self, id: u64, note: Note) -> Result<Response, Problem> {
        if note.text.len() > TEXT_OCTETS_MAX {
            return Err(Problem::TooLong);
        }
        let is_new = !self.notes.contains_key(&id);
        if is_new && self.notes.len() >= NOTES_MAX {
            return Err(Problem::Full);
        }
        self.notes.insert(id, note);
        Ok(self.get(id)?.with_status(if is_new { Status::CREATED } else { Status::OK }))
    }

    fn delete(&mut self, id: u64) -> Result<Response, Problem> {
        self.notes.remove(&id).ok_or(Problem::NoNote(id))?;
        Ok(Status::NO_CONTENT.into())
    }
}

impl Handler for Api {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        self.answer(request).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uringd::test::{self, Client};

    fn client() -> Client<Api> {
        test::client(Api::new().expect("the routes do not contradict each other"))
    }

    fn put(client: &mut Client<Api>, path: &str, content: impl Into<Vec<u8>>) -> (u16, String) {
        let answer = client.request(Method::Put, path).body(content.into()).send();
        (answer.status(), answer.text().to_owned())
    }

    #[test]
    fn notes_are_put_got_listed_and_deleted() {
        let mut client = client();
        assert_eq!(client.get("/notes").text(), "[]");
        assert_eq!(
            put(&mut client, "/notes/2", r#"{"text":"b"}"#),
            (201, r#"{"id":2,"text":"b"}"#.to_owned())
        );
        assert_eq!(
            put(&mut client, "/notes/1", r#"{"text":"a"}"#),
            (201, r#"{"id":1,"text":"a"}"#.to_owned())
        );
        assert_eq!(
            put(&mut client, "/notes/2", r#"{"text":"B"}"#),
            (200, r#"{"id":2,"text":"B"}"#.to_owned())
        );
        let list = client.get("/notes");
        assert_eq!(list.header("content-type"), Some("application/json"));
        assert_eq!(list.text(), r#"[{"id":1,"text":"a"},{"id":2,"text":"B"}]"#);
        assert_eq!(client.get("/notes/2").text(), r#"{"id":2,"text":"B"}"#);
        assert_eq!(client.request(Method::Delete, "/notes/2").send().status(), 204);
        assert_eq!(client.get("/notes").text(), r#"[{"id":1,"text":"a"}]"#);
        let head = client.request(Method::Head, "/notes/1").send();
        assert_eq!((head.status(), head.header("content-length")), (200, Some("19")));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_and_changes_nothing() {
        let mut client = client();
        put(&mut client, "/notes/1", r#"{"text":"a"}"#);
        let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(TEXT_OCTETS_MAX + 1));
        for (content, status, line) in [
            ("", 400, "the content is not valid JSON: EOF while parsing a value at line 1 column 0\n"),
            ("{\"text\": \"a\n", 400, "the content is not valid JSON: control character"),
            ("[1", 400, "the content is JSON, but not of the expected shape at line 1 column 2\n"),
            (
                "{\"text\": 1}",
                400,
                "the content is JSON, but not of the expected shape at line 1 column 10\n",
            ),
            ("{}", 400, "the content is JSON, but not of the expected shape at line 1 column 2\n"),
            (&long, 413, "a note has at most 4096 octets of text\n"),
        ] {
            let (answered, said) = put(&mut client, "/notes/1", content);
            assert!(answered == status && said.starts_with(line), "{content}: {answered} {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        let (status, _) = put(&mut client, "/notes/1", vec![b' '; 2 << 20]);
        assert_eq!(status, 413, "more than --max-body");
        assert_eq!(client.get("/notes").text(), r#"[{"id":1,"text":"a"}]"#);
    }

    #[test]
    fn paths_and_methods_that_are_not_there() {
        let mut client = client();
        for (method, path, status, line) in [
            (Method::Get, "/", 404, "there is nothing at this path\n"),
            (Method::Get, "/notes/", 404, "there is nothing at this path\n"),
            (Method::Get, "/notes/one", 404, "there is nothing at this path\n"),
            (Method::Get, "/notes/-1", 404, "there is nothing at this path\n"),
            (Method::Get, "/notes/18446744073709551616", 404, "there is nothing at this path\n"),
            (Method::Get, "/notes/1/2", 404, "there is nothing at this path\n"),
            (Method::Get, "/notes/7", 404, "there is no note 7\n"),
            (Method::Delete, "/notes/7", 404, "there is no note 7\n"),
            (Method::Post, "/notes", 405, "only GET, HEAD here\n"),
            (Method::Post, "/notes/7", 405, "only GET, HEAD, PUT, DELETE here\n"),
        ] {
            let answer = client.request(method, path).send();
            assert_eq!((answer.status(), answer.text()), (status, line), "{method:?} {path}");
            assert_eq!(answer.header("allow").is_some(), status == 405, "{method:?} {path}");
        }
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let mut client = client();
        for id in 0..NOTES_MAX {
            assert_eq!(put(&mut client, &format!("/notes/{id}"), r#"{"text":""}"#).0, 201);
        }
        let full = "there are 10000 notes already: delete one\n".to_owned();
        assert_eq!(put(&mut client, "/notes/10000", r#"{"text":""}"#), (507, full));
        assert_eq!(put(&mut client, "/notes/0", r#"{"text":"new"}"#).0, 200);
    }
}
