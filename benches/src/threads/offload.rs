//! What does it cost to have an OS thread of the pool do something, and to read a file that is cached?
//!
//! `offload.single`: one thread off-loads jobs that do nothing, one after the other, so that each wakes an OS thread
//! and then a capability; `offload.floor` is the same between two OS threads of std's, by its channels. `offload.many`:
//! 64 threads of one capability do so at once. `offload.read`: 4 KiB of a file from the page cache, which takes no OS
//! thread, and `offload.read_floor` with std.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use bast::Runtime;

use super::{Cost, Plan, Reading, Stopwatch};

/// Threads that off-load at once.
const MANY: u64 = 64;
/// What is read at a time.
const READ_BYTES: usize = 4096;

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let runtime = Runtime::builder().capabilities(1).build()?;
    let jobs = plan.count(100_000);
    let reads = plan.count(1_000_000);
    let path = Removed(std::env::temp_dir().join(format!("bast-bench-offload-{}", std::process::id())));
    fs::write(&path.0, [7; READ_BYTES])?;
    let mut readings = Vec::new();
    for _ in 0..plan.rounds {
        let single = runtime.run(move || single(jobs));
        let many = runtime.run(move || many(jobs));
        let floor = floor(jobs);
        let file = path.0.clone();
        let read = runtime.run(move || {
            let file = bast::fs::File::open(file)?;
            read_often(reads, |buf| file.read_at(buf, 0))
        })?;
        let file = fs::File::open(&path.0)?;
        let read_floor = read_often(reads, |buf| file.read_at(buf, 0))?;
        readings.extend(single.readings("offload.single.wall", "offload.single.cpu"));
        readings.extend(many.readings("offload.many.wall", "offload.many.cpu"));
        readings.extend(floor.readings("offload.floor.wall", "offload.floor.cpu"));
        readings.extend(read.readings("offload.read.wall", "offload.read.cpu"));
        readings.extend(read_floor.readings("offload.read_floor.wall", "offload.read_floor.cpu"));
    }
    Ok(readings)
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn single(jobs: u64) -> Cost {
    let off_load = |job: u64| bast::offload(move || job);
    off_load(0); // The thread is there then.
    let watch = Stopwatch::start();
    let sum: u64 = (0..jobs).map(off_load).sum();
    let cost = watch.stop(jobs);
    check(sum, jobs);
    cost
}

fn many(jobs: u64) -> Cost {
    let each = jobs / MANY;
    let watch = Stopwatch::start();
    let threads: Vec<_> = (0..MANY)
        .map(|index| {
            bast::spawn(move || (0..each).map(|job| bast::offload(move || index * each + job)).sum::<u64>())
        })
        .collect();
    let sum = threads.into_iter().map(|thread| thread.join().expect("the thread only off-loads")).sum();
    let cost = watch.stop(each * MANY);
    check(sum, each * MANY);
    cost
}

fn floor(jobs: u64) -> Cost {
    let (ask, questions) = mpsc::channel::<u64>();
    let (answer, answers) = mpsc::channel();
    let worker = thread::spawn(move || {
        for question in questions {
            answer.send(question).expect("the asker waits");
        }
    });
    let exchange = |job: u64| {
        ask.send(job).expect("the worker waits");
        answers.recv().expect("the worker answers")
    };
    exchange(0);
    let watch = Stopwatch::start();
    let sum = (0..jobs).map(exchange).sum();
    let cost = watch.stop(jobs);
    check(sum, jobs);
    drop(ask);
    worker.join().expect("the worker ends with its channel");
    cost
}

fn read_often(reads: u64, read: impl Fn(&mut [u8]) -> io::Result<usize>) -> io::Result<Cost> {
    let mut buf = [0; READ_BYTES];
    let watch = Stopwatch::start();
    for _ in 0..reads {
        assert_eq!(read(&mut buf)?, READ_BYTES, "offload: a read is whole");
    }
    let cost = watch.stop(reads);
    assert_eq!(buf, [7; READ_BYTES], "offload: a read is right");
    Ok(cost)
}

fn check(sum: u64, jobs: u64) {
    assert_eq!(sum, jobs * (jobs - 1) / 2, "offload: every job returns its number");
}
