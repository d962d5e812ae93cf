//! Compression of layers.

use super::PackingError;
use firn_shared::image::layer::LayerEncoding;
use firn_shared::oci::media_type::LayerCompression;
use std::fmt;
use std::io;
use std::str::FromStr;

/// Must change whenever a newer Firn makes other bytes of the same files: another tar, another version of a
/// compression library, another block size. A test pins the bytes.
const FORMAT: u32 = 2;

/// A compression method and its level, written `gzip`, `gzip:LEVEL`, `zstd` or `zstd:LEVEL`.
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

/// The text does not name an encoder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compression is gzip[:1-12] or zstd[:1-19]")]
pub struct ParseEncoderError;

impl Encoder {
    /// One gzip member per block, by libdeflate. Every client reads them.
    ///
    /// Level 2 takes a tenth less time than level 3. Its layers are 1 % larger, and still smaller than zlib's at
    /// level 6. Level 1 takes a quarter less time than that, but its layers are 5 % larger in every pull.
    pub const GZIP: Self = Self { method: Method::Gzip, level: 2 };
    /// One zstd frame per block, for clients that know OCI media types (since about 2023).
    ///
    /// Level 2 takes a sixth less time than level 3, and its layers are still smaller than those of gzip.
    pub const ZSTD: Self = Self { method: Method::Zstd, level: 2 };

    /// Everything that a layer's bytes depend on, other than its files. It is part of a layer's key.
    pub fn identity(&self) -> String {
        format!("{self};block={};format={FORMAT}", self.block_size())
    }

    /// The compression that manifests name in the layers' media types.
    pub fn compression(&self) -> LayerCompression {
        match self.method {
            Method::Gzip => LayerCompression::Gzip,
            Method::Zstd => LayerCompression::Zstd,
        }
    }

    /// What is known about an image's layers before they are packed.
    pub fn encoding(&self) -> LayerEncoding {
        LayerEncoding { compression: self.compression(), identity: self.identity() }
    }

    /// How many bytes of tar are compressed at once, independently of other blocks.
    pub(super) fn block_size(&self) -> usize {
        match self.method {
            // Deflate refers back at most 32 KiB, so larger blocks save almost nothing.
            Method::Gzip => 1 << 20,
            // zstd can refer back to the beginning of a block.
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

/// The compressor of one thread, used for one block after another.
pub(super) enum Compressor {
    Gzip {
        at_level: libdeflater::Compressor,
        /// For a sample of a block that may be incompressible.
        fast: libdeflater::Compressor,
        /// Level 0, which stores incompressible blocks uncompressed.
        store: libdeflater::Compressor,
    },
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    /// Compresses `block` into the beginning of `out` and returns the compressed length in bytes. `out` grows as
    /// needed and never shrinks.
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

/// Whether deflate would save almost nothing on this block, for example an image, an archive or other compressed
/// data. (zstd detects this itself.)
///
/// It counts the bytes in samples from the whole block. If all byte values are about equally frequent, it also
/// compresses one sample, because equal counts do not exclude repetitions. This costs less than 1 % of the
/// compression. It does not use floating point, because the result must be the same on every machine.
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
    // The sum of squares is smallest if all counts are equal. For random bytes it is 0.4 % larger.
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
    use crate::packing::tests::{noise, text};

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
