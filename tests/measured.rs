//! README's measured figures are those of the results directory that they name; and what makes figures and tables of
//! measurements is tested here, since the bench itself runs without a harness.
#![allow(dead_code, reason = "the bench uses all of it")]

#[path = "../benches/versus/machine.rs"]
mod machine;
#[path = "../benches/versus/parts.rs"]
mod parts;
#[path = "../benches/versus/readme.rs"]
mod readme;
#[path = "../benches/versus/results.rs"]
mod results;
#[path = "../benches/versus/site.rs"]
mod site;
#[path = "../benches/versus/tables.rs"]
mod tables;

use machine::{Cpu, Sample, Stat, memory_at, parse_cpu_model, parse_rss_anon, parse_stat, parse_ticks, used};
use readme::{BEGIN, END};
use results::{Machine, Profile, Ratio, Results, Run, Server, Skipped, median};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn the_readme_has_the_figures_of_the_directory_that_it_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("README.md")).unwrap();
    let section = readme::section_of(&text);
    if directories(&root.join("benches/results")).is_empty() {
        assert_eq!(section, None, "README has figures, and there are no results");
        return;
    }
    let section = section.expect("README has no figures, and there are results");
    let directory = readme::directory_of(section).expect("the section names its directory");
    let made = readme::of(root, Path::new(directory)).unwrap();
    assert_eq!(section, made, "cargo bench --bench versus -- --readme {directory} writes it");
}

fn directories(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

#[test]
fn a_section_names_its_directory_command_machine_and_date() {
    let section = readme::section(&results(), "benches/results/x");
    assert_eq!(readme::directory_of(&section), Some("benches/results/x"));
    let expected = "\
<!-- from benches/results/x -->
`cargo bench --bench versus` on CPU (virtual machine, 2 cores), Linux 6.18, 2026-01-02: each server with one worker on \
one core, uringload on the rest, loopback; medians of 2 interleaved rounds of 1.5 s. All figures, the raw runs and the \
curves are in [benches/results/x](benches/results/x).

uringd 1.2, nginx 1.2.

CPU time of the server per request in microseconds, and as a share of uringd's:

| | uringd | nginx |
|---|---:|---:|
| small answer, 64 connections | 4.00 (1.00) | 8.00 (2.00) |

Requests a second, in a closed loop, and as a share of uringd's:

| | uringd | nginx |
|---|---:|---:|
| small answer, 64 connections | 100,000 (1.00) | 50,000 (0.50) |
";
    assert_eq!(section, expected);
}

#[test]
fn only_what_is_between_the_lines_is_written_anew() {
    let text = format!("# a\n\n{BEGIN}\nold\n{END}\n\nend\n");
    assert_eq!(readme::splice(&text, "new\n"), Ok(format!("# a\n\n{BEGIN}\nnew\n{END}\n\nend\n")));
    assert_eq!(readme::section_of(&text), Some("old\n"));
    assert!(readme::splice("# a\n", "new").unwrap_err().contains("measured:begin"));
    assert!(readme::splice(&format!("{BEGIN}\n"), "new").is_err());
}

#[test]
fn a_process_is_read_whatever_its_name_is() {
    let line = |name: &str| {
        format!(
            "77 ({name}) S 5 6 6 0 -1 4194560 1 2 3 4 150 250 30 40 20 0 1 0 99 1000 20 18446744073709551615"
        )
    };
    let expected = Stat { parent: 5, group: 6, alive: true, cpu: Cpu { user: 1.8, system: 2.9 } };
    for name in ["nginx", "nginx: worker", "a) S 1 (b"] {
        assert_eq!(parse_stat(&line(name), 100.0), Some(expected), "{name}");
    }
    assert!(!parse_stat(&line("nginx").replace(") S", ") Z"), 100.0).unwrap().alive);
    assert_eq!(parse_stat("", 100.0), None);
    assert_eq!(parse_stat("77 (x) S 5 6", 100.0), None);
}

#[test]
fn stolen_time_is_a_share_of_all_time() {
    let before = parse_ticks("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2").unwrap();
    let after = parse_ticks("cpu  150 0 120 900 0 0 0 30 50 0\n").unwrap();
    assert_eq!(after.stolen_since(before), 0.15);
    assert_eq!(after.stolen_since(after), 0.0);
    assert_eq!(parse_ticks("cpu 1 2 3"), None);
    assert_eq!(parse_ticks("intr 1 2 3 4 5 6 7 8"), None);
}

#[test]
fn memory_and_model_are_found_among_other_lines() {
    assert_eq!(parse_rss_anon("VmRSS:\t  9 kB\nRssAnon:\t    1234 kB\nRssFile: 1 kB"), Some(1234));
    assert_eq!(parse_rss_anon("VmRSS: 9 kB"), None);
    let cpu = "processor\t: 0\nmodel name\t: AMD EPYC: 1\nflags: x";
    assert_eq!(parse_cpu_model(cpu), Some("AMD EPYC: 1"));
}

#[test]
fn what_was_used_is_read_off_between_the_looks() {
    let sample = |at, user, rss_anon| Sample { at, cpu: Cpu { user, system: 2.0 * user }, rss_anon };
    let samples = [sample(10.0, 1.0, 5), sample(12.0, 2.0, 6), sample(13.0, 4.0, 7)];
    for (begin, end, user) in
        [(10.0, 13.0, 3.0), (11.0, 12.5, 1.5), (0.0, 99.0, 3.0), (12.0, 12.0, 0.0), (0.0, 11.0, 0.5)]
    {
        assert_eq!(used(&samples, begin, end), Cpu { user, system: 2.0 * user }, "{begin} to {end}");
    }
    assert_eq!([9.0, 10.0, 12.9, 20.0].map(|time| memory_at(&samples, time)), [5, 5, 6, 7]);
    assert_eq!((used(&[], 1.0, 2.0), memory_at(&[], 1.0)), (Cpu::default(), 0));
}

#[test]
fn a_median_is_the_middle_one() {
    for (values, expected) in
        [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 2.0, 9.0], 3.0)]
    {
        assert_eq!(median(values.iter().copied()), expected, "{values:?}");
    }
}

#[test]
fn ratios_are_taken_round_by_round() {
    // the machine was half as fast in the second round, for both
    let runs = vec![
        run("uringd", 1, 100.0, 3.0),
        run("nginx", 1, 50.0, 7.0),
        run("uringd", 2, 50.0, 7.0),
        run("nginx", 2, 25.0, 15.0),
        run("uringd", 3, 100.0, 3.0),
        run("nginx", 3, 40.0, 9.0),
    ];
    let rows = profile(runs).rows("uringd");
    assert_eq!(rows.iter().map(|row| row.server.as_str()).collect::<Vec<_>>(), ["uringd", "nginx"]);
    assert_eq!(rows[0].to_uringd, Some(Ratio { rate: 1.0, cpu: 1.0 }));
    assert_eq!(rows[1].to_uringd, Some(Ratio { rate: 0.5, cpu: 2.0 }));
    assert_eq!((rows[1].run.rate, rows[1].run.user_us, rows[1].rounds), (40.0, 9.0, 3));
}

#[test]
fn a_disturbed_round_counts_for_nothing() {
    let disturbed = Run { disturbed: true, ..run("nginx", 2, 1.0, 99.0) };
    let runs = vec![
        run("uringd", 1, 100.0, 3.0),
        run("nginx", 1, 50.0, 7.0),
        run("uringd", 2, 90.0, 3.0),
        disturbed,
    ];
    let row = profile(runs.clone()).rows("uringd").remove(1);
    assert_eq!((row.run.rate, row.rounds, row.disturbed), (50.0, 1, 1));
    assert_eq!(row.to_uringd, Some(Ratio { rate: 0.5, cpu: 2.0 }));
    // but it is shown where there is no other
    let row = profile(runs[2..].to_vec()).rows("uringd").remove(1);
    assert_eq!((row.run.rate, row.rounds, row.disturbed, row.to_uringd), (1.0, 0, 1, None));
}

#[test]
fn errors_are_added_up_and_a_failure_is_told() {
    let errors = |count| BTreeMap::from([("reset".to_owned(), count)]);
    let failed = Run { problem: Some("no answer".to_owned()), ..run("b", 3, 0.0, 0.0) };
    let one = Run { errors: errors(1), ..run("b", 1, 10.0, 1.0) };
    let two = Run { errors: errors(2), longest_gap: 0.5, ..run("b", 2, 10.0, 1.0) };
    let row = profile(vec![one, two, failed.clone()]).rows("a").remove(0);
    assert_eq!((row.run.errors, row.run.longest_gap, row.run.requests), (errors(3), 0.5, 20));
    assert_eq!((row.to_uringd, row.run.problem, row.rounds), (None, None, 2));
    let row = profile(vec![failed]).rows("a").remove(0);
    assert_eq!((row.run.problem.as_deref(), row.rounds), (Some("no answer"), 0));
}

#[test]
fn a_profile_becomes_a_table_whose_columns_stand_below_each_other() {
    let results = results();
    let text = tables::of(&results.profiles[0], "uringd").text();
    let expected =
        "        requests/s  to uringd  CPU us  user  system  to uringd    p50  p99  p99.9   RssAnon
uringd     100,000       1.00    4.00  3.00    1.00       1.00  100us  0us    0us  0.00 MiB
nginx       50,000       0.50    8.00  7.00    1.00       2.00  100us  0us    0us  0.00 MiB  3 reset
";
    assert_eq!(text, expected);
}

#[test]
fn markdown_names_machine_command_servers_and_who_was_skipped() {
    let text = tables::markdown(&results());
    let expected = "\
# CPU (virtual machine, 2 cores), Linux 6.18, 2026-01-02

`cargo bench --bench versus`: each server with one worker on one core, uringload on the rest, loopback; medians of 2 \
interleaved rounds of 1.5 s.

| server | |
|---|---|
| uringd | 1.2 |
| nginx | 1.2 |
| h2o | skipped: not found |

## small answer, 64 connections

`small-64`: `uringload -c 64`

| | requests/s | to uringd | CPU us | user | system | to uringd | p50 | p99 | p99.9 | RssAnon | |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|
| uringd | 100,000 | 1.00 | 4.00 | 3.00 | 1.00 | 1.00 | 100us | 0us | 0us | 0.00 MiB | |
| nginx | 50,000 | 0.50 | 8.00 | 7.00 | 1.00 | 2.00 | 100us | 0us | 0us | 0.00 MiB | 3 reset |

skipped: floor (reads no bodies)
";
    assert_eq!(text, expected);
}

#[test]
fn what_workers_that_go_cost_their_clients_is_told_by_kind_of_client() {
    let clients = |clients: &str, failed| Run {
        clients: Some(clients.to_owned()),
        errors: BTreeMap::from([("closed early".to_owned(), failed)]),
        longest_gap: 0.0125,
        signals: 5,
        ..run("nginx", 1, 2000.0, 0.0)
    };
    let runs = vec![clients("new connections", 3), clients("keep-alive", 40)];
    let mut results = results();
    results.profiles = vec![Profile { trouble: true, ..profile(runs) }];
    let expected = "\
| | signals | requests | failed | connections | longest gap | p99.9 | longest | |
|---|---:|---:|---:|---:|---:|---:|---:|---|
| nginx, new connections | 5 | 10 | 3 | 0 | 12.5ms | 0us | 0us | 3 closed early |
| nginx, keep-alive | 5 | 10 | 40 | 0 | 12.5ms | 0us | 0us | 40 closed early |
";
    assert_eq!(tables::of(&results.profiles[0], "uringd").markdown(), expected);
    let section = readme::section(&results, "x");
    assert!(section.ends_with(&format!("\nSmall answer, 64 connections:\n\n{expected}")), "{section}");
}

#[test]
fn parts_and_generators_stand_behind_the_servers_where_they_were_measured() {
    let (target, results) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(parts::section(results.path()).unwrap(), "");
    let problem = parts::keep_micro(target.path(), results.path()).unwrap_err();
    assert!(problem.contains("criterion"), "{problem}");
    for (name, elements, median) in [("small", 1, 84.26), ("small x 16", 16, 1_200.0)] {
        let directory = target.path().join("criterion/exchange").join(name).join("new");
        fs::create_dir_all(&directory).unwrap();
        let bench = serde_json::json!({ "full_id": format!("exchange/{name}"), "throughput": { "Elements": elements } });
        fs::write(directory.join("benchmark.json"), bench.to_string()).unwrap();
        let estimates = serde_json::json!({ "median": { "point_estimate": median } });
        fs::write(directory.join("estimates.json"), estimates.to_string()).unwrap();
    }
    parts::keep_micro(target.path(), results.path()).unwrap();
    let generators = r#"{ "rounds": 7, "small": { "uringload": { "cpu_us_per_request": 6.46, "rps": 151924.0,
        "p50_us": 416.0 }, "wrk": { "cpu_us_per_request": 8.4, "rps": 118178.0, "p50_us": 260.0 }, "ratios": {} } }"#;
    fs::write(results.path().join("generators.json"), generators).unwrap();
    let expected = "
In user space, per request (`cargo bench --bench micro`, medians):

| | ns |
|---|---:|
| exchange/small | 84.3 |
| exchange/small x 16 | 75.0 |

The load generators themselves (`cargo bench --bench generators`, medians):

| | CPU us per request | requests/s | p50 |
|---|---:|---:|---:|
| uringload, small answer, 64 connections | 6.46 | 151,924 | 416us |
| wrk, small answer, 64 connections | 8.40 | 118,178 | 260us |
";
    assert_eq!(parts::section(results.path()).unwrap(), expected);
    fs::write(results.path().join("micro.json"), "{").unwrap();
    assert!(parts::section(results.path()).unwrap_err().contains("micro.json"));
}

#[test]
fn at_a_fixed_rate_the_readme_tells_latencies() {
    let mut results = results();
    results.profiles[0].name = "rate".to_owned();
    let section = readme::section(&results, "x");
    let expected = "\
| | p50 | p99 | p99.9 | longest | failed |
|---|---:|---:|---:|---:|---:|
| uringd | 100us | 0us | 0us | 0us | 0 |
| nginx | 100us | 0us | 0us | 0us | 3 |
";
    assert!(section.ends_with(expected), "{section}");
}

#[test]
fn figures_have_three_digits_and_a_unit_that_fits() {
    let table = [(0.0, "0.00"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (1234.4, "1,234")];
    for (value, expected) in table {
        assert_eq!(tables::microseconds(value), expected);
    }
    let table = [(999, "999us"), (1_234, "1.23ms"), (999_999, "1.00s"), (2_500_000, "2.50s")];
    for (us, expected) in table {
        assert_eq!(tables::latency(us), expected);
    }
    for (value, expected) in [(0.4, "0"), (999.0, "999"), (1000.0, "1,000"), (1234567.0, "1,234,567")] {
        assert_eq!(tables::grouped(value), expected);
    }
}

#[test]
fn a_round_that_was_disturbed_is_noted() {
    let disturbed = Run { disturbed: true, stolen: 0.09, ..run("uringd", 1, 1.0, 1.0) };
    let note = |runs| tables::of(&profile(runs), "uringd").lines[0].last().unwrap().clone();
    assert_eq!(note(vec![disturbed.clone()]), "disturbed: 9 % stolen");
    assert_eq!(note(vec![disturbed, run("uringd", 2, 1.0, 1.0)]), "1 disturbed left out");
}

#[test]
fn the_site_is_as_large_as_its_profile_says_and_the_same_each_time() {
    let made = || {
        let scratch = tempfile::tempdir().unwrap();
        site::make(scratch.path(), "small\n").unwrap();
        let root = scratch.path().join(site::ROOT);
        let read = |path: &String| fs::read(root.join(&path[1..])).unwrap();
        let files: Vec<Vec<u8>> = site::paths().iter().map(read).collect();
        let upload = fs::read(scratch.path().join(site::UPLOAD)).unwrap();
        let compressed = fs::metadata(root.join("app.js.gz")).unwrap().len();
        (files, upload.len(), compressed)
    };
    let (files, upload, compressed) = made();
    assert_eq!((files.len(), files.iter().map(Vec::len).sum::<usize>(), upload), (20, 842_000, 20_000_000));
    assert!((20_000..100_000).contains(&compressed), "app.js.gz: {compressed}");
    assert!(files == made().0, "another site");
}

/// With these figures.
fn run(server: &str, round: u32, rate: f64, user_us: f64) -> Run {
    let server = server.to_owned();
    Run { server, round, rate, user_us, system_us: 1.0, requests: 10, p50_us: 100, ..Run::default() }
}

fn profile(runs: Vec<Run>) -> Profile {
    Profile {
        name: "small-64".to_owned(),
        title: "small answer, 64 connections".to_owned(),
        load: "-c 64".to_owned(),
        trouble: false,
        skipped: vec![],
        runs,
    }
}

/// Two servers and one that is missing, in one profile of two rounds.
fn results() -> Results {
    let errors = BTreeMap::from([("reset".to_owned(), 3)]);
    let runs = vec![
        run("uringd", 1, 100_000.0, 3.0),
        Run { errors, ..run("nginx", 1, 50_000.0, 7.0) },
        run("uringd", 2, 100_000.0, 3.0),
        run("nginx", 2, 50_000.0, 7.0),
    ];
    let reason = "reads no bodies".to_owned();
    let skipped = vec![Skipped { server: "floor".to_owned(), reason }];
    let server = |name: &str, missing: Option<&str>| Server {
        name: name.to_owned(),
        version: "1.2".to_owned(),
        missing: missing.map(str::to_owned),
    };
    Results {
        date: "2026-01-02".to_owned(),
        command: "cargo bench --bench versus".to_owned(),
        machine: Machine {
            cpu: "CPU".to_owned(),
            cores: 2,
            virtual_machine: true,
            kernel: "6.18".to_owned(),
        },
        rounds: 2,
        seconds: 1.5,
        workers: 1,
        servers: vec![server("uringd", None), server("nginx", None), server("h2o", Some("not found"))],
        profiles: vec![Profile { skipped, ..profile(runs) }],
    }
}
