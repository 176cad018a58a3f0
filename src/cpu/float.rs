//! `y = x Wᵀ` with `W` in f32, laid out once as the loops read it.

use pulp::{Simd, WithSimd};

use super::epilogue::Epilogue;
use super::lanes::{dispatch, mul_add};
use crate::error::{Error, Result};
use crate::memory;

/// Rows of `W` in a panel: one vector of AVX-512, two of AVX2, four of NEON or wasm.
pub const PANEL: usize = 16;

/// Columns of `W` that meet all rows of `x` before the next ones do: 32 KiB of a panel, which stay in
/// the first or second cache.
const DEPTH: usize = 512;

/// One column of a panel, or a sum for each of its rows.
pub type Column = [f32; PANEL];

/// A matrix in panels of [`PANEL`] rows, each column after column. Rows past the last are zero.
#[derive(Clone, Debug)]
pub struct FloatMatrix {
    /// `[ceil(d_output / PANEL), d_input]`
    columns: Vec<Column>,
    d_output: usize,
    d_input: usize,
}

impl FloatMatrix {
    /// A matrix of zeros.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if it does not fit in memory, [`ErrorKind::Format`](crate::ErrorKind::Format) if it has no
    /// values.
    pub fn zeros(d_output: usize, d_input: usize) -> Result<Self> {
        if d_output == 0 || d_input == 0 {
            return Err(Error::format("is a matrix without values"));
        }
        let len = d_output.div_ceil(PANEL).checked_mul(d_input);
        let mut columns: Vec<Column> = memory::with_capacity(len)?;
        columns.resize(len.unwrap_or_default(), Column::default());
        Ok(Self {
            columns,
            d_output,
            d_input,
        })
    }

    /// `[d_output, d_input]`
    pub const fn dims(&self) -> [usize; 2] {
        [self.d_output, self.d_input]
    }

    /// Puts a row in its place.
    ///
    /// - `values`: as many as the matrix has columns; a row past the last is dropped
    pub fn set_row(&mut self, row: usize, values: &[f32]) {
        let panel = self.columns.chunks_exact_mut(self.d_input).nth(row / PANEL);
        for (column, value) in panel.unwrap_or_default().iter_mut().zip(values) {
            column[row % PANEL] = *value;
        }
    }

    /// `y = epilogue(x Wᵀ)`
    ///
    /// # Shapes
    /// - `x`: `[n, d_input]`
    /// - `y`: `[n, d_output]`, overwritten but for [`Epilogue::Add`]
    pub fn product(&self, x: &[f32], y: &mut [f32], epilogue: Epilogue<'_>) {
        dispatch(Product {
            w: self,
            x,
            y,
            epilogue,
        });
    }
}

struct Product<'a> {
    w: &'a FloatMatrix,
    x: &'a [f32],
    y: &'a mut [f32],
    epilogue: Epilogue<'a>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Product { w, x, y, epilogue } = self;
        let rows_at_once = rows::<S>();
        let mut sums = Sums::default();
        let [d_output, d_input] = w.dims();
        for start in (0..d_input).step_by(DEPTH) {
            let depth = start..(start + DEPTH).min(d_input);
            let is_last = depth.end == d_input;
            for (p, panel) in w.columns.chunks_exact(d_input).enumerate() {
                let panel = panel.get(depth.clone()).unwrap_or_default();
                let outputs = p * PANEL..((p + 1) * PANEL).min(d_output);
                let rows = x
                    .chunks(rows_at_once * d_input)
                    .zip(y.chunks_mut(rows_at_once * d_output));
                for (x, y) in rows {
                    let x = x.get(start..).unwrap_or_default();
                    tile(simd, x, d_input, panel, &mut sums);
                    for (sums, y) in sums.iter_mut().zip(y.chunks_exact_mut(d_output)) {
                        let y = y.get_mut(outputs.clone()).unwrap_or_default();
                        if start > 0 || epilogue == Epilogue::Add {
                            for (sum, y) in sums.iter_mut().zip(&*y) {
                                *sum += y;
                            }
                        }
                        if is_last {
                            epilogue.apply(simd, sums, outputs.start);
                        }
                        // Of known length but in the last panel.
                        match <&mut Column>::try_from(&mut *y) {
                            Ok(y) => *y = *sums,
                            Err(_) => {
                                for (y, sum) in y.iter_mut().zip(sums) {
                                    *y = *sum;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The most rows of `x` that meet a panel at once.
pub const MOST_ROWS: usize = 12;

/// Rows of `x` that a [`tile`] takes with these vectors: their sums and what is multiplied fit in the
/// registers.
#[inline(always)]
pub const fn rows<S: Simd>() -> usize {
    match S::F32_LANES {
        // 32 registers.
        16 => 12,
        // 16, of which 12 hold sums.
        8 => 6,
        // NEON has 32; wasm runs on machines of 16.
        4 if cfg!(target_arch = "aarch64") => 6,
        _ => 2,
    }
}

/// The sums of a [`tile`], which the caller keeps: they are many to be handed over.
pub type Sums = [Column; MOST_ROWS];

/// Up to [`rows`] rows of `x` times a panel: a sum for each and each row of the panel.
///
/// - `x`: rows that start `stride` apart, each at least as long as the panel; where there are fewer
///   than [`rows`] the last sums are of no meaning
/// - `sums`: the first [`rows`] are overwritten
#[inline(always)]
pub fn tile<S: Simd>(simd: S, x: &[f32], stride: usize, panel: &[Column], sums: &mut Sums) {
    match S::F32_LANES {
        16 => sums_of::<S, 1, 12>(simd, x, stride, panel, sums),
        8 => sums_of::<S, 2, 6>(simd, x, stride, panel, sums),
        4 if cfg!(target_arch = "aarch64") => sums_of::<S, 4, 6>(simd, x, stride, panel, sums),
        4 => sums_of::<S, 4, 2>(simd, x, stride, panel, sums),
        _ => sums_of::<S, PANEL, 2>(simd, x, stride, panel, sums),
    }
}

/// `M` rows of `x` times a panel of `V` vectors.
#[inline(always)]
fn sums_of<S: Simd, const V: usize, const M: usize>(
    simd: S,
    x: &[f32],
    stride: usize,
    panel: &[Column],
    out: &mut Sums,
) {
    let first = x.get(..panel.len()).unwrap_or_default();
    // Rows past the last repeat the first.
    let x: [&[f32]; M] =
        std::array::from_fn(|m| x.get(m * stride..m * stride + panel.len()).unwrap_or(first));
    if x.iter().any(|x| x.len() != panel.len()) {
        return;
    }
    let mut sums = [[simd.splat_f32s(0.0); V]; M];
    for (k, column) in panel.iter().enumerate() {
        let column = S::as_simd_f32s(column).0;
        for m in 0..M {
            let x = simd.splat_f32s(x[m][k]);
            for v in 0..V {
                sums[m][v] = mul_add(simd, x, column[v], sums[m][v]);
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(&sums) {
        for (out, sum) in S::as_mut_simd_f32s(out).0.iter_mut().zip(sums) {
            *out = *sum;
        }
    }
}
