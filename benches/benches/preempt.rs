//! How late are short requests beside handlers that compute for long and never call the runtime?
//!
//! Two burns per core are in flight (`/burn` of the demo) while `/plaintext` is loaded, once with burns that give way at
//! their allocations and once with burns that keep their core. The first is to answer with a p99 within three time
//! slices; the second is what there would be without preemption.
//!
//! ```text
//! cargo bench --bench preempt -- --rounds 5                    (--help lists the options)
//! ```

use std::alloc::System;
use std::io;
use std::process::ExitCode;

use bast::alloc::YieldingAlloc;
use bast_benches::preempt::{self, Options};

// SAFETY: of the server's threads only those that burn opt in, for the length of their computation, which uses its own
// memory and nothing of the OS thread's (`examples/src/demo/burn.rs`). The load generator has no green threads.
#[global_allocator]
static ALLOCATOR: YieldingAlloc<System> = unsafe { YieldingAlloc::new(System) };

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("preempt: {why}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        print!("{}", preempt::HELP);
        return ExitCode::SUCCESS;
    }
    let done: io::Result<bool> = match &options.role {
        Some(role) => preempt::serve(role, &options).map(|()| true),
        None => preempt::measure(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("preempt: {error}");
            ExitCode::FAILURE
        }
    }
}
