//! lightyear: its own links, channels and clock under `bevy_replicon`'s replication, over netcode and UDP.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use lightyear::netcode::client_plugin::NetcodeConfig as ClientConfig;
use lightyear::netcode::{Key, NetcodeClient};
use lightyear::prelude::client::{Client, ClientPlugins, Connect};
use lightyear::prelude::server::{NetcodeConfig as ServerConfig, NetcodeServer, ServerPlugins, ServerUdpIo, Start};
use lightyear::prelude::{
    AppComponentExt, Authentication, LastConfirmedInput, Link, LinkOf, LocalAddr, NetworkTarget, PeerAddr, Replicate,
    ReplicationReceiver, ReplicationSender, UdpIo,
};

use crate::Failure;
use crate::swarm::measure::{self, announce};
use crate::swarm::part::{Part, clock_micros};
use crate::swarm::scene::{self, Health, Stamp};

const PROTOCOL: u64 = 0;
/// Known to both ends, as netcode has it where no third party gives out tokens.
const KEY: Key = [7; 32];
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Plays one part: the server's, or with somebody to join a client's.
pub(super) fn play(part: &Part) -> Result<AppExit, Failure> {
    let join = part.join.as_ref().map(|place| place.parse::<SocketAddr>()).transpose();
    let join = join.map_err(|error| Failure::Unmet(format!("--join: {error}")))?;
    let tick_duration = Duration::from_secs_f64(1.0 / f64::from(part.hz));
    let mut app = scene::app(part, Replicate::to_clients(NetworkTarget::All));
    app.add_plugins((StatesPlugin, measure::plugin));
    // Plugins first, then what is replicated, then the link: lightyear says so.
    match join {
        None => app.add_plugins(ServerPlugins { tick_duration }),
        Some(_) => app.add_plugins(ClientPlugins { tick_duration }),
    };
    // Clients of 0.30.1 panic in `reset_input_rollback_tracker` without this, which only its plugins for inputs bring.
    app.init_resource::<LastConfirmedInput>();
    app.component::<Transform>().replicate();
    app.component::<Health>().replicate();
    app.component::<Stamp>().replicate();
    match join {
        None => app.add_systems(Startup, serve).add_systems(Update, invite).add_observer(welcome),
        Some(server) => app.add_systems(Startup, move |commands: Commands| connect(commands, server)),
    };
    Ok(app.run())
}

fn serve(mut commands: Commands) {
    let config = ServerConfig::default().with_protocol_id(PROTOCOL).with_key(KEY);
    let entity = commands.spawn((NetcodeServer::new(config), LocalAddr(ANY_PORT), ServerUdpIo::default())).id();
    commands.trigger(Start { entity });
}

/// Once the socket has its port.
fn invite(mut invited: Local<bool>, server: Query<&LocalAddr, With<ServerUdpIo>>) {
    if let Some(LocalAddr(address)) = server.iter().next().filter(|address| !*invited && address.0.port() != 0) {
        announce(&address.to_string());
        *invited = true;
    }
}

fn welcome(client: On<Add, LinkOf>, mut commands: Commands) {
    commands.entity(client.entity).insert(ReplicationSender);
}

fn connect(mut commands: Commands, server_addr: SocketAddr) -> Result {
    let authentication =
        Authentication::Manual { server_addr, client_id: clock_micros(), private_key: KEY, protocol_id: PROTOCOL };
    let client = NetcodeClient::new(authentication, ClientConfig::default())?;
    let link = (Client, Link::default(), LocalAddr(ANY_PORT), PeerAddr(server_addr));
    let entity = commands.spawn((link, ReplicationReceiver, client, UdpIo::default())).id();
    commands.trigger(Connect { entity });
    Ok(())
}
