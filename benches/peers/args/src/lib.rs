//! What the peers share: their flags, the answer they give, and the socket they listen on.

use clap::Parser;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

/// The small answer; every server of the bench gives it.
pub const ANSWER: &str = "hello, world\n";

/// Seconds that an idle connection is kept: uringd's default.
pub const KEEP_ALIVE_SECONDS: u16 = 75;

const BACKLOG: i32 = 4096;

/// One server of the bench.
#[derive(Parser)]
pub struct Args {
    /// TCP port on 127.0.0.1
    #[arg(long)]
    pub port: u16,
    /// Threads that serve
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Directory whose files are served, where the server can
    #[arg(long)]
    pub root: Option<PathBuf>,
}

impl Args {
    /// From the command line; ends the process after wrong usage.
    pub fn read() -> Args {
        Args::parse()
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// A listening socket whose connections have TCP_NODELAY. Each call makes one: threads that have their own share the
    /// port (SO_REUSEPORT).
    pub fn listener(&self) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // connections inherit it
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&self.address().into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }
}
