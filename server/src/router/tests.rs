//! Groups, mounts, fallbacks and the names of routes, through whole connections.
#![forbid(unsafe_code)]

use super::*;
use crate::Next;
use crate::file::Files;
use crate::http1::serve::tests::{answer, codes};
use crate::response::IntoResponse;

/// The status line's code, the fields and the body of the answer to one request.
fn ask(app: impl Handler, method: &str, path: &str) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let output = answer(app, &[request.as_bytes()]);
    (codes(&output)[0], output)
}

/// The body of the answer to a GET.
fn get(app: impl Handler, path: &str) -> String {
    let (_, output) = ask(app, "GET", path);
    output.split_once("\r\n\r\n").expect("a whole response").1.to_owned()
}

/// Says what a handler can know of its route.
fn seen(request: &mut Request<'_>) -> String {
    let id = request.param_text("id").map_or("-".into(), std::borrow::Cow::into_owned);
    format!("{} {:?} {id}", request.route().unwrap_or("no route"), request.subpath())
}

fn nested() -> Router {
    let posts = Router::new().get("/", seen).get("/{post}", seen).any("/deep/{rest...}", seen);
    let users = Router::new().get("/", seen).get("/{id}", seen).nest("/{id}/posts", posts);
    Router::new().get("/", seen).nest("/api/users/", users).merge(Router::new().get("/merged", seen))
}

#[test]
fn a_nested_route_is_found_below_its_prefix_and_named_as_a_whole() {
    for (path, expected) in [
        ("/", r#"/ "/" -"#),
        ("/merged", r#"/merged "/merged" -"#),
        ("/api/users", r#"/api/users "/api/users" -"#),
        ("/api/users/7", r#"/api/users/{id} "/api/users/7" 7"#),
        ("/api/users/7/posts", r#"/api/users/{id}/posts "/api/users/7/posts" 7"#),
        ("/api/users/7/posts/x", r#"/api/users/{id}/posts/{post} "/api/users/7/posts/x" 7"#),
        (
            "/api/users/7/posts/deep/a/b",
            r#"/api/users/{id}/posts/deep/{rest...} "/api/users/7/posts/deep/a/b" 7"#,
        ),
        ("/api/users/", "404 Not Found\n"),
        ("/users", "404 Not Found\n"),
    ] {
        assert_eq!(get(nested(), path), expected, "{path}");
    }
}

#[test]
fn a_mounted_handler_sees_the_rest_of_the_path() {
    let app = || Router::new().get("/echo/own", |_: &mut Request<'_>| "own").mount("/echo", seen);
    for (path, expected) in [
        ("/echo", r#"/echo "" -"#),
        ("/echo/", r#"/echo/{...} "/" -"#),
        ("/echo/a/b%20c", r#"/echo/{...} "/a/b%20c" -"#),
        ("/echo/own", "own"),
        ("/echoes", "404 Not Found\n"),
    ] {
        assert_eq!(get(app(), path), expected, "{path}");
    }
    assert_eq!(ask(app(), "PATCH", "/echo/x").0, 200, "every method");
}

#[test]
fn a_mounted_router_finds_its_routes_below_the_mount() {
    let inner = || {
        Router::new()
            .get("/", seen)
            .get("/users/{id}", seen)
            .mount("/deeper", Router::new().get("/", seen).get("/{id}", seen))
            .with(|request: &mut Request<'_>, next: Next<'_>| next.run(request))
    };
    let app = || {
        Router::new().mount("/in", inner()).with(|request: &mut Request<'_>, next: Next<'_>| {
            let before = (request.subpath().to_owned(), request.route());
            assert_eq!(before.1, None);
            let response = next.run(request);
            assert_eq!(request.subpath(), before.0, "outside the path is whole again");
            response.with_header("X-Route", request.route().unwrap_or("none"))
        })
    };
    for (path, expected) in [
        ("/in", r#"/in "" -"#),
        ("/in/", r#"/in "/" -"#),
        ("/in/users/7", r#"/in/users/{id} "/users/7" 7"#),
        ("/in/deeper", r#"/in/deeper "" -"#),
        ("/in/deeper/9", r#"/in/deeper/{id} "/9" 9"#),
    ] {
        for _ in 0..2 {
            let (_, output) = ask(app(), "GET", path);
            assert!(output.ends_with(&format!("\r\n\r\n{expected}")), "{path}: {output}");
            let route = expected.split(' ').next().expect("a route");
            assert!(output.contains(&format!("X-Route: {route}\r\n")), "{path}: {output}");
        }
    }
    assert_eq!(ask(app(), "GET", "/in/nothing").0, 404);
    assert_eq!(ask(app(), "POST", "/in/users/7").0, 405);
}

#[test]
fn a_rest_parameter_of_a_mounted_router_may_be_empty() {
    let app = Router::new().mount(
        "/m",
        Router::new().get("/{rest...}", |request: &mut Request<'_>| request.param::<String>("rest")),
    );
    let app: Arc<dyn Handler> = Arc::new(app);
    for (path, expected) in [("/m", ""), ("/m/", ""), ("/m/a/b", "a/b")] {
        assert_eq!(get(Inner(Arc::clone(&app)), path), expected);
    }
}

#[test]
fn a_wrapped_group_leaves_others_and_the_404_alone() {
    let refuse = |_: &mut Request<'_>, _: Next<'_>| Status::UNAUTHORIZED;
    let app = || {
        let group =
            Router::new().get("/a", seen).post("/a", seen).mount("/m", seen).wrap(refuse).get("/late", seen);
        Router::new().get("/open", seen).nest("/group", group)
    };
    for (method, path, code) in [
        ("GET", "/group/a", 401),
        ("POST", "/group/a", 401),
        ("GET", "/group/m/x", 401),
        ("GET", "/group/late", 200),
        ("GET", "/open", 200),
        ("GET", "/group/nothing", 404),
        ("DELETE", "/group/a", 405),
    ] {
        assert_eq!(ask(app(), method, path).0, code, "{method} {path}");
    }
    let one_route = Router::new().get("/a", seen.with(refuse)).get("/b", seen);
    let one_route: Arc<dyn Handler> = Arc::new(one_route);
    assert_eq!(
        ask(Inner(Arc::clone(&one_route)), "GET", "/a").0,
        401,
        "a route may have a middleware by itself"
    );
    assert_eq!(ask(Inner(one_route), "GET", "/b").0, 200);
}

#[test]
fn the_nearest_fallback_answers() {
    let named = |name: &'static str| move |_: &mut Request<'_>| (Status::NOT_FOUND, name);
    let app = || {
        let api = Router::new().get("/a", seen).fallback(named("api")).method_not_allowed(named("wrong"));
        let plain = Router::new().get("/a", seen);
        Router::new()
            .nest("/api", api)
            .nest("/plain", plain)
            .nest("/users/{id}", Router::new().fallback(named("user")))
            .fallback(named("outer"))
    };
    for (path, expected) in [
        ("/api/x", "api"),
        ("/api", "api"),
        ("/%61pi/x", "api"),
        ("/apis", "outer"),
        ("/plain/x", "outer"),
        ("/users/7/x", "user"),
        ("/users//x", "outer"),
        ("/", "outer"),
    ] {
        assert_eq!(get(app(), path), expected, "{path}");
    }
    let (code, output) = ask(app(), "POST", "/api/a");
    assert_eq!(code, 405);
    assert!(output.contains("Allow: GET, HEAD, OPTIONS\r\n") && output.ends_with("wrong"), "{output}");
    let (code, output) = ask(app(), "POST", "/plain/a");
    assert_eq!((code, output.ends_with("405 Method Not Allowed\n")), (405, true));
    assert_eq!(ask(app(), "OPTIONS", "*").0, 204, "that asks about no path");
    assert_eq!(ask(app(), "OPTIONS", "/api/a").0, 204);
}

#[test]
fn a_fallback_of_a_literal_prefix_comes_before_that_of_a_parameter() {
    let named = |name: &'static str| Router::new().fallback(move |_: &mut Request<'_>| name);
    let nests = [("/{any}", "any"), ("/api", "api"), ("/{any}/x", "any x"), ("/api/{any}", "api any")];
    for turn in 0..nests.len() {
        let mut turned = nests;
        turned.rotate_left(turn);
        let app = || turned.iter().fold(named("outer"), |app, (prefix, name)| app.nest(prefix, named(name)));
        for (path, expected) in
            [("/api", "api"), ("/other", "any"), ("/api/x", "api any"), ("/other/x", "any x"), ("/", "outer")]
        {
            assert_eq!(get(app(), path), expected, "{path} {turned:?}");
        }
    }
}

#[test]
fn a_parameter_that_does_not_parse_is_a_400_and_a_name_that_is_nobodys_a_404() {
    let app = || {
        Router::new().get("/users/{id}", |request: &mut Request<'_>| -> Result<Response, crate::Error> {
            let id: u8 = request.param("id")?;
            if id == 7 { Ok("seven".into_response()) } else { Err(crate::Error::not_found()) }
        })
    };
    for (path, code) in [
        ("/users/7", 200),
        ("/users/8", 404),
        ("/users/x", 400),
        ("/users/256", 400),
        ("/users/%zz", 400),
        ("/users/", 404),
    ] {
        assert_eq!(ask(app(), "GET", path).0, code, "{path}");
    }
}

#[test]
fn conflicts_are_found_when_the_program_starts_and_name_both_patterns() {
    let message = |build: fn() -> Router| {
        let panic = std::panic::catch_unwind(build).expect_err("a panic");
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let twice = message(|| Router::new().get("/a/{x}", seen).nest("/a", Router::new().get("/{y}", seen)));
    assert!(
        twice.contains(r#""/a/{y}""#) && twice.contains(r#""/a/{x}""#) && twice.contains("GET"),
        "{twice}"
    );
    type Build = fn() -> Router;
    let builds: [(Build, &str); 8] = [
        (|| Router::new().mount("/a", seen).any("/a", seen), "any method"),
        (|| Router::new().nest("/{id}", Router::new().get("/{id}", seen)), "twice"),
        (|| Router::new().nest("/{rest...}", Router::new()), "{...}"),
        (|| Router::new().nest("api", Router::new()), "does not begin with a slash"),
        (|| Router::new().mount("/{id}", seen), "has a parameter"),
        (|| Router::new().nest("/{id}", Router::new().mount("/x", seen)), "has a parameter"),
        (|| Router::new().fallback(seen).fallback(seen), "two fallbacks"),
        (|| Router::new().get("/a/{...}", seen), "malformed"),
    ];
    for (build, part) in builds {
        let message = message(build);
        assert!(message.contains(part), "{message:?} says {part:?}");
    }
}

#[test]
fn files_can_be_nested_and_their_root_is_moved_behind_its_slash() {
    let directory = std::env::temp_dir().join(format!("bast-router-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("a.txt"), "content").expect("a file");
    let app = || Router::new().nest("/in", Router::new().files("/static", &directory));
    assert_eq!(get(app(), "/in/static/a.txt"), "content");
    let (code, output) = ask(app(), "GET", "/in/static");
    assert_eq!(code, 301);
    assert!(output.contains("Location: ./static/\r\n"), "{output}");
    assert_eq!(ask(app(), "GET", "/in/static/b.txt").0, 404);
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[test]
fn where_files_have_none_the_fallback_answers() {
    let directory = std::env::temp_dir().join(format!("bast-router-fallback-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("a.txt"), "content").expect("a file");
    let inner = || Router::new().files("/", &directory).fallback(|_: &mut Request<'_>| "inner");
    let hidden = |request: &mut Request<'_>, next: Next<'_>| {
        if request.path() == "/b.txt" { Status::FORBIDDEN.into_response() } else { next.run(request) }
    };
    let app = || {
        let outer = Router::new().nest("/in", inner()).files("/", &directory).wrap(hidden);
        outer.fallback(|request: &mut Request<'_>| format!("nothing at {}", request.subpath()))
    };
    assert_eq!(get(app(), "/a.txt"), "content");
    assert_eq!(get(app(), "/in/a.txt"), "content");
    assert_eq!(get(app(), "/c.txt"), "nothing at /c.txt");
    assert_eq!(get(app(), "/d/"), "nothing at /d/");
    assert_eq!(get(app(), "/in/c.txt"), "inner", "the fallback of the longest prefix");
    assert_eq!(ask(app(), "GET", "/b.txt").0, 403, "a middleware's answer is an answer");
    assert_eq!(ask(app(), "POST", "/c.txt").0, 405);
    let api = || Router::new().get("/time", seen).fallback(|_: &mut Request<'_>| "no such call");
    let app = || {
        let files = Files::open(&directory).expect("a directory").single_page();
        Router::new().nest("/api", api()).files("/", files)
    };
    std::fs::write(directory.join("index.html"), "the page").expect("a file");
    assert_eq!(get(app(), "/users/7"), "the page");
    assert_eq!(get(app(), "/api/time"), "/api/time \"/api/time\" -");
    assert_eq!(get(app(), "/api/users/7"), "no such call", "what is nested has the paths below its prefix");
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[test]
fn a_mistake_in_a_route_is_shown_at_the_line_of_the_program() {
    bast::run(|| {
        let first = line!() + 2;
        let mistakes: [fn() -> Router; 5] = [
            || Router::new().get("/n/:id", seen),
            || Router::new().nest("/{rest...}", Router::new()),
            || Router::new().mount("/{id}", seen),
            || Router::new().get("/", seen).get("/", seen),
            || Router::new().fallback(seen).fallback(seen),
        ];
        for (line, mistake) in (first..).zip(mistakes) {
            assert!(bast::catch_unwind(mistake).is_err(), "{line}");
            let place = bast::take_panic_place().expect("there was a panic");
            assert!(
                place.location().starts_with(&format!("{}:{line}:", file!())),
                "{line}: {}",
                place.location()
            );
        }
    });
}
