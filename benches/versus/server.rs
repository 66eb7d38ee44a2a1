//! uringd's own program in the bench: the library's handler for what the profiles ask. It is this same executable, so it
//! is built as the library is and nothing else needs to be there.

use std::process::ExitCode;
use uringd::{Admission, Cluster, Files, Handler, Method, Pieces, Reply, Request, Response, Status};

/// The mark of this process.
pub const PART: &str = "server";

/// The small answer, which all servers give.
pub const ANSWER: &str = "hello, world\n";

/// Takes uringd's flags.
pub fn main() -> ExitCode {
    match Cluster::from_args().run(|worker| Versus { files: worker.files() }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

struct Versus {
    files: Option<Files>,
}

impl Handler for Versus {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        match (request.method(), request.path()) {
            (Method::Get, "/") => Response::text(ANSWER).into(),
            (Method::Post, "/") => request.body().len().to_string().into(),
            (Method::Post, "/upload") => Reply::later(count(request.pieces())),
            _ => self.files.as_mut().map_or_else(|| Status::NOT_FOUND.into(), |files| files.handle(request)),
        }
    }

    fn admit(&mut self, head: &Request<'_>) -> Admission {
        match head.path() {
            "/upload" => Admission::Pieces,
            _ => Admission::Collect,
        }
    }
}

async fn count(mut pieces: Pieces) -> Result<String, Status> {
    let mut octets = 0;
    while let Some(piece) = pieces.next().await {
        octets += piece.map_err(|_| Status::BAD_REQUEST)?.len();
    }
    Ok(octets.to_string())
}
