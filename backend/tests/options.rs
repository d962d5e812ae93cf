//! What the docs say of options, beside what the program says: every option is documented, with its variable and its
//! default, and nothing is documented that is not there.

use clap::{Arg, Command, CommandFactory};
use firn_backend::commands::Cli;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Variables that are no options of a command: of logging, of the repository's own commands, and of the tests.
const OTHERS: [&str; 6] =
    ["FIRN_LOG", "FIRN_CACHE", "FIRN_EDGE_LISTEN", "FIRN_TEST_SEED", "FIRN_TEST_KILLS", "FIRN_S3_*"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The README and the operators' pages, by name.
fn docs() -> BTreeMap<String, String> {
    let folder = fs::read_dir(repository().join("docs")).expect("docs");
    let pages = folder.map(|entry| entry.expect("an entry").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let name = |path: PathBuf| format!("docs/{}", path.file_name().expect("a name").display());
    let names = pages.map(name).chain(["README.md".to_owned()]);
    names.map(|name| (name.clone(), read(name))).collect()
}

fn cli() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

fn variable(option: &Arg) -> Option<String> {
    option.get_env().map(|name| name.to_string_lossy().into_owned())
}

/// The default of each variable that is an option of a command; none where it has none.
fn defaults() -> BTreeMap<String, Option<String>> {
    let command = cli();
    let options = command.get_subcommands().flat_map(Command::get_arguments);
    let default =
        |option: &Arg| option.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    options.filter_map(|option| Some((variable(option)?, default(option)))).collect()
}

/// All words of a text that begin so and go on with characters that fit.
fn words<'a>(text: &'a str, start: &'a str, fits: fn(char) -> bool) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).map(move |(at, _)| {
        let rest = &text[at + start.len()..];
        &text[at..at + start.len() + rest.find(|c| !fits(c)).unwrap_or(rest.len())]
    })
}

fn variables(text: &str) -> impl Iterator<Item = &str> {
    words(text, "FIRN_", |c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_' || c == '*')
}

/// The variables of the edge, as it names them.
fn edge_variables() -> BTreeSet<String> {
    let code = read("edge/src/config.rs");
    let (code, _) = code.split_once("#[cfg(test)]").expect("it has tests");
    variables(code).map(str::to_owned).collect()
}

/// The cells of the rows of the tables that have these columns, in this order.
fn rows<'a>(page: &'a str, columns: &[&str]) -> Vec<Vec<&'a str>> {
    let cells = |line: &'a str| -> Option<Vec<&'a str>> {
        let cells = line.strip_prefix('|')?.strip_suffix('|')?;
        Some(cells.split(" | ").map(str::trim).collect())
    };
    let mut rows = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match cells(line.trim_end()) {
            None => inside = false,
            Some(cells) if cells == columns => inside = true,
            Some(cells) if inside && !cells[0].starts_with("--") => rows.push(cells),
            Some(_) => {}
        }
    }
    rows
}

#[test]
fn an_option_is_called_as_its_variable() {
    for command in cli().get_subcommands() {
        for option in command.get_arguments() {
            let (Some(long), Some(variable)) = (option.get_long(), variable(option)) else { continue };
            assert_eq!(variable, format!("FIRN_{}", long.to_uppercase().replace('-', "_")));
        }
    }
}

#[test]
fn the_readme_lists_every_variable() {
    let rows = rows(&read("README.md"), &["variable", "meaning", "default"])
        .iter()
        .flat_map(|row| variables(row[0]).map(str::to_owned).collect::<Vec<_>>())
        .collect::<BTreeSet<_>>();
    let expect: BTreeSet<_> = defaults().into_keys().chain(["FIRN_LOG".to_owned()]).collect();
    assert_eq!(rows, expect);
}

#[test]
fn documented_defaults_are_right() {
    let defaults = defaults();
    let mut checked = 0;
    for (name, page) in docs() {
        for row in rows(&page, &["variable", "meaning", "default"]) {
            let mut documented = row[2].split(", ").map(|text| text.trim_matches('`'));
            for variable in variables(row[0]).filter(|variable| *variable != "FIRN_LOG") {
                let documented = documented.next().unwrap_or_default();
                match &defaults[variable] {
                    Some(default) => assert_eq!(documented, default, "{name}: {variable}"),
                    None => assert!(documented.parse::<f64>().is_err(), "{name}: {variable} has no default"),
                }
                checked += 1;
            }
        }
        // In prose: `FIRN_X` (120 s).
        for (at, _) in page.match_indices("` (") {
            let variable = page[..at].rsplit('`').next().unwrap_or_default();
            let rest = &page[at + 3..];
            let number = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
            if let Some(default) = defaults.get(variable).filter(|_| !number.is_empty()) {
                assert_eq!(Some(number), default.as_deref(), "{name}: {variable}");
                checked += 1;
            }
        }
    }
    assert!(checked > defaults.len(), "only {checked} were found");
}

#[test]
fn nothing_is_documented_that_is_not_there() {
    let (defaults, edge) = (defaults(), edge_variables());
    for (name, page) in docs() {
        for variable in variables(&page) {
            let known = defaults.contains_key(variable) || edge.contains(variable);
            assert!(known || OTHERS.contains(&variable), "{name}: {variable}");
        }
    }
}

#[test]
fn documented_commands_have_their_options() {
    let command = cli();
    let mut checked = 0;
    for (name, page) in docs() {
        for line in page.lines() {
            for (at, _) in line.match_indices("firn ") {
                if line[..at].ends_with(|c: char| c.is_alphanumeric() || "/-.".contains(c)) {
                    continue;
                }
                // Up to where the command ends: with the code, or with another program.
                let code = line[at + 5..].split(['`', '|', '&', ';', '#']).next().unwrap_or_default();
                let (sub, rest) = code.split_once(' ').unwrap_or((code, ""));
                let Some(sub) = command.find_subcommand(sub) else { continue };
                for option in words(rest, "--", |c| c.is_ascii_lowercase() || c == '-') {
                    let known = sub.get_arguments().any(|arg| arg.get_long() == Some(&option[2..]));
                    assert!(known, "{name}: firn {} {option}", sub.get_name());
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 10, "only {checked} were found");
}

#[test]
fn the_edges_page_lists_every_variable() {
    let page = read("docs/deploy-edge.md");
    let missing: Vec<_> =
        edge_variables().into_iter().filter(|variable| !page.contains(&format!("`{variable}`"))).collect();
    assert_eq!(missing, [] as [String; 0]);
    let edge = edge_variables();
    for row in rows(&page, &["variable", "default", "meaning"]) {
        for variable in variables(row[0]) {
            assert!(edge.contains(variable) || OTHERS.contains(&variable), "{variable}");
        }
    }
}
