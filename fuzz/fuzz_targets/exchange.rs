//! Any bytes a client may send, whole and cut in two: the machine must neither panic nor answer differently, and must
//! never answer after it has said its last.
//!
//! `cargo +nightly fuzz run exchange`

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::SystemTime;
use uringd::http::{Answer, Conditions, Date, Exchange, Progress, Request, Response, Service};

struct Echo;

impl Service for Echo {
    fn call(&mut self, request: &Request<'_>) -> Answer {
        match request.path() {
            "/later" => Answer::Later,
            path => Answer::Now(Response::text(path.to_owned())),
        }
    }
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    assert_eq!(play(&[bytes]), play(&[first, second]));
});

fn play(pieces: &[&[u8]]) -> Vec<u8> {
    let (date, _) = Date::render(SystemTime::UNIX_EPOCH, true);
    let on = Conditions { date: &date, draining: false, peer: None, max_body: 1 << 20 };
    let (mut exchange, mut out) = (Exchange::default(), Vec::new());
    for piece in pieces {
        let mut progress = exchange.feed(piece, &mut Echo, &on, &mut out);
        loop {
            progress = match progress {
                Progress::Receive { .. } => break,
                Progress::Wait => exchange.complete(Response::text("late"), &on, &mut out),
                Progress::Resume { .. } => exchange.resume(&mut Echo, &on, &mut out),
                Progress::Close { .. } => return out,
            };
        }
    }
    out
}
