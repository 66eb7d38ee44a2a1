//! Workers die a thousand times, alone and all at once, listening and newly born: the master stays what it was.

mod common;

use common::*;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

const WORKERS: usize = 8;
const WARM_UP: usize = 100;
const RESPAWNS: usize = 1_000;
/// What an allocator may round up; a leak of half a KiB a worker would be seen.
const SLACK_KIB: u64 = 1_536;

/// Follows the log from line to line, for who listens and who is gone.
struct Pool<'a> {
    server: &'a Server,
    place: usize,
    listening: BTreeMap<u64, i32>,
    gone: BTreeSet<i32>,
    forked: Vec<i32>,
}

impl Pool<'_> {
    fn follow_until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        while !so(self) {
            let (place, line) =
                self.server.wait_for_after(self.place, what, |line| line["event"].is_string());
            self.place = place + 1;
            let pid = line["pid"].as_i64().unwrap_or(0) as i32;
            match line["event"].as_str().unwrap() {
                "fork" => self.forked.push(pid),
                "listening" => {
                    self.listening.insert(line["slot"].as_u64().unwrap(), pid);
                }
                "exit" => {
                    self.listening.retain(|_, other| *other != pid);
                    self.gone.insert(pid);
                }
                "giveup" => panic!("gave up: {line}"),
                _ => {}
            }
        }
    }

    /// Until the pool is whole and every one of these is gone.
    fn recover_from(&mut self, killed: &[i32]) {
        self.follow_until("recovery", |pool| {
            pool.listening.len() == WORKERS && killed.iter().all(|pid| pool.gone.contains(pid))
        });
        self.gone.clear();
        self.forked.clear();
    }

    fn workers(&self) -> Vec<i32> {
        self.listening.values().copied().collect()
    }

    /// Kills at least so many: by turns all at the same moment, one alone, and all with half of their successors
    /// before those have come up.
    fn kill_thousands(&mut self, count: usize) -> usize {
        let mut killed = 0;
        for round in 0.. {
            if killed >= count {
                break;
            }
            let mut victims = self.workers();
            if round % 4 == 1 {
                victims.truncate(1);
            }
            kill_all(&victims);
            if round % 4 == 2 {
                self.follow_until("successors", |pool| pool.forked.len() >= WORKERS / 2);
                let newborn = self.forked[..WORKERS / 2].to_vec();
                kill_all(&newborn);
                victims.extend(newborn);
            }
            self.recover_from(&victims);
            killed += victims.len();
        }
        killed
    }
}

fn kill_all(pids: &[i32]) {
    let status = Command::new("kill").arg("-KILL").args(pids.iter().map(i32::to_string)).status().unwrap();
    assert!(status.success(), "kill {pids:?}");
}

#[test]
fn a_thousand_respawns_leave_no_descriptor_no_memory_and_no_zombie_in_the_master() {
    let arguments = ["--workers", "8", "--pin", "off", "--restart-limit", "1000000"];
    let mut server = Server::start(Program::Uringd, &arguments);
    let mut pool = Pool {
        server: &server,
        place: 0,
        listening: BTreeMap::new(),
        gone: BTreeSet::new(),
        forked: Vec::new(),
    };
    pool.recover_from(&[]);
    pool.kill_thousands(WARM_UP);
    let pid = server.pid();
    server.wait("nobody but the pool", || children(pid).len() == WORKERS);
    // an exit is said a moment before what belonged to the worker is put away, here and below
    let settled = Duration::from_millis(300);
    let descriptors_before = wait_until_still("all is put away", settled, || descriptors(pid).len());
    let memory_before = rss_anon(pid);

    let killed = pool.kill_thousands(RESPAWNS);
    assert!(killed >= RESPAWNS);
    let workers = pool.workers();
    server.wait("descriptors as before", || descriptors(pid).len() <= descriptors_before);
    let mut left: Vec<i32> = children(pid);
    left.sort_unstable();
    let mut expected = workers.clone();
    expected.sort_unstable();
    assert_eq!(left, expected, "the pool and no zombie");
    let memory = rss_anon(pid);
    assert!(memory <= memory_before + SLACK_KIB, "RssAnon grew from {memory_before} to {memory} KiB");
    let answer = server.get("/").pid();
    assert!(workers.contains(&answer));
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
}
