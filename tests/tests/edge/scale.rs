//! The simulation of `make bench BENCH=scale`, in small.

use firn_tests::node::run_tests;

#[test]
fn the_simulation_keeps_its_promises() {
    run_tests(&["tests/bench/scale/simulate.test.mjs"], 5);
}
