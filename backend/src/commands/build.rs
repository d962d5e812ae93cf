//! `firn build`: builds one image without a server.

use super::{Failure, builder::BuilderArgs, interrupt, progress_bar::Shown};
use crate::{
    commands::output::ImageOutput,
    images::{Builder, ImageStatus},
    store::ImageRecord,
    waiting::Client,
};
use clap::Args;
use firn_shared::{
    Digest,
    naming::{image_name::ImageName, package::Words, package_source::Revision},
    oci::{document::Descriptor, media_type::ManifestFormat, reference::Tag},
};
use serde::Serialize;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// Name of the image, for example shell/git
    image: ImageName,

    /// Version of the package set
    #[arg(long, default_value_t)]
    tag: Tag,

    /// Where to write the image: oci:DIR or docker-archive:FILE
    #[arg(long, value_name = "FORM:PATH")]
    output: Option<ImageOutput>,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    builder: BuilderArgs,
}

pub(super) fn run(args: &BuildArgs) -> Result<(), Failure> {
    interrupt::run(&args.builder, async |builder| build(args, builder).await)
}

/// Makes the image of this name, if it has not been made yet, and shows the progress.
///
/// # Errors
/// What a client of the registry would be told.
pub(super) async fn made(
    builder: &Arc<Builder>,
    name: &ImageName,
    tag: &Tag,
) -> Result<Arc<ImageRecord>, Failure> {
    let mut shown = Shown::new("looking at the package set");
    // The person at the terminal reads the same message as a client of the registry.
    let told = |error: &crate::images::BuildError| Failure::Error(error.explain(Words::Shown));
    let unreported = |error| Failure::unreported(&error);
    let set = builder.package_set(tag, Client::NOBODY).await.map_err(unreported)?;
    match builder.image(name, tag, &set, Client::NOBODY).await.map_err(unreported)? {
        ImageStatus::Ready(image) => Ok(image),
        ImageStatus::Building(waiting) => tokio::select! {
            image = waiting.outcome() => image.map_err(|error| told(&error)),
            () = shown.follow(&waiting.progress) => unreachable!("following the progress never ends by itself"),
        },
    }
}

async fn build(args: &BuildArgs, builder: Arc<Builder>) -> Result<(), Failure> {
    let image = made(&builder, &args.image, &args.tag).await?;
    if let Some(output) = &args.output {
        let written = output.write(builder.store(), &image, args.tag.as_str()).await;
        written.map_err(|error| Failure::error(&error))?;
    }
    for path in &image.conflicts {
        eprintln!("firn: {path} of a package is not shown: another package has it, or it is the image's own");
    }
    if args.json {
        println!("{}", serde_json::to_string(&Printed::of(&image)).expect("records serialise"));
    } else {
        println!("{}", image.digest());
    }
    builder.completed().await;
    Ok(())
}

/// What scripts are told of an image.
#[derive(Serialize)]
struct Printed<'a> {
    name: &'a str,
    revision: &'a Revision,
    oci: Option<PrintedDocument>,
    docker: Option<PrintedDocument>,
    conflicts: &'a [String],
}

#[derive(Serialize)]
struct PrintedDocument {
    digest: Digest,
    size: u64,
}

impl<'a> Printed<'a> {
    fn of(image: &'a ImageRecord) -> Self {
        let document = |format| {
            let Descriptor { digest, size, .. } = *image.document(format)?;
            Some(PrintedDocument { digest, size })
        };
        Self {
            name: &image.name,
            revision: &image.revision,
            oci: document(ManifestFormat::Oci),
            docker: document(ManifestFormat::Docker),
            conflicts: &image.conflicts,
        }
    }
}
