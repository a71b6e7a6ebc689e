//! Fetches a URL, somewhat like curl: `cargo run --bin fetch -- -i http://127.0.0.1:8080/`.
//!
//! It runs on the program's own OS thread: the client needs no runtime.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use bast_examples::arguments;
use bast_server::Method;
use bast_server::client::Client;
use lexopt::prelude::*;

const HELP: &str = "\
Fetches a URL, somewhat like curl.

Usage: fetch [OPTIONS] URL

  -X METHOD      the method: GET by default, POST with -d, PUT with -T
  -H 'NAME: VALUE'  a header field; any number of them
  -d BODY        sends this body
  -T FILE        sends this file
  -i             prints the head, too
  -I             asks for the head only
  -L             follows up to 10 redirects
  -m SECONDS     gives up after that
  -h, --help     print this and exit
";

#[derive(Default)]
struct Options {
    method: Option<String>,
    fields: Vec<(String, String)>,
    body: Option<String>,
    file: Option<String>,
    shows_head: bool,
    follows: bool,
    time: Option<Duration>,
    url: String,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return arguments::complain(format!("{error} (--help lists the options)")),
    };
    match fetch(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("fetch: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Option<Options>, Box<dyn Error>> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('X') => options.method = Some(parser.value()?.string()?),
            Short('H') => {
                let field = parser.value()?.string()?;
                let (name, value) = field.split_once(':').ok_or("a header field has a colon")?;
                options.fields.push((name.to_owned(), value.to_owned()));
            }
            Short('d') => options.body = Some(parser.value()?.string()?),
            Short('T') => options.file = Some(parser.value()?.string()?),
            Short('i') => options.shows_head = true,
            Short('I') => {
                options.method = Some("HEAD".to_owned());
                options.shows_head = true;
            }
            Short('L') => options.follows = true,
            Short('m') => options.time = Some(Duration::from_secs(parser.value()?.parse()?)),
            Short('h') | Long("help") => return Ok(None),
            Value(url) if options.url.is_empty() => options.url = url.string()?,
            other => return Err(other.unexpected().into()),
        }
    }
    if options.url.is_empty() { Err("which URL?".into()) } else { Ok(Some(options)) }
}

fn fetch(options: &Options) -> Result<(), Box<dyn Error>> {
    let usual = match (&options.body, &options.file) {
        (Some(_), _) => "POST",
        (_, Some(_)) => "PUT",
        _ => "GET",
    };
    let method = Method::from_name(options.method.as_deref().unwrap_or(usual));
    let mut request = Client::new().request(method, &options.url);
    for (name, value) in &options.fields {
        request = request.added_header(name, value);
    }
    if let Some(time) = options.time {
        request = request.timeout(time);
    }
    if options.follows {
        request = request.follow(10);
    }
    let mut response = match (&options.body, &options.file) {
        (Some(body), _) => request.body(body.clone()).send()?,
        (None, Some(path)) => {
            let file = File::open(path)?;
            request.content_length(file.metadata()?.len()).send_reader(file)?
        }
        (None, None) => request.send()?,
    };
    let mut out = io::stdout().lock();
    if options.shows_head {
        writeln!(out, "{} {}", response.version(), response.status())?;
        for (name, value) in response.headers().iter() {
            writeln!(out, "{name}: {}", String::from_utf8_lossy(value))?;
        }
        writeln!(out)?;
    }
    io::copy(response.body(), &mut out)?;
    out.flush()?;
    Ok(())
}
