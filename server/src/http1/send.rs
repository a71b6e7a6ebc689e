//! How a response goes out whose body is there when it begins: bytes, parts, a file. For one that is written meanwhile see
//! `produce.rs`.
//!
//! Small bodies are copied behind their head, so that one send takes both. Large ones are sent from where they are, with what is held
//! before them.
#![forbid(unsafe_code)]

use std::io;

use crate::constant::Constant;
use crate::http1::call::internal_error;
use crate::http1::encode::{Length, ResponseHead};
use crate::http1::exchange::Asked;
use crate::http1::persistence::Persistence;
use crate::http1::preamble::{self, Preamble};
use crate::http1::service::Service;
use crate::http1::wire::Wire;
use crate::message::{Status, Version};
use crate::response::{Body, Bytes, FilePart, Response, StreamBody};

/// How a response goes out.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    version: Version,
    /// Nothing follows the head.
    pub(crate) without_body: bool,
    pub(crate) length: Length,
    pub(crate) persistence: Persistence,
}

impl Form {
    pub(crate) fn new(asked: Asked, response: &Response, persistence: Persistence) -> Form {
        let allows_content = response.status().allows_content();
        let length =
            if allows_content { length_of(response, asked) } else { length_without_body(response.status()) };
        let without_body = asked.head_only || !allows_content;
        Form { version: asked.version, without_body, length, persistence }
    }
}

/// How the end of this response's body is made known.
fn length_of(response: &Response, asked: Asked) -> Length {
    match response.body() {
        Body::Stream(StreamBody { length: None, .. }) if asked.version == Version::Http11 => Length::Chunked,
        // A HEAD response ends with its head whatever the body would have been.
        Body::Stream(StreamBody { length: None, .. }) if asked.head_only => Length::Absent,
        Body::Stream(StreamBody { length: None, .. }) => Length::UntilClose,
        body => match body_length(body) {
            // What a GET would be sent is not known, unless it is a file: a handler of HEAD's own need not make it, and a length
            // of 0 that is not that of the GET must not be said (RFC 9110 §8.6).
            0 if asked.head_only && !matches!(body, Body::File(_)) => Length::Absent,
            length => Length::Sized(length),
        },
    }
}

/// The same for a status that allows no body. A 205 has none either, but that its head ends it is not said by RFC 9112 §6.3: a
/// client takes it from the fields (RFC 9110 §15.3.6).
#[cold]
fn length_without_body(status: Status) -> Length {
    if status == Status::RESET_CONTENT { Length::Sized(0) } else { Length::Absent }
}

/// The length of a body that has one.
fn body_length(body: &Body) -> u64 {
    match body {
        Body::Empty | Body::Upgrade(_) => 0,
        Body::Bytes(bytes) => bytes.as_slice().len() as u64,
        Body::Parts(parts) => parts_length(parts),
        Body::File(part) => part.len,
        Body::Stream(stream) => stream.length.unwrap_or(0),
    }
}

fn parts_length(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| part.as_slice().len() as u64).sum()
}
/// Up to this size a body is copied behind its head, so that one buffer is sent; a memory copy of this size costs
/// about a microsecond, which is less than a system call more.
pub(crate) const COPIED_BYTES_MAX: usize = 16 << 10;

/// Up to this size a file is read behind its head and sent with it. Larger ones are sent by the kernel from its page
/// cache: two system calls instead of one, but no copy.
const FILE_COPIED_BYTES_MAX: u64 = 16 << 10;

/// A response on its way to the wire.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'c> {
    pub(crate) wire: &'c Wire,
    pub(crate) service: &'c Service,
    pub(crate) form: Form,
}

impl Outgoing<'_> {
    /// Composes the response, which is no stream, and sends it as far as it does not fit into what may be held.
    #[inline]
    pub(crate) fn send(self, response: &mut Response) -> io::Result<()> {
        let Outgoing { wire, service, form } = self;
        if let Some(constant) = response.constant()
            && constant.body().len() <= COPIED_BYTES_MAX
            && !form.without_body
        {
            self.compose_apart(response, Some(constant));
            return Ok(());
        }
        let mut output = wire.output();
        let mark = output.bytes.len();
        preamble::with(service.id, &service.server_line, (service.unix_seconds)(), |preamble| {
            head_of(response, form, preamble).encode(&mut output.bytes);
        });
        wire.begin_body(&output, response.status(), 0);
        if form.without_body {
            return Ok(());
        }
        if let Body::Bytes(bytes) = response.body()
            && bytes.as_slice().len() <= COPIED_BYTES_MAX
        {
            output.bytes.extend_from_slice(bytes.as_slice());
            return Ok(());
        }
        drop(output);
        self.send_body(response, mark)
    }

    /// Composes the head of a stream, or all of a constant. Apart from the others, whose heads are composed in place: if both shared a
    /// function, that would be several calls and 80 instructions for each response.
    #[inline(never)]
    pub(crate) fn compose_apart(self, response: &Response, constant: Option<&Constant>) {
        let Outgoing { wire, service, form } = self;
        let mut output = wire.output();
        preamble::with(service.id, &service.server_line, (service.unix_seconds)(), |preamble| {
            let head = head_of(response, form, preamble);
            match constant {
                Some(constant) => head.encode_before(constant.rest(), &mut output.bytes),
                None => head.encode(&mut output.bytes),
            }
        });
        wire.begin_body(&output, response.status(), constant.map_or(0, |constant| constant.body().len()));
    }

    /// Sends the body behind a head that was composed from `mark` on.
    #[inline(never)]
    fn send_body(self, response: &mut Response, mark: usize) -> io::Result<()> {
        let Outgoing { wire, form, .. } = self;
        match response.take_body() {
            Body::Empty | Body::Upgrade(_) => Ok(()),
            Body::Bytes(bytes) => wire.flush_with([bytes.as_slice()].into_iter()),
            Body::Parts(parts) if parts_length(&parts) <= COPIED_BYTES_MAX as u64 => {
                let mut output = wire.output();
                parts.iter().for_each(|part| output.bytes.extend_from_slice(part.as_slice()));
                Ok(())
            }
            Body::Parts(parts) => wire.flush_with(parts.iter().map(Bytes::as_slice)),
            Body::File(part) if part.len <= FILE_COPIED_BYTES_MAX => {
                if copy_file(wire, &part, mark) {
                    return Ok(());
                }
                // Nothing of this response was sent, nor is any of it held: another can take its place. A logger may park, which
                // sends what is held.
                log::error!(
                    "{}: a file of {} bytes could not be read at {}",
                    wire.whereabouts(),
                    part.len,
                    part.offset
                );
                let mut response = internal_error();
                let length = Length::Sized(body_length(response.body()));
                Outgoing { form: Form { length, ..form }, ..self }.send(&mut response)
            }
            Body::File(part) => {
                let sent = wire.flush_with_file(part.file.file(), part.offset, part.len);
                if let Err(error) = &sent
                    && error.kind() == io::ErrorKind::UnexpectedEof
                {
                    log::error!(
                        "{}: a file became shorter than the {} bytes announced",
                        wire.whereabouts(),
                        part.len
                    );
                }
                sent
            }
            Body::Stream(_) => unreachable!("serve: a stream among the other bodies"),
        }
    }
}

#[inline(always)]
fn head_of<'a>(response: &'a Response, form: Form, preamble: &'a mut Preamble) -> ResponseHead<'a> {
    ResponseHead {
        status: response.status(),
        preamble,
        header_lines: response.headers().lines(),
        content_type: response.headers().content_type(),
        length: form.length,
        version: form.version,
        persistence: form.persistence,
    }
}

/// Appends a small file's part to the output, behind its head, which begins at `mark`. Fails if the file has become
/// shorter; the head is gone from the output then.
fn copy_file(wire: &Wire, part: &FilePart, mark: usize) -> bool {
    let mut output = wire.output();
    // At most `FILE_COPIED_BYTES_MAX`.
    let len = part.len as usize;
    let bytes = &mut output.bytes;
    let mut at = bytes.len();
    let end = at + len;
    bytes.resize(end, 0);
    while at < end {
        match part.file.file().try_read_at(&mut bytes[at..], part.offset + (len - (end - at)) as u64) {
            Ok(Some(0)) | Err(_) => {
                bytes.truncate(mark);
                return false;
            }
            Ok(Some(count)) => at += count,
            Ok(None) => {
                bytes.truncate(end - len);
                let mut response = bytes.split_off(mark);
                drop(output);
                return copy_cold_file(wire, part, len, &mut response);
            }
        }
    }
    true
}

/// The same for a file that has to be read from the disk first. Earlier answers are sent meanwhile; this one is kept
/// apart, so that none of it is before the file has been read.
#[cold]
fn copy_cold_file(wire: &Wire, part: &FilePart, len: usize, response: &mut Vec<u8>) -> bool {
    let start = response.len();
    response.resize(start + len, 0);
    if part.file.file().read_exact_at(&mut response[start..], part.offset).is_err() {
        return false;
    }
    wire.output().bytes.extend_from_slice(response);
    true
}
