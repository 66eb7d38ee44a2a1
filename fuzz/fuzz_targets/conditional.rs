//! Any values in the fields that a file's answer depends on: nothing panics, a part lies in the file and is not empty,
//! and only a coding that is at hand is chosen.
//!
//! The input is text: the file's length in the first line, then `name: value` lines.
//!
//! `cargo fuzz run conditional --sanitizer none`

#![no_main]

use libfuzzer_sys::fuzz_target;
use uringd::http::accept_encoding::{Coding, Codings, choose};
use uringd::http::conditional::{Asked, Validators, Verdict, evaluate, range_applies};
use uringd::http::range::{Ranged, resolve};

const NOW: Validators<'static> = Validators { etag: b"\"now\"", modified_secs: 784_111_777 };
const GZIP: Codings = Codings::IDENTITY.with(Coding::Gzip);
const ALL: Codings = GZIP.with(Coding::Zstd).with(Coding::Brotli);

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|&octet| octet == b'\n');
    let len = lines.next().and_then(|len| std::str::from_utf8(len).ok()?.parse().ok()).unwrap_or(1000);
    let asked = Asked::read(lines.filter_map(field));
    check_verdicts(&asked);
    check_range(asked.range.as_deref().unwrap_or(input), len);
    check_coding(asked.accept_encoding.as_deref());
});

fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|&octet| octet == b':')?;
    Some((std::str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii()))
}

fn check_verdicts(asked: &Asked<'_>) {
    let owned = asked.clone().into_owned();
    for get in [true, false] {
        let verdict = evaluate(asked, get, &NOW);
        assert_eq!(verdict, evaluate(&owned, get, &NOW));
        assert!(get || verdict != Verdict::NotModified);
    }
    let applies = range_applies(asked, &NOW);
    assert_eq!(applies, range_applies(&owned, &NOW));
    assert!(applies || asked.if_range.is_some());
}

fn check_range(value: &[u8], len: u64) {
    if let Ranged::Part(part) = resolve(value, len) {
        assert!(part.start < part.end && part.end <= len);
    }
}

fn check_coding(accept: Option<&[u8]>) {
    for available in [Codings::IDENTITY, GZIP, ALL] {
        let chosen = choose(accept, available);
        assert!(chosen.is_none_or(|coding| available.contains(coding)));
        // a file that is at hand in more codings is never acceptable in fewer
        assert!(chosen.is_none() || choose(accept, ALL).is_some());
    }
    assert!(accept.is_some() || choose(accept, ALL) == Some(Coding::Identity));
}
