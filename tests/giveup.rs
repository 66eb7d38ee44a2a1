//! Restarts that do not help: the limit, the giveup, the ways out of it, and workers that never come up.

mod common;

use common::*;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A healthy worker must be faster, wherever this runs.
const BOOT_TIMEOUT: &str = "6s";

/// A server whose next workers do not come up as long as one of two files exists.
struct Fixture {
    server: Server,
    dies_at_boot: PathBuf,
    hangs_at_boot: PathBuf,
    _directory: TempDir,
}

impl Fixture {
    /// `broken`: nobody comes up from the beginning.
    fn start(broken: bool, arguments: &[&str]) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let dies_at_boot = directory.path().join("dies");
        let hangs_at_boot = directory.path().join("hangs");
        if broken {
            fs::write(&dies_at_boot, "").unwrap();
        }
        let mut all = vec!["--listen", "127.0.0.1:0", "--pin", "off"];
        all.extend(arguments);
        let mut command = Program::Faulty.command(&all);
        command.env("FAULTY_BOOT_FILE", &dies_at_boot).env("FAULTY_BOOT_HANG", &hangs_at_boot);
        let server = Server::spawn(&mut command);
        if !broken {
            server.wait_until_whole();
        }
        Fixture { server, dies_at_boot, hangs_at_boot, _directory: directory }
    }

    /// Kills all but one worker while nobody comes up, waits for the giveup, and gives it and the one that is left.
    fn drive_to_giveup(&self) -> (Value, i32) {
        fs::write(&self.dies_at_boot, "").unwrap();
        let workers = self.server.listening();
        let (survivor, victims) = workers.split_last().unwrap();
        victims.iter().for_each(|(_, pid)| kill(*pid, "KILL"));
        let giveup = self.server.wait_for("giveup", |line| line["event"] == "giveup");
        // others that were started before it may still be on their way to their end
        let master = self.server.pid();
        self.server.wait("one is left", || children(master) == [survivor.1]);
        (giveup, survivor.1)
    }

    fn count(&self, event: &str) -> usize {
        self.server.events(event).len()
    }

    /// What the worker asks for is refused: it goes on. While one answer is on its way it does not ask again, so it
    /// is made to ask until it does. It must be the only one.
    fn asks_and_stays(&self, survivor: i32, ask: impl Fn()) {
        let asked = self.count("suicide");
        self.server.wait("it asked to be replaced", || {
            ask();
            self.count("suicide") > asked
        });
        assert_eq!(self.server.get("/pid").pid(), survivor, "the same worker answers afterwards");
    }
}

#[test]
fn exactly_the_limit_is_restarted_and_the_healthy_worker_goes_on_and_stays() {
    let limits = ["--workers", "2", "--restart-limit", "3", "--restart-window", "1h"];
    let fixture = Fixture::start(false, &limits);
    let (giveup, survivor) = fixture.drive_to_giveup();
    assert_eq!((giveup["limit"].as_u64(), giveup["alive"].as_u64()), (Some(3), Some(1)));
    fixture.server.wait("the last one has been heard of", || fixture.count("close") == 4);
    let ends: Vec<_> = fixture
        .server
        .events("exit")
        .iter()
        .map(|exit| (exit["status"].as_str().unwrap().to_owned(), exit["cause"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(ends[0], ("signal 9".to_owned(), "crash".to_owned()));
    assert_eq!(ends[1..], vec![("code 9".to_owned(), "crash".to_owned()); 3]);
    let panic = || assert_eq!(fixture.server.get("/panic").status, 500);
    // twice: the first `stay` has been heard, or it would not ask again
    fixture.asks_and_stays(survivor, panic);
    fixture.asks_and_stays(survivor, panic);
    fixture.asks_and_stays(survivor, || kill(survivor, "TERM"));
    assert_eq!(fixture.count("fork"), 2 + 3, "not one more than the limit");
    assert_eq!(fixture.count("giveup"), 1, "said once");
    assert_eq!(children(fixture.server.pid()), [survivor]);
}

#[test]
fn after_a_window_one_worker_is_tried_and_after_another_the_pool_is_whole() {
    const WINDOW: Duration = Duration::from_secs(3);
    // two that die are one too many, however long their replacements take to die
    let limits = ["--workers", "3", "--restart-limit", "1", "--restart-window", "3s"];
    let fixture = Fixture::start(false, &limits);
    let start = SystemTime::now();
    let (_, survivor) = fixture.drive_to_giveup();
    fs::remove_file(&fixture.dies_at_boot).unwrap();
    fixture.server.wait_until_whole();
    // who was tried while the file was still there is gone
    let exits = fixture.server.events("exit");
    let mut forked: Vec<Value> = fixture.server.events("fork").split_off(3);
    forked.retain(|fork| exits.iter().all(|exit| exit["pid"] != fork["pid"]));
    assert_eq!(forked.len(), 2, "one trial and one more: {forked:?}");
    // what is written down is written after it was decided: both times are measured from before they began to run
    let after_giveup = time_of(&forked[0]).duration_since(start).unwrap();
    assert!(after_giveup >= WINDOW, "tried only after a whole window, not {after_giveup:?}");
    let after_trial = time_of(&forked[1]).duration_since(time_of(&forked[0])).unwrap();
    assert!(after_trial >= WINDOW, "it must last a window, not {after_trial:?}");
    assert!(fixture.server.listening().iter().any(|(_, pid)| *pid == survivor));
    // and the account is empty: a crash is repaired again
    let forks = fixture.count("fork");
    kill(survivor, "KILL");
    fixture.server.wait("repaired", || fixture.count("fork") == forks + 1);
    fixture.server.wait_until_whole();
    assert_eq!(fixture.count("giveup"), 1);
}

#[test]
fn without_a_worker_left_it_ends_with_code_3() {
    let mut fixture = Fixture::start(true, &["--workers", "1", "--restart-limit", "2"]);
    assert_eq!(fixture.server.wait_exit().code(), Some(3));
    fixture.server.wait_gone();
    assert_eq!(fixture.count("fork"), 1 + 2);
    let giveups = fixture.server.events("giveup");
    assert_eq!((giveups.len(), giveups[0]["alive"].as_u64()), (1, Some(0)));
    let said: Vec<Value> = fixture.server.log().into_iter().filter(Value::is_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].as_str().unwrap().starts_with("uringd: gave up"), "{said:?}");
    fixture.server.wait_gone();
}

#[test]
fn sighup_clears_a_giveup_at_once() {
    let limits = ["--workers", "3", "--restart-limit", "1", "--restart-window", "1h"];
    let fixture = Fixture::start(false, &limits);
    let (_, survivor) = fixture.drive_to_giveup();
    fs::remove_file(&fixture.dies_at_boot).unwrap();
    fixture.server.signal("HUP");
    fixture.server.wait_for("the roll", |line| line["stage"] == "done");
    fixture.server.wait_until_whole();
    fixture.server.wait("the survivor is replaced", || {
        fixture.server.listening().iter().all(|(_, pid)| *pid != survivor)
    });
    // nothing is left on the account: the limit is there again
    kill(fixture.server.listening()[0].1, "KILL");
    fixture.server.wait("repaired", || fixture.count("exit") >= 5);
    fixture.server.wait_until_whole();
    assert_eq!(fixture.count("giveup"), 1);
}

#[test]
fn a_worker_that_never_listens_is_killed_and_counts() {
    let limits = ["--workers", "2", "--restart-limit", "1", "--boot-timeout", BOOT_TIMEOUT];
    let fixture = Fixture::start(false, &limits);
    fs::write(&fixture.hangs_at_boot, "").unwrap();
    let [(_, victim), (_, survivor)] = fixture.server.listening()[..] else { panic!("two workers") };
    let forks = fixture.count("fork");
    let start = SystemTime::now();
    kill(victim, "KILL");
    let exit = fixture.server.wait_for("the exit", |line| line["cause"] == "boot-timeout");
    assert_eq!(exit["status"], "signal 9");
    let fork = &fixture.server.events("fork")[forks];
    assert_eq!(fork["pid"], exit["pid"]);
    let lived = time_of(&exit).duration_since(start).unwrap();
    let timeout = humantime::parse_duration(BOOT_TIMEOUT).unwrap();
    assert!(lived >= timeout, "it has {timeout:?} to boot, it lived {lived:?}");
    let giveup = fixture.server.wait_for("giveup", |line| line["event"] == "giveup");
    assert_eq!(giveup["alive"], 1, "the second one was one too many");
    assert_eq!(fixture.count("fork"), forks + 1);
    assert_eq!(fixture.server.get("/pid").pid(), survivor);
}

#[test]
fn a_reload_whose_replacements_do_not_come_up_fails_and_charges_nobody() {
    // with a limit of none the first charge would be a giveup
    let limits = ["--workers", "2", "--restart-limit", "0", "--boot-timeout", BOOT_TIMEOUT];
    let fixture = Fixture::start(false, &limits);
    let before = fixture.server.listening();
    for (file, cause) in [(&fixture.hangs_at_boot, "boot-timeout"), (&fixture.dies_at_boot, "crash")] {
        fs::write(file, "").unwrap();
        let seen = fixture.server.log().len();
        fixture.server.signal("HUP");
        let (_, failed) =
            fixture.server.wait_for_after(seen, "the failure", |line| line["stage"] == "failed");
        assert_eq!((failed["event"].as_str(), failed["slot"].as_u64()), (Some("reload"), Some(0)));
        fixture.server.wait_for_after(seen, "the exit", |line| line["cause"] == cause);
        fs::remove_file(file).unwrap();
        assert_eq!(fixture.server.listening(), before, "the old ones stay");
        for _ in 0..10 {
            let pid = fixture.server.get("/pid").pid();
            assert!(before.iter().any(|(_, old)| *old == pid), "{pid} serves");
        }
    }
    assert_eq!(fixture.count("fork"), 2 + 2, "one replacement a roll is tried");
    fixture.server.signal("HUP");
    fixture.server.wait_for("the next roll", |line| line["stage"] == "done");
    assert_eq!(fixture.count("giveup"), 0, "nothing was charged");
    // the end of one that drains would not be charged
    fixture.server.wait("the old ones are gone", || {
        fixture.server.listening().iter().all(|worker| !before.contains(worker))
    });
    kill(fixture.server.listening()[0].1, "KILL");
    fixture.server.wait_for("the charge that is one too many", |line| line["event"] == "giveup");
}

/// Reads what a command has written, once its last line is there.
fn written(fixture: &Fixture, file: &std::path::Path) -> String {
    let read = || fs::read_to_string(file).unwrap_or_default();
    fixture.server.wait("the command has written", || read().ends_with("end\n"));
    read()
}

#[test]
fn a_giveup_runs_a_command_with_the_facts_and_nothing_else_of_the_masters() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("facts");
    let report = format!("exec >{}; ls /proc/$$/fd; echo", file.display());
    // what a shell opens itself, and what was given to everybody here
    assert!(bare_command("/bin/sh".as_ref()).args(["-c", &report]).status().unwrap().success());
    let descriptors = fs::read_to_string(&file).unwrap();
    let command = format!(
        "{report}; env; echo group $(ps -o pgid= -p $$) of $$; grep Sig /proc/self/status; \
         echo to the log >&2; echo end; exit 7"
    );
    let arguments =
        ["--workers", "2", "--restart-limit", "1", "--restart-window", "90s", "--on-giveup", &command];
    let fixture = Fixture::start(false, &arguments);
    let master = fixture.server.pid();
    let (_, survivor) = fixture.drive_to_giveup();
    let said = written(&fixture, &file);
    let lines: Vec<&str> = said.lines().collect();
    for fact in [
        &format!("URINGD_MASTER_PID={master}"),
        "URINGD_RESTART_LIMIT=1",
        "URINGD_RESTART_WINDOW=1m 30s",
        "URINGD_ALIVE=1",
        &format!("URINGD_LISTEN={}", fixture.server.address),
        "URINGD_CONTROL=off",
        "SigBlk:\t0000000000000000",
    ] {
        assert!(lines.contains(&fact), "{fact} is missing in\n{said}");
    }
    assert!(said.starts_with(&descriptors), "not only the descriptors\n{descriptors}of a shell:\n{said}");
    let group = lines.iter().find_map(|line| line.strip_prefix("group ")?.split_once(" of ")).unwrap();
    assert_eq!(group.0, group.1, "a process group of its own");
    fixture.server.wait_for("its stderr", |line| line == "to the log");
    let failure =
        |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("--on-giveup failed"));
    let failed = fixture.server.wait_for("how it ended", failure);
    assert_eq!(failed["message"], "--on-giveup failed: its command ended with code 7");
    assert_eq!(children(master), [survivor], "and no zombie is left");
}

#[test]
fn the_last_worker_gone_the_command_has_a_little_time_and_then_none() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("facts");
    let command = format!("sleep 0.5; echo alive $URINGD_ALIVE >{0}; echo end >>{0}", file.display());
    let limits = ["--workers", "1", "--restart-limit", "1", "--kill-timeout", "15s"];
    let mut fixture = Fixture::start(true, &[&limits[..], &["--on-giveup", &command]].concat());
    assert_eq!(fixture.server.wait_exit().code(), Some(3));
    assert_eq!(fs::read_to_string(&file).unwrap(), "alive 0\nend\n", "it has ended before the master did");

    let limits = ["--workers", "1", "--restart-limit", "1", "--kill-timeout", "200ms"];
    let mut fixture = Fixture::start(true, &[&limits[..], &["--on-giveup", "exec sleep 1000"]].concat());
    let giveup = fixture.server.wait_for("giveup", |line| line["event"] == "giveup");
    let left = fixture.server.wait_for("the warning", |line| {
        line["level"] == "WARN" && line["message"].as_str().unwrap().starts_with("--on-giveup")
    });
    assert!(time_of(&left).duration_since(time_of(&giveup)).unwrap() >= Duration::from_millis(200));
    assert_eq!(fixture.server.wait_exit().code(), Some(3));
    kill_what_is_left(&fixture, "sleep 1000");
}

/// Kills the process that runs this command line and was started by this master, as soon as its shell has become that.
fn kill_what_is_left(fixture: &Fixture, command: &str) {
    let find = || group_leader_that_runs(command, fixture.server.pid());
    fixture.server.wait("the command is left to itself", || find().is_some());
    kill(find().unwrap(), "KILL");
}

/// The process that runs this command line with that URINGD_MASTER_PID.
fn group_leader_that_runs(command: &str, master: i32) -> Option<i32> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let runs = |pid: &i32| {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let variable = format!("URINGD_MASTER_PID={master}");
        read("cmdline").split(|octet| *octet == 0).collect::<Vec<_>>().join(&b' ')
            == [command.as_bytes(), b" "].concat()
            && read("environ").split(|octet| *octet == 0).any(|line| line == variable.as_bytes())
    };
    processes.into_iter().find(runs)
}

#[test]
fn a_command_that_hangs_keeps_the_master_from_nothing() {
    let limits = ["--workers", "2", "--restart-limit", "0", "--on-giveup", "exec sleep 1000"];
    let mut fixture = Fixture::start(false, &limits);
    let (survivor, victim) = (fixture.server.listening()[0].1, fixture.server.listening()[1].1);
    kill(victim, "KILL");
    fixture.server.wait_for("giveup", |line| line["event"] == "giveup");
    assert_eq!(fixture.server.get("/pid").pid(), survivor);
    fixture.server.signal("HUP");
    fixture.server.wait_for("the roll", |line| line["stage"] == "done");
    fixture.server.wait_until_whole();
    fixture.server.signal("TERM");
    assert_eq!(fixture.server.wait_exit().code(), Some(0));
    kill_what_is_left(&fixture, "sleep 1000");
}
