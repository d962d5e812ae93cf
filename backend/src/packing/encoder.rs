//! How layers are compressed.

use super::PackError;
use std::fmt;
use std::io;
use std::str::FromStr;

/// Changes whenever the same tar would be compressed to other bytes by a newer Firn: an update of the
/// compression libraries, another block size. A test pins the bytes.
const FORMAT: u32 = 1;

/// A compression method with its level.
///
/// Written `gzip`, `gzip:LEVEL`, `zstd` or `zstd:LEVEL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoder {
    method: Method,
    level: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Method {
    Gzip,
    Zstd,
}

/// Why a text names no encoder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compression is gzip[:1-12] or zstd[:1-19]")]
pub struct ParseEncoderError;

impl Encoder {
    /// gzip members of one block each, by libdeflate: every client reads them.
    pub const GZIP: Self = Self { method: Method::Gzip, level: 3 };
    /// zstd frames of one block each: clients that know OCI media types since about 2023.
    pub const ZSTD: Self = Self { method: Method::Zstd, level: 3 };

    /// What a layer's bytes depend on besides its files. Part of layer keys.
    pub fn identity(&self) -> String {
        format!("{self};block={};format={FORMAT}", self.block_size())
    }

    /// Whether layers are zstd, which needs OCI media types.
    pub fn is_zstd(&self) -> bool {
        self.method == Method::Zstd
    }

    /// Bytes of tar that are compressed together, by themselves.
    pub(super) fn block_size(&self) -> usize {
        1 << 20
    }

    pub(super) fn compressor(&self) -> io::Result<Compressor> {
        Ok(match self.method {
            Method::Gzip => {
                let level = libdeflater::CompressionLvl::new(self.level);
                let level = level.expect("levels are checked when they are parsed");
                Compressor::Gzip(libdeflater::Compressor::new(level))
            }
            Method::Zstd => Compressor::Zstd(zstd::bulk::Compressor::new(self.level)?),
        })
    }
}

impl FromStr for Encoder {
    type Err = ParseEncoderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (method, level) = match text.split_once(':') {
            None => (text, None),
            Some((method, level)) => (method, Some(level.parse::<i32>().map_err(|_| ParseEncoderError)?)),
        };
        let (default, levels) = match method {
            "gzip" => (Self::GZIP, 1..=12),
            "zstd" => (Self::ZSTD, 1..=19),
            _ => return Err(ParseEncoderError),
        };
        let level = level.unwrap_or(default.level);
        if levels.contains(&level) { Ok(Self { level, ..default }) } else { Err(ParseEncoderError) }
    }
}

impl fmt::Display for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            Method::Gzip => "gzip",
            Method::Zstd => "zstd",
        };
        write!(f, "{method}:{}", self.level)
    }
}

/// One thread's compressor, used for block after block.
pub(super) enum Compressor {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    /// Compresses `block` into the beginning of `out`, which grows as needed and never shrinks, and returns
    /// how many bytes that are.
    pub(super) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<usize, PackError> {
        let bound = match self {
            Self::Gzip(compressor) => compressor.gzip_compress_bound(block.len()),
            Self::Zstd(_) => zstd::zstd_safe::compress_bound(block.len()),
        };
        if out.len() < bound {
            out.resize(bound, 0);
        }
        match self {
            Self::Gzip(compressor) => compressor
                .gzip_compress(block, out)
                .map_err(|error| PackError::Compress(format!("{error:?}"))),
            Self::Zstd(compressor) => compressor
                .compress_to_buffer(block, out.as_mut_slice())
                .map_err(|error| PackError::Compress(error.to_string())),
        }
    }
}
