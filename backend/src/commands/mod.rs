//! The commands of `firn`, one file each.

mod build;
mod builder;
mod caches;
mod check_config;
mod data_dir;
mod fsck;
mod gc;
mod interrupt;
mod layering_data;
mod layers;
mod output;
mod pack;
mod popularity;
mod progress_bar;
mod pull_costs;
mod sbom;
mod search;
mod secrets;
mod serve;
mod simulate;
mod upkeep;

use crate::config::Alias;
use clap::{ArgMatches, Parser, Subcommand};
use firn_shared::naming::package::Words;
pub use progress_bar::LogWriter;
use rustix::process::Signal;
use std::process::ExitCode;

/// A container registry with no images in it: the image name says what goes in.
#[derive(Debug, Parser)]
#[command(name = "firn", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the registry
    Serve(serve::ServeArgs),
    /// Build one image without a server
    Build(build::BuildArgs),
    /// Explain the layers of an image
    Layers(layers::LayersArgs),
    /// Count the references in a package set, as data for layering
    Popularity(popularity::PopularityArgs),
    /// Print what is in an image, as a bill of materials
    Sbom(sbom::SbomArgs),
    /// Search the names of the package set
    Search(search::SearchArgs),
    /// Print the effective configuration and where each value comes from, and check that it works
    CheckConfig(check_config::CheckConfigArgs),
    /// Read everything in the storage, and report or repair what is wrong with it
    Fsck(fsck::FsckArgs),
    /// Remove images that no client pulls from the storage, and whatever nothing needs any more
    Gc(gc::GcArgs),
    /// Pack paths into one layer
    Pack(pack::PackArgs),
    /// Score a layering strategy on a dependency graph and a sequence of images
    Simulate(simulate::SimulateArgs),
}

impl Cli {
    /// Runs the command. `matches` are the arguments that `self` was parsed from. `aliases` are the variables of
    /// Nixery that took effect.
    pub fn run(self, matches: &ArgMatches, aliases: &[Alias]) -> ExitCode {
        for alias in aliases {
            tracing::info!("{} is a variable of Nixery; its name in Firn is {}", alias.nixery, alias.firn);
        }
        let result = match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Build(args) => build::run(&args),
            Command::Layers(args) => layers::run(&args),
            Command::Popularity(args) => popularity::run(args),
            Command::Sbom(args) => sbom::run(&args),
            Command::Search(args) => search::run(&args),
            Command::CheckConfig(args) => {
                let (_, matches) = matches.subcommand().expect("a command was given");
                return check_config::run(&args, matches, aliases);
            }
            Command::Fsck(args) => match fsck::run(&args) {
                Ok(code) => return code,
                Err(failure) => Err(failure),
            },
            Command::Gc(args) => gc::run(&args),
            Command::Pack(args) => pack::run(args),
            Command::Simulate(args) => simulate::run(args),
        };
        result.map_or_else(Failure::exit_code, |()| ExitCode::SUCCESS)
    }
}

/// Why a command ended early, in words for the person who ran it.
#[derive(Debug)]
enum Failure {
    /// The command line or the environment is wrong: exit code 2.
    Usage(String),
    /// A signal ended it: the exit code is 128 plus the signal's number.
    Signal(Signal),
    /// Anything else: exit code 1.
    Error(String),
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl Failure {
    /// The reason.
    fn message(&self) -> &str {
        match self {
            Self::Usage(message) | Self::Error(message) => message,
            Self::Signal(_) => "interrupted",
        }
    }

    /// Prints the reason and returns the exit code.
    fn exit_code(self) -> ExitCode {
        match self {
            Self::Usage(message) => {
                eprintln!("firn: {message}");
                ExitCode::from(2)
            }
            Self::Signal(signal) => {
                eprintln!("firn: interrupted");
                ExitCode::from(u8::try_from(128 + signal.as_raw()).unwrap_or(u8::MAX))
            }
            Self::Error(message) => {
                eprintln!("firn: {message}");
                ExitCode::FAILURE
            }
        }
    }

    /// Any other error, with its causes.
    fn error(error: &dyn std::error::Error) -> Self {
        Self::Error(crate::error_chain::chain(error))
    }

    /// The message that a client of the registry would get. If that message refers to the log, this logs the reason,
    /// because no build has reported this error.
    fn unreported(error: &crate::images::BuildError) -> Self {
        let answer = crate::http::refusal(error, Words::Shown);
        if answer.status() >= 500 {
            tracing::error!(error = %crate::error_chain::chain(error), "request failed");
        }
        Self::Error(answer.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_would_overflow_are_refused() {
        let check = |option: &str, most: u64| {
            let parse = |value: u64| {
                Cli::try_parse_from(["firn", "serve", "--pkgs-path", "/x", option, &value.to_string()])
            };
            parse(most).unwrap_or_else(|error| panic!("{option} {most}: {error}"));
            for more in [most + 1, u64::MAX] {
                let error = parse(more).expect_err("too much").to_string();
                assert!(error.contains(option), "{error}");
            }
        };
        let century = 100 * 365 * 24 * 3600;
        for option in [
            "--wait",
            "--grace",
            "--nix-timeout",
            "--eval-timeout",
            "--failure-ttl",
            "--gc-grace",
            "--abandon-after",
        ] {
            check(option, century);
        }
        for option in ["--eval-memory", "--build-memory", "--max-closure", "--disk-budget"] {
            check(option, u64::MAX >> 20);
        }
    }
}
