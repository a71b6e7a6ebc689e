//! Who is asking? Basic (RFC 7617) and bearer (RFC 6750) credentials, checked before the handler runs.
#![forbid(unsafe_code)]

use std::fmt;
use std::hint::black_box;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Middleware, Next};
use crate::message::Status;
use crate::request::Request;
use crate::response::Response;

/// Lets in who has a name and a password that the program's function accepts; all others get a 401 and the handler does
/// not run.
///
/// The function may block, say for a database. Names and passwords are compared by [`is_same_secret`], or by what checks hashes of
/// passwords. Credentials travel in clear, so they need TLS in front. The accepted name is kept as a [`User`] in
/// the request's [extensions](Request::extensions), where handlers and the access log find it.
///
/// ```
/// use bast_server::middleware::{BasicAuth, User, is_same_secret};
/// use bast_server::{Handler, Request, Router};
///
/// let secret = |request: &mut Request| match request.extensions().get::<User>() {
///     Some(user) => format!("hello, {user}"),
///     None => "hello, whoever".to_owned(),
/// };
/// let guard = BasicAuth::new("the cellar", |user, password| user == "ada" && is_same_secret(password, "engine"));
/// let app = Router::new().get("/", |_: &mut Request| "hello").get("/secret", secret.with(guard));
/// # let _ = app;
/// ```
pub struct BasicAuth<F> {
    challenge: String,
    check: F,
}

impl<F: Fn(&str, &str) -> bool + Send + Sync + 'static> BasicAuth<F> {
    /// Asks `check` about the name and the password. The realm is shown by browsers, and tells them where else the
    /// same credentials count.
    ///
    /// # Panics
    /// If the realm has a control character or one beyond ASCII in it.
    #[must_use]
    pub fn new(realm: &str, check: F) -> BasicAuth<F> {
        BasicAuth { challenge: format!("Basic realm={}, charset=\"UTF-8\"", quoted(realm)), check }
    }
}

impl<F: Fn(&str, &str) -> bool + Send + Sync + 'static> Middleware for BasicAuth<F> {
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        let credentials = credentials(request, "Basic").and_then(basic);
        let accepted =
            credentials.and_then(|(user, password)| (self.check)(&user, &password).then_some(user));
        let Some(user) = accepted else { return unauthorized(&self.challenge) };
        request.extensions_mut().insert(User(user.into()));
        next.run(request)
    }
}

impl<F> fmt::Debug for BasicAuth<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth").field("challenge", &self.challenge).finish_non_exhaustive()
    }
}

/// Lets in who has a token that the program's function accepts; all others get a 401 and the handler does not run.
///
/// The function may block, and the token needs TLS in front, as with [`BasicAuth`]. It says `true` or `false`, or, where it knows
/// whose token it is, a [`User`] or `None`: then handlers and the access log find the name in the request's
/// [extensions](Request::extensions).
///
/// ```
/// use bast_server::middleware::{BearerAuth, User, is_same_secret};
/// use bast_server::{Handler, Request};
/// let api = |_: &mut Request| "data";
/// let open = api.with(BearerAuth::new("api", |token| is_same_secret(token, "open sesame")));
///
/// let tokens = [("ada", "engine"), ("grace", "nanosecond")];
/// let whose = move |token: &str| {
///     let (name, _) = tokens.iter().find(|(_, known)| is_same_secret(token, known))?;
///     Some(User::new(*name))
/// };
/// let named = api.with(BearerAuth::new("api", whose));
/// # let _ = (open, named);
/// ```
pub struct BearerAuth<F> {
    challenge: String,
    check: F,
}

/// What a function says of a token: `bool`, or `Option<User>` where it knows whose it is.
pub trait Verdict {
    /// Whether the token is accepted, and whose it is.
    fn accepts(self) -> (bool, Option<User>);
}

impl Verdict for bool {
    fn accepts(self) -> (bool, Option<User>) {
        (self, None)
    }
}

impl Verdict for Option<User> {
    fn accepts(self) -> (bool, Option<User>) {
        (self.is_some(), self)
    }
}

impl<F, V> BearerAuth<F>
where
    F: Fn(&str) -> V + Send + Sync + 'static,
    V: Verdict,
{
    /// Asks `check` about the token.
    ///
    /// # Panics
    /// If the realm has a control character or one beyond ASCII in it.
    #[must_use]
    pub fn new(realm: &str, check: F) -> BearerAuth<F> {
        BearerAuth { challenge: format!("Bearer realm={}", quoted(realm)), check }
    }
}

impl<F, V> Middleware for BearerAuth<F>
where
    F: Fn(&str) -> V + Send + Sync + 'static,
    V: Verdict,
{
    fn handle(&self, request: &mut Request<'_>, next: Next<'_>) -> Response {
        let token = credentials(request, "Bearer").filter(|token| is_token68(token));
        let (is_accepted, user) = token.map_or((false, None), |token| (self.check)(token).accepts());
        if !is_accepted {
            // RFC 6750 §3.1: who gave no token, or knows another scheme only, is not told what was wrong with it.
            return if request.headers().any(|(name, value)| is_of_scheme(name, value, "Bearer")) {
                unauthorized(&format!("{}, error=\"invalid_token\"", self.challenge))
            } else {
                unauthorized(&self.challenge)
            };
        }
        if let Some(user) = user {
            request.extensions_mut().insert(user);
        }
        next.run(request)
    }
}

impl<F> fmt::Debug for BearerAuth<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuth").field("challenge", &self.challenge).finish_non_exhaustive()
    }
}

/// The name that a request's credentials were accepted with, or whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User(Box<str>);

impl User {
    /// A name, for programs that find out by other means who is asking.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>) -> User {
        User(name.into())
    }

    /// The name as text. That of [`BasicAuth`] is the client's: any characters may be in it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Are they equal? The time it takes depends on their lengths alone, so that nobody finds a secret byte by byte by
/// measuring how long refusals take.
#[must_use]
pub fn is_same_secret(given: impl AsRef<[u8]>, secret: impl AsRef<[u8]>) -> bool {
    let (given, secret) = (given.as_ref(), secret.as_ref());
    let differences = given.iter().zip(secret).fold(0, |found, (a, b)| black_box(found | (a ^ b)));
    black_box(differences) == 0 && given.len() == secret.len()
}

/// The credentials of this scheme. Two fields are none: who reads the first and who reads the last would disagree.
fn credentials<'r>(request: &'r Request<'_>, scheme: &str) -> Option<&'r str> {
    let mut fields = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("Authorization"));
    let (_, value) = fields.next()?;
    if fields.next().is_some() {
        return None;
    }
    let (given, rest) = str::from_utf8(value).ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim_start_matches(' '))
}

/// Is this field one with credentials of the scheme, well-formed or not?
fn is_of_scheme(name: &str, value: &[u8], scheme: &str) -> bool {
    let given = value.split(|&byte| byte == b' ').next().unwrap_or_default();
    name.eq_ignore_ascii_case("Authorization") && given.eq_ignore_ascii_case(scheme.as_bytes())
}

/// The name and password of basic credentials.
fn basic(credentials: &str) -> Option<(String, String)> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let mut user = String::from_utf8(BASE64.decode(credentials).ok()?).ok()?;
    if user.contains(char::is_control) {
        return None; // RFC 7617 §2: in neither of them.
    }
    let password = user.split_off(user.find(':')?).split_off(1);
    Some((user, password))
}

/// The syntax of tokens (RFC 9110 §11.2).
fn is_token68(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

/// A quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "realm {text:?} is not plain ASCII");
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn unauthorized(challenge: &str) -> Response {
    Response::text("401 Unauthorized\n")
        .with_status(Status::UNAUTHORIZED)
        .with_header("WWW-Authenticate", challenge)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::handler::Handler;
    use crate::http1::serve::tests::codes;
    use crate::middleware::tests::{ask, field};

    /// The answer to a request with these fields, and how often the handler ran.
    fn with_fields(middleware: impl Middleware, fields: &str) -> (String, usize) {
        let runs = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&runs);
        let handler = move |request: &mut Request<'_>| {
            counter.fetch_add(1, Ordering::Relaxed);
            request.extensions().get::<User>().map_or("somebody".into(), ToString::to_string)
        };
        let output = ask(handler.with(middleware), &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        (output, runs.load(Ordering::Relaxed))
    }

    fn ada() -> impl Middleware {
        BasicAuth::new("the \"cellar\" \\ door", |user, password| {
            user == "Ada \u{e9}" && is_same_secret(password, "en:gine")
        })
    }

    fn encoded(text: impl AsRef<[u8]>) -> String {
        BASE64_STANDARD.encode(text)
    }

    #[test]
    fn who_is_not_known_gets_a_401_and_the_handler_does_not_run() {
        let good = encoded("Ada \u{e9}:en:gine");
        for fields in [
            String::new(),
            format!("Authorization: Basic {}\r\n", encoded("Ada \u{e9}:engine")),
            format!("Authorization: Basic {}\r\n", encoded("Ada \u{e9}")),
            format!("Authorization: Basic {}\r\n", encoded(":")),
            format!("Authorization: Basic {}\r\n", encoded(b"Ada \xe9:en:gine")),
            format!("Authorization: Basic {}\r\n", encoded("Ada \u{e9}\n:en:gine")),
            format!("Authorization: Basic {good}!\r\n"),
            format!("Authorization: Basic{good}\r\n"),
            format!("Authorization: Bearer {good}\r\n"),
            "Authorization: Basic\r\n".to_owned(),
            "Authorization: \u{e9} x\r\n".to_owned(),
            format!("Authorization: Basic {good}\r\nAuthorization: Basic {good}\r\n"),
        ] {
            let (output, runs) = with_fields(ada(), &fields);
            assert_eq!((codes(&output), runs), (vec![401], 0), "{fields:?}");
            assert_eq!(
                field(&output, "WWW-Authenticate"),
                Some(r#"Basic realm="the \"cellar\" \\ door", charset="UTF-8""#)
            );
        }
    }

    #[test]
    fn who_is_known_gets_in_and_is_known_by_name() {
        let good = encoded("Ada \u{e9}:en:gine");
        for credentials in [format!("Basic {good}"), format!("bASIC   {}", good.trim_end_matches('='))] {
            let (output, runs) = with_fields(ada(), &format!("Authorization: {credentials}\r\n"));
            assert_eq!((codes(&output), runs), (vec![200], 1), "{credentials:?}");
            assert!(output.ends_with("\r\n\r\nAda \u{e9}"), "{output}");
        }
    }

    #[test]
    fn a_token_that_is_wrong_is_told_from_one_that_is_missing() {
        let guard = || BearerAuth::new("api", |token| is_same_secret(token, "abc-._~+/=="));
        for (fields, code, challenge) in [
            ("", 401, Some("Bearer realm=\"api\"")),
            ("Authorization: Bearer wrong\r\n", 401, Some("Bearer realm=\"api\", error=\"invalid_token\"")),
            ("Authorization: Bearer a b\r\n", 401, Some("Bearer realm=\"api\", error=\"invalid_token\"")),
            ("Authorization: bearer\r\n", 401, Some("Bearer realm=\"api\", error=\"invalid_token\"")),
            (
                "Authorization: Bearer abc-._~+/==\r\nAuthorization: Bearer abc-._~+/==\r\n",
                401,
                Some("Bearer realm=\"api\", error=\"invalid_token\""),
            ),
            // Another scheme is none that was tried and failed.
            ("Authorization: Basic abc-._~+/==\r\n", 401, Some("Bearer realm=\"api\"")),
            ("Authorization: Bearers abc-._~+/==\r\n", 401, Some("Bearer realm=\"api\"")),
            ("Authorization: bearer abc-._~+/==\r\n", 200, None),
        ] {
            let (output, runs) = with_fields(guard(), fields);
            assert_eq!((codes(&output), runs), (vec![code], usize::from(code == 200)), "{fields:?}");
            assert_eq!(field(&output, "WWW-Authenticate"), challenge, "{fields:?}");
        }
    }

    #[test]
    fn whose_token_it_is_is_known_where_the_function_says_so() {
        let guard = || BearerAuth::new("api", |token| (token == "engine").then(|| User::new("ada")));
        for (token, code, end) in [("engine", 200, "\r\n\r\nada"), ("steam", 401, "401 Unauthorized\n")] {
            let (output, runs) = with_fields(guard(), &format!("Authorization: Bearer {token}\r\n"));
            assert_eq!((codes(&output), runs), (vec![code], usize::from(code == 200)), "{token}");
            assert!(output.ends_with(end), "{output}");
        }
        let nameless = BearerAuth::new("api", |token| token == "engine");
        let (output, _) = with_fields(nameless, "Authorization: Bearer engine\r\n");
        assert!(output.ends_with("\r\n\r\nsomebody"), "{output}");
    }

    #[test]
    fn secrets_are_the_same_or_not() {
        for (given, secret, same) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "b", false),
            ("a", "aa", false),
            ("aa", "a", false),
            ("", "a", false),
        ] {
            assert_eq!(is_same_secret(given, secret), same, "{given:?} {secret:?}");
        }
    }

    #[test]
    fn a_realm_that_could_split_a_field_shows_when_the_program_starts() {
        for realm in ["a\r\nb", "\u{e9}", "\u{7f}"] {
            let built = std::panic::catch_unwind(|| BasicAuth::new(realm, |_, _| true));
            assert!(built.is_err(), "{realm:?}");
        }
    }
}
