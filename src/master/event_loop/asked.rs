//! What others ask of the loop, and its answers: the control socket and the metrics address, through the queue of orders.
//!
//! Neighbours: `control` asks, `ask` has the words; `history` keeps who waits for the end of something.

use super::*;
use crate::master::ask::{Ask, Course, Ended as AskEnded, Reply, Restarts, Status, Unmet, WorkerStatus};
use crate::master::history::unix_time;
use crate::master::lifecycle::WORKERS_MAX;

/// Why nothing can be ordered any more.
const STOPS: &str = "the server is stopping";

fn refused(why: impl Into<String>) -> AskEnded {
    Err(Unmet::Refused(why.into()))
}

impl EventLoop {
    /// Nobody may be there any more to hear the answer.
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Status(reply) => drop(reply.send(self.status())),
            Ask::Config(reply) => drop(reply.send(self.in_force.origins.clone())),
            Ask::Follow(reply) => drop(reply.send(self.history.follow())),
            Ask::Reload(awaited) => self.asked_to_reload(awaited.heard()),
            Ask::Restart { slot, awaited } => self.asked_to_restart(slot, awaited.heard()),
            Ask::Scale { workers, reply } => drop(reply.send(self.asked_to_scale(workers))),
            Ask::Stop(reply) => {
                self.inputs.push_back(Input::Command(Command::Stop));
                let _ = reply.send(Ok("stopping".to_owned()));
            }
        }
    }

    fn asked_to_reload(&mut self, reply: Reply<AskEnded>) {
        let problem = match () {
            () if !self.lifecycle.serving() => Some(STOPS),
            () if self.lifecycle.is_rolling() || self.inputs.contains(&Input::Command(Command::Roll)) => {
                Some("a reload is under way")
            }
            () => None,
        };
        if let Some(why) = problem {
            return drop(reply.send(refused(why)));
        }
        self.history.await_reload(reply);
        self.inputs.push_back(Input::Command(Command::Roll));
    }

    fn asked_to_restart(&mut self, slot: usize, reply: Reply<AskEnded>) {
        match self.lifecycle.occupant(slot) {
            _ if !self.lifecycle.serving() => drop(reply.send(refused(STOPS))),
            None => {
                let slots = self.lifecycle.wanted();
                drop(reply.send(refused(format!("there is no worker in slot {slot} (of {slots}, from 0)"))));
            }
            Some(id) => {
                self.history.await_restart(id, reply);
                self.inputs.push_back(Input::Command(Command::Disconnect(id)));
            }
        }
    }

    fn asked_to_scale(&mut self, workers: usize) -> AskEnded {
        if !self.lifecycle.serving() {
            return refused(STOPS);
        }
        if !(1..=WORKERS_MAX).contains(&workers) {
            return refused(format!("{workers} workers are not possible, ask for 1 to {WORKERS_MAX}"));
        }
        self.inputs.push_back(Input::Command(Command::Scale(workers)));
        Ok(format!("{workers} workers from now on, before {}", self.lifecycle.wanted()))
    }

    fn status(&self) -> Status {
        let seconds = |since: Instant| since.elapsed().as_secs_f64();
        let workers = self.lifecycle.workers().filter_map(|worker| {
            let process = self.workers.get(&worker.id)?;
            Some(WorkerStatus {
                id: worker.id,
                slot: worker.slot,
                pid: process.child.pid,
                core: process.core,
                phase: worker.phase,
                started: unix_time(process.started.1),
                uptime: seconds(process.started.0),
                generation: process.generation,
            })
        });
        Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            started: unix_time(self.started.1),
            uptime: seconds(self.started.0),
            course: if self.lifecycle.serving() { Course::Serving } else { Course::Stopping },
            restarts: match self.lifecycle.throttle() {
                throttle::State::Normal => Restarts::Allowed,
                throttle::State::GivenUp { .. } => Restarts::GivenUp,
                throttle::State::Trial { .. } => Restarts::Trial,
            },
            reloading: self.lifecycle.is_rolling(),
            generation: self.in_force.number,
            last_reload: self.history.last_reload.clone(),
            listeners: self.addresses(),
            wanted: self.lifecycle.wanted(),
            workers: workers.collect(),
            exits: self.history.exits.clone(),
            forced_kills: self.lifecycle.forced_kills,
            giveups: self.history.giveups,
            reloads: self.history.reloads,
        }
    }
}
