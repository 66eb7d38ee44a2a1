//! State that the factory borrows from `main`.

use uringd::{Cluster, Request, Response};

fn main() -> uringd::Result<()> {
    let greeting = String::from("hello");
    Cluster::new().run(|_| |_: &Request<'_>| Response::text(greeting.clone()))
}
