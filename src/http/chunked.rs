//! Takes the chunked transfer coding off content as it arrives (RFC 9112 section 7.1). Strict where a second reader
//! of the same octets could disagree: what is read here as the end of a message must be its end for everybody.
//!
//! One octet at a time outside of chunk data, which is copied in bulk; so the verdict cannot depend on how the input
//! was cut. Chunk extensions and trailer fields are checked and dropped (sections 7.1.1 and 7.1.2 allow that).
//!
//! Neighbours: `parse` says that content is chunked, `exchange` passes it through here.

/// What one chunk's line may hold between the size and its CRLF.
pub const LINE_EXTENSION_OCTETS_MAX: u16 = 256;
/// What all lines of a message may hold so (section 7.1.1 asks for such a limit).
pub const EXTENSION_OCTETS_MAX: u16 = 16 * 1024;
/// The longest trailer section, its last empty line not counted.
pub const TRAILER_OCTETS_MAX: u16 = 16 * 1024;
/// The most field lines in it.
pub const TRAILER_LINES_MAX: u8 = 128;
/// A u64 has so many; leading zeros count.
const SIZE_DIGITS_MAX: u8 = 16;

/// The decoder of one message's content. By default it takes any amount.
#[derive(Debug, Clone)]
pub struct Chunked {
    place: Place,
    /// The chunk's size as far as it is read, then what is still to come of its data.
    left: u64,
    /// Content that may still be announced.
    room: u64,
    size_digits: u8,
    line_extension_octets: u16,
    extension_octets: u16,
    trailer_octets: u16,
    trailer_lines: u8,
}

/// How far one piece of input brought the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Octets that belong to the content's coding: all of them until it is `done`.
    pub consumed: usize,
    /// The last CRLF has been consumed; what follows is the next message.
    pub done: bool,
}

/// Why content is not taken. Final: the connection cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not the grammar, or beyond the limits on what is not content: answer 400.
    Malformed,
    /// A chunk that exceeds the room left was announced: answer 413.
    TooLarge,
}

/// What the next octet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A chunk-size, begun or not.
    Size,
    /// A chunk-ext (section 7.1.1): white space, which only a semicolon may end.
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    AfterQuoted,
    /// The LF of a chunk's line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// A field line of the trailer section, or the CR of the line that ends it.
    TrailerLine,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
    Refused(Refusal),
}

impl Default for Chunked {
    fn default() -> Chunked {
        Chunked::with_room(u64::MAX)
    }
}

impl Chunked {
    /// Takes at most so many octets of content. A chunk is refused when it is announced, before its data.
    pub fn with_room(room: u64) -> Chunked {
        Chunked {
            place: Place::Size,
            left: 0,
            room,
            size_digits: 0,
            line_extension_octets: 0,
            extension_octets: 0,
            trailer_octets: 0,
            trailer_lines: 0,
        }
    }

    /// From now on takes at most so many octets of content.
    pub(super) fn limit(&mut self, room: u64) {
        self.room = room;
    }

    /// Takes the next octets and appends what they hold to `content`; content before a refusal is appended too.
    pub fn decode(&mut self, input: &[u8], content: &mut Vec<u8>) -> Result<Step, Refusal> {
        self.feed(input, |data| content.extend_from_slice(data))
    }

    /// Takes the next octets only to find the end.
    pub fn skip(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        self.feed(input, |_| {})
    }

    /// Takes the next octets and gives what they hold to `sink`.
    pub(super) fn feed(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) -> Result<Step, Refusal> {
        let mut consumed = 0;
        while let Some(&octet) = input.get(consumed) {
            match self.place {
                Place::Done | Place::Refused(_) => break,
                Place::Data => {
                    let data = self.take_data(&input[consumed..]);
                    consumed += data.len();
                    sink(data);
                }
                _ => {
                    consumed += 1;
                    self.place = self.step(octet).unwrap_or_else(Place::Refused);
                }
            }
        }
        match self.place {
            Place::Refused(refusal) => Err(refusal),
            place => Ok(Step { consumed, done: place == Place::Done }),
        }
    }

    fn take_data<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let octets = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
        self.left -= octets as u64;
        if self.left == 0 {
            self.place = Place::DataCr;
        }
        &input[..octets]
    }

    /// Where one octet leads. Every line ends with CRLF: section 2.2 would let a bare LF pass, and is where two
    /// readers begin to disagree.
    fn step(&mut self, octet: u8) -> Result<Place, Refusal> {
        match (self.place, octet) {
            (Place::Size, _) => self.size(octet),
            (Place::SizeLf, b'\n') => self.begin_chunk(),
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => {
                (self.left, self.size_digits, self.line_extension_octets) = (0, 0, 0);
                Ok(Place::Size)
            }
            (Place::TrailerLine, b'\r') => Ok(Place::LastLf),
            (Place::TrailerLine | Place::TrailerName | Place::TrailerValue | Place::TrailerLf, _) => {
                self.trailer(octet)
            }
            (Place::LastLf, b'\n') => Ok(Place::Done),
            // of what is left, only the places within an extension lead anywhere
            _ => self.extension(octet),
        }
    }

    fn size(&mut self, octet: u8) -> Result<Place, Refusal> {
        match (hex_digit(octet), self.size_digits) {
            (Some(digit), ..SIZE_DIGITS_MAX) => {
                self.left = self.left << 4 | digit;
                self.size_digits += 1;
                Ok(Place::Size)
            }
            (None, 1..) => self.extension(octet),
            _ => Err(Refusal::Malformed),
        }
    }

    /// From the end of a chunk-size to the CR of its line.
    fn extension(&mut self, octet: u8) -> Result<Place, Refusal> {
        let next = within_extensions(self.place, octet).ok_or(Refusal::Malformed)?;
        if next != Place::SizeLf {
            self.line_extension_octets += 1;
            self.extension_octets += 1;
        }
        let fits = self.line_extension_octets <= LINE_EXTENSION_OCTETS_MAX
            && self.extension_octets <= EXTENSION_OCTETS_MAX;
        if fits { Ok(next) } else { Err(Refusal::Malformed) }
    }

    fn begin_chunk(&mut self) -> Result<Place, Refusal> {
        self.room = self.room.checked_sub(self.left).ok_or(Refusal::TooLarge)?;
        Ok(if self.left == 0 { Place::TrailerLine } else { Place::Data })
    }

    /// RFC 9112 section 5: a token, the colon directly behind it, a value without control characters. A line that
    /// begins with white space (obs-fold, section 5.2) begins with no token.
    fn trailer(&mut self, octet: u8) -> Result<Place, Refusal> {
        self.trailer_octets += 1;
        let next = match (self.place, octet) {
            (Place::TrailerLine | Place::TrailerName, _) if is_token(octet) => Place::TrailerName,
            (Place::TrailerName, b':') => Place::TrailerValue,
            (Place::TrailerValue, b'\r') => Place::TrailerLf,
            (Place::TrailerValue, _) if is_text(octet) => Place::TrailerValue,
            (Place::TrailerLf, b'\n') => {
                self.trailer_lines += 1;
                Place::TrailerLine
            }
            _ => return Err(Refusal::Malformed),
        };
        let fits = self.trailer_octets <= TRAILER_OCTETS_MAX
            && (self.trailer_lines < TRAILER_LINES_MAX || next == Place::TrailerLine);
        if fits { Ok(next) } else { Err(Refusal::Malformed) }
    }
}

/// chunk-ext = *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ). White space before the CRLF is not
/// in it.
fn within_extensions(place: Place, octet: u8) -> Option<Place> {
    use Place::*;
    let next = match (place, octet) {
        (Size | Name | Token | AfterQuoted, b'\r') => SizeLf,
        (Size | BeforeSemicolon | Name | AfterName | Token | AfterQuoted, b';') => BeforeName,
        (Size | BeforeSemicolon | Token | AfterQuoted, b' ' | b'\t') => BeforeSemicolon,
        (Name | AfterName, b' ' | b'\t') => AfterName,
        (Name | AfterName, b'=') => BeforeValue,
        (BeforeName | BeforeValue, b' ' | b'\t') => place,
        (BeforeName | Name, _) if is_token(octet) => Name,
        (BeforeValue | Token, _) if is_token(octet) => Token,
        (BeforeValue, b'"') => Quoted,
        (Quoted, b'"') => AfterQuoted,
        (Quoted, b'\\') => Escaped,
        (Quoted | Escaped, _) if is_text(octet) => Quoted,
        _ => return None,
    };
    Some(next)
}

fn hex_digit(octet: u8) -> Option<u64> {
    char::from(octet).to_digit(16).map(u64::from)
}

/// tchar (RFC 9110 section 5.6.2).
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// What field values and quoted strings consist of: HTAB, SP, VCHAR, obs-text (RFC 9110 sections 5.5 and 5.6.4).
fn is_text(octet: u8) -> bool {
    octet == b'\t' || (octet >= b' ' && octet != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    /// What became of a message: the content, and how much of the input was its coding.
    type Outcome = Result<(Vec<u8>, usize, bool), Refusal>;

    fn play<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, room: u64) -> Outcome {
        let (mut chunked, mut content) = (Chunked::with_room(room), vec![]);
        let (mut consumed, mut done) = (0, false);
        for piece in pieces {
            let step = chunked.decode(piece, &mut content)?;
            assert!(step.done || step.consumed == piece.len());
            (consumed, done) = (consumed + step.consumed, step.done);
        }
        Ok((content, consumed, done))
    }

    fn whole(message: &[u8]) -> Outcome {
        play([message], u64::MAX)
    }

    fn octet_by_octet(message: &[u8]) -> Outcome {
        play(message.chunks(1), u64::MAX)
    }

    #[test]
    fn messages_and_their_content() {
        let table: &[(&str, &str)] = &[
            // RFC 9112 section 7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF; last-chunk = 1*"0"
            ("0\r\n\r\n", ""),
            ("000\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("005\r\nhello\r\n0000000000000000\r\n\r\n", "hello"),
            ("2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "abc"),
            ("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
            ("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"),
            // section 7.1.1: chunk extensions
            ("1;a\r\nx\r\n0;b\r\n\r\n", "x"),
            ("1;a=b;c;d=\"e\"\r\nx\r\n0\r\n\r\n", "x"),
            ("1 \t; \ta \t= \tb\t;\tc = \"; \\\" \\\\ \u{e9}\t\" ; d\r\nx\r\n0\r\n\r\n", "x"),
            ("1;a=\"\"\r\nx\r\n0\r\n\r\n", "x"),
            ("1;!#$%&'*+-.^_`|~09azAZ=!\r\nx\r\n0\r\n\r\n", "x"),
            // section 7.1.2: the trailer section
            ("0\r\nA: b\r\n\r\n", ""),
            ("1\r\nx\r\n0\r\nA:\r\nB: \t c\u{e9}\t \r\nContent-Length: 7\r\n\r\n", "x"),
        ];
        for (message, content) in table {
            let expected = Ok((content.as_bytes().to_vec(), message.len(), true));
            assert_eq!(whole(message.as_bytes()), expected, "{message:?}");
            assert_eq!(octet_by_octet(message.as_bytes()), expected, "{message:?}");
            let followed = format!("{message}GET / HTTP/1.1\r\n");
            assert_eq!(whole(followed.as_bytes()), expected, "{followed:?}");
            let short = &message.as_bytes()[..message.len() - 1];
            assert!(
                matches!(whole(short), Ok((_, consumed, false)) if consumed == short.len()),
                "{message:?}"
            );
        }
    }

    #[test]
    fn what_is_no_message_is_refused_at_the_octet_that_is_wrong() {
        let table: &[&[u8]] = &[
            // RFC 9112 section 7.1: chunk-size = 1*HEXDIG, and recipients must prevent overflow
            b"\r",
            b"g",
            b" ",
            b"-",
            b"+",
            b"0x",
            b"00000000000000000",
            b"10000000000000000",
            b"1_",
            b";",
            // section 2.2: a sender MUST NOT generate a bare CR; nor does a bare LF end a line here
            b"1\n",
            b"1\rx",
            b"1\r\r",
            b"1\r;",
            b"1\r ",
            b"1\r0",
            b"1;a\n",
            b"1;a=\"\n",
            b"1;a=\"\r",
            b"1\r\nx\n",
            b"1\r\nx\rx",
            b"1\r\nx;",
            b"1\r\nx\r ",
            b"0\r\n\r;",
            b"0\r\n\r ",
            b"0\r\n\n",
            b"0\r\n\r\r",
            b"0\r\nA: b\n",
            b"0\r\nA: b\rc",
            // section 7.1: the data is as long as announced
            b"1\r\nxy",
            b"1\r\n\r\n",
            b"0\r\nx\r",
            // section 7.1.1: chunk extensions
            b"1 \r",
            b"1\t\r",
            b"1 1",
            b"1 a",
            b"1;\r",
            b"1;;",
            b"1;=",
            b"1; ;",
            b"1;a \r",
            b"1;a b",
            b"1;a=\r",
            b"1;a= ;",
            b"1;a==",
            b"1;a=b=",
            b"1;a=b \r",
            b"1;a=b c",
            b"1;a=\"b\"c",
            b"1;a=\"b\"\"",
            b"1;a=\"\x00",
            b"1;a=\"\\\r",
            b"1;a=\"\x7f",
            b"1;a\"",
            b"1;a=b\"",
            b"1;\xe9",
            b"1;a=\xe9",
            b"1,",
            // section 5.1: no white space between name and colon; section 5.2: no obs-fold
            b"0\r\nA ",
            b"0\r\n:",
            b"0\r\n ",
            b"0\r\nA: b\r\n ",
            b"0\r\nA: b\r\n\t",
            b"0\r\nA: \x00",
            b"0\r\nA: \x7f",
            b"0\r\nA: \x0b",
            b"0\r\n\xc3",
        ];
        for message in table {
            let shown = message.escape_ascii();
            assert_eq!(whole(message), Err(Refusal::Malformed), "{shown}");
            assert_eq!(octet_by_octet(message), Err(Refusal::Malformed), "{shown}");
            // the last octet is what is wrong, and is not waited behind
            assert!(whole(&message[..message.len() - 1]).is_ok(), "{shown}");
        }
    }

    #[test]
    fn limits_hold_to_the_octet() {
        let line = |octets: u16| format!("1;{}\r\nx\r\n", "a".repeat(usize::from(octets) - 1));
        let lines = usize::from(EXTENSION_OCTETS_MAX / LINE_EXTENSION_OCTETS_MAX);
        let full = line(LINE_EXTENSION_OCTETS_MAX).repeat(lines);
        let trailer = |octets: u16| format!("A:{}\r\n", "b".repeat(usize::from(octets) - 4));
        let table = [
            // RFC 9112 section 7.1.1: limit the total length of chunk extensions
            (line(LINE_EXTENSION_OCTETS_MAX), true),
            (line(LINE_EXTENSION_OCTETS_MAX + 1), false),
            (format!("1 {};a\r\nx\r\n", " ".repeat(300)), false),
            (full.clone(), true),
            (full + "1;", false),
            // section 7.1.2: the trailer section
            (format!("0\r\n{}\r\n", trailer(TRAILER_OCTETS_MAX)), true),
            (format!("0\r\n{}\r\n", trailer(TRAILER_OCTETS_MAX + 1)), false),
            (format!("0\r\n{}\r\n", "a:\r\n".repeat(usize::from(TRAILER_LINES_MAX))), true),
            (format!("0\r\n{}\r\n", "a:\r\n".repeat(usize::from(TRAILER_LINES_MAX) + 1)), false),
        ];
        for (message, taken) in table {
            assert_eq!(whole(message.as_bytes()).is_ok(), taken, "{}", &message[..message.len().min(40)]);
            assert_eq!(octet_by_octet(message.as_bytes()).is_ok(), taken);
        }
    }

    #[test]
    fn content_beyond_the_room_is_refused_when_it_is_announced() {
        let table: &[(&str, u64, Result<usize, Refusal>)] = &[
            ("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 5, Ok(5)),
            ("3\r\nabc\r\n2\r\n", 4, Err(Refusal::TooLarge)),
            ("0\r\n\r\n", 0, Ok(0)),
            ("1\r\n", 0, Err(Refusal::TooLarge)),
            ("ffffffffffffffff\r\nabc", u64::MAX, Ok(3)),
            ("ffffffffffffffff\r\n", u64::MAX - 1, Err(Refusal::TooLarge)),
            // what is wrong with the line comes first
            ("f;\r\n", 0, Err(Refusal::Malformed)),
        ];
        for (message, room, expected) in table {
            let octets = play([message.as_bytes()], *room).map(|(content, ..)| content.len());
            assert_eq!(octets, *expected, "{message:?}");
        }
    }

    #[test]
    fn the_end_and_a_refusal_are_final() {
        let (mut chunked, mut content) = (Chunked::default(), vec![]);
        assert_eq!(chunked.decode(b"", &mut content), Ok(Step { consumed: 0, done: false }));
        assert_eq!(chunked.decode(b"0\r\n\r\n0", &mut content), Ok(Step { consumed: 5, done: true }));
        assert_eq!(chunked.decode(b"0", &mut content), Ok(Step { consumed: 0, done: true }));
        assert_eq!(chunked.skip(b""), Ok(Step { consumed: 0, done: true }));
        let mut chunked = Chunked::with_room(1);
        assert_eq!(chunked.skip(b"2\r\n"), Err(Refusal::TooLarge));
        assert_eq!(chunked.skip(b""), Err(Refusal::TooLarge));
        assert_eq!(chunked.skip(b"0\r\n\r\n"), Err(Refusal::TooLarge));
    }

    fn encode(pieces: &[Vec<u8>], extension: &str, trailer: &str) -> Vec<u8> {
        let mut message = vec![];
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            message.extend_from_slice(format!("{:x}{extension}\r\n", piece.len()).as_bytes());
            message.extend_from_slice(piece);
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(format!("0{extension}\r\n{trailer}\r\n").as_bytes());
        message
    }

    /// Messages as they should be, and some with one octet that does not belong there.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6);
        let extension =
            "([ \t]?;[ \t]?[a-z]{1,3}([ \t]?=[ \t]?([a-z]{1,2}|\"[a-z;]{0,2}(\\\\[\"a])?\"))?){0,2}";
        let trailer = "([A-Za-z-]{1,4}:[ \ta-z]{0,4}\r\n){0,3}";
        let wrong =
            prop::option::of((any::<Index>(), prop::sample::select(b"\r\n \t;:\"=\\0aG\0\x7f\xff".to_vec())));
        (pieces, extension, trailer, wrong).prop_map(|(pieces, extension, trailer, wrong)| {
            let mut message = encode(&pieces, &extension, &trailer);
            if let Some((place, octet)) = wrong {
                let place = place.index(message.len());
                message[place] = octet;
            }
            message
        })
    }

    proptest! {
        #[test]
        fn content_cut_into_chunks_decodes_to_itself(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            behind in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut message = encode(&pieces, "", "");
            let octets = message.len();
            message.extend_from_slice(&behind);
            prop_assert_eq!(whole(&message), Ok((pieces.concat(), octets, true)));
            let mut skipping = Chunked::default();
            prop_assert_eq!(skipping.skip(&message), Ok(Step { consumed: octets, done: true }));
        }

        #[test]
        fn the_verdict_does_not_depend_on_how_the_input_is_cut(
            message in message(),
            cuts in prop::collection::vec(any::<Index>(), 0..6),
            room in prop_oneof![Just(u64::MAX), 0..100u64],
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(message.len() + 1)).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            let expected = play([&message[..]], room);
            prop_assert_eq!(play(cuts.windows(2).map(|cut| &message[cut[0]..cut[1]]), room), expected.clone());
            prop_assert_eq!(play(message.chunks(1), room), expected);
        }

        #[test]
        fn any_octets_give_a_verdict_and_no_more_content_than_room(
            message in prop::collection::vec(any::<u8>(), 0..200),
            room in 0..100u64,
        ) {
            let mut content = vec![];
            let _ = Chunked::with_room(room).decode(&message, &mut content);
            prop_assert!(content.len() as u64 <= room);
        }
    }
}
