//! The command line of `uringload`: one row an option. Parsing judges how a value is written; what it means together
//! with others is checked once, in `Options::plan` and `Target::new`.
//!
//! Neighbours: `run` has it read; `target` makes requests of it, the reports name its plan.

use super::compare;
use super::record::Plan;
use crate::cli::message;
use bytes::Bytes;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

const ABOUT: &str =
    "Loads an HTTP/1.1 server off io_uring and says what its clients would see: rate, latencies, errors";

const EXAMPLES: &str = "\
Examples:
  uringload http://127.0.0.1:1337/                        64 connections, as fast as the server answers
  uringload http://127.0.0.1:1337/ -r 50000 -d 30s        50,000 requests a second, whatever the server does
  uringload http://127.0.0.1:1337/a http://127.0.0.1:1337/b -c 512 -t 2 -p 16
  uringload http://127.0.0.1:1337/upload --body @film.mp4 --chunked -n 100
  uringload http://unix:/run/uringd.sock:/ --json -
  uringload report before.json after.json --html report.html";

const AFTER_HELP: &str = "\
Times have a unit (250ms, 10s, 1m); without one they are seconds.

How it loads:
  Without --rate the loop is closed: each connection sends its next request when an answer has come, so a server that
  stalls is asked less. Latency counts from the send.
  With --rate the loop is open: requests start by schedule, whatever the server does, and latency counts from the
  intended start. While all connections are busy requests wait, and their waiting counts; so does the time that a new
  connection takes. Service time, from the send, is told beside it.
  The run begins when every connection has been tried (at most one second after the first is open). When it ends, no
  request is started; those in flight, and those that were due and have found no connection yet, have --timeout to be
  answered and count. The rate is what was answered in the time up to the last answer.
  With --rate a request that is not answered within --timeout, or was due and could not be sent even by the end, is a
  timeout and counts in the latencies with what it has waited since its intended start. Other errors are in no latency.
  The rate is said not to be reached where requests could not be sent in time, however long their answers took.

Results:
  FILE of --json, --hgrm and --html is written as FILE.new and takes its place when it is whole: a run that fails
  leaves the last one's. Of --hlog it is written as the run goes on.

Connections:
  One that ends is opened again: at once, then after 1 ms, 2 ms and so on to 100 ms while it brings no answer (longer
  with more than 1,000 of them in a thread: no more than 10,000 attempts a second).
  Requests behind an answer that closes the connection are sent again on another one; all others that a connection
  takes with it are errors. The last of --requests-per-connection asks the server to close (Connection: close), so that
  no local port is kept waiting.

Signals:
  SIGINT, SIGTERM   stop, and say what there is (a second one: end at once)

Exit codes:
  0   at least one answer was a 2xx
  1   none was
  2   wrong usage";

/// The command line of `uringload`.
#[derive(Debug, Parser)]
#[command(name = "uringload", version, about = ABOUT, long_about = format!("{ABOUT}\n\n{EXAMPLES}"))]
#[command(after_help = "--help says more: how it loads, signals, exit codes.", after_long_help = AFTER_HELP)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What else there is to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to load.
    #[command(flatten)]
    pub options: Options,
}

/// What does not load anything.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compares runs that were saved with --json
    Report(compare::Options),
}

/// How to load, as typed.
#[derive(Debug, Args)]
pub struct Options {
    /// What to request: http://HOST[:PORT]/PATH, or http://unix:/SOCKET:/PATH; several are requested in rotation
    ///
    /// All of one server. Of a name with several addresses the first is used that takes a connection.
    #[arg(value_name = "URL", required = true)]
    pub urls: Vec<String>,

    /// Connections at a time, in all threads together
    #[arg(short, long, value_name = "N", default_value = "64", value_parser = at_least_one)]
    pub connections: u64,

    /// How long to load, --warmup not included; default: 10s, unless --requests is given
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    pub duration: Option<Duration>,

    /// How many requests to send, those of --warmup not included; with --duration too, what is reached first ends the run
    #[arg(short = 'n', long, value_name = "N", value_parser = at_least_one)]
    pub requests: Option<u64>,

    /// Requests a second, in all threads together (an open loop); default: as many as are answered (a closed loop)
    #[arg(short, long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,

    /// Requests in flight on a connection (HTTP pipelining)
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub pipeline: u32,

    /// Requests on a connection before another is opened in its place; default: as many as the server answers
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub requests_per_connection: Option<u64>,

    /// Threads, each with a ring and a core of its own, counted from the last core down
    ///
    /// One is enough for hundreds of thousands of requests a second. There are never more than connections.
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,

    /// The method; default: GET, or POST with --body
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub method: Option<String>,

    /// A field of every request, 'Name: value'; may be given several times
    ///
    /// Host takes the place of the URL's.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub headers: Vec<String>,

    /// The content of every request: the name of a file, or the text itself; @FILE is always a file
    #[arg(long, value_name = "FILE|TEXT")]
    pub body: Option<Body>,

    /// Send the content in chunks of 16 KiB (Transfer-Encoding) instead of with its length
    #[arg(long)]
    pub chunked: bool,

    /// Load for so long first, without counting anything
    ///
    /// What starts in the warm-up is not recorded, even if it is answered later. Connections that are open when it ends
    /// count as opened.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time_or_none)]
    pub warmup: Duration,

    /// How long an answer may take, from the send on, and a connection to open
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub timeout: Duration,

    /// Where to write the results as JSON; -: stdout, and the summary goes to stderr
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,

    /// Where to write the percentile table that HdrHistogram's plotters read, in microseconds
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,

    /// Where to write HdrHistogram's interval log (V2) as the run goes on, one tag a thread
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,

    /// Where to write one page with the curves; nothing else is needed to view it
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Reads the command line. Ends the process after `--help` and `--version` (0) and after wrong usage (2).
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        if error.use_stderr() {
            eprintln!("uringload: {}", message(&error));
            std::process::exit(error.exit_code());
        }
        error.exit()
    })
}

/// `--body` as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(String);

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body(text)
    }
}

impl Body {
    /// Reads the file where it is one.
    ///
    /// # Errors
    /// One line: the file cannot be read.
    pub fn load(&self) -> Result<Bytes, String> {
        let text = &self.0;
        let named = text.strip_prefix('@').or_else(|| is_file(text).then_some(text.as_str()));
        match named {
            Some(file) => {
                std::fs::read(file).map(Bytes::from).map_err(|error| format!("--body {text}: {error}"))
            }
            None => Ok(Bytes::copy_from_slice(text.as_bytes())),
        }
    }
}

impl Options {
    /// The method of all requests.
    pub fn method(&self, has_content: bool) -> String {
        let default = if has_content { "POST" } else { "GET" };
        self.method.clone().unwrap_or_else(|| default.to_owned())
    }

    /// What is asked for, with the defaults that depend on other options.
    pub fn plan(&self) -> Plan {
        let duration = self.duration.or_else(|| self.requests.is_none().then_some(Duration::from_secs(10)));
        let connections = usize::try_from(self.connections).unwrap_or(usize::MAX);
        Plan {
            urls: self.urls.clone(),
            connections,
            threads: (self.threads as usize).min(connections),
            pipeline: self.pipeline as usize,
            rate: self.rate,
            requests_per_connection: self.requests_per_connection,
            duration,
            requests: self.requests,
            warmup: self.warmup,
            timeout: self.timeout,
            method: self.method(self.body.is_some()),
        }
    }
}

fn is_file(text: &str) -> bool {
    std::fs::metadata(text).is_ok_and(|file| file.is_file())
}

fn at_least_one(text: &str) -> Result<u64, String> {
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && (1..=1 << 53).contains(number));
    number.ok_or_else(|| "expected a whole number from 1 on".to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    let plain = text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let number = text.parse().ok().filter(|rate| plain && (0.001..=1e9).contains(rate));
    number.ok_or_else(|| "expected requests a second, from 0.001 to 1000000000".to_string())
}

fn time(text: &str) -> Result<Duration, String> {
    time_or_none(text).and_then(|time| {
        if time.is_zero() { Err("expected some time, such as 250ms, 5s or 1m".into()) } else { Ok(time) }
    })
}

/// A year is beyond any use, and no sum of such times overflows.
fn time_or_none(text: &str) -> Result<Duration, String> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let bare = text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let seconds = || Duration::try_from_secs_f64(text.parse().ok()?).ok();
    let time = if bare { seconds() } else { humantime::parse_duration(text).ok() };
    time.filter(|time| *time <= YEAR).ok_or_else(|| "expected a time such as 250ms, 5s or 1m".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
        Cli::try_parse_from([&["uringload"], arguments].concat()).map(|cli| cli.options)
    }

    #[test]
    fn the_command_is_consistent_and_every_option_says_what_it_is() {
        Cli::command().debug_assert();
        for row in Cli::command().get_arguments() {
            assert!(row.get_help().is_some_and(|help| help.to_string().len() > 10), "{}", row.get_id());
        }
    }

    #[test]
    fn defaults_depend_on_what_is_given() {
        let ten = Some(Duration::from_secs(10));
        let plan = |arguments: &[&str]| options(arguments).unwrap().plan();
        assert_eq!((plan(&["u"]).duration, plan(&["u"]).requests), (ten, None));
        assert_eq!(plan(&["u", "-n", "5"]).duration, None);
        assert_eq!(plan(&["u", "-n", "5", "-d", "10"]).duration, ten);
        assert_eq!(plan(&["u"]).method, "GET");
        assert_eq!(plan(&["u", "--body", "x"]).method, "POST");
        assert_eq!(plan(&["u", "--body", "x", "-X", "PUT"]).method, "PUT");
        assert_eq!(plan(&["u", "-c", "2", "-t", "4"]).threads, 2);
        assert_eq!(plan(&["u", "-r", "0.5"]).rate, Some(0.5));
    }

    #[test]
    fn a_report_needs_no_url() {
        let cli = Cli::try_parse_from(["uringload", "report", "a.json", "b.json"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Report(report)) if report.runs.len() == 2));
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        let table = [
            &["u", "-c", "0"][..],
            &["u", "-c", "+1"],
            &["u", "-d", "0"],
            &["u", "-d", "soon"],
            &["u", "-d", "500y"],
            &["u", "-r", "0"],
            &["u", "-r", "NaN"],
            &["u", "-r", "-1"],
            &["u", "-r", "1000000001"],
            &["u", "-p", "0"],
            &["u", "-t", "0"],
            &["u", "-n", "0"],
            &[],
        ];
        for arguments in table {
            assert_eq!(options(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn a_body_is_text_or_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "inside").unwrap();
        let path = file.path().to_str().unwrap();
        let load = |text: &str| Body(text.to_owned()).load();
        assert_eq!(load("plain").unwrap(), "plain");
        assert_eq!(
            (load(path).unwrap(), load(&format!("@{path}")).unwrap()),
            ("inside".into(), "inside".into())
        );
        assert!(load("@/no/such/file").unwrap_err().starts_with("--body @/no/such/file: No such file"));
    }
}
