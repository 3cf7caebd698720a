//! What the derive makes of fields: as precise as promised for any values, and in range for any integers.

use std::f32::consts::PI;
use std::fmt::Debug;

use glam::{IVec3, Quat, Vec2, Vec3};
use peerflock::Group;

use super::*;
use crate::replicate::precision::integers_in;

#[derive(Clone, Debug, PartialEq, crate::Quantized)]
struct Ship {
    #[quantized(step = 0.01, range = -500.0..=500.0)]
    position: Vec3,
    #[quantized(step = 0.25)]
    depth: f32,
    #[quantized(degrees = 0.25)]
    heading: Quat,
    #[quantized(direction, degrees = 1.0)]
    aim: Vec3,
    #[quantized(direction)]
    wind: Vec2,
    #[quantized(angle, degrees = 2.0)]
    rudder: f32,
    #[quantized(range = 0..=100)]
    hull: u8,
    #[quantized(range = -1_000_000_000_000..=-999_999_999_000)]
    debt: i64,
    #[quantized(choice)]
    model: u16,
    shield: bool,
    state: State,
    target: Option<Vec2>,
    cell: IVec3,
    crew: [Sailor; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, crate::Quantized)]
struct Sailor(#[quantized(range = 1..=6)] u32, Rank);

#[derive(Clone, Copy, Debug, PartialEq, crate::Quantized)]
enum Rank {
    Mate,
    Captain,
}

#[derive(Clone, Debug, PartialEq, crate::Quantized)]
enum State {
    Docked,
    Sailing {
        knots: u8,
        #[quantized(angle)]
        course: f32,
    },
    Towing(u16, Vec2),
}

/// A stream of numbers from a seed.
struct Lot(u64);

impl Lot {
    fn bits(&mut self) -> u64 {
        // Of G. Marsaglia's xorshift generators.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn number(&mut self, most: f32) -> f32 {
        ((self.bits() >> 40) as f32 / (1_u64 << 24) as f32 * 2.0 - 1.0) * most
    }

    fn vector(&mut self, most: f32) -> Vec3 {
        Vec3::from_array([0; 3].map(|_| self.number(most)))
    }

    fn ship(&mut self) -> Ship {
        let state = match self.bits() % 3 {
            0 => State::Docked,
            1 => State::Sailing { knots: self.bits() as u8, course: self.number(3.0) },
            _ => State::Towing(self.bits() as u16, self.vector(100.0).truncate()),
        };
        let rank = |bits: u64| if bits.is_multiple_of(2) { Rank::Mate } else { Rank::Captain };
        Ship {
            position: self.vector(500.0),
            depth: self.number(10_000.0),
            heading: Quat::from_scaled_axis(self.vector(PI)),
            aim: self.vector(1.0).normalize_or(Vec3::X),
            wind: Vec2::from_angle(self.number(PI)),
            rudder: self.number(PI),
            hull: (self.bits() % 101) as u8,
            debt: -1_000_000_000_000 + (self.bits() % 1_001) as i64,
            model: self.bits() as u16,
            shield: self.bits().is_multiple_of(2),
            state,
            target: self.bits().is_multiple_of(2).then(|| self.vector(1_000.0).truncate()),
            cell: IVec3::new(self.bits() as i32, self.bits() as i32, self.bits() as i32),
            crew: [0; 2].map(|_| Sailor((self.bits() % 6 + 1) as u32, rank(self.bits()))),
        }
    }
}

fn integers(of: &impl Quantized, count: usize) -> Vec<i32> {
    let mut fields = vec![i32::MIN; count];
    of.quantize(&mut fields);
    fields
}

fn there_and_back<T: Quantized + Debug>(value: &T) -> T {
    let fields = integers(value, integers_in(T::GROUPS));
    let back = T::restore(&fields);
    assert_eq!(integers(&back, fields.len()), fields, "quantizing creeps: {value:?}");
    back
}

#[test]
fn every_field_is_as_precise_as_it_was_promised() {
    let seed = 0x5eed_0001;
    let mut lot = Lot(seed);
    for round in 0..5_000 {
        let ship = lot.ship();
        let back = there_and_back(&ship);
        let at = || format!("seed {seed:#x}, round {round}: {ship:?} became {back:?}");
        let off = (ship.position - back.position).abs().max_element();
        assert!(off <= 0.00505, "{off}: {}", at());
        assert!((ship.depth - back.depth).abs() <= 0.1251, "{}", at());
        // The chord, which is exact where the cosine is not.
        let apart = (ship.heading - back.heading).length().min((ship.heading + back.heading).length());
        assert!((4.0 * (apart / 2.0).asin()).to_degrees() <= 0.251, "{}", at());
        assert!(ship.aim.angle_between(back.aim).to_degrees() <= 1.05 && back.aim.is_normalized(), "{}", at());
        assert!(ship.wind.angle_to(back.wind).abs().to_degrees() <= 0.11 && back.wind.is_normalized(), "{}", at());
        let turned = (ship.rudder - back.rudder).rem_euclid(2.0 * PI);
        assert!(turned.min(2.0 * PI - turned).to_degrees() <= 2.01, "{}", at());
        assert_eq!((ship.hull, ship.debt, ship.model), (back.hull, back.debt, back.model), "{}", at());
        assert_eq!((ship.shield, ship.cell, ship.crew), (back.shield, back.cell, back.crew), "{}", at());
        match (&ship.state, &back.state) {
            (State::Docked, State::Docked) => {}
            (State::Sailing { knots, course }, State::Sailing { knots: knots_back, course: back }) => {
                assert_eq!(knots, knots_back);
                assert!((course - back).abs() <= 0.002, "{}", at());
            }
            (State::Towing(what, line), State::Towing(what_back, back)) => {
                assert_eq!(what, what_back);
                assert!((*line - *back).abs().max_element() <= 0.00196, "{}", at());
            }
            _ => panic!("{}", at()),
        }
        let off = ship.target.zip(back.target).map(|(there, back)| (there - back).abs().max_element());
        assert!(ship.target.is_some() == back.target.is_some() && off.is_none_or(|off| off <= 0.00202), "{}", at());
    }
}

#[test]
fn any_integers_mean_something_in_range() {
    let seed = 0x5eed_0002;
    let mut lot = Lot(seed);
    let extremes = [i32::MIN, -1, 0, 1, 2, 3, i32::MAX];
    for round in 0..5_000 {
        let count = integers_in(Ship::GROUPS);
        // Too few of them, even: the door sees to that, but this is no place to rely on it.
        let count = if round % 10 == 0 { lot.bits() as usize % count } else { count };
        let hostile: Vec<i32> = (0..count)
            .map(
                |_| if lot.bits().is_multiple_of(2) { lot.bits() as i32 } else { extremes[lot.bits() as usize % extremes.len()] },
            )
            .collect();
        let ship = Ship::restore(&hostile);
        let at = || format!("seed {seed:#x}, round {round}: {hostile:?} became {ship:?}");
        assert!(ship.position.abs().max_element() <= 500.0 && ship.depth.is_finite(), "{}", at());
        assert!(ship.heading.is_normalized() && ship.aim.is_normalized() && ship.wind.is_normalized(), "{}", at());
        assert!(ship.rudder.abs() <= PI && ship.hull <= 100, "{}", at());
        assert!((-1_000_000_000_000..=-999_999_999_000).contains(&ship.debt), "{}", at());
        assert!(ship.crew.iter().all(|sailor| (1..=6).contains(&sailor.0)), "{}", at());
        there_and_back(&ship);
    }
}

#[test]
fn what_is_out_of_range_is_sent_as_the_nearest_end() {
    let mut ship = Lot(1).ship();
    ship.position = Vec3::new(1e9, f32::NEG_INFINITY, f32::NAN);
    (ship.depth, ship.heading, ship.aim) = (f32::NAN, Quat::from_xyzw(f32::NAN, 0.0, 0.0, 0.0), Vec3::ZERO);
    (ship.wind, ship.rudder) = (Vec2::NAN, f32::INFINITY);
    (ship.hull, ship.debt, ship.crew[0].0) = (255, i64::MAX, 0);
    let back = there_and_back(&ship);
    assert_eq!(back.position, Vec3::new(500.0, -500.0, 0.0));
    assert_eq!((back.depth, back.heading, back.aim), (0.0, Quat::IDENTITY, Vec3::Z));
    assert_eq!((back.wind, back.rudder), (Vec2::X, 0.0));
    assert_eq!((back.hull, back.debt, back.crew[0].0), (100, -999_999_999_000, 1));
}

#[test]
fn a_fieldless_enum_is_one_choice() {
    assert_eq!(Rank::GROUPS, [Group::Choice]);
    assert_eq!([Rank::Mate, Rank::Captain].map(|rank| integers(&rank, 1)[0]), [0, 1]);
    assert_eq!(Rank::restore(&[77]), Rank::Mate, "a state that there is not is the first");
}

#[test]
fn fields_come_in_their_order_and_variants_side_by_side() {
    assert_eq!(State::GROUPS, [Group::Choice, Group::Motion(1), Group::Motion(1), Group::Motion(1), Group::Motion(2)]);
    assert_eq!(integers(&State::Towing(9, Vec2::ONE), 6), [2, 0, 0, 9, 256, 256]);
    assert_eq!(integers(&None::<Vec2>, 3), [0, 0, 0], "nothing of what it was remains");
    assert_eq!(Sailor::GROUPS, [Group::Motion(1), Group::Choice]);
    assert_eq!(integers(&Sailor(4, Rank::Captain), 2), [3, 1]);
}

#[test]
fn who_has_other_steps_is_told_apart() {
    mod other {
        #[derive(crate::Quantized)]
        pub(super) struct Sailor(#[quantized(range = 1..=7)] pub(super) u32, pub(super) super::Rank);
    }
    let text = |describe: fn(&mut String)| {
        let mut text = String::new();
        describe(&mut text);
        text
    };
    assert_ne!(text(Sailor::describe), text(other::Sailor::describe));
    assert!(text(Ship::describe).contains("Captain"), "of fields within fields, too: {}", text(Ship::describe));
    _ = other::Sailor(1, Rank::Mate);
}
