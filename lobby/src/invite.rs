//! An invitation as a picture that a phone or another machine's camera reads: a QR code (ISO/IEC 18004).

use peerflock::Ticket;
use qrcode::{Color, EcLevel, QrCode};

/// A square of dark and light modules, without the light margin that belongs around it (see [`QrSquare::MARGIN`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QrSquare {
    /// Modules on a side.
    pub side: usize,
    dark: Vec<bool>,
}

impl QrSquare {
    /// Light modules around the code without which it cannot be read.
    pub const MARGIN: usize = 4;

    /// The invitation's link as a code; `None` if it is too long for one.
    pub fn of(ticket: &Ticket) -> Option<Self> {
        let code = QrCode::with_error_correction_level(ticket.link(), EcLevel::L).ok()?;
        let dark = code.to_colors().into_iter().map(|color| color == Color::Dark).collect();
        Some(Self { side: code.width(), dark })
    }

    /// Whether this module is dark; all outside of the code are light.
    pub fn is_dark(&self, x: usize, y: usize) -> bool {
        x < self.side && y < self.side && self.dark[y * self.side + x]
    }

    /// As lines of text with two modules above each other in each letter, light on dark as terminals are, margin included.
    pub fn lines(&self) -> Vec<String> {
        let end = self.side + 2 * Self::MARGIN;
        let light = |x: usize, y: usize| match (x.checked_sub(Self::MARGIN), y.checked_sub(Self::MARGIN)) {
            (Some(x), Some(y)) => !self.is_dark(x, y),
            _ => true,
        };
        let letter = |x, y| match (light(x, y), light(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        };
        (0..end).step_by(2).map(|y| (0..end).map(|x| letter(x, y)).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_three_corners_and_its_margin() {
        let mesh = peerflock::PeerMesh::named("a code").loopback_only().lan(false).start_in_background().wait().unwrap();
        let code = QrSquare::of(&mesh.ticket()).unwrap();
        let corner = |x: usize, y: usize| {
            // A finder pattern: dark frame, light ring, dark heart.
            code.is_dark(x, y) && !code.is_dark(x + 1, y + 1) && (2..5).all(|step| code.is_dark(x + step, y + step))
        };
        assert!(corner(0, 0) && corner(code.side - 7, 0) && corner(0, code.side - 7));
        assert!(!code.is_dark(code.side, 0) && !code.is_dark(0, code.side));
        let lines = code.lines();
        assert_eq!(lines.len(), (code.side + 2 * QrSquare::MARGIN).div_ceil(2));
        assert!(lines[0].chars().all(|letter| letter == '█') && lines.iter().all(|line| line.chars().count() == code.side + 8));
    }
}
