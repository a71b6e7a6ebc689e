//! From and to the types of the [`http`](https://docs.rs/http) crate (feature `http-types`), which much of the Rust world
//! speaks: functions that were written for another server run here, and libraries that take its types can be given ours.
//!
//! ```
//! use bast_server::http_types::HttpHandler;
//! use bast_server::Router;
//!
//! fn greet(request: http::Request<Vec<u8>>) -> http::Result<http::Response<Vec<u8>>> {
//!     let text = format!("{} {}", request.method(), request.uri().path());
//!     http::Response::builder().header("X-Kind", "ported").body(text.into_bytes())
//! }
//!
//! let app = Router::new().get("/greet", HttpHandler(greet));
//! # let _ = app;
//! ```
//! A conversion copies: a name and a value for each field, and what the map needs. The byte path of handlers that do without
//! is not touched.
#![forbid(unsafe_code)]

use std::fmt;
use std::str;

use crate::error::Error;
use crate::handler::Handler;
use crate::http1::reader::BodyReader;
use crate::message::{Method, Status, Version};
use crate::request::Request;
use crate::response::{Body, Bytes, IntoResponse, Response, is_reserved};

/// A function of the `http` crate's types as a handler: `Fn(http::Request<Vec<u8>>) -> http::Response<B>`, or a `Result` of
/// it. The body is read before the function is called, within the limits; the address of the client is among the extensions, as a
/// [`SocketAddr`](std::net::SocketAddr).
#[derive(Clone, Copy)]
pub struct HttpHandler<F>(pub F);

impl<F, R> Handler for HttpHandler<F>
where
    F: Fn(http::Request<Vec<u8>>) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    fn handle(&self, request: &mut Request<'_>) -> Response {
        match request.to_http() {
            Ok(request) => (self.0)(request).into_response(),
            Err(error) => error.into_response(),
        }
    }
}

impl<F> fmt::Debug for HttpHandler<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpHandler")
    }
}

impl Request<'_> {
    /// The request with its whole body, as far as it was not read yet.
    ///
    /// # Errors
    /// Those of [`read_body`](Request::read_body), and as [`to_http_reader`](Request::to_http_reader).
    pub fn to_http(&mut self) -> Result<http::Request<Vec<u8>>, Error> {
        let parts = parts_of(self)?;
        Ok(http::Request::from_parts(parts, self.read_body()?))
    }

    /// The request with its body as a reader.
    ///
    /// # Errors
    /// A 400 where the `http` crate takes something for malformed that HTTP allows: its rules for targets are its own.
    pub fn to_http_reader(&mut self) -> Result<http::Request<BodyReader<'_>>, Error> {
        let parts = parts_of(self)?;
        Ok(http::Request::from_parts(parts, self.body()))
    }
}

fn parts_of(request: &Request<'_>) -> Result<http::request::Parts, Error> {
    let refused = |error: http::Error| Error::bad_request("the request cannot be handed on").caused_by(error);
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = http::Method::try_from(request.method()).map_err(|error| refused(error.into()))?;
    parts.uri = request.target().parse().map_err(|error: http::uri::InvalidUri| refused(error.into()))?;
    parts.version = request.version().into();
    for (name, value) in request.headers() {
        let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|error| refused(error.into()))?;
        let value = http::HeaderValue::from_bytes(value).map_err(|error| refused(error.into()))?;
        parts.headers.try_append(name, value).map_err(|error| refused(error.into()))?;
    }
    if let Some(peer) = request.peer() {
        parts.extensions.insert(peer);
    }
    Ok(parts)
}

/// Fields that are the server's own, those of framing above all, are left out; `Connection: close` is heeded. A value that is not UTF-8
/// spoils the response ([`Response::with_header`]).
impl<B: Into<Bytes>> IntoResponse for http::Response<B> {
    fn into_response(self) -> Response {
        let (parts, body) = self.into_parts();
        let mut response = Response::new(parts.status.into()).with_body(Body::Bytes(body.into()));
        for (name, value) in &parts.headers {
            response = match str::from_utf8(value.as_bytes()) {
                _ if is_reserved(name.as_str()) => response,
                Ok(value) => response.with_added_header(name, value),
                Err(_) => response.refuse(&format!("the value of {:?} is no UTF-8", name.as_str())),
            };
        }
        let options = parts.headers.get_all(http::header::CONNECTION).iter();
        let mut options = options.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        if options.any(|option| option.trim().eq_ignore_ascii_case("close")) {
            response.and_close()
        } else {
            response
        }
    }
}

/// The other way. The framing is not there yet: the server adds it when it sends.
///
/// # Errors
/// A 500 where the response is one that the server would not send.
impl TryFrom<Response> for http::Response<Body> {
    type Error = Error;

    fn try_from(mut response: Response) -> Result<http::Response<Body>, Error> {
        let fault = response.fault().map_or_else(|| Ok(()), |fault| Err(std::io::Error::other(fault)));
        fault?;
        let mut made = http::Response::new(response.take_body());
        *made.status_mut() = response.status().try_into()?;
        for (name, value) in response.headers().iter() {
            let name = http::HeaderName::from_bytes(name.as_bytes())?;
            made.headers_mut().try_append(name, http::HeaderValue::from_bytes(value.as_bytes())?)?;
        }
        Ok(made)
    }
}

impl From<http::StatusCode> for Status {
    fn from(status: http::StatusCode) -> Status {
        Status::from_code(status.as_u16()).expect("http_types: both have three digits")
    }
}

impl TryFrom<Status> for http::StatusCode {
    type Error = http::status::InvalidStatusCode;

    fn try_from(status: Status) -> Result<http::StatusCode, http::status::InvalidStatusCode> {
        http::StatusCode::from_u16(status.code())
    }
}

impl TryFrom<Method<'_>> for http::Method {
    type Error = http::method::InvalidMethod;

    fn try_from(method: Method<'_>) -> Result<http::Method, http::method::InvalidMethod> {
        http::Method::from_bytes(method.as_str().as_bytes())
    }
}

impl<'m> From<&'m http::Method> for Method<'m> {
    fn from(method: &'m http::Method) -> Method<'m> {
        Method::from_name(method.as_str())
    }
}

impl From<Version> for http::Version {
    fn from(version: Version) -> http::Version {
        match version {
            Version::Http10 => http::Version::HTTP_10,
            Version::Http11 => http::Version::HTTP_11,
        }
    }
}

#[cfg(feature = "testing")]
impl crate::testing::TestClient {
    /// Sends a request of the `http` crate's, and returns the response as one. Trailers are left out.
    ///
    /// # Panics
    /// As [`TestRequest::send`](crate::testing::TestRequest::send).
    #[must_use]
    pub fn send_http<B: Into<Vec<u8>>>(&self, request: http::Request<B>) -> http::Response<Vec<u8>> {
        let (parts, body) = request.into_parts();
        let sent = self.request((&parts.method).into(), &parts.uri.to_string());
        let sent =
            parts.headers.iter().fold(sent, |sent, (name, value)| sent.added_header(name.as_str(), value));
        let response = sent.body(body).send();
        let mut made = http::Response::new(response.body().to_vec());
        *made.status_mut() = response.status().try_into().expect("it was read as three digits");
        for (name, value) in response.headers() {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("it was read as a token");
            made.headers_mut()
                .append(name, http::HeaderValue::from_bytes(value).expect("it was read as a value"));
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::testing::TestClient;
    use crate::{Limits, Settings};

    fn ported(request: http::Request<Vec<u8>>) -> http::Response<Vec<u8>> {
        let (parts, body) = request.into_parts();
        let text = format!(
            "{} {} {:?} {:?} {:?}",
            parts.method,
            parts.uri,
            parts.version,
            parts.headers.get_all("x-many").iter().collect::<Vec<_>>(),
            String::from_utf8_lossy(&body)
        );
        let made = http::Response::builder().status(201).header("X-Kind", "ported");
        let made = made.header("Set-Cookie", "a=1").header("Set-Cookie", "b=2").header("Content-Length", "7");
        made.body(text.into_bytes()).expect("it is well-formed")
    }

    #[test]
    fn a_function_of_the_http_crates_types_serves() {
        let client = TestClient::new(HttpHandler(ported));
        let request = client
            .request(Method::Other("PURGE"), "/a%20b?c=d")
            .header("X-Many", "1")
            .added_header("x-many", b"\xff");
        let response = request.chunks(["bo", "dy"]).send();
        assert_eq!(response.status(), Status::CREATED);
        assert_eq!(response.text(), r#"PURGE /a%20b?c=d HTTP/1.1 ["1", "\xff"] "body""#);
        assert_eq!(response.header_values("set-cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert_eq!(response.header("x-kind"), Some("ported"));
    }

    #[test]
    fn the_limits_and_the_address_of_the_client_hold_there_too() {
        let limits = Limits { body_bytes_max: 3, ..Limits::default() };
        let settings = Settings { limits, ..Settings::default() };
        let client = TestClient::with_settings(HttpHandler(ported), settings).expect("it can serve");
        assert_eq!(client.post("/").body("four").send().status(), Status::CONTENT_TOO_LARGE);
        let peer = |request: http::Request<Vec<u8>>| -> http::Response<String> {
            http::Response::new(format!("{:?}", request.extensions().get::<std::net::SocketAddr>()))
        };
        let client = TestClient::new(HttpHandler(peer)).with_peer("192.0.2.1:7".parse().expect("an address"));
        assert_eq!(client.get("/").send().text(), "Some(192.0.2.1:7)");
    }

    #[test]
    fn every_form_of_target_is_handed_on() {
        let client = TestClient::new(HttpHandler(|request: http::Request<Vec<u8>>| {
            http::Response::new(request.uri().to_string())
        }));
        for (method, target) in [
            (Method::Get, "/"),
            (Method::Get, "http://test/a?b"),
            (Method::Options, "*"),
            (Method::Get, "/a?b=%7B"),
        ] {
            assert_eq!(client.request(method, target).send().text(), target);
        }
    }

    #[test]
    fn a_body_may_be_read_as_it_comes() {
        let client = TestClient::new(|request: &mut Request<'_>| -> Result<String, Error> {
            let mut request = request.to_http_reader()?;
            let mut text = String::new();
            request.body_mut().take(3).read_to_string(&mut text)?;
            Ok(text)
        });
        assert_eq!(client.post("/").body("abcdef").send().text(), "abc");
    }

    #[test]
    fn a_response_cannot_contradict_its_framing_or_split() {
        for (name, value) in
            [("Transfer-Encoding", "chunked"), ("Content-Length", "99"), ("Connection", "x"), ("Date", "d")]
        {
            let client = TestClient::new(HttpHandler(move |_: http::Request<Vec<u8>>| {
                http::Response::builder().header(name, value).body("abc")
            }));
            let response = client.get("/").send();
            assert_eq!((response.text(), response.header("Content-Length")), ("abc", Some("3")), "{name}");
            assert!(response.keeps_alive());
        }
        let close = http::Response::builder().header("connection", "x, Close").body("").expect("well-formed");
        assert!(close.into_response().closes());
        let odd = http::HeaderValue::from_bytes(b"\xff").expect("the http crate allows it");
        let odd = http::Response::builder().header("X", odd).body("").expect("well-formed");
        assert!(odd.into_response().fault().is_some());
    }

    #[test]
    fn a_response_goes_the_other_way() {
        let made = Response::text("x")
            .with_status(Status::CREATED)
            .with_header("X-A", "1")
            .with_added_header("X-A", "2");
        let made: http::Response<Body> = made.try_into().expect("it is well-formed");
        assert_eq!(made.status(), 201);
        assert_eq!(made.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(made.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(matches!(made.into_body(), Body::Bytes(bytes) if bytes.as_slice() == b"x"));
        assert!(http::Response::<Body>::try_from(Response::text("x").with_header("Y", "\n")).is_err());
    }

    #[test]
    fn a_test_may_be_written_in_the_http_crates_types() {
        let client = TestClient::new(HttpHandler(ported));
        let request =
            http::Request::post("/x").header("X-Many", "1").body("body").expect("it is well-formed");
        let response = client.send_http(request);
        assert_eq!(response.status(), http::StatusCode::CREATED);
        assert_eq!(response.into_body(), br#"POST /x HTTP/1.1 ["1"] "body""#);
    }
}
