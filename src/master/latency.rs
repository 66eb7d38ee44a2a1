//! `--latency-log` and `--latency-report`: what the workers have measured, every second and at the end. Merging is exact,
//! whatever died: a worker's numbers outlive it in its stats area, and the book remembers what the log does not have yet.
//!
//! Neighbours: `stats::book` has the numbers, `stats::{hlog, report}` the forms; `master::run` opens one of these before the
//! first worker is started and finishes it when the last one is gone.

use crate::config::{Config, LogFormat};
use crate::error::{Error, Result};
use crate::stats::hlog::IntervalLog;
use crate::stats::report::{self, Unit};
use crate::stats::{Book, Latency, Stats};
use crate::whole_file::WholeFile;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

/// How long a line of the log is.
const INTERVAL: Duration = Duration::from_secs(1);

/// See the module's comment.
pub struct LatencyFiles {
    book: Book,
    format: LogFormat,
    log: Option<Log>,
    report: Option<(PathBuf, WholeFile)>,
}

/// A thread of its own writes it: a disk that makes writers wait does not keep the master from its workers.
struct Log {
    writer: JoinHandle<()>,
    /// Dropped when the last worker is gone.
    more: Sender<()>,
}

impl LatencyFiles {
    /// Makes the files that are asked for, so that it is heard of now if they cannot be made. The signals must be blocked
    /// already: there is a second thread from here on.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(config: &Config, book: Book) -> Result<LatencyFiles> {
        let log = config.latency_log.as_deref().map(|path| Log::open(path, &book)).transpose()?;
        let report = config.latency_report.as_deref().map(open_report).transpose()?;
        Ok(LatencyFiles { book, format: config.log_format, log, report })
    }

    /// The last worker is gone: writes what is left and, where either file was asked for, the table that people read.
    pub fn finish(self) {
        if self.log.is_none() && self.report.is_none() {
            return;
        }
        if let Some(Log { writer, more }) = self.log {
            drop(more);
            let _ = writer.join();
        }
        if let Some((path, report)) = self.report
            && let Err(error) = write_report(report, &self.book)
        {
            tracing::error!("cannot write --latency-report {}: {error}", path.display());
        }
        if self.format == LogFormat::Json {
            return log_table(&self.book);
        }
        let mut text = b"\nlatency from a request's last byte to its answer, by worker slot\n\n".to_vec();
        if table(&self.book.by_slot(), &mut text).is_ok() {
            // in one piece; a stderr that nobody reads any more ends nobody
            let _ = io::stderr().write_all(&text);
        }
    }
}

impl Log {
    fn open(path: &Path, book: &Book) -> Result<Log> {
        let failed = |error| Error::io(format!("write --latency-log {}", path.display()), error);
        let started = (Instant::now(), SystemTime::now());
        let log = File::create(path)
            .and_then(|file| IntervalLog::new(file, started.1, Unit::Nanoseconds))
            .map_err(failed)?;
        book.keep_log();
        let (more, over) = mpsc::channel();
        let (book, path) = (book.clone(), path.to_owned());
        let write = move || {
            let mut log = Lines { log, book, started: started.0, written: Duration::ZERO };
            loop {
                let over = over.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout);
                if let Err(error) = log.write() {
                    log.book.stop_log();
                    let path = path.display();
                    return tracing::error!("--latency-log {path} ends here, it cannot be written: {error}");
                }
                if over {
                    return;
                }
            }
        };
        let writer = thread::Builder::new().name("latency-log".into()).spawn(write).map_err(failed)?;
        Ok(Log { writer, more })
    }
}

/// The log, and how far it goes.
struct Lines {
    log: IntervalLog<File>,
    book: Book,
    started: Instant,
    written: Duration,
}

impl Lines {
    /// A line for each worker that has answered anything since the last time.
    fn write(&mut self) -> io::Result<()> {
        let (begin, now) = (self.written, self.started.elapsed());
        self.written = now;
        for (id, latency) in self.book.take_unlogged() {
            self.log.write(&format!("worker-{id}"), begin, now - begin, latency.histogram())?;
        }
        Ok(())
    }
}

fn open_report(path: &Path) -> Result<(PathBuf, WholeFile)> {
    let file = WholeFile::create(path);
    let file =
        file.map_err(|error| Error::io(format!("write --latency-report {}", path.display()), error))?;
    Ok((path.to_owned(), file))
}

fn write_report(mut file: WholeFile, book: &Book) -> io::Result<()> {
    let mut text = Vec::new();
    report::hgrm(book.total().latency.histogram(), Unit::Nanoseconds.per_microsecond(), &mut text)?;
    file.write_all(&text)?;
    file.finish()
}

/// The same for machines: an event for each slot, and one for all.
fn log_table(book: &Book) {
    let line = |slot: &str, latency: &Latency| {
        let micros = |share| latency.quantile(share).as_nanos() as f64 / 1e3;
        tracing::info!(
            event = "latency",
            slot,
            count = latency.count(),
            p50_us = micros(0.5),
            p75_us = micros(0.75),
            p90_us = micros(0.9),
            p99_us = micros(0.99),
            p99_9_us = micros(0.999),
            p99_99_us = micros(0.9999),
            max_us = micros(1.0),
            "from a request's last byte to its answer"
        );
    };
    book.by_slot().iter().for_each(|(slot, stats)| line(&slot.to_string(), &stats.latency));
    line("all", &book.total().latency);
}

/// For people: a line for each slot, and one for all.
pub fn table(slots: &BTreeMap<usize, Stats>, out: &mut dyn Write) -> io::Result<()> {
    let (names, total): (Vec<String>, Stats) =
        (slots.keys().map(ToString::to_string).collect(), slots.values().sum());
    let rows = names.iter().zip(slots.values()).map(|(name, stats)| (&**name, stats.latency.histogram()));
    let rows: Vec<_> = rows.chain([("all", total.latency.histogram())]).collect();
    report::table(&rows, Unit::Nanoseconds, out)
}
