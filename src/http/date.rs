//! The Date header field (RFC 9110 section 6.6.1), rendered once a second.
//!
//! Neighbours: `worker::clock` renders one when the second turns; `response` copies it into answers.

use std::time::{Duration, SystemTime};

/// What stands before the date in every answer: rendered with it, so that each answer copies both at once.
const BEFORE: &[u8; 22] = b"Server: uringd\r\nDate: ";
const DATE_LEN: usize = 29;

/// One second as an IMF-fixdate, with the field lines around it.
#[derive(Debug, Clone)]
pub struct Date([u8; BEFORE.len() + DATE_LEN]);

impl Date {
    /// Renders `now`, and says for how long that stays true.
    pub fn render(now: SystemTime) -> (Date, Duration) {
        let mut lines = [b' '; BEFORE.len() + DATE_LEN];
        lines[..BEFORE.len()].copy_from_slice(BEFORE);
        lines[BEFORE.len()..].copy_from_slice(httpdate::fmt_http_date(now).as_bytes());
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let into_second = Duration::from_nanos(u64::from(since_epoch.subsec_nanos()));
        (Date(lines), Duration::from_secs(1) - into_second)
    }

    /// The field lines `Server` and `Date`, without the last line's end.
    #[inline]
    pub(super) fn lines(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_and_what_is_left_of_it() {
        let (date, left) = Date::render(SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_900));
        assert_eq!(date.lines(), b"Server: uringd\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(left, Duration::from_millis(100));
        let (_, left) = Date::render(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        assert_eq!(left, Duration::from_secs(1));
    }
}
