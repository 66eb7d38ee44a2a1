//! Sockets: accepting with the peer's address, and what nix says with raw descriptors.
//!
//! Neighbours: `worker::listeners` accepts with it, `worker::event_loop` asks for peers, `master::listeners` sets options,
//! `master::pool` asks what a socket is, `ring` reads the addresses its accepts wrote.

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, SockType, SockaddrLike, SockaddrStorage, getsockopt, sockopt};
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

/// Bounds what is written to a TCP socket and has not left this machine (tcp(7), TCP_NOTSENT_LOWAT).
pub(crate) fn limit_unsent(socket: BorrowedFd<'_>, octets: u32) -> Result<(), Errno> {
    let len = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` octets of `octets`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const octets).cast(),
            len,
        )
    };
    Errno::result(result).map(|_| ())
}

/// Whether this is a stream socket that does not listen.
pub(crate) fn is_connection(socket: BorrowedFd<'_>) -> bool {
    let is_stream = getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream);
    is_stream && getsockopt(&socket, sockopt::AcceptConn) == Ok(false)
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
