//! State that the factory makes and the handler only borrows.

use uringd::{Cluster, Request, Response};

fn main() -> uringd::Result<()> {
    Cluster::new().run(|worker| |_: &Request<'_>| Response::text(format!("hello from {}", worker.id())))
}
