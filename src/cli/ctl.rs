//! `uringd ctl`: asks a running server, and tells it what to do. What it prints is the answer; what goes wrong is one line.
//!
//! Neighbours: `client` speaks to the control socket, `table` shows its status; `master::control` is the other end.

mod client;
mod table;

use super::print;
use crate::config::options::DEFAULT_PORT;
use crate::config::{Control, Listen, Origins};
use crate::error::{Result, print_line};
use crate::master::control::place;
use clap::{Args, Subcommand};
use client::Client;
use serde_json::Value;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

/// Between the two readings that a rate comes from.
const INTERVAL: Duration = Duration::from_secs(1);

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   not done; one line says why
  2   wrong usage";

/// What it takes. The rows have names of their own for clap: values of global ones would else come from the options of a
/// server, which are called the same.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Arguments {
    /// The control socket; default: URINGD_CONTROL, or what belongs to --port and --listen
    #[arg(id = "ctl-control", long = "control", value_name = "PATH", global = true)]
    control: Option<Control>,

    /// The server's first port, if not 1337; default: URINGD_PORT
    #[arg(id = "ctl-port", long = "port", value_name = "PORT", global = true)]
    port: Option<u16>,

    /// The server's first address, if it has no --port; default: URINGD_LISTEN
    #[arg(id = "ctl-listen", long = "listen", value_name = "ADDR", value_delimiter = ',', global = true)]
    listen: Vec<Listen>,

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
    match arguments.answer() {
        Ok(text) => print(&text),
        Err(line) => {
            print_line(line);
            Ok(NOT_DONE)
        }
    }
}

impl Arguments {
    fn answer(&self) -> Answer {
        let places = self.places()?;
        let mut client = Client::connect(&places)?;
        match self.command {
            Command::Status { json: true } => client.get("/status"),
            Command::Status { json: false } => status(&mut client),
            Command::Events => events(client),
            Command::Latency { hgrm: true, .. } => client.get("/latency?format=hgrm"),
            Command::Latency { json: true, .. } => client.get("/latency"),
            Command::Latency { .. } => client.get("/latency?format=table"),
            Command::Config { json: true } => client.get("/config"),
            Command::Config { json: false } => config(&mut client),
            Command::Reload => done(&client.post("/reload")?),
            Command::Restart { slot } => done(&client.post(&format!("/restart/{slot}"))?),
            Command::Scale { workers } => done(&client.post(&format!("/scale/{workers}"))?),
            Command::Stop => stop(client, &places),
        }
    }

    /// Where the socket may be. What was typed wins over the environment, also where it says less directly where to look.
    fn places(&self) -> std::result::Result<Vec<PathBuf>, String> {
        let nothing_typed = self.control.is_none() && self.port.is_none() && self.listen.is_empty();
        let control = match &self.control {
            None if nothing_typed => variable("URINGD_CONTROL")?,
            typed => typed.clone(),
        };
        match control.unwrap_or_default() {
            Control::Off => {
                Err("control is off (--control, URINGD_CONTROL): nothing can be asked".to_owned())
            }
            Control::Path(path) => Ok(vec![path]),
            Control::Auto => {
                let runtime = std::env::var_os("XDG_RUNTIME_DIR");
                Ok(place::candidates(&self.addresses()?, runtime.as_deref()))
            }
        }
    }

    /// Where the server listens, as far as its socket is named by it.
    fn addresses(&self) -> std::result::Result<Vec<Listen>, String> {
        let nothing_typed = self.port.is_none() && self.listen.is_empty();
        let port = if nothing_typed { variable("URINGD_PORT")? } else { self.port };
        let listen = match std::env::var("URINGD_LISTEN") {
            Ok(text) if nothing_typed => {
                let parse = |text: &str| text.parse().map_err(|problem| format!("URINGD_LISTEN: {problem}"));
                text.split(',').map(parse).collect::<std::result::Result<_, String>>()?
            }
            _ => self.listen.clone(),
        };
        let mut addresses: Vec<Listen> = port.map(Listen::DualStack).into_iter().chain(listen).collect();
        if addresses.is_empty() {
            addresses.push(Listen::DualStack(DEFAULT_PORT));
        }
        match addresses.iter().find_map(Listen::socket_addr) {
            Some(address) if address.port() == 0 => Err(
                "port 0 is any port: say which one it became (--port), or where the socket is (--control)"
                    .to_owned(),
            ),
            _ => Ok(addresses),
        }
    }
}

/// A value of the environment.
fn variable<T: FromStr<Err: std::fmt::Display>>(name: &str) -> std::result::Result<Option<T>, String> {
    match std::env::var(name) {
        Ok(text) => text.parse().map(Some).map_err(|problem| format!("{name}: {problem}")),
        Err(_) => Ok(None),
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
fn stop(mut client: Client, places: &[PathBuf]) -> Answer {
    let events = Client::connect(places)?.follow("/events")?;
    let answer = client.post("/stop")?;
    drop(client);
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
    "what answers is no uringd, or one of another version".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command, parse};
    use super::*;
    use clap::FromArgMatches;

    fn typed(words: &str) -> std::result::Result<Arguments, clap::Error> {
        let words: Vec<_> =
            ["uringd", "ctl"].into_iter().chain(words.split_whitespace()).map(Into::into).collect();
        match Cli::from_arg_matches(&parse(&words)?)?.command {
            Some(Command::Ctl(arguments)) => Ok(arguments),
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn what_was_typed_says_where_to_look() {
        let table = [
            ("status --port 80", Ok("/run/uringd/80.sock")),
            ("--port 80 status", Ok("/run/uringd/80.sock")),
            ("status --listen unix:/x/a.sock", Ok("/run/uringd/a.sock")),
            ("status --listen 127.0.0.1:81,unix:/x/a.sock", Ok("/run/uringd/81.sock")),
            ("status --control ./x --port 80", Ok("./x")),
            ("status --port 0", Err("port 0 is any port")),
            ("status --control off", Err("nothing can be asked")),
        ];
        for (words, expected) in table {
            match (typed(words).unwrap().places(), expected) {
                (Ok(places), Ok(first)) => assert_eq!(places[0], PathBuf::from(first)),
                (Err(line), Err(part)) => assert!(line.contains(part), "{line}"),
                (got, _) => panic!("{expected:?}: {got:?}"),
            }
        }
        for wrong in
            ["", "status --port x", "restart", "restart x", "scale -1", "dance", "latency --json --hgrm"]
        {
            assert_eq!(typed(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
