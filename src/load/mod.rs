//! The load generator: HTTP/1.1 requests off io_uring in a closed loop or at a constant rate, and what came of them as
//! latency distributions.
//!
//! `record` is what the threads that load say and what the reports are made of. Neighbours: `ring` carries the bytes,
//! `stats` writes percentile tables and interval logs; no part of the server knows this folder.

mod bars;
mod chart;
pub mod collect;
pub mod compare;
mod connection;
mod engine;
pub mod figures;
pub mod html;
pub mod json;
mod options;
pub mod reader;
pub mod record;
mod recorder;
mod run;
mod schedule;
pub mod summary;
mod target;

use clap::Parser;
use std::process::ExitCode;

/// The program.
pub fn main() -> ExitCode {
    let options = options::Options::parse();
    run::run(&options).unwrap_or_else(|problem| {
        eprintln!("uringload: {problem}");
        ExitCode::FAILURE
    })
}
