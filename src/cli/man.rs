//! `uringd man`: the manual page, made from the rows; what stands around the options in `--help` are sections of their
//! own here, left as they are laid out there.
//!
//! Neighbours: `cli` has the rows and the texts.

use super::{AFTER_HELP, Cli, EXAMPLES, print, program};
use crate::error::{Error, Result};
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io;

pub(super) fn run() -> Result<u8> {
    print(&page(&program()).map_err(|error| Error::io("write the manual page", error))?)
}

fn page(program: &str) -> io::Result<String> {
    let about = super::ABOUT;
    let usage = format!("{program} [OPTIONS]\n{program} SUBCOMMAND");
    let command =
        Cli::command().display_name(program).bin_name(program).long_about(about).override_usage(usage);
    let mut commands = Roff::new();
    commands.control("SH", ["COMMANDS"]);
    command.get_subcommands().for_each(|command| describe(&mut commands, "", command));
    let man = Man::new(command).section("8").title(program.to_uppercase());
    let mut page = vec![];
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    commands.to_writer(&mut page)?;
    for text in [AFTER_HELP, EXAMPLES] {
        for section in text.split("\n\n") {
            as_laid_out(section).to_writer(&mut page)?;
        }
    }
    man.render_version_section(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// One page for all: they have no pages of their own to refer to.
fn describe(roff: &mut Roff, before: &str, command: &clap::Command) {
    let name = format!("{before}{}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    roff.control("TP", []).text([bold(name.as_str())]).text([roman(about)]);
    command.get_subcommands().for_each(|command| describe(roff, &format!("{name} "), command));
}

/// A paragraph whose first line ends in a colon is a section; any other is text.
fn as_laid_out(paragraph: &str) -> Roff {
    let mut roff = Roff::new();
    let (title, lines) = match paragraph.split_once(":\n") {
        Some((title, lines)) => (Some(title), lines),
        None => (None, paragraph),
    };
    match title {
        Some(title) => roff.control("SH", [title.to_uppercase().as_str()]),
        None => roff.control("PP", []),
    };
    roff.control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff
}
