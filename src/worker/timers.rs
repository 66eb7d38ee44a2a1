//! Deadlines of connections. All connections of a class have the same time limit, so each class is a queue in order
//! of deadlines: starting, moving and stopping a timer is relinking one node, and the next deadline is a queue's head.
//!
//! Neighbours: `event_loop` starts and expires them; what futures wait for is in `handler::local`.

use super::clock::Millis;

const NONE: u32 = u32::MAX;

/// What a connection is given time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A request's head (`--header-timeout`).
    Header,
    /// A stretch of a request's content, in which enough of it must come (`--body-timeout`).
    Content,
    /// The pause between two requests (`--keep-alive-timeout`).
    KeepAlive,
    /// The client takes some of what is sent (`--send-timeout`).
    Send,
    /// The client closes after we have.
    Linger,
}

const CLASSES: usize = 5;

/// See the module's comment.
pub struct Timers {
    limits: [Millis; CLASSES],
    queues: [Queue; CLASSES],
    /// By slot.
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Queue {
    head: u32,
    tail: u32,
}

#[derive(Clone, Copy)]
struct Node {
    deadline: Millis,
    previous: u32,
    next: u32,
    class: Option<Class>,
}

const STOPPED: Node = Node { deadline: 0, previous: NONE, next: NONE, class: None };

impl Timers {
    /// `limits` in the order of [`Class`].
    pub fn new(limits: [Millis; CLASSES]) -> Timers {
        Timers { limits, queues: [Queue { head: NONE, tail: NONE }; CLASSES], nodes: Vec::new() }
    }

    /// Starts a slot's timer, or starts it anew.
    #[inline]
    pub fn start(&mut self, slot: u32, class: Class, now: Millis) {
        self.stop(slot);
        if self.nodes.len() <= slot as usize {
            self.nodes.resize(slot as usize + 1, STOPPED);
        }
        let queue = &mut self.queues[class as usize];
        let deadline = now.saturating_add(self.limits[class as usize]);
        self.nodes[slot as usize] = Node { deadline, previous: queue.tail, next: NONE, class: Some(class) };
        match queue.tail {
            NONE => queue.head = slot,
            tail => self.nodes[tail as usize].next = slot,
        }
        queue.tail = slot;
    }

    /// Lets a running timer of this class go on, or starts one.
    pub fn ensure(&mut self, slot: u32, class: Class, now: Millis) {
        if self.nodes.get(slot as usize).is_none_or(|node| node.class != Some(class)) {
            self.start(slot, class, now);
        }
    }

    #[inline]
    pub fn stop(&mut self, slot: u32) {
        let Some(node) = self.nodes.get_mut(slot as usize) else { return };
        let Node { previous, next, class, .. } = std::mem::replace(node, STOPPED);
        let Some(class) = class else { return };
        let queue = &mut self.queues[class as usize];
        match previous {
            NONE => queue.head = next,
            previous => self.nodes[previous as usize].next = next,
        }
        match next {
            NONE => queue.tail = previous,
            next => self.nodes[next as usize].previous = previous,
        }
    }

    /// Takes one timer that has run out.
    #[inline]
    pub fn expired(&mut self, now: Millis) -> Option<(u32, Class)> {
        let head = self.queues.map(|queue| queue.head);
        let slot =
            head.into_iter().find(|&slot| slot != NONE && self.nodes[slot as usize].deadline <= now)?;
        let class = self.nodes[slot as usize].class.expect("queued nodes have a class");
        self.stop(slot);
        Some((slot, class))
    }

    /// So much time counts for nobody. The queues stay sorted.
    #[cold]
    pub fn put_off(&mut self, by: Millis) {
        for node in self.nodes.iter_mut().filter(|node| node.class.is_some()) {
            node.deadline = node.deadline.saturating_add(by);
        }
    }

    /// When the next one runs out.
    #[inline]
    pub fn next_deadline(&self) -> Option<Millis> {
        let heads = self.queues.iter().map(|queue| queue.head).filter(|&slot| slot != NONE);
        heads.map(|slot| self.nodes[slot as usize].deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Class; CLASSES] =
        [Class::Header, Class::Content, Class::KeepAlive, Class::Send, Class::Linger];

    proptest! {
        /// Against the obvious model: a table of deadlines.
        #[test]
        fn timers_run_out_when_the_model_says(steps in prop::collection::vec((0u32..8, 0usize..8, 0u64..40), 1..200)) {
            let limits = [10, 20, 75, 30, 2];
            let mut timers = Timers::new(limits);
            let mut model: std::collections::BTreeMap<u32, (Millis, Class)> = Default::default();
            let mut now = 0;
            for (slot, action, pause) in steps {
                now += pause;
                prop_assert_eq!(timers.next_deadline(), model.values().map(|m| m.0).min());
                let mut expired = vec![];
                while let Some(one) = timers.expired(now) { expired.push(one); }
                expired.sort_by_key(|e| e.0);
                let due: Vec<_> = model.iter().filter(|(_, m)| m.0 <= now).map(|(s, m)| (*s, m.1)).collect();
                prop_assert_eq!(expired, due);
                model.retain(|_, m| m.0 > now);
                match action {
                    7 => {
                        now += 500;
                        timers.put_off(500);
                        model.values_mut().for_each(|m| m.0 += 500);
                    }
                    6 => { timers.stop(slot); model.remove(&slot); }
                    5 => {
                        timers.ensure(slot, Class::Header, now);
                        if model.get(&slot).is_none_or(|m| m.1 != Class::Header) { model.insert(slot, (now + 10, Class::Header)); }
                    }
                    class => { timers.start(slot, ALL[class], now); model.insert(slot, (now + limits[class], ALL[class])); }
                }
            }
        }
    }
}
