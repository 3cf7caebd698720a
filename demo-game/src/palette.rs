//! The colors of the flocks: told apart by color-blind eyes, and against a dusk sky.

use peerflock::PeerId;

/// How many flocks have a color of their own.
pub(crate) const COLORS: usize = 8;

/// So many of them stand out against every part of the sky: the others are for meshes with more flocks.
const WISHED: u8 = 5;

/// sRGB, after Okabe and Ito (*Color Universal Design*, 2008), lightened where they would drown in the dusk.
const PALETTE: [[u8; 3]; COLORS] = [
    [96, 196, 245],  // sky blue
    [245, 230, 100], // yellow
    [52, 205, 155],  // bluish green
    [238, 150, 205], // reddish purple
    [240, 243, 248], // white
    [248, 172, 40],  // orange
    [104, 140, 255], // blue
    [248, 120, 72],  // vermillion
];

/// The red, green and blue of a flock's color, 0 to 255. Any number means a color.
pub(crate) fn rgb(color: u8) -> [u8; 3] {
    PALETTE[usize::from(color) % COLORS]
}

/// The color that a peer would have if it were alone: the same wherever it is computed.
pub(crate) fn wish(peer: PeerId) -> u8 {
    // A public key's bytes are as good as thrown dice.
    peer.0[0] % WISHED
}

/// The color for a flock that wishes for `wish` where the others have `taken` theirs: the wished one, or the next that fewest
/// have. It keeps `now` if that is as good.
pub(crate) fn choose(wish: u8, now: u8, taken: impl Iterator<Item = u8>) -> u8 {
    let mut uses = [0; COLORS];
    for color in taken {
        uses[usize::from(color) % COLORS] += 1;
    }
    let now = usize::from(now) % COLORS;
    let wished = usize::from(wish) % COLORS;
    let best = (0..COLORS).map(|step| (wished + step) % COLORS).min_by_key(|color| uses[*color]).unwrap_or(wished);
    if uses[now] <= uses[best] { now as u8 } else { best as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_distinct_while_there_are_any_left_and_then_shared_evenly() {
        let mut taken = Vec::new();
        for flock in 0..3 * COLORS {
            let color = choose(3, 3, taken.iter().copied());
            assert_eq!(taken.iter().filter(|other| **other == color).count(), flock / COLORS);
            taken.push(color);
        }
    }

    #[test]
    fn who_has_a_good_color_keeps_it() {
        assert_eq!(choose(1, 4, [1, 2].into_iter()), 4);
        assert_eq!(choose(1, 2, [1, 2].into_iter()), 3);
        assert_eq!(choose(250, 251, std::iter::empty()), 251 % COLORS as u8);
    }
}
