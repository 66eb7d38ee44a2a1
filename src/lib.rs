//! One pinned worker process per core behind one listening socket, HTTP/1.1 straight off io_uring, and a master that
//! never lets a bug or a reload cost a client a request. You write one handler:
//!
//! ```no_run
//! use uringd::{Cluster, Request, Response};
//!
//! fn main() -> uringd::Result<()> {
//!     Cluster::new()
//!         .listen("0.0.0.0:1337")
//!         .run(|worker| move |_: &Request<'_>| Response::text(format!("hello from {}", worker.id())))
//! }
//! ```
//!
//! `cargo run --release` starts the master, and it starts this same program once per core:
//!
//! ```text
//!  master ---- starts, watches, replaces ----> worker 0   worker 1   worker 2 ...
//!    |                                          core 0     core 1     core 2
//!  signals, events                              one thread, one ring, your handler: each
//! ```
//!
//! - The closure given to [`Cluster::run`] is called once in each worker and makes its [`Handler`]: its state needs no `Send`,
//!   no `Arc`, no `Mutex` ([state](guide::state)).
//! - A [`Reply`] comes from a [`Response`], a [`Status`], text, bytes, [`Json`], a `Result` of these, or *later*: from a future on
//!   the worker's ring or from another thread ([later](guide::later)).
//! - Bodies come and go whole or in pieces, with back-pressure ([streaming](guide::streaming)); [`Files`] serves a directory.
//! - A worker that panics, crashes or is reloaded is replaced, the replacement first where that is possible
//!   ([restarts](guide::restarts)).
//! - What stands before `run` runs in every process ([processes](guide::processes)), and a handler that blocks stops its core
//!   ([blocking](guide::blocking)).
//!
//! Tests need no pool: [`test::client`] answers a request without any socket, [`Server`] is one worker in the calling thread
//! ([testing](guide::testing)). [Deployment](guide::deployment) has the rest.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `json` | yes | [`Json`] and [`Request::json`] |
//! | `http` | no | conversions with the types of the `http` crate |
//!
//! It needs Linux 6.1 or newer with io_uring allowed, and Rust 1.91. What is hidden from this documentation is not part of
//! the interface: the repository's own tests reach into it.

// The map, from the bottom up; a module imports only from those above it in tests/tidy.rs' list. ARCHITECTURE.md has
// the picture.

mod cli;
mod cluster;
pub mod config;
mod error;
mod event;
#[doc(hidden)]
pub mod files;
pub mod guide;
mod handler;
#[doc(hidden)]
pub mod http;
#[doc(hidden)]
pub mod ipc;
mod log;
mod master;
mod ring;
mod server;
mod sys;
pub mod test;
mod worker;

pub use cluster::{Cluster, Role};
pub use error::{Error, Result, RingRefusal};
pub use event::{Cause, Event, ExitStatus, Message, Roll, WorkerId, WorkerRef};
pub use files::Files;
pub use handler::{File, Handler, InPieces, IntoHandler, Promise, Reply, Sleep, read_file, sleep};
pub use http::sse;
pub use http::{
    Admission, Gone, Headers, InvalidStatus, Method, Pieces, Request, Response, Sender, Status, Version,
};
#[cfg(feature = "json")]
pub use http::{Json, JsonError};
pub use master::Pool;
pub use server::{Server, StopHandle};
pub use sys::file::MappedFile;
pub use worker::Worker;

/// The README's program must compile too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
