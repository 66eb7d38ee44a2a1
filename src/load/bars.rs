//! A distribution drawn with blocks in a terminal, at most 80 columns wide.
//!
//! Pure. Neighbours: `summary` prints it.

use crate::stats::report::{Unit, grouped, time};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// How many rows there may be.
const ROWS_MAX: i32 = 14;

/// How long the longest bar is.
const BAR_COLUMNS: usize = 48;

/// Into how many steps a decade may be cut, finest first. Three of them are 1, 2, 5.
const STEPS: [i32; 7] = [80, 40, 20, 10, 5, 3, 1];

/// Draws a distribution in microseconds: a row for each step of a logarithmic scale, as fine as the rows allow.
pub fn draw(histogram: &Histogram<u64>, out: &mut dyn Write) -> io::Result<()> {
    if histogram.is_empty() {
        return Ok(());
    }
    let rows = rows(histogram);
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1);
    for (from, count) in rows {
        let label = time(from, Unit::Microseconds);
        let share = 100.0 * count as f64 / histogram.len() as f64;
        let line = match count {
            0 => format!("{label:>8} │"),
            _ => {
                format!("{label:>8} │{:<BAR_COLUMNS$} {share:>5.1}% {:>13}", bar(count, most), grouped(count))
            }
        };
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Where each row begins, and how many values are in it.
fn rows(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let (low, high) = (histogram.min().max(1) as f64, histogram.max().max(1) as f64);
    let rows_at = |steps: i32| row_of(high, steps) - row_of(low, steps) + 1;
    let steps = STEPS.into_iter().find(|steps| rows_at(*steps) <= ROWS_MAX).unwrap_or(1);
    let mut counts = BTreeMap::new();
    for step in histogram.iter_recorded() {
        // the middle, so that a bucket of the histogram over a row's edge is where most of it is
        let value = histogram.median_equivalent(step.value_iterated_to()).max(1) as f64;
        *counts.entry(row_of(value.clamp(low, high), steps)).or_insert(0) += step.count_at_value();
    }
    // the bucket of the least value may begin a row before its middle, and the last one end a row behind it
    let first = counts.keys().next().copied().unwrap_or(0);
    let last = counts.keys().next_back().copied().unwrap_or(first);
    (first..=last).map(|row| (begin_of(row, steps), counts.get(&row).copied().unwrap_or(0))).collect()
}

/// The last row that does not begin behind the value.
fn row_of(value: f64, steps: i32) -> i32 {
    let guess = (value.log10() * f64::from(steps)).floor() as i32;
    (guess - 1..=guess + 1).rev().find(|row| begin_of(*row, steps) <= value).unwrap_or(guess - 1)
}

/// A row's first value: a step of the decade, as a number that people would choose.
fn begin_of(row: i32, steps: i32) -> f64 {
    let (decade, step) = (10_f64.powi(row.div_euclid(steps)), row.rem_euclid(steps));
    let digits = if steps > 10 { 100.0 } else { 10.0 };
    let within = match steps {
        3 => [1.0, 2.0, 5.0][step as usize],
        _ => (10_f64.powf(f64::from(step) / f64::from(steps)) * digits).round() / digits,
    };
    decade * within
}

/// A bar in eighths of a column; whatever is there is seen.
fn bar(count: u64, most: u64) -> String {
    let eighths = (count as f64 / most as f64 * (8 * BAR_COLUMNS) as f64).round() as usize;
    let eighths = eighths.max(1);
    let mut bar = "█".repeat(eighths / 8);
    bar.extend(
        [None, Some('▏'), Some('▎'), Some('▍'), Some('▌'), Some('▋'), Some('▊'), Some('▉')][eighths % 8],
    );
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    fn drawn(values: impl IntoIterator<Item = u64>) -> String {
        let mut out = vec![];
        draw(&of(values), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(drawn([]), "");
    }

    #[test]
    fn one_time_is_one_full_bar() {
        let full = "█".repeat(BAR_COLUMNS);
        assert_eq!(drawn([5_000; 30]), format!("  4.87ms │{full} 100.0%            30\n"));
    }

    #[test]
    fn a_long_tail_is_drawn_in_steps_of_1_2_5_with_its_emptiness() {
        let text = drawn([vec![150; 90], vec![450; 9], vec![1_000_000]].concat());
        let labels: Vec<&str> = text.lines().map(|line| line.split(" │").next().unwrap().trim()).collect();
        assert_eq!(
            labels,
            [
                "100us", "200us", "500us", "1.00ms", "2.00ms", "5.00ms", "10.0ms", "20.0ms", "50.0ms",
                "100ms", "200ms", "500ms", "1.00s"
            ]
        );
        assert!(text.lines().nth(1).unwrap().ends_with("9.0%             9"), "{text}");
        assert_eq!(text.lines().nth(2).unwrap(), "   500us │");
        assert!(text.lines().last().unwrap().contains("│▌ "), "{text}");
    }

    #[test]
    fn rows_begin_at_numbers_that_people_would_choose() {
        for steps in STEPS {
            for row in 0..10 * steps {
                assert!(begin_of(row, steps) < begin_of(row + 1, steps), "{steps} {row}");
                assert_eq!(row_of(begin_of(row, steps), steps), row, "{steps}");
            }
        }
        assert_eq!((0..5).map(|row| begin_of(row, 5)).collect::<Vec<_>>(), [1.0, 1.6, 2.5, 4.0, 6.3]);
    }

    #[test]
    fn a_bucket_over_a_rows_edge_leaves_no_row_empty_before_it() {
        assert_eq!(rows(&of([3_548_381_184])).len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_value_is_in_a_row_and_no_row_is_too_long(values in prop::collection::vec(0_u64..=3_600_000_000, 1..60)) {
            let rows = rows(&of(values.clone()));
            prop_assert!(rows.len() <= ROWS_MAX as usize);
            prop_assert_eq!(rows.iter().map(|(_, count)| count).sum::<u64>(), values.len() as u64);
            prop_assert!(rows.first().unwrap().1 > 0 && rows.last().unwrap().1 > 0);
            for line in drawn(values).lines() {
                prop_assert!(line.chars().count() <= 80, "{}", line);
            }
        }
    }
}
