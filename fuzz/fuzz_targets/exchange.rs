//! Any bytes a client may send, whole, cut in up to four places and line by line: the machine must neither panic nor
//! answer differently, and must never answer after it has said its last.
//!
//! The first line of the input says where to cut the rest: numbers, with spaces between them.
//!
//! `cargo fuzz run exchange --sanitizer none`

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;
use uringd::http::{
    Admission, Answer, Conditions, Date, Exchange, Pieces, Progress, Request, Response, Rest, Service,
};
use uringd::stats::Tally;

const CUTS_MAX: usize = 4;

/// Small enough to be exceeded by content that is really sent.
const MAX_BODY: u64 = 1000;

/// Answers with the path, and with the content and its length; takes no content at `/unwanted`, and takes it in pieces at
/// `/pieces`.
#[derive(Default)]
struct Echo {
    /// What has been taken of a content that is not whole yet.
    taking: Option<(Pieces, Vec<u8>)>,
}

impl Service for Echo {
    fn admit(&mut self, head: &Request<'_>) -> Admission {
        match head.path() {
            "/unwanted" => Admission::Answer(Response::not_allowed("GET")),
            "/pieces" | "/pieces-unwanted" => Admission::Pieces,
            _ => Admission::Collect,
        }
    }

    fn call(&mut self, request: &Request<'_>) -> Answer {
        let content = request.body();
        assert!(content.len() as u64 <= MAX_BODY);
        match request.path() {
            "/later" => Answer::Later,
            "/pieces" => {
                assert!(self.taking.is_none(), "one at a time");
                self.taking = Some((request.pieces(), Vec::new()));
                Answer::Later
            }
            path => Answer::Now(show(path, content)),
        }
    }
}

impl Echo {
    /// The reply that was promised, if it can be given by now.
    fn reply(&mut self) -> Option<Response> {
        let Some((pieces, content)) = &mut self.taking else { return Some(Response::text("late")) };
        loop {
            match pieces.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return None,
                Poll::Ready(Some(piece)) => {
                    content.extend_from_slice(&piece.expect("it waits, so all is well"))
                }
                Poll::Ready(None) => break,
            }
        }
        self.taking.take().map(|(_, content)| show("/pieces", &content))
    }
}

fn show(path: &str, content: &[u8]) -> Response {
    Response::bytes([format!("{path} {}\n", content.len()).as_bytes(), content].concat())
}

/// What a client saw: all octets, and how the connection was closed by the server, if it was.
type Seen = (Vec<u8>, Option<bool>);

fuzz_target!(|input: &[u8]| {
    let end_of_line = input.iter().position(|&octet| octet == b'\n');
    let (cuts, stream) = end_of_line.map_or((&[][..], input), |end| (&input[..end], &input[end + 1..]));
    let seen = play(&[stream]);
    assert_eq!(seen, play(&cut(stream, cuts)));
    // a head ends at the end of a line: the place that matters most is not left to luck
    let lines: Vec<&[u8]> = stream.split_inclusive(|&octet| octet == b'\n').collect();
    assert_eq!(seen, play(&lines));
});

fn cut<'a>(stream: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let numbers =
        cuts.split(|&octet| octet == b' ').filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok());
    let mut places: Vec<usize> = numbers.take(CUTS_MAX).map(|place: usize| place.min(stream.len())).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect()
}

fn play(pieces: &[&[u8]]) -> Seen {
    let (date, _) = Date::render(SystemTime::UNIX_EPOCH, true);
    let tally = Tally::default();
    let on = Conditions { date: &date, draining: false, peer: None, max_body: MAX_BODY, tally: &tally, log: None };
    let (mut exchange, mut echo, mut out) = (Exchange::default(), Echo::default(), Vec::new());
    let mut closed = None;
    for piece in pieces {
        if closed.is_some() {
            ignores(&mut exchange, piece, &on);
            continue;
        }
        let progress = exchange.feed(piece, &mut echo, &on, &mut out);
        closed = play_on(&mut exchange, &mut echo, progress, &on, &mut out);
    }
    if closed.is_none() {
        let progress = exchange.time_out(&on, &mut out);
        closed = play_on(&mut exchange, &mut echo, progress, &on, &mut out);
        assert!(closed.is_some() && exchange.is_ended());
    }
    if let Some((mut pieces, _)) = echo.taking {
        let ends_badly = std::iter::from_fn(|| pieces.blocking_next()).any(|piece| piece.is_err());
        assert!(ends_badly, "nobody takes a part for the whole");
    }
    (out, closed)
}

/// Does what the worker does until there is something to receive (`None`) or the connection is closed.
fn play_on(
    exchange: &mut Exchange,
    echo: &mut Echo,
    mut progress: Progress,
    on: &Conditions<'_>,
    out: &mut Vec<u8>,
) -> Option<bool> {
    loop {
        progress = match progress {
            Progress::Receive { .. } => return None,
            Progress::Wait => match echo.reply() {
                None => return None,
                Some(reply) => exchange.complete(reply, on, out),
            },
            Progress::Resume { rest } => {
                out.extend_from_slice(&octets(rest));
                exchange.resume(echo, on, out)
            }
            Progress::Close { rest, linger } => {
                out.extend_from_slice(&octets(rest));
                return Some(linger);
            }
        };
    }
}

fn octets(rest: Option<Rest>) -> Vec<u8> {
    match rest {
        None => Vec::new(),
        Some(Rest::Bytes(octets)) => octets.to_vec(),
        Some(other) => panic!("nobody gave {other:?}"),
    }
}

fn ignores(exchange: &mut Exchange, piece: &[u8], on: &Conditions<'_>) {
    let mut out = Vec::new();
    let progress = exchange.feed(piece, &mut Echo::default(), on, &mut out);
    assert!(matches!(progress, Progress::Receive { .. }) && out.is_empty() && exchange.unread() == 0);
}
