//! The access log: one line for each request, whatever becomes of it; rotation; and what a log that cannot be written costs.

mod common;

use common::*;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// A server with an access log in a directory of its own.
struct Logged {
    server: Server,
    directory: TempDir,
}

impl Logged {
    fn start(program: Program, arguments: &[&str]) -> Logged {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut all = vec!["--access-log", path.to_str().unwrap()];
        all.extend(arguments);
        let server = Server::start(program, &all);
        Logged { server, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> PathBuf {
        self.path("access.log")
    }

    /// All lines, once there are as many. Lines come a moment after their answers.
    fn lines(&self, count: usize) -> Vec<String> {
        self.server.wait(&format!("{count} lines"), || lines_of(&self.log()).len() >= count);
        let lines = lines_of(&self.log());
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    /// All lines, with what is the same in each of them cut off: who, and when.
    fn told(&self, count: usize) -> Vec<String> {
        let lines = self.lines(count);
        lines.iter().map(|line| line.split_once("] ").expect("a time").1.to_owned()).collect()
    }

    fn json(&self, count: usize) -> Vec<Value> {
        self.lines(count).iter().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Stops the server, which takes its last lines out.
    fn stop(&mut self) {
        self.server.signal("TERM");
        assert_eq!(self.server.wait_exit().code(), Some(0));
        self.server.wait_gone();
    }

    /// Moves the file away, which has all its lines, and waits until a worker writes to a new one: it may take a moment longer
    /// than the master.
    fn rotate(&self, name: &str) {
        fs::rename(self.log(), self.path(name)).unwrap();
        self.rotate_from(&self.path(name));
    }

    /// The same of a file that was moved here.
    fn rotate_from(&self, old: &Path) {
        let before = lines_of(old).len();
        self.reopen();
        let mut asked = 0;
        self.server.wait("a line in the new file", || {
            self.server.get("/rotated");
            asked += 1;
            !lines_of(&self.log()).is_empty()
        });
        self.server.wait("all lines are there", || {
            lines_of(old).len() + lines_of(&self.log()).len() == before + asked
        });
    }

    /// Has the log reopened, as `kill -USR1` does after a rotation.
    fn reopen(&self) {
        let after = self.server.log().len();
        self.server.signal("USR1");
        self.server.wait_for_after(after, "log reopened", |line| line["message"] == "log reopened");
    }
}

/// Between two requests of a client whose every line is counted: what a disk that is busy for some seconds does not take in time
/// is dropped, and that is not the question there.
const PAUSE: Duration = Duration::from_millis(2);

/// Whole lines.
fn lines_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole.lines().map(str::to_owned).collect()
}

/// `23/Nov/2026:07:15:42 +0000`
fn as_in_the_log(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time);
    format!("{}/{}/{}:{} +0000", &date[5..7], &date[8..11], &date[12..16], &date[17..25])
}

/// Octets behind the head of everything that the server sends to this until it closes.
fn content_octets(address: SocketAddr, request: &str) -> usize {
    let mut client = Client::connect(address);
    client.send(request);
    let all = client.read_to_end().expect("an end");
    let head = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    all.len() - head
}

fn closing(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}\r\n")
}

#[test]
fn every_answer_is_one_line_as_nginx_writes_it() {
    let logged = Logged::start(Program::Uringd, &["--workers", "1"]);
    let before = SystemTime::now();
    let mut client = logged.server.connect();
    let length = client.get("/").body.len();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nReferer: http://a/?b=\"c\"\r\nUser-Agent: curl/8\r\n\r\n");
    assert_eq!(client.read_answer().unwrap().status, 200);
    let lines = logged.lines(2);
    let after = SystemTime::now();
    let line = |time: SystemTime| {
        format!("127.0.0.1 - - [{}] \"GET / HTTP/1.1\" 200 {length} \"-\" \"-\"", as_in_the_log(time))
    };
    // a worker may be late by a moment to see that a second is over
    let first = before - Duration::from_secs(1);
    let seconds = (0..=after.duration_since(first).unwrap().as_secs() + 1).map(Duration::from_secs);
    assert!(seconds.map(|second| line(first + second)).any(|line| line == lines[0]), "{lines:?}");
    let second = lines[1].split_once("] ").unwrap().1;
    assert_eq!(second, format!("\"GET / HTTP/1.1\" 200 {length} \"http://a/?b=\\x22c\\x22\" \"curl/8\""));
}

#[test]
fn requests_of_every_kind_are_one_line_each() {
    let logged = Logged::start(Program::Mirror, &["--workers", "1", "--access-log-format", "common"]);
    let mut client = logged.server.connect();
    client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_head().unwrap();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let pipelined = [(); 2].map(|()| client.read_answer().unwrap().body.len());
    client.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let post = client.read_answer().unwrap().body.len();
    client.send("PUT /put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    client.send("0\r\n\r\n");
    let put = client.read_answer().unwrap().body.len();
    client.send("POST /unwanted HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.read_answer().unwrap().status, 405);
    let promise = client.get("/promise").body.len();
    assert_eq!(client.get("/promise-broken").status, 500);
    assert_eq!(client.get("/status?code=204").status, 204);
    assert_eq!(client.get("/failure").status, 500);
    let expected = [
        "\"HEAD /head HTTP/1.1\" 200 0".to_owned(),
        format!("\"GET /1 HTTP/1.1\" 200 {}", pipelined[0]),
        format!("\"GET /2 HTTP/1.1\" 200 {}", pipelined[1]),
        format!("\"POST /post HTTP/1.1\" 200 {post}"),
        format!("\"PUT /put HTTP/1.1\" 200 {put}"),
        "\"POST /unwanted HTTP/1.1\" 405 18".to_owned(),
        format!("\"GET /promise HTTP/1.1\" 200 {promise}"),
        "\"GET /promise-broken HTTP/1.1\" 500 21".to_owned(),
        "\"GET /status?code=204 HTTP/1.1\" 204 0".to_owned(),
        "\"GET /failure HTTP/1.1\" 500 0".to_owned(),
    ];
    assert_eq!(logged.told(expected.len()), expected);
}

#[test]
fn long_answers_are_told_of_with_what_was_sent_behind_their_heads() {
    let site = tempfile::tempdir().unwrap();
    for (name, octets) in [("small", 100), ("kept", 16_000), ("medium", 300_000), ("large", 5_000_000)] {
        fs::write(site.path().join(name), vec![b'x'; octets]).unwrap();
    }
    let arguments =
        ["--workers", "1", "--root", site.path().to_str().unwrap(), "--access-log-format", "common"];
    let logged = Logged::start(Program::Uringd, &arguments);
    let files = [
        ("/small", "", 200, 100),
        ("/kept", "", 200, 16_000),
        ("/medium", "", 200, 300_000),
        ("/large", "", 200, 5_000_000),
        ("/large", "Range: bytes=1-1000000\r\n", 206, 1_000_000),
    ];
    for (count, (path, fields, status, octets)) in (1..).zip(files) {
        assert_eq!(content_octets(logged.server.address, &closing(path, fields)), octets, "{path}");
        assert_eq!(logged.told(count)[count - 1], format!("\"GET {path} HTTP/1.1\" {status} {octets}"));
    }
    // on a connection that is kept, where another path is taken for what stands ready
    let mut client = logged.server.connect();
    let octets: Vec<_> = (0..3).map(|_| client.get("/kept").body.len()).collect();
    assert_eq!(octets, [16_000; 3]);
    let tag = client.get("/kept").header("etag").expect("a tag").to_owned();
    client.send(format!("GET /kept HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n\r\n"));
    assert_eq!(client.read_head().unwrap().status, 304);
    let told = logged.told(files.len() + 5);
    assert_eq!(told[files.len()..files.len() + 4], [(); 4].map(|()| "\"GET /kept HTTP/1.1\" 200 16000"));
    assert_eq!(told[files.len() + 4], "\"GET /kept HTTP/1.1\" 304 0");

    let logged = Logged::start(Program::Mirror, &["--workers", "1", "--access-log-format", "common"]);
    let streams =
        ["/stream?n=10&size=1000", "/stream?n=3&size=100000", "/made?n=5&size=10", "/part?start=1&end=90000"];
    for (count, path) in (1..).zip(streams) {
        let octets = content_octets(logged.server.address, &closing(path, ""));
        assert_eq!(logged.told(count)[count - 1], format!("\"GET {path} HTTP/1.1\" 200 {octets}"));
    }
}

#[test]
fn an_answer_that_its_client_does_not_wait_for_is_told_of_as_far_as_it_went() {
    let logged = Logged::start(Program::Faulty, &["--workers", "1", "--access-log-format", "common"]);
    const ALL: usize = 50_000_000;
    let octets_of = |line: &str| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
    let mut client = logged.server.connect();
    client.send(format!("GET /bytes?n={ALL} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.read_head().unwrap();
    let read = client.read_octets(1_000_000).unwrap().len() + client.take_unread().len();
    client.reset();
    let told = logged.told(1);
    assert!(told[0].starts_with("\"GET /bytes?n=50000000 HTTP/1.1\" 200 "), "{told:?}");
    assert!((read..ALL).contains(&octets_of(&told[0])), "{told:?}, and {read} were read");
    // what is short enough to leave at once, and what nobody has answered
    let mut client = logged.server.connect();
    client.send("GET /bytes?n=200000 HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_head().unwrap();
    client.reset();
    let told = logged.told(2);
    assert!(octets_of(&told[1]) <= 200_000, "{told:?}");
    let mut client = logged.server.connect();
    client.send("GET /hang?ms=100000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut other = logged.server.connect();
    other.get("/pid");
    client.reset();
    let told = logged.told(4);
    assert!(told[2].starts_with("\"GET /pid HTTP/1.1\" 200 "), "{told:?}");
    assert_eq!(told[3], "\"GET /hang?ms=100000 HTTP/1.1\" 000 0");
    // the beginning has gone when the rest fails
    assert!(content_octets(logged.server.address, &closing("/stream-panic?ms=50", "")) > 0);
    let octets = "d\r\nthe beginning\r\n".len();
    assert_eq!(logged.told(5)[4], format!("\"GET /stream-panic?ms=50 HTTP/1.1\" 200 {octets}"));
}

#[test]
fn what_is_refused_is_told_of_with_what_there_is() {
    let arguments = ["--workers", "1", "--header-timeout", "5s", "--body-timeout", "5s", "--max-body", "10"];
    let logged = Logged::start(Program::Mirror, &arguments);
    let long = "x".repeat(9_000);
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "\"GET / HTTP/1.1\" 400 11 \"-\" \"-\"".to_owned()),
        ("\x16\x03\x01\x02".to_owned(), "\"\\x16\\x03\\x01\\x02\" 400 11 \"-\" \"-\"".to_owned()),
        (
            "BREW /\" HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "\"BREW /\\x22 HTTP/1.1\" 501 15 \"-\" \"-\"".to_owned(),
        ),
        ("PRI * HTTP/2.0\r\n\r\n".to_owned(), "\"PRI * HTTP/2.0\" 505 26 \"-\" \"-\"".to_owned()),
        // so much is looked at for a line's end
        (format!("GET /{long} HTTP/1.1\r\n"), format!("\"GET /{}\" 414 12 \"-\" \"-\"", &long[..8187])),
        ("GET /a".to_owned(), "\"GET /a\" 408 15 \"-\" \"-\"".to_owned()),
        (
            "POST /b HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nContent-Length: 11\r\n\r\n".to_owned(),
            "\"POST /b HTTP/1.1\" 413 17 \"-\" \"me\"".to_owned(),
        ),
        (
            "POST /c HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
                .to_owned(),
            "\"POST /c HTTP/1.1\" 400 11 \"-\" \"me\"".to_owned(),
        ),
        (
            "POST /d HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nContent-Length: 9\r\n\r\n".to_owned(),
            "\"POST /d HTTP/1.1\" 408 15 \"-\" \"me\"".to_owned(),
        ),
        (
            "POST /pieces HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab"
                .to_owned(),
            "\"POST /pieces HTTP/1.1\" 400 11 \"-\" \"me\"".to_owned(),
        ),
    ];
    for (count, (request, expected)) in (1..).zip(cases) {
        let mut client = logged.server.connect();
        client.send(&request);
        client.read_to_end().unwrap();
        assert_eq!(logged.told(count)[count - 1], expected, "{request}");
    }
    // who says nothing has asked for nothing
    let mut silent = logged.server.connect();
    silent.read_to_end().unwrap();
    logged.lines(10);
}

#[test]
fn json_lines_are_json_and_say_who_served_and_for_how_long() {
    let logged = Logged::start(Program::Faulty, &["--workers", "2", "--access-log-format", "json"]);
    let mut client = logged.server.connect();
    let pid = client.get("/pid").pid();
    let (slot, _) = *logged.server.listening().iter().find(|(_, other)| *other == pid).unwrap();
    client.send(
        b"GET /hang?ms=120 HTTP/1.1\r\nHost: a\r\nUser-Agent: \"J\xc3\xbcrgen\"\\\xff\tx\r\nReferer:\r\n\r\n",
    );
    client.read_answer().unwrap();
    client.send("nonsense\r\n\r\n");
    client.read_answer().unwrap();
    let lines = logged.json(3);
    let expected = json!({
        "time": lines[0]["time"], "remote_addr": "127.0.0.1", "method": "GET", "target": "/pid", "version": "HTTP/1.1",
        "status": 200, "body_bytes_sent": pid.to_string().len() + 1, "duration_us": lines[0]["duration_us"],
        "referer": null, "user_agent": null, "slot": slot, "pid": pid,
    });
    assert_eq!(lines[0], expected);
    assert_eq!(lines[1]["user_agent"], "\"J\u{fc}rgen\"\\\u{fffd}\tx");
    assert_eq!(lines[1]["referer"], "");
    let micros: Vec<u64> = lines.iter().map(|line| line["duration_us"].as_u64().unwrap()).collect();
    assert!((120_000..20_000_000).contains(&micros[1]), "{micros:?}");
    assert_eq!(
        (&lines[2]["method"], &lines[2]["target"], &lines[2]["status"]),
        (&json!(null), &json!("nonsense"), &json!(400))
    );
    for line in &lines {
        let time = humantime::parse_rfc3339(line["time"].as_str().unwrap()).unwrap();
        let off = time.duration_since(SystemTime::now()).unwrap_or_else(|before| before.duration());
        assert!(off < PATIENCE, "{line}");
    }
}

#[test]
fn what_clients_send_can_neither_end_a_line_nor_a_field() {
    for format in ["combined", "json"] {
        let logged = Logged::start(Program::Uringd, &["--workers", "1", "--access-log-format", format]);
        let mut client = logged.server.connect();
        let forged = b"x\" 200 1 \"-\" \"-\\x0a127.0.0.1 - - [23/Nov/2026:07:15:42 +0000] \"GET /admin HTTP/1.1\" 200 9 \"\xff\xfe";
        for name in ["Referer", "User-Agent"] {
            client.send(format!("GET /\"\\x HTTP/1.1\r\nHost: a\r\n{name}: "));
            client.send(forged);
            client.send("\r\n\r\n");
            assert_eq!(client.read_answer().unwrap().status, 404);
        }
        // a bare CR or LF is no request at all
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: a\rb\nc\x00\r\n\r\n");
        assert_eq!(client.read_answer().unwrap().status, 400);
        for line in logged.lines(3) {
            match format {
                "json" => drop(serde_json::from_str::<Value>(&line).unwrap()),
                _ => assert!(line.matches('"').count() == 6 && !line.contains("\"GET /admin"), "{line}"),
            }
        }
    }
}

#[test]
fn a_client_of_a_unix_socket_is_unix() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let listen = format!("unix:{}", socket.display());
    let logged = Logged::start(Program::Uringd, &["--workers", "1", "--listen", &listen]);
    Client::connect_unix(&socket).get("/");
    assert!(logged.lines(1)[0].starts_with("unix: - - ["));
}

#[test]
fn lines_follow_the_file_after_sigusr1_and_none_is_lost() {
    let mut logged = Logged::start(Program::Faulty, &["--workers", "2"]);
    let done = AtomicBool::new(false);
    let (server, address) = (&logged.server, logged.server.address);
    let answered: usize = thread::scope(|scope| {
        let ends = SetOnDrop(&done);
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    let mut client = Client::connect(address);
                    while !done.load(Relaxed) {
                        assert_eq!(client.get("/").status, 200);
                        count += 1;
                        thread::sleep(PAUSE);
                    }
                    count
                })
            })
            .collect();
        for turn in 0..5 {
            server.wait("lines", || !lines_of(&logged.log()).is_empty());
            fs::rename(logged.log(), logged.path(&format!("access.log.{turn}"))).unwrap();
            logged.reopen();
        }
        server.wait("lines", || !lines_of(&logged.log()).is_empty());
        drop(ends);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    logged.stop();
    let names = fs::read_dir(logged.directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = names.collect();
    assert_eq!(files.len(), 6);
    let mut lines = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.ends_with('\n'), "{}", file.display());
        for line in text.lines() {
            assert!(line.starts_with("127.0.0.1 - - [") && line.ends_with("\"-\" \"-\""), "{line}");
            lines += 1;
        }
    }
    assert_eq!(lines, answered);
}

#[test]
fn a_log_that_cannot_be_reopened_stays_the_old_one() {
    let logged = Logged::start(Program::Uringd, &["--workers", "2"]);
    logged.server.get("/1");
    logged.lines(1);
    let (moved, link) = (logged.path("moved"), logged.log());
    fs::rename(&link, &moved).unwrap();
    symlink(logged.path("none/access.log"), &link).unwrap();
    logged.server.signal("USR1");
    let error = logged.server.wait_for("the error", |line| line["level"] == "ERROR");
    let text = error["message"].as_str().unwrap();
    let expected = format!("cannot open the access log {}: No such file", link.display());
    assert!(text.starts_with(&expected) && text.ends_with("; the old file stays"), "{text}");
    logged.server.get("/2");
    logged.server.wait("a line in the old file", || lines_of(&moved).len() == 2);
    // and later it can
    fs::remove_file(&link).unwrap();
    logged.rotate_from(&moved);
    assert!(lines_of(&logged.log())[0].contains("/rotated"));
}

#[test]
fn sigusr1_to_the_whole_group_ends_nobody() {
    let logged = Logged::start(Program::Uringd, &["--workers", "2"]);
    let workers = logged.server.listening();
    kill_group(logged.server.pid(), "USR1");
    logged.server.wait_for("log reopened", |line| line["message"] == "log reopened");
    assert_eq!(logged.server.get("/").status, 200);
    logged.lines(1);
    assert_eq!(logged.server.listening(), workers);
    // without a log it does as little
    let bare = Server::start(Program::Uringd, &["--workers", "1"]);
    kill_group(bare.pid(), "USR1");
    bare.wait_for("no log", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("no access log"))
    });
    assert_eq!(bare.get("/").status, 200);
}

fn kill_group(group: i32, signal: &str) {
    let status =
        Command::new("kill").args([&format!("-{signal}"), "--", &format!("-{group}")]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_log_that_cannot_be_opened_ends_the_start_with_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none/access.log");
    let arguments = ["--listen", "127.0.0.1:0", "--access-log", path.to_str().unwrap()];
    let mut command = bare_command(&Program::Uringd.path());
    let Output { status, stderr, .. } = command.args(arguments).output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    let line = format!(
        "uringd: cannot open the access log {}: No such file or directory (os error 2)",
        path.display()
    );
    // beside it no more than root is told in any case
    let lines: Vec<_> = text.lines().filter(|line| !line.contains(" WARN ")).collect();
    assert_eq!((status.code(), lines), (Some(1), vec![line.as_str()]));
}

#[test]
fn a_worker_that_runs_as_somebody_else_writes_what_only_its_master_may_open() {
    if !is_root() {
        return skip("only root can become somebody else");
    }
    let logged = Logged::start(Program::Uringd, &["--workers", "1", "--user", "nobody"]);
    fs::set_permissions(logged.directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    logged.server.get("/1");
    logged.lines(1);
    assert_eq!(fs::metadata(logged.log()).unwrap().permissions().mode() & 0o777 & !0o640, 0);
    logged.rotate("old");
    assert!(lines_of(&logged.log())[0].contains("/rotated"));
}

#[test]
fn a_replacement_and_one_more_worker_write_as_well() {
    let logged = Logged::start(Program::Faulty, &["--workers", "1", "--access-log-format", "json"]);
    assert_eq!(logged.server.get("/panic").status, 500);
    logged.server.wait("a replacement", || logged.server.events("exit").len() == 1);
    let first = logged.json(1)[0]["pid"].clone();
    logged.rotate("old");
    let before = lines_of(&logged.log()).len();
    logged.server.signal("TTIN");
    logged.server.wait("two workers", || logged.server.listening().len() == 2);
    let pids: Vec<i32> = logged.server.listening().into_iter().map(|(_, pid)| pid).collect();
    let mut asked = 0;
    let mut seen: Vec<i32> = vec![];
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < 2 && Instant::now() < deadline {
        let pid = logged.server.get("/pid").pid();
        asked += 1;
        if !seen.contains(&pid) {
            seen.push(pid);
        }
    }
    let lines = logged.json(before + asked);
    for pid in &seen {
        assert!(pids.contains(pid) && lines.iter().any(|line| line["pid"] == *pid), "{lines:?}");
    }
    assert!(lines.iter().all(|line| line["pid"] != first));
}

#[test]
fn a_reload_takes_another_file_and_format_or_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let configuration = |log: &str, format: &str| {
        let text = format!(
            "listen = [\"127.0.0.1:0\"]\nworkers = 2\naccess-log = \"{log}\"\naccess-log-format = \"{format}\"\n"
        );
        fs::write(path("uringd.toml"), text).unwrap();
    };
    configuration(&path("first"), "common");
    let server = Server::spawn(&mut Program::Uringd.command(&["--config", &path("uringd.toml")]));
    server.wait_until_whole();
    let count = |name: &str| lines_of(path(name).as_ref()).len();
    server.get("/1");
    server.wait("a line", || count("first") == 1);
    let reload = || {
        let after = server.log().len();
        server.signal("HUP");
        let over = |line: &Value| line["stage"] == "done" || line["stage"] == "failed";
        server.wait_for_after(after, "the reload is over", over).1
    };
    configuration(&path("none/second"), "json");
    let over = reload();
    assert_eq!(over["stage"], "failed");
    assert!(over["problem"].as_str().unwrap().contains("cannot open the access log"), "{over}");
    server.get("/2");
    server.wait("a line", || count("first") == 2);
    configuration(&path("second"), "json");
    assert_eq!(reload()["stage"], "done");
    // one that leaves may answer still
    server.wait("a line", || {
        server.get("/3");
        count("second") > 0
    });
    let line = lines_of(path("second").as_ref()).remove(0);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["target"], "/3");
    server.wait("who writes to the first one is gone", || server.events("exit").len() == 2);
    // what is in force is what is rotated
    fs::rename(path("second"), path("rotated")).unwrap();
    fs::rename(path("first"), path("old")).unwrap();
    server.signal("USR1");
    server.wait("a line in the new file", || {
        server.get("/4");
        count("second") > 0
    });
    assert!(!Path::new(&path("first")).exists());
    assert!(count("old") >= 2);
}

#[test]
fn every_line_is_written_before_a_worker_is_gone() {
    for program in [Program::Uringd, Program::Faulty] {
        let mut logged = Logged::start(program, &["--workers", "2"]);
        let answers = 500;
        for _ in 0..10 {
            let mut client = logged.server.connect();
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(answers / 10));
            (0..answers / 10).for_each(|_| drop(client.read_answer().unwrap()));
        }
        logged.stop();
        logged.lines(answers);
    }
}

/// A server whose access log is standard output, and the other end of that.
fn start_with_stdout(program: Program, arguments: &[&str]) -> (Server, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut all = vec!["--listen", "127.0.0.1:0", "--access-log", "-"];
    all.extend(arguments);
    let mut command = program.command(&all);
    let server = Server::spawn(command.stdout(writer));
    server.wait_until_whole();
    (server, reader)
}

#[test]
fn standard_output_gets_whole_lines_of_all_workers() {
    let (mut server, reader) = start_with_stdout(Program::Uringd, &["--workers", "2"]);
    let (tell, told) = mpsc::channel();
    thread::spawn(move || BufReader::new(reader).lines().all(|line| tell.send(line.unwrap()).is_ok()));
    // lines of all lengths, and some that no pipe takes as a whole; all of them together no more than a worker keeps for a
    // reader that is late
    let answers: usize = thread::scope(|scope| {
        let address = server.address;
        let clients = (0..8).map(|client| {
            scope.spawn(move || {
                let mut connection = Client::connect(address);
                for n in 0..200usize {
                    let length = if n % 50 == 0 { 7_000 } else { n * 4 };
                    connection.get(&format!("/{client}/{}", "x".repeat(length)));
                }
                200
            })
        });
        clients.collect::<Vec<_>>().into_iter().map(|client| client.join().unwrap()).sum()
    });
    server.signal("USR1");
    server.wait_for("nothing to reopen", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("nothing to reopen"))
    });
    // who exits does not wait for a reader for long
    let mut lines: Vec<String> = vec![];
    server.wait("all lines are read", || {
        lines.extend(told.try_iter());
        lines.len() >= answers
    });
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
    lines.extend(told.iter());
    assert_eq!(lines.len(), answers);
    for line in &lines {
        assert!(line.len() < libc::PIPE_BUF, "{}", line.len());
        assert!(
            line.starts_with("127.0.0.1 - - [") && line.ends_with(" HTTP/1.1\" 404 9 \"-\" \"-\""),
            "{line}"
        );
        assert_eq!(line.matches("GET").count(), 1);
    }
}

#[test]
fn a_file_behind_standard_output_is_appended_to_by_all_workers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let mut command =
        Program::Uringd.command(&["--listen", "127.0.0.1:0", "--workers", "2", "--access-log", "-"]);
    // as a shell's `>` opens it
    let mut server = Server::spawn(command.stdout(fs::File::create(&path).unwrap()));
    server.wait_until_whole();
    thread::scope(|scope| {
        for client in 0..8 {
            let server = &server;
            scope.spawn(move || {
                for n in 0..100 {
                    server.get(&format!("/{client}/{n}"));
                }
            });
        }
        for _ in 0..3 {
            let done = || server.events("reload").iter().filter(|line| line["stage"] == "done").count();
            let before = done();
            server.signal("HUP");
            server.wait("it is reloaded", || done() > before);
        }
    });
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 800);
    assert!(text.lines().all(|line| line.ends_with(" HTTP/1.1\" 404 9 \"-\" \"-\"")), "{text}");
}

#[test]
fn a_reader_that_goes_away_costs_lines_and_nothing_else() {
    let (mut server, reader) = start_with_stdout(Program::Uringd, &["--workers", "1"]);
    let workers = server.listening();
    drop(reader);
    // what another test starts meanwhile has the other end open as well until it is executed
    server.wait("the error", || {
        server.get("/1");
        server.log().iter().any(|line| line["level"] == "ERROR")
    });
    let error = server.wait_for("the error", |line| line["level"] == "ERROR");
    assert_eq!(error["message"], "the access log cannot be written: lines are lost until it can");
    assert_eq!(error["why"], "Broken pipe");
    for _ in 0..10 {
        assert_eq!(server.get("/2").status, 404);
    }
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
    assert_eq!(server.log().iter().filter(|line| line["level"] == "ERROR").count(), 1, "said once");
    assert_eq!(server.events("exit").len(), workers.len());
}

#[test]
fn a_reader_that_does_not_read_makes_nobody_wait() {
    let (mut server, reader) = start_with_stdout(Program::Uringd, &["--workers", "1"]);
    // what two halves of a megabyte and a pipe do not hold; a pipe gets no more than 4 KiB of a line
    let target = format!("/{}", "x".repeat(3_900));
    let mut client = server.connect();
    let asked = 1_500;
    for _ in 0..asked {
        assert_eq!(client.get(&target).status, 404);
    }
    let error = server.wait_for("the error", |line| line["level"] == "ERROR");
    assert_eq!(error["why"], "they are written faster than it takes them");
    // and when somebody reads again it goes on
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || {
        BufReader::new(reader).lines().map_while(Result::ok).all(|line| tell.send(line).is_ok())
    });
    let received = || lines.try_iter().count();
    let (mut count, mut more) = (0, 0);
    server.wait("lines are written again", || {
        client.get("/more");
        more += 1;
        count += received();
        server.log().iter().any(|line| line["message"] == "the access log is written again")
    });
    let again = server.wait_for("again", |line| line["message"] == "the access log is written again");
    let lost = again["lost"].as_u64().unwrap() as usize;
    server.wait("all others are there", || {
        count += received();
        count + lost >= asked + more
    });
    assert_eq!((count + lost, lost > 0), (asked + more, true));
    drop(client);
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn a_reader_that_does_not_read_keeps_no_worker_from_exiting() {
    let (mut server, _reader) =
        start_with_stdout(Program::Uringd, &["--workers", "1", "--kill-timeout", "60s"]);
    let mut client = server.connect();
    for _ in 0..200 {
        client.get(&format!("/{}", "x".repeat(3_900)));
    }
    drop(client);
    server.signal("TERM");
    // PATIENCE is less than the kill timeout
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
    let error = server.wait_for("the error", |line| line["level"] == "ERROR");
    assert_eq!(error["why"], "Operation canceled");
    assert_eq!(server.events("exit")[0]["forced"], false);
}

#[test]
fn a_reader_that_does_not_read_makes_no_drain_a_forced_kill() {
    // the worker stops waiting a quarter of a second before; one that gets no core for so long has shown nothing
    let forced = (0..5).all(|_| {
        let (mut server, _reader) =
            start_with_stdout(Program::Uringd, &["--workers", "1", "--kill-timeout", "2s"]);
        let mut idle = server.connect();
        for _ in 0..200 {
            idle.get(&format!("/{}", "x".repeat(3_900)));
        }
        server.signal("TERM");
        assert_eq!(server.wait_exit().code(), Some(0));
        server.wait_gone();
        drop(idle);
        let forced = server.events("exit")[0]["forced"] == true;
        // who was killed has said nothing
        if !forced {
            let error = server.wait_for("the error", |line| line["level"] == "ERROR");
            assert_eq!(error["why"], "Operation canceled", "the reader was still waited for");
        }
        assert_eq!(server.log().last().unwrap()["forced_kills"], u64::from(forced));
        forced
    });
    assert!(!forced, "five times in a row");
}

#[test]
fn a_full_disk_costs_lines_and_is_said_once() {
    let mut server = Server::start(Program::Uringd, &["--workers", "1", "--access-log", "/dev/full"]);
    let mut client = server.connect();
    for _ in 0..2_000 {
        assert_eq!(client.get("/").status, 200);
    }
    let error = server.wait_for("the error", |line| line["level"] == "ERROR");
    assert_eq!(error["why"], "No space left on device");
    drop(client);
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
    assert_eq!(server.log().iter().filter(|line| line["level"] == "ERROR").count(), 1);
}

#[test]
fn under_a_node_master_a_worker_opens_the_log_itself() {
    if !Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skip("there is no `node` here");
    }
    let directory = tempfile::tempdir().unwrap();
    let (script, log) = (directory.path().join("master.js"), directory.path().join("access.log"));
    let program = r#"
const worker = require('child_process').fork('worker', ['--access-log', process.argv[3]],
  { execPath: process.argv[2], execArgv: [] });
const server = require('net').createServer();
server.listen(0, '127.0.0.1', () => {
  const port = server.address().port;
  worker.send('server', server, () => { server.close(); console.error(JSON.stringify({ ready: port })); });
});
process.on('SIGUSR2', () => worker.disconnect());
"#;
    fs::write(&script, program).unwrap();
    let mut command = bare_command("node".as_ref());
    let mut server = Server::launch(command.arg(&script).arg(Program::Uringd.path()).arg(&log));
    let ready = server.wait_for("the socket is with the worker", |line| line["ready"].is_number());
    server.address.set_port(ready["ready"].as_u64().unwrap() as u16);
    assert_eq!(server.get("/").status, 200);
    server.signal("USR2");
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(lines_of(&log).len(), 1);
}

/// `tuning/logrotate.conf` with these paths, to be run at once. What it needs to keep is put into the directory.
fn logrotate(directory: &Path, log: &Path, pid_file: &Path) -> Command {
    let example =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/logrotate.conf")).unwrap();
    let configuration = example
        .replace("/var/log/uringd/access.log", log.to_str().unwrap())
        .replace("/run/uringd.pid", pid_file.to_str().unwrap())
        // nobody's, should this machine have that one
        .replace("uringd.service", "uringd-of-a-test.service");
    assert!(configuration.contains("delaycompress"));
    let file = directory.join("logrotate.conf");
    fs::write(&file, configuration).unwrap();
    // logrotate reads no configuration that others may write, and rotates in no such directory
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = Command::new("logrotate");
    command.arg("--force").arg("--state").arg(directory.join("state")).arg(file);
    command
}

/// The service manager is asked first, then the file with the process ID; to find neither is an error.
#[test]
fn logrotate_fails_where_nobody_can_be_told_to_reopen() {
    if Command::new("logrotate").arg("--version").output().is_err() {
        return skip("there is no `logrotate` here");
    }
    // what `systemctl is-active` ends with: active, inactive, not found
    for (status, told) in [(0, true), (3, false), (127, false)] {
        let directory = tempfile::tempdir().unwrap();
        let (log, calls) = (directory.path().join("access.log"), directory.path().join("calls"));
        fs::write(&log, "a line\n").unwrap();
        let systemctl = directory.path().join("systemctl");
        let script = format!("#!/bin/sh\necho \"$*\" >> {}\nexit {status}\n", calls.display());
        write_program(&systemctl, &script);
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
        let mut command = logrotate(directory.path(), &log, &directory.path().join("uringd.pid"));
        let output = command.env("PATH", path).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let calls = fs::read_to_string(calls).unwrap();
        let kill = "kill --kill-whom=main -s USR1 uringd-of-a-test.service";
        assert_eq!(output.status.success(), told, "{status}: {errors}");
        assert_eq!(calls.lines().any(|call| call == kill), told, "{status}: {calls}");
        assert_eq!(errors.contains("goes on with the old file"), !told, "{status}: {errors}");
    }
}

/// The rotation of `tuning/logrotate.conf`, by the real program, under load.
#[test]
fn logrotate_rotates_under_load_and_no_line_is_lost() {
    if Command::new("logrotate").arg("--version").output().is_err() {
        return skip("there is no `logrotate` here");
    }
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("uringd.pid");
    let mut logged =
        Logged::start(Program::Uringd, &["--workers", "2", "--pid-file", pid_file.to_str().unwrap()]);
    let done = AtomicBool::new(false);
    let address = logged.server.address;
    let rotations = 6;
    let answered: usize = thread::scope(|scope| {
        let ends = SetOnDrop(&done);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !done.load(Relaxed) {
                        let mut client = Client::connect(address);
                        for _ in 0..100 {
                            assert_eq!(client.get("/").status, 200);
                            count += 1;
                            thread::sleep(PAUSE);
                        }
                    }
                    count
                })
            })
            .collect();
        for _ in 0..rotations {
            logged.server.wait("lines", || !lines_of(&logged.log()).is_empty());
            let after = logged.server.log().len();
            let output = logrotate(directory.path(), &logged.log(), &pid_file).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            logged.server.wait_for_after(after, "log reopened", |line| line["message"] == "log reopened");
            // the next rotation packs this file: that leaves each worker time, as a day does
            logged.server.wait("all write to the new file", || {
                let of_log = |path: &String| path.starts_with(logged.log().to_str().unwrap());
                let open = |pid| descriptors(pid).into_iter().filter(of_log).collect::<Vec<_>>();
                logged
                    .server
                    .listening()
                    .iter()
                    .all(|(_, pid)| open(*pid) == [logged.log().display().to_string()])
            });
        }
        logged.server.wait("lines", || !lines_of(&logged.log()).is_empty());
        drop(ends);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    logged.stop();
    let files: Vec<_> =
        fs::read_dir(logged.directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), rotations + 1, "{files:?}");
    let mut lines = 0;
    for file in files {
        let output = Command::new("gzip").arg("-cdf").arg(&file).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.ends_with('\n'), "{}", file.display());
        for line in text.lines() {
            assert!(line.starts_with("127.0.0.1 - - [") && line.ends_with("\"-\" \"-\""), "{line}");
            lines += 1;
        }
    }
    assert_eq!(lines, answered);
}

#[test]
fn without_the_flag_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Program::Uringd.command(&["--listen", "127.0.0.1:0", "--workers", "1"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut server = Server::spawn(command.current_dir(directory.path()).stdout(writer));
    drop(command);
    server.wait_until_whole();
    server.get("/");
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(BufReader::new(reader).lines().count(), 0);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    std::io::stderr().flush().unwrap();
}
