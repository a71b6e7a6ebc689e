//! The command line of every program: `--help`, and what is told of an option that there is not.
#![forbid(unsafe_code)]

use std::process::{Command, Output, Stdio};

const PROGRAMS: &[&str] = &[
    env!("CARGO_BIN_EXE_chat"),
    env!("CARGO_BIN_EXE_deadlock"),
    env!("CARGO_BIN_EXE_demo"),
    env!("CARGO_BIN_EXE_dump"),
    env!("CARGO_BIN_EXE_echo"),
    env!("CARGO_BIN_EXE_event_log"),
    env!("CARGO_BIN_EXE_fetch"),
    env!("CARGO_BIN_EXE_gateway"),
    env!("CARGO_BIN_EXE_handover"),
    env!("CARGO_BIN_EXE_http_types"),
    env!("CARGO_BIN_EXE_https"),
    env!("CARGO_BIN_EXE_interrupt"),
    env!("CARGO_BIN_EXE_notes"),
    env!("CARGO_BIN_EXE_scopes"),
    env!("CARGO_BIN_EXE_select"),
    env!("CARGO_BIN_EXE_side_runtime"),
    env!("CARGO_BIN_EXE_ticker"),
    env!("CARGO_BIN_EXE_words"),
    env!("CARGO_BIN_EXE_worker"),
];

/// None of them goes on: there is no deadline to pass.
fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("the program starts")
}

fn name(program: &str) -> &str {
    program.rsplit('/').next().expect("a name")
}

#[test]
fn every_program_is_in_the_list() {
    let sources = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin")).expect("a folder");
    let mut programs: Vec<String> = sources
        .map(|entry| {
            entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect();
    programs.sort();
    assert_eq!(PROGRAMS.iter().map(|program| name(program)).collect::<Vec<_>>(), programs);
}

#[test]
fn help_is_printed_to_standard_output_and_names_the_usage() {
    for program in PROGRAMS {
        for option in ["--help", "-h"] {
            let output = run(program, &[option]);
            let told = String::from_utf8(output.stdout).expect("text");
            assert_eq!(output.status.code(), Some(0), "{program} {option}");
            assert!(told.contains(&format!("Usage: {}", name(program))), "{program}: {told}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program}");
        }
    }
}

#[test]
fn an_option_that_there_is_not_is_told_in_one_line_and_ends_with_2() {
    for program in PROGRAMS {
        let output = run(program, &["--no-such-option"]);
        let told = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{program}: {told}");
        assert_eq!(told.lines().count(), 1, "{program}: {told}");
        assert!(told.starts_with(&format!("{}: ", name(program))), "{program}: {told}");
        assert!(told.contains("'--no-such-option'") && told.contains("--help"), "{program}: {told}");
    }
}

#[test]
fn an_address_that_cannot_be_had_is_named() {
    // An address of the documentation (RFC 5737), which no machine has.
    for program in ["chat", "ticker", "worker", "http_types"] {
        let path = PROGRAMS.iter().find(|path| name(path) == program).expect("it is in the list");
        let output = run(path, &["192.0.2.1:80"]);
        let told = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.starts_with(&format!("{program}: cannot listen on 192.0.2.1:80: ")), "{told}");
    }
}
