//! A name beside every leader.

use std::collections::HashMap;

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::birds_view::shown;
use crate::flock::Flight;
use crate::look::{Fonts, name_color};
use crate::players::Players;
use crate::world::Leader;

/// How far above its leader a name stands, in pixels.
const ABOVE: f32 = 44.0;
/// Width of a name's box, in pixels: the name is in its middle.
const WIDTH: f32 = 200.0;

/// The name of whose leader.
#[derive(Component)]
struct Tag(PeerId);

pub(crate) fn plugin(app: &mut App) {
    app.add_systems(Update, (come_and_go, follow).chain());
}

fn come_and_go(mut commands: Commands, fonts: Res<Fonts>, players: Res<Players>, tags: Query<(Entity, &Tag)>) {
    let mut tagged: HashMap<PeerId, Entity> = tags.iter().map(|(entity, tag)| (tag.0, entity)).collect();
    for player in players.iter().filter(|player| player.leader.is_some()) {
        if tagged.remove(&player.peer).is_none() {
            commands.spawn((
                Tag(player.peer),
                Node {
                    position_type: PositionType::Absolute,
                    width: px(WIDTH),
                    justify_content: JustifyContent::Center,
                    ..default()
                },
                Pickable::IGNORE,
                // Below the panels.
                GlobalZIndex(-1),
                children![(
                    fonts.bold(player.name.clone(), 13.0, name_color(player.color)),
                    Node { padding: UiRect::axes(px(7), px(1)), border_radius: BorderRadius::all(px(9)), ..default() },
                    BackgroundColor(Color::srgba(0.045, 0.045, 0.115, 0.46)),
                    Pickable::IGNORE
                )],
            ));
        }
    }
    for gone in tagged.into_values() {
        commands.entity(gone).despawn();
    }
}

fn follow(
    fixed: Res<Time<Fixed>>,
    scale: Res<UiScale>,
    camera: Query<(&Camera, &GlobalTransform)>,
    leaders: Query<(&Transform, &Owner, &Leader, Option<&Flight>, Has<Mine>)>,
    mut tags: Query<(&Tag, &mut Node, &Children)>,
    mut colors: Query<&mut TextColor>,
) {
    let Some((camera, eye)) = camera.iter().next() else { return };
    for (transform, owner, leader, flight, mine) in &leaders {
        let Some((_, mut node, children)) = tags.iter_mut().find(|(tag, ..)| tag.0 == owner.0) else { continue };
        let place = shown(transform, flight.filter(|_| mine), fixed.overstep_fraction());
        let Ok(at) = camera.world_to_viewport(eye, place.extend(0.0)) else { continue };
        let at = at / scale.0;
        (node.left, node.top) = (px(at.x - WIDTH / 2.0), px((at.y - ABOVE).max(4.0)));
        for child in children {
            if let Ok(mut color) = colors.get_mut(*child) {
                color.set_if_neq(TextColor(name_color(leader.color)));
            }
        }
    }
}
