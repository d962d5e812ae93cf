//! How Nix is run.

use super::bounds::{mebibytes, seconds};
use clap::{Args, ValueEnum};
use firn_shared::oci::platform::Platform;

/// Limits and switches for evaluating and building.
#[derive(Debug, Clone, Args)]
pub struct NixArgs {
    /// Seconds after which a build is stopped
    #[arg(long, env = "FIRN_NIX_TIMEOUT", value_name = "SECONDS", value_parser = seconds(), default_value_t = 3600)]
    pub nix_timeout: u64,

    /// Seconds that the evaluations of one image may take together
    #[arg(long, env = "FIRN_EVAL_TIMEOUT", value_name = "SECONDS", value_parser = seconds(), default_value_t = 120)]
    pub eval_timeout: u64,

    /// Evaluations that may run at once
    #[arg(long, env = "FIRN_MAX_EVALUATIONS", value_name = "N", default_value_t = 2)]
    pub max_evaluations: usize,

    /// Builds that may run at once
    #[arg(long, env = "FIRN_MAX_REALISATIONS", value_name = "N", default_value_t = 4)]
    pub max_realisations: usize,

    /// Images that may be waiting or building at once; clients that ask for more are told to come back
    #[arg(long, env = "FIRN_MAX_QUEUE", value_name = "N", default_value_t = 200)]
    pub max_queue: usize,

    /// Images that one client may have waiting or building at once; at most half of FIRN_MAX_QUEUE
    #[arg(long, env = "FIRN_MAX_QUEUE_PER_CLIENT", value_name = "N", default_value_t = 10)]
    pub max_queue_per_client: usize,

    /// Seconds after which an image leaves the queue if no client has asked for it again and its build has not begun
    #[arg(long, env = "FIRN_ABANDON_AFTER", value_name = "SECONDS", value_parser = seconds(), default_value_t = 120)]
    pub abandon_after: u64,

    /// Seconds for which a failure that would repeat is remembered
    #[arg(long, env = "FIRN_FAILURE_TTL", value_name = "SECONDS", value_parser = seconds(), default_value_t = 300)]
    pub failure_ttl: u64,

    /// Memory that one evaluation may take, in MiB of address space
    #[arg(long, env = "FIRN_EVAL_MEMORY", value_name = "MIB", value_parser = mebibytes(), default_value_t = 8192)]
    pub eval_memory: u64,

    /// Memory that Nix and the builders of one image may take together, in MiB, unless a Nix daemon runs them
    /// [default: unbounded]
    #[arg(long, env = "FIRN_BUILD_MEMORY", value_name = "MIB", value_parser = mebibytes())]
    pub build_memory: Option<u64>,

    /// Whether Nix runs in namespaces of its own, where package code cannot read Firn's memory and secrets; needs
    /// bubblewrap (bwrap)
    #[arg(long, env = "FIRN_ISOLATION", value_enum, default_value_t = IsolationArg::Auto)]
    pub isolation: IsolationArg,

    /// Serve packages whose licence is unfree
    #[arg(long, env = "FIRN_ALLOW_UNFREE")]
    pub allow_unfree: bool,

    /// Platform of images whose name asks for none [default: this machine's]
    #[arg(long, env = "FIRN_PLATFORM", value_name = "PLATFORM")]
    pub platform: Option<Platform>,
}

/// When Nix is isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IsolationArg {
    /// If callers may choose any commit (--revisions any), which requires isolation
    Auto,
    /// Always; the server does not start if isolation does not work
    Always,
    /// Never
    Never,
}

impl NixArgs {
    /// The platform of images whose name asks for none.
    pub fn platform(&self) -> Platform {
        let host = if cfg!(target_arch = "aarch64") { Platform::Arm64 } else { Platform::Amd64 };
        self.platform.unwrap_or(host)
    }
}
