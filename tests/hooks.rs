//! The hooks around a worker's drain: called once each, in their order, whatever the reason; and what a panic in one of
//! them costs.

mod common;

use common::*;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A server whose workers write down which hook is called.
struct Fixture {
    server: Server,
    hooks: PathBuf,
    _directory: TempDir,
}

impl Fixture {
    fn start(panics: &str, arguments: &[&str]) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let hooks = directory.path().join("hooks");
        let mut all = vec!["--listen", "127.0.0.1:0", "--workers", "1", "--pin", "off"];
        all.extend(arguments);
        let mut command = Program::Faulty.command(&all);
        command.env("FAULTY_HOOKS", &hooks).env("FAULTY_HOOK_PANIC", panics);
        let server = Server::spawn(&mut command);
        server.wait_until_whole();
        Fixture { server, hooks, _directory: directory }
    }

    /// What was called in this worker so far, in order.
    fn called_in(&self, pid: i32) -> Vec<String> {
        let text = fs::read_to_string(&self.hooks).unwrap_or_default();
        let mine = text.lines().filter_map(|line| line.strip_prefix(&format!("{pid} ")));
        mine.map(str::to_owned).collect()
    }

    fn worker(&self) -> i32 {
        self.server.listening()[0].1
    }

    fn wait_for_exit_of(&self, pid: i32) -> serde_json::Value {
        self.server.wait_for("its exit", |line| line["event"] == "exit" && line["pid"] == pid)
    }
}

/// The hooks see a request that is under way between them.
#[test]
fn both_hooks_are_called_once_around_every_kind_of_drain() {
    let mut fixture = Fixture::start("", &["--kill-timeout", "60s"]);
    for (cause, leave) in [("reload", "HUP"), ("suicide", "TERM"), ("suicide", "panic")] {
        let pid = fixture.worker();
        let mut client = fixture.server.connect();
        assert_eq!(client.get("/pid").pid(), pid);
        // it is under way until its last octet comes
        client.send_and_wait_until_read("POST /pid HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n");
        match leave {
            "HUP" => fixture.server.signal("HUP"),
            "TERM" => kill(pid, "TERM"),
            _ => assert_eq!(fixture.server.get("/panic").status, 500),
        }
        fixture.server.wait("before_drain", || !fixture.called_in(pid).is_empty());
        assert_eq!(fixture.called_in(pid), ["before_drain"], "{leave}: one client is still there");
        client.send("x");
        assert_eq!(client.read_answer().expect("what was under way is answered").pid(), pid);
        let exit = fixture.wait_for_exit_of(pid);
        let code = if leave == "panic" { "code 1" } else { "code 0" };
        assert_eq!((&exit["cause"], &exit["status"]), (&cause.into(), &code.into()), "{leave}");
        assert_eq!(fixture.called_in(pid), ["before_drain", "after_drain"], "{leave}");
        fixture.server.wait_until_whole();
    }
    let pid = fixture.worker();
    fixture.server.signal("TERM");
    assert_eq!(fixture.server.wait_exit().code(), Some(0));
    assert_eq!(fixture.called_in(pid), ["before_drain", "after_drain"]);
}

#[test]
fn a_worker_that_is_killed_calls_neither() {
    let fixture = Fixture::start("", &["--kill-timeout", "1s"]);
    let pid = fixture.worker();
    let (_client, blocked) = fixture.server.block(60_000);
    assert_eq!(blocked, pid);
    fixture.server.signal("HUP");
    let exit = fixture.wait_for_exit_of(pid);
    assert_eq!((&exit["cause"], &exit["forced"]), (&"kill-timeout".into(), &true.into()));
    assert!(fixture.called_in(pid).is_empty());
}

/// It is logged and shows in the exit code, and nothing else changes: requests are answered, the process ends.
#[test]
fn a_panic_in_a_hook_neither_loses_a_request_nor_hangs_the_exit() {
    for hook in ["before_drain", "after_drain"] {
        let mut fixture = Fixture::start(hook, &["--kill-timeout", "60s"]);
        let pid = fixture.worker();
        let mut client = fixture.server.connect();
        assert_eq!(client.get("/pid").pid(), pid);
        client.send_and_wait_until_read("GET /hang?ms=500 HTTP/1.1\r\nHost: test\r\n\r\n");
        fixture.server.signal("TERM");
        assert_eq!(client.read_answer().expect("what was under way is answered").pid(), pid);
        let exit = fixture.wait_for_exit_of(pid);
        assert_eq!(
            (&exit["status"], &exit["cause"], &exit["forced"]),
            (&"code 1".into(), &"stop".into(), &false.into()),
            "{hook}"
        );
        let panic = fixture.server.wait_for("the panic", |line| line["message"] == "panic in the handler");
        assert_eq!(panic["panic"], format!("{hook} was asked to"));
        assert_eq!(panic["request"], hook);
        assert_eq!(fixture.called_in(pid), ["before_drain", "after_drain"], "{hook}: the other one as well");
        assert_eq!(fixture.server.wait_exit().code(), Some(0), "the master stopped as asked");
    }
}
