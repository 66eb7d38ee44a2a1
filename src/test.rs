//! Tests of handlers without a server: requests go through the same parser, the same connection's machine and the same
//! writer as in a worker, but through no socket and no ring.
//!
//! ```
//! use uringd::{Request, Response, Status};
//!
//! let mut client = uringd::test::client(|request: &Request<'_>| match request.path() {
//!     "/" => Response::text("hello"),
//!     _ => Response::status(Status::NOT_FOUND),
//! });
//! assert_eq!(client.get("/").text(), "hello");
//! assert_eq!(client.get("/nothing").status(), 404);
//! ```
//!
//! Neighbours: drives `http::exchange`, `worker::service`, `worker::tasks` and `worker::queue` as `worker::event_loop` does.

use crate::error::Result;
use crate::event::Message;
use crate::handler::{Handler, IntoHandler, Local, Mail, Mailbox, Reply, Wish};
use crate::http::chunked::Chunked;
use crate::http::{Conditions, Date, Exchange, Method, Part, Progress, Response, Rest, Status};
use crate::ring::{FileDone, FileOp, FileOutcome, Payload, Token};
use crate::stats::{Area, Tally};
use crate::worker::Worker;
use crate::worker::unconnected::{
    self, Backlog, Guarded, Next, Outcome, Owed, Queue, TaskId, Tasks, resolve,
};
use bytes::Bytes;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::uio::{pread, pwrite};
use nix::unistd::fsync;
use serde::Serialize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest body that is collected, as `--max-body` has it by default.
const MAX_BODY: u64 = 1 << 20;

/// Nobody has a connection here.
const NOBODY: Token = Token { slot: 0, generation: 0 };

/// A client of a handler in this thread. State that the handler keeps lasts from request to request.
///
/// # Panics
/// If there is no descriptor left for an eventfd.
pub fn client<H: Handler>(handler: H) -> Client<H> {
    client_of(|_| handler)
}

/// The same of the handler that a factory makes: of what is given to `Cluster::run`.
///
/// ```
/// use uringd::{Request, Response, Worker};
///
/// let make = |worker: Worker| {
///     move |_: &Request<'_>| worker.send("asked").map(|()| Response::text("hello"))
/// };
/// let mut client = uringd::test::client_of(make);
/// assert_eq!(client.get("/").text(), "hello");
/// assert_eq!(client.messages()[0].read::<String>().unwrap(), "asked");
/// ```
///
/// # Panics
/// If the factory fails, with its error; if there is no descriptor or memory left.
pub fn client_of<H: IntoHandler>(make: impl FnOnce(Worker) -> H) -> Client<H::Handler> {
    let mailbox = Mailbox::open().expect("an eventfd can be had");
    let (area, _) = Area::create().expect("memory can be had");
    let worker = Worker::new(1, 0, None, None, Arc::clone(&mailbox), area.clone());
    let backlog = worker.backlog();
    let handler = make(worker).into_handler().unwrap_or_else(|error| panic!("the factory failed: {error}"));
    Client {
        handler,
        tasks: Tasks::new(Arc::clone(&mailbox), area.clone()),
        area,
        local: Local::open(),
        mailbox,
        backlog,
        messages: Vec::new(),
        tally: Tally::default(),
        panicked: false,
    }
}

/// Made by [`client`].
pub struct Client<H> {
    handler: H,
    tasks: Tasks,
    local: Rc<Local>,
    mailbox: Arc<Mailbox>,
    backlog: Arc<Backlog>,
    messages: Vec<Message>,
    tally: Tally,
    area: Area,
    panicked: bool,
}

/// A request that is being put together.
#[must_use = "a request does nothing before `send`"]
pub struct Sending<'a, H> {
    client: &'a mut Client<H>,
    method: Method,
    head: String,
    body: Bytes,
    chunked: bool,
}

/// An answer, as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    body: Bytes,
    cut: bool,
}

/// What has become of a request so far.
struct Talk {
    exchange: Exchange,
    out: Vec<u8>,
    owed: Option<Owed>,
    cut: bool,
    deadline: Instant,
}

impl<H: Handler> Client<H> {
    /// GETs a target.
    ///
    /// # Panics
    /// As [`Sending::send`] does.
    pub fn get(&mut self, target: &str) -> Answer {
        self.request(Method::Get, target).send()
    }

    /// POSTs a body.
    ///
    /// # Panics
    /// As [`Sending::send`] does.
    pub fn post(&mut self, target: &str, body: impl Into<Bytes>) -> Answer {
        self.request(Method::Post, target).body(body).send()
    }

    /// Begins any request, with `Host: localhost`.
    pub fn request(&mut self, method: Method, target: &str) -> Sending<'_, H> {
        let head = format!("{} {target} HTTP/1.1\r\nHost: localhost\r\n", method.as_str());
        Sending { client: self, method, head, body: Bytes::new(), chunked: false }
    }

    /// What was sent to the master since this was last called.
    pub fn messages(&mut self) -> Vec<Message> {
        self.take_mail(|_| false);
        std::mem::take(&mut self.messages)
    }

    /// Gives the handler a message as if from the master.
    ///
    /// # Errors
    /// It has no form in JSON.
    pub fn tell(&mut self, value: impl Serialize) -> Result<()> {
        self.settle_here();
        self.handler.message(Message::new(value)?);
        Ok(())
    }

    /// The handler, to look at or to change what it keeps.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// For `benches/micro.rs`, and no part of the interface: the whole way of requests that are answered at once.
    #[doc(hidden)]
    pub fn feed(
        &mut self,
        exchange: &mut Exchange,
        input: &[u8],
        date: &Date,
        out: &mut Vec<u8>,
    ) -> Progress {
        let mut service = Guarded {
            handler: &mut self.handler,
            tasks: &mut self.tasks,
            owed: &mut None,
            panicked: &mut self.panicked,
            area: &self.area,
        };
        exchange.feed(input, &mut service, &conditions(date, &self.tally), out)
    }

    fn talk(&mut self, request: &[u8]) -> Talk {
        self.settle_here();
        let date = Date::render(SystemTime::now(), true).0;
        let mut talk = Talk {
            exchange: Exchange::default(),
            out: Vec::new(),
            owed: None,
            cut: false,
            deadline: Instant::now() + PATIENCE,
        };
        let mut progress = {
            let mut service = Guarded {
                handler: &mut self.handler,
                tasks: &mut self.tasks,
                owed: &mut talk.owed,
                panicked: &mut self.panicked,
                area: &self.area,
            };
            talk.exchange.feed(request, &mut service, &conditions(&date, &self.tally), &mut talk.out)
        };
        loop {
            progress = match progress {
                Progress::Receive { .. } => return talk,
                Progress::Wait => {
                    let response = self.wait_for_reply(&mut talk);
                    talk.exchange.complete(response, &conditions(&date, &self.tally), &mut talk.out)
                }
                Progress::Resume { rest } => {
                    self.take_rest(rest, &mut talk);
                    if talk.cut || talk.exchange.unread() == 0 {
                        return talk;
                    }
                    Progress::Receive { part: Part::Nothing }
                }
                Progress::Close { rest, .. } => {
                    self.take_rest(rest, &mut talk);
                    return talk;
                }
            };
        }
    }

    /// Several clients may live on one thread.
    fn settle_here(&self) {
        self.mailbox.settle_here();
        self.local.settle_here();
    }

    /// Takes what is sent behind the output, as a worker's queue gives it.
    fn take_rest(&mut self, rest: Option<Rest>, talk: &mut Talk) {
        let Some(rest) = rest else { return };
        let mut queue = Queue::default();
        queue.push_rest(rest);
        loop {
            let mailbox = Arc::clone(&self.mailbox);
            match queue.next(0, &mut self.panicked, &|| mailbox.connection_waker(NOBODY)) {
                Next::Send(message) => {
                    talk.out.extend_from_slice(&message.head);
                    match message.body {
                        Payload::Empty => {}
                        Payload::Bytes(octets) => talk.out.extend_from_slice(&octets),
                        Payload::Mapped(piece) => {
                            let range = piece.start()..piece.start() + u64::from(piece.len());
                            talk.out.extend(piece.file().read(range).unwrap_or_default());
                        }
                    }
                }
                Next::Populate(piece) => piece.mark_warm(0),
                Next::Pending => while !self.turn(talk.deadline, |mail| matches!(mail, Came::Piece)) {},
                Next::Break(_) => {
                    talk.cut = true;
                    return;
                }
                // there is no log
                Next::Answered(..) => {}
                Next::Done => return,
            }
        }
    }

    /// What is owed may come to another thing that is owed.
    fn wait_for_reply(&mut self, talk: &mut Talk) -> Response {
        loop {
            let owed = talk.owed.take().expect("somebody owes what is waited for");
            let reply = self.wait_for(&owed, talk.deadline);
            drop(owed);
            match resolve(reply, &mut self.tasks, &mut self.panicked, &|| None) {
                Outcome::Now(response) => return response,
                Outcome::Owed(owed) => talk.owed = Some(owed),
            }
        }
    }

    fn wait_for(&mut self, owed: &Owed, deadline: Instant) -> Reply {
        let mut found = None;
        while found.is_none() {
            self.turn(deadline, |came| {
                found = match (came, owed) {
                    (Came::Promised(number, response), Owed::Promise(claim)) if number == claim.number => {
                        Some(response.into())
                    }
                    (Came::Task(id, reply), Owed::Task(wanted)) if id == *wanted => Some(reply),
                    _ => return false,
                };
                true
            });
        }
        found.expect("just looked")
    }

    /// One turn of what a worker's loop does for futures; says whether what came was what was waited for.
    fn turn(&mut self, deadline: Instant, wanted: impl FnMut(Came) -> bool) -> bool {
        for order in self.local.take_wishes() {
            if let Wish::Begin(number, op) = order {
                self.local.done(number, perform(op));
            }
        }
        self.local.expire(Instant::now());
        if !self.mailbox.is_full() && !self.local.has_wishes() {
            self.sleep(deadline);
        }
        self.take_mail(wanted)
    }

    fn take_mail(&mut self, mut wanted: impl FnMut(Came) -> bool) -> bool {
        let mut found = false;
        for mail in self.mailbox.take() {
            found |= match mail {
                Mail::Task(id) => match self.tasks.go_on(id) {
                    unconnected::Progress::Waiting => false,
                    unconnected::Progress::Answered(reply) => wanted(Came::Task(id, reply)),
                    unconnected::Progress::Over { panicked } => {
                        self.panicked |= panicked;
                        wanted(Came::Task(id, Status::INTERNAL_SERVER_ERROR.into()))
                    }
                },
                Mail::Kept(number, response) => wanted(Came::Promised(number, response)),
                Mail::Connection(_) => wanted(Came::Piece),
                Mail::ToMaster(message) => {
                    self.backlog.passed_on(message.octets());
                    self.messages.push(message);
                    false
                }
            };
        }
        found
    }

    fn sleep(&self, deadline: Instant) {
        let now = Instant::now();
        assert!(now < deadline, "the handler has not answered within {PATIENCE:?}");
        let until = self.local.next_due().map_or(deadline, |due| due.min(deadline));
        let ms = until.saturating_duration_since(now).as_micros().div_ceil(1000) as i32;
        let mut fds = [PollFd::new(self.mailbox.bell(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX));
        self.mailbox.answer_bell();
    }
}

enum Came {
    Task(TaskId, Reply),
    Promised(u64, Response),
    Piece,
}

impl<H: Handler> Sending<'_, H> {
    /// Adds a header field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    /// Sends this body, with its length.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends the body in one chunk, its length unsaid.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Has the request answered, with all that comes later.
    ///
    /// # Panics
    /// If the handler does not answer within 10 seconds; or if it has sent what is no response.
    pub fn send(self) -> Answer {
        let Sending { client, method, mut head, body, chunked } = self;
        let request = match (chunked, body.is_empty() && !matches!(method, Method::Post | Method::Put)) {
            (true, _) => {
                head += &format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
                let end: &[u8] = if body.is_empty() { b"\r\n" } else { b"\r\n0\r\n\r\n" };
                [head.as_bytes(), &body, end].concat()
            }
            (false, true) => (head + "\r\n").into_bytes(),
            (false, false) => {
                head += &format!("Content-Length: {}\r\n\r\n", body.len());
                [head.as_bytes(), &body].concat()
            }
        };
        let talk = client.talk(&request);
        Answer::read(&talk.out, method, talk.cut)
    }
}

impl Answer {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header field of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The content.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The content as text.
    ///
    /// # Panics
    /// If it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text in UTF-8")
    }

    /// The connection ended in the middle of it: a stream failed, or its sender was dropped.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn read(mut octets: &[u8], method: Method, cut: bool) -> Answer {
        loop {
            let mut storage = [httparse::EMPTY_HEADER; 128];
            let mut head = httparse::Response::new(&mut storage);
            let parsed = head.parse(octets).expect("a well-formed answer");
            let httparse::Status::Complete(length) = parsed else {
                panic!("an answer was begun and not ended")
            };
            let status = head.code.unwrap_or_default();
            octets = &octets[length..];
            // RFC 9110 section 15.2: interim answers come before the final one
            if status < 200 {
                continue;
            }
            let fields: Vec<_> =
                head.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
            let mut answer = Answer { status, fields, body: Bytes::new(), cut };
            answer.body = answer.content(octets, method);
            return answer;
        }
    }

    fn content(&mut self, octets: &[u8], method: Method) -> Bytes {
        if method == Method::Head {
            return Bytes::new();
        }
        if self.header("transfer-encoding").is_none() {
            return Bytes::copy_from_slice(octets);
        }
        let mut content = Vec::new();
        let whole = Chunked::default().decode(octets, &mut content).is_ok_and(|step| step.done);
        self.cut |= !whole;
        content.into()
    }
}

fn conditions<'a>(date: &'a Date, tally: &'a Tally) -> Conditions<'a> {
    Conditions { date, draining: false, peer: None, max_body: MAX_BODY, tally, log: None }
}

/// What the ring does, on this thread.
fn perform(op: FileOp) -> FileDone {
    let (op, result) = match op {
        FileOp::Open { path, flags, mode } => {
            let opened = open(path.as_c_str(), OFlag::from_bits_retain(flags), Mode::from_bits_retain(mode));
            (FileOp::Open { path, flags, mode }, opened.map(FileOutcome::Opened))
        }
        FileOp::Read { file, mut buffer, offset } => {
            let before = buffer.len();
            buffer.resize(buffer.capacity(), 0);
            let read = pread(&file, &mut buffer[before..], offset as i64);
            buffer.truncate(before + read.unwrap_or(0));
            (FileOp::Read { file, buffer, offset }, read.map(FileOutcome::Octets))
        }
        FileOp::Write { file, octets, offset } => {
            let written = pwrite(&file, &octets, offset as i64);
            (FileOp::Write { file, octets, offset }, written.map(FileOutcome::Octets))
        }
        FileOp::Sync { file } => {
            let synced = fsync(&file);
            (FileOp::Sync { file }, synced.map(|()| FileOutcome::Octets(0)))
        }
    };
    FileDone { op, result }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;
    use crate::{InPieces, Reply, read_file, sleep};
    use std::io;

    #[test]
    fn answers_of_every_kind_come_whole() {
        let long = vec![b'x'; 1 << 20];
        let content = long.clone();
        let mut client = client(move |request: &Request<'_>| match request.path() {
            "/text" => Response::text("text").into(),
            "/long" => Response::bytes(content.clone()).into(),
            "/stream" => Response::stream(["a", "b"].map(|piece| Ok(piece.into()))).into(),
            "/cut" => Response::stream([Ok("a".into()), Err(io::Error::other("no more"))]).into(),
            "/later" => Reply::later(async {
                sleep(Duration::from_millis(20)).await;
                Response::text("later")
            }),
            "/file" => Reply::later(async {
                let content = read_file("Cargo.toml").await.unwrap_or_default();
                Response::bytes(content)
            }),
            "/promise" => {
                let (promise, reply) = Reply::promise();
                std::thread::spawn(move || promise.keep(Response::text("kept")));
                reply
            }
            "/channel" => {
                let (mut sender, response) = Response::channel();
                Reply::stream(response, async move {
                    for piece in ["a", "b", "c"] {
                        sleep(Duration::from_millis(1)).await;
                        sender.send(piece).await?;
                    }
                    sender.finish();
                    Ok(())
                })
            }
            "/then" => Reply::later(async {
                sleep(Duration::from_millis(1)).await;
                let (promise, reply) = Reply::promise();
                std::thread::spawn(move || promise.keep("kept in the end"));
                reply
            }),
            "/then-stream" => Reply::later(async {
                sleep(Duration::from_millis(1)).await;
                let (mut sender, response) = Response::channel();
                Reply::stream(response, async move {
                    sender.send("looked first").await?;
                    sender.finish();
                    Ok(())
                })
            }),
            "/then-later" => Reply::later(async {
                sleep(Duration::from_millis(1)).await;
                Reply::later(async {
                    sleep(Duration::from_millis(1)).await;
                    "twice"
                })
            }),
            "/dropped" => Response::channel().1.into(),
            "/panic" => panic!("on purpose"),
            _ => Status::NOT_FOUND.into(),
        });
        for (target, status, body, cut) in [
            ("/text", 200, "text", false),
            ("/stream", 200, "ab", false),
            ("/cut", 200, "a", true),
            ("/later", 200, "later", false),
            ("/promise", 200, "kept", false),
            ("/channel", 200, "abc", false),
            ("/then", 200, "kept in the end", false),
            ("/then-stream", 200, "looked first", false),
            ("/then-later", 200, "twice", false),
            ("/dropped", 200, "", true),
            ("/nothing", 404, "Not Found", false),
        ] {
            let answer = client.get(target);
            assert_eq!((answer.status(), answer.text(), answer.is_cut()), (status, body, cut), "{target}");
        }
        assert!(client.get("/long").body() == &long);
        assert_eq!(client.get("/panic").status(), 500);
        assert!(client.get("/file").text().contains("[package]"));
        let head = client.request(Method::Head, "/long").send();
        assert_eq!((head.header("content-length"), head.body().len()), (Some("1048576"), 0));
    }

    #[test]
    fn bodies_come_whole_or_in_pieces() {
        let echo = |request: &Request<'_>| Response::bytes(request.body().clone());
        let count = InPieces(|request: &Request<'_>| {
            let mut pieces = request.pieces();
            Reply::later(async move {
                let mut octets = 0;
                while let Some(Ok(piece)) = pieces.next().await {
                    octets += piece.len();
                }
                Response::text(octets.to_string())
            })
        });
        let (mut whole, mut pieces) = (client(echo), client(count));
        assert_eq!(whole.post("/", "content").text(), "content");
        assert_eq!(whole.request(Method::Put, "/").body("ab").chunked().send().text(), "ab");
        assert_eq!(whole.post("/", vec![0; 2 << 20]).status(), 413);
        assert_eq!(pieces.post("/", vec![0; 2 << 20]).text(), "2097152");
        assert_eq!(pieces.request(Method::Post, "/").body("abc").chunked().send().text(), "3");
        assert_eq!(pieces.get("/").text(), "0");
    }

    #[test]
    fn what_is_said_to_the_master_is_taken_and_counts_no_more() {
        let megabyte = "x".repeat(1 << 20);
        let mut client =
            client_of(|worker| move |_: &Request<'_>| worker.send(&megabyte).map(|()| Status::NO_CONTENT));
        for _ in 0..40 {
            assert_eq!(client.get("/").status(), 204);
            assert_eq!(client.messages().len(), 1);
        }
    }

    #[test]
    #[should_panic(expected = "the factory failed: no disk")]
    fn a_factory_that_fails_says_why() {
        client_of(|_| -> std::result::Result<fn(&Request<'_>) -> Response, &str> { Err("no disk") });
    }

    #[test]
    fn a_handler_hears_and_speaks() {
        #[derive(Default)]
        struct Heard(Vec<String>);
        impl Handler for Heard {
            fn handle(&mut self, _: &Request<'_>) -> Reply {
                Response::text(self.0.join(" ")).into()
            }

            fn message(&mut self, message: Message) {
                self.0.extend(message.read::<String>());
            }
        }
        let mut client = client(Heard::default());
        client.tell("one").unwrap();
        client.tell(2).unwrap();
        client.tell("three").unwrap();
        assert_eq!(client.get("/").text(), "one three");
        assert_eq!(client.handler().0.len(), 2);
    }
}
