//! A factory that gives an answer instead of what answers.

use uringd::{Cluster, Response};

fn main() -> uringd::Result<()> {
    Cluster::new().run(|_| Response::text("hello"))
}
