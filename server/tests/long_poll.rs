//! Long polls over real sockets: parked by the thousand, woken by one publish, and ended when nobody waits any more.
#![forbid(unsafe_code)]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bast_server::topic::Topic;
use bast_server::{Error, Gone, Request, Response, Router, Status};

use support::{Client, DEADLINE, Running, settings, start};

/// A server whose `/poll?after=N` waits for the next event, for as long as `patience`.
fn polling(topic: &Topic, patience: Duration) -> (Running, mpsc::Receiver<Gone>) {
    let topic = topic.clone();
    let (gone, left) = mpsc::channel();
    let app = Router::new().get("/", |_: &mut Request<'_>| "there").get(
        "/poll",
        move |request: &mut Request<'_>| -> Result<Response, Error> {
            let after = request.query_param("after").and_then(|after| after.parse().ok());
            let waited = request
                .presence()
                .wait_after(&topic, after.unwrap_or(topic.latest()), patience)
                .inspect_err(|why| {
                    assert!(*why == Gone::Draining || request.is_closed(), "{why}");
                    let _ = gone.send(*why);
                })?;
            Ok(match waited {
                Ok(Some(event)) => Response::bytes("text/plain", event.data),
                Ok(None) => Response::new(Status::NO_CONTENT),
                Err(missed) => Response::text(missed.resume_after.to_string()).with_status(Status::GONE),
            })
        },
    );
    (start(settings(), app), left)
}

fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "not in time");
        std::thread::sleep(Duration::from_millis(1));
    }
}

const POLL: &str = "GET /poll HTTP/1.1\r\nHost: a\r\n\r\n";

/// A client that waits.
fn poll(server: &Running, topic: &Topic) -> Client {
    let before = topic.subscriptions();
    let mut client = server.connect();
    client.send(POLL);
    until(|| topic.subscriptions() == before + 1);
    client
}

#[test]
fn one_publish_answers_a_thousand_parked_polls() {
    const CLIENTS: usize = 1000;
    let topic = Topic::new(10);
    let (server, _) = polling(&topic, DEADLINE);
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = server.connect();
            client.send(POLL);
            client
        })
        .collect();
    for round in 0..2 {
        until(|| topic.subscriptions() == CLIENTS);
        let news = format!("round {round} {}", "x".repeat(20_000 * round));
        topic.publish(news.clone().into_bytes());
        for client in &mut clients {
            let answer = client.answer();
            assert_eq!((answer.code, &answer.body), (200, &news));
            client.send(POLL);
        }
    }
}

#[test]
fn a_poll_gets_what_it_missed_at_once_or_is_told_what_it_cannot_get() {
    let topic = Topic::new(2);
    let from = topic.latest();
    let (server, _) = polling(&topic, Duration::from_millis(1));
    let mut client = server.connect();
    assert_eq!(client.get("/poll").code, 204, "nothing came in time");
    ["a", "b", "c"].iter().for_each(|data| topic.publish(data.as_bytes()));
    let mut after = |number: u64| {
        let answer = client.get(&format!("/poll?after={number}"));
        (answer.code, answer.body)
    };
    assert_eq!(after(from + 1), (200, "b".to_owned()));
    assert_eq!(after(from + 2), (200, "c".to_owned()));
    assert_eq!(after(from), (410, (from + 1).to_string()));
    assert_eq!(after(0), (410, (from + 3).to_string()));
}

#[test]
fn a_client_that_leaves_ends_its_wait() {
    let topic = Topic::new(1);
    let (server, left) = polling(&topic, Duration::from_secs(3600));
    let leave: [fn(Client); 3] = [
        drop,
        |client| client.stream.shutdown(Shutdown::Write).expect("half closed"),
        |mut client| {
            // With bytes of another request unread; the server's kernel answers with a reset.
            client.send("GET / HTTP/1.1\r\n");
            drop(client);
        },
    ];
    for leave in leave {
        leave(poll(&server, &topic));
        assert_eq!(left.recv_timeout(DEADLINE), Ok(Gone::Client));
        assert_eq!(topic.subscriptions(), 0);
    }
}

#[test]
fn what_a_client_pipelines_does_not_end_its_wait() {
    let topic = Topic::new(1);
    let (server, left) = polling(&topic, DEADLINE);
    let mut client = poll(&server, &topic);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut other = poll(&server, &topic);
    topic.publish(&b"news"[..]);
    assert_eq!(client.answer().body, "news");
    assert_eq!(client.answer().body, "there");
    assert_eq!(other.answer().body, "news");
    assert!(left.try_recv().is_err());
}

#[test]
fn a_drain_answers_who_is_parked() {
    let topic = Topic::new(1);
    let (server, left) = polling(&topic, Duration::from_secs(3600));
    let mut client = poll(&server, &topic);
    server.handle.shutdown();
    let answer = client.answer();
    assert_eq!(
        (answer.code, answer.body.as_str()),
        (503, "503 Service Unavailable: the server is shutting down\n")
    );
    assert!(answer.head.contains("Connection: close\r\n"), "{answer:?}");
    client.closed();
    drop(client);
    assert_eq!(left.recv_timeout(DEADLINE), Ok(Gone::Draining));
    server.ended().unwrap();
}

#[test]
fn whether_a_client_is_there_can_be_asked() {
    let (asked, ask) = mpsc::channel::<bool>();
    let (go_on, wait) = bast::sync::unbounded::<()>();
    let server = start(settings(), move |request: &mut Request<'_>| {
        for _ in 0..2 {
            let _ = asked.send(request.is_closed());
            wait.recv().expect("the test goes on");
        }
        // It may take a moment until the kernel knows.
        while !request.is_closed() {
            bast::yield_now();
        }
        let _ = asked.send(true);
    });
    let mut client = server.connect();
    client.stream.write_all(POLL.as_bytes()).unwrap();
    assert_eq!(ask.recv_timeout(DEADLINE), Ok(false));
    client.send("more");
    go_on.send(()).unwrap();
    assert_eq!(ask.recv_timeout(DEADLINE), Ok(false));
    drop(client);
    go_on.send(()).unwrap();
    assert_eq!(ask.recv_timeout(DEADLINE), Ok(true));
}

#[test]
fn any_select_can_wait_for_a_client_to_stay() {
    let (results, result) = bast::sync::unbounded::<&'static str>();
    let server = start(settings(), move |request: &mut Request<'_>| -> Result<&'static str, Error> {
        Ok(request.presence().wait(bast::Select::new().recv(&result, |result| result))??)
    });
    let mut client = server.connect();
    client.send(POLL);
    results.send("ready").unwrap();
    assert_eq!(client.answer().body, "ready");
    let mut rest = Vec::new();
    client.send(POLL);
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.stream.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 503 "), "{:?}", String::from_utf8_lossy(&rest));
}
