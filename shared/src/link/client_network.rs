//! Who counts as one client when limits and turns are shared out.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The network that counts as one client: an IPv4 address, or the /64 of an IPv6 address.
///
/// A subscriber gets a whole IPv6 /64 at least (RFC 6177), so that the full address would give everybody 2⁶⁴
/// identities. An IPv4 address that is mapped into IPv6 is the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientNetwork(IpAddr);

impl ClientNetwork {
    /// The network that an address is in.
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
