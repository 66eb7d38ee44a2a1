//! How one line looks. What a client has sent can neither end a line nor a field: text is escaped as nginx does it
//! (`\xHH`), JSON by its own rules (RFC 8259 section 7), and what is no UTF-8 becomes U+FFFD there.
//!
//! Neighbours: `mod` finds the room, `record` keeps what an `Entry` borrows.

use super::Format;
use super::stamp::Stamp;
use crate::stats::Nanos;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// What one octet becomes at most: `\u0001`.
const ESCAPED_MAX: usize = 6;

/// What a line has beside the client's words: the longest address, three numbers of twenty digits, the time, the names.
const FIXED_OCTETS_MAX: usize = 400;

/// More than this is not looked at for a request line; a longer one is refused anyway.
const INPUT_OCTETS_MAX: usize = 8192;

/// What a client asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Empty if what came is no request line.
    pub method: &'a [u8],
    /// All of what came instead, if it is none.
    pub target: &'a [u8],
    /// `HTTP/1.1`; empty as the method.
    pub version: &'a [u8],
    /// The Referer field.
    pub referer: Option<&'a [u8]>,
    /// The User-Agent field.
    pub user_agent: Option<&'a [u8]>,
}

/// What a line says.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The client's address; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The request.
    pub asked: Asked<'a>,
    /// The status that was sent; 0 if none was.
    pub status: u16,
    /// Octets that were sent behind the head: the content, and where it is chunked the framing of its chunks.
    pub octets: u64,
    /// When the request's last octet came.
    pub arrived: Nanos,
}

/// Who writes: the end of each JSON line.
pub(super) struct Origin(Vec<u8>);

impl Origin {
    pub fn new(slot: usize, pid: u32) -> Origin {
        Origin(format!(",\"slot\":{slot},\"pid\":{pid}}}\n").into_bytes())
    }
}

impl<'a> Asked<'a> {
    /// Of input that could not be read as a request: its first line, taken apart where that can be done.
    pub fn of_input(input: &'a [u8]) -> Asked<'a> {
        let input = &input[..input.len().min(INPUT_OCTETS_MAX)];
        let is_end = |octet: &u8| matches!(octet, b'\r' | b'\n');
        let start = input.iter().position(|octet| !is_end(octet)).unwrap_or(input.len());
        let line = input[start..].split(is_end).next().unwrap_or_default();
        let mut words = line.split(|octet| *octet == b' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(method), Some(target), Some(version), None) if version.starts_with(b"HTTP/") => {
                Asked { method, target, version, ..Asked::default() }
            }
            _ => Asked { target: line, ..Asked::default() },
        }
    }

    fn octets(&self) -> usize {
        let fields =
            [Some(self.method), Some(self.target), Some(self.version), self.referer, self.user_agent];
        fields.into_iter().flatten().map(<[u8]>::len).sum()
    }
}

/// No line of this is longer.
pub(super) fn octets_max(entry: &Entry<'_>) -> usize {
    FIXED_OCTETS_MAX + ESCAPED_MAX * entry.asked.octets()
}

/// Appends the line; the words of the client are shortened until it has at most `line_max` octets.
pub(super) fn write(
    format: Format,
    entry: &Entry<'_>,
    stamp: &Stamp,
    origin: &Origin,
    now: impl Fn() -> Nanos,
    line_max: usize,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let mut word_max = usize::MAX;
    loop {
        match format {
            Format::Common | Format::Combined => write_text(format, entry, stamp, word_max, out),
            Format::Json => write_json(entry, stamp, origin, now(), word_max, out),
        }
        if out.len() - start <= line_max || word_max == 0 {
            return;
        }
        out.truncate(start);
        word_max = word_max.min(line_max) / 2;
    }
}

/// nginx's and Apache's "combined": `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent
/// "$http_referer" "$http_user_agent"`, and "common", which ends before the referer.
#[inline]
fn write_text(format: Format, entry: &Entry<'_>, stamp: &Stamp, word_max: usize, out: &mut Vec<u8>) {
    let Entry { peer, asked, status, octets, .. } = entry;
    write_peer(*peer, out);
    out.extend_from_slice(stamp.text());
    if asked.method.is_empty() {
        write_word(escape, Some(asked.target).filter(|line| !line.is_empty()), word_max, out);
    } else {
        write_word(escape, Some(asked.method), word_max, out);
        out.push(b' ');
        write_word(escape, Some(asked.target), word_max, out);
        out.push(b' ');
        write_word(escape, Some(asked.version), word_max, out);
    }
    out.extend_from_slice(b"\" ");
    match status {
        0 => out.extend_from_slice(b"000"),
        status => write_number(u64::from(*status), out),
    }
    out.push(b' ');
    write_number(*octets, out);
    if format == Format::Combined {
        out.extend_from_slice(b" \"");
        write_word(escape, asked.referer, word_max, out);
        out.extend_from_slice(b"\" \"");
        write_word(escape, asked.user_agent, word_max, out);
        out.push(b'"');
    }
    out.push(b'\n');
}

fn write_json(
    entry: &Entry<'_>,
    stamp: &Stamp,
    origin: &Origin,
    now: Nanos,
    word_max: usize,
    out: &mut Vec<u8>,
) {
    let Entry { peer, asked, status, octets, arrived } = entry;
    let given = |word: &'_ [u8]| !word.is_empty();
    out.extend_from_slice(b"{\"time\":\"");
    stamp.write_rfc3339(now, out);
    out.extend_from_slice(b"\",\"remote_addr\":\"");
    write_peer(*peer, out);
    out.push(b'"');
    write_member(b",\"method\":", Some(asked.method).filter(|word| given(word)), word_max, out);
    write_member(b",\"target\":", Some(asked.target).filter(|word| given(word)), word_max, out);
    write_member(b",\"version\":", Some(asked.version).filter(|word| given(word)), word_max, out);
    out.extend_from_slice(b",\"status\":");
    match status {
        0 => out.extend_from_slice(b"null"),
        status => write_number(u64::from(*status), out),
    }
    out.extend_from_slice(b",\"body_bytes_sent\":");
    write_number(*octets, out);
    out.extend_from_slice(b",\"duration_us\":");
    write_number(now.saturating_sub(*arrived) / 1_000, out);
    write_member(b",\"referer\":", asked.referer, word_max, out);
    write_member(b",\"user_agent\":", asked.user_agent, word_max, out);
    out.extend_from_slice(&origin.0);
}

fn write_member(name: &[u8], value: Option<&[u8]>, word_max: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    let Some(value) = value else { return out.extend_from_slice(b"null") };
    out.push(b'"');
    write_word(escape_json, Some(value), word_max, out);
    out.push(b'"');
}

/// Of a word that is not there, a dash.
#[inline]
fn write_word(
    escape: impl FnOnce(&[u8], &mut Vec<u8>),
    word: Option<&[u8]>,
    word_max: usize,
    out: &mut Vec<u8>,
) {
    match word {
        None => out.push(b'-'),
        Some(word) if word.len() <= word_max => escape(word, out),
        Some(word) => {
            escape(&word[..word_max], out);
            out.extend_from_slice(b"...");
        }
    }
}

/// As nginx writes them, but that IPv4 clients of a socket for both families are not told apart from others.
#[inline]
fn write_peer(peer: Option<SocketAddr>, out: &mut Vec<u8>) {
    match peer.map(|peer| peer.ip().to_canonical()) {
        None => out.extend_from_slice(b"unix:"),
        Some(IpAddr::V4(address)) => {
            for (place, number) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                write_number(number.into(), out);
            }
        }
        Some(IpAddr::V6(address)) => write!(out, "{address}").expect("memory takes it"),
    }
}

#[inline]
fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Visible ASCII and space as it is, but for what ends a field or an escape.
#[inline]
fn is_plain(octet: u8) -> bool {
    (b' '..=b'~').contains(&octet) && octet != b'"' && octet != b'\\'
}

/// Nearly everything that clients send is plain, and then it is one copy.
#[inline]
fn is_all_plain(word: &[u8]) -> bool {
    // without a branch, so that the compiler makes it sixteen octets at a time
    word.iter().fold(true, |all, octet| all & is_plain(*octet))
}

/// nginx's `log_format ... escape=default`.
#[inline]
fn escape(word: &[u8], out: &mut Vec<u8>) {
    if is_all_plain(word) {
        return out.extend_from_slice(word);
    }
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &octet in word {
        if is_plain(octet) {
            out.push(octet);
        } else {
            let digit = |shift: u8| DIGITS[usize::from(octet >> shift & 15)];
            out.extend_from_slice(&[b'\\', b'x', digit(4), digit(0)]);
        }
    }
}

fn escape_json(word: &[u8], out: &mut Vec<u8>) {
    if is_all_plain(word) {
        return out.extend_from_slice(word);
    }
    for chunk in word.utf8_chunks() {
        for &octet in chunk.valid().as_bytes() {
            match octet {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', octet]),
                0..b' ' => write!(out, "\\u{octet:04x}").expect("memory takes it"),
                octet => out.push(octet),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}
