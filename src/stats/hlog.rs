//! The interval log of HdrHistogram (V2): a line for each stretch of time, with the whole distribution of that stretch,
//! from which its tools compute any percentile over any time afterwards.
//!
//! Neighbours: `report` is the same for the whole time; the load generator writes a tag a thread, the master a tag a
//! worker.

use super::report::Unit;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::Tag;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A log that is being written. What is on disk is whole lines at any time, whoever is killed.
///
/// The form is that of Java's `HistogramLogWriter`, version 1.3. (The crate's own writer borrows what it writes to, and
/// marks the unit of the maximum with a line that no other port knows.)
pub struct IntervalLog<W: Write> {
    out: W,
    unit: Unit,
    serializer: V2DeflateSerializer,
    octets: Vec<u8>,
    line: String,
}

impl<W: Write> IntervalLog<W> {
    /// Begins a log: its version, its start, from which all its times count, and the names of its columns.
    pub fn new(mut out: W, started: SystemTime, unit: Unit) -> io::Result<Self> {
        let seconds = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let date = humantime::format_rfc3339_millis(started);
        let head = format!(
            "#[Histogram log format version 1.3]\n\
             #[StartTime: {seconds:.3} (seconds since epoch), {date}]\n\
             #[BaseTime: {seconds:.3} (seconds since epoch)]\n\
             \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
        );
        out.write_all(head.as_bytes())?;
        out.flush()?;
        Ok(IntervalLog {
            out,
            unit,
            serializer: V2DeflateSerializer::new(),
            octets: vec![],
            line: String::new(),
        })
    }

    /// Adds a stretch of time. The maximum in the line is in milliseconds, as in other ports' logs.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the tag has a comma, a blank or an end of line.
    pub fn write(
        &mut self,
        tag: &str,
        begin: Duration,
        length: Duration,
        histogram: &Histogram<u64>,
    ) -> io::Result<()> {
        if Tag::new(tag).is_none() {
            let text =
                format!("{tag:?} cannot be the tag of an interval: no commas, blanks or ends of lines");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (begin, length) = (begin.as_secs_f64(), length.as_secs_f64());
        let max = histogram.max() as f64 / self.unit.per_millisecond();
        self.line = format!("Tag={tag},{begin:.3},{length:.3},{max:.3},");
        compress(histogram, &mut self.serializer, &mut self.octets)?;
        STANDARD.encode_string(&self.octets, &mut self.line);
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes())?;
        self.out.flush()
    }
}

/// The whole distribution as text: V2, compressed, base64, as in a log's last column.
pub fn encode(histogram: &Histogram<u64>) -> io::Result<String> {
    let mut octets = vec![];
    compress(histogram, &mut V2DeflateSerializer::new(), &mut octets)?;
    Ok(STANDARD.encode(octets))
}

/// What [`encode`] wrote.
///
/// # Errors
///
/// What is wrong with the text, in words that follow a name of it.
pub fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let octets = STANDARD.decode(text).map_err(|error| format!("is not base64: {error}"))?;
    let histogram = Deserializer::new().deserialize(&mut octets.as_slice());
    let mut histogram = histogram.map_err(|error| format!("is not a V2 histogram: {error}"))?;
    // what was written may be added to
    histogram.auto(true);
    Ok(histogram)
}

fn compress(
    histogram: &Histogram<u64>,
    serializer: &mut V2DeflateSerializer,
    octets: &mut Vec<u8>,
) -> io::Result<()> {
    octets.clear();
    serializer.serialize(histogram, octets).map(drop).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    const STARTED: Duration = Duration::from_millis(1_700_000_000_250);

    #[test]
    fn a_log_has_a_head_and_a_line_for_each_stretch() {
        let mut out = vec![];
        let mut log = IntervalLog::new(&mut out, UNIX_EPOCH + STARTED, Unit::Microseconds).unwrap();
        log.write("thread-0", Duration::ZERO, Duration::from_secs(1), &of(&[1_500])).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "#[Histogram log format version 1.3]");
        assert_eq!(lines[1], "#[StartTime: 1700000000.250 (seconds since epoch), 2023-11-14T22:13:20.250Z]");
        assert_eq!(lines[2], "#[BaseTime: 1700000000.250 (seconds since epoch)]");
        assert!(lines[4].starts_with("Tag=thread-0,0.000,1.000,1.500,"), "{}", lines[4]);
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn the_maximum_is_in_milliseconds_whatever_the_values_are() {
        let mut out = vec![];
        let mut log = IntervalLog::new(&mut out, UNIX_EPOCH, Unit::Nanoseconds).unwrap();
        log.write("worker-1", Duration::from_secs(2), Duration::from_millis(500), &of(&[2_000])).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("\nTag=worker-1,2.000,0.500,0.002,"));
    }

    #[test]
    fn a_tag_that_would_break_the_line_is_refused() {
        let mut out = vec![];
        let mut log = IntervalLog::new(&mut out, UNIX_EPOCH, Unit::Nanoseconds).unwrap();
        for tag in ["a,b", "a b", "a\n"] {
            let error = log.write(tag, Duration::ZERO, Duration::ZERO, &of(&[])).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 4);
    }

    #[test]
    fn what_is_no_histogram_is_said_in_words() {
        for (text, expected) in
            [("%", "is not base64"), ("AAAA", "is not a V2 histogram"), ("", "is not a V2")]
        {
            let error = decode(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_is_written_is_read_back(
            stretches in prop::collection::vec(prop::collection::vec(0_u64..4_000_000_000, 0..40), 0..8)
        ) {
            let mut out = vec![];
            let mut log = IntervalLog::new(&mut out, UNIX_EPOCH + STARTED, Unit::Microseconds).unwrap();
            for (second, values) in (0..).zip(&stretches) {
                log.write("t", Duration::from_secs(second), Duration::from_secs(1), &of(values)).unwrap();
            }
            let read: Vec<_> = IntervalLogIterator::new(&out)
                .filter_map(|entry| match entry.unwrap() {
                    LogEntry::Interval(interval) => Some(interval),
                    LogEntry::StartTime(time) | LogEntry::BaseTime(time) => {
                        assert_eq!(time, STARTED);
                        None
                    }
                })
                .collect();
            prop_assert_eq!(read.len(), stretches.len());
            for (second, (interval, values)) in (0..).zip(read.iter().zip(&stretches)) {
                prop_assert_eq!(interval.start_timestamp(), Duration::from_secs(second));
                prop_assert_eq!(interval.tag().unwrap().as_str(), "t");
                prop_assert_eq!(decode(interval.encoded_histogram()).unwrap(), of(values));
            }
        }
    }
}
