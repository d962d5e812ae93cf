//! What pulls cost: each kind of pull in each mode, on the planet.

use crate::edge::{
    Origin,
    planet::{Bill, Planet, Settings},
    pull::Puller,
    records::Records,
};
use firn_shared::{link::object_key::blob_key, oci::digest::Digest};
use std::time::Duration;

/// The number of layers of `shell/git` with 4 MB steps: what a client pulls that has nothing.
pub const LAYERS: usize = 58;
/// Longer than KV takes to show a value everywhere, also where a miss was cached meanwhile. Shorter than tags last.
const SPREAD: Duration = Duration::from_secs(125);

/// How blobs get to clients, and which clients there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `FIRN_BLOBS=backend`
    Backend,
    /// `FIRN_BLOBS=public`: redirects to a public bucket by the Worker.
    Public,
    /// The same, with a redirect rule before the Worker.
    PublicByRule,
    /// `FIRN_BLOBS=presigned`. Nothing is composed, because there is no S3 server here.
    Presigned,
    /// `FIRN_BLOBS=r2`: the Worker reads blobs from R2.
    R2,
    /// `FIRN_BLOBS=r2` for users only.
    PrivateR2,
    /// `FIRN_BLOBS=presigned` for users only.
    PrivatePresigned,
}

/// In which caches the image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In none. The backend has it.
    Cold,
    /// In the isolate that answers.
    WarmHere,
    /// In another isolate of the location.
    WarmLocation,
    /// At another location, for some minutes.
    WarmElsewhere,
    /// The tag's time is over, and it has not moved.
    Expired,
    /// In none, but the edge has the records of its packages. It has fewer layers than the other images.
    Composed,
}

/// What a pull cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// What Cloudflare charges for.
    pub bill: Bill,
    /// How many blobs the client was sent to the bucket or the backend for.
    pub redirects: u64,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Backend,
        Self::Public,
        Self::PublicByRule,
        Self::Presigned,
        Self::R2,
        Self::PrivateR2,
        Self::PrivatePresigned,
    ];

    /// What it is called where bills are printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Public => "public",
            Self::PublicByRule => "public, redirect rule",
            Self::Presigned => "presigned",
            Self::R2 => "r2",
            Self::PrivateR2 => "private, r2",
            Self::PrivatePresigned => "private, presigned",
        }
    }

    fn settings(self, settings: Settings) -> Settings {
        let settings = settings.with("FIRN_LOG", "misses");
        let presigned = |settings: Settings| {
            let settings =
                settings.with("FIRN_BLOBS", "presigned").with("FIRN_S3_ENDPOINT", "https://s3.example");
            let settings = settings.with("FIRN_S3_BUCKET", "firn").with("FIRN_S3_ACCESS_KEY_ID", "id");
            settings.with("FIRN_S3_SECRET_ACCESS_KEY", "key").with("FIRN_COMPOSE", "false")
        };
        let private = |settings: Settings| {
            let settings = settings.with("FIRN_ACCESS", "private").with("FIRN_USERS", "ann:secret");
            settings.with("FIRN_SECRET", "s3cret")
        };
        match self {
            Self::Backend => settings,
            Self::Public | Self::PublicByRule => {
                settings.with("FIRN_BLOBS", "public").with("FIRN_BLOBS_URL", "https://blobs.example")
            }
            Self::Presigned => presigned(settings),
            Self::R2 => settings.with("FIRN_BLOBS", "r2"),
            Self::PrivateR2 => private(settings).with("FIRN_BLOBS", "r2"),
            Self::PrivatePresigned => presigned(private(settings)),
        }
    }

    fn puller(self) -> Puller<'static> {
        Puller {
            credentials: matches!(self, Self::PrivateR2 | Self::PrivatePresigned)
                .then_some(("ann", "secret")),
            is_redirected: self == Self::PublicByRule,
        }
    }

    fn composes(self) -> bool {
        !matches!(self, Self::Presigned | Self::PrivatePresigned)
    }
}

impl Kind {
    /// What it is called where bills are printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::WarmHere => "warm here",
            Self::WarmLocation => "warm in the location",
            Self::WarmElsewhere => "warm elsewhere",
            Self::Expired => "tag expired",
            Self::Composed => "composed",
        }
    }
}

/// Pulls an image of [`LAYERS`] layers, and one that is composed, by all kinds of pulls in a mode.
///
/// # Panics
/// If a pull fails. The message of a failing test can have [`Planet::operations`] of the planet, which is returned.
pub async fn receipts(mode: Mode) -> (Vec<(Kind, Receipt)>, Planet) {
    let origin = Origin::start().await;
    origin.stack(LAYERS);
    let planet = Planet::start(mode.settings(Settings::new(&origin.named()))).await;
    let blobs = (0..LAYERS).map(Origin::layer).chain([b"config".to_vec()]);
    for blob in blobs {
        planet.put("r2", &blob_key(&Digest::of(&blob)), blob, None).await;
    }
    let (lhr, nrt) = (planet.at("lhr"), planet.at("nrt"));
    let puller = mode.puller();
    let mut receipts = Vec::new();
    let mut pull = async |kind, place, name| {
        let (bill, pulled) = planet.bill_for(puller.pull(place, name)).await;
        receipts.push((kind, Receipt { bill, redirects: pulled.redirects as u64 }));
    };
    pull(Kind::Cold, lhr.isolate(0), "shell/git").await;
    pull(Kind::WarmHere, lhr.isolate(0), "shell/git").await;
    pull(Kind::WarmLocation, lhr.isolate(1), "shell/git").await;
    planet.advance(SPREAD).await;
    pull(Kind::WarmElsewhere, nrt.isolate(0), "shell/git").await;
    // Longer than a tag lasts, shorter than the time after which it must be asked for again.
    planet.advance(Duration::from_secs(400)).await;
    pull(Kind::Expired, nrt.isolate(0), "shell/git").await;
    if mode.composes() {
        let records = Records::new();
        records.put_into_kv(&planet).await;
        for layer in records.layers() {
            planet.put("r2", &blob_key(&Digest::of(&layer)), layer, None).await;
        }
        pull(Kind::Composed, lhr.isolate(0), "git/jq").await;
    }
    (receipts, planet)
}
