//! What the loop remembers of the events for those who ask: sums since the start, who follows along, and who waits for
//! something to end.
//!
//! Neighbours: `event_loop` shows it every event; `ask` is what it answers with.

use super::ask::{Ended, Follower, LastReload, Lines, Reply, Unmet};
use super::lifecycle::{NOT_REPLACEABLE, NOT_REPLACED};
use super::report;
use crate::event::{Cause, Event, Roll, WorkerId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

/// Who may follow at a time. Fewer than there may be connections to the control socket: some are left for who asks.
const FOLLOWERS_MAX: usize = 16;

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Workers that are gone, by slot and why.
    pub exits: BTreeMap<usize, BTreeMap<Cause, u64>>,
    /// How often it was given up.
    pub giveups: u64,
    /// Reloads that were done, and that failed.
    pub reloads: [u64; 2],
    /// The last one that is over.
    pub last_reload: Option<LastReload>,
    followers: Vec<Follower>,
    /// Who waits for the end of the reload.
    reload: Option<Reply<Ended>>,
    /// Who waits for a worker's replacement.
    restarts: Vec<(WorkerId, Reply<Ended>)>,
}

impl History {
    /// Tells everybody whom it concerns.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Exit { worker, cause, .. } => {
                *self.exits.entry(worker.slot).or_default().entry(*cause).or_default() += 1;
                let line = format!("worker {} is gone ({})", worker.pid, report::name(*cause));
                self.end_restart(worker.id, || Err(Unmet::Failed(line.clone())));
            }
            Event::Giveup { .. } => self.giveups += 1,
            Event::Reload(Roll::Done) => self.end_reload(None),
            Event::Reload(Roll::Failed { problem, .. }) => self.end_reload(Some(problem.clone())),
            Event::Error { worker, problem }
                if problem.starts_with(NOT_REPLACED) || problem == NOT_REPLACEABLE =>
            {
                let line = format!("worker {}: {problem}", worker.pid);
                self.end_restart(worker.id, || Err(Unmet::Failed(line.clone())));
            }
            _ => {}
        }
        if !self.followers.is_empty() {
            let line = serde_json::to_string(event).expect("events have JSON");
            let line: Arc<str> = format!("{line}\n").into();
            self.followers.retain_mut(|follower| follower.tell(&line));
        }
    }

    /// From now on who has this is told as well.
    ///
    /// # Errors
    /// So many follow already that there is no room for another one.
    pub fn follow(&mut self) -> std::result::Result<Lines, Unmet> {
        // where nothing happens nobody else finds out who has left
        self.followers.retain(Follower::is_there);
        if self.followers.len() >= FOLLOWERS_MAX {
            return Err(Unmet::Refused(format!("{FOLLOWERS_MAX} follow the events already")));
        }
        let (follower, lines) = Follower::new();
        self.followers.push(follower);
        Ok(lines)
    }

    /// Answers when the reload that begins now is over.
    pub fn await_reload(&mut self, reply: Reply<Ended>) {
        self.reload = Some(reply);
    }

    /// Answers when this worker drains because somebody has taken its place, or when it stays.
    pub fn await_restart(&mut self, id: WorkerId, reply: Reply<Ended>) {
        self.restarts.push((id, reply));
    }

    /// A worker was told to drain: as one whose place is taken, or because it has none any more.
    pub fn drained(&mut self, id: WorkerId, cause: Option<Cause>) {
        self.end_restart(id, || match cause {
            Some(Cause::Stop) => Err(Unmet::Failed("the server stops".to_owned())),
            Some(Cause::Scale) => {
                Err(Unmet::Failed("the pool was made smaller, without that slot".to_owned()))
            }
            _ => Ok(format!("worker {id} is replaced")),
        });
    }

    fn end_reload(&mut self, problem: Option<String>) {
        self.reloads[usize::from(problem.is_some())] += 1;
        if let Some(reply) = self.reload.take() {
            let ended = match &problem {
                None => Ok("all workers replaced".to_owned()),
                Some(problem) => Err(Unmet::Failed(problem.clone())),
            };
            let _ = reply.send(ended);
        }
        self.last_reload = Some(LastReload { at: unix_time(SystemTime::now()), problem });
    }

    fn end_restart(&mut self, id: WorkerId, ended: impl Fn() -> Ended) {
        for (_, reply) in self.restarts.extract_if(.., |(awaited, _)| *awaited == id) {
            let _ = reply.send(ended());
        }
    }
}

/// In seconds.
pub(super) fn unix_time(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::WorkerRef;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    const WORKER: WorkerRef = WorkerRef { id: 3, slot: 1, pid: 77 };

    #[test]
    fn each_event_is_counted_and_told() {
        let mut history = History::default();
        let lines = history.follow().unwrap();
        for cause in [Cause::Crash, Cause::Crash, Cause::Reload] {
            history.note(&Event::Exit { worker: WORKER, status: None, cause, forced: false });
        }
        history.note(&Event::Giveup { limit: 1, alive: 0 });
        assert_eq!(history.exits[&1], BTreeMap::from([(Cause::Crash, 2), (Cause::Reload, 1)]));
        let told = std::iter::from_fn(|| lines.next(Duration::ZERO).ok()).count();
        assert_eq!((history.giveups, told), (1, 4));
    }

    #[test]
    fn so_many_follow_and_who_has_left_makes_room_though_nothing_happens() {
        let mut history = History::default();
        for _ in 0..1000 {
            history.follow().unwrap();
        }
        assert_eq!(history.followers.len(), 1, "who has left is not kept");
        let all: Vec<Lines> = (0..FOLLOWERS_MAX).map(|_| history.follow().unwrap()).collect();
        let Err(Unmet::Refused(line)) = history.follow() else { panic!("one too many") };
        assert_eq!(line, "16 follow the events already");
        drop(all);
        history.follow().unwrap();
    }

    #[test]
    fn who_waits_is_told_how_it_ended() {
        let mut history = History::default();
        let (reply, reload) = channel();
        history.await_reload(reply);
        history.note(&Event::Reload(Roll::Started));
        reload.try_recv().unwrap_err();
        history.note(&Event::Reload(Roll::Failed { slot: Some(1), problem: "no".into() }));
        assert_eq!(reload.try_recv().unwrap(), Err(Unmet::Failed("no".to_owned())));
        assert_eq!(
            (history.reloads, history.last_reload.take().unwrap().problem),
            ([0, 1], Some("no".into()))
        );
        type Step = fn(&mut History);
        let ends: [(Step, bool); 5] = [
            (|history| history.drained(3, Some(Cause::Disconnect)), true),
            (|history| history.drained(3, Some(Cause::Scale)), false),
            (|history| history.drained(3, Some(Cause::Stop)), false),
            (|history| history.note(&Event::Error { worker: WORKER, problem: NOT_REPLACED.into() }), false),
            (
                |history| {
                    let cause = Cause::Crash;
                    history.note(&Event::Exit { worker: WORKER, status: None, cause, forced: false });
                },
                false,
            ),
        ];
        for (end, good) in ends {
            let (reply, restart) = channel();
            history.await_restart(3, reply);
            history.drained(4, Some(Cause::Disconnect));
            history.note(&Event::Error { worker: WORKER, problem: "a message to it is lost".into() });
            restart.try_recv().unwrap_err();
            end(&mut history);
            assert_eq!(restart.try_recv().unwrap().is_ok(), good);
        }
    }
}
