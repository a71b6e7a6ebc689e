//! Cross-origin resource sharing, as the Fetch standard has it (fetch.spec.whatwg.org, "CORS protocol").
//!
//! A browser sends a page's cross-origin request with `Origin`, and lets the page see the response only if that says so. Where
//! the request is more than a form could send, the browser asks before, by OPTIONS: the preflight. None of this
//! protects the server from other clients.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::{Middleware, Next, add_vary};
use crate::class::is_token;
use crate::message::{Method, Status};
use crate::request::Request;
use crate::response::Response;

/// Lets pages of other origins read responses. Nobody is let in before an origin is named.
///
/// Preflight requests are answered here, by a 204, before any handler; so this belongs around a whole router. Other requests
/// go through whatever their origin is: it is the browser that keeps a response from a page. Without anything further said pages
/// may send `GET`, `HEAD` and `POST`, and no fields but those that any form may have.
///
/// ```
/// use bast_server::middleware::Cors;
/// use bast_server::{Handler, Request, Router};
/// use std::time::Duration;
///
/// let app = Router::new().put("/notes/{id}", |request: &mut Request| request.read_text());
/// let app = app.with(
///     Cors::new()
///         .origin("https://example.com")
///         .methods(["GET", "PUT"])
///         .headers(["Content-Type", "Authorization"])
///         .expose(["ETag"])
///         .credentials()
///         .max_age(Duration::from_secs(3600)),
/// );
/// # let _ = app;
/// ```
pub struct Cors {
    origins: Origins,
    methods: List,
    headers: List,
    exposed: List,
    credentials: bool,
    max_age: Option<String>,
}

enum Origins {
    Any,
    /// Compared byte by byte, as the standard has it.
    These(Vec<Box<str>>),
    Where(Box<dyn Fn(&str) -> bool + Send + Sync>),
}

/// The value of a field that lists names.
#[derive(Debug, PartialEq, Eq)]
enum List {
    None,
    Any,
    Names(String),
}

impl List {
    fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> List {
        let names: Vec<&str> = names.into_iter().collect();
        for name in &names {
            assert!(is_token(name.as_bytes()), "CORS: {name:?} is no name");
            assert!(*name != "*", "CORS: {name:?} is not a name but the wildcard");
        }
        if names.is_empty() { List::None } else { List::Names(names.join(", ")) }
    }

    fn value(&self) -> Option<&str> {
        match self {
            List::None => None,
            List::Any => Some("*"),
            List::Names(names) => Some(names),
        }
    }
}

impl Cors {
    /// Nobody is let in yet.
    #[must_use]
    pub fn new() -> Cors {
        Cors {
            origins: Origins::These(Vec::new()),
            methods: List::of(["GET", "HEAD", "POST"]),
            headers: List::None,
            exposed: List::None,
            credentials: false,
            max_age: None,
        }
    }

    /// Lets in the pages of one more origin: `https://example.com`, `http://localhost:8080`, or `null`, which is what
    /// sandboxed pages and local files have, so nearly nothing is known of who that is: any page can make a frame that has it. So
    /// not together with [`credentials`](Cors::credentials).
    ///
    /// # Panics
    /// If that is no origin as browsers write it: in small letters, with a scheme, without a path or a slash at its end, and
    /// without the port that the scheme has anyway. So do all methods here where the rules contradict each other or the standard.
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Cors {
        let (scheme, host) = origin.split_once("://").unwrap_or_default();
        let is_plain = origin.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
        let has_no_more = !host.contains(['/', '?', '#', '@', '*']) && !host.ends_with(':');
        let is_origin =
            origin == "null" || (is_plain && has_no_more && !scheme.is_empty() && !host.is_empty());
        assert!(is_origin, "CORS: {origin:?} is not what a browser sends as an origin");
        let has_usual_port = [("http://", ":80"), ("https://", ":443")]
            .iter()
            .any(|(scheme, port)| origin.starts_with(scheme) && origin.ends_with(port));
        assert!(!has_usual_port, "CORS: {origin:?} is sent by browsers without its port");
        match &mut self.origins {
            Origins::These(origins) => origins.push(origin.into()),
            _ => panic!("CORS: {origin:?} is let in already"),
        }
        self.checked()
    }

    /// Lets in the pages of all origins that this function accepts. It is given what the client sent, and decides alone: no
    /// origin is named beside it.
    #[must_use]
    pub fn origins_where(mut self, accepts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Cors {
        let is_first = matches!(&self.origins, Origins::These(origins) if origins.is_empty());
        assert!(is_first, "CORS: a function beside other rules for origins");
        self.origins = Origins::Where(Box::new(accepts));
        self
    }

    /// Lets in the pages of all origins: for what everybody may read who can reach the server. Not together with
    /// [`credentials`](Cors::credentials).
    #[must_use]
    pub fn any_origin(mut self) -> Cors {
        self.origins = Origins::Any;
        self.checked()
    }

    /// The methods that pages may use, in place of those without a preflight.
    #[must_use]
    pub fn methods<'n>(mut self, methods: impl IntoIterator<Item = &'n str>) -> Cors {
        self.methods = List::of(methods);
        self
    }

    /// Pages may use every method. Not together with [`credentials`](Cors::credentials).
    #[must_use]
    pub fn any_method(mut self) -> Cors {
        self.methods = List::Any;
        self.checked()
    }

    /// The fields that pages may send.
    #[must_use]
    pub fn headers<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Cors {
        self.headers = List::of(names);
        self
    }

    /// Pages may send every field but `Authorization`, which the wildcard does not stand for. Not together with
    /// [`credentials`](Cors::credentials).
    #[must_use]
    pub fn any_header(mut self) -> Cors {
        self.headers = List::Any;
        self.checked()
    }

    /// The fields of responses that pages may read, beside those that they always may.
    #[must_use]
    pub fn expose<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Cors {
        self.exposed = List::of(names);
        self
    }

    /// Pages may read every field of responses. Not together with [`credentials`](Cors::credentials).
    #[must_use]
    pub fn expose_any(mut self) -> Cors {
        self.exposed = List::Any;
        self.checked()
    }

    /// Browsers may send cookies and other credentials, and let the page see the response. In such requests `*` means
    /// nothing to browsers, so that everything has to be listed.
    #[must_use]
    pub fn credentials(mut self) -> Cors {
        self.credentials = true;
        self.checked()
    }

    /// How long browsers may remember the answer to a preflight; they have limits of their own (hours) and ask again after 5
    /// seconds where nothing is said.
    #[must_use]
    pub fn max_age(mut self, duration: Duration) -> Cors {
        self.max_age = Some(duration.as_secs().to_string());
        self
    }

    fn checked(self) -> Cors {
        let any = matches!(self.origins, Origins::Any)
            || [&self.methods, &self.headers, &self.exposed].contains(&&List::Any);
        assert!(!(self.credentials && any), "CORS: with credentials a wildcard means nothing to browsers");
        let has_null = matches!(&self.origins, Origins::These(origins) if origins.iter().any(|origin| **origin == *"null"));
        assert!(
            !(self.credentials && has_null),
            "CORS: with credentials \"null\" lets in every sandboxed frame"
        );
        self
    }

    fn allows(&self, origin: &str) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::These(origins) => origins.iter().any(|known| **known == *origin),
            Origins::Where(accepts) => accepts(origin),
        }
    }

    /// What every response says, and a preflight's too.
    fn admit(&self, mut response: Response, allowed: Option<&str>) -> Response {
        if !matches!(self.origins, Origins::Any) {
            // Also without an Origin, for a cache that has this response when a page asks.
            response = add_vary(response, "Origin");
        }
        let Some(origin) = allowed else { return response };
        response = response.with_header("Access-Control-Allow-Origin", origin);
        if self.credentials {
            response = response.with_header("Access-Control-Allow-Credentials", "true");
        }
        response
    }

    fn preflight(&self, allowed: Option<&str>) -> Response {
        let mut response = self.admit(Response::new(Status::NO_CONTENT), allowed);
        if allowed.is_none() {
            return response;
        }
        let fields = [
            ("Access-Control-Allow-Methods", self.methods.value()),
            ("Access-Control-Allow-Headers", self.headers.value()),
            ("Access-Control-Max-Age", self.max_age.as_deref()),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                response = response.with_header(name, value);
            }
        }
        response
    }
}

impl Default for Cors {
    fn default() -> Cors {
        Cors::new()
    }
}

impl Middleware for Cors {
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        let origin = request.header("Origin").map(str::to_owned);
        let allowed = match self.origins {
            // Also without an Origin: a cache that has this response would give it to a page that asks later.
            Origins::Any => Some("*"),
            _ => origin.as_deref().filter(|origin| self.allows(origin)),
        };
        let asks = request.header_bytes("Access-Control-Request-Method").is_some();
        if request.method() == Method::Options && origin.is_some() && asks {
            return self.preflight(allowed);
        }
        let response = self.admit(next.run(request), allowed);
        match self.exposed.value() {
            Some(names) if allowed.is_some() => response.with_header("Access-Control-Expose-Headers", names),
            _ => response,
        }
    }
}

impl fmt::Debug for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: &dyn fmt::Debug = match &self.origins {
            Origins::Any => &"*",
            Origins::These(origins) => origins,
            Origins::Where(_) => &"a function",
        };
        f.debug_struct("Cors")
            .field("origins", origins)
            .field("methods", &self.methods)
            .field("headers", &self.headers)
            .field("exposed", &self.exposed)
            .field("credentials", &self.credentials)
            .field("max_age", &self.max_age)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Handler;
    use crate::http1::serve::tests::codes;
    use crate::middleware::tests::{ask, field};

    fn send(cors: Cors, method: &str, fields: &str) -> String {
        let handler = |_: &mut Request<'_>| Response::text("handled").with_header("Vary", "Accept");
        ask(handler.with(cors), &format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    fn strict() -> Cors {
        Cors::new()
            .origin("https://a.example")
            .origin("http://localhost:8080")
            .methods(["GET", "PUT"])
            .headers(["Content-Type", "X-Y"])
            .expose(["ETag", "X-Z"])
            .credentials()
            .max_age(Duration::from_secs(600))
    }

    const PREFLIGHT: &str = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n";

    #[test]
    fn a_preflight_is_answered_before_the_handler() {
        let output = send(strict(), "OPTIONS", PREFLIGHT);
        assert_eq!(codes(&output), [204]);
        for (name, value) in [
            ("Access-Control-Allow-Origin", Some("https://a.example")),
            ("Access-Control-Allow-Credentials", Some("true")),
            ("Access-Control-Allow-Methods", Some("GET, PUT")),
            ("Access-Control-Allow-Headers", Some("Content-Type, X-Y")),
            ("Access-Control-Max-Age", Some("600")),
            ("Access-Control-Expose-Headers", None),
            ("Vary", Some("Origin")),
        ] {
            assert_eq!(field(&output, name), value, "{name}");
        }
        let output = send(strict(), "OPTIONS", &PREFLIGHT.replace("a.example", "b.example"));
        assert_eq!(codes(&output), [204]);
        assert!(!output.contains("Access-Control") && output.contains("Vary: Origin\r\n"), "{output}");
    }

    #[test]
    fn an_options_request_that_is_no_preflight_reaches_the_handler() {
        for fields in ["", "Origin: https://a.example\r\n", "Access-Control-Request-Method: PUT\r\n"] {
            assert!(send(strict(), "OPTIONS", fields).ends_with("handled"), "{fields:?}");
        }
    }

    #[test]
    fn a_response_names_the_origin_that_may_read_it() {
        for (origin, allowed) in [
            ("https://a.example", true),
            ("http://localhost:8080", true),
            ("https://A.example", false),
            ("https://a.example.evil.example", false),
            ("http://a.example", false),
            ("null", false),
            ("", false),
        ] {
            let output = send(strict(), "GET", &format!("Origin: {origin}\r\n"));
            assert!(output.ends_with("handled"), "it is the browser that refuses");
            assert_eq!(field(&output, "Access-Control-Allow-Origin"), allowed.then_some(origin));
            assert_eq!(field(&output, "Access-Control-Allow-Credentials"), allowed.then_some("true"));
            assert_eq!(field(&output, "Access-Control-Expose-Headers"), allowed.then_some("ETag, X-Z"));
            assert!(output.contains("Vary: Accept\r\nVary: Origin\r\n"), "{output}");
        }
        assert!(send(strict(), "GET", "").contains("Vary: Origin\r\n"), "also for who asks from nowhere");
    }

    #[test]
    fn where_everybody_may_read_no_cache_has_to_tell_origins_apart() {
        // Without an Origin, too: the same response is kept for whoever asks next.
        for fields in ["Origin: https://x.example\r\n", ""] {
            let output = send(Cors::new().any_origin().any_header().any_method().expose_any(), "GET", fields);
            assert_eq!(field(&output, "Access-Control-Allow-Origin"), Some("*"), "{fields:?}");
            assert_eq!(field(&output, "Access-Control-Expose-Headers"), Some("*"), "{fields:?}");
            assert!(!output.contains("Vary: Origin") && !output.contains("Credentials"), "{output}");
        }
    }

    #[test]
    fn a_function_may_decide_about_origins() {
        let cors = || Cors::new().origins_where(|origin| origin.ends_with(".example"));
        let output = send(cors(), "GET", "Origin: https://x.example\r\n");
        assert_eq!(field(&output, "Access-Control-Allow-Origin"), Some("https://x.example"));
        assert_eq!(
            field(&send(cors(), "GET", "Origin: https://x.test\r\n"), "Access-Control-Allow-Origin"),
            None
        );
    }

    #[test]
    fn rules_that_browsers_would_ignore_show_when_the_program_starts() {
        let builds: [fn() -> Cors; 23] = [
            || Cors::new().origin("https://a.example").origins_where(|_| true),
            || Cors::new().any_origin().origins_where(|_| false),
            || Cors::new().origin("HTTPS://a.example"),
            || Cors::new().origin("://a.example"),
            || Cors::new().origin("https://"),
            || Cors::new().origin("https://a.example:"),
            || Cors::new().origin("Null"),
            || Cors::new().origin("null").credentials(),
            || Cors::new().credentials().origin("null"),
            || Cors::new().origin("https://a.example:443"),
            || Cors::new().origin("http://a.example:80"),
            || Cors::new().any_origin().credentials(),
            || Cors::new().credentials().any_origin(),
            || Cors::new().credentials().any_header(),
            || Cors::new().credentials().any_method(),
            || Cors::new().credentials().expose_any(),
            || Cors::new().headers(["*"]),
            || Cors::new().methods(["G T"]),
            || Cors::new().origin("https://a.example/"),
            || Cors::new().origin("https://A.example"),
            || Cors::new().origin("a.example"),
            || Cors::new().origin("*"),
            || Cors::new().any_origin().origin("https://a.example"),
        ];
        for (index, build) in builds.into_iter().enumerate() {
            assert!(std::panic::catch_unwind(build).is_err(), "{index}");
        }
        for origin in ["null", "http://a.example:443", "https://a.example:80", "https://a.example:8443"] {
            let output = send(Cors::new().origin(origin), "GET", &format!("Origin: {origin}\r\n"));
            assert_eq!(field(&output, "Access-Control-Allow-Origin"), Some(origin));
        }
    }
}
