//! The futures of one worker's handlers: polled when they are begun, and then whenever they are woken. Nothing here
//! waits; wakers write to the mailbox, and the loop polls whom they name.
//!
//! Neighbours: `service` begins tasks, `event_loop` goes on with them; `handler::local` is what they wait for.

use super::service;
use crate::handler::{LaterResponse, Mail, Mailbox, Producer};
use crate::http::{Response, Watch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Names a task: its place, and which of the place's successive users it is.
pub type TaskId = u64;

/// See the module's comment.
pub struct Tasks {
    places: Vec<Place>,
    free: Vec<u32>,
    mailbox: Arc<Mailbox>,
}

struct Place {
    generation: u32,
    work: Option<Work>,
    /// Made when its first task is begun, and again only when somebody still holds that of a task that is gone.
    alarm: Arc<Alarm>,
    waker: Waker,
}

/// What a task is for.
enum Work {
    /// An answer.
    Response(LaterResponse),
    /// An answer's content, as long as somebody reads it.
    Content(Producer, Watch),
}

/// Wakes a task.
struct Alarm {
    id: TaskId,
    rung: AtomicBool,
    mailbox: Arc<Mailbox>,
}

/// How far a task has come.
pub enum Progress {
    /// It waits for something.
    Waiting,
    /// It has answered.
    Answered(Response),
    /// It is over; if it owed an answer there is none: it panicked.
    Over { panicked: bool },
}

impl Tasks {
    pub fn new(mailbox: Arc<Mailbox>) -> Tasks {
        Tasks { places: Vec::new(), free: Vec::new(), mailbox }
    }

    /// Begins to work at an answer. Gives the task's name as well, unless it is over already.
    pub fn begin(&mut self, future: LaterResponse) -> (TaskId, Progress) {
        self.put(Work::Response(future))
    }

    /// Begins to make content for whoever this watches.
    pub fn produce(&mut self, producer: Producer, watch: Watch) -> Progress {
        self.put(Work::Content(producer, watch)).1
    }

    fn put(&mut self, work: Work) -> (TaskId, Progress) {
        let place = self.free.pop().unwrap_or_else(|| {
            let number = self.places.len() as u32;
            self.places.push(Place::new(name(number, 0), &self.mailbox));
            number
        });
        let id = name(place, self.places[place as usize].generation);
        self.places[place as usize].work = Some(work);
        (id, self.go_on(id))
    }

    /// Polls a task; one that is over by now is let be.
    pub fn go_on(&mut self, id: TaskId) -> Progress {
        let (number, generation) = (id as u32, (id >> 32) as u32);
        let Some(place) = self.places.get_mut(number as usize) else { return Progress::Waiting };
        let Some(work) = place.work.as_mut().filter(|_| place.generation == generation) else {
            return Progress::Waiting;
        };
        place.alarm.rung.store(false, Ordering::Release);
        let progress = work.poll(&place.waker);
        if !matches!(progress, Progress::Waiting) {
            self.cancel(id);
        }
        progress
    }

    /// Drops a task.
    pub fn cancel(&mut self, id: TaskId) {
        let (number, generation) = (id as u32, (id >> 32) as u32);
        let place = &mut self.places[number as usize];
        if place.generation != generation {
            return;
        }
        let work = place.work.take();
        // a waker that was never given away, or has come back, serves the next task
        if Arc::strong_count(&place.alarm) > 2 {
            let mailbox = Arc::clone(&self.mailbox);
            *place = Place::new(name(number, generation.wrapping_add(1)), &mailbox);
        }
        self.free.push(number);
        // the program's own code: it may panic, and begin and end other tasks' wishes
        let _ = service::guard(|| "a future that was dropped".to_owned(), || drop(work));
    }
}

impl Place {
    fn new(id: TaskId, mailbox: &Arc<Mailbox>) -> Place {
        let alarm = Arc::new(Alarm { id, rung: AtomicBool::new(false), mailbox: Arc::clone(mailbox) });
        let waker = Waker::from(Arc::clone(&alarm));
        Place { generation: (id >> 32) as u32, work: None, alarm, waker }
    }
}

impl Work {
    fn poll(&mut self, waker: &Waker) -> Progress {
        let mut context = Context::from_waker(waker);
        let polled = match self {
            Work::Response(future) => service::guard(
                || "a reply that came later".to_owned(),
                || future.as_mut().poll(&mut context).map(Some),
            ),
            Work::Content(_, watch) if watch.is_gone(waker) => Some(Poll::Ready(None)),
            Work::Content(producer, _) => service::guard(
                || "a stream".to_owned(),
                || producer.as_mut().poll(&mut context).map(|()| None),
            ),
        };
        match polled {
            Some(Poll::Pending) => Progress::Waiting,
            Some(Poll::Ready(Some(response))) => Progress::Answered(response),
            Some(Poll::Ready(None)) => Progress::Over { panicked: false },
            None => Progress::Over { panicked: true },
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.mailbox.put(Mail::Task(self.id));
        }
    }
}

fn name(place: u32, generation: u32) -> TaskId {
    u64::from(generation) << 32 | u64::from(place)
}
