//! The channel's promises, through real socketpairs: against a bare peer that writes any bytes and descriptors,
//! against another channel, and against Node itself where there is one.

use super::super::MESSAGE_COST;
use super::super::frame::{self, FrameError};
use super::*;
use crate::sys::testing::wait_until_gone;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
use nix::sys::stat::fstat;
use proptest::prelude::*;
use serde_json::json;
use std::collections::VecDeque;
use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

const ACK: &str = "{\"cmd\":\"NODE_HANDLE_ACK\"}\n";
const NACK: &str = "{\"cmd\":\"NODE_HANDLE_NACK\"}\n";

fn channel_and_peer() -> (Channel, UnixStream) {
    let (channel, theirs) = Channel::pair().unwrap();
    (channel, UnixStream::from(theirs))
}

fn channels() -> (Channel, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    (ours, Channel::from_fd(theirs).unwrap())
}

fn socket() -> OwnedFd {
    UnixStream::pair().unwrap().0.into()
}

/// What tells one socket from another, through however many descriptors.
fn inode(fd: impl AsFd) -> u64 {
    fstat(fd).unwrap().st_ino
}

fn handle_line(kind: HandleKind, message: Value) -> Vec<u8> {
    node::handle(&kind, &message).unwrap()
}

fn write(peer: &UnixStream, bytes: impl AsRef<[u8]>, fd: Option<&OwnedFd>) {
    let bytes = bytes.as_ref();
    assert_eq!(scm::send_with_fd(peer.as_fd(), bytes, fd.map(AsFd::as_fd)).unwrap(), bytes.len());
}

/// All that lies in the socket.
fn read(peer: &UnixStream) -> (String, VecDeque<OwnedFd>) {
    let (mut bytes, mut fds, mut buf) = (Vec::new(), VecDeque::new(), [0; 4096]);
    while let Ok(read) = scm::receive(peer.as_fd(), &mut buf, &mut fds)
        && read.bytes > 0
    {
        bytes.extend_from_slice(&buf[..read.bytes]);
    }
    (String::from_utf8(bytes).unwrap(), fds)
}

/// Short forms that can be compared: descriptors by the socket behind them.
fn brief(received: Vec<Received>) -> Vec<String> {
    let brief = |received| match received {
        Received::Control(content) => format!("control {content}"),
        Received::Handle { kind, message, fd, .. } => format!("{kind:?} {message} {}", inode(fd)),
        Received::Connection { travelling, socket } => {
            format!("connection {:?} {}", travelling.unread, inode(socket))
        }
        Received::HandleMissing { kind, message } => format!("missing {kind:?} {message}"),
        Received::HandleLost { kind, message } => format!("lost {kind:?} {message}"),
        Received::Plain(message) => format!("plain {message}"),
        Received::Broken(problem) => format!("broken: {problem}"),
        Received::Closed => "closed".to_owned(),
    };
    received.into_iter().map(brief).collect()
}

fn receive(channel: &mut Channel) -> Vec<String> {
    brief(channel.receive().unwrap())
}

#[test]
fn master_and_worker_understand_each_other() {
    let (mut master, mut worker) = channels();
    let listener = socket();
    let server = inode(&listener);
    master.send_to_worker(&ToWorker::Drain { stop: true }).unwrap();
    master.send_handle(HandleKind::Server, json!("server"), listener).unwrap();
    master.send_plain(&json!("after the handle")).unwrap();
    assert_eq!(
        receive(&mut worker),
        ["control {\"act\":\"drain\",\"stop\":true}".to_owned(), format!("Server \"server\" {server}"),]
    );
    assert!(!master.is_idle() && !master.wants_write());
    assert!(receive(&mut master).is_empty());
    assert!(master.is_idle());
    assert_eq!(receive(&mut worker), ["plain \"after the handle\""]);

    worker.send_to_master(&ToMaster::Suicide).unwrap();
    let received = master.receive().unwrap();
    assert_eq!(ToMaster::read(&received[0]), Ok(Some(ToMaster::Suicide)));
}

#[test]
fn a_connection_on_its_way_is_told_from_a_programs_socket() {
    let (mut from, mut to) = channels();
    let travelling = Travelling { peer: None, unread: b"GE".to_vec() };
    let (connection, other) = (socket(), socket());
    let (connection_inode, other_inode) = (inode(&connection), inode(&other));
    from.send_connection(&travelling, connection).unwrap();
    from.send_handle(HandleKind::Socket, serde_json::to_value(&travelling).unwrap(), other).unwrap();
    assert_eq!(receive(&mut to), [format!("connection [71, 69] {connection_inode}")]);
    receive(&mut from);
    let plain = format!("Socket {{\"peer\":null,\"unread\":[71,69]}} {other_inode}");
    assert_eq!(receive(&mut to), [plain]);
}

#[test]
fn what_waits_is_counted_until_the_socket_has_taken_it() {
    let (mut channel, peer) = channel_and_peer();
    channel.send_plain(&json!("taken at once")).unwrap();
    assert_eq!(channel.waiting(), 0);
    let line = "x".repeat(1 << 20);
    channel.send_plain(&json!(line)).unwrap();
    let waiting = channel.waiting();
    assert!(MESSAGE_COST < waiting && waiting < line.len(), "{waiting}");
    while channel.wants_write() {
        read(&peer);
        channel.flush().unwrap();
    }
    assert_eq!(channel.waiting(), 0);
    read(&peer);
    // a handle that is refused waits again
    channel.send_handle(HandleKind::Socket, json!(1), socket()).unwrap();
    channel.send_plain(&json!(2)).unwrap();
    assert_eq!(channel.waiting(), "2\n".len() + MESSAGE_COST);
    setsockopt(&channel, sockopt::SndBuf, &4096).unwrap();
    write(&peer, NACK, None);
    channel.receive().unwrap();
    assert_eq!(channel.waiting(), "2\n".len() + MESSAGE_COST);
    write(&peer, ACK, None);
    channel.receive().unwrap();
    assert_eq!(channel.waiting(), 0);
    channel.send_plain(&json!(line)).unwrap();
    drop(peer);
    wait_until_gone(&channel);
    assert_eq!(channel.flush().unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(channel.waiting(), 0, "nobody is waited for any more");
}

#[test]
fn all_waits_in_order_behind_an_unacknowledged_handle() {
    let (mut channel, peer) = channel_and_peer();
    let handle = |name: &str| String::from_utf8(handle_line(HandleKind::Server, json!(name))).unwrap();
    for (handle, message) in [("a", "after a"), ("b", "after b")] {
        channel.send_handle(HandleKind::Server, json!(handle), socket()).unwrap();
        channel.send_plain(&json!(message)).unwrap();
    }
    let (bytes, fds) = read(&peer);
    assert_eq!((bytes, fds.len()), (handle("a"), 1));

    write(&peer, handle("theirs"), Some(&socket()));
    assert_eq!(channel.receive().unwrap().len(), 1);
    assert_eq!(read(&peer).0, ACK, "an answer overtakes");

    write(&peer, ACK, None);
    assert!(receive(&mut channel).is_empty());
    let (bytes, fds) = read(&peer);
    assert_eq!((bytes, fds.len()), (format!("\"after a\"\n{}", handle("b")), 1));

    write(&peer, NACK, None);
    assert_eq!(receive(&mut channel), ["lost Server \"b\""]);
    assert_eq!(read(&peer).0, "\"after b\"\n");
    assert!(channel.is_idle());
}

#[test]
fn a_listener_is_let_go_when_sent_a_connection_when_acknowledged() {
    let (mut channel, peer) = channel_and_peer();
    let (listener, connection) = (Arc::new(socket()), Arc::new(socket()));
    channel.send_handle(HandleKind::Server, json!(0), listener.clone()).unwrap();
    channel.send_handle(HandleKind::Socket, json!(1), connection.clone()).unwrap();
    assert_eq!((Arc::strong_count(&listener), Arc::strong_count(&connection)), (1, 2));
    write(&peer, ACK, None);
    channel.receive().unwrap();
    assert_eq!((read(&peer).1.len(), Arc::strong_count(&connection)), (2, 2));
    write(&peer, ACK, None);
    channel.receive().unwrap();
    assert_eq!((Arc::strong_count(&connection), channel.is_idle()), (1, true));
}

#[test]
fn a_refused_connection_is_sent_three_times_more_then_reported() {
    let (mut channel, peer) = channel_and_peer();
    let connection = Arc::new(socket());
    channel.send_handle(HandleKind::Socket, json!("conn"), connection.clone()).unwrap();
    channel.send_plain(&json!("later")).unwrap();
    let line = String::from_utf8(handle_line(HandleKind::Socket, json!("conn"))).unwrap();
    for attempt in 0..4 {
        let (bytes, fds) = read(&peer);
        assert_eq!((bytes, fds.len()), (line.clone(), 1), "attempt {attempt}");
        assert_eq!(inode(&fds[0]), inode(&*connection));
        write(&peer, NACK, None);
        let expected: &[&str] = if attempt < 3 { &[] } else { &["lost Socket \"conn\""] };
        assert_eq!(receive(&mut channel), expected);
    }
    assert_eq!((read(&peer).0.as_str(), Arc::strong_count(&connection)), ("\"later\"\n", 1));
}

#[test]
fn surplus_answers_change_nothing() {
    let (mut channel, peer) = channel_and_peer();
    write(&peer, [ACK, NACK, ACK].concat(), None);
    assert!(receive(&mut channel).is_empty());
    channel.send_handle(HandleKind::Socket, json!(1), socket()).unwrap();
    write(&peer, [ACK, ACK, NACK].concat(), None);
    assert!(receive(&mut channel).is_empty());
    assert!(channel.is_idle());
}

#[test]
fn a_nested_handle_is_acknowledged_once() {
    let (mut channel, peer) = channel_and_peer();
    let inner = serde_json::from_slice(&handle_line(HandleKind::Socket, json!("conn"))).unwrap();
    let fd = socket();
    write(&peer, handle_line(HandleKind::Native, inner), Some(&fd));
    assert_eq!(receive(&mut channel), [format!("Socket \"conn\" {}", inode(&fd))]);
    assert_eq!(read(&peer).0, ACK);
}

#[test]
fn a_descriptor_that_did_not_come_is_refused() {
    let (mut channel, peer) = channel_and_peer();
    write(&peer, handle_line(HandleKind::Server, json!("server")), None);
    assert_eq!(receive(&mut channel), ["missing Server \"server\""]);
    assert_eq!(read(&peer).0, NACK);
}

#[test]
fn truncated_descriptors_are_refused_and_closed() {
    let (mut channel, peer) = channel_and_peer();
    let (sent, witness) = UnixStream::pair().unwrap();
    let many = [sent.as_raw_fd(); 40];
    let line = handle_line(HandleKind::Server, json!("server"));
    let rights = [ControlMessage::ScmRights(&many)];
    sendmsg::<()>(peer.as_raw_fd(), &[IoSlice::new(&line)], &rights, MsgFlags::empty(), None).unwrap();
    drop(sent);
    assert_eq!(receive(&mut channel), ["missing Server \"server\""]);
    assert_eq!(read(&peer).0, NACK);
    // no copy is left open
    wait_until_gone(witness);
}

/// A limit on descriptors holds for a whole process, so this test runs itself in one of its own.
#[test]
fn a_process_that_may_open_no_more_refuses_and_recovers() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const ALONE: &str = "URINGD_TEST_ALONE";
    const NAME: &str = "ipc::channel::tests::a_process_that_may_open_no_more_refuses_and_recovers";
    if std::env::var_os(ALONE).is_none() {
        let itself = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&itself.stdout);
        return assert!(report.contains("1 passed"), "{report}");
    }
    let (mut channel, peer) = channel_and_peer();
    let fd = socket();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    write(&peer, handle_line(HandleKind::Socket, json!("first")), Some(&fd));
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    let refused = receive(&mut channel);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!((refused, read(&peer).0.as_str()), (vec!["missing Socket \"first\"".to_owned()], NACK));
    write(&peer, handle_line(HandleKind::Socket, json!("again")), Some(&fd));
    assert_eq!(receive(&mut channel), [format!("Socket \"again\" {}", inode(&fd))]);
}

#[test]
fn an_uninvited_descriptor_is_closed_and_not_taken_for_anothers() {
    let (mut channel, peer) = channel_and_peer();
    let (uninvited, witness) = UnixStream::pair().unwrap();
    let fd = socket();
    write(&peer, "\"plain\"\n{\"half\":", Some(&uninvited.into()));
    write(&peer, "1}\n", None);
    write(&peer, handle_line(HandleKind::Native, json!(1)), Some(&fd));
    let expected =
        ["plain \"plain\"".to_owned(), "plain {\"half\":1}".to_owned(), format!("Native 1 {}", inode(&fd))];
    assert_eq!(receive(&mut channel), expected);
    wait_until_gone(witness);
}

#[test]
fn partial_writes_carry_the_descriptor_once() {
    for kind in [HandleKind::Server, HandleKind::Socket] {
        let (mut channel, peer) = channel_and_peer();
        setsockopt(&channel, sockopt::SndBuf, &4096).unwrap();
        let (large, fd) = (json!("ä".repeat(300_000)), socket());
        let expected = inode(&fd);
        channel.send_plain(&large).unwrap();
        channel.send_handle(kind.clone(), large.clone(), fd).unwrap();
        assert!(channel.wants_write());
        let (mut bytes, mut fds, mut rounds) = (Vec::new(), VecDeque::new(), 0);
        let mut buf = vec![0; 100_000];
        while let Ok(read) = scm::receive(peer.as_fd(), &mut buf, &mut fds) {
            bytes.extend_from_slice(&buf[..read.bytes]);
            channel.flush().unwrap();
            rounds += 1;
        }
        assert!(rounds > 20 && !channel.wants_write() && !channel.is_idle());
        assert_eq!(bytes, [frame::encode(&large).unwrap(), handle_line(kind, large)].concat());
        assert_eq!(fds.iter().map(inode).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn the_end_comes_after_all_that_was_said() {
    type End = fn(&UnixStream);
    let ends: [(&str, End); 2] = [
        ("half-closed", |peer| peer.shutdown(Shutdown::Write).unwrap()),
        ("closed", |peer| peer.shutdown(Shutdown::Both).unwrap()),
    ];
    for (how, end) in ends {
        let (mut channel, peer) = channel_and_peer();
        write(&peer, "1\n{\"a trailing partial line\":", Some(&socket()));
        end(&peer);
        assert_eq!(receive(&mut channel), ["plain 1", "closed"], "{how}");
        assert!(receive(&mut channel).is_empty());
    }
}

#[test]
fn a_peer_that_dies_with_unread_bytes_is_closed_like_any_other() {
    let (mut channel, peer) = channel_and_peer();
    channel.send_plain(&json!("never read")).unwrap();
    write(&peer, "1\n", None);
    drop(peer);
    wait_until_gone(&channel);
    assert_eq!(receive(&mut channel), ["plain 1", "closed"]);

    let (mut channel, peer) = channel_and_peer();
    channel.send_plain(&json!("never read")).unwrap();
    write(&peer, "1\n", None);
    drop(peer);
    wait_until_gone(&channel);
    let connection = Arc::new(socket());
    let gone = channel.send_handle(HandleKind::Socket, json!(1), connection.clone()).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::BrokenPipe);
    assert_eq!((channel.is_idle(), Arc::strong_count(&connection)), (true, 1));
    assert_eq!(
        (receive(&mut channel), channel.sockets_waiting()),
        (vec!["plain 1".to_owned(), "closed".to_owned()], 1)
    );

    let (mut channel, peer) = channel_and_peer();
    channel.send_handle(HandleKind::Socket, json!(1), socket()).unwrap();
    channel.send_handle(HandleKind::Server, json!(1), socket()).unwrap();
    channel.send_handle(HandleKind::Socket, json!(1), socket()).unwrap();
    assert_eq!(channel.sockets_waiting(), 2);
    write(&peer, ACK, None);
    receive(&mut channel);
    assert_eq!(channel.sockets_waiting(), 1);
    drop(peer);
    wait_until_gone(&channel);
    assert_eq!((receive(&mut channel), channel.sockets_waiting()), (vec!["closed".to_owned()], 1));
}

#[test]
fn a_broken_protocol_is_a_value_after_which_nothing_comes() {
    for (bytes, problem) in
        [("1\n\n2\n", FrameError::Empty.to_string()), ("1\nx\n", "a line is not JSON".into())]
    {
        let (mut channel, peer) = channel_and_peer();
        write(&peer, bytes, Some(&socket()));
        let received = receive(&mut channel);
        assert_eq!((received.len(), received[0].as_str()), (2, "plain 1"));
        assert!(received[1].starts_with(&format!("broken: {problem}")), "{received:?}");
        write(&peer, "3\n", None);
        assert!(receive(&mut channel).is_empty());
    }
}

#[test]
fn a_peer_that_sends_handles_and_reads_no_answers_is_broken() {
    let (mut channel, peer) = channel_and_peer();
    peer.set_nonblocking(true).unwrap();
    let handles = "{\"cmd\":\"NODE_HANDLE\"}\n".repeat(1_000);
    let (mut refused, mut last) = (0, None);
    for _ in 0..1_000 {
        let _ = (&peer).write(handles.as_bytes());
        let received = receive(&mut channel);
        refused += received.iter().filter(|one| one.starts_with("missing")).count();
        last = received.into_iter().find(|one| one.starts_with("broken")).or(last);
        if last.is_some() {
            break;
        }
    }
    let last = last.expect("there is an end to it");
    assert_eq!(last, "broken: it sends handles without reading the answers to them");
    assert!(refused > REPLIES_MAX);
    assert!(channel.waiting() <= (REPLIES_MAX + 2) * (NACK.len() + MESSAGE_COST), "{}", channel.waiting());
    assert!(receive(&mut channel).is_empty());
    // who takes the answers may send as many
    let (mut channel, peer) = channel_and_peer();
    let few = "{\"cmd\":\"NODE_HANDLE\"}\n".repeat(REPLIES_MAX);
    for round in 0..10 {
        write(&peer, &few, None);
        let mut answers = String::new();
        let received = receive(&mut channel);
        while answers.len() < REPLIES_MAX * NACK.len() {
            answers += &read(&peer).0;
            channel.flush().unwrap();
        }
        assert_eq!((received.len(), answers), (REPLIES_MAX, NACK.repeat(REPLIES_MAX)), "{round}");
    }
}

#[test]
fn other_internal_messages_are_ignored() {
    let (mut channel, peer) = channel_and_peer();
    write(&peer, "{\"cmd\":\"NODE_SOCKET_GET_COUNT\",\"key\":\"k\"}\n{\"cmd\":\"NODE_X\"}\n1\n", None);
    assert_eq!((receive(&mut channel), read(&peer).0.as_str()), (vec!["plain 1".to_owned()], ""));
}

#[test]
fn our_end_and_what_travels_never_block_the_childs_end_does() {
    let flags = |fd: &dyn AsFd| OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL).unwrap());
    let (mut channel, child) = Channel::pair().unwrap();
    let travelling = Arc::new(socket());
    channel.send_handle(HandleKind::Server, json!(1), travelling.clone()).unwrap();
    assert!(flags(&channel).contains(OFlag::O_NONBLOCK));
    assert!(flags(&*travelling).contains(OFlag::O_NONBLOCK));
    assert!(!flags(&child).contains(OFlag::O_NONBLOCK));
    for fd in [channel.as_fd(), child.as_fd()] {
        assert_eq!(fcntl(fd, FcntlArg::F_GETFD).unwrap(), FdFlag::FD_CLOEXEC.bits());
    }
}

/// A message of this length, with a socket or without.
fn any_messages() -> impl Strategy<Value = Vec<(bool, usize)>> {
    prop::collection::vec((any::<bool>(), prop_oneof![8 => 0usize..40, 1 => 60_000usize..140_000]), 1..12)
}

fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..60, 1_000usize..70_000], 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever pieces the peer's writes come in (a socket always with the first byte of its line, as the kernel
    /// has it), and however many handles are in flight.
    #[test]
    fn bytes_and_descriptors_pair_under_any_split(messages in any_messages(), sizes in any_sizes()) {
        let (mut channel, peer) = channel_and_peer();
        let (mut expected, mut received) = (Vec::new(), Vec::new());
        let mut sizes = sizes.into_iter().cycle();
        for (has_socket, length) in messages {
            let text = json!("€".repeat(length / 3));
            let mut fd = has_socket.then(socket);
            expected.push(match &fd {
                Some(fd) => format!("Native {text} {}", inode(fd)),
                None => format!("plain {text}"),
            });
            let line = if has_socket { handle_line(HandleKind::Native, text) } else { frame::encode(&text).unwrap() };
            let mut rest = &line[..];
            while !rest.is_empty() {
                let size = sizes.next().unwrap().min(rest.len());
                match scm::send_with_fd(peer.as_fd(), &rest[..size], fd.as_ref().map(AsFd::as_fd)) {
                    Ok(sent) => (rest, fd) = (&rest[sent..], None),
                    Err(_full) => received.extend(receive(&mut channel)),
                }
            }
            if expected.len() % 3 == 0 {
                received.extend(receive(&mut channel));
            }
        }
        received.extend(receive(&mut channel));
        prop_assert!(received == expected, "{received:.60?} {expected:.60?}");
        let handles = expected.iter().filter(|message| message.starts_with("Native")).count();
        prop_assert_eq!(read(&peer).0, ACK.repeat(handles));
    }

    /// Both ends talk at once through sockets that take little at a time.
    #[test]
    fn two_channels_agree_on_order_and_descriptors(ours in any_messages(), theirs in any_messages()) {
        let (mut left, mut right) = channels();
        let mut expected = [Vec::new(), Vec::new()];
        for ((channel, messages), expected) in [(&mut left, ours), (&mut right, theirs)].into_iter().zip(&mut expected) {
            setsockopt(&*channel, sockopt::SndBuf, &4096).unwrap();
            for (has_socket, length) in messages {
                let text = json!("€".repeat(length / 3));
                if has_socket {
                    let fd = socket();
                    expected.push(format!("Socket {text} {}", inode(&fd)));
                    channel.send_handle(HandleKind::Socket, text, fd).unwrap();
                } else {
                    expected.push(format!("plain {text}"));
                    channel.send_plain(&text).unwrap();
                }
            }
        }
        let (mut to_left, mut to_right) = (Vec::new(), Vec::new());
        loop {
            // What was written before this turn is read in it.
            let all_written = left.is_idle() && right.is_idle();
            to_right.extend(receive(&mut right));
            to_left.extend(receive(&mut left));
            if all_written {
                break;
            }
        }
        let received = [to_right, to_left];
        prop_assert!(received == expected, "{received:.60?} {expected:.60?}");
    }
}

const NODE_WORKER: &str = r#"
process.on('message', (message, handle) => {
  if (message === 'server') handle.on('connection', socket => process.send('conn', socket));
  else process.send({ echo: message });
});
process.on('disconnect', () => process.exit(7));
process.send({ act: 'suicide' });
process.send('\ud83d');
"#;

/// A listener to a real Node process, messages both ways, a connection back, and the end.
#[test]
fn node_is_a_worker_like_any_other() {
    if std::process::Command::new("node").arg("--version").output().is_err() {
        return eprintln!("skipped: there is no `node` on PATH");
    }
    let (mut channel, theirs) = Channel::pair().unwrap();
    let mut child = std::process::Command::new("sh")
        .args(["-c", "exec node -e \"$0\" 3<&0 0</dev/null", NODE_WORKER])
        .env(node::CHANNEL_FD, "3")
        .env(node::SERIALIZATION_MODE, "json")
        .env_remove(node::UNIQUE_ID)
        .stdin(theirs)
        .spawn()
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();

    channel.send_to_worker(&ToWorker::Stay).unwrap();
    channel.send_plain(&json!("before, ä")).unwrap();
    channel.send_handle(HandleKind::Server, json!("server"), OwnedFd::from(listener)).unwrap();
    channel.send_plain(&json!({"after": [1, null]})).unwrap();
    let said = receive_from_node(&mut channel, 4);
    assert_eq!(ToMaster::read(&said[0]), Ok(Some(ToMaster::Suicide)));
    assert_eq!(
        brief(said)[1..],
        ["plain \"\u{FFFD}\"", "plain {\"echo\":\"before, ä\"}", "plain {\"echo\":{\"after\":[1,null]}}",]
    );
    assert!(channel.is_idle(), "the listener was acknowledged");

    let mut client = std::net::TcpStream::connect(address).unwrap();
    match receive_from_node(&mut channel, 1).pop() {
        Some(Received::Handle { kind: HandleKind::Socket, message, fd, .. }) => {
            assert_eq!(message, json!("conn"));
            std::net::TcpStream::from(fd).write_all(b"from the master").unwrap();
        }
        other => panic!("{other:?}"),
    }
    // Node closes its copy at our ACK; without one, the client would wait for ever.
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "from the master");

    drop(channel);
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

fn receive_from_node(channel: &mut Channel, count: usize) -> Vec<Received> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut received = Vec::new();
    while received.len() < count {
        let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(20_000u16)), Ok(1), "Node is silent after {received:?}");
        received.extend(channel.receive().unwrap());
        assert!(!matches!(received.last(), Some(Received::Closed)), "Node left after {received:?}");
    }
    received
}
