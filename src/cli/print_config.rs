//! `uringd --print-config`: a configuration file with every option under its heading, made from the rows. What has a
//! default is set to it, what has none is commented out, so that the file as it is changes nothing.
//!
//! Neighbours: `config::options` has the rows, `config::toml` reads the file.

use super::print;
use crate::config::default_of;
use crate::config::options::rows;
use crate::error::Result;
use clap::{Arg, ArgAction};
use std::fmt::Write;

/// How wide the comments are.
const WIDTH: usize = 100;

const HEAD: &str = "Every option of uringd, with what it is if nothing is said. A flag wins over the environment, and that over this \
    file. What has no default stands behind #. Relative paths begin in the directory in which uringd is started.";

pub(super) fn run() -> Result<u8> {
    print(&file())
}

fn file() -> String {
    let mut file = String::new();
    comment(&mut file, HEAD);
    let command = rows();
    for heading in headings(&command) {
        let _ = writeln!(file, "\n\n# ---- {heading} ----");
        for row in command.get_arguments().filter(|row| row.get_help_heading() == heading.into()) {
            option(&mut file, row);
        }
    }
    file
}

/// In the order in which `--help` has them.
fn headings(command: &clap::Command) -> Vec<&str> {
    let mut headings = vec![];
    for heading in command.get_arguments().filter_map(Arg::get_help_heading) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    headings
}

fn option(file: &mut String, row: &Arg) {
    file.push('\n');
    let help = row.get_long_help().or(row.get_help()).map(ToString::to_string).unwrap_or_default();
    comment(file, &help);
    for value in row.get_possible_values() {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        comment(file, &format!("{}: {help}", value.get_name()));
    }
    let variable = row.get_env().unwrap_or_default().to_string_lossy();
    comment(file, &format!("Environment: {variable}"));
    let name = row.get_long().unwrap_or_default();
    let _ = match default_of(row) {
        Some(value) => writeln!(file, "{name} = {}", literal(&value)),
        None => writeln!(file, "#{name} = {}", placeholder(row)),
    };
}

/// A number as a number, but for one whose digits are not decimal ones.
fn literal(text: &str) -> String {
    let number = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if number { text.to_owned() } else { quoted(text) }
}

fn placeholder(row: &Arg) -> String {
    let value =
        quoted(row.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str()));
    if matches!(row.get_action(), ArgAction::Append) { format!("[{value}]") } else { value }
}

/// Defaults are plain text.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// Each line of the text is a paragraph.
fn comment(file: &mut String, text: &str) {
    for paragraph in text.lines() {
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.len() > 1 && line.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(file, "{line}");
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(file, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, Origin, assemble, read_file};
    use std::fs;

    fn read(text: &str) -> Result<(Options, usize)> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.toml"), text).unwrap();
        let given = read_file(&folder.path().join("a.toml"), "a.toml", &|_| true)?;
        let (options, origins) = assemble(&[&given])?;
        Ok((options, origins.0.iter().filter(|setting| setting.origin != Origin::Default).count()))
    }

    #[test]
    fn it_reads_back_as_the_defaults() {
        let (options, set) = read(&file()).unwrap();
        assert_eq!(options, Options::default());
        assert_eq!(set, rows().get_arguments().filter(|row| default_of(row).is_some()).count());
    }

    #[test]
    fn what_is_commented_out_is_in_its_place_once_it_has_a_value() {
        let text = file();
        for row in rows().get_arguments().filter(|row| default_of(row).is_none()) {
            let line = format!("\n#{} = {}\n", row.get_long().unwrap(), placeholder(row));
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
        let set = text
            .replace("#port = \"PORT\"", "port = 80")
            .replace("#listen = [\"ADDR\"]", "listen = ['unix:a']");
        let (options, _) = read(&set).unwrap();
        assert_eq!((options.port, options.listen.len()), (Some(80), 1));
    }

    #[test]
    fn its_lines_are_no_wider_than_they_should_be() {
        let text = file();
        let wide: Vec<&str> = text.lines().filter(|line| line.len() > WIDTH).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }
}
