#![forbid(unsafe_code)]

use std::io::Read as _;
use std::rc::Rc;
use std::sync::{Arc, Once};

use super::*;
use crate::handler::Handler;
use crate::http1::serve::tests::{codes, run, service};
use crate::middleware::tests::field;
use crate::router::Router;
use crate::transport::twin::{Event, Twin};

/// The head, and the body without its chunks, as far as they are whole.
struct Answer {
    head: String,
    body: Vec<u8>,
    /// What was sent at once.
    sends: Vec<Vec<u8>>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

/// What a client that accepts this gets, on a green thread as in a server.
fn ask(app: &Arc<dyn Handler>, method: &str, path: &str, fields: &str) -> Answer {
    let app = Arc::clone(app);
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    bast::run(move || {
        let twin: Rc<Twin> = Twin::new(&[request.as_bytes()]);
        run(&twin, &service(move |request: &mut Request<'_>| app.handle(request)));
        let sends = twin.events().into_iter().filter_map(|event| match event {
            Event::Sent(bytes) => Some(bytes),
            _ => None,
        });
        let sends: Vec<Vec<u8>> = sends.collect();
        let all = sends.concat();
        let end = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(all[..end].to_vec()).expect("a head is text");
        let is_chunked = head.contains("Transfer-Encoding: chunked\r\n") && end < all.len();
        let body = if is_chunked { unchunked(&all[end..]) } else { all[end..].to_vec() };
        if let Some(length) = field(&head, "Content-Length").filter(|_| end < all.len()) {
            assert_eq!(length, body.len().to_string());
        }
        Answer { head, body, sends }
    })
}

fn unchunked(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let Some(end) = chunks.iter().position(|&b| b == b'\r') else { return body };
        let size =
            usize::from_str_radix(std::str::from_utf8(&chunks[..end]).expect("a size"), 16).expect("a size");
        if size == 0 || chunks.len() < end + 4 + size {
            return body;
        }
        body.extend_from_slice(&chunks[end + 2..end + 2 + size]);
        chunks = &chunks[end + 4 + size..];
    }
}

fn decode(coding: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        None => plain.extend_from_slice(body),
        Some("gzip") => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut plain).expect("gzip")),
        Some("deflate") => drop(flate2::read::ZlibDecoder::new(body).read_to_end(&mut plain).expect("zlib")),
        #[cfg(feature = "brotli")]
        Some("br") => drop(brotli::Decompressor::new(body, 4096).read_to_end(&mut plain).expect("brotli")),
        #[cfg(feature = "zstd")]
        Some("zstd") => plain = zstd::stream::decode_all(body).expect("zstd"),
        other => panic!("{other:?}"),
    }
    plain
}

fn text(len: usize) -> Vec<u8> {
    b"<li>some text that repeats itself, with number 7</li>\n".iter().copied().cycle().take(len).collect()
}

const TAG: &str = "\"tag\"";

fn app(compress: Compress) -> Arc<dyn Handler> {
    let directory = std::env::temp_dir();
    let file = directory.join(format!("bast-compress-{}.css", std::process::id()));
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| std::fs::write(&file, text(100_000)).expect("a file"));
    let tagged = |response: Response| response.with_header("ETag", TAG);
    Arc::new(
        Router::new()
            .get("/bytes/{n}", move |request: &mut Request<'_>| -> Result<Response, Error> {
                Ok(tagged(Response::bytes("text/html", text(request.param("n")?))))
            })
            .get("/parts", |_: &mut Request<'_>| {
                let parts = text(30_000).chunks(10_001).map(|part| Bytes::Owned(part.to_vec())).collect();
                Response::bytes("text/html", "").with_body(Body::Parts(parts))
            })
            .get("/png", |_: &mut Request<'_>| Response::bytes("image/png", text(5000)))
            .get("/coded", |_: &mut Request<'_>| {
                Response::bytes("text/html", text(5000)).with_header("Content-Encoding", "x")
            })
            .get("/fixed", move |_: &mut Request<'_>| {
                tagged(Response::bytes("text/html", text(5000)))
                    .with_header("Cache-Control", "public, No-Transform")
            })
            .get("/part", |_: &mut Request<'_>| {
                let part = Response::bytes("text/html", text(5000)).with_status(Status::PARTIAL_CONTENT);
                part.with_header("Content-Range", "bytes 0-4999/9999")
            })
            .get("/part/png", |_: &mut Request<'_>| {
                let part = Response::bytes("image/png", text(5000)).with_status(Status::PARTIAL_CONTENT);
                part.with_header("Content-Range", "bytes 0-4999/9999")
            })
            .get("/beyond", |_: &mut Request<'_>| {
                let refusal = Response::text(text(5000)).with_status(Status::RANGE_NOT_SATISFIABLE);
                refusal.with_header("Content-Range", "bytes */9999")
            })
            .get("/noise", |_: &mut Request<'_>| {
                // Bytes in which a coding finds nothing (Knuth's MMIX constants).
                let noise = std::iter::successors(Some(1u64), |state| {
                    Some(
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407),
                    )
                });
                let noise = noise.map(|state| (state >> 56) as u8).take(2000);
                Response::bytes("text/plain", noise.collect::<Vec<u8>>())
            })
            .get("/unmodified", move |_: &mut Request<'_>| tagged(Response::new(Status::NOT_MODIFIED)))
            .get("/unmodified/{type}", move |request: &mut Request<'_>| {
                let content_type = format!("{}/x", request.param_text("type").unwrap_or_default());
                tagged(Response::new(Status::NOT_MODIFIED)).with_header("Content-Type", content_type)
            })
            .post("/done", |_: &mut Request<'_>| {
                Response::bytes("text/html", text(5000)).with_header("Set-Cookie", "a=b")
            })
            .get("/digest", |_: &mut Request<'_>| {
                let digests = ["Content-Digest", "repr-digest", "Digest", "Content-MD5"];
                let response = Response::bytes("text/html", text(5000));
                digests.iter().fold(response, |response, name| response.with_header(name, "x"))
            })
            .get("/error", |_: &mut Request<'_>| (Status::BAD_REQUEST, "no"))
            .get("/events", |_: &mut Request<'_>| {
                Response::stream("text/event-stream", |body| {
                    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
                        body.write_all(event.as_bytes())?;
                        body.flush()?;
                    }
                    Ok(())
                })
            })
            .get("/sized/{n}", |request: &mut Request<'_>| -> Result<Response, Error> {
                let written: usize = request.param("n")?;
                Ok(Response::stream_sized("text/plain", 50_000, move |body| body.write_all(&text(written))))
            })
            .files("/files", directory)
            .with(compress),
    )
}

fn file_name() -> String {
    format!("/files/bast-compress-{}.css", std::process::id())
}

#[test]
fn each_coding_is_what_it_says_for_bytes_streams_and_files() {
    let app = app(Compress::new());
    let mut known = vec!["gzip", "deflate"];
    known.extend(cfg!(feature = "brotli").then_some("br"));
    known.extend(cfg!(feature = "zstd").then_some("zstd"));
    for coding in known {
        for (path, expected) in [
            ("/bytes/100000", text(100_000)),
            ("/parts", text(30_000)),
            ("/sized/50000", text(50_000)),
            (&file_name(), text(100_000)),
        ] {
            let answer = ask(&app, "GET", path, &format!("Accept-Encoding: {coding}\r\n"));
            assert_eq!(codes(&answer.head), [200]);
            assert_eq!(answer.field("Content-Encoding"), Some(coding), "{path}");
            assert_eq!(answer.field("Vary"), Some("Accept-Encoding"));
            assert_eq!(answer.field("Accept-Ranges"), None);
            assert!(answer.field("ETag").is_none_or(|tag| tag.starts_with("W/\"")), "{}", answer.head);
            assert!(answer.body.len() * 10 < expected.len(), "{coding} {path}: {}", answer.body.len());
            assert!(decode(Some(coding), &answer.body) == expected, "{coding} {path}");
            let plain = ask(&app, "GET", path, "");
            assert_eq!(plain.field("Content-Encoding"), None);
            assert_eq!(plain.field("Vary"), Some("Accept-Encoding"), "caches keep both");
            assert!(plain.field("ETag").is_none_or(|tag| tag.starts_with('"')), "{}", plain.head);
            assert!(plain.body == expected, "{path}");
        }
    }
}

#[test]
fn only_what_may_and_should_be_compressed_is() {
    let app = app(Compress::new().codings([Coding::Gzip]));
    for (path, coding, varies) in [
        ("/bytes/1024", Some("gzip"), true),
        ("/bytes/1023", None, false),
        ("/png", None, false),
        ("/coded", Some("x"), false),
        ("/fixed", None, false),
        ("/part", None, true),
        ("/part/png", None, false),
        ("/beyond", None, false),
        ("/error", None, false),
    ] {
        let answer = ask(&app, "GET", path, "Accept-Encoding: gzip, br;q=0.1\r\n");
        assert_eq!(answer.field("Content-Encoding"), coding, "{path}");
        assert_eq!(answer.field("Vary").is_some(), varies, "{path}");
    }
    assert_eq!(ask(&app, "GET", "/fixed", "Accept-Encoding: gzip\r\n").field("ETag"), Some(TAG));
    let untouched =
        ask(&app, "GET", "/bytes/5000", "Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n");
    assert_eq!(untouched.field("Content-Encoding"), None);
    assert_eq!(untouched.field("Vary"), Some("Accept-Encoding"), "caches keep it for others, too");
    let small = Arc::new((|_: &mut Request<'_>| "0123456789".repeat(5)).with(Compress::new().bytes_min(10)));
    let answer = ask(&(small as Arc<dyn Handler>), "GET", "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(answer.field("Content-Encoding"), Some("gzip"));
}

#[test]
fn what_does_not_become_smaller_goes_as_it_is() {
    let app = app(Compress::new().codings([Coding::Gzip]));
    let answer = ask(&app, "GET", "/noise", "Accept-Encoding: gzip\r\n");
    assert_eq!(answer.field("Content-Encoding"), None);
    assert_eq!(answer.field("Vary"), Some("Accept-Encoding"));
}

#[test]
fn a_client_that_refuses_the_plain_content_gets_a_coding_or_a_406() {
    let app = app(Compress::new().codings([Coding::Gzip]));
    for (path, accepts, code, coding) in [
        ("/bytes/10", "identity;q=0, gzip", 200, Some("gzip")),
        ("/png", "*;q=0, gzip;q=0.1", 200, Some("gzip")),
        ("/bytes/10", "identity;q=0", 406, None),
        ("/bytes/5000", "identity;q=0, compress", 406, None),
        ("/error", "identity;q=0", 400, None),
        ("/bytes/5000", "identity, gzip;q=0", 200, None),
    ] {
        let answer = ask(&app, "GET", path, &format!("Accept-Encoding: {accepts}\r\n"));
        assert_eq!(codes(&answer.head), [code], "{path} {accepts}");
        assert_eq!(answer.field("Content-Encoding"), coding, "{path} {accepts}");
    }
}

/// It is done, and its answer was lost: a 406 took its place.
#[test]
fn the_answer_to_what_cannot_be_undone_is_sent_whatever_the_client_takes() {
    let app = app(Compress::new());
    for accepts in ["identity;q=0", "*;q=0"] {
        let answer = ask(&app, "POST", "/done", &format!("Accept-Encoding: {accepts}\r\n"));
        assert_eq!((codes(&answer.head), answer.field("Set-Cookie")), (vec![200], Some("a=b")), "{accepts}");
        assert_eq!((answer.field("Content-Encoding"), &answer.body), (None, &text(5000)));
        assert_eq!(answer.field("Vary"), Some("Accept-Encoding"));
    }
    let answer = ask(&app, "POST", "/done", "Accept-Encoding: identity;q=0, gzip\r\n");
    assert_eq!(answer.field("Content-Encoding"), Some("gzip"));
    // No coding is named, so none is acceptable (RFC 9110 §12.5.3, third rule).
    for method in ["GET", "HEAD"] {
        let answer = ask(&app, method, "/bytes/5000", "Accept-Encoding: identity;q=0\r\n");
        assert_eq!(codes(&answer.head), [406], "{method}");
    }
}

#[test]
fn a_digest_of_the_plain_content_does_not_come_with_the_coded_one() {
    let app = app(Compress::new());
    for (fields, is_there) in [("", true), ("Accept-Encoding: gzip\r\n", false)] {
        let answer = ask(&app, "GET", "/digest", fields);
        for name in ["Content-Digest", "repr-digest", "Digest", "Content-MD5"] {
            assert_eq!(answer.field(name).is_some(), is_there, "{name} {fields:?}");
        }
    }
}

#[test]
fn a_trailer_with_the_digest_of_the_plain_content_does_not_come_with_the_coded_one() {
    let app = |_: &mut Request<'_>| {
        Response::stream("text/plain", |body| {
            body.write_all(&text(2000))?;
            body.add_trailer("repr-digest", "sha-256=:x:")?;
            body.add_trailer("X-Sum", "45")
        })
    };
    let app: Arc<dyn Handler> = Arc::new(app.with(Compress::new()));
    for (fields, is_there) in [("", true), ("Accept-Encoding: gzip\r\n", false)] {
        let sent = ask(&app, "GET", "/", &format!("TE: trailers\r\n{fields}")).sends.concat();
        let trailers = if is_there { "0\r\nrepr-digest: sha-256=:x:\r\n" } else { "0\r\n" };
        let end = format!("{trailers}X-Sum: 45\r\n\r\n");
        assert!(sent.ends_with(end.as_bytes()), "{fields:?}");
    }
}

#[test]
fn a_head_request_is_told_what_a_get_would_be() {
    let app = app(Compress::new());
    for path in ["/bytes/5000", "/sized/50000", &file_name(), "/events"] {
        let (get, head) = (
            ask(&app, "GET", path, "Accept-Encoding: gzip\r\n"),
            ask(&app, "HEAD", path, "Accept-Encoding: gzip\r\n"),
        );
        assert_eq!(get.head, head.head, "{path}");
        assert!(head.body.is_empty() && !get.body.is_empty(), "{path}");
    }
}

#[test]
fn an_unmodified_response_has_the_tag_of_what_the_client_keeps() {
    let app = app(Compress::new());
    let weak = "W/\"tag\"";
    for (path, fields, tag, varies) in [
        // What the client keeps was coded, or was not.
        ("/unmodified", "Accept-Encoding: gzip\r\nIf-None-Match: \"other\", W/\"tag\"\r\n", weak, true),
        ("/unmodified", "Accept-Encoding: gzip\r\nIf-None-Match: \"tag\"\r\n", TAG, true),
        ("/unmodified", "Accept-Encoding: gzip\r\nIf-None-Match: *\r\n", TAG, true),
        ("/unmodified", "Accept-Encoding: gzip\r\n", TAG, true),
        ("/unmodified", "If-None-Match: W/\"tag\"\r\n", TAG, true),
        ("/unmodified", "", TAG, true),
        ("/unmodified/text", "Accept-Encoding: gzip\r\n", weak, true),
        ("/unmodified/text", "Accept-Encoding: gzip\r\nIf-None-Match: \"tag\"\r\n", TAG, true),
        ("/unmodified/text", "", TAG, true),
        ("/unmodified/image", "Accept-Encoding: gzip\r\n", TAG, false),
    ] {
        let answer = ask(&app, "GET", path, fields);
        assert_eq!(answer.field("ETag"), Some(tag), "{path} {fields:?}");
        assert_eq!(answer.field("Vary"), varies.then_some("Accept-Encoding"), "{path} {fields:?}");
        assert_eq!(answer.field("Content-Encoding"), None);
    }
    // A file's tag comes back weak and still fits.
    let first = ask(&app, "GET", &file_name(), "Accept-Encoding: gzip\r\n");
    let tag = first.field("ETag").expect("a tag");
    let again = ask(&app, "GET", &file_name(), &format!("Accept-Encoding: gzip\r\nIf-None-Match: {tag}\r\n"));
    assert_eq!((codes(&again.head), again.field("ETag")), (vec![304], Some(tag)));
}

#[test]
fn a_range_of_a_file_is_never_compressed() {
    let app = app(Compress::new());
    let answer = ask(&app, "GET", &file_name(), "Accept-Encoding: gzip\r\nRange: bytes=10-5009\r\n");
    assert_eq!(codes(&answer.head), [206]);
    assert_eq!(answer.field("Content-Encoding"), None);
    assert_eq!(answer.field("Vary"), Some("Accept-Encoding"), "as the whole file says");
    assert!(answer.field("ETag").is_some_and(|tag| tag.starts_with('"')));
    assert_eq!(answer.body, text(100_000)[10..5010]);
}

#[test]
fn each_event_arrives_with_its_flush() {
    for coding in CODINGS {
        let app = app(Compress::new().codings([*coding]));
        let answer = ask(&app, "GET", "/events", &format!("Accept-Encoding: {}\r\n", coding.name()));
        assert!(answer.sends.len() >= 3, "{coding:?}: {} sends", answer.sends.len());
        assert_eq!(answer.field("Content-Encoding"), Some(coding.name()));
        // After the first send, and no more, the first event can be read.
        let head = answer.sends[0].windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let size_end = answer.sends[0][head..].iter().position(|&b| b == b'\n').expect("a chunk") + head + 1;
        let first = &answer.sends[0][size_end..answer.sends[0].len() - 2];
        assert_eq!(read_some(*coding, first), b"data: one\n\n", "{coding:?}");
        assert_eq!(decode(Some(coding.name()), &answer.body), b"data: one\n\ndata: two\n\ndata: three\n\n");
    }
}

/// What can be decoded of content that has only begun.
fn read_some(coding: Coding, begun: &[u8]) -> Vec<u8> {
    let mut plain = vec![0; 100];
    let count = match coding {
        Coding::Gzip => flate2::read::GzDecoder::new(begun).read(&mut plain),
        Coding::Deflate => flate2::read::ZlibDecoder::new(begun).read(&mut plain),
        #[cfg(feature = "brotli")]
        Coding::Brotli => brotli::Decompressor::new(begun, 4096).read(&mut plain),
        #[cfg(feature = "zstd")]
        Coding::Zstd => {
            zstd::stream::read::Decoder::new(begun).and_then(|mut decoder| decoder.read(&mut plain))
        }
        #[cfg(not(all(feature = "brotli", feature = "zstd")))]
        other => panic!("{other:?}"),
    };
    plain.truncate(count.expect("what was flushed can be decoded"));
    plain
}

#[test]
fn a_producer_is_held_to_its_length_although_the_head_does_not_say_it() {
    let app = app(Compress::new());
    for (written, is_whole) in [(50_000, true), (49_999, false), (50_001, false)] {
        let answer = ask(&app, "GET", &format!("/sized/{written}"), "Accept-Encoding: gzip\r\n");
        let sent = answer.sends.concat();
        assert_eq!(sent.ends_with(b"0\r\n\r\n"), is_whole, "{written}");
    }
}

#[test]
fn a_coding_that_is_not_built_in_shows_when_the_program_starts() {
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
        let built = std::panic::catch_unwind(|| Compress::new().codings([coding]));
        assert_eq!(built.is_ok(), CODINGS.contains(&coding));
    }
}

const THE_END: &[u8] = b"0\r\n\r\n";
const LATER: &[u8] = b"<what is written later>";

/// All that is sent in this coding by a producer to which nothing matters that `fails` finds.
fn sent_in_spite(coding: Coding, fails: fn(&mut BodyWriter<'_>)) -> Vec<u8> {
    let heedless = move |_: &mut Request<'_>| {
        Response::stream_sized("text/plain", 1 << 40, move |body| {
            fails(body);
            assert!(body.write(LATER).is_err() && body.write_vectored(&[io::IoSlice::new(LATER)]).is_err());
            assert!(body.flush().is_err());
            Ok(())
        })
    };
    let app: Arc<dyn Handler> = Arc::new(heedless.with(Compress::new().codings([coding])));
    ask(&app, "GET", "/", &format!("Accept-Encoding: {}\r\n", coding.name())).sends.concat()
}

#[test]
fn a_limit_that_passes_within_a_coding_breaks_the_body_off() {
    for coding in CODINGS {
        let sent = sent_in_spite(*coding, |body| {
            // Nobody waits here: the limit passes at a yield point of the coding.
            let written = bast::timeout(std::time::Duration::from_millis(1), || {
                loop {
                    body.write_all(&text(1 << 18)).expect("a twin takes all");
                }
            });
            let Err(bast::Elapsed) = written;
        });
        assert!(!sent.ends_with(THE_END), "{coding:?}");
        assert!(!sent.windows(LATER.len()).any(|window| window == LATER), "{coding:?}");
    }
}

#[test]
fn a_coding_that_failed_breaks_the_body_off() {
    let one_too_many = |written: usize| {
        move |_: &mut Request<'_>| {
            Response::stream_sized("text/plain", 2000, move |body| {
                body.write_all(&text(written))?;
                assert!(body.write_all(&text(2001 - written)).is_err());
                assert!(body.write_all(LATER).is_err());
                Ok(())
            })
        }
    };
    for coding in CODINGS {
        for written in [0, 1, 2000] {
            let app: Arc<dyn Handler> =
                Arc::new(one_too_many(written).with(Compress::new().codings([*coding])));
            let sent =
                ask(&app, "GET", "/", &format!("Accept-Encoding: {}\r\n", coding.name())).sends.concat();
            assert!(!sent.ends_with(THE_END), "{coding:?} {written}");
            assert!(!sent.windows(LATER.len()).any(|window| window == LATER), "{coding:?} {written}");
        }
    }
}
