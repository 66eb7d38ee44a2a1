//! Unsafe island: what neither std nor nix wraps safely, one family of system calls a file. Everything that leaves
//! this folder is safe to call with any arguments; the few functions
//! that touch the environment or the arguments must be called before there is a second thread, and say so.
//!
//! Neighbours: `ipc::channel` passes descriptors with `scm`; `master` and `worker` use the rest. This folder imports
//! nothing of ours.

pub(crate) mod clock;
pub(crate) mod file;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod scm;
pub(crate) mod shared;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod status;

#[cfg(test)]
pub(crate) mod testing;
