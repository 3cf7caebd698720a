//! Asking the router to let others in: a port of its own for our socket, by PCP (RFC 6887) or NAT-PMP (RFC 6886).
//!
//! Done beside everything else, so that nothing waits for a router that does not answer. What it promises is one more address at which
//! others can reach us, is renewed at half of its time, and given back when the mesh is left. Only routers of the networks in use are asked,
//! and of loopback there is none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crab_nat::{
    GatewayAddress, InternetProtocol, MappingFailure, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp,
    pcp,
};
use tokio::time::{Instant, timeout};

use super::gateway::{Gateway, gateways};
use crate::driver::Shared;
use crate::link::LinkEndpoint;
use crate::link::probe::{Arrived, SideDoor};
use crate::resolve::Interface;

/// For how long a port is asked for, in seconds: what a game that crashed leaves behind is gone after so long.
const LIFETIME_SECONDS: u32 = 1_200;
/// A promise for less than that is asked to be renewed no more often.
const RENEW_MIN: Duration = Duration::from_secs(30);
/// How often to see whether our networks, or our port, are others now.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A router that gave nothing is asked again after so long.
const AGAIN: Duration = Duration::from_secs(300);
/// A question goes out after 0, 250 and 750 ms, and is given up after 1,750.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};
/// How long leaving waits for the router to take its port back.
const WITHDRAW_DEADLINE: Duration = Duration::from_millis(400);

/// The task that keeps a port open on the router.
#[derive(Debug)]
pub(crate) struct Mapper {
    pub(crate) shared: Arc<Shared>,
    pub(crate) door: Arc<SideDoor>,
    pub(crate) endpoint: Weak<LinkEndpoint>,
    pub(crate) interface: Interface,
}

/// What a router promised.
#[derive(Debug)]
pub(super) struct Mapped {
    mapping: PortMapping,
    at: SocketAddr,
}

impl Mapper {
    /// Runs until the mesh is left.
    pub(crate) async fn run(self) {
        let mut held: Option<Mapped> = None;
        let (mut asked, mut next) = (None, Instant::now());
        loop {
            let work = async {
                tokio::time::sleep(LOOK_EVERY.min(next.saturating_duration_since(Instant::now()))).await;
                self.port().map(|port| (gateways(&self.interface), port))
            };
            let (routers, port) = tokio::select! {
                biased;
                () = self.shared.left() => break,
                work = work => match work {
                    Some(work) => work,
                    None => break,
                },
            };
            if asked.as_ref().is_none_or(|asked| *asked != (routers.clone(), port)) {
                // Another network, or another socket: the old promise is about nothing of ours any more.
                withdraw(held.take()).await;
                (asked, next) = (Some((routers.clone(), port)), Instant::now());
            }
            if Instant::now() < next {
                continue;
            }
            let renewed = tokio::select! {
                biased;
                () = self.shared.left() => break,
                renewed = renew(held.take(), &routers, port) => renewed,
            };
            next = Instant::now() + renewed.as_ref().map_or(AGAIN, Mapped::renew_after);
            let at = renewed.as_ref().map(|mapped| mapped.at);
            held = renewed;
            tracing::debug!(target: "peerflock::reach", ?at, ?routers, port, "port mapping");
            self.door.post(Arrived::Mapped { at });
        }
        withdraw(held).await;
    }

    /// The port of our socket. None once the mesh is left.
    fn port(&self) -> Option<NonZeroU16> {
        NonZeroU16::new(self.endpoint.upgrade()?.local_address().ok()?.port())
    }
}

impl Mapped {
    /// Where others reach us by it.
    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// By which protocol, for people.
    pub(super) fn by(&self) -> &'static str {
        match self.mapping.mapping_type() {
            PortMappingType::NatPmp => "NAT-PMP",
            PortMappingType::Pcp { .. } => "PCP",
        }
    }

    fn renew_after(&self) -> Duration {
        (Duration::from_secs(self.mapping.lifetime().min(LIFETIME_SECONDS).into()) / 2).max(RENEW_MIN)
    }

    /// Says again that we want it.
    async fn renew(self) -> Option<Self> {
        let mut mapping = self.mapping;
        mapping.renew().await.ok()?;
        let at = outside(&mapping).await?;
        Some(Self { mapping, at })
    }
}

/// Renews what was promised, or asks anew.
async fn renew(held: Option<Mapped>, routers: &[Gateway], port: NonZeroU16) -> Option<Mapped> {
    if let Some(mapped) = held
        && let Some(mapped) = mapped.renew().await
    {
        return Some(mapped);
    }
    for router in routers {
        if let Some(mapped) = map(*router, port).await {
            return Some(mapped);
        }
    }
    None
}

/// Asks one router for a port for ours.
pub(super) async fn map(router: Gateway, port: NonZeroU16) -> Option<Mapped> {
    let (gateway, own) = (GatewayAddress::IpV4(router.address), IpAddr::V4(router.own));
    let options = || PortMappingOptions {
        // The same number outside spares players a surprise.
        external_port: Some(port),
        lifetime_seconds: Some(LIFETIME_SECONDS),
        timeout_config: Some(PATIENCE),
    };
    let mapping = match PortMapping::new(gateway, own, InternetProtocol::Udp, port, options()).await {
        // Some that know only the older protocol say nothing to questions in the newer one.
        Err(MappingFailure::Pcp(pcp::Failure::Timeout)) => {
            natpmp::port_mapping(gateway, InternetProtocol::Udp, port, options()).await.map_err(MappingFailure::from)
        }
        other => other,
    };
    match mapping {
        Ok(mapping) => match outside(&mapping).await {
            Some(at) => Some(Mapped { mapping, at }),
            None => {
                give_back(mapping).await;
                None
            }
        },
        Err(error) => {
            tracing::debug!(target: "peerflock::reach", ?router, %error, "no port mapping");
            None
        }
    }
}

/// Where the router lets others in. None where that is no address of one machine.
async fn outside(mapping: &PortMapping) -> Option<SocketAddr> {
    let ip = match (mapping.mapping_type(), mapping.gateway()) {
        (PortMappingType::Pcp { external_ip, .. }, _) => external_ip.to_canonical(),
        (PortMappingType::NatPmp, gateway) => natpmp::external_address(gateway, Some(PATIENCE)).await.ok()?.into(),
    };
    Some(SocketAddr::new(ip, mapping.external_port().get())).filter(is_somewhere)
}

fn is_somewhere(at: &SocketAddr) -> bool {
    let ip = at.ip();
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) || at.port() == 0)
}

/// The router may take its port back.
pub(super) async fn withdraw(mapped: Option<Mapped>) {
    if let Some(Mapped { mapping, .. }) = mapped {
        give_back(mapping).await;
    }
}

async fn give_back(mapping: PortMapping) {
    // Who does not answer takes it back when its time is over.
    _ = timeout(WITHDRAW_DEADLINE, mapping.try_drop()).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::net::UdpSocket;

    use super::*;

    /// A router that knows NAT-PMP alone (RFC 6886), at an address of loopback. Remembers which ports are open, and for how long.
    async fn router(address: Ipv4Addr, outside: Ipv4Addr) -> Arc<Mutex<Vec<(u16, u32)>>> {
        let socket = UdpSocket::bind((address, crab_nat::GATEWAY_PORT)).await.unwrap();
        let open = Arc::new(Mutex::new(Vec::new()));
        let asked = open.clone();
        tokio::spawn(async move {
            let mut packet = [0; 1_100];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let answer = match &packet[..length] {
                    // PCP: there is version 0 only.
                    [2, ..] => vec![0, 128, 0, 1, 0, 0, 0, 9],
                    [0, 0] => [[0, 128, 0, 0, 0, 0, 0, 9].as_slice(), &outside.octets()].concat(),
                    [0, 1, _, _, inner @ .., _, _, _, _, _, _] if inner.len() == 2 => {
                        let port = u16::from_be_bytes([packet[4], packet[5]]);
                        let seconds = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
                        asked.lock().unwrap().push((port, seconds));
                        let external = if seconds == 0 { [0, 0] } else { 5_555_u16.to_be_bytes() };
                        [[0, 129, 0, 0, 0, 0, 0, 9].as_slice(), &packet[4..6], &external, &packet[8..12]].concat()
                    }
                    _ => continue,
                };
                _ = socket.send_to(&answer, from).await;
            }
        });
        open
    }

    // Only Linux has all of 127.0.0.0/8 on loopback without being told.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_router_opens_a_port_renews_it_and_takes_it_back() {
        let port = NonZeroU16::new(4_433).unwrap();
        let [address, own] = [[127, 77, 0, 1], [127, 0, 0, 1]].map(Ipv4Addr::from);
        let open = router(address, [192, 0, 2, 7].into()).await;
        let mapped = map(Gateway { address, own }, port).await.unwrap();
        assert_eq!((mapped.at().to_string().as_str(), mapped.by()), ("192.0.2.7:5555", "NAT-PMP"));
        assert_eq!(mapped.renew_after(), Duration::from_secs(u64::from(LIFETIME_SECONDS) / 2));
        let mapped = renew(Some(mapped), &[], port).await.unwrap();
        withdraw(Some(mapped)).await;
        let asked = open.lock().unwrap().clone();
        assert_eq!(asked, [(4_433, LIFETIME_SECONDS), (4_433, LIFETIME_SECONDS), (4_433, 0)]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_promise_of_nowhere_is_none_and_silence_is_not_waited_for_long() {
        let port = NonZeroU16::new(4_433).unwrap();
        let [address, own] = [[127, 77, 0, 2], [127, 0, 0, 1]].map(Ipv4Addr::from);
        let open = router(address, Ipv4Addr::UNSPECIFIED).await;
        assert!(map(Gateway { address, own }, port).await.is_none());
        assert_eq!(open.lock().unwrap().last(), Some(&(4_433, 0)), "it was given back");
        let _silent = UdpSocket::bind(("127.77.0.3", crab_nat::GATEWAY_PORT)).await.unwrap();
        let started = Instant::now();
        assert!(map(Gateway { address: [127, 77, 0, 3].into(), own }, port).await.is_none());
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    }
}
