//! In a container: uringd is PID 1, to which every orphan comes and for which no signal has a default. Through the real
//! program in a PID namespace of its own.

mod common;

use common::*;
use std::process::Command;

const UNSHARE: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// Starts the program as PID 1 of a new namespace, two workers on a port of the kernel's choice; `None` where that is
/// not allowed.
fn as_pid_1(program: Program, arguments: &[&str]) -> Option<Container> {
    if !Command::new(UNSHARE[0]).args(&UNSHARE[1..]).arg("true").status().is_ok_and(|status| status.success())
    {
        skip("PID namespaces are not allowed here");
        return None;
    }
    let inner = program.command(&[&["--listen", "127.0.0.1:0", "--workers", "2"], arguments].concat());
    let server = Server::spawn(&mut through(&UNSHARE, &inner));
    server.wait_until_whole();
    let [master] = children(server.pid())[..] else { panic!("one child of unshare") };
    assert_eq!(status_field(master, "NSpid").unwrap().split_whitespace().last(), Some("1"));
    Some(Container { server, master })
}

struct Container {
    /// Its process is unshare, which ends as the master does; process IDs in its log are those inside.
    server: Server,
    /// The master's process ID outside.
    master: i32,
}

impl Container {
    /// Has an orphan made, and gives its process ID inside.
    fn orphan(&self) -> i64 {
        let answer = self.server.get("/orphan");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().parse().expect("a process ID")
    }

    fn wait_reaped(&self, orphan: i64) {
        self.server.wait_for("the orphan is reaped", |line| {
            line["message"] == "orphan reaped" && line["pid"] == orphan
        });
    }
}

fn zombies(parent: i32) -> Vec<i32> {
    let dead = |pid: &i32| status_field(*pid, "State").is_some_and(|state| state.starts_with('Z'));
    children(parent).into_iter().filter(dead).collect()
}

// ---- PID 1 ----

#[test]
fn as_pid_1_it_reaps_what_its_workers_leave_behind_and_nothing_else() {
    let Some(container) = as_pid_1(Program::Faulty, &[]) else { return };
    let Container { server, master } = &container;
    for round in 1..=3 {
        let orphans: Vec<i64> = (0..5).map(|_| container.orphan()).collect();
        // a worker that ends meanwhile is not an orphan: its end is told as it was
        let victim = children(*master)[0];
        kill(victim, "KILL");
        server.wait("its end is known", || server.events("exit").len() == round);
        orphans.into_iter().for_each(|orphan| container.wait_reaped(orphan));
        server.wait("two workers again", || server.listening().len() == 2);
    }
    assert!(
        server.events("exit").iter().all(|exit| exit["status"] == "signal 9"),
        "{:#?}",
        server.events("exit")
    );
    server.wait("no zombie is left", || zombies(*master).is_empty());
    assert_eq!(children(*master).len(), 2, "the workers");
}

#[test]
fn as_pid_1_it_obeys_the_signals_that_stop_a_container() {
    for signal in ["TERM", "INT", "QUIT"] {
        let Some(Container { mut server, master }) = as_pid_1(Program::Faulty, &[]) else { return };
        let mut client = server.connect();
        client.send("GET /hang?ms=300 HTTP/1.1\r\nHost: test\r\n\r\n");
        server.wait("the request has arrived", || held_sockets(server.port()) > 0);
        kill(master, signal);
        assert_eq!(client.read_answer().expect("the request is finished").status, 200);
        drop(client);
        assert_eq!(server.wait_exit().code(), Some(0), "SIG{signal}");
        server.wait_gone();
    }
}

#[test]
fn as_pid_1_it_rolls_and_scales_as_anywhere() {
    let Some(Container { server, master }) = as_pid_1(Program::Uringd, &[]) else { return };
    kill(master, "HUP");
    server.wait_for("the roll", |line| line["event"] == "reload" && line["stage"] == "done");
    kill(master, "TTIN");
    server.wait("a third worker", || server.listening().len() == 3);
    assert_eq!(server.get("/").status, 200);
    server.wait("no zombie is left", || zombies(master).is_empty());
}

#[test]
fn a_subreaper_reaps_as_pid_1_does() {
    const BECOME: &str =
        "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])";
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skip("needs python3");
    }
    let inner = Program::Faulty.command(&["--listen", "127.0.0.1:0", "--workers", "1"]);
    let server = Server::spawn(&mut through(&["python3", "-c", BECOME], &inner));
    server.wait_until_whole();
    let container = Container { master: server.pid(), server };
    container.wait_reaped(container.orphan());
    container.server.wait("no zombie is left", || zombies(container.master).is_empty());
}
