//! Load by `uringload` on a server to which something happens that no client may notice.

use super::{Group, Server, bare_command};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

const CLIENTS: usize = 16;

/// Clients that keep their connections, and as many with one for each request.
pub struct Load([Group; 2]);

impl Load {
    /// So many requests a second by each kind; when this returns both are at work.
    pub fn start(server: &Server, path: &str, rate: &str) -> Load {
        let kept = uringload(server, path, rate, &[]);
        server.wait("those that are kept are there", || server.held_connections() >= CLIENTS);
        let each = uringload(server, path, rate, &["--requests-per-connection", "1"]);
        server.wait("the others are there", || server.held_connections() > CLIENTS);
        Load([kept, each])
    }

    /// Ends it. Everybody was answered, to the end.
    pub fn assert_unnoticed(self) {
        for mut uringload in self.0 {
            assert!(uringload.0.try_wait().unwrap().is_none(), "the load was there to the end");
            let run: Value = serde_json::from_str(&uringload.interrupt()).unwrap();
            assert_eq!(
                (run["errors"].as_u64(), run["status_2xx"].as_u64() > Some(100)),
                (Some(0), true),
                "{run}"
            );
        }
    }
}

fn uringload(server: &Server, path: &str, rate: &str, arguments: &[&str]) -> Group {
    let mut command = bare_command(Path::new(env!("CARGO_BIN_EXE_uringload")));
    command.arg(format!("http://{}{path}", server.address));
    command.args(["--json", "-", "-r", rate, "-c", &CLIENTS.to_string(), "-d", "600s", "--timeout", "60s"]);
    Group::start(command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()))
}
