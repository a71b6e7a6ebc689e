//! RFC 9112 §6 and §7, message bodies and transfer codings.

use super::*;

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    [post(CHUNKED, "").as_bytes(), body.as_ref()].concat()
}

/// §6: Content-Length or Transfer-Encoding say that there is a body, whatever the method; without them there is none.
#[test]
fn a_request_has_a_body_where_a_field_says_so() {
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "OTHER"] {
        let request = |fields: &str| format!("{method} /b HTTP/1.1\r\nHost: a\r\n{fields}");
        check([
            answered(request("\r\n"), &format!("{method} /b ")),
            answered(request("Content-Length: 4\r\n\r\nbody"), &format!("{method} /b body")),
            answered(
                request("Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
                &format!("{method} /b body"),
            ),
        ]);
    }
}

/// §6.2 and RFC 9110 §8.6: digits, and a number that can be held.
#[test]
fn a_content_length_is_one_decimal_number() {
    for length in ["5", "05", "00000000000000000000000000000000000005"] {
        check([answered(post(&format!("Content-Length: {length}\r\n"), "hello"), "POST / hello")]);
    }
    check([answered(post("Content-Length: 0\r\n", ""), "POST / ")]);
    for length in [
        "+5",
        "-5",
        "+0",
        "-0",
        "5.0",
        "5e0",
        "0x5",
        "0o5",
        "5h",
        "h",
        "5 5",
        "5\t5",
        "5,",
        ",5",
        "5,5",
        "5, 5",
        "5, 6",
        "5;",
        "\"5\"",
        "5_0",
        "1_000",
        "\u{b}5",
        "5\u{b}",
        "5\u{c}",
        "\u{a0}5",
        "\u{665}",
        "",
        " ",
        "NaN",
        "inf",
        "18446744073709551616",
        "18446744073709551621",
        "36893488147419103237",
        "99999999999999999999999999999999999999",
        "340282366920938463463374607431768211461",
    ] {
        check([refused(400, post(&format!("Content-Length: {length}\r\n"), "hello"))]);
    }
}

/// The same, byte by byte at the beginning, within and at the end.
#[test]
fn a_content_length_has_digits_only_byte_by_byte() {
    for at in 0..3 {
        check((0..=255u8).filter_map(|byte| {
            let mut length = *b"005";
            length[at] = byte;
            let input =
                [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ", &length[..], b"\r\n\r\nhello"].concat();
            // Spaces around it are no part of it; the rest of the digits is a length of its own.
            match byte {
                b' ' | b'\t' if at == 0 => Some(answered(input, "POST / hello")),
                // That would be the length 0, and the data the beginning of the next request.
                b' ' | b'\t' if at == 2 => None,
                b'0'..=b'9' => None,
                _ => Some(refused(400, input)),
            }
        }));
    }
}

/// §6.3: a list of equal values may be taken as one, or refused; several different ones must be refused. Here all are.
#[test]
fn a_second_content_length_is_refused_equal_or_not() {
    for (one, two) in [("5", "5"), ("5", "6"), ("5", "05"), ("0", "5"), ("5", "0"), ("5", ""), ("5", "x")] {
        check([
            refused(400, post(&format!("Content-Length: {one}\r\nContent-Length: {two}\r\n"), "hello")),
            refused(
                400,
                post(&format!("Content-Length: {one}\r\nX: y\r\ncontent-length: {two}\r\n"), "hello"),
            ),
        ]);
    }
}

/// §6.3, rule 3, the classic of request smuggling: both fields, in either order and whatever they say.
#[test]
fn content_length_beside_transfer_encoding_is_refused() {
    for length in ["0", "3", "5", "13"] {
        for coding in ["chunked", "Chunked", "gzip, chunked", "identity"] {
            for (first, second) in [
                (format!("Content-Length: {length}"), format!("Transfer-Encoding: {coding}")),
                (format!("Transfer-Encoding: {coding}"), format!("Content-Length: {length}")),
            ] {
                check([refused(400, post(&format!("{first}\r\n{second}\r\n"), "3\r\nabc\r\n0\r\n\r\n"))]);
            }
        }
    }
}

/// §6.1: 501 where the coding is not known; 400 where chunked is not the last, or applied twice.
#[test]
fn only_chunked_alone_is_a_transfer_coding_here() {
    let coded = |fields: &str| post(fields, "5\r\nhello\r\n0\r\n\r\n");
    for good in ["chunked", "Chunked", "CHUNKED", ", chunked", "chunked,", " ,\t, chunked , ,"] {
        check([answered(coded(&format!("Transfer-Encoding: {good}\r\n")), "POST / hello")]);
    }
    for unknown in
        ["gzip", "identity", "gzip, chunked", "xchunked", "chunke", "chunkedd", "deflate, gzip", "*"]
    {
        check([refused(501, coded(&format!("Transfer-Encoding: {unknown}\r\n")))]);
    }
    for bad in
        ["chunked, chunked", "chunked, gzip", "chunked, identity", "gzip, chunked, chunked", "", ",", " , "]
    {
        check([refused(400, coded(&format!("Transfer-Encoding: {bad}\r\n")))]);
    }
}

/// §6.1: several lines are one list.
#[test]
fn several_lines_of_transfer_encoding_are_one_list() {
    let coded = |lines: &[&str]| {
        let fields: String = lines.iter().map(|line| format!("Transfer-Encoding: {line}\r\n")).collect();
        post(&fields, "5\r\nhello\r\n0\r\n\r\n")
    };
    check([
        refused(400, coded(&["chunked", "chunked"])),
        refused(400, coded(&["chunked", "identity"])),
        refused(400, coded(&["chunked", "gzip"])),
        refused(400, coded(&["chunked", ""])),
        refused(400, coded(&["", "chunked"])),
        refused(501, coded(&["gzip", "chunked"])),
        refused(501, coded(&["identity", "chunked"])),
    ]);
}

/// What one reader takes for `chunked` and another does not.
#[test]
fn an_obfuscated_chunked_is_refused() {
    for coding in [
        "\u{b}chunked",
        "chunked\u{b}",
        "\u{c}chunked",
        "chunked\u{c}",
        "\u{a0}chunked",
        "chunked\u{a0}",
        "\"chunked\"",
        "'chunked'",
        "chun ked",
        "chunked;q=1",
        "chunked; a=b",
        "chunked;",
        "chunked gzip",
        "x chunked",
        "chunked\0",
        "\u{7f}chunked",
        "chunk\u{e9}d",
        "c\u{4b0}unked",
        "[chunked]",
        "chunked:",
        "=chunked",
    ] {
        let input = post(&format!("Transfer-Encoding: {coding}\r\n"), "5\r\nhello\r\n0\r\n\r\n");
        // A token that is not known is 501, what is no token 400; neither is ever served.
        let name = coding.split(';').next().expect("one at least");
        let is_token = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        check([refused(if is_token { 501 } else { 400 }, input)]);
    }
    for name in ["Transfer-Encoding ", " Transfer-Encoding", "Transfer-Encoding\t", "Transfer\u{a0}Encoding"]
    {
        check([refused(400, post(&format!("{name}: chunked\r\n"), "5\r\nhello\r\n0\r\n\r\n"))]);
    }
    // Another field is another field.
    for name in ["Transfer_Encoding", "Transfer-Encodings", "X-Transfer-Encoding", "TransferEncoding"] {
        check([answered(post(&format!("{name}: chunked\r\n"), ""), "POST / ")]);
    }
}

/// §6.1: a 1.0 request with Transfer-Encoding has faulty framing.
#[test]
fn transfer_encoding_in_a_1_0_request_is_refused() {
    for fields in ["", "Connection: keep-alive\r\n", "Host: a\r\n"] {
        check([refused(400, format!("POST / HTTP/1.0\r\n{fields}{CHUNKED}\r\n5\r\nhello\r\n0\r\n\r\n"))]);
    }
}

/// §7.1: hexadecimal digits, data, CRLF; a chunk of size 0 at the end.
#[test]
fn a_chunked_body_is_its_chunks_together() {
    for (body, data) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello"),
        ("0005\r\nhello\r\n0000\r\n\r\n", "hello"),
        ("0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", "hello"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\\r\\n"),
        ("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\\r\\n\\r\\n"),
    ] {
        check([answered(chunked(body), &format!("POST / {data}"))]);
    }
}

/// §7.1: "recipients MUST anticipate potentially large hexadecimal numerals and prevent parsing errors due to integer
/// conversion overflows".
#[test]
fn a_chunk_size_is_a_hexadecimal_number_that_can_be_held() {
    for size in [
        "",
        "g",
        "-5",
        "+5",
        " 5",
        "\t5",
        "0x5",
        "0X5",
        "5h",
        "5_",
        "_5",
        "1_0",
        "5.",
        "5,5",
        "\u{b}5",
        "5\u{b}",
        "5 ",
        "5\t",
        "5 5",
        "\"5\"",
        "\u{665}",
        "\u{ff15}",
        "#5",
        "00000000000000005",
        "10000000000000005",
        "fffffffffffffffff",
    ] {
        check([failed(400, chunked(format!("{size}\r\nhello\r\n0\r\n\r\n")))]);
    }
    for size in
        ["800001", "ffffffff", "100000005", "7fffffffffffffff", "8000000000000000", "ffffffffffffffff"]
    {
        check([failed(413, chunked(format!("{size}\r\nhello\r\n0\r\n\r\n")))]);
    }
}

/// The same byte by byte, before, within and behind the digits.
#[test]
fn a_chunk_size_has_hexadecimal_digits_only_byte_by_byte() {
    for at in 0..3 {
        check((0..=255u8).filter(|byte| !byte.is_ascii_hexdigit()).map(|byte| {
            let mut size = *b"005";
            size[at] = byte;
            let input = chunked([&size[..], b"\r\nhello\r\n0\r\n\r\n"].concat());
            failed(400, input)
        }));
    }
    for (size, data) in [("1", 1), ("9", 9), ("a", 10), ("F", 15), ("1f", 31), ("Ff", 255)] {
        let data = "d".repeat(data);
        check([answered(chunked(format!("{size}\r\n{data}\r\n0\r\n\r\n")), &format!("POST / {data}"))]);
    }
}

/// §7.1 and §2.2: CRLF ends a size and the data, and nothing else does.
#[test]
fn a_chunk_and_its_size_end_by_crlf_and_nothing_else() {
    for bad in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\n\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloo\r\n0\r\n\r\n",
        "5\r\nhello \r\n0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5\0\r\nhello\r\n0\r\n\r\n",
    ] {
        check([failed(400, chunked(bad))]);
    }
    for byte in (0..=255u8).filter(|&byte| byte != b'\r') {
        check([failed(400, chunked([b"1\r\nx", &[byte][..], b"\n0\r\n\r\n"].concat()))]);
    }
    for byte in (0..=255u8).filter(|&byte| byte != b'\n') {
        check([failed(400, chunked([b"1\r\nx\r", &[byte][..], b"0\r\n\r\n"].concat()))]);
        check([failed(400, chunked([b"1\r", &[byte][..], b"x\r\n0\r\n\r\n"].concat()))]);
    }
}

/// §7.1.1: extensions are ignored, but they are extensions.
#[test]
fn chunk_extensions_are_ignored_and_well_formed() {
    for good in [
        ";a",
        ";a=b",
        "; a = b",
        " ;a",
        "\t;\ta",
        ";a;b;c=d",
        ";a=\"\"",
        ";a=\"b;c\\\"\\\\ \"",
        ";a=\"\u{e9}\"",
    ] {
        check([answered(chunked(format!("5{good}\r\nhello\r\n0{good}\r\n\r\n")), "POST / hello")]);
    }
    for bad in [
        ";",
        "; ",
        ";;",
        ";a;",
        ";=b",
        ";a=",
        ";a b",
        ";a=b c",
        ";a=\"b",
        ";a=\"b\"c",
        ";\"a\"",
        ";a=b=c",
        ";a ",
        ",a",
        " a",
        ";a\nb",
        ";a\n",
        ";a=\"\n\"",
        ";a\0",
        ";a\rb",
        ";a=\"\r\"",
        ";\u{e9}",
        ";a\u{b}",
        ";a\u{7f}",
    ] {
        check([failed(400, chunked(format!("5{bad}\r\nhello\r\n0\r\n\r\n")))]);
        check([failed(400, chunked(format!("5\r\nhello\r\n0{bad}\r\n\r\n")))]);
    }
    for byte in (0..=255u8).filter(|&byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
        check([failed(400, chunked([b"5;a=\"", &[byte][..], b"\"\r\nhello\r\n0\r\n\r\n"].concat()))]);
    }
}

/// §7.1.2: trailers are field lines, and never frame anything.
#[test]
fn trailers_are_field_lines_and_frame_nothing() {
    let trailed = |trailers: &str| chunked(format!("5\r\nhello\r\n0\r\n{trailers}\r\n"));
    for good in [
        "X: y\r\n",
        "X:\r\nY: z\r\n",
        "X: \u{e9}\t\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Host: b c\r\n",
        "Connection: close\r\n",
        "Expect: tea\r\n",
    ] {
        check([answered(trailed(good), "POST / hello")]);
    }
    for bad in [
        ": y\r\n",
        "X\r\n",
        "X y\r\n",
        "X : y\r\n",
        " X: y\r\n",
        "X: y\r\n z\r\n",
        "X: y\n",
        "X: y\rz\r\n",
        "X: \0\r\n",
        "X\u{e9}: y\r\n",
        "(X): y\r\n",
        "GET / HTTP/1.1\r\n",
        "X: y\r\r\n",
        "X: \u{7f}\r\n",
    ] {
        check([failed(400, trailed(bad))]);
    }
}

/// Node CVE-2024-22019, Go CVE-2023-39326: a body that is nearly all framing.
#[test]
fn the_overhead_of_a_chunked_body_is_bounded() {
    let extension = |len: usize| chunked(format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(len)));
    let trailer = |len: usize| chunked(format!("1\r\nx\r\n0\r\nT:{}\r\n\r\n", "t".repeat(len)));
    let room = 16 << 10;
    check([
        answered(extension(room - 1), "POST / x"),
        failed(400, extension(room)),
        failed(400, extension(1 << 20)),
        answered(trailer(room - 1), "POST / x"),
        failed(400, trailer(room)),
        failed(400, chunked(format!("{}0\r\n\r\n", "1;a=bcdef\r\nx\r\n".repeat(2100)))),
        failed(400, chunked(format!("0\r\n{}\r\n", "T:\r\n".repeat(17_000)))),
    ]);
}

/// §6.3: the client closes before the body is whole: the request is incomplete, and no part of it is taken for the whole.
#[test]
fn a_body_that_is_cut_off_fails() {
    let cut_off = |row: Row| Row { is_cut_off: true, ..row };
    for body in ["", "h", "hell"] {
        check([cut_off(failed(400, post("Content-Length: 5\r\n", body)))]);
    }
    let whole = "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
    check((0..whole.len()).map(|len| cut_off(failed(400, chunked(&whole[..len])))));
}

/// A body is never read as a request, nor a request as a body.
#[test]
fn what_is_in_a_body_is_no_request() {
    let inner = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    let shown = inner.escape_default().to_string();
    let sized = post(&format!("Content-Length: {}\r\n", inner.len()), inner);
    let chunks = chunked(format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()));
    check([answered(&sized, &format!("POST / {shown}")), answered(&chunks, &format!("POST / {shown}"))]);
    // Left unread it is dropped.
    let ignored = |request: &[u8]| String::from_utf8_lossy(request).replacen("POST / ", "POST /ignore ", 1);
    check([
        answered(ignored(sized.as_bytes()), "POST /ignore "),
        answered(ignored(&chunks), "POST /ignore "),
        all_answered(
            format!("{}{inner}", ignored(&chunks)).replace("/evil HTTP/1.1\r\nHost: a\r\n\r\nGET", "GET"),
            &["POST /ignore ", "GET /evil "],
        ),
    ]);
}
