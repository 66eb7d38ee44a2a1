//! One pinned worker per core behind one socket, and a master that touches no request.

mod common;

use common::*;
use std::collections::BTreeSet;

#[test]
fn each_worker_is_allowed_on_one_core_of_its_own_and_the_master_has_no_ring() {
    let server = Server::start(Program::Uringd, &[]);
    let workers = server.listening();
    let allowed = core_affinity::get_core_ids().unwrap().len();
    assert_eq!(workers.len(), std::thread::available_parallelism().unwrap().get());
    let cores: BTreeSet<String> =
        workers.iter().map(|(_, pid)| status_field(*pid, "Cpus_allowed_list").unwrap()).collect();
    if workers.len() == allowed {
        assert_eq!(cores.len(), workers.len(), "all different: {cores:?}");
        assert!(cores.iter().all(|core| core.parse::<usize>().is_ok()), "one core each: {cores:?}");
    } else {
        skip("a CPU quota binds here, so nobody is pinned");
    }
    assert!(
        !descriptors(server.pid()).iter().any(|link| link.contains("io_uring")),
        "the master owns a ring"
    );
    for (_, pid) in &workers {
        assert!(descriptors(*pid).iter().any(|link| link.contains("io_uring")));
    }
    let expected: BTreeSet<i32> = workers.iter().map(|(_, pid)| *pid).collect();
    let mut pids = BTreeSet::new();
    server.wait("every worker answers", || {
        pids.insert(server.get("/").pid());
        pids.len() >= expected.len()
    });
    assert_eq!(pids, expected, "and nobody else");
}
