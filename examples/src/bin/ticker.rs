//! One stream of events, told in two ways: as server-sent events and by long polling.
//! `cargo run --release --bin ticker [IP:PORT]`
//!
//! ```text
//! curl -N http://127.0.0.1:8080/events
//! curl http://127.0.0.1:8080/poll                  (then with ?after=NUMBER, so that none is missed)
//! ```
#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bast_examples::arguments;
use bast_server::topic::{Event, Topic};
use bast_server::{Error, Request, Response, Router, Server, ServerEvent, Status};

/// How many events a client may miss while it is away.
const HISTORY: usize = 100;

const HEARTBEAT: Duration = Duration::from_secs(15);

/// A poll is answered by then, if only with nothing: before proxies lose theirs.
const PATIENCE: Duration = Duration::from_secs(25);

const HELP: &str = "\
A stream of events: at /events as server-sent events, at /poll by long polling, at / as a page.

Usage: ticker [IP:PORT]     [default: 127.0.0.1:8080]
";

fn main() -> ExitCode {
    let arguments = arguments::of_program(HELP, 0..=1);
    let address = arguments.first().map_or("127.0.0.1:8080", String::as_str).to_owned();
    arguments::end(serve(address))
}

fn serve(address: String) -> io::Result<()> {
    bast::run(move || {
        let server = Server::bind(address)?;
        println!("http://{}/", server.local_addr()?);
        let ticks = Topic::new(HISTORY);
        bast::spawn({
            let ticks = ticks.clone();
            move || tick(&ticks)
        });
        let polled = ticks.clone();
        let app = Router::new()
            .get("/", |_: &mut Request| Response::html(PAGE))
            .get("/events", move |request: &mut Request| events(request, &ticks))
            .get("/poll", move |request: &mut Request| poll(request, &polled));
        server.serve(app)
    })
}

fn tick(ticks: &Topic) {
    loop {
        bast::sleep(Duration::from_secs(1));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        ticks.publish(now.as_secs().to_string().into_bytes());
    }
}

fn text(event: &Event) -> String {
    String::from_utf8_lossy(&event.data).into_owned()
}

/// Tick after tick, from the one on that a browser saw last.
fn events(request: &Request, ticks: &Topic) -> Response {
    let seen = request.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(ticks.latest());
    let mut ticks = ticks.subscribe_after(seen).unwrap_or_else(|_| ticks.subscribe());
    Response::events(move |events| {
        loop {
            match events.next_of(&mut ticks, HEARTBEAT)? {
                Ok(event) => events.send(ServerEvent::new(&text(&event)).id(&event.number.to_string()))?,
                Err(missed) => events.send(ServerEvent::new(&missed.to_string()).name("missed"))?,
            }
        }
    })
}

/// The first tick after a number, as `number seconds`.
fn poll(request: &Request, ticks: &Topic) -> Result<Response, Error> {
    let after = request.query_param("after").and_then(|after| after.parse().ok()).unwrap_or(ticks.latest());
    Ok(match request.presence().wait_after(ticks, after, PATIENCE)? {
        Ok(Some(event)) => Response::text(format!("{} {}\n", event.number, text(&event))),
        Ok(None) => Response::new(Status::NO_CONTENT),
        Err(missed) => Response::text(format!("{}\n", missed.resume_after)).with_status(Status::GONE),
    })
}

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>Ticker</title>
<p>Seconds since 1970, by the server: <output id="now">?</output>
<script>
new EventSource("events").onmessage = event => now.value = event.data;
</script>
"#;
