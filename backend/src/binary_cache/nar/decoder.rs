//! Decompression of NARs.

use std::io::{self, BufRead, Read};

/// The memory that an xz stream may ask for, in bytes: `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 80 << 20;
/// The binary logarithm of the window that a zstd stream may ask for, in bytes: `zstd --ultra -22` needs 27.
const ZSTD_WINDOW: u32 = 27;

/// The way from a compressed NAR to the NAR.
pub(super) enum Decoder<R: BufRead> {
    None(R),
    Xz(Box<liblzma::bufread::XzDecoder<R>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<R>>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
}

impl<R: BufRead> Decoder<R> {
    /// The decoder of this name in narinfos; `None` if there is none.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(super) fn new(compression: &str, input: R) -> io::Result<Option<Self>> {
        Ok(Some(match compression {
            "none" => Self::None(input),
            "xz" => {
                let flags = liblzma::stream::CONCATENATED;
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)?;
                Self::Xz(Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream)))
            }
            "zstd" => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Self::Zstd(Box::new(decoder))
            }
            "bzip2" => Self::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(input))),
            "gzip" => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            _ => return Ok(None),
        }))
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(input) => input.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Bzip2(decoder) => decoder.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
        }
    }
}
