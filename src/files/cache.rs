//! Files that were found, kept by path. Bounded in number, in octets of memory and in descriptors; what was used least
//! recently goes first. Who is downloading a file holds it by its Arc and is not touched by any of that.
//!
//! Neighbours: `Files` asks it first; `found` is what it keeps.

use super::found::Found;
use std::collections::HashMap;
use std::sync::Arc;

/// How long a file is taken to be what it was.
pub(super) const FRESH_MS: u64 = 1000;

const ENTRIES_MAX: usize = 1024;

/// Mapped files hold one descriptor each.
pub(super) const DESCRIPTORS_MAX: usize = 128;

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<Box<[u8]>, Entry>,
    octets_max: u64,
    held: Held,
    /// Counts uses.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    found: Arc<Found>,
    checked_ms: u64,
    used: u64,
}

/// What all entries take together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Held {
    octets: u64,
    descriptors: usize,
}

impl Cache {
    /// With room for this many octets of content.
    pub fn new(octets_max: u64) -> Cache {
        Cache { entries: HashMap::new(), octets_max, held: Held::default(), uses: 0 }
    }

    /// What is known of a path, and whether it can be taken as it is.
    #[inline]
    pub fn get(&mut self, path: &[u8], now_ms: u64) -> Option<(&Arc<Found>, bool)> {
        let entry = self.entries.get_mut(path)?;
        self.uses += 1;
        entry.used = self.uses;
        Some((&entry.found, now_ms.saturating_sub(entry.checked_ms) < FRESH_MS))
    }

    /// It was looked at and is what it was.
    pub fn confirm(&mut self, path: &[u8], now_ms: u64) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.checked_ms = now_ms;
        }
    }

    /// Keeps a file that was found at that time, unless a later look is known.
    pub fn insert(&mut self, path: Box<[u8]>, found: Arc<Found>, checked_ms: u64) {
        if self.entries.get(&path).is_some_and(|entry| entry.checked_ms > checked_ms) {
            return;
        }
        self.remove(&path);
        self.held.add(&found);
        self.uses += 1;
        self.entries.insert(path, Entry { found, checked_ms, used: self.uses });
        while self.is_overfull() && self.entries.len() > 1 {
            self.remove_least_recently_used();
        }
    }

    /// Forgets a path.
    pub fn remove(&mut self, path: &[u8]) {
        if let Some(entry) = self.entries.remove(path) {
            self.held.subtract(&entry.found);
        }
    }

    /// Makes room: descriptors or memory have run out.
    pub fn remove_half(&mut self) {
        let mut uses: Vec<u64> = self.entries.values().map(|entry| entry.used).collect();
        uses.sort_unstable();
        let Some(middle) = uses.get(uses.len() / 2).copied() else { return };
        let held = &mut self.held;
        self.entries.retain(|_, entry| {
            let stays = entry.used > middle;
            if !stays {
                held.subtract(&entry.found);
            }
            stays
        });
    }

    fn is_overfull(&self) -> bool {
        self.entries.len() > ENTRIES_MAX
            || self.held.octets > self.octets_max
            || self.held.descriptors > DESCRIPTORS_MAX
    }

    /// By looking at all of them: a thousand, next to the system calls that the new one has cost.
    fn remove_least_recently_used(&mut self) {
        let least = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(path, _)| path.clone());
        if let Some(path) = least {
            self.remove(&path);
        }
    }
}

impl Held {
    fn add(&mut self, found: &Found) {
        self.octets += found.memory_octets();
        self.descriptors += found.descriptors();
    }

    fn subtract(&mut self, found: &Found) {
        self.octets -= found.memory_octets();
        self.descriptors -= found.descriptors();
    }
}
