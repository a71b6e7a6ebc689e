//! A line protocol in direct style: `cargo run --release --bin notes [IP:PORT]`, then `nc 127.0.0.1 8025`.
//!
//! A client names itself and leaves notes, which end with a line that is a dot:
//!
//! ```text
//! S: your name?
//! C: Ann
//! S: hello Ann
//! C: NOTE
//! S: end with a dot
//! C: buy bread
//! C: .
//! S: kept 10 bytes
//! C: QUIT
//! S: bye Ann
//! ```
//! # The machine that this is not
//! On an event loop nobody may wait in the middle of a conversation, so where it stands is data: a state, everything that is
//! known so far, and two buffers, because lines come in pieces and answers do not always fit.
//!
//! ```text
//!            ┌────────── Session { state, name, note, input, output } ──────────┐
//!            │                                                                  │
//!  accepted ─┴▶ Naming ──line──▶ Commanding ──"NOTE"──▶ Noting ──line──▶ (append, stay)
//!                                 ▲    │ │                 │
//!                                 │    │ └─ other: "what?" │ "."
//!                                 └────┼───────────────────┘
//!                                      └─"QUIT"─▶ Closing ── output empty ──▶ closed
//!
//!  on_readable: read into `input`; while it has a line: match (state, line) → push to `output`, set `state`
//!  on_writable: write `output`; if it is not empty: keep the interest; if Closing: close
//!  both:        at the end of the stream or an error: forget the session, wherever it stands
//! ```
//! Below, the state is the place in the program, what is known are local variables, a loop is a loop, and `?` is the third
//! row of handlers. A thread that waits for a line costs its stack, and no core.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ExitCode;

use bast::net::{TcpListener, TcpStream};
use bast_examples::arguments;

/// A longer line ends the conversation: whoever sends one speaks another protocol.
const LINE_BYTES_MAX: u64 = 1000;

/// A longer note is not kept in memory for anybody.
const NOTE_BYTES_MAX: usize = 64 << 10;

const HELP: &str = "\
Takes notes, one line of text after the other: a line protocol in direct style.

Usage: notes [IP:PORT]      [default: 127.0.0.1:8025]
";

fn main() -> ExitCode {
    let arguments = arguments::of_program(HELP, 0..=1);
    arguments::end(serve(arguments.first().map_or("127.0.0.1:8025", String::as_str).to_owned()))
}

fn serve(address: String) -> io::Result<()> {
    bast::run(|| {
        let listener = TcpListener::bind(address)?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept()?;
            bast::spawn(move || converse(&stream)); // how it ends is the client's affair
        }
    })
}

fn converse(mut stream: &TcpStream) -> io::Result<()> {
    let mut input = BufReader::new(stream);
    writeln!(stream, "your name?")?;
    let name = line(&mut input)?;
    writeln!(stream, "hello {name}")?;
    loop {
        match &*line(&mut input)? {
            "NOTE" => {
                writeln!(stream, "end with a dot")?;
                let mut note = String::new();
                loop {
                    match &*line(&mut input)? {
                        "." => break writeln!(stream, "kept {} bytes", note.len())?,
                        text if note.len() + text.len() < NOTE_BYTES_MAX => note += &format!("{text}\n"),
                        _ => return writeln!(stream, "too long"),
                    }
                }
            }
            "QUIT" => return writeln!(stream, "bye {name}"),
            _ => writeln!(stream, "what?")?,
        }
    }
}

/// The next line, without its end.
fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(LINE_BYTES_MAX).read_line(&mut line)?;
    let text = line.strip_suffix('\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
