//! The servers: where each is found, how it is set up at its best, and what it cannot do.

use crate::profiles::Needs;
use crate::{server, site};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One server.
pub struct Peer {
    /// As `--peer` takes it.
    pub name: &'static str,
    /// Where it comes from.
    source: Source,
    /// Says how it is started; its files go to `Setup::scratch`.
    command: fn(&Setup, &Path) -> Result<Command, String>,
    /// Why it is left out of a profile.
    pub cannot: fn(Needs) -> Option<&'static str>,
    /// How it was set up, where that says something.
    note: &'static str,
}

enum Source {
    /// This executable.
    Own,
    /// A package of benches/peers: its program, and the crate whose version counts.
    Built(&'static str, Option<&'static str>),
    /// A program on the PATH, and the flag that has it say its version.
    Installed(&'static str, &'static str),
}

/// What a server is to do.
pub struct Setup<'a> {
    /// The repository.
    pub root: &'a Path,
    /// Its files and logs may go here.
    pub scratch: &'a Path,
    /// TCP port on 127.0.0.1.
    pub port: u16,
    /// Worker processes or threads.
    pub workers: usize,
    /// What it is needed for.
    pub needs: Needs,
}

/// All servers. The first is what the others are compared with.
pub const PEERS: [Peer; 9] = [
    Peer { name: "uringd", source: Source::Own, command: uringd, cannot: |_| None, note: "" },
    Peer {
        name: "floor",
        source: Source::Built("floor", None),
        command: built,
        cannot: |needs| match needs {
            Needs::Small | Needs::Close => None,
            Needs::Restart => Some("one process"),
            _ => Some("reads nothing of a request but its blank line"),
        },
        note: "a bare ring server with one fixed answer: what the kernel's part costs",
    },
    Peer {
        name: "hyper",
        source: Source::Built("peer-hyper", Some("hyper")),
        command: built,
        cannot: |needs| match needs {
            Needs::Site | Needs::Download => Some("serves no files"),
            Needs::Restart => Some("one process"),
            _ => None,
        },
        note: "tokio, a current-thread runtime and an own socket for each thread",
    },
    Peer {
        name: "actix-web",
        source: Source::Built("peer-actix", Some("actix-web")),
        command: built,
        cannot: |needs| (needs == Needs::Restart).then_some("one process"),
        note: "with actix-files",
    },
    Peer {
        name: "may_minihttp",
        source: Source::Built("peer-may", Some("may_minihttp")),
        command: built,
        cannot: |needs| match needs {
            Needs::Close => Some("does not close when it is asked to"),
            Needs::Chunks => Some("knows no chunks"),
            Needs::Site | Needs::Download => Some("serves no files"),
            Needs::Restart => Some("one process"),
            _ => None,
        },
        note: "",
    },
    Peer {
        name: "ntex",
        source: Source::Built("peer-ntex", Some("ntex")),
        command: built,
        cannot: |needs| match needs {
            Needs::Site => Some("sends no compressed siblings"),
            Needs::Restart => Some("one process"),
            _ => None,
        },
        note: "on io_uring (neon), with ntex-files",
    },
    Peer {
        name: "nginx",
        source: Source::Installed("nginx", "-v"),
        command: nginx,
        cannot: |needs| match needs {
            Needs::Upload => {
                Some("has no handler that reads bodies, and answers before it has thrown one away")
            }
            _ => None,
        },
        note: "sendfile, open_file_cache, gzip_static; tcp_nopush for the site only, which is its best; throws bodies away",
    },
    Peer {
        name: "h2o",
        source: Source::Installed("h2o", "--version"),
        command: h2o,
        cannot: |needs| match needs {
            Needs::Length | Needs::Chunks | Needs::Upload => Some("has no handler that reads bodies"),
            Needs::Restart => Some("its workers are threads"),
            _ => None,
        },
        note: "the small answer is a file",
    },
    Peer {
        name: "node",
        source: Source::Installed("node", "--version"),
        command: node,
        cannot: |needs| match needs {
            Needs::Site | Needs::Download => Some("has no file server of its own"),
            _ => None,
        },
        note: "cluster, every worker accepts for itself",
    },
];

impl Peer {
    /// Its program, or why there is none.
    pub fn program(&self) -> Result<PathBuf, String> {
        match self.source {
            Source::Own => std::env::current_exe().map_err(|error| format!("this executable: {error}")),
            Source::Built(program, _) => Some(built_directory().join(program))
                .filter(|path| path.exists())
                .ok_or_else(|| "not built; --build-peers does".to_owned()),
            Source::Installed(program, _) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let mut places = std::env::split_paths(&path).map(|directory| directory.join(program));
                places.find(|path| path.is_file()).ok_or_else(|| format!("there is no {program} on the PATH"))
            }
        }
    }

    /// How to start it.
    pub fn command(&self, setup: &Setup) -> Result<Command, String> {
        (self.command)(setup, &self.program()?)
    }

    /// `1.22.1: one worker, sendfile`.
    pub fn version(&self, root: &Path) -> String {
        let version = match self.source {
            Source::Own => Some(env!("CARGO_PKG_VERSION").to_owned()),
            Source::Built(_, None) => Some(String::new()),
            Source::Built(_, Some(name)) => {
                let lock = fs::read_to_string(peers(root).join("Cargo.lock")).unwrap_or_default();
                locked_version(&lock, name).map(str::to_owned)
            }
            Source::Installed(..) => self.said_version(),
        };
        let version = version.unwrap_or_else(|| "of unknown version".to_owned());
        match (version.as_str(), self.note) {
            (_, "") => version,
            ("", note) => format!("({note})"),
            (version, note) => format!("{version} ({note})"),
        }
    }

    /// The first number of what the program says: `nginx version: nginx/1.22.1`, `v20.20.2`, `h2o version 2.2.5`.
    fn said_version(&self) -> Option<String> {
        let Source::Installed(_, flag) = self.source else { return None };
        let out = Command::new(self.program().ok()?).arg(flag).output().ok()?;
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let mut words = said.split(|c: char| !c.is_ascii_digit() && c != '.');
        words
            .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
            .map(str::to_owned)
    }
}

/// For `--list`.
pub fn list() -> String {
    let each = PEERS.iter().map(|peer| {
        let missing = peer.program().err().map(|reason| format!("  (skipped: {reason})"));
        format!("  {:<14}{}{}\n", peer.name, peer.note, missing.unwrap_or_default())
    });
    format!("servers:\n{}", each.collect::<String>())
}

/// Builds benches/peers below our own target directory.
pub fn build(root: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--manifest-path"]).arg(peers(root).join("Cargo.toml"));
    command.arg("--target-dir").arg(target_directory().join("peers"));
    let status = command.status().map_err(|error| format!("cargo build: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo build of benches/peers: {status}")) }
}

/// Where cargo puts what it builds.
pub fn target_directory() -> &'static Path {
    // target/release/uringd
    Path::new(env!("CARGO_BIN_EXE_uringd")).ancestors().nth(2).expect("it lies in a directory of a directory")
}

fn peers(root: &Path) -> PathBuf {
    root.join("benches/peers")
}

fn built_directory() -> PathBuf {
    target_directory().join("peers/release")
}

/// Of this package in a Cargo.lock.
fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0)
}

fn uringd(setup: &Setup, program: &Path) -> Result<Command, String> {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("URINGD_")) {
        command.env_remove(name);
    }
    command.env(crate::PART, server::PART);
    command.args(["--listen", &format!("127.0.0.1:{}", setup.port), "--workers", &setup.workers.to_string()]);
    // workers are killed on purpose
    command
        .args(["--log-level", "warn", "--restart-limit", "100000", "--root"])
        .arg(setup.scratch.join(site::ROOT));
    Ok(command)
}

fn built(setup: &Setup, program: &Path) -> Result<Command, String> {
    let mut command = Command::new(program);
    command.args(["--port", &setup.port.to_string(), "--threads", &setup.workers.to_string(), "--root"]);
    command.arg(setup.scratch.join(site::ROOT));
    Ok(command)
}

fn node(setup: &Setup, program: &Path) -> Result<Command, String> {
    let mut command = Command::new(program);
    command.arg(peers(setup.root).join("node/cluster.js"));
    command.args(["--port", &setup.port.to_string(), "--threads", &setup.workers.to_string()]);
    Ok(command)
}

fn nginx(setup: &Setup, program: &Path) -> Result<Command, String> {
    let Setup { port, workers, needs, .. } = setup;
    let scratch = setup.scratch.join("nginx");
    fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let (scratch, root) = (scratch.display(), setup.scratch.join(site::ROOT).display().to_string());
    // the scratch directory is ours alone
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    // it costs nginx more than it gives from about 256 KiB on
    let nopush = if *needs == Needs::Site { "on" } else { "off" };
    let answer = server::ANSWER.escape_default();
    let config = format!(
        r#"daemon off; {user}
worker_processes {workers};
worker_rlimit_nofile 65536;
pid {scratch}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_timeout 75s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  sendfile on;
  tcp_nopush {nopush};
  tcp_nodelay on;
  gzip_static on;
  open_file_cache max=1000 inactive=60s;
  open_file_cache_valid 1s;
  client_body_temp_path {scratch}/body;
  proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi;
  scgi_temp_path {scratch}/scgi;
  types {{ text/html html; text/css css; text/javascript js; image/svg+xml svg; application/json json; image/png png; }}
  default_type text/plain;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {root};
    location = / {{ return 200 "{answer}"; }}
  }}
}}
"#
    );
    let file = format!("{scratch}/nginx.conf");
    fs::write(&file, config).map_err(|error| format!("{file}: {error}"))?;
    let mut command = Command::new(program);
    command.args(["-p", &scratch.to_string(), "-e", "stderr", "-c", &file]);
    Ok(command)
}

fn h2o(setup: &Setup, program: &Path) -> Result<Command, String> {
    let Setup { port, workers, .. } = setup;
    let root = setup.scratch.join(site::ROOT);
    let user = if nix::unistd::geteuid().is_root() { "user: root\n" } else { "" };
    let config = format!(
        r#"{user}num-threads: {workers}
max-connections: 16384
http1-request-timeout: 75
listen: {{ host: 127.0.0.1, port: {port} }}
file.send-compressed: ON
file.index: [ "{small}" ]
hosts:
  default:
    paths:
      "/":
        file.dir: "{root}"
"#,
        small = site::SMALL,
        root = root.display(),
    );
    let file = setup.scratch.join("h2o.conf");
    fs::write(&file, config).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut command = Command::new(program);
    command.args(["-m", "worker", "-c"]).arg(file);
    Ok(command)
}
