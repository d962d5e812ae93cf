//! `firn build`: one image, without a server.

use super::{Failure, builder::BuilderArgs, interrupt, progress_bar::Shown};
use crate::{
    audience::Client,
    build::{Builder, Request},
    output::Output,
};
use clap::Args;
use firn_shared::{
    naming::{image_name::ImageName, package::Words},
    oci::reference::Tag,
};
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// Name of the image, for example shell/git
    image: ImageName,

    /// Which version of the package set
    #[arg(long, default_value_t)]
    tag: Tag,

    /// Where to write the image: oci:DIR or docker-archive:FILE
    #[arg(long, value_name = "FORM:PATH")]
    output: Option<Output>,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    builder: BuilderArgs,
}

pub(super) fn run(args: &BuildArgs) -> Result<(), Failure> {
    interrupt::run(&args.builder, async |builder| build(args, builder).await)
}

async fn build(args: &BuildArgs, builder: Arc<Builder>) -> Result<(), Failure> {
    let mut shown = Shown::new("looking at the package set");
    // What the client of a registry would read is what the person at the terminal reads.
    let told = |error: &crate::build::BuildError| Failure::Error(error.explain(Words::Shown));
    let unreported = |error| Failure::unreported(&error);
    let set = builder.package_set(&args.tag, Client::NOBODY).await.map_err(unreported)?;
    let image = match builder.image(&args.image, &args.tag, &set, Client::NOBODY).await.map_err(unreported)? {
        Request::Ready(image) => image,
        Request::Building(waiting) => tokio::select! {
            image = waiting.outcome() => image.map_err(|error| told(&error))?,
            () = shown.follow(&waiting.progress) => unreachable!("it never ends by itself"),
        },
    };
    drop(shown);
    if let Some(output) = &args.output {
        let written = output.write(builder.store(), &image, args.tag.as_str()).await;
        written.map_err(|error| Failure::error(&error))?;
    }
    for path in &image.conflicts {
        eprintln!("firn: {path} of a package is not shown: another package has it, or it is the image's own");
    }
    if args.json {
        println!("{}", serde_json::to_string(&*image).expect("records serialise"));
    } else {
        println!("{}", image.oci.digest);
    }
    builder.completed().await;
    Ok(())
}
