//! In a container: uringd is PID 1, to which every orphan comes and for which no signal has a default, as a user without
//! rights, under the seccomp profile of `tuning/container`. Through the real program, in namespaces and under the filter that
//! an engine would make, and in a container of runc's.

mod common;
#[path = "container/profile.rs"]
mod profile;

use common::*;
use profile::with_profile;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const UNSHARE: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// Starts the program as PID 1 of a new namespace, two workers on a port of the kernel's choice; `None` where that is
/// not allowed.
fn as_pid_1(program: Program, arguments: &[&str]) -> Option<Container> {
    if !Command::new(UNSHARE[0]).args(&UNSHARE[1..]).arg("true").status().is_ok_and(|status| status.success())
    {
        skip("PID namespaces are not allowed here");
        return None;
    }
    let inner = program.command(&[&["--listen", "127.0.0.1:0", "--workers", "2"], arguments].concat());
    let server = Server::spawn(&mut through(&UNSHARE, &inner));
    server.wait_until_whole();
    let [master] = children(server.pid())[..] else { panic!("one child of unshare") };
    assert_eq!(status_field(master, "NSpid").unwrap().split_whitespace().last(), Some("1"));
    Some(Container { server, master })
}

struct Container {
    /// Its process is unshare, which ends as the master does; process IDs in its log are those inside.
    server: Server,
    /// The master's process ID outside.
    master: i32,
}

impl Container {
    /// Has an orphan made, and gives its process ID inside.
    fn orphan(&self) -> i64 {
        let answer = self.server.get("/orphan");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().parse().expect("a process ID")
    }

    fn wait_reaped(&self, orphan: i64) {
        self.server.wait_for("the orphan is reaped", |line| {
            line["message"] == "orphan reaped" && line["pid"] == orphan
        });
    }
}

fn zombies(parent: i32) -> Vec<i32> {
    let dead = |pid: &i32| status_field(*pid, "State").is_some_and(|state| state.starts_with('Z'));
    children(parent).into_iter().filter(dead).collect()
}

// ---- PID 1 ----

#[test]
fn as_pid_1_it_reaps_what_its_workers_leave_behind_and_nothing_else() {
    let Some(container) = as_pid_1(Program::Faulty, &[]) else { return };
    let Container { server, master } = &container;
    for round in 1..=3 {
        let orphans: Vec<i64> = (0..5).map(|_| container.orphan()).collect();
        // a worker that ends meanwhile is not an orphan: its end is told as it was
        let victim = children(*master)[0];
        kill(victim, "KILL");
        server.wait("its end is known", || server.events("exit").len() == round);
        orphans.into_iter().for_each(|orphan| container.wait_reaped(orphan));
        server.wait("two workers again", || server.listening().len() == 2);
    }
    assert!(
        server.events("exit").iter().all(|exit| exit["status"] == "signal 9"),
        "{:#?}",
        server.events("exit")
    );
    server.wait("no zombie is left", || zombies(*master).is_empty());
    assert_eq!(children(*master).len(), 2, "the workers");
}

#[test]
fn as_pid_1_it_obeys_the_signals_that_stop_a_container() {
    for signal in ["TERM", "INT", "QUIT"] {
        let Some(Container { mut server, master }) = as_pid_1(Program::Faulty, &[]) else { return };
        let mut client = server.connect();
        client.send_and_wait_until_read("GET /hang?ms=300 HTTP/1.1\r\nHost: test\r\n\r\n");
        kill(master, signal);
        assert_eq!(client.read_answer().expect("the request is finished").status, 200);
        drop(client);
        assert_eq!(server.wait_exit().code(), Some(0), "SIG{signal}");
        server.wait_gone();
    }
}

#[test]
fn as_pid_1_it_rolls_and_scales_as_anywhere() {
    let Some(Container { server, master }) = as_pid_1(Program::Uringd, &[]) else { return };
    kill(master, "HUP");
    server.wait_for("the roll", |line| line["event"] == "reload" && line["stage"] == "done");
    kill(master, "TTIN");
    server.wait("a third worker", || server.listening().len() == 3);
    assert_eq!(server.get("/").status, 200);
    server.wait("no zombie is left", || zombies(master).is_empty());
}

#[test]
fn a_subreaper_reaps_as_pid_1_does() {
    const BECOME: &str =
        "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])";
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skip("needs python3");
    }
    let inner = Program::Faulty.command(&["--listen", "127.0.0.1:0", "--workers", "1"]);
    let server = Server::spawn(&mut through(&["python3", "-c", BECOME], &inner));
    server.wait_until_whole();
    let container = Container { master: server.pid(), server };
    container.wait_reaped(container.orphan());
    container.server.wait("no zombie is left", || zombies(container.master).is_empty());
}

// ---- the profile ----

const THREE: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

/// What `becomes_what_a_test_wants` is to become: `profile` and `command`.
const BECOME: &str = "URINGD_TEST_BECOME";

/// A user without rights that nobody else is.
fn user() -> u32 {
    60_000 + std::process::id() % 5_000
}

fn own_profile() -> Value {
    serde_json::from_str(include_str!("../tuning/container/seccomp.json")).unwrap()
}

/// The same without io_uring.
fn without_rings(mut profile: Value) -> Value {
    for rule in profile["syscalls"].as_array_mut().unwrap() {
        rule["names"].as_array_mut().unwrap().retain(|name| !THREE.contains(&name.as_str().unwrap()));
    }
    profile
}

/// No test: the others start this executable again, inside of namespaces where a filter does not let one go, and here it
/// takes the filter upon itself and becomes the program.
#[test]
fn becomes_what_a_test_wants() {
    let Some(spec) = std::env::var_os(BECOME) else { return };
    let spec: Value = serde_json::from_str(spec.to_str().unwrap()).unwrap();
    let words: Vec<&str> =
        spec["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    with_profile(&spec["profile"], || {
        let error = Command::new(words[0]).args(&words[1..]).env_remove(BECOME).exec();
        panic!("{}: {error}", words[0]);
    });
}

/// A program with its arguments as PID 1 under this profile, as a user without rights.
fn confined(profile: &Value, directory: &Path, program: &Path, arguments: &[&str]) -> Command {
    let program = copy_for_everybody(program, directory);
    let again = copy_for_everybody(&std::env::current_exe().unwrap(), directory);
    let (user, mut command) = (user().to_string(), vec![program.to_str().unwrap(), "--log-format", "json"]);
    command.extend(arguments);
    let mut confined = bare_command(Path::new(UNSHARE[0]));
    confined.args(&UNSHARE[1..]);
    confined.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"]);
    confined.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(again);
    confined.args(["--exact", "becomes_what_a_test_wants", "--nocapture"]);
    confined.env(BECOME, json!({ "profile": profile, "command": command }).to_string());
    confined
}

fn may_be_confined() -> bool {
    let allowed = is_root()
        && Command::new(UNSHARE[0])
            .args(&UNSHARE[1..])
            .arg("true")
            .status()
            .is_ok_and(|status| status.success());
    if !allowed {
        skip("needs root and PID namespaces");
    }
    allowed
}

/// A directory with a site and room for a socket, which the user may use.
fn ground() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("site")).unwrap();
    fs::write(directory.path().join("site/index.html"), "<h1>inside</h1>").unwrap();
    // more than what is kept in memory: from a mapping
    fs::write(directory.path().join("site/long"), vec![b'x'; 3 << 20]).unwrap();
    let run = directory.path().join("run");
    fs::create_dir(&run).unwrap();
    std::os::unix::fs::chown(&run, Some(user()), Some(user())).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// What an operator does with a server in a container, from outside.
fn lives_a_whole_life(profile: &Value) {
    let directory = ground();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (site, control, log) = (path("site"), path("run/control.sock"), path("run/access.log"));
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "2", "--root", &site, "--control", &control];
    let arguments = [&arguments[..], &["--access-log", &log]].concat();
    let mut server =
        Server::spawn(&mut confined(profile, directory.path(), &Program::Uringd.path(), &arguments));
    server.wait_until_whole();
    let [master] = children(server.pid())[..] else { panic!("one child of unshare") };
    assert_eq!(status_field(master, "NSpid").unwrap().split_whitespace().last(), Some("1"));
    assert_eq!(status_field(master, "Seccomp").as_deref(), Some("2"), "filtered");
    assert!(status_field(master, "Uid").unwrap().starts_with(&user().to_string()));
    assert_eq!(status_field(master, "CapEff").as_deref(), Some("0000000000000000"));
    assert_eq!(server.get("/").text(), "<h1>inside</h1>");
    assert_eq!(server.get("/long").body.len(), 3 << 20);
    kill(children(master)[0], "KILL");
    server
        .wait_for("the dead one is replaced", |line| line["event"] == "exit" && line["status"] == "signal 9");
    server.wait("two workers again", || server.listening().len() == 2);
    kill(master, "HUP");
    server.wait_for("the roll", |line| line["event"] == "reload" && line["stage"] == "done");
    let status =
        Command::new(Program::Uringd.path()).args(["ctl", "--control", &control, "status"]).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert_eq!(server.get("/").status, 200);
    kill(master, "TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
    // what the one that was killed had not written yet is lost
    assert!(
        (1..=3).contains(&fs::read_to_string(&log).unwrap().lines().count()),
        "requests in the access log"
    );
}

#[test]
fn under_the_profile_it_lives_a_whole_life() {
    if may_be_confined() {
        lives_a_whole_life(&own_profile());
    }
}

#[test]
fn under_the_profile_a_handler_may_run_programs_and_their_orphans_are_reaped() {
    if !may_be_confined() {
        return;
    }
    let directory = ground();
    let arguments = ["--log-level", "debug", "--listen", "127.0.0.1:0", "--workers", "1", "--control", "off"];
    let command = &mut confined(&own_profile(), directory.path(), &Program::Faulty.path(), &arguments);
    let server = Server::spawn(command);
    server.wait_until_whole();
    let master = children(server.pid())[0];
    let container = Container { server, master };
    container.wait_reaped(container.orphan());
}

#[test]
fn under_the_same_profile_without_io_uring_the_start_line_names_seccomp() {
    if !may_be_confined() {
        return;
    }
    let directory = ground();
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "1", "--control", "off"];
    let profile = without_rings(own_profile());
    let mut server =
        Server::launch(&mut confined(&profile, directory.path(), &Program::Uringd.path(), &arguments));
    assert_eq!(server.wait_exit().code(), Some(1));
    server.wait_gone();
    let log = server.log();
    let lines: Vec<&str> = log.iter().filter_map(Value::as_str).collect();
    let [line] = lines[..] else { panic!("one line, not these: {lines:#?}") };
    assert!(line.starts_with("uringd: io_uring is forbidden here by a seccomp filter"), "{line}");
}

/// A default profile that is found here, with the line of jq that the README has.
#[test]
fn under_an_engines_default_profile_with_io_uring_added_it_lives_as_well() {
    let found = std::env::var_os("URINGD_TEST_PROFILE").map(PathBuf::from);
    let found = found.unwrap_or_else(|| "/usr/share/containers/seccomp.json".into());
    let Ok(text) = fs::read_to_string(&found) else {
        return skip(&format!("no default profile of an engine: no {}", found.display()));
    };
    let readme = include_str!("../tuning/container/README.md");
    let (_, filter) = readme.split_once("jq '").expect("the line of jq");
    let (filter, _) = filter.split_once('\'').unwrap();
    let Ok(output) = Command::new("jq").arg(filter).arg(&found).stderr(Stdio::inherit()).output() else {
        return skip("needs jq");
    };
    assert!(output.status.success());
    let added: Value = serde_json::from_slice(&output.stdout).unwrap();
    let default: Value = serde_json::from_str(&text).unwrap();
    let rules = |profile: &Value| profile["syscalls"].as_array().unwrap().len();
    assert_eq!(rules(&added), rules(&default) + 1);
    if may_be_confined() {
        lives_a_whole_life(&added);
    }
}

#[test]
fn the_profile_refuses_what_a_server_has_no_use_for() {
    let profile = own_profile();
    let rules = profile["syscalls"].as_array().unwrap();
    let allowed = |name: &str| {
        let mut of_it = rules.iter().filter(|rule| rule["names"].as_array().unwrap().contains(&name.into()));
        of_it.any(|rule| rule["action"] == "SCMP_ACT_ALLOW")
    };
    assert!(THREE.into_iter().all(allowed));
    for name in [
        "ptrace",
        "process_vm_readv",
        "bpf",
        "mount",
        "unshare",
        "setns",
        "keyctl",
        "kexec_load",
        "init_module",
    ]
    .into_iter()
    .chain([
        "personality",
        "userfaultfd",
        "perf_event_open",
        "open_by_handle_at",
        "pivot_root",
        "reboot",
        "clone3",
    ]) {
        assert!(!allowed(name), "{name}");
    }
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let mut names: Vec<&Value> = rules.iter().flat_map(|rule| rule["names"].as_array().unwrap()).collect();
    let count = names.len();
    names.sort_by_key(|name| name.as_str());
    names.dedup();
    assert_eq!(names.len(), count, "a name stands twice");
}

// ---- a container ----

/// The profile as runc takes it, from whatever engine.
fn for_runc(profile: &Value) -> Value {
    let architecture = if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };
    let mut rules = profile["syscalls"].clone();
    for rule in rules.as_array_mut().unwrap() {
        rule.as_object_mut().unwrap().remove("comment");
    }
    json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [architecture],
        "syscalls": rules,
    })
}

/// A bundle whose root has this machine's libraries and the programs in `directory`, read-only.
fn bundle(directory: &Path, arguments: &[&str], profile: &Value) -> PathBuf {
    let bundle = directory.join("bundle");
    let root = bundle.join("rootfs");
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }),
        json!({ "destination": "/run/uringd", "type": "tmpfs", "source": "tmpfs", "options": ["uid=1337", "mode=0700"] }),
        json!({ "destination": "/app", "type": "none", "source": directory, "options": ["rbind", "ro"] }),
    ];
    for folder in
        ["usr", "bin", "lib", "lib64"].into_iter().filter(|folder| Path::new("/").join(folder).exists())
    {
        let (inside, outside) = (format!("/{folder}"), format!("/{folder}"));
        mounts.push(
            json!({ "destination": inside, "type": "none", "source": outside, "options": ["rbind", "ro"] }),
        );
    }
    for mount in &mounts {
        fs::create_dir_all(root.join(mount["destination"].as_str().unwrap().trim_start_matches('/')))
            .unwrap();
    }
    let limit = |name: &str, value: u64| json!({ "type": name, "hard": value, "soft": value });
    let namespaces = ["pid", "mount", "ipc", "uts"].map(|name| json!({ "type": name }));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 1337, "gid": 1337 },
            "args": arguments,
            "env": ["PATH=/usr/bin:/bin", "URINGD_CONTROL=/run/uringd/control.sock"],
            "cwd": "/",
            "noNewPrivileges": true,
            "rlimits": [limit("RLIMIT_NOFILE", 4096), limit("RLIMIT_MEMLOCK", 8 << 20)],
        },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "seccomp": for_runc(profile),
        },
    });
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    bundle
}

/// runc with a place of its own for what it remembers.
fn runc(directory: &Path) -> Command {
    let mut runc = bare_command(Path::new("runc"));
    runc.arg("--root").arg(directory.join("runc"));
    runc
}

fn run_in_container(directory: &Path, name: &str, arguments: &[&str], profile: &Value) -> Command {
    let mut run = runc(directory);
    run.args(["run", "--bundle"]).arg(bundle(directory, arguments, profile)).arg(name);
    run
}

/// Whether containers can be made here at all, with no filter in the way.
fn containers_can_be_made(directory: &Path) -> bool {
    let anything = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [] });
    let name = format!("uringd-test-try-{}", std::process::id());
    let output = run_in_container(directory, &name, &["true"], &anything).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            skip(&format!("runc makes no containers here: {why}"));
            false
        }
        Err(_) => {
            skip("needs runc");
            false
        }
    }
}

#[test]
fn in_a_container_it_serves_and_its_health_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    copy_for_everybody(&Program::Uringd.path(), directory.path());
    if !containers_can_be_made(directory.path()) {
        return;
    }
    let name = format!("uringd-test-{}", std::process::id());
    let arguments = ["/app/uringd", "--log-format", "json", "--listen", "127.0.0.1:0", "--workers", "2"];
    let mut server =
        Server::spawn(&mut run_in_container(directory.path(), &name, &arguments, &own_profile()));
    server.wait_until_whole();
    assert_eq!(server.get("/").status, 200);
    // as the image's HEALTHCHECK has it
    let dockerfile = include_str!("../tuning/container/Dockerfile");
    let (_, check) = dockerfile.split_once("HEALTHCHECK ").unwrap();
    let (_, check) = check.lines().next().unwrap().split_once("CMD ").unwrap();
    let check: Vec<String> = serde_json::from_str(check).unwrap();
    assert_eq!(check[0], "uringd");
    let control = dockerfile.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    let inside = |command: &[&str]| {
        let mut exec = runc(directory.path());
        exec.args(["exec", "--env", control, &name]).args(command).stdout(Stdio::piped());
        exec.output().unwrap()
    };
    let mut healthy = vec!["/app/uringd"];
    healthy.extend(check[1..].iter().map(String::as_str));
    let checked = inside(&healthy);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let doctor = inside(&["/app/uringd", "doctor"]);
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
    assert!(runc(directory.path()).args(["kill", &name, "TERM"]).status().unwrap().success());
    assert_eq!(server.wait_exit().code(), Some(0));
    // without io_uring it says so there as well, and so does the doctor
    for arguments in [&["/app/uringd", "--listen", "127.0.0.1:0"][..], &["/app/uringd", "doctor"]] {
        let mut refused = run_in_container(directory.path(), &name, arguments, &without_rings(own_profile()));
        let output = refused.stdout(Stdio::piped()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("forbidden here by a seccomp filter"), "{said}");
    }
}

#[test]
fn the_image_runs_as_a_user_without_rights_and_stops_as_docker_stops_it() {
    let dockerfile = include_str!("../tuning/container/Dockerfile");
    let value = |word: &str| dockerfile.lines().rev().find_map(|line| line.strip_prefix(word)).map(str::trim);
    assert_eq!(value("USER "), Some("1337:1337"));
    assert_eq!(value("STOPSIGNAL "), Some("SIGTERM"));
    assert_eq!(value("EXPOSE "), Some("1337"));
    assert_eq!(value("ENTRYPOINT "), Some("[\"uringd\"]"));
    assert_eq!(dockerfile.lines().filter(|line| line.starts_with("FROM ")).count(), 2, "built elsewhere");
    // what the first stage runs is what this crate can do
    assert_eq!(value("RUN cargo "), Some("build --release --locked --bin uringd"));
    // the context has all that the build needs
    let ignored = include_str!("../.dockerignore");
    let needed = ["src", "tuning", "README.md", "Cargo.lock"];
    assert!(needed.iter().all(|needed| !ignored.lines().any(|line| line == *needed)));
}
