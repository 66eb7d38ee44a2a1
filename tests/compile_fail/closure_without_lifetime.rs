//! A closure that takes a request of one lifetime, or the request itself.

use uringd::{Cluster, Request, Response};

fn main() -> uringd::Result<()> {
    Cluster::new().run(|_| |request: Request<'_>| Response::text(request.path().to_owned()))
}
