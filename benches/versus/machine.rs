//! What /proc says, read by pure functions: CPU time of processes, time stolen by the hypervisor, memory, and what this
//! machine is.

use crate::results::Machine;
use nix::unistd::SysconfVar;
use std::fs;
use std::ops::{Add, Sub};

/// CPU time in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cpu {
    /// In user space.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

impl Add for Cpu {
    type Output = Cpu;

    fn add(self, other: Cpu) -> Cpu {
        Cpu { user: self.user + other.user, system: self.system + other.system }
    }
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, other: Cpu) -> Cpu {
        Cpu { user: self.user - other.user, system: self.system - other.system }
    }
}

/// What is taken of /proc/PID/stat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stat {
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// It has not ended: it is no zombie that nobody has waited for.
    pub alive: bool,
    /// Its own CPU time and that of its children that have ended and were waited for.
    pub cpu: Cpu,
}

/// `ticks`: how many of the kernel's are a second.
pub fn parse_stat(text: &str, ticks: f64) -> Option<Stat> {
    // the name before it may hold blanks and brackets
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field)?.parse::<i64>().ok();
    let seconds = |own: usize, children: usize| Some((number(own)? + number(children)?) as f64 / ticks);
    Some(Stat {
        parent: number(1)? as i32,
        group: number(2)? as i32,
        alive: !["Z", "X"].contains(fields.first()?),
        cpu: Cpu { user: seconds(11, 13)?, system: seconds(12, 14)? },
    })
}

/// Time of all cores, in ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ticks {
    total: u64,
    stolen: u64,
}

impl Ticks {
    /// The share that the hypervisor gave to others since then.
    pub fn stolen_since(self, before: Ticks) -> f64 {
        let total = self.total.saturating_sub(before.total);
        self.stolen.saturating_sub(before.stolen) as f64 / total.max(1) as f64
    }

    /// Now.
    pub fn now() -> Ticks {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        parse_ticks(&text).unwrap_or(Ticks { total: 0, stolen: 0 })
    }
}

/// The first line of /proc/stat.
pub fn parse_ticks(text: &str) -> Option<Ticks> {
    let mut fields = text.lines().next()?.split_whitespace();
    let all = (fields.next()? == "cpu").then_some(fields)?;
    // guests' time, behind the eighth, is counted in the first two already
    let ticks: Vec<u64> = all.take(8).map_while(|field| field.parse().ok()).collect();
    (ticks.len() == 8).then(|| Ticks { total: ticks.iter().sum(), stolen: ticks[7] })
}

/// RssAnon of /proc/PID/status, in KiB.
pub fn parse_rss_anon(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// One look at a server's processes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Seconds since 1970.
    pub at: f64,
    /// Used so far.
    pub cpu: Cpu,
    /// In KiB.
    pub rss_anon: u64,
}

/// What was used between these two times.
pub fn used(samples: &[Sample], begin: f64, end: f64) -> Cpu {
    used_at(samples, end) - used_at(samples, begin)
}

/// The memory at this time: the look before it.
pub fn memory_at(samples: &[Sample], time: f64) -> u64 {
    let before = samples.iter().rev().find(|sample| sample.at <= time);
    before.or(samples.first()).map_or(0, |sample| sample.rss_anon)
}

/// On the straight line between the looks before and after.
fn used_at(samples: &[Sample], time: f64) -> Cpu {
    let after = samples.partition_point(|sample| sample.at <= time);
    match (after.checked_sub(1).map(|before| samples[before]), samples.get(after)) {
        (Some(before), Some(next)) => {
            let part = (time - before.at) / (next.at - before.at);
            let between = next.cpu - before.cpu;
            before.cpu + Cpu { user: between.user * part, system: between.system * part }
        }
        (Some(last), None) => last.cpu,
        (None, first) => first.map_or(Cpu::default(), |first| first.cpu),
    }
}

/// `model name` of /proc/cpuinfo.
pub fn parse_cpu_model(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// How many ticks are a second.
pub fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK).map_or(100.0, |ticks| ticks as f64)
}

fn sysconf(what: SysconfVar) -> Option<i64> {
    nix::unistd::sysconf(what).ok().flatten()
}

/// This machine, without its name.
pub fn this() -> Machine {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = nix::sys::utsname::uname();
    let release = name.as_ref().map_or("unknown".into(), |name| name.release().to_string_lossy());
    let virtual_machine = cpu
        .lines()
        .any(|line| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor"));
    Machine {
        cpu: parse_cpu_model(&cpu).unwrap_or("unknown").to_owned(),
        cores: sysconf(SysconfVar::_NPROCESSORS_ONLN).map_or(1, |cores| cores as usize),
        virtual_machine,
        // what its builder has added is of no interest to others
        kernel: release.split('-').next().unwrap_or_default().to_owned(),
    }
}
