//! Compresses a tar in Firn's manner, with one compressor after the other: independent blocks of 1 MiB on all cores,
//! while another thread hashes the tar and the output.
//!
//! packing-candidates TAR
//!
//! Prints one line each: name, MB per second, ratio.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

const BLOCK: usize = 1 << 20;
const ROUNDS: usize = 3;

type Compressor = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

fn measure(name: &str, tar: &[u8], compressor: impl Fn() -> Compressor + Sync) -> Result<(), Box<dyn Error>> {
    let threads = thread::available_parallelism()?.get();
    let blocks: Vec<&[u8]> = tar.chunks(BLOCK).collect();
    let mut rates = Vec::new();
    let mut size = 0;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let next = AtomicUsize::new(0);
        let (done, finished) = sync_channel(threads * 4);
        size = thread::scope(|scope| {
            for _ in 0..threads {
                let done = done.clone();
                scope.spawn(|| {
                    let (mut compress, done) = (compressor(), done);
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(block) = blocks.get(index) else { break };
                        if done.send((index, compress(block))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(done);
            let (mut diff_id, mut digest) = (Sha256::new(), Sha256::new());
            let (mut early, mut turn, mut size) = (BTreeMap::new(), 0, 0);
            for (index, compressed) in finished {
                early.insert(index, compressed);
                while let Some(compressed) = early.remove(&turn) {
                    diff_id.update(blocks[turn]);
                    digest.update(&compressed);
                    size += compressed.len();
                    turn += 1;
                }
            }
            std::hint::black_box((diff_id.finalize(), digest.finalize()));
            size
        });
        rates.push(tar.len() as f64 / 1e6 / started.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    println!("{name}\t{:.0}\t{:.4}", rates[ROUNDS / 2], size as f64 / tar.len() as f64);
    Ok(())
}

fn zlib(level: u32) -> Compressor {
    Box::new(move |block| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        gzip.write_all(block).and_then(|()| gzip.finish()).expect("writing to memory does not fail")
    })
}

fn libdeflate(level: i32) -> Compressor {
    let level = libdeflater::CompressionLvl::new(level).expect("a level");
    let mut compressor = libdeflater::Compressor::new(level);
    Box::new(move |block| {
        let mut out = vec![0; compressor.gzip_compress_bound(block.len())];
        let length = compressor.gzip_compress(block, &mut out).expect("there is room");
        out.truncate(length);
        out
    })
}

fn zstandard(level: i32) -> Compressor {
    let mut compressor = zstd::bulk::Compressor::new(level).expect("a level");
    Box::new(move |block| compressor.compress(block).expect("there is room"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("packing-candidates TAR")?;
    let tar = std::fs::read(path)?;
    if cfg!(feature = "zlib-ng") {
        for level in [2, 4, 6] {
            measure(&format!("zlib-ng {level}"), &tar, || zlib(level))?;
        }
        return Ok(());
    }
    for level in [2, 4, 6] {
        measure(&format!("zlib-rs {level}"), &tar, || zlib(level))?;
    }
    for level in [1, 2, 3, 4, 6] {
        measure(&format!("libdeflate {level}"), &tar, || libdeflate(level))?;
    }
    for level in [1, 2, 3] {
        measure(&format!("zstd {level}"), &tar, || zstandard(level))?;
    }
    Ok(())
}
