//! Events for many: published once, waited for by any number of connections, with enough history that a client which
//! comes back misses none.
//!
//! ```
//! use bast_server::{Error, Request, Response, Router, Status, Topic};
//! use std::time::Duration;
//!
//! const PATIENCE: Duration = Duration::from_secs(25);
//!
//! let news = Topic::new(100);
//! let poll = {
//!     let news = news.clone();
//!     move |request: &mut Request| -> Result<Response, Error> {
//!         let after = request.query_param("after").and_then(|after| after.parse().ok());
//!         // Ends early if the client goes or the server shuts down.
//!         let next = request.presence().wait_after(&news, after.unwrap_or(news.latest()), PATIENCE)?;
//!         Ok(match next {
//!             Ok(Some(event)) => Response::bytes("text/plain", event.data).with_header("X-Number", event.number.to_string()),
//!             Ok(None) => Response::new(Status::NO_CONTENT), // ask again
//!             Err(missed) => Response::text(missed.to_string()).with_status(Status::GONE),
//!         })
//!     }
//! };
//! let app = Router::new().get("/news", poll).post("/news", move |request: &mut Request| -> Result<(), Error> {
//!     news.publish(request.read_body()?);
//!     Ok(())
//! });
//! # drop(app);
//! ```
//! A publish is one allocation, whoever waits: all are given the same bytes, and a response sends them from where they are
//! ([`Bytes::Shared`](crate::Bytes::Shared)).
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bast::Select;
use bast::sync::broadcast::{self, RecvError, RecvTimeoutError};

/// A stream of numbered events, of which the last few are kept. Clones are the same topic.
///
/// Numbers go up by one with each event. They begin where those of an earlier process have not come to, by the clock (one second
/// is a million events), so that a client which comes back after a restart is told that it missed some instead of being
/// given others under the same numbers. They stay below 2<sup>53</sup>, what JavaScript counts to, for the next two
/// centuries.
///
/// Threads of all capabilities, and plain OS threads, may publish and wait.
#[derive(Clone)]
pub struct Topic {
    channel: Arc<Channel>,
}

/// What the handles of a topic share.
struct Channel {
    sender: broadcast::Sender<Arc<[u8]>>,
    /// Keeps the history while nobody waits.
    _keeper: broadcast::Receiver<Arc<[u8]>>,
    /// What the numbers begin behind.
    base: u64,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which it is: where the next wait goes on from.
    pub number: u64,
    /// What was published.
    pub data: Arc<[u8]>,
}

/// Events were published that are not kept any more, or it is not known which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// A wait after this number gives the oldest event that is there. A client that has the state of things fetches it
    /// afresh, and goes on from here.
    pub resume_after: u64,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "events up to {} were missed", self.resume_after)
    }
}

impl Error for Missed {}

impl Topic {
    /// A topic that keeps the last `history` events.
    ///
    /// # Panics
    /// With a history of 0: one who waits again would miss what came in between.
    #[must_use]
    pub fn new(history: usize) -> Topic {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Topic::starting_after(history, since_1970.as_secs() << 20)
    }

    fn starting_after(history: usize, base: u64) -> Topic {
        let (sender, keeper) = broadcast::channel(history);
        Topic { channel: Arc::new(Channel { sender, _keeper: keeper, base }) }
    }

    /// Publishes an event: wakes all who wait. Never waits.
    pub fn publish(&self, data: impl Into<Arc<[u8]>>) {
        // It would fail if nobody received: the keeper does.
        let _ = self.channel.sender.send(data.into());
    }

    /// The number of the latest event.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.channel.base + self.channel.sender.sent()
    }

    /// Waits for the first event after the one with this number, for `limit` at the most: `None` after that.
    ///
    /// # Errors
    /// That event is not kept any more, or the number is none of this topic.
    ///
    /// # Cancellation
    /// Interruptible. Nothing is lost: the number says where to go on. To wait no longer than a client does, there is
    /// [`Presence::wait_after`](crate::Presence::wait_after).
    pub fn wait_after(&self, number: u64, limit: Duration) -> Result<Option<Event>, Missed> {
        self.subscribe_after(number)?.next(limit)
    }

    /// A subscription to what is published from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription { receiver: self.channel.sender.subscribe(), channel: Arc::clone(&self.channel) }
    }

    /// A subscription to what was published after the event with this number.
    ///
    /// # Errors
    /// The number is none of this topic. (That events are not kept any more is said by the first wait.)
    pub fn subscribe_after(&self, number: u64) -> Result<Subscription, Missed> {
        let sender = &self.channel.sender;
        let received = number.checked_sub(self.channel.base);
        let Some(received) = received.filter(|received| *received <= sender.sent()) else {
            return Err(Missed { resume_after: self.latest() });
        };
        Ok(Subscription { receiver: sender.subscribe_after(received), channel: Arc::clone(&self.channel) })
    }

    /// How many subscriptions there are, those of waits included.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.channel.sender.receivers() - 1
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("latest", &self.latest()).finish_non_exhaustive()
    }
}

/// A place in a [`Topic`], for one who takes event after event.
#[derive(Clone)]
pub struct Subscription {
    receiver: broadcast::Receiver<Arc<[u8]>>,
    /// Has a sender: the channel is never closed under the receiver.
    channel: Arc<Channel>,
}

impl Subscription {
    /// Waits for the next event, for `limit` at the most: `None` after that.
    ///
    /// # Errors
    /// It is not kept any more. The next wait goes on with the oldest that is.
    pub fn next(&mut self, limit: Duration) -> Result<Option<Event>, Missed> {
        match self.receiver.recv_timeout(limit) {
            Ok(data) => Ok(Some(self.event(data))),
            Err(RecvTimeoutError::Lagged(_)) => Err(self.missed()),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Closed) => unreachable!("topic: closed under a subscription"),
        }
    }

    /// Adds the next event to what a select waits for.
    pub fn or<'a, R>(
        &'a mut self,
        select: Select<'a, R>,
        then: impl FnOnce(Result<Event, Missed>) -> R + 'a,
    ) -> Select<'a, R> {
        // The select has the receiver until the end: its place is known beforehand.
        let number = self.number();
        select.broadcast(&mut self.receiver, move |received| {
            then(match received {
                Ok(data) => Ok(Event { number: number + 1, data }),
                Err(RecvError::Lagged(count)) => Err(Missed { resume_after: number + count }),
                Err(RecvError::Closed) => unreachable!("topic: closed under a subscription"),
            })
        })
    }

    /// The number of the event that was received last, or missed.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.channel.base + self.receiver.received()
    }

    fn event(&self, data: Arc<[u8]>) -> Event {
        Event { number: self.number(), data }
    }

    fn missed(&self) -> Missed {
        Missed { resume_after: self.number() }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("number", &self.number()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    fn topic(history: usize) -> Topic {
        Topic::starting_after(history, 100)
    }

    fn event(number: u64, data: &str) -> Event {
        Event { number, data: data.as_bytes().into() }
    }

    fn publish(topic: &Topic, data: &str) {
        topic.publish(data.as_bytes());
    }

    #[test]
    fn a_wait_goes_on_from_the_number_it_is_given() {
        let topic = topic(3);
        assert_eq!((topic.latest(), topic.wait_after(100, SHORT)), (100, Ok(None)));
        ["a", "b", "c"].iter().for_each(|data| publish(&topic, data));
        assert_eq!(topic.latest(), 103);
        assert_eq!(topic.wait_after(100, SHORT), Ok(Some(event(101, "a"))));
        assert_eq!(topic.wait_after(102, SHORT), Ok(Some(event(103, "c"))));
        assert_eq!(topic.wait_after(103, SHORT), Ok(None));
        assert_eq!(topic.subscriptions(), 0, "history is kept without any");
    }

    #[test]
    fn a_number_that_is_not_known_any_more_is_told_where_to_resume() {
        let topic = topic(2);
        ["a", "b", "c", "d"].iter().for_each(|data| publish(&topic, data));
        assert_eq!(topic.wait_after(100, SHORT), Err(Missed { resume_after: 102 }));
        assert_eq!(topic.wait_after(102, SHORT), Ok(Some(event(103, "c"))));
        // Of another process, before and after.
        for unknown in [0, 99, 105, u64::MAX] {
            assert_eq!(topic.wait_after(unknown, SHORT), Err(Missed { resume_after: 104 }), "{unknown}");
        }
    }

    #[test]
    fn numbers_of_a_later_process_are_later_and_safe_in_javascript() {
        let topic = Topic::new(1);
        let first = topic.latest();
        assert!(first > 1 << 50, "{first}");
        assert!(first + (1 << 40) < 1 << 53, "{first}");
    }

    #[test]
    fn a_subscription_gets_event_after_event_in_either_way() {
        let topic = topic(2);
        let mut subscription = topic.subscribe();
        ["a", "b", "c", "d"].iter().for_each(|data| publish(&topic, data));
        let next =
            |subscription: &mut Subscription| subscription.or(Select::new(), Some).try_wait().flatten();
        let mut other = subscription.clone();
        assert_eq!(next(&mut other), Some(Err(Missed { resume_after: 102 })));
        assert_eq!(next(&mut other), Some(Ok(event(103, "c"))));
        assert_eq!(next(&mut other), Some(Ok(event(104, "d"))));
        assert_eq!((next(&mut other), other.number()), (None, 104));
        assert_eq!(subscription.next(SHORT), Err(Missed { resume_after: 102 }));
        assert_eq!(subscription.next(SHORT), Ok(Some(event(103, "c"))));
        assert_eq!(subscription.next(SHORT), Ok(Some(event(104, "d"))));
        drop(topic);
        assert_eq!(
            (subscription.next(SHORT), subscription.number()),
            (Ok(None), 104),
            "waits, although none will come"
        );
    }

    #[test]
    fn all_who_wait_on_all_capabilities_get_the_same_bytes() {
        const WAITERS: usize = 200;
        let topic = Topic::new(1);
        let events: Vec<Event> = bast::Runtime::builder().capabilities(2).build().unwrap().run(move || {
            let from = topic.latest();
            let wait =
                |topic: Topic| move || topic.wait_after(from, Duration::from_secs(20)).unwrap().unwrap();
            let waiters: Vec<_> = (0..WAITERS).map(|_| bast::spawn(wait(topic.clone()))).collect();
            while topic.subscriptions() < WAITERS {
                bast::yield_now();
            }
            publish(&topic, "x");
            waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect()
        });
        assert!(events.iter().all(|event| Arc::ptr_eq(&event.data, &events[0].data)));
    }
}
