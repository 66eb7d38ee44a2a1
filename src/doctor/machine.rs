//! The facts that several checks need, read once.
//!
//! Neighbours: `root` reads, `checks` decide on what is here.

use super::root::Root;
use crate::error::RingRefusal;
use crate::ring::{Probed, Ring, probe};
use crate::sys::status::Status;

/// What is known of a machine.
pub(super) struct Machine {
    pub root: Root,
    /// `uname -r`; empty if unknown.
    pub release: String,
    /// Of the process that asks: whoever starts it from the same place as uringd has the same.
    pub status: Status,
    /// The cores that it may use, in ascending order; empty if unknown.
    pub cores: Vec<usize>,
    pub rings: Rings,
}

/// What io_uring says when it is tried.
pub(super) struct Rings {
    /// All that is asked for, needed or not; empty where no ring can be made.
    pub probed: Vec<Probed>,
    /// Why a worker gets none.
    pub refusal: Option<RingRefusal>,
}

/// A limit of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub soft: u64,
    pub hard: u64,
}

/// More slots than this are registered only where a worker is told to.
const SLOTS: u32 = 64;

impl Rings {
    /// Makes a ring as a worker does, and lets go of it.
    pub fn try_here() -> Rings {
        let refusal = Ring::new().and_then(|mut ring| ring.register_slots(SLOTS)).err();
        Rings::new(probe(), refusal)
    }

    /// What somebody forbids looks like something that the kernel has not got; nothing is known of that then.
    pub fn new(probed: Vec<Probed>, refusal: Option<RingRefusal>) -> Rings {
        let told = matches!(refusal, None | Some(RingRefusal::TooOld { .. } | RingRefusal::Other { .. }));
        Rings { probed: if told { probed } else { Vec::new() }, refusal }
    }
}

impl Machine {
    pub fn read(root: Root, rings: Rings) -> Machine {
        // a filter is a thread's, and this one asks
        let status = root.text("proc/thread-self/status").or_else(|| root.text("proc/self/status"));
        let status = Status::parse(&status.unwrap_or_default());
        Machine {
            release: root.text("proc/sys/kernel/osrelease").unwrap_or_default(),
            cores: parse_list(&status.cores),
            status,
            root,
            rings,
        }
    }

    /// As many workers as `--workers auto` starts: a core's worth of time each.
    pub fn workers(&self) -> usize {
        let quota = self.cpu_quota().map_or(usize::MAX, |cores| cores as usize);
        self.cores.len().min(quota).max(1)
    }

    /// A line of /proc/self/limits (proc_pid_limits(5)); unlimited is the largest number.
    pub fn limit(&self, name: &str) -> Option<Limit> {
        let text = self.root.text("proc/self/limits")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut words = line.split_whitespace();
        let mut next = || match words.next()? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        };
        Some(Limit { soft: next()?, hard: next()? })
    }

    /// How many cores' worth of time the control groups leave: the tightest from this process's up to the root.
    pub fn cpu_quota(&self) -> Option<f64> {
        let quotas = self.groups("cpu").into_iter().filter_map(|group| {
            let (quota, period) = match self.root.text(format!("{group}/cpu.max")) {
                Some(text) => {
                    let (quota, period) = text.split_once(' ')?;
                    (quota.parse().ok()?, period.parse().ok()?)
                }
                None => (
                    self.root.value::<f64>(format!("{group}/cpu.cfs_quota_us"))?,
                    self.root.value::<f64>(format!("{group}/cpu.cfs_period_us"))?,
                ),
            };
            (quota > 0.0 && period > 0.0).then_some(quota / period)
        });
        quotas.reduce(f64::min)
    }

    /// The control groups of this process for this controller, its own first: version 2 where there is one that has
    /// the controller, else version 1 (cgroups(7)). What a container sees of its path may lead nowhere, so the mount's
    /// top, which is then the container's own, always closes the list.
    pub fn groups(&self, controller: &str) -> Vec<String> {
        let lines = self.root.text("proc/self/cgroup").unwrap_or_default();
        let path_of = |wanted: &dyn Fn(&str) -> bool| {
            lines.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let first = path_of(&|controllers| controllers.split(',').any(|one| one == controller));
        let (top, path) = match (first, path_of(&str::is_empty)) {
            (Some(path), _) => (format!("sys/fs/cgroup/{controller}"), path),
            (None, Some(path)) => ("sys/fs/cgroup".to_owned(), path),
            (None, None) => return Vec::new(),
        };
        let mut groups: Vec<String> = Vec::new();
        let mut path = path.as_str();
        while !path.is_empty() {
            groups.push(format!("{top}/{path}"));
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        groups.push(top);
        groups
    }
}

/// `0-3,8`, as the kernel writes sets of cores (and of interrupts' targets).
pub(super) fn parse_list(text: &str) -> Vec<usize> {
    let parts = text.split(',').filter_map(|part| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    parts.flatten().collect()
}
