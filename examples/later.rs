//! Answers that come later: futures that wait for a file, for time or for both, and a promise that another thread keeps.
//! While one client waits, all others are answered.
//!
//! ```text
//! cargo run --example later -- --port 1337
//! curl http://127.0.0.1:1337/read/Cargo.toml
//! curl 'http://127.0.0.1:1337/wait?ms=1000' & curl http://127.0.0.1:1337/waiting
//! printf 'GET /wait?ms=%s HTTP/1.1\r\nHost: a\r\n\r\n' 300 1 | nc -q 1 127.0.0.1 1337
//! ```
//!
//! The last line asks twice at once: the second answer is ready first, and is sent second.
//!
//! | path | what it does |
//! |---|---|
//! | `/read/NAME` | answers with this file of the directory that `LATER_DIR` names (the current one), read through the ring |
//! | `/wait?ms=N` | answers after N ms |
//! | `/both?ms=N&name=NAME` | answers with that file when N ms have passed as well: two things are awaited together |
//! | `/thread?ms=N` | answers from another thread, which sleeps N ms before |
//! | `/waiting` | how many of this worker's futures wait now: one whose client has gone does not |

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::Duration;
use uringd::{Cluster, Handler, Reply, Request, Response, Status};

fn main() -> ExitCode {
    let directory = PathBuf::from(std::env::var_os("LATER_DIR").unwrap_or_else(|| ".".into()));
    match Cluster::from_args().run(|_| Later { directory, waiting: Rc::default() }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// State of one worker: its futures run on its only thread, and may share it without locks.
struct Later {
    directory: PathBuf,
    waiting: Rc<Cell<u32>>,
}

impl Handler for Later {
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        let time =
            Duration::from_millis(request.query_value("ms").and_then(|ms| ms.parse().ok()).unwrap_or(0));
        match request.path() {
            "/wait" => self.wait(time),
            "/both" => self.both(time, &request.query_value("name").unwrap_or_default()),
            "/thread" => elsewhere(time),
            "/waiting" => format!("{}\n", self.waiting.get()).into(),
            path => match path.strip_prefix("/read/") {
                Some(name) => self.read(name),
                None => Status::NOT_FOUND.into(),
            },
        }
    }
}

impl Later {
    fn wait(&self, time: Duration) -> Reply {
        let waiting = Waiting::new(&self.waiting);
        Reply::later(async move {
            // moved into the future: it goes when that goes, whether it has answered or its client has left
            let _waiting = waiting;
            uringd::sleep(time).await;
            format!("{} ms later\n", time.as_millis())
        })
    }

    fn read(&self, name: &str) -> Reply {
        let Some(path) = self.path(name) else { return Status::BAD_REQUEST.into() };
        let waiting = Waiting::new(&self.waiting);
        Reply::later(async move {
            let _waiting = waiting;
            answer(uringd::read_file(path).await)
        })
    }

    fn both(&self, time: Duration, name: &str) -> Reply {
        let Some(path) = self.path(name) else { return Status::BAD_REQUEST.into() };
        Reply::later(async move {
            let ((), content) = together(uringd::sleep(time), uringd::read_file(path)).await;
            answer(content)
        })
    }

    /// A name comes from anybody: it must not lead out of the directory.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        is_plain.then(|| self.directory.join(name))
    }
}

fn answer(content: io::Result<Vec<u8>>) -> Response {
    match content {
        Ok(content) => Response::bytes(content),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Status::NOT_FOUND.into(),
            ErrorKind::PermissionDenied | ErrorKind::IsADirectory => Status::FORBIDDEN.into(),
            // logged, and answered with 500
            _ => Err::<Response, _>(error).into(),
        },
    }
}

fn elsewhere(time: Duration) -> Reply {
    let (promise, reply) = Reply::promise();
    thread::spawn(move || {
        thread::sleep(time);
        promise.keep("from another thread\n");
    });
    reply
}

/// Waits for two futures at the same time. (Crates such as `futures` have this for any number: uringd's futures are
/// ordinary ones.)
async fn together<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut of_first, mut of_second) = (None, None);
    poll_fn(|context| {
        if of_first.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            of_first = Some(output);
        }
        if of_second.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            of_second = Some(output);
        }
        match (of_first.take(), of_second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (of_first, of_second) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

/// Counts as long as it lives.
struct Waiting(Rc<Cell<u32>>);

impl Waiting {
    fn new(count: &Rc<Cell<u32>>) -> Waiting {
        count.set(count.get() + 1);
        Waiting(Rc::clone(count))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
