//! `firn search`: searches the names of packages.

use super::{Failure, builder::BuilderArgs, interrupt};
use crate::{images::Builder, waiting::Client};
use clap::Args;
use firn_shared::oci::reference::Tag;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    /// What to look for: a name, a part of a name, or a similar name
    word: String,

    /// Version of the package set
    #[arg(long, default_value_t)]
    tag: Tag,

    /// Maximum number of names to print, the most likely ones first
    #[arg(long, value_name = "N", default_value_t = 25)]
    limit: usize,

    /// Print the result as JSON: [{"name": what to ask for, "attribute": its spelling in the set}], with "version",
    /// "main_program" and "description" where a server has collected them
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    builder: BuilderArgs,
}

pub(super) fn run(args: &SearchArgs) -> Result<(), Failure> {
    interrupt::run(&args.builder, async |builder| search(args, builder).await)
}

async fn search(args: &SearchArgs, builder: Arc<Builder>) -> Result<(), Failure> {
    let set = builder.package_set(&args.tag, Client::NOBODY).await;
    let set = set.map_err(|error| Failure::unreported(&error))?;
    let index = builder.packages().names(&set.revision, args.builder.platform()).await.ok_or_else(|| {
        Failure::Error("cannot list the names of the package set; the log above says why".into())
    })?;
    let found = index.nearest(&args.word, args.limit);
    if args.json {
        println!("{}", serde_json::to_string(&found).expect("names serialise"));
    } else {
        let width = found.iter().map(|found| found.name.as_str().len()).max().unwrap_or(0);
        for found in &found {
            // The spelling in the package set is printed only if it differs.
            let attribute = Some(&found.attribute).filter(|attribute| *attribute != found.name.as_str());
            let summary = &found.summary;
            let known = [attribute, summary.version.as_ref(), summary.description.as_ref()];
            let known: Vec<_> = known.into_iter().flatten().map(String::as_str).collect();
            println!("{}", format!("{:width$}  {}", found.name, printable(&known.join("  "))).trim_end());
        }
    }
    if found.is_empty() {
        return Err(Failure::Error(format!(
            "none of the {} names is similar to {:?}",
            index.len(),
            args.word.chars().take(80).collect::<String>()
        )));
    }
    Ok(())
}

/// The text in one line, without control characters: a package set is not trusted to leave the terminal alone.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
