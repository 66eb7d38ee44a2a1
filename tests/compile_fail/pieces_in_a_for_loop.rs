//! Pieces of a body are no iterator: each is waited for.

use uringd::{Request, Response};

fn handle(request: &Request<'_>) -> Response {
    let mut octets = 0;
    for piece in request.pieces() {
        octets += piece.len();
    }
    Response::text(octets.to_string())
}

fn main() {
    let _ = uringd::test::client(handle);
}
