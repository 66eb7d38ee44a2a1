//! The program `uringd`: the library's first user. All it adds is the handler; the flags, the processes and the exit
//! codes are `Cluster`'s.

use std::process::ExitCode;
use uringd::{Cluster, Request, Response, Status};

fn main() -> ExitCode {
    let outcome = Cluster::from_args().run(|_| {
        // one allocation a worker: answers share it
        let text: &'static str = format!("handled by child, pid is {}\n", std::process::id()).leak();
        move |request: &Request<'_>| match request.path() {
            "/" => Response::text(text),
            _ => Response::status(Status::NOT_FOUND),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
