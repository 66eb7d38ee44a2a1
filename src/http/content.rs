//! The content of a request, as it comes in: counted by Content-Length or decoded from chunks; collected, passed on, or
//! thrown away (RFC 9112 sections 6 and 7).
//!
//! Neighbours: `exchange` feeds it what follows a head; `chunked` decodes; `pipe` passes on.

use super::chunked::{Chunked, Refusal};
use super::parse::Framing;
use super::pipe::Sender;
use super::response::Status;
use bytes::Bytes;
use std::io;

/// Memory taken ahead for a content whose length was announced: what is only announced costs nobody anything.
const RESERVED_OCTETS_MAX: u64 = 64 * 1024;

/// Content of so much is long.
const LONG_OCTETS: u64 = 64 * 1024;

/// Content on its way.
#[derive(Debug)]
pub(super) struct Content {
    /// Octets of it that have come, with their framing.
    came: u64,
    end: End,
    sink: Sink,
}

#[derive(Debug)]
enum End {
    /// So many octets are still to come.
    After(u64),
    /// The last chunk.
    Chunk(Chunked),
}

/// Where content goes.
#[derive(Debug)]
pub(super) enum Sink {
    Collect(Vec<u8>),
    /// To a handler, as it comes.
    Pass(Sender),
    Discard,
}

/// What was taken of a stretch of input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub octets: usize,
    /// The content ends here.
    pub whole: bool,
}

impl Sink {
    pub(super) fn collect(framing: Framing) -> Sink {
        let expected = match framing {
            Framing::Length(length) => length.min(RESERVED_OCTETS_MAX),
            Framing::None | Framing::Chunked => 0,
        };
        Sink::Collect(Vec::with_capacity(expected as usize))
    }
}

impl Content {
    /// Chunked content beyond `limit` octets will be refused; the other kind is judged by its announcement.
    pub(super) fn new(framing: Framing, sink: Sink, limit: u64) -> Content {
        let end = match framing {
            Framing::None => End::After(0),
            Framing::Length(length) => End::After(length),
            Framing::Chunked => End::Chunk(Chunked::with_room(limit)),
        };
        Content { came: 0, end, sink }
    }

    /// Takes what belongs to the content.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<Taken, Status> {
        let taken = self.take_all(input)?;
        self.came += taken.octets as u64;
        Ok(taken)
    }

    fn take_all(&mut self, input: &[u8]) -> Result<Taken, Status> {
        let sink = &mut self.sink;
        match &mut self.end {
            End::After(left) => {
                let octets = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                match sink {
                    Sink::Collect(collected) => collected.extend_from_slice(&input[..octets]),
                    Sink::Pass(sender) => sender.push(&input[..octets]),
                    Sink::Discard => {}
                }
                *left -= octets as u64;
                Ok(Taken { octets, whole: *left == 0 })
            }
            End::Chunk(chunked) => {
                let step = match sink {
                    Sink::Collect(collected) => chunked.decode(input, collected),
                    Sink::Pass(sender) => chunked.feed(input, |data| sender.push(data)),
                    Sink::Discard => chunked.skip(input),
                };
                match step {
                    Ok(step) => Ok(Taken { octets: step.consumed, whole: step.done }),
                    Err(Refusal::Malformed) => Err(Status::BAD_REQUEST),
                    Err(Refusal::TooLarge) => Err(Status::CONTENT_TOO_LARGE),
                }
            }
        }
    }

    /// Much has come already, or is known to be still to come.
    pub(super) fn is_long(&self) -> bool {
        self.came >= LONG_OCTETS || matches!(self.end, End::After(left) if left >= LONG_OCTETS)
    }

    /// What becomes of it.
    pub(super) fn sink(&self) -> &Sink {
        &self.sink
    }

    /// It will not be whole, for this reason.
    pub(super) fn fail(&mut self, why: io::ErrorKind) {
        if let Sink::Pass(sender) = &mut self.sink {
            sender.fail(why);
        }
    }

    /// From now on it is thrown away, up to so many octets. False if it is known to be longer.
    pub(super) fn discard(&mut self, limit: u64) -> bool {
        self.sink = Sink::Discard;
        match &mut self.end {
            End::After(left) => *left <= limit,
            End::Chunk(chunked) => {
                chunked.limit(limit);
                true
            }
        }
    }

    /// It is whole: what was collected.
    pub(super) fn finish(self) -> Bytes {
        match self.sink {
            // gives back what was reserved and not needed
            Sink::Collect(octets) => octets.into_boxed_slice().into(),
            Sink::Pass(sender) => {
                sender.finish();
                Bytes::new()
            }
            Sink::Discard => Bytes::new(),
        }
    }
}
