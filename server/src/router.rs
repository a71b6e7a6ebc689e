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

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::file::Files;
use crate::handler::Handler;
use crate::message::{Method, Status};
use crate::percent;
use crate::request::{PARAMS_MAX, Params, Request};
use crate::response::Response;

/// A handler that chooses among handlers by method and path.
///
/// Patterns begin with `/`. A segment `{name}` matches any one segment that is not empty; a last segment `{name...}`
/// matches all that is left, slashes included, or nothing. Both are read by [`Request::param`]. All else matches
/// itself, percent-encoded or not. A trailing slash matters.
///
/// No pattern fits: 404. The pattern has other methods: 405 with `Allow`. `HEAD` is answered by the `GET` handler
/// unless it has its own, `OPTIONS` by a 204 with `Allow`.
///
/// ```
/// use bast_server::{Error, Request, Response, Router};
///
/// let app = Router::new()
///     .get("/", |_: &mut Request| Response::text("hello"))
///     .get("/users/{id}", user);
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
    handler: Box<dyn Handler>,
    /// Routes of one shape may name their parameters differently.
    names: Option<Arc<[Box<str>]>>,
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
    pub fn get(self, pattern: &str, handler: impl Handler) -> Router {
        self.route(Method::Get, pattern, handler)
    }

    /// Answers `POST` of this path.
    #[must_use]
    pub fn post(self, pattern: &str, handler: impl Handler) -> Router {
        self.route(Method::Post, pattern, handler)
    }

    /// Answers `PUT` of this path.
    #[must_use]
    pub fn put(self, pattern: &str, handler: impl Handler) -> Router {
        self.route(Method::Put, pattern, handler)
    }

    /// Answers `PATCH` of this path.
    #[must_use]
    pub fn patch(self, pattern: &str, handler: impl Handler) -> Router {
        self.route(Method::Patch, pattern, handler)
    }

    /// Answers `DELETE` of this path.
    #[must_use]
    pub fn delete(self, pattern: &str, handler: impl Handler) -> Router {
        self.route(Method::Delete, pattern, handler)
    }

    /// Answers every method of this path that no other route answers.
    #[must_use]
    pub fn any(mut self, pattern: &str, handler: impl Handler) -> Router {
        self.insert(None, pattern, Box::new(handler));
        self
    }

    /// Answers `method` of this path.
    ///
    /// # Panics
    /// If the pattern is malformed or is there already. Routes are part of the program: a mistake in them shows when
    /// it starts, not when a client finds it.
    #[must_use]
    pub fn route(mut self, method: Method<'static>, pattern: &str, handler: impl Handler) -> Router {
        self.insert(Some(method), pattern, Box::new(handler));
        self
    }

    /// Answers `GET` and `HEAD` of all paths below `prefix` that no other route answers, by the files below the
    /// directory `root`. See [`Files`] for what is served.
    ///
    /// A directory that cannot be opened is an error of [`Server::serve`](crate::Server::serve).
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[must_use]
    pub fn files(mut self, prefix: &str, root: impl AsRef<Path>) -> Router {
        let pattern = format!("{}/{{file...}}", prefix.trim_end_matches('/'));
        match Files::open(root) {
            Ok(files) => self.any(&pattern, files.below(prefix)),
            Err(error) => {
                self.fault.get_or_insert(error);
                self
            }
        }
    }

    fn insert(&mut self, method: Option<Method<'static>>, pattern: &str, handler: Box<dyn Handler>) {
        let Some(path) = pattern.strip_prefix('/') else {
            panic!("route {pattern:?} does not begin with a slash")
        };
        let mut names: Vec<Box<str>> = Vec::new();
        let mut node = &mut self.root;
        let mut rest = false;
        for segment in path.split('/') {
            assert!(!rest, "route {pattern:?} goes on after {{...}}");
            match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                Some(name) => {
                    rest = name.ends_with("...");
                    let name = name.trim_end_matches("...");
                    assert!(
                        !name.is_empty() && !name.contains(['{', '}']),
                        "route {pattern:?} has a malformed parameter"
                    );
                    assert!(
                        names.iter().all(|known| **known != *name),
                        "route {pattern:?} names {name:?} twice"
                    );
                    names.push(name.into());
                    if !rest {
                        node = node.param.get_or_insert_default();
                    }
                }
                None => {
                    assert!(!segment.contains(['{', '}']), "route {pattern:?} has a brace within a segment");
                    node = node.literal_mut(segment.as_bytes());
                }
            }
        }
        assert!(names.len() <= PARAMS_MAX, "route {pattern:?} has more than {PARAMS_MAX} parameters");
        let index = *if rest { &mut node.rest } else { &mut node.endpoint }.get_or_insert_with(|| {
            self.endpoints.push(Endpoint::default());
            self.endpoints.len() - 1
        });
        if names.is_empty()
            && let Err(place) = self.fixed.binary_search_by(|(known, _)| (**known).cmp(pattern.as_bytes()))
        {
            self.fixed.insert(place, (pattern.as_bytes().into(), index));
        }
        let endpoint = &mut self.endpoints[index];
        assert!(
            endpoint.routes.iter().all(|route| route.method != method),
            "route {pattern:?} is there twice for one method"
        );
        let names = (!names.is_empty()).then(|| names.into());
        let place = if method == Some(Method::Get) { 0 } else { endpoint.routes.len() };
        endpoint.routes.insert(place, Route { method, handler, names });
    }
}

impl Handler for Router {
    fn handle(&self, request: &mut Request<'_>) -> Response {
        let path = request.path_bytes();
        if let Some(&index) = lookup(&self.fixed, path) {
            return self.endpoints[index].handle(request);
        }
        self.handle_by_tree(request)
    }

    fn prepare(&self) -> io::Result<()> {
        match &self.fault {
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
            None => {
                let mut routes = self.endpoints.iter().flat_map(|endpoint| &endpoint.routes);
                routes.try_for_each(|route| route.handler.prepare())
            }
        }
    }
}

impl Router {
    /// The same for a path that is no pattern as it stands.
    #[inline(never)]
    fn handle_by_tree(&self, request: &mut Request<'_>) -> Response {
        let mut params = Params::default();
        let path = request.path_bytes();
        let found = if path[0] == b'/' { self.root.find(path, Some(1), 0, &mut params) } else { None };
        let Some(index) = found else {
            return not_found(request);
        };
        let endpoint = &self.endpoints[index];
        let Some(route) = endpoint.route(request.method()) else {
            return endpoint.other_method(request.method());
        };
        if let Some(names) = &route.names {
            params.names = Some(Arc::clone(names));
            request.set_params(params);
        }
        route.handler.handle(request)
    }
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

#[cold]
fn not_found(request: &Request<'_>) -> Response {
    if request.path() == "*" {
        // `OPTIONS *` asks about the server as a whole (RFC 9110 §9.3.7).
        return Response::new(Status::NO_CONTENT);
    }
    Response::text("404 Not Found\n").with_status(Status::NOT_FOUND)
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
    fn find(&self, path: &[u8], at: Option<usize>, depth: usize, params: &mut Params) -> Option<usize> {
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
            params.values[depth] = range(at, end);
            if let Some(found) = node.find(path, next, depth + 1, params) {
                return Some(found);
            }
        }
        let rest = self.rest?;
        params.values[depth] = range(at, path.len());
        Some(rest)
    }
}

/// Offsets within a path, which the limit on request lines keeps far below 4 GiB.
fn range(from: usize, to: usize) -> (u32, u32) {
    let narrow = |offset| u32::try_from(offset).expect("router: a path beyond 4 GiB");
    (narrow(from), narrow(to))
}

impl Endpoint {
    #[inline]
    fn handle(&self, request: &mut Request<'_>) -> Response {
        match self.route(request.method()) {
            Some(route) => route.handler.handle(request),
            None => self.other_method(request.method()),
        }
    }

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

    #[cold]
    fn other_method(&self, method: Method<'_>) -> Response {
        let mut allowed: Vec<&str> =
            self.routes.iter().filter_map(|route| route.method).map(|m| m.as_str()).collect();
        if allowed.contains(&"GET") && !allowed.contains(&"HEAD") {
            allowed.push("HEAD");
        }
        allowed.push("OPTIONS");
        let response = if method == Method::Options {
            Response::new(Status::NO_CONTENT)
        } else {
            Response::text("405 Method Not Allowed\n").with_status(Status::METHOD_NOT_ALLOWED)
        };
        response.with_header("Allow", allowed.join(", "))
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
