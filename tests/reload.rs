//! A reload reads the configuration again: a good one is in force for everybody, and costs nobody a request; a bad one, or
//! one with which workers do not come up, changes nothing and says why.
#![cfg(feature = "load")]

mod common;

use common::load::Load;
use common::*;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server with a configuration file that can be written anew.
struct Configured {
    server: Server,
    file: PathBuf,
    folder: TempDir,
}

impl Configured {
    fn start(program: Program, text: &str) -> Configured {
        Configured::with(program, text, |_, _| {})
    }

    fn with(program: Program, text: &str, change: impl Fn(&mut Command, &Path)) -> Configured {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("uringd.toml");
        fs::write(&file, text).unwrap();
        let mut command = program.command(&["--config", file.to_str().unwrap()]);
        change(&mut command, folder.path());
        let server = Server::spawn(&mut command);
        server.wait_until_whole();
        Configured { server, file, folder }
    }

    /// Has it read this, and says how that ended.
    fn reload(&self, text: &str) -> Value {
        fs::write(&self.file, text).unwrap();
        let before = self.over().len();
        self.server.signal("HUP");
        self.server.wait("the reload is over", || self.over().len() > before);
        self.over().remove(before)
    }

    fn over(&self) -> Vec<Value> {
        let over = |line: &Value| line["stage"] == "done" || line["stage"] == "failed";
        self.server.events("reload").into_iter().filter(over).collect()
    }

    /// It fails for this reason, and nobody notices.
    #[track_caller]
    fn refuses(&self, text: &str, why: &str) {
        let (pids, answer) = (self.server.listening(), self.server.get("/pid"));
        let over = self.reload(text);
        let problem = over["problem"].as_str().unwrap_or_default();
        assert!(over["stage"] == "failed" && problem.contains(why), "{over}");
        assert_eq!(self.server.listening(), pids);
        let after = self.server.get("/pid");
        assert_eq!(after.header("Server"), answer.header("Server"));
        assert!(pids.iter().any(|(_, pid)| *pid == after.pid()));
    }
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let good = "listen = [\"127.0.0.1:0\"]\nworkers = 2\n";
    let configured = Configured::start(Program::Faulty, good);
    let mut kept = configured.server.connect();
    let first = kept.get("/pid").pid();
    let name = configured.file.display().to_string();
    let table = [
        ("workers = 2\nlisten = [\"127.0.0.1:0\"", format!("{name}:2")),
        ("workers = 2\nlissten = \"127.0.0.1:0\"\n", format!("{name}:2")),
        ("workers = 2\nlissten = \"127.0.0.1:0\"\n", "listen".into()),
        ("workers = \"many\"\n", format!("{name}:1")),
        ("kill-timeout = \"0s\"\n", "at least 1ms".into()),
        ("root = \"/no/such/directory\"\n", "/no/such/directory".into()),
    ];
    for (text, why) in table {
        configured.refuses(text, &why);
    }
    fs::remove_file(&configured.file).unwrap();
    configured.server.signal("HUP");
    configured.server.wait("that there is no file is said", || {
        configured.over().last().is_some_and(|over| over["problem"].to_string().contains("no such file"))
    });
    assert_eq!(kept.get("/pid").pid(), first);
    assert_eq!(configured.reload(good)["stage"], "done", "and a good one is taken again");
}

#[test]
fn a_taken_port_changes_nothing_and_leaves_no_socket_behind() {
    let configured = Configured::start(Program::Faulty, "listen = [\"127.0.0.1:0\"]\nworkers = 2\n");
    let other = TcpListener::bind((own_address(), 0)).unwrap();
    let taken = other.local_addr().unwrap();
    let socket = configured.folder.path().join("new.sock");
    let text =
        |last: &str| format!("listen = [\"127.0.0.1:0\", \"unix:{}\", \"{last}\"]\n", socket.display());
    configured.refuses(&text(&taken.to_string()), &format!("{taken}: another process holds it"));
    assert!(!socket.exists());
    drop(other);
    // what another test starts has a copy of it until it is executed
    configured.server.wait("nobody holds it", || Client::try_connect(taken).is_err());
    assert_eq!(configured.reload(&text(&taken.to_string()))["stage"], "done", "it is free now");
    assert!(socket.exists());
    assert_eq!(Client::connect(taken).get("/pid").status, 200);
}

#[test]
fn workers_that_do_not_come_up_leave_the_old_ones_and_the_old_settings() {
    let text = |more: &str| format!("listen = [\"127.0.0.1:0\"]\nworkers = 2\n{more}");
    let configured = Configured::with(Program::Faulty, &text(""), |command, folder| {
        command.env("FAULTY_BOOT_HANG", folder.join("hangs"));
    });
    let hangs = configured.folder.path().join("hangs");
    fs::write(&hangs, "").unwrap();
    let late = text("boot-timeout = \"100ms\"\nserver-header = false\n");
    configured.refuses(&late, "did not listen within 100ms");
    fs::remove_file(&hangs).unwrap();
    // a worker that is replaced later has the settings of before
    let killed = configured.server.listening()[0];
    kill(killed.1, "KILL");
    configured.server.wait("another one is there", || {
        let listening = configured.server.listening();
        listening.len() == 2 && !listening.contains(&killed)
    });
    assert!(configured.server.get("/pid").header("Server").is_some());
    assert_eq!(configured.reload(&text("server-header = false\n"))["stage"], "done");
    configured.server.wait("the old ones have drained", || configured.server.listening().len() == 2);
    assert!(configured.server.get("/pid").header("Server").is_none());
}

/// The first slot's replacement listens, the second's fails.
#[test]
fn workers_that_have_the_new_settings_go_back_when_others_do_not_come_up() {
    let text = |more: &str| format!("listen = [\"127.0.0.1:0\"]\nworkers = 2\n{more}");
    let configured = Configured::with(Program::Faulty, &text(""), |command, folder| {
        command.env("FAULTY_BOOT_FAILS", folder.join("fails"));
    });
    let server = &configured.server;
    let old = server.listening();
    fs::write(configured.folder.path().join("fails.1"), "not with these settings").unwrap();
    let over = &configured.reload(&text("server-header = false\n"));
    let stage = |stage: &str| server.events("reload").iter().filter(|line| line["stage"] == stage).count();
    assert_eq!((server.events("listening").len(), stage("reverting")), (2 + 2, 1), "there and back");
    let problem = over["problem"].as_str().unwrap();
    assert!(over["stage"] == "failed" && problem.contains("not with these settings"), "{over}");
    assert!(!problem.contains("way back"), "{over}");
    server.wait_until_whole();
    server.wait("who had the new settings has drained", || server.listening().len() == 2);
    let now = server.listening();
    let of = |all: &[(u64, i32)], slot| all.iter().find(|worker| worker.0 == slot).copied().unwrap();
    assert_eq!(of(&now, 1), of(&old, 1), "the second slot's worker was never touched");
    assert_ne!(of(&now, 0), of(&old, 0));
    for _ in 0..20 {
        let answer = server.get("/pid");
        assert!(answer.header("Server").is_some());
        assert!(now.iter().any(|(_, pid)| *pid == answer.pid()) || answer.closes(), "{}", answer.text());
    }
}

#[test]
fn listeners_settings_and_workers_come_and_go() {
    let [first, second, third] = free_addresses();
    let text = |listen: &[SocketAddr], more: &str| {
        let listen: Vec<String> = listen.iter().map(|address| format!("\"{address}\"")).collect();
        format!("listen = [{}]\n{more}", listen.join(", "))
    };
    let patient = "workers = 2\nkill-timeout = \"60s\"\n";
    let configured = Configured::start(Program::Faulty, &text(&[first, second], patient));
    let server = &configured.server;
    let answers = |address: SocketAddr| {
        Client::try_connect(address)
            .is_ok_and(|mut client| client.try_get("/pid").is_ok_and(|answer| answer.status == 200))
    };
    assert!(answers(first) && answers(second) && !answers(third));
    let mut idle = Client::connect(second);
    idle.get("/pid");
    assert_eq!(configured.reload(&text(&[second, third], "workers = 3\n"))["stage"], "done");
    server.wait("its worker drains, and says so", || idle.get("/pid").closes());
    server.wait("there are three workers", || server.listening().len() == 3);
    assert!(answers(second) && answers(third));
    server.wait("the first address is refused", || !answers(first));
    // signals change the number as well, and a reload of the same file leaves it
    server.signal("TTOU");
    server.wait("there are two", || server.listening().len() == 2);
    assert_eq!(configured.reload(&text(&[second, third], "workers = 3\n"))["stage"], "done");
    server.wait("there are two again", || server.listening().len() == 2);
    assert_eq!(configured.reload(&text(&[second, third], "workers = 1\n"))["stage"], "done");
    server.wait("there is one", || server.listening().len() == 1);
    // what only a start can change is said
    let fixed = format!("workers = 1\npid-file = \"{}\"\n", configured.folder.path().join("pid").display());
    assert_eq!(configured.reload(&text(&[second, third], &fixed))["stage"], "done");
    let said = |line: &Value| line["message"].to_string().contains("--pid-file has changed");
    assert!(server.log().iter().any(said));
}

/// That are free and stay so.
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let all = [(); N].map(|()| TcpListener::bind((own_address(), 0)).unwrap());
    all.map(|listener| listener.local_addr().unwrap())
}

#[test]
fn fifty_reloads_cost_nobody_a_request() {
    const RELOADS: usize = 50;
    // no client that only has to wait for a core loses a connection that it keeps
    let text = |header: bool| {
        format!("listen = [\"127.0.0.1:0\"]\nworkers = 2\nkill-timeout = \"60s\"\nserver-header = {header}\n")
    };
    let configured = Configured::start(Program::Uringd, &text(true));
    let load = Load::start(&configured.server, "/", "400");
    let (start, mut before) = (Instant::now(), None);
    for nth in 0..RELOADS {
        // so that all of them together take the time of thousands of requests
        let due = start + Duration::from_millis(100) * nth as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        assert_eq!(configured.reload(&text(nth % 2 == 0))["stage"], "done");
        if nth == 4 {
            let pid = configured.server.pid();
            configured.server.wait("the first ones are gone", || children(pid).len() == 2);
            before = Some((descriptors(pid).len(), rss_anon(pid)));
        }
    }
    // predecessors that drain are under load as well
    configured.server.wait("only the last ones are left", || children(configured.server.pid()).len() == 2);
    let (files, memory) = before.unwrap();
    let pid = configured.server.pid();
    configured.server.wait("no descriptor is left over", || descriptors(pid).len() <= files);
    assert!(rss_anon(pid) < memory + 2_048, "{memory} KiB became {}", rss_anon(pid));
    load.assert_unnoticed();
    configured.server.signal("TERM");
    let stopped = configured.server.wait_for("the end", |line| line["message"] == "stopped");
    assert_eq!(stopped["forced_kills"], 0, "{stopped}");
}

#[test]
fn idle_connections_that_a_reload_closes_are_counted_and_told() {
    let text = |header: bool| {
        format!("listen = [\"127.0.0.1:0\"]\nworkers = 1\nkill-timeout = \"5s\"\nserver-header = {header}\n")
    };
    let configured = Configured::start(Program::Uringd, &text(true));
    let connect = |_| {
        let mut client = configured.server.connect();
        assert_eq!(client.get("/").status, 200);
        client
    };
    let mut idle: Vec<Client> = (0..5).map(connect).collect();
    assert_eq!(configured.reload(&text(false))["stage"], "done");
    // the worker closes them by itself, however near the kill timeout is
    configured.server.stop(configured.server.pid());
    for client in &mut idle {
        assert_eq!(client.read_to_end().unwrap(), b"", "without a word");
    }
    drop(idle);
    kill(configured.server.pid(), "CONT");
    configured.server.signal("TERM");
    let stopped = configured.server.wait_for("the end", |line| line["message"] == "stopped");
    assert_eq!((&stopped["idle_closes"], &stopped["forced_kills"]), (&5.into(), &0.into()), "{stopped}");
}

#[test]
fn the_kill_timeout_of_a_worker_is_the_one_that_it_was_started_with() {
    let text =
        |timeout: &str| format!("listen = [\"127.0.0.1:0\"]\nworkers = 1\nkill-timeout = \"{timeout}\"\n");
    let configured = Configured::start(Program::Faulty, &text("20s"));
    let blocks = configured.folder.path().join("blocks");
    let (mut blocked, pid) = configured.server.block_while(&blocks);
    assert_eq!(configured.reload(&text("200ms"))["stage"], "done");
    // the old one was told to leave before that was said, and who reloads again has looked at its limits
    std::thread::sleep(Duration::from_millis(1_000));
    assert_eq!(configured.reload(&text("200ms"))["stage"], "done");
    fs::remove_file(&blocks).unwrap();
    assert_eq!(blocked.read_answer().unwrap().pid(), pid, "it had the time that it was promised");
}

#[test]
fn a_plain_reload_that_failed_keeps_no_address_open_that_a_later_one_drops() {
    let [kept, dropped] = free_addresses();
    let both = format!("listen = [\"{kept}\", \"{dropped}\"]\nworkers = 1\n");
    let configured = Configured::with(Program::Faulty, &both, |command, folder| {
        command.env("FAULTY_BOOT_FAILS", folder.join("fails"));
    });
    let fails = configured.folder.path().join("fails");
    fs::write(&fails, "not today").unwrap();
    assert_eq!(configured.reload(&both)["stage"], "failed");
    fs::remove_file(&fails).unwrap();
    assert_eq!(configured.reload(&format!("listen = [\"{kept}\"]\nworkers = 1\n"))["stage"], "done");
    configured.server.wait("it is closed", || Client::try_connect(dropped).is_err());
    assert_eq!(Client::connect(kept).get("/pid").status, 200);
}

/// Holds a lease on a file (fcntl(2), F_SETLEASE): whoever opens it waits until this ends, as with a file server that does
/// not answer. What the holder is told by the kernel it ignores.
const HOLD: &str = "
import fcntl, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(sys.argv[1], 'r+')
while True:
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        break
    except BlockingIOError: # somebody has it open still
        time.sleep(0.01)
print('held', flush=True)
sys.stdin.read()
";

fn hold(file: &Path) -> Child {
    let mut holder = Command::new("python3");
    holder.arg("-c").arg(HOLD).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    holder
}

/// Whether somebody waits to open what this one holds: he has it neither given up nor lost, as after
/// /proc/sys/fs/lease-break-time.
fn is_waited_for(holder: &Child) -> bool {
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .any(|fields| fields[1..].starts_with(&["LEASE", "BREAKING"]) && fields[4] == holder.id().to_string())
}

fn let_go(mut holder: Child) {
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
}

#[test]
fn a_file_that_cannot_be_read_yet_holds_up_the_reload_and_nobody_else() {
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skip("needs python3");
    }
    let text = "listen = [\"127.0.0.1:0\"]\nworkers = 2\n";
    let mut configured = Configured::start(Program::Faulty, text);
    let holder = hold(&configured.file);
    configured.server.signal("HUP");
    let (_, victim) = configured.server.listening()[0];
    kill(victim, "KILL");
    configured.server.wait("the dead one is replaced", || {
        let now = configured.server.listening();
        now.len() == 2 && now.iter().all(|(_, pid)| *pid != victim)
    });
    // however often it is asked for meanwhile, it is read once more
    configured.server.signal("HUP");
    configured.server.wait_for("a word about it", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("configuration takes long to be read"))
    });
    assert_eq!(configured.server.get("/pid").status, 200);
    assert_eq!(configured.over().len(), 0);
    let_go(holder);
    configured.server.wait("both are over", || configured.over().len() == 2);
    assert!(configured.over().iter().all(|over| over["stage"] == "done"));

    let holder = hold(&configured.file);
    configured.server.signal("HUP");
    configured.server.wait("it is being read", || is_waited_for(&holder));
    configured.server.signal("TERM");
    assert_eq!(configured.server.wait_exit().code(), Some(0));
    assert!(is_waited_for(&holder), "who stops does not wait for it");
    let_go(holder);
}

#[test]
fn a_stop_ends_a_reload_and_everybody() {
    let text = "listen = [\"127.0.0.1:0\"]\nworkers = 2\n";
    let mut configured = Configured::with(Program::Faulty, text, |command, folder| {
        command.env("FAULTY_BOOT_HANG", folder.join("hang"));
    });
    fs::write(configured.folder.path().join("hang"), "").unwrap();
    fs::write(&configured.file, format!("{text}server-header = false\n")).unwrap();
    configured.server.signal("HUP");
    configured.server.wait("a replacement has begun", || configured.server.events("fork").len() == 3);
    configured.server.signal("TERM");
    configured.server.wait("it drains", || Client::try_connect(configured.server.address).is_err());
    fs::remove_file(configured.folder.path().join("hang")).unwrap();
    assert_eq!(configured.server.wait_exit().code(), Some(0));
    assert!(configured.server.processes().is_empty());
}
