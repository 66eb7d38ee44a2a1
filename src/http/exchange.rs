//! One connection's HTTP state: takes bytes, asks the service for answers, writes them in order. Knows no I/O.
//!
//! All requests found in one piece of input are answered into one output. Bytes are copied only when a request is
//! incomplete or cannot be answered yet (a reply comes later, or the output is full), and where they are content.
//!
//! Neighbours: `parse` finds heads, `content` collects what follows them, `response` writes answers; `worker` feeds it
//! and performs what `Progress` says.

use super::content::{Content, Sink, Taken};
use super::date::Date;
use super::parse::{self, FieldStorage, Framing, Head, Parsed, Persistence, REQUEST_LINE_OCTETS_MAX, Reject};
use super::pipe;
use super::request::{Method, Request, Version};
use super::response::{self, ConnectionField, Response, Rest, Status};
use crate::access_log::{AccessLog, Asked, Entry, Record};
use crate::stats::{Nanos, Tally};
use bytes::Bytes;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;

/// Output of one piece of input beyond which no further request is answered before that much has been sent: what
/// a client that does not read can make us hold is this, one answer, and its unread input.
const OUTPUT_OCTETS_MAX: usize = 64 * 1024;

/// Content that nobody wants is read up to here for the sake of the connection; closing is cheaper beyond.
pub const DISCARDED_OCTETS_MAX: u64 = 64 * 1024;

/// Gives answers.
pub trait Service {
    /// Looks at the head of a request that has content, before any of that is read.
    fn admit(&mut self, head: &Request<'_>) -> Admission {
        let _ = head;
        Admission::Collect
    }

    /// Answers now or promises to.
    fn call(&mut self, request: &Request<'_>) -> Answer;
}

/// What is done with the content of a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Admission {
    /// It is collected up to `--max-body`, and the request is handled when it is whole.
    Collect,
    /// The request is handled at once, and takes its content as it comes ([`Request::pieces`]), however long it is; the
    /// client is read from as fast as the pieces are taken. An answer that is given before the content has ended ends
    /// it: up to 64 KiB of the rest are read for the sake of the connection, more closes it.
    Pieces,
    /// It is not wanted: this is the answer. Up to 64 KiB of it are read and thrown away, so that the connection can go
    /// on; what announces more, or asked first (`Expect: 100-continue`), is answered and closed.
    Answer(Response),
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
    /// The longest content that is collected.
    pub max_body: u64,
    /// What counts requests and answers, and knows when the turn has begun: what is fed comes then.
    pub tally: &'a Tally,
    /// Where every request is written, if anywhere.
    pub log: Option<&'a AccessLog>,
}

/// What to do after the output has been sent.
#[derive(Debug)]
#[must_use]
pub enum Progress {
    /// Receive; everything complete has been answered.
    Receive {
        /// What has begun to arrive.
        part: Part,
    },
    /// Wait: a reply comes later.
    Wait,
    /// Send, with this behind the output, and then call [`Exchange::resume`].
    Resume {
        /// Content that was not copied.
        rest: Option<Rest>,
    },
    /// Send, with this behind the output, and then close.
    Close {
        /// Content that was not copied.
        rest: Option<Rest>,
        /// More may be on its way from the client: shut down, read to its end, then close, or a reset could eat the
        /// answer (RFC 9112 section 9.6). Not needed where the client itself announced its last request.
        linger: bool,
    },
}

/// How far the next request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// None of it is here.
    Nothing,
    /// Some octets of its head are here.
    Head,
    /// Its head is here and some of its content is not.
    Content,
}

/// Whether content is on its way to a handler that has not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// None is.
    None,
    /// It is wanted.
    Wanted,
    /// The handler has not taken what is here, or wants no more of it.
    Full,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub struct Exchange {
    unread: Vec<u8>,
    /// When that came; what is on nobody's list came in this turn.
    arrivals: Arrivals,
    state: State,
}

/// When stretches of unread input came, in order. Rarely is there more than one.
#[derive(Debug, Default)]
enum Arrivals {
    #[default]
    None,
    One(Arrival),
    Many(Vec<Arrival>),
}

/// Up to the octet of this number, counted from the first unread one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arrival {
    end: usize,
    at: Nanos,
}

/// Stretches that are told apart; of a client that sends octets one by one while it waits, the rest counts as come with the
/// last of them.
const ARRIVALS_MAX: usize = 64;

#[derive(Debug, Default)]
enum State {
    /// The next complete request is answered.
    #[default]
    Open,
    /// A request's content is on its way.
    Content(Box<Incoming>),
    /// The service owes a reply; what comes meanwhile is kept.
    Waiting(Owing),
    /// The last answer is written; what comes is ignored.
    Ended,
}

/// A request whose head is here and whose content is not.
#[derive(Debug)]
struct Incoming {
    /// As received; empty if the request has been handled already.
    head: Vec<u8>,
    content: Content,
    disposition: Disposition,
    /// For the log, where the head is not here.
    record: Option<Box<Record>>,
    /// Octets of it since [`Exchange::take_content_count`] was last called.
    count: u64,
}

/// A request that the service has and has not answered.
#[derive(Debug)]
struct Owing {
    disposition: Disposition,
    record: Option<Box<Record>>,
}

/// Where the log finds what was asked for.
#[derive(Debug)]
enum Question<'a> {
    /// Its input is here still.
    Here(&'a Request<'a>),
    /// It was kept, if there is a log.
    Kept(Option<Box<Record>>),
    /// Nobody could read it.
    Input(&'a [u8]),
}

/// What must be remembered of a request until it is answered.
#[derive(Debug, Clone, Copy)]
struct Disposition {
    persistence: Persistence,
    version: Version,
    head: bool,
    /// Its content is on its way and will not be read to its end.
    refuses_content: bool,
    /// When its last octet came.
    arrived: Nanos,
}

/// What became of a stretch of input.
enum Step {
    /// So many octets are done with.
    Onward(usize),
    /// The same, and nothing can be done with the rest for now.
    Halt(usize, Progress),
}

impl Exchange {
    /// Continues where another exchange left off with these unread bytes; follow with [`Exchange::resume`].
    pub fn adopt(unread: Vec<u8>) -> Exchange {
        Exchange { unread, ..Exchange::default() }
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
        if matches!(self.state, State::Open | State::Content(_)) && self.unread.is_empty() {
            let (consumed, progress) = self.answer_all(input, service, on, out);
            self.keep(&input[consumed..], on.tally.now());
            return progress;
        }
        self.keep(input, on.tally.now());
        if self.cannot_be_complete(input) {
            return Progress::Receive { part: Part::Head };
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
            self.keep_on(&unread[consumed..]);
        }
        progress
    }

    /// Writes the reply that was promised. What was kept meanwhile is answered by [`Exchange::resume`], so that a
    /// connection can be released in between.
    ///
    /// # Panics
    /// If none was.
    pub fn complete(&mut self, response: Response, on: &Conditions<'_>, out: &mut Vec<u8>) -> Progress {
        let Owing { disposition, record } = match std::mem::take(&mut self.state) {
            State::Waiting(owing) => owing,
            State::Content(incoming) if incoming.is_passed_on() => self.discard_rest(incoming),
            _ => panic!("a reply that nobody waits for"),
        };
        let unread = std::mem::take(&mut self.unread);
        let progress = self.write(response, Question::Kept(record), disposition, &unread, on, out);
        self.keep_on(&unread);
        progress.unwrap_or(match unread.is_empty() {
            true if self.is_amid_content() => Progress::Receive { part: Part::Content },
            true => Progress::Receive { part: Part::Nothing },
            false => Progress::Resume { rest: None },
        })
    }

    /// The request is answered before its content has ended.
    fn discard_rest(&mut self, mut incoming: Box<Incoming>) -> Owing {
        incoming.disposition.refuses_content |= !incoming.content.discard(DISCARDED_OCTETS_MAX);
        let (disposition, record) = (incoming.disposition, incoming.record.take());
        self.state = State::Content(incoming);
        Owing { disposition, record }
    }

    /// The request took too long: says so (RFC 9110 section 15.5.9), unless it has been answered already, and ends.
    pub fn time_out(&mut self, on: &Conditions<'_>, out: &mut Vec<u8>) -> Progress {
        match &self.state {
            State::Content(incoming) if incoming.is_answered() => self.close_unheard(),
            State::Content(_) => {
                self.reject_content(Status::REQUEST_TIMEOUT, io::ErrorKind::TimedOut, on, out)
            }
            _ => {
                let (unread, arrived) = (std::mem::take(&mut self.unread), self.arrival(self.unread(), on));
                let reject = Reject { status: Status::REQUEST_TIMEOUT, head: false };
                self.reject(reject, Question::Input(&unread), arrived, on, out)
            }
        }
    }

    /// The client is gone, or has to go: what it has asked for and nobody has answered will not be. Only the log wants to
    /// know; follow with [`Exchange::release`].
    pub fn abandon(&mut self, peer: Option<SocketAddr>, log: &AccessLog) {
        match std::mem::take(&mut self.state) {
            State::Waiting(Owing { record, .. }) => {
                record.into_iter().for_each(|record| log.finish(record, 0))
            }
            State::Content(mut incoming) if !incoming.is_answered() => match incoming.record.take() {
                Some(record) => log.finish(record, 0),
                None => {
                    let arrived = incoming.disposition.arrived;
                    incoming.look_again(peer, |asked| {
                        log.write(&Entry { peer, asked, status: 0, octets: 0, arrived })
                    });
                }
            },
            State::Content(_) | State::Open | State::Ended => {}
        }
    }

    /// Gives up the connection between two requests: what was read and not answered goes with it.
    pub fn release(&mut self) -> Vec<u8> {
        self.state = State::Ended;
        self.arrivals = Arrivals::None;
        std::mem::take(&mut self.unread)
    }

    /// Keeps bytes without looking at them: the connection may not be read from, but they were on their way.
    pub fn keep(&mut self, input: &[u8], now: Nanos) {
        if !input.is_empty() && !matches!(self.state, State::Ended) {
            self.unread.extend_from_slice(input);
            self.arrivals.push(self.unread.len(), now);
        }
    }

    /// The same for bytes that were kept before.
    fn keep_on(&mut self, unread: &[u8]) {
        if !matches!(self.state, State::Ended) {
            self.unread.extend_from_slice(unread);
        }
    }

    /// When the octet came that ends so many of the unread ones.
    #[inline]
    fn arrival(&self, octets: usize, on: &Conditions<'_>) -> Nanos {
        self.arrivals.of(octets).unwrap_or(on.tally.now())
    }

    /// Octets that were read and not answered, content that is being collected aside.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    /// A reply is owed.
    pub fn is_waiting(&self) -> bool {
        match &self.state {
            State::Waiting(_) => true,
            State::Content(incoming) => incoming.is_passed_on(),
            State::Open | State::Ended => false,
        }
    }

    /// Whether content is on its way to a handler. Where it is not wanted now, `waker` is woken when it is again.
    pub fn flow(&self, waker: Option<&dyn Fn() -> Waker>) -> Flow {
        match &self.state {
            State::Content(incoming) => match incoming.content.sink() {
                Sink::Pass(sender) if sender.has_room(waker) => Flow::Wanted,
                Sink::Pass(_) => Flow::Full,
                Sink::Collect(_) | Sink::Discard => Flow::None,
            },
            State::Open | State::Waiting(_) | State::Ended => Flow::None,
        }
    }

    /// A request's content is on its way: this connection cannot be given to anybody now.
    pub fn is_amid_content(&self) -> bool {
        matches!(self.state, State::Content(_))
    }

    /// A request's content is on its way, and much of it is still to come.
    #[inline]
    pub fn is_amid_long_content(&self) -> bool {
        matches!(&self.state, State::Content(incoming) if incoming.content.is_long())
    }

    /// The last answer is written.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Octets of content (with its framing) that came since this was last asked; `None` when none is awaited.
    pub fn take_content_count(&mut self) -> Option<u64> {
        match &mut self.state {
            State::Content(incoming) => Some(std::mem::take(&mut incoming.count)),
            _ => None,
        }
    }

    /// Every head ends with LF: without one, and below the limits, there is nothing new to parse. Spares a client
    /// that sends octet by octet (or an attacker) from having its head parsed again for each.
    fn cannot_be_complete(&self, latest: &[u8]) -> bool {
        matches!(self.state, State::Open)
            // a bare CR at the start is refused without waiting for its line to end
            && (self.unread.first() != Some(&b'\r') || self.unread.get(1) == Some(&b'\n'))
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
            let step = match self.state {
                State::Content(_) => self.take_content(rest, service, on, out),
                _ if rest.is_empty() => return (consumed, Progress::Receive { part: Part::Nothing }),
                _ if out.len() - start > OUTPUT_OCTETS_MAX => {
                    return (consumed, Progress::Resume { rest: None });
                }
                _ => self.take_head(rest, service, on, out),
            };
            match step {
                Step::Onward(octets) => {
                    self.arrivals.consume(octets);
                    consumed += octets;
                }
                Step::Halt(octets, progress) => {
                    self.arrivals.consume(octets);
                    return (consumed + octets, progress);
                }
            }
        }
    }

    #[inline]
    fn take_head(
        &mut self,
        input: &[u8],
        service: &mut impl Service,
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let mut storage = FieldStorage::default();
        match parse::next(input, &mut storage, on.peer) {
            Parsed::Head(head) => self.take_parsed(&head, input, input, service, on, out),
            Parsed::Incomplete => Step::Halt(0, Progress::Receive { part: Part::Head }),
            Parsed::LaterMinorVersion(place) => {
                self.take_head_of_later_version(place, input, service, on, out)
            }
            Parsed::Reject(reject) => Step::Halt(input.len(), self.reject_input(reject, input, on, out)),
        }
    }

    /// A head has come; it stands at the start of `source`, what follows it in `input` at the same place.
    #[inline]
    fn take_parsed(
        &mut self,
        head: &Head<'_>,
        source: &[u8],
        input: &[u8],
        service: &mut impl Service,
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        on.tally.requested();
        let following = &input[head.octets..];
        if head.framing != Framing::None {
            return self.begin_content(head, &source[..head.octets], following, service, on, out);
        }
        let answer = service.call(&head.request);
        self.answered(answer, &head.request, Disposition::of(head), head.octets, following, on, out)
    }

    #[cold]
    #[inline(never)]
    fn take_head_of_later_version(
        &mut self,
        minor: usize,
        input: &[u8],
        service: &mut impl Service,
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let mut rewritten = parse::head_of(input).to_vec();
        rewritten[minor] = b'1';
        let mut storage = FieldStorage::default();
        match parse::next(&rewritten, &mut storage, on.peer) {
            Parsed::Head(head) => self.take_parsed(&head, &rewritten, input, service, on, out),
            Parsed::Incomplete => Step::Halt(0, Progress::Receive { part: Part::Head }),
            Parsed::Reject(reject) => Step::Halt(input.len(), self.reject_input(reject, input, on, out)),
            Parsed::LaterMinorVersion(_) => unreachable!("it says HTTP/1.1 now"),
        }
    }

    /// A head that announces content has come.
    #[inline(never)]
    fn begin_content(
        &mut self,
        head: &Head<'_>,
        source: &[u8],
        following: &[u8],
        service: &mut impl Service,
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let disposition = Disposition::of(head);
        let octets = head.octets;
        match service.admit(&head.request) {
            Admission::Answer(response) => return self.answer_unread(response, head, following, on, out),
            Admission::Pieces => return self.pass_on(head, following, service, on, out),
            Admission::Collect => {}
        }
        if matches!(head.framing, Framing::Length(length) if length > on.max_body) {
            let reject = Reject { status: Status::CONTENT_TOO_LARGE, head: disposition.head };
            let (question, arrived) = (Question::Here(&head.request), self.arrival(octets, on));
            return Step::Halt(octets + following.len(), self.reject(reject, question, arrived, on, out));
        }
        if head.expects_continue {
            // also where some content is here already, which makes it superfluous (RFC 9110 section 10.1.1): so that
            // the answers do not depend on how the input was cut
            out.extend_from_slice(response::CONTINUE);
        }
        match head.framing {
            // here already, as most short content is: neither it nor its head is kept
            Framing::Length(length) if length <= following.len() as u64 => {
                let (content, following) = following.split_at(length as usize);
                let body = Bytes::copy_from_slice(content);
                let answer = service.call(&Request { body: &body, ..head.request });
                let octets = octets + content.len();
                self.answered(answer, &head.request, disposition, octets, following, on, out)
            }
            framing => {
                self.state = State::Content(Box::new(Incoming {
                    head: source.to_vec(),
                    content: Content::new(framing, Sink::collect(framing), on.max_body),
                    disposition: Disposition { arrived: self.arrival(octets, on), ..disposition },
                    record: None,
                    count: 0,
                }));
                Step::Onward(octets)
            }
        }
    }

    /// The request is handled now and gets its content as it comes.
    fn pass_on(
        &mut self,
        head: &Head<'_>,
        following: &[u8],
        service: &mut impl Service,
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let (sender, pieces) = pipe::pipe();
        let pieces = Cell::new(Some(pieces));
        match service.call(&Request { pieces: Some(&pieces), ..head.request }) {
            Answer::Now(response) => self.answer_unread(response, head, following, on, out),
            Answer::Later => {
                if head.expects_continue {
                    out.extend_from_slice(response::CONTINUE);
                }
                let arrived = self.arrival(head.octets, on);
                self.state = State::Content(Box::new(Incoming {
                    head: Vec::new(),
                    content: Content::new(head.framing, Sink::Pass(sender), u64::MAX),
                    disposition: Disposition { arrived, ..Disposition::of(head) },
                    record: keep(&head.request, arrived, on),
                    count: 0,
                }));
                Step::Onward(head.octets)
            }
        }
    }

    /// The service has answered from the head alone.
    fn answer_unread(
        &mut self,
        response: Response,
        head: &Head<'_>,
        following: &[u8],
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let too_much = matches!(head.framing, Framing::Length(length) if length > DISCARDED_OCTETS_MAX);
        // who asked first may now send the content or not: no telling where the next request begins
        let refuses_content = head.expects_continue || too_much;
        let arrived = self.arrival(head.octets, on);
        let disposition = Disposition { refuses_content, arrived, ..Disposition::of(head) };
        self.state = State::Content(Box::new(Incoming {
            head: Vec::new(),
            content: Content::new(head.framing, Sink::Discard, DISCARDED_OCTETS_MAX),
            disposition,
            record: None,
            count: 0,
        }));
        match self.write(response, Question::Here(&head.request), disposition, following, on, out) {
            None => Step::Onward(head.octets),
            Some(progress) => Step::Halt(head.octets, progress),
        }
    }

    /// Takes what has come of a request's content, and answers the request if that is all of it.
    fn take_content(
        &mut self,
        input: &[u8],
        service: &mut impl Service,
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let State::Content(incoming) = &mut self.state else { unreachable!("the caller looked") };
        let octets = match incoming.content.take(input) {
            Ok(Taken { octets, whole: true }) => octets,
            Ok(Taken { octets, whole: false }) => {
                incoming.count += octets as u64;
                // whoever answers before the content has ended, answers what has come of it
                incoming.disposition.arrived = on.tally.now();
                let progress = match incoming.is_passed_on() {
                    true => Progress::Wait,
                    false => Progress::Receive { part: Part::Content },
                };
                return Step::Halt(octets, progress);
            }
            Err(_) if incoming.is_answered() => return Step::Halt(input.len(), self.close_unheard()),
            Err(status) => {
                let progress = self.reject_content(status, io::ErrorKind::InvalidData, on, out);
                return Step::Halt(input.len(), progress);
            }
        };
        let State::Content(incoming) = std::mem::take(&mut self.state) else { unreachable!("as above") };
        if incoming.is_answered() {
            return Step::Onward(octets);
        }
        let passed_on = incoming.is_passed_on();
        let Incoming { head, content, disposition, record, .. } = *incoming;
        let (body, mut storage) = (content.finish(), FieldStorage::default());
        if passed_on {
            let disposition = Disposition { arrived: self.arrival(octets, on), ..disposition };
            self.state = State::Waiting(Owing { disposition, record });
            return Step::Halt(octets, Progress::Wait);
        }
        let request = parse::again(&head, &mut storage, on.peer);
        let request = request.expect("it was a whole head before its content came");
        let answer = service.call(&Request { body: &body, ..request });
        self.answered(answer, &request, disposition, octets, &input[octets..], on, out)
    }

    #[inline]
    #[expect(clippy::too_many_arguments, reason = "one call, taken apart for its readers")]
    fn answered(
        &mut self,
        answer: Answer,
        request: &Request<'_>,
        disposition: Disposition,
        octets: usize,
        following: &[u8],
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let disposition = Disposition { arrived: self.arrival(octets, on), ..disposition };
        let progress = match answer {
            Answer::Now(response) => {
                self.write(response, Question::Here(request), disposition, following, on, out)
            }
            Answer::Later => {
                let record = keep(request, disposition.arrived, on);
                self.state = State::Waiting(Owing { disposition, record });
                Some(Progress::Wait)
            }
        };
        match progress {
            None => Step::Onward(octets),
            Some(progress) => Step::Halt(octets, progress),
        }
    }

    /// `None` when the next request can be answered right away.
    #[inline]
    fn write(
        &mut self,
        response: Response,
        question: Question<'_>,
        disposition: Disposition,
        following: &[u8],
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Progress> {
        let asked = disposition.persistence == Persistence::Close;
        // a drainer still answers every request that is here; the last of them says close
        let last = asked
            || disposition.refuses_content
            || response.ends_with_close(disposition.version)
            || (on.draining && !holds_a_head(following));
        let connection = match disposition.persistence {
            _ if last => ConnectionField::Close,
            Persistence::PersistIfConfirmed => ConnectionField::KeepAlive,
            _ => ConnectionField::Silent,
        };
        let Disposition { version, head: head_only, arrived, .. } = disposition;
        let status = response.code();
        on.tally.answered(status, arrived);
        let framing = response::Framing { connection, version, head_only, date: on.date };
        let rest = match on.log {
            None => response.write(out, framing),
            Some(log) => {
                let content = ContentOctets { copied: response.copied(head_only), known: response.length() };
                let rest = response.write(out, framing);
                note(log, question, Told { status, arrived, peer: on.peer }, content, rest.as_ref());
                rest
            }
        };
        if last {
            let linger = !asked || self.is_amid_content();
            self.end();
            return Some(Progress::Close { rest, linger });
        }
        rest.map(|rest| Progress::Resume { rest: Some(rest) })
    }

    /// What has come is no request.
    #[cold]
    fn reject_input(
        &mut self,
        reject: Reject,
        input: &[u8],
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Progress {
        self.reject(reject, Question::Input(input), on.tally.now(), on, out)
    }

    /// The content of a request that nobody has answered will not be whole; who waits for it hears why.
    #[cold]
    fn reject_content(
        &mut self,
        status: Status,
        why: io::ErrorKind,
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Progress {
        let State::Content(mut incoming) = std::mem::take(&mut self.state) else {
            unreachable!("the caller looked")
        };
        incoming.content.fail(why);
        let Disposition { head, arrived, .. } = incoming.disposition;
        let (reject, mut storage) = (Reject { status, head }, FieldStorage::default());
        let record = incoming.record.take();
        match parse::again(&incoming.head, &mut storage, on.peer) {
            Some(request) => self.reject(reject, Question::Here(&request), arrived, on, out),
            None => self.reject(reject, Question::Kept(record), arrived, on, out),
        }
    }

    fn reject(
        &mut self,
        reject: Reject,
        question: Question<'_>,
        arrived: Nanos,
        on: &Conditions<'_>,
        out: &mut Vec<u8>,
    ) -> Progress {
        let framing = response::Framing {
            connection: ConnectionField::Close,
            version: Version::Http11,
            head_only: reject.head,
            date: on.date,
        };
        let (status, response) = (reject.status.code(), Response::status(reject.status));
        on.tally.refused(status);
        if let Some(log) = on.log {
            // it is short enough to stand behind its head
            let content = ContentOctets { copied: response.copied(reject.head), known: None };
            note(log, question, Told { status, arrived, peer: on.peer }, content, None);
        }
        let rest = response.write(out, framing);
        self.end();
        Progress::Close { rest, linger: true }
    }

    /// What is wrong concerns a request that has been answered: there is nothing more to say.
    fn close_unheard(&mut self) -> Progress {
        self.end();
        Progress::Close { rest: None, linger: true }
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.unread = Vec::new();
        self.arrivals = Arrivals::None;
    }
}

/// What is known of an answer beside its request.
#[derive(Debug, Clone, Copy)]
struct Told {
    status: u16,
    arrived: Nanos,
    peer: Option<SocketAddr>,
}

/// Octets of an answer's content.
#[derive(Debug, Clone, Copy)]
struct ContentOctets {
    /// So many stand behind the head.
    copied: u64,
    /// So many there are, if that is known before.
    known: Option<u64>,
}

/// For the log, where the answer comes later.
#[inline]
fn keep(request: &Request<'_>, arrived: Nanos, on: &Conditions<'_>) -> Option<Box<Record>> {
    let peer = on.peer;
    on.log.map(|log| log.keep(&Entry { peer, asked: request.asked(), status: 0, octets: 0, arrived }))
}

/// Tells the log of an answer: that it is complete, or that the rest of its content is about to be sent.
#[inline(never)]
fn note(log: &AccessLog, question: Question<'_>, told: Told, content: ContentOctets, rest: Option<&Rest>) {
    let Told { status, arrived, peer } = told;
    let asked = match &question {
        Question::Here(request) => request.asked(),
        Question::Input(input) => Asked::of_input(input),
        Question::Kept(_) => Asked::default(),
    };
    let entry = Entry { peer, asked, status, octets: content.copied, arrived };
    let mut record = match question {
        Question::Kept(Some(record)) => record,
        Question::Kept(None) => return,
        Question::Here(_) | Question::Input(_) if rest.is_none() => return log.write(&entry),
        Question::Here(_) | Question::Input(_) => log.keep(&entry),
    };
    record.set_arrived(arrived);
    // an answer that stands ready brings its head with it
    let head = match (rest, content.known) {
        (Some(Rest::Bytes(octets)), Some(length)) => octets.len() as u64 - length,
        _ => 0,
    };
    record.begin(status, head);
    match rest {
        None => log.finish(record, content.copied),
        Some(_) => log.begin(record),
    }
}

impl Arrivals {
    /// The unread octets reach up to `end` now.
    fn push(&mut self, end: usize, at: Nanos) {
        let arrival = Arrival { end, at };
        match self {
            Arrivals::None => *self = Arrivals::One(arrival),
            Arrivals::One(one) if one.at == at => one.end = end,
            Arrivals::One(one) => *self = Arrivals::Many(vec![*one, arrival]),
            Arrivals::Many(many) => {
                let full = many.len() >= ARRIVALS_MAX;
                match many.last_mut() {
                    Some(last) if full || last.at == at => last.end = end,
                    _ => many.push(arrival),
                }
            }
        }
    }

    /// When the octet came that is the last of so many.
    #[inline]
    fn of(&self, octets: usize) -> Option<Nanos> {
        let reaches = |arrival: &&Arrival| arrival.end >= octets;
        match self {
            Arrivals::None => None,
            Arrivals::One(one) => Some(one).filter(reaches).map(|arrival| arrival.at),
            Arrivals::Many(many) => many.iter().find(reaches).map(|arrival| arrival.at),
        }
    }

    /// So many of the unread octets are done with.
    #[inline]
    fn consume(&mut self, octets: usize) {
        match self {
            Arrivals::None => {}
            Arrivals::One(one) if one.end <= octets => *self = Arrivals::None,
            Arrivals::One(one) => one.end -= octets,
            Arrivals::Many(many) => {
                many.drain(..many.partition_point(|arrival| arrival.end <= octets));
                many.iter_mut().for_each(|arrival| arrival.end -= octets);
                if many.is_empty() {
                    *self = Arrivals::None;
                }
            }
        }
    }
}

impl Incoming {
    fn is_answered(&self) -> bool {
        matches!(self.content.sink(), Sink::Discard)
    }

    /// To a handler, which owes a reply.
    fn is_passed_on(&self) -> bool {
        matches!(self.content.sink(), Sink::Pass(_))
    }

    /// Looks once more at a head that was kept.
    #[cold]
    fn look_again(&self, peer: Option<SocketAddr>, look: impl FnOnce(Asked<'_>)) {
        let mut storage = FieldStorage::default();
        if let Some(request) = parse::again(&self.head, &mut storage, peer) {
            look(request.asked());
        }
    }
}

impl Disposition {
    #[inline]
    fn of(head: &Head<'_>) -> Disposition {
        Disposition {
            persistence: head.persistence,
            version: head.request.version(),
            head: head.request.method() == Method::Head,
            refuses_content: false,
            arrived: 0,
        }
    }
}

fn holds_a_head(input: &[u8]) -> bool {
    memchr::memmem::find(input, b"\r\n\r\n").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::Format;
    use crate::http::Pieces;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake};
    use std::time::SystemTime;

    const MAX_BODY: u64 = 100_000;

    /// Answers with the path and the content; `/later` comes later, `/big/N` has N octets, `/unwanted` takes no content.
    /// `/pieces` takes it piece by piece, `/some/N` no more than N octets of it, `/none` answers without.
    #[derive(Default)]
    struct Echo {
        taking: Option<Taking>,
    }

    /// A content that is being taken.
    struct Taking {
        pieces: Pieces,
        path: String,
        content: Vec<u8>,
        enough: usize,
    }

    impl Service for Echo {
        fn admit(&mut self, head: &Request<'_>) -> Admission {
            match head.path() {
                "/unwanted" => Admission::Answer(Response::not_allowed("GET")),
                "/pieces" | "/none" => Admission::Pieces,
                path if path.starts_with("/some/") => Admission::Pieces,
                _ => Admission::Collect,
            }
        }

        fn call(&mut self, request: &Request<'_>) -> Answer {
            let path = request.path();
            let some = path.strip_prefix("/some/").map(|n| n.parse().unwrap());
            if path == "/pieces" || some.is_some() {
                let (enough, content) = (some.unwrap_or(usize::MAX), vec![]);
                let pieces = request.pieces();
                assert_eq!(request.pieces().blocking_next().transpose().unwrap(), None, "taken once");
                self.taking = Some(Taking { pieces, path: path.to_owned(), content, enough });
                return Answer::Later;
            }
            match request.path() {
                "/later" => Answer::Later,
                path if request.body().is_empty() => Answer::Now(echo(path)),
                path => Answer::Now(Response::bytes([path.as_bytes(), request.body()].concat())),
            }
        }
    }

    impl Echo {
        /// The reply that was promised, if it can be given by now.
        fn reply(&mut self) -> Option<Response> {
            let Some(taking) = &mut self.taking else { return Some(Response::text("late")) };
            if taking.take().expect("who waits has not heard of an error") {
                let Taking { path, content, .. } = self.taking.take().unwrap();
                return Some(Response::bytes([path.as_bytes(), &content].concat()));
            }
            None
        }
    }

    impl Taking {
        /// Takes what is here; says whether that is enough.
        fn take(&mut self) -> io::Result<bool> {
            while self.content.len() < self.enough {
                match self.pieces.poll_next(&mut Context::from_waker(Waker::noop())) {
                    Poll::Pending => return Ok(false),
                    Poll::Ready(None) => return Ok(true),
                    Poll::Ready(Some(piece)) => self.content.extend_from_slice(&piece?),
                }
            }
            self.content.truncate(self.enough);
            Ok(true)
        }
    }

    fn conditions<'a>(date: &'a Date, tally: &'a Tally) -> Conditions<'a> {
        Conditions { date, draining: false, peer: None, max_body: MAX_BODY, tally, log: None }
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
        echo: Echo,
        date: Date,
        draining: bool,
        sent: Vec<u8>,
        closed: Option<bool>,
        log: AccessLog,
    }

    impl Played {
        fn new() -> Played {
            let log = AccessLog::new(Format::Common, 0, 0, || 0);
            log.set_time(SystemTime::UNIX_EPOCH, 0);
            Played {
                exchange: Exchange::default(),
                echo: Echo::default(),
                date: Date::render(SystemTime::UNIX_EPOCH, true).0,
                draining: false,
                sent: vec![],
                closed: None,
                log,
            }
        }

        fn feed(&mut self, input: &[u8]) {
            let on = Conditions {
                date: &self.date,
                draining: self.draining,
                peer: None,
                max_body: MAX_BODY,
                tally: &Tally::default(),
                log: Some(&self.log),
            };
            let send = |rest: Option<Rest>, sent: &mut Vec<u8>| {
                let begun = self.log.take_begun();
                assert_eq!(begun.is_some(), rest.is_some(), "{rest:?}");
                let octets = octets(rest);
                sent.extend_from_slice(&octets);
                begun.into_iter().for_each(|record| self.log.finish(record, octets.len() as u64));
            };
            let mut progress = self.exchange.feed(input, &mut self.echo, &on, &mut self.sent);
            loop {
                progress = match progress {
                    Progress::Receive { .. } => return,
                    Progress::Wait => match self.echo.reply() {
                        None => return,
                        Some(reply) => self.exchange.complete(reply, &on, &mut self.sent),
                    },
                    Progress::Resume { rest } => {
                        send(rest, &mut self.sent);
                        self.exchange.resume(&mut self.echo, &on, &mut self.sent)
                    }
                    Progress::Close { rest, linger } => {
                        send(rest, &mut self.sent);
                        self.closed = Some(linger);
                        return;
                    }
                };
            }
        }

        /// What the log has of each request: from its request line on.
        fn lines(&self) -> Vec<String> {
            let batch = self.log.take_batch().unwrap_or_default();
            let lines = String::from_utf8(batch.clone()).unwrap();
            self.log.give_back(batch);
            lines.lines().map(|line| line.split_once("] ").unwrap().1.to_owned()).collect()
        }

        /// Statuses and bodies, in order.
        fn answers(&self) -> Vec<(u16, String)> {
            let mut rest = &self.sent[..];
            let mut answers = vec![];
            while !rest.is_empty() {
                let end = memchr::memmem::find(rest, b"\r\n\r\n").expect("a whole head") + 4;
                if rest.starts_with(response::CONTINUE) {
                    rest = &rest[end..];
                    continue;
                }
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

    fn octets(rest: Option<Rest>) -> Bytes {
        match rest {
            None => Bytes::new(),
            Some(Rest::Bytes(octets)) => octets,
            Some(other) => panic!("{other:?}"),
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
    fn every_answer_is_one_line_of_the_log() {
        let big = DISCARDED_OCTETS_MAX + 1;
        let table = [
            (get("/1"), "\"GET /1 HTTP/1.1\" 200 2"),
            (get("/later?a=\"b\""), "\"GET /later?a=\\x22b\\x22 HTTP/1.1\" 200 4"),
            (get("/big/20000"), "\"GET /big/20000 HTTP/1.1\" 200 20000"),
            (get("/1").replace("GET", "HEAD"), "\"HEAD /1 HTTP/1.1\" 200 0"),
            (get("/1").replace("HTTP/1.1", "HTTP/1.0"), "\"GET /1 HTTP/1.0\" 200 2"),
            (post("/a", "Content-Length: 3", "xyz"), "\"POST /a HTTP/1.1\" 200 5"),
            (
                post("/a", "Transfer-Encoding: chunked", &chunks(&["xyz".into()])),
                "\"POST /a HTTP/1.1\" 200 5",
            ),
            (post("/pieces", "Content-Length: 3", "xyz"), "\"POST /pieces HTTP/1.1\" 200 10"),
            (post("/some/1", "Content-Length: 3", "xyz"), "\"POST /some/1 HTTP/1.1\" 200 8"),
            (post("/unwanted", "Content-Length: 3", "xyz"), "\"POST /unwanted HTTP/1.1\" 405 18"),
            (post("/unwanted", &format!("Content-Length: {big}"), ""), "\"POST /unwanted HTTP/1.1\" 405 18"),
            (post("/a", "Content-Length: 100001", ""), "\"POST /a HTTP/1.1\" 413 17"),
            (post("/a", "Transfer-Encoding: chunked", "x\r\n"), "\"POST /a HTTP/1.1\" 400 11"),
            (post("/pieces", "Transfer-Encoding: chunked", "x\r\n"), "\"POST /pieces HTTP/1.1\" 400 11"),
            ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n".into(), "\"BREW / HTTP/1.1\" 501 15"),
            ("\x16\x03\x01".into(), "\"\\x16\\x03\\x01\" 400 11"),
        ];
        for (input, line) in table {
            let mut played = Played::new();
            played.feed(input.as_bytes());
            assert_eq!(played.lines(), [line], "{input}");
            played.exchange.abandon(None, &played.log);
            assert_eq!(played.lines(), [""; 0], "{input}");
        }
        let mut pipelined = Played::new();
        pipelined.feed(["/1", "/later", "/big/5000", "/4"].map(get).concat().as_bytes());
        let octets: Vec<_> =
            pipelined.lines().iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
        assert_eq!(octets, ["2", "4", "5000", "2"]);
    }

    #[test]
    fn a_request_that_is_not_answered_is_one_line_of_the_log() {
        let (chunked, length) = ("Transfer-Encoding: chunked", "Content-Length: 9");
        for (input, left, late) in [
            (get("/later"), "\"GET /later HTTP/1.1\" 000 0", None),
            (post("/a", length, "xyz"), "\"POST /a HTTP/1.1\" 000 0", Some("\"POST /a HTTP/1.1\" 408 15")),
            (
                post("/pieces", chunked, ""),
                "\"POST /pieces HTTP/1.1\" 000 0",
                Some("\"POST /pieces HTTP/1.1\" 408 15"),
            ),
            (post("/unwanted", length, ""), "", Some("")),
            ("GET / HT".into(), "", Some("\"GET / HT\" 408 15")),
        ] {
            for (is_left, line) in [(true, Some(left)), (false, late)] {
                let (Some(line), mut played) = (line, Played::new()) else { continue };
                let tally = Tally::default();
                let on = Conditions { log: Some(&played.log), ..conditions(&played.date, &tally) };
                let _ = played.exchange.feed(input.as_bytes(), &mut played.echo, &on, &mut played.sent);
                played.lines();
                match is_left {
                    true => played.exchange.abandon(None, &played.log),
                    false => drop(played.exchange.time_out(&on, &mut played.sent)),
                }
                assert_eq!(played.lines().join("\n"), line, "{input}");
            }
        }
    }

    #[test]
    fn what_comes_while_a_reply_is_owed_is_kept() {
        let (mut exchange, date, mut out) =
            (Exchange::default(), Date::render(SystemTime::UNIX_EPOCH, true).0, vec![]);
        let tally = Tally::default();
        let on = conditions(&date, &tally);
        for request in ["/later", "/2"].map(get) {
            let progress = exchange.feed(request.as_bytes(), &mut Echo::default(), &on, &mut out);
            assert!(matches!(progress, Progress::Wait), "{progress:?}");
        }
        assert!(out.is_empty() && exchange.is_waiting());
        let progress = exchange.complete(Response::text("late"), &on, &mut out);
        assert!(matches!(progress, Progress::Resume { rest: None }));
        let progress = exchange.resume(&mut Echo::default(), &on, &mut out);
        assert!(matches!(progress, Progress::Receive { part: Part::Nothing }));
        assert_eq!(out.windows(3).filter(|w| w == b"200").count(), 2);
    }

    #[test]
    fn output_is_bounded_before_more_is_answered() {
        let (mut exchange, date, mut out) =
            (Exchange::default(), Date::render(SystemTime::UNIX_EPOCH, true).0, vec![]);
        let tally = Tally::default();
        let on = conditions(&date, &tally);
        let input = get("/big/4000").repeat(80);
        let progress = exchange.feed(input.as_bytes(), &mut Echo::default(), &on, &mut out);
        assert!(matches!(progress, Progress::Resume { rest: None }));
        assert!(out.len() < OUTPUT_OCTETS_MAX + 5_000, "{}", out.len());
        assert!(exchange.unread() > 0);
        let progress = exchange.feed(get("/big/20000").as_bytes(), &mut Echo::default(), &on, &mut vec![]);
        assert!(matches!(progress, Progress::Resume { rest: None }), "still the first eighty");
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
        played.exchange.keep(b"more", 0);
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
        let tally = Tally::default();
        let on = conditions(&played.date, &tally);
        let mut out = vec![];
        let progress = played.exchange.time_out(&on, &mut out);
        assert!(matches!(progress, Progress::Close { rest: None, linger: true }));
        assert!(out.starts_with(b"HTTP/1.1 408 "));
    }

    #[test]
    fn released_in_the_middle_of_a_pipeline_the_rest_is_answered_by_the_next() {
        let (mut first, date, mut out) =
            (Exchange::default(), Date::render(SystemTime::UNIX_EPOCH, true).0, vec![]);
        let tally = Tally::default();
        let on = conditions(&date, &tally);
        let _ = first.feed(get("/later").as_bytes(), &mut Echo::default(), &on, &mut out);
        let rest = ["/2", "/3"].map(get).concat();
        let (early, late) = rest.as_bytes().split_at(rest.len() - 7);
        first.keep(early, 0);
        let progress = first.complete(Response::text("late"), &on, &mut out);
        assert!(matches!(progress, Progress::Resume { rest: None }));
        let mut second = Played { exchange: Exchange::adopt(first.release()), ..Played::new() };
        second.feed(late);
        assert_eq!(second.answers().into_iter().map(|a| a.1).collect::<Vec<_>>(), ["/2", "/3"]);
        assert!(first.is_ended());
    }

    fn post(path: &str, fields: &str, content: &str) -> String {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{content}")
    }

    fn chunks(parts: &[String]) -> String {
        let chunks = parts.iter().map(|part| format!("{:x};a=b\r\n{part}\r\n", part.len()));
        chunks.collect::<String>() + "0\r\nTrailer: x\r\n\r\n"
    }

    #[test]
    fn content_reaches_the_service_whole() {
        let parts = ["ab".to_owned(), "c".repeat(5000)];
        for (fields, content) in [
            ("Content-Length: 5002".to_owned(), parts.concat()),
            ("Transfer-Encoding: chunked".to_owned(), chunks(&parts)),
        ] {
            let mut played = Played::new();
            played.feed((post("/p", &fields, &content) + &get("/next")).as_bytes());
            let bodies: Vec<_> = played.answers().into_iter().map(|(_, body)| body).collect();
            assert_eq!(bodies, [format!("/p{}", parts.concat()), "/next".to_owned()]);
        }
    }

    #[test]
    fn content_that_is_not_wanted_is_skipped_or_ends_the_connection() {
        let table = [
            (post("/unwanted", "Content-Length: 3", "abc"), 2, None),
            (post("/unwanted", "Transfer-Encoding: chunked", &chunks(&["abc".to_owned()])), 2, None),
            (post("/unwanted", "Content-Length: 65537", ""), 1, Some(true)),
            (post("/unwanted", "Content-Length: 3\r\nExpect: 100-continue", ""), 1, Some(true)),
            (post("/unwanted", "Content-Length: 65537\r\nConnection: close", ""), 1, Some(true)),
            (post("/unwanted", "Transfer-Encoding: chunked", &chunks(&["x".repeat(65_537)])), 1, Some(true)),
            (post("/unwanted", "Transfer-Encoding: chunked", "what?"), 1, Some(true)),
        ];
        for (request, answers, closed) in table {
            let mut played = Played::new();
            played.feed((request.clone() + &get("/next")).as_bytes());
            assert_eq!((played.answers().len(), played.closed), (answers, closed), "{request:?}");
            assert_eq!(played.answers()[0].0, 405);
        }
    }

    #[test]
    fn content_beyond_the_limit_is_refused_before_it_is_here() {
        let mut played = Played::new();
        played.feed(post("/p", "Content-Length: 100001", "").as_bytes());
        assert_eq!((played.answers()[0].0, played.closed), (413, Some(true)));
        let mut played = Played::new();
        played.feed(post("/p", "Transfer-Encoding: chunked", "186a1\r\n").as_bytes());
        assert_eq!((played.answers()[0].0, played.closed), (413, Some(true)));
    }

    #[test]
    fn who_asks_before_sending_is_told_to_go_on_once() {
        let mut played = Played::new();
        played.feed(post("/p", "Content-Length: 3\r\nExpect: 100-Continue", "").as_bytes());
        assert_eq!(played.sent, response::CONTINUE);
        played.feed(b"ab");
        played.feed(b"c");
        let text = String::from_utf8(played.sent.clone()).unwrap();
        assert!(text.matches("HTTP/1.1 ").count() == 2 && text.ends_with("/pabc"), "{text}");
        assert_eq!(played.exchange.take_content_count(), None);
    }

    #[test]
    fn slow_content_is_told_so_unless_it_has_been_answered() {
        for (path, status) in [("/p", 408), ("/unwanted", 405)] {
            let mut played = Played::new();
            played.feed(post(path, "Content-Length: 9", "abc").as_bytes());
            assert_eq!(played.exchange.take_content_count(), Some(3));
            assert!(played.exchange.is_amid_content());
            let tally = Tally::default();
            let on = conditions(&played.date, &tally);
            let progress = played.exchange.time_out(&on, &mut played.sent);
            assert!(matches!(progress, Progress::Close { rest: None, linger: true }));
            assert_eq!(played.answers().into_iter().map(|a| a.0).collect::<Vec<_>>(), [status]);
        }
    }

    /// Whole, in two, and octet by octet.
    fn cuts(input: &[u8]) -> [Vec<&[u8]>; 3] {
        let (first, second) = input.split_at(input.len() / 2);
        [vec![input], vec![first, second], input.chunks(1).collect()]
    }

    fn played(pieces: Vec<&[u8]>) -> Played {
        let mut played = Played::new();
        for piece in pieces {
            if played.closed.is_none() {
                played.feed(piece);
            }
        }
        played
    }

    #[test]
    fn content_that_is_passed_on_is_answered_when_its_end_is_taken() {
        let parts = ["ab".to_owned(), "c".repeat(5000)];
        let (all, length) = (parts.concat(), "Content-Length: 5002".to_owned());
        let chunked = || "Transfer-Encoding: chunked".to_owned();
        for (fields, content, taken) in [
            ("Content-Length: 0".to_owned(), String::new(), ""),
            (length.clone(), all.clone(), &all),
            (chunked(), chunks(&parts), &all),
            (chunked(), chunks(&[]), ""),
            (length + "\r\nExpect: 100-continue", all.clone(), &all),
            (chunked() + "\r\nExpect: 100-continue", chunks(&parts), &all),
        ] {
            let input = post("/pieces", &fields, &content) + &get("/next");
            let told_to_go_on = usize::from(fields.contains("Expect"));
            for pieces in cuts(input.as_bytes()) {
                let played = played(pieces);
                let bodies: Vec<_> = played.answers().into_iter().map(|(_, body)| body).collect();
                assert_eq!(bodies, [format!("/pieces{taken}"), "/next".to_owned()]);
                assert_eq!(played.closed, None);
                let text = String::from_utf8_lossy(&played.sent).into_owned();
                assert_eq!(text.matches("100 Continue").count(), told_to_go_on);
                assert!(told_to_go_on == 0 || text.starts_with("HTTP/1.1 100 "), "before the content");
            }
        }
    }

    #[test]
    fn content_that_is_passed_on_may_be_of_any_length_and_version_and_method() {
        let long = "x".repeat(3 * MAX_BODY as usize);
        let mut long_one = Played::new();
        for piece in
            post("/pieces", &format!("Content-Length: {}", long.len()), &long).as_bytes().chunks(9999)
        {
            long_one.feed(piece);
        }
        assert_eq!(long_one.answers()[0].1.len(), long.len() + "/pieces".len());
        for (head, closed) in [
            ("POST /pieces HTTP/1.0\r\nContent-Length: 3\r\n", Some(false)),
            ("POST /pieces HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n", None),
            ("POST /pieces HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n", Some(false)),
        ] {
            for pieces in cuts(format!("{head}\r\nabc").as_bytes()) {
                let played = played(pieces);
                assert_eq!(played.answers(), [(200, "/piecesabc".to_owned())]);
                assert_eq!(played.closed, closed, "{head:?}");
            }
        }
        let head = "HEAD /pieces HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        for pieces in cuts((head.to_owned() + &get("/next")).as_bytes()) {
            let text = String::from_utf8(played(pieces).sent).unwrap();
            assert!(text.contains("Content-Length: 10\r\n") && !text.contains("/pieces"), "{text}");
            assert!(text.ends_with("/next"), "{text}");
        }
    }

    /// Up to 64 KiB of what is not taken is read for the sake of the connection, and it does not matter when it comes.
    #[test]
    fn content_that_is_answered_before_its_end_is_skipped_or_ends_the_connection() {
        let rest = DISCARDED_OCTETS_MAX as usize;
        let length = |octets: usize| format!("Content-Length: {octets}");
        let chunked = || "Transfer-Encoding: chunked".to_owned();
        let asks = "\r\nExpect: 100-continue";
        let next = Some("/next");
        // what leaves the connection is seen by what follows; None where the answer says close
        let table = [
            ("/none", length(3), "abc".to_owned(), next),
            ("/none", length(rest), "x".repeat(rest), next),
            ("/none", length(rest + 1), String::new(), None),
            ("/none", length(3) + asks, String::new(), None),
            ("/none", chunked(), chunks(&["x".repeat(rest)]), next),
            ("/some/0", length(3), "abc".to_owned(), next),
            ("/some/2", length(3), "abc".to_owned(), next),
            ("/some/2", length(3) + asks, "abc".to_owned(), next),
            ("/some/2", chunked(), chunks(&["abc".to_owned(), "de".to_owned()]), next),
        ];
        for (path, fields, content, follows) in table {
            let input = post(path, &fields, &content) + follows.map(get).as_deref().unwrap_or("");
            for pieces in cuts(input.as_bytes()) {
                let played = played(pieces);
                let taken = path.strip_prefix("/some/").map_or(0, |n| n.parse().unwrap());
                let first = format!("{path}{}", &"abc"[..taken]);
                let bodies: Vec<_> = played.answers().into_iter().map(|(_, body)| body).collect();
                let expected: Vec<_> = [Some(first.as_str()), follows].into_iter().flatten().collect();
                assert_eq!(bodies, expected, "{path} {fields}");
                assert_eq!(
                    played.closed,
                    if follows.is_some() { None } else { Some(true) },
                    "{path} {fields}"
                );
            }
        }
    }

    #[test]
    fn too_much_that_is_left_ends_the_connection_when_it_is_known() {
        let rest = DISCARDED_OCTETS_MAX as usize;
        // announced: the answer says so
        let mut announced = Played::new();
        announced.feed(post("/some/2", &format!("Content-Length: {}", rest + 3), "ab").as_bytes());
        assert_eq!(announced.answers().len(), 1);
        assert_eq!(announced.closed, Some(true));
        assert!(memchr::memmem::find(&announced.sent, b"Connection: close").is_some());
        // found out: after the answer
        for content in ["2\r\nab\r\n10001\r\n", "2\r\nab\r\nwhat?"] {
            let mut found_out = Played::new();
            found_out.feed(post("/some/2", "Transfer-Encoding: chunked", "2\r\nab\r\n").as_bytes());
            assert_eq!((found_out.answers().len(), found_out.closed), (1, None));
            found_out.feed(&content.as_bytes()["2\r\nab\r\n".len()..]);
            assert_eq!((found_out.answers().len(), found_out.closed), (1, Some(true)), "{content:?}");
        }
    }

    #[test]
    fn who_takes_a_content_that_will_not_be_whole_hears_why() {
        #[derive(Debug, Clone, Copy)]
        enum Fate {
            Broken,
            Late,
            Left,
        }
        for (fate, status, why) in [
            (Fate::Broken, Some(400), io::ErrorKind::InvalidData),
            (Fate::Late, Some(408), io::ErrorKind::TimedOut),
            (Fate::Left, None, io::ErrorKind::UnexpectedEof),
        ] {
            let mut played = Played::new();
            played.feed(post("/pieces", "Transfer-Encoding: chunked", "3\r\nabc").as_bytes());
            assert!(
                played.sent.is_empty() && played.exchange.is_waiting() && played.exchange.is_amid_content()
            );
            let tally = Tally::default();
            let on = conditions(&played.date, &tally);
            match fate {
                Fate::Broken => played.feed(b"no CRLF"),
                Fate::Late => {
                    let progress = played.exchange.time_out(&on, &mut played.sent);
                    assert!(matches!(progress, Progress::Close { rest: None, linger: true }));
                }
                Fate::Left => drop(played.exchange.release()),
            }
            let statuses: Vec<_> = played.answers().into_iter().map(|answer| answer.0).collect();
            assert_eq!(statuses, Vec::from_iter(status), "{fate:?}");
            assert!(!played.exchange.is_waiting() && played.exchange.is_ended());
            let mut taking = played.echo.taking.take().unwrap();
            assert_eq!(taking.take().unwrap_err().kind(), why, "{fate:?}");
            assert_eq!(taking.content, b"abc", "what came before is given");
        }
    }

    #[test]
    fn content_that_nobody_takes_is_not_wanted_until_somebody_does() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = || Waker::from(Arc::clone(&count));
        let date = Date::render(SystemTime::UNIX_EPOCH, true).0;
        let tally = Tally::default();
        let on = conditions(&date, &tally);
        let (mut exchange, mut echo, mut out) = (Exchange::default(), Echo::default(), vec![]);
        assert_eq!(exchange.flow(None), Flow::None);
        let head = post("/pieces", "Content-Length: 100000", "");
        let progress = exchange.feed(head.as_bytes(), &mut echo, &on, &mut out);
        assert!(matches!(progress, Progress::Wait));
        assert_eq!(exchange.flow(Some(&waker)), Flow::Wanted);
        let progress = exchange.feed(&[b'x'; 65_536], &mut echo, &on, &mut out);
        assert!(matches!(progress, Progress::Wait));
        assert_eq!((exchange.flow(Some(&waker)), exchange.flow(None)), (Flow::Full, Flow::Full));
        assert_eq!((exchange.take_content_count(), exchange.unread()), (Some(65_536), 0));
        // what was on its way is taken all the same, and counted
        let _ = exchange.feed(&[b'x'; 10_000], &mut echo, &on, &mut out);
        assert_eq!((exchange.take_content_count(), count.0.load(Ordering::Relaxed)), (Some(10_000), 0));
        assert!(!echo.taking.as_mut().unwrap().take().unwrap());
        assert_eq!((exchange.flow(None), count.0.load(Ordering::Relaxed)), (Flow::Wanted, 1));
        let _ = exchange.feed(&[b'x'; 24_464], &mut echo, &on, &mut out);
        assert_eq!(
            (exchange.flow(None), exchange.is_amid_content()),
            (Flow::None, false),
            "all of it is here"
        );
        // one that has lost its interest wants no more
        let (mut exchange, mut echo) = (Exchange::default(), Echo::default());
        let _ = exchange.feed(head.as_bytes(), &mut echo, &on, &mut out);
        echo.taking = None;
        assert_eq!((exchange.flow(Some(&waker)), out.len()), (Flow::Full, 0));
    }

    #[test]
    fn what_follows_a_content_that_is_passed_on_is_kept_until_it_is_answered() {
        let mut played = Played::new();
        let tally = Tally::default();
        let on = conditions(&played.date, &tally);
        let mut echo = Echo::default();
        let input = post("/pieces", "Content-Length: 3", "abc") + &get("/2") + &get("/3");
        let progress = played.exchange.feed(input.as_bytes(), &mut echo, &on, &mut played.sent);
        assert!(matches!(progress, Progress::Wait) && played.exchange.is_waiting());
        assert_eq!(played.exchange.unread(), get("/2").len() * 2);
        let progress = played.exchange.resume(&mut echo, &on, &mut played.sent);
        assert!(matches!(progress, Progress::Wait) && played.sent.is_empty(), "nothing overtakes it");
        let progress = played.exchange.complete(echo.reply().unwrap(), &on, &mut played.sent);
        assert!(matches!(progress, Progress::Resume { rest: None }));
        let progress = played.exchange.resume(&mut echo, &on, &mut played.sent);
        assert!(matches!(progress, Progress::Receive { part: Part::Nothing }));
        let bodies: Vec<_> = played.answers().into_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies, ["/piecesabc", "/2", "/3"]);
    }

    #[test]
    fn a_drainer_says_close_to_a_content_that_it_has_taken_or_will_not_take() {
        for (path, content) in [("/pieces", "abc"), ("/some/2", "abc"), ("/some/2", "ab"), ("/none", "a")] {
            let mut played = Played { draining: true, ..Played::new() };
            played.feed(post(path, "Content-Length: 3", content).as_bytes());
            assert_eq!((played.answers().len(), played.closed), (1, Some(true)), "{path} {content}");
            assert!(memchr::memmem::find(&played.sent, b"Connection: close").is_some());
        }
    }

    /// Pieces of requests, valid and broken, that are put together to streams.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            6 => "/[a-z]{0,8}".prop_map(|path| get(&path)),
            2 => Just(get("/later")),
            2 => (0usize..40_000).prop_map(|n| get(&format!("/big/{n}"))),
            1 => Just("\r\n".to_owned()),
            1 => Just("\r?".to_owned()),
            1 => "[\r\n]{1,6}",
            1 => Just("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
            1 => Just("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned()),
            1 => Just("GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned()),
            2 => (0usize..200).prop_map(|n| post("/length", &format!("Content-Length: {n}"), &"c".repeat(n))),
            2 => (0usize..3000).prop_map(|n| post("/unwanted", &format!("Content-Length: {n}"), &"c".repeat(n))),
            2 => prop::collection::vec("[a-z]{1,300}", 0..5).prop_map(|parts| post("/chunks", "Transfer-Encoding: chunked", &chunks(&parts))),
            1 => Just(post("/asks", "Content-Length: 2\r\nExpect: 100-continue", "ok")),
            1 => Just(post("/unwanted", "Content-Length: 2\r\nExpect: 100-continue", "ok")),
            2 => (0usize..200).prop_map(|n| post("/pieces", &format!("Content-Length: {n}"), &"c".repeat(n))),
            2 => prop::collection::vec("[a-z]{1,300}", 0..5).prop_map(|parts| post("/pieces", "Transfer-Encoding: chunked", &chunks(&parts))),
            1 => Just(post("/pieces", "Content-Length: 2\r\nExpect: 100-continue", "ok")),
            1 => Just(post("/pieces", "Transfer-Encoding: chunked", "3\r\nabcd")),
            2 => (0usize..200, 0usize..200).prop_map(|(some, n)| post(&format!("/some/{some}"), &format!("Content-Length: {n}"), &"c".repeat(n))),
            1 => prop::collection::vec("[a-z]{1,300}", 0..5).prop_map(|parts| post("/some/9", "Transfer-Encoding: chunked", &chunks(&parts))),
            1 => (0usize..3000).prop_map(|n| post("/none", &format!("Content-Length: {n}"), &"c".repeat(n))),
            1 => Just(post("/none", "Content-Length: 2\r\nExpect: 100-continue", "ok")),
            1 => Just(post("/none", "Transfer-Encoding: chunked", "3\r\nabcd")),
            1 => Just(post("/too-long", "Content-Length: 100001", "")),
            1 => Just(post("/broken", "Transfer-Encoding: chunked", "x\r\n")),
            1 => Just(post("/unwanted", "Transfer-Encoding: chunked", "3\r\nabcd")),
            1 => Just("GET / HTTP/1.4\r\nHost: a\r\n\r\n".to_owned()),
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
            // of what is no request the log has what was there when that was known
            let answers = |lines: Vec<String>| -> Vec<String> {
                lines.iter().map(|line| line.rsplit_once("\" ").unwrap().1.to_owned()).collect()
            };
            prop_assert_eq!(answers(whole.lines()), answers(split.lines()));
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

    /// What a request's latency is counted from, in every way in which its answer can be late.
    #[test]
    fn a_requests_time_begins_with_its_last_octet() {
        let (date, _) = Date::render(SystemTime::now(), false);
        let tally = Tally::default();
        let on = conditions(&date, &tally);
        let (mut exchange, mut echo, mut out) = (Exchange::default(), Echo::default(), Vec::new());
        let turn = || {
            let mut waited = Vec::new();
            let turn = tally.end(|arrived| waited.push(arrived));
            (turn.requests, turn.prompt, waited)
        };
        let later = "GET /later HTTP/1.1\r\nHost: a\r\n\r\n";
        let first = format!("{}{later}{}", later.replace("/later", "/now"), later.replace("/later", "/kept"));

        tally.begin(10);
        // a head in two pieces, and something that waits behind a reply
        let _ = exchange.feed(&first.as_bytes()[..5], &mut echo, &on, &mut out);
        assert_eq!(turn(), (0, 0, vec![]));
        tally.begin(20);
        assert!(matches!(exchange.feed(&first.as_bytes()[5..], &mut echo, &on, &mut out), Progress::Wait));
        assert_eq!(turn(), (2, 1, vec![]));
        tally.begin(30);
        // content that comes in two pieces while the connection waits
        let post = "POST /content HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n12";
        exchange.keep(post.as_bytes(), tally.now());
        tally.begin(40);
        exchange.keep(b"34", tally.now());
        exchange.keep(later.replace("/later", "/last").as_bytes(), tally.now());
        tally.begin(50);
        let progress = exchange.complete(Response::text("late"), &on, &mut out);
        assert!(matches!(progress, Progress::Resume { rest: None }));
        assert_eq!(turn(), (0, 0, vec![20]));
        tally.begin(60);
        let _ = exchange.resume(&mut echo, &on, &mut out);
        assert_eq!(turn(), (3, 0, vec![20, 40, 40]));
        // content in pieces on a connection that waits for nothing
        tally.begin(70);
        let _ = exchange.feed(post.as_bytes(), &mut echo, &on, &mut out);
        tally.begin(80);
        let _ = exchange.feed(b"34", &mut echo, &on, &mut out);
        assert_eq!(turn(), (1, 1, vec![]));
        // what is no request has no latency
        let _ = exchange.feed(b"\0\r\n\r\n", &mut echo, &on, &mut out);
        let refused = tally.end(|_| panic!("it waited for nothing"));
        assert_eq!((refused.requests, refused.prompt, refused.refused), (0, 0, 1));
        assert_eq!(refused.responses, [0, 0, 0, 1, 0]);
    }

    #[test]
    fn no_client_has_more_arrivals_noted_than_there_is_room_for() {
        let mut arrivals = Arrivals::default();
        for octet in 0..1_000 {
            arrivals.push(octet + 1, octet as Nanos);
        }
        assert!(matches!(&arrivals, Arrivals::Many(many) if many.len() == ARRIVALS_MAX));
        assert_eq!([1, 10, 64, 1_000].map(|octets| arrivals.of(octets)), [0, 9, 63, 63].map(Some));
        assert_eq!(arrivals.of(1_001), None);
        arrivals.consume(10);
        assert_eq!([1, 2, 990].map(|octets| arrivals.of(octets)), [10, 11, 63].map(Some));
        arrivals.consume(990);
        assert!(matches!(arrivals, Arrivals::None));
    }
}
