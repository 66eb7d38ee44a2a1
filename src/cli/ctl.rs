//! `uringd ctl`: asks a running server, and tells it what to do. What it prints is the answer; what goes wrong is one line.
//!
//! Neighbours: `finding` knows where the control socket is, `client` speaks to it, `table` shows its status;
//! `master::control` is the other end.

mod client;
mod finding;
mod table;

use super::print;
use crate::config::Origins;
use crate::error::{Result, print_line};
use clap::{Args, Subcommand};
use client::Client;
use finding::Which;
use serde_json::Value;
use std::thread;
use std::time::Duration;

/// Between the two readings that a rate comes from.
const INTERVAL: Duration = Duration::from_secs(1);

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   not done: no server answers, or it has refused or failed; one line says why
  2   wrong usage: a flag, a variable or the configuration file does not say where to ask";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the workers: a line for each, and one for all
    Status {
        /// What the socket says at /status, as it is
        #[arg(long)]
        json: bool,
    },
    /// Follow what happens, one line of JSON for each event, until the server ends
    Events,
    /// Show the latencies of all requests so far, by slot
    Latency {
        /// The percentile table of all, as HdrHistogram's plotters read it, in microseconds
        #[arg(long)]
        hgrm: bool,
        /// In JSON
        #[arg(long, conflicts_with = "hgrm")]
        json: bool,
    },
    /// Show the options in force, and where each value came from
    Config {
        /// In JSON
        #[arg(long)]
        json: bool,
    },
    /// Have the configuration read again and all workers replaced; waits until that is done or has failed
    Reload,
    /// Have the worker in a slot replaced; waits until its replacement listens
    Restart {
        /// Which one, from 0
        slot: usize,
    },
    /// Have so many workers from now on
    Scale {
        /// How many
        workers: usize,
    },
    /// Have the server finish what is in flight and end; waits until the last worker is gone
    Stop,
}

/// What is to be printed, or the line that says why nothing is.
type Answer = std::result::Result<String, String>;

/// Why it was not done, as opposed to wrong usage.
const NOT_DONE: u8 = 1;

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let wanted = arguments.which.wanted(|name| std::env::var_os(name))?;
    match wanted.connect().and_then(|client| arguments.command.answer(client)) {
        Ok(text) => print(&text),
        Err(line) => {
            print_line(line);
            Ok(NOT_DONE)
        }
    }
}

impl Command {
    fn answer(&self, mut client: Client) -> Answer {
        match *self {
            Command::Status { json: true } => client.get("/status"),
            Command::Status { json: false } => status(&mut client),
            Command::Events => events(client),
            Command::Latency { hgrm: true, .. } => client.get("/latency?format=hgrm"),
            Command::Latency { json: true, .. } => client.get("/latency"),
            Command::Latency { .. } => client.get("/latency?format=table"),
            Command::Config { json: true } => client.get("/config"),
            Command::Config { json: false } => config(&mut client),
            Command::Reload => done(&client.post_and_wait("/reload")?),
            Command::Restart { slot } => done(&client.post_and_wait(&format!("/restart/{slot}"))?),
            Command::Scale { workers } => done(&client.post(&format!("/scale/{workers}"))?),
            Command::Stop => stop(client),
        }
    }
}

fn status(client: &mut Client) -> Answer {
    let before = json(&client.get("/status")?)?;
    thread::sleep(INTERVAL);
    Ok(table::render(&before, &json(&client.get("/status")?)?))
}

fn config(client: &mut Client) -> Answer {
    let mut answer = json(&client.get("/config")?)?;
    let origins: Origins = serde_json::from_value(answer["settings"].take()).map_err(|_| strange())?;
    Ok(origins.to_string())
}

/// Printed as they come.
fn events(client: Client) -> Answer {
    client.follow("/events")?.each(&mut |text| print(text).map(drop).map_err(|error| error.to_string()))?;
    Ok(String::new())
}

/// The events end with the server.
fn stop(client: Client) -> Answer {
    let events = client.follow("/events")?;
    let answer = events.another()?.post("/stop")?;
    events.each(&mut |_| Ok(()))?;
    done(&answer)
}

/// The line of an order that was carried out.
fn done(answer: &str) -> Answer {
    json(answer)?["done"].as_str().map(|line| format!("{line}\n")).ok_or_else(strange)
}

fn json(answer: &str) -> std::result::Result<Value, String> {
    serde_json::from_str(answer).map_err(|_| strange())
}

fn strange() -> String {
    let own = env!("CARGO_PKG_VERSION");
    format!(
        "what answers is no uringd, or not of version {own} as this ctl is: its GET /status has `version`, use that one's ctl"
    )
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use std::ffi::OsString;

    #[test]
    fn wrong_usage_is_told_from_what_is_not_done() {
        for wrong in
            ["", "status --port x", "restart", "restart x", "scale -1", "dance", "latency --json --hgrm"]
        {
            let words: Vec<OsString> =
                ["uringd", "ctl"].into_iter().chain(wrong.split_whitespace()).map(Into::into).collect();
            assert_eq!(parse(&words).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
