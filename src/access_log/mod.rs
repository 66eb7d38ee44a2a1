//! The access log, without I/O: one line for each request, in a bounded buffer from which batches are taken. `line` says
//! how a line looks, `record` keeps what it needs of a request that is not over yet, `stamp` has the time as text.
//!
//! Nothing here waits, and nothing allocates once it has grown to its size: what does not fit is dropped and counted.
//!
//! Neighbours: `http::exchange` tells it of every answer; `worker::journal` takes the batches to the ring.

mod line;
mod record;
mod stamp;

pub use line::{Asked, Entry};
pub use record::Record;

use crate::stats::Nanos;
use line::Origin;
use serde::{Deserialize, Serialize};
use stamp::Stamp;
use std::cell::{Cell, RefCell};
use std::mem;
use std::time::SystemTime;

/// Room for lines, twice: one half is written while the other is filled. It is not for the most that a loop's turn can bring:
/// 256 buffers full of pipelined requests of the shortest kind make more lines than fit into both together, and the rest is
/// dropped and counted. Memory that was never needed costs nothing.
const HALF_OCTETS: usize = 1 << 20;

/// Records whose room stays allocated.
const RECORDS_KEPT: usize = 256;

/// How the lines look (`--access-log-format`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// The Common Log Format of NCSA httpd
    Common,
    /// The same with the Referer and User-Agent fields: nginx's and Apache's "combined"
    #[default]
    Combined,
    /// One JSON object a line
    Json,
}

/// See the module's comment. Not shared between threads.
pub struct AccessLog {
    format: Format,
    origin: Origin,
    /// What time it is on the loop's clock, for formats that tell how long a request took.
    clock: fn() -> Nanos,
    /// Longer lines are shortened.
    line_max: Cell<usize>,
    stamp: RefCell<Stamp>,
    halves: RefCell<Halves>,
    /// The answer whose content is still to be sent, until the loop asks for it.
    begun: RefCell<Option<Box<Record>>>,
    #[expect(clippy::vec_box, reason = "they are handed out as boxes and come back as such")]
    spare: RefCell<Vec<Box<Record>>>,
    dropped: Cell<u64>,
}

/// Two buffers of lines. Lines are appended to `filling`; what is in `full` comes before it.
struct Halves {
    filling: Vec<u8>,
    full: Option<Vec<u8>>,
    /// Empty; `None` while it is being filled or written.
    other: Option<Vec<u8>>,
}

impl AccessLog {
    /// A log of the worker in this slot, with this process ID. Its time is to be [set](AccessLog::set_time) before the first
    /// line, and whenever a second has passed.
    pub fn new(format: Format, slot: usize, pid: u32, clock: fn() -> Nanos) -> AccessLog {
        AccessLog {
            format,
            origin: Origin::new(slot, pid),
            clock,
            line_max: Cell::new(usize::MAX),
            stamp: RefCell::default(),
            halves: RefCell::new(Halves::new()),
            begun: RefCell::default(),
            spare: RefCell::default(),
            dropped: Cell::new(0),
        }
    }

    /// Renders the time; `now` is the same moment on the loop's clock.
    pub fn set_time(&self, wall: SystemTime, now: Nanos) {
        self.stamp.borrow_mut().set(wall, now);
    }

    /// From now on a line has at most so many octets: what a client has sent is cut short where it would be longer.
    pub fn limit_lines(&self, octets: usize) {
        self.line_max.set(octets);
    }

    /// Writes the line of a request that is over.
    pub fn write(&self, entry: &Entry<'_>) {
        let mut halves = self.halves.borrow_mut();
        let Some(out) = halves.with_room(line::octets_max(entry)) else {
            return self.dropped.set(self.dropped.get() + 1);
        };
        let (stamp, now) = (self.stamp.borrow(), || (self.clock)());
        line::write(self.format, entry, &stamp, &self.origin, now, self.line_max.get(), out);
    }

    /// Remembers a request that will be answered later, or whose answer will take a while to send.
    pub fn keep(&self, entry: &Entry<'_>) -> Box<Record> {
        let mut record = self.spare.borrow_mut().pop().unwrap_or_default();
        record.fill(entry);
        record
    }

    /// An answer's content is about to be sent from where it lies; who sends it [takes](AccessLog::take_begun) this.
    pub fn begin(&self, record: Box<Record>) {
        self.begun.replace(Some(record));
    }

    /// What was begun since this was last called; at most one answer is.
    pub fn take_begun(&self) -> Option<Box<Record>> {
        self.begun.take()
    }

    /// Writes the line of a request that was kept, of whose answer so many octets have been sent since it was begun.
    pub fn finish(&self, record: Box<Record>, octets: u64) {
        self.write(&record.entry(octets));
        let mut spare = self.spare.borrow_mut();
        if spare.len() < RECORDS_KEPT {
            spare.push(record);
        }
    }

    /// Octets that wait to be taken.
    pub fn waiting(&self) -> usize {
        let halves = self.halves.borrow();
        halves.full.as_ref().map_or(0, Vec::len) + halves.filling.len()
    }

    /// Takes whole lines, the oldest; nothing while a batch before has not been [given back](AccessLog::give_back) or there
    /// are none.
    pub fn take_batch(&self) -> Option<Vec<u8>> {
        self.halves.borrow_mut().take()
    }

    /// Puts the room of a batch back.
    pub fn give_back(&self, mut batch: Vec<u8>) {
        batch.clear();
        self.halves.borrow_mut().other = Some(batch);
    }

    /// Lines for which there was no room since this was last called.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.take()
    }
}

impl Halves {
    fn new() -> Halves {
        let half = || Vec::with_capacity(HALF_OCTETS);
        Halves { filling: half(), full: None, other: Some(half()) }
    }

    /// Where a line of so many octets can be appended.
    fn with_room(&mut self, octets: usize) -> Option<&mut Vec<u8>> {
        if self.filling.len() + octets > HALF_OCTETS {
            let other = self.other.take()?;
            self.full = Some(mem::replace(&mut self.filling, other));
        }
        Some(&mut self.filling)
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        if let Some(full) = self.full.take() {
            return Some(full);
        }
        if self.filling.is_empty() {
            return None;
        }
        let other = self.other.take()?;
        Some(mem::replace(&mut self.filling, other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn log(format: Format) -> AccessLog {
        let log = AccessLog::new(format, 3, 4711, || 2_500_000);
        // 23 Nov 2026 07:15:42.250
        log.set_time(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_418_142_250), 2_000_000);
        log
    }

    fn asked<'a>(target: &'a str) -> Asked<'a> {
        Asked { method: b"GET", target: target.as_bytes(), version: b"HTTP/1.1", ..Asked::default() }
    }

    fn entry(asked: Asked<'_>) -> Entry<'_> {
        let peer = Some(([127, 0, 0, 1], 5_000).into());
        Entry { peer, asked, status: 200, octets: 31, arrived: 1_500_000 }
    }

    fn lines(log: &AccessLog) -> String {
        let batch = log.take_batch().unwrap_or_default();
        let text = String::from_utf8(batch.clone()).unwrap();
        log.give_back(batch);
        text
    }

    #[test]
    fn each_format_has_its_line() {
        let asked = Asked { user_agent: Some(b"curl/8"), ..asked("/") };
        for (format, expected) in [
            (
                Format::Common,
                "127.0.0.1 - - [23/Nov/2026:07:15:42 +0000] \"GET / HTTP/1.1\" 200 31\n".to_owned(),
            ),
            (
                Format::Combined,
                "127.0.0.1 - - [23/Nov/2026:07:15:42 +0000] \"GET / HTTP/1.1\" 200 31 \"-\" \"curl/8\"\n".to_owned(),
            ),
            (
                Format::Json,
                "{\"time\":\"2026-11-23T07:15:42.250Z\",\"remote_addr\":\"127.0.0.1\",\"method\":\"GET\",\"target\":\"/\",\
                 \"version\":\"HTTP/1.1\",\"status\":200,\"body_bytes_sent\":31,\"duration_us\":1000,\"referer\":null,\
                 \"user_agent\":\"curl/8\",\"slot\":3,\"pid\":4711}\n".to_owned(),
            ),
        ] {
            let log = log(format);
            log.write(&entry(asked));
            assert_eq!(lines(&log), expected);
        }
    }

    #[test]
    fn peers_are_written_as_nginx_writes_them() {
        let log = log(Format::Common);
        let peers = [
            (Some("127.0.0.1:80"), "127.0.0.1 - "),
            (Some("203.0.113.255:80"), "203.0.113.255 - "),
            (Some("[2001:db8::1]:80"), "2001:db8::1 - "),
            // an IPv4 client of a socket for both families
            (Some("[::ffff:192.0.2.10]:80"), "192.0.2.10 - "),
            (None, "unix: - "),
        ];
        for (peer, expected) in peers {
            let peer = peer.map(|peer| peer.parse().unwrap());
            log.write(&Entry { peer, ..entry(asked("/")) });
            let line = lines(&log);
            assert!(line.starts_with(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_request_is_logged_with_what_there_is() {
        let table: [(&[u8], &str, &str); 7] = [
            (
                b"",
                "\"-\" 400 31 \"-\" \"-\"",
                "\"method\":null,\"target\":null,\"version\":null,\"status\":400,",
            ),
            (
                b"GET / HTTP/1.1\r\nHost",
                "\"GET / HTTP/1.1\" 400 ",
                "\"method\":\"GET\",\"target\":\"/\",\"version\":\"HTTP/1.1\",",
            ),
            (
                b"\r\n\r\nBREW / HTTP/3.0\r\n",
                "\"BREW / HTTP/3.0\" 400 ",
                "\"method\":\"BREW\",\"target\":\"/\",\"version\":\"HTTP/3.0\",",
            ),
            (b"GET /\n", "\"GET /\" 400 ", "\"method\":null,\"target\":\"GET /\",\"version\":null,"),
            (b"\x16\x03\x01\"", "\"\\x16\\x03\\x01\\x22\" 400 ", "\"target\":\"\\u0016\\u0003\\u0001\\\"\","),
            (b"a b c", "\"a b c\" 400 ", "\"method\":null,\"target\":\"a b c\",\"version\":null,"),
            (b"\r\r", "\"-\" 400 ", "\"target\":null,"),
        ];
        for (input, text, json) in table {
            for (format, expected) in [(Format::Combined, text), (Format::Json, json)] {
                let log = log(format);
                log.write(&Entry { status: 400, ..entry(Asked::of_input(input)) });
                let line = lines(&log);
                assert!(line.contains(expected), "{line} lacks {expected}");
            }
        }
    }

    #[test]
    fn a_request_that_nobody_answered_has_no_status() {
        for (format, expected) in
            [(Format::Common, "\" 000 0\n"), (Format::Json, "\"status\":null,\"body_bytes_sent\":0,")]
        {
            let log = log(format);
            let record = log.keep(&entry(asked("/")));
            log.finish(record, 0);
            let line = lines(&log);
            assert!(line.contains(expected), "{line}");
        }
    }

    #[test]
    fn a_record_says_what_the_entry_said_and_what_went_behind_the_head() {
        let (direct, kept) = (log(Format::Json), log(Format::Json));
        let asked = Asked { referer: Some(b""), user_agent: Some(b"me"), ..asked("/a?b") };
        for _ in 0..2 {
            direct.write(&entry(asked));
            let mut record = kept.keep(&entry(asked));
            record.begin(200, 90);
            record.sent_before(40);
            kept.begin(record);
            kept.finish(kept.take_begun().unwrap(), 90 + 31 - 40);
            assert!(kept.take_begun().is_none());
            assert_eq!(lines(&kept), lines(&direct));
        }
        // the client went in the middle of the head
        let mut record = kept.keep(&entry(asked));
        record.begin(200, 90);
        kept.finish(record, 80);
        assert!(lines(&kept).contains("\"body_bytes_sent\":0,"));
    }

    #[test]
    fn a_long_line_is_cut_where_the_client_wrote_it() {
        for format in [Format::Common, Format::Combined, Format::Json] {
            let log = log(format);
            log.limit_lines(4096);
            let (long, foul) = ("/".to_owned() + &"x".repeat(8_000), "\u{1}".repeat(8_000));
            let asked = Asked { referer: Some(foul.as_bytes()), user_agent: Some(b"\xff"), ..asked(&long) };
            log.write(&entry(asked));
            let line = lines(&log);
            assert!(line.len() <= 4096 && line.ends_with('\n') && line.contains("xxx..."), "{line}");
            assert_eq!(line.matches('\n').count(), 1);
            if format == Format::Json {
                serde_json::from_str::<serde_json::Value>(&line).unwrap();
            }
        }
    }

    #[test]
    fn one_half_fills_while_the_other_is_away_and_then_lines_are_dropped() {
        let log = log(Format::Combined);
        let target = "/".repeat(2_000);
        let mut written = 0;
        let fill = || {
            let mut count = 0;
            while log.take_dropped() == 0 {
                log.write(&entry(asked(&target)));
                count += 1;
            }
            count - 1
        };
        written += fill();
        assert!((HALF_OCTETS..2 * HALF_OCTETS).contains(&log.waiting()));
        let first = log.take_batch().unwrap();
        assert!(log.take_batch().is_none(), "one at a time");
        assert_eq!(fill(), 0, "the other half is full as well");
        let (capacity, mut all) = (first.capacity(), first.clone());
        log.give_back(first);
        written += fill();
        while let Some(batch) = log.take_batch() {
            all.extend_from_slice(&batch);
            assert_eq!(batch.capacity(), capacity, "nothing has grown");
            log.give_back(batch);
        }
        assert_eq!(memchr::memchr_iter(b'\n', &all).count(), written);
        assert_eq!(log.waiting(), 0);
    }

    proptest! {
        /// Whatever a client sends: one line, printable ASCII, with quotes where they belong.
        #[test]
        fn no_client_forges_a_line(
            target in prop::collection::vec(any::<u8>(), 0..60),
            referer in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
            user_agent in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
        ) {
            let asked = Asked {
                target: &target,
                referer: referer.as_deref(),
                user_agent: user_agent.as_deref(),
                ..asked("")
            };
            let text = log(Format::Combined);
            text.write(&entry(asked));
            let line = lines(&text);
            prop_assert!(line.strip_suffix('\n').unwrap().bytes().all(|octet| (b' '..=b'~').contains(&octet)));
            prop_assert_eq!(line.matches('"').count(), 6);
            let json = log(Format::Json);
            json.write(&entry(asked));
            let line = lines(&json);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            let lossy = |text: &[u8]| serde_json::Value::from(String::from_utf8_lossy(text));
            if !target.is_empty() {
                prop_assert_eq!(&value["target"], &lossy(&target));
            }
            prop_assert_eq!(&value["referer"], &referer.as_deref().map_or(serde_json::Value::Null, lossy));
            prop_assert_eq!(&value["user_agent"], &user_agent.as_deref().map_or(serde_json::Value::Null, lossy));
            prop_assert_eq!(value.as_object().unwrap().len(), 12);
        }

        /// What is no request can be anything.
        #[test]
        fn no_input_forges_a_line(input in prop::collection::vec(any::<u8>(), 0..60), limit in 400usize..600) {
            for format in [Format::Combined, Format::Json] {
                let log = log(format);
                log.limit_lines(limit);
                log.write(&entry(Asked::of_input(&input)));
                let line = lines(&log);
                prop_assert!(line.ends_with('\n') && line.matches('\n').count() == 1 && line.len() <= limit);
            }
        }
    }
}
