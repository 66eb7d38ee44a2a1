//! The log on stderr: one cause does not drown the others, and how much is logged can be changed by a reload.

mod common;

use common::*;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

#[test]
fn a_cause_that_repeats_is_counted_and_what_concerns_workers_is_always_said() {
    let mut server = Server::start(
        Program::Faulty,
        &["--workers", "1", "--on-panic", "continue", "--restart-limit", "100"],
    );
    let panics = 200;
    let mut client = server.connect();
    client.send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n".repeat(panics));
    (0..panics).for_each(|_| assert_eq!(client.read_answer().unwrap().status, 500));
    let is_panic = |line: &&Value| line["message"] == "panic in the handler";
    let said = || server.log().iter().filter(is_panic).count();
    let left_out = || -> u64 { server.log().iter().filter_map(|line| line["left_out"].as_u64()).sum() };
    // a second later, though nothing else is logged
    server.wait("all are said or counted", || said() as u64 + left_out() >= panics as u64);
    assert_eq!((said() as u64 + left_out(), left_out() > 0), (panics as u64, true));
    let summary = server.wait_for("the number", |line| line["left_out"].is_u64());
    let number = summary["left_out"].as_u64().unwrap();
    assert_eq!(summary["level"], "WARN");
    assert_eq!(summary["message"], format!("{number} lines like this were left out: panic in the handler"));

    // the same line from the master, about something that must be heard
    let deaths = 15;
    for death in 1..=deaths {
        kill(server.listening()[0].1, "KILL");
        server
            .wait("a replacement", || server.events("exit").len() == death && !server.listening().is_empty());
    }
    assert_eq!(server.events("exit").len(), deaths);
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn what_was_left_out_is_told_at_the_end() {
    let limits = ["--workers", "1", "--on-panic", "continue", "--kill-timeout", "30s"];
    let mut server = Server::start(Program::Faulty, &limits);
    let mut client = server.connect();
    client.send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100));
    (0..100).for_each(|_| assert_eq!(client.read_answer().unwrap().status, 500));
    drop(client);
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
    let said = server.log().iter().filter(|line| line["message"] == "panic in the handler").count() as u64;
    let left_out: u64 = server.log().iter().filter_map(|line| line["left_out"].as_u64()).sum();
    assert_eq!(said + left_out, 100);
}

fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_log_that_nobody_reads_makes_nobody_wait_and_says_later_how_much_was_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let (reader, writer) = std::io::pipe().unwrap();
    // room for one line
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut command = bare_command(&Program::Uringd.path());
    command.args(["--listen", &format!("unix:{}", socket.display()), "--workers", "1", "--access-log", "-"]);
    command.args(["--log-format", "json", "--log-level", "debug", "--kill-timeout", "2s"]);
    command.stdout(writer.try_clone().unwrap()).stderr(Stdio::from(writer));
    let mut server = Group::start(&mut command);
    drop(command);
    let master = server.pid();
    let ask = || {
        let stream = std::os::unix::net::UnixStream::connect(&socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client::over(stream).try_get("/").ok().map(|answer| answer.pid())
    };
    wait("the first answer", || ask().is_some());
    for _ in 0..200 {
        assert!(ask().is_some());
    }
    let first = ask().unwrap();
    kill(first, "KILL");
    wait("a replacement answers", || ask().is_some_and(|pid| pid != first));

    let (tell, lines) = mpsc::channel();
    thread::spawn(move || {
        BufReader::new(reader).lines().map_while(Result::ok).all(|line| tell.send(line).is_ok())
    });
    let mut lost = 0;
    wait("the number", || {
        ask();
        let told = lines.try_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        lost += told
            .filter(|line| line["message"].as_str().is_some_and(|text| text.contains("nobody read them")))
            .map(|line| line["lost"].as_u64().unwrap())
            .sum::<u64>();
        lost > 0
    });
    kill(master, "TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reload_changes_how_much_is_logged() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("uringd.toml");
    let configure = |level: &str| {
        let text = format!(
            "listen = [\"127.0.0.1:0\"]\nworkers = 1\ncontrol = \"off\"\nlog-format = \"json\"\nlog-level = \"{level}\"\n"
        );
        fs::write(&file, text).unwrap();
    };
    configure("info");
    let mut command = bare_command(&Program::Uringd.path());
    let server = Server::spawn(command.args(["--config", file.to_str().unwrap()]));
    server.wait_until_whole();
    let reload = || {
        let after = server.log().len();
        server.signal("HUP");
        server.wait_for_after(after, "the reload is done", |line| line["stage"] == "done").0
    };
    let told = |after: usize| server.log()[after..].iter().filter(|line| line["level"] == "DEBUG").count();
    configure("debug");
    let done = reload();
    assert_eq!(server.log()[..done].iter().filter(|line| line["level"] == "DEBUG").count(), 0);
    // the master's, of the next one
    let done = reload();
    assert!(server.log()[..done].iter().any(|line| line["event"] == "fork"));
    configure("info");
    let done = reload();
    server.wait("the one before is gone", || server.events("exit").len() == 3);
    let done = done.max(reload());
    server.wait("the one before is gone", || server.events("exit").len() == 4);
    assert_eq!(told(done), 0);
}
