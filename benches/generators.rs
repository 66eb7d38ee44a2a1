//! What a load generator costs: the CPU time that `uringload` and `wrk` use for a request, in interleaved rounds against the
//! same server; and whether they measure the same where neither is the limit.
//!
//! `cargo bench --bench generators [-- --rounds 7 --seconds 1 --save DIR]`
//!
//! `uringd` with one worker has one core, the generator another. `--save` writes DIR/generators.json.

use serde_json::{Value, json};
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

const CONNECTIONS: usize = 64;
const DELAY: Duration = Duration::from_millis(5);
/// (server, generator)
const CORES: (&str, &str) = ("0", "1");

/// What came of one round.
struct Round {
    cpu_us: f64,
    rate: f64,
    p50_us: f64,
}

type Generator = fn(&str, u64) -> Round;

fn main() {
    let option = |name: &str| env::args().skip_while(|argument| argument != name).nth(1);
    let number = |name, default| option(name).map_or(default, |text| text.parse().expect(name));
    let (rounds, seconds) = (number("--rounds", 7), number("--seconds", 1));
    let mut generators: Vec<(&str, Generator)> = vec![("uringload", uringload)];
    match is_there("wrk") {
        true => generators.push(("wrk", wrk)),
        false => println!("skipped: wrk, there is none here"),
    }
    if !is_there("taskset") || thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        return println!("skipped: all, it needs taskset (util-linux) and two cores");
    }
    let server = Server::start();
    let small = measure(&generators, &format!("http://{}/", server.address), rounds, seconds);
    drop(server);
    let delayed = measure(&generators, &format!("http://{}/", delaying()), rounds, seconds);
    let results = json!({ "rounds": rounds, "seconds": seconds, "connections": CONNECTIONS,
        "small": tell("small answer, keep-alive", &small), "delayed": tell("each answer delayed by 5 ms", &delayed) });
    if let Some(folder) = option("--save").map(PathBuf::from) {
        let path = folder.join("generators.json");
        fs::create_dir_all(&folder).expect("the folder of --save");
        fs::write(&path, format!("{results:#}\n")).expect("generators.json");
        println!("saved {}", path.display());
    }
}

/// The medians of each, over rounds in turn.
fn measure<'a>(
    generators: &[(&'a str, Generator)],
    url: &str,
    rounds: u64,
    seconds: u64,
) -> Vec<(&'a str, Round)> {
    let mut all: Vec<Vec<Round>> = generators.iter().map(|_| vec![]).collect();
    for _ in 0..rounds.max(1) {
        generators.iter().zip(&mut all).for_each(|((_, run), rounds)| rounds.push(run(url, seconds)));
    }
    let middle = |rounds: &[Round], of: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let medians = all.iter().map(|rounds| Round {
        cpu_us: middle(rounds, |round| round.cpu_us),
        rate: middle(rounds, |round| round.rate),
        p50_us: middle(rounds, |round| round.p50_us),
    });
    generators.iter().map(|(name, _)| *name).zip(medians).collect()
}

/// Prints medians, and how many times the last generator's the first one's are.
fn tell(what: &str, medians: &[(&str, Round)]) -> Value {
    println!(
        "\n{what}, {CONNECTIONS} connections\n{:<12}{:>14}{:>14}{:>12}",
        "", "CPU/request", "requests/s", "p50"
    );
    let mut told = json!({});
    for (name, Round { cpu_us, rate, p50_us }) in medians {
        println!("{name:<12}{:>14}{rate:>14.0}{:>12}", format!("{cpu_us:.2}us"), format!("{p50_us:.0}us"));
        told[*name] = json!({ "cpu_us_per_request": cpu_us, "rps": rate, "p50_us": p50_us });
    }
    if let [(_, own), .., (other, theirs)] = medians {
        let ratios = [own.cpu_us / theirs.cpu_us, own.rate / theirs.rate, own.p50_us / theirs.p50_us];
        println!("{:<12}{:>13.2}x{:>13.2}x{:>11.2}x", format!("to {other}"), ratios[0], ratios[1], ratios[2]);
        told["ratios"] = json!({ "cpu_us_per_request": ratios[0], "rps": ratios[1], "p50_us": ratios[2] });
    }
    told
}

fn uringload(url: &str, seconds: u64) -> Round {
    let (connections, seconds) = (CONNECTIONS.to_string(), format!("{seconds}s"));
    let program = env!("CARGO_BIN_EXE_uringload");
    let (text, cpu_us) = on_its_core(&[program, url, "-c", &connections, "-d", &seconds, "--json", "-"]);
    let run: Value = serde_json::from_str(&text).expect("JSON");
    let figure = |value: &Value| value.as_f64().expect("a figure");
    Round {
        cpu_us: cpu_us / figure(&run["requests"]),
        rate: figure(&run["rps"]),
        p50_us: figure(&run["latency"]["p50"]),
    }
}

fn wrk(url: &str, seconds: u64) -> Round {
    let (connections, seconds) = (format!("-c{CONNECTIONS}"), format!("-d{seconds}s"));
    let (text, cpu_us) = on_its_core(&["wrk", "--latency", "-t1", &connections, &seconds, url]);
    let behind =
        |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).expect(name).trim();
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")).expect("requests").0;
    let p50 = behind("50%");
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let (number, size) =
        units.iter().find_map(|(unit, size)| Some((p50.strip_suffix(unit)?, size))).expect("a time");
    let parse = |text: &str| text.parse::<f64>().expect("a number");
    Round {
        cpu_us: cpu_us / parse(requests),
        rate: parse(behind("Requests/sec:")),
        p50_us: parse(number) * size,
    }
}

/// What a program prints, and how many microseconds of CPU it has used from its start to its end, in user space and in the
/// kernel.
fn on_its_core(command: &[&str]) -> (String, f64) {
    let before = used_by_children();
    let output = Command::new("taskset").args(["-c", CORES.1]).args(command).stderr(Stdio::null()).output();
    let output = output.expect("taskset");
    let cpu = used_by_children() - before;
    assert!(output.status.success(), "{command:?}: {:?} {:?}", output.status.code(), output.status.signal());
    (String::from_utf8(output.stdout).expect("text"), cpu)
}

/// In microseconds; children that have ended and were waited for.
fn used_by_children() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// `uringd` with one worker.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Server {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port").to_string();
        let mut command = Command::new("taskset");
        command.args(["-c", CORES.0]).arg(Path::new(env!("CARGO_BIN_EXE_uringd")));
        command.args(["--workers", "1", "--listen", &address]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("uringd");
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < deadline, "uringd does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Server { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Where a server listens that answers each request after `DELAY`: a thread for each connection, so that a request waits for
/// nothing else.
fn delaying() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || delay(&stream))))
    });
    address
}

fn delay(mut stream: &TcpStream) {
    let mut input = BufReader::new(stream.try_clone().expect("a descriptor"));
    let _ = stream.set_nodelay(true);
    let mut line = String::new();
    while input.by_ref().take(8192).read_line(&mut line).is_ok_and(|octets| octets > 0) {
        if line == "\r\n" {
            thread::sleep(DELAY);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
        line.clear();
    }
}
