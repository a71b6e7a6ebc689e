//! Tells the benches which compiler built them: the one that is found when they run may be another.

use std::process::Command;

fn main() {
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(compiler).arg("--version").output().ok();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let version = version.filter(|version| !version.is_empty()).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=BENCHES_COMPILER={version}");
    println!("cargo:rerun-if-changed=build.rs");
}
