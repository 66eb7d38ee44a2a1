//! When the master is killed its workers do not stay: they let go of the port at once and are gone within the kill
//! timeout, whatever their handlers do. Through the real program.

mod common;

use common::*;
use std::net::TcpListener;
use std::time::{Duration, Instant};

const KILL_TIMEOUT: Duration = Duration::from_secs(2);
const MARGIN: Duration = Duration::from_secs(4);

#[test]
fn the_orphans_of_a_killed_master_leave_in_time_and_free_the_port_at_once() {
    orphaned(&[]);
}

#[test]
fn orphans_that_run_as_another_user_leave_as_well() {
    if is_root() {
        orphaned(&["--user", "nobody"]);
    } else {
        skip("only root can switch users");
    }
}

fn orphaned(arguments: &[&str]) {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let arguments = [&["--listen", &address, "--workers", "2", "--kill-timeout", "2s"], arguments].concat();
    let start = || {
        let server = Server::spawn(&mut Program::Faulty.command(&arguments));
        server.wait_until_whole();
        server
    };
    let mut first = start();
    let (mut blocked, pid) = first.block(60_000);
    let mut idle: Vec<Client> = (0..8).map(|_| first.connect()).collect();
    kill(first.pid(), "KILL");
    let killed = Instant::now();
    first.wait_exit();

    let second = start();
    assert!(first.processes().contains(&pid), "the blocked one is still there, so its port was in the way");
    let (_, new) = second.listening()[0];
    assert!(!first.processes().contains(&new) && second.get("/pid").status == 200);

    first.wait("no process of the group remains", || first.processes().is_empty());
    let took = killed.elapsed();
    assert!(took < KILL_TIMEOUT + MARGIN, "{took:?}");
    assert!(blocked.read_answer().is_err(), "nobody could answer it");
    idle.iter_mut().for_each(|client| drop(client.read_to_end()));
    assert_eq!(second.listening().len(), 2, "the second server is none the worse");
    assert!(second.events("exit").is_empty());
}

#[test]
fn orphans_finish_what_is_in_flight() {
    let mut server = Server::start(Program::Faulty, &["--workers", "2", "--kill-timeout", "5s"]);
    let mut busy = server.connect();
    let pid = busy.get("/pid").pid();
    busy.send("GET /hang?ms=1000 HTTP/1.1\r\nHost: test\r\n\r\n");
    kill(server.pid(), "KILL");
    server.wait_exit();
    let answer = busy.read_answer().expect("the answer that was under way");
    assert_eq!((answer.status, answer.pid(), answer.closes()), (200, pid, true));
    drop(busy);
    server.wait("no process of the group remains", || server.processes().is_empty());
}

#[test]
fn orphans_that_are_still_starting_leave_as_well() {
    let mut command =
        Program::Faulty.command(&["--listen", "127.0.0.1:0", "--workers", "2", "--kill-timeout", "1s"]);
    let mut server = Server::spawn(command.env("FAULTY_BOOT_MS", "60000"));
    server.wait("both have begun", || server.events("online").len() == 2);
    kill(server.pid(), "KILL");
    let killed = Instant::now();
    server.wait_exit();
    server.wait("no process of the group remains", || server.processes().is_empty());
    assert!(killed.elapsed() < Duration::from_secs(1) + MARGIN, "{:?}", killed.elapsed());
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
