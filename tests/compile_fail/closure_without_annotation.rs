//! A closure that does not say what it takes.

use uringd::{Cluster, Response};

fn main() -> uringd::Result<()> {
    Cluster::new().run(|_| |_| Response::text("hello"))
}
