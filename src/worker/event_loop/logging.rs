//! The access log: what became of answers, and the writes.
//!
//! Neighbours: `worker::journal` decides; `sending` and `arriving` say when an answer has gone or never will.

use super::*;

impl<H: Handler> EventLoop<H> {
    /// Nobody will answer what this client has asked for, and no output of this turn goes to it any more.
    pub(super) fn tell_unanswered(&mut self, slot: u32) {
        let Some(journal) = &self.journal else { return };
        let connection = self.connections.at(slot);
        connection.exchange.abandon(connection.peer, &journal.log);
        if connection.span.is_empty()
            && let Some(record) = connection.telling.take_if(|record| !journal.is_gone(record))
        {
            journal.log.finish(record, 0);
        }
    }

    /// The turn's completions are handled: what was handed over in the turn before, and was not cut short, has gone.
    pub(super) fn tell_gone(&mut self) {
        while let Some(token) = self.journal.as_mut().and_then(Journal::next_gone) {
            self.tell_gone_of(token.slot);
        }
    }

    /// The same of one connection.
    #[inline]
    pub(super) fn tell_gone_of(&mut self, slot: u32) {
        let Some(journal) = &self.journal else { return };
        let telling = &mut self.connections.at(slot).telling;
        if let Some(record) = telling.take_if(|record| journal.is_gone(record)) {
            journal.finish_gone(record);
        }
    }

    /// What this client's queue still had will not be sent.
    pub(super) fn tell_cut(&mut self, slot: u32) {
        let Some(queue) = self.connections.at(slot).queue.take() else { return };
        for (record, octets) in queue.into_cut() {
            self.finish_line(Some(record), octets);
        }
    }

    pub(super) fn finish_line(&self, record: Option<Box<Record>>, octets: u64) {
        if let (Some(journal), Some(record)) = (&self.journal, record) {
            journal.log.finish(record, octets);
        }
    }

    pub(super) fn turn_journal_to(&mut self, file: OwnedFd) {
        if let Some(journal) = &mut self.journal {
            journal.turn_to(file);
        }
    }

    pub(super) fn write_journal(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        if let Some(append) = journal.next_write(self.clock.now()) {
            self.ring.push(JOURNAL, Op::Append(append));
        }
        self.meter.counters.access_log_dropped += journal.take_dropped();
    }

    pub(super) fn appended(&mut self, append: Append, written: std::result::Result<usize, Errno>) {
        let journal = self.journal.as_mut().expect("only a journal appends");
        journal.written(append, written, self.clock.now());
    }

    /// The last lines leave. A reader that does not take them keeps nobody from exiting for long.
    pub(super) fn finish_journal(&mut self) -> Result<()> {
        self.clock.advance();
        let now = self.clock.now();
        if let Some(journal) = &mut self.journal {
            let at_most = journal.patience();
            let patience = self.drain.as_ref().map_or(at_most, |drain| drain.patience(now, at_most));
            journal.leave(now + patience);
        }
        while self.journal.as_ref().is_some_and(|journal| !journal.may_go(self.clock.now())) {
            self.turn()?;
        }
        if self.journal.as_ref().is_some_and(Journal::is_writing) {
            self.ring.push(JOURNAL, Op::CancelAppend);
            self.turn()?;
        }
        if let Some(journal) = &mut self.journal {
            journal.close(self.clock.now());
            self.meter.counters.access_log_dropped += journal.take_dropped();
            self.meter.end(self.clock.read());
        }
        Ok(())
    }

    /// Clients are cut off in the middle of something: what the log is to say of that.
    pub(super) fn cut_journal(&mut self) -> Result<()> {
        if self.journal.is_none() {
            return Ok(());
        }
        for slot in self.connections.slots_in(|state| !matches!(state, State::Free | State::Closing)) {
            self.release(slot, Leave::Close);
        }
        self.finish_journal()
    }
}
