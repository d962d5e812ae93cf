//! The names of a test's servers. Production refuses to fetch from addresses.
//!
//! `NAME.example:PORT` is the server on this port of this machine, for the Worker and for the test's client.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// A text with URLs in which servers of this machine have a name instead of an address.
pub fn named(text: &str) -> String {
    text.replace("http://127.0.0.1:", "http://backend.example:")
}

/// The servers that are named in these values, each with its address.
pub(super) fn hosts<'a>(values: impl Iterator<Item = &'a String>) -> BTreeMap<String, String> {
    let words = values.flat_map(|value| value.split([' ', ',', '/']));
    let hosts = words.filter_map(|word| {
        let (name, port) = word.split_once(':')?;
        (name.ends_with(".example") && port.parse::<u16>().is_ok())
            .then(|| (word.to_owned(), format!("127.0.0.1:{port}")))
    });
    hosts.collect()
}

/// Finds the servers for a client.
pub(super) struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Addrs = if name.as_str().ends_with(".example") {
                Box::new(std::iter::once(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
            } else {
                Box::new(tokio::net::lookup_host((name.as_str(), 0)).await?.collect::<Vec<_>>().into_iter())
            };
            Ok(addresses)
        })
    }
}
