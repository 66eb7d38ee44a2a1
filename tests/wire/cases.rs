//! The table of `tests/wire.rs`: what a client may send, what it is answered, and what becomes of the connection. Each
//! case names the section that decides it.

/// One request, or what was meant to be one.
pub struct Case {
    pub rfc: &'static str,
    pub input: Vec<u8>,
    pub expect: Expect,
    pub then: Then,
    /// `100 Continue` comes before the answer.
    pub continues: bool,
}

/// The answer.
pub enum Expect {
    /// 200, and `examples/mirror.rs` shows this first line and this content.
    Shows(&'static str, Vec<u8>),
    /// 200 with exactly this content.
    Gives(&'static str),
    /// One of these.
    Status(&'static [u16]),
}

/// The connection, after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Goes on.
    Keep,
    /// The server ends it, in good order whatever the client still sends (RFC 9112 section 9.6).
    Close,
    /// It was the client's last request by its own word. A client that sends another one behind the answer may see a
    /// reset instead of the end.
    Leave,
}

/// `--max-body` of the server that answers these.
pub const BODY_OCTETS_MAX: usize = 64 * 1024;

/// Inputs beyond this are tried less often.
pub const LONG: usize = 4096;

pub fn cases() -> Vec<Case> {
    let groups = [
        methods(),
        request_lines(),
        targets(),
        versions(),
        malformed_versions(),
        served_fields(),
        refused_fields(),
        names_that_are_no_tokens(),
        hosts(),
        connections(),
        lengths(),
        refused_lengths(),
        transfer_encodings(),
        chunks(),
        refused_chunks(),
        expectations(),
        contents_that_nobody_wants(),
        answers_without_content(),
        streams(),
        limits(),
        fields_of_others(),
    ];
    groups.into_iter().flatten().collect()
}

/// RFC 9110 section 9: every method that is known reaches the handler.
fn methods() -> Vec<Case> {
    vec![
        shows("RFC 9110 section 9.3.1", line("GET / HTTP/1.1"), "GET / 1.1"),
        status("RFC 9110 section 9.3.2", line("HEAD / HTTP/1.1"), &[200]),
        shows("RFC 9110 section 9.3.3", line("POST / HTTP/1.1"), "POST / 1.1"),
        shows("RFC 9110 section 9.3.4", line("PUT /a HTTP/1.1"), "PUT /a 1.1"),
        shows("RFC 9110 section 9.3.5", line("DELETE /a HTTP/1.1"), "DELETE /a 1.1"),
        shows("RFC 9110 section 9.3.7", line("OPTIONS /a HTTP/1.1"), "OPTIONS /a 1.1"),
        shows("RFC 9110 section 9.3.8", line("TRACE /a HTTP/1.1"), "TRACE /a 1.1"),
        shows("RFC 5789 section 2", line("PATCH /a HTTP/1.1"), "PATCH /a 1.1"),
        refuses("RFC 9110 section 9.1", line("BREW / HTTP/1.1"), 501),
        refuses("RFC 9110 section 9.1", line("PROPFIND / HTTP/1.1"), 501),
        refuses("RFC 9110 section 9.1", line("M-SEARCH / HTTP/1.1"), 501),
        refuses("RFC 9110 section 9.1", line("GETS / HTTP/1.1"), 501),
        refuses("RFC 9110 section 9.1", line("G / HTTP/1.1"), 501),
        refuses("RFC 9110 section 5.6.2", line("!#$%&'*+-.^_`|~09azAZ / HTTP/1.1"), 501),
        refuses("RFC 9112 section 3.1", line(&format!("{} / HTTP/1.1", "M".repeat(200))), 501),
        // methods are case-sensitive
        refuses("RFC 9112 section 3.1", line("get / HTTP/1.1"), 501),
        refuses("RFC 9112 section 3.1", line("Get / HTTP/1.1"), 501),
        refuses("RFC 9110 section 9.3.6", line("CONNECT x:443 HTTP/1.1"), 400),
        refuses("RFC 9110 section 9.3.6", line("CONNECT / HTTP/1.1"), 400),
        refuses("RFC 9110 section 9.3.6", line("CONNECT http://x/ HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.1", line("G@T / HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.1", line("GET,HEAD / HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.1", line("\"GET\" / HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.1", line("GE\0T / HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.1", line("G\u{c9}T / HTTP/1.1"), 400),
    ]
}

/// RFC 9112 section 3: three words, one space between them, CRLF.
fn request_lines() -> Vec<Case> {
    vec![
        shows("RFC 9112 section 2.2", line("\r\nGET / HTTP/1.1"), "GET / 1.1"),
        shows("RFC 9112 section 2.2", line("\r\n\r\nGET / HTTP/1.1"), "GET / 1.1"),
        refuses("RFC 9112 section 2.2", line("\nGET / HTTP/1.1"), 400),
        refuses("RFC 9112 section 2.2", line("\r\n\nGET / HTTP/1.1"), 400),
        refuses("RFC 9112 section 2.2", line("\rGET / HTTP/1.1"), 400),
        refuses("RFC 9112 section 2.2", "\r".repeat(3000), 400),
        refuses("RFC 9112 section 2.2", "\r\n\r\r\r\n", 400),
        refuses("RFC 9112 section 2.2", "GET / HTTP/1.1\nHost: x\r\n\r\n", 400),
        refuses("RFC 9112 section 2.2", "GET / HTTP/1.1\nHost: x\n\n", 400),
        refuses("RFC 9112 section 2.2", "GET / HTTP/1.1\rHost: x\r\n\r\n", 400),
        refuses("RFC 9112 section 2.2", line("GET / HTTP/1.1\r"), 400),
        refuses("RFC 9112 section 2.2", line("GET /\r HTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line(" GET / HTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line("\tGET / HTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line("GET  / HTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line("GET /  HTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line("GET\t/ HTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line("GET /\tHTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line("GET / HTTP/1.1 "), 400),
        refuses("RFC 9112 section 3", line("GET / HTTP/1.1\t"), 400),
        refuses("RFC 9112 section 3", line("GET / HTTP/1.1 x"), 400),
        refuses("RFC 9112 section 3", line("GET / x HTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line("GET HTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line("GET  HTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line(" / HTTP/1.1"), 400),
        refuses("RFC 9112 section 3", line("GET"), 400),
        refuses("RFC 9112 section 3", line("GET "), 400),
        // HTTP/0.9
        refuses("RFC 9112 section 3", "GET /\r\n\r\n", 400),
        refuses("RFC 9112 section 3", line("GET / "), 400),
        // a TLS handshake, SSH, SOCKS, a binary zero, an answer
        refuses("RFC 9112 section 2.2", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        refuses("RFC 9112 section 2.2", "SSH-2.0-OpenSSH_9.2\r\n", 400),
        refuses("RFC 9112 section 2.2", b"\x05\x01\x00", 400),
        refuses("RFC 9112 section 2.2", b"\0", 400),
        refuses("RFC 9112 section 2.2", b"\xff\xfe", 400),
        refuses("RFC 9112 section 2.1", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 400),
    ]
}

/// RFC 9112 section 3.2: origin-form, absolute-form, and the asterisk for OPTIONS.
fn targets() -> Vec<Case> {
    vec![
        shows("RFC 9112 section 3.2.1", line("GET /a/b?c=d&e HTTP/1.1"), "GET /a/b?c=d&e 1.1"),
        shows("RFC 9112 section 3.2.1", line("GET /? HTTP/1.1"), "GET /? 1.1"),
        shows("RFC 9112 section 3.2.1", line("GET //a//b/../c HTTP/1.1"), "GET //a//b/../c 1.1"),
        shows("RFC 9112 section 3.2.1", line("GET /%20%41%ff HTTP/1.1"), "GET /%20%41%ff 1.1"),
        shows("RFC 3986 section 3.3", line("GET /-._~!$&'()*+,;=:@ HTTP/1.1"), "GET /-._~!$&'()*+,;=:@ 1.1"),
        shows("RFC 3986 section 3.4", line("GET /a?b/c?d HTTP/1.1"), "GET /a?b/c?d 1.1"),
        shows("RFC 9112 section 3.2.2", line("GET http://x/a?b HTTP/1.1"), "GET http://x/a?b 1.1"),
        shows("RFC 9112 section 3.2.2", line("GET http://x HTTP/1.1"), "GET http://x 1.1"),
        shows("RFC 9112 section 3.2.2", line("GET http://x?b HTTP/1.1"), "GET http://x?b 1.1"),
        shows("RFC 9112 section 3.2.2", line("GET https://x:8443/ HTTP/1.1"), "GET https://x:8443/ 1.1"),
        shows("RFC 3986 section 3.1", line("GET HTTP://X/ HTTP/1.1"), "GET HTTP://X/ 1.1"),
        // the Host field is ignored there
        shows("RFC 9112 section 3.2.2", line("GET http://other/ HTTP/1.1"), "GET http://other/ 1.1"),
        shows("RFC 9112 section 3.2.4", line("OPTIONS * HTTP/1.1"), "OPTIONS * 1.1"),
        refuses("RFC 9112 section 3.2.4", line("GET * HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2.4", line("HEAD * HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2.4", line("OPTIONS ** HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2.4", line("OPTIONS *a HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2.3", line("GET x:80 HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2.3", line("OPTIONS x:80 HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET example.org HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET a/b HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET ?a HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET . HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET mailto:a@x HTTP/1.1"), 400),
        refuses("RFC 9110 section 4.2.1", line("GET http:///a HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET /a b HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET /\u{e9} HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", b"GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        refuses("RFC 9112 section 3.2", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        refuses("RFC 9112 section 3.2", line("GET /\0 HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET /\x01 HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET /\x1b HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET /\x7f HTTP/1.1"), 400),
        refuses("RFC 9112 section 3.2", line("GET /\t HTTP/1.1"), 400),
    ]
}

/// RFC 9110 sections 2.5 and 6.2: a higher minor version is served as the highest that is known.
fn versions() -> Vec<Case> {
    vec![
        shows("RFC 9112 section 2.3", line("GET / HTTP/1.0"), "GET / 1.0").last(),
        shows("RFC 9110 section 6.2", line("GET / HTTP/1.2"), "GET / 1.1"),
        shows("RFC 9110 section 6.2", line("GET / HTTP/1.5"), "GET / 1.1"),
        shows("RFC 9110 section 6.2", line("GET / HTTP/1.9"), "GET / 1.1"),
        refuses("RFC 9112 section 3.2", "GET / HTTP/1.2\r\n\r\n", 400),
        refuses("RFC 9110 section 15.6.6", line("GET / HTTP/0.9"), 505),
        refuses("RFC 9110 section 15.6.6", line("GET / HTTP/0.0"), 505),
        refuses("RFC 9110 section 15.6.6", line("GET / HTTP/2.0"), 505),
        refuses("RFC 9110 section 15.6.6", line("GET / HTTP/3.0"), 505),
        refuses("RFC 9110 section 15.6.6", line("GET / HTTP/3.1"), 505),
        refuses("RFC 9110 section 15.6.6", line("GET / HTTP/9.9"), 505),
        refuses("RFC 9110 section 15.6.6", line("POST / HTTP/2.0"), 505),
        refuses("RFC 9110 section 15.6.6", line("HEAD / HTTP/2.0"), 505),
        // what an HTTP/2 client begins with
        refuses("RFC 9113 section 3.4", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ]
}

/// RFC 9112 section 2.3: `HTTP/`, one digit, a dot, one digit.
fn malformed_versions() -> Vec<Case> {
    let versions = [
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/10.1",
        "HTTP/01.1",
        "HTTP/1.1.1",
        "HTTP/1,1",
        "HTTP/1.x",
        "HTTP/x.1",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "HTTP/",
        "HTTP",
        "http/1.1",
        "Http/1.1",
        "HTTPS/1.1",
        "HTP/1.1",
        "HTTP1.1",
        "HTTP\\1.1",
        "HTTP/ 1.1",
        "HTTP /1.1",
        "HTTP/1.1\0",
        "ICY/1.1",
    ];
    let refused = |version| refuses("RFC 9112 section 2.3", line(&format!("GET / {version}")), 400);
    versions.into_iter().map(refused).collect()
}

/// RFC 9112 section 5 and RFC 9110 section 5: all of these are fields.
fn served_fields() -> Vec<Case> {
    let values: [&[u8]; 13] = [
        b"A:b",
        b"A: b",
        b"A:   b",
        b"A:\tb",
        b"A: \t b\t \t",
        b"A:",
        b"A: ",
        b"A: b c\td",
        // obs-text
        b"A: \x80\xff\xe9",
        b"A: :;,=\"()<>@[]{}\\/?",
        b"A: \"quoted \\\" string\"",
        // RFC 9110 section 5.6.2: the characters of a token
        b"!#$%&'*+-.^_`|~09azAZ: b",
        b"0: 1\r\n0: 2\r\n0: 3",
    ];
    let served = |line: &[u8]| shows("RFC 9112 section 5", get([line, b"\r\n"].concat()), "GET / 1.1");
    let mut cases: Vec<Case> = values.into_iter().map(served).collect();
    cases.extend([
        shows(
            "RFC 9110 section 5.1",
            "GET / HTTP/1.1\r\nhOST: x\r\nCONNECTION: Keep-alive\r\n\r\n",
            "GET / 1.1",
        ),
        shows("RFC 9110 section 5.4", get(format!("A: {}\r\n", "b".repeat(3000))), "GET / 1.1"),
        shows("RFC 9110 section 5.4", get(format!("{}: b\r\n", "A".repeat(300))), "GET / 1.1"),
    ]);
    cases
}

/// RFC 9112 sections 2.2, 5.1 and 5.2: two servers that read one of these differently see different requests.
fn refused_fields() -> Vec<Case> {
    let fields: [(&str, &[u8]); 34] = [
        ("RFC 9112 section 5.1", b"A : b\r\n"),
        ("RFC 9112 section 5.1", b"A\t: b\r\n"),
        ("RFC 9112 section 5.1", b"A b: c\r\n"),
        ("RFC 9112 section 5.1", b"Content-Length : 5\r\n"),
        ("RFC 9112 section 5.1", b"Transfer-Encoding : chunked\r\n"),
        ("RFC 9110 section 5.1", b": b\r\n"),
        ("RFC 9110 section 5.1", b":\r\n"),
        ("RFC 9112 section 5", b"A\r\n"),
        ("RFC 9112 section 5", b"A b\r\n"),
        ("RFC 9112 section 5", b"A;b\r\n"),
        ("RFC 9112 section 5.2", b"A: b\r\n c\r\n"),
        ("RFC 9112 section 5.2", b"A: b\r\n\tc\r\n"),
        ("RFC 9112 section 5.2", b"A:\r\n b\r\n"),
        ("RFC 9112 section 5.2", b"A: b\r\n \r\n"),
        ("RFC 9112 section 5.2", b"Transfer-Encoding:\r\n chunked\r\n"),
        ("RFC 9112 section 2.2", b"A: b\nC: d\r\n"),
        ("RFC 9112 section 2.2", b"A: b\n"),
        ("RFC 9112 section 2.2", b"A:\n"),
        ("RFC 9112 section 2.2", b"A: b\r\n\n"),
        ("RFC 9112 section 2.2", b"A: b\n\r\n"),
        ("RFC 9112 section 2.2", b"A: b\rC: d\r\n"),
        ("RFC 9112 section 2.2", b"A: b\r\r\n"),
        ("RFC 9112 section 2.2", b"A: \rb\r\n"),
        ("RFC 9112 section 2.2", b"A\r: b\r\n"),
        ("RFC 9112 section 2.2", b"\rA: b\r\n"),
        ("RFC 9110 section 5.5", b"A: b\0c\r\n"),
        ("RFC 9110 section 5.5", b"A: \x01\r\n"),
        ("RFC 9110 section 5.5", b"A: b\x0bc\r\n"),
        ("RFC 9110 section 5.5", b"A: b\x1f\r\n"),
        ("RFC 9110 section 5.5", b"A: b\x7f\r\n"),
        ("RFC 9110 section 5.1", b"A\0: b\r\n"),
        ("RFC 9110 section 5.1", b"A\x7f: b\r\n"),
        ("RFC 9110 section 5.1", b"\xc3\x89: b\r\n"),
        ("RFC 9110 section 5.1", b"A\x80: b\r\n"),
    ];
    let mut cases: Vec<Case> = fields.into_iter().map(|(rfc, lines)| refuses(rfc, get(lines), 400)).collect();
    cases.extend([
        // before the first field
        refuses("RFC 9112 section 2.2", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
        refuses("RFC 9112 section 2.2", "GET / HTTP/1.1\r\n\tA: b\r\nHost: x\r\n\r\n", 400),
        refuses("RFC 9112 section 2.2", "GET / HTTP/1.1\r\n \r\nHost: x\r\n\r\n", 400),
        refuses("RFC 9112 section 5.2", "GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n", 400),
    ]);
    cases
}

/// RFC 9110 section 5.6.2: delimiters.
fn names_that_are_no_tokens() -> Vec<Case> {
    let refused = |delimiter| refuses("RFC 9110 section 5.1", get(format!("A{delimiter}b: c\r\n")), 400);
    "\"(),/;<=>?@[\\]{}".chars().map(refused).collect()
}

/// RFC 9112 section 3.2: one valid Host in HTTP/1.1, at most one in HTTP/1.0.
fn hosts() -> Vec<Case> {
    let request = |version: &str, fields: &str| format!("GET / HTTP/{version}\r\n{fields}\r\n");
    let served = [
        "x",
        "",
        "x:80",
        "x:",
        "example.org",
        "192.0.2.1:8080",
        "[2001:db8::1]",
        "[::1]:80",
        "a%20b",
        "!$&'()*+,;=-._~",
    ];
    let refused = [
        "a b",
        "a\tb",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "http://x/",
        "x:y",
        "x:80:80",
        "[::1",
        "::1]",
        "[]",
        "a%2",
        "a%zz",
        "\"x\"",
        "<x>",
        "\u{e9}",
    ];
    let served = served
        .map(|host| shows("RFC 9110 section 7.2", request("1.1", &format!("Host: {host}\r\n")), "GET / 1.1"));
    let refused = refused
        .map(|host| refuses("RFC 9112 section 3.2", request("1.1", &format!("Host: {host}\r\n")), 400));
    let mut cases: Vec<Case> = served.into_iter().chain(refused).collect();
    cases.extend([
        shows("RFC 9112 section 5", request("1.1", "Host: \t x \t\r\n"), "GET / 1.1"),
        shows("RFC 9112 section 3.2", request("1.1", "A: b\r\nHost: x\r\n"), "GET / 1.1"),
        shows("RFC 9112 section 3.2", request("1.0", ""), "GET / 1.0").last(),
        refuses("RFC 9112 section 3.2", request("1.1", ""), 400),
        refuses("RFC 9112 section 3.2", request("1.1", "Hosts: x\r\n"), 400),
        refuses("RFC 9112 section 3.2", request("1.1", "Host: x\r\nHost: x\r\n"), 400),
        refuses("RFC 9112 section 3.2", request("1.1", "Host: x\r\nA: b\r\nhost: y\r\n"), 400),
        refuses("RFC 9112 section 3.2", request("1.1", "Host:\r\nHost: x\r\n"), 400),
        refuses("RFC 9112 section 3.2", request("1.0", "Host: x\r\nHost: x\r\n"), 400),
        refuses("RFC 9112 section 3.2", request("1.0", "Host: a/b\r\n"), 400),
        refuses("RFC 9112 section 3.2.2", "GET http://x/ HTTP/1.1\r\n\r\n", 400),
    ]);
    cases
}

/// RFC 9112 section 9.3: who keeps the connection.
fn connections() -> Vec<Case> {
    let closes = [
        "close",
        "Close",
        "CLOSE",
        "close, x",
        "x, close",
        "keep-alive, close",
        ",close,",
        "\tclose \t",
        "x,close,y",
    ];
    let keeps = ["keep-alive", "Keep-Alive", "x", "", "closed", "close;q=1", "x-close", "upgrade"];
    let old = |fields: &str| format!("GET / HTTP/1.0\r\n{fields}\r\n");
    let closes = closes.map(|options| {
        shows("RFC 9110 section 7.6.1", get(format!("Connection: {options}\r\n")), "GET / 1.1").last()
    });
    let keeps = keeps.map(|options| {
        shows("RFC 9110 section 7.6.1", get(format!("Connection: {options}\r\n")), "GET / 1.1")
    });
    let mut cases: Vec<Case> = closes.into_iter().chain(keeps).collect();
    cases.extend([
        shows("RFC 9110 section 7.6.1", get("Connection: x\r\nConnection: close\r\n"), "GET / 1.1").last(),
        shows("RFC 9110 section 7.6.1", get("Connection: close\r\nConnection: x\r\n"), "GET / 1.1").last(),
        shows(
            "RFC 9112 section 9.3",
            get("Keep-Alive: timeout=5\r\nProxy-Connection: close\r\n"),
            "GET / 1.1",
        ),
        shows(
            "RFC 9112 section 9.3",
            post("Connection: close\r\nContent-Length: 3\r\n", "abc"),
            "POST / 1.1",
        )
        .with("abc")
        .last(),
        shows("RFC 9112 section 9.3", old("Connection: keep-alive\r\n"), "GET / 1.0"),
        shows("RFC 9112 section 9.3", old("Connection: x, Keep-Alive\r\n"), "GET / 1.0"),
        shows("RFC 9112 section 9.3", old("Connection: close\r\n"), "GET / 1.0").last(),
        shows("RFC 9112 section 9.3", old("Connection: keep-alive, close\r\n"), "GET / 1.0").last(),
        shows("RFC 9112 section 9.3", old("Connection: close\r\nConnection: keep-alive\r\n"), "GET / 1.0")
            .last(),
        shows("RFC 9112 section 9.3", old("Keep-Alive: timeout=5\r\n"), "GET / 1.0").last(),
        shows("RFC 9112 section 9.3", "GET / HTTP/1.2\r\nHost: x\r\nConnection: close\r\n\r\n", "GET / 1.1")
            .last(),
        status("RFC 9112 section 9.3", "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &[200])
            .last(),
    ]);
    cases
}

/// RFC 9112 section 6.3: content of a known length.
fn lengths() -> Vec<Case> {
    const RFC: &str = "RFC 9112 section 6.3";
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    vec![
        shows(RFC, post("Content-Length: 0\r\n", ""), "POST / 1.1"),
        shows(RFC, post("Content-Length: 3\r\n", "abc"), "POST / 1.1").with("abc"),
        shows(RFC, post("content-LENGTH:3\r\n", "abc"), "POST / 1.1").with("abc"),
        shows(RFC, post("Content-Length: \t3 \t\r\n", "abc"), "POST / 1.1").with("abc"),
        shows("RFC 9110 section 8.6", post("Content-Length: 0003\r\n", "abc"), "POST / 1.1").with("abc"),
        shows("RFC 9110 section 8.6", post("Content-Length: 00\r\n", ""), "POST / 1.1"),
        shows(RFC, post("Content-Length: 2\r\n", "\r\n"), "POST / 1.1").with("\r\n"),
        shows(RFC, post("Content-Length: 5\r\n", b"a\0b\xff\n"), "POST / 1.1").with(b"a\0b\xff\n"),
        shows(RFC, post("Content-Length: 64\r\n", "x".repeat(64)), "POST / 1.1").with("x".repeat(64)),
        shows(RFC, post("Content-Length: 65\r\n", "x".repeat(65)), "POST / 1.1").with("x".repeat(65)),
        shows(RFC, post("Content-Length: 3000\r\n", "x".repeat(3000)), "POST / 1.1").with("x".repeat(3000)),
        shows(RFC, post("Content-Length: 35\r\n", smuggled), "POST / 1.1").with(smuggled),
        shows(RFC, post("Content-Length: 5\r\n", "0\r\n\r\n"), "POST / 1.1").with("0\r\n\r\n"),
        shows(RFC, [get("Content-Length: 3\r\n"), b"abc".to_vec()].concat(), "GET / 1.1").with("abc"),
        status(RFC, "HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", &[200]),
        shows(RFC, "DELETE / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "DELETE / 1.1")
            .with("abc"),
        shows(RFC, "OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "OPTIONS * 1.1")
            .with("abc"),
        shows(RFC, "PATCH / HTTP/1.5\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "PATCH / 1.1").with("abc"),
        shows(RFC, "POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "POST / 1.0").with("abc").last(),
        shows(RFC, "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", "POST / 1.0")
            .with("abc"),
    ]
}

/// RFC 9110 section 8.6: digits, once. Beyond `--max-body` nothing of it is read.
fn refused_lengths() -> Vec<Case> {
    let malformed: [&[u8]; 24] = [
        b"",
        b" ",
        b"+3",
        b"-3",
        b"-0",
        b"3,3",
        b"3, 3",
        b"3,",
        b",3",
        b"3;",
        b"3 3",
        b"3.0",
        b"0x3",
        b"3a",
        b"abc",
        b"1e1",
        b"\"3\"",
        b"3_0",
        b"\xd9\xa3",
        b"3\xa0",
        b"\xb2",
        b"18446744073709551616",
        b"18446744073709551619",
        b"99999999999999999999999",
    ];
    let refused = |value: &[u8]| {
        refuses("RFC 9110 section 8.6", post([b"Content-Length: ", value, b"\r\n"].concat(), "abc"), 400)
    };
    let mut cases: Vec<Case> = malformed.into_iter().map(refused).collect();
    cases.extend([
        refuses("RFC 9112 section 6.3", post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 400),
        refuses("RFC 9112 section 6.3", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), 400),
        refuses("RFC 9112 section 6.3", post("Content-Length: 0\r\nContent-Length: 0\r\n", ""), 400),
        refuses(
            "RFC 9112 section 6.3",
            post("Content-Length: 0\r\nA: b\r\ncontent-length: 3\r\n", "abc"),
            400,
        ),
        refuses("RFC 9110 section 8.6", "POST / HTTP/1.0\r\nContent-Length: x\r\n\r\nabc", 400),
        refuses(
            "RFC 9110 section 15.5.14",
            post(format!("Content-Length: {}\r\n", BODY_OCTETS_MAX + 1), ""),
            413,
        ),
        refuses("RFC 9110 section 15.5.14", post("Content-Length: 18446744073709551615\r\n", "abc"), 413),
        refuses("RFC 9110 section 15.5.14", get("Content-Length: 4294967296\r\n"), 413),
        refuses(
            "RFC 9110 section 9.3.2",
            "HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 4294967299\r\n\r\n",
            413,
        ),
        refuses(
            "RFC 9110 section 15.5.14",
            "POST / HTTP/1.0\r\nContent-Length: 9223372036854775808\r\n\r\n",
            413,
        ),
    ]);
    cases
}

/// RFC 9112 section 6.1: chunked, once, alone; other codings are not implemented; HTTP/1.0 has none.
fn transfer_encodings() -> Vec<Case> {
    let coded = |value: &str| post(format!("Transfer-Encoding: {value}\r\n"), "3\r\nabc\r\n0\r\n\r\n");
    let served = ["chunked", "Chunked", "CHUNKED", "\tchunked \t"]
        .map(|value| shows("RFC 9112 section 7", coded(value), "POST / 1.1").with("abc"));
    let unknown = [
        "gzip",
        "gzip, chunked",
        "identity",
        "deflate",
        "compress",
        "x-gzip",
        "br",
        "gzip,deflate,chunked",
        "xchunked",
        "chunkedd",
        "chunke",
    ]
    .map(|value| refuses("RFC 9112 section 6.1", coded(value), 501));
    let malformed = [
        "",
        " ",
        "chunked, chunked",
        "chunked,chunked",
        "chunked, gzip",
        "chunked, identity",
        "\u{b}chunked",
        "chunked\0",
    ]
    .map(|value| refuses("RFC 9112 section 6.1", coded(value), 400));
    let both = |fields: &str| refuses("RFC 9112 section 6.3", post(fields, "3\r\nabc\r\n0\r\n\r\n"), 400);
    let old = |fields: &str| {
        refuses("RFC 9112 section 6.1", format!("POST / HTTP/1.0\r\nHost: x\r\n{fields}\r\n0\r\n\r\n"), 400)
    };
    let mut cases: Vec<Case> = served.into_iter().chain(unknown).chain(malformed).collect();
    cases.extend([
        both("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        both("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n"),
        both("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"),
        both("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        both("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        both("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
        both("Content-Length: 0\r\nA: b\r\ntransfer-encoding: chunked\r\n"),
        old("Transfer-Encoding: chunked\r\n"),
        old("Transfer-Encoding: gzip\r\n"),
        old("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n"),
        shows(
            "RFC 9110 section 6.2",
            "PUT / HTTP/1.9\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "PUT / 1.1",
        )
        .with("a"),
        shows(
            "RFC 9112 section 7",
            [get("Transfer-Encoding: chunked\r\n"), b"1\r\na\r\n0\r\n\r\n".to_vec()].concat(),
            "GET / 1.1",
        )
        .with("a"),
        status(
            "RFC 9112 section 7",
            "HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            &[200],
        ),
        shows(
            "RFC 9112 section 9.3",
            post("Transfer-Encoding: chunked\r\nConnection: close\r\n", "1\r\na\r\n0\r\n\r\n"),
            "POST / 1.1",
        )
        .with("a")
        .last(),
        // not a field of the message's framing
        shows("RFC 9110 section 10.1.4", get("TE: trailers, deflate;q=0.5\r\n"), "GET / 1.1"),
    ]);
    cases
}

/// RFC 9112 section 7.1: chunked content.
fn chunks() -> Vec<Case> {
    let (all, ff) = ("x".repeat(200), "x".repeat(255));
    let long_extension = format!("3;a={}\r\nabc\r\n0\r\n\r\n", "b".repeat(200));
    let trailers = "A: b\r\n".repeat(100);
    let rows: [(&str, String, &str); 33] = [
        ("RFC 9112 section 7.1", "0\r\n\r\n".into(), ""),
        ("RFC 9112 section 7.1", "3\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".into(), "abcde"),
        ("RFC 9112 section 7.1", "0003\r\nabc\r\n0000\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1", "0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1", "a\r\n0123456789\r\n0\r\n\r\n".into(), "0123456789"),
        ("RFC 9112 section 7.1", "A\r\n0123456789\r\n0\r\n\r\n".into(), "0123456789"),
        ("RFC 9112 section 7.1", format!("c8\r\n{all}\r\n0\r\n\r\n"), &all),
        ("RFC 9112 section 7.1", format!("fF\r\n{ff}\r\n0\r\n\r\n"), &ff),
        ("RFC 9112 section 7.1", "2\r\n\r\n\r\n0\r\n\r\n".into(), "\r\n"),
        ("RFC 9112 section 7.1", "5\r\n0\r\n\r\n\r\n0\r\n\r\n".into(), "0\r\n\r\n"),
        ("RFC 9112 section 7.1", "1\r\n\0\r\n0\r\n\r\n".into(), "\0"),
        ("RFC 9112 section 7.1.1", "3;a\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.1", "3;a=b\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.1", "3;a;b=c;d=e\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.1", "3;a=\"b c\"\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.1", "3;a=\"\"\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.1", "3;a=\"\\\"\\\\;\"\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.1", "3;a=\"\t\u{e9}\"\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.1", "3;!#$%&'*+-.^_`|~=1\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        // bad whitespace, which MUST be parsed (RFC 9110 section 5.6.3)
        ("RFC 9112 section 7.1.1", "3 ; a = b\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.1", "3\t;\ta\t=\t\"b\"\t;c\r\nabc\r\n0\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.1", "3\r\nabc\r\n0;a=b\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.1", long_extension, "abc"),
        ("RFC 9112 section 7.1.2", "3\r\nabc\r\n0\r\nA: b\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.2", "3\r\nabc\r\n0\r\nA: b\r\nC:\t d \r\nE:\r\n\r\n".into(), "abc"),
        ("RFC 9112 section 7.1.2", "0\r\nA: \u{e9}\r\n\r\n".into(), ""),
        // trailers change nothing that the head has decided
        ("RFC 9110 section 6.5.1", "3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n".into(), "abc"),
        ("RFC 9110 section 6.5.1", "0\r\nTransfer-Encoding: gzip\r\n\r\n".into(), ""),
        ("RFC 9110 section 6.5.1", "0\r\nHost: a/b\r\nHost: y\r\n\r\n".into(), ""),
        ("RFC 9110 section 6.5.1", "0\r\nConnection: close\r\n\r\n".into(), ""),
        ("RFC 9112 section 7.1.2", format!("0\r\n{trailers}\r\n"), ""),
    ];
    rows.map(|(rfc, sent, content)| shows(rfc, chunked(sent), "POST / 1.1").with(content)).into()
}

/// RFC 9112 section 7.1: whoever reads past one of these may see requests in what is content.
fn refused_chunks() -> Vec<Case> {
    let rows: [(&str, &[u8]); 54] = [
        // the size
        ("RFC 9112 section 7.1", b"\r\n"),
        ("RFC 9112 section 7.1", b"g\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"-1\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"+3\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"0x3\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3h\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3_0\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b" 3\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"\t3\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3 \r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3\t\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3 a\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"\xb3\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3\0\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"00000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b";a\r\nabc\r\n0\r\n\r\n"),
        // line ends
        ("RFC 9112 section 7.1", b"3\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3\rabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3\r\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"\r\n3\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3\r\nabc\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3\r\nabc\r0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3\r\nabc\r\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3\r\nabcd\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3\r\nabc0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"5\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"3\r\nabc\r\n\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1", b"0\n\r\n"),
        ("RFC 9112 section 7.1", b"0\r\n\n"),
        ("RFC 9112 section 7.1", b"0\r\n\r\r\n"),
        ("RFC 9112 section 7.1", b"0\n\n"),
        // extensions
        ("RFC 9112 section 7.1.1", b"3;\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;;a\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;=b\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a=\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a=b=c\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a b\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a,b\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a=\"b\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a=\"b\"c\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a=\"b\0\"\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a=\"b\nc\"\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a=\"b\rc\"\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"3;\x7f\r\nabc\r\n0\r\n\r\n"),
        ("RFC 9112 section 7.1.1", b"0;a=\r\n\r\n"),
        // trailers
        ("RFC 9112 section 7.1.2", b"0\r\nA\r\n\r\n"),
        ("RFC 9112 section 7.1.2", b"0\r\nA : b\r\n\r\n"),
        ("RFC 9112 section 7.1.2", b"0\r\n: b\r\n\r\n"),
        ("RFC 9112 section 7.1.2", b"0\r\nA: b\r\n c\r\n\r\n"),
        ("RFC 9112 section 7.1.2", b"0\r\nA: b\nC: d\r\n\r\n"),
        ("RFC 9112 section 7.1.2", b"0\r\nA: \0\r\n\r\n"),
    ];
    let mut cases: Vec<Case> = rows.into_iter().map(|(rfc, sent)| refuses(rfc, chunked(sent), 400)).collect();
    cases.extend([
        refuses("RFC 9112 section 7.1.2", chunked("0\r\n A: b\r\n\r\n"), 400),
        refuses("RFC 9112 section 7.1.2", chunked("0\r\nGET / HTTP/1.1\r\n\r\n"), 400),
        refuses(
            "RFC 9112 section 7.1.1",
            chunked(format!("3;a={}\r\nabc\r\n0\r\n\r\n", "b".repeat(300))),
            400,
        ),
        status(
            "RFC 9110 section 6.5.1",
            chunked(format!("0\r\n{}\r\n", "A: b\r\n".repeat(129))),
            &[400, 431],
        )
        .closing(),
        refuses("RFC 9110 section 15.5.14", chunked("10001\r\nabc"), 413),
        refuses("RFC 9110 section 15.5.14", chunked("3\r\nabc\r\nfffe\r\nabc"), 413),
        refuses("RFC 9110 section 15.5.14", chunked("FFFFFFFFFFFFFFFF\r\nabc"), 413),
        refuses("RFC 9110 section 15.5.14", chunked("3\r\nabc\r\nffffffffffffffff\r\nabc"), 413),
    ]);
    cases
}

/// RFC 9110 section 10.1.1.
fn expectations() -> Vec<Case> {
    const RFC: &str = "RFC 9110 section 10.1.1";
    let asks = |fields: &str, content: &str| post(format!("Expect: 100-continue\r\n{fields}"), content);
    vec![
        shows(RFC, asks("Content-Length: 3\r\n", "abc"), "POST / 1.1").with("abc").continuing(),
        shows(RFC, asks("Transfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\n\r\n"), "POST / 1.1")
            .with("a")
            .continuing(),
        shows(RFC, asks("Content-Length: 3\r\nConnection: close\r\n", "abc"), "POST / 1.1")
            .with("abc")
            .last()
            .continuing(),
        shows(RFC, post("Content-Length: 3\r\nexpect:\t100-CONTINUE \r\n", "abc"), "POST / 1.1")
            .with("abc")
            .continuing(),
        shows(RFC, asks("", ""), "POST / 1.1"),
        shows(RFC, asks("Content-Length: 0\r\n", ""), "POST / 1.1"),
        shows(RFC, get("Expect: 100-continue\r\n"), "GET / 1.1"),
        // HTTP/1.0 clients cannot mean it
        shows(RFC, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", "POST / 1.0")
            .with("abc")
            .last(),
        refuses(RFC, asks(&format!("Content-Length: {}\r\n", BODY_OCTETS_MAX + 1), ""), 413),
        shows(RFC, "GET / HTTP/1.0\r\nExpect: x\r\n\r\n", "GET / 1.0").last(),
        refuses(RFC, asks("Content-Length: x\r\n", ""), 400),
        refuses(RFC, asks("Transfer-Encoding: gzip\r\n", ""), 501),
        refuses("RFC 9110 section 15.5.18", post("Expect: 200-ok\r\nContent-Length: 3\r\n", "abc"), 417),
        refuses(
            "RFC 9110 section 15.5.18",
            post("Expect: 100-continue, x\r\nContent-Length: 3\r\n", "abc"),
            417,
        ),
        refuses("RFC 9110 section 15.5.18", post("Expect: 100-continu\r\nContent-Length: 3\r\n", "abc"), 417),
        refuses("RFC 9110 section 15.5.18", get("Expect: x\r\n"), 417),
        refuses("RFC 9110 section 15.5.18", "HEAD / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n", 417),
        refuses(
            "RFC 9110 section 15.5.18",
            post("Expect: 100-continue\r\nExpect: x\r\nContent-Length: 3\r\n", "abc"),
            417,
        ),
    ]
}

/// RFC 9112 section 9.3: content behind an answer from the head alone is read and thrown away, if there is little.
fn contents_that_nobody_wants() -> Vec<Case> {
    const RFC: &str = "RFC 9112 section 9.3";
    let unwanted = |method: &str, fields: &str, content: &str| {
        format!("{method} /unwanted HTTP/1.1\r\nHost: x\r\n{fields}\r\n{content}")
    };
    vec![
        status("RFC 9110 section 15.5.6", unwanted("POST", "", ""), &[405]),
        status("RFC 9110 section 15.5.6", unwanted("GET", "", ""), &[405]),
        status("RFC 9110 section 9.3.2", unwanted("HEAD", "", ""), &[405]),
        status(RFC, unwanted("POST", "Content-Length: 0\r\n", ""), &[405]),
        status(RFC, unwanted("POST", "Content-Length: 3\r\n", "abc"), &[405]),
        status(RFC, unwanted("PUT", "Content-Length: 3000\r\n", &"x".repeat(3000)), &[405]),
        status(RFC, unwanted("HEAD", "Content-Length: 3\r\n", "abc"), &[405]),
        status(
            RFC,
            unwanted("POST", "Content-Length: 35\r\n", "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
            &[405],
        ),
        status(
            RFC,
            unwanted("POST", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nA: b\r\n\r\n"),
            &[405],
        ),
        status(RFC, unwanted("POST", "Connection: close\r\nContent-Length: 3\r\n", "abc"), &[405]).last(),
        // the client may not send what it asked about
        status(
            "RFC 9110 section 10.1.1",
            unwanted("POST", "Expect: 100-continue\r\nContent-Length: 3\r\n", ""),
            &[405],
        )
        .closing(),
    ]
}

/// RFC 9110 sections 9.3.2, 15.3.5 and 15.4.5.
fn answers_without_content() -> Vec<Case> {
    vec![
        status("RFC 9110 section 15.3.5", line("GET /status?code=204 HTTP/1.1"), &[204]),
        status("RFC 9110 section 15.3.5", line("HEAD /status?code=204 HTTP/1.1"), &[204]),
        status("RFC 9110 section 15.3.5", line("POST /status?code=204 HTTP/1.1"), &[204]),
        status("RFC 9110 section 15.4.5", line("GET /status?code=304 HTTP/1.1"), &[304]),
        status("RFC 9110 section 15.4.5", line("HEAD /status?code=304 HTTP/1.1"), &[304]),
        status("RFC 9110 section 9.3.2", line("HEAD /status?code=404 HTTP/1.1"), &[404]),
        status("RFC 9110 section 15.5.5", line("GET /status?code=404 HTTP/1.1"), &[404]),
        status("RFC 9110 section 15.6.4", line("GET /status?code=503 HTTP/1.1"), &[503]),
        status("RFC 9110 section 15.3.5", line("GET /status?code=204 HTTP/1.0"), &[204]).last(),
        status(
            "RFC 9112 section 9.3",
            "GET /status?code=204 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            &[204],
        ),
        status("RFC 9110 section 9.3.2", line("HEAD / HTTP/1.0"), &[200]).last(),
    ]
}

/// RFC 9112 sections 6.3 and 7.1: chunked to HTTP/1.1, ended by the close to HTTP/1.0.
fn streams() -> Vec<Case> {
    vec![
        gives("RFC 9112 section 7.1", line("GET /stream?n=3&size=2 HTTP/1.1"), "aabbcc"),
        gives("RFC 9112 section 7.1", line("GET /stream?n=1&size=16 HTTP/1.1"), "aaaaaaaaaaaaaaaa"),
        gives("RFC 9112 section 7.1", line("GET /stream?n=0&size=1 HTTP/1.1"), ""),
        // an empty piece must not become the last chunk
        gives("RFC 9112 section 7.1", line("GET /stream?n=3&size=0 HTTP/1.1"), ""),
        gives("RFC 9112 section 7.1", line("GET /stream?n=2&size=1 HTTP/1.7"), "ab"),
        gives(
            "RFC 9112 section 9.3",
            "GET /stream?n=2&size=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "ab",
        )
        .last(),
        gives("RFC 9112 section 6.3", line("GET /stream?n=3&size=2 HTTP/1.0"), "aabbcc").last(),
        gives(
            "RFC 9112 section 6.3",
            "GET /stream?n=2&size=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "ab",
        )
        .closing(),
        status("RFC 9110 section 9.3.2", line("HEAD /stream?n=3&size=2 HTTP/1.1"), &[200]),
        gives(
            "RFC 9112 section 7.1",
            "POST /stream?n=2&size=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            "ab",
        ),
    ]
}

/// RFC 9112 section 3, RFC 9110 sections 2.3 and 5.4: to the octet.
fn limits() -> Vec<Case> {
    let long_line = |method: &str, octets: usize| {
        let line = format!("{method} /? HTTP/1.1\r\n");
        let target = format!("/?{}", "x".repeat(octets - line.len()));
        line.replace("/?", &target) + "Host: x\r\n\r\n"
    };
    let long_head = |octets: usize| {
        let start = "GET / HTTP/1.1\r\nHost: x\r\n";
        let field = format!("A: {}\r\n", "b".repeat(1000));
        let fields = field.repeat((octets - start.len() - 100) / field.len());
        let rest = octets - start.len() - fields.len() - "A: \r\n\r\n".len();
        format!("{start}{fields}A: {}\r\n\r\n", "b".repeat(rest))
    };
    let fields = |n: usize| format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a:\r\n".repeat(n - 1));
    vec![
        status("RFC 9112 section 3", long_line("HEAD", 8192), &[200]),
        refuses("RFC 9112 section 3", long_line("GET", 8193), 414),
        refuses("RFC 9110 section 9.3.2", long_line("HEAD", 8193), 414),
        shows("RFC 6585 section 5", long_head(16384), "GET / 1.1"),
        refuses("RFC 6585 section 5", long_head(16385), 431),
        shows("RFC 6585 section 5", fields(128), "GET / 1.1"),
        refuses("RFC 6585 section 5", fields(129), 431),
    ]
}

/// Fields of features that are not there change nothing.
fn fields_of_others() -> Vec<Case> {
    let fields = [
        (
            "RFC 9110 section 7.8",
            "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        ),
        (
            "RFC 6455 section 4.1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        ),
        ("RFC 9110 section 14.2", "Range: bytes=0-0\r\n"),
        ("RFC 9110 section 13.1.3", "If-Modified-Since: nonsense\r\nIf-None-Match: *\r\n"),
        ("RFC 9110 section 6.6.2", "Trailer: A\r\n"),
        ("RFC 9110 section 12.5.3", "Accept-Encoding: gzip;q=1.0, identity;q=0\r\n"),
        ("RFC 9110 section 7.6.2", "Max-Forwards: 0\r\n"),
        ("RFC 9110 section 8.4", "Content-Encoding: gzip\r\n"),
    ];
    fields.map(|(rfc, lines)| shows(rfc, get(lines), "GET / 1.1")).into()
}

// ---- how cases are written down ----

fn shows(rfc: &'static str, input: impl AsRef<[u8]>, line: &'static str) -> Case {
    case(rfc, input, Expect::Shows(line, vec![]))
}

fn gives(rfc: &'static str, input: impl AsRef<[u8]>, content: &'static str) -> Case {
    case(rfc, input, Expect::Gives(content))
}

fn status(rfc: &'static str, input: impl AsRef<[u8]>, statuses: &'static [u16]) -> Case {
    case(rfc, input, Expect::Status(statuses))
}

/// Every refusal closes the connection.
fn refuses(rfc: &'static str, input: impl AsRef<[u8]>, status: u16) -> Case {
    let statuses: &[u16] = match status {
        400 => &[400],
        413 => &[413],
        414 => &[414],
        417 => &[417],
        431 => &[431],
        501 => &[501],
        505 => &[505],
        _ => panic!("{status} is no refusal"),
    };
    case(rfc, input, Expect::Status(statuses)).closing()
}

fn case(rfc: &'static str, input: impl AsRef<[u8]>, expect: Expect) -> Case {
    Case { rfc, input: input.as_ref().to_vec(), expect, then: Then::Keep, continues: false }
}

impl Case {
    fn closing(self) -> Case {
        Case { then: Then::Close, ..self }
    }

    fn last(self) -> Case {
        Case { then: Then::Leave, ..self }
    }

    fn continuing(self) -> Case {
        Case { continues: true, ..self }
    }

    /// With this content.
    fn with(self, content: impl AsRef<[u8]>) -> Case {
        let Expect::Shows(line, _) = self.expect else { panic!("nothing shows the content") };
        Case { expect: Expect::Shows(line, content.as_ref().to_vec()), ..self }
    }

    /// The answer has no content (RFC 9110 section 9.3.2).
    pub fn is_head(&self) -> bool {
        let start = self.input.iter().position(|octet| !b"\r\n".contains(octet)).unwrap_or(0);
        self.input[start..].starts_with(b"HEAD ")
    }

    pub fn is_refused(&self) -> bool {
        matches!(self.expect, Expect::Status([400 | 413 | 414 | 417 | 431 | 501 | 505, ..]))
    }
}

/// What many cases have in common: a request line, and nothing special behind it.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: x\r\n\r\n")
}

/// These field lines.
fn get(fields: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: x\r\n", fields.as_ref(), b"\r\n"].concat()
}

/// These field lines and this content.
fn post(fields: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: x\r\n", fields.as_ref(), b"\r\n", content.as_ref()].concat()
}

/// This chunked content.
fn chunked(content: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", content)
}
