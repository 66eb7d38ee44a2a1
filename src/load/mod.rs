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

use options::{Cli, Command};
use std::process::ExitCode;

/// The program.
pub fn main() -> ExitCode {
    let Cli { command, options } = options::parse();
    let outcome = match command {
        Some(Command::Report(report)) => report.run().map(|()| ExitCode::SUCCESS),
        None => run::run(&options),
    };
    outcome.unwrap_or_else(|problem| {
        eprintln!("uringload: {problem}");
        ExitCode::FAILURE
    })
}
