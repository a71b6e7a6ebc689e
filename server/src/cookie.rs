//! Cookies (RFC 6265 and what its revision, draft-ietf-httpbis-rfc6265bis, adds): read from requests, set by responses.
//!
//! ```
//! use bast_server::{Cookie, Request, Response, SameSite};
//! use std::time::Duration;
//!
//! fn login(req: &mut Request) -> Response {
//!     if req.cookie("__Host-session").is_some() {
//!         return Response::text("you are in already");
//!     }
//!     let cookie = Cookie::new("__Host-session", new_token())
//!         .path("/")
//!         .secure()
//!         .http_only()
//!         .same_site(SameSite::Lax)
//!         .max_age(Duration::from_secs(3600));
//!     Response::see_other("/").with_cookie(cookie)
//! }
//!
//! fn logout(_: &mut Request) -> Response {
//!     Response::see_other("/").with_cookie(Cookie::removal("__Host-session").path("/").secure())
//! }
//! # fn new_token() -> String { String::from("2f5c") }
//! # let _ = (login, logout);
//! ```
//! Nothing is signed or encrypted: what a client sends as a cookie it may have made up. Put a random token into it and keep
//! what it stands for on the server, or sign the value yourself.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

use crate::class::{host_len, is_token};
use crate::request::Request;
use crate::response::Response;

/// Most bytes of name and value together that user agents keep.
const NAME_AND_VALUE_BYTES_MAX: usize = 4096;

/// Most bytes of an attribute's value that they heed.
const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// The first second that HTTP dates cannot say: that of the year 10000.
const DATES_END: Duration = Duration::from_secs(253_402_300_800);

/// A cookie for the user agent to keep: the value of a `Set-Cookie` field.
///
/// It has the attributes that are asked for and no others. Sessions want at least `Secure`, `HttpOnly` and a `SameSite`.
/// [`Response::with_cookie`] checks it; see there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a cookie is set by Response::with_cookie"]
pub struct Cookie {
    name: Cow<'static, str>,
    value: Cow<'static, str>,
    path: Option<Cow<'static, str>>,
    domain: Option<Cow<'static, str>>,
    max_age: Option<Duration>,
    expires: Option<SystemTime>,
    secure: bool,
    http_only: bool,
    same_site: Option<SameSite>,
    partitioned: bool,
}

/// With which requests from other sites a cookie is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// With none.
    Strict,
    /// When the user follows a link, but not with a form that another site posts.
    Lax,
    /// With all. Such a cookie must be `Secure`.
    None,
}

impl Cookie {
    /// A cookie with this name and value that goes back to the host that sets it, until the user agent is closed.
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Cookie {
        Cookie {
            name: name.into(),
            value: value.into(),
            path: None,
            domain: None,
            max_age: None,
            expires: None,
            secure: false,
            http_only: false,
            same_site: None,
            partitioned: false,
        }
    }

    /// Removes the cookie of this name. It takes the path and the domain that the cookie was set with, and where its name
    /// begins with `__Host-` or `__Secure-`, `secure` too, with `__Http-` or `__Host-Http-` also `http_only`.
    pub fn removal(name: impl Into<Cow<'static, str>>) -> Cookie {
        Cookie::new(name, "").max_age(Duration::ZERO).expires(UNIX_EPOCH)
    }

    /// Sends it with requests for this path and what is below. Without it, for the folder of the path that sets it.
    pub fn path(mut self, path: impl Into<Cow<'static, str>>) -> Cookie {
        self.path = Some(path.into());
        self
    }

    /// Sends it to this domain and all below it, not only to the host that sets it.
    pub fn domain(mut self, domain: impl Into<Cow<'static, str>>) -> Cookie {
        self.domain = Some(domain.into());
        self
    }

    /// Keeps it for so long, in whole seconds; 0 removes it. It counts more than `expires`.
    pub fn max_age(mut self, max_age: Duration) -> Cookie {
        self.max_age = Some(max_age);
        self
    }

    /// Keeps it until then.
    pub fn expires(mut self, expires: SystemTime) -> Cookie {
        self.expires = Some(expires);
        self
    }

    /// Sends it over encrypted connections only.
    pub fn secure(mut self) -> Cookie {
        self.secure = true;
        self
    }

    /// Hides it from scripts.
    pub fn http_only(mut self) -> Cookie {
        self.http_only = true;
        self
    }

    /// Says with which requests from other sites it is sent. Without it user agents differ.
    pub fn same_site(mut self, same_site: SameSite) -> Cookie {
        self.same_site = Some(same_site);
        self
    }

    /// Keeps one for each site that the page with the request is embedded in (CHIPS). Such a cookie must be `Secure`.
    pub fn partitioned(mut self) -> Cookie {
        self.partitioned = true;
        self
    }

    /// What a user agent would not accept, or would take for something else.
    fn fault(&self) -> Option<&'static str> {
        let has_prefix = |prefix: &str| {
            self.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let is_host = has_prefix("__Host-");
        let is_http = has_prefix("__Http-") || has_prefix("__Host-Http-");
        let is_attribute = |value: &str| value.bytes().all(|byte| matches!(byte, b' '..=b':' | b'<'..=b'~'));
        let attributes = [&self.path, &self.domain].into_iter().flatten();
        Some(if !is_token(self.name.as_bytes()) {
            "its name is no token"
        } else if !self.value.bytes().all(is_cookie_octet) {
            "its value has a character that RFC 6265 §4.1.1 does not allow"
        } else if self.name.len() + self.value.len() > NAME_AND_VALUE_BYTES_MAX {
            "its name and value are longer than 4096 bytes"
        } else if attributes.clone().any(|value| value.len() > ATTRIBUTE_BYTES_MAX) {
            "an attribute is longer than 1024 bytes"
        } else if self.path.as_deref().is_some_and(|path| !path.starts_with('/') || !is_attribute(path)) {
            "its path does not begin with a slash, or has a character that it cannot have"
        } else if self.domain.as_deref().is_some_and(|domain| {
            domain.is_empty() || host_len(domain.as_bytes()) < domain.len() || domain.contains(';')
        }) {
            "its domain is none"
        } else if self
            .expires
            .is_some_and(|at| at.duration_since(UNIX_EPOCH).map_or(true, |at| at >= DATES_END))
        {
            "it expires in a year that a date cannot have"
        } else if !self.secure && (is_host || is_http || has_prefix("__Secure-")) {
            "its prefix wants Secure"
        } else if !self.http_only && is_http {
            "its prefix wants HttpOnly"
        } else if is_host && (self.path.as_deref() != Some("/") || self.domain.is_some()) {
            "the prefix __Host- wants the path / and no domain"
        } else if !self.secure && self.same_site == Some(SameSite::None) {
            "SameSite=None wants Secure"
        } else if !self.secure && self.partitioned {
            "Partitioned wants Secure"
        } else {
            return None;
        })
    }
}

/// May the byte stand in a cookie's value (RFC 6265 §4.1.1)?
fn is_cookie_octet(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'+' | b'-'..=b':' | b'<'..=b'[' | b']'..=b'~')
}

/// The value of the `Set-Cookie` field, as far as the cookie is well-formed.
impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)?;
        if let Some(path) = &self.path {
            write!(f, "; Path={path}")?;
        }
        if let Some(domain) = &self.domain {
            write!(f, "; Domain={domain}")?;
        }
        if let Some(max_age) = self.max_age {
            write!(f, "; Max-Age={}", max_age.as_secs())?;
        }
        if let Some(expires) = self.expires {
            write!(f, "; Expires={}", HttpDate::from(expires))?;
        }
        if self.secure {
            f.write_str("; Secure")?;
        }
        if self.http_only {
            f.write_str("; HttpOnly")?;
        }
        match self.same_site {
            Some(SameSite::Strict) => f.write_str("; SameSite=Strict")?,
            Some(SameSite::Lax) => f.write_str("; SameSite=Lax")?,
            Some(SameSite::None) => f.write_str("; SameSite=None")?,
            None => {}
        }
        if self.partitioned { f.write_str("; Partitioned") } else { Ok(()) }
    }
}

impl Response {
    /// Sets a cookie, beside those that the response sets already.
    ///
    /// A cookie that user agents would refuse or misread spoils the response, as a header does that could split it: the
    /// client gets a plain 500 and the log says why, without the value. That is: a name that is no token; a value, path or
    /// domain with characters that they cannot have (`;`, control characters, in the value also spaces, commas, quotes,
    /// backslashes and all that is not ASCII: encode those); one that is too long; a prefix `__Secure-`, `__Host-`, `__Http-` or
    /// `__Host-Http-` without what it promises; `SameSite=None` or `Partitioned` without `Secure`.
    #[must_use]
    pub fn with_cookie(self, cookie: Cookie) -> Response {
        match cookie.fault() {
            None => self.with_added_header("Set-Cookie", cookie.to_string()),
            Some(fault) => self.refuse(&format!("the cookie {:?}: {fault}", cookie.name)),
        }
    }
}

impl Request<'_> {
    /// The cookies of the request, names and values as they were sent: nothing is decoded, but the quotes around a value
    /// are left out.
    ///
    /// What is malformed is skipped and costs the others nothing: a pair without `=` or without a name, and one that is
    /// not UTF-8 (RFC 6265 §5.2 has user agents forgive more than §4.1 allows them).
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers()
            .filter(|(name, _)| name.eq_ignore_ascii_case("Cookie"))
            .flat_map(|(_, value)| value.split(|&byte| byte == b';'))
            .filter_map(|pair| pair_of(std::str::from_utf8(pair).ok()?))
    }

    /// The value of the first cookie with this name; case matters. User agents send the one with the longest path first.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

fn pair_of(pair: &str) -> Option<(&str, &str)> {
    let (name, value) = pair.split_once('=')?;
    let (name, value) = (name.trim_matches([' ', '\t']), value.trim_matches([' ', '\t']));
    let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    (!name.is_empty()).then_some((name, unquoted.unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClient;

    /// The `Set-Cookie` fields of a response that sets this cookie; `None` where it is refused.
    fn set(cookie: Cookie) -> Option<String> {
        let response = Response::text("x").with_cookie(cookie);
        response.fault().is_none().then(|| response.header("Set-Cookie").expect("it is set").to_owned())
    }

    #[test]
    fn attributes_are_written_as_they_were_asked_for() {
        assert_eq!(set(Cookie::new("a", "b")).as_deref(), Some("a=b"));
        assert_eq!(set(Cookie::new("a", "")).as_deref(), Some("a="));
        let all = Cookie::new("__Secure-a", String::from("b=/+~"))
            .path("/x y")
            .domain("example.org")
            .max_age(Duration::from_millis(1999))
            .expires(UNIX_EPOCH + Duration::from_secs(784_111_777))
            .secure()
            .http_only()
            .same_site(SameSite::None)
            .partitioned();
        assert_eq!(
            set(all).as_deref(),
            Some(
                "__Secure-a=b=/+~; Path=/x y; Domain=example.org; Max-Age=1; Expires=Sun, 06 Nov 1994 08:49:37 GMT; \
                 Secure; HttpOnly; SameSite=None; Partitioned"
            )
        );
        for (same_site, text) in [(SameSite::Strict, "Strict"), (SameSite::Lax, "Lax")] {
            assert_eq!(
                set(Cookie::new("a", "b").same_site(same_site)),
                Some(format!("a=b; SameSite={text}"))
            );
        }
    }

    #[test]
    fn a_removal_is_over_already() {
        assert_eq!(
            set(Cookie::removal("a").path("/")).as_deref(),
            Some("a=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
        );
    }

    #[test]
    fn several_cookies_stand_beside_each_other() {
        let client = TestClient::new(|_: &mut Request<'_>| {
            Response::text("").with_cookie(Cookie::new("a", "1")).with_cookie(Cookie::new("b", "2"))
        });
        let response = client.get("/").send();
        assert_eq!(response.header_values("set-cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);
    }

    #[test]
    fn what_could_split_a_response_or_a_cookie_is_refused() {
        for byte in (0..=255u8).filter(|&byte| !is_cookie_octet(byte)) {
            let value = format!("a{}b", char::from(byte));
            assert_eq!(set(Cookie::new("a", value)), None, "{byte:#x}");
        }
        for text in ["a\r\nSet-Cookie: b=c", "a;b", "a\0", "a\n", "\u{e9}", "a\x7f", "a\tb"] {
            assert_eq!(set(Cookie::new("a", String::from(text))), None, "{text:?} as a value");
            assert_eq!(set(Cookie::new(String::from(text), "a")), None, "{text:?} as a name");
            assert_eq!(set(Cookie::new("a", "b").path(format!("/{text}"))), None, "{text:?} as a path");
            assert_eq!(set(Cookie::new("a", "b").domain(String::from(text))), None, "{text:?} as a domain");
        }
        for name in ["", "a b", "a=b", "a,b", "\"a\""] {
            assert_eq!(set(Cookie::new(name, "b")), None, "{name:?}");
        }
        assert_eq!(set(Cookie::new("a", "b").path("")), None);
        assert_eq!(set(Cookie::new("a", "b").domain("")), None);
    }

    #[test]
    fn what_user_agents_would_drop_is_refused() {
        let long = |count| "x".repeat(count);
        assert!(set(Cookie::new("a", long(4095))).is_some());
        assert_eq!(set(Cookie::new("a", long(4096))), None);
        assert_eq!(set(Cookie::new("a", "b").path(format!("/{}", long(1024)))), None);
        let last = UNIX_EPOCH + DATES_END - Duration::from_secs(1);
        assert_eq!(
            set(Cookie::new("a", "b").expires(last)).as_deref(),
            Some("a=b; Expires=Fri, 31 Dec 9999 23:59:59 GMT")
        );
        assert_eq!(set(Cookie::new("a", "b").expires(UNIX_EPOCH + DATES_END)), None);
        assert_eq!(set(Cookie::new("a", "b").expires(UNIX_EPOCH - Duration::from_secs(1))), None);
        assert_eq!(set(Cookie::new("a", "b").same_site(SameSite::None)), None);
        assert_eq!(set(Cookie::new("a", "b").partitioned()), None);
    }

    #[test]
    fn prefixes_keep_their_promises() {
        for name in ["__Host-a", "__HOST-a"] {
            assert!(set(Cookie::new(name, "b").path("/").secure()).is_some());
            assert_eq!(set(Cookie::new(name, "b").path("/")), None, "no Secure");
            assert_eq!(set(Cookie::new(name, "b").secure()), None, "no path");
            assert_eq!(set(Cookie::new(name, "b").secure().path("/x")), None, "another path");
            assert_eq!(
                set(Cookie::new(name, "b").secure().path("/").domain("example.org")),
                None,
                "a domain"
            );
        }
        for name in ["__Secure-a", "__secure-a"] {
            assert!(set(Cookie::new(name, "b").secure().domain("example.org")).is_some());
            assert_eq!(set(Cookie::new(name, "b")), None);
        }
        for name in ["__Http-a", "__HTTP-a", "__Host-Http-a", "__host-http-a"] {
            let cookie = || Cookie::new(name, "b").path("/");
            assert!(set(cookie().secure().http_only()).is_some(), "{name}");
            assert_eq!(set(cookie().secure()), None, "{name}: no HttpOnly");
            assert_eq!(set(cookie().http_only()), None, "{name}: no Secure");
            let elsewhere = set(Cookie::new(name, "b").secure().http_only().path("/x"));
            assert_eq!(
                elsewhere.is_some(),
                !name.eq_ignore_ascii_case("__Host-Http-a"),
                "{name}: another path"
            );
        }
    }

    #[test]
    fn a_refused_cookie_is_a_500_and_its_value_is_told_to_nobody() {
        let response = Response::text("x").with_cookie(Cookie::new("token", "se cret"));
        let fault = response.fault().expect("it is refused");
        assert!(fault.contains("token") && !fault.contains("cret"), "{fault}");
        let client =
            TestClient::new(|_: &mut Request<'_>| Response::text("").with_cookie(Cookie::new("a", "b;c")));
        assert_eq!(client.get("/").send().status().code(), 500);
    }

    #[test]
    fn cookies_of_a_request_are_read_leniently_and_in_their_order() {
        for (fields, expected) in [
            (&["a=b"][..], "[(\"a\", \"b\")]"),
            (&["a=b; c=d"], "[(\"a\", \"b\"), (\"c\", \"d\")]"),
            (&["a=b;c=d;", "e=f"], "[(\"a\", \"b\"), (\"c\", \"d\"), (\"e\", \"f\")]"),
            (&[" a = b c ;;\tA=\"q\" ; ;"], "[(\"a\", \"b c\"), (\"A\", \"q\")]"),
            (&["a=b=c; a=; a"], "[(\"a\", \"b=c\"), (\"a\", \"\")]"),
            (&["none; =x; =__Host-a=x; a=\""], "[(\"a\", \"\\\"\")]"),
            (&["a=%41,b=c"], "[(\"a\", \"%41,b=c\")]"),
            (&[], "[]"),
        ] {
            let client = TestClient::new(|request: &mut Request<'_>| {
                format!("{:?}", request.cookies().collect::<Vec<_>>())
            });
            let request =
                fields.iter().fold(client.get("/"), |request, field| request.added_header("Cookie", field));
            assert_eq!(request.send().text(), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_name_whatever_else_is_there() {
        let client =
            TestClient::new(|request: &mut Request<'_>| request.cookie("a").unwrap_or("none").to_owned());
        let found = |field: &[u8]| client.get("/").header("cookie", field).send().text().to_owned();
        assert_eq!(found(b"A=0; b=\xff; a=1; a=2"), "1");
        assert_eq!(found(b"aa=1; xa=2"), "none");
        let all: Vec<u8> = (0..=255).filter(|byte| !matches!(byte, 0..0x20 | 0x7f | b';' | b'=')).collect();
        assert_eq!(found(&[&all, &b"=x; a=1"[..]].concat()), "1");
    }
}
