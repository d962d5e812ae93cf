//! The Worker on a planet as strict as Cloudflare's: what holds under its rules, and what a pull costs.

mod bills;
mod rules;
mod workers_cache;
