//! What the benches share: reference servers, a load generator, and the bookkeeping that turns runs of
//! one against the other into figures with a spread.
//!
//! Nothing here is used by the libraries. Layers, each using only those above it:
//!
//! ```text
//! sys                      every libc call of the benches
//! mode                     the workloads
//! url  response            text and bytes, no sockets
//! probe  answer            one response in whole; what the reference servers answer
//! blocking                 a connection in direct style
//! floor  os_threads  green_threads  accepting   the reference servers
//! load                     the load generator
//! machine  procstat  memory   what we run on; what CPU time and memory a process has used
//! registry                 lists that OS threads share
//! servers                  which servers are measured, and their processes
//! rounds  tool             how they are measured
//! args  report  program    how that is asked for and shown
//! accept  threads  preempt  slowloris  soak  codec  longpoll   one bench each: what it measures and its command line
//! ```

pub mod accept;
pub mod accepting;
pub mod answer;
pub mod args;
pub mod blocking;
pub mod codec;
pub mod floor;
pub mod green_threads;
pub mod load;
pub mod longpoll;
pub mod machine;
pub mod memory;
pub mod mode;
pub mod os_threads;
pub mod preempt;
pub mod probe;
pub mod procstat;
pub mod program;
pub mod registry;
pub mod report;
pub mod response;
pub mod rounds;
pub mod servers;
pub mod slowloris;
pub mod soak;
pub mod sys;
pub mod threads;
pub mod tool;
pub mod url;
