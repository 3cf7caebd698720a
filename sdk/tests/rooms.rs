//! A list of rooms, found by real multicast on loopback and at a real directory.

use std::collections::BTreeSet;
use std::time::Duration;

use peerflock::directory::{DirectoryAddress, DirectoryLimits, DirectoryOptions, DirectoryService};
use peerflock::resolve::Browser;
use peerflock::{FoundMesh, Interface, Listing, PeerMesh, PeerMeshBuilder, StartError};
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

fn directory_options() -> DirectoryOptions {
    // Entries are renewed every second, so that the tests need not wait for long.
    let limits = DirectoryLimits { lifetime: Duration::from_secs(3), ..DirectoryLimits::default() };
    DirectoryOptions { listen: "127.0.0.1:0".parse().unwrap(), limits, ..DirectoryOptions::default() }
}

fn far(name: &str, directory: &DirectoryAddress, listing: Listing) -> PeerMeshBuilder {
    named(name).lan(false).directory(directory.clone()).listing(listing)
}

fn browser(game: &str, directory: &DirectoryAddress) -> Browser {
    Browser::builder(Interface::Loopback).lan(false).game(game).directory(directory.clone()).start().unwrap()
}

#[tokio::test]
async fn a_public_mesh_is_found_at_a_directory_joined_from_there_and_gone_when_it_ends() {
    let service = DirectoryService::start(directory_options()).await.unwrap();
    let directory = service.address("127.0.0.1");
    let listing = || Listing::new("Far").version("1.4").players_max(8).data("level", "expert").public(true);
    let public = far("public", &directory, listing().mode("Rome")).start().await.unwrap();
    let _private = far("private", &directory, listing().public(false)).start().await.unwrap();
    let _other_game = far("other", &directory, Listing::new("Near").public(true)).start().await.unwrap();
    let list = browser("Far", &directory);
    within(10, "found and measured", || room(&list, "public").is_some_and(|found| found.round_trip.is_some())).await;
    let found = room(&list, "public").unwrap();
    assert_eq!((found.game.as_str(), found.version.as_str(), found.mode.as_str()), ("Far", "1.4", "Rome"));
    assert_eq!((found.players, found.players_max, found.locked, found.public), (1, 8, true, true));
    assert_eq!((found.hosts, found.directories), (vec![public.id()], vec![directory.clone()]));
    assert_eq!(found.data, [("level".to_owned(), "expert".to_owned())].into());
    assert_eq!(list.snapshot().len(), 1, "neither what is not public nor another game");
    assert_eq!((list.troubles(), service.stats().entries), (vec![], 5));

    let found = room(&list, "public").unwrap();
    let stranger = PeerMesh::found(&found).secret([8; 32]).loopback_only().lan(false).start().await;
    assert!(matches!(stranger, Err(StartError::Refused { .. })), "{stranger:?}");
    let joined = PeerMesh::found(&found).secret([7; 32]).loopback_only().lan(false).start().await.unwrap();
    within(5, "joined", || joined.members().len() == 2 && public.members().len() == 2).await;

    public.set_listing(listing().mode("Paris"));
    within(20, "the change", || room(&list, "public").is_some_and(|found| found.mode == "Paris" && found.players == 2)).await;
    joined.leave().await;
    public.leave().await;
    within(20, "gone", || room(&list, "public").is_none()).await;
}

#[tokio::test]
async fn of_a_crowd_few_tell_the_directory_and_others_take_over() {
    let service = DirectoryService::start(directory_options()).await.unwrap();
    let directory = service.address("127.0.0.1");
    let listing = || Listing::new("Crowd").public(true);
    let mut crowd = all((0..5).map(|_| far("told by few", &directory, listing()))).await;
    within(10, "all together", || crowd.iter().all(|mesh| mesh.members().len() == 5)).await;
    let list = browser("Crowd", &directory);
    crowd.sort_by_key(PeerMesh::id);
    let told_by = |crowd: &[PeerMesh]| {
        let mut hosts = room(&list, "told by few").map(|found| found.hosts).unwrap_or_default();
        hosts.sort();
        hosts == [crowd[0].id(), crowd[1].id()]
    };
    within(30, "told by two", || told_by(&crowd)).await;
    crowd.remove(0).leave().await;
    within(30, "told by two again", || told_by(&crowd)).await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named_and_the_rest_is_found_all_the_same() {
    let nobody = DirectoryAddress::new("127.0.0.1", 9);
    let list = Browser::builder(Interface::Loopback).game("Near").directory(nobody).start().unwrap();
    let _near = named("near").listing(Listing::new("Near")).start().await.unwrap();
    within(10, "found nearby", || room(&list, "near").is_some()).await;
    within(10, "its trouble", || list.troubles().iter().any(|trouble| trouble.contains("127.0.0.1:9"))).await;
}
