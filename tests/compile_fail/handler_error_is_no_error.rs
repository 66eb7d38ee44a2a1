//! A handler whose error is no error.

use uringd::{Cluster, Request, Response};

#[derive(Debug)]
struct NoMilk;

fn coffee(_: &Request<'_>) -> Result<Response, NoMilk> {
    Err(NoMilk)
}

fn main() -> uringd::Result<()> {
    Cluster::new().run(|_| coffee)
}
