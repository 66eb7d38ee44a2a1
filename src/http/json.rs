//! JSON in and out (RFC 8259): a value that becomes a response, a request's content that becomes a value.
//!
//! Neighbours: for handlers; `convert` asks here whether a failure was the client's.

use super::request::Request;
use super::response::{Response, Status};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;

/// An answer in JSON: `200 OK`, `application/json`, with this value. One that JSON has no form for (a map whose keys are
/// no text, a failing `Serialize`) is logged and answers an empty `500 Internal Server Error`.
///
/// ```
/// use uringd::{Json, Response};
///
/// #[derive(serde::Serialize)]
/// struct Order {
///     id: u64,
/// }
///
/// let created = Response::from(Json(Order { id: 7 })).with_status(201);
/// assert_eq!(created.body().unwrap(), r#"{"id":7}"#);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// A request's content is not the JSON that a handler wanted. As a response it is `400 Bad Request` with one line that
/// says what is wrong and where, and no name of the program's. Its own text is for the log; what serde said is its
/// [source](Error::source).
#[derive(Debug)]
pub struct JsonError(Cause);

/// Stands below [`JsonError`] so that it is found wherever that was put: some wrappers show only the cause of what they
/// hold (`anyhow` as `Box<dyn Error>`).
#[derive(Debug)]
struct Cause(serde_json::Error);

impl<T: Serialize> From<Json<T>> for Response {
    #[track_caller]
    fn from(json: Json<T>) -> Response {
        match serde_json::to_vec(&json.0) {
            Ok(octets) => Response::bytes(octets).with_content_type("application/json"),
            Err(error) => Response::fault(format_args!("a value has no form in JSON: {error}")),
        }
    }
}

impl<'a> Request<'a> {
    /// The content, as JSON. Its Content-Type is not asked: what is read as JSON is JSON, and many a client does not
    /// say so. Text may be borrowed from the content.
    ///
    /// # Errors
    /// [`JsonError`] if it is none, or not of this shape. It becomes a [`Response`], and the `?` of a handler that
    /// returns a `Result` with a [`Response`] or an error for its second half passes it on.
    ///
    /// ```
    /// use uringd::{Json, Request, Response};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Order<'a> {
    ///     product: &'a str,
    ///     count: u32,
    /// }
    ///
    /// fn order(request: &Request<'_>) -> Result<Response, Response> {
    ///     let order: Order<'_> = request.json()?;
    ///     Ok(Response::text(format!("{} of {}", order.count, order.product)))
    /// }
    ///
    /// fn sum(request: &Request<'_>) -> Response {
    ///     let numbers: Vec<f64> = match request.json() {
    ///         Ok(numbers) => numbers,
    ///         Err(error) => return error.into(),
    ///     };
    ///     Json(numbers.iter().sum::<f64>()).into()
    /// }
    /// ```
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, JsonError> {
        serde_json::from_slice(self.body).map_err(|error| JsonError(Cause(error)))
    }
}

/// `400 Bad Request`, with a line that says what is wrong.
impl From<JsonError> for Response {
    fn from(error: JsonError) -> Response {
        error.0.refusal()
    }
}

/// The answer, if this error says that a request's content is no such JSON.
pub(super) fn refusal(error: &(dyn Error + 'static)) -> Option<Response> {
    error.downcast_ref().map(Cause::refusal)
}

impl Cause {
    /// What serde says of a shape may name the program's types and whatever its own `Deserialize` say; what it says of
    /// the syntax is always its own.
    fn refusal(&self) -> Response {
        let Cause(error) = self;
        let line = match error.is_data() {
            true => format!(
                "the content is JSON, but not of the expected shape at line {} column {}\n",
                error.line(),
                error.column()
            ),
            false => format!("the content is not valid JSON: {error}\n"),
        };
        Response::text(line).with_status(Status::BAD_REQUEST)
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's content is not the JSON that is expected")
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for JsonError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl Error for Cause {}

#[cfg(test)]
mod tests {
    use super::super::request::Method;
    use super::super::response::logged;
    use super::*;
    use bytes::Bytes;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Order<'a> {
        product: &'a str,
        count: u32,
    }

    fn read<T>(content: &str, then: impl FnOnce(Result<Order<'_>, JsonError>) -> T) -> T {
        let body = Bytes::copy_from_slice(content.as_bytes());
        then(Request { body: &body, ..Request::example(Method::Post, "/", &[]) }.json())
    }

    #[test]
    fn a_value_becomes_json() {
        let response = Response::from(Json(&Order { product: "a\"b", count: 2 }));
        assert_eq!(response.body().unwrap(), r#"{"product":"a\"b","count":2}"#);
        assert_eq!((response.code(), response.header("Content-Type")), (200, Some("application/json")));
    }

    #[test]
    fn a_value_without_a_form_in_json_is_a_500_that_says_where() {
        let pairs = BTreeMap::from([((1, 2), Ipv4Addr::LOCALHOST)]);
        let ((response, line), log) = logged(|| (Response::from(Json(&pairs)), line!()));
        assert_eq!((response.code(), response.body().unwrap().len()), (500, 0));
        assert!(log.contains("a value has no form in JSON: key must be a string"), "{log}");
        assert!(log.contains(&format!("src/http/json.rs:{line}:")), "{log}");
    }

    #[test]
    fn content_becomes_a_value() {
        let content = r#" {"product": "nut", "more": [null], "count": 3}"#;
        read(content, |order| assert_eq!(order.unwrap(), Order { product: "nut", count: 3 }));
    }

    #[test]
    fn what_is_wrong_is_said_without_a_name_of_the_program() {
        for (content, line) in [
            ("", "the content is not valid JSON: EOF while parsing a value at line 1 column 0"),
            ("{\n\"product\" 3}", "the content is not valid JSON: expected `:` at line 2 column 11"),
            ("{} x", "the content is JSON, but not of the expected shape at line 1 column 2"),
            ("{\"product\": 3}", "the content is JSON, but not of the expected shape at line 1 column 13"),
            ("[true]", "the content is JSON, but not of the expected shape at line 1 column 5"),
            ("\"\u{e9}\"", "the content is JSON, but not of the expected shape at line 1 column 4"),
        ] {
            let response = read(content, |order| Response::from(order.unwrap_err()));
            let body = std::str::from_utf8(response.body().unwrap()).unwrap();
            assert_eq!((response.code(), body), (400, format!("{line}\n").as_str()), "{content:?}");
        }
    }

    #[derive(Debug, displaydoc::Display, thiserror::Error)]
    enum Own {
        /// cannot order
        Order(#[from] JsonError),
    }

    #[test]
    fn wherever_it_was_put_it_is_the_clients_fault_and_no_line_in_the_log() {
        type Fail = fn(JsonError) -> Response;
        let table: [Fail; 6] = [
            |error| Err::<String, _>(error).into(),
            |error| Err::<String, Box<dyn Error>>(error.into()).into(),
            |error| Err::<String, Response>(error.into()).into(),
            |error| Err::<String, _>(Own::from(error)).into(),
            |error| Err::<String, _>(anyhow::Error::from(error)).into(),
            |error| Err::<String, _>(anyhow::Error::from(error).context("the order")).into(),
        ];
        for (place, fail) in table.iter().enumerate() {
            let (response, log) = logged(|| read("{", |order| fail(order.unwrap_err())));
            assert_eq!((response.code(), log.as_str()), (400, ""), "{place}");
        }
        // what JSON the program itself reads is its own business
        let own = serde_json::from_str::<u8>("{").unwrap_err();
        assert_eq!(Response::from(Err::<String, _>(own)).code(), 500);
    }

    #[test]
    fn the_text_and_its_cause_say_all_that_serde_says() {
        let error = read("{\"product\": 3}", |order| order.unwrap_err());
        let chain = format!("{:#}", anyhow::Error::from(error));
        assert_eq!(
            chain,
            "the request's content is not the JSON that is expected: \
             invalid type: integer `3`, expected a borrowed string at line 1 column 13"
        );
    }
}
