//! A reverse proxy: `cargo run --bin gateway -- 127.0.0.1:8080 127.0.0.1:9000` passes all requests to the first address
//! on to the second.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bast_examples::gateway::Gateway;
use bast_examples::{arguments, logger};
use bast_server::client::Client;
use bast_server::{Request, Server};

const HELP: &str = "\
A reverse proxy: passes all requests to the first address on to the second.

Usage: gateway LISTEN UPSTREAM     such as: gateway 127.0.0.1:8080 127.0.0.1:9000
";

fn main() -> ExitCode {
    let arguments = arguments::of_program(HELP, 2..=2);
    let [listen, upstream] = &arguments[..] else { unreachable!("gateway: two arguments") };
    logger::init(log::LevelFilter::Info);
    let gateway = Gateway::new(Client::new(), upstream);
    let served = Server::bind(listen)
        .and_then(|server| server.serve(move |request: &mut Request<'_>| gateway.forward(request)));
    arguments::end(served)
}
