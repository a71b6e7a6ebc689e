//! What the programs of the benches share: the options that most of them have, and how they end.
#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// The options that most benches have.
#[derive(Clone, Debug)]
pub struct Common {
    /// Show on a small scale that it works.
    pub smoke: bool,
    /// Where to write JSON.
    pub json: Option<PathBuf>,
    /// Print the help.
    pub help: bool,
    /// Be the server of this name.
    pub role: Option<String>,
    /// Where a role listens.
    pub listen: SocketAddr,
}

/// Takes the value of an option.
pub type Value<'a> = &'a mut dyn FnMut() -> Result<String, String>;

impl Common {
    /// Reads the arguments behind the program's name. `own` is asked about those that are not common; it says whether it
    /// knows the option, of which it may take the value.
    ///
    /// # Errors
    /// One line that says which argument is wrong.
    pub fn parse(
        args: impl IntoIterator<Item = String>,
        mut own: impl FnMut(&str, Value<'_>) -> Result<bool, String>,
    ) -> Result<Common, String> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let mut common = Common { smoke: false, json: None, help: false, role: None, listen };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            if own(&arg, &mut value)? {
                continue;
            }
            match arg.as_str() {
                "--smoke" => common.smoke = true,
                "--json" => common.json = Some(value()?.into()),
                "--help" => common.help = true,
                "--role" => common.role = Some(value()?),
                "--listen" => {
                    common.listen = value()?.parse().map_err(|_| "--listen needs IP:PORT".to_owned())?;
                }
                // What the http bench's roles need besides.
                "--mode" | "--root" | "--workers" => drop(value()?),
                // What cargo adds to the arguments of every bench.
                "--bench" => {}
                _ => return Err(format!("no such option: {arg} (see --help)")),
            }
        }
        Ok(common)
    }

    /// Prints the help, or is a role, or measures, as was asked for. True if all was well.
    ///
    /// # Errors
    /// Those of the role, or of measuring.
    pub fn run(
        &self,
        help: &str,
        serve: impl FnOnce(&str) -> io::Result<()>,
        measure: impl FnOnce() -> io::Result<bool>,
    ) -> io::Result<bool> {
        if self.help {
            print!("{help}");
            return Ok(true);
        }
        match &self.role {
            Some(role) => serve(role).map(|()| true),
            None => measure(),
        }
    }
}

/// What the program `name` returns from `main`, and says on stderr: 0, or 1 where what was measured is wrong, or 2 for a
/// wrong argument.
///
/// `done` is an error of the arguments, or of the measurement, or whether everything was as it should be.
#[must_use]
pub fn exit(name: &str, done: Result<io::Result<bool>, String>) -> ExitCode {
    match done {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("{name}: {why}");
            ExitCode::from(2)
        }
    }
}

/// The error for a role that a bench does not have.
#[must_use]
pub fn no_such_role(role: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("no such role: {role}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(Common, u8), String> {
        let mut known = 0;
        let common = Common::parse(line.split_ascii_whitespace().map(str::to_owned), |option, value| {
            if option == "--known" {
                known = value()?.parse().map_err(|_| "--known needs a number".to_owned())?;
            }
            Ok(option == "--known")
        })?;
        Ok((common, known))
    }

    #[test]
    fn a_role_takes_what_roles_are_told() {
        let line = "--role bast --listen 127.0.0.1:9 --workers 2 --mode x --root / --known 7";
        let (common, known) = parse(line).unwrap();
        assert_eq!((common.role.as_deref(), common.listen.port(), known), (Some("bast"), 9, 7));
    }

    #[test]
    fn a_wrong_argument_is_named() {
        assert_eq!(parse("--nope").unwrap_err(), "no such option: --nope (see --help)");
        assert_eq!(parse("--json").unwrap_err(), "--json needs a value");
        assert_eq!(parse("--known x").unwrap_err(), "--known needs a number");
        assert_eq!(parse("--listen 8080").unwrap_err(), "--listen needs IP:PORT");
    }
}
