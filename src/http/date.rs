//! The Date header field (RFC 9110 section 6.6.1), rendered once a second.
//!
//! Neighbours: `worker::clock` renders one when the second turns; `response` copies it into answers.

use httpdate::HttpDate;
use std::io::Write;
use std::time::{Duration, SystemTime};

/// What stands before the date in every answer: rendered with it, so that each answer copies both at once.
const SERVER: &[u8; 16] = b"Server: uringd\r\n";
const NAME: &[u8; 6] = b"Date: ";
const DATE_LEN: usize = 29;

/// One second as an IMF-fixdate, with the field lines around it.
#[derive(Debug, Clone)]
pub struct Date {
    lines: [u8; SERVER.len() + NAME.len() + DATE_LEN],
    start: usize,
    second: u64,
}

impl Date {
    /// Renders `now`, with the field `Server: uringd` or without it, and says for how long that stays true.
    pub fn render(now: SystemTime, names_server: bool) -> (Date, Duration) {
        let mut lines = [0; SERVER.len() + NAME.len() + DATE_LEN];
        let (server, date) = lines.split_at_mut(SERVER.len());
        server.copy_from_slice(SERVER);
        date[..NAME.len()].copy_from_slice(NAME);
        write!(&mut date[NAME.len()..], "{}", HttpDate::from(now)).expect("every date has this length");
        let start = if names_server { 0 } else { SERVER.len() };
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let into_second = Duration::from_nanos(u64::from(since_epoch.subsec_nanos()));
        (Date { lines, start, second: since_epoch.as_secs() }, Duration::from_secs(1) - into_second)
    }

    /// Since the epoch.
    #[inline]
    pub(crate) fn second(&self) -> u64 {
        self.second
    }

    /// The field lines `Server` (if wanted) and `Date`, without the last line's end.
    #[inline]
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_and_what_is_left_of_it() {
        let (date, left) =
            Date::render(SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_900), true);
        assert_eq!(date.lines(), b"Server: uringd\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(left, Duration::from_millis(100));
        let (date, left) = Date::render(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777), false);
        assert_eq!(date.lines(), b"Date: Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(left, Duration::from_secs(1));
    }
}
