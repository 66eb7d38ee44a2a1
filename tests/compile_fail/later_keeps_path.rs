//! A part of a request that is kept in what answers later.

use uringd::{Reply, Request, Response};

fn handle(request: &Request<'_>) -> Reply {
    let path = request.path();
    Reply::later(async move { Response::text(format!("you asked for {path}")) })
}

fn main() {
    let _ = uringd::test::client(handle);
}
