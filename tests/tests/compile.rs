//! What must not compile: the types keep what is not `Send` on its core, and what is borrowed alive.
//!
//! The compiler's own words are compared, which differ from version to version; `TRYBUILD=overwrite` writes them anew.

use std::env;
use std::process::Command;

/// The version whose words are beside the cases.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn what_would_be_unsound_does_not_compile() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version =
        Command::new(rustc).arg("--version").output().expect("the compiler says its version").stdout;
    if version.starts_with(COMPILER.as_bytes()) {
        trybuild::TestCases::new().compile_fail("must_not_compile/*.rs");
    } else {
        eprintln!("not compared: {} is not {COMPILER}x", String::from_utf8_lossy(&version).trim());
    }
}
