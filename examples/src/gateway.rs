//! A gateway in direct style: a handler that passes each request on to an upstream server and its answer back, both
//! as they come, with what belongs to one connection only left behind (RFC 9110 §7.6.1).
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::io::{self, Read};

use bast_server::client::{self, Client};
use bast_server::{Error, Method, Request, Response, Status};

/// Passes requests on to the server at `upstream`, a host and port.
///
/// Nothing is gathered: a body that comes slowly is passed on slowly, and who does not read makes the other side wait.
#[derive(Clone, Debug)]
pub struct Gateway {
    client: Client,
    upstream: String,
}

impl Gateway {
    /// A gateway to this host and port.
    #[must_use]
    pub fn new(client: Client, upstream: impl Into<String>) -> Gateway {
        Gateway { client, upstream: upstream.into() }
    }

    /// The handler.
    ///
    /// # Errors
    /// 504 where the upstream is too slow, 502 where there is none or where it does not speak HTTP; 400, 408 or 413 where it
    /// is the body of the request that fails.
    pub fn forward(&self, request: &mut Request<'_>) -> Result<Response, Error> {
        let mut onward = self.client.request(request.method(), self.url(request));
        // The gateway itself has the body already, or asks for it by reading. Whom it forwards for it knows best: what a
        // client says of that may be a lie.
        const OWN: [&str; 8] = [
            "Host",
            "Content-Length",
            "Expect",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "X-Real-IP",
        ];
        for (name, value) in end_to_end(|| request.headers()) {
            if !OWN.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                onward = onward.added_header(name, value);
            }
        }
        // How far a look at the way may go (RFC 9110 §7.6.2).
        if matches!(request.method(), Method::Options | Method::Trace)
            && let Some(hops) = request.header("Max-Forwards").and_then(|hops| hops.parse::<u32>().ok())
        {
            let Some(left) = hops.checked_sub(1) else { return Ok(itself(request.method())) };
            onward = onward.header("Max-Forwards", left.to_string());
        }
        onward = onward.added_header("Via", format!("{} bast", &request.version().to_string()[5..]));
        if let Some(peer) = request.peer() {
            onward = onward.added_header("X-Forwarded-For", peer.ip().to_string());
        }
        let length = request.content_length();
        let mut body = Watched { body: request.body(), has_failed: false };
        let answer = match length {
            Some(0) => onward.send(),
            Some(length) => onward.content_length(length).send_reader(&mut body),
            None => onward.send_reader(&mut body),
        };
        let has_failed = body.has_failed;
        match answer {
            Ok(answer) => Ok(passed_back(answer, request.method() == Method::Head)),
            // The fault is the client's, and its status that of the body.
            Err(error) if has_failed => Err(error.into()),
            Err(error) => Err(bad_gateway(error)),
        }
    }

    fn url(&self, request: &Request<'_>) -> String {
        let mut url = format!("http://{}", self.upstream);
        if request.path() != "*" {
            url.push_str(request.path());
        }
        if let Some(query) = request.query() {
            write!(url, "?{query}").expect("a string takes everything");
        }
        url
    }
}

/// What the gateway answers to who wants to know about itself. It does not repeat a request to who sent it: cookies are in there.
fn itself(method: Method<'_>) -> Response {
    let status = if method == Method::Options { Status::NO_CONTENT } else { Status::METHOD_NOT_ALLOWED };
    Response::new(status).with_header("Allow", "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS")
}

/// The body of a request that remembers whether reading it failed: else nobody could say whose fault it is that the request
/// was not passed on.
struct Watched<R> {
    body: R,
    has_failed: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.body.read(room).inspect_err(|_| self.has_failed = true)
    }
}

/// The fields that go on to the next connection: none that belongs to this one, by its meaning or because a line of
/// `Connection` names it, of which there may be several.
fn end_to_end<'a, I: Iterator<Item = (&'a str, &'a [u8])>>(
    fields: impl Fn() -> I,
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    const HOP_BY_HOP: [&str; 9] = [
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    ];
    let named: Vec<&[u8]> = fields()
        .filter(|(name, _)| name.eq_ignore_ascii_case("Connection"))
        .flat_map(|(_, options)| options.split(|&byte| byte == b',').map(<[u8]>::trim_ascii))
        .collect();
    fields().filter(move |(name, _)| {
        !HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop))
            && !named.iter().any(|hop| name.as_bytes().eq_ignore_ascii_case(hop))
    })
}

/// The upstream's answer as ours. To HEAD it has the length of a body that is not there.
fn passed_back(answer: client::Response, to_head: bool) -> Response {
    let status = answer.status();
    let length = if to_head {
        answer.header("Content-Length").and_then(|length| length.parse().ok())
    } else {
        answer.content_length()
    };
    let fields: Vec<(String, String)> = end_to_end(|| answer.headers().iter())
        // Framing, date and name are our server's.
        .filter(|(name, _)| {
            !["Content-Length", "Date", "Server"].iter().any(|own| name.eq_ignore_ascii_case(own))
        })
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let mut body = answer.into_body();
    let response = match (status, length) {
        (Status::NO_CONTENT | Status::NOT_MODIFIED, _) => Response::new(status),
        (_, Some(length)) => {
            Response::stream_sized("", length, move |out| io::copy(&mut body, out).map(drop))
        }
        (_, None) => Response::stream("", move |out| io::copy(&mut body, out).map(drop)),
    };
    // The upstream's, if it has one.
    let response = response.with_status(status).without_header("Content-Type");
    fields.iter().fold(response, |response, (name, value)| response.with_added_header(name, value))
}

/// What the client of the gateway is told.
fn bad_gateway(error: client::Error) -> Error {
    let status = if error.is_timeout() { Status::GATEWAY_TIMEOUT } else { Status::BAD_GATEWAY };
    Error::new(status, "the upstream server did not answer").caused_by(error)
}
