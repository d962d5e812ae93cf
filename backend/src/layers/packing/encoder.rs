//! How layers are compressed.

use super::PackingError;
use firn_shared::image::layer::LayerEncoding;
use firn_shared::oci::media_type::LayerCompression;
use std::fmt;
use std::io;
use std::str::FromStr;

/// Changes whenever the same files would become other bytes by a newer Firn: another tar, an update of the
/// compression libraries, another block size. A test pins the bytes.
const FORMAT: u32 = 2;

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
    ///
    /// Level 2 takes a tenth less time than 3 and makes 1 % more, still less than zlib's level 6; level 1 takes
    /// another quarter less, but its 5 % more would be sent again with every pull.
    pub const GZIP: Self = Self { method: Method::Gzip, level: 2 };
    /// zstd frames of one block each: clients that know OCI media types since about 2023.
    ///
    /// Level 2 takes a sixth less time than 3 and still makes less than gzip.
    pub const ZSTD: Self = Self { method: Method::Zstd, level: 2 };

    /// What a layer's bytes depend on besides its files. Part of layer keys.
    pub fn identity(&self) -> String {
        format!("{self};block={};format={FORMAT}", self.block_size())
    }

    /// What manifests say of the layers.
    pub fn compression(&self) -> LayerCompression {
        match self.method {
            Method::Gzip => LayerCompression::Gzip,
            Method::Zstd => LayerCompression::Zstd,
        }
    }

    /// All that is said of the layers of an image before they are packed.
    pub fn encoding(&self) -> LayerEncoding {
        LayerEncoding { compression: self.compression(), identity: self.identity() }
    }

    /// Bytes of tar that are compressed together, by themselves.
    pub(super) fn block_size(&self) -> usize {
        match self.method {
            // Deflate looks back 32 KiB: larger blocks save next to nothing.
            Method::Gzip => 1 << 20,
            // zstd looks back as far as the block goes.
            Method::Zstd => 2 << 20,
        }
    }

    pub(super) fn compressor(&self) -> io::Result<Compressor> {
        Ok(match self.method {
            Method::Gzip => Compressor::Gzip {
                at_level: libdeflate(self.level),
                fast: libdeflate(1),
                store: libdeflate(0),
            },
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
    Gzip {
        at_level: libdeflater::Compressor,
        /// For a sample of what does not look compressible.
        fast: libdeflater::Compressor,
        /// Level 0, for what is not: stored as it is.
        store: libdeflater::Compressor,
    },
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    /// Compresses `block` into the beginning of `out`, which grows as needed and never shrinks, and returns
    /// how many bytes that are.
    pub(super) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<usize, PackingError> {
        let bound = match self {
            Self::Gzip { at_level, .. } => at_level.gzip_compress_bound(block.len()),
            Self::Zstd(_) => zstd::zstd_safe::compress_bound(block.len()),
        };
        if out.len() < bound {
            out.resize(bound, 0);
        }
        match self {
            Self::Gzip { at_level, fast, store } => {
                let compressor = if is_incompressible(block, fast, out) { store } else { at_level };
                compressor
                    .gzip_compress(block, out)
                    .map_err(|error| PackingError::Compress(format!("{error:?}")))
            }
            Self::Zstd(compressor) => compressor
                .compress_to_buffer(block, out.as_mut_slice())
                .map_err(|error| PackingError::Compress(error.to_string())),
        }
    }
}

fn libdeflate(level: i32) -> libdeflater::Compressor {
    let level = libdeflater::CompressionLvl::new(level).expect("levels are checked when they are parsed");
    libdeflater::Compressor::new(level)
}

/// Whether deflate would gain next to nothing on this block: images, archives, anything that has been
/// compressed. (zstd finds out by itself.)
///
/// Counts bytes in samples spread over the block; only where all are about equally frequent, compresses one
/// sample, since equal counts alone do not mean that nothing repeats. Costs under 1 % of compressing.
/// No floating point: the answer must be the same on every machine.
fn is_incompressible(block: &[u8], fast: &mut libdeflater::Compressor, out: &mut [u8]) -> bool {
    const SAMPLE: usize = 4096;
    const SAMPLES: usize = 16;
    if block.len() < SAMPLE * SAMPLES {
        return false;
    }
    let mut counts = [0_u64; 256];
    for sample in block.chunks(block.len() / SAMPLES) {
        for byte in sample.iter().take(SAMPLE) {
            counts[usize::from(*byte)] += 1;
        }
    }
    // The sum of squares is least when all counts are equal, and 0.4 % more by chance for random bytes.
    let total: u64 = counts.iter().sum();
    let squares: u64 = counts.iter().map(|count| count * count).sum();
    if squares * 256 * 100 > total * total * 103 {
        return false;
    }
    let middle = (block.len() - SAMPLE * SAMPLES) / 2;
    let sample = &block[middle..][..SAMPLE * SAMPLES];
    fast.gzip_compress(sample, out).is_ok_and(|length| length * 100 > sample.len() * 97)
}

#[cfg(test)]
mod tests {
    use super::{is_incompressible, libdeflate};
    use crate::layers::packing::tests::{noise, text};

    #[test]
    fn recognises_what_does_not_compress() {
        let check = |name, block: Vec<u8>, expect| {
            let mut out = vec![0; 100_000];
            assert_eq!(is_incompressible(&block, &mut libdeflate(1), &mut out), expect, "{name}");
        };
        let length = 1 << 20;
        check("noise", noise(length, 1), true);
        check("noise of an odd length", noise(length - 12_345, 2), true);
        check("text", text(length, 3), false);
        check("zeros", vec![0; length], false);
        check("every byte as often as the others", (0..=255).cycle().take(length).collect(), false);
        check("noise that repeats", noise(1000, 4).into_iter().cycle().take(length).collect(), false);
        check("half noise, half text", [noise(length / 2, 5), text(length / 2, 6)].concat(), false);
        check("too little to tell", noise(1000, 7), false);
        check("nothing", vec![], false);
    }
}
