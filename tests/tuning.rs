//! What the pages of `tuning/` say was measured is measured again: counts of what the kernel lets through, no speeds. Each
//! in a network of its own, so that the sysctls of this machine stay as they are. `--nocapture` shows the numbers.

mod common;

use common::*;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, sendto, socket,
};
use std::fs;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

fn set(sysctl: &str, value: impl ToString) {
    let path = format!("/proc/sys/{}", sysctl.replace('.', "/"));
    fs::write(&path, value.to_string()).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// A counter of `nstat`, such as TcpExtListenOverflows.
fn counter(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/net/netstat").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let named = lines.chunks(2).flat_map(|pair| pair[0].split_whitespace().zip(pair[1].split_whitespace()));
    named.into_iter().find(|(other, _)| *other == name).expect("a counter of that name").1.parse().unwrap()
}

/// Begins to connect. On loopback the whole handshake happens meanwhile, if there is room for it.
fn begin(to: SocketAddrV4) -> OwnedFd {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    match connect(socket.as_raw_fd(), &SockaddrIn::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => socket,
        Err(errno) => panic!("{errno}"),
    }
}

fn is_connected(socket: &OwnedFd) -> bool {
    let mut set = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    poll(&mut set, PollTimeout::ZERO).unwrap();
    set[0].revents().unwrap() == PollFlags::POLLOUT
}

fn v4(server: &Server) -> SocketAddrV4 {
    match server.address {
        std::net::SocketAddr::V4(address) => address,
        address => panic!("{address}"),
    }
}

#[test]
fn a_short_accept_queue_makes_clients_come_a_second_late() {
    in_own_network("a_short_accept_queue_makes_clients_come_a_second_late", || {
        const CLIENTS: usize = 64;
        for (somaxconn, at_once) in [(16, 17), (4096, CLIENTS)] {
            set("net.core.somaxconn", somaxconn);
            let before = counter("ListenOverflows");
            let server = Server::start(Program::Uringd, &["--workers", "1", "--backlog", "4096"]);
            let (_, worker) = server.listening()[0];
            server.stop(worker);
            let start = Instant::now();
            let clients: Vec<OwnedFd> = (0..CLIENTS)
                .map(|number| {
                    let client = begin(v4(&server));
                    // the kernel may get to the handshake a little later
                    if number < at_once {
                        server.wait("it is connected", || is_connected(&client));
                    }
                    client
                })
                .collect();
            let connected = || clients.iter().filter(|client| is_connected(client)).count();
            // one connection may wait in the accept that the worker has armed already
            let found = connected();
            assert!((at_once..=at_once + 1).contains(&found), "somaxconn={somaxconn}: {found}");
            // the kernel has been asked by the others as well, and had no room
            let turned_away = || counter("ListenOverflows") - before;
            server.wait("the others are turned away", || turned_away() >= (CLIENTS - found) as u64);
            kill(worker, "CONT");
            server.wait("all are connected", || connected() == CLIENTS);
            let overflows = counter("ListenOverflows") - before;
            assert_eq!(overflows == 0, found == CLIENTS);
            eprintln!(
                "somaxconn={somaxconn}: {found} of {CLIENTS} connected at once, all after {:?}; ListenOverflows {overflows}",
                start.elapsed()
            );
        }
    });
}

#[test]
fn half_open_connections_are_bounded_by_tcp_max_syn_backlog_only_without_syn_cookies() {
    let name = "half_open_connections_are_bounded_by_tcp_max_syn_backlog_only_without_syn_cookies";
    in_own_network(name, || {
        const SYNS: u16 = 1000;
        // answers to 10.9.0.0/16 come back to this machine, which is nobody there: they are dropped
        let ip = |arguments: &str| {
            let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
            assert!(status.success(), "ip {arguments}");
        };
        ip("addr add 192.168.77.1/32 dev lo");
        ip("route add 10.9.0.0/16 dev lo");
        set("net.ipv4.conf.all.rp_filter", 0);
        set("net.ipv4.conf.lo.rp_filter", 0);
        for (port, cookies, max, remembered) in
            [(8081, 0, 64, 49), (8082, 0, 4096, 1000), (8083, 1, 64, 1000)]
        {
            set("net.ipv4.tcp_syncookies", cookies);
            set("net.ipv4.tcp_max_syn_backlog", max);
            set("net.core.somaxconn", 4096);
            let server = Server::spawn(
                Program::Uringd
                    .command(&["--workers", "1", "--listen", &format!("192.168.77.1:{port}")])
                    .arg("--backlog=4096"),
            );
            server.wait_until_whole();
            let raw =
                socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
            for number in 0..SYNS {
                let packet = syn([10, 9, (number / 250) as u8, 1 + (number % 250) as u8], v4(&server));
                sendto(raw.as_raw_fd(), &packet, &SockaddrIn::from(v4(&server)), MsgFlags::empty()).unwrap();
                // no more than the kernel lets wait for a core
                if number % 100 == 99 {
                    let arrived = remembered.min(usize::from(number) + 1);
                    server.wait("SYNs have arrived", || half_open(port) == arrived);
                }
            }
            let found =
                wait_until_still("all SYNs have arrived", Duration::from_millis(300), || half_open(port));
            eprintln!("tcp_syncookies={cookies} tcp_max_syn_backlog={max}: {found} of {SYNS} remembered");
            assert_eq!(found, remembered);
        }
    });
}

/// A TCP segment that begins a connection, in an IPv4 packet (RFC 9293 section 3.1, RFC 791 section 3.1).
fn syn(from: [u8; 4], to: SocketAddrV4) -> Vec<u8> {
    let mut tcp = [0_u8; 20];
    tcp[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[7] = 1; // sequence number
    tcp[12] = 5 << 4; // header length
    tcp[13] = 2; // SYN
    tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    let pseudo = [&from[..], &to.ip().octets(), &[0, 6, 0, 20], &tcp].concat();
    tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    // the kernel fills in lengths and checksum
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend(from);
    packet.extend(to.ip().octets());
    packet.extend(tcp);
    packet
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Connections of this port in SYN_RECV.
fn half_open(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields[1].ends_with(&local) && fields[3] == "03").count()
}

#[test]
fn ports_run_out_for_connections_that_begin_here_and_not_for_clients() {
    in_own_network("ports_run_out_for_connections_that_begin_here_and_not_for_clients", || {
        set("net.ipv4.ip_local_port_range", "40000 40009");
        // 2, the default, lets connections on loopback have a remembered port again when a second has passed
        set("net.ipv4.tcp_tw_reuse", 0);
        let server = Server::spawn(&mut Program::Uringd.command(&[
            "--workers",
            "1",
            "--listen",
            "127.0.0.1:8080",
            "--listen",
            "127.0.0.2:8080",
        ]));
        server.wait_until_whole();
        let mut clients: Vec<TcpStream> = (0..10)
            .map(|number| {
                TcpStream::connect("127.0.0.1:8080").unwrap_or_else(|error| panic!("{number}: {error}"))
            })
            .collect();
        let exhausted = || TcpStream::connect("127.0.0.1:8080").unwrap_err().raw_os_error();
        assert_eq!(exhausted(), Some(libc::EADDRNOTAVAIL), "the 11th");
        drop(TcpStream::connect("127.0.0.2:8080").expect("another address has as many"));
        server.wait("all are held", || server.held_connections() >= 10);
        // this end closes first and has to remember them
        clients.drain(..).for_each(drop);
        server.wait("they are closed", || server.held_connections() == 0);
        assert_eq!(exhausted(), Some(libc::EADDRNOTAVAIL), "TIME_WAIT");
        eprintln!(
            "10 ports: the 11th connection to one address fails, and so does the next after all are closed"
        );
    });
}

#[test]
fn a_low_limit_of_descriptors_makes_clients_wait() {
    for (limit, expected) in [(128, 64), (4096, 80)] {
        // nobody's place becomes free by time
        let patient = ["--keep-alive-timeout", "5m", "--header-timeout", "5m"];
        let wanted = ["--listen", "127.0.0.1:0", "--workers", "1"];
        let wanted = Program::Uringd.command(&[&wanted[..], &patient].concat());
        let server = Server::spawn(&mut through(&["prlimit", &format!("--nofile={limit}:{limit}")], &wanted));
        server.wait_until_whole();
        let mut clients: Vec<Client> = (0..80).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            client.stream.set_nonblocking(true).unwrap();
        }
        let is_answered = |client: &Client| client.stream.peek(&mut [0; 1]).is_ok_and(|octets| octets > 0);
        let answered = |clients: &[Client]| clients.iter().filter(|client| is_answered(client)).count();
        server.wait("as many as may are answered", || answered(&clients) >= expected);
        let found = wait_until_still("no more are", Duration::from_millis(200), || answered(&clients));
        assert_eq!(found, expected);
        eprintln!("RLIMIT_NOFILE={limit}: {found} of 80 clients are served at a time");
        clients.retain(|client| !is_answered(client));
        server.wait("those that waited are answered", || answered(&clients) == clients.len());
    }
}

#[test]
fn a_workers_ring_is_charged_to_the_lockable_memory() {
    if !charges_rings() {
        return skip("this kernel does not charge rings to RLIMIT_MEMLOCK (6.14 and newer do)");
    }
    if !is_root() {
        return skip("it takes root to become a user whose rings are no other test's");
    }
    let (_directory, copy) = for_everybody();
    let start = |workers: &str, kibibytes: u64| {
        let mut wanted = bare_command(&copy);
        wanted.args(["--log-format", "json", "--listen", "127.0.0.1:0", "--workers", workers]);
        Server::launch(&mut with_lockable(kibibytes * 1024, &wanted))
    };
    for (workers, kibibytes) in [("1", 72), ("2", 144)] {
        let server = start(workers, kibibytes);
        server.wait_until_whole();
        eprintln!("{workers} worker(s) start with RLIMIT_MEMLOCK={kibibytes}KiB");
    }
    let mut short = start("1", 71);
    assert_eq!(short.wait_exit().code(), Some(1));
    short.wait_gone();
    let lines = short.log();
    let named = |line: &serde_json::Value| {
        line.as_str().is_some_and(|line| line.contains("RLIMIT_MEMLOCK is 72704 bytes"))
    };
    assert!(lines.iter().any(named), "{lines:#?}");
    eprintln!("1 worker does not start with RLIMIT_MEMLOCK=71KiB");
}
