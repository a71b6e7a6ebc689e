//! A server with a thread in the background: `cargo run --release --bin worker`, then
//! `curl -X POST http://127.0.0.1:8080/jobs/wash`. The handlers send jobs through a channel, and one thread does them
//! in turn.
#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use bast_examples::{arguments, logger};
use bast_server::{Error, Request, Router, Server};

const HELP: &str = "\
A server with a thread in the background: POST /jobs/NAME.

Usage: worker [IP:PORT]     [default: 127.0.0.1:8080]
";

fn main() -> ExitCode {
    let arguments = arguments::of_program(HELP, 0..=1);
    logger::init(log::LevelFilter::Info);
    arguments::end(serve(arguments.first().map_or("127.0.0.1:8080", String::as_str).to_owned()))
}

fn serve(address: String) -> io::Result<()> {
    bast::run(move || {
        let (jobs, inbox) = bast::sync::channel::<String>(100);
        let worker = bast::spawn(move || {
            for job in &inbox {
                bast::sleep(Duration::from_secs(1)); // the work; it parks this thread only
                log::info!("done: {job:?}"); // escaped: the name is what a client sent
            }
        });
        let app =
            Router::new().post("/jobs/{name}", move |req: &mut Request| -> Result<&'static str, Error> {
                jobs.send(req.param("name")?)?; // parks this connection while a hundred jobs wait
                Ok("queued\n")
            });
        // `serve` uses the runtime that it is called in. The handler goes with the server, and with it the sender: the
        // worker does what is queued and ends.
        Server::bind(address)?.serve(app)?;
        worker.join().map_err(io::Error::other)
    })
}
