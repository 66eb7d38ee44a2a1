//! A file that was found: its content in every coding that lies beside it, with the field lines of its answers put
//! together. Immutable, and shared by the cache and by those who are downloading it.
//!
//! Neighbours: `open` reads, `plan` makes answers of it, `cache` keeps it, `loader` brings it from the disk.

use super::open::{Content, Identity, Miss, Mode, Tree, map, read};
use crate::http::accept_encoding::{Coding, Codings};
use crate::http::conditional::Validators;
use crate::http::{COPIED_BODY_OCTETS_MAX, Standing};
use bytes::Bytes;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The codings that a file may be at hand in, with what its name then ends in.
const CODINGS: [(Coding, &str); 4] =
    [(Coding::Identity, ""), (Coding::Brotli, ".br"), (Coding::Zstd, ".zst"), (Coding::Gzip, ".gz")];

/// Contents of these lengths are kept in a whole answer as well: shorter ones are copied behind their heads anyhow, and
/// next to sending a longer one the copy is no matter.
const STANDING: Range<u64> = COPIED_BODY_OCTETS_MAX as u64 + 1..32 * 1024 + 1;

/// A file that changes under the reader is read again that often.
const READ_ATTEMPTS: usize = 4;

/// RFC 9110 section 12.5.5.
const VARY: &str = "\r\nVary: Accept-Encoding";

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Found {
    /// By coding; the first is always there.
    variants: [Option<Variant>; CODINGS.len()],
    codings: Codings,
    /// What was seen: the file and what lies beside it, readable or not.
    seen: [Option<Identity>; CODINGS.len()],
    /// A change after this look is seen by the next one.
    settled: bool,
}

/// The file in one coding.
#[derive(Debug)]
pub(super) struct Variant {
    entity_tag: String,
    modified_secs: u64,
    /// The media type of the file, whatever its coding.
    pub content_type: Cow<'static, str>,
    /// Field lines of a 200, each with its CRLF in front.
    pub fields: Bytes,
    /// Those of a 304.
    pub fields_unmodified: Bytes,
    /// The octets.
    pub content: Content,
    /// The 200, ready to be sent, where that is worth its memory.
    pub standing: Option<Arc<Standing>>,
}

impl Found {
    /// Looks a path up and reads all that is there, until nothing changed meanwhile. A file that never rests (a log, most
    /// likely) is taken as it was read last. `second`: the Date of the turn in which it was asked for, which is not after that of
    /// any answer with it.
    pub fn load(tree: &Tree, path: &[u8], mode: Mode, second: u64) -> Result<Found, Miss> {
        let attempts = if mode == Mode::Blocking { READ_ATTEMPTS } else { 1 };
        let mut last = None;
        for _ in 0..attempts {
            let mut reader = Reader { tree, path, mode, second, room: tree.memory_octets, steady: true };
            let read = reader.read()?;
            match reader.steady {
                true if read.is_some() => return read.ok_or(Miss::Busy),
                _ => last = read.or(last),
            }
        }
        match mode {
            Mode::Cached => Err(Miss::WouldBlock),
            Mode::Blocking => last.ok_or(Miss::Busy),
        }
    }

    /// Everything is still as it was when this was read.
    pub fn is_current(&self, tree: &Tree, path: &[u8], mode: Mode) -> Result<bool, Miss> {
        Ok(self.settled && see(tree, path, mode)? == self.seen)
    }

    /// The codings that it is at hand in.
    pub fn codings(&self) -> Codings {
        self.codings
    }

    /// It in one of its codings.
    pub fn variant(&self, coding: Coding) -> &Variant {
        let place = CODINGS.iter().position(|(other, _)| *other == coding);
        place.and_then(|place| self.variants[place].as_ref()).expect("one of `codings`")
    }

    /// Octets of memory that its content takes.
    pub fn memory_octets(&self) -> u64 {
        let octets = |content: &Content| match content {
            Content::Memory(bytes) => memory_octets(bytes.len() as u64),
            Content::Mapped(_) => 0,
        };
        self.contents().map(octets).sum()
    }

    /// Descriptors that it holds.
    pub fn descriptors(&self) -> usize {
        self.contents().filter(|content| matches!(content, Content::Mapped(_))).count()
    }

    fn contents(&self) -> impl Iterator<Item = &Content> {
        self.variants.iter().flatten().map(|variant| &variant.content)
    }
}

/// The file and what lies beside it.
fn see(tree: &Tree, path: &[u8], mode: Mode) -> Result<[Option<Identity>; CODINGS.len()], Miss> {
    let mut seen = [None; CODINGS.len()];
    seen[0] = Some(tree.identify(path, mode)?);
    for (place, (_, suffix)) in CODINGS.into_iter().enumerate().skip(1) {
        seen[place] = match tree.identify(&join(path, suffix), mode) {
            Ok(identity) => Some(identity),
            Err(miss @ (Miss::WouldBlock | Miss::Busy)) => return Err(miss),
            Err(_) => None,
        };
    }
    Ok(seen)
}

fn join(path: &[u8], suffix: &str) -> Vec<u8> {
    [path, suffix.as_bytes()].concat()
}

/// One reading of a file and of what lies beside it.
struct Reader<'a> {
    tree: &'a Tree,
    path: &'a [u8],
    mode: Mode,
    /// None of the files is said to have been modified after that.
    second: u64,
    /// Octets of memory left for contents.
    room: u64,
    /// Nothing has changed since it was looked at.
    steady: bool,
}

impl Reader<'_> {
    /// `None` if the file became shorter while it was read.
    fn read(&mut self) -> Result<Option<Found>, Miss> {
        let now = SystemTime::now();
        let now_secs = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let latest = now_secs.min(self.second);
        let seen = see(self.tree, self.path, self.mode)?;
        let mut contents = [const { None }; CODINGS.len()];
        for (place, (_, suffix)) in CODINGS.into_iter().enumerate() {
            let Some(identity) = seen[place] else { continue };
            contents[place] = match self.read_variant(suffix, identity) {
                // what lies beside it is no reason not to send it
                Err(Miss::Missing | Miss::Directory | Miss::Forbidden | Miss::Broken) if place > 0 => None,
                outcome => outcome?,
            };
        }
        if contents[0].is_none() {
            return Ok(None);
        }
        let vary = contents.iter().skip(1).any(Option::is_some);
        let mut variants = [const { None }; CODINGS.len()];
        let mut codings = Codings::IDENTITY;
        for (place, (identity, content)) in
            contents.into_iter().enumerate().filter_map(|(at, it)| Some((at, it?)))
        {
            let coding = CODINGS[place].0;
            codings = codings.with(coding);
            let lines =
                Lines { path: self.path, coding, vary, cache_control: self.tree.cache_control.as_deref() };
            variants[place] = Some(Variant::new(&lines, &identity, latest, content));
        }
        // a date that was only put back for this turn's sake is put right by another look
        let is_final = |identity: &Identity| {
            identity.is_settled(now) && identity.modified_secs(latest) == identity.modified_secs(now_secs)
        };
        let settled = self.steady && seen.iter().flatten().all(is_final);
        Ok(Some(Found { variants, codings, seen, settled }))
    }

    fn read_variant(&mut self, suffix: &str, seen: Identity) -> Result<Option<(Identity, Content)>, Miss> {
        let path = join(self.path, suffix);
        let (file, identity) = self.tree.open_file(&path, self.mode)?;
        self.steady &= identity == seen;
        let fits = self.tree.has_memory(identity.octets()) && memory_octets(identity.octets()) <= self.room;
        let content = if fits {
            let content = read(self.tree, &file, &identity, &path, self.mode)?;
            self.steady &= content.is_some() && Identity::of_open(&file) == Some(identity);
            content.map(Content::Memory)
        } else {
            let content = map(file, &identity, &path, self.mode)?;
            self.steady &= content.is_some();
            content.map(Content::Mapped)
        };
        if let Some(Content::Memory(bytes)) = &content {
            self.room = self.room.saturating_sub(memory_octets(bytes.len() as u64));
        }
        Ok(content.map(|content| (identity, content)))
    }
}

/// What a content of this length takes.
fn memory_octets(content: u64) -> u64 {
    if STANDING.contains(&content) { 2 * content } else { content }
}

/// What the field lines are put together from, beside the file itself.
struct Lines<'a> {
    path: &'a [u8],
    coding: Coding,
    vary: bool,
    cache_control: Option<&'a str>,
}

impl Variant {
    fn new(lines: &Lines<'_>, identity: &Identity, latest: u64, content: Content) -> Variant {
        let (entity_tag, modified_secs) = (identity.entity_tag(), identity.modified_secs(latest));
        let modified = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(modified_secs));
        let content_type = content_type(lines.path);
        // RFC 9110 section 15.4.5: what a 304 must say too, and Last-Modified for those who ask by date
        let mut unmodified = format!("\r\nLast-Modified: {modified}\r\nETag: {entity_tag}");
        if let Some(value) = lines.cache_control {
            unmodified += &format!("\r\nCache-Control: {value}");
        }
        if lines.vary {
            unmodified += VARY;
        }
        let mut fields = format!("\r\nContent-Type: {content_type}");
        if lines.coding != Coding::Identity {
            fields += &format!("\r\nContent-Encoding: {}", lines.coding.as_str());
        }
        fields += "\r\nAccept-Ranges: bytes";
        fields += &unmodified;
        let fields = Bytes::from(fields);
        let standing = match &content {
            Content::Memory(bytes) if STANDING.contains(&(bytes.len() as u64)) => {
                Some(Arc::new(Standing::new(fields.clone(), bytes.clone())))
            }
            Content::Memory(_) | Content::Mapped(_) => None,
        };
        Variant {
            entity_tag,
            modified_secs,
            content_type,
            fields,
            fields_unmodified: unmodified.into(),
            content,
            standing,
        }
    }

    /// What conditions are held against.
    pub fn validators(&self) -> Validators<'_> {
        Validators { etag: self.entity_tag.as_bytes(), modified_secs: self.modified_secs }
    }
}

/// By the name's ending. Text is taken to be UTF-8, as nearly all of it is; JSON is by definition.
fn content_type(path: &[u8]) -> Cow<'static, str> {
    let guessed = mime_guess::from_path(Path::new(OsStr::from_bytes(path))).first_raw();
    match guessed.unwrap_or("application/octet-stream") {
        // RFC 9239 section 6: the other names for it are obsolete
        "application/javascript" | "text/javascript" => Cow::Borrowed("text/javascript; charset=utf-8"),
        text if text.starts_with("text/") => Cow::Owned(format!("{text}; charset=utf-8")),
        other => Cow::Borrowed(other),
    }
}
