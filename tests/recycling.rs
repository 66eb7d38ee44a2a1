//! Workers that have served, lived or taken as much as they may are replaced, one at a time, and nobody notices.
#![cfg(feature = "load")]

mod common;

use common::load::Load;
use common::*;
use serde_json::Value;

fn is_recycled(line: &Value) -> bool {
    line["message"] == "worker has come to a limit and is replaced"
}

fn recycled(server: &Server) -> Vec<Value> {
    server.log().into_iter().filter(is_recycled).collect()
}

/// Clients with a connection for each request, and such that keep theirs, while workers come to `flag`'s limit so often.
/// A single restart that is charged would be a giveup.
fn nobody_notices(flag: &str, value: &str, path: &str, times: usize) {
    // no client that only has to wait for a core loses a connection that it keeps
    let arguments = ["--workers", "3", "--restart-limit", "0", "--kill-timeout", "60s", flag, value];
    let server = Server::start(Program::Faulty, &arguments);
    let load = Load::start(&server, path, "300");
    let before = recycled(&server).len();
    server.wait("workers are recycled", || recycled(&server).len() >= before + times);
    load.assert_unnoticed();
    one_went_after_the_other(&server, flag);
    let forced: Vec<Value> =
        server.events("exit").into_iter().filter(|line| line["forced"] == true).collect();
    assert!(forced.is_empty() && server.events("giveup").is_empty(), "{forced:?}");
}

/// Between two of them the first one's successor listens and the first one is gone.
fn one_went_after_the_other(server: &Server, flag: &str) {
    let log = server.log();
    let places: Vec<usize> = (0..log.len()).filter(|place| is_recycled(&log[*place])).collect();
    for window in places.windows(2) {
        let (recycled, between) = (&log[window[0]], &log[window[0]..window[1]]);
        assert_eq!(recycled["limit"], flag.trim_start_matches('-'));
        assert!(recycled["has"].as_u64() >= recycled["may"].as_u64(), "{recycled}");
        let of = |event: &str, key: &str| {
            between.iter().position(|line| line["event"] == event && line[key] == recycled[key])
        };
        let (listening, exit) = (of("listening", "slot"), of("exit", "pid"));
        assert!(listening.is_some() && listening < exit, "{recycled}: {between:#?}");
        assert_eq!(between[exit.unwrap()]["cause"], "recycle");
    }
}

#[test]
fn workers_that_have_served_enough_are_replaced_one_by_one() {
    nobody_notices("--max-requests", "200", "/pid", 4);
}

#[test]
fn workers_that_have_lived_long_enough_are_replaced_one_by_one() {
    nobody_notices("--max-lifetime", "1500ms", "/pid", 4);
}

#[test]
fn workers_that_have_taken_enough_memory_are_replaced_one_by_one() {
    nobody_notices("--max-memory", "40MiB", "/leak?n=100000", 4);
}

#[test]
fn a_limit_that_is_reached_in_a_moment_does_not_keep_the_master_starting_workers() {
    let arguments = ["--workers", "1", "--max-requests", "1", "--max-memory", "1KiB"];
    let server = Server::start(Program::Faulty, &arguments);
    let too_little = |line: &Value| line["message"].to_string().contains("more than --max-memory");
    assert_eq!(server.wait_for("that it is too little", too_little)["level"], "WARN");
    server.get("/pid");
    // once it has listened for a second, for its requests and not for its memory
    let line = server.wait_for("one is recycled", is_recycled);
    assert_eq!(line["limit"], "max-requests");
    let since = |line: &Value| humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
    // its listening was heard after this was said
    let online = since(&server.events("online")[0]);
    assert!(since(&line).duration_since(online).unwrap().as_millis() >= 990);
    let first = line["pid"].clone();
    server.wait_for("it is gone", |line| line["event"] == "exit" && line["pid"] == first);
    // its successor has as much memory, and stays until it has answered somebody as well
    server.get("/pid");
    server.wait("another one", || recycled(&server).len() == 2);
    assert_eq!(recycled(&server)[1]["limit"], "max-requests");
    assert_eq!(server.log().iter().filter(|line| too_little(line)).count(), 1, "said once");
}

#[test]
fn a_recycled_worker_whose_replacement_fails_stays_and_is_left_in_peace() {
    let folder = tempfile::tempdir().unwrap();
    let fails = folder.path().join("fails");
    let arguments =
        ["--listen", "127.0.0.1:0", "--workers", "1", "--max-requests", "1", "--restart-limit", "0"];
    let mut command = Program::Faulty.command(&arguments);
    let server = Server::spawn(command.env("FAULTY_BOOT_FAILS", &fails));
    server.wait_until_whole();
    std::fs::write(&fails, "not today").unwrap();
    let pid = server.get("/pid").pid();
    let kept = |line: &Value| line["event"] == "error" && line["pid"] == pid;
    let why = server.wait_for("it stays", kept);
    assert!(why["problem"].as_str().unwrap().contains("cannot be recycled"), "{why}");
    assert_eq!((server.get("/pid").pid(), server.events("giveup").len()), (pid, 0));
    // an order of the operator's finds it as it was
    std::fs::remove_file(&fails).unwrap();
    server.signal("HUP");
    server.wait_for("a reload", |line| line["stage"] == "done");
    assert_eq!(recycled(&server).len(), 1, "not tried again before a restart window has passed");
}
