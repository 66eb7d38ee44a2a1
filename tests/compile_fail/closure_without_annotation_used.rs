//! A closure that does not say what it takes, and asks it something.

use uringd::{Cluster, Response};

fn main() -> uringd::Result<()> {
    Cluster::new().run(|_| |request| Response::text(request.path().to_owned()))
}
