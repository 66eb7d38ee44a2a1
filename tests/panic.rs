//! A panic in a handler costs its client a 500 and nobody anything else, and it can be understood from the log; what
//! the master says about it reaches the program as values too.

mod common;

use common::*;
use serde_json::Value;

#[test]
fn a_panic_answers_500_and_is_logged_with_message_location_backtrace_and_request_line() {
    let mut server = Server::start(Program::Faulty, &["--workers", "1"]);
    let pid = server.listening()[0].1;
    let mut client = server.connect();
    let answer = client.get("/panic?why=test");
    assert_eq!(answer.status, 500);
    assert_eq!(client.get("/pid").pid(), pid, "the same worker goes on answering on the same connection");
    let panic = server.wait_for("the panic", |line| line["message"] == "panic in the handler");
    assert_eq!((&panic["panic"], &panic["request"]), (&"asked to".into(), &"GET /panic?why=test".into()));
    assert!(panic["location"].as_str().unwrap().starts_with("examples/faulty.rs:"), "{panic}");
    assert!(panic["backtrace"].as_str().unwrap().contains("faulty::answer"), "{panic}");
    let exit = server.wait_for("its exit", |line| line["event"] == "exit" && line["pid"] == pid);
    assert_eq!((&exit["status"], &exit["cause"]), (&"code 1".into(), &"suicide".into()));
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn the_events_reach_the_program_as_values_in_the_order_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("events");
    let mut command = Program::Faulty.command(&["--listen", "127.0.0.1:0", "--workers", "1"]);
    let mut server = Server::spawn(command.env("FAULTY_EVENTS", &file));
    server.wait_until_whole();
    let pid = server.listening()[0].1;
    assert_eq!(server.get("/panic").status, 500);
    server.wait_for("the end of the first worker", |line| line["event"] == "close" && line["pid"] == pid);
    server.signal("HUP");
    server.wait_for("the roll", |line| line["stage"] == "done");
    server.signal("TERM");
    server.wait_exit();
    server.wait_gone();
    let text = std::fs::read_to_string(file).unwrap();
    let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names = |lines: &[Value]| -> Vec<String> {
        lines.iter().filter_map(|line| Some(line["event"].as_str()?.to_owned())).collect()
    };
    assert_eq!(names(&values), names(&server.log()));
    for name in ["setup", "fork", "online", "listening", "suicide", "disconnect", "exit", "close", "reload"] {
        assert!(values.iter().any(|value| value["event"] == name), "no {name} in {values:#?}");
    }
}
