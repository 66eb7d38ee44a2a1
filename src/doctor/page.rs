//! The pages of `tuning/`, a knob each: people read them as they are, this program reads the block of TOML below the
//! title. They are part of the executable, so that a machine without the repository has them too.
//!
//! Neighbours: `checks` looks at what a page names, `print` shows what came of it, and the whole page for `doctor KNOB`.

use serde::{Deserialize, Serialize};

/// One file of `tuning/`.
#[derive(Debug)]
pub(super) struct Page {
    /// The file's name without its ending; what `uringd doctor KNOB` takes.
    pub name: &'static str,
    /// The whole file.
    pub text: &'static str,
    /// The first line: the knob as the kernel calls it.
    pub title: &'static str,
    pub facts: Facts,
}

/// The block of TOML.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Facts {
    /// How it is looked at.
    pub check: Check,
    /// What to type to set it, line by line.
    pub set: Vec<String>,
    /// What to type to have it as it was.
    pub undo: Vec<String>,
    /// Where the kernel says so: files below Documentation/ and manual pages.
    pub sources: Vec<String>,
    /// How what the page says was found out; one of the two.
    pub measured: Option<Measured>,
    /// Why it could not be.
    pub not_measured: Option<String>,
}

/// What makes a result worth something to somebody else.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measured {
    pub command: String,
    pub machine: String,
    pub date: String,
}

/// How a knob is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Check {
    /// One file with one number.
    File(NumberIn),
    /// One of `checks`, by name.
    By(String),
}

/// A number that had better not be smaller.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct NumberIn {
    /// Relative to the root directory.
    pub path: String,
    pub at_least: u64,
    /// What a smaller one means.
    pub otherwise: String,
}

macro_rules! pages {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../tuning/", $name, ".md")))),*]
    };
}

/// In the order in which they are shown among equals: what decides whether it runs, what bounds it, what speeds it up.
const FILES: [(&str, &str); 18] = pages![
    "kernel",
    "io_uring_disabled",
    "seccomp",
    "memlock",
    "open_files",
    "memory_limit",
    "somaxconn",
    "tcp_max_syn_backlog",
    "ip_local_port_range",
    "nf_conntrack",
    "cpu_quota",
    "cores",
    "cpu_governor",
    "irq_affinity",
    "packet_steering",
    "busy_poll",
    "hugepages",
    "mitigations",
];

/// All pages.
pub(super) fn all() -> Vec<Page> {
    FILES.into_iter().map(|(name, text)| parse(name, text).expect("a test has read them all")).collect()
}

fn parse(name: &'static str, text: &'static str) -> Result<Page, String> {
    let title = text.lines().next().and_then(|line| line.strip_prefix("# ")).ok_or("no title")?;
    let (_, rest) = text.split_once("```toml\n").ok_or("no block of TOML")?;
    let (block, _) = rest.split_once("```").ok_or("its block does not end")?;
    let facts = toml::from_str(block).map_err(|error| error.to_string())?;
    Ok(Page { name, text, title, facts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning")
    }

    #[test]
    fn every_page_can_be_read_and_is_in_the_table_and_in_the_list() {
        let entries =
            fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = entries
            .filter(|name| name != "README.md")
            .filter_map(|name| Some(name.strip_suffix(".md")?.to_owned()))
            .collect();
        files.sort();
        let mut embedded: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        embedded.sort_unstable();
        assert_eq!(files, embedded);
        let list = fs::read_to_string(folder().join("README.md")).unwrap();
        for (name, text) in FILES {
            let page = parse(name, text).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            let line = format!("| [{}]({name}.md) |", page.title);
            assert!(list.contains(&line), "README.md lacks {line}");
        }
    }

    #[test]
    fn every_page_says_what_why_at_what_price_and_from_where_it_knows() {
        for Page { name, text, facts, .. } in all() {
            for heading in ["## What it changes", "## Why", "## What it costs", "## Measured"] {
                let (_, section) = text
                    .split_once(&format!("\n{heading}\n"))
                    .unwrap_or_else(|| panic!("{name} lacks {heading:?}"));
                let section = section.split("\n## ").next().unwrap();
                assert!(section.split_whitespace().count() >= 8, "{name}: nothing stands under {heading:?}");
            }
            assert!(!facts.set.is_empty() && !facts.undo.is_empty() && !facts.sources.is_empty(), "{name}");
            // a test that is named as the measurement is there
            let command = facts.measured.as_ref().map_or("", |measured| measured.command.as_str());
            if let Some((_, rest)) = command.split_once("cargo test --test ") {
                let mut words = rest.split(' ');
                let file = Path::new("tests").join(words.next().unwrap()).with_extension("rs");
                let tests = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file));
                let tests = tests.unwrap_or_else(|error| panic!("{name}: {file:?}: {error}"));
                let filter = words.next().filter(|word| !word.starts_with(['-', '(']));
                let mut functions = tests.lines().filter_map(|line| line.strip_prefix("fn "));
                assert!(
                    functions.any(|function| function.contains(filter.unwrap_or(""))),
                    "{name}: {command}"
                );
            }
            match (&facts.measured, &facts.not_measured) {
                (Some(Measured { command, machine, date }), None) => {
                    assert!(command.len() > 10 && machine.contains("Linux"), "{name}");
                    let parts: Vec<usize> = date.split('-').map(str::len).collect();
                    assert_eq!(parts, [4, 2, 2], "{name}: {date}");
                }
                (None, Some(why)) => assert!(why.len() > 20, "{name}: {why}"),
                _ => panic!("{name} must say either how it was measured or why it was not"),
            }
        }
    }
}
