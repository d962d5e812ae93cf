//! The secret with which edge and backend authenticate to each other.

use clap::Args;
use std::path::PathBuf;

/// The secret, or the file that holds it.
#[derive(Debug, Clone, Default, Args)]
pub struct SecretArgs {
    /// Secret shared with the edge; if set, only the edge is answered
    #[arg(long, env = "FIRN_SECRET", value_name = "TEXT", hide_env_values = true)]
    pub secret: Option<String>,

    /// File that holds the secret [default: systemd's credential firn-secret, if there is one]
    #[arg(long, env = "FIRN_SECRET_FILE", value_name = "FILE", conflicts_with = "secret")]
    pub secret_file: Option<PathBuf>,
}

/// The token for `/metrics`, or the file that holds it.
#[derive(Debug, Clone, Default, Args)]
pub struct MetricsArgs {
    /// Token for /metrics, sent as Authorization: Bearer [default: none; then /metrics is answered only if the server
    /// listens on the loopback interface and has no secret]
    #[arg(long, env = "FIRN_METRICS_TOKEN", value_name = "TEXT", hide_env_values = true)]
    pub metrics_token: Option<String>,

    /// File that holds the token
    #[arg(long, env = "FIRN_METRICS_TOKEN_FILE", value_name = "FILE", conflicts_with = "metrics_token")]
    pub metrics_token_file: Option<PathBuf>,
}
