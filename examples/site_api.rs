//! A site and its API on one port: the files of a directory, and a handler for what lies under `/api/`.
//!
//! ```text
//! cargo run --example site_api -- --port 1337
//! curl -i http://127.0.0.1:1337/
//! curl 'http://127.0.0.1:1337/api/greeting?name=Ada'
//! ```
//!
//! | path | what it does |
//! |---|---|
//! | `/api/greeting?name=N` | greets N |
//! | `/api/worker` | says which worker process answers |
//! | `/api/...` | anything else: 404 with one line |
//! | any other | the files of `examples/site`, with its `404.html` for what is not there |
//!
//! The files come with conditional requests, ranges and their compressed siblings; HEAD is answered wherever GET is.
//! Run it where `examples/site` is.

use std::io;
use std::process::ExitCode;
use uringd::config::FileSettings;
use uringd::{Cluster, Files, Handler, Method, Reply, Request, Response, Status, Worker};

fn main() -> ExitCode {
    match Cluster::from_args().run(Site::new) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

struct Site {
    worker: Worker,
    files: Files,
}

impl Site {
    fn new(worker: Worker) -> io::Result<Site> {
        let settings =
            FileSettings { not_found: Some("404.html".into()), ..FileSettings::new("examples/site") };
        Ok(Site { worker, files: Files::with_settings(&settings)? })
    }

    fn api(&self, path: &str, request: &Request<'_>) -> Response {
        match (request.method(), path) {
            (Method::Get | Method::Head, "greeting") => greeting(request),
            (Method::Get | Method::Head, "worker") => Response::text(format!("{}\n", self.worker.id())),
            (_, "greeting" | "worker") => Response::not_allowed("GET, HEAD"),
            _ => Response::text("there is nothing at this path\n").with_status(Status::NOT_FOUND),
        }
    }
}

fn greeting(request: &Request<'_>) -> Response {
    match request.query_value("name") {
        Some(name) => Response::text(format!("hello, {name}\n")),
        None => Response::text("say who you are: ?name=...\n").with_status(Status::BAD_REQUEST),
    }
}

impl Handler for Site {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        match request.path().strip_prefix("/api/") {
            Some(path) => self.api(path, request).into(),
            None => self.files.reply(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uringd::test::{self, Client};

    fn client() -> Client<Site> {
        test::client_of(|worker| Site::new(worker).expect("examples/site is here"))
    }

    #[test]
    fn files_and_api_answer_side_by_side() {
        let mut client = client();
        for (path, status, media_type, content) in [
            ("/", 200, "text/html; charset=utf-8", "<h1>It works</h1>"),
            ("/style.css", 200, "text/css; charset=utf-8", "{"),
            ("/nothing", 404, "text/html; charset=utf-8", "<h1>There is nothing here</h1>"),
            ("/api", 404, "text/html; charset=utf-8", "<h1>There is nothing here</h1>"),
            ("/api/greeting?name=J%C3%BCrgen", 200, "text/plain; charset=utf-8", "hello, Jürgen\n"),
            ("/api/greeting", 400, "text/plain; charset=utf-8", "say who you are: ?name=...\n"),
            ("/api/worker", 200, "text/plain; charset=utf-8", "1\n"),
            ("/api/nothing", 404, "text/plain; charset=utf-8", "there is nothing at this path\n"),
        ] {
            let answer = client.get(path);
            assert_eq!(
                (answer.status(), answer.header("content-type")),
                (status, Some(media_type)),
                "{path}"
            );
            assert!(answer.text().contains(content), "{path}: {}", answer.text());
            let head = client.request(Method::Head, path).send();
            assert_eq!((head.status(), head.body().len()), (status, 0), "HEAD {path}");
            assert_eq!(head.header("content-length"), answer.header("content-length"), "HEAD {path}");
        }
    }

    #[test]
    fn other_methods_are_refused() {
        let mut client = client();
        for (path, allow) in [("/", "GET, HEAD, OPTIONS"), ("/api/worker", "GET, HEAD")] {
            let answer = client.post(path, "x");
            assert_eq!((answer.status(), answer.header("allow")), (405, Some(allow)), "{path}");
        }
    }
}
