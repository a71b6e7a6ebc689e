#![forbid(unsafe_code)]
//! What few threads have: made when it is first asked for, so that the control block stays small.

use super::exception::Frames;
use super::locals::Locals;
use super::scoped::Bindings;

#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) locals: Locals,
    pub(crate) frames: Frames,
    pub(crate) scoped: Bindings,
}
