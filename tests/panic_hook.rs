//! The panic hook is the process's: a handler's panic goes to the log, everybody else's to the hook that the program
//! had, and so does a handler's where there is no log.

mod common;

use common::{Client, PATIENCE};
use serde_json::Value;
use std::io::Write;
use std::panic;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use uringd::config::Listen;
use uringd::{Request, Response, Server, StopHandle};

/// What was written to it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What it says of panics.
    fn panics(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["message"] == "panic in the handler").collect()
    }
}

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(octets)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn handle(request: &Request<'_>) -> Response {
    match request.path() {
        "/panic" => panic!("asked to"),
        _ => Response::text("hello"),
    }
}

/// With a log of its thread's, or without one.
fn start(log: Option<Log>) -> (Listen, StopHandle, thread::JoinHandle<uringd::Result<()>>) {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let (address, stop) = (server.local_addr(), server.stop_handle());
    let serving = thread::spawn(move || match log {
        Some(log) => {
            let to_log = move || log.clone();
            let subscriber =
                tracing_subscriber::fmt().json().flatten_event(true).with_writer(to_log).finish();
            tracing::subscriber::with_default(subscriber, || server.serve(handle))
        }
        None => server.serve(handle),
    });
    (address, stop, serving)
}

#[test]
fn a_handlers_panic_is_logged_and_all_others_go_to_the_hook_of_the_program() {
    let (say, hooked) = mpsc::channel();
    panic::set_hook(Box::new(move |info| {
        eprintln!("{info}");
        say.send(info.payload_as_str().unwrap_or_default().to_owned()).unwrap();
    }));
    let log = Log::default();
    // one after the other installs nothing twice
    let servers = [start(Some(log.clone())), start(Some(log.clone())), start(None)];
    let get = |server: usize, path: &str| {
        let address = servers[server].0.socket_addr().unwrap();
        Client::connect(address).get_and_close(path).status
    };
    assert_eq!([0, 1, 2].map(|server| get(server, "/")), [200; 3]);

    assert_eq!([0, 1].map(|server| get(server, "/panic")), [500; 2]);
    assert_eq!(hooked.try_recv(), Err(mpsc::TryRecvError::Empty), "logged, not printed");
    let lines = log.panics();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for line in &lines {
        assert_eq!((&line["level"], &line["panic"]), (&"ERROR".into(), &"asked to".into()));
        assert_eq!(line["request"], "GET /panic");
        assert!(line["location"].as_str().unwrap().starts_with("tests/panic_hook.rs:"), "{line}");
        assert!(line["backtrace"].as_str().unwrap().contains("panic_hook::handle"), "{line}");
    }

    thread::spawn(|| panic!("of a thread that serves nothing")).join().unwrap_err();
    assert_eq!(hooked.recv_timeout(PATIENCE).unwrap(), "of a thread that serves nothing");
    assert_eq!(get(2, "/panic"), 500);
    assert_eq!(hooked.recv_timeout(PATIENCE).unwrap(), "asked to", "nobody would have heard of it");
    assert_eq!(hooked.try_recv(), Err(mpsc::TryRecvError::Empty), "each once");

    // a hook that replaces ours: the log still has the message
    let _ = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    assert_eq!(get(0, "/panic"), 500);
    let lines = log.panics();
    assert_eq!((lines.len(), &lines[2]["panic"]), (3, &"asked to".into()));

    assert_eq!([0, 1, 2].map(|server| get(server, "/")), [200; 3], "and all of them go on");
    for (_, stop, serving) in servers {
        stop.stop();
        serving.join().unwrap().unwrap();
    }
}
