//! Which octets of a file a Range field asks for (RFC 9110 section 14).
//!
//! Only a single range is served. Several in one field are answered with the whole file, which section 14.2 allows
//! ("a server MAY ignore the Range header field"): clients that resume or seek ask for one, and multipart answers are
//! mostly a way to make a server work.
//!
//! Neighbours: `conditional` finds the field and says with If-Range whether it counts.

use std::ops::Range;

/// What to answer a Range field with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranged {
    /// 200 and everything: the field is malformed, in another unit, or asks for several ranges.
    Whole,
    /// 206 and these octets: at least one, and none beyond the end.
    Part(Range<u64>),
    /// 416: nothing of what is asked for exists.
    Unsatisfiable,
}

/// A range-spec, its numbers as their significant digits: they may be longer than any integer.
enum Spec<'a> {
    /// first-pos "-" [ last-pos ]
    From { first: Digits<'a>, last: Option<Digits<'a>> },
    /// "-" suffix-length
    Last(Digits<'a>),
}

/// Decimal digits without leading zeros. Longer is larger; of equally long ones the order is that of the digits.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Digits<'a> {
    count: usize,
    digits: &'a [u8],
}

/// What the field's `value` means for a file of `len` octets.
pub fn resolve(value: &[u8], len: u64) -> Ranged {
    match single_spec(value) {
        Some(Spec::From { first, last }) => between(&first, last.as_ref(), len),
        Some(Spec::Last(count)) => suffix(count.value(), len),
        None => Ranged::Whole,
    }
}

/// RFC 9110 section 14.1.2: a last-pos beyond the end is the end; a first-pos beyond it cannot be satisfied.
fn between(first: &Digits<'_>, last: Option<&Digits<'_>>, len: u64) -> Ranged {
    if last.is_some_and(|last| last < first) {
        return Ranged::Whole;
    }
    let first = first.value();
    if first >= len {
        return Ranged::Unsatisfiable;
    }
    Ranged::Part(first..last.map_or(len, |last| last.value().saturating_add(1).min(len)))
}

/// Section 14.1.2: a suffix longer than the file is the whole file. Of an empty file too, but no Content-Range can say
/// so.
fn suffix(count: u64, len: u64) -> Ranged {
    match (count, len) {
        (0, _) => Ranged::Unsatisfiable,
        (_, 0) => Ranged::Whole,
        _ => Ranged::Part(len.saturating_sub(count)..len),
    }
}

/// `None` for other units (names are case-insensitive, section 14.1), for what is not in the grammar, and for several
/// ranges. Empty list elements do not count (section 5.6.1.2), and white space around an element is skipped.
fn single_spec(value: &[u8]) -> Option<Spec<'_>> {
    let (unit, list) = value.trim_ascii().split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut elements =
        list.split(|&c| c == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
    let (element, None) = (elements.next()?, elements.next()) else {
        return None;
    };
    let hyphen = element.iter().position(|&c| c == b'-')?;
    match (&element[..hyphen], &element[hyphen + 1..]) {
        (b"", count) => Some(Spec::Last(Digits::read(count)?)),
        (first, b"") => Some(Spec::From { first: Digits::read(first)?, last: None }),
        (first, last) => Some(Spec::From { first: Digits::read(first)?, last: Some(Digits::read(last)?) }),
    }
}

impl<'a> Digits<'a> {
    fn read(digits: &'a [u8]) -> Option<Digits<'a>> {
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
        Some(Digits { count: digits.len() - zeros, digits: &digits[zeros..] })
    }

    /// No file is longer than the largest u64: what is larger may as well be that.
    fn value(&self) -> u64 {
        self.digits
            .iter()
            .fold(0, |value: u64, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_and_what_they_ask_for() {
        use Ranged::{Part, Unsatisfiable, Whole};
        let table: &[(&str, u64, Ranged)] = &[
            // RFC 9110 section 14.1.2: the examples
            ("bytes=0-499", 10_000, Part(0..500)),
            ("bytes=500-999", 10_000, Part(500..1000)),
            ("bytes=-500", 10_000, Part(9500..10_000)),
            ("bytes=9500-", 10_000, Part(9500..10_000)),
            ("bytes=0-0,-1", 10_000, Whole),
            ("bytes= 0-999, 4500-5499, -1000", 10_000, Whole),
            // section 14.1.2: the last-pos is inclusive, and cut at the end
            ("bytes=0-0", 1, Part(0..1)),
            ("bytes=0-1", 1, Part(0..1)),
            ("bytes=9-9", 10, Part(9..10)),
            ("bytes=0-99999999999999999999999999", 10, Part(0..10)),
            ("bytes=0-18446744073709551615", u64::MAX, Part(0..u64::MAX)),
            ("bytes=007-0000000000000000000000000000008", 10, Part(7..9)),
            // a suffix longer than the file is the whole file
            ("bytes=-10", 10, Part(0..10)),
            ("bytes=-11", 10, Part(0..10)),
            ("bytes=-99999999999999999999999999", 10, Part(0..10)),
            ("bytes=-5", 0, Whole),
            // section 15.5.17: unsatisfiable
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-20", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=-000", 0, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=99999999999999999999999999-", 10, Unsatisfiable),
            ("bytes=18446744073709551615-", u64::MAX, Unsatisfiable),
            ("bytes=99999999999999999999999998-99999999999999999999999999", 10, Unsatisfiable),
            // section 14.1.2: a last-pos less than the first-pos is invalid, and the field then ignored (14.2)
            ("bytes=2-1", 10, Whole),
            ("bytes=20-19", 10, Whole),
            ("bytes=99999999999999999999999999-99999999999999999999999998", 10, Whole),
            // section 14.1: units are case-insensitive; unknown ones are ignored (14.2)
            ("BYTES=1-2", 10, Part(1..3)),
            ("bYtEs=1-2", 10, Part(1..3)),
            ("octets=1-2", 10, Whole),
            ("items=1-2", 10, Whole),
            ("byte=1-2", 10, Whole),
            // section 5.6.1.2: empty list elements, white space around elements
            ("bytes=1-2,", 10, Part(1..3)),
            ("bytes=,1-2", 10, Part(1..3)),
            ("bytes= 1-2\t, ,", 10, Part(1..3)),
            (" bytes=1-2 ", 10, Part(1..3)),
            ("bytes=1-2,3-4", 10, Whole),
            ("bytes=1-2,x", 10, Whole),
            // malformed
            ("", 10, Whole),
            ("bytes", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=,", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=1", 10, Whole),
            ("bytes =1-2", 10, Whole),
            ("bytes:1-2", 10, Whole),
            ("bytes=1 -2", 10, Whole),
            ("bytes=1- 2", 10, Whole),
            ("bytes=1--2", 10, Whole),
            ("bytes=--2", 10, Whole),
            ("bytes=1-2-", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=0x1-2", 10, Whole),
            ("bytes=1-2;", 10, Whole),
            ("bytes=\u{661}-2", 10, Whole),
        ];
        for (value, len, expected) in table {
            assert_eq!(resolve(value.as_bytes(), *len), *expected, "{value:?} of {len}");
        }
    }

    /// The same octet by octet, as the RFC's sentences say it.
    fn by_counting(len: u64, asked: impl Fn(u64) -> bool) -> Ranged {
        let octets: Vec<u64> = (0..len).filter(|place| asked(*place)).collect();
        match (octets.first(), octets.last()) {
            (Some(first), Some(last)) => Ranged::Part(*first..*last + 1),
            _ => Ranged::Unsatisfiable,
        }
    }

    proptest! {
        #[test]
        fn a_range_is_the_octets_that_are_counted_out(first in 0u64..40, more in 0u64..40, len in 0u64..40) {
            let last = first + more;
            prop_assert_eq!(
                resolve(format!("bytes={first}-{last}").as_bytes(), len),
                by_counting(len, |place| (first..=last).contains(&place))
            );
            prop_assert_eq!(resolve(format!("bytes={first}-").as_bytes(), len), by_counting(len, |place| place >= first));
            let suffix = resolve(format!("bytes=-{first}").as_bytes(), len);
            match (first, len) {
                (1.., 0) => prop_assert_eq!(suffix, Ranged::Whole),
                _ => prop_assert_eq!(suffix, by_counting(len, |place| place + first >= len)),
            }
        }

        #[test]
        fn a_part_lies_in_the_file_and_is_not_empty(
            value in "bytes=[0-9]{0,25}-[0-9]{0,25}|(?i)bytes[ =,0-9-]{0,12}|.{0,20}",
            len in prop_oneof![0u64..20, any::<u64>()],
        ) {
            if let Ranged::Part(part) = resolve(value.as_bytes(), len) {
                prop_assert!(part.start < part.end && part.end <= len);
            }
        }
    }
}
