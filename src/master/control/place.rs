//! Where the control socket is, unless somebody says where: the same rule for who makes it and for who looks for it.
//!
//! Neighbours: `mod` makes it, `cli::ctl` looks for it.

use crate::config::Listen;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where a system's services have their sockets (file-hierarchy(7)).
const SYSTEM: &str = "/run/uringd";

/// The socket of a server that listens on these addresses, in the order of preference: below /run for who may write there,
/// else where the session manager gives this user a place (`XDG_RUNTIME_DIR`).
pub(crate) fn candidates(listen: &[Listen], runtime: Option<&OsStr>) -> Vec<PathBuf> {
    let name = file_name(listen);
    let of_user = runtime.map(Path::new).filter(|runtime| runtime.is_absolute());
    let directories = [Some(PathBuf::from(SYSTEM)), of_user.map(|runtime| runtime.join("uringd"))];
    directories.into_iter().flatten().map(|directory| directory.join(&name)).collect()
}

/// After the first port; where there is none, after the first socket's file.
fn file_name(listen: &[Listen]) -> String {
    let port = listen.iter().find_map(Listen::socket_addr).map(|address| address.port().to_string());
    let of_file = || listen.iter().find_map(file_of).unwrap_or_default();
    format!("{}.sock", port.unwrap_or_else(of_file))
}

fn file_of(listen: &Listen) -> Option<String> {
    let Listen::Unix(path) = listen else { return None };
    let name = path.file_name()?.to_string_lossy();
    Some(name.strip_suffix(".sock").unwrap_or(&name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_named_by_the_first_port_or_by_the_first_file() {
        let table: [(&[&str], &str); 5] = [
            (&["127.0.0.1:80"], "80.sock"),
            (&["unix:/x/app.sock", "[::1]:8080", "127.0.0.1:81"], "8080.sock"),
            (&["unix:/x/app.sock", "unix:/y/b"], "app.sock"),
            (&["unix:/x/app"], "app.sock"),
            (&["unix:app"], "app.sock"),
        ];
        for (listen, name) in table {
            let listen: Vec<Listen> = listen.iter().map(|text| text.parse().unwrap()).collect();
            let system = Path::new("/run/uringd").join(name);
            for none in [None, Some(OsStr::new("")), Some(OsStr::new("not/absolute"))] {
                assert_eq!(candidates(&listen, none), std::slice::from_ref(&system));
            }
            let of_user = Path::new("/run/user/7/uringd").join(name);
            assert_eq!(candidates(&listen, Some(OsStr::new("/run/user/7"))), [system, of_user]);
        }
    }
}
