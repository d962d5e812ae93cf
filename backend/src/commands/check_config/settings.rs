//! The value of each option, and where it comes from.

use super::{Finding, Level};
use crate::{
    commands::{Cli, builder::BuilderArgs, caches},
    config::{Alias, nixery_variables},
    store::is_variable_of,
};
use clap::{ArgMatches, CommandFactory, parser::ValueSource};
use firn_shared::naming::source_url::SourceUrl;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// One option and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Setting {
    /// As on the command line, with dashes.
    pub(super) option: String,
    /// Its environment variable.
    variable: Option<String>,
    /// Its value. None if it has none. Never a secret.
    pub(super) value: Option<String>,
    pub(super) origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub(super) enum Origin {
    /// The command line.
    Option,
    /// An environment variable with this name.
    Variable(String),
    /// An environment variable of Nixery with this name.
    Nixery(String),
    /// The option was not set.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option => f.write_str("command line"),
            Self::Variable(name) => f.write_str(name),
            Self::Nixery(name) => write!(f, "{name} (Nixery's)"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Setting {
    /// The value as it is printed.
    pub(super) fn shown(&self) -> &str {
        self.value.as_deref().unwrap_or("-")
    }
}

/// Variables that are not options: for logging, and for the commands of Firn's repository.
const OTHER_VARIABLES: [&str; 3] = ["FIRN_LOG", "FIRN_CACHE", "FIRN_EDGE_LISTEN"];

/// Variables of Nixery that have no counterpart in Firn, and the reason.
const NOT_TAKEN_OVER: [(&str, &str); 2] = [
    ("GCS_SIGNING_KEY", "Firn does not sign URLs of buckets"),
    ("GCS_SIGNING_ACCOUNT", "Firn does not sign URLs of buckets"),
];

/// Options whose value is a URL that may contain credentials. Without the credentials it is not secret.
const URLS: [&str; 5] = ["channels_url", "flake", "pkgs_repo", "popularity_url", "profile"];

/// All options of this command, in the order of `--help`.
pub(super) fn effective(matches: &ArgMatches, aliases: &[Alias]) -> Vec<Setting> {
    let command = Cli::command();
    let command = command.find_subcommand("check-config").expect("the command that is running");
    let options = command.get_arguments().filter(|arg| arg.get_env().is_some());
    options
        .map(|arg| {
            let id = arg.get_id().as_str();
            let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
            let raw = matches.get_raw(id).map(|values| {
                values.map(|value| value.to_string_lossy().into_owned()).collect::<Vec<_>>().join(",")
            });
            let alias = aliases.iter().find(|alias| Some(alias.firn) == variable.as_deref());
            let origin = match (matches.value_source(id), alias, &variable) {
                (Some(ValueSource::CommandLine), ..) => Origin::Option,
                (Some(ValueSource::EnvVariable), _, Some(name)) => Origin::Variable(name.clone()),
                (Some(ValueSource::DefaultValue), Some(alias), _) => Origin::Nixery(alias.nixery.into()),
                _ => Origin::Default,
            };
            // `--help` hides the values of these options. Here a URL is shown without its credentials.
            let hidden = arg.is_hide_env_values_set() && !URLS.contains(&id);
            let value = raw.map(|value| match id {
                "caches" => caches::names(&value),
                _ if hidden => "(set)".to_owned(),
                _ => redact(&value),
            });
            let option = arg.get_long().map_or_else(|| id.to_owned(), |long| format!("--{long}"));
            Setting { option, variable, value, origin }
        })
        .collect()
}

/// Fills in the defaults that depend on the machine or on other options.
pub(super) fn compute_defaults(settings: &mut [Setting], args: &BuilderArgs) {
    for setting in settings.iter_mut().filter(|setting| setting.value.is_none()) {
        setting.value = match setting.option.as_str() {
            "--storage" => args.storage.storage_url().ok(),
            "--platform" => Some(args.platform().to_string()),
            "--revisions" => {
                args.source.source().ok().map(|(_, revisions)| format!("{revisions:?}").to_lowercase())
            }
            _ => None,
        };
    }
}

/// The variables that configure access to the bucket. Their values are not shown: any of them may be secret.
pub(super) fn of_bucket(environment: &[String], args: &BuilderArgs) -> Vec<Setting> {
    let Ok(url) = args.storage.storage_url() else { return Vec::new() };
    let mut names: Vec<_> = environment.iter().filter(|name| is_variable_of(&url, name)).collect();
    names.sort_unstable();
    let setting = |name: &String| Setting {
        option: "(storage)".to_owned(),
        variable: Some(name.clone()),
        value: Some("(set)".to_owned()),
        origin: Origin::Variable(name.clone()),
    };
    names.into_iter().map(setting).collect()
}

/// If the value is a URL: the value without its credentials.
fn redact(text: &str) -> String {
    let url = SourceUrl::from(text);
    if url.has_credentials() { format!("{url} (credentials are not shown)") } else { text.to_owned() }
}

/// Warnings about variables that are set but have no effect.
pub(super) fn misunderstandings(environment: &[String], aliases: &[Alias]) -> Vec<Finding> {
    let command = Cli::command();
    let options: BTreeSet<String> = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()))
        .collect();
    let is_set = |name: &str| environment.iter().any(|set| set == name);
    let warning = |message: String| Finding::new(Level::Warning, "environment", message);
    let unknown = environment.iter().filter(|name| {
        let known = options.contains(*name) || OTHER_VARIABLES.contains(&name.as_str());
        name.starts_with("FIRN_") && !name.starts_with("FIRN_TEST_") && !known
    });
    let unknown = unknown.map(|name| {
        let near = firn_shared::naming::nearest::nearest(name, options.iter().map(String::as_str), 1);
        let hint = near.first().map_or_else(String::new, |near| format!("; did you mean {near}?"));
        warning(format!("{name} is set, but Firn has no such variable{hint}"))
    });
    let overruled = nixery_variables().filter(|(nixery, firn)| {
        is_set(nixery) && is_set(firn) && !aliases.iter().any(|alias| alias.nixery == *nixery)
    });
    let overruled =
        overruled.map(|(nixery, firn)| warning(format!("{nixery} has no effect: {firn} is set too")));
    let left = NOT_TAKEN_OVER.iter().filter(|(name, _)| is_set(name));
    let left = left.map(|(name, instead)| warning(format!("{name} has no effect: {instead}")));
    let findings: Vec<_> = unknown.chain(overruled).chain(left).collect();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::with_nixery_aliases;

    #[test]
    fn urls_lose_their_secrets() {
        let check = |text: &str, expect: &str| assert_eq!(redact(text), expect);
        check("https://example.org/pkgs", "https://example.org/pkgs");
        check("https://me:token@example.org/pkgs", "https://example.org/pkgs (credentials are not shown)");
        check("https://example.org/x?token=1", "https://example.org/x (credentials are not shown)");
        check("file:///srv/a@b", "file:///srv/a@b");
        check("127.0.0.1:8080", "127.0.0.1:8080");
    }

    #[test]
    fn says_where_values_come_from() {
        let (command, aliases) =
            with_nixery_aliases(Cli::command(), |name| (name == "NIX_TIMEOUT").then(|| "60".to_owned()));
        let line = ["firn", "check-config", "--pkgs-repo", "https://u:p@example.org/p", "--secret", "s3cret"];
        let matches = command.get_matches_from(line);
        let matches = matches.subcommand_matches("check-config").expect("this command");
        let settings = effective(matches, &aliases);
        let find = |option: &str| settings.iter().find(|s| s.option == option).expect("an option").clone();
        assert_eq!(
            find("--pkgs-repo").value.as_deref(),
            Some("https://example.org/p (credentials are not shown)")
        );
        assert_eq!(find("--pkgs-repo").origin, Origin::Option);
        assert_eq!(find("--secret").value.as_deref(), Some("(set)"));
        assert_eq!(find("--nix-timeout").value.as_deref(), Some("60"));
        assert_eq!(find("--nix-timeout").origin, Origin::Nixery("NIX_TIMEOUT".into()));
        assert_eq!(find("--wait").value.as_deref(), Some("25"));
        assert_eq!(find("--wait").origin, Origin::Default);
        assert!(!serde_json::to_string(&settings).expect("JSON").contains("s3cret"));
    }

    #[test]
    fn takes_over_the_bucket_that_nixery_uses() {
        let storage = |backend: &str| {
            let variables =
                [("NIXERY_STORAGE_BACKEND", backend), ("GCS_BUCKET", "snow"), ("STORAGE_PATH", "/x")];
            let read = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            let (command, aliases) = with_nixery_aliases(Cli::command(), read);
            let matches = command.get_matches_from(["firn", "check-config", "--pkgs-path", "/"]);
            let settings =
                effective(matches.subcommand_matches("check-config").expect("this command"), &aliases);
            settings.into_iter().find(|setting| setting.option == "--storage").expect("an option").value
        };
        assert_eq!(storage("gcs").as_deref(), Some("gs://snow"));
        assert_eq!(storage("filesystem").as_deref(), Some("file:///x"));
    }

    #[test]
    fn points_at_variables_that_do_nothing() {
        let set = [
            "FIRN_LISTN",
            "FIRN_LOG",
            "FIRN_TEST_PACKAGES",
            "HOME",
            "PORT",
            "FIRN_LISTEN",
            "GCS_SIGNING_KEY",
        ];
        let set = set.map(str::to_owned);
        let messages: Vec<_> = misunderstandings(&set, &[]).into_iter().map(|f| f.message).collect();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(messages[0].contains("FIRN_LISTN") && messages[0].ends_with("did you mean FIRN_LISTEN?"));
        assert!(messages[1].contains("PORT has no effect"));
        assert!(messages[2].contains("GCS_SIGNING_KEY has no effect"));
    }
}
