//! A future that gives what is no response.

use uringd::{Reply, Request};

fn handle(_: &Request<'_>) -> Reply {
    Reply::later(async { vec!["a", "b"] })
}

fn main() {
    let _ = uringd::test::client(handle);
}
