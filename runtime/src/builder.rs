#![forbid(unsafe_code)]
//! Spawning, in the manner of `std::thread`.

use crate::handle::JoinHandle;
use crate::mask::Restore;
use crate::runtime::CapabilityId;
use crate::scheduler::{self, Placement, Spawned, current};
use crate::stack::SizeClass;
use crate::thread::label::Label;
use std::io;

/// Spawns a green thread that runs `f`, on this capability or on one that is idle.
///
/// The thread goes on if the handle is dropped, and is killed when its runtime shuts down.
///
/// # Panics
/// On a plain OS thread (use [`Handle::spawn`](crate::Handle::spawn) there), and when the limit of threads is
/// reached; [`Builder::spawn`] returns that as an error.
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new().spawn(f).unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"))
}

/// Spawns a green thread that starts as its spawner is masked, with the means to lift that. GHC's `forkIOWithUnmask`.
///
/// Spawned inside [`mask`](crate::mask()) a thread cannot be interrupted before it has taken care of what it was given;
/// then it calls the rest by [`Restore::run`], unmasked.
///
/// ```
/// use bast::MaskingState;
/// bast::run(|| {
///     let states = bast::mask(|_| {
///         bast::spawn_with_unmask(|unmask| (bast::masking_state(), unmask.run(bast::masking_state)))
///     });
///     assert_eq!(states.join().unwrap(), (MaskingState::MaskedInterruptible, MaskingState::Unmasked));
/// });
/// ```
///
/// # Panics
/// As [`spawn`].
pub fn spawn_with_unmask<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce(&Restore) -> T + Send + 'static,
    T: Send + 'static,
{
    spawn(move || f(&Restore::to_unmasked()))
}

/// Spawns a green thread on this capability for good, so that `f` need not be `Send`: it is never taken by another.
///
/// ```
/// use std::rc::Rc;
/// bast::run(|| {
///     let shared = Rc::new(7);
///     let thread = bast::spawn_local({ let shared = Rc::clone(&shared); move || *shared });
///     assert_eq!(thread.join().unwrap(), *shared);
/// });
/// ```
///
/// # Panics
/// As [`spawn`].
pub fn spawn_local<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    Builder::new().spawn_local(f).unwrap_or_else(|error| panic!("failed to spawn a green thread: {error}"))
}

/// What a thread is spawned with.
#[derive(Debug, Default)]
#[must_use]
pub struct Builder {
    label: Label,
    stack_bytes: Option<usize>,
    preempt_at_allocation: Option<bool>,
    placement: Place,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Anywhere,
    Prefer(CapabilityId),
    On(CapabilityId),
}

impl Builder {
    /// A thread with no label, the runtime's stack size, run wherever there is time.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the thread.
    pub fn name(self, name: impl Into<String>) -> Builder {
        self.label(Label::from(name.into()))
    }

    /// Labels the thread; cheaper than a name where there is a [`Label`] for it.
    pub fn label(mut self, label: impl Into<Label>) -> Builder {
        self.label = label.into();
        self
    }

    /// How much of its stack the thread may use, in bytes: rounded up to the next of 64, 128, 192, 256 and 512 KiB, 1, 2,
    /// 4 and 8 MiB. It is address space; only what is touched costs memory. 0 and more than 8 MiB are an error of `spawn`.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_bytes = Some(bytes);
        self
    }

    /// Whether the thread may be switched at an allocation when its time slice is over; see [`alloc`](crate::alloc). If
    /// not said it is as with the spawner, and with threads that are spawned from outside as the
    /// [runtime](crate::RuntimeBuilder::preempt_at_allocation) has it.
    pub fn preempt_at_allocation(mut self, on: bool) -> Builder {
        self.preempt_at_allocation = Some(on);
        self
    }

    /// Runs the thread on the given capability and no other.
    pub fn on(mut self, capability: CapabilityId) -> Builder {
        self.placement = Place::On(capability);
        self
    }

    /// Runs the thread on the given capability, unless that one does not come to it for a time slice and another is
    /// idle.
    pub fn prefer(mut self, capability: CapabilityId) -> Builder {
        self.placement = Place::Prefer(capability);
        self
    }

    /// Spawns the thread.
    ///
    /// # Errors
    /// The limit of threads is reached, or the stack size is out of range. A stack that cannot be had when the
    /// thread starts is reported by [`JoinHandle::join`].
    ///
    /// # Panics
    /// On a plain OS thread; if a capability was given that is not of this runtime.
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        scheduler::spawn(None, self.request()?, f).map(JoinHandle::new)
    }

    /// Spawns the thread on this capability for good; see [`spawn_local`].
    ///
    /// # Errors
    /// As [`spawn`](Builder::spawn).
    ///
    /// # Panics
    /// On a plain OS thread; if another capability was asked for.
    pub fn spawn_local<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        scheduler::spawn_local(self.local_request()?, f).map(JoinHandle::new)
    }

    /// The same as [`request`](Builder::request) for a closure that stays here.
    pub(crate) fn local_request(self) -> io::Result<Spawned> {
        if let Place::On(capability) | Place::Prefer(capability) = self.placement {
            assert!(
                current::get().is_some_and(|here| here.remote().slot() == capability.slot()),
                "spawn_local: the closure cannot leave this capability"
            );
        }
        self.request()
    }

    pub(crate) fn request(self) -> io::Result<Spawned> {
        let stack_class = self
            .stack_bytes
            .map(SizeClass::for_bytes)
            .transpose()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let placement = match self.placement {
            Place::Anywhere => Placement::Anywhere,
            Place::Prefer(capability) => Placement::Prefer(capability.slot()),
            Place::On(capability) => Placement::On(capability.slot()),
        };
        let preempt_at_allocation = self.preempt_at_allocation;
        Ok(Spawned { label: self.label, stack_class, placement, preempt_at_allocation })
    }
}
