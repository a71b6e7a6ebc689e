//! A range of IP addresses: those that share a prefix (RFC 4632 §3.1, RFC 4291 §2.3).
#![forbid(unsafe_code)]

use std::net::IpAddr;

/// All addresses with the first `prefix_bits` of `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    start: IpAddr,
    prefix_bits: u32,
}

impl Range {
    /// Reads `192.0.2.0/24`, or an address, which is a range of one.
    pub(super) fn parse(text: &str) -> Option<Range> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let start: IpAddr = address.parse().ok()?;
        let bits = if start.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            // Without the sign that a number may have.
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok()?,
            Some(_) => return None,
            None => bits,
        };
        (prefix_bits <= bits).then_some(Range { start, prefix_bits })
    }

    /// Is the address one of them? An IPv4 address that is written as an IPv6 one counts as what it is.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let (differing, bits) = match (self.start, address.to_canonical()) {
            (IpAddr::V4(start), IpAddr::V4(address)) => (u128::from(start.to_bits() ^ address.to_bits()), 32),
            (IpAddr::V6(start), IpAddr::V6(address)) => (start.to_bits() ^ address.to_bits(), 128),
            _ => return false,
        };
        // All bits behind the prefix may differ; shifted out of 128 there are none left.
        differing.checked_shr(bits - self.prefix_bits).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_shares_its_prefix() {
        for (range, address, expected) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.7/24", "192.0.2.1", true),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::1", "::1", true),
            ("::1", "::2", false),
        ] {
            let parsed = Range::parse(range).expect("a range");
            assert_eq!(
                parsed.contains(address.parse().expect("an address")),
                expected,
                "{address} in {range}"
            );
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::/129",
            "host",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }
}
