//! Where the control socket is, unless somebody says where: the same rule for who makes it and for who looks for it.
//!
//! Neighbours: `mod` makes it, `cli::ctl` looks for it.

use crate::config::Listen;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where a system's services have their sockets (file-hierarchy(7)).
const SYSTEM: &str = "/run/uringd";

/// Below /run for who may write there, else where the session manager gives this user a place (`XDG_RUNTIME_DIR`).
pub(crate) fn directories(runtime: Option<&OsStr>) -> Vec<PathBuf> {
    let of_user = runtime.map(Path::new).filter(|runtime| runtime.is_absolute());
    let directories = [Some(PathBuf::from(SYSTEM)), of_user.map(|runtime| runtime.join("uringd"))];
    directories.into_iter().flatten().collect()
}

/// The socket of a server that listens on these addresses, in the order in which it takes one: another server may have the
/// same port of another address.
pub(super) fn candidates(listen: &[Listen], directories: &[PathBuf]) -> Vec<PathBuf> {
    let names = [Some(common_name(listen)), own_name(listen)];
    let in_one =
        |directory: &PathBuf| names.iter().flatten().map(|name| directory.join(name)).collect::<Vec<_>>();
    directories.iter().flat_map(in_one).collect()
}

/// The same, in the order in which it is looked for: the name that no other server has comes first.
pub(crate) fn expected(listen: &[Listen], directories: &[PathBuf]) -> Vec<PathBuf> {
    let names = [own_name(listen), Some(common_name(listen))];
    let of_name =
        |name: &String| directories.iter().map(|directory| directory.join(name)).collect::<Vec<_>>();
    names.iter().flatten().flat_map(of_name).collect()
}

/// After the first port; where there is none, after the first socket's file.
fn common_name(listen: &[Listen]) -> String {
    let port = listen.iter().find_map(Listen::socket_addr).map(|address| address.port().to_string());
    let of_file = || listen.iter().find_map(file_of).unwrap_or_default();
    format!("{}.sock", port.unwrap_or_else(of_file))
}

/// After the first address, if that is one of several that this machine has.
fn own_name(listen: &[Listen]) -> Option<String> {
    let address = listen.iter().find_map(Listen::socket_addr)?;
    (!address.ip().is_unspecified()).then(|| format!("{address}.sock"))
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
        let table: [(&[&str], &[&str]); 6] = [
            (&["127.0.0.1:80"], &["80.sock", "127.0.0.1:80.sock"]),
            (&["unix:/x/app.sock", "[::1]:8080", "127.0.0.1:81"], &["8080.sock", "[::1]:8080.sock"]),
            (&["0.0.0.0:80", "127.0.0.1:81"], &["80.sock"]),
            (&["unix:/x/app.sock", "unix:/y/b"], &["app.sock"]),
            (&["unix:/x/app"], &["app.sock"]),
            (&["unix:app"], &["app.sock"]),
        ];
        let directories = ["/run/uringd", "/run/user/7/uringd"].map(PathBuf::from);
        for (listen, names) in table {
            let listen: Vec<Listen> = listen.iter().map(|text| text.parse().unwrap()).collect();
            let all = |directory: &PathBuf| names.iter().map(|name| directory.join(name)).collect::<Vec<_>>();
            let taken = candidates(&listen, &directories);
            assert_eq!(taken, directories.iter().flat_map(all).collect::<Vec<_>>());
            let mut looked_for = expected(&listen, &directories);
            assert_eq!(looked_for[0], directories[0].join(names.last().unwrap()));
            assert_eq!(looked_for.last(), Some(&directories[1].join(names[0])));
            looked_for.sort();
            let mut taken = taken;
            taken.sort();
            assert_eq!(looked_for, taken);
        }
    }

    #[test]
    fn it_is_below_run_or_where_the_user_has_a_place() {
        let system = PathBuf::from("/run/uringd");
        for none in [None, Some(OsStr::new("")), Some(OsStr::new("not/absolute"))] {
            assert_eq!(directories(none), std::slice::from_ref(&system));
        }
        let of_user = PathBuf::from("/run/user/7/uringd");
        assert_eq!(directories(Some(OsStr::new("/run/user/7"))), [system, of_user]);
    }
}
