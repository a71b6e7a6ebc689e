//! The codings at work: the libraries behind one face, with their output in memory.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::Effort;
use crate::coding::{CODER_STACK_BYTES, Coding};
use crate::http1::stream::Encode;

/// One content that is being coded.
pub(super) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    /// `deflate` is the zlib format (RFC 9110 §8.4.1.2).
    Deflate(ZlibEncoder<Vec<u8>>),
    #[cfg(feature = "brotli")]
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// It has ended; this is left to be sent.
    Ended(Vec<u8>),
}

impl Encoder {
    /// # Errors
    /// There is no memory, or the coding is not built in.
    pub(super) fn new(coding: Coding, effort: Effort) -> io::Result<Encoder> {
        bast::ensure_stack(CODER_STACK_BYTES, || Encoder::make(coding, effort))
    }

    #[inline(never)]
    fn make(coding: Coding, effort: Effort) -> io::Result<Encoder> {
        // The levels that servers use for what is made while a client waits are those in the middle.
        let deflate = Compression::new([1, 5, 9][effort as usize]);
        Ok(match coding {
            Coding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), deflate)),
            Coding::Deflate => Encoder::Deflate(ZlibEncoder::new(Vec::new(), deflate)),
            #[cfg(feature = "brotli")]
            Coding::Brotli => {
                /// What it gathers before it writes to the output.
                const BUFFER_BYTES: usize = 4 << 10;
                /// A window of 256 KiB: more costs memory for each response at work and wins little for pages.
                const WINDOW_BITS: u32 = 18;
                let quality = [1, 4, 9][effort as usize];
                let writer = brotli::CompressorWriter::new(Vec::new(), BUFFER_BYTES, quality, WINDOW_BITS);
                Encoder::Brotli(Box::new(writer))
            }
            #[cfg(feature = "zstd")]
            Coding::Zstd => {
                // The windows of these levels are below the 8 MiB that RFC 9659 allows.
                Encoder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), [1, 3, 9][effort as usize])?)
            }
            #[cfg(not(all(feature = "brotli", feature = "zstd")))]
            _ => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    fn end(&mut self) -> io::Result<()> {
        let output = match std::mem::replace(self, Encoder::Ended(Vec::new())) {
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Deflate(encoder) => encoder.finish()?,
            #[cfg(feature = "brotli")]
            Encoder::Brotli(encoder) => encoder.into_inner(),
            #[cfg(feature = "zstd")]
            Encoder::Zstd(encoder) => encoder.finish()?,
            Encoder::Ended(output) => output,
        };
        *self = Encoder::Ended(output);
        Ok(())
    }

    fn writer(&mut self) -> io::Result<&mut dyn Write> {
        Ok(match self {
            Encoder::Gzip(encoder) => encoder,
            Encoder::Deflate(encoder) => encoder,
            #[cfg(feature = "brotli")]
            Encoder::Brotli(encoder) => encoder,
            #[cfg(feature = "zstd")]
            Encoder::Zstd(encoder) => encoder,
            Encoder::Ended(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        })
    }
}

impl Encode for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        bast::ensure_stack(CODER_STACK_BYTES, || self.writer()?.write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        bast::ensure_stack(CODER_STACK_BYTES, || self.writer()?.flush())
    }

    fn finish(&mut self) -> io::Result<()> {
        bast::ensure_stack(CODER_STACK_BYTES, || self.end())
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Encoder::Gzip(encoder) => encoder.get_mut(),
            Encoder::Deflate(encoder) => encoder.get_mut(),
            #[cfg(feature = "brotli")]
            Encoder::Brotli(encoder) => encoder.get_mut(),
            #[cfg(feature = "zstd")]
            Encoder::Zstd(encoder) => encoder.get_mut(),
            Encoder::Ended(output) => output,
        }
    }
}
