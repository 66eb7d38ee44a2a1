//! One pinned worker process per core behind one listening socket, HTTP/1.1 straight off io_uring, and a master that
//! never lets a bug or a reload cost a client a request.
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
//! The map, from the bottom up; a module imports only from those above it in this list:
//! `error`, `event`, `sys` (system calls), `http` (no I/O in it), `ring` (io_uring), `config`, `ipc` (Node's channel),
//! `handler`, `files`, `worker`, `master`, `cluster`, `server`. ARCHITECTURE.md in the repository has the picture.

mod cli;
mod cluster;
pub mod config;
mod error;
mod event;
pub mod files;
mod handler;
pub mod http;
pub mod ipc;
mod log;
pub mod master;
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
pub use http::{Admission, Gone, InvalidStatus, Pieces, Request, Response, Sender, Status};
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
