//! How a distribution is told: the percentile table that HdrHistogram's ports print and their plotters read, and a small
//! one for people.
//!
//! Pure. Neighbours: `hlog` is the same over time; the load generator tells its latencies with it, the master those of
//! its workers.

use hdrhistogram::Histogram;
use std::io::{self, Write};

/// What one step of a histogram's values is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// What a server sees of its requests.
    Nanoseconds,
    /// What a client sees.
    Microseconds,
}

impl Unit {
    /// How many of it are a microsecond: the unit of our percentile tables.
    pub fn per_microsecond(self) -> f64 {
        self.per_millisecond() / 1e3
    }

    /// How many of it are a millisecond.
    pub fn per_millisecond(self) -> f64 {
        match self {
            Unit::Nanoseconds => 1e6,
            Unit::Microseconds => 1e3,
        }
    }
}

/// A percentile that is told: its name, and how many of 10,000 values are at or below it.
pub type Percentile = (&'static str, u64);

/// Those of every table.
pub const PERCENTILES: [Percentile; 6] =
    [("p50", 5_000), ("p75", 7_500), ("p90", 9_000), ("p99", 9_900), ("p99.9", 9_990), ("p99.99", 9_999)];

/// The highest value that the histogram cannot tell from the one that `of_10_000` are at or below; 0 where nothing was
/// recorded. The rank is counted in integers, so that no rounding takes the value next to it.
pub fn value_at(histogram: &Histogram<u64>, of_10_000: u64) -> u64 {
    let rank = (u128::from(histogram.len()) * u128::from(of_10_000)).div_ceil(10_000).max(1);
    let mut seen = 0;
    let reached = histogram.iter_recorded().find(|step| {
        seen += u128::from(step.count_at_value());
        seen >= rank
    });
    reached.map_or(0, |step| step.value_iterated_to())
}

/// Whether so many values can say something of a percentile: at least one of them is to lie beyond it. p99.99 needs
/// 10,000, and of fewer it would be the maximum under another name.
pub fn is_told(samples: u64, of_10_000: u64) -> bool {
    u128::from(samples) * u128::from(10_000 - of_10_000) >= 10_000
}

/// The mean as HdrHistogram's ports compute it, from the middle of each bucket, and the standard deviation.
pub fn mean_and_deviation(histogram: &Histogram<u64>) -> (f64, f64) {
    if histogram.is_empty() {
        return (0.0, 0.0);
    }
    let buckets = || {
        histogram.iter_recorded().map(|step| {
            (histogram.median_equivalent(step.value_iterated_to()) as f64, step.count_at_value() as f64)
        })
    };
    let total = histogram.len() as f64;
    let mean = buckets().map(|(value, count)| value * count).sum::<f64>() / total;
    let squares: f64 = buckets().map(|(value, count)| (value - mean) * (value - mean) * count).sum();
    (mean, (squares / total).sqrt())
}

/// One line of a percentile table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// The highest value in the bucket that reaches it.
    pub value: u64,
    /// 0 to 100.
    pub percentile: f64,
    /// How many values are in this bucket and below.
    pub count: u64,
}

/// The levels at which HdrHistogram's ports look at a distribution: `ticks` between 0 % and 50 %, as many between 50 %
/// and 75 %, and so on, each half of the distance to 100 %; the last one is 100 %.
///
/// The crate's own iteration adds its steps up in fractions where the ports do so in percent, which rounds otherwise.
pub fn levels(histogram: &Histogram<u64>, ticks: u32) -> Vec<Level> {
    let total = histogram.len();
    let (mut levels, mut percentile, mut count) = (vec![], 0.0, 0);
    for step in histogram.iter_recorded() {
        let value = step.value_iterated_to();
        count = step.count_at_value().saturating_add(count);
        // counts beyond what a fraction can tell apart round to all of them before they are
        while percentile < 100.0 && 100.0 * count as f64 / total as f64 >= percentile {
            levels.push(Level { value, percentile, count });
            if count == total {
                levels.push(Level { value, percentile: 100.0, count });
                return levels;
            }
            let halvings = (100.0 / (100.0 - percentile)).log2().floor();
            percentile += 100.0 / (f64::from(ticks) * (halvings + 1.0).exp2());
        }
    }
    levels
}

/// Writes the percentile table: octet for octet what `outputPercentileDistribution(5, values_per_unit)` of
/// HdrHistogram's JavaScript port prints of the same data (Java's has the same form), which is what its plotters read.
///
/// `values_per_unit`: what the values are divided by, so 1,000 for nanoseconds told in microseconds.
pub fn hgrm(histogram: &Histogram<u64>, values_per_unit: f64, out: &mut dyn Write) -> io::Result<()> {
    let digits = usize::from(histogram.sigfig());
    let scaled = |value: f64| rounded(value / values_per_unit, digits);
    writeln!(out, "{:>12} {:>14} {:>10} {:>16}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    for Level { value, percentile, count } in levels(histogram, 5) {
        let share = percentile / 100.0;
        write!(out, "{:>12} {} {count:>10}", scaled(value as f64), rounded(share, 12))?;
        if percentile < 100.0 {
            write!(out, " {:>14}", rounded(1.0 / (1.0 - share), 2))?;
        }
        writeln!(out)?;
    }
    let (mean, deviation) = mean_and_deviation(histogram);
    let max = scaled(histogram.max() as f64);
    let (mean, deviation) = (scaled(mean), scaled(deviation));
    writeln!(out, "#[Mean    = {mean:>12}, StdDeviation   = {deviation:>12}]")?;
    writeln!(out, "#[Max     = {max:>12}, Total count    = {:>12}]", histogram.len())?;
    writeln!(
        out,
        "#[Buckets = {:>12}, SubBuckets     = {:>12}]",
        histogram.buckets(),
        sub_buckets(histogram.sigfig())
    )
}

/// How many sub-buckets a histogram of so many significant digits has: the power of two that tells single units apart
/// up to twice that many digits.
fn sub_buckets(digits: u8) -> u32 {
    (2 * 10_u32.pow(digits.into())).next_power_of_two()
}

/// The number with so many digits behind the point, halves away from zero, looked at as the shortest decimal that means
/// it: as JavaScript's `Intl.NumberFormat` rounds. (Rust rounds the number's exact binary value: 1.0005 is a little less
/// than that, and would become 1.000.)
fn rounded(value: f64, digits: usize) -> String {
    let text = value.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if fraction.len() <= digits {
        return format!("{whole}.{fraction:0<digits$}");
    }
    let mut kept: Vec<u8> = [whole.as_bytes(), &fraction.as_bytes()[..digits]].concat();
    if fraction.as_bytes()[digits] >= b'5' {
        increment(&mut kept);
    }
    kept.insert(kept.len() - digits, b'.');
    String::from_utf8(kept).expect("digits and a point")
}

/// Adds one to a number of decimal digits.
fn increment(number: &mut Vec<u8>) {
    for digit in number.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    number.insert(0, b'1');
}

/// Writes a small table for people: one line a distribution, its count, percentiles and maximum, each in the unit that
/// fits. `-` is a percentile of which so few values say nothing (see [`is_told`]).
pub fn table(rows: &[(&str, &Histogram<u64>)], unit: Unit, out: &mut dyn Write) -> io::Result<()> {
    let names = PERCENTILES.iter().map(|(name, _)| (*name).to_owned());
    let head = ["".to_owned(), "count".to_owned()].into_iter().chain(names).chain(["max".to_owned()]);
    let mut lines = vec![head.collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|(name, histogram)| table_line(name, histogram, unit)));
    columns(&lines, out)
}

fn table_line(name: &str, histogram: &Histogram<u64>, unit: Unit) -> Vec<String> {
    let samples = histogram.len();
    let percentiles = PERCENTILES.iter().map(|(_, part)| match is_told(samples, *part) {
        true => time(value_at(histogram, *part) as f64, unit),
        false => "-".to_owned(),
    });
    let max = if samples == 0 { "-".to_owned() } else { time(histogram.max() as f64, unit) };
    [name.to_owned(), grouped(samples)].into_iter().chain(percentiles).chain([max]).collect()
}

/// Writes lines of cells in columns two blanks apart: the first to the left, the others to the right.
pub fn columns(lines: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for line in lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            match column {
                0 => text += &format!("{cell:<width$}"),
                _ => text += &format!("  {cell:>width$}"),
            }
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// A time with three significant digits, in the unit that fits: `812ns`, `1.02ms`, `100ms`, `61.2s`, `3600s`.
pub fn time(value: f64, unit: Unit) -> String {
    let nanoseconds = value * 1e6 / unit.per_millisecond();
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let first = match unit {
        Unit::Nanoseconds => 0,
        Unit::Microseconds => 1,
    };
    // 999.6 us are 1.00 ms
    let fits = units[first..].iter().find(|(_, size)| nanoseconds / size < 999.5);
    let (name, size) = fits.unwrap_or(&units[3]);
    let number = nanoseconds / size;
    let whole = number == number.trunc() && *size <= units[first].1;
    let digits = match number {
        _ if whole => 0,
        number if number < 9.995 => 2,
        number if number < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{name}")
}

/// A count with commas: `1,234,567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

    fn text(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = vec![];
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_percentile_table_is_hdrhistograms() {
        // printed by hdr-histogram-js 3.0.1: outputPercentileDistribution(5, 1000) of 1..=10, 5000 and 123456
        let histogram = of((1..=10).chain([5_000, 123_456]));
        let expected = include_str!("report_example.hgrm");
        assert_eq!(text(|out| hgrm(&histogram, 1000.0, out)), expected);
    }

    #[test]
    fn the_percentile_table_of_nothing_has_no_rows() {
        let expected = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n\
            #[Mean    =        0.000, StdDeviation   =        0.000]\n\
            #[Max     =        0.000, Total count    =            0]\n\
            #[Buckets =            1, SubBuckets     =         2048]\n";
        assert_eq!(text(|out| hgrm(&of([]), 1.0, out)), expected);
    }

    #[test]
    fn numbers_are_rounded_as_javascript_does() {
        let table = [
            (0.0, 3, "0.000"),
            (1.0005, 3, "1.001"),
            (1.0004999, 3, "1.000"),
            (2.675, 2, "2.68"),
            (0.1, 12, "0.100000000000"),
            (999.9996, 3, "1000.000"),
            (9.995, 2, "10.00"),
            (1.25, 2, "1.25"),
            (5e-7, 6, "0.000001"),
            (123456789.0, 3, "123456789.000"),
        ];
        for (value, digits, expected) in table {
            assert_eq!(rounded(value, digits), expected, "{value}");
        }
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let table = [
            (0.0, "0us"),
            (7.0, "7us"),
            (999.0, "999us"),
            (1_000.0, "1.00ms"),
            (1_023.0, "1.02ms"),
            (9_999.0, "10.0ms"),
            (99_960.0, "100ms"),
            (999_499.0, "999ms"),
            (999_500.0, "1.00s"),
            (61_200_000.0, "61.2s"),
            (3_600_000_000.0, "3600s"),
        ];
        for (value, expected) in table {
            assert_eq!(time(value, Unit::Microseconds), expected, "{value}");
        }
        for (value, expected) in
            [(812.0, "812ns"), (1_234.0, "1.23us"), (999_600.0, "1.00ms"), (2e9, "2.00s")]
        {
            assert_eq!(time(value, Unit::Nanoseconds), expected, "{value}");
        }
    }

    #[test]
    fn a_percentile_is_told_only_of_enough_values() {
        let table = [
            (1, 5_000, false),
            (2, 5_000, true),
            (99, 9_900, false),
            (100, 9_900, true),
            (9_999, 9_999, false),
            (10_000, 9_999, true),
        ];
        for (samples, part, expected) in table {
            assert_eq!(is_told(samples, part), expected, "{samples} {part}");
        }
    }

    #[test]
    fn the_table_for_people_marks_what_so_few_values_cannot_say() {
        let (many, few) = (of(1..=20_000), of([150, 250]));
        let got = text(|out| table(&[("worker-1", &many), ("w", &few)], Unit::Microseconds, out));
        let expected = "           count     p50     p75     p90     p99   p99.9  p99.99     max\n\
                        worker-1  20,000  10.0ms  15.0ms  18.0ms  19.8ms  20.0ms  20.0ms  20.0ms\n\
                        w              2   150us       -       -       -       -       -   250us\n";
        assert_eq!(got, expected);
        assert!(text(|out| table(&[("", &of([]))], Unit::Nanoseconds, out)).trim_end().ends_with('-'));
    }

    #[test]
    fn counts_have_commas() {
        for (count, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), expected);
        }
    }

    proptest! {
        #[test]
        fn a_percentile_is_the_value_at_its_rank(values in prop::collection::vec(0_u64..2_000, 1..300), part in 1_u64..=10_000) {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            // below 2048 every value has a bucket of its own
            let rank = (values.len() as u64 * part).div_ceil(10_000).max(1) as usize;
            prop_assert_eq!(value_at(&of(values), part), sorted[rank - 1]);
        }

        #[test]
        fn levels_rise_to_the_last_value(values in prop::collection::vec(0_u64..10_000_000, 1..300), ticks in 1_u32..10) {
            let histogram = of(values);
            let levels = levels(&histogram, ticks);
            let last = levels.last().unwrap();
            prop_assert_eq!((last.value, last.percentile, last.count), (histogram.max(), 100.0, histogram.len()));
            for pair in levels.windows(2) {
                prop_assert!(pair[0].percentile < pair[1].percentile);
                prop_assert!(pair[0].value <= pair[1].value && pair[0].count <= pair[1].count);
            }
            for level in &levels {
                // the level is reached in this bucket, and not before it
                let share = 100.0 * level.count as f64 / histogram.len() as f64;
                prop_assert!(share >= level.percentile);
                let before = level.count - histogram.count_at(level.value);
                prop_assert!(level.percentile == 0.0 || level.percentile == 100.0 || (100.0 * before as f64 / histogram.len() as f64) < level.percentile);
            }
        }

        #[test]
        fn rounding_changes_less_than_a_digit(value in 0.0_f64..1e9, digits in 1_usize..6) {
            let text = rounded(value, digits);
            let error = (text.parse::<f64>().unwrap() - value).abs();
            // and what the numbers themselves are apart
            let most = 0.5 * 10_f64.powi(-(digits as i32)) + 2.0 * f64::EPSILON * value;
            prop_assert!(error <= most, "{} {}", text, value);
            prop_assert_eq!(text.split_once('.').unwrap().1.len(), digits);
        }
    }
}
