//! Files against real directories: what is sent, what is never sent, and what is noticed when.

use super::*;
use crate::config::Symlinks;
use crate::handler::{set_turn_ms, set_turn_second};
use crate::http::Method;
use cache::{DESCRIPTORS_MAX, FRESH_MS};
use httparse::Header;
use proptest::prelude::*;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// A root with its surroundings: `site` is served, `site-secret` and `secret` are not.
struct Site {
    folder: TempDir,
    settings: FileSettings,
}

const SECRET: &str = "nobody may read this";

/// Longer than any disk takes.
const PATIENCE: Duration = Duration::from_secs(20);

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("site");
        fs::create_dir(&root).unwrap();
        fs::create_dir(folder.path().join("site-secret")).unwrap();
        fs::write(folder.path().join("site-secret/canary"), SECRET).unwrap();
        fs::write(folder.path().join("canary"), SECRET).unwrap();
        Site { folder, settings: FileSettings::new(root) }
    }

    fn path(&self, relative: &str) -> std::path::PathBuf {
        self.settings.root.join(relative)
    }

    fn put(&self, relative: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(relative).parent().unwrap()).unwrap();
        fs::write(self.path(relative), content).unwrap();
    }

    fn link(&self, target: impl AsRef<Path>, relative: &str) {
        symlink(target, self.path(relative)).unwrap();
    }

    /// Through a new name, as a deployment does it.
    fn replace(&self, relative: &str, content: impl AsRef<[u8]>) {
        self.put("new", content);
        fs::rename(self.path("new"), self.path(relative)).unwrap();
    }

    fn files(&self) -> Files {
        Files::with_settings(&self.settings).unwrap()
    }
}

/// Answers, whichever thread does; where the kernel has it in memory is not these tests' business.
fn ask_with(files: &mut Files, method: Method, target: &str, fields: &[(&str, &str)]) -> Response {
    let fields: Vec<Header<'_>> =
        fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
    match files.answer(&Request::example(method, target, &fields)) {
        Outcome::Now(response) => response,
        Outcome::Later { path, known, question, redirect, page } => {
            let (answer, answered) = mpsc::channel();
            let answer = Box::new(move |response| answer.send(response).unwrap());
            let waiter = Waiter { question, redirect, page, answer };
            assert!(files.loader.submit(&path, known, waiter, turn()).is_ok(), "few wait");
            answered.recv_timeout(PATIENCE).expect("an answer")
        }
    }
}

fn ask(files: &mut Files, target: &str) -> Response {
    ask_with(files, Method::Get, target, &[])
}

fn status(files: &mut Files, target: &str) -> u16 {
    ask(files, target).code()
}

fn text(response: &Response) -> &str {
    std::str::from_utf8(response.body().expect("content in memory")).unwrap()
}

#[test]
fn a_file_with_its_fields() {
    let mut site = Site::new();
    site.settings.cache_control = Some("max-age=60".into());
    site.put("a.html", "<p>hello");
    let mut files = site.files();
    let response = ask(&mut files, "/a.html?x=1");
    assert_eq!((response.code(), text(&response)), (200, "<p>hello"));
    let expected = [
        ("Content-Type", Some("text/html; charset=utf-8")),
        ("Accept-Ranges", Some("bytes")),
        ("Cache-Control", Some("max-age=60")),
        ("Content-Encoding", None),
        ("Vary", None),
    ];
    for (name, value) in expected {
        assert_eq!(response.header(name), value, "{name}");
    }
    let tag = response.header("ETag").unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.contains("-8-"), "{tag}");
    assert!(httpdate::parse_http_date(response.header("Last-Modified").unwrap()).is_ok());
}

#[test]
fn files_under_a_prefix() {
    let site = Site::new();
    site.put("a.txt", "a");
    site.put("index.html", "index");
    site.put("sub/index.html", "sub");
    for prefix in ["/static", "/static/"] {
        let mut files = site.files().under(prefix);
        for (target, status) in [
            ("/static/a.txt", 200),
            ("/static/", 200),
            ("/static/sub/", 200),
            ("/static/x/../a.txt", 200),
            ("/static/../a.txt", 400),
            ("/static", 301),
            ("/static?x=1", 301),
            ("/static/sub", 301),
            ("/a.txt", 404),
            ("/", 404),
            ("/statica.txt", 404),
            ("/static.txt", 404),
            ("/Static/a.txt", 404),
            ("/static/%zz", 400),
        ] {
            assert_eq!(self::status(&mut files, target), status, "{target}");
        }
        for (target, location) in
            [("/static", "/static/"), ("/static?x=1", "/static/?x=1"), ("/static/sub?y", "/static/sub/?y")]
        {
            assert_eq!(ask(&mut files, target).header("Location"), Some(location), "{target}");
        }
    }
    let mut files = site.files().under("/");
    assert_eq!(status(&mut files, "/a.txt"), 200, "no prefix at all");
}

#[test]
fn names_and_their_media_types() {
    let table = [
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.TXT", "text/plain; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.xml", "text/xml; charset=utf-8"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.avif", "image/avif"),
        ("a.webp", "image/webp"),
        ("a.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a.pdf", "application/pdf"),
        ("a.mp4", "video/mp4"),
        ("a", "application/octet-stream"),
        ("a.b.unknown", "application/octet-stream"),
    ];
    let site = Site::new();
    let mut files = site.files();
    for (name, expected) in table {
        site.put(name, "");
        let response = ask(&mut files, &format!("/{name}"));
        assert_eq!(response.header("Content-Type"), Some(expected), "{name}");
        assert!(response.code() == 200 && response.body().unwrap().is_empty());
    }
}

#[test]
fn methods() {
    let site = Site::new();
    site.put("a", "content");
    let mut files = site.files();
    for method in [Method::Get, Method::Head] {
        // the server leaves the content of a HEAD's answer out
        let response = ask_with(&mut files, method, "/a", &[]);
        assert_eq!((response.code(), text(&response)), (200, "content"));
        assert!(matches!(files.admit(&Request::example(method, "/a", &[])), Admission::Collect));
    }
    // RFC 9110 sections 9.3.7 and 15.5.6
    let table = [
        (Method::Options, "/a", 204),
        (Method::Options, "*", 204),
        (Method::Post, "/a", 405),
        (Method::Put, "/missing", 405),
        (Method::Delete, "/a", 405),
        (Method::Connect, "a:80", 405),
        (Method::Trace, "/a", 405),
        (Method::Patch, "/.hidden", 405),
    ];
    for (method, target, expected) in table {
        let response = ask_with(&mut files, method, target, &[]);
        assert_eq!(response.code(), expected, "{method:?}");
        assert_eq!(response.header("Allow"), Some("GET, HEAD, OPTIONS"));
        match files.admit(&Request::example(method, target, &[])) {
            Admission::Answer(response) => assert_eq!(response.code(), expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn directories() {
    let site = Site::new();
    site.put("index.html", "root");
    site.put("a b/index.html", "inner");
    fs::create_dir_all(site.path("empty")).unwrap();
    fs::create_dir_all(site.path("odd/index.html")).unwrap();
    site.put("file", "");
    let mut files = site.files();
    for (target, expected) in
        [("/", "root"), ("/index.html", "root"), ("/a%20b/", "inner"), ("/x/..", "root")]
    {
        assert_eq!(text(&ask(&mut files, target)), expected, "{target}");
    }
    for (target, location) in
        [("/a%20b?x=/y", "/a%20b/?x=/y"), ("//empty", "/empty/"), ("/odd/index.html", "/odd/index.html/")]
    {
        let response = ask(&mut files, target);
        assert_eq!((response.code(), response.header("Location")), (301, Some(location)), "{target}");
    }
    for target in ["/empty/", "/odd/", "/file/", "/file/x", "/missing", "/missing/"] {
        assert_eq!(status(&mut files, target), 404, "{target}");
    }
}

#[test]
fn a_directory_that_may_be_entered_but_not_read_is_one() {
    let site = Site::new();
    site.put("a/index.html", "inside");
    fs::set_permissions(site.path("a"), Permissions::from_mode(0o711)).unwrap();
    let mut files = site.files();
    assert_eq!(status(&mut files, "/a"), 301);
    assert_eq!(text(&ask(&mut files, "/a/")), "inside");
}

#[test]
fn paths_that_are_refused() {
    let site = Site::new();
    site.put(".env", SECRET);
    site.put(".well-known/x", "known");
    let mut files = site.files();
    for (target, expected) in
        [("/%zz", 400), ("/../canary", 400), ("*", 400), ("/.env", 404), ("/a%2fb", 404)]
    {
        assert_eq!(status(&mut files, target), expected, "{target}");
    }
    assert_eq!(text(&ask(&mut files, "/.well-known/x")), "known");
}

#[test]
fn the_page_for_what_is_not_there() {
    let mut site = Site::new();
    site.settings.not_found = Some("404.html".into());
    site.settings.cache_control = Some("max-age=60".into());
    site.put("404.html", "<p>nothing here");
    site.put("404.html.gz", "packed");
    fs::create_dir(site.path("empty")).unwrap();
    let mut files = site.files();
    for target in ["/missing", "/.hidden", "/empty/", "/missing"] {
        let fields = [("Accept-Encoding", "gzip"), ("Range", "bytes=0-1"), ("If-None-Match", "*")];
        let response = ask_with(&mut files, Method::Get, target, &fields);
        assert_eq!((response.code(), text(&response)), (404, "<p>nothing here"), "{target}");
        assert_eq!(response.header("Content-Type"), Some("text/html; charset=utf-8"));
        for name in ["ETag", "Last-Modified", "Cache-Control", "Content-Range"] {
            assert_eq!(response.header(name), None, "{name}");
        }
    }
    assert_eq!(status(&mut files, "/404.html"), 200);
    assert_eq!(status(&mut files, "/%zz"), 400);
    fs::remove_file(site.path("404.html")).unwrap();
    set_turn_ms(turn_ms() + FRESH_MS);
    let response = ask(&mut files, "/missing");
    assert_eq!((response.code(), text(&response)), (404, "Not Found"));
}

#[test]
fn conditions_and_ranges() {
    let site = Site::new();
    site.put("a.txt", "0123456789");
    site.put("empty", "");
    let mut files = site.files();
    let first = ask(&mut files, "/a.txt");
    let (tag, date) = (first.header("ETag").unwrap(), first.header("Last-Modified").unwrap());
    let long_ago = "Sun, 06 Nov 1994 08:49:37 GMT";
    type Case<'a> = (Method, &'a [(&'a str, &'a str)], u16, &'a str);
    let table: &[Case<'_>] = &[
        // RFC 9110 section 13.1
        (Method::Get, &[("If-None-Match", tag)], 304, ""),
        (Method::Head, &[("If-None-Match", tag)], 304, ""),
        (Method::Get, &[("If-None-Match", "\"other\"")], 200, "0123456789"),
        (Method::Get, &[("If-None-Match", "\"other\""), ("If-Modified-Since", date)], 200, "0123456789"),
        (Method::Get, &[("If-Modified-Since", date)], 304, ""),
        (Method::Get, &[("If-Modified-Since", long_ago)], 200, "0123456789"),
        (Method::Get, &[("If-Match", "\"other\"")], 412, "Precondition Failed"),
        (Method::Get, &[("If-Unmodified-Since", long_ago)], 412, "Precondition Failed"),
        // section 14.2
        (Method::Get, &[("Range", "bytes=2-4")], 206, "234"),
        (Method::Get, &[("Range", "bytes=-3")], 206, "789"),
        (Method::Get, &[("Range", "bytes=10-")], 416, "Range Not Satisfiable"),
        (Method::Get, &[("Range", "bytes=0-1,3-4")], 200, "0123456789"),
        (Method::Head, &[("Range", "bytes=2-4")], 200, "0123456789"),
        // section 13.1.5
        (Method::Get, &[("Range", "bytes=2-4"), ("If-Range", tag)], 206, "234"),
        (Method::Get, &[("Range", "bytes=2-4"), ("If-Range", "\"other\"")], 200, "0123456789"),
        // section 13.2.2: the conditions come first
        (Method::Get, &[("Range", "bytes=10-"), ("If-None-Match", tag)], 304, ""),
        // section 12.5.3
        (Method::Get, &[("Accept-Encoding", "identity;q=0")], 406, "Not Acceptable"),
    ];
    for (method, fields, expected, content) in table {
        let response = ask_with(&mut files, *method, "/a.txt", fields);
        assert_eq!((response.code(), text(&response)), (*expected, *content), "{fields:?}");
        match expected {
            200 | 206 | 304 => assert_eq!(response.header("ETag"), Some(tag), "{fields:?}"),
            _ => assert_eq!(response.header("ETag"), None, "{fields:?}"),
        }
    }
    let range = |files: &mut Files, target: &str, range: &str| {
        ask_with(files, Method::Get, target, &[("Range", range)]).header("Content-Range").map(str::to_owned)
    };
    assert_eq!(range(&mut files, "/a.txt", "bytes=2-4").as_deref(), Some("bytes 2-4/10"));
    assert_eq!(range(&mut files, "/a.txt", "bytes=10-").as_deref(), Some("bytes */10"));
    assert_eq!(range(&mut files, "/empty", "bytes=0-").as_deref(), Some("bytes */0"));
}

#[test]
fn a_long_file_is_not_copied() {
    let site = Site::new();
    site.put("long", vec![b'x'; 1300 * 1024]);
    let mut files = site.files();
    let response = ask(&mut files, "/long");
    let whole = response.file_range().unwrap();
    assert_eq!((response.code(), &whole.range), (200, &(0..1300 * 1024)));
    let response = ask_with(&mut files, Method::Get, "/long", &[("Range", "bytes=-10")]);
    let part = response.file_range().unwrap();
    assert_eq!((response.code(), &part.range), (206, &(1300 * 1024 - 10..1300 * 1024)));
    assert!(Arc::ptr_eq(&whole.file, &part.file), "one mapping for everybody");
}

#[test]
fn compressed_siblings() {
    let site = Site::new();
    site.put("a.js", "plain");
    for (suffix, content) in [("br", "brotli"), ("zst", "zstandard"), ("gz", "gzipped")] {
        site.put(&format!("a.js.{suffix}"), content);
    }
    site.put("alone.js", "alone");
    fs::create_dir(site.path("alone.js.gz")).unwrap();
    site.link("../canary", "alone.js.br");
    let mut files = site.files();
    let table = [
        (None, "plain", None),
        (Some("gzip"), "gzipped", Some("gzip")),
        (Some("gzip, deflate, br, zstd"), "brotli", Some("br")),
        (Some("zstd, gzip;q=0.5"), "zstandard", Some("zstd")),
        (Some("deflate"), "plain", None),
    ];
    let mut tags = vec![];
    for (accept, content, coding) in table {
        let fields: Vec<_> = accept.map(|accept| ("Accept-Encoding", accept)).into_iter().collect();
        let response = ask_with(&mut files, Method::Get, "/a.js", &fields);
        assert_eq!((text(&response), response.header("Content-Encoding")), (content, coding));
        assert_eq!(response.header("Content-Type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(response.header("Vary"), Some("Accept-Encoding"));
        // RFC 9110 section 8.8.3.3: each has its own tag
        let tag = response.header("ETag").unwrap();
        let again = [&fields[..], &[("If-None-Match", tag)]].concat();
        let again = ask_with(&mut files, Method::Get, "/a.js", &again);
        assert_eq!((again.code(), again.header("Vary")), (304, Some("Accept-Encoding")));
        assert_eq!((again.header("Content-Type"), again.header("Content-Encoding")), (None, None));
        tags.push(tag.to_owned());
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 4);
    let refused = ask_with(&mut files, Method::Get, "/a.js", &[("Accept-Encoding", "*;q=0")]);
    assert_eq!((refused.code(), refused.header("Vary")), (406, Some("Accept-Encoding")));
    // RFC 9110 section 12.5.5: of another coding these might have been something else
    for (status, field) in [(412, ("If-Match", "\"x\"")), (416, ("Range", "bytes=999-"))] {
        let refused = ask_with(&mut files, Method::Get, "/a.js", &[field]);
        assert_eq!((refused.code(), refused.header("Vary")), (status, Some("Accept-Encoding")));
        let refused = ask_with(&mut files, Method::Get, "/alone.js", &[field]);
        assert_eq!((refused.code(), refused.header("Vary")), (status, None));
    }
    let response = ask_with(&mut files, Method::Get, "/alone.js", &[("Accept-Encoding", "br, gzip")]);
    assert_eq!((text(&response), response.header("Vary")), ("alone", None));
}

#[test]
fn what_is_no_file_is_not_there() {
    let site = Site::new();
    nix::unistd::mkfifo(&site.path("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    let _listener = UnixListener::bind(site.path("socket")).unwrap();
    site.put("a", "plain");
    nix::unistd::mkfifo(&site.path("a.gz"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    site.link("/dev/null", "device");
    let mut files = site.files();
    for target in ["/fifo", "/socket", "/device", "/fifo/", "/socket/x", &format!("/{}", "x".repeat(255))] {
        assert_eq!(status(&mut files, target), 404, "{target}");
    }
    let response = ask_with(&mut files, Method::Get, "/a", &[("Accept-Encoding", "gzip")]);
    assert_eq!((text(&response), response.header("Vary")), ("plain", None));
}

#[test]
fn what_may_not_be_read_is_forbidden() {
    if nix::unistd::geteuid().is_root() {
        println!("skipped: root may read everything");
        return;
    }
    let site = Site::new();
    site.put("a", SECRET);
    site.put("b", "plain");
    site.put("b.gz", SECRET);
    for name in ["a", "b.gz"] {
        fs::set_permissions(site.path(name), Permissions::from_mode(0o000)).unwrap();
    }
    let mut files = site.files();
    assert_eq!(status(&mut files, "/a"), 403);
    assert_eq!(text(&ask_with(&mut files, Method::Get, "/b", &[("Accept-Encoding", "gzip")])), "plain");
}

/// Links by where they lead, and whether that is followed with `beneath` (RESOLVE_BENEATH refuses absolute ones even when
/// they lead inside).
#[test]
fn symbolic_links() {
    let mut site = Site::new();
    site.put("a/real", "real");
    site.put("index.html", "root");
    site.link("a/real", "inside");
    site.link("a", "inside-dir");
    site.link("../site/a/real", "out-and-in");
    site.link(site.path("a/real"), "absolute");
    site.link("../canary", "outside");
    site.link("..", "parent");
    site.link("../site-secret", "neighbour");
    site.link("loop", "loop");
    site.link("nowhere", "dangling");
    site.link("/proc/self/cwd", "magic");
    site.link(".", "here");
    let table = [
        ("/inside", 200),
        ("/inside-dir/real", 200),
        ("/inside-dir", 301),
        ("/here/here/a/real", 200),
        ("/here/", 200),
        ("/out-and-in", 404),
        ("/absolute", 404),
        ("/outside", 404),
        ("/parent/canary", 404),
        ("/neighbour/canary", 404),
        ("/neighbour", 404),
        ("/loop", 404),
        ("/loop/x", 404),
        ("/dangling", 404),
        ("/magic/Cargo.toml", 404),
    ];
    let mut files = site.files();
    for (target, expected) in table {
        assert_eq!(status(&mut files, target), expected, "{target}");
    }
    site.settings.symlinks = Symlinks::Never;
    let mut files = site.files();
    for (target, _) in table {
        assert_eq!(status(&mut files, target), 404, "{target}");
    }
    assert_eq!(text(&ask(&mut files, "/a/real")), "real");
}

#[test]
fn a_root_may_be_a_link_and_must_be_a_directory() {
    let site = Site::new();
    site.put("a", "content");
    symlink("site", site.folder.path().join("current")).unwrap();
    let mut files = Files::new(site.folder.path().join("current")).unwrap();
    assert_eq!(text(&ask(&mut files, "/a")), "content");
    assert!(Files::new(site.path("a")).is_err() && Files::new(site.path("missing")).is_err());
    let unfit = FileSettings { cache_control: Some("a\r\nb: c".into()), ..site.settings.clone() };
    assert_eq!(Files::with_settings(&unfit).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_change_is_seen_after_a_second() {
    let site = Site::new();
    site.put("a", "old");
    let mut files = site.files();
    set_turn_ms(5000);
    let old = ask(&mut files, "/a");
    site.replace("a", "new");
    set_turn_ms(5000 + FRESH_MS - 1);
    assert_eq!(text(&ask(&mut files, "/a")), "old");
    set_turn_ms(5000 + FRESH_MS);
    let new = ask(&mut files, "/a");
    assert_eq!(text(&new), "new");
    assert_ne!(old.header("ETag"), new.header("ETag"));
    // the same length, in place
    fs::write(site.path("a"), "NEW").unwrap();
    set_turn_ms(turn_ms() + FRESH_MS);
    assert_eq!(text(&ask(&mut files, "/a")), "NEW");
    fs::remove_file(site.path("a")).unwrap();
    assert_eq!(status(&mut files, "/a"), 200);
    set_turn_ms(turn_ms() + FRESH_MS);
    assert_eq!(status(&mut files, "/a"), 404);
    // what is missing is not remembered
    site.put("a", "back");
    assert_eq!(text(&ask(&mut files, "/a")), "back");
}

#[test]
fn siblings_come_and_go() {
    let site = Site::new();
    site.put("a", "plain");
    let mut files = site.files();
    let mut after_a_second = || {
        set_turn_ms(turn_ms() + FRESH_MS);
        let response = ask_with(&mut files, Method::Get, "/a", &[("Accept-Encoding", "gzip")]);
        (text(&response).to_owned(), response.header("Vary").is_some())
    };
    assert_eq!(after_a_second(), ("plain".into(), false));
    site.put("a.gz", "packed");
    assert_eq!(after_a_second(), ("packed".into(), true));
    site.replace("a.gz", "again");
    assert_eq!(after_a_second(), ("again".into(), true));
    fs::remove_file(site.path("a.gz")).unwrap();
    assert_eq!(after_a_second(), ("plain".into(), false));
}

#[test]
fn what_has_not_changed_is_not_read_again() {
    let site = Site::new();
    site.put("a", "content");
    let mut files = site.files();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let first = ask(&mut files, "/a").body().unwrap().as_ptr();
        set_turn_ms(turn_ms() + FRESH_MS);
        if first == ask(&mut files, "/a").body().unwrap().as_ptr() {
            break;
        }
        // until the file system's clock has ticked on since it was written
        assert!(Instant::now() < deadline, "it is read every time");
    }
    fs::set_permissions(site.path("a"), Permissions::from_mode(0o640)).unwrap();
    let before = files.find(b"a").unwrap();
    set_turn_ms(turn_ms() + FRESH_MS);
    let _ = ask(&mut files, "/a");
    assert!(!Arc::ptr_eq(&before, &files.find(b"a").unwrap()), "a change of mode is one");
}

#[test]
fn the_cache_is_bounded_in_octets() {
    let mut site = Site::new();
    site.settings.cache = 10_000;
    for name in ["a", "b", "c", "d"] {
        site.put(name, vec![b'x'; 3000]);
    }
    site.put("long", vec![b'x'; 10_001]);
    let mut files = site.files();
    let mut in_memory = |target: &str| {
        let before = ask(&mut files, target).body().map(|body| body.as_ptr());
        before.is_some() && before == ask(&mut files, target).body().map(|body| body.as_ptr())
    };
    assert!(in_memory("/a") && in_memory("/b") && in_memory("/c"));
    assert!(!in_memory("/long"), "longer than all that may be kept");
    let known = |files: &mut Files, path: &[u8]| files.cache.get(path, turn_ms()).is_some();
    let mut files = site.files();
    for target in ["/a", "/b", "/c", "/a", "/d"] {
        assert_eq!(status(&mut files, target), 200);
    }
    files.find(b"d").unwrap();
    assert!(known(&mut files, b"a") && !known(&mut files, b"b"), "the least recently used goes");
    assert!(known(&mut files, b"c") && known(&mut files, b"d"));
    site.settings.cache = 0;
    let response = ask(&mut site.files(), "/a");
    assert!(response.file_range().is_some(), "nothing is kept in memory");
}

#[test]
fn the_cache_is_bounded_in_number_and_in_descriptors() {
    let mut site = Site::new();
    for number in 0..1100 {
        site.put(&number.to_string(), "");
    }
    let mut files = site.files();
    for number in 0..1100 {
        files.cache.insert(
            number.to_string().into_bytes().into(),
            Arc::new(
                Found::load(&files.tree, number.to_string().as_bytes(), Mode::Blocking, u64::MAX).unwrap(),
            ),
            0,
        );
    }
    let known = |files: &mut Files, path: &str| files.cache.get(path.as_bytes(), 0).is_some();
    assert!(!known(&mut files, "75") && known(&mut files, "76") && known(&mut files, "1099"));
    files.cache.remove_half();
    let left = (0..1100).filter(|number| known(&mut files, &number.to_string())).count();
    assert!((500..=512).contains(&left), "{left}");
    site.settings.cache = 0;
    let mut files = site.files();
    for number in 0..=DESCRIPTORS_MAX {
        site.put(&number.to_string(), "x");
        let path = number.to_string().into_bytes();
        let found = Found::load(&files.tree, &path, Mode::Blocking, u64::MAX).unwrap();
        files.cache.insert(path.into(), Arc::new(found), 0);
    }
    assert!(!known(&mut files, "0") && known(&mut files, "1"));
}

#[test]
fn a_download_keeps_what_it_began_with() {
    let site = Site::new();
    site.put("long", vec![b'x'; 1300 * 1024]);
    let mut files = site.files();
    set_turn_ms(1000);
    let response = ask(&mut files, "/long");
    let file = Arc::clone(&response.file_range().unwrap().file);
    site.replace("long", "short");
    set_turn_ms(1000 + FRESH_MS);
    assert_eq!(text(&ask(&mut files, "/long")), "short");
    files.cache.remove_half();
    assert!(file.is_intact() && file.len() == 1300 * 1024);
}

#[test]
fn contents_that_clients_still_have_count_as_memory() {
    let mut site = Site::new();
    site.settings.cache = 1000;
    for name in ["a", "b", "c", "d", "e"] {
        site.put(name, [b'x'; 600]);
    }
    let mut files = site.files();
    let is_mapped = |response: &Response| response.file_range().is_some();
    // each forgets the one before, but somebody has them still
    let held = ["/a", "/b", "/c"].map(|path| ask(&mut files, path));
    assert!(!held.iter().any(is_mapped));
    assert!(is_mapped(&ask(&mut files, "/d")), "three of them are nearly twice the budget");
    drop(held);
    assert!(!is_mapped(&ask(&mut files, "/e")));
}

#[test]
fn a_mapped_file_that_is_truncated_is_seen_as_such() {
    let site = Site::new();
    site.put("long", vec![b'x'; 1300 * 1024]);
    let mut files = site.files();
    set_turn_ms(1000);
    let _ = ask(&mut files, "/long");
    File::options().write(true).open(site.path("long")).unwrap().set_len(1290 * 1024).unwrap();
    // the answer's sender looks at this after each piece
    let response = ask(&mut files, "/long");
    assert!(!response.file_range().unwrap().file.is_intact());
    set_turn_ms(1000 + FRESH_MS);
    let response = ask(&mut files, "/long");
    let range = response.file_range().unwrap();
    assert!(range.file.is_intact() && range.range == (0..1290 * 1024));
}

#[test]
fn a_file_from_the_future_was_modified_now() {
    let site = Site::new();
    site.put("a", "content");
    let future = std::time::SystemTime::now() + Duration::from_secs(86_400);
    File::options().write(true).open(site.path("a")).unwrap().set_modified(future).unwrap();
    let response = ask(&mut site.files(), "/a");
    // RFC 9110 section 8.8.2.1
    let modified = httpdate::parse_http_date(response.header("Last-Modified").unwrap()).unwrap();
    assert!(modified <= std::time::SystemTime::now());
}

#[test]
fn no_file_was_modified_after_the_date_of_its_answer() {
    let site = Site::new();
    site.put("a", "content");
    // this turn is late to see that a second has begun
    set_turn_second(784_111_777);
    let mut files = site.files();
    let (answer, answered) = mpsc::channel();
    let answer = Box::new(move |response| answer.send(response).unwrap());
    let question = Question::read(&Request::example(Method::Get, "/", &[])).into_owned();
    let waiter = Waiter { question, redirect: None, page: None, answer };
    assert!(files.loader.submit(b"a", None, waiter, turn()).is_ok(), "few wait");
    for response in [answered.recv_timeout(PATIENCE).unwrap(), ask(&mut files, "/a")] {
        assert_eq!(response.header("Last-Modified"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    }
    // the next turn is not, and looks again
    set_turn_second(u64::MAX);
    set_turn_ms(turn_ms() + FRESH_MS);
    let modified = ask(&mut files, "/a").header("Last-Modified").unwrap().to_owned();
    assert!(
        httpdate::parse_http_date(&modified).unwrap() > SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30)
    );
}

#[test]
fn many_that_wait_for_one_file_have_it_read_once() {
    let mut site = Site::new();
    site.settings.not_found = Some("page".into());
    site.put("a", "content");
    site.put("page", "nothing here");
    fs::create_dir(site.path("dir")).unwrap();
    let mut files = site.files();
    let question = || Question::read(&Request::example(Method::Get, "/", &[])).into_owned();
    let submit = |files: &mut Files, path: &[u8], redirect: Option<&str>| -> Receiver<Response> {
        let (answer, answered) = mpsc::channel();
        let answer = Box::new(move |response| answer.send(response).unwrap());
        let redirect = redirect.map(Into::into);
        let waiter = Waiter { question: question(), redirect, page: None, answer };
        assert!(files.loader.submit(path, None, waiter, turn()).is_ok(), "few wait");
        answered
    };
    let waiting: Vec<_> = (0..500).map(|_| submit(&mut files, b"a", None)).collect();
    let contents: Vec<_> = waiting
        .iter()
        .map(|answered| answered.recv_timeout(PATIENCE).unwrap().body().unwrap().as_ptr())
        .collect();
    let arrived = files.loader.take_arrived();
    let mut different = contents.clone();
    different.dedup();
    assert_eq!(different.len(), arrived.len(), "read as often as it was begun with");
    assert!(arrived.iter().all(|arrival| *arrival.path == *b"a") && arrived.len() < 250);

    let missing = submit(&mut files, b"missing", None).recv_timeout(PATIENCE).unwrap();
    assert_eq!((missing.code(), text(&missing)), (404, "nothing here"));
    let redirected = submit(&mut files, b"dir", Some("/dir/")).recv_timeout(PATIENCE).unwrap();
    assert_eq!((redirected.code(), redirected.header("Location")), (301, Some("/dir/")));
    let arrived = files.loader.take_arrived();
    assert!(arrived.iter().all(|arrival| *arrival.path == *b"page"));
}

#[test]
fn no_more_wait_than_may() {
    let site = Site::new();
    let mut files = site.files();
    // whoever answers first waits for the end of this test, so that all others go on waiting
    let (hold, held) = mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let mut refused = 0;
    for number in 0..5000 {
        let held = Arc::clone(&held);
        let answer = Box::new(move |_| {
            let _ = held.lock().unwrap().recv();
        });
        let question = Question::read(&Request::example(Method::Get, "/", &[])).into_owned();
        let waiter = Waiter { question, redirect: None, page: None, answer };
        refused +=
            usize::from(files.loader.submit(number.to_string().as_bytes(), None, waiter, turn()).is_err());
    }
    drop(hold);
    assert!((800..=904).contains(&refused), "{refused}");
}

/// Pieces of which attacks are made; every link that leads out is among them.
fn hostile_path() -> impl Strategy<Value = String> {
    let pieces = [
        "/",
        "//",
        "..",
        "/../",
        "%2e%2e",
        "%2e",
        "%2f",
        "%2F",
        "%5c",
        "\\",
        "%252e%252e",
        "%252f",
        "%00",
        "%c0%ae",
        ".",
        "a",
        "canary",
        "site",
        "site-secret",
        "-secret",
        "out",
        "parent",
        "neighbour",
        "absolute",
        "deep/up",
        "proc",
        "self",
        "root",
        "etc/passwd",
        "?",
        "#",
        ";",
        ":",
        "http://h/",
        "~",
        "index.html",
        ".br",
        ".gz",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12)
        .prop_map(|pieces| format!("/{}", pieces.concat()))
}

#[test]
fn no_path_leads_to_a_secret_beside_the_root() {
    let mut site = Site::new();
    site.put("a", "plain");
    site.put("deep/x", "plain");
    fs::create_dir(site.path("canary.d")).unwrap();
    site.link("../canary", "out");
    site.link("../canary", "a.br");
    site.link("../site-secret/canary", "a.gz");
    site.link("..", "parent");
    site.link("../site-secret", "neighbour");
    site.link(site.folder.path().join("canary"), "absolute");
    site.link("../..", "deep/up");
    site.link("/proc/self/root", "proc");
    site.link("../canary", "index.html");
    for symlinks in [Symlinks::Beneath, Symlinks::Never] {
        site.settings.symlinks = symlinks;
        let mut files = site.files();
        let canary = site.folder.path().join("canary");
        let outside = canary.strip_prefix("/").unwrap().to_str().unwrap();
        let fixed = [
            "/out",
            "/parent/canary",
            "/neighbour/canary",
            "/absolute",
            "/deep/up/canary",
            "/",
            "/-secret/canary",
        ];
        let fixed =
            fixed.map(str::to_owned).into_iter().chain([format!("/proc/{outside}"), format!("//{outside}")]);
        for target in fixed {
            assert_eq!(status(&mut files, &target), 404, "{target}");
        }
        let files = std::cell::RefCell::new(files);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2000));
        runner
            .run(&hostile_path(), |target| {
                let fields = [("Accept-Encoding", "br, gzip")];
                let response = ask_with(&mut files.borrow_mut(), Method::Get, &target, &fields);
                let content = response.body().map(|body| String::from_utf8_lossy(body).into_owned());
                prop_assert!(!content.is_some_and(|content| content.contains(SECRET)), "{}", target);
                prop_assert!(response.file_range().is_none());
                let location = response.header("Location").unwrap_or_default();
                prop_assert!(!location.starts_with("//"), "{}: {}", target, location);
                Ok(())
            })
            .unwrap();
    }
}
