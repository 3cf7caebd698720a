//! Records of peers: what a member says of itself, signed by it whatever it is; and tickets.

use peerflock::test_utils::ticket_survives;
use peerflock_proto::sim::{forge, samples};
use peerflock_proto::{Identity, Input};

use super::Target;
use super::node::Scene;

/// The first byte says whether the rest is the content of a presence or of a ticket, or a ticket as text.
pub const TARGET: Target = Target { name: "record", seeds, start };

const PRESENCE: u8 = 0;
const TICKET: u8 = 1;
const TEXT: u8 = 2;

fn seeds() -> Vec<Vec<u8>> {
    let presences = samples::frames().into_iter().filter_map(|(_, frame)| forge::presence_content(&frame));
    let presences = presences.map(|content| [&[PRESENCE], &content[..]].concat());
    // A name of three letters, no peer, one address of IPv4 and one of IPv6, and each lock.
    let address4 = [4, 127, 0, 0, 1, 0x11, 0x51];
    let address6 = [&[6][..], &[0; 15], &[1, 0x11, 0x51]].concat();
    let locks: [&[u8]; 3] = [&[0], &[1], &[&[2][..], &[7; 32]].concat()];
    let tickets = locks.map(|lock| [&[TICKET, 3], &b"abc"[..], &[0, 2], &address4, &address6, lock].concat());
    let text = [&[TEXT], &b"peerflock1anrgmyq"[..]].concat();
    presences.chain(tickets).chain([text]).collect()
}

fn start() -> Box<dyn FnMut(&[u8])> {
    let (mut scene, mut others) = (Scene::new(), 0_u64);
    Box::new(move |bytes| {
        let Some((sort, bytes)) = bytes.split_first() else { return };
        match *sort {
            PRESENCE => {
                // A member can say of itself what it likes, under as many keys as it likes.
                others += 1;
                let mut seed = [9; 32];
                seed[..8].copy_from_slice(&(others % 64).to_le_bytes());
                let somebody = Identity::from_seed(seed);
                let frame = forge::presence(&somebody, somebody.peer_id(), &scene.node(0).mesh_id(), bytes.to_vec().into());
                scene.hear(|link| Input::Frame { link, bytes: frame });
                scene.settle();
            }
            TICKET => assert!(ticket_survives(bytes), "a ticket that is read is written again as it was"),
            _ => {
                if let Ok(ticket) = String::from_utf8_lossy(bytes).parse::<peerflock::Ticket>() {
                    assert_eq!(ticket.to_string().parse(), Ok(ticket));
                }
            }
        }
    })
}
