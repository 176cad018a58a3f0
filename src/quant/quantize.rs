//! From f32 to codes, scales and biases, as the rows arrive.

use half::f16;
use pulp::{Simd, WithSimd};

use super::matrix::QuantMatrix;
use super::packing::word_of;
use super::scheme::{Bits, Scheme, Sizes};
use super::simd::{dispatch, round_to_f16};
use crate::error::{Error, Result};
use crate::memory;

/// How scale and bias of a group are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// As MLX does it: the range of the group, moved so that zero has a code of its own, and the
    /// nearest code for each weight. Scale and bias are rounded to f16 after the codes are chosen.
    /// Source: MLX's `mx.quantize` in affine mode. For tests and comparison.
    Nearest,
    /// The best of several ranges inside the group's own, each with the scale and bias of least
    /// squares, judged by the error of the scale and bias as stored. MLX's choice is among them, so
    /// that no group comes out worse. Costs nothing when the matrix is used.
    #[default]
    Search,
}

/// The largest magnitude that is quantised: the largest f16, since a bias must hold it.
const MAX: f32 = 65504.0;

/// Quantises one matrix whose rows arrive in pieces of any length.
///
/// The f32 matrix never stands in memory: what is kept is the result and less than one group.
///
/// ```
/// use aim_web::quant::{Method, Quantizer, Scheme};
///
/// # fn example() -> aim_web::Result<()> {
/// let mut quantizer = Quantizer::new(2, 64, Scheme::Q4, Method::default())?;
/// for piece in [[0.5; 100].as_slice(), &[-0.5; 28]] {
///     quantizer.push(piece)?;
/// }
/// let matrix = quantizer.finish()?;
/// assert_eq!(matrix.codes().len(), 2 * 64 / 8);
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
#[derive(Debug)]
pub struct Quantizer {
    d_output: usize,
    d_input: usize,
    scheme: Scheme,
    sizes: Sizes,
    method: Method,
    codes: Vec<u32>,
    scales: Vec<f16>,
    biases: Vec<f16>,
    /// The start of a group whose end has not arrived.
    partial: Vec<f32>,
}

impl Quantizer {
    /// For a matrix `[d_output, d_input]`.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the scheme does not fit
    ///   `d_input`: see [`Scheme::fits`];
    /// - [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if there is no room for the
    ///   result.
    pub fn new(d_output: usize, d_input: usize, scheme: Scheme, method: Method) -> Result<Self> {
        let sizes = scheme.sizes(d_output, d_input)?;
        Ok(Self {
            d_output,
            d_input,
            scheme,
            sizes,
            method,
            codes: memory::with_capacity(Some(sizes.words))?,
            scales: memory::with_capacity(Some(sizes.groups))?,
            biases: memory::with_capacity(Some(sizes.groups))?,
            partial: Vec::with_capacity(scheme.group_size()),
        })
    }

    /// Takes the next weights, row after row. The cuts between pieces change nothing in the result.
    ///
    /// # Errors
    /// After an error the quantiser is of no more use.
    /// - [`ErrorKind::Format`](crate::ErrorKind::Format) if a weight is infinite or not a number;
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if its magnitude is over 65504,
    ///   the largest that an f16 bias can hold;
    /// - [`ErrorKind::Option`](crate::ErrorKind::Option) if there are more than
    ///   `d_output * d_input` weights.
    pub fn push(&mut self, mut weights: &[f32]) -> Result<()> {
        let group = self.scheme.group_size();
        // In range: the sizes have been checked.
        let missing = (self.sizes.groups - self.scales.len()) * group - self.partial.len();
        if weights.len() > missing {
            return Err(Error::option(format!(
                "{} weights more than a matrix of {} x {} has",
                weights.len() - missing,
                self.d_output,
                self.d_input
            )));
        }
        if !self.partial.is_empty() {
            let (end, rest) = weights.split_at(weights.len().min(group - self.partial.len()));
            self.partial.extend_from_slice(end);
            weights = rest;
            if self.partial.len() < group {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.partial);
            self.groups(&whole)?;
            self.partial = whole;
            self.partial.clear();
        }
        let (whole, rest) = weights.split_at(weights.len() - weights.len() % group);
        self.groups(whole)?;
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// The matrix, once all weights have arrived.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if weights are missing.
    pub fn finish(self) -> Result<QuantMatrix> {
        if self.scales.len() != self.sizes.groups {
            return Err(Error::format(format!(
                "{} weights of {} x {} are there",
                self.scales.len() * self.scheme.group_size() + self.partial.len(),
                self.d_output,
                self.d_input
            )));
        }
        QuantMatrix::new(
            self.d_output,
            self.d_input,
            self.scheme,
            self.codes,
            self.scales,
            self.biases,
        )
    }

    /// Quantises whole groups.
    fn groups(&mut self, weights: &[f32]) -> Result<()> {
        let first = self.scales.len();
        let done = match (self.scheme.bits(), self.method) {
            (Bits::Four, Method::Nearest) => dispatch(Groups::<Nearest<4>> {
                into: self,
                weights,
                how: Nearest,
            }),
            (Bits::Eight, Method::Nearest) => dispatch(Groups::<Nearest<8>> {
                into: self,
                weights,
                how: Nearest,
            }),
            (Bits::Four, Method::Search) => dispatch(Groups {
                into: self,
                weights,
                how: Search4::new(),
            }),
            (Bits::Eight, Method::Search) => dispatch(Groups {
                into: self,
                weights,
                how: Search8,
            }),
        };
        done.map_err(|Refused { group, column }| {
            // In range: the place of a weight of a matrix whose size has been checked.
            let at = group * self.scheme.group_size() + column;
            let value = weights.get(at).copied().unwrap_or(f32::NAN);
            let at = first * self.scheme.group_size() + at;
            let place = format!("row {}, column {}", at / self.d_input, at % self.d_input);
            if value.is_finite() {
                Error::unsupported(format!(
                    "the weight {value:e} at {place} is over the range of float16"
                ))
            } else {
                Error::format(format!(
                    "the weight at {place} is {value}, not a finite number"
                ))
            }
        })
    }
}

/// A weight that can't be quantised.
struct Refused {
    /// The group, of those at hand.
    group: usize,
    /// Its place in the group.
    column: usize,
}

/// `w = scale * code + bias`
#[derive(Clone, Copy)]
struct Affine {
    scale: f32,
    bias: f32,
}

impl Affine {
    /// As f16 will hold it: scale, bias, and the weights of all codes, which others widen to f16. Of what is stored, the same.
    #[inline(always)]
    const fn stored(self, max_code: f32) -> Self {
        let bias = round_to_f16(self.bias.clamp(-MAX, MAX));
        // How far the largest code may go from the bias.
        let least = (-MAX - bias) / max_code;
        let most = (MAX - bias) / max_code;
        let scale = if self.scale < least {
            least
        } else if self.scale > most {
            most
        } else {
            self.scale
        };
        let rounded = round_to_f16(scale);
        let scale = if rounded < least || rounded > most {
            // The next f16 towards 0. It is no subnormal one: a bias is an end of the range, or 32 or more from it.
            f32::from_bits(rounded.to_bits() - (1 << 13))
        } else {
            rounded
        };
        Self { scale, bias }
    }
}

/// A way to choose scale, bias and codes of a group.
trait Choose {
    /// As the scheme has it.
    const BITS: Bits;
    /// The largest code.
    const MAX_CODE: f32 = Self::BITS.max_code() as f32;

    /// The scale and bias to choose the codes by. They are rounded to be stored.
    ///
    /// All weights are finite and at most [`MAX`].
    fn choose<S: Simd>(&self, simd: S, weights: &[f32], min: f32, max: f32) -> Affine;
}

/// Whole groups, all with one instruction set.
struct Groups<'a, C> {
    into: &'a mut Quantizer,
    weights: &'a [f32],
    how: C,
}

impl<C: Choose> WithSimd for Groups<'_, C> {
    type Output = Result<(), Refused>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<(), Refused> {
        let into = self.into;
        let mut codes = [0; Scheme::MAX_GROUP];
        for (at, group) in self
            .weights
            .chunks_exact(into.scheme.group_size())
            .enumerate()
        {
            let Range { min, max, largest } = Range::of(group);
            if largest > MAX.to_bits() {
                let column = group.iter().position(|w| w.abs().to_bits() > MAX.to_bits());
                return Err(Refused {
                    group: at,
                    column: column.unwrap_or(0),
                });
            }
            let by = self.how.choose(simd, group, min, max);
            let stored = by.stored(C::MAX_CODE);
            into.scales.push(f16::from_f32(stored.scale));
            into.biases.push(f16::from_f32(stored.bias));

            // Divided as in MLX, which decides ties. A group without range has code 0 throughout.
            let divisor = if by.scale == 0.0 {
                f32::INFINITY
            } else {
                by.scale
            };
            for (code, w) in codes.iter_mut().zip(group) {
                let raised = code_of((w - by.bias) / divisor, C::MAX_CODE);
                *code = raised.to_bits() & C::BITS.max_code();
            }
            let codes = codes.get(..group.len()).unwrap_or(&codes);
            into.codes.extend(
                codes
                    .chunks_exact(C::BITS.codes_per_word())
                    .map(|codes| word_of(C::BITS, codes.iter().copied())),
            );
        }
        Ok(())
    }
}

/// What a group spans.
struct Range {
    min: f32,
    max: f32,
    /// The largest magnitude, as its bits: those of infinity and NaN are larger than a number's.
    largest: u32,
}

impl Range {
    #[inline(always)]
    fn of(group: &[f32]) -> Self {
        let mut min = [f32::INFINITY; 8];
        let mut max = [f32::NEG_INFINITY; 8];
        let mut largest = [0; 8];
        for weights in group.as_chunks::<8>().0 {
            for l in 0..8 {
                let w = weights[l];
                min[l] = if w < min[l] { w } else { min[l] };
                max[l] = if w > max[l] { w } else { max[l] };
                largest[l] = largest[l].max(w.to_bits() & 0x7fff_ffff);
            }
        }
        Self {
            min: min
                .into_iter()
                .fold(f32::INFINITY, |a, b| if b < a { b } else { a }),
            max: max
                .into_iter()
                .fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a }),
            largest: largest.into_iter().fold(0, u32::max),
        }
    }
}

/// Added to a number of magnitude up to 2^22 it leaves the nearest whole number, ties to even, in
/// the low bits of the sum.
const TWO_23: f32 = 8_388_608.0;

/// The code of a weight at `u` code units, plus 2^23.
#[inline(always)]
const fn code_of(u: f32, max_code: f32) -> f32 {
    let u = if u > 0.0 { u } else { 0.0 };
    let u = if u < max_code { u } else { max_code };
    u + TWO_23
}

/// `1 / scale`, and 0 where that may be infinite: a group without range has code 0 throughout.
#[inline(always)]
const fn inverse(scale: f32) -> f32 {
    if scale.abs() < f32::MIN_POSITIVE {
        0.0
    } else {
        1.0 / scale
    }
}

/// Scale and bias as MLX computes them in f32.
#[inline(always)]
const fn mlx(min: f32, max: f32, max_code: f32) -> Affine {
    let by_min = min.abs() > max.abs();
    let range = (max - min) / max_code;
    let range = if range > 1e-7 { range } else { 1e-7 };
    let (scale, edge) = if by_min { (range, min) } else { (-range, max) };
    // The code of zero; `edge / scale` is not positive. Over 2^23 there are no fractions.
    let zero = -(edge / scale);
    let zero = if zero < TWO_23 {
        (zero + TWO_23) - TWO_23
    } else {
        zero
    };
    if zero == 0.0 {
        Affine { scale, bias: 0.0 }
    } else {
        Affine {
            scale: edge / -zero,
            bias: edge,
        }
    }
}

/// [`Method::Nearest`] with codes of `B` bits.
struct Nearest<const B: usize>;

impl<const B: usize> Choose for Nearest<B> {
    const BITS: Bits = if B == 4 { Bits::Four } else { Bits::Eight };

    #[inline(always)]
    fn choose<S: Simd>(&self, _: S, _: &[f32], min: f32, max: f32) -> Affine {
        mlx(min, max, Self::MAX_CODE)
    }
}

/// Candidates that are compared at once. One candidate a lane: the sums over a group then need no
/// sum across lanes, and their order, and with it the result, is the same on every platform.
type Lanes = [f32; 16];

/// [`code_of`], a lane each, as a float.
#[inline(always)]
fn round_codes<S: Simd>(simd: S, u: S::f32s, max_code: S::f32s) -> S::f32s {
    let two_23 = simd.splat_f32s(TWO_23);
    let u = simd.min_f32s(simd.max_f32s(u, simd.splat_f32s(0.0)), max_code);
    simd.sub_f32s(simd.add_f32s(u, two_23), two_23)
}

/// The squared error of a group for each candidate as stored, with the best codes for it.
#[inline(always)]
fn errors<S: Simd>(
    simd: S,
    weights: &[f32],
    scales: &Lanes,
    biases: &Lanes,
    max_code: f32,
) -> Lanes {
    // Vectors are taken in pairs.
    const { assert!(S::F32_LANES <= 8) };
    let inverses = scales.map(inverse);
    let mut sums = Lanes::default();
    let max_code = simd.splat_f32s(max_code);
    let pairs = S::as_mut_simd_f32s(&mut sums).0.chunks_exact_mut(2);
    let scales = S::as_simd_f32s(scales).0.chunks_exact(2);
    let biases = S::as_simd_f32s(biases).0.chunks_exact(2);
    let inverses = S::as_simd_f32s(&inverses).0.chunks_exact(2);
    for (((sums, scales), biases), inverses) in pairs.zip(scales).zip(biases).zip(inverses) {
        let mut sum = [simd.splat_f32s(0.0); 2];
        for &w in weights {
            let w = simd.splat_f32s(w);
            for i in 0..2 {
                let v = simd.sub_f32s(w, biases[i]);
                let q = round_codes(simd, simd.mul_f32s(v, inverses[i]), max_code);
                // Not fused: a fused one gives other results where there is none.
                let error = simd.sub_f32s(v, simd.mul_f32s(scales[i], q));
                sum[i] = simd.add_f32s(sum[i], simd.mul_f32s(error, error));
            }
        }
        sums.copy_from_slice(&sum);
    }
    sums
}

/// Sums over a group for each candidate range, for least squares.
#[derive(Default)]
struct Sums {
    /// Of the codes.
    q: Lanes,
    /// Of their squares.
    qq: Lanes,
    /// Of their products with the weights.
    qt: Lanes,
}

/// [`Sums`] of weights `ts` for ranges from `low` with `factor` codes to a unit of `ts`.
#[inline(always)]
fn sums<S: Simd>(simd: S, ts: &[f32], low: &Lanes, factor: &Lanes, max_code: f32) -> Sums {
    let mut sums = Sums::default();
    let max_code = simd.splat_f32s(max_code);
    let q = S::as_mut_simd_f32s(&mut sums.q).0.chunks_exact_mut(2);
    let qq = S::as_mut_simd_f32s(&mut sums.qq).0.chunks_exact_mut(2);
    let qt = S::as_mut_simd_f32s(&mut sums.qt).0.chunks_exact_mut(2);
    let low = S::as_simd_f32s(low).0.chunks_exact(2);
    let factor = S::as_simd_f32s(factor).0.chunks_exact(2);
    for ((((out_q, out_qq), out_qt), low), factor) in q.zip(qq).zip(qt).zip(low).zip(factor) {
        let zero = simd.splat_f32s(0.0);
        let (mut q, mut qq, mut qt) = ([zero; 2], [zero; 2], [zero; 2]);
        for &t in ts {
            let t = simd.splat_f32s(t);
            for i in 0..2 {
                let code = round_codes(
                    simd,
                    simd.mul_f32s(simd.sub_f32s(t, low[i]), factor[i]),
                    max_code,
                );
                q[i] = simd.add_f32s(q[i], code);
                qq[i] = simd.add_f32s(qq[i], simd.mul_f32s(code, code));
                qt[i] = simd.add_f32s(qt[i], simd.mul_f32s(code, t));
            }
        }
        out_q.copy_from_slice(&q);
        out_qq.copy_from_slice(&qq);
        out_qt.copy_from_slice(&qt);
    }
    sums
}

/// The lane of the smallest value; NaNs are passed over.
#[inline(always)]
fn smallest(values: &Lanes) -> (usize, f32) {
    let mut best = (0, f32::INFINITY);
    for (lane, &value) in values.iter().enumerate() {
        best = if value < best.1 { (lane, value) } else { best };
    }
    best
}

/// [`Method::Search`] at 4 bits: ranges shrunken at either end, compared by what least squares
/// leaves of each; then the neighbourhood of the best as stored.
struct Search4 {
    /// The low end of each range, in code units above the minimum.
    low: Lanes,
    /// Codes in a code unit.
    factor: Lanes,
}

impl Search4 {
    /// How far an end of the range moves in, in code units.
    const SHRINK: [f32; 4] = [0.0, 0.45, 0.9, 1.4];

    /// Scales about the one of least squares, which knows nothing of the new codes nor of f16.
    const NEAR: Lanes = [
        1.0, 0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 1.01, 1.02, 1.03, 0.93, 1.04, 0.92, 0.91, 0.90,
        1.0,
    ];

    fn new() -> Self {
        let mut new = Self {
            low: Lanes::default(),
            factor: Lanes::default(),
        };
        let ends = Self::SHRINK
            .iter()
            .flat_map(|low| Self::SHRINK.map(|high| (low, high)));
        for ((to_low, factor), (low, high)) in new.low.iter_mut().zip(&mut new.factor).zip(ends) {
            *to_low = *low;
            *factor = Self::MAX_CODE / (Self::MAX_CODE - low - high);
        }
        new
    }
}

impl Choose for Search4 {
    const BITS: Bits = Bits::Four;

    #[inline(always)]
    fn choose<S: Simd>(&self, simd: S, weights: &[f32], min: f32, max: f32) -> Affine {
        let unit = (max - min) / Self::MAX_CODE;
        let per_unit = inverse(unit);
        let mut ts = [0.0; Scheme::MAX_GROUP];
        let ts = ts.get_mut(..weights.len()).unwrap_or_default();
        for (t, w) in ts.iter_mut().zip(weights) {
            *t = (w - min) * per_unit;
        }
        let count = weights.len() as f32;
        let sum_t = ts.iter().sum::<f32>();
        let Sums { q, qq, qt } = sums(simd, ts, &self.low, &self.factor, Self::MAX_CODE);
        let mut unexplained = Lanes::default();
        let mut slopes = Lanes::default();
        for l in 0..16 {
            let covariance = qt[l] - q[l] * sum_t / count;
            let variance = qq[l] - q[l] * q[l] / count;
            slopes[l] = covariance / variance;
            unexplained[l] = -covariance * slopes[l];
        }
        // Without range there are NaNs, which `smallest` passes over: lane 0 then, and a scale that
        // is set to 0 below.
        let (lane, _) = smallest(&unexplained);
        let slope = if slopes[lane].is_finite() {
            slopes[lane]
        } else {
            0.0
        };
        let half = 0.5 * Self::MAX_CODE;
        let middle = min + unit * ((sum_t - slope * q[lane]) / count + slope * half);

        let mut scales = Lanes::default();
        let mut biases = Lanes::default();
        for l in 0..16 {
            let scale = unit * slope * Self::NEAR[l];
            Affine {
                scale: scales[l],
                bias: biases[l],
            } = Affine {
                scale,
                bias: middle - scale * half,
            }
            .stored(Self::MAX_CODE);
        }
        let plain = mlx(min, max, Self::MAX_CODE).stored(Self::MAX_CODE);
        (scales[15], biases[15]) = (plain.scale, plain.bias);
        let (lane, _) = smallest(&errors(simd, weights, &scales, &biases, Self::MAX_CODE));
        Affine {
            scale: scales[lane],
            bias: biases[lane],
        }
    }
}

/// [`Method::Search`] at 8 bits: either end of the range moved by up to half a code unit. That is
/// enough for the rounding of each weight to fall anew, and the best of them is kept.
///
/// As far out as in: were the largest weights always cut, every product would come out too small, and
/// such errors add up from block to block where others cancel.
struct Search8;

impl Search8 {
    /// How far an end of the range moves in, in code units.
    const SHRINK: [f32; 4] = [-0.45, -0.15, 0.15, 0.45];
}

impl Choose for Search8 {
    const BITS: Bits = Bits::Eight;

    #[inline(always)]
    fn choose<S: Simd>(&self, simd: S, weights: &[f32], min: f32, max: f32) -> Affine {
        let unit = (max - min) / Self::MAX_CODE;
        let mut scales = Lanes::default();
        let mut biases = Lanes::default();
        for l in 0..16 {
            let low = round_to_f16((min + Self::SHRINK[l / 4] * unit).clamp(-MAX, MAX));
            let high = max - Self::SHRINK[l % 4] * unit;
            Affine {
                scale: scales[l],
                bias: biases[l],
            } = Affine {
                scale: (high - low) / Self::MAX_CODE,
                bias: low,
            }
            .stored(Self::MAX_CODE);
        }
        let plain = mlx(min, max, Self::MAX_CODE).stored(Self::MAX_CODE);
        (scales[15], biases[15]) = (plain.scale, plain.bias);
        let (lane, _) = smallest(&errors(simd, weights, &scales, &biases, Self::MAX_CODE));
        Affine {
            scale: scales[lane],
            bias: biases[lane],
        }
    }
}
