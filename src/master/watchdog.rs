//! Whether workers' loops stand still, and whether that can be known: a machine that was suspended has kept nobody from
//! anything. Pure: what was seen and when is passed in.
//!
//! Neighbours: `event_loop` looks at the stats areas and at the clocks, `evidence` reads what excuses a worker; `lifecycle` decides what becomes of a worker.

use crate::event::WorkerId;
use crate::stats::Pulse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The master looks no more often, however short the limits are: an idle loop goes round twenty times a second.
const PACE_MIN: Duration = Duration::from_millis(100);
const PACE_MAX: Duration = Duration::from_secs(1);

/// How often the master looks: four times within the shortest of these limits, and at least once a second. Also how late it
/// may be before it takes itself to have been held up, so that of every limit at least half is time in which it could see.
/// Half of it is what is taken to have been seen whenever it was held up, so that however late it always is a limit ends.
pub fn pace(limits: impl IntoIterator<Item = Duration>) -> Duration {
    let shortest = limits.into_iter().min().unwrap_or(PACE_MAX);
    (shortest / 4).clamp(PACE_MIN, PACE_MAX)
}

/// What was seen of the loops of all workers that listen.
#[derive(Debug, Default)]
pub struct Watchdog(BTreeMap<WorkerId, Seen>);

#[derive(Debug)]
struct Seen {
    pulse: Pulse,
    /// When it was seen to have changed.
    since: Instant,
    /// It was said to stand still.
    told: bool,
    /// Why it is left alone although it stands still.
    excuse: Option<Excuse>,
}

/// Why a worker may stand still for as long as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excuse {
    /// A debugger or the like has hold of it: the process with this ID.
    Traced(i32),
    /// It crashes, and the kernel writes its core. Its exit follows.
    DumpsCore,
}

impl Excuse {
    /// Judges by two fields of /proc/PID/status (proc_pid_status(5)): `TracerPid`, which is 0 of one that is not traced, and
    /// `CoreDumping` (Linux 4.15), which is 1 of one that dumps core.
    pub fn of(tracer_pid: Option<&str>, core_dumping: Option<&str>) -> Option<Excuse> {
        if core_dumping == Some("1") {
            return Some(Excuse::DumpsCore);
        }
        let tracer = tracer_pid?.parse().ok()?;
        (tracer != 0).then_some(Excuse::Traced(tracer))
    }
}

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The loop goes round, or may yet do so in time.
    Moves,
    /// It was said to stand still, and goes round again, after so long.
    MovesAgain(Duration),
    /// It stands still, and is left alone.
    Excused {
        /// Why.
        excuse: Excuse,
        /// That has not been said yet.
        anew: bool,
    },
    /// It stands still.
    Stalled {
        /// For so long by now.
        stalled_for: Duration,
        /// That has not been said yet.
        anew: bool,
    },
}

impl Watchdog {
    /// These are watched, nobody else any more.
    pub fn watch_only(&mut self, watched: &[WorkerId]) {
        self.0.retain(|id, _| watched.contains(id));
    }

    /// Compares a worker's pulse with what it was. `patience` is how long it may stay what it is; `excuse` is asked once that
    /// has passed. Whose excuse is gone has all of that time again.
    pub fn look(
        &mut self,
        id: WorkerId,
        pulse: Pulse,
        now: Instant,
        patience: Duration,
        excuse: impl FnOnce() -> Option<Excuse>,
    ) -> Finding {
        let unseen = Seen { pulse, since: now, told: false, excuse: None };
        let seen = self.0.entry(id).or_insert(unseen);
        let still = now.saturating_duration_since(seen.since);
        if seen.pulse != pulse {
            let told = seen.told;
            *seen = Seen { pulse, since: now, told: false, excuse: None };
            return if told { Finding::MovesAgain(still) } else { Finding::Moves };
        }
        if still < patience && seen.excuse.is_none() {
            return Finding::Moves;
        }
        let before = std::mem::replace(&mut seen.excuse, excuse());
        if let Some(excuse) = seen.excuse {
            seen.told = false;
            return Finding::Excused { excuse, anew: before != seen.excuse };
        }
        if before.is_some() {
            seen.since = now;
            return Finding::Moves;
        }
        let anew = !std::mem::replace(&mut seen.told, true);
        Finding::Stalled { stalled_for: still, anew }
    }

    /// Nobody who is watched goes round, and there is somebody.
    pub fn all_stand_still(&self) -> bool {
        !self.0.is_empty() && self.0.values().all(|seen| seen.told)
    }

    /// So much time counts for nobody.
    pub fn put_off(&mut self, by: Duration) {
        for seen in self.0.values_mut() {
            seen.since = seen.since.checked_add(by).unwrap_or(seen.since);
        }
    }
}

/// Watches the watchdog: whether the master itself has been there all the time.
#[derive(Debug)]
pub struct Vigil {
    /// When it meant to look at the clock again, at the latest.
    due: Option<Instant>,
    /// When it found that it had been held up, or else looked first: what came before has been credited.
    settled: Option<Instant>,
    /// How far CLOCK_BOOTTIME was ahead of CLOCK_MONOTONIC.
    ahead: Duration,
}

/// The master was held up, and the workers may have been as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldUp {
    /// It came so much too late.
    pub late: Duration,
    /// The machine was suspended for so long.
    pub asleep: Duration,
    /// How much time counts for nobody: what was late, and a pace more, since whoever was stopped with the master may go on
    /// a moment later; but of the time since it was held up before, half a pace always counts. A master that is late at
    /// every look would else never see a limit pass. Time in which the machine was suspended is not in it: CLOCK_MONOTONIC
    /// stood still.
    pub lost: Duration,
}

impl Vigil {
    /// Begins now, with CLOCK_BOOTTIME so far ahead.
    pub fn new(ahead: Duration) -> Vigil {
        Vigil { due: None, settled: None, ahead }
    }

    /// The master waits, at the longest until then.
    pub fn wait_until(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// The master looks at the clocks; from here on it works, and means to look again at once.
    pub fn look(&mut self, now: Instant, ahead: Duration, pace: Duration) -> Option<HeldUp> {
        let late = self.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        let asleep = ahead.saturating_sub(self.ahead);
        (self.due, self.ahead) = (Some(now), ahead);
        let settled = *self.settled.get_or_insert(now);
        if late <= pace && asleep <= pace {
            return None;
        }
        self.settled = Some(now);
        let to_give = now.saturating_duration_since(settled).saturating_sub(pace / 2);
        Some(HeldUp { late, asleep, lost: (late + pace).min(to_give) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const PACE: Duration = Duration::from_secs(1);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn stalled(seconds: u64, anew: bool) -> Finding {
        Finding::Stalled { stalled_for: secs(seconds), anew }
    }

    #[test]
    fn a_pulse_that_stays_the_same_for_the_stall_timeout_is_told_once() {
        let (mut watchdog, now) = (Watchdog::default(), Instant::now());
        let mut look = |pulse, at| watchdog.look(1, Pulse::of(pulse), now + secs(at), PATIENCE, || None);
        assert_eq!(look(5, 0), Finding::Moves, "how long it has been so is not known");
        assert_eq!(look(5, 29), Finding::Moves);
        assert_eq!(look(5, 30), stalled(30, true));
        assert_eq!(look(5, 31), stalled(31, false));
        assert_eq!(look(6, 35), Finding::MovesAgain(secs(35)));
        assert_eq!(look(6, 64), Finding::Moves);
        assert_eq!(look(6, 65), stalled(30, true));
    }

    #[test]
    fn a_loop_that_was_elsewhere_is_alive_even_if_it_has_come_back() {
        let (mut watchdog, now) = (Watchdog::default(), Instant::now());
        for (at, pulse) in [(0, 1), (29, 2), (58, 1), (87, 1)] {
            assert_eq!(watchdog.look(1, Pulse::of(pulse), now + secs(at), PATIENCE, || None), Finding::Moves);
        }
        assert_eq!(watchdog.look(1, Pulse::of(1), now + secs(88), PATIENCE, || None), stalled(30, true));
    }

    #[test]
    fn workers_are_watched_apart_and_only_while_they_are_to_be() {
        let (mut watchdog, now) = (Watchdog::default(), Instant::now());
        for id in [1, 2] {
            watchdog.look(id, Pulse::of(1), now, PATIENCE, || None);
        }
        assert!(!watchdog.all_stand_still());
        watchdog.watch_only(&[2]);
        assert_eq!(watchdog.look(2, Pulse::of(1), now + secs(40), PATIENCE, || None), stalled(40, true));
        assert!(watchdog.all_stand_still());
        assert_eq!(
            watchdog.look(1, Pulse::of(1), now + secs(40), PATIENCE, || None),
            Finding::Moves,
            "seen anew"
        );
        assert!(!watchdog.all_stand_still());
        watchdog.watch_only(&[]);
        assert!(!watchdog.all_stand_still(), "nobody does");
    }

    #[test]
    fn who_is_traced_or_dumps_core_is_excused() {
        for (tracer_pid, core_dumping, expected) in [
            (Some("0"), Some("0"), None),
            (Some("4711"), Some("0"), Some(Excuse::Traced(4711))),
            (Some("0"), Some("1"), Some(Excuse::DumpsCore)),
            (Some("4711"), Some("1"), Some(Excuse::DumpsCore)),
            // a kernel before 4.15
            (Some("4711"), None, Some(Excuse::Traced(4711))),
            // it is gone, or nobody may look
            (None, None, None),
            (Some("?"), Some("?"), None),
        ] {
            assert_eq!(Excuse::of(tracer_pid, core_dumping), expected, "{tracer_pid:?} {core_dumping:?}");
        }
    }

    #[test]
    fn who_is_excused_is_told_of_once_and_has_all_its_time_when_that_is_over() {
        let (mut watchdog, now) = (Watchdog::default(), Instant::now());
        let mut look = |at, excuse| watchdog.look(1, Pulse::of(1), now + secs(at), PATIENCE, || excuse);
        let traced = Some(Excuse::Traced(4711));
        let excused = |anew| Finding::Excused { excuse: Excuse::Traced(4711), anew };
        assert_eq!(look(0, None), Finding::Moves);
        assert_eq!(look(29, traced), Finding::Moves, "it needs no excuse yet");
        assert_eq!(look(30, traced), excused(true));
        for at in [31, 500, 1_000] {
            assert_eq!(look(at, traced), excused(false));
        }
        assert_eq!(look(1_001, None), Finding::Moves);
        assert_eq!(look(1_030, None), Finding::Moves);
        assert_eq!(look(1_031, None), stalled(30, true));
        assert_eq!(look(1_032, traced), excused(true), "it was left, and a debugger comes");
        assert!(!watchdog.all_stand_still());
    }

    #[test]
    fn lost_time_counts_for_nobody() {
        let (mut watchdog, now) = (Watchdog::default(), Instant::now());
        watchdog.look(1, Pulse::of(1), now, PATIENCE, || None);
        watchdog.put_off(secs(100));
        assert_eq!(watchdog.look(1, Pulse::of(1), now + secs(99), PATIENCE, || None), Finding::Moves);
        assert_eq!(watchdog.look(1, Pulse::of(1), now + secs(129), PATIENCE, || None), Finding::Moves);
        assert_eq!(watchdog.look(1, Pulse::of(1), now + secs(130), PATIENCE, || None), stalled(30, true));
    }

    #[test]
    fn a_master_that_comes_too_late_knows_it() {
        let (mut vigil, now) = (Vigil::new(secs(7)), Instant::now());
        let look = |vigil: &mut Vigil, at| vigil.look(now + secs(at), secs(7), PACE);
        assert_eq!(look(&mut vigil, 50), None, "it has only begun");
        vigil.wait_until(Some(now + secs(60)));
        assert_eq!(look(&mut vigil, 55), None, "woken early");
        vigil.wait_until(Some(now + secs(60)));
        assert_eq!(look(&mut vigil, 61), None);
        vigil.wait_until(Some(now + secs(62)));
        let held_up = look(&mut vigil, 72).unwrap();
        assert_eq!((held_up.late, held_up.asleep, held_up.lost), (secs(10), secs(0), secs(11)));
        assert_eq!(look(&mut vigil, 72), None, "said once");
        let held_up = look(&mut vigil, 80).unwrap();
        assert_eq!(held_up.late, secs(8), "at work, where every look is due at once");
        assert_eq!(held_up.lost, secs(8) - PACE / 2, "it had been held up just before");
        vigil.wait_until(None);
        assert_eq!(look(&mut vigil, 999), None, "nothing was due");
    }

    #[test]
    fn a_machine_that_slept_is_told_by_its_clocks() {
        let (mut vigil, now) = (Vigil::new(secs(7)), Instant::now());
        vigil.wait_until(Some(now + secs(1)));
        assert_eq!(vigil.look(now, secs(8), PACE), None, "what the clocks differ by is not exact");
        let later = now + secs(5);
        vigil.wait_until(Some(later + secs(1)));
        let held_up = vigil.look(later, secs(3_608), PACE).unwrap();
        assert_eq!((held_up.late, held_up.asleep, held_up.lost), (secs(0), secs(3_600), secs(1)));
        assert_eq!(vigil.look(later, secs(3_608), PACE), None);
        let held_up = vigil.look(later, secs(3_618), PACE).unwrap();
        assert_eq!(held_up.lost, secs(0), "no time has passed that could be given back");
    }

    #[test]
    fn a_single_gap_is_credited_wholly_however_long() {
        for gap in [2, 60, 86_400] {
            let (mut vigil, now) = (Vigil::new(secs(0)), Instant::now());
            vigil.look(now, secs(0), PACE);
            vigil.wait_until(Some(now + secs(1)));
            vigil.look(now + secs(1), secs(0), PACE);
            vigil.wait_until(Some(now + secs(2)));
            let held_up = vigil.look(now + secs(2 + gap), secs(0), PACE).unwrap();
            assert_eq!(held_up.lost, secs(gap) + PACE);
        }
    }

    #[test]
    fn a_master_that_is_always_too_late_sees_a_limit_pass_all_the_same() {
        for (wait, work) in [(1_000, 1_001), (0, 1_001), (1_000, 5_000), (10, 60_000)] {
            let ms = Duration::from_millis;
            let (mut vigil, mut watchdog, mut now) =
                (Vigil::new(secs(0)), Watchdog::default(), Instant::now());
            vigil.look(now, secs(0), PACE);
            watchdog.look(1, Pulse::of(1), now, PATIENCE, || None);
            let half_paces = PATIENCE.as_secs() * 2;
            let ends = (1..=half_paces).any(|_| {
                vigil.wait_until(Some(now + ms(wait)));
                now += ms(wait + work);
                let held_up = vigil.look(now, secs(0), PACE).expect("it is late");
                watchdog.put_off(held_up.lost);
                watchdog.look(1, Pulse::of(1), now, PATIENCE, || None) != Finding::Moves
            });
            assert!(ends, "{wait} ms of waiting, {work} ms of work");
        }
    }

    proptest! {
        #[test]
        fn of_every_time_the_master_was_held_up_half_a_pace_counts(
            looks in prop::collection::vec((prop::option::of(0u64..1_500), 0u64..5_000, 0u64..3_000), 1..60),
        ) {
            let (begin, ms) = (Instant::now(), Duration::from_millis);
            let (mut vigil, mut now, mut ahead) = (Vigil::new(secs(0)), begin, secs(0));
            vigil.look(now, ahead, PACE);
            let (mut credited, mut times) = (Duration::ZERO, 0);
            for (wait, passes, sleeps) in looks {
                if let Some(wait) = wait {
                    vigil.wait_until(Some(now + ms(wait)));
                }
                now += ms(passes);
                // asleep as well, if only sometimes
                ahead += ms(sleeps.saturating_sub(1_500));
                let Some(held_up) = vigil.look(now, ahead, PACE) else { continue };
                prop_assert!(held_up.lost <= held_up.late + PACE);
                credited += held_up.lost;
                // a suspension takes no time of this clock, so there may be none to see anything in
                times += u32::from(held_up.late > PACE);
                prop_assert!(credited + times * (PACE / 2) <= now - begin);
            }
        }
    }

    #[test]
    fn the_master_looks_often_enough_for_the_shortest_limit() {
        let ms = Duration::from_millis;
        for (limits, expected) in [
            ([secs(30), secs(10), secs(5)], secs(1)),
            ([secs(30), secs(10), secs(2)], ms(500)),
            ([secs(30), ms(1), secs(5)], ms(100)),
        ] {
            assert_eq!(pace(limits), expected);
        }
    }
}
