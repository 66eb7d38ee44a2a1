//! What was given, wherever: layers of options as text, each value judged by the parser of its row, so that a flag, a
//! variable and a line of a file take the same values and are refused with the same words. Put together they are
//! `Options`, and `Origins` beside them.
//!
//! Neighbours: `cli::Source` has the layers, `toml` reads one of them; the rows are `options`.

use super::options::{parse_words, rows};
use super::origin::{Origin, Origins, Setting, one_line};
use super::{Options, written};
use crate::error::{Error, Result};
use clap::error::{ContextKind, ContextValue};
use std::ffi::{OsStr, OsString};

/// One option that somebody has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// The flag, without its dashes.
    pub name: String,
    /// As typed behind the flag; several where the option takes several.
    pub values: Vec<OsString>,
    /// By whom.
    pub origin: Origin,
}

impl Given {
    /// Whether the row's parser takes the values.
    ///
    /// # Errors
    /// Names the place, and the option where the place does not.
    pub fn check(&self) -> Result<()> {
        let Err(error) = parse_words(self.words()) else { return Ok(()) };
        let place = match &self.origin {
            Origin::File { .. } => format!("{}: {}", self.origin.place(), self.name),
            Origin::Environment { .. } => self.origin.place(),
            Origin::Default | Origin::Code | Origin::Flag => format!("--{}", self.name),
        };
        Err(Error::config(one_line(&place), problem(&error)))
    }

    fn words(&self) -> impl Iterator<Item = OsString> {
        self.values.iter().map(|value| {
            let mut word = OsString::from(format!("--{}=", self.name));
            word.push(value);
            word
        })
    }

    fn text(&self) -> String {
        self.values.join(OsStr::new(",")).to_string_lossy().into_owned()
    }
}

/// Puts layers together; of each option the first layer that has it wins, whole. All were checked.
///
/// # Errors
/// As [`Given::check`], if one was not.
pub(crate) fn assemble(layers: &[&[Given]]) -> Result<(Options, Origins)> {
    let (mut words, mut settings) = (vec![], vec![]);
    for row in rows().get_arguments() {
        let Some(name) = row.get_long() else { continue };
        let given = layers.iter().find_map(|layer| layer.iter().find(|given| given.name == name));
        words.extend(given.into_iter().flat_map(Given::words));
        settings.push(match given {
            Some(given) => {
                Setting { name: name.to_owned(), value: Some(given.text()), origin: given.origin.clone() }
            }
            None => {
                Setting { name: name.to_owned(), value: written::default_of(row), origin: Origin::Default }
            }
        });
    }
    let options = parse_words(words).map_err(|error| Error::config("options", problem(&error)))?;
    Ok((options, Origins(settings)))
}

/// What clap says of a value, without the flag: the place was named before.
fn problem(error: &clap::Error) -> String {
    let line = message(error);
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => line.replace(&format!(" for '{flag}'"), ""),
        _ => line,
    }
}

/// clap's message without its usage, in one line as all our errors are.
pub(crate) fn message(error: &clap::Error) -> String {
    let message = error.to_string();
    let parts = message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let parts = parts.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let line = parts.collect::<Vec<_>>().join("; ").replace("; [", " [");
    one_line(line.strip_prefix("error: ").unwrap_or(&line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    fn given(name: &str, values: &[&str], origin: Origin) -> Given {
        Given { name: name.to_owned(), values: values.iter().map(OsString::from).collect(), origin }
    }

    fn file(line: usize) -> Origin {
        Origin::File { file: "a.toml".into(), line }
    }

    #[test]
    fn without_layers_all_is_default() {
        let (options, Origins(settings)) = assemble(&[]).unwrap();
        assert_eq!(options, Options::default());
        assert_eq!(settings.len(), rows().get_arguments().count());
        assert!(settings.iter().all(|setting| setting.origin == Origin::Default));
        let value = |name: &str| {
            settings.iter().find(|setting| setting.name == name).and_then(|setting| setting.value.as_deref())
        };
        assert_eq!((value("restart-window"), value("port"), value("listen")), (Some("60s"), None, None));
    }

    #[test]
    fn a_list_of_one_layer_is_not_added_to_anothers() {
        let above = [given("listen", &["127.0.0.1:1"], Origin::Flag)];
        let below = [given("listen", &["127.0.0.1:2", "unix:a"], file(1)), given("port", &["80"], file(2))];
        let (options, origins) = assemble(&[&above, &below]).unwrap();
        assert_eq!(options.listen, ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!((options.port, &origins.0[0].origin), (Some(80), &file(2)));
        let (options, origins) = assemble(&[&[], &below]).unwrap();
        assert_eq!(options.listen.len(), 2);
        assert_eq!(origins.0[1].value.as_deref(), Some("127.0.0.1:2,unix:a"));
    }

    #[test]
    fn a_refusal_names_the_place_and_what_is_right() {
        let variable = Origin::Environment { variable: "URINGD_PORT".into() };
        let table = [
            (given("port", &["http"], variable), "URINGD_PORT: invalid value 'http': expected a port from 1"),
            (given("port", &["http"], file(3)), "a.toml:3: port: invalid value 'http': expected a port from"),
            (
                given("log-level", &["loud"], file(4)),
                "a.toml:4: log-level: invalid value 'loud' [possible values: error, warn",
            ),
            (
                given("root", &["a", "b"], file(5)),
                "a.toml:5: root: the argument '--root <DIR>' cannot be used",
            ),
            (given("log-level", &["a\nb"], Origin::Flag), "--log-level: invalid value 'a; b'"),
        ];
        for (given, expected) in table {
            let line = given.check().expect_err(expected).to_string();
            assert!(line.starts_with(expected) && !line.contains('\n'), "{line}");
        }
    }

    proptest! {
        /// Whatever each layer has, the first one that has an option decides it.
        #[test]
        fn the_first_layer_wins(sets in prop::collection::vec(
            subsequence(vec!["backlog", "restart-limit", "max-requests", "max-body", "body-rate"], 0..=5), 3,
        )) {
            let origins = [Origin::Flag, Origin::Environment { variable: "V".into() }, file(1)];
            let layers: Vec<Vec<Given>> = (1..).zip(&sets).zip(&origins).map(|((number, set), origin)| {
                set.iter().map(|name| given(name, &[&number.to_string()], origin.clone())).collect()
            }).collect();
            let slices: Vec<&[Given]> = layers.iter().map(Vec::as_slice).collect();
            let (_, Origins(settings)) = assemble(&slices).unwrap();
            for setting in settings {
                let first = sets.iter().position(|set| set.contains(&setting.name.as_str()));
                let expected = first.map_or(Origin::Default, |layer| origins[layer].clone());
                prop_assert_eq!(&setting.origin, &expected);
                if let Some(layer) = first {
                    prop_assert_eq!(setting.value, Some((layer + 1).to_string()));
                }
            }
        }
    }
}
