//! Which cores belong to the servers and which to the client. A program that is started inherits the cores of the thread
//! that starts it, so nobody has to be moved afterwards.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Cores, divided.
#[derive(Debug, Clone)]
pub struct Cores {
    /// Where servers run.
    pub servers: Vec<usize>,
    /// Where the bench and the load generator run.
    pub client: Vec<usize>,
}

impl Cores {
    /// Divides those that this process may use.
    pub fn divide(servers: Option<&[usize]>) -> Result<Cores, String> {
        let all = allowed()?;
        let servers = servers.map_or_else(|| all[..1].to_vec(), <[usize]>::to_vec);
        if let Some(missing) = servers.iter().find(|core| !all.contains(core)) {
            return Err(format!("--server-cores: there is no core {missing} for us, only {all:?}"));
        }
        let client: Vec<_> = all.iter().copied().filter(|core| !servers.contains(core)).collect();
        match client.is_empty() {
            true => Err(format!(
                "no core is left for the client: {all:?} are ours and all of them the servers'; two are needed"
            )),
            false => Ok(Cores { servers, client }),
        }
    }

    /// Starts what is started in `start` on the servers' cores, and comes back.
    pub fn as_server<T>(&self, start: impl FnOnce() -> T) -> Result<T, String> {
        move_to(&self.servers)?;
        let started = start();
        move_to(&self.client)?;
        Ok(started)
    }

    /// Puts this thread, and what it starts from now on, on the client's cores.
    pub fn settle(&self) -> Result<(), String> {
        move_to(&self.client)
    }
}

fn allowed() -> Result<Vec<usize>, String> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(|errno| format!("sched_getaffinity: {errno}"))?;
    Ok((0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect())
}

fn move_to(cores: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    let added = cores.iter().try_for_each(|core| set.set(*core));
    added
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| format!("cannot run on cores {cores:?}: {errno}"))
}
