//! The loop's clock: read once a turn, so that everything in a turn happens at the same time.
//!
//! Neighbours: `event_loop` advances it; `timers` and answers read it.

use crate::handler;
use crate::http::Date;
use std::time::{Duration, Instant, SystemTime};

/// Milliseconds since the worker's loop was made.
pub type Millis = u64;

/// See the module's comment.
pub struct Clock {
    start: Instant,
    instant: Instant,
    now: Millis,
    date: Date,
    date_until: Millis,
    names_server: bool,
}

impl Clock {
    /// `names_server`: answers carry a Server field beside their Date.
    pub fn new(names_server: bool) -> Clock {
        let (date, left) = Date::render(SystemTime::now(), names_server);
        let start = Instant::now();
        Clock { start, instant: start, now: 0, date, date_until: millis(left), names_server }
    }

    /// Reads the monotonic clock; the wall clock only when its second has passed, so that steps of the wall clock
    /// move no timer and are seen within a second.
    #[inline]
    pub fn advance(&mut self) {
        self.instant = Instant::now();
        self.now = self.instant.duration_since(self.start).as_millis() as Millis;
        handler::set_turn_ms(self.now);
        if self.now >= self.date_until {
            self.render_date();
        }
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
        millis(instant.saturating_duration_since(self.start))
    }

    fn render_date(&mut self) {
        let (date, left) = Date::render(SystemTime::now(), self.names_server);
        self.date = date;
        self.date_until = self.now + millis(left);
    }
}

/// Rounded up: a deadline lies at least this long after the turn it was set in began.
pub fn millis(time: Duration) -> Millis {
    Millis::try_from(time.as_micros().div_ceil(1000)).unwrap_or(Millis::MAX)
}
