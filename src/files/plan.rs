//! What is answered: from a request's fields and a file that was found, or the reason why none was, to the response. No
//! I/O, and for the usual 200 no allocation.
//!
//! Neighbours: `found` has the content and its field lines; `http::{conditional, range, accept_encoding}` read fields.

use super::found::{Found, Variant};
use super::open::{Content, Miss};
use super::path::{self, Resolved};
use crate::http::accept_encoding::{self, Coding, Codings};
use crate::http::conditional::{self, Asked, Verdict};
use crate::http::range::{self, Ranged};
use crate::http::{Method, Request, Response, Status};
use bytes::Bytes;
use std::ops::Range;

/// What is answered of other methods (RFC 9110 section 10.2.1).
pub(super) const ALLOW: &str = "GET, HEAD, OPTIONS";

/// What the choice of a coding depends on.
const VARY: &str = "Accept-Encoding";

/// What a request asks for beside its path. Can outlive the request.
#[derive(Debug)]
pub(super) struct Question<'a> {
    method: Method,
    asked: Asked<'a>,
}

impl<'a> Question<'a> {
    #[inline]
    pub fn read(request: &Request<'a>) -> Question<'a> {
        Question { method: request.method(), asked: Asked::read(request.headers().iter()) }
    }

    pub fn into_owned(self) -> Question<'static> {
        Question { method: self.method, asked: self.asked.into_owned() }
    }
}

/// The answer to a method that is not looked up; `None` for GET and HEAD.
#[inline]
pub(super) fn refuse_method(method: Method) -> Option<Response> {
    match method {
        Method::Get | Method::Head => None,
        // RFC 9110 section 9.3.7; with the target `*` too
        Method::Options => Some(Response::status(Status::NO_CONTENT).with_header("Allow", ALLOW)),
        _ => Some(Response::not_allowed(ALLOW)),
    }
}

/// The answer with a file.
#[inline]
pub(super) fn answer(question: &Question<'_>, found: &Found) -> Response {
    let asked = &question.asked;
    let Some(coding) = accept_encoding::choose(asked.accept_encoding.as_deref(), found.codings()) else {
        return Response::status(Status::NOT_ACCEPTABLE).with_header("Vary", VARY);
    };
    let variant = found.variant(coding);
    // RFC 9110 section 13.2.1: whatever is asked for, the answer without these would be a 200
    match conditional::evaluate(asked, true, &variant.validators()) {
        Verdict::Proceed => {}
        Verdict::NotModified => {
            return Response::prepared(Status::NOT_MODIFIED, variant.fields_unmodified.clone(), Bytes::new());
        }
        Verdict::PreconditionFailed => return refusal(Status::PRECONDITION_FAILED, found),
    }
    match wanted(question, variant) {
        Ranged::Whole => whole(variant),
        Ranged::Part(range) => part(variant, range),
        Ranged::Unsatisfiable => refusal(Status::RANGE_NOT_SATISFIABLE, found)
            .with_header("Content-Range", format!("bytes */{}", variant.content.len())),
    }
}

/// RFC 9110 section 12.5.5: of which coding the validators and the length were, the client has chosen.
#[cold]
fn refusal(status: Status, found: &Found) -> Response {
    let response = Response::status(status);
    if found.codings() == Codings::IDENTITY { response } else { response.with_header("Vary", VARY) }
}

/// RFC 9110 section 14.2: for a GET, and only if If-Range allows it.
#[inline]
fn wanted(question: &Question<'_>, variant: &Variant) -> Ranged {
    match question.asked.range.as_deref() {
        Some(value)
            if question.method == Method::Get
                && conditional::range_applies(&question.asked, &variant.validators()) =>
        {
            range::resolve(value, variant.content.len())
        }
        _ => Ranged::Whole,
    }
}

#[inline]
fn whole(variant: &Variant) -> Response {
    if let Some(standing) = &variant.standing {
        return Response::standing(standing.clone());
    }
    prepared(Status::OK, variant.fields.clone(), &variant.content, 0..variant.content.len())
}

fn part(variant: &Variant, range: Range<u64>) -> Response {
    let described = format!("bytes {}-{}/{}", range.start, range.end - 1, variant.content.len());
    prepared(Status::PARTIAL_CONTENT, variant.fields.clone(), &variant.content, range)
        .with_header("Content-Range", described)
}

#[inline]
fn prepared(status: Status, fields: Bytes, content: &Content, range: Range<u64>) -> Response {
    match content {
        Content::Memory(bytes) => {
            Response::prepared(status, fields, bytes.slice(range.start as usize..range.end as usize))
        }
        Content::Mapped(file) => {
            Response::prepared(status, fields, Bytes::new()).with_range(file.clone(), range)
        }
    }
}

/// The answer where there is no file; `page` is what is sent with a 404.
#[cold]
pub(super) fn answer_miss(miss: Miss, redirect: Option<Vec<u8>>, page: Option<&Found>) -> Response {
    match (miss, redirect) {
        // RFC 9110 section 15.4.2
        (Miss::Directory, Some(target)) => {
            Response::status(Status::MOVED_PERMANENTLY).with_header("Location", target)
        }
        (Miss::Missing | Miss::Directory, _) => not_found(page),
        (Miss::Forbidden, _) => Status::FORBIDDEN.into(),
        (Miss::Busy | Miss::WouldBlock, _) => busy(),
        (Miss::Broken, _) => Status::INTERNAL_SERVER_ERROR.into(),
    }
}

/// Too much to do at the moment (RFC 9110 sections 15.6.4 and 10.2.3).
#[cold]
pub(super) fn busy() -> Response {
    Response::status(Status::SERVICE_UNAVAILABLE).with_header("Retry-After", "1")
}

/// The page is content like any other, but what it answers for has no validators, no ranges and no other codings.
fn not_found(page: Option<&Found>) -> Response {
    let Some(page) = page else { return Status::NOT_FOUND.into() };
    let variant = page.variant(Coding::Identity);
    prepared(Status::NOT_FOUND, Bytes::new(), &variant.content, 0..variant.content.len())
        .with_content_type(variant.content_type.clone())
}

/// Where a directory is that was asked for as a file.
pub(super) fn redirect(prefix: &str, resolved: &Resolved<'_>, query: Option<&str>) -> Option<Vec<u8>> {
    if resolved.directory {
        return None;
    }
    let mut target = prefix.as_bytes().to_vec();
    path::redirect_target(resolved, query, &mut target);
    Some(target)
}
