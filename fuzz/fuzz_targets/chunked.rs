//! Chunked content as any client may send it, whole, cut in two and octet by octet: the same content, the same end and
//! the same refusal; and what was decoded decodes to itself when it is encoded again.
//!
//! The first two octets of the input say where to cut and how large the chunks of the second encoding are.
//!
//! `cargo fuzz run chunked --sanitizer none`

#![no_main]

use libfuzzer_sys::fuzz_target;
use uringd::http::chunked::{Chunked, Refusal, Step};

/// Content, octets consumed, whether the end was found.
type Outcome = Result<(Vec<u8>, usize, bool), Refusal>;

/// Small enough to be exceeded.
const ROOM: u64 = 4096;

fuzz_target!(|input: &[u8]| {
    let Some((&[cut, chunk], message)) = input.split_first_chunk() else { return };
    let (first, second) = message.split_at(usize::from(cut).min(message.len()));
    let outcome = play([message]);
    assert_eq!(outcome, play([first, second]));
    assert_eq!(outcome, play(message.chunks(1)));
    if let Ok((content, consumed, done)) = outcome {
        assert!(consumed <= message.len() && content.len() as u64 <= ROOM);
        assert!(done || consumed == message.len());
        assert!(!done || message[..consumed].ends_with(b"\r\n"));
        assert_eq!(Chunked::with_room(ROOM).skip(message), Ok(Step { consumed, done }));
        let again = encode(&content, usize::from(chunk) + 1);
        assert_eq!(play([&again[..]]), Ok((content, again.len(), true)));
    }
});

fn play<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut chunked, mut content) = (Chunked::with_room(ROOM), vec![]);
    let (mut consumed, mut done) = (0, false);
    for piece in pieces {
        let step = chunked.decode(piece, &mut content)?;
        (consumed, done) = (consumed + step.consumed, step.done);
    }
    Ok((content, consumed, done))
}

fn encode(content: &[u8], chunk_octets: usize) -> Vec<u8> {
    let mut message = vec![];
    for chunk in content.chunks(chunk_octets) {
        message.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        message.extend_from_slice(chunk);
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"0\r\n\r\n");
    message
}
