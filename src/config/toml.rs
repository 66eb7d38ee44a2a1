//! A configuration file: TOML, one option a line under the name of its flag, with the value that would follow the flag
//! (`kill-timeout = "30s"`), as a number or boolean where it is one, as a list where a flag may be given several times.
//! What is wrong with it is said in one line, with the line it stands in.
//!
//! Neighbours: `cli::Source` asks for it, at the start and on a reload; `given` judges the values.

use super::given::Given;
use super::options::rows;
use super::origin::{Origin, one_line};
use super::{AccessLog, Control, Listen};
use crate::error::{Error, Result};
use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};
use clap::{Arg, ArgAction, Command};
use std::any::TypeId;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file of all options with their help is a hundredth of it.
const FILE_MAX: u64 = 1 << 20;

/// How alike (Jaro, 0 to 1) a key must be to an option's name to be taken for it misspelt: as clap has it for flags.
const ALIKE: f64 = 0.7;

/// Reads a file, called `shown` in errors and origins. Only these keys of it are looked at.
///
/// # Errors
/// One line: the file, the line in it where there is one, the key, and what is wrong.
pub(crate) fn read(path: &Path, shown: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Given>> {
    let octets = load(path).map_err(|problem| Error::config(one_line(shown), problem))?;
    match std::str::from_utf8(&octets) {
        Ok(text) => parse(text, shown, wanted),
        Err(error) => {
            let page = Page { file: shown, text: &String::from_utf8_lossy(&octets[..error.valid_up_to()]) };
            Err(page.refuse(page.text.len(), "it is not UTF-8, which TOML must be"))
        }
    }
}

/// Only what is there to be read again: a pipe would give nothing on the next reload.
fn load(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let told = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => {
            "there is no such file, correct the path or make one of what --print-config prints".to_owned()
        }
        _ => format!("it cannot be read: {error}"),
    };
    let metadata = fs::metadata(path).map_err(told)?;
    if metadata.is_dir() {
        return Err("it is a directory, name a file in it".to_owned());
    }
    if !metadata.is_file() {
        return Err("it is no regular file, and could not be read again for a reload".to_owned());
    }
    let mut octets = vec![];
    File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut octets)).map_err(told)?;
    if octets.len() as u64 > FILE_MAX {
        return Err("it is longer than 1MiB, which is no configuration".to_owned());
    }
    Ok(octets)
}

fn parse(text: &str, shown: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Given>> {
    let page = Page { file: shown, text };
    let table = DeTable::parse(text).map_err(|error| page.refuse_syntax(&error))?;
    let mut entries: Vec<_> =
        table.into_inner().into_iter().filter(|(key, _)| wanted(key.as_ref())).collect();
    // the first mistake is told first
    entries.sort_by_key(|(key, _)| key.span().start);
    let command = rows();
    entries.iter().map(|(key, value)| page.given(&command, key.as_ref(), key.span(), value)).collect()
}

/// The file, for saying where something stands in it.
struct Page<'a> {
    file: &'a str,
    text: &'a str,
}

impl Page<'_> {
    fn given(
        &self,
        command: &Command,
        key: &str,
        place: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Given> {
        let refuse = |place: Range<usize>, problem: &str| {
            let file = self.place(place.start);
            Error::config(one_line(&format!("{file}: {key}")), problem)
        };
        let row = find(command, key, value.as_ref()).map_err(|problem| refuse(place.clone(), &problem))?;
        let mut values = vec![];
        for value in items(row, value) {
            let text = as_typed(row, value.as_ref()).map_err(|problem| refuse(value.span(), &problem))?;
            let text = OsString::from(text);
            // one by one, for the line of each
            let origin = self.origin(value.span().start);
            Given { name: key.to_owned(), values: vec![text.clone()], origin }.check()?;
            values.push(text);
        }
        Ok(Given { name: key.to_owned(), values, origin: self.origin(place.start) })
    }

    fn line(&self, octet: usize) -> usize {
        let before = &self.text.as_bytes()[..octet.min(self.text.len())];
        1 + before.iter().filter(|octet| **octet == b'\n').count()
    }

    fn place(&self, octet: usize) -> String {
        format!("{}:{}", self.file, self.line(octet))
    }

    fn origin(&self, octet: usize) -> Origin {
        Origin::File { file: self.file.to_owned(), line: self.line(octet) }
    }

    fn refuse(&self, octet: usize, problem: &str) -> Error {
        Error::config(one_line(&self.place(octet)), one_line(problem))
    }

    fn refuse_syntax(&self, error: &::toml::de::Error) -> Error {
        let octet = error.span().map_or(self.text.len(), |span| span.start);
        self.refuse(octet, &format!("this is not TOML: {}", error.message()))
    }
}

/// The row of this name; or what to say of a name that is none.
fn find<'c>(command: &'c Command, key: &str, value: &DeValue<'_>) -> std::result::Result<&'c Arg, String> {
    let by_name = |name: &str| command.get_arguments().find(|row| row.get_long() == Some(name));
    match (by_name(key), value) {
        (_, DeValue::Table(_)) => {
            Err("this is a section, and there are none: give every option a line of its own, as its flag is named"
                .to_owned())
        }
        (Some(row), _) => Ok(row),
        (None, _) if key == "config" => Err("a file cannot name another one, leave it out".to_owned()),
        (None, _) => Err(match nearest(command, key) {
            Some(name) => format!("there is no such option, did you mean {name}?"),
            None => "there is no such option, --print-config prints them all".to_owned(),
        }),
    }
}

/// Somebody may have written `URINGD_PORT` or `--port` as well.
fn nearest<'c>(command: &'c Command, key: &str) -> Option<&'c str> {
    let key = key.to_lowercase().replace('_', "-");
    let key = key.strip_prefix("uringd-").unwrap_or(&key).trim_start_matches('-');
    let names = command.get_arguments().filter_map(Arg::get_long);
    let rated = names.map(|name| (strsim::jaro(key, name), name));
    rated.filter(|(alike, _)| *alike > ALIKE).max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

/// The members of a list where the flag may be repeated; all else is one value.
fn items<'v, 'i>(row: &Arg, value: &'v Spanned<DeValue<'i>>) -> Vec<&'v Spanned<DeValue<'i>>> {
    match value.as_ref() {
        DeValue::Array(members) if matches!(row.get_action(), ArgAction::Append) => members.iter().collect(),
        _ => vec![value],
    }
}

/// The value as it would follow the flag. A number that is one is written as one, whatever the row makes of it; what is
/// text to the row, such as a path, is a string.
fn as_typed(row: &Arg, value: &DeValue<'_>) -> std::result::Result<String, String> {
    let textual = takes_text(row);
    let what = match value {
        DeValue::String(text) => return Ok(text.to_string()),
        DeValue::Boolean(on) if is_switch(row) => return Ok(if *on { "on" } else { "off" }.to_owned()),
        DeValue::Integer(number) if !textual => {
            return match number.radix() {
                10 => Ok(number.as_str().to_owned()),
                8 if is_octal(row) => Ok(number.as_str().to_owned()),
                _ => Err(format!("{number} is not understood, write the number in decimals")),
            };
        }
        DeValue::Float(number) if !textual => return Ok(number.as_str().to_owned()),
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let value_name = row.get_value_names().and_then(|names| names.first()).map_or("VALUE", |name| name);
    let name = row.get_long().unwrap_or_default();
    Err(format!("expected {value_name} as after --{name}, in quotes, and not {what}"))
}

fn is_switch(row: &Arg) -> bool {
    row.get_value_parser().type_id() == TypeId::of::<bool>()
}

/// Permissions are octal even where they do not look it.
fn is_octal(row: &Arg) -> bool {
    row.get_long() == Some("unix-mode")
}

fn takes_text(row: &Arg) -> bool {
    let texts = [
        TypeId::of::<String>(),
        TypeId::of::<PathBuf>(),
        TypeId::of::<Listen>(),
        TypeId::of::<Control>(),
        TypeId::of::<AccessLog>(),
    ];
    texts.iter().any(|text| row.get_value_parser().type_id() == *text)
}

#[cfg(test)]
mod tests {
    use super::super::given::assemble;
    use super::super::options::{Options, Pin, UserSpec, Workers};
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn options(text: &str) -> Result<Options> {
        assemble(&[&parse(text, "a.toml", &|_| true)?]).map(|(options, _)| options)
    }

    fn refusal(text: &str) -> String {
        let error = options(text).expect_err(text);
        let line = error.to_string();
        assert!(error.exit_code() == 2 && !line.contains(char::is_control), "{line:?}");
        line
    }

    #[test]
    fn values_are_written_as_behind_a_flag_or_as_what_they_are() {
        type Check = fn(&Options) -> bool;
        let table: &[(&str, Check)] = &[
            ("", |o| *o == Options::default()),
            ("# port = 80\r\n", |o| *o == Options::default()),
            ("port = 80", |o| o.port == Some(80)),
            ("\"port\" = \"80\"", |o| o.port == Some(80)),
            ("port = +1_000", |o| o.port == Some(1000)),
            ("listen = []", |o| o.listen.is_empty()),
            ("listen = \"127.0.0.1:1\"", |o| o.listen.len() == 1),
            ("listen = [\"127.0.0.1:1,127.0.0.1:2\", 'unix:a']", |o| o.listen.len() == 3),
            ("unix-mode = 660", |o| o.unix_mode == 0o660),
            ("unix-mode = 0o660", |o| o.unix_mode == 0o660),
            ("unix-mode = \"0660\"", |o| o.unix_mode == 0o660),
            ("workers = \"auto\"", |o| o.workers == Workers::Auto),
            ("workers = 3\npin = 0", |o| (o.workers, &o.pin) == (Workers::Count(3), &Pin::Cores(vec![0]))),
            ("user = 33", |o| o.user == Some(UserSpec { name: "33".into(), group: None })),
            ("kill-timeout = \"1m 30s\"", |o| o.kill_timeout == Duration::from_secs(90)),
            ("max-body = 1024", |o| o.max_body == 1024),
            ("max-body = '1KiB'", |o| o.max_body == 1024),
            ("server-header = false", |o| !o.server_header),
            ("server-header = \"off\"", |o| !o.server_header),
            ("access-log = \"-\"", |o| o.access_log == Some(AccessLog::Stdout)),
            ("on-giveup = '--what\\'", |o| o.on_giveup.as_deref() == Some("--what\\")),
            ("on-giveup = \"\"\"\na\nb\"\"\"", |o| o.on_giveup.as_deref() == Some("a\nb")),
        ];
        for (text, check) in table {
            let options = options(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(check(&options), "{text}: {options:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_key() {
        let table = [
            ("port = ", "a.toml:1: this is not TOML: "),
            ("port = 80\nport = 81", "a.toml:2: this is not TOML: duplicate key"),
            ("# x\nport 80", "a.toml:2: this is not TOML: "),
            ("unix-mode = 0660", "a.toml:1: this is not TOML: "),
            ("pid-file = \"a", "a.toml:1: this is not TOML: "),
            ("[server]\nport = 1", "a.toml:1: server: this is a section, and there are none"),
            ("\n[[listen]]\na = 1", "a.toml:2: listen: "),
            ("listen.a = 1", "a.toml:1: listen: this is a section"),
            ("prot = 1", "a.toml:1: prot: there is no such option, did you mean port?"),
            (
                "\nkill_timeout = 1",
                "a.toml:2: kill_timeout: there is no such option, did you mean kill-timeout?",
            ),
            (
                "URINGD_MAX_BODY = 1",
                "a.toml:1: URINGD_MAX_BODY: there is no such option, did you mean max-body?",
            ),
            ("\"--workers\" = 1", "a.toml:1: --workers: there is no such option, did you mean workers?"),
            ("xyz = 1", "a.toml:1: xyz: there is no such option, --print-config prints them all"),
            ("\"a\\nb\" = 1", "a.toml:1: a\\nb: there is no such option"),
            ("config = \"b\"", "a.toml:1: config: a file cannot name another one"),
            ("port = 65536", "a.toml:1: port: invalid value '65536': expected a port from 1 to 65535"),
            ("port = 0x50", "a.toml:1: port: 0x50 is not understood, write the number in decimals"),
            ("port = 80.5", "a.toml:1: port: invalid value '80.5': expected a port"),
            ("port = true", "a.toml:1: port: expected PORT as after --port, in quotes, and not a boolean"),
            ("port = 2026-01-01", "a.toml:1: port: expected PORT as after --port, in quotes, and not a date"),
            ("port = [80]", "a.toml:1: port: expected PORT as after --port, in quotes, and not a list"),
            ("root = 5", "a.toml:1: root: expected DIR as after --root, in quotes, and not a number"),
            (
                "metrics = 9100",
                "a.toml:1: metrics: expected ADDR as after --metrics, in quotes, and not a number",
            ),
            ("listen = 80", "a.toml:1: listen: expected ADDR as after --listen, in quotes, and not a number"),
            ("listen = [[\"a\"]]", "a.toml:1: listen: expected ADDR"),
            (
                "listen = [\n'127.0.0.1:1',\n'localhost:80'\n]",
                "a.toml:3: listen: invalid value 'localhost:80': ",
            ),
            (
                "kill-timeout = 5",
                "a.toml:1: kill-timeout: invalid value '5': expected a number with its unit",
            ),
            ("server-header = 1", "a.toml:1: server-header: invalid value '1': expected on or off"),
            ("log-level = \"loud\"", "a.toml:1: log-level: invalid value 'loud' [possible values: error"),
            ("pid-file = \"\"", "a.toml:1: pid-file: a value is required"),
            ("pin = \"0\\n1\"", "a.toml:1: pin: invalid value '0"),
            ("log-level = 1\nprot = 1", "a.toml:1: log-level"),
            ("prot = 1\nlog-level = 1", "a.toml:1: prot"),
        ];
        for (text, expected) in table {
            let line = refusal(text);
            assert!(line.starts_with(expected), "{text:?}: {line}");
        }
    }

    #[test]
    fn every_value_knows_its_line() {
        let given =
            parse("port = 1\n\nlisten = [\n  'unix:a',\n]\nworkers = 2 # two", "dir/a.toml", &|_| true)
                .unwrap();
        let places: Vec<_> =
            given.iter().map(|given| (given.name.as_str(), given.origin.to_string())).collect();
        let expected = [("port", "dir/a.toml:1"), ("listen", "dir/a.toml:3"), ("workers", "dir/a.toml:6")];
        assert_eq!(places, expected.map(|(name, place)| (name, place.to_owned())));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("latin1"), b"port = 1\nroot = \"caf\xe9\"\n").unwrap();
        fs::write(at("long"), vec![b'#'; FILE_MAX as usize + 1]).unwrap();
        let table = [
            (at("none"), "a.toml: there is no such file, correct the path or make one"),
            (at(""), "a.toml: it is a directory"),
            (at("latin1"), "a.toml:2: it is not UTF-8"),
            (at("long"), "a.toml: it is longer than 1MiB"),
            (at("latin1/x"), "a.toml: it cannot be read: Not a directory"),
            ("/dev/null".into(), "a.toml: it is no regular file"),
        ];
        for (path, expected) in table {
            let line = read(&path, "a.toml", &|_| true).unwrap_err().to_string();
            assert!(line.starts_with(expected) && !line.contains('\n'), "{line}");
        }
        fs::write(at("full"), [b"port = 1 ".to_vec(), vec![b'#'; FILE_MAX as usize - 9]].concat()).unwrap();
        assert_eq!(read(&at("full"), "a.toml", &|_| true).unwrap().len(), 1);
    }

    fn key() -> impl Strategy<Value = String> {
        let command = rows();
        let names: Vec<_> =
            command.get_arguments().filter_map(|row| row.get_long().map(str::to_owned)).collect();
        prop_oneof![
            8 => prop::sample::select(names),
            1 => "[a-zA-Z_-]{1,9}",
            1 => "\\[?[a-z.]{1,5}\\]?",
            1 => "\"[^\"\\\\\\pC]{0,5}\"",
        ]
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "-?[0-9]{1,22}",
            "[0-9]{1,3}\\.[0-9]",
            "(0x|0o|0b)[0-7]{1,3}",
            "true|false|inf|nan|1979-05-27|07:32:00|\\[\\]|\\{\\}",
            "\"([^\"\\\\\\pC]|\\\\[nrt\"]){0,12}\"",
            "\\[(\"[a-z:/0-9.]{0,12}\",?){0,3}\\]",
            "'''([^'\\pC]|\n){0,12}'''",
        ]
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_in_one_line(text in "(?s).{0,64}") {
            let _ = parse(&text, "a.toml", &|_| true).map_err(|error| assert_one_line(&error));
        }

        #[test]
        fn any_lines_are_read_or_refused_in_one_line(
            lines in prop::collection::vec((key(), value()), 0..4),
        ) {
            let text: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            let read = options(&text);
            let _ = read.as_ref().map_err(assert_one_line);
            // what is refused alone is refused in company
            let alone = lines.iter().all(|(key, value)| options(&format!("{key} = {value}")).is_ok());
            prop_assert!(read.is_err() || alone, "{}", text);
        }
    }

    fn assert_one_line(error: &Error) {
        let line = error.to_string();
        assert!(line.starts_with("a.toml:") && !line.contains(char::is_control), "{line:?}");
    }
}
