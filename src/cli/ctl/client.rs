//! The client of a control socket: HTTP/1.1 over a Unix socket, one request after the other, on a thread that waits.
//!
//! Neighbours: `ctl` asks with it; `http::chunked` reads what goes on.

use crate::http::chunked::Chunked;
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the server may take for what it answers at once. It gives its own loop 10 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// More than any head that a server of ours writes.
const HEAD_OCTETS_MAX: usize = 64 * 1024;

/// A connection.
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    /// What has come and was not looked at.
    unread: Vec<u8>,
}

/// An answer that goes on.
pub struct Following {
    client: Client,
    framing: Framing,
}

/// Where an answer ends.
enum Framing {
    Length(usize),
    Chunked(Chunked),
    Close,
}

impl Client {
    /// To the first of these sockets where somebody answers.
    ///
    /// # Errors
    /// Why nobody does, of the one where somebody was nearest to it.
    pub fn connect(places: &[PathBuf]) -> Result<Client, String> {
        let mut failures = Vec::new();
        for path in places {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(Client { stream, path: path.clone(), unread: Vec::new() }),
                Err(error) => failures.push((path, error)),
            }
        }
        let distance = |error: &io::Error| match error.kind() {
            ErrorKind::ConnectionRefused => 0,
            ErrorKind::PermissionDenied => 1,
            _ => 2,
        };
        let nearest = failures.iter().min_by_key(|(_, error)| distance(error));
        let (path, error) = nearest.ok_or("there is no place to look for a control socket")?;
        Err(explain(places, path, error))
    }

    /// What is there.
    ///
    /// # Errors
    /// The line of the server that says why it is not told, or why the server cannot be heard.
    pub fn get(&mut self, target: &str) -> Result<String, String> {
        self.ask("GET", target, Some(PATIENCE))
    }

    /// What came of an order, however long it takes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&mut self, target: &str) -> Result<String, String> {
        self.ask("POST", target, None)
    }

    /// What goes on.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn follow(mut self, target: &str) -> Result<Following, String> {
        let (status, mut framing) = self.begin("GET", target, Some(PATIENCE))?;
        if status != 200 {
            let content = self.content(&mut framing)?;
            return Err(line_of(status, &content));
        }
        self.stream.set_read_timeout(None).map_err(|error| self.broke_off(&error))?;
        Ok(Following { client: self, framing })
    }

    fn ask(&mut self, method: &str, target: &str, patience: Option<Duration>) -> Result<String, String> {
        let (status, mut framing) = self.begin(method, target, patience)?;
        let content = self.content(&mut framing)?;
        match status {
            200 => String::from_utf8(content).map_err(|_| self.stranger()),
            status => Err(line_of(status, &content)),
        }
    }

    /// Sends a request and reads the head of its answer.
    fn begin(
        &mut self,
        method: &str,
        target: &str,
        patience: Option<Duration>,
    ) -> Result<(u16, Framing), String> {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: uringd\r\nContent-Length: 0\r\n\r\n");
        let sent = self
            .stream
            .set_read_timeout(patience)
            .and_then(|()| self.stream.set_write_timeout(Some(PATIENCE)))
            .and_then(|()| self.stream.write_all(request.as_bytes()));
        match sent {
            // one that was turned away has its answer all the same
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            other => other.map_err(|error| self.broke_off(&error))?,
        }
        loop {
            if let Some(head) = self.take_head()? {
                return Ok(head);
            }
            if self.read_more().map_err(|error| self.broke_off(&error))? == 0 {
                return Err(self.broke_off(&ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn take_head(&mut self) -> Result<Option<(u16, Framing)>, String> {
        let mut storage = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut storage);
        let octets = match head.parse(&self.unread) {
            Ok(httparse::Status::Complete(octets)) => octets,
            Ok(httparse::Status::Partial) if self.unread.len() < HEAD_OCTETS_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(_) => return Err(self.stranger()),
        };
        let field = |name: &str| {
            let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        let length = field("content-length").map(str::parse).transpose().map_err(|_| self.stranger())?;
        let framing = match (field("transfer-encoding"), length) {
            (Some(_), _) => Framing::Chunked(Chunked::default()),
            (None, Some(length)) => Framing::Length(length),
            (None, None) => Framing::Close,
        };
        let status = head.code.unwrap_or_default();
        self.unread.drain(..octets);
        Ok(Some((status, framing)))
    }

    fn content(&mut self, framing: &mut Framing) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        while !self.take_content(framing, &mut content)? {}
        Ok(content)
    }

    /// Adds what has come, waiting if that is nothing; says whether it is all.
    fn take_content(&mut self, framing: &mut Framing, content: &mut Vec<u8>) -> Result<bool, String> {
        if self.unread.is_empty() && !matches!(framing, Framing::Length(0)) {
            match self.read_more().map_err(|error| self.broke_off(&error))? {
                0 if matches!(framing, Framing::Close) => return Ok(true),
                0 => return Err(self.broke_off(&ErrorKind::UnexpectedEof.into())),
                _ => {}
            }
        }
        match framing {
            Framing::Close => {
                content.append(&mut self.unread);
                Ok(false)
            }
            Framing::Length(left) => {
                let octets = self.unread.len().min(*left);
                content.extend(self.unread.drain(..octets));
                *left -= octets;
                Ok(*left == 0)
            }
            Framing::Chunked(chunked) => match chunked.decode(&self.unread, content) {
                Ok(step) => {
                    self.unread.drain(..step.consumed);
                    Ok(step.done)
                }
                Err(_) => Err(self.stranger()),
            },
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => {
                    let octets = other?;
                    self.unread.extend_from_slice(&buffer[..octets]);
                    return Ok(octets);
                }
            }
        }
    }

    fn stranger(&self) -> String {
        format!("what answers at {} is no uringd", self.path.display())
    }

    fn broke_off(&self, error: &io::Error) -> String {
        let path = self.path.display();
        match error.kind() {
            // WouldBlock is how a read says that its time is over
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("the uringd at {path} does not answer (its master hangs, or is stopped)")
            }
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                format!("the uringd at {path} went away before it had answered")
            }
            _ => format!("{path}: {error}"),
        }
    }
}

impl Following {
    /// Gives what comes as it comes, in whole lines, to the end.
    ///
    /// # Errors
    /// It was cut, or `take` failed.
    pub fn each(mut self, take: &mut dyn FnMut(&str) -> Result<(), String>) -> Result<(), String> {
        let mut content = Vec::new();
        loop {
            let done = self.client.take_content(&mut self.framing, &mut content)?;
            let whole = content.iter().rposition(|octet| *octet == b'\n').map_or(0, |place| place + 1);
            let lines: Vec<u8> = content.drain(..whole).collect();
            take(std::str::from_utf8(&lines).map_err(|_| self.client.stranger())?)?;
            if done {
                return Ok(());
            }
        }
    }
}

/// What the server says of its refusal.
fn line_of(status: u16, content: &[u8]) -> String {
    let value: Value = serde_json::from_slice(content).unwrap_or_default();
    value["error"].as_str().map_or_else(|| format!("it answers {status}"), str::to_owned)
}

fn explain(places: &[PathBuf], path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => {
            let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
            format!("no uringd answers at {} (is it running? --control?)", places.join(" or "))
        }
        ErrorKind::ConnectionRefused => {
            format!("no uringd answers at {path}: the file is there, but nobody listens (was it killed?)")
        }
        ErrorKind::PermissionDenied => {
            format!("{path}: permission denied; only root and the user who started uringd may ask")
        }
        _ => format!("{path}: {error}"),
    }
}
