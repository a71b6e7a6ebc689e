//! Locks, variables and channels: what std has, for green threads; and GHC's MVar.
//!
//! ```
//! use bast::sync::{MVar, Semaphore};
//! use std::sync::Arc;
//!
//! bast::run(|| {
//!     let (sum, two_at_a_time) = (Arc::new(MVar::new(0)), Arc::new(Semaphore::new(2)));
//!     let threads: Vec<_> = (1..=10)
//!         .map(|n| {
//!             let (sum, two_at_a_time) = (Arc::clone(&sum), Arc::clone(&two_at_a_time));
//!             bast::spawn(move || {
//!                 let _permit = two_at_a_time.acquire();
//!                 sum.modify(|sum| *sum += n);
//!             })
//!         })
//!         .collect();
//!     threads.into_iter().for_each(|thread| thread.join().unwrap());
//!     assert_eq!(sum.take(), 55);
//! });
//! ```
//!
//! Each works between green threads of one capability, of several, and with plain OS threads at either end: only the
//! thread that waits is parked.
//!
//! | | fairness | when a waiting thread is killed |
//! |---|---|---|
//! | [`MVar`] | strictly first come, first served; readers before takers | what it offered was not put |
//! | [`Mutex`] | newcomers may barge in; after 1 ms first come, first served | it did not get the lock |
//! | [`Condvar`] | notifications first come, first served | it unwinds without the mutex; the next is notified |
//! | [`RwLock`] | a waiting writer stops new readers, readers that gathered come before the next writer | it did not get the lock, and holds up nobody |
//! | [`Semaphore`] | strictly first come, first served | it got no permit, and holds up nobody |
//! | [`Barrier`] | – | it has not come |
//! | [`Once`], [`OnceLock`], [`LazyLock`] | – | the next of those who wait initialises |
//! | [`channel`], [`unbounded`] | first come, first served at each end | no item is lost with a receiver |
//! | [`oneshot`], [`broadcast`] | each receiver has its own items | no item is lost with a receiver |
//!
//! Every operation that may have to wait is an interruptible point, before it has any effect: a thread that was killed
//! unwinds there, whether it would have had to wait or not. One that has had its effect returns normally. What runs in
//! destructors (unlocking, dropping an end of a channel) never is.
//!
//! A cycle of mutexes is reported when a lock closes it, and that nothing in the process can happen any more
//! ([`bast::deadlock`](crate::deadlock)). Other threads that wait for what can never come are not found: they wait until
//! they are killed, and are in [`bast::threads`](crate::threads) with what they are blocked on.

mod arm;
mod barrier;
pub mod broadcast;
mod channel;
mod condvar;
mod mutex;
mod mvar;
mod once;
pub mod oneshot;
mod raw_mutex;
mod rwlock;
mod semaphore;
mod wait_cell;

pub(crate) use arm::Arm;
pub use barrier::{Barrier, BarrierWaitResult};
pub use channel::{
    IntoIter, Iter, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryIter,
    TryRecvError, TrySendError, channel, unbounded,
};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{Mutex, MutexGuard};
pub use mvar::MVar;
pub use once::{LazyLock, Once, OnceLock};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
