//! Typed extractors through whole requests: what fits, what does not, and what it is answered by.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::testing::{TestClient, TestRequest};
use crate::{Error, Request, Response, Router, Settings, Status};

/// What a computation may take: many times what it needs on a busy machine, and a small part of what collisions would cost.
const DEADLINE: Duration = Duration::from_secs(20);

/// As many as the attacks on hash tables send.
const MANY: usize = 100_000;

#[derive(Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Order {
    id: u64,
    #[serde(default)]
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize, Serialize, PartialEq)]
struct Line {
    price: u32,
}

fn order(request: &mut Request<'_>) -> Result<Response, Error> {
    let order: Order = request.json()?;
    Response::json(&order)
}

fn post_json(client: &TestClient, body: impl Into<Vec<u8>>) -> (u16, String) {
    outcome(client.post("/").header("Content-Type", "application/json").body(body))
}

/// Status code and text.
fn outcome(request: TestRequest<'_>) -> (u16, String) {
    let response = request.send();
    (response.status().code(), response.text().to_owned())
}

#[test]
fn json_is_read_and_written() {
    let client = TestClient::new(order);
    let sent = Order { id: 7, lines: vec![Line { price: 3 }] };
    let response = client.post("/").json(&sent).send();
    assert_eq!(response.status(), Status::OK);
    assert_eq!(response.json::<Order>(), sent);
    let chunked = client.post("/").header("Content-Type", "Application/Vnd.Order+JSON; charset=utf-8");
    assert_eq!(chunked.chunks(["{\"id\"", ": 8}"]).send().json::<Order>().id, 8);
}

#[test]
fn json_that_is_refused_names_the_field_and_no_value() {
    let client = TestClient::new(order);
    for (body, status, message) in [
        ("", 400, "the body is not JSON at line 1, column 0"),
        ("{\"id\": 1} x", 400, "the body is not JSON at line 1, column 11"),
        ("{\"id\": 1", 400, "the body is not JSON at line 1, column 8"),
        ("{\"id\": 1e999}", 400, "the body is not JSON at line 1, column 12"),
        ("{\"id\": \"<secret>\"}", 422, "field \"id\" is not as expected"),
        ("{\"id\": -1}", 422, "field \"id\" is not as expected"),
        ("{}", 422, "field \"id\" is missing"),
        ("{\"id\": 1, \"lines\": [{\"price\": 1}, {}]}", 422, "field \"lines[1].price\" is missing"),
        ("{\"id\": 1, \"lines\": [{\"price\": \"x\"}]}", 422, "field \"lines[0].price\" is not as expected"),
        ("{\"id\": 1, \"<b>\": 2}", 422, "field \"<b>\" is not known"),
        ("{\"id\": 1, \"id\": 2}", 422, "field \"id\" is given twice"),
        ("7", 422, "the body is not as expected"),
        ("[[]]", 422, "field \"[0]\" is not as expected"),
    ] {
        let (code, text) = post_json(&client, body);
        assert_eq!(code, status, "{body}: {text}");
        assert!(text.ends_with(&format!(": {message}\n")), "{body}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
    let (code, text) = post_json(&client, *b"{\"id\": 1, \"x\": \"\xff\"}");
    assert_eq!((code, text.contains("UTF-8")), (400, true));
}

#[test]
fn a_body_that_does_not_say_it_is_json_is_not_read() {
    let client = TestClient::new(order);
    assert_eq!(client.post("/").body("{\"id\": 1}").send().status(), Status::UNSUPPORTED_MEDIA_TYPE);
    for other in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "json",
        "text/json",
        "application/jsonp",
        "a/+json",
        "application/+json",
    ] {
        let request = client.post("/").header("Content-Type", other).body("{\"id\": 1}");
        assert_eq!(request.send().status(), Status::UNSUPPORTED_MEDIA_TYPE, "{other}");
    }
}

#[test]
fn a_body_beyond_the_limit_is_a_413_for_extractors_too() {
    let limits = Limits { body_bytes_max: 10, ..Limits::default() };
    let settings = || Settings { limits: limits.clone(), ..Settings::default() };
    let client = TestClient::with_settings(order, settings()).expect("it can serve");
    assert_eq!(
        client.post("/").json(&Order { id: 1_000_000, ..Order::default() }).send().status().code(),
        413
    );
    let client = TestClient::with_settings(signup, settings()).expect("it can serve");
    assert_eq!(client.post("/").form([("name", "0123456789")]).send().status().code(), 413);
}

/// On a green thread with the stack that a connection has.
#[test]
fn json_that_is_nested_too_deep_is_a_400_and_no_overflow() {
    bast::run(|| {
        let client = TestClient::new(|request: &mut Request<'_>| -> Result<Status, Error> {
            let _: serde_json::Value = request.json()?;
            Ok(Status::OK)
        });
        for open in ["[", "{\"a\":"] {
            let close = if open == "[" { "]" } else { "}" };
            let nested = |depth: usize| [open.repeat(depth), "1".into(), close.repeat(depth)].concat();
            assert_eq!(post_json(&client, nested(127)).0, 200);
            assert_eq!(post_json(&client, nested(128)).0, 400);
            assert_eq!(post_json(&client, nested(MANY)).0, 400);
            assert_eq!(post_json(&client, open.repeat(MANY)).0, 400);
        }
    });
}

/// Texts with one hash under `h = 31 * h + c`, which is what the attacks used (CVE-2011-4885 and its like): a sequence of
/// two-letter blocks that have the same.
fn colliding(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| (0..17).map(|bit| if number >> bit & 1 == 0 { "Aa" } else { "BB" }).collect())
}

#[test]
fn names_that_collide_do_not_slow_a_map_down() {
    let client = TestClient::new(|request: &mut Request<'_>| -> Result<String, Error> {
        let map: HashMap<String, u8> = request.json()?;
        Ok(map.len().to_string())
    });
    let fields: Vec<String> = colliding(MANY).map(|name| format!("\"{name}\":1")).collect();
    let before = Instant::now();
    assert_eq!(post_json(&client, format!("{{{}}}", fields.join(","))), (200, MANY.to_string()));
    assert!(before.elapsed() < DEADLINE, "{:?}", before.elapsed());

    let client = TestClient::new(|request: &mut Request<'_>| -> Result<String, Error> {
        let map: HashMap<String, u8> = request.form()?;
        Ok(map.len().to_string())
    });
    let before = Instant::now();
    assert_eq!(
        outcome(client.post("/").form(colliding(10_000).map(|name| (name, "1")))),
        (200, "10000".into())
    );
    let (code, text) = outcome(client.post("/").form(colliding(MANY).map(|name| (name, "1"))));
    assert_eq!((code, text.contains("limit")), (400, true), "{text}");
    assert!(before.elapsed() < DEADLINE, "{:?}", before.elapsed());
}

#[derive(Debug, Deserialize)]
struct Signup {
    name: String,
    age: Option<u8>,
    #[serde(default)]
    tags: Vec<u16>,
    #[serde(default)]
    plan: Plan,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Plan {
    #[default]
    Free,
    Paid,
}

fn signup(request: &mut Request<'_>) -> Result<String, Error> {
    let Signup { name, age, tags, plan } = request.form()?;
    Ok(format!("{name} {age:?} {tags:?} {plan:?}"))
}

fn query(request: &mut Request<'_>) -> Result<String, Error> {
    let Signup { name, age, tags, plan } = request.query_as()?;
    Ok(format!("{name} {age:?} {tags:?} {plan:?}"))
}

#[test]
fn forms_and_queries_become_structs() {
    for (text, expected) in [
        ("name=Ann", "Ann None [] Free"),
        ("&name=A%26n+n&&age=7&", "A&n n Some(7) [] Free"),
        ("tags=2&name=&tags=1&plan=paid&unknown", " None [2, 1] Paid"),
    ] {
        let form = TestClient::new(signup);
        let request =
            form.post("/").header("Content-Type", "application/x-www-form-urlencoded; charset=utf-8");
        assert_eq!(outcome(request.body(text)), (200, expected.into()), "{text}");
        let client = TestClient::new(query);
        assert_eq!(outcome(client.get(&format!("/?{text}"))), (200, expected.into()), "{text}");
    }
}

#[test]
fn fields_that_are_refused_are_named() {
    for (text, readable, message) in [
        ("", true, "\"name\" is missing"),
        ("name=a&age=old", true, "\"age\" is malformed"),
        ("name=a&age=", true, "\"age\" is malformed"),
        ("name=a&age=256", true, "\"age\" is malformed"),
        ("name=a&name=b", true, "\"name\" is given twice"),
        ("name=a&tags=1&tags=%3Cb%3E", true, "\"tags\" is malformed"),
        ("name=a&plan=gold", true, "\"plan\" is malformed"),
        ("name=%ff", false, "\"name\" is malformed"),
        ("name=%2", false, "\"name\" is malformed"),
        ("name=a&%zz=1", false, "with a malformed name"),
    ] {
        let form = TestClient::new(signup);
        let request = form.post("/").header("Content-Type", "application/x-www-form-urlencoded").body(text);
        let (code, answer) = outcome(request);
        assert_eq!(code, if readable { 422 } else { 400 }, "{text}: {answer}");
        assert!(answer.ends_with(&format!(": form field {message}\n")), "{text}: {answer}");
        let client = TestClient::new(query);
        let (code, answer) = outcome(client.get(&format!("/?{text}")));
        assert_eq!(code, 400, "{text}: {answer}");
        assert!(answer.ends_with(&format!(": query parameter {message}\n")), "{text}: {answer}");
    }
    let client = TestClient::new(signup);
    assert_eq!(client.post("/").body("name=a").send().status(), Status::UNSUPPORTED_MEDIA_TYPE);
}

#[test]
fn a_query_may_become_a_map_or_a_list() {
    let client = TestClient::new(|request: &mut Request<'_>| -> Result<String, Error> {
        let map: BTreeMap<String, Vec<u8>> = request.query_as()?;
        let list: Vec<(String, u8)> = request
            .query_as::<Vec<(String, String)>>()?
            .into_iter()
            .map(|(name, value)| Ok((name, value.parse()?)))
            .collect::<Result<_, std::num::ParseIntError>>()?;
        Ok(format!("{map:?} {list:?}"))
    });
    assert_eq!(
        client.get("/?b=1&a=2&b=3").send().text(),
        r#"{"a": [2], "b": [1, 3]} [("b", 1), ("a", 2), ("b", 3)]"#
    );
    assert_eq!(client.get("/").send().text(), "{} []");
}

#[test]
fn a_long_name_from_a_client_is_not_given_back_whole() {
    let client = TestClient::new(|request: &mut Request<'_>| -> Result<String, Error> {
        Ok(request.query_as::<HashMap<String, u8>>()?.len().to_string())
    });
    let (code, text) = outcome(client.get(&format!("/?{}=x", "n".repeat(1000))));
    assert_eq!((code, text.len() < 130), (400, true), "{text}");
    let (_, text) = outcome(client.get("/?%0d%0a%1b=x"));
    assert!(text.contains(r#""\r\n\u{1b}""#), "{text}");
}

#[derive(Deserialize)]
struct Place {
    page: u32,
    book: String,
}

fn library() -> Router {
    Router::new()
        .get("/struct/{book}/{page}", |request: &mut Request<'_>| -> Result<String, Error> {
            let Place { page, book } = request.path_as()?;
            Ok(format!("{book} {page}"))
        })
        .get("/tuple/{book}/{page}", |request: &mut Request<'_>| -> Result<String, Error> {
            let (book, page): (String, u32) = request.path_as()?;
            Ok(format!("{book} {page}"))
        })
        .get("/single/{page}", |request: &mut Request<'_>| -> Result<String, Error> {
            Ok(request.path_as::<u32>()?.to_string())
        })
        .get("/list/{rest...}", |request: &mut Request<'_>| -> Result<String, Error> {
            Ok(format!("{:?}", request.path_as::<Vec<String>>()?))
        })
        .get("/misfit/{book}/{page}", |request: &mut Request<'_>| -> Result<String, Error> {
            Ok(request.path_as::<u32>()?.to_string())
        })
        .get("/missing/{book}", |request: &mut Request<'_>| -> Result<String, Error> {
            Ok(request.path_as::<Place>()?.book)
        })
        .get("/short/{book}", |request: &mut Request<'_>| -> Result<String, Error> {
            Ok(request.path_as::<(String, String)>()?.0)
        })
}

#[test]
fn path_parameters_become_structs_tuples_and_single_values() {
    let client = TestClient::new(library());
    for (path, status, text) in [
        ("/struct/a%20b/7", 200, "a b 7"),
        ("/tuple/a%20b/7", 200, "a b 7"),
        ("/single/7", 200, "7"),
        ("/list/a/b%2Fc", 200, "[\"a/b/c\"]"),
        ("/struct/a/x", 400, "400 Bad Request: path parameter \"page\" is malformed\n"),
        ("/tuple/a/x", 400, "400 Bad Request: path parameter \"page\" is malformed\n"),
        ("/single/-1", 400, "400 Bad Request: path parameter \"page\" is malformed\n"),
        ("/single/%ff", 400, "400 Bad Request: path parameter \"page\" is malformed\n"),
    ] {
        assert_eq!(outcome(client.get(path)), (status, text.into()), "{path}");
    }
    for path in ["/misfit/a/1", "/missing/a", "/short/a"] {
        let (code, text) = outcome(client.get(path));
        assert_eq!((code, text.contains("page")), (500, false), "{path}: {text}");
    }
}

#[test]
fn one_query_parameter_is_parsed_or_absent() {
    let client = TestClient::new(|request: &mut Request<'_>| -> Result<String, Error> {
        Ok(format!("{:?}", request.query_value::<u8>("n")?))
    });
    for (target, status, text) in [
        ("/", 200, "None"),
        ("/?m=1", 200, "None"),
        ("/?m=1&%6E=%37&n=x", 200, "Some(7)"),
        ("/?n", 400, "400 Bad Request: query parameter \"n\" is malformed\n"),
        ("/?n=%ff", 400, "400 Bad Request: query parameter \"n\" is malformed\n"),
        ("/?n=256", 400, "400 Bad Request: query parameter \"n\" is malformed\n"),
    ] {
        assert_eq!(outcome(client.get(target)), (status, text.into()), "{target}");
    }
}

/// What reads the first value and what reads any would disagree about who is meant.
#[test]
fn a_query_parameter_is_its_first_value_also_where_that_is_malformed() {
    let client = TestClient::new(|request: &mut Request<'_>| format!("{:?}", request.query_param("n")));
    for (target, text) in [
        ("/?n=%37&n=x", "Some(\"7\")"),
        ("/?%zz=1&n=7", "Some(\"7\")"),
        ("/?n=%ff&n=7", "None"),
        ("/?n&n=7", "Some(\"\")"),
        ("/?m=7", "None"),
        ("/", "None"),
    ] {
        assert_eq!(outcome(client.get(target)), (200, text.into()), "{target}");
    }
}
