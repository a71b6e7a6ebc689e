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
use std::process::ExitCode;

use bast::alloc::YieldingAlloc;
use bast_benches::{preempt, program};

// SAFETY: of the server's threads only those that burn opt in, for the length of their computation, which uses its own
// memory and nothing of the OS thread's (`examples/src/demo/burn.rs`). The load generator has no green threads.
#[global_allocator]
static ALLOCATOR: YieldingAlloc<System> = unsafe { YieldingAlloc::new(System) };

fn main() -> ExitCode {
    program::exit("preempt", preempt::run(std::env::args().skip(1)))
}
