//! The responses that llhttp, Node's parser, is tested with (`test/response` there), given to the client: what llhttp does
//! with them, what the client does, and why where that is not the same.
//!
//! Only the facts are theirs: bytes, and whether they are taken. Where the original ends within a body, what is missing is
//! added. A connection that ends is the end of a response without a length, as it is there.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;

use bast_server::client::{Client, Error};

use super::DEADLINE;

/// What llhttp does with an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theirs {
    Takes,
    /// As it comes, without a switch.
    Refuses,
    /// Only with a switch for leniency. There is none here.
    TakesIfLenient,
}

use Theirs::{Refuses, Takes, TakesIfLenient};

/// What it is about, what llhttp does, the bytes, status and body that the client reads of them or `None`, and why that
/// differs: empty if it does not.
type Vector<'v> = (&'v str, Theirs, &'v [u8], Option<(u16, &'v [u8])>, &'v str);

/// What the client reads of a connection on which these parts are sent, each on its own.
fn exchange(parts: &[&[u8]]) -> Result<(u16, Vec<u8>), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut server, _) = listener.accept().expect("the client connects");
            server.set_nodelay(true).expect("small parts can be sent at once");
            server.set_read_timeout(Some(DEADLINE)).expect("a deadline");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                server.read_exact(&mut byte).expect("a request");
                request.push(byte[0]);
            }
            for part in parts {
                // The client has closed already where it refuses what it has seen.
                if server.write_all(part).is_err() {
                    return;
                }
            }
            let _ = server.shutdown(Shutdown::Write);
            let _ = server.read_to_end(&mut Vec::new());
        });
        let response = Client::new().get(format!("http://{address}/")).send()?;
        let status = response.status().code();
        response.read_to_vec().map(|body| (status, body))
    })
}

fn check(vectors: &[Vector<'_>]) {
    for &(name, theirs, input, ours, why) in vectors {
        let differs = ours.is_some() != (theirs == Takes);
        assert_eq!(differs, !why.is_empty(), "{name}: a reason is for what differs");
        for parts in [vec![input], input.chunks(1).collect()] {
            let read = exchange(&parts);
            let read = match &read {
                Ok((status, body)) => Some((*status, &**body)),
                Err(error) => {
                    assert!(error.is_malformed() || error.is_closed(), "{name}: {error}");
                    None
                }
            };
            assert_eq!(read, ours, "{name}: {} in {} parts", input.escape_ascii(), parts.len());
        }
    }
}

#[test]
fn plain_responses_are_taken_as_llhttp_takes_them() {
    check(&[
        (
            "two fields and no body",
            Takes,
            b"HTTP/1.1 200 OK\r\nHeader1: Value1\r\nHeader2:\t Value2\r\nContent-Length: 0\r\n\r\n",
            Some((200, b"")),
            "",
        ),
        ("no field", Takes, b"HTTP/1.1 200 OK\r\n\r\n", Some((200, b"")), ""),
        (
            "a dollar in a name, and a length with spaces around it",
            Takes,
            b"HTTP/1.1 301 Moved Permanently\r\nLocation: http://www.google.com/\r\nX-$PrototypeBI-Version: \
              1.6.0.3\r\nContent-Length:  4  \r\n\r\nhere",
            Some((301, b"here")),
            "",
        ),
        (
            "one chunk, a line feed",
            Takes,
            b"HTTP/1.1 301 MovedPermanently\r\nServer: Server\r\np3p: policyref=\"http://a/p3p.xml\",CP=\"CAO DSP \
              \"\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
            Some((301, b"\n")),
            "",
        ),
        ("404", Takes, b"HTTP/1.1 404 Not Found\r\n\r\n", Some((404, b"")), ""),
        ("no reason", Takes, b"HTTP/1.1 301\r\n\r\n", Some((301, b"")), ""),
        ("a space and no reason", Takes, b"HTTP/1.1 200 \r\n\r\n", Some((200, b"")), ""),
        ("a reason behind two spaces", Takes, b"HTTP/1.1 200  OK\r\n\r\n", Some((200, b"")), ""),
        (
            "a reason that is not ASCII",
            Takes,
            b"HTTP/1.1 500 Ori\xc3\xabntatieprobleem\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            Some((500, b"")),
            "",
        ),
        (
            "an underscore in a name",
            Takes,
            b"HTTP/1.1 200 OK\r\nServer: DCLK-AdSvr\r\nContent-Length: 0\r\nDCLK_imp: v7;x;114750856;0-0\r\n\r\n",
            Some((200, b"")),
            "",
        ),
        (
            "1.0 with an empty value",
            Takes,
            b"HTTP/1.0 301 Moved Permanently\r\nPragma: \r\nLocation: http://www.bonjourmadame.fr/\r\nContent-Length: \
              0\r\nConnection: keep-alive\r\n\r\n",
            Some((301, b"")),
            "",
        ),
        (
            "names with odd beginnings",
            Takes,
            b"HTTP/1.1 200 OK\r\n.et-Cookie: PlaxoCS=1; path=/\r\n_eep-Alive: timeout=45\r\n_onnection: \
              Keep-Alive\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
            Some((200, b"")),
            "",
        ),
        (
            "a space in a name",
            Refuses,
            b"HTTP/1.1 200 OK\r\nServer: Microsoft-IIS/6.0\r\nen-US Content-Type: text/xml\r\nContent-Length: \
              16\r\n\r\n<xml>hello</xml>",
            None,
            "",
        ),
        (
            "a body that ends with the connection",
            Takes,
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello world",
            Some((200, b"hello world")),
            "",
        ),
        (
            "the same where close is said",
            Takes,
            b"HTTP/1.1 200 OK\r\nServer: Apache\r\nConnection: close\r\n\r\n<?xml version=\"1.0\"?>\n<a/>",
            Some((200, b"<?xml version=\"1.0\"?>\n<a/>")),
            "",
        ),
        (
            "an empty line before it",
            Takes,
            b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            None,
            "what comes before a response belongs to none (RFC 9112 §2.2 lets servers ignore it)",
        ),
    ]);
}

#[test]
fn status_lines_and_line_ends_are_as_strict_as_llhttp_has_them() {
    const HTTP_ONLY: &str = "only HTTP/1.x is spoken here";
    let bare = b"HTTP/1.1 200 OK\nContent-Type: text/html; charset=utf-8\nConnection: close\n\nbody";
    let bodiless = b"HTTP/1.1 200 OK\nContent-Length: 0\n\n";
    let fields = b"HTTP/1.1 200 OK\nFoo: abc\nBar: def\n\nBODY\n";
    check(&[
        ("RTSP", Takes, b"RTSP/1.1 200 OK\r\n\r\n", None, HTTP_ONLY),
        ("ICE", Takes, b"ICE/1.1 200 OK\r\n\r\n", None, HTTP_ONLY),
        ("HTTP/0.9", Takes, b"HTTP/0.9 200 OK\r\n\r\n", None, "there is no status line in HTTP/0.9"),
        ("HTTPER", Refuses, b"HTTPER/1.1 200 OK\r\n\r\n", None, ""),
        ("HTP", Refuses, b"HTP/1.1 200 OK\r\n\r\n", None, ""),
        ("HTTP/01.1", Refuses, b"HTTP/01.1 200 OK\r\n\r\n", None, ""),
        ("HTTP/11.1", Refuses, b"HTTP/11.1 200 OK\r\n\r\n", None, ""),
        ("HTTP/1.01", Refuses, b"HTTP/1.01 200 OK\r\n\r\n", None, ""),
        ("HTTP/5.6", Refuses, b"HTTP/5.6 200 OK\r\n\r\n", None, ""),
        ("a tab behind the version", Refuses, b"HTTP/1.1\t200 OK\r\n\r\n", None, ""),
        ("a CR before it, and the tab", Refuses, b"\rHTTP/1.1\t200 OK\r\n\r\n", None, ""),
        ("two spaces behind the version", Refuses, b"HTTP/1.1  200 OK\r\n\r\n", None, ""),
        ("a code of one digit", Refuses, b"HTTP/1.1 2 OK\r\n\r\n", None, ""),
        ("white space behind the status line", Refuses, b"HTTP/1.1 200 OK\r\n Host: foo\r\n\r\n", None, ""),
        ("a CR between fields", Refuses, b"HTTP/1.1 200 OK\r\nFoo: 1\rBar: 2\r\n\r\n", None, ""),
        ("no CR at all", Refuses, bare, None, ""),
        ("no CR at all, leniently", TakesIfLenient, bare, None, ""),
        ("no CR and no body", Refuses, bodiless, None, ""),
        ("no CR and no body, leniently", TakesIfLenient, bodiless, None, ""),
        ("no CR, two fields", Refuses, fields, None, ""),
        ("no CR, two fields, leniently", TakesIfLenient, fields, None, ""),
    ]);
}

#[test]
fn bodies_of_responses_end_where_llhttp_ends_them() {
    const AMBIGUOUS: &str =
        "a body whose end two readers see in two places is refused; llhttp reads to the end";
    let upgrade = "Connection: upgrade\r\nUpgrade: h2c\r\n";
    let upgraded = |rest: &str| format!("HTTP/1.1 200 OK\r\n{upgrade}{rest}").into_bytes();
    let chunked = |body: &str| {
        format!("HTTP/1.1 200 OK\r\nHost: localhost\r\nTransfer-encoding: chunked\r\n\r\n{body}").into_bytes()
    };
    let tokens = chunked(
        "5;ilovew3;somuchlove=aretheseparametersfor\r\nhello\r\n6;blahblah;blah\r\n world\r\n0\r\n\r\n",
    );
    let quotes = chunked(
        "5;ilovew3=\"I love; extensions\";somuchlove=\"aretheseparametersfor\";blah;foo=bar\r\nhello\r\n6;blahblah;\
         blah\r\n world\r\n0\r\n\r\n",
    );
    let unbalanced =
        chunked("5;ilovew3=\"abc\";somuchlove=\"def; ghi\r\nhello\r\n6;blahblah;blah\r\n world\r\n0\r\n\r\n");
    let length = b"HTTP/1.1 200 No content\r\nContent-Length: 5\r\nConnection: close\r\n\r\n2ad731e3-4dcd";
    let no_content = b"HTTP/1.1 204 No content\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK";
    check(&[
        (
            "Proxy-Connection is another field",
            Takes,
            b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nProxy-Connection: close\r\n\r\nhello world",
            Some((200, b"hello world")),
            "",
        ),
        (
            "1.0 with keep-alive and no length",
            Takes,
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nHTTP/1.0 200 OK",
            Some((200, b"HTTP/1.0 200 OK")),
            "",
        ),
        (
            "1.1 without a length",
            Takes,
            b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK",
            Some((200, b"HTTP/1.1 200 OK")),
            "",
        ),
        (
            "204 in 1.0 has no body",
            Takes,
            b"HTTP/1.0 204 No content\r\nConnection: keep-alive\r\n\r\nHTTP/1.0 200 OK",
            Some((204, b"")),
            "",
        ),
        (
            "204 has no body",
            Takes,
            b"HTTP/1.1 204 No content\r\n\r\nHTTP/1.1 200 OK",
            Some((204, b"")),
            "",
        ),
        (
            "data behind a 204 and a close",
            Refuses,
            no_content,
            Some((204, b"")),
            "the response is whole; the connection is closed and nothing more read",
        ),
        (
            "data behind a 204 and a close, leniently",
            TakesIfLenient,
            no_content,
            Some((204, b"")),
            "the response is whole; the connection is closed and nothing more read",
        ),
        (
            "data behind a body and a close",
            Refuses,
            length,
            Some((200, b"2ad73")),
            "the response is whole; the connection is closed and nothing more read",
        ),
        (
            "data behind a body and a close, leniently",
            TakesIfLenient,
            length,
            Some((200, b"2ad73")),
            "the response is whole; the connection is closed and nothing more read",
        ),
        (
            "data behind a response",
            Takes,
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nAAA\r\nHTTP/1.1 201 Created\r\nContent-Length: \
              4\r\n\r\nBBBB\r\n",
            Some((200, b"AAA")),
            "",
        ),
        (
            "101 that nobody asked for",
            Takes,
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: \
              4\r\n\r\nbodyproto",
            None,
            "the client did not ask for an upgrade (RFC 9110 §15.2.2)",
        ),
        (
            "101 with chunks",
            Takes,
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: \
              chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\nproto",
            None,
            "the client did not ask for an upgrade (RFC 9110 §15.2.2)",
        ),
        ("200 with Upgrade", Takes, &upgraded("\r\nbody"), Some((200, b"body")), ""),
        (
            "200 with Upgrade and a length",
            Takes,
            &upgraded("Content-Length: 4\r\n\r\nbody"),
            Some((200, b"body")),
            "",
        ),
        (
            "200 with Upgrade and chunks",
            Takes,
            &upgraded("Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"),
            Some((200, b"body")),
            "",
        ),
        (
            "a field whose name begins like that of the length",
            Takes,
            b"HTTP/1.1 200 OK\r\nContent-Length-X: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n",
            Some((200, b"OK")),
            "",
        ),
        (
            "tabs around a length",
            Takes,
            b"HTTP/1.1 200 OK\r\nContent-Length:\t2\t\r\n\r\nOK",
            Some((200, b"OK")),
            "",
        ),
        (
            "no coding beside a length",
            Refuses,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello",
            None,
            "",
        ),
        ("spaces behind a size", Refuses, &chunked("2  \r\naa\r\n0  \r\n\r\n"), None, ""),
        (
            "chunked before another coding",
            Takes,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, deflate\r\n\r\nWorld",
            None,
            AMBIGUOUS,
        ),
        (
            "chunked above another coding",
            Takes,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\nWorld",
            None,
            AMBIGUOUS,
        ),
        (
            "chunked twice in one word",
            Takes,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunkedchunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n",
            None,
            AMBIGUOUS,
        ),
        (
            "a fold behind chunked, leniently",
            TakesIfLenient,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n  abc\r\n\r\n5\r\nWorld\r\n0\r\n\r\n",
            None,
            "",
        ),
        ("extensions", Takes, &tokens, Some((200, b"hello world")), ""),
        ("quoted extensions", Takes, &quotes, Some((200, b"hello world")), ""),
        ("a quote that does not end", Refuses, &unbalanced, None, ""),
        (
            "no semicolon before an extension",
            Refuses,
            &chunked("2 erfrferferf\r\naa\r\n0 rrrr\r\n\r\n"),
            None,
            "",
        ),
        ("no extension behind a semicolon", Refuses, &chunked("2;\r\naa\r\n0\r\n\r\n"), None, ""),
    ]);
}
