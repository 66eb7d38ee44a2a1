//! Where each value comes from: what an operator asks who finds a server configured otherwise than expected.
//!
//! Neighbours: `given` makes them while it puts the layers together, `written` has the values that code has set;
//! `cli::Source` gives them out.

use super::{Options, written};
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who has set an option.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Origin {
    /// Nobody.
    Default,
    /// The program, in its own code.
    Code,
    /// The configuration file.
    File {
        /// As it was named.
        file: String,
        /// From 1.
        line: usize,
    },
    /// The environment.
    Environment {
        /// Such as `URINGD_PORT`.
        variable: String,
    },
    /// The command line.
    Flag,
}

/// One option that is in force.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The flag, without its dashes.
    pub name: String,
    /// The value as it was typed, several separated by commas; `None` where nothing is the default.
    pub value: Option<String>,
    /// Who has set it.
    pub origin: Origin,
}

/// All options in force, in the order of `--help`'s rows. Displays as a table.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origins(pub Vec<Setting>);

impl Origins {
    /// Of options that the program has made itself.
    pub(crate) fn of_code(options: &Options) -> Origins {
        let settings = written::options(options).into_iter().map(|(name, value)| Setting {
            name: name.to_owned(),
            value,
            origin: Origin::Code,
        });
        Origins(settings.collect())
    }

    /// The program has changed this option after it was read; what is in force is in `options`.
    pub(crate) fn overrule(&mut self, name: &str, options: &Options) {
        let Origins(of_code) = Origins::of_code(options);
        let changed = of_code.into_iter().find(|setting| setting.name == name);
        if let (Some(changed), Some(setting)) =
            (changed, self.0.iter_mut().find(|setting| setting.name == name))
        {
            *setting = changed;
        }
    }

    /// This one is as it is there.
    pub(crate) fn copy(&mut self, name: &str, other: &Origins) {
        let named = |setting: &&Setting| setting.name == name;
        let own = self.0.iter_mut().find(|setting| setting.name == name);
        if let (Some(own), Some(other)) = (own, other.0.iter().find(named)) {
            other.clone_into(own);
        }
    }

    /// Rules name an option by its flag; this says where its value stands if it was not typed there.
    pub(crate) fn blame(&self, error: Error) -> Error {
        let Error::Config { option, problem } = error else { return error };
        let name = option.strip_prefix("--").and_then(|rest| rest.split(' ').next());
        let setting = self.0.iter().find(|setting| Some(setting.name.as_str()) == name);
        let option = match setting.map(|setting| &setting.origin) {
            Some(origin @ (Origin::File { .. } | Origin::Environment { .. })) => {
                format!("{}: {option}", origin.place())
            }
            _ => option,
        };
        Error::config(one_line(&option), one_line(&problem))
    }
}

impl Origin {
    /// How an error names the place.
    pub(super) fn place(&self) -> String {
        match self {
            Origin::Default => "default".to_owned(),
            Origin::Code => "code".to_owned(),
            Origin::File { file, line } => format!("{file}:{line}"),
            Origin::Environment { variable } => variable.clone(),
            Origin::Flag => "flag".to_owned(),
        }
    }
}

/// `default`, `code`, `FILE:LINE`, `environment VARIABLE` or `flag`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Environment { variable } => write!(f, "environment {variable}"),
            _ => f.write_str(&self.place()),
        }
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |setting: &Setting| setting.value.as_deref().map_or("-".to_owned(), one_line);
        let rows: Vec<(&str, String, String)> = self
            .0
            .iter()
            .map(|setting| (setting.name.as_str(), text(setting), one_line(&setting.origin.to_string())))
            .collect();
        let length = |text: &str| text.chars().count();
        let names = rows.iter().map(|(name, ..)| length(name)).max().unwrap_or(0);
        let values = rows.iter().map(|(_, value, _)| length(value)).max().unwrap_or(0);
        for (name, value, origin) in &rows {
            writeln!(f, "{name:names$}  {value:values$}  {origin}")?;
        }
        Ok(())
    }
}

/// A value may be several lines long (a command of `--on-giveup`), what is said about it may not.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Origins {
        let setting = |name: &str, value: Option<&str>, origin| Setting {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            origin,
        };
        Origins(vec![
            setting("port", Some("80"), Origin::Flag),
            setting("workers", Some("0"), Origin::File { file: "a.toml".into(), line: 3 }),
            setting("pin", Some("x"), Origin::Environment { variable: "URINGD_PIN".into() }),
            setting("on-giveup", Some("a\nb"), Origin::Code),
            setting("root", None, Origin::Default),
        ])
    }

    #[test]
    fn an_error_names_the_place_of_what_was_not_typed() {
        let table = [
            ("--port 80", "--port 80: wrong"),
            ("--workers 0", "a.toml:3: --workers 0: wrong"),
            ("--pin x", "URINGD_PIN: --pin x: wrong"),
            ("--root x\ny", "--root x\\ny: wrong"),
            ("worker", "worker: wrong"),
        ];
        for (option, expected) in table {
            assert_eq!(settings().blame(Error::config(option, "wrong")).to_string(), expected);
        }
        assert_eq!(settings().blame(Error::GaveUp).exit_code(), 3);
    }

    #[test]
    fn origins_are_a_table_for_people_and_json_for_programs() {
        let table = settings().to_string();
        let expected = [
            "port       80    flag",
            "workers    0     a.toml:3",
            "pin        x     environment URINGD_PIN",
            "on-giveup  a\\nb  code",
            "root       -     default",
        ];
        assert_eq!(table.lines().collect::<Vec<_>>(), expected);
        let json = serde_json::to_value(settings()).unwrap();
        assert_eq!(json[1]["origin"], serde_json::json!({"from": "file", "file": "a.toml", "line": 3}));
        assert_eq!(json[4]["value"], serde_json::Value::Null);
        assert_eq!(serde_json::from_value::<Origins>(json).unwrap(), settings());
    }

    #[test]
    fn what_code_has_changed_says_so() {
        let options = Options { restart_limit: 7, ..Options::default() };
        let mut origins = Origins::of_code(&Options::default());
        origins.0.iter_mut().for_each(|setting| setting.origin = Origin::Flag);
        origins.overrule("restart-limit", &options);
        let changed: Vec<&Setting> =
            origins.0.iter().filter(|setting| setting.origin == Origin::Code).collect();
        assert!(
            matches!(&changed[..], [one] if one.name == "restart-limit" && one.value.as_deref() == Some("7"))
        );
    }
}
