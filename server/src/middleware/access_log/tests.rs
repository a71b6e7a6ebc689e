#![forbid(unsafe_code)]

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::journal::{FULL_BYTES, HELD_BYTES_MAX};
use super::*;
use crate::handler::Handler;
use crate::middleware::tests::ask;
use crate::middleware::{BasicAuth, RequestIds};
use crate::router::Router;

/// A sink that tests look into.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines for these requests to an app, with the log around it.
fn lines(app: impl Handler, log: fn(Memory) -> AccessLog, requests: &str) -> Vec<String> {
    let memory = Memory::default();
    // The handler is dropped with the service at the end, and with it the log.
    ask(app.with(log(memory.clone())), requests);
    let bytes = memory.0.lock().expect("no panic");
    let text = std::str::from_utf8(&bytes).expect("a log is UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

/// The line with its date made constant.
fn undated(line: &str) -> String {
    let (before, rest) = line.split_once('[').expect("a date");
    let (date, after) = rest.split_once(']').expect("a date");
    assert_eq!(date.len(), "06/Nov/1994:08:49:37 +0000".len());
    format!("{before}[]{after}")
}

fn app() -> Router {
    Router::new()
        .get("/users/{id}", |request: &mut Request<'_>| request.param::<String>("id"))
        .get("/panic", |_: &mut Request<'_>| -> Response { panic!("a bug") })
        .get("/stream/{end}", |request: &mut Request<'_>| {
            let breaks = request.path().ends_with("broken");
            Response::stream("text/plain", move |body| {
                body.write_all(b"0123456789")?;
                body.flush()?;
                if breaks { Err(io::Error::other("no more")) } else { Ok(()) }
            })
        })
}

#[test]
fn the_formats_say_what_was_sent() {
    let request = |target: &str, version: &str| {
        format!(
            "GET {target} HTTP/{version}\r\nHost: a\r\nReferer: http://b/?q\r\nUser-Agent: wget/1\r\n\r\n"
        )
    };
    let common = lines(app(), AccessLog::common, &request("/users/ada?x=1", "1.1"));
    assert_eq!(undated(&common[0]), r#"- - - [] "GET /users/ada?x=1 HTTP/1.1" 200 3"#);
    let combined = lines(app(), AccessLog::combined, &request("/users/ada", "1.1"));
    assert_eq!(undated(&combined[0]), r#"- - - [] "GET /users/ada HTTP/1.1" 200 3 "http://b/?q" "wget/1""#);
    let short =
        lines(app(), |sink| AccessLog::combined(sink).without_query(), &request("/users/ada?x", "1.1"));
    assert_eq!(undated(&short[0]), r#"- - - [] "GET /users/ada HTTP/1.1" 200 3 "http://b/" "wget/1""#);
    for (target, expected) in [
        ("/stream/whole", r#""GET /stream/whole HTTP/1.0" 200 10 _ + "/stream/{end}" -"#),
        ("/stream/broken", r#""GET /stream/broken HTTP/1.0" 200 10 _ X "/stream/{end}" -"#),
        ("/panic", r#""GET /panic HTTP/1.0" 500 26 _ + "/panic" -"#),
        ("/nobody", r#""GET /nobody HTTP/1.0" 404 14 _ + "-" -"#),
    ] {
        let line = &lines(app(), |sink| AccessLog::common(sink).extended(), &request(target, "1.0"))[0];
        let words: Vec<&str> = line.split(' ').skip(5).collect();
        words[5].parse::<u64>().expect("a duration in microseconds");
        let words: Vec<&str> = [&words[..5], &["_"], &words[6..]].concat();
        assert_eq!(words.join(" "), expected);
    }
}

#[test]
fn a_line_of_json_has_all_there_is() {
    let app = app().with(BasicAuth::new("x", |_, _| true)).with(RequestIds::new().trust_incoming());
    // "a\"b c:x" in base64.
    let request = "GET /users/ada?x=\"1\" HTTP/1.1\r\nHost: a:80\r\nUser-Agent: \u{e9}\\\u{1F33F}\r\nX-Request-Id: id-7\r\n\
                   Authorization: Basic YSJiIGM6eA==\r\n\r\n";
    let request = request.replace("x=\"1\"", "x=1");
    let line = &lines(app, AccessLog::json, &request)[0];
    let (time, rest) = line.split_once(",\"peer\"").expect("a peer");
    assert!(time.starts_with("{\"time\":\"2") && time.ends_with("Z\""), "{line}");
    let (before, rest) = rest.split_once("\"duration_us\":").expect("a duration");
    let (duration, after) = rest.split_once(',').expect("more");
    duration.parse::<u64>().expect("a number");
    assert_eq!(
        before,
        ":null,\"user\":\"a\\\"b c\",\"method\":\"GET\",\"target\":\"/users/ada?x=1\",\"version\":\"HTTP/1.1\",\
         \"host\":\"a:80\",\"route\":\"/users/{id}\",\"status\":200,\"bytes\":3,\"complete\":true,"
    );
    assert_eq!(after, "\"referer\":null,\"user_agent\":\"\u{e9}\\\\\u{1F33F}\",\"request_id\":\"id-7\"}");
    #[cfg(feature = "json")]
    serde_json::from_str::<serde_json::Value>(line).expect("JSON");
}

#[test]
fn nothing_that_a_client_sends_can_forge_a_line_or_reach_a_terminal() {
    // Bytes that the parser lets through in field values; user names come decoded.
    let hostile = "x\" 200 0\\ \u{9b}31m\t\u{e9}";
    let request = format!(
        "GET /a HTTP/1.1\r\nHost: a\r\nReferer: {hostile}\r\nUser-Agent: {hostile}\r\nAuthorization: Basic YSBiOng=\r\n\
         Cookie: secret\r\n\r\n"
    );
    let app = || (|_: &mut Request<'_>| "x").with(BasicAuth::new("x", |_, _| true));
    let plain = lines(app(), AccessLog::combined, &request);
    assert_eq!(plain.len(), 1);
    let escaped = r"x\x22 200 0\x5C \xC2\x9B31m\x09\xC3\xA9";
    assert_eq!(
        undated(&plain[0]),
        format!("- - a\\x20b [] \"GET /a HTTP/1.1\" 200 1 \"{escaped}\" \"{escaped}\"")
    );
    let json = lines(app(), AccessLog::json, &request);
    assert_eq!(json.len(), 1);
    assert!(json[0].contains(r#""user_agent":"x\" 200 0\\ \u009b31m\u0009é""#), "{}", json[0]);
    for line in [&plain[0], &json[0]] {
        assert!(!line.contains("secret") && !line.contains("YSBiOng"), "{line}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn lines_are_written_together_within_a_second_and_before_the_end() {
    let (tx, rx) = mpsc::channel();
    let sink = AccessLog::to_fn(move |lines| tx.send(lines.to_vec()).map_err(io::Error::other));
    let journal = Journal::new(Box::new(sink));
    journal.append(b"one\n");
    journal.append(b"two\n");
    let first = rx.recv_timeout(Duration::from_secs(10)).expect("within a second");
    assert_eq!(first, b"one\ntwo\n", "together");
    let many = vec![b'x'; FULL_BYTES / 2];
    journal.append(&many);
    journal.append(&many);
    let full = rx.recv_timeout(Duration::from_secs(10)).expect("at once");
    assert_eq!(full.len(), FULL_BYTES);
    journal.append(b"last\n");
    drop(journal);
    assert_eq!(rx.recv().expect("before the end"), b"last\n");
    assert!(rx.recv().is_err(), "and no more");
}

#[test]
fn a_sink_that_stands_still_costs_lines_and_not_memory() {
    let (enter, entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let memory = Memory::default();
    let mut inner = memory.clone();
    let mut stands = true;
    let sink = AccessLog::to_fn(move |lines| {
        if std::mem::take(&mut stands) {
            enter.send(()).expect("the test waits");
            released.recv().expect("the test lets go");
        }
        inner.write_all(lines)
    });
    let journal = Journal::new(Box::new(sink));
    let line = vec![b'x'; FULL_BYTES];
    journal.append(&line);
    entered.recv().expect("the sink is reached");
    for _ in 0..(HELD_BYTES_MAX / FULL_BYTES + 5) {
        journal.append(&line);
    }
    release.send(()).expect("the sink waits");
    drop(journal);
    assert_eq!(memory.0.lock().expect("no panic").len(), FULL_BYTES + HELD_BYTES_MAX);
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew_when_asked() {
    let directory = std::env::temp_dir().join(format!("bast-access-log-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let (path, moved) = (directory.join("a.log"), directory.join("a.log.1"));
    let file = LogFile::open(&path).expect("a file");
    let mut sink = file.clone();
    sink.write_all(b"one\n").expect("written");
    std::fs::rename(&path, &moved).expect("moved");
    sink.write_all(b"two\n").expect("written");
    file.reopen();
    sink.write_all(b"three\n").expect("written");
    let read = |path| std::fs::read_to_string(path).expect("a file");
    assert_eq!((read(&moved), read(&path)), ("one\ntwo\n".into(), "three\n".into()));
    std::fs::remove_dir_all(&directory).expect("removed");
    file.reopen();
    sink.write_all(b"four\n").expect("the old one is kept where there is no other");
    let error = LogFile::open(directory.join("b")).expect_err("no directory");
    assert!(error.to_string().contains("bast-access-log"), "{error}");
}

#[test]
fn a_new_file_is_not_for_everybody_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::temp_dir().join(format!("bast-access-log-mode-{}", std::process::id()));
    LogFile::open(&path).expect("a file");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    std::fs::remove_file(&path).expect("removed");
    // The umask may take more.
    assert_eq!((mode & 0o137, mode & 0o600), (0, 0o600), "{mode:o}");
}
