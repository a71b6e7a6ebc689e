//! A server that can be replaced while it serves: SIGHUP starts the program anew, which takes over, and this process ends
//! when it has answered its last request.
//!
//! ```text
//! cargo run --bin handover -- "$XDG_RUNTIME_DIR/hello.socket" 127.0.0.1:8080 &
//! kill -HUP %1      # as often as you like, under load
//! ```
//! The path is in a directory that only this user can write to: in one like `/tmp` somebody else could put a socket there first,
//! and then nobody could take over.
//!
//! Under systemd it serves the socket that it was started with.
#![forbid(unsafe_code)]

use std::env;
use std::io;
use std::process::{self, Command, ExitCode};

use bast::signal::{Signal, Signals};
use bast_examples::arguments;
use bast_server::{Request, Server};

const HELP: &str = "\
A server that can be replaced while it serves: SIGHUP starts the program anew, which takes over at PATH.

Usage: handover PATH IP:PORT
";

fn main() -> ExitCode {
    let arguments = arguments::of_program(HELP, 2..=2);
    let [path, address] = &arguments[..] else { unreachable!("handover: two arguments") };
    arguments::end(serve(path.clone(), address))
}

fn serve(path: String, address: &str) -> io::Result<()> {
    let server = match Server::take_over(&path)? {
        Some(server) => server,
        None => match Server::from_env()? {
            Some(server) => server,
            None => Server::bind(address)?,
        },
    };
    println!("process {} serves http://{}", process::id(), server.local_addr()?);
    let hang_ups = Signals::new([Signal::HangUp])?;
    bast::run(move || {
        bast::spawn(move || {
            for _ in &hang_ups {
                if let Err(error) = start_successor() {
                    eprintln!("no successor: {error}");
                }
            }
        });
        server.hand_over_at(path).serve(|_: &mut Request| format!("{}\n", process::id()))
    })
}

/// Starts this program again, with the same arguments. Nobody waits for it: it is to live longer.
fn start_successor() -> io::Result<()> {
    Command::new(env::current_exe()?).args(env::args_os().skip(1)).spawn().map(drop)
}
