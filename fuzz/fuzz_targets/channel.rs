//! Any bytes a peer may write into a channel, whole and cut in two: the same frames or the same refusal, and every
//! frame is classified without a panic.
//!
//! `cargo fuzz run channel --sanitizer none`

#![no_main]

use libfuzzer_sys::fuzz_target;
use uringd::ipc::frame::Frames;
use uringd::ipc::node;

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    assert_eq!(play(&[bytes]), play(&[first, second]));
});

fn play(pieces: &[&[u8]]) -> Vec<String> {
    let (mut frames, mut seen) = (Frames::default(), Vec::new());
    for piece in pieces {
        frames.push(piece);
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => seen.push(format!("{:?}", node::classify(frame.value))),
                Ok(None) => break,
                Err(error) => {
                    seen.push(error.to_string());
                    return seen;
                }
            }
        }
    }
    seen
}
