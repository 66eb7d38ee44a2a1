//! A live connection leaves one worker and enters another with nothing lost. The test is the master: it starts real
//! worker processes and speaks the channel's protocol to them.

mod common;

use common::*;
use serde_json::json;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uringd::config::{LogFormat, LogLevel, OnPanic, WorkerSettings};
use uringd::ipc::message::{Start, ToMaster, ToWorker, Travelling};
use uringd::ipc::{Channel, HandleKind, Received};

#[test]
fn released_in_the_middle_of_a_pipeline_the_rest_is_answered_in_order_by_another_worker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener: Arc<OwnedFd> = Arc::new(listener.into());
    let mut first = Worker::start(1);
    first.listen(&listener);

    let mut client = Client::connect(address);
    let requests = ["/hang?ms=500", "/pid", "/bytes?n=100000", "/hang?ms=50", "/pid"];
    let pipeline: String = requests.map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).concat();
    let (now, later) = pipeline.split_at(pipeline.len() - 9);
    // the first answer is owed when the connection is asked for; it comes from the first worker, the rest does not
    client.send_and_wait_until_read(now);
    first.channel.send_to_worker(&ToWorker::Release).unwrap();
    let (socket, travelling) = first.wait_for_connection();
    assert!(!travelling.unread.is_empty(), "the rest of the pipeline travels");
    assert_eq!(travelling.peer, Some(client.stream.local_addr().unwrap()));

    let mut second = Worker::start(2);
    second.channel.send_connection(&travelling, socket).unwrap();
    client.send(later);
    let answers: Vec<Answer> =
        requests.iter().map(|_| client.read_answer().expect("every answer comes")).collect();
    assert_eq!(answers[2].body.len(), 100_000);
    // the first worker answers what it owed (on a machine that stood still for a while, more), the second all the rest
    let by_first = |answer: &&Answer| answer.body.len() == 100_000 || answer.pid() == first.pid();
    let kept = answers.iter().take_while(by_first).count();
    assert!((1..answers.len()).contains(&kept), "{kept} answers of the first worker");
    for answer in answers[kept..].iter().filter(|answer| answer.body.len() != 100_000) {
        assert_eq!(answer.pid(), second.pid());
    }
    assert_eq!(client.get("/pid").pid(), second.pid(), "and it goes on there");
    let mut other = Client::connect(address);
    assert_eq!(other.get("/pid").pid(), first.pid(), "the first one serves its other clients");
}

#[test]
fn an_idle_connection_and_one_with_half_a_request_travel_back_and_forth() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener: Arc<OwnedFd> = Arc::new(listener.into());
    let mut workers = [Worker::start(1), Worker::start(2)];
    workers[0].listen(&listener);
    let mut client = Client::connect(address);
    assert_eq!(client.get("/pid").pid(), workers[0].pid());
    for round in 0..20 {
        let (from, to) = (round % 2, (round + 1) % 2);
        let half = round % 3 == 0;
        if half {
            client.send("GET /pid HT");
        }
        workers[from].channel.send_to_worker(&ToWorker::Release).unwrap();
        let (socket, travelling) = workers[from].wait_for_connection();
        workers[to].channel.send_connection(&travelling, socket).unwrap();
        client.send(if half { "TP/1.1\r\nHost: a\r\n\r\n" } else { "GET /pid HTTP/1.1\r\nHost: a\r\n\r\n" });
        assert_eq!(client.read_answer().unwrap().pid(), workers[to].pid(), "round {round}");
    }
}

/// What is left of a body must never be taken for a request by the next worker.
#[test]
fn a_connection_is_not_released_in_the_middle_of_a_body() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener: Arc<OwnedFd> = Arc::new(listener.into());
    let (mut first, mut second) = (Worker::start(1), Worker::start(2));
    first.listen(&listener);
    let mut client = Client::connect(address);
    let content = "GET /abort HTTP/1.1\r\nHost: a\r\n\r\n";
    let (now, later) = content.split_at(1);
    let length = content.len();
    client.send_and_wait_until_read(format!(
        "POST /pid HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{now}"
    ));
    first.channel.send_to_worker(&ToWorker::Release).unwrap();
    client.send(later);
    assert_eq!(client.read_answer().unwrap().pid(), first.pid());
    let (socket, travelling) = first.wait_for_connection();
    assert_eq!(travelling.unread, b"");
    second.channel.send_connection(&travelling, socket).unwrap();
    assert_eq!(client.get("/pid").pid(), second.pid());
}

/// It would never end by itself. What follows it in the pipeline is answered by the next worker.
#[test]
fn a_stream_of_events_ends_whole_and_its_connection_travels() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener: Arc<OwnedFd> = Arc::new(listener.into());
    let (mut first, mut second) = (Worker::start_with(Program::Events, 1, &[]), Worker::start(2));
    first.listen(&listener);
    let mut client = Client::connect(address);
    client.send("GET /events?ms=3600000 HTTP/1.1\r\nHost: a\r\n\r\nGET /pid HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_head().unwrap().header("content-type"), Some("text/event-stream"));
    let line = client.read_octets(4).unwrap();
    let octets = usize::from_str_radix(std::str::from_utf8(&line[..2]).unwrap(), 16).unwrap();
    client.read_octets(octets + 2).unwrap();
    first.channel.send_to_worker(&ToWorker::Release).unwrap();
    assert_eq!(client.read_octets(5).unwrap(), b"0\r\n\r\n");
    let (socket, travelling) = first.wait_for_connection();
    second.channel.send_connection(&travelling, socket).unwrap();
    assert_eq!(client.read_answer().unwrap().pid(), second.pid());
}

/// A program's socket is the handler's to decide about, whatever is said with it; a connection on its way is not. And what
/// the program says to a worker that has not been told how to serve yet waits for it.
#[test]
fn the_handler_is_asked_about_a_programs_socket_and_not_about_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepted: Arc<OwnedFd> = Arc::new(listener.try_clone().unwrap().into());
    let mut first = Worker::start(1);
    first.listen(&accepted);
    let mut client = Client::connect(address);
    assert_eq!(client.get("/pid").pid(), first.pid());
    first.channel.send_to_worker(&ToWorker::Release).unwrap();
    let (socket, travelling) = first.wait_for_connection();
    drop(first);

    let mut second = Worker::start_with(Program::Messages, 2, &[json!({"Total": 7})]);
    let story = serde_json::to_value(&travelling).unwrap();
    second.channel.send_connection(&travelling, socket).unwrap();
    second.flush();
    assert!(client.get("/sockets").text().starts_with("sockets 0, "));
    assert!(client.get("/total").text().starts_with("total 7, "));

    listener.set_nonblocking(false).unwrap();
    for (number, message) in [json!("conn"), story, json!(null)].into_iter().enumerate() {
        let mut client = Client::connect(address);
        let socket = OwnedFd::from(listener.accept().unwrap().0);
        second.channel.send_handle(HandleKind::Socket, message, socket).unwrap();
        second.flush();
        assert!(client.get("/sockets").text().starts_with(&format!("sockets {}, ", number + 1)));
    }
}

/// A worker process, with this test for a master.
struct Worker {
    child: Child,
    channel: Channel,
}

impl Worker {
    fn start(id: u32) -> Worker {
        Worker::start_with(Program::Faulty, id, &[])
    }

    /// `early` is said before it is told how to serve.
    fn start_with(program: Program, id: u32, early: &[serde_json::Value]) -> Worker {
        let (mut channel, theirs) = Channel::pair().unwrap();
        // its end arrives as standard input; the shell makes it descriptor 3 and becomes the program
        let mut command = Command::new("sh");
        command.args(["-c", "exec 3<&0 </dev/null; exec \"$0\""]).arg(program.path());
        command.env("URINGD_WORKER", std::process::id().to_string()).env("NODE_CHANNEL_FD", "3");
        let child = command.stdin(Stdio::from(theirs)).stderr(Stdio::null()).spawn().unwrap();
        let settings = WorkerSettings {
            user: None,
            kill_timeout: Duration::from_secs(5),
            on_panic: OnPanic::Suicide,
            max_connections: 16,
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(10),
            max_body: 1 << 20,
            body_timeout: Duration::from_secs(10),
            body_rate: 0,
            server_header: true,
            files: None,
            access_log: None,
            log_format: LogFormat::Text,
            log_level: LogLevel::Debug,
        };
        let start = Start { id, slot: id as usize, core: None, listeners: vec!["test".into()], settings };
        early.iter().for_each(|message| channel.send_plain(message).unwrap());
        channel.send_to_worker(&ToWorker::Start(start)).unwrap();
        let mut worker = Worker { child, channel };
        worker.wait(|received| matches!(ToMaster::read(received), Ok(Some(ToMaster::Online { .. }))));
        worker
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn listen(&mut self, listener: &Arc<OwnedFd>) {
        self.channel.send_handle(HandleKind::Server, json!("server"), Arc::clone(listener)).unwrap();
        self.wait(|received| ToMaster::read(received) == Ok(Some(ToMaster::Listening { listener: 0 })));
    }

    fn wait_for_connection(&mut self) -> (OwnedFd, Travelling) {
        match self.wait(|received| matches!(received, Received::Connection { .. })) {
            Received::Connection { travelling, socket } => (socket, travelling),
            other => panic!("{other:?}"),
        }
    }

    /// Until it has all.
    fn flush(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.channel.is_idle() {
            assert!(Instant::now() < deadline, "the worker does not take it");
            self.channel.flush().unwrap();
            self.channel.receive().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait(&mut self, wanted: impl Fn(&Received) -> bool) -> Received {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.channel.flush().unwrap();
            if let Some(found) = self.channel.receive().unwrap().into_iter().find(&wanted) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the worker does not say it");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
