//! What tags cost, and what happens everywhere when one moves.

use firn_shared::{
    link::tag_pointer::TagPointer,
    oci::{digest::Digest, media_type::ManifestFormat, reference::Tag},
};
use firn_tests::edge::{
    Origin,
    planet::{Planet, Settings},
};
use std::time::Duration;

const LOCATIONS: [&str; 2] = ["lhr", "nrt"];
const STEP: Duration = Duration::from_secs(5);

fn path(name: &str) -> String {
    format!("/v2/{name}/manifests/latest")
}

fn digest(name: &str, set: &str) -> String {
    Digest::of(&Origin::manifest(name, set, ManifestFormat::Oci)).to_string()
}

async fn served(planet: &Planet, location: &str, name: &str) -> String {
    let response = planet.at(location).get(&path(name)).await;
    assert_eq!(response.status(), 200, "{name} at {location}");
    response.headers()["docker-content-digest"].to_str().expect("text").to_owned()
}

/// How often the pointer of `latest` was written into KV.
async fn pointer_writes(planet: &Planet) -> usize {
    let key = TagPointer::key(&Tag::default()).to_string();
    let operations = planet.operations().await;
    operations.iter().filter(|line| line.contains("write") && line.contains(&key)).count()
}

/// All images of a tag change within a minute, but not at once, and the backend is asked for each of them once. Nobody
/// waits for that.
#[tokio::test]
async fn a_moved_tag_makes_no_herd() {
    let origin = Origin::start().await;
    let planet = Planet::start(Settings::new(&origin.named())).await;
    let names: Vec<String> = (0..24).map(|i| format!("image{i}")).collect();
    for location in LOCATIONS {
        for name in &names {
            assert_eq!(served(&planet, location, name).await, digest(name, "set-1"));
        }
    }
    planet.settle().await;
    assert_eq!(origin.seen().len(), names.len(), "each image was asked for once");
    let written = pointer_writes(&planet).await;
    assert_eq!(written, 1, "{:#?}", planet.operations().await);

    origin.move_to("set-2");
    planet.advance(Duration::from_secs(400)).await;
    let (mut asked, mut checks) = (Vec::new(), origin.checked().len());
    for _ in 0..30 {
        let before = origin.seen().len();
        for location in LOCATIONS {
            for name in &names {
                served(&planet, location, name).await;
            }
        }
        planet.settle().await;
        asked.push(origin.seen().len() - before);
        planet.advance(STEP).await;
    }
    for location in LOCATIONS {
        for name in &names {
            assert_eq!(served(&planet, location, name).await, digest(name, "set-2"), "{location}");
        }
    }
    assert_eq!(asked.iter().sum::<usize>(), names.len(), "each image was asked for once: {asked:?}");
    assert!(asked.iter().all(|asked| *asked <= names.len() / 3), "too many at once: {asked:?}");
    assert_eq!(pointer_writes(&planet).await, written + 1);
    checks = origin.checked().len() - checks;
    assert!(checks <= 2, "{checks} questions about the tag");
}

/// A tag that is pulled steadily, and does not move, costs no writes to KV.
#[tokio::test]
async fn what_has_not_changed_is_not_written() {
    let origin = Origin::start().await;
    let planet = Planet::start(Settings::new(&origin.named())).await;
    served(&planet, "lhr", "git").await;
    let (bill, ()) = planet
        .bill_for(async {
            for _ in 0..60 {
                planet.advance(Duration::from_secs(120)).await;
                for location in LOCATIONS {
                    served(&planet, location, "git").await;
                }
            }
        })
        .await;
    assert_eq!((bill.kv_writes, bill.rows_written), (0, 0), "{:#?}", planet.operations().await);
    // Two hours are 24 times the TTL. Each location asks the object at most twice in that time.
    assert!(bill.object_requests <= 2 * 2 * 24, "{bill:?}");
    assert!(origin.checked().len() <= 24, "{} questions", origin.checked().len());
    assert_eq!(origin.seen().len(), 1);
}

/// After a deployment, and after a while without any request, objects remember nothing.
#[tokio::test]
async fn a_reset_object_knows_what_it_has_written() {
    let origin = Origin::start().await;
    let planet = Planet::start(Settings::new(&origin.named())).await;
    served(&planet, "lhr", "git").await;
    planet.settle().await;
    // Until KV shows everywhere what was written.
    planet.advance(Duration::from_secs(61)).await;
    planet.deploy().await;
    origin.stop();
    assert_eq!(served(&planet, "nrt", "git").await, digest("git", "set-1"));
    assert_eq!(pointer_writes(&planet).await, 1);
}
