//! The channel between a master and a worker: Node's wire protocol, so that either end may be a Node process.
//! Reading order: `message` (what is said), `frame` (JSON lines), `node` (the NODE_* words), `outbox` (what waits to
//! be sent, and why), `received` (what a caller gets), `channel` (all of it on one socket).
//!
//! Neighbours: `sys::scm` moves the bytes and descriptors; `worker::control` and `master` hold a [`Channel`] each.

pub mod channel;
pub mod frame;
pub mod message;
pub mod node;
mod outbox;
pub mod received;

pub use channel::Channel;
pub use node::HandleKind;
pub use received::Received;

/// Octets of messages that may wait for one peer to read them, 16 MiB. A peer that reads is never so far behind; for one
/// that does not, the sender's memory is not to pay without end.
pub(crate) const WAITING_MAX: usize = 16 << 20;

/// What a message counts for beside its octets: what holds it takes memory too, and more than the message where that is
/// short.
pub(crate) const MESSAGE_COST: usize = 128;
