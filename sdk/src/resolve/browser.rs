//! All meshes that can be found, for a lobby: on the local network, and those that tell of themselves at directories and in the DHT.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peerflock_proto::{MeshId, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::interface::Interface;
use super::lan::Mdns;
use super::merge::merge;
use super::pinger::Pinger;
use super::public::Told;
use super::sighting::{Sighting, Sightings};
use super::{ResolveError, listing};
use crate::directory::{DirectoryAddress, Lookout};
use crate::sync::lock;

/// How often a directory is asked for its lists.
const DIRECTORY_EVERY: Duration = Duration::from_secs(5);
/// How often the DHT is: each look asks dozens of strangers' machines.
#[cfg(feature = "dht")]
const DHT_EVERY: Duration = Duration::from_secs(60);
/// Wait after the first failure; doubled by each further one.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Games whose public lists are read.
const GAMES_MAX: usize = 8;
/// Directories that are read.
const DIRECTORIES_MAX: usize = 8;
/// Lists that wait to be shown.
const LISTS_MAX: usize = 4;

/// One mesh, merged over all members that tell of it. Hearsay: only a link proves anything.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundMesh {
    /// What it calls itself.
    pub name: String,
    /// Which it is.
    pub mesh: MeshId,
    /// Which game is played there.
    pub game: String,
    /// Which version of it. Empty where nothing is said about it.
    pub version: String,
    /// Which of its modes, or which map. Empty where nothing is said about it.
    pub mode: String,
    /// How many play.
    pub players: usize,
    /// How many may. 0 says nothing about it.
    pub players_max: usize,
    /// Whether a password or a ticket is needed.
    pub locked: bool,
    /// What else the game says of it, within the limits of a [`Listing`](super::Listing).
    pub data: BTreeMap<String, String>,
    /// Whether it is told of [beyond the local network](super::Listing::public).
    pub public: bool,
    /// Where its members are.
    pub addresses: Vec<SocketAddr>,
    /// The time to the nearest member that answered and back, once measured.
    pub round_trip: Option<Duration>,
    /// Its members that tell of it.
    pub hosts: Vec<PeerId>,
    /// The directories at which it was found. Who joins by one gets through routers with its help, too.
    pub directories: Vec<DirectoryAddress>,
}

/// Keeps looking for meshes, in a thread of its own that ends with it. Needs no async runtime.
#[derive(Debug)]
pub struct Browser {
    shelf: Arc<Shelf>,
    /// Dropped with the browser, which tells the thread to end.
    _stop: oneshot::Sender<()>,
}

/// Sets up a [`Browser`]; [`start`](Self::start) starts it. From [`Browser::builder`].
#[derive(Clone, Debug)]
pub struct BrowserBuilder {
    interface: Interface,
    lan: bool,
    games: Vec<String>,
    directories: Vec<DirectoryAddress>,
    #[cfg(feature = "dht")]
    dht: Option<super::DhtOptions>,
}

/// What a browser shows.
#[derive(Debug, Default)]
struct Shelf {
    found: Mutex<Vec<FoundMesh>>,
    troubles: Mutex<BTreeMap<usize, String>>,
}

/// What one source told last.
#[derive(Debug, Default)]
struct Source {
    directory: Option<DirectoryAddress>,
    sightings: Vec<Sighting>,
}

/// What is told by a source: which, and what of which game, or why nothing.
type List = (usize, Result<Vec<(String, Told)>, ResolveError>);

impl Browser {
    /// Starts looking on the local network. The first meshes show up within a second.
    ///
    /// # Errors
    /// When the operating system refuses mDNS or a thread. Nothing is left behind then.
    pub fn start(interface: Interface) -> Result<Self, ResolveError> {
        Self::builder(interface).start()
    }

    /// A browser that looks further.
    ///
    /// ```no_run
    /// # use peerflock::Interface;
    /// # use peerflock::resolve::Browser;
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let browser = Browser::builder(Interface::All).game("Murmuration").directory("directory.example.org".parse()?).start()?;
    /// # Ok(()) }
    /// ```
    pub fn builder(interface: Interface) -> BrowserBuilder {
        BrowserBuilder {
            interface,
            lan: true,
            games: Vec::new(),
            directories: Vec::new(),
            #[cfg(feature = "dht")]
            dht: None,
        }
    }

    /// What there is now, by name.
    pub fn snapshot(&self) -> Vec<FoundMesh> {
        lock(&self.shelf.found).clone()
    }

    /// What does not work at the moment, in words for the player: a directory that does not answer, say. It is tried again by itself.
    pub fn troubles(&self) -> Vec<String> {
        lock(&self.shelf.troubles).values().cloned().collect()
    }
}

impl BrowserBuilder {
    /// Whether to look on the local network. On by default.
    pub fn lan(mut self, lan: bool) -> Self {
        self.lan = lan;
        self
    }

    /// A game whose public meshes to look for, by the name that it has in their [listings](super::Listing). Eight at most; on the local
    /// network all games are found.
    pub fn game(mut self, game: impl Into<String>) -> Self {
        let game = listing::line(game.into(), super::Listing::GAME_BYTES_MAX);
        if self.games.len() < GAMES_MAX && !self.games.contains(&game) {
            self.games.push(game);
        }
        self
    }

    /// A [directory](crate::directory) at which to look. Eight at most.
    pub fn directory(mut self, address: DirectoryAddress) -> Self {
        if self.directories.len() < DIRECTORIES_MAX && !self.directories.contains(&address) {
            self.directories.push(address);
        }
        self
    }

    /// Looks in BitTorrent's DHT, too. Needs the cargo feature `dht`.
    #[cfg(feature = "dht")]
    pub fn dht(mut self, options: super::DhtOptions) -> Self {
        self.dht = Some(options);
        self
    }

    /// Starts looking.
    ///
    /// # Errors
    /// When the operating system refuses a thread, or mDNS where there is no other place to look at. Nothing is left behind then.
    pub fn start(self) -> Result<Browser, ResolveError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shelf = Arc::new(Shelf::default());
        let mut mdns = None;
        if self.lan {
            match Mdns::open(&self.interface) {
                Ok(open) => mdns = Some(open),
                Err(error) if self.directories.is_empty() && !self.asks_dht() => return Err(error),
                Err(error) => _ = lock(&shelf.troubles).insert(usize::MAX, error.to_string()),
            }
        }
        let (stop, stopped) = oneshot::channel();
        let shown = shelf.clone();
        std::thread::Builder::new().name("peerflock-browser".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    // Dropping the other end is the message.
                    _ = stopped => {}
                    () = self.look(mdns, &shown) => {}
                }
            });
        })?;
        Ok(Browser { shelf, _stop: stop })
    }

    async fn look(self, mut mdns: Option<Mdns>, shelf: &Shelf) {
        let mut nearby = Sightings::new(self.interface.clone());
        let (tell, mut lists) = mpsc::channel(LISTS_MAX);
        // Ends with us.
        let (mut sources, _looking) = self.look_elsewhere(&tell);
        let mut pinger = Pinger::default();
        loop {
            let due = pinger.due();
            let mut news = true;
            tokio::select! {
                biased;
                () = pinger.answer() => news = false,
                event = hear(&mut mdns) => drop(nearby.hear(event)),
                Some((number, list)) = lists.recv() => self.take(&mut sources, number, list, shelf),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    pinger.ask(Instant::now());
                    news = false;
                }
            }
            let mut shown = lock(&shelf.found);
            if news {
                let far = sources.iter().flat_map(|source| source.sightings.iter().map(|told| (told, source.directory.as_ref())));
                *shown = merge(far.chain(nearby.by_age().into_iter().map(|sighting| (sighting, None))));
                pinger.keep(shown.iter().map(|mesh| (mesh.mesh, mesh.addresses.as_slice())), Instant::now());
            }
            shown.iter_mut().for_each(|mesh| mesh.round_trip = pinger.round_trip(&mesh.mesh));
        }
    }

    /// Starts a task for each place beyond the local network.
    fn look_elsewhere(&self, tell: &mpsc::Sender<List>) -> (Vec<Source>, JoinSet<()>) {
        let (mut sources, mut looking) = (Vec::new(), JoinSet::new());
        for address in &self.directories {
            let mut lookout = Lookout::new(address.clone(), self.interface.clone(), &self.games);
            let (number, tell) = (sources.len(), tell.clone());
            looking.spawn(async move {
                let mut failures = 0;
                loop {
                    let list = lookout.look().await;
                    let pause = pause(&mut failures, list.is_ok(), DIRECTORY_EVERY);
                    if tell.send((number, list)).await.is_err() {
                        return;
                    }
                    sleep(pause).await;
                }
            });
            sources.push(Source { directory: Some(address.clone()), ..Source::default() });
        }
        #[cfg(feature = "dht")]
        if let Some(options) = &self.dht {
            let lookout = super::dht::Lookout::new(options.clone(), self.interface.clone(), &self.games);
            let (number, tell) = (sources.len(), tell.clone());
            looking.spawn(async move {
                let mut failures = 0;
                loop {
                    let list = lookout.look().await;
                    let pause = pause(&mut failures, list.is_ok(), DHT_EVERY);
                    if tell.send((number, list)).await.is_err() {
                        return;
                    }
                    sleep(pause).await;
                }
            });
            sources.push(Source::default());
        }
        (sources, looking)
    }

    fn take(&self, sources: &mut [Source], number: usize, list: Result<Vec<(String, Told)>, ResolveError>, shelf: &Shelf) {
        let Some(source) = sources.get_mut(number) else { return };
        match list {
            Ok(list) => {
                source.sightings = list.iter().filter_map(|(game, told)| told.sighting(game, &self.interface)).collect();
                lock(&shelf.troubles).remove(&number);
            }
            // What was told before may still be there.
            Err(error) => _ = lock(&shelf.troubles).insert(number, error.to_string()),
        }
    }

    #[cfg(feature = "dht")]
    fn asks_dht(&self) -> bool {
        self.dht.is_some()
    }

    #[cfg(not(feature = "dht"))]
    fn asks_dht(&self) -> bool {
        false
    }
}

/// How long until the next look.
fn pause(failures: &mut u32, worked: bool, every: Duration) -> Duration {
    *failures = if worked { 0 } else { *failures + 1 };
    if worked { every } else { RETRY.saturating_mul(1 << (*failures - 1).min(5)).min(RETRY_MAX) }
}

async fn hear(mdns: &mut Option<Mdns>) -> mdns_sd::ServiceEvent {
    match mdns {
        Some(mdns) => mdns.hear().await,
        None => std::future::pending().await,
    }
}

/// Looks for meshes on the local network for as long as `for_how_long`. Two seconds find what there is.
///
/// # Errors
/// When the operating system refuses mDNS or a thread.
pub async fn browse(interface: Interface, for_how_long: Duration) -> Result<Vec<FoundMesh>, ResolveError> {
    let browser = Browser::start(interface)?;
    sleep(for_how_long).await;
    Ok(browser.snapshot())
}
