//! The program's hand in the master: what it wants said to workers and done with them, from `on_event` and from threads
//! of its own.
//!
//! Neighbours: `cluster` gives it out; `event_loop` takes the orders and performs them.

use super::ask::Ask;
use crate::error::{Error, Result};
use crate::event::{Message, WorkerId};
use crate::ipc::{MESSAGE_COST, WAITING_MAX, node};
use crate::stats::{Book, Stats};
use crate::sys::socket;
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, mem};

/// The workers, as the program in the master can reach them. Made by [`Cluster::pool`](crate::Cluster::pool); clones are
/// cheap, other threads may have one, and every call returns at once.
///
/// What is ordered is done by the master's loop, in order. An order to a worker that is gone, or that cannot be carried
/// out, becomes an [`Event::Error`](crate::Event::Error); it is never a panic. In a worker process, and when the master has
/// stopped, a pool does nothing.
///
/// ```no_run
/// use uringd::{Cluster, Event, Request, Response};
///
/// fn main() -> uringd::Result<()> {
///     let cluster = Cluster::new();
///     let pool = cluster.pool();
///     cluster
///         .on_event(move |event| {
///             // what one worker says, all hear
///             if let Event::Message { message, .. } = event
///                 && let Err(error) = pool.broadcast(message)
///             {
///                 eprintln!("not everybody hears it: {error}"); // too much waits already
///             }
///         })
///         .run(|worker| move |_: &Request<'_>| worker.send("hello").map(|()| Response::text("said")))
/// }
/// ```
///
/// Start threads of the master's when [`Event::Setup`](crate::Event::Setup) comes, in `on_event`: those inherit that the
/// signals are the master's loop's to hear. A thread from before `run` would die of the first SIGTERM, and all with it.
#[derive(Clone)]
pub struct Pool {
    desk: Arc<Mutex<Desk>>,
    book: Book,
}

/// What the program wants.
pub(super) enum Order {
    /// This line is to be said to one worker.
    Send { worker: WorkerId, line: Vec<u8> },
    /// This line is to be said to all.
    Broadcast { line: Vec<u8> },
    /// A socket is to go to a worker.
    SendSocket { worker: WorkerId, message: Message, socket: OwnedFd },
    /// A worker's process is to get this signal.
    Kill { worker: WorkerId, signal: i32 },
    /// A worker is to be replaced.
    Disconnect { worker: WorkerId },
    /// Not the program's: somebody outside wants to know or have something.
    Ask(Ask),
}

#[derive(Default)]
struct Desk {
    orders: Vec<Order>,
    /// Octets of the messages in them, each order counted with [`MESSAGE_COST`].
    octets: usize,
    /// Rung when there are orders; there is none before the master's loop runs.
    bell: Option<Arc<EventFd>>,
    /// Nobody takes orders here any more, or ever.
    closed: bool,
}

/// The loop's side of a pool.
pub(super) struct Orders {
    pool: Pool,
    bell: Arc<EventFd>,
}

impl Pool {
    /// Takes orders for a master that is to run.
    pub(crate) fn new() -> Pool {
        Pool { desk: Arc::default(), book: Book::default() }
    }

    /// Does nothing.
    pub(crate) fn closed() -> Pool {
        let desk = Arc::new(Mutex::new(Desk { closed: true, ..Desk::default() }));
        Pool { desk, book: Book::default() }
    }

    /// Sends a message to a worker, where [`Handler::message`](crate::Handler::message) gets it (Node's `worker.send`).
    /// Messages of one thread arrive in the order in which they were sent. A worker that is still starting gets its
    /// messages when it has started; what a worker has not read when it dies is lost with it.
    ///
    /// # Errors
    /// It has no form in JSON, it is longer than 8 MiB, or it is an object whose `cmd` begins with `NODE_`, a prefix that
    /// the channel keeps for itself. And when 16 MiB of messages wait already for the master's loop, each counted with 128
    /// octets more. (Where so much waits for a worker that does not read, what is sent to it is lost: one
    /// [`Event::Error`](crate::Event::Error) says so, and another how much it was when the worker has read the rest or is
    /// gone.)
    pub fn send(&self, worker: WorkerId, value: impl Serialize) -> Result<()> {
        let mut line = node::line(&Message::new(value)?)?;
        line.shrink_to_fit();
        let octets = line.len();
        self.put(Order::Send { worker, line }, octets)
    }

    /// Sends a message to all workers that are online now. One that comes later does not get it: send to it at its
    /// [`Event::Online`](crate::Event::Online).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn broadcast(&self, value: impl Serialize) -> Result<()> {
        let mut line = node::line(&Message::new(value)?)?;
        line.shrink_to_fit();
        let octets = line.len();
        self.put(Order::Broadcast { line }, octets)
    }

    /// Sends a connected stream socket (TCP or Unix) with a message to a worker, where
    /// [`Handler::socket`](crate::Handler::socket) gets both and, unless it says otherwise, serves it as a client. Our copy
    /// is closed when the worker has it; if the worker is gone before, the client is lost, and the `error` event says so.
    ///
    /// # Errors
    /// As [`send`](Self::send), and for what is no such socket.
    pub fn send_socket(
        &self,
        worker: WorkerId,
        value: impl Serialize,
        socket: impl Into<OwnedFd>,
    ) -> Result<()> {
        let (message, socket) = (Message::new(value)?, socket.into());
        let octets = node::check(&message)?;
        if !socket::is_connection(socket.as_fd()) {
            let problem = "what goes with it is not a connected stream socket".to_owned();
            return Err(Error::Message { done: "sent", problem });
        }
        self.put(Order::SendSocket { worker, message, socket }, octets)
    }

    /// Sends a signal to a worker's process, by number (Node's `worker.kill`): 15 (SIGTERM, Node's default) has it ask for
    /// its replacement and drain, 9 (SIGKILL) is a crash. What follows is what follows when anybody does it: another worker
    /// is started, and the restart counts. Where no message would find room, because so many orders wait already for the
    /// master's loop, this one is lost too, and the log says so.
    pub fn kill(&self, worker: WorkerId, signal: i32) {
        if let Err(error) = self.put(Order::Kill { worker, signal }, 0) {
            tracing::error!(id = worker, signal, %error, "an order to kill a worker is lost");
        }
    }

    /// Has a worker replaced (Node's `worker.disconnect`): its replacement is started, and once that listens the worker
    /// finishes its requests and goes, with [`Cause::Disconnect`](crate::Cause::Disconnect). The restart does not count.
    /// Where there can be no replacement the worker stays, and an [`Event::Error`](crate::Event::Error) says so. There must
    /// be room for the order, as for [`kill`](Self::kill).
    pub fn disconnect(&self, worker: WorkerId) {
        if let Err(error) = self.put(Order::Disconnect { worker }, 0) {
            tracing::error!(id = worker, %error, "an order to replace a worker is lost");
        }
    }

    /// What all workers have done since the master started, those that are gone included: it never goes backwards (but for
    /// the connections that are open), whatever dies. In a worker process all of it is zero; there it is
    /// [`Worker::stats`](crate::Worker::stats) that has numbers.
    pub fn stats(&self) -> Stats {
        self.book.total()
    }

    /// The same by slot: its worker, and those that were there before.
    pub fn stats_by_slot(&self) -> BTreeMap<usize, Stats> {
        self.book.by_slot()
    }

    /// The same by worker, of those that live.
    pub fn stats_by_worker(&self) -> BTreeMap<WorkerId, Stats> {
        self.book.by_worker()
    }

    /// Asks the master's loop. What a master is asked that has stopped is dropped, and with it goes the reply.
    ///
    /// # Errors
    /// Too much waits already for the loop.
    pub(super) fn ask(&self, ask: Ask) -> Result<()> {
        self.put(Order::Ask(ask), 0)
    }

    /// Whether the loop is over.
    pub(super) fn is_over(&self) -> bool {
        self.desk().closed
    }

    /// Where the master keeps the numbers.
    pub(super) fn book(&self) -> Book {
        self.book.clone()
    }

    fn put(&self, order: Order, octets: usize) -> Result<()> {
        let mut desk = self.desk();
        if desk.closed {
            return Ok(());
        }
        let octets = octets + MESSAGE_COST;
        if desk.octets + octets > WAITING_MAX {
            let problem = format!("{} MiB of messages wait already for the master", WAITING_MAX >> 20);
            return Err(Error::Message { done: "sent", problem });
        }
        desk.octets += octets;
        desk.orders.push(order);
        if desk.orders.len() == 1 {
            desk.ring();
        }
        Ok(())
    }

    /// From now on somebody takes the orders; those that were given before are waiting.
    pub(super) fn open(&self) -> Result<Orders> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|e| Error::io("make an eventfd", e))?;
        let bell = Arc::new(bell);
        let mut desk = self.desk();
        desk.bell = Some(Arc::clone(&bell));
        if !desk.orders.is_empty() {
            desk.ring();
        }
        Ok(Orders { pool: self.clone(), bell })
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    fn ring(&self) {
        if let Some(bell) = &self.bell {
            let _ = bell.write(1); // full only if it has been rung 2^64 times
        }
    }
}

impl Orders {
    /// What has been ordered since this was last called.
    pub(super) fn take(&self) -> Vec<Order> {
        let _ = self.bell.read();
        let mut desk = self.pool.desk();
        desk.octets = 0;
        mem::take(&mut desk.orders)
    }

    /// For tests of those who ask.
    #[cfg(test)]
    pub(super) fn take_asked(&self) -> impl Iterator<Item = Ask> {
        self.take().into_iter().filter_map(|order| match order {
            Order::Ask(ask) => Some(ask),
            _ => None,
        })
    }
}

/// Readable when there are orders.
impl AsFd for Orders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        *self.pool.desk() = Desk { closed: true, ..Desk::default() };
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixStream;

    fn show(order: Order) -> String {
        match order {
            Order::Send { worker, line } => format!("send {worker} {}", line.trim_ascii().escape_ascii()),
            Order::Broadcast { line } => format!("broadcast {}", line.trim_ascii().escape_ascii()),
            Order::SendSocket { worker, message, .. } => format!("socket {worker} {message}"),
            Order::Kill { worker, signal } => format!("kill {worker} {signal}"),
            Order::Disconnect { worker } => format!("disconnect {worker}"),
            Order::Ask(ask) => format!("{ask:?}"),
        }
    }

    fn is_rung(orders: &Orders) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        poll(&mut [PollFd::new(orders.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1)
    }

    #[test]
    fn orders_come_out_as_they_went_in_also_those_from_before_the_loop() {
        let pool = Pool::new();
        pool.send(1, 5).unwrap();
        let orders = pool.open().unwrap();
        assert!(is_rung(&orders));
        pool.broadcast(("a", 1)).unwrap();
        pool.send_socket(2, "door", UnixStream::pair().unwrap().0).unwrap();
        pool.kill(3, 9);
        pool.disconnect(4);
        let taken: Vec<String> = orders.take().into_iter().map(show).collect();
        assert_eq!(
            taken,
            ["send 1 5", r#"broadcast [\"a\",1]"#, "socket 2 \"door\"", "kill 3 9", "disconnect 4"]
        );
        assert!(!is_rung(&orders) && orders.take().is_empty());
        let clone = pool.clone();
        std::thread::spawn(move || clone.kill(7, 15)).join().unwrap();
        assert!(is_rung(&orders));
        assert_eq!(orders.take().len(), 1);
    }

    #[test]
    fn what_cannot_travel_is_refused_at_the_call() {
        let pool = Pool::new();
        let internal = json!({"cmd": "NODE_HANDLE_ACK"});
        for refused in [
            pool.send(1, &internal),
            pool.broadcast(&internal),
            pool.send_socket(1, &internal, UnixStream::pair().unwrap().0),
        ] {
            let refused = refused.unwrap_err().to_string();
            assert!(
                refused.starts_with("a message cannot be sent: its cmd may not begin with NODE_"),
                "{refused}"
            );
        }
        for no_connection in [
            OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()),
            TcpListener::bind("127.0.0.1:0").unwrap().into(),
            std::fs::File::open("/dev/null").unwrap().into(),
        ] {
            let refused = pool.send_socket(1, (), no_connection).unwrap_err().to_string();
            assert!(refused.ends_with("is not a connected stream socket"), "{refused}");
        }
        let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
        pool.send(1, no_json).unwrap_err();
        assert!(pool.open().unwrap().take().is_empty());
    }

    #[test]
    fn so_much_waits_and_no_more() {
        let pool = Pool::new();
        let mebibyte = "x".repeat(1 << 20);
        let taken = (0..100).take_while(|_| pool.send(1, &mebibyte).is_ok()).count();
        assert_eq!(taken, 15, "each has its quotes and its newline");
        let refused = pool.broadcast(&mebibyte).unwrap_err().to_string();
        assert_eq!(refused, "a message cannot be sent: 16 MiB of messages wait already for the master");
        pool.kill(1, 9);
        let orders = pool.open().unwrap();
        assert_eq!(orders.take().len(), 15 + 1);
        pool.send(1, &mebibyte).unwrap();
    }

    #[test]
    fn many_short_orders_count_for_the_memory_that_they_take() {
        type Order = fn(&Pool);
        let kinds: [(Order, usize); 4] = [
            (|pool| drop(pool.send(1, 5)), 2),
            (|pool| drop(pool.broadcast(5)), 2),
            (|pool| pool.kill(1, 9), 0),
            (|pool| pool.disconnect(1), 0),
        ];
        for (order, octets) in kinds {
            let pool = Pool::new();
            let room = WAITING_MAX / (MESSAGE_COST + octets);
            (0..room + 10).for_each(|_| order(&pool));
            let orders = pool.open().unwrap();
            assert_eq!(orders.take().len(), room);
            order(&pool);
            assert_eq!(orders.take().len(), 1);
        }
    }

    #[test]
    fn a_closed_one_does_nothing() {
        let (stopped, in_worker) = (Pool::new(), Pool::closed());
        drop(stopped.open().unwrap());
        for pool in [stopped, in_worker] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            pool.send(1, 1).unwrap();
            pool.send_socket(1, 1, theirs).unwrap();
            assert_eq!(std::io::Read::read(&mut &ours, &mut [0]).unwrap(), 0, "the socket is closed");
            assert!(pool.desk().orders.is_empty());
            pool.send(1, json!({"cmd": "NODE_X"})).unwrap_err();
        }
    }
}
