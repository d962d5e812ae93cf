//! The operator's settings: variables and secrets of the Worker, each read once per isolate.

use firn_shared::{
    link::{
        authentication::Secret, base_url::BaseUrl, credentials::Credentials, presigned_url::SignedBucket,
    },
    oci::{
        digest::Digest,
        error::{ErrorCode, OciError},
    },
};
use std::cell::RefCell;
use std::rc::Rc;
use worker::{Env, console_warn};

/// How long tags count where the operator says nothing, in seconds.
const TAG_TTL_SECONDS: u64 = 300;
/// How long manifests stay in KV where the operator says nothing: 30 days, in seconds.
const MANIFEST_TTL_SECONDS: u64 = 30 * 24 * 3600;
/// How often a manifest is reported where the operator says nothing, in seconds: half of the grace period that a
/// backend has by default.
pub(crate) const REPORT_SECONDS: u64 = 1800;
/// How many bytes of manifests an isolate keeps where the operator says nothing: 8 MiB of its 128.
const MEMORY_BYTES: u64 = 8 << 20;
/// How long presigned URLs hold where the operator says nothing, in seconds: a pull of a large image over
/// a slow line.
const PRESIGNED_SECONDS: u64 = 3600;

/// The operator's settings.
pub(crate) struct Config {
    /// `FIRN_BACKEND_URL`: one or several, separated by spaces or commas.
    pub(crate) backends: Vec<BaseUrl>,
    /// `FIRN_SECRET`: what edge and backend know each other by.
    pub(crate) secret: Option<Secret>,
    /// `FIRN_TAG_TTL_SECONDS`: how long a tag counts before the backend is asked again.
    pub(crate) tag_ttl_seconds: u64,
    /// `FIRN_MANIFEST_TTL_SECONDS`: how long KV keeps a manifest; not longer than the backend keeps blobs.
    pub(crate) manifest_ttl_seconds: u64,
    /// `FIRN_REPORT_SECONDS`: how often a manifest that is answered with is reported to the backend; never where it is 0.
    pub(crate) report_seconds: u64,
    /// `FIRN_MEMORY_BYTES`: how many bytes of manifests an isolate keeps.
    pub(crate) memory_bytes: u64,
    /// `FIRN_CACHE_API`: whether the Cache API is asked before KV; on `workers.dev` it keeps nothing.
    pub(crate) cache_api: bool,
    /// `FIRN_BLOBS`: where clients get blobs.
    pub(crate) blobs: BlobOrigin,
    /// `FIRN_ACCESS`: who may pull.
    pub(crate) access: Access,
    /// `FIRN_COMPOSE`: whether images are composed here.
    pub(crate) compose: bool,
    /// `FIRN_LOCATION_HINT`: where Durable Objects are created, if the operator says so.
    pub(crate) location_hint: Option<String>,
    /// `FIRN_PURGE_TOKEN`: the digest of what allows to have Workers Cache forget answers.
    pub(crate) purge_token: Option<Digest>,
    /// `FIRN_LOG`.
    pub(crate) log: Log,
}

/// Who may pull.
#[derive(Debug)]
pub(crate) enum Access {
    /// `public`: everybody. The default.
    Public,
    /// `private`: who is listed in `FIRN_USERS`, and only what belongs to an image of the name.
    Private(Credentials),
}

/// Where clients get blobs.
pub(crate) enum BlobOrigin {
    /// `backend`: from there, or from the address `FIRN_BLOBS_URL` of the same server that clients reach.
    Backend(BaseUrl),
    /// `public`: from a public bucket at `FIRN_BLOBS_URL`.
    Public(BaseUrl),
    /// `presigned`: from an S3 bucket (`FIRN_S3_ENDPOINT`, `FIRN_S3_BUCKET`, `FIRN_S3_PREFIX`,
    /// `FIRN_S3_REGION`, `FIRN_S3_ACCESS_KEY_ID`, `FIRN_S3_SECRET_ACCESS_KEY`), by URLs that hold for `FIRN_S3_SECONDS`.
    Presigned {
        /// The bucket and the right to read it.
        bucket: SignedBucket,
        /// How long URLs hold.
        seconds: u64,
    },
    /// `r2`: from the bucket bound as `BLOBS`, through the Worker.
    R2,
}

/// Which requests leave a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// `all`
    All,
    /// `misses`: what was not answered from a cache, and errors. The default.
    Misses,
    /// `none`
    None,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the edge is not configured: {name} {problem}")]
pub(crate) struct ConfigError {
    name: &'static str,
    problem: &'static str,
}

thread_local! {
    // Settings are the same for every request of an isolate, and parsing URLs for each is not free.
    static CONFIG: RefCell<Option<Rc<Config>>> = const { RefCell::new(None) };
}

impl BlobOrigin {
    /// The host to which clients are sent for blobs, without its port.
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::Backend(url) | Self::Public(url) => Some(url.name()),
            Self::Presigned { bucket, .. } => Some(bucket.url.name()),
            Self::R2 => None,
        }
    }
}

impl Config {
    /// The settings of this Worker.
    ///
    /// # Errors
    /// `INTERNAL`, naming what is missing or wrong; it is the operator who sees it first.
    pub(crate) fn of(env: &Env) -> Result<Rc<Self>, OciError> {
        if let Some(config) = CONFIG.with_borrow(Clone::clone) {
            return Ok(config);
        }
        let config = Self::read(|name| env.var(name).ok().map(|value| value.to_string()))
            .map_err(|error| OciError::new(ErrorCode::Internal, error.to_string()))?;
        if let Some(doubt) = config.doubt() {
            console_warn!("{}", serde_json::json!({ "message": doubt }));
        }
        let config = Rc::new(config);
        CONFIG.set(Some(config.clone()));
        Ok(config)
    }

    /// What is allowed, but does not work for every client.
    pub(crate) fn doubt(&self) -> Option<&'static str> {
        let url = match &self.blobs {
            BlobOrigin::Public(url) => url,
            // On one machine, which is for trying things, the backend has an address.
            BlobOrigin::Backend(url) if !self.backends.contains(url) => url,
            _ => return None,
        };
        url.address().map(|_| {
            "FIRN_BLOBS_URL is an IP address: crane, cosign, ko and kaniko follow no redirect to a private one; give \
             it a host name"
        })
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let optional = |name: &'static str| variable(name).filter(|value| !value.trim().is_empty());
        let required = |name: &'static str| optional(name).ok_or(ConfigError { name, problem: "is not set" });
        let url = |name: &'static str| base_url(name, &required(name)?);
        let number = |name: &'static str, default: u64| match optional(name) {
            None => Ok(default),
            Some(text) => text.trim().parse().map_err(|_| ConfigError { name, problem: "is not a number" }),
        };
        let flag = |name: &'static str| match optional(name).as_deref() {
            None | Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(ConfigError { name, problem: "is neither true nor false" }),
        };
        let backends: Vec<BaseUrl> = required("FIRN_BACKEND_URL")?
            .split([' ', ','])
            .filter(|text| !text.is_empty())
            .map(|text| base_url("FIRN_BACKEND_URL", text))
            .collect::<Result<_, _>>()?;
        if backends.iter().filter_map(BaseUrl::address).any(|address| !address.is_loopback()) {
            let problem = "is an IP address, to which Cloudflare sends no request (error 1003): give the backend a \
                           host name";
            return Err(ConfigError { name: "FIRN_BACKEND_URL", problem });
        }
        let blobs = match optional("FIRN_BLOBS").as_deref() {
            None | Some("backend") => {
                let own = optional("FIRN_BLOBS_URL").is_some().then(|| url("FIRN_BLOBS_URL")).transpose()?;
                BlobOrigin::Backend(
                    own.or_else(|| backends.first().cloned())
                        .ok_or(ConfigError { name: "FIRN_BACKEND_URL", problem: "names no backend" })?,
                )
            }
            Some("public") => BlobOrigin::Public(url("FIRN_BLOBS_URL")?),
            Some("presigned") => {
                let bucket = url("FIRN_S3_ENDPOINT")?.join(&required("FIRN_S3_BUCKET")?);
                let problem = "is not the name of a bucket";
                let bucket = bucket.map_err(|_| ConfigError { name: "FIRN_S3_BUCKET", problem })?;
                let prefix = optional("FIRN_S3_PREFIX").unwrap_or_default();
                let mut folders = prefix.trim().split('/').filter(|folder| !folder.is_empty());
                let problem = "has characters that need escapes";
                let place = folders.try_fold(bucket, |place, folder| place.join(folder));
                BlobOrigin::Presigned {
                    bucket: SignedBucket {
                        url: place.map_err(|_| ConfigError { name: "FIRN_S3_PREFIX", problem })?,
                        region: optional("FIRN_S3_REGION").unwrap_or_else(|| "auto".to_owned()),
                        access_key_id: required("FIRN_S3_ACCESS_KEY_ID")?,
                        secret_access_key: required("FIRN_S3_SECRET_ACCESS_KEY")?,
                    },
                    // S3's limit is a week.
                    seconds: number("FIRN_S3_SECONDS", PRESIGNED_SECONDS)?.clamp(60, 7 * 24 * 3600),
                }
            }
            Some("r2") => BlobOrigin::R2,
            Some(_) => {
                let problem = "is none of backend, public, presigned, r2";
                return Err(ConfigError { name: "FIRN_BLOBS", problem });
            }
        };
        let secret = optional("FIRN_SECRET").map(Secret::new);
        let access = match optional("FIRN_ACCESS").as_deref() {
            None | Some("public") => Access::Public,
            Some("private") => {
                let users = required("FIRN_USERS")?.parse();
                let problem = "is not a list of name:password, separated by white space";
                // What the edge keeps to itself must not be had somewhere else.
                if matches!(blobs, BlobOrigin::Public(_)) {
                    let problem = "is public, but FIRN_ACCESS is private";
                    return Err(ConfigError { name: "FIRN_BLOBS", problem });
                }
                if secret.is_none() {
                    let problem = "is not set, but FIRN_ACCESS is private";
                    return Err(ConfigError { name: "FIRN_SECRET", problem });
                }
                Access::Private(users.map_err(|_| ConfigError { name: "FIRN_USERS", problem })?)
            }
            Some(_) => {
                return Err(ConfigError { name: "FIRN_ACCESS", problem: "is neither public nor private" });
            }
        };
        Ok(Self {
            backends,
            secret,
            access,
            tag_ttl_seconds: number("FIRN_TAG_TTL_SECONDS", TAG_TTL_SECONDS)?,
            // KV takes nothing below a minute.
            manifest_ttl_seconds: number("FIRN_MANIFEST_TTL_SECONDS", MANIFEST_TTL_SECONDS)?.max(60),
            report_seconds: number("FIRN_REPORT_SECONDS", REPORT_SECONDS)?,
            memory_bytes: number("FIRN_MEMORY_BYTES", MEMORY_BYTES)?,
            cache_api: flag("FIRN_CACHE_API")?,
            blobs,
            compose: flag("FIRN_COMPOSE")?,
            location_hint: location_hint(optional("FIRN_LOCATION_HINT"))?,
            purge_token: optional("FIRN_PURGE_TOKEN").map(|token| Digest::of(token.trim().as_bytes())),
            log: match optional("FIRN_LOG").as_deref() {
                Some("all") => Log::All,
                None | Some("misses") => Log::Misses,
                Some("none") => Log::None,
                Some(_) => {
                    return Err(ConfigError { name: "FIRN_LOG", problem: "is none of all, misses, none" });
                }
            },
        })
    }
}

/// The regions in which Cloudflare can create Durable Objects.
const LOCATIONS: [&str; 11] =
    ["wnam", "enam", "sam", "weur", "eeur", "apac", "apac-ne", "apac-se", "oc", "afr", "me"];

fn location_hint(text: Option<String>) -> Result<Option<String>, ConfigError> {
    let hint = text.map(|text| text.trim().to_owned());
    match &hint {
        Some(hint) if !LOCATIONS.contains(&hint.as_str()) => Err(ConfigError {
            name: "FIRN_LOCATION_HINT",
            problem: "is none of wnam, enam, sam, weur, eeur, apac, apac-ne, apac-se, oc, afr, me",
        }),
        _ => Ok(hint),
    }
}

fn base_url(name: &'static str, text: &str) -> Result<BaseUrl, ConfigError> {
    text.trim().parse().map_err(|_| ConfigError { name, problem: "is not an http or https URL" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::read(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn texts(config: &Config) -> Vec<&str> {
        config.backends.iter().map(BaseUrl::as_str).collect()
    }

    #[test]
    fn has_defaults() {
        let config = read(&[("FIRN_BACKEND_URL", "http://127.0.0.1:8080/")]).expect("a configuration");
        assert_eq!(texts(&config), ["http://127.0.0.1:8080"]);
        assert!(matches!(&config.blobs, BlobOrigin::Backend(url) if url.as_str() == "http://127.0.0.1:8080"));
        assert!(config.secret.is_none());
        assert_eq!((config.tag_ttl_seconds, config.log, config.compose), (300, Log::Misses, true));
    }

    /// That no variable is left out is tested with the backend's options.
    #[test]
    fn documented_defaults_are_right() {
        let page = include_str!("../../docs/deploy-edge.md");
        for (variables, default) in [
            ("`FIRN_TAG_TTL_SECONDS`", TAG_TTL_SECONDS),
            ("`FIRN_MANIFEST_TTL_SECONDS`", MANIFEST_TTL_SECONDS),
            ("`FIRN_REPORT_SECONDS`", REPORT_SECONDS),
            ("`FIRN_MEMORY_BYTES`", MEMORY_BYTES),
        ] {
            assert!(page.contains(&format!("| {variables} | {default} |")), "{variables}: {default}");
        }
        assert!(page.contains(&format!("`FIRN_S3_SECONDS` (default {PRESIGNED_SECONDS})")));
    }

    #[test]
    fn reads_lists_and_places() {
        let several = ("FIRN_BACKEND_URL", "https://a.example, https://b.example/firn/");
        let config = read(&[several, ("FIRN_BLOBS_URL", "https://blobs.example")]).expect("a configuration");
        assert_eq!(texts(&config), ["https://a.example", "https://b.example/firn"]);
        assert!(matches!(&config.blobs, BlobOrigin::Backend(url) if url.as_str() == "https://blobs.example"));
        let presigned = [
            several,
            ("FIRN_BLOBS", "presigned"),
            ("FIRN_S3_ENDPOINT", "https://account.r2.example"),
            ("FIRN_S3_BUCKET", "firn"),
            ("FIRN_S3_ACCESS_KEY_ID", "id"),
            ("FIRN_S3_SECRET_ACCESS_KEY", "key"),
            ("FIRN_S3_SECONDS", "1"),
        ];
        let config = read(&presigned).expect("a configuration");
        assert!(matches!(&config.blobs, BlobOrigin::Presigned { seconds: 60, .. }));
        let config =
            read(&[&presigned[..], &[("FIRN_S3_PREFIX", "/a/b/")]].concat()).expect("a configuration");
        assert!(
            matches!(&config.blobs, BlobOrigin::Presigned { bucket, .. } if bucket.url.path() == "/firn/a/b")
        );
    }

    #[test]
    fn doubts_redirects_to_addresses() {
        let check = |variables: &[(&str, &str)], expect: bool| {
            let config = read(variables).expect("a configuration");
            assert_eq!(config.doubt().is_some(), expect, "{variables:?}");
        };
        let backend = ("FIRN_BACKEND_URL", "http://127.0.0.1:8080");
        check(&[backend], false);
        check(&[backend, ("FIRN_BLOBS_URL", "http://localhost:8080")], false);
        check(&[backend, ("FIRN_BLOBS_URL", "http://10.0.0.1:8080")], true);
        check(&[backend, ("FIRN_BLOBS", "public"), ("FIRN_BLOBS_URL", "http://[fd00::1]")], true);
        check(&[backend, ("FIRN_BLOBS", "public"), ("FIRN_BLOBS_URL", "https://blobs.example")], false);
        check(&[("FIRN_BACKEND_URL", "http://[::1]:8080")], false);
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |variables: &[(&str, &str)], expect: &str| {
            let error = read(variables).err().expect("an error").to_string();
            assert!(error.contains(expect), "{error}");
        };
        let backend = ("FIRN_BACKEND_URL", "http://127.0.0.1:8080");
        check(&[], "FIRN_BACKEND_URL is not set");
        check(&[("FIRN_BACKEND_URL", " , ")], "FIRN_BACKEND_URL names no backend");
        check(&[("FIRN_BACKEND_URL", "127.0.0.1:8080")], "FIRN_BACKEND_URL is not an http or https URL");
        check(&[("FIRN_BACKEND_URL", "http://x/?a=b")], "FIRN_BACKEND_URL is not an http or https URL");
        for address in
            ["http://192.0.2.1:8080", "https://[2001:db8::1]", "http://127.0.0.1 http://10.0.0.1/firn"]
        {
            check(&[("FIRN_BACKEND_URL", address)], "FIRN_BACKEND_URL is an IP address");
        }
        check(&[backend, ("FIRN_BLOBS", "x")], "FIRN_BLOBS is none of");
        check(&[backend, ("FIRN_BLOBS", "public")], "FIRN_BLOBS_URL is not set");
        check(&[backend, ("FIRN_BLOBS", "presigned")], "FIRN_S3_ENDPOINT is not set");
        let presigned = [backend, ("FIRN_BLOBS", "presigned"), ("FIRN_S3_ENDPOINT", "https://s3.example")];
        check(&presigned, "FIRN_S3_BUCKET is not set");
        check(&[&presigned[..], &[("FIRN_S3_BUCKET", "a/b")]].concat(), "FIRN_S3_BUCKET is not the name");
        check(&[backend, ("FIRN_TAG_TTL_SECONDS", "5m")], "FIRN_TAG_TTL_SECONDS is not a number");
        check(&[backend, ("FIRN_CACHE_API", "no")], "FIRN_CACHE_API is neither");
        let private = ("FIRN_ACCESS", "private");
        check(&[backend, ("FIRN_ACCESS", "secret")], "FIRN_ACCESS is neither public nor private");
        check(&[backend, private], "FIRN_USERS is not set");
        let users = ("FIRN_USERS", "ann:secret");
        check(&[backend, private, users], "FIRN_SECRET is not set, but");
        let secret = ("FIRN_SECRET", "s3cret");
        check(&[backend, private, secret, ("FIRN_USERS", "ann")], "FIRN_USERS is not a list");
        let public = [("FIRN_BLOBS", "public"), ("FIRN_BLOBS_URL", "https://b.example")];
        check(&[backend, private, users, secret, public[0], public[1]], "FIRN_BLOBS is public, but");
        check(&[backend, ("FIRN_LOG", "some")], "FIRN_LOG is none of");
        check(&[backend, ("FIRN_COMPOSE", "yes")], "FIRN_COMPOSE is neither");
        check(&[backend, ("FIRN_LOCATION_HINT", "Paris")], "FIRN_LOCATION_HINT is none of wnam");
    }
}
