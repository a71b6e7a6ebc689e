//! Memory faults: a SIGSEGV and SIGBUS handler that asks a hook first, and the signal stack it needs.
//!
//! Installed once per process, over whatever was there (std's own overflow handler, a crash reporter), which then
//! gets every fault the hook does not claim, as if it were installed alone (but on the signal stack). What runs in the
//! handler must be async-signal-safe (signal-safety(7)): no allocation, no lock, no panic.

use core::marker::PhantomData;
use core::ops::Range;
use core::ptr;
use std::io;
use std::sync::{Once, OnceLock};

use super::memory::{Mapping, PAGE_BYTES, guard_protect};

/// Looks at the address of a fault. Claims the fault by not returning; returns to pass it on.
///
/// Runs on the signal stack of the faulting OS thread and must be async-signal-safe.
pub(crate) type Hook = fn(fault_address: usize);

/// What the handler needs, written before the handler can run and never again.
struct Installed {
    hook: Hook,
    previous_segv: libc::sigaction,
    previous_bus: libc::sigaction,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// Puts `hook` in front of the handlers of SIGSEGV and SIGBUS. The first call of a process counts, later ones do
/// nothing.
pub(crate) fn install(hook: Hook) {
    static ARMED: Once = Once::new();
    ARMED.call_once(|| {
        let installed = INSTALLED.get_or_init(|| Installed {
            hook,
            previous_segv: current_action(libc::SIGSEGV),
            previous_bus: current_action(libc::SIGBUS),
        });
        set_action(libc::SIGSEGV, &ours_over(&installed.previous_segv));
        set_action(libc::SIGBUS, &ours_over(&installed.previous_bus));
    });
}

/// Our action in the manner of the one it covers: the same signals blocked while it runs, the same restarting.
fn ours_over(previous: &libc::sigaction) -> libc::sigaction {
    let mut action = *previous;
    action.sa_sigaction = on_fault as *const () as usize;
    action.sa_flags =
        (previous.sa_flags & (libc::SA_NODEFER | libc::SA_RESTART)) | libc::SA_SIGINFO | libc::SA_ONSTACK;
    action
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a siginfo that is valid for the handler (SA_SIGINFO is set).
    let sent = unsafe { (*info).si_code } <= 0; // by kill(2) and its like (sigaction(2)); then si_addr says nothing
    let Some(installed) = INSTALLED.get() else {
        return set_default(signal); // cannot be: it was set before this handler was
    };
    if !sent {
        // SAFETY: as above; a fault of the kernel's fills si_addr.
        let fault_address = unsafe { (*info).si_addr() }.addr();
        (installed.hook)(fault_address);
    }
    let previous = if signal == libc::SIGBUS { &installed.previous_bus } else { &installed.previous_segv };
    pass_on(previous, signal, sent, info, context);
}

/// Does what the kernel would have done had `previous` been the action in force.
fn pass_on(
    previous: &libc::sigaction,
    signal: libc::c_int,
    sent: bool,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    match previous.sa_sigaction {
        // A fault strikes again when the instruction is retried, and a sent signal is sent again: it stays pending
        // until this handler returns.
        libc::SIG_DFL => {
            set_default(signal);
            if sent {
                // SAFETY: raise takes no pointer and is async-signal-safe.
                unsafe { libc::raise(signal) };
            }
        }
        // A fault cannot be ignored: the kernel kills (force_sig_fault).
        libc::SIG_IGN if !sent => set_default(signal),
        libc::SIG_IGN => {}
        handler => {
            if previous.sa_flags & libc::SA_RESETHAND != 0 {
                set_default(signal);
            }
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: with SA_SIGINFO the action holds a function of these three arguments (sigaction(2)),
                // which its installer vouched for; they are the kernel's own.
                unsafe {
                    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                        core::mem::transmute(handler);
                    handler(signal, info, context);
                }
            } else {
                // SAFETY: without SA_SIGINFO the action holds a function of the signal number alone.
                unsafe {
                    let handler: extern "C" fn(libc::c_int) = core::mem::transmute(handler);
                    handler(signal);
                }
            }
        }
    }
}

fn current_action(signal: libc::c_int) -> libc::sigaction {
    // SAFETY: zeroes are a valid sigaction (default action, empty mask), which the kernel overwrites.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        let answer = libc::sigaction(signal, ptr::null(), &raw mut action);
        assert_eq!(answer, 0, "fault: sigaction");
        action
    }
}

/// Async-signal-safe.
fn set_default(signal: libc::c_int) {
    // SAFETY: zeroes are the default action with an empty mask.
    let default: libc::sigaction = unsafe { core::mem::zeroed() };
    set_action(signal, &default);
}

/// Async-signal-safe.
fn set_action(signal: libc::c_int, action: &libc::sigaction) {
    // SAFETY: the action is ours (its handler takes the arguments its flags promise) or the default.
    unsafe { libc::sigaction(signal, action, ptr::null_mut()) };
}

/// Writes all of `text` to standard error as far as it takes it. Async-signal-safe.
pub(crate) fn write_stderr(mut text: &[u8]) {
    while !text.is_empty() {
        // SAFETY: the slice is readable for its length.
        let written = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        match usize::try_from(written) {
            Ok(written) if written > 0 => text = &text[written..],
            _ => return,
        }
    }
}

/// A signal stack for the calling OS thread: without one, a handler for an overflowed stack has nowhere to run.
///
/// Owned by the OS thread that made it. Does nothing where a signal stack is set already (std gives one to each of
/// its threads).
#[derive(Debug)]
pub(crate) struct AltStack {
    mapping: Option<Mapping>,
    of_this_os_thread: PhantomData<*mut ()>,
}

/// What handlers may use beyond the registers that the kernel saves: room for a message, with a reserve for whoever
/// is chained behind us.
const ALT_STACK_HANDLER_BYTES: usize = 32 << 10;

/// `AT_MINSIGSTKSZ` (getauxval(3)), which libc does not name for every target.
const AT_MINSIGSTKSZ: libc::c_ulong = 51;

impl AltStack {
    /// Sets a signal stack with a guard page below it, unless the OS thread has one.
    pub(crate) fn install() -> io::Result<AltStack> {
        if current_alt_stack().ss_flags & libc::SS_DISABLE == 0 {
            return Ok(AltStack { mapping: None, of_this_os_thread: PhantomData });
        }
        // SAFETY: getauxval takes no pointer; 0 means that the kernel does not say.
        let saved_bytes_min = unsafe { libc::getauxval(AT_MINSIGSTKSZ) } as usize;
        let bytes =
            (saved_bytes_min.max(libc::MINSIGSTKSZ) + ALT_STACK_HANDLER_BYTES).next_multiple_of(PAGE_BYTES);
        let mapping = Mapping::reserve(PAGE_BYTES + bytes)?;
        let range = mapping.range();
        // SAFETY: the mapping is new, nothing lives in it.
        unsafe { guard_protect(range.start..range.start + PAGE_BYTES)? };
        set_alt_stack(&libc::stack_t {
            ss_sp: (range.start + PAGE_BYTES) as *mut libc::c_void,
            ss_flags: 0,
            ss_size: bytes,
        })?;
        Ok(AltStack { mapping: Some(mapping), of_this_os_thread: PhantomData })
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let Some(mapping) = &self.mapping else { return };
        // Whoever replaced ours since then keeps theirs.
        if mapping.range().contains(&current_alt_stack().ss_sp.addr()) {
            let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
            set_alt_stack(&none).expect("fault: the signal stack is not in use");
        }
    }
}

/// Where handlers run on the calling OS thread that ask for a stack of their own (SA_ONSTACK).
pub(crate) fn signal_stack() -> Range<usize> {
    let stack = current_alt_stack();
    let start = stack.ss_sp.addr();
    if stack.ss_flags & libc::SS_DISABLE == 0 { start..start + stack.ss_size } else { 0..0 }
}

fn current_alt_stack() -> libc::stack_t {
    let mut stack = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: the kernel writes one stack_t to the local.
    let answer = unsafe { libc::sigaltstack(ptr::null(), &raw mut stack) };
    assert_eq!(answer, 0, "fault: sigaltstack");
    stack
}

fn set_alt_stack(stack: &libc::stack_t) -> io::Result<()> {
    // SAFETY: the memory described is either none or a mapping that `AltStack` keeps until it has unset it.
    let answer = unsafe { libc::sigaltstack(stack, ptr::null_mut()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::sys::{child, memory};
    use std::thread;

    /// An address on the first page, where nothing is ever mapped (`vm.mmap_min_addr`).
    const WILD: usize = 0x10;

    fn claim_nothing(_: usize) {}

    fn read_wild() {
        // SAFETY: none is needed where nothing is read: the load faults, which the tests are about.
        unsafe { (WILD as *const u8).read_volatile() };
    }

    fn set_handler(signal: libc::c_int, handler: libc::sighandler_t, flags: libc::c_int) {
        let mut action = current_action(signal);
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        set_action(signal, &action);
    }

    fn send(signal: libc::c_int) {
        // SAFETY: raise takes no pointer.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }

    /// Ends the process with the signal's number if the handler got what the kernel gave.
    extern "C" fn exit_if_told_address(
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        // SAFETY: the kernel's siginfo, passed on; _exit takes no pointer.
        unsafe {
            libc::_exit(if (*info).si_addr().addr() == WILD && !context.is_null() { signal } else { 1 })
        };
    }

    extern "C" fn exit_with_signal(signal: libc::c_int) {
        // SAFETY: _exit takes no pointer.
        unsafe { libc::_exit(signal) };
    }

    #[test]
    fn a_fault_reaches_the_earlier_handler_with_its_details() {
        let output = child::run(|| {
            set_handler(libc::SIGSEGV, exit_if_told_address as *const () as usize, libc::SA_SIGINFO);
            install(claim_nothing);
            read_wild();
        });
        assert_eq!(output.status.code(), Some(libc::SIGSEGV), "{}", child::stderr(&output));
    }

    #[test]
    fn a_fault_reaches_an_earlier_handler_of_one_argument() {
        let output = child::run(|| {
            set_handler(libc::SIGSEGV, exit_with_signal as *const () as usize, 0);
            install(claim_nothing);
            read_wild();
        });
        assert_eq!(output.status.code(), Some(libc::SIGSEGV), "{}", child::stderr(&output));
    }

    #[test]
    fn a_fault_without_an_earlier_handler_kills_even_where_it_was_ignored() {
        let by_default = child::run(|| {
            set_handler(libc::SIGSEGV, libc::SIG_DFL, 0);
            install(claim_nothing);
            read_wild();
        });
        let ignored = child::run(|| {
            set_handler(libc::SIGSEGV, libc::SIG_IGN, 0);
            install(claim_nothing);
            read_wild();
        });
        for output in [by_default, ignored] {
            assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{}", child::stderr(&output));
        }
    }

    #[test]
    fn a_signal_that_was_sent_does_what_it_did_before() {
        let by_default = child::run(|| {
            set_handler(libc::SIGBUS, libc::SIG_DFL, 0);
            install(|_| panic!("a sent signal has no address"));
            send(libc::SIGBUS);
        });
        assert_eq!(by_default.status.signal(), Some(libc::SIGBUS), "{}", child::stderr(&by_default));
        child::succeeds(|| {
            set_handler(libc::SIGBUS, libc::SIG_IGN, 0);
            install(|_| panic!("a sent signal has no address"));
            send(libc::SIGBUS);
        });
    }

    #[test]
    fn an_earlier_handler_that_wanted_one_signal_gets_one() {
        let output = child::run(|| {
            extern "C" fn return_to_the_fault(_: libc::c_int) {
                write_stderr(b"once ");
            }
            set_handler(libc::SIGSEGV, return_to_the_fault as *const () as usize, libc::SA_RESETHAND);
            install(claim_nothing);
            read_wild();
        });
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
        assert_eq!(child::stderr(&output), "once ");
    }

    #[test]
    fn an_alt_stack_is_guarded_and_goes_with_its_owner() {
        thread::spawn(|| {
            let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
            let of_std = current_alt_stack();
            set_alt_stack(&none).unwrap();

            let ours = AltStack::install().unwrap();
            let set = current_alt_stack();
            assert!(set.ss_size > ALT_STACK_HANDLER_BYTES);
            assert!(memory::is_readable(set.ss_sp.addr()));
            assert!(!memory::is_readable(set.ss_sp.addr() - 1));
            drop(AltStack::install().unwrap()); // finds one set: neither replaces nor removes it
            assert_eq!(current_alt_stack().ss_sp, set.ss_sp);

            drop(ours);
            assert_ne!(current_alt_stack().ss_flags & libc::SS_DISABLE, 0);
            set_alt_stack(&of_std).unwrap(); // std takes its own down at the end of the thread
        })
        .join()
        .unwrap();
    }
}
