//! A chat over WebSockets: what anybody says everybody hears. `cargo run --release --bin chat [IP:PORT]`
//!
//! A message is framed once, whoever hears it: [`Prepared`] is shared by all. One who cannot keep up is sent away instead of
//! slowing the others down.
//!
//! Who only wants to listen asks for `/events` (`curl -N --compressed`): server-sent events, for which a message is compressed
//! once as well. A [`Fragment`] is copied into each listener's gzip stream as it is.
#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use bast::Select;
use bast::sync::broadcast::{self, RecvError};
use bast_examples::arguments;
use bast_server::gzip::{Composer, Fragment};
use bast_server::websocket::{CloseCode, Options, Prepared, Sender};
use bast_server::{Request, Response, Router, Server, ServerEvent};

/// How many messages one may be behind.
const BEHIND_MAX: usize = 256;

/// A listener hears something by then, so that no proxy takes the silence for an end.
const HEARTBEAT: Duration = Duration::from_secs(15);

const OPTIONS: Options = Options { message_bytes_max: 4 << 10, ..Options::DEFAULT };

const HELP: &str = "\
A chat over WebSockets, with its page.

Usage: chat [IP:PORT]     [default: 127.0.0.1:8080]
";

fn main() -> ExitCode {
    let arguments = arguments::of_program(HELP, 0..=1);
    arguments::end(serve(arguments.first().map_or("127.0.0.1:8080", String::as_str)))
}

fn serve(address: &str) -> io::Result<()> {
    let server = Server::bind(address)?;
    println!("http://{}/", server.local_addr()?);
    let (room, _) = broadcast::channel(BEHIND_MAX);
    let listened = room.clone();
    let app = Router::new()
        .get("/", |_: &mut Request| Response::html(PAGE))
        .get("/events", move |request: &mut Request| listen(request, listened.subscribe()))
        .get("/chat", move |request: &mut Request| enter(request, room.clone()));
    server.serve(app)
}

/// A message in the two forms in which it goes out, made once for all.
#[derive(Clone)]
struct Said {
    frame: Prepared,
    event: Fragment,
}

impl Said {
    fn new(text: &str) -> Said {
        Said { frame: Prepared::text(text), event: Fragment::new(ServerEvent::new(text).to_string()) }
    }
}

fn enter(request: &Request, room: broadcast::Sender<Said>) -> Response {
    OPTIONS.upgrade(request, move |socket| {
        let (mut receiver, sender) = socket.split();
        let said = room.subscribe();
        // One thread hears and the other speaks; both park, on this core.
        let hearing = bast::spawn_local(move || hear(said, sender));
        while let Some(message) = receiver.recv() {
            if let Some(text) = message.as_text() {
                let _ = room.send(Said::new(text)); // an error is that nobody is there
            }
        }
        hearing.thread().kill();
    })
}

fn hear(mut said: broadcast::Receiver<Said>, mut sender: Sender) -> io::Result<()> {
    loop {
        match said.recv() {
            Ok(message) => sender.send_prepared(&message.frame)?,
            Err(RecvError::Lagged(_)) => return sender.close(CloseCode::TRY_AGAIN_LATER, "too slow"),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

fn listen(request: &Request, mut said: broadcast::Receiver<Said>) -> Response {
    let stream =
        Composer::for_request(request).into_stream("text/event-stream; charset=utf-8", move |stream| {
            loop {
                stream.send()?; // at first, that there is nothing yet
                let next = Select::new().broadcast(&mut said, Some).after(HEARTBEAT, || None);
                match stream.presence().wait(next)? {
                    Some(Ok(message)) => stream.composer().fragment(&message.event),
                    Some(Err(_)) => return Ok(()), // too slow: a browser comes again
                    None => stream.composer().literal(":\n\n"),
                };
            }
        });
    stream.with_header("Cache-Control", "no-cache")
}

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>Chat</title>
<ul id="said"></ul>
<form id="form"><input id="text" autocomplete="off" autofocus><button>Say</button></form>
<script>
const socket = new WebSocket(location.href.replace(/^http/, "ws") + "chat");
const show = text => {
  const item = document.createElement("li");
  item.textContent = text;
  said.append(item);
};
socket.onmessage = event => show(event.data);
socket.onclose = event => show(`closed: ${event.code} ${event.reason}`);
form.onsubmit = event => {
  event.preventDefault();
  socket.send(text.value);
  text.value = "";
};
</script>
"#;
