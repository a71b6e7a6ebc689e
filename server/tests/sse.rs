//! Server-sent events over real sockets.
#![forbid(unsafe_code)]

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bast_server::topic::Topic;
use bast_server::{Request, Response, Router, ServerEvent};

use support::{Client, DEADLINE, Running, settings, start};

/// A server of the events of a topic, which reports how each stream ended.
fn serving(topic: &Topic, heartbeat: Duration) -> (Running, mpsc::Receiver<String>) {
    let topic = topic.clone();
    let (ends, ended) = mpsc::channel();
    let app = Router::new().get("/", move |request: &mut Request<'_>| {
        let (topic, ends) = (topic.clone(), ends.clone());
        let seen = request.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(topic.latest());
        Response::events(move |events| {
            let mut produce = || {
                let mut subscription = topic.subscribe_after(seen).expect("a number of this topic");
                loop {
                    let event = events.next_of(&mut subscription, heartbeat)?.expect("all are kept");
                    let text = String::from_utf8_lossy(&event.data).into_owned();
                    events.send(ServerEvent::new(&text).id(&event.number.to_string()))?;
                }
            };
            let ended: std::io::Result<()> = produce();
            let _ = ends.send(ended.as_ref().unwrap_err().to_string());
            ended
        })
    });
    (start(settings(), app), ended)
}

/// Opens a stream; the head of the response is returned.
fn open(server: &Running, topic: &Topic, lines: &str) -> (Client, String) {
    let before = topic.subscriptions();
    let mut client = server.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    let head = until(&mut client, "\r\n\r\n");
    let start = Instant::now();
    while topic.subscriptions() == before {
        assert!(start.elapsed() < DEADLINE, "not in time");
        std::thread::sleep(Duration::from_millis(1));
    }
    (client, head)
}

/// All that comes up to and with this text.
fn until(client: &mut Client, end: &str) -> String {
    loop {
        let at = client.buffer.windows(end.len()).position(|window| window == end.as_bytes());
        if let Some(at) = at {
            return String::from_utf8(client.buffer.drain(..at + end.len()).collect()).expect("text");
        }
        assert!(client.receive() > 0, "closed before {end:?}");
    }
}

/// The next chunk, which is one event.
fn chunk(client: &mut Client) -> String {
    let length = until(client, "\r\n");
    let length = usize::from_str_radix(length.trim_end(), 16).expect("a chunk size");
    while client.buffer.len() < length + 2 {
        assert!(client.receive() > 0, "closed within a chunk");
    }
    let chunk: Vec<u8> = client.buffer.drain(..length + 2).collect();
    String::from_utf8(chunk[..length].to_vec()).expect("text")
}

#[test]
fn events_are_sent_at_once_each_in_its_own_piece() {
    let topic = Topic::new(10);
    let (server, ends) = serving(&topic, DEADLINE);
    let (mut client, head) = open(&server, &topic, "");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for line in ["Content-Type: text/event-stream; charset=utf-8\r\n", "Cache-Control: no-cache\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    for text in ["one", "two\nlines"] {
        topic.publish(text.as_bytes());
        let data = text.replace('\n', "\ndata: ");
        assert_eq!(chunk(&mut client), format!("id: {}\ndata: {data}\n\n", topic.latest()));
    }
    drop(client);
    assert_eq!(ends.recv_timeout(DEADLINE).unwrap(), "the client is gone", "noticed while it waits");
}

#[test]
fn a_browser_that_comes_back_goes_on_where_it_was() {
    let topic = Topic::new(10);
    let (server, _ends) = serving(&topic, DEADLINE);
    let first = topic.latest() + 1;
    ["a", "b", "c"].iter().for_each(|data| topic.publish(data.as_bytes()));
    let (mut client, _) = open(&server, &topic, &format!("Last-Event-ID: {first}\r\n"));
    assert_eq!(chunk(&mut client), format!("id: {}\ndata: b\n\n", first + 1));
    assert_eq!(chunk(&mut client), format!("id: {}\ndata: c\n\n", first + 2));
}

#[test]
fn a_quiet_stream_has_a_heartbeat() {
    let topic = Topic::new(1);
    let (server, _ends) = serving(&topic, Duration::from_millis(5));
    let (mut client, _) = open(&server, &topic, "");
    assert_eq!((chunk(&mut client), chunk(&mut client)), (": \n\n".to_owned(), ": \n\n".to_owned()));
}

#[test]
fn a_drain_ends_a_stream_as_a_whole() {
    let topic = Topic::new(1);
    let (server, ends) = serving(&topic, DEADLINE);
    let (mut client, _) = open(&server, &topic, "");
    server.handle.shutdown();
    assert_eq!(until(&mut client, "0\r\n\r\n"), "0\r\n\r\n");
    client.closed();
    drop(client);
    assert_eq!(ends.recv_timeout(DEADLINE).unwrap(), "the server is shutting down");
    server.ended().unwrap();
}

/// The same kind as that of a client that is gone.
#[test]
fn a_failure_behind_the_producer_breaks_the_stream_off() {
    let server = start(settings(), |_: &mut Request<'_>| {
        Response::events(|events| {
            events.send("the first")?;
            Err(std::io::ErrorKind::ConnectionReset.into())
        })
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until(&mut client, "\r\n\r\n");
    assert_eq!(chunk(&mut client), "data: the first\n\n");
    client.closed();
}

#[test]
fn an_event_that_would_be_two_is_refused_and_nothing_of_it_sent() {
    let server = start(settings(), |_: &mut Request<'_>| {
        Response::events(|events| {
            let injected = events.send(ServerEvent::new("x").name("a\ndata: evil"));
            assert_eq!(injected.map_err(|error| error.kind()), Err(std::io::ErrorKind::InvalidInput));
            events.comment("a\ndata: b")?;
            events.send("the only one")
        })
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until(&mut client, "\r\n\r\n");
    assert_eq!(chunk(&mut client), ": a\n: data: b\n\n");
    assert_eq!(chunk(&mut client), "data: the only one\n\n");
    assert_eq!(until(&mut client, "\r\n\r\n"), "0\r\n\r\n");
}

/// The second event was read as a part of the first.
#[test]
fn nothing_follows_an_event_that_was_interrupted_in_its_middle() {
    let (seconds, second) = mpsc::channel();
    let app = Router::new().get("/", move |_: &mut Request<'_>| {
        let seconds = seconds.clone();
        Response::events(move |events| {
            // More than what the kernel takes for a client that does not read, in lines that are gathered.
            let long = "a line of many\n".repeat(2 << 20);
            let first = bast::timeout(Duration::from_millis(200), || events.send(&*long));
            assert!(first.is_err(), "it cannot be sent in that time");
            let sent = bast::timeout(DEADLINE / 4, || events.send("second"));
            let kind = sent.map(|sent| sent.map_err(|error| error.kind()));
            let _ = seconds.send(kind.map_err(|_| "it waits to be sent"));
            Ok(())
        })
    });
    let server = start(settings(), app);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let sent = second.recv_timeout(2 * DEADLINE).expect("the second event is tried");
    assert_eq!(sent, Ok(Err(std::io::ErrorKind::BrokenPipe)));
}
