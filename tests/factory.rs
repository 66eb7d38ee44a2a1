//! A factory that fails is a worker that does not come up, for a reason that the master has in words.

mod common;

use common::*;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A server whose factory fails as long as a file exists.
struct Fixture {
    server: Server,
    fails: PathBuf,
    events: PathBuf,
    _directory: TempDir,
}

impl Fixture {
    fn start(fails_first: bool, arguments: &[&str]) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let (fails, events) = (directory.path().join("fails"), directory.path().join("events"));
        if fails_first {
            fs::write(&fails, "no database\n  at 10.0.0.1").unwrap();
        }
        let mut all = vec!["--listen", "127.0.0.1:0", "--pin", "off"];
        all.extend(arguments);
        let mut command = Program::Faulty.command(&all);
        command.env("FAULTY_BOOT_FAILS", &fails).env("FAULTY_EVENTS", &events);
        Fixture { server: Server::spawn(&mut command), fails, events, _directory: directory }
    }

    /// What the program was told, by the name of the event.
    fn told(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(&self.events).unwrap();
        // the last one may still be on its way
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let all = whole.map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|event| event["event"] == name).collect()
    }
}

#[test]
fn a_factory_that_always_fails_ends_in_a_giveup_and_code_3_and_each_reason_is_an_event_of_one_line() {
    let mut fixture = Fixture::start(true, &["--workers", "1", "--restart-limit", "2"]);
    assert_eq!(fixture.server.wait_exit().code(), Some(3));
    fixture.server.wait_gone();
    let problems: Vec<Value> = fixture.told("error").iter().map(|error| error["problem"].clone()).collect();
    assert_eq!(problems, vec![Value::from("cannot start: no database; at 10.0.0.1"); 3]);
    let exits = fixture.server.events("exit");
    assert_eq!(exits.len(), 3, "the first one and as many as the limit");
    for exit in &exits {
        assert_eq!((&exit["status"], &exit["cause"]), (&"code 1".into(), &"crash".into()));
    }
    let giveups = fixture.told("giveup");
    assert_eq!((giveups.len(), &giveups[0]["limit"], &giveups[0]["alive"]), (1, &2.into(), &0.into()));
    assert!(fixture.told("listening").is_empty());
    let own = "the program makes no handler: cannot start: no database; at 10.0.0.1";
    assert!(fixture.server.log().iter().any(|line| line["message"] == own), "the worker says it as well");
}

#[test]
fn a_factory_that_fails_only_for_replacements_leaves_the_old_workers() {
    // with a limit of none the first charge would be a giveup
    let fixture = Fixture::start(false, &["--workers", "2", "--restart-limit", "0"]);
    fixture.server.wait_until_whole();
    let before = fixture.server.listening();
    fs::write(&fixture.fails, "a bad build").unwrap();
    fixture.server.signal("HUP");
    let failed = fixture.server.wait_for("the failure", |line| line["stage"] == "failed");
    assert_eq!(failed["slot"], 0);
    assert_eq!(fixture.told("error")[0]["problem"], "cannot start: a bad build");
    assert_eq!(fixture.server.listening(), before);
    for _ in 0..10 {
        let pid = fixture.server.get("/pid").pid();
        assert!(before.iter().any(|(_, old)| *old == pid), "{pid} serves");
    }
    fs::remove_file(&fixture.fails).unwrap();
    fixture.server.signal("HUP");
    fixture.server.wait_for("the next roll", |line| line["stage"] == "done");
    assert!(fixture.told("giveup").is_empty(), "nothing was charged");
}
