//! The program `uringd`: the library's first user. All it adds is the handler; the flags, the processes and the exit
//! codes are `Cluster`'s.

use std::process::ExitCode;
use uringd::{Admission, Cluster, Handler, Method, Reply, Request, Response, Status};

fn main() -> ExitCode {
    let outcome = Cluster::from_args().run(|worker| -> Box<dyn Handler> {
        match worker.files() {
            Some(files) => Box::new(files),
            None => Box::new(Hello::new()),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// Answers with the worker's process ID, so that one sees the pool at work.
struct Hello {
    text: &'static str,
}

impl Hello {
    fn new() -> Hello {
        // one allocation a worker: answers share it
        Hello { text: format!("handled by child, pid is {}\n", std::process::id()).leak() }
    }
}

impl Handler for Hello {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        match (request.method(), request.path()) {
            (Method::Get | Method::Head, "/") => Response::text(self.text).into(),
            (Method::Get | Method::Head, _) => Status::NOT_FOUND.into(),
            _ => refuse(request).into(),
        }
    }

    fn admit(&mut self, head: &Request<'_>) -> Admission {
        match head.method() {
            Method::Get | Method::Head => Admission::Collect,
            _ => Admission::Answer(refuse(head)),
        }
    }
}

/// RFC 9110 sections 9.3.7 and 15.5.6.
fn refuse(request: &Request<'_>) -> Response {
    const ALLOW: &str = "GET, HEAD, OPTIONS";
    match request.method() {
        Method::Options => Response::status(Status::NO_CONTENT).with_header("Allow", ALLOW),
        _ => Response::not_allowed(ALLOW),
    }
}
