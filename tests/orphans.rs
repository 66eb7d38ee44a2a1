//! When the master is killed its workers do not stay: they let go of the port at once and are gone within the kill
//! timeout, whatever their handlers do. Through the real program.

mod common;

use common::*;
use std::fs;
use std::net::{SocketAddr, TcpListener};

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
    let start = |address: SocketAddr| {
        let address = address.to_string();
        let own = ["--listen", &address, "--workers", "2", "--kill-timeout", "8s"];
        let server = Server::spawn(&mut Program::Faulty.command(&[&own, arguments].concat()));
        server.wait_until_whole();
        server
    };
    // nobody else takes the port when it is free again
    let mut first = start((own_address(), 0).into());
    let (mut blocked, pid) = first.block(60_000);
    let mut idle: Vec<Client> = (0..8).map(|_| first.connect()).collect();
    kill(first.pid(), "KILL");
    first.wait_exit();

    first.wait("the port is free", || TcpListener::bind(first.address).is_ok());
    assert!(first.processes().contains(&pid), "the blocked one is still there, so its port was in the way");
    let second = start(first.address);
    let (_, new) = second.listening()[0];
    assert!(!first.processes().contains(&new) && second.get("/pid").status == 200);

    // long before its handler returns
    first.wait("no process of the group remains", || first.processes().is_empty());
    assert!(blocked.read_answer().is_err(), "nobody could answer it");
    idle.iter_mut().for_each(|client| drop(client.read_to_end()));
    assert_eq!(second.listening().len(), 2, "the second server is none the worse");
    assert!(second.events("exit").is_empty());
}

#[test]
fn orphans_finish_what_is_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let hooks = directory.path().join("hooks");
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "2", "--kill-timeout", "60s"];
    let mut server = Server::spawn(Program::Faulty.command(&arguments).env("FAULTY_HOOKS", &hooks));
    server.wait_until_whole();
    let mut busy = server.connect();
    let pid = busy.get("/pid").pid();
    busy.send("POST /pid HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\na");
    kill(server.pid(), "KILL");
    server.wait_exit();
    let drains = format!("{pid} before_drain\n");
    server.wait("it drains", || fs::read_to_string(&hooks).is_ok_and(|said| said.contains(&drains)));
    busy.send("b");
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
    server.wait_exit();
    // long before they would have started
    server.wait("no process of the group remains", || server.processes().is_empty());
}
