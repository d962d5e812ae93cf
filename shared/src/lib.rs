//! The pure heart of Firn: what a name means and what bytes an image has. No I/O, no async, no clock.
