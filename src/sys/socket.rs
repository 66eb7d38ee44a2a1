//! Sockets: accepting with the peer's address, what connects, and what nix says with raw descriptors.
//!
//! Neighbours: `worker::listeners` accepts with it, `load` makes its sockets here and `ring` connects them, `worker::event_loop` asks for peers, `master::listeners` sets options,
//! `master::pool` asks what a socket is, `ring` reads the addresses its accepts wrote.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, getsockopt,
    setsockopt, sockopt,
};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Takes one waiting connection: non-blocking, close-on-exec.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, Option<SocketAddr>), Errno> {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `storage` and `len` are ours, writable and as large as they say, for the duration of the call.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), (&raw mut storage).cast(), &raw mut len, flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us and told nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the kernel wrote an address of `len` octets.
    let address = unsafe { SockaddrStorage::from_raw((&raw const storage).cast(), Some(len)) };
    Ok((socket, address.as_ref().and_then(internet_address)))
}

/// The client's address; `None` for a Unix socket.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let address: SockaddrStorage = nix::sys::socket::getpeername(socket.as_raw_fd()).ok()?;
    internet_address(&address)
}

/// The kernel calls a socket writable when half of this has been taken, and not before. Left to itself it waits for
/// a third of a buffer that may have grown to megabytes, and a client that reads slowly all the time would look like
/// one that does not read (`--send-timeout`).
const UNSENT_OCTETS_MAX: u32 = 128 * 1024;

/// When a silent connection is asked whether its other end is still there, how often, and how many times in vain (tcp(7)):
/// a machine that has vanished is noticed after two minutes.
const KEEPALIVE: [(libc::c_int, u32); 3] =
    [(libc::TCP_KEEPIDLE, 60), (libc::TCP_KEEPINTVL, 15), (libc::TCP_KEEPCNT, 4)];

/// What every connection of ours has; set on a listening socket it is inherited. No segment of an answer waits for an
/// acknowledgement; what is written and has not left is bounded, so that a slow reader is seen to read; and who has
/// vanished is noticed. On a Unix socket it does nothing.
pub(crate) fn prepare(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut name = libc::AF_UNIX;
    if let Ok(address) = nix::sys::socket::getsockname::<SockaddrStorage>(socket.as_raw_fd()) {
        name = address.family().map_or(name, |family| family as libc::c_int);
    }
    if name != libc::AF_INET && name != libc::AF_INET6 {
        return Ok(());
    }
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(&socket, sockopt::KeepAlive, &true)?;
    for (option, value) in KEEPALIVE {
        set_tcp(socket, option, value)?;
    }
    set_tcp(socket, libc::TCP_NOTSENT_LOWAT, UNSENT_OCTETS_MAX)
}

fn set_tcp(socket: BorrowedFd<'_>, option: libc::c_int, value: u32) -> Result<(), Errno> {
    let len = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` octets of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), len)
    };
    Errno::result(result).map(|_| ())
}

/// Whether this is a stream socket that does not listen.
pub(crate) fn is_connection(socket: BorrowedFd<'_>) -> bool {
    let is_stream = getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream);
    is_stream && getsockopt(&socket, sockopt::AcceptConn) == Ok(false)
}

/// Whether it is a stream socket that listens.
pub(crate) fn is_listener(socket: BorrowedFd<'_>) -> bool {
    let is_stream = getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream);
    is_stream && getsockopt(&socket, sockopt::AcceptConn) == Ok(true)
}

/// Where a connection can go.
#[derive(Debug)]
#[cfg_attr(not(feature = "load"), expect(dead_code, reason = "only the load generator connects"))]
pub(crate) enum Address {
    /// TCP.
    Internet(SockaddrStorage),
    /// A path.
    Unix(UnixAddr),
}

impl Address {
    /// As connect(2) wants it.
    pub(crate) fn parts(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        match self {
            Address::Internet(address) => (address.as_ptr(), address.len()),
            Address::Unix(address) => (address.as_ptr().cast(), address.len()),
        }
    }

    /// A socket that can be connected to it; what a TCP one is given leaves at once (TCP_NODELAY). It is a blocking one,
    /// and whoever connects it must not wait for it: io_uring has the connect of a non-blocking Unix socket fail where
    /// the server's backlog is full, instead of waiting for room as it does with TCP.
    #[cfg_attr(not(feature = "load"), expect(dead_code, reason = "only the load generator connects"))]
    pub(crate) fn socket(&self) -> Result<OwnedFd, Errno> {
        let family = match self {
            Address::Unix(_) => AddressFamily::Unix,
            Address::Internet(address) => address.family().unwrap_or(AddressFamily::Inet),
        };
        let socket = nix::sys::socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        if matches!(self, Address::Internet(_)) {
            setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        }
        Ok(socket)
    }
}

/// Stops a listening socket for every process that holds a copy: clients are refused from now on.
pub(crate) fn stop_listening(socket: BorrowedFd<'_>) {
    let _ = nix::sys::socket::shutdown(socket.as_raw_fd(), Shutdown::Both);
}

/// The address and port; `None` for a Unix socket's.
pub(crate) fn internet_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|a| SocketAddrV4::from(*a).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddrV6::from(*a).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn connections_inherit_what_their_listener_was_given() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            prepare(listener.as_fd()).unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (served, _) = listener.accept().unwrap();
            assert!(served.nodelay().unwrap() && getsockopt(&served, sockopt::KeepAlive).unwrap());
            assert_eq!(getsockopt(&served, sockopt::TcpKeepIdle).unwrap(), 60);
        }
        let (a_unix_socket, _) = UnixStream::pair().unwrap();
        prepare(a_unix_socket.as_fd()).unwrap();
    }
}
