//! Messages between the master and its workers, and sockets too: a program in both processes at once.
//!
//! ```text
//! cargo run --example messages -- --port 1337
//! curl http://127.0.0.1:1337/
//! curl http://127.0.0.1:1337/total
//! ```
//!
//! Workers count requests and tell the master; the master adds up and tells all of them the total, so that whichever is
//! asked knows it. The master also accepts connections itself, at a door of its own (its address is printed;
//! `MESSAGES_DOOR=ADDRESS:PORT` chooses it), and hands each to the next worker in turn.
//!
//! | path | what it does |
//! |---|---|
//! | `/` | is counted |
//! | `/total` | how often `/` was asked, in all workers together |
//! | `/sockets` | how many sockets the master has sent to this worker |
//! | `/disconnect` | asks the master to replace this worker |
//! | `/kill` | asks the master to kill this worker |
//! | `/echo?n=N&size=S` | sends N messages of S octets to the master, which sends them back; answers what came |
//! | `/tell?worker=ID&n=N&size=S` | asks the master to send N messages of S octets to that worker |
//! | `/tell?worker=ID&text=panic` | the same with a text; that worker panics |
//! | `/refused` | tries to send what may not be sent; answers why |
//!
//! Each answer ends with the process ID of the worker that gave it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use uringd::{
    Cluster, Event, Handler, Message, Pool, Promise, Reply, Request, Response, Status, Worker, WorkerId,
    WorkerRef,
};

/// What workers say.
#[derive(Serialize, Deserialize)]
enum ToMaster {
    Counted,
    Disconnect,
    Kill,
    Ball(Ball),
    Tell { worker: WorkerId, n: u64, text: String },
}

/// What the master says.
#[derive(Serialize, Deserialize)]
enum ToWorker {
    Total(u64),
    Ball(Ball),
    Text(String),
}

/// A message that goes to the master and comes back.
#[derive(Serialize, Deserialize)]
struct Ball {
    game: u64,
    number: u64,
    weight: String,
}

fn main() -> ExitCode {
    let cluster = Cluster::from_args();
    let mut master = Master { pool: cluster.pool(), total: 0, listening: Arc::default() };
    match cluster.on_event(move |event| master.hear(event)).run(Counter::new) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// The program in the master.
struct Master {
    pool: Pool,
    total: u64,
    listening: Arc<Mutex<Listening>>,
}

/// Who listens, by slot: a replacement takes its predecessor's, which then leaves.
type Listening = BTreeMap<usize, WorkerId>;

impl Master {
    fn hear(&mut self, event: &Event) {
        match event {
            // not before: from here on the signals are the master's loop's
            Event::Setup { .. } => self.open_door(),
            // a broadcast before it was online has not reached it
            Event::Online(worker) => self.say(worker.id, &ToWorker::Total(self.total)),
            Event::Listening(worker) => drop(self.listening.lock().unwrap().insert(worker.slot, worker.id)),
            Event::Disconnect(worker) => self.listening.lock().unwrap().retain(|_, id| *id != worker.id),
            Event::Message { worker, message, .. } => match message.read() {
                Ok(message) => self.told(worker, message),
                Err(error) => eprintln!("worker {}: {error}", worker.id),
            },
            _ => {}
        }
    }

    fn told(&mut self, from: &WorkerRef, message: ToMaster) {
        match message {
            ToMaster::Counted => {
                self.total += 1;
                self.pool.broadcast(ToWorker::Total(self.total)).unwrap_or_else(complain);
            }
            ToMaster::Disconnect => self.pool.disconnect(from.id),
            ToMaster::Kill => self.pool.kill(from.id, 9),
            ToMaster::Ball(ball) => self.say(from.id, &ToWorker::Ball(ball)),
            ToMaster::Tell { worker, n, text } => {
                let text = ToWorker::Text(text);
                (0..n).for_each(|_| self.say(worker, &text));
            }
        }
    }

    fn say(&self, to: WorkerId, what: &ToWorker) {
        self.pool.send(to, what).unwrap_or_else(complain);
    }

    fn open_door(&self) {
        let address = std::env::var("MESSAGES_DOOR").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
        let door = match TcpListener::bind(&address) {
            Ok(door) => door,
            Err(error) => return eprintln!("there is no door at {address}: {error}"),
        };
        if let Ok(address) = door.local_addr() {
            eprintln!("door {address}");
        }
        let (pool, listening) = (self.pool.clone(), Arc::clone(&self.listening));
        thread::spawn(move || {
            for (turn, client) in door.incoming().flatten().enumerate() {
                let workers: Vec<WorkerId> = listening.lock().unwrap().values().copied().collect();
                if let Some(worker) = workers.get(turn % workers.len().max(1)) {
                    pool.send_socket(*worker, "door", client).unwrap_or_else(complain);
                }
            }
        });
    }
}

fn complain(error: uringd::Error) {
    eprintln!("{error}");
}

/// The program in a worker.
struct Counter {
    worker: Worker,
    total: u64,
    sockets: u64,
    games: u64,
    game: Option<Game>,
}

/// Whose balls are on their way.
struct Game {
    promise: Promise,
    number: u64,
    balls: u64,
    back: u64,
    octets: usize,
}

impl Counter {
    fn new(worker: Worker) -> Counter {
        Counter { worker, total: 0, sockets: 0, games: 0, game: None }
    }

    fn tell(&self, what: &ToMaster, answer: &str) -> Reply {
        self.worker.send(what).map(|()| text(answer)).into()
    }

    fn echo(&mut self, balls: u64, weight: &str) -> Result<Reply, uringd::Error> {
        self.games += 1;
        for number in 0..balls {
            self.worker.send(ToMaster::Ball(Ball { game: self.games, number, weight: weight.to_owned() }))?;
        }
        let (promise, reply) = Reply::promise();
        self.game = Some(Game { promise, number: self.games, balls, back: 0, octets: 0 });
        Ok(reply)
    }

    /// They come back in the order in which they went.
    fn caught(&mut self, ball: &Ball) {
        let Some(mut game) = self.game.take_if(|game| game.number == ball.game) else { return };
        if ball.number != game.back {
            return game.promise.keep(text(format!("{} instead of {}", ball.number, game.back)));
        }
        game.back += 1;
        game.octets += ball.weight.len();
        if game.back == game.balls {
            let came = format!("{} back in order, {} octets", game.back, game.octets);
            return game.promise.keep(text(came));
        }
        self.game = Some(game);
    }
}

impl Handler for Counter {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        let heavy = || "x".repeat(number(request, "size").unwrap_or(0) as usize);
        match request.path() {
            "/" => self.tell(&ToMaster::Counted, "counted"),
            "/total" => text(format!("total {}", self.total)).into(),
            "/sockets" => text(format!("sockets {}", self.sockets)).into(),
            "/disconnect" => self.tell(&ToMaster::Disconnect, "asked to be replaced"),
            "/kill" => self.tell(&ToMaster::Kill, "asked to be killed"),
            "/echo" => self.echo(number(request, "n").unwrap_or(1).max(1), &heavy()).into(),
            "/tell" => {
                let worker = number(request, "worker").unwrap_or(0) as WorkerId;
                let text = field(request, "text").map_or_else(heavy, str::to_owned);
                let n = number(request, "n").unwrap_or(1);
                self.tell(&ToMaster::Tell { worker, n, text }, "asked to tell")
            }
            "/refused" => match self.worker.send(serde_json::json!({"cmd": "NODE_HANDLE_ACK"})) {
                Ok(()) => text("it was sent").into(),
                Err(error) => text(error.to_string()).into(),
            },
            _ => Status::NOT_FOUND.into(),
        }
    }

    fn message(&mut self, message: Message) {
        match message.read() {
            Ok(ToWorker::Total(total)) => self.total = total,
            Ok(ToWorker::Ball(ball)) => self.caught(&ball),
            Ok(ToWorker::Text(text)) => assert!(text != "panic", "told to"),
            Err(error) => eprintln!("the master: {error}"),
        }
    }

    fn socket(&mut self, socket: OwnedFd, _message: Message) -> Option<OwnedFd> {
        self.sockets += 1;
        Some(socket)
    }
}

fn text(what: impl AsRef<str>) -> Response {
    Response::text(format!("{}, pid is {}\n", what.as_ref(), std::process::id()))
}

fn field<'a>(request: &'a Request<'_>, name: &str) -> Option<&'a str> {
    let pairs = request.query().unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
}

fn number(request: &Request<'_>, name: &str) -> Option<u64> {
    field(request, name)?.parse().ok()
}
