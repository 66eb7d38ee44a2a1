//! A factory whose error is no error.

use uringd::{Cluster, Request, Response};

#[derive(Debug)]
struct NoMilk;

fn main() -> uringd::Result<()> {
    Cluster::new().run(|_| {
        if std::env::args().count() > 1 {
            return Err(NoMilk);
        }
        Ok(|_: &Request<'_>| Response::text("coffee"))
    })
}
