//! Looks at a server's processes while it is under load. The load generator says when its measured part began and how
//! long it was; what the server used in just that time is read off between the looks on both sides.

use crate::machine::Sample;
use crate::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const EVERY: Duration = Duration::from_millis(20);
/// Memory is looked at less often: it costs the kernel more.
const MEMORY_EVERY: usize = 5;

/// Does this, and looks at these processes meanwhile.
pub fn while_doing<T>(processes: &[i32], action: impl FnOnce() -> T) -> (T, Vec<Sample>) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let looks = scope.spawn(|| look(processes, &done));
        let outcome = action();
        done.store(true, Ordering::Relaxed);
        (outcome, looks.join().expect("it only reads"))
    })
}

fn look(processes: &[i32], done: &AtomicBool) -> Vec<Sample> {
    let mut samples: Vec<Sample> = vec![];
    loop {
        let last = done.load(Ordering::Relaxed);
        let rss_anon = match samples.last() {
            Some(sample) if !samples.len().is_multiple_of(MEMORY_EVERY) => sample.rss_anon,
            _ => process::rss_anon_of(processes),
        };
        samples.push(Sample { at: now(), cpu: process::cpu_of(processes), rss_anon });
        if last {
            return samples;
        }
        thread::sleep(EVERY);
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
