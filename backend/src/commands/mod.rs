//! What `firn` can do: one file a command.

mod build;
mod builder;
mod check_config;
mod fsck;
mod gc;
mod interrupt;
mod layers;
mod pack;
mod popularity;
mod progress_bar;
mod pull_costs;
mod search;
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
    /// Count what a package set refers to, as data for layering
    Popularity(popularity::PopularityArgs),
    /// Search the names of the package set
    Search(search::SearchArgs),
    /// Print the configuration that counts and where it comes from, and try what it names
    CheckConfig(check_config::CheckConfigArgs),
    /// Read everything in the storage and say, or repair, what is wrong with it
    Fsck(fsck::FsckArgs),
    /// Remove images that nobody pulls from the storage, and what nothing needs any more
    Gc(gc::GcArgs),
    /// Pack paths into one layer
    Pack(pack::PackArgs),
    /// Score a layering strategy on a dependency graph and a sequence of images
    Simulate(simulate::SimulateArgs),
}

impl Cli {
    /// Does what the command line asks for: `matches` are what it was read from, `aliases` the variables of
    /// Nixery that took effect.
    pub fn run(self, matches: &ArgMatches, aliases: &[Alias]) -> ExitCode {
        for alias in aliases {
            tracing::info!("{} is Nixery's; the same in Firn is {}", alias.nixery, alias.firn);
        }
        let result = match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Build(args) => build::run(&args),
            Command::Layers(args) => layers::run(&args),
            Command::Popularity(args) => popularity::run(args),
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

/// Why a command ends early, as the person who typed it reads it.
#[derive(Debug)]
enum Failure {
    /// The command line or the environment is wrong: exit code 2.
    Usage(String),
    /// A signal said so: the exit code is 128 and its number.
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
    /// Says why; returns the exit code.
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

    /// Any other error, with all that caused it.
    fn error(error: &dyn std::error::Error) -> Self {
        Self::Error(crate::build::chain(error))
    }

    /// What the client of a registry would read. Where that refers to the log, the log has the reason: no build has
    /// reported this error.
    fn unreported(error: &crate::build::BuildError) -> Self {
        let answer = crate::http::refusal(error, Words::Shown);
        if answer.status() >= 500 {
            tracing::error!(error = %crate::build::chain(error), "request failed");
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
