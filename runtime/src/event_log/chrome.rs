#![forbid(unsafe_code)]
//! Records in, a trace out: the "JSON Object Format" of Chrome's Trace Event Format, which Perfetto reads too.
//!
//! | events of ours | phase |
//! |---|---|
//! | a thread runs; a capability sleeps | `X`, a slice with its duration, on the capability's track |
//! | wakes, spawns, steals, io, kills, overrun slices, stacks given back, user events | `i`, an instant there |
//! | from a wake to the run it led to | `s` and `f`, a flow |
//! | spans of threads | `b` and `e`, nested by thread |
//!
//! Times are microseconds since the log was started. Slices of a track never overlap: a run begins when the one before
//! has ended, and what the ring has lost the beginning of is left out.

use super::ring::{Copied, Kind, Record};
use crate::thread::block::BlockedOn;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};
use std::io::{self, Write};

/// How ticks become time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) ns_per_tick: f64,
    /// Now, in ticks.
    pub(super) end: u64,
}

impl Clock {
    /// Microseconds of ticks, to the nanosecond.
    fn us(self, ticks: u64) -> f64 {
        (ticks as f64 * self.ns_per_tick).round() / 1000.0
    }
}

/// The process of the trace: one runtime.
const PROCESS: u32 = 1;

/// Writes the trace of capabilities, in their order.
pub(super) fn write(
    out: &mut impl Write,
    tracks: &[Copied],
    names: &HashMap<u64, String>,
    clock: Clock,
) -> io::Result<()> {
    let mut writer = Writer { out, names, clock, is_first: true };
    writer.out.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
    writer.event("M", "process_name", &[("args", &Object(&[("name", &"bast")]))])?;
    for (index, track) in tracks.iter().enumerate() {
        let name = format!("capability {index}");
        let args: [(&str, &dyn Json); 1] = [("name", &name.as_str())];
        writer.event("M", "thread_name", &[("tid", &index), ("args", &Object(&args))])?;
        writer.track(index, track)?;
    }
    writer.flows(tracks)?;
    writer.spans(tracks)?;
    let lost: u64 = tracks.iter().map(|track| track.lost).sum();
    writeln!(writer.out, "\n],\"otherData\":{{\"events lost\":{lost}}}}}")
}

struct Writer<'a, W> {
    out: &'a mut W,
    names: &'a HashMap<u64, String>,
    clock: Clock,
    is_first: bool,
}

impl<W: Write> Writer<'_, W> {
    /// One event, with further members.
    fn event(&mut self, phase: &str, name: &str, members: &[(&str, &dyn Json)]) -> io::Result<()> {
        let separator = if std::mem::take(&mut self.is_first) { "\n" } else { ",\n" };
        write!(self.out, "{separator}{{\"ph\":\"{phase}\",\"pid\":{PROCESS},\"name\":{}", Text(name))?;
        for (member, value) in members {
            write!(self.out, ",\"{member}\":{}", Shown(*value))?;
        }
        self.out.write_all(b"}")
    }

    fn name(&self, thread: u64) -> String {
        self.names
            .get(&thread)
            .map_or_else(|| format!("thread {thread}"), |name| format!("{name} ({thread})"))
    }

    /// The slices and instants of a capability.
    fn track(&mut self, index: usize, track: &Copied) -> io::Result<()> {
        let mut open: Option<Record> = None;
        for &record in &track.records {
            match record.kind {
                Kind::Run | Kind::Sleep => {
                    // The start of a thread that gets no stack has no end.
                    if let Some(begun) = open.replace(record) {
                        self.slice(index, begun, record.at, "unknown")?;
                    }
                }
                Kind::Yield | Kind::Park | Kind::End | Kind::Awake => {
                    if let Some(begun) = open.take() {
                        let ended = match record.kind {
                            Kind::Yield => "yielded".to_owned(),
                            Kind::End => "ended".to_owned(),
                            Kind::Awake => "awake".to_owned(),
                            _ => BlockedOn::unpack(record.detail)
                                .map_or_else(|| "parked".to_owned(), |on| format!("parked: {on}")),
                        };
                        self.slice(index, begun, record.at, &ended)?;
                    }
                }
                Kind::SpanBegin | Kind::SpanEnd => {}
                Kind::User => {
                    let text = track.text(record.detail).unwrap_or("(a text that is lost)");
                    self.instant(index, record, text, &[("thread", &self.name(record.thread).as_str())])?;
                }
                kind => self.mark(index, record, kind)?,
            }
        }
        match open {
            Some(begun) => self.slice(index, begun, self.clock.end, "still on"),
            None => Ok(()),
        }
    }

    fn slice(&mut self, index: usize, begun: Record, end: u64, ended: &str) -> io::Result<()> {
        let (from, to) = (self.clock.us(begun.at), self.clock.us(end.max(begun.at)));
        // Of the two rounded times, so that slices that touch do not overlap.
        let duration = (to * 1000.0 - from * 1000.0).round() / 1000.0;
        let (name, category) = match begun.kind {
            Kind::Run => (self.name(begun.thread), "run"),
            _ => ("asleep".to_owned(), "sleep"),
        };
        let args: [(&str, &dyn Json); 2] = [("thread", &begun.thread), ("ended", &ended)];
        let members: [(&str, &dyn Json); 5] = [
            ("cat", &category),
            ("tid", &index),
            ("ts", &from),
            ("dur", &duration),
            ("args", &Object(&args[if begun.kind == Kind::Run { 0 } else { 1 }..])),
        ];
        self.event("X", &name, &members)
    }

    fn mark(&mut self, index: usize, record: Record, kind: Kind) -> io::Result<()> {
        let name = self.name(record.thread);
        let thread: (&str, &dyn Json) = ("thread", &name.as_str());
        let count: (&str, &dyn Json) = ("count", &record.detail);
        match kind {
            Kind::Created => self.instant(index, record, "spawn", &[thread]),
            Kind::Woken => {
                let by = ["event", "deadline", "exception"].get(record.detail as usize).unwrap_or(&"event");
                self.instant(index, record, "wake", &[thread, ("by", by)])
            }
            Kind::Arrived => self.instant(index, record, "arrived", &[thread]),
            Kind::Stolen => self.instant(index, record, "steal", &[thread, ("from", &record.detail)]),
            Kind::Poll => self.instant(index, record, "io", &[count]),
            Kind::Interrupted => self.instant(index, record, "interrupt", &[thread]),
            Kind::Exception => self.instant(index, record, "unwind", &[thread]),
            Kind::Stall => self.instant(index, record, "slice overrun", &[]),
            Kind::GiveBack => self.instant(index, record, "stacks give memory back", &[count]),
            // Slices, spans and texts are not marks.
            _ => Ok(()),
        }
    }

    fn instant(
        &mut self,
        index: usize,
        record: Record,
        name: &str,
        args: &[(&str, &dyn Json)],
    ) -> io::Result<()> {
        let members: [(&str, &dyn Json); 4] =
            [("s", &"t"), ("tid", &index), ("ts", &self.clock.us(record.at)), ("args", &Object(args))];
        self.event("i", name, &members)
    }

    /// An arrow for each wake that was followed by a run of the thread. A wake by a scheduler, for io or a timer, is in
    /// no slice from which an arrow could start.
    fn flows(&mut self, tracks: &[Copied]) -> io::Result<()> {
        let mut ends: Vec<(u64, usize, Kind, u64)> = Vec::new();
        for (index, track) in tracks.iter().enumerate() {
            let mut is_running = false;
            for record in &track.records {
                match record.kind {
                    Kind::Run => {
                        is_running = true;
                        ends.push((record.at, index, Kind::Run, record.thread));
                    }
                    Kind::Yield | Kind::Park | Kind::End => is_running = false,
                    Kind::Woken if is_running => ends.push((record.at, index, Kind::Woken, record.thread)),
                    _ => {}
                }
            }
        }
        ends.sort_by_key(|&(at, ..)| at);
        let mut woken: HashMap<u64, (u64, usize)> = HashMap::new();
        let mut id = 0u64;
        for (at, index, kind, thread) in ends {
            if kind == Kind::Woken {
                woken.insert(thread, (at, index));
            } else if let Some((woken_at, waker)) = woken.remove(&thread) {
                id += 1;
                let common: (&str, &dyn Json) = ("cat", &"wake");
                let [from, to] = [self.clock.us(woken_at), self.clock.us(at)];
                self.event("s", "wake", &[common, ("id", &id), ("tid", &waker), ("ts", &from)])?;
                self.event("f", "wake", &[common, ("id", &id), ("tid", &index), ("ts", &to), ("bp", &"e")])?;
            }
        }
        Ok(())
    }

    /// The spans of each thread. A thread never leaves its capability, so each is within one track's records.
    fn spans(&mut self, tracks: &[Copied]) -> io::Result<()> {
        for (index, track) in tracks.iter().enumerate() {
            let mut open: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
            for record in &track.records {
                match record.kind {
                    Kind::SpanBegin => {
                        let text = track.text(record.detail).unwrap_or("(a text that is lost)");
                        open.entry(record.thread).or_default().push(text);
                        self.span_end("b", index, record.thread, text, record.at)?;
                    }
                    Kind::SpanEnd => {
                        // One that began before the log did, or whose beginning is lost, has no name.
                        if let Some(text) = open.get_mut(&record.thread).and_then(Vec::pop) {
                            self.span_end("e", index, record.thread, text, record.at)?;
                        }
                    }
                    _ => {}
                }
            }
            for (thread, texts) in open {
                for text in texts.into_iter().rev() {
                    self.span_end("e", index, thread, text, self.clock.end)?;
                }
            }
        }
        Ok(())
    }

    fn span_end(&mut self, phase: &str, index: usize, thread: u64, text: &str, at: u64) -> io::Result<()> {
        let ts = self.clock.us(at);
        let members: [(&str, &dyn Json); 4] =
            [("cat", &"span"), ("id", &thread), ("tid", &index), ("ts", &ts)];
        self.event(phase, text, &members)
    }
}

/// What can be written as a JSON value.
trait Json {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Json for u64 {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt(f)
    }
}

impl Json for usize {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt(f)
    }
}

/// A time, which is finite.
impl Json for f64 {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.3}")
    }
}

impl Json for &str {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text(self).fmt(f)
    }
}

/// Members by name; the names need no escapes.
struct Object<'a>(&'a [(&'a str, &'a dyn Json)]);

impl Json for Object<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (member, value)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}\"{member}\":{}", Shown(*value))?;
        }
        f.write_str("}")
    }
}

struct Shown<'a>(&'a dyn Json);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

/// A string in quotes, with the escapes that RFC 8259 §7 demands.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}
