//! The program that counts words: a directory, and standard input.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn words() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_words"));
    command.stdout(Stdio::piped());
    command
}

#[test]
fn the_words_of_all_files_below_a_directory_are_counted() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("words-{}", std::process::id()));
    fs::create_dir_all(folder.join("inner/most")).unwrap();
    for number in 0..100 {
        fs::write(folder.join(format!("inner/{number}")), "three  words\nhere").unwrap();
    }
    fs::write(folder.join("inner/most/empty"), "").unwrap();
    let output = words().arg(&folder).output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "300\n");
    assert!(output.status.success());
}

#[test]
fn the_words_of_standard_input_are_counted() {
    let mut child = words().stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"one two\n").unwrap();
    input.write_all(b" three ").unwrap();
    drop(input);
    assert_eq!(child.wait_with_output().unwrap().stdout, b"3\n");
}

#[test]
fn what_is_not_there_is_an_error() {
    let output = words().arg("/no/such/folder").stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "words: /no/such/folder: No such file or directory (os error 2)\n");
}
