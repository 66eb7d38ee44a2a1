//! The client of a control socket: HTTP/1.1 over a Unix socket, one request after the other, on a thread that waits.
//!
//! Neighbours: `ctl` asks with it; `http::chunked` reads what goes on.

use crate::http::chunked::Chunked;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::TimeVal;
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the server may take for what it answers at once. It gives its own loop 10 s.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How long a last word may be on its way.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// More than any head that a server of ours writes.
const HEAD_OCTETS_MAX: usize = 64 * 1024;

/// A connection.
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    /// What has come and was not looked at.
    unread: Vec<u8>,
    patience: Duration,
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// What the server says at once.
    ForAnAnswer,
    /// What may take any time.
    WhileItIsWell,
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
    /// To this socket, whose server may take so long for whatever it answers at once.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock` where the queue of those who want to connect is full, and stays so.
    pub fn connect(path: &Path, patience: Duration) -> io::Result<Client> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let time = TimeVal::new(patience.as_secs() as i64, patience.subsec_micros().into());
        // that of connect, too (unix(7))
        setsockopt(&socket, SendTimeout, &time)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Client { stream: socket.into(), path: path.to_owned(), unread: Vec::new(), patience })
    }

    /// Where it is connected to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on the server may take so long.
    pub fn grant(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// What is there.
    ///
    /// # Errors
    /// The line of the server that says why it is not told, or why the server cannot be heard.
    pub fn get(&mut self, target: &str) -> Result<String, String> {
        self.ask("GET", target, Waits::ForAnAnswer)
    }

    /// What came of an order that is carried out at once.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&mut self, target: &str) -> Result<String, String> {
        self.ask("POST", target, Waits::ForAnAnswer)
    }

    /// What came of an order, however long it takes, as long as the server is well.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post_and_wait(&mut self, target: &str) -> Result<String, String> {
        self.ask("POST", target, Waits::WhileItIsWell)
    }

    /// What goes on.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn follow(mut self, target: &str) -> Result<Following, String> {
        let (status, mut framing) = self.begin("GET", target, Waits::ForAnAnswer)?;
        if status != 200 {
            let content = self.content(&mut framing)?;
            return Err(line_of(status, &content));
        }
        Ok(Following { client: self, framing })
    }

    fn ask(&mut self, method: &str, target: &str, waits: Waits) -> Result<String, String> {
        let (status, mut framing) = self.begin(method, target, waits)?;
        let content = self.content(&mut framing)?;
        match status {
            200 => String::from_utf8(content).map_err(|_| self.stranger()),
            status => Err(line_of(status, &content)),
        }
    }

    /// Sends a request and reads the head of its answer.
    fn begin(&mut self, method: &str, target: &str, waits: Waits) -> Result<(u16, Framing), String> {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: uringd\r\nContent-Length: 0\r\n\r\n");
        let sent = self
            .stream
            .set_read_timeout(Some(self.patience))
            .and_then(|()| self.stream.set_write_timeout(Some(self.patience)))
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
            if self.read_more(waits)? == 0 {
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
        while !self.take_content(framing, &mut content, Waits::ForAnAnswer)? {}
        Ok(content)
    }

    /// Adds what has come, waiting if that is nothing; says whether it is all.
    fn take_content(
        &mut self,
        framing: &mut Framing,
        content: &mut Vec<u8>,
        waits: Waits,
    ) -> Result<bool, String> {
        if self.unread.is_empty() && !matches!(framing, Framing::Length(0)) {
            match self.read_more(waits)? {
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

    fn read_more(&mut self, waits: Waits) -> Result<usize, String> {
        loop {
            match self.read_once() {
                Err(error) if is_timeout(&error) && waits == Waits::WhileItIsWell => match self.look() {
                    Ok(()) => {}
                    // it may have ended just now, and have said all
                    Err(line) => {
                        let _ = self.stream.set_read_timeout(Some(LAST_WORDS));
                        return self.read_once().map_err(|_| line);
                    }
                },
                other => return other.map_err(|error| self.broke_off(&error)),
            }
        }
    }

    /// Whether the server is well, whatever it has yet to say here.
    fn look(&self) -> Result<(), String> {
        let mut other = Client::connect(&self.path, self.patience).map_err(|error| self.broke_off(&error))?;
        other.get("/status").map(drop)
    }

    fn read_once(&mut self) -> io::Result<usize> {
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
        format!("what answers at {} is no uringd, name its control socket (--control)", self.path.display())
    }

    fn broke_off(&self, error: &io::Error) -> String {
        let path = self.path.display();
        match error.kind() {
            _ if is_timeout(error) => {
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
    /// Another connection to the same server.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn another(&self) -> Result<Client, String> {
        let Client { path, patience, .. } = &self.client;
        Client::connect(path, *patience).map_err(|error| self.client.broke_off(&error))
    }

    /// Gives what comes as it comes, in whole lines, to the end.
    ///
    /// # Errors
    /// It was cut, or `take` failed.
    pub fn each(mut self, take: &mut dyn FnMut(&str) -> Result<(), String>) -> Result<(), String> {
        let mut content = Vec::new();
        loop {
            let done = self.client.take_content(&mut self.framing, &mut content, Waits::WhileItIsWell)?;
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

/// `WouldBlock` is how a read says that its time is over.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{Backlog, bind, listen};
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn a_full_queue_is_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let mut waiting = vec![];
        let error = loop {
            match Client::connect(&path, Duration::from_millis(200)) {
                Ok(client) => waiting.push(client),
                Err(error) => break error,
            }
            assert!(waiting.len() < 10);
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        // the first one is in it, and nobody takes it out
        let line = waiting[0].post_and_wait("/reload").unwrap_err();
        assert!(line.ends_with("does not answer (its master hangs, or is stopped)"), "{line}");
    }

    /// Answers /status with this, and lets others wait.
    fn hangs(path: &Path, status: &'static str) {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let mut waiting = vec![];
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut request = [0; 4096];
                let octets = client.read(&mut request).unwrap_or(0);
                if request[..octets].starts_with(b"GET /status ") {
                    let _ = client.write_all(status.as_bytes());
                    if status.starts_with("HTTP/1.1 200 ") {
                        waiting.clear();
                    }
                } else {
                    waiting.push(client);
                }
            }
        });
    }

    #[test]
    fn an_end_is_waited_for_while_the_server_is_well_and_no_longer() {
        // for what the thread that is the server here says once it gets a core, and for what it never says
        const LONG: Duration = Duration::from_secs(5);
        const SHORT: Duration = Duration::from_millis(200);
        let directory = tempfile::tempdir().unwrap();
        for (name, status, expected) in [
            (
                "hangs",
                "HTTP/1.1 503 No\r\nContent-Length: 26\r\n\r\n{\"error\":\"its loop hangs\"}",
                "its loop hangs",
            ),
            // that one is well, and then cuts us off
            ("well", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "went away before it had answered"),
        ] {
            let path = directory.path().join(name);
            hangs(&path, status);
            let line = Client::connect(&path, LONG).unwrap().post_and_wait("/reload").unwrap_err();
            assert!(line.contains(expected), "{name}: {line}");
            let line = Client::connect(&path, SHORT).unwrap().post("/stop").unwrap_err();
            assert!(line.contains("does not answer"), "{name}: {line}");
        }
    }
}
