//! A reverse proxy: `cargo run --bin gateway -- 127.0.0.1:8080 127.0.0.1:9000` passes all requests to the first address
//! on to the second.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use bast_examples::gateway::Gateway;
use bast_examples::logger;
use bast_server::client::Client;
use bast_server::{Request, Server};

fn main() -> ExitCode {
    logger::init(log::LevelFilter::Info);
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, upstream] = arguments.as_slice() else {
        eprintln!("usage: gateway LISTEN UPSTREAM");
        return ExitCode::from(2);
    };
    let gateway = Gateway::new(Client::new(), upstream);
    let served = Server::bind(listen)
        .and_then(|server| server.serve(move |request: &mut Request<'_>| gateway.forward(request)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}
