//! The access log's way out of a worker: takes batches of lines to the ring, one in flight, while further lines are
//! written to the other half of the buffer. A file that is slow, full or gone costs lines, which are counted and told of;
//! it never makes the loop wait. Also what is on its way to clients whose line cannot be written yet.
//!
//! Neighbours: `access_log` is what exchanges write to; `event_loop` performs the writes, and says what became of answers.

use super::clock::{self, Clock, Millis};
use crate::access_log::{AccessLog, Format, Record};
use crate::ring::{Append, Token};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use std::fmt;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

/// Octets of lines that are written as soon as the turn ends. Small enough that they are still in the cache.
const BATCH_OCTETS: usize = 32 * 1024;
/// How long a line waits for others at most.
const DELAY_MS: Millis = 250;
/// When a descriptor that would block is tried again.
const RETRY_MS: Millis = 50;
/// For so long no line must have been lost before the log counts as well again.
const RECOVERY_MS: Millis = 1_000;
/// How long a worker that is about to exit waits for its last lines to be taken: by a reader, who may never read again, and by a
/// disk, which may be busy. (A worker's master may have less patience.)
const READER_PATIENCE_MS: Millis = 1_000;
const DISK_PATIENCE_MS: Millis = 10_000;

/// See the module's comment.
pub struct Journal {
    /// Where exchanges write.
    pub log: AccessLog,
    /// Which second the log's time is.
    second: Option<u64>,
    /// `None` until the master has sent it.
    target: Option<Target>,
    /// What is written to once so many octets that wait now are written to the one before.
    next: Option<(Target, usize)>,
    batch: Option<Batch>,
    /// An `Append` is in flight, with the batch.
    writing: bool,
    /// The last write ended in the middle of a line.
    torn: bool,
    due_at: Option<Millis>,
    retry_at: Millis,
    /// The worker exits: everything is to be written, until then.
    leaves_by: Option<Millis>,
    trouble: Option<Trouble>,
    dropped: u64,
    /// Connections with an answer whose content goes out with this turn's submit.
    going: Vec<Token>,
    /// Those of the last turn, until it is known that none was cut short.
    gone: Vec<Token>,
    /// Which turn this is.
    turn: u32,
}

/// Where lines go.
struct Target {
    file: Arc<OwnedFd>,
    /// What is written at a time. Into a pipe no more than leaves as a whole (PIPE_BUF, pipe(7)), so that other workers'
    /// lines cannot come between.
    piece_max: usize,
    /// Device and inode; `None` if it cannot be looked at.
    identity: Option<(u64, u64)>,
    patience: Millis,
}

/// Lines that are being written, perhaps in several pieces.
struct Batch {
    octets: Vec<u8>,
    from: usize,
    /// It begins with a newline that ends a torn line.
    mends: bool,
}

/// Lines have been lost.
struct Trouble {
    lines: u64,
    last_at: Millis,
}

impl Target {
    /// This file. One that cannot be looked at is taken for a pipe.
    fn new(file: OwnedFd) -> Target {
        let status = fstat(&file).ok();
        let kind = status.map(|status| SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT);
        let (piece_max, patience) = match kind {
            Some(SFlag::S_IFREG) => (usize::MAX, DISK_PATIENCE_MS),
            _ => (libc::PIPE_BUF, READER_PATIENCE_MS),
        };
        let identity = status.map(|status| (status.st_dev, status.st_ino));
        Target { file: Arc::new(file), piece_max, identity, patience }
    }
}

impl Journal {
    /// Writes to this file, or keeps its lines until there is one.
    pub fn new(format: Format, slot: usize, file: Option<OwnedFd>) -> Journal {
        let log = AccessLog::new(format, slot, std::process::id(), clock::nanos_now);
        log.set_time(SystemTime::now(), clock::nanos_now());
        let mut journal = Journal {
            log,
            second: None,
            target: None,
            next: None,
            batch: None,
            writing: false,
            torn: false,
            due_at: None,
            retry_at: 0,
            leaves_by: None,
            trouble: None,
            dropped: 0,
            going: Vec::new(),
            gone: Vec::new(),
            turn: 0,
        };
        file.into_iter().for_each(|file| journal.turn_to(file));
        journal
    }

    /// From now on lines go to this file; those that are here already, to the one before.
    pub fn turn_to(&mut self, file: OwnedFd) {
        let waiting = if self.target.is_some() { self.log.waiting() } else { 0 };
        self.next = Some((Target::new(file), waiting));
    }

    /// A turn begins: renders the time if its second is a new one.
    #[inline]
    pub fn begin_turn(&mut self, clock: &Clock) {
        let second = clock.date().second();
        if self.second.replace(second) != Some(second) {
            self.log.set_time(SystemTime::now(), clock.nanos());
        }
    }

    // ---- answers on their way ----

    /// The content of the answer that was begun goes out with this turn's submit, behind so many octets; with them there
    /// are so many. What is given is to be [finished](Journal::finish_gone) a turn later, unless it was cut short.
    #[inline]
    pub fn going(&mut self, token: Token, before: u32, octets: u64) -> Option<Box<Record>> {
        let mut record = self.log.take_begun()?;
        record.lead_by(before.into());
        record.hand_over(octets, self.turn);
        self.going.push(token);
        Some(record)
    }

    /// This turn's output is handed to the ring.
    #[inline]
    pub fn submitted(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        mem::swap(&mut self.going, &mut self.gone);
    }

    /// What became of the last turn's output is known: who had an answer in it.
    #[inline]
    pub fn next_gone(&mut self) -> Option<Token> {
        self.gone.pop()
    }

    /// It has been handed to the ring.
    #[inline]
    pub fn is_gone(&self, record: &Record) -> bool {
        record.handed_over().1 != self.turn
    }

    /// All of it has gone.
    pub fn finish_gone(&self, record: Box<Record>) {
        let (octets, _) = record.handed_over();
        self.log.finish(record, octets);
    }

    // ---- lines on their way ----

    /// What is to be written now, if anything.
    #[inline]
    pub fn next_write(&mut self, now: Millis) -> Option<Append> {
        self.note_dropped(now);
        if self.writing || now < self.retry_at {
            return None;
        }
        if self.batch.is_none() {
            self.change_target();
            self.batch = self.next_batch(now);
        }
        self.next_piece()
    }

    fn change_target(&mut self) {
        if let Some((target, _)) = self.next.take_if(|(_, owed)| *owed == 0) {
            // opened again, it may be the very same file
            self.torn &= self.target.as_ref().is_some_and(|before| before.identity == target.identity);
            self.log.limit_lines(target.piece_max);
            self.target = Some(target);
        }
    }

    fn next_batch(&mut self, now: Millis) -> Option<Batch> {
        self.target.as_ref()?;
        let waiting = self.log.waiting();
        if waiting == 0 {
            return None;
        }
        let due_at = *self.due_at.get_or_insert(now + DELAY_MS);
        let hurries = self.next.is_some() || self.leaves_by.is_some();
        if waiting < BATCH_OCTETS && now < due_at && !hurries {
            return None;
        }
        self.due_at = None;
        let mut octets = self.log.take_batch()?;
        if let Some((_, owed)) = &mut self.next {
            *owed = owed.saturating_sub(octets.len());
        }
        if self.torn {
            octets.insert(0, b'\n');
        }
        Some(Batch { octets, from: 0, mends: self.torn })
    }

    fn next_piece(&mut self) -> Option<Append> {
        let Batch { octets, from, .. } = self.batch.as_mut()?;
        let target = self.target.as_ref()?;
        let range = *from..piece_end(octets, *from, target.piece_max);
        self.writing = true;
        Some(Append { file: Arc::clone(&target.file), octets: mem::take(octets), range })
    }

    /// A write is over.
    pub fn written(&mut self, append: Append, written: Result<usize, Errno>, now: Millis) {
        self.writing = false;
        let batch = self.batch.as_mut().expect("what is written is a batch's");
        batch.octets = append.octets;
        match written {
            Ok(octets) if octets > 0 => {
                batch.from += octets;
                self.torn = batch.octets[batch.from - 1] != b'\n';
                if batch.from == batch.octets.len() {
                    self.end_batch();
                    // lines lost in this turn count before the trouble is said to be over
                    self.note_dropped(now);
                    self.recover(now);
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => self.retry_at = now + RETRY_MS,
            Ok(_) => self.fail(Errno::ENOSPC, now),
            Err(errno) => self.fail(errno, now),
        }
    }

    fn note_dropped(&mut self, now: Millis) {
        let dropped = self.log.take_dropped();
        if dropped > 0 {
            self.lose(dropped, now, "they are written faster than it takes them");
        }
    }

    /// The rest of the batch is lost.
    fn fail(&mut self, errno: Errno, now: Millis) {
        let lines = self.batch.as_ref().map_or(0, Batch::lines_left);
        self.end_batch();
        self.lose(lines, now, errno.desc());
    }

    fn end_batch(&mut self) {
        self.batch.take().into_iter().for_each(|batch| self.log.give_back(batch.octets));
    }

    /// Said once, however many lines it costs.
    fn lose(&mut self, lines: u64, now: Millis, why: impl fmt::Display) {
        self.dropped += lines;
        let before = self.trouble.take();
        if before.is_none() {
            tracing::error!(%why, "the access log cannot be written: lines are lost until it can");
        }
        self.trouble = Some(Trouble { lines: before.map_or(0, |before| before.lines) + lines, last_at: now });
    }

    fn recover(&mut self, now: Millis) {
        if let Some(Trouble { lines, .. }) =
            self.trouble.take_if(|trouble| now >= trouble.last_at + RECOVERY_MS)
        {
            tracing::warn!(lost = lines, "the access log is written again");
        }
    }

    /// Lines that were lost since this was last called.
    #[inline]
    pub fn take_dropped(&mut self) -> u64 {
        mem::take(&mut self.dropped)
    }

    /// How long the worker may wait for its last lines to be taken, once it has nothing else to do.
    pub fn patience(&self) -> Millis {
        self.target.as_ref().map_or(READER_PATIENCE_MS, |target| target.patience)
    }

    /// The worker is about to exit: what is here is written at once, and what is not taken by then is lost.
    pub fn leave(&mut self, by: Millis) {
        self.leaves_by.get_or_insert(by);
    }

    /// The worker need not wait for this any longer.
    pub fn may_go(&self, now: Millis) -> bool {
        let is_out = !self.writing && self.batch.is_none() && self.log.waiting() == 0;
        is_out || self.leaves_by.is_some_and(|leaves_by| now >= leaves_by)
    }

    /// A write is in flight.
    pub fn is_writing(&self) -> bool {
        self.writing
    }

    /// Nothing more is written; what is still here is lost.
    pub fn close(&mut self, now: Millis) {
        let mut lines = self.batch.take().map_or(0, |batch| batch.lines_left());
        while let Some(batch) = self.log.take_batch() {
            lines += count_lines(&batch);
            self.log.give_back(batch);
        }
        if lines > 0 {
            self.lose(lines, now, "it does not take them, and the worker exits");
        }
    }
}

impl Batch {
    fn lines_left(&self) -> u64 {
        let mending = u64::from(self.mends && self.from == 0 && !self.octets.is_empty());
        count_lines(self.octets.get(self.from..).unwrap_or_default()) - mending
    }
}

fn count_lines(octets: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', octets).count() as u64
}

/// Whole lines, as many as are allowed at a time; the rest of one that was not written as a whole, whatever its length.
fn piece_end(octets: &[u8], from: usize, piece_max: usize) -> usize {
    let left = &octets[from..];
    if left.len() <= piece_max {
        return octets.len();
    }
    let last = memchr::memrchr(b'\n', &left[..piece_max]);
    from + last.map_or(piece_max, |place| place + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::{Asked, Entry};
    use std::fs::File;
    use std::io::{PipeReader, Read, Write};

    fn line(journal: &Journal, target: &str) {
        let asked =
            Asked { method: b"GET", target: target.as_bytes(), version: b"HTTP/1.1", ..Asked::default() };
        journal.log.write(&Entry { peer: None, asked, status: 200, octets: 1, arrived: 0 });
    }

    fn regular() -> (File, OwnedFd) {
        let file = tempfile::tempfile().unwrap();
        (file.try_clone().unwrap(), file.into())
    }

    fn pipe() -> (PipeReader, OwnedFd) {
        let (reader, writer) = std::io::pipe().unwrap();
        (reader, writer.into())
    }

    /// Performs a write as the kernel would that takes so many octets of it.
    fn perform(append: &Append, at_most: usize) -> usize {
        let octets = &append.octets[append.range.clone()];
        let octets = &octets[..octets.len().min(at_most)];
        File::from(append.file.try_clone().unwrap()).write_all(octets).unwrap();
        octets.len()
    }

    fn write_all(journal: &mut Journal, now: Millis) -> usize {
        let mut writes = 0;
        while let Some(append) = journal.next_write(now) {
            assert!(journal.next_write(now).is_none(), "one in flight");
            let octets = perform(&append, usize::MAX);
            journal.written(append, Ok(octets), now);
            writes += 1;
        }
        writes
    }

    fn content(file: &mut File) -> String {
        let mut content = String::new();
        std::io::Seek::rewind(file).unwrap();
        file.read_to_string(&mut content).unwrap();
        content
    }

    #[test]
    fn lines_leave_when_there_are_many_or_after_a_moment_or_at_the_end() {
        let (mut reader, file) = regular();
        let mut journal = Journal::new(Format::Common, 0, Some(file));
        assert!(journal.next_write(0).is_none() && journal.may_go(0));
        line(&journal, "/1");
        assert!(journal.next_write(10).is_none() && !journal.may_go(10));
        assert_eq!((write_all(&mut journal, 9 + DELAY_MS), write_all(&mut journal, 10 + DELAY_MS)), (0, 1));
        line(&journal, &"/many".repeat(BATCH_OCTETS / 5));
        assert_eq!(write_all(&mut journal, 300), 1);
        line(&journal, "/last");
        journal.leave(400);
        assert_eq!((write_all(&mut journal, 400), journal.may_go(400)), (1, true));
        assert_eq!(content(&mut reader).lines().count(), 3);
    }

    #[test]
    fn a_pipe_gets_whole_lines_no_more_than_it_takes_at_once() {
        let (mut reader, file) = pipe();
        let mut journal = Journal::new(Format::Common, 0, Some(file));
        journal.next_write(0);
        (0..100).for_each(|n| line(&journal, &format!("/{n}/{}", "x".repeat(n * 100))));
        journal.leave(0);
        let mut lines = 0;
        while let Some(append) = journal.next_write(0) {
            let octets = perform(&append, usize::MAX);
            assert!(octets <= libc::PIPE_BUF);
            let mut piece = vec![0; octets];
            reader.read_exact(&mut piece).unwrap();
            assert_eq!(piece.last(), Some(&b'\n'));
            lines += count_lines(&piece);
            journal.written(append, Ok(octets), 0);
        }
        assert_eq!(lines, 100);
    }

    #[test]
    fn what_waits_goes_to_the_old_file_and_the_rest_to_the_new_one() {
        let ((mut old, first), (mut new, second), (mut newest, third)) = (regular(), regular(), regular());
        let mut journal = Journal::new(Format::Common, 0, Some(first));
        journal.next_write(0);
        line(&journal, "/old");
        let full = |journal: &Journal| line(journal, &"/old".repeat(BATCH_OCTETS));
        full(&journal);
        let in_flight = journal.next_write(0).unwrap();
        line(&journal, "/old");
        journal.turn_to(second);
        line(&journal, "/either");
        assert!(journal.next_write(0).is_none());
        let octets = perform(&in_flight, usize::MAX);
        journal.written(in_flight, Ok(octets), 0);
        assert_eq!(write_all(&mut journal, 0), 1, "at once");
        line(&journal, "/new");
        assert_eq!(write_all(&mut journal, DELAY_MS), 0);
        assert_eq!(write_all(&mut journal, 2 * DELAY_MS), 1);
        // nothing waits: nothing is owed to the one before
        journal.turn_to(third);
        line(&journal, "/newest");
        write_all(&mut journal, 10_000);
        write_all(&mut journal, 20_000);
        let count = |file: &mut File| content(file).lines().count();
        assert_eq!([&mut old, &mut new, &mut newest].map(count), [4, 1, 1]);
    }

    #[test]
    fn a_file_that_comes_late_gets_all_there_is() {
        let mut journal = Journal::new(Format::Common, 0, None);
        line(&journal, "/");
        assert_eq!(write_all(&mut journal, 1_000), 0);
        let (mut reader, file) = regular();
        journal.turn_to(file);
        write_all(&mut journal, 1_000);
        write_all(&mut journal, 2_000);
        assert_eq!(content(&mut reader).lines().count(), 1);
    }

    #[test]
    fn a_full_disk_costs_lines_and_the_torn_one_is_ended() {
        let (mut reader, file) = regular();
        let mut journal = Journal::new(Format::Common, 0, Some(file));
        journal.next_write(0);
        (0..3).for_each(|n| line(&journal, &format!("/{n}")));
        assert!(journal.next_write(DELAY_MS - 1).is_none());
        let append = journal.next_write(2 * DELAY_MS).unwrap();
        let torn = append.octets.iter().position(|octet| *octet == b'\n').unwrap() + 10;
        let octets = perform(&append, torn);
        journal.written(append, Ok(octets), 0);
        journal.leave(0);
        for now in [0, 0, 10_000] {
            let append = journal.next_write(now).unwrap();
            journal.written(append, Err(Errno::ENOSPC), now);
            line(&journal, "/lost");
        }
        assert_eq!(journal.take_dropped(), 2 + 2);
        write_all(&mut journal, 20_000);
        assert_eq!((journal.take_dropped(), journal.trouble.is_none()), (0, true));
        let content = content(&mut reader);
        let lines: Vec<&str> = content.lines().collect();
        assert_eq!(lines.len(), 3, "{content}");
        assert!(lines[0].ends_with("200 1") && lines[2].ends_with("\"GET /lost HTTP/1.1\" 200 1"));
    }

    #[test]
    fn it_is_not_over_while_lines_are_lost() {
        let (_reader, file) = regular();
        let mut journal = Journal::new(Format::Common, 0, Some(file));
        journal.next_write(0);
        line(&journal, "/");
        assert!(journal.next_write(0).is_none());
        let append = journal.next_write(DELAY_MS).unwrap();
        let long = format!("/{}", "x".repeat(4_000));
        (0..300).for_each(|_| line(&journal, &long));
        assert!(journal.next_write(DELAY_MS).is_none());
        assert!(journal.take_dropped() > 0);
        // in the very turn in which the write is over
        line(&journal, &long);
        let octets = perform(&append, usize::MAX);
        journal.written(append, Ok(octets), DELAY_MS + RECOVERY_MS);
        assert_eq!((journal.take_dropped(), journal.trouble.is_some()), (1, true));
        write_all(&mut journal, 10_000);
        assert!(journal.trouble.is_none());
    }

    /// A journal whose last write ended in the middle of the only line.
    fn torn(file: OwnedFd) -> Journal {
        let mut journal = Journal::new(Format::Common, 0, Some(file));
        journal.next_write(0);
        line(&journal, "/torn");
        assert!(journal.next_write(0).is_none());
        let append = journal.next_write(DELAY_MS).unwrap();
        let octets = perform(&append, 10);
        journal.written(append, Ok(octets), DELAY_MS);
        let append = journal.next_write(DELAY_MS).unwrap();
        journal.written(append, Err(Errno::ENOSPC), DELAY_MS);
        journal
    }

    #[test]
    fn a_torn_line_is_ended_in_its_own_file_only() {
        let ((mut old, first), (mut new, second)) = (regular(), regular());
        let again = first.try_clone().unwrap();
        let mut journal = torn(first);
        journal.turn_to(again);
        journal.next_write(1_000);
        line(&journal, "/whole");
        journal.leave(1_000);
        write_all(&mut journal, 1_000);
        assert_eq!(content(&mut old).lines().count(), 2, "the same file, opened again");

        let mut journal = torn(regular().1);
        journal.turn_to(second);
        journal.next_write(1_000);
        line(&journal, "/whole");
        journal.leave(1_000);
        write_all(&mut journal, 1_000);
        let content = content(&mut new);
        assert!(!content.starts_with('\n') && content.lines().count() == 1, "{content:?}");
    }

    #[test]
    fn a_busy_disk_is_waited_for_longer_than_a_reader() {
        let patience = |file| {
            let mut journal = Journal::new(Format::Common, 0, Some(file));
            journal.next_write(0);
            journal.patience()
        };
        assert_eq!((patience(regular().1), patience(pipe().1)), (DISK_PATIENCE_MS, READER_PATIENCE_MS));
    }

    #[test]
    fn a_reader_that_does_not_read_keeps_nobody_for_long() {
        let (_reader, file) = pipe();
        let mut journal = Journal::new(Format::Common, 0, Some(file));
        journal.next_write(0);
        (0..2).for_each(|_| line(&journal, "/"));
        journal.leave(READER_PATIENCE_MS);
        let append = journal.next_write(0).unwrap();
        journal.written(append, Err(Errno::EAGAIN), 0);
        assert!(journal.next_write(RETRY_MS - 1).is_none());
        let append = journal.next_write(RETRY_MS).unwrap();
        assert!(!journal.may_go(READER_PATIENCE_MS - 1) && journal.may_go(READER_PATIENCE_MS));
        journal.written(append, Err(Errno::ECANCELED), READER_PATIENCE_MS);
        line(&journal, "/");
        journal.close(READER_PATIENCE_MS);
        assert_eq!(journal.take_dropped(), 3);
    }

    #[test]
    fn answers_that_were_handed_over_are_told_of_a_turn_later() {
        let (mut reader, file) = regular();
        let mut journal = Journal::new(Format::Common, 0, Some(file));
        let token = Token::new(1, 0);
        assert!(journal.going(token, 5, 115).is_none(), "none was begun");
        let asked = Asked { method: b"GET", target: b"/", version: b"HTTP/1.1", ..Asked::default() };
        let mut record = journal.log.keep(&Entry { peer: None, asked, status: 0, octets: 0, arrived: 0 });
        record.begin(200, 10);
        journal.log.begin(record);
        let record = journal.going(token, 5, 115).unwrap();
        assert!(!journal.is_gone(&record) && journal.next_gone().is_none());
        journal.submitted();
        assert!(journal.is_gone(&record));
        assert_eq!((journal.next_gone(), journal.next_gone()), (Some(token), None));
        journal.finish_gone(record);
        journal.leave(0);
        write_all(&mut journal, 0);
        assert!(content(&mut reader).ends_with("\"GET / HTTP/1.1\" 200 100\n"));
    }
}
