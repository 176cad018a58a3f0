//! `y = epilogue(x Wᵀ)`: few rows, or rows of a length that vectors don't fit.
//!
//! All of `W` is read for each row of `x`, so memory is the limit: the units of an output read neighbouring
//! words, and add up what they have at the end.

use cubecl::prelude::*;

use super::half::float_of_half;
use super::linear::Epilogue;

/// Units of an output.
pub(crate) const UNITS: u32 = 16;

/// Outputs of a cube.
pub(crate) const OUTPUTS: u32 = 4;

/// # Shapes
/// - `x`: `[n, d_input]`
/// - `words`: `[d_output, ceil(d_input * bits / 32)]`
/// - `groups`, `addend`, `y`: as of [`linear`](super::linear::linear), with any `d_output`
#[cube(launch)]
pub(crate) fn rows(
    x: &Array<f32>,
    words: &Array<u32>,
    groups: &Array<u32>,
    addend: &Array<f32>,
    y: &mut Array<f32>,
    d_input: u32,
    d_output: u32,
    first_row: u32,
    #[comptime] bits: u32,
    #[comptime] group_size: usize,
    #[comptime] epilogue: Epilogue,
) {
    let mut parts = SharedMemory::<f32>::new(comptime!((UNITS * OUTPUTS) as usize));
    let units = comptime!(UNITS as usize);
    let unit = UNIT_POS_X as usize;
    let d_input = d_input as usize;
    let d_output = d_output as usize;
    let column = CUBE_POS_X as usize * comptime!(OUTPUTS as usize) + UNIT_POS_Y as usize;
    let row = (first_row + CUBE_POS_Y) as usize;
    // All units come to the barrier, also those of no output.
    let is_output = column < d_output;

    let codes = comptime!(32 / bits as usize);
    let words_per_row = (d_input + codes - 1) / codes;
    let groups_per_row = d_input / group_size;
    let mut sum = 0.0f32;
    let loads = (words_per_row + units - 1) / units;
    for i in 0..loads {
        let at = i * units + unit;
        if is_output && at < words_per_row {
            let word = words[column * words_per_row + at];
            let first = at * codes;
            if comptime!(bits >= 16) {
                #[unroll]
                for c in 0..codes {
                    // The last word of a row of an odd length has a half of nothing.
                    if first + c < d_input {
                        let weight = if comptime!(bits == 32) {
                            f32::reinterpret(word)
                        } else {
                            float_of_half((word >> comptime!(16 * c as u32)) & 0xffff)
                        };
                        sum += x[row * d_input + first + c] * weight;
                    }
                }
            } else {
                let pair = groups[column * groups_per_row + first / group_size];
                let mut codes_sum = 0.0f32;
                let mut x_sum = 0.0f32;
                #[unroll]
                for c in 0..codes {
                    let code = (word >> comptime!(c as u32 * bits)) & comptime!((1u32 << bits) - 1);
                    let value = x[row * d_input + first + c];
                    codes_sum += value * f32::cast_from(code);
                    x_sum += value;
                }
                sum += float_of_half(pair & 0xffff) * codes_sum + float_of_half(pair >> 16) * x_sum;
            }
        }
    }
    let first = UNIT_POS_Y as usize * units;
    parts[first + unit] = sum;
    sync_cube();
    if is_output && unit == 0 {
        let mut sum = 0.0f32;
        #[unroll]
        for i in 0..units {
            sum += parts[first + i];
        }
        let at = row * d_output + column;
        y[at] = match epilogue {
            Epilogue::None => sum,
            Epilogue::Gelu => sum * 0.5 * (Erf::erf(sum * core::f32::consts::FRAC_1_SQRT_2) + 1.0),
            Epilogue::Add => addend[at] + sum,
            Epilogue::Bias => addend[column] + sum,
        };
    }
}
