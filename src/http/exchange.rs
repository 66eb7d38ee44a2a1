//! One connection's HTTP state: takes bytes, asks the service for answers, writes them in order. Knows no I/O.
//!
//! All requests found in one piece of input are answered into one output. Bytes are copied only when a request is
//! incomplete or cannot be answered yet (a reply comes later, or the output is full).
//!
//! Neighbours: `parse` finds requests, `response` writes answers; `worker` feeds it and performs what `Progress` says.

use super::date::Date;
use super::parse::{self, FieldStorage, Parsed, Persistence, REQUEST_LINE_OCTETS_MAX, Reject};
use super::request::{Method, Request};
use super::response::{ConnectionField, Response, Status};
use bytes::Bytes;
use std::net::SocketAddr;

/// Output of one piece of input beyond which no further request is answered before that much has been sent: what
/// a client that does not read can make us hold is this, one answer, and its unread input.
const OUTPUT_OCTETS_MAX: usize = 64 * 1024;

/// Gives answers.
pub trait Service {
    /// Answers now or promises to.
    fn call(&mut self, request: &Request<'_>) -> Answer;
}

/// What a service says to a request.
#[derive(Debug)]
pub enum Answer {
    /// The response.
    Now(Response),
    /// The response comes through [`Exchange::complete`]; until then the connection waits.
    Later,
}

/// What an answer depends on beside the request.
pub struct Conditions<'a> {
    /// The clock.
    pub date: &'a Date,
    /// The worker is leaving: answers close their connection.
    pub draining: bool,
    /// The client's address.
    pub peer: Option<SocketAddr>,
}

/// What to do after the output has been sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Receive; everything complete has been answered. `partial`: a request has begun.
    Receive {
        /// Some octets of the next request are here already.
        partial: bool,
    },
    /// Wait: a reply comes later.
    Wait,
    /// Send, with this body behind the output, and then call [`Exchange::resume`].
    Resume {
        /// A body that was too long to be copied.
        rest: Option<Bytes>,
    },
    /// Send, with this body behind the output, and then close.
    Close {
        /// A body that was too long to be copied.
        rest: Option<Bytes>,
        /// More may be on its way from the client: shut down, read to its end, then close, or a reset could eat the
        /// answer (RFC 9112 section 9.6). Not needed where the client itself announced its last request.
        linger: bool,
    },
}

/// See the module's comment.
#[derive(Debug, Default)]
pub struct Exchange {
    unread: Vec<u8>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// The next complete request is answered.
    #[default]
    Open,
    /// The service owes a reply; what comes meanwhile is kept.
    Waiting(Disposition),
    /// The last answer is written; what comes is ignored.
    Ended,
}

/// What must be remembered of a request until it is answered.
#[derive(Debug, Clone, Copy)]
struct Disposition {
    persistence: Persistence,
    head: bool,
}

impl Exchange {
    /// Continues where another exchange left off with these unread bytes; follow with [`Exchange::resume`].
    pub fn adopt(unread: Vec<u8>) -> Exchange {
        Exchange { unread, state: State::Open }
    }

    /// Takes received bytes.
    #[inline]
    pub fn feed(
        &mut self,
        input: &[u8],
        service: &mut impl Service,
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Progress {
        if matches!(self.state, State::Open) && self.unread.is_empty() {
            let (consumed, progress) = self.answer_all(input, service, on, out);
            self.keep(&input[consumed..]);
            return progress;
        }
        self.keep(input);
        if self.cannot_be_complete(input) {
            return Progress::Receive { partial: true };
        }
        self.resume(service, on, out)
    }

    /// Goes on with what was kept.
    pub fn resume(&mut self, service: &mut impl Service, on: &Conditions<'_>, out: &mut Vec<u8>) -> Progress {
        if matches!(self.state, State::Waiting(_)) {
            return Progress::Wait;
        }
        let unread = std::mem::take(&mut self.unread);
        let (consumed, progress) = self.answer_all(&unread, service, on, out);
        if consumed == 0 {
            self.unread = unread;
        } else {
            self.keep(&unread[consumed..]);
        }
        progress
    }

    /// Writes the reply that was promised. What was kept meanwhile is answered by [`Exchange::resume`], so that a
    /// connection can be released in between.
    ///
    /// # Panics
    /// If none was.
    pub fn complete(&mut self, response: &Response, on: &Conditions<'_>, out: &mut Vec<u8>) -> Progress {
        let State::Waiting(disposition) = std::mem::take(&mut self.state) else {
            panic!("a reply that nobody waits for");
        };
        let unread = std::mem::take(&mut self.unread);
        let progress = self.write(response, disposition, &unread, on, out);
        self.keep(&unread);
        progress.unwrap_or(match unread.is_empty() {
            true => Progress::Receive { partial: false },
            false => Progress::Resume { rest: None },
        })
    }

    /// The head took too long: says so (RFC 9110 section 15.5.9) and ends.
    pub fn time_out(&mut self, on: &Conditions<'_>, out: &mut Vec<u8>) -> Progress {
        self.reject(Reject { status: Status::REQUEST_TIMEOUT, head: false }, on, out)
    }

    /// Gives up the connection between two requests: what was read and not answered goes with it.
    pub fn release(&mut self) -> Vec<u8> {
        self.state = State::Ended;
        std::mem::take(&mut self.unread)
    }

    /// Keeps bytes without looking at them: the connection may not be read from, but they were on their way.
    pub fn keep(&mut self, input: &[u8]) {
        if !matches!(self.state, State::Ended) {
            self.unread.extend_from_slice(input);
        }
    }

    /// Octets that were read and not answered.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    /// A reply is owed.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// The last answer is written.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Every head ends with LF: without one, and below the limits, there is nothing new to parse. Spares a client
    /// that sends octet by octet (or an attacker) from having its head parsed again for each.
    fn cannot_be_complete(&self, latest: &[u8]) -> bool {
        matches!(self.state, State::Open)
            && self.unread.len() > latest.len()
            && self.unread.len() < REQUEST_LINE_OCTETS_MAX
            && memchr::memchr(b'\n', latest).is_none()
    }

    #[inline]
    fn answer_all(
        &mut self,
        input: &[u8],
        service: &mut impl Service,
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> (usize, Progress) {
        let mut consumed = 0;
        let start = out.len();
        loop {
            let rest = &input[consumed..];
            if rest.is_empty() {
                return (consumed, Progress::Receive { partial: false });
            }
            if out.len() - start > OUTPUT_OCTETS_MAX {
                return (consumed, Progress::Resume { rest: None });
            }
            let mut storage = FieldStorage::new();
            let (disposition, answer) = match parse::next(rest, &mut storage, on.peer) {
                Parsed::Incomplete => return (consumed, Progress::Receive { partial: true }),
                Parsed::Reject(reject) => return (input.len(), self.reject(reject, on, out)),
                Parsed::Request { request, persistence, octets } => {
                    consumed += octets;
                    (
                        Disposition { persistence, head: request.method() == Method::Head },
                        service.call(&request),
                    )
                }
            };
            match answer {
                Answer::Now(response) => {
                    if let Some(progress) = self.write(&response, disposition, &input[consumed..], on, out) {
                        return (consumed, progress);
                    }
                }
                Answer::Later => {
                    self.state = State::Waiting(disposition);
                    return (consumed, Progress::Wait);
                }
            }
        }
    }

    /// `None` when the next request can be answered right away.
    #[inline]
    fn write(
        &mut self,
        response: &Response,
        disposition: Disposition,
        following: &[u8],
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Progress> {
        let asked = disposition.persistence == Persistence::Close;
        // a drainer still answers every request that is here; the last of them says close
        let last = asked || (on.draining && !holds_a_head(following));
        let field = match disposition.persistence {
            _ if last => ConnectionField::Close,
            Persistence::PersistIfConfirmed => ConnectionField::KeepAlive,
            _ => ConnectionField::Silent,
        };
        let rest = response.write(out, field, disposition.head, on.date);
        if last {
            self.end();
            return Some(Progress::Close { rest, linger: !asked });
        }
        rest.map(|rest| Progress::Resume { rest: Some(rest) })
    }

    fn reject(&mut self, reject: Reject, on: &Conditions<'_>, out: &mut Vec<u8>) -> Progress {
        let rest = Response::status(reject.status).write(out, ConnectionField::Close, reject.head, on.date);
        self.end();
        Progress::Close { rest, linger: true }
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.unread = Vec::new();
    }
}

fn holds_a_head(input: &[u8]) -> bool {
    memchr::memmem::find(input, b"\r\n\r\n").is_some() || memchr::memmem::find(input, b"\n\n").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::SystemTime;

    /// Answers with the path; `/later` comes later, `/big/N` has N octets.
    struct Echo;

    impl Service for Echo {
        fn call(&mut self, request: &Request<'_>) -> Answer {
            match request.path() {
                "/later" => Answer::Later,
                path => Answer::Now(echo(path)),
            }
        }
    }

    fn echo(path: &str) -> Response {
        match path.strip_prefix("/big/").and_then(|n| n.parse().ok()) {
            Some(octets) => Response::text(vec![b'b'; octets]),
            None => Response::text(path.to_owned()),
        }
    }

    /// A connection played without I/O: sends at once, completes what was promised at once.
    struct Played {
        exchange: Exchange,
        date: Date,
        draining: bool,
        sent: Vec<u8>,
        closed: Option<bool>,
    }

    impl Played {
        fn new() -> Played {
            Played {
                exchange: Exchange::default(),
                date: Date::render(SystemTime::UNIX_EPOCH).0,
                draining: false,
                sent: vec![],
                closed: None,
            }
        }

        fn feed(&mut self, input: &[u8]) {
            let on = Conditions { date: &self.date, draining: self.draining, peer: None };
            let mut progress = self.exchange.feed(input, &mut Echo, &on, &mut self.sent);
            loop {
                progress = match progress {
                    Progress::Receive { .. } => return,
                    Progress::Wait => self.exchange.complete(&Response::text("late"), &on, &mut self.sent),
                    Progress::Resume { rest } => {
                        self.sent.extend_from_slice(&rest.unwrap_or_default());
                        self.exchange.resume(&mut Echo, &on, &mut self.sent)
                    }
                    Progress::Close { rest, linger } => {
                        self.sent.extend_from_slice(&rest.unwrap_or_default());
                        self.closed = Some(linger);
                        return;
                    }
                };
            }
        }

        /// Statuses and bodies, in order.
        fn answers(&self) -> Vec<(u16, String)> {
            let mut rest = &self.sent[..];
            let mut answers = vec![];
            while !rest.is_empty() {
                let end = memchr::memmem::find(rest, b"\r\n\r\n").expect("a whole head") + 4;
                let head = std::str::from_utf8(&rest[..end]).unwrap();
                let length: usize = head
                    .split("Content-Length: ")
                    .nth(1)
                    .unwrap()
                    .split("\r\n")
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                let body = String::from_utf8(rest[end..end + length].to_vec()).unwrap();
                answers.push((head[9..12].parse().unwrap(), body));
                rest = &rest[end + length..];
            }
            answers
        }
    }

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    }

    #[test]
    fn pipelined_requests_are_answered_in_order_the_late_one_included() {
        let mut played = Played::new();
        played.feed(["/1", "/later", "/3", "/later", "/later"].map(get).concat().as_bytes());
        let bodies: Vec<_> = played.answers().into_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies, ["/1", "late", "/3", "late", "late"]);
        assert_eq!((played.closed, played.exchange.unread()), (None, 0));
    }

    #[test]
    fn what_comes_while_a_reply_is_owed_is_kept() {
        let (mut exchange, date, mut out) =
            (Exchange::default(), Date::render(SystemTime::UNIX_EPOCH).0, vec![]);
        let on = Conditions { date: &date, draining: false, peer: None };
        assert_eq!(exchange.feed(get("/later").as_bytes(), &mut Echo, &on, &mut out), Progress::Wait);
        assert_eq!(exchange.feed(get("/2").as_bytes(), &mut Echo, &on, &mut out), Progress::Wait);
        assert!(out.is_empty() && exchange.is_waiting());
        let progress = exchange.complete(&Response::text("late"), &on, &mut out);
        assert_eq!(progress, Progress::Resume { rest: None });
        assert_eq!(exchange.resume(&mut Echo, &on, &mut out), Progress::Receive { partial: false });
        assert_eq!(out.windows(3).filter(|w| w == b"200").count(), 2);
    }

    #[test]
    fn output_is_bounded_before_more_is_answered() {
        let (mut exchange, date, mut out) =
            (Exchange::default(), Date::render(SystemTime::UNIX_EPOCH).0, vec![]);
        let on = Conditions { date: &date, draining: false, peer: None };
        let input = get("/big/16000").repeat(20);
        assert_eq!(
            exchange.feed(input.as_bytes(), &mut Echo, &on, &mut out),
            Progress::Resume { rest: None }
        );
        assert!(out.len() < OUTPUT_OCTETS_MAX + 17_000, "{}", out.len());
        assert!(exchange.unread() > 0);
        let progress = exchange.feed(get("/big/20000").as_bytes(), &mut Echo, &on, &mut vec![]);
        assert_eq!(progress, Progress::Resume { rest: None }, "still the first twenty");
    }

    #[test]
    fn the_connection_field_is_said_when_it_changes_something() {
        let table = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", None),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "Connection: close\r\n", Some(false)),
            ("GET / HTTP/1.0\r\n\r\n", "Connection: close\r\n", Some(false)),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "Connection: keep-alive\r\n", None),
            ("nonsense\r\n\r\n", "Connection: close\r\n", Some(true)),
        ];
        for (input, field, closed) in table {
            let mut played = Played::new();
            played.feed(input.as_bytes());
            let text = String::from_utf8(played.sent).unwrap();
            let said = text.split_inclusive("\r\n").find(|line| line.starts_with("Connection")).unwrap_or("");
            assert_eq!((said, played.closed), (field, closed), "{input:?}");
        }
    }

    #[test]
    fn after_the_last_answer_nothing_is_answered() {
        let mut played = Played::new();
        played
            .feed(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{}", get("/2")).as_bytes());
        played.exchange.keep(b"more");
        assert_eq!((played.answers().len(), played.exchange.unread()), (1, 0));
    }

    #[test]
    fn a_drainer_answers_all_that_is_here_and_says_close_once() {
        let mut played = Played::new();
        played.draining = true;
        played.feed(["/1", "/later", "/3"].map(get).concat().as_bytes());
        let text = String::from_utf8(played.sent.clone()).unwrap();
        assert_eq!(played.answers().len(), 3);
        assert_eq!(text.matches("Connection: close").count(), 1);
        assert!(text.rfind("Connection: close") > text.find("late"));
        assert_eq!(played.closed, Some(true));
    }

    #[test]
    fn a_head_answer_has_the_length_and_no_body() {
        let mut played = Played::new();
        played.feed(b"HEAD /abc HTTP/1.1\r\nHost: a\r\n\r\nHEAD /\r\n\r\n");
        let text = String::from_utf8(played.sent).unwrap();
        let heads: Vec<_> = text.split_inclusive("\r\n\r\n").collect();
        assert_eq!(heads.len(), 2, "two heads and nothing else: {text:?}");
        assert!(heads[0].contains("Content-Length: 4\r\n"));
        assert!(heads[1].starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn a_slow_head_is_told_so() {
        let mut played = Played::new();
        played.feed(b"GET / HT");
        let on = Conditions { date: &played.date, draining: false, peer: None };
        let mut out = vec![];
        assert_eq!(played.exchange.time_out(&on, &mut out), Progress::Close { rest: None, linger: true });
        assert!(out.starts_with(b"HTTP/1.1 408 "));
    }

    #[test]
    fn released_in_the_middle_of_a_pipeline_the_rest_is_answered_by_the_next() {
        let (mut first, date, mut out) =
            (Exchange::default(), Date::render(SystemTime::UNIX_EPOCH).0, vec![]);
        let on = Conditions { date: &date, draining: false, peer: None };
        let _ = first.feed(get("/later").as_bytes(), &mut Echo, &on, &mut out);
        let rest = ["/2", "/3"].map(get).concat();
        let (early, late) = rest.as_bytes().split_at(rest.len() - 7);
        first.keep(early);
        let progress = first.complete(&Response::text("late"), &on, &mut out);
        assert_eq!(progress, Progress::Resume { rest: None });
        let mut second = Played { exchange: Exchange::adopt(first.release()), ..Played::new() };
        second.feed(late);
        assert_eq!(second.answers().into_iter().map(|a| a.1).collect::<Vec<_>>(), ["/2", "/3"]);
        assert!(first.is_ended());
    }

    /// Pieces of requests, valid and broken, that are put together to streams.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            6 => "/[a-z]{0,8}".prop_map(|path| get(&path)),
            2 => Just(get("/later")),
            2 => (0usize..40_000).prop_map(|n| get(&format!("/big/{n}"))),
            1 => Just("\r\n".to_owned()),
            1 => Just("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned()),
            1 => Just("GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned()),
            1 => Just("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned()),
            1 => Just("GET / HTTP/1.1\r\n\r\n".to_owned()),
            1 => Just("GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned()),
            1 => Just(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000))),
            1 => Just(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(17_000))),
            1 => "[ -~\\r\\n]{1,40}",
            1 => prop::collection::vec(any::<u8>(), 1..40).prop_map(|octets| octets.into_iter().map(char::from).collect()),
            1 => "[ -~]".prop_map(|octet| octet.repeat(9000)),
        ]
    }

    proptest! {
        /// However the input is cut, the octets that leave are the same.
        #[test]
        fn every_split_gives_the_same_answers(pieces in prop::collection::vec(piece(), 1..8), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
            let input = pieces.concat().into_bytes();
            let mut whole = Played::new();
            whole.feed(&input);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let mut split = Played::new();
            for window in cuts.windows(2) {
                if split.closed.is_none() {
                    split.feed(&input[window[0]..window[1]]);
                }
            }
            prop_assert_eq!(&whole.sent, &split.sent);
            prop_assert_eq!(whole.closed, split.closed);
        }

        #[test]
        fn octet_by_octet_is_no_different(pieces in prop::collection::vec(piece(), 1..3)) {
            let input = pieces.concat().into_bytes();
            let (mut whole, mut split) = (Played::new(), Played::new());
            whole.feed(&input);
            for octet in input.chunks(1) {
                if split.closed.is_none() {
                    split.feed(octet);
                }
            }
            prop_assert_eq!(&whole.sent, &split.sent);
        }

        #[test]
        fn no_input_panics(input in prop::collection::vec(any::<u8>(), 0..600)) {
            Played::new().feed(&input);
        }
    }
}
