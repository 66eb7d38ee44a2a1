//! `uringd doctor`: what this machine does for uringd, and what it could do. Exit code 0 if uringd can run here, 1 if not.
//!
//! Neighbours: `doctor` looks and decides.

use super::print;
use crate::doctor;
use crate::error::{Error, Result};

/// What it takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print what was found as JSON
    #[arg(long, conflicts_with = "knob")]
    json: bool,

    /// Print the page about this knob instead: what it changes, why, what it costs, how to undo it, what was measured
    #[arg(value_name = "KNOB")]
    knob: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    if let Some(knob) = &arguments.knob {
        let page = doctor::page(knob).map_err(|near| {
            Error::config(
                format!("doctor {knob}"),
                format!("there is no page about it; the nearest is {near}"),
            )
        });
        return print(page?);
    }
    let report = doctor::examine();
    let text = match arguments.json {
        true => {
            serde_json::to_string_pretty(&report).map_err(|problem| Error::message("written", &problem))?
                + "\n"
        }
        false => report.to_string(),
    };
    print(&text).map(|_| u8::from(!report.can_run))
}
