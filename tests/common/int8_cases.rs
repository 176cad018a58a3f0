//! Products in integers: the same checks natively and in a browser.

use aim_web::quant::int8::{Activations, IntMatrix, Kernel, Write};
use aim_web::quant::{Bits, Method, QuantMatrix, Quantizer, Scheme, dequantize};

/// About normal, of variance 1/3.
pub fn values(len: usize, mut seed: u64) -> Vec<f32> {
    let mut uniform = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1 << 24) as f32
    };
    (0..len)
        .map(|_| uniform() + uniform() + uniform() + uniform() - 2.0)
        .collect()
}

pub fn matrix(d_output: usize, d_input: usize, scheme: Scheme, seed: u64) -> QuantMatrix {
    let mut quantizer = Quantizer::new(d_output, d_input, scheme, Method::Nearest).unwrap();
    quantizer.push(&values(d_output * d_input, seed)).unwrap();
    quantizer.finish().unwrap()
}

/// Those that this machine has.
pub fn kernels(bits: Bits) -> impl Iterator<Item = Kernel> {
    Kernel::ALL
        .into_iter()
        .filter(move |kernel| kernel.is_available(bits))
}

/// `y = x Wᵀ`, all of it, by a kernel.
pub fn product(kernel: Kernel, w: &QuantMatrix, x: &[f32]) -> Vec<f32> {
    let (d_input, d_output) = (w.d_input(), w.d_output());
    let w = IntMatrix::for_kernel(w.clone(), kernel).unwrap();
    let n = x.len() / d_input;
    let mut activations = Activations::new();
    activations.prepare(n, &w).unwrap();
    let mut rows = activations.rows_mut();
    for (row, x) in x.chunks(d_input).enumerate() {
        rows.quantize(row, x).unwrap();
    }
    // What stood there must not matter.
    let mut y = vec![f32::NAN; n * d_output];
    w.product(
        activations.rows(),
        0..d_output,
        &mut y,
        d_output,
        Write::Over,
    )
    .unwrap();
    y
}

/// A product to check.
pub struct Case {
    /// `[d_output, d_input]`
    pub w: QuantMatrix,
    /// `[n, d_input]`
    pub x: Vec<f32>,
}

impl Case {
    /// Lengths at and beside those of tiles, and parts of a long row; one row of `x`, and every rest of a tile.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            [1, 128, 3],
            [15, 128, 1],
            [16, 384, 12],
            [17, 640, 4],
            [50, 512, 5],
            [33, 1536, 7],
            [31, 6144, 2],
            [64, 1152, 6],
            [5, 2304, 50],
            [3, 32, 1],
            [7, 96, 13],
            [1, 128, 4096],
        ]
        .into_iter()
        .flat_map(|shape| [4, 8].map(|bits| (shape, bits)))
        .flat_map(|it| [32, 64, 128].map(|group| (it, group)))
        .filter_map(|(([d_output, d_input, n], bits), group)| {
            let scheme = Scheme::new(bits, group).unwrap();
            scheme.fits(d_input).then(|| {
                let mut x = values(n * d_input, 2);
                // One row of zeros, one that does not vary, one at the ends of the range; large and small ones.
                let rows = x.chunks_mut(d_input);
                for (row, x) in rows.enumerate().skip(1) {
                    match row % 16 {
                        1 => x.fill(0.0),
                        3 => x.fill(-0.7),
                        5 => (0..).zip(x).for_each(|(i, x)| *x = [3.0, -3.0][i % 2]),
                        7 => x.iter_mut().for_each(|x| *x *= 1e30),
                        9 => x.iter_mut().for_each(|x| *x *= 1e-36),
                        11 => x.iter_mut().for_each(|x| *x = x.max(-0.17) + 50.0),
                        _ => {}
                    }
                }
                Self {
                    w: matrix(d_output, d_input, scheme, 1),
                    x,
                }
            })
        })
    }
}

/// Whether a kernel rounds activations to 16 bits, else it does to 8.
pub fn is_16_bit(kernel: Kernel, bits: Bits) -> bool {
    kernel == Kernel::Simd128 || (kernel, bits) == (Kernel::Avx2, Bits::Eight)
}

/// Holds the product of every kernel against f64: no further off than the rounding of activations explains, and right
/// where there is none.
pub fn check(case: &Case) {
    let bits = case.w.scheme().bits();
    for kernel in kernels(bits) {
        let limit = if is_16_bit(kernel, bits) {
            32_767.0
        } else {
            127.0
        };
        check_kernel(kernel, &case.w, &case.x, limit);
        let whole = whole_numbers(&case.x, case.w.scheme().group_size(), limit as f32);
        check_kernel(kernel, &case.w, &whole, f64::INFINITY);
    }
}

/// Whole numbers up to `limit`, whose rounding changes nothing, since each group has both ends of the range.
fn whole_numbers(x: &[f32], group_size: usize, limit: f32) -> Vec<f32> {
    let mut x = x.to_vec();
    for x in x.chunks_mut(group_size) {
        let largest = x.iter().fold(f32::MIN_POSITIVE, |a, x| a.max(x.abs()));
        x.iter_mut()
            .for_each(|x| *x = (*x / largest * limit).round());
        (x[0], x[group_size - 1]) = (limit, -limit);
    }
    x
}

/// - `limit`: into how many steps the rounding divides the reach of a group
fn check_kernel(kernel: Kernel, w: &QuantMatrix, x: &[f32], limit: f64) {
    let (d_output, d_input, scheme) = (w.d_output(), w.d_input(), w.scheme());
    let group_size = scheme.group_size();
    let floats = dequantize::matrix(w).unwrap();
    let y = product(kernel, w, x);
    for ((row, x), y) in x.chunks(d_input).enumerate().zip(y.chunks(d_output)) {
        let (min, max) = x
            .iter()
            .fold((0f32, 0f32), |(min, max), x| (min.min(*x), max.max(*x)));
        // Of a group about the centre of the row.
        let step = (f64::from(max) - f64::from(min)) / limit;
        let largest = f64::from(max.max(-min));
        for ((o, w_row), y) in floats.chunks(d_input).enumerate().zip(y) {
            let (mut want, mut weights) = (0.0, 0.0);
            for (x, w) in x.iter().zip(w_row) {
                want += f64::from(*x) * f64::from(*w);
                weights += f64::from(w.abs());
            }
            // What is added up in f32: codes and biases, which may nearly cancel.
            let groups = d_input / group_size;
            let of_row = o * groups..(o + 1) * groups;
            let terms: f64 = w.scales()[of_row.clone()]
                .iter()
                .zip(&w.biases()[of_row])
                .map(|(scale, bias)| {
                    scale.to_f64().abs() * f64::from(scheme.bits().max_code()) + bias.to_f64().abs()
                })
                .sum();
            let slack = 5e-7 * largest * terms * group_size as f64;
            let tolerance = 0.501 * step * weights + slack + 1e-30 * weights;
            assert!(
                (f64::from(*y) - want).abs() <= tolerance,
                "{kernel:?}, {d_output} x {d_input}, {scheme:?}, row {row}, output {o}: {y}, not {want} to {tolerance}"
            );
        }
    }
}
