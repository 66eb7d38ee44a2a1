//! What can be asked of a running master, path by path, and what is answered. All is JSON, but for what other programs
//! read in forms of their own; an error is `{"error": "one line"}`.
//!
//! Neighbours: `connection` has the requests, `view`, `metrics` and `health` make the answers, `master::ask` gets the
//! orders to the loop.

use super::{health, metrics, view};
use crate::http::{Method, Request, Response, Status as Code};
use crate::master::ask::{Ask, Ended, Follower, Reply, Status, Unmet, WorkerStatus};
use crate::master::{Pool, latency};
use crate::stats::Stats;
use crate::stats::report::{self, Unit};
use crate::sys::process::rss_anon;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::mpsc::{RecvTimeoutError, channel, sync_channel};
use std::time::Duration;
use std::{io, iter};

/// How long the loop may take to say how things are. It waits for nothing; where it takes longer, `on_event` blocks.
const LOOP_PATIENCE: Duration = Duration::from_secs(10);

/// The same for a master that is to count as alive.
const LIVE_PATIENCE: Duration = Duration::from_secs(1);

/// Events that wait for a follower who reads slowly; he is told how many he has missed.
const EVENTS_MAX: usize = 1024;

/// How often it is looked whether a follower is there still.
const FOLLOWER_LOOK: Duration = Duration::from_millis(500);

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Root, or the user whose server it is: may ask everything.
    Operator,
    /// Some other user, who has come as far as the control socket: may ask nothing.
    Stranger,
    /// Anybody who reaches the metrics address.
    Public,
}

/// Why something cannot be answered otherwise.
type Problem = (Code, String);

/// One thing that can be asked.
struct Route {
    method: &'static str,
    /// With the name of its last segment, if that is an argument.
    path: &'static str,
    argument: &'static str,
    public: bool,
    what: &'static str,
    answer: fn(&Asked<'_>) -> Result<Response, Problem>,
}

/// A request that has found its route.
struct Asked<'a> {
    pool: &'a Pool,
    rights: Rights,
    request: &'a Request<'a>,
    argument: &'a str,
}

const ROUTES: [Route; 12] = [
    get("/", true, "this list", |asked| Ok(index(asked.rights))),
    get("/status", false, "the master, its workers, and what they have counted", status),
    get("/events", false, "each event from now on, as a line", events),
    get("/latency", false, "latencies by slot; ?format=json, table or hgrm (of all)", latencies),
    get("/config", false, "the options in force, and where each value came from", config),
    get("/metrics", true, "the numbers for Prometheus", metrics),
    get("/health/live", true, "200 if the master's loop answers within a second, else 503", live),
    get(
        "/health/ready",
        true,
        "200 if workers listen, nothing stops and nothing was given up, else 503",
        ready,
    ),
    post(
        "/reload",
        "",
        "read the configuration again and replace all workers; answered when that is over",
        reload,
    ),
    post(
        "/restart/",
        "SLOT",
        "replace the worker in this slot; answered when its replacement listens",
        restart,
    ),
    post("/scale/", "N", "have so many workers", scale),
    post("/stop", "", "finish what is in flight, then end", stop),
];

const fn get(
    path: &'static str,
    public: bool,
    what: &'static str,
    answer: fn(&Asked<'_>) -> Result<Response, Problem>,
) -> Route {
    Route { method: "GET", path, argument: "", public, what, answer }
}

const fn post(
    path: &'static str,
    argument: &'static str,
    what: &'static str,
    answer: fn(&Asked<'_>) -> Result<Response, Problem>,
) -> Route {
    Route { method: "POST", path, argument, public: false, what, answer }
}

impl Route {
    /// The argument, if this is the path's route.
    fn matches<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self.argument {
            "" => (path == self.path).then_some(""),
            _ => path.strip_prefix(self.path),
        }
    }

    fn allow(&self) -> &'static str {
        if self.method == "GET" { "GET, HEAD" } else { "POST" }
    }

    fn takes(&self, method: Method) -> bool {
        match self.method {
            "GET" => matches!(method, Method::Get | Method::Head),
            _ => method == Method::Post,
        }
    }
}

/// Answers, and waits for what must be waited for.
pub fn answer(request: &Request<'_>, rights: Rights, pool: &Pool) -> Response {
    if rights == Rights::Stranger {
        return problem((Code::FORBIDDEN, "only root and the user who started uringd may ask".to_owned()));
    }
    let path = request.path();
    let mut routes = ROUTES.iter().filter(|route| may(rights, route));
    let Some((route, argument)) = routes.find_map(|route| Some((route, route.matches(path)?))) else {
        return problem((Code::NOT_FOUND, format!("there is no {path}, GET / lists what there is")));
    };
    if !route.takes(request.method()) {
        let line = format!("{} is asked with {}", route.path, route.method);
        return problem((Code::METHOD_NOT_ALLOWED, line)).with_header("Allow", route.allow());
    }
    (route.answer)(&Asked { pool, rights, request, argument }).unwrap_or_else(problem)
}

fn may(rights: Rights, route: &Route) -> bool {
    match rights {
        Rights::Operator => true,
        Rights::Public => route.public,
        Rights::Stranger => false,
    }
}

/// The answer that says why there is no other.
pub fn problem((code, line): Problem) -> Response {
    of_json(&json!({ "error": line })).with_status(code)
}

fn of_json(value: &Value) -> Response {
    Response::text(format!("{value}\n")).with_content_type("application/json")
}

fn index(rights: Rights) -> Response {
    let routes = ROUTES.iter().filter(|route| may(rights, route));
    let paths = routes
        .map(|route| (format!("{} {}{}", route.method, route.path, route.argument), Value::from(route.what)));
    of_json(&json!({ "uringd": env!("CARGO_PKG_VERSION"), "paths": Value::Object(paths.collect()) }))
}

// ---- what is ----

fn status(asked: &Asked<'_>) -> Result<Response, Problem> {
    let status = asked.status(LOOP_PATIENCE)?;
    Ok(of_json(&view::status(&status, asked.pool)))
}

fn config(asked: &Asked<'_>) -> Result<Response, Problem> {
    let origins = asked.look(Ask::Config, LOOP_PATIENCE)?;
    Ok(of_json(&json!({ "settings": origins })))
}

fn latencies(asked: &Asked<'_>) -> Result<Response, Problem> {
    let form = asked.request.query_value("format");
    let slots = asked.pool.stats_by_slot();
    match form.as_deref().unwrap_or("json") {
        "json" => Ok(of_json(&view::latencies(&slots))),
        "table" => Ok(written(|text| latency::table(&slots, text))),
        "hgrm" => {
            let all: Stats = slots.values().sum();
            let unit = Unit::Nanoseconds.per_microsecond();
            Ok(written(|text| report::hgrm(all.latency.histogram(), unit, text)))
        }
        other => Err((Code::BAD_REQUEST, format!("format={other}: expected json, table or hgrm"))),
    }
}

fn metrics(asked: &Asked<'_>) -> Result<Response, Problem> {
    let status = asked.status(LOOP_PATIENCE)?;
    let memory_of = |worker: &WorkerStatus| Some((worker.slot, rss_anon(worker.pid)?));
    let facts = metrics::Facts {
        status: &status,
        slots: &asked.pool.stats_by_slot(),
        master_memory: rss_anon(status.pid as i32),
        worker_memory: &status.workers.iter().filter_map(memory_of).collect::<Vec<_>>(),
    };
    Ok(Response::text(metrics::render(&facts)).with_content_type(metrics::CONTENT_TYPE))
}

/// Text for people and for other programs.
fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Response {
    let mut text = Vec::new();
    write(&mut text).expect("memory takes everything");
    Response::text(text)
}

fn live(asked: &Asked<'_>) -> Result<Response, Problem> {
    asked.status(LIVE_PATIENCE)?;
    Ok(of_json(&json!({ "live": true })))
}

fn ready(asked: &Asked<'_>) -> Result<Response, Problem> {
    let status = asked.status(LIVE_PATIENCE)?;
    health::ready(&status).map_err(unavailable)?;
    Ok(of_json(&json!({ "ready": true })))
}

fn events(asked: &Asked<'_>) -> Result<Response, Problem> {
    let (sender, lines) = sync_channel(EVENTS_MAX);
    asked.pool.ask(Ask::Follow(Follower::new(sender)));
    let pieces = iter::from_fn(move || match lines.recv_timeout(FOLLOWER_LOOK) {
        Ok(line) => Some(Ok(Bytes::copy_from_slice(line.as_bytes()))),
        Err(RecvTimeoutError::Timeout) => Some(Ok(Bytes::new())),
        Err(RecvTimeoutError::Disconnected) => None,
    });
    Ok(Response::stream(pieces).with_content_type("application/x-ndjson"))
}

// ---- what is to be done ----

fn reload(asked: &Asked<'_>) -> Result<Response, Problem> {
    asked.order(Ask::Reload)
}

fn restart(asked: &Asked<'_>) -> Result<Response, Problem> {
    let slot = asked.number()?;
    asked.order(|reply| Ask::Restart { slot, reply })
}

fn scale(asked: &Asked<'_>) -> Result<Response, Problem> {
    let workers = asked.number()?;
    asked.order(|reply| Ask::Scale { workers, reply })
}

fn stop(asked: &Asked<'_>) -> Result<Response, Problem> {
    asked.order(Ask::Stop)
}

impl Asked<'_> {
    fn status(&self, patience: Duration) -> Result<Status, Problem> {
        self.look(Ask::Status, patience)
    }

    /// What the loop answers at once.
    fn look<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask, patience: Duration) -> Result<T, Problem> {
        let (reply, answer) = channel();
        self.pool.ask(ask(reply));
        answer.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                unavailable(format!("the master's loop does not answer within {patience:?}"))
            }
            RecvTimeoutError::Disconnected => over(),
        })
    }

    /// Waits for the end, which the loop's own timers bring about.
    fn order(&self, ask: impl FnOnce(Reply<Ended>) -> Ask) -> Result<Response, Problem> {
        let (reply, answer) = channel();
        self.pool.ask(ask(reply));
        match answer.recv().map_err(|_| over())? {
            Ok(line) => Ok(of_json(&json!({ "done": line }))),
            Err(Unmet::Refused(line)) => Err((Code::CONFLICT, line)),
            Err(Unmet::Failed(line)) => Err((Code::INTERNAL_SERVER_ERROR, line)),
        }
    }

    fn number(&self) -> Result<usize, Problem> {
        let wrong = || format!("{:?}: expected a whole number", self.argument);
        self.argument.parse().map_err(|_| (Code::BAD_REQUEST, wrong()))
    }
}

fn unavailable(line: String) -> Problem {
    (Code::SERVICE_UNAVAILABLE, line)
}

fn over() -> Problem {
    unavailable("the server is stopping".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, Origins};
    use crate::master::control::tests::status;

    fn ask(method: Method, path: &str, rights: Rights, pool: &Pool) -> (u16, String, Option<String>) {
        let pool = pool.clone();
        let mut client =
            crate::test::client(move |request: &Request<'_>| super::answer(request, rights, &pool));
        let answer = client.request(method, path).send();
        (answer.status(), answer.text().to_owned(), answer.header("allow").map(str::to_owned))
    }

    /// Answers as a loop would, with this status, until the pool is dropped.
    fn pool_that_says(said: Status) -> Pool {
        let pool = Pool::new();
        let orders = pool.open().unwrap();
        std::thread::spawn(move || {
            loop {
                for ask in orders.take_asked() {
                    match ask {
                        Ask::Status(reply) => drop(reply.send(said.clone())),
                        Ask::Config(reply) => drop(reply.send(Origins::of_code(&Options::default()))),
                        Ask::Reload(reply) => drop(reply.send(Err(Unmet::Failed("no".to_owned())))),
                        Ask::Scale { workers, reply } => drop(reply.send(Ok(format!("{workers}")))),
                        Ask::Restart { reply, .. } => {
                            drop(reply.send(Err(Unmet::Refused("none".to_owned()))))
                        }
                        Ask::Stop(reply) => drop(reply),
                        Ask::Follow(mut follower) => drop(follower.tell(&"{}\n".into())),
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        pool
    }

    #[test]
    fn every_path_answers_whom_it_may_and_says_what_is_wrong() {
        let pool = pool_that_says(status());
        let table = [
            (Method::Get, "/", Rights::Operator, 200, "GET /status"),
            (Method::Get, "/status", Rights::Operator, 200, "\"wanted\":2"),
            (Method::Get, "/status?x=1", Rights::Operator, 200, "\"total\""),
            (Method::Get, "/latency", Rights::Operator, 200, "\"p99_9_us\":0"),
            (Method::Get, "/latency?format=table", Rights::Operator, 200, "p99.9"),
            (Method::Get, "/latency?format=hgrm", Rights::Operator, 200, "Total count"),
            (Method::Get, "/latency?format=xml", Rights::Operator, 400, "expected json, table or hgrm"),
            (Method::Get, "/events", Rights::Operator, 200, "{}"),
            (Method::Get, "/metrics", Rights::Operator, 200, "# TYPE uringd_requests_total counter"),
            (Method::Get, "/config", Rights::Operator, 200, "\"name\":\"kill-timeout\""),
            (Method::Get, "/health/live", Rights::Operator, 200, "true"),
            (Method::Get, "/health/ready", Rights::Operator, 503, "no worker listens"),
            (Method::Post, "/reload", Rights::Operator, 500, "{\"error\":\"no\"}"),
            (Method::Post, "/restart/0", Rights::Operator, 409, "none"),
            (Method::Post, "/restart/x", Rights::Operator, 400, "expected a whole number"),
            (Method::Post, "/restart/", Rights::Operator, 400, "expected a whole number"),
            (Method::Post, "/scale/3", Rights::Operator, 200, "{\"done\":\"3\"}"),
            (Method::Post, "/stop", Rights::Operator, 503, "stopping"),
            (Method::Get, "/nothing", Rights::Operator, 404, "there is no /nothing"),
            (Method::Get, "/", Rights::Public, 200, "GET /metrics"),
            (Method::Get, "/metrics", Rights::Public, 200, "uringd_pool_requests_total 0"),
            (Method::Get, "/health/live", Rights::Public, 200, "true"),
            (Method::Get, "/health/ready", Rights::Public, 503, "no worker listens"),
            (Method::Get, "/status", Rights::Public, 404, "there is no /status"),
            (Method::Post, "/stop", Rights::Public, 404, "there is no /stop"),
            (Method::Get, "/", Rights::Stranger, 403, "only root"),
            (Method::Post, "/stop", Rights::Stranger, 403, "only root"),
        ];
        for (method, path, rights, code, part) in table {
            let (status, text, _) = ask(method, path, rights, &pool);
            assert!(status == code && text.contains(part), "{method:?} {path} {rights:?}: {status} {text}");
            assert!(code == 200 || serde_json::from_str::<Value>(&text).unwrap()["error"].is_string());
        }
        for (method, path, allow) in [(Method::Post, "/status", "GET, HEAD"), (Method::Get, "/stop", "POST")]
        {
            let (status, _, allowed) = ask(method, path, Rights::Operator, &pool);
            assert_eq!((status, allowed.as_deref()), (405, Some(allow)));
        }
        assert_eq!(ask(Method::Head, "/status", Rights::Operator, &pool).0, 200);
    }

    #[test]
    fn a_loop_that_does_not_answer_is_not_alive_and_one_that_is_over_says_so() {
        let pool = Pool::new();
        let orders = pool.open().unwrap();
        let (status, text, _) = ask(Method::Get, "/health/live", Rights::Public, &pool);
        assert!(status == 503 && text.contains("does not answer within 1s"), "{text}");
        drop(orders);
        for (method, path) in
            [(Method::Get, "/status"), (Method::Get, "/health/ready"), (Method::Post, "/stop")]
        {
            let (status, text, _) = ask(method, path, Rights::Operator, &pool);
            assert!(status == 503 && text.contains("stopping"), "{path}: {text}");
        }
        assert_eq!(ask(Method::Get, "/events", Rights::Operator, &pool).1, "");
    }
}
