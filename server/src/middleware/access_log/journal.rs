//! Lines that wait to be written, and the OS thread that writes them.
//!
//! A line is copied under a lock that is held for the copy alone, on all sides; nobody waits for the sink but the journal's own
//! thread, which is an OS thread because sinks block. While there are no lines it sleeps without a limit: an idle server makes
//! no wake-ups.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines are written when so much has come together; also what the buffers hold from the beginning.
pub(super) const FULL_BYTES: usize = 64 << 10;

/// Lines wait no longer than this.
const FLUSH_PERIOD: Duration = Duration::from_secs(1);

/// Beyond this, lines are lost: a sink that stands still must not eat the memory.
pub(super) const HELD_BYTES_MAX: usize = 4 << 20;

/// At the end the sink gets no longer than this for what is left: a pipe that nobody reads must not keep a process alive
/// that is told to end. A disk that works takes all that may be left in much less.
const LAST_LINES_WAIT: Duration = Duration::from_secs(1);

const _: () = assert!(FULL_BYTES < HELD_BYTES_MAX);

pub(super) struct Journal {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
}

enum Writer {
    Waits(Box<dyn Write + Send>),
    Runs,
    /// Its thread could not be started.
    Failed,
}

struct Shared {
    lines: Mutex<Lines>,
    /// The first line has come, the buffer is full, or this is the end.
    changed: Condvar,
    /// The writer is done.
    ended: Condvar,
}

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// How many `bytes` are.
    count: u64,
    /// How many the sink is being given.
    taken: u64,
    lost: u64,
    /// No more will come.
    is_over: bool,
    /// Nothing more will be written.
    has_ended: bool,
}

/// No panic happens under these locks, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    pub(super) fn new(sink: Box<dyn Write + Send>) -> Journal {
        let lines = Lines { bytes: Vec::with_capacity(FULL_BYTES), ..Lines::default() };
        let shared =
            Arc::new(Shared { lines: Mutex::new(lines), changed: Condvar::new(), ended: Condvar::new() });
        Journal { shared, writer: Mutex::new(Writer::Waits(sink)) }
    }

    /// Starts the thread unless it runs.
    pub(super) fn start(&self) -> io::Result<()> {
        let mut writer = lock(&self.writer);
        if let Writer::Waits(_) = &*writer {
            let Writer::Waits(mut sink) = mem::replace(&mut *writer, Writer::Failed) else {
                unreachable!("journal: a sink that was there is gone")
            };
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("access log".into());
            thread.spawn(move || shared.write_to(&mut *sink))?;
            *writer = Writer::Runs;
        }
        Ok(())
    }

    /// Leaves a line to be written. Neither waits nor panics.
    pub(super) fn append(&self, line: &[u8]) {
        let is_first = bast::no_park(|| self.shared.append(line));
        if is_first {
            // Servers have started it before; handlers that are called otherwise have not.
            if let Err(error) = self.start() {
                log::error!("the access log's thread cannot be started: {error}");
            }
            self.shared.changed.notify_one();
        }
    }
}

/// Lets what is left be written, as far as the sink takes it within [`LAST_LINES_WAIT`]. Then its thread is left to itself: nothing
/// ends a write that stands still.
impl Drop for Journal {
    fn drop(&mut self) {
        let mut lines = lock(&self.shared.lines);
        lines.is_over = true;
        self.shared.changed.notify_one();
        if let Writer::Runs = *lock(&self.writer) {
            let runs = |lines: &mut Lines| !lines.has_ended;
            let waited = self.shared.ended.wait_timeout_while(lines, LAST_LINES_WAIT, runs);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let left = lines.count + lines.taken;
        drop(lines);
        if left > 0 {
            log::error!("the access log does not take its last lines: {left} are lost");
        }
    }
}

/// Tells that the writer is done, also where the sink panicked.
struct Ending<'s>(&'s Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        lock(&self.0.lines).has_ended = true;
        self.0.ended.notify_all();
    }
}

impl Shared {
    /// Returns whether the writer has to be told.
    fn append(&self, line: &[u8]) -> bool {
        let mut lines = lock(&self.lines);
        let before = lines.bytes.len();
        if before + line.len() > HELD_BYTES_MAX {
            lines.lost += 1;
            return false;
        }
        lines.bytes.extend_from_slice(line);
        lines.count += 1;
        before == 0 || (before < FULL_BYTES && lines.bytes.len() >= FULL_BYTES)
    }

    fn write_to(&self, sink: &mut dyn Write) {
        let _ending = Ending(self);
        let mut taken = Vec::with_capacity(FULL_BYTES);
        loop {
            let (lost, is_over) = self.take(&mut taken);
            if lost > 0 {
                log::error!("the access log is too slow: {lost} lines were lost");
            }
            if let Err(error) = sink.write_all(&taken).and_then(|()| sink.flush()) {
                log::error!("the access log cannot be written: {error}");
            }
            lock(&self.lines).taken = 0;
            taken.clear();
            // What one burst needed is not kept for ever.
            taken.shrink_to(FULL_BYTES);
            if is_over {
                return;
            }
        }
    }

    /// Waits for lines, and then for more of them; exchanges the buffers. Returns how many were lost, and whether no more
    /// will come.
    fn take(&self, taken: &mut Vec<u8>) -> (u64, bool) {
        let lines = lock(&self.lines);
        let is_empty = |lines: &mut Lines| lines.bytes.is_empty() && !lines.is_over;
        let lines = self.changed.wait_while(lines, is_empty).unwrap_or_else(PoisonError::into_inner);
        let is_short = |lines: &mut Lines| lines.bytes.len() < FULL_BYTES && !lines.is_over;
        let waited = self.changed.wait_timeout_while(lines, FLUSH_PERIOD, is_short);
        let (mut lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut lines.bytes, taken);
        lines.taken = mem::take(&mut lines.count);
        (mem::take(&mut lines.lost), lines.is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many times what it takes on a busy machine.
    const DEADLINE: Duration = Duration::from_secs(20);

    #[test]
    fn a_sink_that_panics_holds_up_no_end() {
        struct Panicking;
        impl Write for Panicking {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                panic!("a sink that fails")
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let journal = Journal::new(Box::new(Panicking));
        let shared = Arc::clone(&journal.shared);
        journal.append(b"a line\n");
        drop(journal);
        let runs = |lines: &mut Lines| !lines.has_ended;
        let waited = shared.ended.wait_timeout_while(lock(&shared.lines), DEADLINE, runs);
        let (lines, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out() && lines.has_ended, "its end is told");
    }
}
