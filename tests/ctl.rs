//! `uringd ctl` and the control socket behind it: every command against a live pool, and what goes wrong.

mod common;

use common::*;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use tempfile::TempDir;

/// A server with a control socket in a directory of its own.
struct Operated {
    server: Server,
    socket: PathBuf,
    hangs_at_boot: PathBuf,
    directory: TempDir,
}

impl Operated {
    fn start(arguments: &[&str]) -> Operated {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let (socket, hangs_at_boot) = (directory.path().join("control.sock"), directory.path().join("hangs"));
        let mut all = vec!["--listen", "127.0.0.1:0", "--pin", "off", "--control", socket.to_str().unwrap()];
        all.extend(arguments);
        let mut command = Program::Faulty.command(&all);
        command.env("FAULTY_BOOT_HANG", &hangs_at_boot);
        let server = Server::spawn(&mut command);
        server.wait_until_whole();
        Operated { server, socket, hangs_at_boot, directory }
    }

    fn ctl(&self, words: &[&str]) -> Ran {
        ran(ctl(&self.socket, words).output())
    }

    fn curl(&self, words: &[&str], path: &str) -> Ran {
        let mut curl = Command::new("curl");
        curl.arg("-s").arg("--unix-socket").arg(&self.socket).args(words).arg(format!("http://uringd{path}"));
        ran(curl.output())
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&Client::connect_unix(&self.socket).get("/status").body).unwrap()
    }
}

/// What a program has said.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    /// Lines.
    err: Vec<String>,
}

impl Ran {
    /// It went well, and this is what it printed.
    #[track_caller]
    fn done(self) -> String {
        assert!(self.code == Some(0) && self.err.is_empty(), "{self:?}");
        self.out
    }

    /// It failed and has said so in one line.
    #[track_caller]
    fn failed(&self, code: i32, parts: &[&str]) {
        assert!(self.code == Some(code) && self.out.is_empty() && self.err.len() == 1, "{self:?}");
        for part in parts {
            assert!(self.err[0].contains(part), "{part:?} is not in {self:?}");
        }
    }
}

fn ran(output: std::io::Result<Output>) -> Ran {
    let output = output.expect("it runs");
    let text = |octets| String::from_utf8(octets).expect("text");
    let err = text(output.stderr).lines().map(str::to_owned).collect();
    Ran { code: output.status.code(), out: text(output.stdout), err }
}

fn ctl(socket: &Path, words: &[&str]) -> Command {
    let mut command = bare_command(&Program::Uringd.path());
    command.arg("ctl").args(words).arg("--control").arg(socket).stdout(Stdio::piped());
    command
}

/// Without a socket that is named already.
fn bare_ctl(words: &[&str]) -> Command {
    let mut command = bare_command(&Program::Uringd.path());
    command.env_remove("URINGD_CONTROL").env_remove("XDG_RUNTIME_DIR");
    command.arg("ctl").args(words).stdout(Stdio::piped());
    command
}

fn pids(server: &Server) -> Vec<i32> {
    server.listening().into_iter().map(|(_, pid)| pid).collect()
}

#[test]
fn the_status_is_a_table_for_people_and_json_for_programs() {
    let operated = Operated::start(&["--workers", "2"]);
    for _ in 0..5 {
        operated.server.get("/pid");
    }
    let text = operated.ctl(&["status"]).done();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(text.starts_with(&format!(
        "uringd {}, pid {}",
        env!("CARGO_PKG_VERSION"),
        operated.server.pid()
    )));
    let table = &lines[lines.len() - 4..];
    let head = ["slot", "pid", "core", "phase", "uptime", "connections", "requests", "rate", "p50", "p99"];
    assert_eq!(table[0], [&head[..], &["restarts", "RssAnon"]].concat());
    for (line, pid) in table[1..3].iter().zip(pids(&operated.server)) {
        assert_eq!((line[1], line[3]), (pid.to_string().as_str(), "listening"), "{text}");
        assert!(line[11].ends_with("MiB"), "{text}");
    }
    assert_eq!((table[3][0], table[3][3]), ("all", "5"), "{text}");

    let mut command = bare_command(&Program::Uringd.path());
    command.args(["ctl", "status", "--json"]).env("URINGD_CONTROL", &operated.socket).stdout(Stdio::piped());
    let status: Value = serde_json::from_str(&ran(command.output()).done()).unwrap();
    assert_eq!(status["pid"], operated.server.pid());
    assert_eq!((&status["course"], &status["restarts"]), (&"serving".into(), &"allowed".into()));
    assert_eq!(status["listeners"][0], operated.server.address.to_string());
    assert_eq!(status["total"]["counters"]["requests"], 5);
    assert_eq!(status["total"]["latency"]["count"], 5);
    let workers = status["workers"].as_array().unwrap();
    let requests: u64 = workers.iter().map(|worker| worker["counters"]["requests"].as_u64().unwrap()).sum();
    assert_eq!((workers.len(), requests), (2, 5));
    assert!(workers.iter().all(|worker| worker["rss_anon"].as_u64().unwrap() > 0), "{status}");
}

#[test]
fn the_configuration_says_where_each_value_came_from() {
    let operated = Operated::start(&["--workers", "1"]);
    let table = operated.ctl(&["config"]).done();
    let row = |name: &str| {
        let row = table.lines().find(|line| line.split(' ').next() == Some(name)).expect(name);
        row.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("workers"), ["workers", "1", "flag"]);
    assert_eq!(row("control")[1..], [operated.socket.to_str().unwrap(), "flag"]);
    assert_eq!(row("kill-timeout"), ["kill-timeout", "5s", "default"]);
    let json: Value = serde_json::from_str(&operated.ctl(&["config", "--json"]).done()).unwrap();
    let settings = json["settings"].as_array().unwrap();
    let workers = settings.iter().find(|setting| setting["name"] == "workers").unwrap();
    assert_eq!((&workers["value"], &workers["origin"]["from"]), (&"1".into(), &"flag".into()));
}

#[test]
fn the_latencies_come_in_three_forms() {
    let operated = Operated::start(&["--workers", "1"]);
    operated.server.get("/pid");
    let table = operated.ctl(&["latency"]).done();
    assert!(table.contains("p99.9") && table.lines().any(|line| line.starts_with("all")), "{table}");
    let hgrm = operated.ctl(&["latency", "--hgrm"]).done();
    assert!(hgrm.contains("Total count    =            1]"), "{hgrm}");
    let json: Value = serde_json::from_str(&operated.ctl(&["latency", "--json"]).done()).unwrap();
    assert_eq!((&json["all"]["count"], &json["slots"]["0"]["count"]), (&1.into(), &1.into()));
}

#[test]
fn workers_are_replaced_scaled_and_reloaded_by_order() {
    let operated = Operated::start(&["--workers", "2"]);
    let before = pids(&operated.server);
    let said = operated.ctl(&["restart", "1"]).done();
    assert!(said.contains("is replaced"), "{said}");
    operated.server.wait("there is another one in its place", || {
        let after = pids(&operated.server);
        after.len() == 2 && after[0] == before[0] && after[1] != before[1]
    });
    operated.ctl(&["restart", "7"]).failed(1, &["there is no worker in slot 7 (of 2, from 0)"]);

    assert_eq!(operated.ctl(&["scale", "3"]).done(), "3 workers from now on, before 2\n");
    operated.server.wait("a third one listens", || pids(&operated.server).len() == 3);
    operated.ctl(&["scale", "0"]).failed(1, &["0 workers are not possible, ask for 1 to 1024"]);
    operated.ctl(&["scale", "1"]).done();
    operated.server.wait("one is left", || pids(&operated.server).len() == 1);

    let before = pids(&operated.server);
    assert_eq!(operated.ctl(&["reload"]).done(), "all workers replaced\n");
    operated.server.wait("it is another", || {
        let now = pids(&operated.server);
        now.len() == 1 && now != before
    });
    assert_eq!(operated.status()["reloads"], serde_json::json!([1, 0]));
}

/// The lines of a child's output, which a thread reads: whoever waits for one does not wait for ever.
struct Lines(Receiver<String>);

impl Lines {
    fn of(output: ChildStdout) -> Lines {
        let (sender, lines) = mpsc::channel();
        // until the end, or until nobody wants them any more
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Lines(lines)
    }

    /// The next one; `None` behind the last one.
    fn next(&self) -> Option<Value> {
        match self.0.recv_timeout(PATIENCE) {
            Ok(line) => Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor the end"),
        }
    }
}

/// Starts one that follows, and waits until it is one.
fn follow(operated: &Operated, mut command: Command) -> (Child, Lines) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = Lines::of(child.stdout.take().unwrap());
    // nothing says that it follows but the first event that it has: there are some until it does
    let pid = operated.server.pid();
    operated.server.wait("it follows", || {
        kill(pid, "TTIN");
        kill(pid, "TTOU");
        lines.0.try_recv().is_ok()
    });
    (child, lines)
}

#[test]
fn events_are_followed_to_the_end_and_stop_waits_for_it() {
    let mut operated = Operated::start(&["--workers", "1"]);
    let (mut following, lines) = follow(&operated, ctl(&operated.socket, &["events"]));
    let (slot, victim) = operated.server.listening()[0];
    kill(victim, "KILL");
    // its replacement may listen before it is quite gone
    let (mut exit, mut replaced) = (None, false);
    while exit.is_none() || !replaced {
        let line = lines.next().expect("more events");
        match line["event"].as_str() {
            Some("exit") if line["worker"]["pid"] == victim => exit = Some(line),
            Some("listening") if line["slot"] == slot => replaced = true,
            _ => {}
        }
    }
    let exit = exit.unwrap();
    assert_eq!((&exit["cause"], &exit["status"]["signal"]), (&"crash".into(), &9.into()));
    assert_eq!(operated.ctl(&["stop"]).done(), "stopping\n");
    let rest: Vec<Value> = std::iter::from_fn(|| lines.next()).collect();
    assert!(rest.iter().any(|line| line["event"] == "close"), "{rest:?}");
    assert_eq!(following.wait().unwrap().code(), Some(0));
    assert_eq!(operated.server.wait_exit().code(), Some(0));
    operated.server.wait_gone();
    assert!(!operated.socket.exists(), "the file is gone with it");
    operated.ctl(&["status"]).failed(1, &["no uringd answers at", "(is it running? --control?)"]);
}

#[test]
fn a_reload_that_fails_says_why_and_a_second_one_is_refused_meanwhile() {
    let operated = Operated::start(&["--workers", "2", "--boot-timeout", "600s"]);
    let before = pids(&operated.server);
    fs::write(&operated.hangs_at_boot, "").unwrap();
    let first = ctl(&operated.socket, &["reload"]).spawn().unwrap();
    operated.server.wait("it is under way", || operated.status()["reloading"] == true);
    operated.ctl(&["reload"]).failed(1, &["a reload is under way"]);
    let refused = operated.curl(&["-X", "POST", "-w", "%{http_code}"], "/reload").done();
    assert_eq!(refused, "{\"error\":\"a reload is under way\"}\n409");
    let is_new = |line: &Value| line["event"] == "fork" && before.iter().all(|before| line["pid"] != *before);
    let replacement = operated.server.wait_for("a replacement that hangs", is_new);
    kill(replacement["pid"].as_i64().unwrap() as i32, "KILL");
    ran(first.wait_with_output()).failed(1, &["the replacement in slot 0 did not come up"]);
    operated.server.wait("as before", || pids(&operated.server) == before);
    let status = operated.status();
    assert_eq!((&status["reloading"], &status["reloads"]), (&false.into(), &serde_json::json!([0, 1])));
    assert!(status["last_reload"]["problem"].as_str().unwrap().contains("slot 0"));
    let table = operated.ctl(&["status"]).done();
    assert!(table.contains("the last reload failed: the replacement in slot 0"), "{table}");
}

#[test]
fn who_waits_for_something_when_the_server_ends_is_told_so() {
    let mut operated = Operated::start(&["--workers", "1"]);
    fs::write(&operated.hangs_at_boot, "").unwrap();
    let waiting = ctl(&operated.socket, &["reload"]).spawn().unwrap();
    operated.server.wait("it is under way", || operated.status()["reloading"] == true);
    operated.server.signal("TERM");
    assert_eq!(operated.server.wait_exit().code(), Some(0));
    ran(waiting.wait_with_output()).failed(1, &["the server is stopping"]);
}

#[test]
fn curl_speaks_to_it_as_well() {
    let operated = Operated::start(&["--workers", "1"]);
    let index: Value = serde_json::from_str(&operated.curl(&[], "/").done()).unwrap();
    assert!(index["paths"]["POST /restart/SLOT"].is_string(), "{index}");
    let status: Value = serde_json::from_str(&operated.curl(&[], "/status").done()).unwrap();
    assert_eq!(status["wanted"], 1);
    let wrong = operated.curl(&["-i"], "/reload").done();
    assert!(wrong.starts_with("HTTP/1.1 405 ") && wrong.contains("\r\nAllow: POST\r\n"), "{wrong}");
    assert!(wrong.ends_with("{\"error\":\"/reload is asked with POST\"}\n"), "{wrong}");
    let scaled = operated.curl(&["-X", "POST"], "/scale/2").done();
    assert_eq!(scaled, "{\"done\":\"2 workers from now on, before 1\"}\n");
    operated.server.wait("two listen", || pids(&operated.server).len() == 2);
    // a master's loop that gets no core for a second does not answer a probe
    operated
        .server
        .wait("it is ready", || operated.curl(&[], "/health/ready").done() == "{\"ready\":true}\n");
    let mut curl = Command::new("curl");
    curl.arg("-sN").arg("--unix-socket").arg(&operated.socket).arg("http://uringd/events");
    let (mut following, lines) = follow(&operated, curl);
    assert!(lines.next().expect("an event")["event"].is_string());
    following.kill().unwrap();
    following.wait().unwrap();
}

#[test]
fn nobody_but_root_and_the_servers_own_user_is_heard() {
    if !is_root() {
        return skip("only root can become another user");
    }
    let operated = Operated::start(&["--workers", "1"]);
    // from where another user can start it
    let program = copy_for_everybody(&Program::Uringd.path(), operated.directory.path());
    let as_nobody = |words: &[&str]| {
        let mut command = bare_command(Path::new("setpriv"));
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]).args(words);
        ran(command.stdout(Stdio::piped()).output())
    };
    let socket = operated.socket.to_str().unwrap();
    let ctl = [program.to_str().unwrap(), "ctl", "--control", socket, "status"];
    let mode = || fs::metadata(&operated.socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    as_nobody(&ctl).failed(1, &[socket, "permission denied"]);
    // whoever may connect is asked who he is
    fs::set_permissions(&operated.socket, Permissions::from_mode(0o666)).unwrap();
    as_nobody(&ctl).failed(1, &["only root and the user who started uringd may ask"]);
    let curl =
        ["curl", "-s", "-X", "POST", "-w", "%{http_code}", "--unix-socket", socket, "http://uringd/stop"];
    let refused = as_nobody(&curl).done();
    assert!(refused.starts_with("{\"error\":\"only root") && refused.ends_with("403"), "{refused}");
    assert_eq!(operated.status()["course"], "serving");
}

#[test]
fn a_socket_where_nobody_listens_is_told_from_none_and_from_a_strangers() {
    let directory = tempfile::tempdir().unwrap();
    let dead = directory.path().join("dead.sock");
    leave_dead_socket(&dead);
    ran(ctl(&dead, &["status"]).output())
        .failed(1, &["dead.sock: the file is there, but nobody listens (was it killed?)"]);
    let none = directory.path().join("none.sock");
    for words in
        [&["status"][..], &["events"], &["latency"], &["config"], &["reload"], &["restart", "0"], &["stop"]]
    {
        ran(ctl(&none, words).output()).failed(1, &["no uringd answers at", "none.sock"]);
    }
    let strange = directory.path().join("strange.sock");
    let listener = UnixListener::bind(&strange).unwrap();
    let answering = thread::spawn(move || {
        for answer in ["220 mail.example ESMTP\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", ""] {
            let (mut client, _) = listener.accept().unwrap();
            std::io::Read::read(&mut client, &mut [0; 4096]).unwrap();
            std::io::Write::write_all(&mut client, answer.as_bytes()).unwrap();
        }
    });
    ran(ctl(&strange, &["status"]).output())
        .failed(1, &["is no uringd, name its control socket (--control)"]);
    ran(ctl(&strange, &["status"]).output())
        .failed(1, &["is no uringd, or not of version", "GET /status has `version`, use that one's ctl"]);
    ran(ctl(&strange, &["reload"]).output()).failed(1, &["went away before it had answered"]);
    answering.join().unwrap();
    ran(ctl(&strange, &["dance"]).output()).failed(2, &["unrecognized subcommand 'dance'"]);
}

#[test]
fn a_path_that_cannot_be_had_ends_the_start_and_a_living_servers_stays_its_own() {
    let operated = Operated::start(&["--workers", "1"]);
    let nowhere = operated.directory.path().join("no/such/directory/c.sock");
    let file = operated.directory.path().join("file");
    fs::write(&file, "somebody's").unwrap();
    for (path, parts) in [
        (&operated.socket, ["another process holds it", "choose another --control"]),
        (&nowhere, ["No such file or directory", "choose another --control"]),
        (&file, ["this file is no socket", "choose another --control"]),
    ] {
        let mut command =
            Program::Uringd.command(&["--listen", "127.0.0.1:0", "--control", path.to_str().unwrap()]);
        let mut ran = ran(command.output());
        ran.err.retain(|line| !line.contains("\"level\":\"WARN\""));
        ran.failed(1, &[&[path.to_str().unwrap()], &parts[..]].concat());
    }
    assert_eq!(operated.status()["pid"], operated.server.pid());
    assert_eq!(fs::read_to_string(&file).unwrap(), "somebody's");
}

#[test]
fn what_a_killed_server_left_behind_is_replaced() {
    let mut operated = Operated::start(&["--workers", "1"]);
    operated.server.signal("KILL");
    operated.server.wait_exit();
    assert!(fs::symlink_metadata(&operated.socket).unwrap().file_type().is_socket());
    operated.ctl(&["status"]).failed(1, &["nobody listens"]);
    let arguments =
        ["--listen", "127.0.0.1:0", "--workers", "1", "--control", operated.socket.to_str().unwrap()];
    let next = Server::spawn(&mut Program::Uringd.command(&arguments));
    next.wait_until_whole();
    assert_eq!(operated.status()["pid"], next.pid());
}

#[test]
fn who_follows_or_waits_has_a_place_and_who_is_idle_makes_room() {
    let operated = Operated::start(&["--workers", "1", "--boot-timeout", "600s"]);
    let idle: Vec<_> = (0..40).map(|_| Client::connect_unix(&operated.socket)).collect();
    assert_eq!(operated.status()["wanted"], 1, "nobody of those is in the way");
    drop(idle);

    let follow = || {
        let mut client = Client::connect_unix(&operated.socket);
        client.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = client.read_head().unwrap();
        (head.status, client)
    };
    let followers: Vec<_> = (0..16).map(|_| follow()).collect();
    assert!(followers.iter().all(|(status, _)| *status == 200));
    operated.ctl(&["events"]).failed(1, &["16 follow the events already"]);
    fs::write(&operated.hangs_at_boot, "").unwrap();
    let wait_for_a_worker = || {
        let mut client = Client::connect_unix(&operated.socket);
        client.send("POST /restart/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        client
    };
    let mut waiting: Vec<_> = (0..16).map(|_| wait_for_a_worker()).collect();
    operated.server.wait("it is full", || {
        let said = operated.ctl(&["latency"]);
        let full = "32 connections are open already, and none of them is idle";
        let is_full = said.code == Some(1) && said.err.iter().any(|line| line.contains(full));
        if !is_full {
            // who was about to leave may have had the place of one of them
            waiting.push(wait_for_a_worker());
        }
        is_full
    });
    // who waits for an end and leaves is noticed, as is who follows
    drop(waiting);
    operated.server.wait("there is room again", || operated.ctl(&["latency"]).code == Some(0));
    drop(followers);
    operated.server.wait("another one may follow", || follow().0 == 200);
}

#[test]
fn who_only_asks_what_events_look_like_costs_nothing_and_who_leaves_is_forgotten() {
    let operated = Operated::start(&["--workers", "1"]);
    let mut client = Client::connect_unix(&operated.socket);
    let mut ask = |times| {
        for _ in 0..times {
            client.send("HEAD /events HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(client.read_head().unwrap().status, 200);
        }
    };
    ask(10);
    let before = rss_anon(operated.server.pid());
    ask(2000);
    let after = rss_anon(operated.server.pid());
    assert!(after < before + 4096, "{before} KiB, then {after} KiB");
    // nothing happens in the meantime that would show who has left
    for round in 0..3 {
        let followers: Vec<_> = (0..16)
            .map(|_| {
                let mut client = Client::connect_unix(&operated.socket);
                client.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
                client
            })
            .collect();
        drop(followers);
        operated.server.wait(&format!("they are forgotten, time {round}"), || {
            let mut client = Client::connect_unix(&operated.socket);
            client.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
            client.read_head().unwrap().status == 200
        });
    }
}

#[test]
fn a_master_that_is_stopped_is_not_waited_for_without_end() {
    let operated = Operated::start(&["--workers", "1"]);
    operated.server.signal("STOP");
    let orders = [&["reload"][..], &["restart", "0"], &["scale", "2"], &["stop"], &["status"]];
    let asking: Vec<_> = orders.iter().map(|words| ctl(&operated.socket, words).spawn().unwrap()).collect();
    for child in asking {
        ran(child.wait_with_output()).failed(1, &["does not answer (its master hangs, or is stopped)"]);
    }
    operated.server.signal("CONT");
    operated.server.wait("it answers again", || operated.ctl(&["latency"]).code == Some(0));
}

/// Starts one whose socket is where it is by default, as this user, with this XDG_RUNTIME_DIR.
fn start_by_default(listen: &str, user: Option<&str>, runtime: Option<&Path>) -> Server {
    let inner = Program::Uringd.command(&["--listen", listen, "--workers", "1", "--pin", "off"]);
    let mut command = match user {
        None => inner,
        Some(user) => {
            let mut command = bare_command(Path::new("setpriv"));
            command.args(["--reuid", user, "--regid", "nogroup", "--clear-groups"]);
            command.arg(inner.get_program()).args(inner.get_args());
            command
        }
    };
    command.env_remove("URINGD_CONTROL").env_remove("XDG_RUNTIME_DIR");
    command.envs(runtime.map(|runtime| ("XDG_RUNTIME_DIR", runtime)));
    let server = Server::spawn(&mut command);
    server.wait_until_whole();
    server
}

/// It has none, says why, and serves all the same.
fn has_no_socket(server: &Server, parts: &[&str]) {
    let is_it =
        |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("no control socket: "));
    let warning = server.log().into_iter().find(is_it).expect("a warning");
    assert_eq!(warning["level"], "WARN");
    for part in parts {
        assert!(warning["message"].as_str().unwrap().contains(part), "{part:?} is not in {warning}");
    }
    assert_eq!(server.get("/").status, 200);
}

/// Of an address that no other test has.
fn free_port() -> SocketAddr {
    TcpListener::bind((own_address(), 0)).unwrap().local_addr().unwrap()
}

/// What `ctl --port` finds.
fn find(server: &Server, runtime: Option<&Path>) -> Ran {
    find_by(&["--port", &server.port().to_string()], runtime)
}

fn find_by(words: &[&str], runtime: Option<&Path>) -> Ran {
    let mut command = bare_ctl(&[&["status", "--json"], words].concat());
    command.envs(runtime.map(|runtime| ("XDG_RUNTIME_DIR", runtime)));
    ran(command.output())
}

#[test]
fn by_default_it_is_named_by_the_port_and_found_there() {
    if !is_root() {
        return skip("only root may write to /run, and become another user");
    }
    const ANY: &str = "127.0.0.1:0";
    let server = start_by_default(ANY, None, None);
    let socket = PathBuf::from(format!("/run/uringd/{}.sock", server.port()));
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    let pid_found = |server: &Server, runtime| -> Value {
        serde_json::from_str::<Value>(&find(server, runtime).done()).unwrap()["pid"].take()
    };
    assert_eq!(pid_found(&server, None), server.pid());
    // the same port of another address
    let listen = format!("127.0.0.2:{}", server.port());
    let second = start_by_default(&listen, None, None);
    let of_second = PathBuf::from(format!("/run/uringd/{listen}.sock"));
    assert!(fs::symlink_metadata(&of_second).unwrap().file_type().is_socket());
    assert_eq!(pid_found(&second, None), server.pid(), "the port alone is the first one's");
    let status = find_by(&["--listen", &listen], None).done();
    assert_eq!(serde_json::from_str::<Value>(&status).unwrap()["pid"], second.pid());
    second.signal("TERM");
    second.wait_gone();
    assert!(socket.exists() && !of_second.exists(), "it is the other one's");
    server.signal("TERM");
    server.wait_gone();
    assert!(!socket.exists());

    let runtime = tempfile::tempdir().unwrap();
    nix::unistd::chown(runtime.path(), Some(65534.into()), None).unwrap();
    let server = start_by_default(ANY, Some("nobody"), Some(runtime.path()));
    let socket = runtime.path().join(format!("uringd/{}.sock", server.port()));
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(pid_found(&server, Some(runtime.path())), server.pid());

    // what root has left there, dead or alive, is neither in the way nor taken for an answer
    let address = free_port();
    let port = address.port();
    let of_root = PathBuf::from(format!("/run/uringd/{port}.sock"));
    leave_dead_socket(&of_root);
    fs::set_permissions(&of_root, Permissions::from_mode(0o600)).unwrap();
    let server = start_by_default(&address.to_string(), Some("nobody"), Some(runtime.path()));
    assert!(runtime.path().join(format!("uringd/{port}.sock")).exists());
    fs::remove_file(of_root).unwrap();
    assert_eq!(pid_found(&server, Some(runtime.path())), server.pid());

    let server = start_by_default(ANY, Some("nobody"), None);
    has_no_socket(&server, &["cannot listen on unix:/run/uringd/", "Permission denied", "--control PATH"]);
    find(&server, None).failed(1, &["no uringd answers at"]);
}

/// Runs this part of a test where /run is nobody else's: the test's executable is started again there.
fn in_own_run(test: &str, body: impl FnOnce()) {
    const INSIDE: &str = "URINGD_TEST_IN_OWN_RUN";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let script = "mount -t tmpfs tmpfs /run && exec \"$0\" \"$@\"";
    let inside = |words: &[&OsStr]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).args(words);
        command
    };
    if !inside(&["true".as_ref()]).output().is_ok_and(|output| output.status.success()) {
        return skip("mount namespaces are not allowed here");
    }
    let myself = std::env::current_exe().unwrap();
    let words = [myself.as_os_str(), "--exact".as_ref(), test.as_ref(), "--nocapture".as_ref()];
    let output = inside(&words).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_server_of_a_file_and_the_only_one_there_is_are_found() {
    in_own_run("the_server_of_a_file_and_the_only_one_there_is_are_found", || {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("uringd.toml");
        let file = config.to_str().unwrap();
        let address = free_port();
        let port = address.port();
        fs::write(&config, format!("listen = [\"{address}\"]\nworkers = 1\npin = \"off\"\n")).unwrap();
        let start = |words: &[&str]| {
            let mut command = Program::Uringd.command(words);
            let server = Server::spawn(command.env_remove("URINGD_CONTROL").env_remove("XDG_RUNTIME_DIR"));
            server.wait_until_whole();
            server
        };
        let pid = |ran: Ran| serde_json::from_str::<Value>(&ran.done()).unwrap()["pid"].take();
        find_by(&[], None)
            .failed(1, &["no uringd answers at /run/uringd/1337.sock (is it running? --control?)"]);
        let server = start(&["--config", file]);
        assert_eq!(pid(find_by(&["--config", file], None)), server.pid());
        assert_eq!(pid(find_by(&[], None)), server.pid(), "there is no other");
        // a reload to another port leaves the socket where it was, and who looks for the new one is told
        let other = free_port();
        let changed = format!("listen = [\"{other}\"]\nworkers = 1\npin = \"off\"\n");
        fs::write(&config, changed).unwrap();
        let reload = |words: &[&str]| ran(bare_ctl(&[&["reload"], words].concat()).output());
        let there = format!("/run/uringd/{port}.sock");
        reload(&["--config", file]).failed(1, &["no uringd answers at", "say which with --control", &there]);
        reload(&[]).done();
        find_by(&["--port", &other.port().to_string()], None)
            .failed(1, &["say which with --control", &there]);
        // a second one: now somebody has to say which
        let second = start(&["--listen", "127.0.0.1:0", "--workers", "1", "--pin", "off"]);
        let of_second = format!("/run/uringd/{}.sock", second.port());
        find_by(&[], None).failed(1, &["no uringd answers at", &there, &of_second]);
        assert_eq!(pid(find_by(&["--control", &of_second], None)), second.pid());
    });
}

#[test]
fn wrong_usage_is_told_from_what_is_not_done() {
    let run = |words: &[&str], (name, value): (&str, &str)| {
        ran(bare_ctl(&[&["status"], words].concat()).env(name, value).output())
    };
    run(&["--control", "off"], ("X", "")).failed(2, &["--control off: nothing can be asked"]);
    run(&[], ("URINGD_CONTROL", "off")).failed(2, &["nothing can be asked"]);
    run(&[], ("URINGD_PORT", "http")).failed(2, &["URINGD_PORT: invalid value 'http'"]);
    run(&[], ("URINGD_CONFIG", "/no/such.toml")).failed(2, &["/no/such.toml: there is no such file"]);
    run(&["--port", "0"], ("X", "")).failed(2, &["port 0: that is any port"]);
    run(&["--control", "/no/such.sock"], ("X", "")).failed(1, &["no uringd answers at /no/such.sock"]);
}
