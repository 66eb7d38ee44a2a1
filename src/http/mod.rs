//! HTTP/1.1 with no I/O in it: fed bytes, gives bytes; tested and fuzzed without a socket.
//!
//! `request` is what a handler sees, `parse` finds the next one in the input, `response` writes an answer, `date`
//! renders the clock once a second, `exchange` is one connection's state machine over all of them.
//!
//! `chunked` takes the transfer coding off content.
//!
//! Neighbour above: `worker`, which feeds exchanges; `handler` gives them answers.

pub mod chunked;
mod date;
mod exchange;
mod parse;
mod request;
mod response;

pub use date::Date;
pub use exchange::{Answer, Conditions, Exchange, Progress, Service};
pub use parse::{HEAD_OCTETS_MAX, REQUEST_LINE_OCTETS_MAX, Reject};
pub use request::{Headers, Method, Request, Version};
pub use response::{Response, Status};
