//! What the service manager is told (systemd's `Type=notify`, sd_notify(3)): that workers listen, that they are being
//! replaced, that the server stops, how it is in one line, and, where it watches (`WatchdogSec=`), that somebody serves.
//! Compared with what it was told last, once a turn of the loop, so nothing is said twice and nothing is forgotten. Where it
//! does not listen just now that is said later: the loop waits for nobody.
//!
//! Neighbours: `event_loop` shows how things are; nothing is said where `NOTIFY_SOCKET` is not set.

use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// How soon it is tried again to tell what could not be told.
const RETRY: Duration = Duration::from_millis(100);

/// More than a stop after a reload after a start; of what comes beyond it the oldest is forgotten.
const UNSAID_MAX: usize = 16;

/// Beyond the kill timeout: what a stop takes besides the drain. Operators have 10 s to hear the last word.
const STOP_MARGIN: Duration = Duration::from_secs(15);

/// How things are.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    /// Workers that listen.
    pub listening: usize,
    /// Workers that are wanted.
    pub wanted: usize,
    /// Nobody is replaced any more.
    pub given_up: bool,
    /// A reload is under way.
    pub reloading: bool,
    /// Reloads that are over.
    pub reloads: u64,
    /// It ends, and this may take so long.
    pub stops_within: Option<Duration>,
    /// Some worker's loop goes round.
    pub healthy: bool,
}

/// How far it has come, as the service manager has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Nothing yet.
    Starting,
    Ready,
    Reloading,
    Stopping,
}

/// See the module's comment.
#[derive(Debug)]
pub struct ServiceManager {
    present: bool,
    /// Where it listens; `None` if nothing can be sent there.
    socket: Option<UnixDatagram>,
    /// What could not be told yet, in order.
    unsaid: Vec<String>,
    retry: Option<Instant>,
    said: Said,
    reloads: u64,
    status: String,
    /// How often it wants to hear that all is well.
    every: Option<Duration>,
    next_ping: Option<Instant>,
}

impl ServiceManager {
    /// The one that has started this process, if any has.
    pub fn of_this_process() -> ServiceManager {
        let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return ServiceManager::new(false, None) };
        let mut manager = ServiceManager::new(true, sd_notify::watchdog_enabled());
        match connect(&place) {
            Ok(socket) => manager.socket = Some(socket),
            Err(error) => report(&error),
        }
        manager
    }

    /// Half the time, as sd_watchdog_enabled(3) recommends.
    fn new(present: bool, watchdog: Option<Duration>) -> ServiceManager {
        let every = watchdog.filter(|_| present).map(|timeout| timeout / 2);
        ServiceManager {
            present,
            socket: None,
            unsaid: vec![],
            retry: None,
            said: Said::Starting,
            reloads: 0,
            status: String::new(),
            every,
            next_ping: None,
        }
    }

    /// When to call `tell` at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_ping.into_iter().chain(self.retry).min()
    }

    /// Says what has changed, and what could not be said before. Nothing else depends on it.
    pub fn tell(&mut self, view: View, now: Instant) {
        let lines = self.step(view, now);
        self.remember(lines);
        let Some(socket) = &self.socket else { return self.unsaid.clear() };
        if self.unsaid.is_empty() {
            return;
        }
        self.retry = None;
        // one message, so that it is seen whole
        match socket.send(self.unsaid.join("\n").as_bytes()) {
            Ok(_) => self.unsaid.clear(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.retry = now.checked_add(RETRY),
            Err(error) => {
                report(&error);
                self.unsaid.clear();
            }
        }
    }

    /// Of its status and its health only the latest word counts.
    fn remember(&mut self, lines: Vec<String>) {
        for line in lines {
            if let Some(kind) = ["STATUS=", "WATCHDOG="].iter().find(|kind| line.starts_with(**kind)) {
                self.unsaid.retain(|old| !old.starts_with(*kind));
            }
            self.unsaid.push(line);
        }
        self.unsaid.drain(..self.unsaid.len().saturating_sub(UNSAID_MAX));
    }

    /// The lines of sd_notify(3).
    fn step(&mut self, view: View, now: Instant) -> Vec<String> {
        let mut lines = vec![];
        if !self.present {
            return lines;
        }
        self.move_on(view, &mut lines);
        let status = view.status();
        if self.status != status {
            lines.push(format!("STATUS={status}"));
            self.status = status;
        }
        self.ping(view, now, &mut lines);
        lines
    }

    fn move_on(&mut self, view: View, lines: &mut Vec<String>) {
        let up = view.listening >= view.wanted || (view.given_up && view.listening > 0);
        let over = view.reloads != self.reloads;
        self.reloads = view.reloads;
        if let Some(within) = view.stops_within {
            if self.said != Said::Stopping {
                self.said = Said::Stopping;
                lines.push("STOPPING=1".to_owned());
                lines.push(format!("EXTEND_TIMEOUT_USEC={}", (within + STOP_MARGIN).as_micros()));
            }
            return;
        }
        match self.said {
            Said::Starting if up => {
                self.said = Said::Ready;
                lines.push("READY=1".to_owned());
            }
            // one that is over already when it is heard of is told all the same: somebody waits for it
            Said::Ready if view.reloading || over => {
                self.begin_reload(lines);
                self.end_reload(view, lines);
            }
            // another one follows, which may be the one that it waits for
            Said::Reloading if view.reloading && over => self.begin_reload(lines),
            Said::Reloading => self.end_reload(view, lines),
            Said::Starting | Said::Ready | Said::Stopping => {}
        }
    }

    fn begin_reload(&mut self, lines: &mut Vec<String>) {
        lines.push("RELOADING=1".to_owned());
        // since 253 it is told apart by this from one that was asked for later
        lines.extend(NotifyState::monotonic_usec_now().map(|state| state.to_string()));
        self.said = Said::Reloading;
    }

    fn end_reload(&mut self, view: View, lines: &mut Vec<String>) {
        if !view.reloading {
            self.said = Said::Ready;
            lines.push("READY=1".to_owned());
        }
    }

    /// Until it is ready, and when it stops, other timeouts of the service manager's run.
    fn ping(&mut self, view: View, now: Instant, lines: &mut Vec<String>) {
        let Some(every) = self.every else { return };
        if self.next_ping.is_some_and(|at| at > now) {
            return;
        }
        if view.healthy || matches!(self.said, Said::Starting | Said::Stopping) {
            lines.push("WATCHDOG=1".to_owned());
        }
        self.next_ping = now.checked_add(every);
    }
}

/// A path, or a name in the abstract namespace behind an `@` (unix(7)).
fn connect(place: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match place.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(place)?,
    }
    Ok(socket)
}

fn report(error: &io::Error) {
    tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)");
}

impl View {
    fn status(self) -> String {
        let View { listening, wanted, .. } = self;
        let what = match self {
            View { stops_within: Some(_), .. } => "stopping",
            View { given_up: true, .. } => "gave up replacing workers",
            View { reloading: true, .. } => "reloading",
            _ => "serving",
        };
        format!("{what}: {listening} of {wanted} workers listen")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: View = View {
        listening: 2,
        wanted: 2,
        given_up: false,
        reloading: false,
        reloads: 0,
        stops_within: None,
        healthy: true,
    };

    fn names(lines: &[String]) -> String {
        let known = |line: &String| line.split('=').next().unwrap().to_owned();
        lines.iter().map(known).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_step_is_told_once() {
        let now = Instant::now();
        let mut manager = ServiceManager::new(true, None);
        let mut told = |view| names(&manager.step(view, now));
        assert_eq!(told(View { listening: 1, ..UP }), "STATUS");
        assert_eq!(told(UP), "READY STATUS");
        assert_eq!(told(UP), "");
        assert_eq!(told(View { listening: 1, healthy: false, ..UP }), "STATUS", "a crash is no start");
        assert_eq!(told(View { reloading: true, ..UP }), "RELOADING MONOTONIC_USEC STATUS");
        assert_eq!(told(View { reloading: true, ..UP }), "");
        let next = View { reloading: true, reloads: 1, ..UP };
        assert_eq!(told(next), "RELOADING MONOTONIC_USEC", "which began later");
        assert_eq!(told(next), "");
        assert_eq!(told(View { reloads: 2, ..UP }), "READY STATUS");
        assert_eq!(told(View { reloads: 3, ..UP }), "RELOADING MONOTONIC_USEC READY");
        let stops = View { reloads: 3, stops_within: Some(Duration::from_secs(5)), ..UP };
        assert_eq!(told(stops), "STOPPING EXTEND_TIMEOUT_USEC STATUS");
        assert_eq!(told(View { listening: 0, ..stops }), "STATUS");
        assert_eq!(told(View { reloads: 4, ..stops }), "STATUS");
    }

    #[test]
    fn a_pool_that_is_given_up_half_up_is_up() {
        let mut manager = ServiceManager::new(true, None);
        let half = View { listening: 1, given_up: true, ..UP };
        let lines = manager.step(half, Instant::now());
        assert_eq!(lines, ["READY=1", "STATUS=gave up replacing workers: 1 of 2 workers listen"]);
        let none = ServiceManager::new(true, None).step(View { listening: 0, ..half }, Instant::now());
        assert_eq!(names(&none), "STATUS");
    }

    #[test]
    fn the_watchdog_hears_of_the_healthy_twice_as_often_as_it_must() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut manager = ServiceManager::new(true, Some(Duration::from_secs(10)));
        let mut pings = |view, seconds| names(&manager.step(view, at(seconds))).contains("WATCHDOG");
        assert!(pings(View { listening: 0, healthy: false, ..UP }, 0), "it starts");
        assert!(!pings(UP, 4) && pings(UP, 5) && !pings(UP, 9) && pings(UP, 11));
        assert!(!pings(View { healthy: false, ..UP }, 16) && !pings(UP, 20) && pings(UP, 21));
        assert!(pings(View { healthy: false, stops_within: Some(Duration::ZERO), ..UP }, 26));
        assert_eq!(manager.next_deadline(), Some(at(31)));
        let mut absent = ServiceManager::new(false, Some(Duration::from_secs(10)));
        assert!(absent.step(UP, begin).is_empty() && absent.next_deadline().is_none());
    }

    #[test]
    fn what_it_does_not_hear_now_it_hears_later_and_nobody_waits() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        while ours.send(b"noise").is_ok() {}
        let now = Instant::now();
        let mut manager = ServiceManager::new(true, None);
        manager.socket = Some(ours);
        for (view, reloads) in
            [(View { listening: 1, ..UP }, 0), (UP, 0)].into_iter().chain((0..50).map(|n| (UP, n)))
        {
            manager.tell(View { reloads, ..view }, now);
        }
        assert_eq!((manager.next_deadline(), manager.unsaid.len()), (Some(now + RETRY), UNSAID_MAX));
        let mut message = [0; 4096];
        while theirs.recv(&mut message).is_ok() {}
        let stops = View { reloads: 49, stops_within: Some(Duration::ZERO), ..UP };
        manager.tell(stops, now + RETRY);
        let octets = theirs.recv(&mut message).unwrap();
        let said = std::str::from_utf8(&message[..octets]).unwrap();
        let last: Vec<&str> = said.lines().rev().take(4).collect();
        assert!(
            last[0].starts_with("STATUS=stopping") && last[2] == "STOPPING=1" && last[3] == "READY=1",
            "{said}"
        );
        assert_eq!(said.matches("STATUS=").count(), 1);
        assert_eq!(manager.next_deadline(), None);
    }
}
