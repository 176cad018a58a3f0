//! Matrices in f16 as a whole, for devices that multiply those fast.

use cubecl::prelude::*;
use half::f16;

use super::half::float_of_half;
use super::linear::F4;

/// Four values of f16.
pub(crate) type H4 = Vector<f16, Const<4>>;

/// Values in f16; what that can't reach becomes its end, not infinity.
///
/// # Shapes
/// - `x`, `y`: `[len]`, in vectors of 4
#[cube(launch)]
pub(crate) fn narrow(x: &Array<F4>, y: &mut Array<H4>, len: u32) {
    let at = position();
    if at < len as usize {
        y[at] = narrowed(x[at]);
    }
}

#[cube]
pub(super) fn narrowed(values: F4) -> H4 {
    let end = F4::new(65504.0);
    H4::cast_from(clamp(values, -end, end))
}

/// A matrix of codes, unpacked.
///
/// # Shapes
/// - `words`: `[len]`, and `groups`: as of [`linear`](super::linear::linear), with 4 or 8 bits
/// - `y`: `[d_output, d_input]`, in vectors of 4
#[cube(launch)]
pub(crate) fn unpacked(
    words: &Array<u32>,
    groups: &Array<u32>,
    y: &mut Array<H4>,
    len: u32,
    words_a_group: u32,
    #[comptime] bits: u32,
) {
    let at = position();
    if at < len as usize {
        // A row is a number of groups, so they follow each other as the words do.
        let pair = groups[at / words_a_group as usize];
        let scale = float_of_half(pair & 0xffff);
        let bias = float_of_half(pair >> 16);
        let word = words[at];
        let vectors = comptime!(8 / bits as usize);
        #[unroll]
        for v in 0..vectors {
            let mut four = F4::new(0.0);
            #[unroll]
            for c in 0..4usize {
                let shift = comptime!((4 * v + c) as u32 * bits);
                let code = (word >> shift) & comptime!((1u32 << bits) - 1);
                four[c] = scale * f32::cast_from(code) + bias;
            }
            y[at * vectors + v] = narrowed(four);
        }
    }
}

/// That of a unit, counted through the cubes of a plane.
#[cube]
fn position() -> usize {
    (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize * CUBE_DIM as usize + UNIT_POS as usize
}
