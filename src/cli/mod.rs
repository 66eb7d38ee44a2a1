//! The command line of `uringd`, and of every program that calls `Cluster::from_args`: the options under their headings,
//! the help around them that an operator needs on the first day (examples, signals, exit codes), and what the program
//! can do besides serving, a file each (`check`, `completions`, `ctl`, `doctor`, `man`, `print_config`).
//!
//! Neighbours: the rows are `config::options`; `cluster` calls `start` and keeps the `Source`.

mod check;
mod completions;
mod ctl;
mod doctor;
mod man;
mod print_config;
mod source;

pub use source::Source;

use crate::config;
use crate::config::Options;
use crate::error::{Error, Result, print_line};
use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

const ABOUT: &str =
    "HTTP/1.1 straight off io_uring: one worker process per core, and a master that keeps them alive";

const EXAMPLES: &str = "\
Examples:
  uringd                                   port 1337, one worker per core
  uringd --port 8080 --workers 4           another port, four workers
  uringd --listen 127.0.0.1:80 --listen unix:/run/uringd.sock --user www-data
  uringd --root ./site                     static files
  URINGD_PORT=8080 uringd                  the environment can set every option
  uringd --config uringd.toml              and so can a file
  uringd check --config uringd.toml        is that one good?
  uringd ctl status                        how is the one that runs?
  uringd doctor                            can it run on this machine, and what would be better?

A flag wins over the environment, and that over the file.";

const AFTER_HELP: &str = "\
Signals (to the master):
  SIGTERM, SIGINT, SIGQUIT   stop: finish the requests under way, then exit
                             (a second SIGTERM or SIGINT: exit at once)
  SIGHUP                     read the configuration again and replace all workers one by one,
                             without losing a request
  SIGTTIN, SIGTTOU           one worker more, one worker less
  SIGUSR1                    open the access log again, after a rotation
  SIGUSR2                    reserved

Exit codes:
  0   stopped as asked
  1   could not run
  2   wrong usage or configuration
  3   gave up: no worker is left, and restarting them did not help";

/// The command line of `uringd`.
#[derive(Debug, Parser)]
#[command(name = "uringd", version, about = ABOUT, long_about = format!("{ABOUT}\n\n{EXAMPLES}"))]
#[command(after_help = "--help says more, and lists signals and exit codes.", after_long_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    flags: Flags,

    /// Print a configuration file that has every option, with its help and its default, and exit
    #[arg(long, exclusive = true, help_heading = config::options::OPERATION)]
    print_config: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What decides how it serves.
#[derive(Debug, Args)]
struct Flags {
    /// Everything that can be set.
    #[command(flatten)]
    options: Options,

    /// File that sets options, under the names of their flags (TOML); default: none
    ///
    /// Such as `port = 8080` or `kill-timeout = "30s"`; --print-config prints one with all of them. Paths in it are, as
    /// on the command line, relative to the directory in which uringd is started.
    #[arg(long, env = Flags::FILE_VARIABLE, value_name = "FILE", help_heading = config::options::OPERATION)]
    config: Option<PathBuf>,
}

impl Flags {
    /// What clap calls the option that names the file.
    const FILE: &str = "config";
    const FILE_VARIABLE: &str = "URINGD_CONFIG";
}

/// What it can do besides serving.
#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether these options, the environment and the file are good, and start nothing
    Check(Box<Flags>),
    /// Print what completes the command line in a shell
    Completions(completions::Arguments),
    /// Ask a running server, or tell it what to do
    ///
    /// It is found by its control socket: /run/uringd/PORT.sock, or uringd/PORT.sock below XDG_RUNTIME_DIR. Which one that
    /// is, is taken from --config, --control, --port and --listen, as the server takes it; if nothing says it, the only
    /// server there is will do. Only root and the user who started it may ask. The same socket speaks HTTP:
    /// curl --unix-socket PATH http://uringd/
    Ctl(ctl::Arguments),
    /// Say whether uringd can run on this machine, and what could be set better; change nothing
    Doctor(doctor::Arguments),
    /// Print the manual page (uringd man | man -l -)
    Man,
}

impl Command {
    /// Each in one line: what it takes and what it does is in its module. Gives the exit code.
    fn run(self, matches: &ArgMatches) -> Result<u8> {
        match self {
            Command::Check(_) => check::run(&source(matches)),
            Command::Completions(arguments) => completions::run(&arguments),
            Command::Ctl(arguments) => ctl::run(&arguments),
            Command::Doctor(arguments) => doctor::run(&arguments),
            Command::Man => man::run(),
        }
    }
}

/// Reads the command line of this process. Comes back if it is to serve; ends the process after everything else:
/// subcommands, `--help` and `--version`, and wrong usage (2).
pub fn start() -> Source {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let matches = parse(&arguments).unwrap_or_else(|error| end(&error, &arguments));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| end(&error, &arguments));
    let done = match (cli.print_config, cli.command, matches.subcommand()) {
        (true, ..) => print_config::run(),
        (false, Some(command), Some((_, matches))) => command.run(matches),
        (false, ..) => return source(&matches),
    };
    match done {
        Ok(code) => process::exit(code.into()),
        Err(error) => {
            print_line(&error);
            process::exit(error.exit_code().into())
        }
    }
}

/// Reads the flags of a worker, from a command line without the word `worker`. Ends the process after wrong usage (2).
pub fn start_worker(arguments: impl IntoIterator<Item = OsString>) -> Source {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    source(&flags_of(&arguments).unwrap_or_else(|error| end(&error, &arguments)))
}

fn source(flags: &ArgMatches) -> Source {
    Source::new(flags, |name| std::env::var_os(name))
}

/// The environment is left to `Source`, which keeps it. The flags of `ctl` and others are not `Source`'s, and keep theirs.
fn parse(arguments: &[OsString]) -> std::result::Result<ArgMatches, clap::Error> {
    let command = Cli::command()
        .mut_args(without_variable)
        .mut_subcommand("check", |check| check.mut_args(without_variable));
    command.try_get_matches_from(arguments)
}

fn flags_of(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> std::result::Result<ArgMatches, clap::Error> {
    let command = Flags::augment_args(clap::Command::new("uringd")).mut_args(without_variable);
    command.try_get_matches_from(arguments)
}

fn without_variable(row: clap::Arg) -> clap::Arg {
    row.env(Resettable::Reset)
}

/// Says what clap has to say, which may be the help, and ends.
fn end(error: &clap::Error, arguments: &[OsString]) -> ! {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // again, with the environment: the help names its variables
        let _ = Cli::command().try_get_matches_from(arguments).map_err(|help| help.print());
    } else {
        print_line(message(error));
    }
    process::exit(error.exit_code())
}

/// clap's message without its usage, in one line as all our errors are.
pub(crate) fn message(error: &clap::Error) -> String {
    format!("{} (see --help)", config::message(error))
}

/// Prints a subcommand's result. Nobody need read it to its end.
fn print(text: &str) -> Result<u8> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("write to stdout", error)),
        _ => Ok(0),
    }
}

/// What the program is called where it runs: other programs than uringd have this command line, too.
fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "uringd".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_a_variable_a_help_and_a_heading() {
        let command = Cli::command();
        // 39 options, --config and --print-config
        assert_eq!(command.get_arguments().count(), 41);
        for row in command.get_arguments() {
            let name = row.get_long().expect("a long name");
            let variable = format!("URINGD_{}", name.replace('-', "_").to_uppercase());
            let expected = (name != "print-config").then_some(variable.as_str());
            assert_eq!(row.get_env().and_then(|env| env.to_str()), expected);
            assert!(row.get_help().is_some_and(|help| help.to_string().len() > 10), "{name}");
            assert!(row.get_help_heading().is_some(), "{name}");
        }
    }

    #[test]
    fn help_names_headings_commands_signals_and_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        let headings =
            ["Listening:", "Workers:", "Restarts:", "Connections:", "Requests:", "Files:", "Logging:"];
        let others = ["Commands:", "completions", "Examples:", "SIGTTOU", "Exit codes:", "[default: 75s]"];
        for expected in headings.into_iter().chain(others) {
            assert!(help.contains(expected), "{expected} is missing in\n{help}");
        }
    }

    fn exit_code(words: &[&str]) -> Option<i32> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        parse(&words).err().map(|error| error.exit_code())
    }

    #[test]
    fn exit_codes_tell_wrong_usage_from_a_wish_for_help() {
        let code = |word| exit_code(&["uringd", word]);
        assert_eq!((code("--help"), code("--version")), (Some(0), Some(0)));
        assert_eq!((code("--bogus"), code("stray"), code("completions")), (Some(2), Some(2), Some(2)));
        let version = parse(&["uringd".into(), "--version".into()]).unwrap_err().to_string();
        assert_eq!(version, format!("uringd {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn a_subcommand_has_its_flags_behind_it() {
        assert_eq!(exit_code(&["uringd", "check", "--port", "80", "--config", "a"]), None);
        assert_eq!(exit_code(&["uringd", "--port", "80", "check"]), Some(2));
        assert_eq!(exit_code(&["uringd", "--print-config", "--port", "80"]), Some(2));
        assert!(flags_of(["uringd", "check"]).is_err(), "a worker only serves");
    }
}
