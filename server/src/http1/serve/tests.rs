//! Whole connections over the twin: what a client sees, and by how many system calls.
#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::handler::Handler;
use crate::http1::send::COPIED_BYTES_MAX;
use crate::limits::Limits;
use crate::message::{Method, Status};
use crate::request::Request;
use crate::response::IntoResponse;
use crate::timeout::{Activity, ServerId};
use crate::transport::twin::{Event, Twin};
use crate::{Error, Router};

/// A small stretch, so that tests reach the limits.
fn limits() -> Limits {
    Limits { body_bytes_max: 100, drain_bytes_max: 50, linger_bytes_max: 1000, ..Limits::default() }
}

pub(crate) fn service(handler: impl Handler) -> Service {
    Service {
        id: ServerId::next(),
        handler: Box::new(handler),
        limits: limits(),
        handler_limit: None,
        parallel: 1,
        stack_bytes: None,
        server_line: b"".as_slice().into(),
        draining: AtomicBool::new(false),
        patient: AtomicBool::new(false),
        unix_seconds: || 784_111_777,
    }
}

/// Serves a scripted client to the end of its connection.
pub(crate) fn run(twin: &Rc<Twin>, service: &Service) {
    let activity = Activity::new(twin.into(), None);
    serve(&Wire::new(activity), service, None);
}

/// The output for this input, with the lines left out that are always the same.
pub(crate) fn answer(handler: impl Handler, parts: &[&[u8]]) -> String {
    let twin = Twin::new(parts);
    run(&twin, &service(handler));
    without_date(&twin.output())
}

fn without_date(output: &str) -> String {
    output.replace("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "")
}

/// The status codes of a sequence of responses without bodies that look like status lines.
pub(crate) fn codes(output: &str) -> Vec<u16> {
    output
        .match_indices("HTTP/1.1 ")
        .filter_map(|(at, _)| output.get(at + 9..at + 12)?.parse().ok())
        .collect()
}

fn hello(_: &mut Request<'_>) -> &'static str {
    "hello"
}

fn echo(request: &mut Request<'_>) -> Result<Vec<u8>, Error> {
    request.read_body()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn only_a_client_that_was_sent_all_is_told_that_this_was_all() {
    let close = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for request in [GET, close] {
        let twin = Twin::new(&[request]);
        run(&twin, &service(hello));
        assert!(twin.said_farewell());

        let twin = Twin::new(&[request]);
        twin.narrow(0);
        run(&twin, &service(hello));
        assert!(!twin.said_farewell(), "its answer could not be sent");
    }
}

#[test]
fn a_client_whose_answer_was_torn_is_not_told_that_this_was_all() {
    bast::run(|| {
        let twin = Twin::new(&[GET]);
        let stalled = twin.stall(1000);
        let handler = move |_: &mut Request<'_>| {
            let stalled = Arc::clone(&stalled);
            Response::stream("text/plain", move |body| {
                let all = bast::timeout(Duration::from_millis(1), || body.write_all(&[b'z'; 1 << 20]));
                assert!(all.is_err(), "it waits for the client");
                stalled.store(false, Ordering::SeqCst);
                Ok(())
            })
        };
        run(&twin, &service(handler));
        assert_eq!(twin.output().len(), 1000, "what the client took is all");
        assert!(!twin.said_farewell());
    });
}

#[test]
fn a_request_is_one_read_and_one_send() {
    let twin = Twin::new(&[GET]);
    run(&twin, &service(hello));
    let [Event::Received(27), Event::Sent(sent)] = &twin.events()[..] else { panic!("{:?}", twin.events()) };
    assert_eq!(
        String::from_utf8_lossy(sent),
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 5\r\n\r\nhello"
    );
}

/// Every combination of version, wish, body, handler and pipelining: how many answers, in which bytes, and whether
/// the connection lived on.
#[test]
fn the_keep_alive_matrix() {
    for version in ["1.0", "1.1"] {
        for wish in ["", "Connection: close\r\n", "Connection: keep-alive\r\n"] {
            for body in [
                "",
                "Content-Length: 5\r\n\r\nsized",
                "Transfer-Encoding: chunked\r\n\r\n7\r\nchunked\r\n0\r\n\r\n",
            ] {
                if version == "1.0" && body.starts_with("Transfer") {
                    continue; // Refused: a table of `parse` says so.
                }
                for reads in [true, false] {
                    for pipelined in [true, false] {
                        check_keep_alive(version, wish, body, reads, pipelined);
                    }
                }
            }
        }
    }
}

fn check_keep_alive(version: &str, wish: &str, body: &str, reads: bool, pipelined: bool) {
    let case = format!("HTTP/{version} {wish:?} {body:?} reads {reads} pipelined {pipelined}");
    let end = if body.is_empty() { "\r\n" } else { "" };
    let request =
        |number: u8| format!("POST /{number} HTTP/{version}\r\nHost: a\r\n{wish}{body}{end}").into_bytes();
    let (first, second) = (request(1), request(2));
    let both = [&first[..], &second].concat();
    let twin = if pipelined { Twin::new(&[&both]) } else { Twin::new(&[&first, &second]) };
    run(
        &twin,
        &service(move |request: &mut Request<'_>| {
            let body = if reads { request.read_text().expect("a body") } else { String::new() };
            format!("<{}:{body}>", request.path())
        }),
    );
    let data = if !reads || body.is_empty() {
        ""
    } else if body.contains("sized") {
        "sized"
    } else {
        "chunked"
    };
    let output = twin.output();
    let lives = !wish.contains("close") && (version == "1.1" || wish.contains("keep-alive"));
    assert!(output.contains(&format!("</1:{data}>")), "{case}: {output}");
    assert_eq!(output.contains(&format!("</2:{data}>")), lives, "{case}: {output}");
    assert_eq!(codes(&output), if lives { &[200, 200][..] } else { &[200] }, "{case}");
    assert_eq!(output.contains("Connection: close"), !lives, "{case}: {output}");
    assert_eq!(output.contains("Connection: keep-alive"), lives && version == "1.0", "{case}: {output}");
    let sends = if lives && (!pipelined || body.starts_with("Transfer")) { 2 } else { 1 };
    assert_eq!(twin.sends().len(), sends, "{case}");
}

#[test]
fn pipelined_requests_are_answered_in_order_by_one_send() {
    let request = |number: usize| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
    let requests: String = (0..16).map(request).collect();
    let path = |request: &mut Request<'_>| request.path().to_owned();
    let whole = {
        let twin = Twin::new(&[requests.as_bytes()]);
        run(&twin, &service(path));
        assert_eq!(twin.sends().len(), 1, "one send for 16 answers");
        twin.output()
    };
    let paths: Vec<&str> =
        whole.split("\r\n\r\n").skip(1).map(|rest| rest.split("HTTP").next().unwrap()).collect();
    assert_eq!(paths, (0..16).map(|number| format!("/{number}")).collect::<Vec<_>>());
    for cut in 0..requests.len() {
        let twin = Twin::new(&[&requests.as_bytes()[..cut], &requests.as_bytes()[cut..]]);
        run(&twin, &service(path));
        assert_eq!(twin.output(), whole, "cut at {cut}");
    }
}

#[test]
fn an_answer_does_not_wait_for_a_request_that_is_not_all_there() {
    for rest in [&b"GET / HTTP/1.1\r\nHo"[..], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx"] {
        let twin = Twin::new(&[&[GET, rest].concat()]);
        run(&twin, &service(echo));
        let [Event::Received(_), Event::Sent(first), ..] = &twin.events()[..] else {
            panic!("{:?}", twin.events())
        };
        assert!(first.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn held_output_is_sent_before_the_thread_parks() {
    let twin = Twin::new(&[&[GET, GET].concat()]);
    let activity = Activity::new((&twin).into(), None);
    let wire = Wire::new(activity);
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let service = service(move |_: &mut Request<'_>| {
        count.fetch_add(1, Ordering::Relaxed);
        ""
    });
    let mut buffers = wire.borrow_buffers();
    wire.fill(buffers.input(), 0).unwrap();
    assert!(matches!(exchange(&wire, &service, &None, buffers.input()), After::Request));
    assert!(twin.sends().is_empty(), "the first answer is held: the second request is there");
    wire.flush_before_park();
    assert_eq!(twin.sends().len(), 1, "what the park hook does");
    assert!(matches!(exchange(&wire, &service, &None, buffers.input()), After::Idle));
    assert_eq!((twin.sends().len(), seen.load(Ordering::Relaxed)), (2, 2));
}

#[test]
fn held_output_is_bounded() {
    let many = GET.repeat(100);
    let twin = Twin::new(&[&many]);
    let body = "x".repeat(1000);
    run(&twin, &service(move |_: &mut Request<'_>| body.clone()));
    assert_eq!(codes(&twin.output()).len(), 100);
    assert!(twin.sends().len() >= 7, "{} sends", twin.sends().len());
    assert!(twin.sends().iter().all(|sent| sent.len() < HELD_BYTES_MAX + 2000));
}

#[test]
fn a_refused_request_gets_one_answer_and_a_lingering_close() {
    let pipelined = [&b"GET / HTTP/1.1\r\n\r\n"[..], GET, GET].concat();
    let twin = Twin::new(&[&pipelined, b"more", b"and more"]);
    run(&twin, &service(hello));
    assert_eq!(codes(&twin.output()), [400]);
    assert!(twin.output().contains("Connection: close"));
    assert_eq!(twin.unread(), 0, "what the client still sent was read");
    let events = twin.events();
    let shut = events.iter().position(|event| *event == Event::ShutDown).expect("the output was ended");
    assert!(events[shut..].contains(&Event::Received(4)), "and then read on: {events:?}");
}

#[test]
fn a_lingering_close_is_bounded() {
    let twin = Twin::new(&[b"bad\r\n\r\n"]);
    (0..10).for_each(|_| twin.push(&[b'x'; 400]));
    run(&twin, &service(hello));
    assert!(twin.unread() > 0);
}

#[test]
fn every_refusal_of_a_head_reaches_the_client() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(100));
    let table: [(&str, u16); 7] = [
        ("GET /\r\n\r\n", 400),
        (&long, 414),
        (&many, 431),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("GET / HTTP/3.0\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ];
    for (request, code) in table {
        assert_eq!(codes(&answer(hello, &[request.as_bytes()])), [code], "{request:.60}");
    }
}

#[test]
fn a_body_is_read_through_every_cut() {
    let sized = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6;x\r\nhello \r\n5\r\nworld\r\n0\r\nT: t\r\n\r\n";
    for request in [sized, chunked] {
        let input = [request.as_bytes(), GET].concat();
        for cut in 0..input.len() {
            let output = answer(echo, &[&input[..cut], &input[cut..]]);
            assert_eq!(codes(&output), [200, 200], "cut at {cut}: {output}");
            assert!(output.contains("\r\n\r\nhello worldHTTP/1.1 200"), "cut at {cut}: {output}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(codes(&answer(echo, &bytes)), [200, 200]);
    }
}

/// However small the pieces are in which a client sends, there is one read for each of them, and none more: nothing is read
/// byte by byte, and nothing asks for what is known not to be there.
#[test]
fn there_are_no_more_reads_than_pieces_sent() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = [&head[..], b"5;a=b\r\nhello\r\n0\r\nT: t\r\n\r\n"].concat();
    for size in [1, 2, 7, 64, 1000] {
        let pieces: Vec<&[u8]> = request.chunks(size).collect();
        let twin = Twin::new(&pieces);
        run(&twin, &service(echo));
        let reads = twin.events().iter().filter(|event| matches!(event, Event::Received(_))).count();
        assert_eq!(reads, pieces.len(), "pieces of {size} bytes");
        assert_eq!(codes(&twin.output()), [200]);
        assert_eq!(twin.sends().len(), 1, "and the answer is one send");
    }
}

/// A path is bytes that were encoded, whether they are text or not, and comes back as it was sent.
#[test]
fn a_path_that_is_no_text_goes_through_the_router_and_back() {
    let app = Router::new().any("/files/{name...}", |request: &mut Request<'_>| {
        assert!(request.param_text("name").is_err(), "it is no text");
        let fields: Vec<u8> = request.header_bytes("x").unwrap_or_default().to_vec();
        Response::bytes("application/octet-stream", [request.path().as_bytes(), b" ", &fields].concat())
    });
    let twin = Twin::new(&[b"GET /files/%ff%FE/%80 HTTP/1.1\r\nHost: a\r\nX: \xff\xfe\x80\r\n\r\n"]);
    run(&twin, &service(app));
    let sent: Vec<u8> = twin
        .events()
        .into_iter()
        .filter_map(|event| if let Event::Sent(bytes) = event { Some(bytes) } else { None })
        .flatten()
        .collect();
    assert!(sent.ends_with(b"\r\n\r\n/files/%ff%FE/%80 \xff\xfe\x80"), "{}", sent.escape_ascii());
}

#[test]
fn a_large_body_passes_the_input_buffer_by() {
    let body = vec![b'b'; 300_000];
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: {}\r\n\r\n", body.len());
    let twin = Twin::new(&[&[head.as_bytes(), &body].concat(), GET]);
    let mut service = service(|request: &mut Request<'_>| -> Result<String, Error> {
        let mut sum = 0;
        let mut buffer = vec![0; 32 << 10];
        loop {
            let count = request.body().read(&mut buffer)?;
            if count == 0 {
                return Ok(format!("{sum} {:?}", request.header("x")));
            }
            sum += count;
        }
    });
    service.limits.body_bytes_max = 1 << 20;
    run(&twin, &service);
    assert!(twin.output().contains("300000 Some(\"y\")"), "{}", twin.output());
    assert_eq!(codes(&twin.output()), [200, 200]);
    assert!(twin.events().contains(&Event::Received(32 << 10)), "{:?}", twin.events());
}

#[test]
fn a_failing_body_is_answered_by_its_own_status_and_closes() {
    let post = |framing: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
    let big = "x".repeat(101);
    let table = [
        (post("Content-Length: 101", &big), 413),
        (post("Transfer-Encoding: chunked", &format!("65\r\n{big}\r\n0\r\n\r\n")), 413),
        (post("Transfer-Encoding: chunked", "x\r\n"), 400),
        (post("Transfer-Encoding: chunked", "2\r\nabX"), 400),
        (post("Content-Length: 10", "cut off"), 400),
    ];
    for (request, code) in table {
        let output = answer(echo, &[request.as_bytes(), GET]);
        let expected = if request.ends_with("cut off") { 200 } else { code };
        // A body that is cut off swallows the request behind it; only the end of the stream cuts it off.
        if expected == code {
            assert_eq!(codes(&output), [code], "{request:.80}: {output}");
            assert!(output.contains("Connection: close"), "{output}");
        } else {
            assert_eq!(codes(&answer(echo, &[request.as_bytes()])), [code]);
        }
    }
}

#[test]
fn an_unread_body_is_dropped_up_to_a_bound_and_never_becomes_a_request() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let path = |request: &mut Request<'_>| request.path().to_owned();
    let sized =
        format!("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    let chunked = format!(
        "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
        smuggled.len()
    );
    for request in [sized, chunked] {
        let input = [request.as_bytes(), b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        for cut in 0..input.len() {
            let output = answer(path, &[&input[..cut], &input[cut..]]);
            assert_eq!(codes(&output), [200, 200], "cut at {cut}: {output}");
            assert!(!output.contains("smuggled") && output.ends_with("/2"), "cut at {cut}: {output}");
        }
    }
}

#[test]
fn an_unread_body_beyond_the_bound_closes_the_connection() {
    let sized = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 51\r\n\r\n{}", "x".repeat(51));
    let output = answer(hello, &[sized.as_bytes(), GET]);
    assert_eq!(codes(&output), [200]);
    assert!(output.contains("Connection: close"), "known beforehand, so announced: {output}");
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n33\r\n{}\r\n0\r\n\r\n",
        "x".repeat(51)
    );
    assert_eq!(codes(&answer(hello, &[chunked.as_bytes(), GET])), [200]);
}

#[test]
fn continue_is_sent_by_the_first_read_of_the_body_and_only_then() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let twin = Twin::new(&[head, b"body", GET]);
    run(&twin, &service(echo));
    assert_eq!(codes(&twin.output()), [100, 200, 200]);
    let events = twin.events();
    assert_eq!(events[1], Event::Sent(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()));
    assert_eq!(events[2], Event::Received(4));

    let ignored = Twin::new(&[head, GET]);
    run(&ignored, &service(hello));
    assert_eq!(codes(&ignored.output()), [200], "nobody knows whether the body will come");
    assert!(ignored.output().contains("Connection: close"));

    let sent_anyway = Twin::new(&[&[&head[..], b"body"].concat()]);
    run(&sent_anyway, &service(echo));
    assert_eq!(codes(&sent_anyway.output()), [200], "the body was there: nothing to ask for");
}

#[test]
fn a_head_request_never_gets_a_body() {
    let bodies = Router::new()
        .get("/bytes", |_: &mut Request<'_>| "12345")
        .get("/large", |_: &mut Request<'_>| "x".repeat(100_000))
        .get("/sized", |_: &mut Request<'_>| Response::stream_sized("a/b", 7, |_| panic!("not for HEAD")))
        .get("/stream", |_: &mut Request<'_>| Response::stream("a/b", |_| panic!("not for HEAD")));
    let service = service(bodies);
    let table = [
        ("/bytes", Some("Content-Length: 5")),
        ("/large", Some("Content-Length: 100000")),
        ("/sized", Some("Content-Length: 7")),
        ("/stream", Some("Transfer-Encoding: chunked")),
    ];
    for (path, field) in table {
        for version in ["1.0\r\nConnection: keep-alive", "1.1"] {
            let request = format!("HEAD {path} HTTP/{version}\r\nHost: a\r\n\r\n").repeat(2);
            let twin = Twin::new(&[request.as_bytes()]);
            run(&twin, &service);
            let output = twin.output();
            assert_eq!(codes(&output), [200, 200], "{path} {version}: {output}");
            assert!(output.split("\r\n\r\n").last().unwrap().is_empty(), "{path}: {output}");
            if version == "1.1" {
                assert_eq!(output.matches(field.unwrap()).count(), 2, "{path}: {output}");
            }
        }
    }
}

#[test]
fn a_head_handler_that_makes_no_body_does_not_say_that_there_is_none() {
    let own = Router::new()
        .get("/", |_: &mut Request<'_>| "12345")
        .route(Method::Head, "/", |_: &mut Request<'_>| Response::text("").with_header("X-Length", "5"))
        .get("/other", |_: &mut Request<'_>| Response::new(Status::OK));
    let service = service(own);
    let ask = |request: &str| {
        let twin = Twin::new(&[format!("{request}\r\nHost: a\r\n\r\n").repeat(2).as_bytes()]);
        run(&twin, &service);
        twin.output()
    };
    for request in ["HEAD / HTTP/1.1", "HEAD / HTTP/1.0\r\nConnection: keep-alive", "HEAD /other HTTP/1.1"] {
        let output = ask(request);
        assert_eq!(codes(&output), [200, 200], "{output}");
        assert!(!output.contains("Content-Length") && !output.contains("Transfer-Encoding"), "{output}");
    }
    assert_eq!(ask("GET /other HTTP/1.1").matches("Content-Length: 0\r\n").count(), 2);
}

#[test]
fn statuses_without_a_body_never_get_one() {
    for status in [Status::NO_CONTENT, Status::NOT_MODIFIED] {
        let output = answer(move |_: &mut Request<'_>| (status, "unwanted"), &[GET, GET]);
        assert_eq!(codes(&output), [status.code(); 2]);
        assert!(!output.contains("unwanted") && !output.contains("Content-Length"), "{output}");
    }
}

#[test]
fn a_205_has_a_length_of_zero_whatever_the_handler_gave_it() {
    let output = answer(|_: &mut Request<'_>| (Status::RESET_CONTENT, "unwanted"), &[GET, GET]);
    assert_eq!(codes(&output), [205; 2]);
    assert!(!output.contains("unwanted"), "{output}");
    assert_eq!(output.matches("Content-Length: 0\r\n").count(), 2, "{output}");
}

#[test]
fn a_stream_is_chunked_for_1_1_and_ends_with_the_connection_for_1_0() {
    let stream = |_: &mut Request<'_>| {
        Response::stream("text/plain", |body| {
            write!(body, "one")?;
            body.flush()?;
            write!(body, "two")?;
            write!(body, "three")
        })
    };
    let twin = Twin::new(&[GET, GET]);
    run(&twin, &service(stream));
    let sends = twin.sends();
    assert_eq!(sends.len(), 4, "two for each: {sends:?}");
    assert!(sends[0].ends_with("Transfer-Encoding: chunked\r\n\r\n0003\r\none\r\n"), "{sends:?}");
    assert_eq!(sends[1], "0008\r\ntwothree\r\n0\r\n\r\n");

    let output = answer(stream, &[b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", GET]);
    assert_eq!(codes(&output), [200]);
    assert!(output.ends_with("Connection: close\r\n\r\nonetwothree"), "{output}");
}

#[test]
fn a_large_stream_is_sent_as_it_grows() {
    let stream = |_: &mut Request<'_>| {
        Response::stream("text/plain", |body| (0..1000).try_for_each(|_| body.write_all(&[b'z'; 100])))
    };
    let twin = Twin::new(&[GET]);
    run(&twin, &service(stream));
    assert_eq!(twin.output().matches('z').count(), 100_000);
    assert!(twin.sends().iter().all(|sent| sent.len() <= HELD_BYTES_MAX + 16), "bounded");
}

#[test]
fn a_sized_stream_never_desynchronises() {
    let writes = |count: usize| {
        move |_: &mut Request<'_>| {
            Response::stream_sized("text/plain", 5, move |body| body.write_all(&vec![b'q'; count]))
        }
    };
    let exact = answer(writes(5), &[GET, GET]);
    assert_eq!((codes(&exact), exact.matches('q').count()), (vec![200, 200], 10));
    let short = answer(writes(3), &[GET, GET]);
    assert_eq!((codes(&short), short.matches('q').count()), (vec![500, 500], 0), "nothing was sent yet");
    let long = answer(writes(8), &[GET, GET]);
    assert_eq!((codes(&long), long.matches('q').count()), (vec![500, 500], 0), "nor here");

    let flushed = |count: usize| {
        move |_: &mut Request<'_>| {
            Response::stream_sized("text/plain", 5, move |body| {
                body.flush()?;
                body.write_all(&vec![b'q'; count])
            })
        }
    };
    let short = answer(flushed(3), &[GET, GET]);
    assert_eq!((codes(&short), short.matches('q').count()), (vec![200], 3), "closed short of its length");
    let long = answer(flushed(8), &[GET, GET]);
    assert_eq!((codes(&long), long.matches('q').count()), (vec![200], 5), "never more than announced");
}

#[test]
fn a_stream_that_fails_is_broken_off_visibly() {
    for fails in ["error", "panic"] {
        let output = answer(
            move |_: &mut Request<'_>| {
                Response::stream("text/plain", move |body| {
                    write!(body, "begun")?;
                    body.flush()?;
                    assert!(fails == "error", "a failure that the test wants");
                    Err(io::ErrorKind::Other.into())
                })
            },
            &[GET, GET],
        );
        assert_eq!(codes(&output), [200]);
        assert!(output.contains("begun") && !output.contains("0\r\n\r\n"), "no last chunk: {output}");
    }
}

#[test]
fn a_large_body_is_not_copied() {
    let body = "x".repeat(COPIED_BYTES_MAX + 1);
    let len = body.len();
    let twin = Twin::new(&[GET, GET]);
    run(&twin, &service(move |_: &mut Request<'_>| body.clone()));
    assert_eq!(twin.sends().len(), 2, "head and body together");
    assert_eq!(twin.output().matches('x').count(), 2 * len + 2, "and text/plain has one each");
}

#[test]
fn a_panic_is_a_500_and_the_connection_lives_on() {
    let output = answer(
        |request: &mut Request<'_>| {
            assert!(request.path() != "/panic", "a panic that the test wants");
            "fine"
        },
        &[b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n", GET],
    );
    assert_eq!(codes(&output), [500, 200]);
}

#[test]
fn a_limit_that_passes_in_a_handler_is_a_503_and_the_connection_lives_on() {
    let output = bast::run(|| {
        answer(
            |request: &mut Request<'_>| -> Result<&'static str, Error> {
                if request.path() == "/slow" {
                    bast::timeout(Duration::from_millis(1), || bast::sleep(Duration::from_secs(3600)))?;
                }
                Ok("in time")
            },
            &[b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", GET],
        )
    });
    assert_eq!(codes(&output), [503, 200]);
}

#[test]
fn a_limit_around_the_connection_passes_through_its_handlers() {
    let elapsed = bast::run(|| {
        bast::timeout(Duration::from_millis(1), || {
            answer(
                |_: &mut Request<'_>| {
                    bast::sleep(Duration::from_secs(3600));
                    "never"
                },
                &[GET],
            )
        })
    });
    assert_eq!(elapsed, Err(bast::Elapsed));
}

#[test]
fn a_response_that_must_not_be_sent_is_a_500() {
    let split = answer(|_: &mut Request<'_>| Response::text("").with_header("X", "a\r\nEvil: b"), &[GET]);
    assert_eq!(codes(&split), [500]);
    assert!(!split.contains("Evil"));
    assert_eq!(codes(&answer(|_: &mut Request<'_>| Status::CONTINUE, &[GET])), [500]);
}

#[test]
fn a_slow_head_is_a_408_and_an_idle_connection_is_closed_silently() {
    let slow = Twin::silent(&[b"GET / HT"]);
    run(&slow, &service(hello));
    assert_eq!(codes(&slow.output()), [408]);
    let idle = Twin::silent(&[GET]);
    run(&idle, &service(hello));
    assert_eq!(codes(&idle.output()), [200]);
}

#[test]
fn a_slow_body_is_a_408() {
    let twin = Twin::silent(&[b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"]);
    run(&twin, &service(echo));
    assert_eq!(codes(&twin.output()), [408]);
}

#[test]
fn a_drain_answers_what_was_received_and_closes_with_the_last() {
    let draining = service(hello);
    draining.draining.store(true, Ordering::Relaxed);
    for parts in [&[&[GET, GET, GET].concat()[..]][..], &[GET, GET, GET]] {
        let twin = Twin::silent(parts);
        run(&twin, &draining);
        assert_eq!(codes(&twin.output()), [200, 200, 200]);
        assert_eq!(twin.output().matches("Connection: close").count(), 1, "on the last: {}", twin.output());
        assert!(twin.events().contains(&Event::ShutDown), "lingers");
    }
    let idle = Twin::silent(&[]);
    run(&idle, &draining);
    assert!(idle.events().is_empty(), "an idle connection is closed at once");
    let partial = Twin::silent(&[b"GET / HT"]);
    run(&partial, &draining);
    assert!(partial.sends().is_empty(), "a request that is not all there is not answered");
}

#[test]
fn middleware_composes_three_deep_and_the_last_is_outermost() {
    let tag = |name: &'static str| {
        move |request: &mut Request<'_>, next: crate::Next<'_>| {
            let inner = next.run(request);
            let trace = format!("{name}{}", inner.header("X-Trace").unwrap_or(""));
            inner.with_header("X-Trace", trace)
        }
    };
    let app = Router::new().get("/", hello).with(tag("a")).with(tag("b")).with(tag("c"));
    assert!(answer(app, &[GET]).contains("X-Trace: cba\r\n"));
    let guarded = hello.with(|_: &mut Request<'_>, _: crate::Next<'_>| Status::FORBIDDEN);
    assert_eq!(codes(&answer(guarded, &[GET])), [403], "a middleware may answer itself");
}

mod bodies;
mod copies;
mod duplex;
mod interim;
mod rfc9112;
mod upgrade;

mod routes {
    use super::*;

    fn app() -> Router {
        Router::new()
            .get("/", |_: &mut Request<'_>| "root")
            .get("/users/new", |_: &mut Request<'_>| "new")
            .get("/users/{id}", |request: &mut Request<'_>| -> Result<String, Error> {
                let id: u64 = request.param("id")?;
                Ok(format!("user {id}"))
            })
            .post("/users/{name}", |request: &mut Request<'_>| request.param::<String>("name"))
            .get("/users/{id}/posts/{post}", |request: &mut Request<'_>| -> Result<String, Error> {
                Ok(format!("{} {}", request.param::<String>("id")?, request.param::<String>("post")?))
            })
            .get("/files/{rest...}", |request: &mut Request<'_>| request.param::<String>("rest"))
            .any("/any", |request: &mut Request<'_>| request.method().to_string())
            .delete("/any", |_: &mut Request<'_>| "deleted")
    }

    fn ask(method: &str, target: &str) -> String {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        answer(app(), &[request.as_bytes()])
    }

    fn body(method: &str, target: &str) -> String {
        let output = ask(method, target);
        let (head, body) = output.split_once("\r\n\r\n").unwrap();
        if head.starts_with("HTTP/1.1 200") { body.to_owned() } else { head[9..12].to_owned() }
    }

    #[test]
    fn a_path_finds_its_route() {
        let table = [
            ("GET", "/", "root"),
            ("GET", "/?q=1", "root"),
            ("GET", "/users/new", "new"),
            ("GET", "/users/ne%77", "new"),
            ("GET", "/users/7", "user 7"),
            ("GET", "/users/%37", "user 7"),
            ("GET", "/users/x", "400"),
            ("GET", "/users/%zz", "400"),
            ("POST", "/users/a%2Fb", "a/b"),
            ("GET", "/users/new/posts/b", "new b"),
            ("GET", "/users/", "404"),
            ("GET", "/users", "404"),
            ("GET", "/users/7/", "404"),
            ("GET", "/users/7/posts", "404"),
            ("GET", "/files/a/b/c", "a/b/c"),
            ("GET", "/files/", ""),
            ("GET", "/files", "404"),
            ("PUT", "/any", "PUT"),
            ("BREW", "/any", "BREW"),
            ("DELETE", "/any", "deleted"),
            ("GET", "http://host/users/9", "user 9"),
        ];
        for (method, target, expected) in table {
            assert_eq!(body(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn many_patterns_are_told_from_each_other() {
        for count in [1, 16, 17, 100] {
            let mut app = Router::new().any("/{file...}", |_: &mut Request<'_>| "a file");
            for number in 0..count {
                app = app.get(&format!("/a/{number}"), move |_: &mut Request<'_>| number.to_string());
            }
            let service = service(app);
            let asked = |path: &str| {
                let twin = Twin::new(&[format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()]);
                run(&twin, &service);
                twin.output().split_once("\r\n\r\n").unwrap().1.to_owned()
            };
            for number in 0..count {
                assert_eq!(asked(&format!("/a/{number}")), number.to_string());
                assert_eq!(asked(&format!("/%61/{number}")), number.to_string(), "by the tree");
            }
            assert_eq!(asked(&format!("/a/{count}")), "a file");
            assert_eq!(asked("/a/"), "a file");
        }
    }

    #[test]
    fn another_method_is_a_405_that_names_the_allowed_ones() {
        let output = ask("PUT", "/users/7");
        assert_eq!(codes(&output), [405]);
        assert!(output.contains("Allow: GET, POST, HEAD, OPTIONS\r\n"), "{output}");
        let options = ask("OPTIONS", "/users/7");
        assert_eq!(codes(&options), [204]);
        assert!(options.contains("Allow: GET, POST, HEAD, OPTIONS\r\n"));
        assert_eq!(codes(&ask("OPTIONS", "*")), [204]);
        assert_eq!(codes(&ask("HEAD", "/users/7")), [200]);
    }

    #[test]
    fn a_mistaken_pattern_shows_when_the_program_starts() {
        for pattern in ["", "a", "/{}", "/{a", "/x{a}", "/{a}/{a}", "/{a...}/b", "/{...}"] {
            let result = std::panic::catch_unwind(|| drop(Router::new().get(pattern, hello)));
            assert!(result.is_err(), "{pattern:?}");
        }
        let twice = std::panic::catch_unwind(|| drop(Router::new().get("/{a}", hello).get("/{b}", hello)));
        assert!(twice.is_err());
    }

    #[test]
    fn a_router_prints_its_routes() {
        let router = Router::new().get("/a/{b}", hello).any("/c/{d...}", hello);
        assert_eq!(format!("{router:?}"), "Router {GET /a/{}, * /c/{...}}");
    }
}

#[test]
fn what_a_handler_may_return() {
    fn check<R: IntoResponse + 'static>(make: fn() -> R, expected: u16) {
        let output = answer(move |_: &mut Request<'_>| make(), &[GET]);
        assert_eq!(codes(&output), [expected]);
    }
    check(|| "text", 200);
    check(|| String::from("text"), 200);
    check(|| vec![1u8], 200);
    check(|| (), 204);
    check(|| Status::GONE, 410);
    check(|| (Status::CREATED, "made"), 201);
    check(|| Err::<(), _>(Error::not_found()), 404);
    check(|| Err::<(), _>(io::Error::other("broken")), 500);
}

#[test]
fn the_head_of_a_request_is_at_the_handlers_hand() {
    let output = answer(
        |request: &mut Request<'_>| {
            format!(
                "{} {} {:?} {} {:?} {:?} {:?} {:?}",
                request.method(),
                request.path(),
                request.query(),
                request.version(),
                request.host(),
                request.header("X-THING"),
                request.query_param("b"),
                request.headers().count(),
            )
        },
        &[b"GET /p%20q?a=1&b=x+y%21 HTTP/1.1\r\nHost: h:1\r\nx-thing: v\r\n\r\n"],
    );
    assert!(
        output.ends_with(r#"GET /p%20q Some("a=1&b=x+y%21") HTTP/1.1 Some("h:1") Some("v") Some("x y!") 2"#),
        "{output}"
    );
}

#[test]
fn the_buffers_go_back_to_the_pool_while_a_connection_is_idle() {
    let twin = Twin::new(&[GET, GET, GET]);
    let activity = Activity::new((&twin).into(), None);
    let wire = Wire::new(activity);
    let service = service(hello);
    let mut addresses = Vec::new();
    for first in [true, false, false] {
        let mut buffers = await_request(&wire, &service, first).expect("a request");
        addresses.push(buffers.input().unread().as_ptr());
        assert!(matches!(exchange(&wire, &service, &None, buffers.input()), After::Idle));
    }
    assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
}

#[test]
fn a_request_may_have_a_limit_of_its_own_on_its_body() {
    let post = |length: usize| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length))
    };
    let limited = |bytes_max: u64| {
        move |request: &mut Request<'_>| {
            request.limit_body(bytes_max);
            request.read_body()
        }
    };
    for (bytes_max, length, code) in [(10, 10, 200), (10, 11, 413), (200, 150, 200), (200, 201, 413)] {
        let output = answer(limited(bytes_max), &[post(length).as_bytes()]);
        assert_eq!(codes(&output), [code], "{length} of {bytes_max}");
    }
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n";
    assert_eq!(codes(&answer(limited(15), &[chunked])), [413]);
    assert_eq!(codes(&answer(limited(16), &[chunked])), [200]);
}

#[test]
fn what_a_middleware_leaves_with_a_request_is_found_by_its_handler_and_gone_with_it() {
    struct Number(u32);
    let tell = |request: &mut Request<'_>| {
        request.extensions().get::<Number>().map_or(0, |number| number.0).to_string()
    };
    let app = tell.with(|request: &mut Request<'_>, next: crate::Next<'_>| {
        if request.path() == "/7" {
            request.extensions_mut().insert(Number(7));
        }
        next.run(request)
    });
    let output = answer(app, &[b"GET /7 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"]);
    assert!(output.contains("\r\n\r\n7HTTP/1.1") && output.ends_with("\r\n\r\n0"), "{output}");
}
