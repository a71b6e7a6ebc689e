//! The echo server: whatever is asked, the answer is the body of the request. Its limits are the library's unless an
//! option says otherwise, so what a tool finds here holds for every program.
#![forbid(unsafe_code)]

pub mod cli;

use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process;

use bast_server::file::Files;
use bast_server::{Error, Handler, Request, Response, Server};

/// The name and the size of the one file.
const BIG_FILE: &str = "big.bin";
const BIG_FILE_BYTES: usize = 2 << 20;

/// Serves until the first SIGINT or SIGTERM and the drain after it. The first line on stdout says where, once
/// connections are accepted.
///
/// # Errors
/// The address cannot be used, or the file of [`app`] cannot be written.
pub fn serve(options: &cli::Options) -> io::Result<()> {
    let directory = Directory::new()?;
    let app = app(&directory.0)?;
    let address = options.listen;
    let server = Server::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("listen on {address}: {error}")))?
        .settings(options.settings.clone());
    // A closed stdout is no reason not to serve.
    let _ = writeln!(io::stdout(), "listening on http://{}", server.local_addr()?);
    server.serve(app)
}

/// Answers every request by 200 and its own body, and `/big.bin` by a file of 2 MiB, which is written into `directory`.
///
/// # Errors
/// The file cannot be written.
pub fn app(directory: &Path) -> io::Result<impl Handler> {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(BIG_FILE_BYTES).collect();
    fs::write(directory.join(BIG_FILE), bytes)?;
    let files = Files::open(directory)?;
    Ok(move |request: &mut Request<'_>| -> Result<Response, Error> {
        if request.path().strip_prefix('/') == Some(BIG_FILE) {
            return Ok(files.handle(request));
        }
        let content_type = request.header("Content-Type").unwrap_or("application/octet-stream").to_owned();
        Ok(Response::bytes(content_type, request.read_body()?))
    })
}

/// How many names are tried: those of earlier processes with the same id that were killed are a few.
const NAMES_MAX: u32 = 100;

/// A directory of the process's own, removed with what is in it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Directory> {
        // Others write to the temporary directory, too: what is there already may be theirs, or lead elsewhere.
        for number in 0..NAMES_MAX {
            let path = env::temp_dir().join(format!("bast-echo-{}-{number}", process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Directory(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no name is free in the temporary directory"))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Left behind in the temporary directory at worst.
        let _ = fs::remove_dir_all(&self.0);
    }
}
