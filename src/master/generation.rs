//! What workers are started with, from one reading of the configuration to the next: the settings, the listening
//! sockets and the access log. A reload makes the next one beside the one in force, sharing the sockets that stay, so that giving it up is to
//! drop it.
//!
//! Neighbours: `event_loop` has the one in force and the one that is tried; `listeners` binds.

use super::access_log::AccessLogFile;
use super::lifecycle::{Limits, Settings};
use super::listeners::{self, Bound};
use crate::config::{Config, Listen, Origins};
use crate::error::Result;
use std::rc::Rc;
use std::sync::Arc;

/// See the module's comment.
#[derive(Debug)]
pub struct Generation {
    /// Counts the readings that became one; the first is 1.
    pub number: u64,
    /// What was read.
    pub config: Config,
    /// And where.
    pub origins: Origins,
    /// The sockets, those of the service manager first, then in the order of `config.listen`; empty once the server stops.
    pub bound: Vec<Arc<Bound>>,
    /// What requests are written to. Opened for each one anew, as a rotation would have it.
    pub access_log: Option<Rc<AccessLogFile>>,
    /// Those that the service manager gave: no reload takes them away.
    inherited: Vec<Arc<Bound>>,
}

impl Generation {
    /// The one to start with.
    ///
    /// # Errors
    /// The first address that cannot be had, and why; the access log that cannot.
    pub fn first(config: Config, origins: Origins, inherited: Vec<Arc<Bound>>) -> Result<Generation> {
        let bound = bind(&config, &inherited, &[])?;
        let access_log = AccessLogFile::open(&config)?;
        Ok(Generation { number: 1, config, origins, bound, access_log, inherited })
    }

    /// The one that would follow; nothing of this one is touched.
    ///
    /// # Errors
    /// The first new address that cannot be had, and why; the access log that cannot.
    pub fn next(&self, number: u64, config: Config, origins: Origins) -> Result<Generation> {
        let bound = bind(&config, &self.inherited, &self.bound)?;
        let access_log = AccessLogFile::open(&config)?;
        Ok(Generation { number, config, origins, bound, access_log, inherited: self.inherited.clone() })
    }

    /// Settings of sockets that were there before are theirs now as well. What fails is said, and they go on as they are.
    pub fn settle(&self) -> Vec<String> {
        let settle = |bound: &Arc<Bound>| bound.settle(self.config.backlog, self.config.unix_mode).err();
        self.bound.iter().filter_map(settle).map(|error| error.to_string()).collect()
    }

    /// How patient the master is with its workers.
    pub fn limits(&self) -> Limits {
        let Config { kill_timeout, boot_timeout, restart_limit, restart_window, .. } = self.config;
        Limits { kill_timeout, boot_timeout, restart_limit, restart_window, listeners: self.bound.len() }
    }

    /// What the lifecycle has to know of it.
    pub fn settings_after(&self, before: &Generation) -> Settings {
        let (new, old) = (&self.config, &before.config);
        Settings {
            limits: self.limits(),
            wanted: (new.workers != old.workers).then_some(new.workers),
            changed: new != old,
        }
    }

    /// One line for each setting that only a start can change.
    pub fn left_for_a_start(&self, before: &Generation) -> Vec<String> {
        let (new, old) = (&self.config, &before.config);
        let fixed = [
            ("--pid-file", new.pid_file != old.pid_file),
            ("--control", new.control != old.control),
            ("--metrics", new.metrics != old.metrics),
            ("--latency-log", new.latency_log != old.latency_log),
            ("--latency-report", new.latency_report != old.latency_report),
            ("--log-format", new.log_format != old.log_format),
        ];
        let changed = fixed.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(option, _)| format!("{option} has changed, which takes a new start")).collect()
    }
}

/// What was inherited is listened on, and beside it what somebody has asked for: the default address is not.
fn bind(config: &Config, inherited: &[Arc<Bound>], before: &[Arc<Bound>]) -> Result<Vec<Arc<Bound>>> {
    let by_default = config.listens_by_default && !inherited.is_empty();
    let asked = config.listen.iter().filter(|_| !by_default);
    let missing = asked.filter(|asked| !inherited.iter().any(|bound| bound.is(asked)));
    let missing: Vec<Listen> = missing.cloned().collect();
    let is_inherited = |bound: &Arc<Bound>| inherited.iter().any(|other| Arc::ptr_eq(bound, other));
    let before: Vec<Arc<Bound>> = before.iter().filter(|bound| !is_inherited(bound)).cloned().collect();
    let own = listeners::bind_more(&missing, &before, config.backlog, config.unix_mode)?;
    Ok(inherited.iter().cloned().chain(own).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use std::net::TcpStream;

    fn config(listen: &[&Listen]) -> Config {
        let listen = listen.iter().map(|&listen| listen.clone()).collect();
        Config::resolve(&Options { listen, ..Options::default() }).unwrap()
    }

    fn port(bound: &Bound) -> u16 {
        bound.address.socket_addr().unwrap().port()
    }

    #[test]
    fn sockets_that_stay_are_the_same_and_others_come_and_go() {
        let any: Listen = "127.0.0.1:0".parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let unix = Listen::Unix(path.clone());
        let first = Generation::first(config(&[&any, &unix]), Origins(vec![]), vec![]).unwrap();
        let second = first.next(2, config(&[&any, &any]), Origins(vec![])).unwrap();
        assert_eq!(port(&first.bound[0]), port(&second.bound[0]));
        assert_ne!(port(&second.bound[0]), port(&second.bound[1]));
        assert!(path.exists());
        let added = second.bound[1].address.socket_addr().unwrap();
        TcpStream::connect(added).unwrap();
        drop(second);
        TcpStream::connect(added).unwrap_err();
        let kept = first.bound[0].address.socket_addr().unwrap();
        let second = first.next(2, config(&[&any]), Origins(vec![])).unwrap();
        drop(first);
        assert!(!path.exists(), "whom nobody wants any more is gone with its file");
        TcpStream::connect(kept).unwrap();
        let taken = Listen::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let listener = std::net::TcpListener::bind(taken.socket_addr().unwrap()).unwrap();
        second.next(3, config(&[&any, &taken]), Origins(vec![])).unwrap_err();
        drop(listener);
        TcpStream::connect(kept).unwrap();
    }

    #[test]
    fn what_has_changed_is_told_apart() {
        let any: Listen = "127.0.0.1:0".parse().unwrap();
        let first = Generation::first(config(&[&any]), Origins(vec![]), vec![]).unwrap();
        let same = first.next(2, config(&[&any]), Origins(vec![])).unwrap();
        assert_eq!(
            same.settings_after(&first),
            Settings { limits: first.limits(), wanted: None, changed: false }
        );
        let other = Config { workers: 7, pid_file: Some("x".into()), ..config(&[&any, &any]) };
        let other = first.next(2, other, Origins(vec![])).unwrap();
        let settings = other.settings_after(&first);
        assert_eq!((settings.wanted, settings.changed, settings.limits.listeners), (Some(7), true, 2));
        assert_eq!(other.left_for_a_start(&first), ["--pid-file has changed, which takes a new start"]);
        assert!(same.left_for_a_start(&first).is_empty());
    }

    #[test]
    fn what_was_inherited_stays_and_replaces_the_default() {
        let any: Listen = "127.0.0.1:0".parse().unwrap();
        let given = listeners::bind_all(std::slice::from_ref(&any), 16, 0o666).unwrap();
        let inherited: Vec<Arc<Bound>> = given.into_iter().map(Arc::new).collect();
        let address = inherited[0].address.clone();
        let by_default = Config::resolve(&Options::default()).unwrap();
        let first = Generation::first(by_default, Origins(vec![]), inherited).unwrap();
        let addresses = |generation: &Generation| {
            generation.bound.iter().map(|bound| bound.address.clone()).collect::<Vec<_>>()
        };
        assert_eq!(addresses(&first), [address.clone()]);
        let more = first.next(2, config(&[&any, &address]), Origins(vec![])).unwrap();
        assert_eq!((more.bound.len(), &more.bound[0].address), (2, &address), "it is not bound twice");
        assert_ne!(more.bound[1].address, address);
    }
}
