//! Conversions with the types of the [`http`](::http) crate, which many libraries are written for.
//!
//! Neighbours: for handlers that pass requests to such a library and its responses back.

use super::request::{Method, Request, Version};
use super::response::{InvalidStatus, Response, Status};
use ::http::HeaderName;
use bytes::Bytes;

/// uringd does not speak {0}
#[derive(Debug, Clone, PartialEq, Eq, displaydoc::Display, thiserror::Error)]
pub struct NotSpoken(String);

/// A request as the `http` crate has it: method, target, version, header fields, and the content, which is not copied.
///
/// # Errors
/// Where that crate is stricter than RFC 9112, such as for a target with characters that it does not know from URIs.
///
/// ```
/// use bytes::Bytes;
/// use uringd::{Request, Response};
///
/// fn handle(request: &Request<'_>) -> Result<Response, http::Error> {
///     let request: http::Request<Bytes> = request.try_into()?;
///     let response = http::Response::builder().status(203).header("ETag", "\"a\"").body(request.into_body())?;
///     Ok(response.into())
/// }
/// ```
impl TryFrom<&Request<'_>> for ::http::Request<Bytes> {
    type Error = ::http::Error;

    fn try_from(request: &Request<'_>) -> Result<::http::Request<Bytes>, ::http::Error> {
        let builder = ::http::Request::builder()
            .method(request.method())
            .uri(request.target())
            .version(request.version().into());
        let headers = request.headers();
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(name, value));
        builder.body(request.body().clone())
    }
}

/// A response of the `http` crate: status, header fields (but for those that the server writes itself, see
/// [`Response::with_header`]) and content. A status that is no [`Status`] is answered as by [`Response::status`].
impl<B: Into<Bytes>> From<::http::Response<B>> for Response {
    #[track_caller]
    fn from(response: ::http::Response<B>) -> Response {
        let (head, body) = response.into_parts();
        let mut response = Response::bytes(body).with_content_type("").with_status(head.status);
        let mut last: Option<HeaderName> = None;
        // a name is given once for all of its values
        for (name, value) in head.headers {
            last = name.or(last);
            let name = last.as_ref().map_or("", HeaderName::as_str);
            response = response.with_header(name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
        }
        response
    }
}

impl From<Status> for ::http::StatusCode {
    fn from(status: Status) -> ::http::StatusCode {
        ::http::StatusCode::from_u16(status.code()).expect("200 to 599 is within 100 to 999")
    }
}

impl TryFrom<::http::StatusCode> for Status {
    type Error = InvalidStatus;

    fn try_from(status: ::http::StatusCode) -> Result<Status, InvalidStatus> {
        status.as_u16().try_into()
    }
}

impl From<Method> for ::http::Method {
    fn from(method: Method) -> ::http::Method {
        match method {
            Method::Get => ::http::Method::GET,
            Method::Head => ::http::Method::HEAD,
            Method::Post => ::http::Method::POST,
            Method::Put => ::http::Method::PUT,
            Method::Delete => ::http::Method::DELETE,
            Method::Connect => ::http::Method::CONNECT,
            Method::Options => ::http::Method::OPTIONS,
            Method::Trace => ::http::Method::TRACE,
            Method::Patch => ::http::Method::PATCH,
        }
    }
}

impl TryFrom<&::http::Method> for Method {
    type Error = NotSpoken;

    fn try_from(method: &::http::Method) -> Result<Method, NotSpoken> {
        Method::from_token(method.as_str()).ok_or_else(|| NotSpoken(method.to_string()))
    }
}

impl From<Version> for ::http::Version {
    fn from(version: Version) -> ::http::Version {
        match version {
            Version::Http10 => ::http::Version::HTTP_10,
            Version::Http11 => ::http::Version::HTTP_11,
        }
    }
}

impl TryFrom<::http::Version> for Version {
    type Error = NotSpoken;

    fn try_from(version: ::http::Version) -> Result<Version, NotSpoken> {
        match version {
            ::http::Version::HTTP_10 => Ok(Version::Http10),
            ::http::Version::HTTP_11 => Ok(Version::Http11),
            other => Err(NotSpoken(format!("{other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::response::logged;
    use super::*;

    #[test]
    fn a_request_with_all_it_has() {
        let fields = [("Host", &b"a"[..]), ("x", b"1"), ("X", b"\xff2")];
        let fields = fields.map(|(name, value)| httparse::Header { name, value });
        let body = Bytes::from("content");
        for (target, path, query) in [
            ("/a%20b?c=d", "/a%20b", Some("c=d")),
            ("http://example.org/a?b", "/a", Some("b")),
            ("*", "*", None),
        ] {
            let request = Request::example(Method::Patch, target, &fields);
            let request = Request { body: &body, version: Version::Http10, ..request };
            let converted: ::http::Request<Bytes> = (&request).try_into().unwrap();
            assert_eq!(converted.method(), ::http::Method::PATCH);
            assert_eq!(converted.version(), ::http::Version::HTTP_10);
            assert_eq!((converted.uri().path(), converted.uri().query()), (path, query), "{target}");
            let values: Vec<_> = converted.headers().get_all("x").iter().map(|v| v.as_bytes()).collect();
            assert_eq!(
                (converted.headers()["host"].as_bytes(), values),
                (&b"a"[..], vec![&b"1"[..], b"\xff2"])
            );
            assert_eq!(converted.body().as_ptr(), body.as_ptr());
        }
        let odd = Request::example(Method::Get, "/a\u{7f}", &[]);
        assert!(::http::Request::<Bytes>::try_from(&odd).is_err());
    }

    #[test]
    fn a_response_without_what_the_server_writes_itself() {
        let response = ::http::Response::builder()
            .status(203)
            .header("Content-Length", "7")
            .header("Connection", "close")
            .header("X-A", "1")
            .header("X-A", "2")
            .header("Content-Type", "text/html")
            .body("<p>")
            .unwrap();
        let response = Response::from(response);
        assert_eq!((response.code(), response.body().unwrap().as_ref()), (203, &b"<p>"[..]));
        let mut fields: Vec<_> = response.headers().collect();
        fields.sort_unstable_by_key(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
        assert_eq!(fields, [("Content-Type", &b"text/html"[..]), ("x-a", b"1"), ("x-a", b"2")]);
        assert_eq!(Response::from(::http::Response::new("a")).header("Content-Type"), None);
    }

    #[test]
    fn statuses() {
        for code in 100..=999 {
            let foreign = ::http::StatusCode::from_u16(code).unwrap();
            match Status::try_from(foreign) {
                Ok(status) => assert_eq!((::http::StatusCode::from(status), status.code()), (foreign, code)),
                Err(_) => assert!(!(200..=599).contains(&code)),
            }
        }
        let early = ::http::Response::builder().status(103).header("X", "y").body("a").unwrap();
        let ((response, line), log) = logged(|| (Response::from(early), line!()));
        assert_eq!((response.code(), response.headers().count()), (500, 0));
        assert!(
            log.contains("103 is an interim status") && log.contains(&format!("interop.rs:{line}:")),
            "{log}"
        );
    }

    #[test]
    fn methods_and_versions() {
        use Method::{Connect, Delete, Get, Head, Options, Patch, Post, Put, Trace};
        for method in [Get, Head, Post, Put, Delete, Connect, Options, Trace, Patch] {
            let foreign = ::http::Method::from(method);
            assert_eq!((Method::try_from(&foreign), foreign.as_str()), (Ok(method), method.as_str()));
        }
        for version in [Version::Http10, Version::Http11] {
            assert_eq!(Version::try_from(::http::Version::from(version)), Ok(version));
        }
        let method = ::http::Method::from_bytes(b"PROPFIND").unwrap();
        let said = Method::try_from(&method).unwrap_err().to_string();
        assert_eq!(said, "uringd does not speak PROPFIND");
        let said = Version::try_from(::http::Version::HTTP_2).unwrap_err().to_string();
        assert_eq!(said, "uringd does not speak HTTP/2.0");
    }
}
