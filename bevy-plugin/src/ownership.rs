//! Whose an entity is: the components that say so, and how it passes on.

use peerflock::{EntityId, PeerId, PeerMesh};

use crate::engine::{Commands, Component, DeferredWorld, EntityCommands, EntityWorldMut, HookContext};

/// This entity is shared: everyone in the mesh sees it, and it is [`Mine`] where it was spawned.
///
/// Every component registered with [`replicate`](crate::ReplicateAppExt::replicate) that the entity has goes along, whenever
/// it changes. Taking the component away from an own entity makes it vanish for the others and stay here.
///
/// When its owner leaves, the entity vanishes, unless it was spawned [`Adoptable`].
#[derive(Clone, Copy, Component, Debug, Default, PartialEq, Eq)]
#[component(on_add = claim)]
pub struct Replicated;

/// Beside [`Replicated`], from the spawn on: should the owner leave, one of those who stay adopts the entity.
///
/// All peers find the same one without asking each other. Meant for what belongs to the world and not to a player: balls,
/// monsters, birds. Added later than the spawn it has no effect.
#[derive(Clone, Copy, Component, Debug, Default, PartialEq, Eq)]
pub struct Adoptable;

/// Whose a replicated entity is. Put there by the plugin, and kept up to date by it.
#[derive(Clone, Copy, Component, Debug, PartialEq, Eq, Hash)]
pub struct Owner(pub PeerId);

impl Owner {
    /// Whether we are the owner. In a query, `With<Mine>` says the same.
    pub fn is_me(&self, mesh: &PeerMesh) -> bool {
        self.0 == mesh.id()
    }
}

/// This entity is ours: what we change on it, everyone sees.
///
/// Put on and taken off by the plugin as ownership passes; `Query<.., (With<Replicated>, With<Mine>)>` is what a game moves.
/// An entity is ours from its spawn on, before there is a mesh even.
#[derive(Clone, Copy, Component, Debug)]
pub struct Mine(());

impl Mine {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

/// The number by which all peers mean the same entity; [`Entity`](bevy_ecs::entity::Entity) differs from peer to peer.
///
/// Put there by the plugin. Send this number in messages, and find the entity again with
/// [`MeshEntities::entity`](crate::MeshEntities::entity).
#[derive(Clone, Copy, Component, Debug, PartialEq, Eq, Hash)]
pub struct MeshEntity(pub EntityId);

/// Hands entities over.
pub trait OwnershipCommandsExt {
    /// Makes the entity `peer`'s, with all that hangs on it, at the end of the fixed tick.
    ///
    /// Only an own entity can be given away: on another nothing happens but a warning in the log. A receiver that is not
    /// in the mesh (any more) makes [`MeshEvent::TransferFailed`](crate::MeshEvent::TransferFailed), and the entity stays ours.
    fn give_to(&mut self, peer: PeerId) -> &mut Self;
}

impl OwnershipCommandsExt for EntityCommands<'_> {
    fn give_to(&mut self, peer: PeerId) -> &mut Self {
        // An entity despawned meanwhile needs no new owner.
        self.queue_silenced(move |mut entity: EntityWorldMut<'_>| {
            if entity.contains::<Mine>() {
                entity.insert(Giving(peer));
            } else {
                tracing::warn!(entity = %entity.id(), %peer, "only its owner can give an entity away; nothing happened");
            }
        })
    }
}

/// To be given to this peer at the end of the tick.
#[derive(Component)]
pub(crate) struct Giving(pub(crate) PeerId);

/// What is spawned here is ours; what the mesh sends comes with its owner in the same bundle.
fn claim(mut world: DeferredWorld<'_>, context: HookContext) {
    if world.get::<Owner>(context.entity).is_none() {
        let mut commands: Commands<'_, '_> = world.commands();
        commands.entity(context.entity).try_insert(Mine::new());
    }
}
