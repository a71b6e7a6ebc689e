#![forbid(unsafe_code)]
//! Names for return addresses: each is looked up once per dump, on the OS thread that takes it. That needs more stack
//! than a small green thread has, and the first look into a program reads its debug information.

use crate::sys::modules;
use addr2line::Loader;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A function on a stack. One that the compiler has inlined has a frame of its own if the debug information tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Frame {
    /// The address within the calling instruction.
    pub address: usize,
    /// The function's path, if the program has symbols. With line tables only (`debug = "line-tables-only"`) the compiler
    /// tells only the bare names of functions that it has inlined.
    pub function: Option<String>,
    /// The source file, if the program has line tables (`debug = "line-tables-only"` is enough).
    pub file: Option<PathBuf>,
    /// The line in it.
    pub line: Option<u32>,
}

impl fmt::Display for Frame {
    /// In two lines, as in a panic's backtrace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            Some(function) => f.write_str(function)?,
            None => write!(f, "{:#x}", self.address)?,
        }
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "\n        at {}:{line}", file.display()),
            (Some(file), None) => write!(f, "\n        at {}", file.display()),
            (None, _) => Ok(()),
        }
    }
}

/// What was looked up so far.
pub(crate) struct Symbols {
    modules: Vec<Module>,
    known: HashMap<usize, Vec<Frame>>,
}

struct Module {
    path: PathBuf,
    bias: usize,
    range: Range<usize>,
    /// Opened at the first look; `None` if its file cannot be read.
    loader: OnceCell<Option<Loader>>,
}

impl Symbols {
    pub(crate) fn new() -> Symbols {
        let modules = modules::loaded().into_iter().map(|module| Module {
            path: module.path,
            bias: module.bias,
            range: module.range,
            loader: OnceCell::new(),
        });
        Symbols { modules: modules.collect(), known: HashMap::new() }
    }

    /// The functions of a stack that is given by addresses, without the runtime's own at its ends.
    pub(crate) fn of_stack(&mut self, addresses: &[usize]) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(addresses.len());
        for &address in addresses {
            frames.extend_from_slice(self.at(address));
        }
        let kept = users_part(&frames);
        frames.truncate(kept.end);
        frames.drain(..kept.start);
        frames
    }

    fn at(&mut self, address: usize) -> &[Frame] {
        let modules = &self.modules;
        self.known.entry(address).or_insert_with(|| {
            let module = modules.iter().find(|module| module.range.contains(&address));
            let frames = module.and_then(|module| module.resolve(address)).unwrap_or_default();
            if frames.is_empty() {
                vec![Frame { address, function: None, file: None, line: None }]
            } else {
                frames
            }
        })
    }
}

impl Module {
    /// The function at the address, and before it those that are inlined there.
    fn resolve(&self, address: usize) -> Option<Vec<Frame>> {
        let loader = self.loader.get_or_init(|| Loader::new(&self.path).ok()).as_ref()?;
        let probe = address.wrapping_sub(self.bias) as u64;
        let mut frames = Vec::new();
        if let Ok(mut found) = loader.find_frames(probe) {
            while let Ok(Some(frame)) = found.next() {
                let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
                let location = frame.location.as_ref();
                frames.push(Frame {
                    address,
                    function: name.map(demangled),
                    file: location.and_then(|location| location.file).map(PathBuf::from),
                    line: location.and_then(|location| location.line),
                });
            }
        }
        // Line tables alone give functions their bare names; the symbol table has the whole path of those that exist as
        // such, and is there without any debug information.
        if let Some(symbol) = loader.find_symbol(probe) {
            let function = Some(demangled(symbol.into()));
            match frames.last_mut() {
                Some(outermost) => outermost.function = function,
                None => frames.push(Frame { address, function, file: None, line: None }),
            }
        }
        Some(frames)
    }
}

/// Without the hash. A bare name, which is all that line tables tell, goes without its type arguments: they are many
/// times as long.
fn demangled(name: Cow<'_, str>) -> String {
    match name.split_once('<') {
        Some((bare, _)) if !bare.is_empty() => bare.to_owned(),
        _ => addr2line::demangle_auto(name, None).into_owned(),
    }
}

/// Functions between a blocking call and the switch, which every stack has innermost; by path, or by the file where only
/// the bare name is known.
const PARKING: Own = Own {
    paths: &["bast::scheduler::", "bast::walk::", "bast::coroutine::", "corosensei::"],
    files: &["scheduler/", "walk/", "coroutine.rs"],
    foreign_files: &["/corosensei-"],
};

/// Where the runtime calls a thread's closure.
const ROOT: Own =
    Own { paths: &["bast::thread::body::enter"], files: &["thread/body.rs"], foreign_files: &[] };

/// What lies between that and the closure.
const CALLING: Own = Own {
    paths: &["std::panic", "core::panic", "core::ops::function::", "__rust_try"],
    files: &["thread/body.rs"],
    foreign_files: &["/core/src/panic/", "/core/src/ops/function.rs", "/std/src/panic"],
};

/// How frames are known that are not the user's.
struct Own {
    /// How paths of functions begin.
    paths: &'static [&'static str],
    /// Files, or folders, of this crate.
    files: &'static [&'static str],
    /// Parts of names of other crates' files.
    foreign_files: &'static [&'static str],
}

impl Own {
    fn has(&self, frame: &Frame) -> bool {
        let function = frame.function.as_deref().unwrap_or_default().trim_start_matches('<');
        let file = frame.file.as_deref().and_then(Path::to_str).unwrap_or_default();
        self.paths.iter().any(|path| function.starts_with(path))
            || file
                .split_once(sources())
                .is_some_and(|(_, own)| self.files.iter().any(|of| own.starts_with(of)))
            || self.foreign_files.iter().any(|part| file.contains(part))
    }
}

/// The folder of this crate's sources, as the compiler names it.
fn sources() -> &'static str {
    file!().strip_suffix("walk/symbols.rs").expect("this file is called that")
}

/// The part of a stack, innermost first, that is not the runtime's own. All of it if nothing else is left.
fn users_part(frames: &[Frame]) -> Range<usize> {
    let start = frames.iter().take_while(|frame| PARKING.has(frame)).count();
    let root = frames.iter().position(|frame| ROOT.has(frame)).unwrap_or(frames.len());
    let between = frames[..root].iter().rev().take_while(|frame| CALLING.has(frame)).count();
    let kept = start..root - between;
    if kept.is_empty() { 0..frames.len() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str) -> Frame {
        let file = (!file.is_empty()).then(|| PathBuf::from(file));
        Frame { address: 1, function: Some(function.into()), file, line: None }
    }

    #[test]
    fn a_stack_is_shown_without_what_all_stacks_have() {
        let stack = [
            "bast::scheduler::capability::Capability::suspend",
            "bast::scheduler::park::park",
            "bast::time::sleep",
            "user::work",
            "user::main::{{closure}}",
            "<core::panic::unwind_safe::AssertUnwindSafe<F> as core::ops::function::FnOnce<()>>::call_once",
            "__rust_try",
            "std::panic::catch_unwind",
            "bast::thread::body::enter_typed",
            "bast::thread::body::enter",
            "bast::scheduler::capability::main",
            "stack_init_trampoline",
        ]
        .map(|function| frame(function, ""));
        assert_eq!(users_part(&stack), 2..5);
        assert_eq!(users_part(&stack[..4]), 2..4);
        assert_eq!(users_part(&stack[..2]), 0..2);
        assert_eq!(users_part(&[frame("user::work", ""), frame("", "")]), 0..2);
    }

    #[test]
    fn inlined_functions_with_bare_names_are_known_by_their_files() {
        let own = |file: &str| format!("/somewhere/{}{file}", sources());
        let stack = [
            frame("suspend", &own("scheduler/capability.rs")),
            frame("park<F>", &own("scheduler/park.rs")),
            frame("sleep", &own("time.rs")),
            frame("park", "/home/user/src/scheduler/park.rs"),
            frame("call_once<F>", "/rustc/library/core/src/ops/function.rs"),
            frame("catch_unwind<F>", "/rustc/library/std/src/panicking.rs"),
            frame("enter_typed<F>", &own("thread/body.rs")),
        ];
        assert_eq!(users_part(&stack), 2..4);
    }

    #[test]
    fn a_name_is_shown_without_its_hash_and_a_bare_one_without_its_arguments() {
        for (raw, shown) in [
            ("_ZN4bast4time5sleep17h0123456789abcdefE", "bast::time::sleep"),
            ("park<bast::time::sleep::{closure_env#0}>", "park"),
            ("{closure#0}", "{closure#0}"),
            ("main", "main"),
        ] {
            assert_eq!(demangled(raw.into()), shown);
        }
    }

    #[test]
    fn a_function_has_its_path_and_an_address_in_none_has_no_name() {
        #[inline(never)]
        fn a_known_function() {}
        let mut symbols = Symbols::new();
        let frames = symbols.of_stack(&[a_known_function as *const () as usize]);
        let name = frames.last().unwrap().function.as_deref().unwrap();
        assert!(name.starts_with("bast::walk::symbols::") && name.ends_with("::a_known_function"), "{name}");
        let frames = symbols.of_stack(&[0x10]);
        assert_eq!(frames.len(), 1);
        assert_eq!((frames[0].function.as_ref(), frames[0].to_string().as_str()), (None, "0x10"));
    }
}
