//! Node's words: the only file that knows what `NODE_...` means on the channel and in the environment.
//!
//! Neighbours: `channel` classifies each frame here and writes the lines built here; `master::spawn` and
//! `worker::control` use the names of the environment variables.

use super::frame;
use super::message::{ToMaster, ToWorker, Travelling};
use crate::error::{Error, Result};
use crate::event::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::io;

/// Holds the number of the descriptor that is the channel. Like the next two it is removed at once by whoever it
/// was meant for: a grandchild must not take it for its own.
pub const CHANNEL_FD: &str = "NODE_CHANNEL_FD";
/// Holds how messages are written: `json` (also when missing) or `advanced`.
pub const SERIALIZATION_MODE: &str = "NODE_CHANNEL_SERIALIZATION_MODE";
/// Makes a Node process a *cluster* worker, whose listen() asks its primary. Never set by us; removed when inherited.
pub const UNIQUE_ID: &str = "NODE_UNIQUE_ID";
/// Our own mark: this process is a uringd worker of a uringd master.
pub const WORKER_MARK: &str = "URINGD_WORKER";
/// The number of the descriptor of the memory that a uringd worker counts in. Not a socket, so it cannot be sent.
pub const STATS_FD: &str = "URINGD_STATS_FD";

const INTERNAL_PREFIX: &str = "NODE_";
const HANDLE: &str = "NODE_HANDLE";
const HANDLE_ACK: &str = "NODE_HANDLE_ACK";
const HANDLE_NACK: &str = "NODE_HANDLE_NACK";
const URINGD: &str = "NODE_URINGD";
/// The `act` of what goes with a live connection. It is one of our own words, which no program can say, so that a
/// program's socket is never taken for a connection on its way, whatever message is sent with it.
const CONNECTION: &str = "connection";

/// What a handle's descriptor is, and so what a Node peer makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandleKind {
    /// A listening stream socket; `net.Server` in Node.
    #[serde(rename = "net.Server")]
    Server,
    /// A connected stream socket; `net.Socket` in Node. The only kind that is sent again after a NACK.
    #[serde(rename = "net.Socket")]
    Socket,
    /// Any stream socket; a bare handle in Node, as its cluster module sends them.
    #[serde(rename = "net.Native")]
    Native,
    /// The file that a worker writes requests to. Only between a uringd master and its workers, which have said in our own
    /// words who they are; to everybody else it is a kind that nobody knows.
    #[serde(rename = "uringd.AccessLog")]
    AccessLog,
    /// A UDP socket; `dgram.Socket` in Node. We receive (and close) these, never send them.
    #[serde(rename = "dgram.Socket")]
    DgramSocket,
    /// A UDP socket as a bare handle. We receive (and close) these, never send them.
    #[serde(rename = "dgram.Native")]
    DgramNative,
    /// A kind Node has learned since; empty when the peer named none.
    #[serde(untagged)]
    Other(String),
}

/// What a line is, judged by its `cmd` alone.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// One of our control messages, without its `cmd`.
    Uringd(Value),
    /// A descriptor comes with it.
    Handle {
        /// What the descriptor is.
        kind: HandleKind,
        /// What the sender says about it.
        message: Value,
        /// Node's connection accounting; only from a Node master and only with `net.Socket`.
        key: Option<String>,
    },
    /// The peer has taken our handle.
    Ack,
    /// Our handle's descriptor did not reach the peer.
    Nack,
    /// Another of Node's internal messages: to be ignored, as Node does.
    OtherInternal,
    /// A user's message.
    Plain(Value),
}

/// Sorts a message as Node sorts it.
pub fn classify(mut value: Value) -> Incoming {
    match internal_command(&value) {
        None => Incoming::Plain(value),
        Some(HANDLE) => unwrap_handle(value),
        Some(HANDLE_ACK) => Incoming::Ack,
        Some(HANDLE_NACK) => Incoming::Nack,
        Some(URINGD) => {
            value.as_object_mut().map(|content| content.remove("cmd"));
            Incoming::Uringd(value)
        }
        Some(_) => Incoming::OtherInternal,
    }
}

/// The `cmd` of a message that users never see: longer than the prefix, and beginning with it.
pub fn internal_command(value: &Value) -> Option<&str> {
    let cmd = value.get("cmd")?.as_str()?;
    (cmd.len() > INTERNAL_PREFIX.len() && cmd.starts_with(INTERNAL_PREFIX)).then_some(cmd)
}

/// A Node sender wraps a retransmitted handle once more; it is still one descriptor, due one ACK, and the innermost
/// message is the true one.
fn unwrap_handle(mut wrapped: Value) -> Incoming {
    loop {
        let inner = wrapped.get_mut("msg").map(Value::take).unwrap_or_default();
        if internal_command(&inner) == Some(HANDLE) {
            wrapped = inner;
            continue;
        }
        let kind = wrapped.get("type").and_then(|kind| HandleKind::deserialize(kind).ok());
        let key = wrapped.get("key").and_then(Value::as_str).map(str::to_owned);
        return Incoming::Handle {
            kind: kind.unwrap_or(HandleKind::Other(String::new())),
            message: inner,
            key,
        };
    }
}

/// Whether a plain message is a worker's wish to be replaced, as Node programs say it.
pub fn is_suicide(plain: &Value) -> bool {
    plain.get("act").and_then(Value::as_str) == Some("suicide")
}

/// The line for a message to the master. A suicide is plain, so that a Node master's `message` listener gets it.
///
/// # Errors
/// As [`frame::encode`].
pub fn to_master(message: &ToMaster) -> io::Result<Vec<u8>> {
    match message {
        ToMaster::Suicide => frame::encode(message),
        _ => control(message),
    }
}

/// The line for a message to a worker; a Node worker ignores it.
///
/// # Errors
/// As [`frame::encode`].
pub fn to_worker(message: &ToWorker) -> io::Result<Vec<u8>> {
    control(message)
}

/// The line for a user's message.
///
/// # Errors
/// `InvalidInput` for one that the peer would take for an internal message; else as [`frame::encode`].
pub fn plain(message: &Value) -> io::Result<Vec<u8>> {
    match taken_for_internal(message) {
        Some(problem) => Err(io::Error::new(io::ErrorKind::InvalidInput, problem)),
        None => frame::encode(message),
    }
}

/// Whether a user's message may travel, and how many octets that are; before it is on its way, when it is too late to
/// say so.
///
/// # Errors
/// [`Error::Message`] for one that the peer would take for an internal message, or that is longer than a line may be.
pub fn check(message: &Message) -> Result<usize> {
    let refused = |problem| Error::Message { done: "sent", problem };
    let octets = message.octets();
    match taken_for_internal(message.value()) {
        Some(problem) => Err(refused(problem)),
        None if octets > frame::MAX_FRAME => Err(refused(frame::FrameError::TooLong.to_string())),
        None => Ok(octets),
    }
}

/// The line for a user's message, checked.
///
/// # Errors
/// As [`check`].
pub fn line(message: &Message) -> Result<Vec<u8>> {
    check(message)?;
    plain(message.value()).map_err(|error| Error::Message { done: "sent", problem: error.to_string() })
}

fn taken_for_internal(message: &Value) -> Option<String> {
    internal_command(message).map(|cmd| {
        format!("its cmd may not begin with {INTERNAL_PREFIX}, which is the channel's own (it is {cmd})")
    })
}

/// What goes with a live connection's socket.
pub fn connection(travelling: &Travelling) -> Value {
    let mut story = serde_json::to_value(travelling).expect("plain data");
    story["cmd"] = URINGD.into();
    story["act"] = CONNECTION.into();
    story
}

/// The story of the live connection that a handle is; `None` for any other socket.
pub fn story(message: &Value) -> Option<Travelling> {
    let is_connection = internal_command(message) == Some(URINGD) && message["act"] == CONNECTION;
    is_connection.then(|| Travelling::deserialize(message).ok())?
}

/// The line that goes with a descriptor. No `key`: with one, a Node worker would do accounting nobody asked for.
///
/// # Errors
/// As [`frame::encode`].
pub fn handle(kind: &HandleKind, message: &Value) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Handle<'a> {
        cmd: &'static str,
        r#type: &'a HandleKind,
        msg: &'a Value,
    }
    frame::encode(&Handle { cmd: HANDLE, r#type: kind, msg: message })
}

/// The line that tells the sender of a handle that its descriptor came.
pub fn ack() -> Vec<u8> {
    command(HANDLE_ACK)
}

/// The line that tells the sender of a handle that its descriptor did not come.
pub fn nack() -> Vec<u8> {
    command(HANDLE_NACK)
}

fn command(cmd: &str) -> Vec<u8> {
    format!("{{\"cmd\":\"{cmd}\"}}\n").into_bytes()
}

/// `{"cmd":"NODE_URINGD","act":...}` from anything that serializes as an object with an `act`.
fn control(content: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut message = Map::from_iter([("cmd".to_owned(), Value::from(URINGD))]);
    if let Value::Object(fields) = serde_json::to_value(content)? {
        debug_assert!(fields.contains_key("act") && !fields.contains_key("cmd"));
        message.extend(fields);
    }
    frame::encode(&message)
}

/// Refuses a Node master that wants its messages in V8's binary form.
///
/// # Errors
/// [`Error::Config`] naming the variable and the remedy.
pub fn check_serialization(mode: Option<&OsStr>) -> Result<()> {
    match mode {
        None => Ok(()),
        Some(mode) if mode.is_empty() || mode == "json" => Ok(()),
        Some(mode) => Err(Error::config(
            SERIALIZATION_MODE,
            format!("{} is not understood; fork the worker with serialization: 'json'", mode.display()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(line: io::Result<Vec<u8>>) -> String {
        String::from_utf8(line.unwrap()).unwrap()
    }

    fn handle_of(kind: HandleKind, message: Value, key: Option<&str>) -> Incoming {
        Incoming::Handle { kind, message, key: key.map(str::to_owned) }
    }

    #[test]
    fn lines_are_sorted_as_node_sorts_them() {
        for plain in [
            json!({"cmd": "NODE_"}),
            json!({"cmd": "node_HANDLE"}),
            json!({"cmd": 5}),
            json!({"cmd": null}),
            json!({"act": "suicide"}),
            json!("NODE_HANDLE"),
            json!(["cmd", "NODE_HANDLE"]),
            json!(null),
            json!(7),
            json!({"cmd": "XNODE_HANDLE"}),
            json!({"msg": {"cmd": "NODE_HANDLE"}}),
        ] {
            assert_eq!(classify(plain.clone()), Incoming::Plain(plain));
        }
        for (value, incoming) in [
            (json!({"cmd": "NODE_HANDLE_ACK"}), Incoming::Ack),
            (json!({"cmd": "NODE_HANDLE_NACK"}), Incoming::Nack),
            (json!({"cmd": "NODE_X"}), Incoming::OtherInternal),
            (json!({"cmd": "NODE_SOCKET_GET_COUNT", "key": "k"}), Incoming::OtherInternal),
            (json!({"cmd": "NODE_URINGD", "act": "stay"}), Incoming::Uringd(json!({"act": "stay"}))),
            (
                json!({"cmd": "NODE_HANDLE", "type": "net.Server", "msg": "server"}),
                handle_of(HandleKind::Server, json!("server"), None),
            ),
            (
                json!({"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": {"a": 1}, "key": "4:::0"}),
                handle_of(HandleKind::Socket, json!({"a": 1}), Some("4:::0")),
            ),
            (
                json!({"cmd": "NODE_HANDLE", "type": "uringd.AccessLog", "msg": null}),
                handle_of(HandleKind::AccessLog, json!(null), None),
            ),
            (
                json!({"cmd": "NODE_HANDLE", "type": "dgram.Socket", "dgramType": "udp4", "msg": 1}),
                handle_of(HandleKind::DgramSocket, json!(1), None),
            ),
            (
                json!({"cmd": "NODE_HANDLE", "type": "new.Kind"}),
                handle_of(HandleKind::Other("new.Kind".into()), json!(null), None),
            ),
            (
                json!({"cmd": "NODE_HANDLE", "type": 5, "msg": 1, "key": 5}),
                handle_of(HandleKind::Other(String::new()), json!(1), None),
            ),
            (
                json!({"cmd": "NODE_HANDLE", "type": "net.Native", "msg":
                {"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": "conn", "key": "k"}}),
                handle_of(HandleKind::Socket, json!("conn"), Some("k")),
            ),
            (
                json!({"cmd": "NODE_HANDLE", "type": "net.Native", "msg": {"cmd": "NODE_CLUSTER", "act": "newconn"}}),
                handle_of(HandleKind::Native, json!({"cmd": "NODE_CLUSTER", "act": "newconn"}), None),
            ),
        ] {
            assert_eq!(classify(value), incoming);
        }
    }

    #[test]
    fn lines_are_written_as_node_writes_them() {
        assert_eq!(
            text(handle(&HandleKind::Server, &json!("server"))),
            "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Server\",\"msg\":\"server\"}\n"
        );
        assert_eq!(text(Ok(ack())), "{\"cmd\":\"NODE_HANDLE_ACK\"}\n");
        assert_eq!(text(Ok(nack())), "{\"cmd\":\"NODE_HANDLE_NACK\"}\n");
        assert_eq!(text(to_master(&ToMaster::Suicide)), "{\"act\":\"suicide\"}\n");
        for (line, value) in [
            (
                to_master(&ToMaster::Listening { listener: 2 }),
                json!({"cmd": "NODE_URINGD", "act": "listening", "listener": 2}),
            ),
            (to_worker(&ToWorker::Stay), json!({"cmd": "NODE_URINGD", "act": "stay"})),
            (
                to_worker(&ToWorker::Drain { stop: true }),
                json!({"cmd": "NODE_URINGD", "act": "drain", "stop": true}),
            ),
            (plain(&json!({"cmd": "NODE_"})), json!({"cmd": "NODE_"})),
        ] {
            assert_eq!(serde_json::from_str::<Value>(&text(line)).unwrap(), value);
        }
    }

    #[test]
    fn users_cannot_speak_the_protocols_words() {
        let refused = plain(&json!({"cmd": "NODE_HANDLE_ACK"})).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn messages_are_refused_before_they_are_on_their_way() {
        let message = |value: Value| Message::new(value).unwrap();
        for value in [json!({"a": "é\n"}), json!({"cmd": "NODE_"}), json!(["cmd", "NODE_X"]), json!(null)] {
            let octets = check(&message(value.clone())).unwrap();
            assert_eq!(octets + 1, plain(&value).unwrap().len(), "{value}");
        }
        let refused = check(&message(json!({"cmd": "NODE_HANDLE_ACK"}))).unwrap_err().to_string();
        assert!(
            refused.starts_with("a message cannot be sent: its cmd may not begin with NODE_"),
            "{refused}"
        );
        let longest = "x".repeat(frame::MAX_FRAME - 2);
        check(&message(longest.clone().into())).unwrap();
        let refused = check(&message(format!("{longest}x").into())).unwrap_err().to_string();
        assert_eq!(refused, "a message cannot be sent: a message is longer than 8 MiB");
    }

    #[test]
    fn only_our_own_word_makes_a_socket_a_connection_on_its_way() {
        let travelling = Travelling { peer: Some(([127, 0, 0, 1], 80).into()), unread: b"GET".to_vec() };
        assert_eq!(story(&connection(&travelling)), Some(travelling.clone()));
        let mut plain = serde_json::to_value(&travelling).unwrap();
        assert_eq!(story(&plain), None);
        plain["act"] = "connection".into();
        assert_eq!(story(&plain), None);
        for other in
            [json!("conn"), json!({"cmd": "NODE_URINGD", "act": "connection"}), json!({"cmd": "NODE_URINGD"})]
        {
            assert_eq!(story(&other), None, "{other}");
        }
        let handle = handle(&HandleKind::Socket, &connection(&travelling)).unwrap();
        match classify(serde_json::from_slice(&handle).unwrap()) {
            Incoming::Handle { kind: HandleKind::Socket, message, .. } => {
                assert_eq!(story(&message), Some(travelling));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_json_serialization_is_accepted() {
        for mode in [None, Some(OsStr::new("json")), Some(OsStr::new(""))] {
            check_serialization(mode).unwrap();
        }
        let refused = check_serialization(Some(OsStr::new("advanced"))).unwrap_err().to_string();
        assert!(refused.starts_with("NODE_CHANNEL_SERIALIZATION_MODE: advanced"), "{refused}");
    }
}
