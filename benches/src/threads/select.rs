//! What does a select cost: of one arm and of several, one of which is ready; and a message to one that waits?
#![forbid(unsafe_code)]

use std::io;

use bast::sync::{Receiver, channel, unbounded};
use bast::{Runtime, Select};

use super::{Plan, Reading, Stopwatch};

/// Receives from the first channel by a select over all of them.
fn receive(arms: &[Receiver<u64>]) -> u64 {
    let receive = |item: Result<u64, _>| item.expect("the other end lives");
    arms.iter().fold(Select::new(), |select, rx| select.recv(rx, receive)).wait()
}

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let runtime = Runtime::builder().capabilities(1).build()?;
    let count = plan.count(1_000_000);
    let mut readings = Vec::new();
    for _ in 0..plan.rounds {
        for (arms, ready, waits) in [
            (1, "select.1.ready", "select.1.waits"),
            (2, "select.2.ready", "select.2.waits"),
            (8, "select.8.ready", "select.8.waits"),
        ] {
            let cost = runtime.run(move || {
                let channels: Vec<_> = (0..arms).map(|_| unbounded()).collect();
                let (senders, receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
                let watch = Stopwatch::start();
                for n in 0..count {
                    senders[0].send(n).expect("the other end lives");
                    assert_eq!(receive(&receivers), n, "select: what was sent is received");
                }
                watch.stop(count)
            });
            readings.push(Reading { name: ready, value: cost.cpu_ns, unit: "ns" });
            let cost = runtime.run(move || {
                let channels: Vec<_> = (0..arms).map(|_| channel(0)).collect();
                let (senders, receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
                let watch = Stopwatch::start();
                let sender = bast::spawn(move || {
                    (0..count).for_each(|n| senders[0].send(n).expect("the other end lives"));
                    senders
                });
                for n in 0..count {
                    assert_eq!(receive(&receivers), n, "select: what was sent is received");
                }
                drop(sender.join().expect("all was sent"));
                watch.stop(count)
            });
            readings.push(Reading { name: waits, value: cost.cpu_ns, unit: "ns" });
        }
    }
    Ok(readings)
}
