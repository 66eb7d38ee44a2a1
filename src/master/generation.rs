//! What workers are started with, from one reading of the configuration to the next: the settings, the listening sockets
//! and the access log. A reload makes the next one beside the one in force, sharing the sockets that stay, so that giving it
//! up is to drop it.
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
        let bound = bind(&config, &inherited, None)?;
        let access_log = AccessLogFile::open(&config)?;
        Ok(Generation { number: 1, config, origins, bound, access_log, inherited })
    }

    /// The one that would follow; nothing of this one is touched. With it comes one line for each setting that only a start
    /// can change: those are as they were.
    ///
    /// # Errors
    /// The first new address that cannot be had, and why; the access log that cannot.
    pub fn next(
        &self,
        number: u64,
        mut config: Config,
        mut origins: Origins,
    ) -> Result<(Generation, Vec<String>)> {
        let left = self.keep_fixed(&mut config, &mut origins);
        let bound = bind(&config, &self.inherited, Some(&self.bound))?;
        let access_log = AccessLogFile::open(&config)?;
        let inherited = self.inherited.clone();
        Ok((Generation { number, config, origins, bound, access_log, inherited }, left))
    }

    fn keep_fixed(&self, new: &mut Config, origins: &mut Origins) -> Vec<String> {
        let old = &self.config;
        let kept = [
            ("pid-file", keep(&old.pid_file, &mut new.pid_file)),
            ("control", keep(&old.control, &mut new.control)),
            ("metrics", keep(&old.metrics, &mut new.metrics)),
            ("latency-log", keep(&old.latency_log, &mut new.latency_log)),
            ("latency-report", keep(&old.latency_report, &mut new.latency_report)),
            ("log-format", keep(&old.log_format, &mut new.log_format)),
        ];
        let kept = kept.into_iter().filter(|(_, differed)| *differed);
        kept.map(|(name, _)| {
            origins.copy(name, &self.origins);
            format!("--{name} has changed, which takes a new start")
        })
        .collect()
    }

    /// Settings of sockets that were there before are theirs now as well. What fails is said, and they go on as they are.
    pub fn settle(&self) -> Vec<String> {
        let settle = |bound: &Arc<Bound>| bound.settle(self.config.backlog, self.config.unix_mode).err();
        // those that were inherited are the service manager's to set
        let own = self.bound.iter().skip(self.inherited.len());
        own.filter_map(settle).map(|error| error.to_string()).collect()
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
}

/// Says whether they differed.
fn keep<T: PartialEq + Clone>(old: &T, new: &mut T) -> bool {
    let differs = old != new;
    new.clone_from(old);
    differs
}

/// What was inherited is listened on, and beside it what somebody has asked for: the default address is not.
/// Who starts is patient with addresses that are in use; who serves has no time for that.
fn bind(config: &Config, inherited: &[Arc<Bound>], before: Option<&[Arc<Bound>]>) -> Result<Vec<Arc<Bound>>> {
    let by_default = config.listens_by_default && !inherited.is_empty();
    let asked = config.listen.iter().filter(|_| !by_default);
    let missing = asked.filter(|asked| !inherited.iter().any(|bound| bound.is(asked)));
    let missing: Vec<Listen> = missing.cloned().collect();
    let Config { backlog, unix_mode, .. } = *config;
    let own = match before {
        None => listeners::bind_all(&missing, backlog, unix_mode)?.into_iter().map(Arc::new).collect(),
        Some(before) => listeners::bind_more(&missing, before, inherited.len(), backlog, unix_mode)?,
    };
    Ok(inherited.iter().cloned().chain(own).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, Origin, Setting};
    use crate::sys::testing::wait_until_refused;
    use std::net::{TcpListener, TcpStream};

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
        let second = first.next(2, config(&[&any, &any]), Origins(vec![])).unwrap().0;
        assert_eq!(port(&first.bound[0]), port(&second.bound[0]));
        assert_ne!(port(&second.bound[0]), port(&second.bound[1]));
        assert!(path.exists());
        let added = second.bound[1].address.socket_addr().unwrap();
        TcpStream::connect(added).unwrap();
        drop(second);
        wait_until_refused(|| TcpStream::connect(added));
        let kept = first.bound[0].address.socket_addr().unwrap();
        let second = first.next(2, config(&[&any]), Origins(vec![])).unwrap().0;
        drop(first);
        assert!(!path.exists(), "whom nobody wants any more is gone with its file");
        TcpStream::connect(kept).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = Listen::Tcp(listener.local_addr().unwrap());
        second.next(3, config(&[&any, &taken]), Origins(vec![])).unwrap_err();
        drop(listener);
        TcpStream::connect(kept).unwrap();
    }

    #[test]
    fn what_has_changed_is_told_apart() {
        let any: Listen = "127.0.0.1:0".parse().unwrap();
        let first = Generation::first(config(&[&any]), Origins(vec![]), vec![]).unwrap();
        let same = first.next(2, config(&[&any]), Origins(vec![])).unwrap().0;
        assert_eq!(
            same.settings_after(&first),
            Settings { limits: first.limits(), wanted: None, changed: false }
        );
        let path = |from: Origin| {
            let value = Some("x".to_owned());
            Origins(vec![Setting { name: "pid-file".into(), value, origin: from }])
        };
        let first = Generation { origins: path(Origin::Default), ..first };
        let other = Config { workers: 7, pid_file: Some("x".into()), ..config(&[&any, &any]) };
        let (other, left) = first.next(2, other, path(Origin::Flag)).unwrap();
        let settings = other.settings_after(&first);
        assert_eq!((settings.wanted, settings.changed, settings.limits.listeners), (Some(7), true, 2));
        assert_eq!(left, ["--pid-file has changed, which takes a new start"]);
        assert_eq!((&other.config.pid_file, &other.origins), (&None, &path(Origin::Default)), "not in force");
    }

    #[test]
    fn an_address_that_this_server_has_in_another_form_is_said_to_be_its_own() {
        let any: Listen = "127.0.0.1:0".parse().unwrap();
        let first = Generation::first(config(&[&any]), Origins(vec![]), vec![]).unwrap();
        let own = port(&first.bound[0]);
        let everywhere: Listen = format!("0.0.0.0:{own}").parse().unwrap();
        let problem = first.next(2, config(&[&everywhere]), Origins(vec![])).unwrap_err().to_string();
        assert!(problem.contains(&format!("this server listens on 127.0.0.1:{own}")), "{problem}");
        let same: Listen = format!("127.0.0.1:{own}").parse().unwrap();
        let (next, _) = first.next(2, config(&[&same]), Origins(vec![])).unwrap();
        assert_eq!(port(&next.bound[0]), own, "the same by its own name");
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
        assert_eq!(addresses(&first), std::slice::from_ref(&address));
        let more = first.next(2, config(&[&any, &address]), Origins(vec![])).unwrap().0;
        assert_eq!((more.bound.len(), &more.bound[0].address), (2, &address), "it is not bound twice");
        assert_ne!(more.bound[1].address, address);
    }
}
