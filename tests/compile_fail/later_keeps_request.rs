//! A request that is kept in what answers later.

use uringd::{Cluster, Reply, Request, Response};

fn main() -> uringd::Result<()> {
    Cluster::new().run(|_| {
        |request: &Request<'_>| {
            Reply::later(async move { Response::text(request.path().to_owned()) })
        }
    })
}
