//! The configuration file and what checks, prints and completes it: which of two values is in force, what a bad file
//! costs (nothing but its own line), and that what is generated from the flags works where it is meant for.

mod common;

use common::*;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A directory with `a.toml`, in which programs are started.
struct Place(TempDir);

impl Place {
    fn with(text: impl AsRef<[u8]>) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        place.write(text);
        place
    }

    fn write(&self, text: impl AsRef<[u8]>) {
        fs::write(self.path("a.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Bare: without a variable or a flag besides these.
    fn command(&self, program: Program, words: &[&str]) -> Command {
        let mut command = bare_command(&program.path());
        command.args(words).current_dir(self.0.path()).stdout(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str]) -> End {
        end(&mut self.command(Program::Uringd, words))
    }

    /// A start and a check with this file must be refused, in this one line.
    fn refused(&self, words: &[&str], line: &str) {
        for command in [&[][..], &["check"]] {
            let end = self.run(&[command, words].concat());
            assert_eq!((end.code, end.stdout.as_str()), (Some(2), ""), "{command:?}");
            let rest = end.stderr.strip_prefix("uringd: ").unwrap_or_else(|| panic!("{}", end.stderr));
            assert!(rest.starts_with(line), "{command:?}: {rest:?} is not {line:?}");
            assert_eq!(rest.matches('\n').count(), 1, "{command:?}: {rest}");
        }
    }
}

struct End {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn end(command: &mut Command) -> End {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |octets| String::from_utf8(octets).expect("text");
    End { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Whether this program is here; else says that the test is skipped.
fn has(program: &str, asked: &str) -> bool {
    let found = Command::new(program).arg(asked).output().is_ok_and(|output| output.status.success());
    if !found {
        skip(&format!("there is no `{program}` here"));
    }
    found
}

/// All long flags of `--help`.
fn flags() -> BTreeSet<String> {
    let help = Place::with("").run(&["--help"]).stdout;
    let lines = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let flags: BTreeSet<String> =
        lines.map(|line| line.split([' ', '[']).next().unwrap().to_owned()).collect();
    assert!(flags.len() > 40 && flags.contains("log-level"), "{flags:?}");
    flags
}

// ---- which value is in force ----

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let place =
        Place::with("listen = [\"127.0.0.1:0\"]\nworkers = 1\nlog-format = \"json\"\ncontrol = \"off\"\n");
    let workers = |words: &[&str], variable: Option<&str>| {
        let mut command = place.command(Program::Uringd, &[words, &["--config", "a.toml"]].concat());
        command.envs(variable.map(|value| ("URINGD_WORKERS", value)));
        let server = Server::spawn(&mut command);
        server.wait_until_whole();
        server.listening().len()
    };
    assert_eq!(workers(&[], None), 1);
    assert_eq!(workers(&[], Some("2")), 2);
    assert_eq!(workers(&["--workers", "3"], Some("2")), 3);
}

#[test]
fn the_file_is_named_by_a_flag_or_by_a_variable_and_the_flag_wins() {
    let place = Place::with("workers = 1");
    fs::write(place.path("b.toml"), "workers = 2").unwrap();
    let table: [(&[&str], Option<&str>, &str); 3] = [
        (&["check", "--config", "a.toml"], None, "ok: 1 worker on [::]:1337, file a.toml ("),
        (&["check"], Some("b.toml"), "ok: 2 workers on [::]:1337, file b.toml ("),
        (&["check", "--config=a.toml"], Some("b.toml"), "ok: 1 worker on [::]:1337, file a.toml ("),
    ];
    for (words, variable, expected) in table {
        let mut command = place.command(Program::Uringd, words);
        let end = end(command.envs(variable.map(|file| ("URINGD_CONFIG", file))));
        assert!(end.code == Some(0) && end.stdout.starts_with(expected), "{} {}", end.stdout, end.stderr);
    }
}

#[test]
fn paths_in_the_file_begin_where_it_was_started_and_not_where_the_file_is() {
    let place = Place::with("");
    fs::create_dir_all(place.path("etc")).unwrap();
    fs::create_dir_all(place.path("site")).unwrap();
    fs::write(place.path("site/index.html"), "it is here").unwrap();
    fs::write(place.path("etc/b.toml"), "root = \"site\"\nlisten = \"127.0.0.1:0\"\nworkers = 1").unwrap();
    let mut command = Program::Uringd.command(&["--config", "etc/b.toml"]);
    let server = Server::spawn(command.current_dir(place.0.path()));
    server.wait_until_whole();
    assert_eq!(server.get("/").text(), "it is here");
}

#[test]
fn a_program_of_ones_own_has_the_file_and_the_commands_as_well() {
    let place = Place::with("listen = [\"127.0.0.1:0\"]\nworkers = 1\nmax-body = 0\n");
    let check = end(&mut place.command(Program::Faulty, &["check", "--config", "a.toml"]));
    assert!(
        check.code == Some(0) && check.stdout.starts_with("ok: 1 worker on 127.0.0.1:0"),
        "{}",
        check.stderr
    );
    let script = end(&mut place.command(Program::Faulty, &["completions", "bash"])).stdout;
    assert!(script.contains("complete -F _faulty"), "{script}");
    let server = Server::spawn(Program::Faulty.command(&["--config", "a.toml"]).current_dir(place.0.path()));
    server.wait_until_whole();
    let mut client = server.connect();
    client.send("POST /pid HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.read_answer().unwrap().status, 413, "max-body is the file's");
}

// ---- what is wrong with it ----

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    let table = [
        ("port = 80\n\nwrokers = 2\n", "a.toml:3: wrokers: there is no such option, did you mean workers?"),
        (
            "keepalive-timeout = \"5s\"",
            "a.toml:1: keepalive-timeout: there is no such option, did you mean keep-alive-timeout?",
        ),
        (
            "kill_timeout = \"5s\"",
            "a.toml:1: kill_timeout: there is no such option, did you mean kill-timeout?",
        ),
        ("zzz = 1", "a.toml:1: zzz: there is no such option, --print-config prints them all"),
        ("# limits\n[limits]\nmax-body = 1", "a.toml:2: limits: this is a section, and there are none"),
    ];
    for (text, line) in table {
        Place::with(text).refused(&["--config", "a.toml"], line);
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_line_as_on_the_command_line() {
    let table = [
        ("\nport = \"http\"", "a.toml:2: port: invalid value 'http': expected a port from 1 to 65535"),
        ("kill-timeout = 5", "a.toml:1: kill-timeout: invalid value '5': expected a number with its unit"),
        (
            "listen = [\n  \"127.0.0.1:80\",\n  \"localhost:80\",\n]",
            "a.toml:3: listen: invalid value 'localhost:80'",
        ),
        ("root = 5", "a.toml:1: root: expected DIR as after --root, in quotes, and not a number"),
        ("server-header = \"yes\"", "a.toml:1: server-header: invalid value 'yes': expected on or off"),
        (
            "log-level = true",
            "a.toml:1: log-level: expected LEVEL as after --log-level, in quotes, and not a boolean",
        ),
    ];
    for (text, line) in table {
        let place = Place::with(text);
        place.refused(&["--config", "a.toml"], line);
        // it is the file that is wrong, whatever is stronger
        place.refused(&["--config", "a.toml", "--log-level", "info", "--server-header", "on"], line);
    }
}

#[test]
fn what_the_rules_refuse_is_told_with_the_place_it_was_set_in() {
    let place = Place::with("backlog = 1\nworkers = 0\n");
    place.refused(&["--config", "a.toml"], "a.toml:2: --workers 0: expected 1 to 1024");
    place.refused(&["--workers", "0"], "--workers 0: expected 1 to 1024");
    let mut command = place.command(Program::Uringd, &["check"]);
    let end = end(command.env("URINGD_WORKERS", "0"));
    assert_eq!(
        (end.code, end.stderr.as_str()),
        (Some(2), "uringd: URINGD_WORKERS: --workers 0: expected 1 to 1024\n")
    );
    Place::with("root = \"no/such\\ndirectory\"")
        .refused(&["--config", "a.toml"], "a.toml:1: --root no/such\\ndirectory: there is no such directory");
}

#[test]
fn a_file_that_cannot_be_read_is_refused_in_one_line() {
    let place = Place::with(b"port = 80\nroot = \"caf\xe9\"\n");
    place.refused(&["--config", "a.toml"], "a.toml:2: it is not UTF-8");
    place.refused(&["--config", "nowhere.toml"], "nowhere.toml: there is no such file, correct the path");
    place.refused(&["--config", "."], ".: it is a directory, name a file in it");
    place.refused(&["--config", "a.toml/b"], "a.toml/b: it cannot be read: Not a directory");
    place.refused(&["--config", "/dev/null"], "/dev/null: it is no regular file");
    place.write("port = 80\nroot = \"site\nworkers = 1\n");
    place.refused(&["--config", "a.toml"], "a.toml:2: this is not TOML: ");
    place.write("port = 80\nport = 81\n");
    place.refused(&["--config", "a.toml"], "a.toml:2: this is not TOML: duplicate key");
    if is_root() {
        return skip("root may read every file");
    }
    fs::set_permissions(place.path("a.toml"), fs::Permissions::from_mode(0o000)).unwrap();
    place.refused(&["--config", "a.toml"], "a.toml: it cannot be read: Permission denied");
}

#[test]
fn a_file_that_goes_bad_costs_a_running_pool_nothing() {
    let place = Place::with("listen = [\"127.0.0.1:0\"]\nworkers = 2\nserver-header = false\n");
    let server = Server::spawn(Program::Uringd.command(&["--config", "a.toml"]).current_dir(place.0.path()));
    server.wait_until_whole();
    place.write("prot = \n");
    let (slot, pid) = server.listening()[0];
    kill(pid, "KILL");
    server.wait("the killed one is replaced", || {
        server.listening().iter().any(|(other, new)| *other == slot && *new != pid)
    });
    // workers have what the master has read at its start
    for _ in 0..8 {
        assert_eq!(server.get("/").header("server"), None);
    }
}

// ---- check ----

#[test]
fn check_says_ok_or_what_is_wrong_and_starts_nothing() {
    let place = Place::with("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let pid_file = place.path("uringd.pid");
    let good = place.run(&[
        "check",
        "--listen",
        &address,
        "--workers",
        "1",
        "--pid-file",
        pid_file.to_str().unwrap(),
    ]);
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    let expected = format!("ok: 1 worker on {address} (not checked: whether the addresses are free, ");
    assert!(good.stdout.starts_with(&expected) && good.stdout.lines().count() == 1, "{}", good.stdout);
    assert!(!pid_file.exists());
    assert!(good.stderr.lines().all(|line| line.starts_with("uringd: warning: ")), "{}", good.stderr);
    let bad: [(&[&str], &str); 4] = [
        (&["--port", "http"], "uringd: invalid value 'http' for '--port <PORT>': expected a port"),
        (&["--root", "/nowhere"], "uringd: --root /nowhere: there is no such directory"),
        (&["--max-connections", "1048000"], "uringd: --max-connections 1048000"),
        (&["stray"], "uringd: unexpected argument 'stray' found"),
    ];
    for (words, line) in bad {
        let end = place.run(&[&["check"], words].concat());
        assert_eq!(
            (end.code, end.stdout.as_str(), end.stderr.lines().count()),
            (Some(2), "", 1),
            "{}",
            end.stderr
        );
        assert!(end.stderr.starts_with(line), "{}", end.stderr);
    }
}

#[test]
fn flags_before_a_subcommand_are_refused_and_so_is_an_unknown_one() {
    let place = Place::with("");
    let table: [(&[&str], &str); 3] = [
        (&["--port", "80", "check"], "uringd: the subcommand 'check' cannot be used with '--port <PORT>'"),
        (&["chek"], "uringd: unrecognized subcommand 'chek'; tip: a similar subcommand exists: 'check'"),
        (&["--print-config", "--port", "80"], "uringd: the argument '--print-config' cannot be used with"),
    ];
    for (words, line) in table {
        let end = place.run(words);
        assert_eq!((end.code, end.stderr.lines().count()), (Some(2), 1), "{}", end.stderr);
        assert!(end.stderr.starts_with(line), "{}", end.stderr);
    }
}

// ---- what is printed ----

#[test]
fn the_printed_file_has_every_option_and_changes_nothing() {
    let place = Place::with("");
    let printed = place.run(&["--print-config"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    place.write(&printed.stdout);
    let check = |words: &[&str]| place.run(&[&["check", "--listen", "127.0.0.1:0"], words].concat());
    let (with, without) = (check(&["--config", "a.toml"]), check(&[]));
    assert_eq!(
        (with.code, with.stdout.replace(", file a.toml", "")),
        (Some(0), without.stdout),
        "{}",
        with.stderr
    );
    let keys: BTreeSet<String> = printed
        .stdout
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, _)| key.trim_start_matches('#').to_owned())
        .filter(|key| !key.starts_with(' '))
        .collect();
    let mut expected = flags();
    for none in ["config", "print-config"] {
        assert!(expected.remove(none));
    }
    assert_eq!(keys, expected);
    // and a server starts with it
    let mut command =
        Program::Uringd.command(&["--config", "a.toml", "--listen", "127.0.0.1:0", "--workers", "1"]);
    let server = Server::spawn(command.current_dir(place.0.path()));
    server.wait_until_whole();
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn completions_know_every_flag_and_the_shells_take_them() {
    let place = Place::with("");
    let flags = flags();
    for (shell, check) in
        [("bash", Some("-n")), ("zsh", Some("-n")), ("fish", Some("--no-execute")), ("elvish", None)]
    {
        let end = place.run(&["completions", shell]);
        assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{shell}");
        for flag in &flags {
            assert!(end.stdout.contains(flag.as_str()), "{shell}: --{flag} is missing");
        }
        let Some(check) = check.filter(|_| has(shell, "--version")) else { continue };
        fs::write(place.path("script"), &end.stdout).unwrap();
        let read = Command::new(shell).arg(check).arg(place.path("script")).output().unwrap();
        assert!(read.status.success() && read.stderr.is_empty(), "{shell}: {read:?}");
    }
    let end = place.run(&["completions", "tcsh"]);
    assert_eq!((end.code, end.stderr.lines().count()), (Some(2), 1), "{}", end.stderr);
    assert!(end.stderr.contains("bash"), "{}", end.stderr);
}

#[test]
fn bash_completes_a_flag() {
    let place = Place::with("");
    fs::write(place.path("script"), place.run(&["completions", "bash"]).stdout).unwrap();
    if !has("bash", "--version") {
        return;
    }
    let words = "source ./script; COMP_WORDS=(uringd --keep-al); COMP_CWORD=1; _uringd uringd --keep-al uringd; echo ${COMPREPLY[@]}";
    let completed = end(Command::new("bash").args(["-c", words]).current_dir(place.0.path()));
    assert_eq!((completed.stdout.as_str(), completed.stderr.as_str()), ("--keep-alive-timeout\n", ""));
}

#[test]
fn the_manual_page_is_one_that_groff_takes_without_a_warning() {
    let place = Place::with("");
    let page = place.run(&["man"]);
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    fs::write(place.path("uringd.8"), &page.stdout).unwrap();
    if !has("groff", "--version") {
        return;
    }
    let mut groff = Command::new("groff");
    let shown = end(groff.args(["-man", "-ww", "-Tascii", "-P-cbou"]).arg(place.path("uringd.8")));
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""));
    for flag in flags() {
        assert!(shown.stdout.contains(&format!("--{flag}")), "--{flag} is missing");
    }
    let lines = [
        "SYNOPSIS",
        "SIGNALS (TO THE MASTER)",
        "EXIT CODES",
        "EXAMPLES",
        "COMMANDS",
        "       check  ",
        "         3   gave up: no worker is left",
    ];
    for expected in lines {
        assert!(
            shown.stdout.lines().any(|line| line.starts_with(expected)),
            "{expected} in\n{}",
            shown.stdout
        );
    }
    assert!(shown.stdout.contains("URINGD_KILL_TIMEOUT"));
}

#[test]
fn what_is_printed_depends_on_no_variable_and_need_not_be_read_to_its_end() {
    let place = Place::with("");
    for words in [&["man"][..], &["completions", "zsh"], &["--print-config"]] {
        let mut command = place.command(Program::Uringd, words);
        let printed = end(command.env("URINGD_PORT", "http").env("URINGD_CONFIG", "/nowhere"));
        assert!(printed.code == Some(0) && printed.stdout.len() > 1000, "{words:?}: {}", printed.stderr);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let nobody = end(place.command(Program::Uringd, words).stdout(writer));
        assert_eq!((nobody.code, nobody.stderr.as_str()), (Some(0), ""), "{words:?}");
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let full = end(place.command(Program::Uringd, words).stdout(full));
        let line = "uringd: cannot write to stdout: No space left on device (os error 28)\n";
        assert_eq!((full.code, full.stderr.as_str()), (Some(1), line), "{words:?}");
    }
}

#[test]
fn help_names_the_variables_and_what_else_there_is() {
    let help = Place::with("").run(&["--help"]).stdout;
    for expected in
        ["[env: URINGD_CONFIG=]", "[env: URINGD_PORT=]", "Commands:", "check", "completions", "man"]
    {
        assert!(help.contains(expected), "{expected} in {help}");
    }
}
