//! The cost of a pull, as the layering assumes it.

use clap::Args;
use firn_shared::layering::PullCosts;

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct PullCostsArgs {
    /// MB of NAR that a client fetches and unpacks per second
    #[arg(long, value_name = "N", default_value_t = PullCosts::default().throughput / 1e6, value_parser = throughput)]
    throughput_mb: f64,

    /// Seconds that a client needs for each layer, whatever its size
    #[arg(long, value_name = "S", default_value_t = PullCosts::default().layer_seconds, value_parser = seconds)]
    layer_seconds: f64,
}

impl PullCostsArgs {
    pub(super) fn costs(self) -> PullCosts {
        PullCosts { throughput: self.throughput_mb * 1e6, layer_seconds: self.layer_seconds }
    }
}

fn throughput(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.001..=1e6).contains(&number) => Ok(number),
        _ => Err("the value must be a number from 0.001 to 1000000".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=600.0).contains(&number) => Ok(number),
        _ => Err("the value must be a number from 0 to 600".into()),
    }
}
