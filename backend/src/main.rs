//! The command line.

use clap::{CommandFactory, FromArgMatches};
use firn_backend::{
    commands::{Cli, LogWriter},
    config::with_nixery_aliases,
    process::own_environment,
};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Only the server runs package code for others.
    if std::env::args_os().nth(1).is_some_and(|command| command == "serve")
        && let Err(error) = own_environment::hide_secrets()
    {
        eprintln!("firn: cannot remove the secrets from the environment: {error}; put them into files");
        return ExitCode::FAILURE;
    }
    let (command, aliases) = with_nixery_aliases(Cli::command(), |name| std::env::var(name).ok());
    let matches = command.get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let filter = EnvFilter::try_from_env("FIRN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(color).with_writer(LogWriter::default).init();
    rustls::crypto::ring::default_provider().install_default().expect("installed once, here");
    cli.run(&matches, &aliases)
}
