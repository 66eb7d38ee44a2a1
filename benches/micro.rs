//! What a request costs in user space, without a kernel: parse, call the handler, write the answer.
//!
//! `cargo bench --bench micro`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::SystemTime;
use uringd::http::{Answer, Conditions, Date, Exchange, Service};
use uringd::stats::Tally;
use uringd::{Handler, Reply, Request, Response};

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
    let (date, _) = Date::render(SystemTime::now(), true);
    let tally = Tally::default();
    let on = Conditions { date: &date, draining: false, peer: None, max_body: 1 << 20, tally: &tally };
    let mut group = criterion.benchmark_group("exchange");
    for (name, request, depth) in
        [("small", YARDSTICK, 1), ("small x 16", YARDSTICK, 16), ("browser", BROWSER, 1)]
    {
        let input = request.repeat(depth);
        let mut exchange = Exchange::default();
        let mut out = Vec::with_capacity(1 << 16);
        group.throughput(Throughput::Elements(depth as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(exchange.feed(black_box(input.as_bytes()), &mut Fixed, &on, &mut out))
            });
        });
    }
    group.finish();
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

fn measure(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    name: &str,
    handler: impl Handler,
) {
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

criterion_group!(benches, exchange, handler);
criterion_main!(benches);
