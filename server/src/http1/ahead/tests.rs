//! Rows of pipelined requests over the twin, on a runtime with one capability: which handlers run beside each other is seen by
//! what they do with each other, never by clocks.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bast::sync::{Barrier, Semaphore};

use super::*;
use crate::handler::Handler;
use crate::hooks::{Cause, Hooks};
use crate::http1::serve::serve;
use crate::http1::serve::tests::{codes, service};
use crate::http1::stream::BodyWriter;
use crate::meter::Meter;
use crate::request::Request;
use crate::response::{Body, Response};
use crate::router::Router;
use crate::timeout::{Activity, Patience, Phase};
use crate::transport::twin::{Event, Twin};

/// No test takes as long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Requests for these paths, with the method before a path that is none of GET.
fn requests(lines: &[&str]) -> Vec<u8> {
    let request = |line: &&str| {
        let (method, path) = line.split_once(' ').unwrap_or(("GET", line));
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    };
    lines.iter().map(request).collect::<String>().into_bytes()
}

fn parallel(handler: impl Handler, parallel: usize) -> Service {
    Service { parallel, ..service(handler) }
}

/// Serves as a connection's thread does.
fn converse(twin: &Rc<Twin>, service: &Service) {
    let wire = Wire::new(Activity::new(twin.into(), None));
    bast::with_park_hook(&|| wire.flush_before_park(), || serve(&wire, service, None));
}

/// What happened to a client that sends all of this at once, four requests at a time.
fn events_of(handler: impl Handler, sent: &[u8]) -> Vec<Event> {
    let sent = sent.to_vec();
    let service = parallel(handler, 4);
    bast::run(move || {
        bast::timeout(DEADLINE, || {
            let twin = Twin::new(&[&sent]);
            converse(&twin, &service);
            twin.events()
        })
        .expect("in time")
    })
}

/// The outputs of these events, one for each send.
fn sends(events: &[Event]) -> Vec<String> {
    let sent = |event: &Event| match event {
        Event::Sent(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    events.iter().filter_map(sent).collect()
}

fn output_of(handler: impl Handler, sent: &[u8]) -> String {
    sends(&events_of(handler, sent)).concat()
}

/// The bodies of these answers, in their order: all of them begin with a slash and end where the next head begins.
fn bodies(output: &str) -> Vec<&str> {
    output.split("\r\n\r\n").skip(1).map(|rest| rest.split("HTTP/1.1").next().unwrap_or(rest)).collect()
}

/// Lets the others of this capability do what they can.
fn let_others_run() {
    (0..100).for_each(|_| bast::yield_now());
}

#[test]
fn handlers_that_wait_for_each_other_come_to_their_end_and_the_answers_are_in_order() {
    let all = Arc::new(Barrier::new(4));
    let handler = move |request: &mut Request<'_>| {
        all.wait();
        request.path().to_owned()
    };
    let events = events_of(handler, &requests(&["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7"]));
    let output = sends(&events).concat();
    assert_eq!(bodies(&output), ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7"]);
}

#[test]
fn the_answer_to_the_first_comes_first_though_it_is_ready_last() {
    let ready = Arc::new(Semaphore::new(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let handler = move |request: &mut Request<'_>| {
        if request.path() == "/0" {
            ready.acquire_many(3).forget();
        } else {
            ready.add_permits(1);
        }
        seen.lock().expect("not poisoned").push(request.path().to_owned());
        request.path().to_owned()
    };
    let events = events_of(handler, &requests(&["/0", "/1", "/2", "/3"]));
    assert_eq!(order.lock().expect("not poisoned").last().map(String::as_str), Some("/0"));
    let sends = sends(&events);
    assert_eq!(sends.len(), 1, "what was ready goes out with the first: {sends:?}");
    assert_eq!(bodies(&sends[0]), ["/0", "/1", "/2", "/3"]);
}

#[test]
fn no_more_run_at_a_time_than_were_allowed() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let handler = move |request: &mut Request<'_>| {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let_others_run();
        running.fetch_sub(1, Ordering::SeqCst);
        request.path().to_owned()
    };
    let paths: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let output = output_of(handler, &requests(&paths));
    assert_eq!(bodies(&output), paths);
    assert_eq!(seen.load(Ordering::SeqCst), 4);
}

/// What is written before its turn is bounded, and whoever is beyond that waits without a byte lost.
#[test]
fn a_stream_beyond_what_is_held_for_it_waits_for_its_turn() {
    const PIECES: usize = 100;
    const PIECE: usize = 1000;
    let written = Arc::new(AtomicUsize::new(0));
    let handler = move |request: &mut Request<'_>| {
        if request.path() == "/first" {
            let_others_run();
            let held = written.load(Ordering::SeqCst) * PIECE;
            assert!(held > 0, "it runs");
            assert!(held <= HELD_BYTES_MAX + PIECE, "and waits: {held} bytes");
            return Response::text("/first");
        }
        let written = Arc::clone(&written);
        Response::stream("text/plain", move |body| {
            (0..PIECES).try_for_each(|_| {
                body.write_all(&[b'z'; PIECE])?;
                written.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
        })
    };
    let output = output_of(handler, &requests(&["/first", "/long", "/first"]));
    assert_eq!(codes(&output), [200, 200, 200], "{output:.200}");
    assert_eq!(output.matches('z').count(), PIECES * PIECE);
    assert!(output.find("/first") < output.find('z') && output.ends_with("/first"));
}

#[test]
fn a_flush_waits_for_its_turn_and_is_a_send_then() {
    let flushed = Arc::new(AtomicUsize::new(0));
    let handler = move |request: &mut Request<'_>| {
        if request.path() == "/first" {
            let_others_run();
            assert_eq!(flushed.load(Ordering::SeqCst), 0, "its turn has not come");
            return Response::text("/first");
        }
        let flushed = Arc::clone(&flushed);
        Response::stream("text/plain", move |body| {
            body.write_all(b"one")?;
            body.flush()?;
            flushed.fetch_add(1, Ordering::SeqCst);
            body.write_all(b"two")?;
            let_others_run();
            body.write_all(b"three")
        })
    };
    let sends = sends(&events_of(handler, &requests(&["/first", "/stream"])));
    assert!(sends[0].contains("/first") && sends[0].ends_with("one\r\n"), "{sends:?}");
    assert!(sends[1].contains("two"), "{sends:?}");
    assert!(sends.concat().ends_with("three\r\n0\r\n\r\n"), "{sends:?}");
}

/// A stream that waits for something else while it has its turn sends first, as always.
#[test]
fn what_a_stream_has_written_is_on_its_way_while_it_waits_in_its_turn() {
    bast::run(|| {
        let go = Arc::new(Semaphore::new(0));
        let goes = Arc::clone(&go);
        let handler = move |_: &mut Request<'_>| {
            let go = Arc::clone(&goes);
            Response::stream("text/plain", move |body| {
                body.write_all(b"begun")?;
                go.acquire().forget();
                body.write_all(b"ended")
            })
        };
        let twin = Twin::new(&[&requests(&["/0", "/1"])]);
        let service = parallel(handler, 4);
        bast::timeout(DEADLINE, || {
            bast::scope(|scope| {
                let served = || converse(&twin, &service);
                let connection = scope.spawn_local_with(Builder::new(), served).expect("a thread");
                let_others_run();
                assert_eq!(twin.output().matches("begun").count(), 1, "the second has not its turn");
                go.add_permits(1);
                let_others_run();
                assert_eq!(twin.output().matches("begun").count(), 2);
                go.add_permits(1);
                connection.join().expect("not killed");
            });
        })
        .expect("in time");
        assert_eq!(twin.output().matches("ended").count(), 2);
    });
}

#[test]
fn a_panic_is_a_500_in_its_place_and_the_others_are_answered() {
    let all = Arc::new(Barrier::new(3));
    let handler = move |request: &mut Request<'_>| {
        all.wait();
        assert!(request.path() != "/1", "a panic that the test wants");
        request.path().to_owned()
    };
    let output = output_of(handler, &requests(&["/0", "/1", "/2"]));
    assert_eq!(codes(&output), [200, 500, 200]);
    assert!(output.find("/0") < output.find("500 Internal") && output.ends_with("/2"), "{output}");
}

#[test]
fn a_stream_that_fails_unseen_is_a_500_in_its_place_and_one_that_was_seen_ends_the_connection() {
    for (flushes, expected) in [(false, &[200, 500, 200][..]), (true, &[200, 200])] {
        let handler = move |request: &mut Request<'_>| {
            if request.path() != "/1" {
                return Response::text("fine");
            }
            Response::stream("text/plain", move |body| {
                body.write_all(b"begun")?;
                if flushes {
                    body.flush()?;
                }
                Err(io::Error::other("no more"))
            })
        };
        let output = output_of(handler, &requests(&["/0", "/1", "/2"]));
        assert_eq!(codes(&output), expected, "{output}");
        assert_eq!(output.contains("begun"), flushes, "{output}");
        assert!(!output.contains("0\r\n\r\n") || !flushes, "no last chunk: {output}");
    }
}

/// What changes something runs after all before it, and before all behind it.
#[test]
fn a_post_in_the_middle_runs_alone() {
    let running = Arc::new(AtomicUsize::new(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let handler = move |request: &mut Request<'_>| {
        let before = running.fetch_add(1, Ordering::SeqCst);
        assert!(before == 0 || request.path() != "/post", "{before} run beside it");
        let_others_run();
        running.fetch_sub(1, Ordering::SeqCst);
        seen.lock().expect("not poisoned").push(request.path().to_owned());
        request.path().to_owned()
    };
    let output = output_of(handler, &requests(&["/0", "/1", "POST /post", "/3", "DELETE /post", "/5"]));
    assert_eq!(bodies(&output), ["/0", "/1", "/post", "/3", "/post", "/5"]);
    assert_eq!(codes(&output), [200; 6]);
    assert_eq!(order.lock().expect("not poisoned").iter().position(|path| path == "/post"), Some(2));
}

/// Whatever is not a plain safe request is served as always, with all before it answered.
#[test]
fn what_cannot_be_handled_ahead_is_handled_in_its_turn() {
    for (odd, expected) in [
        (&b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"[..], &[200, 200, 200, 200][..]),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", &[200; 4]),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n", &[200; 4]),
        (b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &[200; 4]),
        (b"ODD /x HTTP/1.1\r\nHost: a\r\n\r\n", &[200; 4]),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[200, 200, 200]),
        (b"GET /x HTTP/1.1\r\n\r\n", &[200, 200, 400]),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", &[200, 200, 417]),
    ] {
        let sent = [&requests(&["/0", "/1"])[..], odd, &requests(&["/3"])].concat();
        let output = output_of(|request: &mut Request<'_>| request.path().to_owned(), &sent);
        assert_eq!(codes(&output), expected, "{}: {output}", odd.escape_ascii());
        // A head of which not all is there is waited for, and so is its answer only.
        for cut in [sent.len() - 3, sent.len() - requests(&["/3"]).len() - 1] {
            let sent = [sent[..cut].to_vec(), sent[cut..].to_vec()];
            let service = parallel(|request: &mut Request<'_>| request.path().to_owned(), 4);
            let again = bast::run(move || {
                let twin = Twin::new(&[&sent[0], &sent[1]]);
                converse(&twin, &service);
                twin.output()
            });
            assert_eq!(again, output, "cut at {cut}");
        }
    }
}

#[test]
fn head_and_404_keep_their_framing_between_others() {
    let app = Router::new().get("/found", |_: &mut Request<'_>| "the body");
    let output =
        output_of(app, &requests(&["/found", "HEAD /found", "/nowhere", "OPTIONS /found", "/found"]));
    assert_eq!(codes(&output), [200, 200, 404, 204, 200], "{output}");
    assert_eq!(output.matches("the body").count(), 2, "HEAD has none: {output}");
}

#[test]
fn a_response_that_closes_is_the_last_and_those_behind_it_are_killed() {
    struct Gone(Arc<AtomicUsize>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let gone = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&gone);
    let both = Arc::new(Barrier::new(2));
    let handler = move |request: &mut Request<'_>| {
        let _gone = Gone(Arc::clone(&count));
        if request.path() == "/close" {
            both.wait();
            return Response::text("the last").and_close();
        }
        if request.path() == "/waits" {
            both.wait();
            Semaphore::new(0).acquire().forget();
        }
        Response::text("more")
    };
    let events = events_of(handler, &requests(&["/close", "/waits"]));
    let output = sends(&events).concat();
    assert_eq!(codes(&output), [200]);
    assert!(output.contains("Connection: close\r\n") && output.ends_with("the last"), "{output}");
    assert!(events.contains(&Event::ShutDown), "the client is waited for: {events:?}");
    assert_eq!(gone.load(Ordering::SeqCst), 2, "nobody is left behind");
}

/// Writes to the body when it is dropped, and counts where that was refused.
struct LastWords<'b, 'w>(&'b mut BodyWriter<'w>, Arc<AtomicUsize>);

impl Drop for LastWords<'_, '_> {
    fn drop(&mut self) {
        let written = self.0.write_all(&[b'z'; 20_000]);
        let is_refused = written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        self.1.fetch_add(usize::from(is_refused), Ordering::SeqCst);
    }
}

/// The turn of those behind the end does not come: they are not waited for, even where a kill does not reach them.
#[test]
fn a_stream_that_cannot_be_killed_while_it_waits_for_its_turn_does_not_keep_the_connection() {
    for is_masked in [false, true] {
        let (waits, refused) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&refused);
        let handler = move |request: &mut Request<'_>| {
            let (waits, count) = (Arc::clone(&waits), Arc::clone(&count));
            if request.path() == "/close" {
                waits.acquire().forget();
                let_others_run();
                return Response::text("the last").and_close();
            }
            Response::stream("text/plain", move |body| {
                body.write_all(&[b'z'; HELD_BYTES_MAX / 2])?;
                waits.add_permits(1);
                let last_words = LastWords(body, count);
                if is_masked {
                    bast::uninterruptible(|| drop(last_words));
                } else {
                    Semaphore::new(0).acquire().forget();
                }
                Ok(())
            })
        };
        let output = output_of(handler, &requests(&["/close", "/stream"]));
        assert_eq!(codes(&output), [200], "{output}");
        assert!(output.ends_with("the last"), "{output}");
        assert_eq!(refused.load(Ordering::SeqCst), 1, "masked: {is_masked}");
    }
}

#[test]
fn a_connection_that_is_killed_takes_its_handlers_with_it() {
    bast::run(|| {
        let (running, ended) = (Arc::new(Barrier::new(4)), Arc::new(AtomicUsize::new(0)));
        let (all, count) = (Arc::clone(&running), Arc::clone(&ended));
        let handler = move |request: &mut Request<'_>| -> &'static str {
            let count = Arc::clone(&count);
            request.on_sent(move |sent| {
                assert!(!sent.is_whole() && sent.status().is_none());
                count.fetch_add(1, Ordering::SeqCst);
            });
            all.wait();
            Semaphore::new(0).acquire().forget();
            unreachable!("ahead: nobody gives a permit")
        };
        let service = parallel(handler, 4);
        let twin = Twin::new(&[&requests(&["/0", "/1", "/2"])]);
        bast::timeout(DEADLINE, || {
            bast::scope(|scope| {
                let served = || converse(&twin, &service);
                let connection = scope.spawn_local_with(Builder::new(), served).expect("a thread");
                running.wait();
                connection.thread().kill();
                assert!(connection.join().expect_err("killed").is_killed());
                assert_eq!(ended.load(Ordering::SeqCst), 3, "all of them ended before it did");
            });
        })
        .expect("in time");
        assert_eq!(twin.output(), "");
    });
}

#[test]
fn a_client_that_is_gone_ends_the_handlers_that_are_left() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let handler = move |request: &mut Request<'_>| {
        let count = Arc::clone(&count);
        request.on_sent(move |_| _ = count.fetch_add(1, Ordering::SeqCst));
        if request.path() != "/0" {
            Semaphore::new(0).acquire().forget();
        }
        "an answer that cannot be sent"
    };
    let service = parallel(handler, 4);
    bast::run(move || {
        bast::timeout(DEADLINE, || {
            let twin = Twin::new(&[&requests(&["/0", "/1", "/2"])]);
            twin.narrow(0);
            converse(&twin, &service);
            assert!(!twin.said_farewell());
        })
        .expect("in time");
    });
    assert_eq!(ended.load(Ordering::SeqCst), 3);
}

/// What a handler makes of a write that was interrupted is its business; what comes behind it in the stream is not.
#[test]
fn nothing_is_sent_behind_an_answer_that_was_torn() {
    bast::run(|| {
        let twin = Twin::new(&[&requests(&["/0", "/1"])]);
        let stalled = twin.stall(1000);
        let handler = move |request: &mut Request<'_>| {
            if request.path() != "/0" {
                return Response::text("too late");
            }
            let stalled = Arc::clone(&stalled);
            Response::stream("text/plain", move |body| {
                let all = bast::timeout(Duration::from_millis(1), || body.write_all(&[b'z'; 1 << 20]));
                assert!(all.is_err(), "it waits for the client");
                stalled.store(false, Ordering::SeqCst);
                Ok(())
            })
        };
        bast::timeout(DEADLINE, || converse(&twin, &parallel(handler, 4))).expect("in time");
        let output = twin.output();
        assert_eq!(output.len(), 1000, "what the client took is all: {output:.200}");
        assert_eq!(codes(&output), [200], "{output:.200}");
        assert!(!twin.said_farewell());
    });
}

#[test]
fn a_drain_lets_the_row_be_answered_and_the_last_says_close() {
    bast::run(|| {
        let both = Arc::new(Barrier::new(3));
        let meet = Arc::clone(&both);
        let handler = move |request: &mut Request<'_>| {
            meet.wait();
            meet.wait();
            request.path().to_owned()
        };
        let service = parallel(handler, 4);
        let twin = Twin::new(&[&requests(&["/0", "/1"])]);
        bast::timeout(DEADLINE, || {
            bast::scope(|scope| {
                let served = || converse(&twin, &service);
                let connection = scope.spawn_local_with(Builder::new(), served).expect("a thread");
                both.wait();
                service.drain(Patience::Over);
                both.wait();
                connection.join().expect("not killed");
            });
        })
        .expect("in time");
        let output = twin.output();
        assert_eq!(bodies(&output), ["/0", "/1"]);
        assert_eq!(output.matches("Connection: close").count(), 1, "{output}");
        assert!(output.find("/0") < output.find("Connection: close"), "the last one says so: {output}");
    });
}

#[test]
fn a_request_that_came_while_the_row_was_at_work_is_answered_in_a_drain_too() {
    bast::run(|| {
        let both = Arc::new(Barrier::new(3));
        let meet = Arc::clone(&both);
        let handler = move |request: &mut Request<'_>| {
            if request.path() != "/2" {
                meet.wait();
                meet.wait();
            }
            request.path().to_owned()
        };
        let service = parallel(handler, 4);
        let twin = Twin::new(&[&requests(&["/0", "/1"])]);
        bast::timeout(DEADLINE, || {
            bast::scope(|scope| {
                let served = || converse(&twin, &service);
                let connection = scope.spawn_local_with(Builder::new(), served).expect("a thread");
                both.wait();
                twin.push(&requests(&["/2"]));
                service.drain(Patience::Over);
                both.wait();
                connection.join().expect("not killed");
            });
        })
        .expect("in time");
        let output = twin.output();
        assert_eq!(bodies(&output), ["/0", "/1", "/2"]);
        assert_eq!(output.matches("Connection: close").count(), 1, "{output}");
        assert!(output.find("/1") < output.find("Connection: close"), "the last one says so: {output}");
    });
}

#[test]
fn a_handler_that_takes_too_long_is_a_503_in_its_place() {
    let handler = |request: &mut Request<'_>| {
        if request.path() == "/1" {
            Semaphore::new(0).acquire().forget();
        }
        request.path().to_owned()
    };
    let service = Service { handler_limit: Some(Duration::from_millis(10)), ..parallel(handler, 4) };
    let output = bast::run(move || {
        let twin = Twin::new(&[&requests(&["/0", "/1", "/2"])]);
        bast::timeout(DEADLINE, || converse(&twin, &service)).expect("in time");
        twin.output()
    });
    assert_eq!(codes(&output), [200, 503, 200]);
}

#[test]
fn the_last_request_that_a_connection_may_bring_says_close() {
    let mut service = parallel(|request: &mut Request<'_>| request.path().to_owned(), 4);
    service.limits.requests_per_connection_max = 3;
    let output = bast::run(move || {
        let twin = Twin::new(&[&requests(&["/0", "/1", "/2", "/3"])]);
        converse(&twin, &service);
        twin.output()
    });
    assert_eq!(bodies(&output), ["/0", "/1", "/2"]);
    assert_eq!(output.matches("Connection: close").count(), 1);
    assert!(output.find("/1") < output.find("Connection: close"));
}

/// Path, status, bytes and whether it was whole.
type Told = (String, Option<u16>, u64, bool);

thread_local! {
    static TOLD: RefCell<Vec<Told>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn each_response_is_told_once_in_the_order_of_the_requests() {
    let told = bast::run(|| {
        let last_first = Arc::new(Semaphore::new(0));
        let handler = move |request: &mut Request<'_>| {
            let path = request.path().to_owned();
            request.on_sent(move |sent| {
                let told = (path, sent.status().map(crate::Status::code), sent.body_bytes(), sent.is_whole());
                TOLD.with_borrow_mut(|all| all.push(told));
            });
            match request.path() {
                "/0" => last_first.acquire_many(2).forget(),
                _ => last_first.add_permits(1),
            }
            match request.path() {
                "/2" => Response::stream("text/plain", |body| {
                    body.write_all(&vec![b'x'; HELD_BYTES_MAX])?;
                    Err(io::Error::other("no more"))
                }),
                _ => Response::text("12345"),
            }
        };
        let twin = Twin::new(&[&requests(&["/0", "/1", "/2"])]);
        bast::timeout(DEADLINE, || converse(&twin, &parallel(handler, 4))).expect("in time");
        TOLD.take()
    });
    let framed = (HELD_BYTES_MAX + "4000\r\n\r\n".len()) as u64;
    let expected = [("/0", 200, 5, true), ("/1", 200, 5, true), ("/2", 200, framed, false)];
    let expected = expected.map(|(path, code, bytes, whole)| (path.to_owned(), Some(code), bytes, whole));
    assert_eq!(told, expected);
}

/// The last of a row, and one that closes, are sent before anybody is told.
#[test]
fn a_response_that_could_not_be_sent_is_told_as_not_whole() {
    for closes in [false, true] {
        let told = bast::run(move || {
            let handler = move |request: &mut Request<'_>| {
                let path = request.path().to_owned();
                request.on_sent(move |sent| {
                    let told =
                        (path, sent.status().map(crate::Status::code), sent.body_bytes(), sent.is_whole());
                    TOLD.with_borrow_mut(|all| all.push(told));
                });
                let response = Response::text("12345");
                if closes { response.and_close() } else { response }
            };
            let twin = Twin::new(&[&requests(&["/0", "/1"])]);
            twin.narrow(0);
            bast::timeout(DEADLINE, || converse(&twin, &parallel(handler, 4))).expect("in time");
            TOLD.take()
        });
        let last = if closes { "/0" } else { "/1" };
        let last = told.iter().find(|(path, ..)| path == last).expect("it is told");
        assert_eq!((last.1, last.3), (Some(200), false), "closes: {closes}");
    }
}

#[test]
fn only_requests_whose_turn_has_come_are_counted() {
    let (counted, count) = mpsc::channel();
    let hooks = Hooks::default().on_close(move |closed| counted.send(closed.requests).expect("a test"));
    let handler = |request: &mut Request<'_>| {
        let response = Response::text(request.path().to_owned());
        if request.path() == "/1" { response.and_close() } else { response }
    };
    bast::run(move || {
        let twin = Twin::new(&[&requests(&["/0", "/1", "/2", "/3"])]);
        let activity = Activity::new((&twin).into(), None);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let meter = Meter::new(peer, Instant::now(), hooks, None);
        assert!(meter.opens(peer));
        activity.set_meter(Box::new(meter));
        bast::timeout(DEADLINE, || serve(&Wire::new(Rc::clone(&activity)), &parallel(handler, 4), None))
            .expect("in time");
        activity.meter().expect("it was set").closes(Phase::Idle, Cause::Finished);
        assert_eq!(bodies(&twin.output()), ["/0", "/1"]);
    });
    assert_eq!(count.recv().expect("it closed"), 2, "those behind the close were handled for nothing");
}

/// So a client whose connection is killed gets a 503, which must not come into the middle of an answer.
#[test]
fn a_request_is_owed_an_answer_until_some_of_that_was_sent() {
    for flushes in [false, true] {
        bast::run(move || {
            let begun = Arc::new(Semaphore::new(0));
            let begins = Arc::clone(&begun);
            let handler = move |request: &mut Request<'_>| {
                let begins = Arc::clone(&begins);
                if request.path() == "/2" {
                    return Response::text("held, and not sent");
                }
                if request.path() == "/0" {
                    return Response::text("sent");
                }
                if !flushes {
                    begins.add_permits(1);
                    Semaphore::new(0).acquire().forget();
                }
                Response::stream("text/plain", move |body| {
                    body.write_all(b"begun")?;
                    begins.add_permits(1);
                    Semaphore::new(0).acquire().forget();
                    Ok(())
                })
            };
            let service = parallel(handler, 4);
            let twin = Twin::new(&[&requests(&["/0", "/1", "/2"])]);
            let wire = Wire::new(Activity::new((&twin).into(), None));
            let served =
                || bast::with_park_hook(&|| wire.flush_before_park(), || serve(&wire, &service, None));
            bast::timeout(DEADLINE, || {
                bast::scope(|scope| {
                    let connection = scope.spawn_local_with(Builder::new(), served).expect("a thread");
                    begun.acquire().forget();
                    let_others_run();
                    connection.thread().kill();
                    assert!(connection.join().expect_err("killed").is_killed());
                });
            })
            .expect("in time");
            let output = twin.output();
            assert_eq!(output.contains("begun"), flushes, "{output}");
            assert!(output.contains("sent") && !output.contains("held"), "{output}");
            assert_eq!(wire.owes_an_answer(), !flushes, "{output}");
        });
    }
}

/// Bodies of all kinds come out as without threads.
#[test]
fn every_kind_of_body_is_the_same_as_in_sequence() {
    let handler = |request: &mut Request<'_>| {
        let large = vec![b'l'; 3 * HELD_BYTES_MAX];
        match request.path() {
            "/empty" => Response::new(crate::Status::NO_CONTENT),
            "/large" => Response::bytes("a/b", large),
            "/parts" => Response::parts("a/b", [large.into(), "small".into()]),
            "/sized" => Response::stream_sized("a/b", 3, |body| body.write_all(b"one")),
            "/chunked" => Response::stream("a/b", |body| body.write_all(&[b'c'; 50_000])),
            "/upgrade" => Response::upgrade("other", |_| ()),
            _ => Response::text("small").with_body(Body::Bytes("text".into())),
        }
    };
    let paths = ["/empty", "/large", "/", "/parts", "/sized", "/chunked", "/upgrade", "/large", "/"];
    let ahead = output_of(handler, &requests(&paths));
    let twin = Twin::new(&[&requests(&paths)]);
    serve(&Wire::new(Activity::new((&twin).into(), None)), &service(handler), None);
    assert_eq!(codes(&ahead), [204, 200, 200, 200, 200, 200, 426, 200, 200]);
    // Where chunks are cut depends on what is held before them; what they hold does not.
    let unchunked = |output: &str| output.replace("\r\n", "").replace(char::is_numeric, "");
    assert!(unchunked(&ahead) == unchunked(&twin.output()), "{ahead:.300}");
}
