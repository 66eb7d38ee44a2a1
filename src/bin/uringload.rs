//! The program `uringload`, a load generator for HTTP/1.1 servers. All of it is in `load`.
//!
//! Neighbours: `load`.

use std::process::ExitCode;

fn main() -> ExitCode {
    uringd::load::main()
}
