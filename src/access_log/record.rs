//! What a line says of a request whose input is gone before it is over: because the answer comes later, or because its
//! content takes a while to send. A record is filled again and again, so its room is allocated once.
//!
//! Neighbours: `mod` hands them out and takes them back; `http::exchange` and `worker::queue` hold them meanwhile.

use super::line::{Asked, Entry};
use crate::stats::Nanos;
use std::net::SocketAddr;
use std::ops::Range;

/// Octets of words that stay allocated in a record; a longer one's room is given back.
const KEPT: usize = 4096;

/// See the module's comment.
#[derive(Debug, Default)]
pub struct Record {
    peer: Option<SocketAddr>,
    /// The words of the client, one behind the other.
    words: Vec<u8>,
    method: Range<usize>,
    target: Range<usize>,
    version: Range<usize>,
    referer: Option<Range<usize>>,
    user_agent: Option<Range<usize>>,
    status: u16,
    arrived: Nanos,
    /// Octets that are counted and come before the content: the head's, and what was to be sent before that.
    lead: u64,
    /// Octets that had been sent before they were counted.
    before: u64,
    /// Octets that were handed over as a whole, and in which of the loop's turns.
    handed: (u64, u32),
}

impl Record {
    /// It is about this now; nothing has been sent.
    pub(super) fn fill(&mut self, entry: &Entry<'_>) {
        let Entry { peer, asked, arrived, .. } = *entry;
        self.words.clear();
        self.words.shrink_to(KEPT);
        let Asked { method, target, version, referer, user_agent } = asked;
        (self.method, self.target, self.version) = (self.push(method), self.push(target), self.push(version));
        self.referer = referer.map(|word| self.push(word));
        self.user_agent = user_agent.map(|word| self.push(word));
        (self.peer, self.arrived) = (peer, arrived);
        (self.status, self.lead, self.before) = (0, 0, 0);
    }

    fn push(&mut self, word: &[u8]) -> Range<usize> {
        let start = self.words.len();
        self.words.extend_from_slice(word);
        start..self.words.len()
    }

    /// The request's last octet came then.
    pub fn set_arrived(&mut self, arrived: Nanos) {
        self.arrived = arrived;
    }

    /// It is being answered: with this status, and so many octets before the content.
    pub fn begin(&mut self, status: u16, lead: u64) {
        self.status = status;
        self.lead = lead;
    }

    /// More than was known goes out before its content.
    pub fn lead_by(&mut self, octets: u64) {
        self.lead += octets;
    }

    /// Octets before its content.
    pub fn lead(&self) -> u64 {
        self.lead
    }

    /// So many octets have been sent already, and will not be counted again.
    pub fn sent_before(&mut self, octets: u64) {
        self.before += octets;
    }

    /// All of it, with what comes before, is handed over in this turn: so many octets.
    pub fn hand_over(&mut self, octets: u64, turn: u32) {
        self.handed = (octets, turn);
    }

    /// See [`Record::hand_over`].
    pub fn handed_over(&self) -> (u64, u32) {
        self.handed
    }

    /// What it says if it is over with so many octets counted.
    pub fn entry(&self, octets: u64) -> Entry<'_> {
        let word = |range: &Range<usize>| &self.words[range.clone()];
        Entry {
            peer: self.peer,
            asked: Asked {
                method: word(&self.method),
                target: word(&self.target),
                version: word(&self.version),
                referer: self.referer.as_ref().map(word),
                user_agent: self.user_agent.as_ref().map(word),
            },
            status: self.status,
            octets: (self.before + octets).saturating_sub(self.lead),
            arrived: self.arrived,
        }
    }
}
