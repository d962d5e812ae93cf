//! Answers as a registry gives them: explicit lengths (HEAD too), digests, entity tags.
//!
//! An answer is plain data until it is handed to the runtime, in one go: every call from Wasm to JavaScript
//! costs. Bodies are whole byte arrays, for which the runtime keeps `Content-Length`, or streams of the
//! runtime's own with a length that is known.

use crate::{Failure, manifest::Manifest};
use firn_shared::{
    link::{
        credentials::CHALLENGE,
        protocol::{BUILDS, REVISION, SOURCE, Source},
    },
    oci::{
        discovery::{NO_REFERRERS, TagsPage},
        endpoint::Method,
        entity_tag::{entity_tag, is_known},
        error::{ErrorCode, OciError},
        media_type::{JSON, OCI_INDEX},
    },
};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use worker::js_sys::{ArrayBuffer, JSON, Uint8Array};
use worker::wasm_bindgen::JsCast;
use worker::{console_error, web_sys};

/// The header that says that this is a registry (Docker's "HTTP API V2"; some clients insist on it).
const API_VERSION: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");

/// What a client is going to get.
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Where it is from, if it is a manifest.
    pub(crate) source: Option<Source>,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Body,
}

/// What follows the headers.
enum Body {
    None,
    Bytes(Vec<u8>),
    /// Bytes that the runtime holds already.
    Buffer(ArrayBuffer),
    Stream(web_sys::ReadableStream),
}

/// Status and headers as the runtime takes them: they cross over as one text.
#[derive(Serialize)]
struct Init<'a> {
    status: u16,
    #[serde(serialize_with = "as_map")]
    headers: &'a [(&'static str, Cow<'static, str>)],
}

fn as_map<S: Serializer>(
    headers: &[(&'static str, Cow<'static, str>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name, value)))
}

impl Answer {
    /// An answer that begins like all others, without a body.
    pub(crate) fn new(status: u16) -> Self {
        let mut headers = Vec::with_capacity(10);
        headers.push((API_VERSION.0, Cow::Borrowed(API_VERSION.1)));
        Self { status, source: None, headers, body: Body::None }
    }

    /// The same with a header, whose name must be in lower case and new.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with a header if there is a value for it.
    pub(crate) fn with_some(self, name: &'static str, value: Option<impl Into<Cow<'static, str>>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Ends an answer whose body is at hand: a HEAD gets its length alone.
    pub(crate) fn bytes(self, method: Method, bytes: Vec<u8>) -> Self {
        let mut answer = self.with("content-length", bytes.len().to_string());
        if method == Method::Get {
            answer.body = Body::Bytes(bytes);
        }
        answer
    }

    /// Ends an answer with bytes that the runtime holds.
    pub(crate) fn buffer(mut self, buffer: ArrayBuffer) -> Self {
        self.body = Body::Buffer(buffer);
        self
    }

    /// Ends an answer with a stream of the runtime's, which never enters Wasm.
    pub(crate) fn stream(mut self, stream: web_sys::ReadableStream) -> Self {
        self.body = Body::Stream(stream);
        self
    }

    /// Hands the answer to the runtime.
    ///
    /// # Errors
    /// When the runtime refuses it: never, unless a header's value has control characters in it.
    pub(crate) fn into_response(self) -> worker::Result<web_sys::Response> {
        let init = Init { status: self.status, headers: &self.headers };
        let init = JSON::parse(&serde_json::to_string(&init).expect("numbers and texts serialise"))?;
        let init: web_sys::ResponseInit = init.unchecked_into();
        Ok(match self.body {
            Body::None => web_sys::Response::new_with_opt_str_and_init(None, &init)?,
            Body::Bytes(bytes) => {
                let bytes = Uint8Array::from(bytes.as_slice());
                web_sys::Response::new_with_opt_buffer_source_and_init(Some(&bytes), &init)?
            }
            Body::Buffer(buffer) => {
                web_sys::Response::new_with_opt_buffer_source_and_init(Some(buffer.unchecked_ref()), &init)?
            }
            Body::Stream(stream) => {
                web_sys::Response::new_with_opt_readable_stream_and_init(Some(&stream), &init)?
            }
        })
    }
}

fn json(method: Method, body: Vec<u8>) -> Answer {
    Answer::new(200).with("content-type", JSON).bytes(method, body)
}

/// Turns a failure into what clients see of it; `origin` is where they reach this edge, and thereby the pages of
/// builds that messages name.
pub(crate) fn result(method: Method, origin: &str, result: Result<Answer, Failure>) -> Answer {
    match result {
        Ok(answer) => answer,
        Err(Failure::Registry(mut failure)) => {
            let named = format!(" {BUILDS}");
            failure.message = failure.message.replace(&named, &format!(" {origin}{BUILDS}"));
            error(method, &failure)
        }
        Err(Failure::Runtime(failure)) => {
            console_error!(
                "{}",
                serde_json::json!({ "message": "runtime error", "error": failure.to_string() })
            );
            error(method, &OciError::new(ErrorCode::Internal, "the edge failed; the operator's log has more"))
        }
    }
}

/// An error.
pub(crate) fn error(method: Method, error: &OciError) -> Answer {
    Answer::new(error.status())
        .with("content-type", JSON)
        .with_some("retry-after", error.retry_after_seconds.map(|seconds| seconds.to_string()))
        .with_some("www-authenticate", (error.code == ErrorCode::Unauthorized).then_some(CHALLENGE))
        .with_some("allow", (error.code == ErrorCode::Unsupported).then_some("GET, HEAD"))
        .bytes(method, error.body())
}

/// `/healthz`: this Worker runs and is configured.
pub(crate) fn health(method: Method) -> Answer {
    json(method, b"{\"status\":\"ok\"}".to_vec())
}

/// `/v2/`
pub(crate) fn base(method: Method) -> Answer {
    json(method, b"{}".to_vec())
}

/// `/v2/<name>/referrers/<digest>`: always there and always empty.
pub(crate) fn referrers(method: Method, query: Option<&str>) -> Answer {
    let filtered = query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("artifactType=")));
    Answer::new(200)
        .with("content-type", OCI_INDEX)
        .with_some("oci-filters-applied", filtered.then_some("artifactType"))
        .bytes(method, NO_REFERRERS.as_bytes().to_vec())
}

/// `/v2/<name>/tags/list`
pub(crate) fn tags(method: Method, page: TagsPage) -> Answer {
    Answer::new(200).with("content-type", JSON).with_some("link", page.link).bytes(method, page.body)
}

/// Sends a client back to where it asked.
pub(crate) fn wait_again(location: String) -> Answer {
    Answer::new(307).with("location", location).with("cache-control", "no-store").with("content-length", "0")
}

/// A manifest, or 304 when the client has it.
pub(crate) fn manifest(
    method: Method,
    manifest: Manifest,
    source: Source,
    if_none_match: Option<&str>,
) -> Answer {
    let digest = manifest.metadata.digest;
    let known = if_none_match.is_some_and(|header| is_known(header, &digest));
    let mut answer = Answer::new(if known { 304 } else { 200 })
        .with("docker-content-digest", digest.to_string())
        .with("etag", entity_tag(&digest))
        .with("vary", "accept")
        .with(SOURCE, source.as_str())
        .with_some(REVISION, manifest.metadata.revision);
    answer.source = Some(source);
    if known {
        return answer;
    }
    let answer = answer
        .with("content-type", manifest.metadata.media_type)
        .with("content-length", manifest.bytes.byte_length().to_string());
    match method {
        Method::Get => answer.buffer(manifest.bytes),
        Method::Head => answer,
    }
}
