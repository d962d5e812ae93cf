//! Presigned URLs: they let a client without credentials get one object of an S3 bucket for a limited time. The
//! signature is AWS Signature Version 4 ("Authenticating Requests: Using Query Parameters").
//!
//! The implementation is our own because crates for it contain a URL parser and time zones, which are larger than the
//! rest of the Worker. Tests compare it with one of those crates and with AWS's own example.

use crate::{link::base_url::BaseUrl, oci::endpoint::Method};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// An S3 bucket and the credentials to read it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedBucket {
    /// The bucket's URL: its own host, or the endpoint with the bucket's name as path.
    pub url: BaseUrl,
    /// The region; `auto` for R2.
    pub region: String,
    /// The id of the access key.
    pub access_key_id: String,
    /// The secret of the access key. It is never printed.
    pub secret_access_key: String,
}

impl SignedBucket {
    /// A URL for one method on one object. It is valid from `now` (seconds since 1970) for `seconds` seconds (at most a
    /// week). `key` must not contain characters that need escaping in a path.
    pub fn presign(&self, method: Method, key: &str, now: i64, seconds: u64) -> String {
        self.sign(method.as_str(), key, now, seconds)
    }

    /// A URL for storing one object, valid as in [`Self::presign`]. The access key must be allowed to write.
    pub fn presign_put(&self, key: &str, now: i64, seconds: u64) -> String {
        self.sign("PUT", key, now, seconds)
    }

    fn sign(&self, method: &str, key: &str, now: i64, seconds: u64) -> String {
        let (date, time) = date_and_time(now);
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let credential = format!("{}/{scope}", self.access_key_id);
        // The parameters must have the order in which they are signed.
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={date}T{time}Z\
             &X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host",
            escape(&credential)
        );
        let path = format!("{}/{key}", self.url.path());
        let request =
            format!("{method}\n{path}\n{query}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", self.url.host());
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{date}T{time}Z\n{scope}\n{}",
            hex::encode(Sha256::digest(request.as_bytes()))
        );
        let secret = format!("AWS4{}", self.secret_access_key).into_bytes();
        let signing_key = [date.as_str(), &self.region, "s3", "aws4_request"]
            .into_iter()
            .fold(secret, |key, part| hmac(&key, part));
        let signature = hex::encode(hmac(&signing_key, &to_sign));
        format!("{}/{key}?{query}&X-Amz-Signature={signature}", self.url)
    }
}

impl fmt::Debug for SignedBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedBucket").field("url", &self.url).finish_non_exhaustive()
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `YYYYMMDD` and `HHMMSS`, in UTC.
fn date_and_time(seconds: i64) -> (String, String) {
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    (
        format!("{:04}{:02}{:02}", time.year(), u8::from(time.month()), time.day()),
        format!("{:02}{:02}{:02}", time.hour(), time.minute(), time.second()),
    )
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte))
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
    use std::time::Duration;

    fn bucket(url: &str, region: &str) -> SignedBucket {
        SignedBucket {
            url: url.parse().expect("a URL"),
            region: region.into(),
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        }
    }

    #[test]
    fn signs_what_aws_signs() {
        // The example in "Authenticating Requests: Using Query Parameters": 24 May 2013, one day.
        let url = bucket("https://examplebucket.s3.amazonaws.com", "us-east-1").presign(
            Method::Get,
            "test.txt",
            1_369_353_600,
            86_400,
        );
        assert_eq!(
            url,
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn hides_the_secret() {
        let text = format!("{:?}", bucket("https://s3.example", "auto"));
        assert!(!text.contains("wJalr") && !text.contains("AKIA"), "{text}");
    }

    proptest! {
        #[test]
        fn agrees_with_another_implementation(
            key in "[a-z0-9]{1,5}(/[a-z0-9]{1,10}){0,3}",
            region in "[a-z]{2}-[a-z]{1,5}-[0-9]",
            now in 0i64..4_000_000_000,
            seconds in 1u64..604_800,
            head in any::<bool>(),
        ) {
            let ours = bucket("https://s3.example:9000/firn", &region);
            let endpoint = "https://s3.example:9000".parse().expect("a URL");
            let theirs = Bucket::new(endpoint, UrlStyle::Path, "firn", region).expect("a bucket");
            let credentials = Credentials::new(ours.access_key_id.clone(), ours.secret_access_key.clone());
            let date = jiff::Timestamp::from_second(now).expect("a time");
            let lifetime = Duration::from_secs(seconds);
            let (method, expect) = if head {
                (Method::Head, theirs.head_object(Some(&credentials), &key).sign_with_time(lifetime, &date))
            } else {
                (Method::Get, theirs.get_object(Some(&credentials), &key).sign_with_time(lifetime, &date))
            };
            prop_assert_eq!(ours.presign(method, &key, now, seconds), expect.as_str());
            let expect = theirs.put_object(Some(&credentials), &key).sign_with_time(lifetime, &date);
            prop_assert_eq!(ours.presign_put(&key, now, seconds), expect.as_str());
        }
    }
}
