//! What an operator relies on: signals, pinning, names, users, addresses, variables, and what the log says.

mod common;

use common::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::SystemTime;

/// Sends it to the master and waits until it was read: two pending ones of a kind would be one.
fn signal_and_wait(server: &Server, signal: &str) {
    let seen = server.log().len();
    server.signal(signal);
    let name = format!("SIG{signal}");
    server.wait_for_after(seen, signal, |line| line["signal"] == name.as_str());
}

fn wait_for_workers(server: &Server, count: usize) {
    server.wait("the pool has its size", || {
        server.listening().len() == count && children(server.pid()).len() == count
    });
}

fn allowed_cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap().into_iter().map(|core| core.id).collect()
}

fn address_of(server: &Server) -> Vec<String> {
    let setup = server.wait_for("setup", |line| line["event"] == "setup");
    setup["addresses"].as_str().unwrap().split(' ').map(str::to_owned).collect()
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn sigttin_and_sigttou_add_and_remove_a_worker_but_never_the_last() {
    let server = Server::start(Program::Uringd, &["--workers", "2", "--kill-timeout", "60s"]);
    signal_and_wait(&server, "TTIN");
    wait_for_workers(&server, 3);
    assert_eq!(server.listening().iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [0, 1, 2]);
    let (slot, pid) = server.listening()[2];
    signal_and_wait(&server, "TTOU");
    let exit =
        server.wait_for("the removed one's exit", |line| line["event"] == "exit" && line["pid"] == pid);
    assert_eq!((exit["cause"].as_str(), exit["status"].as_str()), (Some("scale"), Some("code 0")));
    assert_eq!(exit["slot"], slot);
    for _ in 0..3 {
        signal_and_wait(&server, "TTOU");
    }
    wait_for_workers(&server, 1);
    let last = server.listening()[0].1;
    assert_eq!(server.get("/").pid(), last);
    // from one it goes up to two: the surplus requests were not remembered
    signal_and_wait(&server, "TTIN");
    wait_for_workers(&server, 2);
    assert_eq!(server.listening()[0].1, last);
    assert_eq!(server.events("exit").len(), 2);
}

#[test]
fn sigusr1_and_sigusr2_kill_nobody_and_workers_ignore_what_is_the_masters() {
    let server = Server::start(Program::Uringd, &["--workers", "2"]);
    let before = server.listening();
    for signal in ["USR1", "USR2"] {
        signal_and_wait(&server, signal);
    }
    for (_, pid) in &before {
        ["USR1", "USR2", "HUP", "INT", "QUIT", "TTIN", "TTOU"].iter().for_each(|signal| kill(*pid, signal));
    }
    let expected: BTreeSet<i32> = before.iter().map(|(_, pid)| *pid).collect();
    server.wait("both answer", || {
        (0..20).map(|_| server.get("/").pid()).collect::<BTreeSet<i32>>() == expected
    });
    assert_eq!(server.listening(), before);
    assert_eq!(server.events("exit").len(), 0);
}

#[test]
fn more_workers_than_cores_use_the_cores_round_robin() {
    let cores = allowed_cores();
    let list = &cores[..cores.len().min(2)];
    let typed: Vec<String> = list.iter().map(usize::to_string).collect();
    let server = Server::start(Program::Uringd, &["--workers", "4", "--pin", &typed.join(",")]);
    for (slot, pid) in server.listening() {
        let core = &typed[slot as usize % typed.len()];
        assert_eq!(status_field(pid, "Cpus_allowed_list").as_ref(), Some(core), "slot {slot}");
        let line = server.wait_for("listening", |line| line["event"] == "listening" && line["pid"] == pid);
        assert_eq!(line["core"].as_str(), Some(core.as_str()));
    }
}

#[test]
fn pin_off_leaves_every_core_and_pin_with_a_core_gives_that_one() {
    let own = status_field(std::process::id() as i32, "Cpus_allowed_list");
    let last = allowed_cores().pop().unwrap().to_string();
    for (pin, expected) in [("off", own), (last.as_str(), Some(last.clone()))] {
        let server = Server::start(Program::Uringd, &["--workers", "2", "--pin", pin]);
        for (_, pid) in server.listening() {
            assert_eq!(status_field(pid, "Cpus_allowed_list"), expected, "--pin {pin}");
        }
        assert_eq!(server.get("/").status, 200);
    }
}

#[test]
fn processes_are_named_for_ps_and_top() {
    let server = Server::start(Program::Uringd, &["--workers", "2"]);
    let names = |pid: i32| {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        (read("cmdline").trim_end_matches('\0').to_owned(), read("comm").trim_end().to_owned())
    };
    let (title, comm) = names(server.pid());
    assert!(title.starts_with("uringd: master --log-format json"), "{title:?}");
    assert_eq!(comm, "uringd-master");
    for (slot, pid) in server.listening() {
        assert_eq!(names(pid), (format!("uringd: worker {slot}"), format!("uringd-w{slot}")));
    }
}

#[test]
fn the_pid_file_is_written_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("uringd.pid");
    let mut server =
        Server::start(Program::Uringd, &["--workers", "1", "--pid-file", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", server.pid()));
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left of it");
}

#[test]
fn workers_become_the_user_and_the_master_stays_root() {
    if !is_root() {
        return skip("only root can switch users");
    }
    let ids = |flags: &[&str]| {
        let output = Command::new("id").args(flags).output().unwrap();
        let mut ids: Vec<u32> = String::from_utf8(output.stdout)
            .unwrap()
            .split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect();
        ids.sort_unstable();
        ids
    };
    let daemon: Vec<u32> = fs::read_to_string("/etc/group")
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("daemon:x:")?.split(':').next()?.parse().ok())
        .collect();
    let (nobody, group, groups) = (ids(&["-u", "nobody"]), ids(&["-g", "nobody"]), ids(&["-G", "nobody"]));
    let table = [("nobody", group, groups), ("nobody:daemon", daemon.clone(), daemon)];
    for (user, group, groups) in table {
        let server = Server::start(Program::Faulty, &["--workers", "2", "--user", user]);
        let field = |pid, name| {
            let text = status_field(pid, name).unwrap();
            text.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>()
        };
        let check = |pid| {
            assert_eq!(field(pid, "Uid"), nobody.repeat(4), "{user}");
            assert_eq!(field(pid, "Gid"), group.repeat(4), "{user}");
            let mut own = field(pid, "Groups");
            own.sort_unstable();
            assert_eq!(own, groups, "{user}");
        };
        server.listening().iter().for_each(|(_, pid)| check(*pid));
        assert_eq!(field(server.pid(), "Uid"), [0; 4]);
        // a worker that cannot touch its parent any more still reaches it: the suicide is heard and answered
        assert_eq!(server.get("/panic").status, 500);
        server.wait_for("the exit", |line| line["event"] == "exit" && line["cause"] == "suicide");
        wait_for_workers(&server, 2);
        server.listening().iter().for_each(|(_, pid)| check(*pid));
        assert_eq!(server.get("/pid").status, 200);
    }
}

#[test]
fn workers_under_another_user_die_with_their_master() {
    if !is_root() {
        return skip("only root can switch users");
    }
    let mut server = Server::start(Program::Uringd, &["--workers", "2", "--user", "nobody"]);
    server.signal("KILL");
    server.wait_exit();
    server.wait_gone();
}

#[test]
fn each_event_is_one_json_line_with_slot_pid_status_cause_and_time() {
    let mut server = Server::start(Program::Uringd, &["--workers", "2"]);
    let (slot, pid) = server.listening()[1];
    let before = SystemTime::now();
    kill(pid, "KILL");
    let exit = server.wait_for("the exit", |line| line["event"] == "exit");
    let keys = ["slot", "pid", "status", "cause", "forced", "level"];
    let expected = [slot.into(), pid.into(), "signal 9".into(), "crash".into(), false.into(), "WARN".into()];
    assert_eq!(keys.map(|key| exit[key].clone()), expected as [Value; 6]);
    let late = time_of(&exit).duration_since(before).expect("after it was killed");
    assert!(late < PATIENCE, "{late:?}");
    wait_for_workers(&server, 2);
    server.signal("HUP");
    server.wait_for("the roll", |line| line["stage"] == "done");
    server.signal("TERM");
    server.wait_exit();
    server.wait_gone();
    for line in server.log() {
        let complete = line["timestamp"].is_string() && line["level"].is_string();
        assert!(line.is_object() && complete, "{line}");
    }
    // a life, from start to end, with nothing missing
    let life: Vec<String> = server
        .log()
        .iter()
        .filter(|line| line["pid"] == pid)
        .filter_map(|line| Some(line["event"].as_str()?.to_owned()))
        .collect();
    assert_eq!(life, ["fork", "online", "listening", "disconnect", "exit", "close"]);
}

#[test]
fn in_text_format_the_start_names_address_kernel_features_and_one_line_per_worker() {
    let cores = allowed_cores();
    let core = cores[0].to_string();
    let mut command = bare_command(&Program::Uringd.path());
    command.args(["--listen", "127.0.0.1:0", "--workers", "2", "--pin", &core]);
    let mut server = Server::launch(&mut command);
    let find = |words: &[&str]| {
        let line = server.wait_for(&words.join(" "), |line| {
            line.as_str().is_some_and(|line| words.iter().all(|word| line.contains(word)))
        });
        line.as_str().unwrap().to_owned()
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    find(&["INFO io_uring", kernel.trim(), "using=", "DEFER_TASKRUN", "missing="]);
    let setup = find(&["event=\"setup\"", "workers=2"]);
    let address = setup.split("addresses=\"").nth(1).unwrap().split('"').next().unwrap();
    server.wait("two workers", || children(server.pid()).len() == 2);
    for (slot, pid) in children(server.pid()).iter().enumerate() {
        let (slot, pid, core) = (format!("slot={slot} "), format!("pid={pid} "), format!("core=\"{core}\""));
        find(&["event=\"listening\"", &slot, &pid, &core]);
    }
    let address: SocketAddr = address.parse().unwrap();
    let pid = Client::connect(address).get_and_close("/").pid();
    kill(pid, "KILL");
    find(&["WARN", "event=\"exit\"", &format!("pid={pid} "), "status=\"signal 9\"", "cause=\"crash\""]);
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
    for line in server.log() {
        let line = line.as_str().expect("text").to_owned();
        let (time, _) = line.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "every line is a log line: {line}");
        assert!(!line.contains('\u{1b}'), "no colours into a pipe: {line}");
    }
}

#[test]
fn variables_set_every_option_and_a_flag_wins() {
    let taken = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let mut command = bare_command(&Program::Uringd.path());
    let variables =
        [("LISTEN", "127.0.0.1:0"), ("WORKERS", "1"), ("LOG_FORMAT", "json"), ("LOG_LEVEL", "debug")];
    command.envs(variables.map(|(name, value)| (format!("URINGD_{name}"), value)));
    let server = Server::spawn(&mut command);
    server.wait_until_whole();
    assert_eq!(address_of(&server), [server.address.to_string()]);
    assert_eq!(server.listening().len(), 1);
    assert_eq!(server.get("/").status, 200);
    assert_eq!(server.events("fork").len(), 1, "and the level");

    let arguments = ["--port", "0", "--workers", "2", "--listen", "127.0.0.1:0"];
    let mut command = Program::Uringd.command(&arguments);
    command.env("URINGD_PORT", &taken).env("URINGD_WORKERS", "1").env("URINGD_LISTEN", "192.0.2.1:1");
    command.env("URINGD_LOG_FORMAT", "text");
    let server = Server::spawn(&mut command);
    server.wait_until_whole();
    assert_eq!((server.listening().len(), address_of(&server).len()), (2, 2));
}

#[test]
fn a_port_answers_on_both_families() {
    if !has_ipv6() {
        return skip("there is no IPv6 here");
    }
    let server = Server::spawn(&mut Program::Uringd.command(&["--port", "0", "--workers", "1"]));
    assert!(server.address.ip().is_unspecified() && server.port() != 0, "{}", server.address);
    for host in ["127.0.0.1", "[::1]"] {
        let address: SocketAddr = format!("{host}:{}", server.port()).parse().unwrap();
        assert_eq!(Client::connect(address).get_and_close("/").status, 200, "{host}");
    }
}

#[test]
fn listen_replaces_the_default_port_and_both_are_bound_with_both() {
    let server = Server::start(Program::Uringd, &["--workers", "1", "--listen", "127.0.0.1:0,127.0.0.1:0"]);
    let addresses = address_of(&server);
    assert_eq!(addresses.len(), 3, "what is listed and nothing else: {addresses:?}");
    let server = Server::start(Program::Uringd, &["--workers", "2", "--port", "0"]);
    let addresses = address_of(&server);
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for address in addresses {
        let address: SocketAddr = address.parse().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
        assert_eq!(Client::connect(address).get_and_close("/").status, 200, "{address}");
    }
}
