//! The options under "Files", as the workers need them: one value if there is a root, nothing if there is none. The
//! only rules that look at the file system, so that a wrong path is one line at the start and not a 404 for everybody.
//!
//! Neighbours: `resolve` asks for them, `options` is what was typed. The tree is opened by the workers, each for
//! itself.

use super::Options;
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// Octets of memory for the contents of small files, where nothing else is said.
const DEFAULT_CACHE_OCTETS: u64 = 32 << 20;

/// What is served from the file system, and how. A minor version may add a setting: begin from [`FileSettings::new`] and
/// end with `..`, as there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSettings {
    /// The directory; absolute, with its symbolic links as given.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub root: PathBuf,
    /// Which symbolic links below it are followed.
    pub symlinks: Symlinks,
    /// What is sent with a 404; relative to the root, made of names only.
    #[serde(serialize_with = "write_optional_path", deserialize_with = "read_optional_path")]
    pub not_found: Option<PathBuf>,
    /// The value of Cache-Control, if there is to be one.
    pub cache_control: Option<String>,
    /// Octets of memory per worker for the contents of small files; 0 keeps none.
    pub cache: u64,
}

impl FileSettings {
    /// The files below this directory, with what uringd's options have by default: links beneath it are followed, there
    /// is neither a page for what is missing nor Cache-Control, and 32 MiB are kept.
    ///
    /// ```
    /// use uringd::config::FileSettings;
    ///
    /// let settings = FileSettings { not_found: Some("404.html".into()), ..FileSettings::new("site") };
    /// ```
    pub fn new(root: impl Into<PathBuf>) -> FileSettings {
        FileSettings {
            root: root.into(),
            symlinks: Symlinks::default(),
            not_found: None,
            cache_control: None,
            cache: DEFAULT_CACHE_OCTETS,
        }
    }
}

/// `--symlinks`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Symlinks {
    /// None: behind a link there is nothing.
    Never,
    /// Those that lead to somewhere below the root.
    #[default]
    Beneath,
}

pub(super) fn resolve(options: &Options) -> Result<Option<FileSettings>> {
    let Some(root) = &options.root else { return refuse_without_root(options).map(|()| None) };
    check_root(root)?;
    let root = std::path::absolute(root).map_err(|error| {
        Error::config(format!("--root {}", root.display()), format!("{error}; give an absolute path"))
    })?;
    let not_found = options.not_found.as_deref().map(|file| find_not_found(&root, file)).transpose()?;
    options.cache_control.as_deref().map_or(Ok(()), check_cache_control)?;
    Ok(Some(FileSettings {
        root,
        symlinks: options.symlinks,
        not_found,
        cache_control: options.cache_control.clone(),
        cache: options.file_cache,
    }))
}

/// What has a default says nothing without a root; what was given expressly was given for files.
fn refuse_without_root(options: &Options) -> Result<()> {
    let given = [
        options.not_found.as_ref().map(|file| format!("--not-found {}", file.display())),
        options.cache_control.as_ref().map(|value| format!("--cache-control {value:?}")),
    ];
    match given.into_iter().flatten().next() {
        Some(option) => Err(Error::config(option, "it is about files, name their directory with --root DIR")),
        None => Ok(()),
    }
}

fn check_root(root: &Path) -> Result<()> {
    let refuse = |problem: String| Err(Error::config(format!("--root {}", root.display()), problem));
    match fs::metadata(root) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => refuse("it is no directory, name the one that holds the files".to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            refuse("there is no such directory, make it or correct the path".to_string())
        }
        Err(error) => refuse(format!("{error}; name a directory that uringd can read")),
    }
}

/// A file that is missing later, in the next tree behind the same link, is for the workers to cope with.
fn find_not_found(root: &Path, file: &Path) -> Result<PathBuf> {
    let refuse = |problem: String| Error::config(format!("--not-found {}", file.display()), problem);
    let mut relative = PathBuf::new();
    for part in file.components() {
        match part {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refuse(
                    "the path begins at --root and cannot leave it, write it without ..".into(),
                ));
            }
        }
    }
    match fs::metadata(root.join(&relative)) {
        Ok(found) if found.is_file() => Ok(relative),
        Ok(_) => Err(refuse("it is no file, name one such as 404.html".to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(refuse(format!("there is no such file below {}, the path begins there", root.display())))
        }
        Err(error) => Err(refuse(format!("{error}; name a file that uringd can read"))),
    }
}

/// RFC 9110 section 5.5: a field value, here without the obsolete octets above 0x7f, begins and ends visibly.
fn check_cache_control(value: &str) -> Result<()> {
    let allowed = value.bytes().all(|octet| matches!(octet, b'\t' | b' '..=b'~'));
    if value.is_empty() || !allowed || value != value.trim_ascii() {
        let problem = "expected visible ASCII, with spaces only between, such as max-age=3600";
        return Err(Error::config(format!("--cache-control {value:?}"), problem));
    }
    Ok(())
}

// A path as serde writes it must be UTF-8; the names of files need not be, and an OsString travels octet by octet.

fn write_path<S: Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    path.as_os_str().serialize(serializer)
}

fn read_path<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<PathBuf, D::Error> {
    OsString::deserialize(deserializer).map(PathBuf::from)
}

fn write_optional_path<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    path.as_deref().map(Path::as_os_str).serialize(serializer)
}

fn read_optional_path<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<PathBuf>, D::Error> {
    Ok(Option::<OsString>::deserialize(deserializer)?.map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// `site/` with `404.html` and `errors/404.html`, and `current`, a link to it.
    fn tree() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("site/errors")).unwrap();
        fs::write(folder.path().join("site/404.html"), "nothing here").unwrap();
        fs::write(folder.path().join("site/errors/404.html"), "nothing here").unwrap();
        symlink("site", folder.path().join("current")).unwrap();
        folder
    }

    fn options(root: &Path) -> Options {
        Options { root: Some(root.into()), ..Options::default() }
    }

    #[test]
    fn settings_are_by_default_what_the_options_are() {
        let folder = tree();
        let root = folder.path().join("site");
        assert_eq!(resolve(&options(&root)).unwrap(), Some(FileSettings::new(root)));
    }

    /// The error must be one line and count as wrong configuration.
    fn refusal(options: &Options) -> String {
        let error = resolve(options).expect_err("a refusal");
        let line = error.to_string();
        assert!(error.exit_code() == 2 && !line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn without_a_root_there_are_no_files() {
        assert_eq!(resolve(&Options::default()).unwrap(), None);
        let defaults = Options { symlinks: Symlinks::Never, file_cache: 0, ..Options::default() };
        assert_eq!(resolve(&defaults).unwrap(), None);
        let table = [
            (
                Options { not_found: Some("404.html".into()), ..Options::default() },
                "--not-found 404.html: it is about files, name their directory with --root DIR",
            ),
            (
                Options { cache_control: Some("no-cache".into()), ..Options::default() },
                "--cache-control \"no-cache\": it is about files",
            ),
        ];
        for (options, expected) in table {
            assert!(refusal(&options).starts_with(expected), "{}", refusal(&options));
        }
    }

    #[test]
    fn a_root_becomes_absolute_and_keeps_its_links() {
        let folder = tree();
        let current = folder.path().join("current");
        let settings = resolve(&options(&current)).unwrap().unwrap();
        let expected = FileSettings {
            root: current,
            symlinks: Symlinks::Beneath,
            not_found: None,
            cache_control: None,
            cache: 32 << 20,
        };
        assert_eq!(settings, expected);
        // this package's folder, where its tests run
        let settings = resolve(&options(Path::new("./src/config"))).unwrap().unwrap();
        assert_eq!(settings.root, std::env::current_dir().unwrap().join("src/config"));
    }

    #[test]
    fn a_root_that_is_no_directory_is_refused_with_its_name() {
        let folder = tree();
        let table = [
            ("nowhere", "nowhere: there is no such directory, make it or correct the path"),
            ("site/404.html", "404.html: it is no directory"),
            ("site/404.html/x", "404.html/x: Not a directory (os error 20); name a directory"),
            ("site/\0", "name a directory that uringd can read"),
        ];
        for (root, fragment) in table {
            let line = refusal(&options(&folder.path().join(root)));
            assert!(line.starts_with("--root ") && line.contains(fragment), "{line}");
        }
    }

    #[test]
    fn the_file_for_404_is_below_the_root() {
        let folder = tree();
        let found =
            |file: &str| Options { not_found: Some(file.into()), ..options(&folder.path().join("current")) };
        let good = [
            ("404.html", "404.html"),
            ("/404.html", "404.html"),
            ("//./errors//404.html", "errors/404.html"),
        ];
        for (file, expected) in good {
            let settings = resolve(&found(file)).unwrap().unwrap();
            assert_eq!(settings.not_found.unwrap().as_os_str(), expected, "{file}");
        }
        let bad = [
            ("../site/404.html", "the path begins at --root and cannot leave it"),
            ("errors/../404.html", "write it without .."),
            ("405.html", "there is no such file below"),
            ("errors", "--not-found errors: it is no file"),
            ("/", "--not-found /: it is no file"),
            ("", "it is no file"),
            ("404.html/x", "name a file that uringd can read"),
        ];
        for (file, fragment) in bad {
            assert!(refusal(&found(file)).contains(fragment), "{file:?}: {}", refusal(&found(file)));
        }
    }

    #[test]
    fn a_cache_control_is_a_field_value() {
        let folder = tree();
        let with = |value: &str| Options {
            cache_control: Some(value.into()),
            ..options(&folder.path().join("site"))
        };
        for value in ["no-store", "public, max-age=31536000, immutable", "a=\"b\tc\""] {
            let settings = resolve(&with(value)).unwrap().unwrap();
            assert_eq!(settings.cache_control.as_deref(), Some(value));
        }
        for value in ["", " ", " a", "a\t", "a\r\nSet-Cookie: b", "a\0", "a\x7f", "fünf"] {
            assert!(refusal(&with(value)).contains("expected visible ASCII"), "{value:?}");
        }
    }

    #[test]
    fn settings_travel_whatever_octets_the_paths_have() {
        let odd = Path::new(OsStr::from_bytes(b"/srv/caf\xe9\xff"));
        for not_found in [None, Some(odd.to_path_buf())] {
            let settings = FileSettings {
                root: odd.into(),
                symlinks: Symlinks::Never,
                not_found,
                cache_control: Some("no-cache".into()),
                cache: 1,
            };
            let json = serde_json::to_string(&settings).unwrap();
            assert!(json.contains("\"never\""), "{json}");
            assert_eq!(serde_json::from_str::<FileSettings>(&json).unwrap(), settings);
        }
    }
}
