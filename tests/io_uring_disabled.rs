//! kernel.io_uring_disabled for real. It is one for the whole machine, so this runs only where the machine is ours alone
//! (`CI` is set), and whoever dies meanwhile, the switch is put back.

mod common;

use common::*;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";
const GROUP: &str = "/proc/sys/kernel/io_uring_group";

/// The switch as this test wants it, until this is dropped.
struct Switched {
    /// Waits for the end of its input, which comes when this process ends as well, and puts back what was there.
    keeper: Child,
    _alone: MutexGuard<'static, ()>,
}

/// One test at a time. `None` where it may not be done.
fn switch(disabled: u8, group: i64) -> Option<Switched> {
    static ALONE: Mutex<()> = Mutex::new(());
    if std::env::var_os("CI").is_none() {
        skip("changes the whole machine; set CI where that is yours alone");
        return None;
    }
    if !is_root() || !Path::new(SWITCH).exists() {
        skip("needs root and a kernel with kernel.io_uring_disabled (6.6)");
        return None;
    }
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = |path| fs::read_to_string(path).unwrap().trim().to_owned();
    let keep = format!(
        "trap '' INT TERM HUP; cat; echo {} > {SWITCH}; echo {} > {GROUP}",
        before(SWITCH),
        before(GROUP)
    );
    let mut keeper = Command::new("sh");
    // not in the group that somebody may kill
    keeper.args(["-c", &keep]).stdin(Stdio::piped()).process_group(0);
    let switched = Switched { keeper: keeper.spawn().unwrap(), _alone: alone };
    fs::write(GROUP, group.to_string()).unwrap();
    fs::write(SWITCH, disabled.to_string()).unwrap();
    Some(switched)
}

impl Drop for Switched {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// The start line and the doctor name the switch, and what to do.
fn is_refused(value: u8, mut as_whom: impl FnMut(&mut Command)) {
    let (_directory, copy) = for_everybody();
    let mut server = bare_command(&copy);
    server
        .args(["--log-format", "json", "--listen", "127.0.0.1:0", "--workers", "2"])
        .env("URINGD_CONTROL", "off");
    as_whom(&mut server);
    let mut server = Server::launch(&mut server);
    assert_eq!(server.wait_exit().code(), Some(1));
    server.wait_gone();
    let log = server.log();
    let lines: Vec<&str> = log.iter().filter_map(|line| line.as_str()).collect();
    let [line] = lines[..] else { panic!("one line, not these: {lines:#?}") };
    assert!(line.contains(&format!("kernel.io_uring_disabled={value}: run `sysctl -w")), "{line}");
    let mut doctor = bare_command(&copy);
    as_whom(doctor.arg("doctor").stdout(Stdio::piped()));
    let output = doctor.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("wrong    kernel.io_uring_disabled"), "{text}");
}

fn serves(mut as_whom: impl FnMut(&mut Command)) {
    let (_directory, copy) = for_everybody();
    let mut server = bare_command(&copy);
    server
        .args(["--log-format", "json", "--listen", "127.0.0.1:0", "--workers", "1"])
        .env("URINGD_CONTROL", "off");
    as_whom(&mut server);
    let server = Server::spawn(&mut server);
    server.wait_until_whole();
    assert_eq!(server.get("/").status, 200);
    let mut doctor = bare_command(&copy);
    as_whom(doctor.arg("doctor"));
    assert!(doctor.status().unwrap().success());
}

#[test]
fn with_1_only_root_and_the_members_of_the_group_are_served() {
    let (user, group) = (70_000 + std::process::id(), 80_000 + std::process::id());
    let Some(_switched) = switch(1, group.into()) else { return };
    is_refused(1, |command| {
        command.uid(user).gid(user);
    });
    serves(|command| {
        command.uid(user).gid(group);
    });
    serves(|_| {});
}

#[test]
fn with_2_nobody_is() {
    let Some(_switched) = switch(2, -1) else { return };
    is_refused(2, |_| {});
    is_refused(2, |command| {
        command.uid(70_000 + std::process::id()).gid(70_000);
    });
}
