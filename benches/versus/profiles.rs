//! The profiles: what the clients do.

use crate::site;
use crate::tables::grouped;
use std::path::Path;
use std::time::Duration;

/// What the clients do.
pub struct Profile {
    /// As `--profile` takes it.
    pub name: &'static str,
    /// For people; `{c}` is the number of connections, `{idle}` that of idle ones.
    title: &'static str,
    /// What a server must be able to do.
    pub needs: Needs,
    /// Connections of uringload.
    connections: u32,
    /// Further flags of uringload.
    flags: &'static [&'static str],
    /// What is special about it.
    pub kind: Kind,
}

/// What a server must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Answer `GET /` with one line.
    Small,
    /// Close a connection whose client asks for it.
    Close,
    /// Read a body with a length.
    Length,
    /// Read a body in chunks.
    Chunks,
    /// Serve a directory, files that were compressed before included.
    Site,
    /// Serve one large file.
    Download,
    /// Read a large body.
    Upload,
    /// Replace its workers, and live on when one dies.
    Restart,
}

/// What is special about a profile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Nothing: a closed loop.
    Closed,
    /// The bench holds so many idle connections meanwhile.
    Idle(u32),
    /// An open loop at this share of what the slowest server reaches.
    Rate(f64),
    /// Once a second the master gets SIGHUP.
    Reload,
    /// Once a second a worker gets SIGKILL.
    Crash,
}

const SMALL: Profile = Profile {
    name: "small-64",
    title: "small answer, {c} connections",
    needs: Needs::Small,
    connections: 64,
    flags: &[],
    kind: Kind::Closed,
};

/// All of them, in the order measured. The first says what the servers can do in a closed loop.
pub const PROFILES: [Profile; 14] = [
    SMALL,
    Profile { name: "small-512", connections: 512, ..SMALL },
    Profile { name: "small-4096", connections: 4096, ..SMALL },
    Profile {
        name: "pipelined",
        title: "small answer, {c} connections, 16 requests in flight on each",
        flags: &["--pipeline", "16"],
        ..SMALL
    },
    Profile {
        name: "short",
        title: "small answer, {c} connections, a new one after 10 requests",
        needs: Needs::Close,
        flags: &["--requests-per-connection", "10"],
        ..SMALL
    },
    Profile {
        name: "post-length",
        title: "POST of 1 KiB with its length, {c} connections",
        needs: Needs::Length,
        ..SMALL
    },
    Profile {
        name: "post-chunked",
        title: "POST of 1 KiB in chunks, {c} connections",
        needs: Needs::Chunks,
        flags: &["--chunked"],
        ..SMALL
    },
    Profile {
        name: "site",
        title: "site of 20 files (842 KB), {c} connections",
        needs: Needs::Site,
        flags: &["--header", "Accept-Encoding: gzip"],
        ..SMALL
    },
    Profile {
        name: "download",
        title: "download of 1 MiB, {c} connections",
        needs: Needs::Download,
        connections: 16,
        ..SMALL
    },
    Profile {
        name: "upload",
        title: "upload of 20 MB, {c} connections",
        needs: Needs::Upload,
        connections: 4,
        ..SMALL
    },
    Profile {
        name: "idle",
        title: "small answer, {c} connections beside {idle} idle ones",
        kind: Kind::Idle(10_000),
        ..SMALL
    },
    Profile {
        name: "rate",
        title: "latency from the intended start at a fixed rate, {c} connections",
        kind: Kind::Rate(0.7),
        ..SMALL
    },
    Profile {
        name: "reload",
        title: "reload under load: SIGHUP each second",
        needs: Needs::Restart,
        kind: Kind::Reload,
        ..SMALL
    },
    Profile {
        name: "crash",
        title: "crash under load: kill -9 of a worker each second",
        needs: Needs::Restart,
        kind: Kind::Crash,
        ..SMALL
    },
];

/// Bounds for `--quick`.
const QUICK_CONNECTIONS_MAX: u32 = 256;
const QUICK_IDLE_MAX: u32 = 500;

/// The two kinds of clients while workers go: name, further flags. The rates are far below what any server can do, so
/// that each is asked as often as the others.
pub const TROUBLED: [(&str, &[&str]); 2] = [
    ("new connections", &["--rate", "2000", "--requests-per-connection", "1"]),
    ("keep-alive", &["--rate", "10000"]),
];

impl Profile {
    /// Connections of uringload.
    pub fn connections(&self, quick: bool) -> u32 {
        if quick { self.connections.min(QUICK_CONNECTIONS_MAX) } else { self.connections }
    }

    /// Idle connections.
    pub fn idle(&self, quick: bool) -> u32 {
        match self.kind {
            Kind::Idle(idle) if quick => idle.min(QUICK_IDLE_MAX),
            Kind::Idle(idle) => idle,
            _ => 0,
        }
    }

    /// For people.
    pub fn title(&self, quick: bool) -> String {
        let number = |number: u32| grouped(f64::from(number));
        let title = self.title.replace("{c}", &number(self.connections(quick)));
        title.replace("{idle}", &number(self.idle(quick)))
    }

    /// Whether workers go meanwhile.
    pub fn is_trouble(&self) -> bool {
        matches!(self.kind, Kind::Reload | Kind::Crash)
    }

    /// What uringload is given, but for the times and the place of results. `scratch` has the bodies.
    pub fn flags(&self, quick: bool, scratch: &Path) -> Vec<String> {
        let mut flags = vec!["--connections".to_owned(), self.connections(quick).to_string()];
        flags.extend(self.flags.iter().map(|flag| (*flag).to_owned()));
        let body = match self.needs {
            Needs::Length | Needs::Chunks => Some(site::POST),
            Needs::Upload => Some(site::UPLOAD),
            _ => None,
        };
        if let Some(body) = body {
            flags.extend(["--body".to_owned(), scratch.join(body).display().to_string()]);
        }
        flags
    }

    /// Asked for in turn.
    pub fn paths(&self) -> Vec<String> {
        match self.needs {
            Needs::Site => site::paths(),
            Needs::Download => vec![format!("/{}", site::DOWNLOAD)],
            Needs::Upload => vec!["/upload".to_owned()],
            _ => vec!["/".to_owned()],
        }
    }
}

/// How long workers go: some whole seconds, one signal in each.
pub fn trouble_length(length: Duration, rounds: u32) -> Duration {
    Duration::from_secs((length * rounds).as_secs_f64().ceil().max(2.0) as u64)
}

/// For `--list`.
pub fn list() -> String {
    let each = PROFILES.iter().map(|profile| format!("  {:<14}{}\n", profile.name, profile.title(false)));
    format!("profiles:\n{}", each.collect::<String>())
}
