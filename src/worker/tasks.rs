//! The futures of one worker's handlers: polled when they are begun, and then whenever they are woken. Nothing here
//! waits; wakers write to the mailbox, and the loop polls whom they name.
//!
//! Neighbours: `service` begins tasks, `event_loop` goes on with them; `handler::local` is what they wait for.

use super::service;
use crate::event::LoopPhase;
use crate::handler::{LaterReply, Mail, Mailbox, Producer, Reply};
use crate::http::Watch;
use crate::stats::{Area, Line};
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
    /// Where it stands whose task is polled.
    area: Area,
}

struct Place {
    generation: u32,
    work: Option<Work>,
    /// The request that it was begun for.
    line: Line,
    /// Made when its first task is begun, and again only when somebody still holds that of a task that is gone.
    alarm: Arc<Alarm>,
    waker: Waker,
}

/// What a task is for.
enum Work {
    /// An answer.
    Reply(LaterReply),
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
    Answered(Reply),
    /// It is over; if it owed an answer there is none: it panicked.
    Over { panicked: bool },
}

impl Tasks {
    pub fn new(mailbox: Arc<Mailbox>, area: Area) -> Tasks {
        Tasks { places: Vec::new(), free: Vec::new(), mailbox, area }
    }

    /// Begins to work at an answer. Gives the task's name as well, unless it is over already.
    pub fn begin(&mut self, future: LaterReply) -> (TaskId, Progress) {
        self.put(Work::Reply(future))
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
        let before = self.area.enter(LoopPhase::Polling);
        let progress = self.poll(id);
        self.area.leave(before);
        if matches!(progress, Progress::Waiting) {
            self.places[place as usize].line = self.area.line();
        }
        (id, progress)
    }

    /// Polls a task; one that is over by now is let be.
    pub fn go_on(&mut self, id: TaskId) -> Progress {
        let Some(place) = self.places.get(id as u32 as usize) else { return Progress::Waiting };
        let before = self.area.hand_over_again(LoopPhase::Polling, &place.line);
        let progress = self.poll(id);
        self.area.leave(before);
        progress
    }

    fn poll(&mut self, id: TaskId) -> Progress {
        let (number, generation) = (id as u32, (id >> 32) as u32);
        let Some(place) = self.places.get_mut(number as usize) else { return Progress::Waiting };
        let Some(work) = place.work.as_mut().filter(|_| place.generation == generation) else {
            return Progress::Waiting;
        };
        // a swap and not a store: what was done before a ring that this takes back must be seen by the poll
        place.alarm.rung.swap(false, Ordering::AcqRel);
        let progress = work.poll(&place.waker);
        if matches!(progress, Progress::Waiting) {
            return progress;
        }
        match self.cancel(id) {
            true => Progress::Over { panicked: true },
            false => progress,
        }
    }

    /// Drops a task; says whether that panicked. One that is over by now is let be.
    pub fn cancel(&mut self, id: TaskId) -> bool {
        let (number, generation) = (id as u32, (id >> 32) as u32);
        let Some(place) = self.places.get_mut(number as usize) else { return false };
        if place.generation != generation {
            return false;
        }
        let Some(work) = place.work.take() else { return false };
        // a waker that was never given away, or has come back, serves the next task
        if Arc::strong_count(&place.alarm) > 2 {
            let mailbox = Arc::clone(&self.mailbox);
            *place = Place::new(name(number, generation.wrapping_add(1)), &mailbox);
        }
        self.free.push(number);
        // the program's own code: it may panic, and begin and end other tasks' wishes
        service::guard(|| "a future that was dropped".to_owned(), || drop(work)).is_none()
    }
}

/// The loop has ended. What still waits is dropped like what was cancelled: a panic in it ends nothing else.
impl Drop for Tasks {
    fn drop(&mut self) {
        for work in self.places.iter_mut().filter_map(|place| place.work.take()) {
            let _ = service::guard(|| "a future that was dropped".to_owned(), || drop(work));
        }
    }
}

impl Place {
    fn new(id: TaskId, mailbox: &Arc<Mailbox>) -> Place {
        let alarm = Arc::new(Alarm { id, rung: AtomicBool::new(false), mailbox: Arc::clone(mailbox) });
        let waker = Waker::from(Arc::clone(&alarm));
        Place { generation: (id >> 32) as u32, work: None, line: Line::default(), alarm, waker }
    }
}

impl Work {
    fn poll(&mut self, waker: &Waker) -> Progress {
        let mut context = Context::from_waker(waker);
        let polled = match self {
            Work::Reply(future) => service::guard(
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
            Some(Poll::Ready(Some(reply))) => Progress::Answered(reply),
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

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::http::Response;
    use std::cell::Cell;
    use std::future::{self, poll_fn};
    use std::rc::Rc;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    /// Counts how often it is woken.
    #[derive(Default)]
    pub struct Count(AtomicUsize);

    impl Count {
        pub fn waker() -> (Arc<Count>, Waker) {
            let count = Arc::new(Count::default());
            (Arc::clone(&count), Waker::from(count))
        }

        pub fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says that it was dropped, and panics if it is to.
    struct Guard {
        dropped: Rc<Cell<bool>>,
        panics: bool,
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            self.dropped.set(true);
            assert!(!self.panics, "on purpose");
        }
    }

    fn tasks() -> Tasks {
        Tasks::new(Mailbox::open().unwrap(), Area::create().unwrap().0)
    }

    fn named(tasks: &Tasks) -> Vec<TaskId> {
        let mail = tasks.mailbox.take().into_iter();
        mail.map(|one| if let Mail::Task(id) = one { id } else { panic!("only tasks") }).collect()
    }

    /// A future that leaves its waker here, and is ready when it finds that taken.
    fn waiting(left: &Rc<Cell<Option<Waker>>>) -> LaterReply {
        let (left, mut begun) = (Rc::clone(left), false);
        Box::pin(poll_fn(move |context| match std::mem::replace(&mut begun, true) && left.take().is_none() {
            true => Poll::Ready("done".into()),
            false => {
                left.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }))
    }

    fn is_answered(progress: &Progress) -> bool {
        matches!(progress, Progress::Answered(_))
    }

    #[test]
    fn one_that_is_ready_at_once_leaves_nothing_behind() {
        let mut tasks = tasks();
        for _ in 0..3 {
            let (id, progress) = tasks.begin(Box::pin(future::ready("now".into())));
            assert!(is_answered(&progress));
            assert!(!tasks.cancel(id) && matches!(tasks.go_on(id), Progress::Waiting), "it is over");
        }
        assert_eq!((tasks.places.len(), tasks.free.len()), (1, 1));
    }

    #[test]
    fn one_that_waits_goes_on_when_it_is_woken_and_is_named_once() {
        let (mut tasks, left) = (tasks(), Rc::default());
        let (id, progress) = tasks.begin(waiting(&left));
        assert!(matches!(progress, Progress::Waiting) && named(&tasks).is_empty());
        let waker = left.take().unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(named(&tasks), [id]);
        assert!(is_answered(&tasks.go_on(id)));
    }

    #[test]
    fn one_that_wakes_itself_is_named_again_every_time() {
        let (mut tasks, mut left) = (tasks(), 3);
        let (id, progress) = tasks.begin(Box::pin(poll_fn(move |context| {
            context.waker().wake_by_ref();
            left -= 1;
            if left == 0 { Poll::Ready("done".into()) } else { Poll::Pending }
        })));
        assert!(matches!(progress, Progress::Waiting));
        assert_eq!(named(&tasks), [id]);
        assert!(matches!(tasks.go_on(id), Progress::Waiting));
        assert_eq!(named(&tasks), [id]);
        assert!(is_answered(&tasks.go_on(id)));
    }

    #[test]
    fn a_waker_that_outlives_its_task_wakes_nobody_else() {
        let (mut tasks, left, next) = (tasks(), Rc::default(), Rc::default());
        let (first, _) = tasks.begin(waiting(&left));
        let late = left.take().unwrap();
        assert!(!tasks.cancel(first) && !tasks.cancel(first), "the second time there is nothing to drop");
        let (second, _) = tasks.begin(waiting(&next));
        assert!(first != second && tasks.places.len() == 1);
        late.wake();
        next.set(None);
        for id in named(&tasks) {
            assert!(matches!(tasks.go_on(id), Progress::Waiting), "it is not the one that was woken");
        }
        assert!(is_answered(&tasks.go_on(second)));
    }

    #[test]
    fn two_tasks_never_share_a_place() {
        let mut tasks = tasks();
        let pending = || -> LaterReply { Box::pin(future::pending()) };
        let (first, _) = tasks.begin(pending());
        tasks.cancel(first);
        tasks.cancel(first);
        let (second, _) = tasks.begin(pending());
        let (third, _) = tasks.begin(pending());
        assert_ne!(second as u32, third as u32);
    }

    #[test]
    fn panics_are_told_in_the_poll_and_in_the_drop() {
        let mut tasks = tasks();
        let (_, progress) = tasks.begin(Box::pin(async { panic!("on purpose") }));
        assert!(matches!(progress, Progress::Over { panicked: true }));
        for panics in [false, true] {
            let dropped = Rc::new(Cell::new(false));
            let guard = Guard { dropped: Rc::clone(&dropped), panics };
            let (id, _) = tasks.begin(Box::pin(async move {
                let _guard = guard;
                future::pending().await
            }));
            assert!(!dropped.get());
            assert_eq!(tasks.cancel(id), panics);
            assert!(dropped.get());
        }
        assert_eq!(tasks.free.len(), tasks.places.len());
        let dropped = Rc::new(Cell::new(false));
        for panics in [true, false] {
            let guard = Guard { dropped: Rc::clone(&dropped), panics };
            let _ = tasks.begin(Box::pin(async move {
                let _guard = guard;
                future::pending().await
            }));
        }
        drop(tasks);
        assert!(Rc::strong_count(&dropped) == 1 && dropped.get(), "one that panics keeps no other from it");
    }

    #[test]
    fn content_is_made_for_as_long_as_somebody_reads_it() {
        let (mut tasks, dropped) = (tasks(), Rc::new(Cell::new(false)));
        let (mut sender, response) = Response::channel();
        let guard = Guard { dropped: Rc::clone(&dropped), panics: false };
        let watch = response.watch().unwrap();
        let progress = tasks.produce(
            Box::pin(async move {
                let _guard = guard;
                while sender.send(vec![0; 40_000]).await.is_ok() {}
            }),
            watch,
        );
        assert!(matches!(progress, Progress::Waiting) && !dropped.get());
        drop(response);
        let [id] = named(&tasks)[..] else { panic!("it is woken") };
        assert!(matches!(tasks.go_on(id), Progress::Over { panicked: false }) && dropped.get());
    }

    /// What a thread has done before it wakes is seen by the poll that takes its ring back, whatever instant it is.
    #[test]
    fn no_wake_up_from_another_thread_is_lost() {
        const STEPS: usize = 20_000;
        let mut tasks = tasks();
        let done = Arc::new(AtomicUsize::new(0));
        let (given, taken) = std::sync::mpsc::channel::<Waker>();
        let worker = thread::spawn({
            let done = Arc::clone(&done);
            move || {
                let waker = taken.recv().unwrap();
                for step in 1..=STEPS {
                    done.store(step, Ordering::Relaxed);
                    waker.wake_by_ref();
                }
            }
        });
        let mut given = Some(given);
        let (id, progress) = tasks.begin(Box::pin(poll_fn(move |context| {
            if let Some(given) = given.take() {
                given.send(context.waker().clone()).unwrap();
            }
            match done.load(Ordering::Relaxed) {
                STEPS => Poll::Ready("all".into()),
                _ => Poll::Pending,
            }
        })));
        let mut over = is_answered(&progress);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !over {
            assert!(std::time::Instant::now() < deadline, "a wake-up was lost");
            for named in named(&tasks) {
                assert_eq!(named, id);
                over |= is_answered(&tasks.go_on(named));
            }
        }
        worker.join().unwrap();
    }
}
