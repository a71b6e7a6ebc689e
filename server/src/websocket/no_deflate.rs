//! In the place of compression where the feature `gzip` is off: nothing is ever agreed upon.
#![forbid(unsafe_code)]

use super::close::Violation;

/// There is none.
#[derive(Debug)]
pub(super) enum Inflater {}

impl Inflater {
    pub(super) fn push(&mut self, _: &[u8], _: &mut Vec<u8>, _: usize) -> Result<(), Violation> {
        match *self {}
    }

    pub(super) fn finish(&mut self, _: &mut Vec<u8>, _: usize) -> Result<(), Violation> {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub(super) enum Deflater {}

impl Deflater {
    pub(super) fn compress(&mut self, _: &[u8]) -> Option<Compressed> {
        match *self {}
    }

    pub(super) fn sent(&mut self, _: Compressed) {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub(super) struct Compressed {
    pub(super) payload: Vec<u8>,
}
