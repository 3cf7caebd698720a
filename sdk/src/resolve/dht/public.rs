//! Public meshes in the DHT: notes under keys that follow from the game's name and the day alone.
//!
//! There is room for few, and no order: whoever knows the game's name can write over any of them. A mesh looks for a place that is free.

use std::time::Duration;

use futures_lite::StreamExt;
use mainline::async_dht::AsyncDht;
use mainline::{MutableItem, SigningKey};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::{DAY_SECONDS, Dht, DhtOptions, LOOK_DEADLINE, NOTE_LASTS, days};
use crate::resolve::public::{self, Told};
use crate::resolve::{Interface, Registration, Rendezvous, ResolveError};
use crate::unix_time::unix_seconds;

/// Places for the meshes of one game and day.
const PLACES: u8 = 16;
/// Places that are looked at for a free one; the last is taken in any case.
const TRIES: u8 = 3;
/// From one place to the next that is tried: no divisor of how many there are.
const STEP: u8 = 5;
/// How long to look at one.
const FREE_DEADLINE: Duration = Duration::from_secs(2);
/// What seals are for.
const SERVICE: &str = "dht list";

/// Tells of our mesh.
pub(super) async fn tell(node: &AsyncDht, us: &Registration, now: u64) -> Result<(), ResolveError> {
    let game = public::rendezvous(&us.listing.game);
    let told = Told::of(us, us.addresses.clone(), now);
    let sealed = told.seal(&game, SERVICE).ok_or_else(|| ResolveError::Other("the note could not be sealed".into()))?;
    let mut number = us.mesh.0[1] % PLACES;
    for _ in 1..TRIES {
        let key = place(&game, now / DAY_SECONDS, number).verifying_key().to_bytes();
        let held = timeout(FREE_DEADLINE, async { node.get_mutable(&key, None, None).next().await }).await.ok().flatten();
        let other = held.and_then(|item| read(&game, item.value(), now)).is_some_and(|held| held.mesh() != us.mesh);
        if !other {
            break;
        }
        number = (number + STEP) % PLACES;
    }
    let item = MutableItem::new(place(&game, now / DAY_SECONDS, number), &sealed, i64::try_from(now).unwrap_or(i64::MAX), None);
    let put = node.put_mutable(item, None).await;
    put.map(drop)
        .map_err(|error| ResolveError::Other(format!("no machine of the DHT took our note: {error}. Check the connection")))
}

/// Reads the lists of some games, for somebody who plays in no mesh yet.
#[derive(Debug)]
pub(crate) struct Lookout {
    dht: Dht,
    interface: Interface,
    games: Vec<(String, Rendezvous)>,
}

impl Lookout {
    pub(crate) fn new(options: DhtOptions, interface: Interface, games: &[String]) -> Self {
        let games = games.iter().map(|game| (game.clone(), public::rendezvous(game))).collect();
        Self { dht: Dht::new(options), interface, games }
    }

    /// What is told there now, with the game that it is about.
    pub(crate) async fn look(&self) -> Result<Vec<(String, Told)>, ResolveError> {
        let node = self.dht.node(&self.interface).await?;
        let now = unix_seconds();
        let mut asked = JoinSet::new();
        for (index, (_, game)) in self.games.iter().enumerate() {
            for (day, number) in days(now).into_iter().flat_map(|day| (0..PLACES).map(move |number| (day, number))) {
                let (key, node) = (place(game, day, number).verifying_key().to_bytes(), node.clone());
                asked.spawn(async move { (index, node.get_mutable(&key, None, None).next().await) });
            }
        }
        let (mut found, until) = (Vec::new(), Instant::now() + LOOK_DEADLINE);
        while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
            let Ok((index, Some(item))) = answer else { continue };
            let (name, game) = &self.games[index];
            found.extend(read(game, item.value(), now).map(|told| (name.clone(), told)));
        }
        Ok(found)
    }
}

fn place(game: &Rendezvous, day: u64, number: u8) -> SigningKey {
    SigningKey::from_bytes(&game.topic(&format!("dht list place {number}"), day))
}

/// What a note says, if it makes sense and is not too old.
fn read(game: &Rendezvous, sealed: &[u8], now: u64) -> Option<Told> {
    let told = Told::open(game, SERVICE, sealed)?;
    (told.written <= now + super::DUSK_SECONDS && now.saturating_sub(told.written) <= NOTE_LASTS.as_secs()).then_some(told)
}
