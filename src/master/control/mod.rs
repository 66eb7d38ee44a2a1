//! Where a running master is asked and told: the control socket (`--control`, for `uringd ctl` and curl) and the metrics
//! address (`--metrics`). Both speak HTTP. All of it runs on threads of the master's: one that accepts and one for each
//! connection. They reach the loop through `master::ask`, and the loop never waits for them.
//!
//! Reading order: `place` (where the socket is), `guests` (who may come in), `wire` and `connection` (bytes), `routes` (what
//! can be asked), `view`, `metrics`, `health` (what is answered).
//!
//! Neighbours: `master::run` opens it before the first worker is started and finishes it when the last one is gone;
//! `master::listeners` binds.

mod connection;
mod guests;
mod health;
mod metrics;
pub(crate) mod place;
mod routes;
mod view;
mod wire;

use super::Pool;
use super::listeners::{self, Bound};
use crate::config::{Config, Control, Listen};
use crate::error::{Error, Result};
use crate::http::{Request, Status};
use crate::sys::socket::accept;
use guests::{CONNECTIONS_MAX, Door, Guests, Manner, Room};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{Shutdown, getsockopt, shutdown};
use nix::unistd::geteuid;
use routes::{Caller, LOOP_PATIENCE, Rights};
use std::fs::DirBuilder;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use wire::Wire;

/// Clients that may wait to be accepted, as with nginx; the kernel has its own limit (net.core.somaxconn).
const BACKLOG: u32 = 511;

/// Permissions of the control socket.
const MODE: u32 = 0o600;

/// How long a client may take for a request, and for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long who is turned away may take to hear it.
const TURNING_AWAY: Duration = Duration::from_secs(1);

/// How often it is looked meanwhile who takes nothing.
const LOOK: Duration = Duration::from_millis(100);

/// How long nobody is accepted after that has failed: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module's comment. Dropped without `finish`, it only takes the sockets' files away.
pub struct Sockets {
    control: Option<Bound>,
    metrics: Option<Bound>,
    house: Arc<House>,
}

/// What all threads share.
struct House {
    pool: Pool,
    guests: Mutex<Guests>,
    /// Rung for each guest that leaves.
    left: Condvar,
    closing: AtomicBool,
    /// Has the accepting thread look at `closing`, and again at doors where somebody waits in front.
    bell: EventFd,
}

/// Leaves when it is dropped, whatever became of its thread.
struct Guest {
    number: u64,
    house: Arc<House>,
    /// Or turned away.
    admitted: bool,
}

impl Sockets {
    /// Binds what is asked for and begins to answer. The signals must be blocked already: there are other threads from here
    /// on. `served` is where the workers listen, as bound: the control socket is named after it.
    ///
    /// # Errors
    /// An address or path that was asked for and cannot be had. Where nobody has asked for a control socket and there is no
    /// place for one, the log says so, and there is none.
    pub fn open(config: &Config, served: &[Listen], pool: &Pool) -> Result<Sockets> {
        let control = match &config.control {
            Control::Off => None,
            Control::Path(path) => Some(bind(&Listen::Unix(path.clone()), MODE, "--control")?),
            Control::Auto => {
                let runtime = std::env::var_os("XDG_RUNTIME_DIR");
                bind_first(&place::candidates(served, &place::directories(runtime.as_deref())))
                    .inspect_err(|problem| tracing::warn!("no control socket: {problem}"))
                    .ok()
            }
        };
        let metrics = config.metrics.as_ref();
        let metrics = metrics.map(|address| bind(address, config.unix_mode, "--metrics")).transpose()?;
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| Error::io("make an eventfd", errno))?;
        let house = House {
            pool: pool.clone(),
            guests: Mutex::default(),
            left: Condvar::new(),
            closing: AtomicBool::new(false),
            bell,
        };
        let sockets = Sockets { control, metrics, house: Arc::new(house) };
        sockets.listen()?;
        Ok(sockets)
    }

    /// Where the control socket is.
    pub fn control_path(&self) -> Option<&Path> {
        match &self.control.as_ref()?.address {
            Listen::Unix(path) => Some(path),
            Listen::DualStack(_) | Listen::Tcp(_) => None,
        }
    }

    /// The last worker is gone and the loop is over: whoever waits is told so, and the files are taken away.
    pub fn finish(self) {
        let mut guests = self.house.guests();
        self.house.closing.store(true, Ordering::Relaxed);
        let _ = self.house.bell.write(1);
        for guest in guests.present.values() {
            // who has nothing to hear reads our end; what is being written goes out
            let _ = shutdown(guest.socket.as_raw_fd(), Shutdown::Read);
        }
        let begun = Instant::now();
        while guests.are_worth_waiting_for(begun.elapsed()) {
            guests = match self.house.left.wait_timeout(guests, LOOK) {
                Ok((guests, _)) => guests,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn listen(&self) -> Result<()> {
        let door = |door, bound: &Option<Bound>| Some((door, Arc::clone(&bound.as_ref()?.socket)));
        let doors = [door(Door::Control, &self.control), door(Door::Metrics, &self.metrics)];
        let doors: Vec<_> = doors.into_iter().flatten().collect();
        if doors.is_empty() {
            return Ok(());
        }
        let address = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.address.to_string());
        tracing::info!(
            control = self.control_path().map(|path| path.display().to_string()),
            metrics = address(&self.metrics),
            "answering operators"
        );
        let house = Arc::clone(&self.house);
        let thread = thread::Builder::new().name("control".into());
        let listening = thread.spawn(move || house.listen(&doors));
        listening.map(drop).map_err(|error| Error::io("start a thread", error))
    }
}

fn bind(address: &Listen, mode: u32, option: &str) -> Result<Bound> {
    let bound = listeners::bind_all(std::slice::from_ref(address), BACKLOG, mode);
    bound.map(|mut all| all.remove(0)).map_err(|error| explain(error, option))
}

/// The same errors as those of `--listen`, with the remedy that is right here.
fn explain(error: Error, option: &str) -> Error {
    let (address, problem) = match error {
        Error::AddressInUse { address } => {
            (address, format!("another process holds it; stop that one or choose another {option}"))
        }
        Error::PortForbidden { address, first_free } => (
            address,
            format!("ports below {first_free} need root or CAP_NET_BIND_SERVICE; choose a higher {option}"),
        ),
        Error::AddressUnavailable { address } => {
            (address, format!("this machine has no such address; see `ip address` and correct {option}"))
        }
        Error::Listen { address, source } => (address, format!("{source}; choose another {option}")),
        other => return other,
    };
    Error::Listen { address, source: std::io::Error::other(problem) }
}

/// The first place that can be had. Where all that this server may be called after are somebody else's who answers, there
/// is none: whoever looks for it would find the other one.
fn bind_first(candidates: &[PathBuf]) -> std::result::Result<Bound, String> {
    const REMEDY: &str = "give a place with --control PATH, or say --control off";
    let mut problems = Vec::new();
    for (number, path) in candidates.iter().enumerate() {
        if let Some(directory) = path.parent() {
            // what is wrong is what bind says of it
            let _ = DirBuilder::new().mode(0o755).create(directory);
        }
        let address = Listen::Unix(path.clone());
        match listeners::bind_all(&[address], BACKLOG, MODE) {
            Ok(mut all) => return Ok(all.remove(0)),
            Err(Error::AddressInUse { .. }) => {
                problems.push(format!("another server answers at {}", path.display()));
                // the next name in the same directory, but no other directory
                if !candidates.iter().skip(number + 1).any(|next| next.parent() == path.parent()) {
                    break;
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    Err(format!("{}; {REMEDY}", problems.join("; ")))
}

impl House {
    /// Accepts until the end.
    fn listen(self: &Arc<House>, doors: &[(Door, Arc<OwnedFd>)]) {
        let mut failed = false;
        loop {
            let is_open = |door| !failed && self.guests().opens(door, Instant::now());
            let listening = doors.iter().filter(|(door, _)| is_open(*door)).map(|(_, socket)| socket.as_fd());
            let mut fds: Vec<PollFd<'_>> = [self.bell.as_fd()]
                .into_iter()
                .chain(listening)
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            let pause = if failed { PollTimeout::from(PAUSE.as_millis() as u8) } else { PollTimeout::NONE };
            let _ = poll(&mut fds, pause);
            let _ = self.bell.read();
            if self.closing.load(Ordering::Relaxed) {
                return;
            }
            let accepted: Vec<_> = doors.iter().map(|(door, socket)| self.accept(*door, socket)).collect();
            let problem = accepted.into_iter().find_map(std::result::Result::err);
            if let Some(errno) = problem.filter(|_| !failed) {
                tracing::warn!(%errno, "the control socket cannot accept");
            }
            failed = problem.is_some();
        }
    }

    /// Those who wait, but not for ever: whoever floods one door keeps nobody from the other.
    fn accept(self: &Arc<House>, door: Door, listener: &OwnedFd) -> std::result::Result<(), Errno> {
        for _ in 0..BACKLOG {
            let mut guests = self.guests();
            let (now, closing) = (Instant::now(), self.closing.load(Ordering::Relaxed));
            let room = guests.room(door, now);
            if room == Room::Later || closing {
                return Ok(());
            }
            match accept(listener.as_fd()) {
                Ok((socket, _)) => {
                    let socket = Arc::new(socket);
                    let number = guests.receive(door, Arc::clone(&socket), room, now);
                    drop(guests);
                    let guest = Guest { number, house: Arc::clone(self), admitted: room != Room::Full };
                    self.welcome(door, socket, guest);
                }
                Err(Errno::EAGAIN) => return Ok(()),
                // what has become of one client says nothing about the next (accept(2))
                Err(Errno::EINTR | Errno::ECONNABORTED | Errno::EPERM | Errno::EPROTO) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn welcome(&self, door: Door, socket: Arc<OwnedFd>, guest: Guest) {
        let rights = match door {
            Door::Metrics => Rights::Public,
            Door::Control if is_operator(&socket) => Rights::Operator,
            Door::Control => Rights::Stranger,
        };
        let (wire, watched) = (Wire::new(Arc::clone(&socket)), Wire::new(socket));
        let serve = move || {
            let guest = guest;
            if !guest.admitted {
                return turn_away(wire);
            }
            let house = &guest.house;
            let has_left = || watched.is_hung_up();
            let caller = Caller { rights, pool: &house.pool, patience: LOOP_PATIENCE, has_left: &has_left };
            let answer = |request: &Request<'_>| routes::answer(request, &caller);
            let note = |manner, since| house.note(guest.number, manner, since);
            // a client that breaks off is nobody's trouble
            let _ = connection::serve(wire, answer, note, &house.closing, PATIENCE);
        };
        if let Err(error) = thread::Builder::new().name("control".into()).spawn(serve) {
            tracing::warn!(%error, "the control socket cannot start a thread");
        }
    }

    fn note(&self, number: u64, manner: Manner, since: Instant) {
        let mut guests = self.guests();
        if let Some(door) = guests.note(number, manner, since) {
            self.ring_for_who_waits(&guests, door);
        }
    }

    fn ring_for_who_waits(&self, guests: &Guests, door: Door) {
        if guests.closed.contains(&door) {
            let _ = self.bell.write(1);
        }
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.house.guests();
        let Some(gone) = guests.present.remove(&self.number) else { return };
        self.house.ring_for_who_waits(&guests, gone.door);
        self.house.left.notify_all();
    }
}

/// Root, or who has started this server (unix(7), SO_PEERCRED: as it was when it connected).
fn is_operator(socket: &OwnedFd) -> bool {
    let peer = getsockopt(socket, PeerCredentials).map(|credentials| credentials.uid());
    peer.is_ok_and(|uid| uid == 0 || uid == geteuid().as_raw())
}

/// Says why, and waits a little for the end of what the client says: closed before, the answer might be lost with it.
fn turn_away(mut wire: Wire) {
    let line = format!("{CONNECTIONS_MAX} connections are open already, and none of them is idle");
    let body = format!("{{\"error\":\"{line}\"}}\n");
    let code = Status::SERVICE_UNAVAILABLE;
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        code.code(),
        code.reason(),
        body.len()
    );
    wire.allow(TURNING_AWAY);
    if wire.write_all((head + &body).as_bytes()).is_ok() {
        wire.linger(TURNING_AWAY);
    }
}

#[cfg(test)]
pub(in crate::master) mod tests {
    use super::guests::{LAST_WORDS, Present, SURE};
    use super::*;
    use crate::config::Options;
    use crate::event::WorkerId;
    use crate::master::ask::{Course, Restarts, Status, WorkerStatus};
    use crate::master::lifecycle::Phase;
    use crate::sys::testing::wait_until_refused;
    use nix::sys::socket::{MsgFlags, recv};
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    /// A pool of two that serves, and nobody in it.
    pub fn status() -> Status {
        Status {
            pid: std::process::id(),
            version: "0.0.0",
            started: 1e9,
            uptime: 60.0,
            course: Course::Serving,
            restarts: Restarts::Allowed,
            reloading: false,
            generation: 1,
            last_reload: None,
            listeners: vec!["127.0.0.1:1".to_owned()],
            wanted: 2,
            workers: vec![],
            exits: BTreeMap::new(),
            forced_kills: 0,
            giveups: 0,
            reloads: [0, 0],
        }
    }

    pub fn worker(id: WorkerId, slot: usize, phase: Phase) -> WorkerStatus {
        let pid = std::process::id() as i32;
        WorkerStatus { id, slot, pid, core: None, phase, started: 1e9, uptime: 5.0, generation: 1 }
    }

    /// A metrics address, and a loop that never answers.
    fn metrics_of_a_loop_that_hangs() -> (Sockets, SocketAddr, crate::master::pool::Orders) {
        let (control, metrics) = (Control::Off, Some("127.0.0.1:0".parse().unwrap()));
        let config = Config::resolve(&Options { control, metrics, ..Options::default() }).unwrap();
        let pool = Pool::new();
        let orders = pool.open().unwrap();
        let sockets = Sockets::open(&config, &[], &pool).unwrap();
        let address = sockets.metrics.as_ref().unwrap().address.socket_addr().unwrap();
        (sockets, address, orders)
    }

    fn busy(sockets: &Sockets) -> usize {
        let guests = sockets.house.guests();
        guests.present.values().filter(|guest| guest.manner == Manner::Busy).count()
    }

    #[test]
    fn who_is_turned_away_hears_why_whatever_he_was_saying() {
        let (sockets, address, _orders) = metrics_of_a_loop_that_hangs();
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        let connect = || {
            let client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client
        };
        let _crowd: Vec<TcpStream> = (0..CONNECTIONS_MAX)
            .map(|_| {
                let mut client = connect();
                client.write_all(request).unwrap();
                client
            })
            .collect();
        while busy(&sockets) < CONNECTIONS_MAX {
            thread::sleep(Duration::from_millis(1));
        }
        // however long this takes, they are sure of their places
        let far = Instant::now() + Duration::from_secs(1000);
        sockets.house.guests().present.values_mut().for_each(|guest| guest.at_it_since = Some(far));
        let mut late = connect();
        // not all of it is waited for
        let _ = late.write_all(&vec![b'x'; 1 << 20]);
        let mut answer = String::new();
        let _ = late.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("none of them is idle"), "{answer}");
        // and then they are not
        let long_ago = Instant::now().checked_sub(2 * SURE);
        sockets.house.guests().present.values_mut().for_each(|guest| guest.at_it_since = long_ago);
        let mut late = connect();
        late.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        late.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// Somebody whose thread is this test, and his own end of the connection.
    fn guest(sockets: &Sockets, number: u64) -> (Guest, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let present = Present {
            door: Door::Metrics,
            socket: Arc::new(ours.into()),
            manner: Manner::Busy,
            since: Instant::now(),
            at_it_since: Some(Instant::now()),
        };
        sockets.house.guests().present.insert(number, present);
        (Guest { number, house: Arc::clone(&sockets.house), admitted: true }, theirs)
    }

    #[test]
    fn who_takes_the_last_word_hears_it_however_late_it_is_said_and_nobody_else_is_waited_for() {
        let (sockets, _, _orders) = metrics_of_a_loop_that_hangs();
        let (late, _client) = guest(&sockets, 1000);
        let (_deaf, deaf_client) = guest(&sockets, 1001);
        let deaf = Arc::clone(&sockets.house.guests().present[&1001].socket);
        while nix::unistd::write(&deaf, &[0; 4096]).is_ok() {}
        let said = Arc::new(AtomicBool::new(false));
        let saying = Arc::clone(&said);
        thread::spawn(move || {
            // as one does that gets no core
            thread::sleep(LAST_WORDS + LAST_WORDS / 2);
            saying.store(true, Ordering::Relaxed);
            drop(late);
        });
        sockets.finish();
        assert!(said.load(Ordering::Relaxed));
        drop(deaf_client);
    }

    #[test]
    fn who_comes_to_a_full_house_waits_in_front_of_it() {
        let (sockets, address, _orders) = metrics_of_a_loop_that_hangs();
        let about_to_go: Vec<_> =
            (1000..).map(|number| guest(&sockets, number)).take(2 * CONNECTIONS_MAX).collect();
        sockets.house.guests().present.values_mut().for_each(|guest| guest.manner = Manner::Leaving);
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let neither_answered_nor_refused = client.read(&mut [0]).unwrap_err().kind();
        assert_eq!(neither_answered_nor_refused, std::io::ErrorKind::WouldBlock);
        drop(about_to_go);
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[test]
    fn who_asks_without_end_has_had_his_turn() {
        use Manner::{Asking, Busy, Idle};
        let (sockets, ..) = metrics_of_a_loop_that_hangs();
        let (_one, mut client) = guest(&sockets, 1000);
        let (house, begun) = (&sockets.house, Instant::now());
        let may_go = |after| house.guests().who_makes_room(Door::Metrics, begun + after).is_some();
        house.note(1000, Idle, begun);
        assert!(may_go(Duration::ZERO), "he asks nothing");
        client.write_all(b"GET").unwrap();
        assert!(!may_go(Duration::MAX / 4), "he has not been heard");
        for _ in 0..3 {
            for manner in [Asking, Busy, Idle] {
                house.note(1000, manner, begun);
                assert!(!may_go(SURE / 2) && may_go(SURE));
            }
        }
        let guest = house.guests().present[&1000].socket.as_raw_fd();
        assert_eq!(recv(guest, &mut [0; 9], MsgFlags::empty()), Ok(3));
        house.note(1000, Asking, begun);
        house.note(1000, Idle, begun);
        client.write_all(b"GET").unwrap();
        house.note(1000, Asking, begun + SURE);
        assert!(!may_go(SURE), "he begins anew");
    }

    #[test]
    fn the_first_place_that_can_be_had_is_taken_but_none_behind_somebodys() {
        let directory = tempfile::tempdir().unwrap();
        let (nowhere, here) = (directory.path().join("a/b/1.sock"), directory.path().join("c/1.sock"));
        let candidates = [nowhere.clone(), here.clone()];
        let bound = bind_first(&candidates).unwrap();
        assert_eq!(bound.address, Listen::Unix(here.clone()));
        drop(bound);
        assert!(!here.exists() && here.parent().unwrap().is_dir());
        let somebodys = UnixListener::bind(&here).unwrap();
        let third = directory.path().join("1.sock");
        let problem = bind_first(&[nowhere.clone(), here.clone(), third.clone()]).unwrap_err();
        assert!(problem.contains(&format!("another server answers at {}", here.display())), "{problem}");
        assert!(here.exists() && !third.exists());
        drop(somebodys);
        wait_until_refused(|| UnixStream::connect(&here));
        bind_first(&[here]).expect("a dead one is replaced");
        let problem = bind_first(&[nowhere]).unwrap_err();
        assert!(problem.contains("No such file") && problem.contains("--control PATH"), "{problem}");
    }
}
