//! Reads the bytes of a block.

use super::PackingError;
use super::blocks::{BlockPlan, Piece};

/// Writes the bytes of the plan into `block`, which has the plan's length.
pub(super) fn fill(plan: &BlockPlan, block: &mut [u8]) -> Result<(), PackingError> {
    let mut rest = block;
    for piece in &plan.pieces {
        let (now, later) = rest.split_at_mut(piece.length());
        match piece {
            Piece::Bytes(bytes) => now.copy_from_slice(bytes),
            Piece::Shared(bytes) => now.copy_from_slice(bytes),
            Piece::File { file, offset, .. } => {
                let open = file.open()?;
                open.read(*offset, now)?;
                open.finish()?;
            }
        }
        rest = later;
    }
    Ok(())
}
