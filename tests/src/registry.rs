//! A client that shows a registry's complete responses, and sends requests that no well-behaved client would.

use crate::wait::{LONG, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use ureq::{Agent, http};

/// The manifest types that current clients accept, one header line each, as skopeo sends them.
pub const ACCEPT: [(&str, &str); 4] = [
    ("accept", "application/vnd.docker.distribution.manifest.v2+json"),
    ("accept", "application/vnd.docker.distribution.manifest.list.v2+json"),
    ("accept", "application/vnd.oci.image.manifest.v1+json"),
    ("accept", "application/vnd.oci.image.index.v1+json"),
];

/// A registry at an address.
#[derive(Clone)]
pub struct Registry {
    address: String,
    agent: Agent,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers by lower-case name. Of several lines with one name, the last.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Registry {
    /// The registry at `HOST:PORT`.
    pub fn at(address: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(LONG))
            .proxy(None);
        Self { address: address.to_owned(), agent: config.build().into() }
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request with this method, path and headers.
    ///
    /// # Panics
    /// If there is no response.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_request(method, path, headers).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Like [`Self::request`], but may fail.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ureq::Error> {
        let mut request =
            http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(()).expect("a request that HTTP can express"))?;
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let headers = headers.collect();
        let mut body = Vec::new();
        response.body_mut().as_reader().read_to_end(&mut body)?;
        Ok(Answer { status: response.status().as_u16(), headers, body })
    }

    /// `GET` for any content type.
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[])
    }

    /// `HEAD` for any content type.
    pub fn head(&self, path: &str) -> Answer {
        self.request("HEAD", path, &[])
    }

    /// The manifest of an image, for the tag `latest`.
    pub fn manifest(&self, name: &str) -> Answer {
        self.request("GET", &format!("/v2/{name}/manifests/latest"), &ACCEPT)
    }

    /// Requests a manifest until it is built, as clients that honour `Retry-After` do.
    ///
    /// # Panics
    /// If the response is neither the manifest nor that it is being built.
    pub fn built(&self, name: &str, tag: &str) -> Answer {
        let answer = self.settled(name, tag);
        assert_eq!(answer.status, 200, "{name}:{tag}: {}", answer.text());
        answer
    }

    /// Requests a manifest until the response is final, whatever it is.
    ///
    /// # Panics
    /// If the build takes too long.
    pub fn settled(&self, name: &str, tag: &str) -> Answer {
        self.settle("GET", &format!("/v2/{name}/manifests/{tag}"))
    }

    /// Requests the path of a manifest until the response is final, whatever it is.
    ///
    /// # Panics
    /// If the build takes too long.
    pub fn settle(&self, method: &str, path: &str) -> Answer {
        until(&format!("{path} is built"), LONG, || {
            let answer = self.request(method, path, &ACCEPT);
            (answer.status != 429).then_some(answer)
        })
    }

    /// Requests an image that does not exist yet, from a registry with a short wait. Returns the build's page.
    ///
    /// # Panics
    /// If the response is not that the image is being built.
    pub fn begin(&self, name: &str) -> String {
        // Looking up the tag may have taken the whole wait.
        until(&format!("{name} is being built"), LONG, || {
            let answer = self.manifest(name);
            assert_eq!(answer.status, 429, "{}", answer.text());
            let page = page_of(&answer.error().1)?;
            let id = &answer.json()["errors"][0]["detail"]["build"];
            assert_eq!(page, format!("/builds/{}", id.as_str().unwrap_or_default()), "{}", answer.text());
            Some(page)
        })
    }

    /// A blob of any size, to be read piece by piece. Follows redirects.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn blob(&self, name: &str, digest: &str) -> impl Read + use<> {
        let url = format!("http://{}/v2/{name}/blobs/{digest}", self.address);
        let request = self.agent.get(url).config().max_redirects(3).timeout_global(None).build();
        let response = request.call().unwrap_or_else(|error| panic!("blob {digest}: {error}"));
        assert_eq!(response.status(), 200, "blob {digest}");
        response.into_body().into_reader()
    }

    /// Sends these bytes, which need not be HTTP. Returns the status and the body of the response.
    ///
    /// # Panics
    /// If there is no response.
    pub fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("the registry listens");
        stream.set_read_timeout(Some(LONG)).expect("a valid time");
        // The server may close the connection before it has read everything.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let shown = String::from_utf8_lossy(&request[..request.len().min(100)]).into_owned();
        let status = status.unwrap_or_else(|| panic!("{shown:?} was not answered: {answer:?}"));
        (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
    }
}

impl Answer {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The first error's code and message.
    ///
    /// # Panics
    /// If this is not an error in the form of the distribution spec.
    pub fn error(&self) -> (String, String) {
        assert!(self.status >= 400, "{} is no error: {}", self.status, self.text());
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.text());
        error_of(&self.text())
    }
}

/// The path of the build's page in a message.
pub fn page_of(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("/builds/")?;
    let id: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    Some(format!("/builds/{id}"))
}

/// Code and message of the first error in a body, parsed without Firn's code.
///
/// # Panics
/// If there is none.
pub fn error_of(body: &str) -> (String, String) {
    let errors: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body:?}"));
    let error = &errors["errors"][0];
    let text = |key: &str| error[key].as_str().unwrap_or_else(|| panic!("no {key} in {body}")).to_owned();
    let (code, message) = (text("code"), text("message"));
    assert!(!message.is_empty() && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{body}");
    (code, message)
}
