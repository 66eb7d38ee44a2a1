//! What the tests share: the real program in its own process group, its log as events, and a plain HTTP client.
//! Everything waits for events with a deadline; nothing sleeps for luck; no process is left behind.
#![allow(dead_code, missing_docs, reason = "each test file uses its part of it")]

pub mod filter;
#[cfg(feature = "load")]
pub mod load;
pub mod sockets;

use nix::fcntl::{FcntlArg, fcntl};
use serde_json::Value;
use sockets::Sockets;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// Longer than anything here takes on a busy machine; shorter than the minute for which the examples block.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Which program.
#[derive(Clone, Copy)]
pub enum Program {
    Uringd,
    /// `examples/faulty.rs`.
    Faulty,
    /// `examples/mirror.rs`.
    Mirror,
    /// `examples/messages.rs`.
    Messages,
    /// `examples/later.rs`.
    Later,
    /// `examples/events.rs`.
    Events,
    /// `examples/upload.rs`.
    Upload,
    /// `examples/offload.rs`.
    Offload,
    /// `examples/arena.rs`.
    Arena,
}

/// A process and those that it starts, in a group of their own (as [`bare_command`] has it) that ends with this value.
pub struct Group(pub Child);

/// A running master with its workers.
pub struct Server {
    group: Group,
    log: Arc<Log>,
    pub address: SocketAddr,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<Value>, bool)>,
    more: Condvar,
}

impl Program {
    pub fn path(self) -> PathBuf {
        let uringd = PathBuf::from(env!("CARGO_BIN_EXE_uringd"));
        let example = match self {
            Program::Uringd => return uringd,
            Program::Faulty => "faulty",
            Program::Mirror => "mirror",
            Program::Messages => "messages",
            Program::Later => "later",
            Program::Events => "events",
            Program::Upload => "upload",
            Program::Offload => "offload",
            Program::Arena => "arena",
        };
        uringd.with_file_name("examples").join(example)
    }

    /// The bare command: no URINGD_* variable, a process group of its own, JSON log on a pipe.
    pub fn command(self, arguments: &[&str]) -> Command {
        let mut command = bare_command(&self.path());
        command.args(["--log-format", "json", "--log-level", "debug"]).args(arguments);
        command
    }
}

/// Any command in a process group of its own, without URINGD_* variables (but for a control socket that is off) and with stderr on a pipe.
pub fn bare_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("URINGD_")) {
        command.env_remove(name);
    }
    // by default it is named by the port, in a directory that all share; --control PATH is stronger
    command.env("URINGD_CONTROL", "off");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    command
}

/// The same command, started by another one that executes its arguments.
pub fn through(wrapper: &[&str], command: &Command) -> Command {
    let mut wrapped = bare_command(Path::new(wrapper[0]));
    wrapped.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    wrapped
}

/// Runs this part of a test in a network of its own, whose sysctls are nobody else's: the test's executable is started
/// again there. `test` is the name of the test that calls this.
pub fn in_own_network(test: &str, body: impl FnOnce()) {
    const INSIDE: &str = "URINGD_TEST_IN_OWN_NETWORK";
    if std::env::var_os(INSIDE).is_some() {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "needs the program ip");
        return body();
    }
    let try_it = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status();
    if !try_it.is_ok_and(|status| status.success()) {
        return skip("network namespaces are not allowed here");
    }
    let myself = std::env::current_exe().unwrap();
    let mut again = Command::new("unshare");
    again.arg("--net").arg(myself).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
    eprint!("{said}");
}

/// The program where every user can start it: another user may not be able to reach the target directory.
pub fn for_everybody() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let copy = copy_for_everybody(&Program::Uringd.path(), directory.path());
    (directory, copy)
}

/// Copies a program into a directory, which everybody may then enter. Another process writes the copy: a program cannot be
/// executed while it is open for writing, and what other tests start meanwhile would have it open with us.
pub fn copy_for_everybody(program: &Path, directory: &Path) -> PathBuf {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.join(program.file_name().unwrap());
    assert!(Command::new("install").args(["-m", "755"]).args([program, &copy]).status().unwrap().success());
    copy
}

/// The same command under this RLIMIT_MEMLOCK. It is for all of a user's processes together and does not bind root: root
/// runs it as a user that nobody else is.
pub fn with_lockable(octets: u64, command: &Command) -> Command {
    static USER: AtomicU32 = AtomicU32::new(0);
    let mut limited = through(&["prlimit", &format!("--memlock={octets}:{octets}")], command);
    if is_root() {
        let user = 70_000 + std::process::id() * 64 + USER.fetch_add(1, Ordering::Relaxed);
        limited.uid(user).gid(user);
    }
    limited
}

/// Whether this kernel charges rings to RLIMIT_MEMLOCK: from 6.14 on.
pub fn charges_rings() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
}

/// Writes a script that can be started at once: as [`copy_for_everybody`] does, through another process.
pub fn write_program(path: &Path, text: &str) {
    let mut install = Command::new("install");
    let mut install =
        install.args(["-m", "700", "/dev/stdin"]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
}

impl Group {
    pub fn start(command: &mut Command) -> Group {
        Group(command.spawn().expect("the program starts"))
    }

    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Has it end as with Ctrl-C; gives what it has written to its standard output, which is a pipe.
    pub fn interrupt(mut self) -> String {
        kill(self.pid(), "INT");
        let mut written = String::new();
        self.0.stdout.take().expect("a pipe").read_to_string(&mut written).unwrap();
        written
    }
}

impl Server {
    /// Starts it on a port of the kernel's choice and waits until every worker listens.
    pub fn start(program: Program, arguments: &[&str]) -> Server {
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend(arguments);
        let server = Server::spawn(&mut program.command(&all));
        server.wait_until_whole();
        server
    }

    /// Starts this command and waits for nothing: its log may be text (strings in the log), its end may be near.
    pub fn launch(command: &mut Command) -> Server {
        let mut group = Group::start(command);
        let log = Arc::new(Log::default());
        let stderr = group.0.stderr.take().expect("a pipe");
        // what finds no room is left out of the log: there is some for seconds in which nobody here gets to read
        let _ = fcntl(&stderr, FcntlArg::F_SETPIPE_SZ(1 << 20));
        let reader = Arc::clone(&log);
        std::thread::spawn(move || reader.follow(stderr));
        Server { group, log, address: ([127, 0, 0, 1], 0).into() }
    }

    /// Starts this command and waits until it is bound.
    pub fn spawn(command: &mut Command) -> Server {
        let mut server = Server::launch(command);
        let setup = server.wait_for("setup", |event| event["event"] == "setup");
        let addresses = setup["addresses"].as_str().expect("addresses").to_owned();
        if let Some(address) = addresses.split(' ').find_map(|address| address.parse().ok()) {
            server.address = address;
        }
        server
    }

    /// Waits until as many workers listen as the setup event says.
    pub fn wait_until_whole(&self) {
        let wanted =
            self.wait_for("setup", |event| event["event"] == "setup")["workers"].as_u64().unwrap() as usize;
        self.wait("the pool is whole", || self.listening().len() >= wanted);
    }

    pub fn pid(&self) -> i32 {
        self.group.pid()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sends a signal to the master.
    pub fn signal(&self, signal: &str) {
        kill(self.pid(), signal);
    }

    /// All log lines so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lines.lock().unwrap().0.clone()
    }

    /// All events of this name so far, in order.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.log().into_iter().filter(|line| line["event"] == name).collect()
    }

    /// Workers that listen and have not exited: (slot, pid), by slot.
    pub fn listening(&self) -> Vec<(u64, i32)> {
        let mut listening: Vec<(u64, i32)> = vec![];
        for line in self.log() {
            let pid = line["pid"].as_i64().unwrap_or(0) as i32;
            match line["event"].as_str() {
                Some("listening") => listening.push((line["slot"].as_u64().unwrap(), pid)),
                Some("exit") => listening.retain(|(_, other)| *other != pid),
                _ => {}
            }
        }
        listening.sort_unstable();
        listening
    }

    /// The first log line, past or future, that satisfies `wanted`.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_after(0, what, wanted).1
    }

    /// The first one from the `after`th line on, and its place.
    pub fn wait_for_after(
        &self,
        after: usize,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> (usize, Value) {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            if let Some(place) = (after..lines.0.len()).find(|place| wanted(&lines.0[*place])) {
                return (place, lines.0[place].clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.1 {
                let all: Vec<String> = lines.0.iter().map(ToString::to_string).collect();
                drop(lines);
                panic!("no {what:?} in time; the log:\n{}", all.join("\n"));
            }
            lines = self.log.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until something is so, looking again whenever the log grows (and every 10 ms).
    pub fn wait(&self, what: &str, mut so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so() {
            if Instant::now() >= deadline {
                let all: Vec<String> = self.log().iter().map(ToString::to_string).collect();
                panic!("not in time: {what}; the log:\n{}", all.join("\n"));
            }
            let lines = self.log.lines.lock().unwrap();
            let _ = self.log.more.wait_timeout(lines, Duration::from_millis(10)).unwrap();
        }
    }

    /// Waits until nobody can write to the log any more and no process of the group is left.
    pub fn wait_gone(&self) {
        let lines = self.log.lines.lock().unwrap();
        let (lines, _) = self.log.more.wait_timeout_while(lines, PATIENCE, |lines| !lines.1).unwrap();
        assert!(lines.1, "somebody still has stderr open; the log:\n{:#?}", lines.0);
        drop(lines);
        // descriptors are closed a moment before a process is gone
        self.wait("no process is left", || self.processes().is_empty());
    }

    /// Waits for the master to end, and gives how.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.group.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the master does not end; the log:\n{:#?}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Processes of this server's group that are not zombies, the master included.
    pub fn processes(&self) -> Vec<i32> {
        group_members(self.pid())
    }

    /// How many connections the workers hold: the direct descriptors of their rings. Of a client that has reset, the kernel
    /// forgets the socket at once; the worker holds its end until it has seen that and has done what follows from it.
    pub fn held_connections(&self) -> usize {
        self.processes().into_iter().map(direct_descriptors).sum()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Has one worker of `examples/faulty.rs` block for so long; when this returns, it does. Gives the client that
    /// waits for it, and which worker it is.
    pub fn block(&self, ms: u32) -> (Client, i32) {
        self.have_blocked(&format!("ms={ms}"))
    }

    /// The same for as long as this file, which is made here, is there.
    pub fn block_while(&self, file: &Path) -> (Client, i32) {
        fs::write(file, "").unwrap();
        self.have_blocked(&format!("while={}", file.display()))
    }

    fn have_blocked(&self, how_long: &str) -> (Client, i32) {
        let mut client = self.connect();
        let pid = client.get("/pid").pid();
        client.send(format!("GET /block?{how_long} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.wait_until_blocked(pid);
        (client, pid)
    }

    /// Waits until this worker of `examples/faulty.rs` blocks: then its thread is called that.
    pub fn wait_until_blocked(&self, pid: i32) {
        self.wait("the worker blocks", || {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "blocked\n")
        });
    }

    /// Has this process stand still until it gets SIGCONT; when this returns, it does.
    pub fn stop(&self, pid: i32) {
        kill(pid, "STOP");
        let is_stopped = |thread: fs::DirEntry| {
            let status = fs::read_to_string(thread.path().join("status"));
            status.is_ok_and(|status| status.contains("\nState:\tT"))
        };
        self.wait("all its threads stand still", || {
            fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.flatten().all(is_stopped))
        });
    }

    /// One request on a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        self.connect().get_and_close(path)
    }
}

/// Waits until what is read has been the same for so long, and many times: who waits for a core moves no more than who has
/// nothing to do. Gives what it is.
pub fn wait_until_still<T: PartialEq>(what: &str, long: Duration, read: impl Fn() -> T) -> T {
    const LOOKS: usize = 20;
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut since, mut looks) = (read(), Instant::now(), 0);
    while since.elapsed() < long || looks < LOOKS {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
        let now = read();
        looks += 1;
        if now != last {
            (last, since, looks) = (now, Instant::now(), 0);
        }
    }
    last
}

/// An address of this machine, one of 127.0.0.0/8, that is nobody else's: a port of it that is free stays so, and one that
/// was given back nobody takes.
pub fn own_address() -> Ipv4Addr {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    Ipv4Addr::new(127, 1 + (process >> 8) as u8 % 254, process as u8, 1 + (number % 254) as u8)
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.pid();
        let _ =
            Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
        let deadline = Instant::now() + PATIENCE;
        while !group_members(group).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Log {
    fn follow(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
            self.lines.lock().unwrap().0.push(value);
            self.more.notify_all();
        }
        self.lines.lock().unwrap().1 = true;
        self.more.notify_all();
    }
}

/// One keep-alive connection.
pub struct Client<S = TcpStream> {
    pub stream: S,
    unread: Vec<u8>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }

    /// The process ID that `/pid` and `/` answer with.
    pub fn pid(&self) -> i32 {
        self.text().rsplit(' ').next().unwrap().parse().expect("a process ID")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// What two answers of different seconds have in common.
    pub fn dateless_head(&self) -> Vec<&str> {
        self.head.lines().filter(|line| !line.starts_with("Date: ")).collect()
    }

    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).expect("a connection")
    }

    pub fn try_connect(address: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client::over(stream))
    }

    /// When this returns the server has taken it out of its socket, if the kernel can say so. All answers to what was sent
    /// before are here.
    pub fn send_and_wait_until_read(&mut self, octets: impl AsRef<[u8]>) {
        let (near, far) = (self.stream.local_addr().unwrap(), self.stream.peer_addr().unwrap());
        let sockets = Sockets::open();
        let received = |sockets: &Sockets| sockets.end(far, near)?.received;
        let before = sockets.as_ref().and_then(received);
        self.send(&octets);
        let (Some(sockets), Some(before)) = (sockets, before) else { return };
        sockets.wait_until_read(before + octets.as_ref().len() as u64, far, near);
    }

    /// Closes with a reset instead of a FIN.
    pub fn reset(self) {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&self.stream, nix::sys::socket::sockopt::Linger, &at_once).unwrap();
    }
}

impl Client<UnixStream> {
    pub fn connect_unix(path: &Path) -> Client<UnixStream> {
        let stream = UnixStream::connect(path).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub fn over(stream: S) -> Client<S> {
        Client { stream, unread: vec![] }
    }

    /// Sends what the server only reads on for, and answers no more: for two seconds from its last answer, which comes after
    /// `since`.
    pub fn send_in_vain(&mut self, octets: impl AsRef<[u8]>, since: Instant) {
        let sent = self.stream.write_all(octets.as_ref());
        assert!(sent.is_ok() || since.elapsed() >= Duration::from_secs(2), "the server takes it: {sent:?}");
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes it");
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.try_get(path).expect("an answer")
    }

    pub fn try_get(&mut self, path: &str) -> std::io::Result<Answer> {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())?;
        self.read_answer()
    }

    pub fn get_and_close(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
        self.read_answer().expect("an answer")
    }

    /// Reads one response with a Content-Length (or a 204).
    pub fn read_answer(&mut self) -> std::io::Result<Answer> {
        let mut answer = self.read_head()?;
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        answer.body = self.read_octets(length)?;
        Ok(answer)
    }

    /// Reads exactly as many octets of content.
    pub fn read_octets(&mut self, octets: usize) -> std::io::Result<Vec<u8>> {
        while self.unread.len() < octets {
            self.read_more()?;
        }
        Ok(self.unread.drain(..octets).collect())
    }

    /// What was received and nobody has asked for yet.
    pub fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    /// Reads the head of one response: all there is of an answer to HEAD.
    pub fn read_head(&mut self) -> std::io::Result<Answer> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more()?;
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).expect("a head of text");
        let status = head[9..12].parse().expect("a status");
        Ok(Answer { status, head, body: vec![] })
    }

    /// Reads until the server closes; gives what came before. An error says how it ended otherwise.
    pub fn read_to_end(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            match self.read_more() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.unread));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read_more(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 65536];
        let octets = read_some(&mut self.stream, &mut buffer)?;
        match octets {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            octets => {
                self.unread.extend_from_slice(&buffer[..octets]);
                Ok(())
            }
        }
    }
}

/// When this line of a server's log was written.
pub fn time_of(line: &Value) -> SystemTime {
    humantime::parse_rfc3339(line["timestamp"].as_str().expect("a time")).expect("a time")
}

/// A read with a timeout is interrupted even by signals that are ignored, such as SIGCHLD: the kernel cannot ignore that
/// one at once while the thread whose child it was is starting another and so blocks signals.
pub fn read_some(stream: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Leaves a socket's file at which nobody listens.
pub fn leave_dead_socket(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    // what another test starts has copies of all descriptors from its fork until it is executed
    let deadline = Instant::now() + PATIENCE;
    while UnixStream::connect(path).is_ok() {
        assert!(Instant::now() < deadline, "somebody listens at {}", path.display());
        // each of these fills the backlog
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn kill(pid: i32, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{signal} {pid}");
}

/// A field of /proc/PID/status, such as `RssAnon`, without its unit.
pub fn status_field(pid: i32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")))?;
    Some(line.trim().trim_end_matches(" kB").to_owned())
}

/// Anonymous memory in KiB.
pub fn rss_anon(pid: i32) -> u64 {
    status_field(pid, "RssAnon").expect("a running process").parse().unwrap()
}

pub fn descriptors(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("a running process");
    entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.display().to_string())
        .collect()
}

/// How many files are registered with the rings of a process; none if it has ended.
fn direct_descriptors(pid: i32) -> usize {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let is_ring =
        |path: &PathBuf| fs::read_link(path).is_ok_and(|link| link.ends_with("anon_inode:[io_uring]"));
    let rings = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_ring);
    let count = |ring: PathBuf| {
        let number = ring.file_name().unwrap().to_str().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Ok(text) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")) else { return 0 };
            // while the ring is at work the kernel says nothing; older ones name the empty places as well
            if let Some((_, rest)) = text.split_once("\nUserFiles:") {
                let is_place = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
                let places = rest.lines().skip(1).take_while(is_place);
                return places.filter(|place| !place.ends_with("<none>")).count();
            }
            assert!(Instant::now() < deadline, "the ring of process {pid} is at work all the time");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    rings.map(count).sum()
}

/// The pids of a process's children, zombies included.
pub fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Members of a process group that are not zombies.
pub fn group_members(group: i32) -> Vec<i32> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|pid: &i32| {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            fields[0] != "Z" && fields[2].parse() == Ok(group)
        })
        .collect()
}

pub fn is_root() -> bool {
    status_field(std::process::id() as i32, "Uid").is_some_and(|uid| uid.starts_with('0'))
}

/// Says with its end that it is over, also when a check fails: the threads of a scope that go on until then would keep a
/// failure waiting for ever.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Says why a test does nothing here, so that nobody takes its pass for more.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}
