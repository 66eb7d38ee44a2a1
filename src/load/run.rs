//! A run from the command line to the exit code: checks what can be checked before anything is sent, starts the
//! threads, hands what they say to the collector, and writes the reports.
//!
//! Neighbours: `engine` is what a thread does, `collect` adds up, `summary` and the others tell.

use super::collect::{Collector, Run};
use super::engine::{Engine, Outcome, Shared};
use super::options::Options;
use super::record::{ErrorKind, Interval, Plan};
use super::recorder::LastSuccess;
use super::schedule::nanoseconds;
use super::target::Target;
use super::{html, json, summary};
use crate::stats::report::{self, Unit};
use crate::whole_file::WholeFile;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Descriptors of the process beside its connections.
const DESCRIPTOR_RESERVE: u64 = 64;

/// Loads as the options say, and reports.
///
/// # Errors
/// One line: what went wrong, before or after.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let plan = options.plan();
    let target = Target::new(options)?;
    make_room(&plan)?;
    let outputs = Outputs::create(options)?;
    let shared = Arc::new(Shared {
        last_success: LastSuccess::new(nanoseconds(plan.warmup)),
        target,
        plan,
        stop: AtomicBool::new(false),
        answered: AtomicBool::new(false),
    });
    end_on_panic();
    stop_on_signal(&shared)?;
    let (run, outcomes) = load(&shared, &outputs)?;
    conclude(&shared, run, &outcomes, outputs)
}

/// Raises the descriptor limit where it is too low for the connections: the table of direct descriptors is bounded by it.
fn make_room(plan: &Plan) -> Result<(), String> {
    let wanted = plan.connections as u64 + DESCRIPTOR_RESERVE;
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| format!("the descriptor limit: {errno}"))?;
    if soft >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        return Ok(());
    }
    let connections = plan.connections;
    Err(format!("{connections} connections need {wanted} open files, and the limit is {hard} (ulimit -Hn)"))
}

/// Files that results go to, created before the run: a wrong path must not cost one. What a failed run would have written
/// leaves the last one's as it was; the log is written as the run goes on.
struct Outputs {
    json: Option<WholeFile>,
    json_is_stdout: bool,
    hgrm: Option<WholeFile>,
    hlog: Mutex<Option<Box<dyn Write>>>,
    html: Option<WholeFile>,
}

impl Outputs {
    fn create(options: &Options) -> Result<Outputs, String> {
        let failed = |path: &Path, error| format!("{}: {error}", path.display());
        let whole = |path: &Path| WholeFile::create(path).map_err(|error| failed(path, error));
        let optional = |path: Option<&Path>| path.map(whole).transpose();
        let json_is_stdout = options.json.as_deref() == Some(Path::new("-"));
        let json = optional(options.json.as_deref().filter(|_| !json_is_stdout))?;
        let (hgrm, html) = (optional(options.hgrm.as_deref())?, optional(options.html.as_deref())?);
        let stream = |path: &Path| match File::create(path) {
            Ok(file) => Ok(Box::new(BufWriter::new(file)) as Box<dyn Write>),
            Err(error) => Err(failed(path, error)),
        };
        let hlog = options.hlog.as_deref().map(stream).transpose()?;
        Ok(Outputs { json, json_is_stdout, hgrm, hlog: Mutex::new(hlog), html })
    }
}

/// A thread that panics would leave the others waiting for it.
fn end_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::exit(101);
    }));
}

/// The first SIGINT or SIGTERM ends the run, the second the process. Call it before there is another thread: all of
/// them must have these blocked.
fn stop_on_signal(shared: &Arc<Shared>) -> Result<(), String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(|errno| format!("blocking signals: {errno}"))?;
    let shared = Arc::clone(shared);
    let wait = move || {
        let _ = signals.wait();
        shared.stop.store(true, Ordering::Relaxed);
        let second = signals.wait().map_or(1, |signal| 128 + signal as i32);
        std::process::exit(second);
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .map(drop)
        .map_err(|error| format!("a thread: {error}"))
}

/// The moment at which all threads begin, once each has what connections it could get.
struct Gate {
    barrier: Barrier,
    begin: OnceLock<Instant>,
    /// Some thread has a connection.
    open: AtomicBool,
}

impl Gate {
    fn pass(&self, open: bool) -> Instant {
        self.open.fetch_or(open, Ordering::Relaxed);
        if self.barrier.wait().is_leader() {
            self.begin.get_or_init(Instant::now);
        }
        self.barrier.wait();
        *self.begin.get_or_init(Instant::now)
    }
}

fn load(shared: &Arc<Shared>, outputs: &Outputs) -> Result<(Run, Vec<Outcome>), String> {
    let threads = shared.plan.threads;
    let gate =
        Gate { barrier: Barrier::new(threads + 1), begin: OnceLock::new(), open: AtomicBool::new(false) };
    let (gate, (sender, intervals)) = (Arc::new(gate), mpsc::channel());
    let mut handles = vec![];
    for number in 0..threads {
        let (shared, gate, sender) = (Arc::clone(shared), Arc::clone(&gate), sender.clone());
        let named = thread::Builder::new().name(format!("load-{number}"));
        // without all of its threads the process cannot go on: those that are there wait at the gate
        handles.push(
            named.spawn(move || work(shared, number, &gate, sender)).map_err(|e| format!("a thread: {e}"))?,
        );
    }
    drop(sender);
    gate.pass(false);
    let hlog = outputs.hlog.lock().unwrap_or_else(PoisonError::into_inner).take();
    let collector = Collector::new(
        shared.plan.clone(),
        SystemTime::now() + shared.plan.warmup,
        io::stderr().is_terminal(),
        hlog,
    );
    let collected = collector.and_then(|collector| collect(collector, intervals));
    // where the log cannot be written nobody listens any more
    if collected.is_err() {
        shared.stop.store(true, Ordering::Relaxed);
    }
    let outcomes: Result<Vec<Outcome>, String> = handles
        .into_iter()
        .map(|handle| handle.join().unwrap_or_else(|_| Err("a thread panicked".into())))
        .collect();
    let outcomes = outcomes?;
    let collector = collected.map_err(|error| format!("--hlog: {error}"))?;
    let until = outcomes.iter().map(|outcome| outcome.until).max().unwrap_or_default();
    let sending = outcomes.iter().map(|outcome| outcome.sending_until).max().unwrap_or_default();
    let measured = |until: Duration| until.saturating_sub(shared.plan.warmup);
    Ok((collector.finish(measured(until), measured(sending)), outcomes))
}

fn collect(mut collector: Collector, intervals: Receiver<Interval>) -> io::Result<Collector> {
    for interval in intervals {
        collector.add(interval)?;
    }
    Ok(collector)
}

/// One thread. It comes to the gate whatever happens before: the others wait for it.
fn work(
    shared: Arc<Shared>,
    number: usize,
    gate: &Gate,
    sender: Sender<Interval>,
) -> Result<Outcome, String> {
    pin(number);
    let gathered = Engine::new(Arc::clone(&shared), number, sender)
        .map_err(|refusal| refusal.to_string())
        .and_then(|mut engine| engine.gather().map(|open| (engine, open)).map_err(|error| error.to_string()));
    let begin = gate.pass(gathered.as_ref().is_ok_and(|(_, open)| *open));
    let (engine, _) = gathered.inspect_err(|_| shared.stop.store(true, Ordering::Relaxed))?;
    if !gate.open.load(Ordering::Relaxed) {
        shared.stop.store(true, Ordering::Relaxed);
    }
    engine.run(begin).map_err(|error| error.to_string())
}

/// To the last core that this process may use, the next thread to the one before it: servers count from the first. With
/// more threads than cores the scheduler does better alone.
fn pin(number: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.iter().rev().nth(number) {
        core_affinity::set_for_current(*core);
    }
}

fn conclude(shared: &Shared, run: Run, outcomes: &[Outcome], outputs: Outputs) -> Result<ExitCode, String> {
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    if sum(|outcome| outcome.totals.answers) == 0 {
        return Err(why_nothing_came(shared, outcomes));
    }
    write_reports(&run, outputs)?;
    // what the counts of the summary do not say
    for kind in [ErrorKind::Unreachable, ErrorKind::Malformed] {
        if let Some(detail) = first_detail(outcomes, kind) {
            eprintln!("uringload: {}: {detail}", shared.target.name);
        }
    }
    let successes = sum(|outcome| outcome.totals.successes);
    Ok(if successes > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn first_detail(outcomes: &[Outcome], kind: ErrorKind) -> Option<&str> {
    outcomes.iter().find_map(|outcome| outcome.totals.details[kind as usize].as_deref())
}

/// The most frequent error stands for all.
fn why_nothing_came(shared: &Shared, outcomes: &[Outcome]) -> String {
    let count =
        |kind: ErrorKind| outcomes.iter().map(|outcome| outcome.totals.errors[kind as usize]).sum::<u64>();
    let found = ErrorKind::ALL.into_iter().max_by_key(|kind| count(*kind));
    let found = found.and_then(|kind| Some((kind, first_detail(outcomes, kind)?)));
    let name = &shared.target.name;
    match found {
        Some((ErrorKind::Malformed, detail)) => {
            format!("{name}: what comes back is no HTTP/1.1 answer: {detail}")
        }
        Some((ErrorKind::ClosedEarly, _)) => {
            format!("{name}: the server closes connections without an answer")
        }
        Some((ErrorKind::Reset, _)) => format!("{name}: the server resets connections without an answer"),
        Some((_, detail)) => format!("{name}: {detail}"),
        None => format!("{name}: stopped before anything was answered"),
    }
}

fn write_reports(run: &Run, outputs: Outputs) -> Result<(), String> {
    // a reader that has seen enough is no error
    let _ = match outputs.json_is_stdout {
        true => summary::write(run, &mut io::stderr()),
        false => summary::write(run, &mut io::stdout()),
    };
    if outputs.json_is_stdout {
        let mut out = io::stdout();
        let written = json::write(run, &mut out).and_then(|()| out.flush());
        written.map_err(|error| format!("--json cannot be written: {error}"))?;
    }
    let hgrm = |out: &mut dyn Write| report::hgrm(&run.latency, Unit::Microseconds.per_microsecond(), out);
    write_report("--json", outputs.json, |out| json::write(run, out))?;
    write_report("--hgrm", outputs.hgrm, hgrm)?;
    write_report("--html", outputs.html, |out| html::write(run, out))
}

fn write_report(
    option: &str,
    file: Option<WholeFile>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    let mut out = BufWriter::new(file);
    let written = write(&mut out).and_then(|()| out.into_inner()?.finish());
    written.map_err(|error| format!("{option} cannot be written: {error}"))
}
