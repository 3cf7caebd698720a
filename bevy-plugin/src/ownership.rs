//! Whose an entity is: the components that say so, and how it passes on.

use peerflock::{EntityId, OwnershipError, PeerId, PeerMesh, Refusal};

use crate::engine::{Commands, Component, DeferredWorld, Entity, EntityCommands, EntityWorldMut, HookContext, Message};
use crate::plugin::MeshHandle;

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

/// Beside [`Replicated`], from the spawn on: how others may become the owner of the entity. Without it, they have to ask.
///
/// It is the same for all peers, and for as long as the entity exists: added, changed or removed later it has no effect. Entities of
/// others have it as well, where it is not [`Ask`](Self::Ask).
#[derive(Clone, Copy, Component, Debug, Default, PartialEq, Eq)]
pub enum OwnershipPolicy {
    /// Whoever [asks](OwnershipCommandsExt::request_ownership) gets an answer by the owner's game, which reads [`OwnershipRequested`].
    #[default]
    Ask,
    /// Nobody who asks gets it. The owner may still [give it away](OwnershipCommandsExt::give_to).
    Refuse,
    /// The first who asks gets it.
    Grant,
    /// Whoever [seizes](OwnershipCommandsExt::seize) it has it: what passes from hand to hand faster than a question and its answer, a
    /// ball.
    Seize,
}

impl From<OwnershipPolicy> for peerflock::OwnershipPolicy {
    fn from(policy: OwnershipPolicy) -> Self {
        match policy {
            OwnershipPolicy::Ask => Self::Ask,
            OwnershipPolicy::Refuse => Self::Refuse,
            OwnershipPolicy::Grant => Self::Grant,
            OwnershipPolicy::Seize => Self::Seize,
        }
    }
}

impl From<peerflock::OwnershipPolicy> for OwnershipPolicy {
    fn from(policy: peerflock::OwnershipPolicy) -> Self {
        match policy {
            peerflock::OwnershipPolicy::Ask => Self::Ask,
            peerflock::OwnershipPolicy::Refuse => Self::Refuse,
            peerflock::OwnershipPolicy::Grant => Self::Grant,
            peerflock::OwnershipPolicy::Seize => Self::Seize,
        }
    }
}

/// A peer asks for an entity of ours: answer with [`answer_request`](OwnershipCommandsExt::answer_request) within five seconds, or it
/// is told that no answer came.
#[derive(Clone, Copy, Debug, Message, PartialEq, Eq)]
pub struct OwnershipRequested {
    /// Which.
    pub entity: Entity,
    /// Who.
    pub peer: PeerId,
}

/// An entity that we asked for, or wanted to seize, is not to be ours.
#[derive(Clone, Copy, Debug, Message, PartialEq, Eq)]
pub struct OwnershipRefused {
    /// Which.
    pub entity: Entity,
    /// Why.
    pub refusal: Refusal,
}

/// An entity passed from one peer to another: given, granted, seized, or adopted.
#[derive(Clone, Copy, Debug, Message, PartialEq, Eq)]
pub struct OwnershipChanged {
    /// Which.
    pub entity: Entity,
    /// Whose it was.
    pub from: PeerId,
    /// Whose it is.
    pub to: PeerId,
}

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

/// Hands entities over, asks for them, and takes them.
pub trait OwnershipCommandsExt {
    /// Makes the entity `peer`'s, with all that hangs on it, at the end of the fixed tick.
    ///
    /// Only an own entity can be given away: on another nothing happens but a warning in the log. A receiver that is not
    /// in the mesh (any more) makes [`MeshEvent::TransferFailed`](crate::MeshEvent::TransferFailed), and the entity stays ours.
    fn give_to(&mut self, peer: PeerId) -> &mut Self;

    /// Asks the owner for the entity. It becomes [`Mine`], or there is an [`OwnershipRefused`] for it; of two who ask at once, the
    /// first that the owner hears gets it.
    fn request_ownership(&mut self) -> &mut Self;

    /// Answers an [`OwnershipRequested`]: the entity is `peer`'s, or `peer` is told that it is not to be.
    fn answer_request(&mut self, peer: PeerId, grant: bool) -> &mut Self;

    /// Takes an entity that was spawned with [`OwnershipPolicy::Seize`]: all are told at once, and from the next frame on it is
    /// [`Mine`]. Where another peer does the same at the same time, one of the two keeps it, the same for all, and for the other
    /// there is an [`OwnershipChanged`]. What cannot be seized makes an [`OwnershipRefused`].
    fn seize(&mut self) -> &mut Self;
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

    fn request_ownership(&mut self) -> &mut Self {
        self.queue_silenced(|mut entity: EntityWorldMut<'_>| wish(&mut entity, |mesh, id| mesh.request_ownership(id).err()))
    }

    fn answer_request(&mut self, peer: PeerId, grant: bool) -> &mut Self {
        self.queue_silenced(move |entity: EntityWorldMut<'_>| {
            if let (Some(mesh), Some(id)) = (entity.world().get_resource::<MeshHandle>(), entity.get::<MeshEntity>()) {
                mesh.answer_request(id.0, peer, grant);
            }
        })
    }

    fn seize(&mut self) -> &mut Self {
        self.queue_silenced(|mut entity: EntityWorldMut<'_>| wish(&mut entity, |mesh, id| mesh.seize(id).err()))
    }
}

/// Tells the mesh that we would like to own an entity. Outside of a mesh there is nobody to tell: what is here is ours.
fn wish(entity: &mut EntityWorldMut<'_>, tell: impl FnOnce(&PeerMesh, EntityId) -> Option<OwnershipError>) {
    let (Some(mesh), Some(id)) = (entity.world().get_resource::<MeshHandle>(), entity.get::<MeshEntity>()) else { return };
    if let Some(error) = tell(mesh, id.0) {
        let here = entity.id();
        tracing::debug!(entity = %here, %error, "not to be ours");
        entity.world_scope(|world| {
            world.write_message(OwnershipRefused { entity: here, refusal: error.into() });
        });
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
