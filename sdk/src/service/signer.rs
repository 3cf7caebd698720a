//! Who a service speaks for, where others pass on what it says.

use peerflock_proto::{Boot, Identity, MeshId, Node, PeerId};

/// One member in one of its lives, in one mesh, with the key that signs for it.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    pub(super) identity: Identity,
    pub(super) peer: PeerId,
    pub(super) mesh: MeshId,
    pub(super) boot: Boot,
}

impl Signer {
    /// The member that `node` is.
    pub(super) fn of(node: &Node) -> Self {
        Self { identity: node.identity().clone(), peer: node.peer_id(), mesh: node.mesh_id(), boot: node.boot() }
    }
}
