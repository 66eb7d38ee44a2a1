//! A server with every fault that a supervisor is for: it panics, aborts, exits, hangs and blocks on request.
//!
//! ```text
//! cargo run --example faulty -- --port 1337
//! curl http://127.0.0.1:1337/panic
//! ```
//!
//! | path | what it does |
//! |---|---|
//! | `/pid` | answers with the worker's process ID |
//! | `/panic` | panics: the client gets 500, the worker is replaced without losing anybody |
//! | `/abort` | dies of SIGABRT: its other clients are cut off |
//! | `/exit` | calls exit(7) |
//! | `/hang?ms=N&while=FILE` | answers after N ms by a timer, and when this file is gone; the loop goes on |
//! | `/block?ms=N&while=FILE` | sleeps so long in the handler, in a thread called `blocked`; the loop does not go on |
//! | `/block-later?ms=N&while=FILE` | waits so long by a timer, then blocks for a minute in its future |
//! | `/block-admission` | blocks for a minute when a request with content begins |
//! | `/leak?n=N` | keeps N octets more, for ever |
//! | `/later-panic?ms=N` | panics in a future, after N ms |
//! | `/drop-panic` | never answers, and panics when its client has gone |
//! | `/stream-panic?ms=N` | sends the beginning of an answer and panics after N ms |
//! | `/error-panic` | fails with an error that panics when it is told |
//! | `/stream-drop-panic` | streams, and panics when the stream is dropped |
//! | `/spin?ms=N` | answers after N ms by a future that wakes itself all the time |
//! | `/bytes?n=N` | answers with N octets |
//! | `/orphan` | has a process started whose parent ends at once, and that ends a moment later; answers with its ID |
//! | `/boot` | from now on new workers exit before they listen, if `FAULTY_BOOT_FILE` names a file; again: no longer |
//!
//! With `FAULTY_BOOT_MS=N` every worker takes N ms before it listens.
//! With `FAULTY_EVENTS=FILE` the master appends each event to this file, one JSON object a line.
//! With `FAULTY_EVENT_PANIC=NAME` it panics at every event of this name instead.
//! With `FAULTY_STATS=FILE` the master appends the pool's statistics all the time, one JSON object a line.
//! While the file that `FAULTY_BOOT_HANG` names exists, new workers hang before they listen.
//! While the file that `FAULTY_BOOT_FAILS` names exists, the factory fails with its text; with the worker's slot behind the
//! name (`FILE.0`) only that worker's does.
//! With `FAULTY_HOOKS=FILE` every worker appends its process ID and `before_drain` or `after_drain` when that is called;
//! `FAULTY_HOOK_PANIC` names the one that panics then.

use nix::sys::prctl;
use std::error::Error;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::task::Poll;
use std::time::{Duration, Instant};
use uringd::{Admission, Cluster, Event, Handler, Pool, Reply, Request, Response, Status};

fn main() -> ExitCode {
    let cluster = Cluster::from_args();
    let pool = cluster.pool();
    let on_event = move |event: &Event| {
        if matches!(event, Event::Setup { .. }) && std::env::var_os("FAULTY_STATS").is_some() {
            let pool = pool.clone();
            std::thread::spawn(move || watch(&pool));
        }
        if matches!(event, Event::Close(_)) {
            write_stats(&pool);
        }
        record(event);
    };
    let outcome = cluster.on_event(on_event).run(|worker| -> Result<Faulty, BootError> {
        if boot_file().is_some_and(|file| file.exists()) {
            std::process::exit(9);
        }
        if let Some(ms) = std::env::var("FAULTY_BOOT_MS").ok().and_then(|ms| ms.parse().ok()) {
            std::thread::sleep(Duration::from_millis(ms));
        }
        while std::env::var_os("FAULTY_BOOT_HANG").is_some_and(|file| Path::new(&file).exists()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Ok(file) = std::env::var("FAULTY_BOOT_FAILS") {
            for file in [format!("{file}.{}", worker.slot()), file] {
                if let Ok(text) = std::fs::read_to_string(file) {
                    return Err(BootError(text.into()));
                }
            }
        }
        Ok(Faulty)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// What a program can do with events: they are an enum, and arrive in the master.
fn record(event: &Event) {
    let event = serde_json::to_value(event).expect("plain data");
    if std::env::var("FAULTY_EVENT_PANIC").is_ok_and(|name| event["event"] == name) {
        panic!("asked to, by an event");
    }
    append("FAULTY_EVENTS", &event.to_string());
}

/// Looks at the pool's statistics all the time.
fn watch(pool: &Pool) {
    loop {
        write_stats(pool);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One at a time: the lines stand in the order in which the numbers were read.
fn write_stats(pool: &Pool) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    let stats = pool.stats();
    let mut line = serde_json::to_value(stats.counters).expect("plain data");
    line["latencies"] = stats.latency.count().into();
    for (name, share) in [("p50_us", 0.5), ("max_us", 1.0)] {
        line[name] = (stats.latency.quantile(share).as_micros() as u64).into();
    }
    append("FAULTY_STATS", &line.to_string());
}

/// Why a worker cannot start, with an error beneath.
#[derive(Debug)]
struct BootError(Box<dyn Error>);

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot start")
    }
}

impl Error for BootError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

struct Faulty;

impl Handler for Faulty {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        answer(request)
    }

    fn admit(&mut self, head: &Request<'_>) -> Admission {
        if head.path() == "/block-admission" {
            Pause::MINUTE.block();
        }
        Admission::Collect
    }

    fn before_drain(&mut self) {
        hook("before_drain");
    }

    fn after_drain(&mut self) {
        hook("after_drain");
    }
}

fn hook(name: &str) {
    append("FAULTY_HOOKS", &format!("{} {name}", std::process::id()));
    if std::env::var("FAULTY_HOOK_PANIC").is_ok_and(|hook| hook == name) {
        panic!("{name} was asked to");
    }
}

/// One line more in the file that this variable names.
fn append(variable: &str, line: &str) {
    let Some(path) = std::env::var_os(variable) else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
}

fn answer(request: &Request<'_>) -> Reply {
    let pid = || Response::text(format!("{}\n", std::process::id()));
    match request.path() {
        "/" | "/pid" => pid().into(),
        "/panic" => panic!("asked to"),
        "/abort" => std::process::abort(),
        "/exit" => std::process::exit(7),
        "/hang" => {
            let pause = Pause::of(request);
            Reply::later(async move {
                pause.wait().await;
                pid()
            })
        }
        "/block" => {
            Pause::of(request).block();
            pid().into()
        }
        "/block-later" => {
            let pause = Pause::of(request);
            Reply::later(async move {
                pause.wait().await;
                Pause::MINUTE.block();
                pid()
            })
        }
        "/leak" => {
            Vec::leak(vec![1u8; number(request, "n") as usize]);
            pid().into()
        }
        "/later-panic" => {
            let time = Duration::from_millis(number(request, "ms"));
            Reply::later(async move {
                uringd::sleep(time).await;
                panic!("asked to, later");
                #[expect(unreachable_code, reason = "what a future answers must be known")]
                Status::OK
            })
        }
        "/drop-panic" => {
            let bomb = Bomb;
            Reply::later(async move {
                let _bomb = bomb;
                std::future::pending::<Response>().await
            })
        }
        "/error-panic" => Err::<Response, _>(Spiteful).into(),
        "/stream-drop-panic" => {
            let bomb = Bomb;
            let piece = move || {
                let _bomb = &bomb;
                Some(Ok("piece".into()))
            };
            Response::stream(std::iter::from_fn(piece).take(1)).into()
        }
        "/stream-panic" => {
            let time = Duration::from_millis(number(request, "ms"));
            let (mut sender, response) = Response::channel();
            Reply::stream(response, async move {
                sender.send("the beginning").await?;
                uringd::sleep(time).await;
                panic!("asked to, in the middle")
            })
        }
        "/spin" => Reply::later(spin(Duration::from_millis(number(request, "ms")))),
        "/bytes" => Response::text(vec![b'x'; number(request, "n") as usize]).into(),
        "/orphan" => orphan(),
        "/boot" => {
            toggle_boot_file();
            pid().into()
        }
        _ => Status::NOT_FOUND.into(),
    }
}

/// How long a request is to take: this time, and as long as that file is there.
struct Pause {
    time: Duration,
    file: Option<PathBuf>,
}

impl Pause {
    /// How often it is looked whether the file is there.
    const LOOK: Duration = Duration::from_millis(10);
    const MINUTE: Pause = Pause { time: Duration::from_secs(60), file: None };

    fn of(request: &Request<'_>) -> Pause {
        let file = request.query_value("while").map(|file| PathBuf::from(file.as_ref()));
        Pause { time: Duration::from_millis(number(request, "ms")), file }
    }

    async fn wait(&self) {
        uringd::sleep(self.time).await;
        while self.is_there() {
            uringd::sleep(Pause::LOOK).await;
        }
    }

    /// Whoever waits for this to begin looks at the thread's name.
    fn block(&self) {
        let name = prctl::get_name();
        let _ = prctl::set_name(c"blocked");
        std::thread::sleep(self.time);
        while self.is_there() {
            std::thread::sleep(Pause::LOOK);
        }
        let _ = name.and_then(|name| prctl::set_name(&name));
    }

    fn is_there(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.exists())
    }
}

/// The shell does not wait for what it starts, so that its child is given to PID 1: that one ends when the shell is gone.
fn orphan() -> Reply {
    let outlive = "while kill -0 $$; do sleep 0.01; done";
    let shell = Command::new("sh").arg("-c").arg(format!("({outlive}) >/dev/null 2>&1 & echo $!")).output();
    match shell {
        Ok(output) => Response::text(output.stdout).into(),
        Err(error) => Err::<Response, _>(error).into(),
    }
}

/// An error that cannot be told.
#[derive(Debug)]
struct Spiteful;

impl fmt::Display for Spiteful {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("asked to, while the error is told");
    }
}

impl Error for Spiteful {}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("asked to, at the end");
    }
}

async fn spin(time: Duration) -> &'static str {
    let start = Instant::now();
    std::future::poll_fn(|context| {
        if start.elapsed() >= time {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    "dizzy\n"
}

fn number(request: &Request<'_>, name: &str) -> u64 {
    request.query_value(name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn boot_file() -> Option<PathBuf> {
    std::env::var_os("FAULTY_BOOT_FILE").map(Into::into)
}

fn toggle_boot_file() {
    if let Some(file) = boot_file()
        && std::fs::remove_file(&file).is_err()
    {
        let _ = std::fs::write(file, "");
    }
}
