//! Answers from futures: what they may wait for, in which order they leave, what becomes of them when their client goes, when
//! they panic, and when their worker leaves.

mod common;

use common::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than any test: whatever waits for so long waits in vain.
const FOR_EVER: &str = "/wait?ms=3600000";

/// `examples/later.rs` with one worker, and the directory that it reads from.
struct Later {
    server: Server,
    worker: i32,
    folder: TempDir,
}

impl Later {
    fn start(arguments: &[&str]) -> Later {
        let folder = tempfile::tempdir().unwrap();
        let all = [&["--listen", "127.0.0.1:0", "--workers", "1"], arguments].concat();
        let server = Server::spawn(Program::Later.command(&all).env("LATER_DIR", folder.path()));
        server.wait_until_whole();
        let worker = server.listening()[0].1;
        Later { server, worker, folder }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    fn fifo(&self) -> std::path::PathBuf {
        let path = self.folder.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o644)).unwrap();
        path
    }

    fn ask_for_fifo(&self) -> Client {
        let mut client = self.server.connect();
        client.send(get("/read/fifo"));
        client
    }

    fn wait_until_waiting(&self, count: u32) {
        let wanted = count.to_string();
        self.server.wait("so many futures wait", || self.server.get("/waiting").text() == wanted);
    }

    fn holds(&self, path: &Path) -> bool {
        descriptors(self.worker).contains(&path.display().to_string())
    }
}

fn one_worker(program: Program, arguments: &[&str]) -> (Server, i32) {
    let server = Server::start(program, &[&["--workers", "1", "--kill-timeout", "60s"], arguments].concat());
    let worker = server.listening()[0].1;
    (server, worker)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// Sums an answer up.
fn told(answer: Answer) -> (u16, String) {
    (answer.status, answer.text())
}

// ---- what futures wait for ----

#[test]
fn files_are_read_whole_and_what_is_wrong_with_one_is_said() {
    let later = Later::start(&[]);
    let huge: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    later.write("small", "hello");
    later.write("empty", "");
    later.write("huge", &huge);
    // exactly what is read at a time
    later.write("even", vec![7; 128 * 1024]);
    fs::create_dir(later.folder.path().join("directory")).unwrap();
    let mut client = later.server.connect();
    assert_eq!(told(client.get("/read/small")), (200, "hello".into()));
    assert_eq!(told(client.get("/read/empty")), (200, String::new()));
    assert_eq!(client.get("/read/even").body, vec![7; 128 * 1024]);
    assert!(client.get("/read/huge").body == huge, "octet for octet");
    for (name, status) in [
        ("missing", 404),
        ("directory", 403),
        ("..", 400),
        ("../small", 400),
        (".hidden", 400),
        ("", 400),
        (&"x".repeat(300), 500), // ENAMETOOLONG is not among those it knows
    ] {
        assert_eq!(client.get(&format!("/read/{name}")).status, status, "{name}");
    }
    assert_eq!(told(client.get("/waiting")), (200, "0".into()));
    assert_eq!(later.server.get("/read/small").text(), "hello");
    later.server.wait("no descriptor is left", || {
        !descriptors(later.worker).iter().any(|link| link.starts_with(later.folder.path().to_str().unwrap()))
    });
}

#[test]
fn time_files_and_both_together() {
    let later = Later::start(&[]);
    later.write("a", "content");
    let mut client = later.server.connect();
    for (path, at_least, text) in [
        ("/wait?ms=0", 0, "0 ms later"),
        ("/wait?ms=80", 80, "80 ms later"),
        ("/both?ms=80&name=a", 80, "content"),
        ("/thread?ms=80", 80, "from another thread"),
    ] {
        let start = Instant::now();
        assert_eq!(told(client.get(path)), (200, text.into()));
        assert!(start.elapsed() >= Duration::from_millis(at_least), "{path}: {:?}", start.elapsed());
    }
    assert_eq!(client.get("/both?ms=1&name=missing").status, 404);
}

#[test]
fn pipelined_answers_keep_their_order_whichever_is_ready_first() {
    let later = Later::start(&[]);
    later.write("a", "content");
    let requests = [
        ("/wait?ms=150", "150 ms later"),
        ("/wait?ms=1", "1 ms later"),
        ("/read/a", "content"),
        ("/thread?ms=50", "from another thread"),
        ("/waiting", "0"),
        ("/both?ms=20&name=a", "content"),
        ("/wait?ms=0", "0 ms later"),
    ];
    let input: String = requests.iter().map(|(path, _)| get(path)).collect();
    let mut client = later.server.connect();
    client.send(input.repeat(3));
    for (path, text) in requests.repeat(3) {
        assert_eq!(told(client.read_answer().unwrap()), (200, text.to_owned()), "{path}");
    }
    assert_eq!(client.take_unread(), b"");
}

#[test]
fn a_thousand_files_are_read_at_once_and_no_descriptor_is_left() {
    const CLIENTS: usize = 1000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < 2500 {
        return skip("the hard RLIMIT_NOFILE does not allow 2,500 descriptors");
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(2500), hard).unwrap();
    let later = Later::start(&[]);
    for n in 0..10u8 {
        later.write(&n.to_string(), vec![n; 10_000]);
    }
    assert_eq!(later.server.get("/waiting").text(), "0");
    let before = descriptors(later.worker).len();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| later.server.connect()).collect();
    for client in &mut clients {
        // it has been accepted, and is not one of those that wait in a queue while the worker is stopped
        assert_eq!(client.get("/waiting").text(), "0");
    }
    later.server.stop(later.worker);
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(get(&format!("/read/{}", n % 10)));
    }
    kill(later.worker, "CONT");
    for (n, client) in clients.iter_mut().enumerate() {
        let answer = client.read_answer().unwrap();
        assert!(answer.status == 200 && answer.body == [(n % 10) as u8; 10_000], "answer {n}");
    }
    // and given up at once
    later.server.stop(later.worker);
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(get(&format!("/read/{}", n % 10)));
    }
    clients.into_iter().for_each(Client::reset);
    kill(later.worker, "CONT");
    later.wait_until_waiting(0);
    later.server.wait("no descriptor is left", || descriptors(later.worker).len() <= before);
    assert_eq!(later.server.listening(), [(0, later.worker)]);
}

// ---- a file that does not come ----

#[test]
fn a_file_that_does_not_come_keeps_nobody_else_waiting() {
    let later = Later::start(&[]);
    later.write("a", "content");
    let path = later.fifo();
    // somebody who could write holds it open, so that it does not end
    let mut writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut patient = later.ask_for_fifo();
    later.wait_until_waiting(1);
    let mut beside = later.server.connect();
    for _ in 0..20 {
        assert_eq!(told(beside.get("/read/a")), (200, "content".into()));
    }
    later.server.wait("it is open", || later.holds(&path));
    writer.write_all(b"at last").unwrap();
    drop(writer);
    assert_eq!(told(patient.read_answer().unwrap()), (200, "at last".into()));
    later.server.wait("it is closed", || !later.holds(&path));
}

/// One whose open waits (on a thread of the kernel's), because nobody could write.
#[test]
fn an_open_that_nobody_waits_for_any_more_is_cancelled() {
    let later = Later::start(&[]);
    later.write("a", "content");
    let path = later.fifo();
    let clients: Vec<Client> = (0..20).map(|_| later.ask_for_fifo()).collect();
    later.wait_until_waiting(20);
    assert_eq!(later.server.get("/read/a").text(), "content", "others are answered");
    clients.into_iter().for_each(Client::reset);
    later.wait_until_waiting(0);
    // fifo(7): to open for writing without waiting is ENXIO when nobody has it open, or opens it, for reading
    later.server.wait("nobody opens it any more", || {
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        opened.is_err_and(|error| error.raw_os_error() == Some(libc::ENXIO))
    });
    assert!(!later.holds(&path));
}

#[test]
fn a_read_that_nobody_waits_for_any_more_is_cancelled_and_its_file_closed() {
    let later = Later::start(&[]);
    let path = later.fifo();
    let _writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let clients: Vec<Client> = (0..20).map(|_| later.ask_for_fifo()).collect();
    later.wait_until_waiting(20);
    later.server.wait("it is open", || later.holds(&path));
    clients.into_iter().for_each(Client::reset);
    later.wait_until_waiting(0);
    later.server.wait("it is closed", || !later.holds(&path));
}

#[test]
fn a_worker_leaves_though_a_file_does_not_come() {
    for has_writer in [true, false] {
        let mut later = Later::start(&["--kill-timeout", "2m"]);
        let path = later.fifo();
        let _writer = has_writer.then(|| OpenOptions::new().read(true).write(true).open(path).unwrap());
        let client = later.ask_for_fifo();
        later.wait_until_waiting(1);
        later.server.signal("TERM");
        later.server.wait("it drains", || Client::try_connect(later.server.address).is_err());
        client.reset();
        // far sooner than at the kill timeout, before which a worker closes what is left
        assert_eq!(later.server.wait_exit().code(), Some(0));
        let exit = later.server.wait_for("its exit", |line| line["event"] == "exit");
        assert_eq!((&exit["status"], &exit["forced"]), (&"code 0".into(), &false.into()));
    }
}

// ---- clients that go ----

#[test]
fn a_client_that_resets_takes_its_future_with_it() {
    let later = Later::start(&[]);
    let mut clients: Vec<Client> = (0..10).map(|_| later.server.connect()).collect();
    for client in &mut clients {
        client.send(get(FOR_EVER));
    }
    later.wait_until_waiting(10);
    let rest = clients.split_off(5);
    clients.into_iter().for_each(Client::reset);
    later.wait_until_waiting(5);
    // also with requests behind the one that is being answered
    for mut client in rest {
        client.send(get("/waiting"));
        client.reset();
    }
    later.wait_until_waiting(0);
    assert_eq!(later.server.listening(), [(0, later.worker)]);
}

#[test]
fn a_client_that_has_only_finished_sending_is_answered_or_given_up_after_the_send_timeout() {
    let later = Later::start(&["--send-timeout", "2s"]);
    let mut client = later.server.connect();
    client.send(get("/wait?ms=500").repeat(5));
    client.stream.shutdown(Shutdown::Write).unwrap();
    // each has the send timeout, not all of them together
    for _ in 0..5 {
        assert_eq!(told(client.read_answer().unwrap()), (200, "500 ms later".into()));
    }
    assert_eq!(client.read_to_end().unwrap(), b"");

    let mut client = later.server.connect();
    let start = Instant::now();
    client.send(get(FOR_EVER));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"", "no answer");
    assert!(start.elapsed() >= Duration::from_millis(1990), "{:?}", start.elapsed());
    later.wait_until_waiting(0);
}

#[test]
fn one_that_waits_is_finished_in_a_drain_and_says_close() {
    let mut later = Later::start(&["--kill-timeout", "2m"]);
    let path = later.fifo();
    let mut writer = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut client = later.ask_for_fifo();
    later.wait_until_waiting(1);
    later.server.signal("TERM");
    later.server.wait("it drains", || Client::try_connect(later.server.address).is_err());
    writer.write_all(b"at last").unwrap();
    drop(writer);
    let answer = client.read_answer().unwrap();
    assert_eq!((answer.text().as_str(), answer.closes()), ("at last", true));
    assert_eq!(later.server.wait_exit().code(), Some(0));
}

// ---- futures that go wrong ----

#[test]
fn a_future_that_panics_answers_500_and_has_its_worker_replaced() {
    let (server, worker) = one_worker(Program::Faulty, &[]);
    let mut client = server.connect();
    client.send(get("/later-panic?ms=50") + &get("/pid"));
    assert_eq!(client.read_answer().unwrap().status, 500);
    assert_eq!(client.read_answer().unwrap().pid(), worker, "the same worker goes on answering");
    let panic = server.wait_for("the panic", |line| line["message"] == "panic in the handler");
    assert_eq!(panic["panic"], "asked to, later");
    assert!(panic["location"].as_str().unwrap().starts_with("examples/faulty.rs:"), "{panic}");
    drop(client);
    let exit = server.wait_for("its exit", |line| line["event"] == "exit");
    assert_eq!((&exit["pid"], &exit["cause"]), (&worker.into(), &"suicide".into()));
}

#[test]
fn a_stream_that_panics_answers_500_before_its_first_octet_and_is_cut_after_it() {
    let (server, worker) = one_worker(Program::Faulty, &["--on-panic", "continue"]);
    let mut client = server.connect();
    assert_eq!(client.get("/stream-panic?ms=0").status, 500);
    client.send(get("/stream-panic?ms=50"));
    let head = client.read_head().unwrap();
    assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
    // that it ends is known; how it ends in the kernel is not: what matters is that there is no last chunk
    let rest = client.read_to_end().unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
    assert_eq!(server.get("/pid").pid(), worker);
}

#[test]
fn a_future_that_panics_when_it_is_dropped_is_a_panic_like_any_other() {
    let (server, worker) = one_worker(Program::Faulty, &[]);
    let mut client = server.connect();
    client.send(get("/drop-panic"));
    let mut beside = server.connect();
    assert_eq!(beside.get("/pid").pid(), worker);
    client.reset();
    let panic = server.wait_for("the panic", |line| line["message"] == "panic in the handler");
    assert_eq!(panic["panic"], "asked to, at the end");
    assert_eq!(beside.get("/pid").status, 200);
    drop(beside);
    let exit = server.wait_for("its exit", |line| line["event"] == "exit");
    assert_eq!((&exit["pid"], &exit["cause"]), (&worker.into(), &"suicide".into()));
}

#[test]
fn a_future_that_wakes_itself_all_the_time_starves_nobody() {
    let (server, worker) = one_worker(Program::Faulty, &[]);
    let mut dizzy: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut dizzy {
        client.send(get("/spin?ms=3600000"));
    }
    let mut beside = server.connect();
    for _ in 0..5 {
        assert_eq!(beside.get("/pid").pid(), worker);
        assert_eq!(server.get("/hang?ms=1").pid(), worker, "timers and new connections too");
        assert_eq!(server.get("/spin?ms=1").text(), "dizzy", "and one of their own kind");
    }
}

// ---- other threads ----

#[test]
fn promises_are_kept_by_many_threads_at_once() {
    let later = Later::start(&[]);
    let mut clients: Vec<Client> = (0..50).map(|_| later.server.connect()).collect();
    for client in &mut clients {
        client.send(get("/thread?ms=50").repeat(2) + &get("/thread?ms=0"));
    }
    for client in &mut clients {
        for _ in 0..3 {
            assert_eq!(told(client.read_answer().unwrap()), (200, "from another thread".into()));
        }
    }
    // one that is kept for nobody harms nobody
    let mut client = later.server.connect();
    client.send(get("/thread?ms=100"));
    client.reset();
    assert_eq!(told(later.server.get("/thread?ms=150")), (200, "from another thread".into()));
    assert_eq!(later.server.listening(), [(0, later.worker)]);
}
