//! Processes: names, users, the tie to the parent, pidfds, and starting this executable again.
//!
//! Neighbours: `master::spawn` starts and signals workers with it, `worker` settles in with it.

use super::signal;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Gid, Pid, Uid, getppid};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Sets the name that `ps -o comm` and `top` show; at most 15 octets of it.
pub(crate) fn set_name(name: &str) {
    let mut bytes = [0u8; 16];
    let len = name.len().min(15);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    // SAFETY: PR_SET_NAME reads a NUL-terminated string of at most 16 octets.
    unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) };
}

/// This process's ID.
pub(crate) fn id() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Whether orphans below this process are given to it instead of PID 1.
pub(crate) fn is_subreaper() -> bool {
    let mut yes: libc::c_int = 0;
    // SAFETY: PR_GET_CHILD_SUBREAPER writes one int to where the pointer says.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut yes) == 0 && yes != 0 }
}

/// A child of this thread that has ended and that nobody has waited for. It stays to be waited for.
///
/// Of this thread only: children that the program starts on other threads are theirs to wait for. Orphans are given
/// to the thread that `main` runs on, which is the master's loop's.
pub(crate) fn ended_child() -> Option<i32> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WNOTHREAD;
    wait_for(libc::P_ALL, 0, flags)
}

/// Takes the exit status of a child that has ended, and lets go of it.
pub(crate) fn reap(pid: i32) {
    wait_for(libc::P_PID, pid as libc::id_t, libc::WEXITED | libc::WNOHANG);
}

fn wait_for(whom: libc::idtype_t, id: libc::id_t, flags: libc::c_int) -> Option<i32> {
    // SAFETY: all-zero is a valid siginfo_t, and waitid writes nothing else. Where it has found nobody the ID in it is 0.
    let pid = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let failed = libc::waitid(whom, id, &raw mut info, flags) < 0;
        if failed { 0 } else { info.si_pid() }
    };
    (pid > 0).then_some(pid)
}

/// The parent's process ID.
pub(crate) fn parent() -> i32 {
    nix::unistd::getppid().as_raw()
}

/// Lets this thread run on every core that the parent may use: a thread starts on the one core that its worker was
/// pinned to.
pub(crate) fn unpin_thread() {
    let this_thread = Pid::from_raw(0);
    // 0 is a parent that cannot be seen from here (in another PID namespace), and would mean this thread
    let parents = Some(getppid()).filter(|pid| pid.as_raw() != 0).and_then(|pid| sched_getaffinity(pid).ok());
    if parents.is_some_and(|cores| sched_setaffinity(this_thread, &cores).is_ok()) {
        return;
    }
    let mut all = CpuSet::new();
    (0..CpuSet::count()).for_each(|core| all.set(core).expect("below the count"));
    // the kernel takes those that there are; if it refuses, the thread stays where it is and works all the same
    let _ = sched_setaffinity(this_thread, &all);
}

/// Has the kernel send SIGTERM to this process when the thread that started it ends.
pub(crate) fn terminate_with_parent() {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
}

/// Becomes this user for good: groups first, while there is still the right to.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    nix::unistd::setgroups(&groups)?;
    nix::unistd::setgid(Gid::from_raw(gid))?;
    nix::unistd::setuid(Uid::from_raw(uid))?;
    // SAFETY: PR_SET_DUMPABLE takes a number; the switch of user cleared it, and with it /proc/self and core dumps.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
    Ok(())
}

/// Starts `executable` again under another name, with `inherited` as its only descriptors beyond the standard ones, and
/// with these variables set and those removed.
///
/// The parent-death signal follows the thread that calls this.
pub(crate) fn start_again(
    executable: BorrowedFd<'_>,
    name: &str,
    inherited: [BorrowedFd<'_>; 2],
    set: &[(&str, OsString)],
    remove: &[&str],
) -> io::Result<Child> {
    // resolved in the child, which still has the descriptor: it is closed by the exec itself
    let mut command = Command::new(format!("/proc/self/fd/{}", executable.as_raw_fd()));
    command.arg0(name);
    for name in remove {
        command.env_remove(name);
    }
    for (name, value) in set {
        command.env(name, value);
    }
    let inherited = inherited.map(|fd| fd.as_raw_fd());
    // SAFETY: between fork and exec only async-signal-safe calls are made: fcntl, and those of `reset_signals`.
    unsafe {
        command.pre_exec(move || {
            inherited.into_iter().try_for_each(keep_open)?;
            reset_signals()
        })
    };
    let mut child = command.spawn()?;
    let pid = Pid::from_raw(child.id() as i32);
    // the child cannot be reaped before we wait for it, so the number still means it
    match pidfd_open(pid) {
        Ok(pidfd) => Ok(Child { pid: pid.as_raw(), pidfd }),
        Err(error) => {
            // nobody would ever wait for it: out of descriptors, most likely
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// A process that this one started, by descriptor: signals and waiting cannot hit another that got its number.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
    /// It is not our child, or somebody else waited for it.
    Unknown,
}

impl Child {
    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Errno> {
        // SAFETY: pidfd_send_signal reads no memory when the info pointer is null.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        Errno::result(sent).map(|_| ())
    }

    /// Reaps it if it has ended.
    pub(crate) fn reap(&self) -> Option<Ended> {
        match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Exited(_, code)) => Some(Ended::Code(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ended::Signal(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => None,
            Err(_) => Some(Ended::Unknown),
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us and told nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn keep_open(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes a number.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
    Ok(())
}

/// The master blocks the signals that it reads from its signalfd; a child starts with none blocked, and with the
/// default for each but those that are the master's alone: ignored from before the exec on, so that there is no moment
/// in which a terminal's Ctrl-C or a SIGHUP to the whole group ends a worker that is just being started.
fn reset_signals() -> io::Result<()> {
    for signal in 1..=31 {
        // SAFETY: SIG_DFL runs no code of ours; KILL and STOP refuse, which is right.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    signal::ignore_the_masters();
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Takes variables out of the environment, so that no child of this process inherits them.
///
/// Call it before there is a second thread.
pub(crate) fn take_variables(names: &[&str]) -> Vec<Option<OsString>> {
    let values = names.iter().map(std::env::var_os).collect();
    for name in names {
        // SAFETY: the caller sees to it that no other thread reads the environment now.
        unsafe { std::env::remove_var(name) };
    }
    values
}

/// Takes over an inherited descriptor by number; `None` if there is none.
pub(crate) fn take_descriptor(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD takes a number; it fails for a descriptor that is not open.
    let open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
    // SAFETY: it is open, it was inherited by number, and its number was taken out of the environment: nobody else
    // in this process knows it.
    (open && number > 2).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// The same for one that is what it should be. Another one is left to whoever has it: where nothing was inherited, the
/// number may be somebody's in this process by now.
pub(crate) fn take_descriptor_if(number: RawFd, good: impl Fn(BorrowedFd<'_>) -> bool) -> Option<OwnedFd> {
    // SAFETY: F_GETFD takes a number; it fails for a descriptor that is not open.
    let open = number > 2 && unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
    // SAFETY: it is open, and stays so while `good` looks: this runs before there is a second thread.
    let good = open && good(unsafe { BorrowedFd::borrow_raw(number) });
    if good { take_descriptor(number) } else { None }
}

/// Shows `title` where `ps` shows the command line, by writing over the arguments and, where they are too short, the
/// environment behind them, as nginx and PostgreSQL do. The arguments must have been read before; variables are
/// moved to the heap first.
///
/// Call it before there is a second thread.
pub(crate) fn set_title(title: &str) {
    let Some((start, end)) = arguments_area() else { return };
    let mut bytes = title.as_bytes().to_vec();
    bytes.truncate(end - start - 1);
    bytes.resize(end - start, 0);
    for (name, value) in std::env::vars_os() {
        // SAFETY: the caller sees to it that there is no other thread. glibc copies the value to the heap, so that
        // nothing points into the area any more.
        unsafe { std::env::set_var(name, value) };
    }
    // SAFETY: the kernel mapped this area of the stack for argument and environment strings, readable and writable;
    // the arguments were read (see above), the variables have just moved.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start as *mut u8, bytes.len()) };
}

/// From the first argument to the end of the environment (proc(5), /proc/PID/stat, fields 48 to 51). The kernel shows
/// what is behind the arguments only if they do not end in NUL, so a short title is cut at its first NUL.
fn arguments_area() -> Option<(usize, usize)> {
    let stat = std::fs::read("/proc/self/stat").ok()?;
    let after_name = stat.iter().rposition(|c| *c == b')')? + 2;
    let fields: Vec<&OsStr> =
        stat[after_name..].split(|c| *c == b' ').map(|f| OsStr::from_bytes(f.trim_ascii())).collect();
    let field = |number: usize| fields.get(number - 3)?.to_str()?.parse::<usize>().ok();
    let (start, arguments_end, environment_end) = (field(48)?, field(49)?, field(51)?);
    (start < arguments_end && arguments_end <= environment_end).then_some((start, environment_end))
}

/// Keeps children of this process from inheriting a descriptor that is not ours.
pub(crate) fn do_not_inherit(number: RawFd) {
    // SAFETY: F_SETFD takes numbers; on a descriptor that is not open it fails.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_unpinned_to_the_parents_cores() {
        let this_thread = Pid::from_raw(0);
        let (pinned, unpinned) = std::thread::spawn(move || {
            let allowed = sched_getaffinity(this_thread).unwrap();
            let first = (0..CpuSet::count()).find(|core| allowed.is_set(*core).unwrap()).unwrap();
            let mut one = CpuSet::new();
            one.set(first).unwrap();
            sched_setaffinity(this_thread, &one).unwrap();
            let pinned = sched_getaffinity(this_thread).unwrap();
            unpin_thread();
            (pinned, sched_getaffinity(this_thread).unwrap())
        })
        .join()
        .unwrap();
        let count = |cores: &CpuSet| (0..CpuSet::count()).filter(|core| cores.is_set(*core).unwrap()).count();
        assert_eq!(count(&pinned), 1);
        assert_eq!(unpinned, sched_getaffinity(getppid()).unwrap());
    }
}
