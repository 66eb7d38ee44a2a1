//! `--metrics`: what Prometheus and health probes get, over the network, while workers die.

mod common;

use common::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

/// A server that tells its numbers at a port of the kernel's choice.
fn start(arguments: &[&str]) -> (Server, SocketAddr) {
    let server = Server::start(Program::Faulty, &[&["--metrics", "127.0.0.1:0"], arguments].concat());
    let started = server.wait_for("where", |line| line["metrics"].is_string());
    let address = started["metrics"].as_str().unwrap().parse().unwrap();
    (server, address)
}

fn scrape(address: SocketAddr) -> String {
    let answer = Client::connect(address).get_and_close("/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    String::from_utf8(answer.body).unwrap()
}

/// One metric, as the text has it.
struct Family {
    kind: String,
    help: String,
    /// By the name and labels.
    samples: BTreeMap<String, f64>,
}

/// Reads the text, and fails where it is not as the format wants it.
fn read(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            current = name.to_owned();
            let family = Family { kind: String::new(), help: help.to_owned(), samples: BTreeMap::new() };
            assert!(families.insert(current.clone(), family).is_none(), "twice: {line}");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            assert_eq!(name, current, "the type follows the help");
            families.get_mut(name).unwrap().kind = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
            let name = series.split('{').next().unwrap();
            let family = families.get_mut(&current).expect("a family before its samples");
            let suffixes: &[&str] =
                if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.iter().any(|suffix| name == format!("{current}{suffix}")), "{line}");
            let value = value.parse().unwrap_or_else(|_| panic!("{line:?}"));
            assert!(family.samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    families
}

fn value(families: &BTreeMap<String, Family>, family: &str, series: &str) -> f64 {
    families[family].samples[series]
}

#[test]
fn the_text_is_what_prometheus_reads_and_recommends() {
    let (server, address) = start(&["--workers", "2"]);
    server.get("/pid");
    let text = scrape(address);
    assert!(text.ends_with('\n'));
    let families = read(&text);
    assert!(families.len() > 50, "{}", families.len());
    for (name, Family { kind, help, samples }) in &families {
        // the rules of promtool's linter
        assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()) && !help.is_empty(), "{name}");
        for word in name.split('_').skip(1) {
            let kinds_and_units = [
                "counter",
                "gauge",
                "histogram",
                "bucket",
                "count",
                "sum",
                "s",
                "ms",
                "us",
                "ns",
                "b",
                "kb",
                "mb",
                "m",
                "h",
                "d",
                "sec",
            ];
            assert!(!kinds_and_units.contains(&word), "{name}: {word}");
        }
        assert!(!samples.is_empty() || name == "uringd_worker_memory_anonymous_bytes", "{name}");
    }
    for prefix in ["uringd", "uringd_pool"] {
        let buckets = &families[&format!("{prefix}_request_duration_seconds")].samples;
        let slots: &[&str] = if prefix == "uringd" { &["slot=\"0\",", "slot=\"1\","] } else { &[""] };
        for slot in slots {
            let mut of_slot: Vec<(f64, f64)> = buckets
                .iter()
                .filter_map(|(series, count)| {
                    let bound = series.split_once(&format!("_bucket{{{slot}le=\""))?.1.strip_suffix("\"}")?;
                    Some((bound.parse().unwrap(), *count))
                })
                .collect();
            of_slot.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert_eq!((of_slot.len(), of_slot[20].0), (21, f64::INFINITY));
            assert!(of_slot.is_sorted_by_key(|(_, count)| *count), "{of_slot:?}");
        }
    }
    assert_eq!(value(&families, "uringd_pool_requests_total", "uringd_pool_requests_total"), 1.0);
    let slots = ["0", "1"].map(|slot| {
        value(&families, "uringd_requests_total", &format!("uringd_requests_total{{slot=\"{slot}\"}}"))
    });
    assert_eq!(slots.iter().sum::<f64>(), 1.0);
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        return skip("promtool is not installed (Debian's prometheus has it)");
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// What must never be less than before.
fn counters(families: BTreeMap<String, Family>) -> BTreeMap<String, f64> {
    let counting = families.into_values().filter(|family| family.kind != "gauge");
    counting.flat_map(|family| family.samples).collect()
}

#[test]
fn no_counter_goes_down_while_a_hundred_workers_are_killed_under_load() {
    const KILLS: usize = 100;
    let (server, address) = start(&["--workers", "2", "--restart-limit", "1000"]);
    let over = AtomicBool::new(false);
    let (scrapes, answers) = thread::scope(|scope| {
        let ends = SetOnDrop(&over);
        let load = || {
            let mut answers = 0;
            while !over.load(Ordering::Relaxed) {
                // a worker that is killed takes its clients' connections with it
                let Ok(mut client) = Client::try_connect(server.address) else { continue };
                while !over.load(Ordering::Relaxed) && client.try_get("/pid").is_ok() {
                    answers += 1;
                }
            }
            answers
        };
        let loads = [scope.spawn(load), scope.spawn(load), scope.spawn(load)];
        let watching = scope.spawn(|| {
            let (mut before, mut scrapes) = (BTreeMap::new(), 0);
            while !over.load(Ordering::Relaxed) {
                let now = counters(read(&scrape(address)));
                for (series, value) in &before {
                    let later = now.get(series).unwrap_or_else(|| panic!("{series} is gone"));
                    assert!(later >= value, "{series}: {value}, then {later}");
                }
                (before, scrapes) = (now, scrapes + 1);
            }
            (scrapes, before)
        });
        let mut killed = BTreeSet::new();
        while killed.len() < KILLS && !watching.is_finished() {
            server.wait("somebody listens who is to be killed", || {
                server.listening().iter().any(|(_, pid)| !killed.contains(pid))
            });
            let victim = server.listening().into_iter().find(|(_, pid)| !killed.contains(pid));
            if let Some((_, pid)) = victim.filter(|(_, pid)| killed.insert(*pid)) {
                kill(pid, "KILL");
            }
        }
        server.wait("all are gone", || watching.is_finished() || server.events("exit").len() >= KILLS);
        drop(ends);
        let answers: u64 = loads.into_iter().map(|load| load.join().unwrap()).sum();
        let (scrapes, before) = watching.join().unwrap();
        // the answers were counted before they were sent, and all have come by now
        let last = counters(read(&scrape(address)));
        assert!(before.iter().all(|(series, value)| last[series] >= *value), "{before:?}, then {last:?}");
        let of = |name: &str| last[name];
        assert!(of("uringd_pool_requests_total") >= answers as f64, "{answers}");
        assert!(of("uringd_pool_request_duration_seconds_count") >= answers as f64, "{answers}");
        let crashes = last.iter().filter(|(series, _)| {
            series.starts_with("uringd_worker_exits_total") && series.contains("\"crash\"")
        });
        assert_eq!(crashes.map(|(_, count)| count).sum::<f64>(), KILLS as f64);
        (scrapes, answers)
    });
    assert!(scrapes > 20 && answers > KILLS as u64, "{scrapes} scrapes, {answers} answers");
}

#[test]
fn the_network_gets_metrics_and_health_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("c");
    let (_server, address) = start(&["--workers", "1", "--control", control.to_str().unwrap()]);
    for (path, status) in [("/", 200), ("/metrics", 200), ("/health/live", 200), ("/health/ready", 200)] {
        assert_eq!(heard(|| Client::connect(address).get_and_close(path)).status, status, "{path}");
        assert_eq!(heard(|| Client::connect_unix(&control).get_and_close(path)).status, status, "{path}");
    }
    for path in ["/status", "/events", "/latency", "/config", "/reload", "/stop", "/nothing"] {
        let mut client = Client::connect(address);
        assert_eq!(client.get(path).status, 404, "{path}");
        client.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(client.read_answer().unwrap().status, 404, "{path}");
    }
    let mut client = Client::connect(address);
    client.send("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    let refused = client.read_answer().unwrap();
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    drop(client);
    for broken in ["GET\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "\0\0\0\0\r\n\r\n"] {
        let mut client = Client::connect(address);
        client.send(broken);
        assert_eq!(client.read_answer().unwrap().status, 400, "{broken:?}");
    }
}

#[test]
fn who_says_nothing_keeps_nobody_from_asking_how_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("c");
    let (server, address) = start(&["--workers", "1", "--control", control.to_str().unwrap()]);
    let mut crowd: Vec<_> = (0..100).map(|_| Client::connect(address)).collect();
    // nor does who begins to say something, and who has asked and stays
    for client in &mut crowd[50..] {
        let _ = client.stream.write_all(b"GET /metr");
    }
    let mut kept = Client::connect(address);
    assert_eq!(heard(|| kept.get("/health/live")).status, 200);
    for _ in 0..3 {
        let fresh: Vec<_> = (0..40).map(|_| Client::connect(address)).collect();
        assert_eq!(heard(|| Client::connect(address).get_and_close("/health/ready")).status, 200);
        assert_eq!(heard(|| Client::connect_unix(&control).get_and_close("/health/live")).status, 200);
        crowd.extend(fresh);
    }
    // where there is room they are let go all the same
    drop(crowd);
    let mut silent: Vec<_> = (0..10).map(|_| Client::connect(address)).collect();
    for client in &mut silent {
        assert_eq!(client.read_to_end().unwrap(), b"");
    }
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn an_address_that_cannot_be_had_ends_the_start_in_one_line() {
    let holds = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holds.local_addr().unwrap();
    for (address, parts) in [
        (taken.to_string(), ["another process holds it", "choose another --metrics"]),
        ("192.0.2.1:9".to_owned(), ["this machine has no such address", "correct --metrics"]),
        ("unix:/no/such/m.sock".to_owned(), ["No such file", "choose another --metrics"]),
    ] {
        let mut command = Program::Uringd.command(&["--listen", "127.0.0.1:0", "--metrics", &address]);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let line = said.lines().last().unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        for part in [&format!("uringd: cannot listen on {address}: "), parts[0], parts[1]] {
            assert!(line.contains(part), "{part:?} is not in {line}");
        }
    }
}

#[test]
fn a_unix_socket_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.sock");
    let address = format!("unix:{}", path.display());
    let server = Server::start(Program::Uringd, &["--workers", "1", "--metrics", &address]);
    let text = Client::connect_unix(&path).get("/metrics").text();
    assert!(text.contains("uringd_workers{phase=\"listening\"} 1"), "{text}");
    server.signal("TERM");
    server.wait_gone();
    assert!(!path.exists());
}

/// What a probe is told by a master's loop that has had a core within the second that a probe gives it.
fn heard(mut probe: impl FnMut() -> Answer) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = probe();
        if !answer.text().contains("does not answer within 1s") || Instant::now() > deadline {
            return answer;
        }
    }
}

fn ready(address: SocketAddr) -> (u16, String) {
    let answer = heard(|| Client::connect(address).get_and_close("/health/ready"));
    (answer.status, answer.text())
}

#[test]
fn ready_is_who_serves_and_neither_stops_nor_has_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let dies = directory.path().join("dies");
    let arguments = [
        &["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "2"][..],
        &["--restart-limit", "1", "--kill-timeout", "60s"],
    ]
    .concat();
    let mut command = Program::Faulty.command(&arguments);
    let server = Server::spawn(command.env("FAULTY_BOOT_FILE", &dies));
    let started = server.wait_for("where", |line| line["metrics"].is_string());
    let address = started["metrics"].as_str().unwrap().parse().unwrap();
    server.wait_until_whole();
    assert_eq!(ready(address), (200, "{\"ready\":true}".to_owned()));

    fs::write(&dies, "").unwrap();
    kill(server.listening()[0].1, "KILL");
    server.wait_for("giveup", |line| line["event"] == "giveup");
    server.wait("not ready", || ready(address).0 == 503);
    assert!(
        ready(address).1.contains("given up: too many workers have crashed, 1 of 2 listen"),
        "{:?}",
        ready(address)
    );
    assert_eq!(value(&read(&scrape(address)), "uringd_giveup", "uringd_giveup"), 1.0);
    assert_eq!(heard(|| Client::connect(address).get_and_close("/health/live")).status, 200);

    fs::remove_file(&dies).unwrap();
    server.signal("HUP");
    server.wait("ready again", || ready(address).0 == 200);
    server.wait_for("the roll", |line| line["stage"] == "done");
    assert_eq!(value(&read(&scrape(address)), "uringd_giveup", "uringd_giveup"), 0.0);

    // what keeps the server from being gone lasts as long as is needed here
    let mut client = server.connect();
    client.send("POST /pid HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\na");
    server.wait("it is under way", || {
        value(&read(&scrape(address)), "uringd_pool_connections", "uringd_pool_connections") >= 1.0
    });
    server.signal("TERM");
    server.wait("not ready", || ready(address).0 == 503);
    assert!(ready(address).1.contains("the server is stopping"), "{:?}", ready(address));
    client.send("b");
    assert_eq!(client.read_answer().unwrap().status, 200);
    server.wait_gone();
}
