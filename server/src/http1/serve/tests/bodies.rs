//! Bodies of responses: parts, streams, trailers, constants, and what a status allows.
#![forbid(unsafe_code)]

use std::io::IoSlice;

use super::*;
use crate::constant::{Constant, constant_response};
use crate::response::Bytes;

/// A body of some parts, empty ones among them.
fn parts(count: usize, each: usize) -> Vec<Bytes> {
    let part = |number: usize| vec![b'a' + (number % 26) as u8; if number % 3 == 2 { 0 } else { each }];
    (0..count).map(|number| Bytes::from(part(number))).collect()
}

fn joined(parts: &[Bytes]) -> String {
    parts.iter().map(|part| String::from_utf8_lossy(part.as_slice()).into_owned()).collect()
}

/// The body behind the head.
fn body(output: &str) -> &str {
    output.split_once("\r\n\r\n").expect("a head").1
}

#[test]
fn parts_are_sent_by_one_gathered_write() {
    // Few and small; few and large; 64 buffers; more than the kernel takes in one call.
    for (count, each) in [(0, 0), (1, 10), (3, 10), (3, 20_000), (64, 1000), (3000, 100)] {
        let expected = joined(&parts(count, each));
        let twin = Twin::new(&[GET, GET]);
        run(&twin, &service(move |_: &mut Request<'_>| Response::parts("a/b", parts(count, each))));
        assert_eq!(twin.sends().len(), 2, "{count} parts of {each}: one send for each response");
        for sent in twin.sends() {
            assert!(sent.contains(&format!("Content-Length: {}\r\n", expected.len())));
            assert!(body(&sent) == expected, "{count} parts of {each}");
        }
    }
}

#[test]
fn parts_survive_writes_that_end_anywhere() {
    for room in [1, 2, 7, 1000, 30_000] {
        let (count, each) = if room < 10 { (9, 3000) } else { (200, 500) };
        let expected = joined(&parts(count, each));
        let twin = Twin::new(&[GET]);
        twin.narrow(room);
        run(&twin, &service(move |_: &mut Request<'_>| Response::parts("a/b", parts(count, each))));
        assert!(body(&twin.output()) == expected, "{room} bytes at a time");
        assert!(twin.sends().iter().all(|sent| sent.len() <= room));
    }
}

#[test]
fn parts_to_a_head_request_are_a_length_only() {
    let twin = Twin::new(&[b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", GET]);
    run(&twin, &service(|_: &mut Request<'_>| Response::parts("a/b", parts(4, 10))));
    assert_eq!(twin.output().matches("Content-Length: 30\r\n").count(), 2, "{}", twin.output());
    assert_eq!(twin.output().matches("\r\n\r\naaaaaaaaaa").count(), 1, "{}", twin.output());
}

#[test]
fn a_shared_part_is_not_copied() {
    let chunk: Arc<[u8]> = vec![b's'; 100_000].into();
    let handler = move |_: &mut Request<'_>| {
        assert_eq!(Arc::strong_count(&chunk), 1, "the response before has let go of it");
        Response::parts("a/b", [Bytes::from("<"), Bytes::from(Arc::clone(&chunk)), Bytes::from(">")])
    };
    let twin = Twin::new(&[GET, GET]);
    run(&twin, &service(handler));
    assert_eq!(twin.sends().len(), 2);
    assert!(twin.sends().iter().all(|sent| sent.matches('s').count() >= 100_000));
}

#[test]
fn a_large_piece_of_a_stream_is_one_chunk_and_one_write() {
    let stream = |_: &mut Request<'_>| {
        Response::stream("text/plain", |body| {
            body.write_all(b"small")?;
            body.write_all(&[b'z'; 50_000])?;
            body.write_all(b"end")
        })
    };
    let twin = Twin::new(&[GET]);
    run(&twin, &service(stream));
    let sends = twin.sends();
    assert_eq!(sends.len(), 2, "{}", sends.len());
    let chunks = format!("0005\r\nsmall\r\nc350\r\n{}\r\n", "z".repeat(50_000));
    assert!(body(&sends[0]) == chunks, "head, what was held, and the piece: {:.60}", body(&sends[0]));
    assert_eq!(sends[1], "0003\r\nend\r\n0\r\n\r\n");
}

#[test]
fn a_vectored_write_to_a_stream_keeps_order_and_length() {
    for each in [0, 1, 300, 700, 5000] {
        let expected = joined(&parts(64, each));
        let length = expected.len() as u64;
        let produce = move |body: &mut crate::BodyWriter<'_>| {
            let parts = parts(64, each);
            let mut slices: Vec<IoSlice<'_>> =
                parts.iter().map(|part| IoSlice::new(part.as_slice())).collect();
            let mut left = &mut slices[..];
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                let count = body.write_vectored(left)?;
                assert!(count > 0);
                IoSlice::advance_slices(&mut left, count);
            }
            Ok(())
        };
        let sized =
            answer(move |_: &mut Request<'_>| Response::stream_sized("a/b", length, produce), &[GET, GET]);
        assert_eq!(codes(&sized), [200, 200], "{each}");
        assert!(
            sized.contains(&format!("\r\n\r\n{expected}HTTP/1.1")) && sized.ends_with(&expected),
            "{each}"
        );
        let short = answer(
            move |_: &mut Request<'_>| Response::stream_sized("a/b", length + 1, produce),
            &[GET, GET],
        );
        // Where all of it fitted into what may be held nothing was sent, so that there is still a choice.
        let expected_codes = if expected.len() < HELD_BYTES_MAX { &[500, 500][..] } else { &[200] };
        assert_eq!(codes(&short), expected_codes, "{each}: closed short of its length");
        let old =
            answer(move |_: &mut Request<'_>| Response::stream("a/b", produce), &[b"GET / HTTP/1.0\r\n\r\n"]);
        assert!(body(&old) == expected, "{each}");
    }
}

#[test]
fn a_vectored_write_beyond_the_length_writes_what_is_owed() {
    let output = answer(
        |_: &mut Request<'_>| {
            Response::stream_sized("a/b", 5, |body| {
                let parts = [IoSlice::new(b"qqq"), IoSlice::new(b""), IoSlice::new(b"qqqq")];
                assert_eq!(body.write_vectored(&parts)?, 5);
                let error = body.write_vectored(&parts[2..]).expect_err("nothing is owed");
                assert_eq!(error.kind(), io::ErrorKind::WriteZero);
                Ok(())
            })
        },
        &[GET, GET],
    );
    assert_eq!((codes(&output), output.matches('q').count()), (vec![200, 200], 10), "{output}");
}

/// `TE`, and whether trailers are to come.
const TE: [(&str, bool); 5] = [
    ("", false),
    ("TE: trailers\r\n", true),
    ("TE: deflate;q=0.5, Trailers\r\nConnection: TE\r\n", true),
    ("TE: gzip\r\nTE: trailers\r\n", true),
    ("TE: gzip\r\n", false),
];

#[test]
fn trailers_are_sent_to_those_who_want_them() {
    let handler = |_: &mut Request<'_>| {
        Response::stream("a/b", |body| {
            body.write_all(b"data")?;
            body.add_trailer("X-Sum", "4")?;
            body.add_trailer("X-Empty", "")
        })
        .with_header("Trailer", "X-Sum, X-Empty")
    };
    for (te, wants) in TE {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{te}\r\n");
        let output = answer(handler, &[request.as_bytes(), request.as_bytes()]);
        assert_eq!(codes(&output), [200, 200], "{te}: the connection lives on");
        let end = if wants { "0\r\nX-Sum: 4\r\nX-Empty: \r\n\r\n" } else { "0\r\n\r\n" };
        assert!(output.ends_with(&format!("0004\r\ndata\r\n{end}")), "{te}: {output}");
    }
    let old = answer(handler, &[b"GET / HTTP/1.0\r\nTE: trailers\r\n\r\n"]);
    assert!(old.ends_with("\r\n\r\ndata"), "no chunks, no trailers: {old}");
}

#[test]
fn a_sized_stream_has_no_trailers() {
    let handler = |_: &mut Request<'_>| {
        Response::stream_sized("a/b", 4, |body| {
            body.add_trailer("X-Sum", "4")?;
            body.write_all(b"data")
        })
    };
    let output = answer(handler, &[b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"]);
    assert!(output.ends_with("\r\n\r\ndata"), "{output}");
}

#[test]
fn a_trailer_that_could_change_anything_is_an_error_of_the_program() {
    let handler = |_: &mut Request<'_>| {
        Response::stream("a/b", |body| {
            for (name, value) in [
                ("Content-Length", "4"),
                ("transfer-encoding", "chunked"),
                ("Host", "a"),
                ("Set-Cookie", "a=b"),
                ("X", "a\r\nY: b"),
                ("X", "a\0"),
                ("X Y", "a"),
                ("", "a"),
            ] {
                let error = body.add_trailer(name, value).expect_err(name);
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            }
            Ok(())
        })
    };
    let output = answer(handler, &[b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"]);
    assert!(output.ends_with("\r\n\r\n0\r\n\r\n"), "{output}");
}

#[test]
fn trailers_of_a_request_are_there_once_its_body_was_read() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\
                   X-Sum:  4 \r\ncontent-length: 9\r\nHost: evil\r\nX-Two:\r\nx-sum: 5\r\n\r\n";
    let handler = |request: &mut Request<'_>| -> Result<String, Error> {
        assert_eq!(request.trailers().count(), 0, "not yet");
        let body = request.read_text()?;
        let fields: Vec<String> = request
            .trailers()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
            .collect();
        assert_eq!(
            request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("x-sum")).count(),
            0,
            "never merged"
        );
        Ok(format!("{body} {} {:?}", fields.join(","), request.trailer("X-SUM")))
    };
    let input = [request.as_bytes(), GET].concat();
    for cut in 0..input.len() {
        let output = answer(handler, &[&input[..cut], &input[cut..]]);
        assert_eq!(codes(&output), [200, 200], "cut at {cut}");
        assert!(output.contains("\r\n\r\nbody X-Sum=4,X-Two=,x-sum=5 Some(\"4\")"), "cut at {cut}: {output}");
    }
}

#[test]
fn trailers_are_bounded_in_number() {
    let request = |count: usize| {
        let lines = "X: y\r\n".repeat(count);
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{lines}\r\n")
    };
    let handler = |request: &mut Request<'_>| -> Result<String, Error> {
        request.read_body()?;
        Ok(format!("{} trailers", request.trailers().count()))
    };
    assert!(answer(handler, &[request(100).as_bytes(), GET]).contains("100 trailers"));
    assert_eq!(codes(&answer(handler, &[request(101).as_bytes(), GET])), [400]);
}

static CONSTANT: Constant = constant_response!("text/plain; charset=utf-8", "hello");

/// A constant is what the encoder would make of the same response, whatever is asked for and added to it.
#[test]
fn a_constant_is_the_same_on_the_wire() {
    type Change = fn(Response) -> Response;
    let changes: [Change; 8] = [
        |response| response,
        |response| response.with_header("X-A", "b"),
        |response| response.with_status(Status::NOT_FOUND),
        |response| response.with_status(Status::NO_CONTENT),
        |response| response.with_header("content-type", "a/b"),
        |response| response.with_body(crate::Body::Bytes("other".into())),
        |response| response.with_body(crate::Body::Empty),
        |response| response.and_close(),
    ];
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        for (index, change) in changes.into_iter().enumerate() {
            let twice = [request.as_bytes(), request.as_bytes()].concat();
            let constant = answer(move |_: &mut Request<'_>| change((&CONSTANT).into_response()), &[&twice]);
            let composed = answer(move |_: &mut Request<'_>| change(Response::text("hello")), &[&twice]);
            // The order of fields means nothing: that of the media type is another.
            let fields = |output: &str| {
                let mut lines: Vec<String> = output.split("\r\n").map(str::to_owned).collect();
                lines.sort();
                lines
            };
            assert_eq!(fields(&constant), fields(&composed), "{request:?} {index}: {constant}");
        }
    }
    let twin = Twin::new(&[GET]);
    run(&twin, &service(&CONSTANT));
    let expected = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Content-Length: 5\r\n\r\nhello";
    assert_eq!(twin.sends(), [expected]);
}

#[test]
fn reading_byte_by_byte_asks_the_kernel_once_per_packet() {
    let reads = |request: &mut Request<'_>| -> Result<String, Error> {
        let (mut text, mut byte) = (String::new(), [0]);
        while request.body().read(&mut byte)? == 1 {
            text.push(char::from(byte[0]));
        }
        Ok(text)
    };
    for framing in [
        "Content-Length: 9\r\n\r\n123456789",
        "Transfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}");
        let packets: Vec<&[u8]> = request.as_bytes().chunks(20).collect();
        let twin = Twin::new(&packets);
        run(&twin, &service(reads));
        assert!(twin.output().ends_with("\r\n\r\n123456789"), "{}", twin.output());
        let reads = twin.events().iter().filter(|event| matches!(event, Event::Received(_))).count();
        assert_eq!(reads, packets.len(), "{framing:?}");
    }
}

#[test]
fn a_stream_that_ends_with_the_connection_is_not_gathered_before() {
    let stream = |_: &mut Request<'_>| {
        Response::stream("a/b", |body| (0..1000).try_for_each(|_| body.write_all(&[b'z'; 100])))
    };
    let twin = Twin::new(&[b"GET / HTTP/1.0\r\n\r\n"]);
    run(&twin, &service(stream));
    assert_eq!(twin.output().matches('z').count(), 100_000);
    assert!(!twin.output().contains("Content-Length"));
    assert!(twin.sends().iter().all(|sent| sent.len() <= HELD_BYTES_MAX), "bounded");
}

#[test]
fn a_205_has_no_content_and_says_so() {
    for handler in [
        (|| Response::new(Status::RESET_CONTENT)) as fn() -> Response,
        || Response::text("unwanted").with_status(Status::RESET_CONTENT),
        || Response::stream("a/b", |_| panic!("not for a 205")).with_status(Status::RESET_CONTENT),
    ] {
        let output = answer(move |_: &mut Request<'_>| handler(), &[GET, GET]);
        assert_eq!(codes(&output), [205, 205]);
        assert_eq!(output.matches("Content-Length: 0\r\n").count(), 2, "RFC 9110 §15.3.6: {output}");
        assert!(!output.contains("unwanted") && !output.contains("chunked"), "{output}");
    }
}

#[test]
fn a_stream_without_framing_that_fails_is_reset() {
    type Produce = fn(&mut crate::BodyWriter<'_>) -> io::Result<()>;
    let fails: [Produce; 2] = [
        |body| {
            body.write_all(b"begun")?;
            body.flush()?;
            Err(io::ErrorKind::Other.into())
        },
        |body| {
            body.write_all(b"begun")?;
            body.flush()?;
            panic!("a panic that the test wants")
        },
    ];
    for produce in fails {
        for (request, resets) in [(&b"GET / HTTP/1.0\r\n\r\n"[..], true), (GET, false)] {
            let twin = Twin::new(&[request]);
            run(&twin, &service(move |_: &mut Request<'_>| Response::stream("a/b", produce)));
            assert_eq!(twin.events().contains(&Event::Reset), resets, "{:?}", twin.events());
            assert!(twin.output().contains("begun"));
        }
    }
    let twin = Twin::new(&[b"GET / HTTP/1.0\r\n\r\n"]);
    run(&twin, &service(|_: &mut Request<'_>| Response::stream("a/b", |body| body.write_all(b"whole"))));
    assert!(!twin.events().contains(&Event::Reset), "an end that is one");
}

type Produce = fn(&mut crate::BodyWriter<'_>) -> io::Result<()>;

/// The ways in which a body fails that nobody has seen anything of.
const FAIL_UNSEEN: [Produce; 5] = [
    |_| Err(io::Error::other("at once")),
    |_| panic!("a panic that the test wants"),
    |body| {
        body.write_all(b"held")?;
        Err(io::Error::other("behind what is held"))
    },
    |body| {
        body.write_all(b"held")?;
        panic!("a panic that the test wants")
    },
    |body| {
        body.add_trailer("X-Sum", "45")?;
        body.write_vectored(&[IoSlice::new(b"he"), IoSlice::new(b"ld")])?;
        Err(io::Error::other("with a trailer"))
    },
];

#[test]
fn a_stream_that_fails_before_anything_was_sent_is_a_500_and_the_connection_lives_on() {
    for produce in FAIL_UNSEEN {
        let handler = move |request: &mut Request<'_>| match request.path() {
            "/" => Response::text("fine"),
            _ => Response::stream("text/plain", produce).with_header("X-Secret", "of the stream"),
        };
        // Answers before and behind it stay what they are, and all of them are one send.
        let twin =
            Twin::new(&[&[GET, b"GET /fails HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", GET].concat()]);
        run(&twin, &service(handler));
        let output = twin.output();
        assert_eq!(codes(&output), [200, 500, 200], "{output}");
        assert_eq!((output.matches("fine").count(), twin.sends().len()), (2, 1), "{output}");
        assert!(!output.contains("held") && !output.contains("chunked"), "{output}");
        assert!(!output.contains("X-Secret"), "nothing of it is left: {output}");

        // To HEAD the function is not called, so that it cannot fail.
        let output = answer(handler, &[b"HEAD /fails HTTP/1.1\r\nHost: a\r\n\r\n", GET]);
        assert_eq!(codes(&output), [200, 200], "{output}");

        // An answer to HTTP/1.0 has a length after all, so its end is no reset.
        let twin = Twin::new(&[b"GET /fails HTTP/1.0\r\n\r\n"]);
        run(&twin, &service(handler));
        let output = twin.output();
        assert_eq!(codes(&output), [500], "{output}");
        assert!(
            output.contains("Content-Length: 26\r\n") && output.contains("Connection: close"),
            "{output}"
        );
        assert!(!twin.events().contains(&Event::Reset), "{:?}", twin.events());
    }
}

/// As soon as a byte of the response has left, whatever made it leave, its failure is told by the end.
#[test]
fn a_stream_that_fails_after_a_byte_has_left_is_broken_off() {
    let leaves: [Produce; 3] = [
        |body| body.flush(),
        |body| body.write_all(&[b'x'; 2 * HELD_BYTES_MAX]),
        |body| (0..HELD_BYTES_MAX).try_for_each(|_| body.write_all(b"xy")),
    ];
    for leave in leaves {
        let output = answer(
            move |_: &mut Request<'_>| {
                Response::stream("text/plain", move |body| {
                    leave(body)?;
                    Err(io::Error::other("too late"))
                })
            },
            &[GET, GET],
        );
        assert_eq!(codes(&output), [200]);
        assert!(!output.contains("0\r\n\r\n"), "no last chunk");
    }
}

#[test]
fn an_error_of_a_stream_keeps_its_status_while_nothing_was_sent() {
    let echo = |_: &mut Request<'_>| Response::duplex("a/b", |body, out| io::copy(body, out).map(drop));
    let too_large = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n";
    let output = answer(echo, &[too_large.as_bytes(), GET]);
    assert_eq!(codes(&output), [413], "{output}");
    assert!(output.contains("Connection: close"), "its body cannot be told from the next request: {output}");
    let malformed = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n";
    assert_eq!(codes(&answer(echo, &[malformed.as_bytes(), GET])), [400]);
    let gone = |_: &mut Request<'_>| Response::stream("a/b", |_| Err(crate::Gone::Draining.into()));
    assert_eq!(codes(&answer(gone, &[GET, GET])), [503, 503]);
}
