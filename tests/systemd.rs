//! A service manager is told when the server is ready, reloads and stops, and that somebody serves; its sockets are taken
//! over; and the unit files are what systemd expects.

mod common;

use common::*;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The socket on which a service manager listens, and what it has heard.
struct Manager {
    heard: Arc<Mutex<Vec<(Instant, String)>>>,
    folder: TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let heard = Arc::new(Mutex::new(vec![]));
        let all = Arc::clone(&heard);
        thread::spawn(move || {
            let mut message = [0; 4096];
            while let Ok(octets) = socket.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..octets]).into_owned();
                all.lock().unwrap().extend(text.lines().map(|line| (Instant::now(), line.to_owned())));
            }
        });
        Manager { heard, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// All but the watchdog's and those whose value is another one every time.
    fn lines(&self) -> Vec<String> {
        let lines = self.heard.lock().unwrap().iter().map(|(_, line)| line.clone()).collect::<Vec<_>>();
        lines
            .into_iter()
            .filter(|line| !line.starts_with("WATCHDOG") && !line.starts_with("MONOTONIC"))
            .collect()
    }

    fn pings(&self) -> usize {
        self.heard.lock().unwrap().iter().filter(|(_, line)| line == "WATCHDOG=1").count()
    }

    fn count(&self, wanted: &str) -> usize {
        self.lines().iter().filter(|line| *line == wanted).count()
    }
}

#[test]
fn the_service_manager_is_told_each_step_of_the_way() {
    let manager = Manager::new();
    let config = manager.folder.path().join("uringd.toml");
    fs::write(&config, "workers = 2\n").unwrap();
    let mut command =
        Program::Faulty.command(&["--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", manager.path()).env("FAULTY_BOOT_MS", "300");
    let mut server = Server::spawn(&mut command);
    server.wait("it is told that it starts", || !manager.lines().is_empty());
    assert_eq!(manager.lines()[0], "STATUS=serving: 0 of 2 workers listen");
    server.wait("it is told that it is ready", || manager.count("READY=1") == 1);
    let told = manager.lines();
    let ready = told.iter().position(|line| line == "READY=1").unwrap();
    // all of one message, of which the status is the last line
    assert_eq!(told[ready + 1], "STATUS=serving: 2 of 2 workers listen", "not before all listen");
    server.wait_until_whole();
    for (_, worker) in server.listening() {
        let inherited = fs::read_to_string(format!("/proc/{worker}/environ")).unwrap();
        assert!(!inherited.contains("NOTIFY_SOCKET"), "{inherited}");
    }
    server.signal("HUP");
    server.wait("and that it reloads", || manager.count("RELOADING=1") == 1);
    server.wait("and is ready again", || manager.count("READY=1") == 2);
    fs::write(&config, "wrkers = 2\n").unwrap();
    server.signal("HUP");
    server.wait("a reload that fails at once is told as well", || {
        (manager.count("RELOADING=1"), manager.count("READY=1")) == (2, 3)
    });
    server.signal("TERM");
    server.wait("and that it stops", || manager.count("STOPPING=1") == 1);
    assert_eq!(server.wait_exit().code(), Some(0));
    let lines = manager.lines();
    assert!(lines.contains(&"EXTEND_TIMEOUT_USEC=20000000".to_owned()), "{lines:?}");
    assert!(lines.contains(&"STATUS=serving: 2 of 2 workers listen".to_owned()), "{lines:?}");
}

#[test]
fn the_watchdog_is_fed_only_while_somebody_serves() {
    let manager = Manager::new();
    let hang = manager.folder.path().join("hang");
    let mut command = Program::Faulty.command(&["--listen", "127.0.0.1:0", "--workers", "1"]);
    command
        .env("NOTIFY_SOCKET", manager.path())
        .env("WATCHDOG_USEC", "200000")
        .env("FAULTY_BOOT_HANG", &hang);
    let server = Server::spawn(&mut command);
    server.wait_until_whole();
    let before = manager.pings();
    server.wait("it is fed", || manager.pings() > before + 5);
    fs::write(&hang, "").unwrap();
    kill(server.listening()[0].1, "KILL");
    server.wait("nobody serves", || server.listening().is_empty());
    wait_until_still("nor is it fed", Duration::from_secs(1), || manager.pings());
    fs::remove_file(&hang).unwrap();
    let before = manager.pings();
    server.wait("it is fed again", || manager.pings() > before + 2);
}

#[test]
fn a_service_manager_that_is_not_there_is_said_and_costs_nothing() {
    let mut command = Program::Uringd.command(&["--listen", "127.0.0.1:0", "--workers", "1"]);
    let server = Server::spawn(command.env("NOTIFY_SOCKET", "/no/such/socket"));
    server.wait_until_whole();
    server.wait_for("the warning", |line| {
        line["message"].to_string().contains("service manager cannot be told")
    });
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn a_service_manager_that_does_not_read_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let deaf = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let mut command = Program::Faulty.command(&["--listen", "127.0.0.1:0", "--workers", "1"]);
    let mut server = Server::spawn(command.env("NOTIFY_SOCKET", folder.path().join("notify")));
    server.wait_until_whole();
    let done = || server.events("reload").iter().filter(|line| line["stage"] == "done").count();
    // several messages each; its queue has room for net.unix.max_dgram_qlen
    for nth in 1..=12 {
        server.signal("HUP");
        server.wait("it is reloaded", || done() == nth);
    }
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    drop(deaf);
}

fn activate(arguments: &[&str], own: &[&str]) -> Option<Command> {
    let mut activate = bare_command(Path::new("systemd-socket-activate"));
    if activate.arg("--version").output().is_err() {
        skip("there is no `systemd-socket-activate` here");
        return None;
    }
    let mut activate = bare_command(Path::new("systemd-socket-activate"));
    activate.args(arguments).arg("--").arg(Program::Uringd.path());
    activate.args(["--log-format", "json", "--log-level", "debug", "--workers", "2", "--control", "off"]);
    activate.args(own);
    Some(activate)
}

fn free_address() -> SocketAddr {
    (own_address(), 8080).into()
}

#[test]
fn sockets_of_the_service_manager_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let (address, path) = (free_address(), folder.path().join("s"));
    let config = folder.path().join("uringd.toml");
    fs::write(&config, "").unwrap();
    let (listen, config) = (address.to_string(), config.to_str().unwrap());
    let arguments = ["-l", &listen, "-l", path.to_str().unwrap()];
    let Some(mut command) = activate(&arguments, &["--config", config]) else { return };
    let mut server = Server::launch(&mut command);
    server.wait("it listens", || Client::try_connect(address).is_ok());
    server.wait_for("the server is up", |line| line["event"] == "setup");
    let setup = server.events("setup")[0]["addresses"].as_str().unwrap().to_owned();
    assert_eq!(setup, format!("{address} unix:{}", path.display()), "and not the default port");
    server.address = address;
    server.wait("both serve", || server.listening().len() == 2);
    assert_eq!(server.get("/").status, 200);
    let mut unix = Client::connect_unix(&path);
    assert_eq!(unix.get("/").status, 200);
    // one more beside them, and away again
    let more = free_address();
    for (text, both) in [(format!("listen = [\"{address}\", \"{more}\"]\n"), true), (String::new(), false)] {
        fs::write(config, text).unwrap();
        let before = server.events("reload").len();
        server.signal("HUP");
        server.wait("the reload is done", || server.events("reload").len() == before + 2);
        assert_eq!(server.events("reload")[before + 1]["stage"], "done");
        assert_eq!(server.get("/").status, 200);
        server.wait("the other one is as it should be", || Client::try_connect(more).is_ok() == both);
    }
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(path.exists(), "the service manager's files are its own");
}

#[test]
fn what_is_no_listening_socket_is_refused_in_one_line() {
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" 3</dev/null";
    let none = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" 3<&-";
    for (script, expected) in [
        (script, "LISTEN_FDS: descriptor 3 is no listening stream socket (ListenStream=, Accept=no)"),
        (none, "LISTEN_FDS: it promises sockets that are not there"),
    ] {
        let mut command = bare_command(Path::new("sh"));
        let output = command.args(["-c", script]).arg(Program::Uringd.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("uringd: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(expected), "{said}");
        assert_eq!(output.status.code(), Some(2));
    }
    // those of another process are not ours
    let others = "export LISTEN_PID=1 LISTEN_FDS=1; exec \"$0\" --listen 127.0.0.1:0 --log-format json";
    let mut command = bare_command(Path::new("sh"));
    let server = Server::spawn(command.args(["-c", others]).arg(Program::Uringd.path()));
    server.wait("it serves", || !server.listening().is_empty());
}

#[test]
fn the_unit_file_reloads_the_server_that_it_starts_and_names_the_page_that_there_is() {
    let unit =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/uringd.service")).unwrap();
    let value =
        |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).expect(name);
    assert!(!unit.contains("Environment="), "{unit}");
    let page = Command::new(Program::Uringd.path()).arg("man").output().unwrap().stdout;
    let page = String::from_utf8(page).unwrap();
    let title = page.lines().find_map(|line| line.strip_prefix(".TH ")).expect("a title");
    let section = title.split_whitespace().nth(1).expect("a section");
    assert_eq!(value("Documentation"), format!("man:uringd({section})"));

    // as it would be started and reloaded, but for its own file and a directory for its socket
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("uringd.toml");
    let socket = folder.path().join("c.sock");
    let text =
        format!("listen = ['127.0.0.1:0']\nworkers = 1\npin = 'off'\ncontrol = '{}'\n", socket.display());
    fs::write(&config, text).unwrap();
    let command = |line: &str| {
        let mut words = line.split(' ').map(|word| match word {
            "/etc/uringd.toml" => config.to_str().unwrap(),
            word => word,
        });
        assert_eq!(words.next(), Some("/usr/local/bin/uringd"));
        let mut command = bare_command(&Program::Uringd.path());
        command.args(words).env_remove("URINGD_CONTROL");
        command
    };
    let server = Server::spawn(command(value("ExecStart")).env("URINGD_LOG_FORMAT", "json"));
    server.wait_until_whole();
    let reload = |expected: i32| {
        let output = command(value("ExecReload")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(expected), "{said}");
        said
    };
    reload(0);
    // what is wrong with the file is told, and not that ctl could not read it
    let text = fs::read_to_string(&config).unwrap() + "wrokers = 2\n";
    fs::write(&config, text).unwrap();
    let said = reload(1);
    assert!(said.contains("uringd.toml:5: wrokers: there is no such option"), "{said}");
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn systemd_accepts_the_unit_files() {
    let folder = tempfile::tempdir().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning");
    let program = Program::Uringd.path();
    for name in ["uringd.service", "uringd.socket"] {
        let text = fs::read_to_string(units.join(name)).unwrap();
        fs::write(folder.path().join(name), text.replace("/usr/local/bin/uringd", program.to_str().unwrap()))
            .unwrap();
    }
    let mut verify = Command::new("systemd-analyze");
    verify
        .args(["verify", "--man=no"])
        .current_dir(folder.path())
        .args(["./uringd.service", "./uringd.socket"]);
    match verify.stdin(Stdio::null()).output() {
        Err(_) => skip("there is no `systemd-analyze` here"),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(output.status.success() && !said.contains("uringd."), "{said}");
        }
    }
}
