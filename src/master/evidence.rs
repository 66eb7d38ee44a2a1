//! What can be found out about a worker that stands still: what it has written down itself, and what the kernel says.
//!
//! Neighbours: `event_loop` asks before such a worker is killed; `stats::doing` is what the worker wrote, `sys::procfs`
//! reads /proc.

use super::watchdog::Excuse;
use crate::event::Evidence;
use crate::stats::Doing;
use crate::sys::{clock, procfs};
use std::time::Duration;

/// Looks at a worker. `at_most`: nothing that it is at has lasted longer.
pub fn gather(pid: i32, doing: &Doing, at_most: Duration) -> Evidence {
    let in_turn = clock::monotonic().saturating_sub(Duration::from_nanos(doing.turn));
    Evidence {
        phase: doing.phase,
        request: doing.request.as_deref().map(escape),
        request_age: doing.request.as_ref().map(|_| in_turn.min(at_most)),
        state: procfs::status(pid, "State"),
        // 0: it is in none, or the kernel does not say
        wchan: procfs::file(pid, "wchan").filter(|function| function != "0"),
        syscall: procfs::file(pid, "syscall"),
        stack: procfs::file(pid, "stack").map(|stack| one_line(&stack)),
    }
}

/// Why it stands still, if that is no fault of its own.
pub fn excuse(pid: i32) -> Option<Excuse> {
    let [tracer_pid, core_dumping] = ["TracerPid", "CoreDumping"].map(|field| procfs::status(pid, field));
    Excuse::of(tracer_pid.as_deref(), core_dumping.as_deref())
}

/// As nginx writes requests into its log: nothing that a client sends looks like something else there.
fn escape(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for octet in octets {
        match octet {
            b'"' | b'\\' | ..b' ' | 0x7f.. => text.push_str(&format!("\\x{octet:02X}")),
            octet => text.push(char::from(*octet)),
        }
    }
    text
}

/// `[<0>] function+0x12/0x34`, a line for each caller.
fn one_line(stack: &str) -> String {
    let functions = stack.lines().map(|line| line.trim_start_matches("[<0>]").trim());
    functions.collect::<Vec<_>>().join(" < ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::LoopPhase;

    #[test]
    fn a_request_line_can_look_like_nothing_else() {
        for (line, expected) in [
            ("GET /a?b=%20c", "GET /a?b=%20c"),
            ("GET /\x1b[31m", "GET /\\x1B[31m"),
            ("GET /\" phase=\"x\n", "GET /\\x22 phase=\\x22x\\x0A"),
            ("GET /\\x41", "GET /\\x5Cx41"),
            ("GET /ü\x7f", "GET /\\xC3\\xBC\\x7F"),
        ] {
            assert_eq!(escape(line.as_bytes()), expected);
        }
    }

    #[test]
    fn a_stack_is_one_line() {
        let stack = "[<0>] hrtimer_nanosleep+0xa3/0x1b0\n[<0>] do_syscall_64+0x82/0x160\n";
        assert_eq!(one_line(stack), "hrtimer_nanosleep+0xa3/0x1b0 < do_syscall_64+0x82/0x160");
    }

    #[test]
    fn the_age_of_a_request_is_that_of_its_turn_unless_others_had_that_turn_before() {
        let own = std::process::id() as i32;
        // on a clock that may have begun less than an age ago
        let turn = clock::monotonic().saturating_sub(Duration::from_secs(50));
        let doing = Doing {
            phase: LoopPhase::Handling,
            request: Some(b"GET /".to_vec()),
            turn: turn.as_nanos() as u64,
        };
        let age = |at_most| gather(own, &doing, at_most).request_age.unwrap();
        let (before, aged) = (clock::monotonic() - turn, age(Duration::MAX));
        assert!((before..=clock::monotonic() - turn).contains(&aged), "{aged:?}");
        assert_eq!(age(Duration::from_millis(1)), Duration::from_millis(1));
        let idle = Doing { phase: LoopPhase::Waiting, request: None, turn: doing.turn };
        let evidence = gather(own, &idle, Duration::MAX);
        assert_eq!((evidence.request, evidence.request_age), (None, None));
        assert!(evidence.state.unwrap().contains('('), "what it does, by letter and by name");
        let nobody = gather(-1, &idle, Duration::MAX);
        assert_eq!((nobody.state, nobody.wchan, nobody.syscall, nobody.stack), (None, None, None, None));
    }
}
