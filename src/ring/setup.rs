//! Makes a ring: asks for the best set of features, steps back from what the kernel lacks and says so, and turns a
//! refusal into the one cause that the user can act on.
//!
//! Neighbours: used by `Ring::new`; `ipc::message` carries the report and the refusal to the master.

use crate::error::RingRefusal;
use io_uring::{IoUring, Probe, opcode};
use nix::errno::Errno;
use std::io;

/// Kept small: submissions cycle through this memory, and 512 of them (32 KiB) leave the caches to the requests.
/// A turn with more goes to the kernel in several submits.
const ENTRIES: u32 = 512;
/// Four turns' worth; beyond it the kernel keeps completions aside (NODROP) and we fetch them.
const COMPLETIONS: u32 = 2048;

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

pub(super) fn build() -> Result<(IoUring, Features), RingRefusal> {
    let (ring, no_sqarray) = build_queues().map_err(refusal)?;
    let mut features = Features { using: vec!["SINGLE_ISSUER", "DEFER_TASKRUN"], ..Features::default() };
    features.note("NO_SQARRAY", no_sqarray);
    check_required(&ring)?;
    features.using.extend(["multishot receive", "provided buffers", "direct descriptors"]);
    features.install = supports(&ring, opcode::FixedFdInstall::CODE);
    features.note("FIXED_FD_INSTALL", features.install);
    // files that are not in memory are brought there by the first kind of io-wq thread; shutdown(2) always goes to the
    // other kind, of which two are plenty for closing politely
    let _ = ring.submitter().register_iowq_max_workers(&mut [8, 2]);
    Ok((ring, features))
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

/// 6.1 has all of these; a kernel that accepts the setup flags but lacks one has been patched.
fn check_required(ring: &IoUring) -> Result<(), RingRefusal> {
    let parameters = ring.params();
    let lacks = |what: &str| Err(RingRefusal::TooOld { release: kernel_release(), lacks: what.into() });
    if !parameters.is_feature_nodrop() || !parameters.is_feature_ext_arg() {
        return lacks("NODROP and EXT_ARG");
    }
    if !parameters.is_feature_skip_cqe_on_success() {
        return lacks("CQE_SKIP");
    }
    for (code, name) in [
        (opcode::Accept::CODE, "accept"),
        (opcode::RecvMulti::CODE, "receive"),
        (opcode::Send::CODE, "send"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::Madvise::CODE, "madvise"),
        (opcode::Shutdown::CODE, "shutdown"),
        (opcode::Close::CODE, "close"),
        (opcode::AsyncCancel::CODE, "cancel"),
        (opcode::PollAdd::CODE, "poll"),
    ] {
        if !supports(ring, code) {
            return lacks(name);
        }
    }
    Ok(())
}

fn supports(ring: &IoUring, code: u8) -> bool {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).is_ok() && probe.is_supported(code)
}

fn refusal(error: io::Error) -> RingRefusal {
    let facts = Facts {
        release: kernel_release(),
        sysctl: read_number("/proc/sys/kernel/io_uring_disabled"),
        seccomp: seccomp_filtered(),
        memory_lock: nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK)
            .map_or(0, |l| l.0),
    };
    classify(Errno::from_raw(error.raw_os_error().unwrap_or(0)), facts)
}

/// What must be known beside the errno to name the cause: EPERM alone has two.
struct Facts {
    release: String,
    sysctl: Option<u8>,
    seccomp: bool,
    memory_lock: u64,
}

fn classify(errno: Errno, facts: Facts) -> RingRefusal {
    match errno {
        // io_uring came with 5.1; Podman's profile answers ENOSYS where the kernel would not
        Errno::ENOSYS if facts.seccomp && at_least(&facts.release, (5, 1)) => RingRefusal::Seccomp,
        Errno::ENOSYS => RingRefusal::Missing { release: facts.release },
        Errno::EPERM | Errno::EACCES => match facts.sysctl {
            Some(value) if value > 0 => RingRefusal::Sysctl { value },
            _ if facts.seccomp => RingRefusal::Seccomp,
            _ => RingRefusal::Other { problem: format!("io_uring_setup says {errno}") },
        },
        Errno::ENOMEM => RingRefusal::MemoryLock { limit: facts.memory_lock },
        Errno::EINVAL => RingRefusal::TooOld { release: facts.release, lacks: "DEFER_TASKRUN".into() },
        errno => RingRefusal::Other { problem: format!("io_uring_setup says {errno}") },
    }
}

/// `uname -r`.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".into(), |u| u.release().to_string_lossy().into_owned())
}

fn at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= wanted
}

fn read_number(path: &str) -> Option<u8> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn seccomp_filtered() -> bool {
    // a filter is a thread's
    std::fs::read_to_string("/proc/thread-self/status")
        .is_ok_and(|status| status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(release: &str, sysctl: Option<u8>, seccomp: bool) -> Facts {
        Facts { release: release.into(), sysctl, seccomp, memory_lock: 65536 }
    }

    #[test]
    fn four_causes_have_four_remedies() {
        let table = [
            (Errno::ENOSYS, facts("4.19.0", None, false), "no io_uring"),
            (Errno::ENOSYS, facts("4.19.0", None, true), "no io_uring"),
            (Errno::ENOSYS, facts("6.8.0-45-generic", Some(0), true), "seccomp"),
            (Errno::EPERM, facts("6.8.0", Some(2), false), "sysctl -w kernel.io_uring_disabled=0"),
            (Errno::EPERM, facts("6.8.0", Some(1), true), "io_uring_disabled=1"),
            (Errno::EPERM, facts("6.8.0", Some(0), true), "seccomp"),
            (Errno::EPERM, facts("6.1.0", None, false), "EPERM"),
            (Errno::ENOMEM, facts("6.8.0", Some(0), false), "RLIMIT_MEMLOCK is 65536 bytes"),
            (Errno::EINVAL, facts("5.15.0", None, false), "too old"),
            (Errno::EMFILE, facts("6.8.0", Some(0), false), "EMFILE"),
        ];
        for (errno, facts, expected) in table {
            let line = classify(errno, facts).to_string();
            assert!(line.contains(expected), "{errno}: {line:?} lacks {expected:?}");
            assert!(!line.contains('\n'));
        }
    }

    #[test]
    fn releases_compare_by_number() {
        assert!(at_least("6.1.0-rc1", (6, 1)) && at_least("10.0", (6, 1)) && !at_least("5.19.17", (6, 1)));
        assert!(!at_least("unknown", (5, 1)));
    }
}
