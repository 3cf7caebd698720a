//! What a group of integers is expected to be, from where it was in two ticks; and what is left of it, coded.

use super::models::{GroupModels, SIZES};
use super::range::Bits;

/// Integers that go on as they did: which is added to what they were, and what is left is coded.
#[inline]
pub(super) fn motion<B: Bits>(
    bits: &mut B,
    models: &mut GroupModels,
    old: &[i32],
    older: Option<&[i32]>,
    now: &mut [i32],
    ahead: i64,
) {
    let mut met = 0;
    for place in 0..now.len() {
        let next = if place + 1 < now.len() { place + 1 } else { 0 };
        let size = older.map_or(SIZES - 2, |older| size(speed(old, older, place, ahead), speed(old, older, next, ahead), met));
        let expected = older.map_or(old[place], |older| go_on(old[place], older[place], ahead));
        let sign = older.map_or(0, |older| way(old[place], older[place]));
        let rest = models.sizes[size].signed(bits, &mut models.signs[sign], now[place].wrapping_sub(expected));
        now[place] = expected.wrapping_add(rest);
        met = note(met, rest);
    }
}

/// The largest component's index, and the three others, which go on as they did while that is the same.
#[inline]
pub(super) fn rotation<B: Bits>(
    bits: &mut B,
    models: &mut GroupModels,
    old: &[i32],
    older: Option<&[i32]>,
    now: &mut [i32],
    ahead: i64,
) {
    let [turned, high, low @ ..] = &mut models.turned;
    if bits.bit(turned, now[0] != old[0]) {
        // An index is two bits: anything else comes from a game that does not use `quantize`, and is told in full.
        let small = bits.raw(u32::from((0..4).contains(&now[0])), 1) == 1;
        if small {
            let first = bits.bit(high, now[0] & 2 != 0);
            let second = bits.bit(&mut low[usize::from(first)], now[0] & 1 != 0);
            now[0] = i32::from(first) << 1 | i32::from(second);
        } else {
            now[0] = bits.raw(now[0] as u32, 32) as i32;
        }
        for (place, value) in now.iter_mut().enumerate().skip(1) {
            *value = models.sizes[SIZES - 1].signed(bits, &mut models.signs[place], *value);
        }
        return;
    }
    now[0] = old[0];
    let older = older.filter(|older| older[0] == old[0]).map(|older| &older[1..]);
    motion(bits, models, &old[1..], older, &mut now[1..], ahead);
}

/// Which way it goes: what is left often points against it.
fn way(old: i32, older: i32) -> usize {
    1 + usize::from(old > older) + 2 * usize::from(old < older)
}

fn go_on(old: i32, older: i32, ahead: i64) -> i32 {
    let step = ((i64::from(old) - i64::from(older)) * ahead + (1 << 15)) >> 16;
    old.wrapping_add(step as i32)
}

/// How far it would go on, in eighths of a step, up to a bound.
fn speed(old: &[i32], older: &[i32], place: usize, ahead: i64) -> u32 {
    ((i64::from(old[place].abs_diff(older[place])) * ahead) >> 13).min(SPEED_MAX) as u32
}

const SPEED_MAX: i64 = 1 << 20;

/// Which sort of number to expect: by its speed, its neighbor's, and what was left of those before it.
fn size(speed: u32, next: u32, met: u32) -> usize {
    let expected = (4 * speed + next + 2 * met) / 4;
    ((u32::BITS - expected.leading_zeros()) as usize).min(SIZES - 3)
}

fn note(met: u32, rest: i32) -> u32 {
    (met + rest.unsigned_abs().min(1 << 16) * 8).min(SPEED_MAX as u32)
}
