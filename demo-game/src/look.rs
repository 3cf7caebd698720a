//! Fonts and panels: what everything written on the window looks like.

use bevy::prelude::*;

use crate::palette;

/// The window height for which sizes are given, in logical pixels; other windows scale.
const HEIGHT: f32 = 720.0;

pub(crate) const INK: Color = Color::srgb(0.96, 0.95, 0.93);
pub(crate) const FAINT: Color = Color::srgba(0.93, 0.92, 0.98, 0.66);
const PANEL: Color = Color::srgba(0.045, 0.045, 0.115, 0.66);
const EDGE: Color = Color::srgba(1.0, 1.0, 1.0, 0.09);

/// Something written.
pub(crate) type Label = (Text, TextFont, TextColor, TextShadow);

/// The fonts of the game.
#[derive(Clone, Debug, Resource)]
pub(crate) struct Fonts {
    pub(crate) medium: Handle<Font>,
    pub(crate) semibold: Handle<Font>,
}

pub(crate) fn plugin(app: &mut App) {
    let mut fonts = app.world_mut().resource_mut::<Assets<Font>>();
    let medium = fonts.add(Font::from_bytes(include_bytes!("../../assets/fonts/Inter-Medium.ttf").to_vec()));
    let semibold = fonts.add(Font::from_bytes(include_bytes!("../../assets/fonts/Inter-SemiBold.ttf").to_vec()));
    app.insert_resource(Fonts { medium, semibold }).add_systems(PreUpdate, scale);
}

impl Fonts {
    /// Text of this size, in pixels of a window 720 pixels high.
    pub(crate) fn text(&self, text: impl Into<String>, size: f32, color: Color) -> Label {
        (Text::new(text), Self::font(&self.medium, size), TextColor(color), SHADOW)
    }

    /// The same, bolder.
    pub(crate) fn bold(&self, text: impl Into<String>, size: f32, color: Color) -> Label {
        (Text::new(text), Self::font(&self.semibold, size), TextColor(color), SHADOW)
    }

    pub(crate) fn font(font: &Handle<Font>, size: f32) -> TextFont {
        TextFont { font: font.into(), font_size: FontSize::Px(size), ..default() }
    }
}

/// Keeps text readable on a bright sky.
const SHADOW: TextShadow = TextShadow { offset: Vec2::new(0.0, 1.0), color: Color::srgba(0.02, 0.02, 0.08, 0.55) };

/// A dark, see-through box around what `node` lays out.
pub(crate) fn panel(node: Node) -> impl Bundle {
    (
        Node { border: px(1).all(), border_radius: BorderRadius::all(px(10)), ..node },
        BackgroundColor(PANEL),
        BorderColor::all(EDGE),
        // The sky below it is for steering.
        Pickable::IGNORE,
    )
}

/// A flock's color.
pub(crate) fn flock_color(color: u8) -> Color {
    let [r, g, b] = palette::rgb(color);
    Color::srgb_u8(r, g, b)
}

/// The same for a name on the sky: lighter, to be read on any part of it.
pub(crate) fn name_color(color: u8) -> Color {
    flock_color(color).mix(&Color::WHITE, 0.3)
}

fn scale(windows: Query<&Window>, mut scale: ResMut<UiScale>) {
    if let Some(window) = windows.iter().next() {
        let wanted = (window.height() / HEIGHT).clamp(0.75, 3.0);
        if scale.0 != wanted {
            scale.0 = wanted;
        }
    }
}
