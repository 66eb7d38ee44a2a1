//! A request as a handler sees it: borrowed from the receive buffer, nothing copied.
//!
//! Neighbours: made by `parse`, passed on by `exchange`.

use super::pipe::Pieces;
use crate::access_log::Asked;
use bytes::Bytes;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;

/// A request without content has this.
pub(super) static NO_CONTENT: Bytes = Bytes::new();

/// A request, whole.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub(super) method: Method,
    pub(super) target: &'a str,
    pub(super) version: Version,
    pub(super) headers: Headers<'a>,
    pub(super) body: &'a Bytes,
    pub(super) peer: Option<SocketAddr>,
    /// The content, where it is still to come and nobody has taken it yet.
    pub(super) pieces: Option<&'a Cell<Option<Pieces>>>,
}

/// A method that uringd knows (RFC 9110 section 9.3 and RFC 5789).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

/// The protocol version (RFC 9112 section 2.3). HTTP/1.2 to 1.9 count as 1.1, the highest minor version known here (RFC
/// 9110 section 2.5); every other one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Version {
    Http10,
    Http11,
}

/// The header fields, in the order received.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a>(pub(super) &'a [httparse::Header<'a>]);

impl<'a> Request<'a> {
    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The target as received (RFC 9112 section 3.2).
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The target's path, percent-encoding untouched; of an absolute-form target the path inside.
    pub fn path(&self) -> &'a str {
        let path_and_query = self.origin_form();
        let path = path_and_query.split_once('?').map_or(path_and_query, |(path, _)| path);
        // RFC 9112 section 3.2.1: an empty path is sent as "/"
        if path.is_empty() { "/" } else { path }
    }

    /// What follows the first `?`, undecoded.
    pub fn query(&self) -> Option<&'a str> {
        self.origin_form().split_once('?').map(|(_, query)| query)
    }

    /// The query as pairs of names and values, in order, decoded as forms encode them (the URL Standard's
    /// `application/x-www-form-urlencoded`: `+` is a space, `%41` an A). Whatever the client sent, this cannot fail: what
    /// is not UTF-8 becomes U+FFFD, a name without `=` has an empty value. Only what is encoded is copied.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        let pairs = self.query().unwrap_or("").split('&');
        pairs.filter(|pair| !pair.is_empty()).map(pair_of)
    }

    /// The first value of this name in the query, decoded as by [`Request::query_pairs`].
    ///
    /// ```
    /// use uringd::{Request, Response};
    ///
    /// /// `/greet?name=J%C3%BCrgen`
    /// fn greet(request: &Request<'_>) -> Response {
    ///     let name = request.query_value("name").unwrap_or("whoever you are".into());
    ///     Response::text(format!("hello, {name}"))
    /// }
    /// ```
    pub fn query_value(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// The content as the pairs of a form (`application/x-www-form-urlencoded`, whatever its Content-Type says), decoded
    /// as by [`Request::query_pairs`].
    ///
    /// ```
    /// use uringd::{Request, Response};
    ///
    /// fn subscribe(form: &Request<'_>) -> Response {
    ///     match form.form_pairs().find(|(name, _)| name == "email") {
    ///         Some((_, email)) => Response::text(format!("news go to {email}")),
    ///         None => Response::text("which address?").with_status(422),
    ///     }
    /// }
    /// ```
    pub fn form_pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        form_urlencoded::parse(self.body)
    }

    /// The version that the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The first header field of this name (names are case-insensitive), if its value is visible ASCII, as nearly all
    /// are (RFC 9110 section 5.5); [`Request::headers`] has the octets of any.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name).and_then(visible)
    }

    /// The header fields.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// The host that was asked: of an absolute-form target the one inside, which counts more than the Host field (RFC
    /// 9112 section 3.2.2).
    pub fn host(&self) -> Option<&'a [u8]> {
        if self.target.starts_with('/') || self.target == "*" {
            return self.headers.get("host");
        }
        self.target.split("://").nth(1)?.split(['/', '?']).next().map(str::as_bytes)
    }

    /// The content, whole, with its transfer coding taken off; empty if there is none. Cloning it copies nothing.
    pub fn body(&self) -> &'a Bytes {
        self.body
    }

    /// The content, piece by piece as it comes in, if it was admitted so ([`Admission::Pieces`](super::Admission::Pieces));
    /// otherwise the whole of it as one piece. A content in pieces can be taken once: then it is empty.
    ///
    /// Take it along into what answers later; once the request is answered, nothing more comes.
    pub fn pieces(&self) -> Pieces {
        match self.pieces {
            Some(pieces) => pieces.take().unwrap_or_else(|| Pieces::whole(Bytes::new())),
            None => Pieces::whole(self.body.clone()),
        }
    }

    /// The client's address; `None` on a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// What an access log says of it.
    #[inline]
    pub(super) fn asked(&self) -> Asked<'_> {
        let (method, target, version) = (self.method.as_str(), self.target, self.version.as_str());
        let mut asked = Asked {
            method: method.as_bytes(),
            target: target.as_bytes(),
            version: version.as_bytes(),
            ..Asked::default()
        };
        for header in self.headers.0 {
            // the length tells most fields apart from these without looking at a letter
            match header.name.len() {
                7 if header.name.eq_ignore_ascii_case("referer") => {
                    asked.referer.get_or_insert(header.value);
                }
                10 if header.name.eq_ignore_ascii_case("user-agent") => {
                    asked.user_agent.get_or_insert(header.value);
                }
                _ => {}
            }
        }
        asked
    }

    /// For tests of those who answer requests.
    #[cfg(test)]
    pub(crate) fn example(
        method: Method,
        target: &'a str,
        fields: &'a [httparse::Header<'a>],
    ) -> Request<'a> {
        let headers = Headers(fields);
        Request {
            method,
            target,
            version: Version::Http11,
            headers,
            body: &NO_CONTENT,
            peer: None,
            pieces: None,
        }
    }

    /// RFC 9112 section 3.2.2: a server MUST accept the absolute-form.
    fn origin_form(&self) -> &'a str {
        let target = self.target;
        if target.starts_with('/') {
            return target;
        }
        match target.split_once("://") {
            Some((_, rest)) => rest.find(['/', '?']).map_or("/", |start| &rest[start..]),
            None => target,
        }
    }
}

const fn word(method: Method) -> u64 {
    let name = method.as_str().as_bytes();
    let (mut word, mut place) = (0, name.len());
    while place > 0 {
        place -= 1;
        word = word << 8 | name[place] as u64;
    }
    word
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("version", &self.version)
            .field("headers", &self.headers)
            .field("body", &self.body)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Method {
    /// The name on the wire; methods are case-sensitive.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
        }
    }

    /// The same as the octets of a number, the first one lowest: no name has more than eight.
    #[inline]
    pub(crate) fn as_word(self) -> u64 {
        const GET: u64 = word(Method::Get);
        match self {
            Method::Get => GET,
            other => word(other),
        }
    }

    #[inline]
    pub(super) fn from_token(token: &str) -> Option<Method> {
        Some(match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "CONNECT" => Method::Connect,
            "OPTIONS" => Method::Options,
            "TRACE" => Method::Trace,
            "PATCH" => Method::Patch,
            _ => return None,
        })
    }
}

impl Version {
    /// As it stands in a request line.
    fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

impl<'a> Headers<'a> {
    /// The first field of this name (names are case-insensitive).
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.0.iter().map(|header| (header.name, header.value))
    }
}

/// What has nothing to decode, as nearly all has, is split and no more, which is several times faster.
#[inline]
fn pair_of(encoded: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    if encoded.bytes().any(|octet| matches!(octet, b'%' | b'+')) {
        return form_urlencoded::parse(encoded.as_bytes()).next().unwrap_or_default();
    }
    let (name, value) = encoded.split_once('=').unwrap_or((encoded, ""));
    (name.into(), value.into())
}

/// A field's value as text: RFC 9110 section 5.5 has visible ASCII, space and tab; other octets are in no known encoding.
pub(super) fn visible(value: &[u8]) -> Option<&str> {
    let is_visible = value.iter().all(|octet| matches!(octet, b' '..=b'~' | b'\t'));
    if is_visible { std::str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 9112 section 3.2.2: the target's host counts more than the field's.
    #[test]
    fn the_host_that_was_asked() {
        let fields = [httparse::Header { name: "host", value: b"field:80" }];
        for (target, host) in [
            ("/a", Some(&b"field:80"[..])),
            ("*", Some(b"field:80")),
            ("/http://other/", Some(b"field:80")),
            ("http://target:81/a?b", Some(b"target:81")),
            ("http://target?b", Some(b"target")),
        ] {
            assert_eq!(Request::example(Method::Get, target, &fields).host(), host, "{target}");
        }
        assert_eq!(Request::example(Method::Get, "/", &[]).host(), None);
    }

    #[test]
    fn path_and_query_of_every_form() {
        let table = [
            ("/", "/", None),
            ("/a/b?x=1?y", "/a/b", Some("x=1?y")),
            ("/?", "/", Some("")),
            ("http://example.org/a?b", "/a", Some("b")),
            ("http://example.org", "/", None),
            ("http://example.org?x", "/", Some("x")),
            ("*", "*", None),
            ("/redirect?to=http://example.org/", "/redirect", Some("to=http://example.org/")),
        ];
        for (target, path, query) in table {
            let request = Request::example(Method::Get, target, &[]);
            assert_eq!((request.path(), request.query()), (path, query), "{target}");
        }
    }

    fn pairs<'a>(pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    /// The URL Standard, section 5.1.
    #[test]
    fn pairs_of_queries_and_forms_are_decoded() {
        let table: [(&str, &[(&str, &str)]); 12] = [
            ("", &[]),
            ("&&", &[]),
            ("a", &[("a", "")]),
            ("=b", &[("", "b")]),
            ("a=b", &[("a", "b")]),
            ("a=b=c", &[("a", "b=c")]),
            ("a=1&b=2&a=3", &[("a", "1"), ("b", "2"), ("a", "3")]),
            ("a+b=c%20d%2B", &[("a b", "c d+")]),
            ("%6E%61me=J%c3%bcrgen", &[("name", "Jürgen")]),
            ("a=%ff", &[("a", "\u{fffd}")]),
            ("a=%4&%zz=b", &[("a", "%4"), ("%zz", "b")]),
            ("a=?b;c", &[("a", "?b;c")]),
        ];
        for (encoded, expected) in table {
            let expected: Vec<_> = expected.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            let target = format!("/?{encoded}");
            let body = Bytes::copy_from_slice(encoded.as_bytes());
            let request = Request { body: &body, ..Request::example(Method::Post, &target, &[]) };
            assert_eq!(pairs(request.query_pairs()), expected, "{encoded}");
            assert_eq!(pairs(request.form_pairs()), expected, "{encoded}");
        }
        assert_eq!(pairs(Request::example(Method::Get, "/a=b", &[]).query_pairs()), []);
    }

    proptest! {
        #[test]
        fn pairs_are_those_of_the_url_standard(query in "([a-c=&%+0-9é]|%[0-9a-f]{2}){0,24}") {
            let target = format!("/?{query}");
            let request = Request::example(Method::Get, &target, &[]);
            let expected: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
            prop_assert_eq!(request.query_pairs().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn the_first_value_of_a_name() {
        let request = Request::example(Method::Get, "/?b=2&a=%31&a=3&c", &[]);
        for (name, value) in [("a", Some("1")), ("b", Some("2")), ("c", Some("")), ("d", None)] {
            assert_eq!(request.query_value(name).as_deref(), value, "{name}");
        }
        assert!(
            matches!(request.query_value("b"), Some(Cow::Borrowed("2"))),
            "nothing to decode, nothing copied"
        );
    }

    #[test]
    fn a_field_as_text_is_visible_ascii() {
        let table: [(&[u8], Option<&str>); 5] = [
            (b"text/html;\tq=1, */*", Some("text/html;\tq=1, */*")),
            (b"", Some("")),
            ("J\u{fc}rgen".as_bytes(), None),
            (b"\xff", None),
            (b"\x7f", None),
        ];
        for (value, text) in table {
            let fields = [
                httparse::Header { name: "x-any", value },
                httparse::Header { name: "X-Any", value: b"second" },
            ];
            let request = Request::example(Method::Get, "/", &fields);
            assert_eq!(request.header("X-ANY"), text, "{value:?}");
        }
        assert_eq!(Request::example(Method::Get, "/", &[]).header("x-any"), None);
    }
}
