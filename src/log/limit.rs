//! Lines of one cause (one place in our code, and in the program's where the line has its `location`) are written ten times a
//! second; the rest of that second is left out, and then it is said how many there were. Events of the workers' lives are never left out, nor is what the program itself logs, nor
//! what somebody has asked for who set the level to debug.
//!
//! Neighbours: `mod` puts it before what writes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one cause within [`WINDOW`].
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Whose lines are limited.
const OWN: &str = "uringd";

/// See the module's comment. Clones are the same limit.
#[derive(Clone, Default)]
pub struct Limit(Arc<Inner>);

#[derive(Default)]
struct Inner {
    causes: Mutex<HashMap<Place, Cause>>,
    /// Something is to be told. Read without the lock.
    left_out: AtomicBool,
}

/// Where a line comes from: the place that writes it, and what it says of a place in the program (hashed).
type Place = (Identifier, u64);

/// What one place in the code has had to say lately.
struct Cause {
    since: Instant,
    lines: u32,
    left_out: u64,
    /// Of the first line that was left out.
    message: String,
}

impl Limit {
    /// Whether this event is written.
    fn passes(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        !is_limited(metadata)
            || self.admits((metadata.callsite(), Location::of(event)), now, || Message::of(event))
    }

    /// Whether a line of this cause is written. `message` is what it says.
    fn admits(&self, place: Place, now: Instant, message: impl FnOnce() -> String) -> bool {
        let mut causes = self.causes();
        let entry = match causes.entry(place) {
            Entry::Vacant(place) => place.insert(Cause::at(now)),
            Entry::Occupied(place) => place.into_mut(),
        };
        if entry.is_over(now) && entry.left_out == 0 {
            *entry = Cause::at(now);
        }
        if entry.lines < LINES_MAX && !entry.is_over(now) {
            entry.lines += 1;
            return true;
        }
        if entry.left_out == 0 {
            entry.message = message();
            self.0.left_out.store(true, Ordering::Relaxed);
        }
        entry.left_out += 1;
        false
    }

    /// Tells of those whose second is over.
    pub fn tell(&self, now: Instant) {
        if self.0.left_out.load(Ordering::Relaxed) {
            self.tell_those(|cause| cause.is_over(now));
        }
    }

    /// Tells of all.
    pub fn tell_all(&self) {
        self.tell_those(|_| true);
    }

    /// When the next one is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.0.left_out.load(Ordering::Relaxed) {
            return None;
        }
        let causes = self.causes();
        let silenced = causes.values().filter(|cause| cause.left_out > 0);
        silenced.map(|cause| cause.since + WINDOW).min()
    }

    /// Nothing is locked while it is told, which comes this way too.
    fn tell_those(&self, is_due: impl Fn(&Cause) -> bool) {
        let mut causes = self.causes();
        let mut due: Vec<Cause> = causes
            .extract_if(|_, cause| cause.left_out > 0 && is_due(cause))
            .map(|(_, cause)| cause)
            .collect();
        self.0.left_out.store(causes.values().any(|cause| cause.left_out > 0), Ordering::Relaxed);
        drop(causes);
        due.sort_by_key(|cause| cause.since);
        for Cause { left_out, message, .. } in due {
            tracing::warn!(left_out, "{left_out} lines like this were left out: {message}");
        }
    }

    fn causes(&self) -> MutexGuard<'_, HashMap<Place, Cause>> {
        self.0.causes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cause {
    fn at(now: Instant) -> Cause {
        Cause { since: now, lines: 0, left_out: 0, message: String::new() }
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.since + WINDOW
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.passes(event, Instant::now())
    }
}

fn is_limited(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let is_ours = target.strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let is_event = metadata.fields().field("event").is_some();
    is_ours && !is_event && *metadata.level() <= Level::INFO && target != module_path!()
}

/// Which place in the program an event names.
#[derive(Default)]
struct Location(DefaultHasher);

impl Location {
    fn of(event: &Event<'_>) -> u64 {
        let mut location = Location::default();
        event.record(&mut location);
        location.0.finish()
    }
}

impl Visit for Location {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "location" {
            self.0.write(value.as_bytes());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// The text of an event.
#[derive(Default)]
struct Message(String);

impl Message {
    fn of(event: &Event<'_>) -> String {
        let mut message = Message::default();
        event.record(&mut message);
        message.0
    }
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tracing::Callsite;
    use tracing::subscriber::Interest;
    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The limit while time stands still: however long the machine takes, all lines come at this moment.
    struct At(Limit, Instant);

    impl<S: Subscriber> Layer<S> for At {
        fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
            self.0.passes(event, self.1)
        }
    }

    /// What is written of what this logs, all of it at this moment, without its time.
    fn written(now: Instant, log: impl FnOnce(&Limit)) -> Vec<String> {
        let (lines, limit) = (Lines::default(), Limit::default());
        let writer = lines.clone();
        let layer = fmt::layer()
            .with_writer(move || writer.clone())
            .without_time()
            .with_target(false)
            .with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(At(limit.clone(), now)).with(layer);
        tracing::subscriber::with_default(subscriber, || log(&limit));
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn a_cause_is_heard_ten_times_a_second_and_then_counted() {
        let start = Instant::now();
        let lines = written(start, |limit| {
            for n in 0..25 {
                tracing::error!(n, "it fails");
            }
            tracing::info!("something else");
            limit.tell(start);
            assert_eq!(limit.next_deadline(), Some(start + WINDOW));
            limit.tell(start + WINDOW);
            limit.tell(start + WINDOW);
            assert_eq!(limit.next_deadline(), None);
        });
        let mut expected: Vec<String> = (0..10).map(|n| format!("ERROR it fails n={n}")).collect();
        expected.push("INFO something else".into());
        expected.push("WARN 15 lines like this were left out: it fails left_out=15".into());
        assert_eq!(lines, expected);
    }

    /// A place in the code.
    struct Here;

    impl Callsite for Here {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("nobody asks what it says")
        }
    }

    #[test]
    fn nothing_is_lost_from_the_count() {
        let (limit, start) = (Limit::default(), Instant::now());
        let admits =
            |ms| limit.admits((Identifier(&Here), 0), start + Duration::from_millis(ms), String::new);
        let admitted = |from: u64, to| (from..to).filter(|ms| admits(*ms)).count();
        assert_eq!(
            (admitted(0, 999), admitted(999, 1_500)),
            (10, 0),
            "until it is told, nothing more is said"
        );
        assert_eq!(limit.next_deadline(), Some(start + WINDOW));
        let told = written(start, |_| limit.tell(start + Duration::from_millis(1_500)));
        assert_eq!(told, ["WARN 1490 lines like this were left out:  left_out=1490"]);
        assert_eq!((admitted(1_500, 1_505), admitted(3_000, 3_020)), (5, 10), "each second has its ten");
        assert_eq!(written(start, |_| limit.tell_all()).len(), 1);
    }

    #[test]
    fn places_in_the_program_are_told_apart() {
        let lines = written(Instant::now(), |_| {
            for location in ["a.rs:1", "b.rs:2"] {
                (0..30).for_each(|_| tracing::error!(location = location.to_owned(), "panic"));
            }
        });
        assert_eq!(lines.iter().filter(|line| line.contains("b.rs:2")).count(), 10);
        assert_eq!(lines.len(), 20);
    }

    #[test]
    fn what_must_be_heard_is_heard() {
        let lines = written(Instant::now(), |limit| {
            for _ in 0..30 {
                tracing::info!(event = "exit", "worker gone");
                tracing::debug!("asked for");
                tracing::error!(target: "program", "its own");
                tracing::error!(target: "uringds", "somebody's");
            }
            limit.tell_all();
        });
        assert_eq!(lines.len(), 120);
    }
}
