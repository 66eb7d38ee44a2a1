//! What the kernel says about a process: its files below /proc (proc(5)). What cannot be read is absent: the process may be
//! gone, or ours may not ask.
//!
//! Neighbours: `master::evidence` tells what a worker was doing; `master::event_loop` (for recycling) and
//! `master::control` look how much memory processes have.

use std::fs;

/// A field of /proc/PID/status, such as `State`.
pub(crate) fn status(pid: i32, field: &str) -> Option<String> {
    let status = file(pid, "status")?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.map(|value| value.trim().to_owned())
}

/// Memory of its own, in octets: `RssAnon` in /proc/PID/status.
pub(crate) fn rss_anon(pid: i32) -> Option<u64> {
    let value = status(pid, "RssAnon")?;
    value.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A file below /proc/PID, whole, without the blanks around it; absent as well if that leaves nothing.
pub(crate) fn file(pid: i32, name: &str) -> Option<String> {
    let octets = fs::read(format!("/proc/{pid}/{name}")).ok()?;
    let text = String::from_utf8_lossy(&octets).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_of_and_one_that_is_not_there_is_not() {
        let own = std::process::id() as i32;
        assert_eq!(status(own, "Pid"), Some(own.to_string()));
        assert_eq!(status(own, "Pi"), None);
        assert!(rss_anon(own).unwrap() > 100 * 1024);
        assert_eq!((rss_anon(-1), file(-1, "wchan")), (None, None));
    }

    #[test]
    fn memory_that_is_written_to_is_the_processs_own() {
        let memory = vec![1u8; 64 << 20];
        let own = rss_anon(std::process::id() as i32).unwrap();
        assert!(own >= memory.len() as u64, "{own}");
        assert_eq!(rss_anon(i32::MAX), None);
    }
}
