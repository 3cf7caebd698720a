//! No name of ours is one of `bevy::prelude`'s: a name that both globs bring cannot be used, and this would not compile.

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

/// Uses a type by its bare name.
fn is_a_type<T>() {}
/// Uses a trait's method by its bare name.
fn is_there<T>(_: T) {}

#[test]
fn no_name_clashes() {
    is_a_type::<(Adoptable, EntityId, Farewell, FromMesh<()>, Interpolation, MeshEntities, MeshEntity, MeshEvent, MeshHandle)>();
    is_a_type::<(Mine, NoInterpolation, Owner, PeerEvent, PeerId, PeerMesh, PeerflockPlugin, PeerflockSystems, Peers)>();
    is_a_type::<(Replicated, Replication, SharedResource<Shared>, ToMesh<()>, Derived)>();
    is_there(<Coarse as TransformPrecision>::TRANSLATION_STEP);
    is_there(owns_resource::<Shared>);
    is_there(<App as InterpolationAppExt>::interpolate_with::<Transform>);
    is_there(<EntityCommands<'_> as TeleportCommandsExt>::teleport);
    is_there(<App as MeshMessageAppExt>::add_mesh_message::<u8>);
    is_there(<App as ReplicateAppExt>::replicate::<Transform>);
    is_there(<Commands<'_, '_> as MeshCommandsExt>::leave_mesh);
    is_there(<EntityCommands<'_> as OwnershipCommandsExt>::give_to);
    is_there(<Transform as Quantized>::quantize);
    // Bevy's own are still there.
    is_a_type::<(Mesh, Message2d, Name)>();
}

type Message2d = Mesh2d;

#[derive(Resource)]
struct Shared;

#[derive(Component, Quantized)]
struct Derived(Vec3);

struct Coarse;

impl TransformPrecision for Coarse {}
