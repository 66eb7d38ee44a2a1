//! Output that a socket does not take at once: the rest of a short send, parts of files, streams. Gives the loop one
//! message at a time, and the next only when the one before has gone, so that a client that does not read costs what
//! is on its way to it and nothing more.
//!
//! Neighbours: `event_loop::sending` performs what `Next` says; `connections` keeps one per connection that needs it.

use super::service;
use crate::access_log::Record;
use crate::http::{COPIED_BODY_OCTETS_MAX, FileRange, Pieces, Rest, Stream};
use crate::ring::{Message, Payload};
use crate::sys::file::{MappedPiece, PIECE_OCTETS};
use bytes::Bytes;
use std::collections::VecDeque;
use std::mem;
use std::task::{Context, Poll, Waker};

/// The end of a file's part is copied instead of sent from the mapping, after a look at the file: had it been truncated
/// while the rest was sent, the client must not get the whole length.
const COPIED_END_OCTETS: u64 = 4096;

/// What goes at a time, between others' turns.
const PIECE: usize = PIECE_OCTETS as usize;

/// See the module's comment.
#[derive(Default)]
pub struct Queue {
    /// What was cut short.
    unsent: Message,
    items: VecDeque<Item>,
    /// Octets that have gone since the last `Item::End`.
    counted: u64,
    /// Octets that were taken on since.
    unmarked: u64,
    /// A content was ended before its program did.
    ended_early: bool,
}

enum Item {
    Bytes(Bytes),
    File(FileRange),
    Stream(Streamed),
    /// All of an answer is before this. Octets are counted from one to the next.
    End(Option<Box<Record>>),
}

/// Content that is made piece by piece.
struct Streamed {
    source: Source,
    chunked: bool,
    /// A chunk has gone, without the CRLF that ends it: that leaves with what comes next.
    open: bool,
}

enum Source {
    Iterator(Stream),
    /// With what wakes the loop when there is more.
    Pipe(Pieces, Option<Waker>),
}

/// What a source has.
enum Piece {
    Here(Bytes),
    Pending,
    End,
    Broken(&'static str),
}

/// What is to be done for the queue to go on.
pub enum Next {
    /// Send this.
    Send(Message),
    /// Bring this into memory.
    Populate(MappedPiece),
    /// Wait: the program makes the next piece later, and then wakes.
    Pending,
    /// Tell the log: all of this answer has gone, which was so many octets.
    Answered(Box<Record>, u64),
    /// Close the connection: the content is not what its head promised.
    Break(&'static str),
    /// Nothing: it is empty.
    Done,
}

impl Queue {
    /// Takes on octets.
    pub fn push(&mut self, octets: Bytes) {
        self.unmarked += octets.len() as u64;
        if !octets.is_empty() {
            self.items.push_back(Item::Bytes(octets));
        }
    }

    /// Takes on content that was to leave behind what was taken on last, and what the log has of its answer.
    pub fn push_behind(&mut self, content: Option<Bytes>, record: Option<Box<Record>>) {
        content.into_iter().for_each(|content| self.push_rest(Rest::Bytes(content)));
        if let Some(record) = record {
            // it knows already what comes before it
            self.unmarked = 0;
            self.items.push_back(Item::End(Some(record)));
        }
    }

    /// What was taken on last ends an answer that the log is to be told of.
    pub fn push_end(&mut self, mut record: Box<Record>) {
        record.lead_by(mem::take(&mut self.unmarked));
        self.items.push_back(Item::End(Some(record)));
    }

    /// The same for what is put to the front next; even if the log need not be told, what follows is counted anew.
    pub fn push_end_front(&mut self, record: Option<Box<Record>>) {
        self.items.push_front(Item::End(record));
    }

    /// Nothing more of it is wanted but what the log is told: see [`Queue::into_cut`].
    pub fn abandon(&mut self) {
        self.unsent = Message::default();
        self.items.retain(|item| matches!(item, Item::End(_)));
    }

    /// So many octets of what was abandoned have gone all the same.
    pub fn count(&mut self, octets: usize) {
        self.counted += octets as u64;
    }

    /// The answers that did not go out whole, and how much of each did.
    pub fn into_cut(self) -> impl Iterator<Item = (Box<Record>, u64)> {
        let ends = self.items.into_iter().filter_map(|item| match item {
            Item::End(record) => Some(record),
            _ => None,
        });
        let octets = std::iter::once(self.counted).chain(std::iter::repeat(0));
        ends.zip(octets).filter_map(|(record, octets)| Some((record?, octets)))
    }

    /// Puts octets before all others.
    pub fn push_front(&mut self, octets: Bytes) {
        if !octets.is_empty() {
            self.items.push_front(Item::Bytes(octets));
        }
    }

    /// Takes on content of any kind.
    pub fn push_rest(&mut self, rest: Rest) {
        self.items.push_back(match rest {
            Rest::Bytes(octets) => Item::Bytes(octets),
            Rest::File(part) => Item::File(part),
            Rest::Stream { pieces, chunked } => {
                Item::Stream(Streamed { source: Source::Iterator(pieces), chunked, open: false })
            }
            Rest::Pipe { pieces, chunked } => {
                Item::Stream(Streamed { source: Source::Pipe(pieces, None), chunked, open: false })
            }
        });
    }

    /// Ends contents that may end anywhere.
    pub fn ask_to_end(&mut self) {
        for item in &self.items {
            if let Item::Stream(Streamed { source: Source::Pipe(pieces, _), .. }) = item {
                self.ended_early |= pieces.ask_to_end();
            }
        }
    }

    /// One of its contents was ended before its program did.
    pub fn has_ended_early(&self) -> bool {
        self.ended_early
    }

    /// So much of a message has gone. False if its file was truncated meanwhile: what went may have been zeros.
    pub fn sent(&mut self, mut message: Message, octets: usize) -> bool {
        message.advance(octets);
        self.count(octets);
        let intact = match &message.body {
            Payload::Mapped(piece) => piece.file().is_intact(),
            Payload::Empty | Payload::Bytes(_) => true,
        };
        self.unsent = message;
        intact
    }

    /// What comes next. Sets `panicked` if the program's stream did. `waker` makes what wakes the loop after `Pending`.
    pub fn next(&mut self, now_ms: u64, panicked: &mut bool, waker: &dyn Fn() -> Waker) -> Next {
        if !self.unsent.is_empty() {
            return Next::Send(mem::take(&mut self.unsent));
        }
        if let Some((record, octets)) = self.take_end() {
            return Next::Answered(record, octets);
        }
        let head = self.take_bytes();
        match self.items.pop_front() {
            None if head.is_empty() => Next::Done,
            None => Next::Send(Message::of(head)),
            Some(Item::Bytes(mut octets)) => {
                if octets.len() > PIECE {
                    self.items.push_front(Item::Bytes(octets.split_off(PIECE)));
                }
                Next::Send(Message { head, body: Payload::Bytes(octets) })
            }
            Some(Item::File(part)) => self.next_of_file(head, part, now_ms),
            Some(Item::Stream(streamed)) => self.next_of_stream(head, streamed, panicked, waker),
            Some(end @ Item::End(_)) => {
                self.items.push_front(end);
                Next::Send(Message::of(head))
            }
        }
    }

    /// What ends here and the log is to be told of.
    fn take_end(&mut self) -> Option<(Box<Record>, u64)> {
        while let Some(Item::End(record)) = self.items.front_mut() {
            let record = record.take();
            self.items.pop_front();
            let octets = mem::take(&mut self.counted);
            if let Some(record) = record {
                return Some((record, octets));
            }
        }
        None
    }

    fn take_bytes(&mut self) -> Bytes {
        match self.items.pop_front() {
            Some(Item::Bytes(octets)) if octets.len() <= PIECE => octets,
            Some(item) => {
                self.items.push_front(item);
                Bytes::new()
            }
            None => Bytes::new(),
        }
    }

    fn next_of_file(&mut self, head: Bytes, part: FileRange, now_ms: u64) -> Next {
        let FileRange { file, range } = part;
        let mapped_end = range.end - (range.end - range.start).min(COPIED_END_OCTETS);
        let is_end = mapped_end == range.start;
        let mut piece = file.piece(&(range.start..if is_end { range.end } else { mapped_end }));
        let next = range.start + u64::from(piece.len());
        if is_end && next < range.end && piece.is_warm(now_ms) {
            // the last octets lie in two pieces
            piece = file.piece(&(next..range.end));
        }
        if !piece.is_warm(now_ms) {
            self.items.push_front(Item::File(FileRange { file, range }));
            self.items.push_front(Item::Bytes(head));
            return Next::Populate(piece);
        }
        if !is_end {
            let range = range.start + u64::from(piece.len())..range.end;
            self.items.push_front(Item::File(FileRange { file, range }));
            return Next::Send(Message { head, body: Payload::Mapped(piece) });
        }
        match file.read(range.clone()) {
            Ok(octets) if octets.len() as u64 == range.end - range.start => {
                Next::Send(Message { head, body: Payload::Bytes(octets.into()) })
            }
            Ok(_) => Next::Break("a file was truncated while it was sent"),
            Err(_) => Next::Break("a file could not be read to its end"),
        }
    }

    fn next_of_stream(
        &mut self,
        head: Bytes,
        mut streamed: Streamed,
        panicked: &mut bool,
        waker: &dyn Fn() -> Waker,
    ) -> Next {
        let message = match streamed.source.next(panicked, waker) {
            Piece::Broken(why) => return Next::Break(why),
            Piece::End => {
                let head = streamed.last(head);
                return if head.is_empty() { Next::Done } else { Next::Send(Message::of(head)) };
            }
            Piece::Here(piece) => streamed.message(head, piece),
            // the client need not wait for what is here
            Piece::Pending => Message::of(streamed.close_chunk(head)),
        };
        self.items.push_front(Item::Stream(streamed));
        if message.is_empty() { Next::Pending } else { Next::Send(message) }
    }
}

/// Chunks are opened by a line with their length, and ended by a CRLF (RFC 9112 section 7.1). That of a short one leaves
/// with it: there are clients that take no chunk before all of it is here.
impl Streamed {
    fn message(&mut self, head: Bytes, piece: Bytes) -> Message {
        if !self.chunked {
            return Message { head, body: Payload::Bytes(piece) };
        }
        let line = format!("{:x}\r\n", piece.len());
        let end = if self.open { "\r\n" } else { "" };
        self.open = piece.len() > COPIED_BODY_OCTETS_MAX;
        if self.open {
            let head = [&head[..], end.as_bytes(), line.as_bytes()].concat().into();
            return Message { head, body: Payload::Bytes(piece) };
        }
        Message::of([&head[..], end.as_bytes(), line.as_bytes(), &piece, b"\r\n"].concat().into())
    }

    fn close_chunk(&mut self, head: Bytes) -> Bytes {
        match mem::take(&mut self.open) {
            true => [&head[..], b"\r\n"].concat().into(),
            false => head,
        }
    }

    fn last(&mut self, head: Bytes) -> Bytes {
        let head = self.close_chunk(head);
        if self.chunked { [&head[..], b"0\r\n\r\n"].concat().into() } else { head }
    }
}

impl Source {
    fn next(&mut self, panicked: &mut bool, waker: &dyn Fn() -> Waker) -> Piece {
        match self {
            Source::Iterator(pieces) => next_made(pieces, panicked),
            Source::Pipe(pieces, cached) => {
                let mut context = Context::from_waker(cached.get_or_insert_with(waker));
                match pieces.poll_next(&mut context) {
                    Poll::Pending => Piece::Pending,
                    Poll::Ready(None) => Piece::End,
                    Poll::Ready(Some(Ok(piece))) => Piece::Here(piece),
                    // whoever dropped the sender has said why, if there was more to say
                    Poll::Ready(Some(Err(_))) => Piece::Broken("its sender was dropped before the end"),
                }
            }
        }
    }
}

fn next_made(pieces: &mut Stream, panicked: &mut bool) -> Piece {
    loop {
        match service::guard(|| "a stream".to_owned(), || pieces.next()) {
            Some(Some(Ok(piece))) if piece.is_empty() => {}
            Some(Some(Ok(piece))) => return Piece::Here(piece),
            Some(Some(Err(error))) => {
                tracing::error!(%error, "a stream failed; its connection is closed in the middle of the answer");
                return Piece::Broken("a stream failed");
            }
            Some(None) => return Piece::End,
            None => {
                *panicked = true;
                return Piece::Broken("a stream panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Response;
    use crate::http::Sender;
    use crate::http::sse::{Event, Events};
    use crate::sys::file::MappedFile;
    use crate::worker::tasks::tests::Count;
    use std::io;
    use std::sync::Arc;

    fn asleep() -> Waker {
        Waker::noop().clone()
    }

    /// Everything a queue gives, as a socket sees it that takes at most so many octets at a time.
    fn drained(queue: &mut Queue, at_most: usize) -> Result<Vec<u8>, &'static str> {
        let mut out = vec![];
        loop {
            match queue.next(0, &mut false, &asleep) {
                Next::Send(message) => {
                    let took = message.len().min(at_most);
                    let whole = [&message.head[..], &content(&message.body)].concat();
                    out.extend_from_slice(&whole[..took]);
                    if !queue.sent(message, took) {
                        return Err("truncated");
                    }
                }
                Next::Populate(piece) => piece.mark_warm(0),
                Next::Break(why) => return Err(why),
                Next::Answered(..) => return Err("answered"),
                Next::Pending => return Err("pending"),
                Next::Done => return Ok(out),
            }
        }
    }

    fn content(body: &Payload) -> Vec<u8> {
        match body {
            Payload::Empty => vec![],
            Payload::Bytes(octets) => octets.to_vec(),
            Payload::Mapped(piece) => {
                let range = piece.start()..piece.start() + u64::from(piece.len());
                piece.file().read(range).unwrap()
            }
        }
    }

    fn stream(pieces: Vec<io::Result<Bytes>>, chunked: bool) -> Rest {
        Rest::Stream { pieces: Stream::new(pieces.into_iter()), chunked }
    }

    fn file(octets: &[u8]) -> (Arc<MappedFile>, std::fs::File) {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, octets).unwrap();
        (Arc::new(MappedFile::new(file.try_clone().unwrap().into()).unwrap()), file)
    }

    #[test]
    fn a_stream_becomes_chunks_or_ends_with_the_close() {
        let pieces = || ["ab", "", "c"].map(|piece| Ok(Bytes::from(piece))).into_iter().collect();
        for (chunked, expected) in [(true, "head2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"), (false, "headabc")] {
            for at_most in [1, 2, 100] {
                let mut queue = Queue::default();
                queue.push(Bytes::from("head"));
                queue.push_rest(stream(pieces(), chunked));
                assert_eq!(drained(&mut queue, at_most).unwrap(), expected.as_bytes());
            }
        }
        let mut empty = Queue::default();
        empty.push_rest(stream(vec![], true));
        assert_eq!(drained(&mut empty, 9).unwrap(), b"0\r\n\r\n");
    }

    #[test]
    fn long_content_goes_in_pieces_too() {
        let content: Vec<u8> = (0..2 * PIECE + 9).map(|n| (n % 251) as u8).collect();
        let mut queue = Queue::default();
        queue.push(Bytes::from("head"));
        queue.push_rest(Rest::Bytes(content.clone().into()));
        queue.push(Bytes::from("next"));
        let Next::Send(message) = queue.next(0, &mut false, &asleep) else { panic!("something to send") };
        assert_eq!((&message.head[..], message.body.len()), (&b"head"[..], PIECE));
        assert!(queue.sent(message, 4));
        assert!(drained(&mut queue, usize::MAX).unwrap() == [&content[..], b"next"].concat());
    }

    #[test]
    fn a_stream_that_fails_is_never_ended_as_if_it_were_whole() {
        let mut queue = Queue::default();
        queue.push_rest(stream(vec![Ok(Bytes::from("a")), Err(io::Error::other("no more"))], true));
        assert!(matches!(queue.next(0, &mut false, &asleep), Next::Send(_)));
        assert!(matches!(queue.next(0, &mut false, &asleep), Next::Break(_)));
        let mut panicked = false;
        let mut queue = Queue::default();
        let pieces = std::iter::from_fn(|| -> Option<io::Result<Bytes>> { panic!("on purpose") });
        queue.push_rest(Rest::Stream { pieces: Stream::new(pieces), chunked: true });
        assert!(matches!(queue.next(0, &mut panicked, &asleep), Next::Break(_)) && panicked);
    }

    /// What a queue sends until it waits or ends: the messages, and what then.
    fn sent(queue: &mut Queue, waker: &Waker) -> (Vec<Vec<u8>>, Next) {
        let mut messages = vec![];
        loop {
            match queue.next(0, &mut false, &|| waker.clone()) {
                Next::Send(message) => {
                    messages.push([&message.head[..], &content(&message.body)].concat());
                    let all = message.len();
                    assert!(queue.sent(message, all));
                }
                other => return (messages, other),
            }
        }
    }

    fn channel(chunked: bool) -> (Sender, Queue) {
        let (sender, response) = Response::channel();
        let mut queue = Queue::default();
        queue.push(Bytes::from("head"));
        queue.push_rest(Rest::Pipe { pieces: response.into_pieces(), chunked });
        (sender, queue)
    }

    #[test]
    fn what_is_made_bit_by_bit_leaves_bit_by_bit_each_chunk_with_its_end() {
        let (count, waker) = Count::waker();
        for (chunked, wire) in
            [(true, ["head", "1\r\na\r\n", "2\r\nbc\r\n", "0\r\n\r\n"]), (false, ["head", "a", "bc", ""])]
        {
            let (mut sender, mut queue) = channel(chunked);
            for (piece, wire) in ["", "a", "bc"].into_iter().zip(wire) {
                sender.blocking_send(piece).unwrap();
                let (messages, next) = sent(&mut queue, &waker);
                assert!(matches!(next, Next::Pending));
                assert_eq!(messages, [wire.as_bytes()]);
            }
            let before = count.get();
            sender.finish();
            assert_eq!(count.get(), before + 1, "the end wakes the loop");
            let (messages, next) = sent(&mut queue, &waker);
            assert!(matches!(next, Next::Done));
            assert_eq!(messages.concat(), wire[3].as_bytes());
        }
    }

    #[test]
    fn the_end_of_a_long_chunk_does_not_wait_for_the_next_one() {
        let (mut sender, mut queue) = channel(true);
        let piece = vec![7; COPIED_BODY_OCTETS_MAX + 1];
        sender.blocking_send(piece.clone()).unwrap();
        let (messages, next) = sent(&mut queue, Waker::noop());
        assert!(matches!(next, Next::Pending));
        assert!(messages.concat() == [b"head1001\r\n", &piece[..], b"\r\n"].concat());
        sender.blocking_send(piece.clone()).unwrap();
        sender.blocking_send("x").unwrap();
        sender.finish();
        let (messages, next) = sent(&mut queue, Waker::noop());
        assert!(matches!(next, Next::Done));
        assert!(messages.concat() == [b"1001\r\n", &piece[..], b"\r\n1\r\nx\r\n0\r\n\r\n"].concat());
    }

    #[test]
    fn what_its_sender_does_not_finish_is_cut_and_one_that_is_asked_to_end_is_whole() {
        let (mut sender, mut queue) = channel(true);
        sender.blocking_send("a").unwrap();
        queue.ask_to_end();
        drop(sender);
        let (messages, next) = sent(&mut queue, Waker::noop());
        assert!(matches!(next, Next::Break(_)) && messages == [b"head1\r\na\r\n"]);

        let (mut events, response) = Events::channel();
        events.blocking_send(Event::data("a")).unwrap();
        let mut queue = Queue::default();
        queue.push_rest(Rest::Pipe { pieces: response.into_pieces(), chunked: true });
        queue.ask_to_end();
        assert!(events.is_closed());
        assert_eq!(drained(&mut queue, 3).unwrap(), b"9\r\ndata: a\n\n\r\n0\r\n\r\n");
    }

    #[test]
    fn a_stream_that_panics_when_it_is_dropped_takes_nobody_with_it() {
        struct Bomb;
        impl Iterator for Bomb {
            type Item = io::Result<Bytes>;
            fn next(&mut self) -> Option<io::Result<Bytes>> {
                None
            }
        }
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let mut queue = Queue::default();
        queue.push_rest(Rest::Stream { pieces: Stream::new(Bomb), chunked: true });
        assert_eq!(drained(&mut queue, 9).unwrap(), b"0\r\n\r\n");
        queue.push_rest(Rest::Stream { pieces: Stream::new(Bomb), chunked: true });
        drop(queue);
    }

    #[test]
    fn a_part_of_a_file_goes_out_octet_for_octet() {
        let content: Vec<u8> = (0..3 * PIECE_OCTETS + 77).map(|n| (n % 251) as u8).collect();
        let (file, _handle) = file(&content);
        let len = content.len();
        for range in [0..len, 5..len, len - 1..len, 0..1, 100..4196, 100..4197, 262_143..262_145, 9..600_000]
        {
            let mut queue = Queue::default();
            let part = FileRange { file: Arc::clone(&file), range: range.start as u64..range.end as u64 };
            queue.push(Bytes::from("head"));
            queue.push_rest(Rest::File(part));
            queue.push(Bytes::from("next"));
            let out = drained(&mut queue, 100_000).unwrap();
            assert!(out == [b"head", &content[range.clone()], b"next"].concat(), "{range:?}");
        }
    }

    #[test]
    fn a_truncated_file_is_never_sent_whole() {
        for keep in [0, 100, 4096, PIECE_OCTETS, PIECE_OCTETS + 1, 2 * PIECE_OCTETS - 1] {
            for sent_before in [0, 1, 2] {
                let (file, handle) = file(&vec![7; 2 * PIECE_OCTETS as usize]);
                let mut queue = Queue::default();
                queue.push_rest(Rest::File(FileRange { range: 0..file.len(), file }));
                let mut ended = false;
                for step in 0.. {
                    if step == sent_before {
                        handle.set_len(keep).unwrap();
                    }
                    match queue.next(0, &mut false, &asleep) {
                        Next::Populate(piece) => piece.mark_warm(0),
                        Next::Send(message) => {
                            let all = message.len();
                            ended |= !queue.sent(message, all);
                        }
                        Next::Break(_) => ended = true,
                        Next::Answered(..) => panic!("nobody asked"),
                        Next::Pending | Next::Done => break,
                    }
                    if ended {
                        break;
                    }
                }
                assert!(ended, "truncated to {keep} after {sent_before} steps");
            }
        }
    }

    fn record() -> Box<Record> {
        let mut record = Box::<Record>::default();
        record.begin(200, 0);
        record
    }

    /// What of each answer the log hears, when a socket takes so many octets at a time, and so many messages at most.
    fn answered(mut queue: Queue, at_most: usize, messages: usize) -> Vec<u64> {
        let mut heard = vec![];
        let mut sends = 0;
        loop {
            match queue.next(0, &mut false, &asleep) {
                Next::Answered(record, octets) => heard.push(record.entry(octets).octets),
                Next::Send(_) if sends == messages => break,
                Next::Send(message) => {
                    sends += 1;
                    let octets = message.len().min(at_most);
                    assert!(queue.sent(message, octets));
                }
                Next::Populate(piece) => piece.mark_warm(0),
                Next::Done => return heard,
                Next::Pending | Next::Break(_) => break,
            }
        }
        queue.abandon();
        heard.extend(queue.into_cut().map(|(record, octets)| record.entry(octets).octets));
        heard
    }

    /// A short answer and the head of a long one; the long one's content; another such pair.
    fn two_answers(content: impl Fn() -> Rest) -> Queue {
        let mut queue = Queue::default();
        for _ in 0..2 {
            queue.push(Bytes::from("short, head"));
            queue.push_rest(content());
            queue.push_end(record());
        }
        queue
    }

    #[test]
    fn each_answer_is_told_of_when_all_of_it_has_gone() {
        let bytes = || Rest::Bytes(vec![7; 2 * PIECE + 5].into());
        let chunks = || stream(["ab", "c"].map(|piece| Ok(Bytes::from(piece))).into_iter().collect(), true);
        for at_most in [100_000, usize::MAX] {
            let octets = 2 * PIECE as u64 + 5;
            assert_eq!(answered(two_answers(bytes), at_most, usize::MAX), [octets, octets]);
        }
        for at_most in [1, 4, usize::MAX] {
            let octets = "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n".len() as u64;
            assert_eq!(answered(two_answers(chunks), at_most, usize::MAX), [octets, octets]);
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_told_of_as_far_as_it_went() {
        let bytes = || Rest::Bytes(vec![7; 1_000].into());
        for (at_most, messages, expected) in [
            (5, 0, [0, 0]),
            (5, 2, [0, 0]),
            (5, 3, [4, 0]),
            (600, 1, [589, 0]),
            (600, 2, [1_000, 0]),
            (600, 3, [1_000, 589]),
        ] {
            assert_eq!(answered(two_answers(bytes), at_most, messages), expected, "{at_most} {messages}");
        }
        // what was put to the front counts for itself, or for nobody
        for (sent_before, first) in [(Some(40), Some(940)), (None, None)] {
            let mut queue = two_answers(bytes);
            queue.push_end_front(sent_before.map(|octets| {
                let mut record = record();
                record.begin(200, 100);
                record.sent_before(octets);
                record
            }));
            queue.push_front(Bytes::from(vec![1; 1_000]));
            let whole: Vec<u64> = first.into_iter().chain([1_000, 1_000]).collect();
            assert_eq!(answered(queue, usize::MAX, usize::MAX), whole);
        }
        let mut queue = two_answers(bytes);
        queue.push_end_front(None);
        queue.push_front(Bytes::from(vec![1; 1_000]));
        assert_eq!(answered(queue, 700, 1), [0, 0], "none of it was theirs");
    }

    #[test]
    fn what_is_still_being_sent_when_a_client_goes_is_counted() {
        let mut queue = two_answers(|| Rest::Bytes(vec![7; 1_000].into()));
        let Next::Send(message) = queue.next(0, &mut false, &asleep) else { panic!("something to send") };
        queue.abandon();
        queue.count(message.len());
        assert_eq!(
            queue.into_cut().map(|(record, octets)| record.entry(octets).octets).collect::<Vec<_>>(),
            [1_000, 0]
        );
    }
}
