//! A seccomp profile in Docker's format, as the filter that an engine would make of it: for this architecture, and for a
//! container without capabilities. Names that this machine's headers do not know are left out, as engines do.

use crate::common::filter::under;
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::process::{Command, Stdio};

const ENOSYS: u64 = libc::ENOSYS as u64;

/// Runs `then` under the profile; children inherit it.
pub fn with_profile<T: Send>(profile: &Value, then: impl FnOnce() -> T + Send) -> T {
    let numbers = numbers();
    let (mut allowed, mut unknown) = (BTreeMap::<i64, Vec<SeccompRule>>::new(), Vec::new());
    for rule in profile["syscalls"].as_array().unwrap().iter().filter(|rule| applies(rule)) {
        let answer = rule["action"].as_str().unwrap();
        let missing = answer == "SCMP_ACT_ERRNO" && rule["errnoRet"].as_u64() == Some(ENOSYS);
        if answer != "SCMP_ACT_ALLOW" && !missing {
            continue;
        }
        for number in rule["names"].as_array().unwrap().iter().filter_map(|name| numbers.get(name.as_str()?))
        {
            if missing {
                unknown.push((*number, vec![]));
            }
            match conditions(rule) {
                // no condition at all: whatever the others say
                None => drop(allowed.insert(*number, vec![])),
                Some(conditions) => match allowed.get_mut(number) {
                    Some(rules) if rules.is_empty() => {}
                    Some(rules) => rules.push(conditions),
                    None => drop(allowed.insert(*number, vec![conditions])),
                },
            }
        }
    }
    assert!(allowed.len() > 150, "{}", allowed.len());
    let errno = profile["defaultErrnoRet"].as_u64().unwrap_or(libc::EPERM as u64);
    // a filter has one answer for what it matches; the strictest of two counts (seccomp(2))
    let refused = SeccompAction::Errno(libc::ENOSYS as u32);
    under(unknown, SeccompAction::Allow, refused, || {
        under(allowed, SeccompAction::Errno(errno as u32), SeccompAction::Allow, then)
    })
}

/// For a container that has no capabilities, on this architecture.
fn applies(rule: &Value) -> bool {
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let list = |of: &str, what: &str| rule[of][what].as_array().cloned().unwrap_or_default();
    let here = |of: &str| list(of, "arches").iter().any(|name| name == architecture);
    let included =
        list("includes", "caps").is_empty() && (list("includes", "arches").is_empty() || here("includes"));
    included && !here("excludes")
}

fn conditions(rule: &Value) -> Option<SeccompRule> {
    let arguments = rule["args"].as_array().filter(|arguments| !arguments.is_empty())?;
    let conditions = arguments.iter().map(|argument| {
        let number = |name: &str| argument[name].as_u64().unwrap_or(0);
        let (operator, value) = match argument["op"].as_str().unwrap() {
            "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(number("value")), number("valueTwo")),
            "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, number("value")),
            "SCMP_CMP_NE" => (SeccompCmpOp::Ne, number("value")),
            "SCMP_CMP_LT" => (SeccompCmpOp::Lt, number("value")),
            "SCMP_CMP_GT" => (SeccompCmpOp::Gt, number("value")),
            other => panic!("{other}"),
        };
        SeccompCondition::new(number("index") as u8, SeccompCmpArgLen::Qword, operator, value).unwrap()
    });
    Some(SeccompRule::new(conditions.collect()).unwrap())
}

/// The numbers of system calls by name, from the C library's headers.
fn numbers() -> HashMap<String, i64> {
    let mut compiler = Command::new("cc");
    compiler
        .args(["-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"])
        .stderr(Stdio::inherit());
    let output = compiler.output().expect("a C compiler, which Rust links with");
    let text = String::from_utf8(output.stdout).unwrap();
    let defined: HashMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("#define ")?.split_once(' ')).collect();
    let number = |name: &str| {
        let value = defined.get(name)?;
        value.parse().ok().or_else(|| defined.get(value)?.parse().ok())
    };
    let calls = defined.keys().filter_map(|name| Some((name.strip_prefix("__NR_")?, number(name)?)));
    calls.map(|(name, number)| (name.to_owned(), number)).collect()
}
