//! How often the pool may be repaired: unplanned restarts are counted over a sliding window, and one too many is a
//! giveup, so that a program that dies at every start does not burn the machine. Pure: time is passed in.
//!
//! Neighbours: `lifecycle` charges it and asks it before it starts anybody; nothing else does.

use crate::event::WorkerId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Whether dead workers are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Dead workers are replaced; each unplanned restart is charged.
    Normal,
    /// There was one restart too many (or a trial failed): nobody is replaced until a whole window has passed.
    GivenUp {
        /// When it was given up, or when the last trial failed.
        since: Instant,
    },
    /// A window has passed and one worker was started to see whether it lives. Nobody else is replaced meanwhile.
    Trial {
        /// The worker that is tried.
        worker: WorkerId,
        /// Since when it listens; a whole window later the throttle is normal again.
        listening: Option<Instant>,
        /// When it was given up: where a trial leads back to that was called off before it showed anything.
        since: Instant,
    },
}

/// What a charge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The restart is paid for and may happen.
    Allowed,
    /// This was the one too many: it must not happen, and this is the moment to say so.
    Giveup,
    /// Already given up: it must not happen; nothing was charged and nothing is to be said again.
    Throttled,
}

/// The account of unplanned restarts. Planned ones are never shown to it.
#[derive(Debug)]
pub struct Throttle {
    limit: u32,
    window: Duration,
    /// The restarts charged within the last window, oldest first; at most `limit` and the one too many.
    charged: VecDeque<Instant>,
    state: State,
}

impl Throttle {
    /// `limit` restarts are allowed within `window`; one more is a giveup.
    pub fn new(limit: u32, window: Duration) -> Self {
        Throttle { limit, window, charged: VecDeque::new(), state: State::Normal }
    }

    /// Other limits from now on; what was charged stays charged.
    pub fn set_limits(&mut self, limit: u32, window: Duration) {
        (self.limit, self.window) = (limit, window);
    }

    /// Whether the dead are replaced.
    pub fn state(&self) -> State {
        self.state
    }

    /// Restarts that are allowed within a window; a giveup names it.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Whether an empty slot may be filled.
    pub fn allows_restarts(&self) -> bool {
        self.state == State::Normal
    }

    /// Charges the restart that `worker` has made necessary. The end of the worker on trial is the end of its trial.
    pub fn charge(&mut self, worker: WorkerId, now: Instant) -> Verdict {
        match self.state {
            State::Normal => self.charge_restart(now),
            State::Trial { worker: tried, .. } if tried == worker => {
                self.state = State::GivenUp { since: now };
                Verdict::Throttled
            }
            State::GivenUp { .. } | State::Trial { .. } => Verdict::Throttled,
        }
    }

    /// A whole window has passed since it was given up: one worker may be tried.
    pub fn may_try(&self, now: Instant) -> bool {
        matches!(self.state, State::GivenUp { since } if self.window_passed(since, now))
    }

    /// `worker` was started as the one that is tried.
    pub fn begin_trial(&mut self, worker: WorkerId) {
        if let State::GivenUp { since } = self.state {
            self.state = State::Trial { worker, listening: None, since };
        }
    }

    /// `worker` listens; if it is the one on trial, the window it must last begins.
    pub fn listens(&mut self, worker: WorkerId, now: Instant) {
        if let State::Trial { worker: tried, listening: listening @ None, .. } = &mut self.state
            && *tried == worker
        {
            *listening = Some(now);
        }
    }

    /// `worker` leaves by plan. If it was on trial that shows nothing, so another may be tried at once.
    pub fn withdraw(&mut self, worker: WorkerId) {
        if let State::Trial { worker: tried, since, .. } = self.state
            && tried == worker
        {
            self.state = State::GivenUp { since };
        }
    }

    /// Lets time pass: a trial that has listened for a whole window has succeeded.
    pub fn advance(&mut self, now: Instant) {
        if let State::Trial { listening: Some(listening), .. } = self.state
            && self.window_passed(listening, now)
        {
            self.reset();
        }
    }

    /// Normal again with nothing on the account: by SIGHUP, after a trial, or because there is nobody to try.
    pub fn reset(&mut self) {
        self.state = State::Normal;
        self.charged.clear();
    }

    /// When time alone next changes something.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Normal => None,
            State::GivenUp { since } => since.checked_add(self.window),
            State::Trial { listening, .. } => listening?.checked_add(self.window),
        }
    }

    fn charge_restart(&mut self, now: Instant) -> Verdict {
        self.forget_restarts_before_window(now);
        self.charged.push_back(now);
        if self.charged.len() <= self.limit as usize {
            return Verdict::Allowed;
        }
        self.state = State::GivenUp { since: now };
        Verdict::Giveup
    }

    fn forget_restarts_before_window(&mut self, now: Instant) {
        while self.charged.front().is_some_and(|&at| self.window_passed(at, now)) {
            self.charged.pop_front();
        }
    }

    /// A window is half open: what happened exactly one window ago is outside it.
    fn window_passed(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) >= self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn given_up(limit: u32, now: Instant) -> Throttle {
        let mut throttle = Throttle::new(limit, WINDOW);
        for _ in 0..=limit {
            throttle.charge(1, now);
        }
        assert_eq!(throttle.state(), State::GivenUp { since: now });
        throttle
    }

    #[test]
    fn limit_is_allowed_and_one_more_is_the_giveup() {
        let now = Instant::now();
        let mut throttle = Throttle::new(2, WINDOW);
        let verdicts: Vec<_> = (0..4).map(|second| throttle.charge(1, now + secs(second))).collect();
        assert_eq!(verdicts, [Verdict::Allowed, Verdict::Allowed, Verdict::Giveup, Verdict::Throttled]);
    }

    #[test]
    fn limit_of_none_gives_up_at_the_first() {
        assert_eq!(Throttle::new(0, WINDOW).charge(1, Instant::now()), Verdict::Giveup);
    }

    #[test]
    fn window_slides_and_ends_exactly_one_window_later() {
        for (seconds, verdict) in [(59, Verdict::Giveup), (60, Verdict::Allowed)] {
            let now = Instant::now();
            let mut throttle = Throttle::new(1, WINDOW);
            assert_eq!(throttle.charge(1, now), Verdict::Allowed);
            assert_eq!(throttle.charge(1, now + secs(seconds)), verdict);
        }
    }

    #[test]
    fn trial_that_lasts_a_window_makes_it_normal_with_an_empty_account() {
        let now = Instant::now();
        let mut throttle = given_up(1, now);
        assert!(!throttle.may_try(now + secs(59)) && throttle.may_try(now + secs(60)));
        assert_eq!(throttle.next_deadline(), Some(now + secs(60)));
        throttle.begin_trial(7);
        assert_eq!(throttle.next_deadline(), None, "until it listens only its boot timeout counts");
        throttle.listens(8, now + secs(61));
        throttle.listens(7, now + secs(62));
        throttle.listens(7, now + secs(99));
        assert_eq!(throttle.next_deadline(), Some(now + secs(122)));
        throttle.advance(now + secs(121));
        assert!(!throttle.allows_restarts());
        throttle.advance(now + secs(122));
        assert!(throttle.allows_restarts());
        assert_eq!(throttle.charge(1, now + secs(122)), Verdict::Allowed);
    }

    #[test]
    fn trial_that_dies_costs_another_window() {
        let now = Instant::now();
        let mut throttle = given_up(1, now);
        throttle.begin_trial(7);
        assert_eq!(throttle.charge(6, now + secs(70)), Verdict::Throttled);
        assert!(
            matches!(throttle.state(), State::Trial { worker: 7, .. }),
            "another worker's end shows nothing"
        );
        assert_eq!(throttle.charge(7, now + secs(70)), Verdict::Throttled);
        assert_eq!(throttle.state(), State::GivenUp { since: now + secs(70) });
        assert!(!throttle.may_try(now + secs(129)) && throttle.may_try(now + secs(130)));
    }

    #[test]
    fn trial_called_off_by_plan_can_be_repeated_at_once() {
        let now = Instant::now();
        let mut throttle = given_up(1, now);
        throttle.begin_trial(7);
        throttle.withdraw(6);
        assert!(!throttle.may_try(now + secs(60)));
        throttle.withdraw(7);
        assert!(throttle.may_try(now + secs(60)));
    }

    #[test]
    fn reset_clears_state_and_account() {
        let now = Instant::now();
        let mut throttle = given_up(1, now);
        throttle.reset();
        assert_eq!(throttle.next_deadline(), None);
        assert_eq!(throttle.charge(1, now), Verdict::Allowed);
    }

    proptest! {
        #[test]
        fn giveup_comes_exactly_when_a_naive_count_says_so(limit in 0u32..5, gaps in prop::collection::vec(0u64..40, 0..60)) {
            let mut now = Instant::now();
            let mut throttle = Throttle::new(limit, WINDOW);
            let mut restarts = Vec::new();
            for gap in gaps {
                now += secs(gap);
                restarts.push(now);
                let recent = restarts.iter().filter(|&&at| now - at < WINDOW).count();
                let verdict = throttle.charge(1, now);
                prop_assert_eq!(verdict == Verdict::Giveup, recent > limit as usize);
                prop_assert!(throttle.charged.len() <= limit as usize + 1, "the account must not grow");
                if verdict == Verdict::Giveup {
                    throttle.reset();
                    restarts.clear();
                }
            }
        }
    }
}
