//! Bad luck at the start: one line on stderr that says what, where and what to do; the right exit code; no backtrace,
//! no respawn, nobody left behind.

mod common;

use common::filter::with_failing;
use common::*;
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How a program ended that could not start.
struct End {
    /// What it said besides log lines.
    line: String,
    log: Vec<Value>,
    took: Duration,
}

/// Runs it to its end, which must be this exit code after exactly one line that is not a log line.
fn ends(command: &mut Command, code: i32) -> End {
    let start = Instant::now();
    let mut server = Server::launch(command);
    let status = server.wait_exit();
    let took = start.elapsed();
    assert!(server.processes().is_empty(), "a worker outlived the master");
    server.wait_gone();
    let (said, log): (Vec<Value>, Vec<Value>) = server.log().into_iter().partition(Value::is_string);
    assert_eq!(status.code(), Some(code), "{said:#?} {log:#?}");
    let [line] = &said[..] else { panic!("one line, not these: {said:#?}") };
    let line = line.as_str().unwrap().to_owned();
    assert!(line.starts_with("uringd: "), "{line}");
    End { line, log, took }
}

fn uringd(arguments: &[&str]) -> Command {
    Program::Uringd.command(arguments)
}

fn contains_all(line: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| line.contains(part)), "{line:?} lacks one of {parts:?}");
}

/// The machine refuses the ring: one line, nobody is started again, nothing is throttled.
fn refused(command: &mut Command, parts: &[&str]) {
    let end = ends(command, 1);
    contains_all(&end.line, parts);
    let count = |name: &str| end.log.iter().filter(|line| line["event"] == name).count();
    assert!(count("fork") <= 2, "each of the two slots was tried once at most: {:#?}", end.log);
    assert_eq!((count("listening"), count("giveup"), count("error")), (0, 0, 0), "{:#?}", end.log);
    let repeated = end.log.iter().any(|line| line.to_string().contains(&end.line["uringd: ".len()..]));
    assert!(!repeated, "said twice: {:#?}", end.log);
}

const TWO: [&str; 4] = ["--workers", "2", "--listen", "127.0.0.1:0"];

// ---- addresses ----

#[test]
fn a_port_in_use_is_reported_after_about_a_second_of_trying() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let end = ends(&mut uringd(&["--listen", &address]), 1);
    contains_all(&end.line, &[&address, "another process holds it", "--port"]);
    assert!(end.took >= Duration::from_millis(950), "{:?}", end.took);
    assert!(end.log.iter().all(|line| line["event"].is_null()), "nobody was started: {:#?}", end.log);
}

#[test]
fn a_port_that_becomes_free_within_that_second_is_taken() {
    // On a stalled machine the second may be over before we have let go; then once more.
    for attempt in 1..=3 {
        let holder = TcpListener::bind((own_address(), 0)).unwrap();
        let address = holder.local_addr().unwrap();
        let mut server = Server::launch(&mut uringd(&["--listen", &address.to_string(), "--workers", "1"]));
        let pid = server.pid();
        server.wait("it has named itself", || {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "uringd-master")
        });
        let naps = || status_field(pid, "voluntary_ctxt_switches").map_or(u64::MAX, |n| n.parse().unwrap());
        let before = naps();
        let is_over = || server.log().iter().any(Value::is_string);
        server.wait("it has found the port taken, several times", || {
            naps() > before.saturating_add(3) || is_over()
        });
        assert_eq!(server.events("setup").len(), 0);
        drop(holder);
        server.address = address;
        server.wait("an end or a beginning", || {
            !server.listening().is_empty() || server.log().iter().any(Value::is_string)
        });
        if server.listening().is_empty() && attempt < 3 {
            continue;
        }
        assert_eq!(server.get("/").pid(), server.listening()[0].1);
        server.signal("TERM");
        assert_eq!(server.wait_exit().code(), Some(0));
        return;
    }
}

#[test]
fn a_port_below_the_first_free_one_needs_a_right() {
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first_free.trim() == "0" {
        return skip("every port is free here (net.ipv4.ip_unprivileged_port_start)");
    }
    let (_directory, copy) = for_everybody();
    let mut command = bare_command(&copy);
    command.args(["--log-format", "json", "--listen", "127.0.0.1:1"]);
    if is_root() {
        command.uid(65_534).gid(65_534);
    }
    let end = ends(&mut command, 1);
    contains_all(&end.line, &["127.0.0.1:1:", first_free.trim(), "CAP_NET_BIND_SERVICE", "--port"]);
}

#[test]
fn an_address_of_another_machine_and_a_socket_in_no_directory_are_named() {
    let end = ends(&mut uringd(&["--listen", "192.0.2.1:1"]), 1);
    contains_all(&end.line, &["192.0.2.1:1", "no such address", "--listen"]);
    let end = ends(&mut uringd(&["--listen", "unix:/nowhere/at/all/s"]), 1);
    contains_all(&end.line, &["unix:/nowhere/at/all/s", "No such file"]);
    let end = ends(&mut uringd(&["--listen", "127.0.0.1:0", "--pid-file", "/nowhere/at/all/pid"]), 1);
    contains_all(&end.line, &["--pid-file /nowhere/at/all/pid", "No such file"]);
}

// ---- usage ----

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    let table: &[(&[&str], &[&str])] = &[
        (&["--listen", "localhost:80"], &["--listen", "localhost", "127.0.0.1:80"]),
        (&["--listen", "127.0.0.1"], &["--listen", "the port is missing"]),
        (&["--port", "http"], &["--port", "'http'", "a port from 1 to 65535"]),
        (&["--port"], &["--port", "a value is required"]),
        (&["--workers", "0"], &["--workers 0", "1 to 1024"]),
        (&["--workers", "many"], &["--workers", "auto or how many"]),
        (&["--kill-timeout", "5"], &["--kill-timeout", "250ms, 5s or 1m"]),
        (&["--pin", "8000"], &["--pin 8000", "core 8000"]),
        (&["--prot", "1"], &["--prot", "'--port'", "--help"]),
        (&["stray"], &["stray", "--help"]),
        (&["--unix-mode", "888"], &["--unix-mode", "octal"]),
        (&["--max-body", "64KB"], &["--max-body", "'64KB'", "64KiB"]),
    ];
    refused_before_anything_is_begun(table);
    // a value out of a list, with the list
    let end = ends(bare_command(&Program::Uringd.path()).args(["--log-level", "loud"]), 2);
    contains_all(&end.line, &["--log-level", "'loud'", "error, warn, info, debug, trace"]);
    let user = if is_root() { "no user no-such-user" } else { "only root can switch" };
    let end = ends(&mut uringd(&["--user", "no-such-user"]), 2);
    contains_all(&end.line, &["--user no-such-user", user]);
}

/// Arguments that are refused as wrong usage or configuration, with what the line must say.
fn refused_before_anything_is_begun(table: &[(&[&str], &[&str])]) {
    for (arguments, parts) in table {
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend(*arguments);
        let end = ends(&mut uringd(&all), 2);
        contains_all(&end.line, parts);
        assert!(end.log.is_empty(), "nothing was begun: {:#?}", end.log);
    }
}

#[test]
fn a_root_that_cannot_be_served_is_named_before_anything_is_begun() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("index.html");
    fs::write(&file, "").unwrap();
    let (file, folder) = (file.to_str().unwrap(), directory.path().to_str().unwrap());
    let table: &[(&[&str], &[&str])] = &[
        (&["--root", "/nowhere/at/all"], &["--root /nowhere/at/all", "no such directory", "make it"]),
        (&["--root", file], &["--root", file, "no directory"]),
        (&["--root", folder, "--not-found", "404.html"], &["--not-found 404.html", "no such file", folder]),
        (&["--not-found", "404.html"], &["--not-found 404.html", "--root DIR"]),
    ];
    refused_before_anything_is_begun(table);
}

#[test]
fn a_wrong_variable_is_named_as_such() {
    let end = ends(uringd(&[]).env("URINGD_PORT", "http"), 2);
    contains_all(&end.line, &["URINGD_PORT", "'http'", "a port from 1 to 65535"]);
}

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["--help", "--version"] {
        let output = Command::new(Program::Uringd.path()).arg(flag).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{flag}");
        assert!(
            output.stdout.starts_with(if flag == "--help" { b"HTTP/1.1" } else { b"uringd 0" }),
            "{flag}"
        );
    }
}

#[test]
fn worker_as_first_argument_without_a_channel_is_explained() {
    let end = ends(bare_command(&Program::Uringd.path()).arg("worker"), 2);
    contains_all(&end.line, &["`worker` is what a master starts", "NODE_CHANNEL_FD", "leave it out"]);
    let stale = ends(bare_command(&Program::Uringd.path()).arg("worker").env("NODE_CHANNEL_FD", "77"), 2);
    assert_eq!(stale.line, end.line);
}

// ---- io_uring ----

#[test]
fn io_uring_forbidden_by_seccomp_is_said_once_and_nobody_is_respawned() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        with_failing(libc::SYS_io_uring_setup, errno, || {
            refused(&mut uringd(&TWO), &["seccomp", "allow io_uring_setup", "profile"]);
        });
    }
}

#[test]
fn in_text_format_too_one_line_of_all_names_the_cause() {
    with_failing(libc::SYS_io_uring_setup, libc::EPERM, || {
        let mut server = Server::launch(bare_command(&Program::Uringd.path()).args(TWO));
        assert_eq!(server.wait_exit().code(), Some(1));
        server.wait_gone();
        let log = server.log();
        let naming = log.iter().filter(|line| line.as_str().unwrap().contains("seccomp")).count();
        assert_eq!(naming, 1, "{log:#?}");
        assert!(!log.iter().any(|line| line.as_str().unwrap().contains("backtrace")), "{log:#?}");
    });
}

#[test]
fn whichever_of_the_three_calls_the_filter_forbids_seccomp_is_named() {
    for call in [libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        with_failing(call, libc::EPERM, || {
            refused(&mut uringd(&TWO), &["seccomp", "io_uring_enter and io_uring_register", "profile"]);
        });
    }
}

/// From 6.14 on the kernel charges rings to RLIMIT_MEMLOCK, but for those who have CAP_IPC_LOCK (root, for instance);
/// between 5.12 and that it did not.
#[test]
fn too_little_lockable_memory_is_named_with_its_limit() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for limit in [0_u64, 70 * 1024] {
        let (_directory, copy) = for_everybody();
        let mut wanted = bare_command(&copy);
        wanted.args(["--log-format", "json"]).args(TWO);
        let mut command = with_lockable(limit, &wanted);
        if charges_rings() {
            let named = format!("RLIMIT_MEMLOCK is {limit} bytes");
            refused(&mut command, &[&named, "ulimit -l", "LimitMEMLOCK="]);
        } else {
            let server = Server::spawn(&mut command);
            server.wait_until_whole();
            eprintln!("{} does not charge rings: it serves with RLIMIT_MEMLOCK={limit}", release.trim());
        }
    }
}

/// Root is not bound by the limit, so it is not what root lacks.
#[test]
fn a_kernel_that_has_no_memory_for_a_ring_is_not_taken_for_a_limit() {
    if !is_root() {
        return skip("needs root, whom RLIMIT_MEMLOCK does not bind");
    }
    with_failing(libc::SYS_io_uring_setup, libc::ENOMEM, || {
        let limited = ["sh", "-c", "ulimit -l 64; exec \"$@\"", "sh"];
        refused(&mut through(&limited, &uringd(&TWO)), &["no memory", "memory.max", "--workers"]);
    });
}

#[test]
fn a_security_module_is_told_from_seccomp() {
    with_failing(libc::SYS_io_uring_setup, libc::EACCES, || {
        refused(&mut uringd(&TWO), &["security module", "SELinux", "`io_uring`"]);
    });
}

#[test]
fn a_kernel_without_the_setup_flags_is_too_old() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    with_failing(libc::SYS_io_uring_setup, libc::EINVAL, || {
        refused(&mut uringd(&TWO), &["too old", release.trim(), "Linux 6.1 or newer"]);
    });
}

#[test]
fn io_uring_disabled_by_sysctl_is_told_from_seccomp() {
    const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";
    if !is_root() || !Path::new(SYSCTL).exists() {
        return skip("needs root and a kernel with kernel.io_uring_disabled");
    }
    let directory = tempfile::tempdir().unwrap();
    let two = directory.path().join("two");
    fs::write(&two, "2\n").unwrap();
    // only the number is faked, in a mount namespace of its own; the filter refuses as the kernel would
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let wrapper = ["unshare", "-m", "sh", "-c", script, "sh", two.to_str().unwrap(), SYSCTL];
    if !Command::new("unshare").args(&wrapper[1..]).arg("true").status().is_ok_and(|status| status.success())
    {
        return skip("mount namespaces are not allowed here");
    }
    with_failing(libc::SYS_io_uring_setup, libc::EPERM, || {
        let parts = ["kernel.io_uring_disabled=2", "sysctl -w kernel.io_uring_disabled=0"];
        refused(&mut through(&wrapper, &uringd(&TWO)), &parts);
    });
}

// ---- limits and warnings ----

#[test]
fn too_few_descriptors_for_the_connections_asked_for() {
    let limited = ["sh", "-c", "ulimit -n 200; exec \"$@\"", "sh"];
    let asked = ["--listen", "127.0.0.1:0", "--max-connections", "1000"];
    let end = ends(&mut through(&limited, &uringd(&asked)), 1);
    let parts = ["--max-connections 1000 needs 1064 descriptors", "hard limit is 200", "ulimit -Hn"];
    contains_all(&end.line, &parts);
    // not asked for, it makes do
    let server = Server::spawn(&mut through(&limited, &uringd(&TWO)));
    server.wait_until_whole();
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let limited = ["sh", "-c", "ulimit -S -n 64; ulimit -H -n 4000; exec \"$@\"", "sh"];
    let server = Server::spawn(&mut through(&limited, &uringd(&TWO)));
    server.wait_until_whole();
    for pid in [server.pid(), server.listening()[0].1] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers, ["4000", "4000"]);
    }
}

#[test]
fn what_is_allowed_but_unwise_is_a_warning() {
    let cores = core_affinity::get_core_ids().unwrap().len();
    let somaxconn: u32 = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let (workers, backlog) = ((cores + 1).to_string(), (somaxconn + 1).to_string());
    let warnings = |arguments: &[&str]| {
        let server = Server::start(Program::Uringd, arguments);
        assert_eq!(server.get("/").status, 200, "it runs all the same");
        let log = server.log();
        // but for those that a slow machine brings about: who was held up, and for how long
        let is_of_time =
            |line: &&Value| ["ms", "put_off_ms", "late_ms"].iter().any(|name| !line[*name].is_null());
        let warnings = log.iter().filter(|line| line["level"] == "WARN" && !is_of_time(line));
        warnings.map(|line| line["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = warnings(&["--workers", &workers, "--backlog", &backlog]);
    let mut expected = vec![
        format!("--backlog {backlog}: the kernel cuts it to {somaxconn}"),
        format!("{workers} workers share {cores} core(s)"),
    ];
    if is_root() {
        expected.insert(1, "the workers run as root; give --user".to_owned());
    }
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (warning, start) in all.iter().zip(&expected) {
        assert!(warning.starts_with(start), "{warning:?} is not {start:?}");
    }
    let user: &[&str] = if is_root() { &["--user", "nobody"] } else { &[] };
    let quiet = [&["--workers", "1", "--backlog", "16"], user].concat();
    assert_eq!(warnings(&quiet), Vec::<String>::new());
}

// ---- builds ----

#[test]
fn a_build_with_panic_abort_says_so_at_start() {
    if std::env::var_os("CI").is_none() {
        return skip("builds the program anew; set CI to have it run");
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic-abort");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--bin", "uringd", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_PROFILE_DEV_PANIC", "abort")
        .status()
        .unwrap();
    assert!(built.success());
    let mut command = bare_command(&target.join("debug/uringd"));
    let server = Server::spawn(command.args(["--log-format", "json"]).args(TWO));
    server.wait_for("the warning", |line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["level"] == "WARN" && message.starts_with("built with panic=abort")
    });
    // and without it there is none
    let server = Server::start(Program::Uringd, &["--workers", "1"]);
    assert!(!server.log().iter().any(|line| line.to_string().contains("panic=abort")));
}

#[test]
fn a_handler_that_blocks_is_seen_in_the_log() {
    let server = Server::start(Program::Faulty, &["--workers", "1"]);
    // on a slow machine other turns may be slow as well, and once one is told the worker tells no other for a second
    let slow = |line: &Value| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("the handler kept the loop") && line["ms"].as_u64() >= Some(300)
    };
    server.wait("the slow turn is told", || {
        assert_eq!(server.get("/block?ms=300").status, 200);
        server.log().iter().any(slow)
    });
}
