//! How much of something a process, a user or a control group may have.
//!
//! Neighbours: `machine` reads limits and control groups.

use super::{Finding, Verdict};
use crate::config::DESCRIPTOR_RESERVE;
use crate::config::options::DEFAULT_MAX_CONNECTIONS;
use crate::doctor::machine::Machine;
use crate::error::RingRefusal;
use crate::ring::{LOCKED_OCTETS, kernel_at_least};
use crate::sys::status::CAP_IPC_LOCK;

/// What a worker may come to need: --file-cache, and about as much for its connections and the program.
const WORKER_OCTETS: u64 = 64 << 20;
/// The master, and what a replacement takes before its predecessor has left.
const POOL_OCTETS: u64 = 64 << 20;

/// RLIMIT_MEMLOCK, which 6.14 and newer charge rings to.
pub fn memlock(machine: &Machine) -> Finding {
    let Some(limit) = machine.limit("Max locked memory").map(|limit| limit.soft) else {
        return Finding::unknown("/proc/self/limits cannot be read here");
    };
    let now = size(limit);
    if matches!(machine.rings.refusal, Some(RingRefusal::MemoryLock { .. })) {
        let reason = format!(
            "this kernel charges {} for a ring, to all processes of a user together",
            size(LOCKED_OCTETS)
        );
        return Finding::wrong(now, reason);
    }
    if machine.status.can(CAP_IPC_LOCK) {
        return Finding::ok(now, "it does not bind this user (CAP_IPC_LOCK)");
    }
    if !machine.release.is_empty() && !kernel_at_least(&machine.release, (6, 14)) {
        return Finding::ok(now, "this kernel does not charge rings to it");
    }
    // a reload has each worker's replacement beside it
    let needed = 2 * machine.workers() as u64 * LOCKED_OCTETS;
    if limit >= needed {
        return Finding::ok(now, "");
    }
    let reason = format!("{} workers and their replacements need {}", machine.workers(), size(needed));
    Finding::better(now, reason)
}

/// RLIMIT_NOFILE and fs.file-max.
pub fn open_files(machine: &Machine) -> Finding {
    let Some(limit) = machine.limit("Max open files").map(|limit| limit.hard) else {
        return Finding::unknown("/proc/self/limits cannot be read here");
    };
    let now = limit.to_string();
    let wanted = u64::from(DEFAULT_MAX_CONNECTIONS) + DESCRIPTOR_RESERVE;
    if limit <= DESCRIPTOR_RESERVE {
        return Finding::wrong(
            now,
            format!("a worker needs {DESCRIPTOR_RESERVE} besides those of its clients"),
        );
    }
    if limit < wanted {
        let clients = limit - DESCRIPTOR_RESERVE;
        let reason =
            format!("a worker serves {clients} clients at a time instead of {DEFAULT_MAX_CONNECTIONS}");
        return Finding::better(now, reason);
    }
    let all = machine.workers() as u64 * wanted;
    match machine.root.value::<u64>("proc/sys/fs/file-max").filter(|max| *max < all) {
        Some(max) => {
            let reason = format!("but all of this machine's processes together may have {max} (fs.file-max)");
            Finding::better(now, reason).with(vec![format!("sysctl -w fs.file-max={all}")])
        }
        None => Finding::ok(now, ""),
    }
}

/// The memory limit of the control group.
pub fn memory_limit(machine: &Machine) -> Finding {
    let groups = machine.groups("memory");
    let read = |name: &str| {
        groups.iter().filter_map(|group| machine.root.text(format!("{group}/{name}"))).collect::<Vec<_>>()
    };
    let (version_2, version_1) = (read("memory.max"), read("memory.limit_in_bytes"));
    if version_2.is_empty() && version_1.is_empty() {
        return Finding::unknown("no control group for memory can be read here");
    }
    // `max`; version 1 says so with the largest number of pages that there is
    let limits = version_2.iter().chain(&version_1).filter_map(|limit| limit.parse::<u64>().ok());
    let Some(limit) = limits.filter(|limit| *limit < 1 << 60).min() else {
        return Finding::ok("no limit", "");
    };
    let workers = machine.workers() as u64;
    let wanted = POOL_OCTETS + workers * WORKER_OCTETS;
    if limit < wanted {
        let reason =
            format!("{workers} worker(s) may come to need {} (--file-cache is 32MiB each)", size(wanted));
        return Finding::better(size(limit), reason);
    }
    match killed(&[read("memory.events"), read("memory.oom_control")].concat()) {
        0 => Finding::ok(size(limit), ""),
        // once, long ago, or every hour: the counter does not tell
        killed => Finding::new(
            Verdict::Unknown,
            size(limit),
            format!(
                "the kernel has killed {killed} process(es) here for lack of it since the group was made"
            ),
        ),
    }
}

/// `oom_kill N`, in this group's file: those above count what happened elsewhere.
fn killed(files: &[String]) -> u64 {
    let own = files.first().map_or("", String::as_str);
    own.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// As people write it; exactly, if in whole units.
fn size(octets: u64) -> String {
    match octets {
        u64::MAX => "unlimited".to_owned(),
        octets if octets >= 10 << 20 => format!("{}MiB", octets >> 20),
        octets => format!("{}KiB", octets >> 10),
    }
}
