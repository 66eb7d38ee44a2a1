//! Static files. A request goes `path` (which name below the root) -> `cache` (known and looked at within the last
//! second?) -> `open` and `found` (look at it, read it) -> `plan` (which answer); what would wait for a disk goes to
//! `loader` instead. Everything but `open` and `loader` decides without I/O.
//!
//! Neighbours: `config` has the settings, `http` reads the fields; it is a `handler` like any program's.

mod cache;
mod found;
mod loader;
mod open;
pub mod path;
mod plan;

use crate::config::FileSettings;
use crate::handler::{Handler, Reply, turn, turn_ms};
use crate::http::{Admission, Request, Response, Status};
use cache::Cache;
use found::Found;
use loader::{Loader, Waiter};
use open::{Miss, Mode, Tree};
use path::{Refusal, Resolved};
use plan::Question;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// An empty path leads nowhere (ENOENT): what is hidden is answered as what is not there.
const NOWHERE: Resolved<'static> = Resolved { relative: b"", directory: true };

/// What is asked for with the prefix alone.
const ROOT_AS_A_FILE: Resolved<'static> = Resolved { relative: b"", directory: false };

/// What is sent for a directory.
const INDEX: &[u8] = b"index.html";

/// Answers with the files of a directory: GET and HEAD, with conditions, ranges, and what lies beside a file compressed
/// (`.br`, `.zst`, `.gz`). A handler, or a part of one:
///
/// ```no_run
/// use uringd::{Cluster, Files, Reply, Request, Response};
///
/// fn main() -> uringd::Result<()> {
///     Cluster::new().listen("0.0.0.0:1337").run(|_| {
///         let mut files = Files::new("./site").expect("a directory");
///         move |request: &Request<'_>| match request.path() {
///             "/hello" => Reply::from(Response::text("hello")),
///             _ => files.reply(request),
///         }
///     })
/// }
/// ```
///
/// Nothing outside the directory is ever sent, whatever its symbolic links say. A file that has been changed is seen
/// within about a second.
#[derive(Debug)]
pub struct Files {
    tree: Arc<Tree>,
    cache: Cache,
    loader: Loader,
    /// What stands before the files' paths; without a slash at its end, so usually empty.
    prefix: Box<str>,
    /// For paths that must be rewritten.
    scratch: Vec<u8>,
    /// For the paths of directories' index files.
    index: Vec<u8>,
}

/// An answer, or what the loader must do for it.
enum Outcome {
    Now(Response),
    /// Waits for a disk: this path, for this question.
    Later {
        path: Box<[u8]>,
        known: Option<Arc<Found>>,
        question: Question<'static>,
        redirect: Option<Vec<u8>>,
        page: Option<Arc<Found>>,
    },
}

impl Files {
    /// The files below this directory, with the settings that uringd has by default.
    ///
    /// # Errors
    /// It cannot be opened, or the kernel does not let files be opened below it.
    pub fn new(root: impl AsRef<Path>) -> io::Result<Files> {
        Files::with_settings(&FileSettings::new(root.as_ref()))
    }

    /// The same with these settings, such as a page for what is missing; see [`FileSettings::new`].
    ///
    /// # Errors
    /// As with [`Files::new`]; or `cache_control` is no value of a field.
    pub fn with_settings(settings: &FileSettings) -> io::Result<Files> {
        let tree = Arc::new(Tree::open(settings)?);
        Ok(Files {
            cache: Cache::new(settings.cache),
            loader: Loader::new(Arc::clone(&tree)),
            tree,
            prefix: Box::default(),
            scratch: Vec::new(),
            index: Vec::new(),
        })
    }

    /// The same files under a prefix: `Files::new("site")?.under("/static")` answers `/static/style.css` with
    /// `site/style.css`, and what is not under the prefix as what is not there.
    pub fn under(mut self, prefix: &str) -> Files {
        self.prefix = prefix.trim_end_matches('/').into();
        self
    }

    /// Answers a request: at once if what is asked for is in memory, when it has been read if not.
    #[inline]
    pub fn reply(&mut self, request: &Request<'_>) -> Reply {
        match self.answer(request) {
            Outcome::Now(response) => response.into(),
            Outcome::Later { path, known, question, redirect, page } => {
                let (promise, reply) = Reply::promise();
                let answer = Box::new(|response: Response| promise.keep(response));
                let waiter = Waiter { question, redirect, page, answer };
                if let Err(waiter) = self.loader.submit(&path, known.clone(), waiter, turn()) {
                    // better what it was a moment ago than nothing
                    let response = known.map(|found| plan::answer(&waiter.question, &found));
                    (waiter.answer)(response.unwrap_or_else(plan::busy));
                }
                reply
            }
        }
    }

    #[inline]
    fn answer(&mut self, request: &Request<'_>) -> Outcome {
        if let Some(refusal) = plan::refuse_method(request.method()) {
            return Outcome::Now(refusal);
        }
        let Some(path) = request.path().strip_prefix(&*self.prefix) else {
            return self.answer_nowhere(request);
        };
        if path.is_empty() {
            let target = plan::redirect(&self.prefix, &ROOT_AS_A_FILE, request.query());
            return Outcome::Now(plan::answer_miss(Miss::Directory, target, None));
        }
        // taken for the time being, so that the path can be borrowed from them
        let (mut scratch, mut index) = (std::mem::take(&mut self.scratch), std::mem::take(&mut self.index));
        let outcome = match path::resolve(path, &mut scratch) {
            Ok(resolved) => {
                let path = file_path(&resolved, &mut index);
                self.answer_path(path, &resolved, request)
            }
            // the prefix was only the beginning of a name
            Err(_) if !self.prefix.is_empty() && !path.starts_with('/') => self.answer_nowhere(request),
            Err(Refusal::Malformed) => Outcome::Now(Status::BAD_REQUEST.into()),
            Err(Refusal::Hidden) => self.answer_nowhere(request),
        };
        (self.scratch, self.index) = (scratch, index);
        outcome
    }

    /// As what is not there.
    fn answer_nowhere(&mut self, request: &Request<'_>) -> Outcome {
        self.look_up(NOWHERE.relative, &NOWHERE, request, Question::read(request))
    }

    #[inline]
    fn answer_path(&mut self, path: &[u8], resolved: &Resolved<'_>, request: &Request<'_>) -> Outcome {
        let question = Question::read(request);
        if let Some((found, true)) = self.cache.get(path, turn_ms()) {
            return Outcome::Now(plan::answer(&question, found));
        }
        self.look_up(path, resolved, request, question)
    }

    fn look_up(
        &mut self,
        path: &[u8],
        resolved: &Resolved<'_>,
        request: &Request<'_>,
        question: Question<'_>,
    ) -> Outcome {
        let miss = match self.find(path) {
            Ok(found) => return Outcome::Now(plan::answer(&question, &found)),
            Err(miss) => miss,
        };
        let redirect = match miss {
            Miss::Directory | Miss::WouldBlock => plan::redirect(&self.prefix, resolved, request.query()),
            _ => None,
        };
        let page = match miss {
            Miss::Missing | Miss::Directory if redirect.is_none() => self.page(),
            _ => Ok(None),
        };
        match (miss, page) {
            (Miss::WouldBlock, _) | (_, Err(Miss::WouldBlock)) => Outcome::Later {
                path: path.into(),
                known: self.cache.get(path, turn_ms()).map(|(found, _)| Arc::clone(found)),
                question: question.into_owned(),
                redirect,
                page: self.page_at_hand(),
            },
            (miss, page) => Outcome::Now(plan::answer_miss(miss, redirect, page.ok().flatten().as_deref())),
        }
    }

    /// What is sent with a 404, if there is such a thing.
    fn page(&mut self) -> Result<Option<Arc<Found>>, Miss> {
        let path = self.tree.not_found.clone();
        path.map(|path| self.find(&path)).transpose()
    }

    /// The same, without looking for it.
    fn page_at_hand(&mut self) -> Option<Arc<Found>> {
        let (page, fresh) = self.cache.get(self.tree.not_found.as_deref()?, turn_ms())?;
        fresh.then(|| Arc::clone(page))
    }

    /// The file as it is now, or as it was within the last second.
    fn find(&mut self, path: &[u8]) -> Result<Arc<Found>, Miss> {
        for arrival in self.loader.take_arrived() {
            self.cache.insert(arrival.path, arrival.found, arrival.asked_ms);
        }
        let known = match self.cache.get(path, turn_ms()) {
            Some((found, true)) => return Ok(Arc::clone(found)),
            Some((found, false)) => Some(Arc::clone(found)),
            None => None,
        };
        let mut found = self.look(path, known.as_ref());
        if let Err(Miss::Busy) = found {
            self.cache.remove_half();
            found = self.look(path, known.as_ref());
        }
        match &found {
            Ok(found) if known.is_some_and(|known| Arc::ptr_eq(&known, found)) => {
                self.cache.confirm(path, turn_ms());
            }
            Ok(found) => self.cache.insert(path.into(), Arc::clone(found), turn_ms()),
            Err(Miss::WouldBlock | Miss::Busy) => {}
            Err(_) => self.cache.remove(path),
        }
        found
    }

    fn look(&self, path: &[u8], known: Option<&Arc<Found>>) -> Result<Arc<Found>, Miss> {
        match known {
            Some(known) if known.is_current(&self.tree, path, Mode::Cached)? => Ok(Arc::clone(known)),
            _ => Found::load(&self.tree, path, Mode::Cached, turn().second).map(Arc::new),
        }
    }
}

impl Handler for Files {
    #[inline]
    fn handle(&mut self, request: &Request<'_>) -> Reply {
        self.reply(request)
    }

    fn admit(&mut self, head: &Request<'_>) -> Admission {
        plan::refuse_method(head.method()).map_or(Admission::Collect, Admission::Answer)
    }
}

/// Which file a path means.
#[inline]
fn file_path<'a>(resolved: &Resolved<'a>, index: &'a mut Vec<u8>) -> &'a [u8] {
    match (resolved.directory, resolved.relative) {
        (false, relative) => relative,
        (true, b"") => INDEX,
        (true, relative) => {
            index.clear();
            index.extend_from_slice(relative);
            index.push(b'/');
            index.extend_from_slice(INDEX);
            index
        }
    }
}

#[cfg(test)]
mod tests;
