//! A handler that gives what is no reply.

use uringd::{Cluster, Request};

fn main() -> uringd::Result<()> {
    Cluster::new().run(|_| {
        |request: &Request<'_>| {
            println!("{}", request.path());
        }
    })
}
