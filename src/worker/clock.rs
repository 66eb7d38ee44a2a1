//! The loop's clock: read when a turn begins, so that everything in a turn happens at the same time, and when it ends,
//! which is when the answers leave.
//!
//! Neighbours: `event_loop` advances it; `timers`, answers and `meter` read it.

use crate::http::Date;
use crate::stats::Nanos;
use crate::sys::clock;
use crate::{handler, log};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

/// Milliseconds since the first loop of this process was made: files that several loops serve remember when they were
/// looked at.
pub type Millis = u64;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// See the module's comment.
pub struct Clock {
    instant: Instant,
    now: Millis,
    date: Date,
    date_until: Millis,
    names_server: bool,
    /// When a slow turn may be told of again.
    quiet_until: Millis,
}

/// What a turn may take, the waiting aside. A loop that is only busy takes far less.
const SLOW_TURN_NS: Nanos = 100_000_000;

/// How long nothing is said of slow turns after one of them.
const QUIET_MS: Millis = 1_000;

impl Clock {
    /// `names_server`: answers carry a Server field beside their Date.
    pub fn new(names_server: bool) -> Clock {
        let (date, left) = Date::render(SystemTime::now(), names_server);
        handler::set_turn_second(date.second());
        let instant = Instant::now();
        let now = since_start(instant);
        Clock { instant, now, date, date_until: now + millis(left), names_server, quiet_until: 0 }
    }

    /// Reads the monotonic clock; the wall clock only when its second has passed, so that steps of the wall clock
    /// move no timer and are seen within a second.
    #[inline]
    pub fn advance(&mut self) {
        self.instant = Instant::now();
        self.now = since_start(self.instant);
        handler::set_turn_ms(self.now);
        if self.now >= self.date_until {
            self.render_date();
        }
    }

    /// When this turn began, or was last looked at.
    #[inline]
    pub fn nanos(&self) -> Nanos {
        nanos_since_start(self.instant)
    }

    /// Reads the clock anew, and leaves this turn's time what it is.
    #[inline]
    pub fn read(&self) -> Nanos {
        nanos_now()
    }

    /// Whether a turn that took so long is worth telling.
    #[inline]
    pub fn is_slow(&mut self, took: Nanos) -> bool {
        took >= SLOW_TURN_NS && self.may_tell()
    }

    #[cold]
    fn may_tell(&mut self) -> bool {
        let may = self.now >= self.quiet_until;
        if may {
            self.quiet_until = self.now + QUIET_MS;
        }
        may
    }

    /// Where this clock begins, on CLOCK_MONOTONIC.
    pub fn origin() -> Nanos {
        clock::monotonic().saturating_sub(START.elapsed()).as_nanos() as Nanos
    }

    #[inline]
    pub fn now(&self) -> Millis {
        self.now
    }

    #[inline]
    pub fn date(&self) -> &Date {
        &self.date
    }

    #[inline]
    pub fn instant(&self) -> Instant {
        self.instant
    }

    /// When that is on this clock; not before it.
    pub fn at(&self, instant: Instant) -> Millis {
        millis(instant.saturating_duration_since(*START))
    }

    /// Once a second, whatever has to be done that often.
    fn render_date(&mut self) {
        log::tell_left_out();
        let (date, left) = Date::render(SystemTime::now(), self.names_server);
        handler::set_turn_second(date.second());
        self.date = date;
        self.date_until = self.now + millis(left);
    }
}

/// How much later than it should the loop must come to its next turn to have been held up.
const HELD_UP: Duration = Duration::from_secs(1);

/// What is known of the loop's hold-ups: it was stopped, in its wait or at work, or the program kept it.
#[derive(Debug, Default)]
pub struct HoldUps {
    /// As long after the last one as that took.
    recent_until: Nanos,
}

/// What a hold-up means for those whose time has run meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldUp {
    /// By so much their time is put off.
    pub put_off: Millis,
    /// The one before was not long ago.
    pub again: bool,
}

impl HoldUps {
    /// Whether the loop was held up between the beginnings of two turns, of which it meant to wait for `timeout`. What it came
    /// too late counts for nobody. Of a loop that is late more often than not half of it counts: nobody would else ever see a
    /// limit pass.
    #[inline]
    pub fn between(&mut self, before: Nanos, now: Nanos, timeout: Duration) -> Option<HeldUp> {
        let late = Duration::from_nanos(now.saturating_sub(before)).saturating_sub(timeout);
        (late > HELD_UP).then(|| self.note(before, now, late))
    }

    #[cold]
    fn note(&mut self, before: Nanos, now: Nanos, late: Duration) -> HeldUp {
        let again = before < self.recent_until;
        self.recent_until = now.saturating_add(late.as_nanos() as Nanos);
        HeldUp { put_off: millis(if again { late / 2 } else { late }), again }
    }
}

/// What time it is, by the clock.
pub fn nanos_now() -> Nanos {
    nanos_since_start(Instant::now())
}

fn since_start(instant: Instant) -> Millis {
    instant.saturating_duration_since(*START).as_millis() as Millis
}

fn nanos_since_start(instant: Instant) -> Nanos {
    instant.saturating_duration_since(*START).as_nanos() as Nanos
}

/// Rounded up: a deadline lies at least this long after the turn it was set in began.
pub fn millis(time: Duration) -> Millis {
    Millis::try_from(time.as_micros().div_ceil(1000)).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns that began at these times, in milliseconds, none of which meant to wait for more than 50 ms.
    fn held_up<const N: usize>(turns: [u64; N]) -> Vec<Option<(Millis, bool)>> {
        let mut hold_ups = HoldUps::default();
        let nanos = |ms| Duration::from_millis(ms).as_nanos() as Nanos;
        let between = |pair: &[u64]| {
            let timeout = Duration::from_millis(50);
            let held_up = hold_ups.between(nanos(pair[0]), nanos(pair[1]), timeout)?;
            Some((held_up.put_off, held_up.again))
        };
        turns.windows(2).map(between).collect()
    }

    #[test]
    fn what_a_turn_comes_too_late_counts_for_nobody_and_half_of_it_if_that_goes_on() {
        assert_eq!(held_up([0, 50, 1_100]), [None, None]);
        assert_eq!(held_up([0, 1_051, 1_052]), [Some((1_001, false)), None]);
        assert_eq!(held_up([0, 2_550, 5_100]), [Some((2_500, false)), Some((1_250, true))]);
        // a turn in time between two that are late does not make it new
        assert_eq!(held_up([0, 2_550, 2_560, 5_110]), [Some((2_500, false)), None, Some((1_250, true))]);
        // but as much time in which all went well does
        let often = held_up([0, 1_550, 2_500, 3_049, 3_051, 4_601]);
        assert_eq!(often, [Some((1_500, false)), None, None, None, Some((1_500, false))]);
    }
}
