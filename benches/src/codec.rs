//! The codec bench: pieces of the server that need no socket, each beside the plain way to do the same.
//!
//! The contenders of a pair take turns, in rounds; what is printed are medians, and the median of the rounds' ratios.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bast_server::benching::{Composer, FileCache, HeadReader, Watched, date_line};
use bast_server::file::ENTRIES_MAX;
use bast_server::gzip::{self, Fragment};
use bast_server::html::Html;
use bast_server::{Response, html};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::args::positive;
use crate::machine;
use crate::program::{self, Common};
use crate::registry;
use crate::report::{self, Figure, median};

/// What `--help` prints.
pub const HELP: &str = "\
What do the codecs of the server cost, beside the plain way to do the same?

cargo bench --bench codec -- OPTIONS        (paths are relative to benches/)

  --rounds N           interleaved rounds (15)
  --calls N            calls per round (200000)
  --smoke              one short round
  --json FILE          the figures as JSON too
";

/// What the command line asks for.
#[derive(Clone, Debug)]
struct Options {
    common: Common,
    rounds: usize,
    /// Per round.
    calls: usize,
}

impl Options {
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let (mut rounds, mut calls) = (15, 200_000);
        let common = Common::parse(args, |option, value| {
            match option {
                "--rounds" => rounds = positive(option, &value()?)?,
                "--calls" => calls = positive(option, &value()?)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if common.smoke {
            (rounds, calls) = (1, 1000);
        }
        Ok(Options { common, rounds, calls })
    }
}

/// Runs the bench as the arguments behind the program's name ask for.
///
/// # Errors
/// A wrong argument; within, that of writing the JSON.
pub fn run(args: impl IntoIterator<Item = String>) -> Result<io::Result<bool>, String> {
    let options = Options::parse(args)?;
    Ok(options.common.run(HELP, |role| Err(program::no_such_role(role)), || measure(&options).map(|()| true)))
}

fn measure(options: &Options) -> io::Result<()> {
    let machine = machine::announce();
    println!("\ncodec: what do the codecs cost, beside the plain way to do the same?");
    let mut figures = Vec::new();
    figures.extend(composing(options));
    figures.extend(reading(options));
    figures.extend(dating(options));
    figures.extend(pages(options));
    figures.extend(compressing(options));
    figures.extend(caching(options)?);
    figures.extend(tickling(options));
    figures.extend(registering(options));
    for figure in &figures {
        println!("{figure}");
    }
    match &options.common.json {
        Some(path) => fs::write(path, report::to_json(&machine, &figures, &[])),
        None => Ok(()),
    }
}

/// Our way and the plain one in turns: nanoseconds per call, and how many times the plain one takes.
fn versus(
    options: &Options,
    name: &str,
    plain_name: &str,
    mut ours: impl FnMut(),
    mut plain: impl FnMut(),
) -> [Figure; 3] {
    let rounds: Vec<(f64, f64)> =
        (0..options.rounds).map(|_| (each(options, &mut ours), each(options, &mut plain))).collect();
    [
        median(format!("codec.{name}.ours"), "ns", rounds.iter().map(|round| round.0)),
        median(format!("codec.{name}.{plain_name}"), "ns", rounds.iter().map(|round| round.1)),
        median(
            format!("codec.{name}.{plain_name}_to_ours"),
            "ratio",
            rounds.iter().map(|round| round.1 / round.0),
        ),
    ]
}

/// Nanoseconds per call. The loop is one of the call's own, so that a call of a nanosecond can be told.
fn each(options: &Options, call: &mut impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..options.calls).for_each(|_| call());
    begun.elapsed().as_nanos() as f64 / options.calls as f64
}

/// An instant that both ways to compose a head are given.
const SECOND: u64 = 784_111_777;
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// The head of a response, composed into a buffer that is there, and built of strings that are joined at the end.
fn composing(options: &Options) -> [Figure; 6] {
    let of = |name: &str, fields: &[(&str, &str)]| {
        let response = fields.iter().fold(Response::text("Hello, World!"), |response, (name, value)| {
            response.with_header(name, value)
        });
        let composer = Composer::new();
        let (mut out, mut expected) = (Vec::with_capacity(4096), Vec::new());
        composer.compose(&response, 13, SECOND, &mut expected);
        let all = [&[("Content-Type", "text/plain; charset=utf-8")], fields].concat();
        assert_eq!(expected, built(&all, 13), "both compose the same");
        versus(
            options,
            name,
            "built",
            || {
                out.clear();
                composer.compose(black_box(&response), black_box(13), SECOND, &mut out);
                black_box(&out);
            },
            || {
                black_box(built(black_box(&all), black_box(13)));
            },
        )
    };
    let [a, b, c] = of("compose_plain", &[]);
    let fields = [("Cache-Control", "no-cache"), ("X-Frame-Options", "DENY"), ("Vary", "Accept-Encoding")];
    let [d, e, f] = of("compose_fields", &fields);
    [a, b, c, d, e, f]
}

/// The plain way: a line for each field, joined into one text.
fn built(fields: &[(&str, &str)], length: u64) -> Vec<u8> {
    let mut lines = vec![format!("HTTP/1.1 {} {}\r\n", 200, "OK")];
    lines.push(format!("Server: {}\r\n", "bast"));
    lines.push(format!("Date: {DATE}\r\n"));
    lines.extend(fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
    lines.push(format!("Content-Length: {length}\r\n\r\n"));
    lines.concat().into_bytes()
}

const SHORT_HEAD: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const BROWSERS_HEAD: &[u8] = b"GET /articles/2024/11/a-long-title-of-some-words?utm_source=feed&page=2 HTTP/1.1\r\n\
    Host: www.example.com\r\nConnection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n\
    sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\
    Referer: https://www.example.com/articles/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\nCookie: session=4f6a1c9e0b7d; theme=dark; seen=1,2,3\r\n\r\n";

/// The head of a request, which ours takes as strictly as the RFC has it; httparse finds the parts only.
fn reading(options: &Options) -> [Figure; 6] {
    let of = |name: &str, bytes: &'static [u8]| {
        let mut reader = HeadReader::default();
        let fields = reader.read(bytes).expect("a whole head");
        versus(
            options,
            name,
            "httparse",
            move || assert_eq!(reader.read(black_box(bytes)), Some(fields)),
            move || {
                let mut fields = [httparse::EMPTY_HEADER; 64];
                let mut request = httparse::Request::new(&mut fields);
                assert!(request.parse(black_box(bytes)).is_ok_and(|status| status.is_complete()));
                black_box(&request);
            },
        )
    };
    let [a, b, c] = of("read_short", SHORT_HEAD);
    let [d, e, f] = of("read_browsers", BROWSERS_HEAD);
    [a, b, c, d, e, f]
}

/// The date, rendered at most once a second, and each time.
fn dating(options: &Options) -> [Figure; 3] {
    let instant = UNIX_EPOCH + Duration::from_secs(SECOND);
    versus(
        options,
        "date",
        "formatted",
        || {
            black_box(date_line(black_box(SECOND)));
        },
        || {
            black_box(httpdate::fmt_http_date(black_box(instant)));
        },
    )
}

/// A gzip page of a hundred lines, ten of which are new: joined from fragments, and compressed each time at the level that servers
/// use for that.
fn compressing(options: &Options) -> [Figure; 3] {
    // Compressing a page takes a hundred times what the others take.
    let options = Options { calls: options.calls.div_ceil(100), ..options.clone() };
    let old: Vec<String> = (0..10)
        .map(|block| {
            (0..9)
                .map(|line| format!("<li class=\"line\">line {line} of {block}, known before</li>\n"))
                .collect()
        })
        .collect();
    let new: Vec<String> = (0..10).map(|line| format!("<li class=\"line\">new line {line}</li>\n")).collect();
    let fragments: Vec<Fragment> = old.iter().map(Fragment::new).collect();
    let joined = || {
        let mut page = gzip::Composer::gzip();
        for (fragment, line) in fragments.iter().zip(&new) {
            page.fragment(fragment).literal(line);
        }
        page.finish()
    };
    let whole: String = old.iter().zip(&new).flat_map(|(old, new)| [old.as_str(), new]).collect();
    let deflated = || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(4 << 10), Compression::new(5));
        encoder.write_all(black_box(&whole).as_bytes()).expect("memory takes everything");
        encoder.finish().expect("memory takes everything")
    };
    println!("gzip page: {} bytes, {} joined, {} compressed", whole.len(), joined().len(), deflated().len());
    versus(
        &options,
        "gzip",
        "deflate",
        || {
            black_box(joined());
        },
        || {
            black_box(deflated());
        },
    )
}

/// A page of twenty rows.
fn pages(options: &Options) -> [Figure; 3] {
    let rows: Vec<(u64, String)> = (0..20).map(|id| (id, format!("name <{id}> & more"))).collect();
    let rows = &rows;
    assert_eq!(page(rows).as_str(), formatted_page(rows), "both write the same");
    versus(
        options,
        "page",
        "format",
        || {
            black_box(page(black_box(rows)));
        },
        || {
            black_box(formatted_page(black_box(rows)));
        },
    )
}

fn page(rows: &[(u64, String)]) -> Html {
    html! {
        h1 { "Rows" }
        table { for ((id, name) in rows) { tr { td { (*id) } td class="name" { (name) } } } }
    }
}

/// The plain way: formatting, and each value escaped into a string of its own.
fn formatted_page(rows: &[(u64, String)]) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let rows: Vec<String> = rows
        .iter()
        .map(|(id, name)| format!("<tr><td>{id}</td><td class=\"name\">{}</td></tr>", escape(name)))
        .collect();
    format!("<h1>Rows</h1><table>{}</table>", rows.join(""))
}

/// The cache of open files: a look-up against opening the file, an insertion against one into a map with std's hash, one that
/// finds no room, and a sweep that lets go of nothing.
fn caching(options: &Options) -> io::Result<Vec<Figure>> {
    const FOLDER: &str = env!("CARGO_MANIFEST_DIR");
    const NAME: &str = "Cargo.toml";
    // One less than there is room for: into a full cache nothing is inserted without a look for room.
    let names: Vec<String> =
        (1..ENTRIES_MAX).map(|number| format!("images/photo-{number:04}.jpeg")).collect();
    let mut cache = FileCache::new(Path::new(FOLDER), Path::new(NAME), SECOND)?;
    let mut turns = names.iter().map(String::as_bytes).cycle();
    let mut plain_turns = turns.clone();
    let mut map: HashMap<Box<[u8]>, (Rc<()>, u64)> = HashMap::new();
    let value = Rc::new(());
    let mut figures = Vec::from(versus(
        options,
        "file_insert",
        "std_map",
        || cache.insert(turns.next().expect("a cycle has no end"), SECOND),
        || {
            let name = plain_turns.next().expect("a cycle has no end");
            drop(map.insert(black_box(name).into(), (Rc::clone(&value), SECOND)));
        },
    ));
    let path = Path::new(FOLDER).join(NAME);
    // An opened file takes microseconds, a sweep as much.
    let few = Options { calls: options.calls.div_ceil(20), ..options.clone() };
    figures.extend(versus(
        &few,
        "file_look_up",
        "opened",
        || assert!(cache.look_up(black_box(turns.next().expect("a cycle has no end")), SECOND)),
        || {
            let opened = File::open(black_box(&path)).and_then(|file| file.metadata());
            assert!(opened.is_ok(), "the file of the bench itself is there");
        },
    ));
    cache.insert(b"the last for which there is room", SECOND);
    let mut alone = |name: &str, call: &mut dyn FnMut(&mut FileCache)| {
        let rounds = (0..few.rounds).map(|_| each(&few, &mut || call(&mut cache)));
        figures.push(median(format!("codec.{name}"), "ns", rounds.collect::<Vec<_>>()));
    };
    alone("file_insert_full.ours", &mut |cache| cache.insert(b"one too many", SECOND));
    alone("file_sweep_256.ours", &mut |cache| assert_eq!(cache.sweep(black_box(SECOND)), ENTRIES_MAX));
    Ok(figures)
}

/// What a step of a request tells the timeouts, against one relaxed store, which is the least that can be told to another
/// OS thread.
fn tickling(options: &Options) -> [Figure; 3] {
    let watched = Watched::new();
    let status = AtomicU8::new(0);
    versus(
        options,
        "tickle",
        "store",
        || black_box(&watched).tickle(),
        || black_box(&status).store(black_box(1), Ordering::Relaxed),
    )
}

/// A connection comes under the watch of the timeouts and leaves: ours, which is of one OS thread, against lists that all OS
/// threads share, one under a lock and one extended by compare-and-swap; those also while another OS thread does the same.
fn registering(options: &Options) -> Vec<Figure> {
    let watched = Watched::new();
    let another = watched.another();
    let (locked, swapped) = (registry::Locked::new(1), registry::Swapped::new(1));
    let mut figures = Vec::from(versus(
        options,
        "register",
        "lock",
        || black_box(&another).come_and_go(),
        || black_box(&locked).come_and_go(0),
    ));
    figures.extend(versus(
        options,
        "register_again",
        "cas",
        || black_box(&another).come_and_go(),
        || black_box(&swapped).come_and_go(0),
    ));
    let (locked, swapped) = (registry::Locked::new(2), registry::Swapped::new(2));
    let contended = |come_and_go: &(dyn Fn(usize) + Sync)| {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for who in 0..2 {
                scope.spawn(move || (0..options.calls).for_each(|_| come_and_go(who)));
            }
        });
        begun.elapsed().as_nanos() as f64 / options.calls as f64
    };
    let lock = (0..options.rounds).map(|_| contended(&|who| locked.come_and_go(who)));
    figures.push(median("codec.register_contended.lock".to_owned(), "ns", lock));
    let cas = (0..options.rounds).map(|_| contended(&|who| swapped.come_and_go(who)));
    figures.push(median("codec.register_contended.cas".to_owned(), "ns", cas));
    figures
}
