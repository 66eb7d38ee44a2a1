//! A panic in a handler costs its client a 500 and nobody anything else, and it can be understood from the log; what
//! the master says about it reaches the program as values too.

mod common;

use common::*;
use serde_json::Value;

#[test]
fn a_panic_answers_500_and_is_logged_with_message_location_backtrace_and_request_line() {
    let mut server = Server::start(Program::Faulty, &["--workers", "1", "--kill-timeout", "60s"]);
    let pid = server.listening()[0].1;
    let mut client = server.connect();
    let answer = client.get("/panic?why=test");
    assert_eq!(answer.status, 500);
    assert_eq!(client.get("/pid").pid(), pid, "the same worker goes on answering on the same connection");
    drop(client);
    let panic = server.wait_for("the panic", |line| line["message"] == "panic in the handler");
    assert_eq!((&panic["panic"], &panic["request"]), (&"asked to".into(), &"GET /panic?why=test".into()));
    assert!(panic["location"].as_str().unwrap().starts_with("examples/faulty.rs:"), "{panic}");
    assert!(panic["backtrace"].as_str().unwrap().contains("faulty::answer"), "{panic}");
    let exit = server.wait_for("its exit", |line| line["event"] == "exit" && line["pid"] == pid);
    assert_eq!((&exit["status"], &exit["cause"]), (&"code 1".into(), &"suicide".into()));
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
}

/// How many panics were logged, or counted where they were more than ten in a second.
fn told(server: &Server) -> usize {
    let left_out = server.log().iter().filter_map(|line| line["left_out"].as_u64()).sum::<u64>();
    panics(server).len() + left_out as usize
}

#[test]
fn with_continue_it_answers_500_and_stays() {
    let mut server = Server::start(
        Program::Faulty,
        &["--workers", "1", "--on-panic", "continue", "--kill-timeout", "60s"],
    );
    let pid = server.listening()[0].1;
    let mut client = server.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/panic").status, 500);
        assert_eq!(client.get("/pid").pid(), pid, "the same worker goes on");
    }
    drop(client);
    server.wait("every panic is told", || told(&server) == 20);
    // more often than the restart limit allows, and nobody was asked for
    assert!(server.events("suicide").is_empty() && server.events("fork").len() == 1);
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    let exit = server.wait_for("its exit", |line| line["event"] == "exit");
    assert_eq!(exit["status"], "code 0");
}

#[test]
fn the_programs_code_around_an_answer_is_guarded_as_well() {
    let server = Server::start(Program::Faulty, &["--workers", "1", "--on-panic", "continue"]);
    let pid = server.listening()[0].1;
    let mut bystander = server.connect();
    assert_eq!(bystander.get("/pid").pid(), pid);
    assert_eq!(server.get("/error-panic").status, 500);
    let panic = server.wait_for("the panic", |line| line["message"] == "panic in the handler");
    assert_eq!(panic["panic"], "asked to, while the error is told");
    // a stream that is sent, and one that is not
    assert_eq!(server.get("/stream-drop-panic").status, 200);
    let mut client = server.connect();
    client.send("HEAD /stream-drop-panic HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.read_head().unwrap().status, 200);
    let dropped = |line: &Value| line["message"] == "a stream panicked when it was dropped";
    server.wait("both are told", || server.log().iter().filter(|line| dropped(line)).count() == 2);
    assert_eq!(bystander.get("/pid").pid(), pid, "nobody else noticed");
}

#[test]
fn with_abort_it_logs_and_crashes_and_no_request_behind_the_panic_is_run() {
    let server = Server::start(Program::Faulty, &["--workers", "1", "--on-panic", "abort"]);
    let pid = server.listening()[0].1;
    let mut bystander = server.connect();
    assert_eq!(bystander.get("/pid").pid(), pid);
    let mut client = server.connect();
    // were the one behind it run, it would end the process with its own code
    client.send("GET /panic HTTP/1.1\r\nHost: test\r\n\r\nGET /exit HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = client.read_answer();
    assert!(answer.is_err(), "it crashed and yet answered {answer:?}");
    assert!(bystander.try_get("/pid").is_err(), "its other clients are cut off");
    let exit = server.wait_for("its exit", |line| line["event"] == "exit" && line["pid"] == pid);
    assert_eq!((&exit["status"], &exit["cause"]), (&"signal 6".into(), &"crash".into()));
    assert_eq!((&panics(&server)[0]["panic"], panics(&server).len()), (&"asked to".into(), 1));
    assert!(server.events("suicide").is_empty());
    server.wait_until_whole();
    assert_ne!(server.get("/pid").pid(), pid);
}

/// The code of the program that runs outside of a request.
#[test]
fn the_mode_holds_in_a_hook_as_well() {
    for (mode, status) in [("continue", "code 0"), ("abort", "signal 6")] {
        let arguments =
            ["--listen", "127.0.0.1:0", "--workers", "1", "--on-panic", mode, "--kill-timeout", "60s"];
        let mut command = Program::Faulty.command(&arguments);
        let server = Server::spawn(command.env("FAULTY_HOOK_PANIC", "after_drain"));
        server.wait_until_whole();
        let pid = server.listening()[0].1;
        server.signal("HUP");
        let exit = server.wait_for("its exit", |line| line["event"] == "exit" && line["pid"] == pid);
        assert_eq!((&exit["status"], &exit["cause"]), (&status.into(), &"reload".into()), "{mode}");
    }
}

#[test]
fn a_mode_that_does_not_exist_is_refused_in_one_line() {
    let mut server = Server::launch(Program::Faulty.command(&[]).env("URINGD_ON_PANIC", "ignore"));
    assert_eq!(server.wait_exit().code(), Some(2));
    server.wait_gone();
    let said = server.log();
    let line = said[0].as_str().unwrap_or_default();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        line.starts_with("uringd: URINGD_ON_PANIC: ") && line.contains("suicide, continue, abort"),
        "{line}"
    );
}

fn panics(server: &Server) -> Vec<Value> {
    server.log().into_iter().filter(|line| line["message"] == "panic in the handler").collect()
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

#[test]
fn a_panic_over_an_event_does_not_end_the_service() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("events");
    let mut command = Program::Faulty.command(&["--listen", "127.0.0.1:0", "--workers", "2", "--pin", "off"]);
    let mut server =
        Server::spawn(command.env("FAULTY_EVENTS", &file).env("FAULTY_EVENT_PANIC", "listening"));
    server.wait_until_whole();
    let panicked = |line: &Value| line["message"] == "panic in on_event: the master goes on";
    let panic = server.wait_for("the panic", panicked);
    assert_eq!((&panic["during"], &panic["panic"]), (&"listening".into(), &"asked to, by an event".into()));
    let pid = server.listening()[0].1;
    kill(pid, "KILL");
    server.wait_for("its exit", |line| line["event"] == "exit" && line["pid"] == pid);
    server.wait_until_whole();
    assert_eq!(server.get("/pid").status, 200);
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
    assert_eq!(server.log().into_iter().filter(panicked).count(), 3, "once for each that listened");
    let text = std::fs::read_to_string(file).unwrap();
    let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |name: &str| values.iter().filter(|value| value["event"] == name).count();
    assert_eq!((count("fork"), count("listening"), count("exit"), count("close")), (3, 0, 3, 3));
}
