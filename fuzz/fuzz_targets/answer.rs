//! Answers as any server may send them, read whole, cut in two and octet by octet: the same answers and the same end.
//!
//! The first two octets of the input say where to cut and whether the requests were HEAD.
//!
//! `cargo fuzz run answer --sanitizer none`

#![no_main]

use libfuzzer_sys::fuzz_target;
use uringd::load::reader::{Answer, End, Known, Malformed, Reader};

/// The answers in it, and how it ended.
type Outcome = (Vec<Answer>, Result<End, Malformed>);

fuzz_target!(|input: &[u8]| {
    let Some((&[cut, head_only], octets)) = input.split_first_chunk() else { return };
    let head_only = head_only & 1 == 1;
    let (first, second) = octets.split_at(usize::from(cut).min(octets.len()));
    let whole = play([octets], head_only);
    for outcome in [play([first, second], head_only), play(octets.chunks(1), head_only)] {
        assert_eq!(whole.0, outcome.0);
        // which of two faults is seen first may depend on what has come
        assert_eq!(whole.1.ok(), outcome.1.ok());
    }
    for answer in whole.0 {
        assert!((200..600).contains(&answer.status));
    }
});

fn play<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, head_only: bool) -> Outcome {
    let (mut reader, mut known, mut answers) = (Reader::new(head_only), Known::default(), vec![]);
    for mut piece in pieces {
        while !piece.is_empty() {
            match reader.read(&mut piece, &mut known) {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => assert!(piece.is_empty()),
                Err(why) => return (answers, Err(why)),
            }
        }
    }
    (answers, Ok(reader.end()))
}
