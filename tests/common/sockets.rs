//! What of the sent octets the server has read, from the kernel (sock_diag(7)): with this a request is really split
//! where a test splits it, without a pause that hopes for it.

use super::{PATIENCE, wait_until_still};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
/// Number of an attribute that holds a `struct tcp_info`.
const INET_DIAG_INFO: u16 = 2;
/// States in `struct inet_diag_msg`.
const TCP_SYN_RECV: u8 = 3;
const TCP_LISTEN: u8 = 10;
const ALL_STATES: u32 = u32::MAX;
/// Octets of `struct nlmsghdr`, and of it with a `struct inet_diag_msg` behind it.
const HEADER: usize = 16;
const ATTRIBUTES: usize = HEADER + 72;

/// Asks the kernel about its sockets.
pub struct Sockets(OwnedFd);

/// One end of a connection.
#[derive(Debug)]
pub struct End {
    /// Octets that came in and that the program has not read.
    pub unread: u32,
    /// Octets that were written and that the other side has not got.
    pub unsent: u32,
    /// Octets that came in at all; `None` when the program has closed it.
    pub received: Option<u64>,
}

impl Sockets {
    /// `None` where the kernel was built without it.
    pub fn open() -> Option<Sockets> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag).ok()?;
        let sockets = Sockets(socket);
        let listener = TcpListener::bind("127.0.0.1:0").ok()?;
        let client = TcpStream::connect(listener.local_addr().ok()?).ok()?;
        sockets.end(client.local_addr().ok()?, client.peer_addr().ok()?).map(|_| sockets)
    }

    /// The end of a connection that has the address `local`; `None` if there is none.
    pub fn end(&self, local: SocketAddr, peer: SocketAddr) -> Option<End> {
        let (SocketAddr::V4(local), SocketAddr::V4(peer)) = (local, peer) else { panic!("IPv4") };
        self.ask(&question(local, peer));
        read(&self.hear())
    }

    fn ask(&self, question: &[u8]) {
        sendto(self.0.as_raw_fd(), question, &NetlinkAddr::new(0, 0), MsgFlags::empty())
            .expect("the kernel takes a question");
    }

    fn hear(&self) -> Vec<u8> {
        let mut answer = vec![0; 64 * 1024];
        let octets = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty()).expect("the kernel's answer");
        answer.truncate(octets);
        answer
    }

    /// Waits until the server has read this many octets of this connection, or has closed it.
    #[track_caller]
    pub fn wait_until_read(&self, octets: u64, server: SocketAddr, client: SocketAddr) {
        let has_read = |end: &End| end.received.is_none_or(|received| received >= octets && end.unread == 0);
        let deadline = Instant::now() + PATIENCE;
        while let Some(end) = self.end(server, client).filter(|end| !has_read(end)) {
            assert!(
                Instant::now() < deadline,
                "{octets} octets were sent, the server does not read: {end:?}"
            );
            // the worker needs the core more
            thread::sleep(Duration::from_micros(10));
        }
    }

    /// Waits until what is on its way to this client has been the same for so long (the server cannot send any more), and
    /// gives how many octets that are.
    pub fn wait_until_stuck(&self, client: &TcpStream, long: Duration) -> usize {
        let (near, far) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        wait_until_still("the server stops sending", long, || {
            let (near, far) = (self.end(near, far), self.end(far, near));
            near.expect("our end").unread as usize + far.expect("the server's end").unsent as usize
        })
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn question(local: SocketAddrV4, peer: SocketAddrV4) -> Vec<u8> {
    let mut message = vec![];
    let octets = HEADER as u32 + 56;
    message.extend(octets.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 1 << (INET_DIAG_INFO - 1), 0]);
    message.extend(ALL_STATES.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(peer.port().to_be_bytes());
    for address in [local, peer] {
        message.extend(address.ip().octets());
        message.extend([0; 12]);
    }
    // on every interface, whatever its cookie
    message.extend([0; 4]);
    message.extend([0xff; 8]);
    assert_eq!(message.len(), octets as usize);
    message
}

fn u32_at(answer: &[u8], place: usize) -> u32 {
    u32::from_ne_bytes(answer[place..place + 4].try_into().unwrap())
}

fn u16_at(answer: &[u8], place: usize) -> u16 {
    u16::from_ne_bytes(answer[place..place + 2].try_into().unwrap())
}

fn read(answer: &[u8]) -> Option<End> {
    if u16_at(answer, 4) == NLMSG_ERROR {
        let error = u32_at(answer, HEADER) as i32;
        assert_eq!(-error, libc::ENOENT, "the kernel refuses the question");
        return None;
    }
    if answer[HEADER + 1] == TCP_LISTEN {
        // there is no connection, but somebody who would take one
        return None;
    }
    // nobody can have read from what is not established yet
    let mut received = (answer[HEADER + 1] == TCP_SYN_RECV).then_some(0);
    let mut place = ATTRIBUTES;
    while place + 4 <= answer.len() {
        let octets = usize::from(u16_at(answer, place));
        // tcpi_bytes_received; what the program has closed has no such attribute
        if u16_at(answer, place + 2) == INET_DIAG_INFO && octets >= 4 + 136 {
            let start = place + 4 + 128;
            received = Some(u64::from_ne_bytes(answer[start..start + 8].try_into().unwrap()));
        }
        place += octets.next_multiple_of(4).max(4);
    }
    Some(End { unread: u32_at(answer, HEADER + 56), unsent: u32_at(answer, HEADER + 60), received })
}
