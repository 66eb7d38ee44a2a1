//! What one loop counts in one turn, where exchanges can reach it. Requests that came and were answered in the same turn
//! all took the same time, so they are only counted, and recorded together when the turn ends.
//!
//! Neighbours: `http::exchange` counts and asks for the time, `worker::event_loop` empties it into the `area`.

use std::cell::{Cell, RefCell};

/// Nanoseconds on the loop's clock.
pub type Nanos = u64;

/// Later replies of one turn whose room stays allocated.
const KEPT: usize = 1024;

/// See the module's comment. Not shared between threads.
#[derive(Debug, Default)]
pub struct Tally {
    now: Cell<Nanos>,
    requests: Cell<u64>,
    refused: Cell<u64>,
    /// By class, 1xx to 5xx.
    responses: [Cell<u64>; 5],
    prompt: Cell<u64>,
    /// When the requests came that were answered in a later turn.
    waited: RefCell<Vec<Nanos>>,
}

/// What a turn has brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Heads that came.
    pub requests: u64,
    /// Answers that we gave to faulty input by ourselves.
    pub refused: u64,
    /// Final answers by class, 1xx to 5xx.
    pub responses: [u64; 5],
    /// Requests that were answered in the turn that brought their last octet.
    pub prompt: u64,
}

impl Tally {
    /// A turn begins: what is received in it came now.
    #[inline]
    pub fn begin(&self, now: Nanos) {
        self.now.set(now);
    }

    /// When this turn began.
    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        self.now.get()
    }

    /// A head has come.
    #[inline]
    pub fn requested(&self) {
        bump(&self.requests);
    }

    /// A request that came whole at that time is answered.
    #[inline]
    pub fn answered(&self, status: u16, arrived: Nanos) {
        self.responded(status);
        if arrived == self.now.get() {
            bump(&self.prompt);
        } else {
            self.waited.borrow_mut().push(arrived);
        }
    }

    /// Input that is no request, or one that may not be, is answered.
    pub(crate) fn refused(&self, status: u16) {
        self.responded(status);
        bump(&self.refused);
    }

    #[inline]
    fn responded(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, self.responses.len());
        bump(&self.responses[class - 1]);
    }

    /// The turn is over: what it has brought, and nothing is left. The arrival of each request that was answered in a later
    /// turn goes to `waited`.
    #[inline]
    pub(crate) fn end(&self, waited: impl FnMut(Nanos)) -> Turn {
        let mut late = self.waited.borrow_mut();
        if !late.is_empty() {
            late.drain(..).for_each(waited);
            late.shrink_to(KEPT);
        }
        Turn {
            requests: self.requests.take(),
            refused: self.refused.take(),
            responses: self.responses.each_ref().map(Cell::take),
            prompt: self.prompt.take(),
        }
    }
}

#[inline]
fn bump(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_told_once() {
        let tally = Tally::default();
        tally.begin(1_000);
        (0..3).for_each(|_| tally.requested());
        tally.answered(204, 1_000);
        tally.answered(302, 400);
        tally.answered(599, 1_000);
        tally.refused(400);
        let mut waited = Vec::new();
        let turn = tally.end(|arrived| waited.push(arrived));
        assert_eq!(turn, Turn { requests: 3, refused: 1, responses: [0, 1, 1, 1, 1], prompt: 2 });
        assert_eq!(waited, [400]);
        assert_eq!(tally.end(|_| panic!("told already")), Turn::default());
        assert_eq!(tally.now(), 1_000);
    }
}
