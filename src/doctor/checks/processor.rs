//! Cores: which there are, what they share, how fast they may go, and for how long.
//!
//! Neighbours: `machine`, and its sets of cores; `print` shows the `Layout`.

use super::Finding;
use crate::config::options::format_cores;
use crate::doctor::machine::{Machine, parse_list};
use serde::Serialize;

/// Who shares what, in sets of cores as the kernel writes them (`0-3,8`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::doctor) struct Layout {
    /// Those that this process may use.
    pub allowed: String,
    /// Those that there are.
    pub online: String,
    /// Sets of more than one thread that share the units of a core (SMT).
    pub threads: Vec<String>,
    /// Sets that share a last-level cache.
    pub last_caches: Vec<String>,
    /// Sets with memory of their own (NUMA).
    pub nodes: Vec<String>,
}

const CPU: &str = "sys/devices/system/cpu";
/// In percent of the periods. Fewer are a burst at the start or once a day, and are remembered until the group is gone.
const STOPPED_MIN: u64 = 1;

pub(in crate::doctor) fn layout(machine: &Machine) -> Layout {
    let root = &machine.root;
    let online = parse_list(&root.text(format!("{CPU}/online")).unwrap_or_default());
    let each = |what: &dyn Fn(usize) -> Option<String>| {
        let mut sets: Vec<String> = Vec::new();
        for set in online.iter().filter_map(|core| what(*core)).filter(|set| !set.is_empty()) {
            if !sets.contains(&set) {
                sets.push(set);
            }
        }
        sets
    };
    let threads = each(&|core| {
        let topology = format!("{CPU}/cpu{core}/topology");
        // the newer name first
        root.text(format!("{topology}/core_cpus_list"))
            .or_else(|| root.text(format!("{topology}/thread_siblings_list")))
    });
    let last_caches = each(&|core| {
        let folder = format!("{CPU}/cpu{core}/cache");
        let indexes = root.names(&folder).into_iter().filter(|name| name.starts_with("index"));
        let levels =
            indexes.filter_map(|name| Some((root.value::<u32>(format!("{folder}/{name}/level"))?, name)));
        let (_, last) = levels.max()?;
        root.text(format!("{folder}/{last}/shared_cpu_list"))
    });
    let nodes = root.names("sys/devices/system/node").into_iter().filter(|name| {
        name.strip_prefix("node")
            .is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
    });
    Layout {
        allowed: format_cores(&machine.cores),
        online: format_cores(&online),
        threads: threads.into_iter().filter(|set| parse_list(set).len() > 1).collect(),
        last_caches,
        nodes: nodes
            .filter_map(|name| root.text(format!("sys/devices/system/node/{name}/cpulist")))
            .collect(),
    }
}

/// Which cores workers get, and what these share. Nothing of it is wrong; --pin and --workers decide.
pub fn cores(machine: &Machine) -> Finding {
    let layout = layout(machine);
    if layout.allowed.is_empty() && layout.online.is_empty() {
        return Finding::unknown("neither /proc/self/status nor /sys/devices/system/cpu can be read here");
    }
    let mut notes = Vec::new();
    if !layout.online.is_empty() && layout.allowed != layout.online {
        notes.push(format!("of {}: an affinity mask or a cpuset leaves these", layout.online));
    }
    let inside =
        |set: &&String| parse_list(set).iter().filter(|core| machine.cores.contains(core)).count() > 1;
    let siblings = layout.threads.iter().filter(inside).count();
    if siblings > 0 {
        notes.push(format!("{siblings} pair(s) are threads of one core"));
    }
    for (sets, what) in [(&layout.last_caches, "last-level caches"), (&layout.nodes, "memory nodes")] {
        if sets.len() > 1 {
            notes.push(format!("{} {what}: {}", sets.len(), sets.join(" ")));
        }
    }
    Finding::ok(layout.allowed, notes.join("; "))
}

/// The share of time that the control group leaves.
pub fn cpu_quota(machine: &Machine) -> Finding {
    let groups = machine.groups("cpu");
    let seen = |name: &str| groups.iter().any(|group| machine.root.exists(format!("{group}/{name}")));
    let Some(quota) = machine.cpu_quota() else {
        // at the root of version 2 there is no cpu.max
        return match seen("cpu.stat") || seen("cpu.max") || seen("cpu.cfs_quota_us") {
            true => Finding::ok("no quota", ""),
            false => Finding::unknown("no control group for the CPU can be read here"),
        };
    };
    let now = format!("{quota:.2} core(s)");
    let (throttled, periods) = throttled(machine, &groups);
    let stopped = format!("it has been stopped in {throttled} of {periods} periods");
    if throttled > 0 && throttled * 100 >= periods * STOPPED_MIN {
        return Finding::better(now, stopped + ", each time until the period was over");
    }
    if quota < 1.0 {
        return Finding::better(now, "a worker that is busy stops for the rest of every period");
    }
    let workers = format!("{} worker(s), not pinned", machine.workers());
    Finding::ok(now, if throttled > 0 { format!("{workers}; {stopped}") } else { workers })
}

/// `nr_throttled` and `nr_periods`, both since the group was made, of the group in which they are the largest share.
fn throttled(machine: &Machine, groups: &[String]) -> (u64, u64) {
    let counts = groups.iter().filter_map(|group| {
        let text = machine.root.text(format!("{group}/cpu.stat"))?;
        let count =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        Some((count("nr_throttled ")?, count("nr_periods ")?))
    });
    let shares = counts.filter(|(_, periods)| *periods > 0);
    shares.max_by(|one, other| (one.0 * other.1).cmp(&(other.0 * one.1))).unwrap_or((0, 0))
}

/// How the cores' clock is chosen.
pub fn cpu_governor(machine: &Machine) -> Finding {
    let governor = |core: &usize| machine.root.text(format!("{CPU}/cpu{core}/cpufreq/scaling_governor"));
    let mut names: Vec<String> = machine.cores.iter().filter_map(governor).collect();
    let cores = names.len();
    names.sort();
    names.dedup();
    match &names[..] {
        [] => Finding::unknown("no clock can be set here (a virtual machine's is its host's)"),
        [one] if one == "performance" => Finding::ok(one, ""),
        names => Finding::better(
            names.join(", "),
            format!("{cores} core(s) may run below their highest clock while requests wait"),
        ),
    }
}

/// Transparent hugepages: `always [madvise] never`.
pub fn hugepages(machine: &Machine) -> Finding {
    let Some(text) = machine.root.text("sys/kernel/mm/transparent_hugepage/enabled") else {
        return Finding::unknown("/sys/kernel/mm/transparent_hugepage cannot be read here");
    };
    match text.split(['[', ']']).nth(1) {
        Some("always") => Finding::better("always", "a worker's memory grows by 2MiB where 4KiB would do"),
        Some(chosen) => Finding::ok(chosen, ""),
        None => Finding::unknown(format!("{text:?} names no choice")),
    }
}

/// Guards against reading memory by speculation. What is advised is to have them.
pub fn mitigations(machine: &Machine) -> Finding {
    let folder = format!("{CPU}/vulnerabilities");
    let names = machine.root.names(&folder);
    let open: Vec<&str> = names
        .iter()
        .filter(|name| {
            machine.root.text(format!("{folder}/{name}")).is_some_and(|text| text.starts_with("Vulnerable"))
        })
        .map(String::as_str)
        .collect();
    let command_line = machine.root.text("proc/cmdline").unwrap_or_default();
    if command_line.split_whitespace().any(|word| word == "mitigations=off") {
        let reason = "other programs on this machine may read uringd's memory: its clients' data, its keys";
        return Finding::better("off", reason)
            .with(vec!["take mitigations=off out of the kernel's command line".into()]);
    }
    match (names.is_empty(), open.is_empty()) {
        (true, _) => Finding::unknown(format!("/{folder} cannot be read here")),
        (false, true) => Finding::ok("on", ""),
        (false, false) => Finding::better(
            format!("open to {}", open.join(", ")),
            "a newer kernel or microcode closes these; in a virtual machine the host's",
        ),
    }
}
