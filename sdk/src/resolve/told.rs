//! The resolver of what somebody was told: addresses by word of mouth, and tickets.

use std::net::SocketAddr;
use std::time::Duration;

use super::resolver::{Answer, Found, Registration, Resolver};
use super::ticket::Ticket;
use crate::link::canonical;

/// How often the addresses are tried again while nobody is there.
const AGAIN: Duration = Duration::from_secs(2);
/// What is told does not change.
const NEVER: Duration = Duration::from_secs(3_600);

/// Addresses and tickets that the player was given.
#[derive(Debug)]
pub(crate) struct Told(Vec<Found>);

impl Told {
    pub(crate) fn new(addresses: &[SocketAddr], tickets: &[Ticket]) -> Self {
        let told = addresses.iter().map(|address| Found::at(canonical(*address)));
        let invited = tickets.iter().map(|ticket| Found {
            peer: ticket.peer,
            addresses: ticket.addresses.iter().map(|address| canonical(*address)).collect(),
            beacon: None,
        });
        Self(told.chain(invited).collect())
    }

    /// How many addresses there are.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|found| found.addresses.len()).sum()
    }
}

impl Resolver for Told {
    fn name(&self) -> String {
        "the address or ticket given".into()
    }

    fn register<'a>(&'a self, _: &'a Registration) -> Answer<'a, Duration> {
        Box::pin(std::future::ready(Ok(NEVER)))
    }

    fn resolve<'a>(&'a self, _: &'a Registration) -> Answer<'a, Vec<Found>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }

    fn pace(&self, _: bool) -> Duration {
        AGAIN
    }
}
