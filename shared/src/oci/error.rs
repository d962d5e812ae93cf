//! The errors that clients see (distribution spec, "Error Codes"), the same at the edge and the backend.
//!
//! Docker shows the `message` of a 4xx answer and hides that of a 5xx, so whatever a person can act on is a
//! 4xx. Messages never carry Nix's stderr, file system paths or other internals.

use serde::{Deserialize, Deserializer, Serialize};

/// The spec's error codes, as far as a registry that nobody pushes to can meet them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// No such blob.
    BlobUnknown,
    /// Not a digest.
    DigestInvalid,
    /// No such manifest, or its image cannot be built.
    ManifestUnknown,
    /// The image name does not parse.
    NameInvalid,
    /// The image name asks for a package that the package set does not have.
    NameUnknown,
    /// The caller is not who they must be.
    Unauthorized,
    /// The caller, or this registry, may not do that.
    Denied,
    /// Not in the spec's list, but in the CNCF's registry's, which clients know: `n` is no number of tags.
    PaginationNumberInvalid,
    /// Not an operation of a pull-only registry.
    Unsupported,
    /// Come back later: a build is running, or a limit is reached.
    Toomanyrequests,
    /// Not in the spec's list, which leaves room for such: something Firn depends on is out of reach.
    Unavailable,
    /// Not in the spec's list: Firn is at fault.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    pub const fn status(self) -> u16 {
        match self {
            Self::DigestInvalid | Self::NameInvalid | Self::PaginationNumberInvalid => 400,
            Self::Unauthorized => 401,
            Self::Denied => 403,
            Self::BlobUnknown | Self::ManifestUnknown | Self::NameUnknown => 404,
            Self::Unsupported => 405,
            Self::Toomanyrequests => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// One error as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciError {
    /// What kind of error.
    pub code: ErrorCode,
    /// A sentence for a person: what is wrong and what to do.
    pub message: String,
    /// What programs go by, where there is more to say than the code.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_detail")]
    pub detail: Option<Detail>,
    /// Seconds after which asking again makes sense: the `Retry-After` header.
    #[serde(skip)]
    pub retry_after_seconds: Option<u32>,
    /// The HTTP status, where it is not the one that goes with the code.
    #[serde(skip)]
    status: Option<u16>,
}

/// An error's `detail`, which the spec leaves to the registry. What another version of Firn says beyond this is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// Whose quota is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// The id of the build that the client waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Whether so many clients ask for the same that this one could not be heard.
    #[serde(default, skip_serializing_if = "is_false")]
    pub crowd: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Whose quota a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quota {
    /// That of the client for whom it was asked. The refusal says nothing about any other client.
    Client,
}

/// The details of other registries, and of other versions of Firn, are no reason not to read an error.
fn known_detail<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Detail>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let detail: Option<Detail> = serde_json::from_value(value).ok();
    Ok(detail.filter(|detail| *detail != Detail::default()))
}

impl OciError {
    /// An error with this message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, retry_after_seconds: None, status: None }
    }

    /// The same with another HTTP status than the code's.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same, about the quota of the client that asked: it must be told to no other.
    pub fn of_client_quota(mut self) -> Self {
        self.detail.get_or_insert_default().quota = Some(Quota::Client);
        self
    }

    /// Whether it is true of the client that asked, and of no other.
    pub fn is_of_client_quota(&self) -> bool {
        self.detail.as_ref().is_some_and(|detail| detail.quota == Some(Quota::Client))
    }

    /// The same, about an image that the build of this id is making.
    pub fn of_build(mut self, id: impl Into<String>) -> Self {
        self.detail.get_or_insert_default().build = Some(id.into());
        self
    }

    /// Whether the image is being built, so that waiting for it leads somewhere.
    pub fn is_of_running_build(&self) -> bool {
        let names_build = self.detail.as_ref().is_some_and(|detail| detail.build.is_some());
        self.code == ErrorCode::Toomanyrequests && names_build
    }

    /// The same, because too many clients ask for the same at once.
    pub fn of_crowd(mut self) -> Self {
        self.detail.get_or_insert_default().crowd = true;
        self
    }

    /// Whether the client gets what it asked for if it goes on asking: it is being built, or others ask for it, too.
    pub fn is_worth_waiting(&self) -> bool {
        let is_of_crowd = self.detail.as_ref().is_some_and(|detail| detail.crowd);
        self.is_of_running_build() || (self.code == ErrorCode::Toomanyrequests && is_of_crowd)
    }

    /// Whether it says nothing about what was asked for: the next attempt may succeed.
    pub const fn is_passing(&self) -> bool {
        matches!(self.code, ErrorCode::Internal | ErrorCode::Toomanyrequests | ErrorCode::Unavailable)
    }

    /// The same, telling clients to ask again after some seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(self.code.status())
    }

    /// The body: `{"errors":[{"code":…,"message":…}]}`, with a `detail` where there is one.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({ "errors": [self] })).expect("strings serialise")
    }

    /// The first error of a body; none when it is no such body.
    pub fn from_body(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            errors: Vec<OciError>,
        }
        serde_json::from_slice::<Envelope>(bytes).ok()?.errors.into_iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_specs_envelope() {
        let error = OciError::new(ErrorCode::Toomanyrequests, "building git").retry_after(5);
        assert_eq!(error.status(), 429);
        assert_eq!(
            String::from_utf8(error.body()).expect("JSON is UTF-8"),
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"building git"}]}"#
        );
        let read = OciError::from_body(&error.body()).expect("an error");
        assert_eq!((read.code, &read.message), (error.code, &error.message));
        for garbage in ["", "{}", "[]", r#"{"errors":[]}"#, r#"{"errors":[{"code":"X","message":""}]}"#] {
            assert_eq!(OciError::from_body(garbage.as_bytes()), None, "{garbage}");
        }
        // What others put there is not Firn's to understand.
        for detail in ["null", "7", r#""x""#, r#"{"quota":"planet"}"#, r#"[{"Type":"repository"}]"#] {
            let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"no","detail":{detail}}}]}}"#);
            assert_eq!(OciError::from_body(body.as_bytes()).expect("an error").detail, None, "{detail}");
        }
        let code = serde_json::to_string(&ErrorCode::ManifestUnknown).expect("codes serialise");
        assert_eq!(code, "\"MANIFEST_UNKNOWN\"");
    }

    /// What clients and other versions of Firn read: the status, and the bytes of the body.
    #[test]
    fn bodies_are_as_before() {
        use ErrorCode::*;
        let codes = [
            BlobUnknown,
            DigestInvalid,
            ManifestUnknown,
            NameInvalid,
            NameUnknown,
            Unauthorized,
            Denied,
            PaginationNumberInvalid,
            Unsupported,
            Toomanyrequests,
            Unavailable,
            Internal,
        ];
        let errors = codes.map(|code| OciError::new(code, "what is wrong, and what to do"));
        let quota = OciError::new(Toomanyrequests, "two images are waiting").of_client_quota();
        let mut lines = String::new();
        for error in errors.into_iter().chain([quota]) {
            let body = String::from_utf8(error.body()).expect("JSON is UTF-8");
            lines += &format!("{} {body}\n", error.status());
        }
        insta::assert_snapshot!(lines);
    }

    #[test]
    fn says_whose_quota_is_used_up() {
        let error = OciError::new(ErrorCode::Toomanyrequests, "two are waiting").of_client_quota();
        let body = String::from_utf8(error.body()).expect("JSON is UTF-8");
        assert!(body.contains(r#""detail":{"quota":"client"}"#), "{body}");
        assert!(OciError::from_body(body.as_bytes()).expect("an error").is_of_client_quota());
        assert!(!OciError::new(ErrorCode::Toomanyrequests, "being built").is_of_client_quota());
    }

    #[test]
    fn says_which_build_is_running() {
        let error = OciError::new(ErrorCode::Toomanyrequests, "being built").of_build("0a1b");
        let body = String::from_utf8(error.body()).expect("JSON is UTF-8");
        assert!(body.contains(r#""detail":{"build":"0a1b"}"#), "{body}");
        assert_eq!(OciError::from_body(body.as_bytes()), Some(error));
        // What another version adds does not hide it.
        let body = body.replace(r#"{"build""#, r#"{"since":5,"build""#);
        assert!(OciError::from_body(body.as_bytes()).expect("an error").is_of_running_build());
        let words = OciError::new(ErrorCode::Toomanyrequests, "look at /builds/0a1b");
        assert!(!words.is_of_running_build(), "words are for people");
        assert!(
            !OciError::new(ErrorCode::ManifestUnknown, "it failed").of_build("0a1b").is_of_running_build()
        );
    }
}
