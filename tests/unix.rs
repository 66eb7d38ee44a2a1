//! Listening on a Unix socket: served as over TCP, with the file's permissions and its beginning and end looked after.

mod common;

use common::*;
use std::collections::HashSet;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

const LARGE: &str = "GET /bytes?n=15000 HTTP/1.1\r\nHost: test\r\n\r\n";

fn start(path: &Path, arguments: &[&str]) -> Server {
    let listen = format!("unix:{}", path.display());
    let server = Server::spawn(&mut Program::Faulty.command(&[&["--listen", &listen], arguments].concat()));
    server.wait_until_whole();
    server
}

#[test]
fn clients_of_a_unix_socket_are_served_by_every_worker() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let server = start(&path, &["--workers", "2"]);
    let workers: HashSet<i32> = server.listening().into_iter().map(|(_, pid)| pid).collect();
    let mut answered = HashSet::new();
    server.wait("each of them answers", || {
        answered.insert(Client::connect_unix(&path).get("/pid").pid());
        answered == workers
    });

    let mut client = Client::connect_unix(&path);
    client.send("GET /pid HTTP/1.1\r\nHost: test\r\n\r\n".repeat(100));
    for _ in 0..100 {
        assert_eq!(client.read_answer().unwrap().status, 200);
    }
    assert_eq!(client.get("/bytes?n=5000000").body.len(), 5_000_000);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2000000\r\n\r\nabcde");
    let answer = client.read_answer().unwrap();
    assert_eq!((answer.status, answer.closes()), (413, true));
    assert_eq!(client.read_to_end().unwrap(), b"");

    let mut client = Client::connect_unix(&path);
    client.send("GET /hang?ms=20 HTTP/1.1\r\nHost: test\r\n\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_answer().unwrap().status, 200, "half-closed");
    assert_eq!(client.read_to_end().unwrap(), b"");
}

#[test]
fn a_unix_socket_and_a_tcp_port_are_served_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let unix = format!("unix:{}", path.display());
    let server = Server::start(Program::Faulty, &["--listen", &unix, "--workers", "1"]);
    let worker = server.listening()[0].1;
    for _ in 0..10 {
        assert_eq!(Client::connect_unix(&path).get("/pid").pid(), worker);
        assert_eq!(server.get("/pid").pid(), worker);
    }
}

#[test]
fn a_stale_socket_file_is_replaced_and_the_servers_own_is_removed_on_a_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    leave_dead_socket(&path);
    assert!(path.exists(), "left behind");
    let mut server = start(&path, &["--workers", "1"]);
    assert_eq!(Client::connect_unix(&path).get("/pid").status, 200);
    server.signal("TERM");
    assert!(server.wait_exit().success());
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_in_use_or_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, file) = (directory.path().join("s"), directory.path().join("f"));
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::write(&file, "somebody's").unwrap();
    for path in [&socket, &file] {
        let listen = format!("unix:{}", path.display());
        let output = Program::Faulty.command(&["--listen", &listen]).output().unwrap();
        assert!(!output.status.success(), "{listen}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&listen), "{output:?}");
    }
    assert!(UnixStream::connect(&socket).is_ok());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "somebody's");
    drop(listener);
}

#[test]
fn the_socket_file_has_the_permissions_of_unix_mode() {
    let directory = tempfile::tempdir().unwrap();
    for mode in ["0600", "0660", "0777"] {
        let path = directory.path().join(mode);
        let _server = start(&path, &["--workers", "1", "--unix-mode", mode]);
        let metadata = std::fs::metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(format!("{:04o}", metadata.mode() & 0o7777), mode);
    }
}

/// The first answers do not fit into the socket; requests that arrive before the worker knows that are kept, and must
/// be answered when there is room again, although nothing more arrives. How much fits is the kernel's affair, so every
/// filling is tried.
#[test]
fn requests_that_arrive_while_an_answer_is_stuck_are_answered_when_it_is_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let _server = start(&path, &["--workers", "1"]);
    for filled in 0..14 {
        let mut stuck = Client::connect_unix(&path);
        // piece by piece, so that nothing is stuck before it is full
        for _ in 0..filled {
            stuck.send(LARGE);
            assert_eq!(Client::connect_unix(&path).get("/pid").status, 200, "a turn has passed");
        }
        let (mut before, mut second) = (Client::connect_unix(&path), Client::connect_unix(&path));
        assert_eq!(before.get("/pid").status, 200);
        assert_eq!(second.get("/pid").status, 200);
        before.send("GET /block?ms=60 HTTP/1.1\r\nHost: test\r\n\r\n");
        std::thread::sleep(Duration::from_millis(20));
        // these two come in one turn, in this order: the answers wait for the end of the block
        stuck.send(LARGE.repeat(4));
        second.send("GET /block?ms=100 HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(before.read_answer().unwrap().status, 200);
        std::thread::sleep(Duration::from_millis(30));
        stuck.send("GET /pid HTTP/1.1\r\nHost: test\r\n\r\n".repeat(4));
        stuck.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(second.read_answer().unwrap().status, 200);
        for nth in 0..filled + 8 {
            let answer = stuck.read_answer().map(|answer| answer.status).ok();
            assert_eq!(answer, Some(200), "answer {nth} with {filled} before");
        }
        assert_eq!(stuck.read_to_end().unwrap(), b"", "and then the close");
    }
}
