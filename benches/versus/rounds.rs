//! The measuring itself: profile after profile, in each the servers in turn, round after round.

use crate::affinity::Cores;
use crate::guard::Guard;
use crate::idle::{self, Idle};
use crate::load::Load;
use crate::machine::{self, Ticks};
use crate::options::Options;
use crate::peers::{self, PEERS, Peer, Setup};
use crate::process::Running;
use crate::profiles::{self, Kind, PROFILES, Profile, TROUBLED};
use crate::results::{self, Results, Run, Skipped};
use crate::save::{self, Raw};
use crate::{sampler, server, site, tables, trouble};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uringd::load::json::Saved;

/// A run from which the hypervisor took more than this is repeated.
const STOLEN_MAX: f64 = 0.02;
const REPEATS: u32 = 2;
/// After the warm-up; the others follow each second.
const FIRST_TROUBLE: Duration = Duration::from_millis(500);
/// Until the server of the run before is done with its closed connections.
const PAUSE: Duration = Duration::from_millis(100);
const WARMUP: Duration = Duration::from_millis(200);
const ROUND_ZERO: Duration = Duration::from_millis(300);
const QUICK_WARMUP: Duration = Duration::from_millis(100);

/// Measures what was asked for and saves it.
pub fn run(options: &Options, root: &Path) -> Result<(), String> {
    let machine = machine::this();
    let cores = Cores::divide(options.server_cores.as_ref().map(|cores| cores.0.as_slice()))?;
    cores.settle()?;
    idle::raise_descriptor_limit()?;
    let guard = Guard::start().map_err(|error| format!("cannot start the guard: {error}"))?;
    let scratch = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
    guard.remove(scratch.path());
    site::make(scratch.path(), server::ANSWER)?;
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string()[..10].to_owned();
    let out = options.out.clone().unwrap_or_else(|| default_directory(options, root, &date, &machine));
    let mut bench = Bench {
        options,
        root,
        scratch: scratch.path(),
        guard: &guard,
        results: Results {
            date,
            command: command(),
            machine,
            rounds: options.rounds(),
            seconds: options.length().as_secs_f64(),
            workers: cores.servers.len(),
            servers: servers(options, root),
            profiles: vec![],
        },
        cores,
        raw: vec![],
    };
    for server in
        bench.results.servers.iter().filter_map(|server| Some((&server.name, server.missing.as_ref()?)))
    {
        eprintln!("skipped: {}: {}", server.0, server.1);
    }
    if options.out.is_none() && !options.quick && out.exists() {
        return Err(format!("{} has results already: remove it, or name another with --out", out.display()));
    }
    println!("{}", tables::machine(&bench.results));
    println!("{}", tables::how(&bench.results));
    for profile in PROFILES.iter().filter(|profile| options.wants_profile(profile.name)) {
        let measured = bench.profile(profile);
        println!("\n{} ({}: uringload {})\n", measured.title, measured.name, measured.load);
        print!("{}", tables::of(&measured, PEERS[0].name).text());
        tables::skipped(&measured).into_iter().for_each(|line| println!("{line}"));
        bench.results.profiles.push(measured);
        save::write(&out, &bench.results, &bench.raw)?;
    }
    println!("\nsaved in {}", out.display());
    Ok(())
}

fn default_directory(options: &Options, root: &Path, date: &str, machine: &results::Machine) -> PathBuf {
    if options.quick {
        return peers::target_directory().join("versus-quick");
    }
    let kernel: Vec<&str> = machine.kernel.split('.').take(2).collect();
    root.join(format!("benches/results/{date}-{}cpu-linux-{}", machine.cores, kernel.join(".")))
}

/// As it was typed, but for what has no part in the figures.
fn command() -> String {
    let words =
        std::env::args().skip(1).filter(|word| !["--bench", "--build-peers"].contains(&word.as_str()));
    let mut typed: Vec<String> = words.filter(|word| !word.starts_with("--out=")).collect();
    if let Some(place) = typed.iter().position(|word| word == "--out") {
        typed.drain(place..(place + 2).min(typed.len()));
    }
    match typed.is_empty() {
        true => "cargo bench --bench versus".to_owned(),
        false => format!("cargo bench --bench versus -- {}", typed.join(" ")),
    }
}

fn servers(options: &Options, root: &Path) -> Vec<results::Server> {
    let wanted = PEERS.iter().filter(|peer| options.wants_peer(peer.name));
    let server = |peer: &Peer| results::Server {
        name: peer.name.to_owned(),
        version: peer.version(root),
        missing: peer.program().err(),
    };
    wanted.map(server).collect()
}

struct Bench<'a> {
    options: &'a Options,
    root: &'a Path,
    scratch: &'a Path,
    guard: &'a Guard,
    cores: Cores,
    results: Results,
    raw: Vec<Raw>,
}

/// One kind of client in a profile.
struct Clients {
    name: Option<&'static str>,
    flags: Vec<String>,
}

impl<'a> Bench<'a> {
    fn profile(&mut self, profile: &'static Profile) -> results::Profile {
        let quick = self.options.quick;
        let (peers, skipped) = self.able(profile);
        let mut measured = results::Profile {
            name: profile.name.to_owned(),
            title: profile.title(quick),
            load: profile.flags(quick, Path::new("")).join(" "),
            trouble: profile.is_trouble(),
            skipped,
            runs: vec![],
        };
        match profile.is_trouble() {
            true => self.troubled(profile, &peers, &mut measured),
            false => self.interleaved(profile, &peers, &mut measured),
        }
        measured
    }

    /// Who can do it, and why the others are left out.
    fn able(&self, profile: &Profile) -> (Vec<&'static Peer>, Vec<Skipped>) {
        let (quick, mut able, mut skipped) = (self.options.quick, vec![], vec![]);
        let too_many = idle::too_many(profile.connections(quick) + profile.idle(quick));
        for peer in PEERS.iter().filter(|peer| self.is_there(peer)) {
            match (peer.cannot)(profile.needs).map(str::to_owned).or_else(|| too_many.clone()) {
                None => able.push(peer),
                Some(reason) => skipped.push(Skipped { server: peer.name.to_owned(), reason }),
            }
        }
        (able, skipped)
    }

    fn is_there(&self, peer: &Peer) -> bool {
        self.results.servers.iter().any(|server| server.name == peer.name && server.missing.is_none())
    }

    fn start(&self, peer: &'static Peer, profile: &Profile) -> Result<Running<'a>, Skipped> {
        // somebody must be left to serve when one worker goes
        let workers = self.cores.servers.len().max(if profile.is_trouble() { 2 } else { 1 });
        let setup = Setup { root: self.root, scratch: self.scratch, port: 0, workers, needs: profile.needs };
        let started = Running::start(peer, &setup, &self.cores, self.guard);
        started.map_err(|reason| Skipped { server: peer.name.to_owned(), reason })
    }

    /// B C A, C A B, A B C.
    fn interleaved(&mut self, profile: &Profile, peers: &[&'static Peer], measured: &mut results::Profile) {
        let mut running = vec![];
        for peer in peers {
            match self.start(peer, profile) {
                Ok(server) => running.push(server),
                Err(skipped) => measured.skipped.push(skipped),
            }
        }
        let mut flags = profile.flags(self.options.quick, self.scratch);
        if let Kind::Rate(share) = profile.kind {
            let rate = self.rate(share, &running).round().to_string();
            measured.load += &format!(" --rate {rate}");
            flags.extend(["--rate".to_owned(), rate]);
        }
        let clients = Clients { name: None, flags };
        if !self.options.quick {
            // what a first load costs a program, and what else has just been started, is not told; nor is a failure, since
            // it comes again
            running.iter().for_each(|server| drop(self.load(profile, server, &clients, ROUND_ZERO)));
        }
        for round in 1..=self.options.rounds() {
            // each begins a round in its turn: nobody always follows the same one, which may still be at something
            running.rotate_left(1);
            for server in &running {
                let runs = self.measure(profile, server, &clients, round);
                measured.runs.extend(runs);
            }
        }
        // tables name the servers in their own order, whoever came first
        measured.runs.sort_by_key(|run| peers.iter().position(|peer| peer.name == run.server));
    }

    /// Each kind of client with a pool of its own, to which nothing has happened yet.
    fn troubled(&mut self, profile: &Profile, peers: &[&'static Peer], measured: &mut results::Profile) {
        for (name, flags) in TROUBLED {
            let own = flags.iter().map(|flag| (*flag).to_owned());
            let flags = profile.flags(self.options.quick, self.scratch).into_iter().chain(own).collect();
            let clients = Clients { name: Some(name), flags };
            for peer in peers {
                match self.measure_afresh(profile, peer, &clients) {
                    Ok(runs) => measured.runs.extend(runs),
                    // the second kind of client says it again
                    Err(skipped) if measured.skipped.iter().any(|known| known.server == skipped.server) => {}
                    Err(skipped) => measured.skipped.push(skipped),
                }
            }
        }
    }

    /// Requests a second: this share of what the slowest reaches.
    fn rate(&self, share: f64, running: &[Running]) -> f64 {
        let closed = &PROFILES[0];
        let measured = self.results.profiles.iter().find(|measured| measured.name == closed.name);
        let rates: Vec<f64> = match measured {
            Some(measured) => {
                let names: Vec<&str> = running.iter().map(|server| server.peer.name).collect();
                let rows = measured.rows(PEERS[0].name).into_iter();
                rows.filter(|row| names.contains(&row.server.as_str())).map(|row| row.run.rate).collect()
            }
            None => {
                let clients = Clients { name: None, flags: closed.flags(self.options.quick, self.scratch) };
                let run = |server| self.load(closed, server, &clients, self.options.length()).ok();
                running.iter().filter_map(run).map(|saved| saved.rps).collect()
            }
        };
        let slowest = rates.into_iter().filter(|rate| *rate > 0.0).fold(f64::INFINITY, f64::min);
        if slowest.is_finite() { (slowest * share).max(1.0) } else { 1.0 }
    }

    /// One measurement, again where the hypervisor disturbed it; all of them are told.
    fn measure(&mut self, profile: &Profile, server: &Running, clients: &Clients, round: u32) -> Vec<Run> {
        let mut runs = vec![];
        for _ in 0..=self.repeats() {
            let run = self.attempt(profile, server, clients, round);
            let disturbed = run.disturbed;
            runs.push(run);
            if !disturbed {
                break;
            }
        }
        runs
    }

    /// The same with a pool of its own for each attempt.
    fn measure_afresh(
        &mut self,
        profile: &Profile,
        peer: &'static Peer,
        clients: &Clients,
    ) -> Result<Vec<Run>, Skipped> {
        let mut runs = vec![];
        for _ in 0..=self.repeats() {
            let server = self.start(peer, profile)?;
            let run = self.attempt(profile, &server, clients, 1);
            let disturbed = run.disturbed;
            runs.push(run);
            if !disturbed {
                break;
            }
        }
        Ok(runs)
    }

    fn repeats(&self) -> u32 {
        if self.options.quick { 0 } else { REPEATS }
    }

    fn attempt(&mut self, profile: &Profile, server: &Running, clients: &Clients, round: u32) -> Run {
        let run = match profile.is_trouble() {
            true => self.once_troubled(profile, server, clients),
            false => self.once(profile, server, clients),
        };
        thread::sleep(PAUSE);
        let (run, saved) = match run {
            Ok((run, saved)) => (run, Some(saved)),
            Err(problem) => (Run { problem: Some(problem), ..Run::default() }, None),
        };
        let run = Run {
            server: server.peer.name.to_owned(),
            clients: clients.name.map(str::to_owned),
            round,
            disturbed: run.stolen > STOLEN_MAX,
            ..run
        };
        progress(profile, &run, self.options.rounds());
        self.raw.extend(saved.map(|load| Raw {
            profile: profile.name.to_owned(),
            server: run.server.clone(),
            clients: run.clients.clone(),
            round,
            disturbed: run.disturbed,
            load,
        }));
        run
    }

    fn once(&self, profile: &Profile, server: &Running, clients: &Clients) -> Result<(Run, Saved), String> {
        let idle = Idle::open(server.port, profile.idle(self.options.quick))?;
        let processes = server.processes();
        let before = Ticks::now();
        let load = || self.load(profile, server, clients, self.options.length());
        let (saved, samples) = sampler::while_doing(&processes, load);
        let stolen = Ticks::now().stolen_since(before);
        let saved = saved?;
        if saved.responses == 0 {
            return Err(format!("not one answer in {} s", saved.duration));
        }
        let begin = started(&saved)?;
        let end = begin + saved.duration;
        let used = machine::used(&samples, begin, end);
        let answers = saved.responses as f64;
        let run = Run {
            user_us: used.user * 1e6 / answers,
            system_us: used.system * 1e6 / answers,
            rss_anon_kib: machine::memory_at(&samples, end),
            idle_lost: idle.lost(),
            stolen,
            ..told(&saved)
        };
        Ok((run, saved))
    }

    fn once_troubled(
        &self,
        profile: &Profile,
        server: &Running,
        clients: &Clients,
    ) -> Result<(Run, Saved), String> {
        let length = profiles::trouble_length(self.options.length(), self.options.rounds());
        let (delay, times) = (self.warmup() + FIRST_TROUBLE, length.as_secs() as u32);
        let before = Ticks::now();
        let load = || self.load(profile, server, clients, length);
        let (saved, signals) = trouble::while_doing(server, profile.kind, delay, times, load);
        let (stolen, saved) = (Ticks::now().stolen_since(before), saved?);
        Ok((Run { signals, stolen, ..told(&saved) }, saved))
    }

    fn load(
        &self,
        profile: &Profile,
        server: &Running,
        clients: &Clients,
        length: Duration,
    ) -> Result<Saved, String> {
        let (paths, flags, warmup) = (&profile.paths(), &clients.flags, self.warmup());
        Load { port: server.port, paths, flags, warmup, length }.run(self.scratch, self.guard)
    }

    fn warmup(&self) -> Duration {
        if self.options.quick { QUICK_WARMUP } else { WARMUP }
    }
}

/// What the clients saw.
fn told(saved: &Saved) -> Run {
    let errors = saved.errors_by_kind.in_words().into_iter().filter(|(_, error)| error.count > 0);
    let latency = saved.latency.as_ref();
    Run {
        requests: saved.requests,
        rate: saved.rps,
        p50_us: latency.map_or(0, |latency| latency.p50),
        p99_us: latency.map_or(0, |latency| latency.p99),
        p99_9_us: latency.map_or(0, |latency| latency.p99_9),
        max_us: latency.map_or(0, |latency| latency.max),
        errors: errors.map(|(kind, error)| (kind.to_owned(), error.count)).collect(),
        connections_opened: saved.connections_opened,
        longest_gap: saved.longest_gap.map_or(0.0, |gap| gap.seconds),
        ..Run::default()
    }
}

/// When the measured part began, in seconds since 1970.
fn started(saved: &Saved) -> Result<f64, String> {
    let started = humantime::parse_rfc3339(&saved.started).ok();
    let since = started.and_then(|started| started.duration_since(UNIX_EPOCH).ok());
    since.map(|since| since.as_secs_f64()).ok_or_else(|| format!("uringload started at {:?}", saved.started))
}

fn progress(profile: &Profile, run: &Run, rounds: u32) {
    let place = match &run.clients {
        Some(clients) => clients.clone(),
        None => format!("round {} of {rounds}", run.round),
    };
    let outcome = match &run.problem {
        Some(problem) => problem.clone(),
        None if profile.is_trouble() => {
            format!("{}/s, {} failed", tables::grouped(run.rate), tables::failed(run))
        }
        None => format!("{}/s, {} us", tables::grouped(run.rate), tables::microseconds(run.cpu_us())),
    };
    let stolen = if run.disturbed { format!(", {:.0} % stolen", run.stolen * 100.0) } else { String::new() };
    eprintln!("{}, {place}, {}: {outcome}{stolen}", profile.name, run.server);
}
