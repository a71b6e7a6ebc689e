//! Giving memory back: many ranges in one system call where the kernel can (Linux ≥ 6.14), one by one elsewhere.

use crate::sys::memory::{self, Region};

/// Gives memory back in the best way this kernel has.
pub(super) struct Giver {
    /// Whether the kernel takes many regions in one call, until it has said otherwise.
    pub(super) batches: bool,
}

impl Giver {
    /// Gives the pages of all `regions` back.
    ///
    /// The one failure left is memory that was locked after it had been mapped (`mlockall(MCL_CURRENT)`): then whoever
    /// locked wants the pages to stay, and they do.
    ///
    /// # Safety
    /// Nothing lives in any of the regions, which belong to slabs of the caller's.
    pub(super) unsafe fn discard(&mut self, mut regions: &[Region]) {
        while self.batches && !regions.is_empty() {
            let batch = &regions[..regions.len().min(memory::REGIONS_MAX)];
            // SAFETY: forwarded.
            match unsafe { memory::discard_all(batch) } {
                // The kernel may stop within a batch. What it did in part is done again.
                Ok(done_bytes) if done_bytes >= batch[0].bytes() => regions = after(regions, done_bytes),
                Ok(_) | Err(_) => self.batches = false,
            }
        }
        for &region in regions {
            // SAFETY: forwarded.
            let _ = unsafe { memory::discard(region) };
        }
    }
}

/// The regions that do not lie wholly within the first `done_bytes` of all.
fn after(mut regions: &[Region], mut done_bytes: usize) -> &[Region] {
    while let Some((first, rest)) = regions.split_first()
        && done_bytes >= first.bytes()
    {
        done_bytes -= first.bytes();
        regions = rest;
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_resumes_after_the_last_region_that_was_done() {
        let regions: Vec<Region> = [0..10, 10..30, 30..60].map(Region::from).into();
        for (done_bytes, left) in [(10, 2), (11, 2), (29, 2), (30, 1), (59, 1), (60, 0)] {
            assert_eq!(after(&regions, done_bytes).len(), left, "{done_bytes} bytes done");
        }
    }
}
