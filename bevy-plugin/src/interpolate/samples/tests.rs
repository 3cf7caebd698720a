//! What is shown of an entity, by its places: against where it truly was.

use super::*;

fn at(x: f32) -> Transform {
    Transform::from_xyz(x, 0.0, 0.0)
}

const SHOWING: Showing = Showing { snap_distance: 500.0, beyond: 0.0, extra_max: 0.25 };
const TICK: f64 = 1.0 / 60.0;

fn moment(at: f64) -> Moment {
    Moment { at, period: TICK }
}

/// Where it is at a moment: that it may be shown later is for the tests that show it frame by frame.
fn x(samples: &mut Samples, moment: f64) -> f32 {
    samples.shown_at(moment, Showing { extra_max: 0.0, ..SHOWING }).translation.x
}

#[test]
fn it_moves_from_place_to_place_and_stops() {
    let mut samples = Samples::from(at(0.0), moment(1.0), at(0.0));
    samples.push(moment(1.05), at(5.0));
    samples.push(moment(1.1), at(10.0));
    assert_eq!(x(&mut samples, 0.5), 0.0);
    assert!((x(&mut samples, 1.025) - 2.5).abs() < 1e-3);
    assert!((x(&mut samples, 1.075) - 7.5).abs() < 1e-3);
    assert!(!samples.is_settled());
    assert_eq!(x(&mut samples, 7.0), 10.0, "never beyond the newest");
    assert!(samples.is_settled());
}

#[test]
fn who_stood_still_starts_when_it_started() {
    let mut samples = Samples::from(at(0.0), moment(1.0), at(1.0));
    assert_eq!(x(&mut samples, 2.0), 1.0);
    samples.push(moment(9.0), at(2.0));
    assert!(!samples.is_settled());
    assert_eq!(x(&mut samples, 8.0), 1.0, "it did not creep for eight seconds");
    assert!((x(&mut samples, 8.95) - 1.5).abs() < 1e-3);
    assert_eq!(x(&mut samples, 9.0), 2.0);
}

#[test]
fn a_jump_is_a_jump() {
    let mut samples = Samples::from(at(0.0), moment(1.0), at(0.0));
    samples.push(moment(1.1), at(501.0));
    assert_eq!(x(&mut samples, 1.09), 0.0);
    assert_eq!(x(&mut samples, 1.1), 501.0);
}

#[test]
fn the_later_news_wins() {
    let mut samples = Samples::from(at(0.0), moment(1.0), at(1.0));
    samples.push(moment(0.9), at(2.0));
    assert_eq!(x(&mut samples, 1.0), 2.0);
}

#[test]
fn memory_is_bounded() {
    let mut samples = Samples::from(at(0.0), moment(1.0), at(1.0));
    for n in 0..1_000 {
        samples.push(moment(1.0 + f64::from(n) * 0.01), at(0.0));
    }
    assert_eq!(samples.samples.len(), SAMPLES_MAX);
}

/// Where something is at a time, whose values come at `times`, as it is shown a little later: the largest distance to where it
/// was, of the curved way and of the straight one, once it has been seen for a while.
fn off(path: impl Fn(f64) -> Vec3, times: &[f64]) -> (f32, f32) {
    let place = |at: f64| Transform::from_translation(path(at));
    let mut samples = Samples::from(place(times[0]), moment(times[0]), place(times[0]));
    let (mut curved, mut straight) = (0.0_f32, 0.0_f32);
    for pair in times.windows(2) {
        samples.push(moment(pair[1]), place(pair[1]));
        for step in 0..20 {
            let part = f64::from(step) / 20.0;
            let now = pair[0] + part * (pair[1] - pair[0]);
            let truth = path(now);
            // No extra delay: these come often enough for the test, and the straight way is measured at the same moment.
            let shown = samples.shown_at(now, Showing { extra_max: 0.0, ..SHOWING }).translation;
            if pair[0] > times[4] {
                curved = curved.max(shown.distance(truth));
                straight = straight.max(path(pair[0]).lerp(path(pair[1]), part as f32).distance(truth));
            }
        }
    }
    (curved, straight)
}

/// Ten a second, evenly or not.
fn times(uneven: f64) -> Vec<f64> {
    (0..60).map(|n| 1.0 + 0.1 * f64::from(n) + uneven * f64::from(n * 7 % 5) / 5.0).collect()
}

#[test]
fn a_circle_is_round() {
    let circle = |at: f64| Vec3::new((3.0 * at).cos() as f32, 0.0, (3.0 * at).sin() as f32) * 10.0;
    for uneven in [0.0, 0.04] {
        let (curved, straight) = off(circle, &times(uneven));
        assert!(curved < straight / 10.0, "{curved} off the circle, {straight} along straight lines");
    }
}

#[test]
fn a_sharp_turn_and_a_stop_are_not_overshot() {
    // East at 10 a second for two seconds, then north for one, then it stands.
    let walk = |at: f64| {
        let (east, north) = ((at - 1.0).min(2.0), (at - 3.0).clamp(0.0, 1.0));
        Vec3::new(east as f32, 0.0, north as f32) * 10.0
    };
    let (curved, straight) = off(walk, &times(0.0));
    assert!(curved <= straight + 1e-3, "{curved} off the way, {straight} along straight lines");
    let corner = |at: f64| walk(at + 0.05);
    let (curved, straight) = off(corner, &times(0.0));
    assert!(curved <= straight, "{curved} off the way, {straight} along straight lines");
}

#[test]
fn who_brakes_hard_goes_neither_too_far_nor_back() {
    let path = |n: u32| if n < 20 { at(n as f32) } else { at(20.0 + (n - 20) as f32 * 0.05) };
    let mut samples = Samples::from(path(0), moment(1.0), path(0));
    let mut last = 0.0;
    for n in 1..40 {
        samples.push(moment(1.0 + 0.1 * f64::from(n)), path(n));
        for step in 0..20 {
            let x = x(&mut samples, 0.9 + 0.1 * (f64::from(n) + f64::from(step) / 20.0));
            assert!(x >= last && x <= path(n).translation.x + 1e-4, "{x} after {last}, on the way to {}", path(n).translation.x);
            last = x;
        }
    }
}

#[test]
fn a_jump_that_its_owner_speaks_of_is_one_however_short() {
    for late in [0.0, 0.2] {
        let mut samples = Samples::from(at(0.0), moment(1.0), at(0.0));
        for n in 1..=5 {
            samples.push(moment(1.0 + 0.05 * f64::from(n)), at(n as f32));
        }
        // Shown before the jump is heard of, or while it has been waited for.
        x(&mut samples, 1.2 + late);
        samples.jump(moment(1.3), at(30.0));
        samples.push(moment(1.35), at(31.0));
        let mut last = if late > 0.0 { 30.0 } else { 4.0 };
        for step in 0..40 {
            let x = x(&mut samples, 1.2 + late + f64::from(step) * 0.005);
            assert!(x >= last && !(5.001..29.999).contains(&x), "{x} after {last}");
            last = x;
        }
        assert_eq!(last, 31.0);
    }
}

#[test]
fn a_known_velocity_is_taken_at_its_word() {
    // A ball that is thrown: two values, and how fast it was.
    let path = |at: f64| Vec3::new(5.0 * at as f32, (8.0 * at - 5.0 * at * at) as f32, 0.0);
    let velocity = |at: f64| Vec3::new(5.0, (8.0 - 10.0 * at) as f32, 0.0);
    let place = |at: f64| Transform::from_translation(path(at));
    let mut samples = Samples::from(place(0.0), moment(0.0), place(0.0));
    samples.know_velocity(false, || velocity(0.0));
    samples.push(moment(0.09), place(0.09));
    samples.know_velocity(false, || velocity(0.09));
    samples.know_velocity(false, || Vec3::NAN);
    for step in 0..10 {
        let now = 0.09 * f64::from(step) / 10.0;
        let off = samples.shown_at(now, SHOWING).translation.distance(path(now));
        assert!(off < 1e-3, "{off} at {now}");
    }
}

/// Shows what moves at 6 a second and of which something comes every `every` ticks, as it comes, 60 frames a second.
fn shown_of(every: &dyn Fn(u32) -> bool, beyond: f64, seconds: u32) -> Vec<f32> {
    let place = |tick: u32| at(0.1 * tick as f32);
    let time = |tick: u32| 1.0 + f64::from(tick) * TICK;
    let mut samples = Samples::from(place(0), moment(time(0)), place(0));
    let mut shown = Vec::new();
    for tick in 1..60 * seconds {
        if every(tick) {
            samples.push(moment(time(tick)), place(tick));
        }
        // A tick and a half later than the newest could be, as for others of the same owner that come each tick.
        shown.push(samples.shown_at(time(tick) - 1.5 * TICK, Showing { beyond, ..SHOWING }).translation.x);
    }
    shown
}

#[test]
fn what_comes_seldom_and_unevenly_moves_evenly() {
    // Every six ticks, as of a game that says so; and by a lot, as where bytes are scarce.
    let lot = |tick: u32| {
        let mixed = (tick ^ 0x5eed).wrapping_mul(2_654_435_761);
        (mixed ^ mixed >> 15).wrapping_mul(2_246_822_519).is_multiple_of(3)
    };
    for every in [&(|tick: u32| tick.is_multiple_of(6)) as &dyn Fn(u32) -> bool, &lot] {
        let shown = shown_of(every, 0.0, 12);
        let steps = || shown.windows(2).skip(240).map(|pair| pair[1] - pair[0]);
        assert!(steps().all(|step| step >= 0.0), "it went back");
        let stood = steps().filter(|step| *step < 0.02).count();
        assert!(stood * 20 < steps().count(), "it stood in {stood} of {} frames", steps().count());
        let leap = steps().fold(0.0, f32::max);
        assert!(leap < 0.2, "it leapt by {leap} where it moves by 0.1");
    }
}

#[test]
fn a_step_now_and_then_is_no_slow_movement() {
    // As on a board: one field each second; shown within a tenth of a second each, and none later than it must be.
    let mut samples = Samples::from(at(0.0), moment(1.0), at(0.0));
    for field in 1..10 {
        samples.push(moment(1.0 + f64::from(field)), at(field as f32));
        assert_eq!(x(&mut samples, 0.89 + f64::from(field)), field as f32 - 1.0);
        assert_eq!(x(&mut samples, 1.0 + f64::from(field)), field as f32);
    }
}

#[test]
fn it_goes_on_for_as_long_as_it_may_and_comes_back() {
    let showing = Showing { beyond: 0.1, extra_max: 0.0, ..SHOWING };
    let mut samples = Samples::from(at(0.0), moment(1.0), at(0.0));
    for n in 1..=10 {
        samples.push(moment(1.0 + 0.05 * f64::from(n)), at(n as f32));
        samples.shown_at(1.0 + 0.05 * f64::from(n), showing);
    }
    let mut x = |at: f64| samples.shown_at(at, showing).translation.x;
    assert!((x(1.55) - 11.0).abs() < 0.01, "as fast as it was");
    assert!((11.9..=12.0).contains(&x(1.6)), "a tenth of a second is the most");
    assert!((10.5..11.5).contains(&x(1.725)), "then it seems to have stopped");
    assert_eq!(x(2.0), 10.0);
    assert!(samples.is_settled());
}

#[test]
fn who_is_known_to_have_stopped_goes_no_further() {
    let showing = Showing { beyond: 0.1, extra_max: 0.0, ..SHOWING };
    let mut samples = Samples::from(at(0.0), moment(1.0), at(0.0));
    for n in 1..=10 {
        samples.push(moment(1.0 + 0.05 * f64::from(n)), at(n as f32));
        samples.know_velocity(false, || Vec3::X * 20.0);
        samples.shown_at(1.0 + 0.05 * f64::from(n), showing);
    }
    // A tick later it has a velocity of nothing, and is where it was.
    samples.know_velocity(false, || panic!("nobody asked"));
    samples.know_velocity(true, || Vec3::ZERO);
    assert_eq!(samples.shown_at(1.55, showing).translation.x, 10.0);
}

#[test]
fn what_was_late_is_put_right_without_a_leap() {
    for beyond in [0.0, 0.1] {
        // Nothing comes for nine ticks in the middle.
        let shown = shown_of(&|tick| !(300..309).contains(&tick), beyond, 8);
        let leap = shown.windows(2).map(|pair| (pair[1] - pair[0]).abs()).skip(60).fold(0.0, f32::max);
        assert!(leap < 0.3, "it leapt by {leap} where it moves by 0.1");
    }
}

#[test]
fn whatever_comes_it_is_shown_somewhere() {
    let seed = 0x5eed_0003_u64;
    let mut bits = seed;
    let mut number = |most: f64| {
        // Of G. Marsaglia's xorshift generators.
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        ((bits >> 11) as f64 / (1_u64 << 53) as f64 * 2.0 - 1.0) * most
    };
    let mut samples = Samples::from(at(0.0), moment(1.0), at(0.0));
    let mut now = 1.0;
    for round in 0..20_000 {
        let most = [1e-30, 1.0, 1e9, 3e38][(number(2.0) + 2.0) as usize % 4];
        let place = Transform::from_translation(Vec3::from_array([0; 3].map(|_| number(most) as f32)));
        let gap = number(0.2) * number(1.0).powi(9);
        samples.push(Moment { at: now + gap, period: TICK }, place);
        if round % 3 == 0 {
            samples.know_velocity(false, || Vec3::splat(number(most) as f32));
        }
        now += number(0.1).abs() * number(1.0).abs().powi(3);
        let showing = Showing { snap_distance: if round % 2 == 0 { 500.0 } else { 1e20 }, beyond: 0.1, extra_max: 0.2 };
        let shown = samples.shown_at(now, showing);
        assert!(shown.translation.is_finite(), "seed {seed:#x}, round {round}: {shown:?} of {samples:?}");
    }
}
