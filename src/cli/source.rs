//! Where the configuration comes from: the command line and the environment as they were at the start, and the file,
//! which is read again whenever it is asked for. A flag wins over the environment, and that over the file.
//!
//! Neighbours: `cli` makes one of the command line, `cluster` keeps it; `config` judges the values.

use super::Flags;
use crate::config::options::rows;
use crate::config::{Given, Options, Origin, Origins, assemble, read_file};
use crate::error::{Error, Result};
use clap::ArgMatches;
use clap::parser::ValueSource;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Everything that was typed and set at the start, and which file to read.
#[derive(Debug, Clone)]
pub struct Source {
    typed: Vec<Given>,
    variables: Vec<Given>,
    file: Option<ConfigFile>,
}

#[derive(Debug, Clone)]
struct ConfigFile {
    /// Absolute, so that it stays the same file whatever directory the program goes to.
    path: PathBuf,
    /// As it was named.
    shown: String,
}

impl Source {
    /// Of [`Flags`] that were parsed with the environment left out, and of this environment.
    pub(super) fn new(flags: &ArgMatches, variable: impl Fn(&OsStr) -> Option<OsString>) -> Source {
        let (mut typed, mut variables) = (vec![], vec![]);
        for row in rows().get_arguments() {
            let (name, id) = (row.get_long().unwrap_or_default().to_owned(), row.get_id().as_str());
            if flags.value_source(id) == Some(ValueSource::CommandLine) {
                let values = flags.get_raw(id).unwrap_or_default().map(OsStr::to_owned).collect();
                typed.push(Given { name: name.clone(), values, origin: Origin::Flag });
            }
            if let Some((key, value)) = row.get_env().and_then(|key| Some((key, variable(key)?))) {
                let origin = Origin::Environment { variable: key.to_string_lossy().into_owned() };
                variables.push(Given { name, values: vec![value], origin });
            }
        }
        let file = flags.get_one::<PathBuf>(Flags::FILE).cloned();
        let file = file.or_else(|| variable(OsStr::new(Flags::FILE_VARIABLE)).map(PathBuf::from));
        Source { typed, variables, file: file.as_deref().map(ConfigFile::new) }
    }

    /// Reads the file, if there is one, and puts everything together.
    ///
    /// # Errors
    /// One line: the place (variable, or file and line), the option, and what is wrong.
    pub fn read(&self) -> Result<(Options, Origins)> {
        self.read_where(&|_| true)
    }

    /// The same of some options alone, whatever is wrong with others.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(super) fn read_only(&self, names: &[&str]) -> Result<Options> {
        Ok(self.read_where(&|name| names.contains(&name))?.0)
    }

    fn read_where(&self, wanted: &dyn Fn(&str) -> bool) -> Result<(Options, Origins)> {
        let of_layer =
            |layer: &[Given]| layer.iter().filter(|given| wanted(&given.name)).cloned().collect::<Vec<_>>();
        let (typed, variables) = (of_layer(&self.typed), of_layer(&self.variables));
        variables.iter().try_for_each(Given::check)?;
        let file = self.file.as_ref().map_or(Ok(vec![]), |file| file.read(wanted))?;
        assemble(&[&typed, &variables, &file])
    }

    /// The file, as it was named.
    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_ref().map(|file| file.shown.as_str())
    }
}

impl ConfigFile {
    fn new(path: &Path) -> ConfigFile {
        let shown = path.display().to_string();
        ConfigFile { path: std::path::absolute(path).unwrap_or_else(|_| path.into()), shown }
    }

    fn read(&self, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Given>> {
        if self.shown.is_empty() {
            let problem = "it names no file, leave it out to have none";
            return Err(Error::config(Flags::FILE_VARIABLE, problem));
        }
        read_file(&self.path, &self.shown, wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::flags_of;
    use super::*;
    use std::fs;
    use std::time::Duration;

    fn source(words: &[&str], environment: &[(&str, &str)]) -> Source {
        let flags = flags_of(words.iter().map(OsString::from)).unwrap();
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        Source::new(&flags, |wanted| {
            environment.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
        })
    }

    fn origin(origins: &Origins, name: &str) -> String {
        origins.0.iter().find(|setting| setting.name == name).unwrap().origin.to_string()
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "workers = 1\nbacklog = 1\nrestart-limit = 1\n").unwrap();
        let file = file.to_str().unwrap();
        let environment = [("URINGD_CONFIG", file), ("URINGD_WORKERS", "2"), ("URINGD_BACKLOG", "2")];
        let (options, origins) = source(&["uringd", "--workers", "3"], &environment).read().unwrap();
        assert_eq!(options.workers, "3".parse().unwrap());
        assert_eq!((options.backlog, options.restart_limit, options.port), (2, 1, None));
        let places = ["workers", "backlog", "restart-limit", "port"].map(|name| origin(&origins, name));
        assert_eq!(places, ["flag", "environment URINGD_BACKLOG", &format!("{file}:3"), "default"]);
    }

    #[test]
    fn a_flag_that_names_the_file_wins_over_the_variable() {
        let source = source(&["uringd", "--config=a.toml"], &[("URINGD_CONFIG", "b.toml")]);
        assert_eq!(source.file(), Some("a.toml"));
        let line = source.read().unwrap_err().to_string();
        assert!(line.starts_with("a.toml: there is no such file"), "{line}");
    }

    #[test]
    fn reading_again_gives_what_the_file_says_now_or_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        let source = source(&["uringd", "--config", file.to_str().unwrap()], &[]);
        fs::write(&file, "kill-timeout = '1s'").unwrap();
        assert_eq!(source.read().unwrap().0.kill_timeout, Duration::from_secs(1));
        fs::write(&file, "kill-timeout = '2s'").unwrap();
        assert_eq!(source.read().unwrap().0.kill_timeout, Duration::from_secs(2));
        fs::write(&file, "\nkill-timeout = 2").unwrap();
        let line = source.read().unwrap_err().to_string();
        assert!(line.contains("a.toml:2: kill-timeout: invalid value '2'"), "{line}");
        fs::remove_file(&file).unwrap();
        assert!(source.read().is_err());
    }

    #[test]
    fn some_options_can_be_read_whatever_is_wrong_with_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "wrokers = 1\nport = 81\n[section]\n").unwrap();
        let environment = [("URINGD_CONFIG", file.to_str().unwrap()), ("URINGD_WORKERS", "x")];
        let source = source(&["uringd"], &environment);
        source.read().unwrap_err();
        assert_eq!(source.read_only(&["port", "listen"]).unwrap().port, Some(81));
        let line = source.read_only(&["workers"]).unwrap_err().to_string();
        assert!(line.starts_with("URINGD_WORKERS: "), "{line}");
    }

    #[test]
    fn a_variable_that_is_wrong_is_named_even_where_a_flag_wins() {
        for words in [&["uringd"][..], &["uringd", "--port", "1"]] {
            let error = source(words, &[("URINGD_PORT", "http")]).read().unwrap_err();
            assert_eq!(
                error.to_string(),
                "URINGD_PORT: invalid value 'http': expected a port from 1 to 65535, or 0 for any that is free"
            );
        }
        let line = source(&["uringd"], &[("URINGD_CONFIG", "")]).read().unwrap_err().to_string();
        assert_eq!(line, "URINGD_CONFIG: it names no file, leave it out to have none");
    }
}
