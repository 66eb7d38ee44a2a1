//! `uringd completions SHELL`: what a shell needs to complete the command line, made from its rows.
//!
//! Neighbours: `cli` has the rows.

use super::{Cli, print, program};
use crate::error::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// What it takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which shell: source what is printed, or put it where the shell looks for it
    ///
    /// bash: /etc/bash_completion.d/uringd; zsh: _uringd in a directory of fpath; fish: ~/.config/fish/completions/uringd.fish.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    print(&script(arguments.shell, &program()))
}

fn script(shell: Shell, program: &str) -> String {
    let mut script = vec![];
    clap_complete::generate(shell, &mut Cli::command(), program, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shells_script_knows_every_flag_and_command() {
        let command = Cli::command();
        for shell in Shell::value_variants() {
            let script = script(*shell, "uringd");
            for name in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(script.contains(name), "{shell}: {name}");
            }
            for name in command.get_subcommands().map(clap::Command::get_name) {
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
    }
}
