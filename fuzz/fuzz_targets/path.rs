//! Any path a client may send: what comes out stays below the root, and a redirect to it leads to the same place on
//! this host.
//!
//! `cargo fuzz run path --sanitizer none`

#![no_main]

use libfuzzer_sys::fuzz_target;
use uringd::files::path::{redirect_target, resolve};

fuzz_target!(|target: &str| {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut scratch = Vec::new();
    let Ok(resolved) = resolve(path, &mut scratch) else { return };
    let relative = resolved.relative;
    assert!(resolved.directory || !relative.is_empty());
    assert!(!relative.iter().any(|octet| octet.is_ascii_control() || *octet == b'\\'));
    for (place, segment) in relative.split(|octet| *octet == b'/').enumerate() {
        assert!(!segment.is_empty() || relative.is_empty());
        assert!(!segment.starts_with(b".") || (place == 0 && segment == b".well-known"));
        assert!(segment.len() <= 255);
    }

    let mut location = Vec::new();
    redirect_target(&resolved, query, &mut location);
    let location = String::from_utf8(location).expect("ASCII");
    assert!(location.bytes().all(|octet| octet.is_ascii_graphic()), "{location}");
    assert!(location.starts_with('/') && !location.starts_with("//"), "{location}");
    let there = location.split('?').next().unwrap_or_default();
    let mut scratch = Vec::new();
    let again = resolve(there, &mut scratch).expect("it was resolved before");
    assert_eq!((again.relative, again.directory), (relative, true));
});
