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
//! ([testing](guide::testing)). Every worker counts and times its requests
//! ([numbers](guide::numbers)). [Deployment](guide::deployment) has the rest.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `json` | yes | [`Json`] and [`Request::json`] |
//! | `load` | yes | the load generator `uringload`; nothing for a program that uses the library |
//! | `http` | no | conversions with the types of the `http` crate |
//!
//! It needs Linux 6.1 or newer with io_uring allowed, and Rust 1.91.
//!
//! # Versions
//!
//! Versions follow Cargo's [rules](https://doc.rust-lang.org/cargo/reference/semver.html) for what is documented here, and in
//! the same way for the flags (and with them the keys of a configuration file), subcommands, variables, signals and exit
//! codes of `--help`, the names and fields of events in the log, the paths of the control socket with their fields, and the
//! names of metrics.
//! In particular:
//!
//! - Enums and variants that may grow are `#[non_exhaustive]`; [`Role`] and [`ExitStatus`] are complete.
//!   [`Options`](config::Options) and [`FileSettings`](config::FileSettings) may grow as well, in any version, and are not
//!   marked, so that a literal of theirs can be written: end it with `..Options::default()`.
//! - Three crates stand in signatures, and a new major version of one makes one of uringd: `bytes`, `serde` (its traits), and
//!   `http` with the feature of that name. What types of [`config`] implement of `clap` and `serde` is for uringd alone.
//! - Sentences (in errors, in the log, in answers that uringd gives by itself) are for people, and may change.
//! - What is hidden from this documentation is not part of the interface: the repository's own tests reach into it.
//! - A version that asks for a newer Rust or a newer kernel is not a patch.

// The map, from the bottom up; a module imports only from those above it in tests/tidy.rs' list. ARCHITECTURE.md has
// the picture.

#[doc(hidden)]
pub mod access_log;
mod cli;
mod cluster;
pub mod config;
mod doctor;
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
#[cfg(feature = "load")]
#[doc(hidden)]
pub mod load;
mod log;
mod master;
mod ring;
mod server;
#[doc(hidden)]
pub mod stats;
mod sys;
pub mod test;
mod whole_file;
mod worker;

pub use cluster::{Cluster, Role};
pub use error::{Error, Result, RingRefusal};
pub use event::{Cause, Event, Evidence, ExitStatus, LoopPhase, Message, Roll, WorkerId, WorkerRef};
pub use files::Files;
pub use handler::{File, Handler, InPieces, IntoHandler, IntoReply, Promise, Reply, Sleep, read_file, sleep};
#[cfg(feature = "http")]
pub use http::NotSpoken;
pub use http::sse;
pub use http::{
    Admission, Gone, Headers, InvalidStatus, Method, Pieces, Request, Response, Sender, Status, Version,
};
#[cfg(feature = "json")]
pub use http::{Json, JsonError};
pub use master::Pool;
pub use server::{Server, StopHandle};
pub use stats::{Counters, Latency, Stats};
pub use sys::file::MappedFile;
pub use worker::Worker;

/// The README's program must compile too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
