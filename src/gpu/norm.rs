//! Layer norm in one pass over each token's memory cache.

use cubecl::prelude::*;

use super::linear::F4;

/// Units of a token.
pub(crate) const UNITS: u32 = 16;

/// Tokens of a cube.
pub(crate) const TOKENS: u32 = 4;

/// To mean 0 and variance 1, then scaled and shifted.
///
/// # Shapes
/// - `x`, `y`: `[n, dim]`, `dim` a multiple of 4
/// - `weight`, `bias`: `[dim]`
#[cube(launch)]
pub(crate) fn norm(
    x: &Array<F4>,
    weight: &Array<F4>,
    bias: &Array<F4>,
    y: &mut Array<F4>,
    n: u32,
    dim: u32,
    epsilon: f32,
) {
    let mut parts = SharedMemory::<f32>::new(comptime!((UNITS * TOKENS) as usize));
    let units = comptime!(UNITS as usize);
    let unit = UNIT_POS_X as usize;
    let vectors = dim as usize / 4;
    let token = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize * comptime!(TOKENS as usize)
        + UNIT_POS_Y as usize;
    // All units come to the barriers, also those of no token.
    let is_token = token < n as usize;
    let own = if is_token {
        token * vectors
    } else {
        0usize.runtime()
    };
    let loads = (vectors + units - 1) / units;

    let mut sum = F4::new(0.0);
    for i in 0..loads {
        let at = i * units + unit;
        if is_token && at < vectors {
            sum += x[own + at];
        }
    }
    let mean = of_all(sum, &mut parts) / f32::cast_from(dim);
    sync_cube();

    let mean4 = F4::new(mean);
    let mut squares = F4::new(0.0);
    for i in 0..loads {
        let at = i * units + unit;
        if is_token && at < vectors {
            let off = x[own + at] - mean4;
            squares = fma(off, off, squares);
        }
    }
    let variance = of_all(squares, &mut parts) / f32::cast_from(dim);

    let scale = F4::new(1.0 / f32::sqrt(variance + epsilon));
    for i in 0..loads {
        let at = i * units + unit;
        if is_token && at < vectors {
            y[own + at] = (x[own + at] - mean4) * scale * weight[at] + bias[at];
        }
    }
}

/// The sum over the units of a token.
#[cube]
fn of_all(own: F4, parts: &mut SharedMemory<f32>) -> f32 {
    let units = comptime!(UNITS as usize);
    let first = UNIT_POS_Y as usize * units;
    parts[first + UNIT_POS_X as usize] = own[0] + own[1] + own[2] + own[3];
    sync_cube();
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..units {
        sum += parts[first + i];
    }
    sum
}
