//! Content whose pieces are made of what may not leave its thread.

use bytes::Bytes;
use std::rc::Rc;
use uringd::{Request, Response};

fn handle(_: &Request<'_>) -> Response {
    let line = Rc::new("line\n");
    Response::stream((0..10).map(move |_| Ok(Bytes::from_static(line.as_bytes()))))
}

fn main() {
    let _ = uringd::test::client(handle);
}
