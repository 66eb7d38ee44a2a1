//! Real programs do real things: curl, wget, Node, Python, ab and wrk against the files of `--root` and against
//! `examples/mirror` for what they send. Where one is missing its tests say so.

mod common;

use common::*;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// Ends a program that hangs; longer than any of them takes.
const PROGRAM_SECS_MAX: &str = "60";
/// Does not fit into the sockets' buffers on both sides.
const BIG_OCTETS: usize = 6_000_000;
/// Below the default of --max-body, and more than a socket takes at once.
const UPLOAD_OCTETS: usize = 900 * 1024;
/// 1994-11-06 08:49:37, for files that are older than what a client has.
const LONG_AGO_SECS: u64 = 784_111_777;

/// What a client downloads, a server for it and one that shows what it sent, and a folder that the client works in.
struct Fixture {
    files: Server,
    mirror: Server,
    workers: Vec<(u64, i32)>,
    folder: TempDir,
}

impl Fixture {
    /// `None` where there is no such program.
    fn for_client(program: &str) -> Option<Fixture> {
        if Command::new(program).arg("--version").stdin(Stdio::null()).output().is_err() {
            skip(&format!("there is no `{program}` here"));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site");
        make_site(&site);
        fs::create_dir(folder.path().join("desk")).unwrap();
        fs::write(folder.path().join("desk/upload"), octets(UPLOAD_OCTETS)).unwrap();
        let files = Server::start(Program::Uringd, &["--workers", "1", "--root", site.to_str().unwrap()]);
        let mirror = Server::start(Program::Mirror, &["--workers", "1"]);
        let workers = [files.listening(), mirror.listening()].concat();
        Some(Fixture { files, mirror, workers, folder })
    }

    /// Below the site.
    fn site(&self, path: &str) -> PathBuf {
        self.folder.path().join("site").join(path)
    }

    /// Below the folder in which clients run.
    fn desk(&self, path: &str) -> PathBuf {
        self.folder.path().join("desk").join(path)
    }

    /// Runs a client to its end.
    fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        let mut command = client("timeout", &self.desk(""));
        command.args(["-k", "5", PROGRAM_SECS_MAX, program]).args(arguments);
        Ran::from(command.output().expect("`timeout` starts"))
    }

    /// Runs curl, which succeeds with whatever answer it gets. `write_out` is what it says of that (`%{http_code}`).
    fn curl(&self, write_out: &str, arguments: &[&str]) -> Ran {
        let mut all = vec!["-q", "-sS", "-w", write_out];
        all.extend(arguments);
        self.run("curl", &all).succeeded()
    }

    /// Starts a client that loads slowly and kills it when some of the file is here. Gives how much.
    fn cut_short(&self, program: &str, arguments: &[&str], file: &Path) -> u64 {
        let mut child = client(program, &self.desk("")).args(arguments).spawn().expect("the client starts");
        let length = || fs::metadata(file).map_or(0, |metadata| metadata.len());
        let deadline = Instant::now() + PATIENCE;
        while length() == 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!((1..BIG_OCTETS as u64).contains(&length()), "cut at {}", length());
        length()
    }

    /// No worker was lost over it, and both servers go on.
    fn finish(self) {
        for server in [&self.files, &self.mirror] {
            assert_eq!(server.get("/").status, 200);
        }
        assert_eq!([self.files.listening(), self.mirror.listening()].concat(), self.workers);
    }
}

/// How a client ended and what it said.
struct Ran {
    code: Option<i32>,
    out: Vec<u8>,
    said: String,
}

impl Ran {
    fn from(output: Output) -> Ran {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { code: output.status.code(), out: output.stdout, said }
    }

    fn succeeded(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}\n{}", self.text(), self.said);
        self
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// A client that nobody's settings lead elsewhere.
fn client(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.to_ascii_lowercase().ends_with("_proxy")) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").current_dir(folder).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn url(address: SocketAddr, path: &str) -> String {
    format!("http://{address}{path}")
}

/// The same ones always, in no short period.
fn octets(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(next).collect()
}

fn style() -> String {
    (0..400).map(|number| format!(".class-{number} {{ margin: {number}px; }}\n")).collect()
}

fn make_site(site: &Path) {
    let put = |path: &str, content: &[u8]| {
        let path = site.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        set_modified(&path, LONG_AGO_SECS);
    };
    let page = |links: &str| format!("<!doctype html><title>x</title>{links}\n").into_bytes();
    put(
        "index.html",
        &page(
            r#"<link rel=stylesheet href=style.css><script src="/app.js"></script><a href="docs/">docs</a><a href="big">big</a>"#,
        ),
    );
    put("docs/index.html", &page(r#"<a href="a%20b.html">next</a> <img src="../images/dot.png">"#));
    put("docs/a b.html", &page(r#"<a href="../">home</a> <a href="empty.txt">nothing</a>"#));
    put("docs/empty.txt", b"");
    put("style.css", style().as_bytes());
    put("app.js", b"console.log('hello');\n");
    put("images/dot.png", b"\x89PNG\r\n\x1a\nno more of it");
    put("big", &octets(BIG_OCTETS));
    put("small.txt", b"small\n");
    if Command::new("gzip").arg("-k").arg(site.join("style.css")).status().is_ok_and(|done| done.success()) {
        assert!(site.join("style.css.gz").exists());
    }
}

fn set_modified(path: &Path, secs: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn same_file(one: &Path, other: &Path) -> bool {
    fs::read(one).unwrap() == fs::read(other).unwrap()
}

// ---- curl: what is downloaded ----

#[test]
fn curl_goes_on_with_a_download_that_was_cut() {
    let Some(fixture) = Fixture::for_client("curl") else { return };
    let (big, file) = (url(fixture.files.address, "/big"), fixture.desk("big"));
    let have = fixture.cut_short("curl", &["-q", "-sS", "--limit-rate", "300K", "-o", "big", &big], &file);
    let again = ["-C", "-", "-o", "big", &big];
    let said = fixture.curl("%{http_code} %{size_download}", &again).text();
    assert_eq!(said, format!("206 {}", BIG_OCTETS as u64 - have));
    assert!(same_file(&file, &fixture.site("big")));
    // nothing is left: RFC 9110 section 15.5.17
    assert_eq!(fixture.curl("%{http_code}", &again).text(), "416");
    assert!(same_file(&file, &fixture.site("big")));
    fixture.finish();
}

#[test]
fn curl_gets_the_ranges_it_asks_for() {
    let Some(fixture) = Fixture::for_client("curl") else { return };
    let (big, whole) = (url(fixture.files.address, "/big"), octets(BIG_OCTETS));
    for (range, part) in [
        ("0-0", 0..1),
        ("100-199", 100..200),
        ("65535-65536", 65_535..65_537),
        ("5999000-", 5_999_000..BIG_OCTETS),
        ("5999000-99999999", 5_999_000..BIG_OCTETS),
        ("-7", BIG_OCTETS - 7..BIG_OCTETS),
    ] {
        let said = fixture.curl("%{http_code} %header{content-range}", &["-r", range, "-o", "part", &big]);
        let field = format!("206 bytes {}-{}/{BIG_OCTETS}", part.start, part.end - 1);
        assert_eq!(said.text(), field, "{range}");
        assert!(fs::read(fixture.desk("part")).unwrap() == whole[part], "{range}");
    }
    let beyond =
        fixture.curl("%{http_code} %header{content-range}", &["-r", "6000000-", "-o", "/dev/null", &big]);
    assert_eq!(beyond.text(), format!("416 bytes */{BIG_OCTETS}"));
    fixture.finish();
}

#[test]
fn curl_gets_the_compressed_sibling_if_it_can_decompress() {
    let Some(fixture) = Fixture::for_client("curl") else { return };
    let Ok(packed) = fs::metadata(fixture.site("style.css.gz")) else {
        return skip("there is no `gzip` here");
    };
    let style_url = url(fixture.files.address, "/style.css");
    let what = "%{http_code} %{size_download} %header{content-encoding}|%header{content-type}|%header{vary}";
    for (coding, size, field) in [
        (&["--compressed"][..], packed.len(), "gzip"),
        (&[], style().len() as u64, ""),
        (&["--compressed", "-H", "Accept-Encoding: gzip;q=0"], style().len() as u64, ""),
    ] {
        let arguments = [coding, &["-o", "style.css", &style_url]].concat();
        let said = fixture.curl(what, &arguments).text();
        assert_eq!(said, format!("200 {size} {field}|text/css; charset=utf-8|Accept-Encoding"), "{coding:?}");
        assert_eq!(fs::read_to_string(fixture.desk("style.css")).unwrap(), style(), "{coding:?}");
    }
    fixture.finish();
}

/// RFC 9110 sections 13.1.2 and 13.1.3.
#[test]
fn curl_is_told_that_it_has_the_file_until_that_changes() {
    let Some(fixture) = Fixture::for_client("curl") else { return };
    let small = url(fixture.files.address, "/small.txt");
    let first = ["-R", "--etag-save", "tag", "-o", "small", &small];
    assert_eq!(fixture.curl("%{http_code}", &first).text(), "200");
    assert_eq!(fs::metadata(fixture.desk("small")).unwrap().mtime() as u64, LONG_AGO_SECS);

    let by_date = ["-z", "small", "-o", "new", &small];
    let by_tag = ["--etag-compare", "tag", "-o", "new", &small];
    for condition in [by_date, by_tag] {
        let said = fixture.curl("%{http_code} %{size_download}", &condition).text();
        assert_eq!(said, "304 0", "{condition:?}");
    }
    let older = ["-z", "Sat, 05 Nov 1994 08:49:37 GMT", "-o", "new", &small];
    assert_eq!(fixture.curl("%{http_code}", &older).text(), "200");

    fs::write(fixture.site("small.txt"), "other\n").unwrap();
    for condition in [by_date, by_tag] {
        fixture.files.wait("the change is seen", || fixture.curl("%{http_code}", &condition).text() == "200");
        assert_eq!(fs::read_to_string(fixture.desk("new")).unwrap(), "other\n", "{condition:?}");
    }
    fixture.finish();
}

#[test]
fn curl_gets_many_files_over_one_connection_and_over_many() {
    let Some(fixture) = Fixture::for_client("curl") else { return };
    let numbered = url(fixture.files.address, "/style.css?[1-60]");
    let one = fixture.curl("%{http_code} %{num_connects}\n", &["-o", "file#1", &numbered]).text();
    let lines: Vec<&str> = one.lines().collect();
    assert_eq!((lines.len(), lines[0]), (60, "200 1"));
    assert!(lines[1..].iter().all(|line| *line == "200 0"), "{one}");

    let many = fixture.curl("%{http_code}\n", &["-Z", "--parallel-max", "20", "-o", "file#1", &numbered]);
    assert_eq!(many.text(), "200\n".repeat(60));
    for number in 1..=60 {
        assert!(same_file(&fixture.desk(&format!("file{number}")), &fixture.site("style.css")), "{number}");
    }
    fixture.finish();
}

#[test]
fn curl_speaks_http_1_0() {
    let Some(fixture) = Fixture::for_client("curl") else { return };
    let (files, mirror) = (fixture.files.address, fixture.mirror.address);
    let big = url(files, "/big");
    let closed = fixture.curl("%{http_code} %header{connection}", &["--http1.0", "-o", "big", &big]);
    assert_eq!(closed.text(), "200 close");
    assert!(same_file(&fixture.desk("big"), &fixture.site("big")));

    let twice = url(files, "/small.txt?[1-2]");
    let kept = ["--http1.0", "-H", "Connection: keep-alive", "-o", "/dev/null", &twice];
    let said = fixture.curl("%{http_code} %header{connection} %{num_connects}\n", &kept).text();
    assert_eq!(said, "200 keep-alive 1\n200 keep-alive 0\n");

    let shown = fixture.curl("", &["--http1.0", "-d", "abc", &url(mirror, "/p")]).text();
    assert_eq!(shown, "POST /p 1.0\ncontent 3 octets: abc\n");
    // RFC 9112 section 6.3: what has no length ends with the connection
    let streamed = fixture.curl("", &["--http1.0", &url(mirror, "/stream?n=3&size=2")]).text();
    assert_eq!(streamed, "aabbcc");
    fixture.finish();
}

#[test]
fn curl_finds_directories_and_nothing_outside_of_them() {
    let Some(fixture) = Fixture::for_client("curl") else { return };
    let files = fixture.files.address;
    let moved = fixture.curl("|%{http_code} %{url_effective}", &["-L", &url(files, "/docs")]).text();
    let index = fs::read_to_string(fixture.site("docs/index.html")).unwrap();
    assert_eq!(moved, format!("{index}|200 {}", url(files, "/docs/")));

    let head = fixture.curl("", &["-I", &url(files, "/big")]).text();
    assert!(head.contains(&format!("Content-Length: {BIG_OCTETS}\r\n")), "{head}");

    fs::write(fixture.desk("secret"), "secret").unwrap();
    for path in ["/../desk/secret", "/docs/../../desk/secret", "/%2e%2e/desk/secret", "/..%2fdesk/secret"] {
        let said = fixture.curl("%{http_code}", &["--path-as-is", "-o", "got", &url(files, path)]).text();
        assert!(["400", "404"].contains(&said.as_str()), "{path}: {said}");
        assert!(!fs::read_to_string(fixture.desk("got")).unwrap().contains("secret"), "{path}");
    }
    let posted = fixture.curl("%{http_code} %header{allow}", &["-d", "x", "-o", "got", &url(files, "/big")]);
    assert!(posted.text().starts_with("405 GET, HEAD"), "{}", posted.text());
    fixture.finish();
}

// ---- curl: what is sent ----

#[test]
fn curl_uploads_with_and_without_asking_first_and_in_chunks() {
    let Some(fixture) = Fixture::for_client("curl") else { return };
    let target = url(fixture.mirror.address, "/up");
    let start = String::from_utf8_lossy(&octets(64)).into_owned();
    let shown = |method: &str| format!("{method} /up 1.1\ncontent {UPLOAD_OCTETS} octets: {start}\n");
    let (put, post) = (["-T", "upload"], ["--data-binary", "@upload"]);
    let (asks, chunks) = (["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]);
    for (content, method) in [(put, "PUT"), (post, "POST")] {
        for fields in [vec![], asks.to_vec(), chunks.to_vec(), [asks, chunks].concat(), vec!["-H", "Expect:"]]
        {
            let arguments = [&content[..], &fields, &["-v", &target]].concat();
            let ran = fixture.curl("", &arguments);
            assert_eq!(ran.text(), shown(method), "{arguments:?}");
            let asked = fields.contains(&asks[1]);
            let told = ran.said.contains("< HTTP/1.1 100 Continue");
            assert!(told || !asked, "{arguments:?}: {}", ran.said);
        }
    }
    fixture.finish();
}

/// RFC 9110 sections 10.1.1 and 15.5.14.
#[test]
fn curl_that_asks_first_sends_nothing_that_is_refused() {
    let Some(fixture) = Fixture::for_client("curl") else { return };
    fs::write(fixture.desk("too-long"), octets(2 << 20)).unwrap();
    for (path, content, status) in [("/up", "@too-long", "413"), ("/unwanted", "@upload", "405")] {
        let target = url(fixture.mirror.address, path);
        let patient = ["-H", "Expect: 100-continue", "--expect100-timeout", "60"];
        let asks = [&patient[..], &["--data-binary", content, "-o", "got", &target]].concat();
        assert_eq!(fixture.curl("%{http_code} %{size_upload}", &asks).text(), format!("{status} 0"));
    }
    fixture.finish();
}

#[test]
fn curl_sees_a_stream_whole_and_a_broken_one_as_broken() {
    let Some(fixture) = Fixture::for_client("curl") else { return };
    let mirror = fixture.mirror.address;
    let what = "%{http_code} %{size_download} %header{transfer-encoding}";
    let whole = fixture.curl(what, &["-o", "got", &url(mirror, "/stream?n=500&size=10000")]).text();
    assert_eq!(whole, "200 5000000 chunked");
    let letters = (b'a'..=b'z').cycle().take(500).flat_map(|letter| [letter; 10_000]);
    assert!(fs::read(fixture.desk("got")).unwrap().into_iter().eq(letters));

    let broken = fixture.run("curl", &["-q", "-sS", &url(mirror, "/stream-broken")]);
    // "transfer closed with outstanding read data remaining"
    assert_eq!((broken.code, broken.text().as_str()), (Some(18), "one two "));
    fixture.finish();
}

// ---- wget ----

const WGET: [&str; 4] = ["--no-config", "--no-proxy", "--tries=1", "--timeout=20"];

fn wget(fixture: &Fixture, arguments: &[&str]) -> Ran {
    fixture.run("wget", &[&WGET, arguments].concat()).succeeded()
}

#[test]
fn wget_mirrors_a_site_and_then_fetches_only_what_has_changed() {
    let Some(fixture) = Fixture::for_client("wget") else { return };
    let root = url(fixture.files.address, "/");
    let mirror = ["-e", "robots=off", "--mirror", "--no-host-directories", "-P", "copy", &root];
    wget(&fixture, &mirror);
    let linked = ["index.html", "docs/index.html", "docs/a b.html", "docs/empty.txt", "style.css", "app.js"];
    for file in [&linked[..], &["images/dot.png", "big"]].concat() {
        let copy = fixture.desk("copy").join(file);
        assert!(same_file(&copy, &fixture.site(file)), "{file}");
        assert_eq!(fs::metadata(&copy).unwrap().mtime() as u64, LONG_AGO_SECS, "{file}");
    }

    // with If-Modified-Since wget does not follow the links of a page that it has: it asks with HEAD instead
    let mirror = [&["--no-if-modified-since"], &mirror[..]].concat();
    let again = wget(&fixture, &mirror).said;
    assert!(!again.contains("saved ["), "{again}");
    assert!(again.matches("-- not retrieving").count() >= linked.len(), "{again}");

    fs::write(fixture.site("app.js"), "console.log('changed');\n").unwrap();
    fixture.files.wait("the change is seen", || {
        let said = wget(&fixture, &mirror).said;
        said.matches("saved [").count() == 1
    });
    assert!(same_file(&fixture.desk("copy/app.js"), &fixture.site("app.js")));
    fixture.finish();
}

#[test]
fn wget_goes_on_with_a_download_that_was_cut() {
    let Some(fixture) = Fixture::for_client("wget") else { return };
    let (big, file) = (url(fixture.files.address, "/big"), fixture.desk("big"));
    let slow = [&WGET[..], &["-q", "--limit-rate=300K", "-O", "big", &big]].concat();
    let have = fixture.cut_short("wget", &slow, &file);
    let said = wget(&fixture, &["-c", &big]).said;
    assert!(said.contains("206 Partial Content"), "{said}");
    let left = BIG_OCTETS as u64 - have;
    assert!(said.contains(&format!("Length: {BIG_OCTETS}")) && said.contains(&left.to_string()), "{said}");
    assert!(same_file(&file, &fixture.site("big")));
    let said = wget(&fixture, &["-c", &big]).said;
    assert!(said.contains("416 ") && said.contains("nothing to do"), "{said}");
    fixture.finish();
}

#[test]
fn wget_fetches_by_time_and_posts() {
    let Some(fixture) = Fixture::for_client("wget") else { return };
    let small = url(fixture.files.address, "/small.txt");
    let said = wget(&fixture, &["-N", &small]).said;
    assert!(said.contains("200 OK") && same_file(&fixture.desk("small.txt"), &fixture.site("small.txt")));
    let said = wget(&fixture, &["-N", &small]).said;
    assert!(said.contains("304 Not Modified") && !said.contains("saved ["), "{said}");

    let target = url(fixture.mirror.address, "/form");
    let shown = wget(&fixture, &["-q", "-O", "-", "--post-file=upload", &target]).text();
    assert!(shown.starts_with(&format!("POST /form 1.1\ncontent {UPLOAD_OCTETS} octets: ")), "{shown}");
    fixture.finish();
}

// ---- programs in Node and Python ----

/// Runs a script that ends with `ok` if all it looked at was as it should be.
fn run_script(interpreter: &str, name: &str, script: &str) {
    let Some(fixture) = Fixture::for_client(interpreter) else { return };
    fs::write(fixture.desk(name), script).unwrap();
    let (files, mirror) = (url(fixture.files.address, ""), url(fixture.mirror.address, ""));
    let style = fixture.site("style.css");
    let ran = fixture.run(interpreter, &[name, &files, &mirror, style.to_str().unwrap()]).succeeded();
    assert_eq!(ran.text().trim_end(), "ok", "{}", ran.said);
    fixture.finish();
}

#[test]
fn a_node_program_fetches_reuses_its_sockets_and_streams() {
    run_script("node", "client.js", include_str!("real_clients/client.js"));
}

#[test]
fn a_python_program_keeps_its_connection_and_sends_chunks() {
    run_script("python3", "client.py", include_str!("real_clients/client.py"));
}

// ---- load generators ----

/// `Name:   123` in what ab says.
fn count(said: &str, name: &str) -> Option<u64> {
    let rest = said.lines().find_map(|line| line.strip_prefix(&format!("{name}:")))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[test]
fn ab_sees_no_failed_request_with_and_without_keep_alive() {
    let Some(fixture) = Fixture::for_client("ab") else { return };
    let targets = [
        (fixture.files.address, "/style.css"),
        (fixture.files.address, "/docs/"),
        (fixture.mirror.address, "/x"),
    ];
    for (address, path) in targets {
        let target = url(address, path);
        for (arguments, requests) in
            [(&["-k", "-n", "2000", "-c", "32"][..], 2000), (&["-n", "500", "-c", "16"], 500)]
        {
            let said =
                fixture.run("ab", &[&["-q", "-s", "20"], arguments, &[&target]].concat()).succeeded().text();
            assert_eq!(count(&said, "Complete requests"), Some(requests), "{said}");
            assert_eq!(count(&said, "Failed requests"), Some(0), "{said}");
            assert_eq!(count(&said, "Write errors").unwrap_or(0), 0, "{said}");
            assert_eq!(count(&said, "Non-2xx responses"), None, "{said}");
            let kept = count(&said, "Keep-Alive requests").unwrap_or(0);
            assert_eq!(kept, if arguments[0] == "-k" { requests } else { 0 }, "{said}");
        }
    }
    fixture.finish();
}

#[test]
fn wrk_sees_no_error() {
    let Some(fixture) = Fixture::for_client("wrk") else { return };
    for (address, path, connections) in [
        (fixture.files.address, "/style.css", 32),
        (fixture.files.address, "/big", 8),
        (fixture.mirror.address, "/stream?n=20&size=1000", 32),
    ] {
        let (target, many) = (url(address, path), format!("-c{connections}"));
        let requests_in = |time| {
            let arguments = ["-t1", &many, "-d", time, "--timeout", "60s", &target];
            let said = fixture.run("wrk", &arguments).succeeded().text();
            assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{path}: {said}");
            let requests = said.lines().find(|line| line.contains("requests in")).expect("a count");
            requests.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        // as long as it takes for each connection to have had one
        let enough = ["1s", "4s", "16s", "40s"].into_iter().any(|time| requests_in(time) >= connections);
        assert!(enough, "{path}");
    }
    fixture.finish();
}
