//! A program as the guide would have it: a handler with state, JSON, answers that come later, contents in pieces, events,
//! files, messages both ways, and the hooks around a worker's end.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;
use uringd::sse::{self, Events};
use uringd::{
    Admission, Cluster, Event, Files, Handler, Json, Message, Method, Promise, Reply, Request, Response,
    Role, Status, Worker,
};

#[derive(serde::Deserialize)]
struct Order<'a> {
    product: &'a str,
    count: u32,
}

#[derive(serde::Serialize)]
struct Receipt {
    line: String,
    worker: u32,
}

struct Shop {
    worker: Worker,
    files: Files,
    jobs: mpsc::Sender<(u64, Promise)>,
    /// What all workers have sold, as the master says.
    sold: u64,
}

impl Shop {
    fn open(worker: Worker) -> Result<Shop, Box<dyn std::error::Error>> {
        let files = worker.files().ok_or("--root is missing")?;
        let (jobs, queue) = mpsc::channel::<(u64, Promise)>();
        worker.spawn_thread("sums", move || {
            for (n, promise) in queue {
                promise.keep(Response::text((1..=n).sum::<u64>().to_string()));
            }
        })?;
        Ok(Shop { worker, files, jobs, sold: 0 })
    }

    fn order(&mut self, request: &Request<'_>) -> Result<Response, Response> {
        let order: Order<'_> = request.json()?;
        if order.count == 0 {
            return Err(Response::text("none of it?").with_status(Status::UNPROCESSABLE_CONTENT));
        }
        self.worker.send(order.count).map_err(|_| Response::status(503))?;
        let line = format!("{} of {}", order.count, order.product);
        let receipt = Json(Receipt { line, worker: self.worker.id() });
        Ok(Response::from(receipt).with_status(Status::CREATED))
    }

    fn sum(&mut self, request: &Request<'_>) -> Reply {
        let n = request.query_value("n").and_then(|n| n.parse().ok()).unwrap_or(10);
        let (promise, reply) = Reply::promise();
        self.jobs.send((n, promise)).expect("the thread lives as long as its worker");
        reply
    }
}

impl Handler for Shop {
    fn admit(&mut self, head: &Request<'_>) -> Admission {
        match head.path() {
            "/upload" => Admission::Pieces,
            "/orders" => Admission::Collect,
            _ => Admission::Answer(Response::not_allowed("GET, HEAD")),
        }
    }

    fn handle(&mut self, request: &Request<'_>) -> Reply {
        match (request.method(), request.path()) {
            (Method::Post, "/orders") => self.order(request).into(),
            (Method::Put, "/upload") => upload(request),
            (_, "/sold") => Json(self.sold).into(),
            (_, "/sum") => self.sum(request),
            (_, "/later") => Reply::later(wait_and_read("/proc/self/comm".into())),
            (_, "/events") => count_down(request),
            _ => self.files.reply(request),
        }
    }

    fn message(&mut self, message: Message) {
        self.sold = message.read().unwrap_or(self.sold);
    }

    fn before_drain(&mut self) {
        say(&format!("closing worker {}\n", self.worker.id()));
    }

    fn after_drain(&mut self) {
        say(&format!("closed worker {}\n", self.worker.id()));
    }
}

fn upload(request: &Request<'_>) -> Reply {
    let mut pieces = request.pieces();
    Reply::later(async move {
        let mut octets = 0;
        while let Some(piece) = pieces.next().await {
            octets += piece?.len();
        }
        std::io::Result::Ok(Response::text(octets.to_string()))
    })
}

async fn wait_and_read(path: PathBuf) -> std::io::Result<Response> {
    uringd::sleep(Duration::from_millis(10)).await;
    uringd::read_file(path).await.map(Response::bytes)
}

fn count_down(request: &Request<'_>) -> Reply {
    let from = sse::last_event_id(request).and_then(|id| id.parse().ok()).unwrap_or(3);
    let (mut events, response) = Events::channel();
    Reply::stream(response, async move {
        for n in (0..from).rev() {
            events.send(sse::Event::data(format!("{n} left")).with_id(n.to_string())).await?;
        }
        Ok(())
    })
}

fn main() -> ExitCode {
    let cluster = Cluster::from_args();
    if Cluster::role() == Role::Master {
        eprintln!("opening");
    }
    let pool = cluster.pool();
    let mut sold = 0;
    let outcome = cluster
        .on_event(move |event| {
            if let Event::Message { message, .. } = event {
                sold += message.read::<u64>().unwrap_or(0);
                pool.broadcast(sold).expect("a number is a message");
            }
        })
        .run(Shop::open);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// In one write: the other worker writes to the same stderr, and `eprintln` writes piece by piece.
fn say(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}
