//! A list of rooms, found by real multicast on loopback and at a real directory.

use std::collections::BTreeSet;
use std::time::Duration;

use peerflock::resolve::Browser;
use peerflock::{FoundMesh, Interface, Listing, PeerMesh, PeerMeshBuilder};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// A name that no other run of this test uses at the same time.
fn named(name: &str) -> PeerMeshBuilder {
    // With a secret: to stretch a password takes longer than to find anybody.
    PeerMesh::named(unique(name)).secret([7; 32]).loopback_only()
}

fn unique(name: &str) -> String {
    format!("{name} {}", std::process::id())
}

async fn all(builders: impl IntoIterator<Item = PeerMeshBuilder>) -> Vec<PeerMesh> {
    let starting: JoinSet<_> = builders.into_iter().map(PeerMeshBuilder::start).collect();
    starting.join_all().await.into_iter().map(Result::unwrap).collect()
}

async fn within(seconds: u64, what: &str, mut look: impl FnMut() -> bool) {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < Duration::from_secs(seconds), "{what}: not within {seconds} s");
        sleep(Duration::from_millis(10)).await;
    }
}

fn room(browser: &Browser, name: &str) -> Option<FoundMesh> {
    browser.snapshot().into_iter().find(|found| found.name == unique(name))
}

/// `cargo lab rooms` does this with 200 on a network of their own, and has figures.
#[tokio::test]
async fn two_dozen_rooms_are_in_the_list_and_a_crowded_one_is_announced_by_few() {
    const ROOMS: usize = 23;
    const CROWD: usize = 7;
    let listing = || Listing::new("Rooms").version("1.4").mode("Rome").players_max(8).data("level", "expert");
    let names: BTreeSet<String> = (0..ROOMS).map(|number| unique(&format!("room {number}"))).collect();
    let _rooms = all((0..ROOMS).map(|number| named(&format!("room {number}")).listing(listing()))).await;
    let mut crowd = all((0..CROWD).map(|_| named("crowd").listing(listing().players(2)))).await;
    let browser = Browser::start(Interface::Loopback).unwrap();
    within(5, "the whole list", || {
        let found: BTreeSet<String> = browser.snapshot().into_iter().map(|found| found.name).collect();
        names.is_subset(&found) && found.contains(&unique("crowd"))
    })
    .await;
    within(10, "all together", || crowd.iter().all(|mesh| mesh.members().len() == CROWD)).await;
    // Of seven, four go on, those with the smallest identifiers; the list shows the room all the same.
    let few = |crowd: &[PeerMesh]| {
        let mut members: Vec<_> = crowd.iter().map(PeerMesh::id).collect();
        members.sort();
        members.truncate(4);
        let mut hosts = room(&browser, "crowd").map(|found| found.hosts).unwrap_or_default();
        hosts.sort();
        hosts == members
    };
    within(40, "announced by four", || few(&crowd)).await;
    let found = room(&browser, "crowd").unwrap();
    assert_eq!((found.game.as_str(), found.version.as_str(), found.mode.as_str()), ("Rooms", "1.4", "Rome"));
    assert_eq!((found.players, found.players_max, found.locked), (2, 8, true), "the game counts its players itself");
    assert_eq!(found.data, [("level".to_owned(), "expert".to_owned())].into());
    // One of the four leaves: another takes its place.
    crowd.sort_by_key(PeerMesh::id);
    crowd.remove(0).leave().await;
    within(40, "announced by four again", || few(&crowd)).await;
    // Who comes now finds them, whoever announces.
    let late = named("crowd").require_members(true).start().await.unwrap();
    within(10, "a newcomer", || late.members().len() == CROWD).await;
}
