//! What can be asked of a running master, path by path, and what is answered. All is JSON, but for what other programs
//! read in forms of their own; an error is `{"error": "one line"}`.
//!
//! Neighbours: `connection` has the requests, `view`, `metrics` and `health` make the answers, `master::ask` gets the
//! orders to the loop.

use super::{health, metrics, view};
use crate::http::{Method, Request, Response, Status as Code};
use crate::master::ask::{Ask, Awaited, Ended, Reply, Status, Unmet, WorkerStatus};
use crate::master::{Pool, latency};
use crate::stats::Stats;
use crate::stats::report::{self, Unit};
use crate::sys::procfs::rss_anon;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{io, iter};

/// How long the loop may take to answer. It waits for nothing; where it takes longer, `on_event` blocks.
pub const LOOP_PATIENCE: Duration = Duration::from_secs(10);

/// The same for a master that is to count as alive.
const LIVE_PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked whether somebody is there still who follows, or waits for an end.
const LOOK: Duration = Duration::from_millis(500);

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

/// Somebody who asks, and whom.
pub struct Caller<'a> {
    /// What he may ask.
    pub rights: Rights,
    /// The way to the loop.
    pub pool: &'a Pool,
    /// How long the loop may take to answer.
    pub patience: Duration,
    /// Whether he has closed the connection.
    pub has_left: &'a dyn Fn() -> bool,
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
    caller: &'a Caller<'a>,
    request: &'a Request<'a>,
    argument: &'a str,
}

const ROUTES: [Route; 12] = [
    get("/", true, "this list", |asked| Ok(index(asked.caller.rights))),
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
pub fn answer(request: &Request<'_>, caller: &Caller<'_>) -> Response {
    let rights = caller.rights;
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
    (route.answer)(&Asked { caller, request, argument }).unwrap_or_else(problem)
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
    let status = asked.status(asked.caller.patience)?;
    Ok(of_json(&view::status(&status, asked.caller.pool)))
}

fn config(asked: &Asked<'_>) -> Result<Response, Problem> {
    let origins = asked.look(Ask::Config, asked.caller.patience)?;
    Ok(of_json(&json!({ "settings": origins })))
}

fn latencies(asked: &Asked<'_>) -> Result<Response, Problem> {
    let form = asked.request.query_value("format");
    let slots = asked.caller.pool.stats_by_slot();
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
    let status = asked.status(asked.caller.patience)?;
    let memory_of = |worker: &WorkerStatus| Some((worker.slot, rss_anon(worker.pid)?));
    let facts = metrics::Facts {
        status: &status,
        slots: &asked.caller.pool.stats_by_slot(),
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
    let to_follow = || asked.look(Ask::Follow, asked.caller.patience)?.map_err(unmet);
    // who wants the head alone follows nothing
    let lines = (asked.request.method() != Method::Head).then(to_follow).transpose()?;
    let pieces = iter::from_fn(move || match lines.as_ref()?.next(LOOK) {
        Ok(line) => Some(Ok(Bytes::copy_from_slice(line.as_bytes()))),
        Err(RecvTimeoutError::Timeout) => Some(Ok(Bytes::new())),
        Err(RecvTimeoutError::Disconnected) => None,
    });
    Ok(Response::stream(pieces).with_content_type("application/x-ndjson"))
}

// ---- what is to be done ----

fn reload(asked: &Asked<'_>) -> Result<Response, Problem> {
    asked.order_and_wait(Ask::Reload)
}

fn restart(asked: &Asked<'_>) -> Result<Response, Problem> {
    let slot = asked.number()?;
    asked.order_and_wait(|awaited| Ask::Restart { slot, awaited })
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
        self.put(ask(reply))?;
        self.hear(&answer, patience)
    }

    /// What the loop does at once.
    fn order(&self, ask: impl FnOnce(Reply<Ended>) -> Ask) -> Result<Response, Problem> {
        let ended = self.look(ask, self.caller.patience).map_err(and_may_be_done)?;
        done(ended)
    }

    /// What has an end that the loop's own timers bring about. It is waited for as long as somebody wants to know and the
    /// loop goes on.
    fn order_and_wait(&self, ask: impl FnOnce(Awaited) -> Ask) -> Result<Response, Problem> {
        let ((heard, hearing), (end, ending)) = (channel(), channel());
        self.put(ask(Awaited { heard, end }))?;
        self.hear(&hearing, self.caller.patience).map_err(and_may_be_done)?;
        let mut looked = Instant::now();
        loop {
            match ending.recv_timeout(LOOK) {
                Ok(ended) => return done(ended),
                Err(RecvTimeoutError::Disconnected) => return Err(self.unanswered()),
                Err(RecvTimeoutError::Timeout) if (self.caller.has_left)() => {
                    return Err(unavailable("who has asked is gone".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) if looked.elapsed() >= self.caller.patience => {
                    self.status(self.caller.patience).map_err(and_may_be_done)?;
                    looked = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn put(&self, ask: Ask) -> Result<(), Problem> {
        let refuse = |_| unavailable("too much waits for the master's loop already, ask again".to_owned());
        self.caller.pool.ask(ask).map_err(refuse)
    }

    fn hear<T>(&self, answer: &Receiver<T>, patience: Duration) -> Result<T, Problem> {
        answer.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                unavailable(format!("the master's loop does not answer within {patience:?}"))
            }
            RecvTimeoutError::Disconnected => self.unanswered(),
        })
    }

    /// The loop has dropped the reply.
    fn unanswered(&self) -> Problem {
        unavailable(match self.caller.pool.is_over() {
            true => "the server is stopping".to_owned(),
            false => "the master has dropped this unanswered: see what came of it (ctl status)".to_owned(),
        })
    }

    fn number(&self) -> Result<usize, Problem> {
        let wrong = || format!("{:?}: expected a whole number", self.argument);
        self.argument.parse().map_err(|_| (Code::BAD_REQUEST, wrong()))
    }
}

fn unavailable(line: String) -> Problem {
    (Code::SERVICE_UNAVAILABLE, line)
}

/// Of an order that is on its way.
fn and_may_be_done((code, line): Problem) -> Problem {
    (code, line + "; what was ordered may be done yet (ctl status)")
}

fn done(ended: Ended) -> Result<Response, Problem> {
    ended.map(|line| of_json(&json!({ "done": line }))).map_err(unmet)
}

fn unmet(unmet: Unmet) -> Problem {
    match unmet {
        Unmet::Refused(line) => (Code::CONFLICT, line),
        Unmet::Failed(line) => (Code::INTERNAL_SERVER_ERROR, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, Origins};
    use crate::ipc::WAITING_MAX;
    use crate::master::ask::Follower;
    use crate::master::control::tests::status;

    fn ask(method: Method, path: &str, rights: Rights, pool: &Pool) -> (u16, String, Option<String>) {
        ask_for(Duration::from_secs(60), method, path, rights, pool)
    }

    fn ask_for(
        patience: Duration,
        method: Method,
        path: &str,
        rights: Rights,
        pool: &Pool,
    ) -> (u16, String, Option<String>) {
        let pool = pool.clone();
        let mut client = crate::test::client(move |request: &Request<'_>| {
            super::answer(request, &Caller { rights, pool: &pool, patience, has_left: &|| false })
        });
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
                        Ask::Reload(awaited) => {
                            drop(awaited.heard().send(Err(Unmet::Failed("no".to_owned()))))
                        }
                        Ask::Scale { workers, reply } => drop(reply.send(Ok(format!("{workers}")))),
                        Ask::Restart { slot: 0, awaited } => {
                            drop(awaited.heard().send(Err(Unmet::Refused("none".to_owned()))))
                        }
                        Ask::Restart { awaited, .. } => drop(awaited.heard()),
                        Ask::Stop(reply) => drop(reply),
                        Ask::Follow(reply) => {
                            let (mut follower, lines) = Follower::new();
                            follower.tell(&"{}\n".into());
                            drop(reply.send(Ok(lines)));
                        }
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
            (Method::Post, "/restart/1", Rights::Operator, 503, "dropped this unanswered"),
            (Method::Post, "/stop", Rights::Operator, 503, "dropped this unanswered"),
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
            let (mut status, mut text, _) = ask(method, path, rights, &pool);
            // the thread that is the loop here may wait for a core for longer than /health does
            while text.contains("does not answer within 1s") {
                (status, text, _) = ask(method, path, rights, &pool);
            }
            assert!(status == code && text.contains(part), "{method:?} {path} {rights:?}: {status} {text}");
            assert!(code == 200 || serde_json::from_str::<Value>(&text).unwrap()["error"].is_string());
        }
        for (method, path, allow) in [(Method::Post, "/status", "GET, HEAD"), (Method::Get, "/stop", "POST")]
        {
            let (status, _, allowed) = ask(method, path, Rights::Operator, &pool);
            assert_eq!((status, allowed.as_deref()), (405, Some(allow)));
        }
        assert_eq!(ask(Method::Head, "/status", Rights::Operator, &pool).0, 200);
        assert_eq!(ask(Method::Head, "/events", Rights::Operator, &pool).0, 200);
    }

    #[test]
    fn a_loop_that_does_not_answer_is_not_alive_and_one_that_is_over_says_so() {
        let pool = Pool::new();
        let orders = pool.open().unwrap();
        let (status, text, _) = ask(Method::Get, "/health/live", Rights::Public, &pool);
        assert!(status == 503 && text.contains("does not answer within 1s"), "{text}");
        drop(orders);
        for (method, path) in [
            (Method::Get, "/status"),
            (Method::Get, "/health/ready"),
            (Method::Get, "/events"),
            (Method::Post, "/reload"),
            (Method::Post, "/stop"),
        ] {
            let (status, text, _) = ask(method, path, Rights::Operator, &pool);
            assert!(status == 503 && text.contains("stopping"), "{path}: {text}");
        }
    }

    #[test]
    fn no_order_waits_for_a_loop_that_hangs() {
        let pool = Pool::new();
        let orders = pool.open().unwrap();
        let soon = Duration::from_millis(1500);
        let ask = |path| ask_for(soon, Method::Post, path, Rights::Operator, &pool);
        for path in ["/reload", "/restart/0", "/scale/2", "/stop"] {
            let (status, text, _) = ask(path);
            let told = ["does not answer within 1.5s", "may be done yet"];
            assert!(status == 503 && told.iter().all(|part| text.contains(part)), "{path}: {text}");
        }
        // one that hangs when it has begun
        let hanging = std::thread::spawn(move || {
            let begun: Vec<_> = iter::repeat_with(|| {
                std::thread::sleep(Duration::from_millis(1));
                orders.take_asked().collect::<Vec<_>>()
            })
            .flatten()
            .filter_map(|ask| match ask {
                Ask::Reload(awaited) => Some(awaited.heard()),
                _ => None,
            })
            .take(2)
            .collect();
            (begun, orders)
        });
        let (status, text, _) = ask("/reload");
        assert!(status == 503 && text.contains("does not answer within 1.5s"), "{text}");
        drop(hanging.join().unwrap());
    }

    #[test]
    fn who_waits_for_an_end_and_leaves_is_waited_for_no_longer() {
        let pool = Pool::new();
        let orders = pool.open().unwrap();
        let asking = pool.clone();
        let asked = std::thread::spawn(move || {
            let mut client = crate::test::client(move |request: &Request<'_>| {
                let (rights, patience) = (Rights::Operator, Duration::from_secs(60));
                super::answer(request, &Caller { rights, pool: &asking, patience, has_left: &|| true })
            });
            client.request(Method::Post, "/reload").send().text().to_owned()
        });
        let waiting = loop {
            match orders.take_asked().next() {
                Some(Ask::Reload(awaited)) => break awaited.heard(),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        assert!(asked.join().unwrap().contains("is gone"));
        waiting.send(Ok("done".to_owned())).unwrap_err();
    }

    #[test]
    fn a_loop_that_has_too_much_to_do_is_not_taken_for_one_that_stops() {
        let pool = Pool::new();
        let _orders = pool.open().unwrap();
        let long = "x".repeat(WAITING_MAX / 4);
        while pool.send(1, &long).is_ok() {}
        while pool.ask(Ask::Status(channel().0)).is_ok() {}
        for (method, path) in [(Method::Get, "/status"), (Method::Post, "/reload"), (Method::Post, "/stop")] {
            let (status, text, _) = ask(method, path, Rights::Operator, &pool);
            assert!(status == 503 && text.contains("too much waits"), "{path}: {text}");
        }
    }
}
