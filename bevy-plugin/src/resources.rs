//! Resources that the mesh shares: each lives on an entity of one owner, and is everybody's to read.
//!
//! The entity is an ordinary one, adopted when its owner leaves. Who has the resource and sees no such entity spawns one; of
//! several the one with the lowest [`EntityId`] counts, and the others' owners despawn theirs. Who comes to a mesh waits a moment
//! before it spawns one, so that what is there already is known by then.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use peerflock::{EntityId, Shape, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{
    App, ChangeTick, Component, Entity, EntityWorldMut, First, FixedLast, Has, IntoScheduleConfigs, Query, QueryState, Resource,
    With, World,
};
use crate::ownership::{Adoptable, MeshEntity, Mine, Replicated};
use crate::plugin::{MeshHandle, PeerflockSystems};
use crate::presence::MeshEvent;
use crate::receive;
use crate::replicate::{Arrived, Codec, EncodeError, NameOf, Sending, decode, encode};
use crate::send::Steps;

/// How long one has to be in a mesh before one spawns what nobody there seems to have.
const LOOKING_AROUND: Duration = Duration::from_secs(2);

/// On the entity on which a [shared resource](crate::ReplicateAppExt::replicate_resource) lives: one of the mesh's, adoptable.
/// Put there by the plugin.
///
/// Who owns this entity owns the resource:
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_peerflock::prelude::*;
/// # #[derive(Resource)]
/// # struct Round;
/// fn pass_on(mut commands: Commands, round: Query<Entity, (With<SharedResource<Round>>, With<Mine>)>, peers: Res<Peers>) {
///     let (Ok(round), Some((somebody, _))) = (round.single(), peers.iter().next()) else { return };
///     commands.entity(round).give_to(somebody);
/// }
/// # bevy_ecs::system::assert_is_system(pass_on);
/// ```
#[derive(Component)]
pub struct SharedResource<R: Resource> {
    /// The resource as the mesh knows it, and the entities here that it refers to. None: not said yet.
    said: Option<(Value, Vec<Entity>)>,
    of: PhantomData<fn() -> R>,
}

impl<R: Resource> SharedResource<R> {
    const fn new(said: Option<(Value, Vec<Entity>)>) -> Self {
        Self { said, of: PhantomData }
    }
}

impl<R: Resource> fmt::Debug for SharedResource<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedResource").field(&self.said.as_ref().map(|(value, _)| value)).finish()
    }
}

/// A condition for systems: whether a shared resource is ours to change.
///
/// Before there is a mesh, and in the first moments in one, it is nobody's.
pub fn owns_resource<R: Resource>(entities: Query<'_, '_, (), (With<SharedResource<R>>, With<Mine>)>) -> bool {
    !entities.is_empty()
}

/// Shares `R`.
pub(crate) fn register<R: Resource + Serialize + DeserializeOwned>(app: &mut App, sending: Sending) {
    crate::replicate::register::<Carried<R>>(app, sending);
    if app.world().contains_resource::<State<R>>() {
        return;
    }
    app.insert_resource(State::<R>::default());
    app.add_systems(First, settle::<R>.after(receive::receive).in_set(PeerflockSystems::Receive))
        .add_systems(FixedLast, (claim::<R>.in_set(Steps::Claim), fill::<R>.in_set(Steps::Fill)));
}

/// The component, as the mesh sees it.
struct Carried<R>(PhantomData<fn() -> R>);

impl<R: Resource> Codec for Carried<R> {
    type Component = SharedResource<R>;
    const SHAPE: Shape = Shape::Bytes;

    fn encode(component: &SharedResource<R>, _name_of: NameOf<'_>) -> Result<Option<Value>, EncodeError> {
        Ok(component.said.as_ref().map(|(value, _)| value.clone()))
    }

    fn apply(entity: &mut EntityWorldMut<'_>, arrived: Arrived<'_>) {
        entity.insert(SharedResource::<R>::new(Some((arrived.value.clone(), arrived.refs.to_vec()))));
    }
}

/// What is known of one shared resource between frames.
#[derive(Resource)]
struct State<R: Resource> {
    /// Since when there is a mesh.
    since: Option<Instant>,
    /// The entity that counted in the last frame, whether it was ours, and what it said.
    shown: Option<(EntityId, bool, Option<Value>)>,
    /// When the resource was written last, as far as the mesh knows.
    written: Option<ChangeTick>,
    of: PhantomData<fn() -> R>,
}

impl<R: Resource> Default for State<R> {
    fn default() -> Self {
        Self { since: None, shown: None, written: None, of: PhantomData }
    }
}

type Carriers<R> = QueryState<(Entity, Option<&'static MeshEntity>, Has<Mine>), With<SharedResource<R>>>;

/// Which entity counts, and what it says, becomes the resource; of ours, those that do not count go.
fn settle<R: Resource + Serialize + DeserializeOwned>(world: &mut World, carriers: &mut Carriers<R>) {
    let here = world.contains_resource::<MeshHandle>();
    let counts = carriers.iter(world).filter_map(|(entity, id, mine)| Some((id?.0, entity, mine))).min_by_key(|(id, ..)| *id);
    // Announced to nobody: a mesh that we left had it, and the resource stays without one.
    let spare: Vec<Entity> = carriers
        .iter(world)
        .filter(|(entity, _, mine)| *mine && counts.is_none_or(|(_, counts, _)| counts != *entity))
        .map(|(entity, ..)| entity)
        .collect();
    for entity in spare {
        _ = world.try_despawn(entity);
    }
    let was = if here { world.resource::<State<R>>().shown.clone() } else { None };
    let said = counts.and_then(|(_, entity, _)| world.get::<SharedResource<R>>(entity)).and_then(|carrier| carrier.said.clone());
    let value = said.as_ref().map(|(value, _)| value.clone());
    let shown = counts.map(|(id, _, mine)| (id, mine, value)).filter(|_| here);
    let known = world.resource::<State<R>>().written;
    let touched = world.get_resource_change_ticks::<R>().map(|ticks| ticks.changed) != known;
    match (&was, &shown) {
        // Its owner removed it.
        (Some((_, false, _)), None) => {
            world.remove_resource::<R>();
        }
        // New, of another entity than before, or ours from now on, while here it was changed to something else.
        (was, Some((id, mine, value))) if was.as_ref() != shown.as_ref() => {
            let same = was.as_ref().is_some_and(|(was, _, before)| (was, before) == (id, value));
            let came = if *mine { was.as_ref().is_some_and(|(was, mine, _)| was == id && !mine) && touched } else { !same };
            if let (true, Some((value, refs))) = (came, said)
                && let Some(resource) = decode::<R>(&value, &refs)
            {
                world.insert_resource(resource);
                let written = world.get_resource_change_ticks::<R>().map(|ticks| ticks.changed);
                world.resource_mut::<State<R>>().written = written;
            }
        }
        _ => {}
    }
    let mut state = world.resource_mut::<State<R>>();
    state.shown = shown;
    match (here, state.since) {
        (true, None) => state.since = Some(Instant::now()),
        (false, Some(_)) => state.since = None,
        _ => {}
    }
}

/// What nobody has gets an entity to live on.
fn claim<R: Resource>(world: &mut World, carriers: &mut QueryState<(), With<SharedResource<R>>>) {
    let looked_around = world.resource::<State<R>>().since.is_some_and(|since| since.elapsed() >= LOOKING_AROUND);
    if looked_around && world.contains_resource::<R>() && carriers.iter(world).next().is_none() {
        world.spawn((Replicated, Adoptable, SharedResource::<R>::new(None)));
    }
}

/// What the game did to a resource of ours goes to its entity.
fn fill<R: Resource + Serialize + DeserializeOwned>(
    world: &mut World,
    ours: &mut QueryState<Entity, (With<SharedResource<R>>, With<Mine>)>,
) {
    let Some(entity) = ours.iter(world).next() else { return };
    let Some(resource) = world.get_resource::<R>() else {
        _ = world.try_despawn(entity);
        return;
    };
    let written = world.get_resource_change_ticks::<R>().map(|ticks| ticks.changed);
    let carrier = world.get::<SharedResource<R>>(entity);
    let is_said = carrier.is_some_and(|carrier| carrier.said.is_some());
    if is_said && written == world.resource::<State<R>>().written {
        return;
    }
    let encoded = encode(resource, &|entity| world.get::<MeshEntity>(entity).map(|id| id.0));
    world.resource_mut::<State<R>>().written = written;
    match encoded {
        Ok(value) => {
            if let Some(mut carrier) = world.get_mut::<SharedResource<R>>(entity)
                && carrier.said.as_ref().is_none_or(|(said, _)| *said != value)
            {
                carrier.said = Some((value, Vec::new()));
            }
        }
        Err(error) => {
            world.write_message(MeshEvent::EncodeFailed { entity, component: type_name::<R>(), error });
        }
    }
}
