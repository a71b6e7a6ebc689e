//! What does it cost to hand a message to another OS thread that waits for it? The measure of `channel` without a runtime.
//!
//! Two OS threads answer each other through std's channels: on one CPU, where each message is a switch by the kernel, and
//! on two, where it is a wake of a sleeping CPU.
#![forbid(unsafe_code)]

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;

use super::{Cost, Plan, Reading, Stopwatch};
use crate::sys;

/// Messages in a round.
const MESSAGES: u64 = 100_000;

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let cpus = sys::affinity()?;
    let (first, last) = (&cpus[..1], &cpus[cpus.len() - 1..]);
    let mut readings = Vec::new();
    for _ in 0..plan.rounds {
        readings.extend(pass(plan.count(MESSAGES), first, first)?.readings("os.one.wall", "os.one.cpu"));
        readings.extend(pass(plan.count(MESSAGES), first, last)?.readings("os.two.wall", "os.two.cpu"));
    }
    Ok(readings)
}

/// What a message costs, of so many between an OS thread on `here` and one on `there`.
fn pass(messages: u64, here: &[usize], there: &[usize]) -> io::Result<Cost> {
    let exchanges = messages / 2;
    let ((to_pong, at_pong), (to_ping, at_ping)) = (sync_channel(1), sync_channel(1));
    thread::scope(|scope| {
        let pong = scope.spawn(move || -> io::Result<()> {
            sys::set_affinity(there)?;
            for number in at_pong {
                to_ping.send(number + 1).map_err(io::Error::other)?;
            }
            Ok(())
        });
        let ping = scope.spawn(move || -> io::Result<Cost> {
            sys::set_affinity(here)?;
            let exchange = |number: u64| {
                to_pong.send(number).expect("the other end lives");
                assert_eq!(at_ping.recv(), Ok(number + 1), "os: the answer is to the question");
            };
            exchange(0); // Both run then.
            let watch = Stopwatch::start();
            (1..=exchanges).for_each(exchange);
            Ok(watch.stop(2 * exchanges))
        });
        let cost = ping.join().expect("both ends answer");
        pong.join().expect("both ends answer")?;
        cost
    })
}
