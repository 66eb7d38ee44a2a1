//! What a worker's loop is at, in words of its area: the phase, and the request that a handler has. The worker writes as it
//! goes, so that the master can say what a loop was doing that stands still. It cannot ask then, and may not look into the
//! memory of a process of another user.
//!
//! One word says it all: the phase, how much of the target is written down, and a count that no two requests share. It is
//! stored last and read twice, so that a reader knows whether what it read in between belongs together, and a worker that
//! has gone from one request to the next has moved, however long its turn takes.
//!
//! Neighbours: `area` is the memory; `worker::service`, `tasks` and `meter` write; `master::watchdog` compares pulses,
//! `master::evidence` tells what is found here.

use super::area::Area;
use super::tally::Nanos;
use crate::event::LoopPhase;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

/// Where the clock of the process begins, on CLOCK_MONOTONIC.
const ORIGIN: usize = 2;
/// When the turn began.
const TURN: usize = 3;
/// How often the phase has changed without a request's beginning.
const STEPS: usize = 4;
const STATE: usize = 40;
const METHOD: usize = 41;
const TARGET: usize = 42;
const TARGET_WORDS: usize = 15;
/// Octets of a target that are written down.
const TARGET_OCTETS: usize = TARGET_WORDS * 8;

/// The first and the last word of this part of the area, and the one behind it.
pub(super) const FIRST: usize = STATE;
pub(super) const END: usize = TARGET + TARGET_WORDS;

/// The state's lowest octet is the phase, the next the length, the rest the count.
const PHASE_BITS: u64 = 0xff;
const LENGTH_SHIFT: u32 = 8;
const LENGTH_BITS: u64 = 0xff << LENGTH_SHIFT;
const ONE_REQUEST: u64 = 1 << 16;
/// One more than fits: it was longer.
const LENGTH_CUT: usize = TARGET_OCTETS + 1;

/// How often reading is begun anew while the worker writes: a loop that is so quick does not stand still.
const READS_MAX: usize = 8;

/// What a loop was at, to go back to.
#[derive(Clone, Copy, Debug)]
#[must_use = "the phase before has to be gone back to"]
pub struct Before(u64);

/// A request line that was written down, to be so again when its reply is worked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    length: u64,
    method: u64,
    target: [u64; TARGET_WORDS],
}

/// What changes as long as a loop moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    heartbeat: Nanos,
    state: u64,
    steps: u64,
}

/// What a loop is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doing {
    pub phase: LoopPhase,
    /// Method and target of the request that is handled, as the client sent it; a long target is cut, and ends in `...`.
    pub request: Option<Vec<u8>>,
    /// When the turn began in which the loop came to this, on CLOCK_MONOTONIC.
    pub turn: Nanos,
}

/// For the worker. All of it is a few stores to memory that nobody else writes.
impl Area {
    /// The clock of this process is 0 at this time of CLOCK_MONOTONIC.
    pub(crate) fn set_origin(&self, origin: Nanos) {
        self.head()[ORIGIN].store(origin, Relaxed);
    }

    /// The loop waits for something to happen.
    #[inline]
    pub(crate) fn wait(&self) {
        let _ = self.begin(LoopPhase::Waiting as u64);
    }

    /// A turn begins.
    #[inline]
    pub(crate) fn turn(&self, now: Nanos) {
        self.head()[TURN].store(now, Relaxed);
        let _ = self.begin(LoopPhase::Turning as u64);
    }

    /// A request is handed to the program. `method` is its name, as the octets of a number.
    #[inline]
    pub fn hand_over(&self, phase: LoopPhase, method: u64, target: &[u8]) -> Before {
        let words = self.head();
        // whoever reads the line while it is written must find that the request before has ended
        fence(Release);
        words[METHOD].store(method, Relaxed);
        write(&target[..target.len().min(TARGET_OCTETS)], &words[TARGET..TARGET + TARGET_WORDS]);
        self.begin(phase as u64 | (target.len().min(LENGTH_CUT) as u64) << LENGTH_SHIFT)
    }

    /// The same for what is gone on with for a request of an earlier turn.
    #[inline]
    pub(crate) fn hand_over_again(&self, phase: LoopPhase, line: &Line) -> Before {
        let words = self.head();
        fence(Release);
        words[METHOD].store(line.method, Relaxed);
        words[TARGET..].iter().zip(line.target).for_each(|(word, octets)| word.store(octets, Relaxed));
        self.begin(phase as u64 | line.length)
    }

    /// Other code of the program's is called, on behalf of the request that is written down, if there is one.
    #[inline]
    pub(crate) fn enter(&self, phase: LoopPhase) -> Before {
        let words = self.head();
        let before = words[STATE].load(Relaxed);
        words[STEPS].store(words[STEPS].load(Relaxed).wrapping_add(1), Relaxed);
        words[STATE].store(before & !PHASE_BITS | phase as u64, Release);
        Before(before)
    }

    /// The program has returned.
    #[inline]
    pub fn leave(&self, before: Before) {
        self.head()[STATE].store(before.0, Release);
    }

    /// The request line that is written down now.
    pub(crate) fn line(&self) -> Line {
        let words = self.head();
        Line {
            length: words[STATE].load(Relaxed) & LENGTH_BITS,
            method: words[METHOD].load(Relaxed),
            target: std::array::from_fn(|number| words[TARGET + number].load(Relaxed)),
        }
    }

    /// The head of the area: with its length known, nobody checks an index.
    #[inline]
    fn head(&self) -> &[AtomicU64; END] {
        self.words().first_chunk().expect("an area is longer")
    }

    #[inline]
    fn begin(&self, low: u64) -> Before {
        const LOW_BITS: u64 = PHASE_BITS | LENGTH_BITS;
        let state = &self.head()[STATE];
        let before = state.load(Relaxed);
        let count = (before & !LOW_BITS).wrapping_add(ONE_REQUEST);
        state.store(count | low, Release);
        Before(count | before & LOW_BITS)
    }
}

#[cfg(test)]
impl Pulse {
    /// One like no other.
    pub(crate) fn of(heartbeat: Nanos) -> Pulse {
        Pulse { heartbeat, state: 0, steps: 0 }
    }
}

/// For the master.
impl Area {
    pub(crate) fn pulse(&self) -> Pulse {
        let [state, steps] = [STATE, STEPS].map(|word| self.words()[word].load(Relaxed));
        Pulse { heartbeat: self.heartbeat(), state, steps }
    }

    pub(crate) fn doing(&self) -> Doing {
        let words = self.words();
        let turn = words[ORIGIN].load(Relaxed).wrapping_add(words[TURN].load(Relaxed));
        let mut state = words[STATE].load(Acquire);
        for _ in 0..READS_MAX {
            let line = self.line();
            fence(Acquire);
            let now = words[STATE].load(Acquire);
            if now == state {
                return Doing { phase: phase_of(state), request: line.text(), turn };
            }
            state = now;
        }
        Doing { phase: phase_of(state), request: None, turn }
    }
}

impl Line {
    fn text(&self) -> Option<Vec<u8>> {
        let length = (self.length >> LENGTH_SHIFT) as usize;
        if length == 0 {
            return None;
        }
        let mut text: Vec<u8> =
            self.method.to_le_bytes().into_iter().take_while(|octet| *octet != 0).collect();
        text.push(b' ');
        text.extend(self.target.iter().flat_map(|word| word.to_le_bytes()).take(length.min(TARGET_OCTETS)));
        if length > TARGET_OCTETS {
            text.extend_from_slice(b"...");
        }
        Some(text)
    }
}

fn phase_of(state: u64) -> LoopPhase {
    let named = LoopPhase::ALL.into_iter().find(|phase| *phase as u64 == state & PHASE_BITS);
    // a process that writes where it should not has no phase, but it is in the middle of something
    named.unwrap_or(LoopPhase::Turning)
}

/// Octets as words; what is in the last one behind them is nobody's.
#[inline]
fn write(octets: &[u8], words: &[AtomicU64]) {
    let (whole, rest) = octets.as_chunks::<8>();
    for (chunk, word) in whole.iter().zip(words) {
        word.store(u64::from_le_bytes(*chunk), Relaxed);
    }
    if !rest.is_empty() {
        words[whole.len()].store(short(rest), Relaxed);
    }
}

/// Up to seven octets as a number, without a call for so few of them.
#[inline]
fn short(octets: &[u8]) -> u64 {
    match *octets {
        [a] => a.into(),
        [a, b] => u16::from_le_bytes([a, b]).into(),
        [a, b, c] => u32::from_le_bytes([a, b, c, 0]).into(),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
        [a, b, c, d, e] => u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]),
        [a, b, c, d, e, f] => u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        [a, b, c, d, e, f, g] => u64::from_le_bytes([a, b, c, d, e, f, g, 0]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GET: u64 = u64::from_le_bytes(*b"GET\0\0\0\0\0");

    fn area() -> Area {
        Area::create().unwrap().0
    }

    fn request(area: &Area) -> Option<String> {
        area.doing().request.map(|line| String::from_utf8(line).unwrap())
    }

    proptest! {
        #[test]
        fn a_target_is_read_as_it_was_written_down(target in "[!-~]{1,130}", other in "[!-~]{1,130}") {
            let area = area();
            for target in [other, target] {
                let before = area.hand_over(LoopPhase::Handling, GET, target.as_bytes());
                let expected = match target.len() {
                    ..=TARGET_OCTETS => format!("GET {target}"),
                    _ => format!("GET {}...", &target[..TARGET_OCTETS]),
                };
                prop_assert_eq!(request(&area), Some(expected));
                area.leave(before);
                prop_assert_eq!(request(&area), None);
            }
        }
    }

    #[test]
    fn the_phases_of_a_turn_are_told_and_gone_back_to() {
        let area = area();
        assert_eq!(area.doing().phase, LoopPhase::Starting);
        area.set_origin(1_000);
        area.wait();
        assert_eq!(area.doing().phase, LoopPhase::Waiting);
        area.turn(20);
        assert_eq!(area.doing(), Doing { phase: LoopPhase::Turning, request: None, turn: 1_020 });
        let turn = area.hand_over(LoopPhase::Handling, GET, b"/a");
        let handler = area.enter(LoopPhase::Polling);
        assert_eq!((area.doing().phase, request(&area)), (LoopPhase::Polling, Some("GET /a".into())));
        let line = area.line();
        area.leave(handler);
        assert_eq!((area.doing().phase, request(&area)), (LoopPhase::Handling, Some("GET /a".into())));
        area.leave(turn);
        let next = area.hand_over(LoopPhase::Admitting, GET, b"/another/that/is/longer");
        area.leave(next);
        assert_eq!((area.doing().phase, request(&area)), (LoopPhase::Turning, None));
        let turn = area.hand_over_again(LoopPhase::Polling, &line);
        assert_eq!((area.doing().phase, request(&area)), (LoopPhase::Polling, Some("GET /a".into())));
        area.leave(turn);
        assert_eq!((area.doing().phase, request(&area)), (LoopPhase::Turning, None));
    }

    #[test]
    fn whatever_a_loop_does_moves_its_pulse() {
        let area = area();
        let mut pulses = vec![area.pulse()];
        let mut look = || pulses.push(area.pulse());
        for _ in 0..2 {
            area.wait();
            look();
            area.turn(7);
            look();
            for _ in 0..2 {
                let before = area.hand_over(LoopPhase::Handling, GET, b"/a");
                look();
                let within = area.enter(LoopPhase::Polling);
                look();
                area.leave(within);
                look();
                area.leave(before);
                look();
            }
            area.publish(&Default::default(), 7);
        }
        let count = pulses.len();
        pulses.sort_by_key(|pulse| (pulse.heartbeat, pulse.steps, pulse.state));
        pulses.dedup();
        assert_eq!(pulses.len(), count);
        assert_eq!(area.pulse(), area.pulse());
    }

    /// The readers of a worker that writes all the time never see a line that was never there.
    #[test]
    fn a_line_is_read_whole_or_not_at_all() {
        let (area, memory) = Area::create().unwrap();
        let writer = Area::attach(&memory).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0..200_000u32 {
                    let octet = b'a' + (turn % 26) as u8;
                    let before = writer.hand_over(LoopPhase::Handling, GET, &[octet; 100]);
                    writer.leave(before);
                }
                done.store(true, Relaxed);
            });
            while !done.load(Relaxed) {
                if let Some(line) = area.doing().request {
                    assert!(line.len() == 104 && line[4..].iter().all(|octet| *octet == line[4]), "{line:?}");
                }
            }
        });
    }
}
