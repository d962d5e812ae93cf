//! What Firn does when machines fail: killed processes, full, read-only and corrupt disks, clocks that jump, and more
//! images than there is room for. With real processes, real Nix and real file systems.

mod clock;
mod corruption;
mod disk;
mod garbage;
mod interrupted;
mod killed;
mod storage;
