//! The registers at the place of the call: the start of a walk of a thread that suspends itself.

use crate::sys::sample::Registers;

/// The registers that the walker needs, as they are in the function that this is inlined into. They describe its frame
/// for as long as it has not returned.
///
/// A switch pays about a nanosecond for it: three moves and the stores to the stack line that it touches anyway.
#[inline(always)]
pub(crate) fn here() -> Registers {
    let mut here = Registers::default();
    // SAFETY: registers are copied, and nothing else happens: no memory, no stack, no flags.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "lea {pc}, [rip]",
            "mov {sp}, rsp",
            "mov {fp}, rbp",
            pc = lateout(reg) here.program_counter,
            sp = lateout(reg) here.stack_pointer,
            fp = lateout(reg) here.frame_pointer,
            options(nomem, nostack, preserves_flags),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "adr {pc}, .",
            "mov {sp}, sp",
            "mov {fp}, x29",
            "mov {link}, x30",
            pc = out(reg) here.program_counter,
            sp = out(reg) here.stack_pointer,
            fp = out(reg) here.frame_pointer,
            link = out(reg) here.link,
            options(nomem, nostack, preserves_flags),
        );
    }
    // Elsewhere all are 0, which is in no module: there is no stack to show.
    here
}
