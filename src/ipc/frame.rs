//! JSON lines: bytes, split anywhere, into values; a value into a line. No I/O, no meaning.
//!
//! Neighbours: `channel` feeds it what it reads, `node` classifies what it gives.

use serde::Serialize;
use serde_json::Value;
use std::io;

/// The longest line that is read or written, in bytes without its newline.
pub const MAX_FRAME: usize = 8 << 20;

/// A buffer larger than this is given back once it is empty.
const BUFFER_KEPT: usize = 128 << 10;

/// How a peer can break the protocol. What follows in the stream means nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, displaydoc::Display, thiserror::Error)]
pub enum FrameError {
    /// a message is longer than 8 MiB
    TooLong,
    /// an empty line stands where a message should
    Empty,
    /// a line is not JSON: {0}
    NotJson(String),
    /// it sends handles without reading the answers to them
    NotListening,
}

/// One value, and where in the stream its line began (descriptors are matched by that).
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Bytes received before the first of this line.
    pub start: u64,
    /// The parsed line.
    pub value: Value,
}

/// Splits what is pushed into frames; keeps a partial last line until the rest of it comes.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were given out already.
    taken: usize,
    /// Bytes at the front of `buffer` that hold no newline beyond `taken`, so that no byte is searched twice.
    searched: usize,
    /// Where in the stream `buffer` begins.
    origin: u64,
}

impl Frames {
    /// Adds bytes as they came; take the frames out before the next push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.origin += self.taken as u64;
        self.searched -= self.taken;
        self.taken = 0;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(BUFFER_KEPT);
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, `None` until more bytes come.
    ///
    /// # Errors
    /// [`FrameError`] when the peer does not speak JSON lines; stop reading from it then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let newline = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n');
        let end = newline.map_or(self.buffer.len(), |distance| self.searched + distance);
        self.searched = end;
        if end - self.taken > MAX_FRAME {
            return Err(FrameError::TooLong);
        }
        if newline.is_none() {
            return Ok(None);
        }
        let start = self.partial_start();
        let line = self.taken..end;
        self.searched = end + 1;
        self.taken = end + 1;
        Ok(Some(Frame { start, value: parse(&mut self.buffer[line])? }))
    }

    /// Where in the stream the line begins that is not complete yet.
    pub fn partial_start(&self) -> u64 {
        self.origin + self.taken as u64
    }

    /// How many bytes were ever pushed.
    pub fn received(&self) -> u64 {
        self.origin + self.buffer.len() as u64
    }
}

/// One value as a line, newline included.
///
/// # Errors
/// `InvalidInput` for a line over [`MAX_FRAME`], `InvalidData` for what JSON cannot express.
pub fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    if line.len() > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, FrameError::TooLong));
    }
    line.push(b'\n');
    Ok(line)
}

fn parse(line: &mut [u8]) -> Result<Value, FrameError> {
    if line.trim_ascii().is_empty() {
        return Err(FrameError::Empty);
    }
    serde_json::from_slice(line)
        .or_else(|_| {
            replace_lone_surrogates(line);
            serde_json::from_slice(line)
        })
        .map_err(|problem| FrameError::NotJson(problem.to_string()))
}

/// Half a surrogate pair (`"😀".slice(0, 1)`) is a string to JavaScript and JSON.stringify escapes it faithfully. No
/// Rust string can hold it: it becomes U+FFFD, as in TextDecoder. A script that cuts text so has broken nothing.
fn replace_lone_surrogates(line: &mut [u8]) {
    let mut at = 0;
    while let Some(distance) = line[at..].iter().position(|&byte| byte == b'\\') {
        let escape = at + distance;
        at = match utf16_escape(&line[escape..]) {
            Some(0xD800..=0xDBFF) if matches!(utf16_escape(&line[escape + 6..]), Some(0xDC00..=0xDFFF)) => {
                escape + 12
            }
            Some(0xD800..=0xDFFF) => {
                line[escape + 2..escape + 6].copy_from_slice(b"FFFD");
                escape + 6
            }
            _ => line.len().min(escape + 2),
        };
    }
}

/// The code unit that `\uXXXX` at the front stands for.
fn utf16_escape(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn drain(frames: &mut Frames) -> Result<Vec<Value>, FrameError> {
        std::iter::from_fn(|| frames.next_frame().transpose()).map(|frame| frame.map(|f| f.value)).collect()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Value>, FrameError> {
        let mut frames = Frames::default();
        frames.push(bytes);
        drain(&mut frames)
    }

    #[test]
    fn lines_as_node_reads_them() {
        let table: &[(&[u8], Vec<Value>)] = &[
            (b"", vec![]),
            (
                b"1\ntrue\nnull\n\"x\"\n[1]\n{\"a\":1}\n",
                vec![json!(1), json!(true), json!(null), json!("x"), json!([1]), json!({"a": 1})],
            ),
            (b" {\"a\" : 1}\t\r\n2\r\n", vec![json!({"a": 1}), json!(2)]),
            (b"1\n{\"partial\":", vec![json!(1)]),
            (b"\"\xc3\xa4\xf0\x9f\x98\x80\"\n", vec![json!("ä😀")]),
            (
                br#""\ud83d"
"\ud83d\ude00 \udc00 \\ud83d \ud83d\n"
"#,
                vec![json!("\u{FFFD}"), json!("😀 \u{FFFD} \\ud83d \u{FFFD}\n")],
            ),
        ];
        for (bytes, values) in table {
            assert_eq!(read(bytes).as_ref(), Ok(values), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_kills_a_node_peer_is_an_error() {
        for empty in [&b"\n"[..], b" \r\n"] {
            assert_eq!(read(empty), Err(FrameError::Empty));
        }
        for garbage in ["{\n", "nonsense\n", "1 2\n", "{\"a\":1}}\n", "\"\\ud8\n", "\"\\\n"] {
            assert!(matches!(read(garbage.as_bytes()), Err(FrameError::NotJson(_))), "{garbage}");
        }
        assert!(matches!(read(b"\"\xff\"\n"), Err(FrameError::NotJson(_))));
    }

    #[test]
    fn a_line_is_bounded_in_both_directions() {
        let fits = "x".repeat(MAX_FRAME - 2);
        assert_eq!(read(&encode(&fits).unwrap()), Ok(vec![json!(fits)]));
        assert_eq!(encode(&format!("{fits}x")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(read(&vec![b'1'; MAX_FRAME + 1]), Err(FrameError::TooLong));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_values(
            values in prop::collection::vec(any_json(), 0..12),
            sizes in prop::collection::vec(1usize..40, 1..20),
        ) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| encode(value).unwrap()).collect();
            let (mut frames, mut read, mut rest) = (Frames::default(), Vec::new(), &bytes[..]);
            for &size in sizes.iter().cycle().take_while(|_| !bytes.is_empty()) {
                let (chunk, later) = rest.split_at(size.min(rest.len()));
                frames.push(chunk);
                while let Some(frame) = frames.next_frame().unwrap() {
                    let line = &bytes[frame.start as usize..frames.partial_start() as usize];
                    prop_assert_eq!(serde_json::from_slice::<Value>(line).unwrap(), frame.value.clone());
                    read.push(frame.value);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(frames.received(), bytes.len() as u64);
            prop_assert_eq!(read, values);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\\')], 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[&b"\"\\ud8"[..], &bytes, b"\"\n"].concat());
        }
    }
}
