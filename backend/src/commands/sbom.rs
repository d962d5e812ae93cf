//! `firn sbom`: prints what is in an image, as a bill of materials.

use super::{Failure, build::made, builder::BuilderArgs, interrupt};
use crate::images::Builder;
use clap::{Args, ValueEnum};
use firn_shared::{contents::DocumentKind, naming::image_name::ImageName, oci::reference::Tag};
use std::io::Write as _;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct SbomArgs {
    /// Name of the image, for example shell/git. It is built if it has not been built yet
    image: ImageName,

    /// Version of the package set
    #[arg(long, default_value_t)]
    tag: Tag,

    /// Format of the bill of materials
    #[arg(long, value_enum, default_value_t = FormatArg::Cyclonedx)]
    format: FormatArg,

    #[command(flatten)]
    builder: BuilderArgs,
}

/// A format of bills of materials.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    /// CycloneDX 1.6, as JSON
    Cyclonedx,
    /// SPDX 2.3, as JSON
    Spdx,
}

pub(super) fn run(args: &SbomArgs) -> Result<(), Failure> {
    let document = interrupt::run(&args.builder, async |builder| document(args, builder).await)?;
    let mut output = std::io::stdout();
    match output.write_all(&document).and_then(|()| output.write_all(b"\n")) {
        // The reader closed the pipe, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::error(&error)),
    }
}

async fn document(args: &SbomArgs, builder: Arc<Builder>) -> Result<Vec<u8>, Failure> {
    let kind = match args.format {
        FormatArg::Cyclonedx => DocumentKind::CycloneDx,
        FormatArg::Spdx => DocumentKind::Spdx,
    };
    let image = made(&builder, &args.image, &args.tag).await?;
    let document = builder.document(&args.image, &image.revision, &image.digest(), kind).await;
    let document = document.map_err(|error| Failure::unreported(&error))?;
    builder.completed().await;
    document.ok_or_else(|| {
        Failure::Error(format!(
            "{} is there, but what is on record of its packages now is not what the image was made from: one of its \
             store paths was built again with other bytes. Images that are built from now on have those",
            args.image
        ))
    })
}
