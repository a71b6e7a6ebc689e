//! A server that speaks HTTPS, with the certificate and the key of two PEM files.
//!
//! ```text
//! openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out certificate.pem \
//!     -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE
//! cargo run --bin https -- certificate.pem key.pem 127.0.0.1:8443 . &
//! curl --cacert certificate.pem https://localhost:8443/
//! ```
#![forbid(unsafe_code)]

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use bast_examples::arguments;
use bast_server::tls::rustls::ServerConfig;
use bast_server::tls::rustls::pki_types::pem::PemObject as _;
use bast_server::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use bast_server::{Request, Router, Server};

const HELP: &str = "\
A server for HTTPS; with a folder, its files are at /files.

Usage: https CERTIFICATES KEY IP:PORT [FOLDER]
";

fn main() -> ExitCode {
    let arguments = arguments::of_program(HELP, 3..=4);
    let [certificates, key, address, folder @ ..] = &arguments[..] else {
        unreachable!("https: three arguments")
    };
    arguments::end(serve(certificates, key, address, folder.first()))
}

fn serve(
    certificates: &str,
    key: &str,
    address: &str,
    folder: Option<&String>,
) -> Result<(), Box<dyn Error>> {
    // The first certificate is the server's own, the others lead to one that clients know.
    let certificates = CertificateDer::pem_file_iter(certificates)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key)?;
    let mut app = Router::new().get("/", |_: &mut Request| "hello, in private\n");
    if let Some(folder) = folder {
        app = app.files("/files", folder);
    }
    let server = Server::bind(address)?.tls(Arc::new(config));
    println!("serving https://{}", server.local_addr()?);
    server.serve(app)?;
    Ok(())
}
