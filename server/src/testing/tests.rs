//! The client against handlers of all kinds.
#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;
use crate::limits::Limits;
use crate::{Cookie, Error, Next, Request, Response, Router, Status};

fn echo(request: &mut Request<'_>) -> Result<Vec<u8>, Error> {
    request.read_body()
}

#[test]
fn a_handler_is_called_without_a_socket_or_a_runtime() {
    let client = TestClient::new(Router::new().post("/echo", echo));
    assert!(!bast::is_green());
    for request in [client.post("/echo").body("both"), client.post("/echo").chunks(["bo", "", "th"])] {
        let response = request.send();
        assert_eq!((response.status(), response.text()), (Status::OK, "both"));
        assert_eq!(response.header("server"), Some("bast"));
        assert!(response.keeps_alive());
    }
    assert_eq!(client.get("/echo").send().status(), Status::METHOD_NOT_ALLOWED);
}

#[test]
fn pipelined_requests_are_answered_without_a_runtime_whatever_the_settings() {
    let settings = Settings { pipelined_requests_parallel: NonZeroUsize::new(4), ..Settings::default() };
    let handler = |request: &mut Request<'_>| request.path().to_owned();
    let client = TestClient::with_settings(handler, settings).expect("settings");
    let both = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(!bast::is_green());
    let output = String::from_utf8(client.raw(both)).expect("text");
    assert_eq!(output.matches("HTTP/1.1 200").count(), 2, "{output}");
    assert!(output.find("/first") < output.find("/second"), "{output}");
}

#[test]
fn a_client_that_waits_before_its_body_is_asked_for_it() {
    let client = TestClient::new(echo);
    let response = client.post("/").header("Expect", "100-continue").body("later").send();
    assert_eq!(response.interim().iter().map(TestResponse::status).collect::<Vec<_>>(), [Status::CONTINUE]);
    assert_eq!(response.text(), "later");
}

#[test]
fn a_header_field_replaces_its_like_and_an_added_one_stands_beside_it() {
    let client = TestClient::new(|request: &mut Request<'_>| {
        let fields = request.headers().filter(|(name, _)| !name.eq_ignore_ascii_case("Content-Length"));
        fields
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
            .collect::<Vec<_>>()
            .join(" ")
    });
    let request = client.post("/").header("X", "1").added_header("x", "2").header("Host", "a");
    assert_eq!(request.send().text(), "X=1 x=2 Host=a");
    let request = client.post("/").header("X", "1").added_header("X", "2").header("x", "3");
    assert_eq!(
        request.form([("a", "b")]).send().text(),
        "Host=test x=3 Content-Type=application/x-www-form-urlencoded"
    );
    let request = client.post("/").header("Content-Type", "t").form([("a", "b")]);
    assert_eq!(request.send().text(), "Host=test Content-Type=t");
}

#[test]
fn requests_share_a_connection_until_one_of_them_closes_it() {
    let client = TestClient::new(|request: &mut Request<'_>| {
        let response = Response::text(request.path().to_owned());
        if request.path() == "/last" { response.and_close() } else { response }
    });
    let responses = client.send_all(["/1", "/2", "/last", "/4"].map(|path| client.get(path)));
    let seen: Vec<_> = responses.iter().map(|response| (response.text(), response.keeps_alive())).collect();
    assert_eq!(seen, [("/1", true), ("/2", true), ("/last", false)]);
}

#[test]
fn a_head_request_has_the_length_and_no_body() {
    let client = TestClient::new(|_: &mut Request<'_>| "hello");
    let response = client.head("/").send();
    assert_eq!((response.header("Content-Length"), response.body()), (Some("5"), &b""[..]));
}

#[test]
fn a_body_that_fails_while_it_is_sent_is_an_error_for_the_client() {
    let client = TestClient::new(|_: &mut Request<'_>| {
        Response::stream("text/plain", |body| {
            body.write_all(b"a part")?;
            body.flush()?;
            Err(io::ErrorKind::Other.into())
        })
    });
    assert_eq!(client.get("/").try_send().expect_err("cut off").kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_handler_may_park_where_the_test_runs_on_a_green_thread() {
    bast::run(|| {
        let client = TestClient::new(|request: &mut Request<'_>| -> Result<String, Error> {
            bast::sleep(Duration::from_micros(10));
            let mut text = String::new();
            request.body().read_to_string(&mut text)?;
            Ok(text)
        });
        assert_eq!(client.post("/").body("awake").send().text(), "awake");
    });
}

#[test]
fn settings_and_the_address_of_the_client_are_the_tests_own() {
    let limits = Limits { body_bytes_max: 3, ..Limits::default() };
    let settings = Settings { limits, server_name: "", ..Settings::default() };
    let client = TestClient::with_settings(echo, settings).expect("it can serve");
    let response = client.post("/").body("four").send();
    assert_eq!((response.status(), response.header("Server")), (Status::CONTENT_TOO_LARGE, None));
    let peer = "192.0.2.1:7".parse().expect("an address");
    let client = TestClient::new(|request: &mut Request<'_>| format!("{:?}", request.peer())).with_peer(peer);
    assert_eq!(client.get("/").send().text(), "Some(192.0.2.1:7)");
}

#[test]
fn a_handler_that_cannot_serve_says_so_before_the_first_request() {
    let app = Router::new().files("/", "/no/such/directory");
    assert!(TestClient::with_settings(app, Settings::default()).is_err());
}

#[test]
fn a_panic_is_a_500_as_it_is_in_a_server() {
    let client = TestClient::new(|_: &mut Request<'_>| -> String { panic!("on purpose") });
    assert_eq!(client.get("/").send().status(), Status::INTERNAL_SERVER_ERROR);
}

#[cfg(feature = "json")]
#[test]
fn json_is_what_says_so_by_its_type() {
    let client = TestClient::new(|request: &mut Request<'_>| {
        Response::bytes(request.header("X-Type").unwrap_or("none").to_owned(), "7")
    });
    let read = |media_type: &str| {
        let response = client.get("/").header("X-Type", media_type).send();
        std::panic::catch_unwind(|| response.json::<u8>()).ok()
    };
    for media_type in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
        assert_eq!(read(media_type), Some(7), "{media_type}");
    }
    for media_type in ["none", "text/plain", "text/json", "application/jsonp"] {
        assert_eq!(read(media_type), None, "{media_type}");
    }
}

#[test]
fn a_form_is_encoded_and_trailers_are_sent() {
    let client = TestClient::new(echo);
    let sent = client.post("/").form([("a b", "1&2"), ("é", "+")]).send();
    assert_eq!(sent.text(), "a+b=1%262&%C3%A9=%2B");
    assert_eq!(client.post("/").chunks(["x"]).trailer("T", "u").send().text(), "x");
}

/// An application is any function of a request to a response, and a middleware makes another one of it.
#[test]
fn an_application_is_a_function_and_a_middleware_makes_one_of_it() {
    fn app(request: &mut Request<'_>) -> Response {
        Response::text(request.path().to_owned())
    }
    fn around(mark: &'static str, inner: impl Handler) -> impl Handler {
        inner.with(move |request: &mut Request<'_>, next: Next<'_>| {
            let response = next.run(request);
            let seen = response.header("X-Seen").unwrap_or("").to_owned();
            response.with_header("X-Seen", seen + mark)
        })
    }
    let client = TestClient::new(around("c", around("b", around("a", app))));
    let response = client.get("/x").send();
    assert_eq!((response.text(), response.header("x-seen")), ("/x", Some("abc")));
}

/// No shared state in sight. What a handler keeps for a request, or for all requests of a core, may be `Rc` and `RefCell`
/// across blocking calls, because a green thread never leaves its OS thread.
#[test]
fn a_handler_may_keep_plain_cells_across_blocking_calls() {
    use std::cell::RefCell;
    use std::rc::Rc;
    thread_local! {
        static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
    bast::run(|| {
        let client = TestClient::new(|request: &mut Request<'_>| {
            let path = Rc::new(request.path().to_owned());
            bast::sleep(Duration::from_micros(10)); // Others run meanwhile.
            SEEN.with_borrow_mut(|seen| seen.push(path.to_string()));
            let count = Rc::new(RefCell::new(0));
            let kept = Rc::clone(&count);
            Response::stream("text/plain", move |body| {
                for _ in 0..3 {
                    *kept.borrow_mut() += 1;
                    bast::yield_now();
                }
                write!(body, "{path} {} {}", count.borrow(), SEEN.with_borrow(Vec::len))
            })
        });
        let responses = client.send_all([client.get("/a"), client.get("/b")]);
        let texts: Vec<_> = responses.iter().map(TestResponse::text).collect();
        assert_eq!(texts, ["/a 3 1", "/b 3 2"]);
    });
}

#[test]
fn cookies_are_sent_together_and_the_last_that_is_set_counts() {
    let handler = |request: &mut Request<'_>| {
        let line = request.header("Cookie").unwrap_or_default().to_owned();
        let set = |response: Response, value: &str| {
            response.with_cookie(Cookie::new("a", value.to_owned()).path("/"))
        };
        set(set(Response::text(line), "old"), "new")
    };
    let client = TestClient::new(handler);
    let response = client.get("/").cookie("a", "1").cookie("b", "2").send();
    assert_eq!(response.text(), "a=1; b=2");
    assert_eq!(
        (response.cookie("a"), response.cookie("A"), response.cookie("Path")),
        (Some("new"), None, None)
    );
}
