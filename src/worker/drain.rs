//! When a draining worker does what: idle connections may still bring a request until shortly before the kill
//! timeout; then our side is shut, and those that do not close by themselves are closed. What is in flight then is
//! the master's to cut, or the worker's own where it has none.
//!
//! Neighbours: `event_loop` asks it every turn; the kill timer itself runs in `master::lifecycle`.

use super::clock::Millis;

/// How long before the kill timeout idle connections are half-closed.
const HALF_CLOSE_BEFORE_MS: Millis = 1_000;
/// Between what is made up for: several turns.
const CATCH_UP_MS: Millis = 250;
/// A worker that has nothing left but lines to write is gone so long before the kill timeout.
const GONE_BEFORE_MS: Millis = 250;

/// See the module's comment.
#[derive(Debug)]
pub struct Drain {
    /// The whole server stops: the listening sockets are shut down for everybody.
    pub stop: bool,
    half_close_at: Option<Millis>,
    close_at: Option<Millis>,
    /// `None`: somebody else sees to that.
    cut_at: Option<Millis>,
    /// When the master cuts. `None`: there is none.
    killed_at: Option<Millis>,
}

impl Drain {
    /// `cuts`: there is no master whose kill timer runs.
    pub fn new(now: Millis, kill_timeout: Millis, stop: bool, cuts: bool) -> Drain {
        // with a kill timeout that leaves no such second, half of it
        let left = HALF_CLOSE_BEFORE_MS.min(kill_timeout / 2);
        let half_close_at = now + kill_timeout - left;
        Drain {
            stop,
            half_close_at: Some(half_close_at),
            close_at: Some(half_close_at + left / 2),
            cut_at: cuts.then_some(now + kill_timeout),
            killed_at: (!cuts).then_some(now + kill_timeout),
        }
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        self.half_close_at.or(self.close_at).or(self.cut_at)
    }

    /// Both have happened.
    pub fn is_over(&self) -> bool {
        self.close_at.is_none()
    }

    /// True once, when it is time.
    pub fn takes_half_close(&mut self, now: Millis) -> bool {
        self.half_close_at.take_if(|at| *at <= now).is_some()
    }

    /// The loop goes on after it was held up: whatever was due meanwhile waits until what has come meanwhile is
    /// received. Not by all the time that was lost: the master's kill timer may not have stood still.
    #[cold]
    pub fn catch_up(&mut self, now: Millis) {
        let times = [&mut self.half_close_at, &mut self.close_at, &mut self.cut_at, &mut self.killed_at];
        for (at, step) in times.into_iter().zip(1..) {
            *at = at.map(|at| at.max(now + step * CATCH_UP_MS));
        }
    }

    /// How long the worker may still wait for something that can be done without: so long at most, and no longer than
    /// until shortly before the master kills it. Where that is very soon, half of what is left.
    pub fn patience(&self, now: Millis, at_most: Millis) -> Millis {
        self.killed_at.map_or(at_most, |killed_at| {
            let left = killed_at.saturating_sub(now);
            left.saturating_sub(GONE_BEFORE_MS).max(left / 2).min(at_most)
        })
    }

    /// Nobody is waited for any more.
    pub fn is_time_to_cut(&self, now: Millis) -> bool {
        self.cut_at.is_some_and(|at| at <= now)
    }

    /// True once, when it is time.
    pub fn takes_close(&mut self, now: Millis) -> bool {
        self.close_at.take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_master_cuts_at_the_kill_timeout() {
        let (alone, with_master) = (Drain::new(100, 5_000, true, true), Drain::new(100, 5_000, true, false));
        assert!(!alone.is_time_to_cut(5_099) && alone.is_time_to_cut(5_100));
        assert!(!with_master.is_time_to_cut(Millis::MAX));
    }

    #[test]
    fn what_was_due_while_the_process_was_stopped_is_done_a_little_later() {
        let mut drain = Drain::new(100, 5_000, true, true);
        drain.catch_up(60_000);
        assert!(!drain.takes_half_close(60_249) && drain.takes_half_close(60_250));
        assert!(!drain.takes_close(60_499) && drain.takes_close(60_500));
        assert!(!drain.is_time_to_cut(60_749) && drain.is_time_to_cut(60_750));
        let mut early = Drain::new(100, 5_000, true, true);
        early.catch_up(2_000);
        assert!(!early.takes_half_close(4_099) && early.takes_half_close(4_100), "nothing was due");
    }

    #[test]
    fn nothing_that_can_be_done_without_is_waited_for_until_the_kill_timeout() {
        let drain = Drain::new(100, 5_000, true, false);
        let at = |now| drain.patience(now, 1_000);
        assert_eq!(
            [100, 3_850, 4_600, 4_850, 5_000, 5_100, 9_000].map(at),
            [1_000, 1_000, 250, 125, 50, 0, 0]
        );
        assert_eq!(Drain::new(100, 5_000, true, true).patience(5_100, 1_000), 1_000, "nobody kills it");
        let mut late = Drain::new(100, 5_000, true, false);
        late.catch_up(60_000);
        assert_eq!(late.patience(60_500, 1_000), 250);
    }

    #[test]
    fn idle_connections_are_half_closed_and_closed_in_time() {
        for (kill_timeout, half_close, close) in [(5_000, 4_000, 4_500), (1_000, 500, 750), (0, 0, 0)] {
            let mut drain = Drain::new(100, kill_timeout, false, false);
            assert_eq!(drain.next_deadline(), Some(100 + half_close));
            assert!(half_close == 0 || !drain.takes_half_close(100 + half_close - 1));
            assert!(drain.takes_half_close(100 + half_close) && !drain.takes_half_close(100 + half_close));
            assert_eq!(drain.next_deadline(), Some(100 + close));
            assert!(drain.takes_close(100 + close) && !drain.takes_close(100 + close));
            assert_eq!(drain.next_deadline(), None);
        }
    }
}
