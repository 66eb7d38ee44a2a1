//! Uploads of any size, straight to a file: the client is read from as fast as the disk writes, and nothing is held in
//! memory but what is between the two.
//!
//! ```text
//! UPLOAD_DIR=/tmp/uploads cargo run --example upload -- --port 1337
//! curl -T Cargo.lock http://127.0.0.1:1337/
//! curl http://127.0.0.1:1337/
//! curl http://127.0.0.1:1337/Cargo.lock
//! ```
//!
//! | request | what it does |
//! |---|---|
//! | `PUT /NAME` | keeps the content as this file of the directory that `UPLOAD_DIR` names (`uploads`); 201, or 204 if there was one |
//! | `GET /` | lists the files |
//! | `GET /NAME` | gives one back |
//!
//! A name is made of letters, digits, `.`, `_` and `-`, and does not begin with a dot: 400 before any of the content is
//! read. A file appears when it is whole and on the disk, in the place of the one before; half an upload leaves nothing.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use uringd::{
    Admission, Cluster, Event, File, Files, Handler, Method, Pieces, Reply, Request, Response, Role, Status,
};

const NAME_OCTETS_MAX: usize = 200;

/// How the names of files end that are not whole.
const PARTIAL: &str = ".part";

fn main() -> ExitCode {
    let directory = PathBuf::from(std::env::var_os("UPLOAD_DIR").unwrap_or_else(|| "uploads".into()));
    let cluster = Cluster::from_args();
    if Cluster::role() == Role::Master
        && let Err(error) = fs::create_dir_all(&directory)
    {
        eprintln!("cannot keep uploads in {}: {error}", directory.display());
        return ExitCode::FAILURE;
    }
    let uploads = directory.clone();
    // not before: until the address is ours, another instance may be writing these
    let at_setup = move |event: &Event| {
        if matches!(event, Event::Setup { .. })
            && let Err(error) = remove_partial(&uploads)
        {
            eprintln!("half uploads stay in {}: {error}", uploads.display());
        }
    };
    match cluster.on_event(at_setup).run(|_| Upload::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// What workers that were killed have left.
fn remove_partial(directory: &Path) -> io::Result<()> {
    for name in names(directory)?.filter(|name| name.ends_with(PARTIAL)) {
        fs::remove_file(directory.join(name))?;
    }
    Ok(())
}

fn names(directory: &Path) -> io::Result<impl Iterator<Item = String>> {
    Ok(fs::read_dir(directory)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()))
}

struct Upload {
    directory: PathBuf,
    /// Gives them back; hides those whose names begin with a dot.
    files: Files,
}

impl Upload {
    fn new(directory: PathBuf) -> io::Result<Upload> {
        Ok(Upload { files: Files::new(&directory)?, directory })
    }

    fn list(&self) -> io::Result<String> {
        let mut names: Vec<_> = names(&self.directory)?.filter(|name| is_name(name)).collect();
        names.sort_unstable();
        Ok(names.iter().map(|name| format!("{name}\n")).collect())
    }
}

impl Handler for Upload {
    fn admit(&mut self, head: &Request<'_>) -> Admission {
        match head.method() {
            Method::Put if is_name(&head.path()[1..]) => Admission::Pieces,
            Method::Put => Admission::Answer(Status::BAD_REQUEST.into()),
            _ => Admission::Answer(Response::not_allowed("GET, HEAD, PUT")),
        }
    }

    fn handle(&mut self, request: &Request<'_>) -> Reply {
        match request.method() {
            Method::Put if is_name(&request.path()[1..]) => {
                let path = self.directory.join(&request.path()[1..]);
                Reply::later(save(path, request.pieces()))
            }
            Method::Put => Status::BAD_REQUEST.into(),
            Method::Get | Method::Head if request.path() == "/" => self.list().into(),
            Method::Get | Method::Head => self.files.handle(request),
            _ => Response::not_allowed("GET, HEAD, PUT").into(),
        }
    }
}

/// A name comes from anybody: nothing in it may mean anything to a file system, or to this program.
fn is_name(name: &str) -> bool {
    (1..=NAME_OCTETS_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(&octet))
}

/// While a piece is written the next ones come in, up to 64 KiB; then the client waits.
async fn save(path: PathBuf, mut pieces: Pieces) -> io::Result<Status> {
    let partial = Partial::new(&path)?;
    let mut octets = 0;
    while let Some(piece) = pieces.next().await {
        octets += partial.file.write_all_at(piece?, octets).await?;
    }
    partial.file.sync_all().await?;
    let replaces = path.exists();
    partial.publish(&path)?;
    Ok(if replaces { Status::NO_CONTENT } else { Status::CREATED })
}

/// A file that is not whole. It is removed when this is dropped: with the future that writes it when its client has gone, or
/// because of an error.
struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    /// This does not wait for the content of any file, so it is done here and now: a `File::create` that is abandoned
    /// while it waits may still create its file, when nobody is left to remove it.
    fn new(whole: &Path) -> io::Result<Partial> {
        thread_local!(static SERIAL: Cell<u64> = const { Cell::new(0) });
        let serial = SERIAL.replace(SERIAL.get() + 1);
        let name = whole.file_name().unwrap_or_default().display();
        let path = whole.with_file_name(format!(".{name}.{}-{serial}{PARTIAL}", std::process::id()));
        Ok(Partial { file: fs::File::create_new(&path)?.into(), path })
    }

    fn publish(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // there is nothing to remove when it has been published
        let _ = fs::remove_file(&self.path);
    }
}
