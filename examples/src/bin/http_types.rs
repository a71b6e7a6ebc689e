//! A program that was written for another server, ported: `cargo run --release --bin http_types`, then
//! `curl --data '3 4 5' http://127.0.0.1:8081/sum`. Its functions know only the types of the `http` crate; what is new is
//! `main`, and that they may block as they like.
#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use bast_examples::arguments;
use bast_server::http_types::HttpHandler;
use bast_server::{Router, Server};
use http::{Request, Response, StatusCode, header};

const HELP: &str = "\
A program with the types of the http crate, ported.

Usage: http_types [IP:PORT]     [default: 127.0.0.1:8081]
";

fn main() -> ExitCode {
    let arguments = arguments::of_program(HELP, 0..=1);
    arguments::end(serve(arguments.first().map_or("127.0.0.1:8081", String::as_str)))
}

fn serve(address: &str) -> io::Result<()> {
    let app = Router::new().get("/", HttpHandler(index)).post("/sum", HttpHandler(sum));
    let server = Server::bind(address)?;
    println!("listening on http://{}", server.local_addr()?);
    server.serve(app)
}

fn index(request: Request<Vec<u8>>) -> http::Result<Response<String>> {
    let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    Response::builder()
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(format!("hello {}\n", agent.unwrap_or("whoever you are")))
}

/// The sum of the numbers in the body.
fn sum(request: Request<Vec<u8>>) -> http::Result<Response<String>> {
    let numbers = String::from_utf8_lossy(request.body()).split_whitespace().map(str::parse).collect();
    let numbers: Result<Vec<i64>, _> = numbers;
    match numbers.ok().and_then(|numbers| numbers.into_iter().try_fold(0i64, i64::checked_add)) {
        Some(sum) => Response::builder().body(format!("{sum}\n")),
        None => Response::builder().status(StatusCode::BAD_REQUEST).body(String::from("numbers, please\n")),
    }
}
