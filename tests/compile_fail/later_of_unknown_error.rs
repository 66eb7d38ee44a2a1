//! A future that uses `?` and does not say what its error is.

use uringd::{Reply, Request, Response};

fn handle(_: &Request<'_>) -> Reply {
    Reply::later(async {
        let motd = uringd::read_file("/etc/motd").await?;
        Ok(Response::text(motd))
    })
}

fn main() {
    let _ = uringd::test::client(handle);
}
