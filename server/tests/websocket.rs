//! WebSockets over real sockets; the client's frames are made by hand.
#![cfg(feature = "websocket")]
#![forbid(unsafe_code)]

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bast_server::websocket::{self, CloseCode, CloseFrame, End, Options, Origins, Prepared, WebSocket};
use bast_server::{Request, Response, Router, Settings, TimeLimits};

use support::{Client, DEADLINE, Running, settings, start};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A request for a WebSocket with further header lines.
fn ask(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
    )
}

/// A client's frame, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The next frame of the server's: its first byte and its payload.
fn receive(client: &mut Client) -> (u8, Vec<u8>) {
    let need = |client: &mut Client, count: usize| {
        while client.buffer.len() < count {
            assert!(client.receive() > 0, "closed within a frame");
        }
    };
    need(client, 2);
    assert_eq!(client.buffer[1] & 0x80, 0, "a server does not mask");
    let (header, length) = match client.buffer[1] {
        126 => {
            need(client, 4);
            (4, usize::from(u16::from_be_bytes([client.buffer[2], client.buffer[3]])))
        }
        127 => {
            need(client, 10);
            let length: [u8; 8] = client.buffer[2..10].try_into().unwrap();
            (10, u64::from_be_bytes(length) as usize)
        }
        length => (2, usize::from(length)),
    };
    need(client, header + length);
    let frame: Vec<u8> = client.buffer.drain(..header + length).collect();
    (frame[0], frame[header..].to_vec())
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// The server closes with this, and the connection after the client has confirmed.
fn closes(client: &mut Client, code: u16, reason: &str) {
    assert_eq!(receive(client), (0x88, close_payload(code, reason)));
    client.send(frame(0x88, &close_payload(code, "")));
    client.closed();
}

fn echo(socket: &mut WebSocket) {
    while let Some(message) = socket.recv() {
        if socket.send(message).is_err() {
            return;
        }
    }
}

/// A server of one WebSocket at `/`, which reports how each ended.
fn serving(
    settings: Settings,
    options: Options,
    serve: impl Fn(&mut WebSocket) + Clone + Send + Sync + 'static,
) -> (Running, mpsc::Receiver<Option<End>>) {
    let (ends, ended) = mpsc::channel();
    let app = Router::new().get("/", move |request: &mut Request<'_>| {
        let (serve, ends) = (serve.clone(), ends.clone());
        options.upgrade(request, move |socket| {
            serve(socket);
            let _ = ends.send(socket.end());
        })
    });
    (start(settings, app), ended)
}

fn open(server: &Running) -> Client {
    let mut client = server.connect();
    client.send(ask("/", ""));
    let answer = client.answer();
    assert_eq!(answer.code, 101, "{answer:?}");
    assert!(answer.head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer:?}");
    client
}

fn ended(ends: &mpsc::Receiver<Option<End>>) -> Option<End> {
    ends.recv_timeout(DEADLINE).expect("it ends")
}

#[test]
fn messages_are_echoed_and_the_clients_close_is_confirmed() {
    let (server, ends) = serving(settings(), Options::DEFAULT, echo);
    let mut client = server.connect();
    // The first message does not wait for the 101.
    client.send([ask("/", "").into_bytes(), frame(0x81, b"early")].concat());
    assert_eq!(client.answer().code, 101);
    assert_eq!(receive(&mut client), (0x81, b"early".to_vec()));
    for length in [0, 1, 125, 126, 1000, 40_000] {
        let payload = vec![b'x'; length];
        client.send(frame(0x82, &payload));
        assert_eq!(receive(&mut client), (0x82, payload));
    }
    client.send([frame(0x01, b"in "), frame(0x89, b"p"), frame(0x80, b"parts")].concat());
    assert_eq!(receive(&mut client), (0x8a, b"p".to_vec()), "the pong is first");
    assert_eq!(receive(&mut client), (0x81, b"in parts".to_vec()));
    client.send(frame(0x88, &close_payload(4000, "done")));
    assert_eq!(receive(&mut client), (0x88, close_payload(4000, "")));
    client.closed();
    let said = CloseFrame { code: CloseCode::new(4000).unwrap(), reason: "done".to_owned() };
    assert_eq!(ended(&ends), Some(End::Closed(Some(said))));
    assert_eq!(server.connect().get("/").code, 426, "the server lives on");
}

#[test]
fn what_breaks_the_protocol_is_told_and_closed() {
    let options = Options { message_bytes_max: 100, ..Options::DEFAULT };
    let (server, ends) = serving(settings(), options, echo);
    for (bytes, code, reason) in [
        (b"\x81\x01x".to_vec(), 1002, "a client's frame without a mask"),
        (frame(0xf1, b""), 1002, "a reserved bit is set"),
        (frame(0x83, b""), 1002, "an unknown opcode"),
        (frame(0x80, b""), 1002, "a continuation of nothing"),
        (frame(0x88, &close_payload(1006, "")), 1002, "a close code that may not be sent"),
        (frame(0x81, b"\xff"), 1007, "text that is not UTF-8"),
        (frame(0x82, &[0; 101]), 1009, "a message beyond the limit"),
    ] {
        let mut client = open(&server);
        client.send(&bytes);
        assert_eq!(receive(&mut client), (0x88, close_payload(code, reason)), "{bytes:x?}");
        client.closed();
        let told = CloseFrame { code: CloseCode::new(code).unwrap(), reason: reason.to_owned() };
        assert_eq!(ended(&ends), Some(End::Refused(told)));
    }
}

#[test]
fn a_client_that_is_gone_without_a_close_is_lost() {
    let (server, ends) = serving(settings(), Options::DEFAULT, echo);
    let mut client = open(&server);
    client.send(frame(0x01, b"unfinished"));
    drop(client);
    assert!(matches!(ended(&ends), Some(End::Lost(_))));
}

#[test]
fn the_servers_close_waits_for_the_answer_and_not_for_ever() {
    let options = Options { close_timeout: Duration::from_millis(50), ..Options::DEFAULT };
    let (server, ends) = serving(settings(), options, |socket| {
        socket.send("last").unwrap();
        socket.close(CloseCode::new(3000).unwrap(), "enough");
        assert!(socket.send("too late").is_err());
    });
    let mut polite = open(&server);
    assert_eq!(receive(&mut polite), (0x81, b"last".to_vec()));
    assert_eq!(receive(&mut polite), (0x88, close_payload(3000, "enough")));
    // What it had on its way is dropped, and a ping is not answered any more.
    polite.send([frame(0x81, b"crossing"), frame(0x89, b""), frame(0x88, &close_payload(3000, ""))].concat());
    polite.closed();
    assert!(matches!(ended(&ends), Some(End::Closed(Some(_)))));
    let mut silent = open(&server);
    assert_eq!(receive(&mut silent).0, 0x81);
    assert_eq!(receive(&mut silent).0, 0x88);
    assert_eq!(ended(&ends), Some(End::Silent));
    silent.closed();
}

#[test]
fn the_end_of_the_function_closes_and_so_does_its_panic() {
    let (server, _ends) = serving(settings(), Options::DEFAULT, |socket| {
        let message = socket.recv();
        let text = message.as_ref().and_then(|message| message.as_text());
        assert_ne!(text, Some("panic"), "as the client asked");
    });
    let mut client = open(&server);
    client.send(frame(0x81, b"return"));
    closes(&mut client, 1000, "");
    let mut client = open(&server);
    client.send(frame(0x81, b"panic"));
    closes(&mut client, 1011, "");
}

#[test]
fn a_silent_client_is_pinged_and_then_gone() {
    let options = Options {
        ping_interval: Some(Duration::from_millis(30)),
        pong_timeout: Duration::from_millis(200),
        ..Options::DEFAULT
    };
    let (server, ends) = serving(settings(), options, echo);
    let mut client = open(&server);
    for _ in 0..3 {
        assert_eq!(receive(&mut client), (0x89, vec![]));
        client.send(frame(0x8a, b""));
    }
    assert!(ends.try_recv().is_err(), "one that answers stays");
    assert_eq!(receive(&mut client), (0x89, vec![]));
    assert_eq!(ended(&ends), Some(End::Silent));
}

#[test]
fn of_many_pings_at_once_the_last_is_answered_and_few_others() {
    let (server, _ends) = serving(settings(), Options::DEFAULT, echo);
    let mut client = open(&server);
    let pings: Vec<u8> = (0..1000u32).flat_map(|number| frame(0x89, &number.to_be_bytes())).collect();
    client.send([pings, frame(0x81, b"and a message")].concat());
    let mut pongs = Vec::new();
    let (first, payload) = loop {
        match receive(&mut client) {
            (0x8a, payload) => pongs.push(u32::from_be_bytes(payload.try_into().unwrap())),
            other => break other,
        }
    };
    assert_eq!((first, &*payload), (0x81, &b"and a message"[..]));
    assert_eq!(pongs.last(), Some(&999), "before the message behind it");
    assert!(pongs.is_sorted() && pongs.len() < 50, "{pongs:?}");
}

#[test]
fn a_message_that_drips_is_over_at_its_limit_and_whole_ones_are_not() {
    let options = Options { message_time_max: Some(Duration::from_secs(1)), ..Options::DEFAULT };
    let (server, ends) = serving(settings(), options, echo);
    let mut client = open(&server);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1200) {
        // Each is in two parts, and takes a moment: together they are beyond the limit, alone none is.
        let bytes = frame(0x81, b"whole");
        client.send(&bytes[..3]);
        std::thread::sleep(Duration::from_millis(5)); // the time that a message takes
        client.send(&bytes[3..]);
        assert_eq!(receive(&mut client), (0x81, b"whole".to_vec()));
    }
    client.send(frame(0x01, b"a"));
    let start = Instant::now();
    let told = loop {
        assert!(start.elapsed() < DEADLINE, "it is never over");
        // Neither fragments nor pings in their midst give it more time.
        client.send([frame(0x00, b"b"), frame(0x89, b"")].concat());
        match receive(&mut client) {
            (0x8a, _) => std::thread::sleep(Duration::from_millis(5)), // a client that is slow
            told => break told,
        }
    };
    assert_eq!(told, (0x88, close_payload(1008, "a message that takes too long")));
    assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
    assert!(matches!(ended(&ends), Some(End::Refused(_))));
}

#[test]
fn a_frame_that_stops_in_its_header_is_over_at_the_limit() {
    let options = Options { message_time_max: Some(Duration::from_millis(50)), ..Options::DEFAULT };
    let (server, ends) = serving(settings(), options, echo);
    let mut client = open(&server);
    client.send([0x81]);
    assert_eq!(receive(&mut client), (0x88, close_payload(1008, "a message that takes too long")));
    assert!(matches!(ended(&ends), Some(End::Refused(_))));
}

#[test]
fn a_message_may_take_as_long_as_it_likes_where_there_is_no_limit() {
    let options = Options {
        message_time_max: None,
        ping_interval: Some(Duration::from_millis(20)),
        ..Options::DEFAULT
    };
    let (server, _ends) = serving(settings(), options, echo);
    let mut client = open(&server);
    client.send(frame(0x01, b"slow"));
    for _ in 0..5 {
        assert_eq!(receive(&mut client), (0x89, vec![]), "a client that is silent is pinged");
        client.send(frame(0x8a, b""));
    }
    client.send(frame(0x80, b"ly"));
    loop {
        match receive(&mut client) {
            (0x89, _) => client.send(frame(0x8a, b"")),
            message => break assert_eq!(message, (0x81, b"slowly".to_vec())),
        }
    }
}

#[test]
fn a_drain_says_1001_and_waits_for_the_answer() {
    let (server, ends) = serving(settings(), Options::DEFAULT, echo);
    let mut client = open(&server);
    client.send(frame(0x81, b"x"));
    assert_eq!(receive(&mut client), (0x81, b"x".to_vec()));
    server.handle.shutdown();
    assert_eq!(receive(&mut client), (0x88, close_payload(1001, "the server is shutting down")));
    client.send(frame(0x88, &close_payload(1001, "")));
    client.closed();
    drop(client);
    assert!(matches!(ended(&ends), Some(End::Closed(Some(_)))));
    server.ended().unwrap();
}

#[test]
fn a_drain_does_not_wait_for_a_silent_client_for_ever() {
    let time_limits = TimeLimits { linger: Duration::from_millis(100), ..TimeLimits::default() };
    let settings = Settings { time_limits, ..settings() };
    let options = Options { close_timeout: Duration::from_millis(100), ..Options::DEFAULT };
    let (server, ends) = serving(settings, options, echo);
    let mut client = open(&server);
    server.handle.shutdown();
    assert_eq!(receive(&mut client).0, 0x88);
    assert_eq!(ended(&ends), Some(End::Silent));
    let start = Instant::now();
    server.ended().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "within the drain's deadline of 30 s");
}

#[test]
fn a_kill_says_1001_without_waiting() {
    let (server, _ends) = serving(settings(), Options::DEFAULT, |_| {
        bast::current().kill();
        bast::yield_now();
        unreachable!("killed");
    });
    let mut client = open(&server);
    assert_eq!(receive(&mut client), (0x88, close_payload(1001, "")));
    client.closed();
}

#[test]
fn one_thread_receives_while_others_send() {
    let (server, ends) = serving(settings(), Options::DEFAULT, |socket| {
        let (mut receiver, sender) = socket.split();
        let news = Prepared::text(&"n".repeat(300));
        let writers = [0, 1].map(|_| {
            let (mut sender, news) = (sender.clone(), news.clone());
            bast::spawn_local(move || {
                for _ in 0..200 {
                    sender.send_prepared(&news).unwrap();
                    bast::yield_now();
                }
            })
        });
        let asked = receiver.recv().expect("a question");
        for writer in writers {
            writer.join().unwrap();
        }
        let mut sender = sender;
        sender.send(asked).unwrap();
        sender.close(CloseCode::NORMAL, "all sent").unwrap();
        assert!(receiver.recv().is_none());
        assert!(matches!(receiver.end(), Some(End::Closed(_))));
    });
    let mut client = open(&server);
    client.send(frame(0x81, b"all?"));
    for _ in 0..400 {
        assert_eq!(receive(&mut client), (0x81, vec![b'n'; 300]));
    }
    assert_eq!(receive(&mut client), (0x81, b"all?".to_vec()));
    closes(&mut client, 1000, "all sent");
    ended(&ends);
}

#[test]
fn a_limit_around_a_wait_loses_nothing() {
    let (server, _ends) = serving(settings(), Options::DEFAULT, |socket| {
        socket.send("go").unwrap();
        let mut timeouts = 0;
        let message = loop {
            match bast::timeout(Duration::from_millis(5), || socket.recv()) {
                Ok(message) => break message.expect("a message"),
                Err(_elapsed) => timeouts += 1,
            }
        };
        socket.send(message).unwrap();
        socket.send(if timeouts > 0 { "after limits" } else { "at once" }).unwrap();
    });
    let mut client = open(&server);
    receive(&mut client);
    let bytes = frame(0x81, b"slowly");
    for byte in &bytes {
        client.send([*byte]);
        std::thread::sleep(Duration::from_millis(7)); // longer than the handler's limit
    }
    assert_eq!(receive(&mut client), (0x81, b"slowly".to_vec()));
    assert_eq!(receive(&mut client), (0x81, b"after limits".to_vec()));
}

#[test]
fn bad_handshakes_are_refused() {
    let options = Options { origins: Origins::Same, ..Options::DEFAULT };
    let (server, _ends) = serving(settings(), options, echo);
    let good = ask("/", "");
    let without = |line: &str| {
        let kept: Vec<&str> = good.lines().filter(|other| !other.starts_with(line)).collect();
        kept.join("\r\n") + "\r\n\r\n"
    };
    for (request, code) in [
        (good.clone(), 101),
        (good.replace("websocket", "WebSocket").replace("Upgrade\r\n", "keep-alive, UPGRADE\r\n"), 101),
        (ask("/", "Origin: http://a\r\n"), 101),
        (without("Upgrade"), 426),
        (without("Connection"), 426),
        (without("Sec-WebSocket-Key"), 400),
        (without("Sec-WebSocket-Version"), 400),
        (good.replace("Version: 13", "Version: 8"), 426),
        (good.replace(KEY, "dG9vIHNob3J0"), 400),
        (ask("/", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"), 400),
        (ask("/", "Content-Length: 1\r\n") + "x", 400),
        (ask("/", "Origin: http://evil\r\n"), 403),
        (ask("/", "Origin: null\r\n"), 403),
        (ask("/", "Origin: http://a\r\nOrigin: http://evil\r\n"), 403),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 426),
    ] {
        let mut client = server.connect();
        client.send(&request);
        let answer = client.answer();
        assert_eq!(answer.code, code, "{request}\n{answer:?}");
        if code == 426 {
            assert!(answer.head.contains("Sec-WebSocket-Version: 13\r\n"), "{answer:?}");
            assert!(answer.head.contains("Upgrade: websocket\r\n"), "{answer:?}");
        }
    }
}

#[test]
fn only_get_opens_a_websocket() {
    let server = start(settings(), |request: &mut Request<'_>| -> Response {
        websocket::upgrade(request, |socket| drop(socket.recv()))
    });
    let mut client = server.connect();
    client.send(ask("/", "").replace("GET", "POST"));
    let answer = client.answer();
    assert_eq!(answer.code, 405);
    assert!(answer.head.contains("Allow: GET\r\n"), "{answer:?}");
}

#[test]
fn the_servers_first_protocol_that_the_client_names_is_spoken() {
    let options = Options { protocols: &["v2", "v1"], ..Options::DEFAULT };
    let (server, _ends) = serving(settings(), options, |socket| {
        socket.send(socket.protocol().unwrap_or("none")).unwrap();
    });
    for (lines, spoken) in [
        ("", None),
        ("Sec-WebSocket-Protocol: v1, v2\r\n", Some("v2")),
        ("Sec-WebSocket-Protocol: v0\r\nSec-WebSocket-Protocol: v1\r\n", Some("v1")),
        ("Sec-WebSocket-Protocol: V2\r\n", None),
    ] {
        let mut client = server.connect();
        client.send(ask("/", lines));
        let answer = client.answer();
        let named = answer.head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!((answer.code, named), (101, spoken), "{lines}");
        assert_eq!(receive(&mut client).1, spoken.unwrap_or("none").as_bytes());
    }
}

#[cfg(feature = "gzip")]
#[test]
fn messages_are_compressed_where_both_want_it() {
    let compression = Some(websocket::Compression { bytes_min: 0, ..websocket::Compression::default() });
    let (server, _ends) = serving(settings(), Options { compression, ..Options::DEFAULT }, echo);
    let mut client = server.connect();
    client.send(ask("/", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"));
    let answer = client.answer();
    let extension = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                     client_no_context_takeover\r\n";
    assert!(answer.head.contains(extension), "{answer:?}");
    // "Hello", RFC 7692 §7.2.3.1; what is not compressed is allowed as well.
    client.send(frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]));
    let (first, payload) = receive(&mut client);
    assert!(
        (first, payload.len()) == (0x81, 5) || (first == 0xc1 && payload.len() < 5),
        "{first:x} {payload:x?}"
    );
    client.send(frame(0x82, &[7; 1000]));
    let (first, payload) = receive(&mut client);
    assert!(first == 0xc2 && payload.len() < 50, "{first:x}, {} bytes", payload.len());
    let mut plain = open(&server);
    plain.send(frame(0x81, &[b'y'; 1000]));
    assert_eq!(receive(&mut plain).0, 0x81, "nothing was agreed upon");
}

#[test]
fn any_time_may_be_given_for_the_answer_to_a_close() {
    let options = Options { close_timeout: Duration::MAX, ..Options::DEFAULT };
    let (server, _ends) =
        serving(settings(), options, |socket: &mut WebSocket| socket.close(CloseCode::NORMAL, "bye"));
    closes(&mut open(&server), 1000, "bye");
}
