//! All birds as one mesh: a quad each, out of one small picture, in one draw.

use bevy::asset::RenderAssetUsages;
use bevy::camera::visibility::NoFrustumCulling;
use bevy::mesh::{Indices, PrimitiveTopology};
use bevy::prelude::*;
use bevy::sprite_render::AlphaMode2d;
use bevy_peerflock::prelude::*;

use crate::flock::Flight;
use crate::palette;
use crate::players::Players;
use crate::world::{Bird, Leader};

mod atlas;

/// Wing beats per second.
const BEAT: f32 = 5.0;
/// Width of a bird's picture, in world units.
const BIRD: f32 = 31.0;
/// Of a leader's.
const LEADER: f32 = 54.0;

pub(crate) fn plugin(app: &mut App) {
    app.add_systems(Startup, hang).add_systems(PostUpdate, draw.before(TransformSystems::Propagate));
}

#[derive(Resource)]
struct Picture(Handle<Mesh>);

fn hang(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut images: ResMut<Assets<Image>>,
) {
    let mesh = meshes.add(Quads::default().into_mesh());
    let texture = images.add(atlas::paint().into_image(true));
    commands.spawn((
        Mesh2d(mesh.clone()),
        MeshMaterial2d(materials.add(ColorMaterial { texture: Some(texture), alpha_mode: AlphaMode2d::Blend, ..default() })),
        Transform::from_xyz(0.0, 0.0, 10.0),
        NoFrustumCulling,
    ));
    commands.insert_resource(Picture(mesh));
}

fn draw(
    time: Res<Time>,
    fixed: Res<Time<Fixed>>,
    picture: Res<Picture>,
    players: Res<Players>,
    birds: Query<(Entity, &Transform, &Owner, &Bird, Option<&Flight>, Has<Mine>)>,
    leaders: Query<(&Transform, &Owner, &Leader, Option<&Flight>, Has<Mine>)>,
    mut meshes: ResMut<Assets<Mesh>>,
) {
    let Some(mut mesh) = meshes.get_mut(&picture.0) else { return };
    let part = fixed.overstep_fraction();
    let color = |peer: PeerId| tint(players.get(peer).map_or_else(|| palette::wish(peer), |player| player.color));
    let mut quads = Quads::default();
    for (transform, owner, _, flight, mine) in &leaders {
        let [r, g, b] = color(owner.0);
        let place = shown(transform, flight.filter(|_| mine), part);
        let breath = 1.0 + 0.06 * (time.elapsed_secs() * 2.2).sin();
        quads.add(atlas::GLOW, place, Vec2::X, 190.0 * breath, [r, g, b, 0.34]);
    }
    for (entity, transform, owner, bird, flight, mine) in &birds {
        let [r, g, b] = color(owner.0);
        let place = shown(transform, flight.filter(|_| mine), part);
        let heading = (transform.rotation * Vec3::X).truncate();
        let plumage = f32::from(bird.plumage) / 255.0;
        // Every bird beats its wings a little differently, and rests them now and then.
        let beat = time.elapsed_secs() * (BEAT + 2.0 * plumage) + entity.index_u32() as f32 * 0.37;
        quads.add(atlas::bird(beat.fract()), place, heading, BIRD * (0.76 + 0.44 * plumage), [r, g, b, 1.0]);
    }
    for (transform, owner, _, flight, mine) in &leaders {
        let [r, g, b] = color(owner.0);
        let place = shown(transform, flight.filter(|_| mine), part);
        let heading = (transform.rotation * Vec3::X).truncate();
        quads.add(atlas::leader((time.elapsed_secs() * BEAT * 0.8).fract()), place, heading, LEADER, [r, g, b, 1.0]);
    }
    quads.write(&mut mesh);
}

/// Where to show something: our own things move in ticks, and are shown in between.
pub(crate) fn shown(transform: &Transform, flight: Option<&Flight>, part: f32) -> Vec2 {
    let place = transform.translation.truncate();
    flight.map_or(place, |flight| flight.previous.lerp(place, part))
}

/// A flock's color as the graphics card wants it.
fn tint(color: u8) -> [f32; 3] {
    let [r, g, b] = palette::rgb(color);
    LinearRgba::from(Srgba::rgb_u8(r, g, b)).to_f32_array_no_alpha()
}

/// Squares in the making.
#[derive(Default)]
struct Quads {
    positions: Vec<[f32; 3]>,
    uvs: Vec<[f32; 2]>,
    colors: Vec<[f32; 4]>,
    indices: Vec<u32>,
}

impl Quads {
    /// A square cut out of the atlas, `size` wide, its right side towards `heading`.
    fn add(&mut self, cut: Rect, place: Vec2, heading: Vec2, size: f32, color: [f32; 4]) {
        let along = heading.normalize_or(Vec2::X) * size / 2.0;
        let across = along.perp();
        let first = self.positions.len() as u32;
        let corners = [place - along + across, place + along + across, place + along - across, place - along - across];
        self.positions.extend(corners.map(|corner| corner.extend(0.0).to_array()));
        self.uvs.extend([[cut.min.x, cut.min.y], [cut.max.x, cut.min.y], [cut.max.x, cut.max.y], [cut.min.x, cut.max.y]]);
        self.colors.extend([color; 4]);
        self.indices.extend([0, 2, 1, 0, 3, 2].map(|corner| first + corner));
    }

    fn into_mesh(self) -> Mesh {
        let mut mesh = Mesh::new(PrimitiveTopology::TriangleList, RenderAssetUsages::default());
        self.write(&mut mesh);
        mesh
    }

    fn write(mut self, mesh: &mut Mesh) {
        if self.positions.is_empty() {
            // A mesh without any vertices is none: one square that nobody sees.
            self.add(Rect::default(), Vec2::ZERO, Vec2::X, 0.0, [0.0; 4]);
        }
        mesh.insert_attribute(Mesh::ATTRIBUTE_POSITION, self.positions);
        mesh.insert_attribute(Mesh::ATTRIBUTE_UV_0, self.uvs);
        mesh.insert_attribute(Mesh::ATTRIBUTE_COLOR, self.colors);
        mesh.insert_indices(Indices::U32(self.indices));
    }
}
