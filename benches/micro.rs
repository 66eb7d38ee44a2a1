//! What a request costs in user space, without a kernel: all of it (`exchange`, `access_log`, `handler`) and its parts (`parse`,
//! `respond`, `path`, `record`), and what a message on the channel costs (`frame`).
//!
//! `cargo bench --bench micro`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime};
use uringd::access_log::{AccessLog, Format};
use uringd::files::path;
use uringd::http::parse::{self, FieldStorage, Parsed};
use uringd::http::response::{ConnectionField, Framing};
use uringd::http::{Answer, Conditions, Date, Exchange, Service, Version};
use uringd::ipc::frame::{self, Frames};
use uringd::stats::{Area, Tally};
use uringd::{Counters, Handler, LoopPhase, Reply, Request, Response};

const YARDSTICK: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const BROWSER: &str = "GET /index.html?a=1&b=2 HTTP/1.1\r\nHost: www.example.org:1337\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\nUpgrade-Insecure-Requests: 1\r\n\r\n";

struct Fixed;

impl Service for Fixed {
    fn call(&mut self, request: &Request<'_>) -> Answer {
        black_box(request.path());
        Answer::Now(Response::text("handled by child, pid is 24673\n"))
    }
}

fn exchange(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    for (name, request, depth) in
        [("small", YARDSTICK, 1), ("small x 16", YARDSTICK, 16), ("browser", BROWSER, 1)]
    {
        feed(&mut group, name, &request.repeat(depth), depth, None);
    }
    group.finish();
}

/// The same with an access log, whose batches nobody writes.
fn access_log(criterion: &mut Criterion) {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let now = || START.elapsed().as_nanos() as u64;
    let mut group = criterion.benchmark_group("access_log");
    for (name, format) in [("combined", Format::Combined), ("json", Format::Json)] {
        for (request_name, request) in [("small", YARDSTICK), ("browser", BROWSER)] {
            let log = AccessLog::new(format, 0, std::process::id(), now);
            log.set_time(SystemTime::now(), now());
            feed(&mut group, &format!("{name}, {request_name}"), request, 1, Some(&log));
            assert_eq!(log.take_dropped(), 0);
        }
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn feed(group: &mut Group<'_>, name: &str, input: &str, depth: usize, log: Option<&AccessLog>) {
    let (date, _) = Date::render(SystemTime::now(), true);
    let tally = Tally::default();
    let peer = Some(([127, 0, 0, 1], 5_000).into());
    let on = Conditions { date: &date, draining: false, peer, max_body: 1 << 20, tally: &tally, log };
    let mut exchange = Exchange::default();
    let mut out = Vec::with_capacity(1 << 16);
    group.throughput(Throughput::Elements(depth as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            out.clear();
            let progress = black_box(exchange.feed(black_box(input.as_bytes()), &mut Fixed, &on, &mut out));
            // as often as a loop has enough for a write
            if let Some(log) = log.filter(|log| log.waiting() > 32 << 10) {
                log.take_batch().into_iter().for_each(|batch| log.give_back(batch));
            }
            progress
        });
    });
}

/// What the ways to answer cost: the same request, through the guard around the handler.
fn handler(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handler");
    let text = "handled by child, pid is 24673\n";
    measure(&mut group, "now", move |_: &Request<'_>| Response::text(text));
    measure(&mut group, "later, ready", move |_: &Request<'_>| {
        Reply::later(async move { Response::text(text) })
    });
    measure(&mut group, "formatted", |request: &Request<'_>| format!("hello from {}", request.path()));
    group.finish();
}

fn measure(group: &mut Group<'_>, name: &str, handler: impl Handler) {
    let (date, _) = Date::render(SystemTime::now(), true);
    let (mut client, mut exchange) = (uringd::test::client(handler), Exchange::default());
    let mut out = Vec::with_capacity(1 << 16);
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(client.feed(&mut exchange, black_box(YARDSTICK.as_bytes()), &date, &mut out))
        });
    });
}

/// Finding a request's head.
fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    for (name, request) in [("small", YARDSTICK), ("browser", BROWSER)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut storage = FieldStorage::default();
                let parsed = parse::next(black_box(request.as_bytes()), &mut storage, None);
                assert!(matches!(black_box(&parsed), Parsed::Head(_)));
            });
        });
    }
    group.finish();
}

/// Writing an answer.
fn respond(criterion: &mut Criterion) {
    let (date, _) = Date::render(SystemTime::now(), true);
    let mut group = criterion.benchmark_group("respond");
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::with_capacity(1 << 16);
    let mut measure = |name, make: fn() -> Response| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let (connection, version) = (ConnectionField::Silent, Version::Http11);
                let framing = Framing { connection, version, head_only: false, date: &date };
                black_box(black_box(make()).write(&mut out, framing))
            });
        });
    };
    measure("text", || Response::text("handled by child, pid is 24673\n"));
    measure("text, two fields", || {
        Response::text("hello").with_header("Cache-Control", "no-store").with_header("Vary", "Accept")
    });
    group.finish();
}

/// From a request's target to a path below the root.
fn path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path");
    group.throughput(Throughput::Elements(1));
    let mut scratch = Vec::new();
    for (name, target) in [("plain", "/assets/style.css"), ("escapes and dots", "/a%20b/./c/../style%2Ecss")]
    {
        group.bench_function(name, |bencher| {
            bencher.iter(|| path::resolve(black_box(target), &mut scratch).map(|path| path.relative.len()));
        });
    }
    group.finish();
}

/// Counting and timing.
fn record(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Elements(1));
    let (area, _memory) = Area::create().expect("memory");
    let (tally, counters) = (Tally::default(), Counters::default());
    tally.begin(1);
    group.bench_function("a request", |bencher| {
        bencher.iter(|| {
            tally.requested();
            tally.answered(black_box(200), black_box(1));
        });
    });
    let mut took = 0;
    // all over the buckets that a server fills
    let mut next = || {
        took = (took * 5 + 1_237) % 1_000_000;
        black_box(took)
    };
    group.bench_function("a turn's latency", |bencher| bencher.iter(|| area.record(next(), 7)));
    group.bench_function("a turn's counters", |bencher| {
        bencher.iter(|| area.publish(black_box(&counters), 1))
    });
    const GET: u64 = u64::from_le_bytes(*b"GET\0\0\0\0\0");
    for (name, target) in
        [("a request's line", "/pid"), ("a request's line of 40 octets", &"/assets/".repeat(5))]
    {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let before =
                    area.hand_over(LoopPhase::Handling, black_box(GET), black_box(target).as_bytes());
                area.leave(black_box(before));
            });
        });
    }
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 3).expect("bounds");
    group.bench_function("a latency, by the library", |bencher| bencher.iter(|| histogram.record(next())));
    group.finish();
}

/// A message on the channel between master and worker.
fn frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Elements(1));
    let message = serde_json::json!({"act": "count", "path": "/index.html", "total": 123_456});
    let line = frame::encode(&message).expect("plain data");
    group.bench_function("encode", |bencher| bencher.iter(|| frame::encode(black_box(&message))));
    group.bench_function("decode", |bencher| {
        let mut frames = Frames::default();
        bencher.iter(|| {
            frames.push(black_box(&line));
            frames.next_frame()
        });
    });
    group.finish();
}

criterion_group!(benches, exchange, access_log, handler, parse, respond, path, record, frame);
criterion_main!(benches);
