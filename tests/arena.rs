//! `examples/arena.rs` gives the HTTP arena benchmark what its validation asks for, whatever the requests are cut into,
//! and says what is wrong with the rest.

mod common;

use common::sockets::Sockets;
use common::*;
use serde_json::Value;
use std::net::Shutdown;
use std::process::{Command, Stdio};

const TEXT: &str = "text/plain; charset=utf-8";
/// What a worker's anonymous memory may grow by while it counts an upload.
const GROWTH_KIB_MAX: u64 = 2 * 1024;
const UPLOAD_OCTETS: usize = 20 << 20;

/// However slowly a test sends.
const PATIENT: [&str; 6] = ["--workers", "1", "--header-timeout", "5m", "--body-timeout", "5m"];

fn arena() -> (Server, i32) {
    let server = Server::start(Program::Arena, &PATIENT);
    let worker = server.listening()[0].1;
    (server, worker)
}

/// With a Content-Length.
fn request(method: &str, target: &str, content: &str) -> Vec<u8> {
    let length = content.len();
    format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{content}").into_bytes()
}

/// The content given chunk by chunk, each as it is on the wire.
fn chunked(target: &str, chunks: &str) -> Vec<u8> {
    format!("POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").into_bytes()
}

#[test]
fn numbers_are_added() {
    let (server, worker) = arena();
    let mut client = server.connect();
    for (query, content, status, said) in [
        ("?a=13&b=42", "", 200, "55"),
        ("?a=13&b=42", "20", 200, "75"),
        ("?a=13&b=42", " 20\r\n", 200, "75"),
        ("?a=13&b=42", "-20", 200, "35"),
        ("?a=-13&b=-42", "", 200, "-55"),
        ("", "", 200, "0"),
        ("?", "", 200, "0"),
        ("", "7", 200, "7"),
        ("?a=1&a=2&a=3&z=4", "", 200, "10"),
        ("?a=1&b=&c=x&d=1.5&e=2e3&f&=6", "", 200, "7"),
        ("?%61=%31%30&b=1+1&c=+1", "", 200, "10"),
        ("?a=9223372036854775807&b=-9223372036854775808", "", 200, "-1"),
        ("?a=9223372036854775807&b=1&c=-1", "", 200, "9223372036854775807"),
        ("?a=9223372036854775807&b=1", "", 400, "the sum does not fit into 64 bits"),
        ("?a=9223372036854775807", "1", 400, "the sum does not fit into 64 bits"),
        ("?a=9223372036854775808", "", 400, "a number does not fit into 64 bits"),
        ("?a=1", "-99999999999999999999", 400, "a number does not fit into 64 bits"),
        ("?a=1", "x", 400, "the content is no whole number"),
        ("?a=1", "2 3", 400, "the content is no whole number"),
        ("?a=1", "2.0", 400, "the content is no whole number"),
        ("?a=1", "\u{ff12}", 400, "the content is no whole number"),
    ] {
        client.send(request("POST", &format!("/baseline11{query}"), content));
        let answer = client.read_answer().unwrap();
        let given = (answer.status, answer.text(), answer.header("content-type"));
        assert_eq!(given, (status, said.to_owned(), Some(TEXT)), "{query} {content:?}");
        if content.is_empty() {
            let got = client.get(&format!("/baseline11{query}"));
            assert_eq!((got.status, &got.body), (status, &answer.body), "{query}");
            assert_eq!(got.dateless_head(), answer.dateless_head(), "{query}");
        }
    }
    // the content of a GET means nothing (RFC 9110 section 9.3.1)
    client.send(request("GET", "/baseline11?a=1", "x"));
    assert_eq!(client.read_answer().unwrap().text(), "1");
    client.send(b"POST /baseline11 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n\xff");
    assert_eq!(client.read_answer().unwrap().text(), "the content is no whole number");
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn items_come_with_their_totals() {
    let (server, _) = arena();
    let mut client = server.connect();
    for (target, count, m) in [
        ("/json/12?m=3", 12, 3),
        ("/json/22?m=7", 22, 7),
        ("/json/31?m=2", 31, 2),
        ("/json/50?m=5", 50, 5),
        ("/json/1", 1, 1),
        ("/json/0?m=9", 0, 9),
        ("/json/-5", 0, 1),
        ("/json/51", 50, 1),
        ("/json/9223372036854775807", 50, 1),
        ("/json/3?m=-2&m=5&x=y", 3, -2),
        ("/json/3?m=0", 3, 0),
        ("/json?count=4&m=6", 4, 6),
        ("/json?count=60", 50, 1),
        ("/json", 50, 1),
        ("/json?m=10000000000", 50, 10_000_000_000),
    ] {
        let answer = client.get(target);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("application/json")),
            "{target}"
        );
        let page: Value = serde_json::from_slice(&answer.body).expect(target);
        let items = page["items"].as_array().unwrap();
        assert_eq!((page["count"].as_i64(), items.len()), (Some(count), count as usize), "{target}");
        for (id, item) in (1..).zip(items) {
            assert_item(item, id, m);
        }
    }
    for (target, said) in [
        ("/json/abc", "the count is no whole number"),
        ("/json/", "the count is no whole number"),
        ("/json/1/2", "the count is no whole number"),
        ("/json/1.5", "the count is no whole number"),
        ("/json?count=", "the count is no whole number"),
        ("/json/1?m=x", "m is no whole number"),
        ("/json/1?m=", "m is no whole number"),
        ("/json/9223372036854775808", "a number does not fit into 64 bits"),
        ("/json/50?m=9223372036854775807", "a total does not fit into 64 bits"),
    ] {
        let answer = client.get(target);
        assert_eq!((answer.status, answer.text().as_str()), (400, said), "{target}");
    }
    // the totals of one answer are not those of another
    let first = client.get("/json/2?m=1");
    client.get("/json/2?m=9");
    assert_eq!(client.get("/json/2?m=1").body, first.body);
}

fn assert_item(item: &Value, id: i64, m: i64) {
    let number = |name: &str| item[name].as_i64().expect(name);
    assert_eq!(number("id"), id);
    assert_eq!(number("total"), number("price") * number("quantity") * m, "{item}");
    assert!(
        item["name"].is_string() && item["category"].is_string() && item["active"].is_boolean(),
        "{item}"
    );
    assert!(item["tags"].as_array().unwrap().iter().all(Value::is_string), "{item}");
    assert!(item["rating"]["score"].is_i64() && item["rating"]["count"].is_i64(), "{item}");
    assert_eq!(
        (item.as_object().unwrap().len(), item["rating"].as_object().unwrap().len()),
        (9, 2),
        "{item}"
    );
}

#[test]
fn sixteen_in_a_row_are_answered_in_a_row() {
    let (server, _) = arena();
    let mut client = server.connect();
    for _ in 0..50 {
        client.send("GET /pipeline HTTP/1.1\r\nHost: x\r\n\r\n".repeat(16));
        for _ in 0..16 {
            let answer = client.read_answer().unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
            assert_eq!(answer.header("content-type"), Some(TEXT));
        }
    }
    // the sums of a pipeline are not mixed up
    let pipeline: Vec<u8> =
        (0..16).flat_map(|n| request("POST", &format!("/baseline11?a={n}"), "100")).collect();
    client.send(pipeline);
    for n in 0..16 {
        assert_eq!(client.read_answer().unwrap().text(), (100 + n).to_string());
    }
    assert_eq!(client.take_unread(), b"");
}

#[test]
fn requests_are_answered_the_same_however_they_are_cut() {
    let Some(sockets) = Sockets::open() else {
        return skip("this kernel does not say what was read (CONFIG_INET_DIAG)");
    };
    let (server, worker) = arena();
    let extensions = "1;a=b\r\n2\r\n1 ; c=\"d;\\\"e\"\r\n0\r\n0;last\r\nTrailer: x\r\n\r\n";
    for (input, said) in [
        (b"GET /baseline11?a=13&b=42 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "55"),
        (request("POST", "/baseline11?a=13&b=42", "20"), "75"),
        (request("POST", "/upload", "content"), "7"),
        (request("POST", "/upload", ""), "0"),
        (chunked("/baseline11?a=13&b=42", "2\r\n20\r\n0\r\n\r\n"), "75"),
        (chunked("/baseline11?a=13&b=42", extensions), "75"),
        (chunked("/baseline11?a=13&b=42", "0\r\n\r\n"), "55"),
        (chunked("/upload", extensions), "2"),
        (chunked("/upload", "3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n"), "13"),
    ] {
        let mut client = server.connect();
        let mut ask = |places: &[usize]| {
            send_cut(&mut client, &input, places, &sockets);
            let answer = client.read_answer().unwrap();
            let shown = String::from_utf8_lossy(&input);
            assert_eq!((answer.status, answer.text().as_str()), (200, said), "{shown:?} cut at {places:?}");
        };
        ask(&[]);
        (1..input.len()).for_each(|place| ask(&[place]));
        ask(&(1..input.len()).collect::<Vec<_>>());
        assert_eq!(client.take_unread(), b"");
    }
    assert_eq!(server.listening(), [(0, worker)]);
}

/// Sends each part when the one before has been read.
fn send_cut(client: &mut Client, input: &[u8], places: &[usize], sockets: &Sockets) {
    let (near, far) = (client.stream.local_addr().unwrap(), client.stream.peer_addr().unwrap());
    let before = sockets.end(far, near).and_then(|end| end.received).unwrap_or(0);
    let mut start = 0;
    for &place in places.iter().chain([&input.len()]) {
        client.send(&input[start..place]);
        start = place;
        sockets.wait_until_read(before + place as u64, far, near);
    }
}

#[test]
fn an_upload_is_counted_and_not_kept() {
    let (server, worker) = arena();
    let mut client = server.connect();
    let piece = vec![b'x'; 1 << 20];
    let pieces = UPLOAD_OCTETS / piece.len();
    client.send(request("POST", "/upload", "warm"));
    assert_eq!(client.read_answer().unwrap().text(), "4");
    let before = rss_anon(worker);
    let mut highest = before;

    client.send(format!("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {UPLOAD_OCTETS}\r\n\r\n"));
    for _ in 0..pieces {
        client.send(&piece);
        highest = highest.max(rss_anon(worker));
    }
    assert_eq!(client.read_answer().unwrap().text(), UPLOAD_OCTETS.to_string());

    // in chunks, whose framing is not content
    client.send("POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..pieces {
        client.send([format!("{:X};e=1\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat());
        highest = highest.max(rss_anon(worker));
    }
    client.send("1\r\nx\r\n0\r\n\r\n");
    assert_eq!(client.read_answer().unwrap().text(), (UPLOAD_OCTETS + 1).to_string());

    let grown = highest.max(rss_anon(worker)) - before;
    println!("two uploads of {UPLOAD_OCTETS} octets took {grown} KiB at most");
    assert!(grown <= GROWTH_KIB_MAX, "{grown} KiB of memory for an upload");
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn an_upload_that_does_not_come_whole_is_not_counted() {
    let (server, worker) = arena();
    for start in [
        "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
        "POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n",
    ] {
        let mut client = server.connect();
        client.send(start);
        client.stream.shutdown(Shutdown::Write).unwrap();
        let heard = String::from_utf8(client.read_to_end().unwrap()).unwrap();
        assert!(!heard.starts_with("HTTP/1.1 2"), "{heard}");
    }
    assert_eq!(server.get("/pipeline").text(), "ok");
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn other_methods_and_paths_are_refused_and_a_head_is_a_get_without_content() {
    let (server, worker) = arena();
    let mut client = server.connect();
    for (method, target, status, allow) in [
        ("POST", "/pipeline", 405, Some("GET, HEAD")),
        ("DELETE", "/baseline11?a=1", 405, Some("GET, HEAD, POST")),
        ("GET", "/upload", 405, Some("POST")),
        ("PUT", "/upload", 405, Some("POST")),
        ("POST", "/json", 405, Some("GET, HEAD")),
        ("POST", "/json/5", 405, Some("GET, HEAD")),
        ("POST", "/static/style.css", 405, Some("GET, HEAD, OPTIONS")),
        ("GET", "/", 404, None),
        ("GET", "/nothing", 404, None),
        ("GET", "/pipeline/", 404, None),
        ("GET", "/baseline", 404, None),
        ("GET", "/baseline111", 404, None),
        ("GET", "/jsonx", 404, None),
        ("GET", "/static", 404, None),
        ("GET", "/static/nonexistent.txt", 404, None),
        ("GET", "/static/../Cargo.toml", 400, None),
        ("GET", "/static/%2e%2e/Cargo.toml", 400, None),
    ] {
        client.send(request(method, target, ""));
        let answer = client.read_answer().unwrap();
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {target}");
    }
    for target in ["/baseline11?a=13&b=42", "/pipeline", "/json/50?m=2", "/static/index.html"] {
        let got = client.get(target);
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let head = client.read_head().unwrap();
        let length = Some(got.body.len().to_string());
        assert_eq!((head.status, head.header("content-length")), (200, length.as_deref()), "{target}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{target}");
    }
    assert_eq!(server.listening(), [(0, worker)]);
}

#[test]
fn files_have_their_types_and_are_looked_at_anew() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("reset.css", "text/css"),
        ("app.js", "text/javascript"),
        ("manifest.json", "application/json"),
        ("header.html", "text/html"),
        ("logo.svg", "image/svg+xml"),
        ("hero.webp", "image/webp"),
        ("bold.woff2", "font/woff2"),
    ];
    for (name, _) in files {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let mut command = Program::Arena.command(&["--listen", "127.0.0.1:0", "--workers", "1"]);
    let server = Server::spawn(command.env("ARENA_STATIC", folder.path()));
    server.wait_until_whole();
    let mut client = server.connect();
    for (name, media_type) in files {
        let answer = client.get(&format!("/static/{name}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, name));
        let given = answer.header("content-type").unwrap().split(';').next();
        assert_eq!(given, Some(media_type), "{name}");
    }
    std::fs::write(folder.path().join("reset.css"), "/* another */").unwrap();
    server
        .wait("the file is sent as it is now", || server.get("/static/reset.css").text() == "/* another */");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let mut command = Program::Arena.command(&["--listen", "127.0.0.1:0", "--workers", "1"]);
    let mut server = Server::spawn(command.env("ARENA_STATIC", "/nonexistent"));
    server.wait_for("the reason", |line| {
        line.to_string().contains("ARENA_STATIC=/nonexistent: No such file or directory")
    });
    assert_eq!(server.wait_exit().code(), Some(3), "it gives up");
}

/// The same calls as the benchmark's validation makes.
#[test]
fn curl_hears_what_the_validation_expects() {
    if Command::new("curl").arg("--version").stdin(Stdio::null()).output().is_err() {
        return skip("there is no `curl` here");
    }
    let (server, _) = arena();
    let port = server.port();
    let curl = |arguments: &[&str], path: &str| {
        let mut command = Command::new("curl");
        command
            .args(["-q", "-s", "--max-time", "30", "-w", "\n%{http_code} %{content_type}"])
            .args(arguments);
        let output = command.arg(format!("http://127.0.0.1:{port}{path}")).stdin(Stdio::null()).output();
        String::from_utf8(output.expect("curl runs").stdout).expect("text")
    };
    let text = ["-H", "Content-Type: text/plain", "-X", "POST", "-d", "20"];
    let ok = |said: &str| format!("{said}\n200 {TEXT}");
    assert_eq!(curl(&[], "/baseline11?a=13&b=42"), ok("55"));
    assert_eq!(curl(&text, "/baseline11?a=13&b=42"), ok("75"));
    let framed = [&text[..], &["-H", "Transfer-Encoding: chunked"]].concat();
    assert_eq!(curl(&framed, "/baseline11?a=13&b=42"), ok("75"));
    assert_eq!(curl(&[], "/pipeline"), ok("ok"));
    assert_eq!(curl(&["-X", "POST", "--data-binary", "Hello, HttpArena!"], "/upload"), ok("17"));
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(UPLOAD_OCTETS as u64).unwrap();
    let data = format!("@{}", file.path().display());
    let binary = ["-X", "POST", "-H", "Content-Type: application/octet-stream", "--data-binary", &data];
    assert_eq!(curl(&binary, "/upload"), ok("20971520"));
    assert!(curl(&[], "/json/50?m=1").ends_with(",\"count\":50}\n200 application/json"));
    assert!(curl(&[], "/static/style.css").ends_with("200 text/css; charset=utf-8"));
    assert!(curl(&[], "/static/nonexistent.txt").contains("\n404 "));
}
