//! Where log lines go: stderr, which must make no loop wait. A pipe, a socket or a terminal whose reader has stopped would
//! block whoever writes to it; such a line is left out and counted, and the next one that is taken says how many there were.
//!
//! `O_NONBLOCK` is no way: it would be set for everybody who has this stderr. So it is asked first whether there is room
//! (poll(2)), and no more is written than has room then: `PIPE_BUF` octets (pipe(7)). Threads of a process take turns.
//! One race remains: two processes that share a pipe may both be told of its last free slot, and the later one then waits
//! for the reader; the same goes for a terminal that has room for less than a line.
//!
//! Neighbours: `mod` gives it to what renders lines.

use crate::config::LogFormat;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::write;
use std::fmt::Write as _;
use std::io::{self, Stderr, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// See the module's comment.
pub struct Output<F = Stderr> {
    file: F,
    /// Not a regular file, whose writes end by themselves.
    may_block: bool,
    format: LogFormat,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    left_out: u64,
    /// The last write ended in the middle of a line.
    torn: bool,
}

impl<F: AsFd> Output<F> {
    /// Lines go to this file.
    pub fn new(file: F, format: LogFormat) -> Output<F> {
        let kind = fstat(&file).map(|status| SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT);
        Output { file, may_block: kind != Ok(SFlag::S_IFREG), format, state: Mutex::default() }
    }

    /// Says how many lines were left out, if any were and somebody reads again.
    pub fn tell(&self) {
        if self.may_block {
            self.write_what_has_room(&[]);
        }
    }

    fn write_what_has_room(&self, line: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut octets = Vec::new();
        if state.torn && (state.left_out > 0 || !line.is_empty()) {
            octets.push(b'\n');
        }
        if state.left_out > 0 {
            octets.extend_from_slice(render(self.format, state.left_out).as_bytes());
        }
        octets.extend_from_slice(line);
        let mut rest = &octets[..];
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(libc::PIPE_BUF)];
            let taken = if self.has_room() { write(&self.file, piece).unwrap_or(0) } else { 0 };
            if taken == 0 {
                state.left_out += u64::from(!line.is_empty());
                break;
            }
            // what was left out is told of in the first piece
            state.left_out = 0;
            state.torn = piece[taken - 1] != b'\n';
            rest = &rest[taken..];
        }
    }

    /// Also where there will never be any again: a write says so at once.
    fn has_room(&self) -> bool {
        let mut asked = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        poll(&mut asked, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

/// Gets whole lines, one at a time.
impl<F: AsFd> Write for &Output<F> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.may_block {
            return Ok(write(&self.file, line)?);
        }
        self.write_what_has_room(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line as the others are, written by hand: what renders those is waiting for this one.
fn render(format: LogFormat, left_out: u64) -> String {
    let mut time = String::new();
    // the time of day cannot fail to be written to a string
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let message = format!("{left_out} lines of the log were left out: nobody read them");
    let mut line = String::new();
    let _ = match format {
        LogFormat::Text => writeln!(line, "{time}  WARN {message} lost={left_out}"),
        LogFormat::Json => writeln!(
            line,
            r#"{{"timestamp":"{time}","level":"WARN","message":"{message}","lost":{left_out}}}"#
        ),
    };
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::wait_until_gone;
    use nix::fcntl::{FcntlArg, fcntl};
    use serde_json::Value;
    use std::io::{PipeReader, PipeWriter, Read};

    /// A pipe with room for one line: a page.
    fn narrow(format: LogFormat) -> (PipeReader, Output<PipeWriter>) {
        let (reader, writer) = io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        (reader, Output::new(writer, format))
    }

    fn say(output: &Output<PipeWriter>, line: &str) {
        let mut output = output;
        output.write_all(line.as_bytes()).unwrap();
    }

    fn heard(reader: &mut PipeReader) -> String {
        let mut octets = [0; 8192];
        let count = reader.read(&mut octets).unwrap();
        String::from_utf8(octets[..count].to_vec()).unwrap()
    }

    #[test]
    fn what_nobody_reads_is_counted_and_told_of_before_the_next_line() {
        let (mut reader, output) = narrow(LogFormat::Text);
        ["1\n", "2\n", "3\n"].iter().for_each(|line| say(&output, line));
        output.tell();
        assert_eq!(heard(&mut reader), "1\n");
        say(&output, "4\n");
        let both = heard(&mut reader);
        assert!(
            both.ends_with("Z  WARN 2 lines of the log were left out: nobody read them lost=2\n4\n"),
            "{both}"
        );
        say(&output, "5\n");
        output.tell();
        assert_eq!(heard(&mut reader), "5\n", "told once");
    }

    #[test]
    fn it_is_told_without_a_line_and_as_json_too() {
        let (mut reader, output) = narrow(LogFormat::Json);
        ["1\n", "2\n"].iter().for_each(|line| say(&output, line));
        heard(&mut reader);
        output.tell();
        let line: Value = serde_json::from_str(&heard(&mut reader)).unwrap();
        assert_eq!((&line["lost"], &line["level"]), (&1.into(), &"WARN".into()));
    }

    #[test]
    fn a_line_that_had_no_room_as_a_whole_is_ended() {
        let (mut reader, output) = narrow(LogFormat::Text);
        say(&output, &format!("{}\n", "x".repeat(5_000)));
        assert_eq!(heard(&mut reader), "x".repeat(libc::PIPE_BUF));
        say(&output, "2\n");
        let rest = heard(&mut reader);
        assert!(rest.starts_with('\n') && rest.ends_with("lost=1\n2\n"), "{rest}");
    }

    #[test]
    fn a_reader_that_is_gone_makes_nobody_wait() {
        let (reader, output) = narrow(LogFormat::Text);
        say(&output, "1\n");
        drop(reader);
        wait_until_gone(&output.file);
        say(&output, "2\n");
        assert_eq!(output.state.lock().unwrap().left_out, 1);
    }
}
