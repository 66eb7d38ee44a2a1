//! What reaches a worker from outside its sockets: the master's messages, SIGTERM, and the master's death; where there
//! is no master, the program's word to stop. Turns all of it into orders for the loop, and says to the master what the
//! loop has to say.
//!
//! Neighbours: `event_loop` obeys; `ipc::channel` carries; `sys::signal` catches SIGTERM; a `Server`'s handle stops it.

use super::backlog::Backlog;
use crate::event::Message;
use crate::ipc::message::{ToMaster, ToWorker, Travelling};
use crate::ipc::{Channel, HandleKind, Received, node};
use crate::sys::{process, signal};
use nix::sys::eventfd::EventFd;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// What the loop is to do.
#[derive(Debug)]
pub enum Order {
    /// Accept from this socket.
    Listen(OwnedFd),
    /// Serve this client, which another worker has served so far.
    Adopt { socket: OwnedFd, travelling: Travelling },
    /// The handler's to hear.
    Message(Message),
    /// The handler's to decide about.
    Socket { socket: OwnedFd, message: Message },
    /// Write requests to this file from now on.
    AccessLog(OwnedFd),
    /// Accept no more, finish, exit.
    Drain { stop: bool },
    /// Give every connection to the master.
    Release,
}

/// Who started this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Master {
    /// A uringd master with this process ID: it answers every suicide.
    Uringd { pid: i32 },
    /// Another, such as Node: it never answers, so a suicide drains at once.
    Foreign { pid: i32 },
}

/// See the module's comment.
pub struct Control {
    orders: VecDeque<Order>,
    /// Rung by SIGTERM's handler; without a master by whoever may stop the loop.
    wake: Arc<EventFd>,
    /// `None`: this worker is on its own.
    above: Option<Above>,
}

/// The master, as its worker sees it.
struct Above {
    channel: Channel,
    master: Master,
    kill_timeout: Duration,
    /// The master has gone: nothing more is heard from it or said to it.
    orphaned: bool,
    /// A suicide was sent and not yet answered.
    suicide_sent: bool,
    backlog: Arc<Backlog>,
}

impl Master {
    pub fn pid(self) -> i32 {
        match self {
            Master::Uringd { pid } | Master::Foreign { pid } => pid,
        }
    }
}

impl Control {
    /// `heard` is what was read of the channel already and not acted on.
    pub fn new(
        channel: Channel,
        wake: EventFd,
        master: Master,
        kill_timeout: Duration,
        heard: Vec<Received>,
        backlog: Arc<Backlog>,
    ) -> Control {
        let above = Above { channel, master, kill_timeout, orphaned: false, suicide_sent: false, backlog };
        let mut control = Control { orders: VecDeque::new(), wake: Arc::new(wake), above: Some(above) };
        heard.into_iter().for_each(|one| control.received(one));
        control
    }

    /// Without a master: listens on these sockets, and drains when `stop` is rung.
    pub fn alone(listeners: Vec<OwnedFd>, stop: Arc<EventFd>) -> Control {
        Control { orders: listeners.into_iter().map(Order::Listen).collect(), wake: stop, above: None }
    }

    pub fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Readable when the master has said something; `None` when nobody is there to say anything more.
    pub fn channel_fd(&self) -> Option<BorrowedFd<'_>> {
        self.above.as_ref().filter(|above| !above.orphaned).map(|above| above.channel.as_fd())
    }

    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Nobody ends this worker when its time to drain is over.
    pub fn is_alone(&self) -> bool {
        self.above.is_none()
    }

    /// Everything said has left this process, and every socket given away has arrived.
    pub fn is_idle(&self) -> bool {
        self.above.as_ref().is_none_or(|above| above.orphaned || above.channel.is_idle())
    }

    /// Reads what the master has said.
    pub fn hear(&mut self) {
        let Some(above) = &mut self.above else { return };
        match above.channel.receive() {
            Ok(all) => all.into_iter().for_each(|one| self.received(one)),
            Err(error) => tracing::warn!(%error, "the channel to the master cannot be read"),
        }
    }

    fn received(&mut self, one: Received) {
        match one {
            Received::Handle { kind: HandleKind::Server, fd, .. } => self.orders.push_back(Order::Listen(fd)),
            Received::Connection { travelling, socket } => {
                self.orders.push_back(Order::Adopt { socket, travelling });
            }
            // what comes with one of Node's own words, such as its cluster's, is no message for the program
            Received::Handle { kind: HandleKind::Socket | HandleKind::Native, fd, message, .. }
                if node::internal_command(&message).is_none() =>
            {
                let message = Message::of(message);
                self.orders.push_back(Order::Socket { socket: fd, message });
            }
            Received::Handle { kind: HandleKind::AccessLog, fd, .. } if self.has_uringd_master() => {
                self.orders.push_back(Order::AccessLog(fd));
            }
            Received::Handle { kind, .. } => {
                tracing::warn!(?kind, "the master sent a handle that is of no use here")
            }
            Received::HandleMissing { .. } => {
                tracing::warn!("a socket from the master did not arrive: out of descriptors");
            }
            Received::HandleLost { .. } => {
                tracing::warn!("the master did not take a connection; it is closed")
            }
            Received::Closed => self.orphan(),
            Received::Broken(error) => {
                tracing::error!(%error, "the master broke the protocol");
                self.orphan();
            }
            Received::Plain(message) => self.orders.push_back(Order::Message(Message::of(message))),
            Received::Control(_) => match ToWorker::read(&one) {
                Ok(Some(message)) => self.told(message),
                Ok(None) => {}
                Err(problem) => tracing::warn!(problem, "the master said something strange"),
            },
        }
    }

    fn has_uringd_master(&self) -> bool {
        self.above.as_ref().is_some_and(|above| matches!(above.master, Master::Uringd { .. }))
    }

    fn told(&mut self, message: ToWorker) {
        match message {
            ToWorker::Drain { stop } => self.orders.push_back(Order::Drain { stop }),
            ToWorker::Stay => self.above.iter_mut().for_each(|above| above.suicide_sent = false),
            ToWorker::Release => self.orders.push_back(Order::Release),
            ToWorker::Start(_) => tracing::warn!("the master said start twice"),
        }
    }

    /// SIGTERM arrived: this worker's suicide, unless the master has died (then it is the parent-death signal). Without a
    /// master somebody said stop.
    pub fn woken(&mut self) {
        let _ = self.wake.read();
        match &self.above {
            None => self.orders.push_back(Order::Drain { stop: true }),
            Some(above) if signal::take_terminated() => {
                if process::parent() == above.master.pid() {
                    self.suicide()
                } else {
                    self.orphan()
                }
            }
            Some(_) => {}
        }
    }

    /// Asks to be replaced; once until it is answered. Who is on its own goes on.
    pub fn suicide(&mut self) {
        let Some(above) = self.above.as_mut().filter(|above| !above.orphaned) else { return };
        if std::mem::replace(&mut above.suicide_sent, true) {
            return;
        }
        let answers = matches!(above.master, Master::Uringd { .. });
        self.say(&ToMaster::Suicide);
        if !answers {
            self.orders.push_back(Order::Drain { stop: false });
        }
    }

    /// The orphan policy, whole: accept no more, for nobody; finish what is in flight; be gone within the kill
    /// timeout, whatever a handler does.
    fn orphan(&mut self) {
        let Some(above) = &mut self.above else { return };
        if std::mem::replace(&mut above.orphaned, true) {
            return;
        }
        tracing::warn!("the master is gone: finishing");
        signal::die_after(above.kill_timeout);
        self.orders.push_back(Order::Drain { stop: matches!(above.master, Master::Uringd { .. }) });
    }

    pub fn listening(&mut self, listener: usize) {
        self.say(&ToMaster::Listening { listener });
    }

    /// Says to the master what the program has to say.
    pub fn pass_on(&mut self, message: &Message) {
        let Some(above) = &mut self.above else { return };
        above.backlog.passed_on(message.octets());
        // it was found fit to travel when it was sent; a channel that is broken is heard as its end
        if let Err(error) = above.channel.send_plain(message.value()) {
            tracing::debug!(%error, "the master does not hear");
        }
        above.backlog.waits_in_channel(above.channel.waiting());
    }

    /// Hands a connection to the master.
    pub fn give_away(&mut self, socket: OwnedFd, travelling: &Travelling) {
        let Some(above) = &mut self.above else { return };
        if let Err(error) = above.channel.send_connection(travelling, socket) {
            tracing::warn!(%error, "a released connection could not be handed over and is closed");
        }
    }

    pub fn flush(&mut self) {
        if let Some(above) = self.above.as_mut().filter(|above| above.channel.wants_write()) {
            let _ = above.channel.flush(); // a broken channel is heard as its end
            above.backlog.waits_in_channel(above.channel.waiting());
        }
    }

    /// What was said waits for room in the socket.
    pub fn wants_write(&self) -> bool {
        self.above.as_ref().is_some_and(|above| above.channel.wants_write())
    }

    /// The last words are out.
    pub fn finish(mut self) {
        self.flush();
    }

    fn say(&mut self, message: &ToMaster) {
        let Some(above) = &mut self.above else { return };
        if let Err(error) = above.channel.send_to_master(message) {
            tracing::debug!(%error, "the master does not hear");
        }
    }
}
