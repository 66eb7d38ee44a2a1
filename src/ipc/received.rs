//! What comes out of a channel, and how its control messages become typed ones.
//!
//! Neighbours: `channel` makes these; `worker::control` and `master::event_loop` read them.

use super::frame::FrameError;
use super::message::{ToMaster, ToWorker, Travelling};
use super::node::{self, HandleKind};
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde_json::Value;
use std::os::fd::OwnedFd;

/// One thing the peer said or did.
#[derive(Debug)]
pub enum Received {
    /// A control message of ours; see [`ToMaster::read`] and [`ToWorker::read`].
    Control(Value),
    /// A handle, acknowledged already. One of a kind nobody wants is simply dropped.
    Handle {
        /// What the descriptor is.
        kind: HandleKind,
        /// What the sender says about it.
        message: Value,
        /// The descriptor, close-on-exec.
        fd: OwnedFd,
        /// Node's connection accounting, which we do not take part in.
        key: Option<String>,
    },
    /// A live client connection on its way from one worker to another, acknowledged already.
    Connection {
        /// What goes with it.
        travelling: Travelling,
        /// The socket, close-on-exec.
        socket: OwnedFd,
    },
    /// A handle whose descriptor did not come: most likely this process may open no more. The sender was told.
    HandleMissing {
        /// What the descriptor would have been.
        kind: HandleKind,
        /// What the sender said about it.
        message: Value,
    },
    /// A handle of ours that the peer could not take, for a `net.Socket` after three more attempts; our copy is
    /// closed.
    HandleLost {
        /// What the descriptor was.
        kind: HandleKind,
        /// What we said about it.
        message: Value,
    },
    /// A user's message. A worker's plain suicide comes so too, and [`ToMaster::read`] knows it.
    Plain(Value),
    /// The peer broke the protocol. Nothing follows.
    Broken(FrameError),
    /// The peer closed its end, or half of it, or died. Nothing follows.
    Closed,
}

impl ToMaster {
    /// The message, if this is one: control or a plain suicide. `None` for anything else and for an `act` of a later
    /// version.
    ///
    /// # Errors
    /// One line, when a known `act` has wrong content.
    pub fn read(received: &Received) -> Result<Option<ToMaster>, String> {
        match received {
            Received::Plain(message) if node::is_suicide(message) => Ok(Some(ToMaster::Suicide)),
            Received::Control(content) => decode(content),
            _ => Ok(None),
        }
    }
}

impl ToWorker {
    /// The message, if this is one. `None` for anything else and for an `act` of a later version.
    ///
    /// # Errors
    /// One line, when a known `act` has wrong content.
    pub fn read(received: &Received) -> Result<Option<ToWorker>, String> {
        match received {
            Received::Control(content) => decode(content),
            _ => Ok(None),
        }
    }
}

fn decode<M: DeserializeOwned>(content: &Value) -> Result<Option<M>, String> {
    match M::deserialize(content) {
        Ok(message) => Ok(Some(message)),
        Err(_) if has_unknown_act::<M>(content) => Ok(None),
        Err(problem) => Err(format!("control message {}: {problem}", content["act"])),
    }
}

/// Whether `M` has no variant of this name. serde_json's error does not tell that from a variant with wrong content,
/// so the tag is tried alone, with an error type that does.
fn has_unknown_act<M: DeserializeOwned>(content: &Value) -> bool {
    let Some(act) = content["act"].as_str() else { return false };
    let tag = MapDeserializer::<_, TagError>::new(std::iter::once(("act", act)));
    matches!(M::deserialize(tag), Err(TagError::UnknownAct))
}

#[derive(Debug, displaydoc::Display, thiserror::Error)]
enum TagError {
    /// no variant has this name
    UnknownAct,
    /// the variant needs more than its name
    Content,
}

impl serde::de::Error for TagError {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        TagError::Content
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        TagError::UnknownAct
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn control_messages_become_typed_ones() {
        let control = |content: Value| Received::Control(content);
        let listening = ToMaster::read(&control(json!({"act": "listening", "listener": 1})));
        assert_eq!(listening, Ok(Some(ToMaster::Listening { listener: 1 })));
        let suicide = ToMaster::read(&Received::Plain(json!({"act": "suicide", "why": "leak"})));
        assert_eq!(suicide, Ok(Some(ToMaster::Suicide)));
        let drain = ToWorker::read(&control(json!({"act": "drain", "stop": false, "later": 1})));
        assert_eq!(drain, Ok(Some(ToWorker::Drain { stop: false })));
    }

    #[test]
    fn what_is_none_of_ours_is_ignored() {
        let unknown = || Received::Control(json!({"act": "dance"}));
        assert_eq!((ToMaster::read(&unknown()), ToWorker::read(&unknown())), (Ok(None), Ok(None)));
        for other in
            [Received::Plain(json!({"act": "listening"})), Received::Plain(json!("x")), Received::Closed]
        {
            assert_eq!(ToMaster::read(&other), Ok(None));
        }
        assert_eq!(ToWorker::read(&Received::Plain(json!({"act": "suicide"}))), Ok(None));
    }

    #[test]
    fn a_known_act_with_wrong_content_is_an_error() {
        for content in [
            json!({"act": "listening"}),
            json!({"act": "listening", "listener": "first"}),
            json!({"act": "refused", "cause": {"cause": "unheard-of"}}),
            json!({"act": 5}),
            json!({}),
        ] {
            let problem = ToMaster::read(&Received::Control(content)).unwrap_err();
            assert!(problem.starts_with("control message"), "{problem}");
        }
    }
}
