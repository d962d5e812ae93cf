//! Handing answers to the runtime: what they are is said by [`respond`].
//!
//! An answer is plain data until it is handed over, in one go: every call from Wasm to JavaScript costs. Bodies are whole
//! byte arrays, or streams of the runtime's own with a length that is known.

use crate::{Failure, manifest::Manifest};
use firn_shared::{
    link::protocol::{AnswerSource, BUILDS, REVISION, SOURCE},
    oci::{
        endpoint::Method,
        error::{ErrorCode, OciError},
        request::Request,
        respond::{self, Body, Response},
    },
};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use worker::js_sys::{ArrayBuffer, JSON, Uint8Array};
use worker::wasm_bindgen::JsCast;
use worker::{console_error, web_sys};

/// What a client is going to get.
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Where it is from, if it is a manifest.
    pub(crate) source: Option<AnswerSource>,
    response: Response,
    content: Content,
}

/// What the runtime holds of an answer; it never enters Wasm.
enum Content {
    None,
    /// A manifest, which is sent if the answer has one in it.
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

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self { status: response.status, source: None, response, content: Content::None }
    }
}

impl Answer {
    /// An answer that has a manifest in it, unless it says otherwise.
    pub(crate) fn with_buffer(response: Response, buffer: ArrayBuffer) -> Self {
        Self { content: Content::Buffer(buffer), ..response.into() }
    }

    /// An answer with a stream of the runtime's.
    pub(crate) fn with_stream(response: Response, stream: web_sys::ReadableStream) -> Self {
        Self { content: Content::Stream(stream), ..response.into() }
    }

    /// The same with a header, if it has none of this name.
    pub(crate) fn unless_has(self, name: &'static str, value: impl FnOnce() -> String) -> Self {
        match self.response.has(name) {
            true => self,
            false => self.with_some(name, Some(value())),
        }
    }

    /// The same with a header if there is a value for it.
    pub(crate) fn with_some(mut self, name: &'static str, value: Option<String>) -> Self {
        self.response = self.response.with_some(name, value);
        self
    }

    /// Hands the answer to the runtime.
    ///
    /// # Errors
    /// When the runtime refuses it: never, unless a header's value has control characters in it.
    pub(crate) fn into_response(self) -> worker::Result<web_sys::Response> {
        let init = Init { status: self.status, headers: self.response.headers() };
        let init = JSON::parse(&serde_json::to_string(&init).expect("numbers and texts serialise"))?;
        let init: web_sys::ResponseInit = init.unchecked_into();
        Ok(match (self.response.body, self.content) {
            (Body::Bytes(bytes), _) => {
                let bytes = Uint8Array::from(bytes.as_slice());
                web_sys::Response::new_with_opt_buffer_source_and_init(Some(&bytes), &init)?
            }
            (Body::Manifest, Content::Buffer(buffer)) => {
                web_sys::Response::new_with_opt_buffer_source_and_init(Some(buffer.unchecked_ref()), &init)?
            }
            (_, Content::Stream(stream)) => {
                web_sys::Response::new_with_opt_readable_stream_and_init(Some(&stream), &init)?
            }
            _ => web_sys::Response::new_with_opt_str_and_init(None, &init)?,
        })
    }
}

/// Turns a failure into what clients see of it; `origin` is where they reach this edge, and thereby the pages of
/// builds that messages name.
pub(crate) fn result(method: Method, origin: &str, result: Result<Answer, Failure>) -> Answer {
    match result {
        Ok(answer) => answer,
        Err(Failure::Registry(mut failure)) => {
            let named = format!(" {BUILDS}");
            failure.message = failure.message.replace(&named, &format!(" {origin}{BUILDS}"));
            respond::error(method, &failure).into()
        }
        Err(Failure::Runtime(failure)) => {
            console_error!(
                "{}",
                serde_json::json!({ "message": "runtime error", "error": failure.to_string() })
            );
            let failure = OciError::new(ErrorCode::Internal, "the edge failed; the operator's log has more");
            respond::error(method, &failure).into()
        }
    }
}

/// A manifest, or 304 if the client has it.
pub(crate) fn manifest(request: &Request<'_>, manifest: Manifest, source: AnswerSource) -> Answer {
    let Manifest { bytes, metadata } = manifest;
    let length = u64::from(bytes.byte_length());
    let response = respond::manifest(request, &metadata.digest, metadata.media_type, length)
        .with(SOURCE, source.as_str())
        .with_some(REVISION, metadata.revision);
    Answer { source: Some(source), ..Answer::with_buffer(response, bytes) }
}
