//! Meshes whose members hold certificates, on the virtual network: real QUIC in virtual time.

use std::time::Duration;

use peerflock::test_utils::VirtualNetwork;
use peerflock::{
    Certificate, CloseReason, Conditioner, Event, Identity, MeshId, PeerMesh, PeerMeshBuilder, Revocations, StartError,
};

const NAME: &str = "club";

fn authority() -> Identity {
    Identity::from_seed([200; 32])
}

fn identity(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

fn certified(n: u8, by: &Identity, expires: Option<u64>) -> Certificate {
    Certificate::issue(by, &MeshId::from_name(NAME), identity(n).peer_id(), u64::from(n), expires)
}

fn builder(network: &VirtualNetwork, n: u8) -> PeerMeshBuilder {
    PeerMesh::named(NAME).identity(identity(n)).lan(false).socket(network.socket()).seed([n; 32])
}

async fn join(network: &VirtualNetwork, first: &PeerMesh, n: u8, certificate: Certificate) -> Result<PeerMesh, StartError> {
    builder(network, n).certificate(authority().peer_id(), certificate).join(first.ticket()).start().await
}

#[tokio::test(start_paused = true)]
async fn only_who_is_certified_comes_in_and_only_until_that_is_taken_back() {
    let network = VirtualNetwork::new(1, Conditioner::with_delay(Duration::from_millis(10)));
    let own = certified(1, &authority(), None);
    let first = builder(&network, 1).certificate(authority().peer_id(), own).start().await.unwrap();
    let second = join(&network, &first, 2, certified(2, &authority(), Some(u64::MAX))).await.unwrap();
    let third = join(&network, &first, 3, certified(3, &authority(), None)).await.unwrap();
    for (n, certificate) in [(4, certified(4, &identity(4), None)), (5, certified(5, &authority(), Some(1)))] {
        let refused = join(&network, &first, n, certificate).await;
        assert!(matches!(refused, Err(StartError::Refused { reason: CloseReason::Certificate, .. })), "{n}: {refused:?}");
    }
    let borrowed = join(&network, &first, 6, certified(2, &authority(), None)).await;
    assert!(matches!(borrowed, Err(StartError::OtherIdentity { .. })), "{borrowed:?}");
    // Without any, whoever knows the name knows another key.
    let stranger = builder(&network, 7).join(first.ticket()).start().await;
    assert!(matches!(stranger, Err(StartError::Refused { .. })), "{stranger:?}");
    assert_eq!(first.members().len(), 3);

    let mesh = MeshId::from_name(NAME);
    assert!(!first.revoke(Revocations::issue(&identity(4), &mesh, 1, [1]).unwrap()), "not by the authority");
    let list = Revocations::issue(&authority(), &mesh, 1, [3]).unwrap();
    // Whoever has it brings it in, the one concerned excepted.
    assert!(second.revoke(list.clone()) && !second.revoke(list));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((first.members().len(), second.members().len()), (2, 2));
    assert!(third.try_events().contains(&Event::WeWereRemoved { by: authority().peer_id() }));
    assert!(third.is_closed());
    let again = join(&network, &first, 3, certified(3, &authority(), None)).await;
    assert!(matches!(again, Err(StartError::Refused { .. })), "{again:?}");
}
