//! Who is in the room.

use bevy::prelude::*;
use peerflock::PeerId;
use peerflock_lobby::RoomMember;
use peerflock_lobby::browse::round_trip_words;

use crate::app::action::Action;
use crate::app::live;
use crate::app::model::Model;
use crate::app::theme::{self, size};
use crate::app::widgets::button::{self, Face};
use crate::app::widgets::{column, icon, row, spring};

/// The list itself.
#[derive(Component, Default)]
pub(crate) struct List {
    shows: Vec<(PeerId, String, u8)>,
}

/// Draws the list anew when somebody came, went, or took another name or color.
pub(crate) fn draw(model: Res<Model>, list: Option<Single<(Entity, &mut List)>>, mut commands: Commands) {
    let (Some(list), Some(visit)) = (list, &model.visit) else { return };
    let (entity, mut list) = list.into_inner();
    let shows: Vec<(PeerId, String, u8)> =
        visit.members.iter().map(|member| (member.peer, member.name.clone(), member.color)).collect();
    if shows == list.shows {
        return;
    }
    list.shows = shows;
    commands.entity(entity).despawn_related::<Children>().with_children(|list| {
        for member in &visit.members {
            list.spawn(entry(member));
        }
    });
}

/// How far a member is, in a few words.
fn standing(member: &RoomMember) -> String {
    let what = match member {
        member if member.playing => "in the game",
        member if !member.seated => "watching",
        member if member.ready => "ready",
        _ => "not ready yet",
    };
    if member.owner { format!("{what}, owns the room") } else { what.into() }
}

fn entry(member: &RoomMember) -> impl Bundle {
    let (peer, me) = (member.peer, member.me);
    let ready = move |model: &Model| model.member(peer).is_some_and(|member| member.ready);
    let round_trip = move |model: &Model| model.member(peer).and_then(|member| member.round_trip);
    // Pressing oneself leads to one's own settings.
    let action = if me { Action::Settings } else { Action::Member(peer) };
    (
        button::bare(Face::Row, action, Node { padding: UiRect::axes(px(12), px(9)), flex_shrink: 0.0, ..row(14.0) }),
        children![
            icon::bird(34.0, theme::member(member.color)),
            (
                Node { min_width: px(0), flex_shrink: 1.0, overflow: Overflow::clip(), ..column(1.0) },
                Pickable::IGNORE,
                children![
                    (
                        Text::new(if me { format!("{} (you)", member.name) } else { member.name.clone() }),
                        theme::bold(size::BODY),
                        TextColor(theme::member(member.color)),
                        TextLayout::no_wrap(),
                        Pickable::IGNORE,
                    ),
                    (
                        theme::words("", size::SMALL, theme::QUIET),
                        live::text(move |model| model.member(peer).map(standing).unwrap_or_default()),
                        live::color(move |model| if ready(model) { theme::GOOD } else { theme::QUIET }),
                    ),
                ],
            ),
            spring(),
            (
                Node { flex_shrink: 0.0, ..row(8.0) },
                Pickable::IGNORE,
                live::shown(move |model| !me && model.member(peer).is_some()),
                children![
                    icon::bars(round_trip),
                    (
                        theme::words("", size::SMALL, theme::QUIET),
                        TextLayout::no_wrap(),
                        live::text(move |model| round_trip_words(round_trip(model)))
                    ),
                ],
            ),
        ],
    )
}
