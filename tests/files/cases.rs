//! The table of `tests/files.rs`: what a client may ask of a tree of files, and what it is answered. Each case names the
//! section that decides it.
//!
//! Neighbours: `tests/files.rs` makes the tree that these ask for, and asks.

use std::ops::Range;

/// Last-Modified of every file, in the three formats of RFC 9110 section 5.6.7.
pub const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const MODIFIED_RFC850: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
const MODIFIED_ASCTIME: &str = "Sun Nov  6 08:49:37 1994";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

/// Octets of `big.bin`: more than are kept in memory.
pub const BIG_OCTETS: u64 = 600_000;

/// One request.
pub struct Case {
    pub rfc: &'static str,
    /// Method and target.
    pub line: String,
    /// Field lines, one a line; `{a.txt}` stands for the entity tag of that file.
    pub fields: String,
    pub body: Vec<u8>,
    pub expect: Expect,
    /// These fields with these values; with `None`, not at all.
    pub says: Vec<(&'static str, Option<&'static str>)>,
    /// `Vary: Accept-Encoding`: the file lies there compressed too.
    pub varies: bool,
    /// The server ends the connection behind the answer.
    pub closes: bool,
}

/// The answer.
pub enum Expect {
    /// 200 and all of this file.
    Whole(&'static str),
    /// 206 and these octets of this file.
    Part(&'static str, Range<u64>),
    /// 304 about this file.
    NotModified(&'static str),
    /// 416, and the file has so many octets.
    Unsatisfiable(u64),
    /// 301 to there.
    Redirect(&'static str),
    Status(u16),
}

pub fn cases() -> Vec<Case> {
    let groups = [
        paths(),
        malformed_paths(),
        hidden_paths(),
        links(),
        what_is_no_file(),
        directories(),
        methods(),
        unwanted_content(),
        types(),
        if_match(),
        if_none_match(),
        dates(),
        precedence(),
        ranges(),
        conditional_ranges(),
        negotiated(),
        negotiated_conditions(),
        as_they_lie_there(),
    ];
    groups.into_iter().flatten().collect()
}

/// RFC 3986 section 2: a path is decoded once.
fn paths() -> Vec<Case> {
    let once = "RFC 3986 section 2.4";
    let segments = "RFC 3986 section 3.3";
    let dots = "RFC 3986 section 5.2.4";
    vec![
        whole(segments, "/a.txt", "a.txt"),
        whole(segments, "/dir/b.txt", "dir/b.txt"),
        whole(segments, "/big.bin", "big.bin"),
        whole(segments, "/empty.txt", "empty.txt").says("content-length", "0"),
        whole("RFC 3986 section 3.4", "/a.txt?x=/../y", "a.txt"),
        whole("RFC 3986 section 3.4", "/a.txt?", "a.txt"),
        whole("RFC 9112 section 3.2.2", "http://x/a.txt", "a.txt"),
        whole("RFC 3986 section 2.1", "/%61%2Et%78t", "a.txt"),
        whole("RFC 3986 section 2.1", "/a%20b.txt", "a b.txt"),
        whole("RFC 3986 section 2.1", "/caf%c3%A9.txt", "caf\u{e9}.txt"),
        whole("RFC 3986 section 2.1", "/q%3F%23.txt", "q?#.txt"),
        // not UTF-8
        status("RFC 3986 section 2.1", "/%ff.bin", 200).says("content-length", "3"),
        whole(segments, "/a+b;c=d,e.txt", "a+b;c=d,e.txt"),
        whole(once, "/%2541.txt", "%41.txt"),
        status(once, "/%41.txt", 404),
        status(once, "/%2561.txt", 404),
        whole(segments, "//a.txt", "a.txt"),
        whole(segments, "///dir////b.txt", "dir/b.txt"),
        whole(dots, "/./a.txt", "a.txt"),
        whole(dots, "/dir/../a.txt", "a.txt"),
        whole(dots, "/dir/%2e%2E/%2e/a.txt", "a.txt"),
        // lexical: what is removed need not be there
        whole(dots, "/missing/../a.txt", "a.txt"),
        whole(dots, "/.hidden/../a.txt", "a.txt"),
        status("RFC 9110 section 15.5.5", "/missing.txt", 404),
        status("RFC 9110 section 15.5.5", "/missing/a.txt", 404),
        status("RFC 9110 section 15.5.5", "/A.TXT", 404),
        status("RFC 9110 section 15.5.5", "/a.txt/", 404),
        status("RFC 9110 section 15.5.5", "/a.txt/.", 404),
        status("RFC 9110 section 15.5.5", "/a.txt/b.txt", 404),
        status("RFC 9110 section 15.5.5", "/big.bin/", 404),
        whole("RFC 9110 section 15.5.5", &format!("/{}", "n".repeat(255)), NAME_MAX),
        status("RFC 9110 section 15.5.5", &format!("/{}", "n".repeat(256)), 404),
        status("RFC 9110 section 15.5.5", &format!("/{}", "n".repeat(7000)), 404),
        status("RFC 9110 section 15.5.5", &format!("/{}a.txt", "d/".repeat(3000)), 404),
    ]
}

/// The longest name there is.
pub const NAME_MAX: &str = match std::str::from_utf8(&[b'n'; 255]) {
    Ok(name) => name,
    Err(_) => panic!(),
};

/// RFC 9110 section 15.5.1: nobody in their senses sends these.
fn malformed_paths() -> Vec<Case> {
    let table = [
        ("RFC 3986 section 2.1", "/%"),
        ("RFC 3986 section 2.1", "/a%4"),
        ("RFC 3986 section 2.1", "/%zz"),
        ("RFC 3986 section 2.1", "/%u0061"),
        ("RFC 3986 section 2.1", "/a.txt%"),
        ("RFC 3986 section 2.1", "/.hidden/%"),
        ("RFC 3986 section 7.3", "/%00"),
        ("RFC 3986 section 7.3", "/a.txt%00"),
        ("RFC 3986 section 7.3", "/a.txt%00.html"),
        ("RFC 3986 section 7.3", "/%0d%0aLocation:%20x"),
        ("RFC 3986 section 7.3", "/dir%0d%0aX:y"),
        ("RFC 3986 section 7.3", "/%1f"),
        ("RFC 3986 section 7.3", "/%7F"),
        ("RFC 3986 section 5.2.4", "/.."),
        ("RFC 3986 section 5.2.4", "/../"),
        ("RFC 3986 section 5.2.4", "/../canary.txt"),
        ("RFC 3986 section 5.2.4", "/a/../../b"),
        ("RFC 3986 section 5.2.4", "/dir/../../site/a.txt"),
        ("RFC 3986 section 5.2.4", "//../a.txt"),
        ("RFC 3986 section 5.2.4", "/./.."),
        ("RFC 3986 section 6.2.2.2", "/%2e%2e"),
        ("RFC 3986 section 6.2.2.2", "/%2E./canary.txt"),
        ("RFC 3986 section 6.2.2.2", "/.%2e/site/a.txt"),
    ];
    table.into_iter().map(|(rfc, path)| status(rfc, path, 400)).collect()
}

/// Some of these are there; nobody is told.
fn hidden_paths() -> Vec<Case> {
    let table = [
        ("RFC 3986 section 2.2", "/dir%2Fb.txt"),
        ("RFC 3986 section 2.2", "/dir%2fb.txt"),
        ("RFC 3986 section 2.2", "/%2fa.txt"),
        ("RFC 3986 section 2.2", "/..%2fcanary.txt"),
        ("RFC 3986 section 2.2", "/%2e%2e%2fcanary.txt"),
        ("RFC 3986 section 7.3", "/dir%5Cb.txt"),
        ("RFC 3986 section 7.3", "/..%5c..%5ccanary.txt"),
        ("RFC 3986 section 7.3", "/%5cevil.example"),
        ("RFC 3986 section 2.4", "/%252e%252e/canary.txt"),
        ("RFC 3986 section 2.4", "/dir%252Fb.txt"),
        // not the shortest UTF-8 of `..`
        ("RFC 3629 section 10", "/%c0%ae%c0%ae/canary.txt"),
        ("RFC 8615 section 3", "/.hidden"),
        ("RFC 8615 section 3", "/%2ehidden"),
        ("RFC 8615 section 3", "/.git/config"),
        ("RFC 8615 section 3", "/.git/"),
        ("RFC 8615 section 3", "/.git"),
        ("RFC 8615 section 3", "/dir/.env"),
        ("RFC 8615 section 3", "/..data"),
        ("RFC 8615 section 3", "/..."),
        ("RFC 8615 section 3", "/.well-known/.hidden"),
        ("RFC 8615 section 3", "/dir/.well-known/x"),
        ("RFC 8615 section 3", "/.well-knowns/x"),
    ];
    let mut cases: Vec<Case> = table.into_iter().map(|(rfc, path)| status(rfc, path, 404)).collect();
    cases.push(whole("RFC 8615 section 3", "/.well-known/security.txt", ".well-known/security.txt"));
    cases.push(whole("RFC 8615 section 3", "/%2Ewell-known/security.txt", ".well-known/security.txt"));
    cases
}

/// openat2(2), RESOLVE_BENEATH: links lead to what is below the root or nowhere.
fn links() -> Vec<Case> {
    let rule = "openat2(2)";
    vec![
        whole(rule, "/link.txt", "a.txt"),
        whole(rule, "/dir/up.txt", "a.txt"),
        whole(rule, "/link-dir/b.txt", "dir/b.txt"),
        whole(rule, "/link-dir/", "dir/index.html"),
        redirect(rule, "/link-dir", "/link-dir/"),
        status(rule, "/out.txt", 404),
        status(rule, "/out-dir/canary.txt", 404),
        status(rule, "/out-dir/", 404),
        status(rule, "/out-dir", 404),
        status(rule, "/abs.txt", 404),
        status(rule, "/abs-in.txt", 404),
        status(rule, "/abs-dir/canary.txt", 404),
        status(rule, "/alike-dir/canary.txt", 404),
        status(rule, "/dir/deep.txt", 404),
        // out and in again
        status(rule, "/around.txt", 404),
        status(rule, "/loop.txt", 404),
        status(rule, "/dangling.txt", 404),
        status(rule, "/proc-link/status", 404),
    ]
}

fn what_is_no_file() -> Vec<Case> {
    let rule = "RFC 9110 section 15.5.5";
    ["/fifo", "/fifo/", "/socket", "/null", "/zero"].map(|path| status(rule, path, 404)).into()
}

/// RFC 9110 section 15.4.2: a directory has a slash at its end, or the links in its index lead elsewhere.
fn directories() -> Vec<Case> {
    let rule = "RFC 9110 section 15.4.2";
    let origin = "RFC 3986 section 4.2";
    vec![
        whole(rule, "/", "index.html").says("content-type", "text/html; charset=utf-8"),
        whole(rule, "/?x=y", "index.html"),
        whole(rule, "/dir/", "dir/index.html"),
        whole(rule, "/dir/?x", "dir/index.html"),
        whole(rule, "/dir/index.html", "dir/index.html"),
        whole("RFC 3986 section 5.2.4", "/dir/.", "dir/index.html"),
        whole("RFC 3986 section 5.2.4", "/dir/bare/..", "dir/index.html"),
        whole("RFC 3986 section 5.2.4", "/dir/..", "index.html"),
        status(rule, "/dir/bare/", 404),
        // its index.html is a directory
        status(rule, "/odd/", 404),
        redirect(rule, "/dir", "/dir/"),
        redirect(rule, "/dir?x=y&z=%20", "/dir/?x=y&z=%20"),
        redirect(rule, "/dir?", "/dir/?"),
        redirect(rule, "/dir?//evil.example/", "/dir/?//evil.example/"),
        redirect(rule, "/dir/bare", "/dir/bare/"),
        redirect(rule, "/odd", "/odd/"),
        redirect(rule, "/odd/index.html", "/odd/index.html/"),
        redirect("RFC 3986 section 2.1", "/emp%20ty%c3%A9", "/emp%20ty%C3%A9/"),
        redirect("RFC 3986 section 2.1", "/%64ir", "/dir/"),
        redirect(origin, "//dir", "/dir/"),
        redirect(origin, "///dir//bare", "/dir/bare/"),
        redirect(origin, "//evil.example", "/evil.example/"),
        redirect(origin, "//evil.example/%2e%2e/dir", "/dir/"),
        redirect(origin, "/dir/..//evil.example", "/evil.example/"),
        whole(origin, "//evil.example/..", "index.html"),
        status(origin, "//evil.example/%2f..", 404),
        status(origin, "/%2fevil.example", 404),
        status(origin, "/%5c%5cevil.example", 404),
        redirect("RFC 9112 section 3.2.2", "http://evil.example/dir", "/dir/"),
        redirect("RFC 9112 section 3.2.2", "http://evil.example//evil.example", "/evil.example/"),
        // RFC 9110 section 13.2.1: conditions and ranges say nothing about a redirect
        redirect("RFC 9110 section 13.2.1", "/dir", "/dir/").asks("If-Match: \"x\"\nRange: bytes=0-0"),
        status("RFC 9110 section 13.2.1", "/missing.txt", 404).asks("If-None-Match: *\nRange: bytes=0-0"),
        status("RFC 9110 section 13.2.1", "/missing.txt", 404).asks("If-Match: *"),
        status("RFC 9110 section 12.5.3", "/missing.txt", 404).asks("Accept-Encoding: identity;q=0"),
    ]
}

/// RFC 9110 section 9: these are files and nothing else.
fn methods() -> Vec<Case> {
    let method = |rfc, line: &str, status| {
        let case = Case { line: line.to_owned(), ..case(rfc, "", Expect::Status(status)) };
        case.says("allow", "GET, HEAD, OPTIONS")
    };
    vec![
        Case { line: "HEAD /a.txt".to_owned(), ..case("RFC 9110 section 9.3.2", "", Expect::Whole("a.txt")) },
        Case {
            line: "HEAD /big.bin".to_owned(),
            ..case("RFC 9110 section 9.3.2", "", Expect::Whole("big.bin"))
        },
        Case { line: "HEAD /missing".to_owned(), ..case("RFC 9110 section 9.3.2", "", Expect::Status(404)) },
        method("RFC 9110 section 9.3.7", "OPTIONS /a.txt", 204),
        method("RFC 9110 section 9.3.7", "OPTIONS *", 204),
        method("RFC 9110 section 9.3.7", "OPTIONS /dir", 204),
        method("RFC 9110 section 9.3.3", "POST /a.txt", 405),
        method("RFC 9110 section 9.3.3", "POST /missing.txt", 405),
        method("RFC 9110 section 9.3.4", "PUT /a.txt", 405),
        method("RFC 9110 section 9.3.5", "DELETE /a.txt", 405),
        method("RFC 9110 section 9.3.8", "TRACE /a.txt", 405),
        method("RFC 5789 section 2", "PATCH /dir", 405),
    ]
}

/// RFC 9110 section 9.3.1 and RFC 9112 section 9.6: up to 64 KiB are skipped.
fn unwanted_content() -> Vec<Case> {
    let post = |rfc, fields: String, body: &[u8]| Case {
        line: "POST /a.txt".to_owned(),
        body: body.to_vec(),
        ..case(rfc, "", Expect::Status(405)).says("allow", "GET, HEAD, OPTIONS").asks(&fields)
    };
    let sized = |octets: usize| {
        post("RFC 9112 section 9.3", format!("Content-Length: {octets}"), &b"x".repeat(octets))
    };
    let chunked = "Transfer-Encoding: chunked".to_owned();
    vec![
        sized(1),
        sized(64 * 1024),
        sized(64 * 1024 + 1).closing(),
        post("RFC 9112 section 7.1", chunked, b"3\r\nabc\r\n0\r\n\r\n"),
        Case { body: b"abc".to_vec(), ..whole("RFC 9110 section 9.3.1", "/a.txt", "a.txt") }
            .asks("Content-Length: 3"),
    ]
}

/// RFC 9110 section 8.3.
fn types() -> Vec<Case> {
    let table = [
        ("t.html", "text/html; charset=utf-8"),
        ("t.HTM", "text/html; charset=utf-8"),
        ("t.css", "text/css; charset=utf-8"),
        ("t.js", "text/javascript; charset=utf-8"),
        ("t.mjs", "text/javascript; charset=utf-8"),
        ("t.txt", "text/plain; charset=utf-8"),
        ("t.json", "application/json"),
        ("t.svg", "image/svg+xml"),
        ("t.png", "image/png"),
        ("t.wasm", "application/wasm"),
        ("t.woff2", "font/woff2"),
        ("t.pdf", "application/pdf"),
        ("t.unheard-of", "application/octet-stream"),
        ("none", "application/octet-stream"),
    ];
    table
        .map(|(file, kind)| {
            whole("RFC 9110 section 8.3", &format!("/{file}"), file).says("content-type", kind)
        })
        .into()
}

/// RFC 9110 section 13.1.1: strong comparison.
fn if_match() -> Vec<Case> {
    let rfc = "RFC 9110 section 13.1.1";
    let proceeds = |value: &str| whole(rfc, "/a.txt", "a.txt").asks(&format!("If-Match: {value}"));
    let fails = |value: &str| status(rfc, "/a.txt", 412).asks(&format!("If-Match: {value}"));
    vec![
        proceeds("{a.txt}"),
        proceeds("*"),
        proceeds("\"x\", {a.txt}"),
        proceeds("{a.txt},\"x,y\""),
        proceeds(" , {a.txt} ,, "),
        fails("\"x\""),
        fails("W/{a.txt}"),
        fails("\"x\", W/{a.txt}"),
        fails("{b.txt}"),
        fails("nonsense"),
        whole(rfc, "/a.txt", "a.txt").asks("If-Match: \"x\"\nIf-Match: {a.txt}"),
        Case { line: "HEAD /a.txt".to_owned(), ..fails("\"x\"") },
    ]
}

/// RFC 9110 section 13.1.2: weak comparison.
fn if_none_match() -> Vec<Case> {
    let rfc = "RFC 9110 section 13.1.2";
    let same = |value: &str| {
        case(rfc, "/a.txt", Expect::NotModified("a.txt")).asks(&format!("If-None-Match: {value}"))
    };
    let other = |value: &str| whole(rfc, "/a.txt", "a.txt").asks(&format!("If-None-Match: {value}"));
    vec![
        same("{a.txt}"),
        same("W/{a.txt}"),
        same("*"),
        same("\"x\", \"a,b\", W/{a.txt}"),
        same("\"x\"\nIf-None-Match: {a.txt}"),
        other("\"x\""),
        other("{b.txt}"),
        other("\"*\""),
        other("w/{a.txt}"),
        // no entity tag has a space in it, and nothing in a malformed list counts
        other("\"a, b\", {a.txt}"),
        other("nonsense"),
        other(""),
        Case { line: "HEAD /a.txt".to_owned(), ..same("{a.txt}") },
        case(rfc, "/big.bin", Expect::NotModified("big.bin")).asks("If-None-Match: {big.bin}"),
        case(rfc, "/empty.txt", Expect::NotModified("empty.txt")).asks("If-None-Match: {empty.txt}"),
        case(rfc, "/dir/", Expect::NotModified("dir/index.html")).asks("If-None-Match: {dir/index.html}"),
        case(rfc, "/link.txt", Expect::NotModified("a.txt")).asks("If-None-Match: {a.txt}"),
    ]
}

/// RFC 9110 sections 13.1.3 and 13.1.4, in the three formats of section 5.6.7; what is none is ignored.
fn dates() -> Vec<Case> {
    let (since, until) = ("RFC 9110 section 13.1.3", "RFC 9110 section 13.1.4");
    let mut cases = vec![];
    for date in [MODIFIED, MODIFIED_RFC850, MODIFIED_ASCTIME, AFTER] {
        cases.push(
            case(since, "/a.txt", Expect::NotModified("a.txt")).asks(&format!("If-Modified-Since: {date}")),
        );
        cases.push(whole(until, "/a.txt", "a.txt").asks(&format!("If-Unmodified-Since: {date}")));
    }
    cases.push(whole(since, "/a.txt", "a.txt").asks(&format!("If-Modified-Since: {BEFORE}")));
    cases.push(status(until, "/a.txt", 412).asks(&format!("If-Unmodified-Since: {BEFORE}")));
    for nonsense in ["nonsense", "784111777", "Sun, 06 Nov 1994 08:49:37", "Sun, 99 Nov 1994 08:49:37 GMT"] {
        cases.push(whole(since, "/a.txt", "a.txt").asks(&format!("If-Modified-Since: {nonsense}")));
        cases.push(whole(until, "/a.txt", "a.txt").asks(&format!("If-Unmodified-Since: {nonsense}")));
    }
    cases
}

/// RFC 9110 section 13.2.2.
fn precedence() -> Vec<Case> {
    let rfc = "RFC 9110 section 13.2.2";
    let same = |fields: &str| case(rfc, "/a.txt", Expect::NotModified("a.txt")).asks(fields);
    let other = |fields: &str| whole(rfc, "/a.txt", "a.txt").asks(fields);
    let fails = |fields: &str| status(rfc, "/a.txt", 412).asks(fields);
    vec![
        // tags before dates
        other(&format!("If-Match: {{a.txt}}\nIf-Unmodified-Since: {BEFORE}")),
        fails(&format!("If-Match: \"x\"\nIf-Unmodified-Since: {AFTER}")),
        other(&format!("If-None-Match: \"x\"\nIf-Modified-Since: {AFTER}")),
        same(&format!("If-None-Match: {{a.txt}}\nIf-Modified-Since: {BEFORE}")),
        // 412 before 304
        fails("If-Match: \"x\"\nIf-None-Match: {a.txt}"),
        same("If-Match: {a.txt}\nIf-None-Match: {a.txt}"),
        fails(&format!("If-Unmodified-Since: {BEFORE}\nIf-None-Match: {{a.txt}}")),
        same(&format!("If-Unmodified-Since: {AFTER}\nIf-Modified-Since: {AFTER}")),
        // both before ranges
        same("If-None-Match: {a.txt}\nRange: bytes=0-0"),
        fails("If-Match: \"x\"\nRange: bytes=0-0"),
        same("If-None-Match: {a.txt}\nIf-Range: \"x\"\nRange: bytes=99-"),
        case(rfc, "/a.txt", Expect::Part("a.txt", 0..1)).asks("If-None-Match: \"x\"\nRange: bytes=0-0"),
        case(rfc, "/a.txt", Expect::Part("a.txt", 0..1)).asks("If-Match: {a.txt}\nRange: bytes=0-0"),
    ]
}

/// RFC 9110 section 14; `a.txt` has 26 octets.
fn ranges() -> Vec<Case> {
    let rfc = "RFC 9110 section 14.1.2";
    let part = |value: &str, range| {
        case(rfc, "/a.txt", Expect::Part("a.txt", range)).asks(&format!("Range: {value}"))
    };
    let beyond =
        |value: &str| case(rfc, "/a.txt", Expect::Unsatisfiable(26)).asks(&format!("Range: {value}"));
    let all = |rfc, value: &str| whole(rfc, "/a.txt", "a.txt").asks(&format!("Range: {value}"));
    let big = |value: &str, range| {
        case(rfc, "/big.bin", Expect::Part("big.bin", range)).asks(&format!("Range: {value}"))
    };
    vec![
        part("bytes=0-0", 0..1),
        part("bytes=3-5", 3..6),
        part("bytes=25-25", 25..26),
        part("bytes=0-25", 0..26),
        part("bytes=5-", 5..26),
        part("bytes=0-", 0..26),
        part("bytes=20-999", 20..26),
        part("bytes=20-99999999999999999999999999", 20..26),
        part("bytes=-1", 25..26),
        part("bytes=-26", 0..26),
        part("bytes=-27", 0..26),
        part("bytes=-99999999999999999999999999", 0..26),
        part("BYTES=0-0", 0..1),
        beyond("bytes=26-"),
        beyond("bytes=26-26"),
        beyond("bytes=99999999999999999999999999-"),
        beyond("bytes=-0"),
        all("RFC 9110 section 14.2", "bytes=0-0,2-2"),
        all("RFC 9110 section 14.2", "bytes=0-0, 99-"),
        all("RFC 9110 section 14.2", "bytes=5-3"),
        all("RFC 9110 section 14.2", "bytes=a-b"),
        all("RFC 9110 section 14.2", "bytes=-"),
        all("RFC 9110 section 14.2", "bytes="),
        all("RFC 9110 section 14.2", "bytes=0-0x"),
        all("RFC 9110 section 14.2", "0-0"),
        all("RFC 9110 section 14.2", "lines=0-0"),
        all("RFC 9110 section 14.2", "bytes=0-0\nRange: bytes=1-1"),
        Case { line: "HEAD /a.txt".to_owned(), ..all("RFC 9110 section 14.2", "bytes=0-0") },
        Case { line: "HEAD /a.txt".to_owned(), ..all("RFC 9110 section 14.2", "bytes=99-") },
        case(rfc, "/empty.txt", Expect::Unsatisfiable(0)).asks("Range: bytes=0-0"),
        case(rfc, "/empty.txt", Expect::Unsatisfiable(0)).asks("Range: bytes=0-"),
        whole(rfc, "/empty.txt", "empty.txt").asks("Range: bytes=-1"),
        big("bytes=0-0", 0..1),
        big("bytes=4095-4096", 4095..4097),
        big("bytes=262143-262144", 262_143..262_145),
        big("bytes=1000-524300", 1000..524_301),
        big("bytes=-5000", BIG_OCTETS - 5000..BIG_OCTETS),
        big("bytes=599999-", BIG_OCTETS - 1..BIG_OCTETS),
        case(rfc, "/big.bin", Expect::Unsatisfiable(BIG_OCTETS)).asks("Range: bytes=600000-"),
        case(rfc, "/dir/", Expect::Part("dir/index.html", 0..1)).asks("Range: bytes=0-0"),
        status(rfc, "/missing.txt", 404).asks("Range: bytes=0-0"),
    ]
}

/// RFC 9110 section 13.1.5: only for exactly this file.
fn conditional_ranges() -> Vec<Case> {
    let rfc = "RFC 9110 section 13.1.5";
    let part = |value: &str| {
        case(rfc, "/a.txt", Expect::Part("a.txt", 2..4)).asks(&format!("Range: bytes=2-3\nIf-Range: {value}"))
    };
    let all =
        |value: &str| whole(rfc, "/a.txt", "a.txt").asks(&format!("Range: bytes=2-3\nIf-Range: {value}"));
    vec![
        part("{a.txt}"),
        part(MODIFIED),
        part(MODIFIED_RFC850),
        part(MODIFIED_ASCTIME),
        all("W/{a.txt}"),
        all("\"x\""),
        all("{b.txt}"),
        all(BEFORE),
        // not "since": exactly this date
        all(AFTER),
        all("nonsense"),
        all("*"),
        // stale: the range is not even looked at
        whole(rfc, "/a.txt", "a.txt").asks("Range: bytes=99-\nIf-Range: \"x\""),
        case(rfc, "/a.txt", Expect::Unsatisfiable(26)).asks("Range: bytes=99-\nIf-Range: {a.txt}"),
        // without a range it says nothing
        whole(rfc, "/a.txt", "a.txt").asks("If-Range: \"x\""),
    ]
}

/// RFC 9110 section 12.5.3: `x.css` lies there in all codings, `g.js` in gzip alone.
fn negotiated() -> Vec<Case> {
    let rfc = "RFC 9110 section 12.5.3";
    let gets = |accept: &str, coding: Option<&'static str>| {
        let file = match coding {
            Some("br") => "x.css.br",
            Some("zstd") => "x.css.zst",
            Some("gzip") => "x.css.gz",
            _ => "x.css",
        };
        let case = whole(rfc, "/x.css", file).asks(&format!("Accept-Encoding: {accept}")).varying();
        Case {
            says: vec![("content-encoding", coding), ("content-type", Some("text/css; charset=utf-8"))],
            ..case
        }
    };
    vec![
        whole(rfc, "/x.css", "x.css").varying().lacks("content-encoding"),
        gets("br", Some("br")),
        gets("zstd", Some("zstd")),
        gets("gzip", Some("gzip")),
        gets("x-gzip", Some("gzip")),
        gets("GZIP", Some("gzip")),
        gets("gzip, deflate, br, zstd", Some("br")),
        gets("gzip, zstd", Some("zstd")),
        gets("gzip;q=1.0, br;q=0.5, zstd;q=0.9", Some("gzip")),
        gets("br;q=0, gzip", Some("gzip")),
        gets("br;q=0.001", Some("br")),
        gets("*", Some("br")),
        gets("br;q=0, *", Some("zstd")),
        gets("deflate", None),
        gets("identity", None),
        gets("identity, gzip;q=0.5", None),
        gets("identity;q=0.5, gzip", Some("gzip")),
        gets("", None),
        gets("gzip;q=0", None),
        gets("identity;q=0, gzip", Some("gzip")),
        gets("identity;q=0, *", Some("br")),
        gets("zstd;q=0.1\nAccept-Encoding: gzip", Some("gzip")),
        status(rfc, "/x.css", 406).asks("Accept-Encoding: identity;q=0").varying(),
        status(rfc, "/x.css", 406).asks("Accept-Encoding: *;q=0").varying(),
        status(rfc, "/g.js", 406).asks("Accept-Encoding: identity;q=0, br").varying(),
        whole(rfc, "/g.js", "g.js").asks("Accept-Encoding: br, zstd").varying().lacks("content-encoding"),
        whole(rfc, "/g.js", "g.js.gz")
            .asks("Accept-Encoding: br, gzip;q=0.1")
            .varying()
            .says("content-encoding", "gzip")
            .says("content-type", "text/javascript; charset=utf-8"),
        // none beside it: nothing depends on the field
        whole(rfc, "/a.txt", "a.txt").asks("Accept-Encoding: br, gzip, zstd").lacks("content-encoding"),
        // what is beside these is a link that leads out, and a directory
        whole(rfc, "/out-sibling.txt", "out-sibling.txt").asks("Accept-Encoding: gzip"),
        whole(rfc, "/dir-sibling.txt", "dir-sibling.txt").asks("Accept-Encoding: gzip"),
        whole(rfc, "/z/", "z/index.html.gz")
            .asks("Accept-Encoding: gzip")
            .varying()
            .says("content-encoding", "gzip")
            .says("content-type", "text/html; charset=utf-8"),
    ]
}

/// RFC 9110 section 8.8.3.3: each coding has validators of its own; section 14.2: ranges count in the coded octets.
fn negotiated_conditions() -> Vec<Case> {
    let (tags, parts, vary) =
        ("RFC 9110 section 8.8.3.3", "RFC 9110 section 14.2", "RFC 9110 section 12.5.5");
    let gzip = |rfc, expect, fields: &str| {
        case(rfc, "/x.css", expect).asks(&format!("Accept-Encoding: gzip\n{fields}")).varying()
    };
    vec![
        gzip(tags, Expect::NotModified("x.css.gz"), "If-None-Match: {x.css.gz}"),
        gzip(tags, Expect::Whole("x.css.gz"), "If-None-Match: {x.css}"),
        gzip(tags, Expect::Whole("x.css.gz"), "If-None-Match: {x.css.br}"),
        gzip(tags, Expect::Whole("x.css.gz"), "If-Match: {x.css.gz}"),
        gzip(vary, Expect::Status(412), "If-Match: {x.css}"),
        case(vary, "/x.css", Expect::NotModified("x.css")).asks("If-None-Match: {x.css}").varying(),
        case(tags, "/x.css", Expect::Whole("x.css")).asks("If-None-Match: {x.css.gz}").varying(),
        gzip(parts, Expect::Part("x.css.gz", 2..5), "Range: bytes=2-4").says("content-encoding", "gzip"),
        gzip(parts, Expect::Part("x.css.gz", 2..5), "Range: bytes=2-4\nIf-Range: {x.css.gz}"),
        gzip(parts, Expect::Whole("x.css.gz"), "Range: bytes=2-4\nIf-Range: {x.css}"),
        gzip(vary, Expect::Unsatisfiable(19), "Range: bytes=19-"),
        case(parts, "/x.css", Expect::Part("x.css", 2..5)).asks("Range: bytes=2-4").varying(),
    ]
}

/// What lies beside a file is a file too.
fn as_they_lie_there() -> Vec<Case> {
    let rfc = "RFC 9110 section 8.4";
    vec![
        whole(rfc, "/x.css.gz", "x.css.gz")
            .lacks("content-encoding")
            .says("content-type", "application/gzip"),
        whole(rfc, "/x.css.gz", "x.css.gz").asks("Accept-Encoding: gzip").lacks("content-encoding"),
        whole(rfc, "/x.css.br", "x.css.br").lacks("content-encoding"),
        whole(rfc, "/x.css.zst", "x.css.zst").lacks("content-encoding"),
        // compressed, and nothing else
        whole(rfc, "/only.txt.gz", "only.txt.gz").lacks("content-encoding"),
        status("RFC 9110 section 15.5.5", "/only.txt", 404).asks("Accept-Encoding: gzip"),
    ]
}

// ---- how cases are written down ----

fn whole(rfc: &'static str, target: &str, file: &'static str) -> Case {
    case(rfc, target, Expect::Whole(file))
}

fn redirect(rfc: &'static str, target: &str, to: &'static str) -> Case {
    case(rfc, target, Expect::Redirect(to))
}

fn status(rfc: &'static str, target: &str, status: u16) -> Case {
    case(rfc, target, Expect::Status(status))
}

/// A GET.
fn case(rfc: &'static str, target: &str, expect: Expect) -> Case {
    Case {
        rfc,
        line: format!("GET {target}"),
        fields: String::new(),
        body: vec![],
        expect,
        says: vec![],
        varies: false,
        closes: false,
    }
}

impl Case {
    fn asks(self, fields: &str) -> Case {
        Case { fields: fields.to_owned(), ..self }
    }

    fn says(mut self, name: &'static str, value: &'static str) -> Case {
        self.says.push((name, Some(value)));
        self
    }

    fn lacks(mut self, name: &'static str) -> Case {
        self.says.push((name, None));
        self
    }

    fn varying(self) -> Case {
        Case { varies: true, ..self }
    }

    fn closing(self) -> Case {
        Case { closes: true, ..self }
    }

    pub fn is_head(&self) -> bool {
        self.line.starts_with("HEAD ")
    }
}
