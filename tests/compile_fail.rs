//! The mistakes that programs make first, and what the compiler says of them: `compile_fail/` has one of each, with the
//! message beside it. A message that does not say what to do is this library's fault, as far as a library can help it
//! (`#[diagnostic]`, `#[must_use]`, the place of a bound).
//!
//! `TRYBUILD=overwrite cargo test --test compile_fail` records them anew; then read them, and set the version below.
#![cfg(feature = "json")] // the messages list what there is with it

mod common;

use std::process::Command;

/// The compiler that the messages were recorded with. Another one may use other words.
const RECORDED_WITH: &str = "1.95";

#[test]
fn mistakes_are_explained() {
    let said = Command::new("rustc").arg("--version").output().expect("the compiler of this test").stdout;
    let said = String::from_utf8(said).expect("text");
    // rustc 1.95.0 (59807616e 2026-04-14)
    let version = said.split(' ').nth(1).expect("a version");
    let (release, patch) = version.rsplit_once('.').expect("three numbers");
    if release != RECORDED_WITH || patch.contains('-') {
        return common::skip(&format!("the messages are those of Rust {RECORDED_WITH}, this is {version}"));
    }
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
