//! What the example programs share. Each program of `src/bin` is short enough to be read at once; what it needs
//! besides lives here, where the tests and benches can reach it too.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod demo;
pub mod echo;
pub mod gateway;
pub mod logger;
pub mod side_runtime;
