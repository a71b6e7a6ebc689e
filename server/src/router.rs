//! From method and path to a handler: a tree by segments of the path.
//!
//! ```text
//! /                 literal segments are tried first, then {param}, then {rest...};
//! ├─ users ─ {id}   a branch that fails is left again, so /users/new and /users/{id}
//! └─ {rest...}      live together. The first pattern that fits decides, whatever its methods.
//! ```
//! A pattern without parameters that is the path as it stands is what the tree would find first, so those are looked at
//! before, as a whole: that is what most requests are for.
//!
//! Finding a route allocates nothing, except for a segment with percent escapes that no literal matches as it stands.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::file::IntoFiles;
use crate::handler::Handler;
use crate::message::{Method, Status};
use crate::middleware::{Middleware, Shared};
use crate::pattern::{self, Segment};
use crate::percent;
use crate::request::{ParamValues, Request};
use crate::response::Response;

/// A handler that chooses among handlers by method and path.
///
/// # Patterns
/// They begin with `/`. A segment `{name}` matches any one segment that is not empty; a last segment `{name...}`
/// matches all that is left, slashes included, or nothing. Both are read by [`Request::param`]. What looks like a parameter of another
/// framework (`:name`, `*name`, `<name>`, `{name:pattern}`), or like a query, is malformed. All else matches
/// itself, percent-encoded or not. A trailing slash matters. Which pattern fits is decided by the text of the path alone:
/// a parameter that does not parse as what the handler wants is a 400 of that handler's, not a 404, and no other route
/// is tried. (So `/users/{id}` asked for `/users/x` says that `x` is no id, not that there are no users.) A handler that finds the
/// text well-formed and knows nothing of that name answers 404 itself ([`Error::not_found`](crate::Error::not_found)).
///
/// # What no route answers
/// No pattern fits, or one of [`files`](Router::files) and there is no such file: 404, or the
/// [`fallback`](Router::fallback). The pattern has other methods: 405 with `Allow`, whose
/// content [`method_not_allowed`](Router::method_not_allowed) may replace. `HEAD` is answered by the `GET` handler
/// unless it has its own, `OPTIONS` by a 204 with `Allow`.
///
/// # Groups
/// [`nest`](Router::nest) puts the routes of a router below a prefix, [`mount`](Router::mount) any handler;
/// [`wrap`](Router::wrap) puts a middleware around the routes that are there so far. A middleware around one route is
/// [`Handler::with`], and so is one around the whole router, what it does not find included; that comes last, since what it
/// gives is a handler and no router any more.
///
/// ```
/// use bast_server::middleware::BearerAuth;
/// use bast_server::{Error, Request, Response, Router};
///
/// let api = Router::new()
///     .get("/users/{id}", user)
///     .wrap(BearerAuth::new("api", |token| bast_server::middleware::is_same_secret(token, "open sesame")));
/// let app = Router::new()
///     .get("/", |_: &mut Request| Response::text("hello"))
///     .nest("/api", api);
///
/// fn user(req: &mut Request) -> Result<Response, Error> {
///     let id: u64 = req.param("id")?;
///     Ok(Response::text(format!("user {id}")))
/// }
/// # let _ = app;
/// ```
#[derive(Default)]
pub struct Router {
    root: Node,
    /// Where patterns end; nodes and `fixed` know them by their index.
    endpoints: Vec<Endpoint>,
    /// The patterns without parameters, sorted.
    fixed: Vec<(Box<[u8]>, usize)>,
    /// What answers where no route does, in the order in which they are tried.
    fallbacks: Vec<Fallback>,
    /// The first directory that could not be opened, kept for `prepare`.
    fault: Option<io::Error>,
}

/// What follows one more segment.
#[derive(Default)]
struct Node {
    /// Sorted by segment.
    literals: Vec<(Box<[u8]>, Node)>,
    param: Option<Box<Node>>,
    rest: Option<usize>,
    endpoint: Option<usize>,
}

/// Where a pattern ends.
#[derive(Default)]
struct Endpoint {
    /// That of GET first.
    routes: Vec<Route>,
}

struct Route {
    /// `None` is for every method.
    method: Option<Method<'static>>,
    handler: Arc<dyn Handler>,
    /// As it was given; routes of one shape may name their parameters differently.
    pattern: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    /// It has parameters, which are kept for the handler.
    WithParams,
    /// A handler with all paths below this prefix, and the prefix itself.
    Mount {
        prefix: &'static str,
    },
    /// The same with files: where none is found, no route has answered.
    Files {
        prefix: &'static str,
    },
}

/// What answers below a prefix where no route does.
struct Fallback {
    prefix: &'static str,
    when: When,
    handler: Arc<dyn Handler>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    NoPattern,
    OtherMethod,
}

impl Router {
    /// A router that answers everything by 404.
    #[must_use]
    pub fn new() -> Router {
        Router::default()
    }

    /// Answers `GET` (and `HEAD`) of this path.
    ///
    /// # Panics
    /// As [`route`](Router::route); so do its likes below.
    #[must_use]
    #[track_caller]
    pub fn get(self, pattern: &str, handler: impl Handler) -> Router {
        self.route(Method::Get, pattern, handler)
    }

    /// Answers `POST` of this path.
    #[must_use]
    #[track_caller]
    pub fn post(self, pattern: &str, handler: impl Handler) -> Router {
        self.route(Method::Post, pattern, handler)
    }

    /// Answers `PUT` of this path.
    #[must_use]
    #[track_caller]
    pub fn put(self, pattern: &str, handler: impl Handler) -> Router {
        self.route(Method::Put, pattern, handler)
    }

    /// Answers `PATCH` of this path.
    #[must_use]
    #[track_caller]
    pub fn patch(self, pattern: &str, handler: impl Handler) -> Router {
        self.route(Method::Patch, pattern, handler)
    }

    /// Answers `DELETE` of this path.
    #[must_use]
    #[track_caller]
    pub fn delete(self, pattern: &str, handler: impl Handler) -> Router {
        self.route(Method::Delete, pattern, handler)
    }

    /// Answers every method of this path that no other route answers.
    #[must_use]
    #[track_caller]
    pub fn any(mut self, pattern: &str, handler: impl Handler) -> Router {
        self.insert(None, pattern, Arc::new(handler));
        self
    }

    /// Answers `method` of this path.
    ///
    /// # Panics
    /// If the pattern is malformed or is there already. Routes are part of the program: a mistake in them shows when
    /// it starts, not when a client finds it.
    #[must_use]
    #[track_caller]
    pub fn route(mut self, method: Method<'static>, pattern: &str, handler: impl Handler) -> Router {
        self.insert(Some(method), pattern, Arc::new(handler));
        self
    }

    /// Answers `GET` and `HEAD` of all paths below `prefix` that no other route answers, by the files below a directory: given by
    /// its path, or as [`Files`](crate::file::Files) that were set up; see there for what is served. A file that is not there is a 404, or the
    /// [`fallback`](Router::fallback); with [`Files::single_page`](crate::file::Files::single_page), paths that are no file's get the index.
    ///
    /// A directory that cannot be opened is an error of [`Server::serve`](crate::Server::serve).
    ///
    /// ```
    /// use bast_server::file::Files;
    /// use bast_server::{Request, Response, Router, Status};
    /// # fn main() -> std::io::Result<()> {
    /// let app = Router::new()
    ///     .get("/time", |_: &mut Request| "now")
    ///     .files("/static", Files::open(".")?.precompressed())
    ///     .files("/", ".")
    ///     .fallback(|_: &mut Request| Response::html("<h1>Not here</h1>").with_status(Status::NOT_FOUND));
    /// # let _ = app;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// As [`route`](Router::route), and if the prefix has parameters.
    #[must_use]
    #[track_caller]
    pub fn files(mut self, prefix: &str, files: impl IntoFiles) -> Router {
        match files.into_files() {
            Ok(files) => self.mount_as(prefix, Arc::new(files), |prefix| Kind::Files { prefix }),
            Err(error) => {
                self.fault.get_or_insert(error);
                self
            }
        }
    }

    /// Puts the routes and fallbacks of another router below a prefix, which may have parameters: `/users` of a router
    /// nested at `/api` is `/api/users`, and its `/` is `/api`.
    ///
    /// ```
    /// use bast_server::{Request, Router};
    /// let posts = Router::new().get("/", |_: &mut Request| "all").get("/{post}", |_: &mut Request| "one");
    /// let app = Router::new().nest("/users/{user}/posts", posts);
    /// assert_eq!(format!("{app:?}"), r#"Router {GET /users/{}/posts, GET /users/{}/posts/{}}"#);
    /// ```
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[must_use]
    #[track_caller]
    pub fn nest(mut self, prefix: &str, router: Router) -> Router {
        check_prefix(prefix);
        for route in router.endpoints.into_iter().flat_map(|endpoint| endpoint.routes) {
            let pattern = pattern::intern(&pattern::join(prefix, route.pattern));
            let kind = match route.kind {
                Kind::Mount { prefix: inner } => Kind::Mount { prefix: nested_mount(prefix, inner) },
                Kind::Files { prefix: inner } => Kind::Files { prefix: nested_mount(prefix, inner) },
                Kind::Plain | Kind::WithParams => kind_of(pattern),
            };
            self.insert_route(Route { pattern, kind, ..route });
        }
        for fallback in router.fallbacks {
            let prefix = pattern::intern(&pattern::join(prefix, fallback.prefix));
            self.insert_fallback(Fallback { prefix, ..fallback });
        }
        self.fault = self.fault.or(router.fault);
        self
    }

    /// Adds the routes and fallbacks of another router: [`nest`](Router::nest) without a prefix.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[must_use]
    #[track_caller]
    pub fn merge(self, router: Router) -> Router {
        self.nest("/", router)
    }

    /// Answers every method of `prefix` and of all paths below it that no other route answers, by one handler, which sees the
    /// rest of the path as [`Request::subpath`]. A router that is mounted looks for its routes there.
    ///
    /// For a router, [`nest`](Router::nest) is better, because it shows conflicts and finds routes in one step; this is for one
    /// that is inside of a middleware, and for all other handlers.
    ///
    /// ```
    /// use bast_server::{Handler, Next, Request, Router};
    /// let inner = Router::new().get("/status", |_: &mut Request| "well");
    /// let app = Router::new()
    ///     .mount("/machine", inner.with(|request: &mut Request, next: Next| next.run(request)))
    ///     .mount("/echo", |request: &mut Request| request.subpath().to_owned());
    /// # let _ = app;
    /// ```
    ///
    /// # Panics
    /// As [`route`](Router::route), and if the prefix has parameters.
    #[must_use]
    #[track_caller]
    pub fn mount(self, prefix: &str, handler: impl Handler) -> Router {
        self.mount_as(prefix, Arc::new(handler), |prefix| Kind::Mount { prefix })
    }

    #[track_caller]
    fn mount_as(mut self, prefix: &str, handler: Arc<dyn Handler>, kind: fn(&'static str) -> Kind) -> Router {
        check_prefix(prefix);
        check_mount(prefix);
        let prefix = pattern::intern(prefix.trim_end_matches('/'));
        let below = pattern::intern(&format!("{prefix}/{{...}}"));
        let kind = kind(prefix);
        if !prefix.is_empty() {
            let handler = Arc::clone(&handler);
            self.insert_route(Route { method: None, handler, pattern: prefix, kind });
        }
        self.insert_route(Route { method: None, handler, pattern: below, kind });
        self
    }

    /// Puts a middleware around each route that is there so far, and around no other: not around a 404, so that
    /// authentication for a group says nothing of paths that are nobody's. `router.with(middleware)` is around all.
    #[must_use]
    pub fn wrap(mut self, middleware: impl Middleware) -> Router {
        let middleware = Arc::new(middleware);
        for route in self.endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.routes) {
            let inner = Inner(Arc::clone(&route.handler));
            route.handler = Arc::new(inner.with(Shared(Arc::clone(&middleware))));
        }
        self
    }

    /// Answers where no pattern fits, and where [`files`](Router::files) have no such file, in place of the 404; the status is the handler's own affair. That of a nested router is for
    /// the paths below its prefix, and comes before files of a shorter one; else that of the outer one counts.
    ///
    /// ```
    /// use bast_server::{Request, Response, Router, Status};
    /// let app = Router::new().fallback(|request: &mut Request| {
    ///     Response::html("<h1>Nothing is here</h1>").with_status(Status::NOT_FOUND)
    /// });
    /// # let _ = app;
    /// ```
    ///
    /// # Panics
    /// If there is one already.
    #[must_use]
    #[track_caller]
    pub fn fallback(mut self, handler: impl Handler) -> Router {
        self.insert_fallback(Fallback { prefix: "", when: When::NoPattern, handler: Arc::new(handler) });
        self
    }

    /// Answers where the pattern has no route for the method. The response is sent as a 405 with `Allow`, whatever its
    /// status was.
    ///
    /// # Panics
    /// If there is one already.
    #[must_use]
    #[track_caller]
    pub fn method_not_allowed(mut self, handler: impl Handler) -> Router {
        self.insert_fallback(Fallback { prefix: "", when: When::OtherMethod, handler: Arc::new(handler) });
        self
    }

    #[track_caller]
    fn insert(&mut self, method: Option<Method<'static>>, pattern: &str, handler: Arc<dyn Handler>) {
        let pattern = pattern::intern(pattern);
        assert!(!pattern.contains("{...}"), "route {pattern:?} has a malformed parameter");
        self.insert_route(Route { method, handler, pattern, kind: kind_of(pattern) });
    }

    #[track_caller]
    fn insert_route(&mut self, route: Route) {
        let pattern = route.pattern;
        let mut node = &mut self.root;
        let mut is_rest = false;
        for segment in pattern::segments(pattern) {
            match segment {
                Segment::Literal(text) => node = node.literal_mut(text.as_bytes()),
                Segment::Param(_) => node = node.param.get_or_insert_default(),
                Segment::Rest(_) => is_rest = true,
            }
        }
        let index = *if is_rest { &mut node.rest } else { &mut node.endpoint }.get_or_insert_with(|| {
            self.endpoints.push(Endpoint::default());
            self.endpoints.len() - 1
        });
        if !pattern.contains('{')
            && let Err(place) = self.fixed.binary_search_by(|(known, _)| (**known).cmp(pattern.as_bytes()))
        {
            self.fixed.insert(place, (pattern.as_bytes().into(), index));
        }
        let endpoint = &mut self.endpoints[index];
        if let Some(known) = endpoint.routes.iter().find(|known| known.method == route.method) {
            let method = route.method.map_or("any method", |method| method.as_str());
            panic!(
                "route {pattern:?} is there twice for {method}: it matches what {:?} matches",
                known.pattern
            );
        }
        let place = if route.method == Some(Method::Get) { 0 } else { endpoint.routes.len() };
        endpoint.routes.insert(place, route);
    }

    #[track_caller]
    fn insert_fallback(&mut self, fallback: Fallback) {
        let is_same = |known: &Fallback| known.prefix == fallback.prefix && known.when == fallback.when;
        assert!(!self.fallbacks.iter().any(is_same), "there are two fallbacks below {:?}", fallback.prefix);
        // As routes are tried: the deeper ones first, and of one depth literal segments before parameters.
        let rank = |prefix: &str| {
            let are_params: Vec<bool> = prefix.split('/').map(|segment| segment.starts_with('{')).collect();
            (Reverse(are_params.len()), are_params)
        };
        let behind = |known: &Fallback| rank(known.prefix) > rank(fallback.prefix);
        let place = self.fallbacks.iter().position(behind).unwrap_or(self.fallbacks.len());
        self.fallbacks.insert(place, fallback);
    }
}

fn kind_of(pattern: &str) -> Kind {
    if pattern.contains('{') { Kind::WithParams } else { Kind::Plain }
}

#[track_caller]
fn check_prefix(prefix: &str) {
    assert!(prefix.starts_with('/'), "prefix {prefix:?} does not begin with a slash");
    assert!(!prefix.contains("...}"), "prefix {prefix:?} has a {{...}}");
}

/// A router in a mount keeps its own parameters only.
#[track_caller]
fn check_mount(prefix: &str) {
    assert!(!prefix.contains('{'), "mount {prefix:?} has a parameter");
}

/// The prefix of a mount in a router that is nested.
#[track_caller]
fn nested_mount(prefix: &str, inner: &str) -> &'static str {
    check_mount(prefix);
    pattern::intern(&pattern::join(prefix, inner))
}

/// A route's handler, inside of a middleware.
struct Inner(Arc<dyn Handler>);

impl Handler for Inner {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        self.0.handle(request)
    }

    fn prepare(&self) -> io::Result<()> {
        self.0.prepare()
    }
}

impl Handler for Router {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        let at = request.mount_at();
        if let Some(&index) = lookup(&self.fixed, &request.path_bytes()[at..]) {
            let endpoint = &self.endpoints[index];
            let Some(route) = endpoint.route(request.method()) else {
                return self.other_method(endpoint, request);
            };
            request.set_route(route.pattern);
            return match route.kind {
                Kind::Plain | Kind::WithParams => route.handler.handle(request),
                Kind::Mount { prefix } | Kind::Files { prefix } => {
                    let end = request.path_bytes().len();
                    self.handle_mounted(route, prefix, request, end)
                }
            };
        }
        self.handle_by_tree(request)
    }

    fn prepare(&self) -> io::Result<()> {
        if let Some(error) = &self.fault {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        let mut routes = self.endpoints.iter().flat_map(|endpoint| &endpoint.routes);
        routes.try_for_each(|route| route.handler.prepare())?;
        self.fallbacks.iter().try_for_each(|fallback| fallback.handler.prepare())
    }
}

impl Router {
    /// The same for a path that is no pattern as it stands.
    #[inline(never)]
    fn handle_by_tree(&self, request: &mut Request<'_>) -> Response {
        let mut values = ParamValues::default();
        let (path, at) = (request.path_bytes(), request.mount_at());
        let found = match path.get(at) {
            Some(b'/') => self.root.find(path, Some(at + 1), 0, &mut values),
            // At a mount itself: its root, at which nothing is left of the path.
            None => self.root.literal(b"").and_then(|root| root.endpoint).or(self.root.rest).inspect(|_| {
                values[0] = range(path.len(), path.len());
            }),
            Some(_) => None,
        };
        let Some(index) = found else {
            return self.no_pattern(request);
        };
        let endpoint = &self.endpoints[index];
        let Some(route) = endpoint.route(request.method()) else {
            return self.other_method(endpoint, request);
        };
        let end = path.len();
        request.set_route(route.pattern);
        match route.kind {
            Kind::Plain => route.handler.handle(request),
            Kind::WithParams => {
                request.set_params(values);
                route.handler.handle(request)
            }
            Kind::Mount { prefix } | Kind::Files { prefix } => {
                // The slash that begins what is left belongs to it.
                let end = if route.is_rest() { at.max(values[0].0 as usize - 1) } else { end };
                self.handle_mounted(route, prefix, request, end)
            }
        }
    }

    /// Runs the handler of a mount whose prefix ends at `end` of the path.
    fn handle_mounted(
        &self,
        route: &Route,
        prefix: &'static str,
        request: &mut Request<'_>,
        end: usize,
    ) -> Response {
        let fallback = match route.kind {
            Kind::Files { .. } => self.find_fallback(When::NoPattern, request),
            Kind::Plain | Kind::WithParams | Kind::Mount { .. } => None,
        };
        let Some(fallback) = fallback else {
            return request.within_mount(prefix, end, |request| route.handler.handle(request));
        };
        if depth(fallback.prefix) > depth(prefix) {
            return fallback.handler.handle(request);
        }
        let response = request.within_mount(prefix, end, |request| route.handler.handle(request));
        if response.status() == Status::NOT_FOUND { fallback.handler.handle(request) } else { response }
    }

    #[cold]
    fn no_pattern(&self, request: &mut Request<'_>) -> Response {
        if request.path() == "*" {
            // `OPTIONS *` asks about the server as a whole (RFC 9110 §9.3.7).
            return Response::new(Status::NO_CONTENT);
        }
        match self.find_fallback(When::NoPattern, request) {
            Some(fallback) => fallback.handler.handle(request),
            None => Response::text("404 Not Found\n").with_status(Status::NOT_FOUND),
        }
    }

    #[cold]
    fn other_method(&self, endpoint: &Endpoint, request: &mut Request<'_>) -> Response {
        let response = if request.method() == Method::Options {
            Response::new(Status::NO_CONTENT)
        } else {
            match self.find_fallback(When::OtherMethod, request) {
                Some(fallback) => fallback.handler.handle(request),
                None => Response::text("405 Method Not Allowed\n"),
            }
            .with_status(Status::METHOD_NOT_ALLOWED)
        };
        response.with_header("Allow", endpoint.allowed())
    }

    /// What answers in place of a route: that of the longest prefix.
    fn find_fallback(&self, when: When, request: &Request<'_>) -> Option<&Fallback> {
        let path = request.subpath();
        self.fallbacks.iter().find(|fallback| fallback.when == when && is_below(path, fallback.prefix))
    }
}

/// How many segments a prefix has, more or less: only for comparisons.
fn depth(prefix: &str) -> usize {
    prefix.split('/').count()
}

/// Does the path begin with the segments of this prefix?
fn is_below(path: &str, prefix: &str) -> bool {
    let mut segments = path.split('/');
    prefix.split('/').all(|wanted| match segments.next() {
        Some(segment) if wanted.starts_with('{') => !segment.is_empty(),
        Some(segment) => {
            segment == wanted || percent::decode(segment).is_some_and(|segment| segment == wanted)
        }
        None => false,
    })
}

/// Up to so many entries are looked at one after the other, which beats a binary search there.
const SCANNED_MAX: usize = 16;

/// What a sorted list has for this text.
#[inline]
fn lookup<'l, T>(list: &'l [(Box<[u8]>, T)], text: &[u8]) -> Option<&'l T> {
    if list.len() <= SCANNED_MAX {
        // The lengths sort out nearly all.
        return list.iter().find(|(known, _)| **known == *text).map(|(_, value)| value);
    }
    lookup_sorted(list, text)
}

#[inline(never)]
fn lookup_sorted<'l, T>(list: &'l [(Box<[u8]>, T)], text: &[u8]) -> Option<&'l T> {
    let index = list.binary_search_by(|(known, _)| (**known).cmp(text)).ok()?;
    Some(&list[index].1)
}

impl Node {
    fn literal_mut(&mut self, segment: &[u8]) -> &mut Node {
        let index = match self.literals.binary_search_by(|(known, _)| (**known).cmp(segment)) {
            Ok(index) => index,
            Err(index) => {
                self.literals.insert(index, (segment.into(), Node::default()));
                index
            }
        };
        &mut self.literals[index].1
    }

    fn literal(&self, segment: &[u8]) -> Option<&Node> {
        lookup(&self.literals, segment).or_else(|| {
            let text = std::str::from_utf8(segment).ok().filter(|text| text.contains('%'))?;
            lookup(&self.literals, percent::decode(text)?.as_bytes())
        })
    }

    /// The endpoint for what begins at `at` of `path`; `None` there means that the path has ended. `depth` parameters
    /// were found before.
    fn find(&self, path: &[u8], at: Option<usize>, depth: usize, params: &mut ParamValues) -> Option<usize> {
        let Some(at) = at else { return self.endpoint };
        let end = path[at..].iter().position(|&b| b == b'/').map_or(path.len(), |slash| at + slash);
        let next = (end < path.len()).then_some(end + 1);
        let segment = &path[at..end];
        if let Some(node) = self.literal(segment) {
            let found = if next.is_none() { node.endpoint } else { node.find(path, next, depth, params) };
            if found.is_some() {
                return found;
            }
        }
        if let Some(node) = self.param.as_ref().filter(|_| !segment.is_empty()) {
            params[depth] = range(at, end);
            if let Some(found) = node.find(path, next, depth + 1, params) {
                return Some(found);
            }
        }
        let rest = self.rest?;
        params[depth] = range(at, path.len());
        Some(rest)
    }
}

/// Offsets within a path, which the limit on request lines keeps far below 4 GiB.
fn range(from: usize, to: usize) -> (u32, u32) {
    let narrow = |offset| u32::try_from(offset).expect("router: a path beyond 4 GiB");
    (narrow(from), narrow(to))
}

impl Route {
    fn is_rest(&self) -> bool {
        self.pattern.ends_with("...}")
    }
}

impl Endpoint {
    #[inline]
    fn route(&self, method: Method<'_>) -> Option<&Route> {
        // Nearly all requests are of one method, whose route is kept first: told from others without comparing names.
        match self.routes.first() {
            found @ Some(Route { method: Some(Method::Get), .. }) if matches!(method, Method::Get) => found,
            _ => self.route_of_another(method),
        }
    }

    #[inline(never)]
    fn route_of_another(&self, method: Method<'_>) -> Option<&Route> {
        let of = |wanted: Option<Method<'_>>| self.routes.iter().find(|route| route.method == wanted);
        of(Some(method))
            .or_else(|| of(Some(Method::Get)).filter(|_| method == Method::Head))
            .or_else(|| of(None))
    }

    /// The value of `Allow`.
    fn allowed(&self) -> String {
        let mut allowed: Vec<&str> =
            self.routes.iter().filter_map(|route| route.method).map(|m| m.as_str()).collect();
        if allowed.contains(&"GET") && !allowed.contains(&"HEAD") {
            allowed.push("HEAD");
        }
        allowed.push("OPTIONS");
        allowed.join(", ")
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list(router: &Router, node: &Node, path: &str, entries: &mut fmt::DebugSet<'_, '_>) {
            for (suffix, endpoint) in [("", &node.endpoint), ("/{...}", &node.rest)] {
                for route in endpoint.iter().flat_map(|&index| &router.endpoints[index].routes) {
                    let method = route.method.map_or("*", |method| method.as_str());
                    entries.entry(&format_args!("{method} {path}{suffix}"));
                }
            }
            for (segment, child) in &node.literals {
                list(router, child, &format!("{path}/{}", segment.escape_ascii()), entries);
            }
            if let Some(child) = &node.param {
                list(router, child, &format!("{path}/{{}}"), entries);
            }
        }
        f.write_str("Router ")?;
        let mut entries = f.debug_set();
        list(self, &self.root, "", &mut entries);
        entries.finish()
    }
}

#[cfg(test)]
mod tests;
