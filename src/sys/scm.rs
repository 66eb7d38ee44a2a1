//! Descriptors beside bytes on a Unix stream socket (SCM_RIGHTS): one sendmsg, one recvmsg.
//!
//! nix sends; receiving is written out here, because nix's `recvmsg` refuses to show the control messages once
//! MSG_CTRUNC is set, and the descriptors that did arrive would stay open for ever.
//!
//! Neighbours: `ipc::channel` decides which bytes and which descriptor go together.

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::{mem, ptr};

/// Descriptors taken from one message. Peers send one; more than this are closed by the kernel and reported as
/// truncated.
const FDS_MAX: usize = 16;

// SAFETY: CMSG_SPACE only computes; it is `unsafe` because libc declares all its CMSG macros so.
const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE((FDS_MAX * size_of::<RawFd>()) as u32) } as usize;

/// Room for control messages, aligned as `cmsghdr` must be.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// What one [`receive`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// How many bytes; 0 is the end of the stream.
    pub bytes: usize,
    /// Descriptors were lost on the way (MSG_CTRUNC): too many of them, or this process may open no more.
    pub truncated: bool,
}

/// Sends what fits without waiting, the descriptor with the first byte; never raises SIGPIPE.
///
/// `bytes` must not be empty: a descriptor travels only with a byte.
pub(crate) fn send_with_fd(sock: BorrowedFd, bytes: &[u8], fd: Option<BorrowedFd>) -> io::Result<usize> {
    debug_assert!(!bytes.is_empty());
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let data = [IoSlice::new(bytes)];
    let raw = fd.map(|fd| [fd.as_raw_fd()]);
    let rights = raw.as_ref().map(|fds| [ControlMessage::ScmRights(fds)]);
    let control = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
    Ok(sendmsg::<()>(sock.as_raw_fd(), &data, control, flags, None)?)
}

/// Receives what is there without waiting and appends the descriptors (close-on-exec) that came with it.
pub(crate) fn receive(sock: BorrowedFd, buf: &mut [u8], fds: &mut VecDeque<OwnedFd>) -> io::Result<Received> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut data = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: msghdr is a C struct of integers and pointers; all zero is a valid value of it.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_LEN as _;

    // SAFETY: `message` points to `data` and `control`, and `data` to `buf` with its true length; all of them live
    // to the end of this function and nothing else touches them during the call.
    let got = unsafe {
        libc::recvmsg(sock.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT)
    };
    let bytes = Errno::result(got)? as usize;
    // SAFETY: recvmsg has just filled `message` and shortened msg_controllen to what it wrote; `control`, to which
    // it points, is still alive, and nobody has taken its descriptors yet.
    unsafe { take_descriptors(&message, fds) };
    Ok(Received { bytes, truncated: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// Makes every descriptor in the control messages an owned one.
///
/// # Safety
/// `message` must be as a successful recvmsg left it, its control buffer alive, and this is called once for it: the
/// descriptors become owned here.
unsafe fn take_descriptors(message: &libc::msghdr, fds: &mut VecDeque<OwnedFd>) {
    // SAFETY: the caller promises a control buffer that the kernel filled, so headers are aligned and their lengths
    // stay inside it (also when truncated: the kernel shortens cmsg_len to the descriptors it did install). The
    // kernel opened each descriptor for us and nobody else knows its number.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(&libc::cmsghdr { cmsg_len, cmsg_level, cmsg_type, .. }) = header.as_ref() {
            if (cmsg_level, cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let first: *const RawFd = libc::CMSG_DATA(header).cast();
                #[allow(clippy::unnecessary_cast)] // a u32 on musl
                let count = (cmsg_len as usize - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                let raw = (0..count).map(|nth| ptr::read_unaligned(first.add(nth)));
                fds.extend(raw.map(|fd| OwnedFd::from_raw_fd(fd)));
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::wait_until_gone;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn receive_from(sock: &UnixStream) -> (Received, VecDeque<OwnedFd>) {
        let mut fds = VecDeque::new();
        let received = receive(sock.as_fd(), &mut [0; 64], &mut fds).unwrap();
        (received, fds)
    }

    #[test]
    fn a_descriptor_arrives_with_its_byte_and_closes_on_exec() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_with_fd(ours.as_fd(), b"xy", Some(ours.as_fd())).unwrap();
        let (received, fds) = receive_from(&theirs);
        assert_eq!(received, Received { bytes: 2, truncated: false });
        let flags = nix::fcntl::fcntl(&fds[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!((fds.len(), flags), (1, libc::FD_CLOEXEC));
    }

    #[test]
    fn neither_direction_waits() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let empty = receive(theirs.as_fd(), &mut [0; 8], &mut VecDeque::new()).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        let full = loop {
            if let Err(full) = send_with_fd(ours.as_fd(), &[0; 4096], None) {
                break full;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn too_many_descriptors_are_reported_and_those_that_came_are_owned() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let many = [ours.as_raw_fd(); FDS_MAX + 1];
        let rights = [ControlMessage::ScmRights(&many)];
        sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None).unwrap();
        let (received, fds) = receive_from(&theirs);
        assert_eq!(received, Received { bytes: 1, truncated: true });
        assert_eq!(fds.len(), FDS_MAX);
    }

    #[test]
    fn a_closed_peer_is_an_error_to_write_to_not_a_signal() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        wait_until_gone(&ours);
        let gone = send_with_fd(ours.as_fd(), b"x", None).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }
}
