//! Limits for slow clients.

use super::bounds::some_seconds;
use clap::Args;

/// How slow a client may be, and how many connections it may have.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Seconds within which a client must send the head of a request, also on an idle connection, and over which the
    /// speed is measured at which it receives a response
    #[arg(long, env = "FIRN_CLIENT_TIMEOUT", value_name = "SECONDS", value_parser = some_seconds(), default_value_t = 60)]
    pub client_timeout: u64,

    /// Bytes a second at which a client must receive a response at least
    #[arg(long, env = "FIRN_LEAST_RATE", value_name = "BYTES", default_value_t = 1024)]
    pub least_rate: u64,

    /// Connections that one client may have open at once; a client is an address, or a /64 network of IPv6;
    /// connections of an edge that signs its requests are not counted
    #[arg(long, env = "FIRN_CLIENT_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 256)]
    pub client_connections: u32,
}
