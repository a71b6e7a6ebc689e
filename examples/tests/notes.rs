//! The line protocol as its users meet it: pieces of lines, several clients at different places, and clients that go.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// No step takes longer unless something hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// The program, until it is dropped.
struct Notes {
    child: Child,
    address: SocketAddr,
}

impl Notes {
    fn start() -> Notes {
        let mut child = Command::new(env!("CARGO_BIN_EXE_notes"))
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the program");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the first line");
        Notes { child, address: line.trim_end().parse().expect("an address") }
    }

    /// A client that was asked for its name.
    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_nodelay(true).expect("pieces are sent at once");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let mut client = BufReader::new(stream);
        expect(&mut client, "your name?");
        client
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(client: &mut BufReader<TcpStream>, text: &str) {
    client.get_mut().write_all(text.as_bytes()).expect("say");
}

fn expect(client: &mut BufReader<TcpStream>, answer: &str) {
    let mut line = String::new();
    client.read_line(&mut line).expect("an answer");
    assert_eq!(line, format!("{answer}\n"));
}

fn ended(client: &mut BufReader<TcpStream>) {
    assert_eq!(client.read_to_string(&mut String::new()).expect("the end"), 0);
}

#[test]
fn a_conversation_goes_through_all_its_states_whole_in_one_piece_or_byte_by_byte() {
    let notes = Notes::start();
    let said = "Ann\nwhat now\nNOTE\nbuy bread\n\nNOTE\n.\r\nNOTE\n.\nQUIT\n";
    for pieces in [vec![said], said.split_inclusive('\n').collect(), said.split_inclusive(|_| true).collect()]
    {
        let mut client = notes.connect();
        pieces.iter().for_each(|piece| say(&mut client, piece));
        let answers = [
            "hello Ann",
            "what?",
            "end with a dot",
            "kept 16 bytes",
            "end with a dot",
            "kept 0 bytes",
            "bye Ann",
        ];
        answers.iter().for_each(|answer| expect(&mut client, answer));
        ended(&mut client);
    }
}

#[test]
fn clients_at_different_places_do_not_wait_for_one_another() {
    let notes = Notes::start();
    let (mut naming, mut noting, mut commanding) = (notes.connect(), notes.connect(), notes.connect());
    say(&mut noting, "Bob\nNOTE\nhalf a li");
    expect(&mut noting, "hello Bob");
    expect(&mut noting, "end with a dot");
    say(&mut commanding, "Cleo\n");
    expect(&mut commanding, "hello Cleo");
    say(&mut naming, "A");
    // Each goes on from where it is, in another order.
    say(&mut commanding, "QUIT\n");
    expect(&mut commanding, "bye Cleo");
    say(&mut naming, "nn\nQUIT\n");
    expect(&mut naming, "hello Ann");
    expect(&mut naming, "bye Ann");
    say(&mut noting, "ne\n.\n");
    expect(&mut noting, "kept 12 bytes");
}

#[test]
fn a_client_that_goes_or_says_too_much_ends_its_own_conversation_only() {
    let notes = Notes::start();
    let mut staying = notes.connect();
    let mut going = notes.connect();
    say(&mut going, "Bob\nNO");
    expect(&mut going, "hello Bob");
    going.get_ref().shutdown(Shutdown::Write).expect("go");
    ended(&mut going);
    let mut shouting = notes.connect();
    say(&mut shouting, &"a".repeat(1000));
    ended(&mut shouting);
    let mut telling = notes.connect();
    say(&mut telling, "Eve\nNOTE\n");
    expect(&mut telling, "hello Eve");
    expect(&mut telling, "end with a dot");
    say(&mut telling, &format!("{}\n", "e".repeat(511)).repeat(129));
    expect(&mut telling, "too long");
    say(&mut staying, "Ann\nQUIT\n");
    expect(&mut staying, "hello Ann");
    expect(&mut staying, "bye Ann");
}
