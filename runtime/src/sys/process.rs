#![forbid(unsafe_code)]
//! What the kernel knows of this process.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// How many OS threads the process has: each is a directory below this one (proc(5)). `None` where there is no procfs.
pub(crate) fn os_threads() -> Option<usize> {
    let links = fs::metadata("/proc/self/task").ok()?.nlink();
    // "." and the parent's entry are links, too.
    usize::try_from(links.checked_sub(2)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn os_threads_are_counted() {
        let both = Barrier::new(9);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| both.wait());
            }
            // Those eight wait for this one, which is the ninth; other tests may have more.
            assert!(os_threads().unwrap() >= 9);
            both.wait();
        });
    }
}
