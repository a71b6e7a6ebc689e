//! The demo server: a few routes that block in plain sight, and static files.
#![forbid(unsafe_code)]

mod accept;
mod burn;
pub mod cli;
mod escape;
mod monitor;
mod pause;
mod thread_list;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bast::Runtime;
use bast_server::file::Files;
use bast_server::{Error, Handler, Request, Response, Router, Server, dump_handler};

pub use burn::Burns;
use thread_list::Row;

/// The routes of the demo; what is not one of them is a file below `root`, or below [`default_root`].
///
/// [`Burns::GiveWay`] has an effect only in a program whose allocator is a [`YieldingAlloc`](bast::alloc::YieldingAlloc).
///
/// # Errors
/// The root cannot be opened; the message names it.
pub fn app(root: Option<&Path>, burns: Burns) -> io::Result<impl Handler> {
    let files = match root {
        Some(root) => Files::open(root),
        None => Files::open(default_root()),
    }?;
    Ok(Router::new()
        .get("/plaintext", plaintext)
        .get("/sleep", sleep)
        .get("/burn", move |request: &mut Request<'_>| burn::burn(request, burns))
        .any("/echo", echo)
        .get("/threads", threads)
        .get("/threads/dump", dump_handler)
        .any("/{file...}", files))
}

/// The files that come with the demo: in the source tree that it was built from, or below the working directory
/// where that tree is gone.
pub fn default_root() -> PathBuf {
    let built_from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/www"));
    if built_from.is_dir() { built_from.into() } else { "examples/www".into() }
}

fn plaintext(_: &mut Request<'_>) -> Response {
    Response::bytes("text/plain", "Hello, World!")
}

fn sleep(request: &mut Request<'_>) -> Result<Response, Error> {
    let pause = pause::from_query(request.query()).map_err(Error::bad_request)?;
    bast::sleep(pause);
    Ok(plaintext(request))
}

fn echo(request: &mut Request<'_>) -> Result<Response, Error> {
    let content_type = request.header("Content-Type").unwrap_or("application/octet-stream").to_owned();
    Ok(Response::bytes(content_type, request.read_body()?))
}

fn threads(request: &mut Request<'_>) -> Response {
    let mut rows: Vec<Row> = bast::threads().into_iter().map(Row::from).collect();
    rows.sort_unstable_by_key(|row| row.id);
    let response = if accept::prefers_html(request.header("Accept").unwrap_or_default()) {
        Response::html(thread_list::page(&rows))
    } else {
        Response::bytes("application/json", thread_list::json(&rows))
    };
    response.with_header("Cache-Control", "no-store").with_header("Vary", "Accept")
}

/// Serves until the first SIGINT or SIGTERM and the drain after it. The first line on stdout says where, once
/// connections are accepted.
///
/// # Errors
/// The address, the root or the number of workers cannot be used; the message names which.
pub fn serve(options: &cli::Options) -> io::Result<()> {
    let app = app(options.root.as_deref(), options.burns)?;
    let address = options.listen;
    let server = Server::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("listen on {address}: {error}")))?;
    let mut runtime = Runtime::builder().print_counters(options.stats);
    if let Some(workers) = options.workers {
        runtime = runtime.capabilities(workers.get());
    }
    let runtime = runtime.build().map_err(|error| match options.workers {
        Some(workers) => io::Error::new(error.kind(), format!("--workers {workers}: {error}")),
        None => error,
    })?;
    // A closed stdout is no reason not to serve.
    let _ = writeln!(io::stdout(), "listening on http://{}", server.local_addr()?);
    let monitor = options.monitor;
    runtime.run(move || {
        bast::dump_on_sigquit()?;
        if monitor {
            bast::Builder::new().name("monitor").spawn(monitor::run)?;
        }
        server.serve(app)
    })
}
