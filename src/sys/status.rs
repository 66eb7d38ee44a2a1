//! What the kernel says of a process in /proc/PID/status (proc_pid_status(5)): who it is and what it may do.
//!
//! Neighbours: `ring::setup` asks why a ring is refused, `doctor` what is set here.

/// A process's `status`, as far as it decides what uringd can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The effective user.
    pub uid: u32,
    /// The group for permissions and all further ones: those that the kernel's in_group_p() looks at.
    pub groups: Vec<u32>,
    /// The effective capabilities, a bit each (capabilities(7)).
    pub capabilities: u64,
    /// A seccomp filter looks at its system calls.
    pub filtered: bool,
    /// The cores it may run on, such as `0-3,8`.
    pub cores: String,
}

/// May lock memory beyond RLIMIT_MEMLOCK.
pub(crate) const CAP_IPC_LOCK: u32 = 14;
/// May do what is left to nobody else; a ring under kernel.io_uring_disabled=1, for instance.
pub(crate) const CAP_SYS_ADMIN: u32 = 21;

impl Status {
    /// Of the calling thread: a filter is a thread's.
    pub fn of_this_thread() -> Status {
        Status::parse(&std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default())
    }

    /// What is not there or cannot be read is as if there were none of it.
    pub fn parse(text: &str) -> Status {
        let mut status = Status::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let mut words = value.split_whitespace();
            match name {
                "Uid" => status.uid = words.nth(1).and_then(|uid| uid.parse().ok()).unwrap_or(u32::MAX),
                "Gid" => status.groups.extend(words.nth(3).and_then(|gid| gid.parse::<u32>().ok())),
                "Groups" => status.groups.extend(words.filter_map(|gid| gid.parse::<u32>().ok())),
                "CapEff" => status.capabilities = u64::from_str_radix(value.trim(), 16).unwrap_or(0),
                "Seccomp" => status.filtered = value.trim() == "2",
                "Cpus_allowed_list" => status.cores = value.trim().to_owned(),
                _ => {}
            }
        }
        status
    }

    /// Whether it has this capability.
    pub fn can(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_proc_writes_it() {
        let text = "Name:\turingd\nUid:\t0\t1000\t0\t0\nGid:\t0\t0\t0\t100\nGroups:\t27 998 \n\
            CapEff:\t0000000000004000\nSeccomp:\t2\nSeccomp_filters:\t1\nCpus_allowed_list:\t0-3,8\n";
        let status = Status::parse(text);
        assert_eq!((status.uid, &status.groups[..], status.filtered), (1000, &[100, 27, 998][..], true));
        assert_eq!(status.cores, "0-3,8");
        assert!(status.can(CAP_IPC_LOCK) && !status.can(CAP_SYS_ADMIN));
        assert_eq!(Status::parse("nonsense"), Status::default());
    }

    #[test]
    fn this_threads_status_can_be_read() {
        assert!(!Status::of_this_thread().cores.is_empty());
    }
}
