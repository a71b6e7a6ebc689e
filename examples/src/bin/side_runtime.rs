//! Green threads that use a client which is bound to tokio: `cargo run --release --bin side_runtime`.
//!
//! The server is Bast's. The client stands for any library that is async and needs tokio: it uses tokio's sockets and
//! timers. A hundred green threads call it as if it were blocking code.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bast::net::{TcpListener, TcpStream};
use bast_examples::arguments;
use bast_examples::side_runtime::SideRuntime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The async client: asks one question, and gives up after a while.
async fn ask(server: SocketAddr, question: String) -> io::Result<String> {
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(server).await?;
        stream.write_all(question.as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await?
}

const HELP: &str = "\
A hundred green threads that use an async client.

Usage: side_runtime
";

fn main() -> io::Result<()> {
    arguments::of_program(HELP, 0..=0);
    let side = Arc::new(SideRuntime::start()?);
    bast::run(move || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = listener.local_addr()?;
        let accepting = bast::spawn(move || {
            for stream in listener.incoming().flatten() {
                bast::spawn(move || answer(stream));
            }
        });
        let askers: Vec<_> = (0..100)
            .map(|number| {
                let side = Arc::clone(&side);
                bast::spawn(move || side.run(ask(server, format!("question {number}")))) // parks this thread only
            })
            .collect();
        let mut answered = 0;
        for asker in askers {
            let answer = asker.join().map_err(io::Error::other)?.map_err(io::Error::other)??;
            answered += usize::from(answer.starts_with("ANSWER TO QUESTION "));
        }
        accepting.thread().kill();
        println!("{answered} answers");
        Ok(())
    })
}

/// One connection of the server.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut question = String::new();
    BufReader::new(&stream).read_line(&mut question)?;
    write!(stream, "ANSWER TO {}", question.to_uppercase())
}
