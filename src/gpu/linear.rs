//! `y = epilogue(x Wᵀ)`: tiles of many rows.
//!
//! A cube makes a tile of outputs, each unit 8 x 8 of them. It walks along the rows of `x` and `W` in
//! steps: of each step it brings both sides into shared memory, `W` unpacked on the way, turned so that
//! four rows of a column are one vector. A unit then reads four vectors for 64 products. So a word of `W`
//! is unpacked once for all rows of a tile.

use cubecl::prelude::*;

use super::dense::narrowed;
use super::half::float_of_half;

/// Four floats, the widest load of every device.
pub(super) type F4 = Vector<f32, Const<4>>;

/// Outputs of a unit along each side.
pub(crate) const EACH: usize = 8;

/// How a matrix is kept and what is done to a product: what a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    /// Bits of a weight: 4 or 8 are codes, 16 and 32 floats.
    pub bits: u32,
    /// How many codes share a scale and a bias; at least [`Tile::step`].
    pub group_size: usize,
    /// What is done to a sum.
    pub epilogue: Epilogue,
}

/// What is done to a sum before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Epilogue {
    /// Nothing.
    None,
    /// The exact GELU.
    Gelu,
    /// A value for each output is added.
    Add,
    /// A value for each column is added.
    Bias,
}

/// The outputs of a cube.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tile {
    /// Rows of `x`.
    pub rows: usize,
    /// Rows of `W`.
    pub columns: usize,
    /// Columns of both that are in shared memory at a time: a multiple of 8, at most the smallest group.
    pub step: usize,
    /// Whether shared memory holds f16; sums are f32 in any case.
    pub halves: bool,
}

impl Tile {
    /// Units along each side, columns first.
    pub const fn units(self) -> (u32, u32) {
        ((self.columns / EACH) as u32, (self.rows / EACH) as u32)
    }

    /// Bytes of shared memory.
    pub const fn shared(self) -> usize {
        (self.rows + self.columns) * self.step * if self.halves { 2 } else { 4 }
    }
}

/// # Shapes
/// - `x`: `[n, d_input]`, `d_input` a multiple of 4
/// - `words`: `[d_output, ceil(d_input * bits / 32)]`, in vectors of the words of four weights, or of one word
/// - `groups`: `[d_output, d_input / group_size]`, the scale in the low half of a word, the bias in the
///   high half, both f16; not read for floats
/// - `addend`: `[n, d_output]` or `[d_output]`, as [`Epilogue`] says
/// - `y`: `[parts, n, d_output]`, `d_output` a multiple of 4; the cubes of plane z take the steps of part z
#[cube(launch)]
pub(crate) fn linear<W: Size, S: Float>(
    x: &Array<F4>,
    words: &Array<Vector<u32, W>>,
    groups: &Array<u32>,
    addend: &Array<F4>,
    y: &mut Array<F4>,
    n: u32,
    d_input: u32,
    d_output: u32,
    first_row: u32,
    steps_a_part: u32,
    #[comptime] variant: Variant,
    #[comptime] tile: Tile,
) {
    let step = comptime!(tile.step);
    let x_vectors = comptime!(tile.rows / 4);
    let w_vectors = comptime!(tile.columns / 4);
    let mut x_tile = SharedMemory::<Vector<S, Const<4>>>::new(comptime!(tile.rows / 4 * tile.step));
    let mut w_tile =
        SharedMemory::<Vector<S, Const<4>>>::new(comptime!(tile.columns / 4 * tile.step));

    let n = n as usize;
    let row_vectors = d_input as usize / 4;
    let d_output = d_output as usize;
    let unit = UNIT_POS as usize;
    let unit_column = UNIT_POS_X as usize;
    let unit_row = UNIT_POS_Y as usize;
    let unit_columns = comptime!(tile.columns / EACH);
    let unit_rows = comptime!(tile.rows / EACH);
    let units = comptime!(tile.columns / EACH * (tile.rows / EACH));
    let left = CUBE_POS_X as usize * comptime!(tile.columns);
    let top = first_row as usize + CUBE_POS_Y as usize * comptime!(tile.rows);

    // Weights of a load: those of one vector of words.
    let codes = comptime!(if variant.bits == 4 { 8usize } else { 4usize });
    let loads_a_row = d_input as usize / codes + comptime!(0usize);
    let groups_per_row = d_input as usize / comptime!(variant.group_size);

    let mut sums = Array::<F4>::new(comptime!(EACH * EACH / 4));
    #[unroll]
    for i in 0..comptime!(EACH * EACH / 4) {
        sums[i] = F4::new(0.0);
    }

    let all_steps = (d_input as usize + step - 1) / step;
    let first_step = CUBE_POS_Z as usize * steps_a_part as usize;
    let end_step = min(first_step + steps_a_part as usize, all_steps);
    for s in first_step..end_step {
        let start = s * step;

        // Four rows of `x`, four columns each.
        let x_loads = comptime!(tile.rows / 4 * (tile.step / 4));
        #[unroll]
        for i in 0..comptime!(x_loads.div_ceil(units)) {
            let at = i * units + unit;
            if at < x_loads {
                let place = at % comptime!(tile.step / 4);
                let four = at / comptime!(tile.step / 4);
                let row = top + four * 4;
                let column = start / 4 + place;
                let is_column = column < row_vectors;
                let a = load_x(x, row, n, column, row_vectors, is_column);
                let b = load_x(x, row + 1, n, column, row_vectors, is_column);
                let c = load_x(x, row + 2, n, column, row_vectors, is_column);
                let d = load_x(x, row + 3, n, column, row_vectors, is_column);
                #[unroll]
                for k in 0..4usize {
                    x_tile[place_of(place * 4 + k, four, x_vectors)] =
                        staged::<S>(four_of(a[k], b[k], c[k], d[k]), tile.halves);
                }
            }
        }

        // Four rows of `W`, the weights of one load each.
        let w_loads = comptime!(tile.columns / 4 * tile.step / codes);
        #[unroll]
        for i in 0..comptime!(w_loads.div_ceil(units)) {
            let at = i * units + unit;
            if at < w_loads {
                let place = at % comptime!(tile.step / codes);
                let four = at / comptime!(tile.step / codes);
                let column = start / codes + place;
                let row = left + four * 4;
                let group = start / comptime!(variant.group_size);
                // `d_output` is a multiple of 4: all four rows are inside, or none is.
                let is_inside = row < d_output && column < loads_a_row;
                let mut rows = Array::<f32>::new(comptime!(4 * codes));
                #[unroll]
                for r in 0..4usize {
                    let mut scale = 0.0f32;
                    let mut bias = 0.0f32;
                    let mut word = Vector::<u32, W>::new(0u32);
                    if is_inside {
                        word = words[(row + r) * loads_a_row + column];
                        if comptime!(variant.bits < 16) {
                            let pair = groups[(row + r) * groups_per_row + group];
                            scale = float_of_half(pair & 0xffff);
                            bias = float_of_half(pair >> 16);
                        }
                    }
                    unpack::<W>(word, scale, bias, &mut rows, r * codes, variant.bits);
                }
                #[unroll]
                for k in 0..codes {
                    w_tile[place_of(place * codes + k, four, w_vectors)] = staged::<S>(
                        four_of(
                            rows[k],
                            rows[codes + k],
                            rows[2 * codes + k],
                            rows[3 * codes + k],
                        ),
                        tile.halves,
                    );
                }
            }
        }

        sync_cube();

        for k in 0..step {
            let w0 = F4::cast_from(w_tile[place_of(k, unit_column, w_vectors)]);
            let w1 = F4::cast_from(w_tile[place_of(k, unit_column + unit_columns, w_vectors)]);
            #[unroll]
            for i in 0..2usize {
                let x = F4::cast_from(x_tile[place_of(k, unit_row + i * unit_rows, x_vectors)]);
                #[unroll]
                for r in 0..4usize {
                    let each = F4::new(x[r]);
                    let at = comptime!(2 * (4 * i + r));
                    sums[at] = fma(each, w0, sums[at]);
                    sums[at + 1] = fma(each, w1, sums[at + 1]);
                }
            }
        }

        sync_cube();
    }

    let column_vectors = d_output / 4;
    #[unroll]
    for i in 0..2usize {
        #[unroll]
        for r in 0..4usize {
            let row = top + (unit_row + i * unit_rows) * 4 + r;
            #[unroll]
            for j in 0..2usize {
                let column = left / 4 + unit_column + j * unit_columns;
                if row < n && column < column_vectors {
                    let at = row * column_vectors + column;
                    let sum = sums[comptime!(2 * (4 * i + r) + j)];
                    y[CUBE_POS_Z as usize * n * column_vectors + at] =
                        apply(sum, addend, at, column, variant.epilogue);
                }
            }
        }
    }
}

/// The sums of the parts of a product.
///
/// # Shapes
/// - `sums`: `[parts, n, d_output]`
/// - `addend`, `y`: as of [`linear`]
#[cube(launch)]
pub(crate) fn combine(
    sums: &Array<F4>,
    addend: &Array<F4>,
    y: &mut Array<F4>,
    len: u32,
    column_vectors: u32,
    #[comptime] parts: u32,
    #[comptime] epilogue: Epilogue,
) {
    let at =
        (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize * CUBE_DIM as usize + UNIT_POS as usize;
    let len = len as usize;
    if at < len {
        let mut sum = sums[at];
        #[unroll]
        for part in 1..parts {
            sum += sums[part as usize * len + at];
        }
        y[at] = apply(sum, addend, at, at % column_vectors as usize, epilogue);
    }
}

#[cube]
fn apply(
    sum: F4,
    addend: &Array<F4>,
    at: usize,
    column: usize,
    #[comptime] epilogue: Epilogue,
) -> F4 {
    match comptime!(epilogue) {
        Epilogue::None => sum,
        Epilogue::Gelu => {
            sum * F4::new(0.5)
                * (Erf::erf(sum * F4::new(core::f32::consts::FRAC_1_SQRT_2)) + F4::new(1.0))
        }
        Epilogue::Add => addend[at] + sum,
        Epilogue::Bias => addend[column] + sum,
    }
}

#[cube]
fn load_x(
    x: &Array<F4>,
    row: usize,
    n: usize,
    column: usize,
    row_vectors: usize,
    is_column: bool,
) -> F4 {
    let mut value = F4::new(0.0);
    if row < n && is_column {
        value = x[row * row_vectors + column];
    }
    value
}

/// Four values as shared memory holds them. What f16 can't reach becomes its end, not infinity.
#[cube]
fn staged<S: Float>(values: F4, #[comptime] halves: bool) -> Vector<S, Const<4>> {
    if comptime!(halves) {
        Vector::cast_from(narrowed(values))
    } else {
        Vector::cast_from(values)
    }
}

/// The weights of a vector of words, as floats.
#[cube]
fn unpack<W: Size>(
    word: Vector<u32, W>,
    scale: f32,
    bias: f32,
    out: &mut Array<f32>,
    #[comptime] first: usize,
    #[comptime] bits: u32,
) {
    if comptime!(bits == 32) {
        #[unroll]
        for c in 0..4usize {
            out[first + c] = f32::reinterpret(word[c]);
        }
    } else if comptime!(bits == 16) {
        #[unroll]
        for c in 0..2usize {
            out[first + 2 * c] = float_of_half(word[c] & 0xffff);
            out[first + 2 * c + 1] = float_of_half(word[c] >> 16);
        }
    } else {
        #[unroll]
        for c in 0..comptime!(32 / bits as usize) {
            let shift = comptime!(c as u32 * bits);
            let code = (word[0] >> shift) & comptime!((1u32 << bits) - 1);
            out[first + c] = scale * f32::cast_from(code) + bias;
        }
    }
}

#[cube]
pub(super) fn four_of(a: f32, b: f32, c: f32, d: f32) -> F4 {
    let mut four = F4::new(a);
    four[1] = b;
    four[2] = c;
    four[3] = d;
    four
}

/// Where a tile keeps four rows of a column: column after column, the fours of each in another order, so
/// that neighbours which write the columns of a row meet different banks of the memory.
#[cube]
pub(super) fn place_of(column: usize, four: usize, #[comptime] fours: usize) -> usize {
    column * fours + (four ^ ((column / 4) % comptime!(if fours < 8 { fours } else { 8 })))
}
