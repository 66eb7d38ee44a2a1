//! uringd's worker under a Node master: Node forks it, gives it a listening socket or single connections, hears its
//! suicide and lets it go.

mod common;

use common::*;
use serde_json::json;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// What a Node program does with a worker, reported as JSON lines. SIGUSR2 has it disconnect.
const MASTER: &str = r#"
const { fork } = require('child_process');
const net = require('net');
const say = (what) => process.stderr.write(JSON.stringify(what) + '\n');
const [program, mode, ...flags] = process.argv.slice(2);
const worker = fork('worker', flags, { execPath: program, execArgv: [] });
worker.on('message', (message) => (mode === 'messages' && message.Ball ? worker.send(message) : say({ message })));
worker.on('error', () => {}); // it may be gone before it is sent anything
worker.on('disconnect', () => say({ disconnect: true }));
worker.on('exit', (code, signal) => { say({ exit: code, signal }); process.exit(0); });
process.on('SIGUSR2', () => worker.disconnect());
const server = net.createServer({ pauseOnConnect: true }, (socket) => worker.send('socket', socket));
server.listen(0, '127.0.0.1', () => {
  const ready = () => say({ ready: server.address().port, worker: worker.pid });
  if (mode === 'connections') return ready();
  worker.send('server', server, () => {
    ready();
    server.close();
  });
});
"#;

struct Fixture {
    server: Server,
    worker: i32,
    _directory: TempDir,
}

impl Fixture {
    fn command(program: Program, mode: &str) -> (Command, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("master.js");
        fs::write(&script, MASTER).unwrap();
        let mut command = bare_command("node".as_ref());
        command.arg(script).arg(program.path()).arg(mode);
        (command, directory)
    }

    /// `None` where there is no Node.
    fn start(mode: &str) -> Option<Fixture> {
        Fixture::start_with(Program::Faulty, mode)
    }

    fn start_with(program: Program, mode: &str) -> Option<Fixture> {
        if !has_node() {
            return None;
        }
        let (mut command, directory) = Fixture::command(program, mode);
        command.args(["--kill-timeout", "60s"]);
        let mut server = Server::launch(&mut command);
        let ready = server.wait_for("the socket is with the worker", |line| line["ready"].is_number());
        server.address.set_port(ready["ready"].as_u64().unwrap() as u16);
        Some(Fixture { server, worker: ready["worker"].as_i64().unwrap() as i32, _directory: directory })
    }

    /// A request whose content has not come whole, for as long as is needed.
    fn ask_half(&self) -> Client {
        let mut client = self.server.connect();
        assert_eq!(client.get("/pid").pid(), self.worker);
        client.send_and_wait_until_read("POST /pid HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\na");
        client
    }

    /// It is answered though the worker drains.
    fn ask_the_rest(&self, mut client: Client) {
        self.server.wait("it drains", || Client::try_connect(self.server.address).is_err());
        client.send("b");
        let answer = client.read_answer().expect("what was under way is answered");
        assert_eq!((answer.pid(), answer.closes()), (self.worker, true));
    }

    fn expect_exit(&mut self, code: i32) {
        let exit = self.server.wait_for("the worker's exit", |line| !line["exit"].is_null());
        assert_eq!((exit["exit"].as_i64(), &exit["signal"]), (Some(i64::from(code)), &json!(null)));
        assert_eq!(self.server.wait_exit().code(), Some(0));
        self.server.wait_gone();
    }
}

fn has_node() -> bool {
    let found = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skip("there is no `node` here");
    }
    found
}

#[test]
fn it_serves_the_server_that_node_sends_and_leaves_when_node_disconnects() {
    let Some(mut fixture) = Fixture::start("server") else { return };
    for _ in 0..20 {
        assert_eq!(fixture.server.get("/pid").pid(), fixture.worker);
    }
    let client = fixture.ask_half();
    fixture.server.signal("USR2");
    fixture.ask_the_rest(client);
    fixture.expect_exit(0);
}

#[test]
fn after_a_panic_it_says_suicide_in_plain_words_and_drains_at_once() {
    let Some(mut fixture) = Fixture::start("server") else { return };
    let client = fixture.ask_half();
    assert_eq!(fixture.server.get("/panic").status, 500);
    let said = fixture.server.wait_for("a message", |line| line["message"].is_object());
    assert_eq!(said["message"], json!({"act": "suicide"}));
    fixture.ask_the_rest(client);
    fixture.expect_exit(1);
    let messages = fixture.server.log().iter().filter(|line| line["message"].is_object()).count();
    assert_eq!(messages, 1, "our other words are none of the program's");
}

#[test]
fn sigterm_to_the_worker_is_its_suicide_too() {
    let Some(mut fixture) = Fixture::start("server") else { return };
    assert_eq!(fixture.server.get("/pid").pid(), fixture.worker);
    kill(fixture.worker, "TERM");
    let said = fixture.server.wait_for("a message", |line| line["message"].is_object());
    assert_eq!(said["message"], json!({"act": "suicide"}));
    fixture.expect_exit(0);
}

#[test]
fn it_serves_single_connections_that_node_accepted() {
    let Some(mut fixture) = Fixture::start("connections") else { return };
    for _ in 0..10 {
        let mut client = fixture.server.connect();
        assert_eq!(client.get("/pid").pid(), fixture.worker);
        assert_eq!(client.get("/bytes?n=100000").body.len(), 100_000, "and it stays open");
    }
    fixture.server.signal("USR2");
    fixture.expect_exit(0);
}

#[test]
fn messages_reach_node_and_come_back_in_order_and_the_channels_own_words_do_not_go() {
    let Some(mut fixture) = Fixture::start_with(Program::Messages, "messages") else { return };
    let mut client = fixture.server.connect();
    assert!(client.get("/echo?n=10000&size=10").text().starts_with("10000 back in order, 100000 octets"));
    assert!(client.get("/echo?n=1&size=1048576").text().starts_with("1 back in order, 1048576 octets"));
    assert!(client.get("/refused").text().contains("may not begin with NODE_"));
    assert!(client.get("/").text().starts_with("counted"));
    let said = fixture.server.wait_for("what Node heard", |line| !line["message"].is_null());
    assert_eq!(said["message"], "Counted");
    drop(client);
    fixture.server.signal("USR2");
    fixture.expect_exit(0);
}

#[test]
fn the_handler_is_asked_about_each_socket_that_node_sends() {
    let Some(mut fixture) = Fixture::start_with(Program::Messages, "connections") else { return };
    for number in 1..=3 {
        let mut client = fixture.server.connect();
        assert!(client.get("/sockets").text().starts_with(&format!("sockets {number}, ")));
    }
    fixture.server.signal("USR2");
    fixture.expect_exit(0);
}

#[test]
fn it_is_gone_when_node_is_killed() {
    let Some(mut fixture) = Fixture::start("server") else { return };
    assert_eq!(fixture.server.get("/pid").pid(), fixture.worker);
    fixture.server.signal("KILL");
    fixture.server.wait_exit();
    fixture.server.wait_gone();
}

#[test]
fn what_keeps_it_from_serving_is_said_in_one_line() {
    if !has_node() {
        return;
    }
    for (name, value, code, part) in [
        ("URINGD_MAX_CONNECTIONS", "4000000000", 2, "--max-connections 4000000000: expected at most"),
        ("URINGD_KILL_TIMEOUT", "5", 2, "URINGD_KILL_TIMEOUT"),
    ] {
        let (mut command, _directory) = Fixture::command(Program::Faulty, "server");
        let server = Server::launch(command.env(name, value));
        let exit = server.wait_for("the worker's exit", |line| !line["exit"].is_null());
        assert_eq!(exit["exit"], code, "{name}");
        server.wait_gone();
        let said: Vec<String> =
            server.log().iter().filter_map(|line| Some(line.as_str()?.to_owned())).collect();
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].starts_with("uringd: ") && said[0].contains(part), "{said:?}");
    }
}

#[test]
fn its_configuration_file_is_named_behind_the_word_worker() {
    if !has_node() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.toml");
    fs::write(&file, "server-header = false\n").unwrap();
    let start = || {
        let (mut command, directory) = Fixture::command(Program::Faulty, "server");
        (Server::launch(command.arg("--config").arg(&file)), directory)
    };
    let (mut server, _script) = start();
    let ready = server.wait_for("the socket is with the worker", |line| line["ready"].is_number());
    server.address.set_port(ready["ready"].as_u64().unwrap() as u16);
    assert_eq!(server.get("/pid").header("server"), None);
    drop(server);
    fs::write(&file, "server-header = \"no\"\n").unwrap();
    let (server, _script) = start();
    let exit = server.wait_for("the worker's exit", |line| !line["exit"].is_null());
    assert_eq!(exit["exit"], 2);
    server.wait_gone();
    let place =
        format!("uringd: {}:1: server-header: invalid value 'no': expected on or off", file.display());
    assert!(server.log().iter().any(|line| *line == place.as_str()), "{:#?}", server.log());
}
