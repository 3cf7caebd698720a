//! TLS 1.3 with raw public keys (RFC 7250): both ends show a bare Ed25519 key and prove that they hold it.
//!
//! No certificate, no authority, no name: whoever a peer *is*, is its key. Whether a key may come in is decided later, by
//! the admission handshake inside the encrypted connection. No session tickets and no 0-RTT, so that every connection has a
//! fresh exporter and a fresh proof.

use std::any::Any;
use std::sync::Arc;

use peerflock_proto::{Identity, PeerId};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use zeroize::Zeroize;

/// What comes before an Ed25519 seed in its PKCS#8 form (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// What comes before an Ed25519 public key in its SPKI form (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The TLS of an endpoint that accepts, and of the same endpoint when it dials, for one application `protocol` (RFC 7301).
///
/// # Errors
/// When the TLS library refuses our own key or settings: nothing that a user could mend, yet no reason to crash.
pub(crate) fn configs(identity: &Identity, protocol: &[u8]) -> Result<(QuicServerConfig, QuicClientConfig), Error> {
    let provider = Arc::new(ring::default_provider());
    let key = Arc::new(certified_key(identity)?);
    let verifier = Arc::new(RawKeyVerifier { provider: provider.clone() });

    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.clone())
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key.clone())));
    server.alpn_protocols = vec![protocol.to_vec()];
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.max_early_data_size = 0;

    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)));
    client.alpn_protocols = vec![protocol.to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_early_data = false;
    client.enable_sni = false;

    let no_suite = |_| Error::General("the TLS provider lacks QUIC's initial cipher suite".into());
    Ok((QuicServerConfig::try_from(server).map_err(no_suite)?, QuicClientConfig::try_from(client).map_err(no_suite)?))
}

/// Whose key the other end proved, from [`quinn::Connection::peer_identity`].
pub(crate) fn proved_peer(identity: Option<Box<dyn Any>>) -> Option<PeerId> {
    let keys = identity?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let [spki] = keys.as_slice() else { return None };
    peer_of_spki(spki)
}

fn certified_key(identity: &Identity) -> Result<CertifiedKey, Error> {
    let mut seed = identity.seed();
    let mut pkcs8 = [PKCS8_PREFIX.as_slice(), &seed].concat();
    let key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
    seed.zeroize();
    pkcs8.zeroize();
    let spki = [SPKI_PREFIX.as_slice(), &identity.peer_id().0].concat();
    Ok(CertifiedKey::new(vec![CertificateDer::from(spki)], key?))
}

fn peer_of_spki(spki: &[u8]) -> Option<PeerId> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(PeerId)
}

/// Accepts any Ed25519 key whose holder signs the handshake with it, and nothing else.
#[derive(Debug)]
struct RawKeyVerifier {
    provider: Arc<CryptoProvider>,
}

impl RawKeyVerifier {
    fn check(key: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !intermediates.is_empty() || peer_of_spki(key).is_none() {
            return Err(CertificateError::BadEncoding.into());
        }
        Ok(())
    }

    fn verify(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for RawKeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for RawKeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_shown_is_the_peer() {
        let identity = Identity::from_seed([7; 32]);
        let key = certified_key(&identity).unwrap();
        assert_eq!(peer_of_spki(&key.cert[0]), Some(identity.peer_id()));
        assert_eq!(proved_peer(Some(Box::new(key.cert.clone()))), Some(identity.peer_id()));
        // What the TLS library will sign with is the same key.
        assert_eq!(key.key.public_key().unwrap().as_ref(), key.cert[0].as_ref());
    }

    #[test]
    fn other_encodings_are_nobody() {
        let good = [SPKI_PREFIX.as_slice(), &[9; 32]].concat();
        assert!(RawKeyVerifier::check(&CertificateDer::from(good.as_slice()), &[]).is_ok());
        for bad in [&good[..43], &[good.as_slice(), &[0]].concat(), &[0; 44]] {
            assert!(RawKeyVerifier::check(&CertificateDer::from(bad), &[]).is_err());
        }
        let spare = CertificateDer::from(good.as_slice());
        assert!(RawKeyVerifier::check(&spare, std::slice::from_ref(&spare)).is_err(), "a chain is no raw key");
        assert_eq!(proved_peer(None), None);
    }
}
