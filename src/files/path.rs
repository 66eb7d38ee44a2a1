//! From the path of a request to a path below the root: decoded once, without dot segments, and never out of it. No
//! I/O here: whether there is such a file, and where its symbolic links lead, is decided by whoever opens it.
//!
//! Neighbours: `http::Request::path` gives the path; what comes out is opened relative to the root's descriptor.

use memchr::{memchr_iter, memchr2, memrchr};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

/// The longest file name that Linux's file systems have (NAME_MAX).
const SEGMENT_OCTETS_MAX: usize = 255;
/// The longest path that the kernel takes (PATH_MAX, less the NUL at its end).
const PATH_OCTETS_MAX: usize = 4095;

/// RFC 3986 section 3.3: `pchar` without `pct-encoded`, and the slash, which here only ever separates.
const ENCODED_IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');
/// RFC 3986 section 3.4. The percent sign stays: a query is passed on as it came, encoded already.
const ENCODED_IN_QUERY: &AsciiSet = &ENCODED_IN_PATH.remove(b'?').remove(b'%');

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The path below the root: segments with one slash between them, none of them empty, `.` or `..`. Octets, not
    /// text, as file names are. Empty for the root itself.
    pub relative: &'a [u8],
    /// It was asked for as a directory: it ended in a slash or a dot segment. Always so for the root.
    pub directory: bool,
}

/// Why a path names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No client in its senses sends it: 400.
    Malformed,
    /// There may be such a file, but not for clients: 404, as if there were none.
    Hidden,
}

/// Resolves a request's path, which begins with a slash and has no query. `scratch` is for those that must be
/// rewritten; most are not and are borrowed from `path`.
///
/// # Errors
/// [`Refusal::Malformed`] if anything in it is, else [`Refusal::Hidden`] if anything is.
pub fn resolve<'a>(path: &'a str, scratch: &'a mut Vec<u8>) -> Result<Resolved<'a>, Refusal> {
    let below = path.strip_prefix('/').ok_or(Refusal::Malformed)?;
    if is_plain(path.as_bytes()) {
        let relative = below.strip_suffix('/').unwrap_or(below);
        return Ok(Resolved {
            relative: relative.as_bytes(),
            directory: relative.is_empty() || relative != below,
        });
    }
    rewrite(below, scratch)
}

/// Writes the Location for a directory that was asked for without its slash, after what is in `out` (RFC 9110 section
/// 10.2.2). It begins with exactly one slash: two would begin the name of another host (RFC 3986 section 4.2).
pub fn redirect_target(resolved: &Resolved<'_>, query: Option<&str>, out: &mut Vec<u8>) {
    out.push(b'/');
    if !resolved.relative.is_empty() {
        percent_encode(resolved.relative, ENCODED_IN_PATH)
            .for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.push(b'/');
    }
    if let Some(query) = query {
        out.push(b'?');
        utf8_percent_encode(query, ENCODED_IN_QUERY).for_each(|part| out.extend_from_slice(part.as_bytes()));
    }
}

/// Nothing to decode, merge, remove or refuse. In a path this short no segment is too long.
fn is_plain(path: &[u8]) -> bool {
    path.len() <= SEGMENT_OCTETS_MAX
        && memchr2(b'%', b'\\', path).is_none()
        && memchr_iter(b'/', path).all(|slash| !matches!(path.get(slash + 1), Some(b'/' | b'.')))
        && !path.iter().any(u8::is_ascii_control)
}

/// Segment by segment, so that a decoded octet is never taken for a separator or decoded again (RFC 3986 section 2.4).
fn rewrite<'a>(below: &str, scratch: &'a mut Vec<u8>) -> Result<Resolved<'a>, Refusal> {
    scratch.clear();
    let (mut directory, mut hidden) = (true, false);
    for segment in below.as_bytes().split(|octet| *octet == b'/') {
        let start = scratch.len();
        if start > 0 {
            scratch.push(b'/');
        }
        let name = scratch.len();
        hidden |= !decode(segment, scratch)?;
        // Dot segments count decoded: `.` is unreserved, so `%2e` is the same (RFC 3986 section 6.2.2.2). Empty
        // segments go first, as in a file system: `/a//../b` is `/b`.
        directory = matches!(&scratch[name..], b"" | b"." | b"..");
        match &scratch[name..] {
            b"" | b"." => scratch.truncate(start),
            b".." => {
                scratch.truncate(start);
                climb(scratch)?;
            }
            _ => {}
        }
    }
    if hidden || is_hidden(scratch) {
        return Err(Refusal::Hidden);
    }
    Ok(Resolved { relative: scratch, directory })
}

/// Decodes one segment onto the end of `out`. False if no file name can be meant: one has no slash, and an encoded one
/// must not become a separator; a backslash separates on other systems and for some clients, so two readers of such a
/// path may see two paths, and it stays refused where `..` would remove it.
fn decode(segment: &[u8], out: &mut Vec<u8>) -> Result<bool, Refusal> {
    let mut is_name = true;
    let mut octets = segment.iter();
    while let Some(octet) = octets.next() {
        let octet = match octet {
            b'%' => decode_octet(octets.next(), octets.next()).ok_or(Refusal::Malformed)?,
            _ => *octet,
        };
        match octet {
            // NUL ends a path for the kernel; the others are in no name that a site has, and forge lines in logs
            _ if octet.is_ascii_control() => return Err(Refusal::Malformed),
            b'/' | b'\\' => {
                is_name = false;
                // anything but a separator, so that what is left of the path is still judged
                out.push(b'\\');
            }
            _ => out.push(octet),
        }
    }
    Ok(is_name)
}

/// RFC 3986 section 2.1: two hexadecimal digits of either case.
fn decode_octet(high: Option<&u8>, low: Option<&u8>) -> Option<u8> {
    let digit = |octet: &u8| char::from(*octet).to_digit(16);
    u8::try_from(digit(high?)? << 4 | digit(low?)?).ok()
}

/// Takes the last segment away. RFC 3986 section 5.2.4 lets `..` above the root pass as the root itself, but that is
/// for those who resolve references, and a client does it before it sends: what still climbs was written to break out.
fn climb(path: &mut Vec<u8>) -> Result<(), Refusal> {
    if path.is_empty() {
        return Err(Refusal::Malformed);
    }
    path.truncate(memrchr(b'/', path).unwrap_or(0));
    Ok(())
}

/// Names that begin with a dot are nobody's business (`.git`, `.env`), but for the one that RFC 8615 section 3 gives to
/// clients, at the root only. Names that no file system has are not looked for.
fn is_hidden(relative: &[u8]) -> bool {
    let mut segments = relative.split(|octet| *octet == b'/').enumerate();
    relative.len() > PATH_OCTETS_MAX
        || segments.any(|(place, name)| {
            let dotted = name.starts_with(b".") && !(place == 0 && name == b".well-known");
            dotted || name.len() > SEGMENT_OCTETS_MAX
        })
}

#[cfg(test)]
mod tests {
    use super::Refusal::{Hidden, Malformed};
    use super::*;
    use proptest::prelude::*;

    type Outcome = Result<(Vec<u8>, bool), Refusal>;

    fn outcome(path: &str) -> Outcome {
        resolve(path, &mut Vec::new()).map(|resolved| (resolved.relative.to_vec(), resolved.directory))
    }

    fn file(relative: &[u8]) -> Outcome {
        Ok((relative.to_vec(), false))
    }

    fn directory(relative: &[u8]) -> Outcome {
        Ok((relative.to_vec(), true))
    }

    #[test]
    fn paths_resolve() {
        let table: &[(&str, Outcome)] = &[
            // RFC 3986 section 3.3: segments
            ("/", directory(b"")),
            ("/index.html", file(b"index.html")),
            ("/a/b.c", file(b"a/b.c")),
            ("/a/", directory(b"a")),
            ("/a;b=c,d:@!$&'()*+", file(b"a;b=c,d:@!$&'()*+")),
            ("/a b#c", file(b"a b#c")),
            ("/a.", file(b"a.")),
            ("/a..b", file(b"a..b")),
            ("/caf\u{e9}", file("caf\u{e9}".as_bytes())),
            // RFC 9112 section 3.2.1: an absolute path
            ("", Err(Malformed)),
            ("a", Err(Malformed)),
            ("*", Err(Malformed)),
            ("../a", Err(Malformed)),
            ("%2Fa", Err(Malformed)),
            // RFC 3986 section 2.1: percent-encoding, either case
            ("/a%20b", file(b"a b")),
            ("/%41%5a%5A", file(b"AZZ")),
            ("/%3Fa%23", file(b"?a#")),
            ("/caf%C3%A9", file("caf\u{e9}".as_bytes())),
            ("/%ff%FE", file(b"\xff\xfe")),
            ("/a%20b/", directory(b"a b")),
            ("/%", Err(Malformed)),
            ("/%4", Err(Malformed)),
            ("/a%4/b", Err(Malformed)),
            ("/%zz", Err(Malformed)),
            ("/%4g", Err(Malformed)),
            ("/%+1", Err(Malformed)),
            ("/% 1", Err(Malformed)),
            ("/%u0041", Err(Malformed)),
            ("/%\u{e9}", Err(Malformed)),
            // RFC 3986 section 2.4: decoded exactly once
            ("/%2565", file(b"%65")),
            ("/%25", file(b"%")),
            ("/%252e%252e/a", file(b"%2e%2e/a")),
            ("/%252F", file(b"%2F")),
            // RFC 3986 section 7.3: NUL, and the other control characters
            ("/a%00", Err(Malformed)),
            ("/a\0b", Err(Malformed)),
            ("/a%0d%0ab", Err(Malformed)),
            ("/a\nb", Err(Malformed)),
            ("/%1f", Err(Malformed)),
            ("/%7F", Err(Malformed)),
            ("/\x7f", Err(Malformed)),
            // RFC 3986 section 2.2: an encoded delimiter is no delimiter
            ("/a%2Fb", Err(Hidden)),
            ("/a%2fb", Err(Hidden)),
            ("/%2F", Err(Hidden)),
            ("/..%2F..%2Fetc/passwd", Err(Hidden)),
            ("/.%2F.", Err(Hidden)),
            ("/a%2Fb/../c", Err(Hidden)),
            ("/a\\b", Err(Hidden)),
            ("/a%5Cb", Err(Hidden)),
            ("/..\\..\\etc", Err(Hidden)),
            ("/a%5c/../b", Err(Hidden)),
            // RFC 3986 section 5.2.4: dot segments; section 6.2.2.2: encoded ones are the same
            ("/.", directory(b"")),
            ("/a/.", directory(b"a")),
            ("/a/b/..", directory(b"a")),
            ("/a/..", directory(b"")),
            ("/a/../", directory(b"")),
            ("/a/./b/../c", file(b"a/c")),
            ("/a/b/c/./../../g", file(b"a/g")),
            ("/a/%2e%2e/b", file(b"b")),
            ("/a/.%2E/b", file(b"b")),
            ("/a/%2e/b", file(b"a/b")),
            ("/a/%2e", directory(b"a")),
            ("/..", Err(Malformed)),
            ("/../", Err(Malformed)),
            ("/../a", Err(Malformed)),
            ("/%2e%2e/etc/passwd", Err(Malformed)),
            ("/a/../../b", Err(Malformed)),
            ("/a/../../a/b", Err(Malformed)),
            ("//../a", Err(Malformed)),
            // empty segments, merged before dot segments are removed
            ("//", directory(b"")),
            ("//evil.example", file(b"evil.example")),
            ("/a//b", file(b"a/b")),
            ("/a//", directory(b"a")),
            ("/a//../b", file(b"b")),
            ("/a/.//b", file(b"a/b")),
            // names that begin with a dot; RFC 8615 section 3
            ("/.git/config", Err(Hidden)),
            ("/a/.env", Err(Hidden)),
            ("/a/%2eenv", Err(Hidden)),
            ("/%2Egit/", Err(Hidden)),
            ("/...", Err(Hidden)),
            ("/..a", Err(Hidden)),
            ("/.well-known/acme-challenge/x", file(b".well-known/acme-challenge/x")),
            ("/.well-known", file(b".well-known")),
            ("/%2ewell-known/", directory(b".well-known")),
            ("/a/../.well-known/x", file(b".well-known/x")),
            ("/.well-known/.git", Err(Hidden)),
            ("/a/.well-known/x", Err(Hidden)),
            ("/.well-knownx", Err(Hidden)),
            ("/.Well-Known/x", Err(Hidden)),
            // what dot segments remove was not asked for
            ("/.git/../a", file(b"a")),
            // one verdict, wherever in the path the reasons stand
            ("/.git/%zz", Err(Malformed)),
            ("/a%2Fb/../../..", Err(Malformed)),
        ];
        for (path, expected) in table {
            assert_eq!(outcome(path), *expected, "{path:?}");
        }
    }

    #[test]
    fn what_no_file_system_has_is_hidden() {
        let name = |length| "x".repeat(length);
        let long = |length: usize| format!("/{}", "x/".repeat(length / 2)) + &"y".repeat(length % 2);
        let table = [
            (format!("/{}", name(254)), true),
            (format!("/{}", name(255)), true),
            (format!("/{}", name(256)), false),
            (format!("/a/{}/b", name(256)), false),
            (format!("/{}", "%78".repeat(255)), true),
            (format!("/{}", "%78".repeat(256)), false),
            (format!("/{}/../a", name(256)), true),
            (long(4095), true),
            (long(4097), false),
            (format!("{}z", long(4095)), false),
            (format!("/{}a", "./".repeat(4000)), true),
        ];
        for (path, good) in table {
            let outcome = outcome(&path);
            assert_eq!(outcome.is_ok(), good, "{} octets: {path}", path.len());
            assert!(good || outcome == Err(Hidden));
        }
    }

    #[test]
    fn a_plain_path_is_not_copied() {
        for path in ["/", "/index.html", "/a/b/c.css", "/a/b/", "/a.b-c_d~e"] {
            let mut scratch = Vec::new();
            let relative = resolve(path, &mut scratch).unwrap().relative.as_ptr_range();
            let given = path.as_bytes().as_ptr_range();
            assert!(given.start <= relative.start && relative.end <= given.end, "{path}");
            assert_eq!(scratch.capacity(), 0, "{path}");
        }
    }

    #[test]
    fn a_redirect_stays_on_this_host() {
        let table = [
            // RFC 3986 section 3.3: what a segment may have stays as it is
            ("/a", None, "/a/"),
            ("/a/b", Some("x=1&y=%20/?"), "/a/b/?x=1&y=%20/?"),
            ("/a-b.c_d~e!$&'()*+,;=:@", None, "/a-b.c_d~e!$&'()*+,;=:@/"),
            ("/a", Some(""), "/a/?"),
            // RFC 3986 section 4.2: `//host` would be another host's
            ("//evil.example", None, "/evil.example/"),
            ("//evil.example/..", None, "/"),
            ("///evil.example/%2e/b", None, "/evil.example/b/"),
            ("/http://evil.example", None, "/http:/evil.example/"),
            ("/", None, "/"),
            ("/", Some("q"), "/?q"),
            // RFC 3986 section 2.1: everything else is encoded, in upper case
            ("/a%20b%3F%23%25%22%3c", None, "/a%20b%3F%23%25%22%3C/"),
            ("/%ff[]^`{|}", None, "/%FF%5B%5D%5E%60%7B%7C%7D/"),
            ("/caf\u{e9}", None, "/caf%C3%A9/"),
            ("/%2565", None, "/%2565/"),
            // a query is not decoded, and ends no line (RFC 9110 section 5.5)
            ("/a", Some("\r\nSet-Cookie: a=b\u{e9}#"), "/a/?%0D%0ASet-Cookie:%20a=b%C3%A9%23"),
        ];
        for (path, query, expected) in table {
            let (mut scratch, mut out) = (Vec::new(), Vec::new());
            redirect_target(&resolve(path, &mut scratch).unwrap(), query, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{path}");
        }
    }

    /// What the path of an attack is made of.
    fn hostile_path() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("/"),
            Just("//"),
            Just("."),
            Just(".."),
            Just("/../"),
            Just("/./"),
            Just("%2e"),
            Just("%2E%2e"),
            Just("%2f"),
            Just("%5c"),
            Just("\\"),
            Just("%25"),
            Just("%252e"),
            Just("%00"),
            Just("%"),
            Just("%f"),
            Just("a"),
            Just("b.c"),
            Just(".well-known"),
            Just("%ff"),
            Just("\u{e9}"),
            Just(" "),
        ];
        prop::collection::vec(piece, 0..16).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    /// Segments that clients may have, of any octets but those refused.
    fn relative_path() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![32..127u8, 128..=255u8, Just(b'%')]
            .prop_filter("no separator", |octet| !matches!(octet, b'/' | b'\\'));
        let name = prop::collection::vec(octet, 1..12).prop_filter("not hidden", |name| name[0] != b'.');
        prop::collection::vec(name, 1..6).prop_map(|names| names.join(&b'/'))
    }

    fn check(resolved: &Resolved<'_>) -> Result<(), TestCaseError> {
        let relative = resolved.relative;
        prop_assert!(resolved.directory || !relative.is_empty());
        prop_assert!(!relative.iter().any(|octet| octet.is_ascii_control() || *octet == b'\\'));
        for (place, segment) in relative.split(|octet| *octet == b'/').enumerate() {
            prop_assert!(!segment.is_empty() || relative.is_empty(), "{:?}", resolved);
            let dotted = segment.starts_with(b".");
            prop_assert!(!dotted || (place == 0 && segment == b".well-known"), "{:?}", resolved);
        }
        // what a reader that knows nothing of the rules above makes of it
        use std::{
            ffi::OsStr,
            os::unix::ffi::OsStrExt,
            path::{Component, Path},
        };
        let joined = Path::new("/srv/site").join(OsStr::from_bytes(relative));
        let below = joined.strip_prefix("/srv/site");
        prop_assert!(
            below.is_ok_and(|below| below.components().all(|part| matches!(part, Component::Normal(_))))
        );
        Ok(())
    }

    proptest! {
        #[test]
        fn nothing_leaves_the_root(path in prop_oneof![hostile_path(), "/\\PC{0,40}", any::<String>()]) {
            let mut scratch = Vec::new();
            if let Ok(resolved) = resolve(&path, &mut scratch) {
                check(&resolved)?;
            }
        }

        #[test]
        fn a_path_that_is_borrowed_would_be_rewritten_to_the_same(path in "/[a-c/.]{0,20}") {
            let mut scratch = Vec::new();
            let rewritten = rewrite(&path[1..], &mut scratch).map(|it| (it.relative.to_vec(), it.directory));
            prop_assert_eq!(outcome(&path), rewritten);
        }

        #[test]
        fn what_was_encoded_is_decoded(relative in relative_path(), all in any::<bool>(), slash in any::<bool>()) {
            let encode = |octet: &u8| if all && *octet != b'/' { format!("%{octet:02x}") } else {
                percent_encode(&[*octet], ENCODED_IN_PATH).to_string()
            };
            let path: String = relative.iter().map(encode).collect();
            let path = format!("/{path}{}", if slash { "/" } else { "" });
            prop_assert_eq!(outcome(&path), Ok((relative, slash)));
        }

        #[test]
        fn a_redirect_leads_to_the_same(path in hostile_path(), query in prop::option::of("[!-~]{0,8}|.{0,8}")) {
            let (mut scratch, mut out) = (Vec::new(), Vec::new());
            let Ok(resolved) = resolve(&path, &mut scratch) else { return Ok(()) };
            redirect_target(&resolved, query.as_deref(), &mut out);
            let target = String::from_utf8(out).unwrap();
            prop_assert!(target.bytes().all(|octet| octet.is_ascii_graphic()), "{}", target);
            prop_assert!(target.starts_with('/') && !target.starts_with("//"), "{}", target);
            let there = target.split_once('?').map_or(target.as_str(), |(path, _)| path);
            prop_assert_eq!(outcome(there), Ok((resolved.relative.to_vec(), true)));
        }
    }
}
