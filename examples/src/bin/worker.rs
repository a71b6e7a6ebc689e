//! A server with a thread in the background: `cargo run --release --bin worker`, then
//! `curl -X POST http://127.0.0.1:8080/jobs/wash`. The handlers send jobs through a channel, and one thread does them
//! in turn.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use bast_examples::logger;
use bast_server::{Error, Request, Router, Server};

fn main() -> io::Result<()> {
    logger::init(log::LevelFilter::Info);
    bast::run(|| {
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
        Server::bind("127.0.0.1:8080")?.serve(app)?;
        worker.join().map_err(io::Error::other)
    })
}
