//! A worker that dies, by whatever hand, takes only its own connections with it, and the pool is whole again. Through
//! the real program; the events are read from the master's log.

mod common;

use common::*;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const CLIENTS: usize = 64;
/// Requests that every client completes after the kill, so that the survivors and the replacement are seen to work.
const REQUESTS_AFTER: usize = 50;

/// What happened to one client.
#[derive(Debug, Default)]
struct Fate {
    /// The workers whose connections broke.
    broke_at: Vec<i32>,
    /// Anything that must not be.
    wrong: Vec<String>,
}

#[test]
fn kill_9_of_a_worker_costs_only_its_own_connections() {
    let server = Server::start(Program::Faulty, &["--workers", "2"]);
    let victim = server.listening()[0];
    // one by one, so that they are spread over the workers: a few more if one of these gets no core for a while
    let mut connections: Vec<_> = (0..CLIENTS).map(|_| greet(&server)).collect();
    let of = |connections: &[(Client, i32)]| connections.iter().filter(|(_, pid)| *pid == victim.1).count();
    server.wait("both workers have clients", || {
        let both = (1..connections.len()).contains(&of(&connections));
        if !both {
            connections.push(greet(&server));
        }
        both
    });
    let (all, of_victim) = (connections.len(), of(&connections));
    let (at_work, killed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let fates: Vec<Fate> = thread::scope(|scope| {
        let ends = SetOnDrop(&killed);
        let clients: Vec<_> = connections
            .into_iter()
            .map(|one| {
                let (server, at_work, killed) = (&server, &at_work, &killed);
                scope.spawn(move || work(server, one, at_work, killed))
            })
            .collect();
        server.wait("all clients are at work", || at_work.load(Ordering::Relaxed) == all);
        kill(victim.1, "KILL");
        server.wait_for("exit", |line| line["event"] == "exit" && line["pid"] == victim.1);
        drop(ends);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let broke_at: Vec<i32> = fates.iter().flat_map(|fate| fate.broke_at.clone()).collect();
    assert_eq!(broke_at, vec![victim.1; of_victim], "each client of the victim once, and no other");
    assert!(fates.iter().all(|fate| fate.wrong.is_empty()), "{fates:#?}");
    server.wait_until_whole();
    assert_crashed(&server, victim, "signal 9");
}

#[test]
fn abort_and_exit_in_a_handler_are_reported_with_signal_and_code() {
    let server = Server::start(Program::Faulty, &["--workers", "1"]);
    for (path, status) in [("/abort", "signal 6"), ("/exit", "code 7")] {
        let victim = server.listening()[0];
        let answer = server.connect().try_get(path);
        assert!(answer.is_err(), "{path} died and yet answered {answer:?}");
        assert_crashed(&server, victim, status);
    }
    assert_eq!(server.get("/pid").status, 200);
}

/// Asks on and on; after the kill only so often.
fn work(
    server: &Server,
    (mut connection, mut worker): (Client, i32),
    at_work: &AtomicUsize,
    killed: &AtomicBool,
) -> Fate {
    let mut fate = Fate::default();
    at_work.fetch_add(1, Ordering::Relaxed);
    let mut left = REQUESTS_AFTER;
    while left > 0 {
        left -= usize::from(killed.load(Ordering::Relaxed));
        match connection.try_get("/pid") {
            Ok(answer) if answer.status == 200 && answer.pid() == worker => {}
            Ok(answer) => fate.wrong.push(format!("{answer:?} from worker {worker}")),
            Err(_) => {
                fate.broke_at.push(worker);
                (connection, worker) = greet(server);
            }
        }
    }
    fate
}

/// A new connection and the worker that serves it; refused or unanswered is a failure of the test.
fn greet(server: &Server) -> (Client, i32) {
    let mut connection = server.connect();
    let worker = connection.get("/pid").pid();
    (connection, worker)
}

/// This worker ended as `status` says, uncalled for; what was said of it and of its replacement is in order.
fn assert_crashed(server: &Server, (slot, pid): (u64, i32), status: &str) {
    let place = |name: &str, of: &dyn Fn(&Value) -> bool| {
        server.wait_for_after(0, name, |line| line["event"] == name && line["slot"] == slot && of(line))
    };
    let old = |name: &str| place(name, &|line| line["pid"] == pid);
    let (exit_at, exit) = old("exit");
    let disconnect_at = old("disconnect").0;
    assert!(disconnect_at < exit_at && exit_at < old("close").0, "{:#?}", server.log());
    assert_eq!(
        (&exit["status"], &exit["cause"], &exit["forced"]),
        (&status.into(), &"crash".into(), &false.into())
    );
    let id = exit["id"].as_u64().unwrap();
    let new = |name: &str| place(name, &|line| line["id"].as_u64().unwrap() > id).0;
    let (fork, online, listening) = (new("fork"), new("online"), new("listening"));
    assert!(disconnect_at < fork && fork < online && online < listening, "{:#?}", server.log());
    assert!(server.events("suicide").is_empty(), "nobody asked");
}

/// A log that nobody reads any more must end nobody: neither the master at its next event nor a worker.
#[test]
fn a_log_whose_reader_has_died_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("control.sock");
    let arguments = ["--workers", "2", "--listen", "127.0.0.1:0", "--control", control.to_str().unwrap()];
    let mut master = Group::start(&mut Program::Faulty.command(&arguments));
    drop(master.0.stderr.take());
    let pid = master.pid();
    let eventually = |what: &str, so: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !so() {
            assert!(std::time::Instant::now() < deadline, "not in time: {what}");
            thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    eventually("it can be asked", &|| std::os::unix::net::UnixStream::connect(&control).is_ok());
    let status: Value = serde_json::from_slice(&Client::connect_unix(&control).get("/status").body).unwrap();
    let address = status["listeners"][0].as_str().unwrap().parse().unwrap();
    let answers = || Client::try_connect(address).and_then(|mut client| client.try_get("/pid"));
    eventually("it serves", &|| answers().is_ok());
    for victim in children(pid) {
        kill(victim, "KILL");
        eventually("the pool is whole", &|| children(pid).len() == 2 && !children(pid).contains(&victim));
        eventually("it serves", &|| answers().is_ok());
    }
    let panicked = Client::connect(address).get("/panic");
    assert_eq!(panicked.status, 500, "the panic is logged to nobody as well");
    assert!(master.0.try_wait().unwrap().is_none(), "the master lives");
    kill(pid, "TERM");
    assert_eq!(master.0.wait().unwrap().code(), Some(0));
    eventually("nobody is left", &|| group_members(pid).is_empty());
}
