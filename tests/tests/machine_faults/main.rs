//! What Firn does when machines fail: killed processes, full, read-only and lying disks, clocks that jump, and
//! more images than there is room for. Real processes, real Nix, real file systems.

mod clock;
mod corruption;
mod disk;
mod garbage;
mod interrupted;
mod killed;
mod storage;
