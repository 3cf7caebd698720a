//! Who is near whom, without asking everyone about everyone.

use bevy::math::{Rect, UVec2, Vec2};

/// Points sorted into square cells. Points outside the bounds count to the outermost cells.
#[derive(Debug)]
pub(crate) struct Grid {
    bounds: Rect,
    cell: f32,
    size: UVec2,
    /// Where each cell's points begin in `points`; one more than there are cells.
    starts: Vec<u32>,
    /// Indices of the points, cell by cell.
    points: Vec<u32>,
}

impl Grid {
    /// Sorts `points` into cells `cell` wide.
    pub(crate) fn new(bounds: Rect, cell: f32, points: impl Iterator<Item = Vec2> + Clone) -> Self {
        let size = (bounds.size() / cell).ceil().as_uvec2().max(UVec2::ONE);
        let mut grid = Self { bounds, cell, size, starts: vec![0; (size.x * size.y) as usize + 1], points: Vec::new() };
        let cells: Vec<usize> = points.map(|point| grid.index(grid.cell_of(point))).collect();
        for cell in &cells {
            grid.starts[cell + 1] += 1;
        }
        for cell in 1..grid.starts.len() {
            grid.starts[cell] += grid.starts[cell - 1];
        }
        let mut next = grid.starts.clone();
        grid.points = vec![0; cells.len()];
        for (point, cell) in cells.iter().enumerate() {
            grid.points[next[*cell] as usize] = point as u32;
            next[*cell] += 1;
        }
        grid
    }

    /// The up to `N` points nearest to `center` within `radius` (at most one cell wide), nearest first. `position` says
    /// where a point is, or that it does not count.
    pub(crate) fn nearest<const N: usize>(
        &self,
        center: Vec2,
        radius: f32,
        position: impl Fn(usize) -> Option<Vec2>,
    ) -> Nearest<N> {
        let mut nearest = Nearest { points: [(f32::MAX, 0); N], count: 0 };
        let middle = self.cell_of(center);
        let (low, high) = (middle.saturating_sub(UVec2::ONE), (middle + UVec2::ONE).min(self.size - UVec2::ONE));
        for y in low.y..=high.y {
            for x in low.x..=high.x {
                let cell = self.index(UVec2::new(x, y));
                for point in &self.points[self.starts[cell] as usize..self.starts[cell + 1] as usize] {
                    let Some(place) = position(*point as usize) else { continue };
                    let distance = place.distance_squared(center);
                    if distance <= radius * radius {
                        nearest.insert(distance, *point);
                    }
                }
            }
        }
        nearest
    }

    fn cell_of(&self, point: Vec2) -> UVec2 {
        // `as` saturates, and turns NaN into 0.
        let cell = ((point - self.bounds.min) / self.cell).as_uvec2();
        cell.min(self.size - UVec2::ONE)
    }

    fn index(&self, cell: UVec2) -> usize {
        (cell.y * self.size.x + cell.x) as usize
    }
}

/// The nearest few points, nearest first.
#[derive(Debug)]
pub(crate) struct Nearest<const N: usize> {
    points: [(f32, u32); N],
    count: usize,
}

impl<const N: usize> Nearest<N> {
    /// Their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.points[..self.count].iter().map(|(_, point)| *point as usize)
    }

    fn insert(&mut self, distance: f32, point: u32) {
        if self.count == N && distance >= self.points[N - 1].0 {
            return;
        }
        let mut place = self.count.min(N - 1);
        self.count = (self.count + 1).min(N);
        while place > 0 && self.points[place - 1].0 > distance {
            self.points[place] = self.points[place - 1];
            place -= 1;
        }
        self.points[place] = (distance, point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn finds_what_asking_everyone_finds() {
        let bounds = Rect { min: Vec2::new(-500.0, -200.0), max: Vec2::new(500.0, 300.0) };
        let mut dice = Dice::new(9);
        // Some lie outside the bounds.
        let points: Vec<Vec2> = (0..400).map(|_| Vec2::new(dice.between(-600.0, 600.0), dice.between(-260.0, 360.0))).collect();
        let grid = Grid::new(bounds, 50.0, points.iter().copied());
        for (index, center) in points.iter().enumerate().filter(|(_, point)| bounds.contains(**point)) {
            let found: Vec<usize> =
                grid.nearest::<7>(*center, 50.0, |other| (other != index).then(|| points[other])).iter().collect();
            let mut everyone: Vec<usize> =
                (0..points.len()).filter(|other| *other != index && points[*other].distance(*center) <= 50.0).collect();
            everyone.sort_by(|a, b| points[*a].distance_squared(*center).total_cmp(&points[*b].distance_squared(*center)));
            everyone.truncate(7);
            assert_eq!(found, everyone);
        }
    }

    #[test]
    fn nothing_is_near_in_an_empty_sky() {
        let bounds = Rect { min: Vec2::ZERO, max: Vec2::ONE };
        let grid = Grid::new(bounds, 10.0, std::iter::empty());
        assert_eq!(grid.nearest::<3>(Vec2::NAN, 10.0, |_| Some(Vec2::ZERO)).iter().count(), 0);
    }
}
