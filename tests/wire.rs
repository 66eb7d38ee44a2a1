//! What is read off the wire and what is written on it: a table of raw requests with the sections of the RFCs that
//! decide them, whole and split at every octet, and the promises about content, refusals and streams.

#[path = "wire/cases.rs"]
mod cases;
mod common;

use cases::{Case, Expect, LONG, Then, cases};
use common::sockets::Sockets;
use common::*;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Follows every case, to see whether the connection goes on.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n";
const NEXT_SHOWN: &str = "GET /next 1.1\ncontent 0 octets: \n";
/// Stands for every well-formed date in what was heard.
const BLOTTED_DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
/// More failures than this say nothing new.
const FAILURES_MAX: usize = 40;
/// A server that has sent nothing for so long cannot.
const STUCK: Duration = Duration::from_millis(250);
/// What a worker's anonymous memory may differ by for reasons that are not the client's.
const SLACK_KIB: u64 = 8 * 1024;

fn mirror(arguments: &[&str]) -> (Server, i32) {
    let mut all = vec!["--workers", "1"];
    all.extend(arguments);
    let server = Server::start(Program::Mirror, &all);
    let worker = server.listening()[0].1;
    (server, worker)
}

/// The server of the table.
fn table_server() -> (Server, i32) {
    mirror(&["--max-body", "64KiB"])
}

fn assert_unharmed(server: &Server, worker: i32) {
    assert_eq!(server.get("/next").text(), NEXT_SHOWN.trim_end());
    assert_eq!(server.listening(), [(0, worker)]);
}

// ---- the table ----

#[test]
fn every_case_of_the_table_is_answered_as_its_section_says() {
    let (server, worker) = table_server();
    let cases = cases();
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| judge(case, &whole(server.address, case)).err().map(|why| describe(case, &why)))
        .collect();
    assert_no_failures(&failures);
    assert_unharmed(&server, worker);
}

/// The answers to a case cut in two, at each octet, and to a case that comes octet by octet.
#[test]
fn every_case_is_answered_the_same_however_it_is_cut() {
    if Sockets::open().is_none() {
        return skip("this kernel does not say what was read (CONFIG_INET_DIAG)");
    }
    // a long head that comes octet by octet takes its time; nearly all the work here is to parse long heads
    let patient = ["--header-timeout", "5m", "--body-timeout", "5m", "--keep-alive-timeout", "5m"];
    let arguments = [&["--workers", "2", "--max-body", "64KiB"], &patient[..]].concat();
    let server = Server::start(Program::Mirror, &arguments);
    let workers = server.listening();
    let cases = cases();
    assert!(cases.iter().filter(|case| case.input.len() > LONG).count() <= 6, "too many long ones");
    let wholes: Vec<Heard> = cases.iter().map(|case| whole(server.address, case)).collect();
    let jobs = jobs(&cases);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(vec![]));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let sockets = Sockets::open().expect("it could be opened before");
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (case, whole) = (&cases[job.case], &wholes[job.case]);
                    if failures.lock().unwrap().len() >= FAILURES_MAX {
                        return;
                    }
                    if let Err(why) = cut_differently(server.address, case, whole, &job.cuts, &sockets) {
                        failures.lock().unwrap().push(describe(case, &why));
                    }
                }
            });
        }
    });
    assert_no_failures(&failures.into_inner().unwrap());
    assert_eq!(server.listening(), workers);
}

#[test]
fn every_answer_has_a_date_and_says_who_answers() {
    let (server, _) = table_server();
    for case in cases() {
        let heard = whole(server.address, &case);
        for answer in answers(&heard.octets, case.is_head()).unwrap_or_default() {
            if answer.status >= 200 {
                assert_eq!(answer.header("date"), Some(BLOTTED_DATE), "{}", answer.head);
                assert_eq!(answer.header("server"), Some("uringd"), "{}", answer.head);
            }
        }
    }
}

/// Part of the table: one connection goes on over several cuts if the case lets it.
struct Job {
    case: usize,
    cuts: Cuts,
}

enum Cuts {
    /// In two, at each of these places.
    At(Range<usize>),
    /// Octet by octet.
    Everywhere,
}

/// The longest ones first, so that no thread is left alone with one.
fn jobs(cases: &[Case]) -> Vec<Job> {
    const CUTS_MAX: usize = 1024;
    let mut jobs = vec![];
    for (case, octets) in cases.iter().map(|case| case.input.len()).enumerate() {
        jobs.push(Job { case, cuts: Cuts::Everywhere });
        for start in (1..=octets).step_by(CUTS_MAX) {
            jobs.push(Job { case, cuts: Cuts::At(start..(start + CUTS_MAX).min(octets + 1)) });
        }
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(cases[job.case].input.len()));
    jobs
}

fn cut_differently(
    server: SocketAddr,
    case: &Case,
    whole: &Heard,
    cuts: &Cuts,
    sockets: &Sockets,
) -> Result<(), String> {
    let input = [&case.input, NEXT].concat();
    let mut wire = None;
    let mut compare = |places: &[usize]| {
        let mut connected = wire.take().unwrap_or_else(|| Wire::connect(server));
        let heard = connected.exchange(&input, places, Some(sockets));
        if heard.end == Ending::Open {
            wire = Some(connected);
        }
        let cut = match places {
            [place] => format!("cut at {place}"),
            _ => "octet by octet".to_owned(),
        };
        let as_well = heard.end == whole.end || (case.then == Then::Leave && heard.end != Ending::Open);
        match heard.octets == whole.octets && as_well {
            true => Ok(()),
            false => Err(format!("{cut} {heard:?}\nwhole {whole:?}")),
        }
    };
    match cuts {
        Cuts::At(places) => places.clone().try_for_each(|place| compare(&[place])),
        Cuts::Everywhere => compare(&(1..input.len()).collect::<Vec<_>>()),
    }
}

fn whole(server: SocketAddr, case: &Case) -> Heard {
    Wire::connect(server).exchange(&[&case.input, NEXT].concat(), &[], None)
}

fn describe(case: &Case, why: &str) -> String {
    let input = String::from_utf8_lossy(&case.input);
    format!("{} {input:.300?} ({} octets), then {:?}:\n{why:.1500}", case.rfc, case.input.len(), case.then)
}

fn assert_no_failures(failures: &[String]) {
    let shown = failures.iter().take(FAILURES_MAX).map(String::as_str).collect::<Vec<_>>();
    assert!(failures.is_empty(), "{} failures:\n\n{}", failures.len(), shown.join("\n\n"));
}

/// What is wrong with the answer to a case and what follows it.
fn judge(case: &Case, heard: &Heard) -> Result<(), String> {
    let all = answers(&heard.octets, case.is_head()).map_err(|why| format!("{why}: {heard:?}"))?;
    let check = |right: bool, what: &str| if right { Ok(()) } else { Err(format!("{what}: {heard:?}")) };
    let interim = all.iter().take_while(|answer| answer.status == 100).count();
    check(interim == usize::from(case.continues), "100 Continue is wrong")?;
    let (answer, following) = all[interim..].split_first().ok_or(format!("no answer: {heard:?}"))?;
    match &case.expect {
        Expect::Status(statuses) => check(statuses.contains(&answer.status), &format!("not {statuses:?}"))?,
        Expect::Gives(content) => {
            check(answer.status == 200 && answer.body == content.as_bytes(), &format!("not {content:?}"))?;
        }
        Expect::Shows(line, content) => {
            let start = String::from_utf8_lossy(&content[..content.len().min(64)]);
            let shown = format!("{line}\ncontent {} octets: {start}\n", content.len());
            check(answer.status == 200 && answer.body == shown.as_bytes(), &format!("not {shown:?}"))?;
        }
    }
    check(answer.status != 405 || answer.header("allow") == Some("GET, HEAD"), "no Allow")?;
    let old = speaks_http10(&case.input);
    check(!old || answer.header("transfer-encoding").is_none(), "a coding for HTTP/1.0")?;
    check(answer.status != 204 || answer.header("content-length").is_none(), "204 with a length")?;
    let said = answer.header("connection");
    match case.then {
        Then::Keep => {
            let confirmed = old.then_some("keep-alive");
            check(said == confirmed, "the Connection field is wrong")?;
            check(
                following.len() == 1 && following[0].text() == NEXT_SHOWN.trim_end(),
                "not followed by one",
            )?;
            check(heard.end == Ending::Open, "the connection does not go on")
        }
        Then::Close | Then::Leave => {
            check(said == Some("close"), "does not say close")?;
            check(following.is_empty(), "something is answered behind it")?;
            check(heard.end == Ending::Closed, "the connection does not end as it should")
        }
    }
}

fn speaks_http10(input: &[u8]) -> bool {
    let lines = input.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii);
    lines.into_iter().find(|line| !line.is_empty()).is_some_and(|line| line.ends_with(b" HTTP/1.0"))
}

// ---- refusals ----

#[test]
fn every_refusal_reaches_a_client_that_goes_on_sending() {
    let (server, worker) = table_server();
    let garbage = vec![b'g'; 1024 * 1024];
    let mut failures = vec![];
    let mut statuses = vec![];
    for case in cases().iter().filter(|case| case.is_refused()) {
        let expected = whole(server.address, case);
        let mut wire = Wire::connect(server.address);
        let _ = wire.stream.write_all(&case.input);
        // the connection may be gone before all of it is sent: what counts is what was answered
        let _ = wire.stream.write_all(&garbage);
        let heard = wire.hear();
        if heard.octets != expected.octets || heard.end == Ending::Open {
            failures.push(describe(case, &format!("{heard:?}\nalone {expected:?}")));
        }
        statuses.extend(answers(&heard.octets, case.is_head()).unwrap_or_default().pop().map(|a| a.status));
    }
    assert_no_failures(&failures);
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [400, 413, 414, 417, 431, 501, 505]);
    assert_unharmed(&server, worker);
}

#[test]
fn a_field_that_a_client_chose_cannot_become_two() {
    let (server, worker) = mirror(&[]);
    let mut client = server.connect();
    let answer = client.get("/header?value=a%20b%09c%c3%a9");
    assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
    for value in
        ["a%0d%0aSet-Cookie:%20b", "a%0aSet-Cookie:%20b", "%0d", "a%00", "%0d%0a%0d%0aHTTP/1.1", "%7f"]
    {
        let answer = client.get(&format!("/header?value={value}"));
        assert_eq!((answer.status, answer.header("x-value"), answer.header("set-cookie")), (500, None, None));
    }
    assert_unharmed(&server, worker);
}

// ---- answers ----

/// RFC 9110 section 9.3.2.
#[test]
fn head_is_answered_with_the_fields_of_get_and_without_content() {
    let (server, _) = mirror(&[]);
    let paths = [
        "/",
        "/anything?x=y",
        "/header?value=a",
        "/header?value=%0a",
        "/stream?n=3&size=5",
        "/stream?n=0&size=0",
        "/stream-broken",
        "/status?code=200",
        "/status?code=204",
        "/status?code=304",
        "/status?code=404",
        "/status?code=500",
        "/unwanted",
    ];
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        for path in paths {
            let heads = ["GET", "HEAD"].map(|method| {
                let mut client = server.connect();
                client.send(format!("{method} {path} {version}\r\nHost: x\r\nConnection: close\r\n\r\n"));
                let head = client.read_head().unwrap_or_else(|error| panic!("{method} {path}: {error}"));
                if method == "HEAD" {
                    assert_eq!(client.read_to_end().unwrap(), b"", "{path}");
                }
                let mut head = head.head.into_bytes();
                blot_out_dates(&mut head);
                String::from_utf8(head).unwrap()
            });
            assert_eq!(heads[0], heads[1], "{path} {version}");
        }
    }
}

#[test]
fn without_the_server_header_no_answer_says_who_answers() {
    let (server, _) = mirror(&["--server-header", "off"]);
    let heads = [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /status?code=204 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /stream?n=1&size=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /unwanted HTTP/1.1\r\nHost: x\r\n\r\n",
        "BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ];
    for head in heads {
        let mut client = server.connect();
        client.send(head);
        let answer = client.read_head().unwrap();
        assert!(answer.header("server").is_none() && answer.header("date").is_some(), "{}", answer.head);
    }
}

// ---- content ----

#[test]
fn content_octet_by_octet_is_whole_in_the_end() {
    let Some(sockets) = Sockets::open() else {
        return skip("this kernel does not say what was read (CONFIG_INET_DIAG)");
    };
    let (server, _) = mirror(&[]);
    let content: Vec<u8> = (0..2000).map(|place| b'a' + (place % 26) as u8).collect();
    let mut chunks = vec![];
    for chunk in content.chunks(7) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    for (field, sent) in [("Content-Length: 2000", &content), ("Transfer-Encoding: chunked", &chunks)] {
        let head = format!("POST /a HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
        let input = [head.as_bytes(), sent, NEXT].concat();
        let places: Vec<usize> = (head.len()..head.len() + sent.len()).collect();
        let heard = Wire::connect(server.address).exchange(&input, &places, Some(&sockets));
        let shown =
            format!("POST /a 1.1\ncontent 2000 octets: {}\n", String::from_utf8_lossy(&content[..64]));
        let bodies = answers(&heard.octets, false).unwrap().into_iter().map(|answer| answer.body);
        assert_eq!(bodies.collect::<Vec<_>>(), [shown.as_bytes(), NEXT_SHOWN.as_bytes()], "{field}");
    }
}

/// RFC 9110 section 15.5.14.
#[test]
fn content_as_long_as_max_body_is_served_and_one_octet_more_is_refused_before_it_is_sent() {
    const OCTETS: usize = 1024 * 1024;
    let (server, worker) = mirror(&["--max-body", "1MiB"]);
    let content = vec![b'm'; OCTETS];
    let shown = format!("POST /m 1.1\ncontent {OCTETS} octets: {}\n", "m".repeat(64));
    let post = |field: String| format!("POST /m HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");

    let mut client = server.connect();
    for _ in 0..3 {
        client.send(post(format!("Content-Length: {OCTETS}")));
        client.send(&content);
        assert_eq!(client.read_answer().unwrap().body, shown.as_bytes());
        client.send(post("Transfer-Encoding: chunked".into()));
        for chunk in content.chunks(10_000) {
            client.send(format!("{:x}\r\n", chunk.len()));
            client.send(chunk);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.read_answer().unwrap().body, shown.as_bytes());
    }

    let too_much = [
        post(format!("Content-Length: {}", OCTETS + 1)),
        post("Transfer-Encoding: chunked".into()) + "100001\r\n",
        post(format!("Content-Length: {}\r\nExpect: 100-continue", OCTETS + 1)),
    ];
    for head in too_much {
        let mut client = server.connect();
        client.send(&head);
        let answer = client.read_answer().unwrap();
        assert_eq!((answer.status, answer.closes()), (413, true), "{head}");
        assert_eq!(client.read_to_end().unwrap(), b"", "{head}");
    }
    assert_unharmed(&server, worker);
}

/// RFC 9110 section 10.1.1.
#[test]
fn a_client_that_asks_first_is_told_to_go_on_before_it_sends() {
    let (server, _) = mirror(&[]);
    let mut client = server.connect();
    for (field, content) in
        [("Content-Length: 3", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n")]
    {
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{field}\r\n\r\n"));
        assert_eq!(client.read_head().unwrap().head, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send(content);
        assert_eq!(client.read_answer().unwrap().text(), "POST / 1.1\ncontent 3 octets: abc");
    }
}

/// RFC 9112 section 9.3.
#[test]
fn unwanted_content_is_read_if_there_is_little_and_closes_the_connection_if_there_is_much() {
    let (server, worker) = mirror(&["--max-body", "1MiB"]);
    let unwanted =
        |octets: usize| format!("POST /unwanted HTTP/1.1\r\nHost: x\r\nContent-Length: {octets}\r\n\r\n");
    let mut client = server.connect();
    client.send(unwanted(64 * 1024));
    let answer = client.read_answer().expect("the answer before the content");
    assert_eq!((answer.status, answer.closes()), (405, false));
    client.send(vec![b'u'; 64 * 1024]);
    assert_eq!(client.get("/next").text(), NEXT_SHOWN.trim_end());

    client.send(unwanted(64 * 1024 + 1));
    let answer = client.read_answer().expect("the answer before the content");
    assert_eq!((answer.status, answer.closes()), (405, true));
    client.send(vec![b'u'; 1000]);
    assert_eq!(client.read_to_end().unwrap(), b"");
    assert_unharmed(&server, worker);
}

/// RFC 9112 section 6.3: a second answer would be taken for that to the client's next request.
#[test]
fn content_that_turns_out_wrong_behind_its_answer_ends_the_connection_without_another_answer() {
    let (server, worker) = mirror(&["--max-body", "1MiB"]);
    let unwanted = b"POST /unwanted HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let much = [b"10000\r\n", &vec![b'u'; 0x10000][..], b"\r\n1\r\nu\r\n0\r\n\r\n"].concat();
    for content in [b"g\r\n", &b"1\r\nabc"[..], b"0\r\nA\r\n\r\n", b"10001\r\n", &much] {
        let input = [unwanted, content, NEXT].concat();
        let heard = Wire::connect(server.address).exchange(&input, &[], None);
        let statuses = answers(&heard.octets, false).unwrap().into_iter().map(|answer| answer.status);
        assert_eq!((statuses.collect::<Vec<_>>(), &heard.end), (vec![405], &Ending::Closed), "{heard:?}");
    }
    assert_unharmed(&server, worker);
}

#[test]
fn slow_content_is_answered_408_and_steady_content_may_take_its_time() {
    const LIMIT: Duration = Duration::from_secs(4);
    let (server, worker) = mirror(&["--body-timeout", "4s", "--body-rate", "1000"]);
    let head = |field: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
    let (length, chunked) = (head("Content-Length: 90000"), head("Transfer-Encoding: chunked"));
    thread::scope(|scope| {
        // nothing at all; 200 octets a second; an octet of an endless chunk's extension now and then
        for (head, piece) in
            [(&length, vec![]), (&length, vec![b's'; 10]), (&chunked, b"1\r\ns\r\n".to_vec())]
        {
            let server = &server;
            scope.spawn(move || {
                let start = Instant::now();
                let mut client = server.connect();
                client.send(head);
                let answer = trickle(&mut client, &piece, Duration::from_millis(50));
                let took = start.elapsed();
                assert_eq!((answer.status, answer.closes()), (408, true), "{head} {piece:?}");
                assert!(answer.header("date").is_some());
                // in whole milliseconds
                assert!(took + Duration::from_millis(1) >= LIMIT, "after {took:?}");
            });
        }
        for (head, piece) in
            [(&length, vec![b'f'; 2000]), (&chunked, [b"7d0\r\n", &[b'f'; 2000][..], b"\r\n"].concat())]
        {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.connect();
                client.send(head);
                // ten times the rate, twice the timeout
                for _ in 0..45 {
                    client.send(&piece);
                    thread::sleep(LIMIT / 20);
                }
                if head.contains("chunked") {
                    client.send("0\r\n\r\n");
                }
                let answer = client.read_answer().unwrap();
                assert_eq!(answer.status, 200, "{head}");
                assert!(answer.text().contains("content 90000 octets: ffff"), "{}", answer.text());
                assert_eq!(client.get("/next").status, 200, "the connection goes on");
            });
        }
    });
    assert_unharmed(&server, worker);
}

/// Sends a piece now and then until there is an answer. Long before all of it could be sent so slowly there is one.
fn trickle(client: &mut Client, piece: &[u8], pause: Duration) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    client.stream.set_read_timeout(Some(pause)).unwrap();
    loop {
        match client.read_answer() {
            Ok(answer) => return answer,
            Err(error) if is_pause(&error) => {}
            Err(error) => panic!("no answer: {error}"),
        }
        assert!(Instant::now() < deadline, "still read");
        // who has been refused may be closed already: what counts is what was answered
        let _ = client.stream.write_all(piece);
    }
}

// ---- streams ----

#[test]
fn a_stream_arrives_whole_in_order_and_the_connection_goes_on() {
    let (server, _) = mirror(&[]);
    let mut wire = Wire::connect(server.address);
    let head = "GET /stream?n=300&size=20000 HTTP/1.1\r\nHost: x\r\n\r\n";
    let heard = wire.exchange(&[head.as_bytes(), NEXT].concat(), &[], None);
    let answers = answers(&heard.octets, false).unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(
        (answers[0].header("transfer-encoding"), answers[0].header("content-length")),
        (Some("chunked"), None)
    );
    assert_eq!(answers[0].body.len(), 300 * 20_000);
    for (piece, letter) in answers[0].body.chunks(20_000).zip((b'a'..=b'z').cycle()) {
        assert!(piece.iter().all(|octet| *octet == letter));
    }
}

/// RFC 9112 section 8: without the last chunk nobody takes it for whole.
#[test]
fn a_stream_that_fails_is_cut_without_the_last_chunk() {
    let (server, worker) = mirror(&[]);
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut wire = Wire::connect(server.address);
        let head = format!("GET /stream-broken {version}\r\nHost: x\r\n\r\n");
        let heard = wire.exchange(&[head.as_bytes(), NEXT].concat(), &[], None);
        assert!(heard.end != Ending::Open && !heard.octets.ends_with(b"0\r\n\r\n"), "{heard:?}");
        if version == "HTTP/1.1" {
            assert!(answers(&heard.octets, false).is_err(), "{heard:?}");
        }
        assert!(!String::from_utf8_lossy(&heard.octets).contains("/next"), "{heard:?}");
    }
    assert_unharmed(&server, worker);
}

#[test]
fn a_part_of_a_file_arrives_octet_for_octet() {
    let (server, worker) = mirror(&[]);
    let program = std::fs::read(Program::Mirror.path()).unwrap();
    let mut client = server.connect();
    for (start, end) in [(0, 0), (0, 1), (5000, 9096), (262_140, 262_150), (1, 1_000_000), (0, program.len())]
    {
        let answer = client.get(&format!("/part?start={start}&end={end}"));
        assert_eq!(answer.status, 200);
        assert!(answer.body == program[start..end], "{start}..{end}");
    }
    assert_eq!(client.get("/part?start=2&end=1").status, 416);
    assert_unharmed(&server, worker);
}

#[test]
fn promises_of_other_threads_are_kept_in_order_and_a_lost_one_is_500() {
    let (server, worker) = mirror(&[]);
    let mut client = server.connect();
    let paths = ["/promise", "/promise-broken", "/promise", "/x"];
    client.send(paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).concat());
    let answers: Vec<Answer> = paths.iter().map(|_| client.read_answer().expect("an answer")).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 500, 200, 200]);
    assert_eq!(answers[2].text(), "from another thread");
    // clients that do not wait for it
    for _ in 0..100 {
        server.connect().send("GET /promise HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert_unharmed(&server, worker);
}

#[test]
fn a_stream_that_nobody_reads_is_not_made() {
    let Some(sockets) = Sockets::open() else {
        return skip("this kernel does not say what was read (CONFIG_INET_DIAG)");
    };
    let (server, worker) = mirror(&["--send-timeout", "5m"]);
    server.get("/next");
    let before = rss_anon(worker);
    let bounded = |when: &str| {
        let now = rss_anon(worker);
        assert!(now < before + SLACK_KIB, "{when}: {now} KiB, before {before} KiB");
    };
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        // 10 GB
        client.send("GET /stream?n=1000000&size=10000 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_head().unwrap().header("transfer-encoding"), Some("chunked"));
    }
    for client in &clients {
        sockets.wait_until_stuck(&client.stream, STUCK);
        bounded("nobody reads");
    }
    for _ in 0..50 {
        clients[0].read_octets(1024 * 1024).expect("more of the stream");
        bounded("one reads");
    }
    sockets.wait_until_stuck(&clients[0].stream, STUCK);
    bounded("it has stopped again");
    assert_eq!(server.get("/next").status, 200, "others are served");
    clients.into_iter().for_each(Client::reset);
    server.wait("all sockets are closed", || server.held_connections() == 0);
    bounded("all are gone");
    assert_unharmed(&server, worker);
}

// ---- one connection, octet by octet ----

/// A connection of which it is known how much was sent.
struct Wire {
    stream: TcpStream,
    sent: u64,
}

/// What came back, dates blotted out, and what the connection was then.
struct Heard {
    octets: Vec<u8>,
    end: Ending,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    /// The following request was answered.
    Open,
    Closed,
    Broken(String),
}

impl Wire {
    fn connect(server: SocketAddr) -> Wire {
        Wire { stream: Client::connect(server).stream, sent: 0 }
    }

    /// Sends the input cut at these places, and each piece only when the server has read the one before.
    fn exchange(&mut self, input: &[u8], places: &[usize], sockets: Option<&Sockets>) -> Heard {
        let mut start = 0;
        for end in places.iter().copied().chain([input.len()]) {
            // whoever was refused may be closed before all is sent: what counts is what was answered
            if self.stream.write_all(&input[start..end]).is_err() {
                break;
            }
            self.sent += (end - start) as u64;
            start = end;
            if let Some(sockets) = sockets.filter(|_| end < input.len()) {
                self.wait_until_read(sockets);
            }
        }
        self.hear()
    }

    fn wait_until_read(&self, sockets: &Sockets) {
        let (local, Ok(server)) = (self.stream.local_addr().unwrap(), self.stream.peer_addr()) else {
            return;
        };
        sockets.wait_until_read(self.sent, server, local);
    }

    /// Reads until the following request is answered or the connection ends.
    fn hear(&mut self) -> Heard {
        let (mut octets, mut buffer) = (vec![], [0; 65536]);
        let end = loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break Ending::Closed,
                Ok(more) => octets.extend_from_slice(&buffer[..more]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Ending::Broken(error.to_string()),
            }
            if octets.ends_with(NEXT_SHOWN.as_bytes()) {
                break Ending::Open;
            }
        };
        blot_out_dates(&mut octets);
        Heard { octets, end }
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.octets);
        write!(f, "{:?}: {} octets {text:.1000?}", self.end, self.octets.len())
    }
}

/// A date as it must be (RFC 9110 section 5.6.7) becomes the same one everywhere; another one stays to be seen.
fn blot_out_dates(octets: &mut [u8]) {
    const NAME: &[u8] = b"\r\nDate: ";
    let starts: Vec<usize> =
        memchr::memmem::find_iter(octets, NAME).map(|place| place + NAME.len()).collect();
    for start in starts {
        let Some(date) = octets.get_mut(start..start + BLOTTED_DATE.len()) else { continue };
        if std::str::from_utf8(date).is_ok_and(|date| httpdate::parse_http_date(date).is_ok()) {
            date.copy_from_slice(BLOTTED_DATE.as_bytes());
        }
    }
}

/// Takes octets apart into answers, of which the first final one is one to HEAD or not, strictly: what is left over or
/// missing is an error.
fn answers(octets: &[u8], mut to_head: bool) -> Result<Vec<Answer>, String> {
    let (mut answers, mut rest) = (vec![], octets);
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n\r\n").ok_or("a head without end")? + 4;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3)?.parse().ok());
        let mut answer = Answer { status: status.ok_or("no status line")?, head, body: vec![] };
        rest = &rest[end..];
        let has_content = answer.status >= 200 && ![204, 304].contains(&answer.status) && !to_head;
        if has_content {
            (answer.body, rest) = content(&answer, rest)?;
        }
        to_head &= answer.status < 200;
        answers.push(answer);
    }
    Ok(answers)
}

/// RFC 9112 section 6.3: the content of this answer, and what follows it.
fn content<'a>(answer: &Answer, octets: &'a [u8]) -> Result<(Vec<u8>, &'a [u8]), String> {
    match (answer.header("transfer-encoding"), answer.header("content-length")) {
        (Some("chunked"), None) => dechunked(octets),
        (None, Some(length)) => {
            let length = length.parse().map_err(|_| "no length")?;
            let (content, rest) = octets.split_at_checked(length).ok_or("content is missing")?;
            Ok((content.to_vec(), rest))
        }
        (None, None) if answer.closes() => Ok((octets.to_vec(), &[])),
        other => Err(format!("nobody knows where this ends: {other:?}")),
    }
}

fn dechunked(mut octets: &[u8]) -> Result<(Vec<u8>, &[u8]), String> {
    let mut content = vec![];
    loop {
        let end = memchr::memmem::find(octets, b"\r\n").ok_or("a chunk without a size")?;
        let size =
            std::str::from_utf8(&octets[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or("no size")?;
        let chunk = octets.get(end + 2..end + 2 + size).ok_or("a chunk is missing")?;
        octets = octets[end + 2 + size..].strip_prefix(b"\r\n").ok_or("a chunk without end")?;
        if size == 0 {
            return Ok((content, octets));
        }
        content.extend_from_slice(chunk);
    }
}

/// How a read with a timeout says that nothing came.
fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
