//! What strangers say at the door, and what those say whom a node dials: at each step of the handshake, anything.

use std::net::SocketAddr;
use std::time::Duration;

use peerflock_proto::sim::samples;
use peerflock_proto::{Candidate, Config, Identity, Input, LinkId, MeshId, MeshKey, Node, Output, PeerId, Time};

use super::{Script, Target, counted};

/// The first byte says who dials; then come the frames, each with its length before it.
pub const TARGET: Target = Target { name: "admission", seeds, start };

fn seeds() -> Vec<Vec<u8>> {
    let of = |wanted: &str| {
        let sample = samples::frames().into_iter().find(|(sort, _)| sort == wanted);
        counted(&sample.expect("there is one of each").1)
    };
    let (hello, share, confirm, welcome) = (of("Hello"), of("Share"), of("Confirm"), of("Welcome"));
    vec![
        [&[0], &hello[..], &confirm].concat(),
        [&[1], &share[..], &welcome].concat(),
        [&[0], &hello[..], &hello, &of("Presence"), &of("Keyframe")].concat(),
        [&[1], &welcome[..], &share].concat(),
    ]
}

fn start() -> Box<dyn FnMut(&[u8])> {
    let mut door = Door::new();
    Box::new(move |bytes| door.play(&mut Script(bytes)))
}

/// A node that nobody can convince: no frame here proves its password.
struct Door {
    node: Node,
    now: Time,
    visitors: u32,
}

impl Door {
    fn new() -> Self {
        let (mesh, now) = (MeshId::from_name("fuzz"), Time(0));
        let key = MeshKey::from_secret(mesh, [42; 32]);
        let node = Node::new(Config::default(), Identity::from_seed([1; 32]), key, [1; 32], now);
        Self { node, now, visitors: 0 }
    }

    fn play(&mut self, script: &mut Script<'_>) {
        self.visitors += 1;
        // Each comes from elsewhere, or all would soon be locked out.
        let [_, a, b, c] = self.visitors.to_be_bytes();
        let address = SocketAddr::from(([10, a, b, c], 7));
        let link = if script.byte().is_multiple_of(2) { self.node.accept(address, self.now).ok() } else { self.dialed(address) };
        let Some(link) = link else { return };
        let exporter = [7; 32];
        self.handle(Input::LinkUp { link, peer: PeerId([self.visitors as u8 | 1; 32]), address, exporter });
        while !script.is_over() {
            self.handle(Input::Frame { link, bytes: script.bytes().to_vec().into() });
        }
        assert!(!self.node.is_member_link(link), "nobody proved the password");
        self.handle(Input::LinkDown { link, reason: peerflock_proto::CloseReason::Transport });
    }

    /// The link to an address that the node was told of.
    fn dialed(&mut self, address: SocketAddr) -> Option<LinkId> {
        self.node.handle(Input::Candidates(vec![Candidate { address, peer: None }]), self.now);
        self.now = self.now + Duration::from_secs(1);
        self.node.handle_timeout(self.now);
        let mut dialed = None;
        while let Some(output) = self.node.poll_output() {
            if let Output::Dial { link, address: to, .. } = output {
                if to == address {
                    dialed = Some(link);
                } else {
                    self.node.handle(Input::DialFailed { link }, self.now);
                }
            }
        }
        dialed
    }

    fn handle(&mut self, input: Input) {
        self.node.handle(input, self.now);
        while let Some(output) = self.node.poll_output() {
            assert!(!matches!(output, Output::Admitted { .. }), "nobody proved the password");
        }
    }
}
