//! What a program sees when a thread runs out of stack: which thread, which stack, what to do; then it aborts.
//!
//! Runs in the handler of the fault, on the OS thread's signal stack, so nothing here may allocate, lock or panic.
//! A fault that is not in a guard of ours goes on to whoever handled faults before.

use core::fmt::{self, Write};
use std::sync::OnceLock;

use super::table::{self, Found};
use crate::sys::fault;
use crate::sys::memory::PAGE_BYTES;

pub(crate) use crate::sys::fault::AltStack;

/// Writes what the running thread is called, such as `thread 17 "worker"`. Async-signal-safe: it runs in a signal
/// handler, on the OS thread whose green thread overflowed.
pub(crate) type Describe = fn(&mut dyn Write);

/// Says where the size of the running thread's stack is set, such as `Builder::stack_size`. Async-signal-safe, too.
pub(crate) type SetBy = fn() -> &'static str;

static INSTALLED: OnceLock<(Describe, SetBy)> = OnceLock::new();

/// Makes overflows of our stacks speak. The first call of a process counts, later ones do nothing. Every OS thread
/// that runs stacks needs an [`AltStack`] besides.
pub(crate) fn install(describe: Describe, set_by: SetBy) {
    INSTALLED.get_or_init(|| (describe, set_by));
    fault::install(on_fault);
}

fn on_fault(fault_address: usize) {
    let (Some(stack), Some(installed)) = (table::find(fault_address), INSTALLED.get()) else { return };
    if stack.in_guard {
        let mut message = Message::new();
        compose(&mut message, *installed, &stack, fault_address);
        fault::write_stderr(message.text());
        std::process::abort();
    }
}

/// The longest description of a thread that is printed. Labels may be long, and the numbers come after them.
const NAME_BYTES_MAX: usize = 160;

fn compose(
    out: &mut Message<512>,
    (describe, set_by): (Describe, SetBy),
    stack: &Found,
    fault_address: usize,
) {
    let (limit, end) = (stack.usable.start, stack.usable.end);
    let stack_kib = (end - limit - PAGE_BYTES) >> 10; // the class: a slot has a page more
    let mut name = Message::<NAME_BYTES_MAX>::new();
    describe(&mut name);
    out.push(b"bast: ");
    out.push(name.text());
    // Writing to a message does not fail, it cuts off.
    let _ = writeln!(
        out,
        " overflowed its stack of {stack_kib} KiB (fault at {fault_address:#x}, stack {limit:#x}-{end:#x}): \
         unbounded recursion, or a thread that needs a larger one: {}, or bast::ensure_stack where it recurses",
        set_by()
    );
}

/// A text of bounded length in place; what does not fit is cut off.
struct Message<const BYTES_MAX: usize> {
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl<const BYTES_MAX: usize> Message<BYTES_MAX> {
    fn new() -> Self {
        Message { bytes: [0; BYTES_MAX], len: 0 }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, text: &[u8]) {
        let fits = text.len().min(BYTES_MAX - self.len);
        self.bytes[self.len..self.len + fits].copy_from_slice(&text[..fits]);
        self.len += fits;
    }
}

impl<const BYTES_MAX: usize> Write for Message<BYTES_MAX> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use core::hint::black_box;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Output;
    use std::thread;

    use super::*;
    use crate::stack::{GuardKind, SizeClass, StackPool};
    use crate::sys::child;

    /// The signals' numbers on Linux.
    const SIGABRT: i32 = 6;
    const SIGSEGV: i32 = 11;

    fn describe(out: &mut dyn Write) {
        let _ = out.write_str("thread 17 \"worker\"");
    }

    /// One of our stacks as corosensei wants it.
    struct Lent<'a>(&'a crate::stack::Stack);

    // SAFETY: the pool guards the stack, and no class is smaller than MIN_STACK_SIZE.
    unsafe impl corosensei::stack::Stack for Lent<'_> {
        fn base(&self) -> corosensei::stack::StackPointer {
            self.0.base()
        }

        fn limit(&self) -> corosensei::stack::StackPointer {
            self.0.limit()
        }
    }

    #[expect(unconditional_recursion)]
    fn recurse(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        recurse(depth + 1) + frame[0]
    }

    /// Overflows a stack of 192 KiB in this process.
    fn overflow(kind: GuardKind) {
        install(describe, || "Builder::stack_size");
        let _alt_stack = AltStack::install().unwrap();
        let stack = StackPool::new(kind).unwrap().take(SizeClass::DEFAULT).unwrap();
        corosensei::on_stack(Lent(&stack), || {
            black_box(recurse(0));
        });
    }

    fn assert_overflow_is_told(output: &Output) {
        let told = child::stderr(output);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{told}");
        assert!(
            told.contains("bast: thread 17 \"worker\" overflowed its stack of 192 KiB (fault at 0x"),
            "{told}"
        );
        assert!(told.contains("Builder::stack_size") && told.contains("bast::ensure_stack"), "{told}");
        assert_eq!(told.matches("overflowed its stack").count(), 1, "{told}");
    }

    #[test]
    fn an_overflow_names_thread_and_stack_and_aborts() {
        assert_overflow_is_told(&child::run(|| overflow(GuardKind::Auto)));
    }

    #[test]
    fn an_overflow_into_an_mprotect_guard_does_the_same() {
        assert_overflow_is_told(&child::run(|| overflow(GuardKind::Protect)));
    }

    #[test]
    fn an_overflow_on_a_started_os_thread_is_told_too() {
        assert_overflow_is_told(&child::run(|| {
            thread::spawn(|| overflow(GuardKind::Auto)).join().unwrap();
        }));
    }

    #[test]
    fn an_overflow_of_an_os_threads_own_stack_is_left_to_std() {
        let output = child::run(|| {
            install(describe, || "Builder::stack_size");
            thread::Builder::new()
                .name("plain".into())
                .spawn(|| black_box(recurse(0)))
                .unwrap()
                .join()
                .unwrap();
        });
        let told = child::stderr(&output);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{told}");
        assert!(told.contains("'plain'") && told.contains("has overflowed its stack"), "{told}");
        assert!(!told.contains("bast:"), "{told}");
    }

    #[test]
    fn a_wild_access_is_no_overflow() {
        let output = child::run(|| {
            install(describe, || "Builder::stack_size");
            // SAFETY: none is needed where nothing is read: the first page is never mapped, the load faults.
            unsafe { (0x10 as *const u8).read_volatile() };
        });
        assert_eq!(output.status.signal(), Some(SIGSEGV));
        assert!(!child::stderr(&output).contains("bast:"));
    }

    #[test]
    fn a_long_label_does_not_crowd_out_the_addresses() {
        let mut message = Message::new();
        let stack = Found { usable: 0x7000_1000_0000..0x7000_1003_1000, in_guard: true };
        let installed: (Describe, SetBy) =
            (|out| _ = out.write_str(&"long ".repeat(200)), || "Settings::stack_bytes of the server");
        compose(&mut message, installed, &stack, 0x7000_0fff_ffff);
        let text = core::str::from_utf8(message.text()).unwrap();
        assert!(
            text.contains("stack of 192 KiB (fault at 0x70000fffffff, stack 0x700010000000-0x700010031000)")
        );
        assert!(text.ends_with(
            "needs a larger one: Settings::stack_bytes of the server, or bast::ensure_stack where it recurses\n"
        ));
    }
}
