//! An async executor beside Bast's runtime, for client libraries that need one.
//!
//! Executor-neutral futures (channels, most of the `futures` crate) need none of this: `bast::block_on` drives them. But
//! tokio's sockets and timers work only below tokio's own runtime. So that runs on an OS thread of its own, the client's
//! futures are spawned there, and the green thread waits for what they return. Two rules:
//!
//! - Do not hold tokio's `EnterGuard` in a green thread: it is state of the OS thread, which its neighbours share.
//!   `Handle::spawn` needs none.
//! - Do not run tokio's `block_on` in a green thread: it blocks the core.

use std::future::Future;
use std::io;
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinError};

/// A tokio runtime on one OS thread. It ends, and its tasks with it, when this is dropped.
#[derive(Debug)]
pub struct SideRuntime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    os_thread: Option<thread::JoinHandle<()>>,
}

/// Ends a task that nobody waits for any more.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SideRuntime {
    /// Starts the runtime.
    ///
    /// # Errors
    /// The operating system refuses a thread or descriptors.
    pub fn start() -> io::Result<SideRuntime> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let os_thread = thread::Builder::new().name("side-runtime".to_owned()).spawn(move || {
            // Tasks run while this waits. An error is a sender that is gone, which is an end as well.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(SideRuntime { handle, stop: Some(stop), os_thread: Some(os_thread) })
    }

    /// Runs a future on the side and waits for it: parks the calling green thread only. If that is killed meanwhile, the
    /// future is dropped.
    ///
    /// # Errors
    /// The future panicked, or the runtime has ended.
    pub fn run<F>(&self, future: F) -> Result<F::Output, JoinError>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let task = self.handle.spawn(future);
        let _abort = AbortOnDrop(task.abort_handle());
        bast::block_on(task)
    }
}

impl Drop for SideRuntime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(os_thread) = self.os_thread.take() {
            // It ends as soon as the poll that it is in is over. A panic of it was reported by the panic hook.
            let _ = os_thread.join();
        }
    }
}
