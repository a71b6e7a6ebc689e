//! What does it cost to hand a message to another thread that waits for it, on one capability and across two?
//!
//! `mvar` and `channel`: two threads answer each other. `ring`: 503 threads in a circle of MVars pass one token
//! (the thread-ring benchmark); they are spawned where the runtime likes. Two capabilities are read twice: as
//! they are by default, where an idle one sleeps in the kernel at once, and with the spin before it that the
//! runtime offers.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bast::sync::{MVar, Receiver, Sender, channel};
use bast::{Builder, CapabilityId, Runtime};

use super::{Cost, Plan, Reading, Stopwatch};

/// The spin before sleep, where there is one.
const SPIN: Duration = Duration::from_micros(50);
/// Threads in the ring: a prime, as in the original.
const RING: u64 = 503;

/// The names of the figures of one place: wall and CPU.
type Names = [&'static str; 2];

/// Where the threads are.
struct Place {
    runtime: Runtime,
    /// Messages in a round: a wake across sleeping cores takes 1000 times as long as one on the same.
    messages: u64,
}

impl Place {
    /// One capability; two; two that spin.
    fn each(plan: &Plan) -> io::Result<[Place; 3]> {
        let two = || Runtime::builder().capabilities(2).pin(true);
        Ok([
            Place { runtime: Runtime::builder().capabilities(1).build()?, messages: plan.count(2_000_000) },
            Place { runtime: two().build()?, messages: plan.count(40_000) },
            Place { runtime: two().spin(SPIN).build()?, messages: plan.count(400_000) },
        ])
    }
}

/// The capabilities of the two that talk.
fn ends_of(runtime: &Runtime) -> [CapabilityId; 2] {
    let handle = runtime.handle();
    [handle.capability(0), handle.capability(handle.capabilities() - 1)]
}

/// Reads `round` in every place in turn.
fn read(plan: &Plan, names: [Names; 3], round: impl Fn(&Place) -> Cost) -> io::Result<Vec<Reading>> {
    let places = Place::each(plan)?;
    let mut readings = Vec::new();
    for _ in 0..plan.rounds {
        for (place, [wall, cpu]) in places.iter().zip(names) {
            readings.extend(round(place).readings(wall, cpu));
        }
    }
    Ok(readings)
}

pub(super) fn read_mvar(plan: &Plan) -> io::Result<Vec<Reading>> {
    let names = [
        ["mvar.one.wall", "mvar.one.cpu"],
        ["mvar.two.wall", "mvar.two.cpu"],
        ["mvar.two_spin.wall", "mvar.two_spin.cpu"],
    ];
    read(plan, names, |place| mvar_messages(&place.runtime, place.messages))
}

/// What a message costs, of so many through two MVars.
pub(super) fn mvar_messages(runtime: &Runtime, messages: u64) -> Cost {
    let (there, back) = (Arc::new(MVar::empty()), Arc::new(MVar::empty()));
    let ping = MVarEnd { out: Arc::clone(&there), inbound: Arc::clone(&back) };
    ping_pong(runtime, messages, ping, MVarEnd { out: back, inbound: there })
}

pub(super) fn read_channel(plan: &Plan) -> io::Result<Vec<Reading>> {
    let names = [
        ["channel.one.wall", "channel.one.cpu"],
        ["channel.two.wall", "channel.two.cpu"],
        ["channel.two_spin.wall", "channel.two_spin.cpu"],
    ];
    read(plan, names, |place| {
        let ((there, at_pong), (back, at_ping)) = (channel(1), channel(1));
        ping_pong(&place.runtime, place.messages, ChannelEnd(there, at_ping), ChannelEnd(back, at_pong))
    })
}

/// One end of a conversation.
trait End: Send + 'static {
    fn send(&self, message: u64);
    fn receive(&self) -> u64;
}

struct MVarEnd {
    out: Arc<MVar<u64>>,
    inbound: Arc<MVar<u64>>,
}

impl End for MVarEnd {
    fn send(&self, message: u64) {
        self.out.put(message);
    }

    fn receive(&self) -> u64 {
        self.inbound.take()
    }
}

struct ChannelEnd(Sender<u64>, Receiver<u64>);

impl End for ChannelEnd {
    fn send(&self, message: u64) {
        self.0.send(message).expect("the other end lives");
    }

    fn receive(&self) -> u64 {
        self.1.recv().expect("the other end lives")
    }
}

fn ping_pong<E: End>(runtime: &Runtime, messages: u64, ping: E, pong: E) -> Cost {
    let exchanges = messages / 2;
    let [here, there] = ends_of(runtime);
    runtime.run(move || {
        let spawned = "the limit of threads is far";
        let pong = Builder::new().on(there).spawn(move || {
            for _ in 0..=exchanges {
                pong.send(pong.receive() + 1);
            }
        });
        let ping = Builder::new().on(here).spawn(move || {
            let exchange = |number| {
                ping.send(number);
                assert_eq!(ping.receive(), number + 1, "pass: the answer is to the question");
            };
            exchange(0); // Both run then.
            let watch = Stopwatch::start();
            (1..=exchanges).for_each(exchange);
            watch.stop(2 * exchanges)
        });
        let cost = ping.expect(spawned).join().expect("both ends answer");
        pong.expect(spawned).join().expect("both ends answer");
        cost
    })
}

pub(super) fn read_ring(plan: &Plan) -> io::Result<Vec<Reading>> {
    let names = [
        ["ring.one.wall", "ring.one.cpu"],
        ["ring.two.wall", "ring.two.cpu"],
        ["ring.two_spin.wall", "ring.two_spin.cpu"],
    ];
    read(plan, names, |place| {
        let hops = place.messages;
        place.runtime.run(move || ring(hops))
    })
}

fn ring(hops: u64) -> Cost {
    let seats: Vec<Arc<MVar<u64>>> = (0..RING).map(|_| Arc::new(MVar::empty())).collect();
    let arrived = Arc::new(MVar::empty());
    let threads: Vec<_> = (0..RING as usize)
        .map(|index| {
            let own = Arc::clone(&seats[index]);
            let next = Arc::clone(&seats[(index + 1) % seats.len()]);
            let arrived = Arc::clone(&arrived);
            bast::spawn(move || sit(index, &own, &next, &arrived))
        })
        .collect();
    let travel = |hops: u64| {
        seats[0].put(hops);
        assert_eq!(arrived.take(), hops % RING, "ring: the token ends where it must");
    };
    travel(RING); // All have started then.
    let watch = Stopwatch::start();
    travel(hops);
    let cost = watch.stop(hops);
    seats[0].put(LEAVE);
    let passed: u64 = threads.into_iter().map(|thread| thread.join().expect("the thread leaves")).sum();
    assert_eq!(passed, hops + RING, "ring: every hop is somebody's");
    cost
}

/// The token that ends the ring.
const LEAVE: u64 = u64::MAX;

/// Passes tokens on with one hop less, says so where one has none left, and returns how many it passed.
fn sit(index: usize, own: &MVar<u64>, next: &MVar<u64>, arrived: &MVar<u64>) -> u64 {
    let mut passed = 0;
    loop {
        match own.take() {
            LEAVE => {
                next.put(LEAVE);
                return passed;
            }
            0 => arrived.put(index as u64),
            hops => {
                next.put(hops - 1);
                passed += 1;
            }
        }
    }
}
