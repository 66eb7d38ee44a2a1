//! HTTP/1.1 with no I/O in it: fed bytes, gives bytes; tested and fuzzed without a socket.
//!
//! `request` is what a handler sees, `parse` finds the next one in the input, `response` writes an answer, `date`
//! renders the clock once a second, `exchange` is one connection's state machine over all of them.
//!
//! What a handler may give for an answer is in `convert`, `json` and (types of the `http` crate) `interop`.
//!
//! `content` takes what follows a head, `chunked` takes the transfer coding off it, a `pipe` passes pieces between a
//! connection and the program, `sse` writes events into one. What serving a file needs stands apart, each a function of fields' values: `conditional` says whether the client has the file already, `range` which part of it is asked for,
//! `accept_encoding` in which coding.
//!
//! Neighbour above: `worker`, which feeds exchanges; `handler` gives them answers.

pub mod accept_encoding;
pub mod chunked;
pub mod conditional;
mod content;
mod convert;
mod date;
mod exchange;
#[cfg(feature = "http")]
mod interop;
#[cfg(feature = "json")]
mod json;
pub mod parse;
mod pipe;
pub mod range;
mod request;
pub mod response;
pub mod sse;

pub(crate) use convert::{chain, failed};
pub use date::Date;
pub use exchange::{
    Admission, Answer, Conditions, DISCARDED_OCTETS_MAX, Exchange, Flow, Part, Progress, Service,
};
#[cfg(feature = "http")]
pub use interop::NotSpoken;
#[cfg(feature = "json")]
pub use json::{Json, JsonError};
pub use parse::{HEAD_OCTETS_MAX, REQUEST_LINE_OCTETS_MAX, Reject};
pub(crate) use pipe::Watch;
pub use pipe::{Gone, Pieces, Sender};
pub use request::{Headers, Method, Request, Version};
pub(crate) use response::{COPIED_BODY_OCTETS_MAX, Standing};
pub use response::{FileRange, InvalidStatus, Response, Rest, Status, Stream};
