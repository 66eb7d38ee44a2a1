//! What is decided of machines that are made up: a tree of files each, as a table of what is in them and what is said.

use super::checks::Verdict::{self, Better, Ok, Unknown, Wrong};
use super::machine::{Machine, Rings, parse_list};
use super::root::Root;
use super::{Report, report};
use crate::error::RingRefusal;
use crate::ring::Probed;
use std::fs;

/// Paths and what is in them.
type Files<'a> = &'a [(&'a str, &'a str)];

const NOBODY: &str = "Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\nGroups:\t65534\n\
    CapEff:\t0000000000000000\nSeccomp:\t0\nCpus_allowed_list:\t0-3\n";

/// A server with four cores on which there is nothing to do.
const GOOD: Files = &[
    ("proc/sys/kernel/osrelease", "6.18.0\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/sys/kernel/io_uring_group", "-1\n"),
    ("proc/self/status", NOBODY),
    ("proc/self/cgroup", "0::/system.slice/uringd.service\n"),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            1024                 65536                files     \n\
         Max locked memory         8388608              8388608              bytes     \n",
    ),
    ("proc/sys/fs/file-max", "9223372036854775807\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/core/busy_read", "0\n"),
    ("proc/sys/net/core/busy_poll", "0\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "1024\n"),
    ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("sys/fs/cgroup/system.slice/uringd.service/cpu.max", "max 100000\n"),
    ("sys/fs/cgroup/system.slice/uringd.service/memory.max", "max\n"),
    ("sys/fs/cgroup/system.slice/uringd.service/cpu.stat", "nr_periods 0\nnr_throttled 0\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n"),
    ("proc/cmdline", "quiet\n"),
    ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth0/device/msi_irqs/40", ""),
    ("sys/class/net/eth0/device/msi_irqs/41", ""),
    ("sys/class/net/eth0/device/msi_irqs/42", ""),
    ("sys/class/net/eth0/device/msi_irqs/43", ""),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-2/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-3/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/tx-0/xps_cpus", "1\n"),
    ("proc/irq/40/effective_affinity_list", "0\n"),
    ("proc/irq/40/eth0-TxRx-0/.keep", "a directory\n"),
    ("proc/irq/41/effective_affinity_list", "1\n"),
    ("proc/irq/41/eth0-TxRx-1/.keep", "a directory\n"),
    ("proc/irq/42/effective_affinity_list", "2\n"),
    ("proc/irq/42/eth0-TxRx-2/.keep", "a directory\n"),
    ("proc/irq/43/effective_affinity_list", "3\n"),
    ("proc/irq/43/eth0-TxRx-3/.keep", "a directory\n"),
];

fn probed(name: &'static str, needed: bool, present: bool) -> Probed {
    Probed { name, since: "6.6", needed, present }
}

fn rings() -> Rings {
    Rings {
        probed: vec![probed("DEFER_TASKRUN", true, true), probed("NO_SQARRAY", false, true)],
        refusal: None,
    }
}

fn refused(cause: RingRefusal) -> Rings {
    Rings { probed: vec![], refusal: Some(cause) }
}

/// The good machine with these files instead; those without text are not there.
fn examine(changes: Files, rings: Rings) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let changed = |path: &str| changes.iter().any(|(other, _)| *other == path);
    let files = GOOD.iter().filter(|(path, _)| !changed(path)).chain(changes);
    for (path, text) in files.filter(|(path, text)| !text.is_empty() || path.contains("msi_irqs")) {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    report(&Machine::read(Root::at(directory.path()), rings))
}

/// What is said of one knob: the verdict, and all words.
fn said(report: &Report, page: &str) -> (Verdict, String) {
    let row = report.knobs.iter().find(|row| row.page == page).unwrap();
    (row.verdict, format!("{} | {} | {}", row.now, row.reason, row.set.join("; ")))
}

fn expect(page: &str, changes: Files, verdict: Verdict, parts: &[&str]) {
    expect_with(page, changes, rings(), verdict, parts);
}

fn expect_with(page: &str, changes: Files, rings: Rings, verdict: Verdict, parts: &[&str]) {
    let report = examine(changes, rings);
    let (is, words) = said(&report, page);
    assert_eq!(is, verdict, "{page} with {changes:?}: {words}");
    for part in parts {
        assert!(words.contains(part), "{page} with {changes:?}: {words:?} lacks {part:?}");
    }
}

fn limits(files: &str, memory: &str) -> String {
    format!("Max open files            {files} files\nMax locked memory         {memory} bytes\n")
}

#[test]
fn on_a_good_machine_there_is_nothing_to_do() {
    let report = examine(&[], rings());
    for row in &report.knobs {
        assert_eq!(row.verdict, Ok, "{row:?}");
        assert!(row.set.is_empty(), "{row:?}");
    }
    assert!(report.can_run);
    assert!(report.to_string().ends_with("\nuringd can run here.\n"), "{report}");
}

#[test]
fn where_nothing_can_be_read_nothing_fails_and_nothing_is_made_up() {
    let directory = tempfile::tempdir().unwrap();
    let report = report(&Machine::read(Root::at(directory.path()), rings()));
    assert!(report.can_run, "a ring could be made");
    for row in &report.knobs {
        // these ask the ring itself, or hold where there is no file
        let asked = ["kernel", "io_uring_disabled", "seccomp", "nf_conntrack"].contains(&row.page);
        assert_eq!(row.verdict, if asked { Ok } else { Unknown }, "{row:?}");
        assert!(row.verdict == Ok || row.reason.contains("here"), "{row:?}");
    }
}

#[test]
fn the_worst_comes_first_and_is_told_with_what_to_type() {
    let disabled = ("proc/sys/kernel/io_uring_disabled", "2");
    let short = ("proc/sys/net/core/somaxconn", "128");
    let blind = ("sys/kernel/mm/transparent_hugepage/enabled", "");
    let report = examine(&[disabled, short, blind], refused(RingRefusal::Sysctl { value: 2 }));
    let firsts: Vec<Verdict> = report.knobs.iter().map(|row| row.verdict).take(4).collect();
    assert_eq!(firsts, [Wrong, Better, Unknown, Ok]);
    assert!(!report.can_run);
    let text = report.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("wrong    kernel.io_uring_disabled"), "{text}");
    assert_eq!(lines[1].trim(), "sysctl -w kernel.io_uring_disabled=0");
    assert!(lines[2].starts_with("better   net.core.somaxconn"), "{text}");
    assert!(text.ends_with("(or put the user into kernel.io_uring_group)\n"), "{text}");
}

#[test]
fn why_there_is_no_ring_is_told_at_the_knob_that_forbids_it() {
    let one = ("proc/sys/kernel/io_uring_disabled", "1");
    let two = ("proc/sys/kernel/io_uring_disabled", "2");
    let sysctl = |value| refused(RingRefusal::Sysctl { value });
    expect_with("io_uring_disabled", &[one], sysctl(1), Wrong, &["kernel.io_uring_group", "=0"]);
    expect_with("io_uring_disabled", &[two], sysctl(2), Wrong, &["nobody gets a ring"]);
    expect_with("kernel", &[two], sysctl(2), Ok, &["6.18.0"]);
    let member = ("proc/sys/kernel/io_uring_group", "65534");
    expect("io_uring_disabled", &[one, member], Ok, &["this user does"]);
    expect("io_uring_disabled", &[("proc/sys/kernel/io_uring_disabled", "")], Ok, &["6.6"]);

    let filtered = NOBODY.replace("Seccomp:\t0", "Seccomp:\t2");
    let filtered = ("proc/self/status", filtered.as_str());
    expect_with(
        "seccomp",
        &[filtered],
        refused(RingRefusal::Seccomp),
        Wrong,
        &["io_uring_setup", "seccomp.json"],
    );
    expect("seccomp", &[filtered], Ok, &["lets io_uring through"]);
    expect_with("seccomp", &[filtered, two], sysctl(2), Unknown, &["refused before"]);
    let none = ("proc/sys/kernel/io_uring_disabled", "");
    expect_with(
        "io_uring_disabled",
        &[filtered, none],
        refused(RingRefusal::Seccomp),
        Unknown,
        &["cannot be read"],
    );

    let little = limits("1024 65536", "65536 65536");
    let little = [("proc/self/limits", little.as_str())];
    let memory = || refused(RingRefusal::MemoryLock { limit: 65536 });
    expect_with("memlock", &little, memory(), Wrong, &["64KiB", "76KiB for a ring", "LimitMEMLOCK"]);

    let old = ("proc/sys/kernel/osrelease", "5.15.0");
    let too_old = || Rings {
        probed: vec![probed("DEFER_TASKRUN", true, false), probed("SINGLE_ISSUER", true, false)],
        refusal: Some(RingRefusal::TooOld { release: "5.15.0".into(), lacks: "DEFER_TASKRUN".into() }),
    };
    expect_with("kernel", &[old], too_old(), Wrong, &["lacks DEFER_TASKRUN, SINGLE_ISSUER", "6.1 or newer"]);
    let missing = || refused(RingRefusal::Missing { release: "4.19.0".into() });
    expect_with("kernel", &[("proc/sys/kernel/osrelease", "4.19.0")], missing(), Wrong, &["has no io_uring"]);
    let without = || Rings { probed: vec![probed("NO_SQARRAY", false, false)], refusal: None };
    expect_with(
        "kernel",
        &[("proc/sys/kernel/osrelease", "6.1.0")],
        without(),
        Better,
        &["without NO_SQARRAY"],
    );
    expect_with("kernel", &[], refused(RingRefusal::SecurityModule), Wrong, &["SELinux"]);
}

#[test]
fn limits_are_judged_by_what_the_workers_need() {
    let table: [(&str, &str, &str, Verdict, &str); 8] = [
        ("open_files", "1024 65536", "unlimited unlimited", Ok, "65536 |"),
        ("open_files", "1024 4096", "unlimited unlimited", Better, "4032 clients at a time instead of 16384"),
        ("open_files", "64 64", "unlimited unlimited", Wrong, "needs 64 besides"),
        ("memlock", "1024 65536", "unlimited unlimited", Ok, "unlimited"),
        // four workers, each with its replacement
        ("memlock", "1024 65536", "622592 622592", Ok, "608KiB"),
        ("memlock", "1024 65536", "622591 622591", Better, "4 workers and their replacements need 608KiB"),
        ("memlock", "1024 65536", "0 0", Better, "0KiB"),
        ("open_files", "unlimited unlimited", "0 0", Ok, ""),
    ];
    for (page, files, memory, verdict, part) in table {
        expect(page, &[("proc/self/limits", &limits(files, memory))], verdict, &[part]);
    }
    let little = limits("1024 65536", "0 0");
    let little = ("proc/self/limits", little.as_str());
    expect("memlock", &[little, ("proc/sys/kernel/osrelease", "6.12.1")], Ok, &["does not charge"]);
    let root = NOBODY.replace("CapEff:\t0000000000000000", "CapEff:\t000001ffffffffff");
    expect("memlock", &[little, ("proc/self/status", &root)], Ok, &["CAP_IPC_LOCK"]);
    expect("open_files", &[("proc/sys/fs/file-max", "65000")], Better, &["fs.file-max=65792"]);
}

#[test]
fn control_groups_of_both_versions_bind_from_the_inside_out() {
    const V2: &str = "sys/fs/cgroup/system.slice/uringd.service";
    let file = |name: &str| format!("{V2}/{name}");
    let (max, stat, memory, events) =
        (file("cpu.max"), file("cpu.stat"), file("memory.max"), file("memory.events"));
    expect("cpu_quota", &[(&max, "200000 100000")], Ok, &["2.00 core(s)", "2 worker(s), not pinned"]);
    expect("cpu_quota", &[(&max, "50000 100000")], Better, &["0.50 core(s)", "stops for the rest"]);
    let stopped = (stat.as_str(), "nr_periods 36\nnr_throttled 29\n");
    expect("cpu_quota", &[(&max, "200000 100000"), stopped], Better, &["29 of 36 periods"]);
    let share = |text| [(max.as_str(), "200000 100000"), (stat.as_str(), text)];
    expect("cpu_quota", &share("nr_periods 100\nnr_throttled 1\n"), Better, &["1 of 100 periods"]);
    // a burst is not for ever a reason to act
    expect("cpu_quota", &share("nr_periods 101\nnr_throttled 1\n"), Ok, &["2 worker(s)", "1 of 101 periods"]);
    // a parent that stops more often counts, however few its periods
    let parent = ("sys/fs/cgroup/system.slice/cpu.stat", "nr_periods 10\nnr_throttled 5\n");
    let rare = share("nr_periods 10000\nnr_throttled 50\n");
    expect("cpu_quota", &[&rare[..], &[parent]].concat(), Better, &["5 of 10 periods"]);
    // a parent's quota binds as well
    expect("cpu_quota", &[("sys/fs/cgroup/system.slice/cpu.max", "150000 100000")], Ok, &["1.50"]);
    expect("memory_limit", &[(&memory, "1073741824")], Ok, &["1024MiB"]);
    expect(
        "memory_limit",
        &[(&memory, "134217728")],
        Better,
        &["128MiB", "4 worker(s) may come to need 320MiB"],
    );
    let killed = (events.as_str(), "low 0\noom 3\noom_kill 2\n");
    expect("memory_limit", &[(&memory, "1073741824"), killed], Unknown, &["killed 2 process(es)"]);
    expect("memory_limit", &[(&memory, "134217728"), killed], Better, &["may come to need"]);

    let one = ("proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n");
    let quota = ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000");
    let period = ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
    expect("cpu_quota", &[one, quota, period], Ok, &["3.00", "3 worker(s)"]);
    expect("cpu_quota", &[one, ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1"), period], Ok, &["no quota"]);
    let limit = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
    expect("memory_limit", &[one, limit], Ok, &["no limit"]);
    let limit = ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "67108864");
    expect("memory_limit", &[one, limit], Better, &["64MiB"]);
}

#[test]
fn queues_and_ports_are_judged_by_what_the_kernel_makes_of_them() {
    let cookies = |value| ("proc/sys/net/ipv4/tcp_syncookies", value);
    let backlog = |value| ("proc/sys/net/ipv4/tcp_max_syn_backlog", value);
    expect(
        "somaxconn",
        &[("proc/sys/net/core/somaxconn", "128")],
        Better,
        &["128", "cuts", "somaxconn=4096"],
    );
    expect("somaxconn", &[("proc/sys/net/core/somaxconn", "65535")], Ok, &["65535"]);
    expect("tcp_max_syn_backlog", &[backlog("64"), cookies("1")], Ok, &["no say"]);
    expect(
        "tcp_max_syn_backlog",
        &[backlog("64"), cookies("0")],
        Better,
        &["remembers 49", "tcp_syncookies=1"],
    );
    expect("tcp_max_syn_backlog", &[backlog("4096"), cookies("0")], Ok, &["4096"]);
    let range = |value| ("proc/sys/net/ipv4/ip_local_port_range", value);
    expect("ip_local_port_range", &[range("40000\t40009")], Better, &["10 connections"]);
    expect("ip_local_port_range", &[range("nonsense")], Unknown, &["no range"]);
    expect("busy_poll", &[("proc/sys/net/core/busy_read", "50")], Unknown, &["50, 0", "measure"]);
    let table = |count, max| {
        [
            ("proc/sys/net/netfilter/nf_conntrack_count", count),
            ("proc/sys/net/netfilter/nf_conntrack_max", max),
        ]
    };
    expect("nf_conntrack", &table("100", "262144"), Ok, &["100 of 262144"]);
    expect("nf_conntrack", &table("750", "1000"), Better, &["dropped", "nf_conntrack_max=4000"]);
}

#[test]
fn a_network_card_is_judged_by_its_queues_and_the_cores_that_serve_them() {
    let same: Vec<(String, &str)> =
        (40..44).map(|irq| (format!("proc/irq/{irq}/effective_affinity_list"), "0")).collect();
    let same: Vec<(&str, &str)> = same.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let spread =
        ["1 core(s) take in all", "echo 1 > /proc/irq/41/smp_affinity_list", "echo 3 > /proc/irq/43/"];
    expect("irq_affinity", &same, Better, &spread);
    expect("irq_affinity", &[], Ok, &["eth0: 4 queue(s) on core(s) 0-3"]);
    // a card with one queue has nothing to spread, and RPS may help
    let one = [
        ("sys/class/net/eth0/queues/rx-1/rps_cpus", ""),
        ("sys/class/net/eth0/queues/rx-2/rps_cpus", ""),
        ("sys/class/net/eth0/queues/rx-3/rps_cpus", ""),
    ];
    expect("irq_affinity", &[&one[..], &same].concat(), Ok, &["1 queue(s) on core(s) 0"]);
    let mask = "echo e > /sys/class/net/eth0/queues/rx-0/rps_cpus";
    expect("packet_steering", &one, Unknown, &["measure it", mask]);
    let second = ("proc/irq/40/effective_affinity_list", "1");
    expect("packet_steering", &[&one[..], &[second]].concat(), Unknown, &["echo d > "]);
    // where the interrupted core is not known no mask is made up
    let unnamed = ("proc/irq/40/eth0-TxRx-0/.keep", "");
    let unnamed = [&one[..], &[unnamed, ("sys/class/net/eth0/device/msi_irqs/41", "")]].concat();
    let (verdict, words) = said(&examine(&unnamed, rings()), "packet_steering");
    assert_eq!((verdict, words.contains("echo")), (Unknown, false), "{words}");
    let on = ("sys/class/net/eth0/queues/rx-0/rps_cpus", "f");
    expect("packet_steering", &[&one[..], &[on]].concat(), Ok, &["1 queue(s) for 4 core(s)"]);
    let two = [
        ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0"),
        ("sys/class/net/eth0/queues/tx-1/xps_cpus", "00,00000000"),
    ];
    let shares = [
        "a hash chooses",
        "echo 5 > /sys/class/net/eth0/queues/tx-0/xps_cpus",
        "echo a > /sys/class/net/eth0/queues/tx-1/",
    ];
    expect("packet_steering", &two, Better, &shares);
}

/// A virtio card with two queues of each kind, whose interrupts go to these cores: config, input.0, output.0, input.1, output.1.
fn virtio(targets: [&str; 5], cores: &str) -> Report {
    let names = ["config", "input.0", "output.0", "input.1", "output.1"];
    let mut files = vec![
        ("proc/self/status".to_owned(), NOBODY.replace("0-3", cores)),
        ("sys/class/net/eth0/queues/rx-2/rps_cpus".to_owned(), String::new()),
        ("sys/class/net/eth0/queues/rx-3/rps_cpus".to_owned(), String::new()),
        ("sys/class/net/eth0/device/msi_irqs/44".to_owned(), "msix".to_owned()),
    ];
    for (irq, (name, target)) in (40..).zip(names.iter().zip(targets)) {
        files.push((format!("proc/irq/{irq}/effective_affinity_list"), target.to_owned()));
        files.push((format!("proc/irq/{irq}/virtio0-{name}/.keep"), "a directory".to_owned()));
        files.push((format!("proc/irq/{irq}/eth0-TxRx-{}/.keep", irq - 40), String::new()));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    examine(&files, rings())
}

#[test]
fn only_a_virtio_cards_receive_queues_are_judged_and_spread() {
    // input.0 and input.1 are at 41 and 43; what the others do does not count
    for cores in ["0-1", "0-3"] {
        for targets in [["0"; 5], ["0", "1", "0", "1", "0"], ["2", "0", "1", "0", "3"]] {
            let (verdict, words) = said(&virtio(targets, cores), "irq_affinity");
            assert_eq!(verdict, Better, "{cores} {targets:?}: {words}");
            let typed = "echo 0 > /proc/irq/41/smp_affinity_list; echo 1 > /proc/irq/43/smp_affinity_list";
            assert!(words.ends_with(&format!("| {typed}")), "{cores} {targets:?}: {words}");
        }
        let (verdict, words) = said(&virtio(["0", "0", "0", "1", "0"], cores), "irq_affinity");
        assert_eq!(verdict, Ok, "{cores}: {words}");
        assert!(words.contains("2 queue(s) on core(s) 0-1"), "{cores}: {words}");
    }
}

#[test]
fn interrupts_without_telling_names_are_unknown() {
    let unnamed = [("proc/irq/41/eth0-TxRx-1/.keep", ""), ("proc/irq/41/eth0-1/.keep", "a directory")];
    expect("irq_affinity", &unnamed, Unknown, &["interrupts of eth0", "uringd doctor irq_affinity"]);
    // one has nothing to be told apart from
    let one = ["rx-1", "rx-2", "rx-3"].map(|queue| format!("sys/class/net/eth0/queues/{queue}/rps_cpus"));
    let one = one.each_ref().map(|path| (path.as_str(), ""));
    let unnamed = ("proc/irq/40/eth0-TxRx-0/.keep", "");
    let others =
        ["41/eth0-TxRx-1", "42/eth0-TxRx-2", "43/eth0-TxRx-3"].map(|irq| format!("proc/irq/{irq}/.keep"));
    let others = others.each_ref().map(|path| (path.as_str(), ""));
    expect("irq_affinity", &[&one[..], &others, &[unnamed]].concat(), Ok, &["1 queue |"]);
}

#[test]
fn cores_are_told_with_what_they_share() {
    let topology = |core: usize, siblings: &'static str, cache: &'static str| {
        let cpu = format!("sys/devices/system/cpu/cpu{core}");
        [
            (format!("{cpu}/topology/core_cpus_list"), siblings),
            (format!("{cpu}/cache/index0/level"), "1"),
            (format!("{cpu}/cache/index0/shared_cpu_list"), siblings),
            (format!("{cpu}/cache/index3/level"), "3"),
            (format!("{cpu}/cache/index3/shared_cpu_list"), cache),
        ]
    };
    let mut files = vec![];
    for (core, siblings, cache) in
        [(0, "0,2", "0,2"), (1, "1,3", "1,3"), (2, "0,2", "0,2"), (3, "1,3", "1,3")]
    {
        files.extend(topology(core, siblings, cache));
    }
    files.push(("sys/devices/system/node/node0/cpulist".into(), "0-3"));
    files.push(("sys/devices/system/node/has_cpu".into(), "0"));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let caches = ["0-3 |", "2 pair(s) are threads of one core", "2 last-level caches: 0,2 1,3"];
    expect("cores", &files, Ok, &caches);
    let report = examine(&files, rings());
    let line = "cores: 0-3 of 0-3; sharing a last-level cache: 0,2 1,3; threads of one core: 0,2 1,3; memory nodes: 0-3";
    assert!(report.to_string().contains(line), "{report}");
    let two = NOBODY.replace("0-3", "0-1");
    let two = [&files[..], &[("proc/self/status", two.as_str())]].concat();
    expect("cores", &two, Ok, &["0-1 | of 0-3: an affinity mask or a cpuset"]);
    // siblings that it may not use are nobody's
    assert!(!said(&examine(&two, rings()), "cores").1.contains("threads"));
}

#[test]
fn the_processor_is_judged_by_clock_memory_and_walls() {
    let slow = ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave");
    expect("cpu_governor", &[slow], Better, &["performance, powersave", "cpupower"]);
    let none =
        [slow, ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "")].map(|(path, _)| (path, ""));
    expect("cpu_governor", &none, Unknown, &["virtual machine"]);
    let huge = |text| ("sys/kernel/mm/transparent_hugepage/enabled", text);
    expect("hugepages", &[huge("[always] madvise never")], Better, &["2MiB", "echo madvise"]);
    expect("hugepages", &[huge("always madvise [never]")], Ok, &["never"]);
    let open = ("sys/devices/system/cpu/vulnerabilities/meltdown", "Vulnerable");
    expect("mitigations", &[open], Better, &["open to meltdown", "microcode"]);
    let off = ("proc/cmdline", "quiet mitigations=off");
    expect("mitigations", &[off], Better, &["clients' data", "take mitigations=off out"]);
    // never the other way round
    expect("mitigations", &[], Ok, &["on |"]);
}

#[test]
fn sets_of_cores_are_read_as_the_kernel_writes_them() {
    assert_eq!(parse_list("0-2,8\n"), [0, 1, 2, 8]);
    assert_eq!(parse_list(""), Vec::<usize>::new());
    assert_eq!(parse_list("x,1"), [1]);
}

#[test]
fn a_page_is_found_by_either_name_and_a_wrong_one_has_a_neighbour() {
    assert!(super::page("somaxconn").unwrap().starts_with("# net.core.somaxconn\n"));
    assert_eq!(super::page("net.core.somaxconn"), super::page("somaxconn"));
    assert_eq!(super::page("somaxcon"), Err("somaxconn"));
}
