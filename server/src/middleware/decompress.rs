//! Request bodies that were compressed by the client.
#![forbid(unsafe_code)]

use super::{Middleware, Next};
use crate::inflate::Inflated;
use crate::request::Request;
use crate::response::Response;

/// Lets clients send bodies in the codings `gzip` and `deflate` (RFC 9110 §8.4): [`read_body`](Request::read_body),
/// [`read_text`](Request::read_text), `json` and `form` give what they were made from.
///
/// Without it, `read_text`, `json` and `form` answer such a body by 415; `read_body` and [`body`](Request::body) pass it on
/// as it came. `body`, which gives pieces, does so with it as well. The limits on bodies
/// ([`Limits::body_bytes_max`](crate::Limits::body_bytes_max)) hold for what is sent; what it becomes has a bound of its own, as a
/// kilobyte can become a megabyte.
///
/// ```
/// use bast_server::middleware::Decompress;
/// use bast_server::{Handler, Request, Router};
///
/// let app = Router::new().post("/logs", (|req: &mut Request| req.read_text()).with(Decompress::new(4 << 20)));
/// # let _ = app;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Decompress {
    bytes_max: u64,
}

impl Decompress {
    /// Bodies that become up to so many bytes. A longer one is a 413, one that is malformed a 400, and another coding a 415.
    #[must_use]
    pub fn new(bytes_max: u64) -> Decompress {
        Decompress { bytes_max }
    }
}

impl Middleware for Decompress {
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        request.extensions_mut().insert(Inflated { bytes_max: self.bytes_max });
        next.run(request)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;
    use crate::error::Error;
    use crate::handler::Handler;
    use crate::http1::serve::tests::{answer, codes};
    use crate::middleware::BodyLimit;
    use crate::router::Router;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).expect("a vector takes all");
        encoder.finish().expect("a vector takes all")
    }

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).expect("a vector takes all");
        encoder.finish().expect("a vector takes all")
    }

    /// Status and content of the answer to a body in these codings.
    fn send(app: impl Handler, codings: &str, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{codings}\r\n",
            body.len()
        );
        let output = answer(app, &[head.as_bytes(), body]);
        (codes(&output)[0], output.split_once("\r\n\r\n").expect("a whole response").1.to_owned())
    }

    fn text(request: &mut Request<'_>) -> Result<String, Error> {
        request.read_text()
    }

    const BYTES_MAX: usize = 100 << 10;

    fn inflating() -> impl Handler {
        // The tests' own limit is for small requests.
        Router::new().post("/", text).with(Decompress::new(BYTES_MAX as u64)).with(BodyLimit::new(1 << 20))
    }

    #[test]
    fn a_compressed_body_is_read_as_what_it_was() {
        let long = "so it goes, ".repeat(5000);
        let parts = [gzip(b"one "), gzip(b"two")].concat();
        for (codings, body, content) in [
            ("Content-Encoding: gzip\r\n", gzip(long.as_bytes()), &*long),
            ("content-encoding: X-GZIP\r\n", gzip(b"short"), "short"),
            ("Content-Encoding: gzip\r\n", parts, "one two"),
            ("Content-Encoding: gzip\r\n", Vec::new(), ""),
            ("Content-Encoding: deflate\r\n", deflate(long.as_bytes()), &*long),
            ("Content-Encoding: identity\r\n", b"plain".to_vec(), "plain"),
            ("", b"plain".to_vec(), "plain"),
        ] {
            let (code, got) = send(inflating(), codings, &body);
            assert_eq!((code, got.len()), (200, content.len()), "{codings}");
            assert!(got == content, "{codings}");
        }
    }

    #[test]
    fn a_bomb_is_a_413_and_what_is_malformed_or_unknown_is_refused() {
        let bomb = gzip(&vec![b'0'; 50 << 20]);
        assert!(bomb.len() < BYTES_MAX, "it is small on the wire");
        let mut cut = gzip(b"cut off");
        cut.truncate(cut.len() - 3);
        let exact = vec![b'x'; BYTES_MAX];
        for (codings, body, code) in [
            ("Content-Encoding: gzip\r\n", &bomb, 413),
            ("Content-Encoding: gzip\r\n", &gzip(&exact), 200),
            ("Content-Encoding: gzip\r\n", &gzip(&[&exact[..], b"x"].concat()), 413),
            ("Content-Encoding: gzip\r\n", &b"no gzip at all".to_vec(), 400),
            ("Content-Encoding: gzip\r\n", &cut, 400),
            ("Content-Encoding: gzip, gzip\r\n", &gzip(b""), 415),
            ("Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", &gzip(b""), 415),
            ("Content-Encoding: br\r\n", &gzip(b""), 415),
        ] {
            assert_eq!(send(inflating(), codings, body).0, code, "{codings} {} bytes", body.len());
        }
    }

    #[test]
    fn a_415_for_a_coding_says_which_ones_are_read() {
        fn asked(app: impl Handler) -> Option<String> {
            let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\n";
            let output = answer(app, &[head.as_bytes(), b"x"]);
            assert_eq!(codes(&output), [415]);
            output.lines().find_map(|line| line.strip_prefix("Accept-Encoding: ")).map(str::to_owned)
        }
        assert_eq!(asked(inflating()).as_deref(), Some("gzip, deflate"));
        assert_eq!(asked(text).as_deref(), Some("identity"));
    }

    #[test]
    fn members_and_blocks_without_content_are_refused_before_they_cost_much() {
        let members = gzip(b"").repeat(10_000);
        // Stored blocks of no length (RFC 1951 §3.2.4) in a member whose end is right.
        let empty_block = [0, 0, 0, 0xff, 0xff];
        let whole = gzip(b"x");
        let blocks = [&whole[..10], &empty_block.repeat(20_000), &whole[10..]].concat();
        let zlib = deflate(b"x");
        let zlib_blocks = [&zlib[..2], &empty_block.repeat(20_000), &zlib[2..]].concat();
        let few = [gzip(b"").repeat(100), gzip(b"content")].concat();
        let some_blocks = [&whole[..10], &empty_block.repeat(1000), &whole[10..]].concat();
        // What does not become smaller by its coding pays for itself.
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b'!' + (state >> 58) as u8
        })
        .take(BYTES_MAX)
        .collect();
        for (coding, body, code) in [
            ("gzip", &members, 400),
            ("gzip", &blocks, 400),
            ("deflate", &zlib_blocks, 400),
            ("gzip", &few, 200),
            ("gzip", &some_blocks, 200),
            ("gzip", &gzip(&noise), 200),
        ] {
            let (got, text) = send(inflating(), &format!("Content-Encoding: {coding}\r\n"), body);
            assert_eq!(got, code, "{coding}, {} bytes: {}", body.len(), text.len());
        }
    }

    #[test]
    fn without_it_a_coded_body_is_passed_on_raw_and_never_taken_for_text() {
        let body = gzip(b"{}");
        let coded = "Content-Encoding: gzip\r\n";
        assert_eq!(send(text, coded, &body).0, 415);
        let len = |request: &mut Request<'_>| request.read_body().map(|body| body.len().to_string());
        assert_eq!(send(len, coded, &body), (200, body.len().to_string()));
        #[cfg(feature = "json")]
        {
            use std::collections::BTreeMap;
            let json = |request: &mut Request<'_>| {
                request.json::<BTreeMap<String, u8>>().map(|map| map.len().to_string())
            };
            assert_eq!(send(json, coded, &body).0, 415);
            assert_eq!(send(json.with(Decompress::new(2)), coded, &body), (200, "0".to_owned()));
        }
    }
}
