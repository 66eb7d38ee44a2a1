//! What is requested of whom: URLs as typed become one server's address and the octets of each request, once, before
//! anything is sent.
//!
//! Neighbours: `options` has what was typed, `engine` sends the requests, `sys` has the form of the address.

use super::options::Options;
use crate::sys::socket::Address;
use bytes::{BufMut, Bytes, BytesMut};
use nix::sys::socket::UnixAddr;
use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Requests with more content than this go out on their own and not with the others of a turn.
const COPIED_CONTENT_MAX: usize = 16 * 1024;
/// Octets in a chunk of `--chunked`.
const CHUNK_OCTETS: usize = 16 * 1024;

/// Where requests go and what they are.
#[derive(Debug)]
pub struct Target {
    /// The server.
    pub address: Arc<Address>,
    /// In rotation; never empty.
    pub requests: Vec<Request>,
    /// The first URL, for messages.
    pub name: String,
    /// HEAD: no answer has content.
    pub head_only: bool,
}

/// One request as octets.
#[derive(Debug)]
pub struct Request {
    /// Its head, and content that is not long.
    pub head: Bytes,
    /// The same where the connection shall end with it.
    pub last_head: Bytes,
    /// Content that follows; not copied.
    pub content: Bytes,
}

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    server: Server,
    /// What the Host field says.
    host: String,
    /// From the path on.
    target: String,
}

/// Whose URL it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Server {
    Internet { host: String, port: u16 },
    Unix { path: String },
}

impl Target {
    /// Reads the URLs, finds the server and writes the requests.
    ///
    /// # Errors
    /// One line: which URL, what is wrong.
    pub fn new(options: &Options) -> Result<Target, String> {
        let urls: Vec<Url> = options.urls.iter().map(|url| read(url)).collect::<Result<_, _>>()?;
        let (Some(first), Some(name)) = (urls.first(), options.urls.first()) else {
            return Err("no URL: say what to request, such as http://127.0.0.1:1337/".into());
        };
        if let Some(other) = urls.iter().position(|url| url.server != first.server) {
            let other = &options.urls[other];
            return Err(format!("{other}: another server than {name}; one run loads one server"));
        }
        let address = first.server.resolve(options.timeout).map_err(|why| format!("{name}: {why}"))?;
        let template = Template::new(options)?;
        let requests = urls.iter().map(|url| template.request(url)).collect();
        let head_only = template.method == "HEAD";
        Ok(Target { address: Arc::new(address), requests, name: name.clone(), head_only })
    }
}

impl Request {
    /// What goes first.
    pub fn octets(&self, last: bool) -> &Bytes {
        if last { &self.last_head } else { &self.head }
    }
}

/// What all requests of a run have in common.
struct Template {
    method: String,
    /// Field lines, `Host` aside.
    fields: String,
    host: Option<String>,
    /// As it goes over the wire.
    content: Option<Bytes>,
}

impl Template {
    fn new(options: &Options) -> Result<Template, String> {
        let content = match &options.body {
            Some(body) => Some(body.load()?),
            None => None,
        };
        let method = options.method(content.is_some());
        if !is_token(&method) {
            return Err(format!("-X {method:?}: not a method"));
        }
        if method == "CONNECT" {
            return Err("-X CONNECT: tunnels are not supported".into());
        }
        let mut template = Template { method, fields: String::new(), host: None, content: None };
        for field in &options.headers {
            template.add_field(field)?;
        }
        template.add_content(content, options.chunked)?;
        Ok(template)
    }

    fn add_field(&mut self, field: &str) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("-H {field:?}: {why}"));
        let Some((name, value)) = field.split_once(':') else {
            return wrong("a field is written 'Name: value'");
        };
        let value = value.trim();
        if !is_token(name) {
            return wrong("what stands before the colon is not a name");
        }
        if value.bytes().any(|c| (c < b' ' && c != b'\t') || c == 0x7f) {
            return wrong("a value has no control characters");
        }
        match name.to_ascii_lowercase().as_str() {
            "content-length" | "transfer-encoding" => return wrong("it follows from --body and --chunked"),
            "host" => self.host = Some(value.to_owned()),
            _ => self.fields.extend([name, ": ", value, "\r\n"]),
        }
        Ok(())
    }

    fn add_content(&mut self, content: Option<Bytes>, chunked: bool) -> Result<(), String> {
        match content {
            None if chunked => return Err("--chunked: there is no content; give it with --body".into()),
            Some(content) if chunked => {
                self.fields.push_str("Transfer-Encoding: chunked\r\n");
                self.content = Some(encode_chunked(&content));
            }
            Some(content) => {
                self.fields.push_str(&format!("Content-Length: {}\r\n", content.len()));
                self.content = Some(content);
            }
            // RFC 9110 section 8.6: what has a meaning for content says that there is none
            None if matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") => {
                self.fields.push_str("Content-Length: 0\r\n");
            }
            None => {}
        }
        Ok(())
    }

    fn request(&self, url: &Url) -> Request {
        let host = self.host.as_ref().unwrap_or(&url.host);
        let start = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n{}", self.method, url.target, self.fields);
        let content = self.content.clone().unwrap_or_default();
        let copied = if content.len() <= COPIED_CONTENT_MAX { content.clone() } else { Bytes::new() };
        let whole = |end: &str| Bytes::from([start.as_bytes(), end.as_bytes(), &copied].concat());
        Request {
            head: whole("\r\n"),
            last_head: whole("Connection: close\r\n\r\n"),
            content: if copied.len() == content.len() { Bytes::new() } else { content },
        }
    }
}

/// RFC 9112 section 7.1, in pieces as a client would send that does not know the length.
fn encode_chunked(content: &[u8]) -> Bytes {
    let mut encoded = BytesMut::with_capacity(content.len() + content.len() / 1024 + 16);
    for chunk in content.chunks(CHUNK_OCTETS) {
        encoded.put_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        encoded.put_slice(chunk);
        encoded.put_slice(b"\r\n");
    }
    encoded.put_slice(b"0\r\n\r\n");
    encoded.freeze()
}

/// tchar (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c))
}

/// `http://HOST[:PORT][/PATH]`, or `http://unix:/SOCKET[:/PATH]` as nginx's proxy_pass writes it.
fn read(url: &str) -> Result<Url, String> {
    let wrong = |why: &str| Err(format!("{url}: {why}"));
    let Some((scheme, rest)) = url.split_once("://") else {
        return wrong("a URL begins with http://");
    };
    if scheme.eq_ignore_ascii_case("https") {
        return wrong("https is not supported: uringload speaks HTTP/1.1 without TLS");
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return wrong("only http:// URLs can be requested");
    }
    if rest.bytes().any(|c| c <= b' ' || c >= 0x7f) {
        return wrong("spaces, control characters and what is not ASCII must be percent-encoded");
    }
    let rest = rest.split('#').next().unwrap_or_default();
    if let Some(socket) = rest.strip_prefix("unix:").filter(|socket| socket.starts_with('/')) {
        let (path, target) = socket.split_once(':').unwrap_or((socket, "/"));
        let server = Server::Unix { path: path.to_owned() };
        return if target.starts_with('/') {
            Ok(Url { server, host: "localhost".into(), target: target.to_owned() })
        } else {
            wrong("what follows the socket's path and a colon begins with a slash")
        };
    }
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    match authority_of(authority) {
        Ok((host, port)) => {
            Ok(Url { server: Server::Internet { host, port }, host: authority.to_owned(), target })
        }
        Err(why) => wrong(why),
    }
}

fn authority_of(authority: &str) -> Result<(String, u16), &'static str> {
    if authority.contains('@') {
        return Err("no user name: give an Authorization field with -H");
    }
    let (host, port) = match authority.rfind(':').filter(|colon| !authority[*colon..].contains(']')) {
        Some(colon) => (&authority[..colon], &authority[colon + 1..]),
        None => (authority, ""),
    };
    let digits = port.bytes().all(|c| c.is_ascii_digit());
    let port = match port {
        "" => 80,
        _ => port
            .parse()
            .ok()
            .filter(|port| digits && *port > 0)
            .ok_or("a port is a number from 1 to 65535")?,
    };
    let bare = host.strip_prefix('[').map_or(Some(host), |rest| rest.strip_suffix(']'));
    match bare {
        None | Some("") => Err("there is no host in it"),
        Some(bare) if bare.contains(':') != host.starts_with('[') => {
            Err("an IPv6 address stands in brackets: http://[::1]:1337/")
        }
        Some(bare) => Ok((bare.to_owned(), port)),
    }
}

impl Server {
    /// Of several addresses the first that takes a connection is the one, as `localhost` often has two.
    fn resolve(&self, patience: Duration) -> Result<Address, String> {
        match self {
            Server::Unix { path } => {
                let address = UnixAddr::new(path.as_str());
                address.map(Address::Unix).map_err(|_| format!("{path}: too long for a socket's path"))
            }
            Server::Internet { host, port } => {
                let found = (host.as_str(), *port).to_socket_addrs();
                let found: Vec<SocketAddr> =
                    found.map_err(|error| format!("cannot resolve {host}: {}", reason(&error)))?.collect();
                let answers = |address: &&SocketAddr| TcpStream::connect_timeout(address, patience).is_ok();
                let chosen = match &found[..] {
                    [] => return Err(format!("cannot resolve {host}: it has no address")),
                    [only] => only,
                    several => several.iter().find(answers).unwrap_or(&several[0]),
                };
                Ok(Address::Internet((*chosen).into()))
            }
        }
    }
}

/// getaddrinfo's own words without std's around them.
fn reason(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    text.rsplit(": ").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn internet(host: &str, port: u16, named: &str, target: &str) -> Url {
        let server = Server::Internet { host: host.into(), port };
        Url { server, host: named.into(), target: target.into() }
    }

    #[test]
    fn urls() {
        let unix = |path: &str, target: &str| Url {
            server: Server::Unix { path: path.into() },
            host: "localhost".into(),
            target: target.into(),
        };
        let table = [
            ("http://a", internet("a", 80, "a", "/")),
            ("HTTP://a:8080/b?c#d", internet("a", 8080, "a:8080", "/b?c")),
            ("http://a?b", internet("a", 80, "a", "/?b")),
            ("http://[::1]:1/x", internet("::1", 1, "[::1]:1", "/x")),
            ("http://[::1]", internet("::1", 80, "[::1]", "/")),
            ("http://unix:/run/a.sock:/b?c", unix("/run/a.sock", "/b?c")),
            ("http://unix:/run/a.sock", unix("/run/a.sock", "/")),
            ("http://unix:80/", internet("unix", 80, "unix:80", "/")),
        ];
        for (text, url) in table {
            assert_eq!(read(text), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_told_in_one_line() {
        let table = [
            ("127.0.0.1:80/", "begins with http://"),
            ("https://a/", "https is not supported"),
            ("ftp://a/", "only http://"),
            ("http:///x", "no host"),
            ("http://:80/", "no host"),
            ("http://a:0/", "a port is"),
            ("http://a:65536/", "a port is"),
            ("http://a:+1/", "a port is"),
            ("http://::1/", "in brackets"),
            ("http://[a/", "no host"),
            ("http://u@a/", "no user name"),
            ("http://a/b c", "percent-encoded"),
            ("http://a/\u{e9}", "percent-encoded"),
            ("http://unix:/a.sock:b", "begins with a slash"),
        ];
        for (text, expected) in table {
            let line = read(text).unwrap_err();
            assert!(line.starts_with(text) && line.contains(expected) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn chunks_decode_to_what_was_encoded() {
        let content = vec![7; CHUNK_OCTETS * 2 + 1];
        let mut decoded = vec![];
        let encoded = encode_chunked(&content);
        let step = crate::http::chunked::Chunked::default().decode(&encoded, &mut decoded).unwrap();
        assert!(step.done && step.consumed == encoded.len() && decoded == content);
    }
}
