//! The event log: what the trace of a known program says, read by a JSON parser that is not ours.
#![forbid(unsafe_code)]

use bast::sync::MVar;
use bast::{BlockedOn, Builder, EventLog, Handle, Runtime, event_log};
use bast_tests::{deadline, on_capabilities, spawn_on, until, until_blocked};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The events of a log's trace.
fn events(log: &EventLog) -> Vec<Value> {
    trace(log)["traceEvents"].as_array().expect("a list of events").clone()
}

fn trace(log: &EventLog) -> Value {
    let mut text = Vec::new();
    log.write_chrome(&mut text).unwrap();
    serde_json::from_slice(&text).expect("well-formed JSON")
}

fn text<'a>(event: &'a Value, member: &str) -> &'a str {
    event[member].as_str().unwrap_or_else(|| panic!("{member} of {event}"))
}

fn time(event: &Value) -> f64 {
    event["ts"].as_f64().unwrap_or_else(|| panic!("the time of {event}"))
}

fn named<'a>(events: &'a [Value], phase: &str, name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["ph"] == phase && text(event, "name").starts_with(name)).collect()
}

/// What any trace must keep to for a viewer to show it.
fn check(events: &[Value]) {
    let mut slices: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    let mut flows: HashMap<u64, Vec<&Value>> = HashMap::new();
    let mut spans: HashMap<u64, Vec<&Value>> = HashMap::new();
    for event in events {
        assert_eq!(event["pid"], 1);
        assert!(!text(event, "name").is_empty());
        let phase = text(event, "ph");
        if phase != "M" {
            assert!(time(event) >= 0.0 && event["tid"].is_u64(), "{event}");
        }
        match phase {
            "X" => {
                let duration = event["dur"].as_f64().unwrap();
                assert!(duration >= 0.0, "{event}");
                let track = slices.entry(event["tid"].as_u64().unwrap()).or_default();
                track.push((time(event), time(event) + duration));
            }
            "s" | "f" => flows.entry(event["id"].as_u64().unwrap()).or_default().push(event),
            "b" | "e" => spans.entry(event["id"].as_u64().unwrap()).or_default().push(event),
            "i" => assert_eq!(event["s"], "t", "{event}"),
            "M" => assert!(event["args"]["name"].is_string(), "{event}"),
            _ => panic!("{event}"),
        }
    }
    for track in slices.values_mut() {
        track.sort_by(|one, other| one.partial_cmp(other).unwrap());
        for pair in track.windows(2) {
            // A nanosecond for the rounding of sums.
            assert!(pair[0].1 <= pair[1].0 + 0.001, "slices overlap: {pair:?}");
        }
    }
    for flow in flows.values() {
        let [start, end] = flow[..] else { panic!("{flow:?}") };
        assert!(start["ph"] == "s" && end["ph"] == "f" && end["bp"] == "e");
        let within = |event: &Value| {
            let at = time(event);
            slices[&event["tid"].as_u64().unwrap()]
                .iter()
                .any(|&(from, to)| from <= at + 0.001 && at <= to + 0.001)
        };
        assert!(within(start) && within(end), "an arrow from or to nowhere: {flow:?}");
    }
    for span in spans.values() {
        let mut open = Vec::new();
        for event in span {
            if event["ph"] == "b" {
                open.push(*event);
            } else {
                let begun = open.pop().expect("a span ends that began");
                assert_eq!(begun["name"], event["name"]);
                assert!(time(begun) <= time(event));
            }
        }
        assert!(open.is_empty(), "a span does not end: {open:?}");
    }
}

#[test]
fn the_trace_of_a_known_program_tells_its_story() {
    on_capabilities(1, || {
        let log = Handle::current().start_event_log(1000).unwrap();
        let mvar = Arc::new(MVar::empty());
        let taker = Builder::new()
            .name("taker")
            .spawn({
                let mvar = Arc::clone(&mvar);
                move || {
                    let _outer = event_log::span("outer");
                    let inner = event_log::span("inner");
                    let value: u32 = mvar.take();
                    drop(inner);
                    event_log::event(format!("took \"{value}\"\n\\"));
                }
            })
            .unwrap();
        until_blocked(1, |what| what == BlockedOn::MVar);
        mvar.put(7);
        let id = taker.id();
        taker.join().unwrap();
        // Its end is recorded when it is off its stack.
        bast::yield_now();
        log.stop();
        event_log::event("too late");

        let events = events(&log);
        check(&events);
        let runs = named(&events, "X", "taker");
        assert_eq!(text(runs[0], "name"), format!("taker ({id})"));
        let ends: Vec<&str> = runs.iter().map(|run| text(&run["args"], "ended")).collect();
        assert_eq!(ends, ["parked: MVar", "ended"]);
        assert!(runs.iter().all(|run| run["args"]["thread"] == id.get()));
        // The main thread was running when the log began.
        assert!(named(&events, "X", "main").iter().any(|run| run["args"]["ended"] == "yielded"));
        assert_eq!(named(&events, "i", "spawn").len(), 1);
        let wakes = named(&events, "i", "wake");
        assert_eq!(text(&wakes[0]["args"], "by"), "event");
        // The wake lies between the taker's two runs, and the arrow leads from it to the second.
        assert!(time(runs[0]) < time(wakes[0]) && time(wakes[0]) < time(runs[1]));
        let (arrows, heads) = (named(&events, "s", "wake"), named(&events, "f", "wake"));
        assert_eq!((time(arrows[0]), time(heads[0])), (time(wakes[0]), time(runs[1])));
        let said = named(&events, "i", "took");
        assert_eq!(text(said[0], "name"), "took \"7\"\n\\");
        assert!(time(runs[1]) <= time(said[0]));
        for (name, others) in [("outer", 2), ("inner", 2)] {
            let ends = events.iter().filter(|event| event["name"] == name && event["cat"] == "span");
            assert_eq!(ends.count(), others);
        }
        assert!(named(&events, "i", "too late").is_empty());
    });
}

#[test]
fn each_capability_has_a_track_and_arrows_lead_across() {
    on_capabilities(2, || {
        let log = Handle::current().start_event_log(10_000).unwrap();
        let (there, back) = (Arc::new(MVar::empty()), Arc::new(MVar::empty()));
        let home = bast::capability().index();
        let echo = spawn_on(1 - home, {
            let (there, back) = (Arc::clone(&there), Arc::clone(&back));
            move || (0..20).for_each(|_| back.put(there.take()))
        });
        for round in 0..20 {
            until_blocked(1, |what| what == BlockedOn::MVar);
            there.put(round);
            assert_eq!(back.take(), round);
        }
        echo.join().unwrap();
        log.stop();
        let events = events(&log);
        check(&events);
        assert_eq!(named(&events, "M", "thread_name").len(), 2);
        let tracks = |phase| {
            let ends = named(&events, phase, "wake").into_iter().map(|event| (&event["id"], &event["tid"]));
            ends.map(|(id, tid)| (id.as_u64().unwrap(), tid.as_u64().unwrap())).collect::<HashMap<_, _>>()
        };
        let (from, to) = (tracks("s"), tracks("f"));
        assert!(from.iter().any(|(id, tid)| to[id] != *tid), "no arrow leads from one track to another");
        assert!(!named(&events, "i", "arrived").is_empty());
        assert!(!named(&events, "X", "asleep").is_empty());
    });
}

#[test]
fn timers_kills_and_overrun_slices_are_marked() {
    deadline(|| {
        let slice = Duration::from_millis(1);
        let runtime = Runtime::builder().capabilities(1).time_slice(slice).build().unwrap();
        runtime.run(|| {
            let log = Handle::current().start_event_log(1000).unwrap();
            bast::sleep(Duration::from_micros(1));
            let victim = bast::spawn(|| MVar::<()>::empty().take());
            until_blocked(1, |what| what == BlockedOn::MVar);
            victim.thread().kill();
            assert!(victim.join().unwrap_err().is_killed());
            let until = Handle::current().counters().total().stalls + 1;
            while Handle::current().counters().total().stalls < until {
                let watch = thread::spawn(|| thread::sleep(Duration::from_millis(3)));
                while !watch.is_finished() {
                    std::hint::spin_loop();
                }
                bast::yield_now();
            }
            let events = events(&log);
            check(&events);
            let by = |cause: &str| {
                named(&events, "i", "wake").iter().filter(|wake| wake["args"]["by"] == cause).count()
            };
            assert_eq!((by("deadline"), by("exception")), (1, 1));
            for mark in ["interrupt", "unwind", "slice overrun"] {
                assert!(!named(&events, "i", mark).is_empty(), "{mark}");
            }
        });
    });
}

#[test]
fn a_small_log_keeps_the_newest_events_and_counts_the_others() {
    on_capabilities(1, || {
        let log = Handle::current().start_event_log(1).unwrap();
        for number in 0..1000 {
            event_log::event(number.to_string());
            bast::yield_now();
        }
        let trace = trace(&log);
        let events = trace["traceEvents"].as_array().unwrap();
        check(events);
        assert!(log.lost() > 0);
        assert_eq!(trace["otherData"]["events lost"], log.lost());
        assert_eq!(named(events, "i", "999").len(), 1);
        assert!(named(events, "i", "100").is_empty());
    });
}

#[test]
fn a_trace_that_is_written_while_threads_run_is_whole() {
    on_capabilities(2, || {
        let log = Handle::current().start_event_log(256).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let busy = spawn_on(1 - bast::capability().index(), {
            let over = Arc::clone(&over);
            move || {
                while !over.load(Ordering::Relaxed) {
                    let _span = event_log::span("turn");
                    bast::yield_now();
                }
            }
        });
        let mut rounds = 0;
        // Until the ring was full for a while.
        while rounds < 20 {
            rounds += u32::from(log.lost() > 0);
            check(&events(&log));
            bast::yield_now();
        }
        over.store(true, Ordering::Relaxed);
        busy.join().unwrap();
    });
}

#[test]
fn one_log_is_on_at_a_time_and_each_begins_empty() {
    on_capabilities(1, || {
        let handle = Handle::current();
        assert!(!event_log::is_on());
        let first = handle.start_event_log(1000).unwrap();
        assert!(event_log::is_on());
        assert_eq!(handle.start_event_log(1000).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert!(event_log::is_on(), "the failed start closed the first");
        let _span = event_log::span("begun in the first");
        event_log::event("one");
        drop(first);
        assert!(!event_log::is_on());
        let second = handle.start_event_log(1000).unwrap();
        drop(_span);
        event_log::event("two");
        let events = events(&second);
        check(&events);
        assert_eq!((named(&events, "i", "one").len(), named(&events, "i", "two").len()), (0, 1));
    });
}

#[test]
fn a_log_outlives_its_runtime() {
    deadline(|| {
        let runtime = Runtime::builder().capabilities(1).build().unwrap();
        let log = runtime.handle().start_event_log(1000).unwrap();
        runtime.run(|| event_log::event("said"));
        drop(runtime);
        // The next runtime takes over the place of the capability, and not the log.
        let next = Runtime::builder().capabilities(1).build().unwrap();
        next.run(|| assert!(!event_log::is_on()));
        let events = events(&log);
        check(&events);
        assert_eq!(named(&events, "i", "said").len(), 1);
        // Outside a runtime there is nobody to record it.
        event_log::event("unheard");
        drop(event_log::span("unheard"));
    });
}

/// Whoever looks (log on, log off, export, counters, list) at random moments of a busy runtime loses it no threads.
#[test]
fn looking_at_random_moments_under_load_loses_no_threads() {
    on_capabilities(2, || {
        const ROUNDS: u64 = 100;
        let over = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..8)
            .map(|index| {
                let over = Arc::clone(&over);
                spawn_on(index, move || {
                    let mut joined = 0;
                    while !over.load(Ordering::Relaxed) {
                        let mvar = Arc::new(MVar::empty());
                        let threads = [0, 1].map(|number| {
                            let mvar = Arc::clone(&mvar);
                            bast::spawn(
                                move || if number == 0 { mvar.put(7) } else { assert_eq!(mvar.take(), 7) },
                            )
                        });
                        for thread in threads {
                            thread.join().unwrap();
                            joined += 1;
                        }
                        bast::yield_now();
                    }
                    joined
                })
            })
            .collect();
        for round in 0..ROUNDS {
            let log = Handle::current().start_event_log(256).unwrap();
            for _ in 0..round % 5 {
                bast::yield_now();
            }
            if round % 3 == 0 {
                check(&events(&log));
            }
            log.stop();
            drop((bast::threads(), Handle::current().counters()));
        }
        over.store(true, Ordering::Relaxed);
        let joined: u64 = busy.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(joined > 0);
        until(|| bast::threads().len() == 1); // only the main thread is left
    });
}
