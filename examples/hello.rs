//! The smallest program: every request is answered with one line.
//!
//! ```text
//! cargo run --example hello
//! curl http://127.0.0.1:1337/
//! ```
//!
//! | path | what it does |
//! |---|---|
//! | any | says hello, and which worker process answers |
//!
//! It takes no flags; the other examples take all of uringd's, by `Cluster::from_args()`.

use uringd::{Cluster, Request, Response};

fn main() -> uringd::Result<()> {
    Cluster::new()
        .listen("0.0.0.0:1337")
        .run(|worker| move |_: &Request<'_>| Response::text(format!("hello from {}", worker.id())))
}
