//! What the fuzz targets share: how an input says where it is cut, and how a client reads what it is sent.
#![forbid(unsafe_code)]

/// In an input this byte is not sent: it says that the client's output is cut here. So inputs stay legible, and the fuzzer
/// moves cuts about like any other byte.
pub const CUT: u8 = 0xfe;

/// The parts that the client sends.
#[must_use]
pub fn parts(input: &[u8]) -> Vec<&[u8]> {
    input.split(|&byte| byte == CUT).collect()
}

/// A response, taken apart as a strict client takes it.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All fields in their order.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The decoded body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the only field with this name; several are a fault.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| &**value);
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    /// Does the server close the connection behind it?
    #[must_use]
    pub fn closes(&self) -> bool {
        self.field("Connection") == Some(b"close")
    }
}

/// Takes apart everything that a client was sent. `to_head` says whether a response answers a HEAD request.
///
/// # Panics
/// If anything of it is not as RFC 9112 says.
#[must_use]
pub fn answers(mut output: &[u8], to_head: impl Fn(&Answer) -> bool) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !output.is_empty() {
        let shown = output.escape_ascii();
        let end = find(output, b"\r\n\r\n").unwrap_or_else(|| panic!("a head without an end: {shown}")) + 4;
        let mut answer = head(&output[..end]);
        output = &output[end..];
        let is_interim = answer.status < 200;
        let bodyless = is_interim || matches!(answer.status, 204 | 304) || to_head(&answer);
        let (length, coding) = (answer.field("Content-Length"), answer.field("Transfer-Encoding"));
        assert!(length.is_none() || coding.is_none(), "{answer:?}");
        assert!(!matches!(answer.status, 100..200 | 204) || (length.is_none() && coding.is_none()), "{answer:?}");
        if bodyless {
        } else if coding.is_some() {
            assert_eq!(coding, Some(&b"chunked"[..]));
            let (body, used) = match chunked(output) {
                Chunked::Whole { data, used } => (data, used),
                other => panic!("{other:?}: {shown}"),
            };
            answer.body = body;
            output = &output[used..];
        } else if let Some(length) = length {
            let length: usize = std::str::from_utf8(length).expect("digits").parse().expect("a length");
            assert!(length <= output.len(), "a body that is too short: {shown}");
            answer.body = output[..length].to_vec();
            output = &output[length..];
        } else {
            assert!(answer.closes(), "a body without an end: {shown}");
            answer.body = output.to_vec();
            output = b"";
        }
        answers.push(answer);
    }
    for answer in answers.iter().rev().skip(1) {
        assert!(!answer.closes(), "something follows {answer:?}");
    }
    answers
}

fn head(bytes: &[u8]) -> Answer {
    let shown = bytes.escape_ascii();
    let mut lines = bytes.split(|&byte| byte == b'\n').map(|line| {
        if line.is_empty() { line } else { line.strip_suffix(b"\r").unwrap_or_else(|| panic!("a bare LF: {shown}")) }
    });
    let status_line = lines.next().expect("one line at least");
    let code = status_line
        .strip_prefix(b"HTTP/1.1 ")
        .filter(|rest| rest.len() >= 4 && rest[3] == b' ')
        .and_then(|rest| std::str::from_utf8(&rest[..3]).ok()?.parse().ok());
    let status = code.unwrap_or_else(|| panic!("a malformed status line: {shown}"));
    let mut fields = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = find(line, b": ").unwrap_or_else(|| panic!("a malformed field line: {shown}"));
        let (name, value) = (&line[..colon], &line[colon + 2..]);
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        assert!(!name.is_empty() && name.iter().all(|&b| token(b)), "a malformed field name: {shown}");
        let text = |b: u8| b == b'\t' || (b >= b' ' && b != 0x7f);
        assert!(value.iter().all(|&b| text(b)), "a malformed field value: {shown}");
        fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    }
    Answer { status, fields, body: Vec::new() }
}

/// What a second reader, which has it all before it, makes of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunked {
    /// It ends behind `used` bytes.
    Whole {
        /// The data.
        data: Vec<u8>,
        /// With the blank line at its end.
        used: usize,
    },
    /// It does not end.
    Incomplete,
    /// It is malformed.
    Malformed,
}

/// Decodes a chunked body (RFC 9112 §7.1) in the plainest way.
#[must_use]
pub fn chunked(input: &[u8]) -> Chunked {
    let mut data = Vec::new();
    let mut at = 0;
    // A line up to its CRLF, in which no other CR, LF or control character may stand.
    let line = |at: usize| -> Result<&[u8], Chunked> {
        let rest = &input[at..];
        let end = rest.iter().position(|&b| (b < b' ' && b != b'\t') || b == 0x7f);
        let end = end.ok_or(Chunked::Incomplete)?;
        match rest[end..] {
            [b'\r', b'\n', ..] => Ok(&rest[..end]),
            [b'\r'] => Err(Chunked::Incomplete),
            _ => Err(Chunked::Malformed),
        }
    };
    let mut decode = || -> Result<usize, Chunked> {
        loop {
            let digits = input[at..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
            if digits > 16 || (digits == 0 && at < input.len()) {
                return Err(Chunked::Malformed);
            }
            let text = line(at)?;
            if !are_extensions(&text[digits..]) {
                return Err(Chunked::Malformed);
            }
            let size = std::str::from_utf8(&text[..digits]).expect("digits");
            let size = u64::from_str_radix(size, 16).map_err(|_| Chunked::Malformed)?;
            at += text.len() + 2;
            if size == 0 {
                break;
            }
            let Some(end) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else {
                return Err(Chunked::Incomplete);
            };
            let chunk = input.get(at..end).ok_or(Chunked::Incomplete)?;
            data.extend_from_slice(chunk);
            match &input[end..] {
                [b'\r', b'\n', ..] => at = end + 2,
                [] | [b'\r'] => return Err(Chunked::Incomplete),
                _ => return Err(Chunked::Malformed),
            }
        }
        loop {
            let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
            let name = input[at..].iter().take_while(|b| token(b)).count();
            match (&input[at + name..], name) {
                ([], _) => return Err(Chunked::Incomplete),
                ([b'\r', b'\n', ..], 0) => return Ok(at + 2),
                ([b'\r'], 0) => return Err(Chunked::Incomplete),
                ([b':', ..], 1..) => at += line(at)?.len() + 2,
                _ => return Err(Chunked::Malformed),
            }
        }
    };
    match decode() {
        Ok(used) => Chunked::Whole { data, used },
        Err(other) => other,
    }
}

/// RFC 9112 §7.1.1, by taking one extension after the other off the front.
fn are_extensions(mut text: &[u8]) -> bool {
    fn skip(text: &[u8], part: impl Fn(u8) -> bool) -> (usize, &[u8]) {
        let count = text.iter().take_while(|&&b| part(b)).count();
        (count, &text[count..])
    }
    let space = |b: u8| matches!(b, b' ' | b'\t');
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    while !text.is_empty() {
        let (_, rest) = skip(text, space);
        let [b';', rest @ ..] = rest else { return false };
        let (_, rest) = skip(rest, space);
        let (1.., name_end) = skip(rest, token) else { return false };
        text = name_end;
        let (_, rest) = skip(name_end, space);
        let [b'=', rest @ ..] = rest else { continue };
        let (_, rest) = skip(rest, space);
        if let [b'"', rest @ ..] = rest {
            let mut rest = rest.iter();
            loop {
                match rest.next() {
                    Some(b'"') => break,
                    Some(b'\\') if rest.next().is_none() => return false,
                    None => return false,
                    _ => {}
                }
            }
            text = rest.as_slice();
        } else {
            let (1.., rest) = skip(rest, token) else { return false };
            text = rest;
        }
    }
    true
}

/// Where `needle` begins in `hay`.
#[must_use]
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}
