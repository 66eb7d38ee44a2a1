//! Work for an async runtime: requests go to tokio by a channel, with a promise each, and a client of its world (reqwest)
//! asks another server.
//!
//! ```text
//! cargo run --example mirror -- --port 1338
//! cargo run --example offload -- --port 1337
//! curl http://127.0.0.1:1337/any/path
//! curl http://127.0.0.1:1337/in-flight
//! ```
//!
//! | path | what it does |
//! |---|---|
//! | `/in-flight` | how many promises this worker has open |
//! | any other | what the upstream answers to a GET of this path: its status, its content and what type that has |
//!
//! | variable | default | what it says |
//! |---|---|---|
//! | `OFFLOAD_UPSTREAM` | `http://127.0.0.1:1338/` | the server that is asked |
//! | `OFFLOAD_TIMEOUT_MS` | `30000` | how long a client waits at most |
//!
//! An upstream that cannot be reached, breaks off or says more than 1 MiB is 502, one that takes too long 504, and a
//! worker with too many promises open answers 503.
//!
//! A worker's own thread is pinned to a core, and a thread inherits that from the one that starts it: hence
//! `worker.spawn_thread`, for the runtime and whatever threads that starts.

use reqwest::{Client, Url};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};
use uringd::{Cluster, Error, Handler, Method, Promise, Reply, Request, Response, Status, Worker};

/// Connections to the upstream, of each worker.
const UPSTREAM_CONNECTIONS_MAX: usize = 64;
/// Promises that wait for one of those; one more is 503.
const WAITING_MAX: usize = 16 * 1024;
/// Octets of what the upstream says; more is 502.
const CONTENT_OCTETS_MAX: usize = 1 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn run() -> uringd::Result<()> {
    let cluster = Cluster::from_args();
    let upstream = variable("OFFLOAD_UPSTREAM", "http://127.0.0.1:1338/", |text| {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if url.scheme() == "http" { Ok(url) } else { Err("it must begin with http://".to_owned()) }
    })?;
    let timeout = variable("OFFLOAD_TIMEOUT_MS", "30000", |text| {
        text.parse().map(Duration::from_millis).map_err(|_| "expected milliseconds".to_owned())
    })?;
    cluster.run(move |worker| Offload::start(&worker, upstream, timeout))
}

fn variable<T>(name: &str, default: &str, read: impl Fn(&str) -> Result<T, String>) -> uringd::Result<T> {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
    read(&text).map_err(|problem| Error::config(format!("{name}={text}"), problem))
}

struct Offload {
    upstream: Url,
    timeout: Duration,
    jobs: mpsc::Sender<Job>,
    /// Every job has one as well, so that they are counted.
    open: Arc<()>,
}

/// A request for the upstream, and the duty to answer it.
struct Job {
    url: Url,
    deadline: Instant,
    promise: Promise,
    open: Arc<()>,
}

impl Offload {
    fn start(worker: &Worker, upstream: Url, timeout: Duration) -> io::Result<Offload> {
        let (jobs, receiver) = mpsc::channel(WAITING_MAX);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        worker.spawn_thread("upstream", move || work(&runtime, receiver))?;
        Ok(Offload { upstream, timeout, jobs, open: Arc::new(()) })
    }

    fn ask(&self, request: &Request<'_>) -> Reply {
        let mut url = self.upstream.clone();
        url.set_path(request.path());
        url.set_query(request.query());
        let (promise, reply) = Reply::promise();
        let job = Job { url, deadline: Instant::now() + self.timeout, promise, open: self.open.clone() };
        if let Err(refused) = self.jobs.try_send(job) {
            refused.into_inner().promise.keep(Status::SERVICE_UNAVAILABLE);
        }
        reply
    }
}

impl Handler for Offload {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        match (request.method(), request.path()) {
            (Method::Get | Method::Head, "/in-flight") => {
                Response::text(format!("{}\n", Arc::strong_count(&self.open) - 1)).into()
            }
            (Method::Get | Method::Head, _) => self.ask(request),
            _ => Response::not_allowed("GET, HEAD").into(),
        }
    }
}

/// The runtime's thread: takes a job when there is a connection for it. The others wait in the channel.
fn work(runtime: &Runtime, mut jobs: mpsc::Receiver<Job>) {
    let client = Client::builder().no_proxy().pool_max_idle_per_host(UPSTREAM_CONNECTIONS_MAX);
    let client = client.build().expect("a client without TLS has nothing to fail with");
    let connections = Arc::new(Semaphore::new(UPSTREAM_CONNECTIONS_MAX));
    runtime.block_on(async {
        while let Some(job) = jobs.recv().await {
            let connection = connections.clone().acquire_owned().await.expect("it is never closed");
            if !job.promise.is_wanted() {
                continue; // its client has gone while it stood in line
            }
            let client = client.clone();
            tokio::spawn(async move {
                let response = fetch(&client, &job).await.unwrap_or_else(failure);
                drop((connection, job.open));
                job.promise.keep(response);
            });
        }
    });
}

async fn fetch(client: &Client, job: &Job) -> reqwest::Result<Response> {
    let left = job.deadline.saturating_duration_since(Instant::now());
    let mut answer = client.get(job.url.clone()).timeout(left).send().await?;
    let mut content = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if content.len() + piece.len() > CONTENT_OCTETS_MAX {
            return Ok(Response::text("the upstream says too much\n").with_status(Status::BAD_GATEWAY));
        }
        content.extend_from_slice(&piece);
    }
    let content_type = answer.headers().get("Content-Type").map_or(&b""[..], |value| value.as_bytes());
    let response = Response::bytes(content).with_status(answer.status().as_u16());
    Ok(response.with_header("Content-Type", content_type.to_owned()))
}

fn failure(error: reqwest::Error) -> Response {
    if error.is_timeout() {
        return Response::text("the upstream takes too long\n").with_status(Status::GATEWAY_TIMEOUT);
    }
    tracing::warn!(?error, "the upstream failed");
    Response::text("the upstream cannot be reached, or broke off\n").with_status(Status::BAD_GATEWAY)
}
