//! Client addresses as limits, bans and policy see them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What one IPv6 customer is given at least: two addresses within it are the same client to every limit.
const IPV6_CLIENT_PREFIX: u8 = 64;
/// What one IPv6 site is given at most in common practice.
const IPV6_SUBNET_PREFIX: u8 = 48;

/// The address with an IPv4-mapped IPv6 address (`::ffff:203.0.113.5`) turned into the IPv4 address it is.
///
/// A dual-stack socket shows every IPv4 client that way; unless it is undone before anything looks at the address,
/// one client has two of them.
pub fn unmap(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What a limit or a ban counts a client by: an IPv4 address itself, the /64 of an IPv6 one.
pub fn limit_key(address: IpAddr) -> IpNet {
    network(unmap(address), u8::MAX, IPV6_CLIENT_PREFIX)
}

/// The subnet of a client: the /`ipv4_prefix` of an IPv4 address, the /48 of an IPv6 one.
pub fn subnet(address: IpAddr, ipv4_prefix: u8) -> IpNet {
    network(unmap(address), ipv4_prefix, IPV6_SUBNET_PREFIX)
}

/// Whether both addresses are of one family and alike in their first `ipv4_prefix` or `ipv6_prefix` bits.
pub fn same_range(a: IpAddr, b: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> bool {
    network(unmap(a), ipv4_prefix, ipv6_prefix) == network(unmap(b), ipv4_prefix, ipv6_prefix)
}

/// The network of an address; a prefix longer than the address means the address alone.
fn network(address: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> IpNet {
    match address {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::new_assert(v4, ipv4_prefix.min(32)).trunc()),
        IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new_assert(v6, ipv6_prefix.min(128)).trunc()),
    }
}

/// Whether the address says nothing about where in the internet its user is: loopback, unspecified, private
/// (RFC 1918, unique local, site local), link-local, carrier-grade NAT (100.64.0.0/10), and the prefixes of NAT64
/// and Teredo, within one /64 of which lies the whole IPv4 internet.
///
/// Behind a tunnel, or a proxy whose PROXY header is missing, every player has such an address, and all look alike.
pub fn is_private(address: IpAddr) -> bool {
    match unmap(address) {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    // All of 0.0.0.0/8 is "this network".
    let this_network = a == 0;
    let carrier_nat = a == 100 && (b & 0b1100_0000) == 64;
    this_network || carrier_nat || address.is_loopback() || address.is_private() || address.is_link_local()
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, ..] = address.segments();
    // The deprecated IPv4-compatible addresses and with them :: and ::1.
    let low = address.segments().iter().take(6).all(|segment| *segment == 0);
    // 64:ff9b::/96 and its neighbour for local use, 64:ff9b:1::/48.
    let nat64 = a == 0x64 && b == 0xff9b && c <= 1;
    let teredo = a == 0x2001 && b == 0;
    let unique_local = a & 0xfe00 == 0xfc00;
    // fe80::/10 and, deprecated, fec0::/10.
    let local = a & 0xff80 == 0xfe80;
    low || nat64 || teredo || unique_local || local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        assert_eq!(unmap(ip("::ffff:203.0.113.5")), ip("203.0.113.5"));
        assert_eq!(unmap(ip("203.0.113.5")), ip("203.0.113.5"));
        assert_eq!(unmap(ip("2001:db8::1")), ip("2001:db8::1"));
        assert_eq!(unmap(ip("::1")), ip("::1"));
    }

    #[test]
    fn limits_count_a_v4_address_and_a_v6_64() {
        assert_eq!(limit_key(ip("203.0.113.5")).to_string(), "203.0.113.5/32");
        assert_eq!(limit_key(ip("::ffff:203.0.113.5")).to_string(), "203.0.113.5/32");
        assert_eq!(limit_key(ip("2001:db8:1:2:3:4:5:6")).to_string(), "2001:db8:1:2::/64");
        assert_eq!(limit_key(ip("2001:db8:1:2::1")), limit_key(ip("2001:db8:1:2:ffff::")));
        assert_ne!(limit_key(ip("2001:db8:1:2::1")), limit_key(ip("2001:db8:1:3::1")));
    }

    #[test]
    fn subnets() {
        assert_eq!(subnet(ip("203.0.113.5"), 24).to_string(), "203.0.113.0/24");
        assert_eq!(subnet(ip("203.0.113.5"), 16).to_string(), "203.0.0.0/16");
        assert_eq!(subnet(ip("203.0.113.5"), 33).to_string(), "203.0.113.5/32");
        assert_eq!(subnet(ip("2001:db8:1:2::1"), 24).to_string(), "2001:db8:1::/48");
    }

    #[test]
    fn ranges() {
        for (a, b, alike) in [
            ("203.0.113.5", "203.0.113.250", true),
            ("203.0.113.5", "::ffff:203.0.113.250", true),
            ("203.0.113.255", "203.0.114.0", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::1", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("203.0.113.5", "2001:db8:1:2::1", false),
        ] {
            assert_eq!(same_range(ip(a), ip(b), 24, 64), alike, "{a} {b}");
        }
        assert!(same_range(ip("1.2.3.4"), ip("200.2.3.4"), 0, 0));
        assert!(!same_range(ip("1.2.3.4"), ip("2001:db8::1"), 0, 0), "families never mix");
    }

    #[test]
    fn private_addresses_and_their_neighbours() {
        for private in [
            "127.0.0.1",
            "127.255.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.0.1",
            "100.64.0.0",
            "100.127.255.255",
            "::ffff:192.168.0.1",
            "::",
            "::1",
            "::10.0.0.1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "64:ff9b::cb00:7105",
            "64:ff9b:1::1",
            "2001:0:1::1",
        ] {
            assert!(is_private(ip(private)), "{private}");
        }
        for public in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "203.0.113.5",
            "::ffff:203.0.113.5",
            "2001:db8::1",
            "2001:1::1",
            "64:ff9b:2::1",
            "fbff::1",
            "fe00::1",
            "fe7f::1",
            "ff00::1",
        ] {
            assert!(!is_private(ip(public)), "{public}");
        }
    }
}
