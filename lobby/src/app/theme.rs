//! Dusk: the colors, sizes and typefaces of the lobby, in one place.

use bevy::prelude::*;
use bevy::text::DEFAULT_FONT_DATA;

/// What is read.
pub(crate) const TEXT: Color = Color::srgb(0.965, 0.941, 1.0);
/// What is read only by those who look for it.
pub(crate) const QUIET: Color = Color::srgb(0.745, 0.690, 0.860);
/// What is barely there: placeholders, disabled words.
pub(crate) const FAINT: Color = Color::srgb(0.560, 0.510, 0.690);
/// What could be lit and is not.
pub(crate) const UNLIT: Color = Color::srgb(0.345, 0.298, 0.490);
/// The sun: what to press, what is chosen, where the focus is.
pub(crate) const SUN: Color = Color::srgb(1.0, 0.714, 0.420);
/// Words on the sun.
pub(crate) const ON_SUN: Color = Color::srgb(0.157, 0.071, 0.165);
/// What went wrong.
pub(crate) const ALARM: Color = Color::srgb(1.0, 0.545, 0.494);
/// What is well: ready, near.
pub(crate) const GOOD: Color = Color::srgb(0.510, 0.898, 0.690);
/// A panel, through which the sky is seen.
pub(crate) const PANEL: Color = Color::srgba(0.055, 0.043, 0.149, 0.90);
/// A dialog, which must not be confused with what is behind.
pub(crate) const DIALOG: Color = Color::srgb(0.122, 0.090, 0.251);
/// What lies between a dialog and what is behind.
pub(crate) const VEIL: Color = Color::srgba(0.027, 0.020, 0.086, 0.72);
/// Something to type into.
pub(crate) const WELL: Color = Color::srgba(0.027, 0.020, 0.094, 0.62);
/// A line of a list.
pub(crate) const ROW: Color = Color::srgba(0.286, 0.227, 0.525, 0.42);
/// A line of a list under the pointer.
pub(crate) const ROW_HOVERED: Color = Color::srgba(0.420, 0.310, 0.640, 0.62);
/// Edges.
pub(crate) const EDGE: Color = Color::srgba(0.78, 0.66, 1.0, 0.20);

/// Sizes of type, in logical pixels.
pub(crate) mod size {
    /// The name of where we are.
    pub(crate) const TITLE: f32 = 30.0;
    /// The head of a panel.
    pub(crate) const HEAD: f32 = 23.0;
    /// Everything that is read.
    pub(crate) const BODY: f32 = 19.0;
    /// Labels and hints.
    pub(crate) const SMALL: f32 = 16.0;
}

/// Rounded corners of panels.
pub(crate) const ROUND: Val = Val::Px(16.0);
/// Rounded corners of what is in panels.
pub(crate) const ROUND_INNER: Val = Val::Px(11.0);

/// sRGB of the members' colors, told apart by color-blind eyes (after Okabe and Ito, 2008, lightened for the dusk).
const MEMBERS: [[u8; 3]; peerflock_lobby::card::COLORS as usize] = [
    [96, 196, 245],
    [245, 230, 100],
    [52, 205, 155],
    [238, 150, 205],
    [240, 243, 248],
    [248, 172, 40],
    [124, 156, 255],
    [248, 120, 72],
];

/// A member's color.
pub(crate) fn member(color: u8) -> Color {
    let [red, green, blue] = MEMBERS[usize::from(color) % MEMBERS.len()];
    Color::srgb_u8(red, green, blue)
}

const MEDIUM: &str = "Inter Medium";
const SEMI_BOLD: &str = "Inter SemiBold";

/// Keeps the typefaces loaded.
#[derive(Resource)]
pub(crate) struct Typefaces {
    _families: [Handle<Font>; 2],
    /// Every letter of it is as wide as every other: what a masked password is laid out in.
    pub(crate) even: Handle<Font>,
}

/// Loads the typefaces, which are part of the program.
pub(crate) fn typefaces(app: &mut App) {
    let mut fonts = app.world_mut().resource_mut::<Assets<Font>>();
    let mut load = |data: &[u8]| fonts.add(Font::from_bytes(data.to_vec()));
    let typefaces = Typefaces {
        _families: [
            load(include_bytes!("../../../assets/fonts/Inter-Medium.ttf")),
            load(include_bytes!("../../../assets/fonts/Inter-SemiBold.ttf")),
        ],
        even: load(DEFAULT_FONT_DATA),
    };
    app.insert_resource(typefaces);
}

/// Type of this size.
pub(crate) fn type_of(size: f32) -> TextFont {
    TextFont::from_font_size(FontSize::Px(size)).with_family(MEDIUM)
}

/// Bolder type of this size.
pub(crate) fn bold(size: f32) -> TextFont {
    TextFont::from_font_size(FontSize::Px(size)).with_family(SEMI_BOLD)
}

/// A line of text.
pub(crate) fn words(text: impl Into<String>, size: f32, color: Color) -> impl Bundle {
    (Text::new(text), type_of(size), TextColor(color), Pickable::IGNORE)
}

/// A line of bolder text.
pub(crate) fn heading(text: impl Into<String>, size: f32) -> impl Bundle {
    (Text::new(text), bold(size), TextColor(TEXT), Pickable::IGNORE)
}
