//! A program that speaks in the types of the `http` crate.

use bytes::Bytes;
use uringd::{Cluster, NotSpoken, Request};

fn handle(request: &Request<'_>) -> Result<http::Response<Bytes>, http::Error> {
    let request: http::Request<Bytes> = request.try_into()?;
    http::Response::builder().status(http::StatusCode::ACCEPTED).body(request.into_body())
}

fn main() -> uringd::Result<()> {
    let method: Result<uringd::Method, NotSpoken> = (&http::Method::GET).try_into();
    assert!(method.is_ok());
    Cluster::new().run(|_| handle)
}
