//! From `Options` to `Config`: the rules. The facts of this machine are gathered once, in `Machine`; everything else
//! but the lookups of the user and of files decides from what it is given and can be tested without that machine.
//!
//! Neighbours: `options` is what was typed, `files` judges the rows about files, `Config::resolve` is the way in. The limits themselves (descriptors,
//! backlog) are only read here; the master applies them.

use super::options::{
    DEFAULT_MAX_CONNECTIONS, DEFAULT_PORT, Options, Pin, SIZE_MAX, UserSpec, Workers, format_cores,
    format_size,
};
use super::{Config, DESCRIPTOR_RESERVE, FileSettings, Listen, User, files};
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{self, Group, geteuid, getgrouplist};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

const WORKERS_MAX: usize = 1024;
const BACKLOG_MAX: u32 = i32::MAX as u32;
/// Like a year for a duration: beyond any use, and no sum of such values overflows.
const RESTART_LIMIT_MAX: u32 = 1_000_000;
const DURATION_MIN: Duration = Duration::from_millis(1);
/// The master looks every 100 ms at most, and an idle loop goes round every 50.
const STALL_TIMEOUT_MIN: Duration = Duration::from_millis(250);
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Times DURATION_MAX in seconds it still fits into 64 bits.
const BODY_RATE_MAX: u64 = 1 << 30;
/// `sun_path` has 108 bytes, the last one ends the string.
const UNIX_PATH_MAX: usize = 107;

/// What the rules need to know of where uringd runs.
struct Machine {
    /// The affinity mask, in ascending order; empty if it cannot be read.
    allowed_cores: Vec<usize>,
    /// Cores' worth of time: the affinity mask, cut by the cgroup's CPU quota.
    parallelism: usize,
    /// net.core.somaxconn.
    somaxconn: Option<u32>,
    /// The hard RLIMIT_NOFILE.
    nofile_hard: u64,
    /// May switch to another user.
    root: bool,
}

pub(super) fn resolve(options: &Options) -> Result<Config> {
    let machine = Machine::read()?;
    let user = options.user.as_ref().map(|asked| find_user(asked, machine.root)).transpose()?;
    let files = files::resolve(options)?;
    decide(options, &machine, user, files)
}

impl Machine {
    fn read() -> Result<Machine> {
        let (_, nofile_hard) =
            getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| Error::io("read RLIMIT_NOFILE", errno))?;
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        Ok(Machine {
            allowed_cores: cores.into_iter().map(|core| core.id).collect(),
            parallelism: std::thread::available_parallelism().map_or(1, usize::from),
            somaxconn: read_somaxconn(),
            nofile_hard,
            root: geteuid().is_root(),
        })
    }
}

fn read_somaxconn() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()
}

fn decide(
    options: &Options,
    machine: &Machine,
    user: Option<User>,
    files: Option<FileSettings>,
) -> Result<Config> {
    check_mode(options.unix_mode)?;
    check_range("--backlog", options.backlog, 1, BACKLOG_MAX)?;
    check_range("--restart-limit", options.restart_limit, 0, RESTART_LIMIT_MAX)?;
    check_durations(options)?;
    check_sizes(options)?;
    let workers = count_workers(options.workers, machine)?;
    let cores = choose_cores(&options.pin, machine)?;
    Ok(Config {
        listen: collect_addresses(options)?,
        listens_by_default: options.port.is_none() && options.listen.is_empty(),
        unix_mode: options.unix_mode,
        workers,
        backlog: options.backlog,
        warnings: collect_warnings(options, machine, workers, &cores),
        cores,
        user,
        kill_timeout: options.kill_timeout,
        restart_limit: options.restart_limit,
        restart_window: options.restart_window,
        boot_timeout: options.boot_timeout,
        stall_timeout: options.stall_timeout,
        max_requests: options.max_requests,
        max_lifetime: options.max_lifetime,
        max_memory: options.max_memory,
        on_giveup: options.on_giveup.clone(),
        on_panic: options.on_panic,
        max_connections: limit_connections(options.max_connections, machine.nofile_hard)?,
        header_timeout: options.header_timeout,
        keep_alive_timeout: options.keep_alive_timeout,
        send_timeout: options.send_timeout,
        max_body: options.max_body,
        body_timeout: options.body_timeout,
        body_rate: options.body_rate,
        server_header: options.server_header,
        files,
        log_format: options.log_format,
        log_level: options.log_level,
        pid_file: options.pid_file.clone(),
        control: options.control.clone(),
        metrics: options.metrics.clone(),
        access_log: options.access_log.clone(),
        access_log_format: options.access_log_format,
        latency_log: options.latency_log.clone(),
        latency_report: options.latency_report.clone(),
    })
}

fn check_mode(mode: u32) -> Result<()> {
    match mode {
        0..=0o777 => Ok(()),
        _ => Err(Error::config(format!("--unix-mode {mode:04o}"), "expected 0000 to 0777, such as 0660")),
    }
}

fn check_range<T: PartialOrd + std::fmt::Display>(option: &str, value: T, min: T, max: T) -> Result<()> {
    if value < min || value > max {
        return Err(Error::config(format!("{option} {value}"), format!("expected {min} to {max}")));
    }
    Ok(())
}

/// Zero is refused everywhere: servers disagree on whether it means never or at once.
fn check_durations(options: &Options) -> Result<()> {
    let lifetime = options.max_lifetime.map(|lifetime| ("--max-lifetime", lifetime));
    let all = [
        ("--kill-timeout", options.kill_timeout),
        ("--stall-timeout", options.stall_timeout),
        ("--restart-window", options.restart_window),
        ("--boot-timeout", options.boot_timeout),
        ("--header-timeout", options.header_timeout),
        ("--keep-alive-timeout", options.keep_alive_timeout),
        ("--send-timeout", options.send_timeout),
        ("--body-timeout", options.body_timeout),
    ];
    for (option, value) in all.into_iter().chain(lifetime) {
        if value < DURATION_MIN || value > DURATION_MAX {
            let given = humantime::format_duration(value);
            return Err(Error::config(format!("{option} {given}"), "expected at least 1ms and at most 365d"));
        }
    }
    if options.stall_timeout < STALL_TIMEOUT_MIN {
        let given = humantime::format_duration(options.stall_timeout);
        let problem = "expected at least 250ms: a loop with nothing to do goes round every 50ms";
        return Err(Error::config(format!("--stall-timeout {given}"), problem));
    }
    Ok(())
}

fn check_sizes(options: &Options) -> Result<()> {
    let all = [
        ("--max-body", options.max_body, SIZE_MAX),
        ("--body-rate", options.body_rate, BODY_RATE_MAX),
        ("--file-cache", options.file_cache, SIZE_MAX),
        ("--max-memory", options.max_memory.unwrap_or(0), SIZE_MAX),
    ];
    for (option, value, max) in all {
        if value > max {
            let expected = format!("expected at most {}", format_size(max));
            return Err(Error::config(format!("{option} {}", format_size(value)), expected));
        }
    }
    Ok(())
}

fn count_workers(asked: Workers, machine: &Machine) -> Result<usize> {
    match asked {
        Workers::Auto => Ok(machine.parallelism.clamp(1, WORKERS_MAX)),
        Workers::Count(count) => check_range("--workers", count, 1, WORKERS_MAX).map(|()| count),
    }
}

/// Under a quota pinning does harm: a core's worth of time is then spread over more cores than that by design.
fn choose_cores(pin: &Pin, machine: &Machine) -> Result<Vec<usize>> {
    let allowed = &machine.allowed_cores;
    match pin {
        Pin::Auto if machine.parallelism >= allowed.len() => Ok(allowed.clone()),
        Pin::Auto | Pin::Off => Ok(Vec::new()),
        Pin::Cores(cores) => check_cores(cores, allowed).map(|()| without_duplicates(cores)),
    }
}

fn check_cores(cores: &[usize], allowed: &[usize]) -> Result<()> {
    let refuse = |problem| Err(Error::config(format!("--pin {}", format_cores(cores)), problem));
    if cores.is_empty() {
        return refuse("the list names no core, expected auto, off or a list such as 0,2,4-7".to_string());
    }
    if allowed.is_empty() {
        return refuse("the cores of this process cannot be read here, use --pin off".to_string());
    }
    match cores.iter().find(|core| !allowed.contains(core)) {
        Some(core) => refuse(format!(
            "core {core} is not one that this process may use, choose from {}",
            format_cores(allowed)
        )),
        None => Ok(()),
    }
}

fn without_duplicates(cores: &[usize]) -> Vec<usize> {
    let mut kept = Vec::with_capacity(cores.len());
    for core in cores {
        if !kept.contains(core) {
            kept.push(*core);
        }
    }
    kept
}

/// A ring's table of direct descriptors has at most 2^20 places (io_uring/rsrc.c), some of which wait in accepts.
const MAX_CONNECTIONS_MAX: u32 = (1 << 20) - DESCRIPTOR_RESERVE as u32;

fn limit_connections(asked: Option<u32>, hard: u64) -> Result<u32> {
    let room = hard.saturating_sub(DESCRIPTOR_RESERVE);
    let wanted = match asked {
        Some(0) => return Err(Error::config("--max-connections 0", "expected at least 1")),
        Some(count) if count > MAX_CONNECTIONS_MAX => {
            let expected =
                format!("expected at most {MAX_CONNECTIONS_MAX}, which is what a ring has room for");
            return Err(Error::config(format!("--max-connections {count}"), expected));
        }
        Some(count) => count,
        None => DEFAULT_MAX_CONNECTIONS.min(u32::try_from(room).unwrap_or(u32::MAX)).max(1),
    };
    if u64::from(wanted) > room {
        let needed = u64::from(wanted) + DESCRIPTOR_RESERVE;
        return Err(Error::TooFewDescriptors { asked: wanted, needed, hard });
    }
    Ok(wanted)
}

fn collect_addresses(options: &Options) -> Result<Vec<Listen>> {
    let port = options.port.or(options.listen.is_empty().then_some(DEFAULT_PORT));
    let mut addresses: Vec<Listen> = Vec::new();
    for address in port.map(Listen::DualStack).into_iter().chain(options.listen.iter().cloned()) {
        check_path(&address)?;
        if let Some(earlier) = addresses.iter().find(|earlier| collide(earlier, &address)) {
            let problem = format!("already listening on {earlier}, give each address once");
            return Err(Error::config(format!("--listen {address}"), problem));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn check_path(address: &Listen) -> Result<()> {
    let Listen::Unix(path) = address else { return Ok(()) };
    let length = path.as_os_str().as_bytes().len();
    if length == 0 || length > UNIX_PATH_MAX {
        let problem = format!("the path must have 1 to {UNIX_PATH_MAX} bytes, this one has {length}");
        return Err(Error::config(format!("--listen {address}"), problem));
    }
    Ok(())
}

/// The kernel refuses the second one of such a pair as "in use", which sends people looking for another process.
/// A port of 0 never collides: each is given its own.
fn collide(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Unix(one), Listen::Unix(other)) => one == other,
        (Listen::DualStack(port), Listen::Tcp(address)) | (Listen::Tcp(address), Listen::DualStack(port)) => {
            *port != 0 && *port == address.port()
        }
        (Listen::Tcp(one), Listen::Tcp(other)) => {
            let covers = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() != 0
                && one.port() == other.port()
                && (one == other || (covers && one.is_ipv4() == other.is_ipv4()))
        }
        // There is one --port.
        (Listen::DualStack(_), Listen::DualStack(_)) => true,
        (Listen::Unix(_), _) | (_, Listen::Unix(_)) => false,
    }
}

fn collect_warnings(options: &Options, machine: &Machine, workers: usize, pinned: &[usize]) -> Vec<String> {
    let mut warnings = Vec::new();
    let backlog = options.backlog;
    if let Some(most) = machine.somaxconn.filter(|most| backlog > *most) {
        warnings.push(format!(
            "--backlog {backlog}: the kernel cuts it to {most}; raise that (sysctl -w net.core.somaxconn={backlog}) or lower --backlog"
        ));
    }
    if machine.root && options.user.is_none() {
        warnings
            .push("the workers run as root; give --user NAME to have them run as somebody else".to_string());
    }
    let cores = if pinned.is_empty() { &machine.allowed_cores } else { pinned };
    if !cores.is_empty() && workers > cores.len() {
        warnings.push(format!(
            "{workers} workers share {} core(s) ({}); more workers than cores make it slower, lower --workers",
            cores.len(),
            format_cores(cores)
        ));
    }
    warnings
}

fn find_user(asked: &UserSpec, root: bool) -> Result<User> {
    let refuse = |problem: String| Error::config(format!("--user {asked}"), problem);
    let failed = |errno: Errno| Error::io(format!("look up --user {asked}"), errno);
    if !root {
        return Err(refuse(
            "only root can switch to another user, start uringd as root or leave it out".into(),
        ));
    }
    let entry = find_entry(&asked.name).map_err(failed)?;
    let uid = entry.as_ref().map(|entry| entry.uid.as_raw()).or_else(|| numeric(&asked.name));
    let uid = uid.ok_or_else(|| refuse(format!("there is no user {} on this machine", asked.name)))?;
    let (gid, groups) = match (&asked.group, &entry) {
        (Some(group), _) => {
            let gid = find_group(group).map_err(failed)?;
            let gid = gid.ok_or_else(|| refuse(format!("there is no group {group} on this machine")))?;
            (gid, vec![gid])
        }
        (None, Some(entry)) => (entry.gid.as_raw(), own_groups(entry).map_err(failed)?),
        (None, None) => {
            return Err(refuse(format!("{uid} has no entry here, name its group too: {uid}:GROUP")));
        }
    };
    Ok(User { name: asked.name.clone(), uid, gid, groups })
}

/// A name first: there are users whose name is a number.
fn find_entry(name: &str) -> nix::Result<Option<unistd::User>> {
    match (unistd::User::from_name(name)?, numeric(name)) {
        (None, Some(uid)) => unistd::User::from_uid(uid.into()),
        (entry, _) => Ok(entry),
    }
}

/// A number need not have an entry: containers often have none.
fn find_group(name: &str) -> nix::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()).or_else(|| numeric(name)))
}

fn own_groups(entry: &unistd::User) -> nix::Result<Vec<u32>> {
    let name = CString::new(entry.name.as_str()).map_err(|_| Errno::EINVAL)?;
    Ok(getgrouplist(&name, entry.gid)?.into_iter().map(|gid| gid.as_raw()).collect())
}

/// The largest number is -1 to the kernel, which means "leave it as it is": the workers would stay root.
fn numeric(name: &str) -> Option<u32> {
    name.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::options::typed;
    use super::*;

    fn machine() -> Machine {
        Machine {
            allowed_cores: vec![0, 1, 2, 3],
            parallelism: 4,
            somaxconn: Some(4096),
            nofile_hard: 20_000,
            root: false,
        }
    }

    fn decide_typed(words: &str, machine: &Machine) -> Result<Config> {
        decide(&typed(words).unwrap(), machine, None, None)
    }

    #[test]
    fn values_that_cannot_be_used_are_refused_in_one_line() {
        let long = format!("--listen unix:/{}", "x".repeat(UNIX_PATH_MAX));
        let table = [
            ("--workers 0", "--workers 0: expected 1 to 1024"),
            ("--workers 1025", "expected 1 to 1024"),
            ("--backlog 0", "--backlog 0: expected 1 to 2147483647"),
            ("--backlog 2147483648", "expected 1 to 2147483647"),
            ("--unix-mode 1777", "--unix-mode 1777: expected 0000 to 0777"),
            ("--restart-limit 1000001", "expected 0 to 1000000"),
            ("--max-connections 0", "--max-connections 0: expected at least 1"),
            ("--kill-timeout 0s", "--kill-timeout 0s: expected at least 1ms"),
            ("--restart-window 999us", "--restart-window 999us: expected"),
            ("--boot-timeout 0ms", "--boot-timeout"),
            ("--stall-timeout 249ms", "--stall-timeout 249ms: expected at least 250ms: a loop with"),
            ("--header-timeout 366d", "at most 365d"),
            ("--keep-alive-timeout 0s", "--keep-alive-timeout"),
            ("--send-timeout 0s", "--send-timeout"),
            ("--body-timeout 0s", "--body-timeout 0s: expected at least 1ms"),
            ("--max-body 1025GiB", "--max-body 1025GiB: expected at most 1024GiB"),
            ("--body-rate 1073741825", "--body-rate 1073741825: expected at most 1GiB"),
            ("--file-cache 1025GiB", "--file-cache 1025GiB: expected at most 1024GiB"),
            ("--pin 2,9", "--pin 2,9: core 9 is not one that this process may use, choose from 0-3"),
            (&long, "the path must have 1 to 107 bytes, this one has 108"),
            ("--listen unix:a,unix:a", "--listen unix:a: already listening on unix:a"),
            ("--listen 127.0.0.1:80 --listen 127.0.0.1:80", "give each address once"),
            ("--listen 0.0.0.0:80,127.0.0.1:80", "--listen 127.0.0.1:80: already listening on 0.0.0.0:80"),
            ("--port 80 --listen [::1]:80", "--listen [::1]:80: already listening on [::]:80"),
        ];
        for (words, fragment) in table {
            let error = decide_typed(words, &machine()).expect_err(words);
            let line = error.to_string();
            assert!(line.contains(fragment) && !line.contains('\n'), "{words}: {line}");
            assert_eq!(error.exit_code(), 2, "{words}");
        }
    }

    #[test]
    fn values_a_program_fills_in_are_held_to_the_same_rules() {
        let empty_path = Options { listen: vec![Listen::Unix("".into())], ..Options::default() };
        assert!(decide(&empty_path, &machine(), None, None).is_err());
        let no_cores = Options { pin: Pin::Cores(vec![]), ..Options::default() };
        assert!(decide(&no_cores, &machine(), None, None).is_err());
    }

    #[test]
    fn addresses_are_the_port_then_the_list_and_1337_without_either() {
        let longest = format!("unix:/{}", "x".repeat(UNIX_PATH_MAX - 1));
        let table: &[(&str, &[&str])] = &[
            ("", &["[::]:1337"]),
            ("--port 0", &["[::]:0"]),
            ("--listen unix:/a", &["unix:/a"]),
            ("--listen unix:/a --port 80", &["[::]:80", "unix:/a"]),
            ("--listen 127.0.0.1:0,127.0.0.1:0", &["127.0.0.1:0", "127.0.0.1:0"]),
            ("--port 0 --listen 0.0.0.0:0", &["[::]:0", "0.0.0.0:0"]),
            ("--listen [::1]:80,127.0.0.1:80", &["[::1]:80", "127.0.0.1:80"]),
            (&format!("--listen {longest}"), &[&longest]),
        ];
        for (words, expected) in table {
            let config = decide_typed(words, &machine()).unwrap();
            let listen: Vec<String> = config.listen.iter().map(Listen::to_string).collect();
            assert_eq!(listen, *expected, "{words}");
        }
    }

    #[test]
    fn workers_and_cores_follow_affinity_and_quota() {
        let quota = Machine { parallelism: 2, ..machine() };
        let unknown = Machine { allowed_cores: vec![], ..machine() };
        let huge = Machine { parallelism: 5000, ..machine() };
        let table: &[(&str, &Machine, usize, &[usize])] = &[
            ("", &machine(), 4, &[0, 1, 2, 3]),
            ("--pin off", &machine(), 4, &[]),
            ("--workers 2", &machine(), 2, &[0, 1, 2, 3]),
            ("", &quota, 2, &[]),
            ("--pin 0-1", &quota, 2, &[0, 1]),
            ("--pin 2,0-2,0", &machine(), 4, &[2, 0, 1]),
            ("", &unknown, 4, &[]),
            ("", &huge, 1024, &[0, 1, 2, 3]),
        ];
        for (words, machine, workers, cores) in table {
            let config = decide_typed(words, machine).unwrap();
            assert_eq!((config.workers, config.cores.as_slice()), (*workers, *cores), "{words}");
        }
        assert!(decide_typed("--pin 0", &unknown).unwrap_err().to_string().contains("use --pin off"));
    }

    #[test]
    fn max_connections_is_capped_silently_only_when_it_was_not_given() {
        let cap = |asked, hard| limit_connections(asked, hard).map_err(|error| error.exit_code());
        let table = [
            (None, 20_000, Ok(16_384)),
            (None, 1024, Ok(960)),
            (None, u64::MAX, Ok(16_384)),
            (None, 64, Err(1)),
            (Some(960), 1024, Ok(960)),
            (Some(961), 1024, Err(1)),
            (Some(MAX_CONNECTIONS_MAX), u64::MAX, Ok(MAX_CONNECTIONS_MAX)),
            (Some(u32::MAX), u64::MAX, Err(2)),
        ];
        for (asked, hard, expected) in table {
            assert_eq!(cap(asked, hard), expected, "{asked:?} {hard}");
        }
        let line = limit_connections(Some(961), 1024).unwrap_err().to_string();
        assert!(line.contains("--max-connections 961 needs 1025 descriptors"), "{line}");
    }

    #[test]
    fn warnings_say_what_to_do() {
        let root = Machine { root: true, ..machine() };
        let small = Machine { somaxconn: Some(128), ..machine() };
        let unknown = Machine { somaxconn: None, allowed_cores: vec![], ..machine() };
        let table: &[(&str, &Machine, &[&str])] = &[
            ("", &machine(), &[]),
            ("--workers 4 --backlog 4096", &machine(), &[]),
            ("--workers 9 --backlog 9999", &unknown, &[]),
            ("", &small, &["sysctl -w net.core.somaxconn=4096"]),
            ("", &root, &["give --user NAME"]),
            ("--user nobody", &root, &[]),
            ("--workers 5", &machine(), &["5 workers share 4 core(s) (0-3)"]),
            ("--workers 5 --pin off", &machine(), &["lower --workers"]),
            ("--workers 2 --pin 3", &machine(), &["2 workers share 1 core(s) (3)"]),
        ];
        for (words, machine, fragments) in table {
            let warnings = decide_typed(words, machine).unwrap().warnings;
            assert_eq!(warnings.len(), fragments.len(), "{words}: {warnings:?}");
            for (warning, fragment) in warnings.iter().zip(*fragments) {
                assert!(warning.contains(fragment) && !warning.contains('\n'), "{words}: {warning}");
            }
        }
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let find = |text: &str| find_user(&text.parse().unwrap(), true).map_err(|error| error.to_string());
        let root = find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(find("0").unwrap().groups, root.groups);
        let free =
            User { name: "3999999999".into(), uid: 3_999_999_999, gid: 7_777_777, groups: vec![7_777_777] };
        assert_eq!(find("3999999999:7777777"), Ok(free));
        assert_eq!(find("root:12345").unwrap().groups, [12345]);

        let table = [
            ("no-such-user", "--user no-such-user: there is no user no-such-user"),
            ("root:no-such-group", "there is no group no-such-group"),
            ("3999999999", "name its group too: 3999999999:GROUP"),
            ("4294967295:1", "there is no user 4294967295"),
            ("root:4294967295", "there is no group 4294967295"),
        ];
        for (text, fragment) in table {
            assert!(find(text).unwrap_err().contains(fragment), "{text}: {:?}", find(text));
        }
    }

    #[test]
    fn only_root_may_name_a_user() {
        let error = find_user(&"root".parse().unwrap(), false).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("only root can switch"), "{error}");
    }

    #[test]
    fn this_machine_can_run_the_defaults() {
        let config = resolve(&Options::default()).unwrap();
        assert!(config.workers >= 1 && config.max_connections >= 1);
    }
}
