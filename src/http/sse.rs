//! Server-sent events: an answer that goes on for as long as there is something to tell (WHATWG HTML, section 9.2). A client
//! that is cut off comes back by itself and says what it has had last.
//!
//! ```
//! use std::time::Duration;
//! use uringd::sse::{Event, Events, last_event_id};
//! use uringd::{Reply, Request};
//!
//! fn ticks(request: &Request<'_>) -> Reply {
//!     let had = last_event_id(request).and_then(|id| id.parse().ok()).unwrap_or(0);
//!     let (mut events, response) = Events::channel();
//!     Reply::stream(response, async move {
//!         for n in had + 1.. {
//!             events.send(Event::data(format!("tick {n}")).with_id(n.to_string())).await?;
//!             uringd::sleep(Duration::from_secs(1)).await;
//!         }
//!         Ok(())
//!     })
//! }
//! ```
//!
//! Neighbours: an `Events` is the writing end of a `pipe`, and its other end a `response`.

use super::pipe::{Gone, Sender};
use super::request::Request;
use super::response::Response;
use bytes::Bytes;
use std::fmt::Write;
use std::time::Duration;

/// Where events are sent: the content of an answer, made on any thread.
///
/// The stream ends, whole, when this is dropped. It ends as well when its worker begins to drain, between two events:
/// clients come back at once and find another worker, so that a reload waits for none of them.
#[derive(Debug)]
#[must_use = "a stream of events ends when this is dropped"]
pub struct Events(Sender);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an event is nothing until it is sent"]
pub struct Event(String);

impl Events {
    /// A stream of events, and the answer that carries it: `text/event-stream`, not to be cached, and not to be held back
    /// by a proxy (nginx: `X-Accel-Buffering`).
    pub fn channel() -> (Events, Response) {
        let (mut sender, response) = Response::channel();
        sender.end_when_asked();
        let response = response
            .with_content_type("text/event-stream")
            .with_header("Cache-Control", "no-store")
            .with_header("X-Accel-Buffering", "no");
        (Events(sender), response)
    }

    /// Sends an event; waits while the client has not taken 64 KiB of those before.
    ///
    /// # Errors
    /// [`Gone`]: the client has left, or has been sent to another worker.
    pub async fn send(&mut self, event: Event) -> Result<(), Gone> {
        self.0.send(event.into_octets()).await
    }

    /// The same for a thread that may wait.
    ///
    /// # Errors
    /// [`Gone`]: the client has left, or has been sent to another worker.
    pub fn blocking_send(&mut self, event: Event) -> Result<(), Gone> {
        self.0.blocking_send(event.into_octets())
    }

    /// Sends a comment, which clients pass over: proxies that close silent connections see that this one lives, and a client
    /// that has gone without a word is noticed. Every 15 seconds is usual.
    ///
    /// # Errors
    /// [`Gone`]: the client has left, or has been sent to another worker.
    pub async fn keep_alive(&mut self) -> Result<(), Gone> {
        self.0.send(Bytes::from_static(b":\n\n")).await
    }

    /// Waits until nobody listens any more.
    pub async fn closed(&mut self) {
        self.0.closed().await;
    }

    /// Nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.end_whole();
    }
}

impl Event {
    /// An event with this data, which may have several lines.
    pub fn data(text: impl AsRef<str>) -> Event {
        let mut lines = String::new();
        let text = text.as_ref().replace("\r\n", "\n");
        for line in text.split(['\n', '\r']) {
            // to a String it cannot fail
            let _ = writeln!(lines, "data: {line}");
        }
        Event(lines)
    }

    /// The same with a name: JavaScript's `addEventListener(name, ...)` hears it. Line breaks in a name are left out.
    pub fn with_name(self, name: &str) -> Event {
        self.with_field("event", name)
    }

    /// The same with an identifier, which a client that comes back says ([`last_event_id`]). Line breaks and NUL in it are
    /// left out.
    pub fn with_id(self, id: impl AsRef<str>) -> Event {
        self.with_field("id", &id.as_ref().replace('\0', ""))
    }

    /// The same with the time after which a client that was cut off comes back; counted in milliseconds.
    pub fn with_retry(self, time: Duration) -> Event {
        self.with_field("retry", &time.as_millis().to_string())
    }

    fn with_field(mut self, name: &str, value: &str) -> Event {
        let value = value.replace(['\r', '\n'], "");
        let _ = writeln!(self.0, "{name}: {value}");
        self
    }

    fn into_octets(mut self) -> Bytes {
        self.0.push('\n');
        self.0.into()
    }
}

/// The identifier of the last event that a client has had before it was cut off (`Last-Event-ID`).
pub fn last_event_id<'a>(request: &Request<'a>) -> Option<&'a str> {
    std::str::from_utf8(request.headers().get("last-event-id")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Method;

    /// WHATWG HTML, section 9.2.6.
    #[test]
    fn events_on_the_wire() {
        for (event, wire) in [
            (Event::data("a"), "data: a\n\n"),
            (Event::data(""), "data: \n\n"),
            (Event::data("a\nb\r\nc\rd\n"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
            (Event::data("a").with_name("tick").with_id("7"), "data: a\nevent: tick\nid: 7\n\n"),
            (Event::data("a").with_retry(Duration::from_secs(2)), "data: a\nretry: 2000\n\n"),
            (
                Event::data("a").with_id("7\n\ndata: forged\0").with_name("x\rid: 1"),
                "data: a\nid: 7data: forged\nevent: xid: 1\n\n",
            ),
        ] {
            assert_eq!(event.into_octets(), wire);
        }
    }

    #[test]
    fn a_client_that_comes_back_says_what_it_has_had() {
        let fields = [httparse::Header { name: "Last-Event-ID", value: b"41" }];
        assert_eq!(last_event_id(&Request::example(Method::Get, "/", &fields)), Some("41"));
        assert_eq!(last_event_id(&Request::example(Method::Get, "/", &[])), None);
    }
}
