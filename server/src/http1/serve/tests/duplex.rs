//! Responses that are written while the request is read.
#![forbid(unsafe_code)]

use super::*;

/// Sends the body back as it comes, and its trailers behind it.
fn echo_as_it_comes(_: &mut Request<'_>) -> Response {
    Response::duplex("a/b", |body, out| {
        let mut piece = [0; 64];
        loop {
            let count = body.read(&mut piece)?;
            if count == 0 {
                break;
            }
            out.write_all(&piece[..count])?;
            out.flush()?;
        }
        for (name, value) in body.trailers() {
            out.add_trailer(name, std::str::from_utf8(value).expect("text"))?;
        }
        Ok(())
    })
}

#[test]
fn the_response_begins_before_the_request_ends() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n";
    let twin = Twin::new(&[head, b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\nX: y\r\n\r\n", GET]);
    run(&twin, &service(echo_as_it_comes));
    let sends = twin.sends();
    assert!(sends[0].ends_with("\r\n\r\n0003\r\none\r\n"), "{sends:?}");
    assert_eq!(sends[1], "0003\r\ntwo\r\n");
    assert_eq!(sends[2], "0\r\nX: y\r\n\r\n");
    assert_eq!(codes(&twin.output()), [200, 200], "the connection lives on");
    let events = twin.events();
    let first = events.iter().position(|event| matches!(event, Event::Sent(_))).expect("an answer");
    assert!(events[first..].contains(&Event::Received(8)), "the rest came later: {events:?}");
}

#[test]
fn every_framing_comes_through_every_cut() {
    for (framing, expected) in [
        ("Content-Length: 6\r\n\r\nonetwo", "onetwo"),
        ("Transfer-Encoding: chunked\r\n\r\n6\r\nonetwo\r\n0\r\n\r\n", "onetwo"),
        ("\r\n", ""),
    ] {
        let all = [format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}").as_bytes(), GET].concat();
        for cut in 0..all.len() {
            let output = answer(echo_as_it_comes, &[&all[..cut], &all[cut..]]);
            assert_eq!(codes(&output), [200, 200], "cut at {cut}: {output}");
            let data: String = output.split("\r\n").filter(|line| !line.contains(['/', ':', '0'])).collect();
            assert_eq!(data, expected, "cut at {cut}: {output}");
        }
    }
}

#[test]
fn a_client_that_waits_is_told_to_continue_before_the_response_begins() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let twin = Twin::new(&[head, b"body", GET]);
    run(&twin, &service(echo_as_it_comes));
    assert_eq!(codes(&twin.output()), [100, 200, 200]);
    assert_eq!(twin.sends()[0], "HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn a_head_request_is_neither_read_nor_written() {
    let request = b"HEAD / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let output =
        answer(|_: &mut Request<'_>| Response::duplex("a/b", |_, _| panic!("not for HEAD")), &[request, GET]);
    assert_eq!(codes(&output), [200], "whether the body comes is not known");
    assert!(output.contains("Connection: close"), "{output}");
}

#[test]
fn what_is_left_of_the_request_is_dropped_up_to_the_bound() {
    let reads = |count: u64| {
        move |_: &mut Request<'_>| {
            Response::duplex("a/b", move |body, out| std::io::copy(&mut body.take(count), out).map(drop))
        }
    };
    let request = |length: usize| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length))
    };
    assert_eq!(codes(&answer(reads(10), &[request(60).as_bytes(), GET])), [200, 200]);
    assert_eq!(codes(&answer(reads(10), &[request(61).as_bytes(), GET])), [200], "closed after the response");
    assert_eq!(codes(&answer(reads(100), &[request(100).as_bytes(), GET])), [200, 200], "all of a large one");
}

#[test]
fn a_body_that_fails_is_an_answer_of_its_own_or_breaks_off_the_one_that_was_begun() {
    let echo = |flushes: bool| {
        move |_: &mut Request<'_>| {
            Response::duplex("a/b", move |body, out| {
                let mut piece = [0; 64];
                loop {
                    match body.read(&mut piece)? {
                        0 => return Ok(()),
                        count => out.write_all(&piece[..count])?,
                    }
                    if flushes {
                        out.flush()?;
                    }
                }
            })
        }
    };
    for (rest, unseen, begun) in [
        ("Transfer-Encoding: chunked\r\n\r\n3\r\none\r\nx", 400, 200),
        ("Content-Length: 9\r\n\r\none", 400, 200),
        ("Content-Length: 101\r\n\r\none", 413, 413),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}");
        for (flushes, code) in [(false, unseen), (true, begun)] {
            let output = answer(echo(flushes), &[request.as_bytes()]);
            assert_eq!(codes(&output), [code], "{rest}: {output}");
            assert!(!output.contains("\r\n0\r\n\r\n"), "no last chunk: {output}");
        }
    }
}

#[test]
fn a_1_0_client_reads_to_the_end_of_the_connection() {
    let output = answer(echo_as_it_comes, &[b"POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\nbo", b"dy", GET]);
    assert!(output.ends_with("Connection: close\r\n\r\nbody"), "{output}");
}
