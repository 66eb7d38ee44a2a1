//! The next piece of a body is waited for.

use uringd::{InPieces, Reply, Request, Response};

fn main() {
    let _ = uringd::test::client(InPieces(|request: &Request<'_>| {
        let mut pieces = request.pieces();
        Reply::later(async move {
            let mut octets = 0;
            while let Some(piece) = pieces.next() {
                octets += piece?.len();
            }
            std::io::Result::Ok(Response::text(octets.to_string()))
        })
    }));
}
