//! Other people's children: as PID 1 of a container (or as a subreaper, PR_SET_CHILD_SUBREAPER in prctl(2)) the master
//! is given every process whose parent has died, and nobody else can ever take such a one's exit status. It waits for
//! them so that no zombies pile up.
//!
//! Neighbours: `event_loop` has one and tells it of SIGCHLD; workers are reaped through their pidfds, never here.

use crate::sys::process;

/// See the module's comment.
pub struct Orphans {
    /// Some may have ended that nobody has waited for.
    waiting: bool,
}

impl Orphans {
    /// Whoever ended before SIGCHLD was listened to is looked for at once: `sh -c 'prepare & exec uringd'`.
    pub fn new() -> Orphans {
        Orphans { waiting: adopted_here() }
    }

    /// SIGCHLD came: some child has ended, ours or not.
    pub fn child_ended(&mut self) {
        self.waiting = true;
    }

    /// Reaps those that have ended. The kernel names ended children in the order of their adoption, so one of ours may
    /// stand before the others: they have their turn when it is gone.
    pub fn reap(&mut self, is_ours: impl Fn(i32) -> bool) {
        while self.waiting {
            match process::ended_child() {
                None => self.waiting = false,
                Some(pid) if is_ours(pid) => return,
                Some(pid) => {
                    process::reap(pid);
                    tracing::debug!(pid, "orphan reaped");
                }
            }
        }
    }
}

/// Whether this process is given orphans at all; if not, a SIGCHLD has nothing to say that a pidfd does not.
pub fn adopted_here() -> bool {
    process::id() == 1 || process::is_subreaper()
}
