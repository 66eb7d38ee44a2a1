//! Makes a ring: asks for the best set of features, steps back from what the kernel lacks and says so, and turns a
//! refusal into the one cause that the user can act on.
//!
//! Neighbours: used by `Ring::new`; `ipc::message` carries the report and the refusal to the master. `doctor` has each thing
//! probed by itself, and decides about the sysctl as this does.

use super::buffers::{Buffers, PoolSize};
use crate::error::RingRefusal;
use crate::sys::status::{CAP_IPC_LOCK, CAP_SYS_ADMIN, Status};
use io_uring::{IoUring, Probe, opcode};
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use serde::Serialize;
use std::io;

/// Kept small: submissions cycle through this memory, and 512 of them (32 KiB) leave the caches to the requests.
/// A turn with more goes to the kernel in several submits.
const ENTRIES: u32 = 512;
/// Four turns' worth; beyond it the kernel keeps completions aside (NODROP) and we fetch them.
const COMPLETIONS: u32 = 2048;
/// What a worker's ring costs of RLIMIT_MEMLOCK where the kernel charges it (6.14 and newer; tests/tuning.rs measures it):
/// the two queues, and a page for each receive pool.
pub(crate) const LOCKED_OCTETS: u64 = (68 + 4 + 4) * 1024;

/// What a ring can do here.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// Features in use, by the kernel's names.
    pub using: Vec<&'static str>,
    /// Features done without.
    pub missing: Vec<&'static str>,
    /// Direct descriptors can be made ordinary ones (6.8), so connections can travel.
    pub install: bool,
}

/// The operations that are used: number, name, the kernel that brought it, whether there is no doing without.
const OPERATIONS: [(u8, &str, &str, bool); 14] = [
    (opcode::Accept::CODE, "accept", "5.5", true),
    (opcode::RecvMulti::CODE, "receive", "5.6", true),
    (opcode::Send::CODE, "send", "5.6", true),
    (opcode::SendMsg::CODE, "sendmsg", "5.3", true),
    (opcode::Madvise::CODE, "madvise", "5.6", true),
    (opcode::Shutdown::CODE, "shutdown", "5.11", true),
    (opcode::Close::CODE, "close", "5.6", true),
    (opcode::AsyncCancel::CODE, "cancel", "5.5", true),
    (opcode::PollAdd::CODE, "poll", "5.1", true),
    (opcode::OpenAt::CODE, "openat", "5.6", true),
    (opcode::Read::CODE, "read", "5.6", true),
    (opcode::Write::CODE, "write", "5.6", true),
    (opcode::Fsync::CODE, "fsync", "5.1", true),
    (opcode::FixedFdInstall::CODE, FIXED_FD_INSTALL, "6.8", false),
];

const FIXED_FD_INSTALL: &str = "FIXED_FD_INSTALL";
const NO_SQARRAY: &str = "NO_SQARRAY";

pub(super) fn build() -> Result<(IoUring, Features), RingRefusal> {
    let (ring, no_sqarray) = build_queues().map_err(|error| refusal(Step::Setup, &error))?;
    // a filter may let rings be made and not used, which had better be found now
    ring.submit().map_err(|error| refusal(Step::Enter, &error))?;
    let mut features = Features { using: vec!["SINGLE_ISSUER", "DEFER_TASKRUN"], ..Features::default() };
    features.note(NO_SQARRAY, no_sqarray);
    let mut probed = promised(&ring);
    probed.extend(operations(&ring).map_err(|error| refusal(Step::Probe, &error))?);
    if let Some(lacking) = probed.iter().find(|one| one.needed && !one.present) {
        return Err(RingRefusal::TooOld { release: kernel_release(), lacks: lacking.name.into() });
    }
    features.using.extend(["multishot receive", "provided buffers", "direct descriptors"]);
    features.install = probed.iter().any(|one| one.name == FIXED_FD_INSTALL && one.present);
    features.note(FIXED_FD_INSTALL, features.install);
    // files that are not in memory are brought there by the first kind of io-wq thread; shutdown(2) always goes to the
    // other kind, of which two are plenty for closing politely
    let _ = ring.submitter().register_iowq_max_workers(&mut [8, 2]);
    Ok((ring, features))
}

/// One thing that io_uring can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probed {
    /// The kernel's name for it.
    pub name: &'static str,
    /// The kernel that brought it.
    pub since: &'static str,
    /// Without it there is no uringd.
    pub needed: bool,
    /// This kernel has it.
    pub present: bool,
}

/// Asks for each thing by itself, so that a kernel which lacks several is told all of them. Nothing where no ring can be
/// made at all.
pub fn probe() -> Vec<Probed> {
    let Ok(ring) = IoUring::new(8) else { return Vec::new() };
    let flag = |name, since, needed, builder: &io_uring::Builder| {
        let present = builder.build(8).is_ok();
        Probed { name, since, needed, present }
    };
    let mut probed = vec![
        flag("SUBMIT_ALL", "5.18", true, IoUring::builder().setup_submit_all()),
        flag("SINGLE_ISSUER", "6.0", true, IoUring::builder().setup_single_issuer()),
        flag("DEFER_TASKRUN", "6.1", true, IoUring::builder().setup_single_issuer().setup_defer_taskrun()),
        flag(NO_SQARRAY, "6.6", false, IoUring::builder().setup_no_sqarray()),
    ];
    probed.extend(promised(&ring));
    probed.push(Probed {
        name: "provided buffers",
        since: "5.19",
        needed: true,
        present: Buffers::register(&ring, PoolSize::REQUESTS).is_ok_and(|buffers| {
            let known = buffers.unregister(&ring).is_err();
            if known {
                // what the kernel still knows must not be freed
                std::mem::forget(buffers);
            }
            !known
        }),
    });
    let submitter = ring.submitter();
    let direct = submitter.register_files_sparse(8).is_ok() && submitter.unregister_files().is_ok();
    probed.push(Probed { name: "direct descriptors", since: "5.19", needed: true, present: direct });
    probed.extend(operations(&ring).unwrap_or_default());
    probed
}

/// What a ring says of itself. 6.1 has all of these; a kernel that accepts the setup flags but lacks one has been patched.
fn promised(ring: &IoUring) -> Vec<Probed> {
    let parameters = ring.params();
    [
        ("NODROP", "5.5", parameters.is_feature_nodrop()),
        ("EXT_ARG", "5.11", parameters.is_feature_ext_arg()),
        ("CQE_SKIP", "5.17", parameters.is_feature_skip_cqe_on_success()),
    ]
    .map(|(name, since, present)| Probed { name, since, needed: true, present })
    .into()
}

fn operations(ring: &IoUring) -> io::Result<Vec<Probed>> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let present =
        |(code, name, since, needed)| Probed { name, since, needed, present: probe.is_supported(code) };
    Ok(OPERATIONS.map(present).into())
}

impl Features {
    fn note(&mut self, name: &'static str, present: bool) {
        if present { self.using.push(name) } else { self.missing.push(name) }
    }
}

/// NO_SQARRAY (6.6) is the only setup flag that a supported kernel may lack.
fn build_queues() -> io::Result<(IoUring, bool)> {
    match builder().setup_no_sqarray().build(ENTRIES) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok((builder().build(ENTRIES)?, false)),
        other => Ok((other?, true)),
    }
}

fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_cqsize(COMPLETIONS)
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .dontfork();
    builder
}

/// What the kernel was asked for when it refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Setup,
    Enter,
    Probe,
    Buffers,
    Slots,
}

impl Step {
    fn call(self) -> &'static str {
        match self {
            Step::Setup => "io_uring_setup",
            Step::Enter => "io_uring_enter",
            Step::Probe | Step::Buffers | Step::Slots => "io_uring_register",
        }
    }

    /// What a kernel lacks that finds this invalid.
    fn newest_part(self) -> &'static str {
        match self {
            Step::Setup | Step::Enter | Step::Probe => "DEFER_TASKRUN",
            Step::Buffers => "provided buffers",
            Step::Slots => "direct descriptors",
        }
    }
}

/// Turns what the kernel said into the cause that the user can act on.
pub(super) fn refusal(step: Step, error: &io::Error) -> RingRefusal {
    classify(step, Errno::from_raw(error.raw_os_error().unwrap_or(0)), Facts::read())
}

/// What must be known beside the errno to name the cause: EPERM alone has two, and so has ENOMEM.
struct Facts {
    release: String,
    /// kernel.io_uring_disabled, where that forbids a ring to this process.
    sysctl: Option<u8>,
    filtered: bool,
    /// RLIMIT_MEMLOCK, where that binds this process.
    memory_lock: Option<u64>,
}

impl Facts {
    fn read() -> Facts {
        let status = Status::of_this_thread();
        let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(RLIM_INFINITY, |(soft, _)| soft);
        let binding = limit != RLIM_INFINITY && !status.can(CAP_IPC_LOCK);
        let disabled = read_number("/proc/sys/kernel/io_uring_disabled");
        let group = read_number("/proc/sys/kernel/io_uring_group");
        Facts {
            release: kernel_release(),
            sysctl: disabled
                .and_then(|value| value.try_into().ok())
                .filter(|value| sysctl_forbids(*value, group, &status)),
            filtered: status.filtered,
            memory_lock: binding.then_some(limit),
        }
    }
}

/// As io_uring_allowed() of io_uring/io_uring.c (6.6 and newer) decides, and the sysctl's entry in
/// Documentation/admin-guide/sysctl/kernel.rst says.
pub(crate) fn sysctl_forbids(disabled: u8, group: Option<i64>, who: &Status) -> bool {
    let in_group =
        || group.and_then(|gid| u32::try_from(gid).ok()).is_some_and(|gid| who.groups.contains(&gid));
    match disabled {
        0 => false,
        1 => !who.can(CAP_SYS_ADMIN) && !in_group(),
        _ => true,
    }
}

fn classify(step: Step, errno: Errno, facts: Facts) -> RingRefusal {
    match errno {
        // io_uring came with 5.1; Podman's profile answers ENOSYS where the kernel would not
        Errno::ENOSYS if facts.filtered && kernel_at_least(&facts.release, (5, 1)) => RingRefusal::Seccomp,
        Errno::ENOSYS => RingRefusal::Missing { release: facts.release },
        Errno::EPERM => match facts.sysctl {
            Some(value) => RingRefusal::Sysctl { value },
            None if facts.filtered => RingRefusal::Seccomp,
            None => RingRefusal::Other { problem: format!("{} says {errno}", step.call()) },
        },
        // the hook uring_allowed of 6.15 and newer
        Errno::EACCES => RingRefusal::SecurityModule,
        // 5.12 stopped charging rings to the limit, 6.14 charges them again (io_create_region)
        Errno::ENOMEM => match facts.memory_lock {
            Some(limit) => RingRefusal::MemoryLock { limit },
            None => RingRefusal::Memory,
        },
        Errno::EINVAL => RingRefusal::TooOld { release: facts.release, lacks: step.newest_part().into() },
        errno => RingRefusal::Other { problem: format!("{} says {errno}", step.call()) },
    }
}

/// `uname -r`.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".into(), |u| u.release().to_string_lossy().into_owned())
}

/// Whether a kernel's release is this one or a newer one.
pub fn kernel_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= wanted
}

fn read_number(path: &str) -> Option<i64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(release: &str, sysctl: Option<u8>, filtered: bool) -> Facts {
        Facts { release: release.into(), sysctl, filtered, memory_lock: None }
    }

    #[test]
    fn each_cause_has_its_remedy() {
        let limited = Facts { memory_lock: Some(65536), ..facts("6.18.0", None, false) };
        let table = [
            (Errno::ENOSYS, facts("4.19.0", None, false), "no io_uring"),
            (Errno::ENOSYS, facts("4.19.0", None, true), "no io_uring"),
            (Errno::ENOSYS, facts("6.8.0-45-generic", None, true), "seccomp"),
            (Errno::EPERM, facts("6.8.0", Some(2), false), "sysctl -w kernel.io_uring_disabled=0"),
            (Errno::EPERM, facts("6.8.0", Some(1), true), "io_uring_disabled=1"),
            (Errno::EPERM, facts("6.8.0", None, true), "seccomp"),
            (Errno::EPERM, facts("6.1.0", None, false), "EPERM"),
            (Errno::EACCES, facts("6.15.0", None, true), "SELinux"),
            (Errno::ENOMEM, limited, "RLIMIT_MEMLOCK is 65536 bytes"),
            (Errno::ENOMEM, facts("6.18.0", None, false), "memory.max"),
            (Errno::EINVAL, facts("5.15.0", None, false), "too old"),
            (Errno::EMFILE, facts("6.8.0", None, false), "io_uring_setup says EMFILE"),
        ];
        for (errno, facts, expected) in table {
            let line = classify(Step::Setup, errno, facts).to_string();
            assert!(line.contains(expected), "{errno}: {line:?} lacks {expected:?}");
            assert!(!line.contains('\n'));
        }
    }

    #[test]
    fn the_sysctl_forbids_as_the_kernel_decides() {
        let nobody = Status { groups: vec![65_534, 100], ..Status::default() };
        let admin = Status { capabilities: 1 << CAP_SYS_ADMIN, ..Status::default() };
        let table = [
            (0, Some(-1), &nobody, false),
            (1, Some(-1), &nobody, true),
            (1, None, &nobody, true),
            (1, Some(100), &nobody, false),
            (1, Some(101), &nobody, true),
            (1, Some(-1), &admin, false),
            (2, Some(100), &nobody, true),
            (2, Some(-1), &admin, true),
        ];
        for (disabled, group, who, forbidden) in table {
            assert_eq!(sysctl_forbids(disabled, group, who), forbidden, "{disabled} {group:?} {who:?}");
        }
    }

    #[test]
    fn releases_compare_by_number() {
        assert!(
            kernel_at_least("6.1.0-rc1", (6, 1))
                && kernel_at_least("10.0", (6, 1))
                && !kernel_at_least("5.19.17", (6, 1))
        );
        assert!(!kernel_at_least("unknown", (5, 1)));
    }
}
