//! What does nothing unless it is used.
#![deny(unused_must_use, unused_variables)]

use uringd::sse::Events;
use uringd::{Cluster, Reply, Request, Response, Server};

fn half_a_promise(_: &Request<'_>) -> Reply {
    let (promise, reply) = Reply::promise();
    reply
}

fn forgotten(_: &Request<'_>) -> Response {
    Reply::promise();
    Reply::later(async { "hello" });
    uringd::sleep(std::time::Duration::from_secs(1));
    Response::channel();
    Events::channel();
    let response = Response::text("hello");
    response.with_status(201);
    uringd::sse::Event::data("hello");
    Response::text("hello")
}

fn main() -> uringd::Result<()> {
    Cluster::new().listen("127.0.0.1:0");
    Server::bind("127.0.0.1:0")?;
    let _ = (uringd::test::client(half_a_promise), uringd::test::client(forgotten));
    Ok(())
}
