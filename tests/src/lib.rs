//! What the end-to-end tests share: real processes, started and stopped.
