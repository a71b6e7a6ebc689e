//! `/burn`: a handler that computes for long and never calls the runtime, as a template engine or a parser may.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use bast_server::{Error, Request, Response};

use super::pause;

/// What burning threads do to their neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burns {
    /// They may be switched at their allocations when their time slice is over.
    GiveWay,
    /// Nobody else runs on the core until the burn ends.
    KeepTheCore,
}

/// Answers when the milliseconds of the query are over, with how much was done.
pub(super) fn burn(request: &mut Request<'_>, burns: Burns) -> Result<Response, Error> {
    let time = pause::from_query(request.query()).map_err(Error::bad_request)?;
    let words = match burns {
        // The contract of `YieldingAlloc::new` is about the code in here: `compose` uses nothing but its own memory.
        Burns::GiveWay => bast::alloc::preemptible(|| compose(time)),
        Burns::KeepTheCore => compose(time),
    };
    Ok(Response::text(format!("{words} words\n")))
}

/// Composes and takes apart texts until the time is over. Returns how many words there were.
fn compose(time: Duration) -> u64 {
    let start = Instant::now();
    let mut words = 0;
    while start.elapsed() < time {
        let text: Vec<String> = (0..20).map(|n| format!("word{}", words + n)).collect();
        words += text.join(" ").split(' ').count() as u64;
    }
    words
}
