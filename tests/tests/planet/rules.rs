//! The platform has production's rules. These tests show them with the Worker's own behaviour, so that a rule that is
//! lost is noticed.

use firn_tests::edge::{
    Origin,
    planet::{Bill, Planet, Settings},
};
use std::time::Duration;

const TAG: &str = "/v2/shell/git/manifests/latest";

async fn pair(settings: impl FnOnce(Settings) -> Settings) -> (Planet, Origin) {
    let origin = Origin::start().await;
    let planet = Planet::start(settings(Settings::new(&origin.named()))).await;
    (planet, origin)
}

fn source(response: &reqwest::Response) -> &str {
    response.headers().get("x-firn-source").map_or("", |value| value.to_str().expect("text"))
}

/// A location that had a miss sees nothing for a minute. Others see what was written a minute later.
#[tokio::test]
async fn locations_see_what_is_written_a_minute_later() {
    let (planet, origin) = pair(|settings| settings).await;
    let (bill, response) = planet.bill_for(planet.at("lhr").isolate(0).get(TAG)).await;
    assert_eq!((response.status().as_u16(), source(&response)), (200, "backend"), "{}", planet.log());
    println!("{bill}\n{:#?}", planet.operations().await);
    assert_eq!(source(&planet.at("lhr").isolate(0).get(TAG).await), "backend");
    assert_eq!(source(&planet.at("nrt").isolate(0).get(TAG).await), "backend");
    planet.advance(Duration::from_secs(61)).await;
    for location in ["lhr", "nrt"] {
        assert_eq!(source(&planet.at(location).isolate(1).get(TAG).await), "kv", "{location}");
    }
    assert_eq!(origin.seen().len(), 1);
    let _ = Bill::default();
}
