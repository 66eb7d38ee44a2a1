//! What `uringd --root DIR` promises: a table of requests with the sections of the RFCs that decide them, what happens
//! when files change under their readers, what all that may cost, and that nothing outside the root is ever sent.
//!
//! Neighbours: `tests/files/cases.rs` is the table; `tests/common/sockets.rs` tells how far a download is.

#[path = "files/cases.rs"]
mod cases;
mod common;

use cases::{BIG_OCTETS, Case, Expect, MODIFIED, NAME_MAX, cases};
use common::sockets::Sockets;
use common::*;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::socket::{setsockopt, sockopt};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// Follows every case, to see whether the connection goes on.
const NEXT: &str = "GET /next.txt HTTP/1.1\r\nHost: x\r\n\r\n";
const NEXT_CONTENT: &[u8] = b"next";
const PAGE: &[u8] = b"<p>there is nothing here\n";
/// Lies outside the root, and in what is hidden below it.
const CANARY: &str = "the canary sings";
/// A change is seen within about a second; the rest is the machine's noise.
const SEEN_WITHIN: Duration = Duration::from_secs(3);
/// What a worker's anonymous memory may differ by for reasons that are not the client's.
const SLACK_KIB: u64 = 4 * 1024;
/// Does not fit into the buffers of a connection whose client does not read.
const LONG_OCTETS: usize = 8 * 1024 * 1024 + 1000;
const PAGE_OCTETS: u64 = 4096;

// ---- the tree ----

/// A directory that is served, and what lies around it.
struct Tree {
    folder: TempDir,
    root: PathBuf,
}

impl Tree {
    /// Nothing but `next.txt`.
    fn bare() -> Tree {
        let folder = tempfile::tempdir().unwrap();
        // for whoever the workers run as
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let root = folder.path().join("site");
        fs::create_dir(&root).unwrap();
        let tree = Tree { folder, root };
        tree.write("next.txt", NEXT_CONTENT);
        tree
    }

    /// What the table and the property need.
    fn whole() -> Tree {
        let tree = Tree::bare();
        tree.write("index.html", "<p>root\n");
        tree.write("404.html", PAGE);
        tree.write("a.txt", "abcdefghijklmnopqrstuvwxyz");
        tree.write("b.txt", "abcdefghijklmnopqrstuvwxyz");
        tree.write("empty.txt", "");
        tree.write("big.bin", pattern(BIG_OCTETS as usize, 1));
        tree.write(NAME_MAX, "a long name");
        for name in ["a b.txt", "a+b;c=d,e.txt", "%41.txt", "caf\u{e9}.txt", "q?#.txt", "none"] {
            tree.write(name, name);
        }
        fs::write(tree.root.join(OsStr::from_bytes(b"\xff.bin")), "odd").unwrap();
        for kind in
            "html HTM css js mjs txt json svg png wasm woff2 pdf unheard-of".split(' ').map(str::to_owned)
        {
            tree.write(&format!("t.{kind}"), kind);
        }
        tree.write("dir/index.html", "<p>dir\n");
        tree.write("dir/b.txt", "below\n");
        tree.write("dir/bare/x.txt", "x");
        tree.write("odd/index.html/x.txt", "x");
        tree.write("emp ty\u{e9}/x.txt", "x");
        tree.write("evil.example/x.txt", "x");
        tree.write(".well-known/security.txt", "call us");
        for name in [".hidden", ".git/config", "dir/.env", "..data", "...", ".well-known/.hidden"] {
            tree.write(name, CANARY);
        }
        tree.write("dir/.well-known/x", CANARY);
        tree.write(".well-knowns/x", CANARY);
        tree.write_compressed();
        tree.write_around();
        tree.write_links();
        tree.write_what_is_no_file();
        tree
    }

    fn write_compressed(&self) {
        self.write("x.css", "as it is");
        self.write("x.css.br", "compressed by brotli");
        self.write("x.css.zst", "compressed by zstd");
        self.write("x.css.gz", "compressed by gzip!");
        self.write("g.js", "as it is");
        self.write("g.js.gz", "compressed by gzip");
        self.write("z/index.html", "as it is");
        self.write("z/index.html.gz", "compressed by gzip");
        self.write("only.txt.gz", "compressed by gzip");
        self.write("out-sibling.txt", "as it is");
        self.link("../canary.txt", "out-sibling.txt.gz");
        self.write("dir-sibling.txt", "as it is");
        fs::create_dir(self.root.join("dir-sibling.txt.gz")).unwrap();
    }

    /// Beside the root, above it, and in a directory whose name begins like the root's.
    fn write_around(&self) {
        for name in ["canary.txt", "index.html", "site-secret/canary.txt", "site-secret/index.html"] {
            self.write(&format!("../{name}"), CANARY);
        }
    }

    fn write_links(&self) {
        let outside = self.folder.path();
        self.link("a.txt", "link.txt");
        self.link("../a.txt", "dir/up.txt");
        self.link("dir", "link-dir");
        self.link("../canary.txt", "out.txt");
        self.link("../site-secret", "out-dir");
        self.link("../../canary.txt", "dir/deep.txt");
        self.link("../site/a.txt", "around.txt");
        self.link(outside.join("canary.txt"), "abs.txt");
        self.link(outside, "abs-dir");
        self.link(outside.join("site/a.txt"), "abs-in.txt");
        self.link(outside.join("site-secret"), "alike-dir");
        self.link("loop.txt", "loop.txt");
        self.link("nowhere.txt", "dangling.txt");
        self.link("/proc/self", "proc-link");
    }

    fn write_what_is_no_file(&self) {
        nix::unistd::mkfifo(&self.root.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o644))
            .unwrap();
        drop(UnixListener::bind(self.root.join("socket")).unwrap());
        for (name, minor) in [("null", "3"), ("zero", "5")] {
            let made = Command::new("mknod").arg(self.root.join(name)).args(["c", "1", minor]).output();
            if !made.is_ok_and(|made| made.status.success()) {
                skip("devices: only root can make one");
            }
        }
    }

    /// Writes a file, as old as all others.
    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }

    /// Puts another file in its place at once.
    fn replace(&self, path: &str, content: impl AsRef<[u8]>) {
        let new = self.folder.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.root.join(path)).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.root.join(path)).unwrap();
    }

    fn truncate(&self, path: &str, octets: u64) {
        File::options().write(true).open(self.root.join(path)).unwrap().set_len(octets).unwrap();
    }

    fn link(&self, target: impl AsRef<Path>, path: &str) {
        symlink(target, self.root.join(path)).unwrap();
    }

    /// Has the kernel drop what it knows of the files' contents.
    fn chill(&self, directory: &Path) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                self.chill(&entry.path());
            } else if kind.is_file() {
                let file = File::open(entry.path()).unwrap();
                file.sync_all().unwrap();
                posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
            }
        }
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.root.join(path)).unwrap()
    }

    /// RFC 9110 section 8.8.3.
    fn tag(&self, path: &str) -> String {
        let found = fs::metadata(self.root.join(path)).unwrap();
        let modified = found.mtime() * 1_000_000_000 + found.mtime_nsec();
        format!("\"{:x}-{:x}-{modified:x}\"", found.ino(), found.size())
    }

    /// Serves it with one worker.
    fn serve(&self, arguments: &[&str]) -> (Server, i32) {
        let mut all = vec!["--workers", "1", "--root", self.root.to_str().unwrap()];
        all.extend(arguments);
        let server = Server::start(Program::Uringd, &all);
        let worker = server.listening()[0].1;
        (server, worker)
    }
}

/// Octets, none of them zero, that are nowhere like those at another place.
fn pattern(octets: usize, seed: u64) -> Vec<u8> {
    let mix = |at: u64| (at ^ (seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (0..octets as u64).map(|at| (mix(at) % 255) as u8 + 1).collect()
}

fn assert_unharmed(server: &Server, worker: i32) {
    assert_eq!(server.get("/next.txt").body, NEXT_CONTENT);
    assert_eq!(server.listening(), [(0, worker)]);
}

// ---- the table ----

/// How the server of the table is started, and what of its answers depends on that.
#[derive(Default)]
struct Setting {
    arguments: &'static [&'static str],
    cache_control: Option<&'static str>,
    page: bool,
    /// The files are on the disk alone.
    cold: bool,
}

#[test]
fn every_case_of_the_table_is_answered_as_its_section_says() {
    run_table(&Setting::default());
}

/// The same out of mappings instead of memory.
#[test]
fn every_case_is_answered_the_same_without_a_cache() {
    run_table(&Setting { arguments: &["--file-cache", "0"], ..Setting::default() });
}

/// On file systems that are in memory only this is no other test than the first.
#[test]
fn every_case_is_answered_the_same_when_its_file_must_come_from_the_disk() {
    run_table(&Setting {
        cold: true,
        page: true,
        arguments: &["--not-found", "404.html"],
        ..Setting::default()
    });
}

#[test]
fn every_answer_with_a_file_has_the_cache_control_that_was_given() {
    let arguments = &["--cache-control", "max-age=60, public"];
    run_table(&Setting { arguments, cache_control: Some("max-age=60, public"), ..Setting::default() });
}

#[test]
fn every_404_has_the_page_that_was_given() {
    run_table(&Setting { arguments: &["--not-found", "/404.html"], page: true, ..Setting::default() });
}

/// Each case twice: the file is read for the first, and known for the second. Then the same with HEAD.
fn run_table(setting: &Setting) {
    let tree = Tree::whole();
    if setting.cold {
        tree.chill(&tree.root);
    }
    let (server, worker) = tree.serve(setting.arguments);
    let cases = cases();
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    let mut failures = vec![];
    for case in &cases {
        let mut check = |when: &str, outcome: Result<(), String>| {
            if let Err(why) = outcome {
                failures.push(format!("{} {:?} {:?} {when}:\n{why:.1500}", case.rfc, case.line, case.fields));
            }
        };
        let first = ask(&tree, &server, case, &case.line);
        check(
            "at first",
            first.as_ref().map_err(Clone::clone).and_then(|it| judge(&tree, setting, case, it)),
        );
        let again = ask(&tree, &server, case, &case.line);
        check("again", again.as_ref().map_err(Clone::clone).and_then(|it| judge(&tree, setting, case, it)));
        if let (Some(line), Ok(got)) = (head_line(case), &again) {
            let head = ask(&tree, &server, case, &line);
            check("by HEAD", head.and_then(|head| same_fields(&head, got)));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n\n{}", failures.len(), failures.join("\n\n"));
    assert_unharmed(&server, worker);
}

/// RFC 9110 section 9.3.2. A range is for GET alone (section 14.2).
fn head_line(case: &Case) -> Option<String> {
    let target = case.line.strip_prefix("GET ")?;
    (case.body.is_empty() && !case.fields.contains("Range: ")).then(|| format!("HEAD {target}"))
}

fn same_fields(head: &Answer, get: &Answer) -> Result<(), String> {
    match head.dateless_head() == get.dateless_head() {
        true => Ok(()),
        false => Err(format!("{head:?}\nby GET {get:?}")),
    }
}

/// Asks on a connection of its own, on which another request follows at once.
fn ask(tree: &Tree, server: &Server, case: &Case, line: &str) -> Result<Answer, String> {
    let mut request = format!("{line} HTTP/1.1\r\nHost: x\r\n");
    for field in case.fields.lines() {
        request += &format!("{}\r\n", with_tags(tree, field));
    }
    let mut client = server.connect();
    let octets = [request.as_bytes(), b"\r\n", &case.body, NEXT.as_bytes()].concat();
    client.send_in_vain(octets, Instant::now());
    let failed = |error: std::io::Error| format!("no whole answer: {error}");
    let answer = read(&mut client, line.starts_with("HEAD ")).map_err(failed)?;
    if case.closes {
        let rest = client.read_to_end().map_err(failed)?;
        return match rest.is_empty() && answer.closes() {
            true => Ok(answer),
            false => Err(format!("the connection does not end as it should: {answer:?}")),
        };
    }
    let next = read(&mut client, false).map_err(failed)?;
    match next.status == 200 && next.body == NEXT_CONTENT && answer.header("connection").is_none() {
        true => Ok(answer),
        false => Err(format!("the connection does not go on: {answer:?}\nthen {next:?}")),
    }
}

/// `{a.txt}` becomes the file's entity tag.
fn with_tags(tree: &Tree, field: &str) -> String {
    let mut parts = field.split(['{', '}']).enumerate();
    parts.by_ref().map(|(at, part)| if at % 2 == 1 { tree.tag(part) } else { part.to_owned() }).collect()
}

/// Reads one answer strictly (RFC 9112 section 6.3).
fn read(client: &mut Client, to_head: bool) -> std::io::Result<Answer> {
    let mut answer = client.read_head()?;
    if !to_head && ![204, 304].contains(&answer.status) {
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        answer.body = client.read_octets(length.ok_or(ErrorKind::InvalidData)?)?;
    }
    Ok(answer)
}

/// What is wrong with the answer to a case.
fn judge(tree: &Tree, setting: &Setting, case: &Case, answer: &Answer) -> Result<(), String> {
    let check = |right: bool, what: &str| if right { Ok(()) } else { Err(format!("{what}: {answer:?}")) };
    let says = |name: &str, value: Option<&str>| {
        let said = answer.header(name);
        check(said == value, &format!("{name} is not {value:?}"))
    };
    let content = |expected: &[u8]| {
        says("content-length", Some(&expected.len().to_string()))?;
        check(answer.body == if case.is_head() { b"" } else { expected }, "the content is another")
    };
    let file = |name: &str| {
        says("etag", Some(&tree.tag(name)))?;
        says("last-modified", Some(MODIFIED))?;
        says("cache-control", setting.cache_control)
    };
    match &case.expect {
        Expect::Whole(name) => {
            check(answer.status == 200, "not 200")?;
            file(name)?;
            says("accept-ranges", Some("bytes"))?;
            says("content-range", None)?;
            content(&tree.read(name))?;
        }
        Expect::Part(name, range) => {
            check(answer.status == 206, "not 206")?;
            file(name)?;
            let all = tree.read(name);
            let described = format!("bytes {}-{}/{}", range.start, range.end - 1, all.len());
            says("content-range", Some(&described))?;
            content(&all[range.start as usize..range.end as usize])?;
        }
        Expect::NotModified(name) => {
            check(answer.status == 304, "not 304")?;
            says("etag", Some(&tree.tag(name)))?;
            says("cache-control", setting.cache_control)?;
            says("content-encoding", None)?;
        }
        Expect::Unsatisfiable(octets) => {
            check(answer.status == 416, "not 416")?;
            says("content-range", Some(&format!("bytes */{octets}")))?;
        }
        Expect::Redirect(target) => {
            check(answer.status == 301, "not 301")?;
            says("location", Some(target))?;
        }
        Expect::Status(status) => {
            check(answer.status == *status, &format!("not {status}"))?;
            says("location", None)?;
        }
    }
    if matches!(case.expect, Expect::Unsatisfiable(_) | Expect::Redirect(_) | Expect::Status(301..)) {
        says("cache-control", None)?;
        says("etag", None)?;
    }
    if setting.page && answer.status == 404 {
        content(PAGE)?;
        says("content-type", Some("text/html; charset=utf-8"))?;
    }
    // RFC 9110 section 8.6
    check(answer.status != 204 || answer.header("content-length").is_none(), "204 with a length")?;
    says("vary", case.varies.then_some("Accept-Encoding"))?;
    case.says.iter().try_for_each(|(name, value)| says(name, *value))?;
    check(is_well_formed(&answer.head), "its fields are wrong")
}

/// A date (RFC 9110 section 6.6.1), and no field twice.
fn is_well_formed(head: &str) -> bool {
    let mut names: Vec<String> =
        head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0.to_lowercase())).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    let date = head.lines().find_map(|line| line.strip_prefix("Date: "));
    names.len() == count && date.is_some_and(|date| httpdate::parse_http_date(date).is_ok())
}

/// RFC 9110 section 8.8.2.1.
#[test]
fn no_file_is_said_to_be_from_the_future() {
    let tree = Tree::bare();
    tree.write("later.txt", "x");
    let later = SystemTime::now() + Duration::from_secs(1_000_000);
    File::options().write(true).open(tree.root.join("later.txt")).unwrap().set_modified(later).unwrap();
    let (server, _) = tree.serve(&[]);
    let answer = server.get("/later.txt");
    let date = |name| httpdate::parse_http_date(answer.header(name).unwrap()).unwrap();
    assert!(date("last-modified") <= date("date"), "{}", answer.head);
}

// ---- who may read what ----

#[test]
fn with_symlinks_never_there_is_nothing_behind_a_link() {
    let tree = Tree::whole();
    let (server, worker) = tree.serve(&["--symlinks", "never"]);
    let mut client = server.connect();
    for path in
        ["/link.txt", "/dir/up.txt", "/link-dir", "/link-dir/", "/link-dir/b.txt", "/abs-in.txt", "/out.txt"]
    {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    for path in ["/a.txt", "/dir/b.txt", "/dir/"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    assert_unharmed(&server, worker);
}

/// RFC 9110 section 15.5.4.
#[test]
fn what_may_not_be_read_is_forbidden() {
    let tree = Tree::bare();
    tree.write("closed.txt", CANARY);
    tree.write("closed/a.txt", CANARY);
    tree.write("closed/index.html", CANARY);
    tree.write("open.txt", "as it is");
    tree.write("open.txt.gz", CANARY);
    for path in ["closed.txt", "closed", "open.txt.gz"] {
        fs::set_permissions(tree.root.join(path), Permissions::from_mode(0o000)).unwrap();
    }
    if is_root() && Command::new("id").args(["-u", "nobody"]).output().is_ok_and(|id| !id.status.success()) {
        return skip("there is no user nobody, and root may read everything");
    }
    let user: &[&str] = if is_root() { &["--user", "nobody"] } else { &[] };
    let (server, worker) = tree.serve(user);
    let mut client = server.connect();
    for path in ["/closed.txt", "/closed/a.txt", "/closed/", "/closed/missing.txt"] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text().contains(CANARY)), (403, false), "{path}");
    }
    assert_eq!(client.get("/closed").status, 301);
    // what lies beside a file and may not be read is not there
    client.send("GET /open.txt HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!(client.read_answer().unwrap().text(), "as it is");
    assert_unharmed(&server, worker);
    fs::set_permissions(tree.root.join("closed"), Permissions::from_mode(0o755)).unwrap();
}

// ---- files that change ----

/// Waits until this is so, as it must be about a second after the change.
fn is_seen(what: &str, so: impl Fn() -> bool) {
    let changed = Instant::now();
    loop {
        // a request counts from its beginning, however long its answer takes
        let asked = changed.elapsed();
        if so() {
            return;
        }
        assert!(asked < SEEN_WITHIN, "not seen: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn changes_are_seen_within_about_a_second_and_what_is_new_at_once() {
    for arguments in [&[][..], &["--file-cache", "0"]] {
        let tree = Tree::bare();
        let (server, worker) = tree.serve(arguments);
        let client = RefCell::new(server.connect());
        let get = |path: &str| client.borrow_mut().get(path);
        let gives = |path: &str, text: &str| get(path).text() == text;

        // misses are not remembered
        assert_eq!(get("/a.txt").status, 404);
        tree.replace("a.txt", "first");
        let first = get("/a.txt");
        assert_eq!((first.status, first.text().as_str()), (200, "first"));

        tree.replace("a.txt", "second");
        is_seen("a file is replaced", || gives("/a.txt", "second"));
        assert_ne!(get("/a.txt").header("etag"), first.header("etag"));
        (0..50).for_each(|_| assert!(gives("/a.txt", "second"), "and never the old one again"));

        // in place, and as long as before
        fs::write(tree.root.join("a.txt"), "Second").unwrap();
        is_seen("a file is written over", || gives("/a.txt", "Second"));

        tree.remove("a.txt");
        is_seen("a file is removed", || get("/a.txt").status == 404);
        tree.replace("a.txt", "third");
        assert!(gives("/a.txt", "third"));

        fs::create_dir(tree.root.join("dir")).unwrap();
        assert_eq!((get("/dir").status, get("/dir/").status), (301, 404));
        tree.replace("dir/index.html", "index");
        assert!(gives("/dir/", "index"));
        tree.remove("a.txt");
        fs::create_dir(tree.root.join("a.txt")).unwrap();
        is_seen("a file becomes a directory", || get("/a.txt").status == 301);
        assert_unharmed(&server, worker);
    }
}

#[test]
fn compressed_siblings_come_and_go_within_about_a_second() {
    let tree = Tree::bare();
    tree.write("a.txt", "as it is");
    let (server, worker) = tree.serve(&[]);
    let client = RefCell::new(server.connect());
    let get = || {
        let mut client = client.borrow_mut();
        client.send("GET /a.txt HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br\r\n\r\n");
        let answer = client.read_answer().unwrap();
        assert_eq!(answer.header("vary").is_some(), answer.header("content-encoding").is_some());
        answer.text()
    };
    assert_eq!(get(), "as it is");
    tree.replace("a.txt.gz", "gzip");
    is_seen("a sibling appears", || get() == "gzip");
    tree.replace("a.txt.br", "brotli");
    is_seen("a better one appears", || get() == "brotli");
    tree.replace("a.txt.br", "Brotli");
    is_seen("it is replaced", || get() == "Brotli");
    tree.remove("a.txt.br");
    is_seen("it goes", || get() == "gzip");
    tree.remove("a.txt.gz");
    is_seen("the other goes", || get() == "as it is");
    assert_unharmed(&server, worker);
}

/// A download under way whose client reads no more than it is told to.
struct Download {
    client: Client,
    worker: i32,
    sockets: Sockets,
    got: Vec<u8>,
    length: usize,
}

impl Download {
    /// `None` where nobody says how far it is.
    fn begin(server: &Server, path: &str) -> Option<Download> {
        let Some(sockets) = Sockets::open() else {
            skip("this kernel does not say what was read (CONFIG_INET_DIAG)");
            return None;
        };
        let mut client = slow_reader(server);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let head = client.read_head().unwrap();
        assert_eq!(head.status, 200);
        let length = head.header("content-length").unwrap().parse().unwrap();
        let worker = server.listening()[0].1;
        let mut download = Download { client, worker, sockets, got: vec![], length };
        download.take(100_000);
        Some(download)
    }

    fn take(&mut self, octets: usize) {
        self.got.extend(self.client.read_octets(octets).expect("more of the file"));
    }

    /// Waits until the server cannot send any more, and gives how much it has sent by then.
    fn stall(&mut self) -> usize {
        // one that only waits for its core sends nothing either: it must have gone round some times in vain
        let turns = || -> u64 {
            let waits = status_field(self.worker, "voluntary_ctxt_switches").expect("a running process");
            waits.parse().unwrap()
        };
        let on_its_way =
            |long| self.sockets.wait_until_stuck(&self.client.stream, Duration::from_millis(long));
        let deadline = Instant::now() + PATIENCE;
        let mut last = on_its_way(150);
        loop {
            let begin = turns();
            while turns() < begin + 4 || brings_pages(self.worker) {
                assert!(Instant::now() < deadline, "the worker stands still");
                thread::sleep(Duration::from_millis(5));
            }
            match on_its_way(0) {
                same if same == last => break,
                _ => last = on_its_way(150),
            }
            assert!(Instant::now() < deadline, "it goes on sending");
        }
        self.got.extend(self.client.take_unread());
        self.got.len() + last
    }

    /// Reads all that still comes; what was received, and whether that is all.
    fn finish(mut self) -> (Vec<u8>, bool) {
        let missing = self.length - self.got.len();
        match self.client.read_octets(missing) {
            Ok(rest) => self.got.extend(rest),
            Err(error) => {
                assert!(
                    [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()),
                    "{error}"
                );
                self.got.extend(self.client.take_unread());
            }
        }
        let whole = self.got.len() == self.length;
        (self.got, whole)
    }
}

/// A thread of the kernel's brings pages of a file for it, or waits for a core to do so.
fn brings_pages(worker: i32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{worker}/task")).expect("a running process");
    let mut stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    // proc(5): the state is what follows the name
    stats.any(|stat| stat.contains("(iou-wrk-") && !stat.rsplit(") ").next().unwrap().starts_with('S'))
}

/// A client with little room for what it does not read.
fn slow_reader(server: &Server) -> Client {
    let client = server.connect();
    setsockopt(&client.stream, sockopt::RcvBuf, &(32 * 1024)).unwrap();
    client
}

/// Panics with where they differ, and not with both.
fn assert_is_start_of(got: &[u8], content: &[u8]) {
    let same = got.iter().zip(content).take_while(|(a, b)| a == b).count();
    let end = (same + 8).min(got.len());
    assert!(same == got.len(), "octet {same} of {} is another: {:?}", got.len(), &got[same..end]);
}

#[test]
fn a_download_under_way_goes_on_with_the_file_that_it_began_with() {
    let tree = Tree::bare();
    let (old, new) = (pattern(LONG_OCTETS, 1), pattern(LONG_OCTETS, 2));
    tree.write("long.bin", &old);
    let (server, worker) = tree.serve(&[]);
    let Some(mut download) = Download::begin(&server, "/long.bin") else { return };
    assert!(download.stall() < LONG_OCTETS);
    tree.replace("long.bin", &new);
    let range = "GET /long.bin HTTP/1.1\r\nHost: x\r\nRange: bytes=0-99\r\n\r\n";
    let client = RefCell::new(server.connect());
    is_seen("the file is replaced", || {
        let mut client = client.borrow_mut();
        client.send(range);
        client.read_answer().unwrap().body == new[..100]
    });
    assert!(download.stall() < LONG_OCTETS);
    let (got, whole) = download.finish();
    assert_is_start_of(&got, &old);
    assert!(whole, "{} octets of {LONG_OCTETS}", got.len());
    assert!(server.get("/long.bin").body == new);

    // and with one that is removed
    let mut download = Download::begin(&server, "/long.bin").unwrap();
    assert!(download.stall() < LONG_OCTETS);
    tree.remove("long.bin");
    is_seen("the file is removed", || server.get("/long.bin").status == 404);
    let (got, whole) = download.finish();
    assert_is_start_of(&got, &new);
    assert!(whole, "{} octets of {LONG_OCTETS}", got.len());
    assert_unharmed(&server, worker);
}

/// RFC 9110 section 8.6: what is not there any more cannot be sent; the client must see that it has not got all.
#[test]
fn a_download_of_a_file_that_is_truncated_ends_short() {
    let tree = Tree::bare();
    let content = pattern(LONG_OCTETS, 1);
    let (server, worker) = tree.serve(&[]);
    // given what has been sent
    let lengths: [fn(u64) -> u64; 8] = [
        |_| 0,
        |_| 40_960,
        |sent| (sent - 100_000) / PAGE_OCTETS * PAGE_OCTETS,
        |sent| (sent + 5000) / PAGE_OCTETS * PAGE_OCTETS,
        |sent| sent + 1_000_000,
        |_| LONG_OCTETS as u64 - 2000,
        // inside the last page
        |_| LONG_OCTETS as u64 - 1,
        |_| LONG_OCTETS as u64 - 999,
    ];
    for (number, length) in lengths.into_iter().enumerate() {
        let name = format!("long-{number}.bin");
        tree.write(&name, &content);
        let Some(mut download) = Download::begin(&server, &format!("/{name}")) else { return };
        let mut other = Download::begin(&server, &format!("/{name}")).unwrap();
        let sent = [download.stall(), other.stall()];
        assert!(sent.iter().all(|sent| *sent < LONG_OCTETS - 2_000_000), "{sent:?}");
        let length = length(sent[0] as u64);
        tree.truncate(&name, length);
        assert_eq!(server.get("/next.txt").body, NEXT_CONTENT, "others are served");
        for download in [download, other] {
            let (got, whole) = download.finish();
            assert_is_start_of(&got, &content);
            assert!(!whole, "truncated to {length}");
        }
        assert_unharmed(&server, worker);
        tree.remove(&name);
    }
}

/// What goes out of a mapping at the moment of the cut may be zeros, to the end of that page and no further: it is the
/// last that the client gets.
#[test]
fn of_a_file_that_is_truncated_while_it_is_copied_at_most_the_rest_of_a_page_is_zeros() {
    /// Files are sent in pieces that end at multiples of this.
    const PIECE_OCTETS: usize = 256 * 1024;
    let tree = Tree::bare();
    let content = pattern(LONG_OCTETS, 1);
    let (server, worker) = tree.serve(&[]);
    for attempt in 0..3 {
        let name = format!("long-{attempt}.bin");
        tree.write(&name, &content);
        let Some(mut download) = Download::begin(&server, &format!("/{name}")) else { return };
        let mut sent = download.stall();
        // near the end of a piece, so that what is sent next ends with it
        for _ in 0..6 {
            if (PAGE_OCTETS as usize..110_000).contains(&(sent.next_multiple_of(PIECE_OCTETS) - sent)) {
                break;
            }
            download.take(60_000);
            sent = download.stall();
        }
        let cut = sent.next_multiple_of(PIECE_OCTETS) - 1000;
        tree.truncate(&name, cut as u64);
        let (got, whole) = download.finish();
        let (before, behind) = got.split_at(cut.min(got.len()));
        assert_is_start_of(before, &content);
        assert!(
            behind.len() <= 1000 && behind.iter().all(|octet| *octet == 0),
            "{} behind {cut}",
            behind.len()
        );
        assert!(!whole, "truncated to {cut}");
    }
    assert_unharmed(&server, worker);
}

/// The same when nearly all has been sent.
#[test]
fn a_download_of_a_file_that_loses_its_last_octet_at_the_last_moment_ends_short() {
    let tree = Tree::bare();
    let content = pattern(LONG_OCTETS, 1);
    let (server, worker) = tree.serve(&[]);
    let mut ended_short = 0;
    for attempt in 0..4 {
        let name = format!("long-{attempt}.bin");
        tree.write(&name, &content);
        let Some(mut download) = Download::begin(&server, &format!("/{name}")) else { return };
        // the fewer octets are left, the better
        let mut sent = download.stall();
        while sent + 300_000 < LONG_OCTETS {
            download.take((LONG_OCTETS - 200_000 - sent).min(LONG_OCTETS - download.got.len()));
            sent = download.stall();
        }
        tree.truncate(&name, LONG_OCTETS as u64 - 1);
        let (got, whole) = download.finish();
        // what the kernel had before is the file as it was
        assert_is_start_of(&got, &content);
        ended_short += usize::from(!whole);
        eprintln!("truncated when {sent} of {LONG_OCTETS} octets were sent; {} came", got.len());
        assert!(whole == (sent == LONG_OCTETS), "{sent} were sent, {} came", got.len());
    }
    assert_unharmed(&server, worker);
    if ended_short == 0 {
        skip("the kernel took whatever was left, each time");
    }
}

// ---- what it may cost ----

#[test]
fn slow_readers_of_a_huge_file_cost_no_memory_and_delay_nobody() {
    const HUGE_OCTETS: u64 = 1 << 30;
    const ROUNDS: usize = 40;
    let readers = if std::env::var_os("CI").is_some() { 200 } else { 50 };
    let tree = Tree::bare();
    File::create(tree.root.join("huge.bin")).unwrap().set_len(HUGE_OCTETS).unwrap();
    let (server, worker) = tree.serve(&[]);
    let mut other = server.connect();
    assert_eq!(other.get("/next.txt").status, 200);
    let before = rss_anon(worker);
    let mut clients: Vec<Client> = (0..readers).map(|_| slow_reader(&server)).collect();
    for client in &mut clients {
        client.send("GET /huge.bin HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = client.read_head().unwrap();
        assert_eq!(head.header("content-length"), Some("1073741824"));
    }
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    for _ in 0..ROUNDS {
        for client in &mut clients {
            let octets = client.read_octets(16 * 1024).expect("more of the file");
            assert!(octets.iter().all(|octet| *octet == 0));
        }
        let asked = Instant::now();
        assert_eq!(other.get("/next.txt").body, NEXT_CONTENT);
        slowest = slowest.max(asked.elapsed());
        most = most.max(rss_anon(worker));
    }
    eprintln!(
        "{readers} slow readers: slowest small answer {slowest:?}; {before} KiB before, {most} KiB at most"
    );
    assert!(most < before + SLACK_KIB, "{most} KiB, before {before} KiB");
    clients.into_iter().for_each(Client::reset);
    drop(other);
    server.wait("all sockets are closed", || server.held_connections() == 0);
    assert!(rss_anon(worker) < before + SLACK_KIB);
    assert_unharmed(&server, worker);
}

#[test]
fn many_different_files_take_no_more_memory_and_descriptors_than_are_allowed() {
    const FILES: usize = 2000;
    const FILE_OCTETS: usize = 16 * 1024;
    /// The caches keep that many files open.
    const OPEN_MAX: usize = 128;
    let tree = Tree::bare();
    let content = pattern(FILE_OCTETS, 1);
    let file = File::create(tree.root.join("0.bin")).unwrap();
    file.write_all_at(&content, 0).unwrap();
    for number in 1..FILES {
        fs::copy(tree.root.join("0.bin"), tree.root.join(format!("{number}.bin"))).unwrap();
    }
    for cache in ["1MiB", "0"] {
        let (server, worker) = tree.serve(&["--file-cache", cache]);
        let mut client = server.connect();
        client.get("/next.txt");
        let (memory, open) = (rss_anon(worker), descriptors(worker).len());
        let (mut most_memory, mut most_open) = (0, 0);
        for round in 0..2 {
            for number in 0..FILES {
                let answer = client.get(&format!("/{number}.bin"));
                assert!(answer.status == 200 && answer.body == content, "{number}.bin in round {round}");
                if number % 100 == 99 {
                    most_memory = most_memory.max(rss_anon(worker));
                    most_open = most_open.max(descriptors(worker).len());
                }
            }
        }
        eprintln!("cache {cache}: {memory} to {most_memory} KiB, {open} to {most_open} descriptors");
        assert!(most_memory < memory + 1024 + SLACK_KIB, "{most_memory} KiB, before {memory} KiB");
        assert!(most_open <= open + OPEN_MAX + 8, "{most_open} descriptors, before {open}");
        assert_unharmed(&server, worker);
    }
}

// ---- nothing outside the root ----

/// What paths are made of that want out.
const PIECES: &[&str] = &[
    "..",
    "..",
    "%2e%2e",
    ".%2e",
    "%2E.",
    "%252e%252e",
    "%25%32%65",
    "%c0%ae%c0%ae",
    "..;",
    "...",
    ".",
    "%2e",
    "",
    "a.txt",
    "dir",
    "dir",
    "bare",
    "link-dir",
    "out.txt",
    "out-dir",
    "abs.txt",
    "abs-dir",
    "alike-dir",
    "deep.txt",
    "around.txt",
    "proc-link",
    "root",
    "cwd",
    "fifo",
    "canary.txt",
    "canary.txt",
    "site",
    "site-secret",
    "site-secret",
    "site-secret/canary.txt",
    ".hidden",
    "%2ehidden",
    ".env",
    ".git",
    "config",
    ".well-known",
    "out-sibling.txt",
    "out-sibling.txt.gz",
    "index.html",
    "tmp",
    "%00",
    "%5c",
    "\\",
    "C:",
    "~",
    "%ff",
    "%",
    "%zz",
    LONG_NAME,
];
const LONG_NAME: &str = NAME_MAX;
const JOINTS: &[&str] =
    &["/", "/", "/", "/", "/", "/", "//", "/./", "/dir/../", "%2f", "%2F", "%252f", "\\", "%5c", ""];
const STARTS: &[&str] = &["/", "/", "/", "/", "//", "http://x/", "http://x/../", "/%2e/"];

fn nasty_target() -> impl Strategy<Value = String> {
    let pick = prop::sample::select::<&str>;
    let step = (pick(PIECES), pick(JOINTS)).prop_map(|(piece, joint)| format!("{piece}{joint}"));
    let end = pick(&["", "canary.txt", "index.html", "a.txt", "b.txt", "?x", "site-secret/canary.txt"]);
    (pick(STARTS), prop::collection::vec(step, 0..7), end)
        .prop_map(|(start, steps, end)| format!("{start}{}{end}", steps.concat()))
}

#[test]
fn whatever_is_asked_for_nothing_outside_the_root_is_sent() {
    let tree = Tree::whole();
    for arguments in [&[][..], &["--symlinks", "never"]] {
        let (server, worker) = tree.serve(arguments);
        let client = RefCell::new(server.connect());
        let served = Cell::new(0);
        let config = Config { cases: 3000, failure_persistence: None, ..Config::default() };
        TestRunner::new(config)
            .run(
                &(nasty_target(), prop::sample::select(&["", "Accept-Encoding: gzip\r\n"][..])),
                |(target, field)| {
                    let mut client = client.borrow_mut();
                    client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{field}\r\n"));
                    let answer =
                        read(&mut client, false).map_err(|error| TestCaseError::fail(error.to_string()))?;
                    prop_assert!(!shows_canary(&answer), "{:?}", answer);
                    prop_assert!([200, 301, 400, 404].contains(&answer.status), "{:?}", answer);
                    if let Some(target) = answer.header("location") {
                        prop_assert!(target.starts_with('/') && !target.starts_with("//"), "{:?}", answer);
                    }
                    served.set(served.get() + u32::from(answer.status == 200));
                    if answer.closes() {
                        *client = server.connect();
                    }
                    Ok(())
                },
            )
            .unwrap();
        // the paths are not so nasty that none of them leads anywhere
        eprintln!("{} of 3000 were served", served.get());
        assert!(served.get() > 50, "only {}", served.get());
        assert_unharmed(&server, worker);
    }
}

/// By way of a name that leads now inside and now outside.
#[test]
fn a_link_that_changes_while_it_is_followed_leads_nowhere_else() {
    /// More than are remembered.
    const NAMES: usize = 1500;
    let tree = Tree::bare();
    for number in 0..NAMES {
        tree.write(&format!("inside/{number}.txt"), "inside");
        tree.write(&format!("../site-secret/{number}.txt"), CANARY);
    }
    let (server, worker) = tree.serve(&[]);
    let (done, new) = (AtomicBool::new(false), tree.folder.path().join("new-link"));
    thread::scope(|scope| {
        let ends = SetOnDrop(&done);
        let turning = scope.spawn(|| {
            let mut turns = 0;
            while !done.load(Ordering::Relaxed) {
                for target in ["inside", "../site-secret", "../site/inside"] {
                    symlink(target, &new).unwrap();
                    fs::rename(&new, tree.root.join("turning")).unwrap();
                    turns += 1;
                }
            }
            turns
        });
        let (mut client, mut statuses) = (server.connect(), [0; 2]);
        let start = Instant::now();
        let mut wrong = None;
        // until it was followed while it led here and while it led there, if one of us had to wait for a core
        let goes_on = |statuses: [usize; 2]| match statuses {
            [0, _] | [_, 0] => start.elapsed() < PATIENCE,
            _ => start.elapsed() < Duration::from_secs(2),
        };
        while goes_on(statuses) && wrong.is_none() {
            for number in 0..NAMES {
                let answer = client.get(&format!("/turning/{number}.txt"));
                statuses[usize::from(answer.status == 200)] += 1;
                let right =
                    if answer.status == 200 { answer.body == b"inside" } else { answer.status == 404 };
                if !right {
                    wrong = Some(answer);
                    break;
                }
            }
        }
        drop(ends);
        let turns = turning.join().unwrap();
        eprintln!("{turns} turns; 404 and 200: {statuses:?}");
        assert_eq!(wrong, None);
        assert!(statuses.iter().all(|count| *count > 0), "it was not followed while it changed");
    });
    assert_unharmed(&server, worker);
}

fn shows_canary(answer: &Answer) -> bool {
    let shown = |octets: &[u8]| memchr::memmem::find(octets, CANARY.as_bytes()).is_some();
    shown(answer.head.as_bytes()) || shown(&answer.body)
}
