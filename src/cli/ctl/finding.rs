//! Which server is meant, and where its control socket is: as the server itself would have it from these flags, the
//! environment and the file; and where there is none, what is there instead.
//!
//! Neighbours: `ctl` has the flags, `client` connects; `master::control::place` has the rule.

use super::super::{Flags, Source, flags_of};
use super::client::{Client, PATIENCE};
use crate::config::options::DEFAULT_PORT;
use crate::config::{Control, Listen};
use crate::error::{Error, Result};
use crate::master::control::place;
use clap::Args;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, iter};

/// How long one may take to say that it is a server of ours that nobody has named. In tests that is a thread, which may wait
/// for a core for longer.
const LOOK: Duration = Duration::from_secs(if cfg!(test) { 20 } else { 1 });

/// What says where the socket is.
const OPTIONS: [&str; 3] = ["control", "port", "listen"];

/// The rows have names of their own for clap: values of global ones would else come from the options of a server, which are
/// called the same.
#[derive(Debug, Args)]
pub struct Which {
    /// The server's configuration file, which may have control, port and listen; default: URINGD_CONFIG
    #[arg(id = "ctl-config", long = "config", value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// The control socket; default: URINGD_CONTROL, or what belongs to --port and --listen
    #[arg(id = "ctl-control", long = "control", value_name = "PATH", global = true)]
    control: Option<Control>,

    /// The server's first port; default: URINGD_PORT, then 1337, or the one server that there is
    #[arg(id = "ctl-port", long = "port", value_name = "PORT", global = true)]
    port: Option<u16>,

    /// The server's first address, if it has no --port; default: URINGD_LISTEN
    #[arg(id = "ctl-listen", long = "listen", value_name = "ADDR", value_delimiter = ',', global = true)]
    listen: Vec<Listen>,
}

/// Where a server is looked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where its socket may be, the likeliest place first.
    places: Vec<PathBuf>,
    /// Where there may be others.
    directories: Vec<PathBuf>,
    /// Nobody has said which server: any will do, if there is one alone.
    any: bool,
}

impl Which {
    /// What was typed wins over the environment, and over a file that was not, also where it says less directly where to
    /// look.
    ///
    /// # Errors
    /// What was typed, or stands in the environment or the file, and cannot be meant.
    pub fn wanted(&self, variable: impl Fn(&OsStr) -> Option<OsString>) -> Result<Wanted> {
        let typed = self.control.is_some() || self.port.is_some() || !self.listen.is_empty();
        let flags = flags_of(self.words()).map_err(|error| Error::config("ctl", error.to_string()))?;
        let source = Source::new(&flags, |name| variable(name).filter(|_| !typed));
        let options = source.read_only(&OPTIONS)?;
        let directories = place::directories(variable(OsStr::new("XDG_RUNTIME_DIR")).as_deref());
        match options.control {
            Control::Off => {
                Err(Error::config("--control off", "nothing can be asked where there is no socket, name one"))
            }
            Control::Path(path) => Ok(Wanted { places: vec![path], directories: vec![], any: false }),
            Control::Auto => {
                let port = options.port.map(Listen::DualStack);
                let mut addresses: Vec<Listen> = port.into_iter().chain(options.listen).collect();
                let any = addresses.is_empty();
                addresses.extend(any.then_some(Listen::DualStack(DEFAULT_PORT)));
                if addresses.iter().find_map(Listen::socket_addr).is_some_and(|first| first.port() == 0) {
                    let problem = "that is any port: say which one it became (--port), or where the socket is (--control)";
                    return Err(Error::config("port 0", problem));
                }
                Ok(Wanted { places: place::expected(&addresses, &directories), directories, any })
            }
        }
    }

    /// As they would be typed for a server.
    fn words(&self) -> Vec<OsString> {
        let control = self.control.as_ref().map(|control| match control {
            Control::Auto => "auto".into(),
            Control::Off => "off".into(),
            Control::Path(path) => path.clone().into_os_string(),
        });
        let port = self.port.map(|port| port.to_string().into());
        let listen = self.listen.iter().map(|listen| ("listen", listen.to_string().into()));
        let config = self.config.clone().map(PathBuf::into_os_string);
        let single = [("control", control), ("port", port), (Flags::FILE, config)];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let word = |(name, value): (&str, OsString)| {
            let mut word = OsString::from(format!("--{name}="));
            word.push(value);
            word
        };
        iter::once("uringd".into()).chain(single.chain(listen).map(word)).collect()
    }
}

impl Wanted {
    /// To the first of the places where somebody answers.
    ///
    /// # Errors
    /// Why nobody does, of the one where somebody was nearest to it; and who is there instead.
    pub fn connect(&self) -> std::result::Result<Client, String> {
        let mut failures = Vec::new();
        for path in &self.places {
            match Client::connect(path, PATIENCE) {
                Ok(client) => return Ok(client),
                Err(error) => failures.push((path, error)),
            }
        }
        let distance = |error: &io::Error| match error.kind() {
            ErrorKind::WouldBlock => 0,
            ErrorKind::ConnectionRefused => 1,
            ErrorKind::PermissionDenied => 2,
            _ => 3,
        };
        let nearest = failures.iter().min_by_key(|(_, error)| distance(error));
        let (path, error) = nearest.ok_or("there is no place to look for a control socket")?;
        let line = self.explain(path, error);
        if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
            return Err(line);
        }
        let mut others: Vec<Client> = self.others().iter().filter_map(|path| server_at(path)).collect();
        match (others.pop(), others.is_empty()) {
            (None, _) => Err(line),
            (Some(only), true) if self.any => Ok(only),
            (Some(last), _) => {
                let paths = others.iter().chain([&last]).map(|other| other.path().display().to_string());
                let paths = paths.collect::<Vec<_>>().join(", ");
                Err(format!("{line}; there are others, say which with --control: {paths}"))
            }
        }
    }

    /// Sockets of the same directories.
    fn others(&self) -> Vec<PathBuf> {
        let entries = self.directories.iter().filter_map(|directory| fs::read_dir(directory).ok());
        let sockets =
            entries.flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
        let mut paths: Vec<PathBuf> =
            sockets.map(|entry| entry.path()).filter(|path| !self.places.contains(path)).collect();
        paths.sort();
        paths
    }

    fn explain(&self, path: &Path, error: &io::Error) -> String {
        let path = path.display();
        match error.kind() {
            ErrorKind::NotFound => {
                let places: Vec<String> = self.places.iter().map(|path| path.display().to_string()).collect();
                format!("no uringd answers at {} (is it running? --control?)", places.join(" or "))
            }
            ErrorKind::ConnectionRefused => {
                format!("no uringd answers at {path}: the file is there, but nobody listens (was it killed?)")
            }
            ErrorKind::PermissionDenied => {
                format!("{path}: permission denied; only root and the user who started uringd may ask")
            }
            ErrorKind::WouldBlock => format!(
                "the uringd at {path} takes no connection within {PATIENCE:?} (its master hangs, or is stopped)"
            ),
            _ => format!("{path}: {error}"),
        }
    }
}

/// Whoever answers there like one of ours, to us: sockets of all kinds may be kept there.
fn server_at(path: &Path) -> Option<Client> {
    let mut client = Client::connect(path, LOOK).ok()?;
    let index: Value = serde_json::from_str(&client.get("/").ok()?).ok()?;
    client.grant(PATIENCE);
    index["uringd"].is_string().then_some(client)
}

#[cfg(test)]
mod tests {
    use super::super::super::{Cli, Command, parse};
    use super::*;
    use crate::sys::testing::leave_dead_socket;
    use clap::FromArgMatches;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    fn typed(words: &str) -> Which {
        let words = ["uringd", "ctl", "status"].into_iter().chain(words.split_whitespace());
        let words: Vec<OsString> = words.map(Into::into).collect();
        match Cli::from_arg_matches(&parse(&words).unwrap()).unwrap().command {
            Some(Command::Ctl(arguments)) => arguments.which,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn wanted(words: &str, environment: &[(&str, &str)]) -> std::result::Result<Wanted, String> {
        let variable = |wanted: &OsStr| {
            let found = environment.iter().find(|(name, _)| OsStr::new(name) == wanted);
            found.map(|(_, value)| OsString::from(value))
        };
        typed(words).wanted(variable).map_err(|error| {
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        })
    }

    #[test]
    fn flags_the_environment_and_the_file_say_where_to_look() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        // what else is in it, or wrong with it, is nobody's business here
        let with_port = file("port.toml", "port = 82\nwrokers = 3\n");
        let with_control = file("control.toml", "port = 83\ncontrol = '/x/c.sock'\n");
        let wrong = file("wrong.toml", "port = 'http'\n");
        let from = |name: &str| format!("--config {name}");
        type Variables<'a> = &'a [(&'a str, &'a str)];
        let table: [(&str, Variables<'_>, std::result::Result<&str, &str>); 20] = [
            ("", &[], Ok("/run/uringd/1337.sock")),
            ("--port 80", &[], Ok("/run/uringd/80.sock")),
            ("--listen unix:/x/a.sock", &[], Ok("/run/uringd/a.sock")),
            ("--listen 127.0.0.1:81,unix:/x/a.sock", &[], Ok("/run/uringd/127.0.0.1:81.sock")),
            ("--control ./x --port 80", &[], Ok("./x")),
            ("", &[("URINGD_PORT", "84")], Ok("/run/uringd/84.sock")),
            ("", &[("URINGD_CONTROL", "./y"), ("URINGD_PORT", "84")], Ok("./y")),
            ("--port 80", &[("URINGD_CONTROL", "./y"), ("URINGD_PORT", "x")], Ok("/run/uringd/80.sock")),
            ("", &[("URINGD_WORKERS", "x")], Ok("/run/uringd/1337.sock")),
            (&from(&with_port), &[], Ok("/run/uringd/82.sock")),
            (&from(&with_port), &[("URINGD_PORT", "84")], Ok("/run/uringd/84.sock")),
            (&from(&with_control), &[("URINGD_PORT", "84")], Ok("/x/c.sock")),
            ("", &[("URINGD_CONFIG", &with_control)], Ok("/x/c.sock")),
            ("--port 80", &[("URINGD_CONFIG", &with_control)], Ok("/run/uringd/80.sock")),
            ("--port 0", &[], Err("port 0: that is any port")),
            ("--control off", &[], Err("--control off: nothing can be asked")),
            ("", &[("URINGD_CONTROL", "off")], Err("--control off: nothing can be asked")),
            ("", &[("URINGD_PORT", "http")], Err("URINGD_PORT: invalid value 'http'")),
            (&from(&wrong), &[], Err("wrong.toml:1: port: invalid value 'http'")),
            ("--config /no/such.toml", &[], Err("/no/such.toml: there is no such file")),
        ];
        for (words, environment, expected) in table {
            match (wanted(words, environment), expected) {
                (Ok(wanted), Ok(first)) => {
                    assert_eq!(wanted.places[0], PathBuf::from(first), "{words} {environment:?}");
                    assert_eq!(wanted.any, first.ends_with("1337.sock"));
                }
                (Err(line), Err(part)) => assert!(line.contains(part), "{line}"),
                (got, _) => panic!("{words} {environment:?}: {got:?}"),
            }
        }
        let found = wanted("", &[("XDG_RUNTIME_DIR", "/run/user/7")]).unwrap();
        assert_eq!(found.places[1], PathBuf::from("/run/user/7/uringd/1337.sock"));
    }

    /// Answers each client with this, once.
    fn answers(path: &Path, content: &'static str) {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let _ = client.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
                let _ = client.write_all((head + content).as_bytes());
            }
        });
    }

    #[test]
    fn the_only_server_there_is_will_do_where_none_was_named_and_several_are_listed() {
        const OURS: &str = "{\"uringd\":\"1.0.0\"}";
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let wanted = |any| Wanted {
            places: vec![one.path().join("1337.sock"), two.path().join("1337.sock")],
            directories: vec![one.path().to_owned(), two.path().to_owned()],
            any,
        };
        let line = |any| wanted(any).connect().map(|_| ()).unwrap_err();
        assert!(line(true).ends_with("(is it running? --control?)"), "{}", line(true));
        // neither of these is a server of ours that lives
        fs::write(one.path().join("file"), "").unwrap();
        leave_dead_socket(&two.path().join("dead.sock"));
        answers(&one.path().join("app.sock"), "hello");
        assert!(line(true).ends_with("(is it running? --control?)"), "{}", line(true));
        answers(&two.path().join("80.sock"), OURS);
        assert_eq!(wanted(true).connect().unwrap().path(), two.path().join("80.sock"));
        let expected = format!("say which with --control: {}", two.path().join("80.sock").display());
        assert!(line(false).contains("no uringd answers at ") && line(false).ends_with(&expected));
        answers(&one.path().join("81.sock"), OURS);
        let [eighty, eighty_one] = [two.path().join("80.sock"), one.path().join("81.sock")];
        for path in [eighty, eighty_one] {
            assert!(line(true).contains(path.to_str().unwrap()), "{}", line(true));
        }
        leave_dead_socket(&one.path().join("1337.sock"));
        assert!(line(true).contains("nobody listens (was it killed?); there are others"), "{}", line(true));
        let alone = Wanted { directories: vec![], ..wanted(false) };
        assert!(alone.connect().map(|_| ()).unwrap_err().ends_with("(was it killed?)"));
    }
}
