//! Where answers are written: one buffer a turn, in which each connection has one contiguous span, with the content
//! behind it that was too long to be copied. Two take turns, because a send that came up short is heard of after the
//! submit, when the next answers are already being written.
//!
//! Neighbours: filled by the worker through `http::exchange`; `Ring::turn` sends from it and swaps it.

use bytes::Bytes;
use std::num::NonZeroU32;

/// Octets of one turn's output that stay allocated; a larger turn's buffer is given back to the allocator.
const KEPT: usize = 1 << 20;

/// A stretch of one turn's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// First octet.
    pub start: u32,
    /// Octets.
    pub len: u32,
    /// What follows them: its place among the turn's, counted from one.
    behind: Option<NonZeroU32>,
}

/// This turn's output and the one before.
#[derive(Default)]
pub struct Outbox {
    current: Vec<u8>,
    previous: Vec<u8>,
    behind: Vec<Bytes>,
    behind_previous: Vec<Bytes>,
}

impl Span {
    /// There is nothing in it.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len == 0 && self.behind.is_none()
    }

    /// Content follows: nothing can be appended.
    #[inline]
    pub fn is_complete(self) -> bool {
        self.behind.is_some()
    }
}

impl Outbox {
    /// Where to append now. What a connection appends becomes its span with [`Outbox::span_since`].
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.current
    }

    /// Makes `span` end the buffer, so that more can be appended to it; copies it if something follows it. Gives its
    /// start, which is the end of the buffer for an empty one.
    #[inline]
    pub fn reopen(&mut self, span: Span) -> u32 {
        if span.len == 0 {
            return self.current.len() as u32;
        }
        let end = (span.start + span.len) as usize;
        if end == self.current.len() {
            return span.start;
        }
        let start = self.current.len() as u32;
        self.current.extend_from_within(span.start as usize..end);
        start
    }

    /// Everything from `start` to the end.
    #[inline]
    pub fn span_since(&self, start: u32) -> Span {
        Span { start, len: self.current.len() as u32 - start, behind: None }
    }

    /// Has this go out behind a span, from where it is.
    pub fn put_behind(&mut self, span: Span, content: Bytes) -> Span {
        assert!(!span.is_complete(), "one content behind a span");
        self.behind.push(content);
        Span { behind: NonZeroU32::new(self.behind.len() as u32), ..span }
    }

    /// Takes back what was appended from `start` on.
    pub fn take_back(&mut self, start: u32) {
        self.current.truncate(start as usize);
    }

    /// This turn's octets.
    pub fn current(&self, span: Span) -> &[u8] {
        &self.current[span.start as usize..][..span.len as usize]
    }

    /// What follows them.
    pub fn current_behind(&self, span: Span) -> Option<&Bytes> {
        span.behind.map(|place| &self.behind[place.get() as usize - 1])
    }

    /// The last turn's octets.
    pub fn previous(&self, span: Span) -> &[u8] {
        &self.previous[span.start as usize..][..span.len as usize]
    }

    /// What followed them.
    pub fn previous_behind(&self, span: Span) -> Option<&Bytes> {
        span.behind.map(|place| &self.behind_previous[place.get() as usize - 1])
    }

    /// How many octets go out with a span of this turn, with what follows them.
    #[inline]
    pub fn octets(&self, span: Span) -> u64 {
        u64::from(span.len) + self.current_behind(span).map_or(0, |content| content.len() as u64)
    }

    /// The same for a span of the last turn.
    pub fn previous_octets(&self, span: Span) -> u64 {
        u64::from(span.len) + self.previous_behind(span).map_or(0, |content| content.len() as u64)
    }

    /// Only `Ring::turn` calls this, once every completion of the sends out of `previous` has been handed over.
    pub(super) fn swap(&mut self) {
        std::mem::swap(&mut self.current, &mut self.previous);
        if self.current.capacity() > KEPT {
            self.current = Vec::new();
        }
        self.current.clear();
        std::mem::swap(&mut self.behind, &mut self.behind_previous);
        self.behind.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reopened_span_stays_contiguous() {
        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(b"aa");
        let a = outbox.span_since(0);
        outbox.buffer().extend_from_slice(b"bb");
        let b = outbox.span_since(2);
        let start = outbox.reopen(a);
        outbox.buffer().extend_from_slice(b"AA");
        assert_eq!(outbox.current(outbox.span_since(start)), b"aaAA");
        assert_eq!(outbox.current(b), b"bb");
        let start = outbox.reopen(outbox.span_since(start));
        assert_eq!((start, outbox.buffer().len()), (4, 8), "the last span is extended in place");
    }

    #[test]
    fn the_last_turn_stays_readable_for_one_turn() {
        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(b"one");
        let one = outbox.span_since(0);
        outbox.swap();
        outbox.buffer().extend_from_slice(b"two");
        assert_eq!(outbox.previous(one), b"one");
        assert_eq!(outbox.current(outbox.span_since(0)), b"two");
    }
}
