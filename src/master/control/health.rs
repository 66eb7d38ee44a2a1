//! Whether the server is well: what a load balancer and a container's probes ask.
//!
//! Pure. Neighbours: `routes` answers with it.

use crate::master::ask::{Course, Restarts, Status};
use crate::master::lifecycle::Phase;

/// Whether requests are to be sent here, or the line that says why not.
///
/// One worker that listens is enough: all accept from the same sockets, and a pool that is being repaired or rolled serves
/// as well as ever. A pool that is not whole because it was given up is not.
pub fn ready(status: &Status) -> Result<(), String> {
    if status.course == Course::Stopping {
        return Err("the server is stopping".to_owned());
    }
    if status.restarts != Restarts::Allowed {
        let alive = status.workers.iter().filter(|worker| serves(worker.phase)).count();
        return Err(format!(
            "given up: too many workers have crashed, {alive} of {} listen and no more are started",
            status.wanted
        ));
    }
    if !status.workers.iter().any(|worker| serves(worker.phase)) {
        return Err("no worker listens".to_owned());
    }
    Ok(())
}

/// It accepts connections.
pub fn serves(phase: Phase) -> bool {
    matches!(phase, Phase::Listening | Phase::Retiring)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::control::tests::{status, worker};

    #[test]
    fn one_that_listens_is_enough_while_the_pool_is_kept() {
        let phases =
            |phases: &[Phase]| (1..).zip(phases).map(|(id, phase)| worker(id, 0, *phase)).collect::<Vec<_>>();
        let table = [
            (Course::Serving, Restarts::Allowed, vec![Phase::Listening], Ok(())),
            (Course::Serving, Restarts::Allowed, vec![Phase::Starting, Phase::Retiring], Ok(())),
            (
                Course::Serving,
                Restarts::Allowed,
                vec![Phase::Online, Phase::Draining],
                Err("no worker listens"),
            ),
            (Course::Serving, Restarts::Allowed, vec![], Err("no worker listens")),
            (
                Course::Serving,
                Restarts::GivenUp,
                vec![Phase::Listening],
                Err("given up: too many workers have crashed, 1 of 2 listen"),
            ),
            (Course::Serving, Restarts::Trial, vec![Phase::Listening], Err("given up")),
            (Course::Stopping, Restarts::Allowed, vec![Phase::Listening], Err("stopping")),
        ];
        for (course, restarts, workers, expected) in table {
            let status = Status { course, restarts, workers: phases(&workers), ..status() };
            match (ready(&status), expected) {
                (Ok(()), Ok(())) => {}
                (Err(line), Err(part)) => assert!(line.contains(part), "{line}"),
                (got, _) => panic!("{workers:?}: {got:?}"),
            }
        }
    }
}
