//! From the mesh to the ECS: what the others did, applied before the frame's own systems run.

use std::sync::Arc;

use peerflock::{EntityId, Event, KindId, MeshTime, Orphan, PeerId, PeerMesh, Tick, Value, WorldEvent};

use crate::engine::{Entity, World};
use crate::entities::{Held, Known, MeshEntities, despawn, expire_awaited, resolve};
use crate::interpolate::{Moment, Playbacks, Samples};
use crate::messages::{self, Incoming};
use crate::ownership::{
    Adoptable, Giving, MeshEntity, Mine, Owner, OwnershipChanged, OwnershipPolicy, OwnershipRefused, OwnershipRequested,
    Replicated,
};
use crate::plugin::{self, MeshHandle};
use crate::presence::{MeshEvent, PeerEvent, Peers};
use crate::replicate::{Arrived, KindTable, Kinds, Parent};
use crate::send::Outbox;

/// Applies everything that happened since the last frame.
pub(crate) fn receive(world: &mut World) {
    let mesh = PeerMesh::clone(world.resource::<MeshHandle>());
    let intake = Intake { me: mesh.id(), now: mesh.now(), kinds: Kinds::table(world) };
    for event in mesh.try_events() {
        intake.event(world, event);
    }
    expire_awaited(world, intake.now);
    if mesh.is_closed() {
        // Somebody who holds the mesh beside us left it.
        plugin::leave(world);
    }
}

/// What one frame's events are read with.
struct Intake {
    me: PeerId,
    now: MeshTime,
    kinds: Arc<KindTable>,
}

impl Intake {
    fn event(&self, world: &mut World, event: Event) {
        match event {
            // Whoever we joined is announced by itself.
            Event::Joined => {}
            Event::Refused { address, reason } => {
                world.write_message(MeshEvent::Refused { address, reason });
            }
            Event::LockChanged { by } => {
                world.write_message(MeshEvent::LockChanged { by });
            }
            Event::WeWereRemoved { by } => {
                world.write_message(MeshEvent::Removed { by });
            }
            Event::PeerJoined { peer, profile } => {
                world.resource_mut::<Peers>().insert(peer, profile.clone());
                world.write_message(PeerEvent::Joined { peer, profile });
            }
            Event::PeerChanged { peer, profile } => {
                world.resource_mut::<Peers>().insert(peer, profile.clone());
                world.write_message(PeerEvent::Changed { peer, profile });
            }
            Event::PeerLeft { peer, farewell } => {
                self.take_back(world, peer);
                world.resource_mut::<Peers>().remove(peer);
                world.resource_mut::<Playbacks>().remove(peer);
                world.write_message(PeerEvent::Left { peer, farewell });
            }
            Event::Message { from, topic, private, payload } => {
                messages::receive(world, Incoming { from, topic, private, payload });
            }
            Event::OwnershipRequested { entity, peer } => {
                if let Some(entity) = world.resource::<MeshEntities>().entity(entity) {
                    world.write_message(OwnershipRequested { entity, peer });
                }
            }
            Event::OwnershipRefused { entity, refusal } => {
                // What is gone from here needs no refusal: the game has seen it go.
                if let Some(entity) = world.resource::<MeshEntities>().entity(entity) {
                    world.write_message(OwnershipRefused { entity, refusal });
                }
            }
            Event::World(event) => match event {
                WorldEvent::Appeared { entity, owner, orphan } => self.appeared(world, entity, owner, orphan),
                WorldEvent::Set { entity, kind, value, tick, at } => self.set(world, entity, kind, value, (tick, at)),
                WorldEvent::Unset { entity, kind } => self.unset(world, entity, kind),
                WorldEvent::Owner { entity, owner } => self.owned(world, entity, owner),
                WorldEvent::Vanished { entity } => vanished(world, entity),
            },
        }
    }

    fn appeared(&self, world: &mut World, id: EntityId, owner: PeerId, orphan: Orphan) {
        let known = world.resource_mut::<MeshEntities>().remove(id);
        if known.as_ref().is_some_and(|known| known.owner.is_some()) {
            tracing::debug!(%id, "an entity appeared twice");
        }
        let entity = known.map(|known| known.entity).filter(|entity| world.get_entity(*entity).is_ok());
        let entity = entity.unwrap_or_else(|| world.spawn_empty().id());
        world.resource_mut::<MeshEntities>().insert(id, Known::new(entity, owner, orphan));
        self.dress(world, entity, id, owner, orphan);
    }

    fn set(&self, world: &mut World, id: EntityId, kind: KindId, value: Value, (tick, at): (Tick, MeshTime)) {
        let Some(entry) = self.kinds.get(kind) else { return };
        let written = world.change_tick();
        let mut entities = world.resource_mut::<MeshEntities>();
        let Some((known, owner)) = entities.get_mut(id).and_then(|known| known.owner.map(|owner| (known, owner))) else { return };
        let (entity, mine) = (known.entity, owner == self.me);
        if !mine {
            known.hold(Held { kind, value: value.clone(), written });
        }
        if self.revive(world, id, entity) {
            return;
        }
        let moment = (entry.smooth && !mine).then(|| world.resource_mut::<Playbacks>().arrived(owner, tick, at, self.now));
        self.apply(world, entity, kind, &value, moment, (!mine).then_some(at));
        if mine {
            // The last word of the owner before us, behind the news that we are it.
            settle(world, entity);
        }
    }

    fn unset(&self, world: &mut World, id: EntityId, kind: KindId) {
        let mut entities = world.resource_mut::<MeshEntities>();
        let Some(known) = entities.get_mut(id).filter(|known| known.owner.is_some()) else { return };
        known.drop_held(kind);
        let entity = known.entity;
        if self.revive(world, id, entity) {
            return;
        }
        if let (Some(entry), Ok(mut here)) = (self.kinds.get(kind), world.get_entity_mut(entity)) {
            (entry.remove)(&mut here);
        }
    }

    fn owned(&self, world: &mut World, id: EntityId, owner: PeerId) {
        let mut entities = world.resource_mut::<MeshEntities>();
        let Some(known) = entities.get_mut(id).filter(|known| known.owner.is_some()) else { return };
        let was = known.owner.replace(owner);
        known.unconfirmed = false;
        let entity = known.entity;
        if self.revive(world, id, entity) || was == Some(owner) {
            return;
        }
        if owner == self.me {
            self.take_over(world, id, entity);
        } else if let Ok(mut here) = world.get_entity_mut(entity) {
            here.remove::<(Mine, Giving)>().insert(Owner(owner));
        }
        if let Some(from) = was {
            world.write_message(OwnershipChanged { entity, from, to: owner });
        }
    }

    /// The entity is ours: it goes on from what the mesh last said, whatever was done to it here in the meantime.
    fn take_over(&self, world: &mut World, id: EntityId, entity: Entity) {
        let mut entities = world.resource_mut::<MeshEntities>();
        let held = entities.get_mut(id).map(|known| std::mem::take(&mut known.held)).unwrap_or_default();
        for Held { kind, value, written } in held {
            let Some(entry) = self.kinds.get(kind) else { continue };
            if self.is_orphaned(world, kind, &value) {
                // Its parent is gone, and nobody but us can say now that it has none.
                world.resource_mut::<Outbox>().is_removed(entity, kind);
                continue;
            }
            let here = world.get_entity(entity).ok();
            let changed = here.and_then(|here| here.get_change_ticks_by_id(entry.component)).map(|ticks| ticks.changed);
            if entry.smooth || changed != Some(written) {
                self.apply(world, entity, kind, &value, None, None);
            }
        }
        settle(world, entity);
        if let Ok(mut here) = world.get_entity_mut(entity) {
            here.remove::<Samples>().insert((Owner(self.me), Mine::new()));
        }
    }

    /// Whether this says that the entity hangs on one that is not there.
    fn is_orphaned(&self, world: &World, kind: KindId, value: &Value) -> bool {
        let Value::Bytes { refs, .. } = value else { return false };
        let there = |id: &EntityId| world.resource::<MeshEntities>().entity(*id).is_some();
        Some(kind) == world.resource::<Kinds>().number_of::<Parent>() && !refs.iter().any(there)
    }

    /// What we gave to `peer` and the mesh never heard of is ours still.
    fn take_back(&self, world: &mut World, peer: PeerId) {
        let mut entities = world.resource_mut::<MeshEntities>();
        let lost: Vec<_> =
            entities.iter_mut().filter(|(_, known)| known.unconfirmed && known.owner == Some(peer)).map(|(id, _)| id).collect();
        for id in lost {
            self.owned(world, id, self.me);
        }
    }

    /// Spawns what the game despawned though it is not its own, with all that the mesh said of it. Whether that was so.
    fn revive(&self, world: &mut World, id: EntityId, gone: Entity) -> bool {
        if world.get_entity(gone).is_ok() {
            return false;
        }
        let entity = world.spawn_empty().id();
        let mut entities = world.resource_mut::<MeshEntities>();
        let Some((known, owner)) = entities.get_mut(id).and_then(|known| known.owner.map(|owner| (known, owner))) else {
            return false;
        };
        known.entity = entity;
        let (held, orphan) = (known.held.clone(), known.orphan);
        if owner == self.me {
            known.held.clear();
        }
        for held in held {
            self.apply(world, entity, held.kind, &held.value, None, Some(self.now));
        }
        self.dress(world, entity, id, owner, orphan);
        true
    }

    /// Marks an entity as what it is in the mesh.
    fn dress(&self, world: &mut World, entity: Entity, id: EntityId, owner: PeerId, orphan: Orphan) {
        if owner == self.me {
            settle(world, entity);
        }
        let Ok(mut here) = world.get_entity_mut(entity) else { return };
        here.insert((MeshEntity(id), Owner(owner), Replicated));
        if orphan == Orphan::Adopt {
            here.insert(Adoptable);
        }
        if id.policy() != peerflock::OwnershipPolicy::Ask {
            here.insert(OwnershipPolicy::from(id.policy()));
        }
        if owner == self.me {
            here.insert(Mine::new());
        }
    }

    fn apply(
        &self,
        world: &mut World,
        entity: Entity,
        kind: KindId,
        value: &Value,
        moment: Option<Moment>,
        at: Option<MeshTime>,
    ) {
        let Some(entry) = self.kinds.get(kind) else { return };
        let refs = match value {
            Value::Bytes { refs, .. } if !refs.is_empty() => resolve(world, refs, self.now),
            _ => Vec::new(),
        };
        let Ok(mut here) = world.get_entity_mut(entity) else { return };
        (entry.apply)(&mut here, Arrived { value, refs: &refs, moment, at });
    }
}

/// What the entity has now the mesh knows; what is changed from here on is news.
fn settle(world: &mut World, entity: Entity) {
    let now = world.change_tick();
    world.resource_mut::<Outbox>().is_known(entity, now);
    // Nothing that comes after, an observer's doing say, happens in the same tick.
    world.increment_change_tick();
}

fn vanished(world: &mut World, id: EntityId) {
    // Forgotten first: what happens to the entity now is not for the others to hear.
    if let Some(known) = world.resource_mut::<MeshEntities>().remove(id) {
        despawn(world, known.entity);
    }
}

#[cfg(test)]
mod tests {
    use peerflock::{Boot, Farewell, Registry};
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::PeerflockPlugin;
    use crate::engine::{App, ChildOf, Component};
    use crate::replicate::ReplicateAppExt;

    const ME: PeerId = PeerId([1; 32]);
    const PEER: PeerId = PeerId([2; 32]);

    #[derive(Component, Debug, Deserialize, PartialEq, Serialize)]
    struct Health(u32);

    /// A game without a mesh, and events from nowhere.
    struct Game {
        app: App,
        intake: Intake,
    }

    impl Game {
        fn new() -> Self {
            let mut app = App::new();
            app.add_plugins(PeerflockPlugin::manual()).replicate::<Health>();
            app.world_mut().resource_mut::<Kinds>().number(&mut Registry::default());
            let intake = Intake { me: ME, now: MeshTime(1_000_000), kinds: Kinds::table(app.world()) };
            Self { app, intake }
        }

        fn tell(&mut self, events: impl IntoIterator<Item = WorldEvent>) {
            for event in events {
                self.intake.event(self.app.world_mut(), Event::World(event));
            }
        }

        fn kind<C: crate::replicate::Codec>(&self) -> KindId {
            self.app.world().resource::<Kinds>().number_of::<C>().unwrap()
        }

        fn entity(&self, counter: u32) -> Option<Entity> {
            self.app.world().resource::<MeshEntities>().entity(id(counter))
        }

        fn set(&self, counter: u32, value: Value) -> WorldEvent {
            let kind = self.kind::<crate::replicate::Plain<Health>>();
            WorldEvent::Set { entity: id(counter), kind, value, tick: Tick(1), at: MeshTime(1) }
        }

        fn hang(&self, child: u32, parent: u32) -> WorldEvent {
            let (kind, value) = (self.kind::<Parent>(), Parent::value(id(parent)));
            WorldEvent::Set { entity: id(child), kind, value, tick: Tick(1), at: MeshTime(1) }
        }

        fn health(&self, counter: u32) -> Option<u32> {
            Some(self.app.world().get::<Health>(self.entity(counter)?)?.0)
        }
    }

    fn id(counter: u32) -> EntityId {
        EntityId { spawner: PEER, boot: Boot(1), counter }
    }

    fn appeared(counter: u32) -> WorldEvent {
        WorldEvent::Appeared { entity: id(counter), owner: PEER, orphan: Orphan::Vanish }
    }

    fn health(value: u32) -> Value {
        Value::bytes(peerflock::codec::encode(&Health(value)).unwrap())
    }

    #[test]
    fn what_means_nothing_does_nothing() {
        let mut game = Game::new();
        let broken = [vec![], vec![255; 9], vec![1, 2, 3]].map(|bytes| game.set(0, Value::bytes(bytes)));
        let unknown = game.set(7, health(1));
        let shapeless = game.set(0, Value::fields([1, 2].as_slice()));
        let kindless =
            WorldEvent::Set { entity: id(0), kind: KindId(200), value: health(1), tick: Tick(1), at: MeshTime(u64::MAX) };
        let first = game.set(0, health(5));
        game.tell([appeared(0), first, unknown, shapeless, kindless]);
        game.tell(broken);
        game.tell([
            WorldEvent::Unset { entity: id(0), kind: KindId(200) },
            WorldEvent::Unset { entity: id(7), kind: KindId(0) },
            WorldEvent::Owner { entity: id(7), owner: ME },
            WorldEvent::Vanished { entity: id(7) },
        ]);
        assert_eq!(game.health(0), Some(5));
        assert_eq!(game.app.world().resource::<MeshEntities>().len(), 1);
    }

    #[test]
    fn nobody_becomes_its_own_ancestor() {
        let mut game = Game::new();
        let hung = [game.hang(0, 1), game.hang(1, 2), game.hang(2, 0), game.hang(3, 3)];
        game.tell((0..4).map(appeared));
        game.tell(hung);
        let parent = |counter| {
            let parent = game.app.world().get::<ChildOf>(game.entity(counter)?)?.parent();
            (0..4).find(|counter| game.entity(*counter) == Some(parent))
        };
        assert_eq!([0, 1, 2, 3].map(parent), [Some(1), Some(2), None, None]);
    }

    #[test]
    fn a_parent_may_come_after_its_child() {
        let mut game = Game::new();
        let hung = game.hang(0, 1);
        game.tell([appeared(0), hung]);
        let parent = game.app.world().get::<ChildOf>(game.entity(0).unwrap()).unwrap().parent();
        assert_eq!(game.entity(1), None);
        game.tell([appeared(1)]);
        assert_eq!(game.entity(1), Some(parent));
        assert_eq!(game.app.world().get::<Owner>(parent), Some(&Owner(PEER)));
    }

    #[test]
    fn the_last_word_of_the_owner_before_us_may_come_after_the_news() {
        let mut game = Game::new();
        let (first, last) = (game.set(0, health(1)), game.set(0, health(2)));
        game.tell([appeared(0), first, WorldEvent::Owner { entity: id(0), owner: ME }, last]);
        assert_eq!(game.health(0), Some(2));
        assert!(game.app.world().get::<Mine>(game.entity(0).unwrap()).is_some());
    }

    #[test]
    fn what_we_ended_stays_ended() {
        let mut game = Game::new();
        let (first, late) = (game.set(0, health(1)), game.set(0, health(2)));
        game.tell([appeared(0), first, WorldEvent::Owner { entity: id(0), owner: ME }]);
        let entity = game.entity(0).unwrap();
        game.app.world_mut().despawn(entity);
        game.tell([late, WorldEvent::Owner { entity: id(0), owner: ME }]);
        assert_eq!(game.entity(0), None);
        assert_eq!(game.app.world_mut().query::<&Health>().iter(game.app.world()).count(), 0);
    }

    #[test]
    fn what_a_leaver_never_got_is_ours_still() {
        let mut game = Game::new();
        game.tell([appeared(0), appeared(1)]);
        // Given away just now, and the mesh has not said that it heard.
        game.app.world_mut().resource_mut::<MeshEntities>().get_mut(id(0)).unwrap().unconfirmed = true;
        let left = Event::PeerLeft { peer: PEER, farewell: Farewell::Lost };
        game.intake.event(game.app.world_mut(), left);
        let [given, theirs] = [0, 1].map(|counter| game.app.world().entity(game.entity(counter).unwrap()));
        assert!(given.contains::<Mine>() && given.get::<Owner>() == Some(&Owner(ME)));
        assert!(!theirs.contains::<Mine>());
    }
}
