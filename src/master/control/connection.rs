//! One connection of the control socket or the metrics address: the machine that workers' connections have as well
//! (`http::exchange`), driven by a thread that waits.
//!
//! Neighbours: `mod` starts the thread, `wire` is the socket, `routes` answers.

use super::guests::Manner;
use super::wire::Wire;
use crate::http::{Answer, Service};
use crate::http::{Conditions, Date, Exchange, Part, Progress, Request, Response, Rest};
use crate::stats::Tally;
use bytes::Bytes;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How long a client may take to say anything at all.
const GREETING: Duration = Duration::from_secs(2);

/// How long is waited for a client to close that has not said that it will.
const LINGER: Duration = Duration::from_secs(2);

/// Nothing that can be asked needs content.
const CONTENT_OCTETS_MAX: u64 = 4096;

/// What a request is answered with.
struct Answering<F>(F);

impl<F: FnMut(&Request<'_>) -> Response> Service for Answering<F> {
    fn call(&mut self, request: &Request<'_>) -> Answer {
        Answer::Now((self.0)(request))
    }
}

/// Serves one client until it leaves, is too slow, or `closing` is set and its last request answered. `patience` is for a
/// whole request, from the end of the answer before it; and for an answer, or one piece of one that goes on. Who says
/// nothing at all gets less. `note` is told what the client is about and since when: that it is asking before anything is
/// taken out of the socket, that it is busy when that is to be answered, and that it is idle when all has been.
///
/// # Errors
/// What the socket said; nobody need hear of it.
pub fn serve(
    mut wire: Wire,
    mut answer: impl FnMut(&Request<'_>) -> Response,
    note: impl Fn(Manner, Instant),
    closing: &AtomicBool,
    patience: Duration,
) -> io::Result<()> {
    let mut service = Answering(|request: &Request<'_>| {
        note(Manner::Busy, Instant::now());
        answer(request)
    });
    let (mut exchange, mut input, mut out) = (Exchange::default(), vec![0; 16 * 1024], Vec::new());
    let tally = Tally::default();
    let mut part = Part::Nothing;
    wire.allow(patience.min(GREETING));
    let (mut silent, mut idle_since) = (true, Instant::now());
    loop {
        let received = match wire.has_more() {
            Ok(true) => {
                note(Manner::Asking, Instant::now());
                wire.read(&mut input)
            }
            other => other.map(usize::from),
        };
        if std::mem::take(&mut silent) {
            wire.allow(patience);
        }
        let date = Date::render(SystemTime::now(), true).0;
        let draining = closing.load(Ordering::Relaxed);
        let on = Conditions {
            date: &date,
            draining,
            peer: None,
            max_body: CONTENT_OCTETS_MAX,
            tally: &tally,
            log: None,
        };
        let mut progress = match received {
            Ok(0) => return Ok(()),
            Ok(octets) => exchange.feed(&input[..octets], &mut service, &on, &mut out),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && part != Part::Nothing => {
                exchange.time_out(&on, &mut out)
            }
            Err(error) => return Err(error),
        };
        let answers = !out.is_empty();
        if answers {
            // a request that is refused has not come to the handler
            note(Manner::Busy, Instant::now());
            wire.allow(patience);
        }
        part = loop {
            wire.write_all(&out)?;
            out.clear();
            progress = match progress {
                Progress::Receive { part } => break part,
                Progress::Resume { rest } => {
                    send(&mut wire, rest, patience)?;
                    exchange.resume(&mut service, &on, &mut out)
                }
                Progress::Close { rest, linger } => {
                    send(&mut wire, rest, patience)?;
                    if linger {
                        wire.linger(LINGER);
                    }
                    return Ok(());
                }
                Progress::Wait => unreachable!("every answer is given at once"),
            };
        };
        // a request that comes octet by octet gets no more time with each
        if part == Part::Nothing {
            wire.allow(patience);
        }
        if answers {
            idle_since = Instant::now();
        }
        note(Manner::Idle, idle_since);
    }
}

fn send(wire: &mut Wire, rest: Option<Rest>, patience: Duration) -> io::Result<()> {
    match rest {
        None => Ok(()),
        Some(Rest::Bytes(octets)) => wire.write_all(&octets),
        Some(Rest::Stream { pieces, chunked }) => stream(wire, pieces, chunked, patience),
        Some(Rest::File(_) | Rest::Pipe { .. }) => unreachable!("nothing here answers so"),
    }
}

/// Each piece leaves when it is made. An empty one says only that there is none yet: time to see whether anybody is there.
fn stream(
    wire: &mut Wire,
    pieces: impl Iterator<Item = io::Result<Bytes>>,
    chunked: bool,
    patience: Duration,
) -> io::Result<()> {
    for piece in pieces {
        let piece = piece?;
        if piece.is_empty() {
            if wire.is_hung_up() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            continue;
        }
        wire.allow(patience);
        match chunked {
            true => {
                wire.write_all(&[format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat())?
            }
            false => wire.write_all(&piece)?,
        }
    }
    if chunked {
        wire.allow(patience);
        wire.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::thread::{self, JoinHandle};

    /// More than anybody needs here, however long it waits for a core.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A client that has said this when its time begins.
    fn client_that_says(said: &[u8], patience: Duration) -> (UnixStream, JoinHandle<io::Result<()>>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(said).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let answer = |request: &Request<'_>| match request.path() {
            "/long" => Response::text("x".repeat(100_000)),
            "/stream" => Response::stream(["a", "", "bc"].map(|piece| Ok(Bytes::from(piece)))),
            "/endless" => Response::stream(std::iter::repeat_with(|| {
                thread::sleep(Duration::from_millis(1));
                Ok(Bytes::new())
            })),
            path => Response::text(path.to_owned()),
        };
        let wire = Wire::new(Arc::new(ours.into()));
        let serving =
            thread::spawn(move || serve(wire, answer, |_, _| (), &AtomicBool::new(false), patience));
        (theirs, serving)
    }

    fn get(path: &str, close: bool) -> String {
        let close = if close { "Connection: close\r\n" } else { "" };
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{close}\r\n")
    }

    fn contents(text: &str) -> Vec<&str> {
        text.split("\r\n\r\n").skip(1).map(|rest| rest.split("HTTP/1.1").next().unwrap()).collect()
    }

    #[test]
    fn requests_are_answered_in_order_however_they_are_cut() {
        let all = [get("/a", false), get("/stream", false), get("/long", false), get("/b", true)].concat();
        for cut in [1, 30, all.len() / 2, all.len()] {
            let (first, rest) = all.as_bytes().split_at(cut);
            let (mut client, serving) = client_that_says(first, PATIENCE);
            for piece in rest.chunks(cut) {
                client.write_all(piece).unwrap();
            }
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            let contents = contents(&text);
            assert_eq!((contents[0], contents[1]), ("/a", "1\r\na\r\n2\r\nbc\r\n0"), "cut at {cut}");
            assert_eq!((contents[3].len(), *contents.last().unwrap()), (100_000, "/b"));
            serving.join().unwrap().unwrap();
        }
    }

    #[test]
    fn a_request_that_comes_too_slowly_is_refused_and_an_idle_client_let_go() {
        let (mut slow, serving) = client_that_says(b"G", Duration::from_secs(1));
        let sending = slow.try_clone().unwrap();
        thread::spawn(move || {
            let octets = format!("ET /slow HTTP/1.1\r\nHost: {}", "x".repeat(1000));
            octets.bytes().all(|octet| {
                thread::sleep(Duration::from_millis(20));
                (&sending).write_all(&[octet]).is_ok()
            })
        });
        let mut text = String::new();
        slow.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        drop(slow);
        serving.join().unwrap().unwrap();
        let (mut idle, serving) = client_that_says(b"", Duration::from_secs(1));
        assert_eq!(idle.read(&mut [0]).unwrap(), 0);
        assert_eq!(serving.join().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_client_is_asking_until_it_is_known_what_and_half_a_request_leaves_it_idle() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (say, noted) = std::sync::mpsc::channel();
        let note = move |manner, since| say.send((manner, since)).unwrap();
        let answer = |_: &Request<'_>| Response::text("a");
        let wire = Wire::new(Arc::new(ours.into()));
        let serving = thread::spawn(move || serve(wire, answer, note, &AtomicBool::new(false), PATIENCE));
        let mut say = |octets: &str| {
            theirs.write_all(octets.as_bytes()).unwrap();
            let (mut manners, mut last) = (vec![], None);
            while last != Some(Manner::Idle) {
                let (manner, since) = noted.recv().unwrap();
                last = Some(manner);
                manners.push((manner, since));
            }
            let idle_since = manners.last().unwrap().1;
            manners.dedup_by_key(|(manner, _)| *manner);
            (manners.into_iter().map(|(manner, _)| manner).collect::<Vec<_>>(), idle_since)
        };
        let request = get("/", false);
        let (half, rest) = request.split_at(20);
        let [came, answered, asked_half] = [half, rest, half].map(&mut say);
        assert_eq!(came.0, [Manner::Asking, Manner::Idle]);
        assert_eq!(answered.0, [Manner::Asking, Manner::Busy, Manner::Idle]);
        assert_eq!(asked_half.0, came.0);
        assert!(came.1 < answered.1 && answered.1 == asked_half.1, "from the end of the last answer on");
        drop(theirs);
        let _ = serving.join().unwrap();
    }

    #[test]
    fn who_says_nothing_at_all_is_let_go_soon() {
        let (mut silent, serving) = client_that_says(b"", Duration::from_secs(1000));
        assert_eq!(silent.read(&mut [0]).unwrap(), 0);
        assert_eq!(serving.join().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn who_is_gone_is_noticed_even_where_there_is_nothing_to_say() {
        let (mut client, serving) = client_that_says(get("/endless", false).as_bytes(), PATIENCE);
        client.read_exact(&mut [0; 20]).unwrap();
        drop(client);
        assert_eq!(serving.join().unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let (mut client, serving) = client_that_says(b"what?\r\n\r\n", PATIENCE);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
        drop(client);
        serving.join().unwrap().unwrap();
    }
}
