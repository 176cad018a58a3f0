//! `y = x Wᵀ` on a GPU, with `W` packed and everything else f32: one kernel for all devices that
//! `CubeCL` writes for, WebGPU among them.
//!
//! A cube of 16 x 16 units makes a tile of 64 x 64 outputs. It walks along the rows of `x` and `W`
//! in steps of 32 columns: of each step it brings both sides into shared memory, `W` unpacked on
//! the way, and each unit adds the products of 4 rows with 4 rows. So a word of `W` is unpacked
//! once for 64 rows of `x`.
#![allow(missing_docs, reason = "what the macro makes of the kernel has none")]
#![allow(
    clippy::manual_div_ceil,
    clippy::missing_const_for_fn,
    reason = "CubeCL's language has neither"
)]

use cubecl::prelude::*;

/// Units along each side of a cube.
pub(crate) const UNITS: u32 = 16;

/// Outputs of a unit along each side.
const EACH: usize = 4;

/// Rows of `x`, and rows of `W`, of a tile.
pub(crate) const TILE: usize = UNITS as usize * EACH;

/// Columns of a step: the smallest group, so that a word never has two groups. The tiles of a step
/// take 16 KiB of shared memory, which every device has.
const STEP: usize = 32;

/// Codes of 4 or 8 bits with a scale and a bias a group, or floats of 16 bits.
///
/// # Shapes
/// - `x`: `[n, d_input]`
/// - `words`: `[d_output, ceil(d_input * bits / 32)]`
/// - `groups`: `[d_output, d_input / group_size]`, the scale in the low half of a word, the bias in
///   the high half, both f16; not read if `bits` is 16
/// - `y`: `[n, d_output]`, overwritten in the tiles of the cubes
#[cube(launch)]
pub(crate) fn packed_matmul(
    x: &Array<f32>,
    words: &Array<u32>,
    groups: &Array<u32>,
    y: &mut Array<f32>,
    n: u32,
    d_input: u32,
    d_output: u32,
    first_row: u32,
    #[comptime] bits: u32,
    #[comptime] group_size: u32,
) {
    let mut x_tile = SharedMemory::<f32>::new(STEP * TILE);
    let mut w_tile = SharedMemory::<f32>::new(STEP * TILE);

    let n = n as usize;
    let d_input = d_input as usize;
    let d_output = d_output as usize;
    let unit = UNIT_POS as usize;
    let unit_column = UNIT_POS_X as usize;
    let unit_row = UNIT_POS_Y as usize;
    let left = CUBE_POS_X as usize * TILE;
    let top = first_row as usize + CUBE_POS_Y as usize * TILE;
    let units_a_side = comptime!(UNITS as usize);
    let units = comptime!(UNITS as usize * UNITS as usize);

    let codes_per_word = comptime!(32 / bits as usize);
    let words_per_row = (d_input + codes_per_word - 1) / codes_per_word;
    let groups_per_row = d_input / comptime!(group_size as usize);
    let words_per_step = comptime!(STEP / codes_per_word);

    let mut sums = Array::<f32>::new(EACH * EACH);
    #[unroll]
    for i in 0..EACH * EACH {
        sums[i] = 0.0;
    }

    let steps = (d_input + STEP - 1) / STEP;
    for step in 0..steps {
        let start = step * STEP;

        #[unroll]
        for i in 0..comptime!(STEP * TILE / units) {
            let at = i * units + unit;
            let row = at / STEP;
            let column = at % STEP;
            let mut value = 0.0f32;
            if top + row < n && start + column < d_input {
                value = x[(top + row) * d_input + start + column];
            }
            x_tile[place_of(row, column)] = value;
        }

        #[unroll]
        for i in 0..comptime!(words_per_step * TILE / units) {
            let at = i * units + unit;
            let row = at / words_per_step;
            let place = at % words_per_step;
            let column = start / codes_per_word + place;
            let is_inside = left + row < d_output && column < words_per_row;
            let mut word = 0u32;
            if is_inside {
                word = words[(left + row) * words_per_row + column];
            }
            let first = place * codes_per_word;
            if comptime!(bits == 16) {
                w_tile[place_of(row, first)] = float_of_half(word & 0xffff);
                w_tile[place_of(row, first + 1)] = float_of_half(word >> 16);
            } else {
                let mut group = 0u32;
                if is_inside {
                    group = groups
                        [(left + row) * groups_per_row + start / comptime!(group_size as usize)];
                }
                let scale = float_of_half(group & 0xffff);
                let bias = float_of_half(group >> 16);
                #[unroll]
                for c in 0..codes_per_word {
                    let shift = comptime!(c as u32 * bits);
                    let code = (word >> shift) & comptime!((1u32 << bits) - 1);
                    w_tile[place_of(row, first + c)] = scale * f32::cast_from(code) + bias;
                }
            }
        }

        sync_cube();

        for column in 0..STEP {
            #[unroll]
            for i in 0..EACH {
                let x = x_tile[place_of(i * units_a_side + unit_row, column)];
                #[unroll]
                for j in 0..EACH {
                    sums[i * EACH + j] +=
                        x * w_tile[place_of(j * units_a_side + unit_column, column)];
                }
            }
        }

        sync_cube();
    }

    #[unroll]
    for i in 0..EACH {
        let row = top + i * units_a_side + unit_row;
        #[unroll]
        for j in 0..EACH {
            let column = left + j * units_a_side + unit_column;
            if row < n && column < d_output {
                y[row * d_output + column] = sums[i * EACH + j];
            }
        }
    }
}

/// Where a tile keeps the value of a row and a column: column after column, the rows of each in
/// another order, so that neighbours which read a column, or write a row, meet different banks of
/// the memory.
#[cube]
fn place_of(row: usize, column: usize) -> usize {
    column * TILE + (row ^ column)
}

/// A finite f16 as f32, exactly. No device has to know f16 for it, and none of the numbers on the
/// way is so small that a device might take it for zero.
#[cube]
fn float_of_half(bits: u32) -> f32 {
    let magnitude = bits & 0x7fff;
    // The exponent's bias differs by 112.
    let normal = f32::reinterpret((magnitude << 13) + 0x3800_0000);
    // Multiples of 2^-24.
    let subnormal = f32::cast_from(magnitude) * 5.960_464_5e-8;
    let float = select(magnitude < 0x400, subnormal, normal);
    f32::reinterpret(u32::reinterpret(float) | ((bits & 0x8000) << 16))
}
