//! What the service manager is told (systemd's `Type=notify`, sd_notify(3)): that workers listen, that they are being
//! replaced, that the server stops, how it is in one line, and, where it watches (`WatchdogSec=`), that somebody serves.
//! Compared with what it was told last, once a turn of the loop, so nothing is said twice and nothing is forgotten.
//!
//! Neighbours: `event_loop` shows how things are; nothing is said where `NOTIFY_SOCKET` is not set.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// Beyond the kill timeout: what a stop takes besides the drain.
const STOP_MARGIN: Duration = Duration::from_secs(5);

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
        let present = std::env::var_os("NOTIFY_SOCKET").is_some();
        ServiceManager::new(present, sd_notify::watchdog_enabled())
    }

    /// Half the time, as sd_watchdog_enabled(3) recommends.
    fn new(present: bool, watchdog: Option<Duration>) -> ServiceManager {
        let every = watchdog.filter(|_| present).map(|timeout| timeout / 2);
        ServiceManager {
            present,
            said: Said::Starting,
            reloads: 0,
            status: String::new(),
            every,
            next_ping: None,
        }
    }

    /// When to call `tell` at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_ping
    }

    /// Says what has changed. What cannot be said is logged: nothing else depends on it.
    pub fn tell(&mut self, view: View, now: Instant) {
        let states = self.step(view, now);
        if !states.is_empty() && self.present {
            // one message, so that it is seen whole
            let states: Vec<NotifyState<'_>> = states.iter().map(|line| NotifyState::Custom(line)).collect();
            if let Err(error) = sd_notify::notify(&states) {
                tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)");
            }
        }
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
                lines.push("RELOADING=1".to_owned());
                // since 253 it is told apart by this from one that was asked for later
                lines.extend(NotifyState::monotonic_usec_now().map(|state| state.to_string()));
                self.said = Said::Reloading;
                self.end_reload(view, lines);
            }
            Said::Reloading => self.end_reload(view, lines),
            Said::Starting | Said::Ready | Said::Stopping => {}
        }
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
        assert_eq!(told(View { reloads: 1, ..UP }), "READY STATUS");
        assert_eq!(told(View { reloads: 2, ..UP }), "RELOADING MONOTONIC_USEC READY");
        let stops = View { reloads: 2, stops_within: Some(Duration::from_secs(5)), ..UP };
        assert_eq!(told(stops), "STOPPING EXTEND_TIMEOUT_USEC STATUS");
        assert_eq!(told(View { listening: 0, ..stops }), "STATUS");
        assert_eq!(told(View { reloads: 3, ..stops }), "STATUS");
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
}
