//! `uringd check`: everything that a start would refuse before it binds, said without starting anything; for
//! `ExecStartPre=`, for a deployment before its reload, for whoever edits the file.
//!
//! Neighbours: `Source` reads, `Config` checks.

use super::{Source, print};
use crate::config::Config;
use crate::error::{Result, print_line};

/// Wrong configuration, whatever kind of error says so.
const WRONG: u8 = 2;

pub(super) fn run(source: &Source) -> Result<u8> {
    match resolve(source) {
        Ok(config) => {
            config.warnings.iter().for_each(|warning| print_line(format!("warning: {warning}")));
            print(&summary(&config, source.file()))
        }
        Err(error) => {
            print_line(&error);
            Ok(WRONG)
        }
    }
}

fn resolve(source: &Source) -> Result<Config> {
    let (options, origins) = source.read()?;
    Config::resolve(&options).map_err(|error| origins.blame(error))
}

fn summary(config: &Config, file: Option<&str>) -> String {
    let addresses: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    let workers = match config.workers {
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    };
    let file = file.map(|file| format!(", file {file}")).unwrap_or_default();
    let unchecked =
        "not checked: whether the addresses are free, the files can be written, and the kernel gives rings";
    format!("ok: {workers} on {}{file} ({unchecked})\n", addresses.join(" "))
}
