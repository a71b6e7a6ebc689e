//! What does the event log cost while it is on: a yield between two threads, and a message through an MVar?
//!
//! On one capability, rounds with and without in turn. A yield is one time stamp and two entries, a message two stamps
//! and three entries; nothing else happens in these rounds, so it is the most that a log can cost.
#![forbid(unsafe_code)]

use std::io;

use bast::Runtime;

use super::{Plan, Reading, pass, switch};

/// Events that a ring keeps: more than a look at the last seconds of a trace needs.
const EVENTS: usize = 1 << 16;
/// Yields and messages in a round.
const COUNT: u64 = 2_000_000;

pub(super) fn read(plan: &Plan) -> io::Result<Vec<Reading>> {
    let mut readings = Vec::new();
    let runtime = Runtime::builder().capabilities(1).build()?;
    let count = plan.count(COUNT);
    for _ in 0..plan.rounds {
        for (is_on, [yield_wall, yield_cpu, mvar_wall, mvar_cpu]) in [
            (false, ["yield.off.wall", "yield.off.cpu", "mvar.off.wall", "mvar.off.cpu"]),
            (true, ["yield.on.wall", "yield.on.cpu", "mvar.on.wall", "mvar.on.cpu"]),
        ] {
            let _log = is_on.then(|| runtime.handle().start_event_log(EVENTS)).transpose()?;
            for cost in runtime.run(move || switch::rounds_of_laps(2, count / 2, 1)) {
                readings.extend(cost.readings(yield_wall, yield_cpu));
            }
            readings.extend(pass::mvar_messages(&runtime, count).readings(mvar_wall, mvar_cpu));
        }
    }
    Ok(readings)
}
