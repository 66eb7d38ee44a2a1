//! `uringd doctor` on this machine: what it says where uringd runs, what where the kernel refuses it a ring, and that it
//! changes nothing. What it makes of other machines is tested beside the code, with made-up ones.

mod common;

use common::filter::with_failing;
use common::*;
use serde_json::Value;
use std::fs;
use std::process::{Command, Output};

const VERDICTS: [&str; 4] = ["wrong", "better", "unknown", "ok"];

fn doctor(arguments: &[&str]) -> Command {
    let mut command = bare_command(&Program::Uringd.path());
    command.arg("doctor").args(arguments);
    command
}

fn run(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, .. } = command.stdout(std::process::Stdio::piped()).output().unwrap();
    (status.code().expect("an exit code"), String::from_utf8(stdout).unwrap())
}

fn json(command: &mut Command) -> (i32, Value) {
    let (code, text) = run(command);
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn knob<'a>(report: &'a Value, page: &str) -> &'a Value {
    let mut knobs = report["knobs"].as_array().unwrap().iter();
    knobs.find(|knob| knob["page"] == page).unwrap_or_else(|| panic!("no {page} in {report:#}"))
}

/// Where a ring is refused: exit code 1, the cause in the last line, and the knob that is wrong.
fn refused(page: &str, part: &str, run_it: impl Fn(&[&str]) -> (i32, String)) {
    let (code, text) = run_it(&[]);
    assert_eq!(code, 1, "{text}");
    let (first, last) = (text.lines().next().unwrap(), text.lines().last().unwrap());
    assert!(first.starts_with("wrong "), "{text}");
    assert!(last.starts_with("uringd cannot run here: ") && last.contains(part), "{text}");
    let (code, text) = run_it(&["--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["can_run"]), (1, &Value::Bool(false)));
    assert_eq!(knob(&report, page)["verdict"], "wrong", "{report:#}");
    assert!(!knob(&report, page)["set"].as_array().unwrap().is_empty(), "what to type: {report:#}");
    assert!(report["io_uring_refused"].as_str().unwrap().contains(part), "{report:#}");
    let wrong = report["knobs"].as_array().unwrap().iter().filter(|knob| knob["verdict"] == "wrong");
    assert_eq!(wrong.count(), 1, "one cause, named once: {report:#}");
}

#[test]
fn where_uringd_runs_the_doctor_says_so_and_lists_what_io_uring_has() {
    let (code, report) = json(&mut doctor(&["--json"]));
    assert_eq!(
        (code, &report["can_run"], &report["io_uring_refused"]),
        (0, &Value::Bool(true), &Value::Null)
    );
    let probed = report["io_uring"].as_array().unwrap();
    let needed: Vec<&Value> = probed.iter().filter(|one| one["needed"] == true).collect();
    assert!(needed.len() > 15 && needed.iter().all(|one| one["present"] == true), "{needed:#?}");
    // what is optional is what the log names at start
    let server = Server::start(Program::Uringd, &["--workers", "1"]);
    let line = server.wait_for("the ring", |line| line["message"] == "io_uring");
    for one in probed.iter().filter(|one| one["needed"] == false) {
        let place = if one["present"] == true { "using" } else { "missing" };
        assert!(
            line[place].as_str().unwrap().contains(one["name"].as_str().unwrap()),
            "{one} is not in {line}"
        );
    }
    let knobs = report["knobs"].as_array().unwrap();
    let places =
        knobs.iter().map(|knob| VERDICTS.iter().position(|verdict| knob["verdict"] == *verdict).unwrap());
    assert!(places.is_sorted(), "the worst first: {knobs:#?}");
    let (code, text) = run(&mut doctor(&[]));
    assert_eq!(code, 0);
    assert!(text.lines().last().unwrap().starts_with("uringd can run here"), "{text}");
    for knob in knobs {
        assert!(text.contains(knob["knob"].as_str().unwrap()), "{knob}\n{text}");
    }
}

#[test]
fn it_says_what_is_set_here() {
    let (_, report) = json(&mut doctor(&["--json"]));
    let read = |path: &str| fs::read_to_string(path).unwrap().trim().to_owned();
    assert_eq!(knob(&report, "somaxconn")["now"], *read("/proc/sys/net/core/somaxconn"));
    assert_eq!(report["kernel"], *read("/proc/sys/kernel/osrelease"));
    assert_eq!(
        report["cores"]["allowed"],
        status_field(std::process::id() as i32, "Cpus_allowed_list").unwrap()
    );
    assert_eq!(report["cores"]["online"], *read("/sys/devices/system/cpu/online"));
    let (_, limited) = json(&mut through(&["prlimit", "--nofile=1000:1000"], &doctor(&["--json"])));
    let files = knob(&limited, "open_files");
    assert_eq!((&files["now"], &files["verdict"]), (&"1000".into(), &"better".into()));
    assert!(files["reason"].as_str().unwrap().contains("936 clients"), "{files}");
}

/// All that can be set in this network.
fn settings() -> Vec<String> {
    let find = Command::new("find").args(["/proc/sys/net", "-type", "f", "-perm", "/200"]).output();
    let paths = String::from_utf8(find.unwrap().stdout).unwrap();
    let mut settings: Vec<String> = paths
        .lines()
        .filter_map(|path| Some(format!("{path}={}", fs::read_to_string(path).ok()?.trim_end())))
        .collect();
    settings.sort();
    settings
}

/// A network of its own is compared: others may be at work in this machine's.
#[test]
fn it_changes_nothing() {
    in_own_network("it_changes_nothing", || {
        let before = settings();
        assert!(before.iter().any(|line| line.starts_with("/proc/sys/net/core/somaxconn=")), "{before:#?}");
        assert_eq!(run(&mut doctor(&[])).0, 0);
        let after = settings();
        let other: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(other.is_empty() && before.len() == after.len(), "{other:#?}");
    });
}

#[test]
fn a_ring_that_a_filter_forbids_is_a_filters() {
    for (call, errno) in [
        (libc::SYS_io_uring_setup, libc::EPERM),
        (libc::SYS_io_uring_setup, libc::ENOSYS),
        (libc::SYS_io_uring_enter, libc::EPERM),
        (libc::SYS_io_uring_register, libc::EPERM),
    ] {
        with_failing(call, errno, || {
            refused("seccomp", "seccomp filter", |arguments| run(&mut doctor(arguments)));
        });
    }
}

#[test]
fn a_ring_that_the_limit_on_locked_memory_forbids_is_the_limits() {
    if !charges_rings() {
        return skip("this kernel does not charge rings to RLIMIT_MEMLOCK (6.14 and newer do)");
    }
    let (_directory, copy) = for_everybody();
    refused("memlock", "RLIMIT_MEMLOCK is 0 bytes", |arguments| {
        let mut command = bare_command(&copy);
        command.arg("doctor").args(arguments);
        run(&mut with_lockable(0, &command))
    });
}

/// With the switch for the whole machine in `tests/io_uring_disabled.rs`; here only what can be read is made up, and a
/// filter refuses as the kernel would.
#[test]
fn a_ring_that_the_sysctl_forbids_is_the_sysctls() {
    const SHOW: &str = "mount --bind \"$1\" /proc/sys/kernel/io_uring_disabled && shift && exec \"$@\"";
    let directory = tempfile::tempdir().unwrap();
    let two = directory.path().join("two");
    fs::write(&two, "2\n").unwrap();
    let wrapper = ["unshare", "-m", "sh", "-c", SHOW, "sh", two.to_str().unwrap()];
    if !Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").status().is_ok_and(|status| status.success())
    {
        return skip("mount namespaces are not allowed here, or there is no kernel.io_uring_disabled");
    }
    with_failing(libc::SYS_io_uring_setup, libc::EPERM, || {
        refused("io_uring_disabled", "kernel.io_uring_disabled=2", |arguments| {
            run(&mut through(&wrapper, &doctor(arguments)))
        });
    });
}

#[test]
fn where_sys_is_hidden_as_in_many_containers_nothing_fails() {
    const HIDE: &str = "mount -t tmpfs none /sys && mount -t tmpfs none /proc/sys && exec \"$@\"";
    let wrapper = ["unshare", "-m", "sh", "-c", HIDE, "sh"];
    if !Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").status().is_ok_and(|status| status.success())
    {
        return skip("mount namespaces are not allowed here");
    }
    let (code, report) = json(&mut through(&wrapper, &doctor(&["--json"])));
    assert_eq!((code, &report["can_run"]), (0, &Value::Bool(true)), "{report:#}");
    for page in ["somaxconn", "hugepages", "irq_affinity", "cpu_quota"] {
        assert_eq!(knob(&report, page)["verdict"], "unknown", "{report:#}");
    }
}

#[test]
fn a_page_is_printed_by_name_and_a_wrong_name_is_wrong_usage() {
    let (code, page) = run(&mut doctor(&["net.core.somaxconn"]));
    assert_eq!((code, page.as_str()), (0, include_str!("../tuning/somaxconn.md")));
    let output = doctor(&["somaxcon"]).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
    assert!(line.starts_with("uringd: doctor somaxcon: ") && line.contains("nearest is somaxconn"), "{line}");
}
