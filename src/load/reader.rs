//! Reads HTTP/1.1 answers as they arrive: octets in, whole answers out (RFC 9112). No I/O and nothing allocated per
//! answer; content is counted off and dropped. The verdict does not depend on how the octets were cut.
//!
//! Servers are expected to send the same head again and again, so the last one is remembered: octets that are equal to
//! it, but for the date, are not parsed once more.
//!
//! Neighbours: `connection` feeds it, `http::chunked` finds the end of chunked content.

use crate::http::chunked::Chunked;
use std::mem::MaybeUninit;

/// The longest head that is read, with its status line.
pub const HEAD_OCTETS_MAX: usize = 64 * 1024;
/// The most fields in it.
pub const FIELDS_MAX: usize = 128;
/// An IMF-fixdate (RFC 9110 section 5.6.7) always has as many octets.
const DATE_OCTETS: usize = 29;

/// A whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Its status; never 1xx.
    pub status: u16,
    /// The connection ends with it.
    pub close: bool,
}

/// Why this is no HTTP/1.1 answer. Final: the connection cannot be read any further.
pub type Malformed = &'static str;

/// Where a connection was when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Between two answers.
    Between,
    /// Within one: it is lost.
    Within,
    /// The end of the connection is the end of this answer (RFC 9112 section 6.3, rule 8).
    Answer(Answer),
}

/// The reader of one connection.
#[derive(Debug)]
pub struct Reader {
    /// The requests are HEAD: no answer has content.
    head_only: bool,
    place: Place,
    /// A head that has not come whole.
    partial: Vec<u8>,
}

/// What the next octet belongs to.
#[derive(Debug)]
enum Place {
    Head,
    Length { left: u64, answer: Answer },
    Chunked { decoder: Chunked, answer: Answer },
    UntilClose(Answer),
}

/// What a head says of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    answer: Answer,
    content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// 1xx: another head follows.
    Interim,
    Length(u64),
    Chunked,
    UntilClose,
}

/// The last head that was parsed, for all connections to one server.
#[derive(Debug, Default)]
pub struct Known {
    octets: Vec<u8>,
    /// Where the value of its Date field begins; the end if there is none.
    date: usize,
    head: Option<Head>,
}

impl Reader {
    /// At the start of a connection.
    pub fn new(head_only: bool) -> Reader {
        Reader { head_only, place: Place::Head, partial: Vec::new() }
    }

    /// The same for another connection; what was allocated stays.
    pub fn reset(&mut self) {
        self.place = Place::Head;
        self.partial.clear();
    }

    /// Takes octets off `input` until an answer is whole; `None` when all of them are taken.
    ///
    /// # Errors
    /// Why this is no HTTP/1.1 answer.
    #[inline]
    pub fn read(&mut self, input: &mut &[u8], known: &mut Known) -> Result<Option<Answer>, Malformed> {
        while !input.is_empty() {
            let done = match &mut self.place {
                Place::Head => match self.head(input, known)? {
                    Some(head) => self.begin(head),
                    None => None,
                },
                Place::Length { left, answer } => {
                    let octets = (*left).min(input.len() as u64);
                    *input = &input[octets as usize..];
                    *left -= octets;
                    (*left == 0).then_some(*answer)
                }
                Place::Chunked { decoder, answer } => {
                    let step = decoder.skip(input).map_err(|_| "malformed chunked content")?;
                    *input = &input[step.consumed..];
                    step.done.then_some(*answer)
                }
                Place::UntilClose(_) => {
                    *input = &[];
                    None
                }
            };
            if let Some(answer) = done {
                self.place = Place::Head;
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// The server has ended the connection.
    pub fn end(&mut self) -> End {
        let end = match self.place {
            Place::Head if self.partial.is_empty() => End::Between,
            Place::UntilClose(answer) => End::Answer(answer),
            _ => End::Within,
        };
        self.reset();
        end
    }

    /// Part of an answer has been read.
    pub fn has_begun(&self) -> bool {
        !matches!(self.place, Place::Head) || !self.partial.is_empty()
    }

    /// What follows a head; the answer at once where nothing does.
    fn begin(&mut self, head: Head) -> Option<Answer> {
        self.place = match head.content {
            Content::Interim => Place::Head,
            Content::Length(0) => return Some(head.answer),
            Content::Length(left) => Place::Length { left, answer: head.answer },
            Content::Chunked => Place::Chunked { decoder: Chunked::default(), answer: head.answer },
            Content::UntilClose => Place::UntilClose(head.answer),
        };
        None
    }

    /// Takes a head off the input, or all of the input where it has not come whole.
    fn head(&mut self, input: &mut &[u8], known: &mut Known) -> Result<Option<Head>, Malformed> {
        if !self.partial.is_empty() {
            return self.head_in_parts(input);
        }
        if let Some((head, octets)) = known.recognise(input) {
            *input = &input[octets..];
            return Ok(Some(head));
        }
        let window = &input[..input.len().min(HEAD_OCTETS_MAX)];
        match parse(window, self.head_only)? {
            Some(parsed) => {
                known.remember(&input[..parsed.octets], parsed);
                *input = &input[parsed.octets..];
                Ok(Some(parsed.head))
            }
            None => {
                self.partial.extend_from_slice(window);
                *input = &input[window.len()..];
                self.refuse_long_head()
            }
        }
    }

    fn head_in_parts(&mut self, input: &mut &[u8]) -> Result<Option<Head>, Malformed> {
        let before = self.partial.len();
        let taken = input.len().min(HEAD_OCTETS_MAX - before);
        self.partial.extend_from_slice(&input[..taken]);
        match parse(&self.partial, self.head_only)? {
            Some(parsed) => {
                *input = &input[parsed.octets - before..];
                self.partial.clear();
                Ok(Some(parsed.head))
            }
            None => {
                *input = &input[taken..];
                self.refuse_long_head()
            }
        }
    }

    fn refuse_long_head(&self) -> Result<Option<Head>, Malformed> {
        if self.partial.len() < HEAD_OCTETS_MAX { Ok(None) } else { Err("a head of more than 64 KiB") }
    }
}

impl Known {
    /// Whether the input begins with the head that is known, and how long that is. A date is not looked at, since
    /// nothing depends on it; but nothing that ends a line may stand in its place.
    #[inline]
    fn recognise(&self, input: &[u8]) -> Option<(Head, usize)> {
        let head = self.head?;
        let (octets, len) = (&self.octets, self.octets.len());
        if input.len() < len || input[..self.date] != octets[..self.date] {
            return None;
        }
        if self.date < len {
            let after = self.date + DATE_OCTETS;
            if input[after..len] != octets[after..] || input[self.date..after].iter().any(|c| *c < b' ') {
                return None;
            }
        }
        Some((head, len))
    }

    fn remember(&mut self, octets: &[u8], parsed: Parsed) {
        self.octets.clear();
        self.octets.extend_from_slice(octets);
        self.date = parsed.date.unwrap_or(octets.len());
        self.head = Some(parsed.head);
    }
}

#[derive(Debug, Clone, Copy)]
struct Parsed {
    head: Head,
    /// With the empty line at its end.
    octets: usize,
    /// Where a Date value of the usual length begins.
    date: Option<usize>,
}

/// `None`: it has not come whole.
fn parse(input: &[u8], head_only: bool) -> Result<Option<Parsed>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, input, &mut fields)
        .map_err(refusal)?;
    let httparse::Status::Complete(octets) = parsed else { return Ok(None) };
    let status = response.code.ok_or("no status")?;
    if !(100..600).contains(&status) || status == 101 {
        return Err("a status that answers nothing we ask");
    }
    let framing = Framing::of(response.headers)?;
    let persistent = if response.version == Some(1) { !framing.close } else { framing.keep_alive };
    let content = framing.content(status, head_only)?;
    let answer = Answer { status, close: !persistent || content == Content::UntilClose };
    let date = framing.date.map(|value| value.as_ptr().addr() - input.as_ptr().addr());
    Ok(Some(Parsed { head: Head { answer, content }, octets, date }))
}

fn refusal(error: httparse::Error) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => "more than 128 fields",
        httparse::Error::Version => "not HTTP/1.0 or HTTP/1.1",
        httparse::Error::Status => "a malformed status line",
        _ => "a malformed head",
    }
}

/// What the fields say of the content and of the connection.
#[derive(Default)]
struct Framing<'a> {
    length: Option<u64>,
    transfer_coded: bool,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    date: Option<&'a [u8]>,
}

impl<'a> Framing<'a> {
    fn of(fields: &[httparse::Header<'a>]) -> Result<Framing<'a>, Malformed> {
        let mut framing = Framing::default();
        for field in fields {
            match field.name.len() {
                4 if field.name.eq_ignore_ascii_case("date") && field.value.len() == DATE_OCTETS => {
                    framing.date = Some(field.value);
                }
                10 if field.name.eq_ignore_ascii_case("connection") => framing.connection(field.value),
                14 if field.name.eq_ignore_ascii_case("content-length") => framing.length(field.value)?,
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    framing.transfer_coded = true;
                    // RFC 9112 section 6.1: chunked is the last coding, or the content ends with the connection
                    framing.chunked = last_of_list(field.value).eq_ignore_ascii_case(b"chunked");
                }
                _ => {}
            }
        }
        Ok(framing)
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|c| *c == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 section 6.3, rule 5: the same number several times is that number.
    fn length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for number in value.split(|c| *c == b',').map(<[u8]>::trim_ascii) {
            let digits = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
            let Some(number) = number.filter(|_| digits) else { return Err("a malformed Content-Length") };
            if self.length.is_some_and(|before| before != number) {
                return Err("two different Content-Lengths");
            }
            self.length = Some(number);
        }
        Ok(())
    }

    /// RFC 9112 section 6.3, in its order.
    fn content(&self, status: u16, head_only: bool) -> Result<Content, Malformed> {
        Ok(match (status, self.length) {
            (100..200, _) => Content::Interim,
            _ if head_only => Content::Length(0),
            (204 | 304, _) => Content::Length(0),
            _ if self.chunked => Content::Chunked,
            _ if self.transfer_coded => Content::UntilClose,
            (_, Some(length)) => Content::Length(length),
            (_, None) => Content::UntilClose,
        })
    }
}

fn last_of_list(value: &[u8]) -> &[u8] {
    value.rsplit(|c| *c == b',').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The answers in it, and how it ended.
    type Outcome = (Vec<Answer>, Result<End, Malformed>);

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

    fn answer(status: u16, close: bool) -> Answer {
        Answer { status, close }
    }

    #[test]
    fn answers_and_where_they_end() {
        let (keeps, closes) = (answer(200, false), answer(200, true));
        let table: &[(&str, &[Answer], End)] = &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", &[keeps], End::Between),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &[keeps], End::Between),
            (
                "HTTP/1.1 200 OK\r\ncontent-LENGTH: 2, 2\r\nContent-Length: 2\r\n\r\nok",
                &[keeps],
                End::Between,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, Close\r\n\r\nok",
                &[closes],
                End::Between,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", &[], End::Within),
            ("HTTP/1.1 200 OK\r\nContent-Le", &[], End::Within),
            ("", &[], End::Between),
            // HTTP/1.0 closes unless it says otherwise (RFC 9112 section 9.3)
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", &[closes], End::Between),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
                &[keeps],
                End::Between,
            ),
            // RFC 9112 section 7
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                &[keeps],
                End::Between,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 9\r\n\r\n1;a=b\r\nx\r\n0\r\nT: v\r\n\r\n",
                &[keeps],
                End::Between,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", &[], End::Within),
            // section 6.3: no content, whatever the fields say; and up to the end of the connection
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", &[answer(204, false)], End::Between),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", &[answer(304, false)], End::Between),
            ("HTTP/1.1 200 OK\r\n\r\nall of this", &[], End::Answer(closes)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nall",
                &[],
                End::Answer(closes),
            ),
            // RFC 9110 section 15.2: interim answers are skipped
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                &[keeps],
                End::Between,
            ),
            (
                "HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n",
                &[answer(404, false), answer(500, false)],
                End::Between,
            ),
        ];
        for (octets, answers, end) in table {
            let expected = (answers.to_vec(), Ok(*end));
            assert_eq!(play([octets.as_bytes()], false), expected, "{octets:?}");
            assert_eq!(play(octets.as_bytes().chunks(1), false), expected, "{octets:?}");
        }
    }

    #[test]
    fn answers_to_head_have_no_content() {
        let two = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(play([two.as_bytes()], true), (vec![answer(200, false); 2], Ok(End::Between)));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1));
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(HEAD_OCTETS_MAX));
        let table = [
            "SSH-2.0-OpenSSH_9.6\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 999 Huh\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
            &many,
            &long,
        ];
        for octets in table {
            let (answers, end) = play([octets.as_bytes()], false);
            assert!(answers.is_empty() && end.is_err(), "{octets:?}: {end:?}");
            let pieces = octets.as_bytes().chunks(octets.len() / 40 + 1);
            assert_eq!(play(pieces, false).1.is_err(), end.is_err(), "{octets:?}");
        }
    }

    #[test]
    fn a_known_head_is_recognised_by_everything_but_its_date() {
        let head = |date: &str, length: u8| {
            format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n")
        };
        let (now, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        let mut known = Known::default();
        let first = head(now, 0);
        let parsed = parse(first.as_bytes(), false).unwrap().unwrap();
        known.remember(first.as_bytes(), parsed);
        let recognised = |octets: &str| known.recognise(octets.as_bytes()).map(|(_, octets)| octets);
        assert_eq!(recognised(&(first.clone() + "more")), Some(first.len()));
        assert_eq!(recognised(&head(later, 0)), Some(first.len()));
        assert_eq!(recognised(&head(now, 1)), None);
        assert_eq!(recognised(&first[..first.len() - 1]), None);
        // 29 octets that end a line are no date
        assert_eq!(recognised(&head("x\r\nTransfer-Encoding: chunked", 0)), None);
        assert_eq!(play([(first.clone() + &head(later, 0)).as_bytes()], false).0.len(), 2);
    }

    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let head = prop_oneof![
            Just("HTTP/1.1 200 OK\r\n"),
            Just("HTTP/1.0 404 \r\nConnection: keep-alive\r\n"),
            Just("HTTP/1.1 100 Continue\r\n"),
            Just("HTTP/1.1 204 No Content\r\nConnection: close\r\n"),
        ];
        let rest = prop_oneof![
            Just("Content-Length: 3\r\n\r\nabc"),
            Just("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"),
            Just("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n"),
            Just("\r\nup to the end"),
            Just("Content-Length: x\r\n\r\n"),
        ];
        let one = (head, rest).prop_map(|(head, rest)| format!("{head}{rest}").into_bytes());
        proptest::collection::vec(one, 1..5).prop_map(|all| all.concat())
    }

    proptest! {
        #[test]
        fn every_cut_gives_the_same(octets in messages(), cuts: [prop::sample::Index; 3], head_only: bool) {
            let mut cuts = cuts.map(|cut| cut.index(octets.len() + 1));
            cuts.sort_unstable();
            let pieces = [&octets[..cuts[0]], &octets[cuts[0]..cuts[1]], &octets[cuts[1]..cuts[2]], &octets[cuts[2]..]];
            let whole = play([&octets[..]], head_only);
            prop_assert_eq!(&play(pieces, head_only), &whole);
            prop_assert_eq!(&play(octets.chunks(1), head_only), &whole);
        }

        #[test]
        fn nothing_makes_it_panic(octets: Vec<u8>) {
            let whole = play([&octets[..]], false);
            prop_assert_eq!(play(octets.chunks(1), false).0, whole.0);
        }
    }
}
