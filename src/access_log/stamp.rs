//! The time as lines have it, in UTC, rendered once a second.
//!
//! Neighbours: `line` copies it; `worker::journal` says when a second has passed.

use crate::stats::Nanos;
use httpdate::HttpDate;
use std::io::Write;
use std::time::{Duration, SystemTime};

/// One second, in the two forms that the formats need.
#[derive(Debug, Default)]
pub struct Stamp {
    /// From the address to the request: `- - [23/Nov/2026:07:15:42 +0000] "`.
    text: Vec<u8>,
    /// `2026-11-23T07:15:42.`
    rfc3339: Vec<u8>,
    /// When it was rendered, on the loop's clock, and how much of the second had passed.
    rendered: Nanos,
    into: Nanos,
}

impl Stamp {
    /// Renders the second of this moment, which is `now` on the loop's clock.
    pub fn set(&mut self, wall: SystemTime, now: Nanos) {
        let since_epoch = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs());
        (self.rendered, self.into) = (now, since_epoch.subsec_nanos().into());
        // an IMF-fixdate, which has everything in its place: Sun, 06 Nov 1994 08:49:37 GMT
        let mut date = [0; 29];
        write!(date.as_mut_slice(), "{}", HttpDate::from(second)).expect("every date has this length");
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        self.text.clear();
        for part in [b" - - [", day, b"/", month, b"/", year, b":", time, b" +0000] \""] {
            self.text.extend_from_slice(part);
        }
        self.rfc3339.clear();
        write!(self.rfc3339, "{}", humantime::format_rfc3339_seconds(second)).expect("memory takes it");
        self.rfc3339.pop();
        self.rfc3339.push(b'.');
    }

    /// What stands between the address and the request.
    #[inline]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// With milliseconds (RFC 3339). The loop may be late to render a new second: until then it is the last moment of the
    /// one before.
    pub fn write_rfc3339(&self, now: Nanos, out: &mut Vec<u8>) {
        let millis = ((self.into + now.saturating_sub(self.rendered)) / 1_000_000).min(999);
        out.extend_from_slice(&self.rfc3339);
        write!(out, "{millis:03}Z").expect("memory takes it");
    }
}
