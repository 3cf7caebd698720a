//! Which components are shared, and how each becomes bytes and back.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use peerflock::{EntityId, Kind, KindId, MeshTime, Registry, Shape, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{
    App, Component, ComponentId, Entity, EntityRef, EntityWorldMut, FixedLast, IntoScheduleConfigs, Resource, World,
};
use crate::entities::MeshEntities;
use crate::interpolate::Moment;
use crate::presence::MeshEvent;
use crate::send::{self, Outbox};

mod fields;
mod finite;
mod natural;
mod parent;
mod plain;
pub mod precision;
mod refs;
mod replication;
mod rules;
mod transform;

pub(crate) use fields::Integers;
pub use fields::Quantized;
pub(crate) use finite::is_finite;
pub(crate) use parent::Parent;
pub use plain::Overwrite;
pub(crate) use plain::{Plain, decode, encode};
pub use replication::Replication;
pub(crate) use replication::{Gate, Sending};
pub use rules::{Proposed, RuleBroken, ValidateAppExt, Verdict};
pub(crate) use transform::Smooth;
pub use transform::{SCALE_STEP, TRANSLATION_STEP, TransformPrecision};

/// Longest encoded component, in bytes: what the protocol lets one value have.
pub const COMPONENT_BYTES_MAX: usize = 4 * 1024;

/// Registers the components that a game shares.
pub trait ReplicateAppExt {
    /// Shares `T` on every [`Replicated`](crate::Replicated) entity, whole, whenever it changes.
    ///
    /// All peers of a mesh must register the same types (in any order): they know each other's by their full path, as in
    /// `my_game::Health`, so keep shared types in a library when two programs are to meet. Entities that `T` refers to in
    /// fields marked `#[entities]` are translated; a reference to an entity that is not shared arrives as
    /// [`Entity::PLACEHOLDER`](bevy_ecs::entity::Entity::PLACEHOLDER).
    ///
    /// `Transform` is special: it travels in whole steps (see its [`Quantized`]), as differences, and is shown
    /// interpolated (see [`Interpolation`](crate::Interpolation)).
    ///
    /// # Panics
    /// When called after the mesh was started: members compare what they share before they let each other in.
    fn replicate<T>(&mut self) -> &mut Self
    where
        T: Component + Serialize + DeserializeOwned,
        T::Mutability: Overwrite<T>;

    /// Shares `T` as integers that travel as differences: for what changes often, and a little at a time. See [`Quantized`],
    /// which is derived.
    ///
    /// # Panics
    /// When called after the mesh was started.
    fn replicate_quantized<T>(&mut self) -> &mut Self
    where
        T: Component + Quantized,
        T::Mutability: Overwrite<T>;

    /// Shares a resource: there is one of it in the mesh, owned by one peer at a time, and everyone reads it.
    ///
    /// Whoever inserts it first owns it: its changes are sent as a component's are, and arrive as an inserted resource
    /// everywhere. Where all peers insert it at their start, who comes to a mesh that has one takes over what it has; so the one
    /// that counts is that of the mesh's first peer. When its owner leaves, one of those who stay goes on with it. When the owner
    /// removes it, it is removed everywhere.
    ///
    /// A resource lives on an entity of the mesh, with a [`SharedResource<R>`](crate::SharedResource) on it: give that entity to
    /// another peer, and the resource is that one's. [`owns_resource`](crate::owns_resource) is a condition for systems that
    /// change it. What others than the owner change is local, and lasts until the owner's next change. Entities in it are
    /// translated where it derives Bevy's `MapEntities` and says `#[component(map_entities)]`.
    ///
    /// ```
    /// # use bevy_app::{App, FixedUpdate};
    /// # use bevy_ecs::prelude::*;
    /// # use bevy_peerflock::prelude::*;
    /// #[derive(Default, Resource, serde::Serialize, serde::Deserialize)]
    /// struct Round {
    ///     ticks_left: u32,
    /// }
    ///
    /// # let mut app = App::new();
    /// app.replicate_resource::<Round>()
    ///     .insert_resource(Round { ticks_left: 3_600 })
    ///     .add_systems(FixedUpdate, count_down.run_if(owns_resource::<Round>));
    ///
    /// fn count_down(mut round: ResMut<'_, Round>) {
    ///     round.ticks_left = round.ticks_left.saturating_sub(1);
    /// }
    /// ```
    ///
    /// # Panics
    /// When called after the mesh was started.
    fn replicate_resource<R: Resource + Serialize + DeserializeOwned>(&mut self) -> &mut Self;

    /// Shares what a [`Replication`] says, when it says.
    ///
    /// # Panics
    /// When called after the mesh was started.
    fn replicate_with(&mut self, replication: Replication) -> &mut Self;
}

impl ReplicateAppExt for App {
    fn replicate<T>(&mut self) -> &mut Self
    where
        T: Component + Serialize + DeserializeOwned,
        T::Mutability: Overwrite<T>,
    {
        self.replicate_with(Replication::component::<T>())
    }

    fn replicate_quantized<T>(&mut self) -> &mut Self
    where
        T: Component + Quantized,
        T::Mutability: Overwrite<T>,
    {
        self.replicate_with(Replication::quantized::<T>())
    }

    fn replicate_resource<R: Resource + Serialize + DeserializeOwned>(&mut self) -> &mut Self {
        self.replicate_with(Replication::resource::<R>())
    }

    fn replicate_with(&mut self, replication: Replication) -> &mut Self {
        replication.apply(self);
        self
    }
}

/// Adds what `C` does to the table, and the system that looks for its changes. Twice is once.
pub(crate) fn register<C: Codec>(app: &mut App, sending: Sending) {
    let component = app.world_mut().register_component::<C::Component>();
    let mut kinds = app.world_mut().get_resource_or_init::<Kinds>();
    let name = type_name::<C::Component>();
    if let Some(entry) = kinds.entries.iter().find(|entry| entry.component == component) {
        if entry.sending != sending {
            tracing::warn!("{name} is registered twice, to be sent {:?} and {sending:?}: the first counts", entry.sending);
        }
        return;
    }
    let mut precision = String::new();
    C::describe(&mut precision);
    assert!(!kinds.numbered, "replicate::<{name}>() came after the mesh was started: call it while the App is being built");
    kinds.entries.push(Entry {
        name,
        component,
        type_id: TypeId::of::<C::Component>(),
        shape: C::SHAPE,
        smooth: C::SMOOTH,
        sending,
        precision,
        encode: |entity, name_of| entity.get::<C::Component>().map_or(Ok(None), |component| C::encode(component, name_of)),
        apply: C::apply,
        remove: C::remove,
    });
    // What these need is there also in an app without the plugin, in a game's own tests say.
    app.init_resource::<MeshEntities>().init_resource::<Outbox>().add_message::<MeshEvent>();
    app.add_systems(FixedLast, send::collect::<C>.in_set(send::Steps::Collect));
    app.add_observer(send::note_removal::<C>);
}

/// How one component type becomes a [`Value`] and back.
pub(crate) trait Codec: 'static {
    /// The component.
    type Component: Component;
    /// What its values look like.
    const SHAPE: Shape;
    /// Whether values are shown a while later, interpolated, so that what the entity has is not what the mesh last said.
    const SMOOTH: bool = false;

    /// Adds what peers have to agree on, besides the shape.
    fn describe(_text: &mut String) {}

    /// The value to send, or none where the others are to see no such component.
    fn encode(component: &Self::Component, name_of: NameOf<'_>) -> Result<Option<Value>, EncodeError>;

    /// Gives the entity the value that arrived.
    fn apply(entity: &mut EntityWorldMut<'_>, arrived: Arrived<'_>);

    /// Takes the component away.
    fn remove(entity: &mut EntityWorldMut<'_>) {
        entity.remove::<Self::Component>();
    }
}

/// By which number the others know an entity, if they do.
pub(crate) type NameOf<'a> = &'a dyn Fn(Entity) -> Option<EntityId>;

/// A value from the mesh, on its way to an entity.
#[derive(Clone, Copy)]
pub(crate) struct Arrived<'a> {
    /// The value.
    pub(crate) value: &'a Value,
    /// The entities here that its references mean.
    pub(crate) refs: &'a [Entity],
    /// The moment it is for; none: now, at once.
    pub(crate) moment: Option<Moment>,
    /// When its owner said so; none where that is us, and no rule is asked.
    pub(crate) at: Option<MeshTime>,
}

/// Why a component could not be sent. It stays as the others last saw it; the game goes on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EncodeError {
    /// Its `Serialize` failed, or its `Deserialize` cannot read what it wrote.
    #[error("the component cannot be encoded: {0}; check that its Serialize and Deserialize agree")]
    Codec(String),
    /// It is too long.
    #[error("the component takes {bytes} bytes, {COMPONENT_BYTES_MAX} are allowed; split it, or send it as a message")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It refers to too many entities.
    #[error("the component refers to more than {max} entities; spread them over several components")]
    TooManyReferences {
        /// How many are allowed.
        max: usize,
    },
}

impl EncodeError {
    fn codec(error: impl Display) -> Self {
        Self::Codec(error.to_string())
    }
}

/// What is known of one registered component.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) component: ComponentId,
    type_id: TypeId,
    shape: Shape,
    pub(crate) smooth: bool,
    pub(crate) sending: Sending,
    /// What the shape does not say of what values mean.
    precision: String,
    pub(crate) encode: fn(EntityRef<'_>, NameOf<'_>) -> Result<Option<Value>, EncodeError>,
    pub(crate) apply: fn(&mut EntityWorldMut<'_>, Arrived<'_>),
    pub(crate) remove: fn(&mut EntityWorldMut<'_>),
}

/// All registered components.
#[derive(Default, Resource)]
pub(crate) struct Kinds {
    entries: Vec<Entry>,
    numbered: bool,
    numbers: HashMap<TypeId, KindId>,
    table: Arc<KindTable>,
}

impl Kinds {
    /// Numbers the components, by name: the order in which a game's plugins registered them does not matter.
    pub(crate) fn number(&mut self, registry: &mut Registry) {
        self.numbered = true;
        self.entries.sort_by_key(|entry| entry.name);
        let mut table = KindTable::default();
        self.numbers.clear();
        for entry in &self.entries {
            // The precision is part of the name: who has another is told so at the door, instead of misreading what is said.
            let kind = registry.register(Kind { name: format!("{}{}", entry.name, entry.precision), shape: entry.shape });
            self.numbers.insert(entry.type_id, kind);
            if table.entries.len() <= usize::from(kind.0) {
                table.entries.resize(usize::from(kind.0) + 1, None);
            }
            table.entries[usize::from(kind.0)] = Some(entry.clone());
        }
        self.table = Arc::new(table);
    }

    /// The number of a component, once there is a mesh to give it one.
    pub(crate) fn number_of<C: Codec>(&self) -> Option<KindId> {
        self.numbers.get(&TypeId::of::<C::Component>()).copied()
    }

    /// The number of a component, and when it is sent.
    pub(crate) fn sending_of<C: Codec>(&self) -> Option<(KindId, Sending)> {
        let kind = self.number_of::<C>()?;
        Some((kind, self.table.get(kind)?.sending))
    }

    /// The numbered components, to keep while the world is borrowed.
    pub(crate) fn table(world: &World) -> Arc<KindTable> {
        world.get_resource::<Self>().map(|kinds| Arc::clone(&kinds.table)).unwrap_or_default()
    }
}

/// The registered components by their numbers.
#[derive(Default)]
pub(crate) struct KindTable {
    entries: Vec<Option<Entry>>,
}

impl KindTable {
    /// What `kind` is, if the game registered it.
    pub(crate) fn get(&self, kind: KindId) -> Option<&Entry> {
        self.entries.get(usize::from(kind.0))?.as_ref()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (KindId, &Entry)> {
        // Numbers fit a byte: the registry gave them.
        self.entries.iter().enumerate().filter_map(|(index, entry)| Some((KindId(index as u8), entry.as_ref()?)))
    }
}
