//! A handler that gives a future, which only `Reply::later` makes a reply.

use uringd::{Cluster, Request, Response};

fn main() -> uringd::Result<()> {
    Cluster::new().run(|_| |_: &Request<'_>| async { Response::text("hello") })
}
