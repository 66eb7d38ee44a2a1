//! Finds the next request at the start of the input and decides what is wrong with it. Parses in place (httparse);
//! "not enough bytes yet" is a result, not an error.
//!
//! Neighbours: called by `exchange`; gives a `Request` or the `Status` to refuse it with.

use super::request::{Headers, Method, Request, Version};
use super::response::Status;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

/// The longest request line that is served, its CRLF included (RFC 9112 section 3 recommends at least 8,000).
pub const REQUEST_LINE_OCTETS_MAX: usize = 8192;
/// The longest head that is served, from the request line to the empty line.
pub const HEAD_OCTETS_MAX: usize = 16 * 1024;
/// The most header fields that are served.
const FIELDS_MAX: usize = 128;

/// Room for the fields of one head, on the caller's stack.
pub(super) struct FieldStorage<'a>([MaybeUninit<httparse::Header<'a>>; FIELDS_MAX]);

/// What the input starts with.
pub(super) enum Parsed<'a> {
    /// A whole head, so many octets long.
    Request { request: Request<'a>, persistence: Persistence, octets: usize },
    /// Not a whole head yet.
    Incomplete,
    /// Something that is refused, with the connection closed after the answer.
    Reject(Reject),
}

/// A refusal, decided before any handler sees the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// The status to answer with.
    pub status: Status,
    /// Whether the answer must have no content because the request was a HEAD.
    pub head: bool,
}

/// What the client said about keeping the connection (RFC 9112 section 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// HTTP/1.1 without `close`.
    Persist,
    /// HTTP/1.0 with `keep-alive`, which the answer must confirm.
    PersistIfConfirmed,
    /// Everything else.
    Close,
}

impl FieldStorage<'_> {
    #[inline]
    pub(super) fn new() -> Self {
        FieldStorage([const { MaybeUninit::uninit() }; FIELDS_MAX])
    }
}

/// Looks at the start of `input`. Only whole lines are judged (but for the very first octet), and only as far as a
/// head may reach, so the verdict does not depend on how the input was cut into pieces.
#[inline]
pub(super) fn next<'a>(
    input: &'a [u8],
    storage: &'a mut FieldStorage<'a>,
    peer: Option<SocketAddr>,
) -> Parsed<'a> {
    if input.first().is_some_and(|octet| !may_begin(*octet)) {
        return refuse(Status::BAD_REQUEST, false);
    }
    if input.len() >= REQUEST_LINE_OCTETS_MAX && line_is_too_long(input) {
        return refuse(Status::URI_TOO_LONG, is_head(input));
    }
    let window = &input[..input.len().min(HEAD_OCTETS_MAX)];
    let Some(last_line_end) = memchr::memrchr(b'\n', window) else {
        return Parsed::Incomplete;
    };
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(&window[..=last_line_end], &mut storage.0) {
        Ok(httparse::Status::Complete(octets)) => judge(head, octets, peer),
        Ok(httparse::Status::Partial) if input.len() < HEAD_OCTETS_MAX => Parsed::Incomplete,
        Ok(httparse::Status::Partial) => refuse(Status::FIELDS_TOO_LARGE, is_head(input)),
        Err(error) => Parsed::Reject(judge_error(error, input)),
    }
}

#[inline]
fn judge<'a>(head: httparse::Request<'a, 'a>, octets: usize, peer: Option<SocketAddr>) -> Parsed<'a> {
    let (Some(name), Some(target), Some(minor)) = (head.method, head.path, head.version) else {
        return refuse(Status::BAD_REQUEST, false);
    };
    let Some(method) = Method::from_token(name) else {
        return refuse(Status::NOT_IMPLEMENTED, false);
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let fields = match Fields::read(head.headers, version) {
        Ok(fields) => fields,
        Err(status) => return refuse(status, method == Method::Head),
    };
    if method == Method::Connect || !target_is_served(target, method) {
        return refuse(Status::BAD_REQUEST, method == Method::Head);
    }
    if !matches!(method, Method::Get | Method::Head) {
        return refuse(Status::METHOD_NOT_ALLOWED, false);
    }
    if fields.announces_content {
        return refuse(Status::CONTENT_TOO_LARGE, method == Method::Head);
    }
    let request = Request { method, target, version, headers: Headers(head.headers), peer };
    Parsed::Request { request, persistence: fields.persistence(version), octets }
}

fn refuse<'a>(status: Status, head: bool) -> Parsed<'a> {
    Parsed::Reject(Reject { status, head })
}

/// origin-form, absolute-form, and the asterisk for OPTIONS (RFC 9112 section 3.2). Only visible ASCII is a URI
/// (httparse lets UTF-8 through).
fn target_is_served(target: &str, method: Method) -> bool {
    target.is_ascii()
        && (target.starts_with('/') || target.contains("://") || (target == "*" && method == Method::Options))
}

/// What a uri-host and a port consist of (RFC 3986 section 3.2.2).
static HOST_OCTETS: [bool; 256] = {
    let mut table = [false; 256];
    let (mut octet, others) = (0, b".-_~:[]%!$&'()*+,;=");
    while octet < 256 {
        table[octet] = (octet as u8).is_ascii_alphanumeric();
        octet += 1;
    }
    let mut place = 0;
    while place < others.len() {
        table[others[place] as usize] = true;
        place += 1;
    }
    table
};

/// The fields that decide what happens to the connection.
#[derive(Default)]
struct Fields {
    hosts: u8,
    close: bool,
    keep_alive: bool,
    announces_content: bool,
}

impl Fields {
    #[inline]
    fn read(headers: &[httparse::Header<'_>], version: Version) -> Result<Fields, Status> {
        let mut fields = Fields::default();
        for header in headers {
            // the length tells most fields apart from these four without looking at a letter
            match header.name.len() {
                4 if header.name.eq_ignore_ascii_case("host") => fields.host(header.value)?,
                10 if header.name.eq_ignore_ascii_case("connection") => fields.connection(header.value),
                14 if header.name.eq_ignore_ascii_case("content-length") => {
                    fields.content_length(header.value)?
                }
                17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                    fields.announces_content = true
                }
                _ => {}
            }
        }
        // RFC 9112 section 3.2: 400 to any HTTP/1.1 request that lacks a Host header field and to any request that
        // contains more than one or an invalid one
        if fields.hosts > 1 || (fields.hosts == 0 && version == Version::Http11) {
            return Err(Status::BAD_REQUEST);
        }
        Ok(fields)
    }

    #[inline]
    fn host(&mut self, value: &[u8]) -> Result<(), Status> {
        self.hosts = self.hosts.saturating_add(1);
        if value.iter().all(|octet| HOST_OCTETS[*octet as usize]) { Ok(()) } else { Err(Status::BAD_REQUEST) }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&c| c == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9110 section 8.6: digits only. The amount matters only as zero or not while no content is taken.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Status> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Status::BAD_REQUEST);
        }
        self.announces_content |= value.iter().any(|&c| c != b'0');
        Ok(())
    }

    #[inline]
    fn persistence(&self, version: Version) -> Persistence {
        match (self.close, version) {
            (true, _) => Persistence::Close,
            (false, Version::Http11) => Persistence::Persist,
            (false, Version::Http10) if self.keep_alive => Persistence::PersistIfConfirmed,
            (false, Version::Http10) => Persistence::Close,
        }
    }
}

/// RFC 9112 section 2.2: empty lines before the request line are ignored; they do not count here.
fn line_is_too_long(input: &[u8]) -> bool {
    let start = input.iter().position(|c| !matches!(c, b'\r' | b'\n')).unwrap_or(input.len());
    let line = &input[start..];
    line.len() >= REQUEST_LINE_OCTETS_MAX && memchr::memchr(b'\n', &line[..REQUEST_LINE_OCTETS_MAX]).is_none()
}

/// Whether a request that cannot be read is a HEAD, whose answer has no content (RFC 9110 section 9.3.2).
fn is_head(input: &[u8]) -> bool {
    let start = input.iter().position(|c| !matches!(c, b'\r' | b'\n')).unwrap_or(input.len());
    input[start..].starts_with(b"HEAD ")
}

/// Something that is not HTTP at all, such as a TLS handshake, need not wait for its first line to end.
#[inline]
fn may_begin(octet: u8) -> bool {
    octet.is_ascii_graphic() || octet == b'\r' || octet == b'\n'
}

fn judge_error(error: httparse::Error, input: &[u8]) -> Reject {
    let status = match error {
        httparse::Error::TooManyHeaders => Status::FIELDS_TOO_LARGE,
        httparse::Error::Version if names_another_version(input) => Status::VERSION_NOT_SUPPORTED,
        _ => Status::BAD_REQUEST,
    };
    Reject { status, head: is_head(input) }
}

/// `HTTP/` digit `.` digit with a major version that is not 1 (RFC 9110 section 15.6.6), and HTTP/1.2 to 1.9, which
/// httparse does not read.
fn names_another_version(input: &[u8]) -> bool {
    let line = input.split(|&c| c == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let version = line.trim_ascii_end().rsplit(|&c| c == b' ').next().unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(input: &[u8]) -> String {
        match next(input, &mut FieldStorage::new(), None) {
            Parsed::Request { request, persistence, octets } => {
                format!("{} {} {persistence:?} {octets}", request.method.as_str(), request.target)
            }
            Parsed::Incomplete => "incomplete".into(),
            Parsed::Reject(reject) => reject.status.code().to_string(),
        }
    }

    #[test]
    fn heads_and_what_becomes_of_them() {
        let table: &[(&str, &str)] = &[
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / Persist 27"),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / Persist 31"),
            ("HEAD /x?y HTTP/1.1\r\nhOsT:\r\n\r\n", "HEAD /x?y Persist 29"),
            ("GET / HTTP/1.0\r\n\r\n", "GET / Close 18"),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET / PersistIfConfirmed 42"),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", "GET / Close 49"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "GET / Persist 46"),
            ("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://a/b Persist 36"),
            ("GET / HTTP/1.1\r\nHost: a\r\n", "incomplete"),
            ("", "incomplete"),
            ("G", "incomplete"),
            // RFC 9112 section 3.2: Host
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "400"),
            // RFC 9112 section 3: the request line
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", "400"),
            ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET /\r\n\r\n", "400"),
            ("\x16\x03\x01\x02\x00", "400"),
            (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            // RFC 9112 section 5.1: no space before the colon; section 5.2: no obs-fold
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "400"),
            // methods
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", "501"),
            ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "501"),
            // content
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "413"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", "413"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "413"),
            // versions
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
            ("GET / HTTP/0.9\r\n\r\n", "505"),
            ("GET / HTTP/1.x\r\n\r\n", "400"),
        ];
        for (input, expected) in table {
            assert_eq!(outcome(input.as_bytes()), *expected, "{input:?}");
        }
    }

    #[test]
    fn limits_hold_to_the_octet() {
        let line = |octets: usize| format!("GET /{} HTTP/1.1\r\n", "x".repeat(octets - 16));
        let head = |octets: usize| {
            let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
            format!("{start}{}\r\n\r\n", "x".repeat(octets - start.len() - 4))
        };
        let fields = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a:\r\n".repeat(n - 1));
        let rest = "Host: a\r\n\r\n";
        assert!(outcome((line(REQUEST_LINE_OCTETS_MAX) + rest).as_bytes()).starts_with("GET"));
        assert_eq!(outcome((line(REQUEST_LINE_OCTETS_MAX + 1) + rest).as_bytes()), "414");
        assert_eq!(outcome(&line(REQUEST_LINE_OCTETS_MAX + 2).as_bytes()[..REQUEST_LINE_OCTETS_MAX]), "414");
        assert_eq!(
            outcome(&line(REQUEST_LINE_OCTETS_MAX).as_bytes()[..REQUEST_LINE_OCTETS_MAX - 1]),
            "incomplete"
        );
        assert!(outcome(head(HEAD_OCTETS_MAX).as_bytes()).starts_with("GET"));
        assert_eq!(outcome(head(HEAD_OCTETS_MAX + 1).as_bytes()), "431");
        assert_eq!(outcome(&head(HEAD_OCTETS_MAX + 9).as_bytes()[..HEAD_OCTETS_MAX]), "431");
        assert_eq!(outcome(&head(HEAD_OCTETS_MAX).as_bytes()[..HEAD_OCTETS_MAX - 1]), "incomplete");
        assert!(outcome(fields(FIELDS_MAX).as_bytes()).starts_with("GET"));
        assert_eq!(outcome(fields(FIELDS_MAX + 1).as_bytes()), "431");
    }
}
