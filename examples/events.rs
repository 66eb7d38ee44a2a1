//! Server-sent events: a clock that ticks in every client. Reload the workers and look: no client misses a tick.
//!
//! ```text
//! cargo run --example events -- --port 1337
//! curl -N http://127.0.0.1:1337/events
//! kill -HUP PID_OF_THE_MASTER
//! ```
//!
//! In a browser, <http://127.0.0.1:1337/> shows the ticks, and which worker they come from.
//!
//! | path | what it does |
//! |---|---|
//! | `/` | the page |
//! | `/events?ms=N&keep=K` | a tick every N ms (1000); in a silence of K ms (15000) a comment, so that nobody takes it for the end |
//! | `/clients` | how many clients this worker has |
//!
//! A tick's number is the time divided by its length, so that every worker counts alike. A client that is cut off comes
//! back by itself and says which tick it has had (`Last-Event-ID`): whichever worker it meets sends what it has missed.

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uringd::sse::{Event, Events, last_event_id};
use uringd::{Cluster, Reply, Request, Response, Status};

/// Ticks that a client gets which was away for longer.
const MISSED_MAX: u64 = 1000;

/// How soon a client that is cut off comes back. (Browsers wait some seconds unless they are told.)
const RETRY: Duration = Duration::from_millis(200);

const PAGE: &str = r#"<!doctype html>
<title>Ticks</title>
<h1>Ticks</h1>
<p>Reload the workers (<code>kill -HUP</code> to the master): the process changes, and no number is missing.</p>
<p id="state">connecting</p>
<ol reversed></ol>
<script>
  const [state, list] = [document.querySelector('#state'), document.querySelector('ol')];
  const events = new EventSource('/events');
  let last = 0;
  events.onopen = () => state.textContent = 'connected';
  events.onerror = () => state.textContent = 'cut off, coming back';
  events.addEventListener('tick', (event) => {
    const { tick, pid, clients } = JSON.parse(event.data);
    const item = document.createElement('li');
    item.value = tick;
    item.textContent = `from process ${pid}, which has ${clients} client(s)`;
    if (last && tick !== last + 1) item.textContent += ` - ${tick - last - 1} missing!`;
    last = tick;
    list.prepend(item);
  });
</script>
"#;

fn main() -> ExitCode {
    let outcome = Cluster::from_args().run(|_| {
        let clients = Rc::new(Cell::new(0));
        move |request: &Request<'_>| answer(request, &clients)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn answer(request: &Request<'_>, clients: &Rc<Cell<u32>>) -> Reply {
    match request.path() {
        "/" => Response::text(PAGE).with_content_type("text/html; charset=utf-8").into(),
        "/events" => ticks(request, Client::new(clients)),
        "/clients" => format!("{}\n", clients.get()).into(),
        _ => Status::NOT_FOUND.into(),
    }
}

fn ticks(request: &Request<'_>, client: Client) -> Reply {
    let number = |name| request.query_value(name).and_then(|value| value.parse::<u64>().ok());
    let length = Duration::from_millis(number("ms").unwrap_or(1000).clamp(1, 1 << 40));
    let keep = Duration::from_millis(number("keep").unwrap_or(15_000).max(1));
    let now = ticks_since_1970(length);
    let mut next = match last_event_id(request).and_then(|id| id.parse::<u64>().ok()) {
        // what it says is anybody's word
        Some(had) => had.saturating_add(1).clamp(now.saturating_sub(MISSED_MAX), now + 1),
        None => now,
    };
    let (mut events, response) = Events::channel();
    Reply::stream(response, async move {
        loop {
            while next <= ticks_since_1970(length) {
                let event = Event::data(client.describe(next)).with_name("tick").with_id(next.to_string());
                events.send(event.with_retry(RETRY)).await?;
                next += 1;
            }
            let pause = time_of(next, length).saturating_sub(time());
            if pause <= keep {
                uringd::sleep(pause).await;
            } else {
                uringd::sleep(keep).await;
                events.keep_alive().await?;
            }
        }
    })
}

fn time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn ticks_since_1970(length: Duration) -> u64 {
    (time().as_millis() / length.as_millis()) as u64
}

fn time_of(tick: u64, length: Duration) -> Duration {
    Duration::from_millis(tick.saturating_mul(length.as_millis() as u64))
}

/// Counts as long as it lives: it goes with the future that makes its client's events.
struct Client(Rc<Cell<u32>>);

impl Client {
    fn new(clients: &Rc<Cell<u32>>) -> Client {
        clients.set(clients.get() + 1);
        Client(Rc::clone(clients))
    }

    fn describe(&self, tick: u64) -> String {
        format!(r#"{{"tick":{tick},"pid":{},"clients":{}}}"#, std::process::id(), self.0.get())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
