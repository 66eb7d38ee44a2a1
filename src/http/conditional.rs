//! What a request makes its answer depend on: the preconditions of RFC 9110 section 13, and beside them the two other
//! fields that choose what of a file is sent.
//!
//! `Asked` is read from the header fields in one pass and can outlive them, `evaluate` says whether to send at all,
//! `range_applies` whether the whole instead of a part.
//!
//! Neighbours: made from a `request`'s fields; `range` and `accept_encoding` read the values that it finds.

use std::borrow::Cow;
use std::time::SystemTime;

/// What identifies the file as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validators<'a> {
    /// The strong entity tag as the ETag field has it, in its quotes.
    pub etag: &'a [u8],
    /// What Last-Modified says, in seconds since the epoch.
    pub modified_secs: u64,
}

/// The values of the fields that matter, as received.
///
/// A list in several field lines is joined with commas (RFC 9110 section 5.3). Of a field that has one member a second
/// line makes the value empty, which is invalid in every one of them: dates and ranges are then ignored (sections
/// 13.1.3, 13.1.4 and 14.2), and a range under such an If-Range does not apply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Asked<'a> {
    pub if_match: Option<Cow<'a, [u8]>>,
    pub if_none_match: Option<Cow<'a, [u8]>>,
    pub if_modified_since: Option<Cow<'a, [u8]>>,
    pub if_unmodified_since: Option<Cow<'a, [u8]>>,
    pub if_range: Option<Cow<'a, [u8]>>,
    pub range: Option<Cow<'a, [u8]>>,
    pub accept_encoding: Option<Cow<'a, [u8]>>,
}

/// What the preconditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Perform the method.
    Proceed,
    /// 304: the client has it already.
    NotModified,
    /// 412: it is not what the client believes it to be.
    PreconditionFailed,
}

/// An entity tag (section 8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag<'a> {
    weak: bool,
    /// With its quotes.
    opaque: &'a [u8],
}

/// The precedence of section 13.2.2, for a file that exists. (Its last step, If-Range, is `range_applies`.)
///
/// A list that is malformed anywhere matches nothing: If-None-Match then sends once too often, If-Match answers 412. A
/// date that is invalid is ignored, as is a date beside the tags that replace it.
pub fn evaluate(asked: &Asked<'_>, method_is_get_or_head: bool, validators: &Validators<'_>) -> Verdict {
    if !is_still_the_same(asked, validators) {
        return Verdict::PreconditionFailed;
    }
    match (client_has_it(asked, method_is_get_or_head, validators), method_is_get_or_head) {
        (false, _) => Verdict::Proceed,
        (true, true) => Verdict::NotModified,
        (true, false) => Verdict::PreconditionFailed,
    }
}

/// Whether the part may be sent that Range asks for: there is no If-Range, or it names exactly this file (section
/// 13.1.5). By date that is only as sure as the file's clock: two changes within a second look like one, which is why
/// section 13.1.5 lets clients ask by date only where they were given no tag.
pub fn range_applies(asked: &Asked<'_>, validators: &Validators<'_>) -> bool {
    let Some(value) = asked.if_range.as_deref() else {
        return true;
    };
    match EntityTag::parse(value) {
        Some(tag) => EntityTag::parse(validators.etag).is_some_and(|current| current.matches_strongly(&tag)),
        None => date_secs(value) == Some(validators.modified_secs),
    }
}

/// Steps 1 and 2.
fn is_still_the_same(asked: &Asked<'_>, validators: &Validators<'_>) -> bool {
    if let Some(list) = &asked.if_match {
        return names(list, validators, |ours, named| ours.matches_strongly(named));
    }
    let until = asked.if_unmodified_since.as_deref().and_then(date_secs);
    until.is_none_or(|until| validators.modified_secs <= until)
}

/// Steps 3 and 4.
fn client_has_it(asked: &Asked<'_>, method_is_get_or_head: bool, validators: &Validators<'_>) -> bool {
    if let Some(list) = &asked.if_none_match {
        return names(list, validators, |ours, named| ours.matches_weakly(named));
    }
    let since = asked.if_modified_since.as_deref().filter(|_| method_is_get_or_head).and_then(date_secs);
    since.is_some_and(|since| validators.modified_secs <= since)
}

/// `*` or a list of tags, one of which matches. The list is read to its end, as it must be well-formed.
fn names(
    list: &[u8],
    validators: &Validators<'_>,
    matches: impl Fn(&EntityTag<'_>, &EntityTag<'_>) -> bool,
) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    let Some(current) = EntityTag::parse(validators.etag) else {
        return false;
    };
    let mut found = false;
    loop {
        rest = skip_empty_elements(rest);
        if rest.is_empty() {
            return found;
        }
        let Some((tag, behind)) = EntityTag::split_first(rest) else {
            return false;
        };
        found |= matches(&current, &tag);
        rest = behind.trim_ascii_start();
        if !matches!(rest.first(), None | Some(b',')) {
            return false;
        }
    }
}

/// Section 5.6.1.2: a recipient parses and ignores a reasonable number of them; the head is bounded.
fn skip_empty_elements(list: &[u8]) -> &[u8] {
    let start = list.iter().position(|c| !matches!(c, b' ' | b'\t' | b',')).unwrap_or(list.len());
    &list[start..]
}

/// All three formats of section 5.6.7, as seconds since the epoch.
fn date_secs(value: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    date.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

impl<'a> EntityTag<'a> {
    /// A value that is one tag and nothing else.
    pub fn parse(value: &'a [u8]) -> Option<EntityTag<'a>> {
        let (tag, behind) = EntityTag::split_first(value)?;
        behind.is_empty().then_some(tag)
    }

    /// entity-tag = [ %s"W/" ] DQUOTE *etagc DQUOTE. Commas may stand inside.
    fn split_first(value: &'a [u8]) -> Option<(EntityTag<'a>, &'a [u8])> {
        let (weak, opaque) = match value.strip_prefix(b"W/") {
            Some(opaque) => (true, opaque),
            None => (false, value),
        };
        let inside = opaque.strip_prefix(b"\"")?;
        let end = inside.iter().position(|&c| !is_etagc(c))?;
        let (opaque, behind) = opaque.split_at_checked(end + 2).filter(|_| inside[end] == b'"')?;
        Some((EntityTag { weak, opaque }, behind))
    }

    /// Section 8.8.3.2: both are not weak, and the same octet by octet.
    pub fn matches_strongly(&self, other: &EntityTag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Section 8.8.3.2: the same octet by octet, weak or not.
    pub fn matches_weakly(&self, other: &EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }
}

/// %x21 / %x23-7E / obs-text (section 8.8.3).
fn is_etagc(octet: u8) -> bool {
    octet > b' ' && octet != b'"' && octet != 0x7f
}

impl<'a> Asked<'a> {
    /// Reads the fields in one pass. Allocates only where a list comes in several lines.
    #[inline]
    pub fn read(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Asked<'a> {
        let mut asked = Asked::default();
        for (name, value) in fields {
            // the length tells most fields apart from these without looking at a letter
            match name.len() {
                5 | 8 | 13 | 15 | 17 | 19 => asked.note(name, value),
                _ => {}
            }
        }
        asked
    }

    fn note(&mut self, name: &str, value: &'a [u8]) {
        match name.len() {
            5 if name.eq_ignore_ascii_case("range") => set(&mut self.range, value),
            8 if name.eq_ignore_ascii_case("if-match") => append(&mut self.if_match, value),
            8 if name.eq_ignore_ascii_case("if-range") => set(&mut self.if_range, value),
            13 if name.eq_ignore_ascii_case("if-none-match") => append(&mut self.if_none_match, value),
            15 if name.eq_ignore_ascii_case("accept-encoding") => append(&mut self.accept_encoding, value),
            17 if name.eq_ignore_ascii_case("if-modified-since") => set(&mut self.if_modified_since, value),
            19 if name.eq_ignore_ascii_case("if-unmodified-since") => {
                set(&mut self.if_unmodified_since, value)
            }
            _ => {}
        }
    }

    /// A copy that does not borrow from the request.
    pub fn into_owned(self) -> Asked<'static> {
        let owned = |value: Option<Cow<'a, [u8]>>| value.map(|value| Cow::Owned(value.into_owned()));
        Asked {
            if_match: owned(self.if_match),
            if_none_match: owned(self.if_none_match),
            if_modified_since: owned(self.if_modified_since),
            if_unmodified_since: owned(self.if_unmodified_since),
            if_range: owned(self.if_range),
            range: owned(self.range),
            accept_encoding: owned(self.accept_encoding),
        }
    }
}

/// A field of one member: the second line makes it invalid.
fn set<'a>(slot: &mut Option<Cow<'a, [u8]>>, value: &'a [u8]) {
    *slot = Some(Cow::Borrowed(if slot.is_none() { value } else { b"" }));
}

/// A list: lines are joined.
fn append<'a>(slot: &mut Option<Cow<'a, [u8]>>, value: &'a [u8]) {
    match slot {
        None => *slot = Some(Cow::Borrowed(value)),
        Some(list) => {
            let list = list.to_mut();
            list.extend_from_slice(b", ");
            list.extend_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Validators<'static> = Validators { etag: b"\"now\"", modified_secs: 784_111_777 };
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    type Fields<'a> = [(&'a str, &'a str)];

    fn asked<'a>(fields: &'a Fields<'a>) -> Asked<'a> {
        Asked::read(fields.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn tags_and_how_they_compare() {
        // RFC 9110 section 8.8.3.2: the table, and whether two values are tags at all
        let table = [
            ("W/\"1\"", "W/\"1\"", Some((false, true))),
            ("W/\"1\"", "W/\"2\"", Some((false, false))),
            ("W/\"1\"", "\"1\"", Some((false, true))),
            ("\"1\"", "\"1\"", Some((true, true))),
            ("\"\"", "\"\"", Some((true, true))),
            ("\"a\"", "\"A\"", Some((false, false))),
            ("\"a,\\\u{e9}\"", "\"a,\\\u{e9}\"", Some((true, true))),
            // section 8.8.3: entity-tag = [ weak ] opaque-tag
            ("1", "\"1\"", None),
            ("w/\"1\"", "\"1\"", None),
            ("W\"1\"", "\"1\"", None),
            ("W/", "\"1\"", None),
            ("\"", "\"1\"", None),
            ("\"1", "\"1\"", None),
            ("\"1 2\"", "\"1\"", None),
            ("\"1\" ", "\"1\"", None),
            ("\"1\"2", "\"1\"", None),
            ("\"1\x7f\"", "\"1\"", None),
            ("", "\"1\"", None),
        ];
        for (one, other, expected) in table {
            let pair = EntityTag::parse(one.as_bytes()).zip(EntityTag::parse(other.as_bytes()));
            let verdicts =
                pair.map(|(one, other)| (one.matches_strongly(&other), one.matches_weakly(&other)));
            assert_eq!(verdicts, expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn preconditions_and_their_verdicts() {
        use Verdict::{NotModified, PreconditionFailed, Proceed};
        // fields, the verdict for GET and HEAD, the verdict for others
        let table: &[(&Fields, Verdict, Verdict)] = &[
            (&[], Proceed, Proceed),
            (&[("Range", "bytes=0-1"), ("If-Range", "\"old\"")], Proceed, Proceed),
            // RFC 9110 section 13.1.1: If-Match compares strongly
            (&[("If-Match", "\"now\"")], Proceed, Proceed),
            (&[("If-Match", "*")], Proceed, Proceed),
            (&[("If-Match", " * ")], Proceed, Proceed),
            (&[("If-Match", "\"old\", \"now\"")], Proceed, Proceed),
            (&[("If-Match", "\"a,\" ,, \t\"now\" ,")], Proceed, Proceed),
            (&[("If-Match", "\"old\"")], PreconditionFailed, PreconditionFailed),
            (&[("If-Match", "W/\"now\"")], PreconditionFailed, PreconditionFailed),
            // a malformed list matches nothing
            (&[("If-Match", "now")], PreconditionFailed, PreconditionFailed),
            (&[("If-Match", "")], PreconditionFailed, PreconditionFailed),
            (&[("If-Match", ",")], PreconditionFailed, PreconditionFailed),
            (&[("If-Match", "\"now\", x")], PreconditionFailed, PreconditionFailed),
            (&[("If-Match", "\"now\" \"old\"")], PreconditionFailed, PreconditionFailed),
            (&[("If-Match", "\"now\", *")], PreconditionFailed, PreconditionFailed),
            (&[("If-Match", "\"now\";q=1")], PreconditionFailed, PreconditionFailed),
            // section 13.1.2: If-None-Match compares weakly
            (&[("If-None-Match", "\"now\"")], NotModified, PreconditionFailed),
            (&[("If-None-Match", "W/\"now\"")], NotModified, PreconditionFailed),
            (&[("If-None-Match", "*")], NotModified, PreconditionFailed),
            (&[("If-None-Match", "\"old\",W/\"now\"")], NotModified, PreconditionFailed),
            (&[("If-None-Match", "\"old\""), ("If-None-Match", "\"now\"")], NotModified, PreconditionFailed),
            (&[("If-None-Match", "\"old\"")], Proceed, Proceed),
            (&[("If-None-Match", "now")], Proceed, Proceed),
            (&[("If-None-Match", "\"now\" x")], Proceed, Proceed),
            (&[("If-None-Match", "\"now\", \"")], Proceed, Proceed),
            (&[("If-None-Match", "*"), ("If-None-Match", "*")], Proceed, Proceed),
            // section 13.1.3: If-Modified-Since, GET and HEAD only
            (&[("If-Modified-Since", BEFORE)], Proceed, Proceed),
            (&[("If-Modified-Since", SAME)], NotModified, Proceed),
            (&[("If-Modified-Since", AFTER)], NotModified, Proceed),
            // section 5.6.7: the obsolete formats
            (&[("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")], NotModified, Proceed),
            (&[("If-Modified-Since", "Sun Nov  6 08:49:37 1994")], NotModified, Proceed),
            // section 13.1.3: ignored if invalid or more than one member
            (&[("If-Modified-Since", "")], Proceed, Proceed),
            (&[("If-Modified-Since", "784111777")], Proceed, Proceed),
            (&[("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 CET")], Proceed, Proceed),
            (&[("If-Modified-Since", "Mon, 06 Nov 1994 08:49:37 GMT")], Proceed, Proceed),
            (&[("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GM\u{422}")], Proceed, Proceed),
            (&[("If-Modified-Since", SAME), ("If-Modified-Since", SAME)], Proceed, Proceed),
            // section 13.1.3: ignored beside If-None-Match
            (&[("If-None-Match", "\"old\""), ("If-Modified-Since", SAME)], Proceed, Proceed),
            (&[("If-None-Match", ""), ("If-Modified-Since", SAME)], Proceed, Proceed),
            (&[("If-None-Match", "\"now\""), ("If-Modified-Since", BEFORE)], NotModified, PreconditionFailed),
            // section 13.1.4: If-Unmodified-Since
            (&[("If-Unmodified-Since", BEFORE)], PreconditionFailed, PreconditionFailed),
            (&[("If-Unmodified-Since", SAME)], Proceed, Proceed),
            (&[("If-Unmodified-Since", AFTER)], Proceed, Proceed),
            (&[("If-Unmodified-Since", "yesterday")], Proceed, Proceed),
            (&[("If-Unmodified-Since", BEFORE), ("If-Unmodified-Since", BEFORE)], Proceed, Proceed),
            // section 13.1.4: ignored beside If-Match
            (&[("If-Match", "\"now\""), ("If-Unmodified-Since", BEFORE)], Proceed, Proceed),
            (
                &[("If-Match", "\"old\""), ("If-Unmodified-Since", AFTER)],
                PreconditionFailed,
                PreconditionFailed,
            ),
            // section 13.2.2: the precedence
            (&[("If-None-Match", "*"), ("If-Match", "\"old\"")], PreconditionFailed, PreconditionFailed),
            (&[("If-None-Match", "*"), ("If-Match", "\"now\"")], NotModified, PreconditionFailed),
            (&[("If-Modified-Since", SAME), ("If-Unmodified-Since", SAME)], NotModified, Proceed),
            (
                &[("If-Modified-Since", SAME), ("If-Unmodified-Since", BEFORE)],
                PreconditionFailed,
                PreconditionFailed,
            ),
        ];
        for (fields, get, other) in table {
            assert_eq!(evaluate(&asked(fields), true, &NOW), *get, "GET {fields:?}");
            assert_eq!(evaluate(&asked(fields), false, &NOW), *other, "PUT {fields:?}");
        }
    }

    #[test]
    fn whether_a_range_applies() {
        let table: &[(&Fields, bool)] = &[
            (&[], true),
            // RFC 9110 section 13.1.5: strong comparison, exact date
            (&[("If-Range", "\"now\"")], true),
            (&[("If-Range", "W/\"now\"")], false),
            (&[("If-Range", "\"old\"")], false),
            (&[("If-Range", SAME)], true),
            (&[("If-Range", "Sunday, 06-Nov-94 08:49:37 GMT")], true),
            (&[("If-Range", BEFORE)], false),
            (&[("If-Range", AFTER)], false),
            (&[("If-Range", "")], false),
            (&[("If-Range", "*")], false),
            (&[("If-Range", "now")], false),
            (&[("If-Range", "\"now\", \"old\"")], false),
            (&[("If-Range", "\"now\""), ("If-Range", "\"now\"")], false),
        ];
        for (fields, expected) in table {
            assert_eq!(range_applies(&asked(fields), &NOW), *expected, "{fields:?}");
        }
    }

    #[test]
    fn a_weak_tag_of_ours_is_never_strong() {
        let weak = Validators { etag: b"W/\"now\"", ..NOW };
        assert!(!range_applies(&asked(&[("If-Range", "W/\"now\"")]), &weak));
        assert_eq!(evaluate(&asked(&[("If-Match", "W/\"now\"")]), true, &weak), Verdict::PreconditionFailed);
        assert_eq!(evaluate(&asked(&[("If-None-Match", "\"now\"")]), true, &weak), Verdict::NotModified);
    }

    #[test]
    fn fields_are_told_apart_and_lists_joined() {
        let fields = [
            ("Host", "a"),
            ("RANGE", "bytes=0-1"),
            ("if-match", "\"a\""),
            ("If-Range", "\"b\""),
            ("Authorization", "x"),
            ("If-None-Match", "\"c\""),
            ("IF-MATCH", "\"d\""),
            ("Accept-Language", "x"),
            ("Accept-Encoding", "br"),
            ("accept-encoding", "gzip"),
            ("accept-encoding", ""),
            ("If-Modified-Since", "e"),
            ("Transfer-Encoding", "x"),
            ("If-Unmodified-Since", "f"),
            ("Sec-Websocket-Proto", "x"),
        ];
        let read = asked(&fields);
        let expected = Asked {
            if_match: Some(Cow::Borrowed(b"\"a\", \"d\"")),
            if_none_match: Some(Cow::Borrowed(b"\"c\"")),
            if_modified_since: Some(Cow::Borrowed(b"e")),
            if_unmodified_since: Some(Cow::Borrowed(b"f")),
            if_range: Some(Cow::Borrowed(b"\"b\"")),
            range: Some(Cow::Borrowed(b"bytes=0-1")),
            accept_encoding: Some(Cow::Borrowed(b"br, gzip, ")),
        };
        assert_eq!(read, expected);
        assert!(matches!(read.range, Some(Cow::Borrowed(_))));
        assert_eq!(read.into_owned(), expected);
        // RFC 9110 section 14.2: Range is not a list
        let twice = asked(&[("Range", "bytes=0-1"), ("Range", "bytes=0-1"), ("Range", "bytes=0-1")]).range;
        assert_eq!(twice.as_deref(), Some(&b""[..]));
    }

    fn tag() -> impl Strategy<Value = String> {
        "(W/)?\"(now|[ab,]{0,2})\""
    }

    proptest! {
        #[test]
        fn a_list_names_the_file_if_one_of_its_tags_does(
            tags in prop::collection::vec(tag(), 1..6),
            separator in "[ \t]{0,2},[ \t,]{0,3}",
        ) {
            let list = tags.join(&separator);
            let fields = [("If-Match", &*list)];
            let strong = evaluate(&asked(&fields), true, &NOW) == Verdict::Proceed;
            prop_assert_eq!(strong, tags.iter().any(|tag| tag == "\"now\""));
            let fields = [("If-None-Match", &*list)];
            let weak = evaluate(&asked(&fields), true, &NOW) == Verdict::NotModified;
            prop_assert_eq!(weak, tags.iter().any(|tag| tag.trim_start_matches("W/") == "\"now\""));
            // RFC 9110 section 5.3: several lines are one list
            let lines = tags.iter().map(|tag| ("if-none-match", tag.as_bytes()));
            prop_assert_eq!(evaluate(&Asked::read(lines), true, &NOW) == Verdict::NotModified, weak);
        }

        #[test]
        fn any_values_give_the_same_verdict_borrowed_and_owned(
            fields in prop::collection::vec((
                prop::sample::select(vec![
                    "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
                ]),
                prop_oneof![
                    tag().prop_map(String::into_bytes),
                    prop::sample::select(vec![SAME, BEFORE, AFTER, "*"]).prop_map(|value| value.as_bytes().to_vec()),
                    prop::collection::vec(any::<u8>(), 0..12),
                ],
            ), 0..6),
            get in any::<bool>(),
        ) {
            let asked = Asked::read(fields.iter().map(|(name, value)| (*name, &value[..])));
            let owned = asked.clone().into_owned();
            prop_assert_eq!(evaluate(&asked, get, &NOW), evaluate(&owned, get, &NOW));
            prop_assert_eq!(range_applies(&asked, &NOW), range_applies(&owned, &NOW));
            prop_assert!(get || evaluate(&asked, get, &NOW) != Verdict::NotModified);
        }
    }
}
