//! The command line of `uringd`: the options under their headings, and the help around them that an operator needs
//! on the first day (examples, signals, exit codes).
//!
//! Neighbours: the rows are `config::options`; `main` hands what comes out to `Config::resolve`.

use crate::config::Options;
use crate::error::print_line;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};
use std::ffi::OsString;

const ABOUT: &str =
    "HTTP/1.1 straight off io_uring: one worker process per core, and a master that keeps them alive";

const EXAMPLES: &str = "\
Examples:
  uringd                                   port 1337, one worker per core
  uringd --port 8080 --workers 4           another port, four workers
  uringd --listen 127.0.0.1:80 --listen unix:/run/uringd.sock --user www-data
  uringd --root ./site                     static files
  URINGD_PORT=8080 uringd                  the environment can set every option

A flag wins over the environment.";

const AFTER_HELP: &str = "\
Signals (to the master):
  SIGTERM, SIGINT, SIGQUIT   stop: finish the requests under way, then exit
                             (a second SIGTERM or SIGINT: exit at once)
  SIGHUP                     replace all workers one by one, without losing a request
  SIGTTIN, SIGTTOU           one worker more, one worker less
  SIGUSR1, SIGUSR2           reserved

Exit codes:
  0   stopped as asked
  1   could not run
  2   wrong usage or configuration
  3   gave up: no worker is left, and restarting them did not help";

/// The command line of `uringd`.
#[derive(Debug, Parser)]
#[command(name = "uringd", version, about = ABOUT, long_about = format!("{ABOUT}\n\n{EXAMPLES}"))]
#[command(after_help = "--help says more, and lists signals and exit codes.", after_long_help = AFTER_HELP)]
pub struct Cli {
    /// Everything that can be set.
    #[command(flatten)]
    pub options: Options,
}

/// Reads the command line and the environment. Ends the process after `--help` and `--version` (0) and after wrong
/// usage (2).
pub fn parse() -> Options {
    parse_or_exit(std::env::args_os())
}

/// The same with these arguments; the first is the program's name.
pub fn parse_or_exit(arguments: impl IntoIterator<Item = OsString>) -> Options {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    parse_from(&arguments).unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        print_line(one_line(&error, &arguments));
        std::process::exit(error.exit_code())
    })
}

/// The message in one line, with the variable if that was at fault.
fn one_line(error: &clap::Error, arguments: &[OsString]) -> String {
    let variable = variable_at_fault(error, arguments).map(|name| format!("{name}: ")).unwrap_or_default();
    format!("{variable}{}", message(error))
}

/// clap's message without its usage, in one line as all our errors are.
pub(crate) fn message(error: &clap::Error) -> String {
    let message = error.to_string();
    let parts = message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let parts = parts.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let line = parts.collect::<Vec<_>>().join("; ").replace("; [", " [");
    format!("{} (see --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

/// The environment variable that the value came from: its option was not typed.
fn variable_at_fault(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = option.split(' ').next()?;
    let typed = |argument: &OsString| argument.to_string_lossy().split('=').next() == Some(flag);
    let command = Cli::command();
    let mut rows = command.get_arguments();
    let row = rows.find(|row| row.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long)))?;
    let variable = row.get_env().filter(|name| std::env::var_os(name).is_some())?;
    (!arguments.iter().any(typed)).then(|| variable.to_string_lossy().into_owned())
}

/// Reads these arguments (the first is the program's name) and the environment.
///
/// # Errors
/// Wrong usage, and also `--help` and `--version`: `clap::Error::exit_code` tells them apart.
pub fn parse_from<A>(args: A) -> std::result::Result<Options, clap::Error>
where
    A: IntoIterator,
    A::Item: Into<OsString> + Clone,
{
    Cli::try_parse_from(args).map(|cli| cli.options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_empty_command_line_is_the_default() {
        assert_eq!(parse_from(["uringd"]).unwrap(), Options::default());
    }

    #[test]
    fn every_option_has_a_variable_a_help_and_a_heading() {
        let command = Cli::command();
        assert_eq!(command.get_arguments().count(), 39);
        for row in command.get_arguments() {
            let name = row.get_long().expect("a long name");
            let variable = format!("URINGD_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(row.get_env().and_then(|env| env.to_str()), Some(variable.as_str()));
            assert!(row.get_help().is_some_and(|help| help.to_string().len() > 10), "{name}");
            assert!(row.get_help_heading().is_some(), "{name}");
        }
    }

    #[test]
    fn help_names_headings_signals_and_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        let headings =
            ["Listening:", "Workers:", "Restarts:", "Connections:", "Requests:", "Files:", "Logging:"];
        for expected in headings.into_iter().chain(["Examples:", "SIGTTOU", "Exit codes:", "[default: 75s]"])
        {
            assert!(help.contains(expected), "{expected} is missing in\n{help}");
        }
    }

    #[test]
    fn exit_codes_tell_wrong_usage_from_a_wish_for_help() {
        let code = |flag| parse_from(["uringd", flag]).unwrap_err().exit_code();
        assert_eq!((code("--help"), code("--version"), code("--bogus"), code("stray")), (0, 0, 2, 2));
        let version = parse_from(["uringd", "--version"]).unwrap_err().to_string();
        assert_eq!(version, format!("uringd {}\n", env!("CARGO_PKG_VERSION")));
    }
}
