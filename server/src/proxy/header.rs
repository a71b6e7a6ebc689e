//! The header of the PROXY protocol, versions 1 and 2: bytes in, addresses out.
//!
//! Sans-IO, for connections that are known to begin with it: whether they do is never guessed (section 2 of the
//! specification, <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>). Sections are those of that text.
//!
//! ```text
//! 1:  PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n
//! 2:  │ signature 12 │ 2, command │ family, transport │ length 2 │ addresses │ type 1, length 2, value │ ... │
//! ```
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1 with its end (section 2.1).
const LINE_BYTES_MAX: usize = 107;

/// How version 1 begins (section 2.1).
const LINE_START: &[u8] = b"PROXY ";

/// How version 2 begins (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What precedes the addresses of version 2: signature, version and command, family and transport, length.
const FIXED_BYTES: usize = SIGNATURE.len() + 4;

/// What a whole header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// The proxy speaks for itself (a health check), or does not say for whom: the connection's own addresses count.
    Direct,
    /// The proxy relays a connection from `source` to `destination`.
    Relayed { source: SocketAddr, destination: SocketAddr },
}

/// How far the header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is the first `len` bytes; the protocol behind it begins there.
    Complete { len: usize, header: Header },
    /// All bytes belong to it, and more are needed.
    Incomplete,
}

/// Why the bytes are no header. The connection is to be aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Reads the header at the beginning of `bytes`, of which no header is to have more than `bytes_max`.
pub(crate) fn parse(bytes: &[u8], bytes_max: usize) -> Result<Progress, Malformed> {
    if begins(bytes, LINE_START) {
        line(bytes)
    } else if begins(bytes, SIGNATURE) {
        binary(bytes, bytes_max)
    } else {
        Err(Malformed("no PROXY header"))
    }
}

/// Whether `bytes` begin with `start`, or are too few to tell.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let shared = bytes.len().min(start.len());
    bytes[..shared] == start[..shared]
}

/// Version 1, section 2.1.
fn line(bytes: &[u8]) -> Result<Progress, Malformed> {
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        if seen.len() == LINE_BYTES_MAX {
            return Err(Malformed("PROXY line too long"));
        }
        // A line end of one byte is none (section 2.1), and what follows it is not the proxy's.
        let before_last = &seen[..seen.len().saturating_sub(1)];
        if seen.contains(&b'\n') || before_last.contains(&b'\r') {
            return Err(Malformed("bare CR or LF in a PROXY line"));
        }
        return Ok(Progress::Incomplete);
    };
    let Some(text) = seen[..end].get(LINE_START.len()..) else {
        return Err(Malformed("no PROXY header"));
    };
    let header = if text == b"UNKNOWN" || text.starts_with(b"UNKNOWN ") {
        Header::Direct
    } else {
        let text = str::from_utf8(text).map_err(|_| Malformed("PROXY line is not ASCII"))?;
        line_addresses(text).ok_or(Malformed("malformed addresses in a PROXY line"))?
    };
    Ok(Progress::Complete { len: end + 2, header })
}

fn line_addresses(text: &str) -> Option<Header> {
    let mut fields = text.split(' ');
    let mut next = || fields.next();
    let ip: fn(&str) -> Option<IpAddr> = match next()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        // Hexadecimal only: std also reads the last 32 bits in decimal.
        "TCP6" => |text| (!text.contains('.')).then(|| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6))?,
        _ => return None,
    };
    let (source, destination) = (ip(next()?)?, ip(next()?)?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    if next().is_some() {
        return None;
    }
    Some(Header::Relayed {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// A decimal number without a sign or leading zeroes.
fn port(text: &str) -> Option<u16> {
    let is_canonical = text == "0" || !text.starts_with(['0', '+']);
    is_canonical.then(|| text.parse().ok())?
}

/// Version 2, section 2.2.
fn binary(bytes: &[u8], bytes_max: usize) -> Result<Progress, Malformed> {
    let Some(&version_command) = bytes.get(SIGNATURE.len()) else { return Ok(Progress::Incomplete) };
    if version_command >> 4 != 2 {
        return Err(Malformed("unknown version of the PROXY protocol"));
    }
    let is_local = match version_command & 0xf {
        0 => true,
        1 => false,
        _ => return Err(Malformed("unknown PROXY command")),
    };
    let Some(&[_, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED_BYTES) else {
        return Ok(Progress::Incomplete);
    };
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len > bytes_max {
        return Err(Malformed("PROXY header too long"));
    }
    let Some(whole) = bytes.get(..len) else { return Ok(Progress::Incomplete) };
    // The block of a LOCAL command is skipped, whatever is in it.
    let header = if is_local { Header::Direct } else { relayed(whole, family)? };
    Ok(Progress::Complete { len, header })
}

/// The addresses of a PROXY command, and a look at what follows them.
fn relayed(whole: &[u8], family: u8) -> Result<Header, Malformed> {
    let block = &whole[FIXED_BYTES..];
    let address_bytes = match family >> 4 {
        0 => 0,
        1 => 2 * (4 + 2),
        2 => 2 * (16 + 2),
        3 => 2 * 108,
        _ => return Err(Malformed("unknown PROXY address family")),
    };
    if family & 0xf > 2 {
        return Err(Malformed("unknown PROXY transport"));
    }
    if block.len() < address_bytes {
        return Err(Malformed("PROXY header too short for its addresses"));
    }
    // Nothing says where the addresses of an unspecified family end: what is behind the fixed part is skipped.
    if family >> 4 != 0 {
        check_extensions(whole, FIXED_BYTES + address_bytes)?;
    }
    Ok(match (family, block) {
        (0x11, [s0, s1, s2, s3, d0, d1, d2, d3, sp0, sp1, dp0, dp1, ..]) => Header::Relayed {
            source: (Ipv4Addr::new(*s0, *s1, *s2, *s3), u16::from_be_bytes([*sp0, *sp1])).into(),
            destination: (Ipv4Addr::new(*d0, *d1, *d2, *d3), u16::from_be_bytes([*dp0, *dp1])).into(),
        },
        (0x21, _) => {
            let ip = |at: usize| -> Option<Ipv6Addr> {
                Some(<[u8; 16]>::try_from(block.get(at..at + 16)?).ok()?.into())
            };
            let port =
                |at: usize| Some(u16::from_be_bytes(<[u8; 2]>::try_from(block.get(at..at + 2)?).ok()?));
            let pair = |ip_at, port_at| Some(SocketAddr::from((ip(ip_at)?, port(port_at)?)));
            match (pair(0, 32), pair(16, 34)) {
                (Some(source), Some(destination)) => Header::Relayed { source, destination },
                _ => return Err(Malformed("PROXY header too short for its addresses")),
            }
        }
        // Unspecified, UDP and Unix sockets: as if no address were given (section 2.2).
        _ => Header::Direct,
    })
}

/// The extension with a checksum of the whole header (section 2.2.3).
const CRC32C: u8 = 0x03;

/// Walks over the extensions, which must fill the header, and verifies the checksum if there is one. The others are
/// skipped.
fn check_extensions(whole: &[u8], start: usize) -> Result<(), Malformed> {
    let mut at = start;
    while at < whole.len() {
        let Some(&[kind, high, low]) = whole.get(at..at + 3) else {
            return Err(Malformed("PROXY extension cut off"));
        };
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        let Some(bytes) = whole.get(value..end) else {
            return Err(Malformed("PROXY extension longer than its header"));
        };
        if kind == CRC32C {
            let expected: [u8; 4] = bytes.try_into().map_err(|_| Malformed("malformed PROXY checksum"))?;
            let parts = [&whole[..value], &[0; 4], &whole[end..]];
            if crc32c(parts.into_iter().flatten().copied()) != u32::from_be_bytes(expected) {
                return Err(Malformed("wrong PROXY checksum"));
            }
        }
        at = end;
    }
    Ok(())
}

/// CRC-32C (Castagnoli), RFC 4960 appendix B, bit by bit: it runs over some hundred bytes once in a connection.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    /// The polynomial 0x1EDC6F41, reflected.
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 1000;

    fn relayed(source: &str, destination: &str) -> Header {
        let address = |text: &str| text.parse().expect("an address");
        Header::Relayed { source: address(source), destination: address(destination) }
    }

    /// A header of version 2 with this block.
    fn binary(version_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let len = u16::try_from(block.len()).expect("short enough").to_be_bytes();
        [SIGNATURE, &[version_command, family], &len, block].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 7, 0xDC, 0x04, 0x01, 0xBB];

    fn v6() -> Vec<u8> {
        let ip = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
        [&ip("2001:db8::1")[..], &ip("2001:db8::2"), &[0xDC, 0x04, 0x01, 0xBB]].concat()
    }

    fn with_checksum(mut header: Vec<u8>) -> Vec<u8> {
        let len = u16::from_be_bytes([header[14], header[15]]) + 7;
        header[14..16].copy_from_slice(&len.to_be_bytes());
        header.extend([CRC32C, 0, 4, 0, 0, 0, 0]);
        let sum = crc32c(header.iter().copied()).to_be_bytes();
        let at = header.len() - 4;
        header[at..].copy_from_slice(&sum);
        header
    }

    fn good() -> Vec<(Vec<u8>, Header)> {
        let pair = relayed("192.0.2.1:56324", "198.51.100.7:443");
        let pair6 = relayed("[2001:db8::1]:56324", "[2001:db8::2]:443");
        let noop = |block: &[u8]| [block, &[0x04, 0, 2, 7, 7, 0xE0, 0, 0]].concat();
        vec![
            (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".to_vec(), pair),
            (b"PROXY TCP6 2001:DB8::1 2001:db8:0:0:0:0:0:2 56324 443\r\n".to_vec(), pair6),
            (
                b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n".to_vec(),
                relayed("0.0.0.0:0", "255.255.255.255:65535"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Header::Direct),
            (b"PROXY UNKNOWN \xff anything\r\n".to_vec(), Header::Direct),
            (binary(0x21, 0x11, V4), pair),
            (binary(0x21, 0x21, &v6()), pair6),
            (binary(0x21, 0x11, &noop(V4)), pair),
            (with_checksum(binary(0x21, 0x11, &noop(V4))), pair),
            (with_checksum(binary(0x21, 0x21, &v6())), pair6),
            // Datagrams, Unix sockets and what is unspecified: the connection's own addresses.
            (binary(0x21, 0x12, V4), Header::Direct),
            (binary(0x21, 0x31, &[b'/'; 216]), Header::Direct),
            (binary(0x21, 0x00, b""), Header::Direct),
            (binary(0x21, 0x00, b"what nobody knows"), Header::Direct),
            // LOCAL: whatever family and block.
            (binary(0x20, 0x00, b""), Header::Direct),
            (binary(0x20, 0xFF, b"skipped"), Header::Direct),
        ]
    }

    #[test]
    fn a_header_is_read_cut_at_every_byte_and_what_follows_is_not_touched() {
        for (header, expected) in good() {
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut], BYTES_MAX), Ok(Progress::Incomplete), "{cut} of {header:?}");
            }
            for rest in ["", "\r\n", "GET / HTTP/1.1\r\n\r\n"] {
                let bytes = [&header[..], rest.as_bytes()].concat();
                let complete = Progress::Complete { len: header.len(), header: expected };
                assert_eq!(parse(&bytes, BYTES_MAX), Ok(complete), "{header:?}");
            }
        }
    }

    #[test]
    fn what_is_not_exactly_a_header_is_refused() {
        let mut bad: Vec<Vec<u8>> = [
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "proxy TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324\r443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 9\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 +56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 -1 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 56324 0443\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.7 56324 443\r\n",
            "PROXY TCP4 192.0.2 198.51.100.7 56324 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.7 56324 443\r\n",
            "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 56324 443\r\n",
            "PROXY TCP6 2001:db8::1%eth0 2001:db8::2 56324 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.7 56324 443\r\n",
            "PROXY UNKNOWNS\r\n",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec();
        bad.push([b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat());
        bad.extend([
            binary(0x11, 0x11, V4),
            binary(0x31, 0x11, V4),
            binary(0x22, 0x11, V4),
            binary(0x21, 0x41, V4),
            binary(0x21, 0x13, V4),
            binary(0x21, 0x11, &V4[1..]),
            binary(0x21, 0x21, &v6()[1..]),
            binary(0x21, 0x31, &[0; 215]),
            binary(0x21, 0x11, &[V4, &[4]].concat()),
            binary(0x21, 0x11, &[V4, &[4, 0, 1]].concat()),
            binary(0x21, 0x11, &[V4, &[4, 0xFF, 0xFF, 0]].concat()),
            binary(0x21, 0x11, &[V4, &[CRC32C, 0, 3, 0, 0, 0]].concat()),
            binary(0x21, 0x11, &[V4, &[CRC32C, 0, 4, 0, 0, 0, 0]].concat()),
            binary(0x20, 0x00, &[0; BYTES_MAX]),
        ]);
        for bytes in bad {
            assert!(parse(&bytes, BYTES_MAX).is_err(), "{:?}", String::from_utf8_lossy(&bytes));
            // Cut it is refused too, or waited for, and never taken for a header.
            for cut in 0..bytes.len() {
                let complete = matches!(parse(&bytes[..cut], BYTES_MAX), Ok(Progress::Complete { .. }));
                assert!(!complete, "{cut} of {:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[test]
    fn each_changed_bit_of_a_header_with_a_checksum_is_noticed() {
        let header = with_checksum(binary(0x21, 0x11, V4));
        for bit in 0..header.len() * 8 {
            let mut changed = header.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // What became a LOCAL command, or of no family, or has another extension there, has no checksum.
            let ignored = changed[12] == 0x20 || changed[13] >> 4 == 0 || changed[28] != CRC32C;
            let complete = matches!(parse(&changed, BYTES_MAX), Ok(Progress::Complete { .. }));
            assert_eq!(complete, ignored, "bit {bit}");
        }
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283);
        assert_eq!(crc32c([0; 32].into_iter()), 0x8A91_36AA);
        assert_eq!(crc32c([0xFF; 32].into_iter()), 0x62A8_AB43);
    }
}
