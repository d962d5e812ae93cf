//! `firn layers`: explains the layers of an image.

use super::{Failure, builder::BuilderArgs, interrupt};
use crate::{images::Builder, waiting::Client};
use clap::Args;
use firn_shared::{naming::image_name::ImageName, oci::reference::Tag};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct LayersArgs {
    /// Name of the image, for example shell/git
    image: ImageName,

    /// Version of the package set
    #[arg(long, default_value_t)]
    tag: Tag,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    builder: BuilderArgs,
}

/// One row of the table: a layer.
#[derive(Debug, Serialize)]
struct Row {
    /// Digest of the blob, if it has been packed.
    digest: Option<String>,
    /// Size of the blob in bytes, if it has been packed.
    size: Option<u64>,
    /// NAR size of all members together, in bytes.
    nar_size: u64,
    /// Names of the members, largest first.
    paths: Vec<String>,
    /// Why the members are in one layer.
    why: String,
    /// The packages of the image that need the layer.
    packages: Vec<String>,
    /// The other images in the store that have the layer.
    shared_with: Vec<String>,
}

pub(super) fn run(args: &LayersArgs) -> Result<(), Failure> {
    let rows = interrupt::run(&args.builder, async |builder| rows(args, builder).await)?;
    let text = if args.json {
        serde_json::to_string(&rows).expect("texts and numbers serialise") + "\n"
    } else {
        table(&rows)
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader closed the pipe, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::error(&error)),
    }
}

fn table(rows: &[Row]) -> String {
    let width = |texts: &mut dyn Iterator<Item = usize>, least: usize| texts.max().unwrap_or(0).max(least);
    let store_paths =
        width(&mut rows.iter().map(|row| some(&row.paths).chars().count()), "store paths".len());
    let why = width(&mut rows.iter().map(|row| row.why.chars().count()), "why together".len());
    let packages = width(&mut rows.iter().map(|row| some(&row.packages).chars().count()), "brought by".len());
    let mut text = format!(
        "{:>3} {:>10} {:>10}  {:<store_paths$}  {:<why$}  {:<packages$}  shared with\n",
        "#", "NAR", "blob", "store paths", "why together", "brought by"
    );
    for (i, row) in rows.iter().enumerate() {
        let blob = row.size.map_or_else(|| "-".into(), mebibytes);
        let nar = mebibytes(row.nar_size);
        let reason = if row.paths.len() == 1 { "" } else { &row.why };
        let (brought, shared) = (some(&row.packages), some(&row.shared_with));
        let (number, paths) = (i + 1, some(&row.paths));
        writeln!(text, "{number:>3} {nar:>10} {blob:>10}  {paths:<store_paths$}  {reason:<why$}  {brought:<packages$}  {shared}")
            .expect("writing to a string");
    }
    text
}

/// The first of these names, and how many more there are.
fn some(names: &[String]) -> String {
    match names {
        [] => "-".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

async fn rows(args: &LayersArgs, builder: Arc<Builder>) -> Result<Vec<Row>, Failure> {
    let told = |error: crate::images::BuildError| Failure::unreported(&error);
    let set = builder.package_set(&args.tag, Client::NOBODY).await.map_err(told)?;
    let layers = builder.explain(&args.image, &set).await.map_err(told)?;
    let images = builder.images_by_layer().await.map_err(told)?;
    let own = args.image.to_string();
    Ok(layers.into_iter().map(|layer| row(layer, &images, &own)).collect())
}

fn row(
    layer: crate::images::ExplainedLayer,
    images: &HashMap<firn_shared::Digest, Vec<String>>,
    own: &str,
) -> Row {
    let record = layer.record.as_ref();
    let shared_with = record.and_then(|record| images.get(&record.digest)).cloned().unwrap_or_default();
    Row {
        digest: record.map(|record| record.digest.to_string()),
        size: record.map(|record| record.size),
        nar_size: layer.plan.nar_size,
        paths: layer.names,
        why: layer.why,
        packages: layer.packages,
        shared_with: shared_with.into_iter().filter(|image| image != own).collect(),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
