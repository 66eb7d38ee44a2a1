//! Octets on their way between a connection and the program, in pieces: a bounded queue with an end. Requests' content
//! comes to a handler through one, and answers that are made bit by bit leave through one. Who is faster waits for the
//! other: that is the back-pressure.
//!
//! Neighbours: `content` writes into one, `response` carries one; `worker` reads and writes without waiting, by wakers.

use bytes::Bytes;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::{fmt, io, mem};

/// What a pipe holds before its writer waits, in octets. One piece may exceed it.
pub(crate) const PIPE_OCTETS: usize = 64 * 1024;

/// What a piece counts for beside its octets: many short ones take more memory than what is in them.
const PIECE_COST: usize = 64;

/// The end that writes. For a program: the content of an answer that it makes bit by bit, on any thread
/// ([`Response::channel`](super::Response::channel), [`Reply::stream`](crate::Reply::stream)).
///
/// A content is whole only after [`Sender::finish`]. A sender that is dropped before (because its thread panicked, or an
/// error ended it) cuts the connection in the middle of the answer, so that no client takes half of it for all of it. (One
/// that speaks HTTP/1.0 cannot tell: there the close is the end.)
#[must_use = "an answer whose sender is dropped is cut off"]
pub struct Sender(Arc<Pipe>);

/// The end that reads. For a program: the content of a request as it comes in ([`Request::pieces`](super::Request::pieces)),
/// on any thread. While nobody takes pieces, the client is not read from, but for 64 KiB.
pub struct Pieces(Arc<Pipe>);

/// The client is gone, or has had enough: what is sent to it goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
#[non_exhaustive]
pub struct Gone;

/// Says whether anybody reads what a sender sends.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Pipe>);

struct Pipe(Mutex<State>);

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    /// The last piece, which still grows.
    open: Vec<u8>,
    /// Octets in both, with what pieces cost.
    held: usize,
    end: Option<End>,
    reader_gone: bool,
    /// The content may end wherever it is, and is to.
    ends_when_asked: bool,
    asked_to_end: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Who runs the writer, and stops when the reader is gone.
    watcher: Option<Waker>,
}

#[derive(Clone, Copy)]
enum End {
    Whole,
    Cut(io::ErrorKind),
}

/// Makes a pipe.
pub(crate) fn pipe() -> (Sender, Pieces) {
    let pipe = Arc::new(Pipe(Mutex::default()));
    (Sender(Arc::clone(&pipe)), Pieces(pipe))
}

impl Sender {
    /// Sends a piece: waits while the client has not taken what was sent before. An empty piece is nothing.
    ///
    /// # Errors
    /// [`Gone`] if nobody will ever read it.
    pub async fn send(&mut self, piece: impl Into<Bytes>) -> Result<(), Gone> {
        let mut piece = Some(piece.into());
        poll_fn(|context| self.poll_send(&mut piece, context)).await
    }

    /// The same for a thread that may wait. Not for a handler: it would stop the loop that empties the queue.
    ///
    /// # Errors
    /// [`Gone`] if nobody will ever read it.
    pub fn blocking_send(&mut self, piece: impl Into<Bytes>) -> Result<(), Gone> {
        block_on(self.send(piece))
    }

    /// Ends the content: it is whole.
    pub fn finish(self) {
        self.end_whole();
    }

    pub(super) fn end_whole(&self) {
        self.0.end(End::Whole);
    }

    /// Waits until the client is gone.
    pub async fn closed(&mut self) {
        poll_fn(|context| {
            let state = self.0.lock();
            if state.is_deaf() {
                return Poll::Ready(());
            }
            // whoever waits for this does not wait for room
            wait(state, |state| &mut state.writer, context.waker());
            Poll::Pending
        })
        .await;
    }

    /// The client is gone.
    pub fn is_closed(&self) -> bool {
        self.0.lock().is_deaf()
    }

    fn poll_send(&mut self, piece: &mut Option<Bytes>, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let mut state = self.0.lock();
        if state.is_deaf() {
            return Poll::Ready(Err(Gone));
        }
        if state.held >= PIPE_OCTETS {
            wait(state, |state| &mut state.writer, context.waker());
            return Poll::Pending;
        }
        let piece = piece.take().unwrap_or_default();
        if !piece.is_empty() {
            state.put(piece);
            wake(state, |state| &mut state.reader);
        }
        Poll::Ready(Ok(()))
    }

    /// Lets the content be ended by the other side between two pieces.
    pub(super) fn end_when_asked(&mut self) {
        self.0.lock().ends_when_asked = true;
    }

    /// Appends octets, room or not: they have been received already.
    pub(super) fn push(&mut self, octets: &[u8]) {
        let mut state = self.0.lock();
        if octets.is_empty() || state.reader_gone {
            return;
        }
        state.held += octets.len();
        state.open.extend_from_slice(octets);
        wake(state, |state| &mut state.reader);
    }

    /// The content will not be whole, for this reason.
    pub(super) fn fail(&mut self, why: io::ErrorKind) {
        self.0.end(End::Cut(why));
    }

    /// More is wanted. If not, and `waker` is given, it is woken when that changes.
    pub(super) fn has_room(&self, waker: Option<&dyn Fn() -> Waker>) -> bool {
        let state = self.0.lock();
        let room = !state.reader_gone && state.held < PIPE_OCTETS;
        if let (false, Some(waker)) = (room, waker) {
            wait(state, |state| &mut state.writer, &waker());
        }
        room
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.end(End::Cut(io::ErrorKind::UnexpectedEof));
    }
}

impl Pieces {
    /// The next piece; `None` when the content has been whole.
    ///
    /// # Errors
    /// The content will never be whole: `UnexpectedEof` (the client is gone, or has been answered), `TimedOut` (it is slower
    /// than `--body-rate`), `InvalidData` (its framing is broken). Said once; then `None` follows. In all of these cases
    /// the client is answered already or cannot be, so a future of [`Reply::later`](crate::Reply::later) is dropped where
    /// it waits instead of being told: what must be undone then belongs into a [`Drop`].
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same for a thread that may wait. Not for a handler: it would stop the loop that fills the queue.
    ///
    /// # Errors
    /// Those of [`Pieces::next`].
    pub fn blocking_next(&mut self) -> Option<io::Result<Bytes>> {
        block_on(self.next())
    }

    /// The same for a future of your own.
    ///
    /// # Errors
    /// Those of [`Pieces::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut state = self.0.lock();
        if let Some(piece) = state.take() {
            wake(state, |state| &mut state.writer);
            return Poll::Ready(Some(Ok(piece)));
        }
        if state.asked_to_end {
            state.end = Some(End::Whole);
        }
        match state.end {
            None => {
                wait(state, |state| &mut state.reader, context.waker());
                Poll::Pending
            }
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Cut(why)) => {
                state.end = Some(End::Whole);
                Poll::Ready(Some(Err(why.into())))
            }
        }
    }

    /// A content that is here already.
    pub(super) fn whole(content: Bytes) -> Pieces {
        let mut state = State { end: Some(End::Whole), ..State::default() };
        if !content.is_empty() {
            state.put(content);
        }
        Pieces(Arc::new(Pipe(Mutex::new(state))))
    }

    pub(super) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.0))
    }

    /// Ends the content here and now, if it is one that may end anywhere; says if it is.
    pub(crate) fn ask_to_end(&self) -> bool {
        let mut state = self.0.lock();
        if state.ends_when_asked && state.end.is_none() {
            state.asked_to_end = true;
            let wakers = [state.reader.take(), state.writer.take(), state.watcher.take()];
            drop(state);
            wakers.into_iter().flatten().for_each(Waker::wake);
            return true;
        }
        false
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.reader_gone = true;
        let unread = (mem::take(&mut state.queue), mem::take(&mut state.open));
        let wakers = [state.writer.take(), state.watcher.take()];
        drop(state);
        drop(unread);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Watch {
    /// Nobody reads any more. If somebody does, `waker` is woken when that changes.
    pub(crate) fn is_gone(&self, waker: &Waker) -> bool {
        let state = self.0.lock();
        let gone = state.is_deaf();
        if !gone {
            wait(state, |state| &mut state.watcher, waker);
        }
        gone
    }
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first end counts.
    fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(end);
            wake(state, |state| &mut state.reader);
        }
    }
}

impl State {
    fn is_deaf(&self) -> bool {
        self.reader_gone || self.asked_to_end
    }

    fn octets(&self) -> usize {
        self.held - self.queue.len() * PIECE_COST
    }

    fn put(&mut self, piece: Bytes) {
        self.held += piece.len() + PIECE_COST;
        self.queue.push_back(piece);
    }

    fn take(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.queue.pop_front() {
            self.held -= piece.len() + PIECE_COST;
            return Some(piece);
        }
        self.held -= self.open.len();
        (!self.open.is_empty()).then(|| mem::take(&mut self.open).into())
    }
}

/// Leaves a waker. The one that was there before is dropped without the lock: it may be the last that keeps the other
/// end of this very pipe.
fn wait(
    mut state: MutexGuard<'_, State>,
    whom: impl FnOnce(&mut State) -> &mut Option<Waker>,
    waker: &Waker,
) {
    let place = whom(&mut state);
    let before = match place {
        Some(same) if same.will_wake(waker) => None,
        _ => place.replace(waker.clone()),
    };
    drop(state);
    drop(before);
}

/// Wakes without the lock: whoever is woken may want it at once.
fn wake(mut state: MutexGuard<'_, State>, whom: impl FnOnce(&mut State) -> &mut Option<Waker>) {
    let waker = whom(&mut state).take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on a thread that has nothing else to do.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

impl From<Gone> for io::Error {
    fn from(gone: Gone) -> io::Error {
        io::Error::new(io::ErrorKind::BrokenPipe, gone)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({} octets on their way)", self.0.lock().octets())
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pieces({} octets are here)", self.0.lock().octets())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counter() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        (Arc::clone(&count), Waker::from(count))
    }

    fn polled<T>(future: impl Future<Output = T>, waker: &Waker) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(waker))
    }

    #[test]
    fn a_reader_waits_for_pieces_and_for_the_end() {
        let (count, waker) = counter();
        let (mut sender, mut pieces) = pipe();
        assert!(polled(pieces.next(), &waker).is_pending());
        assert_eq!(polled(sender.send("ab"), &waker), Poll::Ready(Ok(())));
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "woken by the piece");
        assert_eq!(pieces.blocking_next().unwrap().unwrap(), "ab");
        assert!(polled(pieces.next(), &waker).is_pending());
        sender.finish();
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "woken by the end");
        assert!(pieces.blocking_next().is_none());
    }

    #[test]
    fn a_sender_waits_for_room() {
        let (count, waker) = counter();
        let (mut sender, mut pieces) = pipe();
        sender.blocking_send(vec![0; PIPE_OCTETS]).unwrap();
        assert!(polled(sender.send("more"), &waker).is_pending());
        assert!(!sender.has_room(Some(&|| waker.clone())));
        assert_eq!(pieces.blocking_next().unwrap().unwrap().len(), PIPE_OCTETS);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(sender.has_room(None));
    }

    #[test]
    fn what_is_not_finished_is_cut() {
        for (why, end) in
            [(io::ErrorKind::UnexpectedEof, None), (io::ErrorKind::TimedOut, Some(io::ErrorKind::TimedOut))]
        {
            let (mut sender, mut pieces) = pipe();
            sender.push(b"a");
            sender.push(b"b");
            if let Some(end) = end {
                sender.fail(end);
            }
            drop(sender);
            assert_eq!(pieces.blocking_next().unwrap().unwrap(), "ab");
            assert_eq!(pieces.blocking_next().unwrap().unwrap_err().kind(), why);
            assert!(pieces.blocking_next().is_none());
        }
    }

    #[test]
    fn a_sender_hears_that_nobody_reads() {
        let (count, waker) = counter();
        let (mut sender, pieces) = pipe();
        let watch = pieces.watch();
        assert!(polled(sender.closed(), &waker).is_pending() && !sender.is_closed());
        drop(pieces);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(polled(sender.closed(), &waker).is_ready() && sender.is_closed() && watch.is_gone(&waker));
        assert_eq!(sender.blocking_send("x"), Err(Gone));
    }

    /// The sender may have been taken to a thread of its own.
    #[test]
    fn who_runs_the_sender_and_who_holds_it_both_hear_that_nobody_reads() {
        let ((runs, runner), (holds, holder)) = (counter(), counter());
        let (mut sender, pieces) = pipe();
        assert!(!pieces.watch().is_gone(&runner) && polled(sender.closed(), &holder).is_pending());
        drop(pieces);
        assert_eq!((runs.0.load(Ordering::Relaxed), holds.0.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn many_short_pieces_count_for_the_memory_that_they_take() {
        let (_, waker) = counter();
        let (mut sender, mut pieces) = pipe();
        let sent = (0..PIPE_OCTETS).take_while(|_| polled(sender.send("x"), &waker).is_ready()).count();
        assert_eq!(sent, PIPE_OCTETS.div_ceil(PIECE_COST + 1));
        assert_eq!(format!("{pieces:?}"), format!("Pieces({sent} octets are here)"));
        assert_eq!(pieces.blocking_next().unwrap().unwrap(), "x");
        assert!(polled(sender.send("x"), &waker).is_ready());
        while pieces.0.lock().take().is_some() {}
        assert_eq!(pieces.0.lock().held, 0);
    }

    /// What runs the other end may live only as long as its waker: it must not meet the lock that it is dropped under.
    #[test]
    fn a_waker_that_owns_the_other_end_is_dropped_without_the_lock() {
        struct Owner(#[expect(dead_code, reason = "owned to be dropped")] Mutex<Pieces>);
        impl Wake for Owner {
            fn wake(self: Arc<Self>) {}
        }
        let (mut sender, pieces) = pipe();
        let owner = Waker::from(Arc::new(Owner(Mutex::new(pieces))));
        assert!(polled(sender.closed(), &owner).is_pending());
        drop(owner);
        assert!(polled(sender.closed(), Waker::noop()).is_pending(), "until the waker was dropped");
        assert!(sender.is_closed());
    }

    #[test]
    fn only_a_content_that_may_end_anywhere_ends_when_asked() {
        let (mut sender, mut pieces) = pipe();
        pieces.ask_to_end();
        sender.blocking_send("a").unwrap();
        sender.end_when_asked();
        pieces.ask_to_end();
        assert_eq!(sender.blocking_send("b"), Err(Gone));
        assert_eq!(pieces.blocking_next().unwrap().unwrap(), "a", "what was sent before still comes");
        assert!(pieces.blocking_next().is_none(), "and then it is whole");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Two threads, any pieces: what goes in comes out.
        #[test]
        fn octets_keep_their_order(lengths in prop::collection::vec(0usize..40_000, 0..20)) {
            let (mut sender, mut pieces) = pipe();
            let content: Vec<Vec<u8>> = (0u8..).zip(&lengths).map(|(n, &len)| vec![n; len]).collect();
            let expected = content.concat();
            let writer = thread::spawn(move || {
                for piece in content {
                    sender.blocking_send(piece).unwrap();
                }
                sender.finish();
            });
            let mut read = vec![];
            while let Some(piece) = pieces.blocking_next() {
                read.extend_from_slice(&piece.unwrap());
            }
            writer.join().unwrap();
            prop_assert!(read == expected);
        }
    }
}
