//! What a handler gives reaches the client as HTTP has it, and what cannot be sent costs that client an empty 500, the
//! programmer a line in the log, and nobody anything else.

mod common;

use common::*;
use serde_json::Value;

fn mirror() -> (Server, i32) {
    let server = Server::start(Program::Mirror, &["--workers", "1"]);
    let worker = server.listening()[0].1;
    (server, worker)
}

fn post(client: &mut Client, path: &str, content: &str) -> Answer {
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    ));
    client.read_answer().expect("an answer")
}

/// RFC 9112 section 4 (no reason phrase), RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5 (no content).
#[test]
fn every_final_status_is_answered_and_the_connection_goes_on() {
    let (server, worker) = mirror();
    let mut client = server.connect();
    for code in 200..600 {
        let answer = client.get(&format!("/status?code={code}"));
        let (line, _) = answer.head.split_once("\r\n").unwrap();
        assert!(line.starts_with(&format!("HTTP/1.1 {code} ")), "{line:?}");
        let length = answer.header("content-length").map(|length| length.parse().unwrap());
        assert_eq!(length, if [204, 304].contains(&code) { None } else { Some(answer.body.len()) }, "{code}");
        assert!(![204, 205, 304].contains(&code) || answer.body.is_empty(), "{code}");
    }
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn what_cannot_be_sent_is_an_empty_500_and_the_log_says_where() {
    let (server, worker) = mirror();
    let mut client = server.connect();
    for (path, problem) in [
        ("/status?code=42", "42 is no status code of HTTP"),
        ("/status?code=103", "103 is an interim status"),
        ("/header?value=a%0d%0aSet-Cookie:%20b", "the header field \"X-Value\" has characters"),
    ] {
        let answer = client.get(path);
        assert_eq!(
            (answer.status, answer.header("content-length"), answer.text().as_str()),
            (500, Some("0"), "")
        );
        let line = server.wait_for(problem, |line| {
            line["level"] == "ERROR" && line["problem"].as_str().is_some_and(|said| said.starts_with(problem))
        });
        assert!(line["location"].as_str().unwrap().starts_with("examples/mirror.rs:"), "{line}");
    }
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn a_handler_that_fails_answers_an_empty_500_and_the_log_says_what_and_for_which_request() {
    let (server, worker) = mirror();
    let mut client = server.connect();
    let answer = client.get("/failure?why=test");
    assert_eq!((answer.status, answer.text().as_str()), (500, ""));
    let line = server.wait_for("the failure", |line| line["message"] == "a handler failed");
    assert_eq!((&line["request"], &line["error"]), (&"GET /failure?why=test".into(), &"asked to".into()));
    assert_eq!(client.get("/").status, 200, "the same connection goes on");
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn json_comes_in_and_goes_out_and_what_is_none_is_the_clients_fault() {
    let (server, worker) = mirror();
    let mut client = server.connect();
    let answer = post(&mut client, "/json", "{\"a\": [1, \"\\u00e9\"]}");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let value: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(value, serde_json::json!({"a": [1, "é"]}));
    let refused = post(&mut client, "/json", "{\"a\": ");
    assert_eq!(refused.status, 400);
    assert_eq!(refused.text(), "the content is not valid JSON: EOF while parsing a value at line 1 column 6");
    assert!(!server.log().iter().any(|line| line["level"] == "ERROR"), "no fault of ours");
    assert_eq!(server.listening(), [(0, worker)]);
}
