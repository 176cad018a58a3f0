//! The inverse cosine transform, with the integers of libjpeg's "slow" method, so that its samples are equal bit for bit.
//!
//! Source: Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications" (ICASSP 1989),
//! in the fixed point of libjpeg's `jidctint.c`: constants of 13 bits, two more bits between the passes.

/// Fractional bits of the constants.
const BITS: u32 = 13;
/// Further bits that are kept between the passes.
const BETWEEN: u32 = 2;

/// A constant in fixed point.
const fn fixed(value: f64) -> i32 {
    (value * (1 << BITS) as f64 + 0.5) as i32
}

const F_0_298: i32 = fixed(0.298_631_336);
const F_0_390: i32 = fixed(0.390_180_644);
const F_0_541: i32 = fixed(0.541_196_100);
const F_0_765: i32 = fixed(0.765_366_865);
const F_0_899: i32 = fixed(0.899_976_223);
const F_1_175: i32 = fixed(1.175_875_602);
const F_1_501: i32 = fixed(1.501_321_110);
const F_1_847: i32 = fixed(1.847_759_065);
const F_1_961: i32 = fixed(1.961_570_560);
const F_2_053: i32 = fixed(2.053_119_869);
const F_2_562: i32 = fixed(2.562_915_447);
const F_3_072: i32 = fixed(3.072_711_026);

/// Eight numbers side by side: a row of coefficients.
type Row = [i32; 8];

#[inline(always)]
fn add(a: Row, b: Row) -> Row {
    std::array::from_fn(|i| a[i].wrapping_add(b[i]))
}

#[inline(always)]
fn sub(a: Row, b: Row) -> Row {
    std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
}

#[inline(always)]
fn times(a: Row, factor: i32) -> Row {
    std::array::from_fn(|i| a[i].wrapping_mul(factor))
}

/// The transform of eight columns; `shift` takes the fraction away, rounding.
#[inline(always)]
fn columns(x: [Row; 8], shift: u32) -> [Row; 8] {
    let [x0, x1, x2, x3, x4, x5, x6, x7] = x;

    let z = times(add(x2, x6), F_0_541);
    let even_2 = sub(z, times(x6, F_1_847));
    let even_3 = add(z, times(x2, F_0_765));
    let even_0 = times(add(x0, x4), 1 << BITS);
    let even_1 = times(sub(x0, x4), 1 << BITS);
    let (a0, a3) = (add(even_0, even_3), sub(even_0, even_3));
    let (a1, a2) = (add(even_1, even_2), sub(even_1, even_2));

    let z5 = times(add(add(x7, x3), add(x5, x1)), F_1_175);
    let z1 = times(add(x7, x1), -F_0_899);
    let z2 = times(add(x5, x3), -F_2_562);
    let z3 = add(times(add(x7, x3), -F_1_961), z5);
    let z4 = add(times(add(x5, x1), -F_0_390), z5);
    let b0 = add(times(x7, F_0_298), add(z1, z3));
    let b1 = add(times(x5, F_2_053), add(z2, z4));
    let b2 = add(times(x3, F_3_072), add(z2, z3));
    let b3 = add(times(x1, F_1_501), add(z1, z4));

    let rounded = |row: Row| -> Row {
        std::array::from_fn(|i| row[i].wrapping_add(1 << (shift - 1)) >> shift)
    };
    [
        rounded(add(a0, b3)),
        rounded(add(a1, b2)),
        rounded(add(a2, b1)),
        rounded(add(a3, b0)),
        rounded(sub(a3, b0)),
        rounded(sub(a2, b1)),
        rounded(sub(a1, b2)),
        rounded(sub(a0, b3)),
    ]
}

#[inline(always)]
fn transposed(x: [Row; 8]) -> [Row; 8] {
    std::array::from_fn(|i| std::array::from_fn(|j| x[j][i]))
}

/// The samples of a block, rows of eight, from its coefficients and their steps, both row by row.
#[inline(always)]
pub(super) fn block(coefficients: &[i16; 64], steps: &[u16; 64]) -> [[u8; 8]; 8] {
    let values: [Row; 8] = std::array::from_fn(|row| {
        std::array::from_fn(|column| {
            let at = row * 8 + column;
            i32::from(coefficients[at]).wrapping_mul(i32::from(steps[at]))
        })
    });
    let between = columns(values, BITS - BETWEEN);
    let samples = columns(transposed(between), BITS + BETWEEN + 3);
    let level = |sample: i32| sample.saturating_add(128).clamp(0, 255) as u8;
    std::array::from_fn(|row| std::array::from_fn(|column| level(samples[column][row])))
}

/// The same where all coefficients but the first are zero: one sample for all.
#[inline(always)]
pub(super) fn flat(coefficient: i16, step: u16) -> u8 {
    let value = i32::from(coefficient).wrapping_mul(i32::from(step));
    (value.wrapping_add(4) >> 3)
        .saturating_add(128)
        .clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    /// The transform as T.81 defines it (A.3.3).
    fn by_definition(coefficients: &[i16; 64]) -> [f64; 64] {
        let scale = |n: usize| if n == 0 { 0.5_f64.sqrt() } else { 1.0 };
        let wave = |x: usize, u: usize| ((2 * x + 1) as f64 * u as f64 * PI / 16.0).cos();
        std::array::from_fn(|at| {
            let (y, x) = (at / 8, at % 8);
            let mut sum = 0.0;
            for (n, &c) in coefficients.iter().enumerate() {
                let (v, u) = (n / 8, n % 8);
                sum += scale(u) * scale(v) * f64::from(c) * wave(x, u) * wave(y, v);
            }
            sum / 4.0 + 128.0
        })
    }

    #[test]
    fn it_is_the_cosine_transform() {
        let mut state = 1_u64;
        for _ in 0..200 {
            let coefficients: [i16; 64] = std::array::from_fn(|at| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let size = 400 / (1 + at as i64 / 2);
                ((state >> 33) as i64 % (2 * size + 1) - size) as i16
            });
            let samples = block(&coefficients, &[1; 64]);
            for (sample, exact) in samples
                .as_flattened()
                .iter()
                .zip(by_definition(&coefficients))
            {
                let exact = exact.clamp(0.0, 255.0);
                assert!(
                    (f64::from(*sample) - exact).abs() < 0.6,
                    "{sample} for {exact}"
                );
            }
        }
    }

    #[test]
    fn a_flat_block_is_a_block() {
        for coefficient in (-1100..1100).step_by(7) {
            let mut coefficients = [0; 64];
            coefficients[0] = coefficient;
            let samples = block(&coefficients, &[3; 64]);
            let one = flat(coefficient, 3);
            assert!(samples.as_flattened().iter().all(|&sample| sample == one));
        }
    }
}
