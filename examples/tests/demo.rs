//! The demo as its users meet it: a process with a command line, a socket and an exit code.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// No step of these tests takes longer unless something hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs the demo to its end.
fn run(arguments: &[&str]) -> Output {
    let child = command(arguments).spawn().expect("start the demo");
    let (sender, receiver) = mpsc::channel();
    let id = child.id();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(output) => output.expect("wait for the demo"),
        Err(_) => {
            signal(id, "KILL");
            panic!("{arguments:?}: still running");
        }
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Sends a signal by kill(1), since nothing here may name libc.
fn signal(id: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &id.to_string()]).status();
    assert!(status.expect("run kill").success());
}

/// A demo that serves until it is dropped.
struct Demo {
    child: Child,
    address: SocketAddr,
}

impl Demo {
    fn start(arguments: &[&str]) -> Demo {
        Demo::start_with(arguments, Stdio::inherit())
    }

    fn start_with(arguments: &[&str], stderr: Stdio) -> Demo {
        let mut child = command(&["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stderr(stderr)
            .spawn()
            .expect("start the demo");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("read the first line");
        let address = line.trim_end().strip_prefix("listening on http://").expect("the address");
        Demo { address: address.parse().expect("an address"), child }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, DEADLINE).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("set a deadline");
        stream.set_write_timeout(Some(DEADLINE)).expect("set a deadline");
        stream
    }

    /// Sends these bytes and reads all that comes until the server closes.
    fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).expect("send");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("receive");
        Answer::parse(&bytes)
    }

    /// A request without a body; `fields` are lines with their ends.
    fn request(&self, method: &str, target: &str, fields: &str) -> Answer {
        self.exchange(format!(
            "{method} {target} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n{fields}\r\n"
        ))
    }

    fn get(&self, target: &str) -> Answer {
        self.request("GET", target, "")
    }

    /// Waits for the process to end by itself.
    fn wait(mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for the demo") {
                return status;
            }
            assert!(started.elapsed() < DEADLINE, "the demo does not end");
            thread::yield_now();
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A response that is delimited by its length.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).expect("an ASCII head");
        let status = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
        Answer { status, head, body: bytes[end..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body as text, once its length was compared with the head.
    fn text(&self) -> &str {
        assert_eq!(
            self.header("Content-Length"),
            Some(self.body.len().to_string().as_str()),
            "{}",
            self.head
        );
        str::from_utf8(&self.body).expect("text")
    }
}

/// A root of the test's own, removed at the end.
struct Root(PathBuf);

impl Root {
    fn new(test: &str) -> Root {
        let path = std::env::temp_dir().join(format!("bast-demo-{}-{test}", process::id()));
        fs::create_dir_all(path.join("www/dir")).expect("make the root");
        Root(path)
    }

    fn www(&self) -> PathBuf {
        self.0.join("www")
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.www().join(name), content).expect("write a file");
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("remove the root");
    }
}

fn str_of(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn help_goes_to_stdout_and_is_no_error() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), bast_examples::demo::cli::HELP);
    assert!(output.stderr.is_empty());
}

#[test]
fn what_the_user_can_put_right_is_one_line_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("an address").to_string();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/index.html");
    for (arguments, named) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["stray"], "stray"),
        (&["--listen", "nowhere"], "nowhere"),
        (&["--workers", "0"], "--workers"),
        (&["--listen", &port], &port),
        (&["--listen", "127.0.0.1:0", "--root", "/no/such/root"], "/no/such/root"),
        (&["--listen", "127.0.0.1:0", "--root", str_of(&file)], "index.html"),
    ] {
        let output = run(arguments);
        let message = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.starts_with("demo: ") && message.contains(named), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn more_workers_than_there_can_be_are_named() {
    let output = run(&["--listen", "127.0.0.1:0", "--workers", "100000"]);
    let message = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.starts_with("demo: --workers 100000: "), "{message}");
}

#[test]
fn plaintext_is_hello_world() {
    let demo = Demo::start(&[]);
    let answer = demo.get("/plaintext");
    assert_eq!((answer.status, answer.text()), (200, "Hello, World!"));
    assert_eq!(answer.header("Content-Type"), Some("text/plain"));
    assert!(answer.header("Date").is_some_and(|date| date.ends_with(" GMT")));
}

#[test]
fn sleep_sleeps_as_long_as_it_is_told() {
    let demo = Demo::start(&[]);
    for (target, at_least) in [("/sleep", 10), ("/sleep?ms=0", 0), ("/sleep?ms=60", 60)] {
        let started = Instant::now();
        let answer = demo.get(target);
        assert_eq!((answer.status, answer.text()), (200, "Hello, World!"), "{target}");
        assert!(started.elapsed() >= Duration::from_millis(at_least), "{target}: {:?}", started.elapsed());
    }
    for target in ["/sleep?ms=ten", "/sleep?ms=10001", "/sleep?ms=-1"] {
        assert_eq!(demo.get(target).status, 400, "{target}");
    }
}

#[test]
fn a_burn_lasts_as_long_as_it_is_told_and_others_are_answered_meanwhile() {
    let demo = Demo::start(&["--workers", "1"]);
    let mut burning = demo.connect();
    let started = Instant::now();
    burning
        .write_all(b"GET /burn?ms=2000 HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
        .expect("send");
    // A few of them: the first may be served before the burn begins.
    for _ in 0..5 {
        assert_eq!(demo.get("/plaintext").text(), "Hello, World!");
    }
    assert!(started.elapsed() < Duration::from_millis(2000), "{:?}", started.elapsed());
    let mut bytes = Vec::new();
    burning.read_to_end(&mut bytes).expect("receive");
    assert!(started.elapsed() >= Duration::from_millis(2000));
    let answer = Answer::parse(&bytes);
    assert_eq!(answer.status, 200);
    let words = answer.text().strip_suffix(" words\n").expect("how much was done");
    assert!(words.parse::<u64>().expect("a number") > 0);
    for target in ["/burn?ms=ten", "/burn?ms=10001"] {
        assert_eq!(demo.get(target).status, 400, "{target}");
    }
}

#[test]
fn echo_gives_back_the_body_of_any_method_with_its_type() {
    let demo = Demo::start(&[]);
    let big: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET", "BREW"] {
        for body in [&b""[..], b"\0\r\n\xFF", &big] {
            let head = format!(
                "{method} /echo HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\
                 Content-Type: text/x-mine\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let answer = demo.exchange([head.as_bytes(), body].concat());
            assert_eq!(
                (answer.status, answer.header("Content-Type")),
                (200, Some("text/x-mine")),
                "{method}"
            );
            assert!(answer.body == body, "{method}: {} bytes came back of {}", answer.body.len(), body.len());
        }
    }
    let chunked = "POST /echo HTTP/1.1\r\nHost: demo\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n";
    let answer = demo.exchange(chunked);
    assert_eq!((answer.status, answer.text()), (200, "hello, world"));
    assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
}

#[test]
fn the_threads_are_json_for_a_program_and_a_page_for_a_browser() {
    let demo = Demo::start(&["--workers", "2"]);
    let sleeper = demo.connect();
    (&sleeper).write_all(b"GET /sleep?ms=10000 HTTP/1.1\r\nHost: demo\r\n\r\n").expect("send");
    let peer = sleeper.local_addr().expect("an address").to_string();

    // The sleeper's request may still be on its way when the first list is made.
    let started = Instant::now();
    let (json, line) = loop {
        let json = demo.get("/threads");
        let found = json.text().lines().find(|line| line.contains(&peer) && line.contains("\"blocked\""));
        if let Some(line) = found.map(str::to_owned) {
            break (json, line);
        }
        assert!(started.elapsed() < DEADLINE, "no sleeper in {}", json.text());
    };
    assert_eq!((json.status, json.header("Content-Type")), (200, Some("application/json")));
    assert!(line.contains("\"blocked_on\":\""), "{line}");
    let ids: Vec<u64> = json
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("{\"id\":")?.split(',').next()?.parse().ok())
        .collect();
    assert!(ids.len() > 2 && ids.is_sorted(), "{ids:?}");
    assert!(json.text().contains("\"running\""), "who asks is running: {}", json.text());

    let page = demo.request("GET", "/threads", "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains(&peer));
}

#[test]
fn the_index_has_151_bytes_and_a_browser_finds_all_it_asks_for() {
    let demo = Demo::start(&[]);
    let index = demo.get("/");
    assert_eq!((index.status, index.text().len()), (200, 151));
    assert_eq!(demo.get("/index.html").body, index.body);
    for (target, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/about.html", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/favicon.ico", "image/x-icon"),
    ] {
        let answer = demo.get(target);
        assert_eq!((answer.status, answer.header("Content-Type")), (200, Some(content_type)), "{target}");
        assert_eq!(answer.header("Content-Length"), Some(answer.body.len().to_string().as_str()));
    }
}

#[test]
fn a_file_of_any_size_arrives_byte_for_byte() {
    let root = Root::new("sizes");
    let content: Vec<u8> = (0..5_000_011u32).map(|n| (n % 251) as u8).collect();
    let sizes =
        [0, 1, 4095, 4096, 4097, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1 << 20, content.len()];
    for size in sizes {
        root.write(&format!("{size}.bin"), &content[..size]);
    }
    let demo = Demo::start(&["--root", str_of(&root.www())]);
    for size in sizes {
        let whole = demo.get(&format!("/{size}.bin"));
        assert_eq!((whole.status, whole.body.len()), (200, size));
        assert!(whole.body == content[..size], "{size}");
        let head = demo.request("HEAD", &format!("/{size}.bin"), "");
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["Content-Length", "Content-Type", "ETag", "Last-Modified"] {
            assert_eq!(head.header(name), whole.header(name), "{name}");
        }
        if size > 10 {
            let range = format!("Range: bytes=3-{}\r\n", size - 2);
            let part = demo.request("GET", &format!("/{size}.bin"), &range);
            let expected = format!("bytes 3-{}/{size}", size - 2);
            assert_eq!((part.status, part.header("Content-Range")), (206, Some(expected.as_str())));
            assert!(part.body == content[3..size - 1], "{size}");
        }
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_cached_is_never_passed_off_as_whole() {
    let root = Root::new("shrink");
    let content: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    let demo = Demo::start(&["--root", str_of(&root.www())]);
    // One that is read into the head's buffer, and one that the kernel sends.
    for (name, size) in [("small", 8_000), ("large", content.len())] {
        root.write(name, &content[..size]);
        assert_eq!(demo.get(&format!("/{name}")).body.len(), size);
        let file = fs::File::options().write(true).open(root.www().join(name)).expect("open");
        file.set_len(size as u64 / 2).expect("truncate");

        let mut stream = demo.connect();
        write!(stream, "GET /{name} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").expect("send");
        let mut bytes = Vec::new();
        // Broken off, by a FIN or a RST, but ended: a hang would run into the deadline.
        if let Err(error) = stream.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{name}");
        }
        let answer = Answer::parse(&bytes);
        if answer.status == 200 {
            assert_eq!(answer.body.len(), size / 2, "{name}");
            assert!(answer.body == content[..size / 2], "{name}");
            // The old length, and a body that visibly falls short of it; or the new one, where a second has passed.
            let announced: usize =
                answer.header("Content-Length").expect("a length").parse().expect("a number");
            assert!(announced == size || announced == size / 2, "{name}: {announced}");
        } else {
            assert_eq!(answer.status, 500, "{name}");
        }
    }
    assert_eq!(demo.get("/small").header("Connection"), Some("close"), "the server lives on");
}

#[test]
fn one_open_file_serves_many_connections_and_is_closed_after_them() {
    let root = Root::new("shared");
    // More than the socket buffers hold, so that every connection is still being sent to.
    root.write("big", &vec![b'x'; 32 << 20]);
    let demo = Demo::start(&["--root", str_of(&root.www()), "--workers", "2"]);
    let open_files = || {
        let links = fs::read_dir(format!("/proc/{}/fd", demo.child.id())).expect("list the descriptors");
        // A descriptor may be closed between the listing and the look.
        links
            .filter_map(|link| fs::read_link(link.ok()?.path()).ok())
            .filter(|to| to.ends_with("big"))
            .count()
    };
    let connections: Vec<TcpStream> = (0..60)
        .map(|_| {
            let mut stream = demo.connect();
            stream.write_all(b"GET /big HTTP/1.1\r\nHost: demo\r\n\r\n").expect("send");
            let mut first = [0; 1];
            stream.read_exact(&mut first).expect("the answer begins");
            stream
        })
        .collect();
    let open = open_files();
    // One per core and second of the time to live.
    assert!((1..=20).contains(&open), "{open} descriptors for 60 connections");
    drop(connections);
    let started = Instant::now();
    while open_files() > 0 {
        assert!(started.elapsed() < DEADLINE, "{} descriptors are left open", open_files());
        thread::yield_now();
    }
}

#[test]
fn a_copy_that_is_still_good_is_not_sent_again() {
    let demo = Demo::start(&[]);
    let whole = demo.get("/style.css");
    let etag = whole.header("ETag").expect("an entity tag").to_owned();
    let modified = whole.header("Last-Modified").expect("a date").to_owned();
    for condition in [format!("If-None-Match: {etag}\r\n"), format!("If-Modified-Since: {modified}\r\n")] {
        let answer = demo.request("GET", "/style.css", &condition);
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{condition}");
        assert_eq!(answer.header("ETag"), Some(etag.as_str()));
    }
    assert_eq!(demo.request("GET", "/style.css", "If-None-Match: \"x\"\r\n").status, 200);
    assert_eq!(demo.request("GET", "/style.css", "If-Match: \"x\"\r\n").status, 412);
    let beyond = demo.request("GET", "/style.css", "Range: bytes=1000000-\r\n");
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("Content-Range"), Some(format!("bytes */{}", whole.body.len()).as_str()));
}

#[test]
fn nothing_outside_the_root_is_ever_sent() {
    let root = Root::new("escapes");
    fs::write(root.0.join("secret"), "SECRET").expect("write the secret");
    root.write("dir/file", b"inside");
    root.write(".hidden", b"SECRET");
    symlink("../secret", root.www().join("link")).expect("symlink");
    symlink("..", root.www().join("up")).expect("symlink");
    symlink(root.0.join("secret"), root.www().join("absolute")).expect("symlink");
    symlink("dir", root.www().join("alias")).expect("symlink");
    let demo = Demo::start(&["--root", str_of(&root.www())]);
    for target in [
        "/../secret",
        "/dir/../../secret",
        "/..%2fsecret",
        "/%2e%2e/secret",
        "/%2e%2e%2fsecret",
        "/.%2e/secret",
        "/%252e%252e/secret",
        "/..%5csecret",
        "/..%00/secret",
        "/dir/file%00.html",
        "/..%c0%af/secret",
        "/.hidden",
        "/%2ehidden",
        "/link",
        "/up/secret",
        "/absolute",
        "//../secret",
        "/dir%2ffile",
        "/..;/secret",
        "/dir/%2e%2e/%2e%2e/secret",
        "/%",
        "/%zz",
    ] {
        let answer = demo.get(target);
        assert!(matches!(answer.status, 400 | 404), "{target}: {}", answer.status);
        assert!(!String::from_utf8_lossy(&answer.body).contains("SECRET"), "{target}");
    }
    assert_eq!(demo.get("/alias/file").text(), "inside");
    assert_eq!(demo.get("/dir//./file?x=../../secret").text(), "inside");
    let moved = demo.get("/dir?x");
    assert_eq!((moved.status, moved.header("Location")), (301, Some("./dir/?x")));
}

#[test]
fn a_file_can_only_be_read() {
    let demo = Demo::start(&[]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
        let answer = demo.request(method, "/index.html", "Content-Length: 0\r\n");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
    }
    let options = demo.request("OPTIONS", "/index.html", "");
    assert_eq!((options.status, options.header("Allow")), (204, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn an_interrupt_ends_the_demo_after_the_request_in_hand() {
    let demo = Demo::start(&["--workers", "2"]);
    let mut busy = demo.connect();
    // The second request follows the answer to the first, so the connection is known to be served.
    busy.write_all(b"GET /plaintext HTTP/1.1\r\nHost: demo\r\n\r\n").expect("send");
    let mut first = [0; 4096];
    assert!(busy.read(&mut first).expect("receive") > 0);
    busy.write_all(b"GET /sleep?ms=300 HTTP/1.1\r\nHost: demo\r\n\r\n").expect("send");
    let peer = busy.local_addr().expect("an address").to_string();
    let started = Instant::now();
    while !demo.get("/threads").text().lines().any(|line| line.contains(&peer) && line.contains("timer")) {
        assert!(started.elapsed() < DEADLINE, "the request does not arrive");
    }
    signal(demo.child.id(), "INT");
    let mut bytes = Vec::new();
    busy.read_to_end(&mut bytes).expect("receive until the close");
    let answer = Answer::parse(&bytes);
    assert_eq!((answer.status, answer.text()), (200, "Hello, World!"));
    // The server lingers on a connection until its client closes too.
    drop(busy);
    assert_eq!(demo.wait().code(), Some(0));
}

#[test]
fn the_counters_are_printed_at_the_end_when_asked_for() {
    let mut demo = Demo::start_with(&["--workers", "2", "--stats"], Stdio::piped());
    assert_eq!(demo.get("/plaintext").status, 200);
    signal(demo.child.id(), "INT");
    let mut stats = String::new();
    demo.child.stderr.take().expect("a pipe").read_to_string(&mut stats).expect("read until the end");
    assert_eq!(demo.wait().code(), Some(0));
    let accepts =
        stats.lines().find_map(|line| line.strip_prefix("accepts ")).expect("a row for each counter");
    assert_eq!(accepts.split_whitespace().next(), Some("1"), "{stats}");
}

/// The labels in a list of threads, without peers, and how many threads have each.
fn roles(list: &str) -> BTreeMap<String, usize> {
    let mut roles = BTreeMap::new();
    for line in list.lines().filter(|line| line.starts_with("{\"id\"")) {
        let label =
            line.split_once("\"label\":\"").map_or("none", |(_, rest)| rest.split('"').next().unwrap_or(""));
        let role = if label.starts_with("conn ") { "conn" } else { label };
        *roles.entry(role.to_owned()).or_default() += 1;
    }
    roles
}

#[test]
fn a_fixed_workload_has_the_expected_threads_by_label_and_no_more() {
    const IDLE: usize = 7;
    let demo = Demo::start(&["--workers", "1"]);
    let expect = |connections: usize| {
        let expected: BTreeMap<String, usize> =
            [("main", 1), ("acceptor", 1), ("signals", 1), ("timeout sweep", 1), ("conn", connections)]
                .map(|(role, count)| (role.to_owned(), count))
                .into();
        // What has been closed may take a moment to end.
        let started = Instant::now();
        loop {
            let found = roles(demo.get("/threads").text());
            if found == expected {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "{found:?} instead of {expected:?}");
        }
    };
    expect(1);
    let idle: Vec<TcpStream> = (0..IDLE)
        .map(|_| {
            let mut stream = demo.connect();
            stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: demo\r\n\r\n").expect("send");
            let mut answer = Vec::new();
            while !answer.ends_with(b"Hello, World!") {
                let mut bytes = [0; 512];
                let read = stream.read(&mut bytes).expect("receive");
                assert_ne!(read, 0);
                answer.extend_from_slice(&bytes[..read]);
            }
            stream
        })
        .collect();
    expect(IDLE + 1);
    drop(idle);
    expect(1);
}

#[test]
fn the_dump_shows_where_a_connection_waits() {
    let demo = Demo::start(&["--workers", "1"]);
    let sleeper = demo.connect();
    (&sleeper).write_all(b"GET /sleep?ms=10000 HTTP/1.1\r\nHost: demo\r\n\r\n").expect("send");
    let peer = sleeper.local_addr().expect("an address").to_string();
    let started = Instant::now();
    loop {
        let dump = demo.get("/threads/dump");
        assert_eq!((dump.status, dump.header("Content-Type")), (200, Some("text/plain; charset=utf-8")));
        let group = dump.text().split("\n\n").find(|group| group.contains(&peer));
        if let Some(group) = group
            && group.contains("blocked on timer")
        {
            // An inlined function has a bare name, but its file.
            assert!(group.contains("sleep") && group.contains("examples/src/demo/mod.rs"), "{group}");
            return;
        }
        assert!(started.elapsed() < DEADLINE, "no sleeper in {}", dump.text());
    }
}

#[test]
fn sigquit_prints_a_dump_and_the_demo_serves_on() {
    let mut child = command(&["--listen", "127.0.0.1:0", "--workers", "1"]).spawn().expect("start the demo");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("read the first line");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let id = child.id();
    // Whoever answers has its signal handlers: the dump's is installed before the server begins.
    let address = line.trim_end().strip_prefix("listening on http://").expect("the address").to_owned();
    let demo = Demo { address: address.parse().expect("an address"), child };
    assert_eq!(demo.get("/plaintext").status, 200);
    let (printed, prints) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.contains("different stacks") || line.contains("\"acceptor\": blocked on accept") {
                let _ = printed.send(line.clone());
            }
            line.clear();
        }
    });
    for _ in 0..2 {
        signal(id, "QUIT");
        assert!(prints.recv_timeout(DEADLINE).expect("the first line").contains(" threads with "));
        assert!(prints.recv_timeout(DEADLINE).expect("the acceptor").contains("switches"));
        assert_eq!(demo.get("/plaintext").status, 200);
    }
}

#[test]
fn the_monitor_prints_the_numbers_of_threads() {
    let mut child = command(&["--listen", "127.0.0.1:0", "--workers", "1", "--monitor"])
        .stderr(Stdio::inherit())
        .spawn()
        .expect("start the demo");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            let _ = sender.send(line);
        }
    });
    let first = receiver.recv_timeout(DEADLINE).expect("a line");
    assert!(first.starts_with("listening on"), "{first}");
    for _ in 0..2 {
        let line = receiver.recv_timeout(DEADLINE).expect("a line");
        assert!(line.contains("acceptor blocked 1") && line.contains("main blocked 1"), "{line}");
        assert!(line.contains("monitor running 1"), "{line}");
    }
    child.kill().expect("kill the demo");
    child.wait().expect("wait for the demo");
}
