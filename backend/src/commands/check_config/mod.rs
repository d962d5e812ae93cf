//! `firn check-config`: prints the configuration, where each value comes from, and whether what it names works.
//!
//! It builds nothing and does not listen. It does write to the store, to check that it can.

mod probes;
mod settings;

use super::{interrupt::unless_interrupted, serve::ServeArgs};
use crate::config::Alias;
use clap::{ArgMatches, Args};
use serde::Serialize;
use settings::Setting;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct CheckConfigArgs {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    serve: ServeArgs,
}

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    /// Works as configured.
    Ok,
    /// Works, but perhaps not as the operator intended.
    Warning,
    /// Configured, but does not work: exit code 1.
    Error,
    /// The configuration contradicts itself: exit code 2.
    Invalid,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    /// What was checked: `nix`, `storage`, …
    about: &'static str,
    /// What was found. If it is a problem, also what to do.
    message: String,
}

impl Finding {
    fn new(level: Level, about: &'static str, message: impl Into<String>) -> Self {
        // A finding is one line, even if Nix or git said more.
        let message: String = message.into();
        let lines: Vec<_> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Self { level, about, message: lines.join("; ") }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    settings: Vec<Setting>,
    findings: Vec<Finding>,
}

/// Prints the report. `matches` are those of this command.
pub(super) fn run(args: &CheckConfigArgs, matches: &ArgMatches, aliases: &[Alias]) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("firn: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut settings = settings::effective(matches, aliases);
    settings::compute_defaults(&mut settings, args.serve.builder());
    let environment: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    settings.extend(settings::of_bucket(&environment, args.serve.builder()));
    let mut findings = settings::misunderstandings(&environment, aliases);
    match runtime.block_on(unless_interrupted(probes::all(args.serve.builder()))) {
        Ok(found) => findings.extend(found),
        Err(failure) => return failure.exit_code(),
    }
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let report = Report { settings, findings };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("texts serialise"));
    } else {
        print(&report);
    }
    match worst {
        Level::Ok | Level::Warning => ExitCode::SUCCESS,
        Level::Error => ExitCode::FAILURE,
        Level::Invalid => ExitCode::from(2),
    }
}

fn print(report: &Report) {
    let width = |text: fn(&Setting) -> &str| report.settings.iter().map(|s| text(s).len()).max().unwrap_or(0);
    let (options, values) = (width(|setting| &setting.option), width(Setting::shown).min(60));
    for setting in &report.settings {
        println!("{:options$}  {:values$}  {}", setting.option, setting.shown(), setting.origin);
    }
    println!();
    for Finding { level, about, message } in &report.findings {
        let level = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error | Level::Invalid => "error",
        };
        println!("{level:7}  {about}: {message}");
    }
}
