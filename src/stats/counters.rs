//! How often something happened: the numbers of a process, of a slot, of a pool.
//!
//! Neighbours: `worker` counts in one of these and publishes it through `area`; `book` adds them up.

use serde::Serialize;

/// Names every counter once.
macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What happened in a worker, or in all that a pool ever had, how often. All but `active` only ever grow, whatever
        /// workers die and are replaced; what a worker has counted is kept when it is killed.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The names, in the order of [`Counters::values`].
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// What each of them counts, in the same order.
            pub(crate) const MEANINGS: &'static [&'static str] = &[$(concat!($($doc),*)),*];

            /// The numbers, in the order of [`Counters::NAMES`].
            pub fn values(&self) -> [u64; Counters::NAMES.len()] {
                [$(self.$name),*]
            }

            pub(crate) fn of_values([$($name),*]: [u64; Counters::NAMES.len()]) -> Counters {
                Counters { $($name),* }
            }
        }
    };
}

counters! {
    /// Connections that were accepted.
    accepted,
    /// Connections that are open now.
    active,
    /// Requests whose head has come whole, and keeps to the protocol.
    requests,
    /// Final answers with a 2xx status. An answer is counted when its head leaves.
    responses_2xx,
    /// With a 3xx status.
    responses_3xx,
    /// With a 4xx status.
    responses_4xx,
    /// With a 5xx status.
    responses_5xx,
    /// Octets received.
    bytes_in,
    /// Octets that sockets have taken.
    bytes_out,
    /// Answers among the above that uringd gave by itself to input that breaks the protocol or a limit (RFC 9112): 400, 408,
    /// 413, 414, 417, 431, 501, 505.
    refused,
    /// Connections that were ended, or answered 408, because a client was too slow to send or to read.
    timed_out,
    /// Connections that broke: reset by the client, most often.
    broken,
    /// Answers that were cut off because their content failed: a stream's error, a file that shrank.
    cut,
    /// Panics of the program that its worker survived.
    panics,
    /// Accepts that failed for want of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM).
    accept_failures,
    /// Receives that found the ring's pool of buffers empty (ENOBUFS); what they were for is received a turn later.
    buffers_exhausted,
    /// Connections that were closed in the middle of something because a drain's time was over. (Workers that had to be
    /// killed are the master's to count: `forced_kills` in its last log line.)
    forced_closes,
    /// Idle connections that were closed because their worker drained, and they brought no request to be told that with.
    idle_closes,
    /// Turns of the loop.
    turns,
    /// The longest turn, in nanoseconds, without its wait: for that long one handler kept all others waiting. The maximum of
    /// a pool is that of its workers.
    longest_turn_ns,
    /// Lines of the access log that were lost: the disk was full, or did not keep up.
    access_log_dropped,
}

impl Counters {
    /// Final answers of all classes.
    pub fn responses(&self) -> u64 {
        let classes = [self.responses_2xx, self.responses_3xx, self.responses_4xx, self.responses_5xx];
        classes.into_iter().fold(0, u64::wrapping_add)
    }

    /// Adds another process's. Wraps rather than panics: who writes the other one may be out of its mind.
    pub(crate) fn add(&mut self, other: &Counters) {
        let longest = self.longest_turn_ns.max(other.longest_turn_ns);
        let (mut sums, others) = (self.values(), other.values());
        sums.iter_mut().zip(others).for_each(|(sum, other)| *sum = sum.wrapping_add(other));
        *self = Counters { longest_turn_ns: longest, ..Counters::of_values(sums) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_added_and_the_longest_turn_is_the_longer_one() {
        let mut sum = Counters { requests: 2, responses_2xx: 1, longest_turn_ns: 70, ..Counters::default() };
        sum.add(&Counters { requests: 40, responses_5xx: 3, longest_turn_ns: 50, ..Counters::default() });
        let expected = Counters {
            requests: 42,
            responses_2xx: 1,
            responses_5xx: 3,
            longest_turn_ns: 70,
            ..Counters::default()
        };
        assert_eq!((sum, sum.responses()), (expected, 4));
        sum.add(&Counters { requests: u64::MAX, ..Counters::default() });
        assert_eq!(sum.requests, 41);
    }

    #[test]
    fn every_counter_has_its_place() {
        let values: Vec<u64> = (1..).take(Counters::NAMES.len()).collect();
        let counters = Counters::of_values(values.clone().try_into().unwrap());
        assert_eq!((counters.accepted, counters.access_log_dropped), (1, values.len() as u64));
        assert_eq!(counters.values().to_vec(), values);
        assert_eq!(Counters::NAMES[2], "requests");
    }
}
