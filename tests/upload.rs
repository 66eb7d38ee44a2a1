//! Uploads through `examples/upload.rs`: of any length, with little memory, and whole or not at all.

mod common;

use common::*;
use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// What an upload of any length may take: what is between the client and the disk, and what the allocator keeps of it.
const MEMORY_KIB_MAX: u64 = 4 * 1024;

struct Uploads {
    server: Server,
    worker: i32,
    folder: TempDir,
}

impl Uploads {
    fn start(arguments: &[&str]) -> Uploads {
        Uploads::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    fn start_in(folder: TempDir, arguments: &[&str]) -> Uploads {
        let all = [&["--listen", "127.0.0.1:0", "--workers", "1"], arguments].concat();
        let server = Server::spawn(Program::Upload.command(&all).env("UPLOAD_DIR", folder.path()));
        server.wait_until_whole();
        let worker = server.listening()[0].1;
        Uploads { server, worker, folder }
    }

    /// Everything in the directory, hidden or not.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// A client that has sent half an upload, of which some is there.
    fn half(&self) -> Client {
        let mut client = self.server.connect();
        client.send(put("a", "Transfer-Encoding: chunked") + "100000\r\n" + &"x".repeat(100_000));
        self.wait_for_partial();
        client
    }

    /// Waits until half an upload is there.
    fn wait_for_partial(&self) {
        let is_there = |name: &String| {
            let path = self.folder.path().join(name);
            name.ends_with(".part") && fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
        };
        self.server.wait("some of it is there", || self.names().iter().any(is_there));
    }

    fn wait_for_nothing(&self) {
        self.server.wait("nothing is left of it", || self.names().is_empty());
        assert_eq!(self.server.listening(), [(0, self.worker)]);
    }
}

fn put(name: &str, fields: &str) -> String {
    format!("PUT /{name} HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n")
}

fn put_whole(name: &str, content: &[u8]) -> Vec<u8> {
    [put(name, &format!("Content-Length: {}", content.len())).as_bytes(), content].concat()
}

fn pattern(octets: usize) -> Vec<u8> {
    (0..octets).map(|n| (n % 251) as u8).collect()
}

#[test]
fn what_is_sent_is_kept_listed_given_back_and_replaced() {
    let uploads = Uploads::start(&[]);
    let mut client = uploads.server.connect();
    assert_eq!(client.get("/").text(), "");
    for (name, content) in [("b.bin", pattern(300_000)), ("a", b"short".to_vec()), ("empty", vec![])] {
        client.send(put_whole(name, &content));
        assert_eq!(client.read_answer().unwrap().status, 201);
        assert!(client.get(&format!("/{name}")).body == content, "{name}");
    }
    client.send(put("chunked", "Transfer-Encoding: chunked") + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.read_answer().unwrap().status, 201);
    assert_eq!(client.get("/chunked").text(), "abcde");
    client.send(put_whole("a", b"replaced"));
    assert_eq!(client.read_answer().unwrap().status, 204);
    // without any content there is nothing to admit
    client.send("PUT /none HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.read_answer().unwrap().status, 201);
    assert_eq!(client.get("/").text(), "a\nb.bin\nchunked\nempty\nnone");
    uploads.server.wait("the cache looks again", || uploads.server.get("/a").text() == "replaced");
    assert_eq!(uploads.names(), ["a", "b.bin", "chunked", "empty", "none"]);
}

/// Its own half uploads are in the same directory.
#[test]
fn who_does_not_come_to_serve_removes_nothing_of_the_one_that_does() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".left.1-0.part"), "by a worker that was killed").unwrap();
    let uploads = Uploads::start_in(folder, &[]);
    assert!(uploads.names().is_empty(), "{:?}", uploads.names());
    let half = uploads.folder.path().join(".half.2-0.part");
    fs::write(&half, "under way").unwrap();
    let address = uploads.server.address.to_string();
    for (arguments, code) in [(&["--help"][..], 0), (&["--listen", &address, "--workers", "1"], 1)] {
        let mut other = Program::Upload.command(arguments);
        let ended = other.env("UPLOAD_DIR", uploads.folder.path()).output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        assert!(half.exists(), "{arguments:?}");
    }
}

#[test]
fn a_name_that_could_lead_elsewhere_is_refused_before_any_of_the_content_is_read() {
    let uploads = Uploads::start(&[]);
    let long = "x".repeat(201);
    for name in
        ["", ".", "..", "../a", "..%2fa", "%2e%2e", "a/b", "a//", ".hidden", "a%20b", "a~b", "a\\b", &long]
    {
        let mut client = uploads.server.connect();
        client.send(put(name, "Content-Length: 1000000\r\nExpect: 100-continue"));
        let answer = client.read_answer().unwrap();
        assert_eq!((answer.status, answer.closes()), (400, true), "{name:?}");
        let mut client = uploads.server.connect();
        client.send(format!("PUT /{name} HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(client.read_answer().unwrap().status, 400, "{name:?}");
    }
    for method in ["POST", "DELETE", "PATCH"] {
        for fields in ["", "Content-Length: 1\r\n"] {
            let mut client = uploads.server.connect();
            client.send(format!("{method} /a HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
            let answer = client.read_answer().unwrap();
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, PUT")));
        }
    }
    assert!(uploads.names().is_empty());
}

#[test]
fn half_an_upload_leaves_nothing() {
    // it does not go on
    let slow = Uploads::start(&["--body-timeout", "4s"]);
    let answer = slow.half().read_answer().unwrap();
    assert_eq!((answer.status, answer.closes()), (408, true));
    slow.wait_for_nothing();
    // it is no content
    let uploads = Uploads::start(&["--body-timeout", "1m"]);
    let mut client = uploads.half();
    client.send("x".repeat(0x100000 - 100_000) + "no CRLF");
    assert_eq!(client.read_answer().unwrap().status, 400);
    uploads.wait_for_nothing();
    // its client goes
    uploads.half().reset();
    uploads.wait_for_nothing();
    let mut client = uploads.half();
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"");
    uploads.wait_for_nothing();
    // many at once, at every stage
    for _ in 0..5 {
        let clients: Vec<Client> = (0..20)
            .map(|n| {
                let mut client = uploads.server.connect();
                client.send(put("a", "Content-Length: 100000"));
                client.send("x".repeat(n * 1000));
                client
            })
            .collect();
        clients.into_iter().for_each(Client::reset);
    }
    uploads.server.wait("all are gone", || uploads.server.held_connections() == 0);
    uploads.wait_for_nothing();
}

#[test]
fn half_an_upload_leaves_what_was_there_before_and_a_killed_worker_leaves_nothing_for_long() {
    let mut uploads = Uploads::start(&[]);
    uploads.server.connect().send(put_whole("a", b"before"));
    uploads.server.wait("it is there", || uploads.names() == ["a"]);
    let mut client = uploads.server.connect();
    client.send(put("a", "Content-Length: 100000") + &"x".repeat(50_000));
    uploads.wait_for_partial();
    assert_eq!(uploads.server.get("/").text(), "a", "what is not whole is not shown");
    kill(uploads.worker, "KILL");
    uploads.server.wait_for("its exit", |line| line["event"] == "exit");
    uploads.server.signal("TERM");
    uploads.server.wait_exit();
    assert_eq!(uploads.names().len(), 2);
    let uploads = Uploads::start_in(uploads.folder, &[]);
    assert_eq!(uploads.names(), ["a"]);
    assert_eq!(uploads.server.get("/a").text(), "before");
}

#[test]
fn an_upload_of_200_mib_takes_next_to_no_memory() {
    let uploads = Uploads::start(&[]);
    let content = pattern(MIB);
    // the first one touches what all of them use
    let mut client = uploads.server.connect();
    client.send(put_whole("small", &content));
    assert_eq!(client.read_answer().unwrap().status, 201);
    let before = rss_anon(uploads.worker);
    let done = Arc::new(AtomicBool::new(false));
    let watching = thread::spawn({
        let (done, worker) = (Arc::clone(&done), uploads.worker);
        move || {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(rss_anon(worker));
                thread::sleep(Duration::from_millis(2));
            }
            most
        }
    });
    client.send(put("big", &format!("Content-Length: {}", 200 * MIB)));
    for _ in 0..200 {
        client.stream.write_all(&content).unwrap();
    }
    assert_eq!(client.read_answer().unwrap().status, 201);
    done.store(true, Ordering::Relaxed);
    let most = watching.join().unwrap();
    println!("{before} KiB before, at most {most} KiB meanwhile");
    assert!(most < before + MEMORY_KIB_MAX, "{before} KiB before, {most} KiB meanwhile");
    let kept = fs::read(uploads.folder.path().join("big")).unwrap();
    assert!(kept.len() == 200 * MIB && kept.chunks(MIB).all(|part| part == content), "octet for octet");
}
