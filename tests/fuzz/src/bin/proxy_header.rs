//! Any bytes where the header of the PROXY protocol is to be: a header is found at one length only, whatever follows it,
//! nothing shorter is taken for one, and the addresses of a line read as they are printed.
#![no_main]

use bast_server::fuzzing::proxy_header;

/// Shorter than most inputs, so that it is met.
const BYTES_MAX: usize = 300;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = proxy_header(bytes, BYTES_MAX);
    let found = (0..bytes.len()).find_map(|cut| proxy_header(&bytes[..cut], BYTES_MAX).ok().flatten());
    match whole {
        Ok(Some((len, addresses))) => {
            assert!(len <= bytes.len() && len <= BYTES_MAX);
            // The first prefix with a header is the header itself, unless that is all there is.
            assert!(found.is_none_or(|found| found == (len, addresses)));
            if let (Some((source, destination)), true) = (addresses, bytes.starts_with(b"PROXY ")) {
                let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
                let (ips, ports) = ((source.ip(), destination.ip()), (source.port(), destination.port()));
                let line = format!("PROXY {family} {} {} {} {}\r\n", ips.0, ips.1, ports.0, ports.1);
                // std prints IPv6 addresses that embed IPv4 ones with dots, which a line may not have.
                if !line.contains("::ffff:") && !(source.is_ipv6() && line.contains('.')) {
                    assert_eq!(proxy_header(line.as_bytes(), BYTES_MAX), Ok(Some((line.len(), addresses))));
                }
            }
        }
        Ok(None) | Err(_) => assert_eq!(found, None),
    }
});
