//! `bevy_replicon` on renet: whole components of what changed, to each client, over netcode.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::SystemTime;

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_replicon::prelude::*;
use bevy_replicon_renet::netcode::{
    ClientAuthentication, NetcodeClientTransport, NetcodeServerTransport, ServerAuthentication, ServerConfig,
};
use bevy_replicon_renet::renet::ConnectionConfig;
use bevy_replicon_renet::{RenetChannelsExt, RenetClient, RenetServer, RepliconRenetPlugins};

use crate::Failure;
use crate::swarm::measure::{self, announce};
use crate::swarm::part::{Part, clock_micros};
use crate::swarm::scene::{self, Health, Stamp};

const PROTOCOL: u64 = 0;
/// More than a run has.
const CLIENTS_MAX: usize = 64;

/// Plays one part: the server's, or with somebody to join a client's.
pub(super) fn play(part: &Part) -> Result<AppExit, Failure> {
    let join = part.join.as_ref().map(|place| place.parse::<SocketAddr>()).transpose();
    let join = join.map_err(|error| Failure::Unmet(format!("--join: {error}")))?;
    let mut app = scene::app(part, Replicated);
    app.add_plugins((StatesPlugin, RepliconPlugins, RepliconRenetPlugins, measure::plugin))
        .replicate::<Transform>()
        .replicate::<Health>()
        .replicate::<Stamp>();
    match join {
        None => app.add_systems(Startup, serve),
        Some(server) => app.add_systems(Startup, move |commands: Commands, channels: Res<RepliconChannels>| {
            connect(commands, &channels, server)
        }),
    };
    Ok(app.run())
}

fn serve(mut commands: Commands, channels: Res<RepliconChannels>) -> Result {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    let config = ServerConfig {
        current_time: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?,
        max_clients: CLIENTS_MAX,
        protocol_id: PROTOCOL,
        authentication: ServerAuthentication::Unsecure,
        public_addresses: vec![address],
    };
    commands.insert_resource(RenetServer::new(connection(&channels)));
    commands.insert_resource(NetcodeServerTransport::new(config, socket)?);
    announce(&address.to_string());
    Ok(())
}

fn connect(mut commands: Commands, channels: &RepliconChannels, server_addr: SocketAddr) -> Result {
    let authentication =
        ClientAuthentication::Unsecure { client_id: clock_micros(), protocol_id: PROTOCOL, server_addr, user_data: None };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    commands.insert_resource(RenetClient::new(connection(channels)));
    commands.insert_resource(NetcodeClientTransport::new(now, authentication, socket)?);
    Ok(())
}

fn connection(channels: &RepliconChannels) -> ConnectionConfig {
    ConnectionConfig {
        server_channels_config: channels.server_configs(),
        client_channels_config: channels.client_configs(),
        ..Default::default()
    }
}
