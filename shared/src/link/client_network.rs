//! Which addresses count as one client for limits and for turns in a queue.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The network that counts as one client: an IPv4 address, or the /64 of an IPv6 address.
///
/// A subscriber gets at least one IPv6 /64 (RFC 6177). If full addresses counted, each subscriber would be 2⁶⁴ clients.
/// An IPv4-mapped IPv6 address counts as the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientNetwork(IpAddr);

impl ClientNetwork {
    /// The network of an address.
    pub fn of(address: IpAddr) -> Self {
        const PREFIX: u128 = !0 << 64;
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & PREFIX)),
            address => address,
        })
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_network_once() {
        let check = |address: &str, expect: &str| {
            let network = ClientNetwork::of(address.parse().expect("an address"));
            assert_eq!(network.to_string(), expect, "{address}");
        };
        check("10.0.0.1", "10.0.0.1");
        check("::ffff:10.0.0.1", "10.0.0.1");
        check("2001:db8::1", "2001:db8::");
        check("2001:db8::ffff:1:2:3", "2001:db8::");
        check("2001:db8:0:1::1", "2001:db8:0:1::");
    }
}
