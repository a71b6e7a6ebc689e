//! Samples of other OS threads while they run: registers and the top of the stack, taken by a directed signal.
//!
//! The signal is SIGURG, for Go's reasons: by default it is ignored, so that one too many harms nobody; debuggers let
//! it pass; libc does not use it; and whoever handles it for urgent data has to bear spurious ones anyway. One that is
//! not ours goes on to the handler that was there before.
//!
//! The handler runs on the signal stack of its OS thread, not on the stack that it looks at. It copies bytes into memory
//! that is there already and does nothing else: no allocation, no lock, no unwinding (signal-safety(7)). System calls
//! that it interrupts go on (SA_RESTART), but for the few that never do (signal(7): epoll_wait, poll, ...), whose
//! callers must expect EINTR from any signal.
//!
//! ```text
//!   asker, holding the lock: Idle ─▶ Asked(tid) ─ tgkill ─ sleeps on the word ─▶ copies the sample out ─▶ Idle
//!   handler, on OS thread tid:          └──CAS──▶ Writing ── copies ──▶ Done, wake ─────┘
//!   too late: the asker takes Asked back, and the handler finds nothing to do.
//! ```
//! Acquire and release on the word order the copies of the two.

use super::futex;
use super::memory::PAGE_BYTES;
use std::cell::UnsafeCell;
use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The most of a stack that is copied.
pub(crate) const STACK_BYTES_MAX: usize = 16 * PAGE_BYTES;

/// The registers that a walk of a stack begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Registers {
    pub(crate) program_counter: usize,
    pub(crate) stack_pointer: usize,
    pub(crate) frame_pointer: usize,
    /// Where the running function returns to, on processors that keep it in a register; else 0.
    pub(crate) link: usize,
}

/// What is to be known of the interrupted code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    /// Who runs there.
    pub(crate) id: u64,
    /// Where its stack ends (the highest address, exclusive).
    pub(crate) stack_end: usize,
}

/// Says who runs on the calling OS thread, by the stack pointer of the interrupted code; `None`: nobody of interest.
///
/// Runs in a signal handler and must be async-signal-safe.
pub(crate) type Identify = fn(stack_pointer: usize) -> Option<Subject>;

/// What an OS thread was doing.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) id: u64,
    pub(crate) registers: Registers,
    /// The stack from the stack pointer upwards, as far as it was copied.
    pub(crate) stack: Vec<u8>,
}

const IDLE: u64 = 0;
const WRITING: u64 = 1;
const DONE: u64 = 2;
/// With the OS thread's id above it.
const ASKED: u64 = 3;
const STATE_BITS: u32 = 2;

static WORD: AtomicU64 = AtomicU64::new(IDLE);
static ROOM: Room = Room(UnsafeCell::new(Written { found: None, stack: [0; STACK_BYTES_MAX] }));

struct Room(UnsafeCell<Written>);

// SAFETY: it is touched only by the handler between Writing and Done, and by the asker, who holds the lock, after Done.
unsafe impl Sync for Room {}

struct Written {
    /// Who and where, and how many bytes of the stack follow.
    found: Option<(u64, Registers, usize)>,
    stack: [u8; STACK_BYTES_MAX],
}

struct Installed {
    identify: Identify,
    previous: libc::sigaction,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// The kernel's id of the calling OS thread.
pub(crate) fn os_thread_id() -> i32 {
    // SAFETY: gettid takes no pointer and cannot fail.
    unsafe { libc::gettid() }
}

/// Takes a sample of an OS thread of this process that has a signal stack. `None`: nobody of interest ran there, or it
/// did not answer within the limit (it is stopped, has the signal blocked, or somebody else handles it now).
///
/// # Errors
/// The OS thread is gone, or the handler cannot be installed.
pub(crate) fn take(os_thread: i32, identify: Identify, limit: Duration) -> io::Result<Option<Sample>> {
    static ASKER: Mutex<()> = Mutex::new(());
    // Nothing is left half done by an asker that panicked: the word is put back by whoever asks next.
    let _asker = ASKER.lock().unwrap_or_else(PoisonError::into_inner);
    install(identify)?;
    WORD.store((os_thread as u64) << STATE_BITS | ASKED, Ordering::Release);
    // SAFETY: no pointers are passed.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), os_thread, libc::SIGURG) };
    if sent != 0 {
        let error = io::Error::last_os_error();
        WORD.store(IDLE, Ordering::Relaxed);
        return Err(error);
    }
    let deadline = Instant::now() + limit;
    loop {
        let word = WORD.load(Ordering::Acquire);
        if word == DONE {
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if word != WRITING
            && left.is_zero()
            && WORD.compare_exchange(word, IDLE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            return Ok(None);
        }
        // A handler that is writing is done in microseconds, unless its OS thread does not get a core.
        let left = left.max(Duration::from_millis(1));
        futex::wait(&WORD, word, Some(left.as_nanos() as u64));
    }
    // SAFETY: the word is Done: no handler writes, and the next asker waits for the lock.
    let written = unsafe { &*ROOM.0.get() };
    let sample = written.found.map(|(id, registers, len)| Sample {
        id,
        registers,
        stack: written.stack[..len].to_vec(),
    });
    WORD.store(IDLE, Ordering::Release);
    Ok(sample)
}

fn install(identify: Identify) -> io::Result<()> {
    if INSTALLED.get().is_some() {
        return Ok(());
    }
    // SAFETY: zeroes are a valid sigaction (default action, empty mask), which the kernel overwrites.
    let mut previous: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one sigaction to the local.
    super::check(unsafe { libc::sigaction(libc::SIGURG, ptr::null(), &raw mut previous) })?;
    INSTALLED.get_or_init(|| Installed { identify, previous });
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    super::signal::block_all(&mut action);
    // SAFETY: the action's handler takes the three arguments that its flags promise and is async-signal-safe.
    super::check(unsafe { libc::sigaction(libc::SIGURG, &raw const action, ptr::null_mut()) })?;
    Ok(())
}

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: errno is the interrupted code's; __errno_location always returns a valid pointer.
    let errno = unsafe { *libc::__errno_location() };
    let asked = (os_thread_id() as u64) << STATE_BITS | ASKED;
    let installed = INSTALLED.get();
    if let Some(installed) = installed
        && WORD.compare_exchange(asked, WRITING, Ordering::Acquire, Ordering::Relaxed).is_ok()
    {
        // SAFETY: the kernel passes the interrupted code's context (SA_SIGINFO is set).
        let registers = registers_of(unsafe { &*context.cast::<libc::ucontext_t>() });
        // SAFETY: this handler won the word: nobody else touches the room until it is Done.
        write(unsafe { &mut *ROOM.0.get() }, registers, installed.identify);
        WORD.store(DONE, Ordering::Release);
        futex::wake(&WORD);
    } else if let Some(installed) = installed {
        pass_on(&installed.previous, signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn write(to: &mut Written, registers: Registers, identify: Identify) {
    let from = registers.stack_pointer;
    to.found = identify(from).map(|subject| {
        let len = subject.stack_end.saturating_sub(from).min(STACK_BYTES_MAX);
        // SAFETY: the range is the used part of the stack that this OS thread runs on, from the interrupted code's stack
        // pointer to where `identify` says that it ends: mapped, and written by nobody while the handler runs.
        unsafe { ptr::copy_nonoverlapping(from as *const u8, to.stack.as_mut_ptr(), len) };
        (subject.id, registers, len)
    });
}

#[cfg(target_arch = "x86_64")]
fn registers_of(context: &libc::ucontext_t) -> Registers {
    let register = |index: libc::c_int| context.uc_mcontext.gregs[index as usize] as usize;
    Registers {
        program_counter: register(libc::REG_RIP),
        stack_pointer: register(libc::REG_RSP),
        frame_pointer: register(libc::REG_RBP),
        link: 0,
    }
}

#[cfg(target_arch = "aarch64")]
fn registers_of(context: &libc::ucontext_t) -> Registers {
    let machine = &context.uc_mcontext;
    Registers {
        program_counter: machine.pc as usize,
        stack_pointer: machine.sp as usize,
        frame_pointer: machine.regs[29] as usize,
        link: machine.regs[30] as usize,
    }
}

/// No walker knows the registers of this processor: nobody is identified by a stack pointer of 0.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn registers_of(_: &libc::ucontext_t) -> Registers {
    Registers::default()
}

/// A signal that nobody asked for: the earlier handler's, if there was one.
fn pass_on(
    previous: &libc::sigaction,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {} // the default of SIGURG is to do nothing
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: with SA_SIGINFO the action holds a function of these three arguments (sigaction(2)), which its
            // installer vouched for; they are the kernel's own.
            unsafe {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    mem::transmute(handler);
                handler(signal, info, context);
            }
        }
        handler => {
            // SAFETY: without SA_SIGINFO the action holds a function of the signal number alone.
            unsafe {
                let handler: extern "C" fn(libc::c_int) = mem::transmute(handler);
                handler(signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::child;
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize};
    use std::thread;

    /// As long as no test needs more of the stack.
    const STACK_BYTES: usize = 256;
    const LIMIT: Duration = Duration::from_secs(20);

    /// Whoever spins says that it may be looked at.
    static SPINS: AtomicBool = AtomicBool::new(false);

    fn identify(stack_pointer: usize) -> Option<Subject> {
        SPINS.load(Ordering::Relaxed).then_some(Subject { id: 7, stack_end: stack_pointer + STACK_BYTES })
    }

    /// Runs `ask` with the id of an OS thread that spins.
    fn beside_a_spinner(ask: impl FnOnce(i32)) {
        let (id, over) = (&AtomicI32::new(0), &AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                id.store(os_thread_id(), Ordering::Relaxed);
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            while id.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            ask(id.load(Ordering::Relaxed));
            over.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_running_os_thread_is_sampled_if_it_is_of_interest() {
        child::succeeds(|| {
            beside_a_spinner(|id| {
                assert!(take(id, identify, LIMIT).unwrap().is_none());
                SPINS.store(true, Ordering::Relaxed);
                for _ in 0..100 {
                    let sample = take(id, identify, LIMIT).unwrap().expect("it spins");
                    assert_eq!((sample.id, sample.stack.len()), (7, STACK_BYTES));
                    assert_ne!(sample.registers.program_counter, 0);
                    assert_eq!(sample.registers.stack_pointer % 8, 0);
                }
            });
        });
    }

    #[test]
    fn an_os_thread_that_does_not_answer_is_given_up_and_does_no_harm_later() {
        child::succeeds(|| {
            SPINS.store(true, Ordering::Relaxed);
            beside_a_spinner(|id| {
                // Taken back before the handler can have run, or not: either way the next one is answered.
                for _ in 0..100 {
                    let _ = take(id, identify, Duration::ZERO).unwrap();
                }
                assert!(take(id, identify, LIMIT).unwrap().is_some());
            });
            let gone = thread::spawn(os_thread_id).join().unwrap();
            while take(gone, identify, LIMIT).is_ok() {
                thread::yield_now(); // std's join may return a little before the kernel's thread is gone
            }
        });
    }

    #[test]
    fn a_signal_that_nobody_asked_for_goes_to_the_earlier_handler() {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn count(_: libc::c_int) {
            SEEN.fetch_add(1, Ordering::Relaxed);
        }
        child::succeeds(|| {
            // SAFETY: the handler does only what is async-signal-safe; raise takes no pointer.
            unsafe { libc::signal(libc::SIGURG, count as *const () as usize) };
            beside_a_spinner(|id| drop(take(id, identify, LIMIT).unwrap()));
            assert_eq!(SEEN.load(Ordering::Relaxed), 0);
            // SAFETY: as above.
            unsafe { libc::raise(libc::SIGURG) };
            assert_eq!(SEEN.load(Ordering::Relaxed), 1);
        });
    }
}
