//! Whether there is any io_uring here, and who forbids it.
//!
//! Neighbours: `ring::setup` found the refusal; its `sysctl_forbids` decides here as well.

use super::Finding;
use crate::doctor::machine::Machine;
use crate::error::RingRefusal;
use crate::ring::{kernel_at_least, sysctl_forbids};

/// The oldest kernel that has all that is needed.
const OLDEST: (u32, u32) = (6, 1);

/// The kernel, and what its io_uring has. A refusal that another check explains is told there.
pub fn kernel(machine: &Machine) -> Finding {
    let release = machine.release.as_str();
    let probed = &machine.rings.probed;
    let lacking = |needed: bool| {
        let names = probed.iter().filter(|one| one.needed == needed && !one.present).map(|one| one.name);
        names.collect::<Vec<_>>().join(", ")
    };
    let (needed, optional) = (lacking(true), lacking(false));
    let explained_elsewhere = matches!(
        machine.rings.refusal,
        Some(RingRefusal::Sysctl { .. } | RingRefusal::Seccomp | RingRefusal::MemoryLock { .. })
    );
    match &machine.rings.refusal {
        Some(_) if !needed.is_empty() => Finding::wrong(release, format!("its io_uring lacks {needed}")),
        Some(cause) if !explained_elsewhere => Finding::wrong(release, cause.to_string()),
        Some(_) if release.is_empty() => {
            Finding::unknown("io_uring cannot be asked, and the release cannot be read")
        }
        Some(_) if !kernel_at_least(release, OLDEST) => Finding::wrong(release, "older than 6.1"),
        Some(_) => Finding::ok(release, "new enough; what its io_uring has cannot be asked, see above"),
        None if optional.is_empty() => {
            Finding::ok(release, "its io_uring has all that is needed, and all that helps")
        }
        None => Finding::better(release, format!("it runs without {optional}")),
    }
}

/// kernel.io_uring_disabled, for whoever asks.
pub fn io_uring_disabled(machine: &Machine) -> Finding {
    let Some(value) = machine.root.value::<u8>("proc/sys/kernel/io_uring_disabled") else {
        return match machine.rings.refusal {
            None => Finding::ok("", "this kernel has no such switch (it came with 6.6)"),
            Some(_) => Finding::unknown("/proc/sys/kernel/io_uring_disabled cannot be read here"),
        };
    };
    let group = machine.root.value("proc/sys/kernel/io_uring_group");
    match (value, sysctl_forbids(value, group, &machine.status)) {
        (1, true) => Finding::wrong(
            "1",
            "only CAP_SYS_ADMIN and the members of kernel.io_uring_group get a ring, and this user is neither",
        ),
        (value, true) => Finding::wrong(value.to_string(), "nobody gets a ring"),
        (0, false) => Finding::ok("0", ""),
        (value, false) => Finding::ok(value.to_string(), "not everybody gets a ring; this user does"),
    }
}

/// A filter of system calls, such as containers have.
pub fn seccomp(machine: &Machine) -> Finding {
    match (&machine.rings.refusal, machine.status.filtered) {
        (Some(RingRefusal::Seccomp), _) => Finding::wrong(
            "a filter",
            "it forbids io_uring_setup, io_uring_enter or io_uring_register, as containers' default profiles do",
        ),
        (None, true) => Finding::ok("a filter", "it lets io_uring through"),
        (Some(_), true) => Finding::unknown(
            "there is a filter; io_uring is refused before one can tell what it lets through",
        ),
        (_, false) => Finding::ok("no filter", ""),
    }
}
