//! Idle connections, held by the bench itself: each has had one answer and keeps quiet.

use crate::server;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// So many wait to be accepted at a time: no server's queue is shorter.
const BATCH: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(10);
/// Descriptors that the bench and a server need beside connections.
const OTHERS: u64 = 256;

/// Open connections.
pub struct Idle {
    streams: Vec<TcpStream>,
}

impl Idle {
    /// Opens so many, and has each answered once.
    pub fn open(port: u16, count: u32) -> Result<Idle, String> {
        let mut idle = Idle { streams: Vec::with_capacity(count as usize) };
        while idle.streams.len() < count as usize {
            let batch = BATCH.min(count - idle.streams.len() as u32);
            idle.add(port, batch).map_err(|error| {
                format!("idle connections: {} of {count} are open, then {error}", idle.streams.len())
            })?;
        }
        Ok(idle)
    }

    fn add(&mut self, port: u16, batch: u32) -> io::Result<()> {
        let first = self.streams.len();
        for _ in 0..batch {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            self.streams.push(stream);
        }
        self.streams[first..].iter_mut().try_for_each(read_answer)
    }

    /// How many the server has closed.
    pub fn lost(&self) -> u64 {
        self.streams.iter().filter(|stream| is_closed(stream)).count() as u64
    }
}

impl Drop for Idle {
    /// With a reset: ten thousand closed politely would occupy the client's ports for a minute.
    fn drop(&mut self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        for stream in &self.streams {
            let _ = setsockopt(stream, sockopt::Linger, &linger);
        }
    }
}

fn read_answer(stream: &mut TcpStream) -> io::Result<()> {
    let (mut buffer, mut end) = ([0; 1024], 0);
    while !buffer[..end].ends_with(server::ANSWER.as_bytes()) {
        end += match stream.read(&mut buffer[end..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        };
    }
    Ok(())
}

fn is_closed(stream: &TcpStream) -> bool {
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    !matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Allows this process, and those that it starts, as many descriptors as there may be.
pub fn raise_descriptor_limit() -> Result<(), String> {
    let problem = |errno| format!("the limit of open files: {errno}");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(problem)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(problem)
}

/// Why there cannot be so many connections.
pub fn too_many(connections: u32) -> Option<String> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let needed = u64::from(connections) + OTHERS;
    (limit < needed).then(|| format!("{needed} descriptors are needed and {limit} allowed (ulimit -Hn)"))
}
