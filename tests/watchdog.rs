//! Three limits: a worker that does not come up, one that stands still, one that does not leave. Each has its own, whoever
//! stands still is replaced and what it was at is known, and time in which nobody ran counts for nobody.

mod common;

use common::*;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Time after which a worker has stalled here, and far more than one that is only kept waiting for a core needs.
const STALL: &str = "3s";

fn stalled(server: &Server, pid: i32) -> Value {
    server.wait_for("stalled", |line| line["event"] == "stalled" && line["pid"] == pid)
}

fn exit(server: &Server, pid: i32) -> Value {
    server.wait_for("exit", |line| line["event"] == "exit" && line["pid"] == pid)
}

/// One worker that is stopped, and clients of all the others, for whom nothing changes.
#[test]
fn a_stopped_worker_is_replaced_and_its_siblings_clients_notice_nothing() {
    let server = Server::start(Program::Faulty, &["--workers", "2", "--stall-timeout", STALL]);
    let (mut kept, mut other) = (server.connect(), server.connect());
    let victim = kept.get("/pid").pid();
    server.wait("another worker answers", || {
        other = server.connect();
        other.get("/pid").pid() != victim
    });
    server.stop(victim);
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _ends = SetOnDrop(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(other.get("/pid").status, 200);
                assert_eq!(server.get("/pid").status, 200);
                answered.fetch_add(2, Ordering::Relaxed);
            }
        });
        let evidence = stalled(&server, victim);
        assert!(evidence["state"].as_str().unwrap().starts_with('T'), "{evidence}");
        // it has nothing to do, and may have been about to find that out
        assert!(["waiting", "turning"].contains(&evidence["phase"].as_str().unwrap()), "{evidence}");
        assert_eq!((&evidence["level"], evidence.get("request")), (&"ERROR".into(), None));
        assert!(evidence["stalled_ms"].as_u64().unwrap() >= 3_000, "{evidence}");
        let end = exit(&server, victim);
        assert_eq!((&end["cause"], &end["status"]), (&"stall".into(), &"signal 9".into()));
        server.wait("the pool is whole", || server.listening().len() == 2);
        server.wait("many are answered", || answered.load(Ordering::Relaxed) > 100);
    });
    assert!(kept.try_get("/pid").is_err(), "it was cut off with its worker");
    assert_eq!(server.events("stalled").len(), 1);
}

#[test]
fn a_handler_that_blocks_is_named_with_its_request_and_for_how_long_it_has_had_it() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events");
    let mut command = Program::Faulty.command(&[
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "5",
        "--stall-timeout",
        STALL,
        "--restart-limit",
        "100",
    ]);
    let server = Server::spawn(command.env("FAULTY_EVENTS", &events));
    let long = format!("/block?ms=60000&{}", "x".repeat(200));
    let cut = format!("GET {}...", &long[..120]);
    let table = [
        (
            "GET /block?ms=60000&a=%22b%22 HTTP/1.1\r\nHost: test\r\n\r\n",
            "handling",
            "GET /block?ms=60000&a=%22b%22",
        ),
        (
            "PUT /block-admission HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n",
            "admitting",
            "PUT /block-admission",
        ),
        ("GET /block-later?ms=1 HTTP/1.1\r\nHost: test\r\n\r\n", "polling", "GET /block-later?ms=1"),
        (&format!("GET {long} HTTP/1.1\r\nHost: test\r\n\r\n"), "handling", &cut),
    ];
    server.wait_until_whole();
    let blocked = table.map(|(request, phase, line)| {
        let mut client = server.connect();
        let pid = client.get("/pid").pid();
        let start = Instant::now();
        client.send(request);
        server.wait_until_blocked(pid);
        (client, pid, start, phase, line)
    });
    for (_client, pid, start, phase, line) in blocked {
        let evidence = stalled(&server, pid);
        let at_most = start.elapsed().as_millis() as u64;
        assert_eq!((&evidence["phase"], &evidence["request"]), (&phase.into(), &line.into()), "{evidence}");
        // it has had the request when it was seen to move last
        let [age, stalled] = ["request_age_ms", "stalled_ms"].map(|field| evidence[field].as_u64().unwrap());
        assert!((stalled..=at_most).contains(&age), "{evidence} after {at_most} ms");
        assert!(evidence["state"].as_str().unwrap().starts_with('S'), "{evidence}");
        if is_root() {
            assert!(evidence["wchan"].as_str().unwrap().contains("nanosleep"), "{evidence}");
            assert!(evidence["stack"].as_str().unwrap().contains(" < "), "{evidence}");
        }
        assert_eq!(exit(&server, pid)["cause"], "stall");
        // the program is told the same, as a value
        let told = fs::read_to_string(&events).unwrap();
        let mut told = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let is_it = |event: &Value| event["event"] == "stalled" && event["worker"]["pid"] == pid;
        let told = told.find(is_it).expect("the event");
        for field in ["phase", "request", "request_age_ms", "state"] {
            assert_eq!(told["evidence"][field], evidence[field], "{told}");
        }
    }
}

/// As in most containers: the workers are somebody else, and the master may not trace them.
#[test]
fn a_master_that_may_not_look_into_its_workers_knows_their_request_all_the_same() {
    if !is_root() {
        return skip("it takes root to become somebody else");
    }
    let faulty = Program::Faulty.command(&["--listen", "127.0.0.1:0", "--workers", "1", "--user", "nobody"]);
    let mut command = bare_command(Path::new("setpriv"));
    command.args(["--bounding-set", "-sys_ptrace,-sys_admin", "--inh-caps", "-sys_ptrace,-sys_admin"]);
    command.arg(faulty.get_program()).args(faulty.get_args()).args(["--stall-timeout", STALL]);
    let server = Server::spawn(&mut command);
    server.wait_until_whole();
    let mut client = server.connect();
    let pid = client.get("/pid").pid();
    client.send("GET /block?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n");
    let evidence = stalled(&server, pid);
    assert_eq!(evidence["request"], "GET /block?ms=60000", "{evidence}");
    assert!(evidence["state"].as_str().unwrap().starts_with('S'), "{evidence}");
    for hidden in ["wchan", "syscall", "stack"] {
        assert_eq!(evidence.get(hidden), None, "{evidence}");
    }
}

/// A worker that can take nobody more has nothing to wake up for.
#[test]
fn a_worker_that_is_full_goes_round() {
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("stats");
    let arguments = ["--workers", "1", "--stall-timeout", STALL, "--max-connections", "1"];
    let mut command = Program::Faulty.command(&[&["--listen", "127.0.0.1:0"], &arguments[..]].concat());
    let server = Server::spawn(command.env("FAULTY_STATS", &stats));
    server.wait_until_whole();
    let mut only = server.connect();
    only.get("/pid");
    let turns = || {
        let text = fs::read_to_string(&stats).unwrap_or_default();
        // the last line may be half written
        let last = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
        last.map_or(0, |line| line["turns"].as_u64().unwrap())
    };
    let before = turns();
    // at 50 ms each more than would be a stall
    server.wait("it goes round", || turns() >= before + 80);
    assert!(server.events("stalled").is_empty());
}

#[test]
fn a_worker_that_is_traced_is_left_alone_as_long_as_it_is() {
    if !Path::new("/usr/bin/strace").exists() {
        return skip("there is no `strace` here");
    }
    let server = Server::start(Program::Faulty, &["--workers", "2", "--stall-timeout", STALL]);
    let mut client = server.connect();
    let pid = client.get("/pid").pid();
    let sibling = server.listening().into_iter().find(|(_, other)| *other != pid).unwrap().1;
    let mut strace = Command::new("/usr/bin/strace");
    let mut strace = strace.args(["-qq", "-o", "/dev/null", "-p", &pid.to_string()]).spawn().unwrap();
    let tracer = strace.id();
    server.wait("it is traced, or may not be", || {
        status_field(pid, "TracerPid") == Some(tracer.to_string()) || strace.try_wait().unwrap().is_some()
    });
    if strace.try_wait().unwrap().is_some() {
        return skip("nobody may be traced here");
    }
    client.send("GET /block?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n");
    let left = |line: &Value| line["tracer"] == tracer && line["pid"] == pid;
    assert_eq!(server.wait_for("it is left alone", left)["level"], "WARN");
    // the master has looked at it several times more when its sibling, stopped later, is replaced
    kill(sibling, "STOP");
    assert_eq!(exit(&server, sibling)["cause"], "stall");
    assert!(server.events("stalled").iter().all(|line| line["pid"] == sibling));
    assert_eq!(server.log().iter().filter(|line| left(line)).count(), 1, "said once");
    strace.kill().unwrap();
    strace.wait().unwrap();
    stalled(&server, pid);
    assert_eq!(exit(&server, pid)["cause"], "stall");
}

/// Each request takes less than the limit, all that came in one turn together far more.
#[test]
fn a_worker_that_goes_from_one_slow_request_to_the_next_is_left_alone() {
    let server = Server::start(Program::Faulty, &["--workers", "1", "--stall-timeout", STALL]);
    let mut client = server.connect();
    let pid = client.get("/pid").pid();
    client.send("GET /block?ms=900 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(8));
    for _ in 0..8 {
        assert_eq!(client.read_answer().expect("an answer").pid(), pid);
    }
    assert!(server.events("stalled").is_empty());
}

#[test]
fn a_worker_that_drains_has_the_kill_timeout_and_one_that_boots_the_boot_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let [hangs, waits] = ["hangs", "waits"].map(|name| folder.path().join(name));
    let limits = ["--stall-timeout", STALL, "--kill-timeout", "7s", "--boot-timeout", "7s"];
    let mut command =
        Program::Faulty.command(&[&["--listen", "127.0.0.1:0", "--workers", "1"], &limits[..]].concat());
    let server = Server::spawn(command.env("FAULTY_BOOT_HANG", &hangs));
    server.wait_until_whole();
    let pid = server.listening()[0].1;
    let mut client = server.connect();
    // so that it is accepted, and the drain has to wait for it
    assert_eq!(client.get("/pid").pid(), pid);
    fs::write(&waits, "").unwrap();
    let target = format!("/block-later?while={}", waits.display());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
    server.signal("HUP");
    server.wait_for("drain", |line| line["message"] == "drain sent" && line["pid"] == pid);
    // it stands still only now that it drains
    fs::remove_file(&waits).unwrap();
    assert_eq!(exit(&server, pid)["cause"], "kill-timeout");
    let late = |limit: &'static str| {
        move |line: &Value| line["limit"] == limit && line["message"] == "worker is late and is killed"
    };
    let why = server.wait_for("what it was at", late("kill-timeout"));
    let doing = (&why["pid"], &why["phase"], &why["request"]);
    assert_eq!(doing, (&pid.into(), &"polling".into(), &format!("GET {target}").into()));
    assert!(server.events("stalled").is_empty());
    fs::write(&hangs, "").unwrap();
    let forks = server.events("fork").len();
    server.signal("HUP");
    server.wait("it hangs", || server.events("fork").len() > forks);
    let boots = server.events("fork").pop().unwrap()["pid"].as_i64().unwrap() as i32;
    assert_eq!(exit(&server, boots)["cause"], "boot-timeout");
    let why = server.wait_for("what it was at", late("boot-timeout"));
    assert_eq!((&why["pid"], &why["phase"]), (&boots.into(), &"starting".into()));
    assert!(server.events("stalled").is_empty());
}

#[test]
fn a_worker_that_nobody_can_replace_is_told_of_once_and_left() {
    let arguments = ["--workers", "2", "--stall-timeout", STALL, "--restart-limit", "0"];
    let server = Server::start(Program::Faulty, &arguments);
    let mut kept = server.connect();
    let victim = kept.get("/pid").pid();
    kill(victim, "STOP");
    stalled(&server, victim);
    server.wait_for("giveup", |line| line["event"] == "giveup");
    let left = |line: &Value| line["event"] == "error" && line["pid"] == victim;
    let why = server.wait_for("what becomes of it", left);
    assert!(why["problem"].as_str().unwrap().contains("restarts are throttled"), "{why}");
    // the master has looked at it several times more when its other worker, stopped later, is told of
    let sibling = server.listening().into_iter().find(|(_, pid)| *pid != victim).unwrap().1;
    kill(sibling, "STOP");
    stalled(&server, sibling);
    assert_eq!((server.events("stalled").len(), server.events("fork").len()), (2, 2));
    for pid in [victim, sibling] {
        kill(pid, "CONT");
        server.wait_for("it goes on", |line| line["message"] == "worker goes on" && line["pid"] == pid);
    }
    assert_eq!(kept.get("/pid").pid(), victim);
    assert!(server.events("exit").is_empty());
}

/// Stops everybody for so long, in the worst order: the master has seen its workers stand still when it is stopped itself,
/// and goes on some time before they do.
fn suspend(server: &Server, time: Duration) {
    let workers = children(server.pid());
    workers.iter().for_each(|worker| server.stop(*worker));
    // it looks once a second, and none of the limits is over yet
    thread::sleep(Duration::from_millis(1_200));
    server.stop(server.pid());
    thread::sleep(time);
    let after = server.log().len();
    kill(server.pid(), "CONT");
    let noticed = |line: &Value| line.to_string().contains("the master was held up");
    server.wait_for_after(after, "the master notices", noticed);
    thread::sleep(Duration::from_millis(300));
    workers.iter().for_each(|worker| kill(*worker, "CONT"));
}

#[test]
fn a_suspended_machine_kills_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let [boot_hangs, hangs] = ["boot", "request"].map(|name| folder.path().join(name));
    let limits = ["--stall-timeout", "6s", "--kill-timeout", "6s", "--boot-timeout", "6s"];
    let mut command =
        Program::Faulty.command(&[&["--listen", "127.0.0.1:0", "--workers", "3"], &limits[..]].concat());
    let server = Server::spawn(command.env("FAULTY_BOOT_HANG", &boot_hangs));
    server.wait_until_whole();
    let before = server.listening();
    let mut busy = server.connect();
    let drainer = busy.get("/pid").pid();
    let mut idle = server.connect();
    server.wait("another worker answers", || {
        idle = server.connect();
        idle.get("/pid").pid() != drainer
    });
    let kept = idle.get("/pid").pid();
    // one drains, and has a request under way ...
    fs::write(&hangs, "").unwrap();
    busy.send(format!("GET /hang?while={} HTTP/1.1\r\nHost: test\r\n\r\n", hangs.display()));
    kill(drainer, "TERM");
    server.wait_for("drain", |line| line["message"] == "drain sent" && line["pid"] == drainer);
    // ... one boots, and one serves
    fs::write(&boot_hangs, "").unwrap();
    let booting = server.listening().into_iter().find(|(_, pid)| !before.iter().any(|old| old.1 == *pid));
    let booting = booting.expect("the drainer's replacement").1;
    kill(booting, "KILL");
    // who is dead cannot be stopped
    exit(&server, booting);
    server.wait("another one boots", || server.events("fork").len() == 5);
    suspend(&server, Duration::from_secs(8));
    [boot_hangs, hangs].iter().for_each(|file| fs::remove_file(file).unwrap());
    let answer = busy.read_answer().expect("the answer that was under way");
    assert_eq!((answer.pid(), answer.closes()), (drainer, true));
    let end = exit(&server, drainer);
    assert_eq!((&end["cause"], &end["forced"]), (&"suicide".into(), &false.into()), "{end}");
    server.wait("the pool is whole", || server.listening().len() == 3);
    assert_eq!(idle.get("/pid").pid(), kept);
    let causes: Vec<Value> = server.events("exit").iter().map(|line| line["cause"].clone()).collect();
    assert_eq!((causes.len(), server.events("stalled").len()), (2, 0), "{causes:?}");
    assert_eq!(server.events("fork").len(), 5, "nobody was started for it");
}

/// Once a machine goes on, what its clients have sent meanwhile is looked at before their time is.
#[test]
fn clients_of_a_suspended_worker_are_answered_when_it_goes_on() {
    are_answered_after(|server, pid| {
        server.stop(pid);
        thread::sleep(LONGER);
        Box::new(move || kill(pid, "CONT"))
    });
}

/// It is not they who are late.
#[test]
fn clients_of_a_worker_whose_program_blocks_are_answered_when_it_goes_on() {
    are_answered_after(|server, pid| {
        let folder = tempfile::tempdir().unwrap();
        let (mut blocked, blocks) = server.block_while(&folder.path().join("blocks"));
        assert_eq!(blocks, pid);
        thread::sleep(LONGER);
        Box::new(move || {
            drop(folder);
            assert_eq!(blocked.read_answer().unwrap().pid(), pid);
        })
    });
}

/// Than the limits that clients have here.
const LONGER: Duration = Duration::from_secs(7);

/// `hold` has the only worker stand still, and gives what ends that.
fn are_answered_after(hold: impl FnOnce(&Server, i32) -> Box<dyn FnOnce()>) {
    const CLIENTS: usize = 120;
    let limits = ["--keep-alive-timeout", "6s", "--header-timeout", "6s", "--body-timeout", "6s"];
    let server = Server::start(Program::Faulty, &[&["--workers", "1"], &limits[..]].concat());
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        match number % 3 {
            0 => drop(client.get("/pid")),
            1 => client.send("GET /pid HT"),
            _ => client.send("POST /pid HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n123"),
        }
    }
    let pid = server.get("/pid").pid();
    let go_on = hold(&server, pid);
    for (number, client) in clients.iter_mut().enumerate() {
        match number % 3 {
            0 => client.send("GET /pid HTTP/1.1\r\nHost: test\r\n\r\n"),
            1 => client.send("TP/1.1\r\nHost: test\r\n\r\n"),
            _ => client.send("456789"),
        }
    }
    go_on();
    let answered = clients.iter_mut().filter_map(|client| client.read_answer().ok());
    let served = answered.filter(|answer| answer.status == 200).count();
    assert_eq!(served, CLIENTS, "answered although their time was over");
}
