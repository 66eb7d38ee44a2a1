//! Finds the next request at the start of the input and decides what is wrong with it. Parses in place (httparse);
//! "not enough bytes yet" is a result, not an error.
//!
//! Neighbours: called by `exchange`; gives a `Request` or the `Status` to refuse it with.

use super::request::{self, Headers, Method, Request, Version};
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
pub struct FieldStorage<'a>([MaybeUninit<httparse::Header<'a>>; FIELDS_MAX]);

/// What the input starts with.
pub enum Parsed<'a> {
    /// A whole head.
    Head(Head<'a>),
    /// Not a whole head yet.
    Incomplete,
    /// HTTP/1.2 to 1.9, which httparse does not read: with a 1 in this place it is HTTP/1.1, and served as that.
    LaterMinorVersion(usize),
    /// Something that is refused, with the connection closed after the answer.
    Reject(Reject),
}

/// A head, and what it says of the message and the connection.
pub struct Head<'a> {
    /// Without its content.
    pub request: Request<'a>,
    pub persistence: Persistence,
    pub framing: Framing,
    /// `Expect: 100-continue` (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// How long it is.
    pub octets: usize,
}

/// Where the content of a request ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many octets.
    Length(u64),
    /// With the last chunk.
    Chunked,
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
pub enum Persistence {
    /// HTTP/1.1 without `close`.
    Persist,
    /// HTTP/1.0 with `keep-alive`, which the answer must confirm.
    PersistIfConfirmed,
    /// Everything else.
    Close,
}

impl Default for FieldStorage<'_> {
    #[inline]
    fn default() -> Self {
        FieldStorage([const { MaybeUninit::uninit() }; FIELDS_MAX])
    }
}

/// Looks at the start of `input`. Only whole lines are judged (but for the very first octet), and only as far as a
/// head may reach, so the verdict does not depend on how the input was cut into pieces.
#[inline]
pub fn next<'a>(input: &'a [u8], storage: &'a mut FieldStorage<'a>, peer: Option<SocketAddr>) -> Parsed<'a> {
    match input {
        [octet, ..] if !may_begin(*octet) => return refuse(Status::BAD_REQUEST, false),
        [b'\r', octet, ..] if *octet != b'\n' => return refuse(Status::BAD_REQUEST, false),
        _ => {}
    }
    if input.len() >= REQUEST_LINE_OCTETS_MAX && line_is_too_long(input) {
        return refuse(Status::URI_TOO_LONG, is_head(input));
    }
    let window = &input[..input.len().min(HEAD_OCTETS_MAX)];
    let Some(last_line_end) = memchr::memrchr(b'\n', window) else {
        // nothing but the CR that may precede an LF gets this far without one
        return match input.len() < HEAD_OCTETS_MAX {
            true => Parsed::Incomplete,
            false => refuse(Status::BAD_REQUEST, false),
        };
    };
    let lines = &window[..=last_line_end];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(lines, &mut storage.0) {
        Ok(httparse::Status::Complete(octets)) if !every_line_ends_with_crlf(&lines[..octets]) => {
            refuse(Status::BAD_REQUEST, is_head(input))
        }
        Ok(httparse::Status::Complete(octets)) => judge(head, octets, peer),
        Ok(httparse::Status::Partial) if input.len() < HEAD_OCTETS_MAX => Parsed::Incomplete,
        Ok(httparse::Status::Partial) => refuse(Status::FIELDS_TOO_LARGE, is_head(input)),
        Err(error) => judge_error(error, input),
    }
}

/// The head at the start of the input, or as much of it as may be looked at.
pub(super) fn head_of(input: &[u8]) -> &[u8] {
    let window = &input[..input.len().min(HEAD_OCTETS_MAX)];
    let start = window.iter().position(|c| !matches!(c, b'\r' | b'\n')).unwrap_or(window.len());
    let end = memchr::memmem::find(&window[start..], b"\r\n\r\n");
    end.map_or(window, |end| &window[..start + end + 4])
}

/// The same for a head that was found before.
#[inline(never)]
pub(super) fn again<'a>(
    head: &'a [u8],
    storage: &'a mut FieldStorage<'a>,
    peer: Option<SocketAddr>,
) -> Option<Request<'a>> {
    match next(head, storage, peer) {
        Parsed::Head(head) => Some(head.request),
        _ => None,
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
    // a proxy's business, and the only method with an authority for a target (RFC 9110 section 9.3.6)
    if method == Method::Connect || !target_is_served(target, method) {
        return refuse(Status::BAD_REQUEST, method == Method::Head);
    }
    let request = Request {
        method,
        target,
        version,
        headers: Headers(head.headers),
        body: &request::NO_CONTENT,
        peer,
        pieces: None,
    };
    Parsed::Head(Head {
        request,
        persistence: fields.persistence(version),
        // none and nothing are the same to everybody behind this
        framing: if fields.framing == Framing::Length(0) { Framing::None } else { fields.framing },
        expects_continue: fields.expects_continue,
        octets,
    })
}

fn refuse<'a>(status: Status, head: bool) -> Parsed<'a> {
    Parsed::Reject(Reject { status, head })
}

/// httparse takes a bare LF for a line's end, which RFC 9112 section 2.2 allows; but who in front of us does not, sees
/// other requests than we do.
#[inline]
fn every_line_ends_with_crlf(head: &[u8]) -> bool {
    // without a branch, so that the compiler makes it sixteen octets at a time
    let bare = |found: bool, (before, octet): (&u8, &u8)| found | ((*octet == b'\n') & (*before != b'\r'));
    head.first() != Some(&b'\n') && !head.iter().zip(&head[1..]).fold(false, bare)
}

/// origin-form, absolute-form, and the asterisk for OPTIONS (RFC 9112 section 3.2). Only visible ASCII is a URI
/// (httparse lets UTF-8 through).
#[inline]
fn target_is_served(target: &str, method: Method) -> bool {
    target.is_ascii()
        && (target.starts_with('/') || is_absolute(target) || (target == "*" && method == Method::Options))
}

/// A scheme (RFC 3986 section 3.1) and a host that is not empty (RFC 9110 section 4.2.1), without the userinfo that
/// would only deceive (section 4.2.4).
fn is_absolute(target: &str) -> bool {
    target.split_once("://").is_some_and(|(scheme, rest)| {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
            && !authority.is_empty()
            && !authority.starts_with(':')
            && is_host(authority.as_bytes())
    })
}

/// What a registered name consists of without percent-encoding (RFC 3986 section 3.2.2).
static NAME_OCTETS: [bool; 256] = {
    let mut table = [false; 256];
    let (mut octet, others) = (0, b".-_~!$&'()*+,;=");
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

/// uri-host and port (RFC 9110 section 7.2); an empty one is what clients send whose target has no authority.
#[inline]
fn is_host(mut value: &[u8]) -> bool {
    if let [b'[', rest @ ..] = value {
        let Some(end) = memchr::memchr(b']', rest) else { return false };
        let inside = |c: &u8| NAME_OCTETS[*c as usize] || *c == b':';
        return end > 0 && rest[..end].iter().all(inside) && is_port(&rest[end + 1..]);
    }
    loop {
        let named = value.iter().position(|octet| !NAME_OCTETS[*octet as usize]).unwrap_or(value.len());
        value = match &value[named..] {
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            rest => return is_port(rest),
        }
    }
}

/// Nothing, or a colon and digits.
fn is_port(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// The fields that decide what happens to the message and the connection.
struct Fields {
    hosts: u8,
    close: bool,
    keep_alive: bool,
    framing: Framing,
    expects_continue: bool,
}

impl Fields {
    #[inline]
    fn read(headers: &[httparse::Header<'_>], version: Version) -> Result<Fields, Status> {
        let mut fields = Fields {
            hosts: 0,
            close: false,
            keep_alive: false,
            framing: Framing::None,
            expects_continue: false,
        };
        for header in headers {
            // the length tells most fields apart from these without looking at a letter
            match header.name.len() {
                4 if header.name.eq_ignore_ascii_case("host") => fields.host(header.value)?,
                6 if header.name.eq_ignore_ascii_case("expect") => fields.expect(header.value, version)?,
                10 if header.name.eq_ignore_ascii_case("connection") => fields.connection(header.value),
                14 if header.name.eq_ignore_ascii_case("content-length") => {
                    fields.content_length(header.value)?
                }
                17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                    fields.transfer_encoding(header.value, version)?
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
        if is_host(value) { Ok(()) } else { Err(Status::BAD_REQUEST) }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9110 section 8.6: digits only. A second one is refused even if it says the same, and so is one beside a
    /// Transfer-Encoding (RFC 9112 section 6.3): whoever sends that wants two servers to disagree.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Status> {
        if self.framing != Framing::None || value.is_empty() {
            return Err(Status::BAD_REQUEST);
        }
        let mut length: u64 = 0;
        for &digit in value {
            let digit = digit.wrapping_sub(b'0');
            let longer = length.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(digit)));
            length = longer.filter(|_| digit <= 9).ok_or(Status::BAD_REQUEST)?;
        }
        self.framing = Framing::Length(length);
        Ok(())
    }

    /// RFC 9112 section 6.1: chunked once and last. No other coding is known here; HTTP/1.0 has none.
    fn transfer_encoding(&mut self, value: &[u8], version: Version) -> Result<(), Status> {
        if self.framing != Framing::None || version == Version::Http10 {
            return Err(Status::BAD_REQUEST);
        }
        for coding in list(value) {
            if self.framing == Framing::Chunked || coding.is_empty() {
                return Err(Status::BAD_REQUEST);
            }
            if !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(Status::NOT_IMPLEMENTED);
            }
            self.framing = Framing::Chunked;
        }
        Ok(())
    }

    /// RFC 9110 section 10.1.1: HTTP/1.0 clients cannot mean it.
    fn expect(&mut self, value: &[u8], version: Version) -> Result<(), Status> {
        let known =
            |expectation: &[u8]| expectation.is_empty() || expectation.eq_ignore_ascii_case(b"100-continue");
        match list(value).all(known) {
            _ if version == Version::Http10 => Ok(()),
            true => {
                self.expects_continue = true;
                Ok(())
            }
            false => Err(Status::EXPECTATION_FAILED),
        }
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

/// The elements of a list (RFC 9110 section 5.6.1), the empty ones too.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&c| c == b',').map(<[u8]>::trim_ascii)
}

/// RFC 9112 section 2.2: empty lines before the request line are ignored; they do not count here.
fn line_is_too_long(input: &[u8]) -> bool {
    let line = behind_empty_lines(input);
    line.len() >= REQUEST_LINE_OCTETS_MAX && memchr::memchr(b'\n', &line[..REQUEST_LINE_OCTETS_MAX]).is_none()
}

/// Whether a request that cannot be read is a HEAD, whose answer has no content (RFC 9110 section 9.3.2). Behind anything
/// but empty lines it is not looked for: what is wrong with those may be known before it is here.
fn is_head(input: &[u8]) -> bool {
    behind_empty_lines(input).starts_with(b"HEAD ")
}

/// What begins with a bare CR here is no empty line, and faulty whatever follows.
fn behind_empty_lines(mut input: &[u8]) -> &[u8] {
    while let Some(rest) = input.strip_prefix(b"\r\n") {
        input = rest;
    }
    input
}

/// Something that is not HTTP at all, such as a TLS handshake, need not wait for its first line to end.
#[inline]
fn may_begin(octet: u8) -> bool {
    octet.is_ascii_graphic() || octet == b'\r'
}

#[cold]
fn judge_error<'a>(error: httparse::Error, input: &[u8]) -> Parsed<'a> {
    let status = match error {
        httparse::Error::TooManyHeaders => Status::FIELDS_TOO_LARGE,
        httparse::Error::Version => match named_version(input) {
            Some((b'1', b'2'..=b'9', place)) => return Parsed::LaterMinorVersion(place),
            Some((b'1', ..)) | None => Status::BAD_REQUEST,
            Some(_) => Status::VERSION_NOT_SUPPORTED,
        },
        _ => Status::BAD_REQUEST,
    };
    refuse(status, is_head(input))
}

/// The digits of `HTTP/` digit `.` digit at the end of the request line, and where the last one stands.
fn named_version(input: &[u8]) -> Option<(u8, u8, usize)> {
    let start = input.iter().position(|c| !matches!(c, b'\r' | b'\n'))?;
    let end = start + memchr::memchr(b'\n', &input[start..])?;
    match input[start..end].strip_suffix(b"\r")? {
        [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Some((*major, *minor, end - 2))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(input: &[u8]) -> String {
        match next(input, &mut FieldStorage::default(), None) {
            Parsed::Head(Head { request, persistence, framing, octets, .. }) => {
                let framing = match framing {
                    Framing::None => String::new(),
                    framing => format!(" {framing:?}"),
                };
                format!("{} {} {persistence:?} {octets}{framing}", request.method.as_str(), request.target)
            }
            Parsed::Incomplete => "incomplete".into(),
            Parsed::LaterMinorVersion(place) => {
                assert!(matches!(input[place - 2..=place], [b'1', b'.', b'2'..=b'9']));
                let mut rewritten = input.to_vec();
                rewritten[place] = b'1';
                outcome(&rewritten)
            }
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
            ("GET / HTTP/1.1\nHost: a\n\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", "400"),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400"),
            ("\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("\r", "incomplete"),
            // methods
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / Persist 28"),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * Persist 31"),
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", "501"),
            ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "501"),
            // RFC 9110 section 7.2: what a host looks like
            ("GET / HTTP/1.1\r\nHost: a.b-c:80\r\n\r\n", "GET / Persist 34"),
            ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET / Persist 34"),
            ("GET / HTTP/1.1\r\nHost: a%20b\r\n\r\n", "GET / Persist 31"),
            ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", "400"),
            // RFC 9112 section 3.2.2: absolute-form
            ("GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            ("GET 1http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
            // RFC 9110 section 8.6 and RFC 9112 section 6
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "GET / Persist 46 Length(5)"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", "GET / Persist 55 Chunked"),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501"),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
            // RFC 9110 section 10.1.1
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n", "417"),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: , 100-continue,\r\n\r\n", "GET / Persist 52"),
            ("GET / HTTP/1.0\r\nExpect: a-miracle\r\n\r\n", "GET / Close 37"),
            // versions
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
            ("GET / HTTP/0.9\r\n\r\n", "505"),
            ("GET / HTTP/1.x\r\n\r\n", "400"),
            ("GET / HTTP/1.9\r\nHost: a\r\n\r\n", "GET / Persist 27"),
            ("\r\n\r\nGET / HTTP/1.2\r\nHost: a\r\n\r\n", "GET / Persist 31"),
            ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", "400"),
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
        let behind_a_faulty_line = "\r\n\r\r\n".to_owned() + &line(REQUEST_LINE_OCTETS_MAX + 2);
        assert_eq!(outcome(behind_a_faulty_line.as_bytes()), "400", "whatever follows, and whenever");
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
