//! What a user's own crate sees of the library: the README's programs as they stand there, and programs that use a broad
//! part of the interface (`outside/`), in a crate that depends on this one, with every warning an error. They are built
//! offline, from what this crate's own build has fetched, and run.

mod common;

use common::{Answer, Server, bare_command, skip};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// What the users of the README's first program would write for themselves, but for the address.
const ADDRESS: (&str, &str) = (".listen(\"0.0.0.0:1337\")", ".listen(\"127.0.0.1:0\").workers(2)");

const STRICT: &str = "#![forbid(unsafe_code)]\n#![deny(warnings)]\n";

/// A crate that depends on this one, in cargo's folder for the files of tests.
struct Outside {
    folder: PathBuf,
}

impl Outside {
    /// Written and built once; `None` where there is no cargo.
    fn built() -> Option<&'static Outside> {
        static BUILT: OnceLock<Option<Outside>> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            let outside = Outside { folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside") };
            outside.write();
            outside.cargo(&["build"]).then_some(outside)
        });
        if built.is_none() {
            skip("there is no cargo");
        }
        built.as_ref()
    }

    fn write(&self) {
        let programs = readme_programs();
        let [first, second] = &programs[..] else { panic!("two programs in the README: {programs:#?}") };
        assert!(first.contains(ADDRESS.0), "the README's first program listens elsewhere:\n{first}");
        self.put("src/bin/readme.rs", &strict(&first.replace(ADDRESS.0, ADDRESS.1)));
        self.put("src/bin/readme_server.rs", &strict(second));
        for name in ["everything", "alone", "foreign_types"] {
            let text = fs::read_to_string(format!("{REPOSITORY}/tests/outside/{name}.rs")).unwrap();
            // attributes stand behind the words about the file
            let (head, rest) = text.split_once("\n\n").expect("words about the file");
            self.put(&format!("src/bin/{name}.rs"), &format!("{head}\n{STRICT}\n{rest}"));
        }
        self.put("Cargo.toml", &manifest());
        // the same versions, so that nothing has to be looked for
        let lock = fs::read_to_string(format!("{REPOSITORY}/Cargo.lock")).unwrap();
        self.put("Cargo.lock", &lock);
    }

    /// What has not changed is left alone, so that it is not built again.
    fn put(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            fs::write(path, text).unwrap();
        }
    }

    /// Has cargo do this without the network; says whether there is a cargo.
    fn cargo(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // this test's own build is none of that one's business
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_")) {
            if !["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&name.as_str()) {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .args(["--offline", "--quiet", "--target-dir"])
            .arg(self.folder.join("target"));
        command.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", "-D warnings");
        match command.current_dir(&self.folder).output() {
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => panic!("cargo: {error}"),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "cargo {arguments:?}:\n{said}");
                true
            }
        }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join("target/debug").join(name)
    }
}

fn readme_programs() -> Vec<String> {
    let readme = fs::read_to_string(format!("{REPOSITORY}/README.md")).unwrap();
    let blocks = readme.split("```rust").skip(1);
    blocks
        .map(|block| {
            let (_, block) = block.split_once('\n').expect("a program after the fence");
            block.split("```").next().expect("the part before the next fence").to_owned()
        })
        .collect()
}

fn strict(program: &str) -> String {
    format!("{STRICT}\n{program}")
}

fn manifest() -> String {
    format!(
        r#"[package]
name = "outside"
version = "0.0.0"
edition = "2024"

[workspace]

[features]
default = ["uringd/default"]
http = ["dep:http", "uringd/http"]

[dependencies]
bytes = "1"
http = {{ version = "1", optional = true }}
serde = {{ version = "1", features = ["derive"] }}
uringd = {{ path = {REPOSITORY:?}, default-features = false }}

[[bin]]
name = "everything"
required-features = ["default"]

[[bin]]
name = "foreign_types"
required-features = ["http"]

[profile.dev]
debug = false
incremental = false
"#
    )
}

/// A line of the log for people.
fn line_with(part: &str) -> impl Fn(&Value) -> bool {
    move |line| line.as_str().is_some_and(|line| line.contains(part))
}

fn stop(server: Server) {
    server.signal("TERM");
    ends_well(server);
}

fn ends_well(mut server: Server) {
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
}

#[test]
fn the_readmes_first_program_answers_from_two_processes() {
    let Some(outside) = Outside::built() else { return };
    let mut server = Server::launch(&mut bare_command(&outside.program("readme")));
    let setup = server.wait_for("setup", line_with("event=\"setup\""));
    let addresses = setup.as_str().unwrap().split("addresses=\"").nth(1).expect("addresses");
    server.address = addresses.split('"').next().unwrap().parse().expect("an address");
    let mut answers = BTreeSet::new();
    server.wait("both workers answer", || {
        answers.insert(server.get("/").text());
        answers.len() == 2
    });
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["hello from 1", "hello from 2"]);
    stop(server);
}

#[test]
fn the_readmes_second_program_serves_itself_and_ends() {
    let Some(outside) = Outside::built() else { return };
    let mut server = Server::launch(&mut bare_command(&outside.program("readme_server")));
    assert_eq!(server.wait_exit().code(), Some(0), "{:#?}", server.log());
}

#[test]
fn a_program_that_is_its_own_client_ends_well() {
    let Some(outside) = Outside::built() else { return };
    let mut server = Server::launch(&mut bare_command(&outside.program("alone")));
    assert_eq!(server.wait_exit().code(), Some(0), "{:#?}", server.log());
}

#[test]
fn a_program_of_all_that_the_guide_shows_does_it() {
    let Some(outside) = Outside::built() else { return };
    let mut command = bare_command(&outside.program("everything"));
    let root = format!("{REPOSITORY}/examples/site");
    command.args(["--listen", "127.0.0.1:0", "--workers", "2", "--log-format", "json", "--root", &root]);
    let server = Server::spawn(&mut command);
    server.wait_until_whole();
    server.wait_for("the program's own word", line_with("opening"));

    let ask = |method: &str, target: &str, body: &str| -> Answer {
        let mut client = server.connect();
        let length = body.len();
        client.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: shop\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        client.read_answer().expect("an answer")
    };
    let order = ask("POST", "/orders", r#"{"product":"milk","count":2}"#);
    assert_eq!((order.status, order.header("content-type")), (201, Some("application/json")));
    assert!(order.text().starts_with(r#"{"line":"2 of milk","worker":"#), "{}", order.text());
    assert_eq!(ask("POST", "/orders", r#"{"product":"milk","count":0}"#).status, 422);
    assert_eq!(ask("POST", "/orders", "milk").status, 400);
    assert_eq!(ask("POST", "/orders", r#"{"product":"tea","count":3}"#).status, 201);
    // through the master, to whichever worker answers
    let mut sold = 0;
    server.wait("all workers know what was sold", || {
        sold = if server.get("/sold").text() == "5" { sold + 1 } else { 0 };
        sold == 8
    });
    assert_eq!(ask("PUT", "/upload", &"a".repeat(100_000)).text(), "100000");
    assert_eq!(ask("PUT", "/elsewhere", "a").status, 405);
    assert_eq!(server.get("/sum?n=100").text(), "5050");
    assert!(server.get("/later").text().starts_with("uringd-w"));
    assert!(server.get("/").text().contains("<h1>It works</h1>"));
    assert_eq!(server.get("/nothing").status, 404);

    let mut client = server.connect();
    client.send("GET /events HTTP/1.0\r\nLast-Event-ID: 2\r\n\r\n");
    let events = String::from_utf8(client.read_to_end().expect("an end")).unwrap();
    assert!(events.ends_with("\r\n\r\ndata: 1 left\nid: 1\n\ndata: 0 left\nid: 0\n\n"), "{events}");

    server.signal("TERM");
    for worker in [1, 2] {
        let (before, _) =
            server.wait_for_after(0, "before_drain", line_with(&format!("closing worker {worker}")));
        server.wait_for_after(before, "after_drain", line_with(&format!("closed worker {worker}")));
    }
    // a second signal would end them at once
    ends_well(server);
}

#[test]
fn without_features_and_with_all_of_them_a_program_compiles() {
    let Some(outside) = Outside::built() else { return };
    outside.cargo(&["check", "--no-default-features"]);
    outside.cargo(&["check", "--features", "http"]);
}
