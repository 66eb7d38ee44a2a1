//! Binds the listening sockets, once, in the master; workers get them through their channels.
//!
//! Neighbours: `master` calls it before the first worker is started and closes what it gave on a stop; `server` has its
//! sockets from here too.

use crate::config::Listen;
use crate::error::{Error, Result};
use crate::sys::process;
use crate::sys::socket::{internet_address, is_listener, prepare};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, UnixAddr, bind, connect,
    getsockname, listen, setsockopt, socket,
};
use nix::sys::stat::{Mode, fchmod, fstat};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The sockets of a server that was killed stay bound for some 50 ms more (its rings are torn down asynchronously),
/// so an address in use is worth a second look before it is reported.
const IN_USE_PATIENCE: Duration = Duration::from_secs(1);
const IN_USE_PAUSE: Duration = Duration::from_millis(25);

/// A bound and listening socket.
#[derive(Debug)]
pub struct Bound {
    /// What was asked for.
    asked: Listen,
    /// Where, with the port that the kernel chose if none was asked for.
    pub address: Listen,
    /// Shared with the channels that are sending it.
    pub socket: Arc<OwnedFd>,
    /// Removed when this is dropped.
    file: Option<SocketFile>,
    /// Somebody else has bound it.
    inherited: bool,
}

/// The file of a Unix socket, removed when we stop unless somebody has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Bound {
    /// Whether it is what this would bind. One that was inherited counts for both families if that was asked for: how it was
    /// bound is the service manager's affair.
    pub fn is(&self, asked: &Listen) -> bool {
        match (self.address.socket_addr(), asked.socket_addr()) {
            (Some(own), Some(other)) => {
                let both = |listen: &Listen| matches!(listen, Listen::DualStack(_));
                own == other && (self.inherited || both(&self.asked) == both(asked))
            }
            _ => self.address == *asked,
        }
    }

    /// Gives it the queue and its file the permissions that are wanted now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn settle(&self, backlog: u32, unix_mode: u32) -> Result<()> {
        listen(&self.socket, depth(backlog)).map_err(|errno| explain(&self.address, errno))?;
        match &self.file {
            Some(file) => file.permit(unix_mode).map_err(|errno| explain(&self.address, errno)),
            None => Ok(()),
        }
    }

    /// The socket, for who serves from it alone, and its file, to be kept for as long.
    pub fn into_parts(self) -> (OwnedFd, Option<SocketFile>) {
        (Arc::into_inner(self.socket).expect("nobody was sent it"), self.file)
    }
}

/// Sockets that the service manager has bound (socket activation, sd_listen_fds(3)): they listen already. Before there is a
/// second thread.
///
/// # Errors
/// What it gave is no listening stream socket.
pub fn inherited() -> Result<Vec<Arc<Bound>>> {
    let refuse = |problem: String| Error::config("LISTEN_FDS", problem);
    let numbers = sd_notify::listen_fds();
    let numbers =
        numbers.map_err(|error| refuse(format!("it promises sockets that are not there: {error}")))?;
    let take = |number| {
        let nothing = || {
            refuse(format!("descriptor {number} is no listening stream socket (ListenStream=, Accept=no)"))
        };
        let socket = process::take_descriptor_if(number, is_listener).ok_or_else(nothing)?;
        let address = listening_address(&socket).ok_or_else(nothing)?;
        let prepared = set_nonblocking(socket.as_fd()).and_then(|()| prepare(socket.as_fd()));
        prepared.map_err(|errno| explain(&address, errno))?;
        // its file is the service manager's to remove
        let socket = Arc::new(socket);
        Ok(Arc::new(Bound { asked: address.clone(), address, socket, file: None, inherited: true }))
    };
    numbers.map(take).collect()
}

fn listening_address(socket: &OwnedFd) -> Option<Listen> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd()).ok()?;
    match address.as_unix_addr() {
        Some(unix) => Some(Listen::Unix(unix.path()?.to_owned())),
        None => internet_address(&address).map(Listen::Tcp),
    }
}

fn set_nonblocking(socket: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Binds all of them, or none, but for those that are there already: whoever waits in their queues is served. The first
/// `fixed` of those are nobody's to take. Nothing is waited for.
///
/// # Errors
/// The first address that cannot be had, and why.
pub fn bind_more(
    addresses: &[Listen],
    before: &[Arc<Bound>],
    fixed: usize,
    backlog: u32,
    unix_mode: u32,
) -> Result<Vec<Arc<Bound>>> {
    let mut left: Vec<&Arc<Bound>> = before.iter().skip(fixed).collect();
    let mut find = |asked: &Listen| {
        let place = left.iter().position(|bound| bound.asked == *asked || bound.is(asked))?;
        Some(Arc::clone(left.remove(place)))
    };
    let bind = |address: &Listen| match find(address) {
        Some(bound) => Ok(bound),
        None => match bind_one(address, backlog, unix_mode) {
            Ok(bound) => Ok(Arc::new(Bound { asked: address.clone(), ..bound })),
            Err(errno) => Err(explain_beside(address, errno, before)),
        },
    };
    addresses.iter().map(bind).collect()
}

/// What holds it may be this very server, by another name of the address: a wildcard, most often.
fn explain_beside(address: &Listen, errno: Errno, before: &[Arc<Bound>]) -> Error {
    let port = |address: &Listen| address.socket_addr().map(|address| address.port());
    let own =
        before.iter().find(|bound| port(&bound.address).is_some() && port(&bound.address) == port(address));
    match own {
        Some(own) if errno == Errno::EADDRINUSE => {
            let problem =
                format!("this server listens on {} already; that change takes a new start", own.address);
            Error::Listen { address: address.to_string(), source: io::Error::other(problem) }
        }
        _ => explain(address, errno),
    }
}

/// Binds all of them, or none.
///
/// # Errors
/// The first address that cannot be had, and why.
pub fn bind_all(addresses: &[Listen], backlog: u32, unix_mode: u32) -> Result<Vec<Bound>> {
    addresses.iter().map(|address| bind_patiently(address, backlog, unix_mode)).collect()
}

fn bind_patiently(address: &Listen, backlog: u32, unix_mode: u32) -> Result<Bound> {
    let deadline = Instant::now() + IN_USE_PATIENCE;
    loop {
        match bind_one(address, backlog, unix_mode) {
            Err(Errno::EADDRINUSE) if Instant::now() < deadline => std::thread::sleep(IN_USE_PAUSE),
            Ok(bound) => return Ok(Bound { asked: address.clone(), ..bound }),
            Err(errno) => return Err(explain(address, errno)),
        }
    }
}

fn bind_one(address: &Listen, backlog: u32, unix_mode: u32) -> std::result::Result<Bound, Errno> {
    match address {
        Listen::DualStack(port) => bind_dual_stack(*port, backlog),
        Listen::Tcp(address) => bind_tcp(*address, true, backlog),
        Listen::Unix(path) => bind_unix(path, backlog, unix_mode),
    }
}

/// As Node's `listen(port)`: `::` for both families, `0.0.0.0` where there is no IPv6.
fn bind_dual_stack(port: u16, backlog: u32) -> std::result::Result<Bound, Errno> {
    match bind_tcp((Ipv6Addr::UNSPECIFIED, port).into(), false, backlog) {
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EINVAL) => {
            bind_tcp((Ipv4Addr::UNSPECIFIED, port).into(), true, backlog)
        }
        other => other,
    }
}

fn bind_tcp(address: SocketAddr, v6_only: bool, backlog: u32) -> std::result::Result<Bound, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = stream_socket(family)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    prepare(socket.as_fd())?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &v6_only)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, depth(backlog))?;
    let address = Listen::Tcp(bound_address(&socket)?);
    Ok(Bound { asked: address.clone(), address, socket: Arc::new(socket), file: None, inherited: false })
}

fn bind_unix(path: &Path, backlog: u32, mode: u32) -> std::result::Result<Bound, Errno> {
    remove_stale(path)?;
    let socket = stream_socket(AddressFamily::Unix)?;
    // the file gets the socket's own permissions, less the umask (unix(7)); then what that took away: so there is no
    // moment with more than these, and no other thread's files are touched
    fchmod(&socket, Mode::from_bits_truncate(mode))?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let file = SocketFile { path: path.to_owned(), inode: inode(path)? };
    file.permit(mode)?;
    listen(&socket, depth(backlog))?;
    let address = Listen::Unix(path.to_owned());
    Ok(Bound {
        asked: address.clone(),
        address,
        socket: Arc::new(socket),
        file: Some(file),
        inherited: false,
    })
}

/// A socket file on which nobody answers was left behind by a server that was killed. Asked without blocking: a
/// server that is stuck and whose queue is full is alive. One that may not be asked is somebody else's, dead or alive.
fn remove_stale(path: &Path) -> std::result::Result<(), Errno> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(Errno::EEXIST);
    }
    let probe = stream_socket(AddressFamily::Unix)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(|e| errno(&e)),
        Err(Errno::EACCES) => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

fn stream_socket(family: AddressFamily) -> std::result::Result<OwnedFd, Errno> {
    let protocol = (family != AddressFamily::Unix).then_some(SockProtocol::Tcp);
    socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, protocol)
}

fn depth(backlog: u32) -> Backlog {
    i32::try_from(backlog).ok().and_then(|depth| Backlog::new(depth).ok()).unwrap_or(Backlog::MAXCONN)
}

fn bound_address(socket: &OwnedFd) -> std::result::Result<SocketAddr, Errno> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    internet_address(&address).ok_or(Errno::EAFNOSUPPORT)
}

fn inode(path: &Path) -> std::result::Result<(u64, u64), Errno> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).map_err(|e| errno(&e))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn explain(listen: &Listen, errno: Errno) -> Error {
    let address = listen.to_string();
    let is_tcp = !matches!(listen, Listen::Unix(_));
    match errno {
        Errno::EADDRINUSE => Error::AddressInUse { address },
        Errno::EACCES if is_tcp => Error::PortForbidden { address, first_free: first_free_port() },
        Errno::EADDRNOTAVAIL => Error::AddressUnavailable { address },
        Errno::EEXIST => {
            let source = io::Error::other("this file is no socket; move it away or choose another path");
            Error::Listen { address, source }
        }
        errno => Error::Listen { address, source: errno.into() },
    }
}

fn first_free_port() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

impl SocketFile {
    /// Whoever may write to the directory may have put something else there, a link for instance: that is left alone.
    fn permit(&self, mode: u32) -> std::result::Result<(), Errno> {
        let file = open(&self.path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let stat = fstat(&file)?;
        if (stat.st_dev, stat.st_ino) != self.inode || stat.st_mode & 0o777 == mode {
            return Ok(());
        }
        let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(itself, fs::Permissions::from_mode(mode)).map_err(|e| errno(&e))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path) == Ok(self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::leave_dead_socket;

    #[test]
    fn a_port_of_the_kernels_choice_is_named() {
        let bound = bind_all(&[Listen::Tcp("127.0.0.1:0".parse().unwrap())], 16, 0o666).unwrap();
        let Listen::Tcp(address) = bound[0].address else { panic!("{bound:?}") };
        assert_ne!(address.port(), 0);
        assert!(std::net::TcpStream::connect(address).is_ok());
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        leave_dead_socket(&path);
        assert!(path.exists(), "left behind, as by a kill");
        let permissions = || fs::metadata(&path).unwrap().mode() & 0o777;
        // whatever the umask is
        drop(bind_unix(&path, 16, 0o666).inspect(|_| assert_eq!(permissions(), 0o666)).unwrap());
        let first = bind_unix(&path, 16, 0o600).unwrap();
        assert_eq!(permissions(), 0o600);
        assert_eq!(bind_unix(&path, 16, 0o600).unwrap_err(), Errno::EADDRINUSE);
        first.settle(16, 0o644).unwrap();
        assert_eq!(permissions(), 0o644);
        let (other, aside) = (directory.path().join("other"), directory.path().join("aside"));
        fs::write(&other, "somebody's").unwrap();
        let before = fs::metadata(&other).unwrap().mode();
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        first.settle(16, 0o666).unwrap();
        assert_eq!(fs::metadata(&other).unwrap().mode(), before, "a link that was put there is not followed");
        fs::rename(&aside, &path).unwrap();
        drop(first);
        assert!(!path.exists(), "removed on a stop");
        fs::write(&path, "a file of somebody's").unwrap();
        assert_eq!(bind_unix(&path, 16, 0o600).unwrap_err(), Errno::EEXIST);
        assert!(path.exists());
    }
}
